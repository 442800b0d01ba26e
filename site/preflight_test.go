package site_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// planned asks for the checks of a planned gateway.
func (r *rig) planned(change func(*adminservice.NewGateway)) []adminservice.ChecklistItem {
	r.t.Helper()
	g := r.newGateway()
	if change != nil {
		change(&g)
	}
	return do[adminservice.Page[adminservice.ChecklistItem]](r, "POST", "Checklist", adminservice.ChecklistRequest{Planned: &g}).Value
}

// TestPreflight checks planned gateways: a good one, and one for each thing that
// is wrong with it. Nothing is created.
func TestPreflight(t *testing.T) {
	var net *network
	r := newRig(t, func(r *rig) { net = newNetwork(r) })

	items := r.planned(nil) // no tenant yet
	checkItems(t, items)
	if i := itemOf(t, items, "plan"); i.State != opencmg.CheckFail || !strings.Contains(i.Evidence, "no server application") {
		t.Errorf("without a tenant: %+v", i)
	}
	if i := itemOf(t, items, "certificate-key"); i.State != opencmg.CheckPass {
		t.Errorf("without a tenant: %+v", i)
	}
	r.connect()
	items = r.planned(nil)
	checkItems(t, items)
	for _, i := range items {
		if i.State != opencmg.CheckPass {
			t.Errorf("%+v", i)
		}
		// What comes after the creation is not asked for before it.
		if i.Part > adminservice.PartEntra && i.ID != "dns-inside" {
			t.Errorf("%s is not for a preflight", i.ID)
		}
	}
	for _, tt := range []struct {
		name, id string
		state    opencmg.CheckState
		says     string
		change   func(*adminservice.NewGateway)
		spoil    func() func()
	}{
		{"certificate for somebody else", "certificate-service-name", opencmg.CheckFail, "gw.other.example", func(g *adminservice.NewGateway) { g.Certificate.ServiceName = "gw.other.example" }, nil},
		{"expired certificate", "certificate-validity", opencmg.CheckFail, "expired", func(g *adminservice.NewGateway) {
			g.Certificate.PFX = r.pfxUntil(time.Now().Add(-time.Hour), "p4ssw0rd-planted", serviceName)
		}, nil},
		{"wrong password", "certificate-file", opencmg.CheckFail, "password", func(g *adminservice.NewGateway) { g.Certificate.Password = "no" }, nil},
		{"deployment name", "certificate-deployment-name", opencmg.CheckFail, "letters and digits", func(g *adminservice.NewGateway) { g.DeploymentName = "granite-falls" }, nil},
		{"no certificate", "certificate", opencmg.CheckTodo, "no certificate is planned", func(g *adminservice.NewGateway) { g.Certificate = adminservice.ServerCertificate{} }, nil},
		{"too many instances", "plan", opencmg.CheckFail, "must be 1 to 16", func(g *adminservice.NewGateway) { g.Instances = 17 }, nil},
		{"other subscription", "subscription-owner", opencmg.CheckFail, "not among", func(g *adminservice.NewGateway) { g.SubscriptionID = "11111111-0b63-4f18-8e2d-57c3a1f0b6e4" }, nil},
		{"region", "region", opencmg.CheckFail, "atlantis", func(g *adminservice.NewGateway) { g.Region = "Atlantis" }, nil},
		{"existing group", "subscription-owner", opencmg.CheckFail, "does not exist", func(g *adminservice.NewGateway) { g.ResourceGroup, g.ExistingGroup = "missing", true }, nil},
		{"one instance", "instances", opencmg.CheckWarn, "one instance", func(g *adminservice.NewGateway) { g.Instances = 1 }, nil},
		{"name taken", "free-names", opencmg.CheckFail, "granitefalls", nil, func() func() { return r.fault(labFault{Kind: "nameTaken", Name: "granitefalls"}) }},
		{"quota", "quota", opencmg.CheckFail, "cores", nil, func() func() { return r.fault(labFault{Kind: "quota", Name: "cores", Limit: 3}) }},
		{"feature off", "optional-feature", opencmg.CheckFail, "off", nil, func() func() {
			do[adminservice.Feature](r, "PATCH", "Features/"+adminservice.FeatureGateway, map[string]any{"on": false})
			return func() {
				do[adminservice.Feature](r, "PATCH", "Features/"+adminservice.FeatureGateway, map[string]any{"on": true})
			}
		}},
		// A record that is not there yet can be made later.
		{"no record yet", "dns-inside", opencmg.CheckWarn, "no such host", nil, func() func() {
			net.spoil(serviceName, func(p *opencmg.Probe) { p.OK, p.Error = false, "no such host" })
			return func() { net.spoil(serviceName, nil) }
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mend := func() {}
			if tt.spoil != nil {
				mend = tt.spoil()
			}
			items := r.planned(tt.change)
			mend()
			checkItems(t, items)
			if i := itemOf(t, items, tt.id); i.State != tt.state || !strings.Contains(i.Evidence, tt.says) {
				t.Errorf("%s: %s %q, want %s with %q", tt.id, i.State, i.Evidence, tt.state, tt.says)
			}
		})
	}
	if list := do[adminservice.Page[adminservice.Gateway]](r, "GET", "Gateways", nil).Value; len(list) != 0 {
		t.Errorf("created: %+v", list)
	}
	// A self-hosted one needs no cloud.
	for _, i := range r.planned(func(g *adminservice.NewGateway) {
		*g = adminservice.NewGateway{Model: adminservice.ModelSelfHosted, GatewaySettings: adminservice.GatewaySettings{Instances: 2}, Certificate: g.Certificate}
	}) {
		if i.State != opencmg.CheckPass && i.ID != "certificate-dns" {
			t.Errorf("self-hosted: %+v", i)
		}
	}
	// One with a service name that is taken.
	r.finish(do[adminservice.Operation](r, "POST", "Gateways", r.newGateway()))
	if i := itemOf(t, r.planned(nil), "plan"); i.State != opencmg.CheckFail || !strings.Contains(i.Evidence, "has the service name") {
		t.Errorf("the same again: %+v", i)
	}
}

// TestFeature: without the optional feature no gateway is created.
func TestFeature(t *testing.T) {
	r := newRig(t)
	r.connect()
	f := do[adminservice.Page[adminservice.Feature]](r, "GET", "Features", nil).Value
	if len(f) != 1 || !f[0].On || f[0].Version != 0 || f[0].ID != adminservice.FeatureGateway {
		t.Fatalf("at first: %+v", f)
	}
	path := "Features/" + f[0].ID
	off := do[adminservice.Feature](r, "PATCH", path, map[string]any{"on": false})
	if off.On || off.Version != 1 {
		t.Errorf("off: %+v", off)
	}
	refused(t, r.c.Do(t.Context(), "POST", "Gateways", r.newGateway(), nil), opencmg.Conflict, "opencmg feature cloud-management-gateway on")
	refused(t, r.c.Change(t.Context(), "PATCH", path, 7, map[string]any{"on": true}, nil), opencmg.Stale, "")
	refused(t, r.c.Do(t.Context(), "PATCH", "Features/telepathy", map[string]any{"on": true}, nil), opencmg.NotFound, "telepathy")
	refused(t, r.c.Do(t.Context(), "PATCH", path, map[string]any{}, nil), opencmg.Invalid, "true or false")
	if on := do[adminservice.Feature](r, "PATCH", path, map[string]any{"on": true}); !on.On || on.Version != 2 {
		t.Errorf("on: %+v", on)
	}
	r.finish(do[adminservice.Operation](r, "POST", "Gateways", r.newGateway()))
	if n := len(r.messages("switched the optional feature Cloud Management Gateway")); n != 2 {
		t.Errorf("%d status messages", n)
	}
}

// TestChecklistWithFindings: before there is a connection point, an
// administrator looks from its host.
func TestChecklistWithFindings(t *testing.T) {
	r := newRig(t, func(r *rig) { newNetwork(r) })
	targets := func() []opencmg.ProbeTarget {
		return do[adminservice.Page[opencmg.ProbeTarget]](r, "GET", "ProbeTargets", nil).Value
	}
	if list := targets(); len(list) != 2 || list[0].Host != "management.lab.opencmg.example" || !list[0].Private {
		t.Errorf("without a gateway: %+v", list)
	}
	r.connect()
	r.finish(do[adminservice.Operation](r, "POST", "Gateways", r.newGateway()))
	list := targets()
	var addresses []string
	for _, p := range list {
		if p.Kind == opencmg.ProbeTunnel {
			addresses = append(addresses, p.Transport)
		}
	}
	if len(addresses) != 2 || list[0].Kind != opencmg.ProbeName || list[0].Host != serviceName {
		t.Errorf("with a gateway: %+v", list)
	}
	ask := func(change func(*opencmg.Probe)) []adminservice.ChecklistItem {
		report := opencmg.ProbeReport{Time: time.Now().UTC(), Proxy: "proxy.corp.example:8080"}
		for _, p := range list {
			f := opencmg.Probe{ProbeTarget: p, OK: true, Via: opencmg.ViaDNS, Addresses: []string{"192.0.2.7"}, Canonical: "granitefalls.westeurope.cloudapp.lab.opencmg.example"}
			change(&f)
			report.Probes = append(report.Probes, f)
		}
		return do[adminservice.Page[adminservice.ChecklistItem]](r, "POST", "Checklist", adminservice.ChecklistRequest{Probes: &report}).Value
	}
	all := func(*opencmg.Probe) {}
	for id, says := range map[string]string{
		"outward-ports": "the host of the command reaches", "dns-inside": "the host of the command: CNAME", "connection-point-endpoints": "the host of the command reaches", "tls-inspection": "the proxy proxy.corp.example:8080",
	} {
		if i := itemOf(t, ask(all), id); i.State != opencmg.CheckPass || !strings.Contains(i.Evidence, says) {
			t.Errorf("%+v", i)
		}
	}
	// One port is enough; when it is inspected, the product is named.
	items := ask(func(p *opencmg.Probe) {
		if p.Kind == opencmg.ProbeTunnel && p.Instance == 1 {
			inspected(p)
		}
	})
	for id, says := range map[string]string{"outward-ports": "instance 1: the host of the command does not reach", "tls-inspection": "CN=Snoop CA"} {
		if i := itemOf(t, items, id); i.State != opencmg.CheckFail || !strings.Contains(i.Evidence, says) {
			t.Errorf("%+v", i)
		}
	}
	// An address record works, and is worth a word.
	i := itemOf(t, ask(func(p *opencmg.Probe) {
		if p.Kind == opencmg.ProbeName {
			p.Canonical, p.Addresses = "", r.gateway().Addresses
		}
	}), "dns-inside")
	if i.State != opencmg.CheckWarn || !strings.Contains(i.Evidence, "not by a CNAME") {
		t.Errorf("%+v", i)
	}
	many := &opencmg.ProbeReport{Time: time.Now().UTC(), Probes: make([]opencmg.Probe, opencmg.MaxProbes+1)}
	refused(t, r.c.Do(t.Context(), "POST", "Checklist", adminservice.ChecklistRequest{Probes: many}, nil), opencmg.Invalid, "more than 64")
	refused(t, r.c.Do(t.Context(), "POST", "Checklist", adminservice.ChecklistRequest{Gateway: "nobody"}, nil), opencmg.NotFound, "nobody")
	if slices.ContainsFunc(r.checklist(""), func(i adminservice.ChecklistItem) bool { return i.ID == "plan" }) {
		t.Error("a plan without one")
	}
}
