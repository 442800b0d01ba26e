package site_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/azure"
	"github.com/opencmg/opencmg/labcloud"
	"github.com/opencmg/opencmg/site"
)

// importForm is what the wizard sends for two registrations of the portal.
func importForm() url.Values {
	return url.Values{
		"name": {"Fourth Coffee"}, "environment": {"AzureLab"}, "tenantId": {tenantID}, "tenantName": {"Fourth Coffee"},
		"serverBy": {"import"}, "importServerName": {"portal server"}, "importServerId": {deployerID}, "importServerUri": {"api://portal"}, "credential": {"secret"},
		"importSecret": {deployerSecret}, "importSecretExpires": {time.Now().AddDate(1, 0, 0).Format(time.DateOnly)},
		"clientBy": {"import"}, "importClientName": {"portal client"}, "importClientId": {"c10e9b74-4f2d-4c86-b3a9-6d58f7a2e013"},
	}
}

func TestConsoleImportsApplications(t *testing.T) {
	r := newRig(t)
	v := r.console(r.c.Token)
	v.see("azure-services/new")
	// The client application is refused, and the server application is taken
	// back.
	form := importForm()
	form.Set("importClientId", "not-a-guid")
	status, page := v.post("azure-services/new", form)
	if status != http.StatusBadRequest || !strings.Contains(page, "not-a-guid") || !strings.Contains(page, `value="portal server"`) || strings.Contains(page, deployerSecret) {
		t.Fatalf("a wrong client ID: %d\n%s", status, page)
	}
	if apps := do[adminservice.Page[adminservice.Application]](r, "GET", "Applications", nil).Value; len(apps) != 0 {
		t.Errorf("what was refused was kept: %v", apps)
	}
	// Beside the fields, while one types.
	fields, summary, _ := v.checked("azure-services/new/check", form, nil)
	if !strings.Contains(fields["importClientId"], "GUID") || !strings.Contains(summary, "import portal server") {
		t.Errorf("%q\n%s", fields, summary)
	}
	wrong := importForm()
	wrong.Set("importSecret", "wrong")
	if status, page := v.post("azure-services/new", wrong); status < 400 || !strings.Contains(page, "could not be verified") {
		t.Errorf("a wrong secret: %d\n%s", status, page)
	}
	status, page = v.post("azure-services/new", importForm())
	if status != http.StatusOK || !strings.Contains(page, "The site is connected to the tenant.") || !strings.Contains(page, "imported") {
		t.Fatalf("%d\n%s", status, page)
	}
	if fields, _, _ := v.checked("azure-services/new/check", importForm(), nil); !strings.Contains(fields["tenantId"], "connected already") || !strings.Contains(fields["importServerId"], "knows this application already") {
		t.Errorf("a second time: %q", fields)
	}
}

func TestConsoleAzureServices(t *testing.T) {
	r := newRig(t)
	app := r.connect()
	v := r.console(r.c.Token)
	v.see("azure-services", "Fourth Coffee", "FcCmgServer", "days left", "Disable authentication")
	if _, page := v.post("tenants/"+tenantID+"/authentication", url.Values{"disable": {"yes"}}); !strings.Contains(page, "Enable authentication") {
		t.Errorf("disabled:\n%s", page)
	}
	// The secret, made by somebody who may.
	status, page := v.post("applications/"+app.ID+"/renew-secret", url.Values{"renewBy": {"make"}, "secretYears": {"2"}, "signInBy": {"secret"}, "signInClientId": {deployerID}, "signInSecret": {deployerSecret}})
	if status != http.StatusOK || !strings.Contains(page, "Renew the secret key") {
		t.Fatalf("%d\n%s", status, page)
	}
	r.finishShown(page)
	apps := do[adminservice.Page[adminservice.Application]](r, "GET", "Applications", nil).Value
	for _, a := range apps {
		if a.ID == app.ID && !a.SecretExpires.After(app.SecretExpires) {
			t.Errorf("the secret ends %v, before it was %v", a.SecretExpires, app.SecretExpires)
		}
	}
	if status, page := v.post("applications/"+app.ID+"/verify", nil); status != http.StatusOK || !strings.Contains(page, "a token for Azure Resource Manager was issued") {
		t.Errorf("verify: %d\n%s", status, page)
	}
	_, page = v.post("applications/"+app.ID+"/register-providers", url.Values{"subscriptionId": {subscriptionID}})
	r.finishShown(page)
	// Discovery, with the version that was seen.
	form := url.Values{"version": {"99"}, "name": {"Fourth Coffee"}, "userDiscovery": {"on"}, "userDeltaMinutes": {"7"}, "userFullHours": {"24"}, "groupDeltaMinutes": {"5"}, "groupFullHours": {"24"}, "discoveredGroups": {"a\r\n\r\n b "}}
	if status, page := v.post("azure-services/1", form); status != http.StatusPreconditionFailed || !strings.Contains(page, "somebody changed this while the page was open") || !strings.Contains(page, `value="7"`) {
		t.Errorf("another version: %d\n%s", status, page)
	}
	service := func() adminservice.AzureService {
		return do[adminservice.Page[adminservice.AzureService]](r, "GET", "AzureServices", nil).Value[0]
	}
	form.Set("version", "1")
	if status, page := v.post("azure-services/1", form); status != http.StatusOK {
		t.Fatalf("%d\n%s", status, page)
	}
	if s := service(); !s.UserDiscovery || s.GroupDiscovery || s.UserDeltaMinutes != 7 || strings.Join(s.DiscoveredGroups, "+") != "a+b" {
		t.Errorf("saved: %+v", s)
	}
	if status, page := v.post("azure-services/1/discover", nil); status != http.StatusOK || !strings.Contains(page, "Discover users and groups") {
		t.Errorf("discover: %d\n%s", status, page)
	}
	if status, page := v.post("applications/"+app.ID+"/delete", url.Values{"typed": {app.Name}}); status != http.StatusConflict || !strings.Contains(page, "uses the application") {
		t.Errorf("an application in use: %d\n%s", status, page)
	}
	if _, page := v.post("azure-services/1/delete", url.Values{"typed": {"Fourth Coffee"}}); !strings.Contains(page, "Applications of no service") {
		t.Errorf("deleted:\n%s", page)
	}
}

// The code of a sign-in is on the page while the operation waits for it.
func TestConsoleShowsSignInCode(t *testing.T) {
	const through = "dddddddd-0000-4000-8000-000000000005"
	codes := make(chan string, 1)
	r := newRig(t, func(r *rig) {
		r.lab = func(c *labcloud.Config) {
			c.Apps = append(c.Apps, labcloud.App{Tenant: tenantID, ID: through, Name: "Sign-in", Public: true})
		}
		r.config = func(c *site.Config) {
			c.Directory = func(in site.CloudSignIn) (site.Directory, error) {
				cred := azure.Credential{ClientID: in.ClientID, DeviceCode: func(_ context.Context, code, _, text string) error {
					in.DeviceCode(text)
					codes <- code
					return nil
				}}
				return azure.New(azure.Config{Environment: in.Environment, TenantID: in.TenantID, Credential: cred, HTTP: r.http, PollFrequency: time.Millisecond, Now: r.now})
			}
		}
	})
	v := r.console(r.c.Token)
	v.see("azure-services/new")
	status, page := v.post("azure-services/new", url.Values{
		"name": {"Cloud management"}, "environment": {"AzureLab"}, "tenantId": {tenantID}, "serverBy": {"create"}, "serverName": {"CMG server"}, "clientBy": {"create"}, "clientName": {"CMG client"}, "signInBy": {"device"}, "signInThrough": {through},
	})
	m := idPattern.FindStringSubmatch(page)
	if status != http.StatusOK || m == nil {
		t.Fatalf("%d\n%s", status, page)
	}
	events := v.watch("operations/" + m[1])
	v.until(events, "operation", "Somebody has to sign in now.")
	code := <-codes
	v.see("operations/"+m[1], code, "in-progress")
}
