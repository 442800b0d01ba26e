package sitedb_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/sitedb"
)

// TestCounts: whatever the step, whatever a series is split by, and whatever
// was forgotten meanwhile, each request is there once.
func TestCounts(t *testing.T) { onEachEngine(t, testCounts) }

func testCounts(t *testing.T, e engine) {
	db, clock := e.open(t)
	ctx := t.Context()
	now := time.Date(2026, 6, 15, 12, 34, 56, 0, time.UTC)
	clock.advance(now.Sub(start))
	random := rand.New(rand.NewPCG(1, 2))
	var all sitedb.Counted
	pick := func(names ...string) string { return names[random.IntN(len(names))] }
	for age := time.Duration(0); age < 80*24*time.Hour; age += time.Duration(random.Int64N(int64(max(10*time.Second, age/50)))) {
		at := now.Add(-age)
		gateway, instance := pick("g1", "g2"), pick("0", "1")
		n := random.Int64N(100)
		all.Traffic = append(all.Traffic, sitedb.Traffic{GatewayID: gateway, Instance: instance, Endpoint: pick("mp", "sup", "bgb"), ConnectionPoint: pick("cp1", "cp2"), Start: at, Counts: sitedb.Counts{Requests: n, ResponseBytes: 2 * n}})
		all.Refusals = append(all.Refusals, sitedb.Refusals{GatewayID: gateway, Instance: instance, Cause: pick("token-expired", "method"), Start: at, Requests: n})
		l := sitedb.Latencies{GatewayID: gateway, Endpoint: pick("mp", "sup"), Start: at}
		l.Counts[random.IntN(opencmg.LatencyBuckets)] = n
		all.Latencies = append(all.Latencies, l)
	}
	if len(all.Traffic) < 1000 {
		t.Fatalf("%d counts", len(all.Traffic))
	}
	for _, half := range []sitedb.Counted{
		{Traffic: all.Traffic[:500], Refusals: all.Refusals[:500], Latencies: all.Latencies[:500]},
		{Traffic: all.Traffic[500:], Refusals: all.Refusals[500:], Latencies: all.Latencies[500:]},
	} {
		if err := db.AddCounts(ctx, half); err != nil {
			t.Fatal(err)
		}
	}
	// want adds up what was counted from a time on, in points of a step.
	type key struct {
		start time.Time
		group string
	}
	group := func(by sitedb.CountGroup, values map[sitedb.CountGroup]string) string { return values[by] }
	check := func(when string, q sitedb.CountQuery) {
		t.Helper()
		name := fmt.Sprintf("%s: %s of %q from %s by %q", when, q.Step, q.Gateway, now.Sub(q.From), q.By)
		traffic, refused, latency := map[key]sitedb.Counts{}, map[key]int64{}, map[key]sitedb.LatencyCounts{}
		counts := func(gateway string, at time.Time) bool {
			return (q.Gateway == "" || q.Gateway == gateway) && !at.Before(q.From)
		}
		for i, x := range all.Traffic {
			if counts(x.GatewayID, x.Start) {
				k := key{x.Start.Truncate(q.Step), group(q.By, map[sitedb.CountGroup]string{sitedb.ByGateway: x.GatewayID, sitedb.ByInstance: x.Instance, sitedb.ByEndpoint: x.Endpoint, sitedb.ByConnectionPoint: x.ConnectionPoint})}
				c := traffic[k]
				c.Requests += x.Requests
				c.ResponseBytes += x.ResponseBytes
				traffic[k] = c
			}
			if r := all.Refusals[i]; counts(r.GatewayID, r.Start) {
				refused[key{r.Start.Truncate(q.Step), group(q.By, map[sitedb.CountGroup]string{sitedb.ByGateway: r.GatewayID, sitedb.ByInstance: r.Instance, sitedb.ByCause: r.Cause})}] += r.Requests
			}
			if l := all.Latencies[i]; counts(l.GatewayID, l.Start) {
				k := key{l.Start.Truncate(q.Step), group(q.By, map[sitedb.CountGroup]string{sitedb.ByGateway: l.GatewayID, sitedb.ByEndpoint: l.Endpoint})}
				c := latency[k]
				for b, n := range l.Counts {
					c[b] += n
				}
				latency[k] = c
			}
		}
		gotTraffic, gotRefused, gotLatency := map[key]sitedb.Counts{}, map[key]int64{}, map[key]sitedb.LatencyCounts{}
		if q.By != sitedb.ByCause {
			points, err := db.TrafficSeries(ctx, q)
			if err != nil {
				t.Fatal(name, err)
			}
			for _, p := range points {
				gotTraffic[key{p.Start, p.Group}] = p.Counts
			}
			if d := cmp.Diff(traffic, gotTraffic); d != "" {
				t.Errorf("%s: traffic %s", name, d)
			}
		}
		if q.By != sitedb.ByEndpoint && q.By != sitedb.ByConnectionPoint {
			points, err := db.RefusalSeries(ctx, q)
			if err != nil {
				t.Fatal(name, err)
			}
			for _, p := range points {
				gotRefused[key{p.Start, p.Group}] = p.Requests
			}
			if d := cmp.Diff(refused, gotRefused); d != "" {
				t.Errorf("%s: refusals %s", name, d)
			}
		}
		if q.By == sitedb.ByNothing || q.By == sitedb.ByGateway || q.By == sitedb.ByEndpoint {
			points, err := db.LatencySeries(ctx, q)
			if err != nil {
				t.Fatal(name, err)
			}
			for _, p := range points {
				gotLatency[key{p.Start, p.Group}] = p.Counts
			}
			if d := cmp.Diff(latency, gotLatency); d != "" {
				t.Errorf("%s: latencies %s", name, d)
			}
		}
	}
	for _, when := range []string{"all", "trimmed"} {
		for _, gateway := range []string{"", "g1"} {
			for _, by := range []sitedb.CountGroup{sitedb.ByNothing, sitedb.ByGateway, sitedb.ByEndpoint, sitedb.ByCause} {
				for _, r := range []struct{ step, age time.Duration }{
					{time.Minute, 10 * time.Minute}, {2 * time.Minute, 6 * time.Hour}, {5 * time.Minute, 6 * time.Hour},
					{15 * time.Minute, 48 * time.Hour}, {10 * time.Minute, 24 * time.Hour}, {time.Hour, 24 * time.Hour},
					{2 * time.Hour, 15 * 24 * time.Hour}, {24 * time.Hour, 80 * 24 * time.Hour},
				} {
					check(when, sitedb.CountQuery{Gateway: gateway, From: now.Add(-r.age).Truncate(r.step).Add(r.step), Step: r.step, By: by})
				}
			}
			for _, by := range []sitedb.CountGroup{sitedb.ByInstance, sitedb.ByConnectionPoint} {
				check(when, sitedb.CountQuery{Gateway: gateway, From: now.Add(-10 * 24 * time.Hour).Truncate(time.Hour), Step: time.Hour, By: by})
			}
		}
		if err := db.TrimCounts(ctx, now); err != nil {
			t.Fatal(err)
		}
	}
	// What is not kept in minutes any more comes in wider rows.
	points, err := db.TrafficSeries(ctx, sitedb.CountQuery{From: now.Add(-20 * 24 * time.Hour), Step: time.Minute})
	if err != nil || len(points) == 0 {
		t.Fatal(points, err)
	}
	for _, p := range points {
		if !p.Start.Equal(p.Start.Truncate(24 * time.Hour)) {
			t.Errorf("a point at %s", p.Start)
		}
	}
	for _, bad := range []sitedb.Counted{
		{Refusals: []sitedb.Refusals{{Cause: "x", Start: now}}}, {Latencies: []sitedb.Latencies{{GatewayID: "g", Counts: sitedb.LatencyCounts{1}}}},
		{Latencies: []sitedb.Latencies{{GatewayID: "g", Start: now, Counts: sitedb.LatencyCounts{1, -1}}}},
	} {
		wantKind(t, db.AddCounts(ctx, bad), opencmg.Invalid)
	}
}

// TestTrafficOfOldSchema: traffic that an older release kept, in rows that held
// each request once, is found in all widths.
func TestTrafficOfOldSchema(t *testing.T) { onEachEngine(t, testTrafficOfOldSchema) }

func testTrafficOfOldSchema(t *testing.T, e engine) {
	day := start.Truncate(24 * time.Hour)
	target := e.config(t)
	if err := sitedb.MakeAt(t.Context(), target, 4); err != nil {
		t.Fatal(err)
	}
	old := raw(t, target)
	for _, r := range []struct {
		start              time.Time
		width              time.Duration
		instance, endpoint string
		n                  int
	}{
		{start.Add(-5 * time.Minute), 5 * time.Minute, "0", "mp", 1}, {start, 5 * time.Minute, "0", "mp", 2}, {start, 5 * time.Minute, "1", "mp", 4}, {start, 5 * time.Minute, "1", "sup", 8},
		{start.Truncate(time.Hour), time.Hour, "0", "mp", 16}, {day, time.Hour, "0", "sup", 32},
		{day, 24 * time.Hour, "0", "mp", 64}, {day.Add(-50 * 24 * time.Hour), 24 * time.Hour, "0", "mp", 128},
	} {
		query := fmt.Sprintf("INSERT INTO traffic (gateway_id, start, width, instance, endpoint, connection_point, requests, failed, request_bytes, response_bytes) VALUES ('g', %d, %d, '%s', '%s', 'cp', %d, 0, 0, %d)",
			r.start.UnixMicro(), r.width.Microseconds(), r.instance, r.endpoint, r.n, 10*r.n)
		if _, err := old.Exec(query); err != nil {
			t.Fatal(err)
		}
	}
	target.Now = func() time.Time { return start.Add(time.Minute) }
	db := openConfig(t, target)
	for _, tt := range []struct {
		from time.Time
		step time.Duration
		by   sitedb.CountGroup
		want map[string]int64
	}{
		{start, 5 * time.Minute, sitedb.ByNothing, map[string]int64{"": 14}},
		{start.Add(-10 * time.Minute), 5 * time.Minute, sitedb.ByEndpoint, map[string]int64{"mp": 7, "sup": 8}},
		{day, time.Hour, sitedb.ByInstance, map[string]int64{"0": 51, "1": 12}},
		{day, 24 * time.Hour, sitedb.ByEndpoint, map[string]int64{"mp": 87, "sup": 40}},
		{time.Time{}, 24 * time.Hour, sitedb.ByConnectionPoint, map[string]int64{"cp": 255}},
	} {
		points, err := db.TrafficSeries(t.Context(), sitedb.CountQuery{Gateway: "g", From: tt.from, Step: tt.step, By: tt.by})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int64{}
		for _, p := range points {
			got[p.Group] += p.Requests
			if p.ResponseBytes != 10*p.Requests {
				t.Errorf("%+v", p)
			}
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("from %s in steps of %s by %q: %s", tt.from, tt.step, tt.by, d)
		}
	}
}
