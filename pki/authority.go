package pki

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
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
	Lifetime time.Duration // default 10 years, at most the parent's
	// Parent issues the authority's certificate; nil makes a root.
	Parent *Authority
	// CRLURL is written as CRL distribution point into every certificate that
	// this authority issues; empty leaves it out.
	CRLURL string
}

// An Authority is a certificate authority: a site CA, or a root or issuing CA
// of a private PKI. It is safe for concurrent use.
type Authority struct {
	chain  []*x509.Certificate // its own, then the ones above it
	key    crypto.Signer
	crlURL string

	mu      sync.Mutex           // protects what follows
	revoked map[string]time.Time // decimal serial number to time of revocation
	number  int64                // of the last CRL
}

// A Template says what a certificate is for.
type Template struct {
	CommonName string
	URIs       []string // site identities, see package opencmg
	DNSNames   []string
	IPs        []net.IP
	// Client and Server add the extended key usages.
	Client, Server bool
	// Key is the kind of key that [Authority.IssueKeyPair] makes.
	Key KeyType
	// NotAfter ends the validity; zero means one year. It never exceeds the
	// authority's own.
	NotAfter time.Time
	// NotBefore starts the validity; zero means an hour ago, because clocks
	// differ.
	NotBefore time.Time
}

// NewAuthority makes a root authority with an ECDSA P-256 key, valid ten years.
func NewAuthority(name string, now time.Time) (*Authority, error) {
	return CreateAuthority(AuthorityOptions{Name: name}, now)
}

// CreateAuthority makes an authority: a root, or one below o.Parent.
func CreateAuthority(o AuthorityOptions, now time.Time) (*Authority, error) {
	key, err := newKey(o.Key)
	if err != nil {
		return nil, fmt.Errorf("make key of authority %s: %w", o.Name, err)
	}
	t := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: o.Name},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(cmp.Or(o.Lifetime, 10*365*24*time.Hour)),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	a := &Authority{key: key, crlURL: o.CRLURL, revoked: map[string]time.Time{}}
	parent, signer := t, key
	if o.Parent != nil {
		if o.Parent.chain[0].MaxPathLenZero {
			return nil, opencmg.Errorf(opencmg.Invalid, "authority %s: %s is an issuing authority; only a root can have one below it", o.Name, o.Parent.chain[0].Subject)
		}
		parent, signer = o.Parent.Certificate(), o.Parent.key
		o.Parent.limit(t)
		t.MaxPathLenZero = true // it issues end-entity certificates only
	}
	cert, err := sign(t, parent, key.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("sign certificate of authority %s: %w", o.Name, err)
	}
	a.chain = []*x509.Certificate{cert}
	if o.Parent != nil {
		a.chain = append(a.chain, o.Parent.chain...)
	}
	return a, nil
}

// Certificate returns the authority's certificate.
func (a *Authority) Certificate() *x509.Certificate { return a.chain[0] }

// CertificatePEM returns the authority's certificate as PEM.
func (a *Authority) CertificatePEM() []byte { return EncodeCertificates(a.chain[0]) }

// Chain returns the authority's certificate and the ones above it, the root
// last.
func (a *Authority) Chain() []*x509.Certificate { return slices.Clone(a.chain) }

// Issue signs a certificate for pub, with key usage for signatures and, for an
// RSA server key, key encipherment.
func (a *Authority) Issue(t Template, pub crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	c := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: t.CommonName},
		NotBefore:             t.NotBefore,
		NotAfter:              t.NotAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		DNSNames:              t.DNSNames,
		IPAddresses:           t.IPs,
	}
	for _, s := range t.URIs {
		u, err := url.Parse(s)
		if err != nil {
			return nil, opencmg.Errorf(opencmg.Invalid, "certificate for %s: identity %q: %w", t.CommonName, s, err)
		}
		c.URIs = append(c.URIs, u)
	}
	if t.Client {
		c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	if t.Server {
		c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		if _, ok := pub.(*rsa.PublicKey); ok {
			c.KeyUsage |= x509.KeyUsageKeyEncipherment
		}
	}
	if c.NotBefore.IsZero() {
		c.NotBefore = now.Add(-backdate)
	}
	if c.NotAfter.IsZero() {
		c.NotAfter = now.Add(365 * 24 * time.Hour)
	}
	a.limit(c)
	cert, err := sign(c, a.chain[0], pub, a.key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for %s: %w", t.CommonName, err)
	}
	return cert, nil
}

// IssueKeyPair makes a key and a certificate for it, followed by the
// authority's chain without the root. Server certificates carry the root too:
// [LoadServerCertificate] wants to see who issued them, and leaves it out of
// handshakes.
func (a *Authority) IssueKeyPair(t Template, now time.Time) (tls.Certificate, error) {
	key, err := newKey(t.Key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make key for %s: %w", t.CommonName, err)
	}
	leaf, err := a.Issue(t, key.Public(), now)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair := tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	for _, c := range a.chain {
		if t.Server || !selfIssued(c) {
			pair.Certificate = append(pair.Certificate, c.Raw)
		}
	}
	return pair, nil
}

// Revoke puts a serial number onto the revocation list. [Authority.Save] makes
// it last.
func (a *Authority) Revoke(serial *big.Int, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.revoked[serial.String()]; !ok {
		a.revoked[serial.String()] = now.UTC()
	}
}

// CRL signs the revocation list, DER, valid from now until now+validity. Every
// call has a higher CRL number, also after a restart.
func (a *Authority) CRL(now time.Time, validity time.Duration) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.number = max(a.number+1, now.UnixMilli())
	list := &x509.RevocationList{Number: big.NewInt(a.number), ThisUpdate: now.UTC(), NextUpdate: now.Add(validity).UTC()}
	for _, s := range slices.Sorted(maps.Keys(a.revoked)) {
		serial, ok := new(big.Int).SetString(s, 10)
		if !ok {
			return nil, fmt.Errorf("revocation list of %s: serial number %q is not a number", a.chain[0].Subject, s)
		}
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: serial, RevocationTime: a.revoked[s]})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.chain[0], a.key)
	if err != nil {
		return nil, fmt.Errorf("sign revocation list of %s: %w", a.chain[0].Subject, err)
	}
	return der, nil
}

// authorityState is the content of <name>.revoked.
type authorityState struct {
	CRLURL  string               `json:"crlUrl,omitempty"`
	Number  int64                `json:"number"`
	Revoked map[string]time.Time `json:"revoked"`
}

// Save writes <name>.pem (certificate and the ones above it), <name>.key (0600)
// and <name>.revoked (the revocation list's content) into dir, each atomically.
func (a *Authority) Save(dir, name string) error {
	a.mu.Lock()
	state, err := json.MarshalIndent(authorityState{a.crlURL, a.number, a.revoked}, "", "  ")
	a.mu.Unlock()
	if err != nil {
		return fmt.Errorf("save authority %s: %w", name, err)
	}
	path := filepath.Join(dir, name)
	if err := WriteFile(path+".revoked", state, 0o644); err != nil {
		return err
	}
	return SaveKeyPair(path+".pem", path+".key", a.pair())
}

// LoadAuthority reads what [Authority.Save] wrote. The error is [os.ErrNotExist]
// only if there is no certificate: an authority that lost its key or its
// revocation list must not be taken for one that was never made.
func LoadAuthority(dir, name string) (*Authority, error) {
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path + ".pem"); err != nil {
		return nil, opencmg.Errorf(opencmg.Invalid, "load authority: %w", err)
	}
	pair, err := LoadKeyPair(path+".pem", path+".key")
	if err != nil {
		return nil, opencmg.Errorf(opencmg.Invalid, "load authority: %v", err)
	}
	a, err := authorityOf(pair)
	if err != nil {
		return nil, opencmg.Errorf(opencmg.Invalid, "load authority: %s.pem: %w", path, err)
	}
	data, err := os.ReadFile(path + ".revoked")
	if err != nil {
		return nil, opencmg.Errorf(opencmg.Invalid, "load authority: what was revoked is not known: restore the file, or write {} into it if nothing was: %v", err)
	}
	var state authorityState
	if err := json.Unmarshal(data, &state); err != nil {
		return nil, opencmg.Errorf(opencmg.Invalid, "load authority: %s.revoked: %w", path, err)
	}
	a.crlURL, a.number, a.revoked = state.CRLURL, state.Number, state.Revoked
	if a.revoked == nil {
		a.revoked = map[string]time.Time{}
	}
	return a, nil
}

// Extended key usages of a client's own certificate (wire.md 5.1).
var (
	oidSMSEncryption = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 101, 2}
	oidSMSSigning    = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 101}
)

// NewSelfSigned makes a client's own certificate: RSA 2048, with the usages
// that Configuration Manager clients write (wire.md 5) and client
// authentication, so that TLS stacks present it. Valid a hundred years: it
// proves its key and nothing else.
func NewSelfSigned(commonName string, now time.Time) (tls.Certificate, error) {
	return selfSigned(&x509.Certificate{
		Subject:            pkix.Name{CommonName: commonName},
		NotAfter:           now.AddDate(100, 0, 0),
		KeyUsage:           x509.KeyUsageDigitalSignature | x509.KeyUsageDataEncipherment,
		ExtKeyUsage:        []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{oidSMSEncryption, oidSMSSigning},
	}, now)
}

// NewTokenSigningCertificate makes the key that signs site tokens: RSA 2048,
// self-signed, valid ten years.
func NewTokenSigningCertificate(commonName string, now time.Time) (tls.Certificate, error) {
	return selfSigned(&x509.Certificate{
		Subject:  pkix.Name{CommonName: commonName},
		NotAfter: now.AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}, now)
}

func selfSigned(t *x509.Certificate, now time.Time) (tls.Certificate, error) {
	key, err := newKey(RSA2048)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make key for %s: %w", t.Subject.CommonName, err)
	}
	t.SerialNumber = newSerial()
	t.NotBefore = now.Add(-backdate)
	cert, err := sign(t, t, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("sign certificate for %s: %w", t.Subject.CommonName, err)
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}, nil
}

// backdate is how long before its making a certificate's validity starts,
// because clocks differ.
const backdate = time.Hour

// limit keeps a certificate below a within a's validity, and names a's
// revocation list.
func (a *Authority) limit(t *x509.Certificate) {
	if ca := a.chain[0]; t.NotAfter.After(ca.NotAfter) {
		t.NotAfter = ca.NotAfter
	}
	if a.crlURL != "" {
		t.CRLDistributionPoints = []string{a.crlURL}
	}
}

func sign(t, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func newKey(t KeyType) (crypto.Signer, error) {
	if t == RSA2048 {
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// newSerial returns 127 random bits: positive, and never zero in practice.
func newSerial() *big.Int {
	var b [16]byte
	rand.Read(b[:])
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b[:])
}

func selfIssued(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, c.RawIssuer) }
