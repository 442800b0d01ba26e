package site

import (
	"context"
	"errors"
	"net/http"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/sitedb"
)

// Optional features of the site. The documented checklist has one to be
// switched on before the first gateway; it is on in a site of this program
// until somebody switches it off.

// featureRecord is a feature that somebody switched.
type featureRecord struct {
	On bool `json:"on"`
}

// featureNames are the features by ID.
var featureNames = map[string]string{adminservice.FeatureGateway: "Cloud Management Gateway"}

// feature reads one; without a record it is on.
func (s *Server) feature(ctx context.Context, id string) (adminservice.Feature, error) {
	f := adminservice.Feature{ID: id, Name: featureNames[id], On: true}
	rec, err := read[featureRecord](ctx, s.db, kindFeature, id)
	switch {
	case err == nil:
		f.Version, f.On = rec.Version, rec.Value.On
	case !errors.Is(err, opencmg.NotFound):
		return f, err
	}
	return f, nil
}

func (s *Server) listFeatures(w http.ResponseWriter, r *http.Request) error {
	f, err := s.feature(r.Context(), adminservice.FeatureGateway)
	if err != nil {
		return err
	}
	return answerList(w, r, []adminservice.Feature{f})
}

func (s *Server) changeFeature(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.FeatureChange
	version, err := decodeChange(r, &in)
	if err != nil {
		return err
	}
	id := r.PathValue("id")
	name, known := featureNames[id]
	if !known {
		return opencmg.Errorf(opencmg.NotFound, "there is no optional feature %q: the site has %s", id, adminservice.FeatureGateway)
	}
	if in.On == nil {
		return opencmg.Errorf(opencmg.Invalid, "on: say true or false").About("on")
	}
	var rec *record[featureRecord]
	err = s.db.Change(r.Context(), "switch feature", func(tx *sitedb.Tx) error {
		rec, err = get[featureRecord](tx, kindFeature, id)
		switch {
		case errors.Is(err, opencmg.NotFound):
			if version != 0 {
				return opencmg.Errorf(opencmg.Stale, "feature %s was never switched, so it has no version %d: leave If-Match out", name, version)
			}
			rec = &record[featureRecord]{ID: id, Name: name}
		case err != nil:
			return err
		default:
			if err := rec.expect(version); err != nil {
				return err
			}
		}
		rec.Value.On = *in.On
		if err := rec.put(tx, kindFeature); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgChanged, kindFeature, id, "switched the optional feature %s %s", name, onOff(*in.On))
	})
	if err != nil {
		return err
	}
	return answerOne(w, http.StatusOK, rec.Version, adminservice.Feature{ID: id, Version: rec.Version, Name: name, On: rec.Value.On})
}

// needFeature refuses what an optional feature that is off stands for.
func (s *Server) needFeature(ctx context.Context, id string) error {
	f, err := s.feature(ctx, id)
	if err != nil {
		return err
	}
	if !f.On {
		return opencmg.Errorf(opencmg.Conflict, "the optional feature %s of this site is off: switch it on first, with opencmg feature %s on", f.Name, f.ID)
	}
	return nil
}
