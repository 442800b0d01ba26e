package site

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/sitedb"
)

// gauges fills in who is online and what is held.
func (p *panel) gauges() error {
	names := make([]string, 0, len(p.gateways))
	for _, g := range p.gateways {
		names = append(names, g.ID)
		for _, st := range p.s.live.fresh(g.Value.Prefix, p.now) {
			p.out.Held.Now += st.Held
		}
	}
	held, err := p.course(sampleHeld, func(id string) []string {
		if slices.Contains(names, id) {
			return []string{""}
		}
		return nil
	})
	if err != nil {
		return err
	}
	p.out.Held.Values = p.until(held[""], p.out.Held.Now)

	o := &p.out.Online
	o.Counts = p.s.live.online(p.now)
	now := map[string]int64{"place/" + opencmg.PlaceInternet: 0, "place/" + opencmg.PlaceIntranet: 0}
	for _, c := range o.Counts {
		o.Now += c.Clients
		now["place/"+c.Place] += c.Clients
		now["auth/"+string(c.Auth)] += c.Clients
	}
	online, err := p.course(sampleOnline, func(subject string) []string {
		place, auth, _ := strings.Cut(subject, "/")
		return []string{"place/" + place, "auth/" + auth}
	})
	if err != nil {
		return err
	}
	all := maps.Clone(now)
	for name := range online {
		all[name] = now[name]
	}
	o.Places, o.Auths = []adminservice.DashboardGauge{}, []adminservice.DashboardGauge{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		kind, value, _ := strings.Cut(name, "/")
		to := &o.Auths
		if kind == "place" {
			to = &o.Places
		}
		*to = append(*to, adminservice.DashboardGauge{Name: value, Now: now[name], Values: p.until(online[name], now[name])})
	}
	return nil
}

// until has the course of a gauge end with what it is now.
func (p *panel) until(course []float64, now int64) []float64 {
	if course == nil {
		course = make([]float64, len(p.out.Times))
	}
	course[len(course)-1] = float64(now)
	return course
}

// level is a part of a threshold, in GB.
func level(t *adminservice.Threshold, pct int) float64 { return float64(t.GB) * float64(pct) / 100 }

// thresholds compares what gateways send and store with what was set for it.
func (p *panel) thresholds() error {
	p.out.Egress, p.out.Storage = []adminservice.DashboardEgress{}, []adminservice.DashboardStorage{}
	const hours = int(trafficWindow / time.Hour)
	from := p.now.Add(-trafficWindow)
	points, err := p.s.db.TrafficSeries(p.ctx, sitedb.CountQuery{Gateway: p.out.Gateway, From: from, To: p.now.Add(time.Second), Step: time.Hour, By: sitedb.ByGateway})
	if err != nil {
		return err
	}
	sent := map[string]*[hours + 1]float64{} // GB by age in hours, the oldest first
	for _, t := range points {
		if sent[t.Group] == nil {
			sent[t.Group] = new([hours + 1]float64)
		}
		i := max(0, min(hours, int(t.Start.Sub(from.Truncate(time.Hour))/time.Hour)))
		sent[t.Group][i] += float64(t.ResponseBytes) / gigabyte
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
		var window []float64
		if w := sent[g.ID]; w != nil {
			window = w[:]
		}
		var rate float64
		for _, gb := range window[len(window)/2:] {
			rate += gb / float64(hours/2)
		}
		e.ForecastGB = math.Round(rate*float64(hours)*1000) / 1000
		e.WarningAt, e.CriticalAt = p.reaches(window, e.GB, rate, e.WarningGB), p.reaches(window, e.GB, rate, e.CriticalGB)
		p.out.Egress = append(p.out.Egress, e)
		p.out.Storage = append(p.out.Storage, adminservice.DashboardStorage{
			GatewayID: g.ID, ServiceName: g.ServiceName, GB: g.StorageGB, ThresholdGB: storage.GB, Enabled: storage.Enabled,
			WarningGB: level(storage, storage.WarningPct), CriticalGB: level(storage, storage.CriticalPct),
		})
	}
	return nil
}

// reaches forecasts when the sum of 14 days reaches a level, at a rate in GB an
// hour: hour by hour something is added, and what was sent 14 days before drops
// out. After 14 days nothing changes any more.
func (p *panel) reaches(window []float64, sum, rate, limit float64) time.Time {
	if limit <= 0 {
		return time.Time{}
	}
	if sum >= limit {
		return p.now
	}
	for i, gone := range window {
		if sum += rate - gone; sum >= limit {
			return p.now.Add(time.Duration(i+1) * time.Hour)
		}
	}
	return time.Time{}
}

func (p *panel) expiry() error {
	list, err := p.s.expiries(p.ctx)
	p.out.Expiry = append([]adminservice.Expiry{}, list[:min(len(list), dashboardExpiry)]...)
	return err
}

func (p *panel) alerts() (err error) {
	count := func(severity sitedb.Severity) (total int) {
		if err == nil {
			_, total, err = p.s.db.Alerts(p.ctx, sitedb.AlertFilter{Open: true, Severities: []sitedb.Severity{severity}}, 0, 0)
		}
		return total
	}
	p.out.Alerts = adminservice.DashboardAlerts{Warning: count(sitedb.SeverityWarning), Critical: count(sitedb.SeverityCritical)}
	return err
}

// up counts the connection points and instances that work.
func (p *panel) up() error {
	points, err := readAll[pointRecord](p.ctx, p.s.db, kindPoint)
	if err != nil {
		return err
	}
	for _, rec := range points {
		if p.out.Gateway != "" && rec.Value.GatewayID != p.out.Gateway {
			continue
		}
		p.out.ConnectionPoints.Total++
		if p.s.point(rec).Connected {
			p.out.ConnectionPoints.Up++
		}
	}
	for _, rec := range p.gateways {
		for _, m := range p.s.gateway(rec).Machines {
			p.out.Instances.Total++
			if m.Connected {
				p.out.Instances.Up++
			}
		}
	}
	return nil
}
