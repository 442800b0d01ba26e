package sitedb

import (
	"context"
	"io"

	"github.com/opencmg/opencmg"
)

// ReadBackup reads a backup to its end and returns how many rows it has.
func ReadBackup(r io.Reader) (rows int64, err error) {
	b, err := newBackupReader(r)
	if err != nil {
		return 0, err
	}
	err = b.read(func(backupTable) error { return nil }, func([]any) error { rows++; return nil })
	return rows, err
}

// BackupTables are the tables that a backup has.
func BackupTables() (names []string) {
	for _, t := range tables {
		names = append(names, t.name)
	}
	return names
}

// Wrap is what every error goes through.
var Wrap = wrap

// MakeAt makes a database of an older schema.
func MakeAt(ctx context.Context, c Config, schema int) error {
	db, err := openRaw(c)
	if err != nil {
		return err
	}
	defer db.closePools()
	return db.migrate(ctx, db.write, schema, db.log)
}

// Tokens returns the tokens of a kind, the latest first.
func (db *DB) Tokens(ctx context.Context, kind opencmg.AuthMode, limit int) ([]Token, error) {
	return db.tokens(ctx, "WHERE kind = ? ORDER BY issued DESC LIMIT ?", string(kind), limit)
}
