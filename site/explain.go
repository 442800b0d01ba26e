package site

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// "opencmg explain". What is known about a request is on the hosts that it
// passed, and the site can not dial them: a question goes out with their
// documents, for which they wait anyway, and they send what they know.

const (
	// explainWait is how long the site waits for answers; an instance behind a
	// connection point has two seconds less.
	explainWait = 6 * time.Second
	// explainRate and explainBurst bound the questions of administrators.
	explainRate, explainBurst = 4, 20
	// maxAnswerRecords bounds what one system says about one request.
	maxAnswerRecords = opencmg.MaxHopRecords * (opencmg.MaxInstances + 1)
)

// questions are those that the site asks its systems now.
type questions struct {
	mu      sync.Mutex       // guards what follows
	number  int64            // of the latest question
	latest  map[string]int64 // by system, what it learns of by its documents' ETag
	began   int64            // what it learns of before it is asked anything
	open    map[string]*question
	changed chan struct{} // closed and replaced with every new question
	allowed float64       // of explainBurst
	looked  time.Time     // when allowed was right
}

// A question is open until its asker has enough.
type question struct {
	adminservice.SystemQuestion
	number  int64
	waiting map[string]bool // systems that did not answer yet
	records []opencmg.RequestRecord
	hops    map[string][]adminservice.AskedHop        // that systems asked, by system
	online  map[string][]adminservice.ListeningClient // at management points, by system
	// onlineIDs are those of whom nothing else was asked, at any of the systems.
	onlineIDs map[opencmg.ClientID]bool
	all       chan struct{} // closed when nobody is left to answer
}

func newQuestions(now time.Time) *questions {
	// Numbers of a site before a restart must not come again.
	return &questions{
		number: now.UnixNano(), began: now.UnixNano(), latest: map[string]int64{}, open: map[string]*question{},
		changed: make(chan struct{}), allowed: explainBurst, looked: now,
	}
}

// allow counts one question of an administrator.
func (q *questions) allow(now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.allowed = min(explainBurst, q.allowed+max(now.Sub(q.looked), 0).Seconds()*explainRate)
	q.looked = now
	if q.allowed < 1 {
		return false
	}
	q.allowed--
	return true
}

// ask puts a question to systems. Its ID is given here.
func (q *questions) ask(what adminservice.SystemQuestion, systems []string) (*question, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.open) >= adminservice.MaxQuestions {
		return nil, opencmg.Errorf(opencmg.Unavailable, "the site asks its systems %d things already: try again in some seconds", len(q.open))
	}
	q.number++
	what.ID = newGUID()
	a := &question{
		SystemQuestion: what,
		number:         q.number, waiting: map[string]bool{}, hops: map[string][]adminservice.AskedHop{},
		online: map[string][]adminservice.ListeningClient{}, onlineIDs: map[opencmg.ClientID]bool{}, all: make(chan struct{}),
	}
	for _, id := range systems {
		a.waiting[id] = true
		q.latest[id] = q.number
	}
	if len(systems) == 0 {
		close(a.all)
		return a, nil
	}
	q.open[a.ID] = a
	close(q.changed)
	q.changed = make(chan struct{})
	return a, nil
}

// settle ends a question. It returns those that did not answer; the question is
// the caller's own from then on.
func (q *questions) settle(a *question) (silent map[string]bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.open, a.ID)
	return a.waiting
}

// of returns what a system is to answer, the number of the latest question to
// it, and what is closed with the next question to anybody.
func (q *questions) of(system string) (list []adminservice.SystemQuestion, number int64, changed <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, a := range q.open {
		if a.waiting[system] {
			list = append(list, a.SystemQuestion)
		}
	}
	slices.SortFunc(list, func(a, b adminservice.SystemQuestion) int { return cmp.Compare(a.ID, b.ID) })
	// Who is not asked does not fetch its documents for it.
	return list, cmp.Or(q.latest[system], q.began), q.changed
}

// take adds an answer to its question. One that nobody waits for is dropped.
func (q *questions) take(sys *system, in *adminservice.SystemAnswer) {
	q.mu.Lock()
	defer q.mu.Unlock()
	a := q.open[in.Question]
	if a == nil || !a.waiting[sys.id] {
		return
	}
	delete(a.waiting, sys.id)
	for _, r := range in.Records[:min(len(in.Records), maxAnswerRecords)] {
		// A system speaks for its own kind, and a connection point for the
		// instances that it asked.
		switch {
		case r.CorrelationID != a.CorrelationID:
			continue
		case sys.kind == adminservice.SystemManagementPoint:
			r.Hop = opencmg.HopManagementPoint
		case r.Hop != opencmg.HopGateway:
			r.Hop, r.Where = opencmg.HopConnectionPoint, sys.name
		}
		a.records = append(a.records, r)
	}
	if sys.kind == adminservice.SystemConnectionPoint {
		for _, h := range in.Asked[:min(len(in.Asked), 16*opencmg.MaxInstances)] {
			h.Hop = opencmg.HopGateway
			a.hops[sys.id] = append(a.hops[sys.id], h)
		}
	}
	if a.Kind == adminservice.QuestionOnline && sys.kind == adminservice.SystemManagementPoint {
		a.online[sys.id] = in.Online[:min(len(in.Online), maxOnline)]
		for _, id := range in.OnlineIDs[:min(len(in.OnlineIDs), maxOnline)] {
			a.onlineIDs[id] = true
		}
	}
	if len(a.waiting) == 0 {
		delete(q.open, a.ID)
		close(a.all)
	}
}

// takeAnswer is POST SiteSystem/Answers.
func (s *Server) takeAnswer(w http.ResponseWriter, r *http.Request, sys *system) error {
	var in adminservice.SystemAnswer
	// A newer system may say more than this site knows.
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return opencmg.Errorf(opencmg.Invalid, "the answer can not be read: %v", err)
	}
	s.questions.take(sys, &in)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// getExplanation is GET Explanations/{id}.
func (s *Server) getExplanation(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if !opencmg.IsCorrelationID(id) {
		return opencmg.Errorf(opencmg.Invalid, "%.80q is not a correlation ID: it is 8 to 64 letters, digits and hyphens, which every response carries as %s", id, opencmg.HeaderCorrelationID)
	}
	if !s.questions.allow(s.cfg.Now()) {
		w.Header().Set("Retry-After", "1")
		return opencmg.Errorf(opencmg.Unavailable, "too many requests are being explained: the site asks all of its systems each time; try again in a second")
	}
	e, _, err := s.explain(r.Context(), id, s.explainWait, nil)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, e)
}

// explain asks every system of the site about one request, and waits for answers
// no longer than wait, and for those in silent not at all: they were found to be
// silent a moment ago. hops are what each connection point that answered said of
// the instances, by its ID.
func (s *Server) explain(ctx context.Context, id string, wait time.Duration, silent map[string]bool) (e *adminservice.Explanation, hops map[string][]adminservice.AskedHop, err error) {
	e = &adminservice.Explanation{CorrelationID: id, Records: []opencmg.RequestRecord{}, Asked: []adminservice.AskedHop{}}
	points, err := readAll[pointRecord](ctx, s.db, kindPoint)
	if err != nil {
		return nil, nil, err
	}
	roles, err := readAll[roleRecord](ctx, s.db, kindRole)
	if err != nil {
		return nil, nil, err
	}
	gateways, err := readAll[gatewayRecord](ctx, s.db, kindGateway)
	if err != nil {
		return nil, nil, err
	}
	type asked struct {
		id   string
		hop  adminservice.AskedHop
		last time.Time
	}
	var systems []asked
	for _, p := range points {
		systems = append(systems, asked{id: p.ID, hop: adminservice.AskedHop{Hop: opencmg.HopConnectionPoint, Where: p.Name}})
	}
	for _, r := range roles {
		if r.Value.Own {
			systems = append(systems, asked{id: r.ID, hop: adminservice.AskedHop{Hop: opencmg.HopManagementPoint, Where: r.Name}})
		}
	}
	now := s.cfg.Now()
	var live []string
	for i := range systems {
		if _, systems[i].last = s.live.system(systems[i].id); now.Sub(systems[i].last) <= stale && !silent[systems[i].id] {
			live = append(live, systems[i].id)
		}
	}
	a, err := s.questions.ask(adminservice.SystemQuestion{Kind: adminservice.QuestionExplain, CorrelationID: id}, live)
	if err != nil {
		return nil, nil, err
	}
	patience := time.NewTimer(wait)
	defer patience.Stop()
	select {
	case <-a.all:
	case <-patience.C:
	case <-ctx.Done():
	}
	late := s.questions.settle(a)
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	for _, sys := range systems {
		switch {
		case sys.last.IsZero():
			sys.hop.Problem = "it has not reported since the site started: is its service running, and can it reach the site?"
		case now.Sub(sys.last) > stale:
			sys.hop.Problem = fmt.Sprintf("it reported last at %s: is its service running, and can it reach the site?", sys.last.UTC().Format(time.RFC3339))
		case late[sys.id] || silent[sys.id]:
			sys.hop.Problem = fmt.Sprintf("it did not answer within %v: its service is not running or is of a version that can not answer", wait)
		default:
			sys.hop.Answered = true
		}
		e.Asked = append(e.Asked, sys.hop)
	}
	e.Asked = append(e.Asked, instancesAsked(gateways, slices.Concat(slices.Collect(maps.Values(a.hops))...))...)
	e.Records = append(e.Records, a.records...)
	sortPath(e)
	return e, a.hops, nil
}

// instancesAsked says of every instance whether it answered. Several connection
// points may have asked it, and one answer is enough.
func instancesAsked(gateways []*record[gatewayRecord], hops []adminservice.AskedHop) []adminservice.AskedHop {
	var list []adminservice.AskedHop
	add := func(h adminservice.AskedHop) {
		i := slices.IndexFunc(list, func(o adminservice.AskedHop) bool { return o.Where == h.Where })
		switch {
		case i < 0:
			list = append(list, h)
		case h.Answered:
			list[i].Answered, list[i].Problem = true, ""
		}
	}
	for _, h := range hops {
		add(h)
	}
	for _, g := range gateways {
		for _, m := range g.Value.Machines {
			add(adminservice.AskedHop{Hop: opencmg.HopGateway, Where: g.Value.Prefix + "/" + strconv.Itoa(m.Number), Problem: "no connection point that answered holds a tunnel to it"})
		}
	}
	return list
}

// sortPath puts records and hops in the order of a request's path, and takes out
// records that came on two ways.
func sortPath(e *adminservice.Explanation) {
	order := map[string]int{opencmg.HopGateway: 0, opencmg.HopConnectionPoint: 1, opencmg.HopManagementPoint: 2}
	slices.SortStableFunc(e.Records, func(a, b opencmg.RequestRecord) int {
		return cmp.Or(order[a.Hop]-order[b.Hop], a.Time.Compare(b.Time), cmp.Compare(a.Where, b.Where))
	})
	e.Records = slices.CompactFunc(e.Records, func(a, b opencmg.RequestRecord) bool {
		return a.Hop == b.Hop && a.Where == b.Where && a.Time.Equal(b.Time) && a.Duration == b.Duration
	})
	slices.SortStableFunc(e.Asked, func(a, b adminservice.AskedHop) int {
		return cmp.Or(order[a.Hop]-order[b.Hop], cmp.Compare(a.Where, b.Where))
	})
}
