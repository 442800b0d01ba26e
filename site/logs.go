package site

import (
	"context"
	"fmt"
	"log/slog"
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
	// delay is how old the newest line of a source was when it came.
	delay map[string]time.Duration
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
		k.last[source], k.delay[source] = l.Time, max(now.Sub(l.Time), 0)
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
		return managementPointLogs(sys.name)
	}
	name, number, instance := strings.Cut(source, "/")
	if !instance {
		return connectionPointLogs(sys.name)
	}
	n, err := strconv.Atoi(number)
	if gateway == "" || name != gateway || err != nil || n < 0 || n >= opencmg.MaxInstances {
		return ""
	}
	return instanceLogs(gateway, n)
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
	keeper := s.logKeeper(points, sys.gatewayID)
	return keeper != nil && keeper.ID == sys.id, nil
}

// logKeeper is the connection point that sends the logs of a gateway's
// instances; nil for none.
func (s *Server) logKeeper(points []*record[pointRecord], gateway string) (best *record[pointRecord]) {
	now := s.cfg.Now()
	bestFresh := false
	for _, p := range points {
		if p.Value.GatewayID != gateway {
			continue
		}
		fresh := s.live.hears(p.ID, now)
		if best == nil || fresh && !bestFresh || fresh == bestFresh && p.ID < best.ID {
			best, bestFresh = p, fresh
		}
	}
	return best
}

// A logReporter is who reports the lines of a part.
type logReporter struct{ id, name string }

// logReporters are those of all parts, by the part's directory.
func (s *Server) logReporters(ctx context.Context) (map[string]logReporter, error) {
	all := map[string]logReporter{}
	points, err := readAll[pointRecord](ctx, s.db, kindPoint)
	if err != nil {
		return nil, err
	}
	for _, p := range points {
		all[connectionPointLogs(p.Name)] = logReporter{p.ID, p.Name}
	}
	roles, err := readAll[roleRecord](ctx, s.db, kindRole)
	if err != nil {
		return nil, err
	}
	for _, o := range roles {
		all[managementPointLogs(o.Name)] = logReporter{o.ID, o.Name}
	}
	gateways, err := readAll[gatewayRecord](ctx, s.db, kindGateway)
	if err != nil {
		return nil, err
	}
	for _, g := range gateways {
		keeper := s.logKeeper(points, g.ID)
		if keeper == nil {
			continue
		}
		for n := range opencmg.MaxInstances {
			all[instanceLogs(g.Value.Prefix, n)] = logReporter{keeper.ID, keeper.Name}
		}
	}
	return all, nil
}

// The directories of the logs of each kind of part.
func connectionPointLogs(name string) string    { return "CP-" + part(name) }
func managementPointLogs(name string) string    { return "MP-" + part(name) }
func instanceLogs(gateway string, n int) string { return fmt.Sprintf("CMG-%s-%d", part(gateway), n) }

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
