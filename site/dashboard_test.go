package site_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/site"
	"github.com/opencmg/opencmg/sitedb"
)

func (r *rig) dashboard(query string) adminservice.Dashboard {
	r.t.Helper()
	return do[adminservice.Dashboard](r, "GET", "Dashboard?"+query, nil)
}

func last[T any](list []T) T { return list[len(list)-1] }

// TestDashboard: what instances and management points report is on the
// dashboard, once each, in intervals without gaps.
func TestDashboard(t *testing.T) {
	r := newRig(t)
	g := r.selfHosted()
	one, two, mp := r.join("cp1", g.ID), r.join("cp2", g.ID), r.system(adminservice.SystemManagementPoint, "mp1", "")
	started := r.now()
	says := func(n int64) opencmg.InstanceStatus {
		r.wait(time.Second)
		st := opencmg.InstanceStatus{Gateway: "granitefalls", Started: started, Time: r.now(), Held: 7, Refused: map[string]int64{"token-expired": 2 * n, "method": n}}
		for e := range 10 {
			latency := make([]int64, 4)
			latency[3] = n // 4 to 8 ms
			st.Endpoints = append(st.Endpoints, opencmg.InstanceTraffic{Role: "1", Endpoint: fmt.Sprint("e", e), Requests: n * int64(10-e), Failed: n, RequestBytes: 2 * n, ResponseBytes: 3 * n, Latency: latency})
		}
		return st
	}
	st := says(1)
	one.says(st)
	two.says(st) // the same
	one.says(says(3))
	started = r.now()
	one.says(says(2)) // after a restart: 5 in all
	online := func(list ...opencmg.OnlineClients) {
		t.Helper()
		if err := mp.client().Report(t.Context(), &adminservice.SiteSystemReport{Kind: adminservice.SystemManagementPoint, Online: list}); err != nil {
			t.Fatal(err)
		}
	}
	online(opencmg.OnlineClients{Place: opencmg.PlaceInternet, Auth: opencmg.AuthEntra, Clients: 5}, opencmg.OnlineClients{Place: opencmg.PlaceInternet, Auth: opencmg.AuthPKI, Clients: 2},
		opencmg.OnlineClients{Place: opencmg.PlaceIntranet, Auth: opencmg.AuthPKI, Clients: 4}, opencmg.OnlineClients{Place: "moon", Auth: opencmg.AuthPKI, Clients: 1000}, opencmg.OnlineClients{Place: opencmg.PlaceInternet, Auth: "magic", Clients: 1000},
		opencmg.OnlineClients{Place: opencmg.PlaceInternet, Auth: opencmg.AuthPKI, Clients: -1000})
	r.look("gauges")

	for query, wantStep := range map[string]time.Duration{"minutes=15": time.Minute, "minutes=360&gateway=granitefalls": 2 * time.Minute, "": 10 * time.Minute, "minutes=2880&gateway=" + g.ID: 15 * time.Minute, "minutes=20000": 2 * time.Hour, "minutes=129600": 24 * time.Hour} {
		d := r.dashboard(query)
		step := time.Duration(d.StepSeconds) * time.Second
		if step != wantStep || !d.Times[0].Equal(d.From) || d.To.Sub(last(d.Times)) > step || d.To.Before(last(d.Times)) {
			t.Fatalf("%s: %s in steps of %s to %s, the last at %s", query, d.From, step, d.To, last(d.Times))
		}
		for i := range d.Times[1:] {
			if !d.Times[i+1].Equal(d.Times[i].Add(step)) {
				t.Fatalf("%s: %s follows %s", query, d.Times[i+1], d.Times[i])
			}
		}
		sum := func(list []int64) (n int64) {
			t.Helper()
			if len(list) != len(d.Times) {
				t.Fatalf("%s: %d values of %d intervals", query, len(list), len(d.Times))
			}
			for _, v := range list {
				n += v
			}
			return n
		}
		type line struct {
			Name  string
			Total adminservice.DashboardTraffic
		}
		var got, want []line
		for _, e := range d.Endpoints {
			got = append(got, line{e.Name, e.Total})
			if sums := (adminservice.DashboardTraffic{Requests: sum(e.Requests), Failed: sum(e.Failed), RequestBytes: sum(e.RequestBytes), ResponseBytes: sum(e.ResponseBytes)}); sums != e.Total {
				t.Errorf("%s: %s: the values make %+v, the total is %+v", query, e.Name, sums, e.Total)
			}
		}
		for e := range 8 {
			want = append(want, line{fmt.Sprint("e", e), adminservice.DashboardTraffic{Requests: 5 * int64(10-e), Failed: 5, RequestBytes: 10, ResponseBytes: 15}})
		}
		want = append(want, line{"other", adminservice.DashboardTraffic{Requests: 15, Failed: 10, RequestBytes: 20, ResponseBytes: 30}})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
		var refused []string
		for _, c := range d.Refusals {
			refused = append(refused, fmt.Sprint(c.Name, c.Total))
			if sum(c.Counts) != c.Total {
				t.Errorf("%s: %+v", query, c)
			}
		}
		if diff := cmp.Diff([]string{"token-expired10", "method5"}, refused); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
		if now := (adminservice.DashboardPercentiles{P50: 6, P90: 7.6, P95: 7.8, P99: 7.96, Answers: 50}); d.Latency.Now != now || slices.Max(d.Latency.P95) != now.P95 || len(d.Latency.P50) != len(d.Times) {
			t.Errorf("%s: latency %+v, want %+v", query, d.Latency, now)
		}
		if l := d.Latency.Endpoints; len(l) != 10 || l[9] != (adminservice.DashboardEndpointLatency{Name: "e9", DashboardPercentiles: adminservice.DashboardPercentiles{P50: 6, P90: 7.6, P95: 7.8, P99: 7.96, Answers: 5}}) {
			t.Errorf("%s: latency of endpoints %+v", query, l)
		}
		if d.Held.Now != 7 || last(d.Held.Values) != 7 || len(d.Held.Values) != len(d.Times) {
			t.Errorf("%s: held %+v", query, d.Held)
		}
		if d.Online.Now != 11 || len(d.Online.Counts) != 3 {
			t.Errorf("%s: online %+v", query, d.Online)
		}
		var gauges []string
		for _, g := range append(d.Online.Places, d.Online.Auths...) {
			gauges = append(gauges, fmt.Sprint(g.Name, g.Now, last(g.Values)))
			if len(g.Values) != len(d.Times) {
				t.Errorf("%s: %+v", query, g)
			}
		}
		if diff := cmp.Diff([]string{"internet7 7", "intranet4 4", "entra5 5", "pki6 6"}, gauges); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
		if d.ConnectionPoints != (adminservice.DashboardUp{Up: 2, Total: 2}) || len(d.Egress) != 1 || len(d.Storage) != 1 || len(d.Expiry) == 0 || d.Expiry == nil {
			t.Errorf("%s: %+v", query, d)
		}
	}
	// The last interval has what is now, and those before have what was.
	online(opencmg.OnlineClients{Place: opencmg.PlaceInternet, Auth: opencmg.AuthEntra, Clients: 1})
	r.wait(2 * time.Minute)
	one.says(says(2))
	online(opencmg.OnlineClients{Place: opencmg.PlaceInternet, Auth: opencmg.AuthEntra, Clients: 1})
	d := r.dashboard("minutes=15")
	internet := d.Online.Places[0]
	if internet.Now != 1 || last(internet.Values) != 1 || slices.Max(internet.Values) != 7 || internet.Values[0] != 0 {
		t.Errorf("internet: %+v", internet)
	}
	for _, query := range []string{"minutes=14", "minutes=129601", "minutes=-60", "minutes=x"} {
		err := r.c.Do(t.Context(), "GET", "Dashboard?"+query, nil, nil)
		if !errors.Is(err, opencmg.Invalid) || !strings.Contains(err.Error(), "from 15 to 129600") {
			t.Errorf("%s: %v", query, err)
		}
	}
	if err := r.c.Do(t.Context(), "GET", "Dashboard?gateway=other", nil, nil); !errors.Is(err, opencmg.NotFound) {
		t.Errorf("a gateway that is not there: %v", err)
	}
}

// TestForecast: when a threshold will be reached follows from what is sent now
// and from what drops out of the 14 days.
func TestForecast(t *testing.T) {
	r := newRig(t)
	g := r.selfHosted()
	do[adminservice.Gateway](r, "PATCH", "Gateways/"+g.ID, map[string]any{"traffic": adminservice.Threshold{Enabled: true, GB: 20, WarningPct: 50, CriticalPct: 80}})
	now := r.now()
	send := func(gb float64, from, to int) { // each hour of these days before
		t.Helper()
		var list []sitedb.Traffic
		for h := from * 24; h > to*24; h-- {
			list = append(list, sitedb.Traffic{GatewayID: g.ID, Instance: "0", Endpoint: "a", Start: now.Add(-time.Duration(h)*time.Hour + time.Minute), Counts: sitedb.Counts{ResponseBytes: int64(gb / 24 * 1e9)}})
		}
		if err := r.db.AddCounts(t.Context(), sitedb.Counted{Traffic: list}); err != nil {
			t.Fatal(err)
		}
	}
	near := func(what string, got time.Time, days float64) {
		t.Helper()
		if d := got.Sub(now).Hours() / 24; days < 0 && !got.IsZero() || days >= 0 && (d < days-0.2 || d > days+0.2) {
			t.Errorf("%s at %s, in %.1f days, want %v", what, got, d, days)
		}
	}
	e := r.dashboard("").Egress[0]
	if e.GB != 0 || e.ForecastGB != 0 || e.WaitHours != 24 || len(e.Forecast) > 0 || e.ThresholdGB != 20 || e.WarningGB != 10 || e.CriticalGB != 16 || !e.Enabled {
		t.Errorf("nothing was sent: %+v", e)
	}
	near("warning", e.WarningAt, -1)
	course := func(when string, want map[float64]float64) { // GB by days before now
		t.Helper()
		d := r.dashboard("minutes=20160")
		for days, gb := range want {
			at := now.Add(-time.Duration(days * 24 * float64(time.Hour)))
			i := slices.IndexFunc(d.Times, func(end time.Time) bool { return end.After(at) }) - 1
			if i < 0 {
				i = len(d.Times) - 1
			}
			if got := d.Egress[0].Course[i]; len(d.Egress[0].Course) != len(d.Times) || got < gb-0.25 || got > gb+0.25 {
				t.Errorf("%s: 14 days came to %.2f GB %g days ago, want %g", when, got, days, gb)
			}
		}
	}
	// A GB a day, for the last seven days only: it is 10 GB in three more days,
	// and never more than 14.
	send(1, 7, 0)
	e = r.dashboard("").Egress[0]
	if e.GB < 6.9 || e.GB > 7.1 || e.ForecastGB < 13.9 || e.ForecastGB > 14.1 {
		t.Errorf("%+v", e)
	}
	near("warning", e.WarningAt, 3)
	near("critical", e.CriticalAt, -1)
	course("a week", map[float64]float64{0: 7, 3: 4, 6.5: 0.5, 7.5: 0, 13: 0})
	if end := last(e.Forecast); e.RateHours != 168 || e.WaitHours != 0 || len(e.Forecast) < 80 || end.GB < 13.8 || end.GB > 14.2 || end.At.Sub(now) < 14*24*time.Hour {
		t.Errorf("the forecast ends at %+v", end)
	}
	// What was sent in the week before drops out as fast as the same comes in.
	send(1, 13, 7)
	e = r.dashboard("gateway=granitefalls").Egress[0]
	near("warning", e.WarningAt, 0)
	near("critical", e.CriticalAt, -1)
	course("two weeks", map[float64]float64{0: 13, 6: 7, 12: 1})
	send(1, 7, 0)
	e = r.dashboard("").Egress[0]
	near("critical", e.CriticalAt, 0)
	if n := len(e.Forecast); n != 1 || e.Forecast[0].GB < 20 {
		t.Errorf("the threshold is reached: %+v", e.Forecast)
	}
	// What is older than the 14 days of now was in those of then.
	send(1, 20, 13)
	course("three weeks", map[float64]float64{0: 21, 6: 15, 10: 10})
}

// TestForecastOfNewGateway: the rate is that of the time that the gateway has
// been there, and until that is a day there is none.
func TestForecastOfNewGateway(t *testing.T) {
	r := newRig(t)
	g := r.selfHosted()
	hours := func(n int) adminservice.DashboardEgress { // 100 MB in each
		t.Helper()
		for range n {
			r.wait(time.Hour)
			if err := r.db.AddCounts(t.Context(), sitedb.Counted{Traffic: []sitedb.Traffic{{GatewayID: g.ID, Start: r.now().Add(-time.Minute), Counts: sitedb.Counts{ResponseBytes: 1e8}}}}); err != nil {
				t.Fatal(err)
			}
		}
		return r.dashboard("").Egress[0]
	}
	if e := hours(3); e.WaitHours != 21 || e.RateHours != 3 || e.ForecastGB != 0 || len(e.Forecast) > 0 || !e.WarningAt.IsZero() {
		t.Errorf("after three hours: %+v", e)
	}
	if e := hours(27); e.WaitHours != 0 || e.RateHours != 30 || e.ForecastGB < 33 || e.ForecastGB > 34.2 || last(e.Forecast).GB < 33 {
		t.Errorf("after 30 hours: %+v", e)
	}
}

// TestChanges: a listener hears of what others change, of reports and of
// alerts, and is not told twice before it looks.
func TestChanges(t *testing.T) {
	r := newRig(t)
	g := r.selfHosted()
	p := r.join("cp1", g.ID)
	changes := site.Changes(r.s, t.Context())
	quiet := func() {
		for {
			select {
			case <-changes:
			default:
				return
			}
		}
	}
	hears := func(what string, happens func()) {
		t.Helper()
		// What happened before is told by another process's watch now and then.
		quiet()
		happens()
		select {
		case _, open := <-changes:
			if !open {
				t.Fatal("closed")
			}
		case <-t.Context().Done():
			t.Fatalf("nobody was told of %s", what)
		}
	}
	hears("a report", func() { p.says(opencmg.InstanceStatus{Gateway: "granitefalls", Started: r.now(), Time: r.now()}) })
	hears("a change", func() {
		do[adminservice.Gateway](r, "PATCH", "Gateways/"+g.ID, map[string]any{"traffic": adminservice.Threshold{Enabled: true, GB: 1, WarningPct: 50, CriticalPct: 90}})
	})
	if err := r.db.AddCounts(t.Context(), sitedb.Counted{Traffic: []sitedb.Traffic{{GatewayID: g.ID, Start: r.now(), Counts: sitedb.Counts{ResponseBytes: 5e9}}}}); err != nil {
		t.Fatal(err)
	}
	hears("an alert", func() { r.look("thresholds") })
	if a := r.dashboard("").Alerts; a != (adminservice.DashboardAlerts{Critical: 1}) {
		t.Errorf("alerts: %+v", a)
	}
	for range 10 {
		p.says(opencmg.InstanceStatus{Gateway: "granitefalls", Started: r.now(), Time: r.now()})
	}
	if n := len(changes); n > 1 {
		t.Errorf("%d values wait", n)
	}
}

// TestEndpointLatencies: every answer of a span counts once for its endpoint,
// however wide the rows are that it is read from, and none from long before.
func TestEndpointLatencies(t *testing.T) {
	r := newRig(t)
	g := r.selfHosted()
	spans := []int{15, 60, 360, 1440, 10080, 20160, 43200, 129600}
	var list []sitedb.Latencies
	add := func(endpoint string, minutes, part float64) {
		l := sitedb.Latencies{GatewayID: g.ID, Endpoint: endpoint, Start: r.now().Add(-time.Duration(minutes * part * float64(time.Minute)))}
		l.Counts[3] = 1 // 4 to 8 ms
		list = append(list, l)
	}
	for _, minutes := range spans {
		for _, part := range []float64{0, 0.3, 0.45, 0.9} {
			add(fmt.Sprint("in", minutes), float64(minutes), part)
		}
		add(fmt.Sprint("before", minutes), float64(minutes), 1.3)
	}
	if err := r.db.AddCounts(t.Context(), sitedb.Counted{Latencies: list}); err != nil {
		t.Fatal(err)
	}
	for _, minutes := range spans {
		answers := map[string]int64{}
		for _, e := range r.dashboard(fmt.Sprint("minutes=", minutes)).Latency.Endpoints {
			answers[e.Name] = e.Answers
		}
		if n := answers[fmt.Sprint("in", minutes)]; n != 4 {
			t.Errorf("%d minutes: %d answers of 4", minutes, n)
		}
		if n := answers[fmt.Sprint("before", minutes)]; n != 0 {
			t.Errorf("%d minutes: %d answers from before", minutes, n)
		}
	}
}
