package labcloud

import (
	"fmt"
	"strconv"
	"strings"
)

// Template expressions: "[...]" with calls, string and integer literals,
// property access and indexes. Functions that are not in the switch of
// call are refused, as is everything that does not parse.

// An unknown stands for what is known only while deploying, before it is.
type unknown struct{}

// An exprEnv is what expressions see.
type exprEnv struct {
	scope      string // of the group
	sub        *Subscription
	group      *group
	parameters map[string]any
	variables  map[string]any
	// reference returns a resource for the function of that name.
	reference func(id string, full bool) (any, error)
	depth     int
}

// resolve replaces the expressions in a value. Unknown parts become GUIDs of
// zeros, which fit wherever IDs do.
func (e *exprEnv) resolve(v any) (any, error) {
	switch v := v.(type) {
	case string:
		out, err := e.resolveText(v)
		if _, isUnknown := out.(unknown); isUnknown {
			out = "00000000-0000-0000-0000-000000000000"
		}
		return out, err
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			var err error
			if out[i], err = e.resolve(x); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			key, err := e.resolve(k)
			if err != nil {
				return nil, err
			}
			if out[fmt.Sprint(key)], err = e.resolve(x); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return v, nil
}

func (e *exprEnv) resolveText(t string) (any, error) {
	if !strings.HasPrefix(t, "[") || !strings.HasSuffix(t, "]") {
		return t, nil
	}
	if strings.HasPrefix(t, "[[") {
		return t[1:], nil
	}
	p := &exprParser{env: e, s: t[1 : len(t)-1]}
	v, err := p.expression()
	if err == nil && p.space() < len(p.s) {
		err = p.errorf("there is more after the expression")
	}
	if err != nil {
		return nil, fmt.Errorf("unable to process template language expression '%s': %w", t, err)
	}
	return v, nil
}

type exprParser struct {
	env   *exprEnv
	s     string
	at    int
	depth int
}

func (p *exprParser) errorf(format string, args ...any) error {
	return fmt.Errorf("position %d: %s", p.at+1, fmt.Sprintf(format, args...))
}

func (p *exprParser) space() int {
	for p.at < len(p.s) && strings.ContainsRune(" \t\r\n", rune(p.s[p.at])) {
		p.at++
	}
	return p.at
}

func (p *exprParser) next(c byte) bool {
	if p.space() < len(p.s) && p.s[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *exprParser) word() string {
	p.space()
	start := p.at
	for p.at < len(p.s) && (p.s[p.at] == '_' || '0' <= p.s[p.at] && p.s[p.at] <= '9' || 'a' <= p.s[p.at]|0x20 && p.s[p.at]|0x20 <= 'z') {
		p.at++
	}
	return p.s[start:p.at]
}

func (p *exprParser) expression() (any, error) {
	if p.depth++; p.depth > 50 {
		return nil, p.errorf("nested too deeply")
	}
	defer func() { p.depth-- }()
	if p.space() >= len(p.s) {
		return nil, p.errorf("the expression ends early")
	}
	switch c := p.s[p.at]; {
	case c == '\'':
		return p.literal()
	case c == '-' || '0' <= c && c <= '9':
		start := p.at
		p.at++
		for p.at < len(p.s) && '0' <= p.s[p.at] && p.s[p.at] <= '9' {
			p.at++
		}
		n, err := strconv.Atoi(p.s[start:p.at])
		if err != nil {
			return nil, p.errorf("%q is not a number", p.s[start:p.at])
		}
		return n, nil
	}
	name := p.word()
	if name == "" || !p.next('(') {
		return nil, p.errorf("a function call is expected")
	}
	var args []any
	for !p.next(')') {
		if len(args) > 0 && !p.next(',') {
			return nil, p.errorf("',' or ')' is expected")
		}
		v, err := p.expression()
		if err != nil {
			return nil, err
		}
		args = append(args, v)
	}
	v, err := p.env.call(name, args)
	if err != nil {
		return nil, p.errorf("%v", err)
	}
	return p.access(v)
}

func (p *exprParser) literal() (any, error) {
	var b strings.Builder
	for p.at++; p.at < len(p.s); p.at++ {
		if p.s[p.at] != '\'' {
			b.WriteByte(p.s[p.at])
			continue
		}
		p.at++
		if p.at >= len(p.s) || p.s[p.at] != '\'' {
			return b.String(), nil
		}
		b.WriteByte('\'')
	}
	return nil, p.errorf("a string is not closed")
}

// access follows ".name" and "[index]".
func (p *exprParser) access(v any) (any, error) {
	for {
		var key any
		switch {
		case p.next('.'):
			if key = p.word(); key == "" {
				return nil, p.errorf("a property name is expected")
			}
		case p.next('['):
			var err error
			if key, err = p.expression(); err != nil {
				return nil, err
			}
			if !p.next(']') {
				return nil, p.errorf("']' is expected")
			}
		default:
			return v, nil
		}
		switch x := v.(type) {
		case unknown:
		case map[string]any:
			if v = get(x, fmt.Sprint(key)); v == nil {
				return nil, p.errorf("the language expression property '%v' doesn't exist", key)
			}
		case []any:
			i, isInt := key.(int)
			if !isInt || i < 0 || i >= len(x) {
				return nil, p.errorf("the index '%v' is out of range", key)
			}
			v = x[i]
		default:
			return nil, p.errorf("'%v' cannot be selected from this value", key)
		}
	}
}

func (e *exprEnv) call(name string, args []any) (any, error) {
	words := make([]string, len(args))
	for i, a := range args {
		if _, isUnknown := a.(unknown); isUnknown && !strings.EqualFold(name, "string") {
			return unknown{}, nil
		}
		words[i] = fmt.Sprint(a)
	}
	count := func(lo, hi int) error {
		if len(args) < lo || len(args) > hi {
			return fmt.Errorf("the template function '%s' takes %d to %d arguments, not %d", name, lo, hi, len(args))
		}
		return nil
	}
	switch strings.ToLower(name) {
	case "parameters":
		if err := count(1, 1); err != nil {
			return nil, err
		}
		for k, v := range e.parameters {
			if strings.EqualFold(k, words[0]) {
				return v, nil
			}
		}
		return nil, fmt.Errorf("the template parameter '%s' is not found", words[0])
	case "variables":
		if err := count(1, 1); err != nil {
			return nil, err
		}
		v := get(e.variables, words[0])
		if v == nil {
			return nil, fmt.Errorf("the template variable '%s' is not found", words[0])
		}
		if e.depth++; e.depth > 20 {
			return nil, fmt.Errorf("the variable '%s' refers to itself", words[0])
		}
		defer func() { e.depth-- }()
		return e.resolve(v)
	case "concat":
		return strings.Join(words, ""), count(1, 100)
	case "format":
		if err := count(1, 100); err != nil {
			return nil, err
		}
		return formatText(words[0], words[1:])
	case "tolower":
		return strings.ToLower(strings.Join(words, "")), count(1, 1)
	case "toupper":
		return strings.ToUpper(strings.Join(words, "")), count(1, 1)
	case "string":
		return strings.Join(words, ""), count(1, 1)
	case "resourceid":
		return e.resourceID(words)
	case "subscriptionresourceid":
		if err := count(2, 9); err != nil {
			return nil, err
		}
		return resourceID("/subscriptions/"+e.sub.ID, words[0], strings.Join(words[1:], "/")), nil
	case "extensionresourceid":
		if err := count(3, 9); err != nil {
			return nil, err
		}
		return resourceID(words[0], words[1], strings.Join(words[2:], "/")), nil
	case "reference":
		if err := count(1, 3); err != nil {
			return nil, err
		}
		return e.reference(words[0], len(words) == 3 && strings.EqualFold(words[2], "full"))
	case "resourcegroup":
		return map[string]any{"id": e.scope, "name": e.group.Name, "location": e.group.Location, "tags": e.group.Tags}, count(0, 0)
	case "subscription":
		return map[string]any{"id": "/subscriptions/" + e.sub.ID, "subscriptionId": e.sub.ID, "tenantId": strings.ToLower(e.sub.Tenant), "displayName": e.sub.Name}, count(0, 0)
	case "guid":
		return derived(words...), count(1, 100)
	}
	return nil, fmt.Errorf("the template function '%s' is not valid", name)
}

// resourceID takes [subscription], [group], type and names.
func (e *exprEnv) resourceID(words []string) (any, error) {
	at := -1
	for i, w := range words {
		if strings.Contains(w, "/") {
			at = i
			break
		}
	}
	if at < 0 || at > 2 || len(words)-at-1 != strings.Count(words[at], "/") {
		return nil, fmt.Errorf("the template function 'resourceId' needs a resource type and one name for each of its segments")
	}
	scope := e.scope
	if at >= 1 {
		sub := e.sub.ID
		if at == 2 {
			sub = words[0]
		}
		scope = "/subscriptions/" + sub + "/resourceGroups/" + words[at-1]
	}
	return resourceID(scope, words[at], strings.Join(words[at+1:], "/")), nil
}

// formatText knows {0} and doubled braces.
func formatText(f string, args []string) (any, error) {
	var b strings.Builder
	for i := 0; i < len(f); i++ {
		c := f[i]
		switch {
		case (c == '{' || c == '}') && i+1 < len(f) && f[i+1] == c:
			b.WriteByte(c)
			i++
		case c == '{':
			end := strings.IndexByte(f[i:], '}')
			if end < 0 {
				return nil, fmt.Errorf("the format string '%s' is not valid", f)
			}
			n, err := strconv.Atoi(f[i+1 : i+end])
			if err != nil || n < 0 || n >= len(args) {
				return nil, fmt.Errorf("the format item '%s' is not valid", f[i:i+end+1])
			}
			b.WriteString(args[n])
			i += end
		case c == '}':
			return nil, fmt.Errorf("the format string '%s' is not valid", f)
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}
