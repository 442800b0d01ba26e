package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/connpoint"
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

// Files of a site directory and of the host directories in it.
const (
	siteCAFile     = "site-ca.pem"
	identityCert   = "identity.pem"
	identityKey    = "identity.key"
	publishedFile  = "published.jws"
	mappingsFile   = "mappings.jws"
	tokenCert      = "token-signing.pem"
	tokenKey       = "token-signing.key"
	signingCert    = "configuration-signing.pem"
	signingKey     = "configuration-signing.key"
	versionFile    = "version"
	hierarchyFile  = "hierarchy-id"
	siteCAName     = "site-ca"
	identityTerm   = 2 * 365 * 24 * time.Hour
	identityRenew  = 60 * 24 * time.Hour // made anew when it has less left
	maxVersionText = 20
)

func runPublish(ctx context.Context, e *env, args []string) error {
	fs := newFlags(e, "publish")
	file := fs.String("file", "", "site `file` (see examples/)")
	dir := fs.String("dir", "", "site `directory`: keys and the files for each host; made when missing. Keep it private")
	if err := parseFlags(fs, args, 0); err != nil {
		return err
	}
	if *file == "" || *dir == "" {
		return usagef("publish: --file and --dir are needed")
	}
	var sf SiteFile
	if err := loadYAML(*file, &sf); err != nil {
		return err
	}
	p, err := publishSite(&sf, filepath.Dir(*file), *dir, time.Now())
	if err != nil {
		return fmt.Errorf("publish %s: %w", *file, err)
	}
	fmt.Fprintf(e.stdout, "published version %d of gateway %s\n", p.version, sf.Gateway.Name)
	for _, h := range p.hosts {
		fmt.Fprintf(e.stdout, "  %-34s %s\n", h.dir, h.purpose)
	}
	fmt.Fprintln(e.stderr, "Copy each directory to its host the first time. After a change, copy published.jws and mappings.jws to the connection points: they tell every gateway instance within a second.")
	return nil
}

// A publication is what publishSite made.
type publication struct {
	version uint64
	hosts   []publishedHost
}

type publishedHost struct{ dir, purpose string }

// publishSite signs the site file's content with the next version and makes
// the identities that are missing. Everything is checked before anything is
// written.
func publishSite(sf *SiteFile, base, dir string, now time.Time) (*publication, error) {
	published, mappings, err := sf.compile(base, now)
	if err != nil {
		return nil, err
	}
	keys, err := openSiteKeys(dir, sf.Site, now)
	if err != nil {
		return nil, err
	}
	signer, err := keys.tokenSigner()
	if err != nil {
		return nil, err
	}
	published.TokenIssuers = append([]opencmg.TokenIssuer{signer.TokenIssuer()}, published.TokenIssuers...)
	if published.Version, err = keys.nextVersion(); err != nil {
		return nil, err
	}
	mappings.Version = published.Version
	if err := published.Validate(); err != nil {
		return nil, err
	}
	signed, err := pki.SignConfiguration(published, keys.signing)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(mappings)
	if err != nil {
		return nil, err
	}
	signedMappings, err := pki.SignDocument(pki.KindURLMappings, b, keys.signing)
	if err != nil {
		return nil, err
	}
	p := &publication{version: published.Version}
	if err := keys.saveVersion(p.version); err != nil {
		return nil, err
	}
	for i := range published.Instances {
		h := publishedHost{filepath.Join(dir, fmt.Sprintf("gateway-%d", i)), fmt.Sprintf("identity of gateway instance %d", i)}
		uri := opencmg.GatewayInstanceURI(sf.Site, sf.Gateway.Name, i)
		if err := keys.hostIdentity(h.dir, fmt.Sprintf("%s instance %d", sf.Gateway.Name, i), uri, nil, now); err != nil {
			return nil, err
		}
		p.hosts = append(p.hosts, h)
	}
	for _, r := range sf.Roles {
		if !r.SiteRole {
			continue
		}
		h := publishedHost{filepath.Join(dir, "role-"+string(r.ID)), "identity and token-signing key of " + r.Name}
		if err := keys.hostIdentity(h.dir, r.Name, opencmg.RoleURI(sf.Site, r.ID), hostNames(r.Internal), now); err != nil {
			return nil, err
		}
		if err := keys.copyTokenKeys(h.dir); err != nil {
			return nil, err
		}
		if err := pki.WriteFile(filepath.Join(h.dir, publishedFile), signed, 0o644); err != nil {
			return nil, err
		}
		p.hosts = append(p.hosts, h)
	}
	// The connection points come last: what they hold goes to the gateways at
	// once.
	for _, c := range published.ConnectionPoints {
		h := publishedHost{filepath.Join(dir, "connection-point-"+c.Name), "identity of connection point " + c.Name + ", configuration and URL mappings"}
		if err := keys.hostIdentity(h.dir, c.Name, opencmg.ConnectionPointURI(sf.Site, c.ConnectionID), nil, now); err != nil {
			return nil, err
		}
		if err := pki.WriteFile(filepath.Join(h.dir, mappingsFile), signedMappings, 0o644); err != nil {
			return nil, err
		}
		if err := pki.WriteFile(filepath.Join(h.dir, publishedFile), signed, 0o644); err != nil {
			return nil, err
		}
		p.hosts = append(p.hosts, h)
	}
	return p, nil
}

func hostNames(internal []string) []string {
	var names []string
	for _, s := range internal {
		if u, err := url.Parse(s); err == nil && u.Hostname() != "" {
			names = append(names, u.Hostname())
		}
	}
	return names
}

// compile turns the site file into the two documents, without a version.
func (sf *SiteFile) compile(base string, now time.Time) (*opencmg.PublishedConfiguration, *connpoint.Mappings, error) {
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
	m := &connpoint.Mappings{}
	for _, r := range sf.Roles {
		role := opencmg.PublishedRole{ID: r.ID, Site: sf.Site, Kind: r.Kind, Name: r.Name, Prefix: r.Prefix}
		for _, e := range r.Endpoints {
			role.Endpoints = append(role.Endpoints, opencmg.Endpoint(e))
		}
		if len(r.Endpoints) == 0 && r.Kind == opencmg.KindManagementPoint {
			role.Endpoints = opencmg.ManagementPointEndpoints()
		}
		c.Roles = append(c.Roles, role)
		m.Mappings = append(m.Mappings, connpoint.Mapping{
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

// siteKeys is the private part of a site directory.
type siteKeys struct {
	dir       string
	authority *pki.Authority
	signing   tls.Certificate
	token     tls.Certificate
	hierarchy string
}

// openSiteKeys reads the keys of a site directory and makes those that are
// missing.
func openSiteKeys(dir string, site opencmg.SiteCode, now time.Time) (*siteKeys, error) {
	if err := requireDir("site directory", dir); err != nil {
		return nil, err
	}
	k := &siteKeys{dir: dir}
	var err error
	if k.authority, err = pki.LoadAuthority(dir, siteCAName); errors.Is(err, os.ErrNotExist) {
		if k.authority, err = pki.NewAuthority("OpenCMG site "+string(site), now); err == nil {
			err = k.authority.Save(dir, siteCAName)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("site CA: %w", err)
	}
	k.signing, err = k.keyPair(signingCert, signingKey, now, func() (tls.Certificate, error) {
		return k.authority.IssueKeyPair(pki.Template{
			CommonName: "configuration signing", URIs: []string{opencmg.ConfigurationSigningURI(site)}, NotAfter: now.Add(identityTerm),
		}, now)
	})
	if err != nil {
		return nil, fmt.Errorf("configuration signing key: %w", err)
	}
	k.token, err = k.keyPair(tokenCert, tokenKey, now, func() (tls.Certificate, error) {
		return pki.NewTokenSigningCertificate("OpenCMG site "+string(site)+" token signing", now)
	})
	if err != nil {
		return nil, fmt.Errorf("token-signing key: %w", err)
	}
	b, err := os.ReadFile(filepath.Join(dir, hierarchyFile))
	if errors.Is(err, os.ErrNotExist) {
		b = []byte(newGUID())
		err = pki.WriteFile(filepath.Join(dir, hierarchyFile), b, 0o644)
	}
	if k.hierarchy = strings.TrimSpace(string(b)); err == nil && !opencmg.IsGUID(k.hierarchy) {
		err = opencmg.Errorf(opencmg.Invalid, "%s does not hold a GUID", filepath.Join(dir, hierarchyFile))
	}
	return k, err
}

// keyPair loads a key pair of the site directory, or makes it when it is
// missing or about to expire.
func (k *siteKeys) keyPair(certFile, keyFile string, now time.Time, issue func() (tls.Certificate, error)) (tls.Certificate, error) {
	certFile, keyFile = filepath.Join(k.dir, certFile), filepath.Join(k.dir, keyFile)
	pair, err := pki.LoadKeyPair(certFile, keyFile)
	if err == nil && pair.Leaf.NotAfter.Sub(now) > identityRenew || err != nil && !errors.Is(err, os.ErrNotExist) {
		return pair, err
	}
	if pair, err = issue(); err != nil {
		return pair, err
	}
	return pair, pki.SaveKeyPair(certFile, keyFile, pair)
}

func (k *siteKeys) tokenSigner() (*pki.TokenSigner, error) {
	return newTokenSigner(k.token, k.hierarchy)
}

// hostIdentity makes the directory of one host with an identity of the site
// CA. An identity that is still good for a while stays.
func (k *siteKeys) hostIdentity(dir, name, uri string, hosts []string, now time.Time) error {
	if err := requireDir("host directory", dir); err != nil {
		return err
	}
	if err := pki.WriteFile(filepath.Join(dir, siteCAFile), k.authority.CertificatePEM(), 0o644); err != nil {
		return err
	}
	sub := &siteKeys{dir: dir}
	_, err := sub.keyPair(identityCert, identityKey, now, func() (tls.Certificate, error) {
		t := pki.Template{CommonName: name, URIs: []string{uri}, Client: true, Server: true, NotAfter: now.Add(identityTerm)}
		t.DNSNames, t.IPs = splitHosts(hosts)
		return k.authority.IssueKeyPair(t, now)
	})
	if err != nil {
		return fmt.Errorf("identity of %s: %w", name, err)
	}
	return nil
}

func (k *siteKeys) copyTokenKeys(dir string) error {
	if err := pki.SaveKeyPair(filepath.Join(dir, tokenCert), filepath.Join(dir, tokenKey), k.token); err != nil {
		return err
	}
	return pki.WriteFile(filepath.Join(dir, hierarchyFile), []byte(k.hierarchy), 0o644)
}

// nextVersion returns one more than the last published version.
func (k *siteKeys) nextVersion() (uint64, error) {
	file := filepath.Join(k.dir, versionFile)
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return 1, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b[:min(len(b), maxVersionText)])), 10, 64)
	if err != nil {
		return 0, opencmg.Errorf(opencmg.Invalid, "%s does not hold a number: write the version of the last published configuration into it, or a greater one", file)
	}
	return n + 1, nil
}

func (k *siteKeys) saveVersion(v uint64) error {
	return pki.WriteFile(filepath.Join(k.dir, versionFile), strconv.AppendUint(nil, v, 10), 0o644)
}
