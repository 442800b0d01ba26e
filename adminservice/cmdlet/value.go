package cmdlet

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// An Object is what cmdlets emit and take: the documented properties by name, and
// in ObjectClass its class.
type Object map[string]any

// ClassProperty is the property that holds the class, as objects of
// Configuration Manager's module have it.
const ClassProperty = "ObjectClass"

// Class is the object's class; empty when it does not say.
func (o Object) Class() string { return o.Text(ClassProperty) }

// Text is a property as a text; names match without regard to case.
func (o Object) Text(name string) string {
	switch v := o.value(name).(type) {
	case nil:
		return ""
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	default:
		return fmt.Sprint(v)
	}
}

func (o Object) value(name string) any {
	if v, ok := o[name]; ok {
		return v
	}
	for k, v := range o {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return nil
}

// nameProperty holds a text that stands for an object of that name.
const nameProperty = "__name"

// convert turns a value into what the parameter's type wants.
func (p *Parameter) convert(a Argument) (any, error) {
	v := a.Value
	if p.Switch() {
		if v == nil {
			return true, nil
		}
		return toBool(v)
	}
	if v == nil {
		return nil, errors.New("needs a value")
	}
	if p.Array() {
		return p.convertList(v)
	}
	switch typ := p.Type; {
	case typ == "Boolean":
		return toBool(v)
	case typ == "Int32" || typ == "UInt32":
		return toInt(v, typ == "UInt32")
	case typ == "SecureString":
		s, ok := v.(string)
		if !ok {
			return nil, errors.New("must be a text")
		}
		return adminservice.Secret(s), nil
	case typ == "DateTime":
		return toTime(v)
	case typ == "Hashtable":
		return toTable(v)
	case p.Object():
		return toObject(v, strings.TrimPrefix(typ, "IResultObject#"))
	}
	s, err := toText(v)
	if err != nil {
		return nil, err
	}
	if p.Type == "Uri" {
		u, err := url.Parse(s)
		if err != nil || u.Scheme == "" {
			return nil, fmt.Errorf("%q is not a URI", s)
		}
	}
	if accepted := p.AcceptedValues(); accepted != nil {
		for _, known := range p.Suggested() {
			if strings.EqualFold(known, s) {
				return known, nil
			}
		}
		if !p.Open() {
			return nil, fmt.Errorf("%q must be one of %s", s, strings.Join(accepted, ", "))
		}
	}
	return s, nil
}

func (p *Parameter) convertList(v any) (any, error) {
	var items []any
	switch v := v.(type) {
	case []any:
		items = v
	case string:
		if p.Object() {
			if objects, ok := parseObjects(v); ok {
				items = objects
				break
			}
		}
		for s := range strings.SplitSeq(v, ",") {
			items = append(items, strings.TrimSpace(s))
		}
	default:
		items = []any{v}
	}
	one := *p
	one.Type = strings.TrimSuffix(p.Type, "[]")
	if p.Object() {
		var list []Object
		for _, item := range items {
			o, err := one.convert(Argument{Value: item})
			if err != nil {
				return nil, err
			}
			list = append(list, o.(Object))
		}
		return list, nil
	}
	list := []string{}
	for _, item := range items {
		s, err := toText(item)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

func parseObjects(s string) ([]any, bool) {
	s = strings.TrimSpace(s)
	if !strings.HasPrefix(s, "{") && !strings.HasPrefix(s, "[") {
		return nil, false
	}
	d := json.NewDecoder(strings.NewReader(s))
	var list []any
	for d.More() {
		var v any
		if d.Decode(&v) != nil {
			return nil, false
		}
		if more, ok := v.([]any); ok {
			list = append(list, more...)
			continue
		}
		list = append(list, v)
	}
	return list, true
}

func toText(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	}
	return "", fmt.Errorf("must be a text, is %s", kindOf(v))
}

func kindOf(v any) string {
	switch v.(type) {
	case map[string]any, Object:
		return "an object"
	case []any:
		return "a list"
	case nil:
		return "nothing"
	}
	return fmt.Sprintf("a %T", v)
}

func toBool(v any) (bool, error) {
	switch v := v.(type) {
	case bool:
		return v, nil
	case float64:
		if v == 0 || v == 1 {
			return v == 1, nil
		}
	case string:
		switch strings.ToLower(v) {
		case "$true", "true", "1":
			return true, nil
		case "$false", "false", "0":
			return false, nil
		}
		if v == "" {
			return false, errors.New("is empty: a shell takes $true and $false for variables of its own, so write true, or '$true' in quotes")
		}
		return false, fmt.Errorf("%q must be $true or $false (or true, false, 1, 0)", v)
	}
	return false, fmt.Errorf("must be true or false, is %s", kindOf(v))
}

func toInt(v any, unsigned bool) (int, error) {
	n := 0
	switch v := v.(type) {
	case float64:
		if n = int(v); float64(n) != v {
			return 0, fmt.Errorf("%v is not a whole number", v)
		}
	case string:
		var err error
		if n, err = strconv.Atoi(strings.TrimSpace(v)); err != nil {
			return 0, fmt.Errorf("%q is not a whole number", v)
		}
	default:
		return 0, fmt.Errorf("must be a whole number, is %s", kindOf(v))
	}
	if n > math.MaxInt32 || n < math.MinInt32 || unsigned && n < 0 {
		return 0, fmt.Errorf("%d is out of range", n)
	}
	return n, nil
}

// timeLayouts are how dates may be written: ISO 8601, and the month first as
// PowerShell reads them whatever the language.
var timeLayouts = []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02", "01/02/2006 15:04:05", "1/2/2006 15:04:05", "01/02/2006", "1/2/2006"}

func toTime(v any) (time.Time, error) {
	s, ok := v.(string)
	if !ok {
		return time.Time{}, fmt.Errorf("must be a date, is %s", kindOf(v))
	}
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, strings.TrimSpace(s)); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a date: write it as 2027-03-31 or 03/31/2027 (month first)", s)
}

// toTable reads a hashtable: an object, or path=value,path2=value2.
func toTable(v any) (map[string]string, error) {
	table := map[string]string{}
	switch v := v.(type) {
	case map[string]any:
		for k, value := range v {
			s, err := toText(value)
			if err != nil {
				return nil, err
			}
			table[k] = s
		}
	case string:
		for item := range strings.SplitSeq(v, ",") {
			i := strings.LastIndexByte(item, '=')
			if i <= 0 {
				return nil, fmt.Errorf("%q must be KEY=VALUE, and several are separated by commas", item)
			}
			key := strings.TrimSpace(item[:i])
			if _, twice := table[key]; twice {
				return nil, fmt.Errorf("%s is there twice", key)
			}
			table[key] = strings.TrimSpace(item[i+1:])
		}
	default:
		return nil, fmt.Errorf("must be a hashtable, is %s", kindOf(v))
	}
	return table, nil
}

// toObject reads an object: JSON, or a name that stands for it.
func toObject(v any, class string) (Object, error) {
	var o Object
	switch v := v.(type) {
	case Object:
		o = v
	case map[string]any:
		o = v
	case string:
		list, ok := parseObjects(v)
		switch {
		case !ok && strings.TrimSpace(v) == "":
			return nil, errors.New("is empty: what should have printed an object printed none")
		case !ok:
			return Object{nameProperty: v}, nil
		case len(list) != 1:
			return nil, fmt.Errorf("must be one object, is %d", len(list))
		}
		m, ok := list[0].(map[string]any)
		if !ok {
			return nil, errors.New("must be an object")
		}
		o = m
	default:
		return nil, fmt.Errorf("must be an object, is %s", kindOf(v))
	}
	if class != "" && class != "IResultObject" && o.Class() != "" && !strings.EqualFold(o.Class(), class) {
		return nil, fmt.Errorf("is a %s, and must be a %s", o.Class(), class)
	}
	return o, nil
}

// SecretVariable is the environment variable that a secret parameter is taken
// from when it is not given, such as OPENCMG_SECRET_KEY.
func SecretVariable(p *Parameter) string {
	var b strings.Builder
	for i, r := range p.Name {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return "OPENCMG_" + strings.ToUpper(b.String())
}

// wrongClass refuses an object of another class.
func wrongClass(cmdlet string, o Object, want string) error {
	if c := o.Class(); c != "" && !strings.EqualFold(c, want) {
		return opencmg.Errorf(opencmg.Invalid, "%s: the object is a %s, and must be a %s", cmdlet, c, want)
	}
	return nil
}
