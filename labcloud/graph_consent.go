package labcloud

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Service principals and consent in Graph.

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// principalOf finds an application's service principal in a tenant.
func (s *Server) principalOf(tenant, appID string) *principal {
	for _, p := range s.st.Principals {
		if p.Tenant == tenant && strings.EqualFold(p.AppID, appID) {
			return p
		}
	}
	return nil
}

// principalByID finds one that has replicated; each call brings it nearer.
func (s *Server) principalByID(tenant, id string) *principal {
	p := s.st.Principals[strings.ToLower(id)]
	if p == nil || p.Tenant != tenant {
		return nil
	}
	if p.Lag > 0 {
		p.Lag--
		s.dirty = true
		return nil
	}
	return p
}

// rolesOf are the roles claim of a principal's token for a resource.
func (s *Server) rolesOf(p *principal, resourceAppID string) []any {
	var out []any
	if resourceAppID == graphAppID {
		for _, r := range p.GraphRoles {
			out = append(out, r)
		}
	}
	for _, id := range sortedKeys(s.st.RoleGrants) {
		g := s.st.RoleGrants[id]
		if res := s.st.Principals[g.ResourceID]; g.PrincipalID == p.ID && res != nil && res.AppID == resourceAppID {
			if name := s.roleName(res, g.RoleID); name != "" && !slices.Contains(out, any(name)) {
				out = append(out, name)
			}
		}
	}
	return out
}

// roleName is the value of an application role that a resource offers.
func (s *Server) roleName(res *principal, roleID string) string {
	if res.AppID == graphAppID {
		return graphRoles[roleID]
	}
	for _, a := range s.st.Applications {
		if a.Tenant != res.Tenant || a.AppID != res.AppID {
			continue
		}
		for _, r := range list(a.Body, "appRoles") {
			if strings.EqualFold(text(r, "id"), roleID) {
				return text(r, "value")
			}
		}
	}
	return ""
}

// consented reports whether users of a client may get tokens for a resource.
// Apps of the configuration need no consent.
func (s *Server) consented(tenant, clientAppID, resourceAppID string) bool {
	if a, fail := s.application(tenant, clientAppID); fail == nil && a.Configured {
		return true
	}
	if clientAppID == cliAppID && (resourceAppID == graphAppID || resourceAppID == armAppID) {
		return true
	}
	client, res := s.principalOf(tenant, clientAppID), s.principalOf(tenant, resourceAppID)
	for _, g := range s.st.Grants {
		if client != nil && res != nil && g.ClientID == client.ID && g.ResourceID == res.ID {
			return true
		}
	}
	return false
}

func (s *Server) showPrincipal(p *principal) map[string]any {
	out := map[string]any{"id": p.ID, "appId": p.AppID, "displayName": p.Name, "appDisplayName": p.Name, "servicePrincipalType": p.Type, "accountEnabled": true,
		"appOwnerOrganizationId": p.Tenant, "appRoles": []any{}, "oauth2PermissionScopes": []any{}, "servicePrincipalNames": []any{p.AppID}}
	if p.AppID == graphAppID {
		var roles []any
		for _, id := range sortedKeys(graphRoles) {
			roles = append(roles, map[string]any{"id": id, "value": graphRoles[id], "displayName": graphRoles[id], "isEnabled": true, "allowedMemberTypes": []any{"Application"}})
		}
		out["appRoles"] = roles
	}
	for _, a := range s.st.Applications {
		if a.Tenant == p.Tenant && a.AppID == p.AppID {
			out["servicePrincipalNames"] = append(list(a.Body, "identifierUris"), p.AppID)
			if sc := list(a.Body, "api", "oauth2PermissionScopes"); sc != nil {
				out["oauth2PermissionScopes"] = sc
			}
		}
	}
	return out
}

func (s *Server) listPrincipals(c *graphCall) (int, any, *graphError) {
	name, value, fail := filter(c, "appId", "displayName")
	if fail != nil {
		return 0, nil, fail
	}
	var out []any
	for _, id := range sortedKeys(s.st.Principals) {
		p := s.st.Principals[id]
		if p.Tenant != c.Tenant || name != "" && !strings.EqualFold(text(s.showPrincipal(p), name), value) {
			continue
		}
		if p = s.principalByID(c.Tenant, id); p != nil {
			out = append(out, s.showPrincipal(p))
		}
	}
	return page(s, c, "servicePrincipals", out)
}

func (s *Server) getPrincipal(c *graphCall) (int, any, *graphError) {
	id := c.args[0]
	if appID, ok := strings.CutPrefix(id, "(appId='"); ok {
		id = strings.TrimSuffix(appID, "')")
		p := s.principalOf(c.Tenant, id)
		if p == nil {
			return 0, nil, noResource(id)
		}
		id = p.ID
	}
	p := s.principalByID(c.Tenant, id)
	if p == nil {
		return 0, nil, noResource(id)
	}
	return http.StatusOK, s.showPrincipal(p), nil
}

func (s *Server) createPrincipal(c *graphCall) (int, any, *graphError) {
	m, fail := s.readGraph(c, "createServicePrincipal", newPrincipalBody{})
	if fail != nil {
		return 0, nil, fail
	}
	appID := text(m, "appId")
	a, missing := s.application(c.Tenant, appID)
	if missing == nil && a.Lag > 0 {
		a.Lag--
		s.dirty = true
		a = nil
	}
	if a == nil {
		return 0, nil, badRequest("The appId '" + appID + "' of the service principal does not reference a valid application object.")
	}
	if s.principalOf(c.Tenant, appID) != nil {
		return 0, nil, refuse(http.StatusConflict, "Request_MultipleObjectsWithSameKeyValue", "The service principal cannot be created, updated, or restored because the service principal name "+appID+" is already in use.")
	}
	p := &principal{ID: newGUID(), AppID: a.AppID, Tenant: c.Tenant, Name: text(a.Body, "displayName"), Type: "Application", Lag: s.lag()}
	s.st.Principals[p.ID] = p
	s.dirty = true
	return http.StatusCreated, s.showPrincipal(p), nil
}

func (s *Server) deletePrincipal(c *graphCall) (int, any, *graphError) {
	id := strings.ToLower(c.args[0])
	if p := s.st.Principals[id]; p == nil || p.Tenant != c.Tenant {
		return 0, nil, noResource(c.args[0])
	}
	s.dropPrincipal(id)
	return http.StatusNoContent, nil, nil
}

// dropPrincipal takes the consent it gave and got with it.
func (s *Server) dropPrincipal(id string) {
	delete(s.st.Principals, id)
	maps.DeleteFunc(s.st.Grants, func(_ string, g *grant) bool { return g.ClientID == id || g.ResourceID == id })
	maps.DeleteFunc(s.st.RoleGrants, func(_ string, g *roleGrant) bool { return g.PrincipalID == id || g.ResourceID == id })
	s.dirty = true
}

func (s *Server) showGrant(g *grant) map[string]any {
	out := map[string]any{"id": g.ID, "clientId": g.ClientID, "consentType": g.ConsentType, "principalId": nil, "resourceId": g.ResourceID, "scope": g.Scope}
	if g.PrincipalID != "" {
		out["principalId"] = g.PrincipalID
	}
	return out
}

func (s *Server) listGrants(c *graphCall) (int, any, *graphError) {
	name, value, fail := filter(c, "clientId", "resourceId")
	if fail != nil {
		return 0, nil, fail
	}
	var out []any
	for _, id := range sortedKeys(s.st.Grants) {
		g := s.st.Grants[id]
		if p := s.st.Principals[g.ClientID]; p != nil && p.Tenant == c.Tenant && (name == "" || text(s.showGrant(g), name) == value) {
			out = append(out, s.showGrant(g))
		}
	}
	return page(s, c, "oauth2PermissionGrants", out)
}

func (s *Server) createGrant(c *graphCall) (int, any, *graphError) {
	m, fail := s.readGraph(c, "createOAuth2PermissionGrant", newGrantBody{})
	if fail != nil {
		return 0, nil, fail
	}
	g := &grant{ID: newGUID(), ClientID: strings.ToLower(text(m, "clientId")), ConsentType: text(m, "consentType"), PrincipalID: text(m, "principalId"), ResourceID: strings.ToLower(text(m, "resourceId")), Scope: text(m, "scope")}
	for _, id := range []string{g.ClientID, g.ResourceID} {
		if s.principalByID(c.Tenant, id) == nil {
			return 0, nil, noResource(id)
		}
	}
	if (g.ConsentType == "Principal") != (g.PrincipalID != "") {
		return 0, nil, badRequest("principalId must be set for consentType Principal, and for it alone.")
	}
	offered := list(s.showPrincipal(s.st.Principals[g.ResourceID]), "oauth2PermissionScopes")
	for _, scope := range strings.Fields(g.Scope) {
		if s.st.Principals[g.ResourceID].AppID != graphAppID && !slices.ContainsFunc(offered, func(o any) bool { return text(o, "value") == scope }) {
			return 0, nil, badRequest("The scope '" + scope + "' is not offered by the resource.")
		}
	}
	for _, o := range s.st.Grants {
		if o.ClientID == g.ClientID && o.ResourceID == g.ResourceID && o.ConsentType == g.ConsentType && o.PrincipalID == g.PrincipalID {
			return 0, nil, refuse(http.StatusConflict, "Request_MultipleObjectsWithSameKeyValue", "Permission entry already exists.")
		}
	}
	s.st.Grants[g.ID] = g
	s.dirty = true
	return http.StatusCreated, s.showGrant(g), nil
}

func (s *Server) deleteGrant(c *graphCall) (int, any, *graphError) {
	g := s.st.Grants[c.args[0]]
	if g == nil || s.st.Principals[g.ClientID].Tenant != c.Tenant {
		return 0, nil, noResource(c.args[0])
	}
	delete(s.st.Grants, g.ID)
	s.dirty = true
	return http.StatusNoContent, nil, nil
}

func (s *Server) showRoleGrant(g *roleGrant) map[string]any {
	return map[string]any{"id": g.ID, "principalId": g.PrincipalID, "resourceId": g.ResourceID, "appRoleId": g.RoleID, "createdDateTime": g.Created.Format(time.RFC3339),
		"principalType": "ServicePrincipal", "principalDisplayName": s.st.Principals[g.PrincipalID].Name, "resourceDisplayName": s.st.Principals[g.ResourceID].Name}
}

func (s *Server) listRoleGrants(c *graphCall) (int, any, *graphError) {
	p := s.principalByID(c.Tenant, c.args[0])
	if p == nil {
		return 0, nil, noResource(c.args[0])
	}
	var out []any
	for _, id := range sortedKeys(s.st.RoleGrants) {
		if g := s.st.RoleGrants[id]; g.PrincipalID == p.ID {
			out = append(out, s.showRoleGrant(g))
		}
	}
	return page(s, c, "servicePrincipals/"+p.ID+"/appRoleAssignments", out)
}

func (s *Server) createRoleGrant(c *graphCall) (int, any, *graphError) {
	m, fail := s.readGraph(c, "createAppRoleAssignment", newRoleGrantBody{})
	if fail != nil {
		return 0, nil, fail
	}
	p, res := s.principalByID(c.Tenant, c.args[0]), s.principalByID(c.Tenant, text(m, "resourceId"))
	switch {
	case p == nil:
		return 0, nil, noResource(c.args[0])
	case res == nil:
		return 0, nil, noResource(text(m, "resourceId"))
	case !strings.EqualFold(p.ID, text(m, "principalId")):
		return 0, nil, badRequest("principalId does not match the service principal in the path.")
	case s.roleName(res, text(m, "appRoleId")) == "":
		return 0, nil, badRequest("Permission being assigned was not found on application '" + res.AppID + "'.")
	}
	g := &roleGrant{ID: newGUID(), PrincipalID: p.ID, ResourceID: res.ID, RoleID: strings.ToLower(text(m, "appRoleId")), Created: s.cfg.Now().UTC()}
	for _, o := range s.st.RoleGrants {
		if o.PrincipalID == g.PrincipalID && o.ResourceID == g.ResourceID && o.RoleID == g.RoleID {
			return 0, nil, badRequest("Permission being assigned already exists on the object")
		}
	}
	s.st.RoleGrants[g.ID] = g
	s.dirty = true
	return http.StatusCreated, s.showRoleGrant(g), nil
}

func (s *Server) deleteRoleGrant(c *graphCall) (int, any, *graphError) {
	g := s.st.RoleGrants[c.args[1]]
	if g == nil || !strings.EqualFold(g.PrincipalID, c.args[0]) || s.st.Principals[g.PrincipalID].Tenant != c.Tenant {
		return 0, nil, noResource(c.args[1])
	}
	delete(s.st.RoleGrants, g.ID)
	s.dirty = true
	return http.StatusNoContent, nil, nil
}
