package adminservice

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

// Bounds on what a query may cost.
const (
	// MaxPage is the most objects that one answer holds.
	MaxPage       = 1000
	maxFilter     = 4096 // bytes
	maxFilterDeep = 32
)

// A Query holds the OData query options of a request ($filter, $select,
// $orderby, $top, $skip, $count; OData v4.01 part 2, section 5.1). Property
// names match without regard to case.
type Query struct {
	Filter  Filter // nil: all
	Select  []string
	OrderBy []Order
	Top     int // at most MaxPage
	Skip    int
	Count   bool
}

// An Order is one key of $orderby.
type Order struct {
	Property   string
	Descending bool
}

// A Filter decides about one object, decoded from JSON.
type Filter func(map[string]any) bool

// ParseQuery reads the options. Unknown ones that begin with $ are refused,
// others are left to the resource.
func ParseQuery(v url.Values) (Query, error) {
	q := Query{Top: MaxPage}
	for name, values := range v {
		if !strings.HasPrefix(name, "$") {
			continue
		}
		if len(values) != 1 {
			return q, opencmg.Errorf(opencmg.Invalid, "query option %s is there %d times", name, len(values))
		}
		s := values[0]
		var err error
		switch name {
		case "$filter":
			q.Filter, err = ParseFilter(s)
		case "$select":
			for p := range strings.SplitSeq(s, ",") {
				q.Select = append(q.Select, strings.TrimSpace(p))
			}
		case "$orderby":
			for p := range strings.SplitSeq(s, ",") {
				words := strings.Fields(p)
				if len(words) < 1 || len(words) > 2 || len(words) == 2 && words[1] != "asc" && words[1] != "desc" {
					err = opencmg.Errorf(opencmg.Invalid, "$orderby: %q must be a property, followed by asc or desc or nothing", p)
					break
				}
				q.OrderBy = append(q.OrderBy, Order{words[0], len(words) == 2 && words[1] == "desc"})
			}
		case "$top":
			if q.Top, err = number(name, s); err == nil {
				q.Top = min(q.Top, MaxPage)
			}
		case "$skip":
			q.Skip, err = number(name, s)
		case "$count":
			q.Count, err = strconv.ParseBool(s)
			if err != nil {
				err = opencmg.Errorf(opencmg.Invalid, "$count: must be true or false, is %q", s)
			}
		default:
			err = opencmg.Errorf(opencmg.Invalid, "query option %s is not supported: use $filter, $select, $orderby, $top, $skip or $count", name)
		}
		if err != nil {
			return q, err
		}
	}
	return q, nil
}

func number(name, s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, opencmg.Errorf(opencmg.Invalid, "%s: must be a number that is not negative, is %q", name, s)
	}
	return n, nil
}

// Apply filters, orders, cuts and projects the objects. total counts those
// that pass the filter.
func (q Query) Apply(objects []map[string]any) (page []map[string]any, total int) {
	page = slices.Clone(objects)
	if q.Filter != nil {
		page = slices.DeleteFunc(page, func(o map[string]any) bool { return !q.Filter(o) })
	}
	total = len(page)
	if len(q.OrderBy) > 0 {
		slices.SortStableFunc(page, func(a, b map[string]any) int {
			for _, o := range q.OrderBy {
				c := compare(property(a, o.Property), property(b, o.Property))
				if o.Descending {
					c = -c
				}
				if c != 0 {
					return c
				}
			}
			return 0
		})
	}
	page = page[min(q.Skip, len(page)):]
	page = page[:min(q.Top, len(page))]
	return q.Project(page), total
}

// Project keeps the properties of $select.
func (q Query) Project(page []map[string]any) []map[string]any {
	if len(q.Select) == 0 || slices.Contains(q.Select, "*") {
		return page
	}
	out := make([]map[string]any, len(page))
	for i, o := range page {
		out[i] = map[string]any{}
		for k, v := range o {
			if slices.ContainsFunc(q.Select, func(s string) bool { return strings.EqualFold(s, k) }) {
				out[i][k] = v
			}
		}
	}
	return out
}

// property returns a property by its name or path (a/b), nil when there is
// none.
func property(o map[string]any, path string) any {
	first, rest, deeper := strings.Cut(path, "/")
	v, ok := o[first]
	if !ok {
		for k := range o {
			if strings.EqualFold(k, first) {
				v = o[k]
				break
			}
		}
	}
	if !deeper {
		return v
	}
	if m, ok := v.(map[string]any); ok {
		return property(m, rest)
	}
	return nil
}

// compare orders two JSON values: nothing first, then numbers, texts (without
// regard to case) and truth values.
func compare(a, b any) int {
	if ra, rb := rank(a), rank(b); ra != rb {
		return cmp.Compare(ra, rb)
	}
	switch a := a.(type) {
	case float64:
		return cmp.Compare(a, b.(float64))
	case string:
		return cmp.Compare(strings.ToLower(a), strings.ToLower(b.(string)))
	case bool:
		if a == b.(bool) {
			return 0
		} else if a {
			return 1
		}
		return -1
	}
	return 0
}

func rank(v any) int {
	switch v.(type) {
	case nil:
		return 0
	case float64:
		return 1
	case string:
		return 2
	case bool:
		return 3
	}
	return 4
}

// ParseFilter reads a $filter expression: comparisons with eq, ne, gt, ge, lt
// and le, the functions contains, startswith and endswith, and, or, not and
// parentheses. Texts are compared without regard to case, as Configuration
// Manager's database does.
func ParseFilter(s string) (Filter, error) {
	if len(s) > maxFilter {
		return nil, opencmg.Errorf(opencmg.TooLarge, "$filter is longer than %d bytes", maxFilter)
	}
	p := &filterParser{rest: s}
	f, err := p.or(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.rest != "" {
		return nil, p.fail("the end")
	}
	return f, nil
}

type filterParser struct{ rest string }

func (p *filterParser) fail(want string) error {
	found := p.rest
	if found == "" {
		found = "the end"
	} else if len(found) > 40 {
		found = found[:40]
	}
	return opencmg.Errorf(opencmg.Invalid, "$filter: expected %s, found %q; for example: name eq 'gw' and instances gt 1", want, found)
}

func (p *filterParser) space() { p.rest = strings.TrimLeft(p.rest, " ") }

// word takes a word when it comes next.
func (p *filterParser) word(w string) bool {
	p.space()
	if len(p.rest) < len(w) || !strings.EqualFold(p.rest[:len(w)], w) {
		return false
	}
	if len(p.rest) > len(w) && isNameByte(p.rest[len(w)]) {
		return false
	}
	p.rest = p.rest[len(w):]
	return true
}

func (p *filterParser) symbol(c byte) bool {
	p.space()
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func isNameByte(c byte) bool {
	return c == '_' || c == '/' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func (p *filterParser) or(depth int) (Filter, error) {
	left, err := p.and(depth)
	for err == nil && p.word("or") {
		var right Filter
		if right, err = p.and(depth); err == nil {
			l := left
			left = func(o map[string]any) bool { return l(o) || right(o) }
		}
	}
	return left, err
}

func (p *filterParser) and(depth int) (Filter, error) {
	left, err := p.term(depth)
	for err == nil && p.word("and") {
		var right Filter
		if right, err = p.term(depth); err == nil {
			l := left
			left = func(o map[string]any) bool { return l(o) && right(o) }
		}
	}
	return left, err
}

func (p *filterParser) term(depth int) (Filter, error) {
	if depth > maxFilterDeep {
		return nil, opencmg.Errorf(opencmg.Invalid, "$filter: more than %d parentheses deep", maxFilterDeep)
	}
	if p.word("not") {
		f, err := p.term(depth + 1)
		return func(o map[string]any) bool { return !f(o) }, err
	}
	if p.symbol('(') {
		f, err := p.or(depth + 1)
		if err == nil && !p.symbol(')') {
			err = p.fail("a closing parenthesis")
		}
		return f, err
	}
	for name, match := range map[string]func(s, part string) bool{"contains": strings.Contains, "startswith": strings.HasPrefix, "endswith": strings.HasSuffix} {
		if p.word(name) {
			return p.function(match)
		}
	}
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	for op, holds := range map[string]func(c int) bool{
		"eq": func(c int) bool { return c == 0 }, "ne": func(c int) bool { return c != 0 },
		"gt": func(c int) bool { return c > 0 }, "ge": func(c int) bool { return c >= 0 },
		"lt": func(c int) bool { return c < 0 }, "le": func(c int) bool { return c <= 0 },
	} {
		if !p.word(op) {
			continue
		}
		want, err := p.literal()
		if err != nil {
			return nil, err
		}
		return func(o map[string]any) bool {
			have := property(o, name)
			if t, ok := want.(time.Time); ok {
				h, err := time.Parse(time.RFC3339, text(have))
				return err == nil && holds(h.Compare(t))
			}
			if op != "eq" && op != "ne" && rank(have) != rank(want) {
				return false
			}
			return holds(compare(have, want))
		}, nil
	}
	return nil, p.fail("eq, ne, gt, ge, lt or le")
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func (p *filterParser) function(match func(s, part string) bool) (Filter, error) {
	if !p.symbol('(') {
		return nil, p.fail("an opening parenthesis")
	}
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	if !p.symbol(',') {
		return nil, p.fail("a comma")
	}
	lit, err := p.literal()
	if err != nil {
		return nil, err
	}
	part, ok := lit.(string)
	if !ok {
		return nil, opencmg.Errorf(opencmg.Invalid, "$filter: contains, startswith and endswith take a text in single quotes")
	}
	if !p.symbol(')') {
		return nil, p.fail("a closing parenthesis")
	}
	part = strings.ToLower(part)
	return func(o map[string]any) bool { return match(strings.ToLower(text(property(o, name))), part) }, nil
}

func (p *filterParser) name() (string, error) {
	p.space()
	n := 0
	for n < len(p.rest) && isNameByte(p.rest[n]) {
		n++
	}
	if n == 0 || p.rest[0] >= '0' && p.rest[0] <= '9' {
		return "", p.fail("a property name")
	}
	name := p.rest[:n]
	p.rest = p.rest[n:]
	return name, nil
}

// literal reads a text in single quotes (doubled inside), a number, a time,
// true, false or null.
func (p *filterParser) literal() (any, error) {
	p.space()
	if strings.HasPrefix(p.rest, "'") {
		var b strings.Builder
		for i := 1; i < len(p.rest); i++ {
			if p.rest[i] != '\'' {
				b.WriteByte(p.rest[i])
				continue
			}
			if i+1 < len(p.rest) && p.rest[i+1] == '\'' {
				b.WriteByte('\'')
				i++
				continue
			}
			p.rest = p.rest[i+1:]
			return b.String(), nil
		}
		return nil, p.fail("a text that ends with a single quote")
	}
	n := strings.IndexAny(p.rest, " ),")
	if n < 0 {
		n = len(p.rest)
	}
	word := p.rest[:n]
	var v any
	switch strings.ToLower(word) {
	case "true":
		v = true
	case "false":
		v = false
	case "null":
		v = nil
	default:
		if f, err := strconv.ParseFloat(word, 64); err == nil {
			v = f
		} else if t, err := time.Parse(time.RFC3339, word); err == nil {
			v = t
		} else {
			return nil, p.fail("a text in single quotes, a number, a time, true, false or null")
		}
	}
	p.rest = p.rest[n:]
	return v, nil
}
