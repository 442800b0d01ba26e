package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/tunnel"
)

// maxStrangers bounds the connections of the tunnel ports that have not proved
// yet who they are, so that they can not use up this process's descriptors.
const maxStrangers = 256

// serveTunnelTCP takes a connection of a port that is for tunnels only.
func (s *Server) serveTunnelTCP(raw net.Conn) {
	if s.strangers.Add(1) > maxStrangers {
		s.strangers.Add(-1)
		s.metrics.handshakes.WithLabelValues("too_many").Inc()
		raw.Close()
		return
	}
	c := tls.Server(raw, s.tunnelTLS)
	c.SetDeadline(time.Now().Add(handshakeTimeout * time.Millisecond))
	c.HandshakeContext(s.ctx) // serveTunnel gets the same error
	s.strangers.Add(-1)
	s.serveTunnel(c)
}

// serveTunnel serves one tunnel until it ends. The certificate says which
// connection point it is; the published configuration says whether that may
// come in.
func (s *Server) serveTunnel(c *tls.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(handshakeTimeout * time.Millisecond))
	remote := c.RemoteAddr().String()
	if err := c.HandshakeContext(s.ctx); err != nil {
		s.log.Debug("tunnel handshake failed", "component", componentService, "remote", remote, "err", err)
		return
	}
	cs := c.ConnectionState()
	id, ok := pki.PeerConnectionID(cs, s.cfg.Site)
	if !ok {
		s.log.Warn("tunnel refused: the certificate is not that of a connection point of this site", "component", componentService, "remote", remote)
		return
	}
	if cs.NegotiatedProtocol == tunnel.ALPNHTTPS {
		if err := tunnel.AcceptHTTPS(s.ctx, c); err != nil {
			s.log.Debug("tunnel over HTTPS failed", "component", componentService, "remote", remote, "err", err)
			return
		}
	}
	c.SetDeadline(time.Time{})
	t := new(tunnelConn)
	conn, err := tunnel.Server(s.ctx, c, tunnel.Config{
		Hello: s.hello(),
		CheckPeer: func(h tunnel.Hello) error {
			if h.ConnectionID != "" && h.ConnectionID != id {
				return opencmg.Errorf(opencmg.Forbidden, "connection ID %q is not that of the certificate, %q", h.ConnectionID, id)
			}
			p, err := s.roster.point(s.snap.Load(), id)
			t.point.Store(p)
			return err
		},
		Handler: func(st *tunnel.Stream) { s.serveControl(st, t.point.Load()) },
		Log:     s.log,
	})
	if err != nil {
		s.log.Warn("tunnel refused", "component", componentService, "connection_id", id, "remote", remote, "err", err)
		return
	}
	stop := context.AfterFunc(s.ctx, func() { conn.Close() }) // came in too late to be drained
	defer stop()
	t.conn = conn
	p := t.point.Load()
	s.roster.join(t)
	defer s.roster.leave(t)
	s.log.Info("tunnel up", "component", componentService, "connection_point", p.name, "site", p.site, "remote", remote)
	<-conn.Done()
	s.log.Info("tunnel down", "component", componentService, "connection_point", p.name, "site", p.site, "remote", remote, "err", conn.Err())
}

// maxControl bounds the body of a control stream: a signed document is a third
// larger than its payload, and has a chain of certificates.
const maxControl = 2 * pki.MaxDocumentSize

// serveControl answers the streams that a connection point opens.
func (s *Server) serveControl(st *tunnel.Stream, p *point) {
	r := st.Request()
	if r.Role != "" {
		st.Fail(tunnel.CodeRefused, "a gateway instance answers control streams only")
		return
	}
	body, err := io.ReadAll(io.LimitReader(st, maxControl+1))
	if err != nil || len(body) > maxControl {
		st.Reset(tunnel.CodeBodyTooLarge)
		return
	}
	switch r.Endpoint {
	case opencmg.ControlInstanceStatus:
		err = s.serveInstanceStatus(st, p, body)
	case opencmg.ControlExplain:
		err = s.serveExplain(st, p, body)
	case opencmg.ControlLogs:
		err = s.serveLogs(st, p)
	default:
		err = st.WriteHead(s.control(r.Endpoint, p, body), true)
	}
	if err != nil {
		s.log.Debug("control answer not sent", "component", componentService, "connection_point", p.name, "err", err)
	}
}

// hello is what this instance says about itself.
func (s *Server) hello() tunnel.Hello {
	snap := s.snap.Load()
	h := tunnel.Hello{Site: string(s.cfg.Site), Gateway: s.cfg.Gateway, Instance: s.cfg.Instance, Software: "opencmg", ConfigVersion: snap.version()}
	if snap.cfg != nil {
		h.Instances = snap.cfg.Instances
	}
	return h
}

// A tunnelConn is one tunnel connection.
type tunnelConn struct {
	conn  *tunnel.Conn
	point atomic.Pointer[point] // replaced when a configuration renames it
}

func (t *tunnelConn) live() bool {
	select {
	case <-t.conn.Done():
		return false
	default:
		return !t.conn.Draining()
	}
}

// A point is one connection point as long as it has tunnels.
type point struct {
	id, name, site string   // site in lower case
	via            []string // says so in explanations
	conns          []*tunnelConn
}

// A roster knows which connection points hold tunnels. Choosing one takes no
// lock: it looks at an immutable view that every change replaces.
type roster struct {
	s    *Server
	view atomic.Pointer[map[string]*siteView]
	met  atomic.Bool // there was a tunnel since the start

	mu      sync.Mutex // guards what follows
	tunnels []*tunnelConn
	changed chan struct{}             // closed and replaced with every view
	turns   map[string]*atomic.Uint32 // per site, bounded by what is registered
}

// A siteView lists the connection points of one site that have tunnels.
type siteView struct {
	turn   *atomic.Uint32
	points []point
}

// point returns who the connection ID belongs to. Before there is a
// configuration every connection point of the site may come in, so that one
// can deliver it.
func (r *roster) point(snap *snapshot, id string) (*point, error) {
	if snap.cfg == nil {
		return newPoint(id, id, r.s.cfg.Site), nil
	}
	reg := snap.points[id]
	if reg == nil {
		return nil, opencmg.Errorf(opencmg.Forbidden, "connection ID %q is not registered in published configuration %d", id, snap.cfg.Version)
	}
	return newPoint(id, reg.Name, reg.Site), nil
}

func newPoint(id, name string, site opencmg.SiteCode) *point {
	return &point{id: id, name: name, site: strings.ToLower(string(site)), via: []string{"connection point: " + name}}
}

func (r *roster) join(t *tunnelConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tunnels = append(r.tunnels, t)
	r.met.Store(true)
	r.rebuild()
	r.s.notable.note()
}

func (r *roster) leave(t *tunnelConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tunnels = slices.DeleteFunc(r.tunnels, func(o *tunnelConn) bool { return o == t })
	r.s.metrics.tunnels.DeleteLabelValues(t.point.Load().name)
	r.rebuild()
	r.s.notable.note()
}

// registered closes the tunnels of connection points that a new configuration
// no longer knows, and renames the others.
func (r *roster) registered(snap *snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.tunnels {
		old := t.point.Load()
		p, err := r.point(snap, old.id)
		if err != nil {
			r.s.log.Warn("tunnel closed: its connection point is no longer registered", "component", componentService, "connection_point", old.name)
			r.s.wg.Go(func() { t.conn.Close() }) // not here: a control stream of this very tunnel may be the reason
			continue
		}
		t.point.Store(p)
	}
	r.rebuild()
}

func (r *roster) rebuild() {
	view := map[string]*siteView{}
	counts := map[string]int{}
	for _, t := range r.tunnels {
		p := t.point.Load()
		counts[p.name]++
		v := view[p.site]
		if v == nil {
			if r.turns[p.site] == nil {
				r.turns[p.site] = new(atomic.Uint32)
			}
			v = &siteView{turn: r.turns[p.site]}
			view[p.site] = v
		}
		i := slices.IndexFunc(v.points, func(o point) bool { return o.id == p.id })
		if i < 0 {
			i = len(v.points)
			v.points = append(v.points, *p)
		}
		v.points[i].conns = append(v.points[i].conns, t)
	}
	for name, n := range counts {
		r.s.metrics.tunnels.WithLabelValues(name).Set(float64(n))
	}
	r.view.Store(&view)
	if r.changed != nil {
		close(r.changed)
	}
	r.changed = make(chan struct{})
}

// await waits for a tunnel to the site when none is up, so that a restart of
// this instance, of a connection point or of the network between them costs a
// request some time and not its success. It reports false when there are
// tunnels already, when none came in time, or when the request was given up
// meanwhile.
func (r *roster) await(x *exchange, site string) bool {
	return r.wait(x, func() bool { return (*r.view.Load())[site].live() })
}

// wait waits until ok, looking whenever tunnels or the configuration changed.
// It reports false when ok was true from the start too.
func (r *roster) wait(x *exchange, ok func() bool) bool {
	most := r.s.cfg.TunnelWait
	if !r.met.Load() {
		most *= 2 // connection points look for an instance that was away every 15 s at most
	}
	left := most - time.Since(x.started)
	if left <= 0 {
		return false
	}
	expired := time.NewTimer(left)
	defer expired.Stop()
	for first := true; ; first = false {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		if ok() {
			return !first
		}
		select {
		case <-changed:
		case <-expired.C:
			return false
		case <-r.s.closing:
			return false
		}
		if x.watch.cause() != causeNone {
			return false
		}
	}
}

// live reports whether any tunnel of the site takes requests.
func (v *siteView) live() bool {
	if v == nil {
		return false
	}
	for i := range v.points {
		for _, t := range v.points[i].conns {
			if t.live() {
				return true
			}
		}
	}
	return false
}

// tried are the tunnels that a request was sent on.
type tried struct {
	list [4]*tunnelConn
	n    int
}

func (t *tried) add(c *tunnelConn) {
	t.list[t.n] = c
	t.n++
}

func (t *tried) has(c *tunnelConn) bool { return slices.Contains(t.list[:t.n], c) }

// pick returns the least loaded tunnel of the connection point whose turn it
// is (cmg-behaviour G13), nil when none is left to try.
func (r *roster) pick(site string, tried *tried) *tunnelConn {
	v := (*r.view.Load())[site]
	if v == nil || tried.n == len(tried.list) {
		return nil
	}
	turn := v.turn.Add(1)
	for i := range v.points {
		p := &v.points[(turn+uint32(i))%uint32(len(v.points))]
		var best *tunnelConn
		load := 0
		for _, t := range p.conns {
			if tried.has(t) || !t.live() {
				continue
			}
			if l := t.conn.Load(); best == nil || l < load {
				best, load = t, l
			}
		}
		if best != nil {
			return best
		}
	}
	return nil
}

// ready says why no request can be answered now.
func (r *roster) ready() error {
	for _, v := range *r.view.Load() {
		if v.live() {
			return nil
		}
	}
	return errors.New("no connection point holds a tunnel to this instance")
}

// drain tells every connection point that this instance goes away, and waits
// for the requests in flight until ctx ends. Then it closes.
func (r *roster) drain(ctx context.Context) {
	r.mu.Lock()
	tunnels := slices.Clone(r.tunnels)
	r.mu.Unlock()
	var wg sync.WaitGroup
	for _, t := range tunnels {
		wg.Go(func() {
			t.conn.Drain(ctx)
			t.conn.Close()
		})
	}
	wg.Wait()
}
