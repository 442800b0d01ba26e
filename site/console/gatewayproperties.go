package console

import (
	"encoding/json"
	"errors"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// Properties of a gateway: what can be changed in place (cmg-behaviour M8), on
// the tabs Settings, Alerts and Content.

type gatewayProperties struct {
	gatewayRow
	Tab     string
	Trusted []adminservice.TrustedCertificate
	Sizes   []opencmg.VMSizeFacts
	Chosen  map[string]bool
	// Was is what the form shows at first, as JSON: what somebody else changes
	// meanwhile is told from what this form changes.
	Was string
}

func loadGatewayProperties(v *Visit) (any, error) {
	g, err := get[adminservice.Gateway](v, gatewayPath(v.ID()))
	if err != nil {
		return nil, err
	}
	p := &gatewayProperties{gatewayRow: gatewayRow{g}, Tab: v.Query("tab"), Sizes: opencmg.VMSizes(), Chosen: map[string]bool{}}
	if !slices.Contains([]string{"alerts", "content"}, p.Tab) {
		p.Tab = "settings"
	}
	if p.Trusted, err = list[adminservice.TrustedCertificate](v, "TrustedCertificates"); err != nil {
		return nil, err
	}
	chosen := g.Certificates
	if v.Request.PostForm.Has("was") {
		chosen = v.Request.PostForm["certificates"]
	}
	for _, id := range chosen {
		p.Chosen[id] = true
	}
	p.Was = settingsText(&g.GatewaySettings)
	// Whoever saved a form that was not done saves it on top of what is there
	// only after a look at it.
	if v.Problem != nil && !errors.Is(kindOf(v.Problem), opencmg.Stale) && v.Form("was") != "" {
		p.Was = v.Form("was")
	}
	return p, nil
}

func settingsText(s *adminservice.GatewaySettings) string {
	b, err := json.Marshal(s)
	if err != nil {
		return "{}" // texts, numbers and switches alone
	}
	return string(b)
}

// settingNames are what people call a setting, by its name in JSON.
var settingNames = map[string]string{
	"description": "the description", "size": "the size", "instances": "the number of instances", "certificates": "the trusted certificates", "checkRevocation": "the revocation check",
	"enforceTls12": "enforcing TLS 1.2", "minTls": "the TLS version", "enableContent": "content", "traffic": "the traffic threshold", "storage": "the storage threshold",
}

// changedSettings names the settings that differ.
func changedSettings(was string, now *adminservice.GatewaySettings) (names []string, err error) {
	var a, b map[string]any
	if err := json.Unmarshal([]byte(was), &a); err != nil {
		return nil, opencmg.Errorf(opencmg.Invalid, "the form is not complete: open the page again")
	}
	if err := json.Unmarshal([]byte(settingsText(now)), &b); err != nil {
		return nil, err
	}
	for key, name := range settingNames {
		if !reflect.DeepEqual(a[key], b[key]) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func changeGateway(v *Visit) (string, string, error) {
	g, err := get[adminservice.Gateway](v, gatewayPath(v.ID()))
	if err != nil {
		return "", "", err
	}
	// The record has a new version with every look at the machines, too; only
	// what somebody chose counts.
	others, err := changedSettings(v.Form("was"), &g.GatewaySettings)
	if err != nil {
		return "", "", err
	}
	if len(others) > 0 {
		return "", "", opencmg.Errorf(opencmg.Stale, "somebody changed %s of the gateway while this page was open, and nothing was saved: compare with what the gateway has now, and save again to replace it", strings.Join(others, ", "))
	}
	change, err := gatewayChange(v, &g)
	if err != nil {
		return "", "", err
	}
	var changed gatewayOrOperation
	if err := v.Client.Change(v.Context(), "PATCH", gatewayPath(g.ID), g.Version, change, &changed); err != nil {
		return "", "", err
	}
	said := "The properties were saved. Instances take them over within seconds."
	if changed.operation() != "" {
		said = "The properties were saved, and the instances are being changed."
	}
	return gatewayProgress(g.ID, changed.operation()), said, nil
}

// gatewayChange is what the tab's form asks for.
func gatewayChange(v *Visit, g *adminservice.Gateway) (c adminservice.GatewayChange, err error) {
	f := &fromForm{v: v}
	text := func(name string) *string { s := v.Form(name); return &s }
	tick := func(name string) *bool { b := v.Checked(name); return &b }
	switch v.Query("tab") {
	case "alerts":
		c.Traffic, c.Storage = f.threshold("traffic"), f.threshold("storage")
	case "content":
		c.EnableContent = tick("enableContent")
	default:
		c.Description, c.MinTLS, c.CheckRevocation = text("description"), text("minTls"), tick("checkRevocation")
		certificates := v.Request.PostForm["certificates"]
		if v.Form("trust") != "some" {
			certificates = []string{}
		} else if len(certificates) == 0 {
			return c, opencmg.Errorf(opencmg.Invalid, "certificates: choose at least one, or trust all of the site's").About("trust")
		}
		c.Certificates = &certificates
		if g.Model == adminservice.ModelSelfHosted {
			break
		}
		c.EnforceTLS12 = tick("enforceTls12")
		if n := f.number("instances"); n != 0 {
			c.Instances = &n
		}
		if size := opencmg.VMSize(v.Form("size")); size != "" {
			c.Size = &size
		}
	}
	return c, f.err
}

// replaceCertificate gives the gateway another server certificate, or the wish
// to obtain one.
func replaceCertificate(v *Visit) (string, string, error) {
	f := &fromForm{v: v}
	in := f.serverCertificate()
	if f.err != nil {
		return "", "", f.err
	}
	var op adminservice.Operation
	err := v.Do("PUT", "Gateways/"+url.PathEscape(v.ID())+"/certificate", in, &op)
	return gatewayProgress(v.ID(), op.ID), "", err
}
