package site_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// TestDeployment goes through a gateway's life: created, scaled, stopped,
// started, its certificate renewed, deleted with nothing left.
func TestDeployment(t *testing.T) {
	r := newRig(t)
	r.connect()
	op := do[adminservice.Operation](r, "POST", "Gateways", r.newGateway())
	r.finish(op)
	g := do[adminservice.Gateway](r, "GET", "Gateways/granitefalls", nil)
	if g.State != adminservice.StateReady || len(g.Machines) != 2 || g.Machines[0].Number != 0 || g.Machines[1].Number != 1 || g.Machines[0].Health != "healthy" ||
		g.DeploymentName != "granitefalls.westeurope.cloudapp.lab.opencmg.example" || len(g.Addresses) != 1 {
		t.Fatalf("after the deployment: %+v", g)
	}
	if len(r.machines) != 2 {
		t.Errorf("%d machines run", len(r.machines))
	}
	act := func(method, path string, in any, state string, machines int) {
		t.Helper()
		r.finish(do[adminservice.Operation](r, method, path, in))
		g := do[adminservice.Gateway](r, "GET", "Gateways/"+g.ID, nil)
		if g.State != state || len(g.Machines) != machines {
			t.Fatalf("%s %s: %s with %d machines, want %s with %d: %s", method, path, g.State, len(g.Machines), state, machines, g.Error)
		}
	}
	act("PATCH", "Gateways/"+g.ID, map[string]any{"instances": 3}, adminservice.StateReady, 3)
	act("PATCH", "Gateways/"+g.ID, map[string]any{"instances": 1}, adminservice.StateReady, 1)
	act("PATCH", "Gateways/"+g.ID, map[string]any{"size": "Standard"}, adminservice.StateReady, 1)
	act("POST", "Gateways/"+g.ID+"/stop", nil, adminservice.StateStopped, 1)
	act("POST", "Gateways/"+g.ID+"/start", nil, adminservice.StateReady, 1)
	act("POST", "Gateways/"+g.ID+"/synchronize", nil, adminservice.StateReady, 1)
	act("PUT", "Gateways/"+g.ID+"/certificate", adminservice.ServerCertificate{PFX: r.pfx("again", strings.ToUpper(serviceName)), Password: "again"}, adminservice.StateReady, 1)
	before := g.CertificateThumbprint
	if g = do[adminservice.Gateway](r, "GET", "Gateways/"+g.ID, nil); g.CertificateThumbprint == before {
		t.Error("the certificate is the same after its renewal")
	}
	r.finish(do[adminservice.Operation](r, "DELETE", "Gateways/"+g.ID, nil))
	if list := do[adminservice.Page[adminservice.Gateway]](r, "GET", "Gateways", nil).Value; len(list) != 0 {
		t.Errorf("still there: %+v", list)
	}
	if left := r.cloud.State().Machines; len(left) != 0 {
		t.Errorf("machines that were left behind: %+v", left)
	}
	// The same name can be used again at once.
	r.finish(do[adminservice.Operation](r, "POST", "Gateways", r.newGateway()))
}

// TestDeploymentSurvivesACrashAtEveryStep ends the site right after each step
// was recorded, starts it again, and wants one whole deployment.
func TestDeploymentSurvivesACrashAtEveryStep(t *testing.T) {
	r := newRig(t)
	r.connect()
	crashed := map[string]bool{}
	at := make(chan string)
	r.onStep = func(op, step string) {
		if op == "create" && !crashed[step] {
			crashed[step] = true
			at <- step
			select {} // the process is gone; the deferred parts of it never run
		}
	}
	// What is blocked above keeps its goroutine, so the site is abandoned and
	// not closed: its database handle goes with the process in real life.
	op := do[adminservice.Operation](r, "POST", "Gateways", r.newGateway())
	for i := 0; ; i++ {
		done := make(chan error, 1)
		c := r.c
		go func() {
			_, err := c.Wait(t.Context(), op.ID, nil)
			done <- err
		}()
		select {
		case step := <-at:
			t.Logf("crash at %s", step)
			r.abandon()
			r.start()
			continue
		case err := <-done:
			if err != nil {
				t.Fatalf("after %d crashes: %v\n%s", i, err, r.describe(op.ID))
			}
		}
		break
	}
	if len(crashed) < 7 {
		t.Errorf("only %d steps: %v", len(crashed), crashed)
	}
	g := do[adminservice.Gateway](r, "GET", "Gateways/granitefalls", nil)
	if g.State != adminservice.StateReady || len(g.Machines) != 2 {
		t.Errorf("%+v", g)
	}
	if st := r.cloud.State(); len(st.Machines) != 2 {
		t.Errorf("machines: %+v", st.Machines)
	}
}

// TestDeploymentProblems gives each documented failure its own clear error, and
// wants a state from which the administrator gets out.
func TestDeploymentProblems(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault labFault
		says  string
	}{
		{"name taken", labFault{Kind: "nameTaken", Name: "granitefalls"}, "granitefalls"},
		{"provider", labFault{Kind: "providerUnregistered", Name: "Microsoft.KeyVault"}, "Microsoft.KeyVault"},
		{"quota", labFault{Kind: "quota", Name: "cores", Limit: 1}, "quota"},
		{"policy", labFault{Kind: "policy", Name: "Microsoft.Storage/storageAccounts"}, "RequestDisallowedByPolicy"},
		{"half-way", labFault{Kind: "failResource", Name: "Microsoft.Compute/virtualMachineScaleSets", Code: "AllocationFailed", Message: "no room"}, "AllocationFailed"},
		{"forbidden", labFault{Kind: "forbidden", Path: "/resourcegroups/"}, "AuthorizationFailed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			r.connect()
			fault, err := r.cloud.SetFault(tt.fault)
			if err != nil {
				t.Fatal(err)
			}
			op := do[adminservice.Operation](r, "POST", "Gateways", r.newGateway())
			_, err = r.c.Wait(t.Context(), op.ID, nil)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("got %v, want %q\n%s", err, tt.says, r.describe(op.ID))
			}
			t.Logf("%v", err)
			g := do[adminservice.Gateway](r, "GET", "Gateways/granitefalls", nil)
			if g.State != adminservice.StateError || !strings.Contains(g.Error, tt.says) {
				t.Errorf("gateway: %s %s", g.State, g.Error)
			}
			if err := r.cloud.ClearFault(fault); err != nil {
				t.Fatal(err)
			}
			if tt.fault.Kind == "providerUnregistered" {
				apps := do[adminservice.Page[adminservice.Application]](r, "GET", "Applications?$filter="+url.QueryEscape("kind eq 'ServerApplication'"), nil).Value
				r.finish(do[adminservice.Operation](r, "POST", "Applications/"+apps[0].ID+"/registerProviders", map[string]string{"subscriptionId": subscriptionID}))
			}
			r.finish(do[adminservice.Operation](r, "POST", "Gateways/"+g.ID+"/retry", nil))
			r.finish(do[adminservice.Operation](r, "DELETE", "Gateways/"+g.ID, nil))
		})
	}
}

// TestRetryAfter: a busy cloud is asked again without anybody doing anything.
func TestRetryAfter(t *testing.T) {
	r := newRig(t)
	r.connect()
	if _, err := r.cloud.SetFault(labFault{Kind: "status", Path: "deployments", Method: "PUT", Status: 429, Code: "TooManyRequests", Times: 6}); err != nil {
		t.Fatal(err)
	}
	r.finish(do[adminservice.Operation](r, "POST", "Gateways", r.newGateway()))
}

func TestRefusedGateways(t *testing.T) {
	r := newRig(t)
	for _, tt := range []struct {
		name   string
		change func(*adminservice.NewGateway)
		says   string
	}{
		{"no application", func(*adminservice.NewGateway) {}, "no server application"},
		{"wrong password", func(g *adminservice.NewGateway) { g.Certificate.Password = "x" }, "password"},
		{"no certificate", func(g *adminservice.NewGateway) { g.Certificate.PFX = nil }, "upload"},
		{"17 instances", func(g *adminservice.NewGateway) { g.Instances = 17 }, "1 to 16"},
		{"size", func(g *adminservice.NewGateway) { g.Size = "Huge" }, "VM size"},
		{"deployment name", func(g *adminservice.NewGateway) { g.DeploymentName = "Has-Hyphen" }, "deployment name"},
		{"thresholds", func(g *adminservice.NewGateway) { g.Traffic = &adminservice.Threshold{GB: 1, WarningPct: 95} }, "warningPct"},
		{"model", func(g *adminservice.NewGateway) { g.Model = "Fancy" }, "model"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := r.newGateway()
			tt.change(&in)
			err := r.c.Do(t.Context(), "POST", "Gateways", in, nil)
			if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), in.Certificate.Password) && in.Certificate.Password != "x" {
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
	r.connect()
	in := r.newGateway()
	in.Region = "Atlantis"
	op := do[adminservice.Operation](r, "POST", "Gateways", in)
	if _, err := r.c.Wait(t.Context(), op.ID, nil); err == nil || !strings.Contains(err.Error(), "atlantis") {
		t.Errorf("region: %v", err)
	}
	if err := r.c.Do(t.Context(), "POST", "Gateways", r.newGateway(), nil); !errors.Is(err, opencmg.Conflict) {
		t.Errorf("the same name twice: %v", err)
	}
}

// TestNoSecretIsShown looks for every planted secret in logs, answers and
// tables.
func TestNoSecretIsShown(t *testing.T) {
	r := newRig(t)
	r.connect()
	r.finish(do[adminservice.Operation](r, "POST", "Gateways", r.newGateway()))
	apps, err := r.db.Objects(context.Background(), "application")
	if err != nil {
		t.Fatal(err)
	}
	planted := []string{deployerSecret, "p4ssw0rd-planted", string(r.c.Token), "PRIVATE KEY"}
	for _, a := range apps {
		if secret, err := r.db.Secret(context.Background(), "application/"+a.ID); err == nil {
			planted = append(planted, string(secret))
		}
	}
	if len(planted) != 5 {
		t.Fatalf("%d secrets to look for", len(planted))
	}
	places := map[string]string{"the log": r.log.String()}
	for _, path := range []string{"Applications", "AzureServices", "Gateways", "Operations", "StatusMessages", "Accounts", "Tenants", "JoinTokens"} {
		places[path] = fmt.Sprint(do[map[string]any](r, "GET", path, nil))
	}
	for _, kind := range []string{"application", "gateway", "account", "azure-service", "published", "url-mappings"} {
		objects, err := r.db.Objects(context.Background(), kind)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			places["table "+kind] += string(o.Body)
		}
	}
	for where, text := range places {
		for i, secret := range planted {
			if strings.Contains(text, secret) {
				t.Errorf("secret %d is in %s", i, where)
			}
		}
	}
}

// TestConversion takes over a classic deployment and makes a scale set of it.
func TestConversion(t *testing.T) {
	r := newRig(t)
	r.connect()
	in := r.newGateway()
	in.Model, in.ResourceGroup = adminservice.ModelClassic, "old-group"
	g := do[adminservice.Gateway](r, "POST", "Gateways", in)
	if g.State != adminservice.StateReady || g.DeploymentName != "granitefalls.cloudapp.lab.opencmg.example" || len(g.Machines) != 0 {
		t.Fatalf("recorded: %+v", g)
	}
	if err := r.c.Do(t.Context(), "POST", "Gateways/"+g.ID+"/stop", nil, nil); !errors.Is(err, opencmg.Conflict) || !strings.Contains(err.Error(), "convert it first") {
		t.Errorf("stop: %v", err)
	}
	// Its group must be there: conversion keeps it.
	op := do[adminservice.Operation](r, "POST", "Gateways/"+g.ID+"/convert", nil)
	if _, err := r.c.Wait(t.Context(), op.ID, nil); err == nil || !strings.Contains(err.Error(), "ResourceGroupNotFound") {
		t.Errorf("without the group: %v", err)
	}
	other := r.newGateway()
	other.ResourceGroup, other.DeploymentName = "old-group", "other"
	other.Certificate.PFX = r.pfx("p4ssw0rd-planted", "other.corp.example")
	r.finish(do[adminservice.Operation](r, "POST", "Gateways", other))
	r.finish(do[adminservice.Operation](r, "POST", "Gateways/"+g.ID+"/retry", nil))
	g = do[adminservice.Gateway](r, "GET", "Gateways/"+g.ID, nil)
	if g.State != adminservice.StateReady || g.Model != adminservice.ModelScaleSet || len(g.Machines) != 2 || g.DeploymentName != "granitefalls.westeurope.cloudapp.lab.opencmg.example" {
		t.Errorf("converted: %+v", g)
	}
	if err := r.c.Do(t.Context(), "POST", "Gateways/"+g.ID+"/convert", nil, nil); !errors.Is(err, opencmg.Conflict) {
		t.Errorf("twice: %v", err)
	}
	// A name in the classic domain can not move.
	in.DeploymentName = "third"
	in.Certificate.PFX = r.pfx("p4ssw0rd-planted", "third.cloudapp.lab.opencmg.example")
	third := do[adminservice.Gateway](r, "POST", "Gateways", in)
	if err := r.c.Do(t.Context(), "POST", "Gateways/"+third.ID+"/convert", nil, nil); !errors.Is(err, opencmg.Conflict) || !strings.Contains(err.Error(), "domain of classic") {
		t.Errorf("classic name: %v", err)
	}
	r.finish(do[adminservice.Operation](r, "DELETE", "Gateways/"+third.ID, nil))
}

// TestEndedOperation: one that ended after somebody found it to be open is not
// done again.
func TestEndedOperation(t *testing.T) {
	r := newRig(t)
	r.connect()
	op := do[adminservice.Operation](r, "POST", "Gateways", r.newGateway())
	r.finish(op)
	before := do[adminservice.Operation](r, "GET", "Operations/"+op.ID, nil)
	r.s.StartOperation(t.Context(), op.ID)
	if after := do[adminservice.Operation](r, "GET", "Operations/"+op.ID, nil); len(after.Log) != len(before.Log) || !after.Changed.Equal(before.Changed) {
		t.Errorf("it was done again: %d lines of log became %d", len(before.Log), len(after.Log))
	}
}

// TestUpgradeThatWasCutOff: a machine that had the newest model and no fresh disk
// yet when an upgrade ended gets one by the next.
func TestUpgradeThatWasCutOff(t *testing.T) {
	r := newRig(t)
	r.connect()
	r.finish(do[adminservice.Operation](r, "POST", "Gateways", r.newGateway()))
	g := r.gateway()
	if _, err := r.cloud.SetFault(labFault{Kind: "forbidden", Path: "/reimage", Times: 1}); err != nil {
		t.Fatal(err)
	}
	op := do[adminservice.Operation](r, "PATCH", "Gateways/"+g.ID, map[string]any{"size": "Standard"})
	if _, err := r.c.Wait(t.Context(), op.ID, nil); err == nil {
		t.Fatal("the upgrade did not fail")
	}
	r.finish(do[adminservice.Operation](r, "POST", "Gateways/"+g.ID+"/retry", nil))
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, m := range r.machines {
		if m.spec.Generation != 1 {
			t.Errorf("machine %s: %d fresh disks, want 1", id, m.spec.Generation)
		}
	}
}

// The machines of a gateway get new tunnel identities before the present ones
// end, and not sooner.
func TestTunnelIdentitiesAreRenewed(t *testing.T) {
	r := newRig(t)
	r.connect()
	in := r.newGateway()
	in.Instances = 1
	r.finish(do[adminservice.Operation](r, "POST", "Gateways", in))
	g := r.gateway()
	p := r.join("cp1", g.ID)
	look := func(left time.Duration) []string {
		t.Helper()
		p.says(opencmg.InstanceStatus{Gateway: "granitefalls", Started: r.now(), Time: r.now(), Configuration: 1 << 40, TunnelCertEnds: r.now().Add(left)})
		r.look("identities")
		return r.messages("the tunnel identities")
	}
	// A connection point may have a tunnel before the instance said anything.
	if err := p.client().Report(t.Context(), &adminservice.SiteSystemReport{Kind: adminservice.SystemConnectionPoint, CertificateEnds: r.now().AddDate(2, 0, 0),
		ConnectionPoint: &opencmg.ConnectionPointStatus{Name: p.name, ConnectionID: p.id, Site: "LAB", Tunnels: []opencmg.TunnelStatus{{Gateway: "granitefalls", Connected: true}}}}); err != nil {
		t.Fatal(err)
	}
	r.look("identities")
	if m := look(61 * 24 * time.Hour); len(m) != 0 {
		t.Errorf("61 days before: %q", m)
	}
	if m := look(59 * 24 * time.Hour); len(m) != 1 {
		t.Fatalf("59 days before: %q", m)
	}
	var op adminservice.Operation
	for _, o := range do[adminservice.Page[adminservice.Operation]](r, "GET", "Operations", nil).Value {
		if o.Kind == "synchronize" {
			op = o
		}
	}
	r.finish(op)
	if got := r.gateway(); got.State != adminservice.StateReady {
		t.Errorf("the gateway is %s afterwards", got.State)
	}
}
