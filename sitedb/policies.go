package sitedb

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/opencmg/opencmg"
)

// A Policy is a policy body with what an assignment says about it.
type Policy struct {
	ID       string // {GUID}
	Version  string
	Type     string // Machine or User
	Category string
	Flags    uint32
	Hash     string // names the body, e.g. ccm.PolicyHash
	Body     []byte // as it is served
}

// An Assignment gives a policy to one client or to all.
type Assignment struct {
	ID      string // {GUID}
	Removed bool
	Changed time.Time
	Policy  Policy // without Body
}

// AssignPolicy stores the policy and assigns it under the given assignment ID
// to the client, or to all clients when client is empty. Nothing happens when
// all that is so already; otherwise clients learn of it by their next request.
func (db *DB) AssignPolicy(ctx context.Context, assignment string, p Policy, client opencmg.ClientID) error {
	return db.transact(ctx, "assign policy", func(tx *Tx) error {
		var hash, version string
		var flags uint32
		err := tx.row("SELECT hash, version, flags FROM policies WHERE id = ?", p.ID).Scan(&hash, &version, &flags)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		same := err == nil && hash == p.Hash && version == p.Version && flags == p.Flags
		if !same {
			if err := tx.exec(`INSERT INTO policies (id, version, type, category, flags, hash, body) VALUES (?, ?, ?, ?, ?, ?, ?)
				ON CONFLICT (id) DO UPDATE SET version = excluded.version, type = excluded.type, category = excluded.category, flags = excluded.flags, hash = excluded.hash, body = excluded.body`,
				p.ID, p.Version, p.Type, p.Category, p.Flags, p.Hash, p.Body); err != nil {
				return err
			}
		}
		change, err := tx.nextChange()
		if err != nil {
			return err
		}
		if !same {
			if err := tx.exec("UPDATE policy_assignments SET changed = ? WHERE policy_id = ? AND removed = 0", change, p.ID); err != nil {
				return err
			}
		}
		return tx.exec(`INSERT INTO policy_assignments (id, policy_id, client_id, removed, changed) VALUES (?, ?, ?, 0, ?)
			ON CONFLICT (policy_id, client_id) DO UPDATE SET removed = 0, changed = excluded.changed WHERE policy_assignments.removed = 1`,
			assignment, p.ID, string(client), change)
	})
}

// RemovePolicy takes the policy away from the client, or from all clients when
// client is empty.
func (db *DB) RemovePolicy(ctx context.Context, policyID string, client opencmg.ClientID) error {
	return db.transact(ctx, "remove policy", func(tx *Tx) error {
		change, err := tx.nextChange()
		if err != nil {
			return err
		}
		return tx.must(opencmg.Errorf(opencmg.NotFound, "policy %s is not assigned", policyID),
			"UPDATE policy_assignments SET removed = 1, changed = ? WHERE policy_id = ? AND client_id = ? AND removed = 0", change, policyID, string(client))
	})
}

// nextChange is a time later than every recorded change by at least a
// millisecond, the resolution of the cookie that clients send back, even when
// the clock stands still or goes back.
func (tx *Tx) nextChange() (int64, error) {
	var last int64
	if err := tx.row("SELECT COALESCE(MAX(changed), 0) FROM policy_assignments").Scan(&last); err != nil {
		return 0, err
	}
	const milli = int64(time.Millisecond / time.Microsecond)
	return max(micros(tx.now), last+milli) / milli * milli, nil
}

// Assignments returns the assignments of a client, changed after since; the
// zero time asks for all that are in force. Removed ones are listed only to a
// client that asks for changes. latest is what to give as since next time.
func (db *DB) Assignments(ctx context.Context, client opencmg.ClientID, since time.Time) (list []Assignment, latest time.Time, err error) {
	rows, err := db.query(ctx, `SELECT a.id, a.removed, a.changed, p.id, p.version, p.type, p.category, p.flags, p.hash
		FROM policy_assignments a JOIN policies p ON p.id = a.policy_id
		WHERE (a.client_id = '' OR a.client_id = ?) AND a.changed > ? ORDER BY a.changed, a.id`, string(client), micros(since))
	if err != nil {
		return nil, time.Time{}, wrap(err, "policy assignments")
	}
	defer rows.Close()
	latest = since
	for rows.Next() {
		var a Assignment
		var changed int64
		if err := rows.Scan(&a.ID, &a.Removed, &changed, &a.Policy.ID, &a.Policy.Version, &a.Policy.Type, &a.Policy.Category, &a.Policy.Flags, &a.Policy.Hash); err != nil {
			return nil, time.Time{}, wrap(err, "policy assignments")
		}
		a.Changed = fromMicros(changed)
		latest = a.Changed
		if !a.Removed || !since.IsZero() {
			list = append(list, a)
		}
	}
	return list, latest, wrap(rows.Err(), "policy assignments")
}

// PolicyFor returns a policy with its body, if it is assigned to the client.
func (db *DB) PolicyFor(ctx context.Context, client opencmg.ClientID, id string) (Policy, error) {
	p := Policy{ID: id}
	err := db.row(ctx, `SELECT p.version, p.type, p.category, p.flags, p.hash, p.body FROM policies p
		WHERE p.id = ? AND EXISTS (SELECT 1 FROM policy_assignments a WHERE a.policy_id = p.id AND a.removed = 0 AND (a.client_id = '' OR a.client_id = ?))`, id, string(client)).
		Scan(&p.Version, &p.Type, &p.Category, &p.Flags, &p.Hash, &p.Body)
	return p, wrap(err, "policy "+id)
}

// Policy returns a policy with its body, whoever it is assigned to.
func (db *DB) Policy(ctx context.Context, id string) (Policy, error) {
	p := Policy{ID: id}
	err := db.row(ctx, "SELECT version, type, category, flags, hash, body FROM policies WHERE id = ?", id).
		Scan(&p.Version, &p.Type, &p.Category, &p.Flags, &p.Hash, &p.Body)
	return p, wrap(err, "policy "+id)
}
