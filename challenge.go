package opencmg

import (
	"regexp"
	"strings"
)

// The kinds of challenge by which an ACME server checks a name.
const (
	ChallengeHTTP    = "http-01"     // RFC 8555 8.3: a file by plain HTTP on port 80
	ChallengeTLSALPN = "tls-alpn-01" // RFC 8737: a certificate on port 443
)

// MaxChallenges bounds the challenges of one published configuration.
const MaxChallenges = 100

// An ACMEChallenge is what every instance must answer while a certification
// authority checks that a name is ours. It is no secret: the authority reads it
// without authentication.
type ACMEChallenge struct {
	// Type is [ChallengeHTTP] or [ChallengeTLSALPN].
	Type string `json:"type"`
	// Domain is the name that is checked.
	Domain string `json:"domain"`
	Token  string `json:"token"`
	// KeyAuthorization is the token, a dot, and the thumbprint of the account's
	// key (RFC 8555 8.1).
	KeyAuthorization string `json:"keyAuthorization"`
}

var (
	challengeToken      = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)
	challengeThumbprint = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)
	challengeDomain     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+$`)
)

// Validate checks the challenge.
func (c ACMEChallenge) Validate() error {
	switch thumbprint, found := strings.CutPrefix(c.KeyAuthorization, c.Token+"."); {
	case c.Type != ChallengeHTTP && c.Type != ChallengeTLSALPN:
		return Errorf(Invalid, "challenge %q: must be %s or %s", c.Type, ChallengeHTTP, ChallengeTLSALPN)
	case len(c.Domain) > 253 || !challengeDomain.MatchString(c.Domain):
		return Errorf(Invalid, "challenge for %q: the domain must be a host name in lower case", c.Domain)
	case !challengeToken.MatchString(c.Token):
		return Errorf(Invalid, "challenge for %s: the token must be 1 to 128 characters of base64url", c.Domain)
	case !found || !challengeThumbprint.MatchString(thumbprint):
		return Errorf(Invalid, "challenge for %s: the key authorization must be the token, a dot and the thumbprint of a key", c.Domain)
	}
	return nil
}
