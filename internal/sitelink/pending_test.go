package sitelink_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/sitelink"
	"github.com/opencmg/opencmg/pki"
)

func TestPending(t *testing.T) {
	ca, err := pki.NewAuthority("Site CA", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "id")
	p, err := sitelink.NewPending(dir, ca.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	key := func(p *sitelink.Pending) any {
		t.Helper()
		block, _ := pem.Decode([]byte(p.Request))
		csr, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil || csr.CheckSignature() != nil {
			t.Fatal(err)
		}
		return csr.PublicKey
	}
	// After a restart it is the same key.
	again, err := sitelink.NewPending(dir, ca.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	if k, ok := key(p).(interface{ Equal(x any) bool }); ok && !k.Equal(key(again)) {
		t.Error("another key after a restart")
	}
	uri := opencmg.GatewayInstanceURI(site, "gw", 2)
	issue := func(a *pki.Authority, uri string, pub any) string {
		t.Helper()
		c, err := a.Issue(pki.Template{CommonName: "x", URIs: []string{uri}, Client: true, Server: true}, pub, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return string(pki.EncodeCertificates(c))
	}
	other, err := pki.NewAuthority("Other CA", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := pki.NewSelfSigned("x", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for want, cert := range map[string]string{
		"another key":        issue(ca, uri, stranger.Leaf.PublicKey),
		"not acceptable":     issue(other, uri, key(p)),
		"not for":            issue(ca, opencmg.GatewayInstanceURI(site, "gw", 3), key(p)),
		"no PEM certificate": "x",
	} {
		if err := again.Accept(cert, uri); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
	if joined, err := sitelink.Joined(dir); joined || err != nil {
		t.Errorf("joined: %v %v", joined, err)
	}
	if err := again.Accept(issue(ca, uri, key(p)), uri); err != nil {
		t.Fatal(err)
	}
	if joined, err := sitelink.Joined(dir); !joined || err != nil {
		t.Errorf("joined: %v %v", joined, err)
	}
	if _, err := sitelink.LoadIdentity(dir); err != nil {
		t.Error(err)
	}
	checkModes(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "joining.key"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sitelink.NewPending(dir, ca.Certificate()); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("damaged: %v", err)
	}
}
