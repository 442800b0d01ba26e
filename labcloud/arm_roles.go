package labcloud

import (
	"net/http"
	"strings"
)

// Roles. A subscription with owners asks each caller for a role: owner, or a
// role assignment of Owner, Contributor or Reader at the scope or above it.

const (
	roleOwner       = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
	roleContributor = "b24988ac-6180-42a0-ab88-20f7382dd24c"
	roleReader      = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
)

func isOwner(who *caller, sub *Subscription) bool {
	if len(sub.Owners) == 0 {
		return true
	}
	for _, o := range sub.Owners {
		if strings.EqualFold(o, who.ObjectID) || strings.EqualFold(o, who.AppID) && who.UPN == "" {
			return true
		}
	}
	return false
}

// rolesAt are the IDs of the roles that a caller has at a scope.
func (s *Server) rolesAt(who *caller, sub *Subscription, scope string) []string {
	if isOwner(who, sub) {
		return []string{roleOwner}
	}
	scope = strings.ToLower(scope)
	var out []string
	for _, r := range s.ofType("Microsoft.Authorization/roleAssignments") {
		at := r.key()[:strings.Index(r.key(), "/providers/microsoft.authorization/")]
		if strings.EqualFold(text(r.Body, "properties", "principalId"), who.ObjectID) && (scope == at || strings.HasPrefix(scope, at+"/")) {
			role := text(r.Body, "properties", "roleDefinitionId")
			out = append(out, strings.ToLower(role[strings.LastIndex(role, "/")+1:]))
		}
	}
	return out
}

func (s *Server) hasAnyRole(who *caller, sub *Subscription) bool {
	if isOwner(who, sub) {
		return true
	}
	for _, r := range s.ofType("Microsoft.Authorization/roleAssignments") {
		if r.Subscription == sub.ID && strings.EqualFold(text(r.Body, "properties", "principalId"), who.ObjectID) {
			return true
		}
	}
	return false
}

// may reports whether the caller's roles allow the request. Operations are
// open to who has their address, because the role may go with the group that
// is deleted; a subscription and one's own permissions may be read with any
// role in it, and so may the list of its groups, which holds those that one may
// read.
func (s *Server) may(c *armCall) bool {
	path := strings.Join(c.low, "/")
	switch {
	case strings.HasPrefix(path, "operationresults/"), strings.Contains(path, "/operations/"), strings.Contains(path, "/operationresults/"):
		return c.method == http.MethodGet
	case path == "", path == "resourcegroups" && c.method == http.MethodGet, strings.HasSuffix(path, "microsoft.authorization/permissions"):
		return s.hasAnyRole(c.caller, c.sub)
	}
	read := c.method == http.MethodGet || c.method == http.MethodHead
	rights := strings.Contains(path, "providers/microsoft.authorization/")
	for _, role := range s.rolesAt(c.caller, c.sub, strings.TrimSuffix("/subscriptions/"+c.sub.ID+"/"+strings.Join(c.seg, "/"), "/")) {
		switch role {
		case roleOwner:
			return true
		case roleContributor:
			if read || !rights {
				return true
			}
		case roleReader:
			if read {
				return true
			}
		}
	}
	return false
}

func (s *Server) permissions(who *caller, sub *Subscription, scope string) []any {
	out := []any{}
	for _, role := range s.rolesAt(who, sub, scope) {
		p := map[string]any{"actions": []any{"*/read"}, "notActions": []any{}, "dataActions": []any{}, "notDataActions": []any{}}
		switch role {
		case roleOwner:
			p["actions"] = []any{"*"}
		case roleContributor:
			p["actions"] = []any{"*"}
			p["notActions"] = []any{"Microsoft.Authorization/*/Delete", "Microsoft.Authorization/*/Write", "Microsoft.Authorization/elevateAccess/Action"}
		case roleReader:
		default:
			continue
		}
		out = append(out, p)
	}
	return out
}

func (s *Server) roleAssignmentCall(c *armCall, scope string, rest []string) (*reply, *armError) {
	if len(rest) == 1 {
		out := []any{}
		for _, r := range s.ofType("Microsoft.Authorization/roleAssignments") {
			if strings.HasPrefix(r.key(), strings.ToLower(scope)+"/") {
				out = append(out, s.showRoleAssignment(r))
			}
		}
		return ok(map[string]any{"value": out}), nil
	}
	if len(rest) != 2 {
		return nil, methodNotAllowed(c)
	}
	id := scope + "/providers/Microsoft.Authorization/roleAssignments/" + rest[1]
	r := s.st.Resources[strings.ToLower(id)]
	switch c.method {
	case http.MethodGet:
		if r == nil {
			return nil, armErrorf(http.StatusNotFound, "RoleAssignmentNotFound", "The role assignment '%s' is not found.", rest[1])
		}
		return ok(s.showRoleAssignment(r)), nil
	case http.MethodDelete:
		if r == nil {
			return &reply{status: http.StatusNoContent}, nil
		}
		delete(s.st.Resources, r.key())
		s.dirty = true
		return ok(s.showRoleAssignment(r)), nil
	case http.MethodPut:
		m, err := s.read(c, "microsoft.authorization/roleassignments", childBody[roleAssignmentProperties]{})
		if err != nil {
			return nil, err
		}
		g := &group{Subscription: c.sub.ID}
		if c.low[0] == "resourcegroups" {
			g = s.st.Groups[s.groupID(c.sub.ID, c.seg[1])]
		}
		d := &definition{sub: c.sub, group: g, kind: "microsoft.authorization/roleassignments", name: rest[1], id: id, body: m}
		if err := s.check(d); err != nil {
			return nil, err
		}
		made, _, _, err := s.apply(d)
		if err != nil {
			return nil, err
		}
		return &reply{status: http.StatusCreated, body: s.showRoleAssignment(made)}, nil
	}
	return nil, methodNotAllowed(c)
}

func (s *Server) showRoleAssignment(r *resource) map[string]any {
	out := s.show(r)
	p := object(out, "properties")
	delete(p, "provisioningState")
	p["scope"] = r.ID[:strings.Index(r.key(), "/providers/microsoft.authorization/")]
	return out
}

// realizeRole checks a role assignment's principal. Without principalType it
// must have replicated.
func (s *Server) realizeRole(d *definition, r *resource, body map[string]any, created bool) *armError {
	id := text(body, "properties", "principalId")
	tenant := strings.ToLower(d.sub.Tenant)
	found := s.principalByID(tenant, id) != nil || s.st.Objects[strings.ToLower(id)] != nil
	if !found && text(body, "properties", "principalType") != "" {
		found = s.st.Principals[strings.ToLower(id)] != nil
	}
	if !found {
		return armErrorf(http.StatusBadRequest, "PrincipalNotFound", "Principal %s does not exist in the directory %s. Check that you have the correct principal ID. If you are creating this principal and then immediately assigning a role, this error might be related to a replication delay. In this case, set the role assignment principalType property to a value, such as ServicePrincipal, User, or Group.", strings.ReplaceAll(id, "-", ""), tenant)
	}
	if !created && (text(r.Body, "properties", "principalId") != id || !strings.EqualFold(text(r.Body, "properties", "roleDefinitionId"), text(body, "properties", "roleDefinitionId"))) {
		return armErrorf(http.StatusBadRequest, "RoleAssignmentUpdateNotPermitted", "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.")
	}
	for _, o := range s.ofType("Microsoft.Authorization/roleAssignments") {
		if o.key() != strings.ToLower(d.id) && o.key()[:strings.LastIndex(o.key(), "/")] == strings.ToLower(d.id[:strings.LastIndex(d.id, "/")]) && text(o.Body, "properties", "principalId") == id && strings.EqualFold(text(o.Body, "properties", "roleDefinitionId"), text(body, "properties", "roleDefinitionId")) {
			return armErrorf(http.StatusConflict, "RoleAssignmentExists", "The role assignment already exists.")
		}
	}
	return nil
}
