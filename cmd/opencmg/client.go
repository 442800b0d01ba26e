package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/client"
	"github.com/opencmg/opencmg/internal/outbound"
	"github.com/opencmg/opencmg/pki"
)

// clientOptions are what ccmsetup has no words for. "client install" keeps
// them in the state directory for the other client commands.
type clientOptions struct {
	CAFile    string   `json:"caFile,omitempty"`
	CertFile  string   `json:"certFile,omitempty"`
	KeyFile   string   `json:"keyFile,omitempty"`
	ConnectTo []string `json:"connectTo,omitempty"`
	// EntraTokenFile and EntraTokenCommand give an Entra token of this device:
	// a file, or a command whose output it is.
	EntraTokenFile    string   `json:"entraTokenFile,omitempty"`
	EntraTokenCommand []string `json:"entraTokenCommand,omitempty"`
	LogDir            string   `json:"logDir,omitempty"`
}

const clientOptionsFile = "options.json"

// defaultClientDir is where a client keeps its state when nobody says where.
func defaultClientDir() string {
	switch {
	case runtime.GOOS == "windows" && os.Getenv("ProgramData") != "":
		return filepath.Join(os.Getenv("ProgramData"), "OpenCMG", "client")
	case os.Getuid() == 0:
		return "/var/lib/opencmg/client"
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		dir = "."
	}
	return filepath.Join(dir, "opencmg", "client")
}

type stringList []string

func (l *stringList) String() string     { return strings.Join(*l, " ") }
func (l *stringList) Set(s string) error { *l = append(*l, s); return nil }

func runClientInstall(ctx context.Context, e *env, args []string) error {
	var o clientOptions
	var to stringList
	var entraCommand string
	fs := newFlags(e, "client install")
	dir := fs.String("state-dir", defaultClientDir(), "`directory` of keys and state")
	fs.StringVar(&o.CAFile, "ca-file", "", "PEM `file` of roots to trust besides the system's")
	fs.StringVar(&o.CertFile, "cert", "", "PKI client certificate, PEM `file`")
	fs.StringVar(&o.KeyFile, "key", "", "its key, PEM `file`")
	fs.Var(&to, "connect-to", "`HOST:PORT:HOST:PORT`: connect to the second pair for the first (repeatable)")
	fs.StringVar(&o.EntraTokenFile, "entra-token-file", "", "`file` that holds an Entra token of this device")
	fs.StringVar(&entraCommand, "entra-token-command", "", "`command` that prints an Entra token of this device; it finds tenant, app and resource in OPENCMG_TENANT, OPENCMG_CLIENT_APP and OPENCMG_RESOURCE")
	fs.StringVar(&o.LogDir, "log-dir", "", "`directory` of log files; default is logs below the state directory")
	regtoken := fs.String("regtoken-file", "", "`file` that holds the bulk registration token; keeps it out of the process list, unlike /regtoken:")
	own, words := splitWords(fs, args)
	if err := fs.Parse(own); err != nil {
		return flagError(fs.Name(), err)
	}
	words = append(words, fs.Args()...)
	o.ConnectTo = to
	if entraCommand != "" {
		o.EntraTokenCommand = strings.Fields(entraCommand)
	}
	for _, f := range []*string{&o.CAFile, &o.CertFile, &o.KeyFile, &o.EntraTokenFile, &o.LogDir} {
		if *f != "" {
			abs, err := filepath.Abs(*f)
			if err != nil {
				return err
			}
			*f = abs
		}
	}
	if *regtoken != "" {
		b, err := os.ReadFile(*regtoken)
		if err != nil {
			return fmt.Errorf("--regtoken-file: %w", err)
		}
		words = append(words, "/regtoken:"+strings.TrimSpace(string(b)))
	}
	in, err := client.ParseInstall(words)
	if err != nil {
		return err
	}
	cfg, done, err := o.config(e, *dir)
	if err != nil {
		return err
	}
	defer done()
	c, err := client.Create(cfg, in)
	if err != nil {
		return err
	}
	defer c.Close()
	b, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return err
	}
	if err := pki.WriteFile(filepath.Join(*dir, clientOptionsFile), b, 0o600); err != nil {
		return err
	}
	steps, err := c.Install(ctx)
	for _, s := range steps {
		printStep(e.stderr, s)
	}
	if err != nil {
		return err
	}
	fmt.Fprint(e.stdout, c.Status().String())
	return nil
}

// splitWords parts our flags from ccmsetup's words, which may stand in any
// order. A word with one dash that is no flag of ours is ccmsetup's.
func splitWords(fs *flag.FlagSet, args []string) (own, words []string) {
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			return own, append(words, args[i+1:]...)
		}
		name, _, hasValue := strings.Cut(strings.TrimLeft(a, "-"), "=")
		f := fs.Lookup(name)
		help := name == "help" || name == "h"
		if !strings.HasPrefix(a, "-") || f == nil && !help && !strings.HasPrefix(a, "--") {
			words = append(words, a)
			continue
		}
		own = append(own, a)
		if f != nil && !hasValue && i+1 < len(args) {
			i++
			own = append(own, args[i])
		}
	}
	return own, words
}

func flagError(name string, err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	return usagef("%s: %v", name, err)
}

func printStep(w io.Writer, s client.StepResult) {
	if s.OK {
		fmt.Fprintf(w, "%6.0f ms  %-13s %s\n", s.Milliseconds, s.Step, s.Detail)
		return
	}
	fmt.Fprintf(w, "   FAILED  %-13s %s\n", s.Step, s.Error)
	if s.CorrelationID != "" {
		fmt.Fprintf(w, "           correlation ID %s\n", s.CorrelationID)
	}
}

// config turns the options into a client configuration. done closes the logs.
func (o *clientOptions) config(e *env, dir string) (cfg client.Config, done func(), err error) {
	logs := LogConfig{Dir: o.LogDir}
	if logs.Dir == "" {
		logs.Dir = filepath.Join(dir, "logs")
	}
	// A client's words on the screen are its result; records go to files.
	log, done, err := openLog(logs, &env{stdout: io.Discard, stderr: io.Discard}, "CcmExec", "")
	if err != nil {
		return cfg, nil, err
	}
	cfg = client.Config{StateDir: dir, CAFile: o.CAFile, CertFile: o.CertFile, KeyFile: o.KeyFile, Log: log}
	if cfg.ConnectTo, err = outbound.ParseRules(o.ConnectTo); err != nil {
		return cfg, nil, fmt.Errorf("--connect-to: %w", err)
	}
	switch {
	case o.EntraTokenFile != "":
		cfg.Entra = client.EntraTokenFile(o.EntraTokenFile)
	case len(o.EntraTokenCommand) > 0:
		cfg.Entra = client.EntraTokenCommand(o.EntraTokenCommand)
	}
	return cfg, done, nil
}

// openClient opens the installed client of a directory.
func openClient(e *env, words string, args []string, more func(*flag.FlagSet)) (*client.Client, func(), error) {
	fs := newFlags(e, words)
	dir := fs.String("state-dir", defaultClientDir(), "`directory` of keys and state")
	if more != nil {
		more(fs)
	}
	if err := parseFlags(fs, args, 0); err != nil {
		return nil, nil, err
	}
	b, err := os.ReadFile(filepath.Join(*dir, clientOptionsFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, opencmg.Errorf(opencmg.NotFound, "no client is installed in %s: run opencmg client install first, or name its directory with --state-dir", *dir)
	}
	if err != nil {
		return nil, nil, err
	}
	var o clientOptions
	if err := json.Unmarshal(b, &o); err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", filepath.Join(*dir, clientOptionsFile), err)
	}
	cfg, done, err := o.config(e, *dir)
	if err != nil {
		return nil, nil, err
	}
	c, err := client.Open(cfg)
	if err != nil {
		done()
		return nil, nil, err
	}
	return c, func() { c.Close(); done() }, nil
}

func runClientRun(ctx context.Context, e *env, args []string) error {
	c, done, err := openClient(e, "client run", args, nil)
	if err != nil {
		return err
	}
	defer done()
	fmt.Fprintln(e.stderr, "the client runs; Ctrl-C stops it")
	return c.Run(ctx)
}

func runClientStatus(ctx context.Context, e *env, args []string) error {
	var asJSON *bool
	c, done, err := openClient(e, "client status", args, func(fs *flag.FlagSet) {
		asJSON = fs.Bool("json", false, "print JSON")
	})
	if err != nil {
		return err
	}
	defer done()
	if *asJSON {
		return json.NewEncoder(e.stdout).Encode(c.Status())
	}
	fmt.Fprint(e.stdout, c.Status().String())
	return nil
}

func runClientNotifyTest(ctx context.Context, e *env, args []string) error {
	c, done, err := openClient(e, "client notify-test", args, nil)
	if err != nil {
		return err
	}
	defer done()
	r, err := c.NotifyTest(ctx)
	if err != nil && r.Error == "" {
		return err
	}
	printStep(e.stdout, r)
	if !r.OK {
		return errReported
	}
	return nil
}
