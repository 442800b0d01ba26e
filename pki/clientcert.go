package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

// Bounds on what a client may make us do.
const (
	maxPresented    = 8         // certificates in a client's chain
	maxPaths        = 4         // paths whose revocation is checked
	acceptedChains  = 128 << 10 // remembered results
	recheckUnproved = 30 * time.Second
)

// A ClientVerifier accepts or refuses the certificates of PKI clients by one
// published configuration. It is safe for concurrent use.
type ClientVerifier struct {
	roots         []*x509.Certificate // accepted: configured and, if there is a trust list, on it
	excluded      []*x509.Certificate // configured, and not on the trust list
	intermediates []*x509.Certificate
	rootPool      *x509.CertPool
	abovePool     *x509.CertPool // of the intermediates
	blocked       map[[sha256.Size]byte]bool
	revocation    bool
	acceptUnknown bool
	grace         time.Duration
	crl           *CRLCache
	log           *slog.Logger

	accepted *boundedCache[[sha256.Size]byte, acceptedChain] // by hash of the client's certificate
	shared   *boundedCache[[sha256.Size]byte, *x509.Certificate]
	warned   *boundedCache[string, time.Time]
}

// An acceptedChain is remembered for a client's certificate. It holds no part
// of that certificate, because there are many of them.
type acceptedChain struct {
	above               []*x509.Certificate // up to the root
	subject             string
	notBefore, notAfter time.Time
	generation          uint64 // of the revocation lists it was checked against
	recheck             time.Time
}

// NewClientVerifier makes a verifier for one published configuration. crl may
// be nil when revocation is not checked. Without roots it refuses everybody.
func NewClientVerifier(settings opencmg.CertificateSettings, crl *CRLCache, log *slog.Logger) (*ClientVerifier, error) {
	v := &ClientVerifier{
		blocked:       map[[sha256.Size]byte]bool{},
		revocation:    settings.CheckRevocation,
		acceptUnknown: settings.CRLUnreachable == "accept",
		grace:         time.Duration(settings.CRLGrace) * time.Second,
		crl:           crl,
		log:           logger(log),
		accepted:      newBoundedCache[[sha256.Size]byte, acceptedChain](acceptedChains),
		shared:        newBoundedCache[[sha256.Size]byte, *x509.Certificate](256),
		warned:        newBoundedCache[string, time.Time](256),
	}
	if v.revocation && crl == nil {
		return nil, errors.New("client certificates: revocation is to be checked and no CRL cache was given")
	}
	onList := map[string]bool{}
	for _, t := range settings.TrustList {
		if _, err := parseThumbprint(t); err != nil {
			return nil, fmt.Errorf("certificate trust list: %w", err)
		}
		onList[strings.ToLower(t)] = true
	}
	roots, err := parseEach(settings.Roots)
	if err != nil {
		return nil, fmt.Errorf("trusted root certificates: %w", err)
	}
	for _, r := range roots {
		if len(onList) == 0 || onList[Thumbprint(r)] {
			v.roots = append(v.roots, r)
		} else {
			v.excluded = append(v.excluded, r)
		}
	}
	if len(v.roots) == 0 && len(v.excluded) > 0 {
		v.log.Warn("the certificate trust list leaves no trusted root: every client certificate will be refused")
	}
	if v.intermediates, err = parseEach(settings.Intermediates); err != nil {
		return nil, fmt.Errorf("intermediate certificates: %w", err)
	}
	v.rootPool, v.abovePool = pool(v.roots), pool(v.intermediates)
	for _, t := range settings.Blocked {
		sum, err := parseThumbprint(t)
		if err != nil {
			return nil, fmt.Errorf("blocked certificates: %w", err)
		}
		v.blocked[sum] = true
	}
	expected, err := v.expectedLists(settings.RevocationLists)
	if err != nil {
		return nil, err
	}
	if v.revocation {
		crl.expect(expected)
	}
	return v, nil
}

// expectedLists are those that the intermediates name and those that the
// configuration names for the certificates of clients.
func (v *ClientVerifier) expectedLists(configured []opencmg.RevocationList) ([]expectedList, error) {
	var lists []expectedList
	for _, c := range v.intermediates {
		if issuer := find(c.RawIssuer, v.intermediates, v.roots); issuer != nil && c.CheckSignatureFrom(issuer) == nil {
			for _, u := range crlURLs(c) {
				lists = append(lists, expectedList{u, issuer})
			}
		}
	}
	for _, l := range configured {
		if u, err := url.Parse(l.URL); err != nil || allowCRL(u) != nil {
			return nil, opencmg.Errorf(opencmg.Invalid, "revocation lists: %q: must be an http or https address", l.URL)
		}
		found := false
		for _, cas := range [][]*x509.Certificate{v.intermediates, v.roots, v.excluded} {
			for _, ca := range cas {
				if Thumbprint(ca) == strings.ToLower(l.Issuer) {
					lists, found = append(lists, expectedList{l.URL, ca}), true
				}
			}
		}
		if !found {
			return nil, opencmg.Errorf(opencmg.Invalid, "revocation lists: %s: its issuer %q is not the SHA-256 thumbprint of a root or intermediate certificate of this configuration", l.URL, l.Issuer)
		}
	}
	return lists, nil
}

// CAs returns the accepted roots and the intermediates, to name in a TLS
// certificate request (tls.Config.ClientCAs).
func (v *ClientVerifier) CAs() *x509.CertPool { return pool(v.roots, v.intermediates) }

// Verify checks the certificates that a client presented, its own first, and
// returns its subject. The certificates it sent along may help to build the
// path, and are trusted for nothing. A refusal is a [*Refusal]. The result is
// cached, so calling it for every request costs a hash; a list that arrived in
// the meantime takes effect with the next call. Only the first certificate of
// an issuer waits for that issuer's revocation list, [CRLConfig.FirstTimeout]
// at most.
func (v *ClientVerifier) Verify(chain []*x509.Certificate, now time.Time) (subject string, err error) {
	if len(chain) == 0 {
		return "", &Refusal{RefusedNoCertificate, "the client presented no certificate"}
	}
	leaf := chain[0]
	sum := sha256.Sum256(leaf.Raw)
	if v.blocked[sum] {
		return "", refuse(RefusedBlocked, "certificate %s is blocked by the administrator", describe(leaf))
	}
	if a, ok := v.accepted.get(sum); ok && !now.Before(a.notBefore) && !now.After(a.notAfter) {
		if !v.revocation || a.generation == v.crl.generation.Load() && now.Before(a.recheck) {
			return a.subject, nil
		}
		if r := v.checkRevocation(leaf, &a, now); r != nil {
			return "", r
		}
		v.accepted.put(sum, a)
		return a.subject, nil
	}
	a, r := v.check(chain, now)
	if r != nil {
		return "", r
	}
	v.accepted.put(sum, *a)
	return a.subject, nil
}

func (v *ClientVerifier) check(chain []*x509.Certificate, now time.Time) (*acceptedChain, *Refusal) {
	leaf := chain[0]
	if len(chain) > maxPresented {
		return nil, refuse(RefusedChainTooLong, "the client presented %d certificates; at most %d are looked at", len(chain), maxPresented)
	}
	if r := outsideValidity(leaf, now); r != nil {
		return nil, r
	}
	// A missing extended key usage means "anything" to X.509 and not here:
	// management points want client authentication named, too.
	if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return nil, refuse(RefusedUsage, "certificate %s does not have the extended key usage client authentication (1.3.6.1.5.5.7.3.2)", describe(leaf))
	}
	if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return nil, refuse(RefusedUsage, "certificate %s does not have the key usage digital signature", describe(leaf))
	}
	opts := x509.VerifyOptions{
		Roots:         v.rootPool,
		Intermediates: v.abovePool,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if len(chain) > 1 {
		opts.Intermediates = v.abovePool.Clone()
		for _, c := range chain[1:] {
			opts.Intermediates.AddCert(c)
		}
	}
	paths, err := leaf.Verify(opts)
	if err != nil {
		return nil, v.explain(err, chain, opts, now)
	}
	var refusal *Refusal
	for _, path := range paths[:min(len(paths), maxPaths)] {
		a := &acceptedChain{subject: leaf.Subject.String(), notBefore: leaf.NotBefore, notAfter: leaf.NotAfter}
		for _, c := range path[1:] {
			a.above = append(a.above, v.share(c))
			a.notBefore, a.notAfter = later(a.notBefore, c.NotBefore), earlier(a.notAfter, c.NotAfter)
		}
		if refusal = v.checkRevocation(leaf, a, now); refusal == nil {
			return a, nil
		}
	}
	return nil, refusal
}

// checkRevocation asks the lists about the client's certificate and every one
// above it but the root, and notes in a what the answer rests on.
func (v *ClientVerifier) checkRevocation(leaf *x509.Certificate, a *acceptedChain, now time.Time) *Refusal {
	for i, c := range a.above {
		if v.blocked[sha256.Sum256(c.Raw)] {
			return refuse(RefusedBlocked, "certificate %s above it (%d in the chain) is blocked by the administrator", describe(c), i+2)
		}
	}
	if !v.revocation {
		return nil
	}
	a.generation = v.crl.generation.Load()
	// Asking again from time to time also tells the cache what is in use.
	a.recheck = earlier(a.notAfter, now.Add(v.crl.c.MaxAge))
	deadline := time.Now().Add(v.crl.c.FirstTimeout)
	cert := leaf
	for i, issuer := range a.above {
		answer := v.crl.lookup(cert, issuer, now, deadline)
		place := describe(cert)
		if i > 0 {
			place += fmt.Sprintf(", certificate %d of the chain,", i+1)
		}
		switch {
		case answer.entry != nil: // once revoked, an old list says it as well as a new one
			return refuse(RefusedRevoked, "%s is %s by the revocation list %s of %s", place, answer.entry, answer.url, describe(issuer))
		case answer.list != nil && !now.After(answer.list.nextUpdate.Add(v.grace)):
			a.recheck = earlier(a.recheck, answer.list.nextUpdate.Add(v.grace))
			if now.After(answer.list.nextUpdate) {
				v.warn("a revocation list past its nextUpdate serves for the grace time", answer, cert, now)
			}
		case v.acceptUnknown:
			a.recheck = earlier(a.recheck, now.Add(recheckUnproved))
			v.warn("client certificates are accepted without a revocation check", answer, cert, now)
		default:
			return refuse(RefusedRevocationUnknown, "whether %s is revoked can not be found out: %s; make the list reachable from the gateway, set crlGrace, or set crlUnreachable to accept",
				place, strings.Join(answer.problems, "; "))
		}
		cert = issuer
	}
	return nil
}

// warn logs at most once a minute for each issuer.
func (v *ClientVerifier) warn(msg string, a crlAnswer, cert *x509.Certificate, now time.Time) {
	key := msg + cert.Issuer.String()
	if last, ok := v.warned.get(key); ok && now.Sub(last) < time.Minute {
		return
	}
	v.warned.put(key, now)
	v.log.Warn(msg, "issuer", cert.Issuer.String(), "err", strings.Join(a.problems, "; "))
}

// explain turns a failed path search into a precise refusal.
func (v *ClientVerifier) explain(err error, chain []*x509.Certificate, opts x509.VerifyOptions, now time.Time) *Refusal {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) {
		if r := outsideValidity(invalid.Cert, now); r != nil && invalid.Reason == x509.Expired {
			return r
		}
		if invalid.Reason == x509.IncompatibleUsage {
			return refuse(RefusedUsage, "a certificate above %s does not allow client authentication", describe(chain[0]))
		}
		return refuse(RefusedChain, "certificate %s: %v", describe(invalid.Cert), invalid)
	}
	if len(v.excluded) > 0 {
		opts.Roots = pool(v.excluded)
		if paths, err := chain[0].Verify(opts); err == nil {
			root := paths[0][len(paths[0])-1]
			return refuse(RefusedTrustList, "root %s is configured, and the certificate trust list leaves it out", describe(root))
		}
	}
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) {
		return refuse(RefusedChain, "certificate %s: %v", describe(chain[0]), err)
	}
	// Follow the issuers by name to where the path breaks.
	cert := chain[0]
	for range maxPresented + len(v.intermediates) {
		if selfIssued(cert) {
			if cert == chain[0] {
				return refuse(RefusedUntrusted, "certificate %s is self-signed: it can prove a token's key, and is no PKI certificate", describe(cert))
			}
			return refuse(RefusedUntrusted, "the path ends at root %s, which is not among the trusted roots: upload it if it is yours", describe(cert))
		}
		issuer := find(cert.RawIssuer, v.roots, v.intermediates, chain[1:])
		if issuer == nil {
			return refuse(RefusedUntrusted, "nobody has the certificate of %q, which issued %s: upload that intermediate or root certificate", cert.Issuer, describe(cert))
		}
		if e := cert.CheckSignatureFrom(issuer); e != nil {
			return refuse(RefusedUntrusted, "%s has the name of the issuer of %s, and did not sign it (%v): another certificate of that issuer is missing", describe(issuer), describe(cert), e)
		}
		cert = issuer
	}
	return refuse(RefusedUntrusted, "%s: %v", describe(chain[0]), err)
}

// share keeps one copy of the certificates above clients' own, which many
// clients send.
func (v *ClientVerifier) share(c *x509.Certificate) *x509.Certificate {
	sum := sha256.Sum256(c.Raw)
	if s, ok := v.shared.get(sum); ok {
		return s
	}
	v.shared.put(sum, c)
	return c
}

func outsideValidity(c *x509.Certificate, now time.Time) *Refusal {
	switch {
	case now.After(c.NotAfter):
		return refuse(RefusedExpired, "certificate %s expired at %s", describe(c), c.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(c.NotBefore):
		return refuse(RefusedNotYetValid, "certificate %s is valid from %s on, and it is %s here: one of the clocks is wrong",
			describe(c), c.NotBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

func find(subject []byte, in ...[]*x509.Certificate) *x509.Certificate {
	for _, certs := range in {
		for _, c := range certs {
			if bytes.Equal(c.RawSubject, subject) {
				return c
			}
		}
	}
	return nil
}

func pool(in ...[]*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, certs := range in {
		for _, c := range certs {
			p.AddCert(c)
		}
	}
	return p
}

func parseEach(pems []string) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for i, s := range pems {
		certs, err := ParseCertificates([]byte(s))
		if err != nil {
			return nil, fmt.Errorf("number %d: %w", i+1, err)
		}
		all = append(all, certs...)
	}
	return all, nil
}

func parseThumbprint(s string) (sum [sha256.Size]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(sum) {
		return sum, opencmg.Errorf(opencmg.Invalid, "thumbprint %q: must be the SHA-256 of a certificate in hexadecimal", s)
	}
	copy(sum[:], b)
	return sum, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
