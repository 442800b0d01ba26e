package cmdlet

import (
	"cmp"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

const classGateway = "SMS_AzureService"

// gatewayNames are the properties by which people name a gateway.
var gatewayNames = []string{"Name", "Fqdn", "ServiceCName"}

func getGateways(r *run) error {
	gateways, err := r.wmi(classGateway)
	return r.emitAll(slices.DeleteFunc(gateways, func(o Object) bool {
		if r.Given("Id") {
			return o.Text("AzureServiceID") != r.Text("Id")
		}
		return !r.matcher("Name")(o.Text("Name"), o.Text("Fqdn"), o.Text("ServiceCName"))
	}), err)
}

func (r *run) gatewayTarget() (Object, error) {
	return r.target("gateway", classGateway, "AzureServiceID", gatewayNames...)
}

// gatewayID finds a gateway by any of its names.
func (r *run) gatewayID(name string) (string, error) {
	gateways, err := r.wmi(classGateway)
	if err != nil {
		return "", err
	}
	var has []string
	for _, o := range gateways {
		for _, p := range gatewayNames {
			if strings.EqualFold(o.Text(p), name) {
				return o.Text("AzureServiceID"), nil
			}
		}
		has = append(has, o.Text("ServiceCName"))
	}
	return "", r.none("gateway", name, has)
}

func newGateway(r *run) error {
	in := adminservice.NewGateway{
		Environment: opencmg.Environment(r.Text("EnvironmentSetting")), SubscriptionID: r.Text("SubscriptionId"),
		Region: r.Text("Region"), ResourceGroup: r.Text("GroupName"), ExistingGroup: r.Flag("IsUsingExistingGroup"), DeploymentName: r.Text("DeploymentName"),
		GatewaySettings: adminservice.GatewaySettings{
			Description: r.Text("Description"), CheckRevocation: pick[bool](r.Bound, "CheckClientCertRevocation"), EnforceTLS12: pick[bool](r.Bound, "EnforceProtocol"),
			EnableContent: pick[bool](r.Bound, "EnableCloudDPFunction"), IPv6: r.Flag("IPv6"), MinTLS: r.Text("MinTls"),
			Traffic: r.traffic(nil), Storage: r.storage(nil),
		},
	}
	if n, ok := r.Values["VMInstanceCount"].(int); ok {
		if n < 1 {
			return opencmg.Errorf(opencmg.Invalid, "%s -VMInstanceCount: must be 1 to %d, is %d", r.Cmdlet.Name, opencmg.MaxInstances, n)
		}
		in.Instances = n
	}
	var err error
	if in.Size, err = r.size(); err != nil {
		return err
	}
	if v := r.Text("Version"); v != "" && !strings.EqualFold(v, adminservice.ModelScaleSet) {
		return opencmg.Errorf(opencmg.Invalid, "%s -Version: only %s can be deployed", r.Cmdlet.Name, adminservice.ModelScaleSet)
	}
	if r.Flag("SelfHosted") {
		in.Model = adminservice.ModelSelfHosted
	} else if in.ServerAppID, err = r.deployingApp(); err != nil {
		return err
	}
	if in.Certificate, err = r.certificate(); err != nil {
		return err
	}
	name := cmp.Or(in.Certificate.ServiceName, r.Text("ServiceCertPath"))
	if len(in.Certificate.PFX) > 0 {
		// A certificate that can not be used is refused before anything is made.
		report, err := post[adminservice.CertificateReport](r, "ServerCertificates/check", in.Certificate)
		if err != nil {
			return err
		}
		r.warnChecks(report.Checks, len(report.Names) > 1 && in.Certificate.ServiceName == "" && !r.Flag("Force"))
		name = cmp.Or(report.ServiceName, name)
	}
	certs, err := r.readCAs()
	if err != nil {
		return err
	}
	if ok, err := r.should(name, false); !ok {
		return err
	}
	if in.Certificates, err = r.addCAs(certs); err != nil {
		return err
	}
	if in.Model == adminservice.ModelSelfHosted {
		made, err := post[adminservice.Gateway](r, "Gateways", in)
		if err != nil {
			return err
		}
		return r.emitClass(classGateway, "AzureServiceID", made.ID)
	}
	id, err := r.operate(http.MethodPost, "Gateways", in, false)
	if err != nil {
		return err
	}
	return r.emitClass(classGateway, "AzureServiceID", id)
}

// warnChecks tells about what a certificate's checks found: names is whether the
// choice among several DNS names is worth a word. What DNS must hold is for the
// checklist to say, which knows the deployment.
func (r *run) warnChecks(checks []opencmg.Check, names bool) {
	for _, c := range checks {
		if c.State != opencmg.CheckWarn && c.State != opencmg.CheckTodo || c.ID == "service-name" && !names || c.ID == "dns" {
			continue
		}
		r.host.Warn(fmt.Sprintf("%s: %s; %s", c.Name, c.Evidence, c.NextStep))
	}
}

// vmSizes are the sizes by the names that Azure and the console have for them.
var vmSizes = map[string]opencmg.VMSize{
	"lab": opencmg.SizeLab, "standard": opencmg.SizeStandard, "large": opencmg.SizeLarge,
	"b2s": opencmg.SizeLab, "a2_v2": opencmg.SizeStandard, "a4_v2": opencmg.SizeLarge,
}

func (r *run) size() (opencmg.VMSize, error) {
	text := r.Text("VMSSVMSize")
	if text == "" {
		return "", nil
	}
	if s, ok := vmSizes[strings.TrimPrefix(strings.ToLower(text), "standard_")]; ok {
		return s, nil
	}
	return "", opencmg.Errorf(opencmg.Invalid, "%s -VMSSVMSize: %q must be Lab (B2s), Standard (A2_v2) or Large (A4_v2)", r.Cmdlet.Name, text)
}

// deployingApp chooses the server app: the one that is named, or the tenant's.
func (r *run) deployingApp() (string, error) {
	if id := r.Text("ServerAppClientId"); id != "" {
		return id, nil
	}
	tenant := r.Text("TenantId")
	if tenant == "" {
		return "", nil // the site's only one
	}
	apps, err := list[adminservice.Application](r, "Applications")
	if err != nil {
		return "", err
	}
	apps = slices.DeleteFunc(apps, func(a adminservice.Application) bool {
		return a.Kind != adminservice.ServerApplication || !strings.EqualFold(a.TenantID, tenant)
	})
	switch len(apps) {
	case 1:
		return apps[0].ID, nil
	case 0:
		return "", r.none("server app of tenant", tenant, nil)
	}
	return "", opencmg.Errorf(opencmg.Invalid, "%s: tenant %s has %d server apps: say with -ServerAppClientId which one deploys", r.Cmdlet.Name, tenant, len(apps))
}

// certificate reads the server authentication certificate, or the wish to get
// one by ACME.
func (r *run) certificate() (adminservice.ServerCertificate, error) {
	c := adminservice.ServerCertificate{ServiceName: r.Text("ServiceName")}
	if dir := r.Text("AcmeDirectory"); dir != "" {
		c.ACME = &adminservice.ACME{Directory: dir, Challenge: r.Text("AcmeChallenge"), AcceptTerms: r.Flag("AcmeAcceptTerms")}
		c.ACME.Contact, _ = r.Values["AcmeContact"].([]string)
		return c, nil
	}
	path := r.Text("ServiceCertPath")
	if path == "" {
		return c, nil
	}
	var err error
	c.PFX, err = r.read("ServiceCertPath", path)
	secret, _ := r.Values["ServiceCertPassword"].(adminservice.Secret)
	c.Password = string(secret)
	return c, err
}

// caFile is a CA's certificate that -CARootCert names.
type caFile struct{ path, store, text string }

// readCAs reads the files of -CARootCert, sorted by path.
func (r *run) readCAs() ([]caFile, error) {
	table, _ := r.Values["CARootCert"].(map[string]string)
	var files []caFile
	for _, path := range slices.Sorted(maps.Keys(table)) {
		store := table[path]
		switch {
		case strings.EqualFold(store, adminservice.RootCA), store == "0":
			store = adminservice.RootCA
		case strings.EqualFold(store, adminservice.IntermediateCA), store == "1":
			store = adminservice.IntermediateCA
		default:
			return nil, opencmg.Errorf(opencmg.Invalid, "%s -CARootCert: %s=%s: the store must be RootCA or IntermediateCA", r.Cmdlet.Name, path, store)
		}
		b, err := r.read("CARootCert", path)
		if err != nil {
			return nil, err
		}
		// A .cer file is DER or PEM.
		if block, _ := pem.Decode(b); block == nil {
			b = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b})
		}
		files = append(files, caFile{path, store, string(b)})
	}
	return files, nil
}

// addCAs makes CAs known to the site, unless they are, and returns their IDs.
func (r *run) addCAs(files []caFile) ([]string, error) {
	if len(files) == 0 {
		return nil, nil
	}
	known, err := list[adminservice.TrustedCertificate](r, "TrustedCertificates")
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, f := range files {
		block, _ := pem.Decode([]byte(f.text))
		i := slices.IndexFunc(known, func(k adminservice.TrustedCertificate) bool {
			have, _ := pem.Decode([]byte(k.Certificate))
			return have != nil && string(have.Bytes) == string(block.Bytes)
		})
		if i >= 0 {
			ids = append(ids, known[i].ID)
			continue
		}
		made, err := post[adminservice.TrustedCertificate](r, "TrustedCertificates", adminservice.TrustedCertificate{Store: f.store, Certificate: f.text})
		if err != nil {
			return nil, fmt.Errorf("%s -CARootCert: %s: %w", r.Cmdlet.Name, f.path, err)
		}
		ids = append(ids, made.ID)
	}
	return ids, nil
}

// traffic and storage are the thresholds that the parameters ask for, on top of
// what is in force; nil when none was given.
func (r *run) traffic(now *adminservice.Threshold) *adminservice.Threshold {
	t := r.threshold(now, 10_000, "EnableTrafficOut", "TrafficOutGB", "TrafficWarningPct", "TrafficCriticalPct", "TrafficOutStopService")
	if t != nil && r.Given("TrafficOutStopService") {
		t.StopService = r.Flag("TrafficOutStopService")
	}
	return t
}

func (r *run) storage(now *adminservice.Threshold) *adminservice.Threshold {
	return r.threshold(now, 2_000, "EnableStorageQuota", "StorageQuotaGB", "StorageWarningPct", "StorageCriticalPct")
}

func (r *run) threshold(now *adminservice.Threshold, gb int, enable, quota, warning, critical string, more ...string) *adminservice.Threshold {
	if !slices.ContainsFunc(append(more, enable, quota, warning, critical), r.Given) {
		return nil
	}
	t := adminservice.Threshold{GB: gb, WarningPct: 50, CriticalPct: 90}
	if now != nil {
		t = *now
	}
	if r.Given(enable) {
		t.Enabled = r.Flag(enable)
	}
	for _, v := range []struct {
		to   *int
		name string
	}{{&t.GB, quota}, {&t.WarningPct, warning}, {&t.CriticalPct, critical}} {
		if n, ok := r.Values[v.name].(int); ok {
			*v.to = n
		}
	}
	return &t
}

func setGateway(r *run) error {
	o, err := r.gatewayTarget()
	if err != nil {
		return err
	}
	id := o.Text("AzureServiceID")
	path := pathID("Gateways", id)
	now, err := get[adminservice.Gateway](r, path)
	if err != nil {
		return err
	}
	change := adminservice.GatewayChange{
		Description: pick[string](r.Bound, "Description"), Instances: pick[int](r.Bound, "VMInstanceCount"), CheckRevocation: pick[bool](r.Bound, "CheckClientCertRevocation"),
		EnforceTLS12: pick[bool](r.Bound, "EnforceProtocol"), EnableContent: pick[bool](r.Bound, "EnableCloudDPFunction"), MinTLS: pick[string](r.Bound, "MinTls"),
		Traffic: r.traffic(now.Traffic), Storage: r.storage(now.Storage),
	}
	if r.Given("VMSSVMSize") {
		size, err := r.size()
		if err != nil {
			return err
		}
		change.Size = &size
	}
	cert, err := r.certificate()
	if err != nil {
		return err
	}
	files, err := r.readCAs()
	if err != nil {
		return err
	}
	drop, err := r.certsToRemove(&now)
	if err != nil {
		return err
	}
	if ok, err := r.should(now.ServiceName, false); !ok {
		return err
	}
	if change.Certificates, err = r.trust(&now, files, drop); err != nil {
		return err
	}
	renew := len(cert.PFX) > 0
	if change != (adminservice.GatewayChange{}) {
		if _, err := r.operate(http.MethodPatch, path, change, renew); err != nil {
			return err
		}
	}
	if renew {
		if _, err := r.operate(http.MethodPut, path+"/certificate", cert, false); err != nil {
			return err
		}
	}
	if !r.Flag("PassThru") {
		return nil
	}
	return r.emitClass(classGateway, "AzureServiceID", id)
}

// certsToRemove finds the trusted certificates with the thumbprints of
// -RemoveCertThumbprints, SHA-1 or SHA-256, among those that the gateway trusts.
func (r *run) certsToRemove(now *adminservice.Gateway) ([]adminservice.TrustedCertificate, error) {
	thumbprints, _ := r.Values["RemoveCertThumbprints"].([]string)
	if len(thumbprints) == 0 {
		return nil, nil
	}
	known, err := list[adminservice.TrustedCertificate](r, "TrustedCertificates")
	if err != nil {
		return nil, err
	}
	var drop []adminservice.TrustedCertificate
	for _, t := range thumbprints {
		want := strings.ToLower(strings.NewReplacer(" ", "", ":", "").Replace(t))
		i := slices.IndexFunc(known, func(k adminservice.TrustedCertificate) bool {
			block, _ := pem.Decode([]byte(k.Certificate))
			trusts := len(now.Certificates) == 0 || slices.Contains(now.Certificates, k.ID)
			return trusts && block != nil && (strings.EqualFold(k.Thumbprint, want) || thumbprintSHA1(block.Bytes) == want)
		})
		if i < 0 {
			return nil, opencmg.Errorf(opencmg.NotFound, "%s -RemoveCertThumbprints: gateway %s trusts no certificate with the thumbprint %s: opencmg Get-CMTrustedRootCertificate lists those of the site", r.Cmdlet.Name, now.Name, t)
		}
		drop = append(drop, known[i])
	}
	return drop, nil
}

// trust adds and removes CAs. An empty list of the gateway means all of the
// site's, and stays so when CAs are added only.
func (r *run) trust(now *adminservice.Gateway, add []caFile, drop []adminservice.TrustedCertificate) (*[]string, error) {
	ids, err := r.addCAs(add)
	if err != nil {
		return nil, err
	}
	chosen := slices.Clone(now.Certificates)
	if len(drop) == 0 {
		if len(chosen) == 0 || len(ids) == 0 {
			return nil, nil
		}
		chosen = merge(chosen, ids, nil)
		return &chosen, nil
	}
	if len(chosen) == 0 {
		all, err := list[adminservice.TrustedCertificate](r, "TrustedCertificates")
		if err != nil {
			return nil, err
		}
		for _, t := range all {
			chosen = append(chosen, t.ID)
		}
	}
	var gone []string
	for _, d := range drop {
		gone = append(gone, d.ID)
	}
	chosen = merge(chosen, ids, gone)
	if len(chosen) == 0 {
		return nil, opencmg.Errorf(opencmg.Invalid, "%s -RemoveCertThumbprints: gateway %s would be left without any CA, which stands for all that the site trusts: remove the certificate from the site instead, or add another one in the same call (-CARootCert)", r.Cmdlet.Name, now.Name)
	}
	return &chosen, nil
}

func removeGateway(r *run) error {
	o, err := r.gatewayTarget()
	if err != nil {
		return err
	}
	if ok, err := r.should(o.Text("ServiceCName"), true); !ok {
		return err
	}
	_, err = r.operate(http.MethodDelete, pathID("Gateways", o.Text("AzureServiceID")), nil, false)
	return err
}

func gatewayAction(action string) func(*run) error {
	return func(r *run) error {
		o, err := r.gatewayTarget()
		if err != nil {
			return err
		}
		if ok, err := r.should(o.Text("ServiceCName"), false); !ok {
			return err
		}
		_, err = r.operate(http.MethodPost, pathID("Gateways", o.Text("AzureServiceID"))+"/"+action, nil, false)
		return err
	}
}
