// Package gateway is one instance of a cloud management gateway: the edge that
// clients on the internet reach.
//
// A [Server] accepts clients on one TLS port and tunnels from connection points
// on that port or on ports of their own. For each request it finds the
// published endpoint, authenticates the caller, and passes the request down a
// tunnel to a connection point of the role's site. What it publishes and whom
// it believes comes from the signed published configuration, which any
// connection point delivers over its tunnel; the last one is kept in the state
// directory and serves from the next start on.
//
// An instance stores nothing about clients. It does not choose its own name,
// obtain its server certificate, or write log files: the command does that.
package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/opencmg/opencmg"
)

// A Config says which instance a [Server] is. It holds what the bootstrap
// document says; everything else comes with the published configuration.
type Config struct {
	// Gateway is the name of the gateway, as in the published configuration
	// and in the tunnel certificate.
	Gateway string
	// ServiceName is the public DNS name that clients use.
	ServiceName string
	// Instance is the number of this instance, from 0.
	Instance int
	// Site is the site whose CA signs tunnels and configurations.
	Site opencmg.SiteCode
	// SiteCA is the certificate of the site CA.
	SiteCA *x509.Certificate
	// TunnelCertificate is this instance's certificate of the site CA. Its
	// URI is opencmg.GatewayInstanceURI.
	TunnelCertificate tls.Certificate
	// GetCertificate returns the server authentication certificate. It is
	// called for every handshake, so another one may take its place at any
	// time.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// StateDir keeps the last published configuration and the CRLs; it must
	// exist. Empty keeps nothing.
	StateDir string
	// HTTP fetches CRLs and the signing keys of Entra tenants; nil means a
	// client with a timeout of 15 s.
	HTTP *http.Client
	// Log receives records; nil discards them.
	Log *slog.Logger
	// Registry receives the metrics; nil means one of the server's own.
	Registry *prometheus.Registry
}

// Listeners are the sockets that [Server.Serve] serves and finally closes. Only
// HTTPS must be set.
type Listeners struct {
	// HTTPS takes clients and, by ALPN, tunnels over HTTPS.
	HTTPS net.Listener
	// TunnelTCP takes tunnels over TCP-TLS (documented port 10140 + instance).
	TunnelTCP net.Listener
	// TunnelHTTPS takes tunnels over HTTPS on their own port (documented port
	// 10124 + instance).
	TunnelHTTPS net.Listener
	// Private serves /metrics, /livez, /readyz and /explain. Never expose it
	// to the internet.
	Private net.Listener
}

// A Server is one gateway instance.
type Server struct {
	cfg Config
	log *slog.Logger
}

// New checks the configuration and loads the last published configuration from
// the state directory. A damaged one is reported in the log and ignored; the
// next connection point brings another.
func New(cfg Config) (*Server, error) {
	s := &Server{cfg: cfg, log: cfg.Log}
	return s, nil
}

// Serve accepts clients and tunnels until ctx ends, then drains: it stops
// accepting, tells the tunnels, lets requests in flight finish for a limited
// time, and closes. It returns when everything it started has ended. Serve may
// be called once.
func (s *Server) Serve(ctx context.Context, l Listeners) error {
	return errors.New("gateway: not yet built")
}
