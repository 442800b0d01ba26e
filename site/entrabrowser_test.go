package site_test

import (
	"crypto/x509"
	"net/url"
	"strings"
	"testing"

	"github.com/opencmg/opencmg/internal/browsertest"
)

// browser opens a page that reaches the site and the stand-in for Entra.
func (r *rig) browser() *browsertest.Page {
	r.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(r.s.SiteCA())
	roots.AddCert(r.ca.Certificate())
	o := browsertest.Options{Roots: roots, Hosts: map[string]string{"127.0.0.1:443": must(url.Parse(r.c.URL))(r.t).Host}}
	for _, rule := range r.out.ConnectTo {
		if to, ok := strings.CutPrefix(rule, r.hosts.Login+":443:"); ok {
			o.Hosts[r.hosts.Login+":443"] = to
		}
	}
	return browsertest.Open(r.t, o)
}

// A person signs in to the console by Entra, and one who is no administrator
// learns what to ask for.
func TestEntraSignInInBrowser(t *testing.T) {
	r := newRig(t, people)
	r.connect()
	r.addAnn()
	p := r.browser()
	p.Go("https://127.0.0.1/console/sign-in")
	for _, width := range []int{360, 1920} {
		p.SetSize(width, 800)
		p.Click("summary")
		p.WaitText("details code", callback)
		if o := p.Overflow(); len(o) > 0 {
			t.Errorf("%d: %q", width, o)
		}
		p.Click("summary")
	}
	as := func(login, password string) {
		t.Helper()
		p.Go("https://127.0.0.1/console/")
		p.Follow(`a[href*="sign-in/entra"]`)
		p.WaitText("h1", "Sign in")
		p.Choose("#login", login)
		p.Fill("#passwd", password)
		p.Follow("#sign-in")
	}
	as("ann@lab.example", "wrong")
	p.Allow("status of 401")
	p.WaitText(`[role="alert"]`, "AADSTS50126")
	if f := p.Axe(); len(f) > 0 {
		t.Errorf("the stand-in's page: %v", f)
	}
	as("bob@lab.example", annPassword)
	p.WaitText(`[role="alert"]`, "--entra-user "+bobID)
	as("ann@lab.example", annPassword)
	p.WaitText(".who .account", "ann")
	if got := p.Text(".who .role"); got != "Read-only Analyst" {
		t.Errorf("role %q", got)
	}
	// The cookies are out of reach of scripts, and that of the sign-in is gone.
	if got := browsertest.Eval[string](p, `() => document.cookie`); got != "" {
		t.Errorf("cookies %q", got)
	}
	if u := must(url.Parse(p.URL()))(t); u.Path != "/console/" || u.RawQuery != "" {
		t.Errorf("at %s", u)
	}
}
