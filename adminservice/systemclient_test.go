package adminservice_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/systemtest"
	"github.com/opencmg/opencmg/pki"
)

const site = opencmg.SiteCode("LAB")

func newSite(t *testing.T) *systemtest.Server {
	t.Helper()
	ca, err := pki.NewAuthority("Site CA", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return systemtest.New(t, ca, site)
}

func newRequest(t *testing.T) (*ecdsa.PrivateKey, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// join joins and returns a client that signs in.
func join(t *testing.T, s *systemtest.Server, name string) *adminservice.SystemClient {
	t.Helper()
	tok := s.Token(1)
	key, csr := newRequest(t)
	c, err := adminservice.NewSystemClient(adminservice.SystemConfig{URL: tok.URL, Site: tok.Site, SiteCAThumbprint: tok.SiteCA})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	reply, err := c.Join(t.Context(), adminservice.JoinRequest{ID: tok.ID, Secret: tok.Secret, Kind: adminservice.SystemConnectionPoint, Name: name, Request: csr})
	if err != nil {
		t.Fatal(err)
	}
	certs, err := pki.ParseCertificates([]byte(reply.Certificate))
	if err != nil {
		t.Fatal(err)
	}
	pair := tls.Certificate{Certificate: [][]byte{certs[0].Raw}, PrivateKey: key, Leaf: certs[0]}
	c, err = adminservice.NewSystemClient(adminservice.SystemConfig{URL: s.URL, Site: site, SiteCA: s.CA.Certificate(),
		Certificate: func() *tls.Certificate { return &pair }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestJoinDocumentsReportRenew(t *testing.T) {
	s := newSite(t)
	c := join(t, s, "cp1")
	ctx := t.Context()

	d, etag, err := c.Documents(ctx, "", 0)
	if err != nil || d == nil || etag == "" || d.Published != "" {
		t.Fatalf("first documents: %+v, %q, %v", d, etag, err)
	}
	// Nothing new, and no time to wait.
	if d, again, err := c.Documents(ctx, etag, 0); d != nil || again != etag || err != nil {
		t.Errorf("unchanged documents: %v, %q, %v", d, again, err)
	}
	// A change ends the wait.
	type answer struct {
		d   *adminservice.Documents
		err error
	}
	got := make(chan answer, 1)
	go func() {
		d, _, err := c.Documents(ctx, etag, 10*time.Minute)
		got <- answer{d, err}
	}()
	for s.Waiting() == 0 {
		runtime.Gosched()
	}
	want := adminservice.Documents{Published: "p", Mappings: "m", RenewBefore: time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC), InstanceLogs: true,
		TokenSigning: &adminservice.TokenSigning{Certificate: "c", Key: "k", HierarchyID: "h"}}
	s.Set("cp1", want)
	a := <-got
	if diff := cmp.Diff(&want, a.d); diff != "" || a.err != nil {
		t.Errorf("documents: %v %s", a.err, diff)
	}

	report := &adminservice.SiteSystemReport{Kind: adminservice.SystemConnectionPoint, Version: "1", Problem: "none",
		Logs: []opencmg.LogLine{{Message: "hello", Attrs: map[string]string{"a": "b"}}}}
	if err := c.Report(ctx, report); err != nil {
		t.Fatal(err)
	}
	if r := <-s.Reports; r.From != "cp1" || !cmp.Equal(r.SiteSystemReport, *report) {
		t.Errorf("report: %+v", r)
	}

	_, csr := newRequest(t)
	reply, err := c.Renew(ctx, adminservice.RenewRequest{Request: csr})
	if err != nil {
		t.Fatal(err)
	}
	certs, err := pki.ParseCertificates([]byte(reply.Certificate))
	if err != nil || len(certs[0].URIs) != 1 || certs[0].URIs[0].String() != opencmg.ConnectionPointURI(site, "id-of-cp1") {
		t.Errorf("renewed: %+v %v", reply, err)
	}
	s.Block("cp1")
	if _, _, err := c.Documents(ctx, "", 0); !errors.Is(err, opencmg.Forbidden) || !strings.Contains(err.Error(), "is blocked") {
		t.Errorf("blocked: %v", err)
	}
}

func TestJoinRefused(t *testing.T) {
	s := newSite(t)
	_, csr := newRequest(t)
	try := func(change func(*adminservice.SystemConfig, *adminservice.JoinRequest)) error {
		tok := s.Token(1)
		cfg := adminservice.SystemConfig{URL: tok.URL, Site: tok.Site, SiteCAThumbprint: tok.SiteCA}
		q := adminservice.JoinRequest{ID: tok.ID, Secret: tok.Secret, Kind: adminservice.SystemConnectionPoint, Name: "cp", Request: csr}
		change(&cfg, &q)
		c, err := adminservice.NewSystemClient(cfg)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Join(t.Context(), q)
		return err
	}
	for _, tt := range []struct {
		name   string
		change func(*adminservice.SystemConfig, *adminservice.JoinRequest)
		kind   opencmg.Kind
		text   string
	}{
		{"wrong secret", func(_ *adminservice.SystemConfig, q *adminservice.JoinRequest) { q.Secret = "planted-wrong" }, opencmg.Unauthorized, "not known"},
		{"no request", func(_ *adminservice.SystemConfig, q *adminservice.JoinRequest) { q.Request = "x" }, opencmg.Invalid, "PEM certificate request"},
		{"wrong kind", func(_ *adminservice.SystemConfig, q *adminservice.JoinRequest) { q.Kind = "x" }, opencmg.Invalid, "kind"},
		{"foreign CA", func(c *adminservice.SystemConfig, _ *adminservice.JoinRequest) {
			c.SiteCAThumbprint = strings.Repeat("0", 64)
		}, opencmg.Unavailable, "inspects TLS"},
		{"other site", func(c *adminservice.SystemConfig, _ *adminservice.JoinRequest) { c.Site = "OTH" }, opencmg.Unavailable, "for something else"},
		{"nobody there", func(c *adminservice.SystemConfig, _ *adminservice.JoinRequest) { c.URL = "https://127.0.0.1:1" }, opencmg.Unavailable, "127.0.0.1:1"},
		{"not https", func(c *adminservice.SystemConfig, _ *adminservice.JoinRequest) { c.URL = "http://127.0.0.1" }, opencmg.Invalid, "https://"},
		{"no pin", func(c *adminservice.SystemConfig, _ *adminservice.JoinRequest) { c.SiteCAThumbprint = "" }, opencmg.Invalid, "thumbprint"},
		{"no site", func(c *adminservice.SystemConfig, _ *adminservice.JoinRequest) { c.Site = "" }, opencmg.Invalid, "site code"},
	} {
		err := try(tt.change)
		if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v", tt.name, err)
		} else if strings.Contains(err.Error(), "planted") {
			t.Errorf("%s: the error holds a secret: %v", tt.name, err)
		}
	}
	tok := s.Token(0)
	err := try(func(_ *adminservice.SystemConfig, q *adminservice.JoinRequest) { q.ID, q.Secret = tok.ID, tok.Secret })
	if !errors.Is(err, opencmg.Forbidden) || !strings.Contains(err.Error(), "used up") {
		t.Errorf("used up: %v", err)
	}
}

// TestOnlyTheSiteServer has another host of the site pass itself off as the
// site: it has a certificate of the site CA, and not that identity.
func TestOnlyTheSiteServer(t *testing.T) {
	s := newSite(t)
	pair, err := s.CA.IssueKeyPair(pki.Template{CommonName: "gateway", URIs: []string{opencmg.GatewayInstanceURI(site, "gw", 0)}, DNSNames: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}, Server: true}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s.Stop()
	s.UseCertificate(pair)
	s.Move()
	s.Start()
	for _, cfg := range []adminservice.SystemConfig{{SiteCA: s.CA.Certificate()}, {SiteCAThumbprint: pki.Thumbprint(s.CA.Certificate())}} {
		cfg.URL, cfg.Site = s.URL, site
		c, err := adminservice.NewSystemClient(cfg)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Join(t.Context(), adminservice.JoinRequest{})
		if err == nil || !strings.Contains(err.Error(), "for something else") {
			t.Errorf("%v", err)
		}
		c.Close()
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	s := newSite(t)
	pair, err := s.CA.IssueKeyPair(pki.Template{CommonName: "site", URIs: []string{opencmg.SiteServerURI(site)}, Server: true}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var respond func(http.ResponseWriter)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { respond(w) }))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	srv.StartTLS()
	defer srv.Close()
	c, err := adminservice.NewSystemClient(adminservice.SystemConfig{URL: srv.URL, Site: site, SiteCA: s.CA.Certificate()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, tt := range []struct {
		name    string
		respond func(http.ResponseWriter)
		kind    opencmg.Kind
		text    string
	}{
		{"no JSON", func(w http.ResponseWriter) { w.Write([]byte("<html>")) }, opencmg.Invalid, "not what a site sends"},
		{"two values", func(w http.ResponseWriter) { w.Write([]byte("{}{}")) }, opencmg.Invalid, "not what a site sends"},
		{"redirect", func(w http.ResponseWriter) { w.Header().Set("Location", "https://127.0.0.1:1/"); w.WriteHeader(307) }, opencmg.Invalid, "307"},
		{"too many", func(w http.ResponseWriter) { w.WriteHeader(429) }, opencmg.Unavailable, "429"},
		{"error", func(w http.ResponseWriter) { w.WriteHeader(500) }, opencmg.Unavailable, "500"},
		{"timeout", func(w http.ResponseWriter) { w.WriteHeader(504) }, opencmg.Timeout, "504"},
		{"large", func(w http.ResponseWriter) { w.Write(make([]byte, 2<<20)) }, opencmg.TooLarge, "larger than"},
		{"unasked 304", func(w http.ResponseWriter) { w.WriteHeader(304) }, opencmg.Invalid, "304"},
		{"problem", func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(409)
			w.Write([]byte(`{"detail":"taken","correlationId":"c1"}`))
		}, opencmg.Conflict, "409 Conflict: taken (correlation ID c1)"},
	} {
		respond = tt.respond
		_, err := c.Renew(t.Context(), adminservice.RenewRequest{})
		if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Renew(ctx, adminservice.RenewRequest{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestJoinToken(t *testing.T) {
	tok := adminservice.JoinToken{URL: "https://site.corp.example:8443", Site: site, SiteCA: strings.Repeat("ab", 32), ID: "id", Secret: "planted"}
	text := adminservice.EncodeJoinToken(tok)
	for _, s := range []string{text, "  " + text + "\r\n", text[:20] + "\n " + text[20:], text + "=="} {
		if got, err := adminservice.ParseJoinToken(s); err != nil || got != tok {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	change := func(f func(*adminservice.JoinToken)) string {
		t := tok
		f(&t)
		return adminservice.EncodeJoinToken(t)
	}
	for name, s := range map[string]string{
		"empty": " \n", "cut": text[:len(text)-5], "other alphabet": "+" + text, "JSON": `{"url":"planted"}`,
		"twice": text + text, "long": strings.Repeat("A", adminservice.MaxJoinToken+1),
		"no URL":         change(func(t *adminservice.JoinToken) { t.URL = "" }),
		"http":           change(func(t *adminservice.JoinToken) { t.URL = "http://site" }),
		"path":           change(func(t *adminservice.JoinToken) { t.URL += "/x" }),
		"credentials":    change(func(t *adminservice.JoinToken) { t.URL = "https://a:b@site" }),
		"no site":        change(func(t *adminservice.JoinToken) { t.Site = "LABOR" }),
		"pin in capital": change(func(t *adminservice.JoinToken) { t.SiteCA = strings.Repeat("AB", 32) }),
		"short pin":      change(func(t *adminservice.JoinToken) { t.SiteCA = "ab" }),
		"no ID":          change(func(t *adminservice.JoinToken) { t.ID = "" }),
		"no secret":      change(func(t *adminservice.JoinToken) { t.Secret = "" }),
	} {
		if _, err := adminservice.ParseJoinToken(s); err == nil || strings.Contains(err.Error(), "planted") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGatewayJoinToken(t *testing.T) {
	s := newSite(t)
	tok := s.GatewayToken("gw", "gw.example.com", "", 1)
	tok.HTTPSPort, tok.TunnelPort = 8443, 10140
	if got, err := adminservice.ParseGatewayJoinToken(adminservice.EncodeGatewayJoinToken(tok) + "\n"); err != nil || got != tok {
		t.Errorf("%v, %v", got, err)
	}
	for name, change := range map[string]func(*adminservice.GatewayJoinToken){
		"no gateway":      func(t *adminservice.GatewayJoinToken) { t.Gateway = "" },
		"no service name": func(t *adminservice.GatewayJoinToken) { t.ServiceName = "" },
		"no site":         func(t *adminservice.GatewayJoinToken) { t.Site = "" },
		"no CA":           func(t *adminservice.GatewayJoinToken) { t.SiteCA = "" },
		"damaged CA": func(t *adminservice.GatewayJoinToken) {
			t.SiteCA = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
		},
		"no ID":     func(t *adminservice.GatewayJoinToken) { t.ID = "" },
		"no secret": func(t *adminservice.GatewayJoinToken) { t.Secret = "" },
		"port":      func(t *adminservice.GatewayJoinToken) { t.TunnelPort = 70000 },
	} {
		bad := tok
		change(&bad)
		if _, err := adminservice.ParseGatewayJoinToken(adminservice.EncodeGatewayJoinToken(bad)); err == nil || strings.Contains(err.Error(), "planted") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := adminservice.ParseGatewayJoinToken("!"); err == nil {
		t.Error("no token was taken")
	}
}

// TestJoinGateway passes a host's request on.
func TestJoinGateway(t *testing.T) {
	s := newSite(t)
	c := join(t, s, "cp1")
	tok := s.GatewayToken("gw", "gw.example.com", "192.0.2.1", 1)
	exporter := bytes.Repeat([]byte{7}, 32)
	ask := func(request string, change func(*adminservice.GatewayJoinRequest)) *adminservice.GatewayJoinReply {
		t.Helper()
		mac := opencmg.GatewayJoinMAC(opencmg.GatewayJoinKey(tok.Secret), exporter, "gw", tok.ID, request)
		q := adminservice.GatewayJoinRequest{Gateway: "gw", Exporter: exporter, Address: "192.0.2.1:443",
			GatewayJoinProof: opencmg.GatewayJoinProof{TokenID: tok.ID, Request: request, Proof: base64.RawURLEncoding.EncodeToString(mac)}}
		if change != nil {
			change(&q)
		}
		reply, err := c.JoinGateway(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	_, csr := newRequest(t)
	for want, change := range map[string]func(*adminservice.GatewayJoinRequest){
		"not known":           func(q *adminservice.GatewayJoinRequest) { q.Exporter = make([]byte, 32) },
		"not for a host":      func(q *adminservice.GatewayJoinRequest) { q.Address = "192.0.2.2:443" },
		"join token is not k": func(q *adminservice.GatewayJoinRequest) { q.Gateway = "other" },
	} {
		if reply := ask(csr, change); !strings.Contains(reply.Refused, want) {
			t.Errorf("got %+v, want a refusal with %q", reply, want)
		}
	}
	// Asking again for the same key costs nothing; another key is one too many.
	for range 2 {
		if reply := ask(csr, nil); reply.Refused != "" || reply.Instance != 0 || reply.Certificate == "" {
			t.Errorf("reply: %+v", reply)
		}
	}
	_, other := newRequest(t)
	if reply := ask(other, nil); !strings.Contains(reply.Refused, "used up") {
		t.Errorf("reply: %+v", reply)
	}
}

func TestSecretsAreHidden(t *testing.T) {
	const planted = "planted"
	for _, v := range []any{
		adminservice.JoinToken{ID: "i", Secret: planted}, &adminservice.JoinToken{Secret: planted},
		adminservice.GatewayJoinToken{Secret: planted}, &adminservice.GatewayJoinToken{Secret: planted},
		adminservice.JoinRequest{Secret: planted}, &adminservice.JoinRequest{Secret: planted},
		adminservice.TokenSigning{Key: planted}, &adminservice.TokenSigning{Key: planted},
		adminservice.Documents{TokenSigning: &adminservice.TokenSigning{Key: planted}},
	} {
		var b strings.Builder
		slog.New(slog.NewTextHandler(&b, nil)).Info("x", "v", v)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			fmt.Fprintf(&b, verb, v)
		}
		if strings.Contains(b.String(), planted) {
			t.Errorf("%T: %s", v, b.String())
		}
	}
}

func FuzzParseGatewayJoinToken(f *testing.F) {
	f.Add(adminservice.EncodeGatewayJoinToken(adminservice.GatewayJoinToken{Gateway: "g", ServiceName: "s", Site: site, ID: "i", Secret: "s"}))
	f.Add("e30")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := adminservice.ParseGatewayJoinToken(s)
		if err != nil {
			return
		}
		if again, err := adminservice.ParseGatewayJoinToken(adminservice.EncodeGatewayJoinToken(tok)); err != nil || again != tok {
			t.Errorf("%v became %v, %v", tok, again, err)
		}
	})
}

func FuzzParseJoinToken(f *testing.F) {
	f.Add(adminservice.EncodeJoinToken(adminservice.JoinToken{URL: "https://s", Site: site, SiteCA: strings.Repeat("ab", 32), ID: "id", Secret: "s"}))
	f.Add("e30")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := adminservice.ParseJoinToken(s)
		if err != nil {
			return
		}
		again, err := adminservice.ParseJoinToken(adminservice.EncodeJoinToken(tok))
		if err != nil || again != tok {
			t.Errorf("%v became %v, %v", tok, again, err)
		}
	})
}
