package site

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/sitedb"
)

// Kinds of the site's objects in the database.
const (
	kindAccount          = "account"
	kindTenant           = "tenant"
	kindApplication      = "application"
	kindAzureService     = "azure-service"
	kindGateway          = "gateway"
	kindPoint            = "connection-point"
	kindRole             = "role"
	kindTrusted          = "trusted-certificate"
	kindTokenIssuer      = "token-issuer"
	kindBlocked          = "blocked-certificate"
	kindJoinToken        = "join-token"
	kindClientSettings   = "client-settings"
	kindBoundaryGroup    = "boundary-group"
	kindPublished        = "published"         // by gateway: signed published configuration
	kindDiscovery        = "discovery"         // by Azure service and kind: where it goes on
	kindAnalysis         = "analysis"          // of a gateway by the connection analyzer
	kindAnalysisSchedule = "analysis-schedule" // by gateway: when it is analyzed
	kindMappings         = "url-mappings"      // by connection point: signed
	kindFeature          = "feature"
	kindSession          = "session" // of the console
)

// A record is one object of the site, decoded. Its version is what the
// administration service shows as ETag.
type record[T any] struct {
	ID, Name         string
	Version          int64
	Created, Changed time.Time
	Value            T
}

func decode[T any](o sitedb.Object) (*record[T], error) {
	r := &record[T]{ID: o.ID, Name: o.Name, Version: o.Version, Created: o.Created, Changed: o.Changed}
	if err := json.Unmarshal(o.Body, &r.Value); err != nil {
		return nil, fmt.Errorf("%s %s in the database: %w", o.Kind, o.ID, err)
	}
	return r, nil
}

func decodeAll[T any](objects []sitedb.Object, err error) ([]*record[T], error) {
	var list []*record[T]
	for _, o := range objects {
		var r *record[T]
		if r, err = decode[T](o); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, err
}

// get reads an object in a transaction; NotFound when there is none.
func get[T any](tx *sitedb.Tx, kind, id string) (*record[T], error) {
	o, err := tx.Object(kind, id)
	if err != nil {
		return nil, err
	}
	return decode[T](o)
}

func all[T any](tx *sitedb.Tx, kind string) ([]*record[T], error) {
	return decodeAll[T](tx.Objects(kind))
}

// read is get outside a transaction, readAll is all.
func read[T any](ctx context.Context, db *sitedb.DB, kind, id string) (*record[T], error) {
	o, err := db.Object(ctx, kind, id)
	if err != nil {
		return nil, err
	}
	return decode[T](o)
}

func readAll[T any](ctx context.Context, db *sitedb.DB, kind string) ([]*record[T], error) {
	return decodeAll[T](db.Objects(ctx, kind))
}

// put stores the record: a new one when its version is 0.
func (r *record[T]) put(tx *sitedb.Tx, kind string) error {
	body, err := json.Marshal(r.Value)
	if err != nil {
		return err
	}
	o, err := tx.Put(sitedb.Object{Kind: kind, ID: r.ID, Name: r.Name, Version: r.Version, Body: body})
	if err != nil {
		return err
	}
	r.Version, r.Created, r.Changed = o.Version, o.Created, o.Changed
	return nil
}

// expect reports a change that was made since the caller looked; version 0
// expects nothing.
func (r *record[T]) expect(version int64) error {
	if version != 0 && version != r.Version {
		return opencmg.Errorf(opencmg.Stale, "%s was changed meanwhile (version %d, not %d): read it again and repeat your change", r.Name, r.Version, version)
	}
	return nil
}

// update reads a record, lets change work on it, and stores it.
func update[T any](ctx context.Context, db *sitedb.DB, kind, id string, change func(*sitedb.Tx, *record[T]) error) (*record[T], error) {
	var r *record[T]
	err := db.Change(ctx, "change "+kind, func(tx *sitedb.Tx) (err error) {
		if r, err = get[T](tx, kind, id); err != nil {
			return err
		}
		if err := change(tx, r); err != nil {
			return err
		}
		return r.put(tx, kind)
	})
	return r, err
}

// newGUID returns a random GUID in lower case (RFC 9562 version 4).
func newGUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// newSecret returns a random text of 160 bits or more.
func newSecret() string { return rand.Text() + rand.Text() }

// sameName compares names as people do.
func sameName(a, b string) bool { return strings.EqualFold(strings.TrimSpace(a), strings.TrimSpace(b)) }

// set takes a value over that a change names.
func set[T any](to *T, v *T) {
	if v != nil {
		*to = *v
	}
}

// rename takes over a name that a change gives, which must not be empty.
func rename(to *string, name *string) error {
	if name == nil {
		return nil
	}
	if *to = strings.TrimSpace(*name); *to == "" {
		return opencmg.Errorf(opencmg.Invalid, "name: must not be empty").About("name")
	}
	return nil
}
