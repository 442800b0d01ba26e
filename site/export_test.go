package site

import (
	"context"
	"net/url"
	"runtime"
	"time"

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

// WaitForOnline sets how long answers wait for management points to say who is
// online.
func (s *Server) WaitForOnline(d time.Duration) { s.onlineWait = d }

// WaitForRecords sets how long an explanation waits for those who may know of a
// request.
func (s *Server) WaitForRecords(d time.Duration) { s.explainWait = d }

// WaitForConfiguration sets how long an analysis waits for instances to have the
// configuration of the site.
func (s *Server) WaitForConfiguration(d time.Duration) { s.settles = d }

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

// EntraApps are the IDs and tenants' names of the apps to sign in through.
func (s *Server) EntraApps(ctx context.Context) (ids, tenants []string, err error) {
	apps, err := s.entraApps(ctx)
	for _, a := range apps {
		ids, tenants = append(ids, a.ID), append(tenants, a.Tenant)
	}
	return ids, tenants, err
}

// BeginEntra begins a sign-in by Entra.
func (s *Server) BeginEntra(ctx context.Context, app string) (target, pending string, err error) {
	return s.beginEntra(ctx, app, "")
}

// CompleteEntra completes it and returns the account's name and role.
func (s *Server) CompleteEntra(ctx context.Context, pending string, query url.Values) (string, adminservice.Role, error) {
	p, err := s.openPending(pending)
	if err != nil {
		return "", "", err
	}
	a, err := s.completeEntra(ctx, p, query)
	if err != nil {
		return "", "", err
	}
	return a.Name, a.Value.Role, nil
}

// Changes is what a listener of the console hears.
func Changes(s *Server, ctx context.Context) <-chan struct{} { return s.changes(ctx) }

// Waits reports whether a system waits at the site for documents.
func Waits(s *Server, id string) bool {
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	return s.live.waiting[id] > 0
}

// PublishedVersion is that of the latest configuration of a gateway.
func (s *Server) PublishedVersion(gateway string) uint64 { return s.publisher.version(gateway) }
