package pki_test

import (
	"crypto"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
)

const (
	clientID = opencmg.ClientID("GUID:11111111-2222-3333-4444-555555555555")
	proof    = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	other    = "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
)

// decode returns header and claims of a compact JWT.
func decode(t testing.TB, token string) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(token, ".")
	for i, to := range []*map[string]any{&header, &claims} {
		raw := must(base64.RawURLEncoding.DecodeString(parts[i]))(t)
		if err := json.Unmarshal(raw, to); err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

// forge signs any claims with the site's key, or another.
func forge(t testing.TB, header map[string]any, claims any, key any) string {
	t.Helper()
	payload := must(json.Marshal(claims))(t)
	if raw, ok := claims.(string); ok {
		payload = []byte(raw)
	}
	o := &jose.SignerOptions{}
	for k, v := range header {
		o.WithHeader(jose.HeaderKey(k), v)
	}
	s := must(jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, o))(t)
	return must(must(s.Sign(payload))(t).CompactSerialize())(t)
}

func x5t() string {
	sum := sha1.Sum(testSigningKey().Leaf.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func siteVerifier(t testing.TB, change func(*opencmg.PublishedConfiguration)) *pki.TokenVerifier {
	cfg := &opencmg.PublishedConfiguration{TokenIssuers: []opencmg.TokenIssuer{testSigner(t).TokenIssuer()}}
	if change != nil {
		change(cfg)
	}
	return must(pki.NewTokenVerifier(cfg, nil, nil))(t)
}

func TestBulkTokenHasTheDocumentedForm(t *testing.T) {
	now := time.Now()
	token := must(testSigner(t).Bulk(0, now))(t)
	header, claims := decode(t, token.Raw)
	if diff := cmp.Diff(map[string]any{"typ": "JWT", "alg": "RS256", "x5t": x5t()}, header); diff != "" {
		t.Error(diff)
	}
	want := map[string]any{
		"SCCMTokenCategory": "SCCMPreAuthToken", "Authority": "SCCM", "License": "SCCM", "Type": "BulkRegistration",
		"TenantId": hierarchy, "UniqueId": token.ID, "iss": "urn:sccm:oauth2:" + strings.ToLower(hierarchy), "aud": "urn:sccm:service",
		"nbf": float64(now.Unix()), "exp": float64(now.Unix() + 259200),
	}
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Error(diff)
	}
	if !opencmg.IsGUID(token.ID) {
		t.Errorf("ID %q", token.ID)
	}
	for _, wrong := range []time.Duration{-1, time.Second, pki.BulkMaxLifetime + 1} {
		if _, err := testSigner(t).Bulk(wrong, now); !errors.Is(err, opencmg.Invalid) {
			t.Errorf("lifetime %v: %v", wrong, err)
		}
	}
	if s := fmt.Sprint(token, token.LogValue()); strings.Contains(s, token.Raw) {
		t.Error("a token prints itself")
	}
}

func TestSiteTokensGiveIdentities(t *testing.T) {
	now := time.Now()
	s, v := testSigner(t), siteVerifier(t, nil)
	bulk := must(s.Bulk(time.Hour, now))(t)
	client := must(s.Client(clientID, proof, now))(t)
	full := opencmg.Identity{
		Auth: opencmg.AuthCCMToken, ClientID: clientID, Thumbprint: proof, TenantID: "aaaaaaaa-0000-0000-0000-000000000001",
		DeviceID: "aaaaaaaa-0000-0000-0000-000000000002", UserID: "aaaaaaaa-0000-0000-0000-000000000003", UserSID: "S-1-5-21-1-2-3-1001",
	}
	ccm := must(s.CCM(full, now))(t)
	full.TokenID = ccm.ID
	for _, tt := range []struct {
		token     pki.Token
		presented string
		lifetime  time.Duration
		want      opencmg.Identity
	}{
		{bulk, "", time.Hour, opencmg.Identity{Auth: opencmg.AuthBulkToken, TokenID: bulk.ID}},
		{bulk, proof, time.Hour, opencmg.Identity{Auth: opencmg.AuthBulkToken, TokenID: bulk.ID, Thumbprint: proof}},
		{client, proof, 90 * 24 * time.Hour, opencmg.Identity{Auth: opencmg.AuthClientToken, ClientID: clientID, Thumbprint: proof, TokenID: client.ID}},
		{ccm, proof, 8 * time.Hour, full},
	} {
		for range 2 { // the second time from the cache
			got, err := v.Verify(t.Context(), tt.token.Raw, tt.presented, now)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		}
		if got := tt.token.Expires.Sub(tt.token.NotBefore); got != tt.lifetime {
			t.Errorf("%s lives %v", tt.want.Auth, got)
		}
	}
	for name, f := range map[string]func() error{
		"client without proof": func() error { _, err := s.Client(clientID, "", now); return err },
		"client without ID":    func() error { _, err := s.Client("", proof, now); return err },
		"CCM without proof":    func() error { _, err := s.CCM(opencmg.Identity{DeviceID: "x"}, now); return err },
		"CCM of nobody":        func() error { _, err := s.CCM(opencmg.Identity{Thumbprint: proof}, now); return err },
		"CCM with a bad ID":    func() error { _, err := s.CCM(opencmg.Identity{Thumbprint: proof, ClientID: "x"}, now); return err },
	} {
		if err := f(); !errors.Is(err, opencmg.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTokenSignerChecksItsKey(t *testing.T) {
	good, wrong := testSigningKey(), otherSigningKey()
	ec := mintCA(t, "x", nil, nil)
	for name, f := range map[string]func() error{
		"hierarchy": func() error {
			_, err := pki.NewTokenSigner(good.PrivateKey.(crypto.Signer), good.Leaf, "", "", "x")
			return err
		},
		"ECDSA": func() error { _, err := pki.NewTokenSigner(ec.key, ec.cert, "", "", hierarchy); return err },
		"mismatch": func() error {
			_, err := pki.NewTokenSigner(good.PrivateKey.(crypto.Signer), wrong.Leaf, "", "", hierarchy)
			return err
		},
	} {
		if err := f(); !errors.Is(err, opencmg.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := must(pki.NewTokenSigner(good.PrivateKey.(crypto.Signer), good.Leaf, "urn:i", "urn:a", hierarchy))(t)
	if got := s.TokenIssuer(); got.Issuer != "urn:i" || got.Audience != "urn:a" {
		t.Errorf("issuer %+v", got)
	}
}

func TestTokenRefusals(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	key := testSigningKey().PrivateKey
	head := map[string]any{"typ": "JWT", "x5t": x5t()}
	base := func() map[string]any {
		return map[string]any{
			"SCCMTokenCategory": "SCCMPreAuthToken", "Type": "BulkRegistration", "UniqueId": "AAAAAAAA-0000-0000-0000-00000000000A",
			"iss": pki.SiteIssuer(hierarchy), "aud": pki.SiteAudience, "nbf": now.Unix(), "exp": now.Unix() + 3600,
		}
	}
	with := func(kv ...any) map[string]any {
		m := base()
		for i := 0; i < len(kv); i += 2 {
			if kv[i+1] == nil {
				delete(m, kv[i].(string))
			} else {
				m[kv[i].(string)] = kv[i+1]
			}
		}
		return m
	}
	signed := func(m map[string]any) string { return forge(t, head, m, key) }
	clientToken := must(testSigner(t).Client(clientID, proof, now))(t).Raw
	good := signed(base())
	parts := strings.Split(good, ".")
	raw := func(header, payload string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".AA"
	}
	hs := must(jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: testSigningKey().Leaf.Raw}, nil))(t)
	hmac := must(must(hs.Sign([]byte(must(json.Marshal(base()))(t))))(t).CompactSerialize())(t)
	cnf := func(v any) map[string]any { return map[string]any{"x5t#S256": v} }

	for name, tt := range map[string]struct {
		token, presented, code string
		words                  []string
	}{
		"missing":              {"", "", pki.RefusedTokenMissing, nil},
		"too large":            {strings.Repeat("a", pki.MaxTokenSize+1), "", pki.RefusedTokenTooLarge, nil},
		"garbage":              {"garbage", "", pki.RefusedTokenMalformed, []string{"three parts"}},
		"four parts":           {good + ".x", "", pki.RefusedTokenMalformed, nil},
		"header no base64":     {"a!." + parts[1] + "." + parts[2], "", pki.RefusedTokenMalformed, nil},
		"header no JSON":       {raw("x", "{}"), "", pki.RefusedTokenMalformed, nil},
		"header twice":         {raw(`{"alg":"RS256","alg":"none"}`, "{}"), "", pki.RefusedTokenMalformed, nil},
		"claims no JSON":       {raw(`{"alg":"RS256"}`, "x"), "", pki.RefusedTokenMalformed, nil},
		"claims no base64":     {parts[0] + ".!." + parts[2], "", pki.RefusedTokenMalformed, nil},
		"claims repeated":      {forge(t, head, `{"iss":"a","iss":"b"}`, key), "", pki.RefusedTokenMalformed, nil},
		"none":                 {raw(`{"alg":"none"}`, "{}"), "", pki.RefusedTokenAlgorithm, []string{"none"}},
		"HS256":                {hmac, "", pki.RefusedTokenAlgorithm, []string{"HS256"}},
		"PS256":                {raw(`{"alg":"PS256"}`, "{}"), "", pki.RefusedTokenAlgorithm, nil},
		"crit":                 {raw(`{"alg":"RS256","crit":["exp"]}`, "{}"), "", pki.RefusedTokenCritical, nil},
		"b64":                  {raw(`{"alg":"RS256","b64":false}`, "{}"), "", pki.RefusedTokenCritical, nil},
		"issuer":               {signed(with("iss", "urn:else")), "", pki.RefusedTokenIssuer, []string{"urn:else"}},
		"no issuer":            {signed(with("iss", nil)), "", pki.RefusedTokenIssuer, nil},
		"unknown tenant":       {signed(with("iss", "https://sts.windows.net/x/", "tid", "x")), "", pki.RefusedTokenTenant, []string{`"x"`}},
		"signer":               {forge(t, map[string]any{"x5t": "AAAA"}, base(), key), "", pki.RefusedTokenSigner, []string{"AAAA"}},
		"no signer":            {forge(t, nil, base(), key), "", pki.RefusedTokenSigner, nil},
		"other key":            {forge(t, head, base(), otherSigningKey().PrivateKey), "", pki.RefusedTokenSignature, nil},
		"altered":              {parts[0] + "." + base64.RawURLEncoding.EncodeToString(must(json.Marshal(with("exp", now.Unix()+9999)))(t)) + "." + parts[2], "", pki.RefusedTokenSignature, nil},
		"audience":             {signed(with("aud", "urn:else")), "", pki.RefusedTokenAudience, []string{"urn:else", pki.SiteAudience}},
		"audiences":            {signed(with("aud", []string{"a", "b"})), "", pki.RefusedTokenAudience, nil},
		"no audience":          {signed(with("aud", nil)), "", pki.RefusedTokenAudience, nil},
		"audience number":      {signed(with("aud", 1)), "", pki.RefusedTokenMalformed, nil},
		"expired":              {signed(with("exp", now.Unix()-61)), "", pki.RefusedTokenExpired, []string{"1m1s ago"}},
		"no expiry":            {signed(with("exp", nil)), "", pki.RefusedTokenMalformed, []string{"exp"}},
		"expiry is text":       {signed(with("exp", "9999999999")), "", pki.RefusedTokenMalformed, nil},
		"expiry is huge":       {signed(with("exp", 1e300)), "", pki.RefusedTokenMalformed, nil},
		"expiry is negative":   {signed(with("exp", -1)), "", pki.RefusedTokenMalformed, nil},
		"not yet":              {signed(with("nbf", now.Unix()+62)), "", pki.RefusedTokenNotYetValid, []string{"clock"}},
		"category":             {signed(with("SCCMTokenCategory", "Else")), "", pki.RefusedTokenCategory, []string{"Else"}},
		"no ID":                {signed(with("UniqueId", nil)), "", pki.RefusedTokenMalformed, []string{"UniqueId"}},
		"blocked":              {signed(with("UniqueId", "BBBBBBBB-0000-0000-0000-00000000000B")), "", pki.RefusedTokenBlocked, nil},
		"unbound":              {signed(with("Type", "SelfProve", "ClientID", clientID)), proof, pki.RefusedTokenUnbound, nil},
		"no proof":             {clientToken, "", pki.RefusedTokenNoProof, nil},
		"wrong proof":          {clientToken, other, pki.RefusedTokenWrongProof, nil},
		"proof is no hex":      {clientToken, "zz", pki.RefusedTokenWrongProof, nil},
		"bulk bound elsewhere": {signed(with("cnf", cnf("ABEiM0RVZneImaq7zN3u_wARIjNEVWZ3iJmqu8zd7v8"))), other, pki.RefusedTokenWrongProof, nil},
		"other confirmation":   {signed(with("cnf", map[string]any{"jkt": "x"})), proof, pki.RefusedTokenWrongProof, []string{"x5t#S256"}},
		"confirmation no text": {signed(with("cnf", cnf(1))), proof, pki.RefusedTokenMalformed, nil},
		"no client":            {signed(with("Type", "SelfProve", "cnf", cnf("ABEiM0RVZneImaq7zN3u_wARIjNEVWZ3iJmqu8zd7v8"))), proof, pki.RefusedTokenSubject, nil},
		"bad client":           {signed(with("Type", "SelfProve", "ClientID", "GUID:1'; drop", "cnf", cnf("ABEiM0RVZneImaq7zN3u_wARIjNEVWZ3iJmqu8zd7v8"))), proof, pki.RefusedTokenMalformed, []string{"ClientID"}},
		"bad device":           {signed(with("SCCMTokenCategory", "SCCMCcmToken", "DeviceId", "x", "cnf", cnf("ABEiM0RVZneImaq7zN3u_wARIjNEVWZ3iJmqu8zd7v8"))), proof, pki.RefusedTokenMalformed, []string{"device"}},
		"bad SID":              {signed(with("SCCMTokenCategory", "SCCMCcmToken", "OnPrem_UserSid", "S-1-x", "cnf", cnf("ABEiM0RVZneImaq7zN3u_wARIjNEVWZ3iJmqu8zd7v8"))), proof, pki.RefusedTokenMalformed, []string{"SID"}},
	} {
		t.Run(name, func(t *testing.T) {
			v := siteVerifier(t, func(c *opencmg.PublishedConfiguration) {
				c.BlockedTokens = []string{"{bbbbbbbb-0000-0000-0000-00000000000b}"}
			})
			for range 2 {
				id, err := v.Verify(t.Context(), tt.token, tt.presented, now)
				wantRefusal(t, err, tt.code, tt.words...)
				if id != (opencmg.Identity{}) {
					t.Errorf("refused, with identity %+v", id)
				}
			}
			if good, _ := v.Remembered(); good != 0 {
				t.Error("remembered as good")
			}
		})
	}

	v := siteVerifier(t, nil)
	for name, token := range map[string]string{
		"several audiences":  signed(with("aud", []string{"a", pki.SiteAudience})),
		"skewed expiry":      signed(with("exp", now.Unix()-30)),
		"skewed start":       signed(with("nbf", now.Unix()+30)),
		"no start":           signed(with("nbf", nil)),
		"fractional times":   signed(with("exp", float64(now.Unix())+100.5)),
		"unknown claims":     signed(with("future", []int{1})),
		"padded thumbprint":  forge(t, map[string]any{"x5t": x5t() + "="}, base(), key),
		"unknown key header": forge(t, map[string]any{"x5t": x5t(), "jku": "http://evil.example"}, base(), key),
	} {
		if _, err := v.Verify(t.Context(), token, "", now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// An imported issuer may be allowed to bind nothing.
	imported := siteVerifier(t, func(c *opencmg.PublishedConfiguration) { c.TokenIssuers[0].AllowUnbound = true })
	id, err := imported.Verify(t.Context(), signed(with("Type", "SelfProve", "UniqueId", nil)), "", now)
	if err != nil || id.Auth != opencmg.AuthClientToken {
		t.Errorf("unbound token of an imported issuer: %+v, %v", id, err)
	}
	_, err = imported.Verify(t.Context(), clientToken, other, now)
	wantRefusal(t, err, pki.RefusedTokenWrongProof)
}

func TestTokenVerifierConfiguration(t *testing.T) {
	issuer := testSigner(t).TokenIssuer()
	ec := mintCA(t, "x", nil, nil)
	tenant := opencmg.Tenant{ID: tenantID, Issuers: []string{"i"}, Authority: "https://login.example", ResourceURI: "r"}
	twice := tenant
	twice.ID = "bbbbbbbb-0000-0000-0000-000000000001"
	plain := tenant
	plain.Authority = "http://login.example"
	keys := pki.NewJWKSCache(pki.JWKSConfig{})
	for name, cfg := range map[string]*opencmg.PublishedConfiguration{
		"no PEM":          {TokenIssuers: []opencmg.TokenIssuer{{Certificate: "x", Issuer: "i", Audience: "a"}}},
		"ECDSA":           {TokenIssuers: []opencmg.TokenIssuer{{Certificate: pemOf(ec.cert), Issuer: "i", Audience: "a"}}},
		"no issuer":       {TokenIssuers: []opencmg.TokenIssuer{{Certificate: issuer.Certificate, Audience: "a"}}},
		"no audience":     {TokenIssuers: []opencmg.TokenIssuer{{Certificate: issuer.Certificate, Issuer: "i"}}},
		"issuer twice":    {Tenants: []opencmg.Tenant{tenant, twice}},
		"plain authority": {Tenants: []opencmg.Tenant{plain}},
	} {
		if _, err := pki.NewTokenVerifier(cfg, keys, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := pki.NewTokenVerifier(&opencmg.PublishedConfiguration{Tenants: []opencmg.Tenant{tenant}}, nil, nil); err == nil {
		t.Error("tenants without a key cache: accepted")
	}
}

func TestTokenCacheFollowsTheClock(t *testing.T) {
	now := time.Now()
	s, v := testSigner(t), siteVerifier(t, nil)
	token := must(s.Bulk(time.Hour, now))(t).Raw
	verify := func(at time.Time) error { _, err := v.Verify(t.Context(), token, "", at); return err }
	if err := verify(now); err != nil {
		t.Fatal(err)
	}
	if err := verify(now.Add(time.Hour + pki.ClockSkew - 2*time.Second)); err != nil {
		t.Error(err)
	}
	wantRefusal(t, verify(now.Add(time.Hour+pki.ClockSkew+2*time.Second)), pki.RefusedTokenExpired)
	if err := verify(now); err != nil {
		t.Error(err)
	}
	wantRefusal(t, verify(now.Add(-time.Hour)), pki.RefusedTokenNotYetValid)
	if err := verify(now); err != nil {
		t.Errorf("a refusal that time heals was remembered: %v", err)
	}
	// The presented certificate is part of what was verified.
	bound := must(s.Client(clientID, proof, now))(t).Raw
	if _, err := v.Verify(t.Context(), bound, proof, now); err != nil {
		t.Fatal(err)
	}
	_, err := v.Verify(t.Context(), bound, other, now)
	wantRefusal(t, err, pki.RefusedTokenWrongProof)
}

const (
	tenantID  = "AAAAAAAA-1111-2222-3333-444455556666"
	deviceID  = "cccccccc-1111-2222-3333-444455556666"
	userID    = "dddddddd-1111-2222-3333-444455556666"
	authority = "https://login.example/" + tenantID
	v1Issuer  = "https://sts.windows.net/" + tenantID + "/"
	v2Issuer  = "https://login.microsoftonline.com/" + tenantID + "/v2.0"
	resource  = "https://ConfigMgrService"
)

// provider answers discovery and key set with the keys of kids.
func provider(t testing.TB, w *web, kids map[string]any) {
	w.set(authority+"/.well-known/openid-configuration", answer(200, []byte(`{"issuer":"x","jwks_uri":"https://login.example/keys"}`)))
	w.set("https://login.example/keys", answer(200, keySet(t, kids)))
}

func keySet(t testing.TB, kids map[string]any) []byte {
	set := jose.JSONWebKeySet{}
	for kid, key := range kids {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.(crypto.Signer).Public(), KeyID: kid, Use: "sig"})
	}
	return must(json.Marshal(set))(t)
}

func entraConfig() *opencmg.PublishedConfiguration {
	return &opencmg.PublishedConfiguration{
		Tenants: []opencmg.Tenant{
			{ID: tenantID, Issuers: []string{v1Issuer, v2Issuer}, Authority: authority, ResourceURI: resource, Audiences: []string{resource, "app-id"}},
			{ID: "bbbbbbbb-0000-0000-0000-000000000000", Issuers: []string{"https://sts.windows.net/bbbbbbbb-0000-0000-0000-000000000000/"}, Disabled: true},
		},
		BlockedTokens: []string{"blocked-uti"},
	}
}

func TestEntraTokens(t *testing.T) {
	now := time.Now()
	w := &web{}
	key := testSigningKey().PrivateKey
	provider(t, w, map[string]any{"k1": key})
	v := must(pki.NewTokenVerifier(entraConfig(), pki.NewJWKSCache(pki.JWKSConfig{HTTP: w.client()}), nil))(t)
	entra := func(kv ...any) string {
		m := map[string]any{
			"iss": v1Issuer, "aud": resource, "tid": strings.ToLower(tenantID), "oid": deviceID, "sub": deviceID, "deviceid": deviceID,
			"idtyp": "device", "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Unix() + 3600, "ver": "1.0", "uti": "u1",
		}
		for i := 0; i < len(kv); i += 2 {
			if kv[i+1] == nil {
				delete(m, kv[i].(string))
			} else {
				m[kv[i].(string)] = kv[i+1]
			}
		}
		return forge(t, map[string]any{"typ": "JWT", "kid": "k1", "x5t": "k1"}, m, key)
	}
	want := opencmg.Identity{Auth: opencmg.AuthEntra, TenantID: strings.ToLower(tenantID), DeviceID: deviceID, Thumbprint: proof, TokenID: "u1"}
	user := want
	user.UserID, user.UserSID = userID, "S-1-5-21-1"
	noDevice := user
	noDevice.DeviceID, noDevice.UserSID = "", ""
	for name, tt := range map[string]struct {
		token string
		want  opencmg.Identity
	}{
		"device":             {entra(), want},
		"device, no type":    {entra("idtyp", nil), want},
		"version 2":          {entra("iss", v2Issuer, "aud", "app-id", "ver", "2.0"), want},
		"user on a device":   {entra("idtyp", "user", "oid", userID, "onprem_sid", "S-1-5-21-1"), user},
		"user, no type":      {entra("idtyp", nil, "scp", "user_impersonation", "oid", userID, "onprem_sid", "S-1-5-21-1"), user},
		"user on no device":  {entra("idtyp", "user", "oid", userID, "deviceid", nil), noDevice},
		"device's own SID":   {entra("onprem_sid", "S-1-5-21-1"), want},
		"key named by x5t":   {forge(t, map[string]any{"x5t": "k1"}, claimsOf(t, entra()), key), want},
		"several audiences":  {entra("aud", []string{"x", resource}), want},
		"tenant in capitals": {entra("tid", tenantID), want},
	} {
		got, err := v.Verify(t.Context(), tt.token, proof, now)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for name, tt := range map[string]struct {
		token, code string
	}{
		"disabled tenant":           {entra("iss", "https://sts.windows.net/bbbbbbbb-0000-0000-0000-000000000000/"), pki.RefusedTokenTenantDisabled},
		"disabled tenant, other":    {entra("iss", "https://x/", "tid", "BBBBBBBB-0000-0000-0000-000000000000"), pki.RefusedTokenTenantDisabled},
		"unknown tenant":            {entra("iss", "https://sts.windows.net/eeeeeeee-0000-0000-0000-000000000000/", "tid", "eeeeeeee-0000-0000-0000-000000000000"), pki.RefusedTokenTenant},
		"known tenant, odd issuer":  {entra("iss", "https://sts.windows.net/else/"), pki.RefusedTokenIssuer},
		"issuer of another tenant":  {entra("tid", "eeeeeeee-0000-0000-0000-000000000000"), pki.RefusedTokenTenant},
		"no tenant":                 {entra("tid", nil), pki.RefusedTokenTenant},
		"audience":                  {entra("aud", "https://graph.microsoft.com"), pki.RefusedTokenAudience},
		"empty audience":            {entra("aud", ""), pki.RefusedTokenAudience},
		"expired":                   {entra("exp", now.Unix()-3600), pki.RefusedTokenExpired},
		"not yet valid":             {entra("nbf", now.Unix()+3600), pki.RefusedTokenNotYetValid},
		"blocked":                   {entra("uti", "BLOCKED-uti"), pki.RefusedTokenBlocked},
		"application":               {entra("idtyp", "app"), pki.RefusedTokenSubject},
		"application without type":  {entra("idtyp", nil, "deviceid", nil), pki.RefusedTokenSubject},
		"bad device":                {entra("deviceid", "x y"), pki.RefusedTokenMalformed},
		"bad user":                  {entra("idtyp", "user", "oid", "x"), pki.RefusedTokenMalformed},
		"proof of possession":       {entra("cnf", map[string]any{"kid": "x"}), pki.RefusedTokenWrongProof},
		"unknown key":               {forge(t, map[string]any{"kid": "k9"}, claimsOf(t, entra()), key), pki.RefusedTokenSigner},
		"known key ID, another key": {forge(t, map[string]any{"kid": "k1"}, claimsOf(t, entra()), otherSigningKey().PrivateKey), pki.RefusedTokenSignature},
	} {
		_, err := v.Verify(t.Context(), tt.token, proof, now)
		t.Run(name, func(t *testing.T) { wantRefusal(t, err, tt.code) })
	}
}

func claimsOf(t testing.TB, token string) map[string]any {
	_, c := decode(t, token)
	return c
}

func TestKeysRotate(t *testing.T) {
	// Made outside the bubble, whose clock starts in 2000.
	first, second := testSigningKey().PrivateKey, otherSigningKey().PrivateKey
	synctest.Test(t, func(t *testing.T) {
		w := &web{}
		var log logTo
		provider(t, w, map[string]any{"k1": first})
		keys := pki.NewJWKSCache(pki.JWKSConfig{HTTP: w.client(), Log: log.logger()})
		go keys.Run(t.Context())
		v := must(pki.NewTokenVerifier(entraConfig(), keys, nil))(t)
		synctest.Wait()
		if w.count() != 2 {
			t.Fatalf("%d requests before anybody asked", w.count())
		}
		token := func(kid string, key any) string {
			return forge(t, map[string]any{"kid": kid}, map[string]any{
				"iss": v1Issuer, "aud": resource, "tid": tenantID, "deviceid": deviceID, "exp": time.Now().Unix() + 86400,
			}, key)
		}
		verify := func(token string) error { _, err := v.Verify(t.Context(), token, "", time.Now()); return err }
		old, fresh := token("k1", first), token("k2", second)
		if err := verify(old); err != nil {
			t.Fatal(err)
		}
		// An unknown key is asked for once, by whoever comes first.
		wantRefusal(t, verify(fresh), pki.RefusedTokenSigner)
		asked := w.count()
		done := make(chan error)
		for i := range 50 {
			go func() { done <- verify(token(fmt.Sprint("x", i), second)) }()
		}
		for range 50 {
			wantRefusal(t, <-done, pki.RefusedTokenSigner)
		}
		if w.count() != asked {
			t.Errorf("%d requests for unknown keys", w.count()-asked)
		}
		// The provider rotates: the new key works at the next question.
		provider(t, w, map[string]any{"k1": first, "k2": second})
		time.Sleep(31 * time.Second)
		for range 50 {
			go func() { done <- verify(fresh) }()
		}
		for range 50 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if n := w.count() - asked; n != 2 {
			t.Errorf("%d requests for one refresh", n)
		}
		// Gone from the provider, the old key is gone here within MaxAge,
		// though its token was accepted before.
		provider(t, w, map[string]any{"k2": second})
		if err := verify(old); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		wantRefusal(t, verify(old), pki.RefusedTokenSigner)
		// Unreachable: the keys serve on.
		w.set("https://login.example/keys", hang)
		time.Sleep(10 * time.Hour)
		if err := verify(fresh); err != nil {
			t.Error(err)
		}
		s := keys.Status()
		if len(s) != 1 || s[0].Keys != 1 || s[0].LastError == "" || s[0].Authority != authority {
			t.Errorf("status %+v", s)
		}
		if n := strings.Count(log.String(), "can not be had"); n != 1 {
			t.Errorf("%d warnings: %s", n, log.String())
		}
		// And back, without anybody's doing.
		provider(t, w, map[string]any{"k2": second})
		time.Sleep(time.Minute + 10*time.Second)
		if s := keys.Status(); s[0].LastError != "" {
			t.Errorf("status %+v", s)
		}
	})
}

func TestKeysUnavailable(t *testing.T) {
	key := testSigningKey().PrivateKey
	metadata := authority + "/.well-known/openid-configuration"
	many := map[string]any{}
	for i := range 101 {
		many[fmt.Sprint(i)] = key
	}
	small := func(t testing.TB) []byte {
		return []byte(`{"keys":[{"kty":"RSA","kid":"k1","n":"` + strings.Repeat("q", 170) + `","e":"AQAB"},{"kty":"oct","kid":"k1","k":"AAAA"},{"kty":"new"},1]}`)
	}
	for name, spoil := range map[string]func(t testing.TB, w *web){
		"absent":     func(t testing.TB, w *web) { w.answers = nil },
		"hangs":      func(t testing.TB, w *web) { w.set(metadata, hang) },
		"keys hang":  func(t testing.TB, w *web) { w.set("https://login.example/keys", hang) },
		"500":        func(t testing.TB, w *web) { w.set(metadata, answer(500, nil)) },
		"empty":      func(t testing.TB, w *web) { w.set(metadata, answer(200, nil)) },
		"no address": func(t testing.TB, w *web) { w.set(metadata, answer(200, []byte("{}"))) },
		"plain address": func(t testing.TB, w *web) {
			w.set(metadata, answer(200, []byte(`{"jwks_uri":"http://login.example/keys"}`)))
		},
		"file address":  func(t testing.TB, w *web) { w.set(metadata, answer(200, []byte(`{"jwks_uri":"file:///etc/passwd"}`))) },
		"HTML keys":     func(t testing.TB, w *web) { w.set("https://login.example/keys", answer(200, []byte("<html>"))) },
		"huge":          func(t testing.TB, w *web) { w.set(metadata, answer(200, make([]byte, 1<<20))) },
		"huge keys":     func(t testing.TB, w *web) { w.set("https://login.example/keys", answer(200, make([]byte, 2<<20))) },
		"no usable key": func(t testing.TB, w *web) { w.set("https://login.example/keys", answer(200, small(t))) },
		"too many keys": func(t testing.TB, w *web) { w.set("https://login.example/keys", answer(200, keySet(t, many))) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &web{}
				provider(t, w, map[string]any{"k1": key})
				spoil(t, w)
				keys := pki.NewJWKSCache(pki.JWKSConfig{HTTP: w.client()})
				v := must(pki.NewTokenVerifier(entraConfig(), keys, nil))(t)
				token := forge(t, map[string]any{"kid": "k1"}, map[string]any{
					"iss": v1Issuer, "aud": resource, "tid": tenantID, "deviceid": deviceID, "exp": time.Now().Unix() + 86400,
				}, key)
				start := time.Now()
				_, err := v.Verify(t.Context(), token, "", time.Now())
				wantRefusal(t, err, pki.RefusedTokenKeysUnknown)
				if d := time.Since(start); d > 10*time.Second {
					t.Errorf("took %v", d)
				}
				asked := w.count()
				_, err = v.Verify(t.Context(), token, "", time.Now())
				wantRefusal(t, err, pki.RefusedTokenKeysUnknown)
				if w.count() != asked {
					t.Error("asked again at once")
				}
				// It heals by itself.
				provider(t, w, map[string]any{"k1": key})
				go keys.Run(t.Context())
				time.Sleep(time.Minute)
				if _, err := v.Verify(t.Context(), token, "", time.Now()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestRefusedTokensAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := siteVerifier(t, nil)
		for i := range 20000 {
			v.Verify(t.Context(), fmt.Sprintf("a.b%d.c", i), "", time.Now())
		}
		if good, bad := v.Remembered(); good != 0 || bad > 8<<10 {
			t.Errorf("remembers %d good and %d bad tokens", good, bad)
		}
	})
}

// TestAnalyzerToken: it is bound to its key, short, and names a device only.
func TestAnalyzerToken(t *testing.T) {
	s, now := testSigner(t), time.Now()
	device := must(pki.NewSelfSigned("analyzer", now))(t)
	thumbprint := pki.Thumbprint(device.Leaf)
	tok := must(s.Analyzer(thumbprint, 10*time.Minute, now))(t)
	v := must(pki.NewTokenVerifier(&opencmg.PublishedConfiguration{TokenIssuers: []opencmg.TokenIssuer{s.TokenIssuer()}}, nil, nil))(t)
	id := must(v.Verify(t.Context(), tok.Raw, thumbprint, now))(t)
	if id.Auth != opencmg.AuthCCMToken || id.ClientID != "" || id.UserID != "" || id.DeviceID == "" {
		t.Errorf("identity %+v", id)
	}
	if _, err := v.Verify(t.Context(), tok.Raw, strings.Repeat("0", 64), now); err == nil {
		t.Error("it is good with another key")
	}
	if _, err := v.Verify(t.Context(), tok.Raw, thumbprint, now.Add(12*time.Minute)); err == nil {
		t.Error("it is good for more than ten minutes")
	}
}
