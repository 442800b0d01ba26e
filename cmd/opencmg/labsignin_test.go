package main

import (
	"crypto/x509"
	"strings"
	"testing"

	"github.com/opencmg/opencmg/internal/browsertest"
)

// signInPeople signs the lab's people in to the console, with what lab.json says.
func signInPeople(t *testing.T, info labInfo) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(readTestFile(t, info.CAFile))) {
		t.Fatal("the lab's CA file holds no certificate")
	}
	host, address, ok := strings.Cut(info.Entra.ConnectTo, ":443:")
	if !ok {
		t.Fatalf("connectTo %q", info.Entra.ConnectTo)
	}
	o := browsertest.Options{Roots: roots, Hosts: map[string]string{strings.TrimPrefix(info.AdminService.URL, "https://"): "", host + ":443": address}}
	known := 0
	for _, u := range info.Entra.Users {
		p := browsertest.Open(t, o)
		p.Go(info.AdminService.URL + "/console/")
		p.Follow(`a[href*="sign-in/entra"]`)
		p.Choose("#login", u.UPN)
		p.Fill("#passwd", u.Password)
		p.Follow("#sign-in")
		if u.Role == "" {
			p.Allow("status of 401")
			p.WaitText(`[role="alert"]`, u.ID)
			continue
		}
		known++
		p.WaitText(".who .account", u.Name)
		p.WaitText(".who .role", string(u.Role))
	}
	if known != 2 || len(info.Entra.Users) != 3 {
		t.Errorf("users %+v", info.Entra.Users)
	}
}
