package sitedb

import (
	"context"
	"strings"

	"github.com/opencmg/opencmg"
)

// searchText is what a search looks at, in capitals, one per line.
func searchText(netBIOSName, fqdn string, id opencmg.ClientID) string {
	return strings.ToUpper(netBIOSName + "\n" + fqdn + "\n" + string(id))
}

// like is a pattern for texts that contain the searched one.
func like(search string) string {
	return "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(strings.ToUpper(search)) + "%"
}

// Clients returns at most limit clients in the order of their IDs, beginning
// behind after. With a search text only those whose name or ID contains it, with
// a group only those that belong to it.
func (db *DB) Clients(ctx context.Context, search, group string, after opencmg.ClientID, limit int) ([]Client, error) {
	var w where
	w.add("id > ?", string(after))
	w.add(`search_text LIKE ? ESCAPE '\'`, like(search))
	w.text("group_name", group)
	rows, err := db.query(ctx, selectClient+w.sql()+" ORDER BY id LIMIT ?", append(w.args, limit)...)
	found, err := collect(rows, err, scanClient)
	return found, wrap(err, "list clients")
}

// A ClientFilter chooses clients; its zero fields choose all.
type ClientFilter struct {
	Text     string // part of the name, the DNS name or the ID, without case
	Auth     opencmg.AuthMode
	Approval *Approval
	Group    string // of the bulk registration token, with its case
}

// ListClients returns the clients that the filter chooses, by name and then by
// ID, at most limit behind the first offset ones, and how many there are in
// all.
func (db *DB) ListClients(ctx context.Context, f ClientFilter, offset, limit int) (list []Client, total int, err error) {
	var w where
	w.text("auth", string(f.Auth))
	if f.Approval != nil {
		w.add("approval = ?", int(*f.Approval))
	}
	w.text("group_name", f.Group)
	if f.Text != "" {
		w.add(`search_text LIKE ? ESCAPE '\'`, like(f.Text))
	}
	if err := db.row(ctx, "SELECT COUNT(*) FROM clients"+w.sql(), w.args...).Scan(&total); err != nil {
		return nil, 0, wrap(err, "count clients")
	}
	// The inner query is answered from an index; clients are read whole, with
	// their certificates, only for the page.
	rows, err := db.query(ctx, selectClient+"WHERE id IN (SELECT id FROM clients"+w.sql()+" ORDER BY netbios_name, id LIMIT ? OFFSET ?) ORDER BY netbios_name, id",
		append(w.args, limit, offset)...)
	list, err = collect(rows, err, scanClient)
	return list, total, wrap(err, "list clients")
}
