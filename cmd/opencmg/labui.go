package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/client"
	"github.com/opencmg/opencmg/internal/admincli"
)

// labUI shows the lab to a person. Progress goes to standard error, results
// to standard output. Rules: one line for each thing that is done, a bar only
// on a terminal, nothing at all with --json but the object.
type labUI struct {
	e        *env
	o        labOptions
	terminal bool

	mu    sync.Mutex // guards what follows
	began time.Time
	text  string
	bar   bool // a bar stands on the current line
}

func newLabUI(e *env, o labOptions) *labUI {
	return &labUI{e: e, o: o, terminal: isTerminal(e.stderr)}
}

// step ends the current step and begins the next.
func (ui *labUI) step(text string) {
	ui.mu.Lock()
	defer ui.mu.Unlock()
	ui.end()
	ui.text, ui.began = text, time.Now()
	if ui.terminal {
		fmt.Fprintf(ui.e.stderr, "   ...  %s\r", text)
		ui.bar = true
	}
}

func (ui *labUI) end() {
	if ui.text == "" {
		return
	}
	if ui.bar {
		fmt.Fprintf(ui.e.stderr, "\r%s\r", strings.Repeat(" ", 100))
		ui.bar = false
	}
	fmt.Fprintf(ui.e.stderr, "%5.1fs  %s\n", time.Since(ui.began).Seconds(), ui.text)
	ui.text = ""
}

// progress shows how much of the current step is done.
func (ui *labUI) progress(done, all int) {
	ui.mu.Lock()
	defer ui.mu.Unlock()
	if !ui.terminal || all == 0 {
		return
	}
	const width = 30
	full := width * done / all
	fmt.Fprintf(ui.e.stderr, "\r   [%s%s] %d/%d  %.50s", strings.Repeat("#", full), strings.Repeat(".", width-full), done, all, ui.text)
	ui.bar = true
}

func (ui *labUI) say(format string, args ...any) {
	ui.mu.Lock()
	defer ui.mu.Unlock()
	ui.end()
	fmt.Fprintf(ui.e.stderr, format+"\n", args...)
}

// console says, before anything else, where one can watch.
func (ui *labUI) console(l *lab) {
	ui.mu.Lock()
	defer ui.mu.Unlock()
	ui.end()
	fmt.Fprintf(ui.e.stdout, `
  Console  %s
           sign in with the token in %s
           (the browser does not know the lab's site CA: trust %s, or go on in spite of its warning)

`, l.consoleURL(), l.path("site", siteTokenFile), l.path("site", siteCAFile))
}

// report prints what happened.
func (ui *labUI) report(r *labReport, err error) {
	ui.mu.Lock()
	ui.end()
	ui.mu.Unlock()
	w := ui.e.stdout
	printParts(w, r)
	fmt.Fprintf(w, "\nClients of %s, through %d gateway instances and %d connection points\n\n", r.ServiceName, r.Instances, r.ConnectionPoints)
	if len(r.Clients) <= 12 {
		printClients(w, r.Clients)
	} else {
		printClientSummary(w, r.Clients)
	}
	printFailures(w, r.Clients)
	if r.Fault != nil {
		printFault(w, r.Fault)
	}
	fmt.Fprint(w, "\nWhat the gateway refused\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  CASE\tANSWER\t\tCORRELATION ID")
	for _, f := range r.Refusals {
		fmt.Fprintf(t, "  %s\t%d %s\t%s\t%s\n", f.Case, f.Status, f.Reason, okWord(f.OK), f.CorrelationID)
	}
	t.Flush()
	if err != nil {
		fmt.Fprintf(ui.e.stderr, "\nopencmg: %v\n", err)
	}
	switch {
	case r.OK:
		fmt.Fprint(w, "\nEverything worked, and everything that must be refused was refused.\n")
	default:
		fmt.Fprint(w, "\nNot everything worked; see the lines marked FAILED. With --data-dir DIR the logs stay in DIR/logs.\n")
	}
}

// printParts shows the set-up.
func printParts(w io.Writer, r *labReport) {
	fmt.Fprint(w, "\nThe set-up in five parts\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, p := range r.Parts {
		fmt.Fprintf(t, "  %d\t%s\t%s\t%.1f s\n", p.Part, p.Name, okWord(p.OK), p.Milliseconds/1000)
	}
	t.Flush()
	if d := r.Deployment; d != nil {
		fmt.Fprintf(w, "\n  Part 4 deployed a scale set of %d instances in %.1f s, %.0f ms an instance.\n", d.Instances, d.Milliseconds/1000, d.Milliseconds/float64(d.Instances))
	}
}

func okWord(ok bool) string {
	if ok {
		return "ok"
	}
	return "FAILED"
}

func printClients(w io.Writer, clients []labClientReport) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "  CLIENT\tSIGNS IN BY")
	if len(clients) > 0 {
		for _, s := range clients[0].Steps {
			fmt.Fprintf(t, "\t%s", strings.ToUpper(s.Step))
		}
	}
	fmt.Fprintln(t, "\tCLIENT ID")
	for _, c := range clients {
		fmt.Fprintf(t, "  %s\t%s", c.Name, authWords[c.Auth])
		for _, s := range c.Steps {
			if s.OK {
				fmt.Fprintf(t, "\t%.0f ms", s.Milliseconds)
			} else {
				fmt.Fprint(t, "\tFAILED")
			}
		}
		fmt.Fprintf(t, "\t%s\n", c.ClientID)
	}
	t.Flush()
}

var authWords = map[client.Auth]string{
	client.AuthPKI: "PKI certificate", client.AuthEntra: "Entra token", client.AuthToken: "registration token",
}

// printClientSummary shows the middle time of each step for many clients.
func printClientSummary(w io.Writer, clients []labClientReport) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  SIGNS IN BY\tSTEP\tOK\tMEDIAN\tSLOWEST")
	for _, auth := range []client.Auth{client.AuthPKI, client.AuthEntra, client.AuthToken} {
		times := map[string][]float64{}
		ok := map[string]int{}
		var order []string
		for _, c := range clients {
			if c.Auth != auth {
				continue
			}
			for _, s := range c.Steps {
				if _, seen := times[s.Step]; !seen {
					order = append(order, s.Step)
				}
				times[s.Step] = append(times[s.Step], s.Milliseconds)
				if s.OK {
					ok[s.Step]++
				}
			}
		}
		for _, step := range order {
			middle, slowest := medianAndMax(times[step])
			fmt.Fprintf(t, "  %s\t%s\t%d of %d\t%.0f ms\t%.0f ms\n", authWords[auth], step, ok[step], len(times[step]), middle, slowest)
		}
	}
	t.Flush()
}

func printFailures(w io.Writer, clients []labClientReport) {
	shown := 0
	for _, c := range clients {
		for _, s := range c.Steps {
			if s.OK {
				continue
			}
			if shown++; shown > 20 {
				return
			}
			fmt.Fprintf(w, "\n  %s, %s: %s\n", c.Name, s.Step, s.Error)
			if s.CorrelationID != "" {
				fmt.Fprintf(w, "    %s explain %s\n", programName(), s.CorrelationID)
			}
		}
	}
}

// whatNext says where everything listens and what to try.
func (ui *labUI) whatNext(l *lab, r *labReport) {
	refused := "ID"
	if len(r.Refusals) > 0 {
		refused = r.Refusals[0].CorrelationID
	}
	profile := ""
	if !l.temporary { // commands find the lab only where they look for it
		profile = " --profile " + l.path("site", admincli.SiteProfileFile)
	}
	w := ui.e.stdout
	fmt.Fprint(w, "\nWhere everything listens\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  PROCESS\tPID\tLISTENS\tMETRICS AND HEALTH")
	for _, p := range l.processes {
		fmt.Fprintf(t, "  %s\t%d\t%s\t%s/metrics\n", p.name, p.pid(), l.listens(p.name), p.privateURL)
	}
	t.Flush()
	fmt.Fprintf(w, `
What to try next

  Watch it, and change it, in a browser (token: %[9]s):
    %[14]s
  Ask the gateway as a client with a certificate that the site trusts:
    curl --cacert %[1]s --cert %[2]s --key %[3]s \
      "%[4]s/SMS_MP/.sms_aut?MPLIST" -i
  and see the way of that request (its X-Correlation-ID), or why the revoked
  certificate above was refused:
    %[7]s explain %[8]s
  Look whether everything between a client and the management point is well:
    %[7]s analyze %[12]s
  See that nothing of the set-up is missing, and what firewalls let through:
    %[7]s checklist%[13]s
    %[7]s firewall-sheet%[13]s
  Administer the site: by noun and verb, by the documented cmdlet, by a file, or by
  the administration service itself:
    %[7]s gateway list%[13]s
    %[7]s Get-CMCloudManagementGateway -Name 'g*'%[13]s
    %[7]s export%[13]s
    sed 's/^/Authorization: Bearer /' %[9]s | \
      curl --cacert %[10]s -H @- "%[11]sGateways"
  Kill any process; it comes back, and no client notices:
    kill -9 PID
  Logs in CMTrace format: %[5]s
  For programs: %[6]s

%[15]s
`, l.info.CAFile, l.info.SpareClient.CertFile, l.info.SpareClient.KeyFile, l.info.MutualAuthBase, l.info.LogDir, l.path(labInfoFile), programName(), refused+profile,
		l.info.AdminService.TokenFile, l.info.AdminService.CAFile, l.info.AdminService.URL+adminservice.BasePath, labGateway+profile, profile, l.consoleURL(), l.howToEnd())
}

// howToEnd says what becomes of the lab.
func (l *lab) howToEnd() string {
	if l.temporary {
		return "Ctrl-C ends the lab and removes what it made."
	}
	return "Ctrl-C ends the lab, and the same command goes on with it."
}

// programName is what to type to run this program again.
func programName() string {
	self, err := os.Executable()
	if err == nil && strings.Contains(filepath.ToSlash(self), "/go-build") {
		return "go run ./cmd/opencmg"
	}
	return "opencmg"
}

// listens says where a process of the lab can be reached.
func (l *lab) listens(name string) string {
	switch name {
	case "crl-server":
		return "http://" + l.addr.crl
	case "lab-cloud":
		return "https://" + l.addr.cloud + ", the gateway at https://" + l.addr.frontends[machineHTTPS]
	case "site":
		return l.admin.URL
	case "mp":
		return "https://" + l.addr.mp + ", notification " + l.addr.mpFast
	}
	for i, a := range l.addr.gatewayHTTPS {
		if name == fmt.Sprintf("gateway-%d", i) {
			return "https://" + a
		}
	}
	return "nowhere: it dials out"
}
