package site

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/azure"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

// tenantRecord is an Entra tenant.
type tenantRecord struct {
	Environment opencmg.Environment `json:"environment"`
	Disabled    bool                `json:"disabled"`
}

// applicationRecord is an app registration. What proves a server app is a
// secret of the database, named by appSecret.
type applicationRecord struct {
	Kind          string    `json:"kind"`
	TenantID      string    `json:"tenantId"`
	ClientID      string    `json:"clientId"`
	ObjectID      string    `json:"objectId,omitempty"`
	IdentifierURI string    `json:"identifierUri,omitempty"`
	Credential    string    `json:"credential,omitempty"`
	KeyID         string    `json:"keyId,omitempty"` // of the secret in Entra
	OldKeyID      string    `json:"oldKeyId,omitempty"`
	RenewedBy     string    `json:"renewedBy,omitempty"` // operation that made the secret
	SecretExpires time.Time `json:"secretExpires,omitzero"`
	FederatedFile string    `json:"federatedTokenFile,omitempty"`
	Imported      bool      `json:"imported"`
	ServerAppID   string    `json:"serverAppId,omitempty"`
	ScopeID       string    `json:"scopeId,omitempty"`
}

// Ways in which a server app signs in.
const (
	credentialSecret      = "secret"
	credentialCertificate = "certificate"
	credentialFederated   = "federated"
)

func appSecret(id string) string { return "application/" + id }

func (s *Server) listTenants(w http.ResponseWriter, r *http.Request) error {
	records, err := readAll[tenantRecord](r.Context(), s.db, kindTenant)
	if err != nil {
		return err
	}
	var list []adminservice.Tenant
	for _, t := range records {
		list = append(list, tenant(t))
	}
	return answerList(w, r, list)
}

func tenant(r *record[tenantRecord]) adminservice.Tenant {
	return adminservice.Tenant{ID: r.ID, Version: r.Version, Name: r.Name, Environment: r.Value.Environment, DisableAuthentication: r.Value.Disabled}
}

func (s *Server) changeTenant(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.TenantChange
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	version, err := ifMatch(r)
	if err != nil {
		return err
	}
	rec, err := update(r.Context(), s.db, kindTenant, strings.ToLower(r.PathValue("id")), func(tx *sitedb.Tx, rec *record[tenantRecord]) error {
		if err := rec.expect(version); err != nil {
			return err
		}
		if err := rename(&rec.Name, in.Name); err != nil {
			return err
		}
		if in.DisableAuthentication != nil {
			rec.Value.Disabled = *in.DisableAuthentication
		}
		return s.audit(r.Context(), tx, msgChanged, kindTenant, rec.ID, "changed tenant %s: authentication %s", rec.Name, map[bool]string{true: "off", false: "on"}[rec.Value.Disabled])
	})
	if err != nil {
		return err
	}
	return answerOne(w, http.StatusOK, rec.Version, tenant(rec))
}

func (s *Server) deleteTenant(w http.ResponseWriter, r *http.Request) error {
	r.SetPathValue("id", strings.ToLower(r.PathValue("id")))
	return remove(s, w, r, kindTenant, "tenant", func(tx *sitedb.Tx, rec *record[tenantRecord]) error {
		apps, err := all[applicationRecord](tx, kindApplication)
		if err != nil {
			return err
		}
		for _, a := range apps {
			if a.Value.TenantID == rec.ID {
				return opencmg.Errorf(opencmg.Conflict, "application %s belongs to the tenant: delete it first", a.Name)
			}
		}
		return nil
	})
}

func application(r *record[applicationRecord], tenants []*record[tenantRecord]) adminservice.Application {
	v := r.Value
	a := adminservice.Application{
		ID: r.ID, Version: r.Version, Kind: v.Kind, Name: r.Name, TenantID: v.TenantID, ClientID: v.ClientID, ObjectID: v.ObjectID,
		IdentifierURI: v.IdentifierURI, Credential: v.Credential, SecretExpires: v.SecretExpires, Imported: v.Imported, ServerAppID: v.ServerAppID,
	}
	for _, t := range tenants {
		if t.ID == v.TenantID {
			a.TenantName = t.Name
		}
	}
	return a
}

func (s *Server) applications(ctx context.Context) ([]adminservice.Application, error) {
	records, err := readAll[applicationRecord](ctx, s.db, kindApplication)
	if err != nil {
		return nil, err
	}
	tenants, err := readAll[tenantRecord](ctx, s.db, kindTenant)
	var list []adminservice.Application
	for _, rec := range records {
		list = append(list, application(rec, tenants))
	}
	return list, err
}

func (s *Server) listApplications(w http.ResponseWriter, r *http.Request) error {
	list, err := s.applications(r.Context())
	if err != nil {
		return err
	}
	return answerList(w, r, list)
}

// ensureTenant makes the record of a tenant when it is missing.
func ensureTenant(tx *sitedb.Tx, id, name string, env opencmg.Environment) error {
	_, err := get[tenantRecord](tx, kindTenant, id)
	if err == nil {
		return nil
	}
	if name == "" {
		name = id
	}
	return (&record[tenantRecord]{ID: id, Name: name, Value: tenantRecord{Environment: env}}).put(tx, kindTenant)
}

func (s *Server) environment(e opencmg.Environment) (opencmg.Environment, error) {
	if e == "" {
		return s.cfg.Environments[0], nil
	}
	e, err := opencmg.ParseEnvironment(string(e))
	if err == nil && !slices.Contains(s.cfg.Environments, e) {
		err = opencmg.Errorf(opencmg.Invalid, "environment %s is not offered by this site: choose one of %q", e, s.cfg.Environments)
	}
	return e, err
}

func (s *Server) importApplication(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.ImportApplication
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	env, err := s.environment(in.Environment)
	if err != nil {
		return err
	}
	v := applicationRecord{
		Kind: in.Kind, TenantID: strings.ToLower(in.TenantID), ClientID: strings.ToLower(in.ClientID), IdentifierURI: in.IdentifierURI,
		Imported: true, ServerAppID: in.ServerAppID, SecretExpires: in.SecretExpires.UTC(), FederatedFile: in.FederatedFile,
	}
	if in.Name = strings.TrimSpace(in.Name); in.Name == "" {
		return opencmg.Errorf(opencmg.Invalid, "name: give the name that the registration has in Entra")
	}
	if !opencmg.IsGUID(v.ClientID) {
		return opencmg.Errorf(opencmg.Invalid, "clientId %q: must be the application (client) ID, a GUID, and not the object ID", in.ClientID)
	}
	secret, err := importedCredential(&in, &v, s.cfg.Now())
	if err != nil {
		return err
	}
	rec := &record[applicationRecord]{ID: newGUID(), Name: in.Name}
	err = s.db.Change(r.Context(), "import application", func(tx *sitedb.Tx) error {
		if v.Kind == adminservice.ClientApplication && v.ServerAppID != "" {
			server, err := get[applicationRecord](tx, kindApplication, v.ServerAppID)
			if err != nil || server.Value.Kind != adminservice.ServerApplication {
				return opencmg.Errorf(opencmg.NotFound, "serverAppId: there is no server application %s", v.ServerAppID)
			}
			v.TenantID = server.Value.TenantID
		}
		if !opencmg.IsGUID(v.TenantID) {
			return opencmg.Errorf(opencmg.Invalid, "tenantId %q: must be the directory (tenant) ID, a GUID", in.TenantID)
		}
		if err := ensureTenant(tx, v.TenantID, in.TenantName, env); err != nil {
			return err
		}
		apps, err := all[applicationRecord](tx, kindApplication)
		if err != nil {
			return err
		}
		for _, a := range apps {
			if a.Value.ClientID == v.ClientID && a.Value.TenantID == v.TenantID {
				return opencmg.Errorf(opencmg.Conflict, "the application with client ID %s is recorded already, as %s %s: server and client app are two registrations", v.ClientID, a.Value.Kind, a.Name)
			}
		}
		rec.Value = v
		if err := rec.put(tx, kindApplication); err != nil {
			return err
		}
		if len(secret) > 0 {
			if err := tx.PutSecret(appSecret(rec.ID), secret); err != nil {
				return err
			}
		}
		return s.audit(r.Context(), tx, msgCreated, kindApplication, rec.ID, "imported %s %s of tenant %s", v.Kind, rec.Name, v.TenantID)
	})
	if err != nil {
		return err
	}
	if v.Kind == adminservice.ServerApplication && !in.SkipVerify {
		if err := s.verifyServerApp(r.Context(), rec, ""); err != nil {
			// What does not work is not kept: the administrator corrects the
			// input and imports it again.
			undo := s.db.Change(r.Context(), "import application", func(tx *sitedb.Tx) error {
				if err := tx.DeleteSecret(appSecret(rec.ID)); err != nil {
					return err
				}
				if err := tx.Delete(kindApplication, rec.ID, 0); err != nil {
					return err
				}
				return s.audit(r.Context(), tx, msgDeleted, kindApplication, rec.ID, "took %s %s back: it could not be verified", v.Kind, rec.Name)
			})
			if undo != nil {
				return undo
			}
			return cloudProblem(err, "the application could not be verified, and was not recorded")
		}
	}
	tenants, err := readAll[tenantRecord](r.Context(), s.db, kindTenant)
	if err != nil {
		return err
	}
	return answerOne(w, http.StatusCreated, rec.Version, application(rec, tenants))
}

// importedCredential checks how an imported app signs in, and returns what is
// to be kept as a secret.
func importedCredential(in *adminservice.ImportApplication, v *applicationRecord, now time.Time) ([]byte, error) {
	given := 0
	for _, s := range []string{in.Secret, in.CertificatePEM, in.FederatedFile} {
		if s != "" {
			given++
		}
	}
	switch v.Kind {
	case adminservice.ClientApplication:
		if given > 0 {
			return nil, opencmg.Errorf(opencmg.Invalid, "a client application is a public client: it has no secret")
		}
		return nil, nil
	case adminservice.ServerApplication:
	default:
		return nil, opencmg.Errorf(opencmg.Invalid, "kind %q: must be %s or %s", v.Kind, adminservice.ServerApplication, adminservice.ClientApplication)
	}
	switch {
	case given != 1:
		return nil, opencmg.Errorf(opencmg.Invalid, "give one of secret (with secretExpires), certificatePem and federatedTokenFile")
	case in.CertificatePEM != "":
		pair, err := pki.ParseKeyPair([]byte(in.CertificatePEM))
		if err != nil {
			return nil, opencmg.Errorf(opencmg.Invalid, "certificatePem: %w", err)
		}
		v.Credential, v.SecretExpires = credentialCertificate, pair.Leaf.NotAfter.UTC()
		return []byte(in.CertificatePEM), nil
	case in.FederatedFile != "":
		v.Credential = credentialFederated
		return nil, nil
	}
	if in.SecretExpires.IsZero() {
		return nil, opencmg.Errorf(opencmg.Invalid, "secretExpires: give the date on which the secret ends, as Entra shows it: nobody else will remind you")
	}
	if in.SecretExpires.Before(now) {
		return nil, opencmg.Errorf(opencmg.Invalid, "secretExpires: the secret ended at %s: make a new one in Entra", in.SecretExpires.UTC().Format(time.RFC3339))
	}
	v.Credential = credentialSecret
	return []byte(in.Secret), nil
}

// signInAs is the way a server app signs in.
func (s *Server) signInAs(ctx context.Context, app *record[applicationRecord], subscription string) (CloudSignIn, error) {
	t, err := read[tenantRecord](ctx, s.db, kindTenant, app.Value.TenantID)
	if err != nil {
		return CloudSignIn{}, err
	}
	in := CloudSignIn{Environment: t.Value.Environment, TenantID: t.ID, SubscriptionID: subscription, ClientID: app.Value.ClientID}
	if app.Value.Credential == credentialFederated {
		in.FederatedFile = app.Value.FederatedFile
		return in, nil
	}
	secret, err := s.db.Secret(ctx, appSecret(app.ID))
	if err != nil {
		return in, err
	}
	if app.Value.Credential == credentialCertificate {
		in.CertificatePEM = secret
	} else {
		in.Secret = string(secret)
	}
	return in, nil
}

// verifyServerApp proves that the app can sign in.
func (s *Server) verifyServerApp(ctx context.Context, app *record[applicationRecord], subscription string) error {
	in, err := s.signInAs(ctx, app, subscription)
	if err != nil {
		return err
	}
	cloud, err := s.cfg.Cloud(in)
	if err != nil {
		return err
	}
	return cloud.SignIn(ctx)
}

func (s *Server) verifyApplication(w http.ResponseWriter, r *http.Request) error {
	app, err := read[applicationRecord](r.Context(), s.db, kindApplication, r.PathValue("id"))
	if err != nil {
		return err
	}
	check := opencmg.Check{ID: "sign-in", Name: "The application signs in", State: opencmg.CheckPass, Evidence: "a token for Azure Resource Manager was issued"}
	if app.Value.Kind == adminservice.ClientApplication {
		check.State, check.Evidence = opencmg.CheckTodo, "a client application signs in on devices only"
	} else if err := s.verifyServerApp(r.Context(), app, ""); err != nil {
		check.State, check.Evidence = opencmg.CheckFail, err.Error()
	}
	return answer(w, http.StatusOK, adminservice.Page[opencmg.Check]{Value: []opencmg.Check{check}})
}

func (s *Server) deleteApplication(w http.ResponseWriter, r *http.Request) error {
	return remove(s, w, r, kindApplication, "application", func(tx *sitedb.Tx, rec *record[applicationRecord]) error {
		services, err := all[azureServiceRecord](tx, kindAzureService)
		if err != nil {
			return err
		}
		for _, v := range services {
			if v.Value.ServerAppID == rec.ID || v.Value.ClientAppID == rec.ID {
				return opencmg.Errorf(opencmg.Conflict, "Azure service %s uses the application: delete it first", v.Name)
			}
		}
		gateways, err := all[gatewayRecord](tx, kindGateway)
		if err != nil {
			return err
		}
		for _, g := range gateways {
			if g.Value.ServerAppID == rec.ID {
				return opencmg.Errorf(opencmg.Conflict, "gateway %s is deployed by the application: delete it first", g.Name)
			}
		}
		apps, err := all[applicationRecord](tx, kindApplication)
		if err != nil {
			return err
		}
		for _, a := range apps {
			if a.Value.ServerAppID == rec.ID {
				return opencmg.Errorf(opencmg.Conflict, "client application %s belongs to the application: delete it first", a.Name)
			}
		}
		return tx.DeleteSecret(appSecret(rec.ID))
	})
}

// createApplications makes both registrations as an operation.
func (s *Server) createApplications(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.CreateApplications
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	var err error
	if in.Environment, err = s.environment(in.Environment); err != nil {
		return err
	}
	in.TenantID = strings.ToLower(in.TenantID)
	if !opencmg.IsGUID(in.TenantID) {
		return opencmg.Errorf(opencmg.Invalid, "tenantId %q: must be the directory (tenant) ID, a GUID", in.TenantID)
	}
	if in.ServerName == "" || in.ClientName == "" || sameName(in.ServerName, in.ClientName) {
		return opencmg.Errorf(opencmg.Invalid, "serverName and clientName: give the two registrations different names")
	}
	if in.SecretYears == 0 {
		in.SecretYears = 1
	}
	if in.SecretYears != 1 && in.SecretYears != 2 {
		return opencmg.Errorf(opencmg.Invalid, "secretYears: must be 1 or 2")
	}
	if err := checkSignIn(&in.SignIn); err != nil {
		return err
	}
	op, err := s.manager.begin(r.Context(), opCreateApps, kindTenant, in.TenantID, func(tx *sitedb.Tx, op *sitedb.Operation) error {
		// The request holds the administrator's secret, so it is kept as one.
		if err := tx.PutSecret(operationSecret(op.ID), mustJSON(in)); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgAsked, kindTenant, in.TenantID, "asked for app registrations %s and %s", in.ServerName, in.ClientName)
	})
	if err != nil {
		return err
	}
	return accepted(w, op)
}

// checkSignIn wants one way to sign in.
func checkSignIn(in *adminservice.SignIn) error {
	ways := 0
	for _, given := range []bool{in.Secret != "", in.DeviceCode, in.ManagedIdentity} {
		if given {
			ways++
		}
	}
	if ways != 1 || in.Secret != "" && in.ClientID == "" {
		return opencmg.Errorf(opencmg.Invalid, "signIn: choose one of secret (with clientId), deviceCode and managedIdentity")
	}
	return nil
}

func operationSecret(id string) string { return "operation/" + id }

// performCreateApps is the operation behind createApplications. Both calls to
// the directory find what an earlier try made.
func (s *Server) performCreateApps(ctx context.Context, r *run) error {
	text, err := s.db.Secret(ctx, operationSecret(r.op.ID))
	if err != nil {
		return err
	}
	var in adminservice.CreateApplications
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	dir, err := s.cfg.Directory(CloudSignIn{
		Environment: in.Environment, TenantID: in.TenantID, ClientID: in.SignIn.ClientID, Secret: in.SignIn.Secret, ManagedIdentity: in.SignIn.ManagedIdentity,
		DeviceCode: deviceCode(in.SignIn.DeviceCode, func(msg string) { r.say("sign-in", msg) }),
	})
	if err != nil {
		return err
	}
	if err := r.step(ctx, "sign-in", 5, "sign in to tenant "+in.TenantID); err != nil {
		return err
	}
	if err := dir.SignInGraph(ctx); err != nil {
		return err
	}
	info, err := dir.Tenant(ctx)
	if err != nil {
		return err
	}
	if in.IdentifierURI == "" {
		in.IdentifierURI = "api://" + in.TenantID + "/" + strings.ToLower(r.op.ID)
	}
	if err := r.step(ctx, "server-app", 20, "register server app "+in.ServerName); err != nil {
		return err
	}
	server, err := dir.CreateServerApp(ctx, azure.ServerAppRequest{
		Owner: r.op.ID, Name: in.ServerName, AppIDURI: in.IdentifierURI, Term: term(in.SecretYears), ReadDirectory: in.DirectoryRead,
	}, r.say)
	if err != nil {
		return err
	}
	serverRec, err := s.recordApp(ctx, in, info.Name, adminservice.ServerApplication, in.ServerName, applicationRecord{
		ClientID: server.AppID, ObjectID: server.ObjectID, IdentifierURI: in.IdentifierURI, Credential: credentialSecret,
		KeyID: server.Secret.KeyID, SecretExpires: server.Secret.Expires, ScopeID: server.ScopeID,
	}, []byte(string(server.Secret.Value)))
	if err != nil {
		return err
	}
	if err := r.step(ctx, "client-app", 60, "register client app "+in.ClientName); err != nil {
		return err
	}
	client, err := dir.CreateClientApp(ctx, azure.ClientAppRequest{
		Owner: r.op.ID, Name: in.ClientName, ServerAppID: server.AppID, ScopeID: server.ScopeID,
	}, r.say)
	if err != nil {
		return err
	}
	clientRec, err := s.recordApp(ctx, in, info.Name, adminservice.ClientApplication, in.ClientName, applicationRecord{
		ClientID: client.AppID, ObjectID: client.ObjectID, ServerAppID: serverRec.ID,
	}, nil)
	if err != nil {
		return err
	}
	r.say("done", "server app "+server.AppID+", client app "+client.AppID)
	r.result = mustJSON(adminservice.CreatedApplications{ServerAppID: serverRec.ID, ClientAppID: clientRec.ID})
	return s.db.Change(ctx, "forget sign-in", func(tx *sitedb.Tx) error { return tx.DeleteSecret(operationSecret(r.op.ID)) })
}

func deviceCode(wanted bool, say func(string)) func(string) {
	if !wanted {
		return nil
	}
	return say
}

// recordApp records a registration that the site made; an earlier try may have
// recorded it.
func (s *Server) recordApp(ctx context.Context, in adminservice.CreateApplications, tenantName, kind, name string, v applicationRecord, secret []byte) (*record[applicationRecord], error) {
	v.Kind, v.TenantID = kind, in.TenantID
	v.ClientID = strings.ToLower(v.ClientID)
	var rec *record[applicationRecord]
	err := s.db.Change(ctx, "record application", func(tx *sitedb.Tx) error {
		if err := ensureTenant(tx, in.TenantID, tenantName, in.Environment); err != nil {
			return err
		}
		apps, err := all[applicationRecord](tx, kindApplication)
		if err != nil {
			return err
		}
		rec = &record[applicationRecord]{ID: newGUID(), Name: name}
		for _, a := range apps {
			if a.Value.ClientID == v.ClientID {
				rec = a
			}
		}
		rec.Value = v
		if len(secret) > 0 {
			if err := tx.PutSecret(appSecret(rec.ID), secret); err != nil {
				return err
			}
		}
		return rec.put(tx, kindApplication)
	})
	return rec, err
}

// azureServiceRecord connects the site to a tenant.
type azureServiceRecord struct {
	Description string              `json:"description,omitempty"`
	Environment opencmg.Environment `json:"environment"`
	TenantID    string              `json:"tenantId"`
	ServerAppID string              `json:"serverAppId"`
	ClientAppID string              `json:"clientAppId"`

	UserDiscovery     bool     `json:"userDiscovery"`
	UserDeltaMinutes  int      `json:"userDeltaMinutes"`
	GroupDiscovery    bool     `json:"groupDiscovery"`
	GroupDeltaMinutes int      `json:"groupDeltaMinutes"`
	Groups            []string `json:"groups,omitempty"`
}

func azureService(r *record[azureServiceRecord]) adminservice.AzureService {
	v := r.Value
	return adminservice.AzureService{
		ID: r.ID, Version: r.Version, Name: r.Name, Description: v.Description, Environment: v.Environment, TenantID: v.TenantID,
		ServerAppID: v.ServerAppID, ClientAppID: v.ClientAppID, UserDiscovery: v.UserDiscovery, UserDeltaMinutes: v.UserDeltaMinutes,
		GroupDiscovery: v.GroupDiscovery, GroupDeltaMinutes: v.GroupDeltaMinutes, DiscoveredGroups: v.Groups,
	}
}

func (s *Server) listAzureServices(w http.ResponseWriter, r *http.Request) error {
	records, err := readAll[azureServiceRecord](r.Context(), s.db, kindAzureService)
	if err != nil {
		return err
	}
	var list []adminservice.AzureService
	for _, rec := range records {
		v, err := s.showService(r.Context(), rec)
		if err != nil {
			return err
		}
		list = append(list, v)
	}
	return answerList(w, r, list)
}

// check fills the record from the request and looks at its applications.
func (v *azureServiceRecord) check(tx *sitedb.Tx, in *adminservice.AzureService) error {
	*v = azureServiceRecord{
		Description: in.Description, ServerAppID: in.ServerAppID, ClientAppID: in.ClientAppID,
		UserDiscovery: in.UserDiscovery, UserDeltaMinutes: in.UserDeltaMinutes, GroupDiscovery: in.GroupDiscovery, GroupDeltaMinutes: in.GroupDeltaMinutes, Groups: in.DiscoveredGroups,
	}
	for _, m := range []*int{&v.UserDeltaMinutes, &v.GroupDeltaMinutes} {
		if *m == 0 {
			*m = 5
		}
		if *m < 5 || *m > 60*24 {
			return opencmg.Errorf(opencmg.Invalid, "delta discovery: the interval must be 5 to 1440 minutes")
		}
	}
	server, err := get[applicationRecord](tx, kindApplication, v.ServerAppID)
	if err != nil || server.Value.Kind != adminservice.ServerApplication {
		return opencmg.Errorf(opencmg.Invalid, "serverAppId: there is no server application %q: import or create one", v.ServerAppID)
	}
	client, err := get[applicationRecord](tx, kindApplication, v.ClientAppID)
	if err != nil || client.Value.Kind != adminservice.ClientApplication {
		return opencmg.Errorf(opencmg.Invalid, "clientAppId: there is no client application %q: import or create one", v.ClientAppID)
	}
	if server.Value.TenantID != client.Value.TenantID {
		return opencmg.Errorf(opencmg.Invalid, "%s and %s are of different tenants", server.Name, client.Name)
	}
	t, err := get[tenantRecord](tx, kindTenant, server.Value.TenantID)
	if err != nil {
		return err
	}
	v.TenantID, v.Environment = t.ID, t.Value.Environment
	return nil
}

func (s *Server) addAzureService(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.AzureService
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	if in.Name = strings.TrimSpace(in.Name); in.Name == "" {
		return opencmg.Errorf(opencmg.Invalid, "name: give the Azure service a name")
	}
	rec := &record[azureServiceRecord]{Name: in.Name}
	err := s.db.Change(r.Context(), "add Azure service", func(tx *sitedb.Tx) error {
		if err := rec.Value.check(tx, &in); err != nil {
			return err
		}
		if err := onlyServiceOfTenant(tx, rec); err != nil {
			return err
		}
		n, err := tx.NextNumber(kindAzureService)
		if err != nil {
			return err
		}
		rec.ID = strconv.FormatInt(n, 10)
		if err := rec.put(tx, kindAzureService); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgCreated, kindAzureService, rec.ID, "added Azure service %s for tenant %s", rec.Name, rec.Value.TenantID)
	})
	if err != nil {
		return err
	}
	return answerOne(w, http.StatusCreated, rec.Version, azureService(rec))
}

func (s *Server) changeAzureService(w http.ResponseWriter, r *http.Request) error {
	var change adminservice.AzureServiceChange
	if err := decodeBody(r, &change); err != nil {
		return err
	}
	version, err := ifMatch(r)
	if err != nil {
		return err
	}
	rec, err := update(r.Context(), s.db, kindAzureService, r.PathValue("id"), func(tx *sitedb.Tx, rec *record[azureServiceRecord]) error {
		if err := rec.expect(version); err != nil {
			return err
		}
		if err := rename(&rec.Name, change.Name); err != nil {
			return err
		}
		in, groups := azureService(rec), rec.Value.Groups
		set(&in.Description, change.Description)
		set(&in.ServerAppID, change.ServerAppID)
		set(&in.ClientAppID, change.ClientAppID)
		set(&in.UserDiscovery, change.UserDiscovery)
		set(&in.UserDeltaMinutes, change.UserDeltaMinutes)
		set(&in.GroupDiscovery, change.GroupDiscovery)
		set(&in.GroupDeltaMinutes, change.GroupDeltaMinutes)
		set(&in.DiscoveredGroups, change.DiscoveredGroups)
		if err := rec.Value.check(tx, &in); err != nil {
			return err
		}
		if !slices.Equal(groups, rec.Value.Groups) {
			// Another choice: only a full discovery finds what is missing.
			if err := forgetDiscovery(tx, rec.ID, sitedb.DirectoryGroup); err != nil {
				return err
			}
		}
		if err := onlyServiceOfTenant(tx, rec); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgChanged, kindAzureService, rec.ID, "changed Azure service %s", rec.Name)
	})
	if err != nil {
		return err
	}
	v, err := s.showService(r.Context(), rec)
	if err != nil {
		return err
	}
	return answerOne(w, http.StatusOK, rec.Version, v)
}

// onlyServiceOfTenant refuses a second Azure service for a tenant: gateways
// are told about a tenant once.
func onlyServiceOfTenant(tx *sitedb.Tx, rec *record[azureServiceRecord]) error {
	others, err := all[azureServiceRecord](tx, kindAzureService)
	if err != nil {
		return err
	}
	for _, o := range others {
		if o.ID != rec.ID && o.Value.TenantID == rec.Value.TenantID {
			return opencmg.Errorf(opencmg.Conflict, "tenant %s is connected already, by Azure service %s", o.Value.TenantID, o.Name)
		}
	}
	return nil
}

func (s *Server) deleteAzureService(w http.ResponseWriter, r *http.Request) error {
	return remove[azureServiceRecord](s, w, r, kindAzureService, "Azure service", func(tx *sitedb.Tx, rec *record[azureServiceRecord]) error {
		for _, kind := range []string{sitedb.DirectoryUser, sitedb.DirectoryGroup} {
			if err := forgetDiscovery(tx, rec.ID, kind); err != nil {
				return err
			}
		}
		return tx.RemoveDirectory(rec.Value.TenantID)
	})
}

// entraVerifier checks tokens of the site's tenants for its server
// applications.
func (s *Server) entraVerifier(ctx context.Context) (*pki.TokenVerifier, error) {
	var cfg opencmg.PublishedConfiguration
	err := s.db.View(ctx, "read tenants", func(tx *sitedb.Tx) (err error) {
		cfg.Tenants, err = publishedTenants(tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return pki.NewTokenVerifier(&cfg, s.jwks, s.log)
}
