package tunnel

// The ways in which a stream ends before its time, by this side, by the peer,
// or with the connection (SPEC §3, §8).

// StopReading tells the peer that no more of its body is wanted. Reads that
// wait return an error with CodeStopped; writing goes on.
func (s *Stream) StopReading() {
	s.mu.Lock()
	if s.rerr != nil {
		s.mu.Unlock()
		return
	}
	s.rerr = &StreamError{Code: CodeStopped}
	s.clearInbox()
	if s.gotEnd {
		s.mu.Unlock()
		return
	}
	s.gotEnd = true
	done := s.sentEnd
	s.rcond.Broadcast()
	s.mu.Unlock()
	var frame [headerSize]byte
	s.c.w.control(appendHeader(frame[:0], frameStop, 0, s.id, 0))
	if done {
		s.c.remove(s)
	}
}

// Reset ends both directions of the stream. Every call that waits returns a
// *StreamError with the code. It does nothing to a stream that has ended.
func (s *Stream) Reset(code Code) { s.reset(&StreamError{Code: code}) }

// Fail is Reset with a text for the peer, at most 256 bytes.
func (s *Stream) Fail(code Code, msg string) { s.reset(&StreamError{Code: code, Msg: msg}) }

// Refuse is Fail for a request that provably never reached a role: the peer's
// error has NotProcessed set.
func (s *Stream) Refuse(code Code, msg string) {
	s.reset(&StreamError{Code: code, NotProcessed: true, Msg: msg})
}

func (s *Stream) reset(e *StreamError) {
	s.mu.Lock()
	live := !s.gotEnd || !s.sentEnd
	if s.rerr == nil {
		s.rerr = e
	}
	if s.werr == nil {
		s.werr = e
	}
	s.clearInbox()
	s.gotEnd, s.sentEnd = true, true
	s.aborted.Store(live)
	s.rcond.Broadcast()
	s.wcond.Broadcast()
	s.mu.Unlock()
	if live {
		s.c.w.control(appendReset(nil, s.id, e.Code, e.NotProcessed, e.Msg))
		s.c.remove(s)
	}
}

// abort ends the stream because the peer or the connection did. What came whole
// stays readable.
func (s *Stream) abort(e *StreamError) {
	s.mu.Lock()
	if s.gotEnd && s.sentEnd {
		s.mu.Unlock()
		return
	}
	if !s.gotEnd {
		s.gotEnd = true
		s.rerr = e
		s.clearInbox()
	}
	if !s.sentEnd {
		s.sentEnd = true
		s.werr = e
	}
	s.aborted.Store(true)
	f := s.onReset
	s.onReset = nil
	s.rcond.Broadcast()
	s.wcond.Broadcast()
	s.mu.Unlock()
	if f != nil {
		f()
	}
}

// clearInbox drops what nobody will read. s.mu is held.
func (s *Stream) clearInbox() {
	s.c.headBytes.Add(-int64(s.in.headBytes))
	s.in.clear()
	s.releaseWindow()
}

// OnReset sets what is called once when the peer resets the stream or the
// connection ends, and calls it at once if that has happened. It is called from
// the connection's own goroutine and must not wait. OnReset(nil) takes it back;
// a call that has begun may still be running then.
func (s *Stream) OnReset(f func()) {
	s.mu.Lock()
	now := f != nil && s.aborted.Load()
	if now {
		s.onReset = nil
	} else {
		s.onReset = f
	}
	s.mu.Unlock()
	if now {
		f()
	}
}
