package declared

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// A Field is one value that changes.
type Field struct {
	Name string `json:"name"` // key in the file, such as traffic.gb
	Old  string `json:"old"`
	New  string `json:"new"`
}

// sets are the lists whose order says nothing.
var sets = []string{"certificates", "boundaries", "siteSystems", "discoveredGroups"}

// sameText are texts that are one in any case of letters.
var sameText = []string{"serviceName", "resourceGroup", "gateway", "siteSystems", "tenantId", "serverApp", "clientApp", "subscriptionId", "kind"}

// differences compares what a declared object mentions with the current one.
// fixed are those that can not be changed.
func differences(declared, current any) (fields, fixed []Field) {
	walk("", reflect.ValueOf(declared).Elem(), reflect.ValueOf(current).Elem(), func(name, tag string, d, c any) {
		if tag == "once" || same(name, d, c) {
			return
		}
		f := Field{name, show(c), show(d)}
		if tag == "fixed" {
			fixed = append(fixed, f)
		} else {
			fields = append(fields, f)
		}
	})
	return fields, fixed
}

// fieldsOf are the values of an object that is made.
func fieldsOf(declared any) (fields []Field) {
	v := reflect.ValueOf(declared).Elem()
	walk("", v, reflect.New(v.Type()).Elem(), func(name, tag string, d, _ any) {
		if tag != "once" {
			fields = append(fields, Field{Name: name, New: show(d)})
		}
	})
	return fields
}

// walk calls see for every value that is mentioned, with the current one, which
// is the zero value when there is none.
func walk(at string, d, c reflect.Value, see func(name, tag string, d, c any)) {
	for i := range d.NumField() {
		f, dv, cv := d.Type().Field(i), d.Field(i), c.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if dv.Kind() != reflect.Pointer || dv.IsNil() {
			continue // not mentioned, or what the object is known by
		}
		tag := f.Tag.Get("declared")
		if cv.IsNil() {
			cv = reflect.New(dv.Type().Elem())
		}
		if dv.Elem().Kind() == reflect.Struct && tag == "" {
			walk(at+name+".", dv.Elem(), cv.Elem(), see)
			continue
		}
		see(at+name, tag, dv.Elem().Interface(), cv.Elem().Interface())
	}
}

func same(name string, d, c any) bool {
	name = name[strings.LastIndex(name, ".")+1:]
	fold := func(s string) string {
		if slices.Contains(sameText, name) {
			s = strings.ToLower(s)
		}
		return strings.TrimSpace(s)
	}
	switch d := d.(type) {
	case string:
		return fold(d) == fold(c.(string))
	case []string:
		key := func(list []string) []string {
			out := make([]string, 0, len(list))
			for _, s := range list {
				out = append(out, fold(s))
			}
			if slices.Contains(sets, name) {
				slices.Sort(out)
				out = slices.Compact(out)
			}
			return out
		}
		return slices.Equal(key(d), key(c.([]string)))
	case []Endpoint:
		return len(d) == len(c.([]Endpoint)) && (len(d) == 0 || reflect.DeepEqual(d, c))
	}
	return reflect.DeepEqual(d, c)
}

// show writes a value for people.
func show(v any) string {
	switch v := v.(type) {
	case string:
		if t := thumbprint(v); t != "" {
			return "certificate " + t[:16]
		}
		return v
	case []string:
		return "[" + strings.Join(v, ", ") + "]"
	case []Endpoint:
		b, err := json.Marshal(v)
		if err != nil {
			return err.Error()
		}
		return string(b)
	}
	return fmt.Sprint(v)
}

// values is what an object mentions as the body of a request; once are left out.
// A nested object is merged into the current one, since a request replaces it as
// a whole.
func values(declared, current any) map[string]any {
	body := map[string]any{}
	d, c := reflect.ValueOf(declared).Elem(), reflect.ValueOf(current).Elem()
	for i := range d.NumField() {
		f, dv := d.Type().Field(i), d.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch tag := f.Tag.Get("declared"); {
		case tag == "once":
		case dv.Kind() != reflect.Pointer:
			body[name] = dv.Interface()
		case dv.IsNil():
		case dv.Elem().Kind() == reflect.Struct:
			merged := map[string]any{}
			for _, v := range []reflect.Value{c.Field(i), dv} {
				if !v.IsNil() {
					for k, v := range convert[map[string]any](v.Interface()) {
						merged[k] = v
					}
				}
			}
			body[name] = merged
		default:
			body[name] = dv.Elem().Interface()
		}
	}
	return body
}

// changed keeps what the fields name of a body.
func changed(body map[string]any, fields []Field) map[string]any {
	out := map[string]any{}
	for _, f := range fields {
		name, _, _ := strings.Cut(f.Name, ".")
		if v, ok := body[name]; ok {
			out[name] = v
		}
	}
	return out
}
