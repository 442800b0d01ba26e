package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
)

func runPublish(ctx context.Context, e *env, args []string) error {
	fs := newFlags(e, "publish")
	file := fs.String("file", "", "site `file` (see examples/)")
	dir := fs.String("dir", "", "site `directory`: keys and the files for each host; made when missing. Keep it private")
	if err := parseFlags(fs, args, 0); err != nil {
		return err
	}
	if *file == "" || *dir == "" {
		return usagef("publish: --file and --dir are needed")
	}
	var sf SiteFile
	if err := loadYAML(*file, &sf); err != nil {
		return err
	}
	p, err := publishSite(&sf, filepath.Dir(*file), *dir, time.Now())
	if err != nil {
		return fmt.Errorf("publish %s: %w", *file, err)
	}
	fmt.Fprintf(e.stdout, "published version %d of gateway %s\n", p.version, sf.Gateway.Name)
	for _, h := range p.hosts {
		fmt.Fprintf(e.stdout, "  %-34s %s\n", h.dir, h.purpose)
	}
	fmt.Fprintln(e.stderr, "Copy each directory to its host the first time. After a change, copy published.jws and mappings.jws to the connection points: they tell every gateway instance within a second.")
	return nil
}

// A publication is what publishSite made.
type publication struct {
	version uint64
	hosts   []publishedHost
}

type publishedHost struct{ dir, purpose string }

// publishSite signs the site file's content with the next version and makes
// the identities that are missing. Everything is checked before anything is
// written.
func publishSite(sf *SiteFile, base, dir string, now time.Time) (*publication, error) {
	published, mappings, err := sf.compile(base, now)
	if err != nil {
		return nil, err
	}
	keys, err := openSiteKeys(dir, sf.Site, now)
	if err != nil {
		return nil, err
	}
	signer, err := keys.tokenSigner()
	if err != nil {
		return nil, err
	}
	published.TokenIssuers = append([]opencmg.TokenIssuer{signer.TokenIssuer()}, published.TokenIssuers...)
	if published.Version, err = keys.nextVersion(); err != nil {
		return nil, err
	}
	mappings.Version = published.Version
	if err := published.Validate(); err != nil {
		return nil, err
	}
	signed, err := pki.SignConfiguration(published, keys.signing)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(mappings)
	if err != nil {
		return nil, err
	}
	signedMappings, err := pki.SignDocument(pki.KindURLMappings, b, keys.signing)
	if err != nil {
		return nil, err
	}
	p := &publication{version: published.Version}
	if err := keys.saveVersion(p.version); err != nil {
		return nil, err
	}
	for i := range published.Instances {
		h := publishedHost{filepath.Join(dir, fmt.Sprintf("gateway-%d", i)), fmt.Sprintf("identity of gateway instance %d", i)}
		uri := opencmg.GatewayInstanceURI(sf.Site, sf.Gateway.Name, i)
		if err := keys.hostIdentity(h.dir, fmt.Sprintf("%s instance %d", sf.Gateway.Name, i), uri, nil, now); err != nil {
			return nil, err
		}
		p.hosts = append(p.hosts, h)
	}
	for _, r := range sf.Roles {
		if !r.SiteRole {
			continue
		}
		h := publishedHost{filepath.Join(dir, "role-"+string(r.ID)), "identity and token-signing key of " + r.Name}
		if err := keys.hostIdentity(h.dir, r.Name, opencmg.RoleURI(sf.Site, r.ID), hostNames(r.Internal), now); err != nil {
			return nil, err
		}
		if err := keys.copyTokenKeys(h.dir); err != nil {
			return nil, err
		}
		if err := pki.WriteFile(filepath.Join(h.dir, publishedFile), signed, 0o644); err != nil {
			return nil, err
		}
		p.hosts = append(p.hosts, h)
	}
	// The connection points come last: what they hold goes to the gateways at
	// once.
	for _, c := range published.ConnectionPoints {
		h := publishedHost{filepath.Join(dir, "connection-point-"+c.Name), "identity of connection point " + c.Name + ", configuration and URL mappings"}
		if err := keys.hostIdentity(h.dir, c.Name, opencmg.ConnectionPointURI(sf.Site, c.ConnectionID), nil, now); err != nil {
			return nil, err
		}
		if err := pki.WriteFile(filepath.Join(h.dir, mappingsFile), signedMappings, 0o644); err != nil {
			return nil, err
		}
		if err := pki.WriteFile(filepath.Join(h.dir, publishedFile), signed, 0o644); err != nil {
			return nil, err
		}
		p.hosts = append(p.hosts, h)
	}
	return p, nil
}

func hostNames(internal []string) []string {
	var names []string
	for _, s := range internal {
		if u, err := url.Parse(s); err == nil && u.Hostname() != "" {
			names = append(names, u.Hostname())
		}
	}
	return names
}
