package site_test

import (
	"encoding/json"
	"html"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg/adminservice"
)

// offered asks what a form offers to choose from, for the form as it is and
// what the page has already.
func (v *visitor) offered(path string, form url.Values, filled string) (fill map[string]string, digest string, more bool) {
	v.t.Helper()
	form = maps.Clone(form)
	form.Set("filled", filled)
	status, text := v.postFiles(path, form, nil)
	var found struct {
		Fill   map[string]string
		Filled string
		More   bool
	}
	if err := json.Unmarshal([]byte(text), &found); status != http.StatusOK || err != nil {
		v.t.Fatalf("%s: %d %v\n%s", path, status, err, text)
	}
	return found.Fill, found.Filled, found.More
}

func TestConsoleOffersSubscriptions(t *testing.T) {
	r := newRig(t, twoSubscriptions)
	app := r.connect()
	r.makeGroups(app, map[string]string{"rg-west": "westeurope", "rg-east": "eastus"})
	v := r.console(r.c.Token)
	v.see("gateways/new", `list="subscription-options"`, `list="region-options"`, `list="group-options"`)
	const path = "gateways/new/check"
	form := wizardForm()
	form.Set("serverAppId", app.ID)
	form.Set("region", "")
	form.Set("subscriptionId", "")
	want := func(when string, fill map[string]string, texts map[string][]string) {
		t.Helper()
		for name, list := range texts {
			for _, text := range list {
				if !strings.Contains(html.UnescapeString(fill[name]), text) {
					t.Errorf("%s: %s does not say %q: %q", when, name, text, fill[name])
				}
			}
		}
	}
	form.Set("thorough", "yes")
	fill, digest, more := v.offered(path, form, "")
	want("no subscription yet", fill, map[string][]string{"subscription-options": {`value="` + subscriptionID + `">Lab<`, `value="` + secondID + `">Contoso <production><`}, "subscription-note": {"2 subscriptions to choose from"}})
	if more || fill["region-options"] != "" || fill["region-note"] != "" {
		t.Errorf("regions of no subscription: %v, more %v", fill, more)
	}
	if !strings.Contains(fill["subscription-options"], "&lt;production&gt;") {
		t.Errorf("a name is not escaped: %q", fill["subscription-options"])
	}
	if again, d, _ := v.offered(path, form, digest); again != nil || d != digest {
		t.Errorf("what the page has is sent again: %v", again)
	}
	form.Set("subscriptionId", subscriptionID)
	fill, _, _ = v.offered(path, form, digest)
	want("a subscription", fill, map[string][]string{"subscription-note": {"Lab"}, "region-options": {`value="West Europe"`, `value="East US"`}, "region-note": {"7 regions to choose from"}})
	if fill["group-options"] != "" {
		t.Errorf("a new group is chosen from old ones: %q", fill["group-options"])
	}
	form.Set("group", "existing")
	fill, _, _ = v.offered(path, form, "")
	want("an existing group", fill, map[string][]string{"group-options": {`value="rg-west">West Europe<`, `value="rg-east">East US<`}})
	form.Set("region", "West Europe")
	fill, _, _ = v.offered(path, form, "")
	want("in a region", fill, map[string][]string{"group-options": {"rg-west"}, "group-note": {"1 in West Europe"}})
	if strings.Contains(fill["group-options"], "rg-east") {
		t.Errorf("groups of another region: %q", fill["group-options"])
	}
	form.Set("at", "Summary")
	if _, summary, _ := v.checked(path, form, nil); !strings.Contains(summary, "Lab ("+subscriptionID+")") {
		t.Errorf("the summary: %s", summary)
	}
	// What is known is in the page, for those without script.
	v.see("gateways/new", `value="`+secondID+`">Contoso &lt;production&gt;<`)

	form.Set("subscriptionId", tenantID)
	fill, _, _ = v.offered(path, form, "")
	want("a foreign subscription", fill, map[string][]string{"subscription-note": {"none of those that the application sees (2)"}, "region-note": {"SubscriptionNotFound"}})

	// The page of the application offers them, too.
	v.see("applications/"+app.ID, `data-check="/console/applications/`+app.ID+`/register-providers/check"`)
	fill, _, _ = v.offered("applications/"+app.ID+"/register-providers/check", url.Values{"subscriptionId": {secondID}, "thorough": {"yes"}}, "")
	want("register providers", fill, map[string][]string{"subscription-options": {"Contoso <production>"}, "subscription-note": {"Contoso <production>"}})
	if fields, _, _ := v.checked("applications/"+app.ID+"/register-providers/check", url.Values{"subscriptionId": {"x"}}, nil); !strings.Contains(fields["subscriptionId"], "GUID") {
		t.Errorf("no subscription: %v", fields)
	}

	// An analyst is offered nothing, and is told of no failure.
	a := r.analyst()
	if page := a.see("gateways/new"); strings.Contains(page, secondID) {
		t.Error("an analyst sees the subscriptions in the page")
	}
	for _, p := range []string{path, "applications/" + app.ID + "/register-providers/check"} {
		fill, _, more := a.offered(p, form, "")
		for name, html := range fill {
			if html != "" {
				t.Errorf("%s: an analyst is offered %s %q", p, name, html)
			}
		}
		if more {
			t.Errorf("%s: an analyst is told to ask again", p)
		}
	}
}

// TestConsoleWithoutLists opens the wizard beside a cloud that refuses, and one
// that does not answer.
func TestConsoleWithoutLists(t *testing.T) {
	let := make(chan struct{})
	r := newRig(t, slowly(let))
	app := r.connect()
	v := r.console(r.c.Token)
	const path = "gateways/new/check"
	form := wizardForm()
	form.Set("serverAppId", app.ID)
	form.Set("group", "existing")
	v.see("gateways/new", "Azure is being asked for the subscriptions")
	fill, _, more := v.offered(path, form, "")
	if !more || !strings.Contains(fill["subscription-note"], "being asked") {
		t.Errorf("a slow cloud: %v, more %v", fill, more)
	}
	close(let)
	must(r.cloud.SetFault(labFault{Kind: "forbidden", Path: "/locations$"}))(t)
	must(r.cloud.SetFault(labFault{Kind: "status", Path: "/resourcegroups$", Status: http.StatusBadRequest, Code: "Broken", Message: "the lab is broken"}))(t)
	r.wait(2 * time.Minute)
	form.Set("thorough", "yes")
	fill, _, more = v.offered(path, form, "")
	for name, text := range map[string]string{"subscription-note": "Lab", "region-note": "No list to choose from: the cloud does not list the regions: AuthorizationFailed", "group-note": "the lab is broken"} {
		if !strings.Contains(fill[name], text) {
			t.Errorf("%s: %q", name, fill[name])
		}
	}
	if more {
		t.Error("a refusal asks for more")
	}
	// What was typed is enough to go on.
	must("", r.cloud.ClearFault(""))(t)
	files := map[string]formFile{"pfx": {"cmg.pfx", r.pfx("p4ssw0rd-planted", serviceName)}}
	form.Set("group", "new")
	must(r.cloud.SetFault(labFault{Kind: "forbidden", Path: "/subscriptions$"}))(t)
	v.see("gateways/new")
	if status, page := v.postFiles("gateways/new", form, files); status != http.StatusOK || !strings.Contains(page, "Step by step") {
		t.Errorf("create: %d\n%s", status, page)
	}
	if len(do[adminservice.Page[adminservice.Gateway]](r, "GET", "Gateways", nil).Value) != 1 {
		t.Error("no gateway was created")
	}
}
