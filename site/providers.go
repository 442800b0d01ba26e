package site

import (
	"context"
	"net/http"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/sitedb"
)

func (s *Server) registerProviders(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.RegisterProviders
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	if !opencmg.IsGUID(in.SubscriptionID) {
		return opencmg.Errorf(opencmg.Invalid, "subscriptionId %q: must be a GUID", in.SubscriptionID).About("subscriptionId")
	}
	op, err := s.manager.begin(r.Context(), opProviders, kindApplication, r.PathValue("id"), func(tx *sitedb.Tx, op *sitedb.Operation) error {
		app, err := get[applicationRecord](tx, kindApplication, r.PathValue("id"))
		if err != nil {
			return err
		}
		if app.Value.Kind != adminservice.ServerApplication {
			return opencmg.Errorf(opencmg.Conflict, "application %s is a client application: a server application registers providers", app.Name)
		}
		op.Text = in.SubscriptionID
		return s.audit(r.Context(), tx, msgAsked, kindApplication, app.ID, "asked to register the resource providers in subscription %s", in.SubscriptionID)
	})
	if err != nil {
		return err
	}
	return accepted(w, op)
}

// performProviders registers what is not registered yet. The subscription is
// the text that the operation began with; the first step keeps it.
func (s *Server) performProviders(ctx context.Context, r *run) error {
	subscription := r.op.Text
	app, err := read[applicationRecord](ctx, s.db, kindApplication, r.op.SubjectID)
	if err != nil {
		return err
	}
	in, err := s.signInAs(ctx, app, subscription)
	if err != nil {
		return err
	}
	cloud, err := s.cfg.Cloud(in)
	if err != nil {
		return err
	}
	if err := r.step(ctx, "register", 20, subscription); err != nil {
		return err
	}
	return cloud.RegisterProviders(ctx, r.say)
}
