package pki

import (
	"cmp"
	"context"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// JWKSConfig configures a [JWKSCache].
type JWKSConfig struct {
	HTTP *http.Client // nil: a client without a proxy
	// MaxAge is how long keys are used before they are asked for again;
	// default one hour. While the provider is unreachable the old keys serve.
	MaxAge time.Duration
	// UnknownKeyInterval is the shortest time between two questions because
	// of a key ID nobody knows; default 30 seconds.
	UnknownKeyInterval time.Duration
	Timeout            time.Duration // of one refresh; default 10 seconds
	Log                *slog.Logger
}

// Bounds on what an identity provider may send and how many there may be.
const (
	maxDiscoverySize = 256 << 10
	maxJWKSSize      = 1 << 20
	maxJWKSKeys      = 100
	maxProviders     = 256
	retryKeysAtMost  = time.Minute // longest pause after failures
)

// A JWKSCache holds the signing keys of identity providers, found by OpenID
// Connect discovery below their authority. It is safe for concurrent use and
// outlives the verifiers that use it.
type JWKSCache struct {
	c     JWKSConfig
	fetch *fetcher
	wake  chan struct{} // something new is due
	// generation changes whenever a key that was there is there no more.
	generation atomic.Uint64

	mu        sync.Mutex // protects what follows, never held while fetching
	providers map[string]*provider
}

type provider struct {
	authority string
	watched   bool
	keys      map[string]*rsa.PublicKey // by kid
	fetching  chan struct{}             // closed when the refresh under way ends; nil when there is none
	asked     time.Time                 // last refresh because of an unknown key
	due       time.Time                 // next refresh in the background
	fetched   time.Time
	failedAt  time.Time
	failures  int
	err       error // of the last refresh
}

var errUnknownKey = errors.New("no such key in its key set")

// NewJWKSCache makes a cache; it refreshes while [JWKSCache.Run] runs.
func NewJWKSCache(c JWKSConfig) *JWKSCache {
	c.MaxAge = cmp.Or(c.MaxAge, time.Hour)
	c.UnknownKeyInterval = cmp.Or(c.UnknownKeyInterval, 30*time.Second)
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	c.Log = logger(c.Log)
	return &JWKSCache{
		c:         c,
		fetch:     newFetcher(c.HTTP, allowProvider),
		wake:      make(chan struct{}, 1),
		providers: map[string]*provider{},
	}
}

// Run refreshes keys in the background until ctx ends: before they are older
// than MaxAge, and with growing pauses while a provider does not answer.
func (c *JWKSCache) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		case <-timer.C:
		}
		now := time.Now()
		next := now.Add(c.c.MaxAge)
		c.mu.Lock()
		for _, p := range c.providers {
			if !p.watched || p.fetching != nil {
				continue // the end of a refresh wakes this loop
			}
			if p.due.After(now) {
				if p.due.Before(next) {
					next = p.due
				}
				continue
			}
			p.fetching = make(chan struct{})
			all.Go(func() { c.refresh(ctx, p) })
		}
		c.mu.Unlock()
		timer.Reset(time.Until(next))
	}
}

// A JWKSStatus is the state of one identity provider's keys.
type JWKSStatus struct {
	Authority string    `json:"authority"`
	Keys      int       `json:"keys"`
	Fetched   time.Time `json:"fetched,omitzero"`
	LastError string    `json:"lastError,omitempty"`
	FailedAt  time.Time `json:"failedAt,omitzero"`
}

// Status lists the known authorities, in order.
func (c *JWKSCache) Status() []JWKSStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []JWKSStatus
	for _, authority := range slices.Sorted(maps.Keys(c.providers)) {
		p := c.providers[authority]
		s := JWKSStatus{Authority: authority, Keys: len(p.keys), Fetched: p.fetched, FailedAt: p.failedAt}
		if p.err != nil {
			s.LastError = p.err.Error()
		}
		all = append(all, s)
	}
	return all
}

// watch makes the background look after exactly these authorities.
func (c *JWKSCache) watch(authorities []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wanted := map[string]bool{}
	for _, a := range authorities {
		a = strings.TrimSuffix(a, "/")
		wanted[a] = true
		if p := c.provider(a); p != nil {
			p.watched = true
		}
	}
	for a, p := range c.providers {
		if !wanted[a] && p.fetching == nil {
			delete(c.providers, a)
		} else if !wanted[a] {
			p.watched = false
		}
	}
	c.poke()
}

// provider returns the entry of an authority, nil when there are too many. The
// caller holds mu.
func (c *JWKSCache) provider(authority string) *provider {
	p := c.providers[authority]
	if p == nil && len(c.providers) < maxProviders {
		p = &provider{authority: authority}
		c.providers[authority] = p
	}
	return p
}

func (c *JWKSCache) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// key returns a signing key. A key ID that is not known makes one caller ask
// the provider while the others wait, at most once per UnknownKeyInterval.
func (c *JWKSCache) key(ctx context.Context, authority, kid string) (*rsa.PublicKey, error) {
	for asked := false; ; {
		c.mu.Lock()
		p := c.provider(authority)
		if p == nil {
			c.mu.Unlock()
			return nil, fmt.Errorf("more than %d identity providers", maxProviders)
		}
		if k := p.keys[kid]; k != nil {
			c.mu.Unlock()
			return k, nil
		}
		wait, mine := p.fetching, false
		if wait == nil {
			if asked || !p.asked.IsZero() && time.Since(p.asked) < c.c.UnknownKeyInterval {
				err := cmp.Or(p.err, errUnknownKey)
				c.mu.Unlock()
				return nil, err
			}
			wait, mine = make(chan struct{}), true
			p.fetching, p.asked = wait, time.Now()
		}
		asked = true
		c.mu.Unlock()
		if mine {
			// Others wait for the same answer, so it must not end with this
			// caller's request. It is bounded by Timeout.
			c.refresh(context.WithoutCancel(ctx), p)
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// refresh asks the provider. The caller has set p.fetching.
func (c *JWKSCache) refresh(ctx context.Context, p *provider) {
	ctx, cancel := context.WithTimeout(ctx, c.c.Timeout)
	defer cancel()
	keys, err := c.discover(ctx, p.authority)

	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	close(p.fetching)
	p.fetching = nil
	before := p.err
	p.err = err
	if err != nil {
		p.failedAt = now
		p.failures++
		p.due = now.Add(backoff(p.failures, retryKeysAtMost))
		if before == nil && !errors.Is(err, context.Canceled) {
			c.c.Log.Warn("signing keys of identity provider can not be had", "authority", p.authority, "old_keys", len(p.keys), "err", err)
		}
	} else {
		for kid, k := range p.keys {
			if n := keys[kid]; n == nil || !n.Equal(k) {
				c.generation.Add(1)
				break
			}
		}
		if p.keys == nil || before != nil {
			c.c.Log.Info("signing keys of identity provider fetched", "authority", p.authority, "keys", len(keys))
		}
		p.keys, p.fetched, p.failures = keys, now, 0
		p.due = now.Add(jitter(c.c.MaxAge))
	}
	c.poke()
}

// discover reads the provider's metadata (OpenID Connect Discovery 1.0, 4) and
// its key set (RFC 7517 5). The metadata's issuer is not compared with the
// authority: Entra's differ, and tokens are checked against the configured
// issuers.
func (c *JWKSCache) discover(ctx context.Context, authority string) (map[string]*rsa.PublicKey, error) {
	body, _, err := c.fetch.get(ctx, authority+"/.well-known/openid-configuration", maxDiscoverySize, "", "")
	if err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	var metadata struct {
		JWKSURI string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(body, &metadata); err != nil {
		return nil, fmt.Errorf("discovery: %s: the answer is not JSON: %w", authority, err)
	}
	if metadata.JWKSURI == "" {
		return nil, fmt.Errorf("discovery: %s: the answer names no jwks_uri", authority)
	}
	if body, _, err = c.fetch.get(ctx, metadata.JWKSURI, maxJWKSSize, "", ""); err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	keys, err := parseJWKS(body)
	if err != nil {
		return nil, fmt.Errorf("key set: %s: %w", metadata.JWKSURI, err)
	}
	return keys, nil
}

// parseJWKS takes the RSA signing keys of a key set and leaves the rest, which
// may be of kinds we do not know.
func parseJWKS(body []byte) (map[string]*rsa.PublicKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, fmt.Errorf("the answer is not JSON: %w", err)
	}
	if len(set.Keys) > maxJWKSKeys {
		return nil, fmt.Errorf("%d keys; at most %d are accepted", len(set.Keys), maxJWKSKeys)
	}
	keys := map[string]*rsa.PublicKey{}
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) != nil {
			continue
		}
		pub, ok := k.Key.(*rsa.PublicKey)
		if !ok || pub.N.BitLen() < 2048 || k.Use != "" && k.Use != "sig" || k.Algorithm != "" && k.Algorithm != string(jose.RS256) {
			continue
		}
		if k.KeyID != "" {
			keys[k.KeyID] = pub
		}
		if t := base64.RawURLEncoding.EncodeToString(k.CertificateThumbprintSHA1); t != "" && keys[t] == nil {
			keys[t] = pub // version 1 tokens may name the key by x5t only
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("no usable RSA signing key in it")
	}
	return keys, nil
}

// checkProviderURL reports whether keys may be fetched from an address: whoever
// can answer there can sign in as anybody, so it takes TLS, or this machine.
func checkProviderURL(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	return allowProvider(u)
}

func allowProvider(u *url.URL) error {
	if u.Scheme == "https" && u.Host != "" {
		return nil
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("%s: must be an https URL (http is accepted on loopback only)", u.Redacted())
}
