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

// visitPages follows every link and returns the address, below /console/, of one
// page of each kind.
func visitPages(t *testing.T, info labInfo, p *browsertest.Page) (paths []string) {
	t.Helper()
	// The page that asks before clients are sent a task is behind a form.
	todo, seen := []string{"", "clients/notify?task=discovery"}, map[string]bool{}
	for len(todo) > 0 {
		path := todo[0]
		todo = todo[1:]
		if seen[pageKind(path)] {
			continue
		}
		seen[pageKind(path)] = true
		paths = append(paths, path)
		p.Go(info.Console.URL + path)
		for _, href := range browsertest.Eval[[]string](p, `() => [...document.querySelectorAll("a[href^='/console/']")].map(a => a.getAttribute("href"))`) {
			href, _, _ = strings.Cut(strings.TrimPrefix(href, "/console/"), "#")
			if !strings.Contains(href, "/download") && !seen[pageKind(href)] {
				todo = append(todo, href)
			}
		}
	}
	return paths
}

// lookAtPages looks at each kind of page narrow and wide, light and dark, and
// returns the kinds.
func lookAtPages(t *testing.T, info labInfo, p *browsertest.Page, pictures string) (kinds []string) {
	t.Helper()
	picture := func(kind, suffix string, width int, dark bool) {
		if pictures == "" {
			return
		}
		name := strings.Trim(strings.NewReplacer("/", "-", "{id}", "one").Replace(kind), "-")
		if name == "" {
			name = "checklist"
		}
		p.Screenshot(filepath.Join(pictures, name+suffix+".png"), width, 0, dark)
	}
	for _, path := range visitPages(t, info, p) {
		kind := pageKind(path)
		kinds = append(kinds, kind)
		p.Go(info.Console.URL + path)
		p.WaitFor(`html[data-ready="yes"]`)
		byKeyboard(t, p, path)
		if n := len(p.Texts("h1")); n != 1 {
			t.Errorf("%s has %d headings of the first level", path, n)
		}
		for _, width := range []int{1920, 1190, 950, 720, 360} {
			p.SetSize(width, 900)
			for _, o := range p.Overflow() {
				t.Errorf("%s at %d px: %s", path, width, o)
			}
			if width != 1920 && width != 360 {
				continue
			}
			for _, dark := range []bool{false, true} {
				p.SetDark(dark)
				for _, f := range p.Axe() {
					t.Errorf("%s at %d px, dark %v: %s", path, width, dark, f)
				}
			}
		}
		picture(kind, "-narrow", 360, true)
		picture(kind, "", 1280, false)
		p.SetSize(1280, 900)
		p.SetDark(false)
	}
	slices.Sort(kinds)
	return kinds
}
