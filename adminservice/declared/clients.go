package declared

import (
	"slices"
	"strings"

	"github.com/opencmg/opencmg/adminservice"
)

// What clients are told: boundary groups and client settings.

const nextLocation = "nothing: management points have it within a second, clients with their next location request"

func (p *planner) boundaryGroups() {
	known := func(list *[]string, c *Change) bool {
		if list == nil {
			return true
		}
		for _, name := range *list {
			if !p.has(kindGateway, name) && !p.has(kindRole, name) {
				c.refused("siteSystems: there is neither a gateway nor a site role %q on the site or in the file", name)
				return false
			}
			if p.comes(name) {
				c.Action, c.Reason = Waiting, "it names "+name+", which has not joined yet: join it, then apply again"
				return false
			}
		}
		return true
	}
	if v, cur := p.d.DefaultBoundaryGroup, p.cur.DefaultBoundaryGroup; v != nil && cur != nil {
		c := Change{Action: Update, Kind: kindGroup, Name: adminservice.DefaultBoundaryGroupName(p.s.site.Code), Cost: CostNone}
		if c.Fields, _ = differences(v, cur); len(c.Fields) > 0 {
			if known(v.SiteSystems, &c) {
				c.costs(CostNone, nextLocation)
				p.patches(&c, c.Name, v, cur, nil)
			}
			p.add(c)
		}
	}
	compare(p, section[BoundaryGroup]{
		kind: kindGroup, declared: p.d.BoundaryGroups, current: p.cur.BoundaryGroups, key: func(v *BoundaryGroup) string { return v.Name },
		create: func(v *BoundaryGroup, c *Change) {
			if known(v.SiteSystems, c) {
				c.costs(CostNone, nextLocation)
				c.posts("BoundaryGroups", func(*run) (any, error) { return values(v, v), nil })
			}
		},
		change: func(v, cur *BoundaryGroup, c *Change) {
			if len(c.Fields) > 0 && known(v.SiteSystems, c) {
				c.costs(CostNone, nextLocation)
				p.patches(c, v.Name, v, cur, nil)
			}
		},
		remove: func(_ *BoundaryGroup, c *Change) { c.costs(CostNone, nextLocation) },
	})
}

// comes reports whether a site role is declared that has yet to join.
func (p *planner) comes(name string) bool {
	if _, there := p.objects[objectKey(kindRole, name)]; there {
		return false
	}
	return slices.ContainsFunc(p.d.SiteRoles, func(r SiteRole) bool { return strings.EqualFold(r.Name, name) && r.Own != nil && *r.Own })
}

func (p *planner) clientSettings() {
	v, cur := p.d.ClientSettings, p.cur.ClientSettings
	if v == nil {
		return
	}
	c := Change{Action: Update, Kind: kindSettings, Name: adminservice.DefaultClientSettingsName, Cost: CostNone}
	if c.Fields, _ = differences(v, cur); len(c.Fields) == 0 {
		return
	}
	for _, f := range c.Fields {
		if f.Name == "allowCloudManagementGateway" && f.New == "false" {
			c.costs(CostOutage, "clients do not use gateways any more, and learn of another decision only inside")
		}
	}
	c.costs(CostNone, "management points have it within a second, clients with their next policy request")
	p.patches(&c, c.Name, v, cur, nil)
	p.add(c)
}
