package site

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/azure"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

// checkSettings checks what may be changed later and fills in the defaults.
func checkSettings(g *adminservice.GatewaySettings) error {
	size, err := opencmg.ParseVMSize(string(g.Size))
	if err != nil {
		return err
	}
	g.Size = size
	if g.Instances == 0 {
		g.Instances = 1
	}
	if g.Instances < 1 || g.Instances > opencmg.MaxInstances {
		return opencmg.Errorf(opencmg.Invalid, "instances: must be 1 to %d, is %d", opencmg.MaxInstances, g.Instances).About("instances")
	}
	for _, b := range []**bool{&g.CheckRevocation, &g.EnforceTLS12, &g.EnableContent} {
		if *b == nil {
			yes := true
			*b = &yes
		}
	}
	if g.MinTLS != "" && g.MinTLS != "1.2" && g.MinTLS != "1.3" {
		return opencmg.Errorf(opencmg.Invalid, "minTls: must be 1.2 or 1.3, is %q", g.MinTLS).About("minTls")
	}
	if g.Traffic == nil {
		g.Traffic = &adminservice.Threshold{GB: defaultTrafficGB}
	}
	if g.Storage == nil {
		g.Storage = &adminservice.Threshold{GB: defaultStorageGB}
	}
	for name, t := range map[string]*adminservice.Threshold{"traffic": g.Traffic, "storage": g.Storage} {
		t.WarningPct, t.CriticalPct = cmp.Or(t.WarningPct, 50), cmp.Or(t.CriticalPct, 90)
		if field := wrongOf(t); field != "" {
			return opencmg.Errorf(opencmg.Invalid, "%s: gb must be at least 1, and 1 <= warningPct <= criticalPct <= 100", name).About(name + "." + field)
		}
		if name == "storage" && t.StopService {
			return opencmg.Errorf(opencmg.Invalid, "storage: stopService goes with the traffic threshold only").About("storage.stopService")
		}
	}
	return nil
}

// wrongOf is the field of a threshold that makes no sense, empty if all do.
func wrongOf(t *adminservice.Threshold) string {
	switch {
	case t.GB < 1:
		return "gb"
	case t.CriticalPct > 100:
		return "criticalPct"
	case t.WarningPct < 1 || t.WarningPct > t.CriticalPct:
		return "warningPct"
	}
	return ""
}

// plan turns a request into a record, without asking the cloud. pfx is the
// certificate as the instances get it, without password.
func (s *Server) planGateway(ctx context.Context, in *adminservice.NewGateway) (v gatewayRecord, pfx []byte, err error) {
	v = gatewayRecord{GUID: newGUID(), Model: cmp.Or(in.Model, adminservice.ModelScaleSet), Settings: in.GatewaySettings, State: adminservice.StateProvisioning, ACME: in.Certificate.ACME}
	if err := checkSettings(&v.Settings); err != nil {
		return v, nil, err
	}
	cert, err := s.firstCertificate(in, &v)
	if err != nil {
		return v, nil, err
	}
	if cert.Certificate != nil {
		v.setCertificate(cert)
	}
	v.ServiceName = cert.ServiceName
	v.Prefix = cmp.Or(in.DeploymentName, strings.ToLower(strings.SplitN(cert.ServiceName, ".", 2)[0]))
	if err := opencmg.ValidateDeploymentName(v.Prefix); err != nil {
		if in.DeploymentName == "" {
			return v, nil, opencmg.Errorf(opencmg.Invalid, "the first label of the service name %s can not be the deployment name: give another deploymentName: %w", v.ServiceName, err).About(fieldDeploymentName)
		}
		return v, nil, opencmg.About(fieldDeploymentName, err)
	}
	switch v.Model {
	case adminservice.ModelSelfHosted:
		v.DeploymentName, v.State = v.ServiceName, adminservice.StateReady
		return v, cert.pfx, nil
	case adminservice.ModelScaleSet:
	case adminservice.ModelClassic:
		// A deployment that an older site made. It is recorded to be converted,
		// which keeps its group and storage account (cmg-behaviour M10).
		in.ExistingGroup = true
	default:
		return v, nil, opencmg.Errorf(opencmg.Invalid, "model %q: must be %s, %s or, for a deployment that is to be converted, %s", v.Model, adminservice.ModelScaleSet, adminservice.ModelSelfHosted, adminservice.ModelClassic).About("model")
	}
	app, err := s.deployingApp(ctx, in.ServerAppID)
	if err != nil {
		return v, nil, err
	}
	t, err := read[tenantRecord](ctx, s.db, kindTenant, app.Value.TenantID)
	if err != nil {
		return v, nil, err
	}
	v.ServerAppID, v.TenantID, v.Environment = app.ID, t.ID, t.Value.Environment
	if in.Environment != "" && !strings.EqualFold(string(in.Environment), string(v.Environment)) {
		return v, nil, opencmg.Errorf(opencmg.Invalid, "environment %s: application %s belongs to a tenant of %s", in.Environment, app.Name, v.Environment).About("environment")
	}
	v.SubscriptionID = strings.ToLower(in.SubscriptionID)
	v.Region, v.ResourceGroup, v.CreateGroup = opencmg.RegionName(in.Region), in.ResourceGroup, !in.ExistingGroup
	if v.ResourceGroup == "" {
		if in.ExistingGroup {
			return v, nil, opencmg.Errorf(opencmg.Invalid, "resourceGroup: name the existing group").About("resourceGroup")
		}
		v.ResourceGroup = v.Prefix
	}
	ends, err := azure.EndpointsOf(v.Environment)
	if err != nil {
		return v, nil, err
	}
	v.DeploymentName = ends.DeploymentName(v.Prefix, v.Region)
	if v.Model == adminservice.ModelClassic {
		v.DeploymentName, v.State = v.Prefix+classicDomains[v.Environment], adminservice.StateReady
	}
	return v, cert.pfx, v.deployment().Validate()
}

// deployingApp finds the server app that deploys.
func (s *Server) deployingApp(ctx context.Context, id string) (*record[applicationRecord], error) {
	apps, err := readAll[applicationRecord](ctx, s.db, kindApplication)
	if err != nil {
		return nil, err
	}
	apps = slices.DeleteFunc(apps, func(a *record[applicationRecord]) bool {
		return a.Value.Kind != adminservice.ServerApplication || id != "" && a.ID != id && !strings.EqualFold(a.Value.ClientID, id)
	})
	switch {
	case len(apps) == 1:
		return apps[0], nil
	case id != "":
		return nil, opencmg.Errorf(opencmg.NotFound, "serverAppId: there is no server application %q: import or create one", id).About("serverAppId")
	case len(apps) == 0:
		return nil, opencmg.Errorf(opencmg.Conflict, "the site has no server application yet: connect it to a tenant first (Azure services)")
	}
	return nil, opencmg.Errorf(opencmg.Invalid, "serverAppId: the site has %d server applications: say which one deploys", len(apps)).About("serverAppId")
}

func (v *gatewayRecord) setCertificate(c *usableCertificate) {
	v.CertificateSubject, v.CertificateEnds = c.Subject, c.NotAfter.UTC()
	v.Thumbprint, v.ThumbprintSHA1 = c.Thumbprint, pki.ThumbprintSHA1(c.Certificate)
	v.CertificateLeaf = string(pki.EncodeCertificates(c.Certificate))
}

// A usableCertificate is a server certificate that passed every check.
type usableCertificate struct {
	*pki.ServerCertificateInfo
	pfx    []byte // as the instances get it, without password
	checks []opencmg.Check
}

// checksFailed is the cause of a refusal, with every check.
type checksFailed []opencmg.Check

func (c checksFailed) Error() string { return "checks failed" }

func (c checksFailed) Checks() []opencmg.Check { return c }

const fieldDeploymentName = "deploymentName"

// fieldOfFault is the field to correct when checks of a server certificate
// failed: the file, unless one of the names that belong to it is all that is
// wrong.
func fieldOfFault(checks []opencmg.Check) string {
	fields := map[string]string{"service-name": "serviceName", "deployment-name": fieldDeploymentName}
	field := ""
	for _, c := range checks {
		if c.State != opencmg.CheckFail {
			continue
		}
		if f := cmp.Or(fields[c.ID], "pfx"); field == "" || field == f {
			field = f
		} else {
			field = "pfx"
		}
	}
	return field
}

// aboutFile says that the PFX can not be opened, unless its password is wrong.
func aboutFile(err error) error {
	if e, ok := errors.AsType[*opencmg.Error](err); ok && e.Field != "" {
		return err
	}
	return opencmg.About("pfx", err)
}

// inspectCertificate checks a server authentication certificate as a whole. A
// failed check is an error.
func (s *Server) inspectCertificate(in *adminservice.ServerCertificate, o pki.ServerCertificateOptions) (*usableCertificate, error) {
	if in.ACME != nil {
		return nil, opencmg.Errorf(opencmg.Invalid, "certificate: give either pfx or acme, not both").About("acme")
	}
	if len(in.PFX) == 0 {
		return nil, opencmg.Errorf(opencmg.Invalid, "certificate.pfx: upload the server authentication certificate with its private key as PFX").About("pfx")
	}
	o.Now = s.cfg.Now()
	info, checks, err := pki.InspectServerCertificate(in.PFX, []byte(in.Password), o)
	if err != nil {
		return nil, aboutFile(err)
	}
	var failed []string
	for _, c := range checks {
		if c.State == opencmg.CheckFail {
			failed = append(failed, fmt.Sprintf("%s: %s; %s", c.Name, c.Evidence, c.NextStep))
		}
	}
	if len(failed) > 0 {
		text := "the server certificate can not be used: " + strings.Join(failed, ". ")
		return nil, &opencmg.Error{Kind: opencmg.Invalid, Msg: text, Field: fieldOfFault(checks), Err: checksFailed(checks)}
	}
	u := &usableCertificate{ServerCertificateInfo: info, checks: checks}
	u.pfx, err = pki.ReencodePFX(in.PFX, []byte(in.Password))
	return u, err
}

// checkServerCertificate is part 1 of the set-up before anything else is there.
func (s *Server) checkServerCertificate(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.ServerCertificate
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	if len(in.PFX) == 0 {
		return opencmg.Errorf(opencmg.Invalid, "pfx: upload the server authentication certificate with its private key as PFX").About("pfx")
	}
	info, checks, err := pki.InspectServerCertificate(in.PFX, []byte(in.Password), pki.ServerCertificateOptions{ServiceName: in.ServiceName, Now: s.cfg.Now()})
	if err != nil {
		return aboutFile(err)
	}
	return answer(w, http.StatusOK, adminservice.CertificateReport{
		Subject: info.Subject, Names: info.DNSNames, ServiceName: info.ServiceName, DeploymentName: info.DeploymentName,
		Thumbprint: info.Thumbprint, Ends: info.NotAfter.UTC(), Checks: checks,
	})
}

// checkGateway runs every check of a planned gateway and creates nothing.
func (s *Server) checkGateway(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.NewGateway
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	v, _, err := s.planGateway(r.Context(), &in)
	if err != nil {
		return err
	}
	var checks []opencmg.Check
	if v.CertificateLeaf != "" {
		checks = append(checks, opencmg.Check{ID: "certificate", Name: "Server authentication certificate", State: opencmg.CheckPass, Evidence: v.CertificateSubject + ", until " + v.CertificateEnds.Format(time.DateOnly)})
	}
	if v.Model == adminservice.ModelScaleSet {
		cloud, err := s.cloudOf(r.Context(), &v)
		if err != nil {
			return err
		}
		more, err := cloud.Check(r.Context(), v.deployment())
		if err != nil {
			return cloudProblem(err, "the checks could not be made")
		}
		checks = append(checks, more...)
	}
	return answer(w, http.StatusOK, adminservice.Page[opencmg.Check]{Value: checks})
}

// applyChange takes over what the change names.
func applyChange(g *adminservice.GatewaySettings, c *adminservice.GatewayChange) error {
	if c.Instances != nil && *c.Instances < 1 {
		return opencmg.Errorf(opencmg.Invalid, "instances: must be 1 to %d, is %d", opencmg.MaxInstances, *c.Instances).About("instances")
	}
	set(&g.Description, c.Description)
	set(&g.Size, c.Size)
	set(&g.Instances, c.Instances)
	set(&g.Certificates, c.Certificates)
	set(&g.MinTLS, c.MinTLS)
	for _, b := range []struct{ to, from **bool }{{&g.CheckRevocation, &c.CheckRevocation}, {&g.EnforceTLS12, &c.EnforceTLS12}, {&g.EnableContent, &c.EnableContent}} {
		if *b.from != nil {
			*b.to = *b.from
		}
	}
	if c.Traffic != nil {
		g.Traffic = c.Traffic
	}
	if c.Storage != nil {
		g.Storage = c.Storage
	}
	return nil
}

// knownCertificates refuses a gateway that would trust what the site does not
// have.
func knownCertificates(tx *sitedb.Tx, g *adminservice.GatewaySettings) error {
	for _, id := range g.Certificates {
		if _, err := tx.Object(kindTrusted, id); err != nil {
			return opencmg.Errorf(opencmg.Invalid, "certificates: there is no trusted certificate %q: add it first (TrustedCertificates)", id).About("certificates")
		}
	}
	return nil
}
