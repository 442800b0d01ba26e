package pki

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/go-jose/go-jose/v4/json" // refuses repeated names and matches case, as JOSE wants
)

// A joseHeader is what we look at in the protected header of a compact JWS
// before anything expensive is done with it. Keys and key addresses in a
// header (jwk, jku, x5u) are never used.
type joseHeader struct {
	Alg  string          `json:"alg"`
	Typ  string          `json:"typ"`
	Kid  string          `json:"kid"`
	X5t  string          `json:"x5t"`
	X5c  []string        `json:"x5c"`
	Crit json.RawMessage `json:"crit"`
	B64  json.RawMessage `json:"b64"`
}

// parseCompact splits a compact JWS into its header and its payload, neither
// of them verified.
func parseCompact(jws string, maxHeader int) (h joseHeader, payload string, err error) {
	header, rest, ok := strings.Cut(jws, ".")
	payload, signature, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 || strings.Contains(signature, ".") {
		return h, "", errors.New("not three parts separated by dots")
	}
	if len(header) > maxHeader {
		return h, "", fmt.Errorf("header is longer than %d bytes", maxHeader)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(header)
	if err != nil {
		return h, "", errors.New("header is not base64url")
	}
	if err := json.Unmarshal(raw, &h); err != nil {
		return h, "", fmt.Errorf("header is not acceptable JSON: %w", err)
	}
	return h, payload, nil
}

// stringOrList is a claim that may be one string or a list of strings, such as
// aud (RFC 7519 4.1.3).
type stringOrList []string

func (l *stringOrList) UnmarshalJSON(b []byte) error {
	var one string
	if err := json.Unmarshal(b, &one); err == nil {
		*l = stringOrList{one}
		return nil
	}
	var many []string
	if err := json.Unmarshal(b, &many); err != nil {
		return errors.New("must be a string or a list of strings")
	}
	*l = many
	return nil
}

func (l stringOrList) MarshalJSON() ([]byte, error) {
	if len(l) == 1 {
		return json.Marshal(l[0])
	}
	return json.Marshal([]string(l))
}

// unixTime is a NumericDate (RFC 7519 2): seconds since 1970, possibly with a
// fraction, which is dropped.
type unixTime int64

func (t *unixTime) UnmarshalJSON(b []byte) error {
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil || math.IsNaN(f) || f < 0 || f > 1<<40 {
		return errors.New("must be a number of seconds since 1970")
	}
	*t = unixTime(f)
	return nil
}
