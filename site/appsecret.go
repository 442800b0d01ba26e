package site

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
		return opencmg.Errorf(opencmg.Invalid, "secretYears: must be 1 or 2").About("secretYears")
	}
	if in.Secret != "" && !in.SecretExpires.After(s.cfg.Now()) {
		return opencmg.Errorf(opencmg.Invalid, "secretExpires: give the date on which the new secret ends, as Entra shows it").About("secretExpires")
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
		return nil // done, and the request forgotten
	}
	if err != nil {
		return err
	}
	var in adminservice.RenewSecret
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	if app.Value.RenewedBy != r.op.ID {
		if app, err = s.replaceSecret(ctx, r, app, &in); err != nil {
			return err
		}
	}
	return s.removeOldSecret(ctx, r, app, &in)
}

// renewer is the directory as whoever changes the registration sees it: the
// person or app that signs in, or the application itself.
func (s *Server) renewer(ctx context.Context, r *run, app *record[applicationRecord], in *adminservice.SignIn) (Directory, error) {
	how, err := s.signInAs(ctx, app, "")
	if err != nil {
		return nil, err
	}
	if in != nil {
		how = CloudSignIn{
			Environment: how.Environment, TenantID: how.TenantID, ClientID: in.ClientID, Secret: in.Secret, ManagedIdentity: in.ManagedIdentity,
			DeviceCode: deviceCode(in.DeviceCode, func(msg string) { r.say("sign-in", msg) }),
		}
	}
	return s.cfg.Directory(how)
}

// replaceSecret gets the new secret and records it.
func (s *Server) replaceSecret(ctx context.Context, r *run, app *record[applicationRecord], in *adminservice.RenewSecret) (*record[applicationRecord], error) {
	if err := r.step(ctx, "secret", 20, "get a new secret for application "+app.Name); err != nil {
		return nil, err
	}
	fresh := azure.NewSecret{Value: azure.Secret(in.Secret), Expires: in.SecretExpires.UTC()}
	if in.Secret == "" {
		dir, err := s.renewer(ctx, r, app, in.SignIn)
		if err != nil {
			return nil, err
		}
		if fresh, err = dir.RenewSecret(ctx, app.Value.ClientID, term(in.SecretYears)); err != nil {
			if ce, ok := errors.AsType[*opencmg.CloudError](err); ok && ce.Status == http.StatusForbidden && in.SignIn == nil {
				err = fmt.Errorf("%w; or sign in as an administrator of the tenant (signIn), or paste a secret that was made in the portal", err)
			}
			return nil, err
		}
	} else {
		// Given by hand: it is proved here.
		how, err := s.signInAs(ctx, app, "")
		if err != nil {
			return nil, err
		}
		how.Secret = in.Secret
		cloud, err := s.cfg.Cloud(how)
		if err != nil {
			return nil, err
		}
		if err := cloud.SignIn(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.step(ctx, "record", 70, "record the new secret, valid until "+fresh.Expires.Format(time.DateOnly)); err != nil {
		return nil, err
	}
	return update(ctx, s.db, kindApplication, app.ID, func(tx *sitedb.Tx, rec *record[applicationRecord]) error {
		// Of a secret that was given by hand nobody knows the ID.
		rec.Value.OldKeyID, rec.Value.KeyID, rec.Value.SecretExpires = rec.Value.KeyID, fresh.KeyID, fresh.Expires
		rec.Value.RenewedBy = r.op.ID
		if fresh.KeyID == "" {
			rec.Value.OldKeyID = ""
		}
		return tx.PutSecret(appSecret(rec.ID), []byte(string(fresh.Value)))
	})
}

// removeOldSecret takes the old secret away. It ends by itself; removing it
// early is tidiness, and no reason to fail.
func (s *Server) removeOldSecret(ctx context.Context, r *run, app *record[applicationRecord], in *adminservice.RenewSecret) error {
	if app.Value.OldKeyID != "" && app.Value.ObjectID != "" {
		if err := r.step(ctx, "remove", 90, "remove the old secret of application "+app.Name); err != nil {
			return err
		}
		dir, err := s.renewer(ctx, r, app, in.SignIn)
		if err == nil {
			err = dir.RemoveSecret(ctx, app.Value.ObjectID, app.Value.OldKeyID)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r.say("remove", "the old secret could not be removed and works until its own end: "+err.Error())
		}
	}
	_, err := update(ctx, s.db, kindApplication, app.ID, func(tx *sitedb.Tx, rec *record[applicationRecord]) error {
		rec.Value.OldKeyID = ""
		return tx.DeleteSecret(operationSecret(r.op.ID))
	})
	return err
}
