package sitedb

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/opencmg/opencmg"
)

// An Alert is something that an administrator has to look at.
type Alert struct {
	ID          int64  // given by the database, grows
	Kind        string // e.g. traffic
	SubjectKind string
	SubjectID   string
	Severity    Severity // SeverityWarning or SeverityCritical
	Text        string
	NextStep    string    // what to do about it
	Opened      time.Time // these times are given by the database
	Changed     time.Time
	Closed      time.Time // zero: open
	// AcknowledgedBy is the account that has seen it; empty again when the
	// alert becomes critical.
	AcknowledgedBy string
}

// An AlertChange says what raising an alert led to.
type AlertChange string

// What raising an alert leads to. Only the first two are news.
const (
	AlertNew       AlertChange = "new"
	AlertChanged   AlertChange = "changed"
	AlertUnchanged AlertChange = "unchanged"
)

const selectAlert = "SELECT id, kind, subject_kind, subject_id, severity, text, next_step, opened, changed, closed, acknowledged_by FROM alerts"

func scanAlert(row scanner) (Alert, error) {
	var a Alert
	var opened, changed, closed int64
	err := row.Scan(&a.ID, &a.Kind, &a.SubjectKind, &a.SubjectID, &a.Severity, &a.Text, &a.NextStep, &opened, &changed, &closed, &a.AcknowledgedBy)
	a.Opened, a.Changed, a.Closed = fromMicros(opened), fromMicros(changed), fromMicros(closed)
	return a, err
}

// RaiseAlert opens an alert, or changes the open one of the same kind and
// subject; so it may be called again and again while there is a reason. It
// returns the alert as stored.
func (db *DB) RaiseAlert(ctx context.Context, a Alert) (stored Alert, change AlertChange, err error) {
	err = db.transact(ctx, "raise alert", func(tx *Tx) error {
		stored, change, err = tx.RaiseAlert(a)
		return err
	})
	return stored, change, err
}

// RaiseAlert opens or changes an alert, see [DB.RaiseAlert].
func (tx *Tx) RaiseAlert(a Alert) (Alert, AlertChange, error) {
	if a.Severity != SeverityWarning && a.Severity != SeverityCritical || a.Kind == "" {
		return Alert{}, "", opencmg.Errorf(opencmg.Invalid, "an alert needs a kind and a severity of warning or critical, not %q and %q", a.Kind, a.Severity)
	}
	a.Text, a.NextStep = plainText(a.Text), plainText(a.NextStep)
	stored, err := scanAlert(tx.row(selectAlert+" WHERE closed = 0 AND kind = ? AND subject_kind = ? AND subject_id = ?", a.Kind, a.SubjectKind, a.SubjectID))
	if errors.Is(err, sql.ErrNoRows) {
		a.Opened, a.Changed, a.Closed, a.AcknowledgedBy = tx.now, tx.now, time.Time{}, ""
		err := tx.row("INSERT INTO alerts (kind, subject_kind, subject_id, severity, text, next_step, opened, changed, closed, acknowledged_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, '') RETURNING id",
			a.Kind, a.SubjectKind, a.SubjectID, string(a.Severity), a.Text, a.NextStep, micros(a.Opened), micros(a.Changed)).Scan(&a.ID)
		return a, AlertNew, err
	}
	if err != nil {
		return Alert{}, "", err
	}
	if stored.Severity == a.Severity && stored.Text == a.Text && stored.NextStep == a.NextStep {
		return stored, AlertUnchanged, nil
	}
	if a.Severity == SeverityCritical && stored.Severity != SeverityCritical {
		stored.AcknowledgedBy = ""
	}
	stored.Severity, stored.Text, stored.NextStep, stored.Changed = a.Severity, a.Text, a.NextStep, tx.now
	return stored, AlertChanged, tx.exec("UPDATE alerts SET severity = ?, text = ?, next_step = ?, changed = ?, acknowledged_by = ? WHERE id = ?",
		string(stored.Severity), stored.Text, stored.NextStep, micros(stored.Changed), stored.AcknowledgedBy, stored.ID)
}

// CloseAlert closes the open alert of this kind and subject and reports
// whether there was one.
func (db *DB) CloseAlert(ctx context.Context, kind, subjectKind, subjectID string) (closed bool, err error) {
	err = db.transact(ctx, "close alert", func(tx *Tx) error {
		closed, err = tx.CloseAlert(kind, subjectKind, subjectID)
		return err
	})
	return closed, err
}

// CloseAlert closes an alert, see [DB.CloseAlert].
func (tx *Tx) CloseAlert(kind, subjectKind, subjectID string) (closed bool, err error) {
	n, err := tx.count("UPDATE alerts SET closed = ?, changed = ? WHERE closed = 0 AND kind = ? AND subject_kind = ? AND subject_id = ?",
		micros(tx.now), micros(tx.now), kind, subjectKind, subjectID)
	return n > 0, err
}

// AcknowledgeAlert notes who has seen an alert; nobody, with an empty account.
func (db *DB) AcknowledgeAlert(ctx context.Context, id int64, account string) error {
	return db.transact(ctx, "acknowledge alert", func(tx *Tx) error { return tx.AcknowledgeAlert(id, account) })
}

// AcknowledgeAlert notes who has seen an alert, see [DB.AcknowledgeAlert].
func (tx *Tx) AcknowledgeAlert(id int64, account string) error {
	return tx.must(opencmg.Errorf(opencmg.NotFound, "there is no alert %d", id), "UPDATE alerts SET acknowledged_by = ? WHERE id = ?", account, id)
}

// Alert returns one alert, or opencmg.NotFound.
func (db *DB) Alert(ctx context.Context, id int64) (Alert, error) {
	a, err := scanAlert(db.row(ctx, selectAlert+" WHERE id = ?", id))
	if errors.Is(err, sql.ErrNoRows) {
		err = opencmg.Errorf(opencmg.NotFound, "there is no alert %d", id)
	}
	return a, wrap(err, "read alert")
}

// An AlertFilter chooses alerts; its zero fields choose all, the closed ones
// too.
type AlertFilter struct {
	Open        bool // only open ones
	Closed      bool // only closed ones
	Kind        string
	SubjectKind string
	SubjectID   string
	Severities  []Severity // any of these
	Text        string     // part of the text, the kind or the subject, without the case of ASCII letters
}

// Alerts returns the alerts that the filter chooses, the latest opened first,
// at most limit behind the first offset ones, and how many there are in all.
func (db *DB) Alerts(ctx context.Context, f AlertFilter, offset, limit int) (list []Alert, total int, err error) {
	var w where
	if f.Open {
		w.add("closed = 0")
	}
	if f.Closed {
		w.add("closed > 0")
	}
	w.text("kind", f.Kind)
	w.text("subject_kind", f.SubjectKind)
	w.text("subject_id", f.SubjectID)
	anyOf(&w, "severity", f.Severities)
	if f.Text != "" {
		p := likeASCII(f.Text)
		w.add(`(UPPER(text) LIKE ? ESCAPE '\' OR UPPER(kind) LIKE ? ESCAPE '\' OR UPPER(subject_id) LIKE ? ESCAPE '\')`, p, p, p)
	}
	if err := db.row(ctx, "SELECT COUNT(*) FROM alerts"+w.sql(), w.args...).Scan(&total); err != nil {
		return nil, 0, wrap(err, "list alerts")
	}
	rows, err := db.query(ctx, selectAlert+w.sql()+" ORDER BY id DESC LIMIT ? OFFSET ?", append(w.args, limit, offset)...)
	list, err = collect(rows, err, scanAlert)
	return list, total, wrap(err, "list alerts")
}

// TrimAlerts removes alerts that were closed before a time and returns how
// many.
func (db *DB) TrimAlerts(ctx context.Context, before time.Time) (removed int64, err error) {
	return db.trim(ctx, "trim alerts", "DELETE FROM alerts WHERE closed > 0 AND closed < ?", micros(before))
}
