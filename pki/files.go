package pki

import (
	"crypto"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencmg/opencmg"
)

// WriteFile replaces path with data: written to a temporary file beside it,
// synced, and renamed, so that a crash leaves the old or the new content. The
// temporary file is never readable by others, whatever perm says.
func WriteFile(path string, data []byte, perm os.FileMode) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".tmp-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(f.Name()) // fails once it has been renamed
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(perm)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	// The rename survives a power cut only once the directory is on disk.
	// Not every system can sync a directory; the file is whole either way.
	if d, err := os.Open(dir); err == nil {
		d.Sync()
		d.Close()
	}
	return nil
}

// SaveKeyPair writes the certificate chain (0644) and the key (PKCS #8, 0600)
// as PEM. When both paths are the same, one file (0600) holds both.
func SaveKeyPair(certFile, keyFile string, pair tls.Certificate) error {
	var chain []byte
	for _, der := range pair.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	key, err := encodeKey(pair.PrivateKey)
	if err != nil {
		return fmt.Errorf("save key %s: %w", keyFile, err)
	}
	if certFile == keyFile {
		return WriteFile(keyFile, append(chain, key...), 0o600)
	}
	if err := WriteFile(keyFile, key, 0o600); err != nil {
		return err
	}
	return WriteFile(certFile, chain, 0o644)
}

// LoadKeyPair reads what [SaveKeyPair] wrote, with Leaf set. It checks nothing
// but that the key matches.
func LoadKeyPair(certFile, keyFile string) (tls.Certificate, error) {
	certs, err := os.ReadFile(certFile)
	if err != nil {
		return tls.Certificate{}, opencmg.Errorf(opencmg.Invalid, "read certificate: %w", err)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return tls.Certificate{}, opencmg.Errorf(opencmg.Invalid, "read private key: %w", err)
	}
	pair, err := tls.X509KeyPair(certs, key)
	if err != nil {
		return tls.Certificate{}, opencmg.Errorf(opencmg.Invalid, "certificate %s with key %s: %w", certFile, keyFile, err)
	}
	return pair, nil
}

// LoadCertificates reads the PEM certificates of a file; none is an error.
func LoadCertificates(path string) ([]*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, opencmg.Errorf(opencmg.Invalid, "read certificates: %w", err)
	}
	certs, err := ParseCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return certs, nil
}

// ParseCertificates reads PEM certificates and skips other PEM blocks; none is
// an error.
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, opencmg.Errorf(opencmg.Invalid, "certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, opencmg.Errorf(opencmg.Invalid, "no PEM certificate found: the text must hold -----BEGIN CERTIFICATE-----")
	}
	return certs, nil
}

// EncodeCertificates writes certificates as PEM.
func EncodeCertificates(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// Thumbprint is the lower-case hexadecimal SHA-256 of a certificate, the form
// in which this system names certificates everywhere.
func Thumbprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// ThumbprintSHA1 is the lower-case hexadecimal SHA-1 of a certificate, the form
// that Configuration Manager's clients and tokens use. It is a name and no proof.
func ThumbprintSHA1(cert *x509.Certificate) string {
	sum := sha1.Sum(cert.Raw)
	return hex.EncodeToString(sum[:])
}

func encodeKey(key crypto.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// describe names a certificate for a person: its subject, or its serial number
// when it has none, and enough of its thumbprint to find it.
func describe(cert *x509.Certificate) string {
	name := cert.Subject.String()
	if name == "" {
		name = "serial " + cert.SerialNumber.Text(16)
	}
	return fmt.Sprintf("%q (%s)", name, Thumbprint(cert)[:16])
}

// parseKey reads the first PEM private key: PKCS #8, PKCS #1 or SEC 1.
func parseKey(data []byte) (crypto.Signer, error) {
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return nil, opencmg.Errorf(opencmg.Invalid, "no PEM private key found: the text must hold -----BEGIN PRIVATE KEY-----")
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
			return nil, opencmg.Errorf(opencmg.Invalid, "the PEM private key is encrypted: store it without a password and protect the file, or use a PFX")
		}
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		default:
			continue
		}
		if err != nil {
			return nil, opencmg.Errorf(opencmg.Invalid, "the PEM private key is damaged: %w", err)
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, opencmg.Errorf(opencmg.Invalid, "the PEM private key is of a kind (%T) that TLS does not use", key)
		}
		return signer, nil
	}
}
