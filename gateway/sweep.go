package gateway

import (
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencmg/opencmg/tunnel"
)

// All timeouts of clients, and the watch for clients that went away while they
// waited, are the work of one goroutine that sweeps over every connection. So
// a connection that waits has neither a timer nor a spare goroutine, and a
// request costs no deadline calls: entering a phase is one atomic exchange.

const (
	sweepInterval = 500 * time.Millisecond
	goneEvery     = 6 // sweeps between looks at waiting connections
)

// A phase is what a connection or HTTP/2 request waits for.
type phase uint64

const (
	phaseHandshake   phase = iota
	phaseIdle              // for a request to begin
	phaseHead              // for the rest of its head
	phaseReadBody          // for body bytes of the client
	phaseSendBody          // for the tunnel to take them
	phaseWait              // for the role's answer
	phaseReadAnswer        // for more of the answer's body
	phaseWriteAnswer       // for the client to take it
	phaseWork              // for nobody: the gateway is at work
	phaseClosing
	phaseIdleHTTP2 // for a stream to begin on an HTTP/2 connection
)

// A cause is why a phase was ended from outside.
type cause uint64

const (
	causeNone     cause = iota
	causeTimeout        // the phase took too long
	causeGone           // the client went away
	causeBlocked        // its token or certificate was blocked
	causeShutdown       // the instance closes
	causeLeave          // it drains, and the connection is idle; see readHead
)

// The state of a watch is one word: phase, cause, and the time at which the
// phase was entered or last made progress, in milliseconds of Server.tick.
const (
	phaseShift = 60
	causeShift = 56
	tickMask   = 1<<causeShift - 1
)

// A watch is what the sweeper sees of a client connection, or of one request
// on an HTTP/2 connection.
type watch struct {
	state atomic.Uint64
	tick  *atomic.Int64
	// conn wakes its owner from reads and writes.
	conn deadliner
	fd   int32 // -1 when the connection can not be polled

	mu sync.Mutex // guards what follows; held for moments only
	// stream, caller and limit belong to the request in flight. limit bounds
	// the wait for its answer in milliseconds, 0 not at all.
	stream *tunnel.Stream
	caller *caller
	limit  int64

	shard *shard
	index int // in shard.list, guarded by shard.mu
}

type deadliner interface {
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// aLongTimeAgo is a deadline that wakes at once.
var aLongTimeAgo = time.Unix(1, 0)

// enter begins a phase and reports whether nobody ended the one before.
func (w *watch) enter(p phase) bool {
	for {
		old := w.state.Load()
		if cause(old>>causeShift&0xf) != causeNone {
			return false
		}
		if w.state.CompareAndSwap(old, uint64(p)<<phaseShift|uint64(w.tick.Load())) {
			return true
		}
	}
}

// step is enter for the goroutine of an upload: it notes progress, and changes
// the phase only as long as the exchange is still about the body.
func (w *watch) step(p phase) bool {
	for {
		old := w.state.Load()
		if cause(old>>causeShift&0xf) != causeNone {
			return false
		}
		next := phase(old >> phaseShift)
		if next == phaseReadBody || next == phaseSendBody {
			next = p
		}
		if w.state.CompareAndSwap(old, uint64(next)<<phaseShift|uint64(w.tick.Load())) {
			return true
		}
	}
}

// recover lets the owner of an interrupted phase answer the client. The
// connection ends after that, since the interruption may reach it late.
func (w *watch) recover() {
	w.end()
	w.state.Store(uint64(phaseWork)<<phaseShift | uint64(w.tick.Load()))
}

func (w *watch) cause() cause { return cause(w.state.Load() >> causeShift & 0xf) }

func (w *watch) phase() phase { return phase(w.state.Load() >> phaseShift) }

// interrupt ends the phase seen in old for the cause, unless the owner was
// faster.
func (w *watch) interrupt(old uint64, c cause) bool {
	if cause(old>>causeShift&0xf) != causeNone || !w.state.CompareAndSwap(old, old|uint64(c)<<causeShift) {
		return false
	}
	switch phase(old >> phaseShift) {
	case phaseHandshake, phaseIdle, phaseHead, phaseIdleHTTP2:
		w.conn.SetReadDeadline(aLongTimeAgo)
		if phase(old>>phaseShift) == phaseHandshake {
			w.conn.SetWriteDeadline(aLongTimeAgo)
		}
	case phaseReadBody:
		w.conn.SetReadDeadline(aLongTimeAgo)
	case phaseSendBody, phaseWait, phaseReadAnswer:
		w.mu.Lock()
		if w.stream != nil {
			w.stream.Reset(tunnel.CodeCancelled)
		}
		w.mu.Unlock()
		if c != causeTimeout {
			// A goroutine may still read the body of this request.
			w.conn.SetReadDeadline(aLongTimeAgo)
		}
	case phaseWriteAnswer:
		w.conn.SetWriteDeadline(aLongTimeAgo)
	}
	return true
}

// begin notes the request in flight, so that the sweeper can end it.
func (w *watch) begin(s *tunnel.Stream, c *caller, limit int64) {
	w.mu.Lock()
	w.stream, w.caller, w.limit = s, c, limit
	w.mu.Unlock()
}

// end forgets the request. No reset can follow.
func (w *watch) end() {
	w.mu.Lock()
	w.stream, w.caller, w.limit = nil, nil, 0
	w.mu.Unlock()
}

const watchShards = 16

// watches is the set of all watches.
type watches struct {
	next   atomic.Uint32
	shards [watchShards]shard
}

type shard struct {
	mu   sync.Mutex // guards list and the index of its members
	list []*watch
}

func (ws *watches) add(w *watch) {
	s := &ws.shards[ws.next.Add(1)%watchShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	w.shard, w.index = s, len(s.list)
	s.list = append(s.list, w)
}

func (ws *watches) remove(w *watch) {
	s := w.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.list) - 1
	s.list[w.index] = s.list[last]
	s.list[w.index].index = w.index
	s.list[last] = nil
	s.list = s.list[:last]
	if cap(s.list) > 1024 && len(s.list) < cap(s.list)/4 {
		s.list = append(make([]*watch, 0, cap(s.list)/2), s.list...)
	}
}

// each calls f for every watch that is there at some time during the call.
// buf is used for the copy that lets f take its time.
func (ws *watches) each(buf []*watch, f func(*watch)) []*watch {
	for i := range ws.shards {
		s := &ws.shards[i]
		s.mu.Lock()
		buf = append(buf[:0], s.list...)
		s.mu.Unlock()
		for _, w := range buf {
			f(w)
		}
		clear(buf)
	}
	return buf[:0]
}

// sweeper runs until stop is closed.
func (s *Server) sweeper(stop <-chan struct{}) {
	t := time.NewTicker(sweepInterval)
	defer t.Stop()
	var sw sweep
	var tr trimmer
	for n := 1; ; n++ {
		select {
		case <-stop:
			return
		case <-t.C:
			s.tick.Store(time.Since(s.began).Milliseconds())
			s.sweep(&sw, s.tick.Load(), n%goneEvery == 0)
			if tr.due(s.tick.Load(), s.connections.Load()) {
				// Two collections: each halves the stacks that grew.
				runtime.GC()
				debug.FreeOSMemory()
			}
		}
	}
}

// A trimmer says when memory should go back to the system. A handshake needs a
// multiple of what its connection keeps, and an instance whose clients only
// wait allocates so little that the collector would not come by for minutes.
type trimmer struct {
	low    int64 // fewest connections since the last time
	before int64 // connections at the last sweep
	last   int64 // time of the last time
}

// due reports whether many connections came since the last time and no more
// are coming now.
func (t *trimmer) due(now, connections int64) bool {
	arrived := connections - t.before
	t.before = connections
	t.low = min(t.low, connections)
	if grown := connections - t.low; grown < trimAfter || grown < t.low/4 || arrived > connections/50 || t.last > 0 && now-t.last < trimPause {
		return false
	}
	t.low, t.last = connections, now
	return true
}

const (
	trimAfter = 200   // connections
	trimPause = 2_000 // milliseconds
)

// sweep holds the sweeper's buffers.
type sweep struct {
	watches []*watch
	polled  poller
}

// sweep ends every phase that took too long by the time now, in milliseconds
// of tick. With gone it also looks for clients that went away.
func (s *Server) sweep(sw *sweep, now int64, gone bool) {
	limits := &s.snap.Load().limits
	sw.watches = s.watches.each(sw.watches, func(w *watch) {
		old := w.state.Load()
		p, idle := phase(old>>phaseShift), now-int64(old&tickMask)
		var limit int64
		switch p {
		case phaseHandshake:
			limit = handshakeTimeout
		case phaseIdle, phaseIdleHTTP2:
			limit = limits.idle
		case phaseHead:
			limit = limits.header
		case phaseReadBody, phaseWriteAnswer:
			limit = limits.body
		case phaseClosing:
			limit = closeTimeout
		case phaseSendBody, phaseWait, phaseReadAnswer:
			w.mu.Lock()
			limit = w.limit
			w.mu.Unlock()
			if p == phaseSendBody && limit == 0 {
				limit = limits.response
			}
			if gone && w.fd >= 0 {
				sw.polled.add(w)
			}
		}
		if limit > 0 && idle >= limit {
			w.interrupt(old, causeTimeout)
		}
	})
	if gone {
		sw.polled.flush()
	}
}

// handshakeTimeout and closeTimeout are in milliseconds.
const (
	handshakeTimeout = 10_000
	closeTimeout     = 2_000
)

// interruptAll ends the phases that match.
func (s *Server) interruptAll(c cause, match func(*watch, phase) bool) {
	s.watches.each(nil, func(w *watch) {
		if old := w.state.Load(); match(w, phase(old>>phaseShift)) {
			w.interrupt(old, c)
		}
	})
}

// held reports whether the request in flight may wait without limit.
func (w *watch) held() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stream != nil && w.limit == 0
}
