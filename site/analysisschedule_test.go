package site_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/site"
)

// A switchboard leads connections to gateways to where a test wishes.
type switchboard struct {
	to atomic.Pointer[func(context.Context) (net.Conn, error)]
}

func (b *switchboard) lead(to func(context.Context) (net.Conn, error)) { b.to.Store(&to) }

func (b *switchboard) dial(ctx context.Context) (net.Conn, error) { return (*b.to.Load())(ctx) }

func nowhere(context.Context) (net.Conn, error) { return nil, errors.New("planted") }

const schedulePath = "Gateways/granitefalls/analysisSchedule"

func (r *rig) analyses(gateway string) []adminservice.Analysis {
	r.t.Helper()
	return do[adminservice.Page[adminservice.Analysis]](r, "GET", "Gateways/"+gateway+"/analyses", nil).Value
}

// end waits for the end of an analysis.
func (r *rig) end(a adminservice.Analysis) adminservice.Analysis {
	r.t.Helper()
	for a.State == adminservice.AnalysisRunning {
		a = do[adminservice.Analysis](r, "GET", fmt.Sprintf("Analyses/%s?wait=20&after=%d", a.ID, len(a.Rows)), nil)
	}
	return a
}

// due moves the clock to the next analysis of a gateway, calls then, begins it,
// and waits for its end.
func (r *rig) due(gateway string, then ...func()) adminservice.Analysis {
	r.t.Helper()
	before := do[adminservice.AnalysisSchedule](r, "GET", "Gateways/"+gateway+"/analysisSchedule", nil)
	r.wait(before.Next.Sub(r.now()) + time.Second)
	for _, f := range then {
		f()
	}
	begin := r.now()
	r.look("analyses")
	list := r.analyses(gateway)
	if len(list) == 0 || list[0].Started.Before(begin) || list[0].Account != "" || list[0].SignIn != adminservice.AnalyzeToken {
		r.t.Fatalf("no analysis was begun at %s: %+v", begin, list)
	}
	after := do[adminservice.AnalysisSchedule](r, "GET", "Gateways/"+gateway+"/analysisSchedule", nil)
	if every := time.Duration(before.Minutes) * time.Minute; after.Last.Before(begin) || after.Next.Sub(before.Next) != every {
		r.t.Errorf("after the analysis at %s the schedule is %+v, was %+v", begin, after, before)
	}
	return r.end(list[0])
}

// wantAlert checks the open alert of the analyzer: it names a row; or there is
// none.
func (r *rig) wantAlert(when, row string) {
	r.t.Helper()
	list := do[adminservice.Page[adminservice.Alert]](r, "GET", "Alerts?open=true&kind=analysis", nil).Value
	switch {
	case row == "" && len(list) > 0:
		r.t.Errorf("%s: alerts %+v", when, list)
	case row != "" && (len(list) != 1 || !strings.Contains(list[0].Text, row) || !strings.Contains(list[0].Text, "granitefalls") ||
		!strings.Contains(list[0].NextStep, "/console/analyzer?gateway=")):
		r.t.Errorf("%s: alerts %+v, want one about %q", when, list, row)
	}
}

func (r *rig) wantMetric(when, line string, there bool) {
	r.t.Helper()
	text, _, err := r.c.Text(r.t.Context(), "Site/metrics")
	if err != nil || strings.Contains(string(text), line) != there {
		r.t.Errorf("%s: metric %s there %v, %v:\n%s", when, line, !there, err, text)
	}
}

// wholeGateway makes the gateway of the rig work: a server that answers as both
// instances and as the management point, with the certificate that the site
// published, and a connection point.
func (r *rig) wholeGateway() (dial func(context.Context) (net.Conn, error), reports func()) {
	r.t.Helper()
	t := r.t.(*testing.T)
	pair := must(r.ca.IssueKeyPair(pki.Template{CommonName: serviceName, Server: true, DNSNames: []string{serviceName}, Key: pki.RSA2048}, r.now()))(t)
	pfx := must(pkcs12.Modern.Encode(pair.PrivateKey, pair.Leaf, []*x509.Certificate{r.ca.Certificate()}, "p4ssw0rd"))(t)
	r.finish(do[adminservice.Operation](r, "PUT", "Gateways/granitefalls/certificate", adminservice.ServerCertificate{PFX: pfx, Password: "p4ssw0rd"}))
	g := r.gateway()
	do[any](r, "POST", "SiteRoles", adminservice.SiteRole{Kind: opencmg.KindManagementPoint, Name: "mp1", Internal: []string{"https://mp1.corp.example"}, AllowGatewayTraffic: true})
	var mu sync.Mutex
	instances := map[string]int{} // by connection
	dial, _ = r.server(t, pair, func(w http.ResponseWriter, q *http.Request) {
		mu.Lock()
		n, known := instances[q.RemoteAddr]
		if !known {
			n = len(instances) % 2
			instances[q.RemoteAddr] = n
		}
		mu.Unlock()
		switch {
		case strings.HasSuffix(q.URL.Path, "/ServiceMetadata"):
			fmt.Fprintf(w, `{"ConfigurationVersion": %d, "InstanceNumber": %d}`, r.s.PublishedVersion(g.ID), n)
		case strings.HasSuffix(q.URL.Path, ccm.PathSTS):
			w.Write([]byte(`{"access_token": "x"}`))
		default:
			w.Write([]byte(ccm.MPList{}.Encode()))
		}
	})
	cp := r.join("cp1", g.ID)
	cp.answers(func(adminservice.SystemQuestion) *adminservice.SystemAnswer { return &adminservice.SystemAnswer{} })
	return dial, func() {
		cp.says(opencmg.InstanceStatus{Gateway: "granitefalls", Instance: 0}, opencmg.InstanceStatus{Gateway: "granitefalls", Instance: 1})
	}
}

func TestAnalysesOnSchedule(t *testing.T) {
	var b switchboard
	b.lead(nowhere)
	r := analyzerRig(t, b.dial)
	dial, reports := r.wholeGateway()
	r.look("analyses")
	s := do[adminservice.AnalysisSchedule](r, "GET", schedulePath, nil)
	if left := s.Next.Sub(r.now()); s.Minutes != 60 || !s.Last.IsZero() || left < 29*time.Minute || left > 90*time.Minute {
		t.Errorf("the schedule of a new gateway is %+v", s)
	}
	for _, in := range []adminservice.AnalysisScheduleChange{{}, {Minutes: new(4)}, {Minutes: new(-1)}, {Minutes: new(10081)}} {
		refused(t, r.c.Do(t.Context(), "PUT", schedulePath, in, nil), opencmg.Invalid, "minutes")
	}
	r.wait(stalePeriod)
	r.look("analyses")
	if list := r.analyses("granitefalls"); len(list) != 0 {
		t.Errorf("analyzed before it was due: %+v", list)
	}
	first := r.due("granitefalls")
	if first.Failed == 0 {
		t.Fatalf("nothing failed: %+v", first)
	}
	r.wantAlert("after the first", "The service name resolves and answers")
	failed := fmt.Sprintf("opencmg_analysis_failed_rows{gateway=\"granitefalls\"} %d", first.Failed)
	r.wantMetric("after the first", failed, true)
	r.wantMetric("after the first", `opencmg_analysis_last_seconds{gateway="granitefalls"} `, true)
	r.look("analyses")
	if list := r.analyses("granitefalls"); len(list) != 1 {
		t.Errorf("analyzed again before it was due: %+v", list)
	}
	// Those that somebody asks for push nothing by the schedule out.
	for range 21 {
		r.analyze(adminservice.NewAnalysis{})
	}
	if list := r.analyses("granitefalls"); len(list) != 21 || list[20].ID != first.ID {
		t.Errorf("%d analyses are kept, want 20 and the one by the schedule", len(list))
	}
	// One that passes closes the alert.
	b.lead(dial)
	if a := r.due("granitefalls", reports); a.Failed != 0 {
		t.Fatalf("a gateway that works: %+v", a)
	}
	r.wantAlert("after one that passed", "")
	r.wantMetric("after one that passed", `opencmg_analysis_failed_rows{gateway="granitefalls"} 0`, true)
	// What somebody asks for raises none, and closes one.
	b.lead(nowhere)
	r.analyze(adminservice.NewAnalysis{})
	r.wantAlert("after one that was asked for", "")
	r.due("granitefalls")
	r.wantAlert("after the gateway was lost", "The service name resolves and answers")
	b.lead(dial)
	reports()
	r.analyze(adminservice.NewAnalysis{})
	r.wantAlert("after one that was asked for and passed", "")

	// Off: nothing begins, and no alert stays that nobody would close.
	b.lead(nowhere)
	r.due("granitefalls")
	r.wantAlert("before it is turned off", "The service name")
	s = do[adminservice.AnalysisSchedule](r, "PUT", schedulePath, adminservice.AnalysisScheduleChange{Minutes: new(0)})
	if s.Minutes != 0 || !s.Next.IsZero() || s.Last.IsZero() {
		t.Errorf("turned off: %+v", s)
	}
	r.wantAlert("off", "")
	n := len(r.analyses("granitefalls"))
	r.wait(48 * time.Hour)
	r.look("analyses")
	if list := r.analyses("granitefalls"); len(list) != n {
		t.Errorf("analyzed though it is off: %+v", list[0])
	}
	if len(r.messages("turned off the schedule")) != 1 {
		t.Error("nobody can see who turned it off")
	}
	// On again, and then the gateway goes with everything about it.
	do[any](r, "PUT", schedulePath, adminservice.AnalysisScheduleChange{Minutes: new(5)})
	r.due("granitefalls")
	r.wantAlert("on again", "The service name")
	do[any](r, "PATCH", "ConnectionPoints/"+do[adminservice.Page[adminservice.ConnectionPoint]](r, "GET", "ConnectionPoints", nil).Value[0].ID, adminservice.ConnectionPointChange{GatewayID: new("")})
	r.finish(do[adminservice.Operation](r, "DELETE", "Gateways/granitefalls", nil))
	r.wantAlert("without the gateway", "")
	if list := must(r.db.Objects(t.Context(), "analysis-schedule"))(t); len(list) != 0 {
		t.Errorf("the schedule of a gateway that is gone: %+v", list)
	}
	r.look("analyses")
	r.wantMetric("without the gateway", "opencmg_analysis_", false)
}

// TestAnalysesCatchUp: a site that was down does what it missed when everybody
// could report again, and knows what it found before.
func TestAnalysesCatchUp(t *testing.T) {
	r := analyzerRig(t, nowhere)
	r.look("analyses")
	r.wait(stalePeriod)
	first := r.due("granitefalls")
	failed := fmt.Sprintf("opencmg_analysis_failed_rows{gateway=\"granitefalls\"} %d", first.Failed)
	r.crash()
	r.wait(5 * time.Hour)
	r.start()
	r.look("analyses")
	r.wantMetric("after a restart", failed, true)
	if list := r.analyses("granitefalls"); len(list) != 1 {
		t.Errorf("analyzed when nobody had reported yet: %+v", list[0])
	}
	r.wait(stalePeriod)
	r.look("analyses")
	if list := r.analyses("granitefalls"); len(list) != 2 || list[0].Account != "" {
		t.Fatalf("what was missed is lost: %+v", list[0])
	} else {
		r.end(list[0])
	}
	r.wantAlert("after a restart", "The service name resolves and answers")
}

// firstHost lets a host join a self-hosted gateway through a connection point.
func (r *rig) firstHost(gateway, name string) {
	r.t.Helper()
	address := name + ".dmz.example:10140"
	token := r.gatewayToken(adminservice.JoinTokenRecord{GatewayID: gateway, Hosts: []string{name + ".dmz.example"}})
	if reply := r.join("cp-"+name, gateway).bring(newHost(r.t.(*testing.T), address), token, nil); reply.Refused != "" {
		r.t.Fatal(reply.Refused)
	}
}

// TestAnalysesWaitForAHost: a self-hosted gateway that nobody has set a host up
// for is no alert, until there is one.
func TestAnalysesWaitForAHost(t *testing.T) {
	r := analyzerRig(t, nowhere)
	g := do[adminservice.Gateway](r, "POST", "Gateways", adminservice.NewGateway{Model: adminservice.ModelSelfHosted, Certificate: adminservice.ServerCertificate{ServiceName: "granitefalls2.corp.example"}})
	schedule := func() adminservice.AnalysisSchedule {
		return do[adminservice.AnalysisSchedule](r, "GET", "Gateways/"+g.ID+"/analysisSchedule", nil)
	}
	do[adminservice.AnalysisSchedule](r, "PUT", schedulePath, adminservice.AnalysisScheduleChange{Minutes: new(0)})
	r.look("analyses")
	r.wait(3 * time.Hour)
	r.look("analyses")
	if s := schedule(); !strings.Contains(s.Waiting, "no host has joined") || !s.Next.IsZero() || !s.Last.IsZero() || s.Minutes != 60 {
		t.Errorf("without a host: %+v", s)
	}
	if list := r.analyses(g.ID); len(list) > 0 {
		t.Errorf("analyzed without a host: %+v", list)
	}
	r.wantAlert("without a host", "")
	r.console(r.c.Token).see("analyzer?gateway="+g.ID, `<span class="state busy">waiting</span>`, "no host has joined")

	r.firstHost(g.ID, "host0")
	r.wait(stalePeriod)
	r.look("analyses")
	list := r.analyses(g.ID)
	if s := schedule(); len(list) != 1 || s.Waiting != "" || s.Last.IsZero() || s.Next.IsZero() {
		t.Fatalf("with a host: %+v, analyses %+v", s, list)
	}
	r.end(list[0])
	r.wantAlert("with a host that nobody reaches", "granitefalls2")
}

// TestAnalysesAreSpread: many gateways are not analyzed at once, and leave room
// for who asks.
func TestAnalysesAreSpread(t *testing.T) {
	hold := make(chan struct{})
	r := newRig(t, func(r *rig) {
		r.config = func(c *site.Config) {
			c.GatewayTransport = &http.Transport{TLSClientConfig: &tls.Config{}, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				select {
				case <-hold:
				case <-ctx.Done():
				}
				return nil, errors.New("planted")
			}}
		}
	})
	places := map[time.Time]bool{}
	for i := range 6 {
		g := do[adminservice.Gateway](r, "POST", "Gateways", adminservice.NewGateway{Model: adminservice.ModelSelfHosted, Certificate: adminservice.ServerCertificate{ServiceName: fmt.Sprintf("gw%d.corp.example", i)}})
		r.firstHost(g.ID, fmt.Sprintf("gw%d", i))
		places[do[adminservice.AnalysisSchedule](r, "PUT", "Gateways/"+g.ID+"/analysisSchedule", adminservice.AnalysisScheduleChange{Minutes: new(60)}).Next] = true
	}
	if len(places) != 6 {
		t.Errorf("six gateways are due at %v", places)
	}
	running := func() (n int) {
		t.Helper()
		for i := range 6 {
			n += len(r.analyses(fmt.Sprintf("gw%d", i)))
		}
		return n
	}
	r.wait(24 * time.Hour) // all of them are missed
	for _, want := range []int{1, 2, 3, 3} {
		r.look("analyses")
		if n := running(); n != want {
			t.Errorf("%d analyses, want %d", n, want)
		}
	}
	for i := range 6 {
		name := fmt.Sprintf("gw%d", i)
		if len(r.analyses(name)) == 0 {
			a := do[adminservice.Analysis](r, "POST", "Gateways/"+name+"/analyze", adminservice.NewAnalysis{})
			close(hold)
			r.end(a)
			break
		}
	}
	for i := range 6 {
		for _, a := range r.analyses(fmt.Sprintf("gw%d", i)) {
			r.end(a)
		}
	}
	r.look("analyses")
	if n := running(); n != 5 {
		t.Errorf("%d analyses when there is room again, want 5", n)
	}
}
