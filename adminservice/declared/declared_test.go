package declared_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/adminservice/declared"
)

// whole declares one object of every kind.
func whole(c *cloud) string {
	_, root, thumbprint := c.root("Clients")
	other := block(c.issuer("Other site"))
	c.write("secret", []byte(deployerSecret+"\n"))
	c.pfx("granitefalls.pfx", serviceName)
	return `apiVersion: opencmg/v1
tenants:
  - id: ` + tenantID + `
    name: Fourth Coffee
    disableAuthentication: true
applications:
  - clientId: ` + clientAppID + `
    kind: ClientApplication
    name: CmgClient
    tenantId: ` + tenantID + `
    serverApp: ` + deployerID + `
  - clientId: ` + strings.ToUpper(deployerID) + `
    kind: ServerApplication
    name: CmgServer
    tenantId: ` + tenantID + `
    identifierUri: api://fourthcoffee/cmg
    credential: {secretFile: secret, secretExpires: 2100-01-31}
azureServices:
  - name: Fourth Coffee
    serverApp: ` + deployerID + `
    clientApp: ` + clientAppID + `
    userDiscovery: false
trustedCertificates:
  - store: RootCA
    certificate: ` + root + `
tokenIssuers:
  - issuer: urn:other
    allowUnbound: false
    certificate: ` + other + `
siteRoles:
  - name: mp1
    own: true
    allowGatewayTraffic: true
  - name: wiki
    kind: service
    prefix: /wiki/
    internal: [https://wiki.corp.example]
    allowGatewayTraffic: true
    endpoints:
      - {name: wiki, auth: [none], methods: [GET]}
gateways:
  - name: granitefalls
    serverApp: ` + deployerID + `
    subscriptionId: ` + subscriptionID + `
    region: West Europe
    size: Lab
    instances: 2
    certificates: [` + strings.ToUpper(thumbprint) + `]
    checkRevocation: false
    traffic: {enabled: true, gb: 500}
    certificate: {pfxFile: granitefalls.pfx, passwordFile: password}
connectionPoints:
  - name: cp1
    gateway: granitefalls
defaultBoundaryGroup:
  includeCloudSources: false
boundaryGroups:
  - name: Home workers
    boundaries: [10.1.0.0/16, "2001:db8::/32"]
    siteSystems: [wiki, granitefalls]
    preferCloud: true
clientSettings:
  policyMinutes: 30
`
}

// build is a site that has everything, and the file that says so.
func build(t *testing.T) (*rig, string) {
	t.Helper()
	c := newCloud(t)
	r := c.newSite("LAB")
	r.join(adminservice.SystemConnectionPoint, "cp1")
	r.join(adminservice.SystemManagementPoint, "mp1")
	file := whole(c)
	r.apply(r.plan(file))
	return r, file
}

// TestWholeSite builds up an empty site from a file, moves its state to a second
// one, and finds nothing to do at either.
func TestWholeSite(t *testing.T) {
	c := newCloud(t)
	r := c.newSite("LAB")
	r.join(adminservice.SystemConnectionPoint, "cp1")
	r.join(adminservice.SystemManagementPoint, "mp1")
	file := whole(c)
	p := r.plan(file)
	const want = `create application CmgServer 0b9de3c4-5f0e-4b7f-8d5e-0f6a1c2d3e4f (none)
create application CmgClient 5d1f0e9b-7c11-4c57-9a41-2d6f3b5a0e8d (none)
create Azure service Fourth Coffee (none)
create trusted certificate CERT (none)
create token issuer CERT (none)
change site role mp1 (none) allowGatewayTraffic: false -> true
create site role wiki (none)
create gateway granitefalls (deployment)
change connection point cp1 (configuration) gateway:  -> granitefalls
change boundary group Default-Site-Boundary-Group<LAB> (none) includeCloudSources: true -> false
create boundary group Home workers (none)
change client settings Default Client Agent Settings (none) policyMinutes: 60 -> 30`
	certs := func(s string) string {
		words := strings.Fields(s)
		for i, w := range words {
			if len(w) == 64 {
				words[i] = "CERT"
			}
		}
		return strings.Join(words, " ")
	}
	if diff := cmp.Diff(strings.Join(strings.Fields(want), " "), certs(lines(p))); diff != "" {
		t.Fatalf("plan: %s\n%s", diff, lines(p))
	}
	if got := do[adminservice.Page[adminservice.Application]](r, "GET", "Applications", nil).Value; len(got) != 0 {
		t.Fatalf("a plan made %+v", got)
	}
	did := r.apply(p)
	var planned []string
	for _, c := range p.Pending() {
		planned = append(planned, string(c.Action)+" "+c.Kind+" "+c.Name)
	}
	if diff := cmp.Diff(strings.Join(planned, "\n"), did); diff != "" {
		t.Errorf("apply did otherwise: %s", diff)
	}
	r.settled(file)
	exported := r.export()
	r.settled(exported)
	r.settled(exported, prune)
	if again := r.export(); again != exported {
		t.Errorf("two exports differ: %s", cmp.Diff(exported, again))
	}
	for _, secret := range []string{deployerSecret, "planted", "PRIVATE"} {
		if strings.Contains(exported, secret) {
			t.Errorf("%q is in the export", secret)
		}
	}
	// It is what the file says, and the site has it.
	for _, text := range []string{"disableAuthentication: true", "name: Home workers", "- granitefalls\n", "gb: 500", "policyMinutes: 30", "gateway: granitefalls", "region: westeurope", "# CN=Clients"} {
		if !strings.Contains(exported, text) {
			t.Errorf("the export has no %q:\n%s", text, exported)
		}
	}
	g := do[adminservice.Gateway](r, "GET", "Gateways/granitefalls", nil)
	if g.State != adminservice.StateReady || g.ServiceName != serviceName || len(g.Machines) != 2 || g.Traffic.GB != 500 || g.Traffic.CriticalPct != 90 || len(g.Certificates) != 1 || *g.CheckRevocation {
		t.Errorf("gateway: %s", jsonOf(t, g))
	}
	if got := do[adminservice.Page[adminservice.Tenant]](r, "GET", "Tenants", nil).Value; len(got) != 1 || got[0].Name != "Fourth Coffee" || !got[0].DisableAuthentication {
		t.Errorf("tenants: %+v", got)
	}
	// Applied again, nothing happens at all.
	_, latest := r.audit(0)
	if did := r.apply(r.plan(exported)); did != "" {
		t.Errorf("applied again: %s", did)
	}
	if said, _ := r.audit(latest); len(said) != 0 {
		t.Errorf("applied again: %q", said)
	}

	// Another site has other numbers, and the same export but for its name. The
	// gateway is one on hosts of its own there.
	second := c.newSite("SEC")
	do[adminservice.BoundaryGroup](second, "POST", "BoundaryGroups", adminservice.BoundaryGroup{Name: "first"}) // takes a number
	want2 := edit(t, exported, "site LAB", "site SEC", "    model: VirtualMachineScaleSet\n", "    model: SelfHosted\n",
		"    serverApp: "+deployerID+"\n    subscriptionId: "+subscriptionID+"\n    region: westeurope\n    resourceGroup: granitefalls\n", "")
	moved := edit(t, want2, "    kind: ServerApplication\n", "    kind: ServerApplication\n    credential: {secretFile: secret, secretExpires: 2100-01-31}\n")
	actions := map[string]declared.Action{}
	p = second.plan(moved)
	for _, c := range p.Changes {
		actions[c.Name] = c.Action
	}
	if actions["cp1"] != declared.Waiting || actions["mp1"] != declared.Waiting || actions["first"] != declared.Undeclared || actions["granitefalls"] != declared.Create {
		t.Errorf("plan for the second site:\n%s", lines(p))
	}
	second.apply(p)
	second.settled(moved)
	second.join(adminservice.SystemConnectionPoint, "cp1")
	second.join(adminservice.SystemManagementPoint, "mp1")
	if did := second.apply(second.plan(moved, prune)); did != "change site role mp1\nchange connection point cp1\ndelete boundary group first" {
		t.Errorf("after the hosts joined: %s", did)
	}
	second.settled(moved, prune)
	if diff := cmp.Diff(want2, second.export()); diff != "" {
		t.Errorf("the second site's export: %s", diff)
	}
}
