package labcloud

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Resource Manager (azure.md 2 to 5). serveARM authenticates, checks the
// api-version and the caller's role, and dispatches by path:
//
//	arm_groups.go      subscriptions, locations, providers, resource groups
//	arm_checks.go      name checks, quota, sizes, permissions, metrics
//	arm_deploy.go      deployments of templates; arm_expr.go resolves them
//	arm_resources.go   resources: create, read, delete; arm_types.go knows the types
//	arm_scaleset.go    scale sets and their machines
//	arm_async.go       long operations

// An armError is a refusal in Resource Manager's shape.
type armError struct {
	Status  int         `json:"-"`
	Code    string      `json:"code"`
	Message string      `json:"message"`
	Target  string      `json:"target,omitempty"`
	Details []*armError `json:"details,omitempty"`
}

func armErrorf(status int, code, format string, args ...any) *armError {
	return &armError{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

// A reply is an answer that is not a refusal.
type reply struct {
	status int
	body   any // nil: empty
	header http.Header
}

func ok(body any) *reply { return &reply{status: http.StatusOK, body: body} }

// An armCall is one authenticated request. Handlers run with s.world held.
type armCall struct {
	*caller
	r       *http.Request
	base    string // https:// and the host asked
	method  string
	query   url.Values
	version string // api-version
	body    []byte
	sub     *Subscription
	// segments of the path after the subscription, and the same in lower case.
	seg, low []string
}

func (s *Server) serveARM(w http.ResponseWriter, r *http.Request) {
	id := newGUID()
	h := w.Header()
	h.Set("x-ms-request-id", id)
	h.Set("x-ms-correlation-request-id", id)
	fail := func(e *armError) {
		h.Set("Content-Type", "application/json; charset=utf-8")
		h.Set("x-ms-failure-cause", "gateway")
		w.WriteHeader(e.Status)
		if r.Method != http.MethodHead {
			json.NewEncoder(w).Encode(map[string]any{"error": e})
		}
	}
	token, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	challenge := `Bearer authorization_uri="` + s.BaseURL() + `/common", error="invalid_token"`
	if !found {
		h.Set("WWW-Authenticate", challenge)
		fail(armErrorf(http.StatusUnauthorized, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing."))
		return
	}
	who, err := s.validate(token, append(s.hosts.ARMAudiences, "https://"+s.hosts.ARM)...)
	if err != nil {
		code := "InvalidAuthenticationToken"
		if err == errTokenExpired {
			code = "ExpiredAuthenticationToken"
		}
		h.Set("WWW-Authenticate", challenge)
		fail(armErrorf(http.StatusUnauthorized, code, "%v.", err))
		return
	}
	if f := s.statusFault(r); f != nil {
		f.write(w, func(w http.ResponseWriter) {
			json.NewEncoder(w).Encode(map[string]any{"error": armErrorf(f.Status, f.Code, "%s", f.Message)})
		})
		return
	}
	if f := s.requestFault("forbidden", r); f != nil {
		fail(notAllowed(who, r.Method, r.URL.Path))
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		fail(armErrorf(http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "%v", err))
		return
	}
	c := &armCall{caller: who, r: r, base: "https://" + r.Host, method: r.Method, query: r.URL.Query(), body: body}
	var rep *reply
	var refused *armError
	s.change(func() {
		rep, refused = s.arm(c)
		if rep != nil && rep.body != nil {
			rep.body = clone(rep.body) // encoded after the lock is gone
		}
	})
	if refused != nil {
		fail(refused)
		return
	}
	for k, v := range rep.header {
		h[k] = v
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		h.Set("x-ms-ratelimit-remaining-subscription-reads", "11999")
	case http.MethodDelete:
		h.Set("x-ms-ratelimit-remaining-subscription-deletes", "14999")
	default:
		h.Set("x-ms-ratelimit-remaining-subscription-writes", "1199")
	}
	if strings.Contains(strings.ToLower(r.URL.Path), "/providers/microsoft.compute/") {
		h.Set("x-ms-ratelimit-remaining-resource", "Microsoft.Compute/HighCostGet3Min;199,Microsoft.Compute/HighCostGet30Min;999")
	}
	if rep.body == nil {
		w.WriteHeader(rep.status)
		return
	}
	h.Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(rep.status)
	json.NewEncoder(w).Encode(rep.body)
}

func notAllowed(who *caller, method, scope string) *armError {
	action := map[string]string{http.MethodGet: "read", http.MethodHead: "read", http.MethodDelete: "delete", http.MethodPost: "action"}[method]
	if action == "" {
		action = "write"
	}
	return armErrorf(http.StatusForbidden, "AuthorizationFailed", "The client '%s' with object id '%s' does not have authorization to perform action '%s' over scope '%s' or the scope is invalid. If access was recently granted, please refresh your credentials.", who.AppID, who.ObjectID, action, scope)
}

// arm is the route table, from the subscription down.
func (s *Server) arm(c *armCall) (*reply, *armError) {
	path := strings.Trim(c.r.URL.Path, "/")
	seg := strings.Split(path, "/")
	if !strings.EqualFold(seg[0], "subscriptions") || slices.Contains(seg, "") {
		return nil, armErrorf(http.StatusNotFound, "NotFound", "The path '/%s' is not known.", path)
	}
	if len(seg) == 1 {
		if err := s.checkVersion(c, "subscriptions"); err != nil {
			return nil, err
		}
		return s.listSubscriptions(c)
	}
	for i := range s.cfg.Subscriptions {
		if sub := &s.cfg.Subscriptions[i]; strings.EqualFold(sub.ID, seg[1]) {
			c.sub = sub
		}
	}
	switch {
	case !isGUID(seg[1]):
		return nil, armErrorf(http.StatusBadRequest, "InvalidSubscriptionId", "The provided subscription identifier '%s' is malformed or invalid.", seg[1])
	case c.sub == nil:
		return nil, armErrorf(http.StatusNotFound, "SubscriptionNotFound", "The subscription '%s' could not be found.", seg[1])
	case !strings.EqualFold(c.sub.Tenant, c.Tenant):
		return nil, armErrorf(http.StatusUnauthorized, "InvalidAuthenticationTokenTenant", "The access token is from the wrong issuer. It must match the tenant '%s' associated with this subscription.", c.sub.Tenant)
	}
	c.seg = seg[2:]
	for _, p := range c.seg {
		c.low = append(c.low, strings.ToLower(p))
	}
	if !s.may(c) {
		return nil, notAllowed(c.caller, c.method, "/"+path)
	}
	route := func(kind string, do func(*armCall) (*reply, *armError)) (*reply, *armError) {
		if err := s.checkVersion(c, kind); err != nil {
			return nil, err
		}
		return do(c)
	}
	n := len(c.low)
	switch {
	case n == 0:
		return route("subscriptions", s.getSubscription)
	case n == 1 && c.low[0] == "locations":
		return route("locations", s.listLocations)
	case n == 1 && c.low[0] == "providers":
		return route("providers", s.listProviders)
	case n == 2 && c.low[0] == "providers":
		return route("providers", s.getProvider)
	case n == 3 && c.low[0] == "providers" && c.low[2] == "register":
		return route("providers", s.registerProvider)
	case n == 1 && c.low[0] == "resources":
		return route("resources", s.listResources)
	case n == 2 && c.low[0] == "operationresults":
		return route("resources", func(c *armCall) (*reply, *armError) { return s.operationResult(c, c.low[1]) })
	case c.low[0] == "resourcegroups" && n == 1:
		return route("resourcegroups", s.listGroups)
	case c.low[0] == "resourcegroups" && n == 2:
		return route("resourcegroups", s.groupCall)
	case c.low[0] == "resourcegroups" && n == 3 && c.low[2] == "resources":
		return route("resources", s.listResources)
	}
	return s.providerCall(c)
}

// providerCall dispatches what lies below a resource provider, at the
// subscription, a group or a resource.
func (s *Server) providerCall(c *armCall) (*reply, *armError) {
	at := -1
	for i, p := range c.low {
		if p == "providers" && i+1 < len(c.low) {
			at = i
		}
	}
	if at < 0 || at+2 >= len(c.low) {
		return nil, armErrorf(http.StatusNotFound, "InvalidResourceType", "The path '%s' is not known.", c.r.URL.Path)
	}
	ns, rest := c.low[at+1], c.low[at+2:]
	switch {
	case ns == "microsoft.authorization" || ns == "microsoft.insights":
		return s.extensionCall(c, at)
	case at == 0:
		return s.checkCall(c, ns, rest)
	case at != 2 || c.low[0] != "resourcegroups":
		return nil, armErrorf(http.StatusNotFound, "InvalidResourceType", "The path '%s' is not known.", c.r.URL.Path)
	}
	if s.st.Groups[s.groupID(c.sub.ID, c.seg[1])] == nil {
		return nil, groupNotFound(c.seg[1])
	}
	if ns == "microsoft.resources" && rest[0] == "deployments" {
		return s.deploymentCall(c, rest)
	}
	return s.resourceCall(c, at)
}

func groupNotFound(name string) *armError {
	return armErrorf(http.StatusNotFound, "ResourceGroupNotFound", "Resource group '%s' could not be found.", name)
}

// checkVersion holds the request's api-version against those of a type.
func (s *Server) checkVersion(c *armCall, kind string) *armError {
	c.version = c.query.Get("api-version")
	if c.version == "" {
		return armErrorf(http.StatusBadRequest, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests.")
	}
	known := apiVersions[kind]
	if known == nil {
		return armErrorf(http.StatusNotFound, "InvalidResourceType", "The resource type '%s' could not be found.", kind)
	}
	if slices.Contains(known, c.version) {
		return nil
	}
	if !strings.Contains(kind, "/") {
		return armErrorf(http.StatusBadRequest, "InvalidApiVersionParameter", "The api-version '%s' is invalid. The supported versions are '%s'.", c.version, strings.Join(known, ","))
	}
	ns, t, _ := strings.Cut(kind, "/")
	return armErrorf(http.StatusBadRequest, "NoRegisteredProviderFound", "No registered resource provider found for location '' and API version '%s' for type '%s' of '%s'. The supported api-versions are '%s'.", c.version, t, ns, strings.Join(known, ", "))
}

// read decodes a body strictly.
func (s *Server) read(c *armCall, kind string, want any) (map[string]any, *armError) {
	if s.cfg.Observe != nil {
		s.cfg.Observe("arm."+kind, c.body)
	}
	v, err := parse(c.body)
	m, isObject := v.(map[string]any)
	if err != nil || !isObject {
		return nil, armErrorf(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized: '%v'.", err)
	}
	return m, asArmError(shape(v, want, ""))
}

// asArmError turns what does not fit into one refusal.
func asArmError(problems []problem) *armError {
	if len(problems) == 0 {
		return nil
	}
	e := armErrorf(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized: '%s'.", problems[0].Text)
	e.Target = problems[0].Path
	if len(problems) > 1 {
		for _, p := range problems {
			e.Details = append(e.Details, &armError{Code: "InvalidRequestContent", Message: p.Text, Target: p.Path})
		}
	}
	return e
}

func methodNotAllowed(c *armCall) *armError {
	return armErrorf(http.StatusMethodNotAllowed, "MethodNotAllowed", "The HTTP method '%s' is not supported at '%s'.", c.method, c.r.URL.Path)
}
