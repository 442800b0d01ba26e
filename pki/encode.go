package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/opencmg/opencmg"
)

// EncodeKeyPair writes a certificate chain and its key (PKCS #8) as one PEM
// text. It is a secret.
func EncodeKeyPair(pair tls.Certificate) ([]byte, error) {
	cert, key, err := SplitKeyPair(pair)
	return append(cert, key...), err
}

// SplitKeyPair writes a certificate chain and its key (PKCS #8) as two PEM
// texts, of which the second is a secret.
func SplitKeyPair(pair tls.Certificate) (cert, key []byte, err error) {
	for _, der := range pair.Certificate {
		cert = append(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	if key, err = encodeKey(pair.PrivateKey); err != nil {
		return nil, nil, fmt.Errorf("encode key: %w", err)
	}
	return cert, key, nil
}

// ParseKeyPair reads what [EncodeKeyPair] wrote, with Leaf set.
func ParseKeyPair(text []byte) (tls.Certificate, error) {
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return tls.Certificate{}, opencmg.Errorf(opencmg.Invalid, "the PEM text does not hold a certificate and its key: %w", err)
	}
	return pair, nil
}

// Encode writes the authority's certificates and its key as PEM, without its
// revocation list. It is a secret.
func (a *Authority) Encode() ([]byte, error) { return EncodeKeyPair(a.pair()) }

func (a *Authority) pair() tls.Certificate {
	pair := tls.Certificate{PrivateKey: a.key}
	for _, c := range a.chain {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	return pair
}

// ParseAuthority reads what [Authority.Encode] wrote.
func ParseAuthority(text []byte) (*Authority, error) {
	pair, err := ParseKeyPair(text)
	if err != nil {
		return nil, err
	}
	return authorityOf(pair)
}

// authorityOf makes an authority of its certificates and key. It has revoked
// nothing.
func authorityOf(pair tls.Certificate) (*Authority, error) {
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return nil, opencmg.Errorf(opencmg.Invalid, "%s is not the certificate of a CA", describe(pair.Leaf))
	}
	a := &Authority{key: key, revoked: map[string]time.Time{}}
	for _, der := range pair.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, opencmg.Errorf(opencmg.Invalid, "certificate of the CA: %w", err)
		}
		a.chain = append(a.chain, c)
	}
	return a, nil
}

// maxRequest bounds a certificate request, in bytes.
const maxRequest = 16 << 10

// NewRequest makes a key and a PEM certificate request for it (PKCS #10) that
// names nothing: the authority decides what the certificate says.
func NewRequest() (key crypto.Signer, request []byte, err error) {
	if key, err = newKey(ECDSAP256); err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("make certificate request: %w", err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// ParseRequest reads a PEM certificate request and checks that its sender has
// the key, which must be ECDSA on P-256 or P-384, or RSA of 2048 to 4096 bits.
func ParseRequest(text []byte) (*x509.CertificateRequest, error) {
	if len(text) > maxRequest {
		return nil, opencmg.Errorf(opencmg.TooLarge, "certificate request: is longer than %d bytes", maxRequest)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, opencmg.Errorf(opencmg.Invalid, "certificate request: the text must hold -----BEGIN CERTIFICATE REQUEST-----")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, opencmg.Errorf(opencmg.Invalid, "certificate request: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, opencmg.Errorf(opencmg.Unauthorized, "certificate request: its sender does not have the key: %w", err)
	}
	switch k := csr.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if n := k.Curve.Params().BitSize; n != 256 && n != 384 {
			return nil, opencmg.Errorf(opencmg.Invalid, "certificate request: curve %s is not accepted, use P-256", k.Curve.Params().Name)
		}
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 4096 {
			return nil, opencmg.Errorf(opencmg.Invalid, "certificate request: an RSA key must have 2048 to 4096 bits, this one has %d", n)
		}
	default:
		return nil, opencmg.Errorf(opencmg.Invalid, "certificate request: a key of kind %s is not accepted, use ECDSA on P-256", csr.PublicKeyAlgorithm)
	}
	return csr, nil
}
