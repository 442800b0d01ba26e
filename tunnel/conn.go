package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
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
	// HeadBudget bounds the bytes of heads that are kept for all streams
	// together, default 64 MiB.
	HeadBudget int
	// PingInterval is the time between pings, default 5 s. PeerTimeout is how
	// long the peer may be silent, or take nothing, before the connection
	// counts as lost, default 20 s.
	PingInterval, PeerTimeout time.Duration
	// Log gets debug records about the connection; nil discards.
	Log *slog.Logger
}

func (cfg Config) withDefaults() Config {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&cfg.MaxStreams, 20000)
	def(&cfg.WindowBudget, 32<<20)
	def(&cfg.HeadBudget, 64<<20)
	if cfg.PingInterval <= 0 {
		cfg.PingInterval = 5 * time.Second
	}
	if cfg.PeerTimeout <= 0 {
		cfg.PeerTimeout = 20 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return cfg
}

// A Conn is one tunnel connection. Its methods may be called from any
// goroutine.
//
// Three goroutines belong to it: reader (loop.go) owns what comes in, writer
// (writer.go) what goes out, and keeper (keeper.go) the clock; it also waits for
// the others. Handlers have their own.
type Conn struct {
	cfg    Config
	nc     net.Conn
	client bool
	peer   *wireHello
	w      writer

	began     time.Time
	now       atomic.Int64 // milliseconds since began, as of the keeper's last look
	heard     atomic.Int64 // now when the last bytes came
	rtt       atomic.Int64 // nanoseconds
	budget    atomic.Int64 // left of WindowBudget
	headBytes atomic.Int64 // heads that are kept
	load      atomic.Int64 // len(streams), changed with mu held
	failed    atomic.Bool
	counts    struct{ in, opened, accepted, refused, ungrown atomic.Uint64 }

	going chan struct{} // closed when draining or failed
	dying chan struct{} // closed when failed
	done  chan struct{} // closed when reader, writer and keeper have ended

	mu       sync.Mutex // guards what follows; writer.mu may be taken with it
	streams  map[uint64]*Stream
	nextID   uint64 // of the next stream opened here
	lastPeer uint64 // of the last one that the peer opened
	opened   int    // streams in the map that were opened here
	handlers int    // that have not returned
	expiry   int64  // no stream's deadline is before, on the clock
	away     bool   // either side has announced its leave
	leaving  bool   // this side did
	settled  bool   // the peer knows
	drained  chan struct{}
	err      *ConnError
	pings    pings

	reader  reader
	workers workers
}

// Stats are counts since the connection began.
type Stats struct {
	BytesIn, BytesOut uint64 // on the net.Conn, before TLS
	Opened, Accepted  uint64 // streams opened here, and by the peer
	Refused           uint64 // streams of the peer that were not taken
	Writes            uint64 // writes to the net.Conn
	WindowsHeld       uint64 // times a window could not grow for want of budget
}

// Client exchanges hellos on a net.Conn that this side dialled, bounded by ctx
// and by PeerTimeout, and starts the connection. The Conn owns nc from here on, also when an error
// is returned. An error is a *ConnError, with Remote set and the peer's reason
// when the peer refused.
func Client(ctx context.Context, nc net.Conn, cfg Config) (*Conn, error) {
	return start(ctx, nc, cfg, true)
}

// Server is [Client] for a net.Conn that this side accepted.
func Server(ctx context.Context, nc net.Conn, cfg Config) (*Conn, error) {
	return start(ctx, nc, cfg, false)
}

func start(ctx context.Context, nc net.Conn, cfg Config, client bool) (*Conn, error) {
	c := &Conn{cfg: cfg.withDefaults(), nc: nc, client: client, began: time.Now()}
	tune(nc)
	ctx, cancel := context.WithTimeout(ctx, c.cfg.PeerTimeout)
	defer cancel()
	aLongTimeAgo := time.Unix(1, 0)
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(aLongTimeAgo) })
	err := c.greet()
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		nc.Close()
		var ce *ConnError
		if !errors.As(err, &ce) {
			err = &ConnError{Code: CodeTunnelLost, Msg: "no hello from the peer", Err: err}
		}
		return nil, err
	}
	c.run()
	return c, nil
}

// Open sends a request and returns its stream without waiting for the peer.
// body is the first piece of its body, at most MaxOpenBody bytes, and leaves in
// the same write; end says that the request is complete with it. Otherwise
// Write and CloseWrite send the rest. Neither r nor body is kept.
//
// An error is a *StreamError with NotProcessed set. A stream that was opened
// must be read until io.EOF or an error, or be Reset.
func (c *Conn) Open(r *Request, body []byte, end bool) (*Stream, error) {
	refused := func(code Code, msg string) (*Stream, error) {
		return nil, &StreamError{Code: code, NotProcessed: true, Msg: msg}
	}
	if err := checkRequest(r); err != nil {
		return refused(CodeInternal, err.Error())
	}
	if len(body) > MaxOpenBody {
		return refused(CodeInternal, fmt.Sprintf("first piece of %d bytes: at most %d", len(body), MaxOpenBody))
	}
	s := &Stream{opener: true, sentEnd: end, sentHead: true, sent: int64(len(body))}
	left, expiry := uint32(0), int64(0)
	if !r.Deadline.IsZero() {
		now := time.Now()
		left = timeLeft(r.Deadline.Sub(now))
		if end {
			expiry = now.Sub(c.began).Milliseconds() + int64(left) + deadlineSlack
		}
	}
	s.deadline = expiry
	c.mu.Lock()
	switch {
	case c.err != nil:
		c.mu.Unlock()
		return refused(CodeTunnelLost, "the connection has ended")
	case c.away:
		c.mu.Unlock()
		return refused(CodeDraining, "")
	case int64(c.opened) >= int64(c.peer.maxStreams):
		c.mu.Unlock()
		return refused(CodeRefused, "the peer takes no more streams")
	case c.nextID > maxStreamID:
		c.mu.Unlock()
		return refused(CodeDraining, "stream IDs are used up")
	}
	s.init(c, c.nextID, int32(c.peer.initialWindow)-int32(len(body)))
	if !c.w.open(s, r, left, body, end) {
		c.mu.Unlock()
		return refused(CodeRefused, "too much waits to be sent")
	}
	c.nextID += 2
	c.opened++
	c.streams[s.id] = s
	if expiry != 0 && (c.expiry == 0 || expiry < c.expiry) {
		c.expiry = expiry
	}
	c.load.Add(1)
	c.mu.Unlock()
	c.counts.opened.Add(1)
	return s, nil
}

// timeLeft is d as OPEN carries it: at least one millisecond.
func timeLeft(d time.Duration) uint32 {
	return uint32(min(max(d.Milliseconds(), 1), 1<<32-1))
}

// remove forgets a stream that has ended on the wire.
func (c *Conn) remove(s *Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams[s.id] != s {
		return
	}
	delete(c.streams, s.id)
	c.load.Add(-1)
	if s.opener {
		c.opened--
	}
	c.checkDrained()
}

// checkDrained lets Drain go on when nothing is left to wait for. c.mu is held.
func (c *Conn) checkDrained() {
	if c.settled && len(c.streams) == 0 && c.handlers == 0 && c.drained != nil {
		close(c.drained)
		c.drained = nil
	}
}

// reserve takes n bytes of the budget for windows.
func (c *Conn) reserve(n int) bool {
	if c.budget.Add(-int64(n)) < 0 {
		c.budget.Add(int64(n))
		c.counts.ungrown.Add(1)
		return false
	}
	return true
}

func (c *Conn) unreserve(n int) { c.budget.Add(int64(n)) }

// Peer is the peer's hello.
func (c *Conn) Peer() Hello { return c.peer.Hello }

// RemoteAddr is the address of the peer.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// Load is the number of open streams, of both sides.
func (c *Conn) Load() int { return int(c.load.Load()) }

// RTT is the smoothed round-trip time of pings, 0 before the first.
func (c *Conn) RTT() time.Duration { return time.Duration(c.rtt.Load()) }

// Stats returns counts since the connection began.
func (c *Conn) Stats() Stats {
	return Stats{
		BytesIn: c.counts.in.Load(), BytesOut: c.w.bytes.Load(),
		Opened: c.counts.opened.Load(), Accepted: c.counts.accepted.Load(), Refused: c.counts.refused.Load(),
		Writes: c.w.writes.Load(), WindowsHeld: c.counts.ungrown.Load(),
	}
}

// Draining reports whether either side has announced that it takes no new
// streams.
func (c *Conn) Draining() bool {
	select {
	case <-c.going:
		return true
	default:
		return false
	}
}

// GoingAway returns a channel that is closed when Draining becomes true, and
// when the connection ends.
func (c *Conn) GoingAway() <-chan struct{} { return c.going }

// Done returns a channel that is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err is nil until Done is closed, and then the *ConnError that ended the
// connection.
func (c *Conn) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// Drain announces to the peer that no new streams are taken, waits until all
// open ones have finished, and closes the connection. No request fails by it.
// When ctx ends first, the streams still open end with CodeTunnelLost, and the
// error is that of ctx. It waits for handlers as Close does.
func (c *Conn) Drain(ctx context.Context) error {
	c.mu.Lock()
	if c.err != nil || c.leaving {
		c.mu.Unlock()
		<-c.done
		c.workers.wait()
		return nil
	}
	drained := make(chan struct{})
	c.leaving, c.drained = true, drained
	c.goAway()
	c.mu.Unlock()
	c.w.control(appendPing(appendGoAway(nil, maxStreamID, CodeDraining, ""), framePing, drainToken))
	var err error
	select {
	case <-drained:
		c.fail(&ConnError{Msg: "drained"}, true)
	case <-ctx.Done():
		err = ctx.Err()
		c.fail(&ConnError{Msg: "streams were still open when the time to drain was over"}, true)
	case <-c.dying:
	}
	<-c.done
	c.workers.wait()
	return err
}

// goAway refuses new streams from here on. c.mu is held.
func (c *Conn) goAway() {
	if !c.away {
		c.away = true
		close(c.going)
	}
}

// Close ends the connection and all streams at once and waits until every
// goroutine of the connection has ended, also the handlers; so a handler must
// not call it.
func (c *Conn) Close() error {
	c.fail(&ConnError{Msg: "closed"}, true)
	<-c.done
	c.workers.wait()
	return nil
}

// fail ends the connection and all streams. announce says that the peer can
// still be told; the reason goes to it unless it is CodeNone.
func (c *Conn) fail(e *ConnError, announce bool) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = e
	c.goAway()
	streams := c.streams
	c.streams = nil
	c.opened = 0
	c.load.Store(0)
	last := c.lastPeer
	c.mu.Unlock()

	var final []byte
	if announce {
		final = appendGoAway(nil, last, e.Code, e.Msg)
	}
	unsent := c.w.close(final, announce && len(streams) == 0)
	c.failed.Store(true)
	if announce {
		c.nc.SetDeadline(time.Now().Add(lingerTime))
	}
	lost, never := c.lost(e, false), c.lost(e, true)
	for _, s := range streams {
		if s.opener && s.batch >= unsent {
			s.abort(never)
		} else {
			s.abort(lost)
		}
	}
	close(c.dying)
	if !announce {
		c.nc.Close() // last, since TLS may try to say good-bye
	}
	c.cfg.Log.Debug("tunnel ended", "err", e, "streams", len(streams))
}

// lost is the error of streams that end with the connection.
func (c *Conn) lost(e *ConnError, notProcessed bool) *StreamError {
	return &StreamError{Code: CodeTunnelLost, NotProcessed: notProcessed, Msg: e.Error()}
}
