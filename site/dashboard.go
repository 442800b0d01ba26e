package site

import (
	"cmp"
	"context"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/sitedb"
)

// The dashboard is one document (adminservice/dashboard.go), made of counts
// that the database keeps, gauges of every minute, and what is reported now.

// dashboardSteps are the lengths of an interval by the longest span that has
// them: about 200 intervals at most, and none shorter than what the database
// keeps of that age. Longer spans have days.
var dashboardSteps = []struct{ span, step time.Duration }{
	{200 * time.Minute, time.Minute}, {6 * time.Hour, 2 * time.Minute}, {16 * time.Hour, 5 * time.Minute}, {32 * time.Hour, 10 * time.Minute},
	{2 * 24 * time.Hour, 15 * time.Minute}, {8 * 24 * time.Hour, time.Hour}, {15 * 24 * time.Hour, 2 * time.Hour},
}

const (
	dashboardMinutes = 24 * 60 // unless asked for others
	dashboardExpiry  = 10
	latencyNow       = 5 * time.Minute
)

func dashboardStep(span time.Duration) time.Duration {
	for _, s := range dashboardSteps {
		if span <= s.span {
			return s.step
		}
	}
	return 24 * time.Hour
}

// A panel is a dashboard that is being made.
type panel struct {
	s        *Server
	ctx      context.Context
	now      time.Time
	from     time.Time
	step     time.Duration
	gateways []*record[gatewayRecord] // that it is about
	out      adminservice.Dashboard
}

func (s *Server) getDashboard(w http.ResponseWriter, r *http.Request) error {
	minutes := dashboardMinutes
	if text := r.URL.Query().Get("minutes"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < adminservice.MinDashboardMinutes || n > adminservice.MaxDashboardMinutes {
			return opencmg.Errorf(opencmg.Invalid, "minutes: must be a whole number from %d to %d (90 days), is %.20q", adminservice.MinDashboardMinutes, adminservice.MaxDashboardMinutes, text).About("minutes")
		}
		minutes = n
	}
	p := &panel{s: s, ctx: r.Context(), now: s.cfg.Now().UTC()}
	if key := r.URL.Query().Get("gateway"); key != "" {
		rec, err := s.findGateway(r.Context(), key)
		if err != nil {
			return err
		}
		p.gateways, p.out.Gateway = []*record[gatewayRecord]{rec}, rec.ID
	} else {
		var err error
		if p.gateways, err = readAll[gatewayRecord](r.Context(), s.db, kindGateway); err != nil {
			return err
		}
	}
	span := time.Duration(minutes) * time.Minute
	p.step = dashboardStep(span)
	intervals := int((span + p.step - 1) / p.step)
	// The interval of now is the last one, although it is not over.
	p.from = p.now.Truncate(p.step).Add(-time.Duration(intervals-1) * p.step)
	for i := range intervals {
		p.out.Times = append(p.out.Times, p.from.Add(time.Duration(i)*p.step))
	}
	p.out.From, p.out.To, p.out.StepSeconds = p.from, p.now, int(p.step/time.Second)
	// Each fills in what no other touches, and the database reads side by side.
	var g errgroup.Group
	for _, part := range []func() error{p.traffic, p.recent, p.latency, p.endpointLatencies, p.refusals, p.gauges, p.thresholds, p.expiry, p.alerts, p.up} {
		g.Go(part)
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return answer(w, http.StatusOK, p.out)
}

// query asks for series with the intervals of the dashboard.
func (p *panel) query(by sitedb.CountGroup) sitedb.CountQuery {
	return sitedb.CountQuery{Gateway: p.out.Gateway, From: p.from, To: p.now.Add(time.Second), Step: p.step, By: by}
}

// at is the interval of a time, -1 when it is not in any.
func (p *panel) at(t time.Time) int {
	i := int(t.Sub(p.from) / p.step)
	if t.Before(p.from) || i >= len(p.out.Times) {
		return -1
	}
	return i
}

func (p *panel) zeros() []int64 { return make([]int64, len(p.out.Times)) }

func (p *panel) traffic() error {
	points, err := p.s.db.TrafficSeries(p.ctx, p.query(sitedb.ByEndpoint))
	if err != nil {
		return err
	}
	totals := map[string]int64{}
	for _, t := range points {
		totals[t.Group] += t.Requests
	}
	names := byTotal(totals)
	series := map[string]*adminservice.DashboardEndpoint{}
	p.out.Endpoints = make([]adminservice.DashboardEndpoint, 0, adminservice.MaxDashboardEndpoints+1)
	add := func(name string) *adminservice.DashboardEndpoint {
		p.out.Endpoints = append(p.out.Endpoints, adminservice.DashboardEndpoint{Name: name, Requests: p.zeros(), Failed: p.zeros(), RequestBytes: p.zeros(), ResponseBytes: p.zeros()})
		return &p.out.Endpoints[len(p.out.Endpoints)-1]
	}
	for _, name := range names[:min(len(names), adminservice.MaxDashboardEndpoints)] {
		series[name] = add(name)
	}
	if len(names) > adminservice.MaxDashboardEndpoints {
		others := add(adminservice.OtherEndpoints)
		for _, name := range names[adminservice.MaxDashboardEndpoints:] {
			series[name] = others
		}
	}
	for _, t := range points {
		i := p.at(t.Start)
		if i < 0 {
			continue
		}
		e := series[t.Group]
		e.Requests[i] += t.Requests
		e.Failed[i] += t.Failed
		e.RequestBytes[i] += t.RequestBytes
		e.ResponseBytes[i] += t.ResponseBytes
		e.Total.Requests += t.Requests
		e.Total.Failed += t.Failed
		e.Total.RequestBytes += t.RequestBytes
		e.Total.ResponseBytes += t.ResponseBytes
	}
	return nil
}

// recent counts from the beginning of the minute before this one.
func (p *panel) recent() error {
	q := sitedb.CountQuery{Gateway: p.out.Gateway, From: p.now.Truncate(time.Minute).Add(-time.Minute), To: p.now.Add(time.Second)}
	r := &p.out.Recent
	r.Seconds = int(p.now.Sub(q.From) / time.Second)
	traffic, err := p.s.db.TrafficSeries(p.ctx, q)
	if err != nil {
		return err
	}
	for _, t := range traffic {
		r.Requests += t.Requests
		r.Failed += t.Failed
	}
	refused, err := p.s.db.RefusalSeries(p.ctx, q)
	for _, t := range refused {
		r.Refused += t.Requests
	}
	return err
}

// byTotal lists names, those with the most first.
func byTotal(totals map[string]int64) []string {
	return slices.SortedFunc(maps.Keys(totals), func(a, b string) int { return cmp.Or(cmp.Compare(totals[b], totals[a]), cmp.Compare(a, b)) })
}

// percentiles are in milliseconds.
func percentiles(counts *sitedb.LatencyCounts) (p adminservice.DashboardPercentiles) {
	for _, n := range counts {
		p.Answers += n
	}
	ms := func(part float64) float64 {
		d := opencmg.LatencyPercentile(counts[:], part)
		return math.Round(float64(d)/float64(time.Millisecond)*100) / 100
	}
	p.P50, p.P90, p.P95, p.P99 = ms(0.5), ms(0.9), ms(0.95), ms(0.99)
	return p
}

func (p *panel) latency() error {
	points, err := p.s.db.LatencySeries(p.ctx, p.query(sitedb.ByNothing))
	if err != nil {
		return err
	}
	l := &p.out.Latency
	n := len(p.out.Times)
	l.P50, l.P95, l.P99 = make([]float64, n), make([]float64, n), make([]float64, n)
	for _, t := range points {
		if i := p.at(t.Start); i >= 0 {
			v := percentiles(&t.Counts)
			l.P50[i], l.P95[i], l.P99[i] = v.P50, v.P95, v.P99
		}
	}
	now, err := p.s.db.LatencySeries(p.ctx, sitedb.CountQuery{Gateway: p.out.Gateway, From: p.now.Add(-latencyNow)})
	if err != nil {
		return err
	}
	if len(now) > 0 {
		l.Now = percentiles(&now[0].Counts)
	}
	return nil
}

// endpointLatencies are of the whole span.
func (p *panel) endpointLatencies() error {
	// Wide rows are few. Those that are a twelfth of the time at most have that
	// much of what was before it at most.
	span, width := p.now.Sub(p.from), sitedb.CountBucket
	for _, wider := range []time.Duration{5 * time.Minute, time.Hour, 24 * time.Hour} {
		if 12*wider <= span {
			width = wider
		}
	}
	whole := p.query(sitedb.ByEndpoint)
	whole.Step = 7 * width // which no wider rows make up, or those would be read
	points, err := p.s.db.LatencySeries(p.ctx, whole)
	if err != nil {
		return err
	}
	sums := map[string]*sitedb.LatencyCounts{}
	for i := range points {
		if sums[points[i].Group] == nil {
			sums[points[i].Group] = &sitedb.LatencyCounts{}
		}
		for n, count := range points[i].Counts {
			sums[points[i].Group][n] += count
		}
	}
	l := &p.out.Latency
	l.Endpoints = []adminservice.DashboardEndpointLatency{}
	for name, counts := range sums {
		l.Endpoints = append(l.Endpoints, adminservice.DashboardEndpointLatency{Name: name, DashboardPercentiles: percentiles(counts)})
	}
	by := func(first, second func(*adminservice.DashboardEndpointLatency) float64) {
		slices.SortFunc(l.Endpoints, func(a, b adminservice.DashboardEndpointLatency) int {
			return cmp.Or(cmp.Compare(first(&b), first(&a)), cmp.Compare(second(&b), second(&a)), cmp.Compare(a.Name, b.Name))
		})
	}
	answers := func(e *adminservice.DashboardEndpointLatency) float64 { return float64(e.Answers) }
	slowest := func(e *adminservice.DashboardEndpointLatency) float64 { return e.P99 }
	by(answers, slowest)
	l.Endpoints = l.Endpoints[:min(len(l.Endpoints), adminservice.MaxDashboardLatencies)]
	by(slowest, answers)
	return nil
}

func (p *panel) refusals() error {
	points, err := p.s.db.RefusalSeries(p.ctx, p.query(sitedb.ByCause))
	if err != nil {
		return err
	}
	totals, counts := map[string]int64{}, map[string][]int64{}
	for _, t := range points {
		i := p.at(t.Start)
		if i < 0 {
			continue
		}
		if counts[t.Group] == nil {
			counts[t.Group] = p.zeros()
		}
		counts[t.Group][i] += t.Requests
		totals[t.Group] += t.Requests
	}
	p.out.Refusals = []adminservice.DashboardCounts{}
	for _, cause := range byTotal(totals) {
		p.out.Refusals = append(p.out.Refusals, adminservice.DashboardCounts{Name: cause, Total: totals[cause], Counts: counts[cause]})
	}
	return nil
}

// course adds up the samples of a gauge by name; of tells the names of a
// subject. A gauge that was not looked at in one interval is as before: it is
// looked at about once a minute, and not on the minute. Longer gaps are zeros.
func (p *panel) course(gauge string, of func(subject string) []string) (map[string][]float64, error) {
	points, err := p.s.db.SampleSeries(p.ctx, gauge, p.from, p.now.Add(time.Second), p.step)
	if err != nil {
		return nil, err
	}
	subjects := map[string][]float64{}
	for _, t := range points {
		if i := p.at(t.Start); i >= 0 {
			if subjects[t.Subject] == nil {
				subjects[t.Subject] = slices.Repeat([]float64{math.NaN()}, len(p.out.Times))
			}
			subjects[t.Subject][i] = t.Value
		}
	}
	sums := map[string][]float64{}
	for subject, values := range subjects {
		for _, name := range of(subject) {
			if sums[name] == nil {
				sums[name] = make([]float64, len(values))
			}
			for i, v := range values {
				if math.IsNaN(v) && i > 0 {
					v = values[i-1]
				}
				if !math.IsNaN(v) {
					sums[name][i] += v
				}
			}
		}
	}
	return sums, nil
}
