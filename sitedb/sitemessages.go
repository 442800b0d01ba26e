package sitedb

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

// A Severity says how bad something is.
type Severity string

// The severities. Status messages have all but critical, alerts have warning
// and critical.
const (
	SeverityInfo     Severity = "info"
	SeverityWarning  Severity = "warning"
	SeverityError    Severity = "error"
	SeverityCritical Severity = "critical"
)

// A StatusMessage is what a component of the site tells its administrators,
// and the audit of what they did. It holds no secret.
type StatusMessage struct {
	ID          int64     // given by the database, grows
	At          time.Time // zero: the time of the transaction
	Component   string
	Severity    Severity
	MessageID   int    // says which text it is
	Account     string // who did it; empty for the site itself
	SubjectKind string
	SubjectID   string
	Text        string
	Properties  map[string]string
}

// AddStatusMessage stores a status message.
func (tx *Tx) AddStatusMessage(m StatusMessage) error {
	if m.Severity != SeverityInfo && m.Severity != SeverityWarning && m.Severity != SeverityError {
		return opencmg.Errorf(opencmg.Invalid, "a status message can not have severity %q", m.Severity)
	}
	if m.At.IsZero() {
		m.At = tx.now
	}
	properties, err := json.Marshal(m.Properties)
	if err != nil {
		return err
	}
	return tx.exec("INSERT INTO site_messages (at, component, severity, message_id, account, subject_kind, subject_id, text, properties) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
		micros(m.At), m.Component, string(m.Severity), m.MessageID, m.Account, m.SubjectKind, m.SubjectID, m.Text, string(properties))
}

// AddStatusMessage stores a status message on its own.
func (db *DB) AddStatusMessage(ctx context.Context, m StatusMessage) error {
	return db.transact(ctx, "add status message", func(tx *Tx) error { return tx.AddStatusMessage(m) })
}

// A MessageFilter chooses status messages; its zero fields choose all.
type MessageFilter struct {
	From, To    time.Time // From is included, To is not
	Component   string
	Severities  []Severity // any of these
	MessageID   int
	Account     string
	SubjectKind string
	SubjectID   string
	Text        string // part of the text, without the case of ASCII letters
	Before      int64  // only messages with smaller IDs, for the next page
}

func (f MessageFilter) where() *where {
	var w where
	w.times("at", f.From, f.To)
	w.text("component", f.Component)
	anyOf(&w, "severity", f.Severities)
	if f.MessageID != 0 {
		w.add("message_id = ?", f.MessageID)
	}
	w.text("account", f.Account)
	w.text("subject_kind", f.SubjectKind)
	w.text("subject_id", f.SubjectID)
	if f.Text != "" {
		// Both engines know the capitals of ASCII only.
		w.add(`UPPER(text) LIKE ? ESCAPE '\'`, likeASCII(f.Text))
	}
	if f.Before != 0 {
		w.add("id < ?", f.Before)
	}
	return &w
}

// SiteMessages returns the status messages of the site that the filter
// chooses, the latest first, at most limit behind the first offset ones, and
// how many there are in all.
func (db *DB) SiteMessages(ctx context.Context, f MessageFilter, offset, limit int) (list []StatusMessage, total int, err error) {
	w := f.where()
	const what = "list status messages"
	if err := db.row(ctx, "SELECT COUNT(*) FROM site_messages"+w.sql(), w.args...).Scan(&total); err != nil {
		return nil, 0, wrap(err, what)
	}
	rows, err := db.query(ctx, "SELECT id, at, component, severity, message_id, account, subject_kind, subject_id, text, properties FROM site_messages"+
		w.sql()+" ORDER BY id DESC LIMIT ? OFFSET ?", append(w.args, limit, offset)...)
	list, err = collect(rows, err, scanStatusMessage)
	return list, total, wrap(err, what)
}

func scanStatusMessage(row scanner) (StatusMessage, error) {
	var m StatusMessage
	var at int64
	var properties string
	err := row.Scan(&m.ID, &at, &m.Component, &m.Severity, &m.MessageID, &m.Account, &m.SubjectKind, &m.SubjectID, &m.Text, &properties)
	if err == nil {
		err = json.Unmarshal([]byte(properties), &m.Properties)
	}
	m.At = fromMicros(at)
	return m, err
}

// TrimSiteMessages removes the status messages of the site from before a time
// and returns how many.
func (db *DB) TrimSiteMessages(ctx context.Context, before time.Time) (removed int64, err error) {
	return db.trim(ctx, "trim status messages", "DELETE FROM site_messages WHERE at < ?", micros(before))
}

func (db *DB) trim(ctx context.Context, what, query string, args ...any) (removed int64, err error) {
	err = db.transact(ctx, what, func(tx *Tx) error {
		removed, err = tx.count(query, args...)
		return err
	})
	return removed, err
}

// A where is a condition of a query, put together from those that are set.
type where struct {
	conditions []string
	args       []any
}

func (w *where) add(condition string, args ...any) {
	w.conditions = append(w.conditions, condition)
	w.args = append(w.args, args...)
}

func (w *where) text(column, value string) {
	if value != "" {
		w.add(column+" = ?", value)
	}
}

func (w *where) times(column string, from, to time.Time) {
	if !from.IsZero() {
		w.add(column+" >= ?", micros(from))
	}
	if !to.IsZero() {
		w.add(column+" < ?", micros(to))
	}
}

func anyOf[S ~string](w *where, column string, values []S) {
	if len(values) == 0 {
		return
	}
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = string(v)
	}
	w.add(column+" IN (?"+strings.Repeat(", ?", len(values)-1)+")", args...)
}

// sql is empty or begins with WHERE.
func (w *where) sql() string {
	if len(w.conditions) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.conditions, " AND ")
}
