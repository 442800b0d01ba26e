// Package mp is a management point: the site role that answers clients. It
// registers them, gives them tokens, policy and locations, takes their
// inventory, state and uploads, and notifies them.
//
// A [Server] answers on up to three listeners: HTTPS for clients inside the
// network and for connection points, the TCP fast channel for notification,
// and a private one for administration, metrics and health. What a client
// proved to the gateway arrives in the field OpenCMG-Identity and is believed
// from a connection point's certificate of this site only; inside the network
// the server authenticates callers itself (caller.go).
//
// This file is the last stop of the five-file tour: routes below, from path to
// handler. Messages of CCM_POST go on to the table in messages.go.
package mp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/internal/web"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

// Config describes a management point. Fields without a comment on their zero
// value are required.
type Config struct {
	Site   opencmg.SiteCode
	RoleID opencmg.RoleID
	// SiteCA issued the connection points' certificates.
	SiteCA *x509.Certificate
	// GetCertificate returns the server certificate; Certificate is used when
	// it is nil. Connection points expect the role's identity of the site CA.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Certificate    tls.Certificate

	// Signer makes client tokens and CCM tokens. Its certificate is also the
	// site signing certificate that clients are told.
	Signer *pki.TokenSigner
	// Tokens verifies bearer tokens of callers inside the network; nil refuses
	// them all. Through a gateway tokens were verified there.
	Tokens *pki.TokenVerifier
	// Certificates verifies PKI certificates of callers inside the network;
	// nil means that none counts.
	Certificates *pki.ClientVerifier

	DB *sitedb.DB

	// Host is the name, with a port unless 443, by which clients inside the
	// network reach this server.
	Host string
	// Gateways lists under which names this role is published.
	Gateways []Gateway
	// SoftwareUpdatePoints are told to clients; may be empty.
	SoftwareUpdatePoints []SoftwareUpdatePoint
	// Settings are the default client policies; zero fields have defaults.
	Settings Settings
	// Locations are the site's boundary groups; nil tells clients inside of no
	// gateway that they could use there.
	Locations *Locations

	// ApproveAll approves every client that proves nothing but its own key.
	// Otherwise such clients wait for ApproveClient.
	ApproveAll bool
	// AcceptUnsignedState takes state messages without signature from callers
	// inside the network that prove nothing, as the vendor's library sends
	// them.
	AcceptUnsignedState bool
	// FastChannelWithoutCertificate lets clients sign in to the fast channel
	// without proving their key, as the vendor's clients do.
	FastChannelWithoutCertificate bool

	// ClientFiles is the folder served as CCM_Client; empty serves none.
	ClientFiles string
	// Incoming is the folder for uploads; empty takes none.
	Incoming string
	// IncomingQuota bounds what one client may have there, in bytes; 0 means
	// 4 GiB.
	IncomingQuota int64

	// OnlineChanged is called within about a second after Server.Online changed,
	// and once a second at most; nil is nobody.
	OnlineChanged func()

	// Registry takes the metrics; nil keeps them unseen.
	// Records keeps requests for "explain"; nil keeps the latest in memory.
	Records  *web.Records
	Registry *prometheus.Registry
	// Log takes what happens; nil discards.
	Log *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// A Gateway is a cloud management gateway that publishes this role.
type Gateway struct {
	ServiceName string // with a port unless 443
	// RoleID is this role's ID there; empty means Config.RoleID.
	RoleID opencmg.RoleID
}

// A SoftwareUpdatePoint is told to clients as WSUSURL.
type SoftwareUpdatePoint struct {
	URL    string         // inside the network
	RoleID opencmg.RoleID // on the gateways; empty: not published
}

const (
	siteVersion = "5.00.9128.1000" // of the documented clients; tools want a build they know
	siteBuild   = "9128"

	maxMessage      = 16 << 20  // bytes of one CCM_POST
	messageMemory   = 256 << 20 // bytes of messages being read at once
	bodyTimeout     = 60 * time.Second
	shutdownTimeout = 10 * time.Second
	keptRecords     = 16384
)

// A Server is a management point.
type Server struct {
	c       Config
	log     *slog.Logger
	now     func() time.Time
	peers   *pki.PeerVerifier
	signing atomic.Pointer[signing]
	records *web.Records
	metrics *metrics
	hub     *hub
	inside  atomic.Pointer[verifiers]
	offered atomic.Pointer[[]Gateway]
	groups  atomic.Pointer[Locations] // nil without any
	memory  *semaphore.Weighted       // of messages being read, in bytes
	uploads uploads
	handler http.Handler
}

// signing is the key that tokens are signed with, and its certificate, which is
// the site signing certificate too.
type signing struct {
	*pki.TokenSigner
	cert *x509.Certificate
}

// UseSigner replaces Config.Signer, for example after the site has changed its
// token-signing key. Tokens made from now on are signed with it; who verifies
// the older ones is not this server's business.
func (s *Server) UseSigner(signer *pki.TokenSigner) error {
	certs, err := pki.ParseCertificates([]byte(signer.TokenIssuer().Certificate))
	if err != nil {
		return fmt.Errorf("management point: token signer: %w", err)
	}
	s.signing.Store(&signing{signer, certs[0]})
	return nil
}

// UseGateways replaces Config.Gateways: what location replies offer from now on.
func (s *Server) UseGateways(list []Gateway) {
	list = slices.Clone(list)
	for i := range list {
		if list[i].RoleID == "" {
			list[i].RoleID = s.c.RoleID
		}
	}
	s.offered.Store(&list)
}

func (s *Server) gateways() []Gateway { return *s.offered.Load() }

// verifiers authenticate callers inside the network; either may be nil.
type verifiers struct {
	tokens       *pki.TokenVerifier
	certificates *pki.ClientVerifier
}

// Trust replaces Config.Tokens and Config.Certificates, for example after the
// site has published anew. It holds from the next request on.
func (s *Server) Trust(tokens *pki.TokenVerifier, certificates *pki.ClientVerifier) {
	s.inside.Store(&verifiers{tokens, certificates})
}

// New makes a management point and stores its default policies.
func New(ctx context.Context, c Config) (*Server, error) {
	if err := errors.Join(c.Site.Validate(), c.RoleID.Validate()); err != nil {
		return nil, fmt.Errorf("management point: %w", err)
	}
	if c.SiteCA == nil || c.Signer == nil || c.DB == nil || c.Host == "" {
		return nil, opencmg.Errorf(opencmg.Invalid, "management point: site CA, token signer, database and host must be set")
	}
	if c.GetCertificate == nil {
		if len(c.Certificate.Certificate) == 0 {
			return nil, opencmg.Errorf(opencmg.Invalid, "management point: the server certificate must be set")
		}
		c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &c.Certificate, nil }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	if c.Records == nil {
		c.Records = web.NewRecords(keptRecords)
	}
	if c.IncomingQuota == 0 {
		c.IncomingQuota = 4 << 30
	}
	s := &Server{
		c: c, log: c.Log.With("role", string(c.RoleID), "site", string(c.Site)), now: c.Now,
		peers: pki.NewPeerVerifier(c.SiteCA, c.Site), records: c.Records, memory: semaphore.NewWeighted(messageMemory),
	}
	if err := s.UseSigner(c.Signer); err != nil {
		return nil, err
	}
	s.UseGateways(c.Gateways)
	s.UseLocations(c.Locations)
	s.Trust(c.Tokens, c.Certificates)
	s.hub = newHub(s)
	s.metrics = newMetrics(c.Registry, s.hub)
	s.handler = s.route()
	if err := s.uploads.open(c.Incoming); err != nil {
		return nil, err
	}
	if err := s.UseSettings(ctx, c.Settings); err != nil {
		return nil, fmt.Errorf("management point: %w", err)
	}
	return s, nil
}

// routes is everything that exists here. Paths are matched without regard to
// case (wire.md 1.1); one that ends in a slash stands for what is below it.
func (s *Server) routes() []route {
	return []route{
		{ccm.PathRequest, ccm.MethodCCMPost, "ccm_system", s.request},
		{ccm.PathTokenRequest, ccm.MethodCCMPost, "ccm_system_tokenauth", s.tokenRequest},
		{ccm.PathSTS, "GET POST", "CCM_STS", s.sts},
		{ccm.PathLocation, "GET HEAD", "SMS_MP", s.locationQuery},
		{ccm.PathPolicy, "GET HEAD", "SMS_MP", s.policyBody},
		{ccm.PathDocument, "GET HEAD", "SMS_MP", s.document},
		{ccm.PathIncoming, "BITS_POST CCM_POST POST", "ccm_incoming", s.upload},
		{ccm.PathClient, "GET HEAD", "CCM_Client", s.clientFile},
		{ccm.PathNotification, "CCM_POST POST", "BGB", s.notification},
	}
}

type route struct {
	path, methods, endpoint string
	handle                  func(http.ResponseWriter, *http.Request) error
}

// route finds the route of a request and runs it between authentication and
// the record for "opencmg explain".
func (s *Server) route() http.Handler {
	type prepared struct {
		route
		lower   string
		handler http.Handler
	}
	var table []prepared
	for _, rt := range s.routes() {
		table = append(table, prepared{rt, strings.ToLower(rt.path), web.Handler(s.log, rt.handle)})
	}
	missing := web.Handler(s.log, func(http.ResponseWriter, *http.Request) error {
		return opencmg.Errorf(opencmg.NotFound, "this management point has nothing at this path")
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.ToLower(r.URL.Path)
		for i := range table {
			rt := &table[i]
			if path != rt.lower && !(strings.HasSuffix(rt.lower, "/") && strings.HasPrefix(path, rt.lower)) {
				continue
			}
			if !strings.Contains(" "+rt.methods+" ", " "+r.Method+" ") {
				w.Header().Set("Allow", strings.ReplaceAll(rt.methods, " ", ", "))
				s.serve(w, r, rt.endpoint, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusMethodNotAllowed) }))
				return
			}
			s.serve(w, r, rt.endpoint, rt.handler)
			return
		}
		s.serve(w, r, "", missing)
	})
}

// Handler returns the HTTPS side without its listener, for tests.
func (s *Server) Handler() http.Handler { return s.handler }

// ApproveClient lets a waiting client in, or out.
func (s *Server) ApproveClient(ctx context.Context, id opencmg.ClientID, a sitedb.Approval) error {
	return s.c.DB.ApproveClient(ctx, id, a)
}

// Listeners are where a server answers; nil ones are left out. The server adds
// TLS to HTTPS and Notification, and closes all of them.
type Listeners struct {
	HTTPS        net.Listener
	Notification net.Listener // TCP fast channel
	Private      net.Listener
}

// Run serves until ctx ends: then it releases held requests, lets others finish
// for some seconds, and returns when everything it started has ended.
func (s *Server) Run(ctx context.Context, l Listeners) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 3)
	running := 0
	start := func(ln net.Listener, serve func(context.Context, net.Listener) error) {
		if ln == nil {
			return
		}
		running++
		go func() { failed <- serve(ctx, ln) }()
	}
	start(l.HTTPS, s.serveHTTPS)
	start(l.Notification, s.serveFastChannel)
	start(l.Private, s.private().Serve)
	var err error
	for range running {
		if e := <-failed; e != nil && err == nil {
			err = e
		}
		cancel() // one listener that fails ends the others
	}
	return err
}

func (s *Server) tlsConfig() *tls.Config {
	return pki.RoleServerTLS(s.c.GetCertificate)
}

func (s *Server) serveHTTPS(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler: s.handler, ReadHeaderTimeout: 15 * time.Second, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 32 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	srv.Protocols = new(http.Protocols)
	srv.Protocols.SetHTTP1(true)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-ctx.Done()
		s.hub.close()
		timeout, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		if srv.Shutdown(timeout) != nil {
			srv.Close()
		}
	}()
	err := srv.Serve(tls.NewListener(ln, s.tlsConfig()))
	if ctx.Err() != nil {
		<-ended
		return nil
	}
	return fmt.Errorf("management point: serve HTTPS: %w", err)
}
