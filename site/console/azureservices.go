package console

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// Azure Services: what connects the site to tenants of Microsoft Entra ID.

func azureServiceViews() []view {
	const node = "azure-services"
	return []view{
		{pattern: "azure-services", node: node, title: "Azure Services", template: "azure-services", load: loadAzureServices},
		{pattern: "azure-services/new", node: node, title: "Configure Azure Services", template: "azure-service-new", load: loadAzureWizard},
		{pattern: "azure-services/{id}", node: node, title: "Azure service", template: "azure-service", load: loadAzureService},
		{pattern: "applications/{id}", node: node, title: "Application", template: "application", load: loadApplication},
	}
}

func azureServiceActions() []action {
	const service, app = "azure-services/{id}", "applications/{id}"
	return []action{
		{pattern: "azure-services/new", page: "azure-services/new", do: createAzureService},
		{pattern: "azure-services/{id}", page: service, do: changeAzureService},
		{pattern: "azure-services/{id}/discover", page: service, do: func(v *Visit) (string, string, error) {
			var op adminservice.Operation
			err := v.Do("POST", "AzureServices/"+url.PathEscape(v.ID())+"/discover", nil, &op)
			return operationPage(op.ID), "", err
		}},
		{pattern: "azure-services/{id}/delete", page: service, do: deleteAzureService},
		{pattern: "tenants/{id}/authentication", page: "azure-services", do: switchTenant},
		{pattern: "tenants/{id}/delete", page: "azure-services", do: remover("Tenants", "azure-services", "The tenant was forgotten.")},
		{pattern: "applications/{id}/renew-secret", page: app, do: renewSecret, fields: fieldNames{"secret": "newSecret", "secretExpires": "newSecretExpires", "signIn": "signInBy"}},
		{pattern: "applications/{id}/update-settings", page: app, fields: fieldNames{"signIn": "signInBy"}, do: func(v *Visit) (string, string, error) {
			var op adminservice.Operation
			err := v.Do("POST", appPath(v)+"/updateSettings", adminservice.UpdateSettings{SignIn: signInOf(v)}, &op)
			return operationPage(op.ID), "", err
		}},
		{pattern: "applications/{id}/verify", page: app, do: verifyApplication},
		{pattern: "applications/{id}/register-providers", page: app, do: func(v *Visit) (string, string, error) {
			var op adminservice.Operation
			err := v.Do("POST", appPath(v)+"/registerProviders", adminservice.RegisterProviders{SubscriptionID: v.Form("subscriptionId")}, &op)
			return operationPage(op.ID), "", err
		}},
		{pattern: "applications/{id}/delete", page: app, do: deleteApplication},
	}
}

func operationPage(id string) string { return "operations/" + url.PathEscape(id) }

func appPath(v *Visit) string { return "Applications/" + url.PathEscape(v.ID()) }

// An azureApp is an application with the state of its secret.
type azureApp struct {
	adminservice.Application
	Tone string // of the secret's end
	Days int    // left
}

// Server reports whether it is a server application.
func (a *azureApp) Server() bool { return a.Kind == adminservice.ServerApplication }

// KindName is what it is for people.
func (a *azureApp) KindName() string {
	if a.Server() {
		return "Server application"
	}
	return "Client application"
}

// An azureRow is an Azure service with its tenant and applications.
type azureRow struct {
	adminservice.AzureService
	Tenant         adminservice.Tenant
	Server, Client *azureApp // nil when it is gone
}

// TenantName is the tenant's name, or its ID.
func (r *azureRow) TenantName() string {
	if r.Tenant.Name != "" {
		return r.Tenant.Name
	}
	return r.TenantID
}

// azureWorld is all that the site knows about tenants.
type azureWorld struct {
	Services []*azureRow
	Tenants  []adminservice.Tenant
	Apps     []*azureApp
	Spare    []*azureApp // of no service
}

func loadAzure(v *Visit) (*azureWorld, error) {
	w := &azureWorld{}
	var err error
	if w.Tenants, err = list[adminservice.Tenant](v, "Tenants"); err != nil {
		return nil, err
	}
	apps, err := list[adminservice.Application](v, "Applications")
	if err != nil {
		return nil, err
	}
	now := time.Now()
	for _, a := range apps {
		w.Apps = append(w.Apps, &azureApp{Application: a, Tone: endTone(a.SecretExpires, now), Days: int(a.SecretExpires.Sub(now).Hours() / 24)})
	}
	services, err := list[adminservice.AzureService](v, "AzureServices")
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, s := range services {
		r := &azureRow{AzureService: s, Server: w.app(s.ServerAppID), Client: w.app(s.ClientAppID)}
		if i := slices.IndexFunc(w.Tenants, func(t adminservice.Tenant) bool { return t.ID == s.TenantID }); i >= 0 {
			r.Tenant = w.Tenants[i]
		}
		used[s.ServerAppID], used[s.ClientAppID] = true, true
		w.Services = append(w.Services, r)
	}
	for _, a := range w.Apps {
		if !used[a.ID] {
			w.Spare = append(w.Spare, a)
		}
	}
	return w, nil
}

func (w *azureWorld) app(id string) *azureApp {
	for _, a := range w.Apps {
		if a.ID == id {
			return a
		}
	}
	return nil
}

func loadAzureServices(v *Visit) (any, error) { return loadAzure(v) }

func loadAzureService(v *Visit) (any, error) {
	w, err := loadAzure(v)
	if err != nil {
		return nil, err
	}
	for _, r := range w.Services {
		if r.ID == v.ID() {
			return r, nil
		}
	}
	return nil, opencmg.Errorf(opencmg.NotFound, "there is no Azure service %s: it was deleted meanwhile", v.ID())
}

func loadApplication(v *Visit) (any, error) {
	w, err := loadAzure(v)
	if err != nil {
		return nil, err
	}
	if a := w.app(v.ID()); a != nil {
		return a, nil
	}
	return nil, opencmg.Errorf(opencmg.NotFound, "there is no application %s: it was deleted meanwhile", v.ID())
}

// lines are the lines of a field, without empty ones.
func lines(s string) []string {
	list := []string{}
	for l := range strings.Lines(s) {
		if l = strings.TrimSpace(l); l != "" {
			list = append(list, l)
		}
	}
	return list
}

// discovery reads the fields of discovery.
func (f *fromForm) discovery(s *adminservice.AzureService) {
	s.UserDiscovery, s.GroupDiscovery = f.v.Checked("userDiscovery"), f.v.Checked("groupDiscovery")
	s.UserDeltaMinutes, s.UserFullHours = f.number("userDeltaMinutes"), f.number("userFullHours")
	s.GroupDeltaMinutes, s.GroupFullHours = f.number("groupDeltaMinutes"), f.number("groupFullHours")
	s.DiscoveredGroups = lines(f.v.Form("discoveredGroups"))
}

func changeAzureService(v *Visit) (string, string, error) {
	f := &fromForm{v: v}
	var s adminservice.AzureService
	f.discovery(&s)
	if f.err != nil {
		return "", "", f.err
	}
	name, description := v.Form("name"), v.Form("description")
	change := adminservice.AzureServiceChange{
		Name: &name, Description: &description, UserDiscovery: &s.UserDiscovery, GroupDiscovery: &s.GroupDiscovery, DiscoveredGroups: &s.DiscoveredGroups,
		UserDeltaMinutes: &s.UserDeltaMinutes, UserFullHours: &s.UserFullHours, GroupDeltaMinutes: &s.GroupDeltaMinutes, GroupFullHours: &s.GroupFullHours,
	}
	page := "azure-services/" + url.PathEscape(v.ID())
	return page, "The properties were saved.", v.change("AzureServices/"+url.PathEscape(v.ID()), page, change)
}

func deleteAzureService(v *Visit) (string, string, error) {
	d, err := loadAzureService(v)
	if err != nil {
		return "", "", err
	}
	if err := typedName(v, d.(*azureRow).Name); err != nil {
		return "", "", err
	}
	return "azure-services", "The Azure service was deleted. Its applications stay, here and in Entra.", v.Do("DELETE", "AzureServices/"+url.PathEscape(v.ID()), nil, nil)
}

func switchTenant(v *Visit) (string, string, error) {
	off := v.Form("disable") == "yes"
	said := "Clients of the tenant may sign in again."
	if off {
		said = "Clients of the tenant can not sign in any more."
	}
	return "azure-services", said, v.Do("PATCH", "Tenants/"+url.PathEscape(v.ID()), adminservice.TenantChange{DisableAuthentication: &off}, nil)
}

// signInOf is who signs in for something; nil is the application itself.
func signInOf(v *Visit) *adminservice.SignIn {
	switch v.Form("signInBy") {
	case "device":
		return &adminservice.SignIn{DeviceCode: true, ClientID: v.Form("signInThrough")}
	case "secret":
		return &adminservice.SignIn{ClientID: v.Form("signInClientId"), Secret: v.Form("signInSecret")}
	case "managed":
		return &adminservice.SignIn{ManagedIdentity: true, ClientID: v.Form("signInClientId")}
	}
	return nil
}

func renewSecret(v *Visit) (string, string, error) {
	f := &fromForm{v: v}
	in := adminservice.RenewSecret{}
	if v.Form("renewBy") == "paste" {
		in.Secret, in.SecretExpires = v.Form("newSecret"), f.day("newSecretExpires")
	} else {
		in.SecretYears, in.SignIn = f.number("secretYears"), signInOf(v)
	}
	if f.err != nil {
		return "", "", f.err
	}
	var op adminservice.Operation
	err := v.Do("POST", appPath(v)+"/renewSecret", in, &op)
	return operationPage(op.ID), "", err
}

// day reads a date, at the end of which something ends; zero when it is empty.
func (f *fromForm) day(name string) time.Time {
	s := f.v.Form(name)
	if s == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.DateOnly, s)
	if err != nil && f.err == nil {
		f.err = opencmg.Errorf(opencmg.Invalid, "%s: must be a date such as 2027-12-31, is %q", name, s).About(name)
	}
	return t
}

func verifyApplication(v *Visit) (string, string, error) {
	var page adminservice.Page[opencmg.Check]
	if err := v.Do("POST", appPath(v)+"/verify", nil, &page); err != nil {
		return "", "", err
	}
	said := ""
	for _, c := range page.Value {
		if c.State == opencmg.CheckFail {
			return "", "", opencmg.Errorf(opencmg.Conflict, "the application can not sign in: %s", c.Evidence)
		}
		said += c.Name + ": " + c.Evidence + ". "
	}
	return "applications/" + url.PathEscape(v.ID()), said, nil
}

func deleteApplication(v *Visit) (string, string, error) {
	d, err := loadApplication(v)
	if err != nil {
		return "", "", err
	}
	if err := typedName(v, d.(*azureApp).Name); err != nil {
		return "", "", err
	}
	return "azure-services", "The site forgot the application. Its registration in Entra stays until somebody deletes it there.", v.Do("DELETE", appPath(v), nil, nil)
}
