package mp_test

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/mp"
	"github.com/opencmg/opencmg/pki"
)

// TestNewTokenSigningKey changes the token-signing key and the gateways while
// the management point runs.
func TestNewTokenSigningKey(t *testing.T) {
	g := start(t, func(c *mp.Config) { c.ApproveAll = true })
	d := g.inside(0)
	d.register()
	signedBy := func() string {
		t.Helper()
		head, _, _ := strings.Cut(d.clientToken().Token, ".")
		b, err := base64.RawURLEncoding.DecodeString(head)
		if err != nil {
			t.Fatal(err)
		}
		var h struct {
			X5t string `json:"x5t"`
		}
		if err := json.Unmarshal(b, &h); err != nil {
			t.Fatal(err)
		}
		return h.X5t
	}
	get := func(query string) string {
		t.Helper()
		code, body, _ := d.do("GET", ccm.PathLocation+"?"+query, "", nil)
		if code != 200 {
			t.Fatalf("%s: %d %s", query, code, body)
		}
		return body
	}
	before := signedBy()

	pair, err := pki.NewTokenSigningCertificate("next", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	next, err := pki.NewTokenSigner(pair.PrivateKey.(crypto.Signer), pair.Leaf, "", "", hierarchy)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.server.UseSigner(next); err != nil {
		t.Fatal(err)
	}
	if after := signedBy(); after == before {
		t.Error("the old key signs")
	}
	if body := get("SITESIGNCERT"); !strings.Contains(body, ccm.FormatCertificate(pair.Leaf)) {
		t.Errorf("SITESIGNCERT: %s", body)
	}
	g.server.UseGateways([]mp.Gateway{{ServiceName: "a.example.com"}, {ServiceName: "b.example.com:8443", RoleID: "7"}})
	body := get("MPLIST2")
	for _, want := range []string{"a.example.com/CCM_Proxy_MutualAuth/" + string(role), "b.example.com:8443/CCM_Proxy_MutualAuth/7"} {
		if !strings.Contains(body, want) {
			t.Errorf("MPLIST2 lacks %s: %s", want, body)
		}
	}
	g.server.UseGateways(nil)
	if body := get("MPLIST2"); strings.Contains(body, "CCM_Proxy") {
		t.Errorf("MPLIST2 without gateways: %s", body)
	}
}
