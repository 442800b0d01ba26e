package site_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/pebbletest"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/site"
)

// An edge stands for the instances of a gateway with their connection point: it
// follows the published configuration and answers the challenges in it, at one
// address for all of them, as a load balancer does.
type edge struct {
	r       *rig
	p       *point
	started time.Time
	http    string
	tls     string

	mu     sync.Mutex // guards what follows
	config *opencmg.PublishedConfiguration
	late   uint64 // configuration of instance 1, which comes last
	early  bool   // somebody asked before both instances could answer
	asked  []string
}

func (r *rig) edge(p *point) *edge {
	r.t.Helper()
	e := &edge{r: r, p: p, started: r.now()}
	plain, secure := must(net.Listen("tcp", "127.0.0.1:0"))(r.t), must(net.Listen("tcp", "127.0.0.1:0"))(r.t)
	e.http, e.tls = plain.Addr().String(), secure.Addr().String()
	servers := []*http.Server{{Handler: http.HandlerFunc(e.plain)}, {TLSConfig: &tls.Config{NextProtos: []string{pki.ALPNChallenge}, GetCertificate: e.certificate}, ErrorLog: nil}}
	go servers[0].Serve(plain)
	go servers[1].ServeTLS(secure, "", "")
	r.t.Cleanup(func() { servers[0].Close(); servers[1].Close() })
	return e
}

// run follows the site until the test ends.
func (e *edge) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		etag := ""
		for ctx.Err() == nil {
			d, tag, err := e.p.client().Documents(ctx, etag, time.Second)
			if err == nil && d != nil && d.Published != "" {
				etag = tag
				cfg, err := pki.VerifyConfiguration([]byte(d.Published), e.r.s.SiteCA(), "LAB", e.r.now())
				if err != nil {
					e.r.t.Error(err)
					return
				}
				e.mu.Lock()
				e.config = cfg
				e.mu.Unlock()
				e.say(ctx)
				e.mu.Lock()
				e.late = cfg.Version
				e.mu.Unlock()
			}
			e.say(ctx)
		}
	}()
	e.r.t.Cleanup(func() { cancel(); <-done })
}

// say reports both instances; the second one is a report behind.
func (e *edge) say(ctx context.Context) {
	e.mu.Lock()
	var list []opencmg.InstanceStatus
	for n := range 2 {
		st := opencmg.InstanceStatus{Gateway: "granitefalls", Instance: n, Started: e.started, Time: e.r.now()}
		if e.config != nil {
			st.Configuration, st.Certificate = e.config.Version, e.config.ServerCertificate
		}
		if n == 1 {
			st.Configuration = e.late
		}
		list = append(list, st)
	}
	e.mu.Unlock()
	e.p.report(ctx, list...) // may fail at the end of the test
}

func (e *edge) challenge(kind string) (ch opencmg.ACMEChallenge, found bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = append(e.asked, kind)
	if e.config == nil {
		return ch, false
	}
	e.early = e.early || e.late < e.config.Version
	for _, ch := range e.config.Challenges {
		if ch.Type == kind {
			return ch, true
		}
	}
	return ch, false
}

func (e *edge) plain(w http.ResponseWriter, r *http.Request) {
	ch, found := e.challenge(opencmg.ChallengeHTTP)
	if !found || r.URL.Path != "/.well-known/acme-challenge/"+ch.Token {
		http.NotFound(w, r)
		return
	}
	w.Write([]byte(ch.KeyAuthorization))
}

func (e *edge) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	ch, found := e.challenge(opencmg.ChallengeTLSALPN)
	if !found {
		return nil, opencmg.Errorf(opencmg.NotFound, "no challenge")
	}
	cert, err := pki.ChallengeCertificate(ch, time.Now())
	return &cert, err
}

// A door hands the ACME client of a test to the site, once there is one.
type door struct {
	mu   sync.Mutex
	next http.RoundTripper
}

func (d *door) RoundTrip(r *http.Request) (*http.Response, error) {
	d.mu.Lock()
	next := d.next
	d.mu.Unlock()
	if next == nil {
		return nil, opencmg.Errorf(opencmg.Unavailable, "the authority is away")
	}
	return next.RoundTrip(r)
}

func (d *door) open(c *http.Client) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next = c.Transport
}

func (r *rig) newACMEGateway(directory string) adminservice.NewGateway {
	in := r.newGateway()
	in.Certificate = adminservice.ServerCertificate{ServiceName: serviceName, ACME: &adminservice.ACME{Directory: directory, AcceptTerms: true, Contact: []string{"pki@corp.example"}}}
	return in
}

// ended waits for the operation that obtains a certificate.
func (r *rig) obtained() (adminservice.Operation, error) {
	r.t.Helper()
	ops := do[adminservice.Page[adminservice.Operation]](r, "GET", "Operations?kind=obtain-certificate", nil).Value
	if len(ops) == 0 {
		r.t.Fatal("nobody asked for a certificate")
	}
	return r.c.Wait(r.t.Context(), ops[0].ID, nil)
}

// TestCertificateByACME creates a gateway without a certificate, obtains one from
// a real ACME server, and renews it when it is time, each with another kind of
// challenge; the site is killed in between.
func TestCertificateByACME(t *testing.T) {
	d := &door{}
	r := newRig(t, func(r *rig) {
		r.config = func(c *site.Config) { c.ACME.HTTP = &http.Client{Transport: d} }
	})
	r.connect()
	p := r.join("cp1", "")
	e := r.edge(p)
	pebble := pebbletest.Start(t, pebbletest.Options{HTTPAddr: e.http, TLSAddr: e.tls, Validity: 90 * 24 * time.Hour})
	d.open(pebble.HTTP)

	r.finish(do[adminservice.Operation](r, "POST", "Gateways", r.newACMEGateway(pebble.Directory)))
	temporary := r.gateway()
	if !temporary.CertificateTemporary || temporary.ACME == nil || temporary.ACME.Contact[0] != "mailto:pki@corp.example" || temporary.State != adminservice.StateReady {
		t.Fatalf("after the creation: %+v", temporary)
	}
	r.look("certificates")
	if ops := do[adminservice.Page[adminservice.Operation]](r, "GET", "Operations?kind=obtain-certificate", nil).Value; len(ops) != 0 {
		t.Error("a certificate was ordered while nobody could answer the authority")
	}
	do[adminservice.ConnectionPoint](r, "PATCH", "ConnectionPoints/"+p.id, map[string]string{"gatewayId": temporary.ID})
	e.run()
	e.say(t.Context())
	r.look("certificates")
	op, err := r.obtained()
	if err != nil {
		t.Fatalf("%v\n%s", err, r.describe(op.ID))
	}
	g := r.gateway()
	if g.CertificateTemporary || g.ACMEProblem != "" || g.CertificateThumbprint == temporary.CertificateThumbprint || g.State != adminservice.StateReady {
		t.Errorf("after the order: %+v", g)
	}
	steps := r.describe(op.ID)
	for _, s := range []string{"account", "order", "challenges", "certificate", "renewed"} {
		if !strings.Contains(steps, "  "+s+": ") {
			t.Errorf("there is no step %s in\n%s", s, steps)
		}
	}
	pfx := must(r.db.Secret(t.Context(), "gateway/"+g.ID+"/certificate"))(t)
	cert := must(pki.ParseServerPFX(pfx, nil, serviceName, time.Now()))(t)
	if pki.Thumbprint(cert.Leaf) != g.CertificateThumbprint || g.CertificateRenewal.After(pki.RenewalTime(cert.Leaf)) || g.CertificateRenewal.Before(cert.Leaf.NotBefore) {
		t.Errorf("certificate until %v is renewed at %v", cert.Leaf.NotAfter, g.CertificateRenewal)
	}
	e.mu.Lock()
	if e.early || len(e.asked) == 0 || e.asked[0] != opencmg.ChallengeTLSALPN || len(e.config.Challenges) != 0 {
		t.Errorf("challenges: asked too early %v, %v; left %v", e.early, e.asked, e.config.Challenges)
	}
	e.asked = nil
	e.mu.Unlock()

	// Another kind of challenge, by hand; the site dies while it orders.
	r.look("certificates")
	dead := make(chan struct{})
	var died atomic.Bool
	r.onStep = func(op, step string) {
		if op == "obtain-certificate" && (step == "challenges" || step == "certificate") && died.CompareAndSwap(false, true) {
			close(dead)
			select {}
		}
	}
	do[adminservice.Operation](r, "PUT", "Gateways/granitefalls/certificate", adminservice.ServerCertificate{ACME: &adminservice.ACME{Directory: pebble.Directory, AcceptTerms: true, Challenge: opencmg.ChallengeHTTP}})
	<-dead
	r.abandon()
	r.start()
	p.move()
	if op, err = r.obtained(); err != nil {
		t.Fatalf("%v\n%s", err, r.describe(op.ID))
	}
	second := r.gateway()
	if second.CertificateThumbprint == g.CertificateThumbprint || second.State != adminservice.StateReady {
		t.Errorf("after the change: %+v", second)
	}
	e.mu.Lock()
	// One order in a hundred finds that Pebble still trusts the last answer.
	if e.early || len(e.asked) > 0 && e.asked[0] != opencmg.ChallengeHTTP {
		t.Errorf("challenges: asked too early %v, %v\n%s", e.early, e.asked, r.describe(op.ID))
	}
	e.mu.Unlock()

	// Time passes.
	r.wait(second.CertificateRenewal.Sub(r.now()) - time.Hour)
	r.look("certificates")
	if again, err := r.obtained(); err != nil || again.ID != op.ID {
		t.Errorf("it was renewed before its time: %v", err)
	}
	r.wait(2 * time.Hour)
	e.say(t.Context())
	r.look("certificates")
	if op, err = r.obtained(); err != nil {
		t.Fatalf("%v\n%s", err, r.describe(op.ID))
	}
	if third := r.gateway(); third.CertificateThumbprint == second.CertificateThumbprint {
		t.Error("it was not renewed")
	}
	// A certificate that is brought ends it.
	r.finish(do[adminservice.Operation](r, "PUT", "Gateways/granitefalls/certificate", adminservice.ServerCertificate{PFX: r.pfx("x", serviceName), Password: "x"}))
	if g := r.gateway(); g.ACME != nil || !g.CertificateRenewal.IsZero() {
		t.Errorf("still by ACME: %+v", g)
	}
	if err := r.c.Do(t.Context(), "POST", "Gateways/granitefalls/obtainCertificate", nil, nil); err == nil || !strings.Contains(err.Error(), "brought") {
		t.Errorf("got %v", err)
	}
}

// TestRefusalsOfACME: what the authority says reaches the administrator, by an
// alert that ends when a certificate came; the gateway works on meanwhile.
func TestRefusalsOfACME(t *testing.T) {
	d := &door{}
	r := newRig(t, func(r *rig) {
		r.config = func(c *site.Config) { c.ACME.HTTP = &http.Client{Transport: d} }
	})
	r.connect()
	p := r.join("cp1", "")
	e := r.edge(p)
	pebble := pebbletest.Start(t, pebbletest.Options{HTTPAddr: e.http, TLSAddr: e.tls, Bindings: map[string]string{"customer-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}})
	r.finish(do[adminservice.Operation](r, "POST", "Gateways", r.newACMEGateway(pebble.Directory)))
	id := r.gateway().ID
	obtain := func(says string) {
		t.Helper()
		r.c.Do(t.Context(), "POST", "Gateways/"+id+"/obtainCertificate", nil, nil)
		op, err := r.obtained()
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Fatalf("got %v, want %q\n%s", err, says, r.describe(op.ID))
		}
		if g := r.gateway(); g.State != adminservice.StateReady || !strings.Contains(g.ACMEProblem, says) || !g.CertificateRenewal.After(r.now()) {
			t.Errorf("gateway: %s, %q, next at %v", g.State, g.ACMEProblem, g.CertificateRenewal)
		}
	}
	r.wait(2 * time.Minute) // every connection point has had the time to report
	obtain("link a connection point")
	do[adminservice.ConnectionPoint](r, "PATCH", "ConnectionPoints/"+p.id, map[string]string{"gatewayId": id})
	e.run()
	e.say(t.Context())
	obtain("the authority is away")
	d.open(pebble.HTTP)
	obtain("external account binding")
	alerts := do[adminservice.Page[adminservice.Alert]](r, "GET", "Alerts?open=true", nil).Value
	if len(alerts) != 1 || alerts[0].Kind != "certificate-renewal" || alerts[0].Severity != "critical" || !strings.Contains(alerts[0].Text, "external account binding") {
		t.Errorf("alerts: %+v", alerts)
	}
	// Not before its time, although it is due for long.
	before := len(r.messages("is due"))
	r.look("certificates")
	if len(r.messages("is due")) != before {
		t.Error("the authority was asked again at once")
	}
	op := do[adminservice.Operation](r, "PUT", "Gateways/"+id+"/certificate", adminservice.ServerCertificate{ACME: &adminservice.ACME{
		Directory: pebble.Directory, AcceptTerms: true, BindingKeyID: "customer-1", BindingKey: "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}})
	r.finish(op)
	if g := r.gateway(); g.CertificateTemporary || g.ACMEProblem != "" || g.ACME.BindingKey != "" {
		t.Errorf("%+v", g)
	}
	if alerts := do[adminservice.Page[adminservice.Alert]](r, "GET", "Alerts?open=true", nil).Value; len(alerts) != 0 {
		t.Errorf("still open: %+v", alerts)
	}
	if strings.Contains(r.log.String(), "zWNDZM6eQGHWpSRTPal5eIUYFTu7") {
		t.Error("the binding's key is in the log")
	}
}

// TestACMERequests: what can not work is refused before anything is made.
func TestACMERequests(t *testing.T) {
	r := newRig(t)
	r.connect()
	for says, change := range map[string]func(*adminservice.NewGateway){
		"serviceName":         func(in *adminservice.NewGateway) { in.Certificate.ServiceName = "" },
		"name the service in": func(in *adminservice.NewGateway) { in.Certificate.ServiceName = "*.corp.example" },
		"directory":           func(in *adminservice.NewGateway) { in.Certificate.ACME.Directory = "http://acme.example/dir" },
		"dns-01":              func(in *adminservice.NewGateway) { in.Certificate.ACME.Challenge = "dns-01" },
		"mail address":        func(in *adminservice.NewGateway) { in.Certificate.ACME.Contact = []string{"nobody"} },
		"belong together":     func(in *adminservice.NewGateway) { in.Certificate.ACME.BindingKeyID = "x" },
		"either pfx or acme":  func(in *adminservice.NewGateway) { in.Certificate.PFX = r.pfx("x", serviceName) },
		"bindingKey: must be b": func(in *adminservice.NewGateway) {
			in.Certificate.ACME.BindingKeyID, in.Certificate.ACME.BindingKey = "x", "!planted!"
		},
		"as a file": func(in *adminservice.NewGateway) { in.Model = adminservice.ModelSelfHosted },
	} {
		in := r.newACMEGateway("https://acme.example/dir")
		change(&in)
		if err := r.c.Do(t.Context(), "POST", "Gateways", in, nil); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "planted") {
			t.Errorf("got %v, want %q", err, says)
		}
	}
}
