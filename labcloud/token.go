package labcloud

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// TokenOptions say which token to issue. Its odd corners make the tokens that a
// gateway must refuse.
type TokenOptions struct {
	// Tenant is the tid. It need not be configured: Entra's tenants share
	// their signing keys, and so do these.
	Tenant string `json:"tenant"`
	// Audience is the aud; empty means the resource URI of the tenant's first
	// app.
	Audience string `json:"audience,omitempty"`
	// Issuer replaces the iss of the tenant and version.
	Issuer string `json:"issuer,omitempty"`
	// Version is 1 or 2; 0 means 1.
	Version int `json:"version,omitempty"`

	// DeviceID makes a device token, or with UPN a user token from a joined
	// device. ObjectID is the oid; empty means the device ID.
	DeviceID string `json:"deviceId,omitempty"`
	ObjectID string `json:"objectId,omitempty"`
	// AppID is the appid; empty means the ID of the tenant's first app.
	AppID string `json:"appId,omitempty"`
	// UPN makes a user token. OnPremSID is the SID of a synchronised user.
	UPN       string `json:"upn,omitempty"`
	Name      string `json:"name,omitempty"`
	OnPremSID string `json:"onPremSid,omitempty"`

	// NotBefore is relative to now in seconds; ExpiresIn is the lifetime from
	// there. Zero means now and Config.Lifetime. An expired token has, for
	// example, NotBefore -7200 and ExpiresIn 3600.
	NotBefore int64 `json:"notBefore,omitempty"`
	ExpiresIn int64 `json:"expiresIn,omitempty"`
	// UnknownKey signs with a key that is not published, under the ID of the
	// one that is.
	UnknownKey bool `json:"unknownKey,omitempty"`
	// Claims replace or, with null, remove claims at the end.
	Claims map[string]any `json:"claims,omitempty"`
}

// IssueToken signs a token as the options say, without asking whether Entra
// would.
func (s *Server) IssueToken(o TokenOptions) (string, error) {
	o.Tenant = strings.ToLower(o.Tenant)
	if o.Tenant == "" {
		return "", errors.New("lab cloud: token: tenant must be set")
	}
	if o.Version == 0 {
		o.Version = 1
	}
	for _, a := range s.cfg.Apps {
		if !strings.EqualFold(a.Tenant, o.Tenant) {
			continue
		}
		if o.Audience == "" {
			o.Audience = a.ResourceURI
		}
		if o.AppID == "" {
			o.AppID = a.ID
		}
	}
	if o.Audience == "" {
		return "", fmt.Errorf("lab cloud: token: tenant %s has no app, so the audience must be set", o.Tenant)
	}
	if o.Issuer == "" {
		o.Issuer = s.issuer(o.Tenant, o.Version)
	}
	token, err := s.keys.sign(s.claims(&o), o.UnknownKey)
	if err != nil {
		return "", err
	}
	s.cfg.Log.Info("issued token", "tenant", o.Tenant, "audience", o.Audience, "device", o.DeviceID, "user", o.UPN)
	return token, nil
}

// claims are those of wire.md 2.3, in the version's own spelling.
func (s *Server) claims(o *TokenOptions) map[string]any {
	start := s.cfg.Now().Add(time.Duration(o.NotBefore) * time.Second)
	lifetime := s.cfg.Lifetime
	if o.ExpiresIn != 0 {
		lifetime = time.Duration(o.ExpiresIn) * time.Second
	}
	oid := o.ObjectID
	if oid == "" {
		oid = o.DeviceID
	}
	c := map[string]any{
		"iss": o.Issuer, "aud": o.Audience, "tid": o.Tenant, "oid": oid, "sub": oid,
		"iat": start.Unix(), "nbf": start.Unix(), "exp": start.Add(lifetime).Unix(),
		"uti": rand.Text(),
	}
	if o.Version == 2 {
		c["ver"], c["azp"], c["azpacr"] = "2.0", o.AppID, "0"
	} else {
		c["ver"], c["appid"], c["appidacr"] = "1.0", o.AppID, "0"
	}
	if o.DeviceID != "" {
		c["deviceid"] = o.DeviceID
	}
	switch {
	case o.UPN != "":
		c["idtyp"], c["upn"], c["unique_name"], c["name"] = "user", o.UPN, o.UPN, o.Name
		c["scp"] = "user_impersonation"
		if o.OnPremSID != "" {
			c["onprem_sid"] = o.OnPremSID
		}
		if o.Version == 2 {
			c["preferred_username"] = o.UPN
		}
	case o.DeviceID != "":
		c["idtyp"] = "device"
	default:
		c["idtyp"] = "app"
	}
	maps.Copy(c, o.Claims)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

func (s *Server) issuer(tenant string, version int) string {
	tenant = strings.ToLower(tenant)
	if version == 2 {
		return s.Authority(tenant)
	}
	if t, ok := s.tenants[tenant]; ok {
		return t.V1Issuer
	}
	return "https://sts.windows.net/" + tenant + "/" // of a tenant that is not ours
}

// A caller is who a token speaks for.
type caller struct {
	Tenant, ObjectID, AppID string
	UPN                     string // of a user
	Scopes, Roles           []string
}

var (
	errTokenExpired  = errors.New("the access token has expired")
	errTokenAudience = errors.New("the access token is for another audience")
)

// validate checks a bearer token as a resource does whose audiences these are:
// signature, time, tenant, issuer, audience.
func (s *Server) validate(token string, audiences ...string) (*caller, error) {
	c, err := s.keys.verify(token)
	if err != nil {
		return nil, fmt.Errorf("the access token is invalid: %w", err)
	}
	tid, now := text(c, "tid"), float64(s.cfg.Now().Unix())
	if nbf, _ := number(c["nbf"]); now < nbf-300 {
		return nil, errors.New("the access token is not yet valid")
	}
	if exp, _ := number(c["exp"]); now >= exp {
		return nil, errTokenExpired
	}
	version := 1
	if text(c, "ver") == "2.0" {
		version = 2
	}
	if _, ok := s.tenants[tid]; !ok || text(c, "iss") != s.issuer(tid, version) {
		return nil, errors.New("the access token is from the wrong issuer")
	}
	aud := strings.TrimRight(text(c, "aud"), "/")
	if !slices.ContainsFunc(audiences, func(a string) bool { return strings.EqualFold(strings.TrimRight(a, "/"), aud) }) {
		return nil, fmt.Errorf("%w: %s", errTokenAudience, aud)
	}
	out := &caller{Tenant: tid, ObjectID: text(c, "oid"), AppID: text(c, "appid") + text(c, "azp"), UPN: text(c, "upn"), Scopes: strings.Fields(text(c, "scp"))}
	for _, r := range list(c, "roles") {
		out.Roles = append(out.Roles, r.(string))
	}
	return out, nil
}

// A keySet holds the signing key and the published keys, newest first.
type keySet struct {
	mu   sync.RWMutex
	keys []signingKey
}

type signingKey struct {
	id  string
	key *rsa.PrivateKey
}

// publishedKeys is how many keys stay in the set across rotations.
const publishedKeys = 2

func newSigningKey() (signingKey, error) {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return signingKey{}, fmt.Errorf("lab cloud: make signing key: %w", err)
	}
	id := make([]byte, 20) // as long as the thumbprints Entra uses
	rand.Read(id)
	return signingKey{id: base64.RawURLEncoding.EncodeToString(id), key: k}, nil
}

func (ks *keySet) rotate() error {
	k, err := newSigningKey()
	if err != nil {
		return err
	}
	ks.mu.Lock()
	defer ks.mu.Unlock()
	ks.keys = append([]signingKey{k}, ks.keys...)
	ks.keys = ks.keys[:min(len(ks.keys), publishedKeys)]
	return nil
}

// A storedKey is a signing key in the state.
type storedKey struct {
	ID  string
	DER []byte // PKCS#1
}

func (ks *keySet) stored() []storedKey {
	ks.mu.RLock()
	defer ks.mu.RUnlock()
	var out []storedKey
	for _, k := range ks.keys {
		out = append(out, storedKey{k.id, x509.MarshalPKCS1PrivateKey(k.key)})
	}
	return out
}

func (ks *keySet) restore(keys []storedKey) error {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	for _, k := range keys {
		key, err := x509.ParsePKCS1PrivateKey(k.DER)
		if err != nil {
			return fmt.Errorf("lab cloud: state: signing key: %w", err)
		}
		ks.keys = append(ks.keys, signingKey{k.ID, key})
	}
	return nil
}

// verify checks a token's signature and returns its claims.
func (ks *keySet) verify(token string) (map[string]any, error) {
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return nil, err
	}
	payload, err := jws.Verify(&jose.JSONWebKeySet{Keys: ks.public()})
	if err != nil {
		return nil, err
	}
	var claims map[string]any
	return claims, json.Unmarshal(payload, &claims)
}

func (ks *keySet) public() []jose.JSONWebKey {
	ks.mu.RLock()
	defer ks.mu.RUnlock()
	var out []jose.JSONWebKey
	for _, k := range ks.keys {
		out = append(out, jose.JSONWebKey{Key: k.key.Public(), KeyID: k.id, Algorithm: "RS256", Use: "sig"})
	}
	return out
}

func (ks *keySet) sign(claims map[string]any, unknown bool) (string, error) {
	ks.mu.RLock()
	k := ks.keys[0]
	ks.mu.RUnlock()
	if unknown {
		id := k.id
		var err error
		if k, err = newSigningKey(); err != nil {
			return "", err
		}
		k.id = id
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: k.key},
		(&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", k.id).WithHeader("x5t", k.id))
	if err != nil {
		return "", fmt.Errorf("lab cloud: sign token: %w", err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("lab cloud: sign token: %w", err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("lab cloud: sign token: %w", err)
	}
	return jws.CompactSerialize()
}
