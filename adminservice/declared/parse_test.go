package declared_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice/declared"
)

// TestParseErrors: an error names the line and the key.
func TestParseErrors(t *testing.T) {
	root, _, _ := newRoot(t)
	const guid = "0b9de3c4-5f0e-4b7f-8d5e-0f6a1c2d3e4f"
	for name, tt := range map[string]struct{ file, says string }{
		"empty":             {"", "site.yaml:1: apiVersion: must be opencmg/v1"},
		"no version":        {"gateways: []\n", "apiVersion: must be opencmg/v1"},
		"other version":     {"apiVersion: opencmg/v2\n", `site.yaml:1: apiVersion: must be opencmg/v1, is "opencmg/v2"`},
		"unknown section":   {"apiVersion: opencmg/v1\ngateway: []\n", `[2:1] unknown field "gateway"`},
		"unknown key":       {"gateways:\n  - name: abc\n    isntances: 2\n", `[4:5] unknown field "isntances"`},
		"wrong type":        {"gateways:\n  - name: abc\n    instances: two\n", "[4:16] cannot unmarshal"},
		"no YAML":           {"gateways: [\n", "site.yaml: "},
		"tag":               {"boundaryGroups:\n  - name: a\n    boundaries: !x 0\n", "site.yaml:4: tags, anchors and aliases"},
		"alias":             {"tenants: [{id: &a x}, *a]\n", "site.yaml:2: tags, anchors and aliases"},
		"two documents":     {"gateways: []\n---\napiVersion: opencmg/v1\n", "holds 2 documents"},
		"key twice":         {"gateways: []\ngateways: []\n", "already defined"},
		"tenant ID":         {"tenants:\n  - id: fourthcoffee\n", `site.yaml:3: tenants[0].id: "fourthcoffee" is no GUID`},
		"environment":       {"tenants:\n  - id: " + guid + "\n    environment: AzureChina\n", "site.yaml:4: tenants[0].environment: must be"},
		"tenant twice":      {"tenants:\n  - id: " + guid + "\n  - id: " + strings.ToUpper(guid) + "\n", "site.yaml:4: tenants[1].id: is there already, at tenants[0].id in line 3"},
		"kind of app":       {"applications:\n  - clientId: " + guid + "\n    kind: Server\n", "site.yaml:4: applications[0].kind"},
		"credential":        {"applications:\n  - clientId: " + guid + "\n    credential: {secretFile: a, certificateFile: b}\n", "site.yaml:4: applications[0].credential: give one of"},
		"secret's end":      {"applications:\n  - clientId: " + guid + "\n    credential: {secretFile: a}\n", "secretExpires"},
		"secret's odd end":  {"applications:\n  - clientId: " + guid + "\n    credential: {secretFile: a, secretExpires: soon}\n", `must be a date such as 2027-01-31, is "soon"`},
		"discovery":         {"azureServices:\n  - name: a\n    userDeltaMinutes: 1\n", "site.yaml:4: azureServices[0].userDeltaMinutes: must be 5 to 1440, is 1"},
		"store":             {"trustedCertificates:\n  - store: My\n    certificate: x\n", "site.yaml:3: trustedCertificates[0].store"},
		"no certificate":    {"trustedCertificates:\n  - certificate: x\n", "site.yaml:3: trustedCertificates[0].certificate: must be one certificate in PEM"},
		"two certificates":  {"trustedCertificates:\n  - certificate: |\n      " + strings.ReplaceAll(root+root, "\n", "\n      ") + "\n", "must be one certificate"},
		"role's kind":       {"siteRoles:\n  - name: a\n    kind: distribution-point\n", "site.yaml:4: siteRoles[0].kind"},
		"role's URL":        {"siteRoles:\n  - name: a\n    internal:\n      - https://a.corp.example\n      - ftp://x\n", "site.yaml:6: siteRoles[0].internal[1]"},
		"no URL":            {"siteRoles:\n  - name: a\n    internal: []\n", "site.yaml:4: siteRoles[0].internal: name at least one URL"},
		"endpoint":          {"siteRoles:\n  - name: a\n    endpoints:\n      - {name: a, auth: [password], methods: [GET]}\n", "site.yaml:5: siteRoles[0].endpoints[0]: "},
		"prefix twice":      {"siteRoles:\n  - {name: a, prefix: /x/}\n  - {name: b, prefix: /X}\n", "site.yaml:4: siteRoles[1].prefix: is there already, at siteRoles[0].prefix in line 3"},
		"role twice":        {"siteRoles:\n  - name: a\n  - name: A\n", "site.yaml:4: siteRoles[1].name: is there already"},
		"gateway's name":    {"gateways:\n  - name: Not_a_name\n", "site.yaml:3: gateways[0].name"},
		"no name":           {"gateways:\n  - instances: 2\n", "site.yaml:3: gateways[0].name: must not be empty"},
		"instances":         {"gateways:\n  - name: abc\n    instances: 17\n", "site.yaml:4: gateways[0].instances: must be 1 to 16, is 17"},
		"size":              {"gateways:\n  - name: abc\n    size: Huge\n", "site.yaml:4: gateways[0].size: must be Lab, Standard or Large"},
		"TLS":               {"gateways:\n  - name: abc\n    minTls: \"1.1\"\n", "site.yaml:4: gateways[0].minTls"},
		"thumbprint":        {"gateways:\n  - name: abc\n    certificates: [ab]\n", "site.yaml:4: gateways[0].certificates[0]"},
		"threshold":         {"gateways:\n  - name: abc\n    traffic: {warningPct: 95, criticalPct: 90}\n", "site.yaml:4: gateways[0].traffic.warningPct: must not be above"},
		"stop by storage":   {"gateways:\n  - name: abc\n    storage: {stopService: true}\n", "goes with the traffic threshold only"},
		"both certificates": {"gateways:\n  - name: abc\n    certificate: {pfxFile: a, acme: {directory: https://x}}\n", "give either pfxFile or acme"},
		"ACME by http":      {"gateways:\n  - name: abc\n    certificate: {acme: {directory: http://x}}\n", "must be an https address"},
		"boundary":          {"boundaryGroups:\n  - name: a\n    boundaries: [10.0.0.0/8, 10.1.2.3/16]\n", "site.yaml:4: boundaryGroups[0].boundaries[1]: 10.1.2.3/16 has bits set behind the prefix: did you mean 10.1.0.0/16?"},
		"no boundary":       {"boundaryGroups:\n  - name: a\n    boundaries: [office]\n", `"office" is no CIDR prefix`},
		"default group":     {"boundaryGroups:\n  - name: Default-Site-Boundary-Group<LAB>\n", "is declared under defaultBoundaryGroup"},
		"settings":          {"clientSettings:\n  policyMinutes: 0\n", "site.yaml:3: clientSettings.policyMinutes: must be 1 to 44640, is 0"},
	} {
		file := tt.file
		if file != "" && !strings.Contains(file, "apiVersion") && name != "no version" {
			file = "apiVersion: opencmg/v1\n" + file
		}
		_, err := declared.Parse([]byte(file), "site.yaml")
		if !errors.Is(err, opencmg.Invalid) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %s", name, err, tt.says)
		}
	}
	if _, err := declared.Parse(make([]byte, declared.MaxFile+1), "x"); !errors.Is(err, opencmg.TooLarge) {
		t.Errorf("a large file: %v", err)
	}
}

func newRoot(t *testing.T) (string, string, string) {
	t.Helper()
	return (&cloud{t: t}).root("Root")
}

// TestSpellings: what is written otherwise is the same.
func TestSpellings(t *testing.T) {
	r, file := build(t)
	r.settled(edit(t, file,
		"  - id: "+tenantID, "  - id: "+strings.ToUpper(tenantID),
		"region: West Europe", "region: WestEurope",
		"size: Lab", "size: standard_b2s",
		"[10.1.0.0/16, \"2001:db8::/32\"]", "[\"2001:DB8:0::/32\", 10.1.0.0/16]",
		"siteSystems: [wiki, granitefalls]", "siteSystems: [Granitefalls, WIKI]",
		"    gateway: granitefalls", "    gateway: GraniteFalls",
		"name: Home workers", "name: HOME workers",
	))
}

// TestRefusals: what can not be made is refused by the plan, with what to do,
// and nothing of the plan is made.
func TestRefusals(t *testing.T) {
	r, file := build(t)
	_, block, _ := r.root("Another")
	head := "apiVersion: opencmg/v1\n"
	before := r.export()
	for name, tt := range map[string]struct{ file, says string }{
		"service name":       {head + "gateways:\n  - {name: granitefalls, serviceName: other.corp.example}\n", "serviceName can not be changed: it needs another deployment. With another name: declare a second gateway"},
		"region":             {edit(t, file, "West Europe", "North Europe"), "region can not be changed"},
		"subscription":       {head + "gateways:\n  - {name: granitefalls, subscriptionId: " + deployerID + "}\n", "leave both for at least a day"},
		"resource group":     {head + "gateways:\n  - {name: granitefalls, resourceGroup: other}\n", "With the same name"},
		"model":              {head + "gateways:\n  - {name: granitefalls, model: SelfHosted}\n", "model can not be changed"},
		"IPv6":               {head + "gateways:\n  - {name: granitefalls, ipv6: true}\n", "ipv6 can not be changed"},
		"no certificate":     {head + "gateways:\n  - {name: second}\n", "needs a server authentication certificate"},
		"missing PFX":        {edit(t, file, "pfxFile: granitefalls.pfx", "pfxFile: gone.pfx"), "gone.pfx"},
		"wrong password":     {edit(t, file, "passwordFile: password", "passwordFile: secret"), "certificate: "},
		"unknown trusted":    {head + "gateways:\n  - {name: granitefalls, certificates: [" + strings.Repeat("ab", 32) + "]}\n", "no trusted certificate abab"},
		"role's kind":        {head + "siteRoles:\n  - {name: wiki, kind: software-update-point}\n", "a role of another kind is another role"},
		"new role":           {head + "siteRoles:\n  - {name: new}\n", "needs kind and internal"},
		"tenant alone":       {head + "tenants:\n  - {id: " + deployerID + "}\n", "a tenant comes with its first application"},
		"environment":        {head + "tenants:\n  - {id: " + tenantID + ", environment: AzurePublicCloud}\n", "environment can not be changed"},
		"app's name":         {head + "applications:\n  - {clientId: " + deployerID + ", name: Renamed}\n", "a registration is changed in Entra"},
		"app without secret": {head + "applications:\n  - {clientId: " + subscriptionID + ", kind: ServerApplication, name: x, tenantId: " + tenantID + "}\n", "its secret is in no file"},
		"secret not there":   {head + "applications:\n  - {clientId: " + subscriptionID + ", kind: ServerApplication, name: x, tenantId: " + tenantID + ", credential: {secretFile: gone, secretExpires: 2100-01-01}}\n", "credential.secretFile"},
		"app of no app":      {head + "applications:\n  - {clientId: " + subscriptionID + ", kind: ClientApplication, name: x, tenantId: " + tenantID + ", serverApp: " + subscriptionID[:35] + "0}\n", "serverApp: there is no application"},
		"service of no app":  {head + "azureServices:\n  - {name: Fourth Coffee, serverApp: " + subscriptionID + "}\n", "serverApp: there is no application"},
		"new service":        {head + "azureServices:\n  - {name: New}\n", "needs serverApp and clientApp"},
		"store":              {head + "trustedCertificates:\n  - certificate: " + block + "\n", "store: say RootCA or IntermediateCA"},
		"issuer":             {head + "tokenIssuers:\n  - certificate: " + block + "\n", "issuer: say"},
		"link to nothing":    {head + "connectionPoints:\n  - {name: cp1, gateway: second}\n", "there is no gateway second"},
		"group of nothing":   {head + "boundaryGroups:\n  - {name: x, siteSystems: [nobody]}\n", `neither a gateway nor a site role "nobody"`},
		"default of nothing": {head + "defaultBoundaryGroup: {siteSystems: [nobody]}\n", `neither a gateway nor a site role "nobody"`},
	} {
		p := r.plan(tt.file)
		found := false
		for _, c := range p.Refusals() {
			found = found || strings.Contains(c.Reason, tt.says)
		}
		if !found {
			t.Errorf("%s: want a refusal with %q:\n%s", name, tt.says, lines(p))
			for _, c := range p.Changes {
				t.Log(c.Reason)
			}
		}
		if err := p.Apply(t.Context(), r.c, nil); !errors.Is(err, opencmg.Invalid) || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("%s: applied: %v", name, err)
		}
	}
	if now := r.export(); now != before {
		t.Error("something was changed")
	}
	// What is pruned can not be referred to.
	p := r.plan(head+"gateways: []\nconnectionPoints:\n  - {name: cp1, gateway: granitefalls}\n", prune)
	if len(p.Refusals()) != 1 || !strings.Contains(p.Refusals()[0].Reason, "there is no gateway granitefalls") {
		t.Errorf("plan: %s", lines(p))
	}
}

// TestDrift: what somebody changed by hand is shown as what apply would take
// back, and what the file does not mention is left alone.
func TestDrift(t *testing.T) {
	r, file := build(t)
	do[any](r, "PATCH", "ClientSettings/0", map[string]any{"policyMinutes": 5, "stateMinutes": 99})
	do[any](r, "PATCH", "Gateways/granitefalls", map[string]any{"checkRevocation": true, "description": "by hand"})
	do[any](r, "POST", "BoundaryGroups", map[string]any{"name": "By hand"})
	p := r.plan(file)
	const want = `change gateway granitefalls (configuration) checkRevocation: true -> false
change client settings Default Client Agent Settings (none) policyMinutes: 5 -> 30
undeclared boundary group By hand (none)`
	if got := lines(p); got != want {
		t.Errorf("plan:\n%s", got)
	}
	r.apply(p)
	r.settled(file)
	exported := r.export()
	for _, text := range []string{"stateMinutes: 99", "description: by hand", "name: By hand"} {
		if !strings.Contains(exported, text) {
			t.Errorf("%q was not left alone", text)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("apiVersion: opencmg/v1\ngateways:\n  - {name: abc, instances: 2, certificates: [], certificate: {acme: {directory: https://x}}}\n")
	f.Add("apiVersion: opencmg/v1\nboundaryGroups:\n  - name: a\n    boundaries: [10.0.0.0/8]\nclientSettings: {policyMinutes: 1}\n")
	f.Add("apiVersion: opencmg/v1\ntenants: [{id: &a x}, *a]\n")
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := declared.Parse([]byte(s), "x"); err == nil && d.APIVersion != declared.APIVersion {
			t.Errorf("%q was taken", d.APIVersion)
		}
	})
}
