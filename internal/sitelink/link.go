package sitelink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/web"
)

// Times of a link.
const (
	pollWait    = 50 * time.Second // for a change, below what proxies bear
	backoffLow  = 500 * time.Millisecond
	backoffHigh = 15 * time.Second // so that all is well within a minute after the site is back
)

// Config says what a [Link] needs. Fields without a comment on their zero value
// are required.
type Config struct {
	Kind string // adminservice.SystemConnectionPoint or SystemManagementPoint
	URL  string // of the site
	Site opencmg.SiteCode
	// SiteCA vouches for the site and for what it signs.
	SiteCA *x509.Certificate
	// Certificate is the system's own at the start.
	Certificate tls.Certificate
	// Dir is the identity directory: documents and renewed certificates are
	// written there.
	Dir string

	// CheckMappings reports why the content of a mappings document can not be
	// used; nil when the system takes none.
	CheckMappings func(payload []byte) error
	// Apply takes over documents that were verified and written, for what is
	// not in files; nil does nothing. An error has the documents asked for
	// again.
	Apply func(*adminservice.Documents) error
	// UseCertificate takes over a renewed certificate; nil does nothing. The
	// link itself uses it from the next connection on.
	UseCertificate func(tls.Certificate)
	// Report tells the system's state; log lines in it are handed over. nil
	// reports that the process runs. Changes makes a report go out at once.
	Report  func() adminservice.SiteSystemReport
	Changes <-chan struct{}
	// Answer answers a question of the site; nil answers none. The ID in the
	// answer is the link's business.
	Answer func(context.Context, adminservice.SystemQuestion) adminservice.SystemAnswer
	// Version is that of the program.
	Version string
	// Logs holds the process's own log lines for the reports; may be nil.
	Logs *web.LogTail
	// DialContext opens connections to the site; nil is that of net.Dialer.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// Log takes what happens; nil discards.
	Log *slog.Logger
}

// A Link keeps a site system in touch with its site.
type Link struct {
	cfg     Config
	log     *slog.Logger
	client  *adminservice.SystemClient
	started time.Time
	cert    atomic.Pointer[tls.Certificate]
	renew   chan struct{} // capacity 1: the site wants the certificate renewed
	news    chan struct{} // capacity 1: the link itself has something to report

	questions questions

	renewBefore atomic.Pointer[time.Time] // as the documents last said

	problem struct {
		sync.Mutex
		text string // why documents are not taken over
	}
}

// New checks the configuration. Nothing is dialled before [Link.Run].
func New(cfg Config) (*Link, error) {
	if cfg.SiteCA == nil || len(cfg.Certificate.Certificate) == 0 || cfg.Dir == "" {
		return nil, opencmg.Errorf(opencmg.Invalid, "site link: site CA, certificate and identity directory must be set")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l := &Link{cfg: cfg, log: cfg.Log.With("site_server", cfg.URL), started: time.Now(), renew: make(chan struct{}, 1), news: make(chan struct{}, 1)}
	if cfg.Certificate.Leaf == nil {
		leaf, err := x509.ParseCertificate(cfg.Certificate.Certificate[0])
		if err != nil {
			return nil, opencmg.Errorf(opencmg.Invalid, "site link: certificate: %w", err)
		}
		cfg.Certificate.Leaf = leaf
	}
	l.cert.Store(&cfg.Certificate)
	var err error
	l.client, err = adminservice.NewSystemClient(adminservice.SystemConfig{
		URL: cfg.URL, Site: cfg.Site, SiteCA: cfg.SiteCA, Certificate: l.cert.Load, DialContext: cfg.DialContext,
	})
	if err != nil {
		return nil, fmt.Errorf("siteServer: %w", err)
	}
	return l, nil
}

// Run keeps in touch until ctx ends, and returns nil then.
func (l *Link) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { l.followDocuments(ctx) })
	wg.Go(func() { l.sendReports(ctx) })
	wg.Go(func() { l.keepCertificate(ctx) })
	wg.Wait()
	l.questions.wg.Wait()
	l.client.Close()
	return nil
}

// JoinGateway asks the site about a host that wants to be an instance of a
// gateway.
func (l *Link) JoinGateway(ctx context.Context, r adminservice.GatewayJoinRequest) (*adminservice.GatewayJoinReply, error) {
	return l.client.JoinGateway(ctx, r)
}

// An outage says once that something does not work, and once that it works
// again; in between it spaces the attempts out. One goroutine owns it.
type outage struct {
	log  *slog.Logger
	what string
	said string
	wait time.Duration
}

// failed notes a failure and returns how long to wait before the next attempt.
func (o *outage) failed(err error) time.Duration {
	text := err.Error()
	if text != o.said {
		level := slog.LevelWarn
		if errors.Is(err, opencmg.Unauthorized) || errors.Is(err, opencmg.Forbidden) {
			level = slog.LevelError // somebody must do something
		}
		o.log.Log(context.Background(), level, o.what+" does not work, trying again", "err", err)
		o.said = text
	}
	o.wait = min(max(2*o.wait, backoffLow), backoffHigh)
	return jitter(o.wait)
}

func (o *outage) worked() {
	if o.said != "" {
		o.log.Info(o.what + " works again")
	}
	o.said, o.wait = "", 0
}

// jitter spreads d over its second half, so that systems which lost their site
// together do not come back together.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// poke wakes whoever waits on a channel of capacity 1, now or later.
func poke(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// sleep waits and reports whether ctx is still on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
