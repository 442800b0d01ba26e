package site_test

import (
	"encoding/pem"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	nethtml "golang.org/x/net/html"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// A shownField is a field of a page.
type shownField struct {
	value string // typed into it, or chosen in it
	// text is what the field says that it is described by, when it says that it
	// is wrong.
	text string
	id   string
	box  bool
}

func attr(n *nethtml.Node, name string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

// fieldsOf are the fields of the form with the action, and where the summary on
// top leads.
func fieldsOf(t testing.TB, page, action string) (fields map[string]shownField, leads string) {
	t.Helper()
	doc := must(nethtml.Parse(strings.NewReader(page)))(t)
	texts := map[string]string{}
	var forms []*nethtml.Node
	text := func(n *nethtml.Node) string {
		var b strings.Builder
		for d := range n.Descendants() {
			if d.Type == nethtml.TextNode {
				b.WriteString(d.Data)
			}
		}
		return b.String()
	}
	for n := range doc.Descendants() {
		if id, ok := attr(n, "id"); ok {
			texts[id] = text(n)
		}
		if _, ok := attr(n, "data-refused"); ok {
			leads, _ = attr(n, "href")
		}
		if a, _ := attr(n, "action"); n.Data == "form" && strings.HasPrefix(strings.SplitN(a, "?", 2)[0]+"#", "/console/"+action+"#") {
			forms = append(forms, n)
		}
	}
	fields = map[string]shownField{}
	for _, form := range forms {
		for n := range form.Descendants() {
			name, ok := attr(n, "name")
			if !ok || n.Type != nethtml.ElementNode {
				continue
			}
			f := shownField{}
			f.id, _ = attr(n, "id")
			f.value, _ = attr(n, "value")
			kind, _ := attr(n, "type")
			f.box = kind == "checkbox"
			switch n.Data {
			case "textarea":
				f.value = text(n)
			case "select":
				f.value = ""
				for o := range n.Descendants() {
					if _, ok := attr(o, "selected"); ok {
						if f.value, ok = attr(o, "value"); !ok {
							f.value = text(o)
						}
					}
				}
			}
			if invalid, _ := attr(n, "aria-invalid"); invalid == "true" {
				by, _ := attr(n, "aria-describedby")
				for id := range strings.FieldsSeq(by) {
					f.text += texts[id] + "\n"
				}
				if _, focus := attr(n, "autofocus"); !focus {
					t.Errorf("field %s is wrong and has not the focus", name)
				}
			}
			if was, ok := fields[name]; !ok || was.text == "" {
				fields[name] = f
			}
		}
	}
	return fields, leads
}

// refused sends a form with a wrong value, and wants the page again with the
// refusal beside the field, a summary that leads there, and all that was typed.
func (v *visitor) refused(path string, form url.Values, files map[string]formFile, field, text string) {
	v.t.Helper()
	var status int
	var page string
	if files == nil {
		status, page = v.post(path, form)
	} else {
		status, page = v.postFiles(path, form, files)
	}
	action, _, _ := strings.Cut(path, "?")
	if status < 400 || status >= 500 {
		v.t.Fatalf("%s with a wrong %s: %d\n%s", path, field, status, page)
	}
	fields, leads := fieldsOf(v.t, page, action)
	f, ok := fields[field]
	if !ok || !strings.Contains(f.text, text) {
		v.t.Errorf("%s: beside %s is %q, want %q\n%s", path, field, f.text, text, page)
		return
	}
	if f.id == "" || leads != "#"+f.id {
		v.t.Errorf("%s: the summary leads to %q, want #%s", path, leads, f.id)
	}
	if strings.Count(page, html.EscapeString(text)) < 2 {
		v.t.Errorf("%s: the summary on top does not say %q", path, text)
	}
	for name, other := range fields {
		if name != field && other.text != "" {
			v.t.Errorf("%s: %s is wrong, and %s says so too", path, field, name)
		}
		lower := strings.ToLower(name)
		want, sent := form[name]
		if !sent || len(want) == 0 || other.box || name == "proof" || name == "was" || strings.Contains(lower, "secret") && name != "importSecretExpires" && name != "secretYears" && name != "newSecretExpires" || strings.HasPrefix(lower, "password") || name == "entraToken" || name == "acmeKey" {
			continue
		}
		if other.value != strings.TrimSpace(want[0]) && !(other.value == "" && isFirstChoice(page, name, want[0])) {
			v.t.Errorf("%s: %s was %q and came again as %q", path, name, want[0], other.value)
		}
	}
}

// isFirstChoice reports whether a choice is the one that browsers take when none
// is selected, or the value of a box.
func isFirstChoice(page, name, value string) bool {
	m := regexp.MustCompile(`name="` + regexp.QuoteMeta(name) + `"[^>]*><option(?: value="([^"]*)")?[^>]*>([^<]*)<`).FindStringSubmatch(page)
	return m != nil && (html.UnescapeString(m[1]) == value || html.UnescapeString(m[2]) == value)
}

// with is the form with one value changed.
func with(form url.Values, name string, values ...string) url.Values {
	c := url.Values{}
	for k, v := range form {
		c[k] = slices.Clone(v)
	}
	c[name] = values
	c.Del("proof")
	return c
}

func TestConsoleRefusalsOfGatewayForms(t *testing.T) {
	r := newRig(t)
	r.connect()
	v := r.console(r.c.Token)
	v.see("gateways/new")
	form := wizardForm()
	form.Set("ticks", "sent")
	files := map[string]formFile{"pfx": {"cmg.pfx", r.pfx("p4ssw0rd-planted", serviceName)}}
	const create = "gateways/new"
	for _, c := range []struct{ field, value, text string }{
		{"subscriptionId", "not-a-guid", "must be a GUID"},
		{"region", "", "must be Azure's name of a region"},
		{"resourceGroup", "a group.", "not end in a dot"},
		{"instances", "17", "must be 1 to 16"},
		{"instances", "two", "must be a whole number"},
		{"deploymentName", "Not Good", "3 to 24 lower-case letters"},
		{"serviceName", "other.corp.example", "other.corp.example"},
		{"password", "wrong", "the password does not open the file"},
		{"trafficGb", "0", "gb must be at least 1"},
		{"trafficWarning", "95", "1 <= warningPct <= criticalPct"},
		{"storageCritical", "101", "1 <= warningPct <= criticalPct"},
		{"minTls", "1.1", "must be 1.2 or 1.3"},
		{"size", "Huge", "must be Lab"},
	} {
		if c.field == "minTls" || c.field == "size" { // no browser sends it
			status, page := v.postFiles(create, with(form, c.field, c.value), files)
			if fields, _ := fieldsOf(t, page, create); status != http.StatusBadRequest || !strings.Contains(fields[c.field].text, c.text) {
				t.Errorf("%s: %d, beside it %q", c.field, status, fields[c.field].text)
			}
			continue
		}
		v.refused(create, with(form, c.field, c.value), files, c.field, c.text)
	}
	v.refused(create, form, map[string]formFile{"pfx": {"cmg.pfx", []byte("no PFX")}}, "pfx", "not a PFX file")
	v.refused(create, form, map[string]formFile{}, "pfx", "upload the server authentication certificate")
	v.refused(create, with(form, "trust", "some"), files, "trust", "choose at least one")
	v.refused(create, form, map[string]formFile{"pfx": files["pfx"], "caFiles": {"ca.pem", []byte("no CA")}}, "caFiles", "holds no certificate")
	acme := with(with(with(form, "certificateFrom", "acme"), "serviceName", serviceName), "acmeDirectory", "https://acme.corp.example/directory")
	v.refused(create, with(acme, "acmeDirectory", "http://acme.corp.example/"), nil, "acmeDirectory", "must be an https address")
	v.refused(create, with(acme, "acmeContact", "nobody"), nil, "acmeContact", "must be a mail address")
	v.refused(create, with(acme, "acmeKeyId", "kid-1"), nil, "acmeKeyId", "belong together")
	v.refused(create, with(acme, "serviceName", "granitefalls"), nil, "serviceName", "name the service in full")

	r.finish(do[adminservice.Operation](r, "POST", "Gateways", r.newGateway()))
	g := r.gateway()
	one := "gateways/" + g.ID
	v.see(one)
	v.refused(create, form, files, "serviceName", "already: choose another one")
	v.refused(one+"/scale", url.Values{"instances": {"17"}, "size": {"Large"}}, nil, "instances", "must be 1 to 16")
	was := func(page string) string {
		return html.UnescapeString(regexp.MustCompile(`name="was" value="([^"]*)"`).FindStringSubmatch(page)[1])
	}(v.see(one + "/properties?tab=settings"))
	v.refused(one+"/properties?tab=settings", url.Values{"ticks": {"sent"}, "was": {was}, "description": {"another"}, "instances": {"99"}, "size": {"Lab"}, "trust": {"all"}, "minTls": {"1.3"}}, nil, "instances", "must be 1 to 16")
	v.refused(one+"/properties?tab=alerts", url.Values{"ticks": {"sent"}, "was": {was}, "trafficGb": {"7"}, "trafficWarning": {"30"}, "trafficCritical": {"20"}, "storageGb": {"9"}, "storageWarning": {"10"}, "storageCritical": {"20"}}, nil, "trafficWarning", "warningPct")
	v.refused(one+"/certificate", url.Values{"certificateFrom": {"pfx"}, "password": {"wrong"}}, files, "password", "the password does not open the file")
	v.refused(one+"/certificate", url.Values{"certificateFrom": {"acme"}, "acmeDirectory": {"ftp://x"}, "acmeContact": {"mailto:a@b.example"}, "acmeChallenge": {"http-01"}}, nil, "acmeDirectory", "must be an https address")
	// The other form of that page is not touched: what it has ticked stays so.
	_, page := v.post(one+"/certificate", url.Values{"certificateFrom": {"acme"}, "acmeDirectory": {"ftp://x"}})
	if !strings.Contains(page, `name="checkRevocation" checked`) || !strings.Contains(page, `name="instances" type="number" min="1" max="16" value="2"`) && !strings.Contains(page, `value="1"`) {
		t.Errorf("the properties beside a refused certificate:\n%s", page)
	}
	v.refused("applications/"+g.ServerAppID+"/register-providers", url.Values{"subscriptionId": {"none"}}, nil, "subscriptionId", "must be a GUID")
	v.refused("applications/"+g.ServerAppID+"/renew-secret", url.Values{"renewBy": {"paste"}, "newSecret": {"x"}, "newSecretExpires": {"2020-01-01"}}, nil, "newSecretExpires", "give the date")
}

func TestConsoleRefusalsOfOtherForms(t *testing.T) {
	r := newRig(t)
	g := r.selfHosted()
	v := r.console(r.c.Token)
	v.see("gateways/" + g.ID)
	group := do[adminservice.BoundaryGroup](r, "POST", "BoundaryGroups", adminservice.BoundaryGroup{Name: "Berlin", Boundaries: []string{"10.1.0.0/16"}})
	role := do[adminservice.SiteRole](r, "POST", "SiteRoles", adminservice.SiteRole{Kind: opencmg.KindManagementPoint, Name: "mp1", Internal: []string{"https://mp1.corp.example"}, AllowGatewayTraffic: true})
	point := r.join("cp1", g.ID)
	block, _ := pem.Decode(r.ca.CertificatePEM())
	ca := map[string]formFile{"caFiles": {"root.cer", block.Bytes}}
	service := url.Values{"ticks": {"sent"}, "kind": {"service"}, "name": {"Wiki"}, "internal": {"https://wiki.corp.example"}, "allow": {"on"}, "prefix": {"/wiki/"},
		// The first row has no name, so the endpoint's number is not the row's.
		"ep0.methods": {"GET"}, "ep1.name": {"pages"}, "ep1.path": {"pages"}, "ep1.methods": {"GET HEAD"}, "ep1.length": {"100"}, "ep1.timeout": {"0"}, "ep1.pki": {"on"}}
	join := url.Values{"gateway": {g.ID}, "uses": {"2"}, "minutes": {"30"}, "sources": {"10.1.0.0/16"}}
	bulk := url.Values{"minutes": {"60"}, "uses": {"5"}, "group": {"kiosks"}, "sources": {"10.1.0.0/16"}, "description": {"for kiosks"}}
	account := url.Values{"name": {"ann"}, "role": {"Operations Administrator"}, "way": {"entra"}, "tenantId": {tenantID}, "objectId": {deployerID}}
	boundaries := url.Values{"ticks": {"sent"}, "name": {"Hamburg"}, "description": {"the port"}, "boundaries": {"10.2.0.0/16"}, "preferCloud": {"on"}}
	settings := url.Values{"ticks": {"sent"}, "gateway": {"on"}, "policyMinutes": {"60"}, "locationMinutes": {"60"}, "inventoryMinutes": {"60"}, "discoveryMinutes": {"60"}, "stateMinutes": {"15"}, "keepAliveMinutes": {"15"}}
	for _, c := range []struct {
		path  string
		form  url.Values
		field string
		value string
		text  string
	}{
		{"roles/new", service, "name", " ", "give the role a name"},
		{"roles/new", service, "internal", "wiki", "must be a URL"},
		{"roles/new", service, "prefix", "wiki", "must start and end with a slash"},
		{"roles/new", service, "ca", "no certificate", "ca: "},
		{"roles/new", service, "ep1.path", "a b", "must be a plain relative path"},
		{"roles/new", service, "ep1.methods", "BREW", "can not be published"},
		{"roles/new", service, "ep1.methods", "", "at least one method"},
		{"roles/new", service, "ep1.length", "-1", "must not be negative"},
		{"roles/new", service, "ep1.length", "long", "must be a number of bytes"},
		{"roles/new", with(service, "ep0.path", "x"), "ep0.name", "", "give it a name"},
		{"roles/" + role.ID, with(service, "kind", opencmg.KindManagementPoint), "internal", "ftp://x", "must be a URL"},
		{"roles/join", url.Values{"uses": {"1"}, "minutes": {"60"}}, "minutes", "50000", "minutes must be"},
		{"connection-points/new", join, "uses", "2000", "uses 1 to"},
		{"connection-points/new", join, "minutes", "many", "whole number"},
		{"connection-points/new", join, "sources", "10.1.0.0", "must be a prefix"},
		{"gateways/" + g.ID + "/join-token", url.Values{"hosts": {"192.0.2.1"}, "httpsPort": {"443"}, "tunnelPort": {"10140"}, "uses": {"1"}, "minutes": {"60"}}, "tunnelPort", "70000", "must be 1 to 65535"},
		{"gateways/" + g.ID + "/join-token", url.Values{"hosts": {"192.0.2.1"}, "httpsPort": {"443"}, "tunnelPort": {"10140"}, "uses": {"1"}, "minutes": {"60"}}, "hosts", "a/b", "must be a host name"},
		{"certificates/join-tokens", url.Values{"kind": {"gateway"}, "minutes": {"60"}, "uses": {"1"}}, "gatewayId", "", "joins one gateway"},
		{"certificates/bulk-tokens", bulk, "minutes", "999999", "must be 1 to"},
		{"certificates/bulk-tokens", bulk, "uses", "-1", "must be 1 to"},
		{"certificates/bulk-tokens", bulk, "sources", "here", "must be a prefix"},
		{"certificates/bulk-tokens", bulk, "group", strings.Repeat("g", 101), "at most 100"},
		{"certificates/bulk-tokens", bulk, "description", strings.Repeat("d", 1001), "at most 1000"},
		{"certificates/blocked", url.Values{"reason": {"lost"}}, "thumbprint", "abc", "must be the SHA-256"},
		{"boundary-groups/new", boundaries, "name", "Berlin", "already; choose another name"},
		{"boundary-groups/new", boundaries, "boundaries", "10.2.0.1/16", "did you mean 10.2.0.0/16"},
		{"boundary-groups/" + group.ID, boundaries, "boundaries", "x", "is no CIDR prefix"},
		{"boundary-groups/" + group.ID, boundaries, "name", " ", "must not be empty"},
		{"client-settings", settings, "policyMinutes", "0", "must be 1 to"},
		{"client-settings", settings, "keepAliveMinutes", "999999", "must be 1 to"},
		{"client-settings", settings, "stateMinutes", "often", "whole number"},
		{"accounts", account, "name", " ", "give the administrator a name"},
		{"accounts", account, "tenantId", "contoso", "both must be GUIDs"},
		{"accounts", account, "objectId", "ann", "both must be GUIDs"},
		{"accounts", url.Values{"name": {"bob"}, "role": {"Read-only Analyst"}, "way": {"certificate"}}, "thumbprint", "12", "must be the SHA-256"},
		{"analyzer/schedule", url.Values{"gateway": {g.ID}}, "minutes", "4", "must be from 5 to 10080"},
		{"analyzer/schedule", url.Values{"gateway": {g.ID}}, "minutes", "often", "from 5 to 10080"},
		{"analyzer", url.Values{"gateway": {g.ID}, "signIn": {"entra-user"}}, "entraToken", "", "give an access token"},
	} {
		v.refused(c.path, with(c.form, c.field, c.value), nil, c.field, c.text)
	}
	v.refused("roles/new", with(service, "ep1.pki"), nil, "ep1.pki", "at least one authentication mode")
	v.refused("boundary-groups/new", with(boundaries, "system", "nothing"), nil, "system", "neither a gateway nor a site role")
	// A gateway that was deleted meanwhile can not be chosen again.
	link := "connection-points/" + point.id + "/link"
	_, page := v.post(link, url.Values{"gateway": {"99"}})
	if fields, _ := fieldsOf(t, page, link); !strings.Contains(fields["gateway"].text, "99") {
		t.Errorf("beside the gateway of a link: %q", fields["gateway"].text)
	}
	v.refused("certificates/trusted", url.Values{}, map[string]formFile{"caFiles": {"ca.pem", []byte("no CA")}}, "caFiles", "holds no certificate")
	v.refused("certificates/trusted", url.Values{"revocationList": {"ldap://x"}}, ca, "revocationList", "must be an http or https address")
	v.refused("certificates/issuers", url.Values{"issuer": {"urn:x"}, "audience": {"urn:y"}}, map[string]formFile{"file": {"x.cer", []byte("none")}}, "file", "holds no certificate")
	v.refused("accounts", url.Values{"name": {"bob"}, "role": {"Read-only Analyst"}, "way": {"certificate"}}, map[string]formFile{"file": {"x.cer", []byte("none")}}, "file", "holds no certificate")
	v.refused("analyzer", url.Values{"gateway": {g.ID}, "signIn": {"client-certificate"}}, map[string]formFile{}, "certificate", "choose the PEM file")
	// A deletion that was not confirmed leaves the boxes of the other form.
	if _, page := v.post("boundary-groups/"+group.ID+"/delete", url.Values{"typed": {"x"}}); !strings.Contains(page, `value="Berlin"`) {
		t.Errorf("the form beside a refused deletion:\n%s", page)
	}
	if _, page := v.post("roles/"+role.ID+"/delete", url.Values{"typed": {"x"}}); !strings.Contains(page, `name="allow" value="on" checked`) {
		t.Errorf("the form beside a refused deletion:\n%s", page)
	}
}

func TestConsoleRefusalsOfAzureServices(t *testing.T) {
	r := newRig(t)
	v := r.console(r.c.Token)
	v.see("azure-services/new")
	const path = "azure-services/new"
	imported := with(importForm(), "ticks", "sent")
	created := url.Values{
		"ticks": {"sent"}, "name": {"Cloud management"}, "description": {"the tenant"}, "environment": {string(opencmg.AzureLab)}, "tenantId": {tenantID}, "serverBy": {"create"}, "serverName": {"CMG server"}, "secretYears": {"2"},
		"clientBy": {"create"}, "clientName": {"CMG client"}, "signInBy": {"secret"}, "signInClientId": {deployerID}, "signInSecret": {deployerSecret}, "userDeltaMinutes": {"10"},
	}
	for _, c := range []struct {
		form               url.Values
		field, value, text string
	}{
		{created, "name", " ", "give the Azure service a name"},
		{created, "tenantId", "contoso", "must be the directory (tenant) ID"},
		{created, "serverName", " ", "give the server app a name"},
		{created, "clientName", "CMG server", "different names"},
		{created, "signInBy", "nobody", "choose one of"},
		{created, "userDeltaMinutes", "1", "5 to 1440 minutes"},
		{created, "groupFullHours", "1000", "must be 1 to"},
		{imported, "importServerName", " ", "the name that the registration has"},
		{imported, "importServerId", "x", "must be the application (client) ID"},
		{imported, "importSecretExpires", "2020-01-01", "the secret ended"},
		{imported, "importClientId", "not-a-guid", "must be the application (client) ID"},
		{imported, "importClientName", " ", "the name that the registration has"},
		{imported, "importClientId", deployerID, "recorded already"},
	} {
		if c.field == "signInBy" { // no browser sends it
			status, page := v.post(path, with(c.form, c.field, c.value))
			if fields, _ := fieldsOf(t, page, path); status != http.StatusBadRequest || !strings.Contains(fields[c.field].text, c.text) {
				t.Errorf("%s: %d, beside it %q", c.field, status, fields[c.field].text)
			}
			continue
		}
		v.refused(path, with(c.form, c.field, c.value), nil, c.field, c.text)
	}
	if status, page := v.post(path, with(imported, "name", "Fourth Coffee")); status != http.StatusOK {
		t.Fatalf("%d\n%s", status, page)
	}
	v.refused(path, created, nil, "tenantId", "is connected already")
	s := do[adminservice.Page[adminservice.AzureService]](r, "GET", "AzureServices", nil).Value[0]
	one := "azure-services/" + s.ID
	v.see(one)
	props := url.Values{"ticks": {"sent"}, "version": {"1"}, "name": {"Fourth Coffee"}, "description": {"new"}, "userDiscovery": {"on"}, "userDeltaMinutes": {"5"}, "groupFullHours": {"24"}}
	v.refused(one, with(props, "name", " "), nil, "name", "must not be empty")
	v.refused(one, with(props, "userDeltaMinutes", "2000"), nil, "userDeltaMinutes", "5 to 1440")
	v.refused(one, with(props, "groupFullHours", "soon"), nil, "groupFullHours", "whole number")
}

// What the console shows beside a field is the service's own word, which scripts
// get too; whoever did not sign in gets none.
func TestProblemNamesTheField(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct{ method, path, body, want string }{
		{"POST", "Accounts", `{"name":"x","role":"King"}`, "role"},
		{"POST", "Gateways", `{"model":"SelfHosted","certificate":{"serviceName":"short"}}`, "certificate.serviceName"},
		{"POST", "SiteRoles", `{"name":"x","kind":"service","prefix":"/x/","internal":["https://a.example"],"endpoints":[{"name":"a","path":"","auth":["pki"],"methods":["GET"]},{"name":"b","path":"b c","auth":["pki"],"methods":["GET"]}]}`, "endpoints.1.path"},
		{"PATCH", "ClientSettings/0", `{"policyMinutes":0}`, "policyMinutes"},
		{"PATCH", "ClientSettings/0", `{"policyMinutes":"x"}`, "policyMinutes"},
		{"GET", "Alerts?open=perhaps", "", "open"},
		{"POST", "Accounts", `{`, ""},
	} {
		p := problem(t, r.raw(c.method, adminservice.BasePath+c.path, c.body, nil))
		if p.Status != http.StatusBadRequest || p.Field != c.want {
			t.Errorf("%s %s %s: %d %q, field %q, want %q", c.method, c.path, c.body, p.Status, p.Detail, p.Field, c.want)
		}
	}
}
