package console

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// The Azure Services wizard: environment, server application, client
// application, discovery, summary.

type azureWizard struct {
	*azureWorld
	Site adminservice.Site
}

func loadAzureWizard(v *Visit) (any, error) {
	w, err := loadAzure(v)
	if err != nil {
		return nil, err
	}
	site, err := get[adminservice.Site](v, "Site")
	return &azureWizard{w, site}, err
}

// How an application comes to be known.
const (
	byCreating  = "create"
	byImporting = "import"
	byChoosing  = "existing"
)

// An azurePlan is what the wizard's form asks for.
type azurePlan struct {
	service          adminservice.AzureService
	server, client   string // how they come to be known
	create           adminservice.CreateApplications
	importServer     adminservice.ImportApplication
	importClient     adminservice.ImportApplication
	serverID, tenant string
}

func azurePlanOf(v *Visit) (*azurePlan, error) {
	f := &fromForm{v: v}
	env := opencmg.Environment(v.Form("environment"))
	p := &azurePlan{server: v.Form("serverBy"), client: v.Form("clientBy"), tenant: v.Form("tenantId")}
	p.service = adminservice.AzureService{Name: v.Form("name"), Description: v.Form("description"), Environment: env}
	f.discovery(&p.service)
	p.create = adminservice.CreateApplications{Environment: env, TenantID: p.tenant}
	if s := signInOf(v); s != nil {
		p.create.SignIn = *s
	}
	switch p.server {
	case byCreating:
		p.create.ServerName, p.create.IdentifierURI = v.Form("serverName"), v.Form("identifierUri")
		p.create.SecretYears, p.create.DirectoryRead = f.number("secretYears"), v.Checked("directoryRead")
	case byImporting:
		in := adminservice.ImportApplication{
			Kind: adminservice.ServerApplication, Name: v.Form("importServerName"), TenantID: p.tenant, TenantName: v.Form("tenantName"), Environment: env,
			ClientID: v.Form("importServerId"), IdentifierURI: v.Form("importServerUri"),
		}
		switch v.Form("credential") {
		case "certificate":
			b, err := upload(v, "certificatePem")
			if err != nil {
				return nil, err
			}
			in.CertificatePEM = string(b)
		case "federated":
			in.FederatedFile = v.Form("federatedFile")
		default:
			in.Secret, in.SecretExpires = v.Form("importSecret"), f.day("importSecretExpires")
		}
		p.importServer = in
	default:
		p.serverID = v.Form("serverAppId")
	}
	switch p.client {
	case byCreating:
		p.create.ClientName = v.Form("clientName")
	case byImporting:
		p.importClient = adminservice.ImportApplication{
			Kind: adminservice.ClientApplication, Name: v.Form("importClientName"), TenantID: p.tenant, TenantName: v.Form("tenantName"), Environment: env, ClientID: v.Form("importClientId"),
		}
	default:
		p.service.ClientAppID = v.Form("clientAppId")
	}
	return p, f.err
}

// The fields of the wizard by what the service calls them in its requests.
var (
	importServerFields = fieldNames{
		"name": "importServerName", "clientId": "importServerId", "identifierUri": "importServerUri", "secret": "importSecret", "secretExpires": "importSecretExpires", "federatedTokenFile": "federatedFile",
	}
	importClientFields = fieldNames{"name": "importClientName", "clientId": "importClientId"}
)

// serviceFields are for a service of applications that are there by now.
func (p *azurePlan) serviceFields() fieldNames {
	names := fieldNames{}
	if p.server == byImporting {
		names["serverAppId"] = "tenantId" // which is what was typed of it
	}
	if p.client == byImporting {
		names["clientAppId"] = "importClientId"
	}
	return names
}

// createFields are for a service that comes with its applications.
func (p *azurePlan) createFields() fieldNames {
	names := fieldNames{"signIn": "signInBy"}
	if p.server == byImporting {
		names["serverAppId"] = "clientBy" // what it exposes is not known
	}
	return names.with("service", fieldNames{
		"name": "name", "description": "description", "clientAppId": "clientAppId",
		"userDeltaMinutes": "userDeltaMinutes", "userFullHours": "userFullHours", "groupDeltaMinutes": "groupDeltaMinutes", "groupFullHours": "groupFullHours",
	})
}

func createAzureService(v *Visit) (next, said string, err error) {
	p, err := azurePlanOf(v)
	if err != nil {
		return "", "", err
	}
	// What is imported for a service that is refused then is taken back, so that
	// the form can be sent again.
	var imported []string
	defer func() {
		if err != nil {
			for i := len(imported) - 1; i >= 0; i-- {
				v.Do(http.MethodDelete, "Applications/"+url.PathEscape(imported[i]), nil, nil)
			}
		}
	}()
	take := func(in adminservice.ImportApplication, names fieldNames) (string, error) {
		var app adminservice.Application
		if err := v.Do(http.MethodPost, "Applications/import", in, &app); err != nil {
			return "", inForm(err, names)
		}
		imported = append(imported, app.ID)
		return app.ID, nil
	}
	if p.server == byImporting {
		if p.serverID, err = take(p.importServer, importServerFields); err != nil {
			return "", "", err
		}
	}
	if p.client == byImporting {
		p.importClient.ServerAppID = p.serverID
		if p.service.ClientAppID, err = take(p.importClient, importClientFields); err != nil {
			return "", "", err
		}
	}
	p.service.ServerAppID = p.serverID
	if p.server != byCreating && p.client != byCreating {
		var made adminservice.AzureService
		if err := v.Do(http.MethodPost, "AzureServices", p.service, &made); err != nil {
			return "", "", inForm(err, p.serviceFields())
		}
		return "azure-services/" + url.PathEscape(made.ID), "The site is connected to the tenant.", nil
	}
	p.create.ServerAppID, p.create.Service = p.serverID, &p.service
	var op adminservice.Operation
	if err := v.Do(http.MethodPost, "Applications/create", p.create, &op); err != nil {
		return "", "", inForm(err, p.createFields())
	}
	return operationPage(op.ID), "", nil
}

// azureBoxes are the places of the Azure Services wizard, as gatewayBoxes. What
// the form alone can not read there are numbers and files of no place of their own.
var azureBoxes = fieldNames{"secretYears": "", "certificatePem": "", "userDeltaMinutes": "", "userFullHours": "", "groupDeltaMinutes": "", "groupFullHours": ""}

// checkAzureService answers the wizard while one types; it asks nobody outside.
func (c *Console) checkAzureService(w http.ResponseWriter, v *Visit) error {
	f := found{}
	p, err := azurePlanOf(v)
	if err != nil {
		f.refused(err, azureBoxes)
		return c.answerChecks(w, v, checkAnswer{found: f})
	}
	world, err := loadAzure(v)
	if err != nil {
		return err
	}
	p.check(f, world)
	return c.answerChecks(w, v, checkAnswer{found: f, summary: "azure-summary", data: p.summary()})
}

func (p *azurePlan) check(f found, world *azureWorld) {
	guid := func(field, id string) {
		if id != "" && !opencmg.IsGUID(id) {
			f.say(field, "must be a GUID, such as 6f3b5a0e-8d2c-4c57-9a41-2d1f0e9b7c11", "the portal shows it on the overview page")
		}
	}
	guid("tenantId", p.tenant)
	guid("importServerId", p.importServer.ClientID)
	guid("importClientId", p.importClient.ClientID)
	for _, s := range world.Services {
		if strings.EqualFold(s.TenantID, p.tenant) {
			f.say("tenantId", "the tenant is connected already, by Azure service "+s.Name, "change that one, or delete it first")
		}
		if strings.EqualFold(s.Name, p.service.Name) {
			f.say("name", "there is an Azure service of this name", "give another name")
		}
	}
	for _, a := range world.Apps {
		for field, id := range map[string]string{"importServerId": p.importServer.ClientID, "importClientId": p.importClient.ClientID} {
			if id != "" && strings.EqualFold(a.ClientID, id) && strings.EqualFold(a.TenantID, p.tenant) {
				f.say(field, "the site knows this application already, as "+a.Name, "choose it as one that the site knows")
			}
		}
	}
	if id := p.importServer.ClientID; id != "" && strings.EqualFold(id, p.importClient.ClientID) {
		f.say("importClientId", "it is the server application's", "register a second application for clients")
	}
	if n := p.create.ServerName; n != "" && strings.EqualFold(n, p.create.ClientName) {
		f.say("clientName", "it is the server application's name", "give the two registrations different names")
	}
	if p.server == byImporting && p.client == byCreating {
		f.say("clientBy", "what an imported server application exposes is not known to the site", "register the client application in the portal and import it, or create both")
	}
	if e := p.importServer.SecretExpires; !e.IsZero() && e.Before(time.Now()) {
		f.say("importSecretExpires", "the secret ended already", "make a new one in Entra")
	}
}

func (p *azurePlan) summary() *gatewaySummary {
	s := &gatewaySummary{}
	add := func(name, value string) {
		if value != "" {
			s.Rows = append(s.Rows, summaryRow{name, value})
		}
	}
	add("Name", p.service.Name)
	add("Environment", string(p.service.Environment))
	add("Tenant", p.tenant)
	switch p.server {
	case byCreating:
		add("Server application", "create "+p.create.ServerName)
	case byImporting:
		add("Server application", "import "+p.importServer.Name+" ("+p.importServer.ClientID+")")
	default:
		add("Server application", "one that the site knows")
	}
	switch p.client {
	case byCreating:
		add("Client application", "create "+p.create.ClientName)
	case byImporting:
		add("Client application", "import "+p.importClient.Name+" ("+p.importClient.ClientID+")")
	default:
		add("Client application", "one that the site knows")
	}
	if p.server == byCreating || p.client == byCreating {
		switch s := p.create.SignIn; {
		case s.DeviceCode:
			add("Who creates them", "you, by a code that the next page shows")
		case s.ManagedIdentity:
			add("Who creates them", "the managed identity of the site server")
		default:
			add("Who creates them", "the application "+s.ClientID)
		}
	}
	var what []string
	if p.service.UserDiscovery {
		what = append(what, "users")
	}
	if p.service.GroupDiscovery {
		what = append(what, "groups")
	}
	add("Discovery", strings.Join(what, " and "))
	return s
}

// NoGroups is the choice of groups of a new service: all of them.
func (*azureWizard) NoGroups() []string { return nil }
