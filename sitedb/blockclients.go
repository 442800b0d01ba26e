package sitedb

import (
	"context"
	"database/sql"

	"github.com/opencmg/opencmg"
)

// BlockClient refuses a client from now on: its approval, and every token that
// it was issued. What it was to be notified of is cancelled. It returns the
// client as it was before. Blocking a blocked one changes nothing but the tokens
// that it got since.
func (tx *Tx) BlockClient(id opencmg.ClientID, account, reason string) (Client, error) {
	c, err := tx.Client(id)
	if err != nil {
		return c, err
	}
	if c.Blocked.IsZero() {
		if err := tx.exec("UPDATE clients SET approval_before = approval, approval = ?, blocked = ?, blocked_by = ?, block_reason = ?, changed = ? WHERE id = ?",
			int(ApprovalRefused), micros(tx.now), account, reason, micros(tx.now), string(id)); err != nil {
			return c, err
		}
	}
	if err := tx.exec("UPDATE tokens SET blocked = 1, blocked_with_client = 1 WHERE client_id = ? AND blocked = 0", string(id)); err != nil {
		return c, err
	}
	return c, tx.exec("UPDATE notifications SET cancelled = 1 WHERE client_id = ? AND answered = 0", string(id))
}

// ReadmitClient takes back what [Tx.BlockClient] did: the client is approved as
// it was before, or at all if it was not, and the tokens that were blocked with
// it count again. Tokens that were blocked one by one stay blocked. It returns
// the client as it was before; one that is not refused stays as it is.
func (tx *Tx) ReadmitClient(id opencmg.ClientID) (Client, error) {
	c, err := tx.Client(id)
	if err != nil || c.Approval != ApprovalRefused {
		return c, err
	}
	var before Approval
	if err := tx.row("SELECT approval_before FROM clients WHERE id = ?", string(id)).Scan(&before); err != nil {
		return c, err
	}
	switch {
	case before.Trusted():
	case c.TenantID != "" && c.DeviceID != "":
		before = ApprovedByEntra
	default:
		before = Approved
	}
	if err := tx.exec("UPDATE clients SET approval = ?, approval_before = 0, blocked = 0, blocked_by = '', block_reason = '', changed = ? WHERE id = ?",
		int(before), micros(tx.now), string(id)); err != nil {
		return c, err
	}
	return c, tx.exec("UPDATE tokens SET blocked = 0, blocked_with_client = 0 WHERE client_id = ? AND blocked_with_client = 1", string(id))
}

// refusedDevice finds the refused client that proved the same Entra device or
// the same PKI subject; sql.ErrNoRows when there is none. Otherwise a new key
// would be all that a blocked device needs.
func (tx *Tx) refusedDevice(c Client) (Client, error) {
	for _, by := range []struct{ column, value string }{{"device_id", c.DeviceID}, {"subject", c.Subject}} {
		if by.value == "" {
			continue
		}
		rows, err := tx.query(selectClient+"WHERE "+by.column+" = ? AND approval = ? ORDER BY changed DESC LIMIT 10", by.value, int(ApprovalRefused))
		found, err := collect(rows, err, scanClient)
		if err != nil {
			return Client{}, err
		}
		for _, known := range found {
			if sameDevice(known, c) {
				return known, nil
			}
		}
	}
	return Client{}, sql.ErrNoRows
}

// ClientTrusted reports whether the client is registered and approved.
func (db *DB) ClientTrusted(ctx context.Context, id opencmg.ClientID) (bool, error) {
	var n int
	err := db.row(ctx, "SELECT COUNT(*) FROM clients WHERE id = ? AND approval > 0", string(id)).Scan(&n)
	return n > 0, wrap(err, "client "+string(id))
}

// PolicyRequested notes that the client asked for policy now, and so is alive.
func (db *DB) PolicyRequested(ctx context.Context, id opencmg.ClientID) error {
	return db.transact(ctx, "note a policy request", func(tx *Tx) error {
		return tx.exec("UPDATE clients SET last_policy = ?, last_seen = ? WHERE id = ?", micros(tx.now), micros(tx.now), string(id))
	})
}
