package site_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/pebbletest"
	"github.com/opencmg/opencmg/site"
)

// A classic deployment is taken over and becomes a scale set by buttons alone,
// and what hinders that is on the page.
func TestConsoleConvertsAClassicGateway(t *testing.T) {
	r := newRig(t)
	r.connect()
	v := r.console(r.c.Token)
	v.see("gateways/new", "Classic")
	form := wizardForm()
	form.Set("model", adminservice.ModelClassic)
	form.Set("resourceGroup", "")
	files := map[string]formFile{"pfx": {"cmg.pfx", r.pfx("p4ssw0rd-planted", serviceName)}}
	v.refused("gateways/new", form, files, "resourceGroup", "name the existing group")
	form.Set("resourceGroup", "old-group")
	status, page := v.postFiles("gateways/new", form, files)
	if status != http.StatusOK || !strings.Contains(page, "The gateway is recorded") {
		t.Fatalf("recorded: %d\n%s", status, page)
	}
	g := r.gateway()
	one := "gateways/" + g.ID
	page = v.see(one, ">Convert<", "Classic", "Convert it to a virtual machine scale set", "granitefalls.cloudapp.lab.opencmg.example")
	for _, no := range []string{"Stop service", "Start service", ">Upgrade<", "<summary>Scale", ">Synchronize<"} {
		if strings.Contains(page, no) {
			t.Errorf("a classic gateway can be asked for %s", no)
		}
	}
	if page := v.see(one+"/properties", "Convert the gateway first"); strings.Contains(page, "Replace the server certificate") {
		t.Error("the certificate of a classic gateway can be replaced, which the service refuses")
	}
	// Its group is not there: the conversion says so in the cloud's words, and
	// goes on when it is.
	_, page = v.post(one+"/convert", nil)
	if !strings.Contains(page, "Convert to a scale set") {
		t.Fatalf("no progress:\n%s", page)
	}
	if _, err := r.c.Wait(t.Context(), idPattern.FindStringSubmatch(page)[1], nil); err == nil {
		t.Fatal("it was converted without its group")
	}
	v.see(one, "ResourceGroupNotFound", ">Retry<", "goes on at the step that failed")
	other := r.newGateway()
	other.ResourceGroup, other.DeploymentName = "old-group", "other"
	other.Certificate.PFX = r.pfx("p4ssw0rd-planted", "other.corp.example")
	r.finish(do[adminservice.Operation](r, "POST", "Gateways", other))
	_, page = v.post(one+"/retry", nil)
	r.finishShown(page)
	page = v.see(one, "Virtual machine scale set", "granitefalls.westeurope.cloudapp.lab.opencmg.example", "Instance 1", "Stop service", "old-group")
	if strings.Contains(page, ">Convert<") || strings.Contains(page, "Convert it to a virtual machine scale set") {
		t.Error("what was converted can be converted again")
	}
	v.see("gateways", "Ready", serviceName)

	// A name in the domain of classic deployments can not move.
	form.Set("deploymentName", "third")
	form.Set("serviceName", "third.cloudapp.lab.opencmg.example")
	status, page = v.postFiles("gateways/new", form, map[string]formFile{"pfx": {"third.pfx", r.pfx("p4ssw0rd-planted", "third.cloudapp.lab.opencmg.example")}})
	if status != http.StatusOK {
		t.Fatalf("%d\n%s", status, page)
	}
	third := do[adminservice.Gateway](r, "GET", "Gateways/third", nil)
	if page := v.see("gateways/"+third.ID, "can not be converted"); strings.Contains(page, ">Convert<") {
		t.Error("a name that can not move can be converted")
	}
	if status, page := v.post("gateways/"+third.ID+"/convert", nil); status != http.StatusConflict || !strings.Contains(page, "domain of classic") {
		t.Errorf("a name that can not move: %d\n%s", status, page)
	}
	_, page = v.post("gateways/"+third.ID+"/delete", url.Values{"typed": {"third.cloudapp.lab.opencmg.example"}})
	r.finishShown(page)
}

// A gateway whose certificate comes by ACME, from the wizard to the certificate
// of an authority that wants to know its customers.
func TestConsoleObtainsACertificate(t *testing.T) {
	d := &door{}
	r := newRig(t, func(r *rig) {
		r.config = func(c *site.Config) { c.ACME.HTTP = &http.Client{Transport: d} }
	})
	r.connect()
	p := r.join("cp1", "")
	e := r.edge(p)
	const key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	pebble := pebbletest.Start(t, pebbletest.Options{HTTPAddr: e.http, TLSAddr: e.tls, Validity: 90 * 24 * time.Hour, Bindings: map[string]string{"customer-1": key}})
	d.open(pebble.HTTP)
	v := r.console(r.c.Token)
	v.see("gateways/new", "Obtain and renew it by ACME")
	form := wizardForm()
	form.Set("certificateFrom", "acme")
	form.Set("acmeDirectory", pebble.Directory)
	form.Set("acmeContact", "pki@corp.example")
	form.Set("acmeChallenge", opencmg.ChallengeHTTP)
	form.Set("acmeTerms", "on")
	v.refused("gateways/new", form, nil, "serviceName", "name the service in full")
	form.Set("serviceName", serviceName)
	if _, summary, _ := v.checked("gateways/new/check", with(form, "at", "Summary"), nil); !strings.Contains(summary, "by ACME from "+pebble.Directory) {
		t.Errorf("the summary: %s", summary)
	}
	status, page := v.post("gateways/new", with(form, "proof", v.proof))
	if status != http.StatusOK {
		t.Fatalf("%d\n%s", status, page)
	}
	r.finishShown(page)
	g := r.gateway()
	if !g.CertificateTemporary || g.ACME == nil || g.ACME.Directory != pebble.Directory || g.ACME.Contact[0] != "mailto:pki@corp.example" || g.ACME.Challenge != opencmg.ChallengeHTTP || !g.ACME.AcceptTerms {
		t.Fatalf("the gateway has %+v", g.ACME)
	}
	one := "gateways/" + g.ID
	v.see(one, "a certificate that no client trusts", "Obtain certificate now", pebble.Directory)
	if status, page := v.post("connection-points/"+p.id+"/link", url.Values{"gateway": {g.ID}}); status != http.StatusOK {
		t.Fatalf("link: %d\n%s", status, page)
	}
	e.run()
	e.say(t.Context())
	// The authority does not know who asks, and says so on the page.
	_, page = v.post(one+"/obtainCertificate", nil)
	if !strings.Contains(page, "Obtain a server certificate") {
		t.Fatalf("no progress:\n%s", page)
	}
	if op, err := r.obtained(); err == nil {
		t.Fatalf("without a binding\n%s", r.describe(op.ID))
	}
	v.see(one, "The last attempt failed", "external account binding")
	v.see("alerts", "external account binding")

	renew := url.Values{"certificateFrom": {"acme"}, "acmeDirectory": {pebble.Directory}, "acmeContact": {"pki@corp.example"}, "acmeChallenge": {opencmg.ChallengeTLSALPN}, "acmeTerms": {"on"}, "acmeKeyId": {"customer-1"}, "acmeKey": {key}}
	v.see(one+"/properties", `value="`+pebble.Directory+`"`, `name="acmeKeyId"`)
	v.refused(one+"/certificate", with(renew, "acmeKey", ""), nil, "acmeKeyId", "belong together")
	status, page = v.post(one+"/certificate", with(renew, "acmeKey", "!planted!"))
	if fields, _ := fieldsOf(t, page, one+"/certificate"); status != http.StatusBadRequest || !strings.Contains(fields["acmeKey"].text, "must be base64url") || strings.Contains(page, "planted") {
		t.Errorf("a key that is none: %d, beside it %q", status, fields["acmeKey"].text)
	}
	status, page = v.post(one+"/certificate", renew)
	if status != http.StatusOK || strings.Contains(page, key) {
		t.Fatalf("with the binding: %d\n%s", status, page)
	}
	r.finishShown(page)
	got := r.gateway()
	if got.CertificateTemporary || got.ACMEProblem != "" || got.CertificateThumbprint == g.CertificateThumbprint {
		t.Errorf("after the order: %+v", got)
	}
	page = v.see(one, got.CertificateThumbprint, "Certificate from", "next ")
	for _, no := range []string{"that no client trusts", "last attempt failed", key} {
		if strings.Contains(page, no) {
			t.Errorf("the page still says %q", no)
		}
	}
	v.see("certificates", serviceName, "ACME")
	// A file that is brought ends it.
	status, page = v.postFiles(one+"/certificate", url.Values{"certificateFrom": {"pfx"}, "password": {"x"}}, map[string]formFile{"pfx": {"new.pfx", r.pfx("x", serviceName)}})
	if status != http.StatusOK {
		t.Fatalf("a file: %d\n%s", status, page)
	}
	r.finishShown(page)
	if page := v.see(one); strings.Contains(page, "Obtain certificate now") || strings.Contains(page, "Certificate from") {
		t.Error("the certificate still comes by ACME")
	}
}
