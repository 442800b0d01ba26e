package web

import (
	"context"
	"log/slog"
	"strings"
	"sync"

	"github.com/opencmg/opencmg"
)

// LogTailSize is how many lines a [LogTail] keeps.
const LogTailSize = 1000

// Bounds of one line of a tail, in bytes; what is longer is cut.
const (
	maxLogText  = 2048
	maxLogAttrs = 32
)

// A LogTail keeps the latest records of a log, those of level info and above,
// and hands them on as they come. It costs nothing for records below info. Its
// methods may be called from many goroutines.
type LogTail struct {
	source string

	mu    sync.Mutex // guards what follows, held for a copy
	ring  []opencmg.LogLine
	count uint64        // lines ever
	more  chan struct{} // closed by the next line; nil while nobody waits
}

// NewLogTail makes an empty tail. source names the process in every line, e.g.
// "gw/0" for an instance of a gateway.
func NewLogTail(source string) *LogTail { return &LogTail{source: source} }

// Handler returns the handler that fills the tail. The attribute "component"
// becomes that of the line.
func (t *LogTail) Handler() slog.Handler { return &tailHandler{tail: t} }

func (t *LogTail) add(l opencmg.LogLine) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.ring) < LogTailSize {
		t.ring = append(t.ring, l)
	} else {
		t.ring[t.count%LogTailSize] = l
	}
	t.count++
	if t.more != nil {
		close(t.more)
		t.more = nil
	}
}

// Follow returns a reader that begins with the oldest line kept. It needs no
// closing.
func (t *LogTail) Follow() *LogFollower { return &LogFollower{tail: t} }

// A LogFollower reads a tail. A reader that is too slow loses the oldest lines
// and learns how many. One goroutine may use it.
type LogFollower struct {
	tail *LogTail
	next uint64 // number of the next line
}

// Take returns the lines since the last call, at most [LogTailSize], and how
// many were lost before them.
func (f *LogFollower) Take() (lines []opencmg.LogLine, lost uint64) {
	t := f.tail
	t.mu.Lock()
	defer t.mu.Unlock()
	return f.take()
}

// More returns a channel that is closed when there are lines to take.
func (f *LogFollower) More() <-chan struct{} {
	t := f.tail
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.more == nil {
		t.more = make(chan struct{})
	}
	more := t.more
	if f.next < t.count {
		close(more)
		t.more = nil
	}
	return more
}

// take is Take with the tail's lock held.
func (f *LogFollower) take() (lines []opencmg.LogLine, lost uint64) {
	t := f.tail
	oldest := t.count - uint64(len(t.ring))
	if f.next < oldest {
		if f.next > 0 { // what was there before anybody looked is not lost
			lost = oldest - f.next
		}
		f.next = oldest
	}
	for ; f.next < t.count; f.next++ {
		lines = append(lines, t.ring[f.next%LogTailSize])
	}
	return lines, lost
}

// Next is Take that waits until there is a line. Its error is that of ctx.
func (f *LogFollower) Next(ctx context.Context) (lines []opencmg.LogLine, lost uint64, err error) {
	t := f.tail
	for {
		t.mu.Lock()
		if f.next < t.count {
			defer t.mu.Unlock()
			lines, lost = f.take()
			return lines, lost, nil
		}
		if t.more == nil {
			t.more = make(chan struct{})
		}
		more := t.more
		t.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

type tailHandler struct {
	tail      *LogTail
	component string
	prefix    string // open groups, each followed by a dot
	attrs     []textAttr
}

type textAttr struct{ key, value string }

func (h *tailHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (h *tailHandler) WithAttrs(as []slog.Attr) slog.Handler {
	n := *h
	n.attrs = append([]textAttr(nil), h.attrs...)
	for _, a := range as {
		n.add(h.prefix, a)
	}
	return &n
}

func (h *tailHandler) WithGroup(name string) slog.Handler {
	n := *h
	if name != "" {
		n.prefix += name + "."
	}
	return &n
}

func (h *tailHandler) Handle(_ context.Context, r slog.Record) error {
	n := *h
	n.attrs = append([]textAttr(nil), h.attrs...)
	r.Attrs(func(a slog.Attr) bool {
		n.add(h.prefix, a)
		return true
	})
	l := opencmg.LogLine{Time: r.Time.UTC(), Level: r.Level.String(), Component: n.component, Message: cut(r.Message), Source: n.tail.source}
	for _, a := range n.attrs {
		if l.Attrs == nil {
			l.Attrs = map[string]string{}
		}
		l.Attrs[a.key] = a.value
	}
	n.tail.add(l)
	return nil
}

// add notes an attribute, or those of a group.
func (h *tailHandler) add(prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	switch {
	case v.Kind() == slog.KindGroup:
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, m := range v.Group() {
			h.add(prefix, m)
		}
	case a.Key == "" || len(h.attrs) == maxLogAttrs:
	case prefix == "" && a.Key == "component":
		h.component = cut(v.String())
	default:
		h.attrs = append(h.attrs, textAttr{prefix + a.Key, cut(v.String())})
	}
}

func cut(s string) string {
	if len(s) <= maxLogText {
		return s
	}
	return strings.ToValidUTF8(s[:maxLogText], "") + "..."
}
