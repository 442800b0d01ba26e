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

	"github.com/opencmg/opencmg/adminservice/cmdlet"
	"github.com/opencmg/opencmg/internal/admincli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// A command is one verb of the command line.
type command struct {
	words   string // e.g. "gateway serve"
	args    string // for the usage line
	summary string
	run     func(ctx context.Context, env *env, args []string) error
	hidden  bool // started by the lab, not by people
}

// env is what a command may touch of the process around it.
type env struct {
	stdin          io.Reader
	stdout, stderr io.Writer
}

func commands() []command {
	return []command{
		{words: "lab", args: "[flags]", summary: "run a whole site on this machine and show what it does", run: runLab},
		{words: "site serve", args: "[--config FILE]", summary: "run the site server: administration service and cloud service manager", run: serveSite},
		{words: "site backup", args: "--to FILE", summary: "write a backup of the site's database while it runs", run: backUpSite},
		{words: "site restore", args: "--from FILE --key FILE", summary: "restore a backup into an empty data directory", run: restoreSite},
		{words: "gateway serve", args: "--config FILE [--join-token-file FILE]", summary: "run one instance of a gateway", run: serveGateway},
		{words: "connection-point serve", args: "--config FILE", summary: "run a connection point", run: serveConnectionPoint},
		{words: "connection-point join", args: "[--site-token-file FILE] [--name NAME] [--dir DIR]", summary: "make this host a connection point of a site", run: runConnectionPointJoin},
		{words: "mp serve", args: "--config FILE", summary: "run a management point", run: serveManagementPoint},
		{words: "mp join", args: "[--site-token-file FILE] [--name NAME] [--dir DIR]", summary: "make this host a management point of a site", run: runManagementPointJoin},
		{words: "publish", args: "--file FILE --dir DIR", summary: "sign what a gateway publishes, and make the files of every host", run: runPublish},
		{words: "bulk-token new", args: "[/new] [/lifetime MINUTES] [--uses N] [--source PREFIX] [--group LABEL] | --dir DIR", summary: "make a bulk registration token", run: runBulkToken},
		{words: "bulk-token list", args: "[flags]", summary: "list the bulk registration tokens, with their use", run: admin(admincli.BulkTokenList)},
		{words: "bulk-token block", args: "GUID", summary: "refuse a bulk registration token everywhere", run: admin(admincli.BulkTokenBlock)},
		{words: "bulk-token unblock", args: "GUID", summary: "accept a bulk registration token again", run: admin(admincli.BulkTokenUnblock)},
		{words: "bulk-token", run: admin(admincli.BulkTokenTool), hidden: true},
		{words: "BulkRegistrationTokenTool", run: admin(admincli.BulkTokenTool), hidden: true},
		{words: "BulkRegistrationTokenTool.exe", run: admin(admincli.BulkTokenTool), hidden: true},
		{words: "join-token new", args: "--kind KIND", summary: "make a token by which hosts join the site", run: admin(admincli.JoinTokenNew)},
		{words: "join-token list", args: "[flags]", summary: "list the join tokens, with their use", run: admin(admincli.JoinTokenList)},
		{words: "join-token delete", args: "ID", summary: "revoke a join token", run: admin(admincli.JoinTokenDelete)},
		{words: "diag", args: "[--to FILE] [--since 24h]", summary: "write one archive with state, versions, redacted configuration, logs and probe results", run: admin(admincli.Diag)},
		{words: "gateway instances", args: "[GATEWAY]", summary: "list the instances of a gateway as they are now", run: admin(admincli.GatewayInstances)},
		{words: "token-issuer add", args: "--certificate FILE --issuer NAME", summary: "accept the tokens that another site signs", run: admin(admincli.TokenIssuerAdd)},
		{words: "token-issuer list", args: "[flags]", summary: "list the other sites whose tokens are accepted", run: admin(admincli.TokenIssuerList)},
		{words: "token-issuer remove", args: "ID", summary: "refuse the tokens of another site again", run: admin(admincli.TokenIssuerRemove)},
		{words: "logs", args: "[NAME] [--follow]", summary: "list the site's log files, or show one", run: admin(admincli.Logs)},
		{words: "client install", args: "[/mp:URL] [PROPERTY=VALUE ...]", summary: "set up the client on this device", run: runClientInstall},
		{words: "client run", args: "[flags]", summary: "run the client until it is stopped", run: runClientRun},
		{words: "client status", args: "[flags]", summary: "show whether the client is on the intranet or the internet, and how it signs in", run: runClientStatus},
		{words: "client notify-test", args: "[flags]", summary: "measure a notification's way to this client and back", run: runClientNotifyTest},
		{words: "connect", args: "[--site URL --ca-file FILE --token-file FILE]", summary: "check how to sign in to a site, and keep it for all other commands", run: admin(admincli.Connect)},
		{words: "client-properties", args: "[GATEWAY]", summary: "print the properties with which client setup comes through a gateway", run: admin(admincli.ClientProperties)},
		{words: "completion", args: "SHELL", summary: "print the completion script of bash, zsh, fish or powershell", run: admin(admincli.Completion)},
		{words: "explain", args: "CORRELATION-ID", summary: "show the path of one request of the last day, with the verdict of every hop", run: admin(admincli.Explain)},
		{words: "checklist", args: "[--gateway NAME] [--service-cert FILE] [--from-here] [--output table|json|markdown]", summary: "check every item of the set-up and say who has to do what next", run: admin(admincli.Checklist)},
		{words: "preflight", args: "[--service-cert FILE --subscription ID --region NAME ...] [-f FILE]", summary: "check a planned gateway before it is created", run: admin(admincli.Preflight)},
		{words: "firewall-sheet", args: "[--gateway NAME] [--output table|csv|markdown|json]", summary: "print the hosts, ports and directions of this deployment", run: admin(admincli.FirewallSheet)},
		{words: "feature", args: "[ID on|off]", summary: "list the optional features of the site, or switch one", run: admin(admincli.Feature)},
		{words: "providers register", args: "--subscription ID", summary: "register the resource providers that a gateway needs", run: admin(admincli.RegisterProviders)},
		{words: "analyze", args: "GATEWAY [--sign-in token|client-certificate|entra-user]", summary: "look at everything between a client and the roles behind a gateway", run: admin(admincli.Analyze)},
		{words: "export", args: "[-f FILE]", summary: "write the state of the site as a file, without secrets", run: admin(admincli.Export)},
		{words: "plan", args: "-f FILE [--prune]", summary: "show what a declared file would change at the site, and what that costs", run: admin(admincli.Plan)},
		{words: "apply", args: "-f FILE [--yes] [--prune]", summary: "make the site as a file declares", run: admin(admincli.Apply)},
		{words: "version", summary: "print the version", run: runVersion},
		{words: "__complete", args: "WORD ...", summary: "list what may follow, for completion scripts", run: complete, hidden: true},
		{words: "lab-cloud serve", args: "--config FILE", summary: "run the lab's stand-in for Microsoft Entra ID", run: serveLabCloud, hidden: true},
		{words: "lab-machine boot", args: "--config FILE", summary: "be a virtual machine of the lab cloud", run: bootLabMachine, hidden: true},
		{words: "lab-crl serve", args: "--config FILE", summary: "run the lab's revocation list server", run: serveLabCRL, hidden: true},
	}
}

// admin makes a command of one that is a client of the administration service.
func admin(run func(context.Context, *admincli.Env, []string) error) func(context.Context, *env, []string) error {
	return func(ctx context.Context, e *env, args []string) error {
		return run(ctx, &admincli.Env{Stdin: e.stdin, Stdout: e.stdout, Stderr: e.stderr, Getenv: os.Getenv, FindLab: labProfile, Version: version()}, args)
	}
}

// cmdletCommand makes a command of a cmdlet.
func cmdletCommand(c *cmdlet.Cmdlet, byWords bool) command {
	return command{words: c.Words, run: admin(func(ctx context.Context, e *admincli.Env, args []string) error {
		return admincli.Cmdlet(ctx, e, c, byWords, args)
	})}
}

// complete lists what may stand in the place of the last word.
func complete(ctx context.Context, e *env, args []string) error {
	var list [][2]string
	for _, c := range commands() {
		if !c.hidden {
			list = append(list, [2]string{c.words, c.summary})
		}
	}
	return admin(func(ctx context.Context, e *admincli.Env, args []string) error {
		return admincli.Complete(ctx, e, args, list)
	})(ctx, e, args)
}

// labProfile tells how to administer the site of the running lab.
func labProfile() (admincli.Profile, error) {
	lab, err := findLab("")
	if err != nil {
		return admincli.Profile{}, err
	}
	return admincli.Profile{Site: lab.AdminService.URL, CAFile: lab.AdminService.CAFile, TokenFile: lab.AdminService.TokenFile}, nil
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

func findCommand(args []string) (command, []string, error) {
	if c := cmdlet.Find(args[0]); c != nil {
		return cmdletCommand(c, false), args[1:], nil
	}
	if c, n := cmdlet.FindWords(args); c != nil {
		return cmdletCommand(c, true), args[n:], nil
	}
	var nouns []string
	for _, c := range admincli.CmdletWords() {
		if noun, _, _ := strings.Cut(c[0], " "); strings.EqualFold(noun, args[0]) {
			nouns = append(nouns, c[0])
		}
	}
	for _, c := range commands() {
		words := strings.Fields(c.words)
		if len(args) >= len(words) && strings.EqualFold(strings.Join(args[:len(words)], " "), c.words) {
			return c, args[len(words):], nil
		}
		if strings.EqualFold(words[0], args[0]) {
			nouns = append(nouns, c.words)
		}
	}
	// The management point has a long name too.
	if strings.EqualFold(args[0], "management-point") {
		return findCommand(append([]string{"mp"}, args[1:]...))
	}
	if len(nouns) > 0 {
		return command{}, nil, usagef("%q is not complete: did you mean %s?", strings.Join(args, " "), strings.Join(nouns, ", "))
	}
	return command{}, nil, usagef("%q is not a command", args[0])
}

func printHelp(w io.Writer) {
	fmt.Fprint(w, "OpenCMG manages machines on the internet through a gateway that your network dials out to.\n\nUsage:\n")
	for _, c := range commands() {
		if !c.hidden {
			fmt.Fprintf(w, "  opencmg %-24s %s\n", c.words, c.summary)
		}
	}
	fmt.Fprint(w, "\nAdminister a site; each is also called by the cmdlet's name, with its parameters:\n")
	for _, c := range admincli.CmdletWords() {
		fmt.Fprintf(w, "  opencmg %-34s %s\n", c[0], c[1])
	}
	fmt.Fprint(w, "\nStart with \"opencmg lab\". Each command takes --help.\n")
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
