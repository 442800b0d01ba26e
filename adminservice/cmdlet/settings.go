package cmdlet

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// What client settings and boundary groups have to do with gateways.

const (
	classSettings       = "SMS_ClientSettings"
	classGroup          = "SMS_BoundaryGroup"
	classDefaultGroup   = "SMS_DefaultBoundaryGroup"
	classGroupSystem    = "SMS_BoundaryGroupSiteSystems"
	settingsCloud       = "Cloud"
	settingsTypeDefault = "Default"
)

// clientSettings finds the settings that the call names. A site has one object,
// for all clients: there are no collections to deploy others to.
func (r *run) clientSettings() (*adminservice.ClientSettings, error) {
	all, err := list[adminservice.ClientSettings](r, "ClientSettings")
	if err != nil {
		return nil, err
	}
	name := r.Text("Name")
	if o, ok := r.Values["InputObject"].(Object); ok {
		if err := wrongClass(r.Cmdlet.Name, o, classSettings); err != nil {
			return nil, err
		}
		if name = o.Text(nameProperty); name == "" {
			name = o.Text("Name")
		}
	}
	var has []string
	for _, s := range all {
		if name == "" && !r.Given("InputObject") || strings.EqualFold(s.Name, name) {
			return &s, nil
		}
		has = append(has, s.Name)
	}
	return nil, r.none("set of client settings", name, has)
}

func settingsObject(s *adminservice.ClientSettings) Object {
	return Object{
		ClassProperty: classSettings, "SettingsID": s.ID, "Name": s.Name, "Type": settingsTypeDefault,
		"AllowCloudManagementGateway": s.AllowCloudManagementGateway, "AllowCloudDistributionPoint": s.AllowCloudDistributionPoint, "AutoAzureADJoin": s.AutoAzureADJoin,
	}
}

func setClientSetting(r *run) error {
	s, err := r.clientSettings()
	if err != nil {
		return err
	}
	change := adminservice.ClientSettingsChange{
		AllowCloudManagementGateway: pick[bool](r.Bound, "AllowCloudManagementGateway"),
		AllowCloudDistributionPoint: pick[bool](r.Bound, "AllowCloudDistributionPoint"), AutoAzureADJoin: pick[bool](r.Bound, "AutoAzureADJoin"),
	}
	if ok, err := r.should(s.Name, false); !ok {
		return err
	}
	path := pathID("ClientSettings", s.ID)
	if change != (adminservice.ClientSettingsChange{}) {
		if err := r.host.Client.Change(r.ctx, http.MethodPatch, path, s.Version, change, s); err != nil {
			return err
		}
	}
	if !r.Flag("PassThru") {
		return nil
	}
	return r.emit(settingsObject(s))
}

func getClientSettings(r *run) error {
	// Of the groups of settings the site has the one for cloud services, and of
	// the types the default one.
	if v := r.Text("Setting"); v != "" && v != settingsCloud {
		return nil
	}
	if v := r.Text("SettingType"); v != "" && v != settingsTypeDefault {
		return nil
	}
	all, err := list[adminservice.ClientSettings](r, "ClientSettings")
	if err != nil {
		return err
	}
	for _, s := range all {
		if !r.matcher("Name")(s.Name) || !r.matcher("Id")(s.ID) {
			continue
		}
		if err := r.emit(settingsObject(&s)); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) groups() ([]adminservice.BoundaryGroup, error) {
	return list[adminservice.BoundaryGroup](r, "BoundaryGroups")
}

func groupObject(g *adminservice.BoundaryGroup) Object {
	o := Object{
		ClassProperty: classGroup, "GroupID": g.ID, "Name": g.Name, "Description": g.Description, "PreferCloudDPOverDP": g.PreferCloud,
		"Boundaries": toAny(g.Boundaries), "SiteSystems": toAny(g.SiteSystems),
	}
	if g.Default {
		o[ClassProperty], o["IncludeCloudBasedSources"], o["PreferCloudBasedSources"] = classDefaultGroup, g.IncludeCloudSources, g.PreferCloud
	}
	return o
}

func toAny(list []string) []any {
	all := []any{}
	for _, s := range list {
		all = append(all, s)
	}
	return all
}

// systemNames are the site systems that a list of names and one of objects mean:
// gateways by ID, others by name.
func (r *run) systemNames(names, objects string) ([]string, error) {
	wanted, _ := r.Values[names].([]string)
	wanted = slices.Clone(wanted)
	given, _ := r.Values[objects].([]Object)
	for _, o := range given {
		switch {
		case o.Text(nameProperty) != "":
			wanted = append(wanted, o.Text(nameProperty))
		case strings.EqualFold(o.Class(), classGateway):
			wanted = append(wanted, o.Text("ServiceCName"))
		default:
			if err := wrongClass(r.Cmdlet.Name+" -"+objects, o, classSystem); err != nil {
				return nil, err
			}
			if server(o) == "" {
				return nil, opencmg.Errorf(opencmg.Invalid, "%s -%s: the object has no NetworkOSPath: give what Get-CMSiteSystemServer returns", r.Cmdlet.Name, objects)
			}
			wanted = append(wanted, server(o))
		}
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	gateways, err := r.wmi(classGateway)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, w := range wanted {
		for _, g := range gateways {
			if slices.ContainsFunc(gatewayNames, func(p string) bool { return strings.EqualFold(g.Text(p), w) }) {
				w = g.Text("AzureServiceID")
			}
		}
		list = append(list, w)
	}
	return list, nil
}

func newBoundaryGroup(r *run) error {
	systems, err := r.systemNames("AddSiteSystemServerName", "AddSiteSystemServer")
	if err != nil {
		return err
	}
	in := adminservice.BoundaryGroup{Name: r.Text("Name"), SiteSystems: systems, PreferCloud: r.Flag("PreferCloudDPOverDP")}
	in.Boundaries, _ = r.Values["Boundary"].([]string)
	if ok, err := r.should(in.Name, false); !ok {
		return err
	}
	made, err := post[adminservice.BoundaryGroup](r, "BoundaryGroups", in)
	if err != nil {
		return err
	}
	return r.emit(groupObject(&made))
}

// group finds the boundary group that the call means.
func (r *run) group() (*adminservice.BoundaryGroup, error) {
	groups, err := r.groups()
	if err != nil {
		return nil, err
	}
	name, id := r.Text("Name"), r.Text("Id")
	if o, ok := r.Values["InputObject"].(Object); ok {
		if name = o.Text(nameProperty); name == "" {
			if c := o.Class(); !strings.EqualFold(c, classDefaultGroup) {
				if err := wrongClass(r.Cmdlet.Name, o, classGroup); err != nil {
					return nil, err
				}
			}
			id = o.Text("GroupID")
		}
	}
	var has []string
	for _, g := range groups {
		if id != "" && g.ID == id || id == "" && strings.EqualFold(g.Name, name) {
			return &g, nil
		}
		has = append(has, g.Name)
	}
	if name == "" {
		name = id
	}
	return nil, r.none("boundary group", name, has)
}

func setBoundaryGroup(r *run) error {
	g, err := r.group()
	if err != nil {
		return err
	}
	add, err := r.systemNames("AddSiteSystemServerName", "AddSiteSystemServer")
	if err != nil {
		return err
	}
	drop, err := r.systemNames("RemoveSiteSystemServerName", "RemoveSiteSystemServer")
	if err != nil {
		return err
	}
	change := adminservice.BoundaryGroupChange{PreferCloud: pick[bool](r.Bound, "PreferCloudDPOverDP"), Boundaries: pick[[]string](r.Bound, "Boundary")}
	if len(add)+len(drop) > 0 || r.Flag("ClearSiteSystemServer") {
		now := g.SiteSystems
		if r.Flag("ClearSiteSystemServer") {
			now = nil
		}
		systems := append([]string{}, merge(now, add, drop)...)
		change.SiteSystems = &systems
	}
	if ok, err := r.should(g.Name, false); !ok {
		return err
	}
	return r.changeGroup(g, change)
}

func (r *run) changeGroup(g *adminservice.BoundaryGroup, change adminservice.BoundaryGroupChange) error {
	if change != (adminservice.BoundaryGroupChange{}) {
		if err := r.host.Client.Change(r.ctx, http.MethodPatch, pathID("BoundaryGroups", g.ID), g.Version, change, g); err != nil {
			return err
		}
	}
	if !r.Flag("PassThru") {
		return nil
	}
	return r.emit(groupObject(g))
}

// getBoundaryGroupSystems lists the site systems that groups refer to.
func getBoundaryGroupSystems(r *run) error {
	groups, err := r.groups()
	if err != nil {
		return err
	}
	gateways, err := r.wmi(classGateway)
	if err != nil {
		return err
	}
	ids, byID := r.Values["Id"].([]string)
	in, byObject := r.Values["InputObject"].(Object)
	for _, g := range groups {
		switch {
		case byID && !slices.Contains(ids, g.ID),
			byObject && in.Text("GroupID") != g.ID && !strings.EqualFold(in.Text(nameProperty), g.Name),
			!r.matcher("GroupName")(g.Name):
			continue
		}
		for _, s := range g.SiteSystems {
			for _, o := range gateways {
				if o.Text("AzureServiceID") == s {
					s = o.Text("ServiceCName")
				}
			}
			if err := r.emit(Object{ClassProperty: classGroupSystem, "GroupID": g.ID, "GroupName": g.Name, "ServerNALPath": `\\` + s, "NetworkOSPath": `\\` + s}); err != nil {
				return err
			}
		}
	}
	return nil
}

func setDefaultBoundaryGroup(r *run) error {
	if err := r.onSite(); err != nil {
		return err
	}
	groups, err := r.groups()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(groups, func(g adminservice.BoundaryGroup) bool { return g.Default })
	if i < 0 {
		return r.none("default boundary group", "", nil)
	}
	g := &groups[i]
	if name := r.Text("Name"); name != "" && !strings.EqualFold(name, g.Name) {
		return r.none("default boundary group", name, []string{g.Name})
	}
	if id, ok := r.Values["GroupId"].(int); ok && fmt.Sprint(id) != g.ID {
		return r.none("default boundary group", fmt.Sprint(id), []string{g.Name + " (" + g.ID + ")"})
	}
	change := adminservice.BoundaryGroupChange{IncludeCloudSources: pick[bool](r.Bound, "IncludeCloudBasedSources"), PreferCloud: pick[bool](r.Bound, "PreferCloudBasedSources")}
	if ok, err := r.should(g.Name, false); !ok {
		return err
	}
	return r.changeGroup(g, change)
}
