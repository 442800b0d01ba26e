package admincli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opencmg/opencmg/adminservice/cmdlet"
)

// printCmdletHelp prints how a cmdlet is called, by both of its names.
func printCmdletHelp(w io.Writer, c *cmdlet.Cmdlet) {
	fmt.Fprintf(w, "%s\n\n", c.Purpose)
	for _, set := range c.AllSets() {
		fmt.Fprintf(w, "  opencmg %s\n", c.Syntax(set))
	}
	if c.Words != "" {
		fmt.Fprintf(w, "\nThe same by noun and verb, with --kebab-case for -KebabCase: opencmg %s ...\n", c.Words)
	}
	fmt.Fprintln(w, "\nParameters:")
	for _, p := range c.Parameters {
		if p.Common() {
			continue
		}
		fmt.Fprintf(w, "  -%s", p.Name)
		if !p.Switch() {
			fmt.Fprintf(w, " <%s>", typeName(&p))
		}
		if len(p.Aliases) > 0 {
			fmt.Fprintf(w, "  (or -%s)", strings.Join(p.Aliases, ", -"))
		}
		fmt.Fprintf(w, "\n      %s\n", p.Summary)
		if v := p.AcceptedValues(); v != nil {
			fmt.Fprintf(w, "      One of %s%s.\n", strings.Join(v, ", "), map[bool]string{true: ", or any newer one"}[p.Open()])
		}
		if p.Secret() {
			fmt.Fprintf(w, "      Better from a file (-%sFile) or from the environment (%s) than as an argument.\n", p.Name, cmdlet.SecretVariable(&p))
		}
	}
	fmt.Fprintln(w, "\nEvery cmdlet takes --site, --ca-file, --token-file, --profile, --output table|json, --wait and --no-wait too,")
	if c.ShouldProcess {
		fmt.Fprintln(w, "and -WhatIf (say what would be done) and -Confirm (ask before).")
	} else {
		fmt.Fprintln(w, "and changes nothing.")
	}
}

func typeName(p *cmdlet.Parameter) string {
	if p.Type == "" {
		return "String"
	}
	return strings.TrimPrefix(p.Type, "SMS_")
}

// CmdletWords lists the cmdlets by noun and verb with what they do, for the list
// of commands.
func CmdletWords() [][2]string {
	var list [][2]string
	for _, c := range cmdlet.Table() {
		if c.Words != "" {
			list = append(list, [2]string{c.Words, c.Name})
		}
	}
	slices.SortStableFunc(list, func(a, b [2]string) int {
		return strings.Compare(strings.Fields(a[0])[0], strings.Fields(b[0])[0])
	})
	return list
}
