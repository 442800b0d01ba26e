package site

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/azure"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/site/console"
)

// Administrators sign in to the console by Microsoft Entra ID: OpenID Connect's
// authorization code flow with PKCE, through the server app of a tenant.

// entraCallback is where Entra sends the browser back to, below the site's URL.
const entraCallback = "/console/sign-in/entra/callback"

const (
	// entraPendingLasts is how long a person may take to sign in.
	entraPendingLasts = 10 * time.Minute
	maxEntraPending   = 3500 // bytes of a pending sign-in; browsers keep cookies of 4096
)

// entraRedirect is the redirect URI of the console; empty when the site does not
// know its own address.
func (s *Server) entraRedirect() string {
	if s.cfg.URL == "" {
		return ""
	}
	return strings.TrimSuffix(s.cfg.URL, "/") + entraCallback
}

// webRedirects are the redirect URIs that the server app of a site needs.
func (s *Server) webRedirects() []string {
	if uri := s.entraRedirect(); uri != "" {
		return []string{uri}
	}
	return nil
}

// entraApps lists one server app of each tenant whose authentication is on, by
// the tenant's name: that of its Azure service before others.
func (s *Server) entraApps(ctx context.Context) ([]console.EntraChoice, error) {
	if s.entraRedirect() == "" {
		return nil, nil
	}
	apps, err := readAll[applicationRecord](ctx, s.db, kindApplication)
	if err != nil {
		return nil, err
	}
	tenants, err := readAll[tenantRecord](ctx, s.db, kindTenant)
	if err != nil {
		return nil, err
	}
	services, err := readAll[azureServiceRecord](ctx, s.db, kindAzureService)
	if err != nil {
		return nil, err
	}
	connected := func(a *record[applicationRecord]) bool {
		return slices.ContainsFunc(services, func(v *record[azureServiceRecord]) bool { return v.Value.ServerAppID == a.ID })
	}
	var list []console.EntraChoice
	for _, t := range tenants {
		var chosen *record[applicationRecord]
		for _, a := range apps {
			if a.Value.TenantID == t.ID && a.Value.Kind == adminservice.ServerApplication && (chosen == nil || !connected(chosen) && connected(a)) {
				chosen = a
			}
		}
		if chosen != nil && !t.Value.Disabled {
			list = append(list, console.EntraChoice{ID: chosen.ID, Tenant: t.Name, Redirect: s.entraRedirect()})
		}
	}
	slices.SortFunc(list, func(a, b console.EntraChoice) int { return strings.Compare(a.Tenant, b.Tenant) })
	return list, nil
}

// pendingEntra is a sign-in that waits for its person. The browser keeps it,
// sealed, in a cookie: that binds the sign-in to the browser that began it, which
// memory here would need a cookie for too, and strangers who begin sign-ins
// without end cost no memory. Who starts the site again asks for another try.
type pendingEntra struct {
	App      string    `json:"a"` // ID of its record
	State    string    `json:"s"`
	Nonce    string    `json:"n"`
	Verifier string    `json:"v"`
	Redirect string    `json:"r"`
	Next     string    `json:"p,omitempty"` // the page that was wanted
	Expires  time.Time `json:"e"`
}

func (p *pendingEntra) web() azure.WebSignIn {
	return azure.WebSignIn{RedirectURI: p.Redirect, State: p.State, Nonce: p.Nonce, Verifier: p.Verifier}
}

// A sealer keeps text that others carry: they can neither read nor change it.
type sealer struct{ aead cipher.AEAD }

// newSealer makes one with a key that ends with the process.
func newSealer() (*sealer, error) {
	var key [32]byte
	rand.Read(key[:])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &sealer{aead}, nil
}

func (s *sealer) seal(purpose string, text []byte) string {
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nil, nil, text, []byte(purpose)))
}

func (s *sealer) open(purpose, sealed string) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	if err != nil {
		return nil, err
	}
	return s.aead.Open(nil, nil, b, []byte(purpose))
}

const purposeEntra = "sign-in by Entra"

// errEntraAgain is all that is said about a sign-in that is not the one that
// was begun.
var errEntraAgain = opencmg.Errorf(opencmg.Unauthorized, "this sign-in was not begun in this browser, or more than %d minutes ago, or the site was started again meanwhile: begin again", entraPendingLasts/time.Minute)

// signInApp is a server app as people sign in through it.
func (s *Server) signInApp(ctx context.Context, id string) (*record[applicationRecord], *record[tenantRecord], Directory, error) {
	app, err := read[applicationRecord](ctx, s.db, kindApplication, id)
	if errors.Is(err, opencmg.NotFound) || err == nil && app.Value.Kind != adminservice.ServerApplication {
		return nil, nil, nil, opencmg.Errorf(opencmg.Unauthorized, "there is no server application %q to sign in through: choose one that the page offers", id)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	t, err := read[tenantRecord](ctx, s.db, kindTenant, app.Value.TenantID)
	if err != nil {
		return nil, nil, nil, err
	}
	if t.Value.Disabled {
		return nil, nil, nil, opencmg.Errorf(opencmg.Unauthorized, "authentication is off for tenant %s: sign in with a certificate or a local token, and switch it on", t.Name)
	}
	in, err := s.signInAs(ctx, app, "")
	if err != nil {
		return nil, nil, nil, err
	}
	dir, err := s.cfg.Directory(in)
	return app, t, dir, err
}

// beginEntra begins a sign-in through a server app: target is where the browser
// goes, pending what it must bring back, in a cookie of its own. next is the page
// that was wanted; one with too long an address is forgotten.
func (s *Server) beginEntra(ctx context.Context, appID, next string) (target, pending string, err error) {
	redirect := s.entraRedirect()
	if redirect == "" {
		return "", "", opencmg.Errorf(opencmg.Unauthorized, "the site does not know its own address, to which Entra sends people back: set url in its configuration")
	}
	app, _, dir, err := s.signInApp(ctx, appID)
	if err != nil {
		return "", "", err
	}
	p := pendingEntra{App: app.ID, State: rand.Text(), Nonce: rand.Text(), Verifier: newSecret(), Redirect: redirect, Next: next, Expires: s.cfg.Now().Add(entraPendingLasts)}
	pending = s.sealer.seal(purposeEntra, mustJSON(p))
	if len(pending) > maxEntraPending {
		p.Next = ""
		pending = s.sealer.seal(purposeEntra, mustJSON(p))
	}
	return dir.SignInURL(p.web()), pending, nil
}

// openPending opens what a browser brought back of a sign-in that was begun here.
func (s *Server) openPending(pending string) (p pendingEntra, err error) {
	if len(pending) > maxEntraPending {
		return p, errEntraAgain
	}
	text, err := s.sealer.open(purposeEntra, pending)
	if err != nil || json.Unmarshal(text, &p) != nil {
		return pendingEntra{}, errEntraAgain
	}
	return p, nil
}

// completeEntra ends a sign-in with what the browser brought back, and returns
// the administrator's account. Refusals are opencmg.Unauthorized and may be shown.
func (s *Server) completeEntra(ctx context.Context, p pendingEntra, query url.Values) (*record[accountRecord], error) {
	if query.Get("code") == "" && query.Get("error") == "" || !s.cfg.Now().Before(p.Expires) ||
		subtle.ConstantTimeCompare([]byte(query.Get("state")), []byte(p.State)) != 1 {
		return nil, errEntraAgain
	}
	app, t, dir, err := s.signInApp(ctx, p.App)
	if err != nil {
		return nil, err
	}
	ends, err := azure.EndpointsOf(t.Value.Environment)
	if err != nil {
		return nil, err
	}
	var token string
	if err = azure.SignInRefusal(query); err == nil {
		token, err = dir.RedeemCode(ctx, p.web(), query.Get("code"))
	}
	if err != nil {
		return nil, entraRefusal(err, ends, app, p.Redirect)
	}
	id, err := s.jwks.VerifyIDToken(ctx, token, pki.IDTokenWanted{Authority: ends.Authority + t.ID + "/v2.0", TenantID: t.ID, ClientID: app.Value.ClientID, Nonce: p.Nonce}, s.cfg.Now())
	if err != nil {
		return nil, opencmg.Errorf(opencmg.Unauthorized, "what Entra says about you is not accepted: %w", err)
	}
	accounts, err := readAll[accountRecord](ctx, s.db, kindAccount)
	if err != nil {
		return nil, err
	}
	if a := accountOfEntra(accounts, id.TenantID, id.ObjectID); a != nil {
		return a, nil
	}
	return nil, strangerRefusal(id)
}

// signInPerson ends a sign-in by Entra with a session of the console.
func (s *Server) signInPerson(r *http.Request, pending string, query url.Values) (cookie, next string, err error) {
	cookie, err = s.guarded(r, func() (string, error) {
		p, err := s.openPending(pending)
		if err != nil {
			return "", err
		}
		next = p.Next
		a, err := s.completeEntra(r.Context(), p, query)
		if err != nil {
			return "", err
		}
		return s.beginSession(r.Context(), a.ID, time.Time{})
	})
	return cookie, next, err
}

// accountOfEntra finds the account of a user of a tenant, nil when there is none.
func accountOfEntra(accounts []*record[accountRecord], tenantID, objectID string) *record[accountRecord] {
	for _, a := range accounts {
		if a.Value.EntraObjectID != "" && strings.EqualFold(a.Value.EntraObjectID, objectID) && strings.EqualFold(a.Value.EntraTenantID, tenantID) {
			return a
		}
	}
	return nil
}

// strangerRefusal tells a person who is known to Entra, but not here, what a Full
// Administrator needs to know. The name is chosen by others, so it is quoted.
func strangerRefusal(id pki.IDToken) error {
	return opencmg.Errorf(opencmg.Unauthorized, "%q is user %s of tenant %s, who is no administrator of this site. A Full Administrator adds the account with: %s",
		id.Username, id.ObjectID, id.TenantID, "opencmg account add --name NAME --role ROLE --entra-tenant "+id.TenantID+" --entra-user "+id.ObjectID)
}

// entraRefusal says what has to be changed in Entra.
func entraRefusal(err error, ends azure.Endpoints, app *record[applicationRecord], redirect string) error {
	what := ""
	if ce, ok := errors.AsType[*opencmg.CloudError](err); ok {
		switch {
		case ce.Code == azure.CodeUnreachable || ce.Status >= 500:
			return opencmg.Errorf(opencmg.Unavailable, "sign-in by Entra: %w", err)
		case ce.Has("AADSTS50011") || ce.Has("AADSTS500112") || ce.Has("AADSTS700025"):
			what = fmt.Sprintf("add the redirect URI %s of platform Web to the app registration %s (%s) under Authentication, or run: %s", redirect, app.Name, app.Value.ClientID, "opencmg application update-server --tenant-id "+app.Value.TenantID)
		case ce.Has("AADSTS65001") || ce.Has("AADSTS90094") || ce.Has("consent_required"):
			what = fmt.Sprintf("an administrator of the tenant consents to app %s, which sees who signs in (openid, profile), at %s%s/adminconsent?client_id=%s", app.Name, ends.Authority, app.Value.TenantID, app.Value.ClientID)
		}
		if what != "" {
			said := *ce
			said.NextStep = what
			return opencmg.Errorf(opencmg.Unauthorized, "sign-in by Entra: %w", &said)
		}
	}
	return opencmg.Errorf(opencmg.Unauthorized, "sign-in by Entra: %w", err)
}
