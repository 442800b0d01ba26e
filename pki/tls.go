package pki

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

// TunnelServerTLS is for a gateway instance: TLS 1.3, and the peer must be a
// connection point of the site. Whether its connection ID is registered is for
// the caller to ask with [PeerConnectionID]. The caller may set NextProtos. A
// wrong peer is a [*PeerError].
func TunnelServerTLS(siteCA *x509.Certificate, cert tls.Certificate, site opencmg.SiteCode) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(siteCA)
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{cert},
		// Any certificate gets as far as VerifyConnection, which makes the
		// whole check and can say what is wrong with it.
		ClientAuth:             tls.RequireAnyClientCert,
		ClientCAs:              roots, // names the CA in the certificate request
		SessionTicketsDisabled: true,  // tunnels live long; a ticket would outlive a certificate
		VerifyConnection: func(cs tls.ConnectionState) error {
			want := "a connection point of site " + string(site)
			if err := verifyPeer(cs, siteCA, x509.ExtKeyUsageClientAuth, want); err != nil {
				return err
			}
			if _, ok := connectionID(cs.PeerCertificates[0], site); !ok {
				return wrongName(cs.PeerCertificates[0], want)
			}
			return nil
		},
	}
}

// TunnelClientTLS is for a connection point: TLS 1.3, and the peer must be that
// instance of that gateway and nobody else; host names play no part. The caller
// may set ServerName, which is only sent as SNI, and NextProtos. A wrong peer is
// a [*PeerError].
func TunnelClientTLS(siteCA *x509.Certificate, cert tls.Certificate, site opencmg.SiteCode, gateway string, instance int) *tls.Config {
	uri := opencmg.GatewayInstanceURI(site, gateway, instance)
	return expectServer(siteCA, cert, uri, fmt.Sprintf("instance %d of gateway %s", instance, gateway))
}

// RoleTLS says how a connection point reaches a role by HTTPS.
type RoleTLS struct {
	// Certificate is presented when the role asks for one; may be empty.
	Certificate tls.Certificate
	// SiteCA, Site and Role: the role has a certificate of the site CA with
	// its own identity, and host names play no part.
	SiteCA *x509.Certificate
	Site   opencmg.SiteCode
	Role   opencmg.RoleID
	// For a role with a certificate of somebody else leave SiteCA nil. Roots
	// are the accepted roots (nil: the system's), ServerName is the name to
	// check (empty: the dialled one).
	Roots      *x509.CertPool
	ServerName string
}

// RoleClientTLS is for a connection point that calls a role: TLS 1.3 for a role
// of the site CA, TLS 1.2 or newer for any other.
func RoleClientTLS(r RoleTLS) *tls.Config {
	if r.SiteCA != nil {
		return expectServer(r.SiteCA, r.Certificate, opencmg.RoleURI(r.Site, r.Role), "role "+string(r.Role)+" of site "+string(r.Site))
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: r.Roots, ServerName: r.ServerName}
	presentAlways(c, r.Certificate)
	return c
}

// RoleServerTLS is for a role: TLS 1.2 or newer, asks every caller for a
// certificate and takes any or none. [PeerVerifier] tells connection points
// from others.
func RoleServerTLS(getCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: getCertificate,
		ClientAuth:     tls.RequestClientCert,
	}
}

// A PeerVerifier tells connection points of a site from other callers. It is
// safe for concurrent use.
type PeerVerifier struct {
	siteCA *x509.Certificate
	site   opencmg.SiteCode
	seen   *boundedCache[[sha256.Size]byte, seenPeer]
}

type seenPeer struct {
	id                  string
	notBefore, notAfter time.Time
}

// NewPeerVerifier makes a verifier.
func NewPeerVerifier(siteCA *x509.Certificate, site opencmg.SiteCode) *PeerVerifier {
	return &PeerVerifier{siteCA: siteCA, site: site, seen: newBoundedCache[[sha256.Size]byte, seenPeer](1024)}
}

// ConnectionPoint reports whether the peer of a finished handshake is a
// connection point of the site, and its connection ID. The answer is cached per
// certificate.
func (v *PeerVerifier) ConnectionPoint(cs *tls.ConnectionState) (id string, ok bool) {
	if cs == nil || !cs.HandshakeComplete || len(cs.PeerCertificates) == 0 {
		return "", false
	}
	now := time.Now()
	leaf := cs.PeerCertificates[0]
	key := sha256.Sum256(leaf.Raw)
	if p, ok := v.seen.get(key); ok && !now.Before(p.notBefore) && !now.After(p.notAfter) {
		return p.id, true
	}
	id, ok = connectionID(leaf, v.site)
	if !ok || verifyPeer(*cs, v.siteCA, x509.ExtKeyUsageClientAuth, "a connection point") != nil {
		return "", false // not remembered: strangers must not fill the cache
	}
	v.seen.put(key, seenPeer{id, leaf.NotBefore, leaf.NotAfter})
	return id, true
}

// A PeerError says that the other side of a TLS connection is not who it must
// be.
type PeerError struct {
	Want            string // who it must be, for people
	Subject, Issuer string // of the certificate that was presented
	URIs            []string
	// Foreign means that the certificate does not come from the site CA: a
	// wrong address, or somebody inspecting TLS on the way.
	Foreign bool
	Err     error
}

// Error says who was expected, who answered, and what that hints at.
func (e *PeerError) Error() string {
	switch {
	case e.Subject == "" && e.Issuer == "":
		return fmt.Sprintf("peer must be %s, but presented no certificate", e.Want)
	case e.Foreign:
		return fmt.Sprintf("peer must be %s, but its certificate %q was issued by %q and not by the site CA: "+
			"the address is wrong, or a device on the way inspects TLS; exempt this connection from inspection", e.Want, e.Subject, e.Issuer)
	case e.Err != nil:
		return fmt.Sprintf("peer must be %s, but its certificate %q is not acceptable: %v", e.Want, e.Subject, e.Err)
	}
	return fmt.Sprintf("peer must be %s, but its certificate of the site CA names %q", e.Want, e.URIs)
}

// Unwrap returns the cause.
func (e *PeerError) Unwrap() error { return e.Err }

// PeerURI returns the first site identity of the peer's certificate, empty
// without one. It means something only on a connection made with one of this
// package's configurations.
func PeerURI(cs tls.ConnectionState) string {
	if len(cs.PeerCertificates) == 0 {
		return ""
	}
	for _, u := range cs.PeerCertificates[0].URIs {
		if u.Scheme == "opencmg" {
			return u.String()
		}
	}
	return ""
}

// PeerConnectionID returns the connection ID of the connection point at the
// other end of a connection made with [TunnelServerTLS].
func PeerConnectionID(cs tls.ConnectionState, site opencmg.SiteCode) (string, bool) {
	if len(cs.PeerCertificates) == 0 {
		return "", false
	}
	return connectionID(cs.PeerCertificates[0], site)
}

// connectionID reads the connection ID from a certificate's name. A certificate
// with several is nobody's.
func connectionID(cert *x509.Certificate, site opencmg.SiteCode) (id string, ok bool) {
	prefix := opencmg.ConnectionPointURI(site, "")
	for _, u := range cert.URIs {
		rest, found := strings.CutPrefix(u.String(), prefix)
		if !found {
			continue
		}
		s, err := url.PathUnescape(rest)
		// Building the name again refuses a second spelling of it.
		if err != nil || s == "" || ok || opencmg.ConnectionPointURI(site, s) != u.String() {
			return "", false
		}
		id, ok = s, true
	}
	return id, ok
}

// expectServer accepts only a server certificate of the site CA with that URI.
func expectServer(siteCA *x509.Certificate, cert tls.Certificate, uri, want string) *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS13,
		// The standard check asks for a host name. VerifyConnection replaces
		// it as a whole: chain, validity, usage and name.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if err := verifyPeer(cs, siteCA, x509.ExtKeyUsageServerAuth, want); err != nil {
				return err
			}
			leaf := cs.PeerCertificates[0]
			if !slices.ContainsFunc(leaf.URIs, func(u *url.URL) bool { return u.String() == uri }) {
				return wrongName(leaf, want)
			}
			return nil
		},
	}
	presentAlways(c, cert)
	return c
}

// presentAlways presents the certificate whatever CAs the server names: what
// it does not like it should refuse, with a reason.
func presentAlways(c *tls.Config, cert tls.Certificate) {
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
}

func verifyPeer(cs tls.ConnectionState, siteCA *x509.Certificate, usage x509.ExtKeyUsage, want string) error {
	if len(cs.PeerCertificates) == 0 {
		return &PeerError{Want: want}
	}
	leaf := cs.PeerCertificates[0]
	roots, above := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(siteCA)
	for _, c := range cs.PeerCertificates[1:] {
		above.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: above, CurrentTime: time.Now(), KeyUsages: []x509.ExtKeyUsage{usage}})
	if err == nil {
		return nil
	}
	var unknown x509.UnknownAuthorityError
	return &PeerError{Want: want, Subject: leaf.Subject.String(), Issuer: leaf.Issuer.String(), Foreign: errors.As(err, &unknown), Err: err}
}

func wrongName(leaf *x509.Certificate, want string) error {
	e := &PeerError{Want: want, Subject: leaf.Subject.String(), Issuer: leaf.Issuer.String()}
	for _, u := range leaf.URIs {
		e.URIs = append(e.URIs, u.String())
	}
	return e
}
