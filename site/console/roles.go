package console

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// Site system roles: what is published through the gateways.

func roleViews() []view {
	return []view{
		{pattern: "roles", node: "roles", title: "Site system roles", template: "roles", load: loadRoles},
		{pattern: "roles/join", node: "roles", title: "Add a management point", template: "role-join", load: func(v *Visit) (any, error) {
			return loadJoin(v, adminservice.SystemManagementPoint)
		}},
		{pattern: "roles/new", node: "roles", title: "Publish a role", template: "role-new", load: loadNewRole},
		{pattern: "roles/{id}", node: "roles", title: "Site system role", template: "role", load: loadRole},
	}
}

func roleActions() []action {
	traffic := func(on bool, said string) func(*Visit) (string, string, error) {
		return func(v *Visit) (string, string, error) {
			return v.Form("back"), said, v.Do("PATCH", rolePath(v), adminservice.SiteRoleChange{AllowGatewayTraffic: &on}, nil)
		}
	}
	return []action{
		{pattern: "roles/new", page: "roles/new", do: addRole},
		{pattern: "roles/{id}", page: "roles/{id}", do: changeRole},
		{pattern: "roles/{id}/allow", page: "roles", do: traffic(true, "Gateway traffic is allowed: clients on the internet reach the role as soon as the gateways have the new configuration.")},
		{pattern: "roles/{id}/refuse", page: "roles", do: traffic(false, "Gateway traffic is refused: the role is no longer published.")},
		{pattern: "roles/{id}/delete", page: "roles/{id}", do: func(v *Visit) (string, string, error) {
			r, err := findRole(v)
			if err != nil {
				return "", "", err
			}
			if err := typedName(v, r.Name); err != nil {
				return "", "", err
			}
			return "roles", r.Name + " is deleted and no longer published.", v.Do("DELETE", rolePath(v), nil, nil)
		}},
	}
}

// A roleKind is a kind of role with the words for it.
type roleKind struct{ ID, Name, Help string }

var roleKinds = []roleKind{
	{opencmg.KindManagementPoint, "Configuration Manager management point", "One that the hierarchy has already. Ours joins with a token instead."},
	{opencmg.KindSoftwareUpdatePoint, "Software update point", "The WSUS site, such as http://wsus.corp.example:8530."},
	{adminservice.KindAdminService, "Administration service", "For administrators and consoles on the internet that sign in with Entra."},
	{opencmg.KindService, "Another internal service", "Any internal web application or API, below a path of its own."},
}

func kindName(kind string) string {
	for _, k := range roleKinds {
		if k.ID == kind {
			return k.Name
		}
	}
	return kind
}

// A roleRow is a role as its pages show it.
type roleRow struct {
	adminservice.SiteRole
	KindName string
	External []externalURL
	Back     string // the page to come back to, below Path
}

// An externalURL is where clients on the internet reach a role.
type externalURL struct{ Gateway, URL, By string }

func rowOfRole(r adminservice.SiteRole, gateways []adminservice.Gateway, back string) roleRow {
	row := roleRow{SiteRole: r, KindName: kindName(r.Kind), Back: back}
	if r.Own {
		row.KindName = "Management point of OpenCMG"
	}
	if !r.AllowGatewayTraffic {
		return row
	}
	for _, g := range gateways {
		base := "https://" + g.ServiceName
		if r.Kind == opencmg.KindService {
			row.External = append(row.External, externalURL{g.Name, base + r.Prefix, ""})
			continue
		}
		var cert, token bool
		for _, e := range endpointsOf(&r) {
			cert = cert || slices.Contains(e.Auth, opencmg.AuthPKI)
			token = token || slices.ContainsFunc(e.Auth, opencmg.AuthMode.ByToken)
		}
		if cert {
			row.External = append(row.External, externalURL{g.Name, base + opencmg.MutualAuthPrefix + string(r.RoleID), "client certificate"})
		}
		if token {
			row.External = append(row.External, externalURL{g.Name, base + opencmg.ServerAuthPrefix + string(r.RoleID), "token"})
		}
	}
	return row
}

// endpointsOf are the endpoints of a role: its own, or those of its kind.
func endpointsOf(r *adminservice.SiteRole) []opencmg.Endpoint {
	switch {
	case len(r.Endpoints) > 0:
		return r.Endpoints
	case r.Kind == opencmg.KindManagementPoint:
		return opencmg.ManagementPointEndpoints()
	case r.Kind == opencmg.KindSoftwareUpdatePoint:
		return opencmg.SoftwareUpdatePointEndpoints()
	case r.Kind == adminservice.KindAdminService:
		return opencmg.AdminServiceEndpoints()
	}
	return nil
}

// All returns the endpoints in force.
func (r roleRow) All() []opencmg.Endpoint { return endpointsOf(&r.SiteRole) }

func loadRoles(v *Visit) (any, error) {
	found, err := some[adminservice.SiteRole](v, "roles", "SiteRoles", nil)
	if err != nil {
		return nil, err
	}
	gateways, err := list[adminservice.Gateway](v, "Gateways?$orderby=name")
	if err != nil {
		return nil, err
	}
	p := somePage[roleRow]{Span: found.Span}
	for _, r := range found.List {
		p.List = append(p.List, rowOfRole(r, gateways, "roles"))
	}
	return p, nil
}

func findRole(v *Visit) (adminservice.SiteRole, error) {
	return get[adminservice.SiteRole](v, rolePath(v))
}

func rolePath(v *Visit) string { return "SiteRoles/" + url.PathEscape(v.ID()) }

// rolePage is what the pages show that add or change a role.
type rolePage struct {
	Role  roleRow
	Kinds []roleKind
	Rows  []endpointRow
	Auth  []opencmg.AuthMode
}

// An endpointRow is one endpoint in the form; its fields are called after N.
type endpointRow struct {
	N int
	opencmg.Endpoint
}

// Field is the name of a field of the row.
func (r endpointRow) Field(name string) string { return fmt.Sprintf("ep%d.%s", r.N, name) }

// Mode is the name of the box of an authentication mode.
func (r endpointRow) Mode(m opencmg.AuthMode) string { return r.Field(string(m)) }

// Has reports whether the endpoint accepts the mode.
func (r endpointRow) Has(m opencmg.AuthMode) bool { return slices.Contains(r.Auth, m) }

var authModes = []opencmg.AuthMode{opencmg.AuthPKI, opencmg.AuthEntra, opencmg.AuthCCMToken, opencmg.AuthClientToken, opencmg.AuthBulkToken, opencmg.AuthNone}

const (
	// maxEndpoints bounds the endpoints of one form, spareRows is how many empty
	// ones it offers.
	maxEndpoints = 64
	spareRows    = 2
)

func endpointRows(list []opencmg.Endpoint) []endpointRow {
	var rows []endpointRow
	for i := range min(len(list)+spareRows, maxEndpoints) {
		row := endpointRow{N: i}
		if i < len(list) {
			row.Endpoint = list[i]
		}
		rows = append(rows, row)
	}
	return rows
}

func loadNewRole(v *Visit) (any, error) {
	p := rolePage{Kinds: roleKinds, Auth: authModes}
	p.Role.Kind = v.Query("kind")
	if kindName(p.Role.Kind) == p.Role.Kind {
		p.Role.Kind = opencmg.KindManagementPoint
	}
	p.Role.AllowGatewayTraffic = true
	first := opencmg.Endpoint{Name: "all", Auth: []opencmg.AuthMode{opencmg.AuthPKI, opencmg.AuthEntra, opencmg.AuthClientToken}, Methods: []string{"GET", "HEAD"}}
	p.Rows = endpointRows([]opencmg.Endpoint{first})
	return p, nil
}

func loadRole(v *Visit) (any, error) {
	r, err := findRole(v)
	if err != nil {
		return nil, err
	}
	gateways, err := list[adminservice.Gateway](v, "Gateways?$orderby=name")
	if err != nil {
		return nil, err
	}
	return rolePage{Role: rowOfRole(r, gateways, "roles/"+r.ID), Kinds: roleKinds, Auth: authModes, Rows: endpointRows(r.Endpoints)}, nil
}

// roleOfForm reads what was typed, and says where the service's names for it are
// in the form.
func roleOfForm(v *Visit) (r adminservice.SiteRole, names fieldNames, err error) {
	names = fieldNames{"allowGatewayTraffic": "allow", "endpoints": endpointRow{}.Field("name")}
	r = adminservice.SiteRole{
		Kind: v.Form("kind"), Name: v.Form("name"), Internal: words(v.Form("internal")), AllowGatewayTraffic: v.Checked("allow"),
		CA: v.Form("ca"), ServerName: v.Form("serverName"), HostHeader: v.Form("hostHeader"), HealthPath: v.Form("healthPath"),
		ClientCertificate: v.Checked("clientCertificate"), CertificateRequired: v.Checked("certificateRequired"), Identity: v.Checked("identity"),
	}
	if r.Kind == opencmg.KindService {
		r.Prefix = v.Form("prefix")
	}
	for i := range maxEndpoints {
		row := endpointRow{N: i}
		e := opencmg.Endpoint{Name: v.Form(row.Field("name")), Path: strings.TrimPrefix(v.Form(row.Field("path")), "/"), Hold: v.Checked(row.Field("hold"))}
		if e.Name == "" {
			if e.Path != "" {
				return r, names, invalid("endpoint %d: give it a name, which shows in traffic counts and logs", i+1).About(row.Field("name"))
			}
			continue
		}
		for _, m := range authModes {
			if v.Checked(row.Mode(m)) {
				e.Auth = append(e.Auth, m)
			}
		}
		for _, m := range words(v.Form(row.Field("methods"))) {
			e.Methods = append(e.Methods, strings.ToUpper(m))
		}
		length, err := formNumber(v, row.Field("length"))
		if err != nil {
			return r, names, invalid("endpoint %s: the longest request body must be a number of bytes", e.Name).About(row.Field("length"))
		}
		e.MaxContentLength = int64(length)
		if e.ResponseTimeout, err = formNumber(v, row.Field("timeout")); err != nil {
			return r, names, invalid("endpoint %s: the time for an answer must be a number of seconds", e.Name).About(row.Field("timeout"))
		}
		at := fmt.Sprintf("endpoints.%d", len(r.Endpoints))
		for name, field := range map[string]string{"": "name", ".path": "path", ".methods": "methods", ".auth": string(authModes[0]), ".maxContentLength": "length", ".responseTimeout": "timeout"} {
			names[at+name] = row.Field(field)
		}
		r.Endpoints = append(r.Endpoints, e)
	}
	if r.Kind == opencmg.KindService && len(r.Endpoints) == 0 {
		return r, names, invalid("endpoints: name at least one; an empty path publishes the whole service").About(endpointRow{}.Field("name"))
	}
	return r, names, nil
}

func addRole(v *Visit) (string, string, error) {
	r, names, err := roleOfForm(v)
	if err != nil {
		return "", "", err
	}
	if r.Kind != opencmg.KindService && v.Form("own-endpoints") == "" {
		r.Endpoints = nil // the first row is a proposal for services
	}
	var made adminservice.SiteRole
	err = inForm(v.Do("POST", "SiteRoles", r, &made), names)
	return "roles/" + made.ID, cmp.Or(made.Name, r.Name) + " is there.", err
}

func changeRole(v *Visit) (string, string, error) {
	was, err := findRole(v)
	if err != nil {
		return "", "", err
	}
	r, names, err := roleOfForm(v)
	if err != nil {
		return "", "", err
	}
	if r.Kind = was.Kind; r.Kind == opencmg.KindService {
		r.Prefix = v.Form("prefix")
	}
	change := adminservice.SiteRoleChange{
		Name: &r.Name, Internal: &r.Internal, AllowGatewayTraffic: &r.AllowGatewayTraffic, Endpoints: &r.Endpoints, ServerName: &r.ServerName,
		HostHeader: &r.HostHeader, HealthPath: &r.HealthPath, CertificateRequired: &r.CertificateRequired, Identity: &r.Identity,
	}
	if r.Kind == opencmg.KindService {
		change.Prefix = &r.Prefix
	}
	if !was.Own {
		change.CA, change.ClientCertificate = &r.CA, &r.ClientCertificate
	}
	if r.Endpoints == nil {
		change.Endpoints = &[]opencmg.Endpoint{}
	}
	page := "roles/" + url.PathEscape(was.ID)
	return page, "The changes are kept, and go to the gateways and connection points now.", inForm(v.change(rolePath(v), page, change), names)
}
