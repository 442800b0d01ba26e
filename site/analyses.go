package site

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/sitedb"
)

// Analyses of gateways: who may start one, how it is followed, and which are
// kept. What is looked at is in analyze.go.

const (
	// maxAnalyses bounds the analyses that run at the same time, of which the
	// schedule leaves one to those who ask, and keptAnalyses those that are kept
	// of each gateway: as many that somebody asked for as by the schedule.
	maxAnalyses  = 4
	keptAnalyses = 20
	analysisTime = 3 * time.Minute
)

// analyses are those that run.
type analyses struct {
	jobs chan *analysis // capacity maxAnalyses, so that a start never waits

	mu      sync.Mutex // guards what follows, and the reports in running
	running map[string]*analysis
	changed chan struct{} // closed and replaced with every row
}

// An analysis is one that waits or runs.
type analysis struct {
	report  adminservice.Analysis
	gateway *record[gatewayRecord]
	sign    *analysisSignIn
}

func newAnalyses() *analyses {
	return &analyses{jobs: make(chan *analysis, maxAnalyses), running: map[string]*analysis{}, changed: make(chan struct{})}
}

func (a *analyses) wake() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// begin takes an analysis in, if there is room.
func (a *analyses) begin(j *analysis) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, other := range a.running {
		if other.gateway.ID == j.gateway.ID {
			return opencmg.Errorf(opencmg.Conflict, "gateway %s is being analyzed already: follow Analyses/%s", j.gateway.Name, id)
		}
	}
	room := maxAnalyses
	if j.report.Account == "" {
		room--
	}
	if len(a.running) >= room {
		return opencmg.Errorf(opencmg.Unavailable, "%d gateways are being analyzed already: try again when they are done", maxAnalyses)
	}
	a.running[j.report.ID] = j
	a.jobs <- j
	return nil
}

// add adds a row to a running analysis.
func (a *analyses) add(j *analysis, row adminservice.AnalysisRow) {
	a.mu.Lock()
	defer a.mu.Unlock()
	j.report.Rows = append(j.report.Rows, row)
	if row.State == opencmg.CheckFail && row.ID != rowSummary {
		j.report.Failed++
	}
	a.wake()
}

// find returns a running analysis as it is now, and what is closed when it goes
// on.
func (a *analyses) find(id string) (*adminservice.Analysis, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	j := a.running[id]
	if j == nil {
		return nil, a.changed
	}
	now := j.report
	now.Rows = slices.Clone(now.Rows)
	return &now, a.changed
}

// of returns those of a gateway that run, as they are now.
func (a *analyses) of(gateway string) (list []adminservice.Analysis) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, j := range a.running {
		if j.gateway.ID == gateway {
			now := j.report
			now.Rows = slices.Clone(now.Rows)
			list = append(list, now)
		}
	}
	return list
}

// runAnalyses does what was started until ctx ends.
func (s *Server) runAnalyses(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case j := <-s.analyses.jobs:
			wg.Go(func() { s.runAnalysis(ctx, j) })
		}
	}
}

func (s *Server) runAnalysis(ctx context.Context, j *analysis) {
	looking, cancel := context.WithTimeout(ctx, analysisTime)
	defer cancel()
	s.analyze(looking, j.gateway, j.sign, func(row adminservice.AnalysisRow) {
		s.analyses.add(j, row)
		s.shown.tell()
	})
	// It counts as running until it can be found among those that are kept.
	report := j.report
	report.State, report.Ended = adminservice.AnalysisCompleted, s.cfg.Now().UTC()
	if ctx.Err() == nil {
		alert, change, err := s.keepAnalysis(ctx, &report)
		if err != nil {
			s.log.Error("an analysis is not kept", "component", componentManager, "gateway", report.Gateway, "err", err)
		}
		if change == sitedb.AlertNew || change == sitedb.AlertChanged {
			// What sends alerts on may be slow.
			defer func() { s.report(ctx, s.tell(ctx, alert)) }()
		}
		s.log.Info("gateway analyzed", "component", componentManager, "gateway", report.Gateway, "sign_in", report.SignIn, "rows", len(report.Rows), "failed", report.Failed)
	}
	s.analyses.end(report.ID)
	s.shown.tell()
}

// end takes an analysis out.
func (a *analyses) end(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.running, id)
	a.wake()
}

// keepAnalysis stores an analysis in the place of the oldest one of its sort, and
// raises or closes the alert of its gateway.
func (s *Server) keepAnalysis(ctx context.Context, a *adminservice.Analysis) (alert sitedb.Alert, change sitedb.AlertChange, err error) {
	err = s.db.Change(ctx, "keep analysis", func(tx *sitedb.Tx) error {
		if _, err := get[gatewayRecord](tx, kindGateway, a.GatewayID); err != nil {
			return err // it was deleted meanwhile
		}
		rec := &record[adminservice.Analysis]{ID: a.ID, Name: a.ID, Value: *a}
		if err := rec.put(tx, kindAnalysis); err != nil {
			return err
		}
		if err := forgetAnalyses(tx, a.GatewayID, keptAnalyses); err != nil {
			return err
		}
		alert, change, err = s.judge(tx, a)
		return err
	})
	if err == nil {
		s.metrics.analyzed(a.Gateway, &scheduleRecord{Ended: a.Ended, Failed: a.Failed})
	}
	return alert, change, err
}

// forgetAnalyses deletes those of a gateway but the latest ones that somebody
// asked for, and the latest ones by the schedule.
func forgetAnalyses(tx *sitedb.Tx, gateway string, keep int) error {
	list, err := all[adminservice.Analysis](tx, kindAnalysis)
	if err != nil {
		return err
	}
	seen := map[bool]int{} // by whether somebody asked
	for _, rec := range analysesOf(list, gateway) {
		asked := rec.Value.Account != ""
		if seen[asked]++; seen[asked] <= keep {
			continue
		}
		if err := tx.Delete(kindAnalysis, rec.ID, 0); err != nil {
			return err
		}
	}
	return nil
}

// analysesOf returns those of a gateway, the latest first.
func analysesOf(list []*record[adminservice.Analysis], gateway string) []*record[adminservice.Analysis] {
	list = slices.DeleteFunc(list, func(r *record[adminservice.Analysis]) bool { return r.Value.GatewayID != gateway })
	slices.SortStableFunc(list, func(a, b *record[adminservice.Analysis]) int {
		return cmp.Or(b.Value.Started.Compare(a.Value.Started), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// startAnalysis is POST Gateways/{id}/analyze.
func (s *Server) startAnalysis(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.NewAnalysis
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	g, err := s.findGateway(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	in.SignIn = cmp.Or(in.SignIn, adminservice.AnalyzeToken)
	begun, err := s.beginAnalysis(g, &in, callerOf(r.Context()).account)
	if err != nil {
		return err
	}
	w.Header().Set("Location", adminservice.BasePath+"Analyses/"+begun.ID)
	return answer(w, http.StatusAccepted, begun)
}

// beginAnalysis begins an analysis that an account asked for; the empty account is
// the schedule.
func (s *Server) beginAnalysis(g *record[gatewayRecord], in *adminservice.NewAnalysis, account string) (adminservice.Analysis, error) {
	sign, err := s.newAnalysisSignIn(in)
	if err != nil {
		return adminservice.Analysis{}, err
	}
	j := &analysis{gateway: g, sign: sign, report: adminservice.Analysis{
		ID: newGUID(), GatewayID: g.ID, Gateway: g.Value.Prefix, SignIn: in.SignIn, Account: account,
		Started: s.cfg.Now().UTC(), State: adminservice.AnalysisRunning, Rows: []adminservice.AnalysisRow{},
	}}
	begun := j.report
	return begun, s.analyses.begin(j)
}

// listAnalyses is GET Gateways/{id}/analyses: the one that runs, and those that
// are kept, the latest first.
func (s *Server) listAnalyses(w http.ResponseWriter, r *http.Request) error {
	g, err := s.findGateway(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	// One that ends now is in both for a moment; looked for in this order it is
	// in one at least.
	list := s.analyses.of(g.ID)
	kept, err := readAll[adminservice.Analysis](r.Context(), s.db, kindAnalysis)
	if err != nil {
		return err
	}
	for _, rec := range analysesOf(kept, g.ID) {
		if !slices.ContainsFunc(list, func(a adminservice.Analysis) bool { return a.ID == rec.ID }) {
			list = append(list, rec.Value)
		}
	}
	return answerList(w, r, list)
}

// getAnalysis is GET Analyses/{id}. With wait it answers when there are more rows
// than after, when the analysis has ended, or when the time is over.
func (s *Server) getAnalysis(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel, err := waiting(r)
	if err != nil {
		return err
	}
	defer cancel()
	after, err := queryNumber(r, "after", 1<<30)
	if err != nil {
		return err
	}
	id := r.PathValue("id")
	for {
		a, changed := s.analyses.find(id)
		if a == nil {
			rec, err := read[adminservice.Analysis](r.Context(), s.db, kindAnalysis, id)
			if err != nil {
				return fmt.Errorf("read analysis: %w", err)
			}
			a = &rec.Value
		}
		if a.State != adminservice.AnalysisRunning || len(a.Rows) > after || ctx.Err() != nil {
			return answer(w, http.StatusOK, a)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}
