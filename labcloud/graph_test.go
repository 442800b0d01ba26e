package labcloud_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencmg/opencmg/labcloud"
)

const (
	scopeID       = "12345678-0000-0000-0000-000000000001"
	directoryRead = "7ab1d382-f21e-4acd-a863-ba3e13f7da61"
	graphApp      = "00000003-0000-0000-c000-000000000000"
)

func serverApp(name, uri string) j {
	return j{"displayName": name, "signInAudience": "AzureADMyOrg", "identifierUris": l{uri}, "isDeviceOnlyAuthSupported": true,
		"web":                    j{"homePageUrl": "https://cmg.contoso.example", "redirectUris": l{"http://localhost"}, "implicitGrantSettings": j{"enableIdTokenIssuance": true}},
		"api":                    j{"oauth2PermissionScopes": l{j{"id": scopeID, "value": "user_impersonation", "type": "User", "isEnabled": true, "adminConsentDisplayName": "Access", "adminConsentDescription": "Access"}}},
		"requiredResourceAccess": l{j{"resourceAppId": graphApp, "resourceAccess": l{j{"id": directoryRead, "type": "Role"}}}}}
}

func TestApplications(t *testing.T) {
	c := newCloud(t, nil)
	org := c.graph("GET", "/organization?$select=id,displayName,verifiedDomains", nil).want(t, 200, "")
	if got := field(org.body, "value", 0, "verifiedDomains", 0, "name"); got != "contoso.example" {
		t.Errorf("domain %v", got)
	}
	uri := "api://" + tenant + "/opencmg"
	app := c.graph("POST", "/applications", serverApp("It's ours", uri)).want(t, 201, "")
	id, appID := app.body["id"].(string), app.body["appId"].(string)
	found := c.graph("GET", "/applications?$filter=displayName%20eq%20'It''s%20ours'", nil).want(t, 200, "")
	if diff := cmp.Diff([]string{id}, names(found.body["value"], "id")); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
	if a := c.graph("GET", "/applications?$filter=appId%20eq%20'"+appID+"'", nil); len(names(a.body["value"], "id")) != 1 {
		t.Errorf("by appId: %s", a.raw)
	}
	c.graph("GET", "/applications?$filter=startswith(displayName,'x')", nil).want(t, 400, "Request_BadRequest")

	secret := c.graph("POST", "/applications/"+id+"/addPassword", j{"passwordCredential": j{"displayName": "one", "endDateTime": time.Now().AddDate(1, 0, 0).UTC().Format(time.RFC3339)}}).want(t, 200, "")
	value, _ := secret.body["secretText"].(string)
	if a := c.graph("GET", "/applications/"+id, nil).want(t, 200, ""); contains(a.body, value) || field(a.body, "passwordCredentials", 0, "keyId") != secret.body["keyId"] {
		t.Errorf("credentials: %s", a.raw)
	}
	c.signIn(appID, value, c.hosts.VaultAudience+"/.default").aadsts(t, 400, 7000229) // no principal yet
	sp := c.graph("POST", "/servicePrincipals", j{"appId": appID}).want(t, 201, "")
	spID := sp.body["id"].(string)
	if spID == id || spID == appID || id == appID {
		t.Error("two of the three IDs are the same")
	}
	c.graph("GET", "/applications/"+appID, nil).want(t, 404, "Request_ResourceNotFound")
	c.graph("GET", "/servicePrincipals/"+id, nil).want(t, 404, "Request_ResourceNotFound")
	c.graph("POST", "/servicePrincipals", j{"appId": appID}).want(t, 409, "Request_MultipleObjectsWithSameKeyValue")
	a := c.signIn(appID, value, c.hosts.VaultAudience+"/.default").want(t, 200, "")
	if oid := claims(t, a.body["access_token"].(string))["oid"]; oid != spID {
		t.Errorf("oid %v, want the principal %s", oid, spID)
	}

	native := c.graph("POST", "/applications", j{"displayName": "Client", "signInAudience": "AzureADMyOrg", "isFallbackPublicClient": true, "web": j{"implicitGrantSettings": j{"enableIdTokenIssuance": true}},
		"requiredResourceAccess": l{j{"resourceAppId": appID, "resourceAccess": l{j{"id": scopeID, "type": "Scope"}}}}}).want(t, 201, "")
	nativeID, nativeApp := native.body["id"].(string), native.body["appId"].(string)
	c.graph("PATCH", "/applications/"+nativeID, j{"publicClient": j{"redirectUris": l{"ms-appx-web://Microsoft.AAD.BrokerPlugin/" + nativeApp}}}).want(t, 204, "")
	if got := c.graph("GET", "/applications/"+nativeID, nil); !contains(got.body, "BrokerPlugin") || !contains(got.body, "enableIdTokenIssuance") {
		t.Errorf("after PATCH: %s", got.raw)
	}
	nativeSP := c.graph("POST", "/servicePrincipals", j{"appId": nativeApp}).want(t, 201, "").body["id"].(string)
	grant := j{"clientId": nativeSP, "resourceId": spID, "consentType": "AllPrincipals", "scope": "user_impersonation"}
	c.graph("POST", "/oauth2PermissionGrants", j{"clientId": nativeApp, "resourceId": spID, "consentType": "AllPrincipals", "scope": "user_impersonation"}).want(t, 404, "Request_ResourceNotFound")
	c.graph("POST", "/oauth2PermissionGrants", j{"clientId": nativeSP, "resourceId": spID, "consentType": "AllPrincipals", "scope": "other"}).want(t, 400, "Request_BadRequest")
	c.graph("POST", "/oauth2PermissionGrants", grant).want(t, 201, "")
	c.graph("POST", "/oauth2PermissionGrants", grant).want(t, 409, "")
	graphSP := c.graph("GET", "/servicePrincipals(appId='"+graphApp+"')", nil).want(t, 200, "").body["id"].(string)
	role := j{"principalId": spID, "resourceId": graphSP, "appRoleId": directoryRead}
	c.graph("POST", "/servicePrincipals/"+spID+"/appRoleAssignments", role).want(t, 201, "")
	c.graph("POST", "/servicePrincipals/"+spID+"/appRoleAssignments", role).want(t, 400, "Request_BadRequest")
	a = c.signIn(appID, value, "https://"+c.hosts.Graph+"/.default").want(t, 200, "")
	if roles := claims(t, a.body["access_token"].(string))["roles"]; !contains(roles, "Directory.Read.All") {
		t.Errorf("roles %v", roles)
	}
	// Directory.Read.All does not let it write.
	c.do("POST", "https://"+c.hosts.Graph+"/v1.0/applications", a.body["access_token"].(string), j{"displayName": "x"}).want(t, 403, "Authorization_RequestDenied")

	c.graph("POST", "/applications/"+id+"/removePassword", j{"keyId": secret.body["keyId"]}).want(t, 204, "")
	c.signIn(appID, value, c.hosts.VaultAudience+"/.default").aadsts(t, 401, 7000215)
	c.graph("POST", "/applications/"+id+"/removePassword", j{"keyId": secret.body["keyId"]}).want(t, 400, "Request_BadRequest")
	c.graph("DELETE", "/applications/"+id, nil).want(t, 204, "")
	c.graph("GET", "/servicePrincipals/"+spID, nil).want(t, 404, "")
	c.signIn(appID, value, c.hosts.VaultAudience+"/.default").aadsts(t, 400, 700016)
	// Its URI stays taken until it is purged.
	c.graph("POST", "/applications", serverApp("again", uri)).want(t, 400, "Request_BadRequest")
	c.graph("DELETE", "/directory/deletedItems/"+id, nil).want(t, 204, "")
	c.graph("POST", "/applications", serverApp("again", uri)).want(t, 201, "")
}

func TestGraphStrictness(t *testing.T) {
	c := newCloud(t, nil)
	for name, body := range map[string]any{
		"manifest name":     j{"displayName": "wrong", "oauth2AllowIdTokenImplicitFlow": true},
		"misplaced":         j{"displayName": "wrong", "homePageUrl": "https://x.example"},
		"no name":           j{"tags": l{"wrong"}},
		"set appId":         j{"displayName": "wrong", "appId": scopeID},
		"scope not a GUID":  j{"displayName": "wrong", "api": j{"oauth2PermissionScopes": l{j{"id": "x", "adminConsentDisplayName": "a", "adminConsentDescription": "b"}}}},
		"wrong access type": j{"displayName": "wrong", "requiredResourceAccess": l{j{"resourceAppId": graphApp, "resourceAccess": l{j{"id": directoryRead, "type": "Roles"}}}}},
		"text for a flag":   j{"displayName": "wrong", "isFallbackPublicClient": "true"},
		"foreign URI":       j{"displayName": "wrong", "identifierUris": l{"https://ConfigMgrService"}},
		"not JSON":          `{"displayName": "wrong"`,
	} {
		if a := c.graph("POST", "/applications", body); a.status != 400 || a.code() == "" {
			t.Errorf("%s: %d %s", name, a.status, a.raw)
		}
	}
	app := c.graph("POST", "/applications", j{"displayName": "x"}).want(t, 201, "").body["id"].(string)
	c.graph("POST", "/applications/"+app+"/addPassword", j{"displayName": "wrong"}).want(t, 400, "")
	c.graph("POST", "/applications/"+app+"/addPassword", j{"passwordCredential": j{"displayName": "wrong", "endDateTime": "2031-01-01"}}).want(t, 400, "")
	c.graph("POST", "/servicePrincipals", j{"appId": scopeID}).want(t, 400, "Request_BadRequest")
	c.graph("GET", "/nonsense", nil).want(t, 400, "")
	c.graph("PUT", "/applications", j{"displayName": "wrong"}).want(t, 405, "")
	c.do("GET", "https://"+c.hosts.Graph+"/beta/organization", c.token("https://"+c.hosts.Graph+"/.default"), nil).want(t, 400, "")
}

func TestSlowReplication(t *testing.T) {
	c := newCloud(t, nil)
	c.fault(labcloud.Fault{Kind: "slowReplication", Limit: 2})
	app := c.graph("POST", "/applications", j{"displayName": "x"}).want(t, 201, "")
	appID := app.body["appId"].(string)
	for range 2 {
		c.graph("POST", "/servicePrincipals", j{"appId": appID}).want(t, 400, "Request_BadRequest")
	}
	sp := c.graph("POST", "/servicePrincipals", j{"appId": appID}).want(t, 201, "").body["id"].(string)
	for range 2 {
		c.graph("GET", "/servicePrincipals/"+sp, nil).want(t, 404, "Request_ResourceNotFound")
	}
	c.graph("GET", "/servicePrincipals/"+sp, nil).want(t, 200, "")
	secret := c.graph("POST", "/applications/"+app.body["id"].(string)+"/addPassword", j{"passwordCredential": j{}}).want(t, 200, "").body["secretText"].(string)
	for range 2 {
		c.signIn(appID, secret, c.hosts.VaultAudience+"/.default").aadsts(t, 401, 7000215)
	}
	c.signIn(appID, secret, c.hosts.VaultAudience+"/.default").want(t, 200, "")
}

// follow reads a delta query to its end.
func (c *cloud) follow(u string) (entries []any, delta string) {
	c.t.Helper()
	token := c.token("https://" + c.hosts.Graph + "/.default")
	for range 100 {
		a := c.do("GET", u, token, nil).want(c.t, 200, "")
		entries = append(entries, a.body["value"].([]any)...)
		if d, _ := a.body["@odata.deltaLink"].(string); d != "" {
			return entries, d
		}
		u = a.body["@odata.nextLink"].(string)
	}
	c.t.Fatal("the delta query does not end")
	return nil, ""
}

func TestDelta(t *testing.T) {
	guid := func(n string) string { return "aaaaaaaa-1111-0000-0000-00000000000" + n }
	user := func(n string) labcloud.User {
		return labcloud.User{Tenant: tenant, ID: guid(n), UPN: n + "@contoso.example", DisplayName: "User " + n, OnPremSID: "S-1-5-" + n}
	}
	c := newCloud(t, func(cfg *labcloud.Config) {
		for _, n := range []string{"1", "2", "3", "4", "5"} {
			cfg.Users = append(cfg.Users, user(n))
		}
		cfg.Groups = []labcloud.Group{{Tenant: tenant, ID: guid("9"), DisplayName: "All", Members: []string{guid("1"), guid("2"), guid("3"), guid("4")}}}
	})
	base := "https://" + c.hosts.Graph + "/v1.0"
	all, delta := c.follow(base + "/users/delta?$select=id,displayName,userPrincipalName")
	if len(all) != 6 || field(all, 0, "displayName") == nil || field(all, 0, "onPremisesSecurityIdentifier") != nil {
		t.Errorf("first reading: %v", all)
	}
	if none, _ := c.follow(delta); len(none) != 0 {
		t.Errorf("nothing changed, got %v", none)
	}
	gone, changed := user("2"), user("3")
	gone.Removed, changed.DisplayName = "deleted", "Renamed"
	c.admin("POST", "/lab/user", gone).want(t, 200, "")
	c.admin("POST", "/lab/user", changed).want(t, 200, "")
	next, _ := c.follow(delta)
	if len(next) != 2 || !contains(next, "Renamed") || !contains(next, `"reason":"deleted"`) {
		t.Errorf("changes: %v", next)
	}

	groups, gdelta := c.follow(base + "/groups/delta?$select=id,displayName,members")
	var members []string
	for _, e := range groups {
		members = append(members, names(field(e, "members@delta"), "id")...)
	}
	slices.Sort(members)
	if diff := cmp.Diff([]string{guid("1"), guid("2"), guid("3"), guid("4")}, members); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	c.admin("POST", "/lab/group", labcloud.Group{Tenant: tenant, ID: guid("9"), DisplayName: "All", Members: []string{guid("1"), guid("5")}}).want(t, 200, "")
	if ch, _ := c.follow(gdelta); len(ch) != 4 || strings.Count(string(mustJSON(t, ch)), `"reason":"deleted"`) != 3 {
		t.Errorf("group changes: %s", mustJSON(t, ch))
	}
	token := c.token("https://" + c.hosts.Graph + "/.default")
	c.fault(labcloud.Fault{Kind: "deltaGone", Times: 1})
	c.do("GET", delta, token, nil).want(t, 410, "syncStateNotFound")
	c.do("GET", delta, token, nil).want(t, 200, "")
	c.admin("POST", "/lab/expire", nil).want(t, 200, "")
	c.do("GET", delta, token, nil).want(t, 410, "syncStateNotFound")
	c.do("GET", base+"/users/delta?$deltatoken=nonsense", token, nil).want(t, 400, "")
	c.fault(labcloud.Fault{Kind: "status", Path: "/users/delta", Status: 429, Code: "TooManyRequests", RetryAfter: 7, Times: 1})
	if a := c.do("GET", base+"/users/delta", token, nil).want(t, 429, "TooManyRequests"); a.header.Get("Retry-After") != "7" {
		t.Errorf("Retry-After %q", a.header.Get("Retry-After"))
	}
}
