package console

import (
	"fmt"
	"time"

	"github.com/opencmg/opencmg/adminservice"
)

// dashboardCharts are the charts of the dashboard.
func dashboardCharts(d *adminservice.Dashboard) []dashboardChart {
	var times []int64
	for _, t := range d.Times {
		times = append(times, t.Unix())
	}
	chart := func(id, title, unit string, stacked bool, empty string) dashboardChart {
		return dashboardChart{ID: id, Empty: empty, Chart: Chart{Title: title, Unit: unit, Times: times, Stacked: stacked, Series: []Series{}}}
	}
	each := " each " + stepName(d.StepSeconds)
	requests := chart("requests", "Requests"+each+", by endpoint", "requests", true, "There were no requests in this time.")
	egress := chart("egress", "Bytes to clients"+each+", by endpoint", "bytes", true, "Nothing was sent to clients in this time.")
	for _, e := range d.Endpoints {
		requests.add(e.Name, counts(e.Requests))
		egress.add(e.Name, counts(e.ResponseBytes))
	}
	refusals := chart("refusals", "Refused requests"+each+", by reason", "requests", true, "No request was refused in this time.")
	for i, c := range d.Refusals {
		if i >= maxChartSeries-1 && len(d.Refusals) > maxChartSeries {
			refusals.more("other reasons", c.Counts)
			continue
		}
		refusals.add(causeOf(c.Name).Words, counts(c.Counts))
	}
	latency := chart("latency", "Latency of answers", "ms", false, "There were no answers in this time.")
	latency.add("50 of 100 (p50)", answered(d.Latency.P50))
	latency.add("95 of 100 (p95)", answered(d.Latency.P95))
	latency.add("99 of 100 (p99)", answered(d.Latency.P99))
	places := chart("online-places", "Online clients, by place", "clients", true, "No client was online in this time.")
	for _, g := range d.Online.Places {
		places.add(g.Name, all(g.Values))
	}
	auths := chart("online-auths", "Online clients, by authentication", "clients", true, "No client was online in this time.")
	for _, g := range d.Online.Auths {
		auths.add(authWords(g.Name), all(g.Values))
	}
	held := chart("held", "Held clients", "clients", false, "No client waited at the gateway in this time.")
	held.add("held", all(d.Held.Values))
	list := []dashboardChart{requests, egress, refusals, latency, places, auths, held}
	for i := range list {
		if list[i].hasValues() {
			list[i].Empty = ""
		}
	}
	return list
}

// maxChartSeries is how many series a reader can tell apart.
const maxChartSeries = 9

func (c *dashboardChart) add(label string, values []*float64) {
	c.Series = append(c.Series, Series{Label: label, Values: values})
}

// more adds to the last series, which collects what has no own.
func (c *dashboardChart) more(label string, n []int64) {
	if last := len(c.Series) - 1; last < 0 || c.Series[last].Label != label {
		c.add(label, counts(n))
		return
	}
	for i, v := range c.Series[len(c.Series)-1].Values {
		*v += float64(n[i])
	}
}

func (c *dashboardChart) hasValues() bool {
	for _, s := range c.Series {
		for _, v := range s.Values {
			if v != nil && *v != 0 {
				return true
			}
		}
	}
	return false
}

func counts(n []int64) []*float64 {
	list := make([]*float64, len(n))
	for i, v := range n {
		f := float64(v)
		list[i] = &f
	}
	return list
}

func all(values []float64) []*float64 {
	list := make([]*float64, len(values))
	for i := range values {
		list[i] = &values[i]
	}
	return list
}

// answered leaves gaps where nothing was answered.
func answered(ms []float64) []*float64 {
	list := all(ms)
	for i, v := range ms {
		if v == 0 {
			list[i] = nil
		}
	}
	return list
}

// stepName is the length of an interval in words.
func stepName(seconds int) string {
	for _, u := range []struct {
		size int
		name string
	}{{int(24 * time.Hour / time.Second), "day"}, {3600, "hour"}, {60, "minute"}} {
		switch {
		case seconds == u.size:
			return u.name
		case seconds%u.size == 0:
			return fmt.Sprintf("%d %ss", seconds/u.size, u.name)
		}
	}
	return fmt.Sprintf("%d seconds", seconds)
}
