package cmdlet

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// roleNames are what Configuration Manager calls the roles.
var roleNames = map[string]string{
	opencmg.KindManagementPoint:     "SMS Management Point",
	opencmg.KindSoftwareUpdatePoint: "SMS Software Update Point",
}

// secure is the parameter of a role that speaks of TLS, in the order of the
// cmdlets that have it.
func (r *run) secure() *bool {
	if v := pick[bool](r.Bound, "EnableSsl"); v != nil {
		return v
	}
	return pick[bool](r.Bound, "WsusSsl")
}

// checkConnections refuses a role that would be published to clients whom it
// does not want.
func (r *run) checkConnections(allow *bool) error {
	if r.Text("ClientConnectionType") == "Intranet" && allow != nil && *allow {
		return opencmg.Errorf(opencmg.Invalid, "%s: a role for the intranet only takes no gateway traffic: choose Internet or InternetAndIntranet for -ClientConnectionType, or leave it out", r.Cmdlet.Name)
	}
	return nil
}

func setRole(kind string) func(*run) error {
	return func(r *run) error {
		name, err := r.serverName()
		if err != nil {
			return err
		}
		role, err := r.role(kind, name)
		if err != nil {
			return err
		}
		allow := pick[bool](r.Bound, "EnableCloudGateway")
		if err := r.checkConnections(allow); err != nil {
			return err
		}
		change := adminservice.SiteRoleChange{AllowGatewayTraffic: allow}
		if ssl := r.secure(); ssl != nil {
			if role.Own && !*ssl {
				return opencmg.Errorf(opencmg.Invalid, "%s: %s is a management point of this site, which speaks TLS always", r.Cmdlet.Name, role.Name)
			}
			urls, err := withScheme(role.Internal, *ssl)
			if err != nil {
				return err
			}
			change.Internal = &urls
			role.Internal = urls
			if !*ssl && kind == opencmg.KindManagementPoint && allow == nil {
				// Back to HTTP clears the switch, as documented since 1902.
				off := false
				change.AllowGatewayTraffic = &off
			}
		}
		if on := change.AllowGatewayTraffic; on != nil && *on && kind == opencmg.KindManagementPoint {
			if err := r.mustBeSecure(role.Internal); err != nil {
				return err
			}
		}
		if ok, err := r.should(role.Name, false); !ok {
			return err
		}
		if change != (adminservice.SiteRoleChange{}) {
			if err := r.host.Client.Change(r.ctx, http.MethodPatch, pathID("SiteRoles", role.ID), role.Version, change, nil); err != nil {
				return err
			}
		}
		if !r.Flag("PassThru") {
			return nil
		}
		return r.emitRole(kind, role.Name)
	}
}

func (r *run) mustBeSecure(internal []string) error {
	for _, u := range internal {
		if strings.HasPrefix(strings.ToLower(u), "http:") {
			return opencmg.Errorf(opencmg.Invalid, "%s: %s is not HTTPS, and a management point takes gateway traffic by HTTPS only: switch that on too (-EnableSsl), or use Enhanced HTTP", r.Cmdlet.Name, u)
		}
	}
	return nil
}

// wsusPorts are the ports of a software update point by scheme (cmg-behaviour
// C6).
var wsusPorts = map[string]string{"http": "8530", "https": "8531"}

// withScheme rewrites internal URLs to HTTPS or HTTP; ports that belong to the
// other scheme change with it.
func withScheme(urls []string, ssl bool) ([]string, error) {
	scheme, other := "http", "https"
	if ssl {
		scheme, other = other, scheme
	}
	var list []string
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil {
			return nil, err
		}
		if u.Scheme == other {
			u.Scheme = scheme
			if u.Port() == wsusPorts[other] {
				u.Host = u.Hostname() + ":" + wsusPorts[scheme]
			}
		}
		list = append(list, u.String())
	}
	return list, nil
}

// role finds a role of the kind by its name or by the host that it is on.
func (r *run) role(kind, name string) (*adminservice.SiteRole, error) {
	roles, err := list[adminservice.SiteRole](r, "SiteRoles")
	if err != nil {
		return nil, err
	}
	var has []string
	for _, o := range roles {
		if o.Kind != kind {
			continue
		}
		has = append(has, o.Name)
		if strings.EqualFold(o.Name, name) || slices.ContainsFunc(o.Internal, func(text string) bool {
			u, err := url.Parse(text)
			return err == nil && strings.EqualFold(u.Hostname(), name)
		}) {
			return &o, nil
		}
	}
	return nil, r.none(strings.ReplaceAll(kind, "-", " "), name, has)
}

func (r *run) emitRole(kind, name string) error {
	return r.emitAll(r.systems(func(o Object) bool {
		return o.Text("RoleName") == roleNames[kind] && strings.EqualFold(server(o), name)
	}))
}

// addRole records a role that runs elsewhere: one of Configuration Manager's,
// which the connection points are to reach. One of this program's own joins by
// itself (opencmg mp join).
func addRole(kind string) func(*run) error {
	return func(r *run) error {
		name, err := r.serverName()
		if err != nil {
			return err
		}
		allow := r.Flag("EnableCloudGateway")
		if err := r.checkConnections(&allow); err != nil {
			return err
		}
		in := adminservice.SiteRole{Kind: kind, Name: name, AllowGatewayTraffic: allow}
		in.Internal, _ = r.Values["InternalUrl"].([]string)
		if len(in.Internal) == 0 {
			in.Internal = []string{r.internalURL(kind, name)}
		}
		if allow && kind == opencmg.KindManagementPoint {
			if err := r.mustBeSecure(in.Internal); err != nil {
				return err
			}
		}
		if path := r.Text("CaPath"); path != "" {
			b, err := r.read("CaPath", path)
			if err != nil {
				return err
			}
			in.CA = string(b)
		}
		if ok, err := r.should(name, false); !ok {
			return err
		}
		if _, err := post[adminservice.SiteRole](r, "SiteRoles", in); err != nil {
			return err
		}
		return r.emitRole(kind, name)
	}
}

// internalURL is where a role is by default (cmg-behaviour C6).
func (r *run) internalURL(kind, name string) string {
	if kind == opencmg.KindSoftwareUpdatePoint {
		if ssl := r.secure(); ssl != nil && *ssl {
			return "https://" + name + ":" + wsusPorts["https"]
		}
		return "http://" + name + ":" + wsusPorts["http"]
	}
	if strings.EqualFold(r.Text("CommunicationType"), "Http") && !r.Flag("EnableSsl") {
		return "http://" + name
	}
	return "https://" + name
}
