package console

import (
	"net/url"
	"slices"
	"strings"

	"github.com/opencmg/opencmg/adminservice"
)

// Boundary groups and client settings: what clients are told.

func boundaryGroupViews() []view {
	return []view{
		{pattern: "boundary-groups", node: "boundary-groups", title: "Boundary groups", template: "boundary-groups", load: func(v *Visit) (any, error) {
			found, err := some[adminservice.BoundaryGroup](v, "boundary-groups", "BoundaryGroups", nil)
			if err != nil {
				return nil, err
			}
			names, err := systemNames(v)
			return boundaryGroupsPage{found, names}, err
		}},
		{pattern: "boundary-groups/new", node: "boundary-groups", title: "Create a boundary group", template: "boundary-group-new", load: func(v *Visit) (any, error) {
			names, err := systemNames(v)
			return boundaryGroupPage{Systems: names}, err
		}},
		{pattern: "boundary-groups/{id}", node: "boundary-groups", title: "Boundary group", template: "boundary-group", load: loadBoundaryGroup},
		{pattern: "client-settings", node: "client-settings", title: "Client settings", template: "client-settings", load: func(v *Visit) (any, error) {
			return get[adminservice.ClientSettings](v, "ClientSettings/0")
		}},
	}
}

func boundaryGroupActions() []action {
	return []action{
		{pattern: "boundary-groups/new", page: "boundary-groups/new", fields: fieldNames{"siteSystems": "system"}, do: func(v *Visit) (string, string, error) {
			g := adminservice.BoundaryGroup{Name: v.Form("name"), Description: v.Form("description"), Boundaries: words(v.Form("boundaries")), SiteSystems: ticked(v, "system"), PreferCloud: v.Checked("preferCloud")}
			var made adminservice.BoundaryGroup
			err := v.Do("POST", "BoundaryGroups", g, &made)
			return "boundary-groups/" + made.ID, "The boundary group is there.", err
		}},
		{pattern: "boundary-groups/{id}", page: "boundary-groups/{id}", fields: fieldNames{"siteSystems": "system"}, do: func(v *Visit) (string, string, error) {
			name, description, prefer, include := v.Form("name"), v.Form("description"), v.Checked("preferCloud"), v.Checked("includeCloudSources")
			systems := ticked(v, "system")
			change := adminservice.BoundaryGroupChange{Description: &description, SiteSystems: &systems, PreferCloud: &prefer}
			if v.Form("default") != "" {
				change.IncludeCloudSources = &include
			} else {
				boundaries := words(v.Form("boundaries"))
				if boundaries == nil {
					boundaries = []string{}
				}
				change.Name, change.Boundaries = &name, &boundaries
			}
			page := "boundary-groups/" + url.PathEscape(v.ID())
			return page, "The changes are kept. Clients learn of them with their next location request.", v.change("BoundaryGroups/"+url.PathEscape(v.ID()), page, change)
		}},
		{pattern: "boundary-groups/{id}/delete", page: "boundary-groups/{id}", do: func(v *Visit) (string, string, error) {
			g, err := get[adminservice.BoundaryGroup](v, "BoundaryGroups/"+v.ID())
			if err != nil {
				return "", "", err
			}
			if err := typedName(v, g.Name); err != nil {
				return "", "", err
			}
			return "boundary-groups", g.Name + " is deleted.", v.Do("DELETE", "BoundaryGroups/"+g.ID, nil, nil)
		}},
		{pattern: "client-settings", page: "client-settings", do: changeSettings},
	}
}

// ticked are the values of the boxes of a name; never nil.
func ticked(v *Visit, name string) []string {
	return append([]string{}, v.Request.PostForm[name]...)
}

// boundaryGroupsPage is what the list shows.
type boundaryGroupsPage struct {
	somePage[adminservice.BoundaryGroup]
	Systems []systemName
}

// boundaryGroupPage is what the pages show that make or change a group.
type boundaryGroupPage struct {
	Group   adminservice.BoundaryGroup
	Systems []systemName
}

// A systemName is a gateway or role that a group may have.
type systemName struct{ ID, Name, Kind string }

func systemNames(v *Visit) ([]systemName, error) {
	gateways, err := list[adminservice.Gateway](v, "Gateways?$orderby=name")
	if err != nil {
		return nil, err
	}
	roles, err := list[adminservice.SiteRole](v, "SiteRoles?$orderby=name")
	var names []systemName
	for _, g := range gateways {
		names = append(names, systemName{g.ID, g.Name, "gateway"})
	}
	for _, r := range roles {
		names = append(names, systemName{r.Name, r.Name, strings.ToLower(kindName(r.Kind))})
	}
	return names, err
}

func loadBoundaryGroup(v *Visit) (any, error) {
	g, err := get[adminservice.BoundaryGroup](v, "BoundaryGroups/"+v.ID())
	if err != nil {
		return nil, err
	}
	names, err := systemNames(v)
	return boundaryGroupPage{g, names}, err
}

// Chosen reports whether a system is in the group, or was ticked in a form that
// was not done.
func (p *Page) Chosen(name, value string, now []string) bool {
	if p.TicksSent() {
		now = p.Request.PostForm[name]
	}
	return slices.Contains(now, value)
}

func changeSettings(v *Visit) (string, string, error) {
	gateway, content, join := v.Checked("gateway"), v.Checked("content"), v.Checked("join")
	c := adminservice.ClientSettingsChange{AllowCloudManagementGateway: &gateway, AllowCloudDistributionPoint: &content, AutoAzureADJoin: &join}
	for name, to := range map[string]**int{"policyMinutes": &c.PolicyMinutes, "locationMinutes": &c.LocationMinutes, "inventoryMinutes": &c.InventoryMinutes, "discoveryMinutes": &c.DiscoveryMinutes, "stateMinutes": &c.StateMinutes, "keepAliveMinutes": &c.KeepAliveMinutes} {
		n, err := formNumber(v, name)
		if err != nil {
			return "", "", err
		}
		*to = &n
	}
	return "client-settings", "The settings are kept. Clients get them with their next policy.", v.change("ClientSettings/0", "client-settings", c)
}
