package console

import (
	"fmt"
	"slices"
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
	node := func(nodes []mapNode, name string) mapNode {
		if i := slices.IndexFunc(nodes, func(n mapNode) bool { return n.Name == name }); i >= 0 {
			return nodes[i]
		}
		return mapNode{Name: name}
	}
	// Edges come by connection point, and for each by instance.
	for _, e := range m.Edges {
		i := slices.IndexFunc(list, func(x tunnelMatrix) bool { return x.Gateway == e.Gateway })
		if i < 0 {
			i, list = len(list), append(list, tunnelMatrix{Gateway: e.Gateway})
		}
		x := &list[i]
		if n := len(x.Points); n == 0 || x.Points[n-1].Name != e.Point {
			x.Points = append(x.Points, node(m.Points, e.Point))
		}
		name := fmt.Sprintf("%s/%d", e.Gateway, e.Instance)
		row := slices.IndexFunc(x.Rows, func(r matrixRow) bool { return r.Instance.Name == name })
		if row < 0 {
			row, x.Rows = len(x.Rows), append(x.Rows, matrixRow{Number: e.Instance, Instance: node(m.Instances, name)})
		}
		x.Rows[row].Cells = append(x.Rows[row].Cells, matrixCell{e})
	}
	return list
}
