package site_test

import (
	"context"
	"encoding/json"
	"errors"
	"html"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/site"
)

func TestConsoleTunnelMap(t *testing.T) {
	r := newRig(t)
	v := r.console(r.c.Token)
	v.see("connection-points", "no connection point yet", "connection-points/new")
	g := r.selfHosted()
	cp := r.join("cp1", g.ID)
	cp.bring(newHost(t, "192.0.2.1:10140"), r.gatewayToken(adminservice.JoinTokenRecord{GatewayID: g.ID}), nil)
	tunnel := func(connected bool, why string) {
		t.Helper()
		status := &opencmg.ConnectionPointStatus{Name: "cp1", ConnectionID: cp.id, Site: "LAB", Tunnels: []opencmg.TunnelStatus{{Gateway: "granitefalls", Instance: 0, Transport: "https", Connected: connected, RTT: 12e6, LastError: why}}}
		if err := cp.client().Report(t.Context(), &adminservice.SiteSystemReport{Kind: adminservice.SystemConnectionPoint, ConnectionPoint: status, Problem: "mappings are too new"}); err != nil {
			t.Fatal(err)
		}
	}
	events := v.watch("connection-points")
	v.until(events, "points-all", `data-tunnel="granitefalls/0 cp1" data-state="lost"`) // nothing was reported yet
	tunnel(true, "")
	v.until(events, "points-all", `data-tunnel="granitefalls/0 cp1" data-state="connected"`)
	v.see("connection-points", "12 ms", "1 of 1", "mappings are too new", `data-node="granitefalls/0" data-state="connected"`)
	tunnel(false, "connection reset <by peer>")
	v.until(events, "points-all", `data-tunnel="granitefalls/0 cp1" data-state="lost"`)
	page := v.see("connection-points/"+cp.id, "connection reset &lt;by peer&gt;", "0 of 1")
	if strings.Contains(page, "<by peer>") {
		t.Error("what a system says comes out as markup")
	}
	tunnel(false, "")
	v.until(events, "points-all", `data-state="connecting"`)

	tunnel(true, "")
	v.until(events, "points-all", `data-tunnel="granitefalls/0 cp1" data-state="connected"`)
	r.wait(2 * stalePeriod)
	v.see("connection-points", `data-tunnel="granitefalls/0 cp1" data-state="lost"`, "reports nothing any more", "silent")

	v.post("connection-points/"+cp.id+"/link", url.Values{"gateway": {""}})
	v.see("connection-points/"+cp.id, "none: link one below")
	if status, page := v.post("connection-points/"+cp.id+"/delete", url.Values{"typed": {"cp2"}}); status != http.StatusBadRequest || !strings.Contains(page, "type its name: cp1") {
		t.Errorf("deleted by another name: %d\n%s", status, page)
	}
	if status, page := v.post("connection-points/"+cp.id+"/delete", url.Values{"typed": {"cp1"}}); status != http.StatusOK || !strings.Contains(page, "is deleted") {
		t.Errorf("delete: %d\n%s", status, page)
	}
}

// stalePeriod is more than the time for which a report counts.
const stalePeriod = 2 * 60 * 1e9

var joinCommand = regexp.MustCompile(`(?s)--site-token-file - &lt;&lt;&#39;END&#39;\n(\S+)\nEND`)

// freshAt is the address that keeps a page fresh.
var freshAt = regexp.MustCompile(`data-live-page="([^"]+)"`)

func TestConsoleShowsAJoinTokenOnce(t *testing.T) {
	r := newRig(t)
	g := r.selfHosted()
	v := r.console(r.c.Token)
	if status, page := v.post("connection-points/new", url.Values{"gateway": {g.ID}, "minutes": {"a lot"}}); status != http.StatusBadRequest || !strings.Contains(page, "must be a whole number") || !strings.Contains(page, `value="a lot"`) {
		t.Errorf("minutes that are none: %d\n%s", status, page)
	}
	status, page := v.post("connection-points/new", url.Values{"gateway": {g.ID}, "uses": {"2"}, "sources": {"127.0.0.0/8"}})
	m := joinCommand.FindStringSubmatch(page)
	fresh := freshAt.FindStringSubmatch(page)
	if status != http.StatusOK || m == nil || fresh == nil {
		t.Fatalf("the page holds no command with a token, or waits for nobody: %d\n%s", status, page)
	}
	asked := strings.TrimPrefix(html.UnescapeString(fresh[1]), "/console/")
	token := must(adminservice.ParseJoinToken(m[1]))(t)
	if strings.Contains(asked, token.Secret) || strings.Contains(v.see(asked, "Nobody has joined"), token.Secret) {
		t.Error("the secret is shown again")
	}
	events := v.watch(asked)
	v.until(events, "join-wait", "Nobody has joined")
	r.join("cp9", g.ID)
	v.until(events, "join-wait", "cp9")
}

func TestConsoleRoles(t *testing.T) {
	r := newRig(t)
	r.selfHosted()
	v := r.console(r.c.Token)
	v.see("roles", "no role yet", "roles/new?kind=service")
	v.see("roles/new?kind=service", `value="service" selected`)
	form := url.Values{"kind": {"service"}, "name": {"Wiki"}, "internal": {"https://wiki.corp.example"}, "allow": {"on"}, "prefix": {"wiki"}, "healthPath": {"/health"},
		"ep0.name": {"pages"}, "ep0.path": {"/pages"}, "ep0.methods": {"get, head"}, "ep0.length": {"100"}, "ep0.pki": {"on"}, "ep0.entra": {"on"}}
	if status, page := v.post("roles/new", form); status != http.StatusBadRequest || !strings.Contains(page, "must start and end with a slash") || !strings.Contains(page, `value="Wiki"`) {
		t.Fatalf("a prefix without slashes: %d\n%s", status, page)
	}
	form.Set("prefix", "/wiki/")
	if status, page := v.post("roles/new", form); status != http.StatusOK || !strings.Contains(page, "https://"+serviceName+"/wiki/") {
		t.Fatalf("%d\n%s", status, page)
	}
	role := do[adminservice.Page[adminservice.SiteRole]](r, "GET", "SiteRoles", nil).Value[0]
	want := opencmg.Endpoint{Name: "pages", Path: "pages", Auth: []opencmg.AuthMode{opencmg.AuthPKI, opencmg.AuthEntra}, Methods: []string{"GET", "HEAD"}, MaxContentLength: 100}
	if e := must(json.Marshal(role.Endpoints))(t); string(e) != string(must(json.Marshal([]opencmg.Endpoint{want}))(t)) || role.HealthPath != "/health" {
		t.Errorf("the role is %+v", role)
	}
	if _, page := v.post("roles/"+role.ID+"/refuse", url.Values{"back": {"roles"}}); !strings.Contains(page, "gateway traffic is off") || strings.Contains(page, serviceName+"/wiki/") {
		t.Errorf("refused, the role still has an external URL:\n%s", page)
	}
	form.Set("name", "Handbook")
	form.Del("allow")
	v.post("roles/"+role.ID, form)
	v.see("roles/"+role.ID, "<h1>Handbook</h1>")
	v.post("roles/new", url.Values{"kind": {"management-point"}, "name": {"mp1"}, "internal": {"https://mp1.corp.example"}, "allow": {"on"}, "ep0.name": {"all"}, "ep0.methods": {"GET"}})
	v.see("roles", "/CCM_Proxy_MutualAuth/", "/CCM_Proxy_ServerAuth/")
	if n := len(do[adminservice.Page[adminservice.SiteRole]](r, "GET", "SiteRoles?$filter=name%20eq%20'mp1'", nil).Value[0].Endpoints); n != 0 {
		t.Errorf("a management point got %d endpoints of a proposal for services", n)
	}
	v.post("roles/"+role.ID+"/delete", url.Values{"typed": {"Handbook"}})
	if page := v.see("roles"); strings.Contains(page, "Handbook</a>") {
		t.Error("the role is still there")
	}
}

func TestConsoleLogs(t *testing.T) {
	own := t.TempDir()
	r := newRig(t, func(r *rig) { r.config = func(c *site.Config) { c.Logs = site.Logs{Own: own} } })
	v := r.console(r.c.Token)
	v.see("logs", "keeps no log files")
	file := filepath.Join(own, "CloudMgr.log")
	line := func(text, level string) {
		t.Helper()
		f := must(os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600))(t)
		defer f.Close()
		if _, err := f.WriteString("<![LOG[" + text + "]LOG]!><time=\"04:03:30.289+000\" date=\"11-27-2026\" component=\"CloudMgr\" context=\"\" type=\"" + level + "\" thread=\"12\" file=\"\">\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	line("first <b>line</b>", "1")
	line("it broke", "3")
	v.see("logs", "Site server", `href="/console/logs/CloudMgr.log"`)
	page := v.see("logs/CloudMgr.log", "first &lt;b&gt;line&lt;/b&gt;", "it broke", "2026-11-27 04:03:30.289")
	if page := v.see("logs/CloudMgr.log?level=3", "it broke"); strings.Contains(page, "first &lt;b") {
		t.Error("the filter by level lets information through")
	}
	position := regexp.MustCompile(`data-position="([^"]+)"`).FindStringSubmatch(page)
	line("the next", "2")
	var tail struct{ Position, HTML string }
	if _, text := v.get("logs/CloudMgr.log/tail?after=" + position[1]); json.Unmarshal([]byte(text), &tail) != nil || !strings.Contains(tail.HTML, "the next") || strings.Contains(tail.HTML, "it broke") || tail.Position == position[1] {
		t.Errorf("the tail is %+v", tail)
	}
	if _, text := v.get("logs/CloudMgr.log/download"); !strings.HasPrefix(text, "<![LOG[first") || !strings.Contains(text, "the next") {
		t.Errorf("the download is %q", text)
	}
	// The one before it is in the download, too, and the page says how much it is.
	if err := os.Rename(file, strings.TrimSuffix(file, "g")+"_"); err != nil {
		t.Fatal(err)
	}
	line("in a new file", "1")
	if _, text := v.get("logs/CloudMgr.log/download"); !strings.HasPrefix(text, "<![LOG[first") || !strings.Contains(text, "in a new file") {
		t.Errorf("the download after a rotation is %q", text)
	}
	pageSays(t, textOfPage(t, v.see("logs/CloudMgr.log")), "that are kept: this file and the one before it", "fresh Written here")
	if status, _ := v.get("logs/..%2Fsite.key"); status != http.StatusNotFound {
		t.Errorf("a file that is no log: %d", status)
	}
}

func TestConsoleAnalyzes(t *testing.T) {
	r := newRig(t, func(r *rig) {
		r.config = func(c *site.Config) {
			c.GatewayTransport = &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("nobody is there") }}
		}
	})
	r.s.WaitForRecords(50 * time.Millisecond) // nobody answers
	r.s.WaitForConfiguration(0)
	v := r.console(r.c.Token)
	v.see("analyzer", "no gateway to analyze")
	g := r.selfHosted()
	events := v.watch("analyzer")
	if status, page := v.post("analyzer", url.Values{"gateway": {g.ID}, "signIn": {"entra-user"}}); status != http.StatusBadRequest {
		t.Errorf("an Entra user without a token: %d\n%s", status, page)
	}
	v.post("analyzer", url.Values{"gateway": {g.ID}, "signIn": {"token"}})
	v.until(events, "analysis", `data-run-state="completed"`)
	v.see("analyzer", "nobody is there", `data-row="summary"`, "Earlier analyses", "Copy as text")

	v.see("analyzer", "granitefalls on a schedule", "every 60 minutes", `name="minutes" type="number" min="5" max="10080" required value="60"`)
	if status, page := v.post("analyzer/schedule", url.Values{"gateway": {g.ID}, "minutes": {"4"}}); status != http.StatusBadRequest || !strings.Contains(page, `value="4"`) {
		t.Errorf("every four minutes: %d\n%s", status, page)
	}
	events = v.watch("analyzer")
	if _, page := v.post("analyzer/schedule", url.Values{"gateway": {g.ID}, "minutes": {"15"}}); !strings.Contains(page, "every 15 minutes") {
		t.Errorf("every fifteen minutes:\n%s", page)
	}
	v.until(events, "analysis-schedule", "every 15 minutes")
	r.firstHost(g.ID, "granitefalls")
	r.wait(time.Hour)
	r.look("analyses")
	v.until(events, "analysis", "by the schedule")
	v.see("analyzer", "the schedule</td>")
	if _, page := v.post("analyzer/schedule", url.Values{"gateway": {g.ID}, "off": {"off"}}); !strings.Contains(page, "Turn on") || strings.Contains(page, "Turn off") {
		t.Errorf("off:\n%s", page)
	}

}

func TestConsoleExplains(t *testing.T) {
	r := newRig(t)
	r.s.WaitForRecords(time.Minute) // everybody answers
	v := r.console(r.c.Token)
	g := r.selfHosted()
	v.see("explain?id=unknown-id-1", "Nobody knows the request unknown-id-1")
	if status, page := v.get("explain?id=x"); status != http.StatusOK || !strings.Contains(page, "is not a correlation ID") || !strings.Contains(page, `value="x"`) {
		t.Errorf("no correlation ID: %d\n%s", status, page)
	}
	cp := r.join("cp1", g.ID)
	cp.says()
	cp.answers(func(q adminservice.SystemQuestion) *adminservice.SystemAnswer {
		return &adminservice.SystemAnswer{Question: q.ID, Records: []opencmg.RequestRecord{
			{CorrelationID: q.CorrelationID, Hop: opencmg.HopGateway, Where: "granitefalls/0", Method: "GET", Path: "/wiki/", Client: "PC1", Status: 403, Reason: "CMGConnector_Clientcertificaterequired", Verdict: "no certificate", Details: []string{"the connection had none"}},
		}}
	})
	v.see("explain?id=known-id-12", `data-path="known-id-12"`, "PC1", "granitefalls/0", "CMGConnector_Clientcertificaterequired", "the connection had none", "The request did not get here")
}

func TestConsoleGroupsSettingsAndRecords(t *testing.T) {
	r := newRig(t)
	g := r.selfHosted()
	v := r.console(r.c.Token)
	v.see("boundary-groups", "Default-Site-Boundary-Group&lt;LAB&gt;")
	if status, page := v.post("boundary-groups/new", url.Values{"name": {"Branch"}, "ticks": {"sent"}, "boundaries": {"10.0.0.300"}, "system": {g.ID}}); status != http.StatusBadRequest || !strings.Contains(page, "10.0.0.300") || !strings.Contains(page, `value="`+g.ID+`" checked`) {
		t.Errorf("a boundary that is none: %d\n%s", status, page)
	}
	v.post("boundary-groups/new", url.Values{"name": {"Branch"}, "boundaries": {"10.0.0.0/8\r\n192.0.2.0/24"}, "system": {g.ID}, "preferCloud": {"on"}})
	v.see("boundary-groups", "Branch", "10.0.0.0/8", "192.0.2.0/24", "granitefalls", "prefer cloud sources")
	v.see("client-settings", `name="policyMinutes"`)
	minutes := url.Values{"gateway": {"on"}}
	for _, name := range []string{"policy", "location", "inventory", "discovery", "state", "keepAlive"} {
		minutes.Set(name+"Minutes", "30")
	}
	v.post("client-settings", minutes)
	if c := do[adminservice.ClientSettings](r, "GET", "ClientSettings/0", nil); c.PolicyMinutes != 30 || !c.AllowCloudManagementGateway || c.AutoAzureADJoin {
		t.Errorf("the settings are %+v", c)
	}
	v.see("alerts", "No alert is open")
	v.see("status-messages", "signed in to the console", "added boundary group", "of ")
	if page := v.see("status-messages?severity=critical"); strings.Contains(page, "signed in to the console") {
		t.Error("the filter by severity lets information through")
	}
	for range 60 {
		do[adminservice.ClientSettings](r, "PATCH", "ClientSettings/0", map[string]int{"policyMinutes": 31})
	}
	v.see("status-messages", "1 to 50 of", "skip=50")
	v.see("status-messages?skip=50", "51 to", "Newer")
}

// Nothing of these pages changes anything for a Read-only Analyst.
func TestConsoleWatchRefusesAnalysts(t *testing.T) {
	r := newRig(t)
	g := r.selfHosted()
	cp := r.join("cp1", g.ID)
	role := do[adminservice.SiteRole](r, "POST", "SiteRoles", adminservice.SiteRole{Kind: "management-point", Name: "mp1", Internal: []string{"https://mp1.corp.example"}})
	v := r.analyst()
	before := r.snapshot()
	for _, page := range []string{"connection-points", "connection-points/new", "connection-points/" + cp.id, "roles", "roles/new", "roles/join", "roles/" + role.ID, "analyzer", "boundary-groups", "boundary-groups/new", "boundary-groups/16777217", "client-settings", "alerts", "status-messages"} {
		for _, form := range regexp.MustCompile(`<form method="post" action="([^"]*)"`).FindAllStringSubmatch(v.see(page), -1) {
			if page != "client-settings" && form[1] != "/console/sign-out" {
				t.Errorf("%s offers an analyst %s", page, form[1])
			}
		}
	}
	for path, form := range map[string]url.Values{
		"connection-points/new": {"gateway": {g.ID}}, "connection-points/" + cp.id + "/link": {"gateway": {""}}, "connection-points/" + cp.id + "/delete": {"typed": {"cp1"}},
		"roles/join": nil, "roles/new": {"kind": {"management-point"}, "name": {"mp2"}, "internal": {"https://mp2.corp.example"}}, "roles/" + role.ID: {"name": {"mp3"}, "internal": {"https://mp3.corp.example"}},
		"roles/" + role.ID + "/allow": nil, "roles/" + role.ID + "/refuse": nil, "roles/" + role.ID + "/delete": {"typed": {"mp1"}},
		"analyzer": {"gateway": {g.ID}, "signIn": {"token"}}, "analyzer/schedule": {"gateway": {g.ID}, "off": {"off"}}, "boundary-groups/new": {"name": {"x"}}, "boundary-groups/16777217": {"default": {"on"}}, "client-settings": {"policyMinutes": {"1"}}, "alerts/1/acknowledge": nil,
	} {
		if status, page := v.post(path, form); status != http.StatusForbidden {
			t.Errorf("%s: %d\n%s", path, status, page)
		}
	}
	for _, path := range []string{"logs", "logs/CloudMgr.log", "logs/CloudMgr.log/download"} {
		status, page := v.get(path)
		if status != http.StatusForbidden {
			t.Errorf("%s: %d", path, status)
		}
		pageSays(t, textOfPage(t, page), "Not with your role", "analyst is Read-only Analyst, and this needs Operations Administrator", "by a Full Administrator: administrator")
		if !strings.Contains(page, `<a href="/console/logs" aria-current="page">`) {
			t.Errorf("%s is not in its place:\n%s", path, page)
		}
	}
	if after := r.snapshot(); after != before {
		t.Errorf("something changed:\n%s\n%s", before, after)
	}
}
