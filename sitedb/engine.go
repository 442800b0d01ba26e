package sitedb

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/opencmg/opencmg"
)

// An engine is what the two databases do not share. All SQL of this package is
// written once, with ? for arguments and SQLite's type names.
type engine struct {
	postgres bool
	name     string // for errors: the file, or the server without password

	listen *pgx.ConnConfig // PostgreSQL: for the connection that hears of changes
}

// Limits of a connection to PostgreSQL. Whoever waits longer than lockTimeout
// for the writer's lock gets Unavailable, like busy_timeout of SQLite; a
// process that stops in the middle of a transaction loses it after
// idleTimeout, so that it can not keep the others from writing.
const (
	lockTimeout = "10000" // milliseconds
	idleTimeout = "30000" // milliseconds

	connectTimeout = 10 * time.Second // unless the DSN has connect_timeout
)

// open returns the pools for reading and for writing. The writing one has a
// single connection.
func (e *engine) open(c Config) (read, write *sql.DB, err error) {
	switch {
	case c.DSN != "" && c.Path != "":
		return nil, nil, opencmg.Errorf(opencmg.Invalid, "open database: both a file and a PostgreSQL server are given; leave one out")
	case c.DSN != "":
		return e.openPostgres(c.DSN)
	case c.Path == "":
		return nil, nil, opencmg.Errorf(opencmg.Invalid, "open database: neither a file nor a PostgreSQL server is given")
	}
	return e.openSQLite(c.Path)
}

func (e *engine) openSQLite(path string) (read, write *sql.DB, err error) {
	e.name = path
	// SQLite would make the file readable for everybody; -wal and -shm take
	// over its mode.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, &opencmg.Error{Kind: opencmg.Invalid, Msg: fmt.Sprintf("open database %s: the file can not be opened for writing; check that its folder exists and who may write to it", path), Err: err}
	}
	f.Close()
	dsn, err := dataSource(path)
	if err != nil {
		return nil, nil, fmt.Errorf("open database: %w", err)
	}
	if write, err = sql.Open("sqlite", dsn+"&_txlock=immediate"); err != nil {
		return nil, nil, fmt.Errorf("open database %s: %w", path, err)
	}
	write.SetMaxOpenConns(1)
	if read, err = sql.Open("sqlite", dsn); err != nil {
		write.Close()
		return nil, nil, fmt.Errorf("open database %s: %w", path, err)
	}
	read.SetMaxOpenConns(8)
	read.SetMaxIdleConns(4)
	return read, write, nil
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

func (e *engine) openPostgres(dsn string) (read, write *sql.DB, err error) {
	e.postgres, e.name = true, "PostgreSQL"
	if !strings.HasPrefix(dsn, "postgres://") && !strings.HasPrefix(dsn, "postgresql://") {
		return nil, nil, opencmg.Errorf(opencmg.Invalid, "open database: the address of a PostgreSQL server begins with postgres://, e.g. postgres://opencmg@db.example.com/site")
	}
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		// The parser's own text can hold what it could not read.
		return nil, nil, opencmg.Errorf(opencmg.Invalid, "open database: the address of the PostgreSQL server can not be read; write it as postgres://user@host:port/database?sslmode=verify-full, with special characters of the password as %%XX")
	}
	e.name = fmt.Sprintf("PostgreSQL %s on %s:%d", config.Database, config.Host, config.Port)
	config.RuntimeParams["application_name"] = "opencmg"
	config.RuntimeParams["lock_timeout"] = lockTimeout
	config.RuntimeParams["idle_in_transaction_session_timeout"] = idleTimeout
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	e.listen = config.Copy()
	write = stdlib.OpenDB(*config)
	write.SetMaxOpenConns(1)
	read = stdlib.OpenDB(*config)
	read.SetMaxOpenConns(8)
	read.SetMaxIdleConns(4)
	return read, write, nil
}

// writerLock is the advisory lock of PostgreSQL that a transaction holds while
// it writes or migrates, in whichever process: as on SQLite, one writes at a
// time. So acts need no retries, and whoever commits later has seen what was
// committed earlier.
const writerLock = 0x4f70656e434d47 // "OpenCMG"

// beginWrite begins a transaction and makes it the only one that writes.
func (e *engine) beginWrite(ctx context.Context, db *sql.DB) (*sql.Tx, error) {
	if !e.postgres {
		return db.BeginTx(ctx, nil) // an immediate one
	}
	// Each statement has to see what was committed before the lock was given,
	// whatever the server's default is.
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return nil, err
	}
	if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", int64(writerLock)); err != nil {
		tx.Rollback()
		return nil, err
	}
	return tx, nil
}

// snapshot begins a transaction that reads one state of the whole database.
func (e *engine) snapshot(ctx context.Context, db *sql.DB) (*sql.Tx, error) {
	if !e.postgres {
		return db.BeginTx(ctx, nil) // a deferred one, which never writes
	}
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err == nil {
		err = e.patience(ctx, tx)
	}
	if err != nil && tx != nil {
		tx.Rollback()
	}
	return tx, err
}

// patience lets a transaction wait for something else than the database, such
// as a slow disk with a backup.
func (e *engine) patience(ctx context.Context, tx *sql.Tx) error {
	if !e.postgres {
		return nil
	}
	_, err := tx.ExecContext(ctx, "SET LOCAL idle_in_transaction_session_timeout = 0")
	return err
}

// sql returns the statement in the engine's own writing.
func (e *engine) sql(query string) string {
	if !e.postgres || !strings.Contains(query, "?") {
		return query
	}
	var b strings.Builder
	b.Grow(len(query) + 16)
	for n := 1; ; n++ {
		before, after, found := strings.Cut(query, "?")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(n))
		query = after
	}
}

var schemaTypes = []struct {
	sqlite   *regexp.Regexp
	postgres string
}{
	{regexp.MustCompile(`\bINTEGER NOT NULL PRIMARY KEY\b`), "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"},
	{regexp.MustCompile(`\bINTEGER\b`), "BIGINT"},
	{regexp.MustCompile(`\bWITHOUT ROWID\b`), ""},
	{regexp.MustCompile(`\bREAL\b`), "DOUBLE PRECISION"},
	{regexp.MustCompile(`\bBLOB\b`), "BYTEA"},
	{regexp.MustCompile(`\bTEXT\b`), `TEXT COLLATE "C"`}, // compared by bytes, as on SQLite
}

// schema returns a migration in the engine's own types.
func (e *engine) schema(text string) string {
	if e.postgres {
		for _, t := range schemaTypes {
			text = t.sqlite.ReplaceAllString(text, t.postgres)
		}
	}
	return text
}

// plain turns arguments into what both engines store alike: booleans are
// numbers, and text is UTF-8 without NUL, which PostgreSQL would refuse.
func plain(args []any) []any {
	for i, a := range args {
		switch v := a.(type) {
		case bool:
			args[i] = 0
			if v {
				args[i] = 1
			}
		case string:
			args[i] = plainText(v)
		}
	}
	return args
}

func plainText(s string) string {
	if strings.IndexByte(s, 0) < 0 && utf8.ValidString(s) {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
