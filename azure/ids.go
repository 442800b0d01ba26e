package azure

import (
	"strings"

	"github.com/opencmg/opencmg"
)

// names are the names of a deployment's resources.
type names struct{ scaleSet, vault, storage, identity, nsg, vnet, ip, ip6, balancer string }

func namesOf(d *opencmg.Deployment) names {
	n := d.Name
	return names{scaleSet: n, vault: n, storage: n, identity: n + "-id", nsg: n + "-nsg", vnet: n + "-vnet", ip: n + "-pip", ip6: n + "-pip6", balancer: n + "-lb"}
}

func groupPath(d *opencmg.Deployment) string {
	return "/subscriptions/" + d.SubscriptionID + "/resourceGroups/" + d.ResourceGroup
}

// resourceID is the identifier of a resource in the deployment's group. name
// has one part per segment of the type, joined by slashes.
func resourceID(d *opencmg.Deployment, typ, name string) string {
	return groupPath(d) + "/providers/" + nest(typ, name)
}

// nest mixes type and name segments: a/b/c and x/y give a/b/x/c/y.
func nest(typ, name string) string {
	ns, rest, _ := strings.Cut(typ, "/")
	types, parts := strings.Split(rest, "/"), strings.Split(name, "/")
	var b strings.Builder
	b.WriteString(ns)
	for i, t := range types {
		b.WriteString("/" + t)
		if i < len(parts) {
			b.WriteString("/" + parts[i])
		}
	}
	return b.String()
}

// splitID gives type and name of an identifier.
func splitID(id string) (typ, name string) {
	i := strings.LastIndex(strings.ToLower(id), "/providers/")
	if i < 0 {
		return "", id[strings.LastIndexByte(id, '/')+1:]
	}
	parts := strings.Split(id[i+len("/providers/"):], "/")
	typ = parts[0]
	for j := 1; j < len(parts); j += 2 {
		typ += "/" + parts[j]
		if j+1 < len(parts) {
			name += "/" + parts[j+1]
		}
	}
	return typ, strings.TrimPrefix(name, "/")
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func ptr[T any](v T) *T { return &v }
