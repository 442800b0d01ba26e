package cmtrace_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencmg/opencmg/internal/cmtrace"
)

func newHandler(t *testing.T, c cmtrace.Config) (*cmtrace.Handler, string) {
	t.Helper()
	if c.Dir == "" {
		c.Dir = filepath.Join(t.TempDir(), "logs")
	}
	if c.Component == "" {
		c.Component = "CMGService"
	}
	h, err := cmtrace.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h, c.Dir
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var threads = regexp.MustCompile(`thread="\d+"|thread=\d+ \(0x[0-9A-F]+\)`)

func TestFormats(t *testing.T) {
	at := time.Date(2024, 10, 7, 22, 42, 29, 600_000_000, time.FixedZone("", 3600))
	tests := map[string]struct {
		format cmtrace.Format
		at     time.Time
		level  slog.Level
		msg    string
		attrs  []slog.Attr
		want   string
	}{
		"client": {
			at: at, level: slog.LevelInfo, msg: "registered",
			attrs: []slog.Attr{slog.String("client", "GUID:1"), slog.Any("err", errors.New("two words")), slog.Int("n", 3)},
			want:  `<![LOG[registered client=GUID:1 err="two words" n=3]LOG]!><time="22:42:29.600-60" date="10-07-2024" component="CMGService" context="" type="1" thread="" file="">` + "\r\n",
		},
		"utc and warning": {
			at: at.UTC(), level: slog.LevelWarn, msg: "x",
			want: `<![LOG[x]LOG]!><time="21:42:29.600+000" date="10-07-2024" component="CMGService" context="" type="2" thread="" file="">` + "\r\n",
		},
		"end of entry inside": {
			at: at.UTC(), level: slog.LevelError, msg: "a]LOG]!><b",
			attrs: []slog.Attr{slog.String("k", "]LOG]!>")},
			want:  `<![LOG[a]LOG]! ><b k=]LOG]! >]LOG]!><time="21:42:29.600+000" date="10-07-2024" component="CMGService" context="" type="3" thread="" file="">` + "\r\n",
		},
		"server": {
			format: cmtrace.Server, at: at.UTC(), msg: "one\ntwo $$<X>",
			want: `one~~two $ $<X>~~  $$<CMGService><10-07-2024 21:42:29.600+00><thread=>` + "\r\n",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			h, dir := newHandler(t, cmtrace.Config{Format: tc.format})
			r := slog.NewRecord(tc.at, tc.level, tc.msg, 0)
			r.AddAttrs(tc.attrs...)
			if err := h.Handle(context.Background(), r); err != nil {
				t.Fatal(err)
			}
			got := threads.ReplaceAllStringFunc(read(t, filepath.Join(dir, "CMGService.log")), func(s string) string {
				if strings.Contains(s, `"`) {
					return `thread=""`
				}
				return "thread="
			})
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("entry (-want +got):\n%s", diff)
			}
		})
	}
}

func TestComponents(t *testing.T) {
	h, dir := newHandler(t, cmtrace.Config{})
	log := slog.New(h)
	log.Info("default")
	log.With("component", "CCM_STS").Info("with")
	log.With("component", "CCM_STS").Info("inner wins", "component", "MP_Location")
	log.Info("no way out", "component", "../../etc/passwd")
	log.WithGroup("g").Info("a group keeps its own", "component", "CCM_STS", "k", 1)

	want := map[string]string{
		"CMGService.log":  "a group keeps its own g.component=CCM_STS g.k=1",
		"CCM_STS.log":     "with",
		"MP_Location.log": "inner wins",
		"etcpasswd.log":   "no way out",
	}
	for name, text := range want {
		if got := read(t, filepath.Join(dir, name)); !strings.Contains(got, "<![LOG["+text+"]LOG]!>") {
			t.Errorf("%s: got %q, want an entry %q", name, got, text)
		}
	}
	if got := read(t, filepath.Join(dir, "CCM_STS.log")); !strings.Contains(got, `file="cmtrace_test.go:`) {
		t.Errorf("no source position in %q", got)
	}
	if st, err := os.Stat(filepath.Join(dir, "CCM_STS.log")); err != nil || runtime.GOOS != "windows" && st.Mode().Perm()&0o027 != 0 {
		t.Errorf("mode %v, %v: others must not write or read", st.Mode(), err)
	}
}

func TestRotation(t *testing.T) {
	h, dir := newHandler(t, cmtrace.Config{MaxSize: 1000})
	log := slog.New(h)
	for i := range 40 {
		log.Info("entry", "n", i)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
		if info, _ := e.Info(); info.Size() > 1000 {
			t.Errorf("%s has %d bytes, more than the limit", e.Name(), info.Size())
		}
	}
	if diff := cmp.Diff([]string{"CMGService.lo_", "CMGService.log"}, names); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if got := read(t, filepath.Join(dir, "CMGService.log")); !strings.Contains(got, "n=39]") {
		t.Errorf("last entry is not in the current file: %q", got)
	}
	// A new process rotates a file that the one before it left full.
	h.Close()
	if err := os.WriteFile(filepath.Join(dir, "CMGService.log"), []byte(strings.Repeat("x", 999)), 0o640); err != nil {
		t.Fatal(err)
	}
	again, _ := newHandler(t, cmtrace.Config{Dir: dir, MaxSize: 1000})
	slog.New(again).Info("fresh")
	if got := read(t, filepath.Join(dir, "CMGService.log")); strings.Contains(got, "x") && !strings.HasPrefix(got, "<![LOG[fresh") {
		t.Errorf("full file was not rotated: %q", got)
	}
}

func TestConcurrent(t *testing.T) {
	h, dir := newHandler(t, cmtrace.Config{MaxSize: 1 << 20})
	log := slog.New(h)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 100 {
				log.Info("message", "from", i, "n", n)
			}
		})
	}
	wg.Wait()
	lines := strings.Split(strings.TrimSuffix(read(t, filepath.Join(dir, "CMGService.log")), "\r\n"), "\r\n")
	if len(lines) != 800 {
		t.Fatalf("%d lines, want 800", len(lines))
	}
	for _, l := range lines {
		if !strings.HasPrefix(l, "<![LOG[message from=") || !strings.HasSuffix(l, `">`) {
			t.Fatalf("mixed line %q", l)
		}
	}
}

func TestManyComponentsShareTheDefaultFile(t *testing.T) {
	h, dir := newHandler(t, cmtrace.Config{})
	log := slog.New(h)
	for i := range 200 {
		log.Info("x", "component", fmt.Sprintf("c%d", i))
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) > 66 {
		t.Errorf("%d files from made-up components", len(entries))
	}
}

func TestErrors(t *testing.T) {
	if _, err := cmtrace.New(cmtrace.Config{Dir: t.TempDir(), Component: "a/b"}); err == nil {
		t.Error("a component with a slash was accepted")
	}
	notDir := filepath.Join(t.TempDir(), "file")
	os.WriteFile(notDir, nil, 0o600)
	if _, err := cmtrace.New(cmtrace.Config{Dir: notDir, Component: "X"}); err == nil {
		t.Error("a file was accepted as directory")
	}
	h, dir := newHandler(t, cmtrace.Config{})
	os.Mkdir(filepath.Join(dir, "Broken.log"), 0o700)
	r := slog.NewRecord(time.Now(), slog.LevelInfo, "x", 0)
	r.AddAttrs(slog.String("component", "Broken"))
	if err := h.Handle(context.Background(), r); err == nil {
		t.Error("writing to a directory gave no error")
	}
	os.Remove(filepath.Join(dir, "Broken.log"))
	if err := h.Handle(context.Background(), r); err != nil {
		t.Errorf("the handler did not recover: %v", err)
	}
}

// TestSlogContract runs the standard library's conformance suite on what can
// be read back from the text.
func TestSlogContract(t *testing.T) {
	var h *cmtrace.Handler
	var dir string
	pair := regexp.MustCompile(` ([\w.]+)=("[^"]*"|\S+)`)
	slogtest.Run(t, func(t *testing.T) slog.Handler {
		h, dir = newHandler(t, cmtrace.Config{Component: "X"})
		return h
	}, func(t *testing.T) map[string]any {
		line := strings.TrimPrefix(read(t, filepath.Join(dir, "X.log")), "<![LOG[")
		text, meta, _ := strings.Cut(line, "]LOG]!>")
		got := map[string]any{slog.LevelKey: "info"}
		if !strings.HasSuffix(t.Name(), "zero-time") && strings.Contains(meta, "time=") {
			got[slog.TimeKey] = meta // the format demands a time, so a zero one is replaced
		}
		msg, _, _ := strings.Cut(text, " ")
		got[slog.MessageKey] = msg
		for _, m := range pair.FindAllStringSubmatch(text, -1) {
			at := got
			parts := strings.Split(m[1], ".")
			for _, p := range parts[:len(parts)-1] {
				if at[p] == nil {
					at[p] = map[string]any{}
				}
				at = at[p].(map[string]any)
			}
			at[parts[len(parts)-1]] = strings.Trim(m[2], `"`)
		}
		return got
	})
}
