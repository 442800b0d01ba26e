package site

import (
	"context"
	"encoding/json"
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
		KeyID: server.Secret.KeyID, SecretExpires: server.Secret.Expires, ScopeID: server.ScopeID, Consent: server.Consent,
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
		ClientID: client.AppID, ObjectID: client.ObjectID, ServerAppID: serverRec.ID, Consent: &client.Consent,
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
