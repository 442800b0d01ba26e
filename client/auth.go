package client

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/pki"
)

// This file decides who the client is to the site, and keeps its tokens. The
// acts themselves are in steps.go.
//
// Messages are always signed with the identity of the state directory, for PKI
// clients too: the PKI certificate may be renewed by others at any time, and
// the site must not lose its client over that. What a PKI certificate proves,
// it proves in the TLS handshake.

// ccmTokenMargin is how long before its end a CCM token is replaced.
const ccmTokenMargin = 30 * time.Minute

// insideAttempts is how often a request to a management point inside is sent.
const insideAttempts = 3

// Auth returns the way in which the client proves itself now (cmg-behaviour
// K23).
func (c *Client) Auth() Auth {
	if cert := c.pki.Load(); cert != nil {
		if err := usable(cert.Leaf, c.cfg.Now()); err == nil {
			return AuthPKI
		} else if text := err.Error(); c.unusable.Swap(text) != text { // asked often, said once
			c.log.Warn("the PKI certificate can not be used", "component", "ClientIDManagerStartup", "err", err)
		}
	}
	if c.cfg.Entra != nil {
		return AuthEntra
	}
	return AuthToken
}

// loadCertificate reads the PKI certificate of the configuration.
func (c *Client) loadCertificate() error {
	modified := fileTime(c.cfg.CertFile)
	pair, err := pki.LoadKeyPair(c.cfg.CertFile, c.cfg.KeyFile)
	if err != nil {
		return fmt.Errorf("PKI client certificate: %w", err)
	}
	c.pki.Store(&pair)
	c.pkiTime = modified
	return nil
}

// reloadCertificate takes up a renewed PKI certificate. Run calls it. While the
// files do not fit together, the old certificate stays.
func (c *Client) reloadCertificate() {
	if c.byPKI == nil || fileTime(c.cfg.CertFile).Equal(c.pkiTime) {
		return
	}
	if err := c.loadCertificate(); err != nil {
		c.log.Warn("the PKI certificate changed and can not be read", "component", "ClientIDManagerStartup", "err", err)
		return
	}
	c.byPKI.sessions.forget()
	c.byPKI.close()
	c.log.Info("took up a changed PKI certificate", "component", "ClientIDManagerStartup", "certificate", pki.Thumbprint(c.pki.Load().Leaf))
}

func fileTime(path string) time.Time {
	st, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return st.ModTime()
}

// usable checks what a server would check too, to say why here.
func usable(cert *x509.Certificate, now time.Time) error {
	switch {
	case now.Before(cert.NotBefore):
		return opencmg.Errorf(opencmg.Invalid, "certificate %q is not valid before %s; check the clock", cert.Subject, cert.NotBefore.UTC().Format(time.RFC3339))
	case now.After(cert.NotAfter):
		return opencmg.Errorf(opencmg.Invalid, "certificate %q ran out at %s; renew it", cert.Subject, cert.NotAfter.UTC().Format(time.RFC3339))
	case cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return opencmg.Errorf(opencmg.Invalid, "certificate %q has no digital signature usage", cert.Subject)
	case len(cert.ExtKeyUsage) > 0 && !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth) && !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny):
		return opencmg.Errorf(opencmg.Invalid, "certificate %q has no client authentication usage", cert.Subject)
	}
	return nil
}

// A route is one way to a management point.
type route struct {
	base     string // URL of the management point's root, without a slash at the end
	internet bool
	auth     Auth
	t        *transport
	gateway  InternetMP // when internet
}

// byToken reports whether requests on this route carry a token.
func (r *route) byToken() bool { return r.internet && r.auth != AuthPKI }

// routes lists the ways to the site, the best first: inside, the management
// point that answered, and the gateways that the site offers there (K9);
// outside, every gateway, starting with a different one each time
// (cmg-behaviour K6).
func (c *Client) routes() ([]route, error) {
	st := c.state()
	auth := c.Auth()
	t := c.byIdentity
	if auth == AuthPKI {
		t = c.byPKI
	}
	through := func(gateways []InternetMP) (out []route) {
		if c.settings().denyGateway {
			return nil // cmg-behaviour K1
		}
		for _, g := range gateways {
			base := g.ServerAuthURL()
			if auth == AuthPKI {
				base = g.MutualAuthURL()
			}
			out = append(out, route{base: base, internet: true, auth: auth, t: t, gateway: g})
		}
		return c.rotate(out)
	}
	if st.Intranet && st.MP != "" {
		inside, cloud := route{base: st.MP, auth: auth, t: t}, through(st.Sources)
		if st.PreferCloud {
			return append(cloud, inside), nil
		}
		return append([]route{inside}, cloud...), nil
	}
	out := through(st.gateways())
	if len(out) == 0 {
		// Nothing is known out here; the inside ones are worth a try.
		for _, mp := range st.managementPoints() {
			out = append(out, route{base: mp, auth: auth, t: t})
		}
		out = c.rotate(out)
	}
	if len(out) == 0 && len(st.gateways()) > 0 {
		return nil, opencmg.Errorf(opencmg.Forbidden, "the site's client settings forbid this client to use a gateway; bring it inside to get new ones")
	}
	if len(out) == 0 {
		return nil, opencmg.Errorf(opencmg.NotFound, "no gateway and no management point is known; install with CCMHOSTNAME= or /mp:")
	}
	return out, nil
}

// rotate starts with a different route each time.
func (c *Client) rotate(list []route) []route {
	n := len(list)
	if n < 2 {
		return list
	}
	i := int(c.turn.Add(1)) % n
	return append(slices.Clone(list[i:]), list[:i]...)
}

// send makes a call for each route in turn until one succeeds. A refused CCM
// token is replaced once.
func (c *Client) send(ctx context.Context, need tokenNeed, build func(r *route) (*call, error)) (*answer, *route, error) {
	routes, err := c.routes()
	if err != nil {
		return nil, nil, err
	}
	return c.sendBy(ctx, routes, need, build)
}

func (c *Client) sendBy(ctx context.Context, routes []route, need tokenNeed, build func(r *route) (*call, error)) (*answer, *route, error) {
	var last error
	for i := range routes {
		r := &routes[i]
		for renewed := false; ; renewed = true {
			a, err := c.sendOn(ctx, r, need, build)
			if err == nil {
				if i > 0 && !routes[0].internet && r.internet {
					// The gateway helped out; this device may have left.
					c.NetworkChanged()
				}
				return a, r, nil
			}
			last = err
			if renewed || r.auth != AuthEntra || !r.internet || need == noToken || !errors.Is(err, opencmg.Unauthorized) {
				break
			}
			if err := c.update(func(s *state) { s.CCMToken = nil }); err != nil {
				return nil, nil, err
			}
		}
		// Whatever a gateway has against this client while it is inside, the
		// management point there may take it.
		turnsInside := r.internet && i+1 < len(routes) && !routes[i+1].internet
		if ctx.Err() != nil || !turnsInside && !errors.Is(last, opencmg.Unavailable) && !errors.Is(last, opencmg.Timeout) {
			break
		}
	}
	return nil, nil, last
}

func (c *Client) sendOn(ctx context.Context, r *route, need tokenNeed, build func(r *route) (*call, error)) (*answer, error) {
	q, err := build(r)
	if err != nil {
		return nil, err
	}
	if !r.internet {
		// A silent management point inside probably means that this device
		// left; finding that out soon is worth more than trying on.
		q.attempts = insideAttempts
	}
	if r.byToken() && need != noToken {
		if q.bearer, err = c.bearer(ctx, r, need); err != nil {
			return nil, err
		}
	}
	a, err := r.t.do(ctx, q)
	if err == nil {
		a.internet = r.internet
	}
	return a, err
}

// tokenNeed says which token a request carries when it goes by token.
type tokenNeed int

const (
	noToken     tokenNeed = iota
	anyToken              // registration and what follows at once: a bulk token serves as well
	clientProof           // a token that names the registered client
)

// bearer returns the token for a request, getting or renewing a CCM token if
// needed.
func (c *Client) bearer(ctx context.Context, r *route, need tokenNeed) (Secret, error) {
	now := c.cfg.Now()
	if r.auth == AuthEntra {
		t, err := c.ccmToken(ctx, r, need)
		if err != nil {
			return "", err
		}
		return t.Token, nil
	}
	st := c.state()
	if t := st.ClientToken; t != nil && now.Before(t.Expires) {
		return t.Token, nil
	}
	if t := st.Installation.RegistrationToken; t != "" && need == anyToken {
		return t, nil
	}
	if t := st.ClientToken; t != nil {
		return "", opencmg.Errorf(opencmg.Unauthorized, "this client's token ran out at %s without being renewed; bring the device inside once, or install again with a new /regtoken:", t.Expires.UTC().Format(time.RFC3339))
	}
	if st.Installation.RegistrationToken != "" {
		return "", opencmg.Errorf(opencmg.Unauthorized, "this client has no token of its own yet; it must register first")
	}
	return "", opencmg.Errorf(opencmg.Unauthorized, "this device can not prove itself: it has no PKI certificate, no Entra identity and no token; install with /regtoken:, or give it one of the others")
}

// ccmToken returns a CCM token with enough time left, exchanging an Entra token
// at the management point's token service when there is none. After
// registration the token must name the client, so one from before is replaced
// (cmg-behaviour K21).
func (c *Client) ccmToken(ctx context.Context, r *route, need tokenNeed) (*siteToken, error) {
	c.tokens.Lock()
	defer c.tokens.Unlock()
	st := c.state()
	if t := st.CCMToken; t != nil && c.cfg.Now().Add(ccmTokenMargin).Before(t.Expires) && (need == anyToken || t.ClientID == st.ClientID) {
		return t, nil
	}
	t, _, err := c.exchange(ctx, r)
	return t, err
}

// exchange gets a CCM token from CCM_STS (wire.md 2.4) with an Entra token, or
// by PKI certificate. The caller holds c.tokens.
func (c *Client) exchange(ctx context.Context, r *route) (*siteToken, *answer, error) {
	log := c.log.With("component", "ADALOperationProvider")
	q := &call{method: http.MethodPost, url: r.base + ccm.PathSTS, component: "CcmMessaging"}
	if r.auth == AuthEntra {
		want, err := c.entraRequest(ctx)
		if err != nil {
			return nil, nil, err
		}
		token, err := c.cfg.Entra.EntraToken(ctx, want)
		if err != nil {
			return nil, nil, err
		}
		log.Info("got a token from Entra", "tenant", want.TenantID, "resource", want.ResourceURI)
		q.bearer = Secret(token)
	}
	a, err := r.t.do(ctx, q)
	if err != nil {
		return nil, nil, err
	}
	reply, err := ccm.ParseTokenReply(a.body)
	if err != nil {
		return nil, nil, err
	}
	t := &siteToken{Token: Secret(reply.AccessToken), ID: reply.ID, Expires: c.cfg.Now().Add(time.Duration(reply.ExpiresIn) * time.Second), ClientID: reply.ClientID}
	c.at("token received")
	if err := c.update(func(s *state) { s.CCMToken = t }); err != nil {
		return nil, nil, err
	}
	c.at("token saved")
	log.Info("got a CCM token", "expires", t.Expires.UTC().Format(time.RFC3339), "client", string(t.ClientID))
	return t, a, nil
}
