package azure_test

import (
	"strings"
	"testing"

	"github.com/opencmg/opencmg"
)

// TestCheckConsent looks at a tenant where everything is granted, and at ones
// where each part is missing or can not be seen.
func TestCheckConsent(t *testing.T) {
	const directoryRead = "7ab1d382-f21e-4acd-a863-ba3e13f7da61"
	type tenant struct {
		grants, roles reply
		noClient      bool
	}
	granted := func() tenant {
		return tenant{
			grants: list(m{"consentType": "AllPrincipals", "resourceId": appSP, "scope": "openid user_impersonation"}),
			roles:  list(m{"resourceId": graphSP, "appRoleId": directoryRead}),
		}
	}
	forbidden := reply{status: 403, body: m{"error": m{"code": "Authorization_RequestDenied", "message": "Insufficient privileges to complete the operation."}}}
	for _, tt := range []struct {
		name             string
		change           func(*tenant)
		users, directory opencmg.CheckState
		says             string // by the one that does not pass
	}{
		{"all granted", func(*tenant) {}, opencmg.CheckPass, opencmg.CheckPass, ""},
		{"nothing granted", func(x *tenant) { x.grants, x.roles = list(), list() }, opencmg.CheckFail, opencmg.CheckFail, "is not granted"},
		{"for one user only", func(x *tenant) {
			x.grants = list(m{"consentType": "Principal", "resourceId": appSP, "scope": "user_impersonation"})
		}, opencmg.CheckFail, opencmg.CheckPass, "not granted for all users"},
		{"for another app", func(x *tenant) {
			x.grants = list(m{"consentType": "AllPrincipals", "resourceId": graphSP, "scope": "user_impersonation"})
		}, opencmg.CheckFail, opencmg.CheckPass, "not granted for all users"},
		{"another scope", func(x *tenant) {
			x.grants = list(m{"consentType": "AllPrincipals", "resourceId": appSP, "scope": "user_impersonation_not"})
		}, opencmg.CheckFail, opencmg.CheckPass, "not granted for all users"},
		{"another role", func(x *tenant) { x.roles = list(m{"resourceId": graphSP, "appRoleId": scopeID}) }, opencmg.CheckPass, opencmg.CheckFail, "Directory.Read.All is not granted"},
		{"no principal", func(x *tenant) { x.noClient = true }, opencmg.CheckFail, opencmg.CheckPass, "no service principal"},
		{"nobody may look", func(x *tenant) { x.grants, x.roles = forbidden, forbidden }, opencmg.CheckTodo, opencmg.CheckTodo, "may not read the directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := granted()
			tt.change(&x)
			c := newCloud(t, opencmg.AzureLab)
			c.on("GET", c.env.Graph+"/v1.0/servicePrincipals", func(r request) reply {
				for app, sp := range map[string]string{appID: appSP, nativeID: nativeSP, graphApp: graphSP} {
					if r.Query.Get("$filter") == "appId eq '"+app+"'" && !(x.noClient && app == nativeID) {
						return list(m{"id": sp, "appId": app})
					}
				}
				return list()
			})
			c.graph("GET", "/oauth2PermissionGrants", x.grants)
			c.graph("GET", "/servicePrincipals/"+appSP+"/appRoleAssignments", x.roles)
			checks, err := c.client().CheckConsent(t.Context(), appID, nativeID, true)
			if err != nil || len(checks) != 2 {
				t.Fatalf("%+v, %v", checks, err)
			}
			for i, want := range []opencmg.CheckState{tt.users, tt.directory} {
				o := checks[i]
				if o.State != want || o.State != opencmg.CheckPass && (!strings.Contains(o.Evidence, tt.says) || !strings.Contains(o.NextStep, "portal")) {
					t.Errorf("%+v, want %s with %q", o, want, tt.says)
				}
			}
		})
	}
	// Without discovery nobody needs to read the directory.
	c := newCloud(t, opencmg.AzureLab)
	c.graph("GET", "/servicePrincipals", list())
	if checks, err := c.client().CheckConsent(t.Context(), appID, nativeID, false); err != nil || len(checks) != 1 {
		t.Errorf("%+v, %v", checks, err)
	}
}
