package site_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/site"
	"github.com/opencmg/opencmg/sitedb"
)

// A network is what the site server finds outside: all is well but for what a
// test says.
type network struct {
	mu  sync.Mutex // guards bad
	bad map[string]func(*opencmg.Probe)
}

func (n *network) spoil(host string, how func(*opencmg.Probe)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.bad[host] = how
}

func (n *network) look(_ context.Context, targets []opencmg.ProbeTarget) opencmg.ProbeReport {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := opencmg.ProbeReport{Time: time.Now()}
	for _, t := range targets {
		p := opencmg.Probe{ProbeTarget: t, OK: true, Via: opencmg.ViaDNS}
		if t.Kind == opencmg.ProbeName {
			p.Addresses, p.Canonical = []string{"192.0.2.7"}, "granitefalls.westeurope.cloudapp.lab.opencmg.example"
		}
		if how := n.bad[t.Host]; how != nil {
			how(&p)
		}
		r.Probes = append(r.Probes, p)
	}
	return r
}

// unreachable is what a target is that nobody reaches.
func unreachable(p *opencmg.Probe) { p.OK, p.Error = false, "connection refused" }

// inspected is a target on whose way TLS is inspected.
func inspected(p *opencmg.Probe) {
	p.OK, p.Inspector, p.Error = false, "CN=Snoop CA", "unknown authority"
}

// A setUp is a site that is set up as a whole, with nothing real behind its
// site systems.
type setUp struct {
	*rig
	net  *network
	cp   *point
	mp   *point
	g    adminservice.Gateway
	mpID string // of its role
}

func newNetwork(r *rig) *network {
	n := &network{bad: map[string]func(*opencmg.Probe){}}
	r.config = func(c *site.Config) { c.Probe = n.look }
	return n
}

func newSetUp(t *testing.T) *setUp {
	s := &setUp{}
	s.rig = newRig(t, func(r *rig) { s.net = newNetwork(r) })
	s.connect()
	do[adminservice.TrustedCertificate](s.rig, "POST", "TrustedCertificates", adminservice.TrustedCertificate{Store: adminservice.RootCA, Certificate: string(s.ca.CertificatePEM())})
	s.finish(do[adminservice.Operation](s.rig, "POST", "Gateways", s.newGateway()))
	s.g = s.gateway()
	s.mp = s.system(adminservice.SystemManagementPoint, "mp1", "")
	for _, role := range do[adminservice.Page[adminservice.SiteRole]](s.rig, "GET", "SiteRoles", nil).Value {
		s.mpID = role.ID
		do[adminservice.SiteRole](s.rig, "PATCH", "SiteRoles/"+role.ID, map[string]any{"allowGatewayTraffic": true})
	}
	s.cp = s.join("cp1", s.g.ID)
	key := must(s.ca.IssueKeyPair(pki.Template{CommonName: "client", Client: true}, time.Now()))(t)
	if _, _, err := s.db.RegisterClient(t.Context(), sitedb.Registration{Client: sitedb.Client{NetBIOSName: "PC1", Signing: key.Leaf, Auth: opencmg.AuthPKI}}); err != nil {
		t.Fatal(err)
	}
	s.g = s.gateway()
	s.report(nil)
	return s
}

// report has the site systems report that all is well, but for a change.
func (s *setUp) report(change func(*adminservice.SiteSystemReport)) {
	s.t.Helper()
	r := &adminservice.SiteSystemReport{
		Kind: adminservice.SystemConnectionPoint, CertificateEnds: s.now().AddDate(2, 0, 0),
		ConnectionPoint: &opencmg.ConnectionPointStatus{Name: s.cp.name, ConnectionID: s.cp.id, Site: "LAB"},
	}
	docs, _, err := s.cp.client().Documents(s.t.Context(), "", 0)
	if err != nil {
		s.t.Fatal(err)
	}
	seen := s.net.look(s.t.Context(), docs.Probes)
	r.Probes = &seen
	for n := range 2 {
		r.ConnectionPoint.Tunnels = append(r.ConnectionPoint.Tunnels, opencmg.TunnelStatus{Gateway: "granitefalls", Instance: n, Connected: true, Transport: "https"})
		outside := s.net.look(s.t.Context(), []opencmg.ProbeTarget{{Kind: opencmg.ProbeName, Host: serviceName}, {Kind: opencmg.ProbeService, Host: serviceName, Port: 443}})
		outside.Probes[1].Certificate = s.g.CertificateThumbprint
		r.Instances = append(r.Instances, opencmg.InstanceStatus{
			Gateway: "granitefalls", Instance: n, Started: s.now(), Time: s.now().UTC(), Configuration: s.g.Configuration + 100, Certificate: s.g.CertificateThumbprint, Outside: &outside,
			RevocationLists: []opencmg.RevocationListStatus{{URL: "http://crl.example.com/root.crl", NextUpdate: s.now().Add(time.Hour)}},
		})
	}
	if change != nil {
		change(r)
	}
	if err := s.cp.client().Report(s.t.Context(), r); err != nil {
		s.t.Fatal(err)
	}
	if err := s.mp.client().Report(s.t.Context(), &adminservice.SiteSystemReport{Kind: adminservice.SystemManagementPoint}); err != nil {
		s.t.Fatal(err)
	}
}

// edit changes an object in the database behind the site's back, and returns
// what undoes it.
func (r *rig) edit(kind, id string, change func(map[string]any)) func() {
	r.t.Helper()
	put := func(body json.RawMessage) {
		r.t.Helper()
		err := r.db.Change(r.t.Context(), "test", func(tx *sitedb.Tx) error {
			o, err := tx.Object(kind, id)
			if err != nil {
				return err
			}
			o.Body = body
			_, err = tx.Put(o)
			return err
		})
		if err != nil {
			r.t.Fatal(err)
		}
	}
	before := must(r.db.Object(r.t.Context(), kind, id))(r.t).Body
	var m map[string]any
	if err := json.Unmarshal(before, &m); err != nil {
		r.t.Fatal(err)
	}
	change(m)
	put(must(json.Marshal(m))(r.t))
	return func() { put(before) }
}

// id is that of the only object of a kind for which ok.
func (r *rig) only(kind string, ok func(string) bool) string {
	r.t.Helper()
	for _, o := range must(r.db.Objects(r.t.Context(), kind))(r.t) {
		if ok == nil || ok(string(o.Body)) {
			return o.ID
		}
	}
	r.t.Fatalf("there is no such %s", kind)
	return ""
}

func (r *rig) fault(f labFault) func() {
	r.t.Helper()
	id := must(r.cloud.SetFault(f))(r.t)
	return func() { r.cloud.ClearFault(id) }
}

// checklist asks for the items.
func (r *rig) checklist(query string) []adminservice.ChecklistItem {
	r.t.Helper()
	return do[adminservice.Page[adminservice.ChecklistItem]](r, "GET", "Checklist"+query, nil).Value
}

func itemOf(t *testing.T, items []adminservice.ChecklistItem, id string) adminservice.ChecklistItem {
	t.Helper()
	i := slices.IndexFunc(items, func(i adminservice.ChecklistItem) bool { return i.ID == id })
	if i < 0 {
		t.Fatalf("there is no item %s", id)
	}
	return items[i]
}

// checkItems holds what every checklist keeps: unique IDs, parts in order, and
// for each item that does not pass who has to do what.
func checkItems(t *testing.T, items []adminservice.ChecklistItem) {
	t.Helper()
	seen := map[string]bool{}
	for n, i := range items {
		if seen[i.ID] || i.ID == "" || i.Name == "" || i.Who == "" || i.Evidence == "" {
			t.Errorf("item %+v is not complete, or there twice", i)
		}
		seen[i.ID] = true
		if n > 0 && items[n-1].Part > i.Part {
			t.Errorf("%s comes behind part %d", i.ID, items[n-1].Part)
		}
		if i.State != opencmg.CheckPass && (i.NextStep == "" || i.Command == "" && i.ID != "azure-service" && !strings.HasPrefix(i.ID, "certificate-") && i.ID != "plan") {
			t.Errorf("%s is %s (%s) and says nothing to do: %q, %q", i.ID, i.State, i.Evidence, i.NextStep, i.Command)
		}
		if i.State == opencmg.CheckPass && i.NextStep+i.Command != "" {
			t.Errorf("%s passes and still asks for %q, %q", i.ID, i.NextStep, i.Command)
		}
		// A dollar sign in bare words would be a variable.
		if i.Command != "" && (!strings.HasPrefix(i.Command, "opencmg ") || regexp.MustCompile(`(^|[^'])\$`).MatchString(i.Command)) {
			t.Errorf("%s: the command %q", i.ID, i.Command)
		}
	}
}

// TestChecklistOfAFreshSite lists every item, and the first steps.
func TestChecklistOfAFreshSite(t *testing.T) {
	r := newRig(t, func(r *rig) { newNetwork(r) })
	items := r.checklist("")
	checkItems(t, items)
	var ids, open []string
	for _, i := range items {
		ids = append(ids, i.ID)
		if i.Open() {
			open = append(open, i.ID)
		}
	}
	if diff := strings.Join(ids, " "); diff != strings.Join(site.ChecklistIDs(), " ") {
		t.Errorf("items: %s", diff)
	}
	// These need nobody on a fresh site; all others do.
	for _, id := range []string{"site-role", "optional-feature", "internet-endpoints", "tls-inspection", "client-settings"} {
		if slices.Contains(open, id) {
			t.Errorf("%s is open: %+v", id, itemOf(t, items, id))
		}
	}
	if len(open) != len(ids)-5 {
		t.Errorf("%d of %d items are open: %v", len(open), len(ids), open)
	}
	// With a tenant, a subscription and a region the cloud is asked.
	r.connect()
	q := "?" + url.Values{"subscription": {subscriptionID}, "region": {"West Europe"}, "serviceName": {serviceName}, "instances": {"3"}}.Encode()
	for _, id := range []string{"subscription-owner", "resource-providers", "region", "instances", "quota", "size", "free-names"} {
		if i := itemOf(t, r.checklist(q), id); i.State != opencmg.CheckPass {
			t.Errorf("%+v", i)
		}
	}
	// Sixteen Large instances have 64 cores, and the subscription 100.
	if i := itemOf(t, r.checklist(q+"&size=Large&instances=16"), "quota"); i.State != opencmg.CheckPass {
		t.Errorf("%+v", i)
	}
	defer r.fault(labFault{Kind: "quota", Name: "cores", Limit: 5})()
	if i := itemOf(t, r.checklist(q), "quota"); i.State != opencmg.CheckFail || !strings.Contains(i.Evidence, "6 more are needed") || i.Who != adminservice.WhoSubscriptionOwner {
		t.Errorf("three instances with five cores: %+v", i)
	}
	if err := r.c.Do(t.Context(), "GET", "Checklist?instances=17", nil, nil); err == nil || !strings.Contains(err.Error(), "1 to 16") {
		t.Errorf("17 instances: %v", err)
	}
}

// TestChecklistItemByItem goes through a site where everything passes: each
// item is spoiled in turn, does not pass then, says why, and passes again.
func TestChecklistItemByItem(t *testing.T) {
	s := newSetUp(t)
	items := s.checklist("")
	checkItems(t, items)
	for _, i := range items {
		if i.State != opencmg.CheckPass {
			t.Errorf("at first: %+v", i)
		}
	}
	analyst := s.account("analyst", adminservice.ReadOnlyAnalyst)
	gateway := func(change func(map[string]any)) func() { return s.edit("gateway", s.g.ID, change) }
	serverApp := s.only("application", func(b string) bool { return strings.Contains(b, adminservice.ServerApplication) })
	clientApp := s.only("application", func(b string) bool { return strings.Contains(b, adminservice.ClientApplication) })
	service := s.only("azure-service", nil)

	outside := func(host string, how func(*opencmg.Probe)) func() {
		s.net.spoil(host, how)
		s.report(nil)
		return func() {
			s.net.spoil(host, nil)
			s.report(nil)
		}
	}
	reported := func(change func(*adminservice.SiteSystemReport)) func() {
		s.report(change)
		return func() { s.report(nil) }
	}
	secret := must(s.db.Secret(t.Context(), "application/"+serverApp))(t)
	putSecret := func(b []byte) {
		if err := s.db.Change(t.Context(), "test", func(tx *sitedb.Tx) error { return tx.PutSecret("application/"+serverApp, b) }); err != nil {
			t.Fatal(err)
		}
	}
	cases := []struct {
		id    string
		state opencmg.CheckState
		says  string // in the evidence
		spoil func() (mend func())
		query string
	}{
		{"site-role", opencmg.CheckFail, "Read-only Analyst", func() func() {
			c := s.c
			s.c = analyst
			return func() { s.c = c }
		}, ""},
		{"optional-feature", opencmg.CheckFail, "it is off", func() func() {
			do[adminservice.Feature](s.rig, "PATCH", "Features/"+adminservice.FeatureGateway, map[string]any{"on": false})
			return func() {
				do[adminservice.Feature](s.rig, "PATCH", "Features/"+adminservice.FeatureGateway, map[string]any{"on": true})
			}
		}, ""},
		{"environment", opencmg.CheckFail, "is not an environment of this site", func() func() { return gateway(func(m map[string]any) { m["environment"] = "AzurePublicCloud" }) }, ""},
		{"global-administrator", opencmg.CheckTodo, "nobody may consent", func() func() {
			return s.edit("application", clientApp, func(m map[string]any) {
				m["consent"] = map[string]any{"id": "consent", "name": "Consent", "state": "todo", "evidence": "nobody may consent", "nextStep": "have it granted"}
			})
		}, ""},
		{"subscription-owner", opencmg.CheckTodo, "Rights", func() func() { return s.fault(labFault{Kind: "forbidden", Path: "Authorization/permissions"}) }, ""},
		{"resource-providers", opencmg.CheckFail, "Microsoft.KeyVault: NotRegistered", func() func() {
			s.fault(labFault{Kind: "providerUnregistered", Name: "Microsoft.KeyVault"})
			return func() {
				s.finish(do[adminservice.Operation](s.rig, "POST", "Applications/"+serverApp+"/registerProviders", adminservice.RegisterProviders{SubscriptionID: subscriptionID}))
			}
		}, ""},
		{"region", opencmg.CheckFail, "atlantis is not offered", func() func() { return gateway(func(m map[string]any) { m["region"] = "atlantis" }) }, ""},
		{"instances", opencmg.CheckWarn, "one instance", func() func() { return func() {} }, "?instances=1"},
		{"quota", opencmg.CheckFail, "more are needed", func() func() { return s.fault(labFault{Kind: "quota", Name: "standardBSFamily", Limit: 4}) }, "?instances=3"},
		{"size", opencmg.CheckFail, "Standard_B2s", func() func() { return s.fault(labFault{Kind: "skuRestricted", Name: "Standard_B2s"}) }, ""},
		{"internet-endpoints", opencmg.CheckFail, "management.lab.opencmg.example:443: connection refused", func() func() { return outside("management.lab.opencmg.example", unreachable) }, ""},
		{"tls-inspection", opencmg.CheckFail, "from the site server to login.lab.opencmg.example:443 TLS is inspected by CN=Snoop CA", func() func() { return outside("login.lab.opencmg.example", inspected) }, ""},
		{"connection-point-host", opencmg.CheckFail, "no report comes from cp1", func() func() {
			s.wait(2 * time.Minute)
			return func() { s.report(nil) }
		}, ""},
		{"certificate", opencmg.CheckFail, "ended on", func() func() {
			return gateway(func(m map[string]any) { m["certificateEnds"] = s.now().Add(-time.Hour) })
		}, ""},
		{"free-names", opencmg.CheckFail, "granitefalls", func() func() { return gateway(func(m map[string]any) { m["guid"] = "somebody-else" }) }, ""},
		{"azure-service", opencmg.CheckFail, "switched off", func() func() {
			do[adminservice.Tenant](s.rig, "PATCH", "Tenants/"+tenantID, map[string]any{"disableAuthentication": true})
			return func() {
				do[adminservice.Tenant](s.rig, "PATCH", "Tenants/"+tenantID, map[string]any{"disableAuthentication": false})
			}
		}, ""},
		{"server-app", opencmg.CheckFail, "ended on", func() func() {
			return s.edit("application", serverApp, func(m map[string]any) { m["secretExpires"] = s.now().Add(-time.Hour) })
		}, ""},
		{"client-app", opencmg.CheckTodo, "no client application", func() func() {
			return s.edit("azure-service", service, func(m map[string]any) { m["clientAppId"] = "gone" })
		}, ""},
		{"sign-in", opencmg.CheckFail, "AADSTS7000215", func() func() {
			putSecret([]byte("wrong"))
			return func() { putSecret(secret) }
		}, ""},
		{"consent-users", opencmg.CheckTodo, "nobody may consent", func() func() {
			return s.edit("application", clientApp, func(m map[string]any) {
				m["consent"] = map[string]any{"id": "consent", "name": "Consent", "state": "todo", "evidence": "nobody may consent", "nextStep": "have it granted"}
			})
		}, ""},
		{"consent-directory", opencmg.CheckTodo, "may not read the directory", func() func() {
			return s.edit("azure-service", service, func(m map[string]any) { m["userDiscovery"] = true })
		}, ""},
		{"client-authentication", opencmg.CheckTodo, "no client can sign in", func() func() {
			a := s.edit("trusted-certificate", s.only("trusted-certificate", nil), func(m map[string]any) { m["store"] = adminservice.IntermediateCA })
			b := s.edit("tenant", tenantID, func(m map[string]any) { m["disabled"] = true })
			c := s.edit("role", s.mpID, func(m map[string]any) { m["kind"] = "service" })
			return func() { a(); b(); c() }
		}, ""},
		{"client-revocation", opencmg.CheckFail, "root.crl: no route", func() func() {
			return reported(func(r *adminservice.SiteSystemReport) {
				r.Instances[1].RevocationLists[0].LastError = "no route"
			})
		}, ""},
		{"management-point-https", opencmg.CheckFail, "plain HTTP: mp1", func() func() {
			return s.edit("role", s.mpID, func(m map[string]any) { m["internal"] = []string{"http://mp1"} })
		}, ""},
		{"gateway", opencmg.CheckFail, "the roof is on fire", func() func() {
			return gateway(func(m map[string]any) { m["state"], m["error"] = adminservice.StateError, "the roof is on fire" })
		}, ""},
		{"gateway-instances", opencmg.CheckFail, "instance 1 has no tunnel", func() func() {
			return reported(func(r *adminservice.SiteSystemReport) { r.ConnectionPoint.Tunnels[1].Connected = false })
		}, ""},
		{"dns-inside", opencmg.CheckFail, "leads to elsewhere.example 192.0.2.9", func() func() {
			return outside(serviceName, func(p *opencmg.Probe) { p.Canonical, p.Addresses = "elsewhere.example", []string{"192.0.2.9"} })
		}, ""},
		{"dns-outside", opencmg.CheckFail, "another certificate is presented", func() func() {
			return reported(func(r *adminservice.SiteSystemReport) { r.Instances[0].Outside.Probes[1].Certificate = "beef" })
		}, ""},
		{"connection-point", opencmg.CheckFail, "not connected: cp1", func() func() {
			return reported(func(r *adminservice.SiteSystemReport) { r.ConnectionPoint.Tunnels = nil })
		}, ""},
		{"outward-ports", opencmg.CheckFail, "instance 0: connection point cp1: refused", func() func() {
			return reported(func(r *adminservice.SiteSystemReport) {
				r.ConnectionPoint.Tunnels[0].Connected, r.ConnectionPoint.Tunnels[0].LastError = false, "refused"
				for i := range r.Probes.Probes {
					if r.Probes.Probes[i].Kind == opencmg.ProbeTunnel && r.Probes.Probes[i].Instance == 0 {
						unreachable(&r.Probes.Probes[i])
					}
				}
			})
		}, ""},
		{"connection-point-endpoints", opencmg.CheckWarn, "connection point cp1 does not reach granitefalls.blob", func() func() { return outside("granitefalls.blob.lab.opencmg.example", unreachable) }, ""},
		{"management-point", opencmg.CheckTodo, "off at mp1", func() func() {
			do[adminservice.SiteRole](s.rig, "PATCH", "SiteRoles/"+s.mpID, map[string]any{"allowGatewayTraffic": false})
			return func() {
				do[adminservice.SiteRole](s.rig, "PATCH", "SiteRoles/"+s.mpID, map[string]any{"allowGatewayTraffic": true})
			}
		}, ""},
		{"software-update-point", opencmg.CheckTodo, "off at sup1", func() func() {
			made := do[adminservice.SiteRole](s.rig, "POST", "SiteRoles", adminservice.SiteRole{Kind: opencmg.KindSoftwareUpdatePoint, Name: "sup1", Internal: []string{"https://sup1.corp.example:8531"}})
			return func() { do[any](s.rig, "DELETE", "SiteRoles/"+made.ID, nil) }
		}, ""},
		{"boundary-groups", opencmg.CheckTodo, "none of 1 boundary group", func() func() {
			group := do[adminservice.Page[adminservice.BoundaryGroup]](s.rig, "GET", "BoundaryGroups", nil).Value[0].ID
			change := func(on bool) {
				do[any](s.rig, "PATCH", "BoundaryGroups/"+group, map[string]any{"includeCloudSources": on})
			}
			change(false)
			return func() { change(true) }
		}, ""},
		{"client-settings", opencmg.CheckFail, "do not allow clients to use a gateway", func() func() {
			change := func(on bool) {
				do[any](s.rig, "PATCH", "ClientSettings/0", map[string]any{"allowCloudManagementGateway": on})
			}
			change(false)
			return func() { change(true) }
		}, ""},
		{"clients-told", opencmg.CheckTodo, "not told of", func() func() {
			return gateway(func(m map[string]any) { m["renewal"] = map[string]any{"temporary": true} })
		}, ""},
		{"clients", opencmg.CheckTodo, "no client is registered", func() func() {
			list := must(s.db.Clients(t.Context(), "", "", "", 10))(t)
			if err := s.db.RemoveClient(t.Context(), list[0].ID); err != nil {
				t.Fatal(err)
			}
			return func() {
				if _, _, err := s.db.RegisterClient(t.Context(), sitedb.Registration{Client: list[0]}); err != nil {
					t.Fatal(err)
				}
			}
		}, ""},
	}
	var covered []string
	for _, tt := range cases {
		covered = append(covered, tt.id)
		t.Run(tt.id, func(t *testing.T) {
			mend := tt.spoil()
			items := s.checklist(tt.query)
			mend()
			checkItems(t, items)
			if i := itemOf(t, items, tt.id); i.State != tt.state || !strings.Contains(i.Evidence, tt.says) {
				t.Errorf("%s: %s %q, want %s with %q", tt.id, i.State, i.Evidence, tt.state, tt.says)
			}
			for _, i := range s.checklist("") {
				if i.State != opencmg.CheckPass {
					t.Errorf("after it was mended: %+v", i)
				}
			}
		})
	}
	// A connection point that finds too much is cut short: three hosts of the
	// site server, and 64 findings of which one is a name.
	s.report(func(r *adminservice.SiteSystemReport) {
		for range 200 {
			r.Probes.Probes = append(r.Probes.Probes, opencmg.Probe{ProbeTarget: opencmg.ProbeTarget{Kind: opencmg.ProbeHost, Host: "x", Port: 1}, OK: true})
		}
	})
	if i := itemOf(t, s.checklist(""), "tls-inspection"); !strings.Contains(i.Evidence, "none of 66 connections") {
		t.Errorf("%+v", i)
	}
	if fmt.Sprint(covered) != fmt.Sprint(site.ChecklistIDs()) {
		t.Errorf("items that are spoiled here: %v", covered)
	}
}
