package site

import (
	"context"
	"runtime"

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

// StartOperation does what the cloud service manager does with an operation that
// it found to be open.
func (s *Server) StartOperation(ctx context.Context, id string) {
	s.manager.start(ctx, id)
	for busy := true; busy; runtime.Gosched() {
		s.manager.mu.Lock()
		busy = s.manager.running[id]
		s.manager.mu.Unlock()
	}
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

// ChecklistIDs are the IDs of the checklist's items.
func ChecklistIDs() []string {
	var ids []string
	for _, i := range checklistItems {
		ids = append(ids, i.id)
	}
	return ids
}

// Changes is what a listener of the console hears.
func Changes(s *Server, ctx context.Context) <-chan struct{} { return s.changes(ctx) }
