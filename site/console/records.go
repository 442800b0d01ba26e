package console

import (
	"net/url"
	"strconv"
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
		return "alerts", "The alert is acknowledged: it stays open until its cause is gone.", v.Do("POST", "Alerts/"+v.ID()+"/acknowledge", nil, nil)
	}}}
}

// rowsPerPage is how many rows a page of a list has.
const rowsPerPage = 50

// A pager leads through a list. Templates show it as "pager".
type pager struct {
	Path        string // below the console's path
	First, Last int    // rows shown, from 1
	Total       int
	query       url.Values
	skip        int
}

// Earlier and Later are the addresses of the pages before and after; empty when
// there is none.
func (p pager) Earlier() string { return p.at(p.skip-rowsPerPage, p.skip > 0) }

// Later is the address of the next page.
func (p pager) Later() string { return p.at(p.skip+rowsPerPage, p.Last < p.Total) }

func (p pager) at(skip int, there bool) string {
	if !there {
		return ""
	}
	q := url.Values{}
	for name, values := range p.query {
		q[name] = values
	}
	q.Set("skip", strconv.Itoa(max(0, skip)))
	return Path + p.Path + "?" + q.Encode()
}

// paged asks for the page of a collection that the query parameter skip names.
// filter is the collection's own query; keep are the parameters of the page that
// its links repeat.
func paged[T any](v *Visit, collection, path string, filter url.Values, keep ...string) ([]T, pager, error) {
	p := pager{Path: path, query: url.Values{}}
	for _, name := range keep {
		if s := v.Query(name); s != "" {
			p.query.Set(name, s)
		}
	}
	if n, err := strconv.Atoi(v.Query("skip")); err == nil && n > 0 {
		p.skip = n
	}
	filter.Set("$top", strconv.Itoa(rowsPerPage))
	filter.Set("$skip", strconv.Itoa(p.skip))
	filter.Set("$count", "true")
	got, err := get[adminservice.Page[T]](v, collection+"?"+filter.Encode())
	if err != nil {
		return nil, p, err
	}
	if got.Count != nil {
		p.Total = *got.Count
	}
	if len(got.Value) > 0 {
		p.First, p.Last = p.skip+1, p.skip+len(got.Value)
	}
	return got.Value, p, nil
}

// filterOf makes a query of those parameters of the page that are not empty.
func filterOf(v *Visit, names ...string) url.Values {
	q := url.Values{}
	for _, name := range names {
		if s := v.Query(name); s != "" {
			q.Set(name, s)
		}
	}
	return q
}

type alertsPage struct {
	Show, Severity string
	Alerts         []adminservice.Alert
	Pager          pager
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
	p.Alerts, p.Pager, err = paged[adminservice.Alert](v, "Alerts", "alerts", filter, "show", "severity")
	return p, err
}

type messagesPage struct {
	Severity, Component, Account, Search, From, To string
	Messages                                       []adminservice.StatusMessage
	Pager                                          pager
}

func loadMessages(v *Visit) (any, error) {
	p := messagesPage{Severity: v.Query("severity"), Component: v.Query("component"), Account: v.Query("account"), Search: v.Query("search"), From: v.Query("from"), To: v.Query("to")}
	filter := filterOf(v, "severity", "component", "account", "search")
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
	p.Messages, p.Pager, err = paged[adminservice.StatusMessage](v, "StatusMessages", "status-messages", filter, "severity", "component", "account", "search", "from", "to")
	return p, err
}
