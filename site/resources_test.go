package site_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

// root is the certificate of a new root.
func (r *rig) root(name string) string {
	r.t.Helper()
	return string(must(pki.NewAuthority(name, time.Now()))(r.t).CertificatePEM())
}

// deployer may make secrets.
var deployer = adminservice.SignIn{ClientID: deployerID, Secret: deployerSecret}

// TestQueries asks a real collection with the query options.
func TestQueries(t *testing.T) {
	r := newRig(t)
	for i, name := range []string{"granitefalls", "adatum", "O'Hara"} {
		in := r.newGateway()
		in.Model, in.Description = adminservice.ModelSelfHosted, name
		in.Instances = i + 1
		host := fmt.Sprintf("gw%d.corp.example", i+1)
		in.Certificate = adminservice.ServerCertificate{PFX: r.pfx("x", host), Password: "x"}
		if g := do[adminservice.Gateway](r, "POST", "Gateways", in); g.ID != fmt.Sprint(16777217+i) {
			t.Errorf("ID %s", g.ID)
		}
	}
	for _, tt := range []struct{ query, want string }{
		{"", "gw1 gw2 gw3"},
		{"$filter=instances gt 1", "gw2 gw3"},
		{"$filter=description eq 'o''hara'", "gw3"},
		{"$filter=startswith(name,'gw') and not (name eq 'gw2')", "gw1 gw3"},
		{"$orderby=instances desc&$top=2", "gw3 gw2"},
		{"$skip=1&$top=1", "gw2"},
		{"$filter=traffic/gb eq 10000&$orderby=name desc", "gw3 gw2 gw1"},
		{"$top=0", ""},
	} {
		var page adminservice.Page[adminservice.Gateway]
		v, _ := url.ParseQuery(strings.ReplaceAll(strings.ReplaceAll(tt.query, " ", "%20"), "'", "%27"))
		v.Set("$count", "true")
		if err := r.c.Do(t.Context(), "GET", "Gateways?"+v.Encode(), nil, &page); err != nil {
			t.Errorf("%s: %v", tt.query, err)
			continue
		}
		var names []string
		for _, g := range page.Value {
			names = append(names, g.Name)
		}
		if got := strings.Join(names, " "); got != tt.want || page.Count == nil || *page.Count < len(names) {
			t.Errorf("%s: %q of %v, want %q", tt.query, got, page.Count, tt.want)
		}
	}
	if page := do[adminservice.Page[any]](r, "GET", "Gateways?$top=1&$count=true", nil); *page.Count != 3 || len(page.Value) != 1 {
		t.Errorf("%d of %d", len(page.Value), *page.Count)
	}
	if page := do[adminservice.Page[any]](r, "GET", "Gateways", nil); page.Count != nil {
		t.Errorf("a count that nobody asked for: %d", *page.Count)
	}
	want := []any{map[string]any{"name": "gw1", "instances": 1.0}}
	if diff := cmp.Diff(want, do[adminservice.Page[any]](r, "GET", "Gateways?$select=name,instances&$top=1", nil).Value); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want[0], do[any](r, "GET", "Gateways/16777217?$select=name,instances", nil)); diff != "" {
		t.Error(diff)
	}
	for _, key := range []string{"Gateways('16777218')", "Gateways(16777218)", "Gateways('GW2')", "Gateways/gw2.corp.example"} {
		if g := do[adminservice.Gateway](r, "GET", key, nil); g.Name != "gw2" {
			t.Errorf("%s: %s", key, g.Name)
		}
	}
	refused(t, r.c.Do(t.Context(), "POST", "Gateways('16777218')/stop", nil, nil), opencmg.Conflict, "hosts of your own")
	refused(t, r.c.Do(t.Context(), "GET", "Gateways('it''s')", nil, nil), opencmg.NotFound, `no gateway "it's": the site has gw1, gw2, gw3`)
	// Status messages are paged by the database, and by us with $orderby.
	first := do[adminservice.Page[adminservice.StatusMessage]](r, "GET", "StatusMessages?$orderby=id&$top=1&$count=true", nil)
	last := do[adminservice.Page[adminservice.StatusMessage]](r, "GET", "StatusMessages?$top=1&$count=true", nil)
	if *first.Count != *last.Count || first.Value[0].ID >= last.Value[0].ID {
		t.Errorf("first %+v, last %+v", first, last)
	}
}

// TestAudit: every change leaves a status message that names the account.
func TestAudit(t *testing.T) {
	r := newRig(t)
	app := r.connect()
	r.c = r.account("auditor", adminservice.FullAdministrator)
	alert, _, err := r.db.RaiseAlert(t.Context(), sitedb.Alert{Kind: "test", SubjectKind: "gateway", SubjectID: "1", Severity: sitedb.SeverityWarning, Text: "look"})
	if err != nil {
		t.Fatal(err)
	}
	in := r.newGateway()
	in.Model = adminservice.ModelSelfHosted
	var gateway, account, role, cert, issuer, service, bulk, join string
	point := r.join("cp1", "")
	var latest int64
	for _, tt := range []struct {
		name string
		do   func()
	}{
		{"administrator", func() {
			account = do[adminservice.Account](r, "POST", "Accounts", adminservice.Account{Name: "x", Role: adminservice.ReadOnlyAnalyst, LocalToken: true}).ID
		}},
		{"deleted administrator", func() { do[any](r, "DELETE", "Accounts/"+account, nil) }},
		{"tenant", func() { do[any](r, "PATCH", "Tenants/"+tenantID, adminservice.TenantChange{Name: new("Tailspin")}) }},
		{"asked for a new secret", func() {
			r.finish(do[adminservice.Operation](r, "POST", "Applications/"+app.ID+"/renewSecret", adminservice.RenewSecret{SignIn: &deployer}))
		}},
		{"register", func() {
			r.finish(do[adminservice.Operation](r, "POST", "Applications/"+app.ID+"/registerProviders", adminservice.RegisterProviders{SubscriptionID: subscriptionID}))
		}},
		{"changed Azure service", func() {
			service = do[adminservice.Page[adminservice.AzureService]](r, "GET", "AzureServices", nil).Value[0].ID
			do[any](r, "PATCH", "AzureServices/"+service, adminservice.AzureServiceChange{Description: new("main")})
		}},
		{"deleted Azure service", func() { do[any](r, "DELETE", "AzureServices/"+service, nil) }},
		{"added RootCA", func() {
			cert = do[adminservice.TrustedCertificate](r, "POST", "TrustedCertificates", adminservice.TrustedCertificate{Store: "rootca", Certificate: r.root("Clients")}).ID
		}},
		{"deleted trusted certificate", func() { do[any](r, "DELETE", "TrustedCertificates/"+cert, nil) }},
		{"imported the token-signing", func() {
			pair := must(pki.NewTokenSigningCertificate("other site", time.Now()))(t)
			issuer = do[adminservice.TokenIssuer](r, "POST", "TokenIssuers", adminservice.TokenIssuer{Certificate: string(pki.EncodeCertificates(pair.Leaf)), Issuer: "urn:sccm:oauth2:x"}).ID
		}},
		{"deleted token issuer", func() { do[any](r, "DELETE", "TokenIssuers/"+issuer, nil) }},
		{"blocked certificate", func() {
			do[any](r, "POST", "BlockedCertificates", adminservice.BlockedCertificate{ID: strings.Repeat("AB:", 31) + "AB", Reason: "stolen"})
		}},
		{"deleted blocked certificate", func() { do[any](r, "DELETE", "BlockedCertificates/"+strings.Repeat("AB", 32), nil) }},
		{"made bulk", func() {
			bulk = do[adminservice.BulkRegistrationToken](r, "POST", "BulkRegistrationTokens", adminservice.NewBulkToken{Minutes: 60}).ID
		}},
		{"blocked bulk", func() { do[any](r, "POST", "BulkRegistrationTokens/"+bulk+"/block", nil) }},
		{"unblocked bulk", func() { do[any](r, "POST", "BulkRegistrationTokens/"+bulk+"/unblock", nil) }},
		{"made a join token", func() {
			join = do[adminservice.JoinTokenRecord](r, "POST", "JoinTokens", adminservice.JoinTokenRecord{Kind: adminservice.SystemManagementPoint}).ID
		}},
		{"deleted join token", func() { do[any](r, "DELETE", "JoinTokens/"+join, nil) }},
		{"created gateway", func() { gateway = do[adminservice.Gateway](r, "POST", "Gateways", in).ID }},
		{"changed the settings", func() { do[any](r, "PATCH", "Gateways/"+gateway, adminservice.GatewayChange{Description: new("x")}) }},
		{"linked", func() {
			do[any](r, "PATCH", "ConnectionPoints/"+point.id, adminservice.ConnectionPointChange{GatewayID: &gateway})
		}},
		{"deleted connection point", func() { do[any](r, "DELETE", "ConnectionPoints/"+point.id, nil) }},
		{"added management-point", func() {
			role = do[adminservice.SiteRole](r, "POST", "SiteRoles", adminservice.SiteRole{Kind: opencmg.KindManagementPoint, Name: "mp1", Internal: []string{"https://mp1.corp.example"}}).ID
		}},
		{"changed management-point", func() {
			do[any](r, "PATCH", "SiteRoles/"+role, adminservice.SiteRoleChange{AllowGatewayTraffic: new(true)})
		}},
		{"deleted role", func() { do[any](r, "DELETE", "SiteRoles/"+role, nil) }},
		{"changed client settings", func() {
			do[any](r, "PATCH", "ClientSettings/0", adminservice.ClientSettingsChange{StateMinutes: new(30)})
		}},
		{"added boundary group", func() {
			role = do[adminservice.BoundaryGroup](r, "POST", "BoundaryGroups", adminservice.BoundaryGroup{Name: "Branch", Boundaries: []string{"10.0.0.0/8"}}).ID
		}},
		{"changed boundary group", func() {
			do[any](r, "PATCH", "BoundaryGroups/"+role, adminservice.BoundaryGroupChange{PreferCloud: new(true)})
		}},
		{"deleted boundary group", func() { do[any](r, "DELETE", "BoundaryGroups/"+role, nil) }},
		{"acknowledged alert", func() { do[any](r, "POST", fmt.Sprintf("Alerts/%d/acknowledge", alert.ID), nil) }},
		{"asked to delete gateway", func() { r.finish(do[adminservice.Operation](r, "DELETE", "Gateways/"+gateway, nil)) }},
		{"deleted application", func() {
			apps := do[adminservice.Page[adminservice.Application]](r, "GET", "Applications", nil).Value
			slices.SortFunc(apps, func(a, b adminservice.Application) int { return strings.Compare(a.Kind, b.Kind) }) // client first
			for _, a := range apps {
				do[any](r, "DELETE", "Applications/"+a.ID, nil)
			}
		}},
		{"deleted tenant", func() { do[any](r, "DELETE", "Tenants/"+strings.ToUpper(tenantID), nil) }},
	} {
		tt.do()
		var found []string
		for _, m := range do[adminservice.Page[adminservice.StatusMessage]](r, "GET", "StatusMessages?$top=20", nil).Value {
			if m.ID <= latest {
				break
			}
			found = append(found, m.Account+": "+m.Text)
		}
		if !slices.ContainsFunc(found, func(s string) bool { return strings.HasPrefix(s, "auditor: ") && strings.Contains(s, tt.name) }) {
			t.Errorf("%s: messages %q", tt.name, found)
		}
		latest = do[adminservice.Page[adminservice.StatusMessage]](r, "GET", "StatusMessages?$top=1", nil).Value[0].ID
	}
	if a := do[adminservice.Page[adminservice.Alert]](r, "GET", "Alerts?open=true", nil).Value; !slices.ContainsFunc(a, func(a adminservice.Alert) bool { return a.Acknowledged == "auditor" }) {
		t.Errorf("alerts: %+v", a)
	}
}

// TestRoleChanges: what a change does not name stays.
func TestRoleChanges(t *testing.T) {
	r := newRig(t)
	made := do[adminservice.SiteRole](r, "POST", "SiteRoles", adminservice.SiteRole{
		Kind: opencmg.KindService, Name: "wiki", Internal: []string{"https://wiki.corp.example"}, Prefix: "/wiki/", ServerName: "wiki", HealthPath: "/up", CA: r.root("Wiki"),
		Endpoints: []opencmg.Endpoint{{Name: "wiki", Auth: []opencmg.AuthMode{opencmg.AuthNone}, Methods: []string{"GET"}}},
	})
	for _, tt := range []struct {
		change adminservice.SiteRoleChange
		edit   func(*adminservice.SiteRole)
	}{
		{adminservice.SiteRoleChange{AllowGatewayTraffic: new(true)}, func(r *adminservice.SiteRole) { r.AllowGatewayTraffic = true }},
		{adminservice.SiteRoleChange{HealthPath: new("/health")}, func(r *adminservice.SiteRole) { r.HealthPath = "/health" }},
		{adminservice.SiteRoleChange{Internal: &[]string{"https://wiki2.corp.example"}}, func(r *adminservice.SiteRole) { r.Internal = []string{"https://wiki2.corp.example"} }},
		{adminservice.SiteRoleChange{ServerName: new(""), Name: new("wiki two")}, func(r *adminservice.SiteRole) { r.ServerName, r.Name = "", "wiki two" }},
		{adminservice.SiteRoleChange{}, func(r *adminservice.SiteRole) {}},
	} {
		got := do[adminservice.SiteRole](r, "PATCH", "SiteRoles/"+made.ID, tt.change)
		tt.edit(&made)
		made.Version++
		if diff := cmp.Diff(made, got); diff != "" {
			t.Errorf("%s", diff)
		}
	}
	for name, tt := range map[string]struct {
		change adminservice.SiteRoleChange
		says   string
	}{
		"no URL":     {adminservice.SiteRoleChange{Internal: &[]string{}}, "at least one URL"},
		"a file":     {adminservice.SiteRoleChange{Internal: &[]string{"file:///etc/passwd"}}, "internal"},
		"no name":    {adminservice.SiteRoleChange{Name: new(" ")}, "name"},
		"broken CA":  {adminservice.SiteRoleChange{CA: new("x")}, "ca"},
		"no prefix":  {adminservice.SiteRoleChange{Prefix: new("")}, "prefix"},
		"bad method": {adminservice.SiteRoleChange{Endpoints: &[]opencmg.Endpoint{{Name: "x", Auth: []opencmg.AuthMode{opencmg.AuthNone}, Methods: []string{"BREW"}}}}, "BREW"},
	} {
		if err := r.c.Do(t.Context(), "PATCH", "SiteRoles/"+made.ID, tt.change, nil); !errors.Is(err, opencmg.Invalid) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	second := adminservice.SiteRole{Kind: opencmg.KindService, Name: "other", Internal: []string{"https://x.corp.example"}, Prefix: "/WIKI/", Endpoints: made.Endpoints}
	refused(t, r.c.Do(t.Context(), "POST", "SiteRoles", second, nil), opencmg.Conflict, "belongs to wiki two")
	second.Prefix, second.Name = "/other/", "WIKI two"
	refused(t, r.c.Do(t.Context(), "POST", "SiteRoles", second, nil), opencmg.Conflict, "name")
	refused(t, r.c.Do(t.Context(), "PATCH", "SiteRoles/"+made.ID, map[string]any{"kind": "service"}, nil), opencmg.Invalid, "kind")
}

// TestInUse: what something else needs can not be deleted.
func TestInUse(t *testing.T) {
	r := newRig(t)
	app := r.connect()
	client := do[adminservice.Page[adminservice.Application]](r, "GET", "Applications?$filter=kind%20eq%20%27ClientApplication%27", nil).Value[0]
	service := do[adminservice.Page[adminservice.AzureService]](r, "GET", "AzureServices", nil).Value[0]
	remove := func(path string) error { return r.c.Do(t.Context(), "DELETE", path, nil, nil) }
	refused(t, remove("Tenants/"+tenantID), opencmg.Conflict, "application FcCmg")
	refused(t, remove("Applications/"+app.ID), opencmg.Conflict, "Azure service Fourth Coffee")
	refused(t, remove("Applications/"+client.ID), opencmg.Conflict, "Azure service Fourth Coffee")
	if err := remove("AzureServices/" + service.ID); err != nil {
		t.Fatal(err)
	}
	refused(t, remove("Applications/"+app.ID), opencmg.Conflict, "client application FcCmgClient")
	// A gateway keeps its application and its certificates.
	trusted := do[adminservice.TrustedCertificate](r, "POST", "TrustedCertificates", adminservice.TrustedCertificate{Store: adminservice.RootCA, Certificate: r.root("Clients")})
	in := r.newGateway()
	in.Certificates = []string{"nothing"}
	refused(t, r.c.Do(t.Context(), "POST", "Gateways", in, nil), opencmg.Invalid, `no trusted certificate "nothing"`)
	in.Certificates = []string{trusted.ID}
	r.finish(do[adminservice.Operation](r, "POST", "Gateways", in))
	refused(t, remove("TrustedCertificates/"+trusted.ID), opencmg.Conflict, "granitefalls")
	refused(t, remove("Applications/"+app.ID), opencmg.Conflict, "granitefalls")
	refused(t, r.c.Do(t.Context(), "PATCH", "Gateways/granitefalls", adminservice.GatewayChange{Certificates: &[]string{"x"}}, nil), opencmg.Invalid, "no trusted certificate")
	refused(t, r.c.Do(t.Context(), "POST", "JoinTokens", adminservice.JoinTokenRecord{Kind: "gateway", GatewayID: r.gateway().ID}, nil), opencmg.Conflict, "SelfHosted")
	do[adminservice.Gateway](r, "PATCH", "Gateways/granitefalls", adminservice.GatewayChange{Certificates: &[]string{}})
	if err := remove("TrustedCertificates/" + trusted.ID); err != nil {
		t.Error(err)
	}
	accounts := do[adminservice.Page[adminservice.Account]](r, "GET", "Accounts", nil).Value
	refused(t, remove("Accounts/"+accounts[0].ID), opencmg.Conflict, "last Full Administrator")
}

// TestUnknown: what is not there is 404 whatever is wanted of it.
func TestUnknown(t *testing.T) {
	r := newRig(t)
	for _, tt := range []struct {
		path string
		body any
	}{
		{"PATCH Tenants/x", adminservice.TenantChange{}},
		{"PATCH AzureServices/x", adminservice.AzureServiceChange{}},
		{"PATCH ConnectionPoints/x", adminservice.ConnectionPointChange{GatewayID: new("")}},
		{"PATCH SiteRoles/x", adminservice.SiteRoleChange{}},
		{"PATCH Gateways/x", adminservice.GatewayChange{}},
		{"PUT Gateways/x/certificate", adminservice.ServerCertificate{}},
		{"POST Applications/x/renewSecret", adminservice.RenewSecret{}},
		{"POST Applications/x/registerProviders", adminservice.RegisterProviders{SubscriptionID: subscriptionID}},
		{"POST JoinTokens", adminservice.JoinTokenRecord{Kind: "connection-point", GatewayID: "x"}},
		{"POST Alerts/99/acknowledge", nil},
		{"POST BulkRegistrationTokens/x/block", nil},
		{"GET Operations/x", nil},
		{"GET Operations/x?wait=5", nil},
		{"DELETE Gateways/x", nil},
		{"DELETE BlockedCertificates/x", nil},
	} {
		method, path, _ := strings.Cut(tt.path, " ")
		if err := r.c.Do(t.Context(), method, path, tt.body, nil); !errors.Is(err, opencmg.NotFound) || !strings.Contains(err.Error(), "there is no") {
			t.Errorf("%s: %v", tt.path, err)
		}
	}
}

func TestRefusedInput(t *testing.T) {
	r := newRig(t)
	leaf := must(r.ca.IssueKeyPair(pki.Template{CommonName: "leaf", Client: true}, time.Now()))(t)
	old := must(pki.NewAuthority("Old", time.Now().AddDate(-30, 0, 0)))(t)
	thumb := strings.Repeat("ab", 32)
	guid := tenantID
	do[any](r, "POST", "Accounts", adminservice.Account{Name: "ann", Role: adminservice.ReadOnlyAnalyst, CertificateThumbprint: thumb})
	for _, tt := range []struct {
		path string
		body any
		kind opencmg.Kind
		says string
	}{
		{"Accounts", adminservice.Account{Role: adminservice.ReadOnlyAnalyst, LocalToken: true}, opencmg.Invalid, "name"},
		{"Accounts", adminservice.Account{Name: "x", Role: "Root", LocalToken: true}, opencmg.Invalid, `role "Root"`},
		{"Accounts", adminservice.Account{Name: "x", Role: adminservice.ReadOnlyAnalyst}, opencmg.Invalid, "one way to sign in"},
		{"Accounts", adminservice.Account{Name: "x", Role: adminservice.ReadOnlyAnalyst, LocalToken: true, CertificateThumbprint: thumb}, opencmg.Invalid, "one way to sign in"},
		{"Accounts", adminservice.Account{Name: "x", Role: adminservice.ReadOnlyAnalyst, CertificateThumbprint: strings.Repeat("xy", 32)}, opencmg.Invalid, "hexadecimal"},
		{"Accounts", adminservice.Account{Name: "x", Role: adminservice.ReadOnlyAnalyst, EntraObjectID: guid}, opencmg.Invalid, "entraTenantId"},
		{"Accounts", adminservice.Account{Name: "x", Role: adminservice.FullAdministrator, CertificateThumbprint: thumb}, opencmg.Conflict, "ann signs in that way"},
		{"Accounts", adminservice.Account{Name: "ANN", Role: adminservice.FullAdministrator, LocalToken: true}, opencmg.Conflict, "name"},
		{"TrustedCertificates", adminservice.TrustedCertificate{Store: "x", Certificate: r.root("A")}, opencmg.Invalid, "store"},
		{"TrustedCertificates", adminservice.TrustedCertificate{Store: "RootCA", Certificate: "x"}, opencmg.Invalid, "certificate"},
		{"TrustedCertificates", adminservice.TrustedCertificate{Store: "RootCA", Certificate: r.root("A") + r.root("B")}, opencmg.Invalid, "2 certificates"},
		{"TrustedCertificates", adminservice.TrustedCertificate{Store: "IntermediateCA", Certificate: r.root("A")}, opencmg.Invalid, "other store"},
		{"TrustedCertificates", adminservice.TrustedCertificate{Store: "IntermediateCA", Certificate: string(pki.EncodeCertificates(leaf.Leaf))}, opencmg.Invalid, "not that of a CA"},
		{"TrustedCertificates", adminservice.TrustedCertificate{Store: "RootCA", Certificate: string(old.CertificatePEM())}, opencmg.Invalid, "expired"},
		{"TrustedCertificates", adminservice.TrustedCertificate{Store: "RootCA", Certificate: r.root("A"), RevocationList: "ldap://x"}, opencmg.Invalid, "revocationList"},
		{"TokenIssuers", adminservice.TokenIssuer{Certificate: string(pki.EncodeCertificates(leaf.Leaf)), Issuer: "x"}, opencmg.Invalid, "RSA"},
		{"TokenIssuers", adminservice.TokenIssuer{Certificate: "x", Issuer: "x"}, opencmg.Invalid, ""},
		{"BlockedCertificates", adminservice.BlockedCertificate{ID: "x"}, opencmg.Invalid, "thumbprint"},
		{"BulkRegistrationTokens", adminservice.NewBulkToken{Minutes: 20000}, opencmg.Invalid, "10080"},
		{"BulkRegistrationTokens", adminservice.NewBulkToken{Minutes: -1}, opencmg.Invalid, "lifetime"},
		{"BulkRegistrationTokens", adminservice.NewBulkToken{Uses: -1}, opencmg.Invalid, "uses"},
		{"BulkRegistrationTokens", adminservice.NewBulkToken{Uses: 1_000_001}, opencmg.Invalid, "uses"},
		{"BulkRegistrationTokens", adminservice.NewBulkToken{Sources: []string{"192.0.2.1"}}, opencmg.Invalid, "sources"},
		{"BulkRegistrationTokens", adminservice.NewBulkToken{Sources: []string{"::ffff:192.0.2.1/120"}}, opencmg.Invalid, "sources"},
		{"BulkRegistrationTokens", adminservice.NewBulkToken{Sources: slices.Repeat([]string{"192.0.2.0/24"}, 65)}, opencmg.Invalid, "at most 64"},
		{"BulkRegistrationTokens", adminservice.NewBulkToken{Group: strings.Repeat("ü", 101)}, opencmg.Invalid, "group"},
		{"BulkRegistrationTokens", adminservice.NewBulkToken{Group: "a\nb"}, opencmg.Invalid, "group"},
		{"BulkRegistrationTokens", adminservice.NewBulkToken{Description: "a\nb"}, opencmg.Invalid, "description"},
		{"JoinTokens", adminservice.JoinTokenRecord{Kind: "x"}, opencmg.Invalid, "kind"},
		{"JoinTokens", adminservice.JoinTokenRecord{Kind: "gateway"}, opencmg.Invalid, "gatewayId"},
		{"JoinTokens", adminservice.JoinTokenRecord{Kind: "management-point", Minutes: -1}, opencmg.Invalid, "minutes"},
		{"JoinTokens", adminservice.JoinTokenRecord{Kind: "management-point", Uses: 5000}, opencmg.Invalid, "uses"},
		{"JoinTokens", adminservice.JoinTokenRecord{Kind: "management-point", Sources: []string{"10.0.0.1"}}, opencmg.Invalid, "sources"},
		{"Applications/import", adminservice.ImportApplication{Kind: "ServerApplication", Name: "x", ClientID: guid, TenantID: guid}, opencmg.Invalid, "secretExpires"},
		{"Applications/import", adminservice.ImportApplication{Kind: "ServerApplication", Name: "x", ClientID: guid, TenantID: guid, Secret: "x"}, opencmg.Invalid, "secretExpires"},
		{"Applications/import", adminservice.ImportApplication{Kind: "ServerApplication", Name: "x", ClientID: guid, TenantID: guid, Secret: "x", SecretExpires: time.Now().Add(-time.Hour)}, opencmg.Invalid, "ended"},
		{"Applications/import", adminservice.ImportApplication{Kind: "ClientApplication", Name: "x", ClientID: guid, TenantID: guid, Secret: "x"}, opencmg.Invalid, "public client"},
		{"Applications/import", adminservice.ImportApplication{Kind: "ClientApplication", Name: "x", ClientID: "x", TenantID: guid}, opencmg.Invalid, "clientId"},
		{"Applications/import", adminservice.ImportApplication{Kind: "ClientApplication", Name: "x", ClientID: guid}, opencmg.Invalid, "tenantId"},
		{"Applications/import", adminservice.ImportApplication{Kind: "ClientApplication", Name: "x", ClientID: guid, TenantID: guid, Environment: opencmg.AzurePublicCloud}, opencmg.Invalid, "not offered"},
		{"Applications/import", adminservice.ImportApplication{Kind: "ServerApplication", Name: "x", ClientID: deployerID, TenantID: tenantID, Secret: "wrong", SecretExpires: time.Now().AddDate(1, 0, 0)}, opencmg.Conflict, "7000215"},
		{"Applications/create", adminservice.CreateApplications{TenantID: "x"}, opencmg.Invalid, "tenantId"},
		{"Applications/create", adminservice.CreateApplications{TenantID: guid, ServerName: "a", ClientName: "A"}, opencmg.Invalid, "different names"},
		{"Applications/create", adminservice.CreateApplications{TenantID: guid, ServerName: "a", ClientName: "b", SecretYears: 3}, opencmg.Invalid, "secretYears"},
		{"Applications/create", adminservice.CreateApplications{TenantID: guid, ServerName: "a", ClientName: "b"}, opencmg.Invalid, "signIn"},
		{"AzureServices", adminservice.AzureService{}, opencmg.Invalid, "name"},
		{"AzureServices", adminservice.AzureService{Name: "x"}, opencmg.Invalid, "no server application"},
		{"AzureServices", adminservice.AzureService{Name: "x", UserDeltaMinutes: 2}, opencmg.Invalid, "5 to 1440"},
		{"SiteRoles", adminservice.SiteRole{Kind: "x", Name: "x"}, opencmg.Invalid, "kind"},
		{"SiteRoles", adminservice.SiteRole{Kind: "management-point"}, opencmg.Invalid, "name"},
		{"ServerCertificates/check", adminservice.ServerCertificate{}, opencmg.Invalid, "PFX"},
		{"ServerCertificates/check", adminservice.ServerCertificate{PFX: r.pfx("x", "a.example"), Password: "y"}, opencmg.Invalid, "password"},
	} {
		before := r.snapshot()
		err := r.c.Do(t.Context(), "POST", tt.path, tt.body, nil)
		if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s %+v: %v, want %s with %q", tt.path, tt.body, err, tt.kind, tt.says)
		}
		if diff := cmp.Diff(before, r.snapshot()); diff != "" && tt.kind != opencmg.Conflict {
			t.Errorf("%s %+v changed something:\n%s", tt.path, tt.body, diff)
		}
	}
	if apps := do[adminservice.Page[adminservice.Application]](r, "GET", "Applications", nil).Value; len(apps) != 0 {
		t.Errorf("applications that could not sign in stayed: %+v", apps)
	}
}

// TestRefusalsHaveTheirCause: a problem document has the cloud's own error and
// every check of a certificate.
func TestRefusalsHaveTheirCause(t *testing.T) {
	r := newRig(t)
	err := r.c.Do(t.Context(), "POST", "Applications/import", adminservice.ImportApplication{Kind: "ServerApplication", Name: "x", ClientID: deployerID, TenantID: tenantID, Secret: "wrong", SecretExpires: time.Now().AddDate(1, 0, 0)}, nil)
	if p, ok := errors.AsType[*adminservice.ProblemError](err); !ok || p.CloudError == nil || p.CloudError.Code == "" {
		t.Errorf("%+v", err)
	}
	in := r.newGateway()
	in.Model, in.Certificate.PFX, in.Certificate.ServiceName = adminservice.ModelSelfHosted, r.pfx(in.Certificate.Password, "other.corp.example"), serviceName
	err = r.c.Do(t.Context(), "POST", "Gateways", in, nil)
	if p, ok := errors.AsType[*adminservice.ProblemError](err); !ok || p.Status != http.StatusBadRequest || !slices.ContainsFunc(p.Checks, func(c opencmg.Check) bool { return c.State == opencmg.CheckFail && c.NextStep != "" }) {
		t.Errorf("%v %+v", err, p)
	}
}

// TestLongPoll: a caller that waits for an operation is answered by the next
// line, by the end, and when the time is over.
func TestLongPoll(t *testing.T) {
	r := newRig(t)
	app := r.connect()
	reached, goOn := make(chan string), make(chan bool)
	r.onStep = func(op, step string) {
		if op == "renew-secret" {
			reached <- step
			<-goOn
		}
	}
	op := do[adminservice.Operation](r, "POST", "Applications/"+app.ID+"/renewSecret", adminservice.RenewSecret{SignIn: &deployer})
	if <-reached != "secret" {
		t.Fatal("the first step is another one")
	}
	get := func(wait, after int) adminservice.Operation {
		return do[adminservice.Operation](r, "GET", fmt.Sprintf("Operations/%s?wait=%d&after=%d", op.ID, wait, after), nil)
	}
	now := get(60, 0)
	if now.State != adminservice.OperationInProgress || len(now.Log) != 1 {
		t.Fatalf("%+v", now)
	}
	if again := get(1, 1); len(again.Log) != 1 { // the time is over
		t.Errorf("%+v", again)
	}
	type result struct {
		op  adminservice.Operation
		err error
	}
	waiter := make(chan result, 1)
	c := r.c
	go func() {
		op, err := adminservice.Get[adminservice.Operation](t.Context(), c, fmt.Sprintf("Operations/%s?wait=60&after=1", op.ID))
		waiter <- result{op, err}
	}()
	goOn <- true
	<-reached
	if got := <-waiter; got.err != nil || len(got.op.Log) < 2 || got.op.State != adminservice.OperationInProgress {
		t.Errorf("%+v", got)
	}
	goOn <- true
	<-reached // the old secret goes
	goOn <- true
	if end := get(60, 1000); end.State != adminservice.OperationCompleted || end.Percent != 100 {
		t.Errorf("%+v", end)
	}
	refused(t, r.c.Do(t.Context(), "GET", "Operations/"+op.ID+"?wait=x", nil, nil), opencmg.Invalid, "wait")
	// A caller that goes away ends its request.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.c.Do(ctx, "GET", "Operations/"+op.ID+"?wait=60", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
