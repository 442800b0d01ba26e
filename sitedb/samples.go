package sitedb

import (
	"context"
	"math"
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
// the other.
func (db *DB) AddSamples(ctx context.Context, samples []Sample) error {
	return db.transact(ctx, "add samples", func(tx *Tx) error {
		for _, s := range samples {
			if math.IsNaN(s.Value) || math.IsInf(s.Value, 0) {
				return opencmg.Errorf(opencmg.Invalid, "a sample of %s is no finite number", s.Name)
			}
			if err := tx.exec("INSERT INTO samples (name, subject, at, value) VALUES (?, ?, ?, ?) ON CONFLICT (name, subject, at) DO UPDATE SET value = excluded.value",
				s.Name, s.Subject, micros(s.At), s.Value); err != nil {
				return err
			}
		}
		return nil
	})
}

func scanSample(row scanner) (Sample, error) {
	var s Sample
	var at int64
	err := row.Scan(&s.Name, &s.Subject, &at, &s.Value)
	s.At = fromMicros(at)
	return s, err
}

// Samples returns the samples of one gauge and subject, from one time to
// before another, oldest first.
func (db *DB) Samples(ctx context.Context, name, subject string, from, to time.Time) ([]Sample, error) {
	var w where
	w.add("name = ? AND subject = ?", name, subject)
	w.times("at", from, to)
	rows, err := db.query(ctx, "SELECT name, subject, at, value FROM samples"+w.sql()+" ORDER BY at", w.args...)
	list, err := collect(rows, err, scanSample)
	return list, wrap(err, "samples")
}

// LatestSamples returns the latest sample of a gauge for each subject that has
// one since a time, by subject.
func (db *DB) LatestSamples(ctx context.Context, name string, since time.Time) ([]Sample, error) {
	rows, err := db.query(ctx, `SELECT s.name, s.subject, s.at, s.value FROM samples s
		JOIN (SELECT subject, MAX(at) AS latest FROM samples WHERE name = ? AND at >= ? GROUP BY subject) l ON l.subject = s.subject AND l.latest = s.at
		WHERE s.name = ? ORDER BY s.subject`, name, micros(since), name)
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
// another, in points of a step, by time and subject.
func (db *DB) SampleSeries(ctx context.Context, name string, from, to time.Time, step time.Duration) ([]SamplePoint, error) {
	const what = "sample series"
	if step < time.Second {
		return nil, wrap(opencmg.Errorf(opencmg.Invalid, "a step of %s is less than a second", step), what)
	}
	var w where
	w.add("name = ?", name)
	w.times("at", from, to)
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
// each day, and after 90 days none. Call it every now and then.
func (db *DB) TrimSamples(ctx context.Context, now time.Time) (removed int64, err error) {
	err = db.transact(ctx, "trim samples", func(tx *Tx) error {
		last := len(spans) - 1
		if removed, err = tx.count("DELETE FROM samples WHERE at < ?", micros(oldest(last, now))); err != nil {
			return err
		}
		for i, s := range spans[:last] {
			// Whole intervals of the wider kind only.
			wide := spans[i+1].width
			before := micros(now.UTC().Add(-s.keep).Truncate(wide))
			n, err := tx.count(`DELETE FROM samples WHERE at < ? AND at >= ? AND EXISTS (
				SELECT 1 FROM samples s WHERE s.name = samples.name AND s.subject = samples.subject AND s.at > samples.at AND s.at < samples.at - samples.at % CAST(? AS BIGINT) + CAST(? AS BIGINT))`,
				before, micros(oldest(i+1, now).Add(-day)), wide.Microseconds(), wide.Microseconds())
			if err != nil {
				return err
			}
			removed += n
		}
		return nil
	})
	return removed, err
}
