package opencmg

import (
	"encoding/json"
	"slices"
	"strings"
)

// URLMappings is the document by which the site tells its connection points where
// the published roles are (cmg-behaviour R2). It is replaced as a whole.
type URLMappings struct {
	// Version grows with every change; it is informational.
	Version  uint64       `json:"version,omitempty"`
	Mappings []URLMapping `json:"mappings"`
	// Gateways, when the document has them, replace those of the connection
	// point's own configuration; an empty list means that there is none to
	// serve at present.
	Gateways []GatewayTarget `json:"gateways,omitzero"`
}

// A URLMapping leads from the external URL of one published role to its internal
// URL: everything up to and including the role ID, or the prefix of a service,
// is replaced by the internal root (wire.md 1.1).
type URLMapping struct {
	// Role is the published role's ID.
	Role RoleID `json:"role"`
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
	// ClientCertificate offers a certificate from the connection point's client certificates
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

// ParseURLMappings reads the JSON document and validates it. Unknown keys are
// errors.
func ParseURLMappings(b []byte) (*URLMappings, error) {
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	m := new(URLMappings)
	if err := d.Decode(m); err != nil {
		return nil, Errorf(Invalid, "read URL mappings: %w", err)
	}
	return m, m.Validate()
}

// Validate checks the document; its error names the first wrong place.
func (m *URLMappings) Validate() error {
	seen := map[RoleID]bool{}
	for i := range m.Mappings {
		p := &m.Mappings[i]
		if err := p.Role.Validate(); err != nil {
			return Errorf(Invalid, "URL mapping %d: %w", i+1, err)
		}
		if seen[p.Role] {
			return Errorf(Conflict, "URL mapping of role %s is there twice", p.Role)
		}
		seen[p.Role] = true
		if err := p.validate(); err != nil {
			return Errorf(Invalid, "URL mapping of role %s: %w", p.Role, err)
		}
	}
	return validateTargets(m.Gateways)
}

func (p *URLMapping) validate() error {
	if len(p.Internal) == 0 {
		return Errorf(Invalid, "internal: name at least one URL, such as https://mp1.corp.example").About("internal")
	}
	for i, s := range p.Internal {
		if _, err := ParseInternalURL(s); err != nil {
			return err
		}
		if slices.Contains(p.Internal[:i], s) {
			return Errorf(Conflict, "internal %q: is there twice", s).About("internal")
		}
	}
	if p.Prefix != "" && (p.Prefix[0] != '/' || p.Prefix[len(p.Prefix)-1] != '/') {
		return Errorf(Invalid, "prefix %q: must start and end with a slash", p.Prefix).About("prefix")
	}
	if p.HealthPath != "" && (p.HealthPath[0] != '/' || !plainText(p.HealthPath)) {
		return Errorf(Invalid, "healthPath %q: must be a path that starts with a slash", p.HealthPath).About("healthPath")
	}
	if !plainText(p.HostHeader) {
		return Errorf(Invalid, "hostHeader %q: must be a host name with an optional port", p.HostHeader).About("hostHeader")
	}
	if p.SiteRole && (p.CAFile != "" || p.CA != "" || p.ClientCertificate) {
		return Errorf(Invalid, "siteRole excludes caFile, ca and clientCertificate: the site CA vouches for both ends")
	}
	if p.CAFile != "" && p.CA != "" {
		return Errorf(Invalid, "caFile and ca exclude each other")
	}
	if p.CertificateRequired && !p.ClientCertificate {
		return Errorf(Invalid, "certificateRequired needs clientCertificate")
	}
	if min(p.ConnectTimeout, p.MaxConnections, p.MaxIdle, p.IdleTimeout) < 0 {
		return Errorf(Invalid, "timeouts and limits must not be negative")
	}
	return nil
}

// A GatewayTarget is one gateway that the connection point serves.
type GatewayTarget struct {
	// Name is the gateway's name as in its instances' certificates.
	Name string `json:"name"`
	// ServiceName is the host that the instances are found at by the
	// documented ports (cmg-behaviour G11, G12) unless Instances lists them.
	ServiceName string `json:"serviceName,omitempty"`
	// Count is the expected number of instances; default is what the first
	// instance that answers reports. A larger reported number wins.
	Count int `json:"count,omitempty"`
	// Instances lists addresses that do not follow the documented ports.
	Instances []InstanceAddress `json:"instances,omitempty"`
	// Joins lists where hosts with a join token are expected that are to become
	// instances. While it does and neither Count nor Instances name an
	// instance, none is looked for by the documented ports.
	Joins []JoinAddress `json:"joins,omitempty"`
}

// An InstanceAddress is where one instance of a gateway accepts tunnels. An
// empty address is not tried.
type InstanceAddress struct {
	// Instance is the instance's number from 0, or -1 for an address that is
	// balanced over all instances: it is dialled until every instance that the
	// gateway reports was reached.
	Instance int `json:"instance"`
	// TCPTLS and HTTPS are host:port. TCPTLS is tried first.
	TCPTLS string `json:"tcpTLS,omitempty"`
	HTTPS  string `json:"https,omitempty"`
}

// A JoinAddress is where a host is expected that has a join token.
type JoinAddress struct {
	// TCPTLS and HTTPS are host:port. TCPTLS is tried first.
	TCPTLS string `json:"tcpTLS,omitempty"`
	HTTPS  string `json:"https,omitempty"`
}

// Validate checks what can be checked without a network.
func (t *GatewayTarget) Validate() error {
	if t.Name == "" {
		return Errorf(Invalid, "gateway: name must be set")
	}
	if t.ServiceName == "" && len(t.Instances) == 0 {
		return Errorf(Invalid, "gateway %s: set the service name or the addresses of its instances", t.Name)
	}
	if t.Count < 0 || t.Count > MaxInstances {
		return Errorf(Invalid, "gateway %s: count: must be 1 to %d", t.Name, MaxInstances)
	}
	for i, a := range t.Instances {
		if a.Instance < -1 || a.Instance >= MaxInstances {
			return Errorf(Invalid, "gateway %s: instance %d: must be 0 to %d, or -1 for a balanced address", t.Name, a.Instance, MaxInstances-1)
		}
		if a.TCPTLS == "" && a.HTTPS == "" {
			return Errorf(Invalid, "gateway %s: instance %d: needs an address", t.Name, a.Instance)
		}
		if slices.ContainsFunc(t.Instances[:i], func(b InstanceAddress) bool { return b.Instance == a.Instance }) {
			return Errorf(Conflict, "gateway %s: instance %d is there twice", t.Name, a.Instance)
		}
	}
	for _, a := range t.Joins {
		if a.TCPTLS == "" && a.HTTPS == "" {
			return Errorf(Invalid, "gateway %s: joins: each needs an address", t.Name)
		}
	}
	return nil
}

func validateTargets(targets []GatewayTarget) error {
	for i := range targets {
		if err := targets[i].Validate(); err != nil {
			return err
		}
		if slices.ContainsFunc(targets[:i], func(t GatewayTarget) bool { return t.Name == targets[i].Name }) {
			return Errorf(Conflict, "gateway %s is there twice", targets[i].Name)
		}
	}
	return nil
}
