package browsertest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// Screenshot writes a picture of the page (PNG) as it looks with this size and
// these colours; height 0 means all of it. The page keeps both.
func (p *Page) Screenshot(file string, width, height int, dark bool) {
	p.t.Helper()
	whole := height == 0
	if whole {
		height = 800
	}
	p.SetSize(width, height)
	p.SetDark(dark)
	// Fonts are there, and what changed has been painted.
	p.script("wait for fonts", `() => document.fonts.ready.then(() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done()))))`)
	if whole {
		p.SetSize(width, max(height, eval[int](p, "height", `() => Math.min(document.documentElement.scrollHeight, 16000)`)))
	}
	png := run(p, "screenshot", func(ctx context.Context, t *chromedp.Target) ([]byte, error) {
		r, err := cdp.Call(ctx, t, page.CaptureScreenshot, page.CaptureScreenshotParams{Format: page.CaptureScreenshotFormatPng})
		return r.Data, err
	})
	if whole {
		p.SetSize(width, 800)
	}
	if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, png) {
		return
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(file, png, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// Overflow lists what does not fit the width of the page: the page itself when
// it can be scrolled sideways, and elements that stick out at the right or the
// left. What scrolls in a box of its own fits, and so does what is kept out of
// sight for screen readers.
func (p *Page) Overflow() []string {
	p.t.Helper()
	return eval[[]string](p, "look for overflow", `() => {
		const root = document.documentElement, width = root.clientWidth, found = []
		if (root.scrollWidth > width) found.push("the page is " + root.scrollWidth + " px wide and can show " + width)
		const name = e => e.tagName.toLowerCase() + (e.id ? "#" + e.id : "") + [...e.classList].map(c => "." + c).join("")
		const boxed = e => {
			for (let a = e.parentElement; a && a !== root && a !== document.body; a = a.parentElement)
				if (getComputedStyle(a).overflowX !== "visible") return true
			return false
		}
		for (const e of document.body.querySelectorAll("*")) {
			if (!e.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue
			const r = e.getBoundingClientRect()
			if (r.width <= 1 || r.height <= 1 || r.right <= 0 || r.bottom + scrollY <= 0) continue
			if ((r.right > width + 1 || r.left < -1) && !boxed(e)) found.push(name(e) + " is from " + Math.round(r.left) + " to " + Math.round(r.right) + " of " + width)
		}
		return found
	}`)
}

// A Finding is what axe-core says a person with a disability can not use.
type Finding struct {
	Rule    string   `json:"id"`
	Impact  string   `json:"impact"` // serious or critical
	Help    string   `json:"help"`
	Targets []string `json:"targets"` // selectors
}

// String is the finding for a test's log.
func (f Finding) String() string {
	return fmt.Sprintf("%s (%s): %s: %v", f.Rule, f.Impact, f.Help, f.Targets)
}

// Axe looks at the page with axe-core, and returns what is serious or critical.
// The test is skipped where axe-core was not installed ("npm ci" in the directory
// of this package), unless CI=true.
func (p *Page) Axe() []Finding {
	p.t.Helper()
	_, here, _, _ := runtime.Caller(0)
	source, err := os.ReadFile(filepath.Join(filepath.Dir(here), "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		missing(p.t, fmt.Errorf("axe-core is not installed: run npm ci in internal/browsertest: %w", err))
	}
	run(p, "load axe-core", chromedp.Evaluate[chromedp.Void](string(source)))
	return eval[[]Finding](p, "axe", `() => axe.run(document, {resultTypes: ["violations"], preload: false}).then(r =>
		r.violations.filter(v => v.impact === "serious" || v.impact === "critical").map(v => (
			{id: v.id, impact: v.impact, help: v.help, targets: v.nodes.map(n => n.target.flat().join(" ") + " " + (n.any[0] ? n.any[0].message : ""))})))`)
}
