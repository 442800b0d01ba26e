package connpoint

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/web"
)

// Config says what a [Connector] needs. Name, ConnectionID, Site, SiteCA and
// Certificate must be set.
type Config struct {
	// Name is the connection point's name; ConnectionID is registered in the
	// published configuration of its gateways (cmg-behaviour G10).
	Name, ConnectionID string
	Site               opencmg.SiteCode
	// SiteCA vouches for gateway instances and for roles of our kind.
	SiteCA *x509.Certificate
	// Certificate is the connection point's own, issued by the site CA for
	// its connection ID; see [Connector.SetCertificate].
	Certificate tls.Certificate
	// Gateways are those to serve while the mappings name none. Without either
	// the connection point waits for mappings that do.
	Gateways []opencmg.GatewayTarget
	// Proxy is the forward proxy on the way to the gateways, with credentials
	// in its User part; nil dials directly (cmg-behaviour C7).
	Proxy *url.URL
	// Connections is the number of tunnel connections to each instance;
	// default 2.
	Connections int
	// Mappings are the URL mappings at the start; see
	// [Connector.SetMappings]. MappingsFile, when set, is read at the start
	// and again whenever it changes.
	Mappings     *opencmg.URLMappings
	MappingsFile string
	// AwaitMappings starts although the MappingsFile is missing or can not be
	// used, and takes it over when it can.
	AwaitMappings bool
	// LoadMappings turns the bytes of MappingsFile into mappings; default is
	// [opencmg.ParseURLMappings]. A caller that signs the document verifies it here.
	LoadMappings func([]byte) (*opencmg.URLMappings, error)
	// PublishedFile holds the signed published configuration to deliver. It
	// is looked at every 200 ms, so that blocking a token or a certificate
	// takes effect on every instance within a second. Empty: another
	// connection point delivers.
	PublishedFile string
	// CollectInstances asks every instance for its status, when tunnels come up
	// and every five seconds, for [Connector.Report].
	CollectInstances bool
	// Join asks the site about a host that wants to be an instance of a gateway;
	// nil looks for none.
	Join func(context.Context, adminservice.GatewayJoinRequest) (*adminservice.GatewayJoinReply, error)
	// ClientCertificates are candidates for roles that want a client
	// certificate of an outside PKI; ClientRoots are the roots that such a
	// certificate must chain to, nil accepts any.
	ClientCertificates []tls.Certificate
	ClientRoots        *x509.CertPool
	// RoleWait bounds how long a request waits for a role that does not
	// accept connections, so that a restarting role costs no request; default
	// 10 s.
	RoleWait time.Duration
	// DrainTimeout bounds the wait for requests in flight when Run's context
	// ends; default 10 s.
	DrainTimeout time.Duration
	// Records keeps the latest requests for "explain"; nil keeps none.
	Records  *web.Records
	Log      *slog.Logger         // nil discards
	Registry *prometheus.Registry // nil: no metrics
	// DialContext opens TCP connections to gateways, the proxy and roles;
	// default is that of net.Dialer.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
}

// A Connector is a running connection point.
type Connector struct {
	cfg     Config
	log     *slog.Logger
	pool    pool
	started time.Time
	links   atomic.Pointer[[]*link]

	roles     atomic.Pointer[map[opencmg.RoleID]*role]
	published atomic.Pointer[published]
	changed   chan struct{} // capacity 1: tunnels came or went
	news      chan struct{} // capacity 1: see Changes
	ctx       context.Context
	wg        sync.WaitGroup // everything but the pool's probes
	logs      logCollector
	problems  problems

	inFlight, maxConcurrent atomic.Int64

	setting sync.Mutex      // held by SetMappings, guards what follows
	running context.Context // of Run, nil before and after
	version uint64          // of the mappings
}

// New checks the configuration. Nothing is dialled before [Connector.Run].
func New(cfg Config) (*Connector, error) {
	switch {
	case cfg.Name == "" || cfg.ConnectionID == "":
		return nil, opencmg.Errorf(opencmg.Invalid, "connection point: name and connection ID must be set")
	case cfg.SiteCA == nil || len(cfg.Certificate.Certificate) == 0:
		return nil, opencmg.Errorf(opencmg.Invalid, "connection point: the site CA and the connection point's own certificate must be set")
	case cfg.Connections < 0 || cfg.Connections > 16:
		return nil, opencmg.Errorf(opencmg.Invalid, "connection point: connections: must be 1 to 16")
	}
	if err := cfg.Site.Validate(); err != nil {
		return nil, fmt.Errorf("connection point: %w", err)
	}
	if err := (&opencmg.URLMappings{Gateways: cfg.Gateways}).Validate(); err != nil {
		return nil, err
	}
	if cfg.Connections == 0 {
		cfg.Connections = 2
	}
	if cfg.RoleWait == 0 {
		cfg.RoleWait = 10 * time.Second
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = 10 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.LoadMappings == nil {
		cfg.LoadMappings = opencmg.ParseURLMappings
	}
	if cfg.DialContext == nil {
		cfg.DialContext = (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	c := &Connector{
		cfg:     cfg,
		log:     cfg.Log.With("component", logComponent, "connection_point", cfg.Name),
		started: time.Now(),
		changed: make(chan struct{}, 1),
		news:    make(chan struct{}, 1),
	}
	c.logs.init()
	c.links.Store(new([]*link))
	c.SetCertificate(cfg.Certificate)
	c.pool.dial, c.pool.log, c.pool.now = cfg.DialContext, c.log, time.Now
	c.roles.Store(&map[opencmg.RoleID]*role{})
	c.setGateways(cfg.Gateways)
	if cfg.Mappings != nil {
		if err := c.SetMappings(cfg.Mappings); err != nil {
			return nil, err
		}
	}
	if cfg.MappingsFile != "" {
		if err := c.loadMappings(); err != nil && !cfg.AwaitMappings {
			return nil, err
		}
	}
	if cfg.Registry != nil {
		if err := cfg.Registry.Register(c); err != nil {
			return nil, fmt.Errorf("connection point: register metrics: %w", err)
		}
	}
	return c, nil
}

// Run keeps the tunnels and serves requests until ctx ends. Then it tells the
// gateways to send no more requests, finishes those in flight within
// Config.DrainTimeout, and returns nil once everything it started has ended.
// Run may be called once.
func (c *Connector) Run(ctx context.Context) error {
	// Requests in flight outlive ctx until they are drained.
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	c.ctx, c.pool.ctx = work, work
	if c.cfg.PublishedFile != "" {
		c.loadPublished() // before the first tunnel asks for it
	}
	c.wg.Go(func() { c.watchFiles(ctx) })
	c.wg.Go(func() { c.tend(ctx) })
	c.wg.Go(func() { c.reportStatus(ctx) })
	c.setting.Lock()
	c.running = ctx
	for _, l := range c.gateways() {
		l.start(ctx)
	}
	c.setting.Unlock()
	<-ctx.Done()
	c.setting.Lock()
	c.running = nil // nothing is started any more
	c.setting.Unlock()
	c.wg.Wait() // the links drain their tunnels
	stopWork()
	for _, r := range *c.roles.Load() {
		r.close()
	}
	c.pool.wg.Wait()
	return nil
}

// gateways are the links there are now. The slice does not change.
func (c *Connector) gateways() []*link { return *c.links.Load() }

// setGateways makes the links to be those of the targets, which are valid.
// Links that did not change go on undisturbed; those that are gone drain. The
// caller holds c.setting, or is New.
func (c *Connector) setGateways(targets []opencmg.GatewayTarget) {
	old := c.gateways()
	next := make([]*link, 0, len(targets))
	for _, t := range targets {
		i := slices.IndexFunc(old, func(l *link) bool { return l.name == t.Name })
		if i >= 0 {
			old[i].update(t)
			next = append(next, old[i])
			continue
		}
		l := newLink(c, t)
		next = append(next, l)
		if c.running != nil {
			c.log.Info("gateway added", "gateway", t.Name)
			l.start(c.running)
		}
	}
	c.links.Store(&next)
	for _, l := range old {
		if !slices.Contains(next, l) {
			c.log.Info("gateway removed", "gateway", l.name)
			l.stop()
		}
	}
	c.notify()
}

// SetCertificate replaces the connection point's own certificate. Connections
// made from now on present it; those that are open stay.
func (c *Connector) SetCertificate(cert tls.Certificate) { c.pool.certificate.Store(&cert) }

// SetMappings replaces the URL mappings, and the gateways when they name some.
// Requests in flight finish by the old ones; a role whose mapping did not change
// keeps its connections and counts, and so do the tunnels of a gateway.
func (c *Connector) SetMappings(m *opencmg.URLMappings) error {
	c.setting.Lock()
	defer c.setting.Unlock()
	if err := m.Validate(); err != nil {
		return err
	}
	old := *c.roles.Load()
	roles := map[opencmg.RoleID]*role{}
	for _, p := range m.Mappings {
		if r := old[p.Role]; r != nil && reflect.DeepEqual(r.mapping, p) {
			roles[p.Role] = r
			continue
		}
		r, err := newRole(&c.cfg, &c.pool, p)
		if err != nil {
			return err
		}
		if was := old[p.Role]; was != nil {
			r.traffic = was.traffic
		}
		roles[p.Role] = r
	}
	c.roles.Store(&roles)
	for id, r := range old {
		if roles[id] != r {
			r.close()
		}
	}
	targets := m.Gateways
	if targets == nil {
		targets = c.cfg.Gateways
	}
	c.setGateways(targets)
	c.version = m.Version
	return nil
}

// tend sweeps idle connections and checks health, and once a minute says what
// is up (cmg-behaviour C3, C15).
func (c *Connector) tend(ctx context.Context) {
	every := time.NewTicker(2 * time.Second)
	defer every.Stop()
	said := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-every.C:
			for _, r := range *c.roles.Load() {
				r.tend()
			}
			if now.Sub(said) >= time.Minute {
				said = now
				for _, l := range c.gateways() {
					have, want := l.count()
					c.log.Info("Maintaining connections...", "gateway", l.name, "instances", want, "connected", have)
				}
			}
		}
	}
}

// Ready returns nil while at least one tunnel to every gateway is up, and
// otherwise says what is missing.
func (c *Connector) Ready() error {
	links := c.gateways()
	if len(links) == 0 {
		return opencmg.Errorf(opencmg.Unavailable, "no gateway to serve yet: neither the configuration nor the site's URL mappings name one")
	}
	for _, l := range links {
		if have, _ := l.count(); have == 0 {
			return opencmg.Errorf(opencmg.Unavailable, "no tunnel to gateway %s: %s", l.name, l.lastError())
		}
	}
	return nil
}
