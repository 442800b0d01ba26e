package main

import (
	"context"
	"crypto/x509"
	"flag"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/gateway"
	"github.com/opencmg/opencmg/internal/sitelink"
	"github.com/opencmg/opencmg/pki"
)

// A GatewayConfig is the bootstrap document of one gateway instance. All else
// comes from the site as published configuration. Relative paths are relative
// to the file.
type GatewayConfig struct {
	// Gateway is the gateway's name at the site. Required; it and the next
	// three are left out on a host with a join token, which knows them.
	Gateway string `yaml:"gateway"`
	// ServiceName is the DNS name that clients use; the server certificate
	// must cover it. Required.
	ServiceName string `yaml:"serviceName"`
	// Instance is this instance's number, 0 to 15.
	Instance int `yaml:"instance"`
	// Site is the three-character site code. Required.
	Site opencmg.SiteCode `yaml:"site"`
	// IdentityDir holds what "opencmg publish" made for this instance, or what
	// the host got when it joined: site-ca.pem, identity.pem and identity.key.
	// Required.
	IdentityDir string `yaml:"identityDir"`
	// StateDir keeps the last published configuration and the revocation
	// lists. Required; it is made when missing.
	StateDir string `yaml:"stateDir"`
	// ServerCertificate is what clients see. Required. A changed file takes
	// effect without a restart.
	ServerCertificate ServerCertificateConfig `yaml:"serverCertificate"`
	// Listen holds the addresses as host:port.
	Listen GatewayListen `yaml:"listen"`
	// Outbound is the way to revocation lists and identity providers.
	Outbound OutboundConfig `yaml:"outbound,omitempty"`
	Log      LogConfig      `yaml:"log,omitempty"`
}

// GatewayListen are the listeners of a gateway instance.
type GatewayListen struct {
	// HTTPS takes clients, and tunnels over HTTPS; default ":443". On a host
	// that joined, the defaults of HTTPS and Tunnel are the token's ports, ":443"
	// and ":10140" unless it names others.
	HTTPS string `yaml:"https,omitempty"`
	// Tunnel takes tunnels over TCP-TLS; default ":10140" plus the instance.
	// "off" opens none.
	Tunnel string `yaml:"tunnel,omitempty"`
	// TunnelHTTPS takes tunnels over HTTPS on a port of their own, for several
	// instances behind one address (documented ports 10124 plus the
	// instance); default none.
	TunnelHTTPS string `yaml:"tunnelHTTPS,omitempty"`
	// Private serves metrics, health and explanations; default
	// "127.0.0.1:9440". "off" opens none.
	Private string `yaml:"private,omitempty"`
}

// A ServerCertificateConfig names the files of a server certificate: either a
// PFX with its password file, or a PEM certificate with its key.
type ServerCertificateConfig struct {
	PFX          string `yaml:"pfx,omitempty"`
	PasswordFile string `yaml:"passwordFile,omitempty"`
	Certificate  string `yaml:"certificate,omitempty"`
	Key          string `yaml:"key,omitempty"`
}

func (c *GatewayConfig) fill() error {
	if c.Gateway == "" || c.ServiceName == "" {
		return opencmg.Errorf(opencmg.Invalid, "gateway and serviceName must be set")
	}
	if err := c.Site.Validate(); err != nil {
		return fmt.Errorf("site: %w", err)
	}
	if c.Instance < 0 || c.Instance >= opencmg.MaxInstances {
		return opencmg.Errorf(opencmg.Invalid, "instance: must be 0 to %d, is %d", opencmg.MaxInstances-1, c.Instance)
	}
	setDefault(&c.Listen.HTTPS, ":443")
	setDefault(&c.Listen.Tunnel, fmt.Sprintf(":%d", 10140+c.Instance))
	setDefault(&c.Listen.Private, "127.0.0.1:9440")
	return nil
}

// setDefault fills an empty value and turns "off" into none.
func setDefault(s *string, value string) {
	switch *s {
	case "":
		*s = value
	case "off":
		*s = ""
	}
}

func (c *GatewayConfig) common() (string, LogConfig) { return c.IdentityDir, c.Log }

func serveGateway(ctx context.Context, e *env, args []string) error {
	flags, err := parseServe(e, "gateway serve", args, func(f *serveFlags, fs *flag.FlagSet) {
		fs.StringVar(&f.joinTokenFile, "join-token-file", "", "`file` that holds a join token of the gateway, - for standard input; default is the environment variable "+joinTokenVariable+". Counts while the host has no identity")
	})
	if err != nil {
		return err
	}
	ctx, cancel := flags.context(ctx, e)
	defer cancel()
	if err := joinGateway(ctx, e, flags); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	var c GatewayConfig
	r, err := openRole(e, flags, "CMGService", &c)
	if err != nil {
		return err
	}
	defer r.close()
	logs := r.keepLogs(fmt.Sprintf("%s/%d", c.Gateway, c.Instance))
	log := r.log
	setup := log.With("component", "CMGSetup", "gateway", c.Gateway, "instance", c.Instance)
	stateDir := r.path(c.StateDir)
	if err := requireDir("stateDir", stateDir); err != nil {
		return err
	}
	server, err := pki.NewServerCertificate(pki.ServerFiles{
		PFX:          r.path(c.ServerCertificate.PFX),
		PasswordFile: r.path(c.ServerCertificate.PasswordFile),
		Certificate:  r.path(c.ServerCertificate.Certificate),
		Key:          r.path(c.ServerCertificate.Key),
		ServiceName:  c.ServiceName,
	}, log.With("component", "CMGSetup"))
	if err != nil {
		return fmt.Errorf("serverCertificate: %w", err)
	}
	httpClient, err := c.Outbound.client(r.base, 15*time.Second)
	if err != nil {
		return err
	}
	s, err := gateway.New(gateway.Config{
		Gateway:           c.Gateway,
		ServiceName:       c.ServiceName,
		Instance:          c.Instance,
		Site:              c.Site,
		SiteCA:            r.identity.siteCA,
		TunnelCertificate: r.identity.pair,
		GetCertificate:    server.GetCertificate,
		StateDir:          stateDir,
		HTTP:              httpClient,
		Version:           version(),
		Log:               log,
		Logs:              logs,
		Registry:          newRegistry(),
	})
	if err != nil {
		return err
	}
	ls, err := c.Listen.open()
	if err != nil {
		return err
	}
	if ls.Private, err = listen("listen.private", c.Listen.Private); err != nil {
		return err
	}
	setup.Info("gateway instance started", "service_name", c.ServiceName, "https", c.Listen.HTTPS, "tunnel", c.Listen.Tunnel, "version", version())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return server.Run(ctx) })
	g.Go(func() error { return s.Serve(ctx, ls) })
	err = g.Wait()
	setup.Info("gateway instance stopped")
	return err
}

// identity is what "opencmg publish" makes for a host, or what a host got when it
// joined its site.
type identity struct {
	siteCA *x509.Certificate
	pair   tlsCertificate
}

func loadIdentity(dir string) (identity, error) {
	if dir == "" {
		return identity{}, opencmg.Errorf(opencmg.Invalid, "identityDir: name the directory that opencmg publish made for this host, or that this host got when it joined")
	}
	id, err := sitelink.LoadIdentity(dir)
	if err != nil {
		return identity{}, fmt.Errorf("identityDir: %w", err)
	}
	return identity{siteCA: id.SiteCA, pair: id.Pair}, nil
}
