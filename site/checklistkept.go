package site

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
)

// What a checklist saw outside, kept for pages that come again by themselves:
// the cloud, the directory and the network take seconds to answer, and have
// limits.

// An outsideLook is what the cloud, the directory and the network said.
type outsideLook struct {
	cloud      map[string]opencmg.Check // by ID
	cloudWhy   verdict                  // instead, when nobody could look
	signIn     error                    // of the server app
	consent    map[string]opencmg.Check
	consentWhy string
	own        *opencmg.ProbeReport // of the site server
	// pending says that nothing is known yet: somebody looks.
	pending bool
}

// comesSoon is the verdict of an item whose answer is on its way.
func comesSoon() verdict {
	return todo("wait a moment", "", "this is being looked at now")
}

// keptOutside is the last look, and who looks at present.
type keptOutside struct {
	mu   sync.Mutex // guards what follows
	key  string     // what the last look was about
	at   time.Time
	look *outsideLook
	busy map[string]chan struct{} // by key; closed when that look has ended
	jobs chan *checklist          // for looks in the background
}

// maxOutside bounds the looks in the background that wait for others.
const maxOutside = 8

func newKeptOutside() *keptOutside {
	return &keptOutside{busy: map[string]chan struct{}{}, jobs: make(chan *checklist, maxOutside)}
}

// shortWait is how long a page waits for a look that was not kept. It is kept
// when it comes later.
const shortWait = 50 * time.Millisecond

// outsideKey names what a look would be about: when an object of the site that
// matters changed, an older look does not count.
func (c *checklist) outsideKey() string {
	key := []any{c.in, c.gatewayID}
	for _, g := range c.gateways {
		// A record changes with every step of a deployment; what is asked
		// outside depends on these.
		key = append(key, g.ID, g.Value.State, g.Value.ServiceName, g.Value.Settings)
	}
	for _, a := range c.apps {
		key = append(key, a.ID, a.Version)
	}
	for _, a := range c.services {
		key = append(key, a.ID, a.Value.ServerAppID, a.Value.ClientAppID, a.Value.UserDiscovery, a.Value.GroupDiscovery)
	}
	b, err := json.Marshal(key)
	if err != nil {
		return fmt.Sprint(key...)
	}
	return string(b)
}

// lookOutsideLately is lookOutside with an answer that is at most that old. When
// there is none, somebody begins to look; the page gets the last look at the
// same things, however old, or is told that it takes a moment.
func (c *checklist) lookOutsideLately(most time.Duration) {
	k, key := c.s.outside, c.outsideKey()
	k.mu.Lock()
	if k.key == key && c.now.Sub(k.at) <= most {
		c.outsideLook = *k.look
		k.mu.Unlock()
		return
	}
	done := k.busy[key]
	if done == nil {
		job := *c
		select {
		case k.jobs <- &job:
			done = make(chan struct{})
			k.busy[key] = done
		default:
		}
	}
	k.mu.Unlock()
	timer := time.NewTimer(shortWait)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-c.ctx.Done():
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.key == key {
		c.outsideLook = *k.look
		return
	}
	c.outsideLook = outsideLook{pending: true, cloudWhy: comesSoon(), consentWhy: comesSoon().evidence}
}

// runOutside looks for pages until ctx ends.
func (s *Server) runOutside(ctx context.Context) error {
	k := s.outside
	for {
		select {
		case <-ctx.Done():
			return nil
		case c := <-k.jobs:
			looking, cancel := context.WithTimeout(ctx, checklistTimeout)
			c.ctx = looking
			c.lookOutside()
			cancel()
			key := c.outsideKey()
			k.mu.Lock()
			if ctx.Err() == nil {
				look := c.outsideLook
				k.key, k.at, k.look = key, s.cfg.Now(), &look
			}
			close(k.busy[key])
			delete(k.busy, key)
			k.mu.Unlock()
			s.shown.tell()
		}
	}
}
