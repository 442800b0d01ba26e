package declared

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/opencmg/opencmg/adminservice"
)

// A state is what a site has.
type state struct {
	site         adminservice.Site
	tenants      []adminservice.Tenant
	applications []adminservice.Application
	services     []adminservice.AzureService
	trusted      []adminservice.TrustedCertificate
	issuers      []adminservice.TokenIssuer
	roles        []adminservice.SiteRole
	gateways     []adminservice.Gateway
	points       []adminservice.ConnectionPoint
	groups       []adminservice.BoundaryGroup
	settings     adminservice.ClientSettings
}

// readAll lists a collection, page by page.
func readAll[T any](ctx context.Context, c *adminservice.Client, collection string, to *[]T) error {
	for {
		page, err := adminservice.List[T](ctx, c, collection, url.Values{"$skip": {strconv.Itoa(len(*to))}})
		if err != nil {
			return err
		}
		if *to = append(*to, page...); len(page) < adminservice.MaxPage {
			return nil
		}
	}
}

func readState(ctx context.Context, c *adminservice.Client) (*state, error) {
	s := &state{}
	var err error
	if s.site, err = adminservice.Get[adminservice.Site](ctx, c, "Site"); err != nil {
		return nil, err
	}
	for _, read := range []func() error{
		func() error { return readAll(ctx, c, "Tenants", &s.tenants) },
		func() error { return readAll(ctx, c, "Applications", &s.applications) },
		func() error { return readAll(ctx, c, "AzureServices", &s.services) },
		func() error { return readAll(ctx, c, "TrustedCertificates", &s.trusted) },
		func() error { return readAll(ctx, c, "TokenIssuers", &s.issuers) },
		func() error { return readAll(ctx, c, "SiteRoles", &s.roles) },
		func() error { return readAll(ctx, c, "Gateways", &s.gateways) },
		func() error { return readAll(ctx, c, "ConnectionPoints", &s.points) },
		func() error { return readAll(ctx, c, "BoundaryGroups", &s.groups) },
		func() (err error) {
			s.settings, err = adminservice.Get[adminservice.ClientSettings](ctx, c, "ClientSettings/0")
			return err
		},
	} {
		if err := read(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Export writes the state of a site as a declared file. Two exports of a site
// that did not change are the same, byte for byte.
func Export(ctx context.Context, c *adminservice.Client) ([]byte, error) {
	s, err := readState(ctx, c)
	if err != nil {
		return nil, err
	}
	comments := yaml.CommentMap{"$.apiVersion": {yaml.HeadComment(fmt.Sprintf(" The state of site %s, without secrets.", s.site.Code), " opencmg plan shows what an edited file would change, opencmg apply does it.")}}
	for kind, list := range map[string][]string{"trustedCertificates": s.trustedSubjects()} {
		for i, subject := range list {
			comments[fmt.Sprintf("$.%s[%d]", kind, i)] = []*yaml.Comment{yaml.HeadComment(" " + subject)}
		}
	}
	return yaml.MarshalWithOptions(s.document(), yaml.UseLiteralStyleIfMultiline(true), yaml.IndentSequence(true), yaml.WithComment(comments))
}

// sorted is what list shows, in the order of key.
func sorted[T, E any](list []T, show func(*T) E, key func(*E) string) []E {
	out := make([]E, 0, len(list))
	for i := range list {
		out = append(out, show(&list[i]))
	}
	slices.SortFunc(out, func(a, b E) int { return cmp.Compare(strings.ToLower(key(&a)), strings.ToLower(key(&b))) })
	return out
}

// document is the state as it would be declared.
func (s *state) document() *Document {
	d := &Document{
		APIVersion:          APIVersion,
		Tenants:             sorted(s.tenants, s.tenant, func(v *Tenant) string { return v.ID }),
		Applications:        sorted(s.applications, s.application, func(v *Application) string { return v.ClientID }),
		AzureServices:       sorted(s.services, s.service, func(v *AzureService) string { return v.Name }),
		TrustedCertificates: sorted(s.trusted, s.trustedCertificate, func(v *TrustedCertificate) string { return thumbprint(v.Certificate) }),
		TokenIssuers:        sorted(s.issuers, s.issuer, func(v *TokenIssuer) string { return thumbprint(v.Certificate) }),
		SiteRoles:           sorted(s.roles, s.role, func(v *SiteRole) string { return v.Name }),
		Gateways:            sorted(s.gateways, s.gateway, func(v *Gateway) string { return v.Name }),
		ConnectionPoints:    sorted(s.points, s.point, func(v *ConnectionPoint) string { return v.Name }),
		BoundaryGroups:      []BoundaryGroup{},
		ClientSettings:      s.clientSettings(),
	}
	var others []adminservice.BoundaryGroup
	for i := range s.groups {
		if s.groups[i].Default {
			d.DefaultBoundaryGroup = s.defaultGroup(&s.groups[i])
		} else {
			others = append(others, s.groups[i])
		}
	}
	d.BoundaryGroups = sorted(others, s.group, func(v *BoundaryGroup) string { return v.Name })
	return d
}

// trustedSubjects are those of the trusted certificates in the order of the
// document.
func (s *state) trustedSubjects() (subjects []string) {
	list := slices.Clone(s.trusted)
	slices.SortFunc(list, func(a, b adminservice.TrustedCertificate) int { return cmp.Compare(a.Thumbprint, b.Thumbprint) })
	for _, t := range list {
		// The site puts the ID behind it; a subject may hold anything.
		subjects = append(subjects, strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 {
				return -1
			}
			return r
		}, strings.TrimSuffix(t.Subject, " "+t.ID)))
	}
	return subjects
}

func texts(list []string) *[]string {
	if list == nil {
		list = []string{}
	}
	return &list
}

func (s *state) tenant(v *adminservice.Tenant) Tenant {
	return Tenant{ID: strings.ToLower(v.ID), Name: &v.Name, Environment: (*string)(&v.Environment), DisableAuthentication: &v.DisableAuthentication}
}

// clientID is that of an application of the site.
func (s *state) clientID(id string) string {
	for _, a := range s.applications {
		if a.ID == id {
			return a.ClientID
		}
	}
	return id
}

// appID is the site's ID of an application.
func (s *state) appID(clientID string) string {
	for _, a := range s.applications {
		if strings.EqualFold(a.ClientID, clientID) {
			return a.ID
		}
	}
	return ""
}

func (s *state) application(v *adminservice.Application) Application {
	a := Application{ClientID: strings.ToLower(v.ClientID), Kind: &v.Kind, Name: &v.Name, TenantID: &v.TenantID, IdentifierURI: &v.IdentifierURI}
	if v.ServerAppID != "" {
		a.ServerApp = new(s.clientID(v.ServerAppID))
	}
	return a
}

func (s *state) service(v *adminservice.AzureService) AzureService {
	return AzureService{
		Name: v.Name, Description: &v.Description, ServerApp: new(s.clientID(v.ServerAppID)), ClientApp: new(s.clientID(v.ClientAppID)),
		UserDiscovery: &v.UserDiscovery, UserDeltaMinutes: &v.UserDeltaMinutes, GroupDiscovery: &v.GroupDiscovery, GroupDeltaMinutes: &v.GroupDeltaMinutes,
		UserFullHours: &v.UserFullHours, GroupFullHours: &v.GroupFullHours,
		DiscoveredGroups: texts(v.DiscoveredGroups),
	}
}

func (s *state) trustedCertificate(v *adminservice.TrustedCertificate) TrustedCertificate {
	return TrustedCertificate{Store: &v.Store, Certificate: v.Certificate, RevocationList: &v.RevocationList}
}

func (s *state) issuer(v *adminservice.TokenIssuer) TokenIssuer {
	return TokenIssuer{Certificate: v.Certificate, Issuer: &v.Issuer, Audience: &v.Audience, AllowUnbound: &v.AllowUnbound}
}

func (s *state) role(v *adminservice.SiteRole) SiteRole {
	endpoints := []Endpoint{}
	for _, e := range v.Endpoints {
		endpoints = append(endpoints, convert[Endpoint](e))
	}
	r := SiteRole{
		Name: v.Name, Kind: &v.Kind, Internal: texts(v.Internal), AllowGatewayTraffic: &v.AllowGatewayTraffic, Prefix: &v.Prefix, Endpoints: &endpoints,
		CA: &v.CA, ServerName: &v.ServerName, HostHeader: &v.HostHeader, HealthPath: &v.HealthPath, ClientCertificate: &v.ClientCertificate,
		CertificateRequired: &v.CertificateRequired, Identity: &v.Identity,
	}
	if v.Own {
		r.Own = &v.Own
	}
	return r
}

// convert turns a value into another type with the same JSON.
func convert[T any](v any) (out T) {
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		panic(fmt.Sprintf("declared: %T as %T: %v", v, out, err)) // both are ours
	}
	return out
}

func (s *state) gateway(v *adminservice.Gateway) Gateway {
	certificates := []string{}
	for _, id := range v.Certificates {
		for _, t := range s.trusted {
			if t.ID == id {
				certificates = append(certificates, t.Thumbprint)
			}
		}
	}
	slices.Sort(certificates)
	g := Gateway{
		Name: v.Name, ServiceName: &v.ServiceName, Model: &v.Model, IPv6: &v.IPv6, Description: &v.Description, Size: (*string)(&v.Size), Instances: &v.Instances,
		Certificates: &certificates, CheckRevocation: v.CheckRevocation, EnforceTLS12: v.EnforceTLS12, MinTLS: new(cmp.Or(v.MinTLS, "1.2")), EnableContent: v.EnableContent,
		Traffic: threshold(v.Traffic), Storage: threshold(v.Storage),
	}
	g.Storage.StopService = nil // does not go with it
	if v.Model != adminservice.ModelSelfHosted {
		g.ServerApp, g.SubscriptionID, g.Region, g.ResourceGroup = new(s.clientID(v.ServerAppID)), &v.SubscriptionID, &v.Region, &v.ResourceGroup
	}
	if a := v.ACME; a != nil {
		g.Certificate = &ServerCertificate{ACME: &ACME{Directory: a.Directory, Contact: texts(a.Contact), AcceptTerms: &a.AcceptTerms}}
		if a.Challenge != "" {
			g.Certificate.ACME.Challenge = &a.Challenge
		}
		if a.BindingKeyID != "" {
			g.Certificate.ACME.BindingKeyID = &a.BindingKeyID
		}
	}
	return g
}

func threshold(t *adminservice.Threshold) *Threshold {
	if t == nil {
		t = &adminservice.Threshold{}
	}
	return &Threshold{Enabled: &t.Enabled, GB: &t.GB, WarningPct: &t.WarningPct, CriticalPct: &t.CriticalPct, StopService: &t.StopService}
}

// gatewayName is the name of a gateway by its ID.
func (s *state) gatewayName(id string) string {
	for _, g := range s.gateways {
		if g.ID == id {
			return g.Name
		}
	}
	return id
}

func (s *state) point(v *adminservice.ConnectionPoint) ConnectionPoint {
	name := ""
	if v.GatewayID != "" {
		name = s.gatewayName(v.GatewayID)
	}
	return ConnectionPoint{Name: v.Name, Gateway: &name}
}

// systems are the names of a group's site systems, in order.
func (s *state) systems(v *adminservice.BoundaryGroup) *[]string {
	list := []string{}
	for _, id := range v.SiteSystems {
		list = append(list, s.gatewayName(id))
	}
	slices.Sort(list)
	return &list
}

func (s *state) group(v *adminservice.BoundaryGroup) BoundaryGroup {
	return BoundaryGroup{Name: v.Name, Description: &v.Description, Boundaries: texts(v.Boundaries), SiteSystems: s.systems(v), PreferCloud: &v.PreferCloud}
}

func (s *state) defaultGroup(v *adminservice.BoundaryGroup) *DefaultBoundaryGroup {
	return &DefaultBoundaryGroup{Description: &v.Description, SiteSystems: s.systems(v), PreferCloud: &v.PreferCloud, IncludeCloudSources: &v.IncludeCloudSources}
}

func (s *state) clientSettings() *ClientSettings {
	v := &s.settings
	return &ClientSettings{
		AllowCloudManagementGateway: &v.AllowCloudManagementGateway, AllowCloudDistributionPoint: &v.AllowCloudDistributionPoint, AutoAzureADJoin: &v.AutoAzureADJoin,
		PolicyMinutes: &v.PolicyMinutes, LocationMinutes: &v.LocationMinutes, InventoryMinutes: &v.InventoryMinutes,
		DiscoveryMinutes: &v.DiscoveryMinutes, StateMinutes: &v.StateMinutes, KeepAliveMinutes: &v.KeepAliveMinutes,
	}
}
