package browsertest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	logdomain "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

// Options say what a page may reach.
type Options struct {
	// Hosts are all that the page may send requests to, as host:port, each with
	// the address where it is on this machine; an empty address is the host's own.
	Hosts map[string]string
	// Roots verify the servers; nil means the system's.
	Roots *x509.CertPool
	// ClientCertificate is presented to servers that ask for one; nil is none.
	ClientCertificate *tls.Certificate
	// Timeout bounds each action and each wait; default 30 seconds.
	Timeout time.Duration
}

// A Page is one page of the browser, with cookies and cache of its own. Its
// methods fail the test at once when they can not do what they are asked; they
// are for the test's goroutine only.
type Page struct {
	t       testing.TB
	o       Options
	process *process
	way     *way
	ctx     context.Context
	dark    bool

	mu       sync.Mutex // guards what follows
	problems []Problem
	seen     map[Problem]bool
	allowed  []string
	news     chan struct{} // closed with the next problem
}

// Open makes a page of 1280 by 800 in light colours, and closes it with the test;
// every problem that it had and that was not taken or allowed fails the test then.
// The test is skipped where there is no browser, unless CI=true.
func Open(t testing.TB, o Options) *Page {
	t.Helper()
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	o.Hosts = maps.Clone(o.Hosts)
	p := &Page{t: t, o: o, process: acquire(t), seen: map[Problem]bool{}, news: make(chan struct{})}
	t.Cleanup(func() {
		if err := p.process.release(); err != nil {
			t.Errorf("end the browser: %v", err)
		}
	})
	var err error
	if p.way, err = newWay(p.process.key, &p.o, p.report); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.way.close)
	ctx, cancel := chromedp.NewContext(p.process.ctx, chromedp.WithListener(p.listen), chromedp.WithNewBrowserContext(func(c *target.CreateBrowserContextParams) {
		c.ProxyServer, c.ProxyBypassList = p.way.ln.Addr().String(), "<-loopback>"
	}))
	p.ctx = ctx
	t.Cleanup(cancel)
	// The context of the first action is the page's life, so it has no timeout.
	if err := chromedp.Do(ctx,
		command(network.Enable, network.EnableParams{}), command(logdomain.Enable, cdp.Empty{}), command(runtime.Enable, cdp.Empty{}),
		chromedp.EmulateViewport(1280, 800), p.media(),
	); err != nil {
		t.Fatalf("open a page: %v", err)
	}
	t.Cleanup(p.finish)
	return p
}

// command is a command of the protocol that answers nothing of interest.
func command[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

// run does an action within the time that one may take.
func run[T any](p *Page, what string, a chromedp.Action[T]) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, p.o.Timeout)
	defer cancel()
	v, err := chromedp.Run(ctx, a)
	if err != nil {
		p.t.Fatalf("%s: %v\n%s", what, err, p.describe())
	}
	return v
}

// describe is where the page is and what it shows, for a test that failed.
func (p *Page) describe() string {
	ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + "\n" + (document.body ? document.body.innerText : "").slice(0, 3000)`))
	if err != nil {
		text = "the page does not answer: " + err.Error()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprintf("%s\nproblems: %v", text, p.problems)
}

// Go opens an address and waits until it is loaded.
func (p *Page) Go(address string) {
	p.t.Helper()
	run(p, "open "+address, chromedp.Navigate(address))
}

// Reload loads the page again.
func (p *Page) Reload() {
	p.t.Helper()
	run(p, "reload", chromedp.Reload())
}

// URL is where the page is.
func (p *Page) URL() string {
	p.t.Helper()
	return run(p, "location", chromedp.Location())
}

// Click waits until an element can be seen and clicks it with the mouse.
func (p *Page) Click(selector string) {
	p.t.Helper()
	p.WaitFor(selector)
	run(p, "click "+selector, chromedp.Click(chromedp.CSS(selector)))
}

// Follow clicks what leads to another document, and waits until that is loaded.
func (p *Page) Follow(selector string) {
	p.t.Helper()
	p.WaitFor(selector)
	run(p, "follow "+selector, chromedp.WaitEvent(page.LoadEventFired, nil, chromedp.Click(chromedp.CSS(selector))))
}

// Fill replaces the text of a field by typing. The field keeps the focus, so
// that a change is told when the next element gets it, as with people.
func (p *Page) Fill(selector, text string) {
	p.t.Helper()
	p.WaitFor(selector)
	p.script("select the text of "+selector, `s => { const e = document.querySelector(s); e.focus(); e.select ? e.select() : 0 }`, selector)
	if text == "" {
		p.Press("\b")
		return
	}
	run(p, "type into "+selector, command(input.InsertText, input.InsertTextParams{Text: text}))
}

// Press types keys where the focus is: "\t", "\r" and "\b" are those keys, and
// [ArrowDown] is one of more.
func (p *Page) Press(keys string) {
	p.t.Helper()
	run(p, "press keys", pressed(keys, false))
}

// Choose selects the option of a list by its value.
func (p *Page) Choose(selector, value string) {
	p.t.Helper()
	p.WaitFor(selector)
	if !eval[bool](p, "choose "+value+" in "+selector, `(s, v) => {
		const e = document.querySelector(s)
		if (![...e.options].some(o => o.value === v && !o.disabled)) return false
		e.focus(); e.value = v
		e.dispatchEvent(new Event("input", {bubbles: true})); e.dispatchEvent(new Event("change", {bubbles: true}))
		return true
	}`, selector, value) {
		p.t.Fatalf("choose %q in %s: there is no such option\n%s", value, selector, p.describe())
	}
}

// Upload gives files to a file field, as the person's choice does.
func (p *Page) Upload(selector string, files ...string) {
	p.t.Helper()
	run(p, "upload to "+selector, chromedp.SetUploadFiles(chromedp.CSS(selector), files))
}

// Text waits until an element can be seen, and returns its text as shown.
func (p *Page) Text(selector string) string {
	p.t.Helper()
	p.WaitFor(selector)
	return eval[string](p, "text of "+selector, `s => document.querySelector(s).innerText.trim()`, selector)
}

// Texts are the texts of all elements that fit now.
func (p *Page) Texts(selector string) []string {
	p.t.Helper()
	return eval[[]string](p, "texts of "+selector, `s => [...document.querySelectorAll(s)].map(e => e.innerText.trim())`, selector)
}

// Value is what a field holds.
func (p *Page) Value(selector string) string {
	p.t.Helper()
	return eval[string](p, "value of "+selector, `s => String(document.querySelector(s).value)`, selector)
}

// Has reports whether an element is there now and can be seen.
func (p *Page) Has(selector string) bool {
	p.t.Helper()
	return eval[bool](p, "look for "+selector, visible+`(s)`, selector)
}

// visible is the head of a function that is asked whether an element is seen.
const visible = `s => (s => [...document.querySelectorAll(s)].some(e => e.checkVisibility({visibilityProperty: true}) && e.getClientRects().length > 0))`

// WaitFor waits until an element can be seen.
func (p *Page) WaitFor(selector string) {
	p.t.Helper()
	p.Until("wait for "+selector, visible+`(s)`, selector)
}

// WaitGone waits until no such element can be seen.
func (p *Page) WaitGone(selector string) {
	p.t.Helper()
	p.Until("wait until "+selector+" is gone", strings.Replace(visible, "s => (", "s => !(", 1)+`(s)`, selector)
}

// WaitText waits until an element shows a text.
func (p *Page) WaitText(selector, text string) {
	p.t.Helper()
	p.Until("wait for "+text+" in "+selector, `(s, t) => [...document.querySelectorAll(s)].some(e => e.innerText.includes(t))`, selector, text)
}

// Until waits until a function of JavaScript, called with the arguments, returns
// something true. It is called at once, and again after every change of the
// document; it outlives one document.
func (p *Page) Until(what, function string, args ...any) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, p.o.Timeout)
	defer cancel()
	wait := fmt.Sprintf(`new Promise((done, failed) => {
		const ask = () => { try { return (%s)(...%s) } catch (e) { failed(e); return true } }
		if (ask()) { done(true); return }
		const seen = new MutationObserver(() => { if (ask()) { seen.disconnect(); done(true) } })
		seen.observe(document, {subtree: true, childList: true, attributes: true, characterData: true})
		addEventListener("load", () => { if (ask()) { seen.disconnect(); done(true) } }, {once: true})
		addEventListener("resize", () => { if (ask()) { seen.disconnect(); done(true) } })
	})`, function, arguments(args))
	for {
		_, err := chromedp.Run(ctx, chromedp.Evaluate[bool](wait, chromedp.EvalAwaitPromise))
		var thrown *chromedp.ExceptionError
		switch {
		case err == nil:
			return
		case ctx.Err() != nil || errors.As(err, &thrown):
			p.t.Fatalf("%s: %v\n%s", what, err, p.describe())
		}
		// The document went away meanwhile: ask the next one.
	}
}

// Eval calls a function of JavaScript with the arguments and returns what it
// returns.
func Eval[T any](p *Page, function string, args ...any) T {
	p.t.Helper()
	return eval[T](p, "script", function, args...)
}

func eval[T any](p *Page, what, function string, args ...any) T {
	p.t.Helper()
	return run(p, what, chromedp.Evaluate[T](fmt.Sprintf("(%s)(...%s)", function, arguments(args)), chromedp.EvalAwaitPromise))
}

func (p *Page) script(what, function string, args ...any) {
	p.t.Helper()
	run(p, what, chromedp.Evaluate[chromedp.Void](fmt.Sprintf("(%s)(...%s)", function, arguments(args)), chromedp.EvalAwaitPromise))
}

func arguments(args []any) string {
	if len(args) == 0 {
		return "[]"
	}
	b, err := json.Marshal(args)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// SetSize makes the page so many CSS pixels wide and high.
func (p *Page) SetSize(width, height int) {
	p.t.Helper()
	run(p, "set size", chromedp.EmulateViewport(int64(width), int64(height)))
}

// SetDark says which colours the person prefers.
func (p *Page) SetDark(dark bool) {
	p.t.Helper()
	p.dark = dark
	run(p, "set colours", p.media())
}

// media are the person's preferences. Nothing moves, so that pictures are the
// same each time.
func (p *Page) media() chromedp.Action[chromedp.Void] {
	colours := "light"
	if p.dark {
		colours = "dark"
	}
	return command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: colours}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
}
