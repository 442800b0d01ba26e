package console

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/opencmg/opencmg/adminservice"
)

// maxEgressCharts bounds the gateways whose egress is drawn; the reader may
// choose any one.
const maxEgressCharts = 6

// egressCharts draw how the egress of 14 days went, against its threshold, and
// how it will go on: of the gateways that are closest to their thresholds.
func egressCharts(d *adminservice.Dashboard) (list []dashboardChart) {
	part := func(e *adminservice.DashboardEgress) float64 {
		return max(e.GB, e.ForecastGB) / float64(max(e.ThresholdGB, 1))
	}
	order := make([]*adminservice.DashboardEgress, len(d.Egress))
	for i := range d.Egress {
		order[i] = &d.Egress[i]
	}
	slices.SortStableFunc(order, func(a, b *adminservice.DashboardEgress) int { return cmp.Compare(part(b), part(a)) })
	for _, e := range order[:min(len(order), maxEgressCharts)] {
		list = append(list, egressChart(d, e))
	}
	return list
}

func egressChart(d *adminservice.Dashboard, e *adminservice.DashboardEgress) dashboardChart {
	c := dashboardChart{ID: "egress-" + e.GatewayID, Chart: Chart{Title: "Egress of 14 days against its threshold: " + e.ServiceName, Unit: "bytes"}}
	var went, goesOn []*float64
	add := func(at time.Time, list *[]*float64, gb float64) {
		bytes := gb * 1e9
		c.Times = append(c.Times, at.Unix())
		went, goesOn = append(went, nil), append(goesOn, nil)
		(*list)[len(*list)-1] = &bytes
	}
	for i, gb := range e.Course {
		// A sum is of the end of its interval.
		at := d.To
		if i+1 < len(d.Times) {
			at = d.Times[i+1]
		}
		if len(c.Times) == 0 || at.Unix() > c.Times[len(c.Times)-1] {
			add(at, &went, gb)
		}
	}
	if len(went) == 0 {
		c.Empty = "Nothing is known of it yet."
		return c
	}
	if n := len(e.Forecast); n > 0 {
		goesOn[len(goesOn)-1] = went[len(went)-1]
		// As much of it as of the past, or a short past could not be seen.
		ends := d.To.Add(d.To.Sub(d.From))
		if whole := e.Forecast[n-1].At; whole.Sub(ends) < d.To.Sub(d.From)/20 {
			ends = whole
		}
		before := adminservice.DashboardForecast{At: d.To, GB: e.GB}
		for _, f := range e.Forecast {
			if f.At.After(ends) {
				if part := float64(ends.Sub(before.At)) / float64(f.At.Sub(before.At)); part > 0 {
					add(ends, &goesOn, before.GB+part*(f.GB-before.GB))
				}
				c.Note = "The forecast goes on beyond this chart: choose 14 days to see all of it. "
				break
			}
			add(f.At, &goesOn, f.GB)
			before = f
		}
	}
	c.Series = []Series{{Label: "the 14 days before", Values: went}}
	if len(e.Forecast) > 0 {
		c.Series = append(c.Series, Series{Label: "forecast by the last " + hours(e.RateHours), Values: goesOn, Dashed: true})
	}
	if e.ThresholdGB > 0 {
		c.Marks = []Mark{{"threshold", float64(e.ThresholdGB) * 1e9, "text"}, {"critical", e.CriticalGB * 1e9, "bad"}, {"warning", e.WarningGB * 1e9, "warn"}}
	}
	c.Note += egressUsage(e, d.To).Words
	return c
}

// tooLittleKnown says what a forecast waits for.
func tooLittleKnown(e *adminservice.DashboardEgress) string {
	return fmt.Sprintf("too little is known yet for a forecast: it needs %s more of traffic", counted(int64(e.WaitHours), "hour"))
}

// hours are some of them in words: days where they are whole.
func hours(n int) string {
	if n%24 == 0 && n > 24 {
		return fmt.Sprintf("%d days", n/24)
	}
	return fmt.Sprintf("%d hours", n)
}
