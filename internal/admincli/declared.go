package admincli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/adminservice/declared"
	"github.com/opencmg/opencmg/pki"
)

// ErrPending says that a site is not as declared; it ends the process with 3, for
// scripts that ask for it.
var ErrPending = errors.New("the site is not as declared")

// Export writes the state of a site as a declared file.
func Export(ctx context.Context, e *Env, args []string) error {
	var c connection
	var file string
	fs := e.newFlags("export [flags]", "Write the state of the site as a file for plan and apply, without secrets.")
	c.register(fs)
	fs.StringVar(&file, "f", "", "`file` to write; default is standard output")
	if _, err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	client, err := c.client(e)
	if err != nil {
		return err
	}
	b, err := declared.Export(ctx, client)
	if err != nil {
		return err
	}
	if file == "" {
		_, err = e.Stdout.Write(b)
		return err
	}
	if err := pki.WriteFile(file, b, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(e.Stderr, "written: %s\n", file)
	return nil
}

// planFlags are what plan and apply have in common.
type planFlags struct {
	asking
	file  string
	prune bool
}

func (p *planFlags) makePlan(ctx context.Context, e *Env, command string) (*declared.Plan, *adminservice.Client, error) {
	if p.file == "" {
		return nil, nil, usagef("%s: name the declared file with -f", command)
	}
	var from io.Reader = e.Stdin
	name, dir := "standard input", ""
	if p.file != "-" {
		f, err := os.Open(p.file)
		if err != nil {
			return nil, nil, fmt.Errorf("the declared file: %w", err)
		}
		defer f.Close()
		from, name, dir = f, p.file, filepath.Dir(p.file)
	}
	b, err := io.ReadAll(io.LimitReader(from, declared.MaxFile+1))
	if err != nil {
		return nil, nil, fmt.Errorf("the declared file: %w", err)
	}
	d, err := declared.Parse(b, name)
	if err != nil {
		return nil, nil, err
	}
	client, err := p.client(e)
	if err != nil {
		return nil, nil, err
	}
	plan, err := declared.Make(ctx, client, d, declared.Options{Dir: dir, Prune: p.prune})
	return plan, client, err
}

// Plan shows what apply would do with a declared file.
func Plan(ctx context.Context, e *Env, args []string) error {
	var p planFlags
	var exitCode bool
	fs := e.newFlags("plan -f FILE [flags]", "Show what apply would change at the site, and what that costs. Nothing is changed.")
	p.register(fs, outputTable, outputJSON)
	fs.StringVar(&p.file, "f", "", "declared `file`; - is standard input")
	fs.BoolVar(&p.prune, "prune", false, "also delete what the site has beyond the sections of the file")
	fs.BoolVar(&exitCode, "exit-code", false, "end with 3 when there are changes")
	if _, err := p.parse(e, fs, args, 0, 0); err != nil {
		return err
	}
	plan, _, err := p.makePlan(ctx, e, "plan")
	if err != nil {
		return err
	}
	if p.way == outputJSON {
		err = printJSON(e.Stdout, plan.Changes...)
	} else {
		err = printPlan(e.Stdout, plan)
	}
	switch {
	case err != nil:
		return err
	case len(plan.Refusals()) > 0:
		return refusedPlan(e, plan)
	case exitCode && len(plan.Pending()) > 0:
		return ErrPending
	}
	return nil
}

func refusedPlan(e *Env, plan *declared.Plan) error {
	for _, c := range plan.Refusals() {
		fmt.Fprintf(e.Stderr, "opencmg: %s %s: %s\n", c.Kind, c.Name, c.Reason)
	}
	return ErrReported
}

// actionMarks show an action at a glance.
var actionMarks = map[declared.Action]string{declared.Create: "+", declared.Update: "~", declared.Delete: "-", declared.Continue: ">", declared.Undeclared: "?", declared.Waiting: "?", declared.Refused: "!"}

// printPlan prints a plan for people.
func printPlan(w io.Writer, plan *declared.Plan) error {
	var b strings.Builder
	done := map[declared.Action]int{}
	for _, c := range plan.Changes {
		done[c.Action]++
		fmt.Fprintf(&b, "%s %s %s %s\n", actionMarks[c.Action], c.Action, c.Kind, c.Name)
		for _, f := range c.Fields {
			switch {
			case c.Action != declared.Create:
				fmt.Fprintf(&b, "    %s: %s → %s\n", f.Name, orNothing(f.Old), orNothing(f.New))
			case f.New != "":
				fmt.Fprintf(&b, "    %s: %s\n", f.Name, f.New)
			}
		}
		if c.Effect != "" {
			fmt.Fprintf(&b, "    cost (%s): %s\n", c.Cost, c.Effect)
		}
		if c.Reason != "" {
			fmt.Fprintf(&b, "    %s\n", c.Reason)
		}
	}
	if len(plan.Pending()) == 0 && done[declared.Refused] == 0 {
		fmt.Fprintf(&b, "No changes: site %s is as declared.\n", plan.Site)
	} else {
		fmt.Fprintf(&b, "Site %s: %d to create, %d to change, %d to delete", plan.Site, done[declared.Create], done[declared.Update]+done[declared.Continue], done[declared.Delete])
		if n := done[declared.Refused]; n > 0 {
			fmt.Fprintf(&b, ", %d that can not be made", n)
		}
		b.WriteString(".\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func orNothing(s string) string {
	if s == "" {
		return `""`
	}
	return s
}

// An applied is one line of the output of apply for programs.
type applied struct {
	*declared.Change
	Result string `json:"result"` // done, failed or not begun
	Error  string `json:"error,omitempty"`
}

// Apply makes a site as a file declares.
func Apply(ctx context.Context, e *Env, args []string) error {
	var p planFlags
	var yes bool
	fs := e.newFlags("apply -f FILE [flags]", "Make the site as the file declares: show the plan, ask, and do exactly that.")
	p.register(fs, outputTable, outputJSON)
	fs.StringVar(&p.file, "f", "", "declared `file`; - is standard input, with --yes")
	fs.BoolVar(&p.prune, "prune", false, "also delete what the site has beyond the sections of the file")
	fs.BoolVar(&yes, "yes", false, "do not ask")
	if _, err := p.parse(e, fs, args, 0, 0); err != nil {
		return err
	}
	if !yes && (p.file == "-" || !terminal(e.Stdin)) {
		return usagef("apply: nobody can be asked here: look at opencmg plan, then give --yes")
	}
	plan, client, err := p.makePlan(ctx, e, "apply")
	if err != nil {
		return err
	}
	if err := printPlan(e.Stderr, plan); err != nil {
		return err
	}
	if len(plan.Refusals()) > 0 {
		return refusedPlan(e, plan)
	}
	if len(plan.Pending()) == 0 {
		return nil
	}
	if !yes {
		fmt.Fprint(e.Stderr, "Apply this plan? Only yes is taken: ")
		line, err := bufio.NewReader(e.Stdin).ReadString('\n')
		if strings.TrimSpace(line) != "yes" {
			if err == nil || errors.Is(err, io.EOF) {
				err = opencmg.Errorf(opencmg.Conflict, "nothing was changed")
			}
			return err
		}
	}
	return p.apply(ctx, e, plan, client)
}

// apply does the plan, and says what was done and what was not.
func (p *planFlags) apply(ctx context.Context, e *Env, plan *declared.Plan, client *adminservice.Client) error {
	results := map[*declared.Change]*applied{}
	err := plan.Apply(ctx, client, func(v declared.Event) {
		what := fmt.Sprintf("%s %s %s", v.Change.Action, v.Change.Kind, v.Change.Name)
		switch v.State {
		case declared.Begun:
			fmt.Fprintf(e.Stderr, "%s ...\n", what)
		case declared.Progress:
			fmt.Fprintf(e.Stderr, "    %s\n", v.Text)
		case declared.Done:
			results[v.Change] = &applied{Change: v.Change, Result: "done"}
		case declared.Failed:
			results[v.Change] = &applied{Change: v.Change, Result: "failed", Error: v.Err.Error()}
		}
	})
	for _, c := range plan.Pending() {
		r := results[c]
		if r == nil {
			r = &applied{Change: c, Result: "not begun"}
		}
		if p.way == outputJSON {
			if err := printJSON(e.Stdout, r); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(e.Stdout, "%-9s  %s %s %s\n", r.Result, c.Action, c.Kind, c.Name)
	}
	if err != nil {
		return fmt.Errorf("%w\nwhat is done stays done; opencmg apply goes on from there", err)
	}
	return nil
}
