package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/gateway"
	"github.com/opencmg/opencmg/internal/sitelink"
	"github.com/opencmg/opencmg/pki"
)

// instanceFile in an identity directory says which instance the host became
// when it joined.
const instanceFile = "instance.json"

// A joinedInstance is the content of instanceFile.
type joinedInstance struct {
	Gateway     string           `json:"gateway"`
	ServiceName string           `json:"serviceName"`
	Site        opencmg.SiteCode `json:"site"`
	Instance    int              `json:"instance"`
	HTTPSPort   int              `json:"httpsPort,omitempty"`
	TunnelPort  int              `json:"tunnelPort,omitempty"`
}

// prepare fills in what the host learned when it joined.
func (c *gatewayFile) prepare(base string) error {
	if c.IdentityDir == "" {
		return nil
	}
	file := filepath.Join(relativeTo(base, c.IdentityDir), instanceFile)
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var j joinedInstance
	if err == nil {
		err = json.Unmarshal(b, &j)
	}
	if err != nil {
		return fmt.Errorf("identityDir: %s: %w", file, err)
	}
	if c.Instance != 0 && c.Instance != j.Instance {
		return opencmg.Errorf(opencmg.Conflict, "instance: this host joined as instance %d; leave the key out", j.Instance)
	}
	c.Instance = j.Instance
	return c.adopt(j)
}

// adopt takes over names and ports where the file leaves them open. Names that
// differ are an error.
func (c *gatewayFile) adopt(j joinedInstance) error {
	for _, f := range []struct {
		key    string
		value  *string
		joined string
	}{{"gateway", &c.Gateway, j.Gateway}, {"serviceName", &c.ServiceName, j.ServiceName}, {"site", (*string)(&c.Site), string(j.Site)}} {
		if *f.value != "" && *f.value != f.joined {
			return opencmg.Errorf(opencmg.Conflict, "%s: the join token is for %q; leave the key out", f.key, f.joined)
		}
		*f.value = f.joined
	}
	for _, p := range []struct {
		addr      *string
		port, def int
	}{{&c.Listen.HTTPS, j.HTTPSPort, 443}, {&c.Listen.Tunnel, j.TunnelPort, 10140}} {
		if p.port == 0 {
			p.port = p.def
		}
		if *p.addr == "" {
			*p.addr = ":" + strconv.Itoa(p.port)
		}
	}
	return nil
}

// joinTokenFlag registers --join-token-file.
func joinTokenFlag(f *serveFlags, fs *flag.FlagSet) {
	fs.StringVar(&f.joinTokenFile, "join-token-file", "", "`file` that holds a join token of the gateway, - for standard input; default is the environment variable "+joinTokenVariable+". Counts while the host has no identity")
}

// joinGateway makes this host an instance of a self-hosted gateway when it has a
// join token and no identity yet: it waits until a connection point has brought
// its certificate.
func joinGateway(ctx context.Context, e *env, f serveFlags) error {
	var c gatewayFile
	if err := loadYAML(f.config, &c); err != nil {
		return err
	}
	base := filepath.Dir(f.config)
	dir := relativeTo(base, c.IdentityDir)
	if dir == "" {
		return nil // said later
	}
	if joined, err := sitelink.Joined(dir); joined || err != nil {
		return err
	}
	text, err := readSecret(e, f.joinTokenFile)
	if err != nil {
		return fmt.Errorf("--join-token-file: %w", err)
	}
	if text == "" {
		return nil // a host whose files are brought by hand
	}
	t, err := adminservice.ParseGatewayJoinToken(text)
	if err != nil {
		return err
	}
	j := joinedInstance{Gateway: t.Gateway, ServiceName: t.ServiceName, Site: t.Site, HTTPSPort: t.HTTPSPort, TunnelPort: t.TunnelPort}
	if err := c.adopt(j); err != nil {
		return fmt.Errorf("configuration file %s: %w", f.config, err)
	}
	if err := c.fill(); err != nil {
		return fmt.Errorf("configuration file %s: %w", f.config, err)
	}
	log, done, err := openLog(c.Log, e, "CMGSetup", base)
	if err != nil {
		return err
	}
	defer done()
	ca, err := pki.ParseCertificates([]byte(t.SiteCA))
	if err != nil {
		return fmt.Errorf("join token: %w", err)
	}
	pending, err := sitelink.NewPending(dir, ca[0])
	if err != nil {
		return fmt.Errorf("identityDir: %w", err)
	}
	ls, err := openTunnels(c.Listen)
	if err != nil {
		return err
	}
	return gateway.Join(ctx, gateway.JoinConfig{
		Gateway: t.Gateway, Site: t.Site, SiteCA: ca[0], TokenID: t.ID, Secret: t.Secret, Request: pending.Request, Log: log,
		Accept: func(g opencmg.GatewayJoinGrant) error {
			if g.Instance < 0 || g.Instance >= opencmg.MaxInstances {
				return opencmg.Errorf(opencmg.Invalid, "instance %d: must be 0 to %d", g.Instance, opencmg.MaxInstances-1)
			}
			j.Instance = g.Instance
			b, err := json.Marshal(j)
			if err != nil {
				return err
			}
			// First, because who has an identity has joined.
			if err := pki.WriteFile(filepath.Join(dir, instanceFile), b, 0o644); err != nil {
				return err
			}
			return pending.Accept(g.Certificate, opencmg.GatewayInstanceURI(t.Site, t.Gateway, g.Instance))
		},
	}, ls)
}

// openTunnels opens the listeners that take tunnels.
func openTunnels(l GatewayListen) (ls gateway.Listeners, err error) {
	for _, o := range []struct {
		key, addr string
		to        *net.Listener
	}{{"listen.https", l.HTTPS, &ls.HTTPS}, {"listen.tunnel", l.Tunnel, &ls.TunnelTCP}, {"listen.tunnelHTTPS", l.TunnelHTTPS, &ls.TunnelHTTPS}} {
		if *o.to, err = listen(o.key, o.addr); err != nil {
			for _, ln := range []net.Listener{ls.HTTPS, ls.TunnelTCP, ls.TunnelHTTPS} {
				if ln != nil {
					ln.Close()
				}
			}
			return gateway.Listeners{}, err
		}
	}
	return ls, nil
}
