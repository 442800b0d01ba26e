package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
)

// A SiteFile is what "opencmg publish" reads: one gateway, its connection
// points, and the roles they publish. Relative paths are relative to the file.
type SiteFile struct {
	// Site is the three-character site code. Required.
	Site opencmg.SiteCode `yaml:"site"`
	// Gateway describes the gateway. Required.
	Gateway SiteGateway `yaml:"gateway"`
	// ConnectionPoints lists who may open tunnels. Required.
	ConnectionPoints []SiteConnectionPoint `yaml:"connectionPoints"`
	// Roles lists what is published. Nothing else can be reached.
	Roles []SiteRole `yaml:"roles"`
	// Certificates says which client certificates are accepted; needed by
	// endpoints with auth pki.
	Certificates SiteCertificates `yaml:"certificates,omitempty"`
	// TokenIssuers are token-signing certificates of existing sites to accept
	// besides our own.
	TokenIssuers []SiteTokenIssuer `yaml:"tokenIssuers,omitempty"`
	// BlockedTokens lists the IDs of site tokens that are refused.
	BlockedTokens []string `yaml:"blockedTokens,omitempty"`
	// Tenants lists the Microsoft Entra tenants whose tokens are accepted.
	Tenants []SiteTenant `yaml:"tenants,omitempty"`
	// TLS and Limits concern the client side of the gateway.
	TLS    SiteTLS    `yaml:"tls,omitempty"`
	Limits SiteLimits `yaml:"limits,omitempty"`
}

// SiteGateway describes the gateway of a site file.
type SiteGateway struct {
	Name        string `yaml:"name"`
	ServiceName string `yaml:"serviceName"`
	Instances   int    `yaml:"instances,omitempty"` // default 1
}

// A SiteConnectionPoint is a connection point of a site file.
type SiteConnectionPoint struct {
	Name string `yaml:"name"`
	// ConnectionID is what its certificate says; default is the name.
	ConnectionID string `yaml:"connectionId,omitempty"`
}

// A SiteRole publishes one role.
type SiteRole struct {
	ID   opencmg.RoleID `yaml:"id"`
	Kind string         `yaml:"kind"` // management-point, software-update-point or service
	Name string         `yaml:"name"`
	// Prefix is the external path of a service, such as /wiki/.
	Prefix string `yaml:"prefix,omitempty"`
	// Internal lists the role's URLs inside the network.
	Internal []string `yaml:"internal"`
	// SiteRole marks one of our own management points: the site CA vouches
	// for it, and it is told who is calling.
	SiteRole bool `yaml:"siteRole,omitempty"`
	// CAFile, ServerName, HostHeader and HealthPath are as in the URL mapping.
	CAFile              string `yaml:"caFile,omitempty"`
	ServerName          string `yaml:"serverName,omitempty"`
	HostHeader          string `yaml:"hostHeader,omitempty"`
	HealthPath          string `yaml:"healthPath,omitempty"`
	ClientCertificate   bool   `yaml:"clientCertificate,omitempty"`
	CertificateRequired bool   `yaml:"certificateRequired,omitempty"`
	Identity            bool   `yaml:"identity,omitempty"`
	// Endpoints lists what is published of it; default for a management point
	// is everything that clients need.
	Endpoints []SiteEndpoint `yaml:"endpoints,omitempty"`
}

// A SiteEndpoint publishes one path of a role.
type SiteEndpoint struct {
	Name             string             `yaml:"name"`
	Path             string             `yaml:"path"`             // relative to the role; empty publishes all of it
	Auth             []opencmg.AuthMode `yaml:"auth"`             // pki, entra, ccm-token, client-token, bulk-token, none
	Methods          []string           `yaml:"methods"`          // e.g. GET, HEAD, POST
	MaxContentLength int64              `yaml:"maxContentLength"` // bytes; 0: no body
	Hold             bool               `yaml:"hold,omitempty"`   // requests wait for something to say
	ResponseTimeout  int                `yaml:"responseTimeout,omitempty"`
}

// SiteCertificates are the certificate settings of a site file.
type SiteCertificates struct {
	Roots           []string `yaml:"roots,omitempty"`         // PEM files
	Intermediates   []string `yaml:"intermediates,omitempty"` // PEM files
	TrustList       []string `yaml:"trustList,omitempty"`     // SHA-256 thumbprints
	CheckRevocation *bool    `yaml:"checkRevocation,omitempty"`
	CRLUnreachable  string   `yaml:"crlUnreachable,omitempty"` // refuse (default) or accept
	CRLGrace        int      `yaml:"crlGrace,omitempty"`       // seconds
	Blocked         []string `yaml:"blocked,omitempty"`        // SHA-256 thumbprints
	// RevocationLists are fetched ahead, before a client comes.
	RevocationLists []SiteRevocationList `yaml:"revocationLists,omitempty"`
}

// A SiteRevocationList says where an authority publishes its revocation list.
type SiteRevocationList struct {
	Issuer string `yaml:"issuer"` // PEM file, one of the roots or intermediates
	URL    string `yaml:"url"`
}

// A SiteTokenIssuer is an imported token-signing certificate.
type SiteTokenIssuer struct {
	Certificate  string `yaml:"certificate"` // PEM file
	Issuer       string `yaml:"issuer"`
	Audience     string `yaml:"audience"`
	AllowUnbound bool   `yaml:"allowUnbound,omitempty"`
}

// A SiteTenant is an Entra tenant of a site file.
type SiteTenant struct {
	ID          string   `yaml:"id"`
	Name        string   `yaml:"name,omitempty"`
	ClientAppID string   `yaml:"clientAppId"`
	ResourceURI string   `yaml:"resourceUri"`
	Audiences   []string `yaml:"audiences,omitempty"`
	// Issuers and Authority default to those of the public cloud.
	Issuers   []string `yaml:"issuers,omitempty"`
	Authority string   `yaml:"authority,omitempty"`
	Disabled  bool     `yaml:"disabled,omitempty"`
}

// SiteTLS holds TLS settings of a site file.
type SiteTLS struct {
	MinVersion string `yaml:"minVersion,omitempty"` // "1.2" (default) or "1.3"
}

// SiteLimits bound what clients may use; zero means the default.
type SiteLimits struct {
	MaxHeaderBytes  int `yaml:"maxHeaderBytes,omitempty"`
	HeaderTimeout   int `yaml:"headerTimeout,omitempty"`
	IdleTimeout     int `yaml:"idleTimeout,omitempty"`
	BodyTimeout     int `yaml:"bodyTimeout,omitempty"`
	ResponseTimeout int `yaml:"responseTimeout,omitempty"`
	MaxConnections  int `yaml:"maxConnections,omitempty"`
	MaxRequests     int `yaml:"maxRequests,omitempty"`
}

// compile turns the site file into the two documents, without a version.
func (sf *SiteFile) compile(base string, now time.Time) (*opencmg.PublishedConfiguration, *opencmg.URLMappings, error) {
	if err := sf.Site.Validate(); err != nil {
		return nil, nil, err
	}
	if sf.Gateway.Name == "" || sf.Gateway.ServiceName == "" || len(sf.ConnectionPoints) == 0 {
		return nil, nil, opencmg.Errorf(opencmg.Invalid, "gateway.name, gateway.serviceName and at least one connection point must be set")
	}
	c := &opencmg.PublishedConfiguration{
		Version:     1, // for Validate; the real one comes at the end
		Issued:      now.UTC().Truncate(time.Second),
		Gateway:     sf.Gateway.Name,
		Site:        sf.Site,
		ServiceName: sf.Gateway.ServiceName,
		Instances:   max(sf.Gateway.Instances, 1),
		TLS:         opencmg.TLSSettings(sf.TLS),
		Limits:      opencmg.Limits(sf.Limits),
	}
	for _, p := range sf.ConnectionPoints {
		setDefault(&p.ConnectionID, p.Name)
		if strings.ContainsAny(p.Name, `/\`) {
			return nil, nil, opencmg.Errorf(opencmg.Invalid, "connection point %q: the name must not contain a slash", p.Name)
		}
		c.ConnectionPoints = append(c.ConnectionPoints, opencmg.RegisteredConnectionPoint{Name: p.Name, ConnectionID: p.ConnectionID, Site: sf.Site})
	}
	m := &opencmg.URLMappings{}
	for _, r := range sf.Roles {
		role := opencmg.PublishedRole{ID: r.ID, Site: sf.Site, Kind: r.Kind, Name: r.Name, Prefix: r.Prefix}
		for _, e := range r.Endpoints {
			role.Endpoints = append(role.Endpoints, opencmg.Endpoint(e))
		}
		if len(r.Endpoints) == 0 && r.Kind == opencmg.KindManagementPoint {
			role.Endpoints = opencmg.ManagementPointEndpoints()
		}
		c.Roles = append(c.Roles, role)
		m.Mappings = append(m.Mappings, opencmg.URLMapping{
			Role: r.ID, Name: r.Name, Prefix: r.Prefix, Internal: r.Internal, SiteRole: r.SiteRole,
			CAFile: relativeTo(base, r.CAFile), ServerName: r.ServerName, HostHeader: r.HostHeader, HealthPath: r.HealthPath,
			ClientCertificate: r.ClientCertificate, CertificateRequired: r.CertificateRequired, Identity: r.Identity,
		})
	}
	if err := m.Validate(); err != nil {
		return nil, nil, err
	}
	if err := sf.compileTrust(c, base); err != nil {
		return nil, nil, err
	}
	return c, m, c.Validate()
}

func (sf *SiteFile) compileTrust(c *opencmg.PublishedConfiguration, base string) error {
	s := &c.Certificates
	s.TrustList, s.Blocked = sf.Certificates.TrustList, sf.Certificates.Blocked
	s.CRLUnreachable, s.CRLGrace = sf.Certificates.CRLUnreachable, sf.Certificates.CRLGrace
	s.CheckRevocation = sf.Certificates.CheckRevocation == nil || *sf.Certificates.CheckRevocation
	for _, list := range []struct {
		key   string
		files []string
		to    *[]string
	}{{"roots", sf.Certificates.Roots, &s.Roots}, {"intermediates", sf.Certificates.Intermediates, &s.Intermediates}} {
		for _, f := range list.files {
			certs, err := pki.LoadCertificates(relativeTo(base, f))
			if err != nil {
				return fmt.Errorf("certificates.%s: %w", list.key, err)
			}
			for _, cert := range certs {
				*list.to = append(*list.to, string(pki.EncodeCertificates(cert)))
			}
		}
	}
	for _, l := range sf.Certificates.RevocationLists {
		certs, err := pki.LoadCertificates(relativeTo(base, l.Issuer))
		if err != nil {
			return fmt.Errorf("certificates.revocationLists: %w", err)
		}
		s.RevocationLists = append(s.RevocationLists, opencmg.RevocationList{Issuer: pki.Thumbprint(certs[0]), URL: l.URL})
	}
	// What an instance would refuse must not be published.
	if _, err := pki.NewClientVerifier(*s, pki.NewCRLCache(pki.CRLConfig{}), nil); err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	for _, t := range sf.TokenIssuers {
		certs, err := pki.LoadCertificates(relativeTo(base, t.Certificate))
		if err != nil {
			return fmt.Errorf("tokenIssuers: %w", err)
		}
		c.TokenIssuers = append(c.TokenIssuers, opencmg.TokenIssuer{
			Certificate: string(pki.EncodeCertificates(certs[0])), Issuer: t.Issuer, Audience: t.Audience, AllowUnbound: t.AllowUnbound,
		})
	}
	c.BlockedTokens = sf.BlockedTokens
	for _, t := range sf.Tenants {
		id := strings.ToLower(t.ID)
		if len(t.Issuers) == 0 {
			t.Issuers = []string{"https://sts.windows.net/" + id + "/", "https://login.microsoftonline.com/" + id + "/v2.0"}
		}
		if t.Authority == "" {
			t.Authority = "https://login.microsoftonline.com/" + id + "/v2.0"
		}
		c.Tenants = append(c.Tenants, opencmg.Tenant(t))
	}
	return nil
}
