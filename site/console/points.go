package console

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// Connection points: the list, the tunnel map (tunnelmap.go), and the way to add
// one.

func pointViews(c *Console) []view {
	return []view{
		{pattern: "connection-points", node: "connection-points", title: "Connection points", template: "points", load: loadPoints},
		{pattern: "connection-points/new", node: "connection-points", title: "Add a connection point", template: "point-new", load: func(v *Visit) (any, error) {
			return loadJoin(c, v, adminservice.SystemConnectionPoint)
		}},
		{pattern: "connection-points/{id}", node: "connection-points", title: "Connection point", template: "point", load: loadPoint},
	}
}

func pointActions(c *Console) []action {
	return []action{
		{pattern: "connection-points/new", page: "connection-points/new", do: func(v *Visit) (string, string, error) {
			return makeJoinToken(c, v, adminservice.SystemConnectionPoint, "connection-points/new")
		}},
		{pattern: "connection-points/{id}/link", page: "connection-points/{id}", do: func(v *Visit) (string, string, error) {
			gateway := v.Form("gateway")
			said := "The connection point is linked to no gateway and serves none."
			if gateway != "" {
				said = "The connection point serves the chosen gateway from now on."
			}
			return "connection-points/" + v.ID(), said, v.Do("PATCH", "ConnectionPoints/"+v.ID(), adminservice.ConnectionPointChange{GatewayID: &gateway}, nil)
		}},
		{pattern: "connection-points/{id}/delete", page: "connection-points/{id}", do: func(v *Visit) (string, string, error) {
			p, err := findPoint(v)
			if err != nil {
				return "", "", err
			}
			if err := typed(v, p.Name); err != nil {
				return "", "", err
			}
			return "connection-points", "Connection point " + p.Name + " is deleted. Stop its service on the host: it can not sign in any more.", v.Do("DELETE", "ConnectionPoints/"+p.ID, nil, nil)
		}},
	}
}

// pointsPage is what the page of connection points shows.
type pointsPage struct {
	Points []pointRow
	Map    tunnelMap
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
	points, gateways, err := pointsAndGateways(v)
	if err != nil {
		return nil, err
	}
	roles, err := list[adminservice.SiteRole](v, "SiteRoles")
	if err != nil {
		return nil, err
	}
	p := pointsPage{Map: drawTunnels(gateways, points, roles)}
	for _, one := range points {
		p.Points = append(p.Points, rowOfPoint(one, gateways))
	}
	return p, nil
}

func pointsAndGateways(v *Visit) ([]adminservice.ConnectionPoint, []adminservice.Gateway, error) {
	points, err := list[adminservice.ConnectionPoint](v, "ConnectionPoints?$orderby=name")
	if err != nil {
		return nil, nil, err
	}
	gateways, err := list[adminservice.Gateway](v, "Gateways?$orderby=name")
	return points, gateways, err
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
	points, err := list[adminservice.ConnectionPoint](v, "ConnectionPoints")
	if err != nil {
		return adminservice.ConnectionPoint{}, err
	}
	for _, p := range points {
		if p.ID == v.ID() {
			return p, nil
		}
	}
	return adminservice.ConnectionPoint{}, notThere("connection point", v.ID())
}

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

// Adding a site system by a join token, which is shown once.

// joinPage is what the page shows that makes a join token.
type joinPage struct {
	Kind     string // of the site system
	Gateways []adminservice.Gateway
	Token    *adminservice.JoinTokenRecord // that was made
	Secret   string                        // its text, the first time
	Joined   []joined                      // since then
}

type joined struct {
	Name, Href string
	At         time.Time
	Connected  bool
}

// Command is the first word after opencmg.
func (p joinPage) Command() string {
	if p.Kind == adminservice.SystemManagementPoint {
		return "mp"
	}
	return p.Kind
}

// ConfigFile is what joining writes.
func (p joinPage) ConfigFile() string { return p.Command() + ".yaml" }

func loadJoin(c *Console, v *Visit, kind string) (any, error) {
	p := joinPage{Kind: kind}
	var err error
	if p.Gateways, err = list[adminservice.Gateway](v, "Gateways?$orderby=name"); err != nil {
		return nil, err
	}
	id := v.Query("token")
	if id == "" || v.Request.Method == "POST" {
		return p, nil
	}
	tokens, err := list[adminservice.JoinTokenRecord](v, "JoinTokens")
	if err != nil {
		return nil, err
	}
	for _, t := range tokens {
		if t.ID == id && t.Kind == kind {
			p.Token = &t
		}
	}
	if p.Token == nil {
		return nil, notThere("join token", id)
	}
	if v.live == nil {
		p.Secret = c.once.take(v.Session, id)
	}
	since, err := time.Parse(time.RFC3339, v.Query("since"))
	if err != nil {
		return p, nil
	}
	if kind == adminservice.SystemConnectionPoint {
		points, err := list[adminservice.ConnectionPoint](v, "ConnectionPoints?$orderby=joined")
		if err != nil {
			return nil, err
		}
		for _, o := range points {
			if !o.Joined.Before(since) && o.GatewayID == p.Token.GatewayID {
				p.Joined = append(p.Joined, joined{o.Name, "connection-points/" + o.ID, o.Joined, o.Connected})
			}
		}
		return p, nil
	}
	if p.Token.Used > 0 {
		roles, err := list[adminservice.SiteRole](v, "SiteRoles")
		if err != nil {
			return nil, err
		}
		for _, o := range roles {
			if o.Own && !o.LastReport.Before(since) {
				p.Joined = append(p.Joined, joined{o.Name, "roles/" + o.ID, o.LastReport, true})
			}
		}
	}
	return p, nil
}

// makeJoinToken does what the form of such a page asks for.
func makeJoinToken(c *Console, v *Visit, kind, page string) (string, string, error) {
	in := adminservice.JoinTokenRecord{Kind: kind, GatewayID: v.Form("gateway")}
	var err error
	if in.Minutes, err = formNumber(v, "minutes", 60); err != nil {
		return "", "", err
	}
	if in.Uses, err = formNumber(v, "uses", 1); err != nil {
		return "", "", err
	}
	in.Sources = words(v.Form("sources"))
	since := c.cfg.Now().UTC().Truncate(time.Second)
	var made adminservice.JoinTokenRecord
	if err := v.Do("POST", "JoinTokens", in, &made); err != nil {
		return "", "", err
	}
	c.once.keep(v.Session, made.ID, made.Token, c.cfg.Now())
	return page + "?token=" + made.ID + "&since=" + since.Format(time.RFC3339), "", nil
}

// formNumber is a number of the form, def when nothing was typed.
func formNumber(v *Visit, name string, def int) (int, error) {
	s := v.Form(name)
	if s == "" {
		return def, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, invalid("%s: must be a whole number, is %q", name, s)
	}
	return n, nil
}

// words are what was typed, one each line or with commas or spaces between.
func words(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\r' || r == '\t' })
}
