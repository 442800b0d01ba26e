package cmtrace

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// An entry is one record on its way into a file.
type entry struct {
	time      time.Time
	level     slog.Level
	text      string
	component string
	source    string // file:line, may be empty
}

// Texts that would let a message pretend to be the end of its own entry.
var (
	neutralClient = strings.NewReplacer("]LOG]!>", "]LOG]! >", "<![LOG[", "<! [LOG[", "\x00", "")
	neutralServer = strings.NewReplacer("$$<", "$ $<", "~", "-", "\r\n", "~~", "\n", "~~", "\r", "~~", "\x00", "")
)

// append formats the entry with the line end that the viewers expect. The
// thread is the process ID: goroutines have no number to show.
func (e *entry) append(b []byte, f Format) []byte {
	t := e.time
	if t.IsZero() {
		t = time.Now()
	}
	_, offset := t.Zone()
	bias := -offset / 60 // minutes; UTC = local + bias
	pid := os.Getpid()
	if f == Server {
		b = append(b, neutralServer.Replace(e.text)...)
		b = fmt.Appendf(b, "~~  $$<%s><%s%+03d><thread=%d (0x%X)>\r\n", e.component, t.Format("01-02-2006 15:04:05.000"), bias, pid, pid)
		return b
	}
	sign := "+000"
	if bias != 0 {
		sign = fmt.Sprintf("%+d", bias)
	}
	b = append(b, "<![LOG["...)
	b = append(b, neutralClient.Replace(e.text)...)
	return fmt.Appendf(b, "]LOG]!><time=\"%s%s\" date=\"%s\" component=\"%s\" context=\"\" type=\"%d\" thread=\"%d\" file=\"%s\">\r\n",
		t.Format("15:04:05.000"), sign, t.Format("01-02-2006"), e.component, typeOf(e.level), pid, e.source)
}

// typeOf maps levels to the three types of the format.
func typeOf(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 2
	}
	return 1
}

func appendValue(b []byte, v slog.Value) []byte {
	var s string
	switch v.Kind() {
	case slog.KindTime:
		s = v.Time().Format(time.RFC3339Nano)
	default:
		s = v.String()
	}
	if plain(s) {
		return append(b, s...)
	}
	return strconv.AppendQuote(b, s)
}

// plain reports whether s can stand without quotes.
func plain(s string) bool {
	if s == "" || !utf8.ValidString(s) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r == ' ' || r == '"' || r == '=' || !unicode.IsPrint(r)
	})
}
