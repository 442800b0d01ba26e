package site_test

import (
	"context"
	"crypto/x509"
	"errors"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/azure"
	"github.com/opencmg/opencmg/labcloud"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/site"
)

const (
	annID, bobID = "a1100000-0000-4000-8000-000000000001", "b0b00000-0000-4000-8000-000000000002"
	annPassword  = "planted-password-of-ann"
	callback     = "https://127.0.0.1/console/sign-in/entra/callback"
)

func people(r *rig) {
	r.lab = func(c *labcloud.Config) {
		c.Users = []labcloud.User{
			{Tenant: tenantID, ID: annID, UPN: "ann@lab.example", DisplayName: "Ann", Password: annPassword},
			{Tenant: tenantID, ID: bobID, UPN: "bob@lab.example", DisplayName: "Bob", Password: annPassword},
		}
	}
}

// A forger puts its own ID token in the place of Entra's.
type forger struct {
	site.Directory
	forge func(w azure.WebSignIn) (string, error)
}

func (f *forger) RedeemCode(ctx context.Context, w azure.WebSignIn, code string) (string, error) {
	if f.forge != nil {
		return f.forge(w)
	}
	return f.Directory.RedeemCode(ctx, w, code)
}

// person signs in at the page that target leads to, and returns what its browser
// brings back.
func (r *rig) person(target, login string) url.Values {
	r.t.Helper()
	at := must(url.Parse(target))(r.t)
	form := at.Query()
	form.Set("login", login)
	form.Set("passwd", annPassword)
	at.RawQuery = ""
	browser := *r.http
	browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res := must(browser.PostForm(at.String(), form))(r.t)
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	to := res.Header.Get("Location")
	if !strings.HasPrefix(to, callback+"?") {
		r.t.Fatalf("%s: sent to %q: %s", res.Status, to, body)
	}
	return must(url.Parse(to))(r.t).Query()
}

// begin begins a sign-in through the one app that is offered.
func (r *rig) begin() (target, pending string) {
	r.t.Helper()
	ids, tenants, err := r.s.EntraApps(r.t.Context())
	if err != nil || len(ids) != 1 || tenants[0] != "Fourth Coffee" {
		r.t.Fatalf("%q %q %v", ids, tenants, err)
	}
	target, pending, err = r.s.BeginEntra(r.t.Context(), ids[0])
	if err != nil {
		r.t.Fatal(err)
	}
	return target, pending
}

func (r *rig) addAnn() {
	r.t.Helper()
	do[adminservice.Account](r, "POST", "Accounts", adminservice.Account{Name: "ann", Role: adminservice.ReadOnlyAnalyst, EntraTenantID: tenantID, EntraObjectID: strings.ToUpper(annID)})
}

func TestEntraSignIn(t *testing.T) {
	r := newRig(t, people)
	if ids, _, err := r.s.EntraApps(t.Context()); err != nil || len(ids) > 0 {
		t.Fatalf("%v %v", ids, err)
	}
	app := r.connect()
	r.addAnn()
	target, pending := r.begin()
	q := must(url.Parse(target))(t).Query()
	if q.Get("client_id") != app.ClientID || q.Get("redirect_uri") != callback || q.Get("code_challenge_method") != "S256" || q.Get("scope") != "openid profile" {
		t.Errorf("%v", q)
	}
	back := r.person(target, "ann@lab.example")
	name, role, err := r.s.CompleteEntra(t.Context(), pending, back)
	if err != nil || name != "ann" || role != adminservice.ReadOnlyAnalyst {
		t.Fatalf("%q %q %v", name, role, err)
	}
	// Once only.
	_, _, err = r.s.CompleteEntra(t.Context(), pending, back)
	refused(t, err, opencmg.Unauthorized, "AADSTS54005")

	// Bob is no administrator: he learns what to ask for.
	target, pending = r.begin()
	_, _, err = r.s.CompleteEntra(t.Context(), pending, r.person(target, "bob@lab.example"))
	refused(t, err, opencmg.Unauthorized, `"bob@lab.example" is user `+bobID+" of tenant "+tenantID)
	refused(t, err, opencmg.Unauthorized, "opencmg account add --name NAME --role ROLE --entra-tenant "+tenantID+" --entra-user "+bobID)

	// A tenant whose authentication was switched off lets nobody in.
	target, pending = r.begin()
	back = r.person(target, "ann@lab.example")
	do[adminservice.Tenant](r, "PATCH", "Tenants/"+tenantID, adminservice.TenantChange{DisableAuthentication: new(true)})
	_, _, err = r.s.CompleteEntra(t.Context(), pending, back)
	refused(t, err, opencmg.Unauthorized, "authentication is off")
	if ids, _, err := r.s.EntraApps(t.Context()); err != nil || len(ids) > 0 {
		t.Errorf("%v %v", ids, err)
	}
	if log := r.log.String(); strings.Contains(log, back.Get("code")) || strings.Contains(log, q.Get("state")) {
		t.Error("the log has the code or the state")
	}
}

func TestEntraSignInOfAnotherBrowser(t *testing.T) {
	r := newRig(t, people)
	r.connect()
	r.addAnn()
	again := func(pending string, back url.Values) {
		t.Helper()
		_, _, err := r.s.CompleteEntra(t.Context(), pending, back)
		refused(t, err, opencmg.Unauthorized, "begin again")
	}
	target, pending := r.begin()
	back := r.person(target, "ann@lab.example")
	_, other := r.begin()
	again(other, back) // what an attacker began does not end in this browser
	again("", back)
	again("A"+pending[1:], back)
	again(pending+strings.Repeat("A", 4096), back)
	again(pending, url.Values{"state": back["state"]})
	again(pending, url.Values{"code": back["code"]})
	for _, secret := range []string{must(url.Parse(target))(t).Query().Get("state"), must(url.Parse(target))(t).Query().Get("nonce")} {
		if strings.Contains(pending, secret) {
			t.Error("the cookie can be read")
		}
	}
	r.wait(10*time.Minute + time.Second)
	again(pending, back)
	r.wait(-11 * time.Minute)
	if name, _, err := r.s.CompleteEntra(t.Context(), pending, back); err != nil || name != "ann" {
		t.Errorf("%q %v: none of it spent the sign-in", name, err)
	}
	// Another process has another key.
	target, pending = r.begin()
	back = r.person(target, "ann@lab.example")
	r.crash()
	r.start()
	again(pending, back)
	if _, _, err := r.s.BeginEntra(t.Context(), "nothing"); !errors.Is(err, opencmg.Unauthorized) {
		t.Errorf("%v", err)
	}
}

func TestForgedIDTokens(t *testing.T) {
	f := &forger{}
	r := newRig(t, people, func(r *rig) {
		r.config = func(c *site.Config) {
			next := c.Directory
			c.Directory = func(in site.CloudSignIn) (site.Directory, error) {
				d, err := next(in)
				return &forger{d, f.forge}, err
			}
		}
	})
	app := r.connect()
	r.addAnn()
	authority := "https://" + r.hosts.Login + "/" + tenantID + "/v2.0"
	for name, tt := range map[string]struct {
		change func(o *labcloud.TokenOptions)
		code   string // of the refusal; empty means it is accepted
	}{
		"good":           {func(*labcloud.TokenOptions) {}, ""},
		"other tenant":   {func(o *labcloud.TokenOptions) { o.Tenant, o.Issuer = bobID, authority }, pki.RefusedTokenTenant},
		"other issuer":   {func(o *labcloud.TokenOptions) { o.Issuer = "https://sts.lab.opencmg.example/" + tenantID + "/" }, pki.RefusedTokenIssuer},
		"other audience": {func(o *labcloud.TokenOptions) { o.Audience = app.IdentifierURI }, pki.RefusedTokenAudience},
		"two audiences":  {func(o *labcloud.TokenOptions) { o.Claims["aud"] = []string{app.ClientID, "another"} }, pki.RefusedTokenAudience},
		"other nonce":    {func(o *labcloud.TokenOptions) { o.Claims["nonce"] = "another" }, pki.RefusedTokenMalformed},
		"no nonce":       {func(o *labcloud.TokenOptions) { delete(o.Claims, "nonce") }, pki.RefusedTokenMalformed},
		"expired":        {func(o *labcloud.TokenOptions) { o.NotBefore, o.ExpiresIn = -7200, 3600 }, pki.RefusedTokenExpired},
		"early":          {func(o *labcloud.TokenOptions) { o.NotBefore = 3600 }, pki.RefusedTokenNotYetValid},
		"other key":      {func(o *labcloud.TokenOptions) { o.UnknownKey = true }, pki.RefusedTokenSignature},
		"nobody":         {func(o *labcloud.TokenOptions) { o.Claims["oid"] = nil }, pki.RefusedTokenSubject},
	} {
		t.Run(name, func(t *testing.T) {
			f.forge = func(w azure.WebSignIn) (string, error) {
				o := labcloud.TokenOptions{Tenant: tenantID, Audience: app.ClientID, Version: 2, AppID: app.ClientID, ObjectID: annID, UPN: "ann@lab.example", Claims: map[string]any{"nonce": w.Nonce}}
				tt.change(&o)
				return r.cloud.IssueToken(o)
			}
			defer func() { f.forge = nil }()
			target, pending := r.begin()
			state := must(url.Parse(target))(t).Query()["state"]
			_, _, err := r.s.CompleteEntra(t.Context(), pending, url.Values{"state": state, "code": {"x"}})
			if tt.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var refusal *pki.Refusal
			if !errors.Is(err, opencmg.Unauthorized) || !errors.As(err, &refusal) || refusal.Code != tt.code {
				t.Errorf("%v, want %s", err, tt.code)
			}
		})
	}
	// The same by the real way: somebody changed the nonce on the way to Entra.
	target, pending := r.begin()
	at := must(url.Parse(target))(t)
	q := at.Query()
	q.Set("nonce", "another")
	at.RawQuery = q.Encode()
	_, _, err := r.s.CompleteEntra(t.Context(), pending, r.person(at.String(), "ann@lab.example"))
	refused(t, err, opencmg.Unauthorized, "nonce")
}

func TestEntraRefusalsSayWhatToDo(t *testing.T) {
	r := newRig(t, people)
	app := r.connect()
	for says, back := range map[string]url.Values{
		"add the redirect URI " + callback + " of platform Web to the app registration FcCmgServer (" + app.ClientID + ")": {"error": {"invalid_request"}, "error_description": {"AADSTS50011: The redirect URI does not match."}},
		"https://" + r.hosts.Login + "/" + tenantID + "/adminconsent?client_id=" + app.ClientID:                            {"error": {"consent_required"}, "error_description": {"AADSTS65001: The user or administrator has not consented. Trace ID: x"}},
		"assign the user": {"error": {"access_denied"}, "error_description": {"AADSTS50105: Your administrator has configured the application to block users."}},
		"start it again":  {"error": {"access_denied"}, "error_description": {"AADSTS65004: User declined to consent."}},
		"AADSTS70000":     {"code": {"made-up"}},
	} {
		target, pending := r.begin()
		back["state"] = must(url.Parse(target))(t).Query()["state"]
		_, _, err := r.s.CompleteEntra(t.Context(), pending, back)
		refused(t, err, opencmg.Unauthorized, says)
	}
}

// An app that somebody else made has the redirect URI once its settings are
// brought up to date, and proves itself by its certificate.
func TestEntraSignInByImportedApp(t *testing.T) {
	const imported = "1a0b7c5e-8d2c-4c57-9a41-2d1f0e9b7c11"
	ca := must(pki.NewAuthority("Apps", time.Now()))(t)
	pair := must(ca.IssueKeyPair(pki.Template{CommonName: "app", Client: true, Key: pki.RSA2048}, time.Now()))(t)
	r := newRig(t, people, func(r *rig) {
		next := r.lab
		r.lab = func(c *labcloud.Config) {
			next(c)
			c.Apps = append(c.Apps, labcloud.App{Tenant: tenantID, ID: imported, Name: "Portal app", Certificates: []*x509.Certificate{pair.Leaf}})
		}
	})
	app := do[adminservice.Application](r, "POST", "Applications/import", adminservice.ImportApplication{
		Environment: r.env, Kind: adminservice.ServerApplication, Name: "Portal app", TenantID: tenantID, TenantName: "Fourth Coffee", ClientID: imported,
		IdentifierURI: "api://portal", CertificatePEM: string(must(pki.EncodeKeyPair(pair))(t)),
	})
	r.addAnn()
	op := do[adminservice.Operation](r, "POST", "Applications/"+app.ID+"/updateSettings", adminservice.UpdateSettings{SignIn: &adminservice.SignIn{ClientID: deployerID, Secret: deployerSecret}})
	r.finish(op)
	target, pending := r.begin()
	if name, _, err := r.s.CompleteEntra(t.Context(), pending, r.person(target, "ann@lab.example")); err != nil || name != "ann" {
		t.Errorf("%q %v", name, err)
	}
}

// Whoever signs in by Entra gets to the page that they wanted, also at the second
// try, and to no page but the console's.
func TestEntraSignInLeadsToTheWantedPage(t *testing.T) {
	r := newRig(t, people)
	r.connect()
	r.addAnn()
	link := regexp.MustCompile(`href="(/console/(sign-in/entra\?app=[^"]*))"`)
	// begin follows the link of the page that a visitor sees.
	begin := func(v *visitor, page string) (target string) {
		t.Helper()
		m := link.FindStringSubmatch(page)
		if m == nil {
			t.Fatalf("no link to Entra:\n%s", page)
		}
		v.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		defer func() { v.http.CheckRedirect = nil }()
		res, err := v.http.Get(v.url + html.UnescapeString(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.Header.Get("Location")
	}
	const wanted = "status-messages?severity=error&q=a%26b"
	long := "status-messages?q=" + strings.Repeat("x", 4000)
	for from, to := range map[string]string{
		wanted:                            "/console/" + wanted,
		"":                                "/console/",
		long:                              "/console/",
		"sign-in?next=//evil.example/":    "/console/",
		`sign-in?next=/console/\evil`:     "/console/",
		"sign-in?next=https://evil.test/": "/console/",
		"sign-in?next=/AdminService/v1.0": "/console/",
	} {
		v := r.visit()
		_, page := v.get(from)
		// Bob is refused, and his page leads to the same place.
		status, page := v.get("sign-in/entra/callback?" + r.person(begin(v, page), "bob@lab.example").Encode())
		if status != http.StatusUnauthorized {
			t.Fatalf("%s: bob got %d\n%s", from, status, page)
		}
		res, err := v.http.Get(v.url + "/console/sign-in/entra/callback?" + r.person(begin(v, page), "ann@lab.example").Encode())
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if at := res.Request.URL.RequestURI(); res.StatusCode != http.StatusOK || at != to {
			t.Errorf("%.60s led to %s (%d)", from, at, res.StatusCode)
		}
	}
}
