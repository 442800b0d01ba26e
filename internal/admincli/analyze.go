package admincli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// Analyze runs the connection analyzer of the site. It fails when a row did.
func Analyze(ctx context.Context, e *Env, args []string) error {
	var c asking
	var certFile, keyFile, tokenFile, every string
	var in adminservice.NewAnalysis
	fs := e.newFlags("analyze GATEWAY [flags]", "Look at everything between a client and the roles behind a gateway: its state,\nname, certificate, configuration, sign-in, tunnels and roles, for each instance.\nThe exit code is 0 when all is good and 1 when a check failed.")
	c.register(fs, outputTable, outputJSON)
	fs.StringVar(&in.SignIn, "sign-in", adminservice.AnalyzeToken, "how to sign in to the gateway: `token` of the site's own, client-certificate or entra-user")
	fs.StringVar(&certFile, "client-cert-file", "", "`file` with the client certificate and its chain, for --sign-in client-certificate")
	fs.StringVar(&keyFile, "client-key-file", "", "`file` with its key")
	fs.StringVar(&tokenFile, "entra-token-file", "", "`file` with a user's access token for the site's server application, for --sign-in entra-user")
	fs.StringVar(&every, "every", "", "analyze nothing now, but let the site do it every so many `minutes`, 5 to 10080, or off")
	rest, err := c.parse(e, fs, args, 1, 1)
	if err != nil {
		return err
	}
	if every != "" {
		return scheduleAnalyses(ctx, e, &c, rest[0], every)
	}
	switch in.SignIn {
	case adminservice.AnalyzeToken:
	case adminservice.AnalyzeCertificate:
		if certFile == "" || keyFile == "" {
			return usagef("analyze: --sign-in %s needs --client-cert-file and --client-key-file", in.SignIn)
		}
	case adminservice.AnalyzeEntraUser:
		if tokenFile == "" {
			return usagef("analyze: --sign-in %s needs --entra-token-file", in.SignIn)
		}
	default:
		return usagef("analyze: --sign-in %s: must be %s, %s or %s", in.SignIn, adminservice.AnalyzeToken, adminservice.AnalyzeCertificate, adminservice.AnalyzeEntraUser)
	}
	for _, f := range []struct {
		to         *string
		flag, path string
	}{{&in.Certificate, "client-cert-file", certFile}, {&in.Key, "client-key-file", keyFile}, {&in.EntraToken, "entra-token-file", tokenFile}} {
		if f.path == "" {
			continue
		}
		b, err := os.ReadFile(f.path)
		if err != nil {
			return fmt.Errorf("--%s: %w", f.flag, err)
		}
		*f.to = strings.TrimSpace(string(b))
	}
	client, err := c.client(e)
	if err != nil {
		return err
	}
	var a adminservice.Analysis
	if err := client.Do(ctx, http.MethodPost, "Gateways/"+url.PathEscape(rest[0])+"/analyze", in, &a); err != nil {
		return err
	}
	shown := 0
	for {
		if a, err = adminservice.Get[adminservice.Analysis](ctx, client, fmt.Sprintf("Analyses/%s?wait=20&after=%d", url.PathEscape(a.ID), shown)); err != nil {
			return err
		}
		for _, r := range a.Rows[min(shown, len(a.Rows)):] {
			fmt.Fprintf(e.Stderr, "%-4s  %s\n", r.State, rowName(a.Gateway, r))
		}
		shown = len(a.Rows)
		if a.State != adminservice.AnalysisRunning {
			break
		}
	}
	if c.way == outputJSON {
		err = printJSON(e.Stdout, a)
	} else {
		err = printAnalysis(e.Stdout, a)
	}
	if err == nil && a.Failed > 0 {
		return ErrReported
	}
	return err
}

// scheduleAnalyses sets how often the site analyzes a gateway by itself.
func scheduleAnalyses(ctx context.Context, e *Env, c *asking, gateway, every string) error {
	minutes, err := strconv.Atoi(every)
	if every == "off" {
		minutes, err = 0, nil
	} else if err != nil || minutes == 0 {
		return usagef("analyze: --every %s: must be a number of minutes, or off", every)
	}
	client, err := c.client(e)
	if err != nil {
		return err
	}
	var s adminservice.AnalysisSchedule
	if err := client.Do(ctx, http.MethodPut, "Gateways/"+url.PathEscape(gateway)+"/analysisSchedule", adminservice.AnalysisScheduleChange{Minutes: &minutes}, &s); err != nil {
		return err
	}
	if c.way == outputJSON {
		return printJSON(e.Stdout, s)
	}
	when := "next " + s.Next.Format(time.RFC3339)
	switch {
	case s.Minutes == 0:
		_, err = fmt.Fprintln(e.Stdout, "off")
		return err
	case s.Waiting != "":
		when = "waiting: " + s.Waiting
	case s.Next.IsZero():
		when = "next when the gateway is ready"
	}
	_, err = fmt.Fprintf(e.Stdout, "every %d minutes, %s\n", s.Minutes, when)
	return err
}

func rowName(gateway string, r adminservice.AnalysisRow) string {
	if r.Instance == nil {
		return r.Name
	}
	return r.Name + " (" + gateway + "/" + strconv.Itoa(*r.Instance) + ")"
}

// printAnalysis prints a table, and below it what is known about each row that is
// not good.
func printAnalysis(w io.Writer, a adminservice.Analysis) error {
	var rows [][]string
	for _, r := range a.Rows {
		answer := ""
		if r.HTTPStatus != 0 {
			answer = strconv.Itoa(r.HTTPStatus) + " " + r.Reason
		}
		instance := ""
		if r.Instance != nil {
			instance = a.Gateway + "/" + strconv.Itoa(*r.Instance)
		}
		rows = append(rows, []string{string(r.State), r.Name, instance, r.RoleName, answer})
	}
	if err := printTable(w, []string{"state", "check", "instance", "role", "answer"}, rows); err != nil {
		return err
	}
	for _, r := range a.Rows {
		if r.State == opencmg.CheckPass {
			continue
		}
		fmt.Fprintf(w, "\n%s  %s\n", r.State, rowName(a.Gateway, r))
		for _, f := range []struct{ name, value string }{{"found", r.Evidence}, {"do next", r.NextStep}, {"request", r.CorrelationID}} {
			if f.value != "" {
				fmt.Fprintf(w, "      %-8s %s\n", f.name, f.value)
			}
		}
	}
	return nil
}
