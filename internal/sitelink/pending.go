package sitelink

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
)

// pendingFile holds the key (0600) of a host that waits to be let in, so that
// after a restart it asks for the same key again and costs its join token one
// place only.
const pendingFile = "joining.key"

// A Pending is a host that waits to be let in as an instance of a gateway.
type Pending struct {
	// Request is a PEM certificate request for its key.
	Request string

	dir    string
	siteCA *x509.Certificate
	key    *ecdsa.PrivateKey
}

// Joined reports whether the directory holds an identity.
func Joined(dir string) (bool, error) {
	for _, f := range []string{CertificateFile, nextFile(CertificateFile)} {
		_, err := os.Lstat(filepath.Join(dir, f))
		if !errors.Is(err, os.ErrNotExist) {
			return err == nil, err
		}
	}
	return false, nil
}

// NewPending makes the key of a host, or takes the one that it had before a
// restart. dir becomes its identity directory.
func NewPending(dir string, siteCA *x509.Certificate) (*Pending, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	p := &Pending{dir: dir, siteCA: siteCA}
	file := filepath.Join(dir, pendingFile)
	b, err := os.ReadFile(file)
	switch {
	case err == nil:
		block, _ := pem.Decode(b)
		if block == nil {
			return nil, opencmg.Errorf(opencmg.Invalid, "%s is damaged: remove it", file)
		}
		if p.key, err = x509.ParseECPrivateKey(block.Bytes); err != nil {
			return nil, opencmg.Errorf(opencmg.Invalid, "%s is damaged: remove it", file)
		}
		p.Request, err = requestFor(p.key)
		return p, err
	case !errors.Is(err, os.ErrNotExist):
		return nil, err
	}
	if p.key, p.Request, err = newRequest(); err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(p.key)
	if err != nil {
		return nil, fmt.Errorf("keep key: %w", err)
	}
	return p, pki.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

// Accept checks the certificate that the site gave, which must have the
// identity, and writes the identity directory.
func (p *Pending) Accept(certificate, identity string) error {
	pair, err := pairOf(certificate, p.key, p.siteCA, identity, time.Now())
	if err != nil {
		return err
	}
	if err := pki.WriteFile(filepath.Join(p.dir, SiteCAFile), pki.EncodeCertificates(p.siteCA), 0o644); err != nil {
		return err
	}
	if err := ReplaceKeyPair(filepath.Join(p.dir, CertificateFile), filepath.Join(p.dir, KeyFile), pair); err != nil {
		return err
	}
	return os.Remove(filepath.Join(p.dir, pendingFile))
}

func requestFor(key *ecdsa.PrivateKey) (string, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return "", fmt.Errorf("make certificate request: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}
