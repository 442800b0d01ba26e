package site

import "github.com/opencmg/opencmg/adminservice"

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
