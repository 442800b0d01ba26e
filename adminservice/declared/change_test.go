package declared_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/adminservice/declared"
	"github.com/opencmg/opencmg/labcloud"
)

// TestEditedExport edits an export in many places: the plan shows exactly that,
// and apply does exactly that, by what the site says it did.
func TestEditedExport(t *testing.T) {
	r, _ := build(t)
	exported := r.export()
	edited := edit(t, exported,
		"name: Fourth Coffee\n    environment", "name: Fourth Coffee Ltd\n    environment",
		"disableAuthentication: true", "disableAuthentication: false",
		"description: \"\"\n    serverApp", "description: our tenant\n    serverApp",
		"prefix: /wiki/", "prefix: /notes/",
		"instances: 2", "instances: 3",
		"checkRevocation: false", "checkRevocation: true",
		"gb: 500", "gb: 600",
		"gateway: granitefalls", "gateway: \"\"",
		"preferCloud: false\n  includeCloudSources: false", "preferCloud: true\n  includeCloudSources: false",
		"- 10.1.0.0/16", "- 10.2.0.0/16",
		"siteSystems:\n      - granitefalls\n      - wiki", "siteSystems:\n      - wiki",
		"boundaryGroups:\n", "boundaryGroups:\n  - name: Branch\n    description: \"\"\n    boundaries:\n      - 10.9.0.0/16\n    siteSystems: []\n    preferCloud: false\n",
		"stateMinutes: 15", "stateMinutes: 20",
	)
	i, j := strings.Index(edited, "tokenIssuers:\n"), strings.Index(edited, "siteRoles:\n")
	edited = edited[:i] + "tokenIssuers: []\n" + edited[j:]
	const changes = `change tenant ` + tenantID + ` (configuration) name: Fourth Coffee -> Fourth Coffee Ltd disableAuthentication: true -> false
change Azure service Fourth Coffee (none) description:  -> our tenant
change site role wiki (configuration) prefix: /wiki/ -> /notes/
change gateway granitefalls (deployment) instances: 2 -> 3 checkRevocation: false -> true traffic.gb: 500 -> 600
change connection point cp1 (outage) gateway: granitefalls -> ` + `
change boundary group Default-Site-Boundary-Group<LAB> (none) preferCloud: false -> true
create boundary group Branch (none)
change boundary group Home workers (none) boundaries: [10.1.0.0/16, 2001:db8::/32] -> [10.2.0.0/16, 2001:db8::/32] siteSystems: [granitefalls, wiki] -> [wiki]
change client settings Default Client Agent Settings (none) stateMinutes: 15 -> 20`
	issuer := do[adminservice.Page[adminservice.TokenIssuer]](r, "GET", "TokenIssuers", nil).Value[0].Certificate
	mark := func(p *declared.Plan) string {
		text := lines(p)
		for _, c := range p.Changes {
			if c.Kind == "token issuer" {
				text = strings.ReplaceAll(text, c.Name, "ISSUER")
			}
		}
		return text
	}
	if diff := cmp.Diff(changes+"\nundeclared token issuer ISSUER (none)", mark(r.plan(edited))); diff != "" {
		t.Errorf("without prune: %s", diff)
	}
	p := r.plan(edited, prune)
	if diff := cmp.Diff(changes+"\ndelete token issuer ISSUER (outage)", mark(p)); diff != "" {
		t.Errorf("with prune: %s", diff)
	}
	_, latest := r.audit(0)
	r.apply(p)
	r.settled(edited, prune)
	if diff := cmp.Diff(edited, r.export()); diff != "" {
		t.Errorf("the site is not as declared: %s", diff)
	}
	if issuer == "" || strings.Contains(r.export(), issuer) {
		t.Error("the issuer is still there")
	}
	// One message for each request, two for the gateway, which takes settings
	// before machines, and one of the operation's end.
	said, _ := r.audit(latest)
	var short []string
	for _, s := range said {
		words := strings.Fields(s)
		short = append(short, strings.Join(words[:min(3, len(words))], " "))
	}
	if diff := cmp.Diff([]string{
		"changed tenant Fourth", "changed Azure service", "changed service wiki,", "changed the settings", "changed the settings", "scale completed", "linked connection point",
		"changed boundary group", "added boundary group", "changed boundary group", "changed client settings", "deleted token issuer",
	}, short); diff != "" {
		t.Errorf("status messages: %s\n%q", diff, said)
	}
}

// TestGatewayMachines: what replaces machines says so, and the certificate is
// replaced once.
func TestGatewayMachines(t *testing.T) {
	r, file := build(t)
	g := do[adminservice.Gateway](r, "GET", "Gateways/granitefalls", nil)
	r.pfx("next.pfx", serviceName)
	edited := edit(t, file, "size: Lab", "size: Standard", "instances: 2", "instances: 1", "pfxFile: granitefalls.pfx", "pfxFile: next.pfx")
	p := r.plan(edited)
	if len(p.Changes) != 1 || p.Changes[0].Cost != declared.CostRolling {
		t.Fatalf("plan: %s", lines(p))
	}
	c := p.Changes[0]
	for _, text := range []string{"1 instance go, after their clients", "rolling replacement of 2 instances", "new certificate without dropping"} {
		if !strings.Contains(c.Effect, text) {
			t.Errorf("%q does not say %q", c.Effect, text)
		}
	}
	if !slices.ContainsFunc(c.Fields, func(f declared.Field) bool {
		return f.Name == "certificate" && strings.Contains(f.Old, g.CertificateThumbprint[:16])
	}) {
		t.Errorf("fields: %+v", c.Fields)
	}
	var steps []string
	r.atStep(func(step string) { steps = append(steps, step) })
	r.apply(p)
	r.atStep(nil)
	now := do[adminservice.Gateway](r, "GET", "Gateways/granitefalls", nil)
	if now.Size != opencmg.SizeStandard || now.Instances != 1 || now.CertificateThumbprint == g.CertificateThumbprint {
		t.Errorf("gateway: %s", jsonOf(t, now))
	}
	// Two were replaced before one went.
	if i, j := slices.Index(steps, "resize.upgrade"), slices.Index(steps, "scale.scale"); i < 0 || j < i {
		t.Errorf("steps: %q", steps)
	}
	r.settled(edited)
	// The only instance.
	p = r.plan(edit(t, edited, "size: Standard", "size: Lab"))
	if len(p.Changes) != 1 || p.Changes[0].Cost != declared.CostOutage || !strings.Contains(p.Changes[0].Effect, "its only instance is replaced") {
		t.Errorf("plan: %s", lines(p))
	}
	// More machines first, so that it is rolling again.
	if p = r.plan(edit(t, edited, "size: Standard", "size: Lab", "instances: 1", "instances: 2")); p.Changes[0].Cost != declared.CostRolling {
		t.Errorf("plan: %s", lines(p))
	}
	// To ACME: what is declared, and not more, is compared. It is not applied
	// here, since nobody answers at the address.
	p = r.plan(edit(t, edited, "certificate: {pfxFile: next.pfx, passwordFile: password}", "certificate: {acme: {directory: https://acme.example/directory, contact: [admin@corp.example], acceptTerms: true}}"))
	if len(p.Changes) != 1 || !strings.Contains(lines(p), "-> by ACME from https://acme.example/directory") {
		t.Errorf("plan: %s", lines(p))
	}
	// Stopped, it can not be scaled; everything else goes.
	op := do[adminservice.Operation](r, "POST", "Gateways/granitefalls/stop", nil)
	must(r.c.Wait(t.Context(), op.ID, nil))(t)
	p = r.plan(edit(t, edited, "instances: 1", "instances: 4"))
	if len(p.Refusals()) != 1 || !strings.Contains(p.Refusals()[0].Reason, "is Stopped") {
		t.Errorf("plan: %s", lines(p))
	}
	r.apply(r.plan(edit(t, edited, "checkRevocation: false", "checkRevocation: true")))
}

// TestChangedMeanwhile: what somebody else did after the plan is not overwritten;
// what the site did by itself is no hindrance.
func TestChangedMeanwhile(t *testing.T) {
	r, file := build(t)
	edited := edit(t, file, "checkRevocation: false", "checkRevocation: true", "preferCloud: true\nclient", "preferCloud: false\nclient", "policyMinutes: 30", "policyMinutes: 40")
	apply := func(p *declared.Plan) error { return p.Apply(t.Context(), r.c, nil) }

	p := r.plan(edited)
	do[any](r, "PATCH", "Gateways/granitefalls", adminservice.GatewayChange{MinTLS: new("1.3")})
	err := apply(p)
	if !errors.Is(err, opencmg.Stale) || !strings.Contains(err.Error(), "gateway granitefalls: somebody else changed it") {
		t.Fatalf("a changed gateway: %v", err)
	}
	if g := do[adminservice.Gateway](r, "GET", "Gateways/granitefalls", nil); *g.CheckRevocation || g.MinTLS != "1.3" {
		t.Errorf("gateway: %s", jsonOf(t, g))
	}
	if s := do[adminservice.ClientSettings](r, "GET", "ClientSettings/0", nil); s.PolicyMinutes != 30 {
		t.Error("apply went on after a failure")
	}

	// The version alone is no change: an operation that changes nothing raises
	// it.
	p = r.plan(edited)
	before := do[adminservice.Gateway](r, "GET", "Gateways/granitefalls", nil).Version
	op := do[adminservice.Operation](r, "POST", "Gateways/granitefalls/stop", nil)
	must(r.c.Wait(t.Context(), op.ID, nil))(t)
	if now := do[adminservice.Gateway](r, "GET", "Gateways/granitefalls", nil).Version; now == before {
		t.Fatal("the version stayed")
	}
	if err := apply(p); err != nil {
		t.Errorf("a version that the site raised: %v", err)
	}
	r.settled(edited)
}

// TestGoneMeanwhile: an object that was deleted or made since the plan.
func TestGoneMeanwhile(t *testing.T) {
	r := newCloud(t).newSite("LAB")
	group := do[adminservice.BoundaryGroup](r, "POST", "BoundaryGroups", adminservice.BoundaryGroup{Name: "Branch"})
	const file = "apiVersion: opencmg/v1\nboundaryGroups:\n  - {name: Branch, preferCloud: true}\n  - {name: Other}\n"
	p := r.plan(file)
	do[any](r, "DELETE", "BoundaryGroups/"+group.ID, nil)
	if err := p.Apply(t.Context(), r.c, nil); !errors.Is(err, opencmg.NotFound) && !errors.Is(err, opencmg.Stale) {
		t.Errorf("gone: %v", err)
	}
	p = r.plan(file)
	do[any](r, "POST", "BoundaryGroups", adminservice.BoundaryGroup{Name: "Branch"})
	if err := p.Apply(t.Context(), r.c, nil); !errors.Is(err, opencmg.Conflict) {
		t.Errorf("made by somebody else: %v", err)
	}
	r.apply(r.plan(file))
	r.settled(file)
}

// TestKilledInTheMiddle ends apply at several moments; run again, it finishes,
// and everything is there once.
func TestKilledInTheMiddle(t *testing.T) {
	c := newCloud(t)
	r := c.newSite("LAB")
	r.join(adminservice.SystemConnectionPoint, "cp1")
	r.join(adminservice.SystemManagementPoint, "mp1")
	file := whole(c)
	for _, at := range []string{"create application", "create token issuer", "create gateway", "change boundary group"} {
		ctx, cancel := context.WithCancel(t.Context())
		hit := false
		err := r.plan(file).Apply(ctx, r.c, func(e declared.Event) {
			what := string(e.Change.Action) + " " + e.Change.Kind
			// A gateway is left while it is being deployed.
			if at == "create gateway" && e.State != declared.Progress && e.State != declared.Failed {
				return
			}
			if what == at && e.State != declared.Begun {
				hit = true
				cancel()
			}
		})
		cancel()
		if !hit || err == nil {
			t.Fatalf("%s: not in the middle: %v", at, err)
		}
	}
	// An operation that is under way is waited for.
	r.apply(r.plan(file))
	r.settled(file)
	for collection, n := range map[string]int{"Applications": 2, "Gateways": 1, "TokenIssuers": 1, "BoundaryGroups": 2, "SiteRoles": 2} {
		if got := do[adminservice.Page[any]](r, "GET", collection, nil).Value; len(got) != n {
			t.Errorf("%d %s, want %d", len(got), collection, n)
		}
	}
	if g := do[adminservice.Gateway](r, "GET", "Gateways/granitefalls", nil); g.State != adminservice.StateReady {
		t.Errorf("gateway is %s", g.State)
	}
}

// TestFailedOperation: what the cloud refused is told, and begun again.
func TestFailedOperation(t *testing.T) {
	c := newCloud(t)
	r := c.newSite("LAB")
	r.join(adminservice.SystemConnectionPoint, "cp1")
	r.join(adminservice.SystemManagementPoint, "mp1")
	file := whole(c)
	fault := must(c.lab.SetFault(labcloud.Fault{Kind: "failResource", Name: "Microsoft.Compute/virtualMachineScaleSets", Code: "AllocationFailed", Message: "no room"}))(t)
	states := map[string]string{}
	progress := 0
	p := r.plan(file)
	err := p.Apply(t.Context(), r.c, func(e declared.Event) {
		if e.State == declared.Progress {
			progress++
			return
		}
		states[e.Change.Kind] = e.State
	})
	if err == nil || !strings.Contains(err.Error(), "create gateway granitefalls: ") || !strings.Contains(err.Error(), "AllocationFailed") || progress == 0 {
		t.Fatalf("%v, %d lines of progress", err, progress)
	}
	if states["gateway"] != declared.Failed || states["token issuer"] != declared.Done || states["connection point"] != "" {
		t.Errorf("states: %v", states)
	}
	p = r.plan(file)
	if c := p.Pending()[0]; c.Action != declared.Continue || c.Name != "granitefalls" || !strings.Contains(c.Effect, "begun again") {
		t.Errorf("plan: %s", lines(p))
	}
	if err := p.Apply(t.Context(), r.c, nil); err == nil || !strings.Contains(err.Error(), "AllocationFailed") {
		t.Errorf("with the fault there still: %v", err)
	}
	if err := c.lab.ClearFault(fault); err != nil {
		t.Fatal(err)
	}
	// A change that was declared meanwhile comes after.
	file = edit(t, file, "checkRevocation: false", "checkRevocation: true")
	r.apply(r.plan(file))
	r.settled(file)
}

// TestPrune deletes everything that refers to each other.
func TestPrune(t *testing.T) {
	r, _ := build(t)
	const nothing = `apiVersion: opencmg/v1
tenants: []
applications: []
azureServices: []
trustedCertificates: []
tokenIssuers: []
siteRoles: []
gateways: []
connectionPoints: []
boundaryGroups: []
`
	p := r.plan(nothing)
	if len(p.Pending()) != 0 || len(p.Changes) != 11 {
		t.Errorf("without prune: %s", lines(p))
	}
	if p := r.plan("apiVersion: opencmg/v1\ngateways: []\n", prune); len(p.Pending()) != 1 {
		t.Errorf("a section that the file does not have: %s", lines(p))
	}
	p = r.plan(nothing, prune)
	for _, c := range p.Changes {
		if c.Kind == "gateway" && c.Cost != declared.CostOutage {
			t.Errorf("%s: %s", c.Name, c.Cost)
		}
	}
	r.apply(p)
	r.settled(nothing, prune)
	if exported := r.export(); strings.Contains(exported, "\n  - ") {
		t.Errorf("left: %s", exported)
	}
}
