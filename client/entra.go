package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

// An EntraTokenSource gets access tokens of this device. A device token comes
// first, a user token may stand in for it (cmg-behaviour K21).
type EntraTokenSource interface {
	EntraToken(ctx context.Context, r EntraTokenRequest) (token string, err error)
}

// An EntraTokenRequest says which token is wanted.
type EntraTokenRequest struct {
	TenantID    string
	ClientAppID string
	ResourceURI string // the aud of the token
}

// EntraTokenFunc is a function as token source.
type EntraTokenFunc func(ctx context.Context, r EntraTokenRequest) (string, error)

// EntraToken calls f.
func (f EntraTokenFunc) EntraToken(ctx context.Context, r EntraTokenRequest) (string, error) {
	return f(ctx, r)
}

// EntraTokenFile reads the token from a file each time, for a device whose
// token is kept fresh by something else.
type EntraTokenFile string

// EntraToken reads the file.
func (f EntraTokenFile) EntraToken(context.Context, EntraTokenRequest) (string, error) {
	b, err := os.ReadFile(string(f))
	if err != nil {
		return "", opencmg.Errorf(opencmg.Invalid, "read Entra token: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// EntraTokenCommand runs a program that prints the token. It finds the request
// in the environment variables OPENCMG_TENANT, OPENCMG_CLIENT_APP and
// OPENCMG_RESOURCE.
type EntraTokenCommand []string

// EntraToken runs the command; it is ended with ctx, at the latest after a
// minute.
func (c EntraTokenCommand) EntraToken(ctx context.Context, r EntraTokenRequest) (string, error) {
	if len(c) == 0 {
		return "", opencmg.Errorf(opencmg.Invalid, "Entra token command is empty")
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, c[0], c[1:]...)
	cmd.Env = append(os.Environ(), "OPENCMG_TENANT="+r.TenantID, "OPENCMG_CLIENT_APP="+r.ClientAppID, "OPENCMG_RESOURCE="+r.ResourceURI)
	out, err := cmd.Output()
	if err != nil {
		return "", opencmg.Errorf(opencmg.Unavailable, "Entra token command %s: %w", c[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}

// EntraClientCredentials gets device tokens by OAuth 2.0 client credentials
// (RFC 6749 section 4.4), as the lab's stand-in for Entra gives them.
type EntraClientCredentials struct {
	// TokenURL is the version 1 token endpoint,
	// https://<host>/<tenant>/oauth2/token.
	TokenURL string
	// DeviceID and Secret are what the device signs in with.
	DeviceID string
	Secret   Secret
	HTTP     *http.Client // nil: http.DefaultClient
}

// EntraToken asks the token endpoint.
func (e EntraClientCredentials) EntraToken(ctx context.Context, r EntraTokenRequest) (string, error) {
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {e.DeviceID}, "client_secret": {string(e.Secret)}, "resource": {r.ResourceURI}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.TokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return "", opencmg.Errorf(opencmg.Invalid, "Entra token: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	client := e.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", opencmg.Errorf(opencmg.Unavailable, "Entra token: %w", err)
	}
	defer resp.Body.Close()
	var a struct {
		AccessToken string `json:"access_token"`
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil {
		err = json.Unmarshal(b, &a)
	}
	switch {
	case err != nil:
		return "", opencmg.Errorf(opencmg.Unavailable, "Entra token: %s: %w", resp.Status, err)
	case a.AccessToken == "":
		return "", opencmg.Errorf(opencmg.Unauthorized, "Entra token: %s: %s", a.Error, a.Description)
	}
	return a.AccessToken, nil
}

// aadAuthInfo is what a gateway or management point tells about an onboarded
// tenant (wire.md 1.2, format ours).
type aadAuthInfo struct {
	TenantID    string `json:"tenantId"`
	ClientAppID string `json:"clientAppId"`
	ResourceURI string `json:"resourceUri"`
}

// entraRequest finds out what to ask Entra for: from the words of the
// installation, or from the gateway's AADAuthInfo for this tenant.
func (c *Client) entraRequest(ctx context.Context) (EntraTokenRequest, error) {
	in := c.state().Installation
	r := EntraTokenRequest{TenantID: in.TenantID, ClientAppID: in.ClientAppID, ResourceURI: in.ResourceURI}
	if r.ClientAppID != "" && r.ResourceURI != "" {
		return r, nil
	}
	if r.TenantID == "" {
		r.TenantID = c.tenantOfDevice(ctx, r)
	}
	if r.TenantID == "" {
		return r, opencmg.Errorf(opencmg.Invalid, "the Entra tenant of this device is not known; install with AADTENANTID=<tenant ID>")
	}
	var last error
	for _, gw := range c.state().gateways() {
		a, err := c.byIdentity.do(ctx, &call{
			method:    http.MethodGet,
			url:       "https://" + gw.Host + opencmg.ServerAuthPrefix + "AADAuthInfo?TenantID=" + url.QueryEscape(r.TenantID),
			component: "ADALOperationProvider",
		})
		if err != nil {
			last = err
			continue
		}
		var info aadAuthInfo
		if err := json.Unmarshal(a.body, &info); err != nil || info.ResourceURI == "" {
			last = opencmg.Errorf(opencmg.NotFound, "gateway %s does not accept devices of Entra tenant %s; the site must onboard it", gw.Host, r.TenantID)
			continue
		}
		if r.ResourceURI == "" {
			r.ResourceURI = info.ResourceURI
		}
		if r.ClientAppID == "" {
			r.ClientAppID = info.ClientAppID
		}
		return r, nil
	}
	if last == nil {
		last = opencmg.Errorf(opencmg.Invalid, "no gateway is known to ask about Entra tenant %s; install with AADCLIENTAPPID= and AADRESOURCEURI=", r.TenantID)
	}
	return r, fmt.Errorf("AADAuthInfo: %w", last)
}

// tenantOfDevice is the tenant of the token that the device has already, since
// setup by Entra needs no word about it (cmg-behaviour K20); empty when there is
// none. The token is not verified: its tenant is only asked about.
func (c *Client) tenantOfDevice(ctx context.Context, r EntraTokenRequest) string {
	token, err := c.cfg.Entra.EntraToken(ctx, r)
	if err != nil {
		c.log.Debug("no token tells the tenant of this device", "component", "ADALOperationProvider", "err", err)
		return ""
	}
	var claims struct {
		TenantID string `json:"tid"`
	}
	if _, payload, ok := strings.Cut(token, "."); ok {
		payload, _, _ = strings.Cut(payload, ".")
		if b, err := base64.RawURLEncoding.DecodeString(payload); err != nil || json.Unmarshal(b, &claims) != nil {
			return ""
		}
	}
	if !opencmg.IsGUID(claims.TenantID) {
		return ""
	}
	return strings.ToLower(claims.TenantID)
}
