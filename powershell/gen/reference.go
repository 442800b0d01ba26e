package main

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/opencmg/opencmg/adminservice/cmdlet"
)

const generatedPage = "<!-- Generated from the table of cmdlets: go generate ./adminservice/cmdlet. Do not edit. -->\n"

// index is docs/reference/README.md.
func index() string {
	var b strings.Builder
	b.WriteString("# Cmdlets and commands\n\n" + generatedPage + `
Every cmdlet has two names for the same thing: the documented one, for scripts, and
a noun with a verb, for people. Both take the same parameters. The command line has
both; the PowerShell module has the first, see [powershell.md](powershell.md).

    Get-CMCloudManagementGateway -Name "Fc*"          in PowerShell
    opencmg Get-CMCloudManagementGateway -Name "Fc*"  in a shell, as documented
    opencmg gateway list --name 'Fc*'                 in a shell, by noun and verb

In a shell ` + "`--kebab-case`" + ` and ` + "`-KebabCase`" + ` are the same, ` + "`true` and `false`" + ` stand for
` + "`$true` and `$false`" + `, and objects are piped as JSON. By noun and verb a command waits
for the end of what it began, unless ` + "`--no-wait`" + ` is there; by a cmdlet's name it
returns at once, unless ` + "`--wait`" + ` is there.

`)
	for _, f := range families() {
		fmt.Fprintf(&b, "## [%s](%s.md)\n\n| Cmdlet | Command | What it does |\n| --- | --- | --- |\n", strings.ReplaceAll(title(f.name), "-", " "), f.name)
		for _, c := range f.cmdlets {
			fmt.Fprintf(&b, "| [%s](%s.md#%s) | %s | %s |\n", c.Name, f.name, anchor(c), command(c), escape(c.Purpose))
		}
		b.WriteString("\n")
	}
	b.WriteString("## Where they are not as documented\n\n")
	for _, g := range general {
		b.WriteString("- " + g + "\n")
	}
	b.WriteString("\nSingle cmdlets have notes on their pages.\n\n## Cmdlets that are not here\n\n| Cmdlet | Why |\n| --- | --- |\n")
	for _, a := range absent {
		fmt.Fprintf(&b, "| %s | %s |\n", a.name, a.why)
	}
	return b.String()
}

func command(c *cmdlet.Cmdlet) string {
	if c.Words == "" {
		return "`opencmg " + c.Name + "`"
	}
	return "`opencmg " + c.Words + "`"
}

// anchor is the name of a heading as Markdown has it.
func anchor(c *cmdlet.Cmdlet) string { return strings.ToLower(c.Name) }

func title(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// page is the reference page of a family.
func (f family) page() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s\n", strings.ReplaceAll(title(f.name), "-", " "), generatedPage)
	for _, c := range f.cmdlets {
		fmt.Fprintf(&b, "- [%s](#%s): %s\n", c.Name, anchor(c), escape(c.Purpose))
	}
	b.WriteString("\nOf every cmdlet: `-DisableWildcardHandling` takes wildcard characters literally, `-ForceWildcardHandling`\nexpands them; they exclude each other. Of those that change something: `-WhatIf` says what would be done, `-Confirm`\nasks before.\n")
	for _, c := range f.cmdlets {
		b.WriteString("\n" + section(c))
	}
	return b.String()
}

// section is one cmdlet on a page.
func section(c *cmdlet.Cmdlet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n%s\n\n", c.Name, escape(c.Purpose))
	if c.Words != "" {
		fmt.Fprintf(&b, "By noun and verb: %s\n\n", command(c))
	}
	for _, set := range c.AllSets() {
		if len(c.AllSets()) > 1 {
			fmt.Fprintf(&b, "%s:\n\n", setTitle(c, set))
		}
		fmt.Fprintf(&b, "```text\n%s\n```\n\n", syntax(c, set))
	}
	b.WriteString("| Parameter | Type | Required | What it is |\n| --- | --- | --- | --- |\n")
	for i := range c.Parameters {
		p := &c.Parameters[i]
		if p.Common() {
			continue
		}
		fmt.Fprintf(&b, "| `-%s`<br>`--%s` | %s | %s | %s |\n", p.Name, kebab(p.Name), typeText(p), requirement(c, p), escape(summary(p)))
	}
	if operates(c) {
		fmt.Fprintf(&b, "| `-Wait`<br>`--wait` | SwitchParameter | no | %s Addition. |\n", escape(waitHelp))
	}
	fmt.Fprintf(&b, "\nReturns: %s\n", escape(outputs(c)))
	for i, e := range examplesOf(c) {
		fmt.Fprintf(&b, "\n%s:\n\n```powershell\n%s\n```\n\n```sh\n%s\n```\n", escape(e.Title), strings.Join(e.Lines, "\n"), strings.Join(shellForms[c.Name][i], "\n"))
	}
	if n := notes(c); len(n) > 0 {
		b.WriteString("\nNotes:\n\n")
		for _, note := range n {
			b.WriteString("- " + escape(note) + "\n")
		}
	}
	return b.String()
}

func setTitle(c *cmdlet.Cmdlet, set string) string {
	text := "Parameter set `" + set + "`"
	var remarks []string
	if set == c.DefaultSet {
		remarks = append(remarks, "the default")
	}
	if slices.Contains(c.OurSets, set) {
		remarks = append(remarks, "an addition")
	}
	if !slices.Contains(setsIn(c), set) {
		remarks = append(remarks, "the same parameters as an earlier set")
	}
	if len(remarks) > 0 {
		text += " (" + strings.Join(remarks, ", ") + ")"
	}
	return text
}

// syntax is a set's syntax without the common parameters, in lines that fit a
// page.
func syntax(c *cmdlet.Cmdlet, set string) string {
	shown := *c
	shown.Parameters = slices.DeleteFunc(slices.Clone(c.Parameters), func(p cmdlet.Parameter) bool { return p.Common() })
	const width = 100
	var lines []string
	line := c.Name
	for _, word := range words(strings.TrimPrefix(shown.Syntax(set), c.Name)) {
		if len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = "   "
		}
		line += " " + word
	}
	return strings.Join(append(lines, line), "\n")
}

// words takes a syntax apart, keeping each parameter with its value.
func words(syntax string) []string {
	var list []string
	depth, start := 0, -1
	for i, r := range syntax {
		switch {
		case r == '[' || r == '<':
			depth++
		case r == ']' || r == '>':
			depth--
		}
		following := i+1 < len(syntax) && syntax[i+1] == '<' // a space before a value
		if r == ' ' && depth == 0 && !following {
			if start >= 0 {
				list = append(list, syntax[start:i])
			}
			start = -1
		} else if start < 0 && r != ' ' {
			start = i
		}
	}
	if start >= 0 {
		list = append(list, syntax[start:])
	}
	return list
}

func typeText(p *cmdlet.Parameter) string {
	if p.Type == "" {
		return "String"
	}
	return p.Type
}

// requirement says where a parameter is needed, and its position.
func requirement(c *cmdlet.Cmdlet, p *cmdlet.Parameter) string {
	sets := c.AllSets()
	var required, there []string
	position := -1
	for _, s := range sets {
		place, in := p.Place(s)
		if !in {
			continue
		}
		there = append(there, s)
		if place.Required {
			required = append(required, s)
		}
		position = max(position, place.Position)
	}
	text := "no"
	switch {
	case len(required) == len(sets):
		text = "yes"
	case len(required) == len(there):
		text = "in " + someSets(required)
	case len(required) > 0:
		text = "in " + someSets(required) + "; optional in " + someSets(without(there, required))
	case len(there) < len(sets):
		text = "optional, in " + someSets(there)
	}
	if position >= 0 {
		text += fmt.Sprintf("; position %d", position)
	}
	return text
}

func without(list, less []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(less, s) })
}

func someSets(sets []string) string {
	if len(sets) > 4 {
		return fmt.Sprintf("%d sets", len(sets))
	}
	return strings.Join(sets, ", ")
}

// summary is what a parameter is, with all that its column has no place for.
func summary(p *cmdlet.Parameter) string {
	text := about(p)
	if p.Pipeline {
		text += " Takes piped objects."
	}
	if p.Wildcards {
		text += " May have wildcards."
	}
	if len(p.Aliases) > 0 {
		text += " Alias: `-" + strings.Join(p.Aliases, "`, `-") + "`."
	}
	if p.Secret() {
		text += " In a shell from a file (`--" + kebab(p.Name) + "-file`) or the environment (`" + cmdlet.SecretVariable(p) + "`)."
	}
	if p.Ours {
		text += " Addition."
	}
	return text
}

// kebab is a parameter's name as the command line may have it: any way to place
// dashes is taken.
func kebab(name string) string {
	runes := []rune(name)
	var b strings.Builder
	for i, r := range runes {
		upper := unicode.IsUpper(r)
		if i > 0 && upper && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return strings.ReplaceAll(b.String(), "i-pv6", "ipv6")
}

// escape keeps Markdown from reading text as its own.
func escape(s string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", ">", "&gt;", "*", `\*`).Replace(s)
}
