package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/mp"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

// A ManagementPointConfig is the configuration file of a management point.
// Relative paths are relative to the file.
type ManagementPointConfig struct {
	Site   opencmg.SiteCode `yaml:"site"`   // required
	RoleID opencmg.RoleID   `yaml:"roleId"` // as published; required
	// IdentityDir holds what "opencmg publish" made for this role:
	// site-ca.pem, identity.pem, identity.key, the token-signing key, and
	// published.jws. Required.
	IdentityDir string `yaml:"identityDir"`
	// StateDir holds the database and uploads. Required; it is made when
	// missing.
	StateDir string `yaml:"stateDir"`
	// HostName is the name or address by which clients inside reach this
	// server; default is the system's name.
	HostName string `yaml:"hostName,omitempty"`
	// ClientFilesDir is served below /CCM_Client/; empty serves nothing.
	ClientFilesDir string                `yaml:"clientFilesDir,omitempty"`
	Listen         ManagementPointListen `yaml:"listen"`
	// Gateways lists the service names that location replies offer to clients
	// on the internet.
	Gateways []string `yaml:"gateways,omitempty"`
	// SoftwareUpdatePoints are told to clients that scan for updates.
	SoftwareUpdatePoints []SoftwareUpdatePointConfig `yaml:"softwareUpdatePoints,omitempty"`
	// Settings are what the default policies tell clients to do.
	Settings ClientSettingsConfig `yaml:"settings,omitempty"`
	// ApproveAll approves clients inside the network that prove nothing but
	// their own key. Default is that they wait for an administrator.
	ApproveAll bool `yaml:"approveAll,omitempty"`
	// AcceptUnsignedState takes state messages without a signature from
	// callers inside, as some of the vendor's clients send them.
	AcceptUnsignedState bool `yaml:"acceptUnsignedState,omitempty"`
	// FastChannelWithoutCertificate lets clients sign in to the fast channel
	// without proving their key, as the vendor's clients do.
	FastChannelWithoutCertificate bool           `yaml:"fastChannelWithoutCertificate,omitempty"`
	Outbound                      OutboundConfig `yaml:"outbound,omitempty"`
	Log                           LogConfig      `yaml:"log,omitempty"`
}

// A SoftwareUpdatePointConfig is a software update point that clients are told
// about.
type SoftwareUpdatePointConfig struct {
	URL    string         `yaml:"url"`              // inside the network
	RoleID opencmg.RoleID `yaml:"roleId,omitempty"` // as published; empty: not through gateways
}

// ClientSettingsConfig are the client settings, in minutes; zero means the
// default.
type ClientSettingsConfig struct {
	DenyGateway       bool `yaml:"denyGateway,omitempty"`       // clients may not use a gateway
	PolicyInterval    int  `yaml:"policyInterval,omitempty"`    // default 60
	LocationInterval  int  `yaml:"locationInterval,omitempty"`  // default 1,440
	InventoryInterval int  `yaml:"inventoryInterval,omitempty"` // default 10,080
	DiscoveryInterval int  `yaml:"discoveryInterval,omitempty"` // default 10,080
	StateInterval     int  `yaml:"stateInterval,omitempty"`     // default 15
	KeepAlive         int  `yaml:"keepAlive,omitempty"`         // of notification; default 15
}

// ManagementPointListen are the listeners of a management point, as host:port.
type ManagementPointListen struct {
	// HTTPS takes clients inside and connection points; default ":443".
	HTTPS string `yaml:"https,omitempty"`
	// FastChannel takes notification connections inside; default ":10123".
	// "off" opens none.
	FastChannel string `yaml:"fastChannel,omitempty"`
	// Private serves metrics, health, explanations and notification; default
	// "127.0.0.1:9442". "off" opens none.
	Private string `yaml:"private,omitempty"`
}

func (c *ManagementPointConfig) common() (string, LogConfig) { return c.IdentityDir, c.Log }

func serveManagementPoint(ctx context.Context, e *env, args []string) error {
	flags, err := parseServe(e, "mp serve", args)
	if err != nil {
		return err
	}
	var c ManagementPointConfig
	r, err := openRole(e, flags, "MP_ClientManager", &c)
	if err != nil {
		return err
	}
	defer r.close()
	log, dir := r.log, r.path(c.IdentityDir)
	signer, err := loadTokenSigner(dir)
	if err != nil {
		return err
	}
	stateDir := r.path(c.StateDir)
	if err := requireDir("stateDir", stateDir); err != nil {
		return err
	}
	db, err := sitedb.Open(ctx, sitedb.Config{Path: filepath.Join(stateDir, "site.db")})
	if err != nil {
		return fmt.Errorf("stateDir: %w", err)
	}
	defer db.Close()
	httpClient, err := c.Outbound.Client(r.base, 15*time.Second, r.log)
	if err != nil {
		return err
	}
	crlDir := filepath.Join(stateDir, "crl")
	if err := requireDir("stateDir", crlDir); err != nil {
		return err
	}
	cfg := mp.Config{
		Site: c.Site, RoleID: c.RoleID, SiteCA: r.identity.siteCA, Certificate: r.identity.pair,
		Signer: signer, DB: db, Host: c.host(),
		ClientFiles: r.path(c.ClientFilesDir), Incoming: filepath.Join(stateDir, "incoming"),
		Settings: c.settings(), ApproveAll: c.ApproveAll, AcceptUnsignedState: c.AcceptUnsignedState,
		FastChannelWithoutCertificate: c.FastChannelWithoutCertificate,
		Registry:                      newRegistry(), Log: log,
	}
	for _, p := range c.SoftwareUpdatePoints {
		cfg.SoftwareUpdatePoints = append(cfg.SoftwareUpdatePoints, mp.SoftwareUpdatePoint(p))
	}
	for _, name := range c.Gateways {
		cfg.Gateways = append(cfg.Gateways, mp.Gateway{ServiceName: name})
	}
	crls := pki.NewCRLCache(pki.CRLConfig{HTTP: httpClient, Dir: crlDir, Log: log})
	keys := pki.NewJWKSCache(pki.JWKSConfig{HTTP: httpClient, Log: log})
	published := &publishedTrust{file: filepath.Join(dir, publishedFile), siteCA: r.identity.siteCA, site: c.Site, crls: crls, keys: keys, log: log}
	if cfg.Tokens, cfg.Certificates, err = published.load(); err != nil {
		return fmt.Errorf("identityDir: %w", err)
	}
	s, err := mp.New(ctx, cfg)
	if err != nil {
		return err
	}
	var ls mp.Listeners
	if ls.HTTPS, err = listen("listen.https", c.Listen.HTTPS); err != nil {
		return err
	}
	if ls.Notification, err = listen("listen.fastChannel", c.Listen.FastChannel); err != nil {
		return err
	}
	if ls.Private, err = listen("listen.private", c.Listen.Private); err != nil {
		return err
	}
	ctx, cancel := flags.context(ctx, e)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return crls.Run(ctx) })
	g.Go(func() error { return keys.Run(ctx) })
	g.Go(func() error { published.follow(ctx, s.Trust); return nil })
	g.Go(func() error { return s.Run(ctx, ls) })
	return g.Wait()
}

// publishedTrust lets a management point authenticate callers inside the
// network by the same rules as the gateway: from the published configuration
// in its identity directory, and again whenever that changes.
type publishedTrust struct {
	file    string
	siteCA  *x509.Certificate
	site    opencmg.SiteCode
	crls    *pki.CRLCache
	keys    *pki.JWKSCache
	log     *slog.Logger
	changed time.Time // modification time of what was loaded last
	version uint64
}

func (p *publishedTrust) load() (*pki.TokenVerifier, *pki.ClientVerifier, error) {
	info, err := os.Stat(p.file)
	if err != nil {
		return nil, nil, err
	}
	p.changed = info.ModTime()
	jws, err := os.ReadFile(p.file)
	if err != nil {
		return nil, nil, err
	}
	c, err := pki.VerifyConfiguration(jws, p.siteCA, p.site, time.Now())
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", p.file, err)
	}
	if c.Version < p.version {
		return nil, nil, opencmg.Errorf(opencmg.Conflict, "%s: version %d is older than version %d, which is in force", p.file, c.Version, p.version)
	}
	tokens, err := pki.NewTokenVerifier(c, p.keys, p.log)
	if err != nil {
		return nil, nil, err
	}
	certificates, err := pki.NewClientVerifier(c.Certificates, p.crls, p.log)
	if err != nil {
		return nil, nil, err
	}
	p.version = c.Version
	return tokens, certificates, nil
}

// follow looks at the file every half second until ctx ends. A damaged or
// older one is logged and changes nothing.
func (p *publishedTrust) follow(ctx context.Context, trust func(*pki.TokenVerifier, *pki.ClientVerifier)) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if info, err := os.Stat(p.file); err != nil || info.ModTime().Equal(p.changed) {
			continue
		}
		tokens, certificates, err := p.load()
		if err != nil {
			p.log.Error("published configuration is not taken over", "err", err)
			continue
		}
		trust(tokens, certificates)
		p.log.Info("published configuration in force", "version", p.version)
	}
}

func (c *ManagementPointConfig) settings() mp.Settings {
	minutes := func(n int) time.Duration { return time.Duration(n) * time.Minute }
	s := mp.Settings{
		DenyGateway: c.Settings.DenyGateway, PolicyInterval: minutes(c.Settings.PolicyInterval),
		LocationInterval: minutes(c.Settings.LocationInterval), InventoryInterval: minutes(c.Settings.InventoryInterval),
		DiscoveryInterval: minutes(c.Settings.DiscoveryInterval), StateInterval: minutes(c.Settings.StateInterval),
		KeepAlive: minutes(c.Settings.KeepAlive),
	}
	if _, port, err := net.SplitHostPort(c.Listen.FastChannel); err == nil {
		s.NotificationPort, _ = strconv.Atoi(port)
	}
	return s
}

// host is the name by which clients inside reach this server, with a port
// unless it is 443.
func (c *ManagementPointConfig) host() string {
	_, port, err := net.SplitHostPort(c.Listen.HTTPS)
	if err != nil || port == "443" {
		return c.HostName
	}
	return net.JoinHostPort(c.HostName, port)
}

func (c *ManagementPointConfig) fill() error {
	if err := c.Site.Validate(); err != nil {
		return fmt.Errorf("site: %w", err)
	}
	if err := c.RoleID.Validate(); err != nil {
		return fmt.Errorf("roleId: %w", err)
	}
	if c.HostName == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("hostName: %w", err)
		}
		c.HostName = name
	}
	setDefault(&c.Listen.HTTPS, ":443")
	setDefault(&c.Listen.FastChannel, ":10123")
	setDefault(&c.Listen.Private, "127.0.0.1:9442")
	return nil
}
