package client_test

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/client"
	"github.com/opencmg/opencmg/pki"
)

// TestRevocation checks the gateway's certificate against the list it names.
func TestRevocation(t *testing.T) {
	var list atomic.Pointer[[]byte]
	crl := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if b := list.Load(); b != nil {
			w.Write(*b)
		} else {
			http.Error(w, "gone", http.StatusGone)
		}
	}))
	defer crl.Close()
	r := newRig(t)
	now := time.Now()
	ca, err := pki.CreateAuthority(pki.AuthorityOptions{Name: "Root with list", CRLURL: crl.URL + "/ca.crl"}, now)
	if err != nil {
		t.Fatal(err)
	}
	r.ca = ca
	os.WriteFile(r.caFile, ca.CertificatePEM(), 0o600)
	addr, _ := r.serve(r.gateway(), gatewayName)
	register := func(extra string) error {
		c := create(t, r.config(t, to(t, gatewayName, addr)), tokenWords+extra)
		_, err := c.Register(t.Context())
		return err
	}
	publish := func(validity time.Duration) {
		b, err := ca.CRL(now.Add(-2*time.Hour), validity)
		if err != nil {
			t.Fatal(err)
		}
		list.Store(&b)
	}
	if err := register(""); !errors.Is(err, opencmg.Unauthorized) || !strings.Contains(err.Error(), "/nocrlcheck") {
		t.Errorf("list unreachable: %v", err)
	}
	if err := register(" /nocrlcheck"); err != nil {
		t.Errorf("list unreachable, not checked: %v", err)
	}
	publish(24 * time.Hour)
	if err := register(""); err != nil {
		t.Errorf("not revoked: %v", err)
	}
	publish(time.Hour)
	if err := register(""); !errors.Is(err, opencmg.Unauthorized) || !strings.Contains(err.Error(), "ran out") {
		t.Errorf("list ran out: %v", err)
	}
	garbage := []byte("garbage")
	list.Store(&garbage)
	if err := register(""); !errors.Is(err, opencmg.Unauthorized) {
		t.Errorf("garbage list: %v", err)
	}
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	for _, cert := range r.issued {
		ca.Revoke(cert.SerialNumber, now)
	}
	publish(24 * time.Hour)
	if err := register(""); !errors.Is(err, opencmg.Unauthorized) || !strings.Contains(err.Error(), "was revoked") {
		t.Errorf("revoked: %v", err)
	}
}

func TestEntraSources(t *testing.T) {
	want := client.EntraTokenRequest{TenantID: tenant, ResourceURI: resource}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("client_secret") != "s" || r.FormValue("resource") != resource {
			w.WriteHeader(400)
			w.Write([]byte(`{"error":"invalid_client","error_description":"wrong secret"}`))
			return
		}
		w.Write([]byte(`{"access_token":"tok"}`))
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "token")
	os.WriteFile(file, []byte(" tok\n"), 0o600)
	sources := map[string]client.EntraTokenSource{
		"file":        client.EntraTokenFile(file),
		"credentials": client.EntraClientCredentials{TokenURL: server.URL, DeviceID: "d", Secret: "s"},
	}
	if sh, err := exec.LookPath("sh"); err == nil {
		sources["command"] = client.EntraTokenCommand{sh, "-c", `test "$OPENCMG_TENANT $OPENCMG_RESOURCE" = "` + tenant + " " + resource + `" && echo tok`}
	}
	for name, s := range sources {
		if got, err := s.EntraToken(t.Context(), want); err != nil || got != "tok" {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	for name, s := range map[string]client.EntraTokenSource{
		"no file":       client.EntraTokenFile(file + "x"),
		"wrong secret":  client.EntraClientCredentials{TokenURL: server.URL, DeviceID: "d", Secret: "x"},
		"nobody there":  client.EntraClientCredentials{TokenURL: "http://127.0.0.1:1/", DeviceID: "d"},
		"no command":    client.EntraTokenCommand{},
		"failing":       client.EntraTokenCommand{filepath.Join(t.TempDir(), "nothing")},
		"not a URL":     client.EntraClientCredentials{TokenURL: "::"},
		"not JSON":      client.EntraClientCredentials{TokenURL: htmlServer(t)},
		"not a program": client.EntraTokenCommand{file},
	} {
		if got, err := s.EntraToken(t.Context(), want); err == nil {
			t.Errorf("%s: got %q and no error", name, got)
		}
	}
}

func htmlServer(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>")) }))
	t.Cleanup(s.Close)
	return s.URL
}

func TestEntraNeedsATenant(t *testing.T) {
	r := newRig(t)
	addr, _ := r.serve(r.gateway(), gatewayName)
	for words, want := range map[string]string{
		plainWords: "AADTENANTID=",
		plainWords + " AADTENANTID=99999999-2222-3333-4444-555555555555": "404",
	} {
		cfg := r.config(t, to(t, gatewayName, addr))
		cfg.Entra = client.EntraTokenFunc(entraSource)
		c := create(t, cfg, words)
		if _, err := c.Register(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", words, err, want)
		}
	}
}
