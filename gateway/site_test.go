package gateway_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/gateway"
	"github.com/opencmg/opencmg/internal/web"
	"github.com/opencmg/opencmg/pki"
)

const (
	testSite    = opencmg.SiteCode("LAB")
	testGateway = "cmg"
	testName    = "gw.example"
	mpID        = "72057594037927941"
	hierarchy   = "6F3B9C1E-6A0B-4C55-9D1B-0D7E2A9C1F11"
	clientID    = opencmg.ClientID("GUID:0F1E2D3C-4B5A-6978-8796-A5B4C3D2E1F0")
	tenantID    = "11111111-2222-3333-4444-555555555555"
)

// keys are made once: RSA takes its time.
var keys = sync.OnceValue(func() (k struct {
	siteCA, webCA, clientCA *pki.Authority
	config                  tls.Certificate
	signer                  *pki.TokenSigner
	device                  tls.Certificate
}) {
	now := time.Now()
	var err error
	must := func() {
		if err != nil {
			panic(err)
		}
	}
	k.siteCA, err = pki.NewAuthority("Site LAB", now)
	must()
	k.webCA, err = pki.NewAuthority("Web CA", now)
	must()
	k.clientCA, err = pki.NewAuthority("Client CA", now)
	must()
	k.config, err = k.siteCA.IssueKeyPair(pki.Template{CommonName: "configuration", URIs: []string{opencmg.ConfigurationSigningURI(testSite)}}, now)
	must()
	tc, err := pki.NewTokenSigningCertificate("tokens", now)
	must()
	leaf, err := x509.ParseCertificate(tc.Certificate[0])
	must()
	k.signer, err = pki.NewTokenSigner(tc.PrivateKey.(*rsa.PrivateKey), leaf, "", "", hierarchy)
	must()
	k.device, err = pki.NewSelfSigned("device", now)
	must()
	return k
})

func issue(t testing.TB, a *pki.Authority, tmpl pki.Template) tls.Certificate {
	t.Helper()
	c, err := a.IssueKeyPair(tmpl, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func leafOf(t testing.TB, c tls.Certificate) *x509.Certificate {
	t.Helper()
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func serverCertificate(t testing.TB, name string) *tls.Certificate {
	c := issue(t, keys().webCA, pki.Template{CommonName: name, DNSNames: []string{name}, Server: true})
	c.Leaf = leafOf(t, c)
	return &c
}

// configuration publishes a management point and two services.
func configuration(version uint64) *opencmg.PublishedConfiguration {
	k := keys()
	all := []string{"GET", "HEAD", "POST"}
	return &opencmg.PublishedConfiguration{
		Version: version, Issued: time.Now(), Gateway: testGateway, Site: testSite, ServiceName: testName, Instances: 1,
		Roles: []opencmg.PublishedRole{
			{ID: mpID, Site: testSite, Kind: opencmg.KindManagementPoint, Name: "mp1", Endpoints: opencmg.ManagementPointEndpoints()},
			{ID: "9", Site: testSite, Kind: opencmg.KindService, Name: "wiki", Prefix: "/wiki/", Endpoints: []opencmg.Endpoint{
				{Name: "wiki", Path: "", Auth: []opencmg.AuthMode{opencmg.AuthNone}, Methods: all, MaxContentLength: 1 << 30},
				{Name: "small", Path: "small", Auth: []opencmg.AuthMode{opencmg.AuthNone}, Methods: all, MaxContentLength: 100},
				{Name: "held", Path: "held", Auth: []opencmg.AuthMode{opencmg.AuthNone}, Methods: all, MaxContentLength: 1 << 20, Hold: true},
				{Name: "slow", Path: "slow", Auth: []opencmg.AuthMode{opencmg.AuthNone}, Methods: all, ResponseTimeout: 7},
			}},
			{ID: "10", Site: testSite, Kind: opencmg.KindService, Name: "shared", Prefix: "/Team/Shared/", Endpoints: []opencmg.Endpoint{
				{Name: "docs", Path: "docs", Auth: []opencmg.AuthMode{opencmg.AuthPKI, opencmg.AuthClientToken}, Methods: []string{"GET"}},
			}},
		},
		ConnectionPoints: []opencmg.RegisteredConnectionPoint{
			{Name: "cp1", ConnectionID: "id-1", Site: testSite},
			{Name: "cp2", ConnectionID: "id-2", Site: testSite},
		},
		Certificates: opencmg.CertificateSettings{Roots: []string{string(k.clientCA.CertificatePEM())}},
		TokenIssuers: []opencmg.TokenIssuer{k.signer.TokenIssuer()},
		Tenants: []opencmg.Tenant{
			{ID: tenantID, ClientAppID: "app", ResourceURI: "api://lab", Issuers: []string{"https://login.invalid/" + tenantID}, Authority: "https://login.invalid/" + tenantID},
			{ID: "99999999-2222-3333-4444-555555555555", Disabled: true},
		},
	}
}

func signed(t testing.TB, c *opencmg.PublishedConfiguration) []byte {
	t.Helper()
	jws, err := pki.SignConfiguration(c, keys().config)
	if err != nil {
		t.Fatal(err)
	}
	return jws
}

// A testInstance is a running gateway instance.
type testInstance struct {
	t        testing.TB
	s        *gateway.Server
	addr     string // of HTTPS
	tunnel   string // of TCP-TLS
	private  string
	plain    string // plain HTTP
	stateDir string
	stop     func() // ends it and waits
	logs     *logBuffer
	cert     func(*tls.Certificate) // swaps the server certificate
	registry *prometheus.Registry
	outside  atomic.Pointer[opencmg.ProbeReport] // what it finds there
}

type instanceOptions struct {
	config   *opencmg.PublishedConfiguration // kept from the last run; nil: none
	kept     []byte                          // the same as bytes
	network  string                          // tcp4 (default) or tcp6
	quiet    bool
	stateDir string
	// tunnelWait is Config.TunnelWait; zero does not wait at all.
	tunnelWait time.Duration
	logs       *web.LogTail
	// drainSettle is Config.DrainSettle.
	drainSettle time.Duration
}

func startInstance(t testing.TB, o instanceOptions) *testInstance {
	t.Helper()
	in := &testInstance{t: t, stateDir: o.stateDir, logs: &logBuffer{}, registry: prometheus.NewRegistry()}
	if in.stateDir == "" {
		in.stateDir = t.TempDir()
	}
	if o.config != nil {
		o.kept = signed(t, o.config)
	}
	if o.kept != nil {
		if err := os.WriteFile(filepath.Join(in.stateDir, "published-configuration.jws"), o.kept, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var cert struct {
		sync.Mutex
		c *tls.Certificate
	}
	in.cert = func(c *tls.Certificate) {
		cert.Lock()
		defer cert.Unlock()
		cert.c = c
	}
	in.cert(serverCertificate(t, testName))
	level := slog.LevelDebug
	if o.quiet {
		level = slog.LevelError
	}
	s, err := gateway.New(gateway.Config{
		Gateway: testGateway, ServiceName: testName, Instance: 0, Site: testSite, SiteCA: keys().siteCA.Certificate(),
		TunnelCertificate: issue(t, keys().siteCA, pki.Template{CommonName: "instance 0", URIs: []string{opencmg.GatewayInstanceURI(testSite, testGateway, 0)}, Server: true}),
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert.Lock()
			defer cert.Unlock()
			return cert.c, nil
		},
		StateDir: in.stateDir, DrainTimeout: 3 * time.Second, TunnelWait: cmp.Or(o.tunnelWait, -1), Registry: in.registry,
		Log:     slog.New(slog.NewTextHandler(in.logs, &slog.HandlerOptions{Level: level})),
		Version: "test 1", Logs: o.logs, DrainSettle: o.drainSettle, Outside: in.outside.Load,
	})
	if err != nil {
		t.Fatal(err)
	}
	in.s = s
	listen := func(network, addr string) net.Listener {
		ln, err := net.Listen(network, addr)
		if err != nil {
			t.Skipf("no %s here: %v", network, err)
		}
		return ln
	}
	network, host := "tcp4", "127.0.0.1:0"
	if o.network == "tcp6" {
		network, host = "tcp6", "[::1]:0"
	}
	l := gateway.Listeners{HTTPS: listen(network, host), TunnelTCP: listen("tcp4", "127.0.0.1:0"), Private: listen("tcp4", "127.0.0.1:0"), HTTP: listen("tcp4", "127.0.0.1:0")}
	in.addr, in.tunnel, in.private = l.HTTPS.Addr().String(), l.TunnelTCP.Addr().String(), l.Private.Addr().String()
	in.plain = l.HTTP.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	in.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(func() {
		in.stop()
		if t.Failed() {
			t.Logf("log:\n%s", in.logs.tail())
		}
	})
	return in
}

// logBuffer collects a log.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b.Len() > 1<<20 {
		l.b.Reset()
	}
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) tail() string {
	s := l.String()
	return s[max(0, len(s)-8000):]
}

func clientTLS(certs ...tls.Certificate) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(keys().webCA.Certificate())
	return &tls.Config{RootCAs: roots, ServerName: testName, Certificates: certs}
}

// A rawClient is one HTTP/1.1 connection that sends what a test wants.
type rawClient struct {
	t testing.TB
	*tls.Conn
	r *bufio.Reader
}

func (in *testInstance) dial(cfg *tls.Config) *rawClient {
	in.t.Helper()
	raw, err := net.Dial("tcp", in.addr)
	if err != nil {
		in.t.Fatal(err)
	}
	c := tls.Client(raw, cfg)
	if err := c.Handshake(); err != nil {
		in.t.Fatal(err)
	}
	in.t.Cleanup(func() { c.Close() })
	return &rawClient{in.t, c, bufio.NewReader(c)}
}

func (c *rawClient) send(s string) *rawClient {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, s); err != nil {
		c.t.Fatalf("send: %v", err)
	}
	return c
}

// answer reads one response with its body. method is that of the request.
func (c *rawClient) answer(method string) *http.Response {
	c.t.Helper()
	res, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("read response: %v", err)
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatalf("read body: %v", err)
	}
	res.Body = io.NopCloser(bytes.NewReader(b))
	return res
}

func text(res *http.Response) string {
	b, _ := io.ReadAll(res.Body)
	return string(b)
}

// closed reports whether the server ended the connection.
func (c *rawClient) closed() bool {
	_, err := c.r.ReadByte()
	return err != nil
}

// reason is the reason phrase of a response.
func reason(res *http.Response) string {
	_, r, _ := strings.Cut(res.Status, " ")
	return r
}

func clientToken(t testing.TB, cert tls.Certificate) pki.Token {
	t.Helper()
	tok, err := keys().signer.Client(clientID, pki.Thumbprint(leafOf(t, cert)), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// noLeaks fails the test when goroutines of this package outlive it.
func noLeaks(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		deadline := time.Now().Add(5 * time.Second)
		for {
			buf := make([]byte, 1<<20)
			buf = buf[:runtime.Stack(buf, true)]
			var left []string
			for _, g := range strings.Split(string(buf), "\n\n") {
				if strings.Contains(g, "opencmg/gateway.") || strings.Contains(g, "opencmg/tunnel.") {
					left = append(left, g)
				}
			}
			if len(left) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("%d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
				return
			}
			runtime.Gosched()
		}
	})
}
