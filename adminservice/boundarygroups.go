package adminservice

import "github.com/opencmg/opencmg"

// A BoundaryGroup joins network locations with the gateways and other site
// systems that clients there are told (cmg-behaviour K9). Clients on the
// internet are in none. A client is in every group that has a boundary with its
// address as the management point sees it, and in the default group when it is
// in no other one.
type BoundaryGroup struct {
	ID          string `json:"id"` // a number
	Version     int64  `json:"version"`
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	// Boundaries are CIDR prefixes of either family, such as 10.0.0.0/8 or
	// 2001:db8::/32; at most 1,000. The default group has none.
	Boundaries []string `json:"boundaries,omitempty"`
	// SiteSystems are the gateways of the group, by ID, and its site roles, by
	// name; at most 1,000. A request may name gateways too. Names of roles are
	// kept for administrators; a management point tells clients about itself.
	SiteSystems []string `json:"siteSystems,omitempty"`
	// PreferCloud is "prefer cloud based sources over on-premises sources": a
	// client in any group that has it is told gateways before management points.
	PreferCloud bool `json:"preferCloud"`
	// IncludeCloudSources lets clients that are in no other group use the site's
	// gateways while they are inside. Only the default group has it, and has it
	// on at first. Clients learn gateways for the time when they are outside in
	// any case.
	IncludeCloudSources bool `json:"includeCloudSources,omitempty"`
	Default             bool `json:"default"` // read only
}

// A BoundaryGroupChange changes a [BoundaryGroup] (PATCH BoundaryGroups/{id}). A
// key that is missing leaves what it names as it is.
type BoundaryGroupChange struct {
	Name                *string   `json:"name,omitempty"`
	Description         *string   `json:"description,omitempty"`
	Boundaries          *[]string `json:"boundaries,omitempty"`
	SiteSystems         *[]string `json:"siteSystems,omitempty"`
	PreferCloud         *bool     `json:"preferCloud,omitempty"`
	IncludeCloudSources *bool     `json:"includeCloudSources,omitempty"`
}

// DefaultBoundaryGroupName is the name of the default group of a site.
func DefaultBoundaryGroupName(site opencmg.SiteCode) string {
	return "Default-Site-Boundary-Group<" + string(site) + ">"
}

// Locations are the boundary groups as a management point needs them.
type Locations struct {
	Groups []LocationGroup `json:"groups,omitempty"`
	// Default is for clients that no group has.
	Default LocationGroup `json:"default"`
}

// A LocationGroup is one boundary group of [Locations].
type LocationGroup struct {
	Name       string   `json:"name"`
	Boundaries []string `json:"boundaries,omitempty"` // CIDR prefixes
	// Gateways are the service names, with a port unless 443, that clients may
	// use while they are inside.
	Gateways    []string `json:"gateways,omitempty"`
	PreferCloud bool     `json:"preferCloud,omitempty"`
}
