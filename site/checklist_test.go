package site_test

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/site"
	"github.com/opencmg/opencmg/sitedb"
)

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
