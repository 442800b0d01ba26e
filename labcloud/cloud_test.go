package labcloud_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencmg/opencmg/labcloud"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

const (
	subscription = "cccccccc-0000-0000-0000-000000000003"
	adminApp     = "dddddddd-0000-0000-0000-000000000004"
	adminAppKey  = "the administrator's secret"
	publicApp    = "dddddddd-0000-0000-0000-000000000005"
	alice        = "eeeeeeee-0000-0000-0000-000000000006"
)

// A cloud is a running stand-in under the lab's host names.
type cloud struct {
	*labcloud.Server
	t     *testing.T
	hosts labcloud.Hosts
	addr  string
	http  *http.Client
	log   *logBuffer
	stop  func()

	mu     sync.Mutex
	tokens map[string]string
}

// A logBuffer collects a log that several goroutines write.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func baseConfig() labcloud.Config {
	return labcloud.Config{
		Hosts:         labcloud.LabHosts(),
		Tenants:       []labcloud.Tenant{{ID: tenant, Name: "Contoso", Domain: "contoso.example"}, {ID: other, Name: "Other"}},
		Subscriptions: []labcloud.Subscription{{ID: subscription, Tenant: tenant, Name: "Lab"}},
		Apps: []labcloud.App{
			{Tenant: tenant, ID: adminApp, Name: "Administrator", Secret: adminAppKey, GraphRoles: []string{"Application.ReadWrite.All", "Directory.Read.All", "AppRoleAssignment.ReadWrite.All", "DelegatedPermissionGrant.ReadWrite.All"}},
			{Tenant: tenant, ID: publicApp, Name: "Sign-in", Public: true},
		},
		Users:         []labcloud.User{{Tenant: tenant, ID: alice, UPN: "alice@contoso.example", DisplayName: "Alice"}},
		AdminSecret:   admin,
		RetryAfter:    time.Millisecond,
		ProbeInterval: 20 * time.Millisecond,
	}
}

// newCloud starts a stand-in; change may be nil.
func newCloud(t *testing.T, change func(*labcloud.Config)) *cloud {
	t.Helper()
	cfg := baseConfig()
	c := &cloud{t: t, hosts: cfg.Hosts, log: &logBuffer{}, tokens: map[string]string{}}
	cfg.Observe = schemas(t)
	cfg.Log = slog.New(slog.NewTextHandler(c.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.log.String())
		}
	})
	if change != nil {
		change(&cfg)
	}
	c.hosts = cfg.Hosts
	cert, pool := hostCertificate(t, c.hosts)
	cfg.Certificate = cert
	s, err := labcloud.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.Server = s
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, c.addr)
	}}
	c.http = &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	c.stop = sync.OnceFunc(func() {
		tr.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(c.stop)
	return c
}

func hostCertificate(t *testing.T, h labcloud.Hosts) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{h.Login, h.ARM, h.Graph, "*." + h.Vault, "*." + h.Blob}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// schemas holds every body that the stand-in accepts from these tests against
// the published schemas; bodies that are wrong on purpose are announced in
// wrongBodies.
func schemas(t *testing.T) func(kind string, body []byte) {
	dir := filepath.Join("..", "..", "shared", "spec", "arm-schemas")
	if _, err := os.Stat(dir); err != nil {
		return nil
	}
	c := jsonschema.NewCompiler()
	for name, file := range map[string]string{"strict.json": "strict/cmg-template.schema.json", "graph.json": "graph/graph-v1.0.schema.json"} {
		f, err := os.Open(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(f)
		f.Close()
		if err == nil {
			err = c.AddResource("https://schemas.example/"+name, v)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return func(kind string, body []byte) {
		ref := "https://schemas.example/strict.json"
		if word, isGraph := strings.CutPrefix(kind, "graph."); isGraph {
			ref = "https://schemas.example/graph.json#/definitions/request." + word
		} else if kind != "template" {
			return
		}
		if bytes.Contains(body, []byte("wrong")) {
			return
		}
		schema, err := c.Compile(ref)
		if err != nil {
			t.Errorf("schema of %s: %v", kind, err)
			return
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			return
		}
		if err := schema.Validate(v); err != nil {
			t.Errorf("%s does not fit the published schema: %v\n%s", kind, err, body)
		}
	}
}

// A answer is what a request got.
type answer struct {
	status int
	header http.Header
	body   map[string]any
	raw    []byte
}

func (a answer) code() string {
	e, _ := a.body["error"].(map[string]any)
	code, _ := e["code"].(string)
	return code
}

func (a answer) want(t *testing.T, status int, code string) answer {
	t.Helper()
	if a.status != status || code != "" && a.code() != code {
		t.Fatalf("got %d %s, want %d %s: %s", a.status, a.code(), status, code, a.raw)
	}
	return a
}

// do sends a request with a token, and a body unless it is nil.
func (c *cloud) do(method, u, token string, body any) answer {
	c.t.Helper()
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	default:
		j, err := json.Marshal(b)
		if err != nil {
			c.t.Fatal(err)
		}
		r = bytes.NewReader(j)
	}
	req, err := http.NewRequestWithContext(context.WithoutCancel(c.t.Context()), method, u, r)
	if err != nil {
		c.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	a.raw, _ = io.ReadAll(resp.Body)
	json.Unmarshal(a.raw, &a.body)
	return a
}

// signIn gets a token by client credentials.
func (c *cloud) signIn(app, secret, scope string) answer {
	c.t.Helper()
	return c.form("/"+tenant+"/oauth2/v2.0/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {app}, "client_secret": {secret}, "scope": {scope}})
}

func (c *cloud) form(path string, form url.Values) answer {
	c.t.Helper()
	resp, err := c.http.PostForm("https://"+c.hosts.Login+path, form)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	a.raw, _ = io.ReadAll(resp.Body)
	json.Unmarshal(a.raw, &a.body)
	return a
}

// token is the administrator's for a scope.
func (c *cloud) token(scope string) string {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tokens[scope] == "" {
		a := c.signIn(adminApp, adminAppKey, scope)
		a.want(c.t, 200, "")
		c.tokens[scope] = a.body["access_token"].(string)
	}
	return c.tokens[scope]
}

// arm calls Resource Manager; path begins at the subscription's content.
func (c *cloud) arm(method, path, version string, body any) answer {
	c.t.Helper()
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	return c.do(method, "https://"+c.hosts.ARM+"/subscriptions/"+subscription+path+sep+"api-version="+version, c.token(c.hosts.ARMAudiences[0]+"//.default"), body)
}

func (c *cloud) graph(method, path string, body any) answer {
	c.t.Helper()
	return c.do(method, "https://"+c.hosts.Graph+"/v1.0"+path, c.token("https://"+c.hosts.Graph+"/.default"), body)
}

// finish polls what a first answer points at, and checks that it took at
// least two polls.
func (c *cloud) finish(a answer) answer {
	c.t.Helper()
	if u := a.header.Get("Azure-AsyncOperation"); u != "" {
		for n := 1; ; n++ {
			p := c.do("GET", u, c.token(c.hosts.ARMAudiences[0]+"//.default"), nil).want(c.t, 200, "")
			if s := p.body["status"]; s == "Succeeded" || s == "Failed" {
				if n < 2 {
					c.t.Errorf("the operation ended with poll %d", n)
				}
				return p
			}
			if p.header.Get("Retry-After") == "" && p.header.Get("x-ms-retry-after-ms") == "" {
				c.t.Error("no word on when to poll again")
			}
		}
	}
	u := a.header.Get("Location")
	if u == "" {
		c.t.Fatalf("no operation to poll: %d %s", a.status, a.raw)
	}
	for n := 1; ; n++ {
		p := c.do("GET", u, c.token(c.hosts.ARMAudiences[0]+"//.default"), nil)
		if p.status != 202 {
			if n < 2 {
				c.t.Errorf("the operation ended with poll %d", n)
			}
			return p
		}
	}
}

func (c *cloud) admin(method, path string, body any) answer {
	c.t.Helper()
	return c.do(method, "https://"+c.addr+path, admin, body)
}

func (c *cloud) fault(f labcloud.Fault) {
	c.t.Helper()
	c.admin("POST", "/lab/fault", f).want(c.t, 200, "")
}

func (c *cloud) clear() {
	c.t.Helper()
	c.admin("DELETE", "/lab/fault", nil).want(c.t, 200, "")
}

func field(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

func contains(v any, want string) bool {
	b, _ := json.Marshal(v)
	return strings.Contains(string(b), want)
}

func names(v any, key string) []string {
	var out []string
	l, _ := v.([]any)
	for _, e := range l {
		s, _ := field(e, key).(string)
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
