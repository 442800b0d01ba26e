package site

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net/http"
	"slices"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/sitedb"
)

// The connection analyzer on a schedule (design 12.7): each gateway that is ready
// is analyzed again and again, by the site's own token, and a row that fails is an
// alert.

const (
	// analysisEvery is how often a gateway is analyzed unless its schedule says
	// another interval, from leastAnalysisEvery to mostAnalysisEvery, in minutes.
	analysisEvery      = 60
	leastAnalysisEvery = 5
	mostAnalysisEvery  = 7 * 24 * 60
	// settingUp is what an administrator has to complete a new gateway, with
	// connection points and roles, before the first analysis.
	settingUp = 30 * time.Minute
)

// A scheduleRecord is how often a gateway is analyzed, by its ID, and what came of
// it.
type scheduleRecord struct {
	Minutes int       `json:"minutes"` // 0: off
	Last    time.Time `json:"last,omitzero"`
	Next    time.Time `json:"next,omitzero"`
	// Ended and Failed are of the latest analysis, whoever asked for it.
	Ended  time.Time `json:"ended,omitzero"`
	Failed int       `json:"failed,omitempty"`
}

func newSchedule(gateway string, now time.Time) *record[scheduleRecord] {
	return &record[scheduleRecord]{ID: gateway, Name: gateway, Value: scheduleRecord{Minutes: analysisEvery, Next: nextAnalysis(gateway, analysisEvery, now.Add(settingUp))}}
}

// nextAnalysis is the first time after now at which a gateway is due. Each has its
// own place in the interval, so that they do not all begin at once.
func nextAnalysis(gateway string, minutes int, now time.Time) time.Time {
	if minutes == 0 {
		return time.Time{}
	}
	every := int64(minutes) * 60
	h := fnv.New32a()
	h.Write([]byte(gateway))
	place := int64(h.Sum32()) % every
	return time.Unix(((now.Unix()-place)/every+1)*every+place, 0).UTC()
}

func scheduleOf(rec *record[scheduleRecord], err error, gateway string, now time.Time) (*record[scheduleRecord], error) {
	if errors.Is(err, opencmg.NotFound) {
		return newSchedule(gateway, now), nil
	}
	return rec, err
}

// changeSchedule changes the schedule of a gateway, which begins with the default
// one.
func (s *Server) changeSchedule(tx *sitedb.Tx, gateway string, change func(*scheduleRecord)) (*record[scheduleRecord], error) {
	rec, err := get[scheduleRecord](tx, kindAnalysisSchedule, gateway)
	if rec, err = scheduleOf(rec, err, gateway, s.cfg.Now()); err != nil {
		return nil, err
	}
	change(&rec.Value)
	return rec, rec.put(tx, kindAnalysisSchedule)
}

// forgetSchedule is for a gateway that goes.
func forgetSchedule(tx *sitedb.Tx, gateway string) error {
	if err := tx.Delete(kindAnalysisSchedule, gateway, 0); err != nil && !errors.Is(err, opencmg.NotFound) {
		return err
	}
	return nil
}

// analyzeDue begins the analyses that are due, and shows what the latest ones
// found. What is due while a gateway is not ready, or the site is down, is done
// afterwards, one at a look.
func (s *Server) analyzeDue(ctx context.Context) error {
	gateways, err := readAll[gatewayRecord](ctx, s.db, kindGateway)
	if err != nil {
		return err
	}
	known, err := readAll[scheduleRecord](ctx, s.db, kindAnalysisSchedule)
	if err != nil {
		return err
	}
	s.metrics.forgetAnalyses()
	now := s.cfg.Now()
	type due struct {
		g    *record[gatewayRecord]
		next time.Time
	}
	var list []due
	for _, g := range gateways {
		i := slices.IndexFunc(known, func(r *record[scheduleRecord]) bool { return r.ID == g.ID })
		if i >= 0 {
			s.metrics.analyzed(g.Value.Prefix, &known[i].Value)
		}
		switch {
		case g.Value.State != adminservice.StateReady:
		case i < 0:
			if err := s.db.Change(ctx, "begin schedule", func(tx *sitedb.Tx) error {
				if _, err := get[gatewayRecord](tx, kindGateway, g.ID); errors.Is(err, opencmg.NotFound) {
					return nil // it was deleted meanwhile
				}
				_, err := s.changeSchedule(tx, g.ID, func(*scheduleRecord) {})
				return err
			}); err != nil {
				return err
			}
		case known[i].Value.Minutes == 0, now.Before(known[i].Value.Next), waitsForHost(g):
		case now.Sub(g.Changed) < stale, now.Sub(s.live.began) < stale:
			// Tunnels may not be there yet, nor everybody have reported.
		default:
			list = append(list, due{g, known[i].Value.Next})
		}
	}
	slices.SortFunc(list, func(a, b due) int { return cmp.Or(a.next.Compare(b.next), cmp.Compare(a.g.ID, b.g.ID)) })
	missed := 0
	var failed []error
	for _, d := range list {
		if now.Sub(d.next) > 2*s.cfg.Watch {
			if missed++; missed > 1 {
				continue
			}
		}
		err := s.analyzeOnSchedule(ctx, d.g)
		if err != nil && !errors.Is(err, opencmg.Conflict) && !errors.Is(err, opencmg.Unavailable) { // there is no room: next time
			failed = append(failed, fmt.Errorf("gateway %s: %w", d.g.Name, err))
		}
	}
	return errors.Join(failed...)
}

// waitsForHost reports whether a gateway has nothing yet that could be analyzed.
func waitsForHost(g *record[gatewayRecord]) bool {
	return g.Value.Model == adminservice.ModelSelfHosted && len(g.Value.Machines) == 0
}

func (s *Server) analyzeOnSchedule(ctx context.Context, g *record[gatewayRecord]) error {
	if _, err := s.beginAnalysis(g, &adminservice.NewAnalysis{SignIn: adminservice.AnalyzeToken}, ""); err != nil {
		return err
	}
	return s.db.Change(ctx, "schedule analysis", func(tx *sitedb.Tx) error {
		if _, err := get[gatewayRecord](tx, kindGateway, g.ID); errors.Is(err, opencmg.NotFound) {
			return nil // it was deleted meanwhile
		}
		_, err := s.changeSchedule(tx, g.ID, func(v *scheduleRecord) {
			v.Last = s.cfg.Now().UTC()
			v.Next = nextAnalysis(g.ID, v.Minutes, v.Last)
		})
		return err
	})
}

// judge notes what an analysis found. One by the schedule that failed raises the
// gateway's alert; one that somebody asked for does not, as it may be about a bad
// credential. Any that passes closes it. The change says what to tell.
func (s *Server) judge(tx *sitedb.Tx, a *adminservice.Analysis) (alert sitedb.Alert, change sitedb.AlertChange, err error) {
	schedule, err := s.changeSchedule(tx, a.GatewayID, func(v *scheduleRecord) { v.Ended, v.Failed = a.Ended, a.Failed })
	if err != nil {
		return alert, "", err
	}
	first := slices.IndexFunc(a.Rows, func(r adminservice.AnalysisRow) bool { return r.State == opencmg.CheckFail && r.ID != rowSummary })
	switch {
	case first < 0:
		_, err := tx.CloseAlert(alertAnalysis, kindGateway, a.GatewayID)
		return alert, "", err
	case a.Account != "" || schedule.Value.Minutes == 0:
		return alert, "", nil
	}
	row := a.Rows[first]
	name := row.Name
	if row.Instance != nil {
		name = fmt.Sprintf("%s (instance %d)", name, *row.Instance)
	}
	return tx.RaiseAlert(sitedb.Alert{
		Kind: alertAnalysis, SubjectKind: kindGateway, SubjectID: a.GatewayID, Severity: sitedb.SeverityWarning,
		Text:     fmt.Sprintf("gateway %s: the connection analyzer failed at %q; failed checks: %d of %d", a.Gateway, name, a.Failed, len(a.Rows)-1),
		NextStep: fmt.Sprintf("%s; see every check at /console/analyzer?gateway=%s", row.NextStep, a.GatewayID),
	})
}

// analysisSchedule is a schedule as the administration service shows it.
func analysisSchedule(g *record[gatewayRecord], v *scheduleRecord) adminservice.AnalysisSchedule {
	out := adminservice.AnalysisSchedule{Minutes: v.Minutes, Last: v.Last}
	if v.Minutes != 0 && waitsForHost(g) {
		out.Waiting = "no host has joined the gateway yet: create a join token for one"
	} else if g.Value.State == adminservice.StateReady {
		out.Next = v.Next
	}
	return out
}

// getAnalysisSchedule is GET Gateways/{id}/analysisSchedule.
func (s *Server) getAnalysisSchedule(w http.ResponseWriter, r *http.Request) error {
	g, err := s.findGateway(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	rec, err := read[scheduleRecord](r.Context(), s.db, kindAnalysisSchedule, g.ID)
	if rec, err = scheduleOf(rec, err, g.ID, s.cfg.Now()); err != nil {
		return err
	}
	return answer(w, http.StatusOK, analysisSchedule(g, &rec.Value))
}

// putAnalysisSchedule is PUT Gateways/{id}/analysisSchedule. Whoever turns the
// schedule off wants no alert that nobody would close.
func (s *Server) putAnalysisSchedule(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.AnalysisScheduleChange
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	if in.Minutes == nil || *in.Minutes != 0 && (*in.Minutes < leastAnalysisEvery || *in.Minutes > mostAnalysisEvery) {
		return opencmg.Errorf(opencmg.Invalid, "minutes: must be from %d to %d, or 0 for no schedule", leastAnalysisEvery, mostAnalysisEvery).About("minutes")
	}
	g, err := s.findGateway(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	var rec *record[scheduleRecord]
	err = s.db.Change(r.Context(), "schedule analyses", func(tx *sitedb.Tx) (err error) {
		if g, err = get[gatewayRecord](tx, kindGateway, g.ID); err != nil {
			return err // it was deleted meanwhile
		}
		rec, err = s.changeSchedule(tx, g.ID, func(v *scheduleRecord) {
			v.Minutes, v.Next = *in.Minutes, nextAnalysis(g.ID, *in.Minutes, s.cfg.Now())
		})
		if err != nil {
			return err
		}
		if *in.Minutes == 0 {
			if _, err := tx.CloseAlert(alertAnalysis, kindGateway, g.ID); err != nil {
				return err
			}
			return s.audit(r.Context(), tx, msgChanged, kindGateway, g.ID, "turned off the schedule of the connection analyzer for gateway %s", g.Value.ServiceName)
		}
		return s.audit(r.Context(), tx, msgChanged, kindGateway, g.ID, "scheduled the connection analyzer for gateway %s every %d minutes", g.Value.ServiceName, *in.Minutes)
	})
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, analysisSchedule(g, &rec.Value))
}
