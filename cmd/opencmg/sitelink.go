package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/probe"
	"github.com/opencmg/opencmg/internal/sitelink"
	"github.com/opencmg/opencmg/mp"
	"github.com/opencmg/opencmg/pki"
)

// siteLink makes the link of a role to its site server, nil without one. The
// caller fills what depends on the role.
func (r *role) siteLink(url string, way OutboundConfig, cfg sitelink.Config) (*sitelink.Link, error) {
	if url == "" {
		return nil, nil
	}
	dial, err := way.Dialer(r.log)
	if err != nil {
		return nil, err
	}
	cfg.URL, cfg.SiteCA, cfg.Certificate = url, r.identity.siteCA, r.identity.pair
	cfg.DialContext, cfg.Version, cfg.Log = dial, version(), r.log
	return sitelink.New(cfg)
}

// watch makes a watch over targets from where this process runs, on its way to
// the outside.
func (r *role) watch(way OutboundConfig, targets []opencmg.ProbeTarget) (*probe.Watch, error) {
	p, err := probe.New(probe.Config{Outbound: way, Base: r.base, SiteCA: r.identity.siteCA})
	if err != nil {
		return nil, err
	}
	return p.NewWatch(targets), nil
}

// siteRole is what a management point has from its site and may get anew while
// it runs: its certificate, the token-signing key, and the gateways.
type siteRole struct {
	dir      string
	gateways []mp.Gateway // of the configuration file; they go first
	log      *slog.Logger
	cert     atomic.Pointer[tls.Certificate]
	came     chan struct{} // closed once there is a signer

	mu     sync.Mutex // guards what follows
	server *mp.Server // nil before serve
	key    *pki.TokenSigner
	said   []mp.Gateway // by the site
	told   siteWords
	port   int    // of the fast channel, which is this host's own setting
	used   string // what the server was given of told, as JSON
}

func newSiteRole(dir string, pair tls.Certificate, gateways []mp.Gateway, log *slog.Logger) *siteRole {
	s := &siteRole{dir: dir, gateways: gateways, log: log, came: make(chan struct{})}
	s.cert.Store(&pair)
	return s
}

func (s *siteRole) getCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.cert.Load(), nil
}

func (s *siteRole) useCertificate(pair tls.Certificate) { s.cert.Store(&pair) }

// signer returns the token-signing key of the identity directory. With a site it
// waits until the site has given one, and returns nil when ctx ends before.
func (s *siteRole) signer(ctx context.Context, wait bool) (*pki.TokenSigner, error) {
	key, err := loadTokenSigner(s.dir)
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.key == nil { // the site was not faster
			s.key = key
			close(s.came)
		}
		return s.key, nil
	}
	if !wait {
		return nil, err
	}
	s.log.Info("waiting for the site's token-signing key", "reason", err)
	select {
	case <-s.came:
	case <-ctx.Done():
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.key, nil
}

// serve gives the server what came while it was made, and from now on what
// comes.
func (s *siteRole) serve(server *mp.Server) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server = server
	return s.update()
}

// online counts who listens at the server.
func (s *siteRole) online() []opencmg.OnlineClients {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		return nil
	}
	return s.server.Online()
}

// update hands everything to the server. s.mu is held.
func (s *siteRole) update() error {
	if s.server == nil {
		return nil
	}
	if len(s.gateways) == 0 {
		s.server.UseGateways(s.said)
	}
	return errors.Join(s.server.UseSigner(s.key), s.useWords())
}

// apply takes over what the site gave.
func (s *siteRole) apply(d *adminservice.Documents) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = nil
	for _, name := range d.Gateways {
		s.said = append(s.said, mp.Gateway{ServiceName: name})
	}
	if d.TokenSigning != nil {
		if err := s.takeKey(d.TokenSigning); err != nil {
			return fmt.Errorf("token-signing key: %w", err)
		}
	}
	err := s.keepWords(siteWords{d.ClientSettings, d.Locations})
	if s.key == nil {
		return err
	}
	return errors.Join(err, s.update())
}

// takeKey keeps a token-signing key in the identity directory, for starts
// without the site, and uses it. s.mu is held.
func (s *siteRole) takeKey(d *adminservice.TokenSigning) error {
	pair, err := tls.X509KeyPair([]byte(d.Certificate), []byte(d.Key))
	if err != nil {
		// What the parser says about a key stays out of the log.
		return opencmg.Errorf(opencmg.Invalid, "certificate and key that the site gave do not make a pair")
	}
	key, err := newTokenSigner(pair, d.HierarchyID)
	if err != nil {
		return err
	}
	if s.key != nil && s.key.TokenIssuer() == key.TokenIssuer() {
		return nil
	}
	err = errors.Join(
		pki.WriteFile(filepath.Join(s.dir, hierarchyFile), []byte(strings.ToUpper(d.HierarchyID)), 0o644),
		sitelink.ReplaceKeyPair(filepath.Join(s.dir, tokenCert), filepath.Join(s.dir, tokenKey), pair),
	)
	if s.key == nil {
		close(s.came)
	}
	s.key = key
	s.log.Info("token-signing key received", "thumbprint", pki.Thumbprint(pair.Leaf), "hierarchy", d.HierarchyID)
	return err
}
