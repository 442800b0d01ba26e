package sitedb

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

// CountBucket is the narrowest span of time that counts are kept for; wider
// ones begin at whole five minutes, hours and days of UTC.
const CountBucket = time.Minute

const day = 24 * time.Hour

// spans are the widths of the rows of a ledger, and how long each is kept. The
// window of the traffic alert is 14 days, and 14 days that ended 90 days ago can
// still be added up.
var spans = []struct{ width, keep time.Duration }{
	{CountBucket, 6 * time.Hour}, {5 * time.Minute, 2 * day}, {time.Hour, 15 * day}, {day, 105 * day},
}

// oldest is the beginning of the first row of a span that is kept.
func oldest(span int, now time.Time) time.Time {
	s := spans[span]
	return now.UTC().Add(-s.keep).Truncate(s.width)
}

// A ledger is a table of counts by time (migrations/0005_counts.sql). What is
// counted is written to a row of each width at once: nothing has to be added up
// later, and what comes late is in the right place.
type ledger struct {
	table  string
	keys   []string // columns, besides the gateway
	counts []string // columns
	parts  []part
}

// A part are the rows of a ledger that are told apart by its first keys.
type part struct {
	keys   int
	narrow int  // the first of spans that it has
	all    bool // counts all gateways together
}

var (
	trafficLedger = &ledger{
		table: "traffic", keys: []string{"endpoint", "instance", "connection_point"}, counts: []string{"requests", "failed", "request_bytes", "response_bytes"},
		parts: []part{{keys: 0}, {keys: 1}, {keys: 3, narrow: 2}, {keys: 1, all: true}},
	}
	refusalLedger = &ledger{table: "refusals", keys: []string{"cause", "instance"}, counts: []string{"requests"}, parts: []part{{keys: 1}, {keys: 2, narrow: 2}, {keys: 1, all: true}}}
	latencyLedger = &ledger{table: "latencies", keys: []string{"endpoint"}, counts: latencyColumns(), parts: []part{{keys: 0}, {keys: 1}}}

	ledgers = []*ledger{trafficLedger, refusalLedger, latencyLedger}
)

func latencyColumns() (names []string) {
	for i := range opencmg.LatencyBuckets {
		names = append(names, "upto_"+strconv.Itoa(i))
	}
	return names
}

// An entry is what is added to a ledger: keys and counts are those of its
// columns.
type entry struct {
	gateway string
	start   time.Time
	keys    [3]string
	counts  []int64
}

// rowKey is the primary key of a row.
type rowKey struct {
	part, width, start int64
	gateway            string
	keys               [3]string
}

// rowsPerStatement bounds the length of a statement.
const rowsPerStatement = 50

// add adds entries to all rows that they belong to.
func (l *ledger) add(tx *Tx, entries []entry) error {
	rows := map[rowKey][]int64{}
	for _, e := range entries {
		if e.gateway == "" || e.start.IsZero() || slices.Min(e.counts) < 0 {
			return opencmg.Errorf(opencmg.Invalid, "counts of %s need a gateway, a time, and must not be negative", l.table)
		}
		for n, p := range l.parts {
			k := rowKey{part: int64(n)}
			if !p.all {
				k.gateway = plainText(e.gateway)
			}
			for i := range p.keys {
				k.keys[i] = plainText(e.keys[i])
			}
			for _, s := range spans[p.narrow:] {
				k.width, k.start = s.width.Microseconds(), micros(e.start.UTC().Truncate(s.width))
				sum := rows[k]
				if sum == nil {
					sum = make([]int64, len(l.counts))
					rows[k] = sum
				}
				for i, c := range e.counts {
					sum[i] += c
				}
			}
		}
	}
	// In one order, so that two processes never wait for each other.
	keys := slices.SortedFunc(maps.Keys(rows), func(a, b rowKey) int {
		return cmp.Or(cmp.Compare(a.part, b.part), cmp.Compare(a.width, b.width), cmp.Compare(a.start, b.start), cmp.Compare(a.gateway, b.gateway), slices.Compare(a.keys[:], b.keys[:]))
	})
	for some := range slices.Chunk(keys, rowsPerStatement) {
		var args []any
		for _, k := range some {
			args = append(args, k.part, k.width, k.start, k.gateway)
			for i := range l.keys {
				args = append(args, k.keys[i])
			}
			for _, c := range rows[k] {
				args = append(args, c)
			}
		}
		if err := tx.exec(l.insert(len(some)), args...); err != nil {
			return err
		}
	}
	return nil
}

// insert is the statement that adds some rows.
func (l *ledger) insert(rows int) string {
	key := "part, width, start, gateway_id, " + strings.Join(l.keys, ", ")
	one := "(" + strings.Repeat("?, ", 4+len(l.keys)+len(l.counts)-1) + "?)"
	var sums []string
	for _, c := range l.counts {
		sums = append(sums, c+" = "+l.table+"."+c+" + excluded."+c)
	}
	return "INSERT INTO " + l.table + " (" + key + ", " + strings.Join(l.counts, ", ") + ") VALUES " + one + strings.Repeat(", "+one, rows-1) +
		" ON CONFLICT (" + key + ") DO UPDATE SET " + strings.Join(sums, ", ")
}

// A CountGroup is what a series of counts is split by.
type CountGroup string

// What counts can be split by: traffic by all but the cause, latencies by
// gateway and endpoint, refusals by gateway, cause and instance.
const (
	ByNothing         CountGroup = ""
	ByGateway         CountGroup = "gateway_id"
	ByEndpoint        CountGroup = "endpoint"
	ByInstance        CountGroup = "instance"
	ByConnectionPoint CountGroup = "connection_point"
	ByCause           CountGroup = "cause"
)

// A CountQuery says which series to make.
type CountQuery struct {
	Gateway  string // empty: all
	From, To time.Time
	// Step is the width of a point, at least CountBucket. Where only wider rows
	// are kept of the time from From on, a point has what the row that begins in
	// it has. Zero makes one point, which begins at From.
	Step time.Duration
	By   CountGroup
}

// partOf finds the coarsest part that answers the query.
func (l *ledger) partOf(q CountQuery) (number int, err error) {
	if q.By == ByNothing || q.By == ByGateway {
		return 0, nil
	}
	number = -1
	for n, p := range l.parts {
		if (number < 0 || p.all && q.Gateway == "") && slices.Contains(l.keys[:p.keys], string(q.By)) {
			number = n
		}
	}
	if number < 0 {
		return 0, opencmg.Errorf(opencmg.Invalid, "%s can not be split by %q", l.table, q.By)
	}
	return number, nil
}

// spanOf chooses the rows to read: those of a step the widest that make it up,
// those of a sum the narrowest, as long as they reach back to from.
func (p part) spanOf(from time.Time, step time.Duration, now time.Time) int {
	span := p.narrow
	for i := p.narrow; i < len(spans); i++ {
		if step > 0 && step%spans[i].width == 0 {
			span = i
		}
	}
	for span < len(spans)-1 && from.Before(oldest(span, now)) {
		span++
	}
	return span
}

// series reads points: when they begin, what they are split by, and the sums.
func (l *ledger) series(ctx context.Context, db *DB, q CountQuery, point func(start time.Time, group string, sums []int64)) error {
	number, err := l.partOf(q)
	if err != nil {
		return err
	}
	if q.Step != 0 && q.Step < CountBucket {
		return opencmg.Errorf(opencmg.Invalid, "a step of %s is less than %s", q.Step, CountBucket)
	}
	group := "''"
	if q.By != ByNothing {
		group = string(q.By)
	}
	bucket, args := "CAST(? AS BIGINT)", []any{micros(q.From)}
	if q.Step != 0 {
		bucket, args = "start - start % CAST(? AS BIGINT)", []any{q.Step.Microseconds()}
	}
	width := spans[l.parts[number].spanOf(q.From, q.Step, db.now())].width
	var w where
	w.add("part = ? AND width = ?", number, width.Microseconds())
	if !q.From.IsZero() {
		w.add("start > ?", micros(q.From.Add(-width)))
	}
	if !q.To.IsZero() {
		w.add("start < ?", micros(q.To))
	}
	w.text("gateway_id", q.Gateway)
	columns := []string{bucket + " AS bucket", group + " AS split"}
	for _, c := range l.counts {
		columns = append(columns, "CAST(SUM("+c+") AS BIGINT)")
	}
	rows, err := db.query(ctx, "SELECT "+strings.Join(columns, ", ")+" FROM "+l.table+w.sql()+" GROUP BY bucket, split ORDER BY bucket, split", append(args, w.args...)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	var start int64
	var split string
	sums := make([]int64, len(l.counts))
	into := []any{&start, &split}
	for i := range sums {
		into = append(into, &sums[i])
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		point(fromMicros(start), split, sums)
	}
	return rows.Err()
}

// TrimCounts forgets counts that are older than rows of their width are kept:
// six hours for minutes, two days for five minutes, 15 days for hours and 105
// for days. Call it every now and then.
func (db *DB) TrimCounts(ctx context.Context, now time.Time) error {
	return db.transact(ctx, "trim counts", func(tx *Tx) error {
		for _, l := range ledgers {
			for n := range l.parts {
				for i, s := range spans {
					if err := tx.exec("DELETE FROM "+l.table+" WHERE part = ? AND width = ? AND start < ?", n, s.width.Microseconds(), micros(oldest(i, now))); err != nil {
						return err
					}
				}
			}
		}
		return nil
	})
}
