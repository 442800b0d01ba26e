package azure_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/azure"
)

// checkable prepares answers with which every check passes.
func checkable(c *cloud) {
	c.arm("GET", "/subscriptions", ok(m{"value": []any{m{"subscriptionId": subID, "displayName": "Contoso", "state": "Enabled", "tenantId": tenantID}}}))
	c.arm("GET", sub("/locations"), ok(m{"value": []any{
		m{"name": "westeurope", "displayName": "West Europe", "metadata": m{"regionType": "Physical"}},
		m{"name": "eastus", "displayName": "East US", "metadata": m{"regionType": "Physical"}},
		m{"name": "europe", "displayName": "Europe", "metadata": m{"regionType": "Logical"}},
		m{"name": "nowhere", "displayName": "Nowhere", "metadata": m{"regionType": "Physical"}}}}))
	for _, ns := range azure.ProviderNames {
		c.arm("GET", sub("/providers/"+ns), provider(ns, "Registered"))
	}
	c.arm("GET", group(""), ok(m{"name": "rg-cmg", "location": "westeurope"}))
	c.arm("GET", group("/providers/Microsoft.Authorization/permissions"), ok(m{"value": []any{
		m{"actions": []any{"*/read"}}, m{"actions": []any{"*"}, "notActions": []any{"Microsoft.Authorization/*/Write"}}}}))
	c.arm("GET", sub("/providers/Microsoft.Network/locations/westeurope/CheckDnsNameAvailability"), ok(m{"available": true}))
	c.arm("POST", sub("/providers/Microsoft.Storage/checkNameAvailability"), ok(m{"nameAvailable": true}))
	c.arm("POST", sub("/providers/Microsoft.KeyVault/checkNameAvailability"), ok(m{"nameAvailable": true}))
	c.arm("GET", sub("/providers/Microsoft.Compute/skus"), ok(m{"value": []any{
		m{"resourceType": "disks", "name": "Standard_A2_v2"}, m{"resourceType": "virtualMachines", "name": "Standard_A2_v2", "locations": []any{"westeurope"}, "restrictions": []any{}}}}))
	c.arm("GET", sub("/providers/Microsoft.Compute/locations/westeurope/usages"), ok(usages(20)))
	c.arm("GET", group("/providers/Microsoft.Compute/virtualMachineScaleSets/granitefalls"), notFound())
	c.arm("POST", group(record+"/validate"), ok(state("Succeeded", nil)))
}

func usages(limit int) m {
	return m{"value": []any{
		m{"unit": "Count", "currentValue": 1, "limit": limit, "name": m{"value": "cores"}},
		m{"unit": "Count", "currentValue": 0, "limit": 10, "name": m{"value": "standardAv2Family"}},
		m{"unit": "Count", "currentValue": 0, "limit": 2500, "name": m{"value": "virtualMachineScaleSets"}}}}
}

func provider(ns, state string) reply {
	types := []any{}
	if ns == "Microsoft.Compute" {
		types = append(types, m{"resourceType": "virtualMachineScaleSets", "locations": []any{"West Europe", "East US"}, "apiVersions": []any{"2025-04-01", "2024-07-01"}})
	}
	return ok(m{"namespace": ns, "registrationState": state, "resourceTypes": types})
}

// notPassed maps the IDs of the checks that did not pass to state and advice.
func notPassed(t *testing.T, c *cloud, d *opencmg.Deployment) map[string]opencmg.Check {
	t.Helper()
	checks, err := c.client().Check(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	bad := map[string]opencmg.Check{}
	for _, k := range checks {
		if k.State != opencmg.CheckPass {
			bad[k.ID] = k
			if k.NextStep == "" || k.Evidence == "" {
				t.Errorf("%+v says not enough", k)
			}
		}
	}
	return bad
}

func TestCheckPasses(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	checkable(c)
	checks, err := c.client().Check(t.Context(), deployment())
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, k := range checks {
		if k.State != opencmg.CheckPass {
			t.Errorf("%+v", k)
		}
		ids = append(ids, k.ID)
	}
	want := strings.Fields("subscription provider-keyvault provider-storage provider-network provider-compute provider-managedidentity region group permission dns-label storage-name vault-name size quota validate")
	if d := cmp.Diff(want, ids); d != "" {
		t.Error(d)
	}
	query := c.sent("GET", "/skus")[0].Query
	if query.Get("$filter") != "location eq 'westeurope'" || query.Get("api-version") != "2021-07-01" {
		t.Errorf("%v", query)
	}
}

// All failures at once: no check stops the others.
func TestCheckFindsEverything(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	checkable(c)
	c.arm("GET", "/subscriptions", ok(m{"value": []any{m{"subscriptionId": subID, "displayName": "Contoso", "state": "Disabled"}}}))
	c.arm("GET", sub("/providers/Microsoft.Storage"), provider("Microsoft.Storage", "NotRegistered"))
	c.arm("GET", group(""), ok(m{"name": "rg-cmg", "location": "East US"}))
	c.arm("GET", sub("/providers/Microsoft.Authorization/permissions"), ok(m{"value": []any{m{"actions": []any{"*/read"}}}}))
	c.arm("GET", sub("/providers/Microsoft.Network/locations/westeurope/CheckDnsNameAvailability"), ok(m{"available": false}))
	c.arm("POST", sub("/providers/Microsoft.Storage/checkNameAvailability"), ok(m{"nameAvailable": false, "reason": "AlreadyExists", "message": "The storage account named granitefalls is already taken."}))
	c.arm("POST", sub("/providers/Microsoft.KeyVault/checkNameAvailability"), ok(m{"nameAvailable": false, "reason": "AlreadyExists", "message": "The vault name is in use."}))
	c.arm("GET", sub("/providers/Microsoft.KeyVault/locations/westeurope/deletedVaults/granitefalls"), ok(m{"properties": m{"vaultId": "/subscriptions/x/resourceGroups/other/providers/Microsoft.KeyVault/vaults/granitefalls"}}))
	for _, path := range []string{"/providers/Microsoft.Network/publicIPAddresses/granitefalls-pip", "/providers/Microsoft.Storage/storageAccounts/granitefalls"} {
		c.arm("GET", group(path), notFound())
	}
	c.arm("GET", sub("/providers/Microsoft.Compute/skus"), ok(m{"value": []any{m{"resourceType": "virtualMachines", "name": "Standard_A2_v2", "restrictions": []any{m{"type": "Location", "reasonCode": "NotAvailableForSubscription"}}}}}))
	c.arm("GET", sub("/providers/Microsoft.Compute/locations/westeurope/usages"), ok(usages(4)))
	d := deployment()
	d.Region = "westeurope"
	bad := notPassed(t, c, d)
	for id, want := range map[string]string{
		"subscription": "Disabled", "provider-storage": "NotRegistered", "group": "eastus", "permission": "virtualMachineScaleSets/write",
		"dns-label": "taken", "storage-name": "already taken", "vault-name": "resourceGroups/other", "size": "NotAvailableForSubscription",
		"quota": "cores: 1 of 4", "validate": "",
	} {
		if k, there := bad[id]; !there || !strings.Contains(k.Evidence, want) {
			t.Errorf("%s: %+v", id, k)
		}
		delete(bad, id)
	}
	if len(bad) > 0 {
		t.Errorf("unexpected: %v", bad)
	}
}

func TestCheckOwnNames(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	checkable(c)
	c.arm("GET", sub("/providers/Microsoft.Network/locations/westeurope/CheckDnsNameAvailability"), ok(m{"available": false}))
	c.arm("POST", sub("/providers/Microsoft.Storage/checkNameAvailability"), ok(m{"nameAvailable": false}))
	c.arm("POST", sub("/providers/Microsoft.KeyVault/checkNameAvailability"), ok(m{"nameAvailable": false}))
	c.arm("GET", sub("/providers/Microsoft.KeyVault/locations/westeurope/deletedVaults/granitefalls"), notFound())
	for _, path := range []string{"/providers/Microsoft.Network/publicIPAddresses/granitefalls-pip", "/providers/Microsoft.Storage/storageAccounts/granitefalls", "/providers/Microsoft.KeyVault/vaults/granitefalls"} {
		c.arm("GET", group(path), ok(m{"tags": m{opencmg.GatewayTag: gatewayID}}))
	}
	// The scale set has what it asks for already: no quota is needed.
	c.arm("GET", group("/providers/Microsoft.Compute/virtualMachineScaleSets/granitefalls"), ok(m{"sku": m{"name": "Standard_A2_v2", "capacity": 2}, "properties": m{}}))
	c.arm("GET", sub("/providers/Microsoft.Compute/locations/westeurope/usages"), ok(usages(1)))
	if bad := notPassed(t, c, deployment()); len(bad) > 0 {
		t.Errorf("%v", bad)
	}
	// A deleted vault of this very deployment is no obstacle either.
	c.arm("GET", sub("/providers/Microsoft.KeyVault/locations/westeurope/deletedVaults/granitefalls"), ok(m{"properties": m{"vaultId": group("/providers/Microsoft.KeyVault/vaults/granitefalls")}}))
	if bad := notPassed(t, c, deployment()); len(bad) > 0 {
		t.Errorf("%v", bad)
	}
}

func TestCheckWithoutGroup(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	checkable(c)
	c.arm("GET", group(""), azError(404, "ResourceGroupNotFound", "no"))
	c.arm("GET", sub("/providers/Microsoft.Authorization/permissions"), ok(m{"value": []any{m{"actions": []any{"*"}}}}))
	d := deployment()
	bad := notPassed(t, c, d)
	if k := bad["validate"]; len(bad) != 1 || k.State != opencmg.CheckTodo {
		t.Errorf("%v", bad)
	}
	d.CreateGroup = false
	if k := notPassed(t, c, d)["group"]; k.State != opencmg.CheckFail || !strings.Contains(k.NextStep, "create it") {
		t.Errorf("%+v", k)
	}
}

func TestCheckDryRunAndRights(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	checkable(c)
	c.arm("POST", group(record+"/validate"), reply{status: 400, body: m{"error": m{"code": "InvalidTemplateDeployment", "message": "The template deployment failed.", "details": []any{
		m{"code": "RequestDisallowedByPolicy", "message": "Resource 'granitefalls' was disallowed by policy 'no public addresses'."}}}}})
	c.arm("GET", sub("/providers/Microsoft.Compute/locations/westeurope/usages"), azError(403, "AuthorizationFailed", "no right"))
	c.arm("GET", sub("/providers/Microsoft.Compute/skus"), ok(m{"value": []any{}}))
	bad := notPassed(t, c, deployment())
	if k := bad["validate"]; k.State != opencmg.CheckFail || !strings.Contains(k.Evidence, "no public addresses") || !strings.Contains(k.NextStep, "policy") {
		t.Errorf("%+v", k)
	}
	if k := bad["quota"]; k.State != opencmg.CheckTodo {
		t.Errorf("%+v", k)
	}
	if k := bad["size"]; k.State != opencmg.CheckFail || !strings.Contains(k.Evidence, "not offered") {
		t.Errorf("%+v", k)
	}
	if len(bad) != 3 {
		t.Errorf("%v", bad)
	}
}

func TestCheckRegionAndVersions(t *testing.T) {
	c := newCloud(t, opencmg.AzureUSGovernmentCloud)
	checkable(c)
	c.arm("GET", sub("/providers/Microsoft.Compute"), ok(m{"namespace": "Microsoft.Compute", "registrationState": "Registered", "resourceTypes": []any{
		m{"resourceType": "virtualMachineScaleSets", "locations": []any{"East US"}, "apiVersions": []any{"2019-01-01"}}}}))
	bad := notPassed(t, c, deployment())
	if k := bad["region"]; k.State != opencmg.CheckFail || !strings.Contains(k.NextStep, "eastus") || strings.Contains(k.NextStep, "nowhere") {
		t.Errorf("%+v", k)
	}
	if k := bad["provider-compute"]; k.State != opencmg.CheckFail || !strings.Contains(k.Evidence, "2024-07-01") {
		t.Errorf("%+v", k)
	}
}

func TestRegions(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	checkable(c)
	got, err := c.client().Regions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]azure.Region{{Name: "eastus", DisplayName: "East US"}, {Name: "westeurope", DisplayName: "West Europe"}}, got); d != "" {
		t.Error(d)
	}
}

func TestRegisterProviders(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	checkable(c)
	c.arm("GET", sub("/providers/Microsoft.Network"), provider("Microsoft.Network", "NotRegistered"), provider("Microsoft.Network", "Registering"), provider("Microsoft.Network", "Registered"))
	c.arm("POST", sub("/providers/Microsoft.Network/register"), provider("Microsoft.Network", "Registering"))
	if err := c.client().RegisterProviders(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if n := len(c.sent("POST", "/register")); n != 1 {
		t.Errorf("%d registrations", n)
	}
	c.arm("GET", sub("/providers/Microsoft.Network"), provider("Microsoft.Network", "NotRegistered"))
	c.arm("POST", sub("/providers/Microsoft.Network/register"), azError(403, "AuthorizationFailed", "no right to register/action"))
	if ce := cloudErr(t, c.client().RegisterProviders(t.Context(), nil)); ce.Code != "AuthorizationFailed" {
		t.Errorf("%+v", ce)
	}
	ps, err := c.client().Providers(t.Context())
	if err != nil || len(ps) != 5 || ps[2].State != "NotRegistered" {
		t.Errorf("%v, %v", ps, err)
	}
}

func TestCheckSignInFails(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	c.signIn = expired
	_, err := c.client().Check(t.Context(), deployment())
	if ce := cloudErr(t, err); ce.Code != "AADSTS7000222" {
		t.Errorf("%+v", ce)
	}
}
