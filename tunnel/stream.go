package tunnel

// One request as frames, with its window: the third of the five files that
// follow a client's request. gateway/forward.go opened the stream; the
// connection point's handler is called with its other end. Next:
// connpoint/forward.go, where the external URL becomes the internal one.

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of the fields of a request (SPEC §4), in bytes.
const (
	MaxHead          = 64 << 10 // of a request and of an answer
	MaxTrailers      = 8 << 10
	MaxOpenBody      = 16 << 10
	MaxCorrelationID = 128
	MaxRole          = 64
	MaxEndpoint      = 512
	MaxIdentity      = 8 << 10
)

// A Request is what opens a stream.
type Request struct {
	CorrelationID string
	Role          string // role ID; empty on control streams
	Endpoint      string // endpoint or control stream
	Identity      string // verified identity of the caller, as the edge encoded it
	// Deadline is when the answer's head should have come; zero means never.
	// It crosses the tunnel as time left, in milliseconds. For a request that
	// Open sent whole, the tunnel ends the stream with CodeRoleTimeout a second
	// after it; otherwise it is for the two owners to keep.
	Deadline time.Time
	// Head is the head of the message, opaque to the tunnel.
	Head []byte
	// BodyLength is the length of the body, 0 for none, -1 when unknown. The
	// tunnel does not check it.
	BodyLength int64
}

// A Stream is one request and its answer. One goroutine may read and another
// write; the other methods may be called from any goroutine.
type Stream struct {
	c      *Conn
	id     uint64
	req    *Request // nil on the opener's side
	opener bool

	batch       uint64     // of OPEN, set before the stream is shared
	bulk        *bulkFrame // last one that waits, guarded by writer.mu
	nextWaiting *Stream    // guarded by writer.mu
	deadline    int64      // on the connection's clock, 0 none; constant
	aborted     atomic.Bool

	// The writing goroutine's own.
	sent   int64 // body bytes
	queued bool  // everything goes through the bulk queue from here on

	mu    sync.Mutex // guards what follows; no other lock is taken with it
	rcond sync.Cond  // the reader waits
	wcond sync.Cond  // the writer waits, for credit or for a slot

	// Receiving.
	rerr     *StreamError // what reads return
	in       inbox
	rwin     recvWindow
	renewed  int64  // when the last grant was, in nanoseconds since Conn.began
	dst      []byte // of the Read that waits: body bytes go there at once
	dstN     int
	trailers []byte
	gotHead  bool // the final head came; true from the start on the acceptor's side
	gotEnd   bool // END or TRAILERS came, or STOP was sent
	wake     bool // on the list of the connection's reader
	fresh    bool // the handler was not called yet; the connection's reader owns it
	kept     int  // bytes of OPEN counted as heads

	// Sending.
	werr     *StreamError // what writes return
	swin     sendWindow
	granted  bool // a slot of the writer
	sentHead bool
	sentEnd  bool // END or TRAILERS was sent, or STOP came

	onReset func()
}

func (s *Stream) init(c *Conn, id uint64, credit int32) {
	s.c, s.id = c, id
	s.rcond.L, s.wcond.L = &s.mu, &s.mu
	s.rwin, s.swin = newRecvWindow(), sendWindow{credit}
}

// ID is the number of the stream on its connection, for logs.
func (s *Stream) ID() uint64 { return s.id }

// Request is the request as it came, on the side that did not open the stream.
// The handler owns it, and may drop its Head to save memory while it waits.
func (s *Stream) Request() *Request { return s.req }

// ReadHead waits for the next head of the answer: any number of informational
// ones, then the final one. end is set when neither body nor trailers follow.
// The bytes are valid until the next ReadHead or Read.
func (s *Stream) ReadHead() (head []byte, end bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in.drop()
	for {
		switch {
		case s.rerr != nil:
			return nil, false, s.rerr
		case s.in.heads > 0:
			head, info := s.in.head()
			s.c.headBytes.Add(-int64(len(head)))
			return head, !info && s.gotEnd && s.in.unread == 0 && s.trailers == nil, nil
		case s.gotHead:
			return nil, false, errNoHead
		}
		s.rcond.Wait()
	}
}

var errNoHead = errors.New("tunnel: the final head was already read")

// Read reads the peer's body: on the opener's side that of the answer, after
// its final head. It returns io.EOF at its end, with the last bytes where they
// are known to be the last. Any other error is a *StreamError.
func (s *Stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	s.in.drop()
	n := 0
	for n == 0 {
		if s.rerr != nil {
			err := s.rerr
			s.mu.Unlock()
			return 0, err
		}
		for s.in.heads > 0 { // of no interest to the caller
			h, _ := s.in.head()
			s.c.headBytes.Add(-int64(len(h)))
		}
		if s.in.unread > 0 {
			if len(p) == 0 {
				break
			}
			n = s.in.read(p)
			break
		}
		if s.gotEnd || len(p) == 0 {
			break
		}
		s.dst = p
		s.rcond.Wait()
		n, s.dst, s.dstN = s.dstN, nil, 0
	}
	eof := s.gotEnd && s.in.unread == 0 && s.rerr == nil
	grant := 0
	if eof {
		s.releaseWindow()
	} else if n > 0 && !s.gotEnd {
		grant = s.renewWindow()
	}
	s.mu.Unlock()
	if grant > 0 {
		var frame [headerSize + 4]byte
		s.c.w.control(appendWindow(frame[:0], s.id, uint32(grant)))
	}
	if eof && (n == 0 || len(p) > 0) {
		return n, io.EOF
	}
	return n, nil
}

// renewWindow returns the grant that is due after a read. A reader that keeps
// up and has to wait for the network gets a larger window while the
// connection's budget lasts.
func (s *Stream) renewWindow() int {
	n := s.rwin.due(s.in.unread)
	if n == 0 {
		return 0
	}
	now := int64(time.Since(s.c.began))
	rtt := s.c.rtt.Load()
	waits := s.in.unread == 0 && (s.renewed == 0 || rtt == 0 || now-s.renewed <= 2*rtt)
	s.renewed = now
	if g := s.rwin.growth(); g > 0 && waits && s.c.reserve(g) {
		s.rwin.grow(g)
		n += g
	}
	s.rwin.granted(n)
	return n
}

func (s *Stream) releaseWindow() {
	if n := s.rwin.reserved(); n > 0 {
		s.c.unreserve(n)
		s.rwin.size = privateBytes
	}
}

// Buffered reports whether Read would return without waiting.
func (s *Stream) Buffered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.in.unread > 0 || s.gotEnd || s.rerr != nil
}

// Trailers returns the peer's trailers after Read returned io.EOF, nil if there
// were none.
func (s *Stream) Trailers() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trailers
}

// WriteInformational sends an informational (1xx) head before the final one.
func (s *Stream) WriteInformational(head []byte) error {
	return s.writeHead(head, flagInfo, nil, false)
}

// WriteHead sends the final head of the answer; end says that nothing follows.
func (s *Stream) WriteHead(head []byte, end bool) error { return s.writeHead(head, 0, nil, end) }

// WriteHeadBody sends the final head and the first piece of the body in one
// write where the window allows; end says that the answer is complete.
func (s *Stream) WriteHeadBody(head, body []byte, end bool) error {
	return s.writeHead(head, 0, body, end)
}

func (s *Stream) writeHead(head []byte, flags uint8, body []byte, end bool) error {
	if len(head) == 0 || len(head) > MaxHead {
		return fmt.Errorf("tunnel: head of %d bytes: must have 1 to %d", len(head), MaxHead)
	}
	s.mu.Lock()
	if s.opener || s.sentHead {
		s.mu.Unlock()
		return errors.New("tunnel: a head has no place here")
	}
	if s.werr != nil {
		err := s.werr
		s.mu.Unlock()
		return err
	}
	s.sentHead = flags&flagInfo == 0
	n := 0
	if !s.queued {
		n = s.swin.take(min(len(body), urgentBody))
	}
	last := end && n == len(body)
	s.mu.Unlock()
	if s.queued || !s.c.w.small(s, head, flags, body[:n], last) {
		// So much waits to be sent that heads have to queue.
		s.queued = true
		s.mu.Lock()
		s.swin.credit += int32(n)
		s.mu.Unlock()
		n, last = 0, end && len(body) == 0
		if err := s.waitSlot(); err != nil {
			return err
		}
		s.c.w.push(s, frameHead, flags, head, last)
	}
	s.sent += int64(n) // the writing goroutine's own
	if last {
		s.ended()
	}
	if n < len(body) {
		_, err := s.write(body[n:], end)
		return err
	}
	return nil
}

// Write sends a piece of the body. It waits while the peer's window is used up
// or the connection has enough to send. p is not kept. An error is a
// *StreamError; its code is CodeStopped when the peer wants no more of the body
// although it may still answer.
func (s *Stream) Write(p []byte) (int, error) { return s.write(p, false) }

// WriteLast is Write followed by CloseWrite, in the same frame.
func (s *Stream) WriteLast(p []byte) error {
	if len(p) == 0 {
		return s.CloseWrite()
	}
	_, err := s.write(p, true)
	return err
}

func (s *Stream) write(p []byte, end bool) (int, error) {
	total := 0
	for len(p) > 0 {
		s.mu.Lock()
		if !s.opener && !s.sentHead || s.sentEnd && s.werr == nil {
			s.mu.Unlock()
			return total, errors.New("tunnel: a body has no place here")
		}
		for s.werr == nil && s.swin.credit == 0 {
			s.wcond.Wait()
		}
		if s.werr != nil {
			err := s.werr
			s.mu.Unlock()
			return total, err
		}
		n := s.swin.take(min(len(p), maxData))
		s.mu.Unlock()
		last := end && n == len(p)
		if s.sent += int64(n); s.sent > urgentBody {
			s.queued = true
		}
		queued := s.queued
		if queued || !s.c.w.small(s, nil, 0, p[:n], last) {
			if err := s.waitSlot(); err != nil {
				return total, err
			}
			s.c.w.push(s, frameData, 0, p[:n], last)
			s.queued = true
		}
		if last {
			s.ended()
		}
		total += n
		p = p[n:]
	}
	return total, nil
}

// waitSlot waits for a turn in the bulk queue.
func (s *Stream) waitSlot() error {
	if s.c.w.acquire(s) {
		return nil
	}
	s.mu.Lock()
	for !s.granted && s.werr == nil {
		s.wcond.Wait()
	}
	granted, err := s.granted, s.werr
	s.granted = false
	s.mu.Unlock()
	if err == nil {
		return nil
	}
	if granted {
		s.c.w.release()
	}
	return err
}

// ended notes that the end of the body was sent.
func (s *Stream) ended() {
	s.mu.Lock()
	done := s.gotEnd && !s.sentEnd
	s.sentEnd = true
	s.mu.Unlock()
	if done {
		s.c.remove(s)
	}
}

// CloseWrite ends the body. The other direction stays open.
func (s *Stream) CloseWrite() error { return s.closeWrite(nil) }

// WriteTrailers ends the body with trailers.
func (s *Stream) WriteTrailers(trailers []byte) error {
	if len(trailers) > MaxTrailers {
		return fmt.Errorf("tunnel: trailers of %d bytes: at most %d", len(trailers), MaxTrailers)
	}
	return s.closeWrite(append([]byte{}, trailers...))
}

func (s *Stream) closeWrite(trailers []byte) error {
	s.mu.Lock()
	switch {
	case s.werr != nil:
		err := s.werr
		s.mu.Unlock()
		return err
	case s.sentEnd:
		s.mu.Unlock()
		return nil
	case !s.opener && !s.sentHead:
		s.mu.Unlock()
		return errors.New("tunnel: the answer has no head yet")
	}
	s.mu.Unlock()
	s.c.w.end(s, trailers)
	s.ended()
	return nil
}
