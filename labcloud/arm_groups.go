package labcloud

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Subscriptions, locations, resource providers and resource groups.

// A group is a resource group.
type group struct {
	Subscription, Name, Location string
	Tags                         map[string]any
	Deleting                     bool
}

func (s *Server) groupID(sub, name string) string {
	return strings.ToLower("/subscriptions/" + sub + "/resourceGroups/" + name)
}

func (s *Server) showSubscription(sub *Subscription) map[string]any {
	name := sub.Name
	if name == "" {
		name = "Lab"
	}
	return map[string]any{"id": "/subscriptions/" + sub.ID, "subscriptionId": sub.ID, "displayName": name, "state": "Enabled", "tenantId": strings.ToLower(sub.Tenant), "authorizationSource": "RoleBased",
		"subscriptionPolicies": map[string]any{"locationPlacementId": "Public_2014-09-01", "quotaId": "PayAsYouGo_2014-09-01", "spendingLimit": "Off"}}
}

func (s *Server) listSubscriptions(c *armCall) (*reply, *armError) {
	out := []any{}
	for i := range s.cfg.Subscriptions {
		sub := &s.cfg.Subscriptions[i]
		if strings.EqualFold(sub.Tenant, c.Tenant) && s.hasAnyRole(c.caller, sub) {
			out = append(out, s.showSubscription(sub))
		}
	}
	return s.armPage(c, out, map[string]any{"count": map[string]any{"type": "Total", "value": len(out)}})
}

// armPage answers a page of a list, with the address of the next one and what
// else an answer of its kind has.
func (s *Server) armPage(c *armCall, all []any, more map[string]any) (*reply, *armError) {
	if c.method != http.MethodGet {
		return nil, methodNotAllowed(c)
	}
	most := s.cfg.PageSize
	if most <= 0 {
		most = 1000
	}
	from := 0
	if token := c.query.Get("$skiptoken"); token != "" {
		n, err := strconv.Atoi(token)
		if err != nil || n < 0 || n > len(all) {
			return nil, armErrorf(http.StatusBadRequest, "InvalidSkipToken", "The provided skip token '%s' is invalid.", token)
		}
		from = n
	}
	end := min(from+most, len(all))
	out := map[string]any{"value": append([]any{}, all[from:end]...)}
	maps.Copy(out, more)
	if end < len(all) {
		q := maps.Clone(c.query)
		q.Set("$skiptoken", strconv.Itoa(end))
		out["nextLink"] = c.base + c.r.URL.Path + "?" + q.Encode()
	}
	return ok(out), nil
}

func (s *Server) getSubscription(c *armCall) (*reply, *armError) {
	return ok(s.showSubscription(c.sub)), nil
}

func (s *Server) listLocations(c *armCall) (*reply, *armError) {
	out := []any{}
	for _, r := range s.cfg.Regions {
		kind := "Physical"
		if r.Logical {
			kind = "Logical"
		}
		out = append(out, map[string]any{"id": "/subscriptions/" + c.sub.ID + "/locations/" + r.Name, "name": r.Name, "type": "Region", "displayName": r.DisplayName, "regionalDisplayName": r.DisplayName,
			"metadata": map[string]any{"regionType": kind, "regionCategory": "Recommended"}})
	}
	return ok(map[string]any{"value": out}), nil
}

const (
	notRegistered = "NotRegistered"
	registering   = "Registering"
	registered    = "Registered"
)

func (s *Server) providerState(sub *Subscription, ns string) string {
	if st, ok := s.st.Providers[strings.ToLower(sub.ID+"/"+ns)]; ok {
		return st
	}
	if slices.ContainsFunc(sub.Unregistered, func(u string) bool { return strings.EqualFold(u, ns) }) {
		return notRegistered
	}
	return registered
}

// showProvider lists the resource types with their regions, by display name
// as Azure does.
func (s *Server) showProvider(sub *Subscription, ns string) map[string]any {
	types := []any{}
	for _, t := range slices.Sorted(maps.Keys(apiVersions)) {
		n, name, found := strings.Cut(t, "/")
		if !found || !strings.EqualFold(n, ns) {
			continue
		}
		places := []any{}
		for _, r := range s.cfg.Regions {
			if !r.Logical && !(r.NoScaleSets && strings.HasPrefix(strings.ToLower(name), "virtualmachinescalesets")) {
				places = append(places, r.DisplayName)
			}
		}
		versions := slices.Clone(apiVersions[t])
		slices.Sort(versions)
		slices.Reverse(versions)
		types = append(types, map[string]any{"resourceType": typeNames[t], "locations": places, "apiVersions": versions})
	}
	return map[string]any{"id": "/subscriptions/" + sub.ID + "/providers/" + ns, "namespace": ns, "registrationState": s.providerState(sub, ns), "registrationPolicy": "RegistrationRequired", "resourceTypes": types}
}

func providerName(ns string) (string, bool) {
	for _, n := range providerNames {
		if strings.EqualFold(n, ns) {
			return n, true
		}
	}
	return "", false
}

var providerNames = []string{"Microsoft.Authorization", "Microsoft.Compute", "Microsoft.Insights", "Microsoft.KeyVault", "Microsoft.ManagedIdentity", "Microsoft.Network", "Microsoft.Resources", "Microsoft.Storage"}

func (s *Server) listProviders(c *armCall) (*reply, *armError) {
	out := []any{}
	for _, ns := range providerNames {
		out = append(out, s.showProvider(c.sub, ns))
	}
	return ok(map[string]any{"value": out}), nil
}

func (s *Server) getProvider(c *armCall) (*reply, *armError) {
	ns, found := providerName(c.seg[1])
	if !found {
		return nil, armErrorf(http.StatusNotFound, "InvalidResourceNamespace", "The resource namespace '%s' is invalid.", c.seg[1])
	}
	if c.method != http.MethodGet {
		return nil, methodNotAllowed(c)
	}
	out := s.showProvider(c.sub, ns)
	if out["registrationState"] == registering { // the next look finds it done
		s.st.Providers[strings.ToLower(c.sub.ID+"/"+ns)] = registered
		s.dirty = true
	}
	return ok(out), nil
}

func (s *Server) registerProvider(c *armCall) (*reply, *armError) {
	ns, found := providerName(c.seg[1])
	if !found {
		return nil, armErrorf(http.StatusNotFound, "InvalidResourceNamespace", "The resource namespace '%s' is invalid.", c.seg[1])
	}
	if c.method != http.MethodPost {
		return nil, methodNotAllowed(c)
	}
	if s.providerState(c.sub, ns) == notRegistered {
		s.st.Providers[strings.ToLower(c.sub.ID+"/"+ns)] = registering
		s.dirty = true
	}
	return ok(s.showProvider(c.sub, ns)), nil
}

// needProvider refuses work for a provider that is not registered.
func (s *Server) needProvider(sub *Subscription, ns string) *armError {
	if s.providerState(sub, ns) == registered || strings.EqualFold(ns, "Microsoft.Authorization") {
		return nil
	}
	name, _ := providerName(ns)
	return armErrorf(http.StatusConflict, "MissingSubscriptionRegistration", "The subscription is not registered to use namespace '%s'. See https://aka.ms/rps-not-found for how to register subscriptions.", name)
}

var groupNames = regexp.MustCompile(`^[-\w.()]{0,89}[-\w()]$`)

type groupBody struct {
	Location  string            `json:"location" need:"1"`
	Tags      map[string]string `json:"tags"`
	ManagedBy string            `json:"managedBy"`
}

func (s *Server) showGroup(g *group) map[string]any {
	state := "Succeeded"
	if g.Deleting {
		state = "Deleting"
	}
	out := map[string]any{"id": "/subscriptions/" + g.Subscription + "/resourceGroups/" + g.Name, "name": g.Name, "type": "Microsoft.Resources/resourceGroups", "location": g.Location, "properties": map[string]any{"provisioningState": state}}
	if g.Tags != nil {
		out["tags"] = g.Tags
	}
	return out
}

// listGroups lists the groups in which the caller has a role, be it only there.
func (s *Server) listGroups(c *armCall) (*reply, *armError) {
	out := []any{}
	for _, id := range sortedKeys(s.st.Groups) {
		if g := s.st.Groups[id]; g.Subscription == c.sub.ID && len(s.rolesAt(c.caller, c.sub, id)) > 0 {
			out = append(out, s.showGroup(g))
		}
	}
	return s.armPage(c, out, nil)
}

func (s *Server) groupCall(c *armCall) (*reply, *armError) {
	name := c.seg[1]
	id := s.groupID(c.sub.ID, name)
	g := s.st.Groups[id]
	if c.method == http.MethodPut {
		return s.putGroupResource(c, id, name, g)
	}
	if g == nil {
		if c.method == http.MethodHead {
			return &reply{status: http.StatusNotFound}, nil
		}
		return nil, groupNotFound(name)
	}
	switch c.method {
	case http.MethodHead:
		return &reply{status: http.StatusNoContent}, nil
	case http.MethodGet:
		return ok(s.showGroup(g)), nil
	case http.MethodPatch:
		m, err := s.read(c, "resourcegroups", struct {
			Tags      map[string]string `json:"tags"`
			ManagedBy string            `json:"managedBy"`
			Name      string            `json:"name"`
		}{})
		if err != nil {
			return nil, err
		}
		g.Tags = object(m, "tags")
		s.dirty = true
		return ok(s.showGroup(g)), nil
	case http.MethodDelete:
		return s.deleteGroup(c, id, g)
	}
	return nil, methodNotAllowed(c)
}

func (s *Server) putGroupResource(c *armCall, id, name string, g *group) (*reply, *armError) {
	m, err := s.read(c, "resourcegroups", groupBody{})
	if err != nil {
		return nil, err
	}
	if !groupNames.MatchString(name) {
		return nil, armErrorf(http.StatusBadRequest, "InvalidResourceGroupName", "The provided resource group name '%s' has these invalid characters or ends in a dot.", name)
	}
	r, found := s.region(text(m, "location"))
	if !found {
		return nil, armErrorf(http.StatusBadRequest, "LocationNotAvailableForResourceGroup", "The provided location '%s' is not available for resource group.", text(m, "location"))
	}
	status := http.StatusOK
	switch {
	case g == nil:
		if f := s.fault("policy", "Microsoft.Resources/resourceGroups"); f != nil && f.Name != "" {
			return nil, policyRefusal("/subscriptions/" + c.sub.ID + "/resourceGroups/" + name)
		}
		g = &group{Subscription: c.sub.ID, Name: name, Location: r.Name}
		s.st.Groups[id] = g
		status = http.StatusCreated
	case g.Deleting:
		return nil, armErrorf(http.StatusConflict, "ResourceGroupBeingDeleted", "The resource group '%s' is in deprovisioning state and cannot perform this operation.", name)
	case g.Location != r.Name:
		return nil, armErrorf(http.StatusConflict, "InvalidResourceGroupLocation", "Invalid resource group location '%s'. The Resource group already exists in location '%s'.", r.Name, g.Location)
	}
	g.Tags = object(m, "tags")
	s.dirty = true
	return &reply{status: status, body: s.showGroup(g)}, nil
}

func policyRefusal(target string) *armError {
	e := armErrorf(http.StatusForbidden, "RequestDisallowedByPolicy", "Resource '%s' was disallowed by policy. Policy identifiers: '[{\"policyAssignment\":{\"name\":\"Lab policy\"}}]'.", target[strings.LastIndex(target, "/")+1:])
	e.Target = target
	return e
}

// deleteGroup removes everything in the group, in an order that no dependency
// forbids, without asking.
func (s *Server) deleteGroup(c *armCall, id string, g *group) (*reply, *armError) {
	g.Deleting = true
	var waits []func()
	for _, rid := range sortedKeys(s.st.Resources) {
		if r := s.st.Resources[rid]; r != nil && strings.HasPrefix(rid, id+"/") {
			waits = append(waits, s.remove(r))
		}
	}
	maps.DeleteFunc(s.st.Deployments, func(k string, _ *deployment) bool { return strings.HasPrefix(k, id+"/") })
	o := s.begin(c, id)
	s.background(o, func() *armError {
		for _, wait := range waits {
			wait()
		}
		s.change(func() {
			delete(s.st.Groups, id)
			s.dirty = true
		})
		return nil
	})
	h := http.Header{}
	h.Set("Location", c.base+"/subscriptions/"+c.sub.ID+"/operationresults/"+o.ID+"?api-version="+c.version)
	s.waitHeaders(h)
	return &reply{status: http.StatusAccepted, header: h}, nil
}

// listResources lists a subscription's or a group's resources, without
// children; the filters tagName/tagValue and resourceType are understood.
func (s *Server) listResources(c *armCall) (*reply, *armError) {
	if c.method != http.MethodGet {
		return nil, methodNotAllowed(c)
	}
	prefix := strings.ToLower("/subscriptions/" + c.sub.ID + "/")
	if c.low[0] == "resourcegroups" {
		id := s.groupID(c.sub.ID, c.seg[1])
		if s.st.Groups[id] == nil {
			return nil, groupNotFound(c.seg[1])
		}
		prefix = id + "/"
	}
	keep, err := resourceFilter(c.query.Get("$filter"))
	if err != nil {
		return nil, err
	}
	out := []any{}
	for _, r := range s.resources() {
		if strings.HasPrefix(r.key(), prefix) && strings.Count(r.Type, "/") == 1 && !r.extension() && keep(r) {
			e := map[string]any{"id": r.ID, "name": r.Name, "type": r.Type, "location": r.Location}
			for _, k := range []string{"tags", "sku", "kind", "identity"} {
				if v := get(r.Body, k); v != nil {
					e[k] = v
				}
			}
			if c.query.Get("$expand") != "" {
				e["provisioningState"] = r.State
			}
			out = append(out, e)
		}
	}
	return ok(map[string]any{"value": out}), nil
}

var filterClause = regexp.MustCompile(`(?i)^\s*(tagName|tagValue|resourceType)\s+eq\s+'([^']*)'\s*$`)

func resourceFilter(f string) (func(*resource) bool, *armError) {
	var tag, value, kind string
	var valued bool
	if f != "" {
		for _, part := range regexp.MustCompile(`(?i)\s+and\s+`).Split(f, -1) {
			m := filterClause.FindStringSubmatch(part)
			if m == nil {
				return nil, armErrorf(http.StatusBadRequest, "InvalidFilterInQueryString", "Invalid $filter '%s' specified in the query string.", f)
			}
			switch strings.ToLower(m[1]) {
			case "tagname":
				tag = m[2]
			case "tagvalue":
				value, valued = m[2], true
			default:
				kind = m[2]
			}
		}
	}
	return func(r *resource) bool {
		t := object(r.Body, "tags")
		return (kind == "" || strings.EqualFold(kind, r.Type)) && (tag == "" || get(t, tag) != nil) && (!valued || text(t, tag) == value)
	}, nil
}
