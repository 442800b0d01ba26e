package pki

import (
	"crypto/x509"
	"log/slog"
	"time"

	"github.com/opencmg/opencmg"
)

// A ClientVerifier accepts or refuses the certificates of PKI clients.
type ClientVerifier struct{}

// NewClientVerifier makes a verifier for one published configuration. crl may
// be nil when revocation is not checked.
func NewClientVerifier(settings opencmg.CertificateSettings, crl *CRLCache, log *slog.Logger) (*ClientVerifier, error) {
	return nil, errTodo
}

// Verify checks the certificates that a client presented, its own first, and
// returns its subject. A refusal is a [*Refusal]. The result is cached, so
// calling it for every request costs next to nothing; a list that arrived in
// the meantime takes effect with the next call.
func (v *ClientVerifier) Verify(chain []*x509.Certificate, now time.Time) (subject string, err error) {
	return "", errTodo
}

// CAs returns the subjects (DER) to name in a TLS certificate request.
func (v *ClientVerifier) CAs() *x509.CertPool { return nil }
