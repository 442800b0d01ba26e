package declared_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/adminservice/declared"
	"github.com/opencmg/opencmg/azure"
	"github.com/opencmg/opencmg/internal/outbound"
	"github.com/opencmg/opencmg/labcloud"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/site"
	"github.com/opencmg/opencmg/sitedb"
)

const (
	tenantID       = "6f3b5a0e-8d2c-4c57-9a41-2d1f0e9b7c11"
	subscriptionID = "9a41c7d2-0b63-4f18-8e2d-57c3a1f0b6e4"
	deployerID     = "0b9de3c4-5f0e-4b7f-8d5e-0f6a1c2d3e4f"
	deployerSecret = "planted-secret-of-the-deployer"
	clientAppID    = "5d1f0e9b-7c11-4c57-9a41-2d6f3b5a0e8d"
	serviceName    = "granitefalls.corp.example"
)

// A cloud is a stand-in for Azure that sites deploy to.
type cloud struct {
	t    *testing.T
	ca   *pki.Authority
	http *http.Client
	dir  string // of files that documents name
	lab  *labcloud.Server

	mu       sync.Mutex // guards machines
	machines []*machine
}

// A machine is healthy from its start.
type machine struct {
	ln   net.Listener
	done chan struct{}
	once sync.Once
}

func (m *machine) PID() int { return os.Getpid() }

func (m *machine) Kill() error {
	m.once.Do(func() {
		m.ln.Close()
		close(m.done)
	})
	return nil
}

func (m *machine) Done() <-chan struct{} { return m.done }

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	now := time.Now()
	c := &cloud{t: t, ca: must(pki.NewAuthority("Test CA", now))(t), dir: t.TempDir()}
	h := labcloud.LabHosts()
	cert := must(c.ca.IssueKeyPair(pki.Template{CommonName: h.Login, Server: true, DNSNames: []string{h.Login, h.ARM, h.Graph, "*." + h.Vault, "*." + h.Blob}}, now))(t)
	lab := must(labcloud.New(labcloud.Config{
		Hosts: h, Certificate: cert, Tenants: []labcloud.Tenant{{ID: tenantID, Name: "Fourth Coffee"}},
		Subscriptions: []labcloud.Subscription{{ID: subscriptionID, Tenant: tenantID, Name: "Lab"}},
		Apps:          []labcloud.App{{Tenant: tenantID, ID: deployerID, Name: "deployer", Secret: deployerSecret}},
		StateDir:      t.TempDir(), RetryAfter: time.Millisecond, ProbeInterval: 5 * time.Millisecond,
		StartMachine: func(spec labcloud.MachineSpec) (labcloud.MachineProcess, error) {
			ln, err := net.Listen("tcp", spec.Ports[azure.HealthPort])
			if err != nil {
				return nil, err
			}
			m := &machine{ln: ln, done: make(chan struct{})}
			go http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }))
			c.mu.Lock()
			defer c.mu.Unlock()
			c.machines = append(c.machines, m)
			return m, nil
		},
	}))(t)
	c.lab = lab
	ln := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- lab.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		<-served
		for _, m := range c.machines {
			m.Kill()
		}
	})
	out := outbound.Config{CAPEM: string(c.ca.CertificatePEM()), ConnectOnly: true}
	for _, host := range []string{h.Login, h.ARM, h.Graph, "granitefalls." + h.Vault, "granitefalls." + h.Blob, "second." + h.Vault, "second." + h.Blob} {
		out.ConnectTo = append(out.ConnectTo, host+":443:"+ln.Addr().String())
	}
	c.http = must(out.Client("", time.Minute, nil))(t)
	return c
}

// A rig is a site over real TLS.
type rig struct {
	*cloud
	code opencmg.SiteCode
	c    *adminservice.Client
	s    *site.Server
	stop func()

	mu     sync.Mutex // guards onStep
	onStep func(step string)
}

func (r *rig) atStep(f func(step string)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.onStep = f
}

func (c *cloud) newSite(code opencmg.SiteCode) *rig {
	t := c.t
	t.Helper()
	r := &rig{cloud: c, code: code}
	dir := t.TempDir()
	db := must(sitedb.Open(t.Context(), sitedb.Config{Path: filepath.Join(dir, "site.db"), KeyFile: filepath.Join(dir, "site.key")}))(t)
	program := "a gateway program"
	sum := sha256.Sum256([]byte(program))
	client := func(in site.CloudSignIn) (*azure.Client, error) {
		return azure.New(azure.Config{Environment: in.Environment, TenantID: in.TenantID, SubscriptionID: in.SubscriptionID,
			Credential: azure.Credential{ClientID: in.ClientID, Secret: azure.Secret(in.Secret), CertificatePEM: in.CertificatePEM}, HTTP: c.http, PollFrequency: time.Millisecond})
	}
	r.s = must(site.New(t.Context(), site.Config{
		DB: db, Site: code, URL: "https://127.0.0.1", Addresses: []string{"127.0.0.1"}, Environments: []opencmg.Environment{opencmg.AzureLab}, HTTP: c.http,
		Cloud:     func(in site.CloudSignIn) (site.Cloud, error) { return client(in) },
		Directory: func(in site.CloudSignIn) (site.Directory, error) { return client(in) },
		Program: &site.Program{Name: "opencmg-test", Size: int64(len(program)), SHA256: hex.EncodeToString(sum[:]), Open: func() (io.ReadSeekCloser, error) {
			return struct {
				io.ReadSeeker
				io.Closer
			}{strings.NewReader(program), io.NopCloser(nil)}, nil
		}},
		Poll: 5 * time.Millisecond, OnStep: func(op, step string) {
			r.mu.Lock()
			f := r.onStep
			r.mu.Unlock()
			if f != nil {
				f(op + "." + step)
			}
		},
	}))(t)
	ln := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.s.Serve(ctx, ln) }()
	pool := x509.NewCertPool()
	pool.AddCert(r.s.SiteCA())
	r.c = &adminservice.Client{URL: "https://" + ln.Addr().String(), Token: adminservice.Secret(r.s.AdministratorToken), HTTP: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}}
	r.stop = sync.OnceFunc(func() {
		r.c.HTTP.CloseIdleConnections()
		cancel()
		<-done
		db.Close()
	})
	t.Cleanup(r.stop)
	return r
}

// do calls the administration service.
func do[T any](r *rig, method, path string, in any) T {
	r.t.Helper()
	var out T
	if err := r.c.Do(r.t.Context(), method, path, in, &out); err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	return out
}

// join makes a connection point or a management point of a site.
func (r *rig) join(kind, name string) {
	r.t.Helper()
	made := do[adminservice.JoinTokenRecord](r, "POST", "JoinTokens", adminservice.JoinTokenRecord{Kind: kind})
	token := must(adminservice.ParseJoinToken(made.Token))(r.t)
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(r.t)
	der := must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key))(r.t)
	c := must(adminservice.NewSystemClient(adminservice.SystemConfig{URL: r.c.URL, Site: token.Site, SiteCAThumbprint: token.SiteCA}))(r.t)
	defer c.Close()
	must(c.Join(r.t.Context(), adminservice.JoinRequest{ID: token.ID, Secret: token.Secret, Kind: kind, Name: name, Internal: "https://" + name + ".corp.example",
		Request: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))}))(r.t)
}

// write makes a file that a document may name.
func (c *cloud) write(name string, b []byte) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), b, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// pfx makes a server certificate with its password beside it.
func (c *cloud) pfx(file string, names ...string) {
	c.t.Helper()
	pair := must(c.ca.IssueKeyPair(pki.Template{CommonName: names[0], Server: true, DNSNames: names, Key: pki.RSA2048}, time.Now()))(c.t)
	c.write(file, must(pkcs12.Modern.Encode(pair.PrivateKey, pair.Leaf, []*x509.Certificate{c.ca.Certificate()}, "planted-password"))(c.t))
	c.write("password", []byte("planted-password\n"))
}

// root is the certificate of another authority, in PEM and as a block of YAML.
func (c *cloud) root(name string) (text, yaml, thumbprint string) {
	c.t.Helper()
	ca := must(pki.NewAuthority(name, time.Now()))(c.t)
	text = string(ca.CertificatePEM())
	return text, block(text), pki.Thumbprint(ca.Certificate())
}

func block(text string) string {
	return "|\n      " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n      ")
}

// issuer is another site's token-signing certificate.
func (c *cloud) issuer(name string) string {
	c.t.Helper()
	return string(pki.EncodeCertificates(must(pki.NewTokenSigningCertificate(name, time.Now()))(c.t).Leaf))
}

func (r *rig) export() string {
	r.t.Helper()
	return string(must(declared.Export(r.t.Context(), r.c))(r.t))
}

func (r *rig) plan(file string, options ...func(*declared.Options)) *declared.Plan {
	r.t.Helper()
	d, err := declared.Parse([]byte(file), "site.yaml")
	if err != nil {
		r.t.Fatalf("%v\n%s", err, file)
	}
	o := declared.Options{Dir: r.dir}
	for _, f := range options {
		f(&o)
	}
	return must(declared.Make(r.t.Context(), r.c, d, o))(r.t)
}

func prune(o *declared.Options) { o.Prune = true }

// lines are the changes of a plan, one on each line, without their texts.
func lines(p *declared.Plan) string {
	var out []string
	for _, c := range p.Changes {
		line := fmt.Sprintf("%s %s %s (%s)", c.Action, c.Kind, c.Name, c.Cost)
		if c.Action != declared.Create {
			for _, f := range c.Fields {
				line += fmt.Sprintf(" %s: %s -> %s", f.Name, f.Old, f.New)
			}
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

// apply does a plan, and returns what it did.
func (r *rig) apply(p *declared.Plan) string {
	r.t.Helper()
	var done []string
	if err := p.Apply(r.t.Context(), r.c, func(e declared.Event) {
		if e.State == declared.Done {
			done = append(done, fmt.Sprintf("%s %s %s", e.Change.Action, e.Change.Kind, e.Change.Name))
		}
	}); err != nil {
		r.t.Fatal(err)
	}
	return strings.Join(done, "\n")
}

// settled fails unless a file shows no change.
func (r *rig) settled(file string, options ...func(*declared.Options)) {
	r.t.Helper()
	if p := r.plan(file, options...); len(p.Pending())+len(p.Refusals()) > 0 {
		r.t.Errorf("there are changes:\n%s", lines(p))
	}
}

// audit are the texts of the status messages since the one with the ID, the
// oldest first, and the ID of the latest.
func (r *rig) audit(since int64) (list []string, latest int64) {
	r.t.Helper()
	all := do[adminservice.Page[adminservice.StatusMessage]](r, "GET", "StatusMessages", nil).Value
	latest = since
	for _, m := range slices.Backward(all) {
		if m.ID > since {
			list, latest = append(list, m.Text), m.ID
		}
	}
	return list, latest
}

// edit replaces texts in a file, each of which must be there once.
func edit(t *testing.T, file string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if n := strings.Count(file, pairs[i]); n != 1 {
			t.Fatalf("%q is there %d times in\n%s", pairs[i], n, file)
		}
		file = strings.Replace(file, pairs[i], pairs[i+1], 1)
	}
	return file
}

// jsonOf is for comparing what a site has.
func jsonOf(t *testing.T, v any) string {
	t.Helper()
	return string(must(json.Marshal(v))(t))
}
