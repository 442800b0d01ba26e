package admincli

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/opencmg/opencmg/adminservice"
)

// Ways to print what a command found.
const (
	outputTable    = "table"
	outputJSON     = "json"
	outputMarkdown = "markdown"
	outputCSV      = "csv"
)

// registerOutput defines --output; ways are those that the command has.
func registerOutput(fs *flag.FlagSet, output *string, ways ...string) {
	fs.StringVar(output, "output", "", "`"+strings.Join(ways, "|")+"`; default is a table for a terminal and JSON in a pipe")
}

// outputWay checks what was asked for, and chooses when nothing was.
func outputWay(asked string, w io.Writer, ways ...string) (string, error) {
	if asked == "" {
		if terminal(w) {
			return outputTable, nil
		}
		return outputJSON, nil
	}
	for _, way := range ways {
		if strings.EqualFold(asked, way) {
			return way, nil
		}
	}
	return "", usagef("--output %s: must be one of %s", asked, strings.Join(ways, ", "))
}

// asking is what the commands have in common that ask a site and print the
// answer.
type asking struct {
	connection
	way  string // how to print; after parse one of ways
	ways []string
}

// register defines the flags; ways are those that the command has to print.
func (a *asking) register(fs *flag.FlagSet, ways ...string) {
	a.connection.register(fs)
	a.ways = ways
	registerOutput(fs, &a.way, ways...)
}

// parse reads the arguments as [parse] does, and decides how to print.
func (a *asking) parse(e *Env, fs *flag.FlagSet, args []string, least, most int) ([]string, error) {
	rest, err := parse(fs, args, least, most)
	if err == nil {
		a.way, err = outputWay(a.way, e.Stdout, a.ways...)
	}
	return rest, err
}

// printJSON prints objects, one on each line.
func printJSON[T any](w io.Writer, objects ...T) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, o := range objects {
		if err := enc.Encode(o); err != nil {
			return err
		}
	}
	return nil
}

// printTable prints rows of text below their heads.
func printTable(w io.Writer, heads []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, h := range heads {
		if i > 0 {
			fmt.Fprint(t, "\t")
		}
		fmt.Fprint(t, strings.ToUpper(h))
	}
	fmt.Fprintln(t)
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	return t.Flush()
}

// markdownCell keeps a text in its cell, and what stands in angle brackets from
// becoming HTML.
var markdownCell = strings.NewReplacer("|", `\|`, "\n", " ", "\r", " ", "<", "&lt;", ">", "&gt;")

// printMarkdown prints the same as a table in Markdown.
func printMarkdown(w io.Writer, heads []string, rows [][]string) error {
	line := func(cells []string) error {
		var b strings.Builder
		for _, c := range cells {
			b.WriteString("| " + markdownCell.Replace(c) + " ")
		}
		_, err := fmt.Fprintln(w, b.String()+"|")
		return err
	}
	if err := line(heads); err != nil {
		return err
	}
	rule := make([]string, len(heads))
	for i := range rule {
		rule[i] = "---"
	}
	if err := line(rule); err != nil {
		return err
	}
	for _, r := range rows {
		if err := line(r); err != nil {
			return err
		}
	}
	return nil
}

// listCommand lists a collection; row is one object as a line of the table.
func listCommand[T any](ctx context.Context, e *Env, fs *flag.FlagSet, args []string, collection string, heads []string, row func(T) []string) error {
	var c asking
	c.register(fs, outputTable, outputJSON)
	if _, err := c.parse(e, fs, args, 0, 0); err != nil {
		return err
	}
	client, err := c.client(e)
	if err != nil {
		return err
	}
	list, err := adminservice.List[T](ctx, client, collection, nil)
	if err != nil {
		return err
	}
	if len(list) == adminservice.MaxPage {
		fmt.Fprintf(e.Stderr, "only the first %d are shown\n", adminservice.MaxPage)
	}
	if c.way == outputJSON {
		return printJSON(e.Stdout, list...)
	}
	var rows [][]string
	for _, v := range list {
		rows = append(rows, row(v))
	}
	return printTable(e.Stdout, heads, rows)
}
