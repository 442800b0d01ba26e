package keyvault_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/keyvault"
	"github.com/opencmg/opencmg/internal/keyvault/keyvaulttest"
	"github.com/opencmg/opencmg/internal/outbound"
)

func way(t *testing.T, c *keyvaulttest.Cloud) *http.Client {
	t.Helper()
	h, err := outbound.Config{CAPEM: c.CAPEM, ConnectTo: c.ConnectTo()}.Client("", time.Minute, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.CloseIdleConnections)
	return h
}

func open(t *testing.T, c *keyvaulttest.Cloud, change func(*keyvault.Config)) *keyvault.Client {
	t.Helper()
	h := way(t, c)
	cfg := keyvault.Config{Vault: keyvaulttest.Vault, ClientID: keyvaulttest.ClientID, Metadata: &keyvault.Metadata{HTTP: h}, HTTP: h}
	if change != nil {
		change(&cfg)
	}
	v, err := keyvault.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSecret(t *testing.T) {
	cloud := keyvaulttest.Start(t)
	v := open(t, cloud, nil)
	if _, err := v.Secret(t.Context(), "server-certificate"); !errors.Is(err, opencmg.NotFound) || !strings.Contains(err.Error(), "SecretNotFound") {
		t.Errorf("before it is there: %v", err)
	}
	cloud.SetSecret("server-certificate", "geheim")
	s, err := v.Secret(t.Context(), "server-certificate")
	if err != nil || s.Value != "geheim" || !strings.HasSuffix(s.Version, "1") {
		t.Errorf("%v, %v", s, err)
	}
	for _, f := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(f, s); strings.Contains(got, "geheim") {
			t.Errorf("%s prints %s", f, got)
		}
	}
	const tokens = "/metadata/identity/"
	if n := cloud.Calls(tokens); n != 1 {
		t.Errorf("%d tokens for two calls", n)
	}
	cloud.RevokeTokens()
	if _, err := v.Secret(t.Context(), "server-certificate"); err != nil {
		t.Errorf("with a new token: %v", err)
	}
	if n := cloud.Calls(tokens); n != 2 {
		t.Errorf("%d tokens after one was revoked", n)
	}
}

func TestSecretErrors(t *testing.T) {
	cloud := keyvaulttest.Start(t)
	cloud.SetSecret("a", "b")
	for name, tt := range map[string]struct {
		change func(*keyvault.Config)
		fail   int
		kind   opencmg.Kind
		want   string
	}{
		"wrong audience": {change: func(c *keyvault.Config) { c.Audience = "https://vault.example" }, kind: opencmg.Invalid, want: "AADSTS500011"},
		"wrong identity": {change: func(c *keyvault.Config) { c.ClientID = "x" }, kind: opencmg.Invalid, want: "Identity not found"},
		"no metadata":    {change: func(c *keyvault.Config) { c.Metadata.URL = "http://127.0.0.1:1" }, kind: opencmg.Unavailable, want: "can not be reached"},
		"forbidden":      {fail: 403, kind: opencmg.Forbidden, want: "403"},
		"never a token":  {fail: 401, kind: opencmg.Unauthorized, want: "401"},
		"throttled":      {fail: 429, kind: opencmg.Unavailable, want: "429"},
		"redirect":       {fail: 302, kind: opencmg.Unavailable, want: "302"},
	} {
		cloud.Fail(func(r *http.Request) int {
			if strings.HasPrefix(r.URL.Path, "/secrets/") {
				return tt.fail
			}
			return 0
		})
		_, err := open(t, cloud, tt.change).Secret(t.Context(), "a")
		if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, vault := range []string{"", "http://a.b", "https://a", "https://a.b/c", "a.b", "https://u:p@a.b"} {
		if _, err := keyvault.New(keyvault.Config{Vault: vault}); !errors.Is(err, opencmg.Invalid) {
			t.Errorf("vault %q: %v", vault, err)
		}
	}
}

func TestOddAnswers(t *testing.T) {
	for name, tt := range map[string]struct {
		body string
		want string
	}{
		"not JSON":   {"<html>geheim", "not the JSON"},
		"no value":   {"{}", "no value"},
		"too large":  {`{"value":"` + strings.Repeat("a", 300<<10) + `"}`, "larger than"},
		"wrong type": {`{"value":{"geheim":1}}`, "not the JSON"},
	} {
		srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(tt.body)) }))
		cloud := keyvaulttest.Start(t)
		h := srv.Client() // finds example.com at srv
		v := open(t, cloud, func(c *keyvault.Config) {
			c.Vault, c.Audience, c.HTTP = "https://example.com", keyvaulttest.Audience, h
		})
		_, err := v.Secret(t.Context(), "a")
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %v", name, err)
		}
		srv.Close()
	}
}

func TestMachine(t *testing.T) {
	cloud := keyvaulttest.Start(t)
	m := keyvault.Metadata{URL: cloud.MetadataURL}
	got, err := m.Machine(t.Context())
	if want := (keyvault.Machine{ID: "3", Name: "granitefalls_3", ScaleSet: "granitefalls", Location: "westeurope"}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, name := range []string{"granitefalls", "granitefalls_", "granitefalls_x", "a_1_b"} {
		cloud.Rename(name)
		if m, err := m.Machine(t.Context()); !errors.Is(err, opencmg.Invalid) {
			t.Errorf("%q: %+v, %v", name, m, err)
		}
	}
	cloud.Fail(func(*http.Request) int { return 500 })
	if _, err := m.Machine(t.Context()); !errors.Is(err, opencmg.Unavailable) {
		t.Errorf("500: %v", err)
	}
}

func TestAudience(t *testing.T) {
	if got := keyvault.Audience("https://a.vault.usgovcloudapi.net:8443/"); got != "https://vault.usgovcloudapi.net" {
		t.Error(got)
	}
}
