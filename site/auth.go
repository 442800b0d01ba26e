package site

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

// accountRecord is an administrator. TokenHash is the SHA-256 of a local token,
// which has more than 160 random bits, so a plain hash keeps it.
type accountRecord struct {
	Role          adminservice.Role `json:"role"`
	Thumbprint    string            `json:"thumbprint,omitempty"`
	EntraTenantID string            `json:"entraTenantId,omitempty"`
	EntraObjectID string            `json:"entraObjectId,omitempty"`
	TokenHash     string            `json:"tokenHash,omitempty"`
}

func hashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// firstAdministrator makes the account that a new site starts with.
func firstAdministrator(tx *sitedb.Tx, token string) error {
	r := &record[accountRecord]{ID: newGUID(), Name: "administrator", Value: accountRecord{
		Role: adminservice.FullAdministrator, TokenHash: hashToken(token),
	}}
	return r.put(tx, kindAccount)
}

// A caller is who makes a request, once proved.
type caller struct {
	account string // name
	role    adminservice.Role
}

type callerKey struct{}

// callerOf returns who makes the request; the zero caller before sign-in.
func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

// Rights are what routes ask for. Every role may read.
var (
	fullOnly       = []adminservice.Role{adminservice.FullAdministrator}
	infrastructure = []adminservice.Role{adminservice.FullAdministrator, adminservice.InfrastructureAdministrator}
	operations     = []adminservice.Role{adminservice.FullAdministrator, adminservice.InfrastructureAdministrator, adminservice.OperationsAdministrator}
	anybody        = adminservice.Roles()
)

// signIn finds out who calls: by a local token, an Entra token, or a client
// certificate.
func (s *Server) signIn(r *http.Request) (caller, error) {
	// A request that this process makes for somebody who has signed in.
	if c := callerOf(r.Context()); c.account != "" {
		return c, nil
	}
	accounts, err := readAll[accountRecord](r.Context(), s.db, kindAccount)
	if err != nil {
		return caller{}, err
	}
	if fields := r.Header.Values("Authorization"); len(fields) > 0 {
		scheme, token, ok := strings.Cut(fields[0], " ")
		if !ok || !strings.EqualFold(scheme, "Bearer") || len(fields) > 1 || token == "" {
			return caller{}, opencmg.Errorf(opencmg.Unauthorized, "the Authorization field must be Bearer and a token")
		}
		if strings.Count(token, ".") == 2 {
			return s.signInEntra(r.Context(), token, accounts)
		}
		if a := accountOfToken(accounts, token); a != nil {
			return caller{a.Name, a.Value.Role}, nil
		}
		return caller{}, opencmg.Errorf(opencmg.Unauthorized, "the token belongs to no administrator of this site")
	}
	if cert := peerCertificate(r); cert != nil {
		a, err := s.accountOfCertificate(accounts, cert)
		if err != nil {
			return caller{}, err
		}
		return caller{a.Name, a.Value.Role}, nil
	}
	return caller{}, opencmg.Errorf(opencmg.Unauthorized, "sign in with a client certificate, or send a token as Authorization: Bearer")
}

// accountOfToken finds the account of a local token, nil when there is none.
func accountOfToken(accounts []*record[accountRecord], token string) *record[accountRecord] {
	hash := hashToken(token)
	for _, a := range accounts {
		if a.Value.TokenHash != "" && subtle.ConstantTimeCompare([]byte(a.Value.TokenHash), []byte(hash)) == 1 {
			return a
		}
	}
	return nil
}

// accountOfCertificate finds the account of a certificate whose key was proved.
func (s *Server) accountOfCertificate(accounts []*record[accountRecord], cert *x509.Certificate) (*record[accountRecord], error) {
	for _, a := range accounts {
		if a.Value.Thumbprint != "" && a.Value.Thumbprint == pki.Thumbprint(cert) {
			if now := s.cfg.Now(); now.After(cert.NotAfter) || now.Before(cert.NotBefore) {
				return nil, opencmg.Errorf(opencmg.Unauthorized, "the certificate of %s is not valid now: it is for %s to %s", a.Name, cert.NotBefore.UTC().Format(time.RFC3339), cert.NotAfter.UTC().Format(time.RFC3339))
			}
			return a, nil
		}
	}
	return nil, opencmg.Errorf(opencmg.Unauthorized, "the certificate %q belongs to no administrator of this site", cert.Subject)
}

// peerCertificate returns the certificate whose key the caller proved.
func peerCertificate(r *http.Request) *x509.Certificate {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil
	}
	return r.TLS.PeerCertificates[0]
}

// signInEntra checks a token of a tenant that the site knows, for one of its
// server applications, and finds the account of its user.
func (s *Server) signInEntra(ctx context.Context, token string, accounts []*record[accountRecord]) (caller, error) {
	if !slices.ContainsFunc(accounts, func(a *record[accountRecord]) bool { return a.Value.EntraObjectID != "" }) {
		return caller{}, opencmg.Errorf(opencmg.Unauthorized, "no administrator of this site signs in by Entra")
	}
	verifier, err := s.entraVerifier(ctx)
	if err != nil {
		return caller{}, err
	}
	id, err := verifier.Verify(ctx, token, "", s.cfg.Now())
	if err != nil {
		return caller{}, opencmg.Errorf(opencmg.Unauthorized, "the Entra token is not accepted: %w", err)
	}
	if a := accountOfEntra(accounts, id.TenantID, id.UserID); a != nil {
		return caller{a.Name, a.Value.Role}, nil
	}
	return caller{}, opencmg.Errorf(opencmg.Unauthorized, "the user %s of tenant %s is no administrator of this site", id.UserID, id.TenantID)
}

// A guard slows down callers who guess: each address may fail ten times, and
// once more every second after that.
type guard struct {
	mu    sync.Mutex // guards fails
	fails map[string]time.Time
}

const (
	guardBurst = 10
	guardMost  = 4096 // addresses that are remembered
)

// allow reports whether the address may try.
func (g *guard) allow(addr string, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.fails[addr].Before(now.Add(guardBurst * time.Second))
}

// failed notes a failure.
func (g *guard) failed(addr string, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fails == nil || len(g.fails) >= guardMost {
		g.fails = map[string]time.Time{}
	}
	at := g.fails[addr]
	if at.Before(now) {
		at = now
	}
	g.fails[addr] = at.Add(time.Second)
}
