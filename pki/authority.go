package pki

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"time"
)

// KeyType chooses the kind of a new key.
type KeyType int

// The kinds of keys we make.
const (
	ECDSAP256 KeyType = iota
	RSA2048
)

// AuthorityOptions describe a new authority.
type AuthorityOptions struct {
	Name     string        // common name
	Key      KeyType       // default ECDSAP256
	Lifetime time.Duration // default 10 years
	// Parent issues the authority's certificate; nil makes a root.
	Parent *Authority
	// CRLURL is written as CRL distribution point into every certificate that
	// this authority issues; empty leaves it out.
	CRLURL string
}

// An Authority is a certificate authority: a site CA, or a root or issuing CA
// of a private PKI. It is safe for concurrent use.
type Authority struct{}

// A Template says what a certificate is for.
type Template struct {
	CommonName string
	URIs       []string // site identities, see package opencmg
	DNSNames   []string
	IPs        []net.IP
	// Client and Server add the extended key usages.
	Client, Server bool
	// Key is the kind of key that IssueKeyPair makes.
	Key KeyType
	// NotAfter ends the validity; zero means one year. It never exceeds the
	// authority's own.
	NotAfter time.Time
}

var errTodo = errors.New("pki: not written yet")

// NewAuthority makes a root authority with an ECDSA P-256 key.
func NewAuthority(name string, now time.Time) (*Authority, error) {
	return CreateAuthority(AuthorityOptions{Name: name}, now)
}

// CreateAuthority makes an authority.
func CreateAuthority(o AuthorityOptions, now time.Time) (*Authority, error) { return nil, errTodo }

// LoadAuthority reads what [Authority.Save] wrote.
func LoadAuthority(dir, name string) (*Authority, error) { return nil, errTodo }

// Save writes <name>.pem (certificate and its parents), <name>.key (0600) and
// <name>.revoked (serial numbers) into dir, each atomically.
func (a *Authority) Save(dir, name string) error { return errTodo }

// Certificate returns the authority's certificate.
func (a *Authority) Certificate() *x509.Certificate { return nil }

// CertificatePEM returns the authority's certificate as PEM.
func (a *Authority) CertificatePEM() []byte { return nil }

// Chain returns the authority's certificate and the ones above it.
func (a *Authority) Chain() []*x509.Certificate { return nil }

// Issue signs a certificate for pub.
func (a *Authority) Issue(t Template, pub crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	return nil, errTodo
}

// IssueKeyPair makes a key and a certificate for it, with the intermediates
// that a peer needs.
func (a *Authority) IssueKeyPair(t Template, now time.Time) (tls.Certificate, error) {
	return tls.Certificate{}, errTodo
}

// Revoke puts a serial number onto the revocation list.
func (a *Authority) Revoke(serial *big.Int, now time.Time) {}

// CRL signs the revocation list, DER, valid from now until now+validity. Every
// call has a higher CRL number.
func (a *Authority) CRL(now time.Time, validity time.Duration) ([]byte, error) { return nil, errTodo }

// NewSelfSigned makes a client's own certificate: RSA 2048, with the usages
// that Configuration Manager clients write (wire.md 5) and client
// authentication.
func NewSelfSigned(commonName string, now time.Time) (tls.Certificate, error) {
	return tls.Certificate{}, errTodo
}

// NewTokenSigningCertificate makes the key that signs site tokens: RSA 2048,
// self-signed, valid ten years.
func NewTokenSigningCertificate(commonName string, now time.Time) (tls.Certificate, error) {
	return tls.Certificate{}, errTodo
}
