package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
)

// Names of the lab's site.
const (
	labSite        = "LAB"
	labGateway     = "lab-gateway"
	labServiceName = "gw.lab.opencmg.example"
	labMPRole      = opencmg.RoleID("72057594037927937")
	labTenant      = "6f3b5a0e-8d2c-4c57-9a41-2d1f0e9b7c11"
	labClientApp   = "1d0c8f6e-3b7a-4c55-8e2d-9f4a6b1c2d33"
	labServerApp   = "2e1d907f-4c8b-4d66-9f3e-a05b7c2d3e44"
	labResourceURI = "api://6f3b5a0e-8d2c-4c57-9a41-2d1f0e9b7c11/opencmg"
	crlValidity    = 7 * 24 * time.Hour
)

// lab is a whole site on this machine.
type lab struct {
	opts      labOptions
	dir       string
	temporary bool // dir goes away with the lab
	log       *slog.Logger

	ports       portPicker
	addr        labAddresses
	pkiRoot     *pki.Authority // of the clients' certificates
	pkiIssuing  *pki.Authority
	publicCA    *pki.Authority // of the gateways' server certificate and the Entra stand-in's
	siteFile    SiteFile
	devices     map[string]string // Entra device ID to secret
	adminSecret string
	crlMu       sync.Mutex // one revocation at a time
	publishMu   sync.Mutex // one publication at a time

	relays    labRelays // only with fault drop-tunnel
	processes []*labProcess
	infoMu    sync.Mutex // guards info and its file
	info      labInfo
}

// labAddresses are the listeners of the lab, as host:port on loopback.
type labAddresses struct {
	crl, entra, mp, mpFast string
	gatewayHTTPS           []string
	gatewayTunnel          []string
}

func (l *lab) path(parts ...string) string {
	return filepath.Join(append([]string{l.dir}, parts...)...)
}

// setUp makes certificates, configuration files and the published
// configuration: what an administrator prepares before anything is started.
func (l *lab) setUp(now time.Time) error {
	for _, d := range []string{"pki", "crl", "config", "logs", "clients"} {
		if err := os.MkdirAll(l.path(d), 0o700); err != nil {
			return err
		}
	}
	if err := l.pickAddresses(); err != nil {
		return err
	}
	if err := l.makeCertificates(now); err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	l.devices = map[string]string{}
	for i := range l.opts.clients {
		l.devices[labDeviceID(i)] = randomHex(16)
	}
	l.devices[labDeviceID(-1)] = randomHex(16) // of the token in lab.json
	l.adminSecret = randomHex(32)
	l.describeSite()
	if err := l.publish(); err != nil {
		return err
	}
	// Who tries the management point from inside needs the site's CA, and has
	// one file for both.
	siteCA, err := os.ReadFile(l.path("site", siteCAFile))
	if err != nil {
		return err
	}
	if err := pki.WriteFile(l.path("ca.pem"), append(l.publicCA.CertificatePEM(), siteCA...), 0o644); err != nil {
		return err
	}
	return l.writeConfigs()
}

func (l *lab) pickAddresses() error {
	list := []*string{&l.addr.crl, &l.addr.entra, &l.addr.mp, &l.addr.mpFast}
	l.addr.gatewayHTTPS = make([]string, l.opts.instances)
	l.addr.gatewayTunnel = make([]string, l.opts.instances)
	for i := range l.opts.instances {
		list = append(list, &l.addr.gatewayHTTPS[i], &l.addr.gatewayTunnel[i])
	}
	for _, a := range list {
		var err error
		if *a, err = l.ports.pick(); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) makeCertificates(now time.Time) (err error) {
	if l.publicCA, err = pki.NewAuthority("OpenCMG lab public CA", now); err != nil {
		return err
	}
	rootURL := "http://" + l.addr.crl + "/root.crl"
	if l.pkiRoot, err = pki.CreateAuthority(pki.AuthorityOptions{Name: "OpenCMG lab client root CA", CRLURL: rootURL}, now); err != nil {
		return err
	}
	if l.pkiIssuing, err = pki.CreateAuthority(pki.AuthorityOptions{
		Name: "OpenCMG lab client issuing CA", Parent: l.pkiRoot, CRLURL: l.issuingCRL(),
	}, now); err != nil {
		return err
	}
	files := map[string][]byte{
		l.path("ca.pem"):                    l.publicCA.CertificatePEM(),
		l.path("pki", "client-root.pem"):    l.pkiRoot.CertificatePEM(),
		l.path("pki", "client-issuing.pem"): l.pkiIssuing.CertificatePEM(),
	}
	for file, b := range files {
		if err := pki.WriteFile(file, b, 0o644); err != nil {
			return err
		}
	}
	if err := l.writeCRLs(now); err != nil {
		return err
	}
	// People and tools reach an instance by its address too, so the server
	// certificate covers both.
	server, err := certificateFor(l.publicCA, now, labServiceName, "localhost", "127.0.0.1", "::1")
	if err != nil {
		return err
	}
	if err := pki.SaveKeyPair(l.path("pki", "server.pem"), l.path("pki", "server.key"), server); err != nil {
		return err
	}
	entra, err := certificateFor(l.publicCA, now, "localhost", "127.0.0.1", "::1")
	if err != nil {
		return err
	}
	return pki.SaveKeyPair(l.path("pki", "entra.pem"), l.path("pki", "entra.key"), entra)
}

// issuingCRL is where the list is found that covers the clients' certificates.
func (l *lab) issuingCRL() string { return "http://" + l.addr.crl + "/issuing.crl" }

func (l *lab) writeCRLs(now time.Time) error {
	for file, ca := range map[string]*pki.Authority{"root.crl": l.pkiRoot, "issuing.crl": l.pkiIssuing} {
		crl, err := ca.CRL(now, crlValidity)
		if err != nil {
			return err
		}
		if err := pki.WriteFile(l.path("crl", file), crl, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// clientCertificate issues a certificate of the lab's PKI for a device.
func (l *lab) clientCertificate(name string, now time.Time) (labKeyPair, error) {
	pair, err := l.pkiIssuing.IssueKeyPair(pki.Template{CommonName: name, DNSNames: []string{name}, Client: true, Key: pki.RSA2048}, now)
	if err != nil {
		return labKeyPair{}, err
	}
	files := labKeyPair{CertFile: l.path("pki", name+".pem"), KeyFile: l.path("pki", name+".key")}
	return files, pki.SaveKeyPair(files.CertFile, files.KeyFile, pair)
}

// revoke puts a certificate onto the revocation list and publishes the list.
func (l *lab) revoke(files labKeyPair, now time.Time) error {
	certs, err := pki.LoadCertificates(files.CertFile)
	if err != nil {
		return err
	}
	l.crlMu.Lock()
	defer l.crlMu.Unlock()
	l.pkiIssuing.Revoke(certs[0].SerialNumber, now)
	return l.writeCRLs(now)
}

func (l *lab) describeSite() {
	authority := "https://" + l.addr.entra + "/" + labTenant + "/v2.0"
	l.siteFile = SiteFile{
		Site:    labSite,
		Gateway: SiteGateway{Name: labGateway, ServiceName: labServiceName, Instances: l.opts.instances},
		Roles: []SiteRole{{
			ID: labMPRole, Kind: opencmg.KindManagementPoint, Name: "mp", Internal: []string{"https://" + l.addr.mp}, SiteRole: true,
		}},
		Certificates: SiteCertificates{
			Roots: []string{l.path("pki", "client-root.pem")}, Intermediates: []string{l.path("pki", "client-issuing.pem")},
			RevocationLists: []SiteRevocationList{{Issuer: l.path("pki", "client-issuing.pem"), URL: l.issuingCRL()}},
		},
		Tenants: []SiteTenant{{
			ID: labTenant, Name: "Lab", ClientAppID: labClientApp, ResourceURI: labResourceURI,
			Issuers:   []string{"https://sts.windows.net/" + labTenant + "/", authority},
			Authority: authority,
		}},
	}
	for i := range l.opts.connectionPoints {
		l.siteFile.ConnectionPoints = append(l.siteFile.ConnectionPoints, SiteConnectionPoint{Name: fmt.Sprintf("cp%d", i+1)})
	}
}

// publish signs the site file's content; the connection points take it from
// there.
func (l *lab) publish() error {
	l.publishMu.Lock()
	defer l.publishMu.Unlock()
	_, err := publishSite(&l.siteFile, l.dir, l.path("site"), time.Now())
	return err
}

// writeConfigs writes a configuration file for every role, as an administrator
// would by hand, and lists the processes.
func (l *lab) writeConfigs() error {
	outbound := OutboundConfig{CAFile: l.path("ca.pem")}
	logs := func(name string) LogConfig { return LogConfig{Dir: l.path("logs", name), Level: l.opts.logLevel} }
	var targets []InstanceAddressConfig

	if err := pki.WriteFile(l.path("config", "entra-admin-secret"), []byte(l.adminSecret+"\n"), 0o600); err != nil {
		return err
	}
	add := func(name string, words []string, private *string, config any) error {
		var err error
		if *private, err = l.ports.pick(); err != nil {
			return err
		}
		b, err := yaml.Marshal(config)
		if err != nil {
			return err
		}
		file := l.path("config", name+".yaml")
		if err := pki.WriteFile(file, b, 0o600); err != nil {
			return err
		}
		p := &labProcess{name: name, words: words, config: file, privateURL: "http://" + *private, dir: l.path("logs"), log: l.log}
		p.started = func() { l.saveInfo() }
		l.processes = append(l.processes, p)
		return nil
	}

	crl := &LabCRLConfig{Listen: l.addr.crl, Dir: l.path("crl")}
	if err := add("crl-server", []string{"lab-crl", "serve"}, &crl.Private, crl); err != nil {
		return err
	}
	entra := &LabCloudConfig{
		Listen: l.addr.entra, Certificate: l.path("pki", "entra.pem"), Key: l.path("pki", "entra.key"),
		AdminSecretFile: l.path("config", "entra-admin-secret"), Tenant: labTenant,
		ClientAppID: labClientApp, ServerAppID: labServerApp, ResourceURI: labResourceURI, Devices: l.devices, Log: logs("entra"),
	}
	if err := add("entra", []string{"lab-cloud", "serve"}, &entra.Private, entra); err != nil {
		return err
	}
	mp := &ManagementPointConfig{
		Site: labSite, RoleID: labMPRole, IdentityDir: l.path("site", "role-"+string(labMPRole)), StateDir: l.path("state", "mp"),
		HostName: "127.0.0.1", Listen: ManagementPointListen{HTTPS: l.addr.mp, FastChannel: l.addr.mpFast},
		Gateways: []string{labServiceName}, Outbound: outbound, Log: logs("mp"),
	}
	if err := add("mp", []string{"mp", "serve"}, &mp.Listen.Private, mp); err != nil {
		return err
	}
	for i := range l.opts.instances {
		g := &GatewayConfig{
			Gateway: labGateway, ServiceName: labServiceName, Instance: i, Site: labSite,
			IdentityDir: l.path("site", fmt.Sprintf("gateway-%d", i)), StateDir: l.path("state", fmt.Sprintf("gateway-%d", i)),
			ServerCertificate: ServerCertificateConfig{Certificate: l.path("pki", "server.pem"), Key: l.path("pki", "server.key")},
			Listen:            GatewayListen{HTTPS: l.addr.gatewayHTTPS[i], Tunnel: l.addr.gatewayTunnel[i]},
			Outbound:          outbound, Log: logs(fmt.Sprintf("gateway-%d", i)),
		}
		if err := add(fmt.Sprintf("gateway-%d", i), []string{"gateway", "serve"}, &g.Listen.Private, g); err != nil {
			return err
		}
		target := InstanceAddressConfig{Instance: i, TCPTLS: l.addr.gatewayTunnel[i], HTTPS: l.addr.gatewayHTTPS[i]}
		if l.opts.fault == faultDropTunnel {
			var err error
			if target.TCPTLS, err = l.relays.listen(target.TCPTLS); err != nil {
				return err
			}
			if target.HTTPS, err = l.relays.listen(target.HTTPS); err != nil {
				return err
			}
		}
		targets = append(targets, target)
	}
	for _, p := range l.siteFile.ConnectionPoints {
		c := &ConnectionPointConfig{
			Name: p.Name, Site: labSite, IdentityDir: l.path("site", "connection-point-"+p.Name),
			Gateways: []GatewayTargetConfig{{Name: labGateway, ServiceName: labServiceName, Count: l.opts.instances, Instances: targets}},
			Log:      logs("connection-point-" + p.Name),
		}
		if l.opts.instances > 4 {
			c.Connections = 1 // one machine carries all ends of every tunnel
		}
		if err := add("connection-point-"+p.Name, []string{"connection-point", "serve"}, &c.Private, c); err != nil {
			return err
		}
	}
	return nil
}

// start starts every process and waits until all of them are ready.
func (l *lab) start(ctx context.Context, progress func(done, all int)) error {
	for _, p := range l.processes {
		if err := p.start(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	for i, p := range l.processes {
		if err := p.ready(ctx, l.processes); err != nil {
			return err
		}
		progress(i+1, len(l.processes))
	}
	return nil
}

// stop ends every process and removes what the lab made.
func (l *lab) stop() {
	var wg sync.WaitGroup
	for _, p := range l.processes {
		if p.done != nil {
			wg.Go(func() { p.stop(10 * time.Second) })
		}
	}
	wg.Wait()
	l.relays.close()
	os.Remove(l.path(labInfoFile))
	if l.temporary {
		os.RemoveAll(l.dir)
	}
}

// describe fills lab.json.
func (l *lab) describe(ctx context.Context) error {
	spare, err := l.clientCertificate("spare-client", time.Now())
	if err != nil {
		return err
	}
	signer, err := loadTokenSigner(l.path("site"))
	if err != nil {
		return err
	}
	bulk, err := signer.Bulk(0, time.Now())
	if err != nil {
		return err
	}
	device, err := l.entraToken(ctx, map[string]any{"tenant": labTenant, "deviceId": labDeviceID(-1)})
	if err != nil {
		return err
	}
	base := "https://" + l.addr.gatewayHTTPS[0]
	l.infoMu.Lock()
	l.info = labInfo{
		PID: os.Getpid(), ServiceName: labServiceName, CAFile: l.path("ca.pem"),
		MutualAuthBase:  base + opencmg.MutualAuthPrefix + string(labMPRole),
		ServerAuthBase:  base + opencmg.ServerAuthPrefix + string(labMPRole),
		ManagementPoint: "https://" + l.addr.mp,
		SpareClient:     spare,
		BulkToken:       bulk.Raw,
		Entra:           labEntra{Issuer: "https://sts.windows.net/" + labTenant + "/", Audience: labResourceURI, Token: device},
		LogDir:          l.path("logs"),
	}
	for _, a := range l.addr.gatewayHTTPS {
		l.info.GatewayURLs = append(l.info.GatewayURLs, "https://"+a)
	}
	l.infoMu.Unlock()
	return l.saveInfo()
}

// saveInfo writes lab.json with the processes as they are now.
func (l *lab) saveInfo() error {
	l.infoMu.Lock()
	defer l.infoMu.Unlock()
	if l.info.PID == 0 {
		return nil // not described yet
	}
	l.info.Processes = nil
	for _, p := range l.processes {
		l.info.Processes = append(l.info.Processes, labProcInfo{Name: p.name, PID: p.pid(), MetricsURL: p.privateURL + "/metrics", PrivateURL: p.privateURL})
	}
	return l.info.save(l.dir)
}

// process returns the process with the name.
func (l *lab) process(name string) *labProcess {
	for _, p := range l.processes {
		if p.name == name {
			return p
		}
	}
	return nil
}

// labDeviceID returns the Entra device ID of the i-th client.
func labDeviceID(i int) string {
	return fmt.Sprintf("d0000000-0000-4000-8000-%012d", i+1)
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// instanceURL returns the URL of a path on one instance.
func (l *lab) instanceURL(i int, path string) string {
	u := url.URL{Scheme: "https", Host: l.addr.gatewayHTTPS[i]}
	return u.String() + path
}
