package site

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/sitedb"
)

// Status message IDs. 30000 and up audit what administrators do, as in
// Configuration Manager; 9409 is its mark of a finished deployment
// (cmg-behaviour M12).
const (
	msgCreated        = 30000
	msgChanged        = 30001
	msgDeleted        = 30002
	msgAsked          = 30003 // an operation was asked for
	msgJoined         = 30010
	msgSignedIn       = 30020 // to the console
	msgDeployed       = 9409
	msgOperationEnded = 9410
	msgOperationFails = 9411
	msgAlert          = 9420
	msgKeyReplaced    = 9430
)

// audit records what the caller did, in the transaction that does it.
func (s *Server) audit(ctx context.Context, tx *sitedb.Tx, id int, kind, subject, format string, args ...any) error {
	return tx.AddStatusMessage(sitedb.StatusMessage{
		Component: componentProvider, Severity: sitedb.SeverityInfo, MessageID: id, Account: callerOf(ctx).account,
		SubjectKind: kind, SubjectID: subject, Text: fmt.Sprintf(format, args...),
	})
}

// mostMessages is how many of the latest status messages $filter and $orderby
// look at.
const mostMessages = 20 * adminservice.MaxPage

func (s *Server) listStatusMessages(w http.ResponseWriter, r *http.Request) error {
	q, err := adminservice.ParseQuery(r.URL.Query())
	if err != nil {
		return err
	}
	v := r.URL.Query()
	f := sitedb.MessageFilter{Component: v.Get("component"), SubjectKind: v.Get("subjectKind"), SubjectID: v.Get("subject"), Account: v.Get("account"), Text: v.Get("search")}
	if sev := v.Get("severity"); sev != "" {
		f.Severities = []sitedb.Severity{sitedb.Severity(sev)}
	}
	if f.From, f.To, err = queryTimes(r); err != nil {
		return err
	}
	// A filter or an order needs to see all of them; without one the database
	// cuts the page.
	whole := q.Filter != nil || len(q.OrderBy) > 0
	offset, limit := q.Skip, q.Top
	if whole {
		offset, limit = 0, adminservice.MaxPage
	}
	list, total, err := s.db.SiteMessages(r.Context(), f, offset, limit)
	for err == nil && whole && len(list) < min(total, mostMessages) {
		var more []sitedb.StatusMessage
		if more, _, err = s.db.SiteMessages(r.Context(), f, len(list), limit); len(more) == 0 {
			break
		}
		list = append(list, more...)
	}
	if err != nil {
		return err
	}
	messages := []adminservice.StatusMessage{}
	for _, m := range list {
		messages = append(messages, adminservice.StatusMessage{
			ID: m.ID, At: m.At, Component: m.Component, Severity: string(m.Severity), MessageID: m.MessageID, Account: m.Account,
			Subject: m.SubjectKind + "/" + m.SubjectID, Text: m.Text, Details: m.Properties,
		})
	}
	objects, err := toMaps(messages)
	if err != nil {
		return err
	}
	if whole {
		page, n := q.Apply(objects)
		return answerPage(w, r, q, page, n)
	}
	return answerPage(w, r, q, q.Project(objects), total)
}

// queryTimes reads the query parameters from, which is included, and to, which
// is not.
func queryTimes(r *http.Request) (from, to time.Time, err error) {
	for name, t := range map[string]*time.Time{"from": &from, "to": &to} {
		if s := r.URL.Query().Get(name); s != "" {
			if *t, err = time.Parse(time.RFC3339, s); err != nil {
				return from, to, opencmg.Errorf(opencmg.Invalid, "%s: must be a time such as 2026-01-31T09:30:00Z, is %q", name, s).About(name)
			}
		}
	}
	return from, to, nil
}
