package gateway

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/http1"
	"github.com/opencmg/opencmg/pki"
)

// How a caller presents a token. The field of the original is unknown
// (wire.md 13.1), so it is named in this one place.
const (
	tokenHeader = "Authorization"
	tokenScheme = "Bearer "
)

// tokenMemory is how long a connection remembers that its token was accepted.
// A changed configuration forgets it at once; expiry is noticed this late.
const tokenMemory = 5 * time.Second

// A peer is the other end of a client connection: what it proved in the TLS
// handshake, and what it was last believed to be.
type peer struct {
	remote     net.Addr
	chain      []*x509.Certificate
	thumbprint string // lower-case hexadecimal SHA-256 of chain[0]

	mu    sync.Mutex // guards what follows; HTTP/2 requests share a peer
	pki   *caller    // by subject, valid for whatever Verify accepts
	token tokenVerdict
}

type tokenVerdict struct {
	hash   [sha256.Size]byte
	snap   *snapshot
	until  time.Time
	caller *caller
}

// A caller is who a request comes from. It never changes.
type caller struct {
	identity opencmg.Identity
	encoded  string // for opencmg.HeaderIdentity
	name     string // for logs and explanations
}

func newCaller(id opencmg.Identity) *caller {
	c := &caller{identity: id, encoded: id.Encode(), name: string(id.ClientID)}
	for _, n := range []string{id.DeviceID, id.UserID, id.Subject, id.TokenID} {
		if c.name == "" {
			c.name = n
		}
	}
	return c
}

var anonymous = newCaller(opencmg.Identity{Auth: opencmg.AuthNone})

func (p *peer) init(remote net.Addr, chain []*x509.Certificate) {
	p.remote, p.chain = remote, chain
	if len(chain) > 0 {
		sum := sha256.Sum256(chain[0].Raw)
		p.thumbprint = hex.EncodeToString(sum[:])
	}
}

// source is the other end's address as an identity has it.
func (p *peer) source() string {
	if p.remote == nil {
		return ""
	}
	a, err := netip.ParseAddrPort(p.remote.String())
	if err != nil {
		return ""
	}
	return a.Addr().Unmap().WithZone("").String()
}

// authenticate finds out who is calling, by the modes that the endpoint
// accepts at this door.
func (x *exchange) authenticate(ep *endpoint, d door) (*caller, *refusal) {
	switch {
	case d == mutualAuth && ep.pki:
		return x.byCertificate(ep)
	case d == serverAuth && ep.tokens:
		return x.byToken(ep)
	case d != service:
		return anonymous, nil
	}
	var r *refusal
	if ep.tokens {
		if token, ok := bearer(&x.scratch.req); ok && len(token) > 0 {
			var c *caller
			if c, r = x.byToken(ep); c != nil {
				return c, nil
			}
		}
	}
	if ep.pki && len(x.peer.chain) > 0 {
		var c *caller
		if c, r = x.byCertificate(ep); c != nil {
			return c, nil
		}
	}
	if ep.none {
		return anonymous, nil
	}
	if r == nil {
		r = &refusal{status: http.StatusUnauthorized, cause: "credentials-missing", challenge: ep.tokens,
			verdict: "the request has none of the credentials that the endpoint accepts"}
	}
	return nil, r
}

// byCertificate verifies the client certificate of the connection. The
// verifier remembers its verdicts, so asking for every request costs little
// and new revocation lists count at once.
func (x *exchange) byCertificate(ep *endpoint) (*caller, *refusal) {
	if ep.none && len(x.peer.chain) == 0 {
		return anonymous, nil
	}
	if len(x.peer.chain) == 0 {
		return nil, &refusal{status: http.StatusUnauthorized, cause: "certificate-missing",
			verdict: "the client presented no certificate in the TLS handshake"}
	}
	subject, err := x.snap.certificates.Verify(x.peer.chain, x.started)
	if err != nil {
		if ep.none {
			return anonymous, nil
		}
		return nil, unauthenticated("client certificate", http.StatusText(http.StatusUnauthorized), err,
			"certificate: "+x.peer.chain[0].Subject.String(), "issuer: "+x.peer.chain[0].Issuer.String(), "sha256: "+x.peer.thumbprint)
	}
	p := x.peer
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pki == nil || p.pki.identity.Subject != subject {
		p.pki = newCaller(opencmg.Identity{Auth: opencmg.AuthPKI, Thumbprint: p.thumbprint, Subject: subject, Source: p.source()})
	}
	return p.pki, nil
}

// byToken verifies the bearer token of the request. A connection remembers its
// last one, so that a token is parsed once and not for every request.
func (x *exchange) byToken(ep *endpoint) (*caller, *refusal) {
	token, ok := bearer(&x.scratch.req)
	switch {
	case !ok:
		return nil, &refusal{status: http.StatusBadRequest, cause: "ambiguous-credentials", close: true,
			verdict: "the request has more than one " + tokenHeader + " field"}
	case len(token) == 0 && ep.none:
		return anonymous, nil
	case len(token) == 0:
		return nil, &refusal{status: http.StatusUnauthorized, cause: "token-missing", challenge: true,
			verdict: "the request has no bearer token in " + tokenHeader}
	}
	c, r := x.verifyToken(token)
	if r == nil && !slices.Contains(ep.modes, c.identity.Auth) {
		r = &refusal{status: http.StatusUnauthorized, reason: opencmg.ReasonInvalidToken, cause: "token-mode", challenge: true,
			verdict: "a " + string(c.identity.Auth) + " was presented where the endpoint does not accept one",
			details: []string{"token: " + c.identity.TokenID}}
	}
	if r != nil {
		if ep.none {
			return anonymous, nil
		}
		return nil, r
	}
	return c, nil
}

func (x *exchange) verifyToken(token []byte) (*caller, *refusal) {
	p, hash := x.peer, sha256.Sum256(token)
	p.mu.Lock()
	v := p.token
	p.mu.Unlock()
	if v.snap == x.snap && v.hash == hash && x.started.Before(v.until) {
		return v.caller, nil
	}
	if len(token) > pki.MaxTokenSize {
		token = token[:pki.MaxTokenSize+1] // refused by the verifier
	}
	id, err := x.snap.tokens.Verify(x.s.ctx, string(token), p.thumbprint, x.started)
	if err != nil {
		return nil, unauthenticated("token", opencmg.ReasonInvalidToken, err)
	}
	if x.snap.blocked[p.thumbprint] {
		// An Entra token names no token of the site that could be blocked.
		return nil, unauthenticated("token", opencmg.ReasonInvalidToken, &pki.Refusal{Code: pki.RefusedBlocked, Detail: "the certificate that came with the token is blocked by the administrator"}, "sha256: "+p.thumbprint)
	}
	id.Thumbprint, id.Source = p.thumbprint, p.source()
	c := newCaller(id)
	if v.caller != nil && v.caller.identity == id {
		c = v.caller
	}
	p.mu.Lock()
	p.token = tokenVerdict{hash, x.snap, x.started.Add(tokenMemory), c}
	p.mu.Unlock()
	return c, nil
}

// unauthenticated refuses a credential. The caller learns that it was refused
// and nothing else; the precise reason is for explanations.
func unauthenticated(what, reason string, err error, details ...string) *refusal {
	if r, ok := errors.AsType[*pki.Refusal](err); ok {
		return &refusal{status: http.StatusUnauthorized, reason: reason, cause: r.Code, challenge: what == "token",
			verdict: what + " refused: " + r.Detail, details: details}
	}
	return &refusal{status: http.StatusServiceUnavailable, cause: "verification-unavailable", retry: true,
		verdict: "the " + what + " can not be verified now: " + err.Error(), details: details}
}

// bearer returns the request's token, nil without one. It reports false when
// there are several credentials, of which another party might read another.
func bearer(h *http1.RequestHead) (token []byte, ok bool) {
	for i, n := 0, 0; i < len(h.Fields); i++ {
		f := &h.Fields[i]
		if !equalFold(f.Name, tokenHeader) {
			continue
		}
		if n++; n > 1 {
			return nil, false
		}
		if rest, isBearer := cutPrefixFold(f.Value, tokenScheme); isBearer {
			token = bytes.TrimLeft(rest, " ")
		}
	}
	return token, true
}
