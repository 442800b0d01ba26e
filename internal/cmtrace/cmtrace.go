// Package cmtrace writes log/slog records in the formats that Configuration
// Manager administrators read with CMTrace, into files with the names they
// search for.
//
// A [Handler] owns one directory. Each record goes to <component>.log, where
// the component is the value of the record's "component" attribute (wire.md
// 11.1, 11.3). A file that would pass 250,000 bytes is renamed to
// <component>.lo_, replacing the one before it, so one old file is kept.
//
//	h, err := cmtrace.New(cmtrace.Config{Dir: dir, Component: "CMGService"})
//	...
//	defer h.Close()
//	log := slog.New(slog.NewMultiHandler(h, slog.NewTextHandler(os.Stderr, nil)))
//
// Several handlers at once are the business of [slog.NewMultiHandler]. A
// directory belongs to one process: two of them would rotate each other's
// files away.
package cmtrace

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// ComponentKey is the attribute that names the file a record belongs to. It is
// looked for at the top level, outside every group; the innermost one wins.
const ComponentKey = "component"

// DefaultMaxSize is the size in bytes at which Configuration Manager renames a
// log file (cmg-behaviour: logs; wire.md 11.3).
const DefaultMaxSize = 250_000

// maxFiles bounds the open files if somebody made a component name out of
// data; further names share the default component's file.
const maxFiles = 64

// A Format is one of the two line formats.
type Format int

const (
	// Client is the format of clients and management points, wire.md 11.1.
	Client Format = iota
	// Server is the older format of site servers, wire.md 11.2.
	Server
)

// Config describes a [Handler].
type Config struct {
	// Dir holds the files. It is made, with mode 0750, when missing.
	Dir string
	// Component takes the records that name none. Required.
	Component string
	// Level is the lowest level written; nil means slog.LevelInfo.
	Level slog.Leveler
	// MaxSize is the rotation size in bytes; 0 means DefaultMaxSize.
	MaxSize int64
	// Format of the lines; the zero value is Client.
	Format Format
}

// A Handler is a [slog.Handler] for files in CMTrace format. It may be used by
// many goroutines at once.
type Handler struct {
	out       *output
	level     slog.Leveler
	component string
	prefix    string // open groups, each followed by a dot
	attrs     string // attributes of WithAttrs, already formatted
}

// New makes the directory and returns a handler for it. Files are opened when
// their first record arrives.
func New(c Config) (*Handler, error) {
	if c.Component == "" || fileName(c.Component) != c.Component {
		return nil, fmt.Errorf("log component %q: must be a plain file name, such as CMGService", c.Component)
	}
	if err := os.MkdirAll(c.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("make log directory: %w", err)
	}
	if c.MaxSize <= 0 {
		c.MaxSize = DefaultMaxSize
	}
	if c.Level == nil {
		c.Level = slog.LevelInfo
	}
	return &Handler{
		out:       &output{dir: c.Dir, maxSize: c.MaxSize, format: c.Format, fallback: c.Component, files: map[string]*file{}},
		level:     c.Level,
		component: c.Component,
	}, nil
}

// Enabled implements [slog.Handler].
func (h *Handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

// WithAttrs implements [slog.Handler].
func (h *Handler) WithAttrs(as []slog.Attr) slog.Handler {
	n := *h
	b := []byte(n.attrs)
	for _, a := range as {
		b = n.appendAttr(b, a)
	}
	n.attrs = string(b)
	return &n
}

// WithGroup implements [slog.Handler].
func (h *Handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	n := *h
	n.prefix += name + "."
	return &n
}

// Handle writes one record. Its error is that of the file system; the next
// record tries again.
func (h *Handler) Handle(_ context.Context, r slog.Record) error {
	n := *h
	text := make([]byte, 0, 256)
	text = append(text, r.Message...)
	text = append(text, n.attrs...)
	r.Attrs(func(a slog.Attr) bool {
		text = n.appendAttr(text, a)
		return true
	})
	e := entry{time: r.Time, level: r.Level, text: string(text)}
	if r.PC != 0 {
		f, _ := runtime.CallersFrames([]uintptr{r.PC}).Next()
		e.source = fmt.Sprintf("%s:%d", filepath.Base(f.File), f.Line)
	}
	return h.out.write(n.component, &e)
}

// Close closes the files. Records that come later open them again, so closing
// is safe while others still log.
func (h *Handler) Close() error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	var first error
	for _, f := range h.out.files {
		if err := f.close(); err != nil && first == nil {
			first = err
		}
	}
	clear(h.out.files)
	return first
}

// appendAttr formats one attribute as " key=value", or takes the component
// from it.
func (h *Handler) appendAttr(b []byte, a slog.Attr) []byte {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		inner := *h
		if a.Key != "" {
			inner.prefix += a.Key + "."
		}
		for _, m := range v.Group() {
			b = inner.appendAttr(b, m)
		}
		if a.Key == "" {
			h.component = inner.component
		}
		return b
	}
	if a.Equal(slog.Attr{}) {
		return b
	}
	if a.Key == ComponentKey && h.prefix == "" {
		if s := v.String(); s != "" {
			h.component = s
		}
		return b
	}
	b = append(b, ' ')
	b = append(b, h.prefix...)
	b = append(b, a.Key...)
	b = append(b, '=')
	return appendValue(b, v)
}

// An output is what all handlers derived from one share.
type output struct {
	dir      string
	maxSize  int64
	format   Format
	fallback string

	// mu guards files and every write, so that entries never mix.
	mu    sync.Mutex
	files map[string]*file
	line  []byte // reused for formatting
}

func (o *output) write(component string, e *entry) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	name := fileName(component)
	key := strings.ToLower(name) // one file on systems that ignore case
	f := o.files[key]
	if f == nil {
		if name == "" || len(o.files) >= maxFiles {
			name = o.fallback
			key = strings.ToLower(name)
		}
		if f = o.files[key]; f == nil {
			f = &file{path: filepath.Join(o.dir, name+".log"), max: o.maxSize}
			o.files[key] = f
		}
	}
	e.component = name
	o.line = e.append(o.line[:0], o.format)
	return f.write(o.line)
}

// fileName removes from a component what may not stand in a file name.
func fileName(component string) string {
	if len(component) > 64 {
		component = component[:64]
	}
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return -1
	}, component)
}
