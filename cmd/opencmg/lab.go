package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/client"
)

// labOptions are the lab's flags.
type labOptions struct {
	once, json       bool
	bare             bool // leave the set-up to whoever tries it
	serve            serveFlags
	fault            string
	dataDir          string
	fresh            bool
	instances        int
	scale            bool // instances were asked for
	connectionPoints int
	clients          int // of each kind
	logLevel         string
}

// The faults that a lab can show.
const (
	faultKillInstance        = "kill-instance"
	faultKillConnectionPoint = "kill-connection-point"
	faultDropTunnel          = "drop-tunnel"
)

var labFaults = []string{faultKillInstance, faultKillConnectionPoint, faultDropTunnel}

func parseLabOptions(e *env, args []string) (labOptions, error) {
	o := labOptions{connectionPoints: 2}
	fs := newFlags(e, "lab")
	fs.BoolVar(&o.once, "once", false, "end after the show: 0 when every step was ok and every refusal was right, 1 otherwise")
	fs.BoolVar(&o.json, "json", false, "print one JSON object instead of tables; implies --once")
	fs.BoolVar(&o.bare, "bare", false, "start the site as it is before the set-up, and leave the five parts to you")
	fs.BoolVar(&o.serve.withParent, "until-stdin-closes", false, "") // of the program's tests
	fs.StringVar(&o.fault, "fault", "", "break something while clients work: `"+strings.Join(labFaults, "|")+"`")
	fs.StringVar(&o.dataDir, "data-dir", "", "keep the lab's data in this `directory`, and go on with the lab that is there; default is a temporary one that goes away")
	fs.BoolVar(&o.fresh, "fresh", false, "remove the lab in the data directory and begin anew")
	fs.IntVar(&o.instances, "instances", 2, "gateway instances, 1 to 16")
	fs.IntVar(&o.clients, "clients", 1, "clients of each kind")
	fs.StringVar(&o.logLevel, "log-level", "info", "of the roles' log files: `debug|info|warn|error`")
	if err := parseFlags(fs, args, 0); err != nil {
		return o, err
	}
	fs.Visit(func(f *flag.Flag) { o.scale = o.scale || f.Name == "instances" })
	switch {
	case o.fresh && o.dataDir == "":
		return o, usagef("lab: --fresh goes with --data-dir")
	case o.instances < 1 || o.instances > opencmg.MaxInstances:
		return o, usagef("lab: --instances must be 1 to %d", opencmg.MaxInstances)
	case o.clients < 1 || o.clients > 1000:
		return o, usagef("lab: --clients must be 1 to 1000")
	case o.fault != "" && !contains(labFaults, o.fault):
		return o, usagef("lab: --fault must be one of %s", strings.Join(labFaults, ", "))
	case o.fault == faultKillInstance && o.instances < 2:
		return o, usagef("lab: --fault kill-instance needs at least 2 instances")
	}
	o.once = o.once || o.json
	if o.bare && (o.once || o.fault != "") {
		return o, usagef("lab: --bare shows nothing by itself: leave out --once, --json and --fault")
	}
	return o, nil
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// A labReport is what --json prints.
type labReport struct {
	OK               bool              `json:"ok"`
	ServiceName      string            `json:"serviceName"`
	Instances        int               `json:"instances"`
	ConnectionPoints int               `json:"connectionPoints"`
	Parts            []labPart         `json:"parts"`
	Deployment       *labDeployment    `json:"deployment,omitempty"`
	Clients          []labClientReport `json:"clients"`
	Refusals         []labRefusal      `json:"refusals"`
	Fault            *labFaultReport   `json:"fault,omitempty"`
	Error            string            `json:"error,omitempty"`
}

// A labClientReport is what one client did.
type labClientReport struct {
	Name     string              `json:"name"`
	Auth     client.Auth         `json:"auth"`
	ClientID opencmg.ClientID    `json:"clientId"`
	Steps    []client.StepResult `json:"steps"`
}

func (r *labReport) judge() {
	r.OK = r.Error == "" && len(r.Clients) > 0 && (r.Fault == nil || r.Fault.OK)
	for _, c := range r.Clients {
		for _, s := range c.Steps {
			r.OK = r.OK && s.OK
		}
	}
	for _, f := range r.Refusals {
		r.OK = r.OK && f.OK
	}
	for _, p := range r.Parts {
		r.OK = r.OK && p.OK
	}
	r.OK = r.OK && len(r.Parts) == 5
}

func runLab(ctx context.Context, e *env, args []string) error {
	o, err := parseLabOptions(e, args)
	if err != nil {
		return err
	}
	ctx, cancel := o.serve.context(ctx, e)
	defer cancel()
	l := &lab{opts: o}
	if l.dir, l.temporary, err = makeLabDir(o.dataDir); err != nil {
		return err
	}
	ui := newLabUI(e, o)
	if err := l.takeUp(ctx, ui); err != nil {
		return err
	}
	logFile, err := os.OpenFile(l.path("lab.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	defer logFile.Close()
	l.log = slog.New(slog.NewTextHandler(logFile, nil))
	defer l.stop()

	if o.bare {
		return l.serveBare(ctx, ui)
	}
	report, err := l.show(ctx, ui)
	if err != nil && ctx.Err() != nil {
		return errors.New("the lab was interrupted")
	}
	if err != nil {
		report.Error = err.Error()
	}
	report.judge()
	if o.json {
		enc := json.NewEncoder(e.stdout)
		if err := enc.Encode(report); err != nil {
			return err
		}
	} else {
		ui.report(report, err)
	}
	if !o.once && err == nil {
		ui.whatNext(l, report)
		<-ctx.Done()
		ui.say("stopping")
	}
	if !report.OK {
		return errReported
	}
	return nil
}

// show runs the whole story once.
func (l *lab) show(ctx context.Context, ui *labUI) (*labReport, error) {
	report := &labReport{
		ServiceName: labServiceName, Instances: l.opts.instances, ConnectionPoints: l.opts.connectionPoints,
		Parts: []labPart{}, Clients: []labClientReport{}, Refusals: []labRefusal{},
	}
	if err := l.prepare(ui); err != nil {
		return report, err
	}
	revoked, err := l.keptClientCertificate("revoked-client", time.Now())
	if err != nil {
		return report, err
	}
	if err := l.revoke(revoked, time.Now()); err != nil {
		return report, err
	}
	if err := l.startServers(ctx, ui); err != nil {
		return report, err
	}
	if err := l.setUpSite(ctx, report, ui); err != nil {
		return report, err
	}
	if err := l.describe(ctx); err != nil {
		return report, err
	}
	ui.step(fmt.Sprintf("part 5: %d clients on the internet", 3*l.opts.clients))
	began := time.Now()
	clients, err := l.makeClients(ctx, ui.progress)
	defer func() {
		for _, c := range clients {
			c.close()
		}
	}()
	if err != nil {
		report.part(5, partClients, false, began)
		return report, err
	}
	report.Clients = l.workAll(ctx, clients, ui.progress)
	report.part(5, partClients, true, began)
	if l.opts.fault != "" {
		ui.step("fault: " + l.opts.fault)
		report.Fault = l.showFault(ctx, clients, ui)
	}
	ui.step("refusals")
	report.Refusals, err = l.proveRefusals(ctx, revoked)
	return report, err
}

// prepare makes the certificates and configuration files.
func (l *lab) prepare(ui *labUI) error {
	ui.step("certificates and configuration files")
	if err := l.setUp(time.Now()); err != nil {
		return fmt.Errorf("set up the lab: %w", err)
	}
	return nil
}

// startServers starts what is there before the set-up.
func (l *lab) startServers(ctx context.Context, ui *labUI) error {
	ui.step("the servers: revocation lists, lab cloud, site server")
	if err := l.start(ctx, ui.progress, "crl-server", "lab-cloud", "site"); err != nil {
		return err
	}
	if err := l.connectAdmin(); err != nil {
		return err
	}
	if !l.opts.once { // with --once nobody has the time to look
		ui.console(l)
	}
	return nil
}

// partClients is the name of part 5.
const partClients = "clients"
