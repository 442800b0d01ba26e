package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// A siteProcess is a site server as a process, in a directory of its own.
type siteProcess struct {
	*testProcess
	dir string
}

// startSite starts "opencmg site serve" in dir, so that its data directory is
// there.
func startSite(t *testing.T, dir string, args ...string) *siteProcess {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &siteProcess{&testProcess{done: make(chan struct{})}, dir}
	p.cmd = exec.Command(self, append([]string{"site", "serve"}, args...)...)
	p.cmd.Args[0], p.cmd.Dir = "opencmg", dir
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("the site in %s printed:\n%s", dir, tail(p.String(), 4000))
		}
	})
	return p
}

func (p *siteProcess) stop() {
	p.cmd.Process.Signal(os.Interrupt)
	<-p.done
}

// client signs in as a person does who reads what the site printed.
func (p *siteProcess) client(t *testing.T, token, url string) *adminservice.Client {
	t.Helper()
	var c *adminservice.Client
	eventually(t, "sign in", func() error {
		ca, err := os.ReadFile(filepath.Join(p.dir, "opencmg-site", siteCAFile))
		if err != nil {
			return err
		}
		if token == "" {
			b, err := os.ReadFile(filepath.Join(p.dir, "opencmg-site", siteTokenFile))
			if err != nil {
				return err
			}
			token = strings.TrimSpace(string(b))
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(ca)
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
		t.Cleanup(tr.CloseIdleConnections)
		c = &adminservice.Client{URL: url, Token: adminservice.Secret(token), HTTP: &http.Client{Transport: tr}}
		return c.Do(t.Context(), "GET", "Site", nil, nil)
	})
	return c
}

// siteCommand runs a command of the site to its end.
func siteCommand(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, append([]string{"site"}, args...)...)
	cmd.Args[0], cmd.Dir = "opencmg", dir
	var out bytes.Buffer
	cmd.Stderr = &out
	err = cmd.Run()
	return out.String(), err
}

// quiet is a configuration that opens no private listener.
func quiet(t *testing.T, dir string) string {
	file := filepath.Join(dir, "site.yaml")
	writeTestFile(t, file, "private: \"off\"\n")
	return file
}

// TestSiteFirstStart starts a site without anything, and again.
func TestSiteFirstStart(t *testing.T) {
	var args []string
	addr := "localhost:8443"
	for _, port := range []string{":8443", "127.0.0.1:9443"} {
		ln, err := net.Listen("tcp", port)
		if err != nil {
			t.Logf("%s is taken, so the site gets flags", port)
			addr = freeAddress(t)
			args = []string{"--listen", addr, "--config", quiet(t, t.TempDir())}
			break
		}
		ln.Close()
	}
	dir := t.TempDir()
	if args != nil {
		args = append(args, "--data-dir", filepath.Join(dir, "opencmg-site"))
	}
	p := startSite(t, dir, args...)
	c := p.client(t, "", "https://"+addr)
	s, err := adminservice.Get[adminservice.Site](t.Context(), c, "Site")
	if err != nil || s.Code != "P01" || s.Role != adminservice.FullAdministrator || s.Database != "sqlite" {
		t.Errorf("%+v %v", s, err)
	}
	said := p.String()
	for _, want := range []string{"Site P01 is new", siteTokenFile, "curl --cacert", "/AdminService/v1.0/"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if strings.Contains(said, string(c.Token)) {
		t.Error("it printed the token itself")
	}
	data := filepath.Join(dir, "opencmg-site")
	if runtime.GOOS != "windows" {
		modes := map[string]os.FileMode{siteDatabase: 0o600, siteKeyFile: 0o600, siteTokenFile: 0o600, siteCAFile: 0o644, ".": 0o700}
		for name, mode := range modes {
			if info, err := os.Stat(filepath.Join(data, name)); err != nil || info.Mode().Perm() != mode {
				t.Errorf("%s: %v %v, want %v", name, info.Mode(), err, mode)
			}
		}
	}
	p.stop()
	p = startSite(t, dir, args...)
	again, err := adminservice.Get[adminservice.Site](t.Context(), p.client(t, string(c.Token), "https://"+addr), "Site")
	if err != nil || again.HierarchyID != s.HierarchyID || again.SiteCA != s.SiteCA {
		t.Errorf("after the second start: %+v %v", again, err)
	}
	if strings.Contains(p.String(), "is new") {
		t.Error("the second start made a new site")
	}
}

func TestSiteStartProblems(t *testing.T) {
	dir := t.TempDir()
	data, addr := filepath.Join(dir, "opencmg-site"), freeAddress(t)
	config := quiet(t, dir)
	p := startSite(t, dir, "--config", config, "--listen", addr)
	p.client(t, "", "https://"+addr)
	serve := func(args ...string) string {
		t.Helper()
		out, err := siteCommand(t, dir, append([]string{"serve", "--config", config}, args...)...)
		if err == nil {
			t.Errorf("%q started", args)
		}
		return out
	}
	wants := func(out string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%q is not in:\n%s", w, out)
			}
		}
	}
	fresh := filepath.Join(dir, "fresh")
	wants(serve("--listen", addr, "--data-dir", fresh), "listen", addr, "hint: another program listens there")
	if _, err := os.Stat(filepath.Join(fresh, siteDatabase)); err == nil {
		t.Error("a site that could not listen was made all the same")
	}
	p.stop()
	other := freeAddress(t)
	wants(serve("--listen", other, "--site-code", "XYZ"), "site P01, not XYZ", "leave the site code out")
	wants(serve("--listen", other, "--site-code", "TOOLONG", "--data-dir", fresh), "site code")
	writeTestFile(t, filepath.Join(dir, "file"), "")
	wants(serve("--listen", other, "--data-dir", filepath.Join(dir, "file")), "dataDir", "file")
	wants(serve("--listen", "nowhere"), "host:port")
	key := readTestFile(t, filepath.Join(data, siteKeyFile))
	writeTestFile(t, filepath.Join(data, siteKeyFile), strings.Repeat("ab", 32)+"\n")
	wants(serve("--listen", other), siteKeyFile, "put the file there that belongs to this database")
	if err := os.Remove(filepath.Join(data, siteKeyFile)); err != nil {
		t.Fatal(err)
	}
	wants(serve("--listen", other), siteKeyFile, "is missing")
	writeTestFile(t, filepath.Join(data, siteKeyFile), key)
	startSite(t, dir, "--config", config, "--listen", other).client(t, "", "https://"+other)
}

// TestSiteBackup backs a site up while it is written to, and restores it
// elsewhere: the accounts sign in, and the secrets can be read.
func TestSiteBackup(t *testing.T) {
	dir, addr := t.TempDir(), freeAddress(t)
	config := quiet(t, dir)
	c := startSite(t, dir, "--config", config, "--listen", addr).client(t, "", "https://"+addr)
	made, err := create[adminservice.Account](t.Context(), c, "Accounts", adminservice.Account{Name: "ann", Role: adminservice.ReadOnlyAnalyst, LocalToken: true})
	if err != nil {
		t.Fatal(err)
	}
	site, err := adminservice.Get[adminservice.Site](t.Context(), c, "Site")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	written, first := make(chan int, 1), make(chan bool)
	go func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			_, err := create[adminservice.Account](ctx, c, "Accounts", adminservice.Account{Name: fmt.Sprintf("account %03d", n), Role: adminservice.ReadOnlyAnalyst, LocalToken: true})
			if err != nil && ctx.Err() == nil {
				t.Errorf("write %d: %v", n, err)
				break
			}
			if n == 0 {
				close(first)
			}
		}
		written <- n
	}()
	<-first
	backup := filepath.Join(dir, "backup")
	out, err := siteCommand(t, dir, "backup", "--config", config, "--to", backup)
	cancel()
	if err != nil || !strings.Contains(out, "Keep the key file") {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%d accounts were written meanwhile", <-written)
	if out, err := siteCommand(t, dir, "backup", "--config", config, "--to", backup); err == nil || !strings.Contains(out, "exists") {
		t.Errorf("a backup was overwritten: %v %s", err, out)
	}
	key := filepath.Join(dir, "opencmg-site", siteKeyFile)
	elsewhere := t.TempDir()
	// With another key nothing is restored, and that key stays where it is.
	wrong := filepath.Join(elsewhere, "wrong.key")
	writeTestFile(t, wrong, strings.Repeat("cd", 32)+"\n")
	if out, err := siteCommand(t, elsewhere, "restore", "--config", config, "--data-dir", "opencmg-site", "--from", backup, "--key", wrong); err == nil || !strings.Contains(out, "key") {
		t.Errorf("%v %s", err, out)
	}
	if out, err := siteCommand(t, elsewhere, "restore", "--config", config, "--data-dir", "opencmg-site", "--from", backup, "--key", key); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := siteCommand(t, elsewhere, "restore", "--config", config, "--data-dir", "opencmg-site", "--from", backup, "--key", key); err == nil || !strings.Contains(out, "empty data directory") {
		t.Errorf("restored twice: %v %s", err, out)
	}
	second := freeAddress(t)
	p := startSite(t, elsewhere, "--config", config, "--data-dir", "opencmg-site", "--listen", second)
	restored := p.client(t, string(c.Token), "https://"+second)
	got, err := adminservice.Get[adminservice.Site](t.Context(), restored, "Site")
	if err != nil || got.HierarchyID != site.HierarchyID || got.SiteCA != site.SiteCA || got.Code != site.Code {
		t.Errorf("%+v %v", got, err)
	}
	ann := *restored
	ann.Token = adminservice.Secret(made.Token)
	if s, err := adminservice.Get[adminservice.Site](t.Context(), &ann, "Site"); err != nil || s.Account != "ann" {
		t.Errorf("%+v %v", s, err)
	}
	list, err := adminservice.List[adminservice.Account](t.Context(), restored, "Accounts", nil)
	if err != nil || len(list) < 3 {
		t.Errorf("%d accounts, %v", len(list), err)
	}
	// The token-signing key is a secret of the database.
	if _, err := create[adminservice.BulkRegistrationToken](t.Context(), restored, "BulkRegistrationTokens", adminservice.NewBulkToken{}); err != nil {
		t.Error(err)
	}
	if err := ann.Do(t.Context(), "DELETE", "Accounts/"+made.ID, nil, nil); !errors.Is(err, opencmg.Forbidden) {
		t.Errorf("the role: %v", err)
	}
}

func create[T any](ctx context.Context, c *adminservice.Client, collection string, in any) (T, error) {
	var out T
	err := c.Do(ctx, http.MethodPost, collection, in, &out)
	return out, err
}
