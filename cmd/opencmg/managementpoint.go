package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/sitelink"
	"github.com/opencmg/opencmg/mp"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

// A ManagementPointConfig is the configuration file of a management point.
// Relative paths are relative to the file.
type ManagementPointConfig struct {
	Site   opencmg.SiteCode `yaml:"site"`   // required
	RoleID opencmg.RoleID   `yaml:"roleId"` // as published; required
	// IdentityDir holds what "opencmg publish" made for this role, or what the
	// host got when it joined its site: site-ca.pem, identity.pem,
	// identity.key, the token-signing key, and published.jws. Required.
	IdentityDir string `yaml:"identityDir"`
	// SiteServer is the URL of the site server, which brings the token-signing
	// key and configurations, renews the certificate and takes reports. It is
	// reached straight, or by outbound.connectTo, and not through the proxy.
	// Empty: the files in identityDir are brought by hand.
	SiteServer string `yaml:"siteServer,omitempty"`
	// StateDir holds uploads, revocation lists, records of requests, and the
	// database unless that is elsewhere. Required; it is made when missing.
	StateDir string `yaml:"stateDir"`
	// RecordsMiB bounds the records of the last day's requests in stateDir,
	// which opencmg explain reads, in MiB; default 512. -1 keeps the latest in
	// memory only.
	RecordsMiB int `yaml:"recordsMiB,omitempty"`
	// Database is the site's, where this role shares it; default is one of its
	// own in stateDir.
	Database DatabaseConfig `yaml:"database,omitempty"`
	// HostName is the name or address by which clients inside reach this
	// server; default is the system's name.
	HostName string `yaml:"hostName,omitempty"`
	// ClientFilesDir is served below /CCM_Client/; empty serves nothing.
	ClientFilesDir string                `yaml:"clientFilesDir,omitempty"`
	Listen         ManagementPointListen `yaml:"listen"`
	// Gateways lists the service names that location replies offer to clients
	// on the internet; default is what the site server says.
	Gateways []string `yaml:"gateways,omitempty"`
	// SoftwareUpdatePoints are told to clients that scan for updates.
	SoftwareUpdatePoints []SoftwareUpdatePointConfig `yaml:"softwareUpdatePoints,omitempty"`
	// Settings are what the default policies tell clients to do, for a
	// management point without a site server. With one, the site's client
	// settings hold.
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

// A DatabaseConfig says where the site's database is.
type DatabaseConfig struct {
	// Path is that of an SQLite file on this host.
	Path string `yaml:"path,omitempty"`
	// DSNFile holds the data source name of a PostgreSQL database on its first
	// line. It excludes path.
	DSNFile string `yaml:"dsnFile,omitempty"`
	// KeyFile holds the key by which secrets in the database are encrypted.
	KeyFile string `yaml:"keyFile,omitempty"`
}

// open opens the database, or the role's own in stateDir when none is named.
func (c DatabaseConfig) open(ctx context.Context, r *role, stateDir string) (*sitedb.DB, error) {
	cfg := sitedb.Config{Path: r.path(c.Path), KeyFile: r.path(c.KeyFile), Log: r.log}
	switch {
	case c.Path != "" && c.DSNFile != "":
		return nil, opencmg.Errorf(opencmg.Invalid, "database: path and dsnFile exclude each other")
	case c.DSNFile != "":
		b, err := os.ReadFile(r.path(c.DSNFile))
		if err != nil {
			return nil, fmt.Errorf("database.dsnFile: %w", err)
		}
		line, _, _ := strings.Cut(string(b), "\n")
		if cfg.DSN = strings.TrimSpace(line); cfg.DSN == "" {
			return nil, opencmg.Errorf(opencmg.Invalid, "database.dsnFile: the first line must hold the data source name")
		}
	case c.Path == "":
		cfg.Path = filepath.Join(stateDir, "site.db")
	}
	db, err := sitedb.Open(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	return db, nil
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
	logs := r.keepLogs(c.HostName)
	log, dir := r.log, r.path(c.IdentityDir)
	ctx, cancel := flags.context(ctx, e)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	defer g.Wait() // what was started before an error
	defer cancel()

	httpClient, err := c.Outbound.Client(r.base, 15*time.Second, log)
	if err != nil {
		return err
	}
	stateDir := r.path(c.StateDir)
	crlDir := filepath.Join(stateDir, "crl")
	for _, d := range []string{stateDir, crlDir} {
		if err := requireDir("stateDir", d); err != nil {
			return err
		}
	}
	registry := newRegistry()
	records, keep, err := keepRecords(stateDir, c.RecordsMiB, registry, log)
	if err != nil {
		return err
	}
	crls := pki.NewCRLCache(pki.CRLConfig{HTTP: httpClient, Dir: crlDir, Log: log})
	keys := pki.NewJWKSCache(pki.JWKSConfig{HTTP: httpClient, Log: log})
	published := &publishedTrust{file: filepath.Join(dir, publishedFile), siteCA: r.identity.siteCA, site: c.Site, crls: crls, keys: keys, log: log}
	site := newSiteRole(dir, r.identity.pair, c.offered(), log)
	site.port = c.settings().NotificationPort
	if c.SiteServer != "" {
		if err := site.loadWords(); err != nil {
			return err
		}
	}
	var serving atomic.Pointer[mp.Server] // questions come before it does
	online := make(chan struct{}, 1)      // something to report about who is
	link, err := r.siteLink(c.SiteServer, c.Outbound, sitelink.Config{
		Kind: adminservice.SystemManagementPoint, Site: c.Site, Dir: dir, Logs: logs,
		Apply: site.apply, UseCertificate: site.useCertificate,
		Answer: func(ctx context.Context, q adminservice.SystemQuestion) adminservice.SystemAnswer {
			if q.Kind == adminservice.QuestionExplain {
				return adminservice.SystemAnswer{Records: records.Find(ctx, q.CorrelationID)}
			}
			return answerAboutClients(ctx, serving.Load(), q, log)
		},
		Report: func() adminservice.SiteSystemReport {
			version, problem := published.state()
			return adminservice.SiteSystemReport{Published: version, Problem: problem, Online: site.online()}
		},
		Changes: online,
	})
	if err != nil {
		return err
	}
	if link != nil {
		g.Go(func() error { return link.Run(ctx) })
	}
	signer, err := site.signer(ctx, link != nil)
	if err != nil || signer == nil {
		return err
	}

	db, err := c.Database.open(ctx, r, stateDir)
	if err != nil {
		return err
	}
	defer db.Close()
	cfg := mp.Config{
		Site: c.Site, RoleID: c.RoleID, SiteCA: r.identity.siteCA, GetCertificate: site.getCertificate,
		Signer: signer, DB: db, Host: c.host(),
		ClientFiles: r.path(c.ClientFilesDir), Incoming: filepath.Join(stateDir, "incoming"),
		Gateways: c.offered(), Settings: site.initial(c.settings()), ApproveAll: c.ApproveAll, AcceptUnsignedState: c.AcceptUnsignedState,
		FastChannelWithoutCertificate: c.FastChannelWithoutCertificate,
		Registry:                      registry, Log: log, Records: records,
		OnlineChanged: func() {
			select {
			case online <- struct{}{}:
			default:
			}
		},
	}
	for _, p := range c.SoftwareUpdatePoints {
		cfg.SoftwareUpdatePoints = append(cfg.SoftwareUpdatePoints, mp.SoftwareUpdatePoint(p))
	}
	if cfg.Tokens, cfg.Certificates, err = published.load(); err != nil {
		// A site's management point may be there before any gateway is.
		if link == nil {
			return fmt.Errorf("identityDir: %w", err)
		}
		published.note(err)
	}
	s, err := mp.New(ctx, cfg)
	if err != nil {
		return err
	}
	if err := site.serve(s); err != nil {
		return err
	}
	serving.Store(s)
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
	g.Go(func() error { return crls.Run(ctx) })
	g.Go(func() error { return keys.Run(ctx) })
	g.Go(func() error { published.follow(ctx, s.Trust); return nil })
	keeping, kept := context.WithCancel(context.WithoutCancel(ctx))
	var journal sync.WaitGroup
	journal.Go(func() { keep(keeping) })
	g.Go(func() error { return s.Run(ctx, ls) })
	err = g.Wait()
	kept() // after the last request
	journal.Wait()
	return err
}

// answerAboutClients answers what the site asks about clients that listen here.
func answerAboutClients(ctx context.Context, s *mp.Server, q adminservice.SystemQuestion, log *slog.Logger) (a adminservice.SystemAnswer) {
	if s == nil {
		return a // nobody can be listening yet
	}
	switch q.Kind {
	case adminservice.QuestionOnline:
		for _, l := range s.Listeners(q.Clients) {
			if q.IDsOnly {
				a.OnlineIDs = append(a.OnlineIDs, l.ClientID)
				continue
			}
			a.Online = append(a.Online, adminservice.ListeningClient{ID: l.ClientID, Transport: l.Transport, Internet: l.Internet, Since: l.Since})
		}
	case adminservice.QuestionWake:
		if err := s.Wake(ctx, q.Clients); err != nil {
			log.Warn("clients are not woken: they get their tasks when they listen again", "component", "BGBServer", "err", err)
		}
	}
	return a
}

// offered are the gateways of the configuration file.
func (c *ManagementPointConfig) offered() []mp.Gateway {
	var list []mp.Gateway
	for _, name := range c.Gateways {
		list = append(list, mp.Gateway{ServiceName: name})
	}
	return list
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
	if err := checkRecordsMiB(c.RecordsMiB); err != nil {
		return err
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
