package cmdlet

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencmg/opencmg"
)

// An Argument is one parameter as it was given: by name, or by position when the
// name is empty.
type Argument struct {
	Name string
	// Value is a text, a bool, a number, an object (map[string]any) or a list;
	// nil for a switch that was named without a value.
	Value any
	given bool // a value stood there
}

// Bound is a call that fits a parameter set.
type Bound struct {
	Cmdlet *Cmdlet
	Set    string
	// Values are the values by parameter name, converted to the parameter's
	// type: string, bool, int, []string, time.Time, Object, []Object or
	// map[string]string. Secrets are adminservice.Secret.
	Values map[string]any
}

// BindOptions say what else a call has.
type BindOptions struct {
	// Pipeline says that objects are piped in.
	Pipeline bool
	// Ask is asked for required parameters that are missing; nil refuses.
	Ask func(*Parameter) (any, error)
}

// ParseArguments reads a command line: -Name value, -Name:value, --name value and
// --name=value, where dashes inside a name do not count, and values by position.
// Values are texts. Which names take a value is the cmdlet's to say.
func (c *Cmdlet) ParseArguments(args []string) ([]Argument, error) {
	var list []Argument
	for i := 0; i < len(args); i++ {
		name, value, inline, ok := splitName(args[i])
		if !ok {
			list = append(list, Argument{Value: args[i], given: true})
			continue
		}
		p, err := c.parameter(name)
		if err != nil {
			return nil, err
		}
		a := Argument{Name: p.Name}
		switch {
		case inline:
			a.Value, a.given = value, true
		case p.Switch():
		case i+1 < len(args):
			if _, _, _, next := splitName(args[i+1]); next && !strings.HasPrefix(args[i+1], "-.") {
				return nil, opencmg.Errorf(opencmg.Invalid, "%s: -%s needs a value, and %s follows; write -%s:VALUE for a value that begins with a dash", c.Name, p.Name, args[i+1], p.Name)
			}
			i++
			a.Value, a.given = args[i], true
		default:
			return nil, opencmg.Errorf(opencmg.Invalid, "%s: -%s needs a value", c.Name, p.Name)
		}
		list = append(list, a)
	}
	return list, nil
}

// splitName takes a word apart that begins with a dash and a letter.
func splitName(word string) (name, value string, inline, ok bool) {
	rest := strings.TrimLeft(word, "-")
	if len(rest) == len(word) || len(word)-len(rest) > 2 || rest == "" || !isLetter(rest[0]) {
		return "", "", false, false
	}
	if i := strings.IndexAny(rest, ":="); i >= 0 {
		return rest[:i], rest[i+1:], true, true
	}
	return rest, "", false, true
}

func isLetter(b byte) bool { return b|0x20 >= 'a' && b|0x20 <= 'z' }

// parameter finds a parameter by its name, an alias or an unambiguous prefix,
// without regard to case and dashes inside.
func (c *Cmdlet) parameter(name string) (*Parameter, error) {
	want := strings.ToLower(strings.ReplaceAll(name, "-", ""))
	var found []*Parameter
	for i := range c.Parameters {
		p := &c.Parameters[i]
		matches := false
		for _, n := range append([]string{p.Name}, p.Aliases...) {
			n = strings.ToLower(n)
			if n == want {
				return p, nil
			}
			matches = matches || strings.HasPrefix(n, want)
		}
		if matches {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, opencmg.Errorf(opencmg.Invalid, "%s has no parameter -%s: it has %s", c.Name, name, names(c.visible()))
	}
	return nil, opencmg.Errorf(opencmg.Invalid, "%s: -%s may be %s: write more of it", c.Name, name, names(found))
}

func (c *Cmdlet) visible() []*Parameter {
	var list []*Parameter
	for i := range c.Parameters {
		if !c.Parameters[i].common {
			list = append(list, &c.Parameters[i])
		}
	}
	return list
}

func names(list []*Parameter) string {
	var s []string
	for _, p := range list {
		s = append(s, "-"+p.Name)
	}
	return strings.Join(s, ", ")
}

// Bind finds the parameter set of a call and converts its values. Errors are of
// kind Invalid, and name the sets when they are the cause.
func (c *Cmdlet) Bind(args []Argument, o BindOptions) (*Bound, error) {
	given := map[*Parameter]Argument{}
	var positional []Argument
	for _, a := range args {
		if a.Name == "" {
			positional = append(positional, a)
			continue
		}
		p, err := c.parameter(a.Name)
		if err != nil {
			return nil, err
		}
		if _, twice := given[p]; twice {
			return nil, opencmg.Errorf(opencmg.Invalid, "%s: -%s is there twice", c.Name, p.Name)
		}
		given[p] = a
	}
	set, err := c.resolve(given, positional, o)
	if err != nil {
		return nil, err
	}
	c.place(set, given, positional)
	b := &Bound{Cmdlet: c, Set: set, Values: map[string]any{}}
	for i := range c.Parameters {
		p := &c.Parameters[i]
		a, there := given[p]
		if !there {
			if b.missing(p, o) {
				if o.Ask == nil {
					return nil, c.incomplete(set, p)
				}
				v, err := o.Ask(p)
				if err != nil {
					return nil, err
				}
				a, there = Argument{Name: p.Name, Value: v, given: true}, true
			}
		}
		if !there {
			continue
		}
		v, err := p.convert(a)
		if err != nil {
			return nil, opencmg.Errorf(opencmg.Invalid, "%s -%s: %w", c.Name, p.Name, err)
		}
		b.Values[p.Name] = v
	}
	if b.Flag("DisableWildcardHandling") && b.Flag("ForceWildcardHandling") {
		return nil, opencmg.Errorf(opencmg.Invalid, "%s: -DisableWildcardHandling and -ForceWildcardHandling can not be used together: choose one", c.Name)
	}
	return b, nil
}

// Gives reports whether arguments give a parameter, by name or by position.
func (c *Cmdlet) Gives(args []Argument, p *Parameter) bool {
	given, positional := map[*Parameter]Argument{}, 0
	for _, a := range args {
		if a.Name == "" {
			positional++
		} else if named, err := c.parameter(a.Name); err == nil {
			given[named] = a
		}
	}
	if _, named := given[p]; named {
		return true
	}
	return slices.ContainsFunc(c.AllSets(), func(set string) bool {
		open := c.open(set, given)
		return slices.Contains(open[:min(positional, len(open))], p)
	})
}

// missing reports whether a required parameter of the set was not given and will
// not be piped in.
func (b *Bound) missing(p *Parameter, o BindOptions) bool {
	place, in := p.sets[b.Set]
	return in && place.Required && !(p.Pipeline && o.Pipeline)
}

// resolve finds the set that has every parameter given; if several are left,
// pipeline input decides, then which of them is complete, then the default set.
func (c *Cmdlet) resolve(given map[*Parameter]Argument, positional []Argument, o BindOptions) (string, error) {
	left := c.AllSets()
	for p := range given {
		left = slices.DeleteFunc(left, func(s string) bool { _, in := p.sets[s]; return !in })
	}
	if len(left) == 0 {
		return "", c.conflict(given)
	}
	fits := slices.DeleteFunc(slices.Clone(left), func(s string) bool { return len(c.open(s, given)) < len(positional) })
	if len(fits) == 0 {
		return "", opencmg.Errorf(opencmg.Invalid, "%s: there is no place for the value %q: name its parameter; %s", c.Name, fmt.Sprint(positional[len(c.open(left[0], given))].Value), c.describeSets(left))
	}
	left = fits
	if o.Pipeline && len(left) > 1 {
		piped := slices.DeleteFunc(slices.Clone(left), func(s string) bool { return !c.pipes(s, given) })
		if len(piped) > 0 {
			left = piped
		}
	}
	complete := slices.DeleteFunc(slices.Clone(left), func(s string) bool { return len(c.lacks(s, given, len(positional), o)) > 0 })
	switch {
	case len(left) == 1:
		return left[0], nil
	case slices.Contains(complete, c.DefaultSet):
		return c.DefaultSet, nil
	case len(complete) > 0:
		return complete[0], nil
	case slices.Contains(left, c.DefaultSet) && o.Ask != nil && !c.pipesOnly(c.DefaultSet, given):
		return c.DefaultSet, nil
	}
	if nearest, ok := c.nearest(left, given, len(positional), o); ok {
		return nearest, nil // and what it lacks is asked for, or named
	}
	return "", c.unclear(left, given, len(positional), o)
}

// nearest is the one set that lacks the least; none when several do.
func (c *Cmdlet) nearest(left []string, given map[*Parameter]Argument, positional int, o BindOptions) (set string, ok bool) {
	least := -1
	for _, s := range left {
		switch n := len(c.lacks(s, given, positional, o)); {
		case least < 0 || n < least:
			set, least, ok = s, n, true
		case n == least:
			ok = false
		}
	}
	return set, ok && !c.pipesOnly(set, given)
}

// open are the parameters of a set that take values by position and were not
// given by name, in their order.
func (c *Cmdlet) open(set string, given map[*Parameter]Argument) []*Parameter {
	var list []*Parameter
	for i := range c.Parameters {
		p := &c.Parameters[i]
		if place, in := p.sets[set]; in && place.Position >= 0 {
			if _, named := given[p]; !named {
				list = append(list, p)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b *Parameter) int { return a.sets[set].Position - b.sets[set].Position })
	return list
}

// place gives the values by position their parameters.
func (c *Cmdlet) place(set string, given map[*Parameter]Argument, positional []Argument) {
	for i, p := range c.open(set, given) {
		if i < len(positional) {
			given[p] = positional[i]
		}
	}
}

// pipes reports whether a set takes pipeline input.
func (c *Cmdlet) pipes(set string, given map[*Parameter]Argument) bool {
	return slices.ContainsFunc(c.Parameters, func(p Parameter) bool {
		_, in := p.sets[set]
		return in && p.Pipeline
	})
}

// pipesOnly reports whether what a set lacks can only be an object, which nobody
// types.
func (c *Cmdlet) pipesOnly(set string, given map[*Parameter]Argument) bool {
	return slices.ContainsFunc(c.lacks(set, given, 0, BindOptions{}), func(p *Parameter) bool { return p.Pipeline })
}

// lacks are the required parameters of a set that are missing.
func (c *Cmdlet) lacks(set string, given map[*Parameter]Argument, positional int, o BindOptions) []*Parameter {
	placed := c.open(set, given)
	placed = placed[:min(positional, len(placed))]
	var list []*Parameter
	for i := range c.Parameters {
		p := &c.Parameters[i]
		place, in := p.sets[set]
		_, named := given[p]
		if in && place.Required && !named && !slices.Contains(placed, p) && !(p.Pipeline && o.Pipeline) {
			list = append(list, p)
		}
	}
	return list
}

// conflict says which parameters have no set in common.
func (c *Cmdlet) conflict(given map[*Parameter]Argument) error {
	var list []*Parameter
	for i := range c.Parameters {
		p := &c.Parameters[i]
		if _, there := given[p]; there && len(p.sets) < len(c.AllSets()) {
			list = append(list, p)
		}
	}
	// Two that exclude each other say more than all.
	for i, a := range list {
		for _, b := range list[i+1:] {
			if !slices.ContainsFunc(c.AllSets(), func(s string) bool { _, x := a.sets[s]; _, y := b.sets[s]; return x && y }) {
				return opencmg.Errorf(opencmg.Invalid, "%s: -%s and -%s can not be used together: -%s belongs to the parameter set %s, -%s to %s",
					c.Name, a.Name, b.Name, a.Name, c.setsOf(a), b.Name, c.setsOf(b))
			}
		}
	}
	var parts []string
	for _, p := range list {
		parts = append(parts, "-"+p.Name+" belongs to "+c.setsOf(p))
	}
	return opencmg.Errorf(opencmg.Invalid, "%s: no parameter set has all of %s: %s", c.Name, names(list), strings.Join(parts, ", "))
}

func (c *Cmdlet) setsOf(p *Parameter) string {
	var list []string
	for _, s := range c.AllSets() {
		if _, in := p.sets[s]; in {
			list = append(list, s)
		}
	}
	return strings.Join(list, " or ")
}

// incomplete says what a set still needs.
func (c *Cmdlet) incomplete(set string, p *Parameter) error {
	where := ""
	if len(c.AllSets()) > 1 {
		where = " (parameter set " + set + ")"
	}
	text := fmt.Sprintf("%s: -%s is missing%s: %s", c.Name, p.Name, where, firstLower(p.Summary))
	if p.Secret() {
		text += fmt.Sprintf(" Give it at the prompt, in a file (-%sFile) or in the environment (%s)", p.Name, SecretVariable(p))
	}
	return opencmg.Errorf(opencmg.Invalid, "%s", text)
}

func firstLower(s string) string { return strings.ToLower(s[:1]) + s[1:] }

// unclear says how a call could be completed.
func (c *Cmdlet) unclear(left []string, given map[*Parameter]Argument, positional int, o BindOptions) error {
	var ways []string
	for _, s := range left {
		var need []string
		for _, p := range c.lacks(s, given, positional, o) {
			need = append(need, "-"+p.Name)
		}
		ways = append(ways, fmt.Sprintf("%s with %s", s, strings.Join(need, ", ")))
	}
	return opencmg.Errorf(opencmg.Invalid, "%s: something is missing for every parameter set: %s", c.Name, strings.Join(ways, "; or "))
}

func (c *Cmdlet) describeSets(sets []string) string {
	var list []string
	for _, s := range sets {
		var at []string
		for _, p := range c.open(s, nil) {
			at = append(at, "-"+p.Name)
		}
		if len(at) == 0 {
			at = []string{"none"}
		}
		list = append(list, fmt.Sprintf("by position the parameter set %s takes %s", s, strings.Join(at, ", ")))
	}
	return strings.Join(list, "; ")
}

// Flag is a switch's or Boolean's value; false when it was not given.
func (b *Bound) Flag(name string) bool { v, _ := b.Values[name].(bool); return v }

// Text is a text's value; empty when it was not given.
func (b *Bound) Text(name string) string { v, _ := b.Values[name].(string); return v }

// Given reports whether a parameter was given.
func (b *Bound) Given(name string) bool { _, ok := b.Values[name]; return ok }
