package mp_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/mp"
)

// TestBoundaryGroups asks for locations from inside (the address is 127.0.0.1)
// and from the internet.
func TestBoundaryGroups(t *testing.T) {
	g := start(t, func(c *mp.Config) {
		c.Gateways = []mp.Gateway{{ServiceName: gateway}, {ServiceName: "gw2.example.com"}}
		c.SoftwareUpdatePoints = []mp.SoftwareUpdatePoint{{URL: "https://sup.example.com:8531", RoleID: "9"}}
	})
	in, out := g.inside(0), g.through(1, entra)
	ask := func(d *device, r ccm.LocationRequest) string {
		t.Helper()
		return d.send(d.message(ccm.EndpointLocation, r.Encode()), nil)
	}
	// sources are the management points and gateways in the order of the reply:
	// those that are of use inside by the name that is, and what else clients
	// learn after a bar.
	sources := func(d *device) string {
		t.Helper()
		l, err := ccm.ParseMPLocations(ask(d, ccm.LocationRequest{Kind: ccm.EnumerateMP, SiteCode: site, RequestType: "Assigned"}))
		if err != nil {
			t.Fatal(err)
		}
		var inside, outside []string
		for _, m := range l.Records {
			host, _, _ := strings.Cut(m.InternetName, "/")
			if m.IntranetName == "" {
				inside = append(inside, host)
				continue
			}
			inside, outside = append(inside, m.IntranetName), append(outside, host)
		}
		return strings.Join(inside, " ") + " | " + strings.Join(outside, " ")
	}
	prefixes := func(list ...string) (p []netip.Prefix) {
		for _, s := range list {
			p = append(p, netip.MustParsePrefix(s))
		}
		return p
	}
	const both = " | gw.example.com gw2.example.com"
	here, elsewhere := prefixes("10.0.0.0/8", "127.0.0.0/8"), prefixes("10.0.0.0/8", "2001:db8::/32")
	for _, tt := range []struct {
		name      string
		locations *mp.Locations
		want      string
		sup       string
	}{
		{"no site", nil, "mp.example.com mp.example.com" + both, "sup"},
		{"default group without cloud sources", &mp.Locations{}, "mp.example.com mp.example.com" + both, "sup"},
		{"default group", &mp.Locations{Default: mp.LocationGroup{Gateways: []string{gateway, "gw2.example.com"}}}, "mp.example.com mp.example.com gw.example.com gw2.example.com" + both, "sup gw gw2"},
		{"default group prefers", &mp.Locations{Default: mp.LocationGroup{Gateways: []string{"GW2.example.com"}, PreferCloud: true}}, "gw2.example.com mp.example.com mp.example.com" + both, "gw2 sup"},
		{"a group with a gateway", &mp.Locations{
			Default: mp.LocationGroup{Gateways: []string{gateway}, PreferCloud: true},
			Groups:  []mp.LocationGroup{{Boundaries: here, Gateways: []string{"gw2.example.com"}}},
		}, "mp.example.com mp.example.com gw2.example.com" + both, "sup gw2"},
		{"a group without one", &mp.Locations{
			Default: mp.LocationGroup{Gateways: []string{gateway}, PreferCloud: true},
			Groups:  []mp.LocationGroup{{Boundaries: here}},
		}, "mp.example.com mp.example.com" + both, "sup"},
		{"one of two groups prefers", &mp.Locations{Groups: []mp.LocationGroup{
			{Boundaries: here, Gateways: []string{gateway}},
			{Boundaries: prefixes("127.0.0.1/32"), PreferCloud: true},
		}}, "gw.example.com mp.example.com mp.example.com" + both, "gw sup"},
		{"the first of two groups prefers", &mp.Locations{Groups: []mp.LocationGroup{
			{Boundaries: here, PreferCloud: true},
			{Boundaries: here, Gateways: []string{gateway}},
		}}, "gw.example.com mp.example.com mp.example.com" + both, "gw sup"},
		{"a group of others", &mp.Locations{Groups: []mp.LocationGroup{{Boundaries: elsewhere, Gateways: []string{gateway}, PreferCloud: true}}}, "mp.example.com mp.example.com" + both, "sup"},
		{"a gateway that is gone", &mp.Locations{Default: mp.LocationGroup{Gateways: []string{"gone.example.com"}, PreferCloud: true}}, "mp.example.com mp.example.com" + both, "sup"},
	} {
		g.server.UseLocations(tt.locations)
		if got := sources(in); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		urls, err := ccm.ParseLocationURLs(ask(in, ccm.LocationRequest{Kind: ccm.WSUSLocation, SiteCode: site}))
		var hosts []string
		for _, u := range urls {
			host, _, _ := strings.Cut(strings.TrimPrefix(u, "https://"), ".")
			hosts = append(hosts, host)
		}
		if got := strings.Join(hosts, " "); err != nil || got != tt.sup {
			t.Errorf("%s: scan sources %s, %v, want %s", tt.name, got, err, tt.sup)
		}
		// The internet knows no boundary groups.
		if got, want := sources(out), "mp.example.com mp.example.com"+both; got != want {
			t.Errorf("%s: outside %s, want %s", tt.name, got, want)
		}
	}
}

// TestSettingsAtRunTime: clients are told of a change with their next request,
// and of nothing that stayed.
func TestSettingsAtRunTime(t *testing.T) {
	g := start(t, func(c *mp.Config) { c.ApproveAll = true })
	d := g.inside(0)
	d.register()
	first, err := ccm.ParseAssignmentReply(d.ask(ccm.EndpointPolicy, ccm.AssignmentRequest{ClientID: d.id}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	changed := func(since ccm.AssignmentReply) (values map[string]string) {
		t.Helper()
		reply, err := ccm.ParseAssignmentReply(d.ask(ccm.EndpointPolicy, ccm.AssignmentRequest{ClientID: d.id, OnUpdate: true, ServerCookie: since.ServerCookie}.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		values = map[string]string{}
		for _, a := range reply.Assignments {
			u, err := a.Policy.URL("")
			if err != nil {
				t.Fatal(err)
			}
			_, body, _ := d.do("GET", u, "", nil)
			p, err := ccm.ParsePolicy([]byte(body))
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{ccm.SettingUseGateway, ccm.SettingUseCloudContent, ccm.SettingEntraJoin, ccm.SettingPolicyInterval, ccm.SettingStateInterval} {
				if v, ok := p.Setting(ccm.SettingsClass, name); ok {
					values[name] = v
				}
			}
		}
		return values
	}
	for _, tt := range []struct {
		settings mp.Settings
		want     map[string]string
	}{
		{mp.Settings{}, map[string]string{}},
		{mp.Settings{DenyGateway: true, CloudContent: true}, map[string]string{ccm.SettingUseGateway: "FALSE", ccm.SettingUseCloudContent: "TRUE", ccm.SettingEntraJoin: "FALSE"}},
	} {
		if err := g.server.UseSettings(t.Context(), tt.settings); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, changed(first)); diff != "" {
			t.Errorf("%+v: %s", tt.settings, diff)
		}
	}
}
