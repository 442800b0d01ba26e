package console

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// The connection analyzer: choose, start, and watch the rows come.

func analyzerViews() []view {
	return []view{{pattern: "analyzer", node: "analyzer", title: "Connection analyzer", template: "analyzer", load: loadAnalyzer}}
}

func analyzerActions() []action {
	return []action{{pattern: "analyzer", page: "analyzer", do: func(v *Visit) (string, string, error) {
		in := adminservice.NewAnalysis{SignIn: v.Form("signIn")}
		switch in.SignIn {
		case adminservice.AnalyzeCertificate:
			var err error
			if in.Certificate, err = pemOf(v, "certificate"); err != nil {
				return "", "", err
			}
			if in.Key, err = pemOf(v, "key"); err != nil {
				return "", "", err
			}
		case adminservice.AnalyzeEntraUser:
			in.EntraToken = v.Form("entraToken")
		}
		gateway := v.Form("gateway")
		if gateway == "" {
			return "", "", invalid("gateway: choose the one to analyze").About("gateway")
		}
		var begun adminservice.Analysis
		if err := v.Do("POST", "Gateways/"+gateway+"/analyze", in, &begun); err != nil {
			return "", "", err
		}
		return "analyzer?gateway=" + begun.GatewayID + "&run=" + begun.ID, "", nil
	}}, {pattern: "analyzer/schedule", page: "analyzer", do: scheduleAnalyses}}
}

// scheduleAnalyses sets how often the site analyzes a gateway, or turns it off.
func scheduleAnalyses(v *Visit) (next, said string, err error) {
	minutes, said := 0, "The site analyzes the gateway only when somebody asks."
	if v.Form("off") == "" {
		if minutes, err = strconv.Atoi(v.Form("minutes")); err != nil || minutes == 0 {
			return "", "", invalid("minutes: must be a number from 5 to 10080").About("minutes")
		}
		said = fmt.Sprintf("The site analyzes the gateway every %d minutes.", minutes)
	}
	gateway := v.Form("gateway")
	return "analyzer?gateway=" + url.QueryEscape(gateway), said, v.Do("PUT", "Gateways/"+url.PathEscape(gateway)+"/analysisSchedule", adminservice.AnalysisScheduleChange{Minutes: &minutes}, nil)
}

// pemOf reads a file of the form that must be there.
func pemOf(v *Visit, name string) (string, error) {
	b, err := upload(v, name)
	if err == nil && len(b) == 0 {
		err = invalid("%s: choose the PEM file", name).About(name)
	}
	return string(b), err
}

// analyzerPage is what the page shows.
type analyzerPage struct {
	Gateways []adminservice.Gateway
	Gateway  string // ID of the chosen one
	Name     string // of the chosen one
	Schedule adminservice.AnalysisSchedule
	Run      *analysisShown
	History  []adminservice.Analysis
}

// An analysisShown is an analysis with its rows counted.
type analysisShown struct {
	adminservice.Analysis
	Passed, Warned int
}

// Running reports whether rows are still to come.
func (a *analysisShown) Running() bool { return a.State == adminservice.AnalysisRunning }

// Text is the analysis for a ticket or a mail.
func (a *analysisShown) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Connection analyzer: gateway %s, signed in by %s, started %s, %s\n", a.Gateway, a.SignIn, a.Started.UTC().Format(time.RFC3339), a.State)
	for _, r := range a.Rows {
		fmt.Fprintf(&b, "%-5s %s", strings.ToUpper(string(r.State)), r.Name)
		if r.Instance != nil {
			fmt.Fprintf(&b, " (instance %d)", *r.Instance)
		}
		b.WriteByte('\n')
		for _, s := range []struct{ name, text string }{{"", r.Evidence}, {"next step: ", r.NextStep}, {"correlation ID: ", r.CorrelationID}} {
			if s.text != "" {
				fmt.Fprintf(&b, "      %s%s\n", s.name, s.text)
			}
		}
	}
	return b.String()
}

func loadAnalyzer(v *Visit) (any, error) {
	p := analyzerPage{Gateway: v.Query("gateway")}
	var err error
	if p.Gateways, err = list[adminservice.Gateway](v, "Gateways?$orderby=name"); err != nil {
		return nil, err
	}
	if v.Form("gateway") != "" {
		p.Gateway = v.Form("gateway")
	}
	if !slices.ContainsFunc(p.Gateways, func(g adminservice.Gateway) bool { return g.ID == p.Gateway }) {
		p.Gateway = ""
		if len(p.Gateways) > 0 {
			p.Gateway = p.Gateways[0].ID
		}
	}
	if p.Gateway == "" {
		return p, nil
	}
	for _, g := range p.Gateways {
		if g.ID == p.Gateway {
			p.Name = g.Name
		}
	}
	if p.Schedule, err = get[adminservice.AnalysisSchedule](v, "Gateways/"+p.Gateway+"/analysisSchedule"); err != nil {
		return nil, err
	}
	if p.History, err = list[adminservice.Analysis](v, "Gateways/"+p.Gateway+"/analyses"); err != nil {
		return nil, err
	}
	run := v.Query("run")
	for i, a := range p.History {
		if a.ID == run || run == "" && i == 0 {
			p.Run = shown(a)
		}
	}
	if p.Run == nil && run != "" {
		a, err := get[adminservice.Analysis](v, "Analyses/"+run)
		if err != nil {
			return nil, err
		}
		p.Run = shown(a)
	}
	return p, nil
}

func shown(a adminservice.Analysis) *analysisShown {
	s := &analysisShown{Analysis: a}
	for _, r := range a.Rows {
		switch {
		case r.ID == "summary":
		case r.State == opencmg.CheckPass:
			s.Passed++
		case r.State == opencmg.CheckWarn:
			s.Warned++
		}
	}
	return s
}
