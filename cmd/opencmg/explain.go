package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/web"
)

func runExplain(ctx context.Context, e *env, args []string) error {
	fs := newFlags(e, "explain")
	dataDir := fs.String("data-dir", "", "data `directory` of the lab; default is that of the running lab")
	asJSON := fs.Bool("json", false, "print the records as JSON")
	if err := parseFlags(fs, args, 1); err != nil {
		return err
	}
	if fs.NArg() != 1 {
		return usagef("explain: give the correlation ID, which every response carries as %s", opencmg.HeaderCorrelationID)
	}
	lab, err := findLab(*dataDir)
	if err != nil {
		return err
	}
	records, err := explain(ctx, lab, fs.Arg(0))
	if err != nil {
		return err
	}
	if *asJSON {
		return json.NewEncoder(e.stdout).Encode(records)
	}
	printRecords(e.stdout, records)
	return nil
}

// explain asks every process of the lab what it knows about a request.
func explain(ctx context.Context, lab *labInfo, id string) ([]web.Record, error) {
	var all []web.Record
	client := &http.Client{Timeout: 5 * time.Second}
	for _, p := range lab.Processes {
		if p.PrivateURL == "" {
			continue
		}
		req, err := http.NewRequestWithContext(ctx, "GET", p.PrivateURL+"/explain/"+url.PathEscape(id), nil)
		if err != nil {
			return nil, err
		}
		res, err := client.Do(req)
		if err != nil {
			continue // a process that is down has nothing to say
		}
		var found []web.Record
		if res.StatusCode == http.StatusOK {
			err = json.NewDecoder(res.Body).Decode(&found)
		}
		res.Body.Close()
		if err != nil {
			return nil, fmt.Errorf("ask %s: %w", p.Name, err)
		}
		all = append(all, found...)
	}
	if len(all) == 0 {
		return nil, opencmg.Errorf(opencmg.NotFound, "no process of the lab knows request %s: check the ID; each process keeps its latest requests only", id)
	}
	order := map[string]int{web.HopGateway: 0, web.HopConnectionPoint: 1, web.HopManagementPoint: 2}
	slices.SortStableFunc(all, func(a, b web.Record) int {
		if order[a.Hop] != order[b.Hop] {
			return order[a.Hop] - order[b.Hop]
		}
		return a.Time.Compare(b.Time)
	})
	return all, nil
}

func printRecords(w io.Writer, records []web.Record) {
	for i, r := range records {
		if i == 0 {
			fmt.Fprintf(w, "request %s\n\n", r.CorrelationID)
		} else {
			fmt.Fprintln(w, "   |")
		}
		fmt.Fprintf(w, "%d. %s %s, %s, %.1f ms\n", i+1, r.Hop, r.Where, r.Time.Format("15:04:05.000"), float64(r.Duration)/1e6)
		if r.Method != "" {
			fmt.Fprintf(w, "     %s %s\n", r.Method, r.Path)
		}
		for _, f := range []struct{ name, value string }{{"endpoint", r.Endpoint}, {"role", r.Role}, {"client", r.Client}} {
			if f.value != "" {
				fmt.Fprintf(w, "     %-9s %s\n", f.name, f.value)
			}
		}
		if r.Status != 0 {
			fmt.Fprintf(w, "     %-9s %d %s\n", "answer", r.Status, r.Reason)
		}
		if r.Verdict != "" {
			fmt.Fprintf(w, "     %-9s %s\n", "verdict", r.Verdict)
		}
		for _, d := range r.Details {
			fmt.Fprintf(w, "     %-9s %s\n", "", d)
		}
	}
}
