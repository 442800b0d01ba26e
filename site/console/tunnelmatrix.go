package console

import (
	"fmt"
	"strings"
)

// The tunnels of one gateway as a matrix: a row for each instance and a column
// for each connection point. It takes the place of the map where there is no
// room for one, and stands below it where there are more edges than anybody can
// follow.

// A tunnelMatrix is that of one gateway.
type tunnelMatrix struct {
	Gateway string
	Points  []mapNode
	Rows    []matrixRow
}

type matrixRow struct {
	Number   int
	Instance mapNode
	Cells    []matrixCell // as Points
}

// A matrixCell is a tunnel.
type matrixCell struct{ mapEdge }

// Tone is the colour of the tunnel.
func (c matrixCell) Tone() string {
	switch c.State {
	case tunnelConnected:
		return "good"
	case tunnelConnecting:
		return "busy"
	}
	return "bad"
}

// Text is what fits into a cell; the whole is in its title.
func (c matrixCell) Text() string {
	if c.State == tunnelConnected {
		return showDuration(c.RTT)
	}
	return strings.TrimSpace(c.Mark()) + " " + c.State
}

// Says is the cell in a sentence.
func (c matrixCell) Says() string {
	text := c.Name() + ": " + c.State
	if c.State == tunnelConnected {
		return text + fmt.Sprintf(", %s, round trip %s, %d requests in flight", c.Transport, showDuration(c.RTT), c.Streams)
	}
	return text + ": " + c.Why
}

// crowded is the number of edges from which the matrix is shown below the map,
// too.
const crowded = 24

// Crowded reports whether single edges are hard to follow.
func (m tunnelMap) Crowded() bool { return len(m.Edges) > crowded }

// Matrices are the tunnels of each gateway that has some.
func (m tunnelMap) Matrices() (list []tunnelMatrix) {
	point := func(name string) mapNode {
		for _, p := range m.Points {
			if p.Name == name {
				return p
			}
		}
		return mapNode{Name: name}
	}
	// Edges come by connection point, and for each by instance.
	for _, e := range m.Edges {
		i := 0
		for i < len(list) && list[i].Gateway != e.Gateway {
			i++
		}
		if i == len(list) {
			list = append(list, tunnelMatrix{Gateway: e.Gateway})
		}
		x := &list[i]
		if n := len(x.Points); n == 0 || x.Points[n-1].Name != e.Point {
			x.Points = append(x.Points, point(e.Point))
		}
		name := fmt.Sprintf("%s/%d", e.Gateway, e.Instance)
		row := 0
		for row < len(x.Rows) && x.Rows[row].Instance.Name != name {
			row++
		}
		if row == len(x.Rows) {
			n := mapNode{Name: name}
			for _, one := range m.Instances {
				if one.Name == name {
					n = one
				}
			}
			x.Rows = append(x.Rows, matrixRow{Number: e.Instance, Instance: n})
		}
		x.Rows[row].Cells = append(x.Rows[row].Cells, matrixCell{e})
	}
	return list
}
