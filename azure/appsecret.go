package azure

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

// passwordCredential is what can be read of an app's secret.
type passwordCredential struct {
	KeyID       string    `json:"keyId"`
	EndDateTime time.Time `json:"endDateTime"`
}

func (c *Client) addPassword(ctx context.Context, objectID string, end time.Time) (NewSecret, error) {
	var made struct {
		KeyID       string    `json:"keyId"`
		EndDateTime time.Time `json:"endDateTime"`
		SecretText  string    `json:"secretText"`
	}
	body := object{"passwordCredential": object{
		"displayName": "OpenCMG " + c.now().UTC().Format(time.DateOnly),
		"endDateTime": end.UTC().Truncate(time.Second).Format(time.RFC3339),
	}}
	err := c.replicate(ctx, func() error { return c.graphPost(ctx, "/applications/"+objectID+"/addPassword", body, &made) })
	if err != nil {
		return NewSecret{}, err
	}
	if made.SecretText == "" || made.KeyID == "" {
		return NewSecret{}, opencmg.Errorf(opencmg.Unavailable, "the directory's answer holds no secret; try again")
	}
	return NewSecret{KeyID: made.KeyID, Value: Secret(made.SecretText), Expires: made.EndDateTime}, nil
}

// RenewSecret adds a secret to an app, by its client ID, and returns when a
// token was got with it, which can take a minute. The old secret still works:
// the caller stores the new one first and then removes the old one with
// [Client.RemoveSecret]. If the new one never works it is removed again.
func (c *Client) RenewSecret(ctx context.Context, appID string, term SecretTerm) (NewSecret, error) {
	doing := "renew the secret of app " + appID
	end, err := term.end(c.now().UTC())
	if err != nil {
		return NewSecret{}, err
	}
	app, err := c.appByID(ctx, appID)
	if err == nil && app == nil {
		err = &opencmg.CloudError{Code: "Request_ResourceNotFound", Message: "the tenant has no such app", Target: appID, Status: http.StatusNotFound}
	}
	if err != nil {
		return NewSecret{}, c.fail(ctx, doing, err)
	}
	made, err := c.addPassword(ctx, app.ID, end)
	if err != nil {
		return NewSecret{}, c.fail(ctx, doing, err)
	}
	if err := c.trySecret(ctx, appID, made.Value); err != nil {
		if rerr := c.RemoveSecret(ctx, app.ID, made.KeyID); rerr != nil {
			c.log.WarnContext(ctx, "a secret that does not work stays with the app", "client_id", appID, "key_id", made.KeyID, "err", rerr)
		}
		return NewSecret{}, fmt.Errorf("%s: %w", doing, err)
	}
	return made, nil
}

// trySecret signs in with a new secret until Entra knows it.
func (c *Client) trySecret(ctx context.Context, appID string, secret Secret) error {
	for try := 1; ; try++ {
		// A client of its own, because failures are not to be cached.
		other, err := c.as(Credential{ClientID: appID, Secret: secret})
		if err != nil {
			return err
		}
		err = other.SignInGraph(ctx)
		if err == nil || try == replicationTries || !isCode(err, "AADSTS7000215") {
			return err
		}
		if err := sleep(ctx, min(c.poll, 5*time.Second)); err != nil {
			return err
		}
	}
}

// as is a client of the same tenant with another credential.
func (c *Client) as(how Credential) (*Client, error) {
	return New(Config{Environment: c.env.Environment, TenantID: c.tenant, SubscriptionID: c.sub, Credential: how, HTTP: c.http, Log: c.log, Now: c.now, PollFrequency: c.poll})
}

// RemoveSecret removes a secret from an app, by the app's object ID; a missing
// one is fine.
func (c *Client) RemoveSecret(ctx context.Context, objectID, keyID string) error {
	_, err := call(ctx, c.graph, http.MethodPost, c.graphURL("/applications/"+objectID+"/removePassword"), object{"keyId": keyID}, nil)
	if isNotFound(err) || isCode(err, "Request_BadRequest") && status(err) == http.StatusBadRequest && !c.hasSecret(ctx, objectID, keyID) {
		return nil
	}
	return c.fail(ctx, "remove secret "+keyID+" from app "+objectID, err)
}

// hasSecret looks whether an app still has a secret; true when nobody knows.
func (c *Client) hasSecret(ctx context.Context, objectID, keyID string) bool {
	var app application
	if err := c.graphGet(ctx, c.graphURL("/applications/"+objectID), &app); err != nil {
		return true
	}
	return slices.ContainsFunc(app.PasswordCredentials, func(p passwordCredential) bool { return p.KeyID == keyID })
}

// VerifyRequest names an imported pair of apps. The client's own credential
// must be the server app's.
type VerifyRequest struct {
	ServerAppID string
	// AppIDURI is compared if it is set and the app can be read.
	AppIDURI string
	// ClientAppID is the native app; may be empty.
	ClientAppID string
	// SecretExpires is the date that the administrator typed in; compared if
	// set and readable.
	SecretExpires time.Time
}

// VerifyServerApp examines an imported server app by using it: tokens for the
// directory and for Resource Manager, and what is in them; and, if the app may
// read the directory, its registration and the native app's. It never stops at
// the first failure.
func (c *Client) VerifyServerApp(ctx context.Context, r VerifyRequest) ([]opencmg.Check, error) {
	if !opencmg.IsGUID(r.ServerAppID) {
		return nil, opencmg.Errorf(opencmg.Invalid, "server app %q: must be a GUID; the portal shows it as Application (client) ID", r.ServerAppID)
	}
	k := &checker{c: c}
	for _, t := range []struct{ id, name, scope string }{
		{"token-graph", "Token for the directory", c.env.graphScope()},
		{"token-arm", "Token for Resource Manager", c.env.armScope()},
	} {
		token, err := c.accessToken(ctx, t.scope)
		if err != nil {
			k.failed(ctx, t.id, t.name, err)
			continue
		}
		k.token(t.id, t.name, token, c.tenant, r.ServerAppID)
	}
	if r.ClientAppID != "" {
		switch {
		case !opencmg.IsGUID(r.ClientAppID):
			k.fail("client-app", "Client app", r.ClientAppID+" is no GUID", "give the Application (client) ID of the native app")
		case strings.EqualFold(r.ClientAppID, r.ServerAppID):
			k.fail("client-app", "Client app", "client and server app are the same", "give the Application (client) ID of the native app")
		default:
			k.pass("client-app", "Client app", r.ClientAppID)
		}
	}
	k.registration(ctx, r)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return k.checks, nil
}

// token compares the claims of a token that came from the identity service
// itself, over TLS; so its signature is not examined.
func (k *checker) token(id, name, token, tenant, appID string) {
	var claims struct {
		TenantID string `json:"tid"`
		AppID    string `json:"appid"`
		AZP      string `json:"azp"`
	}
	parts := strings.Split(token, ".")
	if len(parts) == 3 {
		if body, err := base64.RawURLEncoding.DecodeString(parts[1]); err != nil || json.Unmarshal(body, &claims) != nil {
			parts = nil
		}
	}
	if claims.AppID == "" {
		claims.AppID = claims.AZP
	}
	switch {
	case len(parts) != 3:
		k.checks = append(k.checks, opencmg.Check{ID: id, Name: name, State: opencmg.CheckTodo, Evidence: "a token came, but its claims can not be read", NextStep: "nothing, if the other checks pass"})
	case !strings.EqualFold(claims.TenantID, tenant):
		k.fail(id, name, "the token is of tenant "+claims.TenantID+", not "+tenant, "check the tenant ID")
	case !strings.EqualFold(claims.AppID, appID):
		k.fail(id, name, "the token is of app "+claims.AppID+", not "+appID, "check the client ID")
	default:
		k.pass(id, name, "tenant and app fit")
	}
}

// registration compares what the directory says about the apps.
func (k *checker) registration(ctx context.Context, r VerifyRequest) {
	app, err := k.c.appByID(ctx, r.ServerAppID)
	if err == nil && app == nil {
		err = &opencmg.CloudError{Code: "Request_ResourceNotFound", Message: "the tenant has no such app", Target: r.ServerAppID, Status: http.StatusNotFound}
	}
	if err != nil {
		k.failed(ctx, "registration", "Registration of the server app", err)
		// Without Directory.Read.All nobody can look; the app may be fine.
		if last := &k.checks[len(k.checks)-1]; last.State == opencmg.CheckTodo && status(err) == http.StatusForbidden {
			last.NextStep = "compare App ID URI, scope and secret in the portal, or grant the app Directory.Read.All"
		}
		return
	}
	uris := strings.Join(app.IdentifierURIs, ", ")
	switch {
	case r.AppIDURI == "":
	case slices.Contains(app.IdentifierURIs, r.AppIDURI):
		k.pass("app-id-uri", "App ID URI", r.AppIDURI)
	default:
		k.fail("app-id-uri", "App ID URI", "the app has "+uris+", not "+r.AppIDURI, "correct the App ID URI here or at the app")
	}
	if slices.ContainsFunc(app.API.Scopes, func(s permissionScope) bool { return s.Value == userImpersonation && s.IsEnabled }) {
		k.pass("scope", "Scope", userImpersonation)
	} else {
		k.fail("scope", "Scope", "the app exposes no enabled scope "+userImpersonation, "add the scope in the portal: Expose an API")
	}
	var ends []string
	fits := false
	for _, s := range app.PasswordCredentials {
		ends = append(ends, s.EndDateTime.UTC().Format(time.DateOnly))
		fits = fits || s.EndDateTime.UTC().Format(time.DateOnly) == r.SecretExpires.UTC().Format(time.DateOnly)
	}
	switch {
	case r.SecretExpires.IsZero():
	case fits:
		k.pass("secret-end", "End of the secret", r.SecretExpires.UTC().Format(time.DateOnly))
	default:
		k.fail("secret-end", "End of the secret", "the app's secrets end on: "+strings.Join(ends, ", "), "correct the date, or the reminder will come at the wrong time")
	}
	if r.ClientAppID == "" || !opencmg.IsGUID(r.ClientAppID) {
		return
	}
	native, err := k.c.appByID(ctx, r.ClientAppID)
	switch {
	case err != nil:
		k.failed(ctx, "client-registration", "Registration of the client app", err)
	case native == nil:
		k.fail("client-registration", "Registration of the client app", "the tenant has no such app", "check the client ID of the native app")
	case !slices.ContainsFunc(native.PublicClient.RedirectURIs, func(u string) bool { return strings.EqualFold(u, redirectURI(r.ClientAppID)) }):
		k.fail("client-registration", "Registration of the client app", "the redirect URI "+redirectURI(r.ClientAppID)+" is missing", "add it in the portal: Authentication, Mobile and desktop applications")
	case !deref(native.IsFallbackPublicClient):
		k.fail("client-registration", "Registration of the client app", "public client flows are off", "allow public client flows in the portal: Authentication")
	default:
		k.pass("client-registration", "Registration of the client app", "redirect URI and public client flows fit")
	}
}
