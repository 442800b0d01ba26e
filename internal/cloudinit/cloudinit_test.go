package cloudinit_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/bootstrap"
	"github.com/opencmg/opencmg/internal/cloudinit"
	"github.com/opencmg/opencmg/internal/keyvault/keyvaulttest"
	"github.com/opencmg/opencmg/internal/outbound"
)

func machine() cloudinit.Machine {
	return cloudinit.Machine{
		ProgramSHA256: strings.Repeat("ab", 32),
		Bootstrap: bootstrap.Gateway{
			Gateway: "granitefalls", ServiceName: "GraniteFalls.example.com", Site: "LAB",
			Cloud: &bootstrap.Cloud{Vault: keyvaulttest.Vault, IdentityClientID: keyvaulttest.ClientID},
		},
	}
}

func render(t *testing.T, m cloudinit.Machine) []byte {
	t.Helper()
	b, err := cloudinit.Render(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func content(t *testing.T, files []cloudinit.File, path string) cloudinit.File {
	t.Helper()
	i := slices.IndexFunc(files, func(f cloudinit.File) bool { return f.Path == path })
	if i < 0 {
		t.Fatalf("there is no %s", path)
	}
	return files[i]
}

func TestRender(t *testing.T) {
	m := machine()
	m.Bootstrap.Outbound = outbound.Config{
		Proxy: "http://proxy.example.com:8080", CAPEM: "-----BEGIN CERTIFICATE-----\n" + strings.Repeat("x", 64) + "\n-----END CERTIFICATE-----",
		ConnectTo: []string{"a.example.com:443:[::1]:8443", "b.example.com::c.example.com:"},
	}
	if _, err := cloudinit.Render(m); !errors.Is(err, opencmg.Invalid) {
		t.Errorf("with a damaged CA: %v", err)
	}
	m.Bootstrap.Outbound.CAPEM = keyvaulttest.Start(t).CAPEM
	b := render(t, m)
	if !bytes.Equal(b, render(t, m)) {
		t.Error("the same machine gives other bytes")
	}
	if !bytes.HasPrefix(b, []byte("#cloud-config\nwrite_files:\n")) {
		t.Errorf("begins with %.60s", b)
	}
	files, err := cloudinit.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := cloudinit.Document(files)
	if err != nil {
		t.Fatal(err)
	}
	want := m.Bootstrap
	want.StateDir, want.Log.Dir = cloudinit.StateDir, cloudinit.LogDir
	if d := cmp.Diff(&want, doc, cmpopts.IgnoreUnexported(outbound.Config{})); d != "" {
		t.Errorf("document (-want +got)\n%s", d)
	}
	if got := content(t, files, cloudinit.BootstrapFile).Content; strings.Contains(got, "identityDir") || strings.Contains(got, "listen") {
		t.Errorf("the document says what is not set:\n%s", got)
	}
	curl := content(t, files, cloudinit.CurlFile).Content
	for _, line := range []string{
		`proxy = "http://proxy.example.com:8080"`, `connect-to = "a.example.com:443:[::1]:8443"`, `connect-to = "b.example.com::c.example.com:"`, `noproxy = "a.example.com,b.example.com"`,
	} {
		if !strings.Contains(curl, line+"\n") {
			t.Errorf("curl.conf has no line %s:\n%s", line, curl)
		}
	}
	unit := content(t, files, cloudinit.UnitFile)
	for _, line := range []string{
		"ExecStartPre=+/bin/sh " + cloudinit.FetchFile, "ExecStart=" + cloudinit.ProgramFile + " gateway serve --config " + cloudinit.BootstrapFile,
		"User=opencmg", "Restart=always", "AmbientCapabilities=CAP_NET_BIND_SERVICE", "StateDirectory=" + filepath.Base(cloudinit.StateDir), "LogsDirectory=" + filepath.Base(cloudinit.LogDir),
	} {
		if !strings.Contains(unit.Content, line+"\n") {
			t.Errorf("the unit has no line %s", line)
		}
	}
	if f := content(t, files, cloudinit.FetchFile); f.Mode != 0o755 || strings.Contains(f.Content, "@SHA256@") || !strings.Contains(f.Content, m.ProgramSHA256) {
		t.Errorf("fetch.sh: %v\n%s", f.Mode, f.Content)
	}

	m.Bootstrap.Outbound.ConnectOnly = true
	files, err = cloudinit.Parse(render(t, m))
	if err != nil {
		t.Fatal(err)
	}
	if curl := content(t, files, cloudinit.CurlFile).Content; !strings.Contains(curl, `connect-to = "::127.0.0.1:1"`) || strings.Contains(curl, "\nproxy") {
		t.Errorf("curl.conf with connectOnly:\n%s", curl)
	}
}

func TestRenderRefuses(t *testing.T) {
	for want, change := range map[string]func(*cloudinit.Machine){
		"cloud section":        func(m *cloudinit.Machine) { m.Bootstrap.Cloud = nil },
		"SHA-256":              func(m *cloudinit.Machine) { m.ProgramSHA256 = strings.Repeat("AB", 32) },
		"caPEM":                func(m *cloudinit.Machine) { m.Bootstrap.Outbound.CAFile = "a" },
		"proxyCredentialsFile": func(m *cloudinit.Machine) { m.Bootstrap.Outbound.ProxyCredentialsFile = "a" },
		"serviceName":          func(m *cloudinit.Machine) { m.Bootstrap.ServiceName = "" },
		"vault":                func(m *cloudinit.Machine) { m.Bootstrap.Cloud.Vault = "http://a" },
		"text file":            func(m *cloudinit.Machine) { m.Bootstrap.Gateway = "a\xffb" },
		"are more than": func(m *cloudinit.Machine) {
			m.Bootstrap.Outbound.ConnectTo = slices.Repeat([]string{"a.example.com:443:b.example.com:443"}, 900)
		},
	} {
		m := machine()
		change(&m)
		_, err := cloudinit.Render(m)
		if kind := opencmg.Invalid; err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, kind) && !errors.Is(err, opencmg.TooLarge) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for name, s := range map[string]string{
		"nothing":         "",
		"a script":        "#!/bin/sh\n",
		"too large":       "#cloud-config\n#" + strings.Repeat("a", cloudinit.MaxSize),
		"not YAML":        "#cloud-config\n[",
		"unknown key":     "#cloud-config\nusers: []\n",
		"permissions":     "#cloud-config\nwrite_files:\n- {path: /a, owner: root:root, permissions: \"rw\", content: a}\n",
		"relative":        "#cloud-config\nwrite_files:\n- {path: a, permissions: \"0644\", content: a}\n",
		"climbing":        "#cloud-config\nwrite_files:\n- {path: /a/../../b, permissions: \"0644\", content: a}\n",
		"twice":           "#cloud-config\nwrite_files:\n- {path: /a, permissions: \"0644\", content: a}\n- {path: /a, permissions: \"0644\", content: b}\n",
		"other encodings": "#cloud-config\nwrite_files:\n- {path: /a, permissions: \"0644\", encoding: b64, content: YQ==}\n",
	} {
		if files, err := cloudinit.Parse([]byte(s)); err == nil {
			t.Errorf("%s: got %v", name, files)
		}
	}
	if _, err := cloudinit.Document(nil); !errors.Is(err, opencmg.NotFound) {
		t.Errorf("no document: %v", err)
	}
	if _, err := cloudinit.Document([]cloudinit.File{{Path: cloudinit.BootstrapFile, Content: "x: y"}}); !errors.Is(err, opencmg.Invalid) {
		t.Errorf("another document: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	b, err := cloudinit.Render(machine())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("#cloud-config\n- a"))
	f.Fuzz(func(t *testing.T, b []byte) { cloudinit.Parse(b) })
}

// fetchRig runs the script of a machine's custom data in a directory of its
// own, with a curl that notes how it was called.
type fetchRig struct {
	t       *testing.T
	cloud   *keyvaulttest.Cloud
	root    string
	calls   string // file with the arguments of every program that was started
	program []byte
	env     []string
}

func newFetchRig(t *testing.T, change func(*cloudinit.Machine)) *fetchRig {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("machines run Linux")
	}
	for _, p := range []string{"sh", "curl", "sha256sum"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("needs %s: %v", p, err)
		}
	}
	r := &fetchRig{t: t, cloud: keyvaulttest.Start(t), root: t.TempDir(), program: bytes.Repeat([]byte("program "), 100_000)}
	m := machine()
	sum := sha256.Sum256(r.program)
	m.ProgramSHA256 = hex.EncodeToString(sum[:])
	m.Bootstrap.Outbound.ConnectTo = r.cloud.ConnectTo()
	if change != nil {
		change(&m)
	}
	files, err := cloudinit.Parse(render(t, m))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		path := filepath.Join(r.root, f.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(f.Content), f.Mode); err != nil {
			t.Fatal(err)
		}
	}
	// Every program the script starts tells its arguments first.
	bin := t.TempDir()
	r.calls = filepath.Join(t.TempDir(), "calls")
	for _, p := range []string{"curl", "sha256sum", "sed", "cat", "cut", "mv", "chmod", "mkdir", "rm", "mktemp", "sleep"} {
		real, err := exec.LookPath(p)
		if err != nil {
			t.Skipf("needs %s: %v", p, err)
		}
		script := fmt.Sprintf("#!/bin/sh\nprintf '%%s\\n' \"%s $*\" >>'%s'\nexec '%s' \"$@\"\n", p, r.calls, real)
		if err := os.WriteFile(filepath.Join(bin, p), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.env = []string{"PATH=" + bin, "OPENCMG_ROOT=" + r.root, "OPENCMG_PAUSE=0", "TMPDIR=" + t.TempDir(), "HOME=" + t.TempDir()}
	return r
}

// run starts the script. The result waits for its end.
func (r *fetchRig) run(env ...string) (output *bytes.Buffer, wait func() error) {
	r.t.Helper()
	sh, err := exec.LookPath("dash") // the strictest one at hand
	if err != nil {
		sh, _ = exec.LookPath("sh")
	}
	cmd := exec.CommandContext(r.t.Context(), sh, filepath.Join(r.root, cloudinit.FetchFile))
	output = &bytes.Buffer{}
	cmd.Env, cmd.Stdout, cmd.Stderr = append(slices.Clone(r.env), env...), output, output
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	return output, sync.OnceValue(cmd.Wait)
}

func (r *fetchRig) installed() (string, fs.FileMode) {
	file := filepath.Join(r.root, cloudinit.ProgramFile)
	b, err := os.ReadFile(file)
	if err != nil {
		return "", 0
	}
	info, err := os.Stat(file)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b), info.Mode().Perm()
}

const signature = "sv=2021-08-06&se=2027-01-01T00%3A00%3A00Z&sr=b&sp=r&sig=GEHEIM%2Bsignature%3D"

func TestFetchForReal(t *testing.T) {
	caFile := filepath.Join(t.TempDir(), "bundle.pem")
	for name, tt := range map[string]struct {
		caPEM bool
	}{
		"CA of the system":   {false},
		"CA in the document": {true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newFetchRig(t, nil)
			env := "CURL_CA_BUNDLE=" + caFile
			if err := os.WriteFile(caFile, []byte(r.cloud.CAPEM), 0o600); err != nil {
				t.Fatal(err)
			}
			if tt.caPEM {
				env = "CURL_CA_BUNDLE=/nonexistent"
				if err := os.WriteFile(filepath.Join(r.root, cloudinit.CAFile), []byte(r.cloud.CAPEM), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			output, wait := r.run(env)
			// Nothing is there, then something wrong, then the right thing.
			r.cloud.Await(t, "/secrets/service-sas", 2)
			r.cloud.SetSecret(cloudinit.SecretServiceURL, "http://"+keyvaulttest.BlobHost+"/service/opencmg?"+signature)
			r.cloud.Await(t, "/secrets/service-sas", 4)
			r.cloud.SetSecret(cloudinit.SecretServiceURL, "https://"+keyvaulttest.BlobHost+"/service/opencmg?"+signature)
			r.cloud.Await(t, "/service/opencmg", 1)
			r.cloud.SetBlob("/service/opencmg", r.program[1:])
			r.cloud.Await(t, "/service/opencmg", 3)
			if got, _ := r.installed(); got != "" {
				t.Error("a program with another checksum was installed")
			}
			r.cloud.SetBlob("/service/opencmg", r.program)
			if err := wait(); err != nil {
				t.Fatalf("%v:\n%s", err, output)
			}
			got, mode := r.installed()
			if got != string(r.program) || mode != 0o755 {
				t.Errorf("installed %d bytes, %v", len(got), mode)
			}
			for _, want := range []string{"waiting for the site to write it", "not an https address", "can not be downloaded", "another SHA-256", "in place"} {
				if !strings.Contains(output.String(), want) {
					t.Errorf("it did not say %q:\n%s", want, output)
				}
			}
			if left, _ := filepath.Glob(filepath.Join(r.root, cloudinit.ProgramFile) + ".*"); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
			calls, err := os.ReadFile(r.calls)
			if err != nil {
				t.Fatal(err)
			}
			for what, text := range map[string]string{"arguments": string(calls), "output": output.String()} {
				if strings.Contains(text, "GEHEIM") || strings.Contains(text, "sig=") || strings.Contains(text, "Bearer") {
					t.Errorf("a secret in its %s:\n%s", what, text)
				}
			}

			// The next start needs nobody.
			n := r.cloud.Calls("/")
			r.cloud.Fail(func(*http.Request) int { return 500 })
			if output, wait := r.run(env); wait() != nil || output.Len() > 0 {
				t.Errorf("second run: %s", output)
			}
			if r.cloud.Calls("/") != n {
				t.Error("the second run called the cloud")
			}
			// Unless somebody damaged the program.
			r.cloud.Fail(nil)
			if err := os.WriteFile(filepath.Join(r.root, cloudinit.ProgramFile), []byte("damaged"), 0o755); err != nil {
				t.Fatal(err)
			}
			if output, wait := r.run(env); wait() != nil {
				t.Errorf("repair: %s", output)
			}
			if got, _ := r.installed(); got != string(r.program) {
				t.Error("the damaged program is still there")
			}
		})
	}
}

func TestFetchWithConnectOnly(t *testing.T) {
	r := newFetchRig(t, func(c *cloudinit.Machine) {
		c.Bootstrap.Outbound.ConnectOnly = true
	})
	if err := os.WriteFile(filepath.Join(r.root, cloudinit.CAFile), []byte(r.cloud.CAPEM), 0o644); err != nil {
		t.Fatal(err)
	}
	r.cloud.SetSecret(cloudinit.SecretServiceURL, "https://other.blob.example.com/service/opencmg?"+signature)
	output, wait := r.run()
	r.cloud.Await(t, "/secrets/service-sas", 2)
	r.cloud.SetSecret(cloudinit.SecretServiceURL, "https://"+keyvaulttest.BlobHost+"/service/opencmg?"+signature)
	r.cloud.SetBlob("/service/opencmg", r.program)
	if err := wait(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if s := output.String(); !strings.Contains(s, "127.0.0.1") && !strings.Contains(s, "port 1") {
		t.Errorf("the unmapped address was not refused:\n%s", s)
	}
}
