package admincli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice/cmdlet"
	"github.com/opencmg/opencmg/pki"
)

// cmdletFlags are what every cmdlet takes on the command line besides its own
// parameters. They are told from those by two dashes and their whole names.
type cmdletFlags struct {
	asking
	wait, noWait bool
	help         bool
}

// commonParameters are PowerShell's own. They are taken, so that scripts run, and
// mean nothing here; the number is how many values follow.
var commonParameters = map[string]int{
	"verbose": 0, "debug": 0, "erroraction": 1, "errorvariable": 1, "informationaction": 1, "informationvariable": 1,
	"outvariable": 1, "outbuffer": 1, "pipelinevariable": 1, "warningaction": 1, "warningvariable": 1,
}

// split takes the flags out of the arguments and returns the cmdlet's own.
func (f *cmdletFlags) split(c *cmdlet.Cmdlet, args []string) ([]string, error) {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	f.register(fs, outputTable, outputJSON)
	fs.BoolVar(&f.wait, "wait", false, "")
	fs.BoolVar(&f.noWait, "no-wait", false, "")
	var rest []string
	for i := 0; i < len(args); i++ {
		word := args[i]
		bare := strings.ToLower(strings.TrimLeft(word, "-"))
		name, value, inline := strings.Cut(strings.TrimPrefix(word, "--"), "=")
		known := fs.Lookup(name)
		values, common := commonParameters[bare]
		switch {
		case word == "-?" || word == "-h" || word == "--help":
			f.help = true
		case strings.HasPrefix(word, "--") && known != nil:
			if b, ok := known.Value.(interface{ IsBoolFlag() bool }); ok && b.IsBoolFlag() {
				if !inline {
					value = "true"
				}
			} else if !inline {
				if i+1 == len(args) {
					return nil, usagef("%s: --%s needs a value", c.Name, name)
				}
				i++
				value = args[i]
			}
			if err := fs.Set(name, value); err != nil {
				return nil, usagef("%s: --%s: %v", c.Name, name, err)
			}
		case strings.HasPrefix(word, "-") && common:
			i += values
		default:
			rest = append(rest, word)
		}
	}
	if f.wait && f.noWait {
		return nil, usagef("%s: --wait and --no-wait: choose one", c.Name)
	}
	return rest, nil
}

// Cmdlet runs one cmdlet. byWords says that it was called by noun and verb, as
// people do: then it waits for the end of what it began, unless told otherwise;
// by its own name it returns at once, as scripts expect it.
func Cmdlet(ctx context.Context, e *Env, c *cmdlet.Cmdlet, byWords bool, args []string) error {
	var f cmdletFlags
	args, err := f.split(c, args)
	if err != nil {
		return err
	}
	if f.help {
		printCmdletHelp(e.Stderr, c)
		return nil
	}
	if f.way, err = outputWay(f.way, e.Stdout, f.ways...); err != nil {
		return err
	}
	args, err = e.takeSecrets(c, args)
	if err != nil {
		return err
	}
	given, err := c.ParseArguments(args)
	if err != nil {
		return asUsage(err)
	}
	given = e.environmentSecrets(c, given)
	interactive := terminal(e.Stdin)
	o := cmdlet.BindOptions{Pipeline: !interactive && isPipe(e.Stdin)}
	if interactive {
		o.Ask = e.ask
	}
	b, err := c.Bind(given, o)
	if err != nil {
		return asUsage(err)
	}
	var piped []cmdlet.Object
	if o.Pipeline && b.WantsPipeline() {
		if piped, err = e.readObjects(); err != nil {
			return err
		}
	}
	h := &cmdlet.Host{
		ReadFile: os.ReadFile, WriteSecret: writeSecret, Wait: f.wait || byWords && !f.noWait,
		WhatIf: func(line string) { fmt.Fprintln(e.Stderr, line) },
		Warn:   func(line string) { fmt.Fprintln(e.Stderr, "note: "+line) },
	}
	if interactive {
		h.Confirm = e.confirm
	}
	p := newProgress(e)
	h.Progress = p.operation
	defer p.end()
	if !c.Local {
		if h.Client, err = f.client(e); err != nil {
			return err
		}
		defer h.Client.HTTP.CloseIdleConnections()
	}
	printer := newObjectPrinter(e.Stdout, f.way, p)
	err = cmdlet.Run(ctx, h, b, piped, printer.print)
	p.end()
	return errors.Join(err, printer.end())
}

// asUsage makes a call that makes no sense of one that does not bind.
func asUsage(err error) error {
	if errors.Is(err, opencmg.Invalid) {
		return &UsageError{err.Error()}
	}
	return err
}

// isPipe reports whether objects may come: from a pipe or a file, not from
// /dev/null.
func isPipe(r io.Reader) bool {
	f, ok := r.(*os.File)
	if !ok {
		return r != nil
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice == 0
}

// maxPiped bounds what is read from a pipe, in bytes.
const maxPiped = 64 << 20

// readObjects reads the objects that another command printed: JSON, one after
// the other or in a list.
func (e *Env) readObjects() ([]cmdlet.Object, error) {
	hint := time.AfterFunc(3*time.Second, func() {
		fmt.Fprintln(e.Stderr, "waiting for objects on standard input: pipe the output of a Get cmdlet in, or name what is meant")
	})
	defer hint.Stop()
	d := json.NewDecoder(io.LimitReader(e.Stdin, maxPiped))
	var list []cmdlet.Object
	for {
		var v any
		err := d.Decode(&v)
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, usagef("standard input holds no objects: %v; pipe in what a Get cmdlet prints with --output json", err)
		}
		items, many := v.([]any)
		if !many {
			items = []any{v}
		}
		for _, item := range items {
			o, ok := item.(map[string]any)
			if !ok {
				return nil, usagef("standard input holds something that is no object: pipe in what a Get cmdlet prints with --output json")
			}
			list = append(list, o)
		}
	}
}

// takeSecrets reads the secrets that -<Parameter>File and -<Parameter>Env say
// where to find, so that none stands among the arguments.
func (e *Env) takeSecrets(c *cmdlet.Cmdlet, args []string) ([]string, error) {
	var rest []string
	for i := 0; i < len(args); i++ {
		name, value, inline := strings.Cut(strings.ReplaceAll(args[i], "=", ":"), ":")
		if inline {
			value = args[i][len(name)+1:]
		}
		p, from := secretSource(c, name)
		if p == nil {
			rest = append(rest, args[i])
			continue
		}
		if !inline {
			if i+1 == len(args) {
				return nil, usagef("%s: %s needs a value", c.Name, args[i])
			}
			i++
			value = args[i]
		}
		secret := ""
		if from == "Env" {
			if secret = e.Getenv(value); secret == "" {
				return nil, usagef("%s -%sEnv: the environment variable %s is not set", c.Name, p.Name, value)
			}
		} else {
			b, err := os.ReadFile(value)
			if err != nil {
				return nil, fmt.Errorf("%s -%sFile: %w", c.Name, p.Name, err)
			}
			secret, _, _ = strings.Cut(strings.TrimRight(string(b), "\r\n"), "\n")
		}
		rest = append(rest, "-"+p.Name+":"+secret)
	}
	return rest, nil
}

// secretSource tells whether a word says where to find a secret.
func secretSource(c *cmdlet.Cmdlet, word string) (*cmdlet.Parameter, string) {
	if !strings.HasPrefix(word, "-") {
		return nil, ""
	}
	bare := strings.ReplaceAll(strings.TrimLeft(word, "-"), "-", "")
	for i := range c.Parameters {
		p := &c.Parameters[i]
		for _, from := range []string{"File", "Env"} {
			if p.Secret() && strings.EqualFold(bare, p.Name+from) {
				return p, from
			}
		}
	}
	return nil, ""
}

// environmentSecrets adds the secrets that the environment has for parameters
// that were not given.
func (e *Env) environmentSecrets(c *cmdlet.Cmdlet, given []cmdlet.Argument) []cmdlet.Argument {
	for i := range c.Parameters {
		p := &c.Parameters[i]
		if !p.Secret() {
			continue
		}
		if v := e.Getenv(cmdlet.SecretVariable(p)); v != "" && !c.Gives(given, p) {
			given = append(given, cmdlet.Argument{Name: p.Name, Value: v})
		}
	}
	return given
}

// ask asks for a required parameter, without echo when it is a secret.
func (e *Env) ask(p *cmdlet.Parameter) (any, error) {
	fmt.Fprintf(e.Stderr, "%s\n%s: ", p.Summary, p.Name)
	if p.Secret() {
		b, err := term.ReadPassword(int(e.Stdin.(*os.File).Fd()))
		fmt.Fprintln(e.Stderr)
		return string(b), err
	}
	line, err := bufio.NewReader(e.Stdin).ReadString('\n')
	return strings.TrimSpace(line), err
}

// confirm asks a question; everything but yes is no.
func (e *Env) confirm(question string) (bool, error) {
	fmt.Fprintf(e.Stderr, "%s [y/N] ", question)
	line, err := bufio.NewReader(e.Stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	line = strings.ToLower(strings.TrimSpace(line))
	return line == "y" || line == "yes", nil
}

// writeSecret writes a new file, 0600.
func writeSecret(path string, b []byte) error {
	if _, err := os.Lstat(path); err == nil {
		return opencmg.Errorf(opencmg.Conflict, "%s exists already: name a new file", path)
	}
	return pki.WriteFile(path, b, 0o600)
}
