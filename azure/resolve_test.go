package azure_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// resolve examines a template for what no schema sees and returns its faults:
// identifiers and dependencies that point nowhere, references without a
// dependency, parameters that are not declared, expressions that do not end,
// two rules of one priority, SKUs and address families that do not go
// together, and a rolling upgrade without a source of health.
func resolve(template json.RawMessage, group string) []string {
	var doc struct {
		Parameters map[string]any
		Variables  map[string]any
		Resources  []map[string]any
	}
	if err := json.Unmarshal(template, &doc); err != nil {
		return []string{err.Error()}
	}
	r := resolver{group: strings.ToLower(group), parameters: doc.Parameters, ids: map[string]bool{}, owner: map[string]string{}, after: map[string]map[string]bool{}}
	for _, res := range doc.Resources {
		id := r.idOf(res)
		if r.ids[id] {
			r.fault("%s is there twice", id)
		}
		r.ids[id], r.owner[id] = true, id
		r.parts(id, id, res["properties"])
	}
	for _, res := range doc.Resources {
		id := r.idOf(res)
		r.after[id] = map[string]bool{}
		deps, _ := res["dependsOn"].([]any)
		for _, dep := range deps {
			s := strings.ToLower(fmt.Sprint(dep))
			if !r.ids[s] || r.owner[s] != s {
				r.fault("%s: dependency %s points nowhere", id, s)
			}
			r.after[id][s] = true
		}
	}
	for _, res := range doc.Resources {
		r.walk(r.idOf(res), res)
		r.rules(res, doc.Resources)
	}
	slices.Sort(r.faults)
	return slices.Compact(r.faults)
}

type resolver struct {
	group      string
	parameters map[string]any
	ids        map[string]bool            // of resources and their parts
	owner      map[string]string          // the resource that an ID lies in
	after      map[string]map[string]bool // dependencies
	faults     []string
}

func (r *resolver) fault(format string, args ...any) {
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

func (r *resolver) idOf(res map[string]any) string {
	types, names := strings.Split(fmt.Sprint(res["type"]), "/"), strings.Split(fmt.Sprint(res["name"]), "/")
	id := r.group + "/providers/" + types[0]
	for i, t := range types[1:] {
		if i < len(names) {
			id += "/" + t + "/" + names[i]
		}
	}
	return strings.ToLower(id)
}

// parts registers the named members of lists in properties, such as probes,
// which have identifiers of their own.
func (r *resolver) parts(owner, id string, properties any) {
	p, _ := properties.(map[string]any)
	for key, v := range p {
		list, _ := v.([]any)
		for _, item := range list {
			part, _ := item.(map[string]any)
			if name, ok := part["name"].(string); ok {
				sub := id + "/" + strings.ToLower(key) + "/" + strings.ToLower(name)
				r.ids[sub], r.owner[sub] = true, owner
				r.parts(owner, sub, part["properties"])
			}
		}
	}
}

var (
	quoted    = regexp.MustCompile(`'((?:[^']|'')*)'`)
	parameter = regexp.MustCompile(`parameters\('([^']*)'\)`)
)

func (r *resolver) walk(id string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, child := range v {
			if k == "dependsOn" {
				continue
			}
			r.refers(id, k) // identities are keys
			r.walk(id, child)
		}
	case []any:
		for _, child := range v {
			r.walk(id, child)
		}
	case string:
		if strings.HasPrefix(v, "[") && !strings.HasPrefix(v, "[[") {
			r.expression(id, v)
			return
		}
		r.refers(id, v)
	}
}

func (r *resolver) expression(id, e string) {
	bare := quoted.ReplaceAllString(e, "")
	if !strings.HasSuffix(e, "]") || strings.Contains(bare, "'") || strings.Count(bare, "(") != strings.Count(bare, ")") {
		r.fault("%s: syntax of the expression %s", id, e)
	}
	for _, m := range parameter.FindAllStringSubmatch(e, -1) {
		if _, ok := r.parameters[m[1]]; !ok {
			r.fault("%s: parameter %s is not declared", id, m[1])
		}
	}
	for _, m := range quoted.FindAllStringSubmatch(e, -1) {
		r.refers(id, m[1])
	}
}

// refers examines a text that may be an identifier.
func (r *resolver) refers(id, s string) {
	if !strings.HasPrefix(strings.ToLower(s), "/subscriptions/") {
		return
	}
	s = strings.ToLower(s)
	if !r.ids[s] {
		r.fault("%s: %s points nowhere", id, s)
		return
	}
	if owner := r.owner[s]; owner != id && !r.depends(id, owner, nil) {
		r.fault("%s: refers to %s and does not depend on it", id, owner)
	}
}

// depends reports whether one resource comes after another, also by way of a
// third.
func (r *resolver) depends(id, on string, seen []string) bool {
	if r.after[id][on] {
		return true
	}
	for next := range r.after[id] {
		if !slices.Contains(seen, next) && r.depends(next, on, append(seen, id)) {
			return true
		}
	}
	return false
}

func at(v any, path ...string) any {
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

// rules are what Azure checks between resources.
func (r *resolver) rules(res map[string]any, all []map[string]any) {
	id := r.idOf(res)
	switch res["type"] {
	case "Microsoft.Network/networkSecurityGroups":
		seen := map[string]bool{}
		rules, _ := at(res, "properties", "securityRules").([]any)
		for _, rule := range rules {
			key := fmt.Sprint(at(rule, "properties", "direction"), at(rule, "properties", "priority"))
			if seen[key] {
				r.fault("%s: two rules have one priority", id)
			}
			seen[key] = true
		}
	case "Microsoft.Network/loadBalancers":
		fronts, _ := at(res, "properties", "frontendIPConfigurations").([]any)
		versions := map[any]bool{}
		for _, front := range fronts {
			ip := strings.ToLower(fmt.Sprint(at(front, "properties", "publicIPAddress", "id")))
			for _, other := range all {
				if r.idOf(other) == ip {
					if at(other, "sku", "name") != at(res, "sku", "name") {
						r.fault("%s: SKU differs from that of %s", id, ip)
					}
					versions[at(other, "properties", "publicIPAddressVersion")] = true
				}
			}
		}
		if len(versions) != len(fronts) {
			r.fault("%s: the front ends are not one IPv4 and one IPv6", id)
		}
	case "Microsoft.Compute/virtualMachineScaleSets":
		profile := at(res, "properties", "virtualMachineProfile")
		if at(res, "properties", "upgradePolicy", "mode") == "Rolling" &&
			at(profile, "networkProfile", "healthProbe") == nil && !strings.Contains(fmt.Sprint(at(profile, "extensionProfile")), "ApplicationHealth") {
			r.fault("%s: rolling upgrades without a source of health", id)
		}
	}
}
