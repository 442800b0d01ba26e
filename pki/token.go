package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/opencmg/opencmg"
)

// Lifetimes of site tokens (cmg-behaviour 7.3).
const (
	BulkDefaultLifetime = 4320 * time.Minute
	BulkMaxLifetime     = 10080 * time.Minute
	ClientTokenLifetime = 90 * 24 * time.Hour
	CCMTokenLifetime    = 8 * time.Hour
)

// SiteAudience is the audience of site tokens (wire.md 2.1).
const SiteAudience = "urn:sccm:service"

// SiteIssuer is the issuer of the tokens of a hierarchy (wire.md 2.1).
func SiteIssuer(hierarchyID string) string {
	return "urn:sccm:oauth2:" + strings.ToLower(hierarchyID)
}

// Values of the claims that tell site tokens apart. The bulk registration token
// is documented (wire.md 2.1), and so is the category of the client token
// (2.2); the rest is our choice, because what the original writes is unknown.
const (
	categoryPreAuth = "SCCMPreAuthToken"
	typeBulk        = "BulkRegistration"
	typeSelfProve   = "SelfProve"    // choice, after the word in the client's log (2.2)
	categoryCCM     = "SCCMCcmToken" // choice
	typeCCMUDA      = "UDA"          // choice, after the management point's log (2.3): user on a device
	typeCCMDevice   = "Device"       // the same: device only
	claimAuthority  = "SCCM"
	claimLicense    = "SCCM"
)

// siteClaims are the claims of a site token. The fields down to UniqueID, and
// iss, aud, nbf and exp, are documented (wire.md 2.1); the others are our
// choice (wire.md 13.2): the names that the management point's log uses for the
// same facts, and the confirmation of RFC 8705.
type siteClaims struct {
	Category  string `json:"SCCMTokenCategory"`
	Authority string `json:"Authority,omitempty"`
	License   string `json:"License,omitempty"`
	Type      string `json:"Type,omitempty"`
	TenantID  string `json:"TenantId,omitempty"` // the hierarchy's GUID in capitals
	UniqueID  string `json:"UniqueId,omitempty"`

	ClientID      string        `json:"ClientID,omitempty"`
	EntraTenantID string        `json:"EntraTenantId,omitempty"`
	DeviceID      string        `json:"DeviceId,omitempty"`
	UserID        string        `json:"UserId,omitempty"`
	UserSID       string        `json:"OnPrem_UserSid,omitempty"`
	Confirmation  *confirmation `json:"cnf,omitempty"`

	Issuer    string       `json:"iss"`
	Audience  stringOrList `json:"aud"`
	NotBefore *unixTime    `json:"nbf,omitempty"`
	Expires   *unixTime    `json:"exp"`
}

// confirmation binds a token to the certificate that the caller has to present
// (RFC 8705 3.1).
type confirmation struct {
	X5tS256 string `json:"x5t#S256,omitempty"`
}

// A Token is a signed site token.
type Token struct {
	Raw                string // compact JWT: a secret
	ID                 string // the GUID, in capitals, by which it is listed and blocked
	NotBefore, Expires time.Time
}

// String names the token without giving it away.
func (t Token) String() string { return "token " + t.ID }

// LogValue does the same for log records.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// A TokenSigner makes site tokens. It is safe for concurrent use.
type TokenSigner struct {
	signer                        jose.Signer
	cert                          *x509.Certificate
	issuer, audience, hierarchyID string
}

// NewTokenSigner makes a signer. The key must be RSA of at least 2048 bits and
// match cert; issuer and audience may be empty for [SiteIssuer] and
// [SiteAudience].
func NewTokenSigner(key crypto.Signer, cert *x509.Certificate, issuer, audience, hierarchyID string) (*TokenSigner, error) {
	if !opencmg.IsGUID(hierarchyID) {
		return nil, opencmg.Errorf(opencmg.Invalid, "token signer: hierarchy ID %q must be a GUID", hierarchyID)
	}
	rsaKey, ok := key.(*rsa.PrivateKey)
	if !ok || rsaKey.N.BitLen() < 2048 {
		return nil, opencmg.Errorf(opencmg.Invalid, "token signer: the key must be RSA with at least 2048 bits")
	}
	if !rsaKey.PublicKey.Equal(cert.PublicKey) {
		return nil, opencmg.Errorf(opencmg.Invalid, "token signer: the key does not belong to certificate %s", describe(cert))
	}
	s := &TokenSigner{cert: cert, issuer: issuer, audience: audience, hierarchyID: strings.ToUpper(hierarchyID)}
	if s.issuer == "" {
		s.issuer = SiteIssuer(hierarchyID)
	}
	if s.audience == "" {
		s.audience = SiteAudience
	}
	x5t := sha1.Sum(cert.Raw)
	opts := (&jose.SignerOptions{}).WithType("JWT").WithHeader("x5t", base64.RawURLEncoding.EncodeToString(x5t[:]))
	var err error
	if s.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: rsaKey}, opts); err != nil {
		return nil, fmt.Errorf("token signer: %w", err)
	}
	return s, nil
}

// TokenIssuer is what a published configuration says about this signer.
func (s *TokenSigner) TokenIssuer() opencmg.TokenIssuer {
	return opencmg.TokenIssuer{Certificate: string(EncodeCertificates(s.cert)), Issuer: s.issuer, Audience: s.audience}
}

// Bulk makes a bulk registration token. Zero lifetime means
// [BulkDefaultLifetime]; more than [BulkMaxLifetime] is refused.
func (s *TokenSigner) Bulk(lifetime time.Duration, now time.Time) (Token, error) {
	if lifetime == 0 {
		lifetime = BulkDefaultLifetime
	}
	if lifetime < time.Minute || lifetime > BulkMaxLifetime {
		return Token{}, opencmg.Errorf(opencmg.Invalid, "bulk registration token: lifetime must be 1 to %d minutes, is %v",
			BulkMaxLifetime/time.Minute, lifetime)
	}
	return s.sign(siteClaims{Category: categoryPreAuth, Type: typeBulk}, now, lifetime)
}

// Client makes the token of a registered client, bound to the certificate with
// this SHA-256 thumbprint (hexadecimal), valid [ClientTokenLifetime].
func (s *TokenSigner) Client(id opencmg.ClientID, thumbprint string, now time.Time) (Token, error) {
	if err := id.Validate(); err != nil {
		return Token{}, fmt.Errorf("client token: %w", err)
	}
	cnf, err := confirm(thumbprint)
	if err != nil {
		return Token{}, fmt.Errorf("client token: %w", err)
	}
	return s.sign(siteClaims{Category: categoryPreAuth, Type: typeSelfProve, ClientID: string(id), Confirmation: cnf}, now, ClientTokenLifetime)
}

// CCM makes the token that the token service gives for another one, valid
// [CCMTokenLifetime]: it carries the tenant, device, user and client ID of the
// identity and is bound to id.Thumbprint, which must not be empty.
func (s *TokenSigner) CCM(id opencmg.Identity, now time.Time) (Token, error) {
	if id.ClientID != "" {
		if err := id.ClientID.Validate(); err != nil {
			return Token{}, fmt.Errorf("CCM token: %w", err)
		}
	}
	if id.ClientID == "" && id.DeviceID == "" && id.UserID == "" {
		return Token{}, opencmg.Errorf(opencmg.Invalid, "CCM token: the identity names neither a client, a device nor a user")
	}
	cnf, err := confirm(id.Thumbprint)
	if err != nil {
		return Token{}, fmt.Errorf("CCM token: %w", err)
	}
	c := siteClaims{
		Category: categoryCCM, Type: typeCCMDevice, ClientID: string(id.ClientID), Confirmation: cnf,
		EntraTenantID: id.TenantID, DeviceID: id.DeviceID, UserID: id.UserID, UserSID: id.UserSID,
	}
	if id.UserID != "" {
		c.Type = typeCCMUDA
	}
	return s.sign(c, now, CCMTokenLifetime)
}

// Analyzer makes a token for a site's own connection analyzer: a CCM token of a
// device that nobody registered, bound to the certificate with this thumbprint.
// It opens what a client may ask before it is registered.
func (s *TokenSigner) Analyzer(thumbprint string, lifetime time.Duration, now time.Time) (Token, error) {
	cnf, err := confirm(thumbprint)
	if err != nil {
		return Token{}, fmt.Errorf("analyzer's token: %w", err)
	}
	return s.sign(siteClaims{Category: categoryCCM, Type: typeCCMDevice, DeviceID: strings.ToLower(newGUID()), Confirmation: cnf}, now, lifetime)
}

func (s *TokenSigner) sign(c siteClaims, now time.Time, lifetime time.Duration) (Token, error) {
	now = now.UTC().Truncate(time.Second)
	t := Token{ID: newGUID(), NotBefore: now, Expires: now.Add(lifetime)}
	nbf, exp := unixTime(t.NotBefore.Unix()), unixTime(t.Expires.Unix())
	c.Authority, c.License = claimAuthority, claimLicense
	c.TenantID, c.UniqueID = s.hierarchyID, t.ID
	c.Issuer, c.Audience = s.issuer, stringOrList{s.audience}
	c.NotBefore, c.Expires = &nbf, &exp
	payload, err := json.Marshal(c)
	if err != nil {
		return Token{}, fmt.Errorf("sign token: %w", err)
	}
	obj, err := s.signer.Sign(payload)
	if err != nil {
		return Token{}, fmt.Errorf("sign token: %w", err)
	}
	if t.Raw, err = obj.CompactSerialize(); err != nil {
		return Token{}, fmt.Errorf("sign token: %w", err)
	}
	return t, nil
}

func confirm(thumbprint string) (*confirmation, error) {
	sum, err := hex.DecodeString(thumbprint)
	if err != nil || len(sum) != sha256.Size {
		return nil, opencmg.Errorf(opencmg.Invalid, "the token must be bound to the SHA-256 thumbprint of the client's certificate; got %q", thumbprint)
	}
	return &confirmation{X5tS256: base64.RawURLEncoding.EncodeToString(sum)}, nil
}

// newGUID returns a random GUID (RFC 9562 version 4) in capitals.
func newGUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]))
}
