package azure_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencmg/opencmg"
)

func expired(url.Values) reply {
	return reply{status: 401, body: m{"error": "invalid_client", "error_description": "AADSTS7000222: The provided client secret keys for app are expired."}}
}

// owned are the deployment's resources in the order of their deletion.
var owned = []string{
	"/providers/Microsoft.Compute/virtualMachineScaleSets/granitefalls",
	"/providers/Microsoft.Network/loadBalancers/granitefalls-lb",
	"/providers/Microsoft.Network/publicIPAddresses/granitefalls-pip",
	"/providers/Microsoft.Network/publicIPAddresses/granitefalls-pip6",
	"/providers/Microsoft.Network/virtualNetworks/granitefalls-vnet",
	"/providers/Microsoft.Network/networkSecurityGroups/granitefalls-nsg",
	"/providers/Microsoft.KeyVault/vaults/granitefalls",
	"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/granitefalls-id",
	"/providers/Microsoft.Storage/storageAccounts/granitefalls",
}

const deletedVault = "/providers/Microsoft.KeyVault/locations/westeurope/deletedVaults/granitefalls"

func deletable(c *cloud) {
	c.arm("GET", group(""), ok(m{"name": "rg-cmg", "location": "westeurope", "tags": m{opencmg.GatewayTag: gatewayID}}))
	c.arm("GET", group(record), ok(state("Succeeded", nil)))
	for _, path := range owned {
		c.arm("GET", group(path), ok(m{"id": group(path), "tags": m{opencmg.GatewayTag: gatewayID}}), notFound())
		c.arm("DELETE", group(path), c.lro(202, opPath, nil))
	}
	c.arm("GET", group(owned[3]), notFound())            // no IPv6
	c.arm("DELETE", group(owned[6]), reply{status: 200}) // a vault goes at once
	c.arm("DELETE", group(owned[7]), reply{status: 200}) // so does an identity
	c.arm("DELETE", group(owned[8]), reply{status: 200}) // and an account
	c.arm("DELETE", group(record), reply{status: 204})   // the record
	c.arm("GET", opPath, ok(m{"status": "InProgress"}), ok(m{"status": "Succeeded"}))
	c.arm("GET", sub(deletedVault), ok(m{"properties": m{"vaultId": group(owned[6]), "tags": m{opencmg.GatewayTag: gatewayID}}}))
	c.arm("POST", sub(deletedVault+"/purge"), reply{status: 202, header: map[string]string{"Location": c.env.ResourceManager + sub("/purge/1") + "?api-version=2023-07-01"}})
	c.arm("GET", sub("/purge/1"), reply{status: 202, body: m{"status": "NotStarted"}}, reply{status: 202, body: m{"status": "Running"}}, ok(m{"status": "Succeeded"}))
	c.arm("GET", group("/resources"), ok(m{"value": []any{}}))
	c.arm("DELETE", group(""), reply{status: 202, header: map[string]string{"Location": c.env.ResourceManager + sub("/gone/1") + "?api-version=2021-04-01"}})
	c.arm("GET", sub("/gone/1"), reply{status: 202}, reply{status: 200})
}

func (c *cloud) deleted() []string {
	var paths []string
	for _, r := range c.sent("DELETE", "") {
		paths = append(paths, strings.TrimPrefix(r.Path, group("")))
	}
	return paths
}

func TestDelete(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	deletable(c)
	if err := c.client().Delete(t.Context(), deployment(), true, nil); err != nil {
		t.Fatal(err)
	}
	want := append([]string{}, owned[:3]...)
	want = append(want, owned[4:]...)
	want = append(want, "") // the group
	if d := cmp.Diff(want, c.deleted()); d != "" {
		t.Error(d)
	}
	if n := len(c.sent("POST", "/purge")); n != 1 {
		t.Errorf("%d purges", n)
	}
	// All is gone: again is fine, and deletes nothing.
	c.arm("GET", group(""), azError(404, "ResourceGroupNotFound", "no"))
	c.arm("GET", sub(deletedVault), notFound())
	before := len(c.deleted())
	if err := c.client().Delete(t.Context(), deployment(), true, nil); err != nil || len(c.deleted()) != before {
		t.Error(err)
	}
}

func TestDeleteSparesOthers(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	deletable(c)
	// The storage account is somebody else's, and the group holds a database.
	c.arm("GET", group(owned[8]), ok(m{"tags": m{opencmg.GatewayTag: "another"}}))
	c.arm("GET", group("/resources"), ok(m{"value": []any{
		m{"id": group("/providers/Microsoft.Sql/servers/db")},
		m{"id": group(owned[1]), "tags": m{opencmg.GatewayTag: gatewayID}}}})) // the list lags
	var told []string
	if err := c.client().Delete(t.Context(), deployment(), true, func(step, text string) { told = append(told, text) }); err != nil {
		t.Fatal(err)
	}
	for _, path := range c.deleted() {
		if path == "" || path == owned[8] {
			t.Errorf("deleted %q", path)
		}
	}
	if !strings.Contains(strings.Join(told, "\n"), "it also holds Microsoft.Sql/servers db") {
		t.Errorf("%q", told)
	}
	if got := c.deleted(); got[len(got)-1] != record {
		t.Errorf("the record stays: %q", got)
	}
}

func TestDeleteNamesWhatStays(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	deletable(c)
	c.arm("DELETE", group(owned[0]), azError(409, "ScopeLocked", "The scope is locked."))
	c.arm("DELETE", group(owned[1]), azError(400, "LoadBalancerInUseByVirtualMachineScaleSet", "in use"))
	c.arm("GET", group("/resources"), ok(m{"value": []any{
		m{"id": group(owned[0]), "tags": m{opencmg.GatewayTag: gatewayID}},
		m{"id": group("/providers/Microsoft.Web/sites/x"), "tags": m{opencmg.GatewayTag: gatewayID}}}}))
	err := c.client().Delete(t.Context(), deployment(), true, nil)
	ce := cloudErr(t, err)
	if len(ce.Details) != 3 || !strings.HasSuffix(ce.Details[0].Target, owned[0]) || !strings.HasSuffix(ce.Details[1].Target, owned[1]) || !strings.HasSuffix(ce.Details[2].Target, "/sites/x") || !strings.Contains(ce.NextStep, "lock") {
		t.Errorf("%+v", ce)
	}
	got := c.deleted()
	if got[len(got)-1] != owned[8] {
		t.Errorf("it stopped early: %q", got)
	}
}

// What one may not purge is said, and is no failure.
func TestDeleteMayNotPurge(t *testing.T) {
	for name, arrange := range map[string]func(*cloud){
		"look": func(c *cloud) {
			c.arm("GET", sub(deletedVault), azError(403, "AuthorizationFailed", "no deletedVaults/read"))
		},
		"purge": func(c *cloud) {
			c.arm("POST", sub(deletedVault+"/purge"), azError(403, "AuthorizationFailed", "no purge/action"))
		},
	} {
		c := newCloud(t, opencmg.AzureLab)
		deletable(c)
		arrange(c)
		var told []string
		if err := c.client().Delete(t.Context(), deployment(), false, func(step, text string) { told = append(told, step+": "+text) }); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !strings.Contains(strings.Join(told, "\n"), "purge: the name granitefalls stays taken by the deleted key vault (AuthorizationFailed") {
			t.Errorf("%s: %q", name, told)
		}
	}
}

// A deployment that still runs is cancelled first.
func TestDeleteCancels(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	deletable(c)
	c.arm("GET", group(record), ok(state("Running", nil)), ok(state("Running", nil)), ok(state("Canceled", nil)))
	c.arm("GET", group(record+"/operations"), ok(m{"value": []any{}}))
	c.arm("POST", group(record+"/cancel"), reply{status: 204})
	if err := c.client().Delete(t.Context(), deployment(), true, nil); err != nil {
		t.Fatal(err)
	}
	if n := len(c.sent("POST", "/cancel")); n != 1 {
		t.Errorf("%d cancellations", n)
	}
}

func TestDeleteRefused(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	c.signIn = expired
	if ce := cloudErr(t, c.client().Delete(t.Context(), deployment(), true, nil)); ce.Code != "AADSTS7000222" {
		t.Errorf("%+v", ce)
	}
}
