package sitedb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

// Kinds of directory objects.
const (
	DirectoryUser  = "user"
	DirectoryGroup = "group"
)

// A DirectoryObject is a user or a group of a tenant's directory.
type DirectoryObject struct {
	TenantID string
	Kind     string
	ID       string // object ID
	Name     string // for people
	Changed  time.Time
	Body     json.RawMessage // an object; what it means is the caller's affair
	Members  int             // of a group
}

// A DirectoryChange is what discovery learned about one object.
type DirectoryChange struct {
	ID      string
	Removed bool
	// Fields are the properties that it learned; the others stay, within one
	// full discovery or from one delta to the next.
	Fields  map[string]any
	Members []DirectoryMember // that came or left
}

// A DirectoryMember is a member of a group.
type DirectoryMember struct {
	ID      string
	Type    string // user, group, device ...
	Removed bool
}

// A DirectoryBatch is a page of changes.
type DirectoryBatch struct {
	TenantID string
	Kind     string
	// Pass is the number of the full discovery that this belongs to, which
	// grows; 0 in a delta.
	Pass    int64
	Changes []DirectoryChange
	// Name and Search are the fields that are the object's name and that
	// searches look at.
	Name   string
	Search []string
	// Keep says by its name whether an object is wanted; nil wants all.
	Keep func(name string) bool
}

// SaveDirectory stores a batch. Storing it again changes nothing.
func (db *DB) SaveDirectory(ctx context.Context, b DirectoryBatch) error {
	return db.transact(ctx, "save directory objects", func(tx *Tx) error {
		for _, c := range b.Changes {
			if err := tx.saveDirectory(&b, &c); err != nil {
				return err
			}
		}
		return nil
	})
}

func (tx *Tx) saveDirectory(b *DirectoryBatch, c *DirectoryChange) error {
	if c.Removed {
		return tx.removeDirectory(b.TenantID, b.Kind, c.ID)
	}
	var pass int64
	var body string
	err := tx.row("SELECT pass, body FROM directory_objects WHERE tenant_id = ? AND kind = ? AND id = ?", b.TenantID, b.Kind, c.ID).Scan(&pass, &body)
	found := err == nil
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	fields := map[string]any{}
	fresh := b.Pass != 0 && pass != b.Pass // seen for the first time in this full discovery
	if found && !fresh {
		if err := json.Unmarshal([]byte(body), &fields); err != nil {
			return fmt.Errorf("%s %s: %w", b.Kind, c.ID, err)
		}
	}
	for k, v := range c.Fields {
		fields[k] = v
	}
	text := func(field string) string {
		s, _ := fields[field].(string)
		return s
	}
	name := text(b.Name)
	if b.Keep != nil && !b.Keep(name) {
		if !found {
			return nil
		}
		return tx.removeDirectory(b.TenantID, b.Kind, c.ID)
	}
	search := []string{c.ID}
	for _, f := range b.Search {
		if s := text(f); s != "" {
			search = append(search, s)
		}
	}
	encoded, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	if b.Pass != 0 {
		pass = b.Pass
	}
	err = tx.exec(`INSERT INTO directory_objects (tenant_id, kind, id, name, name_key, search_text, pass, changed, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (tenant_id, kind, id) DO UPDATE SET name = excluded.name, name_key = excluded.name_key, search_text = excluded.search_text, pass = excluded.pass, changed = excluded.changed, body = excluded.body`,
		b.TenantID, b.Kind, c.ID, plainText(name), strings.ToUpper(plainText(name)), strings.ToUpper(plainText(strings.Join(search, "\n"))), pass, micros(tx.now), string(encoded))
	if err != nil {
		return err
	}
	if fresh {
		if err := tx.exec("DELETE FROM directory_members WHERE tenant_id = ? AND group_id = ?", b.TenantID, c.ID); err != nil {
			return err
		}
	}
	for _, m := range c.Members {
		query, args := "INSERT INTO directory_members (tenant_id, group_id, member_id, type) VALUES (?, ?, ?, ?) ON CONFLICT (tenant_id, group_id, member_id) DO UPDATE SET type = excluded.type", []any{b.TenantID, c.ID, m.ID, m.Type}
		if m.Removed {
			query, args = "DELETE FROM directory_members WHERE tenant_id = ? AND group_id = ? AND member_id = ?", args[:3]
		}
		if err := tx.exec(query, args...); err != nil {
			return err
		}
	}
	return nil
}

func (tx *Tx) removeDirectory(tenant, kind, id string) error {
	if kind == DirectoryGroup {
		if err := tx.exec("DELETE FROM directory_members WHERE tenant_id = ? AND group_id = ?", tenant, id); err != nil {
			return err
		}
	}
	return tx.exec("DELETE FROM directory_objects WHERE tenant_id = ? AND kind = ? AND id = ?", tenant, kind, id)
}

// EndDirectoryPass removes what the full discovery did not see, and returns how
// many objects that were.
func (db *DB) EndDirectoryPass(ctx context.Context, tenant, kind string, pass int64) (removed int64, err error) {
	err = db.transact(ctx, "end discovery", func(tx *Tx) error {
		if kind == DirectoryGroup {
			if err := tx.exec("DELETE FROM directory_members WHERE tenant_id = ? AND group_id IN (SELECT id FROM directory_objects WHERE tenant_id = ? AND kind = ? AND pass <> ?)", tenant, tenant, kind, pass); err != nil {
				return err
			}
		}
		removed, err = tx.count("DELETE FROM directory_objects WHERE tenant_id = ? AND kind = ? AND pass <> ?", tenant, kind, pass)
		return err
	})
	return removed, err
}

// RemoveDirectory forgets all users and groups of a tenant.
func (tx *Tx) RemoveDirectory(tenant string) error {
	if err := tx.exec("DELETE FROM directory_members WHERE tenant_id = ?", tenant); err != nil {
		return err
	}
	return tx.exec("DELETE FROM directory_objects WHERE tenant_id = ?", tenant)
}

// A DirectoryFilter chooses objects of one kind; its other fields choose all
// when they are zero.
type DirectoryFilter struct {
	Kind     string
	TenantID string
	ID       string
	Text     string // part of what searches look at, without case
	Group    string // only its members
}

// Directory returns the objects that the filter chooses, by name and then by ID,
// at most limit behind the first offset ones, and how many there are in all.
func (db *DB) Directory(ctx context.Context, f DirectoryFilter, descending bool, offset, limit int) (list []DirectoryObject, total int, err error) {
	if f.Kind != DirectoryUser && f.Kind != DirectoryGroup {
		return nil, 0, opencmg.Errorf(opencmg.Invalid, "directory objects of kind %q: must be %s or %s", f.Kind, DirectoryUser, DirectoryGroup)
	}
	var w where
	w.text("kind", f.Kind)
	w.text("tenant_id", f.TenantID)
	w.text("id", f.ID)
	if f.Text != "" {
		w.add(`search_text LIKE ? ESCAPE '\'`, like(f.Text))
	}
	if f.Group != "" {
		w.add("EXISTS (SELECT 1 FROM directory_members m WHERE m.tenant_id = directory_objects.tenant_id AND m.group_id = ? AND m.member_id = directory_objects.id)", f.Group)
	}
	const what = "list directory objects"
	if err := db.row(ctx, "SELECT COUNT(*) FROM directory_objects"+w.sql(), w.args...).Scan(&total); err != nil {
		return nil, 0, wrap(err, what)
	}
	order := " ORDER BY name_key, id, tenant_id"
	if descending {
		order = " ORDER BY name_key DESC, id DESC, tenant_id DESC"
	}
	rows, err := db.query(ctx, `SELECT tenant_id, kind, id, name, changed, body,
		(SELECT COUNT(*) FROM directory_members m WHERE m.tenant_id = directory_objects.tenant_id AND m.group_id = directory_objects.id)
		FROM directory_objects`+w.sql()+order+" LIMIT ? OFFSET ?", append(w.args, limit, offset)...)
	list, err = collect(rows, err, func(row scanner) (o DirectoryObject, err error) {
		var changed int64
		var body string
		err = row.Scan(&o.TenantID, &o.Kind, &o.ID, &o.Name, &changed, &body, &o.Members)
		o.Changed, o.Body = fromMicros(changed), json.RawMessage(body)
		return o, err
	})
	return list, total, wrap(err, what)
}
