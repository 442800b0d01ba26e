package site

import (
	"context"

	"github.com/opencmg/opencmg/adminservice"
)

// Look does one of the regular duties now.
func (s *Server) Look(ctx context.Context, name string) error {
	for _, d := range s.duties {
		if d.name == name {
			return d.run(ctx)
		}
	}
	panic("there is no duty " + name)
}

// A RouteEntry is a row of the route table, for tests.
type RouteEntry struct {
	Method, Path string
	Roles        []adminservice.Role
}

// RouteTable is the route table.
func RouteTable() []RouteEntry {
	var list []RouteEntry
	for _, r := range (&Server{}).routeTable() {
		list = append(list, RouteEntry{r.method, r.path, r.allowed})
	}
	return list
}
