package sitedb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"

	"github.com/opencmg/opencmg"
)

// Result codes of SQLite, https://www.sqlite.org/rescode.html.
const (
	sqliteBusy       = 5
	sqliteLocked     = 6
	sqliteFull       = 13
	sqliteConstraint = 19
)

const (
	textBusy     = "the database is busy; try again"
	textFull     = "the disk of the database is full; make room, then try again"
	textConflict = "the record is there already, or another one needs it"
	textLost     = "the connection to the PostgreSQL server was lost or can not be made; check that the server runs and is reached, and look at the record before repeating a change"
)

// wrap adds what was being done and turns the drivers' errors into kinds.
func wrap(err error, what string) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*opencmg.Error](err); ok {
		return fmt.Errorf("%s: %w", what, err)
	}
	kind, text := classify(err)
	if kind == "" {
		return fmt.Errorf("%s: %w", what, err)
	}
	return &opencmg.Error{Kind: kind, Msg: what + ": " + text, Err: err}
}

// classify returns the kind of a driver's error and a text for people, or
// nothing for an error that only we can have caused.
func classify(err error) (kind opencmg.Kind, text string) {
	if errors.Is(err, sql.ErrNoRows) {
		return opencmg.NotFound, "there is no such record"
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return classifyPostgres(e.Code)
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok { // even if by connect_timeout
		return opencmg.Unavailable, textLost
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return opencmg.Timeout, "the caller did not wait for the database"
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch e.Code() & 0xff {
		case sqliteBusy, sqliteLocked:
			return opencmg.Unavailable, textBusy
		case sqliteFull:
			return opencmg.Unavailable, textFull
		case sqliteConstraint:
			return opencmg.Conflict, textConflict
		}
		return "", ""
	}
	if lost(err) {
		return opencmg.Unavailable, textLost
	}
	return "", ""
}

// classifyPostgres knows the error codes of PostgreSQL, appendix A of its
// manual. The first two characters are the class.
func classifyPostgres(code string) (kind opencmg.Kind, text string) {
	switch code {
	case "40001", "40P01", "55P03", "57014": // serialization, deadlock, lock_timeout, statement_timeout
		return opencmg.Unavailable, textBusy
	case "53100":
		return opencmg.Unavailable, textFull
	case "53300":
		return opencmg.Unavailable, "the PostgreSQL server has no free connection; raise max_connections or close others"
	case "25006":
		return opencmg.Unavailable, "the PostgreSQL server only reads, as a standby does; connect to the primary, e.g. with target_session_attrs=read-write"
	case "25P03":
		return opencmg.Unavailable, "the PostgreSQL server ended a transaction that stood still; try again"
	case "22021", "22P05":
		return opencmg.Invalid, "the text has characters that the database can not store; its encoding must be UTF8"
	case "3D000":
		return opencmg.Invalid, "the PostgreSQL server has no such database; make it with createdb"
	case "42501":
		return opencmg.Invalid, "the PostgreSQL user may not do this; make it the owner of the database"
	}
	switch code[:min(2, len(code))] {
	case "23":
		return opencmg.Conflict, textConflict
	case "28":
		return opencmg.Invalid, "the PostgreSQL server refused the user or its password; check the address, the password file and pg_hba.conf"
	case "53":
		return opencmg.Unavailable, "the PostgreSQL server is out of resources; look at its log"
	case "08", "57":
		return opencmg.Unavailable, textLost
	}
	return "", ""
}

// lost reports whether the connection to the server broke or was never made.
func lost(err error) bool {
	_, isNet := errors.AsType[net.Error](err)
	return isNet || pgconn.SafeToRetry(err) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}
