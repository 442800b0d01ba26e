package sitelink

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
)

// Files of an identity directory.
const (
	SiteCAFile      = "site-ca.pem"
	CertificateFile = "identity.pem"
	KeyFile         = "identity.key" // 0600
	PublishedFile   = "published.jws"
	MappingsFile    = "mappings.jws"
)

// An Identity is who a host is in its site.
type Identity struct {
	SiteCA *x509.Certificate
	Pair   tls.Certificate // with Leaf
}

// LoadIdentity reads an identity directory. A renewal that was cut off in the
// middle of its files is completed.
func LoadIdentity(dir string) (Identity, error) {
	ca, err := pki.LoadCertificates(filepath.Join(dir, SiteCAFile))
	if err != nil {
		return Identity{}, err
	}
	pair, err := LoadKeyPair(filepath.Join(dir, CertificateFile), filepath.Join(dir, KeyFile))
	if err != nil {
		return Identity{}, err
	}
	return Identity{SiteCA: ca[0], Pair: pair}, nil
}

// nextFile is where a new certificate and its key (0600) stand together while
// the two files are replaced, since two renames are not one.
func nextFile(certFile string) string {
	return strings.TrimSuffix(certFile, filepath.Ext(certFile)) + ".next"
}

// ReplaceKeyPair replaces a certificate (0644) and its key (0600). Whenever it is
// cut off, [LoadKeyPair] finds the old pair or the new one.
func ReplaceKeyPair(certFile, keyFile string, pair tls.Certificate) error {
	next := nextFile(certFile)
	if err := pki.SaveKeyPair(next, next, pair); err != nil {
		return err
	}
	return finishReplace(certFile, keyFile, pair)
}

func finishReplace(certFile, keyFile string, pair tls.Certificate) error {
	if err := pki.SaveKeyPair(certFile, keyFile, pair); err != nil {
		return err
	}
	return os.Remove(nextFile(certFile))
}

// LoadKeyPair reads what ReplaceKeyPair wrote, and completes it when it was cut
// off.
func LoadKeyPair(certFile, keyFile string) (tls.Certificate, error) {
	next := nextFile(certFile)
	pair, err := pki.LoadKeyPair(next, next)
	switch {
	case err == nil:
		return pair, finishReplace(certFile, keyFile, pair)
	case !errors.Is(err, os.ErrNotExist):
		return pair, fmt.Errorf("a renewal was cut off: %w", err)
	}
	return pki.LoadKeyPair(certFile, keyFile)
}

// newRequest makes a key and a certificate request for it. The names in a
// certificate are the site's business.
func newRequest() (*ecdsa.PrivateKey, string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, "", fmt.Errorf("make key: %w", err)
	}
	request, err := requestFor(key)
	return key, request, err
}

// pairOf checks a certificate that the site gave for a key: it must belong to
// the key, come from the site CA, be valid, and have the identity.
func pairOf(certificate string, key *ecdsa.PrivateKey, siteCA *x509.Certificate, identity string, now time.Time) (tls.Certificate, error) {
	certs, err := pki.ParseCertificates([]byte(certificate))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("the site's certificate: %w", err)
	}
	leaf := certs[0]
	roots, above := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(siteCA)
	pair := tls.Certificate{PrivateKey: key, Leaf: leaf}
	for _, c := range certs {
		above.AddCert(c)
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return tls.Certificate{}, opencmg.Errorf(opencmg.Invalid, "the site's certificate is for another key than the one of the request")
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: above, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return tls.Certificate{}, opencmg.Errorf(opencmg.Invalid, "the site's certificate is not acceptable: %w", err)
	}
	if !slices.ContainsFunc(leaf.URIs, func(u *url.URL) bool { return u.String() == identity }) {
		return tls.Certificate{}, opencmg.Errorf(opencmg.Invalid, "the site's certificate is not for %s", identity)
	}
	return pair, nil
}
