package console

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// The wizard that creates a gateway. It is one form; its checks are in
// gatewaychecks.go.

// certificateFields are the fields of a form for a server certificate by what
// the service calls them; newGatewayFields are those of the wizard and of the
// properties.
var (
	certificateFields = fieldNames{
		"acme": "certificateFrom", "acme.directory": "acmeDirectory", "acme.contact": "acmeContact", "acme.challenge": "acmeChallenge", "acme.bindingKeyId": "acmeKeyId", "acme.bindingKey": "acmeKey",
	}
	newGatewayFields = fieldNames{
		"certificate.pfx": "pfx", "certificate.password": "password", "certificate.serviceName": "serviceName", "certificate": "certificateFrom",
		"certificates": "trust", "existingGroup": "group",
		"traffic.gb": "trafficGb", "traffic.warningPct": "trafficWarning", "traffic.criticalPct": "trafficCritical", "traffic.stopService": "trafficStop", "traffic": "trafficEnabled",
		"storage.gb": "storageGb", "storage.warningPct": "storageWarning", "storage.criticalPct": "storageCritical", "storage": "storageEnabled",
	}.with("certificate", certificateFields)
)

// gatewayWizard is what one can choose from.
type gatewayWizard struct {
	Site    adminservice.Site
	Apps    []adminservice.Application // that deploy
	Trusted []adminservice.TrustedCertificate
	Sizes   []opencmg.VMSizeFacts
	Feature bool // the optional feature is on
	Chosen  map[string]bool
	Choices *azureChoices // that are known already
}

// gatewayChoices are the lists that the wizard wants.
func gatewayChoices(v *Visit) wantedChoices {
	classic := v.Form("model") == adminservice.ModelClassic
	return wantedChoices{
		app: v.Form("serverAppId"), subscription: v.Form("subscriptionId"), region: v.Form("region"),
		places: true, groups: classic || v.Form("group") == "existing",
	}
}

func loadGatewayWizard(v *Visit) (any, error) {
	p := &gatewayWizard{Sizes: opencmg.VMSizes(), Chosen: map[string]bool{}}
	for _, id := range v.Request.PostForm["certificates"] {
		p.Chosen[id] = true
	}
	var err error
	if p.Site, err = get[adminservice.Site](v, "Site"); err != nil {
		return nil, err
	}
	apps, err := list[adminservice.Application](v, "Applications")
	if err != nil {
		return nil, err
	}
	for _, a := range apps {
		if a.Kind == adminservice.ServerApplication {
			p.Apps = append(p.Apps, a)
		}
	}
	if p.Trusted, err = list[adminservice.TrustedCertificate](v, "TrustedCertificates"); err != nil {
		return nil, err
	}
	features, err := list[adminservice.Feature](v, "Features")
	for _, f := range features {
		p.Feature = p.Feature || f.ID == adminservice.FeatureGateway && f.On
	}
	want := gatewayChoices(v)
	if want.app == "" && len(p.Apps) > 0 {
		want.app = p.Apps[0].ID
	}
	p.Choices = choose(v, want, atOnce)
	return p, err
}

// threshold reads a threshold whose fields begin with the name.
func (f *fromForm) threshold(name string) *adminservice.Threshold {
	return &adminservice.Threshold{
		Enabled: f.v.Checked(name + "Enabled"), GB: f.number(name + "Gb"), WarningPct: f.number(name + "Warning"), CriticalPct: f.number(name + "Critical"),
		StopService: f.v.Checked(name + "Stop"),
	}
}

// serverCertificate reads where the server certificate comes from.
func (f *fromForm) serverCertificate() adminservice.ServerCertificate {
	v := f.v
	c := adminservice.ServerCertificate{ServiceName: v.Form("serviceName")}
	if v.Form("certificateFrom") == "acme" {
		c.ACME = &adminservice.ACME{
			Directory: v.Form("acmeDirectory"), Contact: strings.Fields(v.Form("acmeContact")), Challenge: v.Form("acmeChallenge"), AcceptTerms: v.Checked("acmeTerms"),
			BindingKeyID: v.Form("acmeKeyId"), BindingKey: v.Form("acmeKey"),
		}
		return c
	}
	var err error
	c.PFX, err = upload(v, "pfx")
	f.err = cmp.Or(f.err, err)
	c.Password = v.Request.PostFormValue("password")
	return c
}

// plannedGateway is what the form asks for.
func plannedGateway(v *Visit) (adminservice.NewGateway, error) {
	f := &fromForm{v: v}
	yes := func(name string) *bool { b := v.Checked(name); return &b }
	in := adminservice.NewGateway{
		GatewaySettings: adminservice.GatewaySettings{
			Description: v.Form("description"), CheckRevocation: yes("checkRevocation"), EnforceTLS12: yes("enforceTls12"), EnableContent: yes("enableContent"),
			MinTLS: v.Form("minTls"), Traffic: f.threshold("traffic"), Storage: f.threshold("storage"),
		},
		Model: v.Form("model"), Certificate: f.serverCertificate(), DeploymentName: v.Form("deploymentName"),
	}
	if v.Form("trust") == "some" {
		in.GatewaySettings.Certificates = v.Request.PostForm["certificates"]
	}
	if in.Model != adminservice.ModelSelfHosted {
		in.Environment, in.ServerAppID = opencmg.Environment(v.Form("environment")), v.Form("serverAppId")
		in.SubscriptionID, in.Region = v.Form("subscriptionId"), v.Form("region")
		in.ResourceGroup, in.ExistingGroup = v.Form("resourceGroup"), v.Form("group") == "existing" || in.Model == adminservice.ModelClassic
		in.Size, in.Instances, in.IPv6 = opencmg.VMSize(v.Form("size")), f.number("instances"), v.Checked("ipv6")
	}
	return in, f.err
}

func createGateway(v *Visit) (string, string, error) {
	in, err := plannedGateway(v)
	if err != nil {
		return "", "", err
	}
	if in.Model != adminservice.ModelSelfHosted && in.Instances == 0 {
		return "", "", opencmg.Errorf(opencmg.Invalid, "instances: give a number from 1 to %d", opencmg.MaxInstances).About("instances")
	}
	added, err := addTrustedFiles(v, "caFiles")
	if err != nil {
		return "", "", err
	}
	if v.Form("trust") == "some" {
		for _, id := range added {
			if !slices.Contains(in.GatewaySettings.Certificates, id) {
				in.GatewaySettings.Certificates = append(in.GatewaySettings.Certificates, id)
			}
		}
		if len(in.GatewaySettings.Certificates) == 0 {
			return "", "", opencmg.Errorf(opencmg.Invalid, "certificates: choose at least one, or trust all of the site's").About("trust")
		}
	}
	var made gatewayOrOperation
	if err := v.Do(http.MethodPost, "Gateways", in, &made); err != nil {
		return "", "", err
	}
	said := "The gateway is being created. This page shows every step; it goes on when you leave it."
	if in.Model == adminservice.ModelClassic {
		said = "The gateway is recorded. Convert it when its clients can do without it for some minutes."
	} else if made.operation() == "" {
		said = "The gateway was created. Add an instance: a host of your own that joins with a token."
	}
	return gatewayProgress(made.gateway(), made.operation()), said, nil
}
