package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
)

// publishedTrust lets a management point authenticate callers inside the
// network by the same rules as the gateway: from the published configuration
// in its identity directory, and again whenever that changes. What can not be
// used changes nothing, is said once, and is tried again, since the reason may
// pass.
type publishedTrust struct {
	file    string
	siteCA  *x509.Certificate
	site    opencmg.SiteCode
	crls    *pki.CRLCache
	keys    *pki.JWKSCache
	log     *slog.Logger
	changed time.Time // modification time of what was loaded last
	gateway string    // that it is for

	mu      sync.Mutex // guards what follows
	version uint64
	said    string // why a file is not taken over
}

const (
	trustLook  = 500 * time.Millisecond
	trustRetry = 2 * time.Second
)

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
	// Versions of different gateways do not compare.
	if version, _ := p.state(); c.Gateway == p.gateway && c.Version < version {
		return nil, nil, opencmg.Errorf(opencmg.Conflict, "%s: version %d is older than version %d, which is in force", p.file, c.Version, version)
	}
	tokens, err := pki.NewTokenVerifier(c, p.keys, p.log)
	if err != nil {
		return nil, nil, err
	}
	certificates, err := pki.NewClientVerifier(c.Certificates, p.crls, p.log)
	if err != nil {
		return nil, nil, err
	}
	p.gateway = c.Gateway
	p.mu.Lock()
	p.version = c.Version
	p.mu.Unlock()
	return tokens, certificates, nil
}

// note keeps the outcome of load and says a failure that is new. A file that is
// not there yet is none.
func (p *publishedTrust) note(err error) {
	text := ""
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		text = err.Error()
	}
	p.mu.Lock()
	before := p.said
	p.said = text
	p.mu.Unlock()
	if text != "" && text != before {
		p.log.Error("published configuration is not taken over", "err", err)
	}
}

// state returns the version in force, and why a file is not taken over.
func (p *publishedTrust) state() (version uint64, problem string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.version, p.said
}

// follow looks at the file every half second until ctx ends.
func (p *publishedTrust) follow(ctx context.Context, trust func(*pki.TokenVerifier, *pki.ClientVerifier)) {
	tick := time.NewTicker(trustLook)
	defer tick.Stop()
	tried := time.Now()
	for {
		var now time.Time
		select {
		case <-ctx.Done():
			return
		case now = <-tick.C:
		}
		info, err := os.Stat(p.file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		_, problem := p.state()
		if err == nil && info.ModTime().Equal(p.changed) && (problem == "" || now.Sub(tried) < trustRetry) {
			continue
		}
		tried = now
		tokens, certificates, err := p.load()
		p.note(err)
		if err != nil {
			continue
		}
		trust(tokens, certificates)
		version, _ := p.state()
		p.log.Info("published configuration in force", "version", version)
	}
}
