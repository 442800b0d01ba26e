package site_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

// selfHosted makes a gateway without a cloud.
func (r *rig) selfHosted() adminservice.Gateway {
	r.t.Helper()
	return do[adminservice.Gateway](r, "POST", "Gateways", adminservice.NewGateway{Model: adminservice.ModelSelfHosted, Certificate: adminservice.ServerCertificate{ServiceName: serviceName}})
}

// TestTraffic counts what instances report once, whoever reports it, over
// restarts of instances and of the site.
func TestTraffic(t *testing.T) {
	r := newRig(t)
	g := r.selfHosted()
	one, two := r.join("cp1", g.ID), r.join("cp2", g.ID)
	started := r.now()
	says := func(gigabytes ...int64) opencmg.InstanceStatus {
		r.wait(time.Second)
		st := opencmg.InstanceStatus{Gateway: "granitefalls", Started: started, Time: r.now()}
		for n, gb := range gigabytes {
			st.Endpoints = append(st.Endpoints, opencmg.InstanceTraffic{Role: "1", Endpoint: string(rune('a' + n)), Requests: gb, ResponseBytes: gb * 1e9})
		}
		return st
	}
	egress := func(want float64, when string) {
		t.Helper()
		if got := r.gateway().EgressGB14Days; got != want {
			t.Errorf("%s: %v GB, want %v", when, got, want)
		}
	}
	st := says(1)
	one.says(st)
	egress(1, "the first report")
	two.says(st)
	one.says(st)
	egress(1, "the same from another connection point, and again")
	st = says(3, 2)
	two.says(st)
	one.says(st)
	egress(5, "more, from the other one first")
	one.says(opencmg.InstanceStatus{Gateway: "granitefalls", Started: started, Time: st.Time.Add(-time.Second), Endpoints: []opencmg.InstanceTraffic{{Role: "1", Endpoint: "a", ResponseBytes: 1e9}}})
	egress(5, "an old report that comes late")
	started = r.now()
	st = says(2)
	one.says(st)
	two.says(st)
	egress(7, "the instance started again")
	one.says(opencmg.InstanceStatus{Gateway: "stranger", Started: started, Time: r.now(), Endpoints: []opencmg.InstanceTraffic{{ResponseBytes: 1e12}}})
	egress(7, "a gateway that is not known")

	r.crash()
	r.start()
	one.move()
	two.move()
	one.says(says(3))
	egress(7, "the first report after a restart of the site: nobody knows what of it was counted")
	two.says(says(4))
	egress(8, "the second one")
	started = r.now().Add(time.Second)
	two.says(says(1))
	egress(9, "an instance that started after the site")
	r.wait(15 * 24 * time.Hour)
	egress(0, "two weeks later")
}

// TestThresholds: use above a threshold raises one alert, which gets worse and
// ends; each change is sent on once.
func TestThresholds(t *testing.T) {
	r := newRig(t)
	r.connect()
	in := r.newGateway()
	in.Instances = 1
	in.Traffic = &adminservice.Threshold{Enabled: true, GB: 10, WarningPct: 50, CriticalPct: 90}
	r.finish(do[adminservice.Operation](r, "POST", "Gateways", in))
	g := r.gateway()
	sends := func(gb int64) {
		t.Helper()
		if err := r.db.AddCounts(t.Context(), sitedb.Counted{Traffic: []sitedb.Traffic{{GatewayID: g.ID, Instance: "0", Endpoint: "a", ConnectionPoint: "cp1", Start: r.now(), Counts: sitedb.Counts{Requests: 1, ResponseBytes: gb * 1e9}}}}); err != nil {
			t.Fatal(err)
		}
	}
	look := func(want ...string) {
		t.Helper()
		r.look("thresholds")
		r.look("thresholds") // nothing new
		var got []string
		for _, a := range r.sent() {
			got = append(got, a.Severity+" "+a.Kind)
		}
		if !slices.Equal(got, want) {
			t.Errorf("sent on: %v, want %v", got, want)
		}
	}
	open := func() (list []adminservice.Alert) {
		t.Helper()
		return do[adminservice.Page[adminservice.Alert]](r, "GET", "Alerts?open=true", nil).Value
	}
	r.sent()
	sends(4)
	look()
	sends(2)
	look("warning traffic")
	sends(1)
	look() // more of the same is no news
	sends(3)
	look("critical traffic")
	if a := open(); len(a) != 1 || a[0].Severity != "critical" || !strings.Contains(a[0].Text, "90 % of the threshold of 10 GB") || a[0].NextStep == "" {
		t.Errorf("open: %+v", a)
	}
	if r.gateway().State != adminservice.StateReady {
		t.Error("it was stopped although nobody wished so")
	}
	r.wait(15 * 24 * time.Hour)
	look()
	if a := open(); len(a) != 0 {
		t.Errorf("two weeks later: %+v", a)
	}
	// Now with the wish to stop.
	do[adminservice.Gateway](r, "PATCH", "Gateways/"+g.ID, map[string]any{"traffic": adminservice.Threshold{Enabled: true, GB: 10, WarningPct: 50, CriticalPct: 90, StopService: true}})
	sends(20)
	look("critical traffic")
	ops := do[adminservice.Page[adminservice.Operation]](r, "GET", "Operations?kind=stop", nil).Value
	if len(ops) != 1 {
		t.Fatalf("%d operations stop the gateway", len(ops))
	}
	r.finish(ops[0])
	if g := r.gateway(); g.State != adminservice.StateStopped || len(r.messages("critical threshold")) == 0 {
		t.Errorf("%s: %q", g.State, r.messages("critical threshold"))
	}
	look()
	r.finish(do[adminservice.Operation](r, "DELETE", "Gateways/"+g.ID, nil))
	if a := open(); len(a) != 0 {
		t.Errorf("alerts of a gateway that is gone: %+v", a)
	}
}

// TestExpiry: every credential in the path is watched; an alert comes at each
// of the documented days and ends with the renewal.
func TestExpiry(t *testing.T) {
	r := newRig(t)
	r.connect()
	ends := r.now().Add(100 * 24 * time.Hour).Truncate(time.Second)
	in := r.newGateway()
	in.Instances = 1
	in.Certificate = adminservice.ServerCertificate{PFX: r.pfxUntil(ends, "x", serviceName), Password: "x"}
	r.finish(do[adminservice.Operation](r, "POST", "Gateways", in))
	g := r.gateway()
	do[adminservice.TrustedCertificate](r, "POST", "TrustedCertificates", adminservice.TrustedCertificate{Store: adminservice.RootCA, Certificate: string(r.ca.CertificatePEM())})
	signing := must(pki.NewTokenSigningCertificate("other site", time.Now()))(t)
	do[adminservice.TokenIssuer](r, "POST", "TokenIssuers", adminservice.TokenIssuer{Certificate: string(pki.EncodeCertificates(signing.Leaf)), Issuer: "https://other.example"})
	p, mp := r.join("cp1", g.ID), r.system(adminservice.SystemManagementPoint, "mp1", "")
	report := func() {
		t.Helper()
		p.says(opencmg.InstanceStatus{Gateway: "granitefalls", Started: r.now(), Time: r.now(), TunnelCertEnds: r.now().AddDate(2, 0, 0),
			RevocationLists: []opencmg.RevocationListStatus{{URL: "http://crl.example/1", Issuer: "CA", NextUpdate: r.now().AddDate(1, 0, 0), LastError: "away"}}})
		if err := mp.client().Report(t.Context(), &adminservice.SiteSystemReport{Kind: adminservice.SystemManagementPoint, CertificateEnds: r.now().AddDate(2, 0, 0)}); err != nil {
			t.Fatal(err)
		}
	}
	report()
	kinds := map[string]bool{}
	for _, e := range do[adminservice.Page[adminservice.Expiry]](r, "GET", "Expiry", nil).Value {
		kinds[e.Kind] = true
		if e.Ends.IsZero() || e.Renewal == "" || e.Name == "" {
			t.Errorf("%+v", e)
		}
	}
	for _, kind := range []string{"site-ca", "site-server-certificate", "configuration-signing", "token-signing", "server-certificate", "app-secret", "trusted-certificate", "token-issuer",
		"connection-point-certificate", "management-point-certificate", "tunnel-identity", "revocation-list"} {
		if !kinds[kind] {
			t.Errorf("%s is not watched", kind)
		}
	}
	r.sent()
	mine := func() (texts []string) {
		t.Helper()
		report()
		r.look("expiry")
		r.look("expiry")
		for _, a := range r.sent() {
			if a.Kind == "expiry" && strings.Contains(a.Subject, "server-certificate/"+g.ID) {
				texts = append(texts, a.Severity+" "+a.Text)
			}
		}
		return texts
	}
	if got := mine(); len(got) != 0 {
		t.Errorf("100 days before: %v", got)
	}
	for _, tt := range []struct {
		left time.Duration
		want string
	}{
		{61, ""}, {59, "warning 60"}, {31, ""}, {30, "warning 30"}, {15, ""}, {13, "warning 14"}, {8, ""}, {7, "critical 7"}, {2, ""}, {1, "critical 1"}, {-1, "ended"},
	} {
		r.wait(ends.Add(-tt.left * 24 * time.Hour).Sub(r.now()))
		got := mine()
		severity, days, _ := strings.Cut(tt.want, " ")
		switch {
		case tt.want == "":
			if len(got) != 0 {
				t.Errorf("%d days before: %v", tt.left, got)
			}
		case len(got) != 1 || !strings.Contains(got[0], severity) || days != "" && !strings.Contains(got[0], "within "+days+" days"):
			t.Errorf("%d days before: %v, want %s", tt.left, got, tt.want)
		}
	}
	open := func() bool {
		t.Helper()
		return slices.ContainsFunc(do[adminservice.Page[adminservice.Alert]](r, "GET", "Alerts?open=true", nil).Value, func(a adminservice.Alert) bool {
			return a.Kind == "expiry" && strings.Contains(a.Subject, "server-certificate/"+g.ID)
		})
	}
	if !open() {
		t.Error("the alert is not open")
	}
	p.says() // without tunnels nobody needs to follow
	r.finish(do[adminservice.Operation](r, "PUT", "Gateways/granitefalls/certificate", adminservice.ServerCertificate{PFX: r.pfxUntil(r.now().AddDate(1, 0, 0), "x", serviceName), Password: "x"}))
	mine()
	if open() {
		t.Error("the alert is open after the renewal")
	}
}
