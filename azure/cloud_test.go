package azure_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/azure"
)

const clientSecret = "planted~client~secret"

// A cloud is a TLS server that answers with written-down replies under the
// host names of an environment. A request for which there is no reply, or
// whose token is for another service, fails the test.
type cloud struct {
	t    *testing.T
	env  azure.Endpoints
	http *http.Client
	logs *lockedBuffer
	now  func() time.Time // of the clients

	mu       sync.Mutex
	replies  map[string]func(request) reply // "METHOD host/path", path in lower case
	prefixes map[string]func(request) reply // the same, by the path's beginning
	requests []request
	signIn   func(url.Values) reply // nil: everyone gets a token
}

type request struct {
	Method, Host, Path string
	Query              url.Values
	Header             http.Header
	Body               []byte
}

func (r request) key() string { return r.Method + " " + r.Host + strings.ToLower(r.Path) }

// json reads the body as an object.
func (r request) json(t *testing.T) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(r.Body, &v); err != nil {
		t.Fatalf("%s: body %q: %v", r.key(), r.Body, err)
	}
	return v
}

type reply struct {
	status int
	body   any // nil: none; string: as it is; else JSON
	header map[string]string
}

// The kinds of answer that occur most.
func ok(body any) reply { return reply{status: 200, body: body} }

func azError(status int, code, message string) reply {
	return reply{status: status, body: map[string]any{"error": map[string]any{"code": code, "message": message}}}
}

func notFound() reply { return azError(404, "ResourceNotFound", "The resource was not found.") }

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newCloud(t *testing.T, e opencmg.Environment) *cloud {
	t.Helper()
	env, err := azure.EndpointsOf(e)
	if err != nil {
		t.Fatal(err)
	}
	c := &cloud{t: t, env: env, logs: &lockedBuffer{}, replies: map[string]func(request) reply{}, prefixes: map[string]func(request) reply{}}
	names := []string{}
	for _, address := range []string{env.Authority, env.ResourceManager, env.Graph, "https://*." + env.VaultSuffix, "https://*." + env.BlobSuffix} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, u.Host)
	}
	cert, pool := certificate(t, names)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(c.serve))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, _ := net.SplitHostPort(address)
		for _, n := range names {
			if host == n || strings.HasPrefix(n, "*.") && strings.HasSuffix(host, n[1:]) {
				return (&net.Dialer{}).DialContext(ctx, network, srv.Listener.Addr().String())
			}
		}
		// The host guard: no request of an environment leaves for a name of
		// another.
		t.Errorf("a connection to %s is not of %s", address, e)
		return nil, fmt.Errorf("%s is not of %s", address, e)
	}
	transport := &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	c.http = &http.Client{Transport: transport}
	return c
}

func certificate(t *testing.T, names []string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: names, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// config is that of a client of the cloud, with a secret.
func (c *cloud) config() azure.Config {
	return azure.Config{
		Environment: c.env.Environment, TenantID: tenantID, SubscriptionID: subID,
		Credential:    azure.Credential{ClientID: clientID, Secret: clientSecret},
		HTTP:          c.http,
		Log:           slog.New(slog.NewTextHandler(c.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now:           c.now,
		PollFrequency: time.Millisecond,
	}
}

func (c *cloud) client() *azure.Client {
	c.t.Helper()
	client, err := azure.New(c.config())
	if err != nil {
		c.t.Fatal(err)
	}
	return client
}

// on registers a reply by function; host is the row's.
func (c *cloud) on(method, address string, f func(request) reply) {
	u, err := url.Parse(address)
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.replies[method+" "+u.Host+strings.ToLower(u.Path)] = f
}

// arm registers replies below Resource Manager, one after the other; the last
// one stays.
func (c *cloud) arm(method, path string, replies ...reply) {
	c.on(method, c.env.ResourceManager+path, inTurn(replies))
}

// any registers a reply for all paths below Resource Manager that begin so.
func (c *cloud) any(method, path string, r reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.prefixes[method+" "+strings.TrimPrefix(c.env.ResourceManager, "https://")+strings.ToLower(path)] = func(request) reply { return r }
}

func (c *cloud) graph(method, path string, replies ...reply) {
	c.on(method, c.env.Graph+"/v1.0"+path, inTurn(replies))
}

func (c *cloud) vault(method, path string, replies ...reply) {
	c.on(method, c.env.VaultURL("granitefalls")+path, inTurn(replies))
}

func inTurn(replies []reply) func(request) reply {
	i := 0
	return func(request) reply {
		r := replies[min(i, len(replies)-1)]
		i++
		return r
	}
}

// sent lists the requests of a method and a path's end, in order.
func (c *cloud) sent(method, pathEnd string) []request {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []request
	for _, r := range c.requests {
		if r.Method == method && strings.HasSuffix(strings.ToLower(r.Path), strings.ToLower(pathEnd)) {
			found = append(found, r)
		}
	}
	return found
}

func (c *cloud) serve(w http.ResponseWriter, hr *http.Request) {
	body, err := io.ReadAll(hr.Body)
	if err != nil {
		c.t.Errorf("read a body: %v", err)
	}
	r := request{Method: hr.Method, Host: hr.Host, Path: hr.URL.Path, Query: hr.URL.Query(), Header: hr.Header, Body: body}
	c.mu.Lock()
	defer c.mu.Unlock()
	answer := c.answer(r)
	for k, v := range answer.header {
		w.Header().Set(k, v)
	}
	switch b := answer.body.(type) {
	case nil:
		w.WriteHeader(answer.status)
	case string:
		w.WriteHeader(answer.status)
		io.WriteString(w, b)
	default:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(answer.status)
		if err := json.NewEncoder(w).Encode(b); err != nil {
			c.t.Errorf("encode an answer: %v", err)
		}
	}
}

func (c *cloud) answer(r request) reply {
	host := "https://" + r.Host
	if host+"/" == c.env.Authority {
		return c.authority(r)
	}
	audience := ""
	switch {
	case host == c.env.ResourceManager:
		audience = c.env.Audience + "/.default"
		if r.Query.Get("api-version") == "" {
			c.t.Errorf("%s has no api-version", r.key())
		}
	case host == c.env.Graph:
		audience = c.env.Graph + "/.default"
	case strings.HasSuffix(r.Host, c.env.VaultSuffix):
		audience = c.env.VaultAudience + "/.default"
		if r.Header.Get("Authorization") == "" {
			return reply{status: 401, header: map[string]string{"WWW-Authenticate": fmt.Sprintf(`Bearer authorization="%s%s", resource="%s"`, c.env.Authority, tenantID, c.env.VaultAudience)}}
		}
	}
	if audience != "" && r.Header.Get("Authorization") != "Bearer "+fakeToken(audience) {
		c.t.Errorf("%s: the token is not for %s", r.key(), audience)
		return azError(401, "InvalidAuthenticationToken", "wrong audience")
	}
	c.requests = append(c.requests, r)
	f := c.replies[r.key()]
	for prefix, g := range c.prefixes {
		if f == nil && strings.HasPrefix(r.key(), prefix) {
			f = g
		}
	}
	if f == nil {
		c.t.Errorf("no reply for %s?%s", r.key(), r.Query.Encode())
		return notFound()
	}
	return f(r)
}

// authority answers what the identity library asks.
func (c *cloud) authority(r request) reply {
	base := strings.TrimSuffix(c.env.Authority, "/") + "/" + tenantID
	switch {
	case strings.HasSuffix(r.Path, "/.well-known/openid-configuration"):
		return ok(map[string]any{
			"issuer": base + "/v2.0", "token_endpoint": base + "/oauth2/v2.0/token", "authorization_endpoint": base + "/oauth2/v2.0/authorize",
			"device_authorization_endpoint": base + "/oauth2/v2.0/devicecode",
		})
	case strings.HasSuffix(r.Path, "/oauth2/v2.0/devicecode"):
		return ok(map[string]any{"device_code": "dev", "user_code": "ABC123", "verification_uri": "https://device.example", "expires_in": 900, "interval": 1, "message": "enter the code"})
	case strings.HasSuffix(r.Path, "/oauth2/v2.0/token"):
		form, err := url.ParseQuery(string(r.Body))
		if err != nil {
			c.t.Errorf("token request: %v", err)
		}
		if c.signIn != nil {
			if refused := c.signIn(form); refused.status != 0 {
				return refused
			}
		}
		scope := ""
		for _, s := range strings.Fields(form.Get("scope")) {
			if strings.Contains(s, "://") {
				scope = s
			}
		}
		return ok(map[string]any{"token_type": "Bearer", "expires_in": 3600, "access_token": fakeToken(scope)})
	}
	c.t.Errorf("no reply for %s", r.key())
	return notFound()
}

// fakeToken looks like a token of the client for a scope.
func fakeToken(scope string) string {
	claims, _ := json.Marshal(map[string]string{"aud": scope, "tid": tenantID, "appid": clientID})
	return "e30." + base64.RawURLEncoding.EncodeToString(claims) + ".c2ln"
}

func sub(path string) string { return "/subscriptions/" + subID + path }

func group(path string) string { return sub("/resourceGroups/rg-cmg" + path) }

// lro is the answer that starts an operation at path.
func (c *cloud) lro(status int, path string, body any) reply {
	return reply{status: status, body: body, header: map[string]string{"Azure-AsyncOperation": c.env.ResourceManager + path + "?api-version=2024-07-01&t=1&c=signed"}}
}
