package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
)

// revocation checks the certificates of servers against the lists that they
// name (cmg-behaviour K24). A certificate that names no list passes; a list
// that can not be had fails the connection, as ccmsetup does without
// /nocrlcheck.
type revocation struct {
	http *http.Client
	now  func() time.Time

	mu    sync.Mutex
	lists map[string]*x509.RevocationList // by URL
}

// revocationError is final: asking another address does not help.
type revocationError struct{ err error }

func (e *revocationError) Error() string { return e.err.Error() }
func (e *revocationError) Unwrap() error { return e.err }

const maxCRL = 16 << 20

func newRevocation(d *dialer, now func() time.Time) *revocation {
	return &revocation{
		http:  &http.Client{Transport: &http.Transport{DialContext: d.dial, DisableKeepAlives: true}, Timeout: 10 * time.Second},
		now:   now,
		lists: map[string]*x509.RevocationList{},
	}
}

// check is a tls.Config.VerifyConnection.
func (r *revocation) check(cs tls.ConnectionState) error {
	if len(cs.VerifiedChains) == 0 {
		return nil // resumed, or not verified by this configuration
	}
	chain := cs.VerifiedChains[0]
	for i, cert := range chain[:len(chain)-1] {
		if err := r.checkOne(cert, chain[i+1]); err != nil {
			return &revocationError{err}
		}
	}
	return nil
}

func (r *revocation) checkOne(cert, issuer *x509.Certificate) error {
	var last error
	for _, u := range cert.CRLDistributionPoints {
		if !strings.HasPrefix(strings.ToLower(u), "http://") {
			continue
		}
		list, err := r.list(u, issuer)
		if err != nil {
			last = err
			continue
		}
		for _, e := range list.RevokedCertificateEntries {
			if e.SerialNumber.Cmp(cert.SerialNumber) == 0 {
				return opencmg.Errorf(opencmg.Unauthorized, "the server's certificate %q was revoked at %s", cert.Subject, e.RevocationTime.UTC().Format(time.RFC3339))
			}
		}
		return nil
	}
	if last != nil {
		return opencmg.Errorf(opencmg.Unauthorized, "whether the server's certificate %q was revoked can not be found out: %w; make its revocation list reachable, or install with /nocrlcheck", cert.Subject, last)
	}
	return nil
}

func (r *revocation) list(url string, issuer *x509.Certificate) (*x509.RevocationList, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.lists[url]; l != nil && r.now().Before(l.NextUpdate) {
		return l, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("revocation list %s: %s", url, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxCRL))
	if err != nil {
		return nil, fmt.Errorf("revocation list %s: %w", url, err)
	}
	l, err := x509.ParseRevocationList(b)
	if err != nil {
		return nil, fmt.Errorf("revocation list %s: %w", url, err)
	}
	if err := l.CheckSignatureFrom(issuer); err != nil {
		return nil, fmt.Errorf("revocation list %s: %w", url, err)
	}
	if !r.now().Before(l.NextUpdate) {
		return nil, fmt.Errorf("revocation list %s: it ran out at %s", url, l.NextUpdate.UTC().Format(time.RFC3339))
	}
	if len(r.lists) > 64 {
		clear(r.lists)
	}
	r.lists[url] = l
	return l, nil
}
