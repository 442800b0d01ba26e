package sitedb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

// maxBody is the largest body of an object, in bytes.
const maxBody = 16 << 20

// An Object is a configuration object of the site: a document that is read and
// written whole. Its body holds no secret, see [Tx.PutSecret].
type Object struct {
	Kind string // e.g. gateway
	ID   string // unique within the kind
	Name string // unique within the kind without case, unless empty
	// Version is 1 when the object was made and grows by one with every
	// change: what an ETag needs.
	Version int64
	Created time.Time
	Changed time.Time
	Body    json.RawMessage
}

const selectObject = "SELECT kind, id, name, version, created, changed, body FROM objects "

const orderObjects = " ORDER BY name, id"

func scanObject(row scanner) (Object, error) {
	var o Object
	var created, changed int64
	var body string
	err := row.Scan(&o.Kind, &o.ID, &o.Name, &o.Version, &created, &changed, &body)
	o.Created, o.Changed, o.Body = fromMicros(created), fromMicros(changed), json.RawMessage(body)
	return o, err
}

func scanOneObject(row scanner, kind, id string) (Object, error) {
	o, err := scanObject(row)
	if errors.Is(err, sql.ErrNoRows) {
		err = noObject(kind, id)
	}
	if err != nil {
		return Object{}, err
	}
	return o, nil
}

func noObject(kind, id string) error {
	return opencmg.Errorf(opencmg.NotFound, "there is no %s with ID %s", kind, id)
}

// Objects returns all objects of a kind, by name and then by ID.
func (db *DB) Objects(ctx context.Context, kind string) ([]Object, error) {
	rows, err := db.query(ctx, selectObject+"WHERE kind = ?"+orderObjects, kind)
	all, err := collect(rows, err, scanObject)
	return all, wrap(err, "list objects of kind "+kind)
}

// Object returns one object, or opencmg.NotFound.
func (db *DB) Object(ctx context.Context, kind, id string) (Object, error) {
	o, err := scanOneObject(db.row(ctx, selectObject+"WHERE kind = ? AND id = ?", kind, id), kind, id)
	return o, wrap(err, "read object")
}

// Objects returns all objects of a kind, by name and then by ID.
func (tx *Tx) Objects(kind string) ([]Object, error) {
	rows, err := tx.query(selectObject+"WHERE kind = ?"+orderObjects, kind)
	return collect(rows, err, scanObject)
}

// Object returns one object, or opencmg.NotFound.
func (tx *Tx) Object(kind, id string) (Object, error) {
	return scanOneObject(tx.row(selectObject+"WHERE kind = ? AND id = ?", kind, id), kind, id)
}

// Put stores an object and returns it with its new version and times. Version
// 0 makes it: opencmg.Conflict when there is one with its ID or its name. Any
// other version must be the stored one, else it is opencmg.Conflict, for
// somebody changed the object meanwhile, or opencmg.NotFound when it is gone.
func (tx *Tx) Put(o Object) (Object, error) {
	o.Kind, o.ID, o.Name, o.Body = plainText(o.Kind), plainText(o.ID), plainText(o.Name), json.RawMessage(plainText(string(o.Body)))
	switch {
	case o.Kind == "" || o.ID == "" || o.Version < 0:
		return Object{}, opencmg.Errorf(opencmg.Invalid, "an object needs a kind, an ID and a version of 0 or more")
	case len(o.Body) > maxBody:
		return Object{}, opencmg.Errorf(opencmg.TooLarge, "%s %s: %d bytes are more than the %d that an object may have", o.Kind, o.ID, len(o.Body), maxBody)
	case !json.Valid(o.Body):
		return Object{}, opencmg.Errorf(opencmg.Invalid, "%s %s: the body is no JSON", o.Kind, o.ID)
	}
	stored, err := tx.Object(o.Kind, o.ID)
	switch {
	case errors.Is(err, opencmg.NotFound):
		if o.Version != 0 {
			return Object{}, err
		}
		o.Created = tx.now
	case err != nil:
		return Object{}, err
	case o.Version == 0:
		return Object{}, opencmg.Errorf(opencmg.Conflict, "there is a %s with ID %s already", o.Kind, o.ID)
	case o.Version != stored.Version:
		return Object{}, changedMeanwhile(stored, o.Version)
	default:
		o.Created = stored.Created
	}
	key := strings.ToLower(o.Name)
	var other string
	err = tx.row("SELECT id FROM objects WHERE kind = ? AND name_key = ? AND name_key <> '' AND id <> ?", o.Kind, key, o.ID).Scan(&other)
	if err == nil {
		return Object{}, opencmg.Errorf(opencmg.Conflict, "there is a %s with the name %s already; choose another name", o.Kind, o.Name).About("name")
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return Object{}, err
	}
	o.Version++
	o.Changed = tx.now
	return o, tx.exec(`INSERT INTO objects (kind, id, name, name_key, version, created, changed, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (kind, id) DO UPDATE SET name = excluded.name, name_key = excluded.name_key, version = excluded.version, changed = excluded.changed, body = excluded.body`,
		o.Kind, o.ID, o.Name, key, o.Version, micros(o.Created), micros(o.Changed), string(o.Body))
}

func changedMeanwhile(stored Object, version int64) error {
	return opencmg.Errorf(opencmg.Conflict, "%s %s was changed meanwhile, it has version %d now and not %d; read it again and repeat the change", stored.Kind, stored.ID, stored.Version, version)
}

// Delete removes an object if it still has this version; 0 removes any.
func (tx *Tx) Delete(kind, id string, version int64) error {
	stored, err := tx.Object(kind, id)
	if err != nil {
		return err
	}
	if version != 0 && version != stored.Version {
		return changedMeanwhile(stored, version)
	}
	return tx.exec("DELETE FROM objects WHERE kind = ? AND id = ?", kind, id)
}

// NextNumber returns 1, 2, ... for each name: numbers that are never given out
// again, unless the transaction fails.
func (tx *Tx) NextNumber(name string) (n int64, err error) {
	err = tx.row("INSERT INTO counters (name, value) VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = counters.value + 1 RETURNING value", name).Scan(&n)
	return n, err
}
