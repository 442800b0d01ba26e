package sitedb

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/opencmg/opencmg"
)

// searchText is what a search looks at, in capitals, one per line.
func searchText(netBIOSName, fqdn string, id opencmg.ClientID) string {
	return strings.ToUpper(netBIOSName + "\n" + fqdn + "\n" + string(id))
}

// like is a pattern for texts that contain the searched one.
func like(search string) string { return pattern(strings.ToUpper(search)) }

// likeASCII is like for texts that the database turned into capitals.
func likeASCII(search string) string {
	return pattern(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r - 'a' + 'A'
		}
		return r
	}, search))
}

func pattern(text string) string {
	return "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(text) + "%"
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
	// Among are the only ones to choose from, Except those to leave out; nil
	// does not choose. An ID is there once.
	Among, Except []opencmg.ClientID
}

// alone reports whether the filter chooses by one list of clients and nothing
// else.
func (f *ClientFilter) alone() bool {
	return f.Text == "" && f.Auth == "" && f.Approval == nil && f.Group == "" && (f.Among == nil) != (f.Except == nil)
}

// A ClientOrder is an order of clients that the database has an index for.
type ClientOrder string

// The orders of clients. Clients that are alike in it are in the order of their
// IDs.
const (
	ByName       ClientOrder = "netbios_name"
	ByLastSeen   ClientOrder = "last_seen"
	ByRegistered ClientOrder = "registered"
)

// A ClientPage says which of the chosen clients are wanted.
type ClientPage struct {
	Order      ClientOrder // ByName when empty
	Descending bool
	Offset     int
	Limit      int
}

func (db *DB) clientWhere(f *ClientFilter) *where {
	var w where
	w.text("auth", string(f.Auth))
	if f.Approval != nil {
		w.add("approval = ?", int(*f.Approval))
	}
	w.text("group_name", f.Group)
	if f.Text != "" {
		w.add(`search_text LIKE ? ESCAPE '\'`, like(f.Text))
	}
	switch {
	case f.Among == nil:
	case len(f.Among) <= fewIDs:
		db.amongIDs(&w, "id IN", f.Among)
	case db.postgres:
		// A hash to look into. Plainly written it would be a join, which looks
		// up every ID and sorts.
		w.add("(id IN ("+unnest+")) IS TRUE", texts(f.Among))
	default:
		// The sign keeps the engine from looking up every ID and sorting.
		db.amongIDs(&w, "+id IN", f.Among)
	}
	if f.Except != nil {
		db.amongIDs(&w, "id NOT IN", f.Except)
	}
	return &w
}

// fewIDs is how many clients are looked up by their IDs, one by one. In a search
// among more, clients are read in the order that is wanted and looked for in the
// list, until the page is full.
const fewIDs = 1000

// amongIDs adds a condition on a list of any length, which is one argument. It
// comes behind those that are cheaper.
func (e *engine) amongIDs(w *where, what string, ids []opencmg.ClientID) {
	if e.postgres {
		w.add(what+" ("+unnest+")", texts(ids))
		return
	}
	w.add(what+" (SELECT value FROM json_each(?))", jsonList(ids))
}

// unnest makes rows of an argument that is a list of texts, on PostgreSQL.
const unnest = "SELECT unnest(CAST(? AS text[]))"

func texts(ids []opencmg.ClientID) []string {
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = plainText(string(id))
	}
	return list
}

func jsonList(ids []opencmg.ClientID) string {
	list, err := json.Marshal(append([]opencmg.ClientID{}, ids...))
	if err != nil {
		panic(err) // texts
	}
	return string(list)
}

func (p ClientPage) orderBy() string {
	by, direction := p.Order, ""
	if by == "" {
		by = ByName
	}
	if p.Descending {
		direction = " DESC"
	}
	return fmt.Sprintf(" ORDER BY %s%s, id%s", by, direction, direction)
}

// ListClients returns a page of the clients that the filter chooses, and whether
// there are more behind it.
func (db *DB) ListClients(ctx context.Context, f ClientFilter, p ClientPage) (list []Client, more bool, err error) {
	w := db.clientWhere(&f)
	// The inner query is answered from an index; clients are read whole, with
	// their certificates, only for the page.
	rows, err := db.query(ctx, selectClient+"WHERE id IN (SELECT id FROM clients"+w.sql()+p.orderBy()+" LIMIT ? OFFSET ?)"+p.orderBy(),
		append(w.args, p.Limit+1, p.Offset)...)
	list, err = collect(rows, err, scanClient)
	if len(list) > p.Limit {
		list, more = list[:p.Limit], true
	}
	return list, more, wrap(err, "list clients")
}

// ListAndCount is [DB.ListClients] with the number of all that the filter
// chooses, counted up to most. The two cost less together.
func (db *DB) ListAndCount(ctx context.Context, f ClientFilter, p ClientPage, most int) (list []Client, more bool, total int, err error) {
	if len(f.Among)+len(f.Except) <= fewIDs || f.alone() {
		var g errgroup.Group
		g.Go(func() (err error) {
			total, err = db.CountClients(ctx, f, most)
			return err
		})
		list, more, err = db.ListClients(ctx, f, p)
		return list, more, total, cmp.Or(g.Wait(), err)
	}
	// Everybody has to be looked at once, and looked for in the list: this is
	// what takes the time, and those who remain are few.
	w := db.clientWhere(&f)
	by := cmp.Or(p.Order, ByName)
	rows, err := db.query(ctx, fmt.Sprintf("WITH f AS MATERIALIZED (SELECT id, %s FROM clients%s) SELECT id, (SELECT COUNT(*) FROM f) FROM f%s LIMIT ? OFFSET ?", by, w.sql(), p.orderBy()),
		append(w.args, p.Limit+1, p.Offset)...)
	ids, err := collect(rows, err, func(row scanner) (id opencmg.ClientID, err error) {
		err = row.Scan(&id, &total)
		return id, err
	})
	switch {
	case err != nil:
		return nil, false, 0, wrap(err, "list clients")
	case len(ids) == 0 && p.Offset > 0: // behind the end
		total, err = db.CountClients(ctx, f, most)
		return nil, false, total, err
	}
	if len(ids) > p.Limit {
		ids, more = ids[:p.Limit], true
	}
	var page where
	db.amongIDs(&page, "id IN", ids)
	rows, err = db.query(ctx, strings.TrimSuffix(selectClient, " ")+page.sql()+p.orderBy(), page.args...)
	list, err = collect(rows, err, scanClient)
	return list, more, min(total, most), wrap(err, "list clients")
}

// CountClients counts the clients that the filter chooses, and stops at most.
func (db *DB) CountClients(ctx context.Context, f ClientFilter, most int) (n int, err error) {
	if ids := append(f.Among, f.Except...); !db.postgres && len(ids) > fewIDs && f.alone() {
		// To look up some IDs costs less than to look at every client.
		known := "(SELECT COUNT(*) FROM json_each(?) AS j CROSS JOIN clients AS c ON c.id = j.value)"
		if f.Except != nil {
			known = "(SELECT COUNT(*) FROM clients) - " + known
		}
		err = db.row(ctx, "SELECT "+known, jsonList(ids)).Scan(&n)
		return min(n, most), wrap(err, "count clients")
	}
	w := db.clientWhere(&f)
	err = db.row(ctx, "SELECT COUNT(*) FROM (SELECT 1 FROM clients"+w.sql()+" LIMIT ?) AS found", append(w.args, most)...).Scan(&n)
	return n, wrap(err, "count clients")
}

// ClientIDs returns the IDs of the clients that the filter chooses, by name, at
// most limit.
func (db *DB) ClientIDs(ctx context.Context, f ClientFilter, limit int) ([]opencmg.ClientID, error) {
	w := db.clientWhere(&f)
	rows, err := db.query(ctx, "SELECT id FROM clients"+w.sql()+ClientPage{}.orderBy()+" LIMIT ?", append(w.args, limit)...)
	ids, err := collect(rows, err, func(row scanner) (id opencmg.ClientID, err error) {
		err = row.Scan(&id)
		return id, err
	})
	return ids, wrap(err, "list clients")
}
