package tunnel

// One request as frames, with its window: the third of the five files that
// follow a client's request. gateway/forward.go opened the stream; the
// connection point's handler is called with its other end. Next:
// connpoint/forward.go, where the external URL becomes the internal one.

import "time"

// Limits of the fields of a request (SPEC §4), in bytes.
const (
	MaxHead          = 64 << 10 // also of an answer's head, and of trailers
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
type Stream struct{}

// ID is the number of the stream on its connection, for logs.
func (s *Stream) ID() uint64 { panic("not yet") }

// Request is the request as it came, on the side that did not open the stream.
// The handler owns it, and may drop its Head to save memory while it waits.
func (s *Stream) Request() *Request { panic("not yet") }

// ReadHead waits for the next head of the answer: any number of informational
// ones, then the final one. end is set when neither body nor trailers follow.
// The bytes are valid until the next ReadHead or Read.
func (s *Stream) ReadHead() (head []byte, end bool, err error) { panic("not yet") }

// Read reads the peer's body: on the opener's side that of the answer, after
// its final head. It returns io.EOF at its end, with the last bytes where they
// are known to be the last. Any other error is a *StreamError.
func (s *Stream) Read(p []byte) (int, error) { panic("not yet") }

// Buffered reports whether Read would return without waiting.
func (s *Stream) Buffered() bool { panic("not yet") }

// Trailers returns the peer's trailers after Read returned io.EOF, nil if there
// were none.
func (s *Stream) Trailers() []byte { panic("not yet") }

// WriteInformational sends an informational (1xx) head before the final one.
func (s *Stream) WriteInformational(head []byte) error { panic("not yet") }

// WriteHead sends the final head of the answer; end says that nothing follows.
func (s *Stream) WriteHead(head []byte, end bool) error { panic("not yet") }

// WriteHeadBody sends the final head and the first piece of the body in one
// write where the window allows; end says that the answer is complete.
func (s *Stream) WriteHeadBody(head, body []byte, end bool) error { panic("not yet") }

// Write sends a piece of the body. It waits while the peer's window is used up
// or the connection has enough to send. p is not kept. An error is a
// *StreamError; its code is CodeStopped when the peer wants no more of the body
// although it may still answer.
func (s *Stream) Write(p []byte) (int, error) { panic("not yet") }

// WriteLast is Write followed by CloseWrite, in the same frame.
func (s *Stream) WriteLast(p []byte) error { panic("not yet") }

// CloseWrite ends the body. The other direction stays open.
func (s *Stream) CloseWrite() error { panic("not yet") }

// WriteTrailers ends the body with trailers.
func (s *Stream) WriteTrailers(trailers []byte) error { panic("not yet") }

// StopReading tells the peer that no more of its body is wanted. Reads that
// wait return an error with CodeStopped; writing goes on.
func (s *Stream) StopReading() { panic("not yet") }

// Reset ends both directions of the stream. Every call that waits returns a
// *StreamError with the code. It does nothing to a stream that has ended.
func (s *Stream) Reset(code Code) { panic("not yet") }

// Fail is Reset with a text for the peer, at most 256 bytes.
func (s *Stream) Fail(code Code, msg string) { panic("not yet") }

// Refuse is Fail for a request that provably never reached a role: the peer's
// error has NotProcessed set.
func (s *Stream) Refuse(code Code, msg string) { panic("not yet") }

// OnReset sets what is called once when the peer resets the stream or the
// connection ends, and calls it at once if that has happened. It is called from
// the connection's own goroutine and must not wait. OnReset(nil) takes it back;
// a call that has begun may still be running then.
func (s *Stream) OnReset(f func()) { panic("not yet") }
