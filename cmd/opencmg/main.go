// Command opencmg is an open cloud management gateway: the gateway itself, the
// connection point, a management point, a client, and a lab that runs all of
// them on one machine. Run "opencmg help".
//
// This package reads configuration files and flags, wires the other packages
// together and talks to people. What a command produces goes to standard
// output; progress, hints and errors go to standard error. It exits with 0
// when it did what was asked, 1 when that failed, 2 when it was called wrongly,
// and 3 when "plan --exit-code" found changes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/opencmg/opencmg/internal/admincli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// env is what a command may touch of the process around it.
type env struct {
	stdin          io.Reader
	stdout, stderr io.Writer
}

// usageError is a call that makes no sense; it ends the process with 2.
type usageError struct{ msg string }

func (e *usageError) Error() string { return e.msg }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// errReported is a failure that the command has explained already.
var errReported = errors.New("failed")

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	e := &env{stdin: stdin, stdout: stdout, stderr: stderr}
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		printHelp(stdout)
		return 0
	}
	c, rest, err := findCommand(args)
	if err == nil {
		err = c.run(ctx, e, rest)
	}
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	_, wrong := errors.AsType[*usageError](err)
	if _, ok := errors.AsType[*admincli.UsageError](err); ok || wrong {
		fmt.Fprintf(stderr, "opencmg: %v\n", err)
		fmt.Fprintln(stderr, "hint: opencmg help lists the commands, and each takes --help")
		return 2
	}
	if errors.Is(err, admincli.ErrPending) {
		return 3
	}
	if errors.Is(err, errReported) || errors.Is(err, admincli.ErrReported) {
		return 1
	}
	fmt.Fprintf(stderr, "opencmg: %v\n", err)
	if hint := hintFor(err); hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", hint)
	}
	return 1
}

// hintFor returns the next step for an error that the operating system gave a
// name, and nothing for errors that say it themselves.
func hintFor(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program listens there; stop it, or choose another port in the configuration file or by the flag for it"
	case errors.Is(err, os.ErrPermission):
		return "run as a user who may do this; ports below 1024 need a privilege on most systems"
	case errors.Is(err, os.ErrNotExist):
		return "check the path; relative paths in a configuration file are relative to that file"
	}
	return ""
}

// newFlags returns the flag set of a command. Its usage goes to standard error
// with the command's summary on top.
func newFlags(e *env, words string) *flag.FlagSet {
	fs := flag.NewFlagSet(words, flag.ContinueOnError)
	fs.SetOutput(e.stderr)
	fs.Usage = func() {
		for _, c := range commands() {
			if c.words == words {
				fmt.Fprintf(e.stderr, "Usage: opencmg %s %s\n\n%s.\n", c.words, c.args, capitalise(c.summary))
			}
		}
		fmt.Fprintln(e.stderr)
		printFlags(fs)
	}
	return fs
}

// printFlags prints the flags except those without a usage, which are not for
// people.
func printFlags(fs *flag.FlagSet) {
	shown := flag.NewFlagSet("", flag.ContinueOnError)
	shown.SetOutput(fs.Output())
	fs.VisitAll(func(f *flag.Flag) {
		if f.Usage != "" {
			shown.Var(f.Value, f.Name, f.Usage)
			shown.Lookup(f.Name).DefValue = f.DefValue
		}
	})
	shown.PrintDefaults()
}

func capitalise(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// parseFlags parses and refuses what is left over unless max allows it.
func parseFlags(fs *flag.FlagSet, args []string, max int) error {
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return usagef("%s: %v", fs.Name(), err)
	}
	if fs.NArg() > max {
		return usagef("%s: %q is not expected here", fs.Name(), fs.Arg(max))
	}
	return nil
}

func runVersion(ctx context.Context, e *env, args []string) error {
	if err := parseFlags(newFlags(e, "version"), args, 0); err != nil {
		return err
	}
	fmt.Fprintln(e.stdout, "opencmg", version())
	return nil
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}
