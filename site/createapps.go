package site

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/azure"
	"github.com/opencmg/opencmg/sitedb"
)

// createApplications makes both registrations as an operation.
func (s *Server) createApplications(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.CreateApplications
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	if err := s.forServerApp(r.Context(), &in); err != nil {
		return err
	}
	var err error
	if in.Environment, err = s.environment(in.Environment); err != nil {
		return err
	}
	in.TenantID = strings.ToLower(in.TenantID)
	if !opencmg.IsGUID(in.TenantID) {
		return opencmg.Errorf(opencmg.Invalid, "tenantId %q: must be the directory (tenant) ID, a GUID", in.TenantID).About("tenantId")
	}
	if err := checkAppNames(&in); err != nil {
		return err
	}
	if in.SecretYears == 0 {
		in.SecretYears = 1
	}
	if in.SecretYears != 1 && in.SecretYears != 2 {
		return opencmg.Errorf(opencmg.Invalid, "secretYears: must be 1 or 2").About("secretYears")
	}
	if err := checkSignIn(&in.SignIn); err != nil {
		return err
	}
	if err := s.checkWishedService(r.Context(), &in); err != nil {
		return err
	}
	op, err := s.manager.begin(r.Context(), opCreateApps, kindTenant, in.TenantID, func(tx *sitedb.Tx, op *sitedb.Operation) error {
		// The request holds the administrator's secret, so it is kept as one.
		if err := tx.PutSecret(operationSecret(op.ID), mustJSON(in)); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgAsked, kindTenant, in.TenantID, "asked for app registrations %s", strings.Trim(in.ServerName+", "+in.ClientName, ", "))
	})
	if err != nil {
		return err
	}
	return accepted(w, op)
}

// forServerApp takes tenant and environment from the server app that a client app
// alone is for.
func (s *Server) forServerApp(ctx context.Context, in *adminservice.CreateApplications) error {
	if in.ServerAppID == "" {
		return nil
	}
	server, err := read[applicationRecord](ctx, s.db, kindApplication, in.ServerAppID)
	if err != nil || server.Value.Kind != adminservice.ServerApplication {
		return opencmg.Errorf(opencmg.Invalid, "serverAppId: there is no server application %q: import or create one", in.ServerAppID).About("serverAppId")
	}
	if server.Value.ScopeID == "" {
		return opencmg.Errorf(opencmg.Conflict, "serverAppId: %s was imported, and what it exposes is not known: register the client app in the portal, and import it too", server.Name).About("serverAppId")
	}
	t, err := read[tenantRecord](ctx, s.db, kindTenant, server.Value.TenantID)
	if err != nil {
		return err
	}
	in.TenantID, in.Environment = t.ID, t.Value.Environment
	return nil
}

func checkAppNames(in *adminservice.CreateApplications) error {
	in.ServerName, in.ClientName = strings.TrimSpace(in.ServerName), strings.TrimSpace(in.ClientName)
	switch {
	case in.ServerAppID != "" && (in.ServerName != "" || in.ClientName == ""):
		return opencmg.Errorf(opencmg.Invalid, "serverAppId: goes with clientName, and without serverName").About("serverAppId")
	case in.ServerAppID == "" && in.ServerName == "":
		return opencmg.Errorf(opencmg.Invalid, "serverName: give the server app a name, or say with serverAppId which one a client app is for").About("serverName")
	case sameName(in.ServerName, in.ClientName):
		return opencmg.Errorf(opencmg.Invalid, "serverName and clientName: give the two registrations different names").About("clientName")
	}
	return nil
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
		return opencmg.Errorf(opencmg.Invalid, "signIn: choose one of secret (with clientId), deviceCode and managedIdentity").About("signIn")
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
	var made adminservice.CreatedApplications
	if made.ServerAppID, err = s.makeServerApp(ctx, r, dir, &in, info.Name); err != nil {
		return err
	}
	if in.ClientName != "" {
		if made.ClientAppID, err = s.makeClientApp(ctx, r, dir, &in, info.Name, made.ServerAppID); err != nil {
			return err
		}
	}
	if in.Service != nil {
		if err := r.step(ctx, "azure-service", 90, "add Azure service "+in.Service.Name); err != nil {
			return err
		}
	}
	return s.db.Change(ctx, "forget sign-in", func(tx *sitedb.Tx) error {
		if in.Service != nil {
			wish := *in.Service
			wish.ServerAppID, wish.ClientAppID = made.ServerAppID, cmp.Or(made.ClientAppID, wish.ClientAppID)
			rec := &record[azureServiceRecord]{Name: wish.Name}
			if err := s.insertAzureService(ctx, tx, rec, &wish); err != nil {
				return err
			}
			made.AzureServiceID = rec.ID
		}
		r.result = mustJSON(made)
		return tx.DeleteSecret(operationSecret(r.op.ID))
	})
}

// checkWishedService looks at the Azure service that is to be added with the
// registrations before any of them is made.
func (s *Server) checkWishedService(ctx context.Context, in *adminservice.CreateApplications) error {
	w := in.Service
	if w == nil {
		return nil
	}
	if w.Name = strings.TrimSpace(w.Name); w.Name == "" {
		return opencmg.Errorf(opencmg.Invalid, "service.name: give the Azure service a name").About("service.name")
	}
	if (in.ClientName == "") == (w.ClientAppID == "") {
		return opencmg.Errorf(opencmg.Invalid, "service.clientAppId: name a client application that is there, or give clientName for one that is to be made").About("service.clientAppId")
	}
	v := azureServiceRecord{TenantID: in.TenantID, UserDeltaMinutes: w.UserDeltaMinutes, UserFullHours: w.UserFullHours, GroupDeltaMinutes: w.GroupDeltaMinutes, GroupFullHours: w.GroupFullHours}
	if err := v.checkIntervals(); err != nil {
		return opencmg.About("service", err)
	}
	return s.db.View(ctx, "check Azure service", func(tx *sitedb.Tx) error {
		if w.ClientAppID != "" {
			client, err := get[applicationRecord](tx, kindApplication, w.ClientAppID)
			if err != nil || client.Value.Kind != adminservice.ClientApplication || client.Value.TenantID != in.TenantID {
				return opencmg.Errorf(opencmg.Invalid, "service.clientAppId: there is no client application %q of the tenant: import or create one", w.ClientAppID).About("service.clientAppId")
			}
		}
		services, err := all[azureServiceRecord](tx, kindAzureService)
		if err != nil {
			return err
		}
		for _, o := range services {
			if sameName(o.Name, w.Name) {
				return opencmg.Errorf(opencmg.Conflict, "service.name: there is an Azure service %s already: give another name", o.Name).About("service.name")
			}
		}
		err = onlyServiceOfTenant(tx, &record[azureServiceRecord]{Value: v})
		if e, ok := errors.AsType[*opencmg.Error](err); ok && in.ServerAppID == "" {
			return e.About("tenantId")
		}
		return err
	})
}

// makeServerApp registers the server app and returns the ID of its record; that
// of the one that is there when only a client app is wanted.
func (s *Server) makeServerApp(ctx context.Context, r *run, dir Directory, in *adminservice.CreateApplications, tenantName string) (string, error) {
	if in.ServerAppID != "" {
		return in.ServerAppID, nil
	}
	if in.IdentifierURI == "" {
		in.IdentifierURI = "api://" + in.TenantID + "/" + strings.ToLower(r.op.ID)
	}
	if err := r.step(ctx, "server-app", 20, "register server app "+in.ServerName); err != nil {
		return "", err
	}
	app, err := dir.CreateServerApp(ctx, azure.ServerAppRequest{
		Owner: r.op.ID, Name: in.ServerName, AppIDURI: in.IdentifierURI, Term: term(in.SecretYears), ReadDirectory: in.DirectoryRead, WebRedirects: s.webRedirects(),
	}, r.say)
	if err != nil {
		return "", err
	}
	rec, err := s.recordApp(ctx, *in, tenantName, adminservice.ServerApplication, in.ServerName, applicationRecord{
		ClientID: app.AppID, ObjectID: app.ObjectID, IdentifierURI: in.IdentifierURI, Credential: credentialSecret,
		KeyID: app.Secret.KeyID, SecretExpires: app.Secret.Expires, ScopeID: app.ScopeID, Consent: app.Consent,
	}, []byte(string(app.Secret.Value)))
	if err != nil {
		return "", err
	}
	r.say("server-app", "server app "+app.AppID)
	return rec.ID, nil
}

// makeClientApp registers the client app of a server app.
func (s *Server) makeClientApp(ctx context.Context, r *run, dir Directory, in *adminservice.CreateApplications, tenantName, serverID string) (string, error) {
	if err := r.step(ctx, "client-app", 60, "register client app "+in.ClientName); err != nil {
		return "", err
	}
	server, err := read[applicationRecord](ctx, s.db, kindApplication, serverID)
	if err != nil {
		return "", err
	}
	app, err := dir.CreateClientApp(ctx, azure.ClientAppRequest{
		Owner: r.op.ID, Name: in.ClientName, ServerAppID: server.Value.ClientID, ScopeID: server.Value.ScopeID,
	}, r.say)
	if err != nil {
		return "", err
	}
	rec, err := s.recordApp(ctx, *in, tenantName, adminservice.ClientApplication, in.ClientName, applicationRecord{
		ClientID: app.AppID, ObjectID: app.ObjectID, ServerAppID: serverID, Consent: &app.Consent,
	}, nil)
	if err != nil {
		return "", err
	}
	r.say("done", "client app "+app.AppID)
	return rec.ID, nil
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
