package pki

import (
	"crypto/tls"
	"crypto/x509"

	"github.com/opencmg/opencmg"
)

// TunnelServerTLS is for a gateway instance: TLS 1.3, and a peer must be a
// connection point of the site. Whether its connection ID is registered is for
// the caller to ask with [PeerConnectionID]. The caller may set NextProtos.
func TunnelServerTLS(siteCA *x509.Certificate, cert tls.Certificate, site opencmg.SiteCode) *tls.Config {
	return nil
}

// TunnelClientTLS is for a connection point: TLS 1.3, and the peer must be that
// instance of that gateway and nobody else; host names play no part. The caller
// may set ServerName (only sent as SNI) and NextProtos. A wrong peer is a
// [*PeerError].
func TunnelClientTLS(siteCA *x509.Certificate, cert tls.Certificate, site opencmg.SiteCode, gateway string, instance int) *tls.Config {
	return nil
}

// A PeerError says that the other side of a TLS connection is not who it must
// be.
type PeerError struct {
	Want, Subject, Issuer string
	// Foreign means that the certificate does not come from the site CA: a
	// wrong address, or somebody inspecting TLS on the way.
	Foreign bool
	Err     error
}

// Error says who was expected and who answered.
func (e *PeerError) Error() string { return "" }

// Unwrap returns the cause.
func (e *PeerError) Unwrap() error { return e.Err }

// PeerURI returns the first site identity of the peer's certificate, empty
// without one. It means something only on a connection made with one of this
// package's configurations.
func PeerURI(cs tls.ConnectionState) string { return "" }

// PeerConnectionID returns the connection ID of the connection point at the
// other end of a connection made with [TunnelServerTLS].
func PeerConnectionID(cs tls.ConnectionState, site opencmg.SiteCode) (string, bool) { return "", false }

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

// RoleClientTLS is for a connection point that calls a role.
func RoleClientTLS(r RoleTLS) *tls.Config { return nil }

// RoleServerTLS is for a role: TLS 1.2 or newer, asks every caller for a
// certificate and takes any or none. [PeerVerifier] tells connection points
// from others.
func RoleServerTLS(getCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return nil
}

// A PeerVerifier tells connection points of a site from other callers.
type PeerVerifier struct{}

// NewPeerVerifier makes a verifier.
func NewPeerVerifier(siteCA *x509.Certificate, site opencmg.SiteCode) *PeerVerifier {
	return &PeerVerifier{}
}

// ConnectionPoint reports whether the peer is a connection point of the site,
// and its connection ID. The answer is cached per certificate.
func (v *PeerVerifier) ConnectionPoint(cs *tls.ConnectionState) (connectionID string, ok bool) {
	return "", false
}
