package declared

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// patches makes a change by a request with what the fields name. prepare, when
// set, turns names into what the site knows them by.
func (p *planner) patches(c *Change, key string, v, cur any, prepare func(*run, map[string]any) error) {
	obj, fields, body := p.objects[objectKey(c.Kind, key)], c.Fields, values(v, cur)
	c.do = func(ctx context.Context, r *run) error {
		send := changed(body, fields)
		if prepare != nil {
			if err := prepare(r, send); err != nil {
				return err
			}
		}
		return r.change(ctx, obj, "PATCH", "", send)
	}
}

// posts makes an object.
func (c *Change) posts(collection string, body func(*run) (any, error)) {
	c.do = func(ctx context.Context, r *run) error {
		b, err := body(r)
		if err != nil {
			return err
		}
		return r.send(ctx, "POST", collection, 0, b)
	}
}

// rename gives a key of a body the name that the site uses.
func rename(body map[string]any, from, to string, value func(string) (string, error)) error {
	v, ok := body[from]
	if !ok {
		return nil
	}
	delete(body, from)
	out, err := value(v.(string))
	body[to] = out
	return err
}

func (p *planner) tenants() {
	compare(p, section[Tenant]{
		kind: kindTenant, declared: p.d.Tenants, current: p.cur.Tenants, key: func(v *Tenant) string { return v.ID },
		fixed: "delete the tenant and import its applications again",
		create: func(v *Tenant, c *Change) {
			if !p.has(kindTenant, v.ID) {
				c.refused("a tenant comes with its first application: declare one with tenantId %s", v.ID)
				return
			}
			// Its application makes it, with its name; what is left is done after
			// that, see applications.
			c.Action = ""
		},
		change: func(v, cur *Tenant, c *Change) {
			p.patches(c, v.ID, v, cur, nil)
			for _, f := range c.Fields {
				if f.Name == "disableAuthentication" {
					what := "clients and users of the tenant may sign in again"
					if f.New == "true" {
						what = "clients and users of the tenant can not sign in any more"
						c.costs(CostOutage, what)
					}
					p.publishes(c, newConfiguration)
					return
				}
			}
			c.costs(CostNone, "nothing")
		},
		remove: func(_ *Tenant, c *Change) { c.costs(CostNone, "nothing: no application is left") },
	})
	// A tenant that is made is done with its application.
	p.main = slices.DeleteFunc(p.main, func(c Change) bool { return c.Action == "" })
}

// newTenant is what a tenant is to be like that an application makes.
func (p *planner) newTenant(id string) *Tenant {
	if _, there := p.objects[objectKey(kindTenant, id)]; there {
		return nil
	}
	for i := range p.d.Tenants {
		if strings.EqualFold(p.d.Tenants[i].ID, id) {
			return &p.d.Tenants[i]
		}
	}
	return nil
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func (p *planner) azureServices() {
	prepare := func(r *run, body map[string]any) error {
		id := func(key string) func(string) (string, error) {
			return func(clientID string) (string, error) {
				if id := r.state.appID(clientID); id != "" {
					return id, nil
				}
				return "", fmt.Errorf("%s: the site has no application %s", key, clientID)
			}
		}
		if err := rename(body, "serverApp", "serverAppId", id("serverApp")); err != nil {
			return err
		}
		return rename(body, "clientApp", "clientAppId", id("clientApp"))
	}
	known := func(v *AzureService, c *Change) bool {
		for name, app := range map[string]*string{"serverApp": v.ServerApp, "clientApp": v.ClientApp} {
			if app != nil && !p.has(kindApplication, *app) {
				c.refused("%s: there is no application %s on the site or in the file", name, *app)
				return false
			}
		}
		return true
	}
	compare(p, section[AzureService]{
		kind: kindAzureService, declared: p.d.AzureServices, current: p.cur.AzureServices, key: func(v *AzureService) string { return v.Name }, early: true,
		create: func(v *AzureService, c *Change) {
			if v.ServerApp == nil || v.ClientApp == nil {
				c.refused("a new Azure service needs serverApp and clientApp")
				return
			}
			if known(v, c) {
				p.publishes(c, newConfiguration)
				body := values(v, v)
				c.posts("AzureServices", func(r *run) (any, error) {
					b := maps.Clone(body)
					return b, prepare(r, b)
				})
			}
		},
		change: func(v, cur *AzureService, c *Change) {
			if !known(v, c) {
				return
			}
			p.patches(c, v.Name, v, cur, prepare)
			for _, f := range c.Fields {
				if strings.HasSuffix(f.Name, "App") {
					p.publishes(c, newConfiguration)
					return
				}
			}
			c.costs(CostNone, "nothing: it counts from the next discovery on")
		},
		remove: func(_ *AzureService, c *Change) {
			c.costs(CostOutage, "clients and users of its tenant can not sign in any more")
		},
	})
}

func (p *planner) trustedCertificates() {
	compare(p, section[TrustedCertificate]{
		kind: kindTrusted, declared: p.d.TrustedCertificates, current: p.cur.TrustedCertificates,
		key:   func(v *TrustedCertificate) string { return thumbprint(v.Certificate) },
		fixed: "delete the certificate on the site and apply again",
		create: func(v *TrustedCertificate, c *Change) {
			if v.Store == nil {
				c.refused("store: say RootCA or IntermediateCA")
				return
			}
			p.publishes(c, newConfiguration)
			c.posts("TrustedCertificates", func(*run) (any, error) { return values(v, v), nil })
		},
		change: func(_, _ *TrustedCertificate, _ *Change) {},
		remove: func(_ *TrustedCertificate, c *Change) {
			c.costs(CostOutage, "clients whose certificates chain to it are refused")
		},
	})
}

func (p *planner) tokenIssuers() {
	compare(p, section[TokenIssuer]{
		kind: kindIssuer, declared: p.d.TokenIssuers, current: p.cur.TokenIssuers,
		key:   func(v *TokenIssuer) string { return thumbprint(v.Certificate) },
		fixed: "delete the issuer on the site and apply again",
		create: func(v *TokenIssuer, c *Change) {
			if v.Issuer == nil {
				c.refused("issuer: say what its tokens name as their issuer")
				return
			}
			p.publishes(c, newConfiguration)
			c.posts("TokenIssuers", func(*run) (any, error) { return values(v, v), nil })
		},
		change: func(_, _ *TokenIssuer, _ *Change) {},
		remove: func(_ *TokenIssuer, c *Change) { c.costs(CostOutage, "clients with its tokens are refused") },
	})
}

func (p *planner) siteRoles() {
	compare(p, section[SiteRole]{
		kind: kindRole, declared: p.d.SiteRoles, current: p.cur.SiteRoles, key: func(v *SiteRole) string { return v.Name }, early: true,
		fixed: "a role of another kind is another role: give it another name",
		create: func(v *SiteRole, c *Change) {
			switch {
			case v.Own != nil && *v.Own:
				c.Action, c.Reason = Waiting, "it is a management point of a site's own, and none of this name has joined: run opencmg mp join on its host, then apply again"
				return
			case v.Kind == nil || v.Internal == nil:
				c.refused("a new site role needs kind and internal")
				return
			}
			if c.costs(CostNone, "nothing: it is not published"); v.AllowGatewayTraffic != nil && *v.AllowGatewayTraffic {
				c.Effect = ""
				p.publishes(c, newConfiguration)
			}
			c.posts("SiteRoles", func(*run) (any, error) { return values(v, v), nil })
		},
		change: func(v, cur *SiteRole, c *Change) {
			p.patches(c, v.Name, v, cur, nil)
			was, is := *cur.AllowGatewayTraffic, *cur.AllowGatewayTraffic
			if v.AllowGatewayTraffic != nil {
				is = *v.AllowGatewayTraffic
			}
			switch {
			case was && !is && len(p.s.gateways) > 0:
				c.costs(CostOutage, "clients on the internet do not reach it any more")
			case was || is:
				p.publishes(c, newConfiguration)
			default:
				c.costs(CostNone, "nothing: it is not published")
			}
		},
		remove: func(cur *SiteRole, c *Change) {
			if c.costs(CostNone, "nothing: it is not published"); *cur.AllowGatewayTraffic {
				c.Effect = ""
				c.costs(CostOutage, "clients on the internet do not reach it any more")
			}
		},
	})
}

func (p *planner) connectionPoints() {
	// leaves adds what it costs that a point serves a gateway no longer.
	leaves := func(cur *ConnectionPoint, c *Change) {
		if text(cur.Gateway) == "" {
			return
		}
		for _, o := range p.cur.ConnectionPoints {
			if o.Name != cur.Name && strings.EqualFold(text(o.Gateway), text(cur.Gateway)) {
				c.costs(CostConfiguration, "its tunnels to gateway "+*cur.Gateway+" end; others serve it")
				return
			}
		}
		c.costs(CostOutage, "gateway "+*cur.Gateway+" loses its only connection point and answers no request")
	}
	compare(p, section[ConnectionPoint]{
		kind: kindPoint, declared: p.d.ConnectionPoints, current: p.cur.ConnectionPoints, key: func(v *ConnectionPoint) string { return v.Name },
		create: func(_ *ConnectionPoint, c *Change) {
			c.Action, c.Reason = Waiting, "no connection point of this name has joined: run opencmg connection-point join on its host, then apply again"
		},
		change: func(v, cur *ConnectionPoint, c *Change) {
			if g := text(v.Gateway); g != "" && !p.has(kindGateway, g) {
				c.refused("gateway: there is no gateway %s on the site or in the file", g)
				return
			}
			if len(c.Fields) == 0 {
				return
			}
			p.patches(c, v.Name, v, cur, func(_ *run, body map[string]any) error {
				return rename(body, "gateway", "gatewayId", func(name string) (string, error) { return name, nil })
			})
			if leaves(cur, c); text(v.Gateway) != "" {
				c.costs(CostConfiguration, "it opens tunnels to gateway "+*v.Gateway)
			}
		},
		remove: func(cur *ConnectionPoint, c *Change) {
			leaves(cur, c)
			c.costs(CostNone, "its certificate is worth nothing, and it has to join again")
		},
	})
}
