package sitedb

import (
	"context"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

// A Token is what the site remembers of a token it issued: never the token
// itself.
type Token struct {
	ID         string
	Kind       opencmg.AuthMode // AuthBulkToken, AuthClientToken or AuthCCMToken
	ClientID   opencmg.ClientID // empty for bulk tokens
	Thumbprint string           // of the certificate it is bound to
	Issued     time.Time
	Expires    time.Time
	Blocked    bool
	// TokenLimits and Description are of bulk tokens.
	TokenLimits
	Description string
	// Used is how many keys registered with a bulk token, LastUsed when one did
	// last, or did so again; zero before the first.
	Used     int
	LastUsed time.Time
}

// RecordToken remembers an issued token, and forgets those that expired more
// than a month ago. The token of a client that was refused meanwhile is blocked
// at once.
func (db *DB) RecordToken(ctx context.Context, t Token) error {
	return db.transact(ctx, "record token", func(tx *Tx) error {
		if err := tx.exec("DELETE FROM tokens WHERE expires < ?", micros(tx.now.AddDate(0, -1, 0))); err != nil {
			return err
		}
		return tx.exec("INSERT INTO tokens (id, kind, client_id, thumbprint, issued, expires, blocked, max_uses, sources, group_name, description) VALUES (?, ?, ?, ?, ?, ?, (SELECT COUNT(*) FROM clients WHERE id = ? AND approval = -1), ?, ?, ?, ?)",
			append([]any{strings.ToLower(t.ID), string(t.Kind), string(t.ClientID), t.Thumbprint, micros(t.Issued), micros(t.Expires), string(t.ClientID)}, t.limited()...)...)
	})
}

// BlockToken blocks or unblocks a token by its ID.
func (db *DB) BlockToken(ctx context.Context, id string, blocked bool) error {
	return db.transact(ctx, "block token", func(tx *Tx) error { return tx.BlockToken(id, blocked) })
}

// BlockToken blocks or unblocks a token by its ID.
func (tx *Tx) BlockToken(id string, blocked bool) error {
	return tx.must(opencmg.Errorf(opencmg.NotFound, "there is no token %s", id), "UPDATE tokens SET blocked = ?, blocked_with_client = 0 WHERE id = ?", blocked, strings.ToLower(id))
}

// TokenBlocked reports whether the token with this ID is known and blocked.
func (db *DB) TokenBlocked(ctx context.Context, id string) (bool, error) {
	var n int
	err := db.row(ctx, "SELECT COUNT(*) FROM tokens WHERE id = ? AND blocked = 1", strings.ToLower(id)).Scan(&n)
	return n > 0, wrap(err, "token")
}

// BlockedTokens returns the IDs of blocked tokens that have not expired, for
// the published configuration.
func (db *DB) BlockedTokens(ctx context.Context) ([]string, error) {
	tokens, err := db.tokens(ctx, "WHERE blocked = 1 AND expires > ? ORDER BY id", micros(db.now()))
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, t := range tokens {
		ids = append(ids, t.ID)
	}
	return ids, nil
}

func (db *DB) tokens(ctx context.Context, where string, args ...any) ([]Token, error) {
	rows, err := db.query(ctx, selectToken+where, args...)
	found, err := collect(rows, err, scanToken)
	return found, wrap(err, "tokens")
}
