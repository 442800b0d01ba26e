package cmdlet

import (
	"net/http"
	"slices"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

const (
	classSystem = "SMS_SCI_SysResUse"

	rolePoint             = "SMS Cloud Proxy Connector"
	roleServiceConnection = "SMS Dmp Connector"
	roleSiteSystem        = "SMS Site System"
)

// server is the name of the site system that an object is about.
func server(o Object) string { return strings.TrimPrefix(o.Text("NetworkOSPath"), `\\`) }

// systems are the site's roles that keep accepts.
func (r *run) systems(keep func(Object) bool) ([]Object, error) {
	all, err := r.wmi(classSystem)
	return slices.DeleteFunc(all, func(o Object) bool { return !keep(o) }), err
}

// inputServer is the server that InputObject means; empty when there is none.
func (r *run) inputServer(parameter string) (string, error) {
	o, ok := r.Values[parameter].(Object)
	if !ok {
		return "", nil
	}
	if name := o.Text(nameProperty); name != "" {
		return name, nil
	}
	if err := wrongClass(r.Cmdlet.Name, o, classSystem); err != nil {
		return "", err
	}
	if server(o) == "" {
		return "", opencmg.Errorf(opencmg.Invalid, "%s: the object has no NetworkOSPath: pipe in what Get-CMSiteSystemServer returned", r.Cmdlet.Name)
	}
	return server(o), nil
}

// serverName is the server of this site that the call names, by object or by
// name.
func (r *run) serverName() (string, error) {
	if err := r.onSite(); err != nil {
		return "", err
	}
	name, err := r.inputServer("InputObject")
	if err == nil && name == "" {
		name = r.Text("SiteSystemServerName")
	}
	if err == nil && name == "" {
		err = opencmg.Errorf(opencmg.Invalid, "%s: no server is named: give -SiteSystemServerName, or pipe in what Get-CMSiteSystemServer returns", r.Cmdlet.Name)
	}
	return name, err
}

// byServer lists the roles of a kind on the servers that the call names; all
// when it names none.
func (r *run) byServer(role func(string) bool) ([]Object, error) {
	if err := r.onSite(); err != nil {
		return nil, err
	}
	match := r.matcher("SiteSystemServerName")
	name, err := r.inputServer("InputObject")
	if err != nil {
		return nil, err
	}
	if name != "" {
		match = matchName(name, false)
	}
	return r.systems(func(o Object) bool { return role(o.Text("RoleName")) && match(server(o)) })
}

func getPoints(r *run) error {
	return r.emitAll(r.byServer(func(role string) bool { return role == rolePoint }))
}

func getSiteRoles(r *run) error {
	match := r.matcher("RoleName")
	return r.emitAll(r.byServer(func(role string) bool { return match(role) }))
}

func getServiceConnectionPoints(r *run) error {
	return r.emitAll(r.byServer(func(role string) bool { return role == roleServiceConnection }))
}

// getSiteSystems lists every server with a role once, and the gateways, which
// are site systems too.
func getSiteSystems(r *run) error {
	roles, err := r.byServer(func(string) bool { return true })
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, o := range roles {
		if seen[strings.ToLower(server(o))] {
			continue
		}
		seen[strings.ToLower(server(o))] = true
		if err := r.emit(siteSystem(server(o), o.Text("SiteCode"))); err != nil {
			return err
		}
	}
	match := r.matcher("SiteSystemServerName")
	if name, _ := r.inputServer("InputObject"); name != "" {
		match = matchName(name, false)
	}
	gateways, err := r.wmi(classGateway)
	if err != nil {
		return err
	}
	for _, g := range gateways {
		if !match(g.Text("Name"), g.Text("Fqdn"), g.Text("ServiceCName")) {
			continue
		}
		if err := r.emit(siteSystem(g.Text("ServiceCName"), g.Text("SiteCode"))); err != nil {
			return err
		}
	}
	return nil
}

func siteSystem(name, site string) Object {
	return Object{ClassProperty: classSystem, "RoleName": roleSiteSystem, "NetworkOSPath": `\\` + name, "SiteCode": site, "Props": []any{}}
}

// point finds the connection point on the server that the call names.
func (r *run) point() (*adminservice.ConnectionPoint, error) {
	name, err := r.serverName()
	if err != nil {
		return nil, err
	}
	p, has, err := r.findPoint(name)
	if err == nil && p == nil {
		err = r.none("connection point", name, has)
	}
	return p, err
}

func (r *run) findPoint(name string) (*adminservice.ConnectionPoint, []string, error) {
	points, err := list[adminservice.ConnectionPoint](r, "ConnectionPoints")
	var has []string
	for _, p := range points {
		if strings.EqualFold(p.Name, name) {
			return &p, nil, err
		}
		has = append(has, p.Name)
	}
	return nil, has, err
}

func (r *run) emitPoint(name string) error {
	points, err := r.systems(func(o Object) bool { return o.Text("RoleName") == rolePoint && strings.EqualFold(server(o), name) })
	return r.emitAll(points, err)
}

// addPoint links the connection point of a server to a gateway. A server that
// has none yet gets a join token: the role is a program that its administrator
// starts there, and nothing here can reach in to do it.
func addPoint(r *run) error {
	name, err := r.serverName()
	if err != nil {
		return err
	}
	gateway, err := r.gatewayID(r.Text("CloudManagementGatewayName"))
	if err != nil {
		return err
	}
	p, _, err := r.findPoint(name)
	if err != nil {
		return err
	}
	file := r.Text("JoinTokenFile")
	switch {
	case p != nil && p.GatewayID != "":
		return opencmg.Errorf(opencmg.Conflict, "%s: %s has a connection point, which serves a gateway already: point it at another one with Set-CMCloudManagementGatewayConnectionPoint", r.Cmdlet.Name, name)
	case p == nil && file != "" && r.host.WriteSecret == nil:
		return opencmg.Errorf(opencmg.Invalid, "%s -JoinTokenFile: files can not be written here: take the property JoinToken of the result", r.Cmdlet.Name)
	}
	if ok, err := r.should(name, false); !ok {
		return err
	}
	if p != nil {
		if err := r.link(p, gateway); err != nil {
			return err
		}
		return r.emitPoint(name)
	}
	t, err := post[adminservice.JoinTokenRecord](r, "JoinTokens", adminservice.JoinTokenRecord{Kind: adminservice.SystemConnectionPoint, GatewayID: gateway, Uses: 1})
	if err != nil {
		return err
	}
	site, err := get[adminservice.Site](r, "Site")
	if err != nil {
		return err
	}
	o := siteSystem(name, string(site.Code))
	o["RoleName"] = rolePoint
	o["Props"] = []any{map[string]any{"PropertyName": "ProxyName", "Value": 0.0, "Value1": gateway, "Value2": ""}}
	where := "the property JoinToken of the result"
	if file != "" {
		if err := r.host.WriteSecret(file, []byte(t.Token+"\n")); err != nil {
			return err
		}
		where = file
	} else {
		o["JoinToken"] = t.Token
	}
	r.host.Warn("no connection point has joined from " + name + " yet. Its join token, good for one host and until " + t.Expires.Format("2006-01-02 15:04 MST") + ", is in " + where +
		". Take it there in a file, and run: opencmg connection-point join --site-token-file FILE --name " + name)
	return r.emit(o)
}

func (r *run) link(p *adminservice.ConnectionPoint, gateway string) error {
	return r.host.Client.Change(r.ctx, http.MethodPatch, pathID("ConnectionPoints", p.ID), p.Version, adminservice.ConnectionPointChange{GatewayID: &gateway}, nil)
}

func setPoint(r *run) error {
	p, err := r.point()
	if err != nil {
		return err
	}
	gateway, err := r.gatewayID(r.Text("CloudManagementGatewayName"))
	if err != nil {
		return err
	}
	if ok, err := r.should(p.Name, false); !ok {
		return err
	}
	if err := r.link(p, gateway); err != nil || !r.Flag("PassThru") {
		return err
	}
	return r.emitPoint(p.Name)
}

func removePoint(r *run) error {
	p, err := r.point()
	if err != nil {
		return err
	}
	if ok, err := r.should(p.Name, true); !ok {
		return err
	}
	return r.host.Client.Do(r.ctx, http.MethodDelete, pathID("ConnectionPoints", p.ID), nil, nil)
}
