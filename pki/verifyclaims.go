package pki

import (
	"cmp"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"

	"github.com/opencmg/opencmg"
)

// checkSite checks a token of a site issuer.
func (v *TokenVerifier) checkSite(token string, signer *siteSigner, presented string, now time.Time) (goodToken, *Refusal) {
	var c siteClaims
	if r := verifySignature(token, signer.key, &c); r != nil {
		return goodToken{}, r
	}
	g := goodToken{id: opencmg.Identity{Thumbprint: presented, TokenID: c.UniqueID}}
	if r := g.within(c.NotBefore, c.Expires, now); r != nil {
		return goodToken{}, r
	}
	if !slices.Contains(c.Audience, signer.audience) {
		return goodToken{}, wrongAudience(c.Audience, signer.audience)
	}
	switch {
	case c.Category == categoryPreAuth && c.Type == typeBulk:
		g.id.Auth = opencmg.AuthBulkToken
	case c.Category == categoryPreAuth:
		g.id.Auth = opencmg.AuthClientToken
	case c.Category == categoryCCM:
		g.id.Auth = opencmg.AuthCCMToken
	default:
		return goodToken{}, refuse(RefusedTokenCategory, "category %.60q with type %.60q is not known", c.Category, c.Type)
	}
	// Without an ID a token can not be blocked.
	if c.UniqueID == "" && (!signer.allowUnbound || g.id.Auth == opencmg.AuthBulkToken) {
		return goodToken{}, refuse(RefusedTokenMalformed, "claim UniqueId is missing")
	}
	if c.UniqueID != "" && v.blocked[normaliseTokenID(c.UniqueID)] {
		return goodToken{}, refuse(RefusedTokenBlocked, "token %.60s is blocked", c.UniqueID)
	}
	if c.Confirmation == nil && g.id.Auth != opencmg.AuthBulkToken && !signer.allowUnbound {
		return goodToken{}, refuse(RefusedTokenUnbound, "token %.60s is not bound to a key (cnf), and its issuer is not allowed to issue such tokens", c.UniqueID)
	}
	if r := c.Confirmation.check(presented); r != nil {
		return goodToken{}, r
	}
	if g.id.Auth == opencmg.AuthBulkToken {
		return g, nil // names nobody
	}
	if c.ClientID != "" {
		id, err := opencmg.ParseClientID(c.ClientID)
		if err != nil {
			return goodToken{}, refuse(RefusedTokenMalformed, "claim ClientID is not GUID: and a GUID")
		}
		g.id.ClientID = id
	}
	if g.id.Auth == opencmg.AuthClientToken && g.id.ClientID == "" && !signer.allowUnbound {
		return goodToken{}, refuse(RefusedTokenSubject, "client token %.60s names no client", c.UniqueID)
	}
	r := setSubject(&g.id, c.EntraTenantID, c.DeviceID, c.UserID, c.UserSID)
	return g, r
}

// entraClaims are the claims of an Entra access token that we use (wire.md 2.3).
type entraClaims struct {
	Issuer     string       `json:"iss"`
	Audience   stringOrList `json:"aud"`
	Tenant     string       `json:"tid"`
	Expires    *unixTime    `json:"exp"`
	NotBefore  *unixTime    `json:"nbf"`
	DeviceID   string       `json:"deviceid"`
	ObjectID   string       `json:"oid"`
	OnPremSID  string       `json:"onprem_sid"`
	Type       string       `json:"idtyp"` // user, device or app; often absent
	Scope      string       `json:"scp"`
	UPN        string       `json:"upn"`
	UniqueName string       `json:"unique_name"`
	UTI        string       `json:"uti"`
	JTI        string       `json:"jti"`
	// A proof-of-possession token may bind itself in ways we can not check.
	Confirmation *confirmation `json:"cnf"`
}

// checkEntra checks a token of a Microsoft Entra tenant.
func (v *TokenVerifier) checkEntra(token string, key *rsa.PublicKey, t *tenant, presented string, now time.Time) (goodToken, *Refusal) {
	var c entraClaims
	if r := verifySignature(token, key, &c); r != nil {
		return goodToken{}, r
	}
	g := goodToken{id: opencmg.Identity{Auth: opencmg.AuthEntra, Thumbprint: presented, TokenID: cmp.Or(c.UTI, c.JTI)}}
	if r := g.within(c.NotBefore, c.Expires, now); r != nil {
		return goodToken{}, r
	}
	// Entra signs for all tenants with the same keys: without this check the
	// issuer alone would decide.
	if !strings.EqualFold(c.Tenant, t.id) {
		return goodToken{}, refuse(RefusedTokenTenant, "claim tid is %.60q, but issuer %q belongs to tenant %s", c.Tenant, c.Issuer, t.id)
	}
	if !slices.ContainsFunc(c.Audience, func(a string) bool { return a != "" && slices.Contains(t.audiences, a) }) {
		return goodToken{}, wrongAudience(c.Audience, t.audiences...)
	}
	if g.id.TokenID != "" && v.blocked[normaliseTokenID(g.id.TokenID)] {
		return goodToken{}, refuse(RefusedTokenBlocked, "token %.60s is blocked", g.id.TokenID)
	}
	if r := c.Confirmation.check(presented); r != nil {
		return goodToken{}, r
	}
	user := c.Type == "user" || c.Type == "" && (c.Scope != "" || c.UPN != "" || c.UniqueName != "")
	if c.Type == "app" || c.DeviceID == "" && (!user || c.ObjectID == "") {
		return goodToken{}, refuse(RefusedTokenSubject, "the token names neither a device nor a user (idtyp %.20q): an application can not be a client", c.Type)
	}
	if !user {
		c.ObjectID, c.OnPremSID = "", "" // the device's own, not a user's
	}
	r := setSubject(&g.id, t.id, c.DeviceID, c.ObjectID, c.OnPremSID)
	return g, r
}

// verifySignature checks the signature and decodes the claims it covers.
func verifySignature(token string, key *rsa.PublicKey, claims any) *Refusal {
	obj, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return refuse(RefusedTokenMalformed, "%v", err)
	}
	payload, err := obj.Verify(key)
	if err != nil {
		return refuse(RefusedTokenSignature, "the signature does not fit the issuer's key: the token was altered, or signed by somebody else")
	}
	if err := json.Unmarshal(payload, claims); err != nil {
		return refuse(RefusedTokenMalformed, "claims: %v", err)
	}
	return nil
}

// within takes over the times of a token and checks them.
func (g *goodToken) within(nbf, exp *unixTime, now time.Time) *Refusal {
	if exp == nil {
		return refuse(RefusedTokenMalformed, "claim exp is missing")
	}
	g.expires = time.Unix(int64(*exp), 0).Add(ClockSkew)
	if nbf != nil {
		g.notBefore = time.Unix(int64(*nbf), 0).Add(-ClockSkew)
	}
	if now.After(g.expires) {
		return expired(g.expires, now)
	}
	if now.Before(g.notBefore) {
		return refuse(RefusedTokenNotYetValid, "valid from %s on, and it is %s here: one of the clocks is wrong",
			g.notBefore.Add(ClockSkew).UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// check compares a token's binding with the certificate that was presented. A
// binding that we can not check is a refusal (RFC 7800 3.1).
func (c *confirmation) check(presented string) *Refusal {
	if c == nil {
		return nil
	}
	want, err := base64.RawURLEncoding.DecodeString(c.X5tS256)
	if err != nil || len(want) != sha256.Size {
		return refuse(RefusedTokenWrongProof, "the token is bound (cnf) by something other than x5t#S256, which can not be checked")
	}
	if presented == "" {
		return refuse(RefusedTokenNoProof, "the token is bound to certificate %x…, and the caller presented none in the TLS handshake", want[:8])
	}
	got, err := hex.DecodeString(presented)
	if err != nil || subtle.ConstantTimeCompare(want, got) != 1 {
		return refuse(RefusedTokenWrongProof, "the token is bound to certificate %x…, and the caller presented %.16s…", want[:8], presented)
	}
	return nil
}

var sidPattern = regexp.MustCompile(`^S-1(-[0-9]{1,15}){1,16}$`)

// noGUID is how the original writes "no user".
const noGUID = "00000000-0000-0000-0000-000000000000"

// setSubject takes over who the token speaks of. The values go on to databases
// and logs, so they must be what they say they are.
func setSubject(id *opencmg.Identity, tenant, device, user, sid string) *Refusal {
	for _, f := range []struct {
		to          *string
		value, name string
	}{{&id.TenantID, tenant, "tenant"}, {&id.DeviceID, device, "device"}, {&id.UserID, user, "user"}} {
		if f.value == "" || f.value == noGUID {
			continue
		}
		if !opencmg.IsGUID(f.value) {
			return refuse(RefusedTokenMalformed, "the %s ID is not a GUID", f.name)
		}
		*f.to = strings.ToLower(f.value)
	}
	if sid != "" && !sidPattern.MatchString(sid) {
		return refuse(RefusedTokenMalformed, "the user's SID is not a SID")
	}
	id.UserSID = sid
	return nil
}

func expired(withSkew, now time.Time) *Refusal {
	exp := withSkew.Add(-ClockSkew)
	return refuse(RefusedTokenExpired, "expired at %s, %s ago by this clock", exp.UTC().Format(time.RFC3339), now.Sub(exp).Round(time.Second))
}

func wrongAudience(got []string, want ...string) *Refusal {
	return refuse(RefusedTokenAudience, "the token is for %.300q, and this gateway accepts %q", fmt.Sprint(got), want)
}

func refuse(code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Detail: fmt.Sprintf(format, args...)}
}
