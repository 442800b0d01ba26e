package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
)

// readArchive returns the files of a diagnosis archive by name.
func readArchive(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(gz); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(h.Name, "opencmg-diag/")] = string(b)
	}
}

// TestDiagnosisOfALab plants secrets wherever a site has texts, and looks for
// them, and for those that the lab made itself, in the archive.
func TestDiagnosisOfALab(t *testing.T) {
	dir, info := startLab(t)
	asAdministrator(t, info)
	c := administer(t, info)
	gateway := onlyGateway(t, c)
	secrets := map[string]string{
		"administrator's token": strings.TrimSpace(readTestFile(t, info.AdminService.TokenFile)), "bulk token": info.BulkToken, "Entra token": info.Entra.Token,
		"PFX password": "planted-pfx-password", "app secret": "abC8Q~planted.app.secret.of.the.lab.0123456", "site key": strings.TrimSpace(readTestFile(t, filepath.Join(dir, "site", siteKeyFile))),
		"cloud's secret": strings.TrimSpace(readTestFile(t, filepath.Join(dir, "config", "cloud-admin-secret"))),
		"storage key":    base64.StdEncoding.EncodeToString([]byte(strings.Repeat("planted storage ", 4))),
	}
	// Keys on disk, and those of the stand-in's storage accounts.
	storageKey := regexp.MustCompile(`"([A-Za-z0-9+/]{86}==)"`)
	if err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || strings.HasSuffix(path, ".db") || strings.HasSuffix(path, "-wal") {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		if i := strings.Index(string(b), "PRIVATE KEY-----\n"); i >= 0 {
			secrets["key in "+path] = string(b[i+17+64 : i+17+64+60])
		}
		for _, m := range storageKey.FindAllStringSubmatch(string(b), -1) {
			secrets["storage key in "+path] = m[1]
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	authority, err := pki.NewAuthority("another public CA", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := authority.IssueKeyPair(pki.Template{CommonName: info.ServiceName, DNSNames: []string{info.ServiceName}, Server: true, Key: pki.RSA2048}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pfx, err := pkcs12.Modern.Encode(pair.PrivateKey, pair.Leaf, []*x509.Certificate{authority.Certificate()}, secrets["PFX password"])
	if err != nil {
		t.Fatal(err)
	}
	secrets["PFX"] = base64.StdEncoding.EncodeToString(pfx)[200:300]
	act(t, c, "PUT", "Gateways/"+gateway.ID+"/certificate", adminservice.ServerCertificate{PFX: pfx, Password: secrets["PFX password"]})
	// The stand-in does not know the app; its refusal is logged.
	if err := c.Do(t.Context(), "POST", "Applications/import", adminservice.ImportApplication{
		Kind: "ServerApplication", Name: "planted", ClientID: "5f1d7a7e-2f0e-4f6b-9a37-1c1f5f0e8a22", TenantID: labTenant, Secret: secrets["app secret"], SecretExpires: time.Now().Add(time.Hour),
	}, nil); !strings.Contains(fmt.Sprint(err), "AADSTS700016") {
		t.Fatal(err)
	}
	stdout, _ := succeed(t, "join-token", "new", "--kind", "connection-point")
	secrets["join token"] = strings.TrimSpace(stdout)
	stdout, _ = succeed(t, "bulk-token", "new", "--description", "the other one is "+info.BulkToken)
	secrets["second bulk token"] = strings.TrimSpace(stdout)
	// Somebody logs what nobody should.
	planted := ""
	for name, text := range secrets {
		switch {
		case strings.HasPrefix(name, "key in "), name == "PFX":
			continue // as they are in files, below
		case name == "PFX password", name == "site key", name == "cloud's secret":
			planted += `<![LOG[signing in password=` + text + ` {"clientSecret":"` + text + `"}]LOG]!>` + "\r\n"
		default:
			planted += `<![LOG[` + name + ": " + text + ` again]LOG]!>` + "\r\n"
		}
	}
	planted += readTestFile(t, info.SpareClient.KeyFile) + base64.StdEncoding.EncodeToString(pfx) + "\r\nthe line after\r\n"
	if err := os.WriteFile(filepath.Join(info.LogDir, "site", "Planted.log"), []byte(planted), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the logs of an instance at the site", func() error {
		code, _, stderr := opencmgCommand(t, "logs", "CMG-"+gateway.Name+"-0-CMGSetup.log")
		if code != 0 {
			return errors.New(stderr)
		}
		return nil
	})

	file := filepath.Join(t.TempDir(), "diag.tar.gz")
	stdout, stderr := succeed(t, "diag", "--to", file)
	if strings.TrimSpace(stdout) != file || !strings.Contains(stderr, "logs") {
		t.Errorf("%q %q", stdout, stderr)
	}
	if st, err := os.Stat(file); err != nil || runtime.GOOS != "windows" && st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	files := readArchive(t, file)
	for name, want := range map[string]string{
		"state/Site.json": labSite, "state/Gateways.json": gateway.Name, "state/ConnectionPoints.json": "cp1", "state/BulkRegistrationTokens.json": "the other one is [redacted]",
		"state/Applications.json": "ServerApplication", "state/StatusMessages.json": "joined", "state/Operations.json": `"log"`, "state/Expiry.json": "ends", "state/Alerts.json": "value",
		"configuration/site.yaml": "dataDir", "metrics/site.txt": "opencmg_site_expiry_seconds", "logs/CloudMgr.log": "operation completed",
		"logs/CMG-" + gateway.Name + "-0-CMGSetup.log": "gateway instance started", "logs/Planted.log": "the line after", "index.json": "Users and Groups",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s has no %q: %.300s", name, want, files[name])
		}
	}
	for what, secret := range secrets {
		if len(secret) < 16 {
			t.Errorf("%s: %q is no secret to look for", what, secret)
		}
		for name, text := range files {
			if strings.Contains(text, secret) {
				t.Errorf("%s is in %s", what, name)
			}
		}
	}
	if len(secrets) < 15 {
		t.Errorf("only %v were looked for", slices.Sorted(maps.Keys(secrets)))
	}
	var index struct {
		Versions map[string]string
		Parts    []struct{ Name string }
		Failed   []struct{ From, Error string }
	}
	if err := json.Unmarshal([]byte(files["index.json"]), &index); err != nil || len(index.Parts) != len(files)-1 || len(index.Versions) < 5 {
		t.Errorf("index: %v, %d parts of %d files, %v", err, len(index.Parts), len(files), index.Versions)
	}
	for _, f := range index.Failed {
		if f.From != "Checklist" && !strings.HasSuffix(f.From, "/analyze") {
			t.Errorf("%s could not be had: %s", f.From, f.Error)
		}
	}

	// What a lesser account may not see is a line of the index.
	var analyst adminservice.Account
	if err := c.Do(t.Context(), "POST", "Accounts", adminservice.Account{Name: "analyst", Role: adminservice.ReadOnlyAnalyst, LocalToken: true}, &analyst); err != nil {
		t.Fatal(err)
	}
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte(analyst.Token), 0o600); err != nil {
		t.Fatal(err)
	}
	lesser := filepath.Join(t.TempDir(), "lesser.tar.gz")
	succeed(t, "diag", "--to", lesser, "--token-file", tokenFile)
	files = readArchive(t, lesser)
	if files["state/Gateways.json"] == "" || files["configuration/site.yaml"] != "" || !strings.Contains(files["index.json"], "Read-only Analyst is") && !strings.Contains(files["index.json"], "analyst is Read-only Analyst") {
		t.Errorf("index of an analyst: %.2000s", files["index.json"])
	}

	// Nothing is replaced, and nothing half-written is left.
	wantFailure(t, 1, "there is such a file already", "diag", "--to", file)
	wantFailure(t, 2, "--since", "diag", "--since", "0s")
	empty := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if code := run(ctx, []string{"diag", "--to", filepath.Join(empty, "x")}, strings.NewReader(""), io.Discard, io.Discard); code != 1 {
		t.Errorf("stopped: %d", code)
	}
	wantFailure(t, 1, "can not be reached", "diag", "--to", filepath.Join(empty, "x"), "--site", "https://127.0.0.1:1")
	if entries, err := os.ReadDir(empty); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}
