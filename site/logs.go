package site

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/cmtrace"
)

// Logs says where log files are.
type Logs struct {
	// Own is the directory of the site's own files, which others write; empty
	// when there are none.
	Own string
	// Kept is a directory of the site for what gateway instances, connection
	// points and management points log; empty keeps nothing of them.
	Kept string
}

// Limits of what is kept of other parts' logs. Each file is bounded by package
// cmtrace.
const (
	maxLogSources = 256  // parts; the one that said nothing for longest makes room
	maxLogFiles   = 64   // of one part; what has another name goes into Log.log
	maxLogLines   = 1000 // of one report
	maxLogText    = 4 << 10
	maxLogAttrs   = 32
)

// keptLogs writes what other parts log into files, one directory for each part.
type keptLogs struct {
	dir string

	mu   sync.Mutex // guards what follows, and the files
	last map[string]time.Time
}

// take writes the lines of a system's report. A connection point sends those of
// the instances of its gateway, too, and nobody speaks for anybody else.
func (k *keptLogs) take(sys *system, gateway string, lines []opencmg.LogLine, now time.Time) error {
	if k.dir == "" || len(lines) == 0 {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	bySource := map[string][]opencmg.LogLine{}
	for _, l := range lines[max(0, len(lines)-maxLogLines):] {
		source := logSource(sys, gateway, l.Source)
		if source == "" {
			continue
		}
		// A connection point that takes over from another one, or starts anew,
		// brings lines that are here. A clock that was ahead does not silence.
		if last := k.last[source]; !l.Time.After(last) && last.Before(now.Add(time.Minute)) {
			continue
		}
		k.last[source] = l.Time
		bySource[source] = append(bySource[source], l)
	}
	for source, lines := range bySource {
		if err := k.write(source, lines); err != nil {
			return err
		}
	}
	return nil
}

// logSource names the directory of a line's origin, empty when the system may
// not speak for it.
func logSource(sys *system, gateway, source string) string {
	if sys.kind == adminservice.SystemManagementPoint {
		return "MP-" + part(sys.name)
	}
	name, number, instance := strings.Cut(source, "/")
	if !instance {
		return "CP-" + part(sys.name)
	}
	n, err := strconv.Atoi(number)
	if gateway == "" || name != gateway || err != nil || n < 0 || n > 15 {
		return ""
	}
	return fmt.Sprintf("CMG-%s-%d", part(gateway), n)
}

// otherLog takes the lines that name no log of their own, or one too many.
const otherLog = "Log"

// plainName makes a name fit for a file on every system.
func plainName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return '_'
	}, s)
	return s[:min(len(s), 64)]
}

// part is the name of a part of the system in the name of its directory, where
// case does not tell parts apart.
func part(name string) string { return strings.ToLower(plainName(name)) }

func (k *keptLogs) write(source string, lines []opencmg.LogLine) error {
	dir := filepath.Join(k.dir, source)
	if _, err := os.Stat(dir); err != nil {
		if err := k.makeRoom(); err != nil {
			return err
		}
	}
	h, err := cmtrace.New(cmtrace.Config{Dir: dir, Component: otherLog, Level: slog.Level(-100)})
	if err != nil {
		return err
	}
	defer h.Close()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	have := map[string]bool{}
	for _, e := range entries {
		have[strings.ToLower(strings.TrimSuffix(e.Name(), filepath.Ext(e.Name())))] = true
	}
	for _, l := range lines {
		component := plainName(l.Component)
		if key := strings.ToLower(component); !have[key] {
			if len(have) >= maxLogFiles || component == "" {
				component = otherLog
			}
			have[strings.ToLower(component)] = true
		}
		var level slog.Level
		if level.UnmarshalText([]byte(l.Level)) != nil {
			level = slog.LevelInfo
		}
		r := slog.NewRecord(l.Time, level, cutText(l.Message), 0)
		r.AddAttrs(slog.String(cmtrace.ComponentKey, component))
		var names []string
		for name := range l.Attrs {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names[:min(len(names), maxLogAttrs)] {
			if name != cmtrace.ComponentKey {
				r.AddAttrs(slog.String(cutText(name), cutText(l.Attrs[name])))
			}
		}
		if err := h.Handle(context.Background(), r); err != nil {
			return err
		}
	}
	return nil
}

// makeRoom removes the part that changed least recently when there are too many.
func (k *keptLogs) makeRoom() error {
	entries, err := os.ReadDir(k.dir)
	if os.IsNotExist(err) {
		return os.MkdirAll(k.dir, 0o700)
	}
	if err != nil || len(entries) < maxLogSources {
		return err
	}
	var oldest string
	var when time.Time
	for _, e := range entries {
		newest := time.Time{}
		files, err := os.ReadDir(filepath.Join(k.dir, e.Name()))
		if err != nil {
			continue
		}
		for _, f := range files {
			if st, err := f.Info(); err == nil && st.ModTime().After(newest) {
				newest = st.ModTime()
			}
		}
		if oldest == "" || newest.Before(when) {
			oldest, when = e.Name(), newest
		}
	}
	if oldest == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(k.dir, oldest))
}

func cutText(s string) string {
	if len(s) <= maxLogText {
		return s
	}
	return strings.ToValidUTF8(s[:maxLogText], "") + "..."
}

// logFile is a file that may be asked for.
type logFile struct {
	adminservice.LogFile
	path string
}

// logFiles lists them by name.
func (s *Server) logFiles() ([]logFile, error) {
	var list []logFile
	add := func(dir, prefix string) error {
		entries, err := os.ReadDir(dir)
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list log files: %w", err)
		}
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); !e.Type().IsRegular() || ext != ".log" && ext != ".lo_" {
				continue
			}
			st, err := e.Info()
			if err != nil {
				continue // it was renamed just now
			}
			list = append(list, logFile{adminservice.LogFile{Name: prefix + e.Name(), Size: st.Size(), Changed: st.ModTime().UTC()}, filepath.Join(dir, e.Name())})
		}
		return nil
	}
	if dir := s.cfg.Logs.Own; dir != "" {
		if err := add(dir, ""); err != nil {
			return nil, err
		}
	}
	if dir := s.cfg.Logs.Kept; dir != "" {
		parts, err := os.ReadDir(dir)
		if err != nil && !os.IsNotExist(err) {
			return nil, fmt.Errorf("list log files: %w", err)
		}
		for _, p := range parts {
			if !p.IsDir() {
				continue
			}
			if err := add(filepath.Join(dir, p.Name()), p.Name()+"-"); err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(list, func(a, b logFile) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func (s *Server) listLogs(w http.ResponseWriter, r *http.Request) error {
	files, err := s.logFiles()
	if err != nil {
		return err
	}
	var list []adminservice.LogFile
	for _, f := range files {
		list = append(list, f.LogFile)
	}
	return answerList(w, r, list)
}

// getLog answers the end of a log file, or what was written behind a position.
func (s *Server) getLog(w http.ResponseWriter, r *http.Request) error {
	tail, err := queryNumber(r, "tail", adminservice.MaxLogAnswer)
	if err != nil {
		return err
	}
	if r.URL.Query().Get("tail") == "" {
		tail = adminservice.DefaultLogTail
	}
	files, err := s.logFiles()
	if err != nil {
		return err
	}
	name := r.PathValue("id")
	i := slices.IndexFunc(files, func(f logFile) bool { return f.Name == name })
	if i < 0 {
		return opencmg.Errorf(opencmg.NotFound, "there is no log file %q: Logs lists them", name)
	}
	text, position, err := readLog(files[i].path, r.URL.Query().Get("after"), int64(tail))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set(adminservice.LogPosition, position)
	w.Write(text)
	return nil
}

// readLog reads a log file from behind a position on, or its last bytes, whole
// lines as far as possible. A position is the file's mark and a number of bytes;
// the file that was renamed since is read to its end first.
func readLog(path, after string, tail int64) (text []byte, position string, err error) {
	mark, size, err := logMark(path)
	if err != nil {
		return nil, "", err
	}
	position = func(n int64) string { return mark + "." + strconv.FormatInt(n, 10) }(size)
	if after == "" {
		from := max(0, size-min(tail, adminservice.MaxLogAnswer))
		text, err = readRange(path, from, size)
		if from > 0 && tail > 0 {
			text = fromLineStart(text)
		}
		return text, position, err
	}
	was, number, _ := strings.Cut(after, ".")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 {
		return nil, "", opencmg.Errorf(opencmg.Invalid, "after: must be what the field %s of an earlier answer said", adminservice.LogPosition)
	}
	if was == mark && n <= size {
		text, err = readRange(path, n, size)
	} else {
		text, err = readRange(path, 0, size)
		old := strings.TrimSuffix(path, ".log") + ".lo_"
		if oldMark, oldSize, e := logMark(old); err == nil && old != path && e == nil && oldMark == was && n <= oldSize {
			var rest []byte
			rest, err = readRange(old, n, oldSize)
			text = append(rest, text...)
		}
	}
	if over := len(text) - adminservice.MaxLogAnswer; over > 0 {
		text = fromLineStart(text[over:])
	}
	return text, position, err
}

// fromLineStart drops the piece of a line that a text begins with.
func fromLineStart(text []byte) []byte {
	if i := slices.Index(text, '\n'); i >= 0 {
		return text[i+1:]
	}
	return text
}

// logMark tells a file from the one that takes its name after a rotation: by the
// beginning of its first line, which holds a time. size is where its last whole
// line ends, or close to it.
func logMark(path string) (mark string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, fmt.Errorf("read log file: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", 0, fmt.Errorf("read log file: %w", err)
	}
	var head [512]byte
	n, err := io.ReadFull(f, head[:])
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return "", 0, fmt.Errorf("read log file: %w", err)
	}
	line := head[:n]
	if i := slices.Index(line, '\n'); i >= 0 {
		line = line[:i]
	}
	h := fnv.New64a()
	h.Write(line)
	return strconv.FormatUint(h.Sum64(), 16), st.Size(), nil
}

// readRange reads the bytes of a file from one place up to another, at most
// MaxLogAnswer, the last ones.
func readRange(path string, from, to int64) ([]byte, error) {
	from = max(from, to-adminservice.MaxLogAnswer)
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read log file: %w", err)
	}
	defer f.Close()
	b := make([]byte, to-from)
	n, err := f.ReadAt(b, from)
	if err == io.EOF {
		err = nil
	}
	return b[:n], err
}

// keepsLogs reports whether a connection point is the one of its gateway that
// sends the logs of the instances: the first of those that reported lately.
func (s *Server) keepsLogs(ctx context.Context, sys *system) (bool, error) {
	if s.cfg.Logs.Kept == "" || sys.gatewayID == "" {
		return false, nil
	}
	points, err := readAll[pointRecord](ctx, s.db, kindPoint)
	if err != nil {
		return false, err
	}
	now := s.cfg.Now()
	best, bestFresh := "", false
	for _, p := range points {
		if p.Value.GatewayID != sys.gatewayID {
			continue
		}
		_, at := s.live.system(p.ID)
		fresh := !at.IsZero() && now.Sub(at) <= stale
		if best == "" || fresh && !bestFresh || fresh == bestFresh && p.ID < best {
			best, bestFresh = p.ID, fresh
		}
	}
	return best == sys.id, nil
}

// keepLogs keeps the lines of a system's report.
func (s *Server) keepLogs(ctx context.Context, sys *system, lines []opencmg.LogLine) {
	if len(lines) == 0 {
		return
	}
	gateway := ""
	if sys.gatewayID != "" {
		if g, err := read[gatewayRecord](ctx, s.db, kindGateway, sys.gatewayID); err == nil {
			gateway = g.Value.Prefix
		}
	}
	if err := s.kept.take(sys, gateway, lines, s.cfg.Now()); err != nil {
		s.log.Warn("log lines were not kept", "component", componentProvider, "system", sys.name, "err", err)
	}
}
