package labcloud

import (
	"context"
	"crypto/subtle"
	"net/http"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// A provider answers the OpenID Connect requests of one tenant in one version
// of Entra's endpoints. What it does not implement is answered 404 by the
// embedded server.
type provider struct {
	op.UnimplementedServer
	s       *Server
	tenant  string
	version int
}

func (s *Server) provider(tenant string, version int) http.Handler {
	p := &provider{s: s, tenant: tenant, version: version}
	path := "/"
	if version == 2 {
		path = "/v2.0/"
	}
	return op.RegisterServer(p, op.Endpoints{
		Token:   op.NewEndpoint("/oauth2" + path + "token"),
		JwksURI: op.NewEndpoint("/discovery" + path + "keys"),
	}, op.WithServerCORSOptions(nil))
}

// Discovery answers the OpenID provider configuration.
func (p *provider) Discovery(context.Context, *op.Request[struct{}]) (*op.Response, error) {
	base := p.s.BaseURL() + "/" + p.tenant
	path := "/"
	if p.version == 2 {
		path = "/v2.0/"
	}
	return op.NewResponse(&oidc.DiscoveryConfiguration{
		Issuer:                            p.s.issuer(p.tenant, p.version),
		TokenEndpoint:                     base + "/oauth2" + path + "token",
		JwksURI:                           base + "/discovery" + path + "keys",
		AuthorizationEndpoint:             base + "/oauth2" + path + "authorize",
		ResponseTypesSupported:            []string{"code", "id_token", "token"},
		GrantTypesSupported:               []oidc.GrantType{oidc.GrantTypeClientCredentials},
		SubjectTypesSupported:             []string{"pairwise"},
		IDTokenSigningAlgValuesSupported:  []string{"RS256"},
		TokenEndpointAuthMethodsSupported: []oidc.AuthMethod{oidc.AuthMethodPost, oidc.AuthMethodBasic},
	}), nil
}

// Keys answers the JSON web key set.
func (p *provider) Keys(context.Context, *op.Request[struct{}]) (*op.Response, error) {
	return op.NewResponse(&jose.JSONWebKeySet{Keys: p.s.keys.public()}), nil
}

// VerifyClient checks the secret of a device or an app.
func (p *provider) VerifyClient(_ context.Context, r *op.Request[op.ClientCredentials]) (op.Client, error) {
	id, secret := strings.ToLower(r.Data.ClientID), r.Data.ClientSecret
	p.s.mu.RLock()
	d, ok := p.s.devices[p.tenant+"/"+id]
	p.s.mu.RUnlock()
	if ok && same(d.Secret, secret) {
		return &party{id: r.Data.ClientID, device: &d}, nil
	}
	for _, a := range p.s.cfg.Apps {
		if strings.EqualFold(a.Tenant, p.tenant) && strings.EqualFold(a.ID, id) && a.Secret != "" && same(a.Secret, secret) {
			return &party{id: a.ID, app: &a}, nil
		}
	}
	return nil, oidc.ErrInvalidClient().WithDescription("unknown client or wrong secret in tenant %s", p.tenant)
}

// ClientCredentialsExchange issues a device's or an app's own token for the
// resource that the request names: "resource" in version 1, "<resource>/.default"
// as scope in version 2.
func (p *provider) ClientCredentialsExchange(_ context.Context, r *op.ClientRequest[oidc.ClientCredentialsRequest]) (*op.Response, error) {
	resource := r.Form.Get("resource")
	if resource == "" {
		for _, scope := range r.Data.Scope {
			if u, ok := strings.CutSuffix(scope, "/.default"); ok {
				resource = u
			}
		}
	}
	app, ok := p.s.app(p.tenant, resource)
	if !ok {
		return nil, oidc.ErrInvalidRequest().WithDescription("resource %q is not registered in tenant %s", resource, p.tenant)
	}
	o := TokenOptions{Tenant: p.tenant, Audience: app.ResourceURI, Version: app.TokenVersion}
	switch c := r.Client.(*party); {
	case c.device != nil:
		o.DeviceID, o.ObjectID = c.device.ID, c.device.ObjectID
	default:
		o.AppID, o.ObjectID = c.app.ID, c.app.ID
	}
	token, err := p.s.IssueToken(o)
	if err != nil {
		return nil, oidc.ErrServerError().WithParent(err)
	}
	return op.NewResponse(&oidc.AccessTokenResponse{
		AccessToken: token,
		TokenType:   oidc.BearerToken,
		ExpiresIn:   uint64(p.s.cfg.Lifetime / time.Second),
	}), nil
}

// app finds the app that a resource URI or an application ID names.
func (s *Server) app(tenant, resource string) (App, bool) {
	resource = strings.TrimSuffix(resource, "/")
	for _, a := range s.cfg.Apps {
		if resource != "" && strings.EqualFold(a.Tenant, tenant) && (strings.TrimSuffix(a.ResourceURI, "/") == resource || strings.EqualFold(a.ID, resource)) {
			return a, true
		}
	}
	return App{}, false
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// A party is a device or an app that signed in, in the shape of the library.
type party struct {
	id     string
	device *Device
	app    *App
}

func (c *party) GetID() string                       { return c.id }
func (c *party) RedirectURIs() []string              { return nil }
func (c *party) PostLogoutRedirectURIs() []string    { return nil }
func (c *party) ApplicationType() op.ApplicationType { return op.ApplicationTypeWeb }
func (c *party) AuthMethod() oidc.AuthMethod         { return oidc.AuthMethodPost }
func (c *party) ResponseTypes() []oidc.ResponseType  { return nil }
func (c *party) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeClientCredentials}
}
func (c *party) LoginURL(string) string               { return "" }
func (c *party) AccessTokenType() op.AccessTokenType  { return op.AccessTokenTypeJWT }
func (c *party) IDTokenLifetime() time.Duration       { return 0 }
func (c *party) DevMode() bool                        { return false }
func (c *party) IsScopeAllowed(string) bool           { return true }
func (c *party) IDTokenUserinfoClaimsAssertion() bool { return false }
func (c *party) ClockSkew() time.Duration             { return 0 }
func (c *party) RestrictAdditionalIdTokenScopes() func([]string) []string {
	return func(s []string) []string { return s }
}
func (c *party) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return func(s []string) []string { return s }
}
