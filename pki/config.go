package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/opencmg/opencmg"
)

// MaxDocumentSize bounds the payload of a signed document, in bytes.
const MaxDocumentSize = 8 << 20

// Kinds of signed documents.
const (
	KindConfiguration = "configuration" // opencmg.PublishedConfiguration
	KindURLMappings   = "url-mappings"  // a connection point's mappings
)

// SignConfiguration signs a published configuration with an ECDSA P-256
// certificate that has the site's configuration-signing identity. The result is
// a compact JWS.
func SignConfiguration(c *opencmg.PublishedConfiguration, cert tls.Certificate) ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("sign configuration: %w", err)
	}
	payload, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("sign configuration: %w", err)
	}
	return SignDocument(KindConfiguration, payload, cert)
}

// VerifyConfiguration checks signature, signer and content of a published
// configuration. Fields it does not know are ignored, so that a newer site can
// say more. It does not compare versions or the gateway's name. Errors have
// kind Unauthorized when it is not the site's, Invalid or TooLarge when its
// content is wrong.
func VerifyConfiguration(jws []byte, siteCA *x509.Certificate, site opencmg.SiteCode, now time.Time) (*opencmg.PublishedConfiguration, error) {
	payload, err := VerifyDocument(KindConfiguration, jws, siteCA, opencmg.ConfigurationSigningURI(site), now)
	if err != nil {
		return nil, err
	}
	var c opencmg.PublishedConfiguration
	if err := json.Unmarshal(payload, &c); err != nil {
		return nil, opencmg.Errorf(opencmg.Invalid, "published configuration: %w", err)
	}
	if c.Site != site {
		return nil, opencmg.Errorf(opencmg.Invalid, "published configuration: is for site %s, not %s", c.Site, site)
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &c, nil
}

// SignDocument signs any document with an ECDSA P-256 certificate of the site
// CA (JWS with ES256, RFC 7515; the certificate travels in x5c). kind goes into
// the signed header as typ, so that a document of one kind never passes for
// another.
func SignDocument(kind string, payload []byte, cert tls.Certificate) ([]byte, error) {
	key, ok := cert.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() || len(cert.Certificate) == 0 {
		return nil, opencmg.Errorf(opencmg.Invalid, "sign %s: the signing certificate must have an ECDSA P-256 key", kind)
	}
	if len(payload) > MaxDocumentSize {
		return nil, opencmg.Errorf(opencmg.TooLarge, "sign %s: is %d bytes long, more than %d", kind, len(payload), MaxDocumentSize)
	}
	x5c := make([]string, len(cert.Certificate))
	for i, der := range cert.Certificate {
		x5c[i] = base64.StdEncoding.EncodeToString(der)
	}
	opts := (&jose.SignerOptions{}).WithType(jose.ContentType(documentType(kind))).WithHeader("x5c", x5c)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, opts)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", kind, err)
	}
	obj, err := signer.Sign(payload)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", kind, err)
	}
	s, err := obj.CompactSerialize()
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", kind, err)
	}
	return []byte(s), nil
}

// VerifyDocument checks a document of the kind, signed by a certificate of the
// site CA with the URI identity and valid now, and returns its payload.
func VerifyDocument(kind string, jws []byte, siteCA *x509.Certificate, uri string, now time.Time) ([]byte, error) {
	const maxHeader = 64 << 10
	if len(jws) > base64.RawURLEncoding.EncodedLen(MaxDocumentSize)+2*maxHeader {
		return nil, opencmg.Errorf(opencmg.TooLarge, "signed %s: is longer than %d bytes", kind, MaxDocumentSize)
	}
	h, _, err := parseCompact(string(jws), maxHeader)
	if err != nil {
		return nil, opencmg.Errorf(opencmg.Invalid, "signed %s: %w", kind, err)
	}
	if h.Typ != documentType(kind) {
		return nil, opencmg.Errorf(opencmg.Unauthorized, "signed %s: the document is of type %q", kind, h.Typ)
	}
	if h.Alg != string(jose.ES256) || h.Crit != nil || h.B64 != nil {
		return nil, opencmg.Errorf(opencmg.Unauthorized, "signed %s: signed with algorithm %q or with header fields that are not accepted", kind, h.Alg)
	}
	if len(h.X5c) == 0 || len(h.X5c) > 4 {
		return nil, opencmg.Errorf(opencmg.Unauthorized, "signed %s: must carry one to four certificates, has %d", kind, len(h.X5c))
	}
	certs := make([]*x509.Certificate, len(h.X5c))
	above := x509.NewCertPool()
	for i, s := range h.X5c {
		der, err := base64.StdEncoding.DecodeString(s)
		if err == nil {
			certs[i], err = x509.ParseCertificate(der)
		}
		if err != nil {
			return nil, opencmg.Errorf(opencmg.Invalid, "signed %s: certificate %d: %w", kind, i+1, err)
		}
		above.AddCert(certs[i])
	}
	leaf := certs[0]
	roots := x509.NewCertPool()
	roots.AddCert(siteCA)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: above, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return nil, opencmg.Errorf(opencmg.Unauthorized, "signed %s: the signing certificate %s is not acceptable to site CA %s: %w", kind, describe(leaf), describe(siteCA), err)
	}
	if !slices.ContainsFunc(leaf.URIs, func(u *url.URL) bool { return u.String() == uri }) {
		return nil, opencmg.Errorf(opencmg.Unauthorized, "signed %s: the signing certificate %s does not have the identity %s", kind, describe(leaf), uri)
	}
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, opencmg.Errorf(opencmg.Unauthorized, "signed %s: the signing certificate %s does not have an ECDSA P-256 key", kind, describe(leaf))
	}
	obj, err := jose.ParseSignedCompact(string(jws), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return nil, opencmg.Errorf(opencmg.Invalid, "signed %s: %w", kind, err)
	}
	payload, err := obj.Verify(key)
	if err != nil {
		return nil, opencmg.Errorf(opencmg.Unauthorized, "signed %s: the signature does not fit the document: %w", kind, err)
	}
	if len(payload) > MaxDocumentSize {
		return nil, opencmg.Errorf(opencmg.TooLarge, "signed %s: is %d bytes long, more than %d", kind, len(payload), MaxDocumentSize)
	}
	return payload, nil
}

func documentType(kind string) string { return "opencmg-" + kind + "+jws" }
