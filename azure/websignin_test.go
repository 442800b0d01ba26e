package azure_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/azure"
)

// The whole flow is tested in package site, with the stand-in; here is what the
// identity service may not do to us.
func TestRedeemCode(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	w := azure.WebSignIn{RedirectURI: "https://site.example/back", State: "s", Nonce: "n", Verifier: "planted-verifier"}
	var sent url.Values
	var next reply
	c.signIn = func(form url.Values) reply {
		sent = form
		return next
	}
	next = ok(m{"id_token": "the token"})
	token, err := c.client().RedeemCode(t.Context(), w, "the code")
	if err != nil || token != "the token" {
		t.Fatalf("%q %v", token, err)
	}
	if sent.Get("grant_type") != "authorization_code" || sent.Get("code") != "the code" || sent.Get("code_verifier") != w.Verifier || sent.Get("redirect_uri") != w.RedirectURI || sent.Get("client_secret") != clientSecret {
		t.Errorf("%v", sent)
	}
	sent = nil
	for name, tt := range map[string]struct {
		reply reply
		code  string
	}{
		"redirect":    {reply{status: 307, header: map[string]string{"Location": c.env.Graph + "/steal"}}, azure.CodeSignIn},
		"no ID token": {ok(m{"access_token": "x"}), azure.CodeSignIn},
		"not JSON":    {reply{status: 200, body: "<html>"}, azure.CodeSignIn},
		"huge":        {ok(m{"id_token": strings.Repeat("x", 300<<10)}), azure.CodeSignIn},
		"broken":      {reply{status: 500, body: "oops"}, azure.CodeSignIn},
		"refused": {reply{status: 400, body: m{"error": "invalid_grant", "error_description": "AADSTS54005: the code planted-code, " + clientSecret + " and planted-verifier were used. Trace ID: x"}},
			"AADSTS54005"},
	} {
		next = tt.reply
		_, err := c.client().RedeemCode(t.Context(), w, "planted-code")
		if ce := cloudErr(t, err); ce.Code != tt.code || ce.NextStep == "" {
			t.Errorf("%s: %+v", name, ce)
		}
		for _, secret := range []string{"planted-code", "planted-verifier", clientSecret} {
			if strings.Contains(err.Error(), secret) || strings.Contains(c.logs.String(), secret) {
				t.Errorf("%s: shows %s: %v", name, secret, err)
			}
		}
	}
	if len(c.sent("POST", "/steal")) > 0 {
		t.Error("the secret went elsewhere")
	}
	in := c.client().SignInURL(w)
	if strings.Contains(in, w.Verifier) || strings.Contains(in, clientSecret) || !strings.HasPrefix(in, c.env.Authority+tenantID+"/oauth2/v2.0/authorize?") {
		t.Error(in)
	}
}
