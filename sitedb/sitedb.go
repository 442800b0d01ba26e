// Package sitedb keeps a site's state: registered clients, what they reported,
// the policies they get, the tokens they were given and the notifications sent
// to them.
//
// Each method of [DB] is one whole act in the site's words and one transaction.
// When a method that writes returns nil, its effect survives the process being
// killed and the power going out. Errors carry a kind of package opencmg:
// NotFound, Conflict, or Unavailable when the database is busy or the disk full.
//
// The database is one SQLite file (with -wal and -shm beside it), readable by
// its owner only. Several processes may use it at once. The SQL is plain, so
// that another engine can come later.
package sitedb

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"modernc.org/sqlite"

	"github.com/opencmg/opencmg"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Config says where the database is.
type Config struct {
	// Path is the database file; it is made when missing, its folder is not.
	Path string
	// Log takes what happens at opening; nil discards.
	Log *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// A DB is an open site database. Its methods may be called from many
// goroutines.
type DB struct {
	read  *sql.DB // several connections
	write *sql.DB // one connection, used by the writer only
	now   func() time.Time

	queue chan *act
	stop  chan struct{}
	done  chan struct{} // closed when the writer has ended
	once  sync.Once
}

// Open opens the database, makes it when missing, and brings its schema up to
// date. A schema of a newer release is refused.
func Open(ctx context.Context, c Config) (*DB, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	// SQLite would make the file readable for everybody; -wal and -shm take
	// over its mode.
	f, err := os.OpenFile(c.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, &opencmg.Error{Kind: opencmg.Invalid, Msg: fmt.Sprintf("open database %s: the file can not be opened for writing; check that its folder exists and who may write to it", c.Path), Err: err}
	}
	f.Close()
	dsn, err := dataSource(c.Path)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	db := &DB{now: c.Now, queue: make(chan *act, 256), stop: make(chan struct{}), done: make(chan struct{})}
	if db.write, err = sql.Open("sqlite", dsn+"&_txlock=immediate"); err != nil {
		return nil, fmt.Errorf("open database %s: %w", c.Path, err)
	}
	db.write.SetMaxOpenConns(1)
	if db.read, err = sql.Open("sqlite", dsn); err != nil {
		db.write.Close()
		return nil, fmt.Errorf("open database %s: %w", c.Path, err)
	}
	db.read.SetMaxOpenConns(4)
	db.read.SetMaxIdleConns(4)
	if err := migrate(ctx, db.write, c.Log); err != nil {
		db.read.Close()
		db.write.Close()
		return nil, fmt.Errorf("open database %s: %w", c.Path, err)
	}
	go db.writer()
	return db, nil
}

// Close ends the writer after the acts it has taken, and closes the file.
func (db *DB) Close() error {
	db.once.Do(func() { close(db.stop) })
	<-db.done
	return errors.Join(db.read.Close(), db.write.Close())
}

// Ping reports whether the database answers.
func (db *DB) Ping(ctx context.Context) error {
	var n int
	return wrap(db.read.QueryRowContext(ctx, "SELECT 1").Scan(&n), "ping database")
}

// dataSource names the file with write-ahead logging, so that readers do not
// wait, and a sync before each commit is acknowledged.
func dataSource(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	abs = filepath.ToSlash(abs)
	if !strings.HasPrefix(abs, "/") {
		abs = "/" + abs // a Windows drive
	}
	u := url.URL{Scheme: "file", Path: abs, RawQuery: "_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)"}
	return u.String(), nil
}

// migrate applies the numbered files above the recorded number, each in its
// own transaction. They only go forward.
func migrate(ctx context.Context, db *sql.DB, log *slog.Logger) error {
	if _, err := db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)"); err != nil {
		return &opencmg.Error{Kind: opencmg.Invalid, Msg: "the file is no site database, or it is damaged", Err: err}
	}
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	for _, name := range append(names, "") {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return wrap(err, "migrate")
		}
		var have int
		if err := tx.QueryRowContext(ctx, "SELECT COALESCE(MAX(version), 0) FROM schema_version").Scan(&have); err != nil {
			return errors.Join(wrap(err, "migrate"), tx.Rollback())
		}
		if have > len(names) {
			return errors.Join(opencmg.Errorf(opencmg.Conflict, "the database has schema %d of a newer release, this one knows %d: install the newer release again", have, len(names)), tx.Rollback())
		}
		var n int
		if name != "" {
			if n, err = strconv.Atoi(strings.TrimPrefix(name, "migrations/")[:4]); err != nil {
				panic("sitedb: migration " + name + " has no number")
			}
		}
		if n <= have {
			tx.Rollback()
			continue
		}
		text, err := migrations.ReadFile(name)
		if err == nil {
			_, err = tx.ExecContext(ctx, string(text))
		}
		if err == nil {
			_, err = tx.ExecContext(ctx, "INSERT INTO schema_version (version) VALUES (?)", n)
		}
		if err != nil {
			return errors.Join(wrap(err, "migrate to schema "+strconv.Itoa(n)), tx.Rollback())
		}
		if err := tx.Commit(); err != nil {
			return wrap(err, "migrate to schema "+strconv.Itoa(n))
		}
		log.Info("database schema updated", "schema", n)
	}
	return nil
}

// An act is one transaction waiting for the writer.
type act struct {
	ctx  context.Context
	do   func(*Tx) error
	err  error
	done chan struct{}
}

// A Tx is a running transaction of the writer. Its time is fixed.
type Tx struct {
	ctx context.Context
	tx  *sql.Tx
	now time.Time
}

// transact runs do alone and returns when its effect is on disk, or when it
// failed and had none.
func (db *DB) transact(ctx context.Context, what string, do func(*Tx) error) error {
	a := &act{ctx: ctx, do: do, done: make(chan struct{})}
	select {
	case db.queue <- a:
	case <-ctx.Done():
		return wrap(ctx.Err(), what)
	case <-db.stop:
		return wrap(errClosed, what)
	}
	select {
	case <-a.done:
	case <-db.done:
		select {
		case <-a.done:
		default:
			return wrap(errClosed, what)
		}
	}
	return wrap(a.err, what)
}

var errClosed = &opencmg.Error{Kind: opencmg.Unavailable, Msg: "the database is closed"}

// maxBatch acts share one commit, and so one sync of the disk: with one sync
// each, a crowd of clients would wait for the disk in single file.
const maxBatch = 128

// writer owns the write connection. It ends when stop is closed and the queue
// is empty.
func (db *DB) writer() {
	defer close(db.done)
	for {
		var batch []*act
		select {
		case a := <-db.queue:
			batch = append(batch, a)
		case <-db.stop:
			select {
			case a := <-db.queue:
				batch = append(batch, a)
			default:
				return
			}
		}
		for more := true; more && len(batch) < maxBatch; {
			select {
			case a := <-db.queue:
				batch = append(batch, a)
			default:
				more = false
			}
		}
		err := db.runBatch(batch)
		for _, a := range batch {
			if err != nil && a.err == nil {
				a.err = err
			}
			close(a.done)
		}
	}
}

// runBatch runs each act between savepoints, so that one that fails takes back
// only what it did. An error is about the whole batch.
func (db *DB) runBatch(batch []*act) error {
	// The writer outlives every caller; their contexts are checked per act.
	ctx := context.Background()
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, a := range batch {
		if a.err = a.ctx.Err(); a.err != nil {
			continue
		}
		if _, err := tx.ExecContext(ctx, "SAVEPOINT act"); err != nil {
			return err
		}
		if a.err = a.do(&Tx{ctx: ctx, tx: tx, now: db.now().UTC()}); a.err != nil {
			if _, err := tx.ExecContext(ctx, "ROLLBACK TO act"); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, "RELEASE act"); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (tx *Tx) exec(query string, args ...any) error {
	_, err := tx.tx.ExecContext(tx.ctx, query, args...)
	return err
}

func (tx *Tx) row(query string, args ...any) *sql.Row {
	return tx.tx.QueryRowContext(tx.ctx, query, args...)
}

// Result codes of SQLite, https://www.sqlite.org/rescode.html.
const (
	sqliteBusy       = 5
	sqliteLocked     = 6
	sqliteFull       = 13
	sqliteConstraint = 19
)

// wrap adds what was being done and turns the driver's errors into kinds.
func wrap(err error, what string) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*opencmg.Error](err); ok {
		return fmt.Errorf("%s: %w", what, err)
	}
	kind := opencmg.Kind("")
	msg := ""
	if errors.Is(err, sql.ErrNoRows) {
		kind, msg = opencmg.NotFound, "there is no such record"
	} else if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		kind, msg = opencmg.Timeout, "the caller did not wait for the database"
	} else if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch e.Code() & 0xff {
		case sqliteBusy, sqliteLocked:
			kind, msg = opencmg.Unavailable, "the database is busy"
		case sqliteFull:
			kind, msg = opencmg.Unavailable, "the disk is full"
		case sqliteConstraint:
			kind, msg = opencmg.Conflict, "the record is there already, or another one needs it"
		}
	}
	if kind == "" {
		return fmt.Errorf("%s: %w", what, err)
	}
	return &opencmg.Error{Kind: kind, Msg: what + ": " + msg, Err: err}
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
