package site_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/site"
)

// log asks for a log file and returns its text and where it ended.
func (r *rig) readLog(name, query string) (text, position string) {
	r.t.Helper()
	req := must(http.NewRequestWithContext(r.t.Context(), "GET", r.c.URL+adminservice.BasePath+"Logs/"+name+query, nil))(r.t)
	req.Header.Set("Authorization", "Bearer "+string(r.c.Token))
	res := must(r.c.HTTP.Do(req))(r.t)
	defer res.Body.Close()
	b := must(io.ReadAll(res.Body))(r.t)
	if res.StatusCode != http.StatusOK {
		r.t.Fatalf("%s%s: %s %s", name, query, res.Status, b)
	}
	return string(b), res.Header.Get(adminservice.LogPosition)
}

func (r *rig) logNames() (names []string) {
	r.t.Helper()
	for _, f := range do[adminservice.Page[adminservice.LogFile]](r, "GET", "Logs", nil).Value {
		names = append(names, f.Name)
	}
	return names
}

func TestLogs(t *testing.T) {
	dir := t.TempDir()
	own := filepath.Join(dir, "own")
	r := newRig(t, func(r *rig) {
		r.config = func(c *site.Config) { c.Logs = site.Logs{Own: own, Kept: filepath.Join(dir, "kept")} }
	})
	if names := r.logNames(); len(names) != 0 {
		t.Errorf("before anything was logged: %v", names)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(own, 0o700); err != nil {
			t.Fatal(err)
		}
		f := must(os.OpenFile(filepath.Join(own, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600))(t)
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	write("CloudMgr.log", "one\ntwo\n")
	write("secret.key", "secret")
	if err := os.Symlink(filepath.Join(own, "secret.key"), filepath.Join(own, "link.log")); err != nil {
		t.Log(err)
	}
	if names := r.logNames(); !slices.Equal(names, []string{"CloudMgr.log"}) {
		t.Errorf("own files: %v", names)
	}
	text, at := r.readLog("CloudMgr.log", "")
	if text != "one\ntwo\n" {
		t.Errorf("all of it: %q", text)
	}
	if text, _ := r.readLog("CloudMgr.log", "?tail=6"); text != "two\n" {
		t.Errorf("the last bytes, from a whole line on: %q", text)
	}
	if text, again := r.readLog("CloudMgr.log", "?after="+at); text != "" || again != at {
		t.Errorf("nothing new: %q %s", text, again)
	}
	write("CloudMgr.log", "three\n")
	// A rotation in between: the rest of the old file, then the new one.
	if err := os.Rename(filepath.Join(own, "CloudMgr.log"), filepath.Join(own, "CloudMgr.lo_")); err != nil {
		t.Fatal(err)
	}
	write("CloudMgr.log", "four\nfive and more than the old one had\n")
	text, at = r.readLog("CloudMgr.log", "?after="+at)
	if text != "three\nfour\nfive and more than the old one had\n" {
		t.Errorf("after a rotation: %q", text)
	}
	write("CloudMgr.log", "six\n")
	if text, _ := r.readLog("CloudMgr.log", "?after="+at); text != "six\n" {
		t.Errorf("following: %q", text)
	}
	if text, _ := r.readLog("CloudMgr.log", "?whole=true"); text != "one\ntwo\nthree\nfour\nfive and more than the old one had\nsix\n" {
		t.Errorf("all that is kept: %q", text)
	}
	if text, _ := r.readLog("CloudMgr.lo_", "?whole=true"); text != "one\ntwo\nthree\n" {
		t.Errorf("all of the older file: %q", text)
	}
	if text, _ := r.readLog("CloudMgr.log", "?after=1.1"); !strings.HasPrefix(text, "four\n") {
		t.Errorf("a position of a file that is gone: %q", text)
	}
	write("Long.log", strings.Repeat(strings.Repeat("x", 1023)+"\n", 5<<10))
	if text, _ := r.readLog("Long.log", "?tail=900000000"); len(text) > adminservice.MaxLogAnswer || len(text) < adminservice.MaxLogAnswer-2048 {
		t.Errorf("%d bytes", len(text))
	}
	if text, _ := r.readLog("Long.log", "?whole=true"); len(text) != 5<<20 {
		t.Errorf("the whole of a long file is %d bytes", len(text))
	}
	if text, _ := r.readLog("Long.log", ""); len(text) > adminservice.DefaultLogTail || len(text) == 0 {
		t.Errorf("%d bytes by default", len(text))
	}
	for _, path := range []string{"secret.key", "link.log", "..%2Fown%2FCloudMgr.log", "..%2Fsite.key", "CloudMgr.log%00", "own"} {
		wantProblem(t, r.c.Do(t.Context(), "GET", "Logs/"+path, nil, nil), opencmg.NotFound, "")
	}
	wantProblem(t, r.c.Do(t.Context(), "GET", "Logs/CloudMgr.log?after=x", nil, nil), opencmg.Invalid, "Log-Position")
	wantProblem(t, r.c.Do(t.Context(), "GET", "Logs/CloudMgr.log?tail=-1", nil, nil), opencmg.Invalid, "tail")
}

// wantProblem wants an error of a kind that holds a text.
func wantProblem(t *testing.T, err error, kind opencmg.Kind, text string) {
	t.Helper()
	if err == nil || !errors.Is(err, kind) || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want %s with %q", err, kind, text)
	}
}

func TestSiteConfigurationAndMetrics(t *testing.T) {
	r := newRig(t)
	text, _, err := r.c.Text(t.Context(), "Site/configuration")
	if err != nil || string(text) != "site: LAB\n" {
		t.Errorf("%q %v", text, err)
	}
	r.look("expiry")
	text, _, err = r.c.Text(t.Context(), "Site/metrics")
	if err != nil || !strings.Contains(string(text), "# TYPE opencmg_site_expiry_seconds gauge") {
		t.Errorf("%q %v", text, err)
	}
}

// TestKeptLogs has connection points and a management point report their logs
// and those of gateway instances.
func TestKeptLogs(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, func(r *rig) { r.config = func(c *site.Config) { c.Logs = site.Logs{Kept: dir} } })
	g := do[adminservice.Gateway](r, "POST", "Gateways", adminservice.NewGateway{Model: adminservice.ModelSelfHosted, Certificate: adminservice.ServerCertificate{ServiceName: serviceName}})
	a, b := r.join("Point A", g.ID), r.join("b", g.ID)
	m := r.system(adminservice.SystemManagementPoint, "mp1", "")
	stranger := r.join("stranger", "")
	report := func(p *point, kind string, lines ...opencmg.LogLine) {
		t.Helper()
		var status *opencmg.ConnectionPointStatus
		if kind == adminservice.SystemConnectionPoint {
			status = &opencmg.ConnectionPointStatus{Name: p.name}
		}
		if err := p.client().Report(t.Context(), &adminservice.SiteSystemReport{Kind: kind, ConnectionPoint: status, Logs: lines}); err != nil {
			t.Fatal(err)
		}
	}
	wanted := func(p *point) bool {
		t.Helper()
		d, _, err := p.client().Documents(t.Context(), "", 0)
		if err != nil {
			t.Fatal(err)
		}
		return d.InstanceLogs
	}
	report(a, adminservice.SystemConnectionPoint)
	report(b, adminservice.SystemConnectionPoint)
	if wanted(a) == wanted(b) || wanted(stranger) {
		t.Errorf("instance logs are asked of: %v %v, and of a stranger: %v", wanted(a), wanted(b), wanted(stranger))
	}
	one, other := a, b
	if wanted(b) {
		one, other = b, a
	}
	// When that one is silent, the other is asked.
	r.wait(2 * time.Minute)
	report(other, adminservice.SystemConnectionPoint)
	if wanted(one) || !wanted(other) {
		t.Errorf("after one fell silent: %v %v", wanted(one), wanted(other))
	}

	now := r.now().UTC()
	line := func(n int, source, component, message string) opencmg.LogLine {
		return opencmg.LogLine{Time: now.Add(time.Duration(n) * time.Millisecond), Level: "WARN", Source: source, Component: component, Message: message, Attrs: map[string]string{"b": "2 3", "a": "1"}}
	}
	instance := g.Name + "/0"
	report(one, adminservice.SystemConnectionPoint,
		line(1, instance, "CMGService", "first"), line(2, instance, "CMGService", "second"), line(3, instance, "CMGSetup", "set up"),
		line(4, "whatever it calls itself", "SMS_Cloud_ProxyConnector", "of the point"),
		line(5, "another/0", "CMGService", "of a foreign gateway"), line(6, g.Name+"/16", "CMGService", "of no instance"), line(7, g.Name+"/../1", "CMGService", "escape"),
		line(8, instance, "../../escape", "component"), line(9, instance, "CMGService", "forged]LOG]!><time=\"x"))
	report(stranger, adminservice.SystemConnectionPoint, line(1, instance, "CMGService", "of a stranger"))
	report(m, adminservice.SystemManagementPoint, line(1, instance, "CCM_STS", "of the management point"))
	prefix := "CMG-" + strings.ToLower(g.Name) + "-0-"
	point := "CP-" + strings.ToLower(strings.ReplaceAll(one.name, " ", "_")) + "-SMS_Cloud_ProxyConnector.log"
	want := []string{prefix + "CMGService.log", prefix + "CMGSetup.log", prefix + "______escape.log", point, "MP-mp1-CCM_STS.log"}
	if names := r.logNames(); !slices.Equal(names, want) {
		t.Errorf("files are %q, want %q", names, want)
	}
	// The other one begins with the lines that the instance kept.
	report(other, adminservice.SystemConnectionPoint, line(1, instance, "CMGService", "first"), line(9, instance, "CMGService", "again"), line(10, instance, "CMGService", "third"))
	text, _ := r.readLog(prefix+"CMGService.log", "")
	var got []string
	for l := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(l, "<![LOG[")
		if !ok || strings.Count(l, "]LOG]!>") != 1 || !strings.Contains(l, `type="2"`) {
			t.Errorf("no line of CMTrace: %q", l)
		}
		message, _, _ := strings.Cut(rest, "]LOG]!>")
		got = append(got, message)
	}
	if want := []string{`first a=1 b="2 3"`, `second a=1 b="2 3"`, `forged]LOG]! ><time="x a=1 b="2 3"`, `third a=1 b="2 3"`}; !slices.Equal(got, want) {
		t.Errorf("lines are %q, want %q", got, want)
	}

	// What is kept is bounded, whatever comes.
	var flood []opencmg.LogLine
	for i := range 3000 {
		flood = append(flood, line(100+i, instance, fmt.Sprintf("Flood%d", i%300), strings.Repeat("x", 500)))
	}
	for i := 0; i < len(flood); i += 500 {
		report(one, adminservice.SystemConnectionPoint, flood[i:i+500]...)
	}
	names := r.logNames()
	if len(names) > 2*65+2 || !slices.Contains(names, prefix+"Log.log") {
		t.Errorf("%d files: %q", len(names), names)
	}
}

// TestFreshLogs: for each part it is told who reports its lines, when that was,
// and how old they were; the page says so.
func TestFreshLogs(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, func(r *rig) { r.config = func(c *site.Config) { c.Logs = site.Logs{Kept: dir} } })
	g := r.selfHosted()
	p := r.join("cp1", g.ID)
	reports := func(lines ...opencmg.LogLine) {
		t.Helper()
		if err := p.client().Report(t.Context(), &adminservice.SiteSystemReport{Kind: adminservice.SystemConnectionPoint, ConnectionPoint: &opencmg.ConnectionPointStatus{Name: "cp1"}, Logs: lines}); err != nil {
			t.Fatal(err)
		}
	}
	written := r.now()
	r.wait(90 * time.Second)
	reports(opencmg.LogLine{Time: written, Level: "INFO", Source: g.Name + "/3", Component: "CMGService", Message: "late"}, opencmg.LogLine{Time: r.now(), Level: "INFO", Component: "SMS_Cloud_ProxyConnector", Message: "at once"})
	want := map[string]float64{"CMG-granitefalls-3-CMGService.log": 90, "CP-cp1-SMS_Cloud_ProxyConnector.log": 0}
	for _, f := range do[adminservice.Page[adminservice.LogFile]](r, "GET", "Logs", nil).Value {
		late, ok := want[f.Name]
		if !ok || f.From != "cp1" || r.now().Sub(f.Reported) > time.Minute || f.DelaySeconds < late || f.DelaySeconds > late+30 {
			t.Errorf("%+v, want lines that were %v s late", f, late)
		}
		delete(want, f.Name)
	}
	if len(want) > 0 {
		t.Errorf("there are no %v", want)
	}
	v := r.console(r.c.Token)
	pageSays(t, textOfPage(t, v.see("logs")), "Gateway instance granitefalls/3 fresh Up to the last report of cp1,", "The newest lines came 1m3")
	// A part without news is fresh, as long as it reports.
	r.wait(10 * time.Minute)
	pageSays(t, textOfPage(t, v.see("logs/CP-cp1-SMS_Cloud_ProxyConnector.log")), "late cp1 is silent: what was written after its last report,")
	reports()
	pageSays(t, textOfPage(t, v.see("logs/CP-cp1-SMS_Cloud_ProxyConnector.log")), "fresh Up to the last report of cp1,")
	if _, text := v.get("logs/CP-cp1-SMS_Cloud_ProxyConnector.log/tail?fresh=yes&after=1.1"); !strings.Contains(text, "last report of cp1") {
		t.Errorf("the tail says %s", text)
	}
	do[any](r, "DELETE", "ConnectionPoints/"+p.id, nil)
	pageSays(t, textOfPage(t, v.see("logs")), "old Nobody reports this part any more")
}
