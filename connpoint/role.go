package connpoint

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
)

// Defaults of a [opencmg.URLMapping].
const (
	defaultConnectTimeout = 5 * time.Second
	defaultMaxConnections = 20000
	defaultMaxIdle        = 256
	defaultIdleTimeout    = 60 * time.Second
	healthEvery           = 5 * time.Second
)

// A role is a mapping in use: its hosts with their connections, and the
// traffic of its endpoints.
type role struct {
	mapping        opencmg.URLMapping
	pool           *pool
	hosts          []*host
	next           atomic.Uint32
	identity       bool // send the verified identity
	wait           time.Duration
	connectTimeout time.Duration
	idleTimeout    time.Duration
	maxConnections int
	maxIdle        int
	certificates   *certificateChoice // nil: none is offered
	traffic        *traffic

	mu sync.Mutex    // guards up
	up chan struct{} // closed when a host returns to the rotation
}

// newRole resolves a valid mapping. It reads the CA file and connects to
// nothing.
func newRole(cfg *Config, p *pool, m opencmg.URLMapping) (*role, error) {
	r := &role{
		mapping:        m,
		pool:           p,
		identity:       m.SiteRole || m.Identity,
		wait:           cfg.RoleWait,
		connectTimeout: seconds(m.ConnectTimeout, defaultConnectTimeout),
		idleTimeout:    seconds(m.IdleTimeout, defaultIdleTimeout),
		maxConnections: m.MaxConnections,
		maxIdle:        m.MaxIdle,
		traffic:        new(traffic),
		up:             make(chan struct{}),
	}
	if r.maxConnections == 0 {
		r.maxConnections = defaultMaxConnections
	}
	if r.maxIdle == 0 {
		r.maxIdle = defaultMaxIdle
	}
	t := pki.RoleTLS{ServerName: m.ServerName}
	switch {
	case m.SiteRole:
		t = pki.RoleTLS{SiteCA: cfg.SiteCA, Site: cfg.Site, Role: m.Role}
	case m.CA != "" || m.CAFile != "":
		var certs []*x509.Certificate
		var err error
		key := "ca"
		if m.CA != "" {
			certs, err = pki.ParseCertificates([]byte(m.CA))
		} else {
			key = "caFile"
			certs, err = pki.LoadCertificates(m.CAFile)
		}
		if err != nil {
			return nil, fmt.Errorf("URL mapping of role %s: %s: %w", m.Role, key, err)
		}
		t.Roots = x509.NewCertPool()
		for _, c := range certs {
			t.Roots.AddCert(c)
		}
	}
	if m.ClientCertificate {
		r.certificates = &certificateChoice{candidates: cfg.ClientCertificates, roots: cfg.ClientRoots, log: p.log, role: m.Role}
	}
	for _, s := range m.Internal {
		u, err := opencmg.ParseInternalURL(s)
		if err != nil {
			return nil, err
		}
		h := &host{role: r, authority: u.Host, base: strings.TrimRight(u.EscapedPath(), "/")}
		port := u.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
		}
		h.addr = net.JoinHostPort(u.Hostname(), port)
		if m.HostHeader != "" {
			h.authority = m.HostHeader
		}
		if u.Scheme == "https" {
			h.tls = pki.RoleClientTLS(t).Clone()
			if h.tls.ServerName == "" {
				h.tls.ServerName = u.Hostname()
			}
			h.tls.NextProtos = []string{"http/1.1"}
			h.tls.ClientSessionCache = tls.NewLRUClientSessionCache(64)
			if m.SiteRole {
				h.tls.GetClientCertificate = p.present
			}
			if r.certificates != nil {
				h.tls.GetClientCertificate = r.certificates.offer
			}
		}
		r.hosts = append(r.hosts, h)
	}
	return r, nil
}

// A roleError says why no connection to a role was to be had. The request
// never reached the role.
type roleError struct {
	role opencmg.RoleID
	err  error
}

func (e *roleError) Error() string { return fmt.Sprintf("reach role %s: %v", e.role, e.err) }
func (e *roleError) Unwrap() error { return e.err }

var errCancelled = errors.New("the request was cancelled")

// acquire returns a connection to one of the role's hosts, in turn. While none
// accepts connections it waits up to Config.RoleWait from the first failure on.
// fresh demands a new connection.
func (r *role) acquire(x *exchange, fresh bool) (*originConn, error) {
	var t *time.Timer // started when the first attempt has failed
	for {
		h, up, err := r.pick()
		if h != nil {
			c, err := h.get(x, fresh)
			switch {
			case err == nil:
				return c, nil
			case x.cancelled():
				return nil, errCancelled
			case errors.Is(err, errBusy):
				return nil, &roleError{r.mapping.Role, err}
			}
			if t == nil {
				t = time.NewTimer(r.wait)
				defer t.Stop()
			}
			continue // another host may do
		}
		if up == nil {
			return nil, &roleError{r.mapping.Role, err}
		}
		if t == nil {
			t = time.NewTimer(r.wait)
			defer t.Stop()
		}
		select {
		case <-up:
		case <-x.done():
			return nil, errCancelled
		case <-t.C:
			return nil, &roleError{r.mapping.Role, err}
		}
	}
}

// pick returns the next host in the rotation. Without one it returns the last
// failure and a channel that closes when a host returns, nil when waiting is
// of no use.
func (r *role) pick() (h *host, up <-chan struct{}, err error) {
	r.mu.Lock()
	ch := r.up
	r.mu.Unlock()
	n := r.next.Add(1)
	fatal := true
	for i := range r.hosts {
		h := r.hosts[(n+uint32(i))%uint32(len(r.hosts))]
		h.mu.Lock()
		down, lastErr := h.down, h.lastErr
		fatal = fatal && h.fatal
		h.mu.Unlock()
		if !down {
			return h, nil, nil
		}
		err = lastErr
	}
	if fatal {
		return nil, nil, err
	}
	return nil, ch, err
}

// wake lets every request go on that waits for a host.
func (r *role) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.up)
	r.up = make(chan struct{})
}

// tend closes idle connections and, with a health path, checks hosts that are
// in the rotation. Run calls it every few seconds.
func (r *role) tend() {
	now := r.pool.now()
	for _, h := range r.hosts {
		h.sweep(now.Add(-r.idleTimeout))
		h.mu.Lock()
		due := r.mapping.HealthPath != "" && !h.down && !h.checking && now.Sub(h.checked) >= healthEvery
		if due {
			h.checking, h.checked = true, now
		}
		h.mu.Unlock()
		if due {
			r.pool.start(func() {
				err := h.check()
				h.mu.Lock()
				h.checking = false
				h.mu.Unlock()
				if err != nil && r.pool.ctx.Err() == nil {
					h.markDown(err)
				}
			})
		}
	}
}

func (r *role) close() {
	for _, h := range r.hosts {
		h.closeAll()
	}
}

// permanent reports whether connecting failed for a reason that a restart of
// the role does not cure: the wrong certificate.
func permanent(err error) bool {
	var peer *pki.PeerError
	var verify *tls.CertificateVerificationError
	return errors.As(err, &peer) || errors.As(err, &verify)
}

// A certificateChoice finds a client certificate for roles outside the site
// (cmg-behaviour C10).
type certificateChoice struct {
	candidates []tls.Certificate
	roots      *x509.CertPool
	log        *slog.Logger
	role       opencmg.RoleID

	mu     sync.Mutex // guards what follows
	chosen *tls.Certificate
	at     time.Time
	counts [4]int
}

// current returns the certificate to offer, nil when none is left. The answer
// is looked up anew every minute, since certificates expire.
func (c *certificateChoice) current(now time.Time) *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.at.IsZero() && now.Sub(c.at) < time.Minute {
		return c.chosen
	}
	left := make([]*tls.Certificate, 0, len(c.candidates))
	for i := range c.candidates {
		left = append(left, &c.candidates[i])
	}
	var counts [4]int
	for i, keep := range []func(*tls.Certificate) bool{
		func(p *tls.Certificate) bool {
			return leaf(p) != nil && leaf(p).KeyUsage&x509.KeyUsageDigitalSignature != 0
		},
		func(p *tls.Certificate) bool { return c.chains(p, now) },
		func(p *tls.Certificate) bool { return p.PrivateKey != nil },
		func(p *tls.Certificate) bool { return clientUsage(leaf(p)) },
	} {
		kept := left[:0]
		for _, p := range left {
			if keep(p) {
				kept = append(kept, p)
			}
		}
		left = kept
		counts[i] = len(left)
	}
	if c.at.IsZero() || counts != c.counts {
		for i, text := range []string{
			"client certificates with digital signature usage",
			"client certificates that chain to an allowed root",
			"client certificates with a private key",
			"client certificates with client authentication usage",
		} {
			c.log.Info(text, "component", logComponent, "role", string(c.role), "count", counts[i], "of", len(c.candidates))
		}
	}
	c.at, c.counts, c.chosen = now, counts, nil
	if len(left) > 0 {
		c.chosen = left[0]
	}
	return c.chosen
}

func (c *certificateChoice) chains(p *tls.Certificate, now time.Time) bool {
	l := leaf(p)
	if now.Before(l.NotBefore) || now.After(l.NotAfter) {
		return false
	}
	if c.roots == nil {
		return true
	}
	o := x509.VerifyOptions{Roots: c.roots, Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, der := range p.Certificate[1:] {
		if cert, err := x509.ParseCertificate(der); err == nil {
			o.Intermediates.AddCert(cert)
		}
	}
	_, err := l.Verify(o)
	return err == nil
}

// offer is the GetClientCertificate of the role's TLS configurations.
func (c *certificateChoice) offer(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	if p := c.current(time.Now()); p != nil {
		return p, nil
	}
	return new(tls.Certificate), nil
}

func leaf(p *tls.Certificate) *x509.Certificate {
	if p.Leaf != nil || len(p.Certificate) == 0 {
		return p.Leaf
	}
	c, err := x509.ParseCertificate(p.Certificate[0])
	if err != nil {
		return nil
	}
	return c
}

func clientUsage(c *x509.Certificate) bool {
	for _, u := range c.ExtKeyUsage {
		if u == x509.ExtKeyUsageClientAuth || u == x509.ExtKeyUsageAny {
			return true
		}
	}
	return len(c.ExtKeyUsage) == 0
}

func seconds(n int, or time.Duration) time.Duration {
	if n == 0 {
		return or
	}
	return time.Duration(n) * time.Second
}

// jitter spreads d over its upper half, so that many do not act at once.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1)
}
