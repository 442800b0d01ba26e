package pki

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/opencmg/opencmg"
)

// ACME obtains server certificates from a certification authority by RFC 8555.
// It is safe for concurrent use.
type ACME struct {
	// Directory is the authority's address, e.g.
	// https://acme-v02.api.letsencrypt.org/directory.
	Directory string
	// AccountKey is the key of the account, ECDSA P-256 or RSA; see
	// [NewAccountKey]. The account is made at the first use.
	AccountKey crypto.Signer
	// AcceptTerms says that somebody agreed to the authority's terms of
	// service. An authority that has some refuses accounts without it.
	AcceptTerms bool
	// Contact are addresses for the authority's notices, e.g.
	// mailto:pki@example.com.
	Contact []string
	// EAB binds the account to one that exists with the authority; nil when
	// the authority asks for none.
	EAB *ACMEBinding
	// Prefer lists kinds of challenge, the best first; default is
	// tls-alpn-01 and then http-01, since port 443 is open anyway.
	Prefer []string
	// HTTP is the client for the authority; nil means a plain one.
	HTTP *http.Client
	Log  *slog.Logger
}

// An ACMEBinding is an external account binding (RFC 8555 7.3.4). It prints
// without its key.
type ACMEBinding struct {
	KeyID string
	Key   []byte
}

// String leaves the key out.
func (b ACMEBinding) String() string { return "account binding " + b.KeyID }

// GoString leaves the key out.
func (b ACMEBinding) GoString() string { return b.String() }

// LogValue leaves the key out.
func (b ACMEBinding) LogValue() slog.Value { return slog.StringValue(b.String()) }

// NewAccountKey makes a key for an account.
func NewAccountKey() (crypto.Signer, error) { return newKey(ECDSAP256) }

// Present puts challenges in force. It returns when every instance answers
// them, and what takes them away again; it is called once for each certificate
// that needs challenges.
type Present func(ctx context.Context, challenges []opencmg.ACMEChallenge) (cleanup func(), err error)

// Obtain gets a certificate for the names, with a new key. The first name
// becomes the common name if it fits. The result presents the chain and passes
// the checks of [LoadServerCertificate] for the first name. It takes from
// seconds to minutes; ctx bounds it.
//
// Errors are [opencmg.Error]: Invalid for what the caller must change,
// Forbidden when the authority refuses, and Unavailable or Timeout when the
// same call may succeed later. They show what the authority said.
func (a *ACME) Obtain(ctx context.Context, names []string, key KeyType, present Present) (tls.Certificate, error) {
	cert, err := a.obtain(ctx, names, key, present)
	if err != nil {
		return cert, fmt.Errorf("certificate for %s from %s: %w", strings.Join(names, ", "), a.host(), err)
	}
	return cert, nil
}

func (a *ACME) host() string {
	if u, err := url.Parse(a.Directory); err == nil && u.Host != "" {
		return u.Host
	}
	return a.Directory
}

func (a *ACME) obtain(ctx context.Context, names []string, keyType KeyType, present Present) (cert tls.Certificate, err error) {
	if err := a.validate(names); err != nil {
		return cert, err
	}
	c := &acme.Client{
		Key: a.AccountKey, HTTPClient: a.HTTP, DirectoryURL: a.Directory, UserAgent: "opencmg",
		// The caller repeats; here only what passes in seconds is repeated.
		RetryBackoff: func(n int, _ *http.Request, res *http.Response) time.Duration {
			if n > 4 || res != nil && res.StatusCode == http.StatusTooManyRequests {
				return 0
			}
			return time.Duration(n) * 500 * time.Millisecond
		},
	}
	if err := a.register(ctx, c); err != nil {
		return cert, err
	}
	order, err := c.AuthorizeOrder(ctx, acme.DomainIDs(names...))
	if err != nil {
		return cert, acmeError("order", err)
	}
	if err := a.authorize(ctx, c, order, present); err != nil {
		return cert, err
	}
	if order, err = c.WaitOrder(ctx, order.URI); err != nil {
		return cert, acmeError("order", err)
	}
	key, err := newKey(keyType)
	if err != nil {
		return cert, err
	}
	request := &x509.CertificateRequest{DNSNames: names}
	if len(names[0]) <= 64 { // ub-common-name, RFC 5280 A.1
		request.Subject = pkix.Name{CommonName: names[0]}
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, request, key)
	if err != nil {
		return cert, err
	}
	ders, _, err := c.CreateCertFromOrder(ctx, order, csr, true)
	if err != nil {
		return cert, acmeError("issue", err)
	}
	var certs []*x509.Certificate
	for _, der := range ders {
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			return cert, opencmg.Errorf(opencmg.Unavailable, "the authority issued a certificate that can not be read: %w", err)
		}
		certs = append(certs, parsed)
	}
	if cert, err = checkServerCertificate(key, certs, names[0], time.Now()); err != nil {
		return cert, fmt.Errorf("the authority issued a certificate that is not usable: %w", err)
	}
	logger(a.Log).Info("certificate issued", "authority", a.host(), "names", names, "thumbprint", Thumbprint(cert.Leaf), "not_after", cert.Leaf.NotAfter)
	return cert, nil
}

func (a *ACME) validate(names []string) error {
	if u, err := url.Parse(a.Directory); err != nil || u.Scheme != "https" || u.Host == "" {
		return opencmg.Errorf(opencmg.Invalid, "the directory must be an https address such as https://acme-v02.api.letsencrypt.org/directory")
	}
	if a.AccountKey == nil {
		return opencmg.Errorf(opencmg.Invalid, "there is no account key")
	}
	for _, kind := range a.Prefer {
		if kind != opencmg.ChallengeHTTP && kind != opencmg.ChallengeTLSALPN {
			return opencmg.Errorf(opencmg.Invalid, "challenge %q: must be %s or %s", kind, opencmg.ChallengeHTTP, opencmg.ChallengeTLSALPN)
		}
	}
	if len(names) == 0 {
		return opencmg.Errorf(opencmg.Invalid, "there is no name to get a certificate for")
	}
	for _, n := range names {
		if strings.HasPrefix(n, "*.") {
			return opencmg.Errorf(opencmg.Invalid, "%s: an authority gives wildcard certificates only for a record in DNS (dns-01), which is not supported: name the service in full, or bring a PFX", n)
		}
		if !isDNSName(n) {
			return opencmg.Errorf(opencmg.Invalid, "%q is not a host name", n)
		}
	}
	return nil
}

// register makes the account, or finds the one of this key.
func (a *ACME) register(ctx context.Context, c *acme.Client) error {
	dir, err := c.Discover(ctx)
	if err != nil {
		return acmeError("directory", err)
	}
	if dir.Terms != "" && !a.AcceptTerms {
		return opencmg.Errorf(opencmg.Invalid, "the authority asks for agreement to its terms of service, %s: read and accept them", dir.Terms)
	}
	account := &acme.Account{Contact: a.Contact}
	if a.EAB != nil {
		account.ExternalAccountBinding = &acme.ExternalAccountBinding{KID: a.EAB.KeyID, Key: a.EAB.Key}
	} else if dir.ExternalAccountRequired {
		return opencmg.Errorf(opencmg.Invalid, "the authority opens accounts only for its customers: give the key ID and the key of an external account binding")
	}
	if _, err := c.Register(ctx, account, acme.AcceptTOS); err != nil && !errors.Is(err, acme.ErrAccountAlreadyExists) {
		return acmeError("account", err)
	}
	return nil
}

// authorize proves the names of an order.
func (a *ACME) authorize(ctx context.Context, c *acme.Client, order *acme.Order, present Present) (err error) {
	var pending []string // authorizations
	var chosen []*acme.Challenge
	var challenges []opencmg.ACMEChallenge
	// What is left half-way counts against limits of the authority.
	defer func() {
		if err == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		for _, uri := range pending {
			c.RevokeAuthorization(ctx, uri) // best effort: it expires by itself
		}
	}()
	for _, uri := range order.AuthzURLs {
		z, err := c.GetAuthorization(ctx, uri)
		if err != nil {
			return acmeError("authorization", err)
		}
		if z.Status == acme.StatusValid {
			continue // proved not long ago
		}
		pending = append(pending, uri)
		ch, err := a.choose(z)
		if err != nil {
			return err
		}
		authorization, err := c.HTTP01ChallengeResponse(ch.Token) // the same for both kinds
		if err != nil {
			return err
		}
		published := opencmg.ACMEChallenge{Type: ch.Type, Domain: strings.ToLower(z.Identifier.Value), Token: ch.Token, KeyAuthorization: authorization}
		if err := published.Validate(); err != nil {
			return opencmg.Errorf(opencmg.Unavailable, "the authority sent a challenge that can not be published: %w", err)
		}
		chosen, challenges = append(chosen, ch), append(challenges, published)
	}
	if len(chosen) == 0 {
		return nil
	}
	cleanup, err := present(ctx, challenges)
	if cleanup != nil {
		defer cleanup()
	}
	if err != nil {
		return fmt.Errorf("put the challenges in force: %w", err)
	}
	for _, ch := range chosen {
		if _, err := c.Accept(ctx, ch); err != nil {
			return acmeError("challenge", err)
		}
	}
	for i, uri := range pending {
		if _, err := c.WaitAuthorization(ctx, uri); err != nil {
			return failedChallenge(challenges[i], err)
		}
	}
	pending = nil // valid ones are good for the next certificate
	return nil
}

// choose picks a challenge by preference.
func (a *ACME) choose(z *acme.Authorization) (*acme.Challenge, error) {
	prefer := a.Prefer
	if len(prefer) == 0 {
		prefer = []string{opencmg.ChallengeTLSALPN, opencmg.ChallengeHTTP}
	}
	for _, kind := range prefer {
		if i := slices.IndexFunc(z.Challenges, func(c *acme.Challenge) bool { return c.Type == kind }); i >= 0 {
			return z.Challenges[i], nil
		}
	}
	var offered []string
	for _, c := range z.Challenges {
		offered = append(offered, c.Type)
	}
	return nil, opencmg.Errorf(opencmg.Forbidden, "for %s the authority offers the challenges %s, and we can answer %s", z.Identifier.Value, strings.Join(offered, ", "), strings.Join(prefer, ", "))
}

// failedChallenge says what the authority saw when it looked.
func failedChallenge(ch opencmg.ACMEChallenge, err error) error {
	var failed *acme.AuthorizationError
	if !errors.As(err, &failed) {
		return acmeError("authorization", err)
	}
	var said []string
	for _, e := range failed.Errors {
		if p, ok := errors.AsType[*acme.Error](e); ok {
			said = append(said, problemText(p))
		} else {
			said = append(said, e.Error())
		}
	}
	port := "443"
	if ch.Type == opencmg.ChallengeHTTP {
		port = "80"
	}
	return opencmg.Errorf(opencmg.Forbidden, "the authority could not verify %s by %s: %s. Check that the name leads to the gateway from the internet and that port %s reaches every instance",
		ch.Domain, ch.Type, cmp.Or(strings.Join(said, "; "), "it did not say why"), port)
}

// problemText gives a problem document in one line.
func problemText(p *acme.Error) string {
	s := strings.TrimPrefix(p.ProblemType, "urn:ietf:params:acme:error:")
	if p.Detail != "" {
		s += ": " + p.Detail
	}
	for _, sub := range p.Subproblems {
		s += "; "
		if sub.Identifier != nil {
			s += sub.Identifier.Value + ": "
		}
		s += strings.TrimPrefix(sub.Type, "urn:ietf:params:acme:error:") + ": " + sub.Detail
	}
	return s
}

// acmeError turns a failure of one step into an error for people.
func acmeError(step string, err error) error {
	var order *acme.OrderError
	if errors.As(err, &order) && order.Problem != nil {
		err = order.Problem
	}
	var p *acme.Error
	switch {
	case errors.As(err, &p):
		kind := opencmg.Forbidden
		if p.StatusCode >= 500 || p.StatusCode == http.StatusTooManyRequests {
			kind = opencmg.Unavailable
		}
		text := problemText(p)
		if after, limited := acme.RateLimit(p); limited {
			kind = opencmg.Unavailable
			if after > 0 {
				text += fmt.Sprintf(" (try again in %v)", after.Round(time.Second))
			}
		}
		return opencmg.Errorf(kind, "%s: the authority refused: %s", step, text)
	case order != nil:
		return opencmg.Errorf(opencmg.Forbidden, "%s: the authority gave the order up (%s)", step, order.Status)
	case errors.Is(err, context.DeadlineExceeded):
		return opencmg.Errorf(opencmg.Timeout, "%s: the authority took too long: %w", step, err)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", step, err)
	}
	return opencmg.Errorf(opencmg.Unavailable, "%s: %w", step, err)
}

// RenewalTime is when a certificate should be renewed: when a third of its life
// is left. An authority's own renewal information (RFC 9773) is not asked for,
// since the library does not know it.
func RenewalTime(cert *x509.Certificate) time.Time {
	return cert.NotAfter.Add(-cert.NotAfter.Sub(cert.NotBefore) / 3)
}
