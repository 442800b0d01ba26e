package tunnel

import (
	"context"
	"log/slog"
	"net"
	"time"
)

// A Hello is what each side tells about itself in its first frame. A gateway
// fills Gateway, Instance and Instances, a connection point ConnectionPoint and
// ConnectionID; both may fill the rest. Each string is at most 255 bytes.
type Hello struct {
	Site      string
	Gateway   string
	Instance  int // 0 to 65535
	Instances int // 0 to 65535
	// ConnectionPoint is the name shown to people, ConnectionID the registered
	// identity.
	ConnectionPoint string
	ConnectionID    string
	Software        string // name and version of the program
	ConfigVersion   uint64 // of the published configuration in force, 0 none
}

// Config is how a connection behaves. The zero value of each field is a
// default.
type Config struct {
	Hello Hello
	// CheckPeer decides on the peer's hello. The text of its error is sent to
	// the peer. nil accepts everybody.
	CheckPeer func(Hello) error
	// Handler answers the streams that the peer opens. It is called in a
	// goroutine of its own for each stream. When it returns, whatever is
	// unfinished of the stream is ended; nothing of the stream may be used
	// after that. nil refuses all streams.
	Handler func(*Stream)
	// MaxStreams bounds the streams that the peer may have open, default 20000.
	MaxStreams int
	// WindowBudget bounds the bytes by which the windows of all streams
	// together exceed the 16 KiB that each stream has for itself (SPEC §6),
	// default 32 MiB.
	WindowBudget int
	// HeadBudget bounds the bytes of heads and trailers that are kept for all
	// streams together, default 64 MiB.
	HeadBudget int
	// PingInterval is the time between pings, default 5 s. PeerTimeout is how
	// long the peer may be silent, or take nothing, before the connection
	// counts as lost, default 20 s.
	PingInterval, PeerTimeout time.Duration
	// Log gets debug records about the connection; nil discards.
	Log *slog.Logger
}

// A Conn is one tunnel connection. Its methods may be called from any
// goroutine.
type Conn struct{}

// Stats are counts since the connection began.
type Stats struct {
	BytesIn, BytesOut    uint64 // on the net.Conn, before TLS
	Opened, Accepted     uint64 // streams opened here, and by the peer
	Refused              uint64 // streams of the peer that were not taken
	Writes               uint64 // writes to the net.Conn
	WindowBudgetExceeded uint64 // windows that could not grow
}

// Client exchanges hellos on a net.Conn that this side dialled, bounded by ctx,
// and starts the connection. The Conn owns nc from here on, also when an error
// is returned. An error is a *ConnError, with Remote set and the peer's reason
// when the peer refused.
func Client(ctx context.Context, nc net.Conn, cfg Config) (*Conn, error) { panic("not yet") }

// Server is [Client] for a net.Conn that this side accepted.
func Server(ctx context.Context, nc net.Conn, cfg Config) (*Conn, error) { panic("not yet") }

// Open sends a request and returns its stream without waiting for the peer.
// body is the first piece of its body, at most MaxOpenBody bytes, and leaves in
// the same write; end says that the request is complete with it. Otherwise
// Write and CloseWrite send the rest. Neither r nor body is kept.
//
// An error is a *StreamError with NotProcessed set. A stream that was opened
// must be read until io.EOF or an error, or be Reset.
func (c *Conn) Open(r *Request, body []byte, end bool) (*Stream, error) { panic("not yet") }

// Peer is the peer's hello.
func (c *Conn) Peer() Hello { panic("not yet") }

// RemoteAddr is the address of the peer.
func (c *Conn) RemoteAddr() net.Addr { panic("not yet") }

// Load is the number of open streams, of both sides.
func (c *Conn) Load() int { panic("not yet") }

// RTT is the smoothed round-trip time of pings, 0 before the first.
func (c *Conn) RTT() time.Duration { panic("not yet") }

// Stats returns counts since the connection began.
func (c *Conn) Stats() Stats { panic("not yet") }

// Draining reports whether either side has announced that it takes no new
// streams.
func (c *Conn) Draining() bool { panic("not yet") }

// GoingAway returns a channel that is closed when Draining becomes true, and
// when the connection ends.
func (c *Conn) GoingAway() <-chan struct{} { panic("not yet") }

// Done returns a channel that is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { panic("not yet") }

// Err is nil until Done is closed, and then the *ConnError that ended the
// connection.
func (c *Conn) Err() error { panic("not yet") }

// Drain announces to the peer that no new streams are taken, waits until all
// open ones have finished, and closes the connection. No request fails by it.
// When ctx ends first, the streams still open end with CodeTunnelLost, and the
// error is that of ctx. It waits for handlers as Close does.
func (c *Conn) Drain(ctx context.Context) error { panic("not yet") }

// Close ends the connection and all streams at once and waits until every
// goroutine of the connection has ended, also the handlers; so a handler must
// not call it.
func (c *Conn) Close() error { panic("not yet") }
