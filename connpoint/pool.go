package connpoint

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opencmg/opencmg/internal/http1"
)

// Connections to roles are pooled, so that ten thousand clients do not cost
// ten thousand ports on a management point. A host that does not accept
// connections leaves the rotation; one goroutine then probes it, while the
// requests for it wait together for its return instead of dialling each.

// A host is one internal host of a role.
type host struct {
	role      *role
	addr      string      // host:port to dial
	authority string      // Host field
	base      string      // path before the endpoint, without a trailing slash
	tls       *tls.Config // nil for http

	// mu guards what follows. It is never held while dialling or writing.
	mu      sync.Mutex
	idle    []*originConn // newest last
	open    int           // connections and dials under way
	waiters []chan grant
	down    bool
	lastErr error // why it is down; nil otherwise
	fatal   bool  // lastErr will not go away by waiting
	closed  bool
	// checking and checked belong to the health check of a host in rotation.
	checking bool
	checked  time.Time
}

// A grant answers a request that waited for a connection: a connection to
// reuse, or leave to dial one when conn is nil.
type grant struct{ conn *originConn }

// An originConn is one connection to a host. One request uses it at a time.
type originConn struct {
	host *host
	nc   net.Conn // plain or TLS
	raw  syscall.RawConn
	r    http1.Reader
	// reused is set once a request was answered on it: only such a connection
	// may have been closed by the role in the meantime.
	reused   bool
	deadline bool // a read deadline is set
	idleAt   time.Time
	peek     liveness
}

// errBusy ends the wait for one of a host's bounded connections.
var errBusy = errors.New("all connections to the role are in use")

// get returns an idle connection that is still alive, or dials one. fresh
// skips idle ones. A failed dial takes the host out of the rotation.
func (h *host) get(x *exchange, fresh bool) (*originConn, error) {
	for {
		h.mu.Lock()
		if n := len(h.idle); n > 0 && !fresh {
			c := h.idle[n-1]
			h.idle[n-1] = nil
			h.idle = h.idle[:n-1]
			h.mu.Unlock()
			// A request that may be repeated finds out by trying.
			if x.repeatable() || c.alive() {
				return c, nil
			}
			c.discard()
			continue
		}
		if h.open >= h.role.maxConnections {
			w := make(chan grant, 1)
			h.waiters = append(h.waiters, w)
			h.mu.Unlock()
			c, err := h.wait(x, w)
			if err != nil {
				return nil, err
			}
			if c != nil {
				return c, nil
			}
		} else {
			h.open++
			h.mu.Unlock()
		}
		c, err := h.dial(x)
		if err != nil {
			h.vacate()
			if x == nil || !x.cancelled() {
				h.markDown(err)
			}
			return nil, err
		}
		return c, nil
	}
}

// wait blocks until another request gives up its connection or its place.
func (h *host) wait(x *exchange, w chan grant) (*originConn, error) {
	t := time.NewTimer(h.role.wait)
	defer t.Stop()
	var err error
	select {
	case g := <-w:
		return g.conn, nil
	case <-x.done():
		err = errCancelled
	case <-t.C:
		err = errBusy
	}
	h.mu.Lock()
	for i := range h.waiters {
		if h.waiters[i] == w {
			h.waiters = append(h.waiters[:i], h.waiters[i+1:]...)
			h.mu.Unlock()
			return nil, err
		}
	}
	h.mu.Unlock()
	// The grant came at the same moment: pass it on.
	if g := <-w; g.conn != nil {
		g.conn.put()
	} else {
		h.vacate()
	}
	return nil, err
}

// dial opens a connection; its place in h.open is already taken. The work is
// done on a stack that is given back, since that of the caller may go on to
// wait for hours.
func (h *host) dial(x *exchange) (*originConn, error) {
	ctx, cancel := context.WithTimeout(h.role.pool.ctx, h.role.connectTimeout)
	defer cancel()
	if x != nil {
		if !x.onCancel(cancel) {
			return nil, errCancelled
		}
		defer x.onCancel(nil)
	}
	var c *originConn
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err = h.connect(ctx)
	}()
	<-done
	return c, err
}

func (h *host) connect(ctx context.Context) (*originConn, error) {
	nc, err := h.role.pool.dial(ctx, "tcp", h.addr)
	if err != nil {
		return nil, err
	}
	c := &originConn{host: h, nc: nc}
	if sc, ok := nc.(syscall.Conn); ok {
		c.raw, _ = sc.SyscallConn()
	}
	if h.tls != nil {
		tc := tls.Client(nc, h.tls)
		if err := tc.HandshakeContext(ctx); err != nil {
			nc.Close()
			return nil, err
		}
		c.nc = tc
	}
	c.r.Reset(c.reader())
	h.role.pool.dials.Add(1)
	return c, nil
}

// put gives the connection back after a whole response.
func (c *originConn) put() {
	h := c.host
	c.reused = true
	c.r.Release()
	h.mu.Lock()
	if h.closed || h.down && len(h.waiters) == 0 {
		h.mu.Unlock()
		c.discard()
		return
	}
	if len(h.waiters) > 0 {
		w := h.waiters[0]
		h.waiters = h.waiters[1:]
		h.mu.Unlock()
		w <- grant{c}
		return
	}
	if len(h.idle) >= h.role.maxIdle {
		h.mu.Unlock()
		c.discard()
		return
	}
	c.idleAt = h.role.pool.now()
	h.idle = append(h.idle, c)
	h.mu.Unlock()
}

// discard closes the connection and frees its place.
func (c *originConn) discard() {
	c.close()
	c.host.vacate()
}

func (c *originConn) close() {
	c.nc.Close()
}

// vacate frees one place under maxConnections.
func (h *host) vacate() {
	h.mu.Lock()
	if len(h.waiters) > 0 {
		w := h.waiters[0]
		h.waiters = h.waiters[1:]
		h.mu.Unlock()
		w <- grant{}
		return
	}
	h.open--
	h.mu.Unlock()
}

// setReadDeadline sets or, with a zero time, clears the read deadline.
func (c *originConn) setReadDeadline(t time.Time) {
	if t.IsZero() && !c.deadline {
		return
	}
	c.deadline = !t.IsZero()
	c.nc.SetReadDeadline(t)
}

// markDown takes the host out of the rotation and begins to probe it.
func (h *host) markDown(err error) {
	p := h.role.pool
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return
	}
	was, old := h.down, h.lastErr
	h.down, h.lastErr, h.fatal = true, err, permanent(err)
	idle := h.idle
	h.idle = nil
	h.mu.Unlock()
	for _, c := range idle {
		c.discard()
	}
	if !was || old == nil || old.Error() != err.Error() {
		p.log.Warn("internal host does not answer", "role", string(h.role.mapping.Role), "host", h.addr, "err", err)
	}
	if !was {
		p.start(h.recover)
	}
}

// recover probes a host that is down until it answers.
func (h *host) recover() {
	p := h.role.pool
	began := p.now()
	for wait := 40 * time.Millisecond; ; wait = min(wait*3/2, time.Second) {
		limit := wait
		if p.now().Sub(began) > time.Minute {
			limit = 5 * time.Second
		}
		if !p.sleep(jitter(limit)) {
			return
		}
		if err := h.check(); err != nil {
			if p.ctx.Err() != nil {
				return
			}
			h.mu.Lock()
			h.lastErr, h.fatal = err, permanent(err)
			gone := h.closed
			h.mu.Unlock()
			if gone {
				return
			}
			continue
		}
		h.mu.Lock()
		h.down, h.lastErr, h.fatal = false, nil, false
		h.mu.Unlock()
		h.role.wake()
		p.log.Info("internal host answers again", "role", string(h.role.mapping.Role), "host", h.addr)
		return
	}
}

// check connects to the host and, when the mapping has a health path, asks for
// it. A connection that was only made becomes an idle one.
func (h *host) check() error {
	h.mu.Lock()
	h.open++ // a probe may exceed the bound by one
	h.mu.Unlock()
	c, err := h.dial(nil)
	if err != nil {
		h.vacate()
		return err
	}
	if path := h.role.mapping.HealthPath; path != "" {
		defer c.discard()
		return c.checkHealth(path)
	}
	h.mu.Lock()
	if h.closed || len(h.idle) >= h.role.maxIdle {
		h.mu.Unlock()
		c.discard()
		return nil
	}
	c.idleAt = h.role.pool.now()
	h.idle = append(h.idle, c)
	h.mu.Unlock()
	return nil
}

// checkHealth sends one GET and reads the head of its answer.
func (c *originConn) checkHealth(path string) error {
	c.nc.SetDeadline(time.Now().Add(c.host.role.connectTimeout))
	if _, err := c.nc.Write([]byte("GET " + c.host.base + path + " HTTP/1.1\r\nHost: " + c.host.authority + "\r\nUser-Agent: opencmg-health\r\nConnection: close\r\n\r\n")); err != nil {
		return err
	}
	b, err := c.r.ReadHead(maxResponseHead, nil)
	if err != nil {
		return err
	}
	var head http1.ResponseHead
	if err := head.Parse(b, []byte("GET")); err != nil {
		return err
	}
	if head.Status >= 500 {
		return &healthError{head.Status}
	}
	return nil
}

// A healthError is a health check that was answered with a server error.
type healthError struct{ status int }

func (e *healthError) Error() string { return "health check answered " + strconv.Itoa(e.status) }

// closeAll closes idle connections and refuses new ones; those in use close
// when their request ends.
func (h *host) closeAll() {
	h.mu.Lock()
	h.closed = true
	idle := h.idle
	h.idle = nil
	h.mu.Unlock()
	for _, c := range idle {
		c.discard()
	}
}

// sweep closes connections that were idle since before the time.
func (h *host) sweep(before time.Time) {
	h.mu.Lock()
	n := 0
	for n < len(h.idle) && h.idle[n].idleAt.Before(before) {
		n++
	}
	old := append([]*originConn(nil), h.idle[:n]...)
	h.idle = append(h.idle[:0], h.idle[n:]...)
	h.mu.Unlock()
	for _, c := range old {
		c.discard()
	}
}

// A pool holds what the hosts of all roles share.
type pool struct {
	ctx   context.Context // ends the probes and dials; set by Run
	dial  func(ctx context.Context, network, addr string) (net.Conn, error)
	log   *slog.Logger
	now   func() time.Time
	wg    sync.WaitGroup
	dials atomic.Int64
	// certificate is the connection point's own.
	certificate atomic.Pointer[tls.Certificate]
}

// present shows the certificate that is the connection point's own at the time.
func (p *pool) present(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return p.certificate.Load(), nil
}

// start runs f in a goroutine that Run waits for.
func (p *pool) start(f func()) {
	if p.ctx.Err() == nil {
		p.wg.Go(f)
	}
}

// sleep waits and reports whether the pool still runs.
func (p *pool) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}
