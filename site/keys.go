package site

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

// Names of the site's own secrets in the database.
const (
	secretSiteCA       = "site/ca"
	secretSigning      = "site/configuration-signing"
	secretTokenSigning = "site/token-signing"
)

// Lifetimes of what the site CA issues, and how long before its end a
// certificate is renewed.
const (
	identityTerm  = 2 * 365 * 24 * time.Hour
	identityRenew = 60 * 24 * time.Hour
)

// kindSite is the one object that says what the site is.
const kindSite = "site"

// siteRecord is what a site is, from its first start on.
type siteRecord struct {
	Code        opencmg.SiteCode `json:"code"`
	HierarchyID string           `json:"hierarchyId"`
}

// keys are the site's own keys. They are in the database, encrypted, and in
// memory.
type keys struct {
	site      siteRecord
	created   time.Time
	authority *pki.Authority
	signing   tls.Certificate // signs published configurations and mappings
	token     tls.Certificate // signs site tokens
	signer    *pki.TokenSigner
}

// openKeys reads the site's keys, or makes them at the first start; first says
// that it did. Everything is made in one transaction, so a start that is cut
// off leaves an empty database.
func openKeys(ctx context.Context, db *sitedb.DB, code opencmg.SiteCode, now time.Time, administrator func(*sitedb.Tx) error) (k *keys, first bool, err error) {
	k = &keys{}
	err = db.Change(ctx, "open site", func(tx *sitedb.Tx) error {
		rec, err := get[siteRecord](tx, kindSite, kindSite)
		if errors.Is(err, opencmg.NotFound) {
			first = true
			if err := code.Validate(); err != nil {
				return err
			}
			rec = &record[siteRecord]{ID: kindSite, Name: kindSite, Value: siteRecord{Code: code, HierarchyID: newGUID()}}
			if err := rec.put(tx, kindSite); err != nil {
				return err
			}
			if err := administrator(tx); err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
		if code != "" && rec.Value.Code != code {
			return opencmg.Errorf(opencmg.Conflict, "the database is that of site %s, not %s: name another database, or leave the site code out", rec.Value.Code, code)
		}
		k.site, k.created = rec.Value, rec.Created
		return k.load(tx, now, first)
	})
	return k, first, err
}

func (k *keys) load(tx *sitedb.Tx, now time.Time, first bool) (err error) {
	text, err := tx.Secret(secretSiteCA)
	switch {
	case err == nil:
		k.authority, err = pki.ParseAuthority(text)
	case first && errors.Is(err, opencmg.NotFound):
		if k.authority, err = pki.NewAuthority("OpenCMG site "+string(k.site.Code), now); err == nil {
			if text, err = k.authority.Encode(); err == nil {
				err = tx.PutSecret(secretSiteCA, text)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("site CA: %w", err)
	}
	k.signing, err = keyPair(tx, secretSigning, now, func() (tls.Certificate, error) {
		return k.authority.IssueKeyPair(pki.Template{
			CommonName: "configuration signing", URIs: []string{opencmg.ConfigurationSigningURI(k.site.Code)}, NotAfter: now.Add(identityTerm),
		}, now)
	})
	if err != nil {
		return fmt.Errorf("configuration-signing key: %w", err)
	}
	k.token, err = keyPair(tx, secretTokenSigning, now, func() (tls.Certificate, error) {
		return pki.NewTokenSigningCertificate("OpenCMG site "+string(k.site.Code)+" token signing", now)
	})
	if err != nil {
		return fmt.Errorf("token-signing key: %w", err)
	}
	key, ok := k.token.PrivateKey.(crypto.Signer)
	if !ok {
		return opencmg.Errorf(opencmg.Invalid, "token-signing key: can not sign")
	}
	k.signer, err = pki.NewTokenSigner(key, k.token.Leaf, "", "", k.site.HierarchyID)
	return err
}

// keyPair reads a key pair, and makes it when it is missing or about to end.
func keyPair(tx *sitedb.Tx, name string, now time.Time, issue func() (tls.Certificate, error)) (tls.Certificate, error) {
	text, err := tx.Secret(name)
	if err == nil {
		pair, err := pki.ParseKeyPair(text)
		if err != nil || pair.Leaf.NotAfter.Sub(now) > identityRenew {
			return pair, err
		}
	} else if !errors.Is(err, opencmg.NotFound) {
		return tls.Certificate{}, err
	}
	pair, err := issue()
	if err != nil {
		return pair, err
	}
	if text, err = pki.EncodeKeyPair(pair); err != nil {
		return pair, err
	}
	return pair, tx.PutSecret(name, text)
}

// serverCertificate issues the certificate that administrators and site
// systems see. The site CA's own goes with it, for hosts that join know no more
// than its thumbprint.
func (k *keys) serverCertificate(addresses []string, now time.Time) (tls.Certificate, error) {
	t := pki.Template{CommonName: "OpenCMG site server " + string(k.site.Code), URIs: []string{opencmg.SiteServerURI(k.site.Code)}, Server: true, NotAfter: now.Add(identityTerm)}
	t.DNSNames, t.IPs = splitHosts(addresses)
	pair, err := k.authority.IssueKeyPair(t, now)
	if ca := k.authority.Certificate().Raw; err == nil && !slices.ContainsFunc(pair.Certificate, func(der []byte) bool { return bytes.Equal(der, ca) }) {
		pair.Certificate = append(pair.Certificate, ca)
	}
	return pair, err
}

// issueFor signs a site system's certificate request.
func (k *keys) issueFor(request string, t pki.Template, now time.Time) (*x509.Certificate, error) {
	csr, err := pki.ParseRequest([]byte(request))
	if err != nil {
		return nil, err
	}
	t.Client, t.Server = true, true
	t.NotAfter = now.Add(identityTerm)
	return k.authority.Issue(t, csr.PublicKey, now)
}

// splitHosts sorts host names and addresses for a certificate.
func splitHosts(hosts []string) (names []string, ips []net.IP) {
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			ips = append(ips, ip)
		} else if h != "" {
			names = append(names, h)
		}
	}
	return names, ips
}

// mustJSON encodes what can always be encoded.
func mustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic("site: " + err.Error())
	}
	return b
}
