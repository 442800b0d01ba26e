package labcloud

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Grants at the token URL: client_credentials by secret, certificate or
// federated token, authorization code, device code, and refresh.
const (
	grantDeviceCode = "urn:ietf:params:oauth:grant-type:device_code"
	assertionType   = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// A Federated credential accepts another issuer's token in place of a secret.
type Federated struct {
	Issuer, Subject string
	// Audience is usually api://AzureADTokenExchange.
	Audience string
	// Key is the issuer's public key. Entra would find it through the issuer's
	// discovery document.
	Key jose.JSONWebKey
}

func (s *Server) token(r *http.Request, tenant string, _ int) (any, *entraError) {
	if err := r.ParseForm(); err != nil {
		return nil, aadsts(http.StatusBadRequest, "invalid_request", 9002313, "Invalid request. Request is malformed or invalid.")
	}
	form := r.PostForm
	if id, secret, ok := r.BasicAuth(); ok && form.Get("client_id") == "" {
		form.Set("client_id", id)
		form.Set("client_secret", secret)
	}
	if form.Get("client_id") == "" {
		return nil, aadsts(http.StatusBadRequest, "invalid_request", 900144, "The request body must contain the following parameter: 'client_id'.")
	}
	s.world.Lock()
	defer s.world.Unlock()
	defer s.saveIfDirty()
	switch form.Get("grant_type") {
	case "client_credentials":
		return s.clientCredentials(tenant, form)
	case "authorization_code":
		return s.redeemAuthorizationCode(tenant, form)
	case grantDeviceCode, "device_code": // the SDK says it short
		return s.redeemDeviceCode(tenant, form)
	case "refresh_token":
		return s.refresh(tenant, form)
	}
	return nil, aadsts(http.StatusBadRequest, "unsupported_grant_type", 70003, "The app requested an unsupported grant type '%s'.", form.Get("grant_type"))
}

func (s *Server) clientCredentials(tenant string, form url.Values) (any, *entraError) {
	id := strings.ToLower(form.Get("client_id"))
	s.mu.RLock()
	d, isDevice := s.devices[tenant+"/"+id]
	s.mu.RUnlock()
	o := TokenOptions{Tenant: tenant, Claims: map[string]any{}}
	var app *application
	if isDevice {
		if !same(d.Secret, form.Get("client_secret")) {
			return nil, badSecret(id)
		}
	} else {
		var fail *entraError
		if app, fail = s.application(tenant, id); fail != nil {
			return nil, fail
		}
		acr, fail := s.authenticate(app, tenant, form)
		if fail != nil {
			return nil, fail
		}
		o.Claims["appidacr"] = acr
	}
	t, fail := s.requested(tenant, form)
	if fail != nil {
		return nil, fail
	}
	if form.Get("resource") == "" && !slices.Equal(t.scopes, []string{".default"}) {
		return nil, aadsts(http.StatusBadRequest, "invalid_scope", 1002012, "The provided value for scope %s is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).", form.Get("scope"))
	}
	o.Audience, o.Version = t.aud, t.version
	if isDevice {
		o.DeviceID, o.ObjectID = d.ID, d.ObjectID
	} else {
		sp := s.principalOf(tenant, app.AppID)
		if sp == nil {
			return nil, aadsts(http.StatusBadRequest, "unauthorized_client", 7000229, "The client application %s is missing service principal in the tenant %s.", app.AppID, tenant)
		}
		o.AppID, o.ObjectID = app.AppID, sp.ID
		if roles := s.rolesOf(sp, t.appID); len(roles) > 0 {
			o.Claims["roles"] = roles
		}
	}
	return s.grant(o, nil)
}

// grant issues the access token and answers in Entra's shape.
func (s *Server) grant(o TokenOptions, more map[string]any) (any, *entraError) {
	if acr, ok := o.Claims["appidacr"]; ok && o.Version == 2 {
		delete(o.Claims, "appidacr")
		o.Claims["azpacr"] = acr
	}
	token, err := s.IssueToken(o)
	if err != nil {
		return nil, aadsts(http.StatusInternalServerError, "server_error", 90099, "%v", err)
	}
	seconds := int64(s.cfg.Lifetime / time.Second)
	answer := map[string]any{"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": token}
	for k, v := range more {
		answer[k] = v
	}
	return answer, nil
}

func badSecret(app string) *entraError {
	return aadsts(http.StatusUnauthorized, "invalid_client", 7000215, "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '%s'.", app)
}

// application finds a client.
func (s *Server) application(tenant, appID string) (*application, *entraError) {
	for _, a := range s.st.Applications {
		if a.Tenant == tenant && strings.EqualFold(a.AppID, appID) && a.exists() {
			return a, nil
		}
	}
	return nil, aadsts(http.StatusBadRequest, "unauthorized_client", 700016, "Application with identifier '%s' was not found in the directory '%s'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant.", appID, s.tenants[tenant].Name)
}

// authenticate checks an app's credential and returns its appidacr.
func (s *Server) authenticate(a *application, tenant string, form url.Values) (string, *entraError) {
	if assertion := form.Get("client_assertion"); assertion != "" {
		if form.Get("client_assertion_type") != assertionType {
			return "", aadsts(http.StatusBadRequest, "invalid_request", 7000216, "'client_assertion_type' must be '%s'.", assertionType)
		}
		return "2", s.checkAssertion(a, tenant, assertion)
	}
	secret := form.Get("client_secret")
	if secret == "" {
		return "", aadsts(http.StatusUnauthorized, "invalid_client", 7000218, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.")
	}
	now := s.cfg.Now()
	for i := range a.Secrets {
		k := &a.Secrets[i]
		if !same(k.Hash, secretHash(secret)) {
			continue
		}
		if k.Lag > 0 {
			k.Lag--
			s.dirty = true
			return "", badSecret(a.AppID)
		}
		if now.After(k.End) {
			return "", aadsts(http.StatusUnauthorized, "invalid_client", 7000222, "The provided client secret keys for app '%s' are expired. Visit the Azure portal to create new keys for your app, or consider using certificate credentials for added security.", a.AppID)
		}
		return "1", nil
	}
	return "", badSecret(a.AppID)
}

func (s *Server) checkAssertion(a *application, tenant, assertion string) *entraError {
	jws, err := jose.ParseSignedCompact(assertion, []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256})
	if err != nil {
		return aadsts(http.StatusUnauthorized, "invalid_client", 50027, "JWT token is invalid or malformed.")
	}
	var c map[string]any
	if json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &c) != nil {
		return aadsts(http.StatusUnauthorized, "invalid_client", 50027, "JWT token is invalid or malformed.")
	}
	now := float64(s.cfg.Now().Unix())
	exp, _ := number(c["exp"])
	nbf, _ := number(c["nbf"])
	if exp <= now || nbf > now+300 {
		return aadsts(http.StatusUnauthorized, "invalid_client", 700024, "Client assertion is not within its valid time range.")
	}
	auds := list(c, "aud")
	if aud := text(c, "aud"); aud != "" {
		auds = []any{aud}
	}
	if text(c, "iss") != a.AppID {
		for _, f := range a.Federated {
			if f.Issuer == text(c, "iss") && f.Subject == text(c, "sub") && slices.Contains(auds, any(f.Audience)) {
				if _, err := jws.Verify(f.Key.Key); err != nil {
					return aadsts(http.StatusUnauthorized, "invalid_client", 7002131, "The signature of the presented assertion could not be verified with the keys of its issuer.")
				}
				return nil
			}
		}
		return aadsts(http.StatusUnauthorized, "invalid_client", 700213, "No matching federated identity record found for presented assertion subject '%s'. Check your federated identity credential Subject, Audience and Issuer against the presented assertion.", text(c, "sub"))
	}
	base := s.BaseURL() + "/" + tenant
	if text(c, "sub") != a.AppID || !slices.ContainsFunc(auds, func(aud any) bool {
		return aud == base+"/oauth2/v2.0/token" || aud == base+"/oauth2/token" || aud == base+"/v2.0" || aud == base
	}) {
		return aadsts(http.StatusUnauthorized, "invalid_client", 700023, "Client assertion audience claim does not match Realm issuer, or its subject is not the application.")
	}
	for _, raw := range a.Certificates {
		cert, err := x509.ParseCertificate(raw)
		if err != nil {
			continue
		}
		if _, err := jws.Verify(cert.PublicKey); err == nil {
			if s.cfg.Now().After(cert.NotAfter) {
				return aadsts(http.StatusUnauthorized, "invalid_client", 7000277, "The certificate of the client assertion has expired.")
			}
			return nil
		}
	}
	return aadsts(http.StatusUnauthorized, "invalid_client", 700027, "The certificate with identifier used to sign the client assertion is not registered on application.")
}

// startDeviceCode answers codes for a sign-in that the page /device completes, or
// /lab/approve.
func (s *Server) startDeviceCode(r *http.Request, tenant string, _ int) (any, *entraError) {
	if err := r.ParseForm(); err != nil {
		return nil, aadsts(http.StatusBadRequest, "invalid_request", 9002313, "Invalid request. Request is malformed or invalid.")
	}
	s.world.Lock()
	defer s.world.Unlock()
	client := strings.ToLower(r.PostForm.Get("client_id"))
	if client != cliAppID {
		a, fail := s.application(tenant, client)
		if fail != nil {
			return nil, fail
		}
		if !truth(a.Body, "isFallbackPublicClient") {
			return nil, aadsts(http.StatusUnauthorized, "invalid_client", 7000218, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.")
		}
		client = a.AppID
	}
	if _, fail := s.requested(tenant, r.PostForm); fail != nil {
		return nil, fail
	}
	maps.DeleteFunc(s.st.DeviceCodes, func(_ string, d *deviceCode) bool { return s.cfg.Now().Sub(d.Expires) > time.Hour })
	if len(s.st.DeviceCodes) >= mostCodes {
		return nil, aadsts(http.StatusServiceUnavailable, "temporarily_unavailable", 90033, "A transient error has occurred. Please try again.")
	}
	d := &deviceCode{Code: rand.Text() + rand.Text(), UserCode: rand.Text()[:9], Tenant: tenant, AppID: client, Scope: r.PostForm.Get("scope"), Resource: r.PostForm.Get("resource"), Expires: s.cfg.Now().Add(15 * time.Minute)}
	s.st.DeviceCodes[d.Code] = d
	s.dirty = true
	s.saveIfDirty()
	page := s.BaseURL() + "/device"
	return map[string]any{
		"device_code": d.Code, "user_code": d.UserCode, "verification_uri": page, "verification_url": page, "expires_in": 900, "interval": 1,
		"message": "To sign in, use a web browser to open the page " + page + " and enter the code " + d.UserCode + " to authenticate.",
	}, nil
}

func (s *Server) redeemDeviceCode(tenant string, form url.Values) (any, *entraError) {
	code := form.Get("device_code")
	if code == "" {
		code = form.Get("code") // version 1
	}
	d := s.st.DeviceCodes[code]
	switch {
	case d == nil || d.Tenant != tenant || !strings.EqualFold(d.AppID, form.Get("client_id")) || d.Used:
		return nil, aadsts(http.StatusBadRequest, "bad_verification_code", 70000, "The device code is not known.")
	case s.cfg.Now().After(d.Expires):
		return nil, aadsts(http.StatusBadRequest, "expired_token", 70020, "The provided value for the input parameter 'device_code' is not valid. This device code has expired.")
	case d.Denied:
		return nil, aadsts(http.StatusBadRequest, "authorization_declined", 70018, "The end user denied the authorization request.")
	case d.UserID == "":
		return nil, aadsts(http.StatusBadRequest, "authorization_pending", 70016, "OAuth 2.0 device flow error. Authorization is pending. Continue polling.")
	}
	d.Used = true
	s.dirty = true
	asked := url.Values{"scope": {d.Scope}, "resource": {d.Resource}}
	t, fail := s.requested(tenant, asked)
	if fail != nil {
		return nil, fail
	}
	return s.userTokens(userGrant{tenant: tenant, appID: d.AppID, userID: d.UserID, target: t, scopes: strings.Fields(d.Scope)})
}

func (s *Server) refresh(tenant string, form url.Values) (any, *entraError) {
	t := s.st.Refresh[secretHash(form.Get("refresh_token"))]
	if t == nil || t.Tenant != tenant || !strings.EqualFold(t.AppID, form.Get("client_id")) || s.cfg.Now().After(t.Expires) {
		return nil, aadsts(http.StatusBadRequest, "invalid_grant", 70008, "The provided authorization code or refresh token has expired due to inactivity or is not valid. Send a new interactive authorization request for this user and resource.")
	}
	asked, fail := s.requested(tenant, form)
	if fail != nil {
		return nil, fail
	}
	return s.userTokens(userGrant{tenant: tenant, appID: t.AppID, userID: t.UserID, target: asked, scopes: strings.Fields(form.Get("scope"))})
}

// A userGrant is what a user's sign-in gives tokens for.
type userGrant struct {
	tenant, appID, userID string
	target                target
	scopes                []string
	nonce                 string // of the ID token
	acr                   string // how the application proved itself; empty means not
	code                  bool   // by authorization code: no more is given than was asked for
}

// userTokens issues what a user's sign-in gives: access token, refresh token
// and, with the scope openid, an ID token.
func (s *Server) userTokens(g userGrant) (any, *entraError) {
	tenant, appID, userID, t, scopes := g.tenant, g.appID, g.userID, g.target, g.scopes
	u := s.st.Objects[userID]
	if u == nil || u.Removed != "" || u.Tenant != tenant {
		return nil, aadsts(http.StatusBadRequest, "invalid_grant", 50034, "The user account does not exist in the directory.")
	}
	if enabled, ok := get(u.Body, "accountEnabled").(bool); ok && !enabled {
		return nil, aadsts(http.StatusBadRequest, "invalid_grant", 50057, "The user account is disabled.")
	}
	if !t.plain && !s.consented(tenant, appID, t.appID) {
		return nil, aadsts(http.StatusBadRequest, "invalid_grant", 65001, "The user or administrator has not consented to use the application with ID '%s'.", appID)
	}
	scp := "user_impersonation"
	if t.appID == graphAppID {
		scp = "Directory.AccessAsUser.All Application.ReadWrite.All Directory.Read.All User.Read"
		if g.code && len(t.scopes) == 0 {
			scp = strings.Join(slices.DeleteFunc(slices.Clone(scopes), func(v string) bool { return v == "offline_access" }), " ")
		}
	}
	upn := text(u.Body, "userPrincipalName")
	o := TokenOptions{Tenant: tenant, Audience: t.aud, Version: t.version, AppID: appID, ObjectID: userID, UPN: upn, Name: text(u.Body, "displayName"), OnPremSID: text(u.Body, "onPremisesSecurityIdentifier"), Claims: map[string]any{"scp": scp}}
	if g.acr != "" {
		o.Claims["appidacr"] = g.acr
	}
	info, _ := json.Marshal(map[string]string{"uid": userID, "utid": tenant})
	more := map[string]any{"scope": strings.Join(scopes, " "), "client_info": base64.RawURLEncoding.EncodeToString(info)}
	if !g.code || slices.Contains(scopes, "offline_access") {
		refresh := rand.Text() + rand.Text()
		s.st.Refresh[secretHash(refresh)] = &refreshToken{Tenant: tenant, AppID: appID, UserID: userID, Expires: s.cfg.Now().Add(90 * 24 * time.Hour)}
		s.dirty = true
		more["refresh_token"] = refresh
	}
	if slices.Contains(scopes, "openid") {
		// An ID token has no upn (an access token of version 1 has), and profile
		// brings the names (azure.md 7).
		only := map[string]any{"scp": nil, "azp": nil, "azpacr": nil, "idtyp": nil, "upn": nil, "unique_name": nil, "onprem_sid": nil}
		if g.nonce != "" {
			only["nonce"] = g.nonce
		}
		if !slices.Contains(scopes, "profile") {
			only["name"], only["preferred_username"] = nil, nil
		}
		id, err := s.IssueToken(TokenOptions{Tenant: tenant, Audience: appID, Version: 2, AppID: appID, ObjectID: userID, UPN: upn, Name: o.Name, Claims: only})
		if err != nil {
			return nil, aadsts(http.StatusInternalServerError, "server_error", 90099, "%v", err)
		}
		more["id_token"] = id
	}
	return s.grant(o, more)
}

// ApproveDeviceCode completes or denies the sign-in that shows a user code.
// The user is named by object ID or user principal name.
func (s *Server) ApproveDeviceCode(userCode, user string, deny bool) error {
	s.world.Lock()
	defer s.world.Unlock()
	d := s.deviceCodeOf(userCode)
	if d == nil || d.Used {
		return labErrorf("user code %q is not known", userCode)
	}
	d.Denied = deny
	if !deny {
		u := s.findUser(d.Tenant, user)
		if u == nil {
			return labErrorf("user %q is not in tenant %s", user, d.Tenant)
		}
		d.UserID = u.ID
	}
	return s.save()
}
