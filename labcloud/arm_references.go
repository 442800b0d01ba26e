package labcloud

import (
	"net/http"
	"strings"
)

// References between resources: what a body names must exist, and what is
// named cannot be deleted.

// references lists the resource IDs that a body names.
func references(v any, out *[]string) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if id, isText := e.(string); isText && strings.EqualFold(k, "id") && strings.HasPrefix(id, "/subscriptions/") {
				*out = append(*out, id)
			}
			if strings.EqualFold(k, "userAssignedIdentities") {
				for id := range object(e) {
					*out = append(*out, id)
				}
				continue
			}
			references(e, out)
		}
	case []any:
		for _, e := range v {
			references(e, out)
		}
	}
}

// find resolves an ID to a resource, and for an ID within it to the part.
func (s *Server) find(id string) (r *resource, part map[string]any, found bool) {
	key := strings.ToLower(id)
	if r := s.st.Resources[key]; r != nil {
		return r, nil, true
	}
	for rest := key; ; {
		i := strings.LastIndex(rest, "/")
		if i < 0 {
			return nil, nil, false
		}
		j := strings.LastIndex(rest[:i], "/")
		if j < 0 {
			return nil, nil, false
		}
		rest = rest[:j]
		if r := s.st.Resources[rest]; r != nil {
			p := partOf(r.Body, key[len(rest)+1:])
			return r, p, p != nil
		}
	}
}

// partOf finds "collection/name" in a resource's properties.
func partOf(body map[string]any, path string) map[string]any {
	collection, name, _ := strings.Cut(path, "/")
	for _, e := range list(body, "properties", collection) {
		if strings.EqualFold(text(e, "name"), name) {
			return object(e)
		}
	}
	return nil
}

// checkReferences refuses IDs of what does not exist (yet).
func (s *Server) checkReferences(d *definition) *armError {
	var ids []string
	references(d.body, &ids)
	own := strings.ToLower(d.id)
	for _, id := range ids {
		key := strings.ToLower(id)
		if rest, inside := strings.CutPrefix(key, own+"/"); inside || key == own {
			if inside && partOf(d.body, rest) == nil {
				return armErrorf(http.StatusBadRequest, "InvalidResourceReference", "Resource %s referenced by resource %s was not found. Please make sure that the referenced resource exists, and that both resources are in the same region.", id, d.id)
			}
			continue
		}
		r, _, found := s.find(id)
		if d.missing != nil && d.missing(key) || !found {
			return armErrorf(http.StatusBadRequest, "InvalidResourceReference", "Resource %s referenced by resource %s was not found. Please make sure that the referenced resource exists, and that both resources are in the same region.", id, d.id)
		}
		if r.Location != "" && text(d.body, "location") != "" && r.Location != text(d.body, "location") && !r.is("Microsoft.ManagedIdentity/userAssignedIdentities") {
			return armErrorf(http.StatusBadRequest, "InvalidResourceReference", "Resource %s referenced by resource %s is in another region.", id, d.id)
		}
	}
	return nil
}

var inUse = map[string]string{
	"microsoft.network/networksecuritygroups": "InUseNetworkSecurityGroupCannotBeDeleted",
	"microsoft.network/publicipaddresses":     "PublicIPAddressCannotBeDeleted",
	"microsoft.network/virtualnetworks":       "InUseSubnetCannotBeDeleted",
	"microsoft.network/loadbalancers":         "LoadBalancerInUseByVirtualMachineScaleSet",
}

// usedBy finds a resource that refers to r.
func (s *Server) usedBy(r *resource) *resource {
	for _, o := range s.resources() {
		if o == r {
			continue
		}
		var ids []string
		references(o.Body, &ids)
		for _, id := range ids {
			if key := strings.ToLower(id); key == r.key() || strings.HasPrefix(key, r.key()+"/") {
				return o
			}
		}
	}
	return nil
}
