package labcloud_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/opencmg/opencmg/labcloud"
	"github.com/zitadel/oidc/v3/pkg/client"
)

const (
	tenant  = "11111111-2222-3333-4444-555555555555"
	other   = "99999999-2222-3333-4444-555555555555"
	device  = "aaaaaaaa-0000-0000-0000-000000000001"
	appID   = "bbbbbbbb-0000-0000-0000-000000000002"
	secret  = "device secret"
	admin   = "admin secret"
	ours    = "api://11111111-2222-3333-4444-555555555555/opencmg"
	theirs  = "https://ConfigMgrService"
	version = "1.0"
)

type lab struct {
	*labcloud.Server
	http *http.Client
}

func start(t *testing.T) *lab {
	t.Helper()
	cert, pool := certificate(t)
	s, err := labcloud.New(labcloud.Config{
		Certificate: cert,
		Tenants:     []labcloud.Tenant{{ID: tenant}, {ID: other, V1Issuer: "https://v1.example/"}},
		Apps: []labcloud.App{
			{Tenant: tenant, ID: appID, ResourceURI: ours},
			{Tenant: other, ID: appID, ResourceURI: theirs, TokenVersion: 2, Secret: "app secret"},
		},
		Devices:     []labcloud.Device{{Tenant: tenant, ID: device, Secret: secret}},
		AdminSecret: admin,
	})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	l := &lab{Server: s, http: &http.Client{Transport: tr}}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	// The first request waits until Serve has set the base URL.
	l.get(t, "https://"+ln.Addr().String()+"/"+tenant+"/discovery/keys")
	return l
}

func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func (l *lab) get(t *testing.T, u string) []byte {
	t.Helper()
	resp, err := l.http.Get(u)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 {
		t.Fatalf("GET %s: %s: %s", u, resp.Status, b)
	}
	return b
}

func (l *lab) verify(t *testing.T, token string) map[string]any {
	t.Helper()
	claims, err := l.check(t, token)
	if err != nil {
		t.Fatalf("token does not verify: %v", err)
	}
	return claims
}

func (l *lab) check(t *testing.T, token string) (map[string]any, error) {
	t.Helper()
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(l.get(t, l.BaseURL()+"/"+tenant+"/discovery/v2.0/keys"), &set); err != nil {
		t.Fatal(err)
	}
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return nil, err
	}
	payload, err := jws.Verify(&set)
	if err != nil {
		return nil, err
	}
	var claims map[string]any
	return claims, json.Unmarshal(payload, &claims)
}

func (l *lab) post(t *testing.T, path string, form url.Values) (int, map[string]any) {
	t.Helper()
	resp, err := l.http.PostForm(l.BaseURL()+path, form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var m map[string]any
	json.NewDecoder(resp.Body).Decode(&m)
	return resp.StatusCode, m
}

func TestDiscoveryByAnotherClient(t *testing.T) {
	l := start(t)
	d, err := client.Discover(t.Context(), l.Authority(tenant), l.http)
	if err != nil {
		t.Fatal(err)
	}
	if want := l.BaseURL() + "/" + tenant + "/oauth2/v2.0/token"; d.TokenEndpoint != want {
		t.Errorf("token endpoint %s, want %s", d.TokenEndpoint, want)
	}
	var v1 struct{ Issuer string }
	json.Unmarshal(l.get(t, l.BaseURL()+"/"+tenant+"/.well-known/openid-configuration"), &v1)
	if want := "https://sts.windows.net/" + tenant + "/"; v1.Issuer != want {
		t.Errorf("version 1 issuer %q, want %q", v1.Issuer, want)
	}
	if diff := cmp.Diff([]string{"https://v1.example/", l.BaseURL() + "/" + other + "/v2.0"}, l.Issuers(other)); diff != "" {
		t.Errorf("issuers (-want +got):\n%s", diff)
	}
}

func TestDeviceToken(t *testing.T) {
	l := start(t)
	for name, form := range map[string]url.Values{
		"/oauth2/token":      {"resource": {ours}},
		"/oauth2/v2.0/token": {"scope": {ours + "/.default"}},
	} {
		form.Set("grant_type", "client_credentials")
		form.Set("client_id", device)
		form.Set("client_secret", secret)
		status, m := l.post(t, "/"+tenant+name, form)
		if status != 200 {
			t.Fatalf("%s: %d %v", name, status, m)
		}
		got := l.verify(t, m["access_token"].(string))
		for _, k := range []string{"iat", "nbf", "exp", "uti"} {
			if got[k] == nil {
				t.Errorf("%s: claim %s is missing", name, k)
			}
			delete(got, k)
		}
		want := map[string]any{
			"iss": "https://sts.windows.net/" + tenant + "/", "aud": ours, "tid": tenant, "oid": device, "sub": device,
			"appid": appID, "appidacr": "0", "ver": version, "deviceid": device, "idtyp": "device",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: claims (-want +got):\n%s", name, diff)
		}
	}
}

func TestTokenRefusals(t *testing.T) {
	l := start(t)
	good := url.Values{"grant_type": {"client_credentials"}, "client_id": {device}, "client_secret": {secret}, "resource": {ours}}
	tests := map[string]struct {
		path, key, value string
	}{
		"wrong secret":     {"/" + tenant + "/oauth2/token", "client_secret", "x"},
		"unknown client":   {"/" + tenant + "/oauth2/token", "client_id", "x"},
		"unknown resource": {"/" + tenant + "/oauth2/token", "resource", "x"},
		"no resource":      {"/" + tenant + "/oauth2/token", "resource", ""},
		"unknown grant":    {"/" + tenant + "/oauth2/token", "grant_type", "password"},
		"another tenant":   {"/" + other + "/oauth2/token", "client_id", device},
		"app without own":  {"/" + tenant + "/oauth2/token", "client_id", appID},
		"no such tenant":   {"/nowhere/oauth2/token", "client_id", device},
	}
	for name, tc := range tests {
		form := url.Values{}
		for k := range good {
			form.Set(k, good.Get(k))
		}
		form.Set(tc.key, tc.value)
		status, m := l.post(t, tc.path, form)
		if status < 400 || status >= 500 || m["access_token"] != nil {
			t.Errorf("%s: got %d %v, want a refusal", name, status, m)
		}
	}
	status, m := l.post(t, "/"+other+"/oauth2/v2.0/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {appID}, "client_secret": {"app secret"}, "scope": {theirs + "/.default"}})
	if status != 200 {
		t.Fatalf("app: %d %v", status, m)
	}
	if c := l.verify(t, m["access_token"].(string)); c["ver"] != "2.0" || c["idtyp"] != "app" || c["iss"] != l.Authority(other) {
		t.Errorf("app token has claims %v", c)
	}
}

func TestOddTokens(t *testing.T) {
	l := start(t)
	issue := func(o labcloud.TokenOptions) string {
		t.Helper()
		token, err := l.IssueToken(o)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	now := time.Now().Unix()
	if c := l.verify(t, issue(labcloud.TokenOptions{Tenant: tenant, DeviceID: device, NotBefore: -7200, ExpiresIn: 3600})); int64(c["exp"].(float64)) >= now {
		t.Errorf("expired token: exp %v, now %d", c["exp"], now)
	}
	if c := l.verify(t, issue(labcloud.TokenOptions{Tenant: "77777777-0000-0000-0000-000000000000", DeviceID: device, Audience: "x"})); c["aud"] != "x" || c["iss"] != "https://sts.windows.net/77777777-0000-0000-0000-000000000000/" {
		t.Errorf("foreign tenant: %v", c)
	}
	if _, err := l.check(t, issue(labcloud.TokenOptions{Tenant: tenant, UnknownKey: true})); err == nil {
		t.Error("a token of an unpublished key verifies")
	}
	user := l.verify(t, issue(labcloud.TokenOptions{Tenant: tenant, DeviceID: device, ObjectID: "o", UPN: "a@example.com", OnPremSID: "S-1-5-21-1", Claims: map[string]any{"iat": nil, "amr": "pwd"}}))
	if user["upn"] != "a@example.com" || user["onprem_sid"] != "S-1-5-21-1" || user["deviceid"] != device || user["idtyp"] != "user" || user["iat"] != nil || user["amr"] != "pwd" {
		t.Errorf("user token: %v", user)
	}
	for name, o := range map[string]labcloud.TokenOptions{"no tenant": {}, "no audience": {Tenant: "88888888-0000-0000-0000-000000000000"}} {
		if _, err := l.IssueToken(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestKeyRotation(t *testing.T) {
	l := start(t)
	token, err := l.IssueToken(labcloud.TokenOptions{Tenant: tenant})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.RotateKey(); err != nil {
		t.Fatal(err)
	}
	l.verify(t, token)
	l.RotateKey()
	if _, err := l.check(t, token); err == nil {
		t.Error("a key is still published after two rotations")
	}
}

func TestAdmin(t *testing.T) {
	l := start(t)
	call := func(path, secret, body string) (int, string) {
		req, _ := http.NewRequestWithContext(t.Context(), "POST", l.BaseURL()+path, strings.NewReader(body))
		if secret != "" {
			req.Header.Set("Authorization", "Bearer "+secret)
		}
		resp, err := l.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	tests := []struct {
		path, secret, body string
		want               int
	}{
		{"/lab/token", "", `{}`, 401},
		{"/lab/token", "wrong", `{}`, 401},
		{"/lab/token", admin, `{`, 400},
		{"/lab/token", admin, `{"nonsense":1}`, 400},
		{"/lab/token", admin, `{"tenant":"` + tenant + `"}`, 200},
		{"/lab/rotate", admin, ``, 200},
		{"/lab/device", admin, `{"tenant":"x","id":"1","secret":"s"}`, 400},
		{"/lab/device", admin, `{"tenant":"` + tenant + `","id":"d2","secret":"s2"}`, 200},
	}
	for _, tc := range tests {
		if got, body := call(tc.path, tc.secret, tc.body); got != tc.want {
			t.Errorf("%s %q %s: got %d %s, want %d", tc.path, tc.secret, tc.body, got, body, tc.want)
		}
	}
	_, body := call("/lab/token", admin, `{"tenant":"`+tenant+`","deviceId":"d9"}`)
	var a labcloud.TokenAnswer
	json.Unmarshal([]byte(body), &a)
	if c := l.verify(t, a.AccessToken); c["deviceid"] != "d9" {
		t.Errorf("claims %v", c)
	}
	if status, m := l.post(t, "/"+tenant+"/oauth2/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {"d2"}, "client_secret": {"s2"}, "resource": {appID}}); status != 200 {
		t.Errorf("the added device got %d %v", status, m)
	}
}

func TestConfigErrors(t *testing.T) {
	for name, c := range map[string]labcloud.Config{
		"no tenant":         {},
		"bad tenant":        {Tenants: []labcloud.Tenant{{ID: "a/b"}}},
		"tenant twice":      {Tenants: []labcloud.Tenant{{ID: tenant}, {ID: tenant}}},
		"app elsewhere":     {Tenants: []labcloud.Tenant{{ID: tenant}}, Apps: []labcloud.App{{Tenant: other}}},
		"device elsewhere":  {Tenants: []labcloud.Tenant{{ID: tenant}}, Devices: []labcloud.Device{{Tenant: other, ID: "x", Secret: "y"}}},
		"half of the hosts": {Tenants: []labcloud.Tenant{{ID: tenant}}, Hosts: labcloud.Hosts{Login: "login.example"}},
		"no subscription":   {Tenants: []labcloud.Tenant{{ID: tenant}}, Subscriptions: []labcloud.Subscription{{ID: "x", Tenant: tenant}}},
		"user elsewhere":    {Tenants: []labcloud.Tenant{{ID: tenant}}, Users: []labcloud.User{{Tenant: other, ID: device}}},
		"device no secret":  {Tenants: []labcloud.Tenant{{ID: tenant}}, Devices: []labcloud.Device{{Tenant: tenant, ID: "x"}}},
	} {
		if _, err := labcloud.New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
