// Package client is the agent on a device: it registers with a site, takes
// policy and locations, sends inventory and listens for notification, through
// a gateway on the internet or straight to a management point inside.
//
// A [Client] lives in a state directory. [Create] makes one from ccmsetup's
// words ([ParseInstall]); [Open] comes back to it. Each act is a method that
// takes a context and returns a [StepResult] with its duration: Register,
// Token, Location, Policy, Heartbeat, Inventory, StateMessage, NotifyTest.
// [Client.Run] does them all on schedule until its context ends.
//
// How a client proves itself follows one order (cmg-behaviour K23): a valid
// PKI certificate wins, then Microsoft Entra, then a site token. With either
// kind of token it presents its own self-signed certificate in the TLS
// handshake, because the tokens are bound to that key.
//
// Start reading at transport.go (one request), then auth.go (who am I),
// steps.go (the acts) and run.go (the schedule).
package client

import (
	"context"
	"crypto/tls"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencmg/opencmg"
)

// Config is what a client needs besides its state. Only StateDir is required.
type Config struct {
	// StateDir holds keys and state, mode 0700. One process uses it at a time.
	StateDir string
	// CAFile holds PEM roots to trust besides the system's.
	CAFile string
	// CertFile and KeyFile are a PKI client certificate with its chain and
	// its key, PEM. Empty means none.
	CertFile, KeyFile string
	// Entra gets tokens for this device. Nil means that the device has no
	// Entra identity.
	Entra EntraTokenSource
	// ConnectTo redirects connections. Several rules for one host act like
	// several addresses in DNS: the next one is tried when one does not answer.
	ConnectTo []opencmg.ConnectTo
	// Host describes this device; nil means to find out.
	Host *HostFacts
	// FastChannelPort is the TCP notification port of inside management
	// points; 0 means what the site's policy says, or 10123.
	FastChannelPort int
	// Intervals of Run; zero fields mean what the site's policy says, or the
	// product's defaults.
	Intervals Intervals
	Now       func() time.Time // nil: time.Now
	Log       *slog.Logger     // nil discards
}

// Intervals are the times between the repeated acts of [Client.Run].
type Intervals struct {
	Policy        time.Duration // default 60 minutes (K8)
	Location      time.Duration // default 24 hours (K2)
	GatewaySearch time.Duration // CMGFQDNs, default 25 hours (K5)
	Heartbeat     time.Duration // default 7 days
	Inventory     time.Duration // default 7 days
	KeepAlive     time.Duration // of the notification channel, default 15 minutes
	Confirm       time.Duration // between questions how a pending registration went, default 5 seconds
	Retry         time.Duration // first wait after a failed act, default 30 seconds, doubled up to 15 minutes
}

// Auth is how a client proves itself, in the words of lab reports and status.
type Auth string

// The ways, in order of precedence (cmg-behaviour K23).
const (
	AuthPKI   Auth = "pki"
	AuthEntra Auth = "entra"
	AuthToken Auth = "token"
)

// A Client is one installed agent. Its methods may be called by many
// goroutines at once.
type Client struct {
	cfg      Config
	log      *slog.Logger
	host     *HostFacts
	identity tls.Certificate
	// pki is the PKI certificate; nil without one. A running client takes up
	// a renewed one from the same files.
	pki     atomic.Pointer[tls.Certificate]
	pkiTime time.Time // of its file, only for reloadCertificate
	// unusable is the last reason why pki did not count; a string.
	unusable atomic.Value

	// byIdentity and byPKI show the respective certificate to servers.
	byIdentity, byPKI *transport

	effective atomic.Pointer[settings]

	changed chan struct{} // NetworkChanged; holds one
	turn    atomic.Uint32 // which gateway comes first

	// tokens serialises getting tokens, so that many requests ask once. It is
	// taken before mu.
	tokens sync.Mutex
	// mu guards st, which update replaces as a whole.
	mu sync.Mutex
	st *state

	checkpoint func(string) // tests stop the process here; nil otherwise
}

// Create makes the state directory for a new installation, or takes up the
// one that is there with the new words: keys and client ID stay, so that a
// device that is installed again stays the same client. It asks nobody on the
// network.
func Create(c Config, in *Installation) (*Client, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	st, identity, err := createState(c.StateDir, c.Host.NetBIOSName, in, c.Now())
	if err != nil {
		return nil, err
	}
	return newClient(c, st, identity)
}

// Open takes up the client in Config.StateDir. Without one the error is
// opencmg.NotFound; damaged state is opencmg.Invalid and never replaced.
func Open(c Config) (*Client, error) {
	c = c.withDefaults()
	st, identity, err := openState(c.StateDir)
	if err != nil {
		return nil, err
	}
	return newClient(c, st, identity)
}

func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Host == nil {
		c.Host = DetectHost(context.Background())
	}
	return c
}

func newClient(cfg Config, st *state, identity tls.Certificate) (*Client, error) {
	c := &Client{cfg: cfg, log: cfg.Log, host: cfg.Host, identity: identity, st: st, changed: make(chan struct{}, 1)}
	if cfg.CertFile != "" || cfg.KeyFile != "" {
		if err := c.loadCertificate(); err != nil {
			return nil, err
		}
	}
	pool, err := roots(cfg.CAFile)
	if err != nil {
		return nil, err
	}
	d := newDialer(cfg.ConnectTo, cfg.Now)
	var rev *revocation
	if !st.Installation.NoCRLCheck {
		rev = newRevocation(d, cfg.Now)
	}
	c.byIdentity = newTransport(func() *tls.Certificate { return &c.identity }, pool, rev, d, c.log)
	if c.pki.Load() != nil {
		c.byPKI = newTransport(c.pki.Load, pool, rev, d, c.log)
	}
	c.loadSettings()
	return c, nil
}

// Close lets go of idle connections.
func (c *Client) Close() {
	c.byIdentity.close()
	if c.byPKI != nil {
		c.byPKI.close()
	}
}

// state returns the current state, which nobody changes.
func (c *Client) state() *state {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.st
}

// update changes the state on disk and then in memory. It begins with what is
// on disk, so that what another process did to it is not undone.
func (c *Client) update(f func(*state)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	next, err := readState(c.cfg.StateDir)
	if err != nil {
		return err
	}
	f(next)
	if err := next.save(c.cfg.StateDir); err != nil {
		return err
	}
	c.st = next
	return nil
}

func (c *Client) at(point string) {
	if c.checkpoint != nil {
		c.checkpoint(point)
	}
}

// NetworkChanged tells a running client that addresses or routes changed. It
// looks anew where it is (cmg-behaviour K5). It never blocks.
func (c *Client) NetworkChanged() { signal(c.changed) }
