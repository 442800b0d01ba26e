package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/gateway"
	"github.com/opencmg/opencmg/internal/bootstrap"
	"github.com/opencmg/opencmg/internal/sitelink"
	"github.com/opencmg/opencmg/internal/web"
	"github.com/opencmg/opencmg/pki"
)

// The configuration file of a gateway instance is its bootstrap document.
type (
	GatewayConfig           = bootstrap.Gateway
	GatewayListen           = bootstrap.Listen
	ServerCertificateConfig = bootstrap.ServerCertificate
)

// gatewayFile is the document as a role's configuration.
type gatewayFile struct {
	GatewayConfig `yaml:",inline"`
}

func (c *gatewayFile) fill() error { return c.Fill() }

func (c *gatewayFile) common() (string, LogConfig) { return c.IdentityDir, c.Log }

// foreignIdentity says that the identity does not come from a directory.
func (c *gatewayFile) foreignIdentity() bool { return c.Cloud != nil }

func serveGateway(ctx context.Context, e *env, args []string) error {
	flags, err := parseServe(e, "gateway serve", args, outboundFlags, lifelineFlag, joinTokenFlag)
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
	var c gatewayFile
	r, err := openRole(e, flags, "CMGService", &c)
	if err != nil {
		return err
	}
	defer r.close()
	if c.Outbound, err = flags.outbound.Add(c.Outbound); err != nil {
		return err
	}
	c.StateDir = r.path(c.StateDir)
	if err := requireDir("stateDir", c.StateDir); err != nil {
		return err
	}
	if err := followLifeline(ctx, cancel, flags.lifeline); err != nil {
		return err
	}
	logs := r.keepLogs(fmt.Sprintf("%s/%d", c.Gateway, c.Instance))
	g := &gatewayProcess{c: &c.GatewayConfig, role: r, logs: logs, setup: r.log.With("component", "CMGSetup", "gateway", c.Gateway)}
	err = g.serve(ctx)
	g.setup.Info("gateway instance stopped")
	return err
}

// A gatewayProcess is one gateway instance as a process.
type gatewayProcess struct {
	c     *GatewayConfig
	role  *role
	logs  *web.LogTail
	setup *slog.Logger

	// For the probe.
	s        atomic.Pointer[gateway.Server] // nil before there is one
	stopping atomic.Bool
}

// serve answers the load balancer's probe from the start, then gets what the
// instance needs, and serves until ctx ends.
func (p *gatewayProcess) serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	probe, err := listen("listen.probe", p.c.Listen.Probe)
	if err != nil {
		return err
	}
	// The probe outlives the rest, so that it can say that the instance goes.
	probing, stopProbe := context.WithCancel(context.WithoutCancel(ctx))
	defer stopProbe()
	if probe != nil {
		g.Go(func() error { return web.ServeProbe(probing, probe, p.healthy) })
	}
	g.Go(func() error {
		defer stopProbe()
		err := p.serveInstance(ctx)
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return nil // stopped while it waited for the cloud
		}
		return err
	})
	return g.Wait()
}

func (p *gatewayProcess) healthy() error {
	if p.stopping.Load() {
		return errors.New("the instance is about to stop")
	}
	if s := p.s.Load(); s != nil {
		return s.Healthy()
	}
	return errors.New("the instance has no identity or no certificate yet")
}

func (p *gatewayProcess) serveInstance(ctx context.Context) error {
	cfg := gateway.Config{
		Gateway:           p.c.Gateway,
		ServiceName:       p.c.ServiceName,
		Instance:          p.c.Instance,
		Site:              p.c.Site,
		SiteCA:            p.role.identity.siteCA,
		TunnelCertificate: p.role.identity.pair,
		StateDir:          p.c.StateDir,
		RecordsBytes:      recordsBytes(p.c.RecordsMiB),
		DrainSettle:       p.c.DrainSettle,
		Version:           version(),
		Log:               p.role.log,
		Logs:              p.logs,
		Registry:          newRegistry(),
	}
	var err error
	if cfg.HTTP, err = p.c.Outbound.Client(p.role.base, 15*time.Second, p.setup); err != nil {
		return err
	}
	follow := p.useFiles
	if p.c.Cloud != nil {
		follow = p.useCloud
	}
	certificates, err := follow(ctx, &cfg)
	if err != nil {
		return err
	}
	outside, err := p.role.watch(p.c.Outbound, []opencmg.ProbeTarget{
		{Kind: opencmg.ProbeName, Host: p.c.ServiceName}, {Kind: opencmg.ProbeService, Host: p.c.ServiceName, Port: 443},
	})
	if err != nil {
		return err
	}
	cfg.Outside = outside.Report
	s, err := gateway.New(cfg)
	if err != nil {
		return err
	}
	var ls gateway.Listeners
	for _, l := range []struct {
		key, addr string
		to        *net.Listener
	}{
		{"listen.https", p.c.Listen.HTTPS, &ls.HTTPS},
		{"listen.http", p.c.Listen.HTTP, &ls.HTTP},
		{"listen.tunnel", p.c.Listen.Tunnel, &ls.TunnelTCP},
		{"listen.tunnelHTTPS", p.c.Listen.TunnelHTTPS, &ls.TunnelHTTPS},
		{"listen.private", p.c.Listen.Private, &ls.Private},
	} {
		if *l.to, err = listen(l.key, l.addr); err != nil {
			return err
		}
	}
	p.s.Store(s)
	p.setup.Info("gateway instance started", "instance", cfg.Instance, "service_name", cfg.ServiceName, "https", p.c.Listen.HTTPS, "tunnel", p.c.Listen.Tunnel, "version", version())
	serving, stop := p.delayed(ctx)
	defer stop()
	g, serving := errgroup.WithContext(serving)
	g.Go(func() error { return certificates(serving) })
	g.Go(func() error { return outside.Run(serving) })
	g.Go(func() error { return s.Serve(serving, ls) })
	return g.Wait()
}

// delayed returns a context that ends some time after ctx, as the document
// says. Meanwhile the probe says no.
func (p *gatewayProcess) delayed(ctx context.Context) (context.Context, context.CancelFunc) {
	if p.c.Cloud == nil || p.c.Cloud.StopDelay == 0 {
		return context.WithCancel(ctx)
	}
	later, stop := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() {
		p.stopping.Store(true)
		p.setup.Info("gateway instance will stop", "seconds", p.c.Cloud.StopDelay)
		t := time.NewTimer(time.Duration(p.c.Cloud.StopDelay) * time.Second)
		defer t.Stop()
		select {
		case <-t.C:
		case <-later.Done():
		}
		stop()
	})
	return later, stop
}

// useFiles takes the server certificate from its files. The result follows
// them.
func (p *gatewayProcess) useFiles(_ context.Context, cfg *gateway.Config) (func(context.Context) error, error) {
	server, err := pki.NewServerCertificate(pki.ServerFiles{
		PFX:          p.role.path(p.c.ServerCertificate.PFX),
		PasswordFile: p.role.path(p.c.ServerCertificate.PasswordFile),
		Certificate:  p.role.path(p.c.ServerCertificate.Certificate),
		Key:          p.role.path(p.c.ServerCertificate.Key),
		ServiceName:  p.c.ServiceName,
	}, p.role.log.With("component", "CMGSetup"))
	if err != nil {
		return nil, fmt.Errorf("serverCertificate: %w", err)
	}
	cfg.GetCertificate = server.GetCertificate
	return server.Run, nil
}

// useCloud takes identity and server certificate from the key vault, waiting
// for the site to write them. The result follows them.
func (p *gatewayProcess) useCloud(ctx context.Context, cfg *gateway.Config) (func(context.Context) error, error) {
	metadata, err := p.c.Outbound.Direct().Client(p.role.base, 10*time.Second, p.setup)
	if err != nil {
		return nil, err
	}
	i, err := bootstrap.NewInstance(bootstrap.InstanceConfig{
		Document: p.c, StateDir: p.c.StateDir, HTTP: cfg.HTTP, Metadata: metadata, Log: p.setup,
	})
	if err != nil {
		return nil, err
	}
	if err := i.Start(ctx); err != nil {
		return nil, err
	}
	cfg.Instance, cfg.SiteCA, cfg.TunnelCertificate = i.Number(), i.SiteCA(), *i.TunnelCertificate()
	cfg.GetTunnelCertificate, cfg.GetCertificate, cfg.OnConfiguration = i.TunnelCertificate, i.GetCertificate, i.OnConfiguration
	return i.Run, nil
}

// lifelineFlag registers --lifeline, which the lab's cloud uses for machines
// that must not outlive it.
func lifelineFlag(f *serveFlags, fs *flag.FlagSet) {
	fs.StringVar(&f.lifeline, "lifeline", "", "") // no usage: hidden
}

// followLifeline calls stop when the connection to addr ends. Empty does
// nothing.
func followLifeline(ctx context.Context, stop func(), addr string) error {
	if addr == "" {
		return nil
	}
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return opencmg.Errorf(opencmg.Unavailable, "--lifeline: whoever started this is gone: %w", err)
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	go func() {
		io.Copy(io.Discard, conn)
		stop()
	}()
	return nil
}

// identity is what "opencmg publish" makes for a host, or what a host got when it
// joined its site.
type identity struct {
	siteCA *x509.Certificate
	pair   tls.Certificate
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
