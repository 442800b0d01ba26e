package main

import (
	"context"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/sitelink"
	"github.com/opencmg/opencmg/pki"
)

// What the parts of the set-up find of an earlier lab in the same directory, and
// make when it is missing.

// labManagementPoint is the management point's name at the site.
const labManagementPoint = "mp"

// finishEarlier waits for what the site had begun when the lab ended; it goes on
// with that by itself. How it ends is for the part that needs it.
func (l *lab) finishEarlier(ctx context.Context, ui *labUI) error {
	if !l.resumed {
		return nil
	}
	ops, err := adminservice.List[adminservice.Operation](ctx, l.admin, "Operations", nil)
	if err != nil {
		return err
	}
	for _, op := range slices.Backward(ops) { // the newest comes first
		if op.State == adminservice.OperationCreated || op.State == adminservice.OperationInProgress {
			if _, err := l.finish(ctx, op, ui); err != nil {
				l.log.Warn("an operation that an earlier lab began has failed", "operation", op.ID, "kind", op.Kind, "err", err)
			}
		}
	}
	return ctx.Err()
}

// findApplications finds the app registrations that the site made in the lab's
// tenant: both, the server app alone, or none.
func (l *lab) findApplications(ctx context.Context) (found adminservice.CreatedApplications, err error) {
	apps, err := adminservice.List[adminservice.Application](ctx, l.admin, "Applications", nil)
	if err != nil {
		return found, err
	}
	for _, a := range apps {
		if a.TenantID == labTenant && a.IdentifierURI == labResourceURI {
			found.ServerAppID = a.ID
		}
	}
	for _, a := range apps {
		if found.ServerAppID != "" && a.ServerAppID == found.ServerAppID {
			found.ClientAppID = a.ID
		}
	}
	return found, nil
}

// trusts reports whether the certificate of a CA was uploaded.
func (l *lab) trusts(ctx context.Context, certificate []byte) (bool, error) {
	certs, err := pki.ParseCertificates(certificate)
	if err != nil {
		return false, err
	}
	list, err := adminservice.List[adminservice.TrustedCertificate](ctx, l.admin, "TrustedCertificates", nil)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(list, func(t adminservice.TrustedCertificate) bool {
		stored, err := pki.ParseCertificates([]byte(t.Certificate))
		return err == nil && stored[0].Equal(certs[0])
	}), nil
}

// siteRole is the role with the name; nil when the site has none.
func (l *lab) siteRole(ctx context.Context, name string) (*adminservice.SiteRole, error) {
	return findAt(ctx, l, "SiteRoles", func(r *adminservice.SiteRole) bool { return r.Name == name })
}

// findAt finds an object of a collection at the site; nil when none is meant.
func findAt[T any](ctx context.Context, l *lab, collection string, meant func(*T) bool) (*T, error) {
	list, err := adminservice.List[T](ctx, l.admin, collection, nil)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if meant(&list[i]) {
			return &list[i], nil
		}
	}
	return nil, nil
}

// joined reports whether a site system has an identity.
func (l *lab) joined(name string) (bool, error) {
	return sitelink.Joined(l.path("state", name, "identity"))
}

// leave forgets what is left of a join that is only known to one of both: the
// site, at path, when the answer to a join was lost, or the system, when it was
// removed from the site.
func (l *lab) leave(ctx context.Context, name, path string) error {
	if path != "" {
		if err := l.admin.Do(ctx, http.MethodDelete, path, nil, nil); err != nil {
			return err
		}
	}
	return os.RemoveAll(l.path("state", name, "identity"))
}

// managementPoint finds the management point, or joins one to the site.
func (l *lab) managementPoint(ctx context.Context) (opencmg.RoleID, error) {
	r, err := l.siteRole(ctx, labManagementPoint)
	if err != nil {
		return "", err
	}
	has, err := l.joined(labManagementPoint)
	if err != nil {
		return "", err
	}
	if has && r != nil {
		return r.RoleID, nil
	}
	path := ""
	if r != nil {
		path = "SiteRoles/" + r.ID
	}
	if err := l.leave(ctx, labManagementPoint, path); err != nil {
		return "", err
	}
	reply, err := l.join(ctx, adminservice.SystemManagementPoint, labManagementPoint, "", "https://"+l.addr.mp)
	if err != nil {
		return "", err
	}
	return reply.RoleID, nil
}

// connectionPoint finds a connection point of the gateway, or joins one to the
// site. It returns its connection ID.
func (l *lab) connectionPoint(ctx context.Context, name, gateway string) (string, error) {
	p, err := findAt(ctx, l, "ConnectionPoints", func(p *adminservice.ConnectionPoint) bool { return p.Name == name })
	if err != nil {
		return "", err
	}
	has, err := l.joined(name)
	if err != nil {
		return "", err
	}
	path := ""
	if p != nil {
		path = "ConnectionPoints/" + p.ID
		if has && p.GatewayID != gateway { // the one it served was deleted
			err = l.admin.Change(ctx, http.MethodPatch, path, p.Version, map[string]string{"gatewayId": gateway}, nil)
		}
		if has {
			return p.ConnectionID, err
		}
	}
	if err := l.leave(ctx, name, path); err != nil {
		return "", err
	}
	reply, err := l.join(ctx, adminservice.SystemConnectionPoint, name, gateway, "")
	if err != nil {
		return "", err
	}
	return reply.ConnectionID, nil
}

// gateway finds the lab's gateway and brings it to work, or deploys it. It
// returns its ID.
func (l *lab) gateway(ctx context.Context, report *labReport, ui *labUI) (string, error) {
	began := time.Now()
	g, err := l.findGateway(ctx)
	if err != nil {
		return "", err
	}
	if g == nil {
		cert, err := l.serverCertificate()
		if err != nil {
			return "", err
		}
		op, err := post[adminservice.Operation](ctx, l, "Gateways", adminservice.NewGateway{
			GatewaySettings: adminservice.GatewaySettings{Instances: l.opts.instances, Size: opencmg.SizeLab, Description: "the lab's gateway"},
			SubscriptionID:  labSubscription, Region: labRegion, Certificate: cert,
		})
		if err != nil {
			return "", err
		}
		if op, err = l.finish(ctx, op, ui); err != nil {
			return "", err
		}
		report.Deployment = &labDeployment{adminservice.ModelScaleSet, l.opts.instances, float64(time.Since(began)) / 1e6}
		return op.Subject, nil
	}
	path := "Gateways/" + g.ID
	for _, action := range []struct{ state, name string }{{adminservice.StateError, "retry"}, {adminservice.StateStopped, "start"}} {
		if g.State != action.state {
			continue
		}
		op, err := post[adminservice.Operation](ctx, l, path+"/"+action.name, nil)
		if err != nil {
			return "", err
		}
		if _, err := l.finish(ctx, op, ui); err != nil {
			return "", err
		}
	}
	if l.opts.scale && g.Instances != l.opts.instances {
		var op adminservice.Operation
		if err := l.admin.Change(ctx, http.MethodPatch, path, 0, map[string]int{"instances": l.opts.instances}, &op); err != nil {
			return "", err
		}
		if _, err := l.finish(ctx, op, ui); err != nil {
			return "", err
		}
	} else {
		l.opts.instances = g.Instances
	}
	report.Instances = l.opts.instances
	return g.ID, nil
}

// findGateway finds the lab's gateway; nil when there is none.
func (l *lab) findGateway(ctx context.Context) (*adminservice.Gateway, error) {
	return findAt(ctx, l, "Gateways", func(g *adminservice.Gateway) bool { return g.ServiceName == labServiceName })
}
