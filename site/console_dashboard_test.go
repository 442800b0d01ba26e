package site_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/browsertest"
	"github.com/opencmg/opencmg/sitedb"
)

// textOfPage is the text of a page, with one space between any two words.
func textOfPage(t testing.TB, page string) string {
	t.Helper()
	doc := must(html.Parse(strings.NewReader(page)))(t)
	var b strings.Builder
	for n := range doc.Descendants() {
		if n.Type == html.TextNode {
			b.WriteString(n.Data + " ")
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// A plotted chart is what a page hands to the script.
type plotted struct {
	Title  string
	Times  []int64
	Series []struct {
		Label  string
		Values []*float64
		Dashed bool
	}
	Marks []struct {
		Label string
		Value float64
	}
}

// chartsOfPage reads the charts of a page by title.
func chartsOfPage(t testing.TB, page string) map[string]plotted {
	t.Helper()
	list := map[string]plotted{}
	for _, m := range regexp.MustCompile(`data-chart="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		var c plotted
		if err := json.Unmarshal([]byte(html.UnescapeString(m[1])), &c); err != nil {
			t.Fatalf("%v in %s", err, m[1])
		}
		list[c.Title] = c
	}
	return list
}

// sums are what the series of a chart come to.
func (c plotted) sums() (list []string) {
	for _, s := range c.Series {
		sum := 0.0
		for _, v := range s.Values {
			if v != nil {
				sum += *v
			}
		}
		list = append(list, fmt.Sprintf("%s %g", s.Label, sum))
	}
	return list
}

func pageSays(t testing.TB, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q:\n%s", want, text)
		}
	}
}

// TestConsoleDashboard: the dashboard says what was counted, in words, to
// everybody who may sign in.
func TestConsoleDashboard(t *testing.T) {
	r := newRig(t)
	v := r.analyst()
	// Without a gateway there is nothing to show, and no empty frame.
	page := v.see("dashboard")
	pageSays(t, textOfPage(t, page), "The site has no cloud management gateway yet", "Requests per second 0 0 requests in this time", "Instances none", "There were no requests in this time.", "No request was refused in this time.", "no answers in the last five minutes", "site CA")
	if len(chartsOfPage(t, page)) > 0 || strings.Contains(page, "gateways/new") {
		t.Errorf("an analyst of an empty site sees charts or a button:\n%s", page)
	}
	r.console(r.c.Token).see("dashboard", `href="/console/gateways/new"`)

	g := r.selfHosted()
	do[adminservice.Gateway](r, "PATCH", "Gateways/"+g.ID, map[string]any{"traffic": adminservice.Threshold{Enabled: true, GB: 20, WarningPct: 50, CriticalPct: 80}})
	p, mp := r.join("cp1", g.ID), r.system(adminservice.SystemManagementPoint, "mp1", "")
	events := v.watch("dashboard?minutes=15")
	latency := make([]int64, 4)
	latency[3] = 30 // 4 to 8 ms
	started := r.now()
	r.wait(time.Second)
	status := opencmg.InstanceStatus{
		Gateway: "granitefalls", Started: started, Time: r.now(), Held: 7, Refused: map[string]int64{"token-expired": 3, "something-new": 1},
		Endpoints: []opencmg.InstanceTraffic{
			{Role: "1", Endpoint: "CCM_Client", Requests: 1200, Failed: 20, RequestBytes: 2000, ResponseBytes: 3_000_000, Latency: latency},
			{Role: "1", Endpoint: "BGB", Requests: 34, RequestBytes: 100, ResponseBytes: 200},
		},
	}
	p.says(status)
	if err := mp.client().Report(t.Context(), &adminservice.SiteSystemReport{Kind: adminservice.SystemManagementPoint, Online: []opencmg.OnlineClients{
		{Place: opencmg.PlaceInternet, Auth: opencmg.AuthEntra, Clients: 5}, {Place: opencmg.PlaceIntranet, Auth: opencmg.AuthPKI, Clients: 4},
	}}); err != nil {
		t.Fatal(err)
	}
	page = v.see("dashboard?minutes=15")
	text := textOfPage(t, page)
	pageSays(t, text, "1,234 requests in this time", "Failed requests 20 in this time 20 of them just now", "Refused requests 4 in this time 4 of them just now", "Online clients 9 5 on the internet 4 on the intranet",
		"5 by Entra 4 by certificate", "Held clients 7", "Latency, 95 of 100 answers 7.8 ms p50 6.0 ms, p99 8.0 ms 30 answers in five minutes", "Connection points 1 of 1",
		"Egress in 14 days 3.0 MB Too little is known yet for a forecast: it needs 24 hours more of traffic.", "the token has expired 3 Clients get a new one by themselves", "something new 1", "token-expired",
		"CCM_Client 1,200 20 2.0 kB 3.0 MB", "BGB 34 0 100 B 200 B", "Explain one request", "How long answers took, by endpoint Endpoint Answers p50 p90 p99 From 1 ms to 100 s CCM_Client 30 6.0 ms 7.6 ms 8.0 ms Half of the answers")
	if strings.Contains(text, "Look into the logs") || strings.Contains(text, "no cloud management gateway yet") {
		t.Errorf("an analyst may not read logs, and there is a gateway:\n%s", text)
	}
	list := chartsOfPage(t, page)
	for title, want := range map[string][]string{
		"Requests each minute, by endpoint":         {"CCM_Client 1200", "BGB 34"},
		"Bytes to clients each minute, by endpoint": {"CCM_Client 3e+06", "BGB 200"},
		"Refused requests each minute, by reason":   {"the token has expired 3", "something new 1"},
		"Latency of answers":                        {"50 of 100 (p50) 6", "95 of 100 (p95) 7.8", "99 of 100 (p99) 7.96"},
	} {
		if got := list[title].sums(); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", title, got, want)
		}
		if n := len(list[title].Times); n != 15 {
			t.Errorf("%s has %d points", title, n)
		}
	}
	// The page says so by itself, too.
	v.until(events, "dashboard-now", `<p class="figure warn">4</p>`)
	status.Time = r.now().Add(time.Millisecond)
	status.Refused = map[string]int64{"token-expired": 3, "something-new": 1, "not-published": 2}
	p.says(status)
	v.until(events, "dashboard-now", `<p class="figure warn">6</p>`)

	// Range and gateway keep each other.
	page = v.see("dashboard?minutes=20160&gateway=granitefalls", `<option value="`+g.ID+`" selected>`, `name="minutes" value="20160"`,
		`href="/console/dashboard?gateway=`+g.ID+`&amp;minutes=60"`, `href="/console/dashboard?gateway=`+g.ID+`&amp;minutes=20160" aria-current="true">14 days`)
	if _, ok := chartsOfPage(t, page)["Requests each 2 hours, by endpoint"]; !ok {
		t.Errorf("14 days have no chart of 2 hours:\n%s", page)
	}
	for _, query := range []string{"minutes=14", "minutes=x", "minutes=129601"} {
		if status, page := v.get("dashboard?" + query); status != http.StatusBadRequest || !strings.Contains(page, "must be a whole number from 15 to 129600 (90 days)") {
			t.Errorf("%s: %d\n%s", query, status, page)
		}
	}
	if status, page := v.get("dashboard?gateway=nowhere"); status != http.StatusNotFound || !strings.Contains(page, "nowhere") {
		t.Errorf("a gateway that is not there: %d\n%s", status, page)
	}
}

// TestConsoleDashboardEgress: the forecast is a sentence with a date.
func TestConsoleDashboardEgress(t *testing.T) {
	r := newRig(t)
	g := r.selfHosted()
	v := r.console(r.c.Token)
	pageSays(t, textOfPage(t, v.see("dashboard")), "Egress in 14 days 0 B Nothing was sent. No alerts are wanted.", "Storage 0 B Below the warning level of 1.0 TB.")
	threshold := adminservice.Threshold{Enabled: true, GB: 20, WarningPct: 50, CriticalPct: 60}
	set := func() {
		t.Helper()
		do[adminservice.Gateway](r, "PATCH", "Gateways/"+g.ID, map[string]any{"traffic": threshold})
	}
	set()
	var list []sitedb.Traffic
	for h := 7 * 24; h > 0; h-- { // a GB a day
		list = append(list, sitedb.Traffic{GatewayID: g.ID, Instance: "0", Endpoint: "a", Start: r.now().Add(-time.Duration(h)*time.Hour + time.Minute), Counts: sitedb.Counts{ResponseBytes: 1_000_000_000 / 24}})
	}
	if err := r.db.AddCounts(t.Context(), sitedb.Counted{Traffic: list}); err != nil {
		t.Fatal(err)
	}
	e := r.dashboard("").Egress[0]
	date := func(t time.Time) string { return t.UTC().Format(time.DateOnly) }
	pageSays(t, textOfPage(t, v.see("dashboard")), "At this rate the warning level of 10.0 GB is reached on "+date(e.WarningAt)+", and the critical level of 12.0 GB on "+date(e.CriticalAt)+".")
	// The chart has the past, the forecast, and the levels as lines.
	const title = "Egress of 14 days against its threshold: granitefalls.corp.example"
	c := chartsOfPage(t, v.see("dashboard?minutes=20160"))[title]
	if len(c.Series) != 2 || c.Series[0].Label != "the 14 days before" || c.Series[1].Label != "forecast by the last 7 days" || !c.Series[1].Dashed {
		t.Fatalf("%+v", c)
	}
	var lines []string
	for _, m := range c.Marks {
		lines = append(lines, fmt.Sprintf("%s %g", m.Label, m.Value))
	}
	if want := []string{"threshold 2e+10", "critical 1.2e+10", "warning 1e+10"}; !slices.Equal(lines, want) {
		t.Errorf("lines %v, want %v", lines, want)
	}
	now := slices.IndexFunc(c.Series[1].Values, func(v *float64) bool { return v != nil })
	if c.Series[0].Values[now] == nil || *c.Series[0].Values[now] != *c.Series[1].Values[now] || c.Series[0].Values[now+1] != nil || *c.Series[0].Values[0] != 0 {
		t.Errorf("the forecast begins at %d: %+v", now, c)
	}
	if days := float64(last(c.Times)-c.Times[now]) / 86400; days < 13.5 || days > 14.5 || *last(c.Series[1].Values) < 13.5e9 {
		t.Errorf("the forecast goes on for %.1f days to %g", days, *last(c.Series[1].Values))
	}
	// As far as the past, and no further.
	page := v.see("dashboard?minutes=15")
	pageSays(t, textOfPage(t, page), "The forecast goes on beyond this chart: choose 14 days to see all of it. At this rate the warning level", "Lines: threshold 20.0 GB, critical 12.0 GB, warning 10.0 GB")
	if c = chartsOfPage(t, page)[title]; last(c.Times)-c.Times[0] > 31*60 || last(c.Series[1].Values) == nil {
		t.Errorf("%+v", c)
	}
	threshold.WarningPct, threshold.CriticalPct = 20, 60
	set()
	pageSays(t, textOfPage(t, v.see("dashboard")), "The warning level of 4.0 GB is passed; at this rate the critical level of 12.0 GB is reached on ")
	threshold.CriticalPct = 90
	set()
	pageSays(t, textOfPage(t, v.see("dashboard")), "The warning level of 4.0 GB is passed; at this rate the critical level of 18.0 GB is not reached.")
	threshold.CriticalPct, threshold.Enabled = 30, false
	set()
	pageSays(t, textOfPage(t, v.see("dashboard")), "The critical level of 6.0 GB is passed. No alerts are wanted.")
}

// TestDashboardInBrowser: charts get new numbers in place, under the pointer of
// the reader.
func TestDashboardInBrowser(t *testing.T) {
	r := newRig(t)
	point := r.join("cp1", r.selfHosted().ID)
	started := r.now()
	// All that is counted belongs to one minute, which just began.
	r.wait(started.Truncate(time.Minute).Add(time.Minute + time.Second).Sub(started))
	status := opencmg.InstanceStatus{Gateway: "granitefalls", Started: started, Time: r.now(), Endpoints: []opencmg.InstanceTraffic{{Role: "1", Endpoint: "CCM_Client", Requests: 1200, ResponseBytes: 5000}, {Role: "1", Endpoint: "BGB", Requests: 34}}}
	point.says(status)
	p := r.browser()
	p.Go("https://127.0.0.1/console/sign-in?next=/console/dashboard%3Fminutes=15")
	p.Fill("#token", string(r.c.Token))
	p.Follow("form[action$='/token'] button")
	p.Go("https://127.0.0.1/console/dashboard?minutes=15")
	p.WaitFor("#requests figure[data-drawn]")
	// The pointer rests at the right edge, on the last minute.
	browsertest.Eval[bool](p, `() => {
		const over = document.querySelector('#requests .u-over'), box = over.getBoundingClientRect();
		document.querySelector('#requests canvas').kept = true;
		over.dispatchEvent(new MouseEvent('mouseenter', { clientX: box.right - 2, clientY: box.top + 20 }));
		over.dispatchEvent(new MouseEvent('mousemove', { clientX: box.right - 2, clientY: box.top + 20 }));
		return true;
	}`)
	value := "#requests .u-series:nth-child(2) .u-value"
	p.WaitText(value, "1,200")
	status.Time = r.now().Add(time.Millisecond)
	status.Endpoints = []opencmg.InstanceTraffic{{Role: "1", Endpoint: "CCM_Client", Requests: 1500, ResponseBytes: 5000}, {Role: "1", Endpoint: "BGB", Requests: 34}}
	point.says(status)
	p.WaitText(value, "1,500")
	if !browsertest.Eval[bool](p, `() => document.querySelector('#requests canvas').kept === true`) {
		t.Error("the chart was drawn anew for other numbers")
	}
	// Another series makes it another chart.
	status.Time = status.Time.Add(time.Millisecond)
	status.Endpoints = append(status.Endpoints, opencmg.InstanceTraffic{Role: "1", Endpoint: "CCM_STS", Requests: 1})
	point.says(status)
	p.WaitText("#requests .u-legend", "CCM_STS")
	if f := p.Axe(); len(f) > 0 {
		t.Errorf("axe: %v", f)
	}
	for _, width := range []int{360, 1920} {
		p.SetSize(width, 900)
		if o := p.Overflow(); len(o) > 0 {
			t.Errorf("%d: %q", width, o)
		}
	}
}
