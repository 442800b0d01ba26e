package labcloud

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Entra's own URLs, below the base and the tenant (wire.md 2.3, azure.md 7):
//
//	/v2.0/.well-known/openid-configuration   /.well-known/openid-configuration
//	/discovery/v2.0/keys                     /discovery/keys
//	/oauth2/v2.0/token                       /oauth2/token
//	/oauth2/v2.0/devicecode                  /oauth2/devicecode
//	/oauth2/v2.0/authorize
//
// entra_authorize.go has the page where people sign in, entra_device.go the one
// (/device, below no tenant) where they type the code of a device, entra_grants.go
// what happens at the token URL.

// serveEntra answers discovery, keys, and the URLs of sign-in.
func (s *Server) serveEntra(w http.ResponseWriter, r *http.Request) {
	tenant, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	tenant = strings.ToLower(tenant)
	known := tenant == "common" && strings.HasPrefix(path, "discovery/")
	if _, ok := s.tenants[tenant]; ok {
		known = true
	}
	version := 1
	if strings.Contains(path, "v2.0/") {
		version = 2
	}
	needs := http.MethodGet
	var answer func(r *http.Request, tenant string, version int) (any, *entraError)
	switch path {
	case "v2.0/.well-known/openid-configuration", ".well-known/openid-configuration":
		answer = s.discovery
	case "discovery/v2.0/keys", "discovery/keys":
		answer = func(*http.Request, string, int) (any, *entraError) {
			return jose.JSONWebKeySet{Keys: s.keys.public()}, nil
		}
	case "oauth2/v2.0/token", "oauth2/token":
		needs, answer = http.MethodPost, s.token
	case "oauth2/v2.0/devicecode", "oauth2/devicecode":
		needs, answer = http.MethodPost, s.startDeviceCode
	}
	switch {
	case path == "oauth2/v2.0/authorize" && known && (r.Method == http.MethodGet || r.Method == http.MethodPost):
		s.signInPerson(w, r, tenant)
	case answer == nil:
		http.NotFound(w, r)
	case r.Method != needs:
		w.Header().Set("Allow", needs)
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	case !known:
		s.entraFail(w, aadsts(http.StatusBadRequest, "invalid_request", 90002, "Tenant '%s' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.", tenant))
	default:
		if f := s.statusFault(r); f != nil {
			f.write(w, func(w http.ResponseWriter) {
				json.NewEncoder(w).Encode(map[string]any{"error": "temporarily_unavailable", "error_description": f.Message, "error_codes": []int{90033}})
			})
			return
		}
		v, fail := answer(r, tenant, version)
		if fail != nil {
			s.entraFail(w, fail)
			return
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		if needs == http.MethodPost {
			w.Header().Set("Cache-Control", "no-store, no-cache")
		}
		json.NewEncoder(w).Encode(v)
	}
}

// discovery answers the OpenID provider configuration.
func (s *Server) discovery(_ *http.Request, tenant string, version int) (any, *entraError) {
	base, path := s.BaseURL()+"/"+tenant, "/"
	if version == 2 {
		path = "/v2.0/"
	}
	return map[string]any{
		"issuer":                                s.issuer(tenant, version),
		"authorization_endpoint":                base + "/oauth2" + path + "authorize",
		"token_endpoint":                        base + "/oauth2" + path + "token",
		"device_authorization_endpoint":         base + "/oauth2" + path + "devicecode",
		"jwks_uri":                              base + "/discovery" + path + "keys",
		"response_types_supported":              []string{"code", "id_token", "token"},
		"response_modes_supported":              []string{"query", "fragment", "form_post"},
		"grant_types_supported":                 []string{"authorization_code", "client_credentials", "refresh_token", grantDeviceCode},
		"subject_types_supported":               []string{"pairwise"},
		"code_challenge_methods_supported":      []string{"S256"},
		"scopes_supported":                      []string{"openid", "profile", "email", "offline_access"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_post", "private_key_jwt", "client_secret_basic"},
		"tenant_region_scope":                   "EU",
	}, nil
}

// An entraError is a refusal in Entra's shape: an OAuth error, and its own
// code in text and as a number.
type entraError struct {
	status int
	oauth  string
	code   int
	text   string
}

func aadsts(status int, oauth string, code int, format string, args ...any) *entraError {
	return &entraError{status, oauth, code, fmt.Sprintf(format, args...)}
}

func (s *Server) entraFail(w http.ResponseWriter, e *entraError) {
	trace, correlation := newGUID(), newGUID()
	at := s.cfg.Now().UTC().Format("2006-01-02 15:04:05Z")
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store, no-cache")
	w.Header().Set("x-ms-request-id", trace)
	w.WriteHeader(e.status)
	json.NewEncoder(w).Encode(map[string]any{
		"error":             e.oauth,
		"error_description": fmt.Sprintf("AADSTS%d: %s Trace ID: %s Correlation ID: %s Timestamp: %s", e.code, e.text, trace, correlation, at),
		"error_codes":       []int{e.code},
		"timestamp":         at,
		"trace_id":          trace,
		"correlation_id":    correlation,
		"error_uri":         fmt.Sprintf("%s/error?code=%d", s.BaseURL(), e.code),
	})
}

// A target is a resource that tokens are asked for.
type target struct {
	aud     string
	version int
	appID   string // of the resource
	scopes  []string
	plain   bool // one of Microsoft's own
}

// Application IDs of Microsoft's own resources.
const (
	graphAppID = "00000003-0000-0000-c000-000000000000"
	armAppID   = "797f4846-ba00-4fd7-ba43-dac1f8f63013"
	vaultAppID = "cfa8b339-82a2-471a-a3c9-0fc0be7a4093"
	// cliAppID is a public client of Microsoft's own, which needs no registration
	// in the tenant and no consent for Graph and Resource Manager.
	cliAppID = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"
)

var wellKnown = map[string]string{
	graphAppID: "Microsoft Graph",
	armAppID:   "Windows Azure Service Management API",
	cliAppID:   "Microsoft Azure CLI",
	vaultAppID: "Azure Key Vault",
}

// target finds the resource that a URI or an application ID names. The
// caller holds s.world.
func (s *Server) target(tenant, resource string) (target, bool) {
	bare := strings.TrimRight(resource, "/")
	is := func(names ...string) bool {
		for _, n := range names {
			if bare != "" && strings.EqualFold(bare, strings.TrimRight(n, "/")) {
				return true
			}
		}
		return false
	}
	switch {
	case is(graphAppID, "https://"+s.hosts.Graph):
		return target{aud: resource, version: 1, appID: graphAppID, plain: true}, true
	case is(vaultAppID, s.hosts.VaultAudience):
		return target{aud: resource, version: 1, appID: vaultAppID, plain: true}, true
	case is(append(s.hosts.ARMAudiences, armAppID, "https://"+s.hosts.ARM)...):
		return target{aud: resource, version: 1, appID: armAppID, plain: true}, true
	}
	for _, a := range s.st.Applications {
		if a.Tenant != tenant || !a.exists() {
			continue
		}
		names := []string{a.AppID, "api://" + a.AppID}
		uri := a.AppID
		for i, u := range list(a.Body, "identifierUris") {
			if i == 0 {
				uri = u.(string)
			}
			names = append(names, u.(string))
		}
		if is(names...) {
			t := target{aud: uri, version: 1, appID: a.AppID}
			if integer(a.Body, "api", "requestedAccessTokenVersion") == 2 {
				t.aud, t.version = a.AppID, 2
			}
			return t, true
		}
	}
	return target{}, false
}

// requested reads the resource from a request: "resource" in version 1, the
// scopes, all of one resource, in version 2.
func (s *Server) requested(tenant string, form url.Values) (target, *entraError) {
	if r := form.Get("resource"); r != "" {
		t, ok := s.target(tenant, r)
		if !ok {
			return t, aadsts(http.StatusBadRequest, "invalid_resource", 500011, "The resource principal named %s was not found in the tenant named %s.", r, tenant)
		}
		return t, nil
	}
	var found target
	for _, scope := range strings.Fields(form.Get("scope")) {
		switch scope {
		case "openid", "profile", "email", "offline_access":
			continue
		}
		resource, name := "https://"+s.hosts.Graph, scope
		if i := strings.LastIndex(scope, "/"); i >= 0 {
			resource, name = scope[:i], scope[i+1:]
		}
		t, ok := s.target(tenant, resource)
		if !ok {
			return t, aadsts(http.StatusBadRequest, "invalid_resource", 500011, "The resource principal named %s was not found in the tenant named %s.", resource, tenant)
		}
		if found.appID != "" && found.appID != t.appID {
			return t, aadsts(http.StatusBadRequest, "invalid_scope", 28000, "Provided value for the input parameter scope is not valid because it contains more than one resource.")
		}
		t.scopes = append(found.scopes, name)
		found = t
	}
	if found.appID == "" {
		return found, aadsts(http.StatusBadRequest, "invalid_request", 900144, "The request body must contain the following parameter: 'scope'.")
	}
	return found, nil
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func secretHash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// A deviceCode is a sign-in that waits for a user.
type deviceCode struct {
	Code, UserCode  string
	Tenant, AppID   string
	Scope, Resource string
	Expires         time.Time
	UserID          string // set when approved
	Denied, Used    bool
}

// A refreshToken lets a client get tokens for a user again.
type refreshToken struct {
	Tenant, AppID, UserID string
	Expires               time.Time
}
