package site_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// told is what a management point gets to tell clients.
func (p *point) told() (*adminservice.ClientSettings, *adminservice.Locations) {
	p.r.t.Helper()
	d, _, err := p.client().Documents(p.r.t.Context(), "", 0)
	if err != nil {
		p.r.t.Fatal(err)
	}
	return d.ClientSettings, d.Locations
}

func TestClientSettings(t *testing.T) {
	r := newRig(t)
	list := do[adminservice.Page[adminservice.ClientSettings]](r, "GET", "ClientSettings", nil).Value
	want := adminservice.ClientSettings{
		ID: "0", Version: 1, Name: "Default Client Agent Settings", AllowCloudManagementGateway: true, AutoAzureADJoin: true,
		PolicyMinutes: 60, LocationMinutes: 1440, InventoryMinutes: 10080, DiscoveryMinutes: 10080, StateMinutes: 15, KeepAliveMinutes: 15,
	}
	if diff := cmp.Diff([]adminservice.ClientSettings{want}, list); diff != "" {
		t.Fatal(diff)
	}
	mp := r.system(adminservice.SystemManagementPoint, "mp1", "")
	_, tag, err := mp.client().Documents(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	// A management point that waits is told at once.
	type answer struct {
		d   *adminservice.Documents
		err error
	}
	came := make(chan answer, 1)
	go func() {
		d, _, err := mp.client().Documents(t.Context(), tag, time.Minute)
		came <- answer{d, err}
	}()
	change := adminservice.ClientSettingsChange{AllowCloudManagementGateway: new(false), AllowCloudDistributionPoint: new(true), AutoAzureADJoin: new(false), PolicyMinutes: new(5), KeepAliveMinutes: new(1)}
	got := do[adminservice.ClientSettings](r, "PATCH", "ClientSettings/0", change)
	want.Version, want.AllowCloudManagementGateway, want.AllowCloudDistributionPoint, want.AutoAzureADJoin, want.PolicyMinutes, want.KeepAliveMinutes = 2, false, true, false, 5, 1
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if a := <-came; a.err != nil || !cmp.Equal(a.d.ClientSettings, &want) {
		t.Errorf("documents: %+v %v", a.d, a.err)
	}
	if got := do[adminservice.ClientSettings](r, "GET", "ClientSettings/default%20client%20agent%20settings", nil); got != want {
		t.Errorf("by name: %+v", got)
	}
	if d, _, err := r.join("cp1", "").client().Documents(t.Context(), "", 0); err != nil || d.ClientSettings != nil || d.Locations != nil {
		t.Errorf("a connection point got %+v, %v", d, err)
	}
	refused(t, r.c.Change(t.Context(), "PATCH", "ClientSettings/0", 1, change, nil), opencmg.Stale, "changed meanwhile")
	refused(t, r.c.Do(t.Context(), "PATCH", "ClientSettings/0", map[string]int{"policyMinutes": 0}, nil), opencmg.Invalid, "policyMinutes: must be 1 to 44640")
	refused(t, r.c.Do(t.Context(), "PATCH", "ClientSettings/0", map[string]int{"stateMinutes": 44641}, nil), opencmg.Invalid, "stateMinutes")
	refused(t, r.c.Do(t.Context(), "PATCH", "ClientSettings/0", map[string]string{"name": "x"}, nil), opencmg.Invalid, "name")
	refused(t, r.c.Do(t.Context(), "POST", "ClientSettings", map[string]string{"name": "Kiosks"}, nil), opencmg.Invalid, "collections")
	refused(t, r.c.Do(t.Context(), "PATCH", "ClientSettings/16777217", change, nil), opencmg.NotFound, "collections")
	if m := r.messages("changed client settings"); len(m) != 1 || !strings.Contains(m[0], "gateway off") {
		t.Errorf("messages: %q", m)
	}
	// They are there once, whatever they were changed to.
	r.crash()
	r.start()
	if got := do[adminservice.ClientSettings](r, "GET", "ClientSettings/0", nil); got != want {
		t.Errorf("after a start: %+v", got)
	}
}

func TestBoundaryGroups(t *testing.T) {
	r := newRig(t)
	groups := func() []adminservice.BoundaryGroup {
		t.Helper()
		return do[adminservice.Page[adminservice.BoundaryGroup]](r, "GET", "BoundaryGroups", nil).Value
	}
	first := groups()
	standard := adminservice.BoundaryGroup{Version: 1, Name: "Default-Site-Boundary-Group<LAB>", IncludeCloudSources: true, Default: true}
	if len(first) != 1 {
		t.Fatalf("groups: %+v", first)
	}
	standard.ID = first[0].ID
	if diff := cmp.Diff(standard, first[0]); diff != "" {
		t.Error(diff)
	}
	in := r.newGateway()
	in.Model = adminservice.ModelSelfHosted
	gateway := do[adminservice.Gateway](r, "POST", "Gateways", in)
	role := do[adminservice.SiteRole](r, "POST", "SiteRoles", adminservice.SiteRole{Kind: opencmg.KindManagementPoint, Name: "mp2", Internal: []string{"https://mp2.corp.example"}})
	mp := r.system(adminservice.SystemManagementPoint, "mp1", "")
	named := func(g ...string) []string { return g }
	if _, l := mp.told(); !cmp.Equal(l, &adminservice.Locations{Default: adminservice.LocationGroup{Name: standard.Name, Gateways: named(serviceName)}}) {
		t.Errorf("locations at first: %+v", l)
	}
	made := do[adminservice.BoundaryGroup](r, "POST", "BoundaryGroups", adminservice.BoundaryGroup{
		Name: "Home workers", Description: "by VPN", Boundaries: []string{"10.1.0.0/16", " 2001:DB8::/32", "10.1.0.0/16"}, SiteSystems: []string{"GRANITEFALLS", "MP2", serviceName},
	})
	want := adminservice.BoundaryGroup{ID: made.ID, Version: 1, Name: "Home workers", Description: "by VPN", Boundaries: []string{"10.1.0.0/16", "2001:db8::/32"}, SiteSystems: []string{gateway.ID, "mp2"}}
	if diff := cmp.Diff(want, made); diff != "" {
		t.Error(diff)
	}
	got := do[adminservice.BoundaryGroup](r, "PATCH", "BoundaryGroups/"+made.ID, adminservice.BoundaryGroupChange{PreferCloud: new(true), Boundaries: &[]string{"0.0.0.0/0"}})
	want.Version, want.PreferCloud, want.Boundaries = 2, true, []string{"0.0.0.0/0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	do[any](r, "PATCH", "BoundaryGroups/"+standard.ID, adminservice.BoundaryGroupChange{IncludeCloudSources: new(false), PreferCloud: new(true)})
	if _, l := mp.told(); !cmp.Equal(l, &adminservice.Locations{
		Default: adminservice.LocationGroup{Name: standard.Name, PreferCloud: true},
		Groups:  []adminservice.LocationGroup{{Name: "Home workers", Boundaries: []string{"0.0.0.0/0"}, Gateways: named(serviceName), PreferCloud: true}},
	}) {
		t.Errorf("locations: %+v", l)
	}
	if got := do[adminservice.BoundaryGroup](r, "GET", "BoundaryGroups/"+made.ID, nil); !cmp.Equal(got, want) {
		t.Errorf("one: %s", cmp.Diff(want, got))
	}

	for name, tt := range map[string]struct {
		method, path string
		in           any
		kind         opencmg.Kind
		says         string
	}{
		"no name":           {"POST", "", adminservice.BoundaryGroup{}, opencmg.Invalid, "name"},
		"same name":         {"POST", "", adminservice.BoundaryGroup{Name: "HOME workers"}, opencmg.Conflict, "name"},
		"no prefix":         {"POST", "", adminservice.BoundaryGroup{Name: "x", Boundaries: []string{"10.0.0.0"}}, opencmg.Invalid, "CIDR"},
		"bits":              {"POST", "", adminservice.BoundaryGroup{Name: "x", Boundaries: []string{"10.1.2.3/16"}}, opencmg.Invalid, "did you mean 10.1.0.0/16"},
		"mapped":            {"POST", "", adminservice.BoundaryGroup{Name: "x", Boundaries: []string{"::ffff:10.0.0.0/104"}}, opencmg.Invalid, "CIDR"},
		"too many":          {"POST", "", adminservice.BoundaryGroup{Name: "x", Boundaries: make([]string, 1001)}, opencmg.Invalid, "at most 1000"},
		"unknown system":    {"POST", "", adminservice.BoundaryGroup{Name: "x", SiteSystems: []string{"nobody"}}, opencmg.Invalid, `"nobody"`},
		"include":           {"POST", "", adminservice.BoundaryGroup{Name: "x", IncludeCloudSources: true}, opencmg.Invalid, "only the default"},
		"include later":     {"PATCH", "/" + made.ID, adminservice.BoundaryGroupChange{IncludeCloudSources: new(true)}, opencmg.Invalid, "only the default"},
		"unknown key":       {"PATCH", "/" + made.ID, map[string]int{"fallback": 1}, opencmg.Invalid, "fallback"},
		"rename default":    {"PATCH", "/" + standard.ID, adminservice.BoundaryGroupChange{Name: new("x")}, opencmg.Conflict, "keeps its name"},
		"bounds of default": {"PATCH", "/" + standard.ID, adminservice.BoundaryGroupChange{Boundaries: &[]string{"10.0.0.0/8"}}, opencmg.Conflict, "no boundaries"},
		"delete default":    {"DELETE", "/" + standard.ID, nil, opencmg.Conflict, "default boundary group"},
		"none":              {"PATCH", "/1", adminservice.BoundaryGroupChange{}, opencmg.NotFound, ""},
	} {
		if err := r.c.Do(t.Context(), tt.method, "BoundaryGroups"+tt.path, tt.in, nil); !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	refused(t, r.c.Change(t.Context(), "PATCH", "BoundaryGroups/"+made.ID, 1, adminservice.BoundaryGroupChange{}, nil), opencmg.Stale, "changed meanwhile")
	refused(t, r.c.Change(t.Context(), "DELETE", "BoundaryGroups/"+made.ID, 1, nil, nil), opencmg.Stale, "changed meanwhile")

	// What is deleted is not referred to any longer.
	do[any](r, "DELETE", "SiteRoles/"+role.ID, nil)
	r.finish(do[adminservice.Operation](r, "DELETE", "Gateways/"+gateway.ID, nil))
	if got := do[adminservice.BoundaryGroup](r, "GET", "BoundaryGroups/"+made.ID, nil); len(got.SiteSystems) != 0 {
		t.Errorf("site systems: %v", got.SiteSystems)
	}
	do[any](r, "DELETE", "BoundaryGroups/"+made.ID, nil)
	for _, text := range []string{"added boundary group Home workers, 2 boundaries, 1 gateways", "changed boundary group Home workers, 1 boundaries, 1 gateways, prefer cloud on", "deleted boundary group Home workers"} {
		if len(r.messages(text)) != 1 {
			t.Errorf("there is no message %q", text)
		}
	}
	if got := groups(); len(got) != 1 || !got[0].PreferCloud || got[0].IncludeCloudSources {
		t.Errorf("groups at the end: %+v", got)
	}
}
