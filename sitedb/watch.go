package sitedb

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// pollChanges is how often SQLite is asked whether another process committed;
// retryListen is the pause before PostgreSQL is connected to again, and silence
// how long nothing is heard from it before it is asked.
const (
	pollChanges = 100 * time.Millisecond
	retryListen = 500 * time.Millisecond
	silence     = 15 * time.Second
)

// channel is the notification channel of PostgreSQL, one per database.
const channel = "opencmg_change"

// A watch tells those who wait that something changed.
type watch struct {
	ended sync.WaitGroup // what Watch started

	mu       sync.Mutex // guards the following
	running  bool       // the loop that hears of other processes
	revision int64      // the last one that watchers heard of
	waiting  map[chan struct{}]bool
}

// Watch returns a channel that gets a value soon after any [DB.Change] took
// effect, in this process or, within a second, in another one that uses the
// database. Several changes may give one value: read what matters again after
// each. Acts that follow from clients and traffic are not told. The channel is
// closed when ctx or the database ends.
//
// Watch first and read then, so that no change falls between.
func (db *DB) Watch(ctx context.Context) <-chan struct{} {
	w := &db.watch
	ch := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-db.stop:
		close(ch)
		return ch
	default:
	}
	if w.waiting == nil {
		w.waiting = map[chan struct{}]bool{}
	}
	w.waiting[ch] = true
	w.ended.Go(func() {
		select {
		case <-ctx.Done():
		case <-db.stop:
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.waiting, ch)
		close(ch)
	})
	if !w.running {
		w.running = true
		// Without this number the loop announces the first that it sees.
		if n, err := db.readRevision(ctx); err == nil {
			w.revision = max(w.revision, n)
		}
		loop, cancel := context.WithCancel(context.WithoutCancel(ctx))
		w.ended.Go(func() { <-db.stop; cancel() })
		w.ended.Go(func() {
			if db.postgres {
				db.listenForChanges(loop)
			} else {
				db.pollForChanges(loop)
			}
		})
	}
	return ch
}

// changed tells the watchers of a revision, unless they know.
func (db *DB) changed(revision int64) {
	w := &db.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if revision <= w.revision {
		return
	}
	w.revision = revision
	for ch := range w.waiting {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// announce gives the transaction a revision and, on PostgreSQL, tells the
// other processes of it when it commits.
func (db *DB) announce(ctx context.Context, tx *sql.Tx) (revision int64, err error) {
	if err := tx.QueryRowContext(ctx, "UPDATE revision SET number = number + 1 RETURNING number").Scan(&revision); err != nil {
		return 0, err
	}
	if db.postgres {
		_, err = tx.ExecContext(ctx, "NOTIFY "+channel)
	}
	return revision, err
}

func (db *DB) readRevision(ctx context.Context) (n int64, err error) {
	err = db.row(ctx, "SELECT number FROM revision").Scan(&n)
	return n, err
}

// pollForChanges asks one connection for its data_version, which costs next to
// nothing and changes when any other connection commits.
func (db *DB) pollForChanges(ctx context.Context) {
	var conn *sql.Conn
	var known int64
	db.keepLooking(ctx, pollChanges, func() (err error) {
		if conn == nil {
			if conn, err = db.read.Conn(ctx); err != nil {
				return err
			}
		}
		var now int64
		if err := conn.QueryRowContext(ctx, "PRAGMA data_version").Scan(&now); err != nil {
			conn.Close()
			conn, known = nil, 0
			return err
		}
		if now == known {
			return nil
		}
		n, err := db.readRevision(ctx)
		if err == nil {
			db.changed(n)
			known = now
		}
		return err
	})
	if conn != nil {
		conn.Close()
	}
}

// listenForChanges keeps a connection on which the server tells of changes.
func (db *DB) listenForChanges(ctx context.Context) {
	db.keepLooking(ctx, retryListen, func() error { return db.listenOnce(ctx) })
}

// keepLooking calls look until ctx ends, with a pause between. It logs when
// looking begins to fail, and when it works again.
func (db *DB) keepLooking(ctx context.Context, pause time.Duration, look func() error) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	failing := false
	for {
		err := look()
		if ctx.Err() != nil {
			return
		}
		switch {
		case err != nil && !failing:
			db.log.Warn("can not hear of changes by other processes; trying again", "err", err)
		case err == nil && failing:
			db.log.Info("hearing of changes by other processes again")
		}
		failing = err != nil
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// listenOnce hears of changes until the connection fails.
func (db *DB) listenOnce(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, db.listen.Copy())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return err
	}
	for {
		// Also right after LISTEN, for what happened before was not told, and
		// after a silence, for a connection can die without a word.
		var n int64
		look, cancel := context.WithTimeout(ctx, silence)
		err := conn.QueryRow(look, "SELECT number FROM revision").Scan(&n)
		cancel()
		if err != nil {
			return err
		}
		db.changed(n)
		hear, cancel := context.WithTimeout(ctx, silence)
		_, err = conn.WaitForNotification(hear)
		cancel()
		if err != nil && !(errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil) {
			return err
		}
	}
}
