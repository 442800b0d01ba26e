package site

import (
	"context"
	"sync"
)

// pageChanges tells the pages of the console about what is not in the database:
// reports of site systems, and analyses that go on. The zero value is ready.
type pageChanges struct {
	mu      sync.Mutex // guards waiting
	waiting map[chan struct{}]bool
}

// tell wakes every page.
func (p *pageChanges) tell() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for ch := range p.waiting {
		nudge(ch)
	}
}

// watch has ch told until ctx ends.
func (p *pageChanges) watch(ctx context.Context, ch chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting == nil {
		p.waiting = map[chan struct{}]bool{}
	}
	p.waiting[ch] = true
	context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.waiting, ch)
	})
}

// nudge leaves a value in a channel that holds one.
func nudge(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// changes tells about everything that a page may show, until ctx ends.
func (s *Server) changes(ctx context.Context) <-chan struct{} {
	ch := make(chan struct{}, 1)
	s.pages.watch(ctx, ch)
	stored := s.db.Watch(ctx)
	go func() {
		for range stored {
			nudge(ch)
		}
	}()
	return ch
}

// showChanges tells the pages that something changed which is not in the
// database.
func (s *Server) showChanges() { s.pages.tell() }
