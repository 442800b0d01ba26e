package sitedb_test

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/sitedb"
)

func TestAlerts(t *testing.T) { onEachEngine(t, testAlerts) }

func testAlerts(t *testing.T, e engine) {
	db, clock := e.open(t)
	ctx := t.Context()
	raise := func(a sitedb.Alert, want sitedb.AlertChange) sitedb.Alert {
		t.Helper()
		clock.advance(time.Minute)
		stored, change, err := db.RaiseAlert(ctx, a)
		if err != nil || change != want {
			t.Fatalf("raised: %q, %v; want %q", change, err, want)
		}
		return stored
	}
	warning := sitedb.Alert{Kind: "traffic", SubjectKind: "gateway", SubjectID: "1", Severity: sitedb.SeverityWarning, Text: "50 %", NextStep: "Look."}
	first := raise(warning, sitedb.AlertNew)
	want := warning
	want.ID, want.Opened, want.Changed = first.ID, start.Add(time.Minute), start.Add(time.Minute)
	if d := cmp.Diff(want, first); d != "" {
		t.Error(d)
	}
	if again := raise(warning, sitedb.AlertUnchanged); !cmp.Equal(again, first) {
		t.Error(cmp.Diff(first, again))
	}
	if err := db.AcknowledgeAlert(ctx, first.ID, "admin"); err != nil {
		t.Fatal(err)
	}
	wantKind(t, db.AcknowledgeAlert(ctx, 9999, "admin"), opencmg.NotFound)
	text := warning
	text.Text = "60 %"
	if a := raise(text, sitedb.AlertChanged); a.AcknowledgedBy != "admin" || a.ID != first.ID || !a.Opened.Equal(first.Opened) {
		t.Errorf("%+v", a)
	}
	critical := text
	critical.Severity = sitedb.SeverityCritical
	a := raise(critical, sitedb.AlertChanged)
	if a.AcknowledgedBy != "" {
		t.Errorf("a worse alert is still acknowledged: %+v", a)
	}
	if got, err := db.Alert(ctx, first.ID); err != nil || !cmp.Equal(got, a) {
		t.Errorf("%s, %v", cmp.Diff(a, got), err)
	}
	_, err := db.Alert(ctx, 9999)
	wantKind(t, err, opencmg.NotFound)
	other := warning
	other.SubjectID = "2"
	raise(other, sitedb.AlertNew)

	if closed, err := db.CloseAlert(ctx, "traffic", "gateway", "1"); err != nil || !closed {
		t.Errorf("closed %v, %v", closed, err)
	}
	if closed, err := db.CloseAlert(ctx, "traffic", "gateway", "1"); err != nil || closed {
		t.Errorf("closed again %v, %v", closed, err)
	}
	if again := raise(warning, sitedb.AlertNew); again.ID <= first.ID {
		t.Errorf("%+v", again)
	}
	for name, c := range map[string]struct {
		filter        sitedb.AlertFilter
		offset, limit int
		want          []string
		total         int
	}{
		"all":      {sitedb.AlertFilter{}, 0, 10, []string{"1", "2", "1"}, 3},
		"page":     {sitedb.AlertFilter{}, 1, 1, []string{"2"}, 3},
		"open":     {sitedb.AlertFilter{Open: true}, 0, 10, []string{"1", "2"}, 2},
		"subject":  {sitedb.AlertFilter{Open: true, Kind: "traffic", SubjectKind: "gateway", SubjectID: "2"}, 0, 10, []string{"2"}, 1},
		"critical": {sitedb.AlertFilter{Severities: []sitedb.Severity{sitedb.SeverityCritical}}, 0, 10, []string{"1"}, 1},
	} {
		list, total, err := db.Alerts(ctx, c.filter, c.offset, c.limit)
		var subjects []string
		for _, a := range list {
			subjects = append(subjects, a.SubjectID)
		}
		if d := cmp.Diff(c.want, subjects); d != "" || total != c.total || err != nil {
			t.Errorf("%s: %s, %d in all, %v", name, d, total, err)
		}
	}
	for _, bad := range []sitedb.Alert{{Kind: "x", Severity: sitedb.SeverityInfo}, {Severity: sitedb.SeverityWarning}} {
		_, _, err := db.RaiseAlert(ctx, bad)
		wantKind(t, err, opencmg.Invalid)
	}
	if n, err := db.TrimAlerts(ctx, clock.Now()); err != nil || n != 1 {
		t.Errorf("trimmed %d, %v", n, err)
	}
}

func TestTraffic(t *testing.T) { onEachEngine(t, testTraffic) }

func testTraffic(t *testing.T, e engine) {
	db, clock := e.open(t)
	ctx := t.Context()
	now := time.Date(2026, 6, 15, 12, 34, 0, 0, time.UTC)
	clock.advance(now.Sub(start))
	one := func(gateway, endpoint string, at time.Time, n int64) sitedb.Traffic {
		return sitedb.Traffic{GatewayID: gateway, Instance: "0", Endpoint: endpoint, ConnectionPoint: "cp", Start: at, Counts: sitedb.Counts{Requests: n, Failed: 1, RequestBytes: 10 * n, ResponseBytes: 100 * n}}
	}
	// Five minutes apart for 120 days would be many; every four hours will do.
	var all []sitedb.Traffic
	for at := now.Add(-120 * 24 * time.Hour); !at.After(now); at = at.Add(4 * time.Hour) {
		all = append(all, one("g1", "mp", at, 2), one("g1", "sup", at, 3), one("g2", "mp", at, 5))
	}
	if err := db.AddCounts(ctx, sitedb.Counted{Traffic: all}); err != nil {
		t.Fatal(err)
	}
	sum := func(gateway string, from, to time.Time) sitedb.Counts {
		t.Helper()
		c, err := db.SumTraffic(ctx, gateway, from, to)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	window := func() sitedb.Counts { return sum("g1", now.Add(-14*24*time.Hour), now.Add(time.Minute)) }
	// 14 days have 84 times, and the one at the beginning counts too.
	if d := cmp.Diff(sitedb.Counts{Requests: 85 * 5, Failed: 85 * 2, RequestBytes: 85 * 50, ResponseBytes: 85 * 500}, window()); d != "" {
		t.Error(d)
	}
	before := sum("", time.Time{}, time.Time{})
	if before.Requests != int64(len(all)/3*10) {
		t.Errorf("all: %+v", before)
	}
	fourteen := window()
	for range 2 { // the second time changes nothing
		if err := db.TrimCounts(ctx, now); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(fourteen, window()); d != "" {
			t.Errorf("the window of 14 days changed: %s", d)
		}
		// What began before the day 105 days ago is gone: 15 days and a half.
		if got := sum("g2", time.Time{}, time.Time{}); got.Requests != int64(5*(105*6+1+3)) {
			t.Errorf("after 105 days: %+v", got)
		}
	}
	// Late traffic joins the rows that are kept of its time.
	late := now.Add(-5 * 24 * time.Hour)
	if err := db.AddCounts(ctx, sitedb.Counted{Traffic: []sitedb.Traffic{one("g1", "mp", late, 1000), one("g1", "mp", late.Add(time.Second), 1000)}}); err != nil {
		t.Fatal(err)
	}
	if err := db.TrimCounts(ctx, now); err != nil {
		t.Fatal(err)
	}
	if got := window(); got.Requests != fourteen.Requests+2000 {
		t.Errorf("late traffic: %+v", got)
	}
	points, err := db.TrafficSeries(ctx, sitedb.CountQuery{Gateway: "g1", From: late.Truncate(time.Hour), To: late.Add(time.Hour), Step: time.Hour, By: sitedb.ByEndpoint})
	wantPoints := []sitedb.TrafficPoint{
		{late.Truncate(time.Hour), "mp", sitedb.Counts{Requests: 2002, Failed: 3, RequestBytes: 20020, ResponseBytes: 200200}},
		{late.Truncate(time.Hour), "sup", sitedb.Counts{Requests: 3, Failed: 1, RequestBytes: 30, ResponseBytes: 300}},
	}
	if d := cmp.Diff(wantPoints, points); d != "" || err != nil {
		t.Error(d, err)
	}
	day := now.Truncate(24 * time.Hour)
	points, err = db.TrafficSeries(ctx, sitedb.CountQuery{From: day.Add(-24 * time.Hour), To: day.Add(24 * time.Hour), Step: 24 * time.Hour, By: sitedb.ByGateway})
	if err != nil || len(points) != 4 || points[0].Group != "g1" || points[0].Requests != 30 || points[3].Requests != 20 || !points[3].Start.Equal(day) {
		t.Errorf("by day: %+v, %v", points, err)
	}
	points, err = db.TrafficSeries(ctx, sitedb.CountQuery{From: day, To: now.Add(time.Minute)})
	if err != nil || len(points) != 1 || points[0].Requests != 40 || !points[0].Start.Equal(day) {
		t.Errorf("one point: %+v, %v", points, err)
	}
	for _, bad := range []sitedb.CountQuery{{By: "start; --"}, {Step: 30 * time.Second}, {By: sitedb.ByCause}} {
		_, err := db.TrafficSeries(ctx, bad)
		wantKind(t, err, opencmg.Invalid)
	}
	for _, bad := range []sitedb.Traffic{one("", "mp", now, 1), one("g", "mp", time.Time{}, 1), one("g", "mp", now, -1)} {
		wantKind(t, db.AddCounts(ctx, sitedb.Counted{Traffic: []sitedb.Traffic{bad}}), opencmg.Invalid)
	}
}

func TestSamples(t *testing.T) { onEachEngine(t, testSamples) }

func testSamples(t *testing.T, e engine) {
	db, _ := e.open(t)
	ctx := t.Context()
	at := func(d time.Duration) time.Time { return start.Add(d) }
	samples := []sitedb.Sample{{"cpu", "a", at(0), 0.1}, {"cpu", "a", at(time.Minute), 1}, {"cpu", "b", at(time.Second), -1e-300}, {"held", "a", at(0), 7}}
	if err := db.AddSamples(ctx, samples); err != nil {
		t.Fatal(err)
	}
	samples[0].Value = 0.3
	if err := db.AddSamples(ctx, samples[:1]); err != nil {
		t.Fatal(err)
	}
	if got, err := db.Samples(ctx, "cpu", "a", at(0), at(time.Hour)); err != nil || !cmp.Equal(got, samples[:2]) {
		t.Errorf("%s, %v", cmp.Diff(samples[:2], got), err)
	}
	if got, err := db.LatestSamples(ctx, "cpu", at(0)); err != nil || !cmp.Equal(got, samples[1:3]) {
		t.Errorf("%s, %v", cmp.Diff(samples[1:3], got), err)
	}
	if got, err := db.LatestSamples(ctx, "cpu", at(2*time.Second)); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	for _, v := range []float64{math.NaN(), math.Inf(1)} {
		wantKind(t, db.AddSamples(ctx, []sitedb.Sample{{Name: "x", Value: v}}), opencmg.Invalid)
	}
	points, err := db.SampleSeries(ctx, "cpu", at(0), at(time.Hour), 2*time.Minute)
	if d := cmp.Diff([]sitedb.SamplePoint{{at(0), "a", 0.65}, {at(0), "b", -1e-300}}, points); d != "" || err != nil {
		t.Error(d, err)
	}
	_, err = db.SampleSeries(ctx, "cpu", at(0), at(time.Hour), 0)
	wantKind(t, err, opencmg.Invalid)
}

// TestSamplesThinOut: the older, the fewer, and always the last of its time.
func TestSamplesThinOut(t *testing.T) { onEachEngine(t, testSamplesThinOut) }

func testSamplesThinOut(t *testing.T, e engine) {
	db, clock := e.open(t)
	ctx := t.Context()
	const day = 24 * time.Hour
	now := start.Add(120 * day)
	clock.advance(120 * day)
	var all []sitedb.Sample
	for at := now.Add(-120 * day); at.Before(now); {
		all = append(all, sitedb.Sample{Name: "held", Subject: "a", At: at, Value: now.Sub(at).Seconds()})
		switch age := now.Sub(at); { // so many days of minutes would be many
		case age > 4*day:
			at = at.Add(5*time.Hour + time.Second)
		case age > 8*time.Hour:
			at = at.Add(3 * time.Minute)
		default:
			at = at.Add(time.Minute)
		}
	}
	if err := db.AddSamples(ctx, all); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"all", "trimmed", "trimmed again"} {
		for _, tt := range []struct{ age, width time.Duration }{{5 * time.Hour, 0}, {day, 5 * time.Minute}, {14 * day, time.Hour}, {89 * day, day}} {
			from := now.Add(-tt.age)
			var want []sitedb.Sample
			for _, s := range all {
				if tt.width > 0 {
					s.At = s.At.Truncate(tt.width)
				}
				switch n := len(want); {
				case s.At.Add(tt.width).Before(from) || tt.width > 0 && s.At.Add(tt.width).Equal(from):
				case n > 0 && want[n-1].At.Equal(s.At):
					want[n-1] = s
				default:
					want = append(want, s)
				}
			}
			got, err := db.Samples(ctx, "held", "a", from, now)
			if d := cmp.Diff(want, got); d != "" || err != nil || len(got) < 80 {
				t.Errorf("%s: %s: %d samples: %s %v", when, tt.age, len(got), d, err)
			}
		}
		if err := db.TrimSamples(ctx, now); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := db.Samples(ctx, "held", "a", time.Time{}, now); err != nil || len(got) != 106 {
		t.Errorf("%d days are left, %v", len(got), err)
	}
}
