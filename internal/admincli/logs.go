package admincli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// followEvery is how often a log file is looked at that is followed.
const followEvery = time.Second

// Logs lists the log files of a site, or shows the end of one.
func Logs(ctx context.Context, e *Env, args []string) error {
	var c asking
	fs := e.newFlags("logs [NAME] [flags]", "List the log files that the site has: its own and those of gateway instances, connection points and management points. With a name, show the end of that file.")
	c.register(fs, outputTable, outputJSON)
	follow := fs.Bool("follow", false, "go on with what is written, until you stop it")
	tail := fs.Int("tail", adminservice.DefaultLogTail, "how many `bytes` of the end, at most 4194304")
	names, err := c.parse(e, fs, args, 0, 1)
	if err != nil {
		return err
	}
	if *tail < 0 {
		return usagef("logs: --tail must not be negative")
	}
	if *follow && len(names) == 0 {
		return usagef("logs: --follow needs the name of a file; opencmg logs lists them")
	}
	client, err := c.client(e)
	if err != nil {
		return err
	}
	if len(names) == 1 {
		return showLog(ctx, e, client, names[0], *tail, *follow)
	}
	list, err := adminservice.List[adminservice.LogFile](ctx, client, "Logs", nil)
	if err != nil {
		return err
	}
	if c.way == outputJSON {
		return printJSON(e.Stdout, list...)
	}
	var rows [][]string
	for _, f := range list {
		rows = append(rows, []string{f.Name, strconv.FormatInt(f.Size, 10), stamp(f.Changed)})
	}
	return printTable(e.Stdout, []string{"name", "bytes", "changed"}, rows)
}

// showLog prints the end of a log file and follows it. A site that is away while
// it is followed is waited for.
func showLog(ctx context.Context, e *Env, client *adminservice.Client, name string, tail int, follow bool) error {
	path := "Logs/" + url.PathEscape(name)
	text, head, err := client.Text(ctx, path+"?tail="+strconv.Itoa(tail))
	if err != nil {
		return err
	}
	away := false
	for {
		if _, err := e.Stdout.Write(text); err != nil {
			return err
		}
		if !follow {
			return nil
		}
		at := head.Get(adminservice.LogPosition)
		for {
			t := time.NewTimer(followEvery)
			select {
			case <-ctx.Done():
				t.Stop()
				return nil // this is how following ends
			case <-t.C:
			}
			var next []byte
			var h map[string][]string
			next, h, err = client.Text(ctx, path+"?after="+url.QueryEscape(at))
			if err == nil {
				text, head = next, h
				break
			}
			if ctx.Err() != nil {
				return nil
			}
			// The file is renamed for a moment when it rotates.
			if !errors.Is(err, opencmg.Unavailable) && !errors.Is(err, opencmg.NotFound) {
				return err
			}
			if !away && errors.Is(err, opencmg.Unavailable) {
				fmt.Fprintf(e.Stderr, "%v; waiting for it\n", err)
				away = true
			}
		}
		away = false
	}
}
