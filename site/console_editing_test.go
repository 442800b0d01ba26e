package site_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/sitedb"
)

var versionPattern = regexp.MustCompile(`name="version" value="(\d+)"`)

// TestConsoleTwoEdit lets two people open the same form. What the first saves
// stays, what the second typed comes back, and can be saved after a look.
func TestConsoleTwoEdit(t *testing.T) {
	r := newRig(t)
	r.connect()
	role := do[adminservice.SiteRole](r, "POST", "SiteRoles", adminservice.SiteRole{Kind: "management-point", Name: "mp1", Internal: []string{"https://mp1.corp.example"}})
	group := do[adminservice.BoundaryGroup](r, "POST", "BoundaryGroups", adminservice.BoundaryGroup{Name: "Branch"})
	var gateways []string
	for _, name := range []string{"gw1.example.com", "gw2.example.com"} {
		gateways = append(gateways, do[adminservice.Gateway](r, "POST", "Gateways", adminservice.NewGateway{Model: adminservice.ModelSelfHosted, Certificate: adminservice.ServerCertificate{ServiceName: name}}).ID)
	}
	cp := r.join("cp1", "")
	minutes := func(policy string) url.Values {
		return url.Values{"policyMinutes": {policy}, "locationMinutes": {"60"}, "inventoryMinutes": {"60"}, "discoveryMinutes": {"60"}, "stateMinutes": {"60"}, "keepAliveMinutes": {"15"}}
	}
	service := func(name string) url.Values {
		return url.Values{"name": {name}, "userDeltaMinutes": {"7"}, "userFullHours": {"24"}, "groupDeltaMinutes": {"5"}, "groupFullHours": {"24"}}
	}
	for _, c := range []struct {
		name, page, action string // the latter two below /console/
		kind, id           string // of the object in the database
		first, second      url.Values
		// What the object, and the page, have of each.
		kept, typed, shown string
	}{
		{"role", "roles/" + role.ID, "roles/" + role.ID, "role", role.ID,
			url.Values{"name": {"mp1"}, "internal": {"https://first.corp.example"}}, url.Values{"name": {"mp1"}, "internal": {"https://second.corp.example"}, "hostHeader": {"second.corp.example"}},
			"https://first.corp.example", "https://second.corp.example", `name="hostHeader" value="second.corp.example"`},
		{"boundary group", "boundary-groups/" + group.ID, "boundary-groups/" + group.ID, "boundary-group", group.ID,
			url.Values{"name": {"Branch"}, "boundaries": {"10.1.0.0/16"}}, url.Values{"ticks": {"sent"}, "name": {"Branch"}, "boundaries": {"10.2.0.0/16"}, "preferCloud": {"on"}},
			"10.1.0.0/16", "10.2.0.0/16", `name="preferCloud" value="on" checked`},
		{"client settings", "client-settings", "client-settings", "client-settings", "0",
			minutes("111"), minutes("222"), `"policyMinutes":111`, `"policyMinutes":222`, `name="policyMinutes" type="number" min="1" max="44640" required value="222"`},
		{"connection point", "connection-points/" + cp.id, "connection-points/" + cp.id + "/link", "connection-point", cp.id,
			url.Values{"gateway": {gateways[0]}}, url.Values{"gateway": {gateways[1]}}, gateways[0], gateways[1], `value="` + gateways[1] + `" selected`},
		{"Azure service", "azure-services/1", "azure-services/1", "azure-service", "1", service("First"), service("Second"), `"userDeltaMinutes":7`, "Second", `value="Second"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			stored := func() sitedb.Object {
				t.Helper()
				return must(r.db.Object(t.Context(), c.kind, c.id))(t)
			}
			has := func(text string) bool {
				o := stored()
				return strings.Contains(o.Name+string(o.Body), text)
			}
			one, two := r.console(r.c.Token), r.console(r.c.Token)
			versionOf := func(page string) string {
				t.Helper()
				m := versionPattern.FindStringSubmatch(page)
				if m == nil {
					t.Fatalf("the form has no version:\n%s", page)
				}
				return m[1]
			}
			c.first.Set("version", versionOf(one.see(c.page)))
			c.second.Set("version", versionOf(two.see(c.page)))
			if status, page := one.post(c.action, c.first); status != http.StatusOK || !has(c.kept) {
				t.Fatalf("the first: %d\n%s", status, page)
			}
			was := stored()
			page := two.tells(c.action, c.second, http.StatusPreconditionFailed, "somebody changed this while the page was open", `<a href="/console/`+c.page+`" target="_blank" rel="noopener">See it as it is now`, c.shown)
			if now := stored(); now.Version != was.Version || string(now.Body) != string(was.Body) || now.Name != was.Name {
				t.Errorf("the second changed it: %s, was %s", now.Body, was.Body)
			}
			// A look at it, and it is replaced.
			again := versionOf(page)
			if again == c.second.Get("version") {
				t.Errorf("the form has version %s still", again)
			}
			c.second.Set("version", again)
			if status, page := two.post(c.action, c.second); status != http.StatusOK || !has(c.typed) {
				t.Errorf("again: %d\n%s", status, page)
			}
		})
	}

	// A form that was refused for another reason does not forget which version
	// its person looked at.
	v := r.console(r.c.Token)
	version := versionPattern.FindStringSubmatch(v.see("client-settings"))[1]
	do[any](r, "PATCH", "ClientSettings/0", map[string]any{"policyMinutes": 99})
	form := minutes("a lot")
	form.Set("version", version)
	page := v.tells("client-settings", form, http.StatusBadRequest, "must be a whole number")
	if m := versionPattern.FindStringSubmatch(page); m[1] != version {
		t.Errorf("the form goes on from version %s, and was of %s", m[1], version)
	}
	form.Set("policyMinutes", "100")
	v.tells("client-settings", form, http.StatusPreconditionFailed, "nothing was saved")
	form.Set("version", "x")
	v.tells("client-settings", form, http.StatusBadRequest, "open the page again")
}
