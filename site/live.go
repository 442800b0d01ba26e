package site

import (
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// live is what site systems reported lately. It is in memory only: after a
// start everything is reported again within half a minute.
type live struct {
	began time.Time
	// faded is called when a system's last report has become stale, from any
	// goroutine; may be nil.
	faded func()

	mu      sync.Mutex // guards what follows
	systems map[string]*liveSystem
	waiting map[string]int // requests of systems that wait for documents
	// instances by gateway and number.
	instances map[instanceKey]*opencmg.InstanceStatus
	rates     map[instanceKey]instanceRate // between their last two reports
}

// An instanceRate is what an instance did between two reports.
type instanceRate struct {
	cpu      float64 // percent of one core
	requests float64 // a second
}

// rateOf compares two reports of one process.
func rateOf(before, now *opencmg.InstanceStatus) instanceRate {
	s := now.Time.Sub(before.Time).Seconds()
	r := instanceRate{cpu: max(0, (now.CPUSeconds-before.CPUSeconds)/s*100)}
	for _, t := range now.Endpoints {
		r.requests += float64(t.Requests)
	}
	for _, t := range before.Endpoints {
		r.requests -= float64(t.Requests)
	}
	r.requests = max(0, r.requests/s)
	return r
}

type instanceKey struct {
	gateway string
	number  int
}

type liveSystem struct {
	at     time.Time
	report adminservice.SiteSystemReport
	fading *time.Timer
	// gone says that the system hung up and did not come back: its host or its
	// process is down, or the way to the site is.
	gone bool
}

// counts reports whether what the system said last is still taken for true.
func (s *liveSystem) counts(now time.Time) bool { return !s.gone && now.Sub(s.at) <= stale }

// hungUp is how long a system that hung up while it waited for documents may take
// to come back: one that lost a connection does so at once.
const hungUp = 500 * time.Millisecond

// stale is how old a report may be and still count. Reports come at least
// every 30 seconds.
const stale = 75 * time.Second

func newLive(now time.Time) *live {
	return &live{began: now, systems: map[string]*liveSystem{}, waiting: map[string]int{}, instances: map[instanceKey]*opencmg.InstanceStatus{}, rates: map[instanceKey]instanceRate{}}
}

// An instanceDelta is what an instance said, and what it had said before; nil
// when that was another process, or nothing since the site started.
type instanceDelta struct{ before, now *opencmg.InstanceStatus }

// endpoint is what the instance had counted before.
func (d instanceDelta) endpoint(role opencmg.RoleID, name string) opencmg.InstanceTraffic {
	if d.before != nil {
		for _, t := range d.before.Endpoints {
			if t.Role == role && t.Endpoint == name {
				return t
			}
		}
	}
	return opencmg.InstanceTraffic{}
}

// put takes a report. Every connection point reports every instance; what is
// new is returned once.
func (l *live) put(id string, r adminservice.SiteSystemReport, now time.Time) (deltas []instanceDelta) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.systems[id]
	l.systems[id] = &liveSystem{at: now, report: r}
	if l.faded != nil {
		if old != nil {
			old.fading.Stop()
		}
		l.systems[id].fading = time.AfterFunc(stale+time.Millisecond, l.faded)
	}
	for i := range r.Instances {
		st := &r.Instances[i]
		k := instanceKey{st.Gateway, st.Instance}
		old := l.instances[k]
		if old != nil && !old.Time.Before(st.Time) {
			continue
		}
		l.instances[k] = st
		switch {
		case old != nil && old.Started.Equal(st.Started):
			l.rates[k] = rateOf(old, st)
			deltas = append(deltas, instanceDelta{old, st})
		case old != nil || !st.Started.Before(l.began):
			delete(l.rates, k) // another process: nothing to compare with yet
			deltas = append(deltas, instanceDelta{nil, st})
		}
		// Otherwise the site started after the instance, and has counted an
		// unknown part of this before.
	}
	return deltas
}

func (l *live) forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.systems[id]; s != nil && s.fading != nil {
		s.fading.Stop()
	}
	delete(l.systems, id)
}

// wait notes that a system waits at the site. ended is to be called when it does
// no longer; left says that it was the system that ended it.
func (l *live) wait(id string) (ended func(left bool)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting[id]++; l.waiting[id] == 1 {
		l.told()
	}
	if s := l.systems[id]; s != nil {
		s.gone = false
	}
	return func(left bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.waiting[id]--; l.waiting[id] > 0 {
			return
		}
		delete(l.waiting, id)
		if !left {
			return
		}
		last := l.systems[id]
		time.AfterFunc(hungUp, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			// A report that came meanwhile is a new liveSystem.
			if s := l.systems[id]; s != nil && s == last && l.waiting[id] == 0 && !s.gone {
				s.gone = true
				l.told()
			}
		})
	}
}

// told calls faded. l.mu is held.
func (l *live) told() {
	if l.faded != nil {
		l.faded()
	}
}

// hears reports whether the last report of a system still counts.
func (l *live) hears(id string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.systems[id]
	return s != nil && s.counts(now)
}

// system returns the last report of a system, nil when there is none, and when
// it came.
func (l *live) system(id string) (*adminservice.SiteSystemReport, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.systems[id]; s != nil {
		return &s.report, s.at
	}
	return nil, time.Time{}
}

// instance returns what an instance said last, and whether a connection point
// holds a tunnel to it.
func (l *live) instance(gateway string, n int, now time.Time) (status *opencmg.InstanceStatus, connected bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.systems {
		if !s.counts(now) || s.report.ConnectionPoint == nil {
			continue
		}
		for _, t := range s.report.ConnectionPoint.Tunnels {
			if t.Gateway == gateway && t.Instance == n && t.Connected {
				connected = true
			}
		}
	}
	return l.instances[instanceKey{gateway, n}], connected
}

// rate returns what an instance did between its last two reports, if there were
// two.
func (l *live) rate(gateway string, n int) (instanceRate, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok := l.rates[instanceKey{gateway, n}]
	return r, ok
}

// served reports whether any connection point serves the gateway.
func (l *live) served(gateway string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.systems {
		if !s.counts(now) || s.report.ConnectionPoint == nil {
			continue
		}
		for _, t := range s.report.ConnectionPoint.Tunnels {
			if t.Gateway == gateway && t.Connected {
				return true
			}
		}
	}
	return false
}

// all returns what every instance said last.
func (l *live) all() []*opencmg.InstanceStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []*opencmg.InstanceStatus
	for _, st := range l.instances {
		list = append(list, st)
	}
	return list
}
