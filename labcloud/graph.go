package labcloud

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Microsoft Graph v1.0 (azure.md 7): the tenant, applications and their
// secrets, service principals, both kinds of consent. graph_delta.go has users
// and groups. An application's object ID, its appId and the object ID of its
// service principal are three different GUIDs, and each call takes only the
// one that is its own.

// An application is an app registration.
type application struct {
	ID, AppID, Tenant string
	Created           time.Time
	Body              map[string]any // as Graph shows it, without IDs and credentials
	Secrets           []appSecret
	Certificates      [][]byte // DER
	Federated         []Federated
	Configured        bool // it comes from Config.Apps
	DeletedAt         time.Time
	Lag               int // uses for which it is still unknown
}

func (a *application) exists() bool { return a.DeletedAt.IsZero() }

type appSecret struct {
	KeyID, Name, Hint, Hash string
	Start, End              time.Time
	Lag                     int
}

// A principal is a service principal: of an application or of a managed
// identity.
type principal struct {
	ID, AppID, Tenant, Name string
	Type                    string   // Application or ManagedIdentity
	GraphRoles              []string // given by the configuration
	Lag                     int
}

// A grant is delegated consent, a roleGrant consent to an application role.
type grant struct {
	ID, ClientID, ConsentType, PrincipalID, ResourceID, Scope string
}

type roleGrant struct {
	ID, PrincipalID, ResourceID, RoleID string
	Created                             time.Time
}

// graphRoles are the application roles of Graph itself that are known here.
var graphRoles = map[string]string{
	"7ab1d382-f21e-4acd-a863-ba3e13f7da61": "Directory.Read.All",
	"1bfefb4e-e0b5-418b-a88f-73c46d2cc8e9": "Application.ReadWrite.All",
	"06b708a9-e830-4db3-a914-8e69da51d44f": "AppRoleAssignment.ReadWrite.All",
	"8e8e4742-1d95-4f68-9d56-6ee75648c72a": "DelegatedPermissionGrant.ReadWrite.All",
}

// A graphError is a refusal in Graph's shape.
type graphError struct {
	status     int
	code, text string
}

func refuse(status int, code, text string) *graphError { return &graphError{status, code, text} }

func noResource(id string) *graphError {
	return refuse(http.StatusNotFound, "Request_ResourceNotFound", "Resource '"+id+"' does not exist or one of its queried reference-property objects are not present.")
}

func badRequest(text string) *graphError {
	return refuse(http.StatusBadRequest, "Request_BadRequest", text)
}

// A graphCall is one authenticated request. Handlers run with s.world held.
type graphCall struct {
	*caller
	method string
	query  url.Values
	body   []byte
	args   []string // what the route's pattern caught
}

type graphRoute struct {
	method, path string
	// rights are the application permissions of which one is needed; a user
	// may do everything.
	rights []string
	do     func(s *Server, c *graphCall) (int, any, *graphError)
}

var (
	mayRead    = []string{"Directory.Read.All", "Application.Read.All", "Application.ReadWrite.All", "Directory.ReadWrite.All"}
	mayWrite   = []string{"Application.ReadWrite.All", "Directory.ReadWrite.All"}
	mayConsent = []string{"DelegatedPermissionGrant.ReadWrite.All", "Directory.ReadWrite.All"}
	mayAssign  = []string{"AppRoleAssignment.ReadWrite.All"}
	mayUsers   = []string{"Directory.Read.All", "User.Read.All", "Group.Read.All", "Directory.ReadWrite.All"}
)

var graphRoutes = []graphRoute{
	{"GET", `/organization`, mayRead, (*Server).organization},
	{"GET", `/applications`, mayRead, (*Server).listApplications},
	{"POST", `/applications`, mayWrite, (*Server).createApplication},
	{"GET", `/applications/([^/()]+)`, mayRead, (*Server).getApplication},
	{"GET", `/applications(\(appId='[^']+'\))`, mayRead, (*Server).getApplication},
	{"PATCH", `/applications/([^/()]+)`, mayWrite, (*Server).updateApplication},
	{"PATCH", `/applications(\(appId='[^']+'\))`, mayWrite, (*Server).updateApplication},
	{"DELETE", `/applications/([^/()]+)`, mayWrite, (*Server).deleteApplication},
	{"POST", `/applications/([^/()]+)/addPassword`, mayWrite, (*Server).addPassword},
	{"POST", `/applications/([^/()]+)/removePassword`, mayWrite, (*Server).removePassword},
	{"GET", `/servicePrincipals`, mayRead, (*Server).listPrincipals},
	{"POST", `/servicePrincipals`, mayWrite, (*Server).createPrincipal},
	{"GET", `/servicePrincipals/([^/()]+)`, mayRead, (*Server).getPrincipal},
	{"GET", `/servicePrincipals(\(appId='[^']+'\))`, mayRead, (*Server).getPrincipal},
	{"DELETE", `/servicePrincipals/([^/()]+)`, mayWrite, (*Server).deletePrincipal},
	{"GET", `/servicePrincipals/([^/()]+)/appRoleAssignments`, mayRead, (*Server).listRoleGrants},
	{"POST", `/servicePrincipals/([^/()]+)/appRoleAssignments`, mayAssign, (*Server).createRoleGrant},
	{"DELETE", `/servicePrincipals/([^/()]+)/appRoleAssignments/([^/()]+)`, mayAssign, (*Server).deleteRoleGrant},
	{"GET", `/oauth2PermissionGrants`, mayRead, (*Server).listGrants},
	{"POST", `/oauth2PermissionGrants`, mayConsent, (*Server).createGrant},
	{"DELETE", `/oauth2PermissionGrants/([^/()]+)`, mayConsent, (*Server).deleteGrant},
	{"DELETE", `/directory/deletedItems/([^/()]+)`, mayWrite, (*Server).purgeApplication},
	{"GET", `/(users|groups)/(?:microsoft\.graph\.)?delta(?:\(\))?`, mayUsers, (*Server).delta},
}

func (s *Server) serveGraph(w http.ResponseWriter, r *http.Request) {
	id := newGUID()
	fail := func(e *graphError) {
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("request-id", id)
		if e.status == http.StatusUnauthorized {
			h.Set("WWW-Authenticate", `Bearer realm="", authorization_uri="`+s.BaseURL()+`/common/oauth2/authorize", client_id="`+graphAppID+`"`)
		}
		w.WriteHeader(e.status)
		json.NewEncoder(w).Encode(graphErrorBody(e, id, s.cfg.Now()))
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		fail(refuse(http.StatusUnauthorized, "InvalidAuthenticationToken", "Access token is empty."))
		return
	}
	who, err := s.validate(token, "https://"+s.hosts.Graph, graphAppID)
	if err != nil {
		fail(refuse(http.StatusUnauthorized, "InvalidAuthenticationToken", err.Error()))
		return
	}
	if f := s.statusFault(r); f != nil {
		f.write(w, func(w http.ResponseWriter) {
			json.NewEncoder(w).Encode(graphErrorBody(refuse(f.Status, f.Code, f.Message), id, s.cfg.Now()))
		})
		return
	}
	if f := s.requestFault("forbidden", r); f != nil {
		fail(refuse(http.StatusForbidden, "Authorization_RequestDenied", "Insufficient privileges to complete the operation."))
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/v1.0")
	if !ok {
		fail(badRequest("Invalid version: only v1.0 is served."))
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		fail(refuse(http.StatusRequestEntityTooLarge, "Request_EntityTooLarge", err.Error()))
		return
	}
	route, args, others := findRoute(r.Method, path)
	switch {
	case route == nil && others:
		fail(refuse(http.StatusMethodNotAllowed, "Request_BadRequest", "Specified HTTP method is not allowed for the request target."))
		return
	case route == nil:
		fail(badRequest("Resource not found for the segment '" + strings.Trim(path, "/") + "'."))
		return
	case who.UPN == "" && !slices.ContainsFunc(route.rights, func(role string) bool { return slices.Contains(who.Roles, role) }):
		fail(refuse(http.StatusForbidden, "Authorization_RequestDenied", "Insufficient privileges to complete the operation."))
		return
	}
	var status int
	var v any
	var refused *graphError
	s.change(func() {
		status, v, refused = route.do(s, &graphCall{caller: who, method: r.Method, query: r.URL.Query(), body: body, args: args})
		if v != nil {
			v = clone(v) // encoded after the lock is gone
		}
	})
	if refused != nil {
		fail(refused)
		return
	}
	w.Header().Set("request-id", id)
	if v == nil {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json;odata.metadata=minimal")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func graphErrorBody(e *graphError, id string, now time.Time) any {
	inner := map[string]any{"date": now.UTC().Format("2006-01-02T15:04:05"), "request-id": id, "client-request-id": id}
	return map[string]any{"error": map[string]any{"code": e.code, "message": e.text, "innerError": inner}}
}

func findRoute(method, path string) (_ *graphRoute, args []string, others bool) {
	for i := range graphRoutes {
		m := pattern("(?i)^" + graphRoutes[i].path + "$").FindStringSubmatch(path)
		if m == nil {
			continue
		}
		if graphRoutes[i].method == method {
			return &graphRoutes[i], m[1:], false
		}
		others = true
	}
	return nil, nil, others
}

// read decodes a body strictly.
func (s *Server) readGraph(c *graphCall, kind string, want any) (map[string]any, *graphError) {
	if s.cfg.Observe != nil {
		s.cfg.Observe("graph."+kind, c.body)
	}
	v, err := parse(c.body)
	m, ok := v.(map[string]any)
	if err != nil || !ok {
		return nil, refuse(http.StatusBadRequest, "BadRequest", "Unable to read JSON request payload. Please ensure Content-Type header is set and payload is of valid JSON format.")
	}
	if p := shape(v, want, ""); len(p) > 0 {
		return nil, badRequest("Invalid property '" + p[0].Path + "': " + p[0].Text)
	}
	return m, nil
}

func (s *Server) organization(c *graphCall) (int, any, *graphError) {
	t := s.tenants[c.Tenant]
	domains := []any{map[string]any{"name": t.Domain, "isDefault": true, "isInitial": true, "type": "Managed", "capabilities": "Email"}}
	return http.StatusOK, map[string]any{"value": []any{map[string]any{"id": t.ID, "displayName": t.Name, "verifiedDomains": domains}}}, nil
}

var filterPattern = regexp.MustCompile(`^(\w+)\s+eq\s+'((?:[^']|'')*)'$`)

// filter reads "name eq 'value'", all that is supported.
func filter(c *graphCall, allowed ...string) (name, value string, _ *graphError) {
	f := c.query.Get("$filter")
	if f == "" {
		return "", "", nil
	}
	m := filterPattern.FindStringSubmatch(f)
	if m == nil || !slices.Contains(allowed, m[1]) {
		return "", "", badRequest("Unsupported or invalid query filter clause specified for property: " + f)
	}
	return m[1], strings.ReplaceAll(m[2], "''", "'"), nil
}

func (s *Server) showApplication(a *application) map[string]any {
	out := clone(a.Body)
	out["id"], out["appId"], out["createdDateTime"], out["publisherDomain"] = a.ID, a.AppID, a.Created.Format(time.RFC3339), s.tenants[a.Tenant].Domain
	secrets := []any{}
	for _, k := range a.Secrets {
		secrets = append(secrets, showSecret(k))
	}
	out["passwordCredentials"] = secrets
	for _, name := range []string{"identifierUris", "requiredResourceAccess", "keyCredentials", "appRoles", "tags"} {
		if out[name] == nil {
			out[name] = []any{}
		}
	}
	return out
}

func showSecret(k appSecret) map[string]any {
	return map[string]any{"keyId": k.KeyID, "displayName": k.Name, "hint": k.Hint, "startDateTime": k.Start.Format(time.RFC3339), "endDateTime": k.End.Format(time.RFC3339), "secretText": nil}
}

func (s *Server) listApplications(c *graphCall) (int, any, *graphError) {
	name, value, fail := filter(c, "displayName", "appId")
	if fail != nil {
		return 0, nil, fail
	}
	var out []any
	for _, id := range sortedKeys(s.st.Applications) {
		a := s.st.Applications[id]
		if a.Tenant == c.Tenant && a.exists() && (name == "" || strings.EqualFold(text(s.showApplication(a), name), value)) {
			out = append(out, s.showApplication(a))
		}
	}
	return page(s, c, "applications", out)
}

// page cuts a collection by $top and $skiptoken.
func page(s *Server, c *graphCall, path string, all []any) (int, any, *graphError) {
	top, _ := strconv.Atoi(c.query.Get("$top"))
	if top <= 0 || top > 999 {
		top = 100
	}
	skip, _ := strconv.Atoi(c.query.Get("$skiptoken"))
	skip = min(max(skip, 0), len(all))
	end := min(skip+top, len(all))
	out := map[string]any{"@odata.context": "https://" + s.hosts.Graph + "/v1.0/$metadata#" + path, "value": append([]any{}, all[skip:end]...)}
	if end < len(all) {
		q := url.Values{}
		for k, v := range c.query {
			q[k] = v
		}
		q.Set("$skiptoken", strconv.Itoa(end))
		out["@odata.nextLink"] = "https://" + s.hosts.Graph + "/v1.0/" + path + "?" + q.Encode()
	}
	return http.StatusOK, out, nil
}

// applicationOf finds by object ID, or by "(appId='...')".
func (s *Server) applicationOf(c *graphCall) (*application, *graphError) {
	arg := c.args[0]
	if appID, ok := strings.CutPrefix(arg, "(appId='"); ok {
		appID = strings.TrimSuffix(appID, "')")
		for _, a := range s.st.Applications {
			if a.Tenant == c.Tenant && a.exists() && strings.EqualFold(a.AppID, appID) {
				return a, nil
			}
		}
		return nil, noResource(appID)
	}
	a := s.st.Applications[strings.ToLower(arg)]
	if a == nil || a.Tenant != c.Tenant || !a.exists() {
		return nil, noResource(arg)
	}
	return a, nil
}

func (s *Server) getApplication(c *graphCall) (int, any, *graphError) {
	a, fail := s.applicationOf(c)
	if fail != nil {
		return 0, nil, fail
	}
	return http.StatusOK, s.showApplication(a), nil
}

func (s *Server) createApplication(c *graphCall) (int, any, *graphError) {
	m, fail := s.readGraph(c, "createApplication", applicationBody{})
	if fail != nil {
		return 0, nil, fail
	}
	if text(m, "displayName") == "" {
		return 0, nil, badRequest("A value is required for property 'displayName' of resource 'Application'.")
	}
	a := &application{ID: newGUID(), AppID: newGUID(), Tenant: c.Tenant, Created: s.cfg.Now().UTC(), Body: m, Lag: s.lag()}
	if fail := s.checkApplication(a, m); fail != nil {
		return 0, nil, fail
	}
	if m["signInAudience"] == nil {
		m["signInAudience"] = "AzureADandPersonalMicrosoftAccount"
	}
	s.st.Applications[a.ID] = a
	s.dirty = true
	return http.StatusCreated, s.showApplication(a), nil
}

func (s *Server) updateApplication(c *graphCall) (int, any, *graphError) {
	a, fail := s.applicationOf(c)
	if fail != nil {
		return 0, nil, fail
	}
	m, fail := s.readGraph(c, "updateApplication", applicationBody{})
	if fail != nil {
		return 0, nil, fail
	}
	if fail := s.checkApplication(a, m); fail != nil {
		return 0, nil, fail
	}
	merge(a.Body, m)
	s.dirty = true
	return http.StatusNoContent, nil, nil
}

// checkApplication holds a body against what no schema sees: URIs that are
// unique and of an allowed form, scopes with IDs of their own.
func (s *Server) checkApplication(a *application, m map[string]any) *graphError {
	for _, v := range list(m, "identifierUris") {
		uri := v.(string)
		for _, o := range s.st.Applications {
			if o.Tenant == a.Tenant && o.ID != a.ID && slices.ContainsFunc(list(o.Body, "identifierUris"), func(u any) bool { return strings.EqualFold(u.(string), uri) }) {
				return badRequest("Another object with the same value for property identifierUris already exists.")
			}
		}
		t := s.tenants[a.Tenant]
		ok := strings.HasPrefix(uri, "api://"+t.ID) || strings.HasPrefix(uri, "api://"+a.AppID) || strings.HasPrefix(uri, "https://"+t.Domain+"/")
		if !ok {
			return badRequest("Values of identifierUris property must use a verified domain of the organization or its subdomain: '" + uri + "'")
		}
	}
	seen := map[string]bool{}
	for _, sc := range list(m, "api", "oauth2PermissionScopes") {
		if id := strings.ToLower(text(sc, "id")); seen[id] {
			return badRequest("Property api.oauth2PermissionScopes has duplicate ids.")
		} else {
			seen[id] = true
		}
	}
	return nil
}

func (s *Server) deleteApplication(c *graphCall) (int, any, *graphError) {
	a, fail := s.applicationOf(c)
	if fail != nil {
		return 0, nil, fail
	}
	a.DeletedAt = s.cfg.Now().UTC()
	for id, p := range s.st.Principals {
		if p.Tenant == c.Tenant && p.AppID == a.AppID {
			s.dropPrincipal(id)
		}
	}
	s.dirty = true
	return http.StatusNoContent, nil, nil
}

// purgeApplication removes a deleted app for good; until then its URIs stay
// taken.
func (s *Server) purgeApplication(c *graphCall) (int, any, *graphError) {
	a := s.st.Applications[strings.ToLower(c.args[0])]
	if a == nil || a.Tenant != c.Tenant || a.exists() {
		return 0, nil, noResource(c.args[0])
	}
	delete(s.st.Applications, a.ID)
	s.dirty = true
	return http.StatusNoContent, nil, nil
}
