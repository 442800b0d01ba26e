package adminservice

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/url"
	"strings"

	"github.com/opencmg/opencmg"
)

// MaxJoinToken bounds the text of a join token, in bytes.
const MaxJoinToken = 16 << 10

// EncodeJoinToken returns the token as one line of text without spaces. The
// text is a secret.
func EncodeJoinToken(t JoinToken) string { return encodeToken(t) }

// ParseJoinToken reads what [EncodeJoinToken] wrote; space and line ends around
// and inside it do not count, since mail programs put them there. Fields it does
// not know are ignored, so that a newer site can say more. Its errors do not
// repeat the text.
func ParseJoinToken(s string) (t JoinToken, err error) {
	if err := parseToken(s, &t); err != nil {
		return JoinToken{}, err
	}
	if err := t.Validate(); err != nil {
		return JoinToken{}, err
	}
	return t, nil
}

// EncodeGatewayJoinToken is [EncodeJoinToken] for a gateway's join token.
func EncodeGatewayJoinToken(t GatewayJoinToken) string { return encodeToken(t) }

// ParseGatewayJoinToken is [ParseJoinToken] for a gateway's join token.
func ParseGatewayJoinToken(s string) (t GatewayJoinToken, err error) {
	if err := parseToken(s, &t); err != nil {
		return GatewayJoinToken{}, err
	}
	if err := t.Validate(); err != nil {
		return GatewayJoinToken{}, err
	}
	return t, nil
}

func encodeToken(t any) string {
	b, err := json.Marshal(t)
	if err != nil {
		panic(err) // a plain struct
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseToken(s string, t any) error {
	if len(s) > MaxJoinToken {
		return opencmg.Errorf(opencmg.TooLarge, "join token: is longer than %d bytes: is it the right file?", MaxJoinToken)
	}
	s = strings.TrimRight(strings.Join(strings.Fields(s), ""), "=")
	if s == "" {
		return opencmg.Errorf(opencmg.Invalid, "join token: is empty")
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		err = decodeOne(b, t)
	}
	if err != nil {
		return opencmg.Errorf(opencmg.Invalid, "join token: is damaged or not a join token: copy the whole text that the site gave")
	}
	return nil
}

// Validate reports the first field that can not be right.
func (t GatewayJoinToken) Validate() error {
	if err := t.Site.Validate(); err != nil {
		return opencmg.Errorf(opencmg.Invalid, "join token: %w", err)
	}
	if t.Gateway == "" || t.ServiceName == "" {
		return opencmg.Errorf(opencmg.Invalid, "join token: it is not for an instance of a gateway")
	}
	block, _ := pem.Decode([]byte(t.SiteCA))
	if block == nil {
		return opencmg.Errorf(opencmg.Invalid, "join token: siteCa must be a PEM certificate")
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		return opencmg.Errorf(opencmg.Invalid, "join token: siteCa: %w", err)
	}
	if t.ID == "" || t.Secret == "" {
		return opencmg.Errorf(opencmg.Invalid, "join token: it has no ID or no secret")
	}
	if min(t.HTTPSPort, t.TunnelPort) < 0 || max(t.HTTPSPort, t.TunnelPort) > 65535 {
		return opencmg.Errorf(opencmg.Invalid, "join token: a port must be 1 to 65535")
	}
	return nil
}

// Validate reports the first field that can not be right.
func (t JoinToken) Validate() error {
	if _, err := siteURL(t.URL); err != nil {
		return opencmg.Errorf(opencmg.Invalid, "join token: %w", err)
	}
	if err := t.Site.Validate(); err != nil {
		return opencmg.Errorf(opencmg.Invalid, "join token: %w", err)
	}
	if !isThumbprint(t.SiteCA) {
		return opencmg.Errorf(opencmg.Invalid, "join token: siteCa must be the SHA-256 of a certificate in lower-case hexadecimal digits")
	}
	if t.ID == "" || t.Secret == "" {
		return opencmg.Errorf(opencmg.Invalid, "join token: it has no ID or no secret")
	}
	return nil
}

// String hides the secret.
func (t JoinToken) String() string { return "join token " + t.ID + " of site " + string(t.Site) }

// GoString hides the secret.
func (t JoinToken) GoString() string { return t.String() }

// LogValue hides the secret.
func (t JoinToken) LogValue() slog.Value { return slog.StringValue(t.String()) }

// decodeOne decodes exactly one JSON value.
func decodeOne(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON value")
	}
	return nil
}

// siteURL checks the URL of a site and returns it without a path.
func siteURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return nil, opencmg.Errorf(opencmg.Invalid, "site URL %q: must be https:// and a host with an optional port, such as https://site.corp.example:8443", s)
	}
	return &url.URL{Scheme: "https", Host: u.Host}, nil
}

func isThumbprint(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 32 && s == strings.ToLower(s)
}
