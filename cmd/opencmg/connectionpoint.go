package main

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/connpoint"
	"github.com/opencmg/opencmg/internal/sitelink"
	"github.com/opencmg/opencmg/internal/web"
	"github.com/opencmg/opencmg/pki"
)

// A ConnectionPointConfig is the configuration file of a connection point.
// Relative paths are relative to the file.
type ConnectionPointConfig struct {
	// Name is the connection point's name at the site. Required.
	Name string `yaml:"name"`
	// ConnectionID is registered at the site, "opencmg publish" prints it;
	// default is the name.
	ConnectionID string           `yaml:"connectionId,omitempty"`
	Site         opencmg.SiteCode `yaml:"site"` // required
	// IdentityDir holds what "opencmg publish" made for this host, or what it
	// got when it joined its site: site-ca.pem, identity.pem, identity.key,
	// published.jws and mappings.jws. The last two are read again when they
	// change. Required.
	IdentityDir string `yaml:"identityDir"`
	// SiteServer is the URL of the site server, which brings gateways, URL
	// mappings and configurations, renews the certificate and takes reports.
	// It is reached straight, or by outbound.connectTo, and not through the
	// proxy. Empty: the files in identityDir are brought by hand.
	SiteServer string `yaml:"siteServer,omitempty"`
	// Gateways lists the gateways to dial, while the URL mappings name none.
	// Required without siteServer.
	Gateways []GatewayTargetConfig `yaml:"gateways,omitempty"`
	// Connections is the number of tunnel connections to each instance;
	// default 2.
	Connections int `yaml:"connections,omitempty"`
	// Outbound is the way to the gateways and to siteServer; caFile does not
	// count there. With a proxy, tunnels use HTTPS; siteServer is reached
	// straight.
	Outbound OutboundConfig `yaml:"outbound,omitempty"`
	// ClientCertificates are offered to roles that want a certificate of an
	// outside PKI.
	ClientCertificates []KeyPairConfig `yaml:"clientCertificates,omitempty"`
	// RoleWait is how many seconds a request waits for a role that does not
	// accept connections; default 10.
	RoleWait int `yaml:"roleWait,omitempty"`
	// RecordsMiB bounds the records of the last day's requests below
	// identityDir, which opencmg explain reads, in MiB; default 512. -1 keeps
	// the latest in memory only.
	RecordsMiB int `yaml:"recordsMiB,omitempty"`
	// Private serves metrics, health and explanations; default
	// "127.0.0.1:9441". "off" opens none.
	Private string    `yaml:"private,omitempty"`
	Log     LogConfig `yaml:"log,omitempty"`
}

// A KeyPairConfig names a PEM certificate and its key.
type KeyPairConfig struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

// A GatewayTargetConfig is a gateway as its connection points see it.
type GatewayTargetConfig struct {
	// Name is the gateway's name at the site. Required.
	Name string `yaml:"name"`
	// ServiceName is dialled on the documented ports unless instances says
	// otherwise.
	ServiceName string `yaml:"serviceName,omitempty"`
	// Count is the number of instances; default is what the gateway reports.
	Count int `yaml:"count,omitempty"`
	// Instances lists addresses that do not follow the documented ports.
	Instances []InstanceAddressConfig `yaml:"instances,omitempty"`
}

// An InstanceAddressConfig is where one instance accepts tunnels, as
// host:port. The TCP-TLS address is tried first; an empty one is not tried.
type InstanceAddressConfig struct {
	Instance int    `yaml:"instance"`
	TCPTLS   string `yaml:"tcpTLS,omitempty"`
	HTTPS    string `yaml:"https,omitempty"`
}

func (c *ConnectionPointConfig) common() (string, LogConfig) { return c.IdentityDir, c.Log }

func (c *ConnectionPointConfig) fill() error {
	if c.Name == "" || len(c.Gateways) == 0 && c.SiteServer == "" {
		return opencmg.Errorf(opencmg.Invalid, "name and gateways must be set; with siteServer the site names the gateways")
	}
	if err := c.Site.Validate(); err != nil {
		return fmt.Errorf("site: %w", err)
	}
	if err := checkRecordsMiB(c.RecordsMiB); err != nil {
		return err
	}
	setDefault(&c.ConnectionID, c.Name)
	setDefault(&c.Private, "127.0.0.1:9441")
	return nil
}

func serveConnectionPoint(ctx context.Context, e *env, args []string) error {
	flags, err := parseServe(e, "connection-point serve", args)
	if err != nil {
		return err
	}
	var c ConnectionPointConfig
	r, err := openRole(e, flags, "SMS_Cloud_ProxyConnector", &c)
	if err != nil {
		return err
	}
	defer r.close()
	logs := r.keepLogs(c.Name)
	log, dir := r.log, r.path(c.IdentityDir)
	proxy, err := c.Outbound.ProxyURL(r.base)
	if err != nil {
		return err
	}
	registry := newRegistry()
	records, keep, err := keepRecords(dir, c.RecordsMiB, registry, log)
	if err != nil {
		return err
	}
	cfg := connpoint.Config{
		Name:          c.Name,
		ConnectionID:  c.ConnectionID,
		Site:          c.Site,
		SiteCA:        r.identity.siteCA,
		Certificate:   r.identity.pair,
		Proxy:         proxy,
		Connections:   c.Connections,
		PublishedFile: filepath.Join(dir, publishedFile),
		MappingsFile:  filepath.Join(dir, mappingsFile),
		LoadMappings: func(b []byte) (*opencmg.URLMappings, error) {
			doc, err := pki.VerifyDocument(pki.KindURLMappings, b, r.identity.siteCA, opencmg.ConfigurationSigningURI(c.Site), time.Now())
			if err != nil {
				return nil, err
			}
			return opencmg.ParseURLMappings(doc)
		},
		AwaitMappings:    c.SiteServer != "",
		CollectInstances: c.SiteServer != "",

		RoleWait: time.Duration(c.RoleWait) * time.Second,
		Log:      log,
		Registry: registry,
		Records:  records,
	}
	if len(c.Outbound.ConnectTo) > 0 {
		if cfg.DialContext, err = c.Outbound.Dialer(log); err != nil {
			return err
		}
	}
	for _, g := range c.Gateways {
		t := opencmg.GatewayTarget{Name: g.Name, ServiceName: g.ServiceName, Count: g.Count}
		for _, i := range g.Instances {
			t.Instances = append(t.Instances, opencmg.InstanceAddress{Instance: i.Instance, TCPTLS: i.TCPTLS, HTTPS: i.HTTPS})
		}
		cfg.Gateways = append(cfg.Gateways, t)
	}
	for _, p := range c.ClientCertificates {
		pair, err := pki.LoadKeyPair(r.path(p.Certificate), r.path(p.Key))
		if err != nil {
			return fmt.Errorf("clientCertificates: %w", err)
		}
		cfg.ClientCertificates = append(cfg.ClientCertificates, pair)
	}
	// The link needs the connector, and the connector the link.
	var link *sitelink.Link
	if c.SiteServer != "" {
		cfg.Join = func(ctx context.Context, q adminservice.GatewayJoinRequest) (*adminservice.GatewayJoinReply, error) {
			return link.JoinGateway(ctx, q)
		}
	}
	cp, err := connpoint.New(cfg)
	if err != nil {
		return err
	}
	look, err := r.watch(c.Outbound, nil)
	if err != nil {
		return err
	}
	link, err = r.siteLink(c.SiteServer, c.Outbound, sitelink.Config{
		Kind: adminservice.SystemConnectionPoint, Site: c.Site, Dir: dir, Logs: logs,
		CheckMappings: func(b []byte) error {
			_, err := opencmg.ParseURLMappings(b)
			return err
		},
		Apply: func(d *adminservice.Documents) error {
			cp.CollectLogs(d.InstanceLogs)
			look.Use(d.Probes)
			return nil
		},
		UseCertificate: cp.SetCertificate,
		Answer: func(ctx context.Context, q adminservice.SystemQuestion) adminservice.SystemAnswer {
			found, asked := cp.Explain(ctx, q.CorrelationID)
			return adminservice.SystemAnswer{Records: found, Asked: asked}
		},
		Changes: cp.Changes(),
		Report: func() adminservice.SiteSystemReport {
			p := cp.Report()
			return adminservice.SiteSystemReport{
				ConnectionPoint: &p.Status, Instances: p.Instances, Logs: p.Logs,
				Published: p.Published, Mappings: p.Mappings, Problem: p.Problem, Probes: look.Report(),
			}
		},
	})
	if err != nil {
		return err
	}
	private, err := listen("private", c.Private)
	if err != nil {
		return err
	}
	ctx, cancel := flags.context(ctx, e)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	if private != nil {
		p := &web.Private{Records: records, Registry: registry, Ready: cp.Ready, Log: log}
		g.Go(func() error { return p.Serve(ctx, private) })
	}
	if link != nil {
		g.Go(func() error { return link.Run(ctx) })
		g.Go(func() error { return look.Run(ctx) })
	}
	keeping, kept := context.WithCancel(context.WithoutCancel(ctx))
	var journal sync.WaitGroup
	journal.Go(func() { keep(keeping) })
	g.Go(func() error { return cp.Run(ctx) })
	err = g.Wait()
	kept() // after the last request
	journal.Wait()
	return err
}
