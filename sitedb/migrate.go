package sitedb

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

//go:embed migrations/*.sql
var migrations embed.FS

// A migration leads from one schema to the next.
type migration struct {
	number int
	text   string // SQL, see engine.schema
}

func readMigrations() []migration {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		panic(err)
	}
	var all []migration
	for i, name := range names {
		n, err := strconv.Atoi(strings.TrimPrefix(name, "migrations/")[:4])
		if err != nil || n != i+1 {
			panic("sitedb: migration " + name + " is out of order")
		}
		text, err := migrations.ReadFile(name)
		if err != nil {
			panic(err)
		}
		all = append(all, migration{n, string(text)})
	}
	return all
}

// migrate applies the numbered files above the recorded number up to the given
// one, each in its own transaction. They only go forward. Several processes
// may do it at once.
func (e *engine) migrate(ctx context.Context, db *sql.DB, upTo int, log *slog.Logger) error {
	all := readMigrations()
	for {
		n, err := e.migrateOnce(ctx, db, all, upTo)
		if err != nil || n == 0 {
			return err
		}
		log.Info("database schema updated", "schema", n)
	}
}

// migrateOnce applies the next migration and returns its number, or 0 when
// there is none.
func (e *engine) migrateOnce(ctx context.Context, db *sql.DB, all []migration, upTo int) (int, error) {
	have, tx, err := e.schemaVersion(ctx, db)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	if have > len(all) {
		return 0, opencmg.Errorf(opencmg.Conflict, "the database has schema %d of a newer release, this one knows %d: install the newer release again", have, len(all))
	}
	if have >= upTo {
		return 0, tx.Commit()
	}
	m := all[have]
	_, err = tx.ExecContext(ctx, e.schema(m.text))
	if err == nil {
		_, err = tx.ExecContext(ctx, e.sql("INSERT INTO schema_version (version) VALUES (?)"), m.number)
	}
	if err == nil {
		err = tx.Commit()
	}
	return m.number, wrap(err, "migrate to schema "+strconv.Itoa(m.number))
}

// openPatience is how long a busy file is tried again when it is opened.
const openPatience = 10 * time.Second

// schemaVersion returns the recorded number, 0 for a new database, and the
// transaction that read it, in which nobody else writes.
func (e *engine) schemaVersion(ctx context.Context, db *sql.DB) (have int, tx *sql.Tx, err error) {
	damaged := func(err error) error {
		if kind, _ := classify(err); kind != "" {
			return wrap(err, "read the schema")
		}
		return &opencmg.Error{Kind: opencmg.Invalid, Msg: "this is no site database, or it is damaged", Err: err}
	}
	// Making a new file write ahead does not wait when another process is just
	// doing it.
	for end := time.Now().Add(openPatience); ; {
		tx, err = e.beginWrite(ctx, db)
		if err == nil {
			break
		}
		if _, text := classify(err); text != textBusy || time.Now().After(end) {
			return 0, nil, damaged(err)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return 0, nil, damaged(ctx.Err())
		}
	}
	_, err = tx.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
	if err == nil {
		err = tx.QueryRowContext(ctx, "SELECT COALESCE(MAX(version), 0) FROM schema_version").Scan(&have)
	}
	if err != nil {
		return 0, nil, errors.Join(damaged(err), tx.Rollback())
	}
	return have, tx, nil
}
