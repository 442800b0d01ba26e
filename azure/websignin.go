package azure

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/go-jose/go-jose/v4"

	"github.com/opencmg/opencmg"
)

// A WebSignIn is the sign-in of a person in a browser, by OpenID Connect's
// authorization code flow with PKCE (RFC 7636). All must be set.
type WebSignIn struct {
	// RedirectURI is where Entra sends the browser back to; the app registration
	// must have exactly it, as a redirect URI of a web application.
	RedirectURI string
	// State comes back with the browser, Nonce in the ID token. Both are random.
	State, Nonce string
	// Verifier proves at the end that who redeems the code began the sign-in;
	// only its digest is sent here. 43 to 128 letters, digits and -._~.
	Verifier string
}

// webScopes ask for who it is, and for nothing else.
const webScopes = "openid profile"

const (
	webSignInTimeout = 30 * time.Second
	maxTokenAnswer   = 256 << 10
)

// SignInURL is where a person's browser goes to sign in through the app that the
// client is. It holds no secret.
func (c *Client) SignInURL(w WebSignIn) string {
	sum := sha256.Sum256([]byte(w.Verifier))
	return c.oauthURL("authorize") + "?" + url.Values{
		"client_id": {c.how.ClientID}, "response_type": {"code"}, "response_mode": {"query"}, "redirect_uri": {w.RedirectURI}, "scope": {webScopes},
		"state": {w.State}, "nonce": {w.Nonce}, "code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
		// Who has two accounts is asked which one, instead of being refused as the wrong one.
		"prompt": {"select_account"},
	}.Encode()
}

func (c *Client) oauthURL(what string) string {
	return c.env.Authority + c.tenant + "/oauth2/v2.0/" + what
}

// SignInRefusal is what Entra sent the browser back with instead of a code; nil
// when there is a code. The text comes from outside: it may be shown to the person
// once the state fits.
func SignInRefusal(query url.Values) error {
	if query.Get("error") == "" {
		return nil
	}
	ce := oauthError(query.Get("error"), query.Get("error_description"))
	advise(ce)
	return ce
}

// RedeemCode exchanges the code that the browser brought back for the ID token,
// which the caller must verify. The app proves itself by its secret, its
// certificate or its federated token. Refusals are [opencmg.CloudError].
func (c *Client) RedeemCode(ctx context.Context, w WebSignIn, code string) (idToken string, err error) {
	doing := "redeem the authorization code"
	form := url.Values{"grant_type": {"authorization_code"}, "client_id": {c.how.ClientID}, "scope": {webScopes}, "code": {code}, "redirect_uri": {w.RedirectURI}, "code_verifier": {w.Verifier}}
	if err := c.prove(ctx, form); err != nil {
		return "", c.fail(ctx, doing, err)
	}
	ctx, cancel := context.WithTimeout(ctx, webSignInTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.oauthURL("token"), strings.NewReader(form.Encode()))
	if err != nil {
		return "", c.fail(ctx, doing, err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	direct := *c.http
	// The body has secrets in it, which go nowhere else.
	direct.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	secrets := []string{code, w.Verifier, form.Get("client_assertion")}
	resp, err := direct.Do(req)
	if err != nil {
		return "", c.fail(ctx, doing, err, secrets...)
	}
	defer resp.Body.Close()
	resp.Body = io.NopCloser(io.LimitReader(resp.Body, maxTokenAnswer))
	if resp.StatusCode != http.StatusOK {
		if ce := signInError(resp); ce != nil {
			return "", c.fail(ctx, doing, ce, secrets...)
		}
		return "", c.fail(ctx, doing, &opencmg.CloudError{Code: CodeSignIn, Message: "the identity service answered " + resp.Status, Status: resp.StatusCode}, secrets...)
	}
	var answer struct {
		IDToken string `json:"id_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.IDToken == "" {
		return "", c.fail(ctx, doing, &opencmg.CloudError{Code: CodeSignIn, Message: "the identity service answered without an ID token", Status: resp.StatusCode})
	}
	return answer.IDToken, nil
}

// prove adds what shows that the caller is the app.
func (c *Client) prove(ctx context.Context, form url.Values) error {
	switch {
	case c.how.Secret != "":
		form.Set("client_secret", string(c.how.Secret))
		return nil
	case len(c.how.CertificatePEM) > 0:
		assertion, err := c.assertion()
		if err != nil {
			return err
		}
		form.Set("client_assertion", assertion)
	case c.how.FederatedToken != nil:
		token, err := c.how.FederatedToken(ctx)
		if err != nil {
			return fmt.Errorf("federated token: %w", err)
		}
		form.Set("client_assertion", token)
	default:
		return opencmg.Errorf(opencmg.Invalid, "people can sign in only through an app with a secret, a certificate or a federated credential, not with a %s", c.how.way())
	}
	form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	return nil
}

// assertion is a token by which the app proves that it has its certificate's key
// (RFC 7523 2.2).
func (c *Client) assertion() (string, error) {
	certs, key, err := azidentity.ParseCertificates(c.how.CertificatePEM, nil)
	if err != nil || len(certs) == 0 {
		return "", opencmg.Errorf(opencmg.Invalid, "certificate of app %s: holds no certificate with its key in PEM form", c.how.ClientID)
	}
	sum := sha256.Sum256(certs[0].Raw)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.PS256, Key: key},
		(&jose.SignerOptions{}).WithType("JWT").WithHeader("x5t#S256", base64.RawURLEncoding.EncodeToString(sum[:])))
	if err != nil {
		return "", errors.New("the key of the app's certificate can not sign: it must be RSA")
	}
	now := c.now()
	claims, err := json.Marshal(map[string]any{
		"iss": c.how.ClientID, "sub": c.how.ClientID, "aud": c.oauthURL("token"), "jti": rand.Text(),
		"nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	})
	if err != nil {
		return "", err
	}
	jws, err := signer.Sign(claims)
	if err != nil {
		return "", err
	}
	return jws.CompactSerialize()
}
