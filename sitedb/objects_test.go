package sitedb_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/sitedb"
)

func TestObjects(t *testing.T) { onEachEngine(t, testObjects) }

func testObjects(t *testing.T, e engine) {
	db, clock := e.open(t)
	ctx := t.Context()
	_, err := db.Object(ctx, "gateway", "1")
	wantKind(t, err, opencmg.NotFound)
	if all, err := db.Objects(ctx, "gateway"); err != nil || len(all) != 0 {
		t.Fatalf("objects %v, %v", all, err)
	}

	put := func(o sitedb.Object) (stored sitedb.Object, err error) {
		err = db.Change(ctx, "change gateway", func(tx *sitedb.Tx) error {
			stored, err = tx.Put(o)
			return err
		})
		return stored, err
	}
	made, err := put(sitedb.Object{Kind: "gateway", ID: "1", Name: "Zürich", Body: json.RawMessage(`{"n": 1}`)})
	if err != nil {
		t.Fatal(err)
	}
	want := sitedb.Object{Kind: "gateway", ID: "1", Name: "Zürich", Version: 1, Created: start, Changed: start, Body: json.RawMessage(`{"n": 1}`)}
	if d := cmp.Diff(want, made); d != "" {
		t.Error(d)
	}
	if got, err := db.Object(ctx, "gateway", "1"); err != nil || !cmp.Equal(got, want) {
		t.Errorf("stored object: %s, %v", cmp.Diff(want, got), err)
	}

	_, err = put(sitedb.Object{Kind: "gateway", ID: "1", Name: "other", Body: json.RawMessage(`1`)})
	wantKind(t, err, opencmg.Conflict)
	_, err = put(sitedb.Object{Kind: "gateway", ID: "2", Name: "ZÜRICH", Body: json.RawMessage(`1`)})
	wantKind(t, err, opencmg.Conflict)
	if !strings.Contains(err.Error(), "name ZÜRICH") {
		t.Errorf("taken name: %v", err)
	}
	// Another kind has names of its own, and no name is no name.
	for _, o := range []sitedb.Object{{Kind: "site", ID: "1", Name: "zürich"}, {Kind: "gateway", ID: "3"}, {Kind: "gateway", ID: "2"}, {Kind: "gateway", ID: "4", Name: "Bern"}} {
		o.Body = json.RawMessage("null")
		if _, err := put(o); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
	all, err := db.Objects(ctx, "gateway")
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, o := range all {
		order = append(order, o.ID)
	}
	if d := cmp.Diff([]string{"2", "3", "4", "1"}, order); d != "" {
		t.Error(d)
	}

	clock.advance(time.Minute)
	made.Body, made.Name = json.RawMessage(`{"n": 2}`), "zürich"
	second, err := put(made)
	if err != nil || second.Version != 2 || !second.Created.Equal(start) || !second.Changed.Equal(start.Add(time.Minute)) {
		t.Errorf("second version: %+v, %v", second, err)
	}
	_, err = put(made)
	wantKind(t, err, opencmg.Conflict)
	if !strings.Contains(err.Error(), "changed meanwhile") || !strings.HasPrefix(err.Error(), "change gateway: ") {
		t.Errorf("stale version: %v", err)
	}
	_, err = put(sitedb.Object{Kind: "gateway", ID: "gone", Version: 3, Body: json.RawMessage(`1`)})
	wantKind(t, err, opencmg.NotFound)
	for _, o := range []sitedb.Object{{Kind: "", ID: "1"}, {Kind: "a", ID: ""}, {Kind: "a", ID: "1", Version: -1}, {Kind: "a", ID: "1", Body: json.RawMessage("{")}, {Kind: "a", ID: "1"}} {
		_, err := put(o)
		wantKind(t, err, opencmg.Invalid)
	}
	_, err = put(sitedb.Object{Kind: "a", ID: "1", Body: json.RawMessage(`"` + strings.Repeat("x", 16<<20) + `"`)})
	wantKind(t, err, opencmg.TooLarge)

	change(t, db, func(tx *sitedb.Tx) error {
		wantKind(t, tx.Delete("gateway", "1", 1), opencmg.Conflict)
		wantKind(t, tx.Delete("gateway", "gone", 0), opencmg.NotFound)
		if list, err := tx.Objects("gateway"); err != nil || len(list) != 4 {
			t.Errorf("objects in a transaction: %v, %v", list, err)
		}
		return errors.Join(tx.Delete("gateway", "1", 2), tx.Delete("gateway", "2", 0))
	})
	_, err = db.Object(ctx, "gateway", "1")
	wantKind(t, err, opencmg.NotFound)
}

func TestChange(t *testing.T) { onEachEngine(t, testChange) }

func testChange(t *testing.T, e engine) {
	db, _ := e.open(t)
	ctx := t.Context()
	failure := errors.New("no")
	body := json.RawMessage("1")
	err := db.Change(ctx, "try", func(tx *sitedb.Tx) error {
		if _, err := tx.Put(sitedb.Object{Kind: "k", ID: "1", Body: body}); err != nil {
			t.Error(err)
		}
		if n, err := tx.NextNumber("n"); err != nil || n != 1 {
			t.Errorf("number %d, %v", n, err)
		}
		return failure
	})
	if !errors.Is(err, failure) {
		t.Errorf("error %v", err)
	}
	func() {
		defer func() {
			if r := recover(); r != "bug" {
				t.Errorf("recovered %v", r)
			}
		}()
		db.Change(ctx, "panic", func(tx *sitedb.Tx) error {
			if _, err := tx.Put(sitedb.Object{Kind: "k", ID: "1", Body: body}); err != nil {
				t.Error(err)
			}
			panic("bug")
		})
	}()
	_, err = db.Object(ctx, "k", "1")
	wantKind(t, err, opencmg.NotFound)

	// A refused step does not spoil the transaction for the next one.
	change(t, db, func(tx *sitedb.Tx) error {
		if !tx.Now().Equal(start) {
			t.Errorf("the transaction's time is %s", tx.Now())
		}
		for range 2 {
			if _, err := tx.Put(sitedb.Object{Kind: "k", ID: "1", Body: body}); err != nil {
				wantKind(t, err, opencmg.Conflict)
			}
		}
		for _, name := range []string{"n", "other"} {
			if n, err := tx.NextNumber(name); err != nil || n != 1 {
				t.Errorf("number %d, %v", n, err)
			}
		}
		return nil
	})
	change(t, db, func(tx *sitedb.Tx) error {
		if o, err := tx.Object("k", "1"); err != nil || o.Version != 1 {
			t.Errorf("object %+v, %v", o, err)
		}
		if n, err := tx.NextNumber("n"); err != nil || n != 2 {
			t.Errorf("number %d, %v", n, err)
		}
		return nil
	})
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	wantKind(t, db.Change(canceled, "too late", func(*sitedb.Tx) error { return nil }), opencmg.Timeout)
}

// Two openings of one database, as two processes have, change it by turns
// without losing a change.
func TestTwoWriters(t *testing.T) { onEachEngine(t, testTwoWriters) }

func testTwoWriters(t *testing.T, e engine) {
	c := e.config(t)
	dbs := make([]*sitedb.DB, 2)
	var wg sync.WaitGroup
	for i := range dbs { // both bring the schema up to date
		wg.Go(func() { dbs[i] = openConfig(t, c) })
	}
	wg.Wait()
	countByTurns(t, dbs...)
}

// countByTurns lets many count in one object, which loses none of them.
func countByTurns(t *testing.T, dbs ...*sitedb.DB) {
	t.Helper()
	change(t, dbs[0], func(tx *sitedb.Tx) error {
		_, err := tx.Put(sitedb.Object{Kind: "k", ID: "1", Body: json.RawMessage("0")})
		return err
	})
	var wg sync.WaitGroup
	const each = 50
	for _, db := range dbs {
		for range each {
			wg.Go(func() {
				if err := db.Change(t.Context(), "count", func(tx *sitedb.Tx) error {
					o, err := tx.Object("k", "1")
					if err != nil {
						return err
					}
					o.Body = json.RawMessage(fmt.Sprint(o.Version))
					_, err = tx.Put(o)
					return err
				}); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if o, err := dbs[1].Object(t.Context(), "k", "1"); err != nil || o.Version != 1+2*each || string(o.Body) != fmt.Sprint(2*each) {
		t.Errorf("after all changes: %+v, %v", o, err)
	}
}

func TestWatch(t *testing.T) { onEachEngine(t, testWatch) }

func testWatch(t *testing.T, e engine) {
	if os.Getenv("SITEDB_TEST_CHANGE") != "" {
		return
	}
	c := e.config(t)
	here := openConfig(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changes := here.Watch(ctx)
	second := here.Watch(t.Context())
	touch := func(tx *sitedb.Tx) error {
		_, err := tx.NextNumber("n")
		return err
	}
	change(t, here, touch)
	<-changes
	<-second
	// So is a line of an operation's log.
	var o sitedb.Operation
	change(t, here, func(tx *sitedb.Tx) (err error) {
		o, err = tx.PutOperation(sitedb.Operation{Kind: "k", SubjectKind: "s", SubjectID: "1", State: sitedb.OperationCreated})
		return err
	})
	<-changes
	<-second
	if err := here.AppendOperation(ctx, o.ID, "sign-in", "type the code", 1); err != nil {
		t.Fatal(err)
	}
	<-changes
	<-second
	// What clients do and what failed is not told; what another process did is.
	if err := here.RecordToken(ctx, sitedb.Token{ID: "1", Expires: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if err := here.Change(ctx, "fail", func(tx *sitedb.Tx) error { return errors.New("no") }); err == nil {
		t.Error("a failed change succeeded")
	}
	select {
	case <-changes:
		t.Error("told of nothing")
	default:
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestChangeFromOutside$")
	cmd.Env = append(os.Environ(), "SITEDB_TEST_CHANGE=1", "SITEDB_TEST_PATH="+c.Path, "SITEDB_TEST_DSN="+c.DSN)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	<-changes
	<-second
	if e.postgres {
		// A lost connection is made again, and what happened meanwhile is told.
		if _, err := adminPostgres(t).Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'opencmg' AND query = 'LISTEN opencmg_change' AND datname = $1", dbName(c)); err != nil {
			t.Fatal(err)
		}
		there := openConfig(t, c)
		change(t, there, touch)
		<-changes
	}
	cancel()
	for range changes {
	}
	if err := here.Close(); err != nil {
		t.Fatal(err)
	}
	for range second {
	}
	if _, open := <-here.Watch(t.Context()); open {
		t.Error("a closed database is watched")
	}
}

// TestChangeFromOutside is the other process of TestWatch.
func TestChangeFromOutside(t *testing.T) {
	if os.Getenv("SITEDB_TEST_CHANGE") == "" {
		t.Skip("part of another test")
	}
	db := openConfig(t, sitedb.Config{Path: os.Getenv("SITEDB_TEST_PATH"), DSN: os.Getenv("SITEDB_TEST_DSN")})
	change(t, db, func(tx *sitedb.Tx) error {
		_, err := tx.NextNumber("n")
		return err
	})
}
