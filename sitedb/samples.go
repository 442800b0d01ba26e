package sitedb

import (
	"context"
	"math"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

// A Sample is how much of something there was at a time: clients held, CPU, ...
type Sample struct {
	Name    string // of the gauge
	Subject string // whose
	At      time.Time
	Value   float64 // a finite number
}

// AddSamples stores samples; one of the same gauge, subject and time replaces
// the other. Those of a subject come in the order of their times.
func (db *DB) AddSamples(ctx context.Context, samples []Sample) error {
	return db.transact(ctx, "add samples", func(tx *Tx) error {
		for _, s := range samples {
			if math.IsNaN(s.Value) || math.IsInf(s.Value, 0) {
				return opencmg.Errorf(opencmg.Invalid, "a sample of %s is no finite number", s.Name)
			}
			// As it was taken, and as the last of each interval so far.
			args := []any{s.Name, 0, micros(s.At), s.Subject, s.Value}
			for _, p := range spans[1:] {
				args = append(args, s.Name, p.width.Microseconds(), micros(s.At.UTC().Truncate(p.width)), s.Subject, s.Value)
			}
			if err := tx.exec("INSERT INTO samples (name, width, at, subject, value) VALUES (?, ?, ?, ?, ?)"+strings.Repeat(", (?, ?, ?, ?, ?)", len(spans)-1)+
				" ON CONFLICT (name, width, at, subject) DO UPDATE SET value = excluded.value", args...); err != nil {
				return err
			}
		}
		return nil
	})
}

// samplesFrom chooses the rows to read, as spanOf does for counts, and returns
// their width and the time that they are after: that of the interval from is in
// counts too.
func (db *DB) samplesFrom(from time.Time, step time.Duration) (width, after int64) {
	span := (part{}).spanOf(from, step, db.now())
	if span == 0 {
		return 0, micros(from) - 1
	}
	width = spans[span].width.Microseconds()
	return width, micros(from) - width
}

func scanSample(row scanner) (Sample, error) {
	var s Sample
	var at int64
	err := row.Scan(&s.Name, &s.Subject, &at, &s.Value)
	s.At = fromMicros(at)
	return s, err
}

// Samples returns the samples of one gauge and subject, from one time to
// before another, oldest first: as they were taken when from is within six
// hours, else the last of each five minutes, hour or day.
func (db *DB) Samples(ctx context.Context, name, subject string, from, to time.Time) ([]Sample, error) {
	width, after := db.samplesFrom(from, 0)
	var w where
	w.add("name = ? AND width = ? AND at > ? AND subject = ?", name, width, after, subject)
	w.times("at", time.Time{}, to)
	rows, err := db.query(ctx, "SELECT name, subject, at, value FROM samples"+w.sql()+" ORDER BY at", w.args...)
	list, err := collect(rows, err, scanSample)
	return list, wrap(err, "samples")
}

// LatestSamples returns the latest sample of a gauge for each subject that has
// one since a time, by subject.
func (db *DB) LatestSamples(ctx context.Context, name string, since time.Time) ([]Sample, error) {
	width, after := db.samplesFrom(since, 0)
	rows, err := db.query(ctx, `SELECT s.name, s.subject, s.at, s.value FROM samples s
		JOIN (SELECT subject, MAX(at) AS latest FROM samples WHERE name = ? AND width = ? AND at > ? GROUP BY subject) l ON l.subject = s.subject AND l.latest = s.at
		WHERE s.name = ? AND s.width = ? ORDER BY s.subject`, name, width, after, name, width)
	list, err := collect(rows, err, scanSample)
	return list, wrap(err, "latest samples")
}

// A SamplePoint is the mean of the samples of one subject in
// [Start, Start + step).
type SamplePoint struct {
	Start   time.Time
	Subject string
	Value   float64
}

// SampleSeries returns the samples of one gauge from one time to before
// another, in points of a step, by time and subject. Where few samples are kept
// of the time from the first on, a point has what the interval that begins in it has.
func (db *DB) SampleSeries(ctx context.Context, name string, from, to time.Time, step time.Duration) ([]SamplePoint, error) {
	const what = "sample series"
	if step < time.Second {
		return nil, wrap(opencmg.Errorf(opencmg.Invalid, "a step of %s is less than a second", step), what)
	}
	width, after := db.samplesFrom(from, step)
	var w where
	w.add("name = ? AND width = ? AND at > ?", name, width, after)
	w.times("at", time.Time{}, to)
	rows, err := db.query(ctx, "SELECT at - at % CAST(? AS BIGINT) AS bucket, subject, AVG(value) FROM samples"+w.sql()+" GROUP BY bucket, subject ORDER BY bucket, subject",
		append([]any{step.Microseconds()}, w.args...)...)
	points, err := collect(rows, err, func(row scanner) (SamplePoint, error) {
		var p SamplePoint
		var at int64
		err := row.Scan(&at, &p.Subject, &p.Value)
		p.Start = fromMicros(at)
		return p, err
	})
	return points, wrap(err, what)
}

// TrimSamples removes samples with their age: after six hours the last of each
// five minutes stays, after two days that of each hour, after 15 days that of
// each day, and after 105 days none. Call it every now and then.
func (db *DB) TrimSamples(ctx context.Context, now time.Time) error {
	return db.transact(ctx, "trim samples", func(tx *Tx) error {
		for i, s := range spans {
			width := s.width.Microseconds()
			if i == 0 {
				width = 0
			}
			if err := tx.exec("DELETE FROM samples WHERE width = ? AND at < ?", width, micros(oldest(i, now))); err != nil {
				return err
			}
		}
		return nil
	})
}
