package admincli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/adminservice/cmdlet"
)

// completionScripts ask the program itself what may follow: it knows the
// commands, and the site the names. %[1]s is the program's name.
var completionScripts = map[string]string{
	"bash": `_opencmg() {
	local IFS=$'\n'
	COMPREPLY=($(opencmg __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
	COMPREPLY=("${COMPREPLY[@]%%$'\t'*}")
	COMPREPLY=($(printf '%q\n' "${COMPREPLY[@]}"))
}
complete -o default -F _opencmg opencmg
`,
	"zsh": `#compdef opencmg
_opencmg() {
	local -a found
	found=("${(@f)$(opencmg __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	found=("${(@)found/:/\\:}")
	found=("${(@)found/$'\t'/:}")
	_describe opencmg found || _files
}
compdef _opencmg opencmg
`,
	"fish": `function __opencmg_complete
	opencmg __complete (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null
end
complete -c opencmg -a '(__opencmg_complete)'
`,
	"powershell": `Register-ArgumentCompleter -Native -CommandName 'opencmg' -ScriptBlock {
	param($wordToComplete, $commandAst, $cursorPosition)
	$words = @($commandAst.CommandElements | Select-Object -Skip 1 | ForEach-Object { $_.ToString() })
	if ($words.Count -eq 0 -or $wordToComplete -eq '') { $words += '' }
	& opencmg __complete @words 2>$null | ForEach-Object {
		$value, $text = $_ -split "` + "`" + `t", 2
		if (-not $text) { $text = $value }
		[System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $text)
	}
}
`,
}

// Completion prints the completion script of a shell.
func Completion(_ context.Context, e *Env, args []string) error {
	shells := []string{"bash", "fish", "powershell", "zsh"}
	fs := e.newFlags("completion SHELL", "Print the script with which a shell completes opencmg: "+strings.Join(shells, ", ")+".\n\nFor example: source <(opencmg completion bash)")
	rest, err := parse(fs, args, 1, 1)
	if err != nil {
		return err
	}
	script, ok := completionScripts[strings.ToLower(rest[0])]
	if !ok {
		return usagef("completion %s: must be one of %s", rest[0], strings.Join(shells, ", "))
	}
	_, err = io.WriteString(e.Stdout, script)
	return err
}

// liveTimeout bounds how long a completion waits for the site.
const liveTimeout = 2 * time.Second

// Complete prints what may stand in the place of the last argument, each on a
// line, with a tab and a description where there is one. commands are those
// that are no cmdlets, with their summaries.
func Complete(ctx context.Context, e *Env, args []string, commands [][2]string) error {
	if len(args) == 0 {
		args = []string{""}
	}
	word := args[len(args)-1]
	c, n := cmdlet.FindWords(args[:len(args)-1])
	if c == nil && len(args) > 1 {
		c, n = cmdlet.Find(args[0]), 1
	}
	var found [][2]string
	switch {
	case c != nil:
		found = completeCmdlet(ctx, e, c, args[n:len(args)-1], word)
	default:
		found = completeCommand(args[:len(args)-1], word, commands)
	}
	for _, f := range found {
		if !hasPrefixFold(f[0], word) {
			continue
		}
		if f[1] == "" {
			fmt.Fprintln(e.Stdout, f[0])
		} else {
			fmt.Fprintf(e.Stdout, "%s\t%s\n", f[0], f[1])
		}
	}
	return nil
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// completeCommand completes the words that name a command.
func completeCommand(before []string, word string, commands [][2]string) (found [][2]string) {
	all := slices.Clone(commands)
	for _, c := range cmdlet.Table() {
		if c.Words != "" {
			all = append(all, [2]string{c.Words, c.Purpose})
		}
		if len(before) == 0 && strings.Contains(word, "-") {
			found = append(found, [2]string{c.Name, c.Purpose})
		}
	}
	seen := map[string]bool{}
	for _, c := range all {
		words := strings.Fields(c[0])
		if len(words) <= len(before) || !strings.EqualFold(strings.Join(words[:len(before)], " "), strings.Join(before, " ")) {
			continue
		}
		next := words[len(before)]
		about := c[1]
		if len(words) > len(before)+1 {
			about = "" // several commands begin with it
		}
		if !seen[next] {
			seen[next] = true
			found = append(found, [2]string{next, about})
		}
	}
	return found
}

// completeCmdlet completes a parameter's name, or its value.
func completeCmdlet(ctx context.Context, e *Env, c *cmdlet.Cmdlet, before []string, word string) (found [][2]string) {
	if len(before) > 0 {
		if p := c.Parameter(before[len(before)-1]); p != nil && !p.Switch() {
			return completeValue(ctx, e, c, p, before)
		}
	}
	given := map[string]bool{}
	for _, b := range before {
		if p := c.Parameter(b); p != nil {
			given[p.Name] = true
		}
	}
	double := strings.HasPrefix(word, "--")
	for i := range c.Parameters {
		p := &c.Parameters[i]
		if given[p.Name] {
			continue
		}
		name := "-" + p.Name
		if double {
			name = "--" + Kebab(p.Name)
		}
		found = append(found, [2]string{name, p.Summary})
	}
	if double {
		fs := flag.NewFlagSet("", flag.ContinueOnError)
		new(cmdletFlags).register(fs, outputTable, outputJSON)
		fs.VisitAll(func(f *flag.Flag) {
			_, usage := flag.UnquoteUsage(f)
			found = append(found, [2]string{"--" + f.Name, usage})
		})
	}
	return found
}

// Kebab writes a parameter's name as a flag: VMInstanceCount is
// vm-instance-count.
func Kebab(name string) string {
	var b strings.Builder
	upper := func(i int) bool { return i >= 0 && i < len(name) && name[i] >= 'A' && name[i] <= 'Z' }
	for i := range len(name) {
		if i > 0 && upper(i) && (!upper(i-1) || i+1 < len(name) && !upper(i+1)) {
			b.WriteByte('-')
		}
		b.WriteByte(name[i])
	}
	return strings.ToLower(b.String())
}

// completeValue lists the accepted values, or the names that the site has.
func completeValue(ctx context.Context, e *Env, c *cmdlet.Cmdlet, p *cmdlet.Parameter, args []string) (found [][2]string) {
	if values := p.Suggested(); len(values) > 0 {
		for _, v := range values {
			found = append(found, [2]string{v, ""})
		}
		return found
	}
	if p.Type == "Boolean" {
		return [][2]string{{"true", ""}, {"false", ""}}
	}
	source := c.LiveValues(p)
	if source.Class == "" {
		return nil
	}
	var f cmdletFlags
	if _, err := f.split(c, args); err != nil {
		return nil
	}
	client, err := f.client(e)
	if err != nil {
		return nil
	}
	defer client.HTTP.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, liveTimeout)
	defer cancel()
	objects, err := adminservice.WMI(ctx, client, source.Class, nil)
	if err != nil {
		return nil
	}
	for _, o := range objects {
		value := strings.TrimPrefix(cmdlet.Object(o).Text(source.Property), `\\`)
		if value != "" && !slices.ContainsFunc(found, func(f [2]string) bool { return f[0] == value }) {
			found = append(found, [2]string{value, cmdlet.Object(o).Text(source.About)})
		}
	}
	return found
}
