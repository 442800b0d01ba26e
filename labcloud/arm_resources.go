package labcloud

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Resources: create, read, change and delete, each type with the replies that
// azure.md 4 tells of. realize.go does what creating one means.

// A resource is anything below a group that a template or a PUT created.
type resource struct {
	ID, Type, Name, Location string
	Subscription, Group      string
	Body                     map[string]any // as sent: tags, sku, kind, identity, zones, properties
	Extra                    map[string]any // read-only properties
	State                    string         // provisioningState
	Order                    int
	Model, NextID            int // of a scale set: number of the newest model, next instance ID
	Rolling                  rolling
}

func (r *resource) key() string     { return strings.ToLower(r.ID) }
func (r *resource) extension() bool { return strings.HasPrefix(r.Type, "Microsoft.Authorization/") }
func (r *resource) is(kind string) bool {
	return strings.EqualFold(r.Type, kind)
}

// resources lists all, oldest first.
func (s *Server) resources() []*resource {
	var out []*resource
	for _, r := range s.st.Resources {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b *resource) int { return a.Order - b.Order })
	return out
}

func (s *Server) ofType(kind string) []*resource {
	return slices.DeleteFunc(s.resources(), func(r *resource) bool { return !r.is(kind) })
}

// show is a resource as GET answers it: without what Azure keeps to itself.
func (s *Server) show(r *resource) map[string]any {
	out := clone(r.Body)
	out["id"], out["name"], out["type"] = r.ID, r.Name[strings.LastIndex(r.Name, "/")+1:], r.Type
	if r.Location != "" {
		out["location"] = r.Location
	}
	p := object(out, "properties")
	if p == nil {
		p = map[string]any{}
	}
	set(out, "properties", p)
	for k, v := range r.Extra {
		p[k] = v
	}
	p["provisioningState"] = r.State
	if r.is("Microsoft.KeyVault/vaults/secrets") {
		drop(p, "value")
	}
	if r.is("Microsoft.KeyVault/vaults") {
		drop(p, "createMode")
	}
	if os := object(p, "virtualMachineProfile", "osProfile"); os != nil {
		drop(os, "customData")
		drop(os, "adminPassword")
	}
	if sku := object(out, "sku"); sku != nil && r.is("Microsoft.Compute/virtualMachineScaleSets") {
		sku["capacity"] = len(s.machinesOf(r))
	}
	return out
}

// A definition is a resource that somebody wants, resolved.
type definition struct {
	sub     *Subscription
	group   *group
	kind    string // lower-case type
	name    string // parent/child
	version string
	id      string
	body    map[string]any // location, tags, sku, kind, identity, zones, properties
	// missing, if set, says of an ID that it is of this deployment and not a
	// dependency of this resource.
	missing func(id string) bool
}

func (d *definition) typ() *resourceType { return resourceTypes[d.kind] }

// resourceID builds an ID from a scope, a type and a name with the same
// number of segments.
func resourceID(scope, kind, name string) string {
	ns, types, _ := strings.Cut(kind, "/")
	id := scope + "/providers/" + ns
	names := strings.Split(name, "/")
	for i, t := range strings.Split(types, "/") {
		id += "/" + t
		if i < len(names) {
			id += "/" + names[i]
		}
	}
	return id
}

// check holds a definition against what can be known without creating it.
func (s *Server) check(d *definition) *armError {
	t := d.typ()
	if t == nil || t.body == nil {
		return armErrorf(http.StatusBadRequest, "InvalidResourceType", "The resource type '%s' could not be found.", d.kind)
	}
	last := d.name[strings.LastIndex(d.name, "/")+1:]
	if !t.names.MatchString(last) {
		code := "InvalidResourceName"
		switch d.kind {
		case "microsoft.storage/storageaccounts":
			code = "AccountNameInvalid"
		case "microsoft.keyvault/vaults":
			code = "VaultNameNotValid"
		}
		e := armErrorf(http.StatusBadRequest, code, "Resource name %s is invalid. It must match %s.", last, t.names)
		e.Target = d.id
		return e
	}
	if e := asArmError(shape(d.body, t.body, "")); e != nil {
		e.Target = d.id + "." + e.Target
		return e
	}
	if t.located {
		r, found := s.region(text(d.body, "location"))
		if !found {
			e := armErrorf(http.StatusBadRequest, "LocationRequired", "The location property is required for this definition.")
			if l := text(d.body, "location"); l != "" {
				e = armErrorf(http.StatusBadRequest, "LocationNotAvailableForResourceType", "The provided location '%s' is not available for resource type '%s'.", l, t.name)
			}
			e.Target = d.id
			return e
		}
		set(d.body, "location", r.Name)
		if old := s.st.Resources[strings.ToLower(d.id)]; old != nil && old.Location != r.Name {
			return armErrorf(http.StatusConflict, "InvalidResourceLocation", "The resource '%s' already exists in location '%s' in resource group '%s'. A resource with the same name cannot be created in location '%s'.", d.name, old.Location, d.group.Name, r.Name)
		}
	}
	if f := s.fault("policy", t.name); f != nil && (f.Name != "" || t.located) {
		return policyRefusal(d.id)
	}
	if e := s.crossCheck(d); e != nil {
		e.Target = d.id
		return e
	}
	return nil
}

// crossCheck finds what a schema does not see within one body.
func (s *Server) crossCheck(d *definition) *armError {
	switch d.kind {
	case "microsoft.network/networksecuritygroups":
		seen := map[string]string{}
		for _, r := range list(d.body, "properties", "securityRules") {
			k := fmt.Sprintf("%s %d", strings.ToLower(text(r, "properties", "direction")), integer(r, "properties", "priority"))
			if seen[k] != "" {
				return armErrorf(http.StatusBadRequest, "SecurityRuleConflict", "Security rule %s conflicts with rule %s. Rules cannot have the same Priority and Direction.", text(r, "name"), seen[k])
			}
			seen[k] = text(r, "name")
		}
	case "microsoft.network/loadbalancers":
		for _, rule := range list(d.body, "properties", "inboundNatRules") {
			if integer(rule, "properties", "frontendPortRangeEnd") < integer(rule, "properties", "frontendPortRangeStart") {
				return armErrorf(http.StatusBadRequest, "InvalidRequestFormat", "The port range of inbound NAT rule %s is not valid.", text(rule, "name"))
			}
		}
		for _, p := range list(d.body, "properties", "probes") {
			if tcp := strings.EqualFold(text(p, "properties", "protocol"), "Tcp"); tcp != (text(p, "properties", "requestPath") == "") {
				return armErrorf(http.StatusBadRequest, "InvalidRequestFormat", "Probe %s: requestPath is required for Http and Https and not allowed for Tcp.", text(p, "name"))
			}
		}
	case "microsoft.compute/virtualmachinescalesets":
		return s.crossCheckScaleSet(d)
	case "microsoft.keyvault/vaults":
		if !strings.EqualFold(text(d.body, "properties", "tenantId"), d.sub.Tenant) {
			return armErrorf(http.StatusBadRequest, "BadRequest", "The vault's tenantId is not the subscription's.")
		}
		if get(d.body, "properties", "accessPolicies") == nil && !truth(d.body, "properties", "enableRbacAuthorization") && !strings.EqualFold(text(d.body, "properties", "createMode"), "recover") {
			return armErrorf(http.StatusBadRequest, "BadRequest", "The parameter accessPolicies is not specified.")
		}
		if get(d.body, "properties", "enablePurgeProtection") == false {
			return armErrorf(http.StatusBadRequest, "BadRequest", "The property \"enablePurgeProtection\" cannot be set to false.")
		}
	}
	return nil
}

// apply creates or replaces a resource that check has passed. The work it
// returns, if any, is still to be done without s.world held.
func (s *Server) apply(d *definition) (r *resource, created bool, work func() *armError, _ *armError) {
	ns, _, _ := strings.Cut(d.kind, "/")
	if err := s.needProvider(d.sub, ns); err != nil {
		return nil, false, nil, err
	}
	if err := s.checkReferences(d); err != nil {
		return nil, false, nil, err
	}
	if f := s.failFault(d.typ().name, http.MethodPut); f != nil {
		return nil, false, nil, f
	}
	if i := strings.LastIndex(d.name, "/"); i >= 0 {
		parent := d.id[:strings.LastIndex(d.id[:strings.LastIndex(d.id, "/")], "/")]
		p := s.st.Resources[strings.ToLower(parent)]
		account, blobs := strings.CutSuffix(strings.ToLower(parent), "/blobservices/default")
		implied := blobs && s.st.Resources[account] != nil // every account has one
		if p == nil && !implied || d.missing != nil && d.missing(strings.ToLower(parent)) {
			return nil, false, nil, armErrorf(http.StatusNotFound, "ParentResourceNotFound", "Failed to perform operation on nested resource '%s': the parent resource '%s' was not found.", d.id, parent)
		}
		if d.typ().inside != "" {
			err := s.applyPart(p, d)
			return p, true, nil, err
		}
	}
	key := strings.ToLower(d.id)
	r = s.st.Resources[key]
	old := r
	if created = r == nil; created {
		r = &resource{ID: d.id, Type: d.typ().name, Name: d.name, Subscription: d.sub.ID, Group: d.group.Name, Extra: map[string]any{}}
	}
	body := clone(d.body)
	drop(body, "location")
	if err := s.realize(d, r, body, created, &work); err != nil {
		if created && !d.typ().located {
			return nil, false, nil, err
		}
		if created { // it stays behind, as failed
			r.Body, r.Location, r.State = body, text(d.body, "location"), "Failed"
		}
		return nil, false, nil, err
	}
	r.Body, r.Location, r.State = body, text(d.body, "location"), "Succeeded"
	if old == nil {
		s.st.Created++
		r.Order = s.st.Created
		s.st.Resources[key] = r
	}
	s.dirty = true
	s.syncFrontends()
	return r, created, work, nil
}

// failFault is the switched-on failure of work on a type.
func (s *Server) failFault(kind, method string) *armError {
	for _, f := range s.st.Faults {
		if f.Kind == "failResource" && strings.EqualFold(f.Name, kind) && f.left() && (f.Method == "" && method != http.MethodDelete || strings.EqualFold(f.Method, method)) {
			f.Happened++
			s.dirty = true
			code, msg := f.Code, f.Message
			if code == "" {
				code = "InternalExecutionError"
			}
			if msg == "" {
				msg = "An internal execution error occurred. Please retry later."
			}
			return armErrorf(http.StatusConflict, code, "%s", msg)
		}
	}
	return nil
}

// applyPart puts a child that lives in its parent's properties.
func (s *Server) applyPart(p *resource, d *definition) *armError {
	name := d.name[strings.LastIndex(d.name, "/")+1:]
	props := object(p.Body, "properties")
	if props == nil {
		props = map[string]any{}
		set(p.Body, "properties", props)
	}
	e := map[string]any{"name": name, "id": d.id, "properties": object(d.body, "properties")}
	kept := slices.DeleteFunc(list(props, d.typ().inside), func(e any) bool { return strings.EqualFold(text(e, "name"), name) })
	set(props, d.typ().inside, append(kept, e))
	s.dirty = true
	s.syncFrontends()
	return nil
}

// remove takes a resource away without asking, with its children; the
// returned function waits, without s.world held, for what is still going on.
func (s *Server) remove(r *resource) (wait func()) {
	var waits []func()
	for k, child := range s.st.Resources {
		if strings.HasPrefix(k, r.key()+"/") {
			waits = append(waits, s.unrealize(child))
			delete(s.st.Resources, k)
		}
	}
	waits = append(waits, s.unrealize(r))
	delete(s.st.Resources, r.key())
	s.dirty = true
	s.syncFrontends()
	return func() {
		for _, w := range waits {
			if w != nil {
				w()
			}
		}
	}
}
