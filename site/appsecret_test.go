package site_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/azure"
	"github.com/opencmg/opencmg/labcloud"
	"github.com/opencmg/opencmg/pki"
)

// signsIn tries a secret at the stand-in.
func (r *rig) signsIn(clientID, secret string) error {
	r.t.Helper()
	c := must(azure.New(azure.Config{Environment: opencmg.AzureLab, TenantID: tenantID, SubscriptionID: subscriptionID,
		Credential: azure.Credential{ClientID: clientID, Secret: azure.Secret(secret)}, HTTP: r.http, PollFrequency: time.Millisecond, Now: r.now}))(r.t)
	return c.SignIn(r.t.Context())
}

func (r *rig) secret(name string) string {
	r.t.Helper()
	return string(must(r.db.Secret(r.t.Context(), name))(r.t))
}

func (r *rig) application(id string) adminservice.Application {
	r.t.Helper()
	for _, a := range do[adminservice.Page[adminservice.Application]](r, "GET", "Applications", nil).Value {
		if a.ID == id {
			return a
		}
	}
	r.t.Fatalf("there is no application %s", id)
	return adminservice.Application{}
}

// TestRenewSecret replaces a secret while the site is killed in between: at any
// moment the recorded one works.
func TestRenewSecret(t *testing.T) {
	r := newRig(t)
	app := r.connect()
	old := r.secret("application/" + app.ID)

	// The app itself may not change its registration.
	op := do[adminservice.Operation](r, "POST", "Applications/"+app.ID+"/renewSecret", adminservice.RenewSecret{})
	if _, err := r.c.Wait(t.Context(), op.ID, nil); err == nil || !strings.Contains(err.Error(), "signIn") {
		t.Errorf("got %v", err)
	}
	if r.secret("application/"+app.ID) != old || r.signsIn(app.ClientID, old) != nil {
		t.Error("a failed renewal changed something")
	}

	died := map[string]bool{}
	at := make(chan string)
	r.onStep = func(op, step string) {
		if op == "renew-secret" && step != "secret" && !died[step] {
			died[step] = true
			at <- step
			select {}
		}
	}
	op = do[adminservice.Operation](r, "POST", "Applications/"+app.ID+"/renewSecret", adminservice.RenewSecret{SecretYears: 2, SignIn: &adminservice.SignIn{ClientID: deployerID, Secret: deployerSecret}})
	for _, want := range []string{"record", "remove"} {
		step := <-at
		recorded := r.secret("application/" + app.ID)
		if step != want || (recorded == old) != (step == "record") {
			t.Errorf("at %s the secret is the old one: %v", step, recorded == old)
		}
		for name, secret := range map[string]string{"recorded": recorded, "old": old} {
			if err := r.signsIn(app.ClientID, secret); err != nil {
				t.Errorf("at %s the %s secret does not work: %v", step, name, err)
			}
		}
		r.abandon()
		r.start()
	}
	r.finish(op)
	if err := r.signsIn(app.ClientID, r.secret("application/"+app.ID)); err != nil {
		t.Errorf("the new secret: %v", err)
	}
	if err := r.signsIn(app.ClientID, old); err == nil {
		t.Error("the old secret still works")
	}
	if now := r.application(app.ID); now.SecretExpires.Before(r.now().AddDate(1, 11, 0)) {
		t.Errorf("it ends at %v", now.SecretExpires)
	}
	if _, err := r.db.Secret(t.Context(), "operation/"+op.ID); !errors.Is(err, opencmg.NotFound) {
		t.Errorf("the administrator's sign-in is still there: %v", err)
	}
	for says, in := range map[string]adminservice.RenewSecret{
		"1 or 2":        {SecretYears: 3},
		"secretExpires": {Secret: "x"},
		"choose one of": {SignIn: &adminservice.SignIn{Secret: "x", DeviceCode: true}},
		"who makes one": {Secret: "x", SecretExpires: r.now().AddDate(1, 0, 0), SignIn: &adminservice.SignIn{DeviceCode: true}},
	} {
		if err := r.c.Do(t.Context(), "POST", "Applications/"+app.ID+"/renewSecret", in, nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want %q", err, says)
		}
	}
}

// TestPastedSecret: the administrator brings the new secret of an imported
// application; it is proved before the old one is forgotten.
func TestPastedSecret(t *testing.T) {
	r := newRig(t)
	app := do[adminservice.Application](r, "POST", "Applications/import", adminservice.ImportApplication{
		Kind: adminservice.ServerApplication, Name: "mine", TenantID: tenantID, Environment: opencmg.AzureLab, ClientID: deployerID, Secret: deployerSecret, SecretExpires: r.now().AddDate(0, 0, 5),
	})
	r.look("expiry")
	open := func() int {
		t.Helper()
		n := 0
		for _, a := range do[adminservice.Page[adminservice.Alert]](r, "GET", "Alerts?open=true", nil).Value {
			if strings.Contains(a.Subject, "app-secret/"+app.ID) {
				n++
			}
		}
		return n
	}
	if open() != 1 {
		t.Error("nobody is told that the secret of an imported application ends soon")
	}
	ends := r.now().AddDate(1, 0, 0).UTC().Truncate(time.Second)
	op := do[adminservice.Operation](r, "POST", "Applications/"+app.ID+"/renewSecret", adminservice.RenewSecret{Secret: "planted-wrong", SecretExpires: ends})
	if _, err := r.c.Wait(t.Context(), op.ID, nil); err == nil || !strings.Contains(err.Error(), "AADSTS7000215") || strings.Contains(err.Error(), "planted-wrong") {
		t.Errorf("got %v", err)
	}
	if r.secret("application/"+app.ID) != deployerSecret {
		t.Error("a wrong secret was recorded")
	}
	fresh := must(r.azure(app).RenewSecret(t.Context(), deployerID, azure.OneYear))(t)
	r.finish(do[adminservice.Operation](r, "POST", "Applications/"+app.ID+"/renewSecret", adminservice.RenewSecret{Secret: string(fresh.Value), SecretExpires: ends}))
	if r.secret("application/"+app.ID) != string(fresh.Value) || !r.application(app.ID).SecretExpires.Equal(ends) {
		t.Errorf("after the renewal: %+v", r.application(app.ID))
	}
	if err := r.signsIn(deployerID, deployerSecret); err != nil {
		t.Errorf("the old secret of an imported application is its owner's: %v", err)
	}
	r.wait(2 * time.Minute)
	r.look("expiry")
	if open() != 0 {
		t.Error("the alert is still open")
	}
}

// TestOtherCredentials: an imported application proves itself by a certificate
// or by another issuer's token.
func TestOtherCredentials(t *testing.T) {
	const byCertificate, byToken = "1c9de3c4-5f0e-4b7f-8d5e-0f6a1c2d3e4f", "2d9de3c4-5f0e-4b7f-8d5e-0f6a1c2d3e4f"
	ca := must(pki.NewAuthority("Apps", time.Now()))(t)
	pair := must(ca.IssueKeyPair(pki.Template{CommonName: "app", Client: true, Key: pki.RSA2048}, time.Now()))(t)
	stranger := must(ca.IssueKeyPair(pki.Template{CommonName: "stranger", Client: true, Key: pki.RSA2048}, time.Now()))(t)
	issuer := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	r := newRig(t, func(r *rig) {
		r.lab = func(c *labcloud.Config) {
			c.Apps = append(c.Apps,
				labcloud.App{Tenant: tenantID, ID: byCertificate, Name: "by certificate", Certificates: []*x509.Certificate{pair.Leaf}},
				labcloud.App{Tenant: tenantID, ID: byToken, Name: "by token", Federated: []labcloud.Federated{{Issuer: "https://idp.example", Subject: "site", Audience: "api://AzureADTokenExchange", Key: jose.JSONWebKey{Key: issuer.Public()}}}})
		}
	})
	checks := func(id string) opencmg.Check {
		t.Helper()
		return do[adminservice.Page[opencmg.Check]](r, "POST", "Applications/"+id+"/verify", nil).Value[0]
	}
	in := adminservice.ImportApplication{Kind: adminservice.ServerApplication, Name: "by certificate", TenantID: tenantID, Environment: opencmg.AzureLab, ClientID: byCertificate, CertificatePEM: string(must(pki.EncodeKeyPair(stranger))(t))}
	if err := r.c.Do(t.Context(), "POST", "Applications/import", in, nil); err == nil || !strings.Contains(err.Error(), "not recorded") {
		t.Errorf("a certificate that Entra does not know: %v", err)
	}
	in.CertificatePEM = string(must(pki.EncodeKeyPair(pair))(t))
	app := do[adminservice.Application](r, "POST", "Applications/import", in)
	if app.Credential != "certificate" || !app.SecretExpires.Equal(pair.Leaf.NotAfter) {
		t.Errorf("%+v", app)
	}
	if c := checks(app.ID); c.State != opencmg.CheckPass {
		t.Errorf("%+v", c)
	}
	if err := r.c.Do(t.Context(), "POST", "Applications/"+app.ID+"/renewSecret", adminservice.RenewSecret{}, nil); !errors.Is(err, opencmg.Conflict) {
		t.Errorf("a secret of an application without one: %v", err)
	}

	file := filepath.Join(t.TempDir(), "token")
	signer := must(jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: issuer}, nil))(t)
	claims := jwt.Claims{Issuer: "https://idp.example", Subject: "site", Audience: jwt.Audience{"api://AzureADTokenExchange"}, Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour)), NotBefore: jwt.NewNumericDate(time.Now().Add(-time.Minute))}
	if err := os.WriteFile(file, []byte(must(jwt.Signed(signer).Claims(claims).Serialize())(t)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	in = adminservice.ImportApplication{Kind: adminservice.ServerApplication, Name: "by token", TenantID: tenantID, Environment: opencmg.AzureLab, ClientID: byToken, FederatedFile: file}
	app = do[adminservice.Application](r, "POST", "Applications/import", in)
	if c := checks(app.ID); app.Credential != "federated" || c.State != opencmg.CheckPass {
		t.Errorf("%+v, %+v", app, c)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if c := checks(app.ID); c.State != opencmg.CheckFail || !strings.Contains(c.Evidence, file) {
		t.Errorf("without its file: %+v", c)
	}
}
