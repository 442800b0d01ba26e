package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/gateway"
	"github.com/opencmg/opencmg/internal/pebbletest"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/tunnel"
)

const thumbprint43 = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ"

// TestCertificateByACME obtains and renews a certificate with both kinds of
// challenge, from a real ACME server through a real instance, which swaps it
// while a client's connection stays up.
func TestCertificateByACME(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1)})
	point := in.connect("id-1", echo)
	pebble := pebbletest.Start(t, pebbletest.Options{HTTPAddr: in.plain, TLSAddr: in.addr})
	account, err := pki.NewAccountKey()
	if err != nil {
		t.Fatal(err)
	}
	version := uint64(1)
	publish := func(list []opencmg.ACMEChallenge) error {
		version++
		c := configuration(version)
		c.Challenges = list
		if a := point.control(opencmg.ControlConfiguration, signed(t, c)); a.Version != version {
			return errors.New(a.Error)
		}
		return nil
	}
	var kinds []string
	present := func(_ context.Context, list []opencmg.ACMEChallenge) (func(), error) {
		for _, ch := range list {
			kinds = append(kinds, ch.Type)
		}
		return func() { publish(nil) }, publish(list)
	}
	request := func(c *rawClient) {
		t.Helper()
		if res := c.send("GET /wiki/x HTTP/1.1\r\n" + hostField + "\r\n").answer("GET"); res.StatusCode != 200 {
			t.Errorf("got %s", res.Status)
		}
	}
	stays := in.dial(clientTLS())
	request(stays)
	seen := map[string]bool{}
	for _, prefer := range [][]string{
		{opencmg.ChallengeHTTP}, {opencmg.ChallengeHTTP},
		{opencmg.ChallengeTLSALPN}, {opencmg.ChallengeTLSALPN, opencmg.ChallengeHTTP}, nil,
	} {
		kinds = nil
		a := &pki.ACME{Directory: pebble.Directory, AccountKey: account, AcceptTerms: true, Prefer: prefer, HTTP: pebble.HTTP, Contact: []string{"mailto:pki@example.com"}}
		names := []string{testName, "www." + testName}
		cert, err := a.Obtain(t.Context(), names, pki.ECDSAP256, present)
		if err != nil {
			t.Fatalf("%v: %v", prefer, err)
		}
		want := opencmg.ChallengeTLSALPN
		if len(prefer) == 1 {
			want = prefer[0]
		}
		// Now and then Pebble reuses an authorization although it is told not
		// to; the first order has none to reuse.
		if slices.ContainsFunc(kinds, func(kind string) bool { return kind != want }) || len(seen) == 0 && len(kinds) != len(names) {
			t.Errorf("prefer %v: it used %v", prefer, kinds)
		}
		if seen[pki.Thumbprint(cert.Leaf)] {
			t.Error("the same certificate again")
		}
		seen[pki.Thumbprint(cert.Leaf)] = true
		in.cert(&cert)
		c := in.dial(&tls.Config{RootCAs: pebble.Roots, ServerName: testName})
		if !c.ConnectionState().PeerCertificates[0].Equal(cert.Leaf) {
			t.Error("a new connection got another certificate")
		}
		request(c)
		request(stays)
		if at := pki.RenewalTime(cert.Leaf); !at.After(time.Now()) || !at.Before(cert.Leaf.NotAfter) {
			t.Errorf("to be renewed at %v, valid until %v", at, cert.Leaf.NotAfter)
		}
	}
}

// TestRefusalsOfACME: what the authority says reaches the administrator.
func TestRefusalsOfACME(t *testing.T) {
	in := startInstance(t, instanceOptions{config: configuration(1)})
	pebble := pebbletest.Start(t, pebbletest.Options{HTTPAddr: in.plain, TLSAddr: in.addr})
	bound := pebbletest.Start(t, pebbletest.Options{HTTPAddr: in.plain, TLSAddr: in.addr, Bindings: map[string]string{"customer-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}})
	nobody := func(context.Context, []opencmg.ACMEChallenge) (func(), error) { return func() {}, nil }
	for name, tt := range map[string]struct {
		change  func(*pki.ACME)
		domain  string
		present pki.Present
		kind    opencmg.Kind
		want    []string
	}{
		"http-01 not answered":     {func(a *pki.ACME) { a.Prefer = []string{opencmg.ChallengeHTTP} }, testName, nobody, opencmg.Forbidden, []string{"could not verify gw.example by http-01", "unauthorized", "404", "port 80"}},
		"tls-alpn-01 not answered": {nil, testName, nobody, opencmg.Forbidden, []string{"could not verify gw.example by tls-alpn-01", "port 443"}},
		"blocked name":             {nil, pebbletest.Blocked, nobody, opencmg.Forbidden, []string{"order: the authority refused: rejectedIdentifier", pebbletest.Blocked}},
		"terms":                    {func(a *pki.ACME) { a.AcceptTerms = false }, testName, nobody, opencmg.Invalid, []string{"terms of service", "Do%20what%20thou%20wilt"}},
		"contact":                  {func(a *pki.ACME) { a.Contact = []string{"mailto:nobody"} }, testName, nobody, opencmg.Forbidden, []string{"account: the authority refused: invalidContact"}},
		"binding needed":           {func(a *pki.ACME) { a.Directory, a.HTTP = bound.Directory, bound.HTTP }, testName, nobody, opencmg.Invalid, []string{"external account binding"}},
		"wrong binding": {func(a *pki.ACME) {
			a.Directory, a.HTTP, a.EAB = bound.Directory, bound.HTTP, &pki.ACMEBinding{KeyID: "customer-1", Key: []byte("wrong")}
		}, testName, nobody, opencmg.Forbidden, []string{"account: the authority refused"}},
		"not in force": {nil, testName, func(context.Context, []opencmg.ACMEChallenge) (func(), error) {
			return nil, opencmg.Errorf(opencmg.Unavailable, "instance 3 does not answer")
		}, opencmg.Unavailable, []string{"put the challenges in force", "instance 3 does not answer"}},
	} {
		key, err := pki.NewAccountKey()
		if err != nil {
			t.Fatal(err)
		}
		a := &pki.ACME{Directory: pebble.Directory, AccountKey: key, AcceptTerms: true, HTTP: pebble.HTTP}
		if tt.change != nil {
			tt.change(a)
		}
		_, err = a.Obtain(t.Context(), []string{tt.domain}, pki.ECDSAP256, tt.present)
		if !errors.Is(err, tt.kind) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, w := range tt.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: nothing says %q: %v", name, w, err)
			}
		}
	}
	key, err := pki.NewAccountKey()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	a := &pki.ACME{Directory: pebble.Directory, AccountKey: key, AcceptTerms: true, HTTP: pebble.HTTP}
	_, err = a.Obtain(ctx, []string{testName}, pki.ECDSAP256, func(context.Context, []opencmg.ACMEChallenge) (func(), error) {
		cancel()
		return func() {}, nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

// TestPlainHTTP: the port for http-01 answers challenges and nothing else.
func TestPlainHTTP(t *testing.T) {
	noLeaks(t)
	c := configuration(1)
	c.Challenges = []opencmg.ACMEChallenge{
		{Type: opencmg.ChallengeHTTP, Domain: testName, Token: "token-1", KeyAuthorization: "token-1." + thumbprint43},
		{Type: opencmg.ChallengeTLSALPN, Domain: testName, Token: "token-2", KeyAuthorization: "token-2." + thumbprint43},
	}
	in := startInstance(t, instanceOptions{config: c})
	for _, tt := range []struct {
		request  string
		status   int
		body     string
		location string
	}{
		{"GET /.well-known/acme-challenge/token-1", 200, "token-1." + thumbprint43, ""},
		{"HEAD /.well-known/acme-challenge/token-1", 200, "", ""},
		{"GET /.well-known/acme-challenge/token-2", 404, "", ""},
		{"GET /.well-known/acme-challenge/", 404, "", ""},
		{"POST /.well-known/acme-challenge/token-1", 404, "", ""},
		{"GET /wiki/a%2Fb?c=d", 308, "", "https://gw.example/wiki/a%2Fb?c=d"},
		{"HEAD /", 308, "", "https://gw.example/"},
		{"GET http://evil.example/a", 308, "", "https://gw.example/a"},
		{"GET //evil.example/a", 308, "", "https://gw.example//evil.example/a"},
		{"POST /wiki/", 404, "", ""},
		{"CCM_POST /ccm_system/request", 404, "", ""},
		{"OPTIONS *", 404, "", ""},
	} {
		method, _, _ := strings.Cut(tt.request, " ")
		nc, err := net.Dial("tcp", in.plain)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(nc, tt.request+" HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(nc), &http.Request{Method: method})
		if err != nil {
			t.Fatalf("%s: %v", tt.request, err)
		}
		body, err := io.ReadAll(res.Body)
		nc.Close()
		if err != nil || res.StatusCode != tt.status || tt.body != "" && string(body) != tt.body || res.Header.Get("Location") != tt.location {
			t.Errorf("%s: %s, %q, %q, %v", tt.request, res.Status, body, res.Header.Get("Location"), err)
		}
	}
}

// TestPlainHTTPLimit: idle connections to the plain port do not use up this
// process.
func TestPlainHTTPLimit(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1), quiet: true})
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for range 256 {
		c, err := net.Dial("tcp", in.plain)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	c, err := net.Dial("tcp", in.plain)
	if err == nil {
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	if err == nil {
		t.Error("a connection above the limit was kept")
	}
}

// TestTLSALPNChallenge looks at the certificate as RFC 8737 wants it.
func TestTLSALPNChallenge(t *testing.T) {
	noLeaks(t)
	c := configuration(1)
	c.Challenges = []opencmg.ACMEChallenge{{Type: opencmg.ChallengeTLSALPN, Domain: "other.example", Token: "token", KeyAuthorization: "token." + thumbprint43}}
	in := startInstance(t, instanceOptions{config: c})
	dial := func(name string) (*tls.Conn, error) {
		return tls.Dial("tcp", in.addr, &tls.Config{InsecureSkipVerify: true, ServerName: name, NextProtos: []string{pki.ALPNChallenge}})
	}
	conn, err := dial("Other.Example")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cs := conn.ConnectionState()
	leaf := cs.PeerCertificates[0]
	if cs.NegotiatedProtocol != pki.ALPNChallenge || !slices.Equal(leaf.DNSNames, []string{"other.example"}) {
		t.Errorf("%s, %q", cs.NegotiatedProtocol, leaf.DNSNames)
	}
	if !slices.ContainsFunc(leaf.Extensions, func(e pkix.Extension) bool {
		return e.Id.String() == "1.3.6.1.5.5.7.1.31" && e.Critical && len(e.Value) == 34
	}) {
		t.Error("the extension acmeIdentifier is missing")
	}
	if leaf.VerifyHostname("other.example") != nil || leaf.IsCA {
		t.Error("the certificate is good for more than the challenge")
	}
	if n, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection went on: %d, %v", n, err)
	}
	if conn, err := dial(testName); err == nil {
		conn.Close()
		t.Error("a challenge for a name without one was answered")
	}
	eventually(t, "the connections are gone", func() bool { return in.s.Connections() == 0 })
}

func TestHealthy(t *testing.T) {
	told := make(chan uint64, 4)
	s, l := newServer(t, func(c *gateway.Config) {
		c.OnConfiguration = func(p *opencmg.PublishedConfiguration) { told <- p.Version }
	})
	if err := s.Healthy(); err == nil {
		t.Error("healthy before it serves")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	eventually(t, "healthy", func() bool { return s.Healthy() == nil })
	if err := s.Ready(); err == nil {
		t.Error("ready without a tunnel")
	}
	if v := <-told; v != 3 {
		t.Errorf("told of version %d", v)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := s.Healthy(); err == nil {
		t.Error("healthy after the end")
	}
	empty, _ := newServer(t, func(c *gateway.Config) {
		c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }
	})
	if err := empty.Healthy(); err == nil {
		t.Error("healthy without a certificate")
	}
}

// TestTunnelCertificateIsSwapped: a renewed certificate for tunnels is used
// without a restart.
func TestTunnelCertificateIsSwapped(t *testing.T) {
	noLeaks(t)
	identity := func() *tls.Certificate {
		c := issue(t, keys().siteCA, pki.Template{URIs: []string{opencmg.GatewayInstanceURI(testSite, testGateway, 0)}, Server: true})
		return &c
	}
	var current atomic.Pointer[tls.Certificate]
	current.Store(identity())
	s, l := newServer(t, func(c *gateway.Config) { c.GetTunnelCertificate = current.Load })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	in := &testInstance{t: t}
	for range 2 {
		cfg := in.pointTLS("id-1")
		cfg.NextProtos, cfg.ServerName = []string{tunnel.ALPNHTTPS}, testName
		c, err := tls.Dial("tcp", l.HTTPS.Addr().String(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.ConnectionState().PeerCertificates[0]; !got.Equal(leafOf(t, *current.Load())) {
			t.Error("another certificate than the current one")
		}
		c.Close()
		current.Store(identity())
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// newServer makes an instance that is not started, with the configuration 3 of
// the last run, and listeners for it.
func newServer(t *testing.T, change func(*gateway.Config)) (*gateway.Server, gateway.Listeners) {
	t.Helper()
	c := gateway.Config{
		Gateway: testGateway, ServiceName: testName, Site: testSite, SiteCA: keys().siteCA.Certificate(), StateDir: t.TempDir(),
		TunnelCertificate: issue(t, keys().siteCA, pki.Template{URIs: []string{opencmg.GatewayInstanceURI(testSite, testGateway, 0)}, Server: true}),
	}
	cert := serverCertificate(t, testName)
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }
	if err := os.WriteFile(filepath.Join(c.StateDir, "published-configuration.jws"), signed(t, configuration(3)), 0o600); err != nil {
		t.Fatal(err)
	}
	change(&c)
	s, err := gateway.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return s, gateway.Listeners{HTTPS: ln}
}
