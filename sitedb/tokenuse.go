package sitedb

import (
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/opencmg/opencmg"
)

// TokenLimits say what a bulk registration token may be used for.
type TokenLimits struct {
	// MaxUses is how many keys may register with the token; 0 is any number.
	MaxUses int
	// Sources are the prefixes that a registering client's address must be in;
	// empty is everywhere.
	Sources []netip.Prefix
	// Group is a label that clients carry which register with the token.
	Group string
}

// A TokenRefusal says why a client may not register with a bulk registration
// token. It is of kind opencmg.Unauthorized, and for logs: the caller learns
// only that the token is not accepted.
type TokenRefusal struct {
	TokenID string
	Cause   string
}

// Error says which token and why.
func (r *TokenRefusal) Error() string { return "token " + r.TokenID + " " + r.Cause }

// Unwrap gives the kind.
func (r *TokenRefusal) Unwrap() error { return opencmg.Unauthorized }

// useToken counts a registration with a bulk registration token and returns the
// group that the client belongs to. A key counts once, however often it
// registers. A token that this database never recorded, such as one made in a
// directory of files, has no limits.
func (tx *Tx) useToken(id, key string, source netip.Addr) (group string, err error) {
	id = strings.ToLower(id)
	t, err := scanToken(tx.row(selectToken+"WHERE id = ?", id))
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var known int
	if err := tx.row("SELECT COUNT(*) FROM token_uses WHERE token_id = ? AND signing_key = ?", id, key).Scan(&known); err != nil {
		return "", err
	}
	if cause := t.refusal(source, known > 0); cause != "" {
		return "", &TokenRefusal{id, cause}
	}
	if known == 0 {
		if err := tx.exec("INSERT INTO token_uses (token_id, signing_key, at) VALUES (?, ?, ?)", id, key, micros(tx.now)); err != nil {
			return "", err
		}
	}
	return t.Group, tx.exec("UPDATE tokens SET used = ?, last_used = ? WHERE id = ?", t.Used+1-min(known, 1), micros(tx.now), id)
}

// refusal says why the token does not let a client at source register; empty
// when it does. again is true for a key that registered with it before.
func (t *Token) refusal(source netip.Addr, again bool) string {
	switch {
	case t.Blocked:
		return "is blocked"
	case len(t.Sources) > 0 && !source.IsValid():
		return "may be used only from " + joinPrefixes(t.Sources, ", ") + ", and the client's address is not known: the gateway must be of this release"
	case len(t.Sources) > 0 && !slices.ContainsFunc(t.Sources, func(p netip.Prefix) bool { return p.Contains(source.Unmap()) }):
		return fmt.Sprintf("may not be used from %s, only from %s", source, joinPrefixes(t.Sources, ", "))
	case !again && t.MaxUses > 0 && t.Used >= t.MaxUses:
		return fmt.Sprintf("is used up: %d clients registered with it", t.Used)
	}
	return ""
}

const selectToken = "SELECT id, kind, client_id, thumbprint, issued, expires, blocked, max_uses, sources, group_name, description, used, last_used FROM tokens "

func scanToken(row scanner) (Token, error) {
	var t Token
	var issued, expires, used int64
	var sources string
	err := row.Scan(&t.ID, &t.Kind, &t.ClientID, &t.Thumbprint, &issued, &expires, &t.Blocked, &t.MaxUses, &sources, &t.Group, &t.Description, &t.Used, &used)
	if err != nil {
		return Token{}, err
	}
	for _, s := range strings.Fields(sources) {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return Token{}, fmt.Errorf("stored sources of token %s: %w", t.ID, err)
		}
		t.Sources = append(t.Sources, p)
	}
	t.Issued, t.Expires, t.LastUsed = fromMicros(issued), fromMicros(expires), fromMicros(used)
	return t, nil
}

func joinPrefixes(list []netip.Prefix, separator string) string {
	var texts []string
	for _, p := range list {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, separator)
}

// limited are the columns of a token's limits, for RecordToken.
func (t *Token) limited() []any {
	return []any{t.MaxUses, joinPrefixes(t.Sources, " "), plainText(t.Group), plainText(t.Description)}
}
