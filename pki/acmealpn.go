package pki

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"time"

	"github.com/opencmg/opencmg"
)

// ALPNChallenge is the protocol by which a certification authority asks for the
// certificate of a tls-alpn-01 challenge (RFC 8737).
const ALPNChallenge = "acme-tls/1"

// oidACMEIdentifier is id-pe-acmeIdentifier (RFC 8737 3).
var oidACMEIdentifier = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}

// ChallengeCertificate makes the self-signed certificate that answers a
// tls-alpn-01 challenge: the domain as only name, and the digest of the key
// authorization in a critical extension.
func ChallengeCertificate(ch opencmg.ACMEChallenge, now time.Time) (tls.Certificate, error) {
	key, err := newKey(ECDSAP256)
	if err != nil {
		return tls.Certificate{}, err
	}
	digest := sha256.Sum256([]byte(ch.KeyAuthorization))
	value, err := asn1.Marshal(digest[:])
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: newSerial(), Subject: pkix.Name{CommonName: "ACME challenge"}, DNSNames: []string{ch.Domain},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(7 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		ExtraExtensions: []pkix.Extension{{Id: oidACMEIdentifier, Critical: true, Value: value}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("challenge certificate for %s: %w", ch.Domain, err)
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}
