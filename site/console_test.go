package site_test

import (
	"crypto/tls"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
)

func TestConsoleSignIn(t *testing.T) {
	r := newRig(t)
	v := r.visit()
	if status, page := v.get("gateways"); status != http.StatusOK || !strings.Contains(page, `action="/console/sign-in/token"`) || !strings.Contains(page, `value="/console/gateways"`) {
		t.Fatalf("without a session: %d\n%s", status, page)
	}
	if status, page := v.post("sign-in/token", url.Values{"token": {"wrong"}}); status != http.StatusUnauthorized || !strings.Contains(page, "belongs to no administrator") {
		t.Errorf("a wrong token: %d\n%s", status, page)
	}
	if status, page := v.post("sign-in/certificate", nil); status != http.StatusUnauthorized || !strings.Contains(page, "presented no client certificate") {
		t.Errorf("no certificate: %d\n%s", status, page)
	}
	// Back to where the person wanted to go, and nowhere else.
	status, page := v.post("sign-in/token", url.Values{"token": {string(r.c.Token)}, "next": {"/console/gateways"}})
	if status != http.StatusOK || !strings.Contains(page, "<h1>Cloud Management Gateway</h1>") {
		t.Fatalf("signed in: %d\n%s", status, page)
	}
	if strings.Contains(page, string(r.c.Token)) {
		t.Error("the page holds the token")
	}
	for _, next := range []string{"https://evil.example/", "//evil.example/", `/console/\evil.example`, "/AdminService/v1.0/Site"} {
		w := r.visit()
		if status, page := w.post("sign-in/token", url.Values{"token": {string(r.c.Token)}, "next": {next}}); status != http.StatusOK || !strings.Contains(page, "Set up the cloud management gateway") {
			t.Errorf("next %s led to %d\n%s", next, status, page)
		}
	}
	if len(r.messages("signed in to the console")) == 0 {
		t.Error("the sign-in is not audited")
	}
	if status, page := v.post("sign-out", nil); status != http.StatusOK || !strings.Contains(page, "Sign in to site LAB") {
		t.Errorf("signed out: %d\n%s", status, page)
	}
	if _, page := v.get("gateways"); !strings.Contains(page, "sign-in/token") {
		t.Errorf("the session outlives the sign-out:\n%s", page)
	}
}

func TestConsoleSessionOutlivesTheProcess(t *testing.T) {
	r := newRig(t)
	v := r.console(r.c.Token)
	r.crash()
	r.start()
	v.url = r.c.URL // another port, which cookies do not mind
	v.see("", "Set up the cloud management gateway")
	r.wait(13 * time.Hour)
	if _, page := v.get(""); !strings.Contains(page, "sign-in/token") {
		t.Errorf("the session lasts for longer than 12 hours:\n%s", page)
	}
}

func TestConsoleSignInByCertificate(t *testing.T) {
	r := newRig(t)
	pair := must(r.ca.IssueKeyPair(pki.Template{CommonName: "ann", Client: true, NotAfter: time.Now().Add(time.Hour)}, time.Now()))(t)
	stranger := must(r.ca.IssueKeyPair(pki.Template{CommonName: "bob", Client: true}, time.Now()))(t)
	do[adminservice.Account](r, "POST", "Accounts", adminservice.Account{Name: "ann", Role: adminservice.OperationsAdministrator, CertificateThumbprint: pki.Thumbprint(pair.Leaf)})
	v := r.visit(pair)
	if status, page := v.post("sign-in/certificate", nil); status != http.StatusOK || !strings.Contains(page, "Operations Administrator") {
		t.Fatalf("%d\n%s", status, page)
	}
	if status, page := r.visit(stranger).post("sign-in/certificate", nil); status != http.StatusUnauthorized || !strings.Contains(page, "belongs to no administrator") {
		t.Errorf("a stranger: %d\n%s", status, page)
	}
	r.wait(2 * time.Hour)
	v.http.CloseIdleConnections()
	v.http.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{}
	if _, page := v.get(""); !strings.Contains(page, "sign-in/token") {
		t.Errorf("the session outlives its certificate:\n%s", page)
	}
}

// What the account may do is asked at every request.
func TestConsoleFollowsTheAccount(t *testing.T) {
	r := newRig(t)
	a := do[adminservice.Account](r, "POST", "Accounts", adminservice.Account{Name: "analyst", Role: adminservice.ReadOnlyAnalyst, LocalToken: true})
	v := r.console(adminservice.Secret(a.Token))
	v.see("", "Read-only Analyst")
	events := v.watch("")
	if e := <-events; e.name != "parts" || e.parts["checklist"] == "" {
		t.Fatalf("the first event is %+v", e)
	}
	do[any](r, "DELETE", "Accounts/"+a.ID, nil)
	for e := range events {
		if e.name == "ended" {
			break
		}
	}
	if _, page := v.get(""); !strings.Contains(page, "sign-in/token") {
		t.Errorf("the session outlives its account:\n%s", page)
	}
}

func TestConsoleFormsNeedProof(t *testing.T) {
	r := newRig(t)
	v := r.console(r.c.Token)
	const path = "features/cloud-management-gateway/on"
	for _, proof := range []string{"", "00"} {
		if status, _ := v.post(path, url.Values{"proof": {proof}}); status != http.StatusForbidden {
			t.Errorf("proof %q: %d", proof, status)
		}
	}
	other := r.console(r.c.Token)
	if status, _ := v.post(path, url.Values{"proof": {other.proof}}); status != http.StatusForbidden {
		t.Errorf("the proof of another session: %d", status)
	}
	// A browser says where a form comes from; another origin has no say even
	// with the proof.
	req := must(http.NewRequest("POST", v.url+"/console/"+path, strings.NewReader(url.Values{"proof": {v.proof}}.Encode())))(t)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	if status, _ := v.answer(v.http.Do(req)); status != http.StatusForbidden {
		t.Errorf("another origin: %d", status)
	}
	for _, f := range do[adminservice.Page[adminservice.Feature]](r, "GET", "Features", nil).Value {
		if f.Version != 0 {
			t.Errorf("feature %s was changed", f.ID)
		}
	}
	if status, page := v.post(path, nil); status != http.StatusOK || !strings.Contains(page, "The optional feature is on.") {
		t.Errorf("with proof: %d\n%s", status, page)
	}
}

func TestConsoleHeaders(t *testing.T) {
	r := newRig(t)
	v := r.console(r.c.Token)
	res := must(v.http.Get(v.url + "/console/"))(t)
	res.Body.Close()
	csp := res.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
		if !strings.Contains(csp, want) {
			t.Errorf("the content security policy lacks %q: %s", want, csp)
		}
	}
	if strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") {
		t.Errorf("the content security policy is loose: %s", csp)
	}
	if got := res.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control %q", got)
	}
	for _, c := range v.http.Jar.Cookies(must(url.Parse(v.url + "/console/"))(t)) {
		if !strings.HasPrefix(c.Name, "__Host-") {
			t.Errorf("cookie %s is not bound to the host", c.Name)
		}
	}
	// Everything that a page refers to is there, and may be kept.
	page := v.see("")
	for _, part := range strings.Split(page, `"`) {
		if !strings.HasPrefix(part, "/console/static/") {
			continue
		}
		res := must(v.http.Get(v.url + part))(t)
		res.Body.Close()
		if res.StatusCode != http.StatusOK || !strings.Contains(res.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d %s", part, res.StatusCode, res.Header.Get("Cache-Control"))
		}
	}
	if status, page := v.get("nowhere"); status != http.StatusNotFound || !strings.Contains(page, "there is no page /console/nowhere") {
		t.Errorf("no such page: %d\n%s", status, page)
	}
}

func TestConsoleIsFresh(t *testing.T) {
	r := newRig(t)
	v := r.analyst()
	events := v.watch("")
	v.until(events, "checklist", "Optional feature")
	off := false
	do[any](r, "PATCH", "Features/"+adminservice.FeatureGateway, adminservice.FeatureChange{On: &off})
	v.until(events, "checklist", "it is off, so no gateway is created")
	for _, page := range []string{"https://evil.example/", "//evil.example/console/", "/AdminService/v1.0/Site", "%"} {
		res := must(v.http.Get(v.url + "/console/live?page=" + url.QueryEscape(page)))(t)
		res.Body.Close()
		if res.StatusCode != http.StatusBadRequest {
			t.Errorf("live stream of %s: %d", page, res.StatusCode)
		}
	}
}

// A Read-only Analyst sees the checklist and no button, and is refused what a
// hand-made request asks for.
func TestConsoleReadOnly(t *testing.T) {
	r := newRig(t)
	off := false
	do[any](r, "PATCH", "Features/"+adminservice.FeatureGateway, adminservice.FeatureChange{On: &off})
	if page := r.console(r.c.Token).see(""); !strings.Contains(page, "Switch the feature on") {
		t.Errorf("a Full Administrator has no button:\n%s", page)
	}
	v := r.analyst()
	page := v.see("", "it is off")
	if strings.Contains(page, "Switch the feature on") || strings.Contains(page, "Open the Azure Services wizard") {
		t.Errorf("the page offers what the role may not do:\n%s", page)
	}
	if status, page := v.post("features/"+adminservice.FeatureGateway+"/on", nil); status != http.StatusForbidden || !strings.Contains(page, "Read-only Analyst") {
		t.Errorf("%d\n%s", status, page)
	}
}
