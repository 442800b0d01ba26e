package main

import (
	"fmt"
	"testing"

	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/browsertest"
)

// byKeyboard goes through a page that was just opened by keys alone: all of the
// start page, and of the others what follows the link that skips the navigation,
// which is the same on each.
func byKeyboard(t *testing.T, p *browsertest.Page, path string) {
	t.Helper()
	within := "body"
	if path != "" {
		within = "main"
		p.Press(browsertest.Tab)
		if !browsertest.Eval[bool](p, `() => document.activeElement.matches("a.skip") && document.activeElement.getBoundingClientRect().left >= 0`) {
			t.Errorf("%s: the first Tab leads to %s", path, p.Focused())
		}
		p.Press(browsertest.Enter)
		if !browsertest.Eval[bool](p, `() => document.activeElement.matches("main")`) {
			t.Errorf("%s: the link to the content leads to %s", path, p.Focused())
		}
	}
	for _, w := range p.Keyboard(within) {
		t.Errorf("%s by keyboard: %s", path, w)
	}
	confirmByKeyboard(t, p, path)
	browsertest.Eval[bool](p, `() => { document.activeElement.blur(); scrollTo(0, 0); return true }`) // for pictures
}

// confirmByKeyboard presses a button of the page that asks first, and then
// decides otherwise.
func confirmByKeyboard(t *testing.T, p *browsertest.Page, path string) {
	t.Helper()
	if !browsertest.Eval[bool](p, `() => {
		const b = [...document.querySelectorAll("button[data-confirm]:not(:disabled)")].find(b => b.checkVisibility({visibilityProperty: true}) && b.form.checkValidity())
		if (b) { b.dataset.asks = ""; b.focus() }
		return !!b
	}`) {
		return
	}
	where := p.URL()
	p.Press(browsertest.Enter)
	p.WaitFor("dialog[open]")
	const inside = `() => document.activeElement.closest("dialog[open]") !== null`
	had := map[string]bool{}
	for range 4 {
		if !browsertest.Eval[bool](p, inside) {
			t.Errorf("%s: the question does not hold the focus: %s has it", path, p.Focused())
		}
		if had[p.Focused()] = true; browsertest.Eval[bool](p, `() => document.activeElement.matches("[data-yes]")`) && len(had) == 1 {
			t.Errorf("%s: a second Enter says yes", path)
		}
		p.Press(browsertest.Tab)
	}
	if len(had) < 2 {
		t.Errorf("%s: the question has the buttons %v only", path, had)
	}
	p.Press(browsertest.Escape)
	p.WaitGone("dialog")
	if !browsertest.Eval[bool](p, `() => document.activeElement.matches("[data-asks]")`) || p.URL() != where {
		t.Errorf("%s: after the question %s has the focus at %s", path, p.Focused(), p.URL())
	}
}

// consoleByKeyboard does whole jobs by keys alone, and has pages kept fresh under
// the hands of who types.
func consoleByKeyboard(t *testing.T, info labInfo) {
	p := openConsole(t, info, administratorToken(t, info))
	gatewayByKeyboard(t, info, p)
	menuByKeyboard(t, info, p)
	freshByKeyboard(t, info, p)
	typedByKeyboard(t, info, p)
}

// gatewayByKeyboard creates a self-hosted gateway, from the list of gateways to
// its properties.
func gatewayByKeyboard(t *testing.T, info labInfo, p *browsertest.Page) {
	const name = "keys.lab.opencmg.example"
	p.Go(info.Console.URL + "gateways")
	p.TabTo(`main a[href="/console/gateways/new"]`)
	p.PressAway(browsertest.Enter)
	p.WaitFor(`html[data-ready="yes"]`)
	p.TabTo("#model")
	p.Press(browsertest.ArrowDown)
	if got := p.Value("#model"); got != "SelfHosted" {
		t.Fatalf("the arrow chose %q", got)
	}
	p.TabTo("[data-next]")
	p.Press(" ")
	p.WaitFor(`[data-step="Settings"]`)
	at := func(want string) {
		t.Helper()
		if !browsertest.Eval[bool](p, `s => document.activeElement.matches(s)`, want) {
			t.Errorf("%s has the focus, want %s", p.Focused(), want)
		}
	}
	at("#certificateFrom")
	p.TabTo("#serviceName")
	p.Press(name + browsertest.Enter)
	p.WaitFor(`[data-step="Alerts"]`)
	at("[name=trafficEnabled]")
	p.Press(" ")
	if browsertest.Eval[bool](p, `() => document.activeElement.checked`) {
		t.Error("the space bar does not untick")
	}
	p.Press(browsertest.Enter)
	p.WaitFor(`[data-step="Summary"]`)
	at(`[data-step="Summary"]`)
	p.WaitText("[data-summary]", name)
	p.TabTo("[data-send]")
	p.PressAway(browsertest.Enter)
	p.WaitText("h1", name)
	p.TabTo(`main a[href$="/properties"]`)
	p.PressAway(browsertest.Enter)
	p.WaitText("h1", "Properties of "+name)
	p.TabTo(`.tabs a[href$="alerts"]`)
	p.PressAway(browsertest.Enter)
	if browsertest.Eval[bool](p, `() => document.querySelector("[name=trafficEnabled]").checked`) {
		t.Error("the gateway has the alert that was unticked")
	}
}

// menuByKeyboard opens the navigation where it is folded.
func menuByKeyboard(t *testing.T, info labInfo, p *browsertest.Page) {
	p.SetSize(360, 800)
	defer p.SetSize(1280, 800)
	p.Go(info.Console.URL + "logs")
	p.WaitFor(`html[data-ready="yes"]`)
	if p.Has("nav a") {
		t.Error("the navigation is not folded")
	}
	p.TabTo("nav summary")
	p.Press(" ")
	p.WaitFor("nav a")
	p.TabTo(`nav a[href="/console/accounts"]`)
	p.PressAway(browsertest.Enter)
	p.WaitText("h1", "Administrators")
}

// freshByKeyboard has the list of administrators change while one types next to
// it, stands on a button in it, is asked by it, and when that button goes.
func freshByKeyboard(t *testing.T, info labInfo, p *browsertest.Page) {
	c := administer(t, info)
	add := func(name string) (id string) {
		t.Helper()
		var a adminservice.Account
		if err := c.Do(t.Context(), "POST", "Accounts", adminservice.Account{Name: name, Role: adminservice.ReadOnlyAnalyst, LocalToken: true}, &a); err != nil {
			t.Fatal(err)
		}
		return a.ID
	}
	p.Go(info.Console.URL + "accounts")
	p.WaitFor(`html[data-live="on"][data-fresh]`)
	p.TabTo("#name")
	p.Press("half a na")
	kept := add("keys-kept")
	p.WaitText("#accounts", "keys-kept")
	p.Press("me")
	if got := p.Value("#name"); got != "half a name" {
		t.Errorf("typed %q", got)
	}
	const button = `button[aria-label="Delete keys-kept"]`
	p.KeyboardFromTop()
	p.TabTo(button)
	add("keys-a")
	p.WaitText("#accounts", "keys-a")
	if !browsertest.Eval[bool](p, `s => document.activeElement.matches(s)`, button) {
		t.Errorf("the list is fresh, and %s has the focus", p.Focused())
	}
	p.Press(browsertest.Enter)
	p.WaitFor("dialog[open]")
	p.Press("keys-")
	add("keys-b")
	p.WaitText("#accounts", "keys-b")
	p.Press("kep")
	if got := p.Value("dialog input"); got != "keys-kep" {
		t.Errorf("typed %q to confirm", got)
	}
	p.Press(browsertest.Escape)
	p.WaitGone("dialog")
	if !browsertest.Eval[bool](p, `s => document.activeElement.matches(s)`, button) {
		t.Errorf("after the question %s has the focus", p.Focused())
	}
	if err := c.Do(t.Context(), "DELETE", "Accounts/"+kept, nil, nil); err != nil {
		t.Fatal(err)
	}
	p.WaitGone(button)
	if !browsertest.Eval[bool](p, `() => document.activeElement.matches("#accounts")`) {
		t.Errorf("the button that had the focus is gone, and %s has it", p.Focused())
	}
	p.Press(browsertest.Tab)
	if !browsertest.Eval[bool](p, `() => document.activeElement.closest("#accounts") !== null`) {
		t.Errorf("the next Tab leads to %s", p.Focused())
	}
}

// typedByKeyboard has a part change in which one types: the client's page, when
// somebody else sends the client a task.
func typedByKeyboard(t *testing.T, info labInfo, p *browsertest.Page) {
	p.Go(info.Console.URL + "clients")
	p.TabTo(`#client-list a[href*="/console/clients/GUID"]`)
	p.PressAway(browsertest.Enter)
	p.WaitFor(`html[data-live="on"][data-fresh]`)
	p.TabTo("details.block summary")
	p.Press(" ")
	p.TabTo("#reason")
	p.Press("it was")
	var op adminservice.ClientOperation
	if err := administer(t, info).Do(t.Context(), "POST", "Notifications", adminservice.NotifyClients{Task: "discovery", Where: &adminservice.ClientChoice{}}, &op); err != nil {
		t.Fatal(err)
	}
	p.WaitFor(fmt.Sprintf(`#client a[href="/console/client-operations/%v"]`, op.ID))
	p.Press(" lost")
	if got := p.Value("#reason"); got != "it was lost" || p.Focused() != `input#reason[name=reason] ""` {
		t.Errorf("typed %q, and %s has the focus", got, p.Focused())
	}
}
