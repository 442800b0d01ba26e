package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencmg/opencmg/adminservice/cmdlet"
)

const generated = "# Generated from the table of cmdlets: go generate ./adminservice/cmdlet. Do not edit.\n"

// functions is the file with the functions of a family.
func (f family) functions() string {
	var b strings.Builder
	b.WriteString(generated)
	if slices.ContainsFunc(f.cmdlets, func(c *cmdlet.Cmdlet) bool {
		return slices.ContainsFunc(c.Parameters, func(p cmdlet.Parameter) bool { return p.Secret() })
	}) {
		b.WriteString(`#
# [OpenCMG.Secret()] stands on both sides of [securestring], since versions differ in
# which of a parameter's attributes they apply first, and a plain text must have
# become a SecureString before the type is checked.
`)
	}
	for _, c := range f.cmdlets {
		b.WriteString("\n" + function(c))
	}
	return b.String()
}

// setsIn are the parameter sets of a cmdlet as PowerShell can tell them apart: one
// whose parameters are those of an earlier set would make every call ambiguous.
func setsIn(c *cmdlet.Cmdlet) []string {
	var sets []string
	for _, s := range c.AllSets() {
		if !slices.ContainsFunc(sets, func(other string) bool { return sameSet(c, s, other) }) {
			sets = append(sets, s)
		}
	}
	return sets
}

func sameSet(c *cmdlet.Cmdlet, a, b string) bool {
	for i := range c.Parameters {
		p, inA := c.Parameters[i].Place(a)
		q, inB := c.Parameters[i].Place(b)
		if p != q || inA != inB {
			return false
		}
	}
	return true
}

// defaultSet is the set that holds when several fit. A set without a parameter of
// its own is none to PowerShell, unless it is this one.
func defaultSet(c *cmdlet.Cmdlet) string {
	if c.DefaultSet != "" {
		return c.DefaultSet
	}
	sets := setsIn(c)
	if len(sets) == 1 {
		return ""
	}
	for _, s := range sets {
		own := slices.ContainsFunc(c.Parameters, func(p cmdlet.Parameter) bool {
			_, in := p.Place(s)
			return in && !everywhere(c, &p)
		})
		if !own {
			return s
		}
	}
	return ""
}

// everywhere reports whether a parameter is the same in every set. In a cmdlet
// whose default set is not among its sets, only the common ones are.
func everywhere(c *cmdlet.Cmdlet, p *cmdlet.Parameter) bool {
	sets := setsIn(c)
	if c.DefaultSet != "" && !slices.Contains(sets, c.DefaultSet) && !p.Common() {
		return false
	}
	first, in := p.Place(sets[0])
	return in && !slices.ContainsFunc(sets, func(s string) bool {
		place, in := p.Place(s)
		return !in || place != first
	})
}

// operates reports whether a cmdlet begins an operation that can be waited for.
func operates(c *cmdlet.Cmdlet) bool {
	return c.ShouldProcess && c.Noun() == "CMCloudManagementGateway" || c.Name == "Set-UpdateServerApplication"
}

func reads(c *cmdlet.Cmdlet) bool { return c.Verb() == "Get" }

// function is a cmdlet as an advanced function.
func function(c *cmdlet.Cmdlet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "function %s {\n", c.Name)
	b.WriteString(help(c))
	// Else PowerShell gives positions to parameters that have none, as soon as no
	// parameter has one.
	binding := []string{"PositionalBinding = $false"}
	if s := defaultSet(c); s != "" {
		binding = append(binding, "DefaultParameterSetName = "+quote(s))
	}
	if c.Has("WhatIf") {
		binding = append(binding, "SupportsShouldProcess = $true")
		if c.Verb() == "Remove" {
			binding = append(binding, "ConfirmImpact = 'High'")
		}
	}
	fmt.Fprintf(&b, "    [CmdletBinding(%s)]\n", strings.Join(binding, ", "))
	if c.Class != "" {
		fmt.Fprintf(&b, "    [OutputType(%s)]\n", quote("IResultObject#"+c.Class))
	}
	var blocks []string
	for i := range c.Parameters {
		if p := &c.Parameters[i]; p.Name != "WhatIf" && p.Name != "Confirm" {
			blocks = append(blocks, parameter(c, p))
		}
	}
	if operates(c) {
		blocks = append(blocks, "        [Parameter()]\n        [switch] $Wait")
	}
	fmt.Fprintf(&b, "    param(\n%s\n    )\n", strings.Join(blocks, ",\n\n"))
	call := "Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters"
	var paths []string
	for _, p := range c.Parameters {
		if p.Path {
			paths = append(paths, quote(p.Name))
		}
	}
	if len(paths) > 0 {
		call += " -Path @(" + strings.Join(paths, ", ") + ")"
	}
	if reads(c) {
		call += " -Reads"
	}
	fmt.Fprintf(&b, "    process {\n        %s\n    }\n}\n", call)
	return b.String()
}

// parameter is one parameter with its attributes.
func parameter(c *cmdlet.Cmdlet, p *cmdlet.Parameter) string {
	var lines []string
	if everywhere(c, p) {
		place, _ := p.Place(setsIn(c)[0])
		lines = append(lines, attribute("", place, p))
	} else {
		for _, s := range setsIn(c) {
			if place, in := p.Place(s); in {
				lines = append(lines, attribute(s, place, p))
			}
		}
	}
	if len(p.Aliases) > 0 {
		lines = append(lines, "[Alias("+quoteAll(p.Aliases)+")]")
	}
	switch values := p.AcceptedValues(); {
	case values == nil:
	case p.Open():
		lines = append(lines,
			"[ArgumentCompleter({",
			"    param($commandName, $parameterName, $wordToComplete)",
			"    @("+quoteAll(p.Suggested())+") -like \"$wordToComplete*\"",
			"})]")
	default:
		lines = append(lines, "[ValidateSet("+quoteAll(p.Suggested())+")]")
	}
	if p.Secret() {
		lines = append(lines, "[OpenCMG.Secret()]", "[securestring]", "[OpenCMG.Secret()]", "$"+p.Name)
	} else {
		lines = append(lines, typeOf(p)+" $"+p.Name)
	}
	return "        " + strings.Join(lines, "\n        ")
}

func attribute(set string, place cmdlet.Place, p *cmdlet.Parameter) string {
	var parts []string
	if set != "" && set != cmdlet.AllSets {
		parts = append(parts, "ParameterSetName = "+quote(set))
	}
	if place.Required {
		parts = append(parts, "Mandatory = $true")
	}
	if place.Position >= 0 {
		parts = append(parts, fmt.Sprintf("Position = %d", place.Position))
	}
	if p.Pipeline {
		parts = append(parts, "ValueFromPipeline = $true")
	}
	return "[Parameter(" + strings.Join(parts, ", ") + ")]"
}

// typeOf is the type of a parameter in PowerShell. Enumerations are texts, since
// their .NET types come with a console; their values convert.
func typeOf(p *cmdlet.Parameter) string {
	suffix := ""
	if p.Array() {
		suffix = "[]"
	}
	known := map[string]string{"Boolean": "bool", "Int32": "int", "UInt32": "uint32", "SwitchParameter": "switch", "DateTime": "datetime", "Uri": "uri", "Hashtable": "hashtable"}
	switch name, ok := known[strings.TrimSuffix(p.Type, "[]")]; {
	case ok:
		return "[" + name + suffix + "]"
	case p.Object():
		return "[object" + suffix + "]"
	}
	return "[string" + suffix + "]"
}

// help is the comment-based help of a cmdlet.
func help(c *cmdlet.Cmdlet) string {
	var b strings.Builder
	section := func(head string, lines ...string) {
		b.WriteString("    ." + head + "\n")
		for _, line := range lines {
			b.WriteString(strings.TrimRight("    "+line, " ") + "\n")
		}
		b.WriteString("\n")
	}
	b.WriteString("    <#\n")
	section("SYNOPSIS", c.Purpose)
	section("DESCRIPTION", description(c)...)
	for i := range c.Parameters {
		if p := &c.Parameters[i]; p.Name != "WhatIf" && p.Name != "Confirm" {
			section("PARAMETER "+p.Name, parameterHelp(p))
		}
	}
	if operates(c) {
		section("PARAMETER Wait", waitHelp+" (an addition of OpenCMG)")
	}
	for _, e := range examplesOf(c) {
		section("EXAMPLE", slices.Concat(e.Lines, []string{"", e.Title + "."})...)
	}
	if p := pipelineOf(c); p != nil {
		section("INPUTS", "Objects for -"+p.Name+", one after the other.")
	}
	section("OUTPUTS", outputs(c))
	if n := notes(c); len(n) > 0 {
		section("NOTES", n...)
	}
	section("LINK", "docs/reference/"+familyOf(c)+".md")
	return strings.TrimSuffix(b.String(), "\n") + "    #>\n"
}

const waitHelp = "Wait for the end of the operation that this begins, and show how far it is. Without it the cmdlet returns when the operation has begun."

func description(c *cmdlet.Cmdlet) []string {
	lines := []string{c.Purpose, ""}
	if c.Words != "" {
		lines = append(lines, "The same on the command line: opencmg "+c.Words)
	} else {
		lines = append(lines, "The same on the command line: opencmg "+c.Name)
	}
	lines = append(lines, "It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.")
	return lines
}

func outputs(c *cmdlet.Cmdlet) string {
	switch {
	case c.Has("PassThru") && c.Class != "":
		return "With -PassThru the object, an IResultObject#" + c.Class + "; else nothing."
	case c.Has("PassThru"):
		return "With -PassThru the object; else nothing."
	case c.Class != "":
		return "IResultObject#" + c.Class
	case reads(c):
		return "Objects."
	}
	return "Nothing."
}

// about is what a parameter is, what it may be, and what it is when left out.
func about(p *cmdlet.Parameter) string {
	text := p.Summary
	if values := p.AcceptedValues(); values != nil {
		text += " One of " + strings.Join(values, ", ")
		if p.Open() {
			text += ", or any newer one"
		}
		text += "."
	}
	if p.Default != "" {
		text += " Default: " + p.Default + "."
	}
	return text
}

func parameterHelp(p *cmdlet.Parameter) string {
	text := about(p)
	if p.Wildcards {
		text += " May have wildcards."
	}
	if p.Secret() {
		text += " A SecureString, or a plain text."
	}
	if p.Ours {
		text += " (an addition of OpenCMG)"
	}
	return text
}

func pipelineOf(c *cmdlet.Cmdlet) *cmdlet.Parameter {
	for i := range c.Parameters {
		if c.Parameters[i].Pipeline {
			return &c.Parameters[i]
		}
	}
	return nil
}

// quote makes a single-quoted text of PowerShell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func quoteAll(list []string) string {
	var quoted []string
	for _, s := range list {
		quoted = append(quoted, quote(s))
	}
	return strings.Join(quoted, ", ")
}
