package console

import (
	"fmt"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// The tunnel map: the instances of the gateways on the left, towards the
// internet, the connection points on the right, inside, and an edge for each
// tunnel; behind them the roles. It is drawn here, in units of the picture, and
// html/points.html makes SVG of it.

// States of a tunnel.
const (
	tunnelConnected  = "connected"
	tunnelConnecting = "connecting"
	tunnelLost       = "lost"
)

// A mapEdge is a tunnel, or one that should be there.
type mapEdge struct {
	Gateway  string
	Instance int
	Point    string
	State    string
	Why      string // it is not connected
	opencmg.TunnelStatus

	X1, Y1, X2, Y2 int
	LX, LY         int // of the label
}

// Label is what is written on the edge.
func (e mapEdge) Label() string {
	if e.State != tunnelConnected {
		return e.State
	}
	return showDuration(e.RTT)
}

// Mark tells the states apart without colour.
func (e mapEdge) Mark() string {
	switch e.State {
	case tunnelLost:
		return "✕ "
	case tunnelConnecting:
		return "… "
	}
	return ""
}

// Name says which tunnel it is.
func (e mapEdge) Name() string { return fmt.Sprintf("%s/%d – %s", e.Gateway, e.Instance, e.Point) }

// A mapNode is a box.
type mapNode struct {
	X, Y, W, H int
	Name, Text string
	Tone       string
	State      string
	Href       string // below Path; empty for none
}

// Corners of the box's texts.
func (n mapNode) TX() int { return n.X + 12 }
func (n mapNode) Y1() int { return n.Y + 17 }
func (n mapNode) Y2() int { return n.Y + 32 }

// A mapFrame is a gateway around its instances, or a side of the picture.
type mapFrame struct {
	X, Y, W, H int
	Name       string
}

// TY is where the frame's name stands.
func (f mapFrame) TY() int { return f.Y + 18 }

// A tunnelMap is the whole picture.
type tunnelMap struct {
	W, H      int
	Gateways  []mapFrame
	Instances []mapNode
	Points    []mapNode
	Roles     []mapNode
	Edges     []mapEdge
	// Inside and Outside are the two sides.
	Inside, Outside mapFrame
	// The line from the connection points to the roles.
	RX1, RX2, RY int
	Lost         int // edges
}

// Measures of the picture.
const (
	mapWidth   = 1000
	rowHeight  = 50
	boxHeight  = 40
	frameTitle = 28
	frameGap   = 14
	instanceX  = 30
	instanceW  = 250
	pointX     = 590
	pointW     = 180
	roleX      = 830
	roleW      = 150
	// maxRoleBoxes bounds the roles that are drawn; the last box says how many
	// more there are.
	maxRoleBoxes = 12
)

// tunnelOf is the tunnel of a connection point to an instance of the gateway
// that it is linked to.
func tunnelOf(p *adminservice.ConnectionPoint, gateway string, n int) mapEdge {
	e := mapEdge{Gateway: gateway, Instance: n, Point: p.Name, State: tunnelConnecting, Why: "the connection point was told of it and has not said more"}
	switch {
	case p.Status == nil:
		e.State, e.Why = tunnelLost, "the connection point has not reported since the site started"
		return e
	case silent(p):
		e.State, e.Why = tunnelLost, "the connection point reports nothing any more: is its service running, and does it reach the site?"
		return e
	}
	for _, t := range p.Status.Tunnels {
		if t.Gateway != gateway || t.Instance != n {
			continue
		}
		e.TunnelStatus = t
		switch {
		case t.Connected:
			e.State, e.Why = tunnelConnected, ""
		case t.LastError != "":
			e.State, e.Why = tunnelLost, t.LastError
		default:
			e.Why = "it is being opened"
		}
		break
	}
	return e
}

// drawTunnels places everything.
func drawTunnels(gateways []adminservice.Gateway, points []adminservice.ConnectionPoint, roles []adminservice.SiteRole) tunnelMap {
	m := tunnelMap{W: mapWidth}
	y := frameTitle + 2*frameGap
	type place struct {
		gateway  *adminservice.Gateway
		number   int
		row, mid int
	}
	var places []place
	for i := range gateways {
		g := &gateways[i]
		f := mapFrame{X: instanceX - 14, Y: y, W: instanceW + 28, Name: g.Name + " · " + g.State}
		y += frameTitle
		if len(g.Machines) == 0 {
			m.Instances = append(m.Instances, mapNode{X: instanceX, Y: y, W: instanceW, H: boxHeight, Name: "no instance yet", Text: lowerFirst(g.State), Tone: "none", State: g.State, Href: "gateways/" + g.ID})
			y += rowHeight
		}
		for _, one := range g.Machines {
			n := instanceNode(g, &one)
			n.X, n.Y, n.W, n.H = instanceX, y, instanceW, boxHeight
			m.Instances = append(m.Instances, n)
			places = append(places, place{g, one.Number, len(places), y + boxHeight/2})
			y += rowHeight
		}
		y += 4
		f.H = y - f.Y
		m.Gateways = append(m.Gateways, f)
		y += frameGap
	}
	rows := m.placeRoles(roles)
	need := frameTitle + 3*frameGap + max(len(points), rows)*rowHeight
	m.H = max(y, need, 150)
	m.Outside = mapFrame{X: 4, Y: 4, W: instanceX + instanceW + 40, H: m.H - 8, Name: "Towards the internet"}
	m.Inside = mapFrame{X: pointX - 30, Y: 4, W: mapWidth - pointX + 26, H: m.H - 8, Name: "Your network"}
	spread := func(i, n int) int { // the middle of the i-th of n boxes
		room := m.H - frameTitle - frameGap
		return frameTitle + room*(2*i+1)/(2*n)
	}
	for i := range m.Roles {
		m.Roles[i].Y = spread(i, len(m.Roles)) - boxHeight/2
	}
	if len(points) > 0 && len(m.Roles) > 0 {
		m.RX1, m.RX2, m.RY = pointX+pointW+8, roleX-8, spread(0, 1)
	}
	for j := range points {
		p := &points[j]
		mid := spread(j, len(points))
		row := rowOfPoint(*p, gateways)
		text := row.State
		if row.Expected > 0 {
			text = fmt.Sprintf("%d of %d tunnels", row.Up, row.Expected)
		}
		m.Points = append(m.Points, mapNode{X: pointX, Y: mid - boxHeight/2, W: pointW, H: boxHeight, Name: p.Name, Text: text, Tone: row.Tone(), State: row.State, Href: "connection-points/" + p.ID})
		for _, at := range places {
			if at.gateway.ID != p.GatewayID {
				continue
			}
			e := tunnelOf(p, at.gateway.Name, at.number)
			e.X1, e.Y1, e.X2, e.Y2 = instanceX+instanceW, at.mid, pointX, mid
			// The labels of each connection point stand in a column of their own,
			// near the instances, where the edges are apart.
			share := 0.3
			if len(points) > 1 {
				share = 0.18 + 0.42*float64(j)/float64(len(points)-1)
			}
			e.LX = e.X1 + int(share*float64(e.X2-e.X1))
			e.LY = e.Y1 + int(share*float64(e.Y2-e.Y1)) + 4
			if e.State == tunnelLost {
				m.Lost++
			}
			m.Edges = append(m.Edges, e)
		}
	}
	return m
}

// placeRoles makes the boxes of the published roles and returns how many rows
// they need.
func (m *tunnelMap) placeRoles(roles []adminservice.SiteRole) int {
	var names []mapNode
	for _, r := range roles {
		if r.AllowGatewayTraffic {
			names = append(names, mapNode{X: roleX, W: roleW, H: boxHeight, Name: r.Name, Text: strings.ReplaceAll(r.Kind, "-", " "), Tone: "none", Href: "roles/" + r.ID})
		}
	}
	if len(names) > maxRoleBoxes {
		more := len(names) - maxRoleBoxes + 1
		names = append(names[:maxRoleBoxes-1], mapNode{X: roleX, W: roleW, H: boxHeight, Name: fmt.Sprintf("%d more", more), Text: "published roles", Tone: "none", Href: "roles"})
	}
	m.Roles = names
	return len(names)
}

// instanceNode is the box of an instance, without its place.
func instanceNode(g *adminservice.Gateway, i *adminservice.Instance) mapNode {
	n := mapNode{Name: fmt.Sprintf("%s/%d", g.Name, i.Number), Href: "gateways/" + g.ID}
	s := i.Status
	switch {
	case i.Connected && s != nil && s.Draining:
		n.State, n.Tone = "draining", "warn"
	case i.Connected:
		n.State, n.Tone = tunnelConnected, "good"
	case i.Power != "" && !strings.EqualFold(i.Power, "running"):
		n.State, n.Tone = lowerFirst(i.Power), "warn"
	case s == nil:
		n.State, n.Tone = "not seen yet", "warn"
	default:
		n.State, n.Tone = "no tunnel", "bad"
	}
	n.Text = n.State
	if i.Connected && s != nil {
		n.Text = fmt.Sprintf("%s · %s clients, %s held", n.State, showNumber(s.Connections), showNumber(s.Held))
	}
	return n
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
