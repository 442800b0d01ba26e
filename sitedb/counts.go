package sitedb

import (
	"context"
	"time"

	"github.com/opencmg/opencmg"
)

// Counts are what went through gateways.
type Counts struct {
	Requests      int64
	Failed        int64 // those of them that failed
	RequestBytes  int64
	ResponseBytes int64
}

// Traffic is what one instance of a gateway counted for one endpoint.
type Traffic struct {
	GatewayID       string
	Instance        string
	Endpoint        string
	ConnectionPoint string
	Start           time.Time // rounded down to CountBucket when stored
	Counts
}

// Refusals are what one instance of a gateway refused for one cause.
type Refusals struct {
	GatewayID string
	Instance  string
	Cause     string
	Start     time.Time
	Requests  int64
}

// Latencies are answers of one endpoint by how long they took.
type Latencies struct {
	GatewayID string
	Endpoint  string
	Start     time.Time
	Counts    LatencyCounts
}

// LatencyCounts are numbers of answers, see [opencmg.LatencyBucket].
type LatencyCounts [opencmg.LatencyBuckets]int64

// Counted is what was counted since the last time.
type Counted struct {
	Traffic   []Traffic
	Refusals  []Refusals
	Latencies []Latencies
}

// Empty reports whether there is nothing in it.
func (c Counted) Empty() bool { return len(c.Traffic)+len(c.Refusals)+len(c.Latencies) == 0 }

// AddCounts adds the counts to those that are stored. The caller gives each
// count once.
func (db *DB) AddCounts(ctx context.Context, c Counted) error {
	return db.transact(ctx, "add counts", func(tx *Tx) error {
		var entries []entry
		for _, t := range c.Traffic {
			entries = append(entries, entry{t.GatewayID, t.Start, [3]string{t.Endpoint, t.Instance, t.ConnectionPoint}, []int64{t.Requests, t.Failed, t.RequestBytes, t.ResponseBytes}})
		}
		if err := trafficLedger.add(tx, entries); err != nil {
			return err
		}
		entries = entries[:0]
		for _, r := range c.Refusals {
			entries = append(entries, entry{r.GatewayID, r.Start, [3]string{r.Cause, r.Instance}, []int64{r.Requests}})
		}
		if err := refusalLedger.add(tx, entries); err != nil {
			return err
		}
		entries = entries[:0]
		for i := range c.Latencies {
			l := &c.Latencies[i]
			entries = append(entries, entry{l.GatewayID, l.Start, [3]string{l.Endpoint}, l.Counts[:]})
		}
		return latencyLedger.add(tx, entries)
	})
}

// SumTraffic returns what went through a gateway, or through all when it is
// empty, from one time to before another. A row that is partly in between
// counts whole: up to a minute more when from is within six hours, five minutes
// within two days, an hour within 15 days, else a day.
func (db *DB) SumTraffic(ctx context.Context, gateway string, from, to time.Time) (sum Counts, err error) {
	points, err := db.TrafficSeries(ctx, CountQuery{Gateway: gateway, From: from, To: to})
	if err == nil && len(points) > 0 {
		sum = points[0].Counts
	}
	return sum, err
}

// A TrafficPoint is what was counted in [Start, Start + Step).
type TrafficPoint struct {
	Start time.Time
	Group string // value of what the series is split by
	Counts
}

// TrafficSeries returns the points that have traffic, by time and group.
func (db *DB) TrafficSeries(ctx context.Context, q CountQuery) (points []TrafficPoint, err error) {
	err = trafficLedger.series(ctx, db, q, func(start time.Time, group string, n []int64) {
		points = append(points, TrafficPoint{start, group, Counts{n[0], n[1], n[2], n[3]}})
	})
	return points, wrap(err, "traffic series")
}

// A RefusalPoint is how many requests were refused in [Start, Start + Step).
type RefusalPoint struct {
	Start    time.Time
	Group    string
	Requests int64
}

// RefusalSeries returns the points that have refusals, by time and group.
func (db *DB) RefusalSeries(ctx context.Context, q CountQuery) (points []RefusalPoint, err error) {
	err = refusalLedger.series(ctx, db, q, func(start time.Time, group string, n []int64) {
		points = append(points, RefusalPoint{start, group, n[0]})
	})
	return points, wrap(err, "refusal series")
}

// A LatencyPoint is how long answers took that were given in
// [Start, Start + Step).
type LatencyPoint struct {
	Start  time.Time
	Group  string
	Counts LatencyCounts
}

// LatencySeries returns the points that have answers, by time and group.
func (db *DB) LatencySeries(ctx context.Context, q CountQuery) (points []LatencyPoint, err error) {
	err = latencyLedger.series(ctx, db, q, func(start time.Time, group string, n []int64) {
		points = append(points, LatencyPoint{start, group, LatencyCounts(n)})
	})
	return points, wrap(err, "latency series")
}
