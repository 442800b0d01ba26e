package azure_test

import (
	"bytes"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/azure"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

const (
	owner     = "0a0a0a0a-1b1b-4c2c-8d3d-4e4e4e4e4e4e"
	appObject = "10000000-0000-4000-8000-000000000001"
	appID     = "10000000-0000-4000-8000-000000000002"
	appSP     = "10000000-0000-4000-8000-000000000003"
	graphSP   = "10000000-0000-4000-8000-000000000004"
	keyID     = "10000000-0000-4000-8000-000000000005"
	scopeID   = "10000000-0000-4000-8000-000000000006"
	nativeID  = "20000000-0000-4000-8000-000000000002"
	nativeObj = "20000000-0000-4000-8000-000000000001"
	nativeSP  = "20000000-0000-4000-8000-000000000003"
	graphApp  = "00000003-0000-0000-c000-000000000000"
)

func serverRequest() azure.ServerAppRequest {
	return azure.ServerAppRequest{Owner: owner, Name: "CMG's Server", AppIDURI: "api://" + tenantID + "/cmg", Term: azure.TwoYears, ReadDirectory: true, WebRedirects: []string{"https://site.example/back"}}
}

func list(values ...any) reply { return ok(m{"value": append([]any{}, values...)}) }

// graphable prepares a directory in which apps can be made.
func graphable(c *cloud) {
	c.graph("GET", "/organization", list(m{"id": tenantID, "displayName": "Contoso", "verifiedDomains": []any{
		m{"name": "contoso.onmicrosoft.com", "isInitial": true}, m{"name": "contoso.com", "isDefault": true}}}))
	c.graph("GET", "/applications", list())
	c.graph("POST", "/applications", reply{status: 201, body: m{"id": appObject, "appId": appID}})
	principals := map[string]string{graphApp: graphSP}
	c.on("GET", c.env.Graph+"/v1.0/servicePrincipals", func(r request) reply {
		for app, sp := range principals {
			if r.Query.Get("$filter") == "appId eq '"+app+"'" {
				return list(m{"id": sp, "appId": app})
			}
		}
		return list()
	})
	tries := 0
	c.on("POST", c.env.Graph+"/v1.0/servicePrincipals", func(r request) reply {
		// The directory needs a while to know the app.
		if tries++; tries < 3 {
			return reply{status: 400, body: m{"error": m{"code": "NoBackingApplicationObject", "message": "The appId does not reference a valid application object."}}}
		}
		app := r.json(c.t)["appId"].(string)
		principals[app] = map[string]string{appID: appSP, nativeID: nativeSP}[app]
		return reply{status: 201, body: m{"id": principals[app], "appId": app}}
	})
	c.graph("POST", "/applications/"+appObject+"/addPassword", notFound(), ok(m{"keyId": keyID, "endDateTime": "2028-01-01T00:00:00Z", "secretText": planted}))
	c.graph("POST", "/applications/"+appObject+"/removePassword", reply{status: 204})
	c.graph("GET", "/servicePrincipals/"+appSP+"/appRoleAssignments", list())
	c.graph("POST", "/servicePrincipals/"+appSP+"/appRoleAssignments", reply{status: 201, body: m{}})
}

func TestTenant(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	graphable(c)
	got, err := c.client().Tenant(t.Context())
	if d := cmp.Diff(azure.TenantInfo{ID: tenantID, Name: "Contoso", Domain: "contoso.com", Domains: []string{"contoso.onmicrosoft.com", "contoso.com"}}, got); err != nil || d != "" {
		t.Error(d, err)
	}
	c.graph("GET", "/organization", list(m{"id": "other"}))
	_, err = c.client().Tenant(t.Context())
	cloudErr(t, err)
}

func TestCreateServerApp(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	now := time.Date(2026, 2, 3, 4, 5, 6, 7, time.UTC)
	c.now = func() time.Time { return now }
	graphable(c)
	app, err := c.client().CreateServerApp(t.Context(), serverRequest(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if app.ObjectID != appObject || app.AppID != appID || app.PrincipalID != appSP || app.Secret.KeyID != keyID || string(app.Secret.Value) != planted || app.Consent == nil || app.Consent.State != opencmg.CheckPass {
		t.Errorf("%+v", app)
	}
	body := c.sent("POST", "/v1.0/applications")[0].json(t)
	scopes := at(body, "api", "oauth2PermissionScopes").([]any)
	if app.ScopeID == "" || at(scopes[0], "id") != app.ScopeID {
		t.Errorf("scope %q, sent %v", app.ScopeID, scopes)
	}
	delete(body, "api")
	want := m{
		"displayName": "CMG's Server", "signInAudience": "AzureADMyOrg", "notes": "OpenCMG " + owner,
		"identifierUris":            []any{"api://" + tenantID + "/cmg"},
		"web":                       m{"homePageUrl": "http://localhost", "redirectUris": []any{"http://localhost", "https://site.example/back"}, "implicitGrantSettings": m{"enableIdTokenIssuance": true}},
		"isDeviceOnlyAuthSupported": true,
		"requiredResourceAccess":    []any{m{"resourceAppId": graphApp, "resourceAccess": []any{m{"id": "7ab1d382-f21e-4acd-a863-ba3e13f7da61", "type": "Role"}}}},
	}
	if d := cmp.Diff(want, body); d != "" {
		t.Error(d)
	}
	if got := c.sent("GET", "/v1.0/applications")[0].Query.Get("$filter"); got != "displayName eq 'CMG''s Server'" {
		t.Errorf("filter %s", got)
	}
	if got := at(c.sent("POST", "/addPassword")[0].json(t), "passwordCredential", "endDateTime"); got != "2028-02-03T04:05:06Z" {
		t.Errorf("end %v", got)
	}
	if d := cmp.Diff(m{"principalId": appSP, "resourceId": graphSP, "appRoleId": "7ab1d382-f21e-4acd-a863-ba3e13f7da61"}, c.sent("POST", "/appRoleAssignments")[0].json(t)); d != "" {
		t.Error(d)
	}
	if strings.Contains(c.logs.String(), planted) {
		t.Error("the secret is in the log")
	}
	graphBodies(t, c)
}

// A run that was cut off after any step is finished, and the secret whose
// value was lost is removed.
func TestCreateServerAppResumes(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	graphable(c)
	c.graph("GET", "/applications", list(m{"id": appObject, "appId": appID, "displayName": "CMG's Server", "notes": "OpenCMG " + owner, "identifierUris": []any{"api://" + tenantID + "/cmg"},
		"api":                 m{"oauth2PermissionScopes": []any{m{"id": scopeID, "value": "user_impersonation", "isEnabled": true}}},
		"passwordCredentials": []any{m{"keyId": "30000000-0000-4000-8000-000000000001", "endDateTime": "2027-01-01T00:00:00Z"}}}))
	app, err := c.client().CreateServerApp(t.Context(), serverRequest(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if app.ScopeID != scopeID || app.AppID != appID || len(c.sent("POST", "/v1.0/applications")) != 0 {
		t.Errorf("%+v", app)
	}
	removed := c.sent("POST", "/removePassword")
	if len(removed) != 1 || removed[0].json(t)["keyId"] != "30000000-0000-4000-8000-000000000001" {
		t.Errorf("removed %v", removed)
	}
	// Somebody else's app of that name is not touched.
	c.graph("GET", "/applications", list(m{"id": appObject, "appId": appID, "displayName": "CMG's Server"}))
	before := len(c.sent("POST", ""))
	_, err = c.client().CreateServerApp(t.Context(), serverRequest(), nil)
	if !errors.Is(err, opencmg.Conflict) || !strings.Contains(err.Error(), "import") || len(c.sent("POST", "")) != before {
		t.Error(err)
	}
}

func TestCreateServerAppRefused(t *testing.T) {
	for code, tc := range map[string]struct {
		status int
		next   string
	}{
		"Authorization_RequestDenied":              {403, "Application Administrator"},
		"Request_MultipleObjectsWithSameKeyValue":  {400, "choose another"},
		"HostNameNotOnVerifiedDomain":              {400, "correct the cause"},
		"CannotDeleteOrUpdateEnabledEntitlement_X": {400, "correct the cause"},
	} {
		c := newCloud(t, opencmg.AzureLab)
		graphable(c)
		c.graph("POST", "/applications", azError(tc.status, code, "Graph's own text."))
		_, err := c.client().CreateServerApp(t.Context(), serverRequest(), nil)
		if ce := cloudErr(t, err); ce.Code != code || ce.Message != "Graph's own text." || !strings.Contains(ce.NextStep, tc.next) {
			t.Errorf("%+v", ce)
		}
		if n := len(c.sent("POST", "/v1.0/applications")); n != 1 {
			t.Errorf("%d tries", n)
		}
	}
	// A server error after the app may have been made is not repeated blindly.
	c := newCloud(t, opencmg.AzureLab)
	graphable(c)
	c.graph("POST", "/applications", reply{status: 502})
	_, err := c.client().CreateServerApp(t.Context(), serverRequest(), nil)
	if ce := cloudErr(t, err); !ce.Retryable || len(c.sent("POST", "/v1.0/applications")) != 1 {
		t.Errorf("%+v", ce)
	}
	for name, change := range map[string]func(*azure.ServerAppRequest){
		"uri":   func(r *azure.ServerAppRequest) { r.AppIDURI = "ConfigMgrService" },
		"term":  func(r *azure.ServerAppRequest) { r.Term = 3 },
		"owner": func(r *azure.ServerAppRequest) { r.Owner = "" },
	} {
		r := serverRequest()
		change(&r)
		if _, err := c.client().CreateServerApp(t.Context(), r, nil); !errors.Is(err, opencmg.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Without the right to consent the app is made all the same.
func TestConsentRefused(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	graphable(c)
	c.graph("POST", "/servicePrincipals/"+appSP+"/appRoleAssignments", azError(403, "Authorization_RequestDenied", "Insufficient privileges."))
	app, err := c.client().CreateServerApp(t.Context(), serverRequest(), nil)
	if err != nil || app.Consent.State != opencmg.CheckTodo || !strings.Contains(app.Consent.Evidence, "Insufficient") || !strings.Contains(app.Consent.NextStep, "Grant admin consent") {
		t.Errorf("%+v, %v", app.Consent, err)
	}
}

func TestCreateClientApp(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	graphable(c)
	c.graph("POST", "/servicePrincipals", reply{status: 201, body: m{"id": nativeSP, "appId": nativeID}})
	c.on("GET", c.env.Graph+"/v1.0/servicePrincipals", func(r request) reply {
		if strings.Contains(r.Query.Get("$filter"), appID) {
			return list(m{"id": appSP, "appId": appID})
		}
		return list()
	})
	c.graph("POST", "/applications", reply{status: 201, body: m{"id": nativeObj, "appId": nativeID}})
	c.graph("PATCH", "/applications/"+nativeObj, notFound(), reply{status: 204})
	c.graph("GET", "/oauth2PermissionGrants", list())
	c.graph("POST", "/oauth2PermissionGrants", reply{status: 201, body: m{}})
	r := azure.ClientAppRequest{Owner: owner, Name: "CMG Client", ServerAppID: appID, ScopeID: scopeID}
	app, err := c.client().CreateClientApp(t.Context(), r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if app.ObjectID != nativeObj || app.AppID != nativeID || app.PrincipalID != nativeSP || app.Consent.State != opencmg.CheckPass {
		t.Errorf("%+v", app)
	}
	patches := c.sent("PATCH", nativeObj)
	if d := cmp.Diff(m{"publicClient": m{"redirectUris": []any{"ms-appx-web://Microsoft.AAD.BrokerPlugin/" + nativeID}}}, patches[len(patches)-1].json(t)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(m{"clientId": nativeSP, "resourceId": appSP, "consentType": "AllPrincipals", "scope": "user_impersonation"}, c.sent("POST", "/oauth2PermissionGrants")[0].json(t)); d != "" {
		t.Error(d)
	}
	body := c.sent("POST", "/v1.0/applications")[0].json(t)
	if body["isFallbackPublicClient"] != true || len(body["requiredResourceAccess"].([]any)) != 2 {
		t.Errorf("%v", body)
	}
	graphBodies(t, c)
	// Again: everything is found.
	c.graph("GET", "/applications", list(m{"id": nativeObj, "appId": nativeID, "notes": "OpenCMG " + owner, "publicClient": m{"redirectUris": []any{"ms-appx-web://Microsoft.AAD.BrokerPlugin/" + nativeID}}}))
	c.graph("GET", "/oauth2PermissionGrants", list(m{"id": "g", "clientId": nativeSP, "resourceId": appSP, "consentType": "AllPrincipals", "scope": "openid user_impersonation"}))
	c.graph("GET", "/servicePrincipals", list(m{"id": appSP, "appId": appID}))
	posts, patched := len(c.sent("POST", "")), len(c.sent("PATCH", ""))
	again, err := c.client().CreateClientApp(t.Context(), r, nil)
	if err != nil || again.AppID != nativeID || len(c.sent("POST", "")) != posts || len(c.sent("PATCH", "")) != patched {
		t.Errorf("%+v, %v", again, err)
	}
}

// graphBodies holds every body that was sent against the published schema.
func graphBodies(t *testing.T, c *cloud) {
	t.Helper()
	path := filepath.Join(schemaDir, "graph", "graph-v1.0.schema.json")
	if _, err := os.Stat(path); err != nil {
		t.Log("the schemas are not here")
		return
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("graph.json", readJSON(t, path)); err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, k := range []struct{ method, end, name string }{
		{"POST", "/applications", "createApplication"}, {"PATCH", "", "updateApplication"}, {"POST", "/servicePrincipals", "createServicePrincipal"},
		{"POST", "/addPassword", "addPassword"}, {"POST", "/removePassword", "removePassword"},
		{"POST", "/oauth2PermissionGrants", "createOAuth2PermissionGrant"}, {"POST", "/appRoleAssignments", "createAppRoleAssignment"},
	} {
		schema, err := compiler.Compile("graph.json#/definitions/request." + k.name)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range c.sent(k.method, k.end) {
			v, err := jsonschema.UnmarshalJSON(bytes.NewReader(r.Body))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(v); err != nil {
				t.Errorf("%s: %v", k.name, err)
			}
			checked++
		}
	}
	if checked == 0 {
		t.Error("no body was checked")
	}
}

func TestRenewSecret(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	graphable(c)
	c.graph("GET", "/applications", list(m{"id": appObject, "appId": appID}))
	tries := 0
	c.signIn = func(f url.Values) reply {
		if f["client_secret"][0] == planted {
			if tries++; tries < 3 {
				return reply{status: 401, body: m{"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret provided."}}
			}
		}
		return reply{}
	}
	made, err := c.client().RenewSecret(t.Context(), appID, azure.OneYear)
	if err != nil || string(made.Value) != planted || tries != 3 || len(c.sent("POST", "/removePassword")) != 0 {
		t.Errorf("%+v, %v after %d tries", made, err, tries)
	}
	if err := c.client().RemoveSecret(t.Context(), appObject, keyID); err != nil {
		t.Error(err)
	}
	// One that never works does not stay.
	c.signIn = func(f url.Values) reply {
		if f["client_secret"][0] == planted {
			return reply{status: 401, body: m{"error": "invalid_client", "error_description": "AADSTS7000112: Application is disabled."}}
		}
		return reply{}
	}
	_, err = c.client().RenewSecret(t.Context(), appID, azure.OneYear)
	if ce := cloudErr(t, err); ce.Code != "AADSTS7000112" || len(c.sent("POST", "/removePassword")) != 2 || strings.Contains(err.Error(), planted) {
		t.Errorf("%+v", ce)
	}
	graphBodies(t, c)
}

func TestRemoveSecretThatIsGone(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	c.graph("POST", "/applications/"+appObject+"/removePassword", azError(400, "Request_BadRequest", "No password credential found with keyId."))
	c.graph("GET", "/applications/"+appObject, ok(m{"id": appObject, "passwordCredentials": []any{}}))
	if err := c.client().RemoveSecret(t.Context(), appObject, keyID); err != nil {
		t.Error(err)
	}
	c.graph("GET", "/applications/"+appObject, ok(m{"id": appObject, "passwordCredentials": []any{m{"keyId": keyID}}}))
	cloudErr(t, c.client().RemoveSecret(t.Context(), appObject, keyID))
}

func TestVerifyServerApp(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	end := time.Date(2027, 5, 6, 0, 0, 0, 0, time.UTC)
	server := m{"id": appObject, "appId": clientID, "identifierUris": []any{"api://x/y"},
		"api":                 m{"oauth2PermissionScopes": []any{m{"id": scopeID, "value": "user_impersonation", "isEnabled": true}}},
		"passwordCredentials": []any{m{"keyId": keyID, "endDateTime": "2027-05-06T10:00:00Z"}}}
	native := m{"id": nativeObj, "appId": nativeID, "isFallbackPublicClient": true, "publicClient": m{"redirectUris": []any{"ms-appx-web://microsoft.aad.brokerplugin/" + nativeID}}}
	c.on("GET", c.env.Graph+"/v1.0/applications", func(r request) reply {
		if strings.Contains(r.Query.Get("$filter"), nativeID) {
			return list(native)
		}
		return list(server)
	})
	verify := func(r azure.VerifyRequest) map[string]opencmg.CheckState {
		t.Helper()
		checks, err := c.client().VerifyServerApp(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		states := map[string]opencmg.CheckState{}
		for _, k := range checks {
			states[k.ID] = k.State
		}
		return states
	}
	good := azure.VerifyRequest{ServerAppID: clientID, AppIDURI: "api://x/y", ClientAppID: nativeID, SecretExpires: end}
	pass, fail, todo := opencmg.CheckPass, opencmg.CheckFail, opencmg.CheckTodo
	want := map[string]opencmg.CheckState{"token-graph": pass, "token-arm": pass, "client-app": pass, "app-id-uri": pass, "scope": pass, "secret-end": pass, "client-registration": pass}
	if d := cmp.Diff(want, verify(good)); d != "" {
		t.Error(d)
	}
	server["api"], native["publicClient"] = m{}, m{}
	want = map[string]opencmg.CheckState{"token-graph": fail, "token-arm": fail, "client-app": pass, "app-id-uri": fail, "scope": fail, "secret-end": fail, "client-registration": fail}
	if d := cmp.Diff(want, verify(azure.VerifyRequest{ServerAppID: appID, AppIDURI: "api://other", ClientAppID: nativeID, SecretExpires: end.AddDate(1, 0, 0)})); d != "" {
		t.Error(d)
	}
	c.graph("GET", "/applications", azError(403, "Authorization_RequestDenied", "Insufficient privileges."))
	want = map[string]opencmg.CheckState{"token-graph": pass, "token-arm": pass, "client-app": fail, "registration": todo}
	if d := cmp.Diff(want, verify(azure.VerifyRequest{ServerAppID: clientID, ClientAppID: clientID})); d != "" {
		t.Error(d)
	}
	c.signIn = expired
	want = map[string]opencmg.CheckState{"token-graph": fail, "token-arm": fail, "registration": fail}
	if d := cmp.Diff(want, verify(azure.VerifyRequest{ServerAppID: clientID})); d != "" {
		t.Error(d)
	}
}

func TestServicePrincipal(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	graphable(c)
	if id, err := c.client().ServicePrincipal(t.Context(), graphApp); err != nil || id != graphSP {
		t.Errorf("%q, %v", id, err)
	}
	_, err := c.client().ServicePrincipal(t.Context(), appID)
	if ce := cloudErr(t, err); ce.Status != 404 {
		t.Errorf("%+v", ce)
	}
}

func TestUpdateApplicationSettings(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	graphable(c)
	c.graph("GET", "/applications", list(m{"id": appObject, "appId": appID, "web": m{"redirectUris": []any{"https://other.example"}}, "requiredResourceAccess": []any{m{"resourceAppId": graphApp, "resourceAccess": []any{m{"id": scopeID, "type": "Scope"}}}}}))
	c.graph("PATCH", "/applications/"+appObject, reply{status: 204})
	check, err := c.client().UpdateApplicationSettings(t.Context(), appID, azure.AppSettings{DeviceTokens: true, ReadDirectory: true, LocalRedirect: true, WebRedirects: []string{"https://other.example", "https://site.example/back"}}, nil)
	if err != nil || check.State != opencmg.CheckPass {
		t.Fatalf("%+v, %v", check, err)
	}
	want := m{"isDeviceOnlyAuthSupported": true, "web": m{"redirectUris": []any{"https://other.example", "http://localhost", "https://site.example/back"}}, "requiredResourceAccess": []any{m{"resourceAppId": graphApp, "resourceAccess": []any{
		m{"id": scopeID, "type": "Scope"}, m{"id": "7ab1d382-f21e-4acd-a863-ba3e13f7da61", "type": "Role"}}}}}
	if d := cmp.Diff(want, c.sent("PATCH", appObject)[0].json(t)); d != "" {
		t.Error(d)
	}
	graphBodies(t, c)
	c.graph("GET", "/applications", list())
	_, err = c.client().UpdateApplicationSettings(t.Context(), appID, azure.AppSettings{}, nil)
	cloudErr(t, err)
}

func TestDiscoverUsers(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	link := func(token string) string { return c.env.Graph + "/v1.0/users/delta?$deltatoken=" + token }
	c.on("GET", link(""), func(r request) reply {
		switch r.Query.Get("$deltatoken") {
		case "":
			if !strings.Contains(r.Query.Get("$select"), "onPremisesSecurityIdentifier") {
				t.Errorf("%v", r.Query)
			}
			return ok(m{"value": []any{m{"id": "1", "displayName": "A", "accountEnabled": false, "onPremisesSecurityIdentifier": "S-1-5-21-1"}}, "@odata.nextLink": link("2")})
		case "2":
			return ok(m{"value": []any{}, "@odata.nextLink": link("3")}) // empty, and goes on
		case "3":
			return ok(m{"value": []any{m{"id": "2", "@removed": m{"reason": "deleted"}}, m{"id": "3", "@removed": m{"reason": "changed"}}}, "@odata.deltaLink": link("next")})
		case "old":
			return reply{status: 410, body: m{"error": m{"code": "syncStateNotFound", "message": "expired"}}}
		case "away":
			return ok(m{"value": []any{}, "@odata.nextLink": "https://evil.example/v1.0/users"})
		case "open":
			return ok(m{"value": []any{}})
		}
		return azError(403, "Authorization_RequestDenied", "no")
	})
	client := c.client()
	var users []azure.User
	pages := 0
	collect := func(u []azure.User) error { pages++; users = append(users, u...); return nil }
	next, err := client.DiscoverUsers(t.Context(), "", collect)
	if err != nil || next != link("next") || pages != 3 {
		t.Errorf("%q after %d pages, %v", next, pages, err)
	}
	off := false
	want := []azure.User{{ID: "1", DisplayName: "A", AccountEnabled: &off, OnPremisesSID: "S-1-5-21-1"}, {ID: "2", Removed: azure.Deleted}, {ID: "3", Removed: azure.Changed}}
	if d := cmp.Diff(want, users); d != "" {
		t.Error(d)
	}
	if _, err := client.DiscoverUsers(t.Context(), link("old"), collect); !errors.Is(err, azure.ErrResync) {
		t.Errorf("expired link: %v", err)
	}
	for _, bad := range []string{link("away"), link("open"), "https://evil.example/v1.0/users/delta", "http://" + strings.TrimPrefix(link("3"), "https://")} {
		if _, err := client.DiscoverUsers(t.Context(), bad, collect); err == nil || errors.Is(err, azure.ErrResync) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	_, err = client.DiscoverUsers(t.Context(), link("forbidden"), collect)
	cloudErr(t, err)
	stop := errors.New("stop")
	if _, err := client.DiscoverUsers(t.Context(), "", func([]azure.User) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("err = %v", err)
	}
}

func TestDiscoverGroups(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	c.graph("GET", "/groups/delta", ok(m{"value": []any{m{"id": "g", "displayName": "G", "securityEnabled": true, "members@delta": []any{
		m{"@odata.type": "#microsoft.graph.user", "id": "1"}, m{"@odata.type": "#microsoft.graph.device", "id": "2", "@removed": m{"reason": "deleted"}}}}},
		"@odata.deltaLink": c.env.Graph + "/v1.0/groups/delta?$deltatoken=x"}))
	var groups []azure.Group
	if _, err := c.client().DiscoverGroups(t.Context(), "", func(g []azure.Group) error { groups = append(groups, g...); return nil }); err != nil {
		t.Fatal(err)
	}
	on := true
	want := []azure.Group{{ID: "g", DisplayName: "G", SecurityEnabled: &on, Members: []azure.Member{{ID: "1", Type: "user"}, {ID: "2", Type: "device", Removed: true}}}}
	if d := cmp.Diff(want, groups); d != "" {
		t.Error(d)
	}
}

func TestDeleteApp(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	c.graph("DELETE", "/applications/"+appObject, reply{status: 204}, notFound(), azError(403, "Authorization_RequestDenied", "no"))
	client := c.client()
	for range 2 {
		if err := client.DeleteApp(t.Context(), appObject); err != nil {
			t.Error(err)
		}
	}
	cloudErr(t, client.DeleteApp(t.Context(), appObject))
}
