package sitedb

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"
	"time"

	"github.com/opencmg/opencmg"
)

// An act is one transaction waiting for the writer.
type act struct {
	ctx      context.Context
	do       func(*Tx) error
	announce bool // watchers hear of it
	// begun is set by the writer that runs the act, or by the caller that does
	// not wait for that any longer, whoever is first.
	begun    atomic.Bool
	err      error
	panicked any
	done     chan struct{}
}

// A Tx is a running transaction of the writer. Its time is fixed. It is used
// only inside the function that was given it, by one goroutine.
type Tx struct {
	db     *DB
	ctx    context.Context
	tx     *sql.Tx
	now    time.Time
	failed error // of a statement: the act fails, even if its function goes on
}

// Now is the time of the transaction, in UTC.
func (tx *Tx) Now() time.Time { return tx.now }

// Change runs do as one transaction, alone among all that write: it sees what
// every earlier one did, and when Change returns nil its effect is on disk.
// When do returns an error, or panics, it had no effect. What appears in the
// error as what was being done. Do runs once or, when ctx ends before its turn,
// not at all; once it runs, ctx is not looked at.
//
// Watchers hear of a change, see [DB.Watch]. Do must be quick, must not wait
// for anything but the database, and must not call methods of DB that write:
// they would wait for do.
func (db *DB) Change(ctx context.Context, what string, do func(*Tx) error) error {
	return db.run(what, &act{ctx: ctx, do: do, announce: true})
}

// transact is Change without telling the watchers.
func (db *DB) transact(ctx context.Context, what string, do func(*Tx) error) error {
	return db.run(what, &act{ctx: ctx, do: do})
}

func (db *DB) run(what string, a *act) error {
	a.done = make(chan struct{})
	select {
	case db.queue <- a:
	case <-a.ctx.Done():
		return wrap(a.ctx.Err(), what)
	case <-db.stop:
		return wrap(errClosed, what)
	}
	select {
	case <-a.done:
	case <-db.done:
	case <-a.ctx.Done():
		if a.begun.CompareAndSwap(false, true) {
			return wrap(a.ctx.Err(), what)
		}
		// Soon it is known what happened.
		select {
		case <-a.done:
		case <-db.done:
		}
	}
	select {
	case <-a.done:
	default:
		return wrap(errClosed, what)
	}
	if a.panicked != nil {
		panic(a.panicked)
	}
	return wrap(a.err, what)
}

var errClosed = &opencmg.Error{Kind: opencmg.Unavailable, Msg: "the database is closed"}

// maxBatch acts share one commit, and so one sync of the disk: with one sync
// each, a crowd of clients would wait for the disk in single file.
const maxBatch = 128

// batchTimeout bounds a batch on PostgreSQL. It is longer than the wait for the
// writers of other processes.
const batchTimeout = time.Minute

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
		revision, err := db.runBatch(batch)
		if err == nil && revision != 0 {
			db.changed(revision)
		}
		for _, a := range batch {
			if err != nil && a.err == nil {
				a.err = err
			}
			close(a.done)
		}
	}
}

// runBatch runs each act between savepoints, so that one that fails takes back
// only what it did; a single act needs none. An error is about the whole
// batch. Revision is the new one when there is something to announce.
func (db *DB) runBatch(batch []*act) (revision int64, err error) {
	// The writer outlives every caller; their contexts are checked per act.
	ctx := context.Background()
	if db.postgres {
		// A server that is gone without a word must not stop the writer.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, batchTimeout)
		defer cancel()
		defer func() {
			if err != nil && ctx.Err() != nil {
				err = &opencmg.Error{Kind: opencmg.Unavailable, Msg: textLost, Err: err}
			}
		}()
	}
	tx, err := db.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	announce := false
	savepoint := "SAVEPOINT act" // what the next act needs before it
	for _, a := range batch {
		if a.err = a.ctx.Err(); a.err != nil || !a.begun.CompareAndSwap(false, true) {
			continue
		}
		if len(batch) > 1 && savepoint != "" {
			if _, err := tx.ExecContext(ctx, savepoint); err != nil {
				return 0, err
			}
		}
		db.runAct(ctx, tx, a)
		switch failed := a.err != nil || a.panicked != nil; {
		case !failed:
			announce = announce || a.announce
			savepoint = "RELEASE act; SAVEPOINT act"
		case len(batch) == 1:
			return 0, nil
		default:
			if _, err := tx.ExecContext(ctx, "ROLLBACK TO act"); err != nil {
				return 0, err
			}
			savepoint = "" // it is still there
		}
	}
	if announce {
		if revision, err = db.announce(ctx, tx); err != nil {
			return 0, err
		}
	}
	return revision, tx.Commit()
}

// begin begins a transaction that may write. A connection that was lost while
// nobody used it is made again.
func (db *DB) begin(ctx context.Context) (*sql.Tx, error) {
	for again := db.postgres; ; again = false {
		tx, err := db.beginWrite(ctx, db.write)
		if err == nil {
			return tx, nil
		}
		if kind, text := classify(err); !again || kind != opencmg.Unavailable || text != textLost {
			return nil, err
		}
	}
}

// runAct leaves the act's error or panic in it.
func (db *DB) runAct(ctx context.Context, sqlTx *sql.Tx, a *act) {
	defer func() { a.panicked = recover() }()
	tx := &Tx{db: db, ctx: ctx, tx: sqlTx, now: db.now().UTC().Truncate(time.Microsecond)}
	if a.err = a.do(tx); a.err == nil {
		// PostgreSQL ends a transaction with its first failed statement.
		a.err = tx.failed
	}
}

func (tx *Tx) exec(query string, args ...any) error {
	_, err := tx.result(query, args...)
	return err
}

func (tx *Tx) result(query string, args ...any) (sql.Result, error) {
	result, err := tx.tx.ExecContext(tx.ctx, tx.db.sql(query), plain(args)...)
	return result, tx.note(err)
}

// must runs a statement that has to change a row, or fails with missing.
func (tx *Tx) must(missing error, query string, args ...any) error {
	n, err := tx.count(query, args...)
	if err == nil && n == 0 {
		err = missing
	}
	return err
}

// count runs a statement and returns how many rows it changed.
func (tx *Tx) count(query string, args ...any) (int64, error) {
	result, err := tx.result(query, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (tx *Tx) row(query string, args ...any) row {
	return row{tx.tx.QueryRowContext(tx.ctx, tx.db.sql(query), plain(args)...), tx}
}

func (tx *Tx) query(query string, args ...any) (*sql.Rows, error) {
	rows, err := tx.tx.QueryContext(tx.ctx, tx.db.sql(query), plain(args)...)
	return rows, tx.note(err)
}

func (tx *Tx) note(err error) error {
	if err != nil && tx.failed == nil {
		tx.failed = err
	}
	return err
}

// A row is a query's only row, in a transaction or not.
type row struct {
	*sql.Row
	tx *Tx // nil outside of a transaction
}

// Scan is sql.Row's, or fails with sql.ErrNoRows.
func (r row) Scan(dest ...any) error {
	err := r.Row.Scan(dest...)
	if r.tx != nil && !errors.Is(err, sql.ErrNoRows) {
		r.tx.note(err)
	}
	return err
}

func (db *DB) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return db.read.QueryContext(ctx, db.sql(query), plain(args)...)
}

func (db *DB) row(ctx context.Context, query string, args ...any) row {
	return row{Row: db.read.QueryRowContext(ctx, db.sql(query), plain(args)...)}
}

// A scanner is a row or the current one of several.
type scanner interface{ Scan(...any) error }

// collect reads all rows of a query whose error is err.
func collect[T any](rows *sql.Rows, err error, scan func(scanner) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// View runs do on one state of the database, without keeping anybody from
// writing meanwhile. Do must not write. What appears in the error as what was
// being done.
func (db *DB) View(ctx context.Context, what string, do func(*Tx) error) error {
	tx, err := db.engine.snapshot(ctx, db.read)
	if err != nil {
		return wrap(err, what)
	}
	defer tx.Rollback()
	return wrap(do(&Tx{db: db, ctx: ctx, tx: tx, now: db.now().UTC()}), what)
}
