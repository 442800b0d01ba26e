// Package site is the site server: the administration service, and the cloud
// service manager that deploys and watches cloud management gateways.
//
// A [Server] keeps everything in the site database. Administrators and the
// console change its objects through the administration service (routes.go);
// what that means for gateways is published by publish.go as signed documents,
// and done in a cloud by the cloud service manager (manager.go), one operation
// per gateway at a time, each step recorded before it is begun. Site systems
// (connection points, management points) fetch their documents and report
// through systems.go.
//
// To follow the creation of a gateway, read gateways.go (what is asked), then
// plan.go (what it means), manager.go (which steps), steps.go (what each step
// does) and publish.go (what the instances are told).
package site

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

// Config says what a [Server] needs. DB must be set, and at the first start
// Site.
type Config struct {
	DB *sitedb.DB
	// Site is the site code. It is needed at the first start only; later it
	// must be empty or the same.
	Site opencmg.SiteCode
	// URL is how site systems and administrators reach the site; its host and
	// the Addresses are the names in the site's own certificate.
	URL       string
	Addresses []string
	// Cloud signs in to a cloud, Directory to Microsoft Entra ID.
	HTTP      *http.Client // fetches the keys of Entra tenants
	Cloud     func(CloudSignIn) (Cloud, error)
	Directory func(CloudSignIn) (Directory, error)
	// Environments that may be chosen; empty means the public cloud and US
	// Government.
	Environments []opencmg.Environment
	// Program is the gateway program that instances run.
	Program *Program
	// Bootstrap is what every gateway's bootstrap document gets besides its
	// own facts.
	Bootstrap Bootstrap
	// Poll is how often the manager looks at machines that are starting;
	// default 5 seconds. Watch is how often it looks at all; default a minute.
	Poll, Watch time.Duration
	// ACME is how the site reaches certification authorities.
	ACME ACMEConfig
	// Probe looks at the network from the site server; see package
	// internal/probe. nil looks at nothing.
	Probe func(context.Context, []opencmg.ProbeTarget) opencmg.ProbeReport
	// GatewayTransport is the way to gateways for the connection analyzer, which
	// comes from outside as a client does: its proxy, dialler and roots. nil
	// goes straight, with the system's roots.
	GatewayTransport *http.Transport
	// Notify sends alerts on, for example by SMTP or to a web hook.
	Notify []func(context.Context, adminservice.Alert) error
	// OnStep, when set, is called after a step was recorded and before it is
	// done. Tests end the process there.
	OnStep func(operation, step string)
	Now    func() time.Time
	Log    *slog.Logger
	Logs   Logs // files that may be asked for
	// Configuration is that of the process in YAML, without secrets, for
	// administrators to look at; may be empty.
	Configuration []byte
	Registry      *prometheus.Registry
	Version       string // of this program
}

// ACMEConfig says how the site reaches certification authorities.
type ACMEConfig struct {
	HTTP *http.Client // nil means Config.HTTP
}

// A Program is a gateway program to be run by instances.
type Program struct {
	Name   string // of the blob, with its version
	Size   int64
	SHA256 string // lower-case hexadecimal
	Open   func() (io.ReadSeekCloser, error)
}

// Bootstrap holds what the site's own way to the outside says to its gateways,
// which take the same one.
type Bootstrap struct {
	Proxy       string
	CAPEM       string
	ConnectTo   []string
	ConnectOnly bool
}

// A Server is a site server.
type Server struct {
	cfg     Config
	db      *sitedb.DB
	keys    *keys
	log     *slog.Logger
	handler http.Handler
	console http.Handler
	metrics *metrics

	guard     guard
	sealer    *sealer // of sign-ins that wait
	jwks      *pki.JWKSCache
	live      *live // what site systems reported
	shown     showing
	kept      *keptLogs
	questions *questions
	analyses  *analyses
	outside   *keptOutside
	choices   *choices
	manager   *manager
	publisher *publisher
	duties    []*duty

	// Tests change these before the first request.
	onlineWait, explainWait, settles time.Duration

	discovering sync.Mutex // one discovery at a time

	certMu sync.Mutex // guards cert
	cert   *tls.Certificate

	// FirstStart says that New made the site; AdministratorToken is then the
	// local token of the first administrator.
	FirstStart         bool
	AdministratorToken string
}

// New opens the site, and makes it when the database is empty: site CA,
// configuration-signing and token-signing key, and a first administrator.
func New(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.DB == nil {
		return nil, opencmg.Errorf(opencmg.Invalid, "site: DB must be set")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Registry == nil {
		cfg.Registry = prometheus.NewRegistry()
	}
	if len(cfg.Environments) == 0 {
		cfg.Environments = []opencmg.Environment{opencmg.AzurePublicCloud, opencmg.AzureUSGovernmentCloud}
	}
	cfg.Poll = cmp.Or(cfg.Poll, 5*time.Second)
	cfg.Watch = cmp.Or(cfg.Watch, time.Minute)
	s := &Server{
		cfg: cfg, db: cfg.DB, log: cfg.Log.With("site", string(cfg.Site)),
		live: newLive(cfg.Now()), kept: &keptLogs{dir: cfg.Logs.Kept, last: map[string]time.Time{}, delay: map[string]time.Duration{}},
		questions: newQuestions(cfg.Now()), onlineWait: onlineWait, explainWait: explainWait, settles: configurationSettles, analyses: newAnalyses(), outside: newKeptOutside(), choices: newChoices(cfg.Now),
	}
	s.live.faded = s.shown.tell
	s.jwks = pki.NewJWKSCache(pki.JWKSConfig{HTTP: cfg.HTTP, Log: s.log})
	token := newSecret()
	var err error
	if s.sealer, err = newSealer(); err != nil {
		return nil, err
	}
	s.keys, s.FirstStart, err = openKeys(ctx, s.db, cfg.Site, cfg.Now(), func(tx *sitedb.Tx) error { return firstAdministrator(tx, token) })
	if err != nil {
		return nil, err
	}
	if s.FirstStart {
		s.AdministratorToken = token
	}
	if err := s.makeDefaults(ctx); err != nil {
		return nil, err
	}
	if s.metrics, err = newMetrics(cfg.Registry); err != nil {
		return nil, err
	}
	s.publisher = &publisher{s: s}
	s.manager = newManager(s)
	s.duties = s.allDuties()
	if s.console, err = s.newConsole(); err != nil {
		return nil, err
	}
	s.handler = s.routes()
	return s, nil
}

// Code is the site code.
func (s *Server) Code() opencmg.SiteCode { return s.keys.site.Code }

// SiteCA is the certificate of the site CA.
func (s *Server) SiteCA() *x509.Certificate { return s.keys.authority.Certificate() }

// SiteCAPEM is the same as PEM.
func (s *Server) SiteCAPEM() []byte { return s.keys.authority.CertificatePEM() }

// Handler is the administration service, for a server of the caller's own.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve answers administrators and site systems on ln, which it wraps in TLS,
// and runs the cloud service manager, until ctx ends.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	server := &http.Server{
		Handler:           s.handler,
		TLSConfig:         s.tlsConfig(),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       2 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.jwks.Run(ctx) })
	g.Go(func() error { return s.publisher.run(ctx) })
	g.Go(func() error { return s.manager.run(ctx) })
	g.Go(func() error { return s.runAnalyses(ctx) })
	g.Go(func() error { return s.runOutside(ctx) })
	for range maxChoicesAsked {
		g.Go(func() error { return s.choices.run(ctx) })
	}
	g.Go(func() error { return s.watch(ctx) })
	g.Go(func() error { return s.followChanges(ctx) })
	g.Go(func() error {
		err := server.ServeTLS(ln, "", "")
		if errors.Is(err, http.ErrServerClosed) && ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("serve the administration service: %w", err)
	})
	g.Go(func() error {
		<-ctx.Done()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		if server.Shutdown(drain) != nil {
			server.Close()
		}
		return nil
	})
	s.log.Info("site server started", "component", componentProvider, "site", string(s.Code()), "address", ln.Addr().String(), "database", s.db.Engine(), "version", s.cfg.Version)
	err := g.Wait()
	s.log.Info("site server stopped", "component", componentProvider)
	return err
}

// Log files that the site's records belong to.
const (
	componentProvider = "SMSProv"  // administration service
	componentManager  = "CloudMgr" // cloud service manager (cmg-behaviour M1)
)

// tlsConfig asks for client certificates without demanding one: accounts and
// site systems may have them, tokens need none.
func (s *Server) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		ClientAuth:     tls.RequestClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.ownCertificate() },
	}
}

// ownCertificate is the site server's, made anew when it is about to end.
func (s *Server) ownCertificate() (*tls.Certificate, error) {
	s.certMu.Lock()
	defer s.certMu.Unlock()
	if now := s.cfg.Now(); s.cert == nil || s.cert.Leaf.NotAfter.Sub(now) < identityRenew {
		cert, err := s.keys.serverCertificate(s.cfg.Addresses, now)
		if err != nil {
			return nil, err
		}
		s.cert = &cert
	}
	return s.cert, nil
}
