package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/sitelink"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/site/console"
)

// The five parts of the set-up, as an administrator goes through them: all of
// it by the administration service, which the console and the command line use
// too.

// A labPart is one part of the set-up and how it went.
type labPart struct {
	Part         int     `json:"part"`
	Name         string  `json:"name"`
	OK           bool    `json:"ok"`
	Milliseconds float64 `json:"ms"`
}

// A labDeployment is how the gateway came to be.
type labDeployment struct {
	Model        string  `json:"model"`
	Instances    int     `json:"instances"`
	Milliseconds float64 `json:"ms"`
}

// setUpSite does parts 1 to 4; the clients are part 5.
func (l *lab) setUpSite(ctx context.Context, report *labReport, ui *labUI) error {
	for i, p := range []struct {
		name string
		do   func(context.Context, *labReport, *labUI) error
	}{
		{"server authentication certificate", l.partCertificate},
		{"Microsoft Entra ID", l.partEntra},
		{"client authentication", l.partClientAuthentication},
		{"cloud management gateway", l.partGateway},
	} {
		ui.step(fmt.Sprintf("part %d: %s", i+1, p.name))
		began := time.Now()
		err := p.do(ctx, report, ui)
		report.part(i+1, p.name, err == nil, began)
		if err != nil {
			return fmt.Errorf("part %d, %s: %w", i+1, p.name, err)
		}
	}
	return nil
}

func (r *labReport) part(n int, name string, ok bool, began time.Time) {
	r.Parts = append(r.Parts, labPart{n, name, ok, float64(time.Since(began)) / 1e6})
}

// connectAdmin signs in as the first administrator.
func (l *lab) connectAdmin() error {
	b, err := os.ReadFile(l.path("site", siteCAFile))
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(b)
	token, err := os.ReadFile(l.path("site", siteTokenFile))
	if err != nil {
		return err
	}
	l.admin = &adminservice.Client{
		URL: "https://" + l.addr.site, Token: adminservice.Secret(strings.TrimSpace(string(token))),
		HTTP: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}},
	}
	// Who tries the management point from inside needs the site's CA, and has
	// one file for both.
	return pki.WriteFile(l.path("ca.pem"), append(l.publicCA.CertificatePEM(), b...), 0o644)
}

// consoleURL is where the site's console is.
func (l *lab) consoleURL() string { return l.admin.URL + console.Path }

// post sends a request and returns what it made.
func post[T any](ctx context.Context, l *lab, path string, in any) (T, error) {
	var out T
	err := l.admin.Do(ctx, http.MethodPost, path, in, &out)
	return out, err
}

// finish waits for an operation and shows its steps.
func (l *lab) finish(ctx context.Context, op adminservice.Operation, ui *labUI) (adminservice.Operation, error) {
	return l.admin.Wait(ctx, op.ID, func(op adminservice.Operation, line adminservice.OperationLog) {
		l.log.Info(line.Text, "operation", op.Kind, "step", line.Step)
		ui.progress(op.Percent, 100)
	})
}

func (l *lab) serverCertificate() (adminservice.ServerCertificate, error) {
	pfx, err := os.ReadFile(l.path("pki", "server.pfx"))
	return adminservice.ServerCertificate{PFX: pfx, ServiceName: labServiceName}, err
}

func (l *lab) partCertificate(ctx context.Context, _ *labReport, _ *labUI) error {
	cert, err := l.serverCertificate()
	if err != nil {
		return err
	}
	found, err := post[adminservice.CertificateReport](ctx, l, "ServerCertificates/check", cert)
	if err != nil {
		return err
	}
	for _, c := range found.Checks {
		if c.State == opencmg.CheckFail {
			return opencmg.Errorf(opencmg.Invalid, "%s: %s", c.Name, c.Evidence)
		}
	}
	return nil
}

func (l *lab) partEntra(ctx context.Context, _ *labReport, ui *labUI) error {
	if err := l.finishEarlier(ctx, ui); err != nil {
		return err
	}
	services, err := adminservice.List[adminservice.AzureService](ctx, l.admin, "AzureServices", nil)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(services, func(v adminservice.AzureService) bool { return v.TenantID == labTenant }) {
		if err := l.addAzureService(ctx, ui); err != nil {
			return err
		}
	}
	accounts, err := adminservice.List[adminservice.Account](ctx, l.admin, "Accounts", nil)
	if err != nil {
		return err
	}
	for _, u := range l.users {
		if u.Role == "" || slices.ContainsFunc(accounts, func(a adminservice.Account) bool { return a.EntraObjectID == u.ID }) {
			continue
		}
		if _, err := post[adminservice.Account](ctx, l, "Accounts", adminservice.Account{Name: u.Name, Role: u.Role, EntraTenantID: labTenant, EntraObjectID: u.ID}); err != nil {
			return err
		}
	}
	return nil
}

// addAzureService makes the app registrations that are missing, and connects the
// site to the tenant with them.
func (l *lab) addAzureService(ctx context.Context, ui *labUI) error {
	made, err := l.findApplications(ctx)
	if err != nil {
		return err
	}
	if made.ClientAppID == "" {
		in := adminservice.CreateApplications{
			Environment: opencmg.AzureLab, TenantID: labTenant, ServerName: "OpenCMG lab server", ClientName: "OpenCMG lab client",
			IdentifierURI: labResourceURI, SignIn: adminservice.SignIn{ClientID: labDeployer, Secret: l.deployerSecret},
		}
		if made.ServerAppID != "" {
			in.ServerAppID, in.ServerName, in.IdentifierURI = made.ServerAppID, "", ""
		}
		op, err := post[adminservice.Operation](ctx, l, "Applications/create", in)
		if err != nil {
			return err
		}
		if op, err = l.finish(ctx, op, ui); err != nil {
			return err
		}
		if err := json.Unmarshal(op.Result, &made); err != nil {
			return err
		}
	}
	_, err = post[adminservice.AzureService](ctx, l, "AzureServices", adminservice.AzureService{Name: "Lab", ServerAppID: made.ServerAppID, ClientAppID: made.ClientAppID})
	return err
}

// partClientAuthentication uploads the CAs of the clients' certificates, and
// brings up the management point, which issues the site's tokens.
func (l *lab) partClientAuthentication(ctx context.Context, _ *labReport, ui *labUI) error {
	for _, c := range []struct {
		store, file, list string
	}{
		{adminservice.RootCA, "client-root.pem", ""},
		{adminservice.IntermediateCA, "client-issuing.pem", l.issuingCRL()},
	} {
		text, err := os.ReadFile(l.path("pki", c.file))
		if err != nil {
			return err
		}
		if there, err := l.trusts(ctx, text); err != nil || there {
			if err != nil {
				return err
			}
			continue
		}
		if _, err := post[adminservice.TrustedCertificate](ctx, l, "TrustedCertificates", adminservice.TrustedCertificate{
			Store: c.store, Certificate: string(text), RevocationList: c.list,
		}); err != nil {
			return err
		}
	}
	if err := l.addManagementPoint(ctx, ui); err != nil {
		return err
	}
	r, err := l.siteRole(ctx, labManagementPoint)
	if err != nil {
		return err
	}
	if r == nil {
		return opencmg.Errorf(opencmg.NotFound, "the management point did not join the site")
	}
	if r.AllowGatewayTraffic {
		return nil
	}
	return l.admin.Change(ctx, http.MethodPatch, "SiteRoles/"+r.ID, r.Version, map[string]bool{"allowGatewayTraffic": true}, nil)
}

// addManagementPoint joins a management point to the site and starts it.
func (l *lab) addManagementPoint(ctx context.Context, ui *labUI) error {
	var err error
	if l.mpRole, err = l.managementPoint(ctx); err != nil {
		return err
	}
	mp := &ManagementPointConfig{
		Site: labSite, RoleID: l.mpRole, IdentityDir: l.path("state", "mp", "identity"), StateDir: l.path("state", "mp"), SiteServer: l.admin.URL,
		Database: DatabaseConfig{Path: l.path("site", siteDatabase)},
		HostName: "127.0.0.1", Listen: ManagementPointListen{HTTPS: l.addr.mp, FastChannel: l.addr.mpFast},
		Outbound: OutboundConfig{CAFile: l.path("ca.pem"), ConnectTo: l.cloudRules()}, Log: l.logs("mp"),
	}
	if err := l.addProcess("mp", []string{"mp", "serve"}, &mp.Listen.Private, mp); err != nil {
		return err
	}
	return l.start(ctx, ui.progress, "mp")
}

// join makes a site system of this machine, as "opencmg mp join" and
// "opencmg connection-point join" do.
func (l *lab) join(ctx context.Context, kind, name, gateway, internal string) (*adminservice.JoinReply, error) {
	t, err := post[adminservice.JoinTokenRecord](ctx, l, "JoinTokens", adminservice.JoinTokenRecord{Kind: kind, GatewayID: gateway})
	if err != nil {
		return nil, err
	}
	token, err := adminservice.ParseJoinToken(t.Token)
	if err != nil {
		return nil, err
	}
	dir := l.path("state", name, "identity")
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return nil, err
	}
	return sitelink.Join(ctx, sitelink.JoinOptions{Token: token, Kind: kind, Name: name, Addresses: []string{"127.0.0.1", "localhost"}, Internal: internal, Dir: dir})
}

// partGateway deploys the gateway as a scale set, and brings up the connection
// points that dial out to it.
func (l *lab) partGateway(ctx context.Context, report *labReport, ui *labUI) error {
	gateway, err := l.gateway(ctx, report, ui)
	if err != nil {
		return err
	}
	if err := l.findMachines(ctx, gateway); err != nil {
		return err
	}
	var names []string
	for i := range l.opts.connectionPoints {
		name := fmt.Sprintf("cp%d", i+1)
		id, err := l.connectionPoint(ctx, name, gateway)
		if err != nil {
			return err
		}
		c := &ConnectionPointConfig{
			Name: name, ConnectionID: id, Site: labSite, IdentityDir: l.path("state", name, "identity"), SiteServer: l.admin.URL,
			Outbound: OutboundConfig{CAFile: l.path("ca.pem"), ConnectTo: append(l.gatewayRules(), l.cloudRules()...)}, Log: l.logs("connection-point-" + name),
		}
		if l.opts.instances > 4 {
			c.Connections = 1 // one machine carries all ends of every tunnel
		}
		if err := l.addProcess("connection-point-"+name, []string{"connection-point", "serve"}, &c.Private, c); err != nil {
			return err
		}
		names = append(names, "connection-point-"+name)
	}
	if err := l.start(ctx, ui.progress, names...); err != nil {
		return err
	}
	// The instances are ready when they have a configuration and tunnels.
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	for _, p := range l.processes {
		if p.foreign {
			if err := p.ready(ctx, l.processes); err != nil {
				return err
			}
		}
	}
	return nil
}

// bulkToken makes a bulk registration token of the lab's site.
func (l *lab) bulkToken(ctx context.Context) (adminservice.BulkRegistrationToken, error) {
	return post[adminservice.BulkRegistrationToken](ctx, l, "BulkRegistrationTokens", struct{}{})
}
