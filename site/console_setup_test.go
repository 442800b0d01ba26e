package site_test

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"html"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
)

// A formFile is a file that somebody chose in a form.
type formFile struct {
	name    string
	content []byte
}

// postFiles sends a form with files, as browsers do, and follows to the next
// page.
func (v *visitor) postFiles(path string, form url.Values, files map[string]formFile) (status int, page string) {
	v.t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	w.WriteField("proof", v.proof)
	for name, values := range form {
		for _, value := range values {
			w.WriteField(name, value)
		}
	}
	for name, f := range files {
		part := must(w.CreateFormFile(name, f.name))(v.t)
		part.Write(f.content)
	}
	w.Close()
	req := must(http.NewRequest("POST", v.url+"/console/"+path, &b))(v.t)
	req.Header.Set("Content-Type", w.FormDataContentType())
	return v.answer(v.http.Do(req))
}

var idPattern = regexp.MustCompile(`id="operation-([0-9A-Fa-f-]+)"`)

// finishShown waits for the operation that a page shows.
func (r *rig) finishShown(page string) adminservice.Operation {
	r.t.Helper()
	m := idPattern.FindStringSubmatch(page)
	if m == nil {
		r.t.Fatalf("the page shows no operation:\n%s", page)
	}
	return r.finish(adminservice.Operation{ID: m[1]})
}

// wizardForm is what the gateway wizard sends when nothing but the needed fields
// was changed.
func wizardForm() url.Values {
	return url.Values{
		"model": {adminservice.ModelScaleSet}, "environment": {string(opencmg.AzureLab)}, "subscriptionId": {subscriptionID}, "certificateFrom": {"pfx"}, "password": {"p4ssw0rd-planted"},
		"description": {"made by a person"}, "region": {"West Europe"}, "group": {"new"}, "size": {"Lab"}, "instances": {"2"}, "trust": {"all"}, "checkRevocation": {"on"}, "enforceTls12": {"on"},
		"minTls": {"1.2"}, "enableContent": {"on"}, "trafficEnabled": {"on"}, "trafficGb": {"500"}, "trafficWarning": {"40"}, "trafficCritical": {"80"}, "trafficStop": {"on"},
		"storageEnabled": {"on"}, "storageGb": {"2000"}, "storageWarning": {"50"}, "storageCritical": {"90"},
	}
}

// connectByWizard goes through the Azure Services wizard.
func (v *visitor) connectByWizard(r *rig) {
	r.t.Helper()
	v.see("azure-services", "The site is connected to no tenant", "Configure Azure Services")
	v.see("azure-services/new", "Server application", "AzureLab")
	status, page := v.post("azure-services/new", url.Values{
		"name": {"Cloud management"}, "environment": {string(opencmg.AzureLab)}, "tenantId": {tenantID}, "serverBy": {"create"}, "serverName": {"CMG server"}, "secretYears": {"1"}, "directoryRead": {"on"},
		"clientBy": {"create"}, "clientName": {"CMG client"}, "signInBy": {"secret"}, "signInClientId": {deployerID}, "signInSecret": {deployerSecret}, "userDiscovery": {"on"}, "userDeltaMinutes": {"10"},
	})
	if status != http.StatusOK || !strings.Contains(page, "Create app registrations") {
		r.t.Fatalf("the wizard: %d\n%s", status, page)
	}
	if strings.Contains(page, deployerSecret) {
		r.t.Error("the page holds the secret that was typed")
	}
	op := r.finishShown(page)
	var made adminservice.CreatedApplications
	if err := json.Unmarshal(op.Result, &made); err != nil || made.AzureServiceID == "" {
		r.t.Fatalf("what was made: %s %v", op.Result, err)
	}
	v.see("operations/"+op.ID, "completed", `href="/console/azure-services/`+made.AzureServiceID+`"`)
	v.see("azure-services/"+made.AzureServiceID, "CMG server", "CMG client", "days left", `value="10"`)
}

// The whole of the set-up that these pages are for, by forms alone.
func TestConsoleSetUp(t *testing.T) {
	r := newRig(t)
	v := r.console(r.c.Token)
	v.see("gateways", "The site has no gateway yet", `href="/console/gateways/new"`)
	v.connectByWizard(r)
	v.see("certificates/trusted", "No CA is trusted")
	block, _ := pem.Decode(r.ca.CertificatePEM())
	if status, page := v.postFiles("certificates/trusted", nil, map[string]formFile{"caFiles": {"root.cer", block.Bytes}}); status != http.StatusOK || !strings.Contains(page, "Test CA") || !strings.Contains(page, "RootCA") {
		t.Fatalf("a root as DER: %d\n%s", status, page)
	}
	v.see("gateways/new", "Trust all root and intermediate CAs of the site (1)", "Fourth Coffee: CMG server")

	// A refusal loses nothing but files and secrets.
	form := wizardForm()
	files := map[string]formFile{"pfx": {"cmg.pfx", r.pfx("p4ssw0rd-planted", serviceName)}}
	form.Set("subscriptionId", "not-a-guid")
	status, page := v.postFiles("gateways/new", form, files)
	if status != http.StatusBadRequest || !strings.Contains(page, `value="not-a-guid"`) || !strings.Contains(page, "made by a person") || !strings.Contains(page, "choose the files again") {
		t.Fatalf("a wrong subscription: %d\n%s", status, page)
	}
	if strings.Contains(page, "planted") {
		t.Error("the page holds the password that was typed")
	}
	form.Set("subscriptionId", subscriptionID)
	status, page = v.postFiles("gateways/new", form, files)
	if status != http.StatusOK || !strings.Contains(page, "<h1>"+serviceName+"</h1>") || !strings.Contains(page, "Create the gateway") {
		t.Fatalf("the gateway wizard: %d\n%s", status, page)
	}
	op := r.finishShown(page)
	g := r.gateway()
	if g.Instances != 2 || g.Size != opencmg.SizeLab || g.Description != "made by a person" || !g.Traffic.StopService || g.Traffic.GB != 500 || g.Storage.GB != 2000 {
		t.Errorf("the gateway has %+v", g.GatewaySettings)
	}
	v.see("gateways", serviceName, "Ready", "Virtual machine scale set", "westeurope", "made by a person", "Storage egress (GB)")
	page = v.see("gateways/"+g.ID+"?operation="+op.ID, "100 %", "Instance 0", "Instance 1", "Stop service", "Synchronize", "Upgrade", "Scale", "Delete", g.CertificateThumbprint, subscriptionID)
	for _, no := range []string{"Start service", ">Convert<", ">Retry<"} {
		if strings.Contains(page, no) {
			t.Errorf("a ready gateway can be asked for %s", no)
		}
	}
	// A token for the connection point, shown in the answer and nowhere else.
	status, page = v.post("certificates/join-tokens", url.Values{"kind": {"connection-point"}, "gatewayId": {g.ID}, "minutes": {"60"}, "uses": {"1"}})
	secret := secretOf(page)
	if status != http.StatusOK || !strings.Contains(page, "opencmg connection-point join") {
		t.Fatalf("a join token: %d\n%s", status, page)
	}
	if _, err := adminservice.ParseJoinToken(secret); err != nil {
		t.Errorf("the join token: %v", err)
	}
	if page := v.see("certificates/join-tokens", "usable", serviceName); strings.Contains(page, secret) {
		t.Error("the join token is shown twice")
	}
}

var secretPattern = regexp.MustCompile(`(?s)<textarea id="secret"[^>]*>(.*?)</textarea>`)

// secretOf is the secret that a page shows once; empty when it shows none.
func secretOf(page string) string {
	m := secretPattern.FindStringSubmatch(page)
	if m == nil {
		return ""
	}
	return html.UnescapeString(m[1])
}

// checked asks what the wizard asks while somebody types.
func (v *visitor) checked(path string, form url.Values, files map[string]formFile) (fields map[string]string, summary string, more bool) {
	v.t.Helper()
	status, text := v.postFiles(path, form, files)
	var found struct {
		Fields  map[string]string
		Summary string
		More    bool
	}
	if err := json.Unmarshal([]byte(text), &found); status != http.StatusOK || err != nil {
		v.t.Fatalf("%s: %d %v\n%s", path, status, err, text)
	}
	return found.Fields, found.Summary, found.More
}

func TestConsoleGatewayChecks(t *testing.T) {
	r := newRig(t)
	r.connect()
	v := r.analyst() // whoever may look may check
	v.see("gateways/new")
	const path = "gateways/new/check"
	form := wizardForm()
	fields, _, more := v.checked(path, url.Values{"model": {adminservice.ModelScaleSet}, "trafficGb": {"1"}, "trafficWarning": {"90"}, "trafficCritical": {"50"}, "storageGb": {"1"}, "storageWarning": {"1"}, "storageCritical": {"2"}, "instances": {"17"}, "subscriptionId": {"x"}, "deploymentName": {"Not Good"}}, nil)
	for field, want := range map[string]string{"traffic": "warning not above critical", "instances": "1 to 16", "subscriptionId": "GUID", "deploymentName": "lower-case"} {
		if !strings.Contains(fields[field], want) {
			t.Errorf("beside %s: %q", field, fields[field])
		}
	}
	if fields["storage"] != "" || more {
		t.Errorf("storage %q, more %v", fields["storage"], more)
	}
	files := map[string]formFile{"pfx": {"cmg.pfx", r.pfx("p4ssw0rd-planted", serviceName)}}
	fields, _, more = v.checked(path, form, files)
	if !strings.Contains(fields["pfx"], "Validity") || !strings.Contains(fields["serviceName"], serviceName) || !more {
		t.Errorf("certificate at once: %q, more %v", fields, more)
	}
	if fields["region"] != "" {
		t.Errorf("the cloud was asked while somebody typed: %q", fields["region"])
	}
	form.Set("thorough", "yes")
	fields, _, more = v.checked(path, form, files)
	for field, want := range map[string]string{"region": "pass", "subscriptionId": "Lab", "serverAppId": "Rights", "instances": "Quota", "size": "VM size", "deploymentName": "Storage account name"} {
		if !strings.Contains(fields[field], want) {
			t.Errorf("the cloud beside %s: %q", field, fields[field])
		}
	}
	if more {
		t.Error("a thorough answer asks for more")
	}
	form.Set("at", "Summary")
	if _, summary, _ := v.checked(path, form, files); !strings.Contains(summary, serviceName) || !strings.Contains(summary, "2 of size Lab") || !strings.Contains(summary, " good</span>") {
		t.Errorf("the summary: %s", summary)
	}
	form.Set("password", "wrong")
	if fields, _, _ = v.checked(path, form, files); !strings.Contains(fields["pfx"], "password") || strings.Contains(fields["region"], "pass") {
		t.Errorf("a wrong password: %q", fields)
	}
	if len(do[adminservice.Page[adminservice.Gateway]](r, "GET", "Gateways", nil).Value) != 0 {
		t.Error("checking made a gateway")
	}
}

func TestConsoleProperties(t *testing.T) {
	r := newRig(t)
	r.connect()
	r.finish(do[adminservice.Operation](r, "POST", "Gateways", r.newGateway()))
	g := r.gateway()
	v := r.console(r.c.Token)
	page := v.see("gateways/"+g.ID+"/properties?tab=alerts", "Stop this service when the critical threshold is exceeded")
	was := html.UnescapeString(regexp.MustCompile(`name="was" value="([^"]*)"`).FindStringSubmatch(page)[1])
	form := url.Values{"was": {was}, "trafficEnabled": {"on"}, "trafficGb": {"7"}, "trafficWarning": {"10"}, "trafficCritical": {"20"}, "storageGb": {"9"}, "storageWarning": {"10"}, "storageCritical": {"20"}}
	path := "gateways/" + g.ID + "/properties?tab=alerts"
	// Somebody else is faster.
	other := "somebody else"
	do[any](r, "PATCH", "Gateways/"+g.ID, adminservice.GatewayChange{Description: &other})
	status, page := v.post(path, form)
	if status != http.StatusPreconditionFailed || !strings.Contains(page, "somebody changed the description") || !strings.Contains(page, `value="7"`) {
		t.Fatalf("a change meanwhile: %d\n%s", status, page)
	}
	if got := r.gateway(); got.Traffic.GB == 7 {
		t.Error("it was saved all the same")
	}
	// Seen, and saved again from the page that came.
	form.Set("was", html.UnescapeString(regexp.MustCompile(`name="was" value="([^"]*)"`).FindStringSubmatch(page)[1]))
	if status, page := v.post(path, form); status != http.StatusOK || !strings.Contains(page, "The properties were saved") {
		t.Fatalf("%d\n%s", status, page)
	}
	if got := r.gateway(); got.Traffic.GB != 7 || got.Storage.GB != 9 || got.Description != other || !*got.CheckRevocation {
		t.Errorf("saved: %+v", got.GatewaySettings)
	}
	// Another certificate, whose name must be the same.
	if status, page := v.postFiles("gateways/"+g.ID+"/certificate", url.Values{"certificateFrom": {"pfx"}, "password": {"x"}}, map[string]formFile{"pfx": {"new.pfx", r.pfx("x", "other.corp.example")}}); status != http.StatusBadRequest || !strings.Contains(page, serviceName) {
		t.Errorf("another name: %d\n%s", status, page)
	}
	status, page = v.postFiles("gateways/"+g.ID+"/certificate", url.Values{"certificateFrom": {"pfx"}, "password": {"x"}}, map[string]formFile{"pfx": {"new.pfx", r.pfx("x", serviceName)}})
	if status != http.StatusOK {
		t.Fatalf("another certificate: %d\n%s", status, page)
	}
	r.finishShown(page)
	if r.gateway().CertificateThumbprint == g.CertificateThumbprint {
		t.Error("the certificate is the old one")
	}
}

func TestConsoleGatewayActions(t *testing.T) {
	r := newRig(t)
	r.connect()
	r.finish(do[adminservice.Operation](r, "POST", "Gateways", r.newGateway()))
	g := r.gateway()
	v := r.console(r.c.Token)
	v.see("gateways/" + g.ID)
	_, page := v.post("gateways/"+g.ID+"/stop", nil)
	r.finishShown(page)
	if page := v.see("gateways/"+g.ID, "Stopped", "Start service"); strings.Contains(page, "Stop service") {
		t.Error("a stopped gateway can be stopped")
	}
	_, page = v.post("gateways/"+g.ID+"/start", nil)
	r.finishShown(page)
	status, page := v.post("gateways/"+g.ID+"/scale", url.Values{"instances": {"3"}, "size": {"Lab"}})
	if status != http.StatusOK || !strings.Contains(page, "Change the number of instances") {
		t.Fatalf("scale: %d\n%s", status, page)
	}
	r.finishShown(page)
	if got := r.gateway(); len(got.Machines) != 3 {
		t.Errorf("it has %d machines", len(got.Machines))
	}
	if status, page := v.post("gateways/"+g.ID+"/convert", nil); status != http.StatusConflict || !strings.Contains(page, "there is nothing to convert") {
		t.Errorf("convert: %d\n%s", status, page)
	}
	// The name is typed, or nothing goes.
	if status, page := v.post("gateways/"+g.ID+"/delete", url.Values{"typed": {"granitefalls"}}); status != http.StatusBadRequest || !strings.Contains(page, "type its name") {
		t.Errorf("without the name: %d\n%s", status, page)
	}
	_, page = v.post("gateways/"+g.ID+"/delete", url.Values{"typed": {serviceName}})
	r.finishShown(page)
	v.see("gateways", "The site has no gateway yet")
}

// What failed is on the page with the cloud's own text, and goes on from there.
func TestConsoleGatewayError(t *testing.T) {
	r := newRig(t)
	r.connect()
	fault := must(r.cloud.SetFault(labFault{Kind: "policy", Name: "Microsoft.Storage/storageAccounts"}))(t)
	op := do[adminservice.Operation](r, "POST", "Gateways", r.newGateway())
	if _, err := r.c.Wait(t.Context(), op.ID, nil); err == nil {
		t.Fatal("the creation did not fail")
	}
	v := r.console(r.c.Token)
	page := v.see("gateways/"+op.Subject, "What the cloud said", "RequestDisallowedByPolicy", ">Retry<", "Start service")
	if strings.Contains(page, "<summary>Scale") {
		t.Error("a gateway that failed can be scaled")
	}
	v.see("operations/"+op.ID, "failed", "RequestDisallowedByPolicy")
	if err := r.cloud.ClearFault(fault); err != nil {
		t.Fatal(err)
	}
	_, page = v.post("gateways/"+op.Subject+"/retry", nil)
	r.finishShown(page)
	if page := v.see("gateways/"+op.Subject, "Ready"); strings.Contains(page, "RequestDisallowedByPolicy") {
		t.Error("the page still says what failed before")
	}
}

// The cards are of what the instances said last.
func TestConsoleInstanceCards(t *testing.T) {
	r := newRig(t)
	r.connect()
	r.finish(do[adminservice.Operation](r, "POST", "Gateways", r.newGateway()))
	g := r.gateway()
	p := r.join("cp01", g.ID)
	v := r.console(r.c.Token)
	events := v.watch("gateways/" + g.ID)
	v.until(events, "gateway-cards", "none yet: a connection point brings it")
	at := r.now()
	report := opencmg.InstanceStatus{Gateway: g.Name, Instance: 0, Version: "9.9", Started: at.Add(-60e9), Time: at.Add(-10e9), Held: 1234, Connections: 1300, MemoryBytes: 5e6, CPUSeconds: 10, Configuration: g.Configuration,
		Endpoints: []opencmg.InstanceTraffic{{Endpoint: "SMS_MP", Requests: 100}}}
	p.says(report)
	v.until(events, "gateway-cards", "1,234")
	// Half a core and twenty requests a second from one report to the next.
	report.Time, report.CPUSeconds = at, 15
	report.Endpoints = []opencmg.InstanceTraffic{{Endpoint: "SMS_MP", Requests: 300}}
	p.says(report)
	v.until(events, "gateway-cards", "50.0 % of a core")
	v.see("gateways/"+g.ID, "20.0 a second", "cp01", "9.9", "5.0 MB", "1,300")
	v.see("gateways", "9.9", "1,234")
	// Another process has nothing to compare with.
	report.Started, report.Time = at.Add(1), at.Add(1e9)
	p.says(report)
	v.until(events, "gateway-cards", "not known yet")
}

func TestConsoleSelfHosted(t *testing.T) {
	r := newRig(t)
	v := r.console(r.c.Token)
	v.see("gateways/new")
	form := wizardForm()
	form.Set("model", adminservice.ModelSelfHosted)
	form.Set("serviceName", serviceName)
	status, page := v.postFiles("gateways/new", form, nil)
	if status != http.StatusOK || !strings.Contains(page, "No host has joined yet") || !strings.Contains(page, "Self-hosted") {
		t.Fatalf("%d\n%s", status, page)
	}
	g := r.gateway()
	status, page = v.post("gateways/"+g.ID+"/join-token", url.Values{"hosts": {"192.0.2.1"}, "httpsPort": {"8443"}, "tunnelPort": {"10140"}, "uses": {"1"}, "minutes": {"60"}})
	token, err := adminservice.ParseGatewayJoinToken(secretOf(page))
	if status != http.StatusOK || err != nil || token.HTTPSPort != 8443 || !strings.Contains(page, "opencmg gateway serve") {
		t.Fatalf("%d %v\n%s", status, err, page)
	}
	if status, page := v.post("gateways/"+g.ID+"/join-token", url.Values{"hosts": {"a/b"}, "uses": {"1"}}); status != http.StatusBadRequest || !strings.Contains(page, `value="a/b"`) {
		t.Errorf("a wrong host: %d\n%s", status, page)
	}
	if status, page := v.post("gateways/"+g.ID+"/remove-instance", url.Values{"number": {"0"}}); status != http.StatusNotFound {
		t.Errorf("an instance that is not there: %d\n%s", status, page)
	}
}

func TestConsoleCertificates(t *testing.T) {
	r := newRig(t)
	v := r.console(r.c.Token)
	v.see("certificates", "configuration-signing")
	v.see("certificates/bulk-tokens", "There is no bulk registration token")
	status, page := v.post("certificates/bulk-tokens", url.Values{"minutes": {"60"}, "uses": {"5"}, "sources": {"192.0.2.0/24, 2001:db8::/32"}, "group": {"kiosks"}, "description": {"the first"}})
	token := secretOf(page)
	if status != http.StatusOK || token == "" {
		t.Fatalf("%d\n%s", status, page)
	}
	page = v.see("certificates/bulk-tokens", "kiosks", "2001:db8::/32", "0 of 5", "usable")
	if strings.Contains(page, token) {
		t.Error("the token is shown twice")
	}
	id := do[adminservice.Page[adminservice.BulkRegistrationToken]](r, "GET", "BulkRegistrationTokens", nil).Value[0].ID
	if _, page := v.post("certificates/bulk-tokens/"+id+"/block", nil); !strings.Contains(page, ">blocked<") {
		t.Errorf("blocked:\n%s", page)
	}
	if _, page := v.post("certificates/bulk-tokens/"+id+"/unblock", nil); !strings.Contains(page, ">usable<") {
		t.Errorf("unblocked:\n%s", page)
	}
	if status, page := v.post("certificates/bulk-tokens", url.Values{"minutes": {"x"}, "group": {"kept"}}); status != http.StatusBadRequest || !strings.Contains(page, `value="kept"`) || secretOf(page) != "" {
		t.Errorf("a wrong number: %d\n%s", status, page)
	}
	// By file, and by thumbprint.
	if _, page := v.postFiles("certificates/blocked", url.Values{"reason": {"lost"}}, map[string]formFile{"file": {"client.pem", r.ca.CertificatePEM()}}); !strings.Contains(page, pki.Thumbprint(r.ca.Certificate())) {
		t.Errorf("blocked by file:\n%s", page)
	}
	if status, page := v.post("certificates/blocked", url.Values{"thumbprint": {"12"}}); status != http.StatusBadRequest || !strings.Contains(page, "SHA-256") {
		t.Errorf("a wrong thumbprint: %d\n%s", status, page)
	}
	v.post("certificates/blocked/"+pki.Thumbprint(r.ca.Certificate())+"/delete", nil)
	v.see("certificates/blocked", "No certificate is blocked")
	if status, page := v.postFiles("certificates/trusted", nil, map[string]formFile{"caFiles": {"nothing.pem", []byte("nothing")}}); status != http.StatusBadRequest || !strings.Contains(page, "nothing.pem") {
		t.Errorf("no certificate: %d\n%s", status, page)
	}
	leaf := must(r.ca.IssueKeyPair(pki.Template{CommonName: "signing", Key: pki.RSA2048}, r.now()))(t)
	if status, page := v.postFiles("certificates/issuers", url.Values{"issuer": {"urn:sccm:oauth2:x"}}, map[string]formFile{"file": {"s.der", leaf.Leaf.Raw}}); status != http.StatusOK || !strings.Contains(page, "urn:sccm:oauth2:x") {
		t.Errorf("a token issuer: %d\n%s", status, page)
	}
}

func TestConsoleAccounts(t *testing.T) {
	r := newRig(t)
	v := r.console(r.c.Token)
	v.see("accounts", "administrator", "you")
	status, page := v.post("accounts", url.Values{"name": {"carol"}, "role": {"Read-only Analyst"}, "way": {"token"}})
	token := secretOf(page)
	if status != http.StatusOK || token == "" {
		t.Fatalf("%d\n%s", status, page)
	}
	if page := r.console(adminservice.Secret(token)).see("accounts", "carol"); strings.Contains(page, "Add an administrator") {
		t.Error("an analyst is offered to add administrators")
	}
	if status, page := v.postFiles("accounts", url.Values{"name": {"dave"}, "role": {"Operations Administrator"}, "way": {"certificate"}}, map[string]formFile{"file": {"dave.pem", r.ca.CertificatePEM()}}); status != http.StatusOK || !strings.Contains(page, "The administrator was added") || secretOf(page) != "" {
		t.Errorf("by certificate: %d\n%s", status, page)
	}
	if status, page := v.post("accounts", url.Values{"name": {"erin"}, "role": {"Read-only Analyst"}, "way": {"entra"}, "tenantId": {tenantID}, "objectId": {deployerID}}); status != http.StatusOK || !strings.Contains(page, deployerID) {
		t.Errorf("by Entra: %d\n%s", status, page)
	}
	for _, a := range do[adminservice.Page[adminservice.Account]](r, "GET", "Accounts", nil).Value {
		status, page := v.post("accounts/"+a.ID+"/delete", url.Values{"typed": {a.Name}})
		if last := a.Name == "administrator"; last != (status == http.StatusConflict) {
			t.Errorf("delete %s: %d\n%s", a.Name, status, page)
		}
	}
}

// Whatever the set-up pages can do is refused to a Read-only Analyst who makes
// the requests by hand.
func TestConsoleSetUpReadOnly(t *testing.T) {
	r := newRig(t)
	app := r.connect()
	r.finish(do[adminservice.Operation](r, "POST", "Gateways", r.newGateway()))
	g := r.gateway()
	v := r.analyst()
	for _, page := range []string{"gateways", "gateways/" + g.ID, "gateways/" + g.ID + "/properties", "gateways/new", "azure-services", "azure-services/new", "azure-services/1", "applications/" + app.ID, "certificates",
		"certificates/trusted", "certificates/bulk-tokens", "certificates/join-tokens", "certificates/blocked", "certificates/issuers", "accounts"} {
		body := v.see(page)
		_, content, _ := strings.Cut(body, `<main`)
		for _, form := range regexp.MustCompile(`(?s)<form method="post".*?</form>`).FindAllString(content, -1) {
			if strings.Contains(form, "<button") {
				t.Errorf("%s offers a form to an analyst:\n%s", page, form)
			}
		}
	}
	for path, form := range map[string]url.Values{
		"gateways/new": wizardForm(), "gateways/" + g.ID + "/start": nil, "gateways/" + g.ID + "/stop": nil, "gateways/" + g.ID + "/synchronize": nil, "gateways/" + g.ID + "/upgrade": nil,
		"gateways/" + g.ID + "/convert": nil, "gateways/" + g.ID + "/retry": nil, "gateways/" + g.ID + "/obtainCertificate": nil, "gateways/" + g.ID + "/scale": {"instances": {"3"}},
		"gateways/" + g.ID + "/delete": {"typed": {serviceName}}, "gateways/" + g.ID + "/remove-instance": {"number": {"0"}}, "gateways/" + g.ID + "/join-token": {"uses": {"1"}},
		"gateways/" + g.ID + "/properties": {"was": {settingsOf(t, g)}, "description": {"x"}}, "gateways/" + g.ID + "/certificate": {"certificateFrom": {"acme"}},
		"azure-services/new": {"serverBy": {"create"}, "serverName": {"x"}, "clientBy": {"create"}, "clientName": {"y"}, "tenantId": {tenantID}, "name": {"z"}, "signInBy": {"device"}},
		"azure-services/1":   {"name": {"x"}}, "azure-services/1/discover": nil, "azure-services/1/delete": {"typed": {"Fourth Coffee"}}, "tenants/" + tenantID + "/authentication": {"disable": {"yes"}}, "tenants/" + tenantID + "/delete": nil,
		"applications/" + app.ID + "/renew-secret": {"signInBy": {"device"}}, "applications/" + app.ID + "/update-settings": nil, "applications/" + app.ID + "/verify": nil,
		"applications/" + app.ID + "/register-providers": {"subscriptionId": {subscriptionID}}, "applications/" + app.ID + "/delete": {"typed": {app.Name}},
		"certificates/trusted/x/delete": nil, "certificates/bulk-tokens": {"minutes": {"1"}}, "certificates/bulk-tokens/x/block": nil, "certificates/bulk-tokens/x/unblock": nil,
		"certificates/join-tokens": {"kind": {"connection-point"}}, "certificates/join-tokens/x/delete": nil, "certificates/blocked": {"thumbprint": {strings.Repeat("0", 64)}}, "certificates/blocked/x/delete": nil,
		"certificates/issuers/x/delete": nil, "accounts": {"name": {"x"}, "role": {"Full Administrator"}, "way": {"token"}}, "accounts/x/delete": nil,
	} {
		if status, page := v.post(path, form); status != http.StatusForbidden || secretOf(page) != "" {
			t.Errorf("%s: %d\n%s", path, status, page)
		}
	}
	for _, path := range []string{"certificates/trusted", "certificates/issuers"} {
		files := map[string]formFile{"caFiles": {"ca.pem", r.ca.CertificatePEM()}, "file": {"ca.pem", r.ca.CertificatePEM()}}
		if status, page := v.postFiles(path, url.Values{"issuer": {"x"}}, files); status != http.StatusForbidden {
			t.Errorf("%s: %d\n%s", path, status, page)
		}
	}
	if got := r.gateway(); settingsOf(t, got) != settingsOf(t, g) || got.State != adminservice.StateReady {
		t.Errorf("the gateway was changed: %+v", got)
	}
}

// settingsOf is what the properties page keeps of a gateway's settings.
func settingsOf(t *testing.T, g adminservice.Gateway) string {
	return string(must(json.Marshal(g.GatewaySettings))(t))
}
