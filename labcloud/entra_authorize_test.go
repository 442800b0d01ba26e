package labcloud_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencmg/opencmg/labcloud"
	"github.com/zitadel/oidc/v3/pkg/client/rp"
	"github.com/zitadel/oidc/v3/pkg/oidc"
)

const (
	webRedirect   = "https://site.contoso.example/console/sign-in/entra/callback"
	alicePassword = "planted password of alice"
	verifier      = "a-verifier-that-is-long-enough-for-rfc-7636-4.1"
)

// A webApp is an app registration with redirect URIs, and a person's browser.
type webApp struct {
	*cloud
	id, secret string
	later      atomic.Int64
}

// newWebApp registers an application through Graph, as an administrator does.
func newWebApp(t *testing.T) *webApp {
	t.Helper()
	w := &webApp{}
	w.cloud = newCloud(t, func(cfg *labcloud.Config) {
		cfg.Users = []labcloud.User{
			{Tenant: tenant, ID: alice, UPN: "alice@contoso.example", DisplayName: "Alice", Password: alicePassword},
			{Tenant: tenant, ID: "eeeeeeee-0000-0000-0000-000000000007", UPN: "bob@contoso.example", DisplayName: "Bob"},
			{Tenant: tenant, ID: "eeeeeeee-0000-0000-0000-000000000008", UPN: "carol@contoso.example", DisplayName: "Carol", Password: alicePassword, Disabled: true},
		}
		cfg.Now = func() time.Time { return time.Now().Add(time.Duration(w.later.Load())) }
	})
	made := w.graph("POST", "/applications", j{"displayName": "Console", "signInAudience": "AzureADMyOrg",
		"web":          j{"redirectUris": l{webRedirect, "http://localhost"}},
		"publicClient": j{"redirectUris": l{"http://localhost/public"}}}).want(t, 201, "")
	w.id = made.body["appId"].(string)
	// The secret stands in the answer of addPassword only.
	secret := w.graph("POST", "/applications/"+made.body["id"].(string)+"/addPassword", j{"passwordCredential": j{"displayName": "x", "endDateTime": time.Now().AddDate(1, 0, 0).UTC().Format(time.RFC3339)}}).want(t, 200, "")
	w.graph("POST", "/servicePrincipals", j{"appId": w.id}).want(t, 201, "")
	w.secret = secret.body["secretText"].(string)
	return w
}

func s256(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// request is a good authorization request, changed.
func (w *webApp) request(change url.Values) url.Values {
	v := url.Values{"client_id": {w.id}, "response_type": {"code"}, "redirect_uri": {webRedirect}, "scope": {"openid profile"}, "state": {"the state & more"}, "nonce": {"the nonce"}, "code_challenge": {s256(verifier)}, "code_challenge_method": {"S256"}}
	for k, x := range change {
		v[k] = x
	}
	return v
}

func (w *webApp) page(method string, form url.Values) (status int, body string, back url.Values) {
	w.t.Helper()
	u := "https://" + w.hosts.Login + "/" + tenant + "/oauth2/v2.0/authorize"
	var resp *http.Response
	var err error
	if method == "GET" {
		resp, err = w.http.Get(u + "?" + form.Encode())
	} else {
		resp, err = w.http.PostForm(u, form)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if to := resp.Header.Get("Location"); to != "" {
		u, err := url.Parse(to)
		if err != nil || !strings.HasPrefix(to, webRedirect) && !strings.HasPrefix(to, "http://localhost") {
			w.t.Fatalf("sent to %q", to)
		}
		back = u.Query()
	}
	return resp.StatusCode, string(b), back
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)">`)

// consent is what a person does: it opens the page, and fills in its form.
func (w *webApp) consent(form url.Values, login, password string) (status int, body string, back url.Values) {
	w.t.Helper()
	status, body, back = w.page("GET", form)
	if status != 200 {
		return status, body, back
	}
	if strings.Contains(body, "bob@") || !strings.Contains(body, "alice@contoso.example") {
		w.t.Errorf("the page offers other users than those with a password: %s", body)
	}
	answer := url.Values{"login": {login}, "passwd": {password}}
	for _, m := range hiddenField.FindAllStringSubmatch(body, -1) {
		answer.Set(m[1], strings.NewReplacer("&amp;", "&", "&#43;", "+").Replace(m[2]))
	}
	return w.page("POST", answer)
}

// code is an authorization code for alice.
func (w *webApp) code(change url.Values) string {
	w.t.Helper()
	status, body, back := w.consent(w.request(change), "alice@contoso.example", alicePassword)
	if status != http.StatusSeeOther || back.Get("code") == "" || back.Get("state") != "the state & more" {
		w.t.Fatalf("%d %v %s", status, back, body)
	}
	return back.Get("code")
}

func (w *webApp) redeem(code string, change url.Values) answer {
	v := url.Values{"grant_type": {"authorization_code"}, "client_id": {w.id}, "client_secret": {w.secret}, "code": {code}, "redirect_uri": {webRedirect}, "code_verifier": {verifier}}
	for k, x := range change {
		if v[k] = x; x == nil {
			delete(v, k)
		}
	}
	return w.form("/"+tenant+"/oauth2/v2.0/token", v)
}

func TestSignInByAnotherClient(t *testing.T) {
	w := newWebApp(t)
	party, err := rp.NewRelyingPartyOIDC(t.Context(), w.Authority(tenant), w.id, w.secret, webRedirect, []string{"openid", "profile"},
		rp.WithHTTPClient(w.http), rp.WithVerifierOpts(rp.WithNonce(func(context.Context) string { return "the nonce" })))
	if err != nil {
		t.Fatal(err)
	}
	at, err := url.Parse(rp.AuthURL("the state & more", party, rp.WithCodeChallenge(s256(verifier)), rp.AuthURLOpt(rp.WithURLParam("nonce", "the nonce"))))
	if err != nil || !strings.HasSuffix(at.Path, "/oauth2/v2.0/authorize") {
		t.Fatalf("%v %v", at, err)
	}
	status, body, back := w.consent(at.Query(), "alice@contoso.example", alicePassword)
	if status != http.StatusSeeOther {
		t.Fatalf("%d %s", status, body)
	}
	tokens, err := rp.CodeExchange[*oidc.IDTokenClaims](t.Context(), back.Get("code"), party, rp.WithCodeVerifier(verifier))
	if err != nil {
		t.Fatal(err)
	}
	c := tokens.IDTokenClaims
	if c.PreferredUsername != "alice@contoso.example" || c.Name != "Alice" || c.Claims["oid"] != alice || c.Claims["tid"] != tenant || c.Claims["ver"] != "2.0" || c.Nonce != "the nonce" {
		t.Errorf("%+v", c)
	}
	for _, absent := range []string{"scp", "azp", "upn", "idtyp"} {
		if c.Claims[absent] != nil {
			t.Errorf("an ID token has no claim %s: %v", absent, c.Claims[absent])
		}
	}
	if tokens.RefreshToken != "" {
		t.Error("a refresh token without offline_access")
	}
	// Its access token is for user information and opens nothing else.
	if scp := claims(t, tokens.AccessToken)["scp"]; scp != "openid profile" {
		t.Errorf("scp %v", scp)
	}
}

func TestCodeRefusals(t *testing.T) {
	w := newWebApp(t)
	code := w.code(nil)
	w.redeem(code, url.Values{"redirect_uri": {webRedirect + "/"}}).aadsts(t, 400, 500112)
	w.redeem(code, url.Values{"client_secret": nil}).aadsts(t, 401, 7000218)
	w.redeem(code, url.Values{"client_secret": {"wrong"}}).aadsts(t, 401, 7000215)
	w.redeem(code, url.Values{"code_verifier": nil}).aadsts(t, 400, 50148)
	w.redeem(code, url.Values{"client_id": {adminApp}, "client_secret": {adminAppKey}}).aadsts(t, 400, 700005)
	w.redeem(code, url.Values{"client_id": {device}}).aadsts(t, 400, 700016)
	a := w.redeem(code, nil).want(t, 200, "")
	id := claims(t, a.body["id_token"].(string))
	if id["aud"] != w.id || id["iss"] != "https://"+w.hosts.Login+"/"+tenant+"/v2.0" || id["nonce"] != "the nonce" || id["oid"] != alice {
		t.Errorf("claims %v", id)
	}
	w.redeem(code, nil).aadsts(t, 400, 54005)
	w.redeem("made-up", nil).aadsts(t, 400, 70000)

	code = w.code(nil)
	w.redeem(code, url.Values{"code_verifier": {strings.ToUpper(verifier)}}).aadsts(t, 400, 501481)
	w.redeem(code, nil).aadsts(t, 400, 54005) // one guess only

	code = w.code(nil)
	w.later.Add(int64(2 * time.Minute))
	w.redeem(code, nil).aadsts(t, 400, 70008)
	// More is given when it is asked for.
	a = w.redeem(w.code(url.Values{"scope": {"openid offline_access"}}), nil).want(t, 200, "")
	if id := claims(t, a.body["id_token"].(string)); id["name"] != nil || id["preferred_username"] != nil || a.body["refresh_token"] == nil {
		t.Errorf("%v %s", id, a.raw)
	}
}

func TestPublicClientCode(t *testing.T) {
	w := newWebApp(t)
	at := url.Values{"redirect_uri": {"http://localhost:4711/public"}}
	code := w.code(at)
	w.redeem(code, at).aadsts(t, 401, 700025)
	a := w.redeem(code, url.Values{"client_secret": nil, "redirect_uri": at["redirect_uri"]}).want(t, 200, "")
	if claims(t, a.body["access_token"].(string))["appidacr"] != "0" {
		t.Error("a public client proves nothing")
	}
	plain := url.Values{"redirect_uri": at["redirect_uri"], "code_challenge": nil, "code_challenge_method": nil}
	w.redeem(w.code(plain), url.Values{"client_secret": nil, "redirect_uri": at["redirect_uri"], "code_verifier": nil}).aadsts(t, 400, 9002327)
}

func TestAuthorizeRefusals(t *testing.T) {
	w := newWebApp(t)
	for name, tt := range map[string]struct {
		change url.Values
		status int    // of a page; 303 is told to the application
		says   string // on the page, or as its error
	}{
		"unknown client":   {url.Values{"client_id": {device}}, 400, "AADSTS700016"},
		"no client":        {url.Values{"client_id": nil}, 400, "AADSTS700016"},
		"foreign redirect": {url.Values{"redirect_uri": {"https://evil.example/"}}, 400, "AADSTS50011"},
		"longer redirect":  {url.Values{"redirect_uri": {webRedirect + "?x=1"}}, 400, "AADSTS50011"},
		"no redirect":      {url.Values{"redirect_uri": nil}, 400, "AADSTS50011"},
		"twice":            {url.Values{"redirect_uri": {webRedirect, "https://evil.example/"}}, 400, "AADSTS9000411"},
		"implicit":         {url.Values{"response_type": {"id_token"}}, 303, "unsupported_response_type"},
		"fragment":         {url.Values{"response_mode": {"fragment"}}, 303, "invalid_request"},
		"no scope":         {url.Values{"scope": nil}, 303, "invalid_request"},
		"unknown resource": {url.Values{"scope": {"openid https://nothing.example/.default"}}, 303, "invalid_resource"},
		"plain challenge":  {url.Values{"code_challenge_method": {"plain"}}, 303, "invalid_request"},
		"short challenge":  {url.Values{"code_challenge": {"abc"}}, 303, "invalid_request"},
		"silent":           {url.Values{"prompt": {"none"}}, 303, "login_required"},
	} {
		t.Run(name, func(t *testing.T) {
			status, body, back := w.page("GET", w.request(tt.change))
			if got := body + back.Get("error"); status != tt.status || !strings.Contains(got, tt.says) {
				t.Errorf("%d %s, want %d %s", status, got, tt.status, tt.says)
			}
			if status == 303 && (back.Get("state") != "the state & more" || !strings.HasPrefix(back.Get("error_description"), "AADSTS")) {
				t.Errorf("%v", back)
			}
		})
	}
	for _, tt := range [][3]string{
		{"alice@contoso.example", "wrong", "AADSTS50126"}, {"alice@contoso.example", "", "AADSTS50126"}, {"bob@contoso.example", "", "AADSTS50126"},
		{"nobody@contoso.example", alicePassword, "AADSTS50126"}, {"carol@contoso.example", alicePassword, "AADSTS50057"},
	} {
		if status, body, back := w.consent(w.request(nil), tt[0], tt[1]); status != 401 || !strings.Contains(body, tt[2]) || back != nil {
			t.Errorf("%q: %d %v %s", tt, status, back, body)
		}
	}
	cancel := w.request(url.Values{"cancel": {"1"}})
	if _, _, back := w.page("POST", cancel); back.Get("error") != "access_denied" {
		t.Errorf("%v", back)
	}
	// What the page is given is text to it.
	_, body, _ := w.page("GET", w.request(url.Values{"state": {`"><script>alert(1)</script>`}}))
	if strings.Contains(body, "<script>") {
		t.Error(body)
	}
	// The other way to answer.
	status, body, _ := w.consent(w.request(url.Values{"response_mode": {"form_post"}}), "alice@contoso.example", alicePassword)
	if status != 200 || !strings.Contains(body, `action="`+webRedirect+`"`) || !strings.Contains(body, `name="code"`) || !strings.Contains(body, `name="state"`) {
		t.Errorf("%d %s", status, body)
	}
	if strings.Contains(w.log.String(), alicePassword) {
		t.Error("the log has the password")
	}
}
