package sitedb

import (
	"bufio"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/opencmg/opencmg"
)

// A backup is UTF-8 text, one JSON value per line, which either engine can
// read back:
//
//	{"format":"opencmg-backup","version":1,"schema":2,"time":"..."}
//	{"table":"clients","columns":["id","netbios_name",...]}
//	["GUID:...","PC01",...]
//	...
//	{"end":true,"rows":{"clients":1,...},"sha256":"..."}
//
// Every table of the schema appears once, in the order of tables. A value is a
// whole number, a number with a point or an exponent, a string, null, or
// {"b":"base64"}. The last line has the SHA-256 of all bytes before it; nothing
// follows it.
const (
	backupFormat  = "opencmg-backup"
	backupVersion = 1
)

// A table says what a backup has to know. References point backwards in the
// list.
type table struct {
	name  string
	order string // primary key
	// serial is a column that the database numbers.
	serial string
	since  int // the first schema that has it, or 0
}

// tables are all but schema_version.
var tables = []table{
	{name: "clients", order: "id"},
	{name: "reports", order: "client_id, action, full_report"},
	{name: "state_messages", order: "client_id, topic_type, topic_id"},
	{name: "status_messages", order: "id", serial: "id"},
	{name: "policies", order: "id"},
	{name: "policy_assignments", order: "id"},
	{name: "tokens", order: "id"},
	{name: "token_uses", order: "token_id, signing_key", since: 4},
	{name: "notifications", order: "push_id", serial: "push_id"},
	{name: "revision", order: "id", serial: "id", since: 2},
	{name: "objects", order: "kind, id", since: 2},
	{name: "counters", order: "name", since: 2},
	{name: "secrets", order: "name", since: 2},
	{name: "operations", order: "id", since: 2},
	{name: "operation_log", order: "id", serial: "id", since: 2},
	{name: "site_messages", order: "id", serial: "id", since: 2},
	{name: "alerts", order: "id", serial: "id", since: 2},
	{name: "traffic", order: "part, width, start, gateway_id, endpoint, instance, connection_point", since: 2},
	{name: "refusals", order: "part, width, start, gateway_id, cause, instance", since: 5},
	{name: "latencies", order: "part, width, start, gateway_id, endpoint", since: 5},
	{name: "samples", order: "name, width, at, subject", since: 2},
	{name: "directory_objects", order: "tenant_id, kind, id", since: 3},
	{name: "directory_members", order: "tenant_id, group_id, member_id", since: 3},
	{name: "client_operations", order: "id", serial: "id", since: 6},
}

// tablesOf returns the tables of a schema.
func tablesOf(schema int) []table {
	return slices.DeleteFunc(slices.Clone(tables), func(t table) bool { return t.since > schema })
}

type backupHeader struct {
	Format  string    `json:"format"`
	Version int       `json:"version"`
	Schema  int       `json:"schema"`
	Time    time.Time `json:"time"`
}

type backupTable struct {
	Table   string   `json:"table"`
	Columns []string `json:"columns"`
}

type backupTrailer struct {
	End    bool             `json:"end"`
	Rows   map[string]int64 `json:"rows"`
	SHA256 string           `json:"sha256"`
}

// Backup writes the whole database as it is at one moment, while others go on
// reading and writing, in a form that [Restore] reads on either engine.
// Secrets stay encrypted in it: without a copy of the key file, which is not
// in it, they are lost. What clients and administrators stored is not
// encrypted; keep the backup as private as the database.
//
// Progress, if not nil, is called after each table and every 10000 rows.
func (db *DB) Backup(ctx context.Context, w io.Writer, progress func(table string, rows int64)) error {
	const what = "back up"
	tx, err := db.snapshot(ctx, db.read)
	if err != nil {
		return wrap(err, what)
	}
	defer tx.Rollback()
	out := &backupWriter{w: bufio.NewWriterSize(w, 64<<10), sum: sha256.New()}
	var schema int
	if err := tx.QueryRowContext(ctx, "SELECT MAX(version) FROM schema_version").Scan(&schema); err != nil {
		return wrap(err, what)
	}
	out.line(backupHeader{Format: backupFormat, Version: backupVersion, Schema: schema, Time: db.now().UTC().Truncate(time.Microsecond)})
	trailer := backupTrailer{End: true, Rows: map[string]int64{}}
	for _, t := range tables {
		n, err := out.table(ctx, tx, t, progress)
		if err != nil {
			return wrap(err, what+" "+t.name)
		}
		trailer.Rows[t.name] = n
	}
	trailer.SHA256 = hex.EncodeToString(out.sum.Sum(nil))
	out.line(trailer)
	if out.err == nil {
		out.err = out.w.Flush()
	}
	return wrap(out.err, what)
}

// A backupWriter writes lines until one fails.
type backupWriter struct {
	w   *bufio.Writer
	sum hash.Hash
	err error
	buf []byte
}

func (b *backupWriter) line(v any) {
	text, err := json.Marshal(v)
	if b.err == nil {
		b.err = err
	}
	b.raw(append(text, '\n'))
}

func (b *backupWriter) raw(line []byte) {
	if b.err != nil {
		return
	}
	b.sum.Write(line)
	_, b.err = b.w.Write(line)
}

func (b *backupWriter) table(ctx context.Context, tx *sql.Tx, t table, progress func(string, int64)) (n int64, err error) {
	rows, err := tx.QueryContext(ctx, "SELECT * FROM "+t.name+" ORDER BY "+t.order)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return 0, err
	}
	b.line(backupTable{Table: t.name, Columns: columns})
	values := make([]any, len(columns))
	into := make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return 0, err
		}
		if err := b.row(values); err != nil {
			return 0, err
		}
		if b.err != nil {
			return 0, b.err
		}
		if n++; progress != nil && n%10000 == 0 {
			progress(t.name, n)
		}
	}
	if progress != nil {
		progress(t.name, n)
	}
	return n, rows.Err()
}

func (b *backupWriter) row(values []any) error {
	line := append(b.buf[:0], '[')
	for i, v := range values {
		if i > 0 {
			line = append(line, ',')
		}
		switch v := v.(type) {
		case nil:
			line = append(line, "null"...)
		case int64:
			line = strconv.AppendInt(line, v, 10)
		case float64:
			text := strconv.FormatFloat(v, 'g', -1, 64)
			if !strings.ContainsAny(text, ".e") {
				text += ".0"
			}
			line = append(line, text...)
		case string:
			text, err := json.Marshal(v)
			if err != nil {
				return err
			}
			line = append(line, text...)
		case []byte:
			line = append(line, `{"b":"`...)
			line = base64.StdEncoding.AppendEncode(line, v)
			line = append(line, `"}`...)
		default:
			return fmt.Errorf("a column has a value of type %T", v)
		}
	}
	b.buf = append(line, ']', '\n')
	b.raw(b.buf)
	return nil
}

// maxBackupLine bounds what a damaged backup can make us hold, in bytes. A
// report of a client is the longest line: 64 MiB at most before compression.
const maxBackupLine = 128 << 20

// A backupReader reads what Backup wrote and trusts nothing of it. Values are
// nil, int64, float64, string or []byte.
type backupReader struct {
	r      *bufio.Reader
	sum    hash.Hash
	header backupHeader
	rows   map[string]int64
}

// damaged is about a backup that can not be read to its end.
func damaged(format string, args ...any) error {
	return opencmg.Errorf(opencmg.Invalid, "the backup is damaged or cut off: "+format+"; take another one", args...)
}

func newBackupReader(r io.Reader) (*backupReader, error) {
	b := &backupReader{r: bufio.NewReaderSize(r, 64<<10), sum: sha256.New(), rows: map[string]int64{}}
	line, err := b.line()
	if err != nil {
		return nil, err
	}
	if json.Unmarshal(line, &b.header) != nil || b.header.Format != backupFormat {
		return nil, opencmg.Errorf(opencmg.Invalid, "this is no backup of a site")
	}
	known := len(readMigrations())
	if b.header.Version != backupVersion || b.header.Schema > known {
		return nil, opencmg.Errorf(opencmg.Invalid, "the backup is of a newer release (format %d, schema %d), this one reads format %d and schemas up to %d: restore it with the newer release", b.header.Version, b.header.Schema, backupVersion, known)
	}
	if b.header.Schema < 1 {
		return nil, damaged("it has schema %d", b.header.Schema)
	}
	return b, nil
}

// read gives all tables and rows to the two functions, in order, and returns
// nil only when the end was reached and everything before it is whole. The
// slice of values is used again for the next row.
func (b *backupReader) read(begin func(backupTable) error, row func([]any) error) error {
	expected := tablesOf(b.header.Schema)
	var current backupTable
	var values []any
	for {
		before := hex.EncodeToString(b.sum.Sum(nil))
		line, err := b.line()
		if err != nil {
			return err
		}
		if line[0] == '[' {
			if current.Table == "" {
				return damaged("a row is in no table")
			}
			if values, err = parseRow(line, values[:0]); err != nil {
				return damaged("row %d of %s can not be read", b.rows[current.Table]+1, current.Table)
			}
			if len(values) != len(current.Columns) {
				return damaged("row %d of %s has %d values and not %d", b.rows[current.Table]+1, current.Table, len(values), len(current.Columns))
			}
			b.rows[current.Table]++
			if err := row(values); err != nil {
				return err
			}
			continue
		}
		if len(expected) == 0 {
			return b.end(line, before)
		}
		current = backupTable{}
		if err := json.Unmarshal(line, &current); err != nil || current.Table != expected[0].name {
			return damaged("table %s is missing", expected[0].name)
		}
		b.rows[current.Table] = 0
		expected = expected[1:]
		if err := begin(current); err != nil {
			return err
		}
	}
}

// end checks the last line against what was read.
func (b *backupReader) end(line []byte, sum string) error {
	var t backupTrailer
	if err := json.Unmarshal(line, &t); err != nil || !t.End {
		return damaged("its last line can not be read")
	}
	if t.SHA256 != sum {
		return damaged("its content does not fit its checksum")
	}
	for name, n := range b.rows {
		if t.Rows[name] != n {
			return damaged("table %s has %d rows and not %d", name, n, t.Rows[name])
		}
	}
	if _, err := b.r.ReadByte(); !errors.Is(err, io.EOF) {
		return damaged("something follows its end")
	}
	return nil
}

// line returns the next line without its end; it is not empty.
func (b *backupReader) line() ([]byte, error) {
	var line []byte
	for {
		part, err := b.r.ReadSlice('\n')
		line = append(line, part...)
		if err == nil {
			break
		}
		if errors.Is(err, io.EOF) {
			return nil, damaged("it ends too early")
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, fmt.Errorf("read backup: %w", err)
		}
		if len(line) > maxBackupLine {
			return nil, damaged("a line is longer than %d bytes", maxBackupLine)
		}
	}
	b.sum.Write(line)
	if line = line[:len(line)-1]; len(line) == 0 {
		return nil, damaged("it has an empty line")
	}
	return line, nil
}

// parseRow appends the values of a line.
func parseRow(line []byte, values []any) ([]any, error) {
	if !utf8.Valid(line) {
		return nil, errors.New("no UTF-8")
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(line, &raw); err != nil {
		return nil, err
	}
	for _, text := range raw {
		v, err := parseValue(text)
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return values, nil
}

func parseValue(text json.RawMessage) (any, error) {
	switch c := text[0]; {
	case c == 'n':
		return nil, nil
	case c == '"':
		var s string
		err := json.Unmarshal(text, &s)
		return s, err
	case c == '{':
		var blob struct {
			B *string `json:"b"`
		}
		if err := json.Unmarshal(text, &blob); err != nil || blob.B == nil {
			return nil, errors.New("no bytes")
		}
		return base64.StdEncoding.DecodeString(*blob.B)
	case c != '-' && (c < '0' || c > '9'):
		return nil, errors.New("no value")
	case strings.ContainsAny(string(text), ".eE"):
		return strconv.ParseFloat(string(text), 64)
	}
	return strconv.ParseInt(string(text), 10, 64)
}
