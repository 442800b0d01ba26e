package site

import (
	"maps"
	"slices"
	"strings"

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
