package admincli

import (
	"context"
	"fmt"
	"io"
	"net/url"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// Explain shows the path of one request through the site, with the verdict of
// every hop.
func Explain(ctx context.Context, e *Env, args []string) error {
	var c asking
	fs := e.newFlags("explain CORRELATION-ID [flags]", "Show the path of one request of the last day, with the verdict of every hop.\nEvery response carries its correlation ID as "+opencmg.HeaderCorrelationID+".")
	c.register(fs, outputTable, outputJSON)
	rest, err := c.parse(e, fs, args, 0, 1)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return usagef("explain: give the correlation ID, which every response carries as %s", opencmg.HeaderCorrelationID)
	}
	client, err := c.client(e)
	if err != nil {
		return err
	}
	x, err := adminservice.Get[adminservice.Explanation](ctx, client, "Explanations/"+url.PathEscape(rest[0]))
	if err != nil {
		return err
	}
	if c.way == outputJSON {
		err = printJSON(e.Stdout, x)
	} else if len(x.Records) > 0 {
		printPath(e.Stdout, x.Records)
	}
	printSilent(e.Stderr, x)
	if err == nil && len(x.Records) == 0 {
		return ErrReported
	}
	return err
}

// printSilent says who did not answer; and when nobody knows the request, who
// was asked.
func printSilent(w io.Writer, x adminservice.Explanation) {
	if len(x.Records) == 0 {
		fmt.Fprintf(w, "nobody knows request %s: check the ID; requests are known for a day\n", x.CorrelationID)
	}
	for _, h := range x.Asked {
		switch {
		case !h.Answered:
			fmt.Fprintf(w, "%s %s did not answer: %s\n", h.Hop, h.Where, h.Problem)
		case len(x.Records) == 0:
			fmt.Fprintf(w, "%s %s was asked and does not know it\n", h.Hop, h.Where)
		}
	}
	if len(x.Asked) == 0 {
		fmt.Fprintln(w, "the site has no gateway, connection point or management point that could know it")
	}
}

func printPath(w io.Writer, records []opencmg.RequestRecord) {
	for i, r := range records {
		if i == 0 {
			fmt.Fprintf(w, "request %s\n\n", r.CorrelationID)
		} else {
			fmt.Fprintln(w, "   |")
		}
		fmt.Fprintf(w, "%d. %s %s, %s, %.1f ms\n", i+1, r.Hop, r.Where, r.Time.Local().Format("2006-01-02 15:04:05.000"), float64(r.Duration)/1e6)
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
