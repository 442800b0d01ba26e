package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/opencmg/opencmg"
)

// What is checked about a server certificate (cmg-behaviour G42). Each check
// returns nil or the fault it found.

// A fault is what is wrong with a server certificate, and what to do about it.
type fault struct {
	evidence, next string
	cause          error
}

func faultf(next, format string, args ...any) *fault {
	return &fault{evidence: fmt.Sprintf(format, args...), next: next}
}

func (f *fault) err() error {
	return &opencmg.Error{Kind: opencmg.Invalid, Msg: f.evidence + ": " + f.next, Err: f.cause}
}

// leafOf finds the certificate that the key belongs to.
func leafOf(key crypto.Signer, certs []*x509.Certificate) (*x509.Certificate, *fault) {
	for _, c := range certs {
		if pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); ok && pub.Equal(c.PublicKey) {
			return c, nil
		}
	}
	return nil, faultf("give the key that the certificate was requested with",
		"the private key belongs to none of the %d certificates (first: %s)", len(certs), describe(certs[0]))
}

func checkKey(leaf *x509.Certificate) *fault {
	switch pub := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		if n := pub.N.BitLen(); n != 2048 && n != 4096 {
			return faultf("request one with 2048 or 4096 bits", "%s has an RSA key of %d bits", describe(leaf), n)
		}
	case *ecdsa.PublicKey:
		if n := pub.Curve.Params().BitSize; n != 256 && n != 384 {
			return faultf("request one on P-256 or P-384", "%s has a key on curve %s", describe(leaf), pub.Curve.Params().Name)
		}
	default:
		return faultf("request RSA 2048 or 4096, or ECDSA P-256 or P-384", "%s has a %s key, which clients do not take", describe(leaf), leaf.PublicKeyAlgorithm)
	}
	return nil
}

func checkUsage(leaf *x509.Certificate) *fault {
	if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) {
		return faultf("request it from a web server template", "%s lacks the extended key usage server authentication (1.3.6.1.5.5.7.3.1)", describe(leaf))
	}
	return nil
}

// chainOf puts the certificates above the leaf in order, as far as they are
// there.
func chainOf(leaf *x509.Certificate, certs []*x509.Certificate) []*x509.Certificate {
	chain := []*x509.Certificate{leaf}
	for cert := leaf; !selfIssued(cert) && len(chain) <= len(certs); {
		issuer := findIssuer(cert, certs)
		if issuer == nil {
			break
		}
		chain = append(chain, issuer)
		cert = issuer
	}
	return chain
}

func findIssuer(cert *x509.Certificate, in []*x509.Certificate) *x509.Certificate {
	for _, c := range in {
		if string(c.RawSubject) == string(cert.RawIssuer) && cert.CheckSignatureFrom(c) == nil {
			return c
		}
	}
	return nil
}

func checkValidity(chain []*x509.Certificate, now time.Time) *fault {
	for _, c := range chain {
		if now.After(c.NotAfter) {
			return faultf("renew it", "%s expired at %s", describe(c), c.NotAfter.UTC().Format(time.RFC3339))
		}
		if now.Before(c.NotBefore) {
			return faultf("check this machine's clock, or wait", "%s is valid from %s on only", describe(c), c.NotBefore.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

func checkIssuer(chain []*x509.Certificate) *fault {
	if leaf := chain[0]; len(chain) == 1 && !selfIssued(leaf) {
		return faultf("export again with all certificates in the path, or append it to the PEM file",
			"the certificate of %q, which issued %s, is missing, so clients could not build the chain", leaf.Issuer, describe(leaf))
	}
	return nil
}

// checkName checks that the certificate covers the service name; an empty name
// checks nothing.
func checkName(leaf *x509.Certificate, serviceName string) *fault {
	if serviceName == "" {
		return nil
	}
	if err := leaf.VerifyHostname(serviceName); err != nil {
		f := faultf("request one that does, or change the service name",
			"%s does not cover the service name %s (it covers %q as subject alternative names)", describe(leaf), serviceName, leaf.DNSNames)
		f.cause = err
		return f
	}
	return nil
}
