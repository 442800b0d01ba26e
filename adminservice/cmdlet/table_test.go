package cmdlet_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg/adminservice/cmdlet"
)

// documented is a cmdlet in testdata/cmdlets.json.
type documented struct {
	Name                  string                `json:"name"`
	Verb                  string                `json:"verb"`
	Noun                  string                `json:"noun"`
	Scope                 string                `json:"scope"`
	DefaultParameterSet   *string               `json:"defaultParameterSet"`
	ParameterSets         []string              `json:"parameterSets"`
	SupportsShouldProcess bool                  `json:"supportsShouldProcess"`
	SupportsPassThru      bool                  `json:"supportsPassThru"`
	SupportsForce         bool                  `json:"supportsForce"`
	Parameters            []documentedParameter `json:"parameters"`
	Examples              []struct {
		Title string   `json:"title"`
		Lines []string `json:"lines"`
	} `json:"examples"`
}

type documentedParameter struct {
	Name             string          `json:"name"`
	Type             *string         `json:"type"`
	Switch           bool            `json:"switch"`
	Array            bool            `json:"array"`
	Aliases          []string        `json:"aliases"`
	Sets             map[string]seat `json:"sets"`
	InSyntax         bool            `json:"inSyntax"`
	AcceptsPipeline  string          `json:"acceptsPipeline"`
	AcceptsWildcards bool            `json:"acceptsWildcards"`
	AcceptedValues   []string        `json:"acceptedValues"`
	Default          any             `json:"default"`
	Common           bool            `json:"common"`
}

type seat struct {
	Required bool `json:"required"`
	Position *int `json:"position"`
}

func readDocumented(t *testing.T) []documented {
	t.Helper()
	b, err := os.ReadFile("testdata/cmdlets.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []documented
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// TestTable holds the table to what is documented, parameter by parameter.
func TestTable(t *testing.T) {
	core := 0
	for _, d := range readDocumented(t) {
		c := cmdlet.Find(d.Name)
		if d.Scope == "core" {
			core++
			if c == nil {
				t.Errorf("%s is missing", d.Name)
			}
		}
		if c == nil {
			continue // of what this system has not
		}
		t.Run(d.Name, func(t *testing.T) { compare(t, c, d) })
	}
	if core != 18 {
		t.Errorf("%d core cmdlets are documented, not 18", core)
	}
}

// TestSharedTable holds the copy of the facts to the original, where it is at
// hand.
func TestSharedTable(t *testing.T) {
	original, err := os.ReadFile("../../../shared/spec/cmdlets.json")
	if os.IsNotExist(err) {
		t.Skip("the original is not here")
	}
	copied, err2 := os.ReadFile("testdata/cmdlets.json")
	if err != nil || err2 != nil || string(original) != string(copied) {
		t.Errorf("testdata/cmdlets.json is no longer a copy of the original: %v %v", err, err2)
	}
}

func compare(t *testing.T, c *cmdlet.Cmdlet, d documented) {
	if c.Name != d.Name || c.Verb() != d.Verb || c.Noun() != d.Noun || c.Core != (d.Scope == "core") || c.ShouldProcess != (d.SupportsShouldProcess || c.OmitsCommon) {
		t.Errorf("%s: verb %s, noun %s, core %v, ShouldProcess %v", c.Name, c.Verb(), c.Noun(), c.Core, c.ShouldProcess)
	}
	if c.Has("PassThru") != d.SupportsPassThru || c.Has("Force") != d.SupportsForce {
		t.Errorf("PassThru %v, Force %v", c.Has("PassThru"), c.Has("Force"))
	}
	sets := c.AllSets()[:len(c.AllSets())-len(c.OurSets)]
	if diff := cmp.Diff(d.ParameterSets, sets); diff != "" {
		t.Errorf("parameter sets: %s", diff)
	}
	want := ""
	if d.DefaultParameterSet != nil && *d.DefaultParameterSet != cmdlet.AllSets {
		want = *d.DefaultParameterSet
	}
	if c.DefaultSet != want {
		t.Errorf("default set %q, not %q", c.DefaultSet, want)
	}
	have := map[string]documentedParameter{}
	for i := range c.Parameters {
		if p := &c.Parameters[i]; !p.Ours {
			have[p.Name] = asDocumented(p, sets)
		}
	}
	for _, p := range d.Parameters {
		got, ok := have[p.Name]
		if !ok {
			t.Errorf("-%s is missing", p.Name)
			continue
		}
		delete(have, p.Name)
		if p.Default != nil {
			p.Default = fmt.Sprint(p.Default)
		}
		slices.Sort(p.AcceptedValues)
		slices.Sort(got.AcceptedValues)
		if diff := cmp.Diff(p, got); diff != "" {
			t.Errorf("-%s (- documented, + ours): %s", p.Name, diff)
		}
	}
	for name := range have {
		t.Errorf("-%s is not documented, and not marked as ours", name)
	}
	if len(c.Examples) != len(d.Examples) {
		t.Fatalf("%d examples, not %d", len(c.Examples), len(d.Examples))
	}
	for i, e := range d.Examples {
		if e.Title != c.Examples[i].Title || !slices.Equal(e.Lines, c.Examples[i].Lines) {
			t.Errorf("example %d differs", i+1)
		}
	}
}

func asDocumented(p *cmdlet.Parameter, sets []string) documentedParameter {
	d := documentedParameter{
		Name: p.Name, Switch: p.Switch(), Array: p.Array(), Aliases: append([]string{}, p.Aliases...), Sets: map[string]seat{}, InSyntax: !p.Unlisted,
		AcceptsPipeline: "none", AcceptsWildcards: p.Wildcards, AcceptedValues: append([]string{}, p.AcceptedValues()...), Common: p.Common(),
	}
	if p.Type != "" {
		d.Type = &p.Type
	}
	if p.Pipeline {
		d.AcceptsPipeline = "ByValue"
	}
	if p.Default != "" {
		d.Default = p.Default
	}
	for _, s := range sets {
		place, in := p.Place(s)
		if !in {
			continue
		}
		st := seat{Required: place.Required}
		if place.Position >= 0 {
			st.Position = &place.Position
		}
		d.Sets[s] = st
	}
	return d
}

// TestRunnable: every cmdlet of the table does something, and every word that
// names one is its own.
func TestRunnable(t *testing.T) {
	words := map[string]string{}
	for _, c := range cmdlet.Table() {
		if !c.Runnable() {
			t.Errorf("%s does nothing", c.Name)
		}
		if c.Words != "" && words[c.Words] != "" {
			t.Errorf("%s and %s are both called %s", c.Name, words[c.Words], c.Words)
		}
		words[c.Words] = c.Name
		for _, p := range c.Parameters {
			if p.Summary == "" {
				t.Errorf("%s -%s has no summary", c.Name, p.Name)
			}
		}
	}
}
