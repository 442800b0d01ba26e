package pki

import (
	"cmp"
	"context"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"

	"github.com/opencmg/opencmg"
)

// MaxTokenSize is the longest token that is looked at, in bytes.
const MaxTokenSize = 16 << 10

// ClockSkew is how far the clock of a token's issuer may be off.
const ClockSkew = 60 * time.Second

// How much a verifier remembers: enough for every client an instance can hold,
// and a short while of wrong tokens, kept apart so that nobody can flush out
// the good ones.
const (
	goodTokens       = 128 << 10
	badTokens        = 4 << 10
	badTokenLifetime = 15 * time.Second
)

// A TokenVerifier accepts or refuses bearer tokens: those of the site issuers
// and of the tenants of one published configuration. It is safe for concurrent
// use.
type TokenVerifier struct {
	signers map[string]map[string]*siteSigner // by iss, then by x5t
	tenants map[string]*tenant                // by iss
	byID    map[string]*tenant                // by lower-case tid
	blocked map[string]bool                   // by normalised token ID
	keys    *JWKSCache
	log     *slog.Logger

	good *boundedCache[[sha256.Size]byte, goodToken]
	bad  *boundedCache[[sha256.Size]byte, badToken]
}

type siteSigner struct {
	key          *rsa.PublicKey
	audience     string
	allowUnbound bool
}

type tenant struct {
	id, authority string
	audiences     []string
	disabled      bool
}

type goodToken struct {
	id                  opencmg.Identity
	notBefore, expires  time.Time // clock skew included
	keys                uint64    // generation of the key cache, for tenants' tokens
	dependsOnKeyRefresh bool
}

type badToken struct {
	refusal *Refusal
	until   time.Time
}

// NewTokenVerifier makes a verifier for one published configuration. keys may
// be nil when no tenant is enabled; otherwise it begins to look after the keys
// of the configuration's tenants.
func NewTokenVerifier(cfg *opencmg.PublishedConfiguration, keys *JWKSCache, log *slog.Logger) (*TokenVerifier, error) {
	v := &TokenVerifier{
		signers: map[string]map[string]*siteSigner{},
		tenants: map[string]*tenant{},
		byID:    map[string]*tenant{},
		blocked: map[string]bool{},
		keys:    keys,
		log:     logger(log),
		good:    newBoundedCache[[sha256.Size]byte, goodToken](goodTokens),
		bad:     newBoundedCache[[sha256.Size]byte, badToken](badTokens),
	}
	for i, t := range cfg.TokenIssuers {
		if err := v.addIssuer(t); err != nil {
			return nil, fmt.Errorf("token issuer %d (%s): %w", i+1, t.Issuer, err)
		}
	}
	var authorities []string
	for _, t := range cfg.Tenants {
		if err := v.addTenant(t); err != nil {
			return nil, fmt.Errorf("tenant %s: %w", t.ID, err)
		}
		if !t.Disabled {
			authorities = append(authorities, t.Authority)
		}
	}
	for _, id := range cfg.BlockedTokens {
		v.blocked[normaliseTokenID(id)] = true
	}
	if len(authorities) > 0 && keys == nil {
		return nil, errors.New("token verifier: tenants are configured and no key cache was given")
	}
	if keys != nil {
		keys.watch(authorities)
	}
	return v, nil
}

func (v *TokenVerifier) addIssuer(t opencmg.TokenIssuer) error {
	certs, err := ParseCertificates([]byte(t.Certificate))
	if err != nil {
		return err
	}
	key, ok := certs[0].PublicKey.(*rsa.PublicKey)
	if !ok || key.N.BitLen() < 2048 {
		return opencmg.Errorf(opencmg.Invalid, "certificate %s: the key must be RSA with at least 2048 bits", describe(certs[0]))
	}
	if t.Issuer == "" || t.Audience == "" {
		return opencmg.Errorf(opencmg.Invalid, "issuer and audience must be set")
	}
	if v.signers[t.Issuer] == nil {
		v.signers[t.Issuer] = map[string]*siteSigner{}
	}
	sum := sha1.Sum(certs[0].Raw)
	v.signers[t.Issuer][base64.RawURLEncoding.EncodeToString(sum[:])] = &siteSigner{key, t.Audience, t.AllowUnbound}
	return nil
}

func (v *TokenVerifier) addTenant(t opencmg.Tenant) error {
	e := &tenant{id: strings.ToLower(t.ID), authority: strings.TrimSuffix(t.Authority, "/"), audiences: t.Audiences, disabled: t.Disabled}
	if len(e.audiences) == 0 {
		e.audiences = []string{t.ResourceURI}
	}
	if !e.disabled {
		if err := checkProviderURL(e.authority); err != nil {
			return opencmg.Errorf(opencmg.Invalid, "authority: %w", err)
		}
	}
	v.byID[e.id] = e
	for _, iss := range t.Issuers {
		if v.tenants[iss] != nil || v.signers[iss] != nil {
			return opencmg.Errorf(opencmg.Conflict, "issuer %s is configured twice", iss)
		}
		v.tenants[iss] = e
	}
	return nil
}

// Verify checks a token. presentedSHA256 is the hexadecimal SHA-256 thumbprint
// of the certificate whose key the caller proved in the TLS handshake, empty
// for none. A refusal is a [*Refusal]. The result is cached, so calling Verify
// for every request costs a hash. Only the first token of a tenant, or of a new
// key of it, waits for the identity provider: until ctx ends or, in the call
// that asks for all, [JWKSConfig.Timeout].
func (v *TokenVerifier) Verify(ctx context.Context, token, presentedSHA256 string, now time.Time) (opencmg.Identity, error) {
	if token == "" {
		return opencmg.Identity{}, &Refusal{RefusedTokenMissing, "the request carries no token"}
	}
	if len(token) > MaxTokenSize {
		return opencmg.Identity{}, refuse(RefusedTokenTooLarge, "the token is %d bytes long; at most %d are looked at", len(token), MaxTokenSize)
	}
	var room [4 << 10]byte // keeps most tokens off the heap
	key := sha256.Sum256(append(append(append(room[:0], token...), 0), presentedSHA256...))

	if g, ok := v.good.get(key); ok {
		switch {
		case now.Before(g.notBefore) || g.dependsOnKeyRefresh && g.keys != v.keys.generation.Load():
			v.good.delete(key)
		case now.After(g.expires):
			return opencmg.Identity{}, expired(g.expires, now)
		default:
			return g.id, nil
		}
	}
	if b, ok := v.bad.get(key); ok && now.Before(b.until) {
		return opencmg.Identity{}, b.refusal
	}
	g, refusal := v.check(ctx, token, presentedSHA256, now)
	if refusal == nil {
		v.good.put(key, g)
		return g.id, nil
	}
	switch refusal.Code {
	case RefusedTokenNotYetValid, RefusedTokenKeysUnknown, RefusedTokenSigner:
		// These may change at any moment.
	default:
		v.bad.put(key, badToken{refusal, now.Add(badTokenLifetime)})
	}
	return opencmg.Identity{}, refusal
}

func (v *TokenVerifier) check(ctx context.Context, token, presented string, now time.Time) (goodToken, *Refusal) {
	header, payload, err := parseCompact(token, 8<<10)
	if err != nil {
		return goodToken{}, refuse(RefusedTokenMalformed, "%v", err)
	}
	if header.Alg != string(jose.RS256) {
		return goodToken{}, refuse(RefusedTokenAlgorithm, "the header names algorithm %.40q; only RS256 is accepted", header.Alg)
	}
	if header.Crit != nil || header.B64 != nil {
		return goodToken{}, refuse(RefusedTokenCritical, "the header demands extensions (crit or b64); none is accepted")
	}
	// Who claims to have signed it decides which key has to fit.
	raw, err := base64.RawURLEncoding.Strict().DecodeString(payload)
	if err != nil {
		return goodToken{}, refuse(RefusedTokenMalformed, "claims are not base64url")
	}
	var claimed struct {
		Issuer string `json:"iss"`
		Tenant string `json:"tid"`
	}
	if err := json.Unmarshal(raw, &claimed); err != nil {
		return goodToken{}, refuse(RefusedTokenMalformed, "claims are not acceptable JSON: %v", err)
	}
	if signers := v.signers[claimed.Issuer]; signers != nil {
		signer := signers[strings.TrimRight(header.X5t, "=")]
		if signer == nil {
			return goodToken{}, refuse(RefusedTokenSigner, "issuer %q is accepted, but its token-signing certificate with x5t %.60q is not in the published configuration", claimed.Issuer, header.X5t)
		}
		return v.checkSite(token, signer, presented, now)
	}
	t := v.tenants[claimed.Issuer]
	if t == nil {
		if t = v.byID[strings.ToLower(claimed.Tenant)]; t == nil || !t.disabled {
			return goodToken{}, v.unknownIssuer(claimed.Issuer, claimed.Tenant, t)
		}
	}
	if t.disabled {
		return goodToken{}, refuse(RefusedTokenTenantDisabled, "authentication is disabled for tenant %s", t.id)
	}
	generation := v.keys.generation.Load()
	key, err := v.keys.key(ctx, t.authority, cmp.Or(header.Kid, header.X5t))
	switch {
	case errors.Is(err, errUnknownKey):
		return goodToken{}, refuse(RefusedTokenSigner, "tenant %s publishes no signing key %.100q: %v", t.id, cmp.Or(header.Kid, header.X5t), err)
	case err != nil:
		return goodToken{}, refuse(RefusedTokenKeysUnknown, "the signing keys of tenant %s can not be had: %v", t.id, err)
	}
	g, refusal := v.checkEntra(token, key, t, presented, now)
	g.keys, g.dependsOnKeyRefresh = generation, true
	return g, refusal
}

func (v *TokenVerifier) unknownIssuer(iss, tid string, t *tenant) *Refusal {
	switch {
	case t != nil:
		return refuse(RefusedTokenIssuer, "tenant %s is configured, but not with issuer %.200q: add it to the tenant's issuers if it is one", t.id, iss)
	case tid != "":
		return refuse(RefusedTokenTenant, "tenant %.60q of issuer %.200q is not configured", tid, iss)
	}
	return refuse(RefusedTokenIssuer, "issuer %.200q is not configured", iss)
}

// normaliseTokenID makes GUIDs comparable in any case, with or without braces.
func normaliseTokenID(id string) string {
	return strings.ToLower(strings.Trim(strings.TrimSpace(id), "{}"))
}

func logger(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}
