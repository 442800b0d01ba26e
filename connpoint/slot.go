package connpoint

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/tunnel"
)

const (
	redialFirst = 100 * time.Millisecond
	redialMost  = 15 * time.Second
	// redialShared replaces redialMost while a balanced address leads to
	// other instances.
	redialShared = 500 * time.Millisecond
	// steady is how long a tunnel must have lived for the next redial to
	// start from redialFirst again.
	steady = 2 * time.Second
	// drainAtMost bounds the life of a tunnel that its instance drains.
	drainAtMost = 10 * time.Minute
)

// A slot keeps one tunnel. Its goroutine owns it.
type slot struct {
	instance *instanceLink
	// offered takes a tunnel that another slot reached by a balanced address.
	offered chan *dialled
	// dialer belongs to the slot's goroutine. It lives as long as the slot, so
	// that the reason of a fall-back is logged once and not at every dial.
	dialer tunnel.Dialer

	mu        sync.Mutex // guards what follows
	current   *tunnel.Conn
	transport string
	since     time.Time
}

// A dialled is a fresh tunnel and the instance at its other end.
type dialled struct {
	conn      *tunnel.Conn
	transport string
	instance  int
}

func (s *slot) conn() *tunnel.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil || s.current.Draining() {
		return nil
	}
	return s.current
}

// keep dials until it has a tunnel, serves it until it ends or drains, and
// begins again.
func (s *slot) keep(ctx context.Context) {
	i := s.instance
	l := i.link
	for wait := redialFirst; ctx.Err() == nil; {
		if !l.wanted(i.number) {
			l.forget(i)
			return
		}
		d, err := s.connect(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			i.failed(err)
			most := redialMost
			if errors.Is(err, errOtherInstance) {
				most = redialShared // the balancer chooses anew each time
			}
			if d = s.pause(ctx, jitter(wait)); d == nil {
				wait = min(wait*2, most)
				continue
			}
		}
		began := time.Now()
		s.up(d)
		select {
		case <-d.conn.GoingAway():
		case <-ctx.Done():
		}
		s.down(ctx, d.conn)
		if time.Since(began) >= steady {
			wait = redialFirst
		} else if !s.sleep(ctx, jitter(wait)) {
			return
		} else {
			wait = min(wait*2, redialMost)
		}
	}
}

// pause waits before the next dial; another slot may end the wait with a
// tunnel.
func (s *slot) pause(ctx context.Context, d time.Duration) *dialled {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case d := <-s.offered:
		return d
	}
	return nil
}

func (s *slot) sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// errOtherInstance is a balanced address that led elsewhere.
var errOtherInstance = errors.New("the balanced address led to an instance that has its tunnels already")

// connect makes one attempt. By a balanced address it may reach another
// instance, whose slot then gets the tunnel if it still looks for one.
func (s *slot) connect(ctx context.Context) (*dialled, error) {
	i := s.instance
	l := i.link
	c := l.c
	a, serviceName := l.address(i.number)
	reached := i.number
	cert := *c.pool.certificate.Load()
	conf := pki.TunnelClientTLS(c.cfg.SiteCA, cert, c.cfg.Site, l.name, i.number)
	if a.Instance == -1 {
		conf = conf.Clone()
		conf.VerifyConnection = func(cs tls.ConnectionState) error {
			var first error
			for n := range opencmg.MaxInstances {
				err := pki.TunnelClientTLS(c.cfg.SiteCA, cert, c.cfg.Site, l.name, n).VerifyConnection(cs)
				if err == nil {
					reached = n
					return nil
				}
				if first == nil {
					first = err
				}
			}
			return first
		}
	}
	d := &s.dialer
	d.TLS, d.ServerName = conf, serviceName
	d.TCPTLSAddr, d.HTTPSAddr = a.TCPTLS, a.HTTPS
	d.Proxy, d.DialContext, d.Log = c.cfg.Proxy, c.cfg.DialContext, c.log
	dialCtx, cancel := context.WithTimeout(ctx, 45*time.Second)
	defer cancel()
	nc, transport, err := d.Dial(dialCtx)
	if err != nil {
		return nil, err
	}
	conn, err := tunnel.Client(dialCtx, nc, tunnel.Config{
		Hello:   tunnel.Hello{Site: string(c.cfg.Site), ConnectionPoint: c.cfg.Name, ConnectionID: c.cfg.ConnectionID},
		Handler: c.serve,
		Log:     c.log,
	})
	if err != nil {
		return nil, err
	}
	up := &dialled{conn: conn, transport: strings.ToLower(string(transport)), instance: reached}
	l.learn(conn.Peer().Instances)
	if reached == i.number {
		return up, nil
	}
	if l.offer(up) {
		return nil, fmt.Errorf("reach instance %d: %w", i.number, errOtherInstance)
	}
	conn.Close()
	return nil, fmt.Errorf("reach instance %d: %w", i.number, errOtherInstance)
}

// up takes a tunnel into service.
func (s *slot) up(d *dialled) {
	i := s.instance
	c := i.link.c
	s.mu.Lock()
	s.current, s.transport, s.since = d.conn, d.transport, time.Now()
	s.mu.Unlock()
	i.mu.Lock()
	i.lastErr = ""
	i.inForce = d.conn.Peer().ConfigVersion
	i.mu.Unlock()
	c.log.Info("tunnel is up", "gateway", i.link.name, "instance", i.number, "transport", d.transport)
	i.once.Do(func() { close(i.up) })
	i.poke()
	poke(i.look)
	c.notify()
}

// down takes a tunnel out of service. Requests in flight on it finish: on one
// that the gateway drains in the background, at the connection point's own end
// before down returns.
func (s *slot) down(ctx context.Context, conn *tunnel.Conn) {
	i := s.instance
	c := i.link.c
	s.mu.Lock()
	s.current = nil
	s.mu.Unlock()
	log := c.log.With("gateway", i.link.name, "instance", i.number)
	drain := func() {
		ctx, cancel := context.WithTimeout(c.ctx, c.cfg.DrainTimeout)
		defer cancel()
		if err := conn.Drain(ctx); err != nil && ctx.Err() != nil {
			log.Warn("requests were still in flight when the tunnel closed", "err", err)
		}
	}
	if ctx.Err() != nil {
		drain()
		return
	}
	log.Info("tunnel takes no more requests")
	c.notify()
	c.wg.Go(func() {
		t := time.NewTimer(drainAtMost)
		defer t.Stop()
		select {
		case <-conn.Done(): // lost, or closed by the instance when all requests had ended
			log.Info("tunnel ended", "err", conn.Err())
			conn.Close() // waits for requests that were cut off
			return
		case <-ctx.Done():
		case <-t.C:
		}
		drain()
	})
}
