package sitedb_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"encoding/hex"
	"errors"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/sitedb"
)

// postgresEnv names the variable with the DSN of a PostgreSQL server on which
// tests may make databases, see .ci/postgres.
const postgresEnv = "OPENCMG_TEST_POSTGRES"

var start = time.Date(2026, 1, 31, 9, 30, 0, 0, time.UTC)

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time // guarded by mu
}

func (c *clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }

func (c *clock) advance(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.now = c.now.Add(d) }

// An engine makes databases of one kind.
type engine struct {
	postgres bool
}

// onEachEngine runs the test on SQLite and, when there is a server, on
// PostgreSQL.
func onEachEngine(t *testing.T, test func(*testing.T, engine)) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, engine{})
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		if os.Getenv(postgresEnv) == "" {
			t.Skipf("%s is not set", postgresEnv)
		}
		test(t, engine{postgres: true})
	})
}

// config says where a new, empty database is, which is removed after the test.
func (e engine) config(t testing.TB) sitedb.Config {
	t.Helper()
	if e.postgres {
		return sitedb.Config{DSN: newPostgres(t)}
	}
	return sitedb.Config{Path: filepath.Join(t.TempDir(), "a site?#%41.db")}
}

func newPostgres(t testing.TB) string {
	t.Helper()
	admin := adminPostgres(t)
	var b [8]byte
	rand.Read(b[:])
	name := "sitedb_test_" + hex.EncodeToString(b[:])
	if _, err := admin.Exec("CREATE DATABASE " + name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := admin.Exec("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(os.Getenv(postgresEnv))
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

// adminPostgres is a connection that may make and end things.
func adminPostgres(t testing.TB) *sql.DB {
	t.Helper()
	admin, err := sql.Open("pgx", os.Getenv(postgresEnv))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { admin.Close() })
	return admin
}

// raw opens the database behind the package's back.
func raw(t testing.TB, c sitedb.Config) *sql.DB {
	t.Helper()
	driver, source := "sqlite", (&url.URL{Scheme: "file", Path: c.Path}).String()
	if c.DSN != "" {
		driver, source = "pgx", c.DSN
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func (e engine) open(t testing.TB) (*sitedb.DB, *clock) {
	t.Helper()
	c := &clock{now: start}
	config := e.config(t)
	config.Now = c.Now
	return openConfig(t, config), c
}

func openConfig(t testing.TB, c sitedb.Config) *sitedb.DB {
	t.Helper()
	db, err := sitedb.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// change runs a transaction that has to succeed.
func change(t testing.TB, db *sitedb.DB, do func(*sitedb.Tx) error) {
	t.Helper()
	if err := db.Change(context.WithoutCancel(t.Context()), "test", do); err != nil {
		t.Fatal(err)
	}
}

func certificate(t testing.TB) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func register(t testing.TB, db *sitedb.DB, c sitedb.Client) (sitedb.Client, sitedb.Outcome) {
	t.Helper()
	got, outcome, err := db.RegisterClient(t.Context(), sitedb.Registration{Client: c})
	if err != nil {
		t.Fatal(err)
	}
	return got, outcome
}

func wantKind(t testing.TB, err error, kind opencmg.Kind) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("error is %v, want kind %q", err, kind)
	}
}

func dbName(c sitedb.Config) string {
	u, err := url.Parse(c.DSN)
	if err != nil {
		panic(err)
	}
	return u.Path[1:]
}
