package pki

import (
	"context"
	"log/slog"
	"net/http"
	"time"
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
	Timeout            time.Duration // of one request; default 10 seconds
	Log                *slog.Logger
}

// A JWKSCache holds the signing keys of identity providers, found by OpenID
// Connect discovery.
type JWKSCache struct{}

// NewJWKSCache makes a cache; it refreshes while [JWKSCache.Run] runs.
func NewJWKSCache(c JWKSConfig) *JWKSCache { return &JWKSCache{} }

// Run refreshes keys until ctx ends.
func (c *JWKSCache) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// A JWKSStatus is the state of one identity provider's keys.
type JWKSStatus struct {
	Authority string    `json:"authority"`
	Keys      int       `json:"keys"`
	Fetched   time.Time `json:"fetched,omitzero"`
	LastError string    `json:"lastError,omitempty"`
	FailedAt  time.Time `json:"failedAt,omitzero"`
}

// Status lists the known authorities, in order.
func (c *JWKSCache) Status() []JWKSStatus { return nil }
