package sitelink_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// TestQuestionsAreAnsweredOnce: however often documents come while a question is
// open, and whatever else is asked that this program does not know.
func TestQuestionsAreAnsweredOnce(t *testing.T) {
	r := newRig(t)
	var asked atomic.Int32
	r.cfg.Answer = func(_ context.Context, q adminservice.SystemQuestion) adminservice.SystemAnswer {
		asked.Add(1)
		return adminservice.SystemAnswer{Question: "not its business", Records: []opencmg.RequestRecord{{CorrelationID: q.CorrelationID}}}
	}
	r.run()
	ask := func(ids ...string) {
		d := adminservice.Documents{RenewBefore: time.Now().Add(-time.Hour), Questions: []adminservice.SystemQuestion{{ID: "x", Kind: "of a newer site"}}}
		for _, id := range ids {
			d.Questions = append(d.Questions, adminservice.SystemQuestion{ID: id, Kind: adminservice.QuestionExplain, CorrelationID: "request-" + id})
		}
		r.s.Set("cp1", d)
	}
	answered := func(id string) {
		t.Helper()
		select {
		case a := <-r.s.Answers:
			if a.Question != id || len(a.Records) != 1 || a.Records[0].CorrelationID != "request-"+id {
				t.Errorf("answer: %+v, want that to %s", a, id)
			}
		case <-time.After(patience):
			t.Fatalf("no answer to %s", id)
		}
	}
	ask("1")
	answered("1")
	ask("1", "2")
	answered("2")
	ask("2", "3")
	answered("3")
	if n := asked.Load(); n != 3 {
		t.Errorf("answered %d times", n)
	}
}
