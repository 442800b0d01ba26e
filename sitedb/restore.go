package sitedb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/opencmg/opencmg"
)

// Restore fills an empty database with a backup, see [DB.Backup]; one that has
// anything in it is opencmg.Conflict. The engine need not be the one that the
// backup was made on. The key file, if one is configured, must be the one that
// belongs to the backup, put in its place before.
//
// The whole backup is checked, and is stored in one transaction: when Restore
// fails, the database is empty as before. No other process may use it
// meanwhile.
func Restore(ctx context.Context, c Config, r io.Reader) (err error) {
	const what = "restore"
	backup, err := newBackupReader(r)
	if err != nil {
		return wrap(err, what)
	}
	if c.DSN == "" && c.Path != "" {
		if _, statErr := os.Stat(c.Path); errors.Is(statErr, fs.ErrNotExist) {
			defer func() {
				if err != nil {
					for _, suffix := range []string{"", "-wal", "-shm"} {
						os.Remove(c.Path + suffix)
					}
				}
			}()
		}
	}
	db, err := openRaw(c)
	if err != nil {
		return wrap(err, what)
	}
	defer db.closePools()
	if c.KeyFile != "" {
		db.keys = &keyring{path: c.KeyFile}
		if err := db.keys.load(); err != nil {
			return wrap(err, what)
		}
	}
	if err := db.prepareRestore(ctx, backup.header.Schema); err != nil {
		return wrap(err, what)
	}
	if err := db.restore(ctx, backup); err != nil {
		return wrap(err, what)
	}
	return wrap(db.migrate(ctx, db.write, len(readMigrations()), db.log), what)
}

// prepareRestore brings a new database to the schema of the backup.
func (db *DB) prepareRestore(ctx context.Context, schema int) error {
	have, tx, err := db.schemaVersion(ctx, db.write)
	if err != nil {
		return err
	}
	tx.Rollback()
	if have > schema {
		return opencmg.Errorf(opencmg.Conflict, "the database has schema %d already and the backup has %d: restore into a new database", have, schema)
	}
	return db.migrate(ctx, db.write, schema, db.log)
}

func (db *DB) restore(ctx context.Context, backup *backupReader) error {
	sqlTx, err := db.begin(ctx)
	if err != nil {
		return err
	}
	defer sqlTx.Rollback()
	tx := &Tx{db: db, ctx: ctx, tx: sqlTx, now: db.now().UTC()}
	if err := db.patience(ctx, sqlTx); err != nil {
		return err
	}
	if err := tx.mustBeEmpty(tablesOf(backup.header.Schema)); err != nil {
		return err
	}
	var insert *sql.Stmt
	var kinds []string
	var current string
	defer func() {
		if insert != nil {
			insert.Close()
		}
	}()
	err = backup.read(func(t backupTable) (err error) {
		if insert != nil {
			insert.Close()
		}
		current = t.Table
		insert, kinds, err = tx.prepareInsert(t)
		return err
	}, func(values []any) error {
		for i, v := range values {
			if !fits(v, kinds[i]) {
				return damaged("row %d of %s has a value of another type than its column", backup.rows[current], current)
			}
		}
		if _, err := insert.ExecContext(ctx, plain(values)...); err != nil {
			return tx.refused(current, backup.rows[current], err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := tx.numberOn(tablesOf(backup.header.Schema)); err != nil {
		return err
	}
	if err := tx.checkKey(backup.header.Schema); err != nil {
		return err
	}
	return sqlTx.Commit()
}

// mustBeEmpty also takes out what a new database has from the start.
func (tx *Tx) mustBeEmpty(all []table) error {
	for _, t := range all {
		condition := ""
		switch t.name {
		case "revision":
			condition = " WHERE number > 0"
		case "secrets":
			condition = " WHERE name <> ''"
		}
		var n int64
		if err := tx.row("SELECT COUNT(*) FROM " + t.name + condition).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			return opencmg.Errorf(opencmg.Conflict, "the database is not empty, table %s has %d rows: restore into a new database", t.name, n)
		}
		if condition != "" {
			if err := tx.exec("DELETE FROM " + t.name); err != nil {
				return err
			}
		}
	}
	return nil
}

// prepareInsert holds the columns in the backup against those in the database,
// so that no text of the backup becomes SQL, and returns their types.
func (tx *Tx) prepareInsert(t backupTable) (insert *sql.Stmt, kinds []string, err error) {
	rows, err := tx.query("SELECT * FROM " + t.Table + " LIMIT 0") // a name from our list
	if err != nil {
		return nil, nil, err
	}
	have, err := rows.ColumnTypes()
	if err = errors.Join(err, rows.Close()); err != nil {
		return nil, nil, err
	}
	kind := map[string]string{}
	for _, c := range have {
		kind[c.Name()] = c.DatabaseTypeName()
	}
	for _, name := range t.Columns {
		kinds = append(kinds, kind[name])
		delete(kind, name) // so that a second one has none
	}
	if len(kind) > 0 || slices.Contains(kinds, "") {
		return nil, nil, damaged("table %s has other columns than its schema", t.Table)
	}
	insert, err = tx.tx.PrepareContext(tx.ctx, tx.db.sql("INSERT INTO "+t.Table+" ("+strings.Join(t.Columns, ", ")+") VALUES (?"+strings.Repeat(", ?", len(t.Columns)-1)+")"))
	return insert, kinds, err
}

// fits reports whether a column of this type of either engine takes the value.
// SQLite itself would take anything.
func fits(v any, kind string) bool {
	switch v.(type) {
	case int64:
		return kind == "INTEGER" || kind == "INT8"
	case float64:
		return kind == "REAL" || kind == "FLOAT8"
	case string:
		return kind == "TEXT"
	case []byte:
		return kind == "BLOB" || kind == "BYTEA"
	}
	return v == nil // the database knows whether it may be
}

// refused is about a row that the database does not take.
func (tx *Tx) refused(table string, row int64, err error) error {
	switch kind, _ := classify(err); kind {
	case opencmg.Unavailable, opencmg.Timeout:
		return err
	}
	e := damaged("the database does not take row %d of %s", row, table)
	return fmt.Errorf("%w (%v)", e, err)
}

// numberOn lets PostgreSQL go on counting behind the restored numbers.
func (tx *Tx) numberOn(all []table) error {
	if !tx.db.postgres {
		return nil
	}
	for _, t := range all {
		if t.serial == "" {
			continue
		}
		if err := tx.exec(fmt.Sprintf("SELECT setval(pg_get_serial_sequence('%s', '%s'), COALESCE(MAX(%s), 1), MAX(%s) IS NOT NULL) FROM %s", t.name, t.serial, t.serial, t.serial, t.name)); err != nil {
			return err
		}
	}
	return nil
}

// checkKey holds the key file against the restored secrets.
func (tx *Tx) checkKey(schema int) error {
	if tx.db.keys == nil || schema == 1 {
		return nil
	}
	s, err := tx.sealed(keyCheck)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil {
		_, err = tx.db.keys.open(keyCheck, s)
	}
	return err
}
