package tunnel

import "sync"

// workers call handlers. A goroutine that has done one stream waits for the
// next, so that its stack stays as large as handlers need it. Those that were
// not needed since the keeper's last look end.
type workers struct {
	c   *Conn
	all sync.WaitGroup

	mu      sync.Mutex
	idle    *worker // the one that worked last first
	n       int     // idle
	low     int     // fewest idle since trim
	stopped bool
}

type worker struct {
	next *worker
	job  chan *Stream // nil ends the worker
}

// start has the handler called for a stream, without waiting.
func (ws *workers) start(s *Stream) {
	ws.mu.Lock()
	w := ws.idle
	if w != nil {
		ws.idle = w.next
		ws.n--
		ws.low = min(ws.low, ws.n)
	}
	ws.mu.Unlock()
	if w != nil {
		w.job <- s
		return
	}
	ws.all.Go(func() { ws.run(&worker{job: make(chan *Stream, 1)}, s) })
}

func (ws *workers) run(w *worker, s *Stream) {
	for s != nil {
		ws.c.cfg.Handler(s)
		ws.c.handled(s)
		ws.mu.Lock()
		if ws.stopped {
			ws.mu.Unlock()
			return
		}
		w.next, ws.idle = ws.idle, w
		ws.n++
		ws.mu.Unlock()
		s = <-w.job
	}
}

// trim ends the workers that were idle all the time since the last call.
func (ws *workers) trim() {
	ws.mu.Lock()
	n := ws.low
	if keep := ws.n - n; n > 0 {
		at := &ws.idle
		for range keep {
			at = &(*at).next
		}
		for w := *at; w != nil; w = w.next {
			w.job <- nil
		}
		*at = nil
		ws.n = keep
	}
	ws.low = ws.n
	ws.mu.Unlock()
}

// stop lets idle workers end, and the others after their handler.
func (ws *workers) stop() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.stopped = true
	for w := ws.idle; w != nil; w = w.next {
		w.job <- nil
	}
	ws.idle, ws.n = nil, 0
}

// wait returns when all handlers have, after the connection has ended.
func (ws *workers) wait() { ws.all.Wait() }

// handled ends what a handler left unfinished of its stream.
func (c *Conn) handled(s *Stream) {
	s.mu.Lock()
	complete := s.sentEnd && s.werr == nil
	s.onReset = nil
	s.mu.Unlock()
	if complete {
		s.StopReading() // does nothing when the request was read
	} else {
		s.Fail(CodeInternal, "the handler did not finish the answer")
	}
	c.headBytes.Add(-int64(s.kept))
	c.mu.Lock()
	c.handlers--
	c.checkDrained()
	c.mu.Unlock()
}
