package admincli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/redact"
)

// Bounds of a diagnosis archive.
const (
	diagLogBytes   = 1 << 20  // of the end of each log file
	diagAllLogs    = 64 << 20 // of all of them
	diagOperations = 200
	diagPart       = 30 * time.Second // to wait for one part
	diagProbe      = 3 * time.Minute  // to wait for one analysis
)

// notForDiagnosis are collections that a diagnosis leaves out: the people of the
// directory are none of its business, and the others have a place of their own.
var notForDiagnosis = []string{"Users", "Groups", "Logs", "Operations", "Site/configuration", "Site/metrics", "openapi.yaml"}

// Diag writes an archive for whoever is to find out what is wrong with a site.
func Diag(ctx context.Context, e *Env, args []string) (err error) {
	var c connection
	fs := e.newFlags("diag [flags]", "Write one archive with state, versions, redacted configuration, logs and probe results.\nSecrets are taken out; look into it all the same before you give it away.")
	c.register(fs)
	to := fs.String("to", "", "`file` to write, which must not exist; default opencmg-diag-SITE-TIME.tar.gz here")
	since := fs.Duration("since", 24*time.Hour, "how far back messages and operations go, a `duration`")
	if _, err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if *since <= 0 {
		return usagef("diag: --since must be more than nothing, such as 24h")
	}
	profile, err := c.find(e)
	if err != nil {
		return err
	}
	client, err := profile.Client()
	if err != nil {
		return err
	}
	// Without the site there is nothing to write.
	s, err := adminservice.Get[adminservice.Site](ctx, client, "Site")
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	if *to == "" {
		*to = fmt.Sprintf("opencmg-diag-%s-%s.tar.gz", s.Code, now.Format("20060102-150405"))
	}
	if _, err := os.Lstat(*to); err == nil {
		return opencmg.Errorf(opencmg.Conflict, "--to %s: there is such a file already: name another one", *to)
	}
	f, err := os.CreateTemp(filepath.Dir(*to), ".opencmg-diag-*") // 0600
	if err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	defer func() {
		f.Close()
		os.Remove(f.Name()) // gone already when all went well
	}()
	d := &diagnosis{
		e: e, client: client, since: now.Add(-*since), archive: newArchive(f, now), known: []string{string(client.Token)},
		index: diagIndex{Created: now, Since: now.Add(-*since), Program: e.Version, System: runtime.GOOS + "/" + runtime.GOARCH, Site: s.Code, SiteVersion: s.Version, Database: s.Database, Account: s.Account, Role: s.Role},
	}
	d.collect(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := d.finish(); err != nil {
		return fmt.Errorf("write %s: %w", *to, err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", *to, err)
	}
	// A link never replaces a file that came meanwhile; not every file system
	// has them.
	if err := os.Link(f.Name(), *to); errors.Is(err, os.ErrExist) {
		return opencmg.Errorf(opencmg.Conflict, "--to %s: there is such a file now: name another one", *to)
	} else if err != nil {
		if err := os.Rename(f.Name(), *to); err != nil {
			return fmt.Errorf("write %s: %w", *to, err)
		}
	}
	fmt.Fprintf(e.Stderr, "%d parts, %d could not be had; secrets are taken out, but look into it before you give it away\n", len(d.index.Parts), len(d.index.Failed))
	_, err = fmt.Fprintln(e.Stdout, *to)
	return err
}

// A diagIndex is index.json, the last file of the archive.
type diagIndex struct {
	Created     time.Time         `json:"created"`
	Since       time.Time         `json:"since"`
	Program     string            `json:"program"` // version of the program that wrote this
	System      string            `json:"system"`  // that it ran on
	Site        opencmg.SiteCode  `json:"site"`
	SiteVersion string            `json:"siteVersion"`
	Database    string            `json:"database"`
	Account     string            `json:"account"`
	Role        adminservice.Role `json:"role"`
	// Versions of the programs of the parts, by their names.
	Versions map[string]string `json:"versions,omitempty"`
	Parts    []diagEntry       `json:"parts"`
	// Failed are the parts that could not be had, and why.
	Failed []diagFailure `json:"failed"`
	// LeftOut says what the archive does not hold on purpose.
	LeftOut []string `json:"leftOut"`
}

type diagEntry struct {
	Name  string `json:"name"`
	From  string `json:"from"`
	Bytes int    `json:"bytes"`
}

type diagFailure struct {
	From  string `json:"from"`
	Error string `json:"error"`
}

// A diagnosis is an archive that is being written. One goroutine uses it.
type diagnosis struct {
	e       *Env
	client  *adminservice.Client
	since   time.Time
	archive *archive
	known   []string // secrets that this process knows
	index   diagIndex
	err     error // of the archive; ends everything
}

func (d *diagnosis) collect(ctx context.Context) {
	d.index.Versions = map[string]string{"site": d.index.SiteVersion}
	d.index.LeftOut = []string{"Users and Groups: the people of the directory", "status messages, alerts and operations that ended before since", fmt.Sprintf("of each log file all but the last %d bytes", diagLogBytes)}
	d.state(ctx)
	d.operations(ctx)
	d.text(ctx, "configuration/site.yaml", "Site/configuration")
	d.text(ctx, "metrics/site.txt", "Site/metrics")
	d.logs(ctx)
	d.probes(ctx)
}

// state gets every collection that the site describes: one that a newer release
// has comes, too.
func (d *diagnosis) state(ctx context.Context) {
	d.say("state")
	text, _, err := d.get(ctx, "openapi.yaml", diagPart)
	if err != nil {
		d.fail("openapi.yaml", err)
		return
	}
	var description struct {
		Paths map[string]map[string]any `yaml:"paths"`
	}
	if err := yaml.Unmarshal(text, &description); err != nil {
		d.fail("openapi.yaml", err)
		return
	}
	var paths []string
	for path, methods := range description.Paths {
		path = strings.TrimPrefix(path, "/")
		if methods["get"] != nil && !strings.Contains(path, "{") && !slices.Contains(notForDiagnosis, path) {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	for _, path := range paths {
		if path == "Checklist" {
			continue // probes
		}
		d.object(ctx, "state/"+strings.ReplaceAll(path, "/", "-")+".json", path, diagPart)
	}
}

// object gets a document and puts it into the archive.
func (d *diagnosis) object(ctx context.Context, name, path string, patience time.Duration) {
	b, _, err := d.get(ctx, path, patience)
	if err != nil {
		d.fail(path, err)
		return
	}
	d.versions(path, b)
	d.add(name, path, d.recent(path, b), true)
}

// recent leaves out what ended before since.
func (d *diagnosis) recent(path string, b []byte) []byte {
	field := map[string]string{"StatusMessages": "at", "Alerts": "closed"}[path]
	var page struct {
		Value []map[string]any `json:"value"`
	}
	if field == "" || json.Unmarshal(b, &page) != nil {
		return b
	}
	page.Value = slices.DeleteFunc(page.Value, func(o map[string]any) bool {
		text, _ := o[field].(string)
		at, err := time.Parse(time.RFC3339, text)
		return err == nil && at.Before(d.since)
	})
	if page.Value == nil {
		page.Value = []map[string]any{}
	}
	if kept, err := json.Marshal(page); err == nil {
		return kept
	}
	return b
}

// versions notes which program each part runs.
func (d *diagnosis) versions(path string, b []byte) {
	switch path {
	case "ConnectionPoints":
		var page adminservice.Page[adminservice.ConnectionPoint]
		if json.Unmarshal(b, &page) == nil {
			for _, p := range page.Value {
				d.index.Versions["connection point "+p.Name] = p.Program
			}
		}
	case "Gateways":
		var page adminservice.Page[adminservice.Gateway]
		if json.Unmarshal(b, &page) == nil {
			for _, g := range page.Value {
				for _, m := range g.Machines {
					if m.Status != nil {
						d.index.Versions[fmt.Sprintf("gateway %s instance %d", g.Name, m.Status.Instance)] = m.Status.Version
					}
				}
			}
		}
	}
}

// operations gets the latest operations with their logs.
func (d *diagnosis) operations(ctx context.Context) {
	d.say("operations")
	ctx, cancel := context.WithTimeout(ctx, 4*diagPart)
	defer cancel()
	list, err := adminservice.List[adminservice.Operation](ctx, d.client, "Operations", url.Values{"$top": {fmt.Sprint(diagOperations)}})
	if err != nil {
		d.fail("Operations", err)
		return
	}
	var all []json.RawMessage
	for _, op := range list {
		if op.Changed.Before(d.since) && (op.State == adminservice.OperationCompleted || op.State == adminservice.OperationFailed) {
			continue
		}
		path := "Operations/" + url.PathEscape(op.ID)
		b, _, err := d.get(ctx, path, diagPart)
		if err != nil {
			d.fail(path, err)
			continue
		}
		all = append(all, b)
	}
	b, err := json.Marshal(map[string]any{"value": append([]json.RawMessage{}, all...)})
	if err != nil {
		d.fail("Operations", err)
		return
	}
	d.add("state/Operations.json", "Operations", b, true)
}

func (d *diagnosis) text(ctx context.Context, name, path string) {
	b, _, err := d.get(ctx, path, diagPart)
	if err != nil {
		d.fail(path, err)
		return
	}
	d.add(name, path, b, false)
}

// logs gets the ends of the log files, the latest first, as long as there is
// room.
func (d *diagnosis) logs(ctx context.Context) {
	d.say("logs")
	listing, cancel := context.WithTimeout(ctx, diagPart)
	defer cancel()
	files, err := adminservice.List[adminservice.LogFile](listing, d.client, "Logs", nil)
	if err != nil {
		d.fail("Logs", err)
		return
	}
	slices.SortFunc(files, func(a, b adminservice.LogFile) int { return b.Changed.Compare(a.Changed) })
	room := diagAllLogs
	for _, f := range files {
		path := "Logs/" + url.PathEscape(f.Name)
		if f.Changed.Before(d.since) || room < diagLogBytes {
			d.index.LeftOut = append(d.index.LeftOut, path)
			continue
		}
		b, _, err := d.get(ctx, path+fmt.Sprintf("?tail=%d", diagLogBytes), diagPart)
		if err != nil {
			d.fail(path, err)
			continue
		}
		room -= len(b)
		d.add("logs/"+f.Name, path, b, false)
	}
}

// probes asks the site to check itself, as far as it can.
func (d *diagnosis) probes(ctx context.Context) {
	d.say("probes")
	d.object(ctx, "probes/Checklist.json", "Checklist", diagProbe)
	listing, cancel := context.WithTimeout(ctx, diagPart)
	defer cancel()
	gateways, err := adminservice.List[adminservice.Gateway](listing, d.client, "Gateways", nil)
	if err != nil {
		d.fail("Gateways/{id}/analyze", err)
		return
	}
	for _, g := range gateways {
		path := "Gateways/" + url.PathEscape(g.ID)
		d.object(ctx, "state/traffic-"+g.Name+".json", path+"/traffic", diagPart)
		b, err := d.analyze(ctx, path+"/analyze")
		if err != nil {
			d.fail(path+"/analyze", err)
			continue
		}
		d.add("probes/analysis-"+g.Name+".json", path+"/analyze", b, true)
	}
}

// analyze asks for an analysis, and waits for it when that takes an operation.
func (d *diagnosis) analyze(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, diagProbe)
	defer cancel()
	var answer json.RawMessage
	if err := d.client.Do(ctx, http.MethodPost, path, struct{}{}, &answer); err != nil {
		return nil, err
	}
	var op adminservice.Operation
	if json.Unmarshal(answer, &op) != nil || op.ID == "" || op.State == "" || op.Kind == "" {
		return answer, nil
	}
	if _, err := d.client.Wait(ctx, op.ID, nil); err != nil && !errors.Is(err, opencmg.Conflict) {
		return nil, err
	}
	b, _, err := d.client.Text(ctx, "Operations/"+url.PathEscape(op.ID))
	return b, err
}

// get asks for a part, and gives up for this one after a while.
func (d *diagnosis) get(ctx context.Context, path string, patience time.Duration) ([]byte, http.Header, error) {
	if d.err != nil {
		return nil, nil, d.err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return d.client.Text(ctx, path)
}

// add puts a part into the archive without its secrets.
func (d *diagnosis) add(name, from string, b []byte, isJSON bool) {
	if isJSON {
		b = redact.JSON(b, d.known...)
	} else {
		b = redact.Text(b, d.known...)
	}
	if d.err == nil {
		d.err = d.archive.add(name, b)
	}
	d.index.Parts = append(d.index.Parts, diagEntry{name, from, len(b)})
}

// fail notes a part that could not be had.
func (d *diagnosis) fail(from string, err error) {
	d.index.Failed = append(d.index.Failed, diagFailure{from, string(redact.Text([]byte(err.Error()), d.known...))})
}

func (d *diagnosis) say(what string) { fmt.Fprintf(d.e.Stderr, "  %s\n", what) }

// finish writes the index.
func (d *diagnosis) finish() error {
	if d.err != nil {
		return d.err
	}
	if d.index.Failed == nil {
		d.index.Failed = []diagFailure{}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(d.index); err != nil {
		return err
	}
	if err := d.archive.add("index.json", redact.Text(b.Bytes(), d.known...)); err != nil {
		return err
	}
	return d.archive.close()
}
