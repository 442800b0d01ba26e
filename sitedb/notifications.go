package sitedb

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/opencmg/opencmg"
)

// A Notification is a task pushed to a client.
type Notification struct {
	PushID     int64 // given by the database
	Operation  int64 // the [ClientOperation] that it belongs to; 0 for none
	ClientID   opencmg.ClientID
	TaskGUID   string
	TaskType   int
	Param      string
	Created    time.Time
	Delivered  time.Time // zero: not yet
	Answered   time.Time // zero: not yet
	Cancelled  bool      // it is sent no more
	ReturnCode int
}

// AddNotifications records one notification per client and returns them with
// their push IDs. Clients that do not exist are left out.
func (db *DB) AddNotifications(ctx context.Context, clients []opencmg.ClientID, taskGUID string, taskType int, param string) (added []Notification, err error) {
	err = db.transact(ctx, "add notifications", func(tx *Tx) error {
		// An answered one is history; keep what an administrator may still ask
		// about. A management point with a database of its own has nobody else
		// who tidies up.
		if err := tx.exec("DELETE FROM notifications WHERE created < ?", micros(tx.now.Add(-KeepNotifications))); err != nil {
			return err
		}
		for _, c := range clients {
			n := Notification{ClientID: c, TaskGUID: taskGUID, TaskType: taskType, Param: param, Created: tx.now}
			err := tx.row(`INSERT INTO notifications (client_id, task_guid, task_type, param, created, delivered, answered, return_code)
				SELECT id, ?, ?, ?, ?, 0, 0, 0 FROM clients WHERE id = ? RETURNING push_id`, taskGUID, taskType, param, micros(tx.now), string(c)).Scan(&n.PushID)
			if errors.Is(err, sql.ErrNoRows) {
				continue
			}
			if err != nil {
				return err
			}
			added = append(added, n)
		}
		return nil
	})
	return added, err
}

// Delivered notes that a notification was sent to its client, now or again.
func (db *DB) Delivered(ctx context.Context, pushID int64) error {
	return db.transact(ctx, "notification delivered", func(tx *Tx) error {
		return tx.exec("UPDATE notifications SET delivered = ? WHERE push_id = ?", micros(tx.now), pushID)
	})
}

// Answered notes the client's answer; before says that it had answered
// already. An answer for another client's notification is opencmg.NotFound.
func (db *DB) Answered(ctx context.Context, client opencmg.ClientID, pushID int64, returnCode int) (before bool, err error) {
	err = db.transact(ctx, "notification answered", func(tx *Tx) error {
		var answered int64
		err := tx.row("SELECT answered FROM notifications WHERE push_id = ? AND client_id = ?", pushID, string(client)).Scan(&answered)
		if errors.Is(err, sql.ErrNoRows) {
			return opencmg.Errorf(opencmg.NotFound, "client %s was sent no notification %d", client, pushID)
		}
		if err != nil {
			return err
		}
		before = answered != 0
		return tx.exec("UPDATE notifications SET answered = ?, return_code = ? WHERE push_id = ? AND client_id = ?", micros(tx.now), returnCode, pushID, string(client))
	})
	return before, err
}

// KeepNotifications is how long a notification is kept, NotificationLife how long
// it is worth sending.
const (
	KeepNotifications = 30 * 24 * time.Hour
	NotificationLife  = 24 * time.Hour
)

// Waiting returns a client's notifications of the last day that it did not
// answer, oldest first, at most 100.
func (db *DB) Waiting(ctx context.Context, client opencmg.ClientID) ([]Notification, error) {
	return db.notifications(ctx, "WHERE client_id = ? AND answered = 0 AND cancelled = 0 AND created > ? ORDER BY push_id LIMIT 100", string(client), micros(db.now().Add(-NotificationLife)))
}

// WaitingClients returns the clients with a notification of the last day that
// was not sent, at most limit.
func (db *DB) WaitingClients(ctx context.Context, limit int) ([]opencmg.ClientID, error) {
	rows, err := db.query(ctx, "SELECT DISTINCT client_id FROM notifications WHERE created > ? AND answered = 0 AND cancelled = 0 AND delivered = 0 LIMIT ?", micros(db.now().Add(-NotificationLife)), limit)
	ids, err := collect(rows, err, func(row scanner) (id opencmg.ClientID, err error) {
		err = row.Scan(&id)
		return id, err
	})
	return ids, wrap(err, "clients with notifications")
}

// ClientNotifications returns the latest notifications of a client, the newest
// first, at most limit.
func (db *DB) ClientNotifications(ctx context.Context, client opencmg.ClientID, limit int) ([]Notification, error) {
	return db.notifications(ctx, "WHERE client_id = ? ORDER BY push_id DESC LIMIT ?", string(client), limit)
}

// Notification returns one notification.
func (db *DB) Notification(ctx context.Context, pushID int64) (Notification, error) {
	found, err := db.notifications(ctx, "WHERE push_id = ?", pushID)
	if err == nil && len(found) == 0 {
		err = opencmg.Errorf(opencmg.NotFound, "there is no notification %d", pushID)
	}
	if err != nil {
		return Notification{}, err
	}
	return found[0], nil
}

func (db *DB) notifications(ctx context.Context, where string, args ...any) ([]Notification, error) {
	rows, err := db.query(ctx, "SELECT push_id, operation_id, client_id, task_guid, task_type, param, created, delivered, answered, cancelled, return_code FROM notifications "+where, args...)
	if err != nil {
		return nil, wrap(err, "notifications")
	}
	defer rows.Close()
	var found []Notification
	for rows.Next() {
		var n Notification
		var created, delivered, answered int64
		if err := rows.Scan(&n.PushID, &n.Operation, &n.ClientID, &n.TaskGUID, &n.TaskType, &n.Param, &created, &delivered, &answered, &n.Cancelled, &n.ReturnCode); err != nil {
			return nil, wrap(err, "notifications")
		}
		n.Created, n.Delivered, n.Answered = fromMicros(created), fromMicros(delivered), fromMicros(answered)
		found = append(found, n)
	}
	return found, wrap(rows.Err(), "notifications")
}
