package pki

import (
	"crypto/x509"
	"time"
)

// ParseCRL lets tests and fuzzing reach the parser without a server.
func ParseCRL(data []byte, issuer *x509.Certificate) (revoked int, err error) {
	list, err := parseCRL(data, issuer)
	if err != nil {
		return 0, err
	}
	return len(list.revoked), nil
}

// CRLExcludes says why a list does not cover a certificate.
func CRLExcludes(data []byte, issuer, cert *x509.Certificate) (string, error) {
	list, err := parseCRL(data, issuer)
	if err != nil {
		return "", err
	}
	return list.excludes(cert, crlURLs(cert)), nil
}

// Remembered is how many results a verifier holds.
func (v *TokenVerifier) Remembered() (good, bad int) { return v.good.len(), v.bad.len() }

// Remembered is how many results a verifier holds.
func (v *ClientVerifier) Remembered() int { return v.accepted.len() }

// NewCache is the bounded cache.
func NewCache(size int) *boundedCache[int, int] { return newBoundedCache[int, int](size) }

func (c *boundedCache[K, V]) Get(k K) (V, bool) { return c.get(k) }
func (c *boundedCache[K, V]) Put(k K, v V)      { c.put(k, v) }
func (c *boundedCache[K, V]) Len() int          { return c.len() }

// ServerPoll is how often a server certificate's files are looked at.
const ServerPoll = serverPoll

// BadTokenLifetime is how long a refusal is remembered.
const BadTokenLifetime time.Duration = badTokenLifetime
