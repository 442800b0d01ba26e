package sitelink_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/sitelink"
	"github.com/opencmg/opencmg/internal/systemtest"
	"github.com/opencmg/opencmg/internal/web"
	"github.com/opencmg/opencmg/pki"
)

const (
	site     = opencmg.SiteCode("LAB")
	patience = 20 * time.Second
)

// A rig is a site and a connection point that joined it.
type rig struct {
	t      *testing.T
	s      *systemtest.Server
	dir    string
	log    *buffer
	cfg    sitelink.Config
	signer tls.Certificate
	stop   func()
	tail   *web.LogTail
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newRig(t *testing.T) *rig {
	t.Helper()
	ca, err := pki.NewAuthority("Site CA", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, s: systemtest.New(t, ca, site), dir: filepath.Join(t.TempDir(), "identity"), log: &buffer{}, tail: web.NewLogTail("cp1")}
	if r.signer, err = ca.IssueKeyPair(pki.Template{CommonName: "configuration", URIs: []string{opencmg.ConfigurationSigningURI(site)}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.join(r.s.Token(1)); err != nil {
		t.Fatal(err)
	}
	id, err := sitelink.LoadIdentity(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	r.cfg = sitelink.Config{
		Kind: adminservice.SystemConnectionPoint, URL: r.s.URL, Site: site, SiteCA: id.SiteCA, Certificate: id.Pair, Dir: r.dir,
		CheckMappings: func(b []byte) error {
			if !json.Valid(b) {
				return errors.New("not JSON")
			}
			return nil
		},
		Version: "v1", Logs: r.tail,
		Log: slog.New(slog.NewMultiHandler(slog.NewTextHandler(r.log, nil), r.tail.Handler())),
	}
	return r
}

func (r *rig) join(tok adminservice.JoinToken) (*adminservice.JoinReply, error) {
	return sitelink.Join(r.t.Context(), sitelink.JoinOptions{Token: tok, Kind: adminservice.SystemConnectionPoint, Name: "cp1", Dir: r.dir})
}

func (r *rig) run() {
	r.t.Helper()
	l, err := sitelink.New(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("Run: %v", err)
		}
	})
	r.t.Cleanup(func() {
		r.stop()
		if r.t.Failed() {
			r.t.Logf("log:\n%s", r.log)
		}
	})
}

func (r *rig) published(gateway string, version uint64) string {
	r.t.Helper()
	jws, err := pki.SignConfiguration(&opencmg.PublishedConfiguration{
		Version: version, Issued: time.Now(), Gateway: gateway, Site: site, ServiceName: "gw.test", Instances: 1,
	}, r.signer)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(jws)
}

func (r *rig) mappings(payload string) string {
	r.t.Helper()
	jws, err := pki.SignDocument(pki.KindURLMappings, []byte(payload), r.signer)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(jws)
}

func (r *rig) file(name string) string {
	b, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.t.Error(err)
	}
	return string(b)
}

func (r *rig) report() systemtest.Report {
	r.t.Helper()
	select {
	case q := <-r.s.Reports:
		return q
	case <-time.After(patience):
		r.t.Fatal("waited in vain for a report")
		panic("unreachable")
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func TestJoin(t *testing.T) {
	r := newRig(t)
	id, err := sitelink.LoadIdentity(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	if uri := pki.PeerURI(tls.ConnectionState{PeerCertificates: []*x509.Certificate{id.Pair.Leaf}}); uri != opencmg.ConnectionPointURI(site, "id-of-cp1") {
		t.Errorf("identity %q", uri)
	}
}

func TestDocuments(t *testing.T) {
	r := newRig(t)
	var logs atomic.Bool
	r.cfg.Apply = func(d *adminservice.Documents) error {
		logs.Store(d.InstanceLogs)
		return nil
	}
	r.run()
	eventually(t, "the link waits", func() bool { return r.s.Waiting() > 0 })
	one, maps := r.published("gw", 5), r.mappings(`{"version":1}`)
	r.s.Set("cp1", adminservice.Documents{Published: one, Mappings: maps, InstanceLogs: true})
	eventually(t, "the documents", func() bool {
		return r.file(sitelink.PublishedFile) == one && r.file(sitelink.MappingsFile) == maps && logs.Load()
	})
	// A document that can not be right stays out, keeps no other away, and is
	// said once however often it is tried.
	two := r.published("gw", 6)
	r.s.Set("cp1", adminservice.Documents{Published: two, Mappings: r.mappings("{")})
	eventually(t, "the good document", func() bool { return r.file(sitelink.PublishedFile) == two })
	for !strings.Contains(r.report().Problem, "not JSON") {
	}
	r.s.Set("cp1", adminservice.Documents{Published: r.published("gw", 4), Mappings: r.mappings("{}")})
	eventually(t, "the good document", func() bool { return r.file(sitelink.MappingsFile) != maps })
	for !strings.Contains(r.report().Problem, "older than version 6") {
	}
	if r.file(sitelink.PublishedFile) != two {
		t.Error("an older version replaced a newer one")
	}
	// Another gateway counts for itself.
	three := r.published("other", 1)
	r.s.Set("cp1", adminservice.Documents{Published: three})
	eventually(t, "the other gateway", func() bool { return r.file(sitelink.PublishedFile) == three })
	for r.report().Problem != "" {
	}
	if n := strings.Count(r.log.String(), "not JSON"); n != 1 {
		t.Errorf("said %d times", n)
	}
	eventually(t, "the end of the trouble in the log", func() bool {
		return strings.Contains(r.log.String(), "taking over what the site gave works again")
	})
}

// TestForeignDocuments has somebody else sign.
func TestForeignDocuments(t *testing.T) {
	r := newRig(t)
	ca, err := pki.NewAuthority("Other CA", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := ca.IssueKeyPair(pki.Template{URIs: []string{opencmg.ConfigurationSigningURI(site)}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	host, err := r.s.CA.IssueKeyPair(pki.Template{URIs: []string{opencmg.ConnectionPointURI(site, "cp1")}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r.run()
	for name, signer := range map[string]tls.Certificate{"other CA": foreign, "a host": host} {
		r.signer = signer
		r.s.Set("cp1", adminservice.Documents{Published: r.published("gw", 5), Mappings: r.mappings("{}")})
		for !strings.Contains(r.report().Problem, "signing certificate") {
		}
		if r.file(sitelink.PublishedFile)+r.file(sitelink.MappingsFile) != "" {
			t.Errorf("%s: documents were taken", name)
		}
	}
}

func TestReports(t *testing.T) {
	r := newRig(t)
	changes := make(chan struct{}, 1)
	var tunnels atomic.Int64
	r.cfg.Changes = changes
	r.cfg.Report = func() adminservice.SiteSystemReport {
		return adminservice.SiteSystemReport{Published: 3, Mappings: 4, ConnectionPoint: &opencmg.ConnectionPointStatus{
			Name: "cp1", End: time.Now(), Tunnels: make([]opencmg.TunnelStatus, tunnels.Load())}}
	}
	slog.New(r.tail.Handler()).Info("before the link")
	r.run()
	q := r.report()
	if q.From != "cp1" || q.Kind != adminservice.SystemConnectionPoint || q.Version != "v1" || q.Started.IsZero() || !q.CertificateEnds.Equal(r.cfg.Certificate.Leaf.NotAfter) ||
		q.Published != 3 || q.Mappings != 4 || len(q.Logs) == 0 || q.Logs[0].Message != "before the link" || q.Logs[0].Source != "cp1" {
		t.Errorf("report: %+v", q)
	}
	// A change goes out at once; the lines that were sent do not again.
	tunnels.Store(2)
	changes <- struct{}{}
	for {
		q := r.report()
		for _, l := range q.Logs {
			if l.Message == "before the link" {
				t.Error("a line came twice")
			}
		}
		if len(q.ConnectionPoint.Tunnels) == 2 {
			break
		}
	}
	// While the site is away lines wait, the newest thousand of them; nothing
	// is said twice.
	r.s.Stop()
	changes <- struct{}{}
	eventually(t, "the failure is said", func() bool {
		return strings.Contains(r.log.String(), "reporting to the site does not work") && strings.Contains(r.log.String(), "asking the site for documents does not work")
	})
	for i := range 1500 {
		slog.New(r.tail.Handler()).Info(fmt.Sprint("away ", i))
	}
	r.s.Start()
	for {
		q := r.report()
		if n := len(q.Logs); n > 0 {
			if n > 1000 || !strings.HasPrefix(q.Logs[0].Message, "away") && n == 1000 {
				t.Errorf("%d lines, the first is %q", n, q.Logs[0].Message)
			}
			break
		}
	}
	eventually(t, "both work again", func() bool { return strings.Count(r.log.String(), "works again") == 2 })
	if strings.Count(r.log.String(), "does not work") > 6 {
		t.Errorf("too much was said")
	}
}

// TestReportsArePaced: however much happens, reports keep their distance, and
// the last of it is reported.
func TestReportsArePaced(t *testing.T) {
	r := newRig(t)
	changes := make(chan struct{}, 1)
	var facts atomic.Uint64
	times := make(chan time.Time, 1000)
	r.cfg.Changes = changes
	r.cfg.Report = func() adminservice.SiteSystemReport {
		select {
		case times <- time.Now():
		default:
		}
		return adminservice.SiteSystemReport{Published: facts.Load()}
	}
	r.run()
	r.report()
	slog.New(r.tail.Handler()).Info("look at me")
	for {
		q := r.report()
		if slices.ContainsFunc(q.Logs, func(l opencmg.LogLine) bool { return l.Message == "look at me" }) {
			break
		}
	}
	flood, stop := context.WithCancel(t.Context())
	var flooding sync.WaitGroup
	flooding.Go(func() {
		for flood.Err() == nil {
			facts.Add(1)
			select {
			case changes <- struct{}{}:
			default:
			}
			slog.New(r.tail.Handler()).Info("refused")
			runtime.Gosched()
		}
	})
	for len(times) > 0 {
		<-times
	}
	last := <-times
	for range 4 {
		next := <-times
		if d := next.Sub(last); d < sitelink.ReportApart {
			t.Errorf("looked again after %s", d)
		}
		last = next
	}
	stop()
	flooding.Wait()
	for r.report().Published != facts.Load() {
	}
}

// TestFactsWithoutTime: a look that found the same is no news.
func TestFactsWithoutTime(t *testing.T) {
	report := func(at time.Time, ok bool) *adminservice.SiteSystemReport {
		found := func() *opencmg.ProbeReport {
			return &opencmg.ProbeReport{Time: at, Probes: []opencmg.Probe{{OK: ok}}}
		}
		return &adminservice.SiteSystemReport{Probes: found(), Instances: []opencmg.InstanceStatus{{Outside: found()}}}
	}
	first := report(time.Unix(1, 0), true)
	was := sitelink.FactsOf(first)
	if !bytes.Equal(was, sitelink.FactsOf(report(time.Unix(2, 0), true))) {
		t.Error("another time is news")
	}
	if bytes.Equal(was, sitelink.FactsOf(report(time.Unix(1, 0), false))) {
		t.Error("another finding is no news")
	}
	if first.Probes.Time.IsZero() || first.Instances[0].Outside.Time.IsZero() {
		t.Error("the report itself was changed")
	}
}

func TestRenewal(t *testing.T) {
	r := newRig(t)
	used := make(chan tls.Certificate, 10)
	r.cfg.UseCertificate = func(c tls.Certificate) { used <- c }
	r.run()
	eventually(t, "the link waits", func() bool { return r.s.Waiting() > 0 })
	old := r.cfg.Certificate.Leaf
	// The site wants all certificates new that end before a time.
	r.s.SetTerm(2 * 365 * 24 * time.Hour)
	r.s.Set("cp1", adminservice.Documents{RenewBefore: old.NotAfter.Add(time.Hour)})
	var pair tls.Certificate
	select {
	case pair = <-used:
	case <-time.After(patience):
		t.Fatal("no renewal")
	}
	id, err := sitelink.LoadIdentity(r.dir)
	if err != nil || !id.Pair.Leaf.Equal(pair.Leaf) || pair.Leaf.Equal(old) || !pair.Leaf.NotAfter.After(old.NotAfter) {
		t.Errorf("renewed: %v, %v", pair.Leaf.NotAfter, err)
	}
	if bytes.Equal(pair.Leaf.RawSubjectPublicKeyInfo, old.RawSubjectPublicKeyInfo) {
		t.Error("the key is the old one")
	}
	checkModes(t, r.dir)
	for !r.report().CertificateEnds.Equal(pair.Leaf.NotAfter) {
	}
	// A wish that no certificate fulfils is not followed without end.
	r.s.Set("cp1", adminservice.Documents{RenewBefore: pair.Leaf.NotAfter.Add(24 * time.Hour)})
	eventually(t, "the link waits", func() bool { return r.s.Waiting() > 0 })
	if n := r.s.Issued(); n != 2 {
		t.Errorf("%d certificates were issued", n)
	}
}

// TestRenewalByTime starts with a certificate whose life is nearly over.
func TestRenewalByTime(t *testing.T) {
	r := newRig(t)
	now := time.Now()
	short, err := r.s.CA.IssueKeyPair(pki.Template{CommonName: "cp1", URIs: []string{opencmg.ConnectionPointURI(site, "id-of-cp1")}, Client: true,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(10 * time.Minute)}, now)
	if err != nil {
		t.Fatal(err)
	}
	r.cfg.Certificate = short
	r.cfg.Certificate.Leaf = nil
	used := make(chan tls.Certificate, 10)
	r.cfg.UseCertificate = func(c tls.Certificate) { used <- c }
	r.s.Refuse(adminservice.RenewPath, 503)
	r.run()
	eventually(t, "the failure is said", func() bool {
		return strings.Contains(r.log.String(), "renewing this system's certificate does not work")
	})
	r.s.Refuse(adminservice.RenewPath, 0)
	select {
	case <-used:
	case <-time.After(patience):
		t.Fatal("no renewal")
	}
}

// TestRenewalCutOff ends the process between the renames.
func TestRenewalCutOff(t *testing.T) {
	r := newRig(t)
	next, err := r.s.CA.IssueKeyPair(pki.Template{CommonName: "cp1", URIs: []string{opencmg.ConnectionPointURI(site, "id-of-cp1")}, Client: true}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pending := filepath.Join(r.dir, "identity.next")
	if err := pki.SaveKeyPair(pending, pending, next); err != nil {
		t.Fatal(err)
	}
	// The key is the new one already, the certificate is the old one.
	if err := pki.SaveKeyPair(filepath.Join(t.TempDir(), "x"), filepath.Join(r.dir, sitelink.KeyFile), next); err != nil {
		t.Fatal(err)
	}
	id, err := sitelink.LoadIdentity(r.dir)
	if err != nil || !id.Pair.Leaf.Equal(next.Leaf) {
		t.Fatalf("after the cut: %v", err)
	}
	if _, err := os.Lstat(pending); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("identity.next: %v", err)
	}
	checkModes(t, r.dir)
	if err := os.WriteFile(pending, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sitelink.LoadIdentity(r.dir); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("damaged: %v", err)
	}
}

func checkModes(t *testing.T, dir string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		return
	}
	fi, err := os.Stat(filepath.Join(dir, sitelink.KeyFile))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("key: %v %v", fi.Mode(), err)
	}
	if fi, err = os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v %v", fi.Mode(), err)
	}
}

func TestJoinAgain(t *testing.T) {
	r := newRig(t)
	checkModes(t, r.dir)
	tok := r.s.Token(1)
	if _, err := r.join(tok); !errors.Is(err, opencmg.Conflict) || !strings.Contains(err.Error(), "has joined") {
		t.Errorf("again: %v", err)
	}
	// The token was not used up by that.
	r.dir = filepath.Join(t.TempDir(), "other")
	if _, err := r.join(tok); err != nil {
		t.Errorf("elsewhere: %v", err)
	}
	r.dir = filepath.Join(t.TempDir(), "third")
	if _, err := r.join(tok); !errors.Is(err, opencmg.Forbidden) {
		t.Errorf("used up: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(r.dir, sitelink.KeyFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a key is left of a refused join: %v", err)
	}
}

func TestBlockedSystem(t *testing.T) {
	r := newRig(t)
	r.run()
	eventually(t, "the link waits", func() bool { return r.s.Waiting() > 0 })
	r.s.Block("cp1")
	eventually(t, "it is said", func() bool {
		return strings.Contains(r.log.String(), "level=ERROR") && strings.Contains(r.log.String(), "is blocked")
	})
}

func TestNewChecksItsConfiguration(t *testing.T) {
	r := newRig(t)
	for want, spoil := range map[string]func(*sitelink.Config){
		"siteServer":  func(c *sitelink.Config) { c.URL = "http://x" },
		"site code":   func(c *sitelink.Config) { c.Site = "" },
		"must be set": func(c *sitelink.Config) { c.Dir = "" },
		"certificate": func(c *sitelink.Config) { c.Certificate = tls.Certificate{Certificate: [][]byte{{1}}} },
	} {
		c := r.cfg
		spoil(&c)
		if _, err := sitelink.New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}
