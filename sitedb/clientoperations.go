package sitedb

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

// A ClientOperation is a task that an administrator sent to clients. Each of
// them has a [Notification], which the counts are of.
type ClientOperation struct {
	ID       int64 // given by the database
	TaskType int
	Param    string
	Target   string // in words: which clients were asked
	Account  string
	Created  time.Time
	Clients  int // how many were asked
	// Delivered counts the clients that were sent the task, Answered those that
	// answered it, and Failed those whose answer is a return code other than 0.
	Delivered, Answered, Failed int
	Cancelled                   time.Time // zero: not cancelled
	CancelledBy                 string
}

// NotifyClients records a task for those of the clients that are registered and
// approved, in one act. An operation that is for nobody is opencmg.NotFound.
func (tx *Tx) NotifyClients(op ClientOperation, taskGUID string, clients []opencmg.ClientID) (ClientOperation, error) {
	op.Created = tx.now
	err := tx.row("INSERT INTO client_operations (task_type, param, target, account, created, clients, cancelled, cancelled_by) VALUES (?, ?, ?, ?, ?, 0, 0, '') RETURNING id",
		op.TaskType, op.Param, op.Target, op.Account, micros(tx.now)).Scan(&op.ID)
	if err != nil {
		return op, err
	}
	var w where
	tx.db.amongIDs(&w, "id IN", clients)
	n, err := tx.count(`INSERT INTO notifications (client_id, task_guid, task_type, param, created, delivered, answered, return_code, operation_id, cancelled)
		SELECT id, CAST(? AS TEXT), CAST(? AS INTEGER), CAST(? AS TEXT), CAST(? AS BIGINT), 0, 0, 0, CAST(? AS BIGINT), 0 FROM clients`+w.sql()+` AND approval > 0`,
		append([]any{taskGUID, op.TaskType, op.Param, micros(tx.now), op.ID}, w.args...)...)
	if err != nil {
		return op, err
	}
	if n == 0 {
		return op, opencmg.Errorf(opencmg.NotFound, "none of the clients is registered and approved: nobody can be notified")
	}
	op.Clients = int(n)
	return op, tx.exec("UPDATE client_operations SET clients = ? WHERE id = ?", op.Clients, op.ID)
}

const selectClientOperation = `SELECT id, task_type, param, target, account, created, clients, cancelled, cancelled_by,
	(SELECT COUNT(*) FROM notifications WHERE operation_id = o.id AND delivered > 0),
	(SELECT COUNT(*) FROM notifications WHERE operation_id = o.id AND answered > 0),
	(SELECT COUNT(*) FROM notifications WHERE operation_id = o.id AND answered > 0 AND return_code <> 0)
	FROM client_operations AS o `

func scanClientOperation(row scanner) (ClientOperation, error) {
	var op ClientOperation
	var created, cancelled int64
	err := row.Scan(&op.ID, &op.TaskType, &op.Param, &op.Target, &op.Account, &created, &op.Clients, &cancelled, &op.CancelledBy, &op.Delivered, &op.Answered, &op.Failed)
	op.Created, op.Cancelled = fromMicros(created), fromMicros(cancelled)
	return op, err
}

func noOperation(id int64, err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return opencmg.Errorf(opencmg.NotFound, "there is no client operation %d", id)
	}
	return err
}

// ClientOperation returns one client operation.
func (db *DB) ClientOperation(ctx context.Context, id int64) (ClientOperation, error) {
	op, err := scanClientOperation(db.row(ctx, selectClientOperation+"WHERE id = ?", id))
	return op, wrap(noOperation(id, err), "client operation")
}

// ClientOperation returns one client operation.
func (tx *Tx) ClientOperation(id int64) (ClientOperation, error) {
	op, err := scanClientOperation(tx.row(selectClientOperation+"WHERE id = ?", id))
	return op, noOperation(id, err)
}

// ClientOperations returns the client operations whose target or account
// contains the text, without the case of ASCII letters, or all without one: the
// newest first, at most limit behind the first offset ones, and how many there
// are in all.
func (db *DB) ClientOperations(ctx context.Context, text string, offset, limit int) (list []ClientOperation, total int, err error) {
	const what = "list client operations"
	var w where
	if text != "" {
		w.add(`(UPPER(target) LIKE ? ESCAPE '\' OR UPPER(account) LIKE ? ESCAPE '\')`, likeASCII(text), likeASCII(text))
	}
	if err := db.row(ctx, "SELECT COUNT(*) FROM client_operations"+w.sql(), w.args...).Scan(&total); err != nil {
		return nil, 0, wrap(err, what)
	}
	rows, err := db.query(ctx, strings.TrimSuffix(selectClientOperation, " ")+w.sql()+" ORDER BY id DESC LIMIT ? OFFSET ?", append(w.args, limit, offset)...)
	list, err = collect(rows, err, scanClientOperation)
	return list, total, wrap(err, what)
}

// OperationNotifications returns the notifications of a client operation in the
// order of their push IDs, at most limit behind the first offset ones.
func (db *DB) OperationNotifications(ctx context.Context, id int64, offset, limit int) ([]Notification, error) {
	return db.notifications(ctx, "WHERE operation_id = ? AND operation_id <> 0 ORDER BY push_id LIMIT ? OFFSET ?", id, limit, offset)
}

// CancelClientOperation keeps the task from everybody who did not answer it yet.
// A client that was sent it may still do it.
func (tx *Tx) CancelClientOperation(id int64, account string) error {
	err := tx.must(opencmg.Errorf(opencmg.NotFound, "there is no client operation %d", id),
		"UPDATE client_operations SET cancelled = ?, cancelled_by = ? WHERE id = ?", micros(tx.now), account, id)
	if err != nil {
		return err
	}
	return tx.exec("UPDATE notifications SET cancelled = 1 WHERE operation_id = ? AND answered = 0", id)
}

// DeleteClientOperation forgets an operation and its notifications.
func (tx *Tx) DeleteClientOperation(id int64) error {
	if err := tx.exec("DELETE FROM notifications WHERE operation_id = ? AND operation_id <> 0", id); err != nil {
		return err
	}
	return tx.must(opencmg.Errorf(opencmg.NotFound, "there is no client operation %d", id), "DELETE FROM client_operations WHERE id = ?", id)
}

// TrimClientOperations forgets the operations and notifications from before a
// time, and returns how many operations.
func (db *DB) TrimClientOperations(ctx context.Context, before time.Time) (removed int64, err error) {
	err = db.transact(ctx, "trim client operations", func(tx *Tx) error {
		if err := tx.exec("DELETE FROM notifications WHERE created < ?", micros(before)); err != nil {
			return err
		}
		removed, err = tx.count("DELETE FROM client_operations WHERE created < ?", micros(before))
		return err
	})
	return removed, err
}
