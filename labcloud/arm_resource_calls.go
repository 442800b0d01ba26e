package labcloud

import (
	"net/http"
	"strings"
)

// The requests on resources, and each provider's way to answer them.

// resourceCall dispatches below .../resourceGroups/{group}/providers/{ns}.
func (s *Server) resourceCall(c *armCall, at int) (*reply, *armError) {
	ns, parts := c.low[at+1], c.low[at+2:]
	kind, name := ns, ""
	for i, p := range parts {
		if i%2 == 0 {
			kind += "/" + p
		} else {
			name = strings.Trim(name+"/"+c.seg[at+2+i], "/")
		}
	}
	action := ""
	if len(parts)%2 == 1 {
		if resourceTypes[kind] != nil && c.method == http.MethodGet {
			if err := s.checkVersion(c, kind); err != nil {
				return nil, err
			}
			return s.listOfType(c, kind, name)
		}
		action = parts[len(parts)-1]
		kind = kind[:strings.LastIndex(kind, "/")]
	}
	if resourceTypes[kind] == nil {
		return nil, armErrorf(http.StatusNotFound, "InvalidResourceType", "The resource type '%s' could not be found in the namespace '%s'.", strings.TrimPrefix(kind, ns+"/"), ns)
	}
	if err := s.checkVersion(c, kind); err != nil {
		return nil, err
	}
	group := s.st.Groups[s.groupID(c.sub.ID, c.seg[1])]
	d := &definition{sub: c.sub, group: group, kind: kind, name: name, version: c.version}
	d.id = resourceID("/subscriptions/"+c.sub.ID+"/resourceGroups/"+group.Name, resourceTypes[kind].name, name)
	if strings.HasPrefix(kind, "microsoft.compute/virtualmachinescalesets") && (kind != "microsoft.compute/virtualmachinescalesets" || action != "" || c.method == http.MethodPatch) {
		return s.scaleSetCall(c, d, parts)
	}
	r := s.st.Resources[strings.ToLower(d.id)]
	notFound := armErrorf(http.StatusNotFound, "ResourceNotFound", "The Resource '%s/%s' under resource group '%s' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix", resourceTypes[kind].name, name, group.Name)
	if action != "" {
		if r == nil {
			if _, part, found := s.find(d.id); !found || part == nil {
				return nil, notFound
			}
		}
		return s.actionCall(c, d, r, action)
	}
	switch c.method {
	case http.MethodGet:
		if r != nil {
			return ok(s.show(r)), nil
		}
		if p, part, found := s.find(d.id); found && part != nil {
			out := clone(part)
			out["id"], out["type"] = d.id, resourceTypes[kind].name
			if props := object(out, "properties"); props != nil {
				props["provisioningState"] = p.State
			}
			return ok(out), nil
		}
		return nil, notFound
	case http.MethodPut:
		return s.putCall(c, d)
	case http.MethodPatch:
		if r == nil {
			return nil, notFound
		}
		return s.patchCall(c, d, r)
	case http.MethodDelete:
		if r == nil {
			if p, part, found := s.find(d.id); found && part != nil {
				return s.deletePart(c, d, p)
			}
			return &reply{status: http.StatusNoContent}, nil
		}
		return s.deleteCall(c, d, r)
	}
	return nil, methodNotAllowed(c)
}

// listOfType lists a group's resources of a type, or a resource's children.
func (s *Server) listOfType(c *armCall, kind, parent string) (*reply, *armError) {
	if strings.HasPrefix(kind, "microsoft.compute/virtualmachinescalesets/") {
		return s.listOfScaleSet(c, kind, parent)
	}
	prefix := s.groupID(c.sub.ID, c.seg[1]) + "/"
	if parent != "" {
		up := kind[:strings.LastIndex(kind, "/")]
		prefix = strings.ToLower(resourceID(strings.TrimSuffix(prefix, "/"), up, parent)) + "/"
	}
	out := []any{}
	if r := s.st.Resources[strings.TrimSuffix(prefix, "/")]; r != nil && resourceTypes[kind].inside != "" {
		out = append(out, list(r.Body, "properties", resourceTypes[kind].inside)...)
	}
	for _, r := range s.ofType(resourceTypes[kind].name) {
		if strings.HasPrefix(r.key(), prefix) {
			out = append(out, s.show(r))
		}
	}
	return ok(map[string]any{"value": out}), nil
}

// putCall creates or replaces by a request of its own.
func (s *Server) putCall(c *armCall, d *definition) (*reply, *armError) {
	m, err := s.read(c, d.kind, map[string]any{})
	if err != nil {
		return nil, err
	}
	for _, k := range []string{"id", "name", "type", "etag"} {
		drop(m, k)
	}
	d.body = m
	if err := s.check(d); err != nil {
		return nil, err
	}
	r, created, work, err := s.apply(d)
	if err != nil {
		return nil, err
	}
	return s.finish(c, d, r, created, work), nil
}

// finish answers a create or change in the way of its provider.
func (s *Server) finish(c *armCall, d *definition, r *resource, created bool, work func() *armError) *reply {
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	style := asyncStyle{location: r.Location}
	body := s.show(r)
	switch ns, _, _ := strings.Cut(d.kind, "/"); {
	case d.kind == "microsoft.storage/storageaccounts" && created:
		status, body = http.StatusAccepted, nil
		style.provider, style.result = "Microsoft.Storage", true
	case ns == "microsoft.network":
		style.provider, style.async = "Microsoft.Network", true
		object(body, "properties")["provisioningState"] = "Updating"
	case ns == "microsoft.compute":
		style.provider, style.async = "Microsoft.Compute", true
		object(body, "properties")["provisioningState"] = "Updating"
		if created {
			object(body, "properties")["provisioningState"] = "Creating"
		}
	default:
		return &reply{status: status, body: body}
	}
	o := s.begin(c, r.key())
	if work == nil {
		s.done(o, nil)
	} else {
		s.background(o, work)
	}
	var answer any
	if body != nil {
		answer = body
	}
	return s.accepted(c, o, status, answer, style)
}

// patchCall lays a patch over storage accounts, vaults and tags.
func (s *Server) patchCall(c *armCall, d *definition, r *resource) (*reply, *armError) {
	m, err := s.read(c, d.kind, map[string]any{})
	if err != nil {
		return nil, err
	}
	d.body = clone(r.Body)
	if !strings.HasPrefix(d.kind, "microsoft.storage/") && !strings.HasPrefix(d.kind, "microsoft.keyvault/") && (len(m) != 1 || get(m, "tags") == nil) {
		return nil, armErrorf(http.StatusBadRequest, "InvalidRequestContent", "Only tags can be changed by PATCH on '%s'.", r.Type)
	}
	if t := object(m, "tags"); t != nil {
		drop(d.body, "tags") // tags are replaced, not merged
	}
	merge(d.body, m)
	if r.Location != "" {
		set(d.body, "location", r.Location)
	}
	if err := s.check(d); err != nil {
		return nil, err
	}
	if _, _, _, err := s.apply(d); err != nil {
		return nil, err
	}
	return ok(s.show(r)), nil
}

func (s *Server) deletePart(c *armCall, d *definition, p *resource) (*reply, *armError) {
	props := object(p.Body, "properties")
	name := d.name[strings.LastIndex(d.name, "/")+1:]
	var kept []any
	for _, e := range list(props, d.typ().inside) {
		if !strings.EqualFold(text(e, "name"), name) {
			kept = append(kept, e)
		}
	}
	set(props, d.typ().inside, kept)
	s.dirty = true
	s.syncFrontends()
	o := s.begin(c, d.id)
	s.done(o, nil)
	return s.accepted(c, o, http.StatusAccepted, nil, asyncStyle{provider: "Microsoft.Network", location: p.Location, async: true, result: true}), nil
}

func (s *Server) deleteCall(c *armCall, d *definition, r *resource) (*reply, *armError) {
	if code := inUse[d.kind]; code != "" {
		if by := s.usedBy(r); by != nil {
			return nil, armErrorf(http.StatusBadRequest, code, "%s %s cannot be deleted because it is in use by %s.", r.Type, r.ID, by.ID)
		}
	}
	ns, _, _ := strings.Cut(d.kind, "/")
	style := asyncStyle{location: r.Location, async: true, result: true}
	switch ns {
	case "microsoft.network":
		style.provider = "Microsoft.Network"
	case "microsoft.compute":
		style.provider = "Microsoft.Compute"
	default:
		if f := s.failFault(r.Type, http.MethodDelete); f != nil {
			return nil, f
		}
		wait := s.remove(r)
		s.spawn(wait)
		return &reply{status: http.StatusOK}, nil
	}
	o := s.begin(c, r.key())
	if f := s.failFault(r.Type, http.MethodDelete); f != nil {
		s.done(o, f)
	} else {
		wait := s.remove(r)
		s.background(o, func() *armError { wait(); return nil })
	}
	return s.accepted(c, o, http.StatusAccepted, nil, style), nil
}

// actionCall answers POST on a resource that is not a scale set.
func (s *Server) actionCall(c *armCall, d *definition, r *resource, action string) (*reply, *armError) {
	if c.method != http.MethodPost {
		return nil, methodNotAllowed(c)
	}
	switch d.kind + " " + action {
	case "microsoft.storage/storageaccounts listkeys":
		return ok(s.showKeys(r)), nil
	case "microsoft.storage/storageaccounts regeneratekey":
		m, err := s.read(c, d.kind+"/regeneratekey", struct {
			KeyName string `json:"keyName" need:"1" one:"key1 key2"`
		}{})
		if err != nil {
			return nil, err
		}
		s.st.Accounts[strings.ToLower(r.Name)].regenerate(text(m, "keyName"), s.cfg.Now())
		s.dirty = true
		return ok(s.showKeys(r)), nil
	case "microsoft.network/loadbalancers/backendaddresspools queryinboundnatruleportmapping":
		return s.portMapping(c, d)
	}
	return nil, armErrorf(http.StatusNotFound, "InvalidResourceType", "The action '%s' is not known on '%s'.", action, d.kind)
}
