package azure_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/azure"
)

func TestSubscriptionsAndGroups(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	next := func(path, version string) string {
		return c.env.ResourceManager + path + "?api-version=" + version + "&$skiptoken=2"
	}
	c.arm("GET", "/subscriptions",
		ok(m{"value": []any{m{"subscriptionId": "s2", "displayName": "the second", "state": "Disabled", "tenantId": tenantID}}, "nextLink": next("/subscriptions", "2022-12-01")}),
		ok(m{"value": []any{m{"subscriptionId": subID, "displayName": "Contoso", "state": "Enabled", "tenantId": tenantID}}}))
	subs, err := c.client().Subscriptions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]azure.Subscription{{ID: subID, Name: "Contoso", State: "Enabled", TenantID: tenantID}, {ID: "s2", Name: "the second", State: "Disabled", TenantID: tenantID}}, subs); d != "" {
		t.Error(d)
	}
	gone := m{"name": "gone", "location": "eastus", "properties": m{"provisioningState": "Deleting"}}
	c.arm("GET", sub("/resourcegroups"),
		ok(m{"value": []any{m{"name": "rg-b", "location": "westeurope"}, gone}, "nextLink": next(sub("/resourcegroups"), "2021-04-01")}),
		ok(m{"value": []any{m{"name": "RG-A", "location": "East US"}}}))
	groups, err := c.client().ResourceGroups(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]azure.ResourceGroup{{Name: "RG-A", Region: "eastus"}, {Name: "rg-b", Region: "westeurope"}}, groups); d != "" {
		t.Error(d)
	}
	c.arm("GET", sub("/resourcegroups"), azError(403, "AuthorizationFailed", "no right"))
	_, err = c.client().ResourceGroups(t.Context())
	if ce := cloudErr(t, err); ce.Code != "AuthorizationFailed" {
		t.Errorf("%+v", ce)
	}
}

// TestListsEnd reads lists that never end: full pages up to the number of
// entries, and empty ones up to that of pages.
func TestListsEnd(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	n, full := 0, 300
	c.on("GET", c.env.ResourceManager+"/subscriptions", func(request) reply {
		page := []any{}
		for range full {
			n++
			page = append(page, m{"subscriptionId": fmt.Sprintf("s%06d", n), "displayName": "same"})
		}
		return ok(m{"value": page, "nextLink": c.env.ResourceManager + "/subscriptions?api-version=2022-12-01&$skiptoken=x"})
	})
	subs, err := c.client().Subscriptions(t.Context())
	if err != nil || len(subs) != azure.MaxListed {
		t.Errorf("%d subscriptions, %v", len(subs), err)
	}
	full = 0
	before := len(c.sent("GET", "/subscriptions"))
	if subs, err = c.client().Subscriptions(t.Context()); err != nil || len(subs) != 0 {
		t.Errorf("%d subscriptions, %v", len(subs), err)
	}
	if pages := len(c.sent("GET", "/subscriptions")) - before; pages != 200 {
		t.Errorf("%d pages", pages)
	}
}
