package site_test

import (
	"testing"

	"github.com/opencmg/opencmg/internal/browsertest"
)

// A refusal opens the wizard at the step of its field, with the focus in it, and
// the summary leads there from anywhere.
func TestRefusalInBrowser(t *testing.T) {
	r := newRig(t)
	p := r.browser()
	p.Go("https://127.0.0.1/console/sign-in?next=/console/roles/new%3Fkind=service")
	p.Fill("#token", string(r.c.Token))
	p.Follow("form[action$='/token'] button")
	p.Fill("#name", "Wiki")
	p.Fill("#internal", "https://wiki.corp.example")
	p.Fill("#prefix", "/wiki/")
	p.Click("[data-next]")
	p.Click("[data-next]")
	p.Fill("#ca", "no certificate")
	p.Allow("400")
	p.Follow("[data-send]")
	focused := func(when string) {
		t.Helper()
		if !browsertest.Eval[bool](p, `() => document.activeElement.id === 'ca' && document.activeElement.checkVisibility()`) {
			t.Errorf("%s the focus is not in the field that was refused", when)
		}
	}
	p.WaitFor("#refusal")
	focused("after the refusal")
	if p.Value("#ca") != "no certificate" || p.Text(".wizard-steps [aria-current]") != "Connection" {
		t.Errorf("it shows %q at step %q", p.Value("#ca"), p.Text(".wizard-steps [aria-current]"))
	}
	for _, width := range []int{360, 1920} {
		p.SetSize(width, 900)
		if o := p.Overflow(); len(o) > 0 {
			t.Errorf("%d: %q", width, o)
		}
	}
	for _, dark := range []bool{false, true} {
		p.SetDark(dark)
		if f := p.Axe(); len(f) > 0 {
			t.Errorf("dark %v: axe: %v", dark, f)
		}
	}
	browsertest.Eval[bool](p, `() => { for (const b of document.querySelectorAll('.wizard-steps ~ .actions button')) if (b.textContent === 'Back') { b.click(); b.click(); } return true; }`)
	if browsertest.Eval[bool](p, `() => document.querySelector('#ca').checkVisibility()`) {
		t.Error("going back does not leave the step")
	}
	p.Click("a[data-refused]")
	focused("after a click on the summary")
	p.Fill("#ca", "another")
	if p.Has("#ca[aria-invalid]") {
		t.Error("what was typed anew is still called wrong")
	}
}
