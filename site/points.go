package site

import (
	"net/http"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

// pointRecord is a connection point. Its connection ID is its object ID.
type pointRecord struct {
	ConnectionID string `json:"connectionId"`
	GatewayID    string `json:"gatewayId,omitempty"` // it is linked to (cmg-behaviour C1)
}

func (s *Server) point(r *record[pointRecord]) adminservice.ConnectionPoint {
	p := adminservice.ConnectionPoint{ID: r.ID, Version: r.Version, Name: r.Name, ConnectionID: r.Value.ConnectionID, GatewayID: r.Value.GatewayID, Joined: r.Created}
	report, at := s.live.system(r.ID)
	if report == nil {
		return p
	}
	p.LastReport, p.Status, p.CertEnds, p.Program, p.Problem = at.UTC(), report.ConnectionPoint, report.CertificateEnds, report.Version, report.Problem
	if s.live.hears(r.ID, s.cfg.Now()) && p.Status != nil {
		for _, t := range p.Status.Tunnels {
			p.Connected = p.Connected || t.Connected
		}
	}
	return p
}

func (s *Server) changePoint(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.ConnectionPointChange
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	if in.GatewayID == nil {
		return opencmg.Errorf(opencmg.Invalid, "gatewayId: name the gateway that the connection point serves; empty for none").About("gatewayId")
	}
	version, err := ifMatch(r)
	if err != nil {
		return err
	}
	id := ""
	if *in.GatewayID != "" {
		g, err := s.findGateway(r.Context(), *in.GatewayID)
		if err != nil {
			return opencmg.About("gatewayId", err)
		}
		id = g.ID
	}
	rec, err := update(r.Context(), s.db, kindPoint, r.PathValue("id"), func(tx *sitedb.Tx, rec *record[pointRecord]) error {
		if err := rec.expect(version); err != nil {
			return err
		}
		rec.Value.GatewayID = id
		return s.audit(r.Context(), tx, msgChanged, kindPoint, rec.ID, "linked connection point %s to gateway %q", rec.Name, id)
	})
	if err != nil {
		return err
	}
	return answerOne(w, http.StatusOK, rec.Version, s.point(rec))
}

func (s *Server) deletePoint(w http.ResponseWriter, r *http.Request) error {
	err := remove[pointRecord](s, w, r, kindPoint, "connection point", nil)
	if err == nil {
		s.live.forget(r.PathValue("id"))
	}
	return err
}

// roleRecord is a role that can be published.
type roleRecord struct {
	Kind                string             `json:"kind"`
	RoleID              opencmg.RoleID     `json:"roleId"`
	Internal            []string           `json:"internal"`
	AllowGatewayTraffic bool               `json:"allowGatewayTraffic"`
	Prefix              string             `json:"prefix,omitempty"`
	Endpoints           []opencmg.Endpoint `json:"endpoints,omitempty"`
	Own                 bool               `json:"own,omitempty"`
	Addresses           []string           `json:"addresses,omitempty"` // of our own
	CA                  string             `json:"ca,omitempty"`
	ServerName          string             `json:"serverName,omitempty"`
	HostHeader          string             `json:"hostHeader,omitempty"`
	HealthPath          string             `json:"healthPath,omitempty"`
	ClientCertificate   bool               `json:"clientCertificate,omitempty"`
	CertificateRequired bool               `json:"certificateRequired,omitempty"`
	Identity            bool               `json:"identity,omitempty"`
}

// published is the role as gateways know it. The administration service is
// published as a service below the form that clients use for roles
// (cmg-behaviour G22).
func (v *roleRecord) published(name string, site opencmg.SiteCode) opencmg.PublishedRole {
	p := opencmg.PublishedRole{ID: v.RoleID, Site: site, Kind: v.Kind, Name: name, Prefix: v.Prefix, Endpoints: v.Endpoints}
	if len(p.Endpoints) == 0 {
		switch v.Kind {
		case opencmg.KindManagementPoint:
			p.Endpoints = opencmg.ManagementPointEndpoints()
		case opencmg.KindSoftwareUpdatePoint:
			p.Endpoints = opencmg.SoftwareUpdatePointEndpoints()
		case adminservice.KindAdminService:
			p.Endpoints = opencmg.AdminServiceEndpoints()
		}
	}
	if v.Kind == adminservice.KindAdminService {
		p.Kind = opencmg.KindManagementPoint
	}
	return p
}

func publishedRoles(tx *sitedb.Tx, site opencmg.SiteCode) ([]opencmg.PublishedRole, error) {
	roles, err := all[roleRecord](tx, kindRole)
	list := []opencmg.PublishedRole{}
	for _, r := range roles {
		if r.Value.AllowGatewayTraffic {
			list = append(list, r.Value.published(r.Name, site))
		}
	}
	return list, err
}

// check refuses what gateways or connection points would.
func (v *roleRecord) check() error {
	switch v.Kind {
	case opencmg.KindManagementPoint, opencmg.KindSoftwareUpdatePoint, opencmg.KindService, adminservice.KindAdminService:
	default:
		return opencmg.Errorf(opencmg.Invalid, "kind %q: must be %s, %s, %s or %s", v.Kind, opencmg.KindManagementPoint, opencmg.KindSoftwareUpdatePoint, adminservice.KindAdminService, opencmg.KindService).About("kind")
	}
	if len(v.Internal) == 0 {
		return opencmg.Errorf(opencmg.Invalid, "internal: name at least one URL, such as https://mp1.corp.example").About("internal")
	}
	for _, u := range v.Internal {
		if _, err := opencmg.ParseInternalURL(u); err != nil {
			return err
		}
	}
	if v.CA != "" {
		if _, err := pki.ParseCertificates([]byte(v.CA)); err != nil {
			return opencmg.Errorf(opencmg.Invalid, "ca: %w", err).About("ca")
		}
	}
	if v.Own && (v.CA != "" || v.ClientCertificate) {
		return opencmg.Errorf(opencmg.Invalid, "the site CA vouches for our own management point: leave ca and clientCertificate out").About("ca")
	}
	role := v.published("role", "AAA")
	cfg := opencmg.PublishedConfiguration{Version: 1, Gateway: "x", Site: "AAA", ServiceName: "x", Instances: 1, Roles: []opencmg.PublishedRole{role}}
	return cfg.Validate()
}

func (s *Server) siteRole(r *record[roleRecord]) adminservice.SiteRole {
	v := r.Value
	role := adminservice.SiteRole{
		ID: r.ID, Version: r.Version, Kind: v.Kind, Name: r.Name, RoleID: v.RoleID, Internal: v.Internal, AllowGatewayTraffic: v.AllowGatewayTraffic,
		Prefix: v.Prefix, Endpoints: v.Endpoints, Own: v.Own, CA: v.CA, ServerName: v.ServerName, HostHeader: v.HostHeader, HealthPath: v.HealthPath,
		ClientCertificate: v.ClientCertificate, CertificateRequired: v.CertificateRequired, Identity: v.Identity,
	}
	if _, at := s.live.system(r.ID); !at.IsZero() {
		role.LastReport = at.UTC()
	}
	return role
}

func roleOf(in *adminservice.SiteRole) roleRecord {
	return roleRecord{
		Kind: in.Kind, Internal: in.Internal, AllowGatewayTraffic: in.AllowGatewayTraffic, Prefix: in.Prefix, Endpoints: in.Endpoints, CA: in.CA,
		ServerName: in.ServerName, HostHeader: in.HostHeader, HealthPath: in.HealthPath, ClientCertificate: in.ClientCertificate,
		CertificateRequired: in.CertificateRequired, Identity: in.Identity,
	}
}

func (s *Server) addRole(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.SiteRole
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	if in.Name = strings.TrimSpace(in.Name); in.Name == "" {
		return opencmg.Errorf(opencmg.Invalid, "name: give the role a name").About("name")
	}
	rec := &record[roleRecord]{ID: newGUID(), Name: in.Name, Value: roleOf(&in)}
	err := s.db.Change(r.Context(), "add role", func(tx *sitedb.Tx) (err error) {
		if rec.Value.RoleID, err = newRoleID(tx); err != nil {
			return err
		}
		if err := rec.Value.check(); err != nil {
			return err
		}
		if err := s.freePrefix(tx, rec); err != nil {
			return err
		}
		if err := rec.put(tx, kindRole); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgCreated, kindRole, rec.ID, "added %s %s, gateway traffic %s", in.Kind, in.Name, onOff(in.AllowGatewayTraffic))
	})
	if err != nil {
		return err
	}
	return answerOne(w, http.StatusCreated, rec.Version, s.siteRole(rec))
}

// freePrefix refuses an external path that another role has.
func (s *Server) freePrefix(tx *sitedb.Tx, rec *record[roleRecord]) error {
	if rec.Value.Prefix == "" {
		return nil
	}
	roles, err := all[roleRecord](tx, kindRole)
	if err != nil {
		return err
	}
	for _, o := range roles {
		if o.ID != rec.ID && strings.EqualFold(o.Value.Prefix, rec.Value.Prefix) {
			return opencmg.Errorf(opencmg.Conflict, "prefix %s belongs to %s already: choose another one", rec.Value.Prefix, o.Name).About("prefix")
		}
	}
	return nil
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func (s *Server) changeRole(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.SiteRoleChange
	version, err := decodeChange(r, &in)
	if err != nil {
		return err
	}
	rec, err := update(r.Context(), s.db, kindRole, r.PathValue("id"), func(tx *sitedb.Tx, rec *record[roleRecord]) error {
		if err := rec.expect(version); err != nil {
			return err
		}
		if err := rename(&rec.Name, in.Name); err != nil {
			return err
		}
		rec.Value.change(&in)
		if err := rec.Value.check(); err != nil {
			return err
		}
		if err := s.freePrefix(tx, rec); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgChanged, kindRole, rec.ID, "changed %s %s, gateway traffic %s", rec.Value.Kind, rec.Name, onOff(rec.Value.AllowGatewayTraffic))
	})
	if err != nil {
		return err
	}
	return answerOne(w, http.StatusOK, rec.Version, s.siteRole(rec))
}

// change takes over what the change names.
func (v *roleRecord) change(c *adminservice.SiteRoleChange) {
	set(&v.Internal, c.Internal)
	set(&v.AllowGatewayTraffic, c.AllowGatewayTraffic)
	set(&v.Prefix, c.Prefix)
	set(&v.Endpoints, c.Endpoints)
	set(&v.CA, c.CA)
	set(&v.ServerName, c.ServerName)
	set(&v.HostHeader, c.HostHeader)
	set(&v.HealthPath, c.HealthPath)
	set(&v.ClientCertificate, c.ClientCertificate)
	set(&v.CertificateRequired, c.CertificateRequired)
	set(&v.Identity, c.Identity)
}

func (s *Server) deleteRole(w http.ResponseWriter, r *http.Request) error {
	return remove(s, w, r, kindRole, "role", func(tx *sitedb.Tx, rec *record[roleRecord]) error { return forgetInGroups(tx, rec.ID) })
}
