package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/opencmg/opencmg/adminservice/cmdlet"
)

// TestReference: every cmdlet has its section with all that it takes, and links
// lead somewhere.
func TestReference(t *testing.T) {
	made := files()
	pages := map[string]string{}
	for name, text := range made {
		if page, ok := strings.CutPrefix(name, referenceDir); ok {
			pages[page] = string(text)
		}
	}
	byHand, err := os.ReadFile(filepath.Join(root, "docs", "reference", "powershell.md"))
	if err != nil {
		t.Fatal(err)
	}
	pages["powershell.md"] = string(byHand)
	for _, c := range cmdlet.Table() {
		_, section, ok := strings.Cut(pages[familyOf(c)+".md"], "\n## "+c.Name+"\n")
		if !ok {
			t.Errorf("%s has no section", c.Name)
			continue
		}
		section, _, _ = strings.Cut(section, "\n## ")
		for _, p := range c.Parameters {
			if !p.Common() && !strings.Contains(section, "| `-"+p.Name+"`<br>") {
				t.Errorf("%s: the table lacks -%s", c.Name, p.Name)
			}
		}
		for _, set := range c.AllSets() {
			if len(c.AllSets()) > 1 && !strings.Contains(section, "Parameter set `"+set+"`") {
				t.Errorf("%s: the set %s is missing", c.Name, set)
			}
		}
		if len(examplesOf(c)) == 0 {
			t.Errorf("%s has no example", c.Name)
		}
		if !strings.Contains(pages["README.md"], "["+c.Name+"]("+familyOf(c)+".md#"+anchor(c)+")") {
			t.Errorf("%s is not in the index", c.Name)
		}
	}
	link := regexp.MustCompile(`\]\(([^)]+)\)`)
	for name, text := range pages {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			page, anchor, _ := strings.Cut(m[1], "#")
			if page == "" {
				page = name
			}
			target, there := pages[page]
			if !there {
				if _, err := os.Stat(filepath.Join(root, "docs", "reference", page)); err != nil {
					t.Errorf("%s: the link %s leads nowhere", name, m[1])
				}
				continue
			}
			if anchor != "" && !strings.Contains(headings(target), "\n"+anchor+"\n") {
				t.Errorf("%s: there is no heading %s", name, m[1])
			}
		}
	}
}

// headings are the anchors of a page, one a line.
func headings(text string) string {
	var b strings.Builder
	b.WriteByte('\n')
	for line := range strings.Lines(text) {
		if h, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			b.WriteString(strings.ToLower(strings.ReplaceAll(strings.TrimSpace(h), " ", "-")) + "\n")
		}
	}
	return b.String()
}

// TestShellForms: every example has a form for shells, and each binds to the
// cmdlet that it is about.
func TestShellForms(t *testing.T) {
	for name := range shellForms {
		if cmdlet.Find(name) == nil {
			t.Errorf("there is no cmdlet %s", name)
		}
	}
	for _, c := range cmdlet.Table() {
		if len(shellForms[c.Name]) != len(examplesOf(c)) {
			t.Errorf("%s: %d forms for shells of %d examples", c.Name, len(shellForms[c.Name]), len(examplesOf(c)))
			continue
		}
		for _, lines := range shellForms[c.Name] {
			about := false
			for _, line := range lines {
				for i, part := range strings.Split(line, " | ") {
					about = bindShell(t, part, i > 0) == c || strings.Contains(line, "$(opencmg "+c.Words+" ") || about
				}
			}
			if !about {
				t.Errorf("%s: %v is about something else", c.Name, lines)
			}
		}
	}
}

// bindShell binds one command as a shell would hand it over.
func bindShell(t *testing.T, line string, piped bool) *cmdlet.Cmdlet {
	t.Helper()
	words := shellWords(t, line)
	if len(words) < 2 || words[0] != "opencmg" {
		t.Errorf("%s does not call opencmg", line)
		return nil
	}
	c, n := cmdlet.FindWords(words[1:])
	if c == nil {
		c, n = cmdlet.Find(words[1]), 1
	}
	if c == nil {
		t.Errorf("%s names no cmdlet", line)
		return nil
	}
	var own []string
	for i := 1 + n; i < len(words); i++ {
		word := words[i]
		for _, p := range c.Parameters {
			if p.Secret() && word == "--"+kebab(p.Name)+"-file" {
				i++ // the command line reads the file itself
				word = "-" + p.Name + ":secret"
			}
		}
		own = append(own, word)
	}
	args, err := c.ParseArguments(own)
	if err == nil {
		_, err = c.Bind(args, cmdlet.BindOptions{Pipeline: piped})
	}
	if err != nil {
		t.Errorf("%s: %v", line, err)
	}
	return c
}

// shellWords splits a command; what "$(...)" would print becomes a name, after
// it is bound itself.
func shellWords(t *testing.T, line string) []string {
	t.Helper()
	if before, rest, ok := strings.Cut(line, `"$(`); ok {
		inner, after, _ := strings.Cut(rest, `)"`)
		bindShell(t, inner, false)
		line = before + "OBJECT" + after
	}
	var words []string
	for _, m := range regexp.MustCompile(`'([^']*)'|(\S+)`).FindAllStringSubmatch(line, -1) {
		words = append(words, m[1]+m[2])
	}
	return words
}
