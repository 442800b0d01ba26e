package console

import (
	"fmt"
	"net/url"
	"slices"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// Connection points: the list, the tunnel map (tunnelmap.go), and the way to add
// one.

func pointViews() []view {
	return []view{
		{pattern: "connection-points", node: "connection-points", title: "Connection points", template: "points", load: loadPoints},
		{pattern: "connection-points/new", node: "connection-points", title: "Add a connection point", template: "point-new", load: func(v *Visit) (any, error) {
			return loadJoin(v, adminservice.SystemConnectionPoint)
		}},
		{pattern: "connection-points/{id}", node: "connection-points", title: "Connection point", template: "point", load: loadPoint},
	}
}

func pointActions() []action {
	return []action{
		{pattern: "connection-points/{id}/link", page: "connection-points/{id}", fields: fieldNames{"gatewayId": "gateway"}, do: func(v *Visit) (string, string, error) {
			gateway := v.Form("gateway")
			said := "The connection point is linked to no gateway and serves none."
			if gateway != "" {
				said = "The connection point serves the chosen gateway from now on."
			}
			page := "connection-points/" + url.PathEscape(v.ID())
			return page, said, v.change(pointPath(v), page, adminservice.ConnectionPointChange{GatewayID: &gateway})
		}},
		{pattern: "connection-points/{id}/delete", page: "connection-points/{id}", do: func(v *Visit) (string, string, error) {
			p, err := findPoint(v)
			if err != nil {
				return "", "", err
			}
			if err := typedName(v, p.Name); err != nil {
				return "", "", err
			}
			return "connection-points", "Connection point " + p.Name + " is deleted. Stop its service on the host: it can not sign in any more.", v.Do("DELETE", pointPath(v), nil, nil)
		}},
	}
}

// pointsPage is what the page of connection points shows.
type pointsPage struct {
	somePage[pointRow]
	Map tunnelMap // of the connection points that the page lists
}

// A pointRow is a connection point with its tunnels counted.
type pointRow struct {
	adminservice.ConnectionPoint
	Gateway      string // name of the one it is linked to
	State        string
	Up, Expected int
	Requests     int64 // since it started to count
	Failed       int64
	// Lost is why a tunnel is not there, of the first that is not.
	Lost string
}

// States of a connection point.
const (
	pointConnected    = "connected"
	pointPartly       = "some tunnels lost"
	pointDisconnected = "disconnected"
	pointSilent       = "silent"
	pointUnlinked     = "linked to no gateway"
	pointNew          = "not heard from yet"
)

func loadPoints(v *Visit) (any, error) {
	found, err := some[adminservice.ConnectionPoint](v, "connection-points", "ConnectionPoints", nil)
	if err != nil {
		return nil, err
	}
	gateways, err := list[adminservice.Gateway](v, "Gateways?$orderby=name")
	if err != nil {
		return nil, err
	}
	roles, err := list[adminservice.SiteRole](v, "SiteRoles")
	if err != nil {
		return nil, err
	}
	p := pointsPage{somePage: somePage[pointRow]{Span: found.Span}}
	for _, one := range found.List {
		p.List = append(p.List, rowOfPoint(one, gateways))
	}
	if len(found.List) < found.Span.Total || found.Span.Chosen {
		gateways = slices.DeleteFunc(gateways, func(g adminservice.Gateway) bool {
			return !slices.ContainsFunc(found.List, func(c adminservice.ConnectionPoint) bool { return c.GatewayID == g.ID })
		})
	}
	p.Map = drawTunnels(gateways, found.List, roles)
	return p, nil
}

func rowOfPoint(p adminservice.ConnectionPoint, gateways []adminservice.Gateway) pointRow {
	row := pointRow{ConnectionPoint: p}
	for i := range gateways {
		g := &gateways[i]
		if g.ID != p.GatewayID {
			continue
		}
		row.Gateway, row.Expected = g.Name, len(g.Machines)
		for _, m := range g.Machines {
			t := tunnelOf(&p, g.Name, m.Number)
			if t.State == tunnelConnected {
				row.Up++
			} else if row.Lost == "" {
				row.Lost = fmt.Sprintf("%s/%d: %s", g.Name, m.Number, t.Why)
			}
		}
	}
	if p.Status != nil {
		for _, e := range p.Status.Endpoints {
			row.Requests += e.TotalRequests
			row.Failed += e.FailedRequests
		}
	}
	switch {
	case p.LastReport.IsZero():
		row.State = pointNew
	case silent(&p):
		row.State = pointSilent
	case p.GatewayID == "":
		row.State = pointUnlinked
	case !p.Connected:
		row.State = pointDisconnected
	case row.Up < row.Expected:
		row.State = pointPartly
	default:
		row.State = pointConnected
	}
	return row
}

// silent reports whether a connection point says nothing any more: the site does
// not count what it said last, which was that it holds tunnels.
func silent(p *adminservice.ConnectionPoint) bool {
	return !p.Connected && p.Status != nil && slices.ContainsFunc(p.Status.Tunnels, func(t opencmg.TunnelStatus) bool { return t.Connected })
}

// Tone is the colour of the state.
func (r pointRow) Tone() string {
	switch r.State {
	case pointConnected:
		return "good"
	case pointPartly, pointUnlinked, pointNew:
		return "warn"
	}
	return "bad"
}

// pointPage is what the page of one connection point shows.
type pointPage struct {
	Point    pointRow
	Gateways []adminservice.Gateway
	Tunnels  []mapEdge
}

func findPoint(v *Visit) (adminservice.ConnectionPoint, error) {
	return get[adminservice.ConnectionPoint](v, pointPath(v))
}

func pointPath(v *Visit) string { return "ConnectionPoints/" + url.PathEscape(v.ID()) }

func loadPoint(v *Visit) (any, error) {
	p, err := findPoint(v)
	if err != nil {
		return nil, err
	}
	gateways, err := list[adminservice.Gateway](v, "Gateways?$orderby=name")
	if err != nil {
		return nil, err
	}
	page := pointPage{Point: rowOfPoint(p, gateways), Gateways: gateways}
	for _, g := range gateways {
		if g.ID != p.GatewayID {
			continue
		}
		for _, m := range g.Machines {
			e := tunnelOf(&p, g.Name, m.Number)
			page.Tunnels = append(page.Tunnels, e)
		}
	}
	return page, nil
}
