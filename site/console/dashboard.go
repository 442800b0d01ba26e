package console

import (
	"cmp"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// The Cloud Management dashboard: first what people want to know now, then how
// it came about.

func dashboardViews() []view {
	return []view{{pattern: "dashboard", node: "dashboard", title: "Cloud Management", template: "dashboard", load: loadDashboard}}
}

// dashboardRanges are the spans to choose from, in minutes.
var dashboardRanges = []struct {
	Minutes int
	Name    string
}{
	{15, "15 minutes"}, {60, "1 hour"}, {6 * 60, "6 hours"}, {24 * 60, "1 day"}, {7 * 24 * 60, "7 days"}, {14 * 24 * 60, "14 days"}, {30 * 24 * 60, "30 days"}, {90 * 24 * 60, "90 days"},
}

// dashboardRange is the span of a dashboard that was opened without one.
const dashboardRange = "60"

// dashboardPage is what the dashboard shows.
type dashboardPage struct {
	Minutes  string // as in the query
	Gateway  string // ID of the only one that is shown; empty: all
	Ranges   []dashboardChoice
	Gateways []adminservice.Gateway // to choose from
	Tiles    []tile
	Charts   []dashboardChart
	Refusals []dashboardRefusal
	Usage    []usage
	Egress   []dashboardChart // of the gateways that are closest to their thresholds
	Totals   []adminservice.DashboardEndpoint
	Latency  []latencyRow
	Expiry   []adminservice.Expiry
}

type dashboardChoice struct {
	Name, Href string
	Here       bool
}

// A tile is one figure.
type tile struct {
	Label, Value string
	Notes        []string
	Href         string // below Path, or a part of this page; empty: nowhere
	Tone         string // warn, bad, or nothing
}

// A dashboardChart is a chart, or the sentence that says why there is none.
type dashboardChart struct {
	ID string
	Chart
	Empty string
	Note  string // below it
}

type dashboardRefusal struct {
	cause
	Code  string
	Total int64
}

// A latencyRow says how long the answers of an endpoint took.
type latencyRow struct {
	adminservice.DashboardEndpointLatency
	X50, X90, X99 int // in a picture 1000 wide
}

// Wide is how wide the box from p50 to p90 is; it can always be seen.
func (l latencyRow) Wide() int { return max(l.X90-l.X50, 6) }

// Tail is how wide the line from p50 to p99 is.
func (l latencyRow) Tail() int { return max(l.X99-l.X50, 0) }

// latencyX is the place of a latency in a picture 1000 wide: from 1 ms to 100 s,
// each ten times the one before 200 apart.
func latencyX(ms float64) int { return int(200 * math.Log10(max(1, min(ms, 1e5)))) }

// A usage compares what a gateway sent or stores with its threshold, as a bar
// and in words.
type usage struct {
	What, Gateway, Words, Tone string
	Bar                        *bar // nil without a threshold
}

// A bar is drawn 1000 wide.
type bar struct {
	Used, Warning, Critical, Forecast int // Forecast is 0 for none
	Label                             string
}

func loadDashboard(v *Visit) (any, error) {
	p := dashboardPage{Minutes: cmp.Or(v.Query("minutes"), dashboardRange), Gateway: v.Query("gateway")}
	query := url.Values{"minutes": {p.Minutes}}
	if p.Gateway != "" {
		query.Set("gateway", p.Gateway)
	}
	d, err := get[adminservice.Dashboard](v, "Dashboard?"+query.Encode())
	if err != nil {
		return nil, err
	}
	p.Gateway = d.Gateway // the ID, where the query has a name
	if p.Gateways, err = list[adminservice.Gateway](v, "Gateways"); err != nil {
		return nil, err
	}
	for _, r := range dashboardRanges {
		minutes := strconv.Itoa(r.Minutes)
		href := url.Values{"minutes": {minutes}}
		if p.Gateway != "" {
			href.Set("gateway", p.Gateway)
		}
		p.Ranges = append(p.Ranges, dashboardChoice{r.Name, "dashboard?" + href.Encode(), minutes == p.Minutes})
	}
	for _, r := range d.Refusals {
		p.Refusals = append(p.Refusals, dashboardRefusal{causeOf(r.Name), r.Name, r.Total})
	}
	for i := range d.Egress {
		p.Usage = append(p.Usage, egressUsage(&d.Egress[i], d.To))
	}
	p.Egress = egressCharts(&d)
	for i := range d.Storage {
		p.Usage = append(p.Usage, storageUsage(&d.Storage[i]))
	}
	for _, e := range d.Latency.Endpoints {
		p.Latency = append(p.Latency, latencyRow{e, latencyX(e.P50), latencyX(e.P90), latencyX(e.P99)})
	}
	p.Totals, p.Expiry = d.Endpoints, d.Expiry
	p.Tiles, p.Charts = dashboardTiles(&d), dashboardCharts(&d)
	return p, nil
}

// dashboardTiles are the figures of now.
func dashboardTiles(d *adminservice.Dashboard) []tile {
	var requests, failed, refused int64
	for _, e := range d.Endpoints {
		requests += e.Total.Requests
		failed += e.Total.Failed
	}
	for _, c := range d.Refusals {
		refused += c.Total
	}
	span := "in this time"
	rate := tile{Label: "Requests per second", Value: "0", Notes: []string{counted(requests, "request") + " " + span}, Href: "#requests"}
	if d.Recent.Seconds > 0 {
		rate.Value = showRate(float64(d.Recent.Requests) / float64(d.Recent.Seconds))
	}
	failure := tile{Label: "Failed requests", Value: showNumber(failed), Notes: []string{span}, Href: "#totals"}
	if d.Recent.Failed > 0 {
		failure.Tone = "warn"
		failure.Notes = append(failure.Notes, showNumber(d.Recent.Failed)+" of them just now")
	}
	refusal := tile{Label: "Refused requests", Value: showNumber(refused), Notes: []string{span}, Href: "#refusals"}
	if d.Recent.Refused > 0 {
		refusal.Tone = "warn"
		refusal.Notes = append(refusal.Notes, showNumber(d.Recent.Refused)+" of them just now")
	}
	online := tile{Label: "Online clients", Value: showNumber(d.Online.Now), Href: "#online-places"}
	if d.Gateway != "" {
		online.Label = "Online clients of the site"
	}
	for _, g := range d.Online.Places {
		online.Notes = append(online.Notes, showNumber(g.Now)+" on the "+g.Name)
	}
	auths := tile{Label: "Online, by authentication", Value: "–", Notes: []string{"no client is online"}, Href: "#online-auths"}
	if d.Online.Now > 0 {
		auths.Notes = nil
		list := slices.Clone(d.Online.Auths)
		slices.SortStableFunc(list, func(a, b adminservice.DashboardGauge) int { return cmp.Compare(b.Now, a.Now) })
		for i, g := range list {
			text := showNumber(g.Now) + " " + authWords(g.Name)
			if i == 0 {
				auths.Value = text
			} else if g.Now > 0 {
				auths.Notes = append(auths.Notes, text)
			}
		}
	}
	latency := tile{Label: "Latency, 95 of 100 answers", Value: "–", Notes: []string{"no answers in the last five minutes"}, Href: "#latency"}
	if l := d.Latency.Now; l.Answers > 0 {
		latency.Value = showMS(l.P95)
		latency.Notes = []string{"p50 " + showMS(l.P50) + ", p99 " + showMS(l.P99), counted(l.Answers, "answer") + " in five minutes"}
	}
	alerts := tile{Label: "Open alerts", Value: strconv.Itoa(d.Alerts.Critical + d.Alerts.Warning), Notes: []string{"none"}, Href: "alerts"}
	switch {
	case d.Alerts.Critical > 0:
		alerts.Tone, alerts.Notes = "bad", []string{fmt.Sprintf("%d critical, %d warning", d.Alerts.Critical, d.Alerts.Warning)}
	case d.Alerts.Warning > 0:
		alerts.Tone, alerts.Notes = "warn", []string{"all are warnings"}
	}
	return []tile{
		rate, latency, refusal, failure, online, auths,
		{Label: "Held clients", Value: showNumber(d.Held.Now), Notes: []string{"wait for notification at the gateway"}, Href: "#held"},
		upTile("Instances", d.Instances, "gateways"), upTile("Connection points", d.ConnectionPoints, "connection-points"),
		alerts, egressTile(d), storageTile(d),
	}
}

func upTile(label string, up adminservice.DashboardUp, href string) tile {
	t := tile{Label: label, Value: fmt.Sprintf("%d of %d", up.Up, up.Total), Notes: []string{"work"}, Href: href}
	switch {
	case up.Total == 0:
		t.Value, t.Notes = "none", []string{"nothing to watch yet"}
	case up.Up == 0:
		t.Tone = "bad"
	case up.Up < up.Total:
		t.Tone = "warn"
	}
	return t
}

// A quantity is what one gateway uses of something that has a threshold.
type quantity struct {
	gb, most  float64 // now, and what it is or will be at most
	threshold int     // GB; 0: none
	usage     usage
}

func egressTile(d *adminservice.Dashboard) tile {
	var all []quantity
	for i := range d.Egress {
		e := &d.Egress[i]
		all = append(all, quantity{e.GB, max(e.GB, e.ForecastGB), e.ThresholdGB, egressUsage(e, d.To)})
	}
	return usageTile("Egress in 14 days", all)
}

func storageTile(d *adminservice.Dashboard) tile {
	var all []quantity
	for i := range d.Storage {
		s := &d.Storage[i]
		all = append(all, quantity{s.GB, s.GB, s.ThresholdGB, storageUsage(s)})
	}
	return usageTile("Storage", all)
}

// usageTile adds up, and says what is worst.
func usageTile(label string, all []quantity) tile {
	t := tile{Label: label, Value: "none", Notes: []string{"nothing to watch yet"}, Href: "#usage"}
	var gb float64
	worst := -1.0
	for _, q := range all {
		gb += q.gb
		part := 0.0
		if q.threshold > 0 {
			part = q.most / float64(q.threshold)
		}
		if part <= worst {
			continue
		}
		worst = part
		t.Tone, t.Notes = q.usage.Tone, []string{q.usage.Words}
		if len(all) > 1 {
			t.Notes = []string{q.usage.Gateway + ": " + q.usage.Words}
		}
	}
	if len(all) > 0 {
		t.Value = showGB(gb)
	}
	return t
}

// egressUsage says in words how egress does and will do against its threshold.
func egressUsage(e *adminservice.DashboardEgress, now time.Time) usage {
	u := usage{What: "Egress in 14 days", Gateway: e.ServiceName}
	warning, critical := "the warning level of "+showGB(e.WarningGB), "the critical level of "+showGB(e.CriticalGB)
	date := func(t time.Time) string { return t.UTC().Format(time.DateOnly) }
	passed := func(t time.Time) bool { return !t.IsZero() && !t.After(now) }
	sentence := func(s string) string { return strings.ToUpper(s[:1]) + s[1:] + "." }
	switch {
	case e.ThresholdGB == 0:
		u.Words = "No threshold is set."
	case passed(e.CriticalAt):
		u.Tone, u.Words = "bad", sentence(critical+" is passed")
	case passed(e.WarningAt) && e.WaitHours > 0:
		u.Tone, u.Words = "warn", sentence(warning+" is passed; "+tooLittleKnown(e))
	case passed(e.WarningAt) && !e.CriticalAt.IsZero():
		u.Tone, u.Words = "warn", sentence(warning+" is passed; at this rate "+critical+" is reached on "+date(e.CriticalAt))
	case passed(e.WarningAt):
		u.Tone, u.Words = "warn", sentence(warning+" is passed; at this rate "+critical+" is not reached")
	case !e.WarningAt.IsZero() && !e.CriticalAt.IsZero():
		u.Tone, u.Words = "warn", sentence("at this rate "+warning+" is reached on "+date(e.WarningAt)+", and "+critical+" on "+date(e.CriticalAt))
	case !e.WarningAt.IsZero():
		u.Tone, u.Words = "warn", sentence("at this rate "+warning+" is reached on "+date(e.WarningAt))
	case e.GB == 0:
		u.Words = "Nothing was sent."
	case e.WaitHours > 0:
		u.Words = sentence(tooLittleKnown(e))
	default:
		u.Words = sentence("at this rate 14 days come to " + showGB(e.ForecastGB) + ", below " + warning)
	}
	if e.ThresholdGB > 0 {
		u.Bar = newBar(e.GB, e.WarningGB, e.CriticalGB, e.ForecastGB, float64(e.ThresholdGB))
		if !e.Enabled {
			u.Tone = ""
			u.Words += " No alerts are wanted."
		}
	}
	return u
}

func storageUsage(s *adminservice.DashboardStorage) usage {
	u := usage{What: "Storage", Gateway: s.ServiceName, Words: "No threshold is set."}
	if s.ThresholdGB == 0 {
		return u
	}
	u.Bar = newBar(s.GB, s.WarningGB, s.CriticalGB, 0, float64(s.ThresholdGB))
	switch {
	case s.GB >= s.CriticalGB:
		u.Tone, u.Words = "bad", "The critical level of "+showGB(s.CriticalGB)+" is passed."
	case s.GB >= s.WarningGB:
		u.Tone, u.Words = "warn", "The warning level of "+showGB(s.WarningGB)+" is passed."
	default:
		u.Words = "Below the warning level of " + showGB(s.WarningGB) + "."
	}
	if !s.Enabled {
		u.Tone = ""
		u.Words += " No alerts are wanted."
	}
	return u
}

func newBar(used, warning, critical, forecast, threshold float64) *bar {
	whole := max(threshold, used, forecast) * 1.02
	at := func(gb float64) int { return int(math.Round(gb / whole * 1000)) }
	b := &bar{Used: at(used), Warning: at(warning), Critical: at(critical), Forecast: at(forecast)}
	b.Label = fmt.Sprintf("%s of %s used; warning at %s, critical at %s", showGB(used), showGB(threshold), showGB(warning), showGB(critical))
	if forecast > 0 {
		b.Label += ", forecast at " + showGB(forecast)
	}
	return b
}

// authWords says how clients authenticate.
func authWords(mode string) string {
	switch opencmg.AuthMode(mode) {
	case opencmg.AuthPKI:
		return "by certificate"
	case opencmg.AuthEntra:
		return "by Entra"
	case opencmg.AuthCCMToken, opencmg.AuthClientToken, opencmg.AuthBulkToken:
		return "by " + strings.ReplaceAll(mode, "-", " ")
	case opencmg.AuthNone:
		return "without authentication"
	}
	return mode
}

func counted(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return showNumber(n) + " " + noun + "s"
}

func showGB(gb float64) string { return showBytes(gb * 1e9) }

func showMS(ms float64) string {
	if ms >= 1000 && ms < 100_000 {
		return fmt.Sprintf("%.1f s", ms/1000)
	}
	return showDuration(time.Duration(ms * float64(time.Millisecond)))
}

// showRate keeps small rates apart from none.
func showRate(f float64) string {
	switch {
	case f == 0:
		return "0"
	case f < 0.01:
		return "< 0.01"
	case f < 1:
		return strconv.FormatFloat(f, 'f', 2, 64)
	case f < 100:
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return showNumber(math.Round(f))
}
