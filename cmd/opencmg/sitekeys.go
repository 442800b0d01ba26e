package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
)

// Files of a site directory and of the host directories in it.
const (
	siteCAFile     = "site-ca.pem"
	identityCert   = "identity.pem"
	identityKey    = "identity.key"
	publishedFile  = "published.jws"
	mappingsFile   = "mappings.jws"
	tokenCert      = "token-signing.pem"
	tokenKey       = "token-signing.key"
	signingCert    = "configuration-signing.pem"
	signingKey     = "configuration-signing.key"
	versionFile    = "version"
	hierarchyFile  = "hierarchy-id"
	siteCAName     = "site-ca"
	identityTerm   = 2 * 365 * 24 * time.Hour
	identityRenew  = 60 * 24 * time.Hour // made anew when it has less left
	maxVersionText = 20
)

// siteKeys is the private part of a site directory.
type siteKeys struct {
	dir       string
	authority *pki.Authority
	signing   tls.Certificate
	token     tls.Certificate
	hierarchy string
}

// openSiteKeys reads the keys of a site directory and makes those that are
// missing.
func openSiteKeys(dir string, site opencmg.SiteCode, now time.Time) (*siteKeys, error) {
	if err := requireDir("site directory", dir); err != nil {
		return nil, err
	}
	k := &siteKeys{dir: dir}
	var err error
	if k.authority, err = pki.LoadAuthority(dir, siteCAName); errors.Is(err, os.ErrNotExist) {
		if k.authority, err = pki.NewAuthority("OpenCMG site "+string(site), now); err == nil {
			err = k.authority.Save(dir, siteCAName)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("site CA: %w", err)
	}
	k.signing, err = k.keyPair(signingCert, signingKey, now, func() (tls.Certificate, error) {
		return k.authority.IssueKeyPair(pki.Template{
			CommonName: "configuration signing", URIs: []string{opencmg.ConfigurationSigningURI(site)}, NotAfter: now.Add(identityTerm),
		}, now)
	})
	if err != nil {
		return nil, fmt.Errorf("configuration signing key: %w", err)
	}
	k.token, err = k.keyPair(tokenCert, tokenKey, now, func() (tls.Certificate, error) {
		return pki.NewTokenSigningCertificate("OpenCMG site "+string(site)+" token signing", now)
	})
	if err != nil {
		return nil, fmt.Errorf("token-signing key: %w", err)
	}
	b, err := os.ReadFile(filepath.Join(dir, hierarchyFile))
	if errors.Is(err, os.ErrNotExist) {
		b = []byte(newGUID())
		err = pki.WriteFile(filepath.Join(dir, hierarchyFile), b, 0o644)
	}
	if k.hierarchy = strings.TrimSpace(string(b)); err == nil && !opencmg.IsGUID(k.hierarchy) {
		err = opencmg.Errorf(opencmg.Invalid, "%s does not hold a GUID", filepath.Join(dir, hierarchyFile))
	}
	return k, err
}

// keyPair loads a key pair of the site directory, or makes it when it is
// missing or about to expire.
func (k *siteKeys) keyPair(certFile, keyFile string, now time.Time, issue func() (tls.Certificate, error)) (tls.Certificate, error) {
	certFile, keyFile = filepath.Join(k.dir, certFile), filepath.Join(k.dir, keyFile)
	pair, err := pki.LoadKeyPair(certFile, keyFile)
	if err == nil && pair.Leaf.NotAfter.Sub(now) > identityRenew || err != nil && !errors.Is(err, os.ErrNotExist) {
		return pair, err
	}
	if pair, err = issue(); err != nil {
		return pair, err
	}
	return pair, pki.SaveKeyPair(certFile, keyFile, pair)
}

func (k *siteKeys) tokenSigner() (*pki.TokenSigner, error) {
	return newTokenSigner(k.token, k.hierarchy)
}

// hostIdentity makes the directory of one host with an identity of the site
// CA. An identity that is still good for a while stays.
func (k *siteKeys) hostIdentity(dir, name, uri string, hosts []string, now time.Time) error {
	if err := requireDir("host directory", dir); err != nil {
		return err
	}
	if err := pki.WriteFile(filepath.Join(dir, siteCAFile), k.authority.CertificatePEM(), 0o644); err != nil {
		return err
	}
	sub := &siteKeys{dir: dir}
	_, err := sub.keyPair(identityCert, identityKey, now, func() (tls.Certificate, error) {
		t := pki.Template{CommonName: name, URIs: []string{uri}, Client: true, Server: true, NotAfter: now.Add(identityTerm)}
		t.DNSNames, t.IPs = splitHosts(hosts)
		return k.authority.IssueKeyPair(t, now)
	})
	if err != nil {
		return fmt.Errorf("identity of %s: %w", name, err)
	}
	return nil
}

func (k *siteKeys) copyTokenKeys(dir string) error {
	if err := pki.SaveKeyPair(filepath.Join(dir, tokenCert), filepath.Join(dir, tokenKey), k.token); err != nil {
		return err
	}
	return pki.WriteFile(filepath.Join(dir, hierarchyFile), []byte(k.hierarchy), 0o644)
}

// nextVersion returns one more than the last published version.
func (k *siteKeys) nextVersion() (uint64, error) {
	file := filepath.Join(k.dir, versionFile)
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return 1, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b[:min(len(b), maxVersionText)])), 10, 64)
	if err != nil {
		return 0, opencmg.Errorf(opencmg.Invalid, "%s does not hold a number: write the version of the last published configuration into it, or a greater one", file)
	}
	return n + 1, nil
}

func (k *siteKeys) saveVersion(v uint64) error {
	return pki.WriteFile(filepath.Join(k.dir, versionFile), strconv.AppendUint(nil, v, 10), 0o644)
}
