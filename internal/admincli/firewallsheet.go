package admincli

import (
	"context"
	"encoding/csv"
	"io"
	"net/url"
	"strconv"
	"strings"

	"github.com/opencmg/opencmg/adminservice"
)

// FirewallSheet prints the connections of this deployment that firewalls must
// let through.
func FirewallSheet(ctx context.Context, e *Env, args []string) error {
	var c asking
	fs := e.newFlags("firewall-sheet [flags]", "Print hosts, ports, directions and purposes of this very deployment.")
	gateway := fs.String("gateway", "", "`name` of the gateway; default is the first one")
	c.register(fs, outputTable, outputCSV, outputMarkdown, outputJSON)
	if _, err := c.parse(e, fs, args, 0, 0); err != nil {
		return err
	}
	client, err := c.client(e)
	if err != nil {
		return err
	}
	rules, err := adminservice.List[adminservice.FirewallRule](ctx, client, "FirewallSheet", url.Values{"gateway": {*gateway}})
	if err != nil {
		return err
	}
	return printRules(e.Stdout, c.way, rules)
}

func printRules(w io.Writer, way string, rules []adminservice.FirewallRule) error {
	if way == outputJSON {
		return printJSON(w, rules...)
	}
	heads := []string{"From", "To", "Direction", "Host", "Port", "Protocol", "Purpose", "Note"}
	var rows [][]string
	for _, r := range rules {
		rows = append(rows, []string{r.From, r.To, r.Direction, r.Host, strconv.Itoa(r.Port), r.Protocol, r.Purpose, r.Note})
	}
	switch way {
	case outputCSV:
		return printCSV(w, heads, rows)
	case outputMarkdown:
		return printMarkdown(w, heads, rows)
	}
	return printTable(w, heads, rows)
}

// printCSV prints rows for a spreadsheet. A cell that a spreadsheet would take
// for a formula gets an apostrophe in front: names come from certificates and
// other people.
func printCSV(w io.Writer, heads []string, rows [][]string) error {
	out := csv.NewWriter(w)
	for _, r := range append([][]string{heads}, rows...) {
		safe := make([]string, len(r))
		for i, cell := range r {
			if safe[i] = cell; cell != "" && strings.ContainsAny(cell[:1], "=+-@\t\r\n") {
				safe[i] = "'" + cell
			}
		}
		if err := out.Write(safe); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}
