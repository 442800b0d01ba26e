package declared

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencmg/opencmg/adminservice"
)

// redeploy is how to change what a deployed gateway can not (cmg-behaviour M8,
// M9).
const redeploy = "it needs another deployment. With another name: declare a second gateway with a connection point of its own, leave both for at least a day until clients have learned the new one, then remove the old pair. With the same name: have a second gateway serve meanwhile, delete this one, create it again with the same certificate, and link its connection points again"

// What changes a gateway's machines, and what is published.
var (
	machineFields   = []string{"size", "enforceTls12"}
	publishedFields = []string{"certificates", "checkRevocation", "minTls"}
)

func (p *planner) gateways() error {
	var failed error
	compare(p, section[Gateway]{
		kind: kindGateway, declared: p.d.Gateways, current: p.cur.Gateways, key: func(v *Gateway) string { return v.Name }, fixed: redeploy,
		create: func(v *Gateway, c *Change) {
			if err := p.createGateway(v, c); err != nil && failed == nil {
				failed = err
			}
		},
		change: func(v, cur *Gateway, c *Change) {
			if err := p.changeGateway(v, cur, c); err != nil && failed == nil {
				failed = err
			}
		},
		remove: func(cur *Gateway, c *Change) {
			if p.s.gatewayNamed(cur.Name).State == adminservice.StateDeleting {
				c.Action, c.Reason, c.do = Waiting, "it is being deleted already", nil
				return
			}
			c.costs(CostOutage, "its machines, its addresses and its content are deleted; its clients have to find another gateway")
		},
	})
	return failed
}

// certificatesKnown refuses thumbprints that nobody will have.
func (p *planner) certificatesKnown(v *Gateway, c *Change) bool {
	if v.Certificates == nil {
		return true
	}
	for _, t := range *v.Certificates {
		if !p.has(kindTrusted, t) {
			c.refused("certificates: there is no trusted certificate %s on the site or in the file", t)
			return false
		}
	}
	return true
}

// certificateIDs turns thumbprints into what the site knows the certificates by.
func certificateIDs(r *run, body map[string]any) error {
	list, ok := body["certificates"].([]string)
	if !ok {
		return nil
	}
	ids := []string{}
	for _, t := range list {
		n := slices.IndexFunc(r.state.trusted, func(c adminservice.TrustedCertificate) bool { return strings.EqualFold(c.Thumbprint, t) })
		if n < 0 {
			return fmt.Errorf("certificates: the site has no trusted certificate %s", t)
		}
		ids = append(ids, r.state.trusted[n].ID)
	}
	body["certificates"] = ids
	return nil
}

// serverCertificate reads what the document says about the certificate.
func (p *planner) serverCertificate(k *ServerCertificate, serviceName string) (adminservice.ServerCertificate, error) {
	out := adminservice.ServerCertificate{ServiceName: serviceName}
	var err error
	switch {
	case k == nil:
	case k.PFXFile != nil:
		if out.PFX, err = p.readFile(*k.PFXFile); err != nil {
			return out, fmt.Errorf("certificate.pfxFile: %w; leave certificate out to keep the present one", err)
		}
		if out.Password, err = p.readLine(k.PasswordFile); err != nil {
			return out, fmt.Errorf("certificate.passwordFile: %w", err)
		}
	case k.ACME != nil:
		a := k.ACME
		out.ACME = &adminservice.ACME{Directory: a.Directory, Challenge: text(a.Challenge), AcceptTerms: a.AcceptTerms != nil && *a.AcceptTerms, BindingKeyID: text(a.BindingKeyID)}
		if a.Contact != nil {
			out.ACME.Contact = *a.Contact
		}
		if out.ACME.BindingKey, err = p.readLine(a.BindingKeyFile); err != nil {
			return out, fmt.Errorf("certificate.acme.bindingKeyFile: %w", err)
		}
	}
	return out, nil
}

func (p *planner) createGateway(v *Gateway, c *Change) error {
	hosted := v.Model != nil && *v.Model == adminservice.ModelSelfHosted
	cert, err := p.serverCertificate(v.Certificate, text(v.ServiceName))
	switch {
	case err != nil:
		c.refused("%v", err)
		return nil
	case v.Certificate == nil && !hosted:
		c.refused("certificate: a new gateway needs a server authentication certificate: add certificate with pfxFile and passwordFile, or acme")
		return nil
	case v.ServerApp != nil && !p.has(kindApplication, *v.ServerApp):
		c.refused("serverApp: there is no application %s on the site or in the file", *v.ServerApp)
		return nil
	case !p.certificatesKnown(v, c):
		return nil
	}
	if len(cert.PFX) > 0 {
		report, err := p.inspect(cert)
		if err != nil {
			c.refused("certificate: %v", err)
			return nil
		}
		c.Fields = append(c.Fields, Field{Name: "certificate", New: describe(report)})
	} else if cert.ACME != nil {
		c.Fields = append(c.Fields, Field{Name: "certificate", New: "by ACME from " + cert.ACME.Directory})
	}
	n := 1
	if v.Instances != nil {
		n = *v.Instances
	}
	switch {
	case hosted:
		c.costs(CostNone, "nothing: its hosts join by themselves (opencmg gateway serve with a join token)")
	case v.Model != nil && *v.Model == adminservice.ModelClassic:
		c.costs(CostNone, "nothing: it is recorded to be converted")
	default:
		c.costs(CostDeployment, fmt.Sprintf("deploys %s in the cloud", count(n, "instance")))
	}
	defaults := &Gateway{Traffic: threshold(&adminservice.Threshold{GB: 10_000}), Storage: threshold(&adminservice.Threshold{GB: 2_000})}
	body := values(v, defaults)
	for from, to := range map[string]string{"name": "deploymentName"} {
		body[to] = body[from]
		delete(body, from)
	}
	delete(body, "serviceName")
	body["certificate"] = cert
	if v.ExistingGroup != nil {
		body["existingGroup"] = *v.ExistingGroup
	}
	c.posts("Gateways", func(r *run) (any, error) {
		b := maps.Clone(body)
		if err := rename(b, "serverApp", "serverAppId", func(id string) (string, error) { return r.state.appID(id), nil }); err != nil {
			return nil, err
		}
		return b, certificateIDs(r, b)
	})
	return nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// inspect lets the site look at a certificate.
func (p *planner) inspect(cert adminservice.ServerCertificate) (*adminservice.CertificateReport, error) {
	var report adminservice.CertificateReport
	if err := p.c.Do(p.ctx, "POST", "ServerCertificates/check", adminservice.ServerCertificate{PFX: cert.PFX, Password: cert.Password, ServiceName: cert.ServiceName}, &report); err != nil {
		return nil, err
	}
	return &report, nil
}

func describe(r *adminservice.CertificateReport) string {
	return fmt.Sprintf("%s until %s, thumbprint %.16s", r.Subject, r.Ends.Format("2006-01-02"), r.Thumbprint)
}

func (p *planner) changeGateway(v, cur *Gateway, c *Change) error {
	g := p.s.gatewayNamed(cur.Name)
	settings := slices.Clone(c.Fields)
	cert, replace, err := p.newCertificate(v, g, c)
	if err != nil {
		c.refused("%v", err)
		return nil
	}
	if !p.certificatesKnown(v, c) {
		return nil
	}
	before := p.unfinished(g, c)
	if c.Action == Refused || len(c.Fields) == 0 && before == nil {
		return nil
	}
	var machines, instances, rest []Field
	for _, f := range settings {
		switch {
		case g.Model == adminservice.ModelScaleSet && slices.Contains(machineFields, f.Name):
			machines = append(machines, f)
		case g.Model == adminservice.ModelScaleSet && f.Name == "instances":
			instances = append(instances, f)
		default:
			rest = append(rest, f)
		}
	}
	if len(machines)+len(instances) > 0 && before == nil && g.State != adminservice.StateReady {
		c.refused("it is %s, and size, number of instances and enforceTls12 can be changed when it is Ready: start it first", g.State)
		return nil
	}
	n := g.Instances
	if v.Instances != nil {
		n = *v.Instances
	}
	p.gatewayCosts(c, g, rest, machines, n, replace)
	obj, body := p.objects[objectKey(kindGateway, cur.Name)], values(v, cur)
	patch := func(fields []Field) func(context.Context, *run) error {
		return func(ctx context.Context, r *run) error {
			if len(fields) == 0 {
				return nil
			}
			send := changed(body, fields)
			if err := certificateIDs(r, send); err != nil {
				return err
			}
			return r.change(ctx, obj, "PATCH", "", send)
		}
	}
	// More machines come before the others are replaced, and fewer after.
	order := []func(context.Context, *run) error{patch(rest), patch(instances), patch(machines)}
	if n < g.Instances {
		order[1], order[2] = order[2], order[1]
	}
	if replace {
		order = append(order, func(ctx context.Context, r *run) error { return r.change(ctx, obj, "PUT", "/certificate", cert) })
	}
	if before != nil {
		order = append([]func(context.Context, *run) error{before}, order...)
	}
	c.do = func(ctx context.Context, r *run) error {
		for _, do := range order {
			if err := do(ctx, r); err != nil {
				return err
			}
		}
		return nil
	}
	return nil
}

// gatewayCosts says what the change of a gateway costs; n is how many instances
// it will have.
func (p *planner) gatewayCosts(c *Change, g *adminservice.Gateway, rest, machines []Field, n int, replace bool) {
	if slices.ContainsFunc(rest, func(f Field) bool { return slices.Contains(publishedFields, f.Name) || f.Name == "instances" }) {
		c.costs(CostConfiguration, newConfiguration)
	}
	if g.Model == adminservice.ModelScaleSet {
		switch {
		case n > g.Instances:
			c.costs(CostDeployment, fmt.Sprintf("%s more; those that run go on", count(n-g.Instances, "instance")))
		case n < g.Instances:
			c.costs(CostRolling, fmt.Sprintf("%s go, after their clients were sent to the others; no request fails", count(g.Instances-n, "instance")))
		}
	}
	if replaced := max(n, g.Instances); len(machines) > 0 && replaced > 1 {
		c.costs(CostRolling, fmt.Sprintf("rolling replacement of %s, one after the other, without failed requests", count(replaced, "instance")))
	} else if len(machines) > 0 {
		c.costs(CostOutage, "its only instance is replaced, and nobody answers meanwhile: with two instances no request fails")
	}
	if replace {
		c.costs(CostConfiguration, "every instance takes the new certificate without dropping a connection")
	}
	if g.State == adminservice.StateReady && slices.ContainsFunc(rest, func(f Field) bool { return strings.HasPrefix(f.Name, "traffic.") }) && stops(c, g) {
		c.costs(CostNone, "the service stops when the traffic of 14 days is above the critical threshold")
	}
	if c.Cost == CostNone && c.Effect == "" && len(rest) > 0 {
		c.costs(CostNone, "nothing")
	}
}

// stops reports whether the traffic threshold is to stop the service.
func stops(c *Change, g *adminservice.Gateway) bool {
	for _, f := range c.Fields {
		if f.Name == "traffic.stopService" {
			return f.New == "true"
		}
	}
	return g.Traffic != nil && g.Traffic.StopService
}

// newCertificate finds out whether the certificate changes.
func (p *planner) newCertificate(v *Gateway, g *adminservice.Gateway, c *Change) (cert adminservice.ServerCertificate, replace bool, err error) {
	if v.Certificate == nil || g.Model == adminservice.ModelSelfHosted {
		return cert, false, nil // hosts of one's own have it as a file
	}
	if cert, err = p.serverCertificate(v.Certificate, g.ServiceName); err != nil {
		return cert, false, err
	}
	old := fmt.Sprintf("%s until %s, thumbprint %.16s", g.CertificateSubject, g.CertificateEnds.Format("2006-01-02"), g.CertificateThumbprint)
	if cert.ACME != nil {
		current := p.s.gateway(g).Certificate
		if current == nil {
			c.Fields = append(c.Fields, Field{"certificate", old, "by ACME from " + cert.ACME.Directory})
			return cert, true, nil
		}
		a, b := v.Certificate.ACME, current.ACME
		fields, _ := differences(a, b)
		if a.Directory != b.Directory {
			fields = append([]Field{{"directory", b.Directory, a.Directory}}, fields...)
		}
		for _, f := range fields {
			f.Name = "certificate.acme." + f.Name
			c.Fields = append(c.Fields, f)
		}
		return cert, len(fields) > 0, nil
	}
	report, err := p.inspect(cert)
	if err != nil {
		return cert, false, fmt.Errorf("certificate: %w", err)
	}
	if strings.EqualFold(report.Thumbprint, g.CertificateThumbprint) && g.ACME == nil {
		return cert, false, nil
	}
	if g.ACME != nil {
		old = "by ACME from " + g.ACME.Directory
	}
	c.Fields = append(c.Fields, Field{"certificate", old, describe(report)})
	return cert, true, nil
}

// unfinished is what has to end before anything else: an operation that is under
// way, or one that failed and is begun again.
func (p *planner) unfinished(g *adminservice.Gateway, c *Change) func(context.Context, *run) error {
	key := objectKey(kindGateway, g.Name)
	switch g.State {
	case adminservice.StateReady, adminservice.StateStopped:
		return nil
	case adminservice.StateDeleting:
		c.refused("it is being deleted: wait until it is gone, then apply again")
		return nil
	case adminservice.StateError:
		if g.OperationID == "" {
			return nil
		}
		if len(c.Fields) == 0 {
			c.Action = Continue
		}
		c.costs(CostDeployment, "the operation that failed is begun again at its step: "+g.Error)
		return func(ctx context.Context, r *run) error {
			if err := r.send(ctx, "POST", "Gateways/"+g.ID+"/retry", 0, nil); err != nil {
				return err
			}
			return r.adopt(ctx, key)
		}
	}
	if len(c.Fields) == 0 {
		c.Action = Continue
	}
	c.costs(CostNone, "waits for the operation that is under way ("+g.State+")")
	return func(ctx context.Context, r *run) error {
		if err := r.wait(ctx, g.OperationID); err != nil {
			return err
		}
		return r.adopt(ctx, key)
	}
}

func (s *state) gatewayNamed(name string) *adminservice.Gateway {
	for i := range s.gateways {
		if strings.EqualFold(s.gateways[i].Name, name) {
			return &s.gateways[i]
		}
	}
	return nil
}
