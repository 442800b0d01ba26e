package browsertest

import (
	"context"
	"strings"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// Keys that have no letter, for [Page.Press] and [Page.PressAway].
const (
	Enter     = kb.Enter
	Escape    = kb.Escape
	Tab       = kb.Tab
	ArrowDown = kb.ArrowDown
)

// keyHead are the functions that the scripts below share: which elements are
// controls that a person can see, and what one is called in a test's log.
const keyHead = `
	const controls = "a[href], area[href], button, input:not([type=hidden]), select, textarea, summary, iframe, audio[controls], video[controls], [contenteditable], [tabindex]"
	const seen = e => e.checkVisibility({visibilityProperty: true, contentVisibilityAuto: true}) && [...e.getClientRects()].some(r => r.width > 0 && r.height > 0)
	const called = e => e === document.body ? "the page itself" : e.tagName.toLowerCase() + (e.id ? "#" + e.id : "") + (e.name ? "[name=" + e.name + "]" : "") + " " + JSON.stringify((e.getAttribute("aria-label") || e.textContent || "").trim().replace(/\s+/g, " ").slice(0, 40))
	const usable = e => seen(e) && !e.matches(":disabled") && (e.tagName !== "SUMMARY" || (e.parentElement.tagName === "DETAILS" && e.parentElement.querySelector(":scope > summary") === e))
	// Of a group of radio buttons one is in the order.
	const one = e => e.type === "radio" ? "radio " + e.name + " " + (e.form ? [...document.forms].indexOf(e.form) : "") : e
`

// keyWatch looks at the focus with every key that comes, before the browser does
// what the key is for: by then what the last key led to has been scrolled to.
const keyWatch = `within => {` + keyHead + `
	const area = document.querySelector(within), style = e => { const s = getComputedStyle(e); return {outline: s.outlineStyle === "none" || parseFloat(s.outlineWidth) === 0 ? "" : s.outline, shadow: s.boxShadow} }
	const w = window.keyWatch = {before: new Set(), steps: [], wrong: []}
	const list = w.list = () => [...area.querySelectorAll(controls)].filter(usable), unfocused = window.keyUnfocused ||= new Map()
	for (const e of list()) {
		w.before.add(e)
		if (!unfocused.has(e)) unfocused.set(e, style(e))
	}
	w.look = () => {
		const e = document.activeElement
		w.steps.push(e)
		if (e === document.body || !area.contains(e) || "top" in e.dataset) return
		const r = [...e.getClientRects()].find(r => r.width > 0 && r.height > 0)
		if (!seen(e) || !r) { w.wrong.push(called(e) + " has the focus and can not be seen"); return }
		const left = Math.max(r.left, 0), top = Math.max(r.top, 0), right = Math.min(r.right, innerWidth), bottom = Math.min(r.bottom, innerHeight)
		if (right <= left || bottom <= top) w.wrong.push(called(e) + " has the focus and is off the screen")
		else {
			const over = document.elementFromPoint((left + right) / 2, (top + bottom) / 2)
			if (over && !e.contains(over) && !over.contains(e)) w.wrong.push(called(e) + " has the focus under " + called(over))
		}
		const was = unfocused.get(e), is = style(e)
		if (was && !(is.outline && is.outline !== was.outline) && is.shadow === was.shadow) w.wrong.push(called(e) + " looks the same with the focus")
	}
	w.stop = new AbortController()
	document.addEventListener("keydown", e => { if (e.key === "Tab") w.look() }, {capture: true, signal: w.stop.signal})
	return new Set(list().filter(e => e.tabIndex >= 0).map(one)).size
}`

// keyDone compares where the focus was with where it must have been. What came or
// went meanwhile, as parts do that are kept fresh, does not count.
const keyDone = `back => {` + keyHead + `
	const w = window.keyWatch, way = back ? "Shift+Tab" : "Tab"
	w.look()
	w.stop.abort()
	const now = new Set(w.list().filter(e => e.tabIndex >= 0)), stays = e => w.before.has(e) && now.has(e)
	const steps = w.steps.filter((e, i) => i === 0 || e !== w.steps[i - 1]) // a date has several stops
	const visits = new Map()
	for (const e of steps) visits.set(one(e), (visits.get(one(e)) || 0) + 1)
	const want = new Set()
	for (const e of now) if (stays(e)) want.add(one(e))
	for (const k of want) if (visits.get(k) !== 1) w.wrong.push((k.tagName ? called(k) : k) + " gets the focus " + (visits.get(k) || 0) + " times by " + way)
	const walked = steps.filter(stays)
	for (let i = 1; i < walked.length; i++) {
		const follows = !!(walked[i - 1].compareDocumentPosition(walked[i]) & Node.DOCUMENT_POSITION_FOLLOWING)
		if (follows === back) w.wrong.push("by " + way + " " + called(walked[i]) + " comes after " + called(walked[i - 1]))
	}
	for (const e of steps.slice(1, -1)) if (e === document.body) w.wrong.push("the focus is lost on the way by " + way)
	return w.wrong
}`

// keyOther are what Tab can not show: controls that it leaves out, and frames
// that scroll.
const keyOther = `within => {` + keyHead + `
	const area = document.querySelector(within), wrong = [], all = [...area.querySelectorAll(controls)].filter(usable)
	const links = new Set([...document.querySelectorAll("a[href]")].filter(e => e.tabIndex >= 0 && !(e instanceof SVGElement)).map(e => e.href))
	for (const e of all) {
		if (e.tabIndex > 0) wrong.push(called(e) + " has a place of its own in the order")
		// A link of a drawing may be left out when the same link is in the text.
		const same = e instanceof SVGElement && links.has(new URL(e.getAttribute("href") || "", location).href)
		if (e.tabIndex < 0 && e.matches("a, area, button, input, select, textarea, summary") && !same) wrong.push(called(e) + " is left out of the order")
	}
	for (const e of area.querySelectorAll("*")) {
		if (!seen(e) || e.matches("textarea, select, input, svg *")) continue
		const s = getComputedStyle(e), scrolls = v => v === "auto" || v === "scroll"
		const down = scrolls(s.overflowY) && e.scrollHeight > e.clientHeight + 1, across = scrolls(s.overflowX) && e.scrollWidth > e.clientWidth + 1
		const frame = e.matches(".scroll, .log")
		if (!frame && !down && !across) continue
		const named = (e.getAttribute("aria-label") || [...(e.getAttribute("aria-labelledby") || "").split(" ")].map(i => (document.getElementById(i) || {}).textContent || "").join("")).trim()
		if (e.tabIndex !== 0 || !e.hasAttribute("tabindex") || !named || !e.getAttribute("role")) wrong.push(called(e) + " scrolls, and is no named part of the order")
	}
	return wrong
}`

// Keyboard presses Tab through all that is in an element, from where the focus is
// before it, and Shift+Tab back, and lists what a person without a mouse can not
// use: visible controls (links, buttons, fields, summaries and what else is in the
// order; a group of radio buttons is one) that do not get the focus exactly once
// in the order of the document, that can not be seen then or look no different,
// focus that is lost or held, and frames that scroll but not by keys.
func (p *Page) Keyboard(within string) []string {
	p.t.Helper()
	wrong := eval[[]string](p, "look at controls", keyOther, within)
	for _, back := range []bool{false, true} {
		n := eval[int](p, "watch the focus", keyWatch, within)
		if back {
			n-- // the last one has the focus
		}
		p.tab(n, back)
		// A date has several stops.
		for range 8 * eval[int](p, "look for dates", `() => window.keyWatch.list().filter(e => e.matches("[type=date], [type=time], [type=datetime-local], [type=month], [type=week]")).length`) {
			if eval[bool](p, "see how far it came", `back => {
				const order = window.keyWatch.list().filter(e => e.tabIndex >= 0)
				return document.activeElement === (back ? order[0] : order.at(-1))
			}`, back) {
				break
			}
			p.tab(1, back)
		}
		wrong = append(wrong, eval[[]string](p, "see where the focus was", keyDone, back)...)
	}
	return wrong
}

// KeyboardFromTop puts the focus before all that is on the page, where it is when
// a page was opened that gives it to nothing. A page with autofocus may take it
// back, as late as with its first picture.
func (p *Page) KeyboardFromTop() {
	p.t.Helper()
	p.script("go to the top", `() => {
		const top = document.createElement("span")
		top.tabIndex = -1
		top.dataset.top = ""
		document.body.prepend(top)
		top.focus()
		top.addEventListener("blur", () => top.remove(), {once: true})
	}`)
}

// tab presses Tab, or Shift+Tab, so many times.
func (p *Page) tab(n int, back bool) {
	p.t.Helper()
	if n <= 0 {
		return
	}
	run(p, "press Tab", pressed(strings.Repeat(Tab, n), back))
}

// pressed are key presses as a keyboard makes them: a page that does something of
// its own on a key that goes down does not get the letter, too.
func pressed(keys string, shift bool) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		for _, r := range keys {
			events := kb.Encode(r)
			down, up := events[0], events[len(events)-1]
			if len(events) == 3 {
				down.Text, down.UnmodifiedText = events[1].Text, events[1].UnmodifiedText
			}
			for _, e := range []*input.DispatchKeyEventParams{down, up} {
				if shift {
					e.Modifiers |= int64(chromedp.ModifierShift)
				}
				if _, err := cdp.Call(ctx, t, input.DispatchKeyEvent, *e); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// TabTo presses Tab until an element has the focus.
func (p *Page) TabTo(selector string) {
	p.t.Helper()
	p.WaitFor(selector)
	for range 300 {
		p.tab(1, false)
		if eval[bool](p, "look for the focus", `s => document.activeElement.matches(s)`, selector) {
			return
		}
	}
	p.t.Fatalf("Tab does not lead to %s\n%s", selector, p.describe())
}

// PressAway presses keys that lead to another document, and waits until that is
// loaded.
func (p *Page) PressAway(keys string) {
	p.t.Helper()
	run(p, "press keys", chromedp.WaitEvent(page.LoadEventFired, nil, pressed(keys, false)))
}

// Focused says what has the focus, for a test's log.
func (p *Page) Focused() string {
	p.t.Helper()
	return eval[string](p, "look at the focus", `() => {`+keyHead+` return called(document.activeElement) }`)
}
