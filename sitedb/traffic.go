package sitedb

import (
	"context"
	"time"

	"github.com/opencmg/opencmg"
)

// TrafficBucket is the span of time that the narrowest traffic counts are kept
// for; wider ones begin at whole hours and whole days of UTC.
const TrafficBucket = 5 * time.Minute

// How long traffic is kept in narrow buckets, before it is added up into wider
// ones, and at last forgotten. The window of the traffic alert is 14 days.
const (
	keepNarrow = 2 * 24 * time.Hour
	keepHours  = 15 * 24 * time.Hour
	keepDays   = 90 * 24 * time.Hour
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
	Start           time.Time // rounded down to TrafficBucket when stored
	Counts
}

const insertTraffic = "INSERT INTO traffic (gateway_id, start, width, instance, endpoint, connection_point, requests, failed, request_bytes, response_bytes) "

const addCounts = ` ON CONFLICT (gateway_id, start, width, instance, endpoint, connection_point) DO UPDATE SET
	requests = traffic.requests + excluded.requests, failed = traffic.failed + excluded.failed,
	request_bytes = traffic.request_bytes + excluded.request_bytes, response_bytes = traffic.response_bytes + excluded.response_bytes`

// AddTraffic adds the counts to those that are stored. The caller gives each
// count once.
func (db *DB) AddTraffic(ctx context.Context, counted []Traffic) error {
	return db.transact(ctx, "add traffic", func(tx *Tx) error {
		for _, t := range counted {
			if t.GatewayID == "" || t.Start.IsZero() || min(t.Requests, t.Failed, t.RequestBytes, t.ResponseBytes) < 0 {
				return opencmg.Errorf(opencmg.Invalid, "traffic needs a gateway, a time, and counts that are not negative")
			}
			if err := tx.exec(insertTraffic+"VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"+addCounts,
				t.GatewayID, micros(t.Start.UTC().Truncate(TrafficBucket)), TrafficBucket.Microseconds(), t.Instance, t.Endpoint, t.ConnectionPoint,
				t.Requests, t.Failed, t.RequestBytes, t.ResponseBytes); err != nil {
				return err
			}
		}
		return nil
	})
}

// RollUpTraffic adds up buckets older than two days into hours, hours older
// than 15 days into days, and forgets days older than 90. Call it every now
// and then; calling it again changes nothing.
func (db *DB) RollUpTraffic(ctx context.Context, now time.Time) error {
	const hour, day = time.Hour, 24 * time.Hour
	return db.transact(ctx, "roll up traffic", func(tx *Tx) error {
		for _, r := range []struct{ keep, from, to time.Duration }{{keepNarrow, TrafficBucket, hour}, {keepHours, hour, day}} {
			// Whole buckets of the wider kind only.
			before := micros(now.UTC().Add(-r.keep).Truncate(r.to))
			if err := tx.exec(insertTraffic+`SELECT gateway_id, start - start % CAST(? AS BIGINT), CAST(? AS BIGINT), instance, endpoint, connection_point, SUM(requests), SUM(failed), SUM(request_bytes), SUM(response_bytes)
				FROM traffic WHERE width = ? AND start < ? GROUP BY 1, 2, instance, endpoint, connection_point`+addCounts,
				r.to.Microseconds(), r.to.Microseconds(), r.from.Microseconds(), before); err != nil {
				return err
			}
			if err := tx.exec("DELETE FROM traffic WHERE width = ? AND start < ?", r.from.Microseconds(), before); err != nil {
				return err
			}
		}
		return tx.exec("DELETE FROM traffic WHERE start < ?", micros(now.UTC().Add(-keepDays).Truncate(day)))
	})
}

// sums are the columns of Counts over several rows.
const sums = "CAST(COALESCE(SUM(requests), 0) AS BIGINT), CAST(COALESCE(SUM(failed), 0) AS BIGINT), CAST(COALESCE(SUM(request_bytes), 0) AS BIGINT), CAST(COALESCE(SUM(response_bytes), 0) AS BIGINT)"

// SumTraffic returns what went through a gateway, or through all when it is
// empty, from one time to before another. A bucket that is partly in between
// counts whole: up to five minutes more for the last two days, up to an hour
// for the last 15.
func (db *DB) SumTraffic(ctx context.Context, gateway string, from, to time.Time) (c Counts, err error) {
	w := trafficBetween(gateway, from, to)
	err = db.row(ctx, "SELECT "+sums+" FROM traffic"+w.sql(), w.args...).Scan(&c.Requests, &c.Failed, &c.RequestBytes, &c.ResponseBytes)
	return c, wrap(err, "sum traffic")
}

func trafficBetween(gateway string, from, to time.Time) *where {
	var w where
	w.text("gateway_id", gateway)
	if !from.IsZero() {
		w.add("start + width > ?", micros(from))
		w.add("start > ?", micros(from.Add(-24*time.Hour))) // for the index
	}
	if !to.IsZero() {
		w.add("start < ?", micros(to))
	}
	return &w
}

// A TrafficGroup is what a series of traffic is split by.
type TrafficGroup string

// What traffic can be split by.
const (
	ByNothing         TrafficGroup = ""
	ByGateway         TrafficGroup = "gateway_id"
	ByInstance        TrafficGroup = "instance"
	ByEndpoint        TrafficGroup = "endpoint"
	ByConnectionPoint TrafficGroup = "connection_point"
)

// A TrafficQuery says which series to make.
type TrafficQuery struct {
	Gateway  string // empty: all
	From, To time.Time
	// Step is the width of a point, at least TrafficBucket. Where traffic is
	// kept in wider buckets, a point has what the bucket that begins in it has.
	// Zero makes one point, which begins at From.
	Step time.Duration
	By   TrafficGroup
}

// A TrafficPoint is what was counted in [Start, Start + Step).
type TrafficPoint struct {
	Start time.Time
	Group string // value of what the series is split by
	Counts
}

// TrafficSeries returns the points that have traffic, by time and group.
func (db *DB) TrafficSeries(ctx context.Context, q TrafficQuery) ([]TrafficPoint, error) {
	const what = "traffic series"
	group := "''"
	switch q.By {
	case ByNothing:
	case ByGateway, ByInstance, ByEndpoint, ByConnectionPoint:
		group = string(q.By)
	default:
		return nil, wrap(opencmg.Errorf(opencmg.Invalid, "traffic can not be split by %q", q.By), what)
	}
	if q.Step != 0 && q.Step < TrafficBucket {
		return nil, wrap(opencmg.Errorf(opencmg.Invalid, "a step of %s is less than %s", q.Step, TrafficBucket), what)
	}
	point, args := "CAST(? AS BIGINT)", []any{micros(q.From)}
	if q.Step != 0 {
		point, args = "start - start % CAST(? AS BIGINT)", []any{q.Step.Microseconds()}
	}
	w := trafficBetween(q.Gateway, q.From, q.To)
	rows, err := db.query(ctx, "SELECT "+point+" AS bucket, "+group+" AS part, "+sums+" FROM traffic"+w.sql()+" GROUP BY bucket, part ORDER BY bucket, part", append(args, w.args...)...)
	points, err := collect(rows, err, func(row scanner) (TrafficPoint, error) {
		var p TrafficPoint
		var start int64
		err := row.Scan(&start, &p.Group, &p.Requests, &p.Failed, &p.RequestBytes, &p.ResponseBytes)
		p.Start = fromMicros(start)
		return p, err
	})
	return points, wrap(err, what)
}

// RemoveTraffic forgets the traffic of a gateway and returns how many buckets
// it had.
func (db *DB) RemoveTraffic(ctx context.Context, gateway string) (removed int64, err error) {
	return db.trim(ctx, "remove traffic", "DELETE FROM traffic WHERE gateway_id = ?", gateway)
}
