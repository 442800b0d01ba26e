package sitedb_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/sitedb"
)

const planted = "planted-secret-value"

func putSecret(t testing.TB, db *sitedb.DB, name, value string) {
	t.Helper()
	change(t, db, func(tx *sitedb.Tx) error { return tx.PutSecret(name, []byte(value)) })
}

func wantSecret(t testing.TB, db *sitedb.DB, name, value string) {
	t.Helper()
	if got, err := db.Secret(t.Context(), name); err != nil || string(got) != value {
		t.Errorf("secret %s is %q, %v", name, got, err)
	}
}

func TestSecrets(t *testing.T) { onEachEngine(t, testSecrets) }

func testSecrets(t *testing.T, e engine) {
	ctx := t.Context()
	c := e.config(t)
	without := openConfig(t, c) // e.g. a management point
	c.KeyFile = filepath.Join(t.TempDir(), "site.key")
	db := openConfig(t, c)
	if info, err := os.Stat(c.KeyFile); err != nil || info.Mode().Perm() != 0o600 && runtime.GOOS != "windows" {
		t.Errorf("key file: %v, %v", info, err)
	}
	putSecret(t, db, "app", planted)
	putSecret(t, db, "empty", "")
	wantSecret(t, db, "app", planted)
	wantSecret(t, db, "empty", "")
	putSecret(t, db, "app", planted+"2")
	wantSecret(t, db, "app", planted+"2")
	for _, name := range []string{"none", ""} {
		_, err := db.Secret(ctx, name)
		wantKind(t, err, opencmg.NotFound)
	}
	change(t, db, func(tx *sitedb.Tx) error {
		if got, err := tx.Secret("app"); err != nil || string(got) != planted+"2" {
			t.Errorf("secret in a transaction: %q, %v", got, err)
		}
		wantKind(t, tx.PutSecret("", nil), opencmg.Invalid)
		wantKind(t, tx.DeleteSecret(""), opencmg.Invalid)
		wantKind(t, tx.PutSecret("big", make([]byte, 1<<20+1)), opencmg.TooLarge)
		return errors.Join(tx.DeleteSecret("empty"), tx.DeleteSecret("empty"))
	})
	_, err := db.Secret(ctx, "empty")
	wantKind(t, err, opencmg.NotFound)

	_, err = without.Secret(ctx, "app")
	wantKind(t, err, opencmg.Invalid)
	wantKind(t, without.RotateKey(ctx), opencmg.Invalid)
	change(t, without, func(tx *sitedb.Tx) error {
		wantKind(t, tx.PutSecret("x", nil), opencmg.Invalid)
		return nil
	})

	// A row can not take the place of another.
	direct := raw(t, c)
	if _, err := direct.Exec("INSERT INTO secrets (name, key_id, sealed, changed) SELECT 'moved', key_id, sealed, changed FROM secrets WHERE name = 'app'"); err != nil {
		t.Fatal(err)
	}
	if _, err = db.Secret(ctx, "moved"); err == nil || strings.Contains(err.Error(), planted) {
		t.Errorf("a moved secret: %v", err)
	}
	if _, err := direct.Exec("DELETE FROM secrets WHERE name = 'moved'"); err != nil {
		t.Fatal(err)
	}

	// Rotation, with another process that has the old key.
	other := openConfig(t, c)
	before, err := os.ReadFile(c.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.RotateKey(ctx); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(c.KeyFile)
	if err != nil || bytes.Equal(before, after) {
		t.Errorf("the key file did not change: %v", err)
	}
	wantSecret(t, db, "app", planted+"2")
	putSecret(t, other, "late", "new key")
	wantSecret(t, db, "late", "new key")
	wantSecret(t, other, "app", planted+"2")
	// The old keys are needed no more.
	lines := strings.SplitN(string(after), "\n", 3)
	if err := os.WriteFile(c.KeyFile, []byte(lines[1]+"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantSecret(t, openConfig(t, c), "late", "new key")

	// Wrong, missing and unreadable keys.
	for name, text := range map[string]string{
		"another key": base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)),
		"short":       "0011",
		"garbage":     "this is the-planted-key-text",
		"empty":       "# nothing\n",
	} {
		if err := os.WriteFile(c.KeyFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := sitedb.Open(ctx, c)
		if !errors.Is(err, opencmg.Invalid) || strings.Contains(fmt.Sprint(err), "planted") || !strings.Contains(err.Error(), c.KeyFile) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Remove(c.KeyFile); err != nil {
		t.Fatal(err)
	}
	_, err = sitedb.Open(ctx, c)
	wantKind(t, err, opencmg.Invalid)
	if err := os.WriteFile(c.KeyFile, []byte(lines[1]), 0o644); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" {
		_, err = sitedb.Open(ctx, c)
		if !errors.Is(err, opencmg.Invalid) || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("key file for everybody: %v", err)
		}
	}
	if err := os.Chmod(c.KeyFile, 0o600); err != nil {
		t.Fatal(err)
	}
	wantSecret(t, openConfig(t, c), "app", planted+"2")
}

// An administrator may bring the key, in either writing.
func TestOwnKey(t *testing.T) { onEachEngine(t, testOwnKey) }

func testOwnKey(t *testing.T, e engine) {
	key := bytes.Repeat([]byte{0xfb}, 32)
	for name, text := range map[string]string{
		"hex": fmt.Sprintf("%x\n", key), "HEX": fmt.Sprintf("%X", key), "base64": base64.StdEncoding.EncodeToString(key), "raw": base64.RawStdEncoding.EncodeToString(key) + "\n\n",
	} {
		c := e.config(t)
		c.KeyFile = filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(c.KeyFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		db := openConfig(t, c)
		putSecret(t, db, "a", planted)
		wantSecret(t, db, "a", planted)
		if got, err := os.ReadFile(c.KeyFile); err != nil || string(got) != text {
			t.Errorf("%s: the file was changed: %v", name, err)
		}
	}
	c := e.config(t)
	c.KeyFile = filepath.Join(t.TempDir(), "missing", "key")
	_, err := sitedb.Open(t.Context(), c)
	wantKind(t, err, opencmg.Invalid)
}

// What is planted as a secret is in no file of the database.
func TestSecretsAreNotInTheFile(t *testing.T) {
	dir := t.TempDir()
	db, err := sitedb.Open(t.Context(), sitedb.Config{Path: filepath.Join(dir, "site.db"), KeyFile: filepath.Join(dir, "key")})
	if err != nil {
		t.Fatal(err)
	}
	putSecret(t, db, "app", planted)
	check := func() {
		t.Helper()
		names, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(names) < 2 {
			t.Fatal(names, err)
		}
		for _, name := range names {
			if b, err := os.ReadFile(name); err != nil || bytes.Contains(b, []byte(planted)) {
				t.Errorf("%s holds the secret, %v", filepath.Base(name), err)
			}
		}
	}
	check()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	check()
}
