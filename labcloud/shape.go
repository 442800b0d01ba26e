package labcloud

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Bodies are kept as the generic values of encoding/json. What a body may hold
// is written down as Go structs that are never filled: shape walks a value and
// a type together and names everything that does not fit. Field tags:
//
//	json:"name"      the property, compared without case, as Azure does
//	need:"1"         it must be there and not null
//	one:"A B"        its value, or the value of each element, is one of these, without case
//	match:"regexp"   its value matches; GUID stands for a GUID
//	min:"1" max:"9"  range of a number, or length of a list
//
// A field of type any takes every value.

// A problem is one thing in a body that does not fit.
type problem struct {
	Path, Text string
}

var patterns sync.Map // regular expression text to *regexp.Regexp

func pattern(s string) *regexp.Regexp {
	if s == "GUID" {
		return guidPattern
	}
	if p, ok := patterns.Load(s); ok {
		return p.(*regexp.Regexp)
	}
	p := regexp.MustCompile(s)
	patterns.Store(s, p)
	return p
}

// shape lists what does not fit the type of want.
func shape(v any, want any, path string) []problem {
	return shapeOf(v, reflect.TypeOf(want), "", path)
}

func shapeOf(v any, t reflect.Type, tag reflect.StructTag, path string) []problem {
	if v == nil || t.Kind() == reflect.Interface {
		return nil
	}
	wrong := func() []problem {
		b, _ := json.Marshal(v)
		return []problem{{path, fmt.Sprintf("Error converting value %.80s to type '%s'. Path '%s'.", b, t.Kind(), path)}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return shapeOf(v, t.Elem(), tag, path)
	case reflect.String:
		text, ok := v.(string)
		if !ok {
			return wrong()
		}
		return checkText(text, tag, path)
	case reflect.Bool:
		if _, ok := v.(bool); !ok {
			return wrong()
		}
	case reflect.Int, reflect.Float64:
		n, ok := number(v)
		if !ok || t.Kind() == reflect.Int && n != math.Trunc(n) {
			return wrong()
		}
		return checkRange(n, "value", tag, path)
	case reflect.Slice:
		list, ok := v.([]any)
		if !ok {
			return wrong()
		}
		out := checkRange(float64(len(list)), "number of elements", tag, path)
		for i, e := range list {
			out = append(out, shapeOf(e, t.Elem(), elementTag(tag), fmt.Sprintf("%s[%d]", path, i))...)
		}
		return out
	case reflect.Map:
		m, ok := v.(map[string]any)
		if !ok {
			return wrong()
		}
		var out []problem
		for _, k := range slices.Sorted(maps.Keys(m)) {
			out = append(out, shapeOf(m[k], t.Elem(), "", join(path, k))...)
		}
		return out
	case reflect.Struct:
		m, ok := v.(map[string]any)
		if !ok {
			return wrong()
		}
		return shapeFields(m, t, path)
	}
	return nil
}

// elementTag keeps what a list's tag says about its elements.
func elementTag(tag reflect.StructTag) reflect.StructTag {
	return reflect.StructTag("one:" + strconv.Quote(tag.Get("one")) + " match:" + strconv.Quote(tag.Get("match")))
}

func shapeFields(m map[string]any, t reflect.Type, path string) []problem {
	var out []problem
	for _, k := range slices.Sorted(maps.Keys(m)) {
		f, ok := field(t, k)
		if !ok {
			out = append(out, problem{join(path, k), fmt.Sprintf("Could not find member '%s' on object of type '%s'. Path '%s'.", k, t.Name(), join(path, k))})
			continue
		}
		out = append(out, shapeOf(m[k], f.Type, f.Tag, join(path, k))...)
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("json")
		if f.Tag.Get("need") != "" && get(m, name) == nil {
			out = append(out, problem{join(path, name), fmt.Sprintf("Required property '%s' not found in JSON. Path '%s'.", name, path)})
		}
	}
	return out
}

func field(t reflect.Type, name string) (reflect.StructField, bool) {
	for i := range t.NumField() {
		if strings.EqualFold(t.Field(i).Tag.Get("json"), name) {
			return t.Field(i), true
		}
	}
	return reflect.StructField{}, false
}

func checkText(text string, tag reflect.StructTag, path string) []problem {
	if one := tag.Get("one"); one != "" && !slices.ContainsFunc(strings.Fields(one), func(s string) bool { return strings.EqualFold(s, text) }) {
		return []problem{{path, fmt.Sprintf("Value '%.80s' is not one of %s. Path '%s'.", text, strings.Join(strings.Fields(one), ", "), path)}}
	}
	if m := tag.Get("match"); m != "" && !pattern(m).MatchString(text) {
		return []problem{{path, fmt.Sprintf("Value '%.80s' does not match %s. Path '%s'.", text, m, path)}}
	}
	return nil
}

func checkRange(n float64, what string, tag reflect.StructTag, path string) []problem {
	lo, errLo := strconv.ParseFloat(tag.Get("min"), 64)
	hi, errHi := strconv.ParseFloat(tag.Get("max"), 64)
	if errLo == nil && n < lo || errHi == nil && n > hi {
		return []problem{{path, fmt.Sprintf("The %s %v is out of range %s to %s. Path '%s'.", what, n, tag.Get("min"), tag.Get("max"), path)}}
	}
	return nil
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// parse reads one JSON value and nothing after it.
func parse(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("there is more after the first value")
	}
	return v, nil
}

// get walks to a property without regard to case; nil when there is none.
func get(v any, path ...string) any {
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		next, ok := m[p]
		if !ok {
			for k, e := range m {
				if strings.EqualFold(k, p) {
					next = e
				}
			}
		}
		v = next
	}
	return v
}

func text(v any, path ...string) string {
	s, _ := get(v, path...).(string)
	return s
}

func integer(v any, path ...string) int {
	n, _ := number(get(v, path...))
	return int(n)
}

func truth(v any, path ...string) bool {
	b, _ := get(v, path...).(bool)
	return b
}

func list(v any, path ...string) []any {
	l, _ := get(v, path...).([]any)
	return l
}

func object(v any, path ...string) map[string]any {
	m, _ := get(v, path...).(map[string]any)
	return m
}

func number(v any) (float64, bool) {
	switch n := v.(type) {
	case json.Number:
		f, err := n.Float64()
		return f, err == nil
	case float64:
		return n, true
	case int:
		return float64(n), true
	}
	return 0, false
}

// set writes a property and removes a spelling of it in other case.
func set(m map[string]any, name string, v any) {
	drop(m, name)
	m[name] = v
}

func drop(m map[string]any, name string) {
	maps.DeleteFunc(m, func(k string, _ any) bool { return strings.EqualFold(k, name) })
}

// merge lays a patch over a value: objects are merged, everything else
// replaces, null removes.
func merge(into, patch map[string]any) {
	for k, v := range patch {
		old := get(into, k)
		a, okA := old.(map[string]any)
		b, okB := v.(map[string]any)
		switch {
		case okA && okB:
			merge(a, b)
		case v == nil:
			drop(into, k)
		default:
			set(into, k, v)
		}
	}
}

// clone copies a value deeply.
func clone[T any](v T) T {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own value
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var out T
	if err := d.Decode(&out); err != nil {
		panic(err)
	}
	return out
}

var guidPattern = regexp.MustCompile(`^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$`)

func isGUID(s string) bool { return guidPattern.MatchString(s) }

func newGUID() string {
	b := make([]byte, 16)
	rand.Read(b)
	return guid(b, 4)
}

// derived makes the same GUID of the same words each time.
func derived(words ...string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(strings.Join(words, "\x00"))))
	return guid(sum[:16], 8)
}

func guid(b []byte, version byte) string {
	b[6], b[8] = b[6]&0x0f|version<<4, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
