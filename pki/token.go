package pki

import (
	"crypto"
	"crypto/x509"
	"time"

	"github.com/opencmg/opencmg"
)

// Lifetimes of site tokens (cmg-behaviour 7.3).
const (
	BulkDefaultLifetime = 4320 * time.Minute
	BulkMaxLifetime     = 10080 * time.Minute
	ClientTokenLifetime = 90 * 24 * time.Hour
	CCMTokenLifetime    = 8 * time.Hour
)

// SiteAudience is the audience of site tokens (wire.md 2.1).
const SiteAudience = "urn:sccm:service"

// SiteIssuer is the issuer of the tokens of a hierarchy (wire.md 2.1).
func SiteIssuer(hierarchyID string) string { return "" }

// A Token is a signed site token.
type Token struct {
	Raw                string // compact JWT: a secret
	ID                 string // the GUID by which it is listed and blocked
	NotBefore, Expires time.Time
}

// A TokenSigner makes site tokens. It is safe for concurrent use.
type TokenSigner struct{}

// NewTokenSigner makes a signer. The key must be RSA and match cert; issuer and
// audience may be empty for [SiteIssuer] and [SiteAudience].
func NewTokenSigner(key crypto.Signer, cert *x509.Certificate, issuer, audience, hierarchyID string) (*TokenSigner, error) {
	return nil, errTodo
}

// TokenIssuer is what a published configuration says about this signer.
func (s *TokenSigner) TokenIssuer() opencmg.TokenIssuer { return opencmg.TokenIssuer{} }

// Bulk makes a bulk registration token. Zero lifetime means
// [BulkDefaultLifetime]; more than [BulkMaxLifetime] is refused.
func (s *TokenSigner) Bulk(lifetime time.Duration, now time.Time) (Token, error) {
	return Token{}, errTodo
}

// Client makes the token of a registered client, bound to the certificate with
// this SHA-256 thumbprint (hexadecimal).
func (s *TokenSigner) Client(id opencmg.ClientID, thumbprint string, now time.Time) (Token, error) {
	return Token{}, errTodo
}

// CCM makes the token that the token service gives for another one: it carries
// the tenant, device, user and client ID of the identity and is bound to
// id.Thumbprint, which must not be empty.
func (s *TokenSigner) CCM(id opencmg.Identity, now time.Time) (Token, error) {
	return Token{}, errTodo
}
