package site

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/sitedb"
)

// What gateways sent against their thresholds (cmg-behaviour A1, A2): how the
// sum of 14 days went, and how it will go on.

// windowHours are the hours that 14 days touch: the first and the last are not
// whole.
const windowHours = int(trafficWindow/time.Hour) + 1

// forecastStep is how far apart the points of a forecast are, in hours.
const forecastStep = 4

// level is a part of a threshold, in GB.
func level(t *adminservice.Threshold, pct int) float64 { return float64(t.GB) * float64(pct) / 100 }

// A sending is what one gateway sent to clients.
type sending struct {
	hours   [windowHours]float64 // GB of the 14 days until now, the oldest first
	began   time.Time            // of the first of them with anything
	added   []float64            // GB, in each interval of the dashboard
	dropped []sitedb.TrafficPoint
	width   time.Duration // of each of dropped
}

// sendings are those of the gateways, by ID; one that sent nothing has none.
func (p *panel) sendings() (map[string]*sending, error) {
	all := map[string]*sending{}
	of := func(id string) *sending {
		if all[id] == nil {
			all[id] = &sending{added: make([]float64, len(p.out.Times))}
		}
		return all[id]
	}
	from := p.now.Add(-trafficWindow)
	points, err := p.s.db.TrafficSeries(p.ctx, sitedb.CountQuery{Gateway: p.out.Gateway, From: from, To: p.now.Add(time.Second), Step: time.Hour, By: sitedb.ByGateway})
	if err != nil {
		return nil, err
	}
	for _, t := range points {
		one := of(t.Group)
		i := max(0, min(windowHours-1, int(t.Start.Sub(from.Truncate(time.Hour))/time.Hour)))
		one.hours[i] += float64(t.ResponseBytes) / gigabyte
		if one.began.IsZero() && t.ResponseBytes > 0 {
			one.began = t.Start
		}
	}
	if points, err = p.s.db.TrafficSeries(p.ctx, p.query(sitedb.ByGateway)); err != nil {
		return nil, err
	}
	for _, t := range points {
		if i := p.at(t.Start); i >= 0 {
			of(t.Group).added[i] += float64(t.ResponseBytes) / gigabyte
		}
	}
	// What drops out of the 14 days while the intervals go by is that old, and
	// kept by the hour or by the day.
	width := time.Hour
	if p.now.Sub(p.from) > 24*time.Hour {
		width = 24 * time.Hour
	}
	if points, err = p.s.db.TrafficSeries(p.ctx, sitedb.CountQuery{Gateway: p.out.Gateway, From: p.from.Add(-trafficWindow), To: from, Step: width, By: sitedb.ByGateway}); err != nil {
		return nil, err
	}
	for _, t := range points {
		one := of(t.Group)
		one.dropped, one.width = append(one.dropped, t), width
	}
	return all, nil
}

// sums14 are what the 14 days before the end of each interval came to, in GB,
// reckoned backwards from what they come to now.
func (p *panel) sums14(one *sending, now float64) []float64 {
	values := slices.Repeat([]float64{now}, len(p.out.Times))
	end := p.now
	// What they come to now has the whole of the first hour.
	counted := p.now.Add(-trafficWindow).Truncate(time.Hour)
	for i := len(values) - 2; i >= 0; i-- {
		before := p.out.Times[i+1] // where interval i ends
		gb := values[i+1] - one.added[i+1]
		for _, t := range one.dropped {
			// What was sent in an hour or a day is taken as spread over it.
			first, last := before.Add(-trafficWindow), earlier(end.Add(-trafficWindow), counted)
			if over := earlier(t.Start.Add(one.width), last).Sub(later(t.Start, first)); over > 0 {
				gb += float64(t.ResponseBytes) / gigabyte * float64(over) / float64(one.width)
			}
		}
		values[i], end = max(gb, 0), before
	}
	for i := range values {
		values[i] = toKilobyte(values[i])
	}
	return values
}

// toKilobyte rounds GB.
func toKilobyte(gb float64) float64 { return math.Round(gb*1e6) / 1e6 }

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// forecast fills in how a sum goes on for a gateway that is there since a time:
// hour by hour something is added, and what was sent 14 days before drops out.
func (p *panel) forecast(e *adminservice.DashboardEgress, one *sending, since time.Time) {
	e.Forecast = []adminservice.DashboardForecast{}
	if !one.began.IsZero() {
		since = earlier(since, one.began)
	}
	age := p.now.Sub(since).Hours()
	e.WaitHours = int(math.Ceil(max(adminservice.MinRateHours-age, 0)))
	reach := func(gb float64, at time.Time) {
		for first, limit := range map[*time.Time]float64{&e.WarningAt: e.WarningGB, &e.CriticalAt: e.CriticalGB} {
			if limit > 0 && gb >= limit && first.IsZero() {
				*first = at
			}
		}
	}
	reach(e.GB, p.now)
	age = min(age, float64(windowHours/2))
	e.RateHours = max(int(age), 0)
	if e.WaitHours > 0 {
		return
	}
	var rate float64 // GB an hour
	for _, gb := range one.hours[max(0, windowHours-1-int(math.Ceil(age))):] {
		rate += gb / age
	}
	e.ForecastGB = toKilobyte(rate * trafficWindow.Hours())
	gb := e.GB
	for i, gone := range one.hours {
		gb = max(gb+rate-gone, 0)
		at := p.now.Add(time.Duration(i+1) * time.Hour)
		reach(gb, at)
		over := e.ThresholdGB > 0 && gb >= float64(e.ThresholdGB)
		if over || (i+1)%forecastStep == 0 || i == len(one.hours)-1 {
			e.Forecast = append(e.Forecast, adminservice.DashboardForecast{At: at, GB: toKilobyte(gb)})
		}
		if over {
			return
		}
	}
}

// thresholds compares what gateways send and store with what was set for it.
func (p *panel) thresholds() error {
	p.out.Egress, p.out.Storage = []adminservice.DashboardEgress{}, []adminservice.DashboardStorage{}
	all, err := p.sendings()
	if err != nil {
		return err
	}
	for _, rec := range p.gateways {
		g := p.s.gateway(rec)
		if err := p.s.usage(p.ctx, &g); err != nil {
			return err
		}
		traffic, storage := cmp.Or(rec.Value.Settings.Traffic, &adminservice.Threshold{}), cmp.Or(rec.Value.Settings.Storage, &adminservice.Threshold{})
		e := adminservice.DashboardEgress{
			GatewayID: g.ID, ServiceName: g.ServiceName, GB: g.EgressGB14Days, ThresholdGB: traffic.GB, Enabled: traffic.Enabled,
			WarningGB: level(traffic, traffic.WarningPct), CriticalGB: level(traffic, traffic.CriticalPct),
		}
		one := cmp.Or(all[g.ID], &sending{added: make([]float64, len(p.out.Times))})
		e.Course = p.sums14(one, e.GB)
		p.forecast(&e, one, rec.Created)
		p.out.Egress = append(p.out.Egress, e)
		p.out.Storage = append(p.out.Storage, adminservice.DashboardStorage{
			GatewayID: g.ID, ServiceName: g.ServiceName, GB: g.StorageGB, ThresholdGB: storage.GB, Enabled: storage.Enabled,
			WarningGB: level(storage, storage.WarningPct), CriticalGB: level(storage, storage.CriticalPct),
		})
	}
	return nil
}
