package main

import (
	"flag"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/opencmg/opencmg/internal/browsertest"
)

// screenshots is where pictures of the console's pages are written, for
// docs/console; they have the times and ports of the run in them.
var screenshots = flag.String("screenshots", "", "write pictures of the console's pages into this directory")

// Parts of addresses that differ from object to object: pages of one kind are
// looked at once.
var objectPart = regexp.MustCompile(`/([0-9]+|[0-9a-f-]{16,}|GUID:[0-9A-F-]+|[A-Za-z0-9_.-]+\.lo[g_])(/|$)`)

// pageKind is the kind of page that an address leads to.
func pageKind(path string) string {
	path, _, _ = strings.Cut(path, "?")
	return objectPart.ReplaceAllString(path, "/{id}$2")
}

// lookAtPages goes through every page that links lead to, and looks at each kind
// of them narrow and wide, light and dark.
func lookAtPages(t *testing.T, info labInfo, p *browsertest.Page, pictures string) (kinds []string) {
	t.Helper()
	base := strings.TrimSuffix(info.Console.URL, "/console/")
	todo := []string{"/console/"}
	seen := map[string]bool{}
	for len(todo) > 0 {
		path := todo[0]
		todo = todo[1:]
		kind := pageKind(path)
		if seen[kind] {
			continue
		}
		seen[kind] = true
		kinds = append(kinds, kind)
		p.Go(base + path)
		p.WaitFor(`html[data-ready="yes"]`)
		if n := len(p.Texts("h1")); n != 1 {
			t.Errorf("%s has %d headings of the first level", path, n)
		}
		for _, look := range []struct {
			width int
			dark  bool
		}{{1920, false}, {1920, true}, {360, true}, {360, false}} {
			p.SetSize(look.width, 900)
			p.SetDark(look.dark)
			for _, o := range p.Overflow() {
				t.Errorf("%s at %d px: %s", path, look.width, o)
			}
			for _, f := range p.Axe() {
				t.Errorf("%s at %d px, dark %v: %s", path, look.width, look.dark, f)
			}
			if pictures == "" {
				continue
			}
			name := strings.Trim(strings.NewReplacer("/console/", "", "/", "-", "{id}", "one").Replace(kind), "-")
			if name == "" {
				name = "checklist"
			}
			switch look {
			case struct {
				width int
				dark  bool
			}{1920, false}:
				p.Screenshot(filepath.Join(pictures, name+".png"), 1280, 0, false)
			case struct {
				width int
				dark  bool
			}{360, true}:
				p.Screenshot(filepath.Join(pictures, name+"-narrow.png"), 360, 0, true)
			}
		}
		p.SetSize(1280, 900)
		for _, href := range browsertest.Eval[[]string](p, `() => [...document.querySelectorAll("a[href^='/console/']")].map(a => a.getAttribute("href"))`) {
			if href, _, _ := strings.Cut(href, "#"); !strings.Contains(href, "/download") && !seen[pageKind(href)] {
				todo = append(todo, href)
			}
		}
	}
	slices.Sort(kinds)
	return kinds
}

// TestConsolePages looks at every page of the console of a lab in which clients
// worked and were refused.
func TestConsolePages(t *testing.T) {
	_, info := startLab(t)
	p := openConsole(t, info, "")
	for _, f := range p.Axe() {
		t.Errorf("sign-in: %s", f)
	}
	if *screenshots != "" {
		p.Screenshot(filepath.Join(*screenshots, "sign-in.png"), 1280, 0, false)
	}
	p = openConsole(t, info, administratorToken(t, info))
	kinds := lookAtPages(t, info, p, *screenshots)
	t.Logf("%d kinds of pages: %s", len(kinds), strings.Join(kinds, " "))
	if len(kinds) < 20 {
		t.Errorf("links lead to %d kinds of pages only", len(kinds))
	}
}
