package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg/adminservice/cmdlet"
)

// A written function is what a param block says, read back from the text.
type written struct {
	defaultSet    string
	shouldProcess bool
	asks          bool // ConfirmImpact is High
	call          string
	help          string
	parameters    map[string]*writtenParameter
}

type writtenParameter struct {
	typ     string
	secret  bool
	aliases []string
	// sets are by name; "" stands for all.
	sets     map[string]seat
	pipeline bool
	values   []string // of ValidateSet
	suggests []string // of ArgumentCompleter
}

type seat struct {
	Required bool `json:"required"`
	Position *int `json:"position"`
}

var (
	functionText  = regexp.MustCompile(`(?ms)^function (\S+) \{\n    <#\n(.*?)\n    #>\n    \[CmdletBinding\((.*?)\)\]\n(?:    \[OutputType\('[^']+'\)\]\n)?    param\(\n(.*?)\n    \)\n    process \{\n        (.*?)\n    \}\n\}$`)
	variable      = regexp.MustCompile(`^(?:(\[[a-z0-9]+(?:\[\])?\]) )?\$(\w+)$`)
	attributeText = regexp.MustCompile(`^\[(\w+)\((.*)\)\]$`)
	quotedText    = regexp.MustCompile(`'((?:[^']|'')*)'`)
)

func quoted(s string) []string {
	list := []string{}
	for _, m := range quotedText.FindAllStringSubmatch(s, -1) {
		list = append(list, strings.ReplaceAll(m[1], "''", "'"))
	}
	return list
}

// readFunctions reads the functions of the module's files.
func readFunctions(t *testing.T) map[string]*written {
	t.Helper()
	all := map[string]*written{}
	names, err := filepath.Glob(filepath.Join(root, "powershell", "OpenCMG", "Cmdlets", "*.ps1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range functionText.FindAllStringSubmatch(string(b), -1) {
			w := &written{help: m[2], call: m[5], parameters: map[string]*writtenParameter{}}
			if d := regexp.MustCompile(`DefaultParameterSetName = '([^']+)'`).FindStringSubmatch(m[3]); d != nil {
				w.defaultSet = d[1]
			}
			if !strings.Contains(m[3], "PositionalBinding = $false") {
				t.Errorf("%s: PowerShell would number its parameters itself", m[1])
			}
			w.shouldProcess = strings.Contains(m[3], "SupportsShouldProcess = $true")
			w.asks = strings.Contains(m[3], "ConfirmImpact = 'High'")
			for block := range strings.SplitSeq(m[4], ",\n\n") {
				name, p := readParameter(t, block)
				w.parameters[name] = p
			}
			all[m[1]] = w
		}
	}
	return all
}

func readParameter(t *testing.T, block string) (string, *writtenParameter) {
	t.Helper()
	p := &writtenParameter{sets: map[string]seat{}, aliases: []string{}}
	completer := false
	for line := range strings.Lines(block) {
		line = strings.TrimSpace(line)
		switch {
		case line == "[ArgumentCompleter({":
			completer = true
		case line == "})]":
			completer = false
		case completer:
			if strings.HasPrefix(line, "@(") {
				p.suggests = quoted(line)
			}
		case line == "[OpenCMG.Secret()]":
			p.secret = true
		case line == "[securestring]":
			p.typ = line
		case variable.MatchString(line):
			m := variable.FindStringSubmatch(line)
			if m[1] != "" {
				p.typ = m[1]
			}
			return m[2], p
		default:
			m := attributeText.FindStringSubmatch(line)
			if m == nil {
				t.Fatalf("what is %q?", line)
			}
			switch m[1] {
			case "Parameter":
				readSeat(t, p, m[2])
			case "Alias":
				p.aliases = quoted(m[2])
			case "ValidateSet":
				p.values = quoted(m[2])
			default:
				t.Fatalf("what is %q?", line)
			}
		}
	}
	t.Fatalf("no variable in %q: has it a default?", block)
	return "", nil
}

func readSeat(t *testing.T, p *writtenParameter, attribute string) {
	t.Helper()
	set, s := "", seat{}
	for part := range strings.SplitSeq(attribute, ", ") {
		key, value, _ := strings.Cut(part, " = ")
		switch key {
		case "":
		case "ParameterSetName":
			set = strings.Trim(value, "'")
		case "Mandatory":
			s.Required = value == "$true"
		case "ValueFromPipeline":
			p.pipeline = value == "$true"
		case "Position":
			n := 0
			if _, err := fmt.Sscan(value, &n); err != nil {
				t.Fatal(err)
			}
			s.Position = &n
		default:
			t.Fatalf("what is %q?", part)
		}
	}
	p.sets[set] = s
}

// in gives what the parameter is in a set.
func (p *writtenParameter) in(set string) (seat, bool) {
	if s, ok := p.sets[set]; ok {
		return s, true
	}
	s, ok := p.sets[""]
	return s, ok
}

// TestFunctions holds the text of the functions to the documented facts, and our
// additions to the table.
func TestFunctions(t *testing.T) {
	functions := readFunctions(t)
	if len(functions) != len(cmdlet.Table()) {
		t.Errorf("%d functions, %d cmdlets", len(functions), len(cmdlet.Table()))
	}
	b, err := os.ReadFile(filepath.Join(root, "adminservice", "cmdlet", "testdata", "cmdlets.json"))
	if err != nil {
		t.Fatal(err)
	}
	var documented []documented
	if err := json.Unmarshal(b, &documented); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, d := range documented {
		c := cmdlet.Find(d.Name)
		if c == nil {
			continue // TestAbsent
		}
		n++
		t.Run(d.Name, func(t *testing.T) {
			w := functions[d.Name]
			if w == nil {
				t.Fatal("there is no such function")
			}
			compareDocumented(t, d, c, w)
			compareOurs(t, c, w)
		})
	}
	if n != len(functions) {
		t.Errorf("%d documented cmdlets are here, and %d functions", n, len(functions))
	}
}

// A documented cmdlet, as in testdata/cmdlets.json.
type documented struct {
	Name                  string
	DefaultParameterSet   *string
	ParameterSets         []string
	SupportsShouldProcess bool
	Parameters            []struct {
		Name            string
		Type            *string
		Aliases         []string
		Sets            map[string]seat
		AcceptsPipeline string
		AcceptedValues  []string
		Common          bool
	}
}

func compareDocumented(t *testing.T, d documented, c *cmdlet.Cmdlet, w *written) {
	if d.DefaultParameterSet != nil && *d.DefaultParameterSet != cmdlet.AllSets && w.defaultSet != *d.DefaultParameterSet {
		t.Errorf("the default set is %q, documented is %q", w.defaultSet, *d.DefaultParameterSet)
	}
	if d.DefaultParameterSet == nil && w.defaultSet != "" && d.Name != "Set-CMDefaultBoundaryGroup" {
		t.Errorf("the default set is %q, documented is none", w.defaultSet)
	}
	if d.SupportsShouldProcess && !w.shouldProcess {
		t.Error("it lacks -WhatIf and -Confirm")
	}
	if w.asks != (c.Verb() == "Remove") {
		t.Errorf("it asks: %v", w.asks)
	}
	for _, p := range d.Parameters {
		if p.Name == "WhatIf" || p.Name == "Confirm" {
			continue // PowerShell's own
		}
		got := w.parameters[p.Name]
		if got == nil {
			t.Errorf("-%s is missing", p.Name)
			continue
		}
		if diff := cmp.Diff(p.Aliases, got.aliases); diff != "" {
			t.Errorf("-%s: aliases %s", p.Name, diff)
		}
		if got.pipeline != (p.AcceptsPipeline == "ByValue") {
			t.Errorf("-%s: from the pipeline %v", p.Name, got.pipeline)
		}
		for _, set := range d.ParameterSets {
			if d.Name == "Add-CMManagementPoint" && strings.HasSuffix(set, "eReplica") {
				continue // the same as the other two
			}
			want, in := p.Sets[set]
			have, there := got.in(set)
			if diff := cmp.Diff(want, have); diff != "" || in != there {
				t.Errorf("-%s in set %s (- documented, + written): %v %v %s", p.Name, set, in, there, diff)
			}
		}
		offered := slices.Concat(got.values, got.suggests)
		for _, v := range p.AcceptedValues {
			if !slices.Contains(offered, v) {
				t.Errorf("-%s does not offer %s", p.Name, v)
			}
		}
		typ := ""
		if p.Type != nil {
			typ = *p.Type
		}
		want := map[string]string{"Boolean": "[bool]", "Int32": "[int]", "SwitchParameter": "[switch]", "SecureString": "[securestring]", "DateTime": "[datetime]", "Hashtable": "[hashtable]", "Uri": "[uri]", "IResultObject": "[object]", "IResultObject[]": "[object[]]", "String[]": "[string[]]", "IResultObject#SMS_AAD_Application_Ex": "[object]"}[typ]
		if want == "" {
			want = "[string]"
		}
		if got.typ != want || got.secret != (typ == "SecureString") {
			t.Errorf("-%s: type %s (secret %v), documented is %s", p.Name, got.typ, got.secret, typ)
		}
	}
}

func compareOurs(t *testing.T, c *cmdlet.Cmdlet, w *written) {
	known := map[string]bool{"Wait": operates(c)}
	for i := range c.Parameters {
		p := &c.Parameters[i]
		if known[p.Name] = true; p.Name == "WhatIf" || p.Name == "Confirm" {
			continue
		}
		got := w.parameters[p.Name]
		if got == nil {
			t.Errorf("-%s is missing", p.Name)
			continue
		}
		for _, set := range c.OurSets {
			want, in := p.Place(set)
			if have, there := got.in(set); in != there || want.Required != have.Required {
				t.Errorf("-%s in our set %s: %v %+v", p.Name, set, there, have)
			}
		}
		if !strings.Contains(w.help, ".PARAMETER "+p.Name+"\n") {
			t.Errorf("-%s has no help", p.Name)
		}
		if p.Open() != (got.suggests != nil) || p.Open() && got.values != nil {
			t.Errorf("-%s: open %v, suggests %v, allows only %v", p.Name, p.Open(), got.suggests, got.values)
		}
		if p.Path != slices.Contains(quoted(w.call), p.Name) {
			t.Errorf("-%s names a file: %v; the call is %s", p.Name, p.Path, w.call)
		}
	}
	for name := range w.parameters {
		if !known[name] {
			t.Errorf("-%s is nowhere in the table", name)
		}
	}
	// The module tells the site not to ask what PowerShell has asked.
	if !reads(c) && !c.Has("Confirm") {
		t.Error("the site would refuse -Confirm")
	}
	if reads(c) != strings.HasSuffix(w.call, " -Reads") {
		t.Errorf("it reads: %v; the call is %s", reads(c), w.call)
	}
	for _, e := range examplesOf(c) {
		for _, line := range e.Lines {
			if !strings.Contains(w.help, line+"\n") {
				t.Errorf("the help lacks the example %s", line)
			}
		}
	}
}
