package labcloud

import "reflect"

// ResolveExpression resolves a template's string in a small environment.
func ResolveExpression(text string) (any, error) {
	sub := &Subscription{ID: "cccccccc-0000-0000-0000-000000000003", Tenant: "t"}
	e := &exprEnv{scope: "/subscriptions/x/resourceGroups/g", sub: sub, group: &group{Name: "g", Location: "westeurope"},
		parameters: map[string]any{"p": "value", "o": map[string]any{"a": []any{"x", "y"}}}, variables: map[string]any{"v": "[concat(parameters('p'), '!')]", "loop": "[variables('loop')]"},
		reference: func(string, bool) (any, error) { return unknown{}, nil }}
	return e.resolve(text)
}

// CheckPatterns compiles every pattern in the tags of the known bodies.
func CheckPatterns() int {
	n := 0
	seen := map[reflect.Type]bool{}
	var walk func(t reflect.Type)
	walk = func(t reflect.Type) {
		switch t.Kind() {
		case reflect.Slice, reflect.Map, reflect.Pointer:
			walk(t.Elem())
		case reflect.Struct:
			if seen[t] {
				return
			}
			seen[t] = true
			for i := range t.NumField() {
				if m := t.Field(i).Tag.Get("match"); m != "" {
					pattern(m)
					n++
				}
				walk(t.Field(i).Type)
			}
		}
	}
	for _, t := range resourceTypes {
		if t.body != nil {
			walk(reflect.TypeOf(t.body))
		}
	}
	for _, v := range []any{applicationBody{}, addPasswordBody{}, removePasswordBody{}, newPrincipalBody{}, newGrantBody{}, newRoleGrantBody{}, deploymentBody{}, vaultSecretBody{}, scaleSetPatch{}, portMappingBody{}} {
		walk(reflect.TypeOf(v))
	}
	return n
}

// ShapeDeployment parses a body and holds it against a deployment's shape.
func ShapeDeployment(body []byte) (problems int, err error) {
	v, err := parse(body)
	if err != nil {
		return 0, err
	}
	return len(shape(v, deploymentBody{}, "")), nil
}
