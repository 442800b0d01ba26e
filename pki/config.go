package pki

import (
	"crypto/tls"
	"crypto/x509"
	"time"

	"github.com/opencmg/opencmg"
)

// MaxDocumentSize bounds a signed document, in bytes.
const MaxDocumentSize = 8 << 20

// SignConfiguration signs a published configuration with a certificate that
// has the site's configuration-signing identity. The result is a compact JWS.
func SignConfiguration(c *opencmg.PublishedConfiguration, cert tls.Certificate) ([]byte, error) {
	return nil, errTodo
}

// VerifyConfiguration checks signature, signer and content of a published
// configuration. Fields it does not know are ignored. It does not compare
// versions.
func VerifyConfiguration(jws []byte, siteCA *x509.Certificate, site opencmg.SiteCode, now time.Time) (*opencmg.PublishedConfiguration, error) {
	return nil, errTodo
}

// SignDocument signs any document. kind, such as "url-mappings", goes into the
// signed header, so that a document of one kind never passes for another.
func SignDocument(kind string, payload []byte, cert tls.Certificate) ([]byte, error) {
	return nil, errTodo
}

// VerifyDocument checks a document of the kind, signed by a certificate of the
// site CA with the URI identity, and returns its payload.
func VerifyDocument(kind string, jws []byte, siteCA *x509.Certificate, uri string, now time.Time) ([]byte, error) {
	return nil, errTodo
}
