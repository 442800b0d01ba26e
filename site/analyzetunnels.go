package site

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/web"
)

// tunnels asks every connection point of the gateway what it knows about the
// first request. Whoever answers is alive, and says which instances it reached.
func (a *analyzer) tunnels(ctx context.Context, first *visit) {
	points, err := readAll[pointRecord](ctx, a.s.db, kindPoint)
	if err != nil {
		a.row("tunnel", "Connection points hold tunnels", opencmg.CheckTodo, "not examined: "+err.Error(), "analyze again")
		return
	}
	points = slices.DeleteFunc(points, func(p *record[pointRecord]) bool { return p.Value.GatewayID != a.g.ID })
	if len(points) == 0 {
		a.row("tunnel", "Connection points hold tunnels", opencmg.CheckFail, "no connection point serves this gateway", "let a host join as a connection point, and link it to the gateway")
		return
	}
	id := first.metadata.id
	if id == "" {
		id = web.NewCorrelationID()
	}
	e, hops, err := a.s.explain(ctx, id, a.s.explainWait, nil)
	for _, p := range points {
		silent := "the site asks its systems too much now"
		if err == nil {
			i := slices.IndexFunc(e.Asked, func(h adminservice.AskedHop) bool {
				return h.Hop == opencmg.HopConnectionPoint && h.Where == p.Name
			})
			silent = ""
			if i >= 0 && !e.Asked[i].Answered {
				silent = e.Asked[i].Problem
				a.silent[p.ID] = true
			}
		}
		for _, n := range a.numbers {
			a.add(a.at(a.tunnel(p, n, silent, hops[p.ID]), n))
		}
	}
}

func (a *analyzer) tunnel(p *record[pointRecord], n int, silent string, hops []adminservice.AskedHop) adminservice.AnalysisRow {
	name := "Connection point " + p.Name + " holds a tunnel to " + a.where(n)
	if silent != "" {
		return rowOf("tunnel", name, opencmg.CheckFail, silent, "start the service on "+p.Name+", and see that the host reaches the site server")
	}
	status, evidence := opencmg.TunnelStatus{LastError: "it does not know the instance"}, ""
	if report, _ := a.s.live.system(p.ID); report != nil && report.ConnectionPoint != nil {
		for _, t := range report.ConnectionPoint.Tunnels {
			if t.Gateway == a.g.Value.Prefix && t.Instance == n {
				status = t
			}
		}
	}
	if status.Connected {
		evidence = fmt.Sprintf("%s, %d connections", status.Transport, status.Connections)
	}
	where := a.g.Value.Prefix + "/" + strconv.Itoa(n)
	for _, h := range hops {
		if h.Where == where && h.Answered {
			return rowOf("tunnel", name, opencmg.CheckPass, evidence, "")
		}
		if h.Where == where && h.Problem != "" {
			status.LastError = h.Problem
		}
	}
	if status.Connected { // to an instance that is too old to answer
		return rowOf("tunnel", name, opencmg.CheckWarn, evidence+"; the instance did not answer: "+status.LastError, "upgrade the gateway if its program is older than the site's, else analyze again")
	}
	return rowOf("tunnel", name, opencmg.CheckFail, status.LastError, "let "+p.Name+" reach the gateway's port 443 or its tunnel port, by its proxy if there is one")
}
