package labcloud_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencmg/opencmg/labcloud"
)

// TestPages reads the lists of subscriptions and groups page by page.
func TestPages(t *testing.T) {
	const second = "cccccccc-0000-0000-0000-00000000000b"
	const limited = "dddddddd-0000-0000-0000-000000000009"
	c := newCloud(t, func(cfg *labcloud.Config) {
		cfg.PageSize = 1
		cfg.Subscriptions[0].Owners = []string{adminApp}
		cfg.Subscriptions = append(cfg.Subscriptions, labcloud.Subscription{ID: second, Tenant: tenant, Name: "Second"}, labcloud.Subscription{ID: "cccccccc-0000-0000-0000-00000000000c", Tenant: other})
		cfg.Apps = append(cfg.Apps, labcloud.App{Tenant: tenant, ID: limited, Secret: "limited"})
	})
	c.makeGroup()
	c.arm("PUT", "/resourcegroups/hidden", "2021-04-01", j{"location": region}).want(t, 201, "")
	c.arm("PUT", "/resourcegroups/"+group+"/providers/Microsoft.Authorization/roleAssignments/"+scopeID, "2022-04-01",
		j{"properties": j{"roleDefinitionId": "/subscriptions/" + subscription + "/providers/Microsoft.Authorization/roleDefinitions/acdd72a7-3385-48ef-bd42-f606fba81ae7", "principalId": labcloud.PrincipalID(tenant, limited), "principalType": "ServicePrincipal"}}).want(t, 201, "")
	arm := "https://" + c.hosts.ARM
	all := func(token, u, key string) (found []string) {
		for u != "" {
			a := c.do("GET", u, token, nil).want(t, 200, "")
			if n := len(a.body["value"].([]any)); n > 1 {
				t.Errorf("%d entries in a page", n)
			}
			found = append(found, names(a.body["value"], key)...)
			u, _ = a.body["nextLink"].(string)
		}
		return found
	}
	token := c.token(c.hosts.ARMAudiences[0] + "//.default")
	if d := cmp.Diff([]string{subscription, second}, all(token, arm+"/subscriptions?api-version=2022-12-01", "subscriptionId")); d != "" {
		t.Error(d)
	}
	groups := arm + "/subscriptions/" + subscription + "/resourcegroups?api-version=2021-04-01"
	if got := all(token, groups, "name"); len(got) != 2 {
		t.Errorf("groups %v", got)
	}
	c.do("GET", groups+"&$skiptoken=x", token, nil).want(t, 400, "InvalidSkipToken")
	// Who has a role in one group sees that one.
	mine := c.signIn(limited, "limited", c.hosts.ARMAudiences[0]+"//.default").body["access_token"].(string)
	if d := cmp.Diff([]string{group}, all(mine, groups, "name")); d != "" {
		t.Error(d)
	}
	c.do("GET", arm+"/subscriptions/"+subscription+"/locations?api-version=2022-12-01", mine, nil).want(t, 403, "AuthorizationFailed")
}
