package site_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
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
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/azure"
	"github.com/opencmg/opencmg/internal/outbound"
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
	t       *testing.T
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

	mu       sync.Mutex // guards machines
	machines map[string]*machine
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

// newRig starts both.
func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, machines: map[string]*machine{}, log: &lines{}, program: []byte("a gateway program")}
	now := time.Now()
	r.ca = must(pki.NewAuthority("Test CA", now))(t)
	h := labcloud.LabHosts()
	cert := must(r.ca.IssueKeyPair(pki.Template{CommonName: h.Login, Server: true, DNSNames: []string{h.Login, h.ARM, h.Graph, "*." + h.Vault, "*." + h.Blob}}, now))(t)
	var err error
	r.cloud, err = labcloud.New(labcloud.Config{
		Hosts: h, Certificate: cert, Tenants: []labcloud.Tenant{{ID: tenantID, Name: "Fourth Coffee"}},
		Subscriptions: []labcloud.Subscription{{ID: subscriptionID, Tenant: tenantID, Name: "Lab"}},
		Apps:          []labcloud.App{{Tenant: tenantID, ID: deployerID, Name: "deployer", Secret: deployerSecret, GraphRoles: []string{"Application.ReadWrite.All", "Directory.Read.All", "AppRoleAssignment.ReadWrite.All", "DelegatedPermissionGrant.ReadWrite.All"}}},
		StateDir:      t.TempDir(), StartMachine: r.startMachine, RetryAfter: time.Millisecond, ProbeInterval: 5 * time.Millisecond,
	})
	if err != nil {
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
	r.http = must(out.Client("", time.Minute, nil))(t)
	dir := t.TempDir()
	r.dbFile = sitedb.Config{Path: filepath.Join(dir, "site.db"), KeyFile: filepath.Join(dir, "site.key")}
	r.start()
	t.Cleanup(func() { r.crash() })
	return r
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
		return azure.New(azure.Config{Environment: in.Environment, TenantID: in.TenantID, SubscriptionID: in.SubscriptionID,
			Credential: azure.Credential{ClientID: in.ClientID, Secret: azure.Secret(in.Secret)}, HTTP: r.http, Log: log, PollFrequency: time.Millisecond})
	}
	var err error
	r.s, err = site.New(t.Context(), site.Config{
		DB: r.db, Site: "LAB", URL: "https://127.0.0.1", Addresses: []string{"127.0.0.1"}, Environments: []opencmg.Environment{opencmg.AzureLab}, HTTP: r.http,
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
		Log: log, Version: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
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
	r.c = &adminservice.Client{URL: "https://" + ln.Addr().String(), Token: token, HTTP: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}}
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
	pair := must(r.ca.IssueKeyPair(pki.Template{CommonName: names[0], Server: true, DNSNames: names, Key: pki.RSA2048}, time.Now()))(r.t)
	return must(pkcs12.Modern.Encode(pair.PrivateKey, pair.Leaf, []*x509.Certificate{r.ca.Certificate()}, password))(r.t)
}

// connect makes both app registrations and the Azure service.
func (r *rig) connect() (serverApp adminservice.Application) {
	r.t.Helper()
	op := do[adminservice.Operation](r, "POST", "Applications/create", adminservice.CreateApplications{
		Environment: opencmg.AzureLab, TenantID: tenantID, ServerName: "FcCmgServer", ClientName: "FcCmgClient",
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
