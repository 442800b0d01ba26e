package labcloud_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/opencmg/opencmg/labcloud"
)

func (a answer) aadsts(t *testing.T, status, code int) {
	t.Helper()
	got, _ := field(a.body, "error_codes", 0).(float64)
	text, _ := a.body["error_description"].(string)
	if a.status != status || int(got) != code || !strings.HasPrefix(text, "AADSTS") || a.body["trace_id"] == "" {
		t.Errorf("got %d %s, want %d AADSTS%d", a.status, a.raw, status, code)
	}
}

func TestClientSecretRefusals(t *testing.T) {
	now := time.Now()
	c := newCloud(t, func(cfg *labcloud.Config) {
		cfg.Apps = append(cfg.Apps, labcloud.App{Tenant: tenant, ID: appID, Secret: "old", SecretExpires: now.Add(-time.Hour)})
	})
	graph := "https://" + c.hosts.Graph + "/.default"
	tests := []struct {
		name, path          string
		app, secret, scope  string
		wantStatus, wantErr int
	}{
		{"bad secret", tenant, adminApp, "x", graph, 401, 7000215},
		{"expired secret", tenant, appID, "old", graph, 401, 7000222},
		{"unknown app", tenant, device, "x", graph, 400, 700016},
		{"app of another tenant", other, adminApp, adminAppKey, graph, 400, 700016},
		{"unknown tenant", device, adminApp, adminAppKey, graph, 400, 90002},
		{"no secret", tenant, adminApp, "", graph, 401, 7000218},
		{"unknown resource", tenant, adminApp, adminAppKey, "https://nothing.example/.default", 400, 500011},
		{"two resources", tenant, adminApp, adminAppKey, graph + " " + c.hosts.VaultAudience + "/.default", 400, 28000},
		{"not the default scope", tenant, adminApp, adminAppKey, "https://" + c.hosts.Graph + "/User.Read", 400, 1002012},
		{"no scope", tenant, adminApp, adminAppKey, "", 400, 900144},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			c.form("/"+tc.path+"/oauth2/v2.0/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {tc.app}, "client_secret": {tc.secret}, "scope": {tc.scope}}).aadsts(t, tc.wantStatus, tc.wantErr)
		})
	}
	c.form("/"+tenant+"/oauth2/v2.0/token", url.Values{"grant_type": {"password"}, "client_id": {adminApp}}).aadsts(t, 400, 70003)
}

func claims(t *testing.T, token string) map[string]any {
	t.Helper()
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &m)
	return m
}

func TestAudiences(t *testing.T) {
	c := newCloud(t, nil)
	arm := claims(t, c.token(c.hosts.ARMAudiences[0]+"//.default"))
	if arm["aud"] != c.hosts.ARMAudiences[0]+"/" || arm["iss"] != "https://"+c.hosts.STS+"/"+tenant+"/" || arm["appid"] != adminApp || arm["appidacr"] != "1" || arm["oid"] != labcloud.PrincipalID(tenant, adminApp) || arm["idtyp"] != "app" {
		t.Errorf("claims %v", arm)
	}
	graph := claims(t, c.token("https://"+c.hosts.Graph+"/.default"))
	if !contains(graph["roles"], "Application.ReadWrite.All") {
		t.Errorf("roles %v", graph["roles"])
	}
	v1 := c.form("/"+tenant+"/oauth2/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {adminApp}, "client_secret": {adminAppKey}, "resource": {c.hosts.VaultAudience}}).want(t, 200, "")
	if aud := claims(t, v1.body["access_token"].(string))["aud"]; aud != c.hosts.VaultAudience {
		t.Errorf("aud %v", aud)
	}
	// A token of one service opens no other.
	c.do("GET", "https://"+c.hosts.ARM+"/subscriptions?api-version=2022-12-01", c.token("https://"+c.hosts.Graph+"/.default"), nil).want(t, 401, "InvalidAuthenticationToken")
	c.do("GET", "https://"+c.hosts.Graph+"/v1.0/organization", c.token(c.hosts.VaultAudience+"/.default"), nil).want(t, 401, "InvalidAuthenticationToken")
	c.do("GET", "https://"+c.hosts.ARM+"/subscriptions?api-version=2022-12-01", "", nil).want(t, 401, "AuthenticationFailed")
	foreign, err := c.IssueToken(labcloud.TokenOptions{Tenant: other, Audience: c.hosts.ARMAudiences[0], ObjectID: alice, AppID: adminApp})
	if err != nil {
		t.Fatal(err)
	}
	c.do("GET", "https://"+c.hosts.ARM+"/subscriptions/"+subscription+"?api-version=2022-12-01", foreign, nil).want(t, 401, "InvalidAuthenticationTokenTenant")
	for name, o := range map[string]labcloud.TokenOptions{
		"expired":     {NotBefore: -7200, ExpiresIn: 3600},
		"early":       {NotBefore: 3600},
		"unknown key": {UnknownKey: true},
		"issuer":      {Issuer: "https://evil.example/"},
	} {
		o.Tenant, o.Audience, o.AppID = tenant, c.hosts.ARMAudiences[0], adminApp
		token, err := c.IssueToken(o)
		if err != nil {
			t.Fatal(err)
		}
		if a := c.do("GET", "https://"+c.hosts.ARM+"/subscriptions?api-version=2022-12-01", token, nil); a.status != 401 {
			t.Errorf("%s token: %d", name, a.status)
		}
	}
}

func assertion(t *testing.T, key any, alg jose.SignatureAlgorithm, c map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(c)
	jws, err := signer.Sign(b)
	if err != nil {
		t.Fatal(err)
	}
	out, _ := jws.CompactSerialize()
	return out
}

func TestAssertions(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	stranger, _ := rsa.GenerateKey(rand.Reader, 2048)
	idp, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	tpl := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := x509.ParseCertificate(der)
	c := newCloud(t, func(cfg *labcloud.Config) {
		cfg.Apps = append(cfg.Apps, labcloud.App{Tenant: tenant, ID: appID, Certificates: []*x509.Certificate{cert},
			Federated: []labcloud.Federated{{Issuer: "https://idp.example", Subject: "site", Audience: "api://AzureADTokenExchange", Key: jose.JSONWebKey{Key: idp.Public()}}}})
	})
	aud := "https://" + c.hosts.Login + "/" + tenant + "/oauth2/v2.0/token"
	now := time.Now().Unix()
	ask := func(a string) answer {
		return c.form("/"+tenant+"/oauth2/v2.0/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {appID}, "scope": {c.hosts.VaultAudience + "/.default"},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {a}})
	}
	good := func(change func(m map[string]any)) map[string]any {
		m := map[string]any{"iss": appID, "sub": appID, "aud": aud, "exp": now + 300, "nbf": now, "jti": "1"}
		if change != nil {
			change(m)
		}
		return m
	}
	a := ask(assertion(t, key, jose.PS256, good(nil))).want(t, 200, "")
	if acr := claims(t, a.body["access_token"].(string))["appidacr"]; acr != "2" {
		t.Errorf("appidacr %v", acr)
	}
	ask(assertion(t, key, jose.RS256, good(nil))).want(t, 200, "")
	ask(assertion(t, stranger, jose.RS256, good(nil))).aadsts(t, 401, 700027)
	ask(assertion(t, key, jose.RS256, good(func(m map[string]any) { m["exp"] = now - 10 }))).aadsts(t, 401, 700024)
	ask(assertion(t, key, jose.RS256, good(func(m map[string]any) { m["aud"] = "https://elsewhere.example" }))).aadsts(t, 401, 700023)
	ask("nonsense").aadsts(t, 401, 50027)
	fed := func(m map[string]any) {
		m["iss"], m["sub"], m["aud"] = "https://idp.example", "site", "api://AzureADTokenExchange"
	}
	ask(assertion(t, idp, jose.ES256, good(fed))).want(t, 200, "")
	ask(assertion(t, key, jose.RS256, good(fed))).aadsts(t, 401, 7002131)
	ask(assertion(t, idp, jose.ES256, good(func(m map[string]any) { fed(m); m["sub"] = "else" }))).aadsts(t, 401, 700213)
}

func TestDeviceCode(t *testing.T) {
	c := newCloud(t, nil)
	scope := c.hosts.ARMAudiences[0] + "//.default openid offline_access profile"
	begin := func() answer {
		return c.form("/"+tenant+"/oauth2/v2.0/devicecode", url.Values{"client_id": {publicApp}, "scope": {scope}}).want(t, 200, "")
	}
	redeem := func(code any) answer {
		return c.form("/"+tenant+"/oauth2/v2.0/token", url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "client_id": {publicApp}, "device_code": {code.(string)}})
	}
	d := begin()
	redeem(d.body["device_code"]).aadsts(t, 400, 70016)
	c.admin("POST", "/lab/approve", j{"userCode": d.body["user_code"], "user": "nobody"}).want(t, 400, "")
	c.admin("POST", "/lab/approve", j{"userCode": d.body["user_code"], "user": "alice@contoso.example"}).want(t, 200, "")
	a := redeem(d.body["device_code"]).want(t, 200, "")
	got := claims(t, a.body["access_token"].(string))
	if got["oid"] != alice || got["scp"] != "user_impersonation" || got["aud"] != c.hosts.ARMAudiences[0]+"/" {
		t.Errorf("claims %v", got)
	}
	if a.body["id_token"] == nil || a.body["client_info"] == nil || a.body["scope"] != scope {
		t.Errorf("answer %s", a.raw)
	}
	redeem(d.body["device_code"]).aadsts(t, 400, 70000)
	// The refresh token serves another resource too.
	r := c.form("/"+tenant+"/oauth2/v2.0/token", url.Values{"grant_type": {"refresh_token"}, "client_id": {publicApp}, "refresh_token": {a.body["refresh_token"].(string)}, "scope": {"https://" + c.hosts.Graph + "/.default"}}).want(t, 200, "")
	c.do("GET", "https://"+c.hosts.Graph+"/v1.0/organization", r.body["access_token"].(string), nil).want(t, 200, "")
	c.form("/"+tenant+"/oauth2/v2.0/token", url.Values{"grant_type": {"refresh_token"}, "client_id": {publicApp}, "refresh_token": {"x"}, "scope": {scope}}).aadsts(t, 400, 70008)
	d = begin()
	c.admin("POST", "/lab/approve", labcloud.Approval{UserCode: d.body["user_code"].(string), Deny: true}).want(t, 200, "")
	redeem(d.body["device_code"]).aadsts(t, 400, 70018)
	c.form("/"+tenant+"/oauth2/v2.0/devicecode", url.Values{"client_id": {adminApp}, "scope": {scope}}).aadsts(t, 401, 7000218)
	redeem("nonsense").aadsts(t, 400, 70000)
}
