package site

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/azure"
	"github.com/opencmg/opencmg/sitedb"
)

// updateAppSettings brings the registration of a server app up to date
// (cmg-behaviour S5).
func (s *Server) updateAppSettings(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.UpdateSettings
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	if in.SignIn != nil {
		if err := checkSignIn(in.SignIn); err != nil {
			return err
		}
	}
	op, err := s.manager.begin(r.Context(), opAppSettings, kindApplication, r.PathValue("id"), func(tx *sitedb.Tx, op *sitedb.Operation) error {
		app, err := get[applicationRecord](tx, kindApplication, r.PathValue("id"))
		if err != nil {
			return err
		}
		if app.Value.Kind != adminservice.ServerApplication {
			return opencmg.Errorf(opencmg.Invalid, "%s is a client application: only server applications have settings that get out of date", app.Name)
		}
		if err := tx.PutSecret(operationSecret(op.ID), mustJSON(in)); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgAsked, kindApplication, app.ID, "asked to bring the registration of application %s up to date", app.Name)
	})
	if err != nil {
		return err
	}
	return accepted(w, op)
}

// performAppSettings is the operation behind it; doing it twice changes nothing.
func (s *Server) performAppSettings(ctx context.Context, r *run) error {
	app, err := read[applicationRecord](ctx, s.db, kindApplication, r.op.SubjectID)
	if err != nil {
		return err
	}
	text, err := s.db.Secret(ctx, operationSecret(r.op.ID))
	if err != nil {
		return err
	}
	var in adminservice.UpdateSettings
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	dir, err := s.renewer(ctx, r, app, in.SignIn)
	if err != nil {
		return err
	}
	if err := r.step(ctx, "settings", 20, "bring the registration of "+app.Name+" up to date"); err != nil {
		return err
	}
	if _, err := dir.UpdateApplicationSettings(ctx, app.Value.ClientID, azure.AppSettings{DeviceTokens: true, LocalRedirect: true, WebRedirects: s.webRedirects()}, r.say); err != nil {
		return err
	}
	return s.db.Change(ctx, "forget sign-in", func(tx *sitedb.Tx) error { return tx.DeleteSecret(operationSecret(r.op.ID)) })
}
