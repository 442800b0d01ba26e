package azure

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

// replicationTries is how often a call is repeated that fails because the
// directory has not yet spread what was just made; there are c.poll, at most 5
// seconds, between two.
const replicationTries = 24

// A SecretTerm is how long a new app secret works.
type SecretTerm int

// The documented terms, in years. The zero value means one.
const (
	OneYear  SecretTerm = 1
	TwoYears SecretTerm = 2
)

func (t SecretTerm) end(now time.Time) (time.Time, error) {
	switch t {
	case 0, OneYear:
		return now.AddDate(1, 0, 0), nil
	case TwoYears:
		return now.AddDate(2, 0, 0), nil
	}
	return time.Time{}, opencmg.Errorf(opencmg.Invalid, "term of the secret: must be one or two years, not %d", t)
}

// ServerAppRequest asks for the server (web) app.
type ServerAppRequest struct {
	// Owner is the GUID of the site's record of this app. It is written into
	// the app's notes, so that a run that was cut off knows the app as its own
	// and finishes it; an app of the same name without it is left alone.
	Owner string
	Name  string
	// AppIDURI is api://<tenant ID>/<text> or https://<verified domain>/<text>.
	AppIDURI string
	// HomePage is the sign-on URL; empty means the App ID URI when that is an
	// https address, else http://localhost.
	HomePage string
	Term     SecretTerm
	// ReadDirectory also asks for Directory.Read.All, for the discovery of
	// users and groups, and tries to consent.
	ReadDirectory bool
	// WebRedirects are where people who signed in come back to, such as the
	// console; see [WebSignIn].
	WebRedirects []string
}

// A ServerApp is a finished server app.
type ServerApp struct {
	// ObjectID, AppID (the client ID) and PrincipalID are three different IDs.
	ObjectID, AppID, PrincipalID string
	Name, AppIDURI               string
	ScopeID                      string // of user_impersonation
	Secret                       NewSecret
	// Consent tells whether the directory permission was granted; nil when it
	// was not asked for. A refusal does not make the app useless.
	Consent *opencmg.Check
}

// A NewSecret is an app secret just made. Its value can never be read again.
type NewSecret struct {
	KeyID   string
	Value   Secret
	Expires time.Time
}

// ClientAppRequest asks for the native (client) app.
type ClientAppRequest struct {
	Owner string // as in ServerAppRequest
	Name  string
	// ServerAppID and ScopeID are of the server app.
	ServerAppID, ScopeID string
}

// A ClientApp is a finished native app.
type ClientApp struct {
	ObjectID, AppID, PrincipalID string
	Name                         string
	// Consent tells whether all users may use it without being asked.
	Consent opencmg.Check
}

func ownerNote(owner string) string { return "OpenCMG " + strings.ToLower(owner) }

// redirectURI is where the Windows broker returns to.
func redirectURI(appID string) string { return "ms-appx-web://Microsoft.AAD.BrokerPlugin/" + appID }

// localRedirect is where administrators return to who sign in on their own
// machine.
const localRedirect = "http://localhost"

type webApplication struct {
	HomePageURL           string   `json:"homePageUrl,omitempty"`
	RedirectURIs          []string `json:"redirectUris,omitempty"`
	ImplicitGrantSettings *struct {
		EnableIDTokenIssuance bool `json:"enableIdTokenIssuance"`
	} `json:"implicitGrantSettings,omitempty"`
}

func idTokens(w webApplication) *webApplication {
	w.ImplicitGrantSettings = &struct {
		EnableIDTokenIssuance bool `json:"enableIdTokenIssuance"`
	}{true}
	return &w
}

// newApplication is the body of a creation.
type newApplication struct {
	DisplayName               string                   `json:"displayName"`
	SignInAudience            string                   `json:"signInAudience"`
	Notes                     string                   `json:"notes"`
	IdentifierURIs            []string                 `json:"identifierUris,omitempty"`
	Web                       *webApplication          `json:"web,omitempty"`
	API                       *newAPI                  `json:"api,omitempty"`
	IsDeviceOnlyAuthSupported bool                     `json:"isDeviceOnlyAuthSupported,omitempty"`
	IsFallbackPublicClient    bool                     `json:"isFallbackPublicClient,omitempty"`
	RequiredResourceAccess    []requiredResourceAccess `json:"requiredResourceAccess,omitempty"`
}

type newAPI struct {
	Scopes []permissionScope `json:"oauth2PermissionScopes"`
}

// CreateServerApp makes the server app with its secret, its service principal
// and, if asked, the consent to read the directory. A run that was cut off is
// finished by calling again with the same Owner and Name: the app is found,
// secrets whose values were lost are removed, and a new one is made.
func (c *Client) CreateServerApp(ctx context.Context, r ServerAppRequest, p opencmg.Progress) (ServerApp, error) {
	doing := "create server app " + r.Name
	now := c.now().UTC()
	end, err := r.Term.end(now)
	if err != nil {
		return ServerApp{}, err
	}
	if !opencmg.IsGUID(r.Owner) || strings.TrimSpace(r.Name) == "" {
		return ServerApp{}, opencmg.Errorf(opencmg.Invalid, "%s: needs a name and a GUID as owner", doing)
	}
	if !strings.HasPrefix(r.AppIDURI, "api://") && !strings.HasPrefix(r.AppIDURI, "https://") {
		return ServerApp{}, opencmg.Errorf(opencmg.Invalid, "App ID URI %q: must be api://<tenant ID>/<text> or https://<verified domain>/<text>", r.AppIDURI)
	}
	home := r.HomePage
	if home == "" {
		if home = "http://localhost"; strings.HasPrefix(r.AppIDURI, "https://") {
			home = r.AppIDURI
		}
	}
	body := newApplication{
		DisplayName: r.Name, SignInAudience: "AzureADMyOrg", Notes: ownerNote(r.Owner),
		IdentifierURIs: []string{r.AppIDURI},
		Web:            idTokens(webApplication{HomePageURL: home, RedirectURIs: append([]string{localRedirect}, r.WebRedirects...)}),
		API: &newAPI{Scopes: []permissionScope{{
			ID: newGUID(), Value: userImpersonation, Type: "User", IsEnabled: true,
			AdminConsentDisplayName: "Access " + r.Name,
			AdminConsentDescription: "Allow the application to access " + r.Name + " on behalf of the signed-in user.",
		}}},
		// Devices may get tokens without a user.
		IsDeviceOnlyAuthSupported: true,
	}
	if r.ReadDirectory {
		body.RequiredResourceAccess = []requiredResourceAccess{{graphAppID, []resourceAccess{{roleDirectoryReadAll, "Role"}}}}
	}
	app, found, err := c.ensureApp(ctx, r.Name, r.Owner, body, p)
	if err != nil {
		return ServerApp{}, c.fail(ctx, doing, err)
	}
	made := ServerApp{ObjectID: app.ID, AppID: app.AppID, Name: r.Name, AppIDURI: r.AppIDURI}
	for _, s := range app.API.Scopes {
		if s.Value == userImpersonation {
			made.ScopeID = s.ID
		}
	}
	if made.ScopeID == "" && !found {
		made.ScopeID = body.API.Scopes[0].ID
	}
	if made.ScopeID == "" || found && !slices.Contains(app.IdentifierURIs, r.AppIDURI) {
		return ServerApp{}, opencmg.Errorf(opencmg.Conflict, "%s: an app of an earlier try exists with another App ID URI or without the scope %s; delete the app %s in the portal and try again", doing, userImpersonation, app.AppID)
	}
	if made.PrincipalID, err = c.ensurePrincipal(ctx, app.AppID, p); err != nil {
		return ServerApp{}, c.fail(ctx, doing, err)
	}
	if found {
		for _, old := range app.PasswordCredentials {
			if err := c.RemoveSecret(ctx, app.ID, old.KeyID); err != nil {
				return ServerApp{}, err
			}
		}
	}
	tell(p, "secret", "secret until "+end.Format(time.DateOnly))
	if made.Secret, err = c.addPassword(ctx, app.ID, end); err != nil {
		return ServerApp{}, c.fail(ctx, doing, err)
	}
	if r.ReadDirectory {
		made.Consent = ptr(c.consentDirectory(ctx, made.PrincipalID, p))
	}
	if ctx.Err() != nil {
		return ServerApp{}, ctx.Err()
	}
	return made, nil
}

// CreateClientApp makes the native app, its service principal and the consent
// for all users. Calling it again finishes what was cut off.
func (c *Client) CreateClientApp(ctx context.Context, r ClientAppRequest, p opencmg.Progress) (ClientApp, error) {
	doing := "create client app " + r.Name
	if !opencmg.IsGUID(r.Owner) || !opencmg.IsGUID(r.ServerAppID) || !opencmg.IsGUID(r.ScopeID) || strings.TrimSpace(r.Name) == "" {
		return ClientApp{}, opencmg.Errorf(opencmg.Invalid, "%s: needs a name and GUIDs as owner, server app and scope", doing)
	}
	app, _, err := c.ensureApp(ctx, r.Name, r.Owner, newApplication{
		DisplayName: r.Name, SignInAudience: "AzureADMyOrg", Notes: ownerNote(r.Owner),
		IsFallbackPublicClient: true,
		Web:                    idTokens(webApplication{}),
		RequiredResourceAccess: []requiredResourceAccess{
			{r.ServerAppID, []resourceAccess{{r.ScopeID, "Scope"}}},
			{graphAppID, []resourceAccess{{scopeUserRead, "Scope"}}},
		},
	}, p)
	if err != nil {
		return ClientApp{}, c.fail(ctx, doing, err)
	}
	made := ClientApp{ObjectID: app.ID, AppID: app.AppID, Name: r.Name}
	if want := redirectURI(app.AppID); !slices.Contains(app.PublicClient.RedirectURIs, want) {
		tell(p, "redirect", want)
		if err := c.patchApp(ctx, app.ID, object{"publicClient": object{"redirectUris": append(app.PublicClient.RedirectURIs, want)}}); err != nil {
			return ClientApp{}, c.fail(ctx, doing, err)
		}
	}
	if made.PrincipalID, err = c.ensurePrincipal(ctx, app.AppID, p); err != nil {
		return ClientApp{}, c.fail(ctx, doing, err)
	}
	made.Consent = c.consentUsers(ctx, made.PrincipalID, r.ServerAppID, p)
	if ctx.Err() != nil {
		return ClientApp{}, ctx.Err()
	}
	return made, nil
}

// ensureApp finds the owner's app of a name or creates it. An app of the name
// that is somebody else's is left alone, and is an error: the people who
// consent would not know which is which.
func (c *Client) ensureApp(ctx context.Context, name, owner string, body newApplication, p opencmg.Progress) (app application, found bool, err error) {
	same, err := c.appsWhere(ctx, equals("displayName", name))
	if err != nil {
		return app, false, err
	}
	for _, a := range same {
		if a.Notes == ownerNote(owner) {
			tell(p, "app", "app "+a.AppID+" of an earlier try is finished")
			return a, true, nil
		}
	}
	if len(same) > 0 {
		return app, false, opencmg.Errorf(opencmg.Conflict, "an app of this name exists already (client ID %s): import it, or choose another name", same[0].AppID)
	}
	tell(p, "app", "app "+name)
	if err := c.graphPost(ctx, "/applications", body, &app); err != nil {
		return app, false, err
	}
	c.log.InfoContext(ctx, "app created", "name", name, "client_id", app.AppID)
	return app, false, nil
}

// replicate repeats a call while the directory does not know a new object.
func (c *Client) replicate(ctx context.Context, f func() error) error {
	for try := 1; ; try++ {
		err := f()
		fresh := status(err) == http.StatusNotFound || isCode(err, "Request_ResourceNotFound", "NoBackingApplicationObject") ||
			// This one can mean anything, so it is not waited for as long.
			isCode(err, "Request_BadRequest") && try <= replicationTries/4
		if err == nil || !fresh || try == replicationTries {
			return err
		}
		if err := sleep(ctx, min(c.poll, 5*time.Second)); err != nil {
			return err
		}
	}
}

// ensurePrincipal finds or creates an app's service principal. Just after the
// app was made that fails for seconds.
func (c *Client) ensurePrincipal(ctx context.Context, appID string, p opencmg.Progress) (string, error) {
	sp, err := c.principal(ctx, appID)
	if err != nil {
		return "", err
	}
	if sp != nil {
		return sp.ID, nil
	}
	tell(p, "principal", "service principal of "+appID)
	var made principal
	err = c.replicate(ctx, func() error {
		err := c.graphPost(ctx, "/servicePrincipals", object{"appId": appID}, &made)
		if status(err) == http.StatusConflict || isCode(err, "Request_MultipleObjectsWithSameKeyValue") {
			// A forerunner's call got through after all.
			sp, ferr := c.principal(ctx, appID)
			if ferr == nil && sp != nil {
				made, err = *sp, nil
			}
		}
		return err
	})
	return made.ID, err
}

func (c *Client) patchApp(ctx context.Context, objectID string, change object) error {
	return c.replicate(ctx, func() error {
		_, err := call(ctx, c.graph, http.MethodPatch, c.graphURL("/applications/"+objectID), change, nil)
		return err
	})
}

// DeleteApp deletes an app registration with its service principal; a missing
// one is fine. Entra keeps it for 30 days.
func (c *Client) DeleteApp(ctx context.Context, objectID string) error {
	_, err := call(ctx, c.graph, http.MethodDelete, c.graphURL("/applications/"+objectID), nil, nil)
	if isNotFound(err) {
		return nil
	}
	return c.fail(ctx, "delete app "+objectID, err)
}

// AppSettings are what [Client.UpdateApplicationSettings] can change.
type AppSettings struct {
	// DeviceTokens lets devices get tokens without a user.
	DeviceTokens bool
	// ReadDirectory asks for Directory.Read.All and tries to consent.
	ReadDirectory bool
	// LocalRedirect lets administrators sign in through the app from their own
	// machine (http://localhost), which apps from before 2309 lack.
	LocalRedirect bool
	// WebRedirects are as in [ServerAppRequest].
	WebRedirects []string
}

// UpdateApplicationSettings brings an older server app up to date: it only
// adds. It tells whether the directory permission was granted, if asked for.
func (c *Client) UpdateApplicationSettings(ctx context.Context, appID string, s AppSettings, p opencmg.Progress) (*opencmg.Check, error) {
	doing := "update app " + appID
	app, err := c.appByID(ctx, appID)
	if err == nil && app == nil {
		err = &opencmg.CloudError{Code: "Request_ResourceNotFound", Message: "the tenant has no such app", Target: appID, Status: http.StatusNotFound}
	}
	if err != nil {
		return nil, c.fail(ctx, doing, err)
	}
	change := object{}
	if s.DeviceTokens && !deref(app.IsDeviceOnlyAuthSupported) {
		change["isDeviceOnlyAuthSupported"] = true
	}
	wanted := s.WebRedirects
	if s.LocalRedirect {
		wanted = append([]string{localRedirect}, wanted...)
	}
	redirects := app.Web.RedirectURIs
	for _, uri := range wanted {
		if !slices.Contains(redirects, uri) {
			redirects = append(redirects, uri)
			change["web"] = object{"redirectUris": redirects}
		}
	}
	if s.ReadDirectory {
		access := app.RequiredResourceAccess
		i := slices.IndexFunc(access, func(r requiredResourceAccess) bool { return r.ResourceAppID == graphAppID })
		if i < 0 {
			access = append(access, requiredResourceAccess{ResourceAppID: graphAppID})
			i = len(access) - 1
		}
		if want := (resourceAccess{roleDirectoryReadAll, "Role"}); !slices.Contains(access[i].ResourceAccess, want) {
			access[i].ResourceAccess = append(access[i].ResourceAccess, want)
			change["requiredResourceAccess"] = access
		}
	}
	if len(change) > 0 {
		tell(p, "app", "settings of app "+appID)
		if err := c.patchApp(ctx, app.ID, change); err != nil {
			return nil, c.fail(ctx, doing, err)
		}
	}
	if !s.ReadDirectory {
		return nil, nil
	}
	sp, err := c.ensurePrincipal(ctx, appID, p)
	if err != nil {
		return nil, c.fail(ctx, doing, err)
	}
	return ptr(c.consentDirectory(ctx, sp, p)), nil
}

// newGUID makes a random GUID.
func newGUID() string {
	var b [16]byte
	rand.Read(b[:])
	return guid(b)
}

// guid writes 16 bytes as a GUID of RFC 9562's version 4.
func guid(b [16]byte) string {
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
