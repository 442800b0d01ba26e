package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/opencmg/opencmg/adminservice/cmdlet"
	"github.com/opencmg/opencmg/internal/admincli"
)

// What can stand behind "opencmg": the commands of this table, and the cmdlets
// of package cmdlet by both of their names.

// A command is one verb of the command line.
type command struct {
	words   string // e.g. "gateway serve"
	args    string // for the usage line
	summary string
	run     func(ctx context.Context, env *env, args []string) error
	hidden  bool // not for people: started by the lab or by a shell, or another name
}

// A commandGroup is a part of the help.
type commandGroup struct {
	title    string
	commands []command
}

func commandGroups() []commandGroup {
	return []commandGroup{
		{"Try it", []command{
			{words: "lab", args: "[flags]", summary: "run a whole site on this machine and show what it does", run: runLab},
		}},
		{"Run a part of it", []command{
			{words: "site serve", args: "[--config FILE]", summary: "run the site server: administration service and cloud service manager", run: serveSite},
			{words: "site backup", args: "--to FILE", summary: "write a backup of the site's database while it runs", run: backUpSite},
			{words: "site restore", args: "--from FILE --key FILE", summary: "restore a backup into an empty data directory", run: restoreSite},
			{words: "gateway serve", args: "--config FILE [--join-token-file FILE]", summary: "run one instance of a gateway", run: serveGateway},
			{words: "connection-point join", args: "[--site-token-file FILE] [--name NAME] [--dir DIR]", summary: "make this host a connection point of a site", run: runConnectionPointJoin},
			{words: "connection-point serve", args: "--config FILE", summary: "run a connection point", run: serveConnectionPoint},
			{words: "mp join", args: "[--site-token-file FILE] [--name NAME] [--dir DIR]", summary: "make this host a management point of a site", run: runManagementPointJoin},
			{words: "mp serve", args: "--config FILE", summary: "run a management point", run: serveManagementPoint},
		}},
		{"Set up a site", []command{
			{words: "connect", args: "[--site URL --ca-file FILE --token-file FILE]", summary: "check how to sign in to a site, and keep it for all other commands", run: admin(admincli.Connect)},
			{words: "checklist", args: "[--gateway NAME] [--service-cert FILE] [--from-here] [--output table|json|markdown]", summary: "check every item of the set-up and say who has to do what next", run: admin(admincli.Checklist)},
			{words: "preflight", args: "[--service-cert FILE --subscription ID --region NAME ...] [-f FILE]", summary: "check a planned gateway before it is created", run: admin(admincli.Preflight)},
			{words: "firewall-sheet", args: "[--gateway NAME] [--output table|csv|markdown|json]", summary: "print the hosts, ports and directions of this deployment", run: admin(admincli.FirewallSheet)},
			{words: "feature", args: "[ID on|off]", summary: "list the optional features of the site, or switch one", run: admin(admincli.Feature)},
			{words: "providers register", args: "--subscription ID", summary: "register the resource providers that a gateway needs", run: admin(admincli.RegisterProviders)},
			{words: "subscription list", args: "[flags]", summary: "list the subscriptions that the server application sees", run: admin(admincli.SubscriptionList)},
			{words: "subscription show", args: "ID", summary: "list the regions of a subscription in which a gateway can be, and its resource groups", run: admin(admincli.SubscriptionShow)},
			{words: "join-token new", args: "--kind KIND", summary: "make a token by which hosts join the site", run: admin(admincli.JoinTokenNew)},
			{words: "join-token list", args: "[flags]", summary: "list the join tokens, with their use", run: admin(admincli.JoinTokenList)},
			{words: "join-token delete", args: "ID", summary: "revoke a join token", run: admin(admincli.JoinTokenDelete)},
			{words: "account add", args: "--name NAME --role ROLE [--entra-tenant ID --entra-user ID | --certificate FILE | --local-token]", summary: "add an administrator of the site", run: admin(admincli.AccountAdd)},
			{words: "account list", args: "[flags]", summary: "list the administrators of the site, with their roles", run: admin(admincli.AccountList)},
			{words: "account remove", args: "NAME", summary: "remove an administrator of the site", run: admin(admincli.AccountRemove)},
			{words: "token-issuer add", args: "--certificate FILE --issuer NAME", summary: "accept the tokens that another site signs", run: admin(admincli.TokenIssuerAdd)},
			{words: "token-issuer list", args: "[flags]", summary: "list the other sites whose tokens are accepted", run: admin(admincli.TokenIssuerList)},
			{words: "token-issuer remove", args: "ID", summary: "refuse the tokens of another site again", run: admin(admincli.TokenIssuerRemove)},
			{words: "export", args: "[-f FILE]", summary: "write the state of the site as a file, without secrets", run: admin(admincli.Export)},
			{words: "plan", args: "-f FILE [--prune]", summary: "show what a declared file would change at the site, and what that costs", run: admin(admincli.Plan)},
			{words: "apply", args: "-f FILE [--yes] [--prune]", summary: "make the site as a file declares", run: admin(admincli.Apply)},
		}},
		{"Bring clients in", []command{
			{words: "bulk-token new", args: "[/new] [/lifetime MINUTES] [--uses N] [--source PREFIX] [--group LABEL] | --dir DIR", summary: "make a bulk registration token", run: runBulkToken},
			{words: "bulk-token list", args: "[flags]", summary: "list the bulk registration tokens, with their use", run: admin(admincli.BulkTokenList)},
			{words: "bulk-token block", args: "GUID", summary: "refuse a bulk registration token everywhere", run: admin(admincli.BulkTokenBlock)},
			{words: "bulk-token unblock", args: "GUID", summary: "accept a bulk registration token again", run: admin(admincli.BulkTokenUnblock)},
			{words: "client-properties", args: "[GATEWAY]", summary: "print the properties with which client setup comes through a gateway", run: admin(admincli.ClientProperties)},
			{words: "client install", args: "[/mp:URL] [PROPERTY=VALUE ...]", summary: "set up the client on this device", run: runClientInstall},
			{words: "client run", args: "[flags]", summary: "run the client until it is stopped", run: runClientRun},
			{words: "client status", args: "[flags]", summary: "show whether the client is on the intranet or the internet, and how it signs in", run: runClientStatus},
			{words: "client notify-test", args: "[flags]", summary: "measure a notification's way to this client and back", run: runClientNotifyTest},
		}},
		{"See what happens", []command{
			{words: "gateway instances", args: "[GATEWAY]", summary: "list the instances of a gateway as they are now", run: admin(admincli.GatewayInstances)},
			{words: "client-device list", args: "[--search TEXT] [--online true] [flags]", summary: "list the clients of the site", run: admin(admincli.ClientDeviceList)},
			{words: "client-device show", args: "CLIENT", summary: "show all that the site knows of a client", run: admin(admincli.ClientDeviceShow)},
			{words: "client-device notify", args: "CLIENT ... [--task TASK]", summary: "send a task to clients", run: admin(admincli.ClientDeviceNotify)},
			{words: "client-device approve", args: "CLIENT", summary: "approve a client that waits", run: admin(admincli.ClientDeviceApprove)},
			{words: "client-device block", args: "CLIENT [--reason TEXT]", summary: "refuse a client everywhere", run: admin(admincli.ClientDeviceBlock)},
			{words: "client-device readmit", args: "CLIENT", summary: "accept a blocked client again", run: admin(admincli.ClientDeviceReadmit)},
			{words: "analyze", args: "GATEWAY [--sign-in token|client-certificate|entra-user] [--every MINUTES|off]", summary: "look at everything between a client and the roles behind a gateway", run: admin(admincli.Analyze)},
			{words: "explain", args: "CORRELATION-ID", summary: "show the path of one request of the last day, with the verdict of every hop", run: admin(admincli.Explain)},
			{words: "logs", args: "[NAME] [--follow]", summary: "list the site's log files, or show one", run: admin(admincli.Logs)},
			{words: "diag", args: "[--to FILE] [--since 24h]", summary: "write one archive with state, versions, redacted configuration, logs and probe results", run: admin(admincli.Diag)},
		}},
		{"Other", []command{
			{words: "publish", args: "--file FILE --dir DIR", summary: "sign what a gateway publishes, and make the files of every host", run: runPublish},
			{words: "completion", args: "SHELL", summary: "print the completion script of bash, zsh, fish or powershell", run: admin(admincli.Completion)},
			{words: "version", summary: "print the version", run: runVersion},
		}},
		{"", []command{
			{words: "bulk-token", run: admin(admincli.BulkTokenTool), hidden: true},
			{words: "BulkRegistrationTokenTool", run: admin(admincli.BulkTokenTool), hidden: true},
			{words: "BulkRegistrationTokenTool.exe", run: admin(admincli.BulkTokenTool), hidden: true},
			{words: "__complete", args: "WORD ...", summary: "list what may follow, for completion scripts", run: complete, hidden: true},
			{words: "lab-cloud serve", args: "--config FILE", summary: "run the lab's stand-in for Microsoft Entra ID", run: serveLabCloud, hidden: true},
			{words: "lab-machine boot", args: "--config FILE", summary: "be a virtual machine of the lab cloud", run: bootLabMachine, hidden: true},
			{words: "lab-crl serve", args: "--config FILE", summary: "run the lab's revocation list server", run: serveLabCRL, hidden: true},
		}},
	}
}

// commands lists the commands of all groups.
func commands() (list []command) {
	for _, g := range commandGroups() {
		list = append(list, g.commands...)
	}
	return list
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
	fmt.Fprint(w, "OpenCMG manages machines on the internet through a gateway that your network dials out to.\n\nUsage: opencmg COMMAND [flags]\n")
	for _, g := range commandGroups() {
		if g.title == "" {
			continue
		}
		fmt.Fprintf(w, "\n%s:\n", g.title)
		for _, c := range g.commands {
			fmt.Fprintf(w, "  opencmg %-24s %s\n", c.words, c.summary)
		}
	}
	fmt.Fprint(w, "\nAdminister a site; each is also called by the cmdlet's name, with its parameters:\n")
	for _, c := range admincli.CmdletWords() {
		fmt.Fprintf(w, "  opencmg %-34s %s\n", c[0], c[1])
	}
	fmt.Fprint(w, "\nStart with \"opencmg lab\". Each command takes --help.\n")
}
