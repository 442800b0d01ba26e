package site

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/azure"
)

// What a server application may choose from in its cloud: subscriptions, and of
// one of them regions and resource groups.

func (s *Server) listSubscriptions(w http.ResponseWriter, r *http.Request) error {
	return answerChoices(s, w, r, "subscriptions", Cloud.Subscriptions, func(v azure.Subscription) adminservice.Subscription {
		return adminservice.Subscription{ID: v.ID, Name: v.Name, State: v.State}
	})
}

func (s *Server) listRegions(w http.ResponseWriter, r *http.Request) error {
	return answerChoices(s, w, r, "regions", Cloud.Regions, func(v azure.Region) adminservice.Region {
		return adminservice.Region{Name: v.Name, DisplayName: v.DisplayName}
	})
}

func (s *Server) listResourceGroups(w http.ResponseWriter, r *http.Request) error {
	return answerChoices(s, w, r, "resource groups", Cloud.ResourceGroups, func(v azure.ResourceGroup) adminservice.ResourceGroup {
		return adminservice.ResourceGroup{Name: v.Name, Region: v.Region}
	})
}

// answerChoices answers a list that the cloud gives the application of the path,
// in the subscription of the path if there is one. The caller may say how many
// seconds to wait for it.
func answerChoices[T, U any](s *Server, w http.ResponseWriter, r *http.Request, what string, ask func(Cloud, context.Context) ([]T, error), show func(T) U) error {
	ctx := r.Context()
	app, err := read[applicationRecord](ctx, s.db, kindApplication, r.PathValue("id"))
	if err != nil {
		return err
	}
	if app.Value.Kind != adminservice.ServerApplication {
		return opencmg.Errorf(opencmg.Conflict, "application %s is a client application: a server application signs in to Azure", app.Name)
	}
	subscription := strings.ToLower(r.PathValue("subscription"))
	if r.PathValue("subscription") != "" && !opencmg.IsGUID(subscription) {
		return opencmg.Errorf(opencmg.Invalid, "subscription %q: must be a GUID", r.PathValue("subscription")).About("subscription")
	}
	wait := choicesWait
	if r.URL.Query().Has("wait") {
		n, err := queryNumber(r, "wait", int(choicesWait/time.Second))
		if err != nil {
			return err
		}
		wait = time.Duration(n) * time.Second
	}
	// A sign-in that was changed is another one: its answer is not that of the last.
	key := choicesKey{app.ID, app.Version, subscription, what}
	list, err := s.choices.get(ctx, key, wait, func(ctx context.Context) (any, error) {
		in, err := s.signInAs(ctx, app, subscription)
		if err != nil {
			return nil, err
		}
		cloud, err := s.cfg.Cloud(in)
		if err != nil {
			return nil, err
		}
		list, err := ask(cloud, ctx)
		if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, opencmg.Errorf(opencmg.Timeout, "the cloud did not list the %s within %d seconds: type what you want, or ask again in a while", what, choicesTimeout/time.Second)
		}
		shown := []U{}
		for _, v := range list {
			shown = append(shown, show(v))
		}
		return shown, cloudProblem(err, "the cloud does not list the "+what)
	})
	if err != nil {
		return err
	}
	return answerList(w, r, list.([]U))
}

const (
	// choicesTimeout bounds how long the cloud is asked for one list: somebody
	// sits before a form. Who waits as long as choicesWait learns of that.
	choicesTimeout, choicesWait = 8 * time.Second, 10 * time.Second
	// choicesKept is how long a list is answered again, and refusalKept how long
	// a failure is: until somebody gave the missing role, and not at every key
	// that is pressed.
	choicesKept, refusalKept = time.Minute, 10 * time.Second
	// maxChoices bounds the lists that are kept, maxChoicesAsked those that are
	// asked for at once, and maxChoicesQueued those that wait for their turn.
	maxChoices, maxChoicesAsked, maxChoicesQueued = 32, 4, 8
)

// choicesKey says what a list is of.
type choicesKey struct {
	app          string
	version      int64 // of the application's record
	subscription string
	what         string
}

// A choiceList is a list of the cloud, or why there is none.
type choiceList struct {
	known chan struct{} // closed when the rest is set
	at    time.Time
	list  any
	err   error
}

func (c *choiceList) isKnown() bool {
	select {
	case <-c.known:
		return true
	default:
		return false
	}
}

// choices keeps lists of the cloud for a while, and asks for each once at a time,
// whoever wants it and goes on waiting.
type choices struct {
	now  func() time.Time
	jobs chan func(context.Context)

	mu   sync.Mutex // guards what follows
	kept map[choicesKey]*choiceList
}

func newChoices(now func() time.Time) *choices {
	return &choices{now: now, jobs: make(chan func(context.Context), maxChoicesQueued), kept: map[choicesKey]*choiceList{}}
}

// get returns the list of the key. ask asks the cloud for one that is not kept,
// off the caller's path: whoever waits no longer than wait gets it the next time.
func (c *choices) get(ctx context.Context, key choicesKey, wait time.Duration, ask func(context.Context) (any, error)) (any, error) {
	l, err := c.begin(key, ask)
	if err != nil {
		return nil, err
	}
	if !l.isKnown() {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-l.known:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
			return nil, opencmg.Errorf(opencmg.Unavailable, "the cloud is being asked for the %s: ask again in a moment", key.what)
		}
	}
	return l.list, l.err
}

// begin returns the list of the key as it is kept, or as it will be.
func (c *choices) begin(key choicesKey, ask func(context.Context) (any, error)) (*choiceList, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.kept[key]; l != nil && c.counts(l) {
		return l, nil
	}
	l := &choiceList{known: make(chan struct{})}
	job := func(ctx context.Context) {
		asking, cancel := context.WithTimeout(ctx, choicesTimeout)
		defer cancel()
		l.list, l.err = ask(asking)
		l.at = c.now()
		close(l.known)
	}
	select {
	case c.jobs <- job:
	default:
		return nil, opencmg.Errorf(opencmg.Unavailable, "the cloud is being asked for too many lists at once: ask again in a moment")
	}
	c.makeRoom()
	c.kept[key] = l
	return l, nil
}

// counts reports whether a list is on its way or not too old. The caller holds mu.
func (c *choices) counts(l *choiceList) bool {
	if !l.isKnown() {
		return true
	}
	most := choicesKept
	if l.err != nil {
		most = refusalKept
	}
	return c.now().Sub(l.at) < most
}

// makeRoom forgets what does not count any more, and the oldest list when there
// are too many. Those on their way are fewer than may be kept. The caller holds
// mu.
func (c *choices) makeRoom() {
	var oldest choicesKey
	var at time.Time
	for key, l := range c.kept {
		switch {
		case !c.counts(l):
			delete(c.kept, key)
		case l.isKnown() && (at.IsZero() || l.at.Before(at)):
			oldest, at = key, l.at
		}
	}
	if len(c.kept) >= maxChoices {
		delete(c.kept, oldest)
	}
}

// run asks the cloud until ctx ends.
func (c *choices) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case job := <-c.jobs:
			job(ctx)
		}
	}
}
