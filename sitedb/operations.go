package sitedb

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/opencmg/opencmg"
)

// An OperationState says how far a long-running operation is.
type OperationState string

// The states of an operation. The last two are final.
const (
	OperationCreated    OperationState = "created"
	OperationInProgress OperationState = "in-progress"
	OperationCompleted  OperationState = "completed"
	OperationFailed     OperationState = "failed"
)

// Ended reports whether the operation is over.
func (s OperationState) Ended() bool { return s == OperationCompleted || s == OperationFailed }

// maxOperationSteps of one operation's log are kept, the latest.
const maxOperationSteps = 1000

// An Operation is something that takes longer than a request.
type Operation struct {
	ID          string // empty when put: a new one
	Kind        string
	SubjectKind string
	SubjectID   string
	State       OperationState
	Step        string // machine-readable
	Percent     int    // 0 to 100
	Text        string // what is being done, for people
	Error       json.RawMessage
	Account     string // who asked for it
	Created     time.Time
	Changed     time.Time
}

// An OperationStep is an entry in an operation's log.
type OperationStep struct {
	At      time.Time
	Step    string
	Percent int
	Text    string
}

const selectOperation = "SELECT id, kind, subject_kind, subject_id, state, step, percent, text, error, account, created, changed FROM operations"

func scanOperation(row scanner) (Operation, error) {
	var o Operation
	var failure string
	var created, changed int64
	err := row.Scan(&o.ID, &o.Kind, &o.SubjectKind, &o.SubjectID, &o.State, &o.Step, &o.Percent, &o.Text, &failure, &o.Account, &created, &changed)
	if failure != "" {
		o.Error = json.RawMessage(failure)
	}
	o.Created, o.Changed = fromMicros(created), fromMicros(changed)
	return o, err
}

func scanOneOperation(row scanner, id string) (Operation, error) {
	o, err := scanOperation(row)
	if errors.Is(err, sql.ErrNoRows) {
		err = opencmg.Errorf(opencmg.NotFound, "there is no operation %s", id)
	}
	if err != nil {
		return Operation{}, err
	}
	return o, nil
}

// PutOperation stores an operation, new or changed, and returns it with its ID
// and times. The time at which it was created does not change.
func (tx *Tx) PutOperation(o Operation) (Operation, error) {
	switch o.State {
	case OperationCreated, OperationInProgress, OperationCompleted, OperationFailed:
	default:
		return Operation{}, opencmg.Errorf(opencmg.Invalid, "an operation can not have state %q", o.State)
	}
	if o.Percent < 0 || o.Percent > 100 {
		return Operation{}, opencmg.Errorf(opencmg.Invalid, "an operation can not be %d percent done", o.Percent)
	}
	if len(o.Error) > 0 && !json.Valid(o.Error) {
		return Operation{}, opencmg.Errorf(opencmg.Invalid, "the error of an operation is no JSON")
	}
	if o.ID == "" {
		o.ID = newID()
	}
	o.Created, o.Changed = tx.now, tx.now
	var created int64
	err := tx.row(`INSERT INTO operations (id, kind, subject_kind, subject_id, state, step, percent, text, error, account, created, changed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, subject_kind = excluded.subject_kind, subject_id = excluded.subject_id, state = excluded.state, step = excluded.step,
			percent = excluded.percent, text = excluded.text, error = excluded.error, account = excluded.account, changed = excluded.changed
		RETURNING created`,
		o.ID, o.Kind, o.SubjectKind, o.SubjectID, string(o.State), o.Step, o.Percent, o.Text, string(o.Error), o.Account, micros(o.Created), micros(o.Changed)).Scan(&created)
	o.Created = fromMicros(created)
	return o, err
}

// Operation returns one operation, or opencmg.NotFound.
func (tx *Tx) Operation(id string) (Operation, error) {
	return scanOneOperation(tx.row(selectOperation+" WHERE id = ?", id), id)
}

// Operation returns one operation, or opencmg.NotFound.
func (db *DB) Operation(ctx context.Context, id string) (Operation, error) {
	o, err := scanOneOperation(db.row(ctx, selectOperation+" WHERE id = ?", id), id)
	return o, wrap(err, "read operation")
}

// An OperationFilter chooses operations; its zero fields choose all.
type OperationFilter struct {
	Kind        string
	SubjectKind string
	SubjectID   string
	States      []OperationState // any of these
	Account     string
}

// Operations returns at most limit operations that the filter chooses, the
// latest first.
func (db *DB) Operations(ctx context.Context, f OperationFilter, limit int) ([]Operation, error) {
	var w where
	w.text("kind", f.Kind)
	w.text("subject_kind", f.SubjectKind)
	w.text("subject_id", f.SubjectID)
	anyOf(&w, "state", f.States)
	w.text("account", f.Account)
	rows, err := db.query(ctx, selectOperation+w.sql()+" ORDER BY created DESC, id DESC LIMIT ?", append(w.args, limit)...)
	list, err := collect(rows, err, scanOperation)
	return list, wrap(err, "list operations")
}

// AppendOperation notes the progress of an operation, which becomes its
// present step and an entry of its log. An operation that has ended is
// opencmg.Conflict. Watchers hear of it: somebody may wait for the code that it
// tells them to type.
func (db *DB) AppendOperation(ctx context.Context, id, step, text string, percent int) error {
	return db.Change(ctx, "append to operation", func(tx *Tx) error { return tx.AppendOperation(id, step, text, percent) })
}

// AppendOperation notes the progress of an operation, see [DB.AppendOperation].
func (tx *Tx) AppendOperation(id, step, text string, percent int) error {
	o, err := tx.Operation(id)
	if err != nil {
		return err
	}
	if o.State.Ended() {
		return opencmg.Errorf(opencmg.Conflict, "operation %s has %s", id, o.State)
	}
	o.State, o.Step, o.Text, o.Percent = OperationInProgress, step, text, percent
	if _, err := tx.PutOperation(o); err != nil {
		return err
	}
	if err := tx.exec("INSERT INTO operation_log (operation_id, at, step, percent, text) VALUES (?, ?, ?, ?, ?)", id, micros(tx.now), step, percent, text); err != nil {
		return err
	}
	return tx.exec("DELETE FROM operation_log WHERE operation_id = ? AND id <= (SELECT id FROM operation_log WHERE operation_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?)", id, id, maxOperationSteps)
}

// OperationLog returns the log of an operation, oldest first, at most the
// latest 1000 entries.
func (db *DB) OperationLog(ctx context.Context, id string) ([]OperationStep, error) {
	rows, err := db.query(ctx, "SELECT at, step, percent, text FROM operation_log WHERE operation_id = ? ORDER BY id", id)
	list, err := collect(rows, err, func(row scanner) (OperationStep, error) {
		var s OperationStep
		var at int64
		err := row.Scan(&at, &s.Step, &s.Percent, &s.Text)
		s.At = fromMicros(at)
		return s, err
	})
	return list, wrap(err, "read log of operation")
}

// TrimOperations removes operations that ended before a time, with their logs,
// and returns how many.
func (db *DB) TrimOperations(ctx context.Context, before time.Time) (removed int64, err error) {
	return db.trim(ctx, "trim operations", "DELETE FROM operations WHERE state IN (?, ?) AND changed < ?", string(OperationCompleted), string(OperationFailed), micros(before))
}

// newID returns a random UUID (RFC 9562 version 4).
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
