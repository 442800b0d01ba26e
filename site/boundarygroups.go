package site

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/sitedb"
)

// boundaryGroupRecord is a boundary group. What it refers to is kept by ID.
type boundaryGroupRecord struct {
	Description         string   `json:"description,omitempty"`
	Boundaries          []string `json:"boundaries,omitempty"`
	Gateways            []string `json:"gateways,omitempty"`
	Roles               []string `json:"roles,omitempty"`
	PreferCloud         bool     `json:"preferCloud,omitempty"`
	IncludeCloudSources bool     `json:"includeCloudSources,omitempty"`
	Default             bool     `json:"default,omitempty"`
}

// mostBoundaries bounds the boundaries and the site systems of a group, and the
// groups of a site: each is looked at for every location request.
const mostBoundaries = 1000

func (s *Server) makeDefaultGroup(tx *sitedb.Tx) error {
	groups, err := all[boundaryGroupRecord](tx, kindBoundaryGroup)
	if err != nil || slices.ContainsFunc(groups, func(g *record[boundaryGroupRecord]) bool { return g.Value.Default }) {
		return err
	}
	return newGroup(tx, &record[boundaryGroupRecord]{
		Name: adminservice.DefaultBoundaryGroupName(s.Code()), Value: boundaryGroupRecord{Default: true, IncludeCloudSources: true},
	})
}

func newGroup(tx *sitedb.Tx, rec *record[boundaryGroupRecord]) error {
	n, err := tx.NextNumber("boundary-group-id")
	if err != nil {
		return err
	}
	rec.ID = strconv.FormatInt(firstServiceID+n, 10)
	return rec.put(tx, kindBoundaryGroup)
}

// boundaryGroup is the group as the service shows it; roles gives role names by
// ID.
func boundaryGroup(r *record[boundaryGroupRecord], roles map[string]string) adminservice.BoundaryGroup {
	v := r.Value
	g := adminservice.BoundaryGroup{
		ID: r.ID, Version: r.Version, Name: r.Name, Description: v.Description, Boundaries: v.Boundaries, PreferCloud: v.PreferCloud,
		IncludeCloudSources: v.IncludeCloudSources, Default: v.Default, SiteSystems: slices.Clone(v.Gateways),
	}
	for _, id := range v.Roles {
		g.SiteSystems = append(g.SiteSystems, roles[id])
	}
	return g
}

func (s *Server) roleNames(ctx context.Context) (map[string]string, error) {
	roles, err := readAll[roleRecord](ctx, s.db, kindRole)
	names := map[string]string{}
	for _, r := range roles {
		names[r.ID] = r.Name
	}
	return names, err
}

func (s *Server) listBoundaryGroups(w http.ResponseWriter, r *http.Request) error {
	roles, err := s.roleNames(r.Context())
	if err != nil {
		return err
	}
	return answerRecords(s, w, r, kindBoundaryGroup, func(g *record[boundaryGroupRecord]) (adminservice.BoundaryGroup, error) {
		return boundaryGroup(g, roles), nil
	})
}

func (s *Server) getBoundaryGroup(w http.ResponseWriter, r *http.Request) error {
	rec, err := read[boundaryGroupRecord](r.Context(), s.db, kindBoundaryGroup, r.PathValue("id"))
	if err != nil {
		return err
	}
	return s.answerGroup(w, r, http.StatusOK, rec)
}

func (s *Server) answerGroup(w http.ResponseWriter, r *http.Request, status int, rec *record[boundaryGroupRecord]) error {
	roles, err := s.roleNames(r.Context())
	if err != nil {
		return err
	}
	return answerOne(w, status, rec.Version, boundaryGroup(rec, roles))
}

func (s *Server) addBoundaryGroup(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.BoundaryGroup
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	rec := &record[boundaryGroupRecord]{}
	change := adminservice.BoundaryGroupChange{
		Name: &in.Name, Description: &in.Description, Boundaries: &in.Boundaries, SiteSystems: &in.SiteSystems, PreferCloud: &in.PreferCloud,
	}
	if in.IncludeCloudSources {
		change.IncludeCloudSources = &in.IncludeCloudSources
	}
	err := s.db.Change(r.Context(), "add boundary group", func(tx *sitedb.Tx) error {
		if err := changeGroup(tx, rec, &change); err != nil {
			return err
		}
		groups, err := tx.Objects(kindBoundaryGroup)
		if err != nil {
			return err
		}
		if len(groups) >= mostBoundaries {
			return opencmg.Errorf(opencmg.Conflict, "the site has %d boundary groups, which is the most: put more boundaries into one group", len(groups))
		}
		if err := newGroup(tx, rec); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgCreated, kindBoundaryGroup, rec.ID, "added boundary group %s, %s", rec.Name, rec.Value.summary())
	})
	if err != nil {
		return err
	}
	return s.answerGroup(w, r, http.StatusCreated, rec)
}

func (v *boundaryGroupRecord) summary() string {
	return strconv.Itoa(len(v.Boundaries)) + " boundaries, " + strconv.Itoa(len(v.Gateways)) + " gateways, prefer cloud " + onOff(v.PreferCloud)
}

func (s *Server) changeBoundaryGroup(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.BoundaryGroupChange
	version, err := decodeChange(r, &in)
	if err != nil {
		return err
	}
	rec, err := update(r.Context(), s.db, kindBoundaryGroup, r.PathValue("id"), func(tx *sitedb.Tx, rec *record[boundaryGroupRecord]) error {
		if err := rec.expect(version); err != nil {
			return err
		}
		if err := changeGroup(tx, rec, &in); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgChanged, kindBoundaryGroup, rec.ID, "changed boundary group %s, %s", rec.Name, rec.Value.summary())
	})
	if err != nil {
		return err
	}
	return s.answerGroup(w, r, http.StatusOK, rec)
}

// changeGroup takes over what the change names, and checks it.
func changeGroup(tx *sitedb.Tx, rec *record[boundaryGroupRecord], in *adminservice.BoundaryGroupChange) error {
	v := &rec.Value
	if v.Default && (in.Name != nil && *in.Name != rec.Name || in.Boundaries != nil && len(*in.Boundaries) > 0) {
		return opencmg.Errorf(opencmg.Conflict, "%s is the default boundary group: it keeps its name and has no boundaries, since it is for clients that are in no other group", rec.Name)
	}
	if !v.Default && in.IncludeCloudSources != nil && *in.IncludeCloudSources {
		return opencmg.Errorf(opencmg.Invalid, "includeCloudSources: only the default boundary group has it; add gateways to siteSystems instead").About("includeCloudSources")
	}
	if err := rename(&rec.Name, in.Name); err != nil {
		return err
	}
	set(&v.Description, in.Description)
	set(&v.PreferCloud, in.PreferCloud)
	set(&v.IncludeCloudSources, in.IncludeCloudSources)
	if in.Boundaries != nil {
		list, err := parseBoundaries(*in.Boundaries)
		if err != nil {
			return err
		}
		v.Boundaries = list
	}
	if in.SiteSystems != nil {
		return v.refer(tx, *in.SiteSystems)
	}
	return nil
}

// parseBoundaries returns the prefixes in one form, each once.
func parseBoundaries(list []string) ([]string, error) {
	if len(list) > mostBoundaries {
		return nil, opencmg.Errorf(opencmg.Invalid, "boundaries: at most %d, are %d: make two groups with the same site systems", mostBoundaries, len(list)).About("boundaries")
	}
	var out []string
	for _, text := range list {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil || p.Addr().Is4In6() {
			return nil, opencmg.Errorf(opencmg.Invalid, "boundaries: %q is no CIDR prefix such as 10.1.0.0/16 or 2001:db8::/32", text).About("boundaries")
		}
		if p != p.Masked() {
			return nil, opencmg.Errorf(opencmg.Invalid, "boundaries: %s has bits set behind the prefix: did you mean %s?", p, p.Masked()).About("boundaries")
		}
		if !slices.Contains(out, p.String()) {
			out = append(out, p.String())
		}
	}
	return out, nil
}

// refer replaces what the group refers to: gateways by any of their names, site
// roles by theirs.
func (v *boundaryGroupRecord) refer(tx *sitedb.Tx, list []string) error {
	if len(list) > mostBoundaries {
		return opencmg.Errorf(opencmg.Invalid, "siteSystems: at most %d, are %d", mostBoundaries, len(list)).About("siteSystems")
	}
	gateways, err := all[gatewayRecord](tx, kindGateway)
	if err != nil {
		return err
	}
	roles, err := all[roleRecord](tx, kindRole)
	if err != nil {
		return err
	}
	v.Gateways, v.Roles = nil, nil
	add := func(to *[]string, id string) {
		if !slices.Contains(*to, id) {
			*to = append(*to, id)
		}
	}
	for _, name := range list {
		g := slices.IndexFunc(gateways, func(g *record[gatewayRecord]) bool { return isGateway(g, name) })
		r := slices.IndexFunc(roles, func(r *record[roleRecord]) bool { return sameName(r.Name, name) })
		switch {
		case g >= 0:
			add(&v.Gateways, gateways[g].ID)
		case r >= 0:
			add(&v.Roles, roles[r].ID)
		default:
			return opencmg.Errorf(opencmg.Invalid, "siteSystems: there is neither a gateway nor a site role %q (Gateways and SiteRoles list them)", name).About("siteSystems")
		}
	}
	return nil
}

// forgetInGroups takes what is deleted out of all groups.
func forgetInGroups(tx *sitedb.Tx, id string) error {
	groups, err := all[boundaryGroupRecord](tx, kindBoundaryGroup)
	if err != nil {
		return err
	}
	for _, g := range groups {
		before := len(g.Value.Gateways) + len(g.Value.Roles)
		same := func(s string) bool { return s == id }
		g.Value.Gateways, g.Value.Roles = slices.DeleteFunc(g.Value.Gateways, same), slices.DeleteFunc(g.Value.Roles, same)
		if len(g.Value.Gateways)+len(g.Value.Roles) == before {
			continue
		}
		if err := g.put(tx, kindBoundaryGroup); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) deleteBoundaryGroup(w http.ResponseWriter, r *http.Request) error {
	return remove(s, w, r, kindBoundaryGroup, "boundary group", func(_ *sitedb.Tx, rec *record[boundaryGroupRecord]) error {
		if rec.Value.Default {
			return opencmg.Errorf(opencmg.Conflict, "%s is the default boundary group, which every site has: it is for clients that are in no other group", rec.Name)
		}
		return nil
	})
}

// locations are the boundary groups as management points need them.
func (s *Server) locations(ctx context.Context) (*adminservice.Locations, error) {
	groups, err := readAll[boundaryGroupRecord](ctx, s.db, kindBoundaryGroup)
	if err != nil {
		return nil, err
	}
	offered, err := s.offeredGateways(ctx)
	if err != nil {
		return nil, err
	}
	l := &adminservice.Locations{}
	for _, g := range groups {
		v := g.Value
		to := adminservice.LocationGroup{Name: g.Name, Boundaries: v.Boundaries, PreferCloud: v.PreferCloud}
		for _, o := range offered {
			if slices.Contains(v.Gateways, o.ID) || v.IncludeCloudSources {
				to.Gateways = append(to.Gateways, o.Value.ServiceName)
			}
		}
		if v.Default {
			l.Default = to
		} else {
			l.Groups = append(l.Groups, to)
		}
	}
	return l, nil
}
