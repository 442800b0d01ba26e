package site

import (
	"net/http"
	"strconv"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/sitedb"
)

func (s *Server) listOperations(w http.ResponseWriter, r *http.Request) error {
	v := r.URL.Query()
	ops, err := s.db.Operations(r.Context(), sitedb.OperationFilter{SubjectID: v.Get("subject"), Kind: v.Get("kind")}, adminservice.MaxPage)
	if err != nil {
		return err
	}
	var list []adminservice.Operation
	for _, op := range ops {
		list = append(list, operation(op, nil))
	}
	return answerList(w, r, list)
}

// getOperation answers one operation with its log. With wait it answers when
// the log has more lines than after, when the operation has ended, or when the
// time is over.
func (s *Server) getOperation(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel, err := waiting(r)
	if err != nil {
		return err
	}
	defer cancel()
	after, err := queryNumber(r, "after", 1<<30)
	if err != nil {
		return err
	}
	changes := s.db.Watch(ctx)
	for {
		op, err := s.db.Operation(r.Context(), r.PathValue("id"))
		if err != nil {
			return err
		}
		log, err := s.db.OperationLog(r.Context(), op.ID)
		if err != nil {
			return err
		}
		if op.State.Ended() || len(log) > after || ctx.Err() != nil {
			return answer(w, http.StatusOK, operation(op, log))
		}
		select {
		case <-ctx.Done():
		case <-changes:
		}
	}
}

func alert(a sitedb.Alert) adminservice.Alert {
	return adminservice.Alert{
		ID: a.ID, Kind: a.Kind, Subject: a.SubjectKind + "/" + a.SubjectID, Severity: string(a.Severity), Text: a.Text, NextStep: a.NextStep,
		Opened: a.Opened, Changed: a.Changed, Closed: a.Closed, Acknowledged: a.AcknowledgedBy,
	}
}

func (s *Server) listAlerts(w http.ResponseWriter, r *http.Request) error {
	v := r.URL.Query()
	f := sitedb.AlertFilter{Kind: v.Get("kind"), SubjectID: v.Get("subject"), Text: v.Get("search")}
	if sev := v.Get("severity"); sev != "" {
		f.Severities = []sitedb.Severity{sitedb.Severity(sev)}
	}
	open, err := queryBool(r, "open")
	if err != nil {
		return err
	}
	if open != nil {
		f.Open, f.Closed = *open, !*open
	}
	return answerRead(w, r, mostMessages, func(offset, limit int) (list []adminservice.Alert, total int, err error) {
		alerts, total, err := s.db.Alerts(r.Context(), f, offset, limit)
		for _, a := range alerts {
			list = append(list, alert(a))
		}
		return list, total, err
	})
}

// queryBool reads a query parameter that is true or false; nil without it.
func queryBool(r *http.Request, name string) (*bool, error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return nil, nil
	}
	b, err := strconv.ParseBool(s)
	if err != nil {
		return nil, opencmg.Errorf(opencmg.Invalid, "%s: must be true or false, is %q", name, s).About(name)
	}
	return &b, nil
}

func (s *Server) acknowledgeAlert(w http.ResponseWriter, r *http.Request) error {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return opencmg.Errorf(opencmg.NotFound, "there is no alert %q", r.PathValue("id"))
	}
	err = s.db.Change(r.Context(), "acknowledge alert", func(tx *sitedb.Tx) error {
		if err := tx.AcknowledgeAlert(id, callerOf(r.Context()).account); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgChanged, "alert", strconv.FormatInt(id, 10), "acknowledged alert %d", id)
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
