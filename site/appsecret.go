package site

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/azure"
	"github.com/opencmg/opencmg/sitedb"
)

// renewSecret replaces the secret of a server app. Entra makes the new one and
// keeps the old one until the new one was proved (azure.md 7).
func (s *Server) renewSecret(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.RenewSecret
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	if in.SecretYears != 0 && in.SecretYears != 1 && in.SecretYears != 2 {
		return opencmg.Errorf(opencmg.Invalid, "secretYears: must be 1 or 2")
	}
	if in.Secret != "" && !in.SecretExpires.After(s.cfg.Now()) {
		return opencmg.Errorf(opencmg.Invalid, "secretExpires: give the date on which the new secret ends, as Entra shows it")
	}
	if in.SignIn != nil {
		if in.Secret != "" {
			return opencmg.Errorf(opencmg.Invalid, "secret and signIn: give the new secret, or who makes one")
		}
		if err := checkSignIn(in.SignIn); err != nil {
			return err
		}
	}
	op, err := s.manager.begin(r.Context(), opRenewSecret, kindApplication, r.PathValue("id"), func(tx *sitedb.Tx, op *sitedb.Operation) error {
		app, err := get[applicationRecord](tx, kindApplication, r.PathValue("id"))
		if err != nil {
			return err
		}
		if app.Value.Credential != credentialSecret {
			return opencmg.Errorf(opencmg.Conflict, "application %s signs in by %q and has no secret", app.Name, app.Value.Credential)
		}
		if err := tx.PutSecret(operationSecret(op.ID), mustJSON(in)); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgAsked, kindApplication, app.ID, "asked for a new secret of application %s", app.Name)
	})
	if err != nil {
		return err
	}
	return accepted(w, op)
}

// performRenewSecret gets a new secret, proves it, and only then lets the old
// one go. Done again after the process was killed, it makes another secret when
// the first one was not recorded yet; Entra forgets that one at its end.
func (s *Server) performRenewSecret(ctx context.Context, r *run) error {
	app, err := read[applicationRecord](ctx, s.db, kindApplication, r.op.SubjectID)
	if err != nil {
		return err
	}
	text, err := s.db.Secret(ctx, operationSecret(r.op.ID))
	if errors.Is(err, opencmg.NotFound) {
		return nil // recorded, and the request forgotten
	}
	if err != nil {
		return err
	}
	var in adminservice.RenewSecret
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	if err := r.step(ctx, "secret", 20, "get a new secret for application "+app.Name); err != nil {
		return err
	}
	now, err := s.signInAs(ctx, app, "")
	if err != nil {
		return err
	}
	as := now
	if in.SignIn != nil {
		as = CloudSignIn{Environment: now.Environment, TenantID: now.TenantID, ClientID: in.SignIn.ClientID, Secret: in.SignIn.Secret, ManagedIdentity: in.SignIn.ManagedIdentity,
			DeviceCode: deviceCode(in.SignIn.DeviceCode, func(msg string) { r.say("sign-in", msg) })}
	}
	dir, err := s.cfg.Directory(as)
	if err != nil {
		return err
	}
	fresh := azure.NewSecret{Value: azure.Secret(in.Secret), Expires: in.SecretExpires.UTC()}
	if in.Secret == "" {
		if fresh, err = dir.RenewSecret(ctx, app.Value.ClientID, term(in.SecretYears)); err != nil {
			return err
		}
	} else {
		// Given by hand: it is proved here.
		now.Secret = in.Secret
		cloud, err := s.cfg.Cloud(now)
		if err != nil {
			return err
		}
		if err := cloud.SignIn(ctx); err != nil {
			return err
		}
	}
	if err := r.step(ctx, "record", 70, "record the new secret, valid until "+fresh.Expires.Format(time.DateOnly)); err != nil {
		return err
	}
	old := app.Value.KeyID
	app, err = update(ctx, s.db, kindApplication, app.ID, func(tx *sitedb.Tx, rec *record[applicationRecord]) error {
		rec.Value.KeyID, rec.Value.SecretExpires = fresh.KeyID, fresh.Expires
		if err := tx.PutSecret(appSecret(rec.ID), []byte(string(fresh.Value))); err != nil {
			return err
		}
		return tx.DeleteSecret(operationSecret(r.op.ID))
	})
	if err != nil {
		return err
	}
	if old == "" || old == fresh.KeyID || app.Value.ObjectID == "" {
		return nil
	}
	// The old secret ends by itself; removing it early is tidiness.
	if err := dir.RemoveSecret(ctx, app.Value.ObjectID, old); err != nil {
		r.say("remove", "the old secret could not be removed and works until its own end: "+err.Error())
	}
	return nil
}
