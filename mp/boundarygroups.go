package mp

import (
	"net/http"
	"net/netip"
	"strings"

	"github.com/opencmg/opencmg/ccm"
)

// Locations are the site's boundary groups (cmg-behaviour K9): which gateways
// clients may use while they are inside. Callers on the internet are in none.
type Locations struct {
	Groups []LocationGroup
	// Default is for callers that no group has.
	Default LocationGroup
}

// A LocationGroup is a boundary group. A caller is in it when its address, as
// this server sees it, is in one of the boundaries.
type LocationGroup struct {
	Name        string
	Boundaries  []netip.Prefix
	Gateways    []string // service names, as in Config.Gateways
	PreferCloud bool     // gateways go before management points
}

// UseLocations replaces Config.Locations.
func (s *Server) UseLocations(l *Locations) { s.groups.Store(l) }

// of returns the groups of an address.
func (l *Locations) of(addr netip.Addr) (in []*LocationGroup) {
	for i := range l.Groups {
		for _, p := range l.Groups[i].Boundaries {
			if p.Contains(addr) {
				in = append(in, &l.Groups[i])
				break
			}
		}
	}
	if in == nil {
		in = append(in, &l.Default)
	}
	return in
}

// sourcesInside returns the gateways that a caller inside may use there, and
// whether they go before this server. One group that prefers them decides.
func (s *Server) sourcesInside(x *exchange) (list []Gateway, first bool) {
	l := s.groups.Load()
	if l == nil || x.outside() {
		return nil, false
	}
	groups := l.of(x.addr)
	for _, g := range s.gateways() {
		for _, group := range groups {
			if contains(group.Gateways, g.ServiceName) {
				list = append(list, g)
				break
			}
		}
	}
	for _, group := range groups {
		x.note("boundary group %s", group.Name)
		first = first || group.PreferCloud
	}
	return list, first
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// managementPointsFor is managementPoints for a caller: one inside is told the
// gateways that it may use there by records without a name inside. Those with
// both names tell every caller where to go from the internet.
func (s *Server) managementPointsFor(x *exchange) []ccm.ManagementPoint {
	list := s.managementPoints()
	gateways, first := s.sourcesInside(x)
	var cloud []ccm.ManagementPoint
	for _, g := range gateways {
		m := s.here(g)
		m.IntranetName = ""
		cloud = append(cloud, m)
	}
	if first {
		return append(cloud, list...)
	}
	return append(list, cloud...)
}

// addressOf is where a request comes from.
func addressOf(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap().WithZone("")
}
