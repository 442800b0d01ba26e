package site_test

import (
	"strings"
	"testing"

	"github.com/opencmg/opencmg/adminservice"
)

// What the wished Azure service can not be is refused before anything is made
// in Entra.
func TestCreateApplicationsWithService(t *testing.T) {
	r := newRig(t)
	in := func(service adminservice.AzureService) adminservice.CreateApplications {
		return adminservice.CreateApplications{Environment: r.env, TenantID: tenantID, ServerName: "s", ClientName: "c", SignIn: adminservice.SignIn{ClientID: deployerID, Secret: deployerSecret}, Service: &service}
	}
	refused := func(want string, service adminservice.AzureService) {
		t.Helper()
		err := r.c.Do(t.Context(), "POST", "Applications/create", in(service), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q", service, err, want)
		}
	}
	refused("give the Azure service a name", adminservice.AzureService{Name: " "})
	refused("5 to 1440 minutes", adminservice.AzureService{Name: "a", UserDeltaMinutes: 1})
	refused("service.clientAppId", adminservice.AzureService{Name: "a", ClientAppID: "x"})
	done := r.finish(do[adminservice.Operation](r, "POST", "Applications/create", in(adminservice.AzureService{Name: "a", Description: "d", GroupDiscovery: true})))
	s := do[adminservice.Page[adminservice.AzureService]](r, "GET", "AzureServices", nil).Value
	if len(s) != 1 || s[0].Description != "d" || !s[0].GroupDiscovery || !strings.Contains(string(done.Result), `"azureServiceId":"`+s[0].ID+`"`) {
		t.Errorf("made %+v, result %s", s, done.Result)
	}
	refused("there is an Azure service a already", adminservice.AzureService{Name: "A"})
	refused("connected already", adminservice.AzureService{Name: "b"})
}

// A gateway tells what may be asked of it.
func TestGatewayActions(t *testing.T) {
	r := newRig(t)
	r.connect()
	op := do[adminservice.Operation](r, "POST", "Gateways", r.newGateway())
	r.finish(op)
	check := func(when, want string) {
		t.Helper()
		if got := strings.Join(r.gateway().Actions, " "); got != want {
			t.Errorf("%s: %s", when, got)
		}
	}
	check("ready", "stop synchronize upgrade scale renew-certificate delete")
	r.finish(do[adminservice.Operation](r, "POST", "Gateways/"+op.Subject+"/stop", nil))
	check("stopped", "start renew-certificate delete")
	var during []string
	r.onStep = func(_, _ string) { during = append(during, r.gateway().Actions...) }
	r.finish(do[adminservice.Operation](r, "POST", "Gateways/"+op.Subject+"/start", nil))
	if len(during) > 0 {
		t.Errorf("while it starts: %q", during)
	}
}
