package opencmg

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A PublishedConfiguration is everything a gateway instance knows beyond its
// bootstrap document. The site signs it with a growing version; any connection
// point delivers it over the tunnel; an instance verifies it, applies it as a
// whole and keeps it on disk. An older version never replaces a newer one.
type PublishedConfiguration struct {
	// Version grows with every change. An instance refuses one that is not
	// greater than its own.
	Version uint64    `json:"version"`
	Issued  time.Time `json:"issued"`
	// Gateway is the name of the gateway this configuration is for.
	Gateway     string   `json:"gateway"`
	Site        SiteCode `json:"site"`
	ServiceName string   `json:"serviceName"`
	Instances   int      `json:"instances"`

	Roles            []PublishedRole             `json:"roles"`
	ConnectionPoints []RegisteredConnectionPoint `json:"connectionPoints"`
	Certificates     CertificateSettings         `json:"certificates"`
	TokenIssuers     []TokenIssuer               `json:"tokenIssuers,omitempty"`
	BlockedTokens    []string                    `json:"blockedTokens,omitempty"` // token IDs
	Tenants          []Tenant                    `json:"tenants,omitempty"`
	// Drain lists instances that are about to go: they send their clients to
	// others, and the load balancer is told to.
	Drain  []int       `json:"drain,omitempty"`
	TLS    TLSSettings `json:"tls"`
	Limits Limits      `json:"limits"`
	// ServerCertificate is the lower-case hexadecimal SHA-256 thumbprint of the
	// server authentication certificate that should be in force. An instance
	// that takes its certificate from a key vault looks there when it has
	// another one; empty means that nothing is said.
	ServerCertificate string `json:"serverCertificate,omitempty"`
	// Challenges are what a certification authority will look for to see that
	// ServiceName is ours, while a certificate is being obtained.
	Challenges []ACMEChallenge `json:"challenges,omitempty"`
}

// A PublishedRole is a site role that internet clients may reach.
type PublishedRole struct {
	ID   RoleID   `json:"id"`
	Site SiteCode `json:"site"` // requests go to a connection point of this site
	// Kind is "management-point", "software-update-point" or "service".
	Kind string `json:"kind"`
	Name string `json:"name"` // for people and logs
	// Prefix is the external path of a service, such as "/wiki/". The other
	// kinds are reached below [MutualAuthPrefix] and [ServerAuthPrefix]
	// followed by their ID, and leave it empty.
	Prefix    string     `json:"prefix,omitempty"`
	Endpoints []Endpoint `json:"endpoints"`
}

// The kinds of published roles.
const (
	KindManagementPoint     = "management-point"
	KindSoftwareUpdatePoint = "software-update-point"
	KindService             = "service"
)

// An Endpoint is one published path of a role. What no endpoint names does not
// exist on the internet.
type Endpoint struct {
	// Name appears in traffic counts and logs, e.g. "CCM_STS".
	Name string `json:"name"`
	// Path is relative to the role, without a leading slash, e.g. "SMS_MP" or
	// "ccm_system/request". It publishes that path and everything below it;
	// empty publishes the whole role. Matched without regard to case, the
	// longest path first.
	Path string `json:"path"`
	// Auth lists the accepted authentication modes. Below
	// [MutualAuthPrefix] only AuthPKI counts, below [ServerAuthPrefix] only
	// the token modes do; [AuthNone] opens the endpoint to everybody.
	Auth []AuthMode `json:"auth"`
	// Methods lists the accepted methods, in capitals.
	Methods []string `json:"methods"`
	// MaxContentLength bounds the request body in bytes; 0 means that the
	// endpoint takes no body.
	MaxContentLength int64 `json:"maxContentLength"`
	// Hold marks an endpoint whose requests stay open until there is
	// something to say (client notification); ResponseTimeout does not end
	// them.
	Hold bool `json:"hold,omitempty"`
	// ResponseTimeout bounds the wait for the role's answer, in seconds;
	// 0 means Limits.ResponseTimeout.
	ResponseTimeout int `json:"responseTimeout,omitempty"`
}

// A RegisteredConnectionPoint may open tunnels to the gateway.
type RegisteredConnectionPoint struct {
	Name         string   `json:"name"`
	ConnectionID string   `json:"connectionId"`
	Site         SiteCode `json:"site"`
}

// CertificateSettings say which client certificates are accepted.
type CertificateSettings struct {
	// Roots and Intermediates are PEM certificates, one each.
	Roots         []string `json:"roots,omitempty"`
	Intermediates []string `json:"intermediates,omitempty"`
	// TrustList, when not empty, narrows Roots to the certificates with these
	// lower-case hexadecimal SHA-256 thumbprints (certificate trust list,
	// cmg-behaviour S1).
	TrustList []string `json:"trustList,omitempty"`
	// CheckRevocation turns on revocation checking by CRL (G32).
	CheckRevocation bool `json:"checkRevocation"`
	// CRLUnreachable says what to do when no CRL can be had at all: "refuse"
	// (default) or "accept". A cached CRL past its nextUpdate serves for
	// CRLGrace seconds more in either case.
	CRLUnreachable string `json:"crlUnreachable,omitempty"`
	CRLGrace       int    `json:"crlGrace,omitempty"`
	// RevocationLists are fetched before the first certificate comes that
	// names them, so that an instance that has just started does not depend on
	// the list's server at that moment.
	RevocationLists []RevocationList `json:"revocationLists,omitempty"`
	// Blocked lists lower-case hexadecimal SHA-256 thumbprints of client
	// certificates that the administrator blocked.
	Blocked []string `json:"blocked,omitempty"`
}

// A RevocationList is where a certification authority publishes its list, as
// its certificates' CRL distribution points say.
type RevocationList struct {
	// Issuer is the lower-case hexadecimal SHA-256 thumbprint of one of the
	// Roots or Intermediates.
	Issuer string `json:"issuer"`
	URL    string `json:"url"` // http or https
}

// A TokenIssuer signs site tokens: the site's own token-signing key, or an
// imported token-signing certificate of an existing Configuration Manager
// site.
type TokenIssuer struct {
	// Certificate is the PEM certificate of the signing key; its SHA-1
	// thumbprint is the tokens' x5t.
	Certificate string `json:"certificate"`
	Issuer      string `json:"issuer"`   // expected iss
	Audience    string `json:"audience"` // expected aud
	// AllowUnbound accepts tokens without a proof key (cnf). Only for
	// imported issuers; bulk registration tokens are never bound.
	AllowUnbound bool `json:"allowUnbound,omitempty"`
}

// A Tenant is a Microsoft Entra tenant whose tokens the gateway accepts and
// that AADAuthInfo tells clients about.
type Tenant struct {
	ID          string `json:"id"` // GUID
	Name        string `json:"name,omitempty"`
	ClientAppID string `json:"clientAppId"`
	// ResourceURI is the server app's identifier URI, which clients ask
	// tokens for. Audiences are what tokens may carry in aud; empty means
	// ResourceURI.
	ResourceURI string   `json:"resourceUri"`
	Audiences   []string `json:"audiences,omitempty"`
	// Issuers are the accepted iss values (version 1 and version 2).
	Issuers []string `json:"issuers"`
	// Authority is the base URL of OpenID Connect discovery.
	Authority string `json:"authority"`
	// Disabled stops authentication for this tenant and hides it.
	Disabled bool `json:"disabled,omitempty"`
}

// TLSSettings concern the client side of the gateway.
type TLSSettings struct {
	// MinVersion is "1.2" (default) or "1.3".
	MinVersion string `json:"minVersion,omitempty"`
}

// Limits bound what clients may use. Zero means the default.
type Limits struct {
	MaxHeaderBytes  int `json:"maxHeaderBytes,omitempty"`  // request head; default 32,768
	HeaderTimeout   int `json:"headerTimeout,omitempty"`   // seconds to receive a head; default 15
	IdleTimeout     int `json:"idleTimeout,omitempty"`     // seconds between requests; default 120
	BodyTimeout     int `json:"bodyTimeout,omitempty"`     // seconds without body progress; default 60
	ResponseTimeout int `json:"responseTimeout,omitempty"` // seconds for a role's answer; default 100
	MaxConnections  int `json:"maxConnections,omitempty"`  // client connections at once; default 200,000
	MaxRequests     int `json:"maxRequests,omitempty"`     // requests in flight at once; default 100,000
}

// Methods that may be published (cmg-behaviour G24, wire.md 1.2).
var publishableMethods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CCM_POST", "BITS_POST", "PROPFIND"}

// Validate checks the whole configuration; its error names the first wrong
// place.
func (c *PublishedConfiguration) Validate() error {
	if c.Version == 0 {
		return Errorf(Invalid, "published configuration: version must be at least 1")
	}
	if c.Gateway == "" || c.ServiceName == "" {
		return Errorf(Invalid, "published configuration: gateway and service name must be set")
	}
	if err := c.Site.Validate(); err != nil {
		return fmt.Errorf("published configuration: %w", err)
	}
	if c.Instances < 1 || c.Instances > MaxInstances {
		return Errorf(Invalid, "published configuration: instances: must be 1 to %d, is %d", MaxInstances, c.Instances)
	}
	seen := map[string]bool{}
	for i := range c.Roles {
		r := &c.Roles[i]
		if err := r.validate(); err != nil {
			return fmt.Errorf("published configuration: role %s: %w", r.ID, err)
		}
		for _, key := range []string{"id " + string(r.ID), "prefix " + strings.ToLower(r.Prefix)} {
			if key == "prefix " {
				continue
			}
			if seen[key] {
				return Errorf(Conflict, "published configuration: two roles have the same %s", key)
			}
			seen[key] = true
		}
	}
	for _, p := range c.ConnectionPoints {
		if p.ConnectionID == "" || p.Name == "" {
			return Errorf(Invalid, "published configuration: connection point %q: name and connection ID must be set", p.Name)
		}
	}
	for _, t := range c.Tenants {
		if !IsGUID(t.ID) {
			return Errorf(Invalid, "published configuration: tenant %q: the ID must be a GUID", t.ID)
		}
		if !t.Disabled && (len(t.Issuers) == 0 || t.Authority == "" || (t.ResourceURI == "" && len(t.Audiences) == 0)) {
			return Errorf(Invalid, "published configuration: tenant %s: issuers, authority and resource URI must be set", t.ID)
		}
	}
	if len(c.Challenges) > MaxChallenges {
		return Errorf(Invalid, "published configuration: challenges: %d are more than %d", len(c.Challenges), MaxChallenges)
	}
	for _, ch := range c.Challenges {
		if err := ch.Validate(); err != nil {
			return fmt.Errorf("published configuration: %w", err)
		}
	}
	if v := c.ServerCertificate; v != "" && !thumbprintPattern.MatchString(v) {
		return Errorf(Invalid, "published configuration: serverCertificate %q: must be a SHA-256 thumbprint of 64 lower-case hexadecimal digits", v)
	}
	if v := c.TLS.MinVersion; v != "" && v != "1.2" && v != "1.3" {
		return Errorf(Invalid, "published configuration: tls.minVersion: must be 1.2 or 1.3, is %q", v)
	}
	if v := c.Certificates.CRLUnreachable; v != "" && v != "refuse" && v != "accept" {
		return Errorf(Invalid, "published configuration: certificates.crlUnreachable: must be refuse or accept, is %q", v)
	}
	return nil
}

var thumbprintPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// MaxInstances is the largest number of instances of one gateway
// (cmg-behaviour G1).
const MaxInstances = 16

func (r *PublishedRole) validate() error {
	if err := r.ID.Validate(); err != nil {
		return err
	}
	if err := r.Site.Validate(); err != nil {
		return err
	}
	switch r.Kind {
	case KindManagementPoint, KindSoftwareUpdatePoint:
		if r.Prefix != "" {
			return Errorf(Invalid, "a %s has no prefix: it is reached by its role ID", r.Kind).About("prefix")
		}
	case KindService:
		p := strings.ToLower(r.Prefix)
		if len(p) < 2 || p[0] != '/' || p[len(p)-1] != '/' || strings.ContainsAny(p, "%?#\\ ") || strings.Contains(p, "//") || strings.Contains(p, "/.") {
			return Errorf(Invalid, "prefix %q: must start and end with a slash and name a plain path, such as /wiki/", r.Prefix).About("prefix")
		}
		if strings.HasPrefix(p, "/ccm_proxy_") || strings.HasPrefix(p, "/downloadrestservice.svc") {
			return Errorf(Invalid, "prefix %q: is reserved for Configuration Manager clients", r.Prefix).About("prefix")
		}
	default:
		return Errorf(Invalid, "kind %q: must be %s, %s or %s", r.Kind, KindManagementPoint, KindSoftwareUpdatePoint, KindService).About("kind")
	}
	paths := map[string]bool{}
	for i := range r.Endpoints {
		e := &r.Endpoints[i]
		if err := e.validate(); err != nil {
			return fmt.Errorf("endpoint %q: %w", e.Name, About(fmt.Sprintf("endpoints.%d", i), err))
		}
		if key := strings.ToLower(e.Path); paths[key] {
			return Errorf(Conflict, "endpoint %q: path %q is published twice", e.Name, e.Path).About(fmt.Sprintf("endpoints.%d.path", i))
		} else {
			paths[key] = true
		}
	}
	return nil
}

func (e *Endpoint) validate() error {
	if e.Name == "" {
		return Errorf(Invalid, "name must be set").About("name")
	}
	lower := strings.ToLower(e.Path)
	// Windows-authenticated and alternate endpoints answer without a client
	// certificate (wire.md 1.2), so nothing may put them on the internet.
	first, _, _ := strings.Cut(lower, "/")
	if strings.HasSuffix(first, "_windowsauth") || strings.HasSuffix(first, "_altauth") {
		return Errorf(Forbidden, "path %q: *_WindowsAuth and *_AltAuth are never published", e.Path).About("path")
	}
	if strings.HasPrefix(lower, "/") || strings.ContainsAny(lower, "%?#\\ ") || strings.Contains(lower, "//") || slices.ContainsFunc(strings.Split(lower, "/"), func(s string) bool { return s == "." || s == ".." }) {
		return Errorf(Invalid, "path %q: must be a plain relative path", e.Path).About("path")
	}
	if len(e.Auth) == 0 {
		return Errorf(Invalid, "auth must name at least one authentication mode; use none for a service that authenticates by itself").About("auth")
	}
	for _, m := range e.Auth {
		if !m.Valid() {
			return Errorf(Invalid, "auth %q: is not a known authentication mode", m).About("auth")
		}
	}
	if len(e.Methods) == 0 {
		return Errorf(Invalid, "methods must name at least one method").About("methods")
	}
	for _, m := range e.Methods {
		if !slices.Contains(publishableMethods, m) {
			return Errorf(Invalid, "method %q: can not be published; known are %s", m, strings.Join(publishableMethods, ", ")).About("methods")
		}
	}
	if e.MaxContentLength < 0 {
		return Errorf(Invalid, "maxContentLength must not be negative").About("maxContentLength")
	}
	return nil
}

// SoftwareUpdatePointEndpoints are what is published of a software update point
// by default: the web services of Windows Server Update Services and its content
// (wire.md 1.1 and 10.2).
func SoftwareUpdatePointEndpoints() []Endpoint {
	const mib = 1 << 20
	auth := []AuthMode{AuthPKI, AuthEntra, AuthCCMToken, AuthClientToken}
	soap := []string{"GET", "HEAD", "POST"}
	return []Endpoint{
		{Name: "ClientWebService", Path: "ClientWebService", Auth: auth, Methods: soap, MaxContentLength: 16 * mib},
		{Name: "SimpleAuthWebService", Path: "SimpleAuthWebService", Auth: auth, Methods: soap, MaxContentLength: mib},
		{Name: "ReportingWebService", Path: "ReportingWebService", Auth: auth, Methods: soap, MaxContentLength: 16 * mib},
		{Name: "Content", Path: "Content", Auth: auth, Methods: []string{"GET", "HEAD"}},
		{Name: "SelfUpdate", Path: "SelfUpdate", Auth: auth, Methods: []string{"GET", "HEAD"}},
	}
}

// AdminServiceEndpoints publish the administration service, for administrators
// with an Entra account (cmg-behaviour 11.5).
func AdminServiceEndpoints() []Endpoint {
	return []Endpoint{
		{Name: "AdminService", Path: "AdminService", Auth: []AuthMode{AuthEntra}, Methods: []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}, MaxContentLength: 4 << 20},
	}
}

// ManagementPointEndpoints are the endpoints that switching on "Allow cloud
// management gateway traffic" publishes for a management point (wire.md 1.2).
// The limits are choices, see docs/decisions.md.
func ManagementPointEndpoints() []Endpoint {
	const kib, mib, gib = 1 << 10, 1 << 20, 1 << 30
	registered := []AuthMode{AuthEntra, AuthCCMToken, AuthClientToken}
	both := append([]AuthMode{AuthPKI}, registered...)
	registration := append([]AuthMode{AuthBulkToken}, registered...)
	get := []string{"GET", "HEAD"}
	return []Endpoint{
		{Name: "CCM_STS", Path: "CCM_STS", Auth: both, Methods: []string{"GET", "POST"}, MaxContentLength: 64 * kib},
		{Name: "ccm_system", Path: "ccm_system", Auth: []AuthMode{AuthPKI}, Methods: []string{"CCM_POST"}, MaxContentLength: 16 * mib},
		{Name: "ccm_system_tokenauth", Path: "ccm_system_tokenauth", Auth: registration, Methods: []string{"CCM_POST"}, MaxContentLength: 16 * mib},
		{Name: "ccm_incoming", Path: "ccm_incoming", Auth: both, Methods: []string{"BITS_POST", "CCM_POST", "POST"}, MaxContentLength: 2 * gib},
		{Name: "SMS_MP", Path: "SMS_MP", Auth: both, Methods: get},
		{Name: "CCM_Client", Path: "CCM_Client", Auth: append([]AuthMode{AuthPKI}, registration...), Methods: []string{"GET", "HEAD", "PROPFIND"}, MaxContentLength: 64 * kib},
		{Name: "BGB", Path: "BGB", Auth: both, Methods: []string{"CCM_POST", "POST"}, MaxContentLength: 256 * kib, Hold: true},
	}
}
