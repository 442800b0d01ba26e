package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestConsoleSetUp goes through the whole set-up in the browser, from a site with
// nothing to a gateway by which a client works: the five parts, in the order in
// which the start page leads through them.
func TestConsoleSetUp(t *testing.T) {
	_, info := startLab(t, "--bare")
	s := info.SetUp
	p := openConsole(t, info, administratorToken(t, info))
	secret := func(file string) string { return strings.TrimSpace(readTestFile(t, file)) }
	next := func() { p.Click("[data-next]") }
	lookAt := func(name string) {
		if *screenshots == "" {
			return
		}
		for _, width := range []int{360, 1280} {
			for _, dark := range []bool{false, true} {
				p.Screenshot(filepath.Join(*screenshots, fmt.Sprintf("%s-%d-%s.png", name, width, map[bool]string{false: "light", true: "dark"}[dark])), width, 0, dark)
			}
		}
		p.SetDark(false)
		p.SetSize(1280, 800)
	}
	p.WaitText("#checklist", "open")

	// Part 2: both applications and the Azure service, in one wizard.
	p.Follow(`a[href="/console/azure-services/new"]`)
	p.Fill("#tenantId", s.TenantID)
	p.Fill("#tenantName", s.TenantName)
	next()
	next() // the server application is created
	p.Choose("#new-signInBy", "secret")
	p.Fill("#new-signInClientId", s.SignInClientID)
	p.Fill("#new-signInSecret", secret(s.SignInSecretFile))
	next()
	next() // discovery as it is
	p.WaitText("[data-summary]", "CMG server")
	p.Follow("[data-send]")
	p.WaitText("#operation", "completed")
	p.Go(info.Console.URL + "azure-services")
	p.WaitText("main", "Cloud management")

	// Parts 1, 3 and 4: certificate, CAs of clients, gateway. Everything is checked
	// while it is typed.
	p.Go(info.Console.URL + "gateways/new")
	// The subscription comes from the list that the application's rights give, and
	// with it the regions.
	offered := func(list, value string) {
		t.Helper()
		p.Until(value+" is in "+list, `(list, value) => Array.from(document.querySelectorAll(list + ' option')).some((o) => o.value === value)`, list, value)
	}
	offered("#subscription-options", s.SubscriptionID)
	p.Fill("#subscriptionId", s.SubscriptionID)
	p.WaitText("#subscription-note", "Lab")
	lookAt("gateway-wizard-subscription")
	next()
	p.Upload("#pfx", s.ServiceCert)
	p.Fill("#password", "wrong")
	p.WaitText(`[data-found="pfx"]`, "password")
	p.Fill("#password", secret(s.PasswordFile))
	p.WaitText(`[data-found="pfx"]`, s.ServiceName)
	offered("#region-options", "West Europe")
	p.Fill("#region", s.Region)
	lookAt("gateway-wizard-region")
	p.Choose("#size", "Lab")
	p.Upload("#caFiles", s.RootCA, s.IntermediateCA)
	next()
	p.Fill("#trafficGb", "500")
	next()
	p.WaitText("[data-summary]", s.ServiceName)
	p.WaitText("[data-summary]", "good")
	if *screenshots != "" {
		p.Screenshot(filepath.Join(*screenshots, "gateway-wizard-summary.png"), 1280, 0, false)
		p.SetSize(1280, 800)
	}
	p.Follow("[data-send]")
	p.WaitText("#gateway-progress", "Step by step")
	if *screenshots != "" {
		p.Screenshot(filepath.Join(*screenshots, "gateway-progress.png"), 1280, 0, false)
		p.SetSize(1280, 800)
	}
	p.WaitText("#gateway-state", "Ready")
	p.WaitText("#gateway-cards", "Instance 1")

	// The connection point joins with a token that the page shows once, and the
	// page sees it come.
	p.Go(info.Console.URL + "connection-points/new")
	p.Follow(`form[action="/console/connection-points/new"] button.primary`)
	p.WaitText("#join-wait", "Nobody has joined")
	token := p.Value("#secret")
	dir := filepath.Join(t.TempDir(), "cp01")
	file := filepath.Join(t.TempDir(), "join.token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	join := []string{"connection-point", "join", "--site-token-file", file, "--name", "cp01", "--dir", dir}
	for _, rule := range s.ConnectTo {
		join = append(join, "--connect-to", rule)
	}
	succeed(t, join...)
	p.WaitText("#join-wait", "cp01")
	startProgram(t, "connection-point", "serve", "--config", filepath.Join(dir, "connection-point.yaml"))
	p.WaitText("#join-wait", "connected")
	p.Go(info.Console.URL + "connection-points")
	p.WaitFor(`[data-tunnel="gateway/0 cp01"][data-state="connected"]`)
	p.WaitFor(`[data-tunnel="gateway/1 cp01"][data-state="connected"]`)

	// The management point takes gateway traffic.
	p.Go(info.Console.URL + "roles")
	p.Follow(`form[action$="/allow"] button`)
	p.WaitText("#role-list", "allowed")

	// Everything between a client and the role is well. The management point may
	// need a moment to be told whom to trust.
	for attempt := 0; ; attempt++ {
		p.Go(info.Console.URL + "analyzer")
		p.Follow(`form[action^="/console/analyzer"] button.primary`)
		p.WaitFor(`#analysis [data-row="summary"]`)
		if p.Has(`#analysis [data-row="summary"] .state.good`) {
			break
		}
		if attempt == 20 {
			t.Fatalf("the connection analyzer says\n%s", p.Text("#analysis"))
		}
	}

	// Part 5: a client that was never inside.
	p.Go(info.Console.URL + "certificates/bulk-tokens")
	p.Fill("#description", "first devices")
	p.Follow(`form[action="/console/certificates/bulk-tokens"] button.primary`)
	if err := os.WriteFile(filepath.Join(dir, "regtoken.txt"), []byte(p.Value("#secret")), 0o600); err != nil {
		t.Fatal(err)
	}
	shell(t, info, `set -eu
opencmg client-properties "$SERVICE_NAME" > properties.txt
opencmg client install --regtoken-file '`+filepath.Join(dir, "regtoken.txt")+`' --state-dir client $CLIENT_FLAGS $(cat properties.txt)
opencmg client status --state-dir client
`)
	p.Go(info.Console.URL + "clients")
	p.WaitText("main", "GUID:")
	p.Go(info.Console.URL)
	p.WaitText("#checklist", "everything is set up")
}
