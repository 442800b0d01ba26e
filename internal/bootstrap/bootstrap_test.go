package bootstrap_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/bootstrap"
	"github.com/opencmg/opencmg/internal/keyvault/keyvaulttest"
	"github.com/opencmg/opencmg/internal/outbound"
	"github.com/opencmg/opencmg/pki"
)

const (
	site        = opencmg.SiteCode("LAB")
	gateway     = "granitefalls"
	serviceName = "granitefalls.example.com"
)

// logTo is a log whose records a test can wait for.
type logTo struct {
	mu      sync.Mutex
	b       bytes.Buffer
	changed chan struct{}
}

func newLog() *logTo { return &logTo{changed: make(chan struct{})} }

func (l *logTo) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
	return l.b.Write(p)
}

func (l *logTo) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// await returns when the log holds the text n times.
func (l *logTo) await(t *testing.T, text string, n int) {
	t.Helper()
	for {
		l.mu.Lock()
		have, changed := strings.Count(l.b.String(), text), l.changed
		l.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatalf("no %q in the log", text)
		}
	}
}

func (l *logTo) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// rig is a site's keys and the cloud that it writes to.
type rig struct {
	t      *testing.T
	cloud  *keyvaulttest.Cloud
	siteCA *pki.Authority
	webCA  *pki.Authority
	dir    string
	log    *logTo
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, cloud: keyvaulttest.Start(t), dir: t.TempDir(), log: newLog()}
	var err error
	if r.siteCA, err = pki.NewAuthority("Site LAB", time.Now()); err == nil {
		r.webCA, err = pki.NewAuthority("Web CA", time.Now())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log:\n%s", r.log)
		}
		if s := r.log.String(); strings.Contains(s, "PRIVATE KEY") {
			t.Errorf("a key in the log:\n%s", s)
		}
	})
	return r
}

func (r *rig) instance() *bootstrap.Instance {
	r.t.Helper()
	doc := &bootstrap.Gateway{
		Gateway: gateway, ServiceName: serviceName, Site: site, StateDir: r.dir,
		Cloud:    &bootstrap.Cloud{Vault: keyvaulttest.Vault, IdentityClientID: keyvaulttest.ClientID},
		Outbound: outbound.Config{CAPEM: r.cloud.CAPEM, ConnectTo: r.cloud.ConnectTo(), ConnectOnly: true},
	}
	if err := doc.Fill(); err != nil {
		r.t.Fatal(err)
	}
	h, err := doc.Outbound.Client("", 10*time.Second, r.log.logger())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(h.CloseIdleConnections)
	i, err := bootstrap.NewInstance(bootstrap.InstanceConfig{Document: doc, StateDir: r.dir, HTTP: h, Metadata: h, Log: r.log.logger(), Retry: 2 * time.Millisecond})
	if err != nil {
		r.t.Fatal(err)
	}
	return i
}

func (r *rig) writeIdentity(n int, change func(*bootstrap.Identity)) *x509.Certificate {
	r.t.Helper()
	return r.writeIdentityFor("3", n, change)
}

func (r *rig) writeIdentityFor(machine string, n int, change func(*bootstrap.Identity)) *x509.Certificate {
	r.t.Helper()
	pair, err := r.siteCA.IssueKeyPair(pki.Template{CommonName: "instance", URIs: []string{opencmg.GatewayInstanceURI(site, gateway, n)}, Server: true}, time.Now())
	if err != nil {
		r.t.Fatal(err)
	}
	id, err := bootstrap.NewIdentity(n, pair, r.siteCA.Certificate())
	if err != nil {
		r.t.Fatal(err)
	}
	if s := fmt.Sprintf("%v %+v %#v", id, id, id); strings.Contains(s, "PRIVATE") {
		r.t.Errorf("an identity prints its key: %s", s)
	}
	if change != nil {
		change(&id)
	}
	secret, err := id.Secret()
	if err != nil {
		r.t.Fatal(err)
	}
	r.cloud.SetSecret(bootstrap.InstanceSecret(machine), secret)
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		r.t.Fatal(err)
	}
	return leaf
}

func (r *rig) pfx(name string) (*x509.Certificate, string) {
	r.t.Helper()
	pair, err := r.webCA.IssueKeyPair(pki.Template{CommonName: name, DNSNames: []string{name}, Server: true}, time.Now())
	if err != nil {
		r.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		r.t.Fatal(err)
	}
	b, err := pkcs12.Modern.Encode(pair.PrivateKey, leaf, []*x509.Certificate{r.webCA.Certificate()}, "")
	if err != nil {
		r.t.Fatal(err)
	}
	return leaf, base64.StdEncoding.EncodeToString(b)
}

func (r *rig) writeCertificate() *x509.Certificate {
	leaf, pfx := r.pfx(serviceName)
	r.cloud.SetSecret(bootstrap.SecretServerCertificate, pfx)
	return leaf
}

func wantCertificate(t *testing.T, i *bootstrap.Instance, want *x509.Certificate) {
	t.Helper()
	got, err := i.GetCertificate(&tls.ClientHelloInfo{})
	if err != nil || !got.Leaf.Equal(want) {
		t.Errorf("another server certificate is in use (%v)", err)
	}
}

func TestStartWaitsAndKeeps(t *testing.T) {
	r := newRig(t)
	i := r.instance()
	started := make(chan error, 1)
	go func() { started <- i.Start(t.Context()) }()
	r.cloud.Await(t, "/secrets/instance-3", 3)
	r.writeIdentity(5, func(id *bootstrap.Identity) { id.Key = "rubbish" })
	r.cloud.Await(t, "/secrets/instance-3", 6)
	tunnel := r.writeIdentity(5, nil)
	r.cloud.Await(t, "/secrets/server-certificate", 2)
	r.cloud.SetSecret(bootstrap.SecretServerCertificate, "no base64!")
	r.cloud.Await(t, "/secrets/server-certificate", 4)
	cert := r.writeCertificate()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	if i.Machine() != "3" || i.Number() != 5 || !i.SiteCA().Equal(r.siteCA.Certificate()) || !i.TunnelCertificate().Leaf.Equal(tunnel) {
		t.Errorf("machine %s, instance %d", i.Machine(), i.Number())
	}
	wantCertificate(t, i, cert)
	if n := strings.Count(r.log.String(), "waiting for"); n != 2 {
		t.Errorf("%d records about waiting, want one for each thing in the first minute", n)
	}
	files, err := filepath.Glob(filepath.Join(r.dir, "*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("kept %q, %v", files, err)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f, info.Mode(), err)
		}
	}

	// From now on neither the vault nor the metadata service is needed.
	r.cloud.Fail(func(*http.Request) int { return 503 })
	again := r.instance()
	if err := again.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantCertificate(t, again, cert)
	if again.Number() != 5 {
		t.Errorf("instance %d", again.Number())
	}
	// What was kept belongs to one machine.
	r.cloud.Fail(nil)
	r.cloud.Rename("granitefalls_4")
	moved := r.instance()
	go func() { started <- moved.Start(t.Context()) }()
	r.cloud.Await(t, "/secrets/instance-4", 1)
	id := r.writeIdentityFor("4", 6, nil)
	if err := <-started; err != nil || moved.Machine() != "4" || moved.Number() != 6 || !moved.TunnelCertificate().Leaf.Equal(id) {
		t.Errorf("machine %s, instance %d, %v", moved.Machine(), moved.Number(), err)
	}
}

func TestKeptRubbish(t *testing.T) {
	r := newRig(t)
	r.writeIdentity(0, nil)
	cert := r.writeCertificate()
	for _, f := range []string{"vault-instance.json", "vault-server-certificate.pfx"} {
		if err := os.WriteFile(filepath.Join(r.dir, f), []byte("rubbish"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	i := r.instance()
	if err := i.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantCertificate(t, i, cert)
	if n := strings.Count(r.log.String(), "not usable"); n != 2 {
		t.Errorf("%d complaints about kept files", n)
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	for _, file := range []string{"/metadata/instance", "/secrets/instance-3", "/secrets/server-certificate"} {
		r := newRig(t)
		if file == "/secrets/server-certificate" {
			r.writeIdentity(0, nil)
		}
		r.cloud.Fail(func(req *http.Request) int {
			if strings.HasPrefix(req.URL.Path, file) {
				return 500
			}
			return 0
		})
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.instance().Start(ctx) }()
		r.cloud.Await(t, file, 2)
		cancel(errors.New("enough"))
		if err := <-done; err == nil || !strings.Contains(err.Error(), "enough") {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestRenewal(t *testing.T) {
	r := newRig(t)
	r.writeIdentity(2, nil)
	first := r.writeCertificate()
	i := r.instance()
	if err := i.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- i.Run(ctx) }()
	announce := func(c *x509.Certificate) {
		i.OnConfiguration(&opencmg.PublishedConfiguration{ServerCertificate: pki.Thumbprint(c)})
	}
	announce(first)
	second, pfx := r.pfx(serviceName)
	// Announced before it can be used: the old one stays, and it says why.
	_, foreign := r.pfx("other.example.com")
	r.cloud.SetSecret(bootstrap.SecretServerCertificate, foreign)
	announce(second)
	r.log.await(t, "does not cover the service name", 1)
	r.cloud.SetSecret(bootstrap.SecretServerCertificate, "AAAA")
	r.log.await(t, "not a PFX file", 1)
	_, third := r.pfx(serviceName)
	r.cloud.SetSecret(bootstrap.SecretServerCertificate, third)
	r.log.await(t, "and the published configuration announces", 1)
	wantCertificate(t, i, first)
	r.cloud.SetSecret(bootstrap.SecretServerCertificate, pfx)
	r.log.await(t, "replaces=true", 1)
	wantCertificate(t, i, second)

	// A new certificate for tunnels comes without a restart.
	announce(first)
	tunnel := r.writeIdentity(2, nil)
	r.log.await(t, "identity from the vault", 2)
	if !i.TunnelCertificate().Leaf.Equal(tunnel) {
		t.Error("the old tunnel certificate is in use")
	}
	r.writeIdentity(2, func(id *bootstrap.Identity) { id.Certificate = "rubbish" })
	r.log.await(t, "identity is not usable, the old one stays", 1)
	// Another number does not.
	r.writeIdentity(3, nil)
	if err := <-done; !errors.Is(err, opencmg.Conflict) {
		t.Errorf("with another number: %v", err)
	}
	cancel(nil)
	next := r.instance()
	if err := next.Start(t.Context()); err != nil || next.Number() != 3 {
		t.Errorf("after the restart: %d, %v", next.Number(), err)
	}
	wantCertificate(t, next, second)
	done2 := make(chan error, 1)
	ctx2, cancel2 := context.WithCancelCause(t.Context())
	go func() { done2 <- next.Run(ctx2) }()
	cancel2(nil)
	if err := <-done2; err != nil {
		t.Error(err)
	}
}

func TestForeignIdentities(t *testing.T) {
	other, err := pki.NewAuthority("Other", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*bootstrap.Identity){
		"must be 0 to":                     func(id *bootstrap.Identity) { id.Instance = 16 },
		"is not that of instance 1":        func(id *bootstrap.Identity) { id.Instance = 1 },
		"not one of this site CA":          func(id *bootstrap.Identity) { id.SiteCA = string(other.CertificatePEM()) },
		"siteCA: no PEM certificate found": func(id *bootstrap.Identity) { id.SiteCA = "" },
		"certificate and key":              func(id *bootstrap.Identity) { id.Key = "" },
	} {
		r := newRig(t)
		r.writeIdentity(0, change)
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.instance().Start(ctx) }()
		r.log.await(t, want, 1)
		cancel(nil)
		<-done
	}
}

func TestFill(t *testing.T) {
	base := func() *bootstrap.Gateway {
		return &bootstrap.Gateway{Gateway: "g", ServiceName: "s.example.com", Site: "LAB", Instance: 2}
	}
	g := base()
	if err := g.Fill(); err != nil {
		t.Fatal(err)
	}
	if want := (bootstrap.Listen{HTTPS: ":443", Tunnel: ":10142", Private: "127.0.0.1:9440"}); g.Listen != want {
		t.Errorf("%+v", g.Listen)
	}
	g = base()
	g.Instance, g.Cloud = 0, &bootstrap.Cloud{Vault: "https://a.vault.azure.net"}
	if err := g.Fill(); err != nil {
		t.Fatal(err)
	}
	if want := (bootstrap.Listen{HTTPS: ":443", TunnelHTTPS: ":10124", Probe: ":9445", Private: "127.0.0.1:9440"}); g.Listen != want {
		t.Errorf("%+v", g.Listen)
	}
	if want := (bootstrap.Cloud{Vault: "https://a.vault.azure.net", VaultAudience: "https://vault.azure.net", Metadata: "http://169.254.169.254"}); *g.Cloud != want {
		t.Errorf("%+v", *g.Cloud)
	}
	g = base()
	g.Listen = bootstrap.Listen{Tunnel: "off", Private: "off", Probe: ":1"}
	if err := g.Fill(); err != nil || g.Listen != (bootstrap.Listen{HTTPS: ":443", Probe: ":1"}) {
		t.Errorf("%+v, %v", g.Listen, err)
	}
	for name, change := range map[string]func(*bootstrap.Gateway){
		"gateway":     func(g *bootstrap.Gateway) { g.Gateway = "" },
		"site":        func(g *bootstrap.Gateway) { g.Site = "toolong" },
		"instance":    func(g *bootstrap.Gateway) { g.Instance = 16 },
		"outbound":    func(g *bootstrap.Gateway) { g.Outbound.ConnectOnly = true },
		"leave out":   func(g *bootstrap.Gateway) { g.Cloud = &bootstrap.Cloud{Vault: "https://a.vault.azure.net"} },
		"cloud":       func(g *bootstrap.Gateway) { g.Instance, g.Cloud = 0, &bootstrap.Cloud{} },
		"drainSettle": func(g *bootstrap.Gateway) { g.DrainSettle = 6 * time.Minute },
		"stopDelay": func(g *bootstrap.Gateway) {
			g.Instance, g.Cloud = 0, &bootstrap.Cloud{Vault: "https://a.b", StopDelay: 31}
		},
		"metadata \"": func(g *bootstrap.Gateway) {
			g.Instance, g.Cloud = 0, &bootstrap.Cloud{Vault: "https://a.b", Metadata: "x"}
		},
	} {
		g := base()
		change(g)
		if err := g.Fill(); !errors.Is(err, opencmg.Invalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
