package pki

import (
	"crypto/tls"
	"crypto/x509"
	"os"
)

// WriteFile replaces path with data: written to a temporary file beside it,
// synced, and renamed, so that a crash leaves the old or the new content.
func WriteFile(path string, data []byte, perm os.FileMode) error { return errTodo }

// SaveKeyPair writes the certificate chain and the key (0600) as PEM. Both
// paths may be the same file.
func SaveKeyPair(certFile, keyFile string, pair tls.Certificate) error { return errTodo }

// LoadKeyPair reads what [SaveKeyPair] wrote, with Leaf set. It checks nothing
// but that the key matches.
func LoadKeyPair(certFile, keyFile string) (tls.Certificate, error) {
	return tls.Certificate{}, errTodo
}

// LoadCertificates reads the PEM certificates of a file; none is an error.
func LoadCertificates(path string) ([]*x509.Certificate, error) { return nil, errTodo }

// ParseCertificates reads PEM certificates; none is an error.
func ParseCertificates(pem []byte) ([]*x509.Certificate, error) { return nil, errTodo }

// EncodeCertificates writes certificates as PEM.
func EncodeCertificates(certs ...*x509.Certificate) []byte { return nil }

// Thumbprint is the lower-case hexadecimal SHA-256 of a certificate, the form
// in which this system names certificates everywhere.
func Thumbprint(cert *x509.Certificate) string { return "" }

// ThumbprintSHA1 is the lower-case hexadecimal SHA-1 of a certificate, the form
// that Configuration Manager's clients and tokens use. It names and proves nothing.
func ThumbprintSHA1(cert *x509.Certificate) string { return "" }
