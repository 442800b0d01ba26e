package gateway

// How an instance goes away while the others stay: the published configuration
// lists it, its load balancer is told by the probe, and its clients leave one by
// one. Nothing is refused meanwhile, since a balancer needs some probes to
// notice. gateway.go has the end itself.

import (
	"errors"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// idleGrace is how long an idle connection of an instance that drains may
	// still begin a request, in milliseconds. Closing at once would meet
	// requests that are on their way.
	idleGrace = 1_000
	// idleGraceHTTP2 is the same for a connection that was told to go and did
	// not, in milliseconds.
	idleGraceHTTP2 = 5_000
	drainLook      = 250 * time.Millisecond
	rotateEvery    = 8 // looks
)

// leave is what a [Server] knows about its own draining.
type leave struct {
	since   atomic.Int64  // milliseconds after Server.began, 0 when it does not drain
	changed chan struct{} // has room for one
}

var errDrains = errors.New("the instance sends its clients away: the site drains it")

// leaving reports whether the site wants the instance without clients.
func (s *Server) leaving() bool { return s.leave.since.Load() != 0 }

// parting reports whether clients should take their next request elsewhere.
func (s *Server) parting() bool { return s.leaving() || s.draining.Load() }

// followDrain takes over what a configuration says about this instance.
func (s *Server) followDrain(n *snapshot) {
	want := slices.Contains(n.cfg.Drain, s.cfg.Instance)
	if want == s.leaving() {
		return
	}
	now := int64(0)
	if want {
		now = max(1, time.Since(s.began).Milliseconds())
	}
	s.leave.since.Store(now)
	select {
	case s.leave.changed <- struct{}{}:
	default:
	}
	if want {
		s.log.Info("instance drains: it sends its clients away", "component", componentService, "settle", s.cfg.DrainSettle)
	} else {
		s.log.Info("instance does not drain any more: it takes clients again", "component", componentService)
	}
}

// settled reports whether the balancer had the time to notice.
func (s *Server) settled() bool {
	since := s.leave.since.Load()
	return since != 0 && time.Since(s.began).Milliseconds()-since >= s.cfg.DrainSettle.Milliseconds()
}

// drained reports whether the instance can be taken away without anybody
// noticing. Connections in the handshake do not count: a balancer sends none
// any more, and strangers always try.
func (s *Server) drained() bool {
	if !s.settled() || s.inFlight.Load() > 0 {
		return false
	}
	open := false
	s.watches.each(nil, func(w *watch) {
		if w.phase() != phaseHandshake {
			open = true
		}
	})
	return !open
}

// leaver does the work of draining until the instance stops.
func (s *Server) leaver() {
	for {
		select {
		case <-s.closing:
			return
		case <-s.leave.changed:
		}
		if !s.sendAway() {
			return
		}
	}
}

// sendAway goes on while the instance drains. It reports false when the
// instance stops.
func (s *Server) sendAway() bool {
	t := time.NewTicker(drainLook)
	defer t.Stop()
	said := false
	for n := 0; s.leaving(); n++ {
		if n%rotateEvery == 0 {
			s.rotateHTTP2()
		}
		s.sendIdleAway(s.tick.Load())
		if s.settled() {
			// Not before: who asks again at once would come back here.
			s.interruptAll(causeShutdown, func(w *watch, p phase) bool { return p == phaseWait && w.held() })
		}
		if !said && s.drained() {
			said = true
			s.log.Info("instance is drained: no client is left", "component", componentService)
		}
		select {
		case <-s.closing:
			return false
		case <-s.leave.changed:
		case <-t.C:
		}
	}
	return true
}

// sendIdleAway ends connections that are idle for a while by the time now, in
// milliseconds of tick. HTTP/1.1 has no way to tell a client before it asks.
func (s *Server) sendIdleAway(now int64) {
	s.watches.each(nil, func(w *watch) {
		old := w.state.Load()
		switch idle := now - int64(old&tickMask); phase(old >> phaseShift) {
		case phaseIdle:
			if idle >= idleGrace {
				w.sendAway(old)
			}
		case phaseIdleHTTP2:
			if idle >= idleGraceHTTP2 {
				w.interrupt(old, causeShutdown)
			}
		}
	})
}

// sendAway wakes the owner of an idle connection. Other than after interrupt,
// the owner may go on.
func (w *watch) sendAway(old uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if cause(old>>causeShift&0xf) == causeNone && w.state.CompareAndSwap(old, old|uint64(causeLeave)<<causeShift) {
		w.conn.SetReadDeadline(aLongTimeAgo)
	}
}

// resume takes a sendAway back.
func (w *watch) resume(p phase) {
	w.mu.Lock() // so that the deadline of sendAway is there
	defer w.mu.Unlock()
	w.conn.SetReadDeadline(time.Time{})
	w.state.Store(uint64(p)<<phaseShift | uint64(w.tick.Load()))
}

// readHead waits for the head of a request. A request that comes while its
// connection is sent away is a request like any other.
func (c *clientConn) readHead() ([]byte, error) {
	for {
		head, err := c.r.ReadHead(c.s.snap.Load().limits.headerBytes, c.begun)
		switch {
		case c.watch.cause() != causeLeave:
			return head, err
		case err == nil:
			c.watch.resume(phaseHead)
			return head, nil
		case c.r.Buffered() == 0 && !unread(c.raw):
			c.watch.resume(phaseIdle)
			return nil, errDrains
		}
		c.watch.resume(phaseIdle)
	}
}

// rotateHTTP2 tells all HTTP/2 clients to take their next streams elsewhere,
// and leaves those that come from now on to another server.
func (s *Server) rotateHTTP2() {
	s.http2mu.Lock()
	defer s.http2mu.Unlock()
	select {
	case <-s.closing:
		return // closeHTTP2 does it
	default:
	}
	old, conns := s.http2, s.http2Conns.Load()
	if conns.len() == 0 {
		return
	}
	s.http2 = s.newHTTP2(conns.addr)
	s.serveHTTP2Conns()
	s.wg.Go(func() { s.shutdownHTTP2(s.ctx, old) })
}

// serveHTTP2Conns starts the present HTTP/2 server. s.http2mu is held.
func (s *Server) serveHTTP2Conns() {
	srv, conns := s.http2, s.http2Conns.Load()
	s.wg.Go(func() { srv.Serve(conns) })
}

// awaitConfiguration gives a connection point the time to deliver the first
// configuration to an instance that has just started.
func (x *exchange) awaitConfiguration() {
	r := &x.s.roster
	r.wait(x, func() bool { return x.s.snap.Load().cfg != nil })
	x.snap = x.s.snap.Load()
}
