package console

import (
	"time"

	"github.com/opencmg/opencmg/adminservice"
)

// Alerts and status messages.

func recordViews() []view {
	return []view{
		{pattern: "alerts", node: "alerts", title: "Alerts", template: "alerts", load: loadAlerts},
		{pattern: "status-messages", node: "status-messages", title: "Status messages", template: "status-messages", load: loadMessages},
	}
}

func recordActions() []action {
	return []action{{pattern: "alerts/{id}/acknowledge", page: "alerts", do: func(v *Visit) (string, string, error) {
		return backTo(v, "alerts"), "The alert is acknowledged: it stays open until its cause is gone.", v.Do("POST", "Alerts/"+v.ID()+"/acknowledge", nil, nil)
	}}}
}

type alertsPage struct {
	Show, Severity string
	somePage[adminservice.Alert]
}

// Alerts that are open are shown first; all of them are the history.
const showAll = "all"

func loadAlerts(v *Visit) (any, error) {
	p := alertsPage{Show: v.Query("show"), Severity: v.Query("severity")}
	filter := filterOf(v, "severity")
	if p.Show != showAll {
		filter.Set("open", "true")
	}
	var err error
	p.somePage, err = some[adminservice.Alert](v, "alerts", "Alerts", filter, "show", "severity")
	p.Span = p.Span.newest()
	// The tab alone chooses nothing.
	p.Span.Chosen = p.Severity != "" || p.Span.Search != ""
	return p, err
}

type messagesPage struct {
	Severity, Component, Account, Search, From, To string
	somePage[adminservice.StatusMessage]
}

func loadMessages(v *Visit) (any, error) {
	p := messagesPage{Severity: v.Query("severity"), Component: v.Query("component"), Account: v.Query("account"), Search: v.Query("search"), From: v.Query("from"), To: v.Query("to")}
	filter := filterOf(v, "severity", "component", "account")
	for name, s := range map[string]string{"from": p.From, "to": p.To} {
		if s == "" {
			continue
		}
		// What a field of the type datetime-local holds; the page says that it is
		// in UTC.
		t, err := time.Parse("2006-01-02T15:04", s)
		if err != nil {
			v.Problem = invalid("%s: must be a time such as 2026-01-31T09:30, is %q", name, s).About(name)
			return p, nil
		}
		filter.Set(name, t.Format(time.RFC3339))
	}
	var err error
	p.somePage, err = some[adminservice.StatusMessage](v, "status-messages", "StatusMessages", filter, "severity", "component", "account", "from", "to")
	p.Span = p.Span.newest()
	return p, err
}
