package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/opencmg/opencmg/internal/admincli"
	"github.com/opencmg/opencmg/pki"
)

// A bare lab is a site as it is before the set-up: servers, a management point,
// an empty subscription, and in a directory what an administrator has in hand.
// Whoever reads the set-up guide, or tests it, does the five parts.

// labRegistrations are app registrations that somebody made in the portal.
type labRegistrations struct {
	ServerApp labServerApp `json:"serverApp" yaml:"serverApp"`
	ClientApp labClientApp `json:"clientApp" yaml:"clientApp"`
}

type labServerApp struct {
	Name          string    `json:"name" yaml:"name"`
	ClientID      string    `json:"clientId" yaml:"clientId"`
	AppIDURI      string    `json:"appIdUri" yaml:"appIdUri"`
	Secret        string    `json:"-" yaml:"secret"`
	SecretFile    string    `json:"secretFile" yaml:"-"`
	SecretExpires time.Time `json:"secretExpires" yaml:"secretExpires"`
}

type labClientApp struct {
	Name     string `json:"name" yaml:"name"`
	ClientID string `json:"clientId" yaml:"clientId"`
}

func registeredApps(now time.Time) labRegistrations {
	return labRegistrations{
		ServerApp: labServerApp{
			Name: "Portal CMG server", ClientID: "b85d0f3a-62c1-4e97-a7d4-90f1c2e3b548", AppIDURI: "api://" + labTenant + "/portal",
			Secret: randomHex(20), SecretExpires: now.AddDate(1, 0, 0).UTC().Truncate(24 * time.Hour),
		},
		ClientApp: labClientApp{Name: "Portal CMG client", ClientID: "c10e9b74-4f2d-4c86-b3a9-6d58f7a2e013"},
	}
}

// labSetUp is what an administrator has in hand before the five parts.
type labSetUp struct {
	TenantID         string           `json:"tenantId"`
	TenantName       string           `json:"tenantName"`
	SubscriptionID   string           `json:"subscriptionId"`
	Region           string           `json:"region"`
	ServiceCert      string           `json:"serviceCert"` // PFX
	PasswordFile     string           `json:"passwordFile"`
	ServiceName      string           `json:"serviceName"`
	ServerCert       string           `json:"serverCert"` // the same for a self-hosted gateway, PEM
	ServerKey        string           `json:"serverKey"`
	RootCA           string           `json:"rootCa"`
	IntermediateCA   string           `json:"intermediateCa"`
	SignInClientID   string           `json:"signInClientId"` // an app that may register others
	SignInSecretFile string           `json:"signInSecretFile"`
	Registered       labRegistrations `json:"registered"`
	// ConnectTo leads from the gateway's public name to where it is on this
	// machine; a connection point needs it.
	ConnectTo []string `json:"connectTo"`
	// HostHTTPS and HostTunnel are free ports of this machine for a host of a
	// self-hosted gateway.
	HostHTTPS  string `json:"hostHttps"`
	HostTunnel string `json:"hostTunnel"`
	// TokenSigningCert is of a site that exists already, and Issuer what its
	// tokens say.
	TokenSigningCert   string `json:"tokenSigningCert"`
	TokenSigningIssuer string `json:"tokenSigningIssuer"`
	// EnvFile sets all of it as variables of a shell.
	EnvFile string `json:"envFile"`
}

// serveBare starts a bare lab and waits for its end.
func (l *lab) serveBare(ctx context.Context, ui *labUI) error {
	if err := l.startBare(ctx, ui); err != nil {
		if ctx.Err() != nil {
			return errors.New("the lab was interrupted")
		}
		return err
	}
	ui.say("the site is up, and nothing is set up")
	fmt.Fprintf(ui.e.stdout, `
A site without a cloud management gateway

  Console                 %[7]s
  Administration service  %[1]s
  Management point        %[2]s (gateway traffic is off)
  Lab cloud               https://%[3]s

Go through the five parts yourself, in the console or as docs/setup/README.md says. What an
administrator has in hand (certificate, tenant, subscription, two app
registrations) is set as variables by
    . %[4]s
and what is to be done next is always said by
    %[5]s checklist
For programs: %[6]s

%[8]s
`, l.admin.URL, l.info.ManagementPoint, l.addr.cloud, l.info.SetUp.EnvFile, programName(), l.path(labInfoFile), l.consoleURL(), l.howToEnd())
	<-ctx.Done()
	ui.say("stopping")
	return nil
}

func (l *lab) startBare(ctx context.Context, ui *labUI) error {
	if err := l.prepare(ui); err != nil {
		return err
	}
	if err := l.startServers(ctx, ui); err != nil {
		return err
	}
	ui.step("the management point")
	if err := l.addManagementPoint(ctx, ui); err != nil {
		return err
	}
	return l.describeBare()
}

// describeBare writes lab.json and what the set-up needs.
func (l *lab) describeBare() error {
	if err := os.MkdirAll(l.path("set-up"), 0o700); err != nil {
		return err
	}
	file := func(name, text string) (string, error) {
		path := l.path("set-up", name)
		return path, pki.WriteFile(path, []byte(text+"\n"), 0o600)
	}
	s := labSetUp{
		TenantID: labTenant, TenantName: "Lab", SubscriptionID: labSubscription, Region: labRegion, ServiceCert: l.path("pki", "server.pfx"), ServiceName: labServiceName,
		RootCA: l.path("pki", "client-root.pem"), IntermediateCA: l.path("pki", "client-issuing.pem"), SignInClientID: labDeployer, Registered: l.registered,
		ConnectTo: l.gatewayRules(),
	}
	if err := l.existingSite(&s, time.Now()); err != nil {
		return err
	}
	var err error
	for _, f := range []struct {
		to         *string
		name, text string
	}{
		{&s.PasswordFile, "pfx-password", ""}, {&s.SignInSecretFile, "sign-in-secret", l.deployerSecret}, {&s.Registered.ServerApp.SecretFile, "server-app-secret", l.registered.ServerApp.Secret},
	} {
		if *f.to, err = file(f.name, f.text); err != nil {
			return err
		}
	}
	if s.EnvFile, err = file("env", l.setUpVariables(s)); err != nil {
		return err
	}
	l.infoMu.Lock()
	l.info = labInfo{
		PID: os.Getpid(), Console: labConsole{URL: l.consoleURL()}, ServiceName: labServiceName, PublicAddress: l.addr.frontends[machineHTTPS], CAFile: l.path("ca.pem"), ManagementPoint: "https://" + l.addr.mp,
		AdminService: labAdminService{URL: l.admin.URL, CAFile: l.path("site", siteCAFile), TokenFile: l.path("site", siteTokenFile)},
		Entra:        labEntra{Users: l.users, ConnectTo: l.loginRule()},
		SetUp:        s, LogDir: l.path("logs"),
	}
	l.infoMu.Unlock()
	return l.saveInfo()
}

// existingSite makes what belongs to a site that exists already, and to hosts of
// one's own in front of it.
func (l *lab) existingSite(s *labSetUp, now time.Time) error {
	for purpose, to := range map[string]*string{"host-https": &s.HostHTTPS, "host-tunnel": &s.HostTunnel} {
		addr, err := l.address(purpose)
		if err != nil {
			return err
		}
		if _, *to, err = net.SplitHostPort(addr); err != nil {
			return err
		}
	}
	if err := l.keep(); err != nil {
		return err
	}
	s.ServerCert, s.ServerKey = l.path("set-up", "server.pem"), l.path("set-up", "server.key")
	if _, err := pki.LoadKeyPair(s.ServerCert, s.ServerKey); err != nil {
		server, err := l.publicCA.IssueKeyPair(pki.Template{CommonName: labServiceName, DNSNames: []string{labServiceName}, Server: true, Key: pki.RSA2048}, now)
		if err != nil {
			return err
		}
		if err := pki.SaveKeyPair(s.ServerCert, s.ServerKey, server); err != nil {
			return err
		}
	}
	keys, err := openSiteKeys(l.path("state", "existing-site"), "EXA", now)
	if err != nil {
		return err
	}
	s.TokenSigningCert, s.TokenSigningIssuer = l.path("set-up", "existing-token-signing.pem"), pki.SiteIssuer(keys.hierarchy)
	return pki.WriteFile(s.TokenSigningCert, pki.EncodeCertificates(keys.token.Leaf), 0o644)
}

// setUpVariables are the facts as variables of a POSIX shell.
func (l *lab) setUpVariables(s labSetUp) string {
	quote := func(v string) string { return "'" + strings.ReplaceAll(v, "'", `'\''`) + "'" }
	var rules []string
	for _, r := range s.ConnectTo {
		rules = append(rules, "--connect-to "+r)
	}
	var b strings.Builder
	fmt.Fprintln(&b, "# What an administrator has in hand before the five parts, for this lab.")
	for _, v := range [][2]string{
		{"OPENCMG_PROFILE", l.path("site", admincli.SiteProfileFile)},
		{"TENANT_ID", s.TenantID}, {"TENANT_NAME", s.TenantName}, {"SUBSCRIPTION_ID", s.SubscriptionID}, {"REGION", s.Region}, {"ENVIRONMENT", "AzureLab"},
		{"SERVICE_CERT", s.ServiceCert}, {"SERVICE_CERT_PASSWORD_FILE", s.PasswordFile}, {"SERVICE_NAME", s.ServiceName},
		{"ROOT_CA", s.RootCA}, {"INTERMEDIATE_CA", s.IntermediateCA},
		{"SERVER_APP_NAME", s.Registered.ServerApp.Name}, {"SERVER_APP_ID", s.Registered.ServerApp.ClientID}, {"SERVER_APP_URI", s.Registered.ServerApp.AppIDURI},
		{"SERVER_APP_SECRET_FILE", s.Registered.ServerApp.SecretFile}, {"SERVER_APP_SECRET_EXPIRY", s.Registered.ServerApp.SecretExpires.Format(time.DateOnly)},
		{"CLIENT_APP_NAME", s.Registered.ClientApp.Name}, {"CLIENT_APP_ID", s.Registered.ClientApp.ClientID},
		{"SIGN_IN_CLIENT_ID", s.SignInClientID}, {"SIGN_IN_SECRET_FILE", s.SignInSecretFile},
		{"SERVER_CERT", s.ServerCert}, {"SERVER_KEY", s.ServerKey}, {"GATEWAY_HOST", "127.0.0.1"}, {"GATEWAY_HTTPS_PORT", s.HostHTTPS}, {"GATEWAY_TUNNEL_PORT", s.HostTunnel},
		{"EXISTING_MANAGEMENT_POINT", "https://" + l.addr.mp}, {"EXISTING_CA", l.path("site", siteCAFile)},
		{"EXISTING_TOKEN_SIGNING_CERT", s.TokenSigningCert}, {"EXISTING_TOKEN_ISSUER", s.TokenSigningIssuer},
		{"CLIENT_CA", l.path("ca.pem")}, {"CLIENT_FLAGS", "--ca-file " + l.path("ca.pem") + " " + strings.Join(rules, " ")},
		{"MANAGEMENT_POINT", "mp"}, {"CONNECTION_POINT_FLAGS", strings.Join(rules, " ")},
	} {
		fmt.Fprintf(&b, "export %s=%s\n", v[0], quote(v[1]))
	}
	return strings.TrimSuffix(b.String(), "\n")
}
