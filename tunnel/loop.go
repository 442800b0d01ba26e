package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// A reader is what the goroutine that reads owns. It never waits for anybody
// but the network: what it brings goes into the streams' inboxes, which flow
// control bounds. Those who wait are woken when everything that came with one
// read is in place, so that a small answer costs one wake-up.
type reader struct {
	buf  []byte
	r, w int // unread part of buf
	woke []*Stream
	last *Stream // of the last frame, since frames come in bursts
	pace struct{ pings, resets int }
	tick int64 // keeper's count when pace was reset
}

const (
	readBuffer = maxFrame + 16<<10
	// What a peer may send between two of our own pings.
	maxPings = 256
)

func (c *Conn) run() {
	c.going, c.dying, c.done = make(chan struct{}), make(chan struct{}), make(chan struct{})
	c.streams = make(map[uint64]*Stream)
	c.nextID = 2
	if c.client {
		c.nextID = 1
	}
	c.budget.Store(int64(c.cfg.WindowBudget))
	c.w.init(c.nc, &c.now, &c.load)
	c.workers.c = c
	var loops sync.WaitGroup
	loops.Go(c.write)
	loops.Go(c.read)
	go c.keep(&loops) // waits for the other two; Close waits for it
}

// write is the writer's goroutine.
func (c *Conn) write() {
	if err := c.w.run(); err != nil {
		c.fail(&ConnError{Code: CodeTunnelLost, Msg: "writing", Err: err}, false)
		return
	}
	if cw, ok := c.nc.(interface{ CloseWrite() error }); ok {
		cw.CloseWrite()
	}
}

// read is the reader's goroutine.
func (c *Conn) read() {
	q := &c.reader
	q.buf = make([]byte, readBuffer)
	err := c.readFrames(q)
	c.wakeAll(q)
	var ce *ConnError
	if errors.As(err, &ce) {
		c.fail(ce, !ce.Remote)
	} else {
		if err == io.EOF {
			err = nil
		}
		c.fail(&ConnError{Code: CodeTunnelLost, Msg: "the peer closed the connection without a word", Err: err}, false)
	}
	// Whoever fails the connection with a last word lets the peer read it.
	io.Copy(io.Discard, c.nc)
}

func (c *Conn) readFrames(q *reader) error {
	for {
		n, err := c.nc.Read(q.buf[q.w:])
		if n > 0 {
			q.w += n
			c.counts.in.Add(uint64(n))
			c.heard.Store(c.now.Load())
			if err := c.frames(q); err != nil {
				return err
			}
			c.wakeAll(q)
			if c.w.overflow.Load() {
				return &ConnError{Code: CodeRefused, Msg: "the peer does not read what is sent to it"}
			}
		}
		if err != nil || c.failed.Load() {
			return err
		}
	}
}

// frames handles every whole frame in the buffer.
func (c *Conn) frames(q *reader) error {
	for q.w-q.r >= headerSize {
		h, err := parseHeader(q.buf[q.r:])
		if err != nil {
			return err
		}
		size := headerSize + h.length
		if q.w-q.r < size {
			break
		}
		p := q.buf[q.r+headerSize : q.r+size]
		q.r += size
		if err := c.frame(q, h, p); err != nil {
			return err
		}
	}
	if q.r == q.w {
		q.r, q.w = 0, 0
	} else if len(q.buf)-q.w < maxFrame {
		q.w = copy(q.buf, q.buf[q.r:q.w])
		q.r = 0
	}
	return nil
}

func (c *Conn) frame(q *reader, h header, p []byte) error {
	switch h.typ {
	case frameOpen:
		return c.accept(q, h, p)
	case frameData, frameHead, frameTrailers, frameReset, frameStop, frameWindow:
		s, err := c.stream(q, h)
		if s == nil {
			return err
		}
		return c.deliver(q, s, h, p)
	case framePing:
		q.relax(c)
		if q.pace.pings++; q.pace.pings > maxPings {
			return protocolError("more than %d pings at a time", maxPings)
		}
		var pong [headerSize + 8]byte
		c.w.control(appendPing(pong[:0], framePong, binary.BigEndian.Uint64(p)))
	case framePong:
		c.pong(binary.BigEndian.Uint64(p))
	case frameGoAway:
		last, e := parseGoAway(p)
		return c.awayFrame(last, e)
	case frameHello:
		return protocolError("a second HELLO")
	}
	return nil
}

// relax begins a new interval of what the peer may send unasked.
func (q *reader) relax(c *Conn) {
	if t := c.pings.count.Load(); t != q.tick {
		q.tick, q.pace.pings, q.pace.resets = t, 0, 0
	}
}

// stream finds the stream of a frame; nil without an error when it has ended.
func (c *Conn) stream(q *reader, h header) (*Stream, error) {
	if q.last != nil && q.last.id == h.id {
		return q.last, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams[h.id]; s != nil {
		q.last = s
		return s, nil
	}
	ours := h.id&1 == c.nextID&1
	if ours && h.id >= c.nextID || !ours && h.id > c.lastPeer {
		return nil, protocolError("%v frame on stream %d, which was never opened", h.typ, h.id)
	}
	return nil, nil
}

// accept takes a stream that the peer opens.
func (c *Conn) accept(q *reader, h header, p []byte) error {
	a := &struct {
		s Stream
		r Request
	}{}
	s := &a.s
	left, err := parseOpen(p, &a.r)
	if err != nil {
		return err
	}
	c.mu.Lock()
	if h.id&1 == c.nextID&1 || h.id <= c.lastPeer {
		c.mu.Unlock()
		return protocolError("OPEN frame with stream %d, which is not the peer's to open", h.id)
	}
	c.lastPeer = h.id
	if c.err != nil {
		c.mu.Unlock()
		return nil
	}
	refusal := ""
	switch {
	case c.cfg.Handler == nil:
		refusal = "this side takes no streams"
	case c.handlers >= c.cfg.MaxStreams:
		refusal = fmt.Sprintf("%d streams are open", c.handlers)
	case c.headBytes.Load()+int64(len(p)) > int64(c.cfg.HeadBudget):
		refusal = "too many bytes of heads are kept"
	}
	if refusal != "" {
		c.mu.Unlock()
		c.counts.refused.Add(1)
		c.w.control(appendReset(nil, h.id, CodeRefused, true, refusal))
		return nil
	}
	s.init(c, h.id, int32(c.peer.initialWindow))
	s.req, s.gotHead, s.gotEnd = &a.r, true, h.flags&flagEnd != 0
	if left > 0 {
		a.r.Deadline = time.Now().Add(time.Duration(left) * time.Millisecond)
	}
	c.handlers++
	c.streams[h.id] = s
	c.load.Add(1)
	c.mu.Unlock()
	c.counts.accepted.Add(1)
	c.headBytes.Add(int64(len(p)))
	s.kept = len(p)
	s.fresh, s.wake = true, true
	q.woke = append(q.woke, s)
	q.last = s
	return nil
}

// deliver gives a frame to its stream.
func (c *Conn) deliver(q *reader, s *Stream, h header, p []byte) error {
	s.mu.Lock()
	ended := s.aborted.Load()
	switch h.typ {
	case frameHead:
		switch {
		case !s.opener:
			s.mu.Unlock()
			return protocolError("HEAD frame from the opener of stream %d", h.id)
		case ended || s.rerr != nil:
			s.mu.Unlock()
			return nil
		case s.gotHead || s.gotEnd:
			s.mu.Unlock()
			return protocolError("HEAD frame after the final head of stream %d", h.id)
		case h.flags&flagInfo != 0 && s.in.heads >= maxInfoHeads:
			s.mu.Unlock()
			return nil
		case c.headBytes.Load()+int64(len(p)) > int64(c.cfg.HeadBudget):
			s.mu.Unlock()
			s.Fail(CodeRefused, "too many bytes of heads are kept")
			return nil
		}
		info := h.flags&flagInfo != 0
		c.headBytes.Add(int64(len(p)))
		s.in.putHead(p, info)
		s.gotHead = !info
		s.gotEnd = !info && h.flags&flagEnd != 0
	case frameData:
		switch {
		case ended || s.rerr != nil:
			s.mu.Unlock()
			return nil
		case s.gotEnd:
			s.mu.Unlock()
			return protocolError("DATA frame after the end of stream %d", h.id)
		case !s.gotHead:
			s.mu.Unlock()
			return protocolError("DATA frame before the head of stream %d", h.id)
		case !s.rwin.receive(len(p)):
			s.mu.Unlock()
			return &ConnError{Code: CodeFlowControl, Msg: fmt.Sprintf("stream %d sent more than it was granted", h.id)}
		}
		if s.dst != nil && s.in.unread == 0 {
			n := copy(s.dst[s.dstN:], p)
			s.dstN += n
			p = p[n:]
		}
		if len(p) > 0 {
			s.in.putData(p)
		}
		s.gotEnd = h.flags&flagEnd != 0
	case frameTrailers:
		switch {
		case ended || s.rerr != nil:
			s.mu.Unlock()
			return nil
		case s.gotEnd || !s.gotHead:
			s.mu.Unlock()
			return protocolError("TRAILERS frame out of place on stream %d", h.id)
		}
		s.trailers = append([]byte{}, p...)
		s.gotEnd = true
	case frameReset:
		s.mu.Unlock()
		return c.resetFrame(q, s, parseReset(h, p))
	case frameStop:
		if !s.sentEnd {
			s.sentEnd = true
			s.werr = &StreamError{Code: CodeStopped, Remote: true}
			s.wcond.Broadcast()
		} else {
			ended = true
		}
	case frameWindow:
		if !s.swin.add(binary.BigEndian.Uint32(p)) && !ended {
			s.mu.Unlock()
			return &ConnError{Code: CodeFlowControl, Msg: fmt.Sprintf("window of stream %d grew too large", h.id)}
		}
		s.wcond.Signal()
		s.mu.Unlock()
		return nil
	}
	done := s.gotEnd && s.sentEnd && !ended
	if !s.wake {
		s.wake = true
		q.woke = append(q.woke, s)
	}
	s.mu.Unlock()
	if done {
		c.remove(s)
	}
	return nil
}

func (c *Conn) resetFrame(q *reader, s *Stream, e *StreamError) error {
	if !s.opener {
		e.NotProcessed = false // about a request of the peer's own
		q.relax(c)
		if q.pace.resets++; q.pace.resets > 2*c.cfg.MaxStreams+1000 {
			return protocolError("more than %d resets at a time", 2*c.cfg.MaxStreams+1000)
		}
	}
	s.abort(e)
	c.remove(s)
	return nil
}

// awayFrame handles GOAWAY. An announced leave goes on; any other is the end.
func (c *Conn) awayFrame(last uint64, e *ConnError) error {
	c.mu.Lock()
	c.goAway()
	var above []*Stream
	for id, s := range c.streams {
		if s.opener && id > last {
			above = append(above, s)
		}
	}
	c.mu.Unlock()
	for _, s := range above {
		s.abort(&StreamError{Code: CodeDraining, Remote: true, NotProcessed: true, Msg: e.Msg})
		c.remove(s)
	}
	if e.Code == CodeDraining {
		return nil
	}
	return e
}

// wakeAll wakes the readers of the streams that something came for.
func (c *Conn) wakeAll(q *reader) {
	for i, s := range q.woke {
		q.woke[i] = nil
		s.mu.Lock()
		s.wake = false
		s.rcond.Signal()
		s.mu.Unlock()
		if s.fresh {
			s.fresh = false
			c.workers.start(s)
		}
	}
	q.woke = q.woke[:0]
	if cap(q.woke) > 1024 {
		q.woke = nil
	}
	q.last = nil
}
