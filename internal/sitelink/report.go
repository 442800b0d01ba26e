package sitelink

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/web"
)

const (
	reportEvery   = 5 * time.Second // when something changed
	reportAtLeast = 30 * time.Second
	reportSettles = 100 * time.Millisecond // several tunnels tend to change together
	reportApart   = 450 * time.Millisecond // however much happens
	maxReportLogs = 1000
)

// sendReports reports what changed every five seconds, at once after Changes and
// when there are log lines, but about twice a second at most, and every thirty
// seconds in any case. Log lines wait for a site that is away.
func (l *Link) sendReports(ctx context.Context) {
	site := outage{log: l.log, what: "reporting to the site"}
	var tail *web.LogFollower
	if l.cfg.Logs != nil {
		tail = l.cfg.Logs.Follow()
	}
	var (
		logs []opencmg.LogLine // that wait
		last []byte            // what was reported
		sent time.Time
		not  time.Time // before this, since the site is away
	)
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	var looked time.Time
	for {
		if !sleep(ctx, time.Until(looked.Add(reportApart))) {
			return
		}
		r := l.report()
		looked = time.Now()
		logs = append(logs, r.Logs...)
		if tail != nil {
			lines, _ := tail.Take()
			logs = append(logs, lines...)
		}
		if n := len(logs) - maxReportLogs; n > 0 {
			logs = slices.Delete(logs, 0, n)
		}
		r.Logs = logs
		now := time.Now()
		facts := factsOf(r)
		if !now.Before(not) && (now.Sub(sent) >= reportAtLeast || len(logs) > 0 || !slices.Equal(facts, last)) {
			err := l.client.Report(ctx, r)
			switch {
			case err == nil:
				site.worked()
				logs, last, sent = nil, facts, now
			case ctx.Err() != nil:
				return
			default:
				if errors.Is(err, opencmg.TooLarge) {
					logs = nil
				}
				not = time.Now().Add(site.failed(err))
			}
		}
		var more <-chan struct{}
		if tail != nil {
			more = tail.More()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-l.news:
		case <-more:
			if !sleep(ctx, reportSettles) {
				return
			}
		case <-l.cfg.Changes:
			if !sleep(ctx, reportSettles) {
				return
			}
		}
	}
}

// report is the system's report with what the link knows itself.
func (l *Link) report() *adminservice.SiteSystemReport {
	var r adminservice.SiteSystemReport
	if l.cfg.Report != nil {
		r = l.cfg.Report()
	}
	r.Kind, r.Version, r.Started = l.cfg.Kind, l.cfg.Version, l.started.UTC()
	r.CertificateEnds = l.cert.Load().Leaf.NotAfter
	l.problem.Lock()
	defer l.problem.Unlock()
	if l.problem.text != "" {
		r.Problem = l.problem.text
	}
	return &r
}

// factsOf is the report without what changes by itself.
func factsOf(r *adminservice.SiteSystemReport) []byte {
	f := *r
	f.Logs = nil
	if r.ConnectionPoint != nil {
		cp := *r.ConnectionPoint
		cp.End = time.Time{}
		cp.Tunnels = slices.Clone(cp.Tunnels)
		for i := range cp.Tunnels {
			cp.Tunnels[i].RTT, cp.Tunnels[i].Streams = 0, 0
		}
		cp.Endpoints = slices.Clone(cp.Endpoints)
		slices.SortFunc(cp.Endpoints, func(a, b opencmg.EndpointTraffic) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.TargetHost, b.TargetHost))
		})
		f.ConnectionPoint = &cp
	}
	f.Probes = timeless(r.Probes)
	f.Instances = slices.Clone(r.Instances)
	for i := range f.Instances {
		s := &f.Instances[i]
		s.Time, s.Goroutines, s.MemoryBytes, s.CPUSeconds = time.Time{}, 0, 0, 0
		s.Outside = timeless(s.Outside)
	}
	b, err := json.Marshal(f)
	if err != nil {
		panic(err) // plain structs
	}
	return b
}

// timeless is a report that is the same as long as the findings are.
func timeless(r *opencmg.ProbeReport) *opencmg.ProbeReport {
	if r == nil {
		return nil
	}
	c := *r
	c.Time = time.Time{}
	return &c
}
