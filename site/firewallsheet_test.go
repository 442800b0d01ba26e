package site_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/site"
)

// golden compares a text with a file; -update writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.ReplaceAll(string(want), "\r\n", "\n"), got); diff != "" {
		t.Errorf("%s; write it with go test ./site -run Firewall -update\n%s", file, diff)
	}
}

func (r *rig) firewallSheet() string {
	r.t.Helper()
	var b strings.Builder
	for _, f := range do[adminservice.Page[adminservice.FirewallRule]](r, "GET", "FirewallSheet", nil).Value {
		if f.Port < 1 || f.Port > 65535 || f.Host == "" || f.Protocol == "" || f.Purpose == "" {
			r.t.Errorf("not complete: %+v", f)
		}
		fmt.Fprintf(&b, "%-8s %s -> %s: %s:%d %s, %s. %s\n", f.Direction, f.From, f.To, f.Host, f.Port, f.Protocol, f.Purpose, f.Note)
	}
	return b.String()
}

// TestFirewallSheet compares the sheet of a site before and after there is a
// gateway, and of one that it hosts itself.
func TestFirewallSheet(t *testing.T) {
	r := newRig(t, func(r *rig) {
		r.config = func(c *site.Config) { c.URL = "https://site.corp.example:8443" }
	})
	golden(t, "firewall-fresh.txt", r.firewallSheet())
	r.connect()
	do[adminservice.TrustedCertificate](r, "POST", "TrustedCertificates", adminservice.TrustedCertificate{
		Store: adminservice.RootCA, Certificate: string(r.ca.CertificatePEM()), RevocationList: "http://crl.corp.example/root.crl",
	})
	do[adminservice.SiteRole](r, "POST", "SiteRoles", adminservice.SiteRole{Kind: opencmg.KindSoftwareUpdatePoint, Name: "sup1", Internal: []string{"https://sup1.corp.example:8531"}, AllowGatewayTraffic: true})
	r.system(adminservice.SystemManagementPoint, "mp1", "")
	for _, o := range do[adminservice.Page[adminservice.SiteRole]](r, "GET", "SiteRoles", nil).Value {
		do[adminservice.SiteRole](r, "PATCH", "SiteRoles/"+o.ID, map[string]any{"allowGatewayTraffic": true})
	}
	r.finish(do[adminservice.Operation](r, "POST", "Gateways", r.newGateway()))
	golden(t, "firewall-scale-set.txt", r.firewallSheet())
	r.finish(do[adminservice.Operation](r, "DELETE", "Gateways/granitefalls", nil))

	h := r.newGateway()
	made := do[adminservice.Gateway](r, "POST", "Gateways", adminservice.NewGateway{Model: adminservice.ModelSelfHosted, Certificate: h.Certificate})
	golden(t, "firewall-self-hosted.txt", r.firewallSheet())
	// Where hosts really listen counts.
	defer r.edit("gateway", made.ID, func(m map[string]any) {
		m["machines"] = []map[string]any{{"id": "a", "number": 0, "address": "203.0.113.5", "tunnelPort": 9001, "httpsPort": 9002}}
	})()
	for _, want := range []string{"203.0.113.5:9001 TCP-TLS", "203.0.113.5:9002 HTTPS", "one of the two is enough"} {
		if got := r.firewallSheet(); !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}
