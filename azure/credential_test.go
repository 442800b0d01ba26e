package azure_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/azure"
)

func TestWaysToSignIn(t *testing.T) {
	var asked string
	for name, tc := range map[string]struct {
		how   azure.Credential
		wants map[string]string // of the token request
	}{
		"secret":      {azure.Credential{ClientID: clientID, Secret: clientSecret}, map[string]string{"grant_type": "client_credentials", "client_secret": clientSecret}},
		"certificate": {azure.Credential{ClientID: clientID, CertificatePEM: appCertificate(t)}, map[string]string{"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}},
		"federated":   {azure.Credential{ClientID: clientID, FederatedToken: func(context.Context) (string, error) { return "assertion", nil }}, map[string]string{"client_assertion": "assertion"}},
		"device code": {azure.Credential{ClientID: clientID, DeviceCode: func(_ context.Context, code, at, message string) error { asked = code + at + message; return nil }}, map[string]string{"device_code": "dev"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t, opencmg.AzureLab)
			var form url.Values
			c.signIn = func(f url.Values) reply { form = f; return reply{} }
			cfg := c.config()
			cfg.Credential = tc.how
			client, err := azure.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if err := client.SignIn(t.Context()); err != nil {
				t.Fatal(err)
			}
			for k, v := range tc.wants {
				if form.Get(k) != v {
					t.Errorf("%s is %q", k, form.Get(k))
				}
			}
			if !strings.Contains(form.Get("scope"), "https://management.core.lab.opencmg.example//.default") {
				t.Errorf("scope %q", form.Get("scope"))
			}
			if form.Get("client_id") != clientID {
				t.Errorf("client %q", form.Get("client_id"))
			}
		})
	}
	if asked != "ABC123https://device.exampleenter the code" {
		t.Errorf("asked %q", asked)
	}
}

func TestManagedIdentity(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	cfg := c.config()
	cfg.Credential = azure.Credential{ManagedIdentity: true}
	cfg.HTTP = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Host != "169.254.169.254" || r.Header.Get("Metadata") != "true" || r.URL.Query().Get("resource") != "https://management.core.lab.opencmg.example/" {
			t.Errorf("%s %v", r.URL, r.Header)
		}
		body := fmt.Sprintf(`{"access_token":"x","token_type":"Bearer","expires_in":"3600","expires_on":"%d","resource":"r"}`, time.Now().Add(time.Hour).Unix())
		return &http.Response{StatusCode: 200, Request: r, Header: http.Header{"Content-Type": {"application/json"}}, Body: readCloser{strings.NewReader(body)}}, nil
	})}
	client, err := azure.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.SignIn(t.Context()); err != nil {
		t.Error(err)
	}
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

func appCertificate(t *testing.T) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "app"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})...)
}

func TestConfigRefused(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	lonelyKey := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	for name, change := range map[string]func(*azure.Config){
		"environment":  func(c *azure.Config) { c.Environment = "AzureMoon" },
		"tenant":       func(c *azure.Config) { c.TenantID = "contoso" },
		"subscription": func(c *azure.Config) { c.SubscriptionID = "mine" },
		"no way":       func(c *azure.Config) { c.Credential = azure.Credential{ClientID: clientID} },
		"two ways":     func(c *azure.Config) { c.Credential.ManagedIdentity = true },
		"client":       func(c *azure.Config) { c.Credential.ClientID = "app" },
		"certificate": func(c *azure.Config) {
			c.Credential = azure.Credential{ClientID: clientID, CertificatePEM: lonelyKey}
		},
	} {
		cfg := newCloud(t, opencmg.AzureLab).config()
		change(&cfg)
		_, err := azure.New(cfg)
		if err == nil || strings.Contains(err.Error(), clientSecret) || strings.Contains(err.Error(), "PRIVATE") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSecretsRedact(t *testing.T) {
	how := azure.Credential{ClientID: clientID, Secret: clientSecret}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "credential", how, "secret", how.Secret)
	body, err := json.Marshal(struct{ S azure.Secret }{how.Secret})
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprintf("%v %+v %#v %s %v %x %s %s", how, how, how, how, how.Secret, how.Secret, log.String(), body)
	if strings.Contains(all, clientSecret) || strings.Contains(all, fmt.Sprintf("%x", clientSecret)) {
		t.Error(all)
	}
	if !strings.Contains(all, clientID) || !strings.Contains(log.String(), "client secret") {
		t.Error(all)
	}
}

// No request of the US Government cloud goes to a name of the public cloud:
// the stand-in dials only names of its environment, and fails the test on any
// other (see newCloud). Here every service is used once.
func TestUSGovernmentStaysAtHome(t *testing.T) {
	c := newCloud(t, opencmg.AzureUSGovernmentCloud)
	d := deployment()
	d.Environment = opencmg.AzureUSGovernmentCloud
	deployable(c)
	checkable(c)
	client := c.client()
	if _, err := client.Check(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Deploy(t.Context(), d, nil); err != nil {
		t.Fatal(err)
	}
	c.vault("GET", "/secrets/server-certificate/", azError(404, "SecretNotFound", "no"))
	c.vault("PUT", "/secrets/server-certificate", ok(vaultSecret(c, "x", "v1")))
	if _, err := client.SetSecret(t.Context(), d, azure.SecretCertificate, "x", azure.CertificateType); err != nil {
		t.Fatal(err)
	}
	c.arm("POST", group(owned[8]+"/listKeys"), ok(m{"keys": []any{m{"keyName": "key1", "value": "a2V5MQ=="}, m{"keyName": "key2", "value": "a2V5Mg=="}}}))
	blob := c.env.BlobURL("granitefalls") + "service/opencmg"
	c.on("HEAD", blob, func(request) reply {
		return reply{status: 404, header: map[string]string{"x-ms-error-code": "BlobNotFound"}}
	})
	c.on("PUT", blob, func(request) reply { return reply{status: 201} })
	link, _, err := client.UploadService(t.Context(), d, "opencmg", strings.NewReader("x"), 1, "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881")
	if err != nil || !strings.HasPrefix(link, "https://granitefalls.blob.core.usgovcloudapi.net/service/opencmg?") {
		t.Fatal(err)
	}
	graphable(c)
	if _, err := client.Tenant(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CreateServerApp(t.Context(), serverRequest(), nil); err != nil {
		t.Fatal(err)
	}
	hosts := map[string]bool{}
	for _, r := range c.sent("GET", "") {
		hosts[r.Host] = true
	}
	for host := range hosts {
		if !strings.HasSuffix(host, "usgovcloudapi.net") && host != "graph.microsoft.us" {
			t.Errorf("asked %s", host)
		}
	}
	if got := c.env.DeploymentName("granitefalls", "usgovvirginia"); got != "granitefalls.usgovvirginia.cloudapp.usgovcloudapi.net" {
		t.Error(got)
	}
}

func TestEndpoints(t *testing.T) {
	for _, e := range []opencmg.Environment{opencmg.AzurePublicCloud, opencmg.AzureUSGovernmentCloud, opencmg.AzureLab} {
		row, err := azure.EndpointsOf(e)
		if err != nil {
			t.Fatal(err)
		}
		for _, address := range []string{row.Authority, row.Issuer, row.ResourceManager, row.Audience, row.Graph, row.VaultAudience, row.Portal} {
			if u, err := url.Parse(address); err != nil || u.Scheme != "https" || u.Host == "" {
				t.Errorf("%s: %q", e, address)
			}
		}
		if got := row.Issuers("t"); len(got) != 2 || got[1] != row.Authority+"t/v2.0" {
			t.Errorf("%q", got)
		}
	}
	if _, err := azure.EndpointsOf("x"); err == nil {
		t.Error("an unknown environment has endpoints")
	}
}
