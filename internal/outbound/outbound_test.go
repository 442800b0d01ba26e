package outbound_test

import (
	"bytes"
	"encoding/pem"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/outbound"
)

// vault is a TLS server that calls itself example.com, which is what
// httptest's certificate covers.
func vault(t *testing.T) (address, caPEM string) {
	t.Helper()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "you asked "+r.Host)
	}))
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String(), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))
}

func client(t *testing.T, c outbound.Config, log *slog.Logger) *http.Client {
	t.Helper()
	h, err := c.Client(t.TempDir(), time.Minute, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.CloseIdleConnections)
	return h
}

func get(h *http.Client, url string) (string, error) {
	res, err := h.Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

// closedAddress is one where nobody listens.
func closedAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func TestRealNamesElsewhere(t *testing.T) {
	addr, ca := vault(t)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte(ca), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]outbound.Config{
		"inline CA": {CAPEM: ca},
		"CA file":   {CAFile: file},
	} {
		// The first address is dead, so the second one is tried.
		c.ConnectTo = []string{"example.com:443:" + closedAddress(t), "EXAMPLE.com:443:" + addr}
		got, err := get(client(t, c, nil), "https://example.com/")
		if err != nil || got != "you asked example.com" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	c := outbound.Config{ConnectTo: []string{"example.com:443:" + addr}}
	if _, err := get(client(t, c, nil), "https://example.com/"); err == nil {
		t.Error("a certificate of nobody was trusted")
	}
	c.ConnectTo = []string{"example.com:443:" + closedAddress(t)}
	if _, err := get(client(t, c, nil), "https://example.com/"); err == nil {
		t.Error("reached nobody")
	}
}

func TestConnectOnly(t *testing.T) {
	addr, ca := vault(t)
	var proxied atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proxied.Add(1)
		io.WriteString(w, "by proxy: "+r.URL.Host)
	}))
	t.Cleanup(proxy.Close)
	for name, c := range map[string]outbound.Config{
		"without a proxy": {},
		"with a proxy":    {Proxy: proxy.URL},
	} {
		var log bytes.Buffer
		c.CAPEM, c.ConnectTo, c.ConnectOnly = ca, []string{"example.com:443:" + addr}, true
		h := client(t, c, slog.New(slog.NewTextHandler(&log, nil)))
		if got, err := get(h, "https://example.com/"); err != nil || got != "you asked example.com" {
			t.Errorf("%s: mapped: %q, %v", name, got, err)
		}
		for range 2 {
			for _, u := range []string{"https://login.example.org/", "http://login.example.org/"} {
				_, err := get(h, u)
				host := "login.example.org:443"
				if strings.HasPrefix(u, "http:") {
					host = "login.example.org:80"
				}
				if !errors.Is(err, opencmg.Forbidden) || !strings.Contains(err.Error(), "add the rule "+host+":HOST:PORT") {
					t.Errorf("%s: %s: %v", name, u, err)
				}
			}
		}
		if n := strings.Count(log.String(), "outward connection refused"); n != 2 {
			t.Errorf("%s: %d records for 2 addresses:\n%s", name, n, &log)
		}
	}
	if n := proxied.Load(); n != 0 {
		t.Errorf("%d requests left through the proxy", n)
	}
}

func TestProxy(t *testing.T) {
	addr, ca := vault(t)
	var auth atomic.Value
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		auth.Store(r.Header.Get("Proxy-Authorization"))
		io.WriteString(w, "by proxy: "+r.URL.Host)
	}))
	t.Cleanup(proxy.Close)
	base := t.TempDir()
	if err := os.WriteFile(filepath.Join(base, "credentials"), []byte("user:pass:word\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := outbound.Config{Proxy: proxy.URL, ProxyCredentialsFile: "credentials", CAPEM: ca, ConnectTo: []string{"example.com:443:" + addr}}
	h, err := c.Client(base, time.Minute, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer h.CloseIdleConnections()
	if got, err := get(h, "http://crl.example.org/a.crl"); err != nil || got != "by proxy: crl.example.org" {
		t.Errorf("%q, %v", got, err)
	}
	if got := auth.Load(); got != "Basic dXNlcjpwYXNzOndvcmQ=" {
		t.Errorf("the proxy got %q", got)
	}
	if got, err := get(h, "https://example.com/"); err != nil || got != "you asked example.com" {
		t.Errorf("mapped: %q, %v", got, err)
	}
	if u, err := c.Direct().ProxyURL(base); u != nil || err != nil {
		t.Errorf("direct: %v, %v", u, err)
	}
}

func TestRefusedConfigurations(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "rubbish"), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		c    outbound.Config
		want string
	}{
		"proxy":            {outbound.Config{Proxy: "proxy:8080"}, "outbound.proxy"},
		"proxy, secret":    {outbound.Config{Proxy: "http://u:geheim@proxy:8080"}, "proxyCredentialsFile"},
		"credentials gone": {outbound.Config{Proxy: "http://proxy:8080", ProxyCredentialsFile: "gone"}, "proxyCredentialsFile"},
		"credentials":      {outbound.Config{Proxy: "http://proxy:8080", ProxyCredentialsFile: "rubbish"}, "user:password"},
		"CA gone":          {outbound.Config{CAFile: "gone"}, "caFile"},
		"CA":               {outbound.Config{CAFile: "rubbish"}, "no PEM"},
		"inline CA":        {outbound.Config{CAPEM: "rubbish"}, "caPEM"},
		"rule":             {outbound.Config{ConnectTo: []string{"a"}}, "HOST:PORT:HOST:PORT"},
		"only, no rules":   {outbound.Config{ConnectOnly: true}, "connectOnly"},
	} {
		_, err := tt.c.Client(dir, 0, nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFlags(t *testing.T) {
	addr, ca := vault(t)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte(ca), 0o600); err != nil {
		t.Fatal(err)
	}
	parse := func(args ...string) (*outbound.Flags, error) {
		fs := flag.NewFlagSet("serve", flag.ContinueOnError)
		fs.SetOutput(io.Discard)
		var f outbound.Flags
		f.Register(fs)
		return &f, fs.Parse(args)
	}
	f, err := parse("--proxy", "http://flag:1", "--ca-file", file, "--connect-to", "example.com:443:"+addr, "--connect-to=b::c:", "--connect-only")
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.Add(outbound.Config{Proxy: "http://file:1", ConnectTo: []string{"d::e:"}})
	if err != nil {
		t.Fatal(err)
	}
	want := outbound.Config{Proxy: "http://flag:1", ConnectTo: []string{"example.com:443:" + addr, "b::c:", "d::e:"}, ConnectOnly: true}
	if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(outbound.Config{})); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if s, err := get(client(t, got, nil), "https://example.com/"); err != nil {
		t.Errorf("%q, %v", s, err)
	}
	if _, err := parse("--connect-to", "a"); err == nil || !strings.Contains(err.Error(), "HOST:PORT:HOST:PORT") {
		t.Errorf("bad rule: %v", err)
	}
	only, err := parse("--connect-only")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := only.Add(outbound.Config{}); !errors.Is(err, opencmg.Invalid) {
		t.Errorf("connect-only without a rule: %v", err)
	}
	none, _ := parse()
	if got, err := none.Add(outbound.Config{}); err != nil || len(got.ConnectTo) > 0 {
		t.Errorf("no flags: %+v, %v", got, err)
	}
}
