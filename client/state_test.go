package client_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/client"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestStateFiles(t *testing.T) {
	r := newRig(t)
	cfg := r.config(t)
	if _, err := client.Open(cfg); !errors.Is(err, opencmg.NotFound) || !strings.Contains(err.Error(), "client install") {
		t.Errorf("open without installation: %v", err)
	}
	create(t, cfg, tokenWords)
	if runtime.GOOS != "windows" {
		for _, f := range []string{"state.json", "identity.pem"} {
			st, err := os.Stat(filepath.Join(cfg.StateDir, f))
			if err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v; want 0600", f, st.Mode(), err)
			}
		}
		if st, _ := os.Stat(cfg.StateDir); st.Mode().Perm() != 0o700 {
			t.Errorf("directory has mode %v", st.Mode())
		}
	}
}

func TestDamagedState(t *testing.T) {
	tests := map[string]struct {
		file    string
		content func(old string) string
	}{
		"empty state":       {"state.json", func(string) string { return "" }},
		"truncated state":   {"state.json", func(s string) string { return s[:len(s)/2] }},
		"two documents":     {"state.json", func(s string) string { return s + s }},
		"unknown version":   {"state.json", func(s string) string { return strings.Replace(s, `"version": 1`, `"version": 9`, 1) }},
		"bad client id":     {"state.json", func(s string) string { return strings.Replace(s, `"approval"`, `"clientId": "x", "approval"`, 1) }},
		"no way to a site":  {"state.json", func(string) string { return `{"version": 1}` }},
		"truncated key":     {"identity.pem", func(s string) string { return s[:len(s)-300] }},
		"garbage key":       {"identity.pem", func(string) string { return "garbage" }},
		"key is gone":       {"identity.pem", nil},
		"binary state file": {"state.json", func(string) string { return "\x00\x01\x02" }},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			cfg := r.config(t)
			create(t, cfg, tokenWords)
			path := filepath.Join(cfg.StateDir, tc.file)
			if tc.content == nil {
				os.Remove(path)
			} else {
				old, _ := os.ReadFile(path)
				os.WriteFile(path, []byte(tc.content(string(old))), 0o600)
			}
			damaged, _ := os.ReadFile(path)
			for what, open := range map[string]func() (*client.Client, error){
				"open":   func() (*client.Client, error) { return client.Open(cfg) },
				"create": func() (*client.Client, error) { return client.Create(cfg, words(t, tokenWords)) },
			} {
				_, err := open()
				if !errors.Is(err, opencmg.Invalid) || !strings.Contains(err.Error(), "damaged") || !strings.Contains(err.Error(), "install again") {
					t.Errorf("%s: got %v, want an error that says what to do", what, err)
				}
			}
			if now, _ := os.ReadFile(path); string(now) != string(damaged) {
				t.Error("the damaged file was replaced")
			}
		})
	}
}

func TestInstallAgain(t *testing.T) {
	r := newRig(t)
	cfg := r.config(t)
	first := create(t, cfg, tokenWords).Status()
	second := create(t, cfg, "CCMHOSTNAME=gw2.example.com/CCM_Proxy_MutualAuth/9 SMSSITECODE=LAB").Status()
	if first.Thumbprint != second.Thumbprint {
		t.Error("installing again made another key")
	}
	if second.Gateway != "gw2.example.com/CCM_Proxy_MutualAuth/9" {
		t.Errorf("gateway %s", second.Gateway)
	}
	if _, err := client.Create(cfg, words(t, strings.Replace(plainWords, "=LAB", "=XYZ", 1))); !errors.Is(err, opencmg.Conflict) {
		t.Errorf("another site: %v", err)
	}
}

func TestUnusableConfig(t *testing.T) {
	r := newRig(t)
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, []byte("x"), 0o600)
	for name, change := range map[string]func(*client.Config){
		"directory is a file": func(c *client.Config) { c.StateDir = file },
		"no directory":        func(c *client.Config) { c.StateDir = "" },
		"no CA file":          func(c *client.Config) { c.CAFile = file + "x" },
		"empty CA file":       func(c *client.Config) { c.CAFile = file },
		"PKI file":            func(c *client.Config) { c.CertFile, c.KeyFile = file, file },
	} {
		cfg := r.config(t)
		change(&cfg)
		if _, err := client.Create(cfg, words(t, tokenWords)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// crashEnv tells the test binary to be the client that is killed: its value is
// the point, a blank, and the arguments of crashClient.
const crashEnv = "OPENCMG_TEST_CRASH"

// TestKilled kills a real process at each point of an installation, and then
// installs again: the same key must get the same client ID, and all must work.
func TestKilled(t *testing.T) {
	if v := os.Getenv(crashEnv); v != "" {
		f := strings.SplitN(v, " ", 4)
		crashClient(t, f[0], f[1], f[2], f[3])
		return
	}
	for _, point := range []string{"registration sent", "registration saved", "token received", "token saved", "policies downloaded"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			addr, _ := r.serve(r.gateway(), gatewayName)
			cfg := r.config(t, to(t, gatewayName, addr))
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilled$")
			cmd.Env = append(os.Environ(), crashEnv+"="+strings.Join([]string{strings.ReplaceAll(point, " ", "_"), addr, r.caFile, cfg.StateDir}, " "))
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Success() || strings.Contains(string(out), "was not reached") {
				t.Fatalf("the process was not killed: %v\n%s", err, out)
			}
			c := create(t, cfg, tokenWords)
			if _, err := c.Install(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := len(r.clients); n != 1 {
				t.Errorf("the site knows %d clients, want 1", n)
			}
			entries, err := filepath.Glob(filepath.Join(cfg.StateDir, ".*"))
			if err != nil || len(entries) > 0 {
				t.Errorf("left behind: %v %v", entries, err)
			}
		})
	}
}

func crashClient(t *testing.T, point, addr, caFile, dir string) {
	c, err := client.Create(client.Config{StateDir: dir, CAFile: caFile, ConnectTo: []opencmg.ConnectTo{to(t, gatewayName, addr)}, Host: &client.HostFacts{NetBIOSName: "PC01"}}, words(t, tokenWords))
	if err != nil {
		t.Fatal(err)
	}
	c.SetCheckpoint(func(p string) {
		if strings.ReplaceAll(p, " ", "_") == point {
			self, _ := os.FindProcess(os.Getpid())
			self.Kill()
			select {}
		}
	})
	_, err = c.Install(t.Context())
	t.Fatalf("point %s was not reached: %v", point, err)
}
