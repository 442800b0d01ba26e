package site

import (
	"context"
	"slices"
	"strconv"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/sitedb"
)

// What instances count grows from the start of their process on. The site keeps
// what was added between two reports.

// maxCauses bounds the causes of refusals of one instance, and maxName the
// length of their names and those of endpoints, in bytes. Both come from the
// gateway's program, so this only guards against one gone wrong.
const (
	maxCauses    = 64
	maxEndpoints = 256
	maxName      = 128
)

// count adds what instances counted since the report before.
func (s *Server) count(ctx context.Context, sys *system, deltas []instanceDelta) error {
	if len(deltas) == 0 {
		return nil
	}
	gateways, err := readAll[gatewayRecord](ctx, s.db, kindGateway)
	if err != nil {
		return err
	}
	var counted sitedb.Counted
	for _, d := range deltas {
		i := slices.IndexFunc(gateways, func(g *record[gatewayRecord]) bool { return g.Value.Prefix == d.now.Gateway })
		if i >= 0 {
			d.count(&counted, gateways[i].ID, sys.name)
		}
	}
	if counted.Empty() {
		return nil
	}
	return s.db.AddCounts(ctx, counted)
}

// count adds what is new.
func (d instanceDelta) count(to *sitedb.Counted, gateway, connectionPoint string) {
	instance := strconv.Itoa(d.now.Instance)
	for _, t := range d.now.Endpoints[:min(len(d.now.Endpoints), maxEndpoints)] {
		if len(t.Endpoint) > maxName {
			continue
		}
		was := d.endpoint(t.Role, t.Endpoint)
		c := sitedb.Counts{
			Requests: max(t.Requests-was.Requests, 0), Failed: max(t.Failed-was.Failed, 0),
			RequestBytes: max(t.RequestBytes-was.RequestBytes, 0), ResponseBytes: max(t.ResponseBytes-was.ResponseBytes, 0),
		}
		if c != (sitedb.Counts{}) {
			to.Traffic = append(to.Traffic, sitedb.Traffic{GatewayID: gateway, Instance: instance, Endpoint: t.Endpoint, ConnectionPoint: connectionPoint, Start: d.now.Time, Counts: c})
		}
		l := sitedb.Latencies{GatewayID: gateway, Endpoint: t.Endpoint, Start: d.now.Time}
		for i, n := range t.Latency[:min(len(t.Latency), opencmg.LatencyBuckets)] {
			if i < len(was.Latency) {
				n -= was.Latency[i]
			}
			l.Counts[i] = max(n, 0)
		}
		if l.Counts != (sitedb.LatencyCounts{}) {
			to.Latencies = append(to.Latencies, l)
		}
	}
	causes := 0
	for cause, n := range d.now.Refused {
		if causes++; causes > maxCauses {
			break
		}
		if d.before != nil {
			n -= d.before.Refused[cause]
		}
		if n > 0 && len(cause) <= maxName {
			to.Refusals = append(to.Refusals, sitedb.Refusals{GatewayID: gateway, Instance: instance, Cause: cause, Start: d.now.Time, Requests: n})
		}
	}
}
