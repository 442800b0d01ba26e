package site

import (
	"context"
	"sync"
)

// A showing tells those who show the site that something of what is shown may have
// changed.
type showing struct {
	mu      sync.Mutex // guards waiting
	waiting map[chan struct{}]bool
}

// tell wakes all who wait.
func (s *showing) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ch := range s.waiting {
		select {
		case ch <- struct{}{}:
		default: // it has not looked since the last time
		}
	}
}

// changes returns a channel that gets a value soon after something of what is
// shown changed: an object of the database, an operation, an alert, or what a
// site system reported. Several changes may give one value: read what matters
// again after each. The channel is closed when ctx ends. A listener costs next
// to nothing while nothing happens.
//
// Ask for changes first and read then, so that no change falls between.
func (s *Server) changes(ctx context.Context) <-chan struct{} {
	ch := make(chan struct{}, 1)
	s.shown.mu.Lock()
	defer s.shown.mu.Unlock()
	if s.shown.waiting == nil {
		s.shown.waiting = map[chan struct{}]bool{}
	}
	s.shown.waiting[ch] = true
	context.AfterFunc(ctx, func() {
		s.shown.mu.Lock()
		defer s.shown.mu.Unlock()
		delete(s.shown.waiting, ch)
		close(ch)
	})
	return ch
}

// followChanges passes the changes of the database on, also those of other
// processes, until ctx ends.
func (s *Server) followChanges(ctx context.Context) error {
	for range s.db.Watch(ctx) {
		s.shown.tell()
	}
	return nil
}
