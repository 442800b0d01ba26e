// Package gateway is one instance of a cloud management gateway: the edge that
// clients on the internet reach.
//
// A [Server] accepts clients on one TLS port and tunnels from connection points
// on that port or on ports of their own. For each request it finds the
// published endpoint, authenticates the caller, and passes the request down a
// tunnel to a connection point of the role's site. What it publishes and whom
// it believes comes from the signed published configuration, which any
// connection point delivers over its tunnel; the last one is kept in the state
// directory and serves from the next start on.
//
// To follow a request, read edge.go (who is calling), forward.go (which
// endpoint, which tunnel) and relay.go (the answer).
//
// An instance stores nothing about clients. It does not choose its own name,
// obtain its server certificate, or write log files: the command does that.
package gateway

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/web"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/tunnel"
)

// Log files that the records of an instance belong to (cmg-behaviour G50).
const (
	componentService = "CMGService"
	componentHandler = "CMGHttpHandler"
)

// recordsKept is how many requests are kept in memory for "opencmg explain"; those
// of the last day are on disk.
const recordsKept = 20_000

// A Config says which instance a [Server] is. It holds what the bootstrap
// document says; everything else comes with the published configuration.
type Config struct {
	// Gateway is the name of the gateway, as in the published configuration
	// and in the tunnel certificate.
	Gateway string
	// ServiceName is the public DNS name that clients use.
	ServiceName string
	// Instance is the number of this instance, from 0.
	Instance int
	// Site is the site whose CA signs tunnels and configurations.
	Site opencmg.SiteCode
	// SiteCA is the certificate of the site CA.
	SiteCA *x509.Certificate
	// TunnelCertificate is this instance's certificate of the site CA. Its
	// URI is opencmg.GatewayInstanceURI.
	TunnelCertificate tls.Certificate
	// GetTunnelCertificate, if set, returns another one later, for the tunnels
	// that come then. TunnelCertificate must be set all the same.
	GetTunnelCertificate func() *tls.Certificate
	// GetCertificate returns the server authentication certificate, with its
	// Leaf. It is called for every handshake, so another one may take its
	// place at any time.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// StateDir keeps the last published configuration, the CRLs and the records
	// of the last day's requests; it must exist. Empty keeps nothing.
	StateDir string
	// RecordsBytes bounds the records in StateDir; 0 means
	// web.DefaultJournalBytes, negative keeps the latest in memory only.
	RecordsBytes int64
	// OnConfiguration, if set, is called after a published configuration was
	// put in force, by New too for the one that was kept. It must return at
	// once and not change the configuration.
	OnConfiguration func(*opencmg.PublishedConfiguration)
	// Outside, if set, returns what was found last when this instance looked at
	// its service name from where it runs; it goes into the status.
	Outside func() *opencmg.ProbeReport
	// HTTP fetches CRLs and the signing keys of Entra tenants; nil means a
	// client without a proxy.
	HTTP *http.Client
	// DrainTimeout bounds the wait for requests in flight when Serve's context
	// ends; default 10 s.
	DrainTimeout time.Duration
	// DrainSettle is how long the load balancer may take to notice that the
	// instance is not healthy any more; default 10 s, two probes of Azure's
	// balancer. An instance that drains is not drained before that.
	DrainSettle time.Duration
	// TunnelWait is how long a request may wait for a tunnel when none is up,
	// for example right after a restart, and twice as long for the first one;
	// default 10 s, negative not at all.
	TunnelWait time.Duration
	// Version is that of the program, for reports.
	Version string
	// Log receives records; nil discards them.
	Log *slog.Logger
	// Logs keeps the lines that connection points may read over the tunnel. A
	// command whose other parts log too makes it and has Log fill it; nil
	// keeps what the server itself logs.
	Logs *web.LogTail
	// Registry receives the metrics; nil means one of the server's own.
	Registry *prometheus.Registry
}

// Listeners are the sockets that [Server.Serve] serves and finally closes. Only
// HTTPS must be set.
type Listeners struct {
	// HTTPS takes clients and, by ALPN, tunnels over HTTPS.
	HTTPS net.Listener
	// TunnelTCP takes tunnels over TCP-TLS (documented port 10140 + instance).
	TunnelTCP net.Listener
	// TunnelHTTPS takes tunnels over HTTPS on their own port (documented port
	// 10124 + instance).
	TunnelHTTPS net.Listener
	// HTTP takes plain HTTP: it answers http-01 challenges and sends everybody
	// else to HTTPS.
	HTTP net.Listener
	// Private serves /metrics, /livez, /readyz and /explain. Never expose it
	// to the internet.
	Private net.Listener
}

// A Server is one gateway instance.
type Server struct {
	cfg   Config
	log   *slog.Logger
	where string // for records

	ctx    context.Context // of everything Serve started; ends last
	cancel context.CancelFunc

	snap     atomic.Pointer[snapshot] // never nil
	applying sync.Mutex               // held while a configuration is applied
	crl      *pki.CRLCache
	jwks     *pki.JWKSCache

	edgeTLS, tunnelTLS *tls.Config
	lastCert           atomic.Pointer[tls.Certificate]
	http2mu            sync.Mutex   // held while http2 is replaced or closed
	http2              *http.Server // takes new connections
	http2Conns         atomic.Pointer[http2Listener]

	began       time.Time
	tick        atomic.Int64 // milliseconds since began, as of the last sweep
	watches     watches
	roster      roster
	connections atomic.Int64
	inFlight    atomic.Int64
	strangers   atomic.Int64 // see maxStrangers
	logStreams  atomic.Int64 // see maxLogStreams
	explaining  atomic.Int64 // see maxExplaining
	anonymous   rateLimiter
	metrics     *metrics
	traffic     trafficTable
	records     *web.Records

	serving  atomic.Bool
	draining atomic.Bool
	notable  notable        // what connection points hear of at once
	leave    leave          // the site's wish; draining is this instance's end
	closing  chan struct{}  // closed when accepting ends
	clients  sync.WaitGroup // client connections
	wg       sync.WaitGroup // tunnels and everything else
}

// New checks the configuration and loads the last published configuration from
// the state directory. A damaged one is reported in the log and ignored; the
// next connection point brings another.
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Registry == nil {
		cfg.Registry = prometheus.NewRegistry()
	}
	cfg.keepLogs()
	cfg.DrainTimeout = cmp.Or(cfg.DrainTimeout, 10*time.Second)
	cfg.DrainSettle = cmp.Or(cfg.DrainSettle, 10*time.Second)
	cfg.TunnelWait = cmp.Or(cfg.TunnelWait, 10*time.Second)
	s := &Server{
		cfg: cfg, log: cfg.Log.With("gateway", cfg.Gateway, "instance", cfg.Instance),
		where:   fmt.Sprintf("%s/%d", cfg.Gateway, cfg.Instance),
		began:   time.Now(),
		records: web.NewRecords(recordsKept),
		closing: make(chan struct{}),
		leave:   leave{changed: make(chan struct{}, 1)},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	var err error
	if s.metrics, err = newMetrics(cfg.Registry); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	s.metrics.certificate("tunnel", &cfg.TunnelCertificate)
	s.traffic = trafficTable{m: s.metrics, all: map[string]*traffic{}}
	s.roster = roster{s: s, turns: map[string]*atomic.Uint32{}}
	s.roster.rebuild()
	crl := pki.CRLConfig{HTTP: cfg.HTTP, Log: s.log}
	if cfg.StateDir != "" {
		crl.Dir = filepath.Join(cfg.StateDir, "crl")
		if err := os.MkdirAll(crl.Dir, 0o700); err != nil {
			return nil, &opencmg.Error{Kind: opencmg.Invalid, Msg: fmt.Sprintf("state directory %s can not be written: check that it exists and belongs to this user", cfg.StateDir), Err: err}
		}
	}
	if cfg.StateDir != "" && cfg.RecordsBytes >= 0 {
		s.records.Journal, err = web.NewJournal(web.JournalConfig{
			Dir: filepath.Join(cfg.StateDir, "records"), MaxBytes: cfg.RecordsBytes, Log: s.log.With("component", componentService), Registry: cfg.Registry,
		})
		if err != nil {
			return nil, err
		}
	}
	s.crl = pki.NewCRLCache(crl)
	s.jwks = pki.NewJWKSCache(pki.JWKSConfig{HTTP: cfg.HTTP, Log: s.log})
	s.tunnelTLS = pki.TunnelServerTLS(cfg.SiteCA, cfg.TunnelCertificate, cfg.Site)
	s.tunnelTLS.NextProtos = []string{tunnel.ALPNTCPTLS, tunnel.ALPNHTTPS}
	s.tunnelTLS.DynamicRecordSizingDisabled = true
	if get := cfg.GetTunnelCertificate; get != nil {
		s.tunnelTLS.Certificates = nil
		s.tunnelTLS.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return get(), nil }
	}
	s.edgeTLS = s.serverTLS()
	s.http2 = s.newHTTP2(nil)
	s.snap.Store(s.emptySnapshot())
	s.load()
	return s, nil
}

func (c *Config) validate() error {
	switch {
	case c.Gateway == "" || c.ServiceName == "":
		return opencmg.Errorf(opencmg.Invalid, "gateway: Gateway and ServiceName must be set")
	case c.Instance < 0 || c.Instance >= opencmg.MaxInstances:
		return opencmg.Errorf(opencmg.Invalid, "gateway: instance %d: must be 0 to %d", c.Instance, opencmg.MaxInstances-1)
	case c.SiteCA == nil || len(c.TunnelCertificate.Certificate) == 0 || c.GetCertificate == nil:
		return opencmg.Errorf(opencmg.Invalid, "gateway: SiteCA, TunnelCertificate and GetCertificate must be set")
	}
	return c.Site.Validate()
}

// Ready returns nil while the instance can serve requests, and otherwise says
// what is missing.
func (s *Server) Ready() error {
	switch {
	case s.draining.Load():
		return errors.New("the instance is shutting down")
	case s.leaving():
		return errDrains
	case s.snap.Load().cfg == nil:
		return errors.New("no published configuration yet: no connection point has delivered one")
	}
	return s.roster.ready()
}

// Healthy returns nil while it makes sense to send clients here: the instance
// accepts connections, has a server certificate, and is not to drain. Tunnels do not matter: with
// the site's line down every instance would be unhealthy, and a load balancer
// or a cloud that then takes all of them out of service, or replaces them,
// makes it worse. [Server.Ready] asks for more.
func (s *Server) Healthy() error {
	if s.draining.Load() {
		return errors.New("the instance is shutting down")
	}
	if s.leaving() {
		return errDrains
	}
	if !s.serving.Load() {
		return errors.New("the instance does not accept connections yet")
	}
	if cert, err := s.cfg.GetCertificate(&tls.ClientHelloInfo{ServerName: s.cfg.ServiceName}); err != nil || cert == nil {
		return errors.New("there is no server certificate")
	}
	return nil
}

// Serve accepts clients and tunnels until ctx ends, then drains: it stops
// accepting, tells the tunnels, lets requests in flight finish for
// Config.DrainTimeout, and closes. It returns when everything it started has
// ended. Serve may be called once.
func (s *Server) Serve(ctx context.Context, l Listeners) error {
	if l.HTTPS == nil {
		return opencmg.Errorf(opencmg.Invalid, "gateway: the HTTPS listener must be set")
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var accepting sync.WaitGroup
	listen := func(ln net.Listener, wg *sync.WaitGroup, serve func(net.Conn)) {
		if ln == nil {
			return
		}
		accepting.Go(func() {
			if err := s.accept(ln, wg, serve); err != nil {
				stop(err)
			}
		})
	}
	sweeping := make(chan struct{})
	var background sync.WaitGroup
	background.Go(func() { s.sweeper(sweeping) })
	journaling, stopJournal := context.WithCancel(context.WithoutCancel(ctx))
	defer stopJournal()
	if j := s.records.Journal; j != nil {
		background.Go(func() { j.Run(journaling) })
	}
	s.wg.Go(func() { s.crl.Run(s.ctx) })
	s.wg.Go(func() { s.jwks.Run(s.ctx) })
	s.wg.Go(s.summaries)
	s.http2mu.Lock()
	s.http2Conns.Load().addr = l.HTTPS.Addr()
	s.serveHTTP2Conns()
	s.http2mu.Unlock()
	s.wg.Go(s.leaver)
	if l.Private != nil {
		p := &web.Private{Records: s.records, Registry: s.cfg.Registry, Ready: s.Ready, Log: s.log}
		s.wg.Go(func() {
			if err := p.Serve(s.ctx, l.Private); err != nil {
				stop(fmt.Errorf("private listener: %w", err))
			}
		})
	}
	if l.HTTP != nil {
		s.wg.Go(func() {
			if err := s.servePlain(l.HTTP); err != nil {
				stop(fmt.Errorf("plain HTTP listener: %w", err))
			}
		})
	}
	listen(l.HTTPS, &s.clients, s.serveHTTPS)
	listen(l.TunnelTCP, &s.wg, s.serveTunnelTCP)
	listen(l.TunnelHTTPS, &s.wg, s.serveTunnelTCP)
	s.serving.Store(true)
	s.log.Info("instance started", "component", componentService, "address", l.HTTPS.Addr().String(), "configuration", s.snap.Load().version())
	<-ctx.Done()

	s.log.Info("instance stops", "component", componentService)
	s.draining.Store(true)
	close(s.closing)
	for _, ln := range []net.Listener{l.HTTPS, l.TunnelTCP, l.TunnelHTTPS} {
		if ln != nil {
			ln.Close()
		}
	}
	accepting.Wait()
	s.drain()
	s.cancel()
	s.wg.Wait()
	close(sweeping)
	stopJournal()
	background.Wait()
	s.traffic.summarize(s.log)
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// drain ends client connections and tunnels: idle ones and held requests at
// once, others when they are done or the time is over.
func (s *Server) drain() {
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.DrainTimeout)
	defer cancel()
	s.wg.Go(func() { s.closeHTTP2(ctx) })
	// Tunnels outlast the clients, so that nobody loses an answer to the end.
	tunnels, closeTunnels := context.WithCancel(s.ctx)
	defer closeTunnels()
	s.wg.Go(func() { s.roster.drain(tunnels) })
	gone := make(chan struct{})
	go func() {
		s.clients.Wait()
		close(gone)
	}()
	// A connection may become idle, and a request held, after a look at it, so
	// look again until nobody is left. When the time is over everybody is told
	// to go, and a second later made to.
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for late := 0; ; {
		s.interruptAll(causeShutdown, func(w *watch, p phase) bool {
			if late > 10 {
				w.conn.SetReadDeadline(aLongTimeAgo)
				w.conn.SetWriteDeadline(aLongTimeAgo)
			}
			return late > 0 || p == phaseIdle || p == phaseWait && w.held()
		})
		select {
		case <-gone:
			return
		case <-t.C:
		}
		if ctx.Err() != nil {
			late++
		}
	}
}

func (s *Server) summaries() {
	t := time.NewTicker(summaryInterval)
	defer t.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-t.C:
			s.traffic.summarize(s.log)
		}
	}
}

// debug reports whether records about single requests are wanted.
func (s *Server) debug() bool { return s.log.Enabled(s.ctx, slog.LevelDebug) }
