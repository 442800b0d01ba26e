package declared

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

func (p *planner) applications() {
	list := slices.Clone(p.d.Applications)
	// A server application goes before its client application.
	slices.SortStableFunc(list, func(a, b Application) int { return rank(&a) - rank(&b) })
	current := slices.Clone(p.cur.Applications)
	slices.SortStableFunc(current, func(a, b Application) int { return rank(&a) - rank(&b) })
	tenants := map[string]bool{}
	compare(p, section[Application]{
		kind: kindApplication, declared: list, current: current, key: func(v *Application) string { return v.ClientID },
		name:  func(v *Application) string { return strings.TrimSpace(text(v.Name) + " " + v.ClientID) },
		fixed: "a registration is changed in Entra; delete it here and import it again",
		create: func(v *Application, c *Change) {
			body, err := p.importOf(v)
			switch {
			case err != nil:
				c.refused("%v", err)
				return
			case v.ServerApp != nil && !p.has(kindApplication, *v.ServerApp):
				c.refused("serverApp: there is no application %s on the site or in the file", *v.ServerApp)
				return
			}
			t := p.newTenant(body.TenantID)
			disable := t != nil && t.DisableAuthentication != nil && *t.DisableAuthentication && !tenants[body.TenantID]
			if tenants[body.TenantID] = true; t != nil {
				body.TenantName, body.Environment = text(t.Name), opencmg.Environment(text(t.Environment))
				c.Fields = append(c.Fields, Field{Name: "tenant", New: strings.TrimSpace(text(t.Name) + " " + t.ID)})
				if disable {
					c.Fields = append(c.Fields, Field{Name: "tenant.disableAuthentication", New: "true"})
				}
			}
			c.costs(CostNone, "nothing: it is used once an Azure service names it")
			serverApp := text(v.ServerApp)
			c.do = func(ctx context.Context, r *run) error {
				if serverApp != "" {
					body.ServerAppID = r.state.appID(serverApp)
				}
				if err := r.send(ctx, "POST", "Applications/import", 0, body); err != nil || !disable {
					return err
				}
				return r.send(ctx, "PATCH", "Tenants/"+body.TenantID, 0, adminservice.TenantChange{DisableAuthentication: new(true)})
			}
		},
		change: func(_, _ *Application, _ *Change) {},
		remove: func(_ *Application, c *Change) { c.costs(CostNone, "nothing: no Azure service is left that names it") },
	})
}

// importOf is the request that records an application.
func (p *planner) importOf(v *Application) (*adminservice.ImportApplication, error) {
	in := &adminservice.ImportApplication{ClientID: v.ClientID, Kind: text(v.Kind), Name: text(v.Name), TenantID: text(v.TenantID), IdentifierURI: text(v.IdentifierURI)}
	k := v.Credential
	switch {
	case v.Kind == nil || v.Name == nil || v.TenantID == nil:
		return nil, fmt.Errorf("an application that the site does not have needs kind, name and tenantId")
	case *v.Kind == adminservice.ClientApplication && k != nil:
		return nil, fmt.Errorf("credential: a client application is a public client and has none")
	case *v.Kind == adminservice.ClientApplication:
		return in, nil
	case k == nil:
		return nil, fmt.Errorf("the site does not have it, and its secret is in no file: add credential with secretFile and secretExpires, certificateFile or federatedTokenFile; or create the application on the site")
	}
	var err error
	if in.Secret, err = p.readLine(k.SecretFile); err != nil {
		return nil, fmt.Errorf("credential.secretFile: %w", err)
	}
	if k.SecretExpires != nil {
		if in.SecretExpires, err = parseTime(*k.SecretExpires); err != nil {
			return nil, fmt.Errorf("credential.secretExpires: %w", err)
		}
	}
	if k.CertificateFile != nil {
		b, err := p.readFile(*k.CertificateFile)
		if err != nil {
			return nil, fmt.Errorf("credential.certificateFile: %w", err)
		}
		in.CertificatePEM = string(b)
	}
	in.FederatedFile, in.SkipVerify = text(k.FederatedTokenFile), k.SkipVerify != nil && *k.SkipVerify
	return in, nil
}

func rank(a *Application) int {
	if a.Kind != nil && *a.Kind == adminservice.ClientApplication || a.ServerApp != nil {
		return 1
	}
	return 0
}
