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

// TrimSamples removes samples from before a time and returns how many.
func (db *DB) TrimSamples(ctx context.Context, before time.Time) (removed int64, err error) {
	return db.trim(ctx, "trim samples", "DELETE FROM samples WHERE at < ?", micros(before))
}
