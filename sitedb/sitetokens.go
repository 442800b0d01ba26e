package sitedb

import (
	"context"
	"strings"

	"github.com/opencmg/opencmg"
)

// A TokenFilter chooses tokens that were issued to clients; its zero fields
// choose all.
type TokenFilter struct {
	ID       string // of the token, with any case
	ClientID opencmg.ClientID
	// Text is part of the name, the DNS name or the ID of the client, without
	// case.
	Text    string
	Kind    opencmg.AuthMode // AuthClientToken or AuthCCMToken
	Blocked *bool
	Expired bool // those that expired too, which are kept for a month
}

// maxTokenClients bounds the clients that a search for tokens finds.
const maxTokenClients = 1000

// A SiteToken is a token of a client, with the name of the client.
type SiteToken struct {
	Token
	Name string // empty when the client is not registered
}

// SiteTokens returns the tokens of clients that the filter chooses, the newest
// first, at most limit behind the first offset ones, and whether there are more.
// A search by text looks at the tokens of the first 1,000 clients that it finds.
func (db *DB) SiteTokens(ctx context.Context, f TokenFilter, offset, limit int) (list []SiteToken, more bool, err error) {
	const what = "list site tokens"
	var w where
	if f.Kind == "" {
		w.add("kind <> ?", string(opencmg.AuthBulkToken))
	}
	w.text("kind", string(f.Kind))
	w.text("id", strings.ToLower(f.ID))
	w.text("client_id", string(f.ClientID))
	if f.Blocked != nil {
		w.add("blocked = ?", *f.Blocked)
	}
	if !f.Expired {
		w.add("expires > ?", micros(db.now()))
	}
	if f.Text != "" {
		ids, err := db.ClientIDs(ctx, ClientFilter{Text: f.Text}, maxTokenClients)
		if err != nil {
			return nil, false, err
		}
		db.amongIDs(&w, "client_id IN", ids)
	}
	rows, err := db.query(ctx, selectToken+strings.TrimPrefix(w.sql(), " ")+" ORDER BY issued DESC, id DESC LIMIT ? OFFSET ?", append(w.args, limit+1, offset)...)
	tokens, err := collect(rows, err, scanToken)
	if err != nil {
		return nil, false, wrap(err, what)
	}
	if len(tokens) > limit {
		tokens, more = tokens[:limit], true
	}
	var ids []opencmg.ClientID
	for _, t := range tokens {
		ids = append(ids, t.ClientID)
	}
	names, err := db.ClientNames(ctx, ids)
	for _, t := range tokens {
		list = append(list, SiteToken{t, names[t.ClientID]})
	}
	return list, more, wrap(err, what)
}

// ClientNames returns the NetBIOS names of those of the clients that are
// registered.
func (db *DB) ClientNames(ctx context.Context, ids []opencmg.ClientID) (map[opencmg.ClientID]string, error) {
	var w where
	db.amongIDs(&w, "id IN", ids)
	rows, err := db.query(ctx, "SELECT id, netbios_name FROM clients"+w.sql(), w.args...)
	type named struct {
		id   opencmg.ClientID
		name string
	}
	list, err := collect(rows, err, func(row scanner) (n named, err error) {
		err = row.Scan(&n.id, &n.name)
		return n, err
	})
	names := map[opencmg.ClientID]string{}
	for _, n := range list {
		names[n.id] = n.name
	}
	return names, err
}

// SiteToken returns a token of a client by its ID.
func (tx *Tx) SiteToken(id string) (Token, error) {
	t, err := scanToken(tx.row(selectToken+"WHERE id = ? AND kind <> ?", strings.ToLower(id), string(opencmg.AuthBulkToken)))
	return t, wrap(err, "token "+id)
}
