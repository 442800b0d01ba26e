package site

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/sitedb"
)

// Gauges that are kept.
const (
	sampleStorage       = "storage-gb"                // of a gateway
	sampleStorageEgress = "storage-egress-gb-30-days" // of a gateway
	sampleHeld          = "held-requests"             // of a gateway
	sampleOnline        = "online-clients"            // of a place and a way of authentication: internet/entra

	// Of an instance, by gateway ID and number: 1/0.
	sampleInstanceHeld        = "instance-held-requests"
	sampleInstanceConnections = "instance-connections"
	sampleInstanceTunnels     = "instance-tunnels"
	sampleInstanceCPU         = "instance-cpu-seconds" // since its start
	sampleInstanceMemory      = "instance-memory-bytes"
)

// sample notes how much of everything there is now.
func (s *Server) sample(ctx context.Context) error {
	now := s.cfg.Now()
	var list []sitedb.Sample
	add := func(name, subject string, value float64) {
		list = append(list, sitedb.Sample{Name: name, Subject: subject, At: now, Value: value})
	}
	for _, o := range s.live.online(now) {
		add(sampleOnline, o.Place+"/"+string(o.Auth), float64(o.Clients))
	}
	gateways, err := readAll[gatewayRecord](ctx, s.db, kindGateway)
	if err != nil {
		return err
	}
	tunnels := s.live.tunnels(now)
	for _, g := range gateways {
		held, any := int64(0), false
		for _, st := range s.live.fresh(g.Value.Prefix, now) {
			held, any = held+st.Held, true
			subject := g.ID + "/" + strconv.Itoa(st.Instance)
			add(sampleInstanceHeld, subject, float64(st.Held))
			add(sampleInstanceConnections, subject, float64(st.Connections))
			add(sampleInstanceTunnels, subject, float64(tunnels[instanceKey{st.Gateway, st.Instance}]))
			add(sampleInstanceCPU, subject, st.CPUSeconds)
			add(sampleInstanceMemory, subject, float64(st.MemoryBytes))
		}
		if any {
			add(sampleHeld, g.ID, float64(held))
		}
	}
	if len(list) == 0 {
		return nil
	}
	return s.db.AddSamples(ctx, list)
}

// boundOnline takes what can be right of a management point's counts.
func boundOnline(sys *system, list []opencmg.OnlineClients) []opencmg.OnlineClients {
	if sys.kind != adminservice.SystemManagementPoint {
		return nil
	}
	list = list[:min(len(list), opencmg.MaxOnlineCounts)]
	return slices.DeleteFunc(list, func(o opencmg.OnlineClients) bool {
		return o.Clients < 0 || o.Place != opencmg.PlaceInternet && o.Place != opencmg.PlaceIntranet || !o.Auth.Valid()
	})
}

// online adds up the clients that listen at all management points.
func (l *live) online(now time.Time) []opencmg.OnlineClients {
	l.mu.Lock()
	defer l.mu.Unlock()
	sums := map[opencmg.OnlineClients]int64{}
	for _, s := range l.systems {
		if !s.counts(now) {
			continue
		}
		for _, o := range s.report.Online {
			n := o.Clients
			o.Clients = 0
			sums[o] += n
		}
	}
	list := []opencmg.OnlineClients{}
	for o, n := range sums {
		o.Clients = n
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b opencmg.OnlineClients) int {
		return cmp.Or(cmp.Compare(a.Place, b.Place), cmp.Compare(a.Auth, b.Auth))
	})
	return list
}

// fresh returns what the instances of a gateway said lately, by number. Times
// are those of the instances' own clocks, so a connection point must have
// passed it on lately instead.
func (l *live) fresh(gateway string, now time.Time) []*opencmg.InstanceStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	there := map[int]bool{}
	for _, s := range l.systems {
		if !s.counts(now) {
			continue
		}
		for i := range s.report.Instances {
			if st := &s.report.Instances[i]; st.Gateway == gateway {
				there[st.Instance] = true
			}
		}
	}
	var list []*opencmg.InstanceStatus
	for n := range there {
		if st := l.instances[instanceKey{gateway, n}]; st != nil {
			list = append(list, st)
		}
	}
	slices.SortFunc(list, func(a, b *opencmg.InstanceStatus) int { return cmp.Compare(a.Instance, b.Instance) })
	return list
}

// tunnels counts the tunnel connections to every instance.
func (l *live) tunnels(now time.Time) map[instanceKey]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	counts := map[instanceKey]int{}
	for _, s := range l.systems {
		if !s.counts(now) || s.report.ConnectionPoint == nil {
			continue
		}
		for _, t := range s.report.ConnectionPoint.Tunnels {
			if t.Connected {
				counts[instanceKey{t.Gateway, t.Instance}] += max(t.Connections, 1)
			}
		}
	}
	return counts
}
