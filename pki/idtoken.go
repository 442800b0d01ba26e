package pki

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/opencmg/opencmg"
)

// IDTokenWanted is what an ID token of Microsoft Entra ID must say (OpenID
// Connect Core 1.0, 3.1.3.7). All must be set.
type IDTokenWanted struct {
	// Authority is where the tenant's discovery document is, and the issuer of
	// its version 2 tokens: it ends in the tenant's ID and /v2.0.
	Authority string
	TenantID  string
	ClientID  string // of the app that the person signed in through
	Nonce     string // of the request
}

// An IDToken says who signed in. Only the two IDs may decide anything: the names
// are what the tenant lets people call themselves.
type IDToken struct {
	TenantID, ObjectID string // in lower case
	Username, Name     string // to show; may be empty
}

// maxShownName is how much of a name is shown, in bytes.
const maxShownName = 256

// VerifyIDToken checks an ID token: signature, issuer, audience, tenant, times
// and nonce. A refusal is a [*Refusal]. It waits for the tenant's keys when they
// are not known, until ctx ends or [JWKSConfig.Timeout].
func (c *JWKSCache) VerifyIDToken(ctx context.Context, token string, want IDTokenWanted, now time.Time) (IDToken, error) {
	id, refusal := c.verifyIDToken(ctx, token, want, now)
	if refusal != nil {
		return IDToken{}, refusal
	}
	return id, nil
}

func (c *JWKSCache) verifyIDToken(ctx context.Context, token string, want IDTokenWanted, now time.Time) (IDToken, *Refusal) {
	if want.Authority == "" || want.TenantID == "" || want.ClientID == "" || want.Nonce == "" {
		return IDToken{}, refuse(RefusedTokenMalformed, "it is not said what the ID token must say")
	}
	if err := checkProviderURL(want.Authority); err != nil {
		return IDToken{}, refuse(RefusedTokenIssuer, "authority: %v", err)
	}
	if len(token) > MaxTokenSize {
		return IDToken{}, refuse(RefusedTokenTooLarge, "the token is %d bytes long; at most %d are looked at", len(token), MaxTokenSize)
	}
	header, _, err := parseCompact(token, 8<<10)
	if err != nil {
		return IDToken{}, refuse(RefusedTokenMalformed, "%v", err)
	}
	if header.Alg != string(jose.RS256) {
		return IDToken{}, refuse(RefusedTokenAlgorithm, "the header names algorithm %.40q; only RS256 is accepted", header.Alg)
	}
	if header.Crit != nil || header.B64 != nil {
		return IDToken{}, refuse(RefusedTokenCritical, "the header demands extensions (crit or b64); none is accepted")
	}
	kid := cmp.Or(header.Kid, header.X5t)
	c.keep(want.Authority)
	key, err := c.key(ctx, want.Authority, kid)
	switch {
	case errors.Is(err, errUnknownKey):
		return IDToken{}, refuse(RefusedTokenSigner, "tenant %s publishes no signing key %.100q: %v", want.TenantID, kid, err)
	case err != nil:
		return IDToken{}, refuse(RefusedTokenKeysUnknown, "the signing keys of tenant %s can not be had: %v", want.TenantID, err)
	}
	var claims struct {
		Issuer    string       `json:"iss"`
		Audience  stringOrList `json:"aud"`
		Tenant    string       `json:"tid"`
		ObjectID  string       `json:"oid"`
		Expires   *unixTime    `json:"exp"`
		NotBefore *unixTime    `json:"nbf"`
		Nonce     string       `json:"nonce"`
		Username  string       `json:"preferred_username"`
		Name      string       `json:"name"`
	}
	if r := verifySignature(token, key, &claims); r != nil {
		return IDToken{}, r
	}
	var g goodToken
	if r := g.within(claims.NotBefore, claims.Expires, now); r != nil {
		return IDToken{}, r
	}
	switch {
	case claims.Issuer != want.Authority:
		return IDToken{}, refuse(RefusedTokenIssuer, "the issuer is %.200q, and must be %q", claims.Issuer, want.Authority)
	case !strings.EqualFold(claims.Tenant, want.TenantID):
		// Entra signs for all tenants with the same keys.
		return IDToken{}, refuse(RefusedTokenTenant, "claim tid is %.60q, and the sign-in was with tenant %s", claims.Tenant, want.TenantID)
	case !slices.Equal(claims.Audience, stringOrList{want.ClientID}):
		return IDToken{}, refuse(RefusedTokenAudience, "the ID token is for %.300q, and must be for %q alone", claims.Audience, want.ClientID)
	case subtle.ConstantTimeCompare([]byte(claims.Nonce), []byte(want.Nonce)) != 1:
		return IDToken{}, refuse(RefusedTokenMalformed, "the nonce is not that of this sign-in: the token belongs to another one")
	case !opencmg.IsGUID(claims.ObjectID) || claims.ObjectID == noGUID:
		return IDToken{}, refuse(RefusedTokenSubject, "the token names no user (oid)")
	}
	return IDToken{
		TenantID: strings.ToLower(claims.Tenant), ObjectID: strings.ToLower(claims.ObjectID),
		Username: shorten(claims.Username), Name: shorten(claims.Name),
	}, nil
}

// keep makes the background look after an authority too, until the next verifier
// says which ones: keys that a tenant took back must not stay good.
func (c *JWKSCache) keep(authority string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.provider(authority); p != nil && !p.watched {
		p.watched = true
		c.poke()
	}
}

// shorten keeps text that others chose within bounds.
func shorten(s string) string {
	if len(s) > maxShownName {
		s = strings.ToValidUTF8(s[:maxShownName], "")
	}
	return s
}
