package site_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// answers makes the system wait for questions, as a link does, and answer each
// by what it is given. The channel returned gets every question.
func (p *point) answers(reply func(adminservice.SystemQuestion) *adminservice.SystemAnswer) <-chan adminservice.SystemQuestion {
	asked := make(chan adminservice.SystemQuestion, 100)
	c := p.client()
	_, etag, err := c.Documents(p.r.t.Context(), "", 0)
	if err != nil {
		p.r.t.Fatal(err)
	}
	go func() {
		for p.r.t.Context().Err() == nil {
			d, next, err := c.Documents(p.r.t.Context(), etag, time.Minute)
			if err != nil {
				return // the test ends
			}
			etag = next
			if d == nil {
				continue
			}
			for _, q := range d.Questions {
				if a := reply(q); a != nil {
					a.Question = q.ID
					// The test may end as soon as the site has the answer.
					if err := c.Answer(p.r.t.Context(), a); err != nil && p.r.t.Context().Err() == nil {
						p.r.t.Error(err)
					}
				}
				asked <- q
			}
		}
	}()
	return asked
}

const oneRequest = "0123456789abcdef0123456789abcdef"

// recordOf is what a hop knows of oneRequest.
func recordOf(hop, where string, at time.Time) opencmg.RequestRecord {
	return opencmg.RequestRecord{CorrelationID: oneRequest, Time: at.UTC(), Hop: hop, Where: where, Status: 200, Verdict: "answered", Duration: time.Millisecond}
}

func TestExplain(t *testing.T) {
	r := newRig(t)
	began := r.now().Round(0)
	gw := opencmg.InstanceStatus{Gateway: "granitefalls", Instance: 0}
	cp1, cp2, mp := r.join("cp1", ""), r.join("cp2", ""), r.system(adminservice.SystemManagementPoint, "mp1", "")
	cp1.says(gw)
	cp2.says(gw)
	if err := mp.client().Report(t.Context(), &adminservice.SiteSystemReport{Kind: adminservice.SystemManagementPoint, CertificateEnds: r.now()}); err != nil {
		t.Fatal(err)
	}
	r.join("cp3", "") // joined, and never heard of again
	atGateway := recordOf(opencmg.HopGateway, "granitefalls/0", began)
	stranger := recordOf(opencmg.HopGateway, "granitefalls/0", began)
	stranger.CorrelationID = "of-another-request"
	cp1.answers(func(adminservice.SystemQuestion) *adminservice.SystemAnswer {
		return &adminservice.SystemAnswer{
			Records: []opencmg.RequestRecord{recordOf(opencmg.HopConnectionPoint, "somebody else", began), atGateway, stranger},
			Asked:   []adminservice.AskedHop{{Where: "granitefalls/0", Answered: true}, {Where: "granitefalls/1", Problem: "no tunnel"}},
		}
	})
	cp2.answers(func(adminservice.SystemQuestion) *adminservice.SystemAnswer {
		return &adminservice.SystemAnswer{
			Records: []opencmg.RequestRecord{atGateway},
			Asked:   []adminservice.AskedHop{{Where: "granitefalls/0", Answered: true}, {Where: "granitefalls/1", Answered: true}},
		}
	})
	mp.answers(func(adminservice.SystemQuestion) *adminservice.SystemAnswer {
		return &adminservice.SystemAnswer{Records: []opencmg.RequestRecord{recordOf(opencmg.HopGateway, "mp1.corp.example", began)}}
	})
	got := do[adminservice.Explanation](r, "GET", "Explanations/"+oneRequest, nil)
	want := adminservice.Explanation{
		CorrelationID: oneRequest,
		Records:       []opencmg.RequestRecord{atGateway, recordOf(opencmg.HopConnectionPoint, "cp1", began), recordOf(opencmg.HopManagementPoint, "mp1.corp.example", began)},
		Asked: []adminservice.AskedHop{
			{Hop: "gateway", Where: "granitefalls/0", Answered: true}, {Hop: "gateway", Where: "granitefalls/1", Answered: true},
			{Hop: "connection-point", Where: "cp1", Answered: true}, {Hop: "connection-point", Where: "cp2", Answered: true},
			{Hop: "connection-point", Where: "cp3", Problem: "it has not reported since the site started: is its service running, and can it reach the site?"},
			{Hop: "management-point", Where: "mp1", Answered: true},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("explanation (-want +got):\n%s", diff)
	}
}

// A system that reported a moment ago and does not answer is waited for, and
// named.
func TestExplainNamesTheSilent(t *testing.T) {
	r := newRig(t)
	cp := r.join("cp1", "")
	cp.says()
	asked := cp.answers(func(adminservice.SystemQuestion) *adminservice.SystemAnswer { return nil })
	got := do[adminservice.Explanation](r, "GET", "Explanations/"+oneRequest, nil)
	if len(got.Records) != 0 || len(got.Asked) != 1 || got.Asked[0].Answered || got.Asked[0].Problem == "" {
		t.Errorf("got %+v", got)
	}
	if q := <-asked; q.CorrelationID != oneRequest || q.Kind != adminservice.QuestionExplain {
		t.Errorf("the system was asked %+v", q)
	}
	// The question is over.
	d, _, err := cp.client().Documents(t.Context(), "", 0)
	if err != nil || len(d.Questions) != 0 {
		t.Errorf("still asked: %+v, %v", d, err)
	}
	// Too late, and of no consequence.
	if err := cp.client().Answer(t.Context(), &adminservice.SystemAnswer{Question: "x"}); err != nil {
		t.Error(err)
	}
}

func TestExplainIsBounded(t *testing.T) {
	r := newRig(t)
	for _, id := range []string{"short", "..%2f..%2fetc", "has%20space0", fmt.Sprintf("%065d", 0)} {
		err := r.c.Do(t.Context(), "GET", "Explanations/"+id, nil, nil)
		if !errors.Is(err, opencmg.Invalid) {
			t.Errorf("%s: %v, want a refusal", id, err)
		}
	}
	var errs []error
	for range 100 {
		errs = append(errs, r.c.Do(t.Context(), "GET", "Explanations/"+oneRequest, nil, nil))
	}
	if errs[0] != nil || !slices.ContainsFunc(errs, func(err error) bool { return errors.Is(err, opencmg.Unavailable) }) {
		t.Errorf("100 questions at once: %v", errs)
	}
}
