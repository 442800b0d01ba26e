package opencmg

import (
	"net/url"
)

// An AuthMode is a way for a caller to prove who it is, and the word by which
// a published endpoint says what it accepts (design: client authentication).
type AuthMode string

// The authentication modes.
const (
	// AuthPKI is a client certificate that chains to a configured root.
	AuthPKI AuthMode = "pki"
	// AuthEntra is a Microsoft Entra access token of a device or a user.
	AuthEntra AuthMode = "entra"
	// AuthCCMToken is the eight-hour token of the management point's token
	// service.
	AuthCCMToken AuthMode = "ccm-token"
	// AuthClientToken is a registered client's ninety-day token.
	AuthClientToken AuthMode = "client-token"
	// AuthBulkToken is a bulk registration token. It opens registration
	// endpoints only.
	AuthBulkToken AuthMode = "bulk-token"
	// AuthNone means that the gateway does not authenticate; the role behind
	// the endpoint does.
	AuthNone AuthMode = "none"
)

// ByToken reports whether the mode is proved by a bearer token.
func (m AuthMode) ByToken() bool {
	switch m {
	case AuthEntra, AuthCCMToken, AuthClientToken, AuthBulkToken:
		return true
	}
	return false
}

// Valid reports whether m is one of the known modes.
func (m AuthMode) Valid() bool { return m.ByToken() || m == AuthPKI || m == AuthNone }

// An Identity is who a caller proved to be. The gateway makes it, the
// connection point passes it on in [HeaderIdentity], and a role believes it
// only from a connection point's certificate.
type Identity struct {
	Auth AuthMode
	// ClientID is the registered client that a client token or CCM token
	// names; empty before registration and for certificates.
	ClientID ClientID
	// Thumbprint is the lower-case hexadecimal SHA-256 of the certificate
	// whose key the caller proved in the TLS handshake: the verified PKI
	// certificate for AuthPKI, otherwise possibly a self-signed one that
	// proves that key and nothing else. Empty when there was none.
	Thumbprint string
	// Subject is the subject of a verified PKI certificate.
	Subject string
	// TenantID, DeviceID, UserID and UserSID come from an Entra token or from
	// the CCM token it was exchanged for.
	TenantID, DeviceID, UserID, UserSID string
	// TokenID is the ID by which the site lists and blocks the token.
	TokenID string
	// Source is the caller's address, without port or zone, as the gateway saw
	// the connection; a bulk registration token may be limited to some. Empty
	// when nobody knows it.
	Source string
}

// Encode returns the identity as the value of [HeaderIdentity]:
// application/x-www-form-urlencoded pairs of the non-empty fields.
func (id Identity) Encode() string {
	v := url.Values{}
	for _, f := range id.fields() {
		if *f.value != "" {
			v.Set(f.name, *f.value)
		}
	}
	if id.Auth != "" {
		v.Set("auth", string(id.Auth))
	}
	if id.ClientID != "" {
		v.Set("client", string(id.ClientID))
	}
	return v.Encode()
}

// ParseIdentity reads what [Identity.Encode] wrote. Unknown names are ignored,
// so that a newer gateway can say more.
func ParseIdentity(s string) (Identity, error) {
	v, err := url.ParseQuery(s)
	if err != nil {
		return Identity{}, &Error{Kind: Invalid, Msg: "identity header is malformed", Err: err}
	}
	id := Identity{Auth: AuthMode(v.Get("auth"))}
	if !id.Auth.Valid() {
		return Identity{}, Errorf(Invalid, "identity header names no known authentication mode")
	}
	if c := v.Get("client"); c != "" {
		if id.ClientID, err = ParseClientID(c); err != nil {
			return Identity{}, err
		}
	}
	for _, f := range id.fields() {
		*f.value = v.Get(f.name)
	}
	return id, nil
}

type identityField struct {
	name  string
	value *string
}

func (id *Identity) fields() []identityField {
	return []identityField{
		{"thumbprint", &id.Thumbprint},
		{"subject", &id.Subject},
		{"tenant", &id.TenantID},
		{"device", &id.DeviceID},
		{"user", &id.UserID},
		{"sid", &id.UserSID},
		{"token", &id.TokenID},
		{"source", &id.Source},
	}
}
