package labcloud

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Deployments of templates at group scope, mode Incremental (azure.md 4). A
// deployment is validated as a whole before it is accepted; then its resources
// are made in the order of their dependencies. A failure stops what depends on
// it and leaves what is there.

// A deployment is the record of one.
type deployment struct {
	ID, Name, Subscription, Group string
	State                         string // Accepted, Running, Succeeded, Failed
	Started, Ended                time.Time
	Correlation                   string
	// Body is the request; it is kept until the end, so that a restart can go
	// on. It has the secure parameters in it.
	Body       map[string]any
	Parameters map[string]any // without secure values
	Hash       string
	Outputs    map[string]any
	Resources  []string // IDs of what it made
	Steps      []*deployStep
	Err        *armError
	Operation  string
	Done       bool
}

// A deployStep is a deployment operation.
type deployStep struct {
	ID, Target, Type, Name string
	State                  string
	At                     time.Time
	Err                    *armError
}

var deploymentNames = regexp.MustCompile(`^[-\w._()]{1,64}$`)

type deploymentBody struct {
	Location   string `json:"location"` // only at subscription scope
	Tags       tags   `json:"tags"`
	Properties struct {
		Mode        string                    `json:"mode" need:"1" one:"Incremental"`
		Template    templateBody              `json:"template" need:"1"`
		Parameters  map[string]parameterValue `json:"parameters"`
		Debug       any                       `json:"debugSetting"`
		WhatIf      any                       `json:"whatIfSettings"`
		Expressions any                       `json:"expressionEvaluationOptions"`
		Level       string                    `json:"validationLevel"`
	} `json:"properties" need:"1"`
}

type parameterValue struct {
	Value any `json:"value"`
}

type templateBody struct {
	Schema         string                   `json:"$schema" need:"1" match:"/deploymentTemplate\\.json#?$"`
	ContentVersion string                   `json:"contentVersion" need:"1" match:"^\\d+\\.\\d+\\.\\d+\\.\\d+$"`
	Metadata       any                      `json:"metadata"`
	Parameters     map[string]parameterType `json:"parameters"`
	Variables      map[string]any           `json:"variables"`
	Functions      []any                    `json:"functions" max:"0"`
	Resources      []templateResource       `json:"resources" need:"1"`
	Outputs        map[string]outputType    `json:"outputs"`
}

type parameterType struct {
	Type          string `json:"type" need:"1" one:"string securestring int bool object secureObject array"`
	DefaultValue  any    `json:"defaultValue"`
	AllowedValues []any  `json:"allowedValues"`
	MinLength     int    `json:"minLength"`
	MaxLength     int    `json:"maxLength"`
	MinValue      int    `json:"minValue"`
	MaxValue      int    `json:"maxValue"`
	Metadata      any    `json:"metadata"`
}

type outputType struct {
	Type     string `json:"type" need:"1" one:"string int bool object array"`
	Value    any    `json:"value" need:"1"`
	Metadata any    `json:"metadata"`
}

// templateResource has what all types share; the rest is checked by type.
type templateResource struct {
	Type       string   `json:"type" need:"1" match:"^[A-Za-z.]+/[A-Za-z/]+$"`
	APIVersion string   `json:"apiVersion" need:"1" match:"^\\d{4}-\\d\\d-\\d\\d(-preview)?$"`
	Name       string   `json:"name" need:"1"`
	Location   string   `json:"location"`
	DependsOn  []string `json:"dependsOn"`
	Comments   string   `json:"comments"`
	Scope      string   `json:"scope"`
	Tags       any      `json:"tags"`
	Sku        any      `json:"sku"`
	Kind       any      `json:"kind"`
	Identity   any      `json:"identity"`
	Zones      any      `json:"zones"`
	Properties any      `json:"properties"`
}

// A plan is a template resolved as far as it can be before deploying.
type plan struct {
	env     *exprEnv
	items   []*planItem
	outputs map[string]any
	shown   map[string]any // parameters without secure values
}

type planItem struct {
	def  *definition
	raw  map[string]any // unresolved
	deps map[string]bool
}

func invalidTemplate(format string, args ...any) *armError {
	return armErrorf(http.StatusBadRequest, "InvalidTemplate", "Deployment template validation failed: '%s'.", fmt.Sprintf(format, args...))
}

// readPlan checks a deployment's body and resolves its template; all problems
// of single resources come together.
func (s *Server) readPlan(c *armCall, m map[string]any) (*plan, *armError) {
	if p := shape(m, deploymentBody{}, ""); len(p) > 0 {
		if strings.HasPrefix(p[0].Path, "properties.template") {
			return nil, invalidTemplate("%s", p[0].Text)
		}
		return nil, asArmError(p)
	}
	if text(m, "location") != "" {
		return nil, armErrorf(http.StatusBadRequest, "LocationNotAllowed", "The 'location' property is not allowed for a deployment at resource group scope.")
	}
	t := object(m, "properties", "template")
	g := s.st.Groups[s.groupID(c.sub.ID, c.seg[1])]
	scope := "/subscriptions/" + c.sub.ID + "/resourceGroups/" + g.Name
	p := &plan{env: &exprEnv{scope: scope, sub: c.sub, group: g, variables: object(t, "variables")}, outputs: object(t, "outputs")}
	var err *armError
	if p.env.parameters, p.shown, err = parameters(object(t, "parameters"), object(m, "properties", "parameters")); err != nil {
		return nil, err
	}
	byID := map[string]*planItem{}
	for _, e := range list(t, "resources") {
		item, err := s.planItem(c, p, object(e))
		if err != nil {
			return nil, err
		}
		if byID[strings.ToLower(item.def.id)] != nil {
			return nil, invalidTemplate("The resource '%s' is defined multiple times in a template.", item.def.id)
		}
		byID[strings.ToLower(item.def.id)] = item
		p.items = append(p.items, item)
	}
	p.env.reference = func(id string, _ bool) (any, error) {
		if _, err := p.lookup(id); err != nil && s.st.Resources[strings.ToLower(id)] == nil {
			return nil, err
		}
		return unknown{}, nil
	}
	for i, item := range slices.Clone(p.items) {
		if err := p.dependencies(item, list(list(t, "resources")[i], "dependsOn")); err != nil {
			return nil, err
		}
	}
	if err := p.sort(); err != nil {
		return nil, err
	}
	return p, s.checkPlan(p)
}

// checkPlan is the preflight: every resource is checked with what is not yet
// known left open.
func (s *Server) checkPlan(p *plan) *armError {
	failed := armErrorf(http.StatusBadRequest, "InvalidTemplateDeployment", "The template deployment failed with multiple errors. Please see details for more information.")
	for _, item := range p.items {
		ns, _, _ := strings.Cut(item.def.kind, "/")
		if err := s.needProvider(item.def.sub, ns); err != nil {
			return err
		}
		body, err := p.env.resolve(item.raw)
		if err != nil {
			return invalidTemplate("%v", err)
		}
		item.def.body = object(body)
		if e := s.check(item.def); e != nil {
			e.Status = http.StatusBadRequest
			failed.Details = append(failed.Details, e)
		}
	}
	for name, o := range p.outputs {
		if _, err := p.env.resolve(get(o, "value")); err != nil {
			return invalidTemplate("The template output '%s' is not valid: %v", name, err)
		}
	}
	if len(failed.Details) > 0 {
		return failed
	}
	return nil
}

// parameters matches values to declarations.
func parameters(declared, given map[string]any) (values, shown map[string]any, _ *armError) {
	values, shown = map[string]any{}, map[string]any{}
	for k := range given {
		if get(declared, k) == nil {
			return nil, nil, invalidTemplate("The following parameters were supplied, but do not correspond to any parameters defined in the template: '%s'", k)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(declared)) {
		d := declared[k]
		v := get(given, k, "value")
		if v == nil {
			v = get(d, "defaultValue")
		}
		if v == nil {
			return nil, nil, invalidTemplate("The value for the template parameter '%s' is not provided", k)
		}
		kind := strings.ToLower(text(d, "type"))
		var fits bool
		switch kind {
		case "string", "securestring":
			_, fits = v.(string)
		case "int":
			_, fits = number(v)
		case "bool":
			_, fits = v.(bool)
		case "object", "secureobject":
			_, fits = v.(map[string]any)
		case "array":
			_, fits = v.([]any)
		}
		if !fits {
			return nil, nil, invalidTemplate("The provided value for the template parameter '%s' is not valid. Expected a value of type '%s'", k, kind)
		}
		if allowed := list(d, "allowedValues"); allowed != nil && !slices.ContainsFunc(allowed, func(a any) bool { return sameJSON(a, v) }) {
			return nil, nil, invalidTemplate("The provided value for the template parameter '%s' is not part of the allowed values", k)
		}
		if t, isText := v.(string); isText && (len(t) < integer(d, "minLength") || integer(d, "maxLength") > 0 && len(t) > integer(d, "maxLength")) {
			return nil, nil, invalidTemplate("The length of the template parameter '%s' is out of range", k)
		}
		values[k] = v
		if strings.HasPrefix(kind, "secure") {
			shown[k] = map[string]any{"type": map[string]string{"securestring": "SecureString", "secureobject": "SecureObject"}[kind]}
		} else {
			shown[k] = map[string]any{"type": strings.ToUpper(kind[:1]) + kind[1:], "value": v}
		}
	}
	return values, shown, nil
}

// planItem finds type, name and ID of a resource of the template.
func (s *Server) planItem(c *armCall, p *plan, e map[string]any) (*planItem, *armError) {
	kind := strings.ToLower(text(e, "type"))
	t := resourceTypes[kind]
	if t == nil || t.body == nil {
		return nil, invalidTemplate("The resource type '%s' is not known", text(e, "type"))
	}
	version := text(e, "apiVersion")
	if !slices.Contains(apiVersions[kind], version) {
		ns, n, _ := strings.Cut(t.name, "/")
		return nil, armErrorf(http.StatusBadRequest, "NoRegisteredProviderFound", "No registered resource provider found for location '%s' and API version '%s' for type '%s' of '%s'. The supported api-versions are '%s'.", text(e, "location"), version, n, ns, strings.Join(apiVersions[kind], ", "))
	}
	v, err := p.env.resolve(get(e, "name"))
	name, isText := v.(string)
	if err != nil || !isText {
		return nil, invalidTemplate("The name of a resource of type '%s' is not valid: %v", t.name, err)
	}
	if strings.Count(name, "/") != strings.Count(t.name, "/")-1 {
		return nil, invalidTemplate("The template resource '%s' of type '%s' has incorrect segment lengths. A nested resource type must have identical number of segments as its resource name", name, t.name)
	}
	scope := p.env.scope
	if text(e, "scope") != "" {
		if kind != "microsoft.authorization/roleassignments" {
			return nil, invalidTemplate("The resource '%s' may not have a scope", name)
		}
		v, err := p.env.resolve(get(e, "scope"))
		if err != nil {
			return nil, invalidTemplate("%v", err)
		}
		if scope = fmt.Sprint(v); !strings.HasPrefix(scope, "/subscriptions/") {
			scope = p.env.scope + "/providers/" + scope
		}
	}
	raw := maps.Clone(e)
	for _, k := range []string{"type", "apiVersion", "name", "dependsOn", "comments", "scope"} {
		drop(raw, k)
	}
	id := resourceID(scope, t.name, name)
	return &planItem{raw: raw, deps: map[string]bool{}, def: &definition{sub: c.sub, group: p.env.group, kind: kind, name: name, version: version, id: id}}, nil
}

// lookup finds a resource of the template by ID, "type/name" or name.
func (p *plan) lookup(ref string) (*planItem, error) {
	for _, i := range p.items {
		if strings.EqualFold(i.def.id, ref) || strings.EqualFold(i.def.typ().name+"/"+i.def.name, ref) || strings.EqualFold(i.def.name, ref) {
			return i, nil
		}
	}
	return nil, fmt.Errorf("the resource '%s' is not defined in the template. Please see https://aka.ms/arm-syntax for usage details", ref)
}

// dependencies reads dependsOn and the calls of reference().
func (p *plan) dependencies(item *planItem, dependsOn []any) *armError {
	for _, e := range dependsOn {
		v, err := p.env.resolve(e)
		if err != nil {
			return invalidTemplate("%v", err)
		}
		i, err := p.lookup(fmt.Sprint(v))
		if err != nil {
			return invalidTemplate("%v", err)
		}
		item.deps[strings.ToLower(i.def.id)] = true
	}
	saved := p.env.reference
	defer func() { p.env.reference = saved }()
	p.env.reference = func(id string, full bool) (any, error) {
		if i, err := p.lookup(id); err == nil {
			item.deps[strings.ToLower(i.def.id)] = true
		}
		return saved(id, full)
	}
	if _, err := p.env.resolve(item.raw); err != nil {
		return invalidTemplate("%v", err)
	}
	return nil
}

func (p *plan) sort() *armError {
	var sorted []*planItem
	state := map[*planItem]int{}
	var visit func(i *planItem) *armError
	visit = func(i *planItem) *armError {
		switch state[i] {
		case 1:
			return invalidTemplate("Circular dependency detected on resource: '%s'", i.def.id)
		case 2:
			return nil
		}
		state[i] = 1
		for _, id := range sortedKeys(i.deps) {
			if d, err := p.lookup(id); err == nil {
				if err := visit(d); err != nil {
					return err
				}
			}
		}
		state[i] = 2
		sorted = append(sorted, i)
		return nil
	}
	for _, i := range p.items {
		if err := visit(i); err != nil {
			return err
		}
	}
	p.items = sorted
	return nil
}

// depends reports whether item needs the resource id, directly or not.
func (p *plan) depends(item *planItem, id string) bool {
	if item.deps[id] {
		return true
	}
	for d := range item.deps {
		if i, err := p.lookup(d); err == nil && p.depends(i, id) {
			return true
		}
	}
	return false
}
