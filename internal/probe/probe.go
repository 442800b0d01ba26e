// Package probe looks at the network from where a process runs: does a name
// resolve, does a port answer, and whose certificate comes back? It sends
// nothing: a look ends inside the TLS handshake, when the certificate has come.
//
// A [Prober] goes the process's own way outside, with its proxy, its roots and
// its connect-to rules, and says in each finding which of them it took. A
// [Watch] looks again and again and keeps the last report.
package probe

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/outbound"
	"github.com/opencmg/opencmg/tunnel"
)

// Bounds of a round.
const (
	lookTimeout  = 10 * time.Second // of one target
	atOnce       = 8
	maxAddresses = 16
	maxError     = 500
)

// A Config says how to look.
type Config struct {
	// Outbound is the process's way outside; relative paths in it are relative
	// to Base.
	Outbound outbound.Config
	Base     string
	// SiteCA vouches for tunnels; nil knows none.
	SiteCA *x509.Certificate
	// SystemRoots replace the system's, for tests.
	SystemRoots *x509.CertPool
	// Now is for tests.
	Now func() time.Time
}

// A Prober looks at targets. It is safe for concurrent use.
type Prober struct {
	cfg      Config
	direct   *http.Transport // without proxy
	way      *http.Transport
	proxy    *url.URL
	rules    []opencmg.ConnectTo
	roots    *x509.CertPool // nil: the system's
	resolver *net.Resolver
}

// New makes a prober. It connects to nothing.
func New(cfg Config) (*Prober, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	p := &Prober{cfg: cfg, resolver: net.DefaultResolver}
	var err error
	if p.rules, err = outbound.ParseRules(cfg.Outbound.ConnectTo); err != nil {
		return nil, err
	}
	if p.proxy, err = cfg.Outbound.ProxyURL(cfg.Base); err != nil {
		return nil, err
	}
	transport := func(c outbound.Config) (*http.Transport, error) {
		client, err := c.Client(cfg.Base, lookTimeout, nil)
		if err != nil {
			return nil, err
		}
		return client.Transport.(*http.Transport), nil
	}
	if p.way, err = transport(cfg.Outbound); err != nil {
		return nil, err
	}
	p.roots = p.way.TLSClientConfig.RootCAs
	p.direct, err = transport(cfg.Outbound.Direct())
	return p, err
}

// Look looks at the targets, at most [opencmg.MaxProbes] of them, and returns
// the findings in the same order.
func (p *Prober) Look(ctx context.Context, targets []opencmg.ProbeTarget) opencmg.ProbeReport {
	targets = targets[:min(len(targets), opencmg.MaxProbes)]
	r := opencmg.ProbeReport{Time: p.cfg.Now().UTC(), Probes: make([]opencmg.Probe, len(targets))}
	if p.proxy != nil {
		r.Proxy = p.proxy.Host
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i, t := range targets {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, lookTimeout)
			defer cancel()
			r.Probes[i] = p.look(ctx, t)
		})
	}
	wg.Wait()
	return r
}

func (p *Prober) look(ctx context.Context, t opencmg.ProbeTarget) opencmg.Probe {
	f := opencmg.Probe{ProbeTarget: t}
	var err error
	if t.Kind == opencmg.ProbeName {
		err = p.resolve(ctx, &f)
	} else {
		err = p.connect(ctx, &f)
	}
	if f.OK = err == nil; !f.OK {
		f.Error = err.Error()
		f.Error = strings.ToValidUTF8(f.Error[:min(len(f.Error), maxError)], "")
	}
	return f
}

// mapped returns where a rule leads for a target; a name counts as mapped when
// it is for 443.
func (p *Prober) mapped(t opencmg.ProbeTarget) []string {
	to := opencmg.ConnectAddresses(p.rules, t.Host, strconv.Itoa(cmp.Or(t.Port, 443)))
	return to[:min(len(to), maxAddresses)]
}

// resolve asks DNS, unless a rule stands in its place.
func (p *Prober) resolve(ctx context.Context, f *opencmg.Probe) error {
	if to := p.mapped(f.ProbeTarget); len(to) > 0 {
		f.Via, f.Addresses = opencmg.ViaConnectTo, to
		return nil
	}
	if p.cfg.Outbound.ConnectOnly {
		return opencmg.Errorf(opencmg.Forbidden, "connectOnly is set and no connect-to rule maps %s, so DNS was not asked", f.Host)
	}
	f.Via = opencmg.ViaDNS
	addresses, err := p.resolver.LookupHost(ctx, f.Host)
	if err != nil {
		return err
	}
	slices.Sort(addresses)
	f.Addresses = addresses[:min(len(addresses), maxAddresses)]
	// A name with addresses only has no canonical one, which is no fault.
	if name, err := p.resolver.LookupCNAME(ctx, f.Host); err == nil {
		if name = strings.TrimSuffix(name, "."); !strings.EqualFold(name, f.Host) {
			f.Canonical = name
		}
	}
	return nil
}

// errSeen ends a handshake whose certificate has come.
var errSeen = errors.New("the certificate has been seen")

// connect goes as far as the certificate.
func (p *Prober) connect(ctx context.Context, f *opencmg.Probe) error {
	if f.Port < 1 || f.Port > 65535 || f.Host == "" || strings.ContainsAny(f.Host, "/@ \r\n") {
		return opencmg.Errorf(opencmg.Invalid, "host %q and port %d: can not be looked at", f.Host, f.Port)
	}
	from := p.way
	if f.Transport == "tcp-tls" {
		from = p.direct
	}
	if to := p.mapped(f.ProbeTarget); len(to) > 0 {
		f.Via, f.Addresses = opencmg.ViaConnectTo, to
	} else if f.Via = opencmg.ViaDNS; p.proxy != nil && from == p.way {
		f.Via = opencmg.ViaProxy
	}
	chain, err := p.handshake(ctx, f, protocols(f.Transport), from)
	// That is what package tls makes of an alert.
	alert, _ := errors.AsType[*net.OpError](err)
	if alert != nil && alert.Op == "remote error" && f.Kind == opencmg.ProbeTunnel {
		// Who does not know the protocol is no gateway; without it, it tells
		// its name.
		var other error
		if chain, other = p.handshake(ctx, f, nil, from); other != nil {
			return err
		}
		if other = p.judge(f, chain); other != nil {
			return other
		}
		return err
	}
	if err != nil {
		return err
	}
	return p.judge(f, chain)
}

// handshake returns the certificates that the target presents.
func (p *Prober) handshake(ctx context.Context, f *opencmg.Probe, protocols []string, from *http.Transport) ([]*x509.Certificate, error) {
	// A connection to an https proxy is a handshake of its own, before the one
	// that counts.
	proxied := f.Via == opencmg.ViaProxy && p.proxy.Scheme == "https"
	var seen []*x509.Certificate
	t := &http.Transport{
		Proxy: from.Proxy, DialContext: from.DialContext, DisableKeepAlives: true,
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}, // no HTTP/2
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, NextProtos: protocols,
			// Any certificate is welcome here; judge looks at it.
			InsecureSkipVerify: true,
			VerifyConnection: func(cs tls.ConnectionState) error {
				if proxied {
					proxied = false
					_, err := verify(cs.PeerCertificates, p.roots, p.proxy.Hostname(), p.cfg.Now())
					return err
				}
				seen = cs.PeerCertificates
				return errSeen
			},
		},
	}
	defer t.CloseIdleConnections()
	u := url.URL{Scheme: "https", Host: net.JoinHostPort(f.Host, strconv.Itoa(f.Port)), Path: "/"}
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, u.String(), nil)
	if err != nil {
		return nil, err
	}
	res, err := t.RoundTrip(req)
	if err == nil { // the handshake never asked
		res.Body.Close()
	}
	switch {
	case len(seen) > 0:
		return seen, nil
	case err != nil:
		return nil, err
	}
	return nil, errors.New("no certificate came")
}

func protocols(transport string) []string {
	switch transport {
	case "tcp-tls":
		return []string{tunnel.ALPNTCPTLS}
	case "https":
		return []string{tunnel.ALPNHTTPS}
	}
	return []string{"http/1.1"}
}

// judge says whose certificate came.
func (p *Prober) judge(f *opencmg.Probe, chain []*x509.Certificate) error {
	leaf := chain[0]
	sum := sha256.Sum256(leaf.Raw)
	f.Certificate = hex.EncodeToString(sum[:])
	switch f.Kind {
	case opencmg.ProbeService:
		return nil // whether it is the right one, its owner knows
	case opencmg.ProbeTunnel:
		if p.cfg.SiteCA == nil {
			return opencmg.Errorf(opencmg.Invalid, "the site CA is not known here, so the certificate of %s can not be judged", f.Host)
		}
		roots := x509.NewCertPool()
		roots.AddCert(p.cfg.SiteCA)
		if _, err := verify(chain, roots, "", p.cfg.Now()); err != nil {
			return p.refused(f, leaf, err)
		}
		return nil
	}
	top, err := verify(chain, p.roots, f.Host, p.cfg.Now())
	if err != nil {
		return p.refused(f, leaf, err)
	}
	if f.Private {
		return nil
	}
	// The process trusts it. When only its additional roots do, somebody on the
	// way made the certificate.
	if _, err := verify(chain, p.cfg.SystemRoots, f.Host, p.cfg.Now()); foreign(err) {
		f.Inspector = top.Subject.String()
	}
	return nil
}

func (p *Prober) refused(f *opencmg.Probe, leaf *x509.Certificate, err error) error {
	if foreign(err) {
		f.Inspector = leaf.Issuer.String()
	}
	return err
}

func foreign(err error) bool {
	var unknown x509.UnknownAuthorityError
	return errors.As(err, &unknown)
}

// verify returns the root that vouches for the chain. An empty name checks
// none; nil roots are the system's.
func verify(chain []*x509.Certificate, roots *x509.CertPool, name string, now time.Time) (*x509.Certificate, error) {
	above := x509.NewCertPool()
	for _, c := range chain[1:] {
		above.AddCert(c)
	}
	chains, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: above, DNSName: name, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	if err != nil {
		return nil, err
	}
	return chains[0][len(chains[0])-1], nil
}

// worked reports whether every probe did.
func worked(r *opencmg.ProbeReport) bool {
	return !slices.ContainsFunc(r.Probes, func(p opencmg.Probe) bool { return !p.OK })
}
