package site

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
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
	// Consent is what came of granting it when the site made the app: for all
	// users at a client app, to read the directory at a server app.
	Consent *opencmg.Check `json:"consent,omitempty"`
}

// Ways in which a server app signs in.
const (
	credentialSecret      = "secret"
	credentialCertificate = "certificate"
	credentialFederated   = "federated"
)

func appSecret(id string) string { return "application/" + id }

func tenant(r *record[tenantRecord]) adminservice.Tenant {
	return adminservice.Tenant{ID: r.ID, Version: r.Version, Name: r.Name, Environment: r.Value.Environment, DisableAuthentication: r.Value.Disabled}
}

func (s *Server) changeTenant(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.TenantChange
	version, err := decodeChange(r, &in)
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
		err = opencmg.Errorf(opencmg.Invalid, "environment %s is not offered by this site: choose one of %q", e, s.cfg.Environments).About("environment")
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
		return opencmg.Errorf(opencmg.Invalid, "name: give the name that the registration has in Entra").About("name")
	}
	if !opencmg.IsGUID(v.ClientID) {
		return opencmg.Errorf(opencmg.Invalid, "clientId %q: must be the application (client) ID, a GUID, and not the object ID", in.ClientID).About("clientId")
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
				return opencmg.Errorf(opencmg.NotFound, "serverAppId: there is no server application %s: import or create it first", v.ServerAppID).About("serverAppId")
			}
			v.TenantID = server.Value.TenantID
		}
		if !opencmg.IsGUID(v.TenantID) {
			return opencmg.Errorf(opencmg.Invalid, "tenantId %q: must be the directory (tenant) ID, a GUID", in.TenantID).About("tenantId")
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
				return opencmg.Errorf(opencmg.Conflict, "the application with client ID %s is recorded already, as %s %s: server and client app are two registrations", v.ClientID, a.Value.Kind, a.Name).About("clientId")
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
			return nil, opencmg.Errorf(opencmg.Invalid, "a client application is a public client: it has no secret").About("secret")
		}
		return nil, nil
	case adminservice.ServerApplication:
	default:
		return nil, opencmg.Errorf(opencmg.Invalid, "kind %q: must be %s or %s", v.Kind, adminservice.ServerApplication, adminservice.ClientApplication).About("kind")
	}
	switch {
	case given != 1:
		return nil, opencmg.Errorf(opencmg.Invalid, "give one of secret (with secretExpires), certificatePem and federatedTokenFile").About("secret")
	case in.CertificatePEM != "":
		pair, err := pki.ParseKeyPair([]byte(in.CertificatePEM))
		if err != nil {
			return nil, opencmg.Errorf(opencmg.Invalid, "certificatePem: %w", err).About("certificatePem")
		}
		v.Credential, v.SecretExpires = credentialCertificate, pair.Leaf.NotAfter.UTC()
		return []byte(in.CertificatePEM), nil
	case in.FederatedFile != "":
		v.Credential = credentialFederated
		return nil, nil
	}
	if in.SecretExpires.IsZero() {
		return nil, opencmg.Errorf(opencmg.Invalid, "secretExpires: give the date on which the secret ends, as Entra shows it: nobody else will remind you").About("secretExpires")
	}
	if in.SecretExpires.Before(now) {
		return nil, opencmg.Errorf(opencmg.Invalid, "secretExpires: the secret ended at %s: make a new one in Entra", in.SecretExpires.UTC().Format(time.RFC3339)).About("secretExpires")
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
