package main

import (
	"crypto/x509"
	"strings"
	"testing"

	"github.com/opencmg/opencmg/internal/browsertest"
)

// openConsole opens a page of the browser at the console of a lab, as the
// account of a token; with no token, where one signs in.
func openConsole(t *testing.T, info labInfo, token string) *browsertest.Page {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(readTestFile(t, info.AdminService.CAFile))) {
		t.Fatal("the site's CA file holds no certificate")
	}
	p := browsertest.Open(t, browsertest.Options{Roots: roots, Hosts: map[string]string{strings.TrimPrefix(info.AdminService.URL, "https://"): ""}})
	p.Go(info.Console.URL)
	if token != "" {
		p.Fill("#token", token)
		p.Follow(`form[action$="/token"] button`)
		p.WaitFor("nav")
	}
	return p
}

// administratorToken is the local token of a lab's first administrator.
func administratorToken(t *testing.T, info labInfo) string {
	t.Helper()
	return strings.TrimSpace(readTestFile(t, info.AdminService.TokenFile))
}
