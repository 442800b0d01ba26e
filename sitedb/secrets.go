package sitedb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"

	"github.com/opencmg/opencmg"
)

// maxSecret is the largest secret, in bytes.
const maxSecret = 1 << 20

// keyCheck is the name of the row that says under which key the secrets are
// encrypted; keyCheckText is what it holds.
const (
	keyCheck     = ""
	keyCheckText = "opencmg"
)

// openKeys reads the key file and holds it against the database. A new
// database gets a new key file, unless there is one.
func (db *DB) openKeys(ctx context.Context, path string) error {
	if path == "" {
		return nil
	}
	return db.transact(ctx, "open secrets", func(tx *Tx) error {
		db.keys = &keyring{path: path}
		sealed, err := tx.sealed(keyCheck)
		isNew := errors.Is(err, sql.ErrNoRows)
		if err != nil && !isNew {
			return err
		}
		err = db.keys.load()
		if errors.Is(err, fs.ErrNotExist) {
			if !isNew {
				return opencmg.Errorf(opencmg.Invalid, "the key file %s is missing, and the database has secrets that need the key %s: put the file there again from its copy", path, sealed.keyID)
			}
			err = db.keys.add()
		}
		if err != nil {
			return err
		}
		if isNew {
			return tx.seal(db.keys.first(), keyCheck, []byte(keyCheckText))
		}
		_, err = db.keys.open(keyCheck, sealed)
		return err
	})
}

// sealedSecret is a row of the table.
type sealedSecret struct {
	keyID string
	data  []byte
}

const selectSecret = "SELECT key_id, sealed FROM secrets WHERE name = ?"

func (tx *Tx) sealed(name string) (s sealedSecret, err error) {
	err = tx.row(selectSecret, name).Scan(&s.keyID, &s.data)
	return s, err
}

func (tx *Tx) seal(k secretKey, name string, plaintext []byte) error {
	return tx.exec(`INSERT INTO secrets (name, key_id, sealed, changed) VALUES (?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET key_id = excluded.key_id, sealed = excluded.sealed, changed = excluded.changed`,
		name, k.id, k.seal(name, plaintext), micros(tx.now))
}

// PutSecret stores a secret under a name, over one that is there. It is at
// most 1 MiB.
func (tx *Tx) PutSecret(name string, plaintext []byte) error {
	name = plainText(name)
	if name == keyCheck {
		return opencmg.Errorf(opencmg.Invalid, "a secret needs a name")
	}
	if len(plaintext) > maxSecret {
		return opencmg.Errorf(opencmg.TooLarge, "secret %s: %d bytes are more than the %d that a secret may have", name, len(plaintext), maxSecret)
	}
	if tx.db.keys == nil {
		return noKeys()
	}
	// Another process may have changed the key.
	check, err := tx.sealed(keyCheck)
	if err != nil {
		return err
	}
	k, err := tx.db.keys.find(check.keyID)
	if err != nil {
		return err
	}
	return tx.seal(k, name, plaintext)
}

func noKeys() error {
	return opencmg.Errorf(opencmg.Invalid, "no key file is configured, so no secret can be stored or read; name one in the site's configuration")
}

// DeleteSecret removes a secret; one that is not there is no error.
func (tx *Tx) DeleteSecret(name string) error {
	if name == keyCheck {
		return opencmg.Errorf(opencmg.Invalid, "a secret needs a name")
	}
	return tx.exec("DELETE FROM secrets WHERE name = ?", name)
}

// Secret returns a secret, or opencmg.NotFound.
func (tx *Tx) Secret(name string) ([]byte, error) {
	s, err := tx.sealed(name)
	return tx.db.openSecret(plainText(name), s, err)
}

// Secret returns a secret, or opencmg.NotFound.
func (db *DB) Secret(ctx context.Context, name string) ([]byte, error) {
	var s sealedSecret
	err := db.row(ctx, selectSecret, name).Scan(&s.keyID, &s.data)
	plaintext, err := db.openSecret(plainText(name), s, err)
	return plaintext, wrap(err, "read secret")
}

func (db *DB) openSecret(name string, s sealedSecret, err error) ([]byte, error) {
	switch {
	case errors.Is(err, sql.ErrNoRows) || err == nil && name == keyCheck:
		return nil, opencmg.Errorf(opencmg.NotFound, "there is no secret %s", name)
	case err != nil:
		return nil, err
	case db.keys == nil:
		return nil, noKeys()
	}
	return db.keys.open(name, s)
}

// RotateKey makes a new key, encrypts all secrets again under it, and writes
// it into the key file as its first line. The former keys stay below it, for
// backups from before; remove them when those are gone. Other processes read
// the file again when they need the new key.
func (db *DB) RotateKey(ctx context.Context) error {
	if db.keys == nil {
		return wrap(noKeys(), "rotate key")
	}
	return db.transact(ctx, "rotate key", func(tx *Tx) error {
		if err := db.keys.load(); err != nil {
			return err
		}
		rows, err := tx.query("SELECT name FROM secrets ORDER BY name")
		names, err := collect(rows, err, func(row scanner) (name string, err error) { return name, row.Scan(&name) })
		if err != nil {
			return err
		}
		plaintexts := map[string][]byte{}
		for _, name := range names {
			s, err := tx.sealed(name)
			if err != nil {
				return err
			}
			if plaintexts[name], err = db.keys.open(name, s); err != nil {
				return err
			}
		}
		// The file first: with a key that nothing uses all is well, and
		// without one that is used all is lost.
		if err := db.keys.add(); err != nil {
			return err
		}
		for _, name := range names {
			if err := tx.seal(db.keys.first(), name, plaintexts[name]); err != nil {
				return fmt.Errorf("encrypt secret %s again: %w", name, err)
			}
		}
		return nil
	})
}
