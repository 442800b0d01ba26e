package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
)

// administer signs in to a lab's site as lab.json says.
func administer(t *testing.T, info labInfo) *adminservice.Client {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(readTestFile(t, info.AdminService.CAFile))) {
		t.Fatal("the site's CA file holds no certificate")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	return &adminservice.Client{
		URL: info.AdminService.URL, Token: adminservice.Secret(strings.TrimSpace(readTestFile(t, info.AdminService.TokenFile))),
		HTTP: &http.Client{Transport: transport},
	}
}

// act begins an operation and waits for its end.
func act(t *testing.T, c *adminservice.Client, method, path string, in any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	latest := func() (op adminservice.Operation) {
		eventually(t, "the site's operations", func() error {
			ops, err := adminservice.List[adminservice.Operation](ctx, c, "Operations", nil)
			if err == nil && len(ops) > 0 {
				op = ops[0]
			}
			return err
		})
		return op
	}
	before := latest()
	var op adminservice.Operation
	err := c.Do(ctx, method, path, in, &op)
	if errors.Is(err, opencmg.Unavailable) {
		// The site may have died after it took the request and before it said
		// so.
		if op = latest(); op.ID != before.ID {
			err = nil
		}
	}
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	op, err = c.Wait(ctx, op.ID, nil)
	if err != nil {
		var log strings.Builder
		for _, l := range op.Log {
			fmt.Fprintf(&log, "  %s: %s\n", l.Step, l.Text)
		}
		t.Fatalf("%s %s: %v\n%s", method, path, err, log.String())
	}
}

// TestSiteKilledAtEveryStep kills the site server at each step of the set-up;
// it is started again, and everything is there once.
func TestSiteKilledAtEveryStep(t *testing.T) {
	dies := t.TempDir()
	t.Setenv(dieVariable, dies)
	_, info := startLab(t)
	c := administer(t, info)
	died, err := os.ReadDir(dies)
	if err != nil {
		t.Fatal(err)
	}
	var steps []string
	for _, d := range died {
		steps = append(steps, d.Name())
	}
	for _, want := range []string{
		"create-applications.sign-in", "create-applications.server-app", "create-applications.client-app",
		"create.check", "create.resource-group", "create.deploy", "create.certificate", "create.instances", "create.service", "create.wait",
	} {
		if !slices.Contains(steps, want) {
			t.Errorf("the site did not die at %s, only at %v", want, steps)
		}
	}
	gateways, err := adminservice.List[adminservice.Gateway](t.Context(), c, "Gateways", nil)
	if err != nil || len(gateways) != 1 || gateways[0].State != adminservice.StateReady || len(gateways[0].Machines) != 2 {
		t.Fatalf("gateways: %v %+v", err, gateways)
	}
	apps, err := adminservice.List[adminservice.Application](t.Context(), c, "Applications", nil)
	if err != nil || len(apps) != 2 {
		t.Errorf("applications: %v %+v", err, apps)
	}
	// The other operations, killed at every step of theirs.
	path := "Gateways/" + gateways[0].ID
	act(t, c, "PATCH", path, map[string]int{"instances": 3})
	act(t, c, "POST", path+"/synchronize", nil)
	act(t, c, "POST", path+"/stop", nil)
	act(t, c, "POST", path+"/start", nil)
	act(t, c, "DELETE", path, nil)
	if died, err = os.ReadDir(dies); err != nil || len(died) < len(steps)+8 {
		t.Errorf("only %d deaths in all: %v", len(died), err)
	}
	if gateways, err = adminservice.List[adminservice.Gateway](t.Context(), c, "Gateways", nil); err != nil || len(gateways) != 0 {
		t.Errorf("gateways after the deletion: %v %+v", err, gateways)
	}
}

// TestRenewalAndUpgradeUnderLoad replaces the server certificate and then every
// machine of a gateway of two instances while requests flow through its public
// address. None fails.
func TestRenewalAndUpgradeUnderLoad(t *testing.T) {
	dir, info := startLab(t)
	c := administer(t, info)
	gateways, err := adminservice.List[adminservice.Gateway](t.Context(), c, "Gateways", nil)
	if err != nil || len(gateways) != 1 {
		t.Fatalf("gateways: %v %+v", err, gateways)
	}
	path := "Gateways/" + gateways[0].ID
	ca, err := pki.LoadCertificates(info.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	spare, err := pki.LoadKeyPair(info.SpareClient.CertFile, info.SpareClient.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	// The new certificate comes from another CA than the lab's, so that the
	// clients can tell.
	next, err := pki.NewAuthority("another public CA", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := next.IssueKeyPair(pki.Template{CommonName: strings.ToUpper(info.ServiceName), DNSNames: []string{info.ServiceName}, Server: true, Key: pki.RSA2048}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pfx, err := pkcs12.Modern.Encode(pair.PrivateKey, pair.Leaf, []*x509.Certificate{next.Certificate()}, "secret")
	if err != nil {
		t.Fatal(err)
	}
	var seen sync.Map // thumbprints of server certificates
	client := trusting(ca[0], &spare, info.PublicAddress)
	defer client.CloseIdleConnections()
	tlsConfig := client.Transport.(*http.Transport).TLSClientConfig
	tlsConfig.RootCAs.AddCert(next.Certificate())
	tlsConfig.VerifyConnection = func(cs tls.ConnectionState) error {
		seen.Store(pki.Thumbprint(cs.PeerCertificates[0]), true)
		return nil
	}
	route := info.MutualAuthBase[strings.Index(info.MutualAuthBase, "/CCM_Proxy"):] + "/SMS_MP/.sms_aut?MPLIST"
	want, err := askInstance(t.Context(), client, info.ServiceName, route)
	if err != nil {
		t.Fatal(err)
	}
	requests := steadily(t, want, func(int) (string, error) { return askInstance(t.Context(), client, info.ServiceName, route) })
	requests.more(requests.count(), "before anything happens")
	act(t, c, "PUT", path+"/certificate", adminservice.ServerCertificate{PFX: pfx, Password: "secret"})
	client.CloseIdleConnections() // idle ones only; new ones see the new certificate
	requests.more(requests.count(), "after the renewal")
	if _, ok := seen.Load(pki.Thumbprint(pair.Leaf)); !ok {
		t.Error("no connection has the new certificate")
	}
	before := machines(t, dir)
	act(t, c, "PATCH", path, map[string]string{"size": "Large"})
	requests.more(requests.count(), "after the upgrade")
	requests.end()
	t.Logf("%d requests while the certificate and both machines were replaced", requests.count())
	eventually(t, "new processes of both machines", func() error {
		after := machines(t, dir)
		for name, pid := range before {
			if after[name] == pid {
				return fmt.Errorf("%s is still process %d", name, pid)
			}
		}
		return nil
	})
}

// machines returns the processes of a lab's gateway instances.
func machines(t *testing.T, dir string) map[string]int {
	t.Helper()
	info, err := findLab(dir)
	if err != nil {
		t.Fatal(err)
	}
	pids := map[string]int{}
	for _, p := range info.Processes {
		if strings.HasPrefix(p.Name, "gateway-") {
			pids[p.Name] = p.PID
		}
	}
	return pids
}

// TestAdministrationThroughTheGateway publishes the administration service and
// calls it from the internet with an Entra user's token.
func TestAdministrationThroughTheGateway(t *testing.T) {
	const user = "5f1d7a7e-2f0e-4f6b-9a37-1c1f5f0e8a21"
	dir, info := startLab(t)
	c := administer(t, info)
	var role adminservice.SiteRole
	if err := c.Do(t.Context(), "POST", "SiteRoles", adminservice.SiteRole{
		Kind: adminservice.KindAdminService, Name: "administration", Internal: []string{info.AdminService.URL}, CA: readTestFile(t, info.AdminService.CAFile), AllowGatewayTraffic: true,
	}, &role); err != nil {
		t.Fatal(err)
	}
	if err := c.Do(t.Context(), "POST", "Accounts", adminservice.Account{
		Name: "ann@lab", Role: adminservice.ReadOnlyAnalyst, EntraTenantID: labTenant, EntraObjectID: user,
	}, nil); err != nil {
		t.Fatal(err)
	}
	ca, err := pki.LoadCertificates(info.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(objectID string) string {
		b, err := json.Marshal(map[string]any{"tenant": labTenant, "audience": info.Entra.Audience, "upn": "ann@lab", "objectId": objectID})
		if err != nil {
			t.Fatal(err)
		}
		cloud := trusting(ca[0], nil, cloudAddress(t, dir))
		defer cloud.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), "POST", "https://127.0.0.1/lab/token", bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(readTestFile(t, filepath.Join(dir, "config", "cloud-admin-secret"))))
		res, err := cloud.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var answer struct {
			AccessToken string `json:"access_token"`
		}
		if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || answer.AccessToken == "" {
			t.Fatalf("%s: %v", res.Status, err)
		}
		return answer.AccessToken
	}
	outside := trusting(ca[0], nil, info.PublicAddress)
	defer outside.CloseIdleConnections()
	base := "https://" + info.ServiceName + strings.TrimSuffix(info.ServerAuthBase[strings.Index(info.ServerAuthBase, "/CCM_Proxy"):], info.ServerAuthBase[strings.LastIndex(info.ServerAuthBase, "/")+1:]) + string(role.RoleID)
	through := &adminservice.Client{URL: base, HTTP: outside, Token: adminservice.Secret(issue(user))}
	eventually(t, "the administration service through the gateway", func() error {
		s, err := adminservice.Get[adminservice.Site](t.Context(), through, "Site")
		if err != nil {
			return err
		}
		if s.Account != "ann@lab" || s.Role != adminservice.ReadOnlyAnalyst || s.Code != labSite {
			t.Fatalf("%+v", s)
		}
		return nil
	})
	if err := through.Do(t.Context(), "POST", "BulkRegistrationTokens", struct{}{}, nil); !errors.Is(err, opencmg.Forbidden) {
		t.Errorf("an analyst makes a token: %v", err)
	}
	through.Token = adminservice.Secret(issue("00000000-0000-4000-8000-000000000001"))
	if _, err := adminservice.Get[adminservice.Site](t.Context(), through, "Site"); !errors.Is(err, opencmg.Unauthorized) {
		t.Errorf("a stranger of the tenant: %v", err)
	}
	through.Token = ""
	if _, err := adminservice.Get[adminservice.Site](t.Context(), through, "Site"); !errors.Is(err, opencmg.Unauthorized) {
		t.Errorf("nobody: %v", err)
	}
}

// cloudAddress is where a lab's cloud listens.
func cloudAddress(t *testing.T, dir string) string {
	t.Helper()
	var c LabCloudConfig
	if err := loadYAML(filepath.Join(dir, "config", "lab-cloud.yaml"), &c); err != nil {
		t.Fatal(err)
	}
	return c.Listen
}

// TestSelfHostedGatewayOfASite puts a gateway on a host of one's own in front of
// a lab's management point: a host joins by the token that the site made, by way
// of a connection point, and clients reach the site through it.
func TestSelfHostedGatewayOfASite(t *testing.T) {
	const serviceName = "own.lab.opencmg.example"
	dir, info := startLab(t)
	c := administer(t, info)
	https, tunnel, private := freeAddress(t), freeAddress(t), freeAddress(t)
	var g adminservice.Gateway
	if err := c.Do(t.Context(), "POST", "Gateways", adminservice.NewGateway{
		Model: adminservice.ModelSelfHosted, Certificate: adminservice.ServerCertificate{ServiceName: serviceName},
	}, &g); err != nil {
		t.Fatal(err)
	}
	join := func(in adminservice.JoinTokenRecord, file string) string {
		t.Helper()
		var out adminservice.JoinTokenRecord
		if err := c.Do(t.Context(), "POST", "JoinTokens", in, &out); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, file)
		if err := os.WriteFile(path, []byte(out.Token), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// The host on the internet.
	host := t.TempDir()
	next, err := pki.NewAuthority("another public CA", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := next.IssueKeyPair(pki.Template{CommonName: serviceName, DNSNames: []string{serviceName}, Server: true}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := pki.SaveKeyPair(filepath.Join(host, "server.pem"), filepath.Join(host, "server.key"), pair); err != nil {
		t.Fatal(err)
	}
	writeTestFile(t, filepath.Join(host, "gateway.yaml"), fmt.Sprintf(
		"identityDir: identity\nstateDir: state\nserverCertificate: {certificate: server.pem, key: server.key}\nlisten: {https: %q, tunnel: %q, private: %q}\n", https, tunnel, private))
	token := join(adminservice.JoinTokenRecord{
		Kind: "gateway", GatewayID: g.ID, Hosts: []string{"127.0.0.1"}, HTTPSPort: portOf(t, https), TunnelPort: portOf(t, tunnel), Sources: []string{"127.0.0.0/8"},
	}, "gateway.token")
	startProgram(t, "gateway", "serve", "--config", filepath.Join(host, "gateway.yaml"), "--join-token-file", token)
	// The connection point inside.
	inside := filepath.Join(t.TempDir(), "cp")
	point := startProgram(t, "connection-point", "join", "--name", "own-cp", "--dir", inside,
		"--site-token-file", join(adminservice.JoinTokenRecord{Kind: adminservice.SystemConnectionPoint, GatewayID: g.ID}, "point.token"))
	<-point.done
	configure(t, filepath.Join(inside, "connection-point.yaml"), "127.0.0.1:9441", freeAddress(t))
	startProgram(t, "connection-point", "serve", "--config", filepath.Join(inside, "connection-point.yaml"))
	eventually(t, "the host has joined and is ready", readyz("http://"+private+"/readyz"))

	spare, err := pki.LoadKeyPair(info.SpareClient.CertFile, info.SpareClient.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	client := trusting(next.Certificate(), &spare, https)
	defer client.CloseIdleConnections()
	route := info.MutualAuthBase[strings.Index(info.MutualAuthBase, "/CCM_Proxy"):] + "/SMS_MP/.sms_aut?MPLIST"
	if got, err := askInstance(t.Context(), client, serviceName, route); err != nil || !strings.Contains(got, "MPList") {
		t.Errorf("%v %s", err, got)
	}
	eventually(t, "the site sees the instance", func() error {
		g, err := adminservice.Get[adminservice.Gateway](t.Context(), c, "Gateways/"+g.ID)
		if err == nil && (len(g.Machines) != 1 || !g.Machines[0].Connected || g.Machines[0].Status == nil) {
			err = fmt.Errorf("%+v", g.Machines)
		}
		return err
	})

	// The connection analyzer goes to the very host. It sends nothing there,
	// since this site server does not trust who issued the certificate.
	var a adminservice.Analysis
	if err := c.Do(t.Context(), "POST", "Gateways/"+g.ID+"/analyze", adminservice.NewAnalysis{}, &a); err != nil {
		t.Fatal(err)
	}
	for a.State == adminservice.AnalysisRunning {
		if a, err = adminservice.Get[adminservice.Analysis](t.Context(), c, fmt.Sprintf("Analyses/%s?wait=20&after=%d", a.ID, len(a.Rows))); err != nil {
			t.Fatal(err)
		}
	}
	var rows []string
	for _, r := range a.Rows {
		rows = append(rows, r.ID+" "+string(r.State))
		if r.ID == "certificate" && (!strings.Contains(r.Evidence, "unknown authority") || r.Instance == nil) {
			t.Errorf("%+v", r)
		}
	}
	want := []string{"state pass", "resolve pass", "certificate fail", "configuration pass", "sign-in todo", "tunnel pass", "location todo", "summary fail"}
	if !slices.Equal(rows, want) {
		t.Errorf("analysis: %v, want %v\n%+v", rows, want, a.Rows)
	}
}

func portOf(t *testing.T, addr string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return port
}
