package labcloud

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Sign-in of a person in a browser: authorization code (RFC 6749 4.1) with
// PKCE (RFC 7636), as Entra's version 2 has it. The page asks for one of the
// lab's users and its password; what the application asked for travels in the
// form and is checked again with it, so nothing is kept until there is a code.

// authorizeParameters are all that travel.
var authorizeParameters = []string{"client_id", "response_type", "redirect_uri", "response_mode", "scope", "state", "nonce", "code_challenge", "code_challenge_method", "prompt", "login_hint", "domain_hint"}

const (
	codeLifetime = time.Minute // Entra's is about as short (up to ten)
	mostCodes    = 1024
)

// An authorizationCode waits to be redeemed. It is kept by its hash, and for a
// while after its use so that a second one is told apart from a wrong code.
type authorizationCode struct {
	Tenant, AppID, UserID string
	Redirect              string
	Scope, Nonce          string
	Challenge             string // S256; empty without PKCE
	Public                bool   // the redirect URI is of a public client
	Expires               time.Time
	Used                  bool
}

// challengePattern is a SHA-256 in base64url (RFC 7636 4.2); verifierPattern is
// its section 4.1.
var (
	challengePattern = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)
	verifierPattern  = regexp.MustCompile(`^[A-Za-z0-9._~-]{43,128}$`)
)

// signInPerson shows the sign-in page (GET) and takes its answer (POST).
func (s *Server) signInPerson(w http.ResponseWriter, r *http.Request, tenant string) {
	if err := r.ParseForm(); err != nil {
		s.entraPage(w, aadsts(http.StatusBadRequest, "invalid_request", 9002313, "Invalid request. Request is malformed or invalid."))
		return
	}
	form := r.URL.Query()
	if r.Method == http.MethodPost {
		form = r.PostForm
	}
	for _, name := range authorizeParameters {
		if len(form[name]) > 1 {
			s.entraPage(w, aadsts(http.StatusBadRequest, "invalid_request", 9000411, "The request is not properly formatted. The parameter '%s' is duplicated.", name))
			return
		}
	}
	s.world.Lock()
	defer s.world.Unlock()
	defer s.saveIfDirty()
	app, fail := s.application(tenant, form.Get("client_id"))
	if fail != nil {
		s.entraPage(w, fail)
		return
	}
	redirect := form.Get("redirect_uri")
	public, ok := registeredRedirect(app, redirect)
	if !ok {
		s.entraPage(w, aadsts(http.StatusBadRequest, "invalid_request", 50011, "The redirect URI '%s' specified in the request does not match the redirect URIs configured for the application '%s'. Make sure the redirect URI sent in the request matches one added to your application in the Azure portal.", redirect, app.AppID))
		return
	}
	// From here on the application can be told.
	if fail := s.checkAuthorize(tenant, form); fail != nil {
		s.sendBack(w, r, form, url.Values{"error": {fail.oauth}, "error_description": {s.describe(fail)}})
		return
	}
	page := signInPage{Tenant: s.tenants[tenant].Name, App: text(app.Body, "displayName"), Hint: form.Get("login_hint"), Fields: map[string]string{}}
	for _, name := range authorizeParameters {
		if v := form.Get(name); v != "" {
			page.Fields[name] = v
		}
	}
	page.Users = s.signInUsers(tenant)
	if r.Method != http.MethodPost {
		s.showSignIn(w, http.StatusOK, &page)
		return
	}
	if form.Get("cancel") != "" {
		s.sendBack(w, r, form, url.Values{"error": {"access_denied"}, "error_subcode": {"cancel"}, "error_description": {"AADSTS65004: User declined to consent to access the app."}})
		return
	}
	u, problem := s.signedIn(tenant, form.Get("login"), form.Get("passwd"))
	if u == nil {
		page.Hint, page.Problem = form.Get("login"), problem
		s.showSignIn(w, http.StatusUnauthorized, &page)
		return
	}
	maps.DeleteFunc(s.st.Codes, func(_ string, c *authorizationCode) bool { return s.cfg.Now().Sub(c.Expires) > time.Hour })
	if len(s.st.Codes) >= mostCodes {
		s.entraPage(w, aadsts(http.StatusServiceUnavailable, "temporarily_unavailable", 90033, "A transient error has occurred. Please try again."))
		return
	}
	code := rand.Text() + rand.Text()
	s.st.Codes[secretHash(code)] = &authorizationCode{
		Tenant: tenant, AppID: app.AppID, UserID: u.ID, Redirect: redirect, Scope: form.Get("scope"), Nonce: form.Get("nonce"),
		Challenge: form.Get("code_challenge"), Public: public, Expires: s.cfg.Now().Add(codeLifetime),
	}
	s.dirty = true
	s.sendBack(w, r, form, url.Values{"code": {code}, "session_state": {newGUID()}})
}

// signedIn is the user whom name and password are of, or nil and what is wrong.
func (s *Server) signedIn(tenant, login, password string) (u *dirObject, problem string) {
	u = s.findUser(tenant, login)
	hash := ""
	if u != nil {
		hash = s.st.Passwords[u.ID]
	}
	if hash == "" || !same(hash, secretHash(password)) {
		return nil, "AADSTS50126: Invalid username or password."
	}
	if enabled, ok := get(u.Body, "accountEnabled").(bool); ok && !enabled {
		return nil, "AADSTS50057: The user account is disabled."
	}
	return u, ""
}

// registeredRedirect reports whether an application has the redirect URI, and
// whether as that of a public client. It must match exactly; of http://localhost
// the port does not count (RFC 8252 7.3).
func registeredRedirect(app *application, redirect string) (public, ok bool) {
	if u, err := url.Parse(redirect); err == nil && u.Scheme == "http" && u.Hostname() == "localhost" {
		u.Host = "localhost"
		redirect = u.String()
	}
	has := func(platform string) bool {
		return slices.Contains(list(app.Body, platform, "redirectUris"), any(redirect))
	}
	switch {
	case redirect == "":
		return false, false
	case has("web"):
		return false, true
	case has("publicClient"):
		return true, true
	}
	return false, false
}

// checkAuthorize looks at what the application may be told of.
func (s *Server) checkAuthorize(tenant string, form url.Values) *entraError {
	switch form.Get("response_mode") {
	case "", "query", "form_post":
	default:
		return aadsts(http.StatusBadRequest, "invalid_request", 70007, "'%s' is not a supported value of 'response_mode' when requesting a token.", form.Get("response_mode"))
	}
	if form.Get("response_type") != "code" {
		return aadsts(http.StatusBadRequest, "unsupported_response_type", 700054, "response_type '%s' is not enabled for the application.", form.Get("response_type"))
	}
	if form.Get("scope") == "" {
		return aadsts(http.StatusBadRequest, "invalid_request", 900144, "The request body must contain the following parameter: 'scope'.")
	}
	switch form.Get("prompt") {
	case "", "login", "select_account", "consent":
	case "none":
		return aadsts(http.StatusBadRequest, "login_required", 50058, "A silent sign-in request was sent but no user is signed in.")
	default:
		return aadsts(http.StatusBadRequest, "invalid_request", 90023, "The value of 'prompt' is not valid.")
	}
	if c := form.Get("code_challenge"); c != "" || form.Get("code_challenge_method") != "" {
		if form.Get("code_challenge_method") != "S256" || !challengePattern.MatchString(c) {
			return aadsts(http.StatusBadRequest, "invalid_request", 501491, "Invalid size or method of Code_Challenge parameter: the lab takes S256 only.")
		}
	}
	_, fail := s.codeTarget(tenant, form.Get("scope"))
	return fail
}

// codeTarget is what an access token for the scopes is for: with none but those
// of OpenID Connect it is for Graph's user information.
func (s *Server) codeTarget(tenant, scope string) (target, *entraError) {
	others := slices.DeleteFunc(strings.Fields(scope), func(v string) bool {
		return slices.Contains([]string{"openid", "profile", "email", "offline_access"}, v)
	})
	if len(others) > 0 {
		return s.requested(tenant, url.Values{"scope": {scope}})
	}
	return target{aud: graphAppID, version: 1, appID: graphAppID, plain: true}, nil
}

// redeemAuthorizationCode answers the authorization_code grant.
func (s *Server) redeemAuthorizationCode(tenant string, form url.Values) (any, *entraError) {
	app, fail := s.application(tenant, form.Get("client_id"))
	if fail != nil {
		return nil, fail
	}
	invalid := func(code int, format string, args ...any) (any, *entraError) {
		return nil, aadsts(http.StatusBadRequest, "invalid_grant", code, format, args...)
	}
	c := s.st.Codes[secretHash(form.Get("code"))]
	if c == nil || c.Tenant != tenant {
		return invalid(70000, "Provided grant is invalid or malformed.")
	}
	acr := "0"
	if c.Public {
		if form.Get("client_secret") != "" || form.Get("client_assertion") != "" {
			return nil, aadsts(http.StatusUnauthorized, "invalid_client", 700025, "Client is public so neither 'client_assertion' nor 'client_secret' should be presented.")
		}
	} else if acr, fail = s.authenticate(app, tenant, form); fail != nil {
		return nil, fail
	}
	switch verifier := form.Get("code_verifier"); {
	case c.AppID != app.AppID:
		return invalid(700005, "Provided Authorization Code is intended to use against another application.")
	case c.Used:
		return invalid(54005, "OAuth2 Authorization code was already redeemed, please retry with a new valid code or use an existing refresh token.")
	case s.cfg.Now().After(c.Expires):
		return invalid(70008, "The provided authorization code or refresh token has expired due to inactivity. Send a new interactive authorization request for this user and resource.")
	case c.Redirect != form.Get("redirect_uri"):
		return invalid(500112, "The reply address '%s' does not match the reply address '%s' provided when requesting Authorization code.", form.Get("redirect_uri"), c.Redirect)
	case c.Challenge != "" && verifier == "":
		return invalid(50148, "The code_verifier does not match the code_challenge supplied in the authorization request: it is missing.")
	case c.Challenge == "" && c.Public:
		return nil, aadsts(http.StatusBadRequest, "invalid_request", 9002327, "Proof Key for Code Exchange is required for a public client's authorization code redemption.")
	case c.Challenge != "":
		sum := sha256.Sum256([]byte(verifier))
		if !verifierPattern.MatchString(verifier) || !same(c.Challenge, base64.RawURLEncoding.EncodeToString(sum[:])) {
			// A wrong guess spends the code.
			c.Used, s.dirty = true, true
			return invalid(501481, "The Code_Verifier does not match the code_challenge supplied in the authorization request.")
		}
	}
	c.Used, s.dirty = true, true
	t, fail := s.codeTarget(tenant, c.Scope)
	if fail != nil {
		return nil, fail
	}
	return s.userTokens(userGrant{tenant: tenant, appID: c.AppID, userID: c.UserID, target: t, scopes: strings.Fields(c.Scope), nonce: c.Nonce, acr: acr, code: true})
}

// signInUsers are the user principal names that have a password, in order.
func (s *Server) signInUsers(tenant string) []string {
	var names []string
	for id := range s.st.Passwords {
		if u := s.st.Objects[id]; u != nil && u.Tenant == tenant && u.Removed == "" {
			names = append(names, text(u.Body, "userPrincipalName"))
		}
	}
	slices.Sort(names)
	return names
}

// sendBack answers the application by its redirect URI.
func (s *Server) sendBack(w http.ResponseWriter, r *http.Request, form, answer url.Values) {
	if state := form.Get("state"); state != "" {
		answer.Set("state", state)
	}
	w.Header().Set("Cache-Control", "no-store, no-cache")
	w.Header().Set("Referrer-Policy", "no-referrer")
	u, err := url.Parse(form.Get("redirect_uri"))
	if err != nil {
		s.entraPage(w, aadsts(http.StatusBadRequest, "invalid_request", 50011, "The redirect URI is not valid."))
		return
	}
	if form.Get("response_mode") == "form_post" {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		postBack.Execute(w, map[string]any{"URL": u.String(), "Fields": answer})
		return
	}
	q := u.Query()
	for k := range answer {
		q.Set(k, answer.Get(k))
	}
	u.RawQuery = q.Encode()
	http.Redirect(w, r, u.String(), http.StatusSeeOther)
}

// describe is the text of a refusal as Entra writes it.
func (s *Server) describe(e *entraError) string {
	return fmt.Sprintf("AADSTS%d: %s Trace ID: %s Correlation ID: %s Timestamp: %s", e.code, e.text, newGUID(), newGUID(), s.cfg.Now().UTC().Format("2006-01-02 15:04:05Z"))
}

// entraPage shows a refusal that the application is not told of.
func (s *Server) entraPage(w http.ResponseWriter, e *entraError) {
	pageHead(w, e.status)
	refusalPage.Execute(w, s.describe(e))
}

func pageHead(w http.ResponseWriter, status int) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store, no-cache")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
}

// A signInPage is what the page shows.
type signInPage struct {
	Tenant, App, Hint, Problem string
	Users                      []string
	Fields                     map[string]string
}

func (s *Server) showSignIn(w http.ResponseWriter, status int, p *signInPage) {
	pageHead(w, status)
	signInTemplate.Execute(w, p)
}

const pageStyle = `<style>
:root { color-scheme: light dark }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 24rem; margin: 10vh auto; padding: 0 1rem }
label, input, select, button { display: block; width: 100%; box-sizing: border-box; font: inherit }
input, select, button { padding: .5rem; margin: .25rem 0 1rem }
</style>`

var signInTemplate = template.Must(template.New("sign-in").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Sign in to {{.Tenant}} (lab)</title>` + pageStyle + `</head>
<body><main>
<h1>Sign in</h1>
<p>The lab's stand-in for Microsoft Entra ID, tenant <b>{{.Tenant}}</b>. You sign in to <b>{{.App}}</b>, which will see who you are.</p>
{{with .Problem}}<p role="alert">{{.}}</p>{{end}}
<form method="post">
{{range $name, $value := .Fields}}<input type="hidden" name="{{$name}}" value="{{$value}}">
{{end}}<label for="login">User</label>
<select id="login" name="login">{{$hint := .Hint}}{{range .Users}}<option{{if eq . $hint}} selected{{end}}>{{.}}</option>{{end}}</select>
<label for="passwd">Password</label>
<input id="passwd" name="passwd" type="password" autocomplete="off" autofocus>
<button id="sign-in">Sign in</button>
<button id="cancel" name="cancel" value="1">Cancel</button>
</form>
</main></body></html>
`))

var refusalPage = template.Must(template.New("refusal").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Sign-in failed (lab)</title>` + pageStyle + `</head>
<body><main><h1>Sorry, but we’re having trouble signing you in.</h1><p>{{.}}</p></main></body></html>
`))

// postBack sends the answer in a form; without scripts a person presses.
var postBack = template.Must(template.New("post-back").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Working...</title></head>
<body><form method="post" action="{{.URL}}">
{{range $name, $values := .Fields}}{{range $values}}<input type="hidden" name="{{$name}}" value="{{.}}">
{{end}}{{end}}<button>Continue</button></form><script>document.forms[0].submit()</script></body></html>
`))
