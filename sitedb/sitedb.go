// Package sitedb keeps a site's state: its configuration objects, secrets and
// running operations, what it tells administrators, its traffic, and its
// clients with what they reported, the policies they get, the tokens they were
// given and the notifications sent to them.
//
// Each method of [DB] is one whole act in the site's words and one transaction;
// [DB.Change] makes one of several steps. When a method that writes returns
// nil, its effect survives the process being killed and the power going out.
// Errors carry a kind of package opencmg: NotFound, Conflict, Invalid, or
// Unavailable when the database is busy, not reached, or its disk full.
//
// The database is one SQLite file (with -wal and -shm beside it), readable by
// its owner only, or a database of a PostgreSQL server of version 13 or later
// that belongs to the site. Both behave alike, and several processes may use
// one at once. Text is compared by its bytes; times are kept to the
// microsecond.
//
// A configuration object is a document with a version ([Object]): there are
// few, and they are read and written whole. What grows with clients or with
// time has a table of its own.
//
// Secrets are stored encrypted under the key in [Config.KeyFile], which is in
// no backup: keep a copy of the key file apart from the backups. No other
// table holds a secret.
package sitedb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Config says where the database is: Path or DSN.
type Config struct {
	// Path is the SQLite file; it is made when missing, its folder is not.
	Path string
	// DSN is the address of a PostgreSQL database, which must exist:
	// postgres://user@host:port/database?sslmode=verify-full. It may hold a
	// password and is never shown; better is passfile=FILE. It leads to the
	// server itself: a pooler that shares connections can not tell of changes.
	DSN string
	// KeyFile holds the key of the secrets: 32 random bytes as hexadecimal or
	// base64 text, readable by its owner only. It is made together with the
	// database. Without it no secret can be stored or read.
	KeyFile string
	// Log takes what happens at opening; nil discards.
	Log *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// LogValue leaves out the DSN, which may hold a password.
func (c Config) LogValue() slog.Value {
	return slog.GroupValue(slog.String("path", c.Path), slog.Bool("postgres", c.DSN != ""), slog.String("key_file", c.KeyFile))
}

// String leaves out the DSN, which may hold a password.
func (c Config) String() string { return c.LogValue().String() }

// A DB is an open site database. Its methods may be called from many
// goroutines.
type DB struct {
	engine
	read  *sql.DB // several connections
	write *sql.DB // one connection, used by the writer only
	now   func() time.Time
	log   *slog.Logger
	keys  *keyring // nil: no key file

	queue chan *act
	stop  chan struct{}
	done  chan struct{} // closed when the writer has ended
	once  sync.Once

	watch watch
}

// Open opens the database, makes the file when missing, and brings its schema
// up to date. A schema of a newer release is refused, and so is a key file
// that does not fit the secrets.
func Open(ctx context.Context, c Config) (*DB, error) {
	db, err := openRaw(c)
	if err != nil {
		return nil, err
	}
	if err := db.migrate(ctx, db.write, len(readMigrations()), db.log); err != nil {
		db.closePools()
		return nil, fmt.Errorf("open database %s: %w", db.name, err)
	}
	go db.writer()
	if err := db.openKeys(ctx, c.KeyFile); err != nil {
		db.Close()
		return nil, fmt.Errorf("open database %s: %w", db.name, err)
	}
	return db, nil
}

// openRaw opens the pools only.
func openRaw(c Config) (*DB, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	db := &DB{now: c.Now, log: c.Log, queue: make(chan *act, 256), stop: make(chan struct{}), done: make(chan struct{})}
	var err error
	db.read, db.write, err = db.engine.open(c)
	return db, err
}

func (db *DB) closePools() error { return errors.Join(db.read.Close(), db.write.Close()) }

// Close ends the writer after the acts it has taken, ends the watches, and
// closes the database.
func (db *DB) Close() error {
	db.once.Do(func() {
		db.watch.mu.Lock() // Watch looks at stop before it starts something
		defer db.watch.mu.Unlock()
		close(db.stop)
	})
	<-db.done
	db.watch.ended.Wait()
	return db.closePools()
}

// Ping reports whether the database answers.
func (db *DB) Ping(ctx context.Context) error {
	var n int
	return wrap(db.row(ctx, "SELECT 1").Scan(&n), "ping database")
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

// Engine names the database: sqlite or postgresql.
func (db *DB) Engine() string {
	if db.engine.postgres {
		return "postgresql"
	}
	return "sqlite"
}
