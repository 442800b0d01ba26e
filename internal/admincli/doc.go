// Package admincli is the administrator's command line: the commands of
// "opencmg" that are clients of a site's administration service.
//
// Each command is a function of a context, the [Env] and the arguments. What a
// command found or made goes to standard output: a table for a terminal, JSON
// with one object per line in a pipe or with --output json. Progress, questions
// and hints go to standard error. connect.go says how the site is found and how
// the administrator signs in.
package admincli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// An Env is what a command may touch of the process around it.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Getenv reads an environment variable.
	Getenv func(string) string
	// FindLab tells how to administer the site of the lab that runs on this
	// machine; NotFound when none runs.
	FindLab func() (Profile, error)
	// Version is that of the program.
	Version string
}

// A UsageError is a call that makes no sense; it ends the process with 2.
type UsageError struct{ msg string }

func (e *UsageError) Error() string { return e.msg }

func usagef(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }

// ErrReported is a failure that the command has explained already; it ends the
// process with 1.
var ErrReported = errors.New("failed")

// newFlags returns the flag set of a command. about is one sentence, usage the
// words and arguments after "opencmg".
func (e *Env) newFlags(usage, about string) *flag.FlagSet {
	fs := flag.NewFlagSet(usage, flag.ContinueOnError)
	fs.SetOutput(e.Stderr)
	fs.Usage = func() {
		fmt.Fprintf(e.Stderr, "Usage: opencmg %s\n\n%s\n\n", usage, about)
		fs.PrintDefaults()
	}
	return fs
}

// parse reads the arguments, flags and others in any order, and returns the
// others. More than most others, or fewer than least, are a usage error.
func parse(fs *flag.FlagSet, args []string, least, most int) ([]string, error) {
	name := strings.Join(commandWords(fs.Name()), " ")
	var rest []string
	for {
		if err := fs.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, usagef("%s: %v", name, err)
		}
		if fs.NArg() == 0 {
			break
		}
		rest, args = append(rest, fs.Arg(0)), fs.Args()[1:]
	}
	switch {
	case len(rest) > most:
		return nil, usagef("%s: %q is not expected here", name, rest[most])
	case len(rest) < least:
		return nil, usagef("%s: something is missing: opencmg %s", name, fs.Name())
	}
	return rest, nil
}

// commandWords are the words of a usage line before its arguments.
func commandWords(usage string) []string {
	words := strings.Fields(usage)
	for i, w := range words {
		if strings.ContainsAny(w[:1], "[<-") || w == strings.ToUpper(w) {
			return words[:i]
		}
	}
	return words
}

// terminal reports whether a reader or writer is a terminal.
func terminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
