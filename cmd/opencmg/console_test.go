package main

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/browsertest"
	"github.com/opencmg/opencmg/pki"
)

// TestConsoleOfALab uses the console of one lab in which clients worked and were
// refused.
func TestConsoleOfALab(t *testing.T) {
	_, info := startLab(t)
	t.Run("pages", func(t *testing.T) { consolePages(t, info) })
	t.Run("roles", func(t *testing.T) { consoleRoles(t, info) })
	t.Run("fresh", func(t *testing.T) { consoleIsFresh(t, info) })
	t.Run("keyboard", func(t *testing.T) { consoleByKeyboard(t, info) })
}

// consolePages looks at every page.
func consolePages(t *testing.T, info labInfo) {
	p := openConsole(t, info, "")
	for _, f := range p.Axe() {
		t.Errorf("sign-in: %s", f)
	}
	if *screenshots != "" {
		p.Screenshot(filepath.Join(*screenshots, "sign-in.png"), 1280, 0, false)
	}
	p = openConsole(t, info, administratorToken(t, info))
	// Pages with something on them: an analysis, and the way of a request.
	p.Go(info.Console.URL + "analyzer")
	p.Follow(`form[action="/console/analyzer"] button.primary`)
	p.WaitFor(`#analysis [data-row="summary"]`)
	p.Follow(`#analysis li:nth-last-child(2) a[href*="/console/explain?id="]`)
	p.WaitText("main", "Everybody who was asked")
	if *screenshots != "" {
		p.Screenshot(filepath.Join(*screenshots, "explain-path.png"), 1280, 0, false)
		p.SetSize(1280, 800)
	}
	var op adminservice.ClientOperation
	if err := administer(t, info).Do(t.Context(), "POST", "Notifications", adminservice.NotifyClients{Task: "discovery", Where: &adminservice.ClientChoice{}}, &op); err != nil {
		t.Fatal(err)
	}
	kinds := lookAtPages(t, info, p, *screenshots)
	t.Logf("%d kinds of pages: %s", len(kinds), strings.Join(kinds, " "))
	if len(kinds) < 42 {
		t.Errorf("links lead to %d kinds of pages only", len(kinds))
	}
}

// consoleRoles has a Read-only Analyst look at every page: nothing there can be
// changed, and what a hand-made form asks for is refused.
func consoleRoles(t *testing.T, info labInfo) {
	c := administer(t, info)
	var account adminservice.Account
	if err := c.Do(t.Context(), "POST", "Accounts", adminservice.Account{Name: "analyst", Role: adminservice.ReadOnlyAnalyst, LocalToken: true}, &account); err != nil {
		t.Fatal(err)
	}
	admin := openConsole(t, info, administratorToken(t, info))
	analyst := openConsole(t, info, account.Token)
	analyst.WaitText(".who .role", string(adminservice.ReadOnlyAnalyst))
	actions := map[string]bool{}
	for _, path := range visitPages(t, info, admin) {
		admin.Go(info.Console.URL + path)
		for _, a := range browsertest.Eval[[]string](admin, `() => [...document.querySelectorAll("form[method=post]")].map(f => f.getAttribute("action"))`) {
			actions[a] = true
		}
		if strings.HasPrefix(path, "logs") { // an Operations Administrator's
			analyst.Allow("status of 403")
		}
		analyst.Go(info.Console.URL + path)
		for _, a := range browsertest.Eval[[]string](analyst, `() => [...document.querySelectorAll("form[method=post]:not([data-wizard]) button, form[data-wizard] [data-send]")].map(b => b.form.getAttribute("action") + " " + b.textContent.trim())`) {
			if !strings.HasPrefix(a, "/console/sign-out") {
				t.Errorf("an analyst can press a button on %s: %s", path, a)
			}
		}
	}
	if len(actions) < 30 {
		t.Errorf("an administrator has %d forms only: %v", len(actions), actions)
	}
	analyst.Allow("status of 4")
	before := exported(t, c)
	for a := range actions {
		if a == "/console/sign-out" {
			continue
		}
		status := browsertest.Eval[int](analyst, `async (action) => {
			const f = new FormData()
			f.set("proof", document.querySelector("[name=proof]").value)
			for (const name of ["name", "typed", "tenantId", "serverName", "gateway", "id", "sure"]) f.set(name, "x")
			return (await fetch(action, {method: "POST", body: f, redirect: "manual"})).status
		}`, a)
		if status != http.StatusForbidden && status != http.StatusBadRequest && status != http.StatusNotFound {
			t.Errorf("an analyst posts to %s: %d", a, status)
		}
	}
	if after := exported(t, c); after != before {
		t.Errorf("an analyst changed the site from\n%s\nto\n%s", before, after)
	}
}

// exported is what the site is declared to be.
func exported(t *testing.T, c *adminservice.Client) string {
	t.Helper()
	var all strings.Builder
	for _, collection := range []string{"Accounts", "Tenants", "Applications", "AzureServices", "TrustedCertificates", "TokenIssuers", "BlockedCertificates", "BulkRegistrationTokens", "JoinTokens", "SiteRoles", "BoundaryGroups", "ClientSettings", "Features"} {
		b, _, err := c.Text(t.Context(), collection+"?"+url.Values{"$orderby": {"id"}}.Encode())
		if err != nil {
			t.Fatalf("%s: %v", collection, err)
		}
		all.Write(b)
	}
	return all.String()
}

// consoleIsFresh has a request refused and an instance killed while pages show them. Nobody reloads; how long it took is printed.
func consoleIsFresh(t *testing.T, info labInfo) {
	p := openConsole(t, info, administratorToken(t, info))
	ca, err := pki.LoadCertificates(info.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	outside := trusting(ca[0], nil, strings.TrimPrefix(info.GatewayURLs[0], "https://"))
	defer outside.CloseIdleConnections()
	stay := func(page string) {
		p.Go(info.Console.URL + page)
		p.WaitFor(`html[data-live="on"][data-fresh]`)
		browsertest.Eval[bool](p, `() => window.stayed = true`)
	}
	took := func(what string, at time.Time) {
		t.Helper()
		t.Logf("%s is on the page after %s", what, time.Since(at).Round(time.Millisecond))
		if !browsertest.Eval[bool](p, `() => window.stayed === true`) {
			t.Errorf("%s: the page was loaded again", what)
		}
	}
	// down kills a process, and those that take its place, until up is called.
	down := func(name string) (at time.Time, up func()) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		first, ended := make(chan time.Time, 1), make(chan struct{})
		go func() {
			defer close(ended)
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for killed := 0; ; {
				if now, err := findLab(filepath.Dir(info.LogDir)); err == nil { // it may be written at the moment
					i := slices.IndexFunc(now.Processes, func(p labProcInfo) bool { return p.Name == name })
					if i >= 0 && now.Processes[i].PID != killed {
						killed = now.Processes[i].PID
						if victim, err := os.FindProcess(killed); err == nil && victim.Kill() == nil && len(first) == 0 {
							first <- time.Now()
						}
					}
				}
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
			}
		}()
		up = func() {
			cancel()
			<-ended
		}
		t.Cleanup(up)
		return <-first, up
	}

	stay("dashboard?minutes=15")
	const refusals = `() => [...document.querySelectorAll("#reasons tr")].filter(r => r.innerText.includes("not-published")).map(r => Number(r.querySelector(".number").innerText))[0] || 0`
	for range 3 {
		before := browsertest.Eval[int](p, refusals)
		res, err := outside.Get("https://" + info.ServiceName + "/nothing-is-here")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		at := time.Now()
		p.Until("one more refusal", `(before) => (`+refusals+`)() > before`, before)
		took("a refused request", at)
	}

	stay("connection-points")
	p.WaitFor(`[data-node="gateway/0"][data-state="connected"]`)
	at, up := down("gateway-0")
	p.WaitFor(`[data-node="gateway/0"]:not([data-state="connected"])`)
	took("a killed instance", at)
	p.WaitFor(`[data-tunnel="gateway/0 cp1"]:not([data-state="connected"])`)
	p.WaitFor(`[data-tunnel="gateway/0 cp2"]:not([data-state="connected"])`)
	took("each lost tunnel", at)
	up()
	at = time.Now()
	p.WaitFor(`[data-tunnel="gateway/0 cp1"][data-state="connected"]`)
	p.WaitFor(`[data-tunnel="gateway/0 cp2"][data-state="connected"]`)
	took("another process in its place", at)
}
