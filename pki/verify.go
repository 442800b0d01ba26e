package pki

import (
	"context"
	"log/slog"
	"time"

	"github.com/opencmg/opencmg"
)

// MaxTokenSize is the longest token that is looked at, in bytes.
const MaxTokenSize = 16 << 10

// ClockSkew is how far the clock of a token's issuer may be off.
const ClockSkew = 60 * time.Second

// A TokenVerifier accepts or refuses bearer tokens.
type TokenVerifier struct{}

// NewTokenVerifier makes a verifier for one published configuration. keys may
// be nil when no tenant is configured.
func NewTokenVerifier(cfg *opencmg.PublishedConfiguration, keys *JWKSCache, log *slog.Logger) (*TokenVerifier, error) {
	return nil, errTodo
}

// Verify checks a token. presentedSHA256 is the thumbprint of the certificate
// whose key the caller proved in the TLS handshake, empty for none. A refusal
// is a [*Refusal].
func (v *TokenVerifier) Verify(ctx context.Context, token, presentedSHA256 string, now time.Time) (opencmg.Identity, error) {
	return opencmg.Identity{}, errTodo
}
