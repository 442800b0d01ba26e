package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/term"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/bootstrap"
	"github.com/opencmg/opencmg/internal/cmtrace"
	"github.com/opencmg/opencmg/internal/outbound"
	"github.com/opencmg/opencmg/internal/web"
)

// maxConfigFile bounds a configuration file.
const maxConfigFile = 4 << 20

// loadYAML reads a configuration file into v. Unknown keys are errors, and an
// error names the line.
func loadYAML(file string, v any) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfigFile+1))
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	if len(b) > maxConfigFile {
		return opencmg.Errorf(opencmg.TooLarge, "configuration file %s is larger than %d bytes: is it the right file?", file, maxConfigFile)
	}
	if err := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict()).Decode(v); err != nil && !errors.Is(err, io.EOF) {
		return opencmg.Errorf(opencmg.Invalid, "configuration file %s: %s", file, strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	return nil
}

// A LogConfig says what is logged where.
type LogConfig = bootstrap.Log

// openLog returns the logger of a role. component names the file of records
// that belong to no other. The returned function closes the files.
func openLog(c LogConfig, e *env, component string, base string) (*slog.Logger, func(), error) {
	var level slog.Level
	if c.Level != "" {
		if err := level.UnmarshalText([]byte(c.Level)); err != nil {
			return nil, nil, opencmg.Errorf(opencmg.Invalid, "log.level: must be debug, info, warn or error, is %q", c.Level)
		}
	}
	opts := &slog.HandlerOptions{Level: level}
	var handlers []slog.Handler
	if isTerminal(e.stderr) {
		handlers = append(handlers, slog.NewTextHandler(e.stderr, opts))
	} else if e.stdout != io.Discard && !isTerminal(e.stdout) {
		handlers = append(handlers, slog.NewJSONHandler(e.stdout, opts))
	}
	done := func() {}
	if c.Dir != "" {
		h, err := cmtrace.New(cmtrace.Config{Dir: relativeTo(base, c.Dir), Component: component, Level: level})
		if err != nil {
			return nil, nil, fmt.Errorf("open log files: %w", err)
		}
		done = func() { h.Close() }
		handlers = append(handlers, h)
	}
	return slog.New(slog.NewMultiHandler(handlers...)), done, nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// relativeTo resolves a path of a configuration file against the file's
// directory. Empty stays empty.
func relativeTo(base, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(base, path)
}

// listen opens a TCP listener; an empty address gives none. key names the
// configuration key in the error.
func listen(key, addr string) (net.Listener, error) {
	if addr == "" {
		return nil, nil
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return ln, nil
}

// An OutboundConfig is the way from a role to the outside.
type OutboundConfig = outbound.Config

// serveFlags are the flags of every role.
type serveFlags struct {
	config        string
	withParent    bool
	outbound      outbound.Flags // of roles that register them
	lifeline      string         // of roles that register it
	joinTokenFile string         // of roles that register it
}

// parseServe reads the flags of a role's serve command; more registers those
// that not every role has.
func parseServe(e *env, words string, args []string, more ...func(*serveFlags, *flag.FlagSet)) (serveFlags, error) {
	var f serveFlags
	fs := newFlags(e, words)
	fs.StringVar(&f.config, "config", "", "configuration `file`")
	fs.BoolVar(&f.withParent, "until-stdin-closes", false, "stop when standard input ends, so that no process outlives the one that started it")
	for _, register := range more {
		register(&f, fs)
	}
	if err := parseFlags(fs, args, 0); err != nil {
		return f, err
	}
	if f.config == "" {
		return f, usagef("%s: --config is needed; examples/ holds commented files to start from", words)
	}
	return f, nil
}

// outboundFlags registers the way to the outside on a role's command line. The
// role adds them to its configuration with [outbound.Flags.Add].
func outboundFlags(f *serveFlags, fs *flag.FlagSet) { f.outbound.Register(fs) }

// A roleConfig is the configuration file of a role.
type roleConfig interface {
	// fill checks the values and puts in the defaults.
	fill() error
	// common returns what every role has.
	common() (identityDir string, log LogConfig)
}

// A role is what every role starts from.
type role struct {
	base     string // directory of the configuration file
	identity identity
	log      *slog.Logger
	close    func() // closes the log files
}

// openRole reads the configuration file into c, opens the logs, and loads the
// identity of this host. component names the log file of records that belong
// to no other.
func openRole(e *env, f serveFlags, component string, c roleConfig) (*role, error) {
	if err := loadYAML(f.config, c); err != nil {
		return nil, err
	}
	r := &role{base: filepath.Dir(f.config)}
	var err error
	if p, ok := c.(interface{ prepare(base string) error }); ok {
		err = p.prepare(r.base)
	}
	if err == nil {
		err = c.fill()
	}
	if err != nil {
		return nil, fmt.Errorf("configuration file %s: %w", f.config, err)
	}
	dir, logs := c.common()
	if f, ok := c.(interface{ foreignIdentity() bool }); !ok || !f.foreignIdentity() {
		if r.identity, err = loadIdentity(r.path(dir)); err != nil {
			return nil, err
		}
	}
	r.log, r.close, err = openLog(logs, e, component, r.base)
	return r, err
}

// keepLogs has the log fill a tail too, for others to read over the network.
func (r *role) keepLogs(source string) *web.LogTail {
	t := web.NewLogTail(source)
	r.log = slog.New(slog.NewMultiHandler(r.log.Handler(), t.Handler()))
	return t
}

// path resolves a path of the configuration file.
func (r *role) path(p string) string { return relativeTo(r.base, p) }

// context returns a context that ends with the parent process when the flags
// ask for it.
func (f serveFlags) context(ctx context.Context, e *env) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if f.withParent {
		// The read ends with the parent, whatever killed it. It can not be
		// interrupted, so this goroutine lives as long as the process.
		go func() {
			io.Copy(io.Discard, e.stdin)
			cancel()
		}()
	}
	return ctx, cancel
}

// recordsKept is how many requests each role keeps in memory for "opencmg
// explain"; those of the last day are on disk.
const recordsKept = 16384

// recordsBytes is the size limit that recordsMiB says; negative is none on disk.
func recordsBytes(mib int) int64 { return int64(mib) << 20 }

// keepRecords returns records that are kept for a day in dir, and what writes
// them until its context ends.
func keepRecords(dir string, mib int, registry *prometheus.Registry, log *slog.Logger) (*web.Records, func(context.Context), error) {
	records := web.NewRecords(recordsKept)
	if mib < 0 {
		return records, func(context.Context) {}, nil
	}
	j, err := web.NewJournal(web.JournalConfig{Dir: filepath.Join(dir, "records"), MaxBytes: recordsBytes(mib), Log: log, Registry: registry})
	if err != nil {
		return nil, nil, fmt.Errorf("recordsMiB: %w", err)
	}
	records.Journal = j
	return records, j.Run, nil
}

func checkRecordsMiB(mib int) error {
	if mib < -1 {
		return opencmg.Errorf(opencmg.Invalid, "recordsMiB: must be a number of MiB, or -1 for none, is %d", mib)
	}
	return nil
}

// newRegistry returns a registry with the metrics of the process itself.
func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// requireDir makes a directory that only its owner may read.
func requireDir(key, dir string) error {
	if dir == "" {
		return opencmg.Errorf(opencmg.Invalid, "%s: name a directory that this role may write to", key)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	probe, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	probe.Close()
	return os.Remove(probe.Name())
}

// setDefault fills an empty value and turns "off" into none.
func setDefault(s *string, value string) {
	switch *s {
	case "":
		*s = value
	case "off":
		*s = ""
	}
}
