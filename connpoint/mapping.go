package connpoint

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/opencmg/opencmg"
)

// Mappings is the document by which the site tells its connection points where
// the published roles are (cmg-behaviour R2). It is replaced as a whole.
type Mappings struct {
	// Version grows with every change; it is informational.
	Version  uint64    `json:"version,omitempty"`
	Mappings []Mapping `json:"mappings"`
	// Gateways, when the document has them, replace Config.Gateways; an empty
	// list means that there is none to serve at present.
	Gateways []GatewayTarget `json:"gateways,omitzero"`
}

// A Mapping leads from the external URL of one published role to its internal
// URL: everything up to and including the role ID, or the prefix of a service,
// is replaced by the internal root (wire.md 1.1).
type Mapping struct {
	// Role is the published role's ID.
	Role opencmg.RoleID `json:"role"`
	// Name is for people and logs; default is the first internal host.
	Name string `json:"name,omitempty"`
	// Prefix is the external path of a service, as in its published role;
	// empty for the kinds that are reached by role ID.
	Prefix string `json:"prefix,omitempty"`
	// Internal lists the internal roots, e.g. "https://mp1.corp.example" or
	// "http://wiki:8080/base". Several share the load; one that does not
	// answer leaves the rotation until it does.
	Internal []string `json:"internal"`
	// SiteRole marks a role of our own kind. Its server certificate must be
	// the site CA's for this role ID, it is shown the connection point's own
	// certificate, and it gets the verified identity of the caller. All that
	// needs https; with http (a lab, or a host of its own) only the identity
	// is sent.
	SiteRole bool `json:"siteRole,omitempty"`
	// CAFile holds the PEM certificates that may have issued the server
	// certificate of a role that is not of our kind; default is the system's
	// roots.
	CAFile string `json:"caFile,omitempty"`
	// CA holds the same as text, for a document that comes from elsewhere.
	CA string `json:"ca,omitempty"`
	// ServerName is the name in the server certificate, when it differs from
	// the host in Internal.
	ServerName string `json:"serverName,omitempty"`
	// ClientCertificate offers a certificate from Config.ClientCertificates
	// to a role that is not of our kind. CertificateRequired refuses requests
	// with 403 while there is none that fits (cmg-behaviour C10).
	ClientCertificate   bool `json:"clientCertificate,omitempty"`
	CertificateRequired bool `json:"certificateRequired,omitempty"`
	// Identity sends the verified identity of callers to a role that is not
	// of our kind. Only for services that nobody reaches but through
	// connection points, since they can not tell who wrote the field.
	Identity bool `json:"identity,omitempty"`
	// HostHeader replaces the Host field; default is the internal host.
	HostHeader string `json:"hostHeader,omitempty"`
	// HealthPath, when set, is fetched by GET every five seconds; a host that
	// answers with a status of 500 or more, or not at all, leaves the
	// rotation. Default: hosts are checked by connecting, and only after a
	// failure.
	HealthPath string `json:"healthPath,omitempty"`
	// ConnectTimeout bounds one attempt to connect, in seconds; default 5.
	ConnectTimeout int `json:"connectTimeout,omitempty"`
	// MaxConnections bounds the connections to each internal host; requests
	// above it wait. Default 20,000: a held request needs one.
	MaxConnections int `json:"maxConnections,omitempty"`
	// MaxIdle bounds the idle connections kept per internal host; default 256.
	MaxIdle int `json:"maxIdle,omitempty"`
	// IdleTimeout closes idle connections, in seconds; default 60.
	IdleTimeout int `json:"idleTimeout,omitempty"`
}

// ParseMappings reads the JSON document and validates it. Unknown keys are
// errors.
func ParseMappings(b []byte) (*Mappings, error) {
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	m := new(Mappings)
	if err := d.Decode(m); err != nil {
		return nil, opencmg.Errorf(opencmg.Invalid, "read URL mappings: %w", err)
	}
	return m, m.Validate()
}

// Validate checks the document; its error names the first wrong place.
func (m *Mappings) Validate() error {
	seen := map[opencmg.RoleID]bool{}
	for i := range m.Mappings {
		p := &m.Mappings[i]
		if err := p.Role.Validate(); err != nil {
			return opencmg.Errorf(opencmg.Invalid, "URL mapping %d: %w", i+1, err)
		}
		if seen[p.Role] {
			return opencmg.Errorf(opencmg.Conflict, "URL mapping of role %s is there twice", p.Role)
		}
		seen[p.Role] = true
		if err := p.validate(); err != nil {
			return opencmg.Errorf(opencmg.Invalid, "URL mapping of role %s: %w", p.Role, err)
		}
	}
	return validateTargets(m.Gateways)
}

func (p *Mapping) validate() error {
	if len(p.Internal) == 0 {
		return opencmg.Errorf(opencmg.Invalid, "internal: name at least one URL, such as https://mp1.corp.example")
	}
	for i, s := range p.Internal {
		if _, err := opencmg.ParseInternalURL(s); err != nil {
			return err
		}
		if slices.Contains(p.Internal[:i], s) {
			return opencmg.Errorf(opencmg.Conflict, "internal %q: is there twice", s)
		}
	}
	if p.Prefix != "" && (p.Prefix[0] != '/' || p.Prefix[len(p.Prefix)-1] != '/') {
		return opencmg.Errorf(opencmg.Invalid, "prefix %q: must start and end with a slash", p.Prefix)
	}
	if p.HealthPath != "" && (p.HealthPath[0] != '/' || !plainText(p.HealthPath)) {
		return opencmg.Errorf(opencmg.Invalid, "healthPath %q: must be a path that starts with a slash", p.HealthPath)
	}
	if !plainText(p.HostHeader) {
		return opencmg.Errorf(opencmg.Invalid, "hostHeader %q: must be a host name with an optional port", p.HostHeader)
	}
	if p.SiteRole && (p.CAFile != "" || p.CA != "" || p.ClientCertificate) {
		return opencmg.Errorf(opencmg.Invalid, "siteRole excludes caFile, ca and clientCertificate: the site CA vouches for both ends")
	}
	if p.CAFile != "" && p.CA != "" {
		return opencmg.Errorf(opencmg.Invalid, "caFile and ca exclude each other")
	}
	if p.CertificateRequired && !p.ClientCertificate {
		return opencmg.Errorf(opencmg.Invalid, "certificateRequired needs clientCertificate")
	}
	if min(p.ConnectTimeout, p.MaxConnections, p.MaxIdle, p.IdleTimeout) < 0 {
		return opencmg.Errorf(opencmg.Invalid, "timeouts and limits must not be negative")
	}
	return nil
}

func plainText(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
