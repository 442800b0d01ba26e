package site_test

import (
	"context"
	"crypto"
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
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/azure"
	"github.com/opencmg/opencmg/internal/outbound"
	"github.com/opencmg/opencmg/internal/probe"
	"github.com/opencmg/opencmg/labcloud"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/site"
	"github.com/opencmg/opencmg/sitedb"
)

// What the stand-in for Azure starts with.
const (
	tenantID       = "6f3b5a0e-8d2c-4c57-9a41-2d1f0e9b7c11"
	subscriptionID = "9a41c7d2-0b63-4f18-8e2d-57c3a1f0b6e4"
	deployerID     = "0b9de3c4-5f0e-4b7f-8d5e-0f6a1c2d3e4f"
	deployerSecret = "planted-secret-of-the-deployer"
	serviceName    = "granitefalls.corp.example"
)

// A rig is a site beside a stand-in for Azure, all over real TLS.
type rig struct {
	env     opencmg.Environment
	hosts   labcloud.Hosts
	t       testing.TB
	cloud   *labcloud.Server
	ca      *pki.Authority
	http    *http.Client
	dbFile  sitedb.Config
	db      *sitedb.DB
	s       *site.Server
	c       *adminservice.Client
	onStep  func(operation, step string)
	stop    context.CancelFunc
	done    chan error
	log     *lines
	program []byte
	signed  sharedKey
	later   atomic.Int64 // how far the clock was moved, in nanoseconds
	lab     func(*labcloud.Config)
	out     outbound.Config
	config  func(*site.Config)

	mu       sync.Mutex // guards what follows
	machines map[string]*machine
	alerts   []adminservice.Alert // that were sent on
}

// now is the clock of everything in the rig, see later.
func (r *rig) now() time.Time { return time.Now().Add(time.Duration(r.later.Load())) }

// sent returns the alerts that were sent on since the call before.
func (r *rig) sent() []adminservice.Alert {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.alerts
	r.alerts = nil
	return list
}

// A sharedKey lets the stand-in see the time as it is during requests that are
// signed with a storage account's key: the library that signs takes it from the
// system, and the stand-in refuses what is not of now.
type sharedKey struct {
	next    http.RoundTripper
	flights atomic.Int32
}

func (s *sharedKey) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasPrefix(r.Header.Get("Authorization"), "SharedKey ") {
		s.flights.Add(1)
		defer s.flights.Add(-1)
	}
	return s.next.RoundTrip(r)
}

// cloudNow is the clock of the stand-in.
func (r *rig) cloudNow() time.Time {
	if r.signed.flights.Load() > 0 {
		return time.Now()
	}
	return r.now()
}

// wait moves the clock.
func (r *rig) wait(d time.Duration) { r.later.Add(int64(d)) }

func (r *rig) notify(_ context.Context, a adminservice.Alert) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alerts = append(r.alerts, a)
	return nil
}

// nopCloser has nothing to close.
type nopCloser struct{ io.ReadSeeker }

func (nopCloser) Close() error { return nil }

// lines collects what is logged.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// A machine stands for a virtual machine: it is healthy from its start.
type machine struct {
	spec labcloud.MachineSpec
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

func (r *rig) startMachine(spec labcloud.MachineSpec) (labcloud.MachineProcess, error) {
	ln, err := net.Listen("tcp", spec.Ports[azure.HealthPort])
	if err != nil {
		return nil, err
	}
	m := &machine{spec: spec, ln: ln, done: make(chan struct{})}
	go http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.machines[spec.InstanceID] = m
	return m, nil
}

// newRig starts both, changed by the options.
func newRig(t testing.TB, options ...func(*rig)) *rig {
	t.Helper()
	r := &rig{t: t, env: opencmg.AzureLab, hosts: labcloud.LabHosts(), machines: map[string]*machine{}, log: &lines{}, program: []byte("a gateway program"), lab: func(*labcloud.Config) {}, config: func(*site.Config) {}}
	for _, o := range options {
		o(r)
	}
	now := time.Now()
	r.ca = must(pki.NewAuthority("Test CA", now))(t)
	h := r.hosts
	cert := must(r.ca.IssueKeyPair(pki.Template{CommonName: h.Login, Server: true, DNSNames: []string{h.Login, h.ARM, h.Graph, "*." + h.Vault, "*." + h.Blob}}, now))(t)
	lab := labcloud.Config{
		Hosts: h, Certificate: cert, Tenants: []labcloud.Tenant{{ID: tenantID, Name: "Fourth Coffee"}},
		Subscriptions: []labcloud.Subscription{{ID: subscriptionID, Tenant: tenantID, Name: "Lab"}},
		Apps:          []labcloud.App{{Tenant: tenantID, ID: deployerID, Name: "deployer", Secret: deployerSecret, GraphRoles: []string{"Application.ReadWrite.All", "Directory.Read.All", "AppRoleAssignment.ReadWrite.All", "DelegatedPermissionGrant.ReadWrite.All"}}},
		StateDir:      t.TempDir(), StartMachine: r.startMachine, RetryAfter: time.Millisecond, ProbeInterval: 5 * time.Millisecond, Now: r.cloudNow,
	}
	r.lab(&lab)
	var err error
	if r.cloud, err = labcloud.New(lab); err != nil {
		t.Fatal(err)
	}
	ln := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- r.cloud.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		<-served
	})
	// Everything that leaves goes to the stand-in; a name that nobody mapped
	// is refused.
	out := outbound.Config{CAPEM: string(r.ca.CertificatePEM()), ConnectOnly: true}
	for _, host := range []string{h.Login, h.ARM, h.Graph, "granitefalls." + h.Vault, "granitefalls." + h.Blob, "other." + h.Vault, "other." + h.Blob} {
		out.ConnectTo = append(out.ConnectTo, host+":443:"+ln.Addr().String())
	}
	r.out = out
	r.http = must(out.Client("", time.Minute, nil))(t)
	r.signed.next, r.http.Transport = r.http.Transport, &r.signed
	r.dbFile = newDatabase(t)
	r.dbFile.Now = r.now
	r.start()
	t.Cleanup(func() { r.crash() })
	return r
}

// The database of a site before its first start: only its token-signing key is
// there, which takes longer to make than all else. Every rig has a copy.
var seed struct {
	sync.Once
	database, key []byte
}

func newDatabase(t testing.TB) sitedb.Config {
	t.Helper()
	seed.Do(func() {
		c := databaseIn(t.TempDir())
		db := must(sitedb.Open(t.Context(), c))(t)
		pair := must(pki.NewTokenSigningCertificate("OpenCMG site LAB token signing", time.Now()))(t)
		text := must(pki.EncodeKeyPair(pair))(t)
		must("", db.Change(t.Context(), "prepare a site", func(tx *sitedb.Tx) error { return tx.PutSecret("site/token-signing", text) }))(t)
		db.Close() // all of it is in one file now
		seed.database, seed.key = must(os.ReadFile(c.Path))(t), must(os.ReadFile(c.KeyFile))(t)
	})
	c := databaseIn(t.TempDir())
	must("", os.WriteFile(c.Path, seed.database, 0o600))(t)
	must("", os.WriteFile(c.KeyFile, seed.key, 0o600))(t)
	return c
}

func databaseIn(dir string) sitedb.Config {
	return sitedb.Config{Path: filepath.Join(dir, "site.db"), KeyFile: filepath.Join(dir, "site.key")}
}

// start opens the database and serves the site.
func (r *rig) start() {
	t := r.t
	t.Helper()
	r.db = must(sitedb.Open(t.Context(), r.dbFile))(t)
	log := slog.New(slog.NewTextHandler(r.log, nil))
	digest := sha256.Sum256(r.program)
	sum := hex.EncodeToString(digest[:])
	client := func(in site.CloudSignIn) (*azure.Client, error) {
		cred := azure.Credential{ClientID: in.ClientID, Secret: azure.Secret(in.Secret), CertificatePEM: in.CertificatePEM}
		if in.FederatedFile != "" {
			cred.FederatedToken = func(context.Context) (string, error) {
				b, err := os.ReadFile(in.FederatedFile)
				return strings.TrimSpace(string(b)), err
			}
		}
		return azure.New(azure.Config{Environment: in.Environment, TenantID: in.TenantID, SubscriptionID: in.SubscriptionID,
			Credential: cred, HTTP: r.http, Log: log, PollFrequency: time.Millisecond, Now: r.now})
	}
	cfg := site.Config{
		DB: r.db, Site: "LAB", URL: "https://127.0.0.1", Addresses: []string{"127.0.0.1"}, Environments: []opencmg.Environment{r.env}, HTTP: r.http,
		Cloud:     func(in site.CloudSignIn) (site.Cloud, error) { return client(in) },
		Directory: func(in site.CloudSignIn) (site.Directory, error) { return client(in) },
		Program: &site.Program{Name: "opencmg-test", Size: int64(len(r.program)), SHA256: sum, Open: func() (io.ReadSeekCloser, error) {
			return nopCloser{strings.NewReader(string(r.program))}, nil
		}},
		Poll: 5 * time.Millisecond, OnStep: func(op, step string) {
			if f := r.onStep; f != nil {
				f(op, step)
			}
		},
		Probe: must(probe.New(probe.Config{Outbound: r.out, Now: r.now}))(t).Look,
		Log:   log, Version: "test", Configuration: []byte("site: LAB\n"), Now: r.now, Notify: []func(context.Context, adminservice.Alert) error{r.notify},
	}
	r.config(&cfg)
	r.s = must(site.New(t.Context(), cfg))(t)
	ln := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	ctx, cancel := context.WithCancel(context.Background())
	r.stop, r.done = cancel, make(chan error, 1)
	go func() { r.done <- r.s.Serve(ctx, ln) }()
	pool := x509.NewCertPool()
	pool.AddCert(r.s.SiteCA())
	token := adminservice.Secret(r.s.AdministratorToken)
	if r.c != nil {
		token = r.c.Token
	}
	r.c = &adminservice.Client{URL: "https://" + ln.Addr().String(), Token: token, HTTP: &http.Client{Transport: &contract{t: t, next: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Time: r.now}, ForceAttemptHTTP2: true}}}}
}

// crash ends the site in the middle of whatever it does.
func (r *rig) crash() {
	r.c.HTTP.CloseIdleConnections()
	r.stop()
	<-r.done
	r.db.Close()
}

// do calls the administration service, and fails the test on an error.
func do[T any](r *rig, method, path string, in any) T {
	r.t.Helper()
	var out T
	if err := r.c.Do(r.t.Context(), method, path, in, &out); err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	return out
}

// finish waits for an operation.
func (r *rig) finish(op adminservice.Operation) adminservice.Operation {
	r.t.Helper()
	done, err := r.c.Wait(r.t.Context(), op.ID, nil)
	if err != nil {
		r.t.Fatalf("%s: %v\n%s", op.Kind, err, r.describe(op.ID))
	}
	return done
}

// describe is the log of an operation.
func (r *rig) describe(id string) string {
	op, err := adminservice.Get[adminservice.Operation](r.t.Context(), r.c, "Operations/"+id)
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, l := range op.Log {
		fmt.Fprintf(&b, "  %s: %s\n", l.Step, l.Text)
	}
	return b.String()
}

// pfx is a server certificate as an administrator has it.
func (r *rig) pfx(password string, names ...string) []byte {
	r.t.Helper()
	return r.pfxUntil(time.Time{}, password, names...)
}

func (r *rig) pfxUntil(ends time.Time, password string, names ...string) []byte {
	r.t.Helper()
	pair := must(r.ca.IssueKeyPair(pki.Template{CommonName: names[0], Server: true, DNSNames: names, Key: pki.RSA2048, NotAfter: ends}, time.Now()))(r.t)
	return must(pkcs12.Modern.Encode(pair.PrivateKey, pair.Leaf, []*x509.Certificate{r.ca.Certificate()}, password))(r.t)
}

// azure signs in to the stand-in as a server app of the site.
func (r *rig) azure(app adminservice.Application) *azure.Client {
	r.t.Helper()
	secret := must(r.db.Secret(r.t.Context(), "application/"+app.ID))(r.t)
	return must(azure.New(azure.Config{Environment: r.env, TenantID: tenantID, SubscriptionID: subscriptionID,
		Credential: azure.Credential{ClientID: app.ClientID, Secret: azure.Secret(secret)}, HTTP: r.http, PollFrequency: time.Millisecond, Now: r.now}))(r.t)
}

// look does one of the site's regular duties now.
func (r *rig) look(duty string) {
	r.t.Helper()
	if err := r.s.Look(r.t.Context(), duty); err != nil {
		r.t.Fatal(err)
	}
}

// gateway returns the one gateway of the rig.
func (r *rig) gateway() adminservice.Gateway {
	r.t.Helper()
	return do[adminservice.Gateway](r, "GET", "Gateways/granitefalls", nil)
}

// messages are the texts of the status messages that hold a text, the latest
// first.
func (r *rig) messages(text string) []string {
	r.t.Helper()
	var list []string
	for _, m := range do[adminservice.Page[adminservice.StatusMessage]](r, "GET", "StatusMessages", nil).Value {
		if strings.Contains(m.Text, text) {
			list = append(list, m.Text)
		}
	}
	return list
}

// A point is a connection point of the site that has nothing behind it.
type point struct {
	r    *rig
	name string
	id   string
	cert tls.Certificate

	mu sync.Mutex // guards c
	c  *adminservice.SystemClient
}

// move follows the site to where it started again.
func (p *point) move() {
	p.r.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	c := must(adminservice.NewSystemClient(adminservice.SystemConfig{URL: p.r.c.URL, Site: "LAB", SiteCA: p.r.s.SiteCA(), Certificate: func() *tls.Certificate { return &p.cert }}))(p.r.t)
	p.r.t.Cleanup(c.Close)
	p.c = c
}

func (p *point) client() *adminservice.SystemClient {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.c
}

// join makes a connection point that serves a gateway, or none.
func (r *rig) join(name, gateway string) *point {
	r.t.Helper()
	return r.system(adminservice.SystemConnectionPoint, name, gateway)
}

func (r *rig) system(kind, name, gateway string) *point {
	r.t.Helper()
	made := do[adminservice.JoinTokenRecord](r, "POST", "JoinTokens", adminservice.JoinTokenRecord{Kind: kind, GatewayID: gateway})
	token := must(adminservice.ParseJoinToken(made.Token))(r.t)
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(r.t)
	c := must(adminservice.NewSystemClient(adminservice.SystemConfig{URL: r.c.URL, Site: token.Site, SiteCAThumbprint: token.SiteCA}))(r.t)
	defer c.Close()
	reply := must(c.Join(r.t.Context(), adminservice.JoinRequest{ID: token.ID, Secret: token.Secret, Kind: kind, Name: name, Request: request(r.t, key), Internal: "https://mp.corp.example"}))(r.t)
	certs := must(pki.ParseCertificates([]byte(reply.Certificate)))(r.t)
	p := &point{r: r, name: name, id: reply.ConnectionID, cert: tls.Certificate{Certificate: [][]byte{certs[0].Raw}, PrivateKey: key, Leaf: certs[0]}}
	p.move()
	return p
}

// request is a PEM certificate request.
func request(t testing.TB, key crypto.Signer) string {
	t.Helper()
	der := must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key))(t)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// says reports that the point holds tunnels to the instances, with what they
// say.
func (p *point) says(instances ...opencmg.InstanceStatus) {
	p.r.t.Helper()
	if err := p.report(p.r.t.Context(), instances...); err != nil {
		p.r.t.Fatal(err)
	}
}

func (p *point) report(ctx context.Context, instances ...opencmg.InstanceStatus) error {
	status := &opencmg.ConnectionPointStatus{Name: p.name, ConnectionID: p.id, Site: "LAB"}
	for _, i := range instances {
		status.Tunnels = append(status.Tunnels, opencmg.TunnelStatus{Gateway: i.Gateway, Instance: i.Instance, Connected: true})
	}
	return p.client().Report(ctx, &adminservice.SiteSystemReport{Kind: adminservice.SystemConnectionPoint, ConnectionPoint: status, Instances: instances, CertificateEnds: p.r.now().AddDate(2, 0, 0)})
}

// connect makes both app registrations and the Azure service.
func (r *rig) connect() (serverApp adminservice.Application) {
	r.t.Helper()
	op := do[adminservice.Operation](r, "POST", "Applications/create", adminservice.CreateApplications{
		Environment: r.env, TenantID: tenantID, ServerName: "FcCmgServer", ClientName: "FcCmgClient",
		SignIn: adminservice.SignIn{ClientID: deployerID, Secret: deployerSecret},
	})
	done := r.finish(op)
	var made struct{ ServerAppID, ClientAppID string }
	if err := json.Unmarshal(done.Result, &made); err != nil {
		r.t.Fatal(err)
	}
	do[adminservice.AzureService](r, "POST", "AzureServices", adminservice.AzureService{Name: "Fourth Coffee", ServerAppID: made.ServerAppID, ClientAppID: made.ClientAppID})
	apps := do[adminservice.Page[adminservice.Application]](r, "GET", "Applications", nil).Value
	i := slices.IndexFunc(apps, func(a adminservice.Application) bool { return a.ID == made.ServerAppID })
	if i < 0 {
		r.t.Fatalf("the server app is not among %v", apps)
	}
	return apps[i]
}

// newGateway is a request for a gateway with sane values.
func (r *rig) newGateway() adminservice.NewGateway {
	return adminservice.NewGateway{
		GatewaySettings: adminservice.GatewaySettings{Instances: 2, Size: opencmg.SizeLab},
		SubscriptionID:  subscriptionID, Region: "West Europe",
		Certificate: adminservice.ServerCertificate{PFX: r.pfx("p4ssw0rd-planted", serviceName), Password: "p4ssw0rd-planted"},
	}
}

// labFault is what can go wrong at the stand-in.
type labFault = labcloud.Fault

// abandon leaves a site whose goroutines do not end, as a killed process leaves
// its work.
func (r *rig) abandon() {
	r.c.HTTP.CloseIdleConnections()
	r.stop()
}
