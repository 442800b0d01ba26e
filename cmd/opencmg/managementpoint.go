package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
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
	Gateways []string       `yaml:"gateways,omitempty"`
	Outbound OutboundConfig `yaml:"outbound,omitempty"`
	Log      LogConfig      `yaml:"log,omitempty"`
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
	httpClient, err := c.Outbound.client(r.base, 15*time.Second)
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
		Registry: newRegistry(), Log: log,
	}
	for _, name := range c.Gateways {
		cfg.Gateways = append(cfg.Gateways, mp.Gateway{ServiceName: name})
	}
	crls := pki.NewCRLCache(pki.CRLConfig{HTTP: httpClient, Dir: crlDir, Log: log})
	keys := pki.NewJWKSCache(pki.JWKSConfig{HTTP: httpClient, Log: log})
	if err := insideVerifiers(&cfg, filepath.Join(dir, publishedFile), crls, keys); err != nil {
		return err
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
	g.Go(func() error { return s.Run(ctx, ls) })
	return g.Wait()
}

// insideVerifiers lets the management point authenticate callers inside the
// network by the same rules as the gateway, from the published configuration.
func insideVerifiers(cfg *mp.Config, file string, crls *pki.CRLCache, keys *pki.JWKSCache) error {
	jws, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("identityDir: %w", err)
	}
	published, err := pki.VerifyConfiguration(jws, cfg.SiteCA, cfg.Site, time.Now())
	if err != nil {
		return fmt.Errorf("identityDir: %s: %w", file, err)
	}
	if cfg.Tokens, err = pki.NewTokenVerifier(published, keys, cfg.Log); err != nil {
		return err
	}
	cfg.Certificates, err = pki.NewClientVerifier(published.Certificates, crls, cfg.Log)
	return err
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
