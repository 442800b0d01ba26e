package opencmg

import (
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// A SiteCode is the three-character code of a site, such as "LAB".
type SiteCode string

// Validate reports whether the code is three letters or digits.
func (s SiteCode) Validate() error {
	if len(s) != 3 || !alphanumeric(string(s)) {
		return Errorf(Invalid, "site code %q: must be three letters or digits, such as LAB", string(s))
	}
	return nil
}

// A RoleID names one published role on one server. It is the decimal number in
// external URLs, opaque otherwise (wire.md 1.1).
type RoleID string

// Validate reports whether the ID is a decimal number that fits 64 bits.
func (r RoleID) Validate() error {
	n, err := strconv.ParseUint(string(r), 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != string(r) {
		return Errorf(Invalid, "role ID %q: must be a decimal number without leading zeros, at most 18446744073709551615", string(r))
	}
	return nil
}

// A ClientID is the identity a site gave to a registered client: "GUID:"
// followed by a GUID in capitals.
type ClientID string

var guidPattern = regexp.MustCompile(`^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$`)

// ParseClientID accepts "GUID:" and a strict GUID in either case, and nothing
// else: this field has been the way into a management point's database before
// (wire.md 3.2).
func ParseClientID(s string) (ClientID, error) {
	if len(s) != 41 || !strings.EqualFold(s[:5], "GUID:") || !guidPattern.MatchString(s[5:]) {
		return "", Errorf(Invalid, "client ID: must be GUID: followed by a GUID")
	}
	return ClientID(strings.ToUpper(s)), nil
}

// Validate reports whether the ID has the strict form that [ParseClientID]
// returns.
func (c ClientID) Validate() error {
	p, err := ParseClientID(string(c))
	if err != nil {
		return err
	}
	if p != c {
		return Errorf(Invalid, "client ID %q: must be in capitals", string(c))
	}
	return nil
}

// IsGUID reports whether s is a bare GUID, without braces.
func IsGUID(s string) bool { return guidPattern.MatchString(s) }

// External path prefixes of the roles' endpoints (cmg-behaviour G22). Paths are
// matched without regard to case (G23).
const (
	MutualAuthPrefix = "/CCM_Proxy_MutualAuth/" // the caller proves a client certificate
	ServerAuthPrefix = "/CCM_Proxy_ServerAuth/" // the caller presents a token
)

// Header fields that only this system sets between its own parts. Every field
// whose name starts with [HeaderPrefix] is deleted from a client's request.
const (
	HeaderPrefix        = "OpenCMG-"
	HeaderIdentity      = "OpenCMG-Identity" // verified identity, see Identity.Encode
	HeaderCorrelationID = "X-Correlation-ID" // on every response, and on every request to a role
)

// Reason phrases that clients write into their logs (cmg-behaviour G26).
const (
	ReasonInvalidToken     = "CMGService_Invalid_Token"
	ReasonConnectionPrefix = "CMGConnector_" // followed by the role's reason phrase without spaces
)

// Endpoint names of the control streams that a connection point opens to a
// gateway instance.
const (
	ControlConfiguration = "configuration" // body: signed published configuration; answer: ControlAnswer
	ControlStatus        = "status"        // body: ConnectionPointStatus as JSON; answer: ControlAnswer
	// ControlInstanceStatus has an InstanceStatusRequest as JSON for its body, or
	// none. The answer is an InstanceStatus as JSON, in the body of the answer.
	// An instance that is too old to wait answers at once.
	ControlInstanceStatus = "instance-status"
	// ControlLogs has no body. The answer's body is JSON lines of LogLine and
	// goes on until the stream is closed.
	ControlLogs = "logs"
	// ControlExplain has an ExplainRequest as JSON for its body. The answer's
	// body is the instance's records of that request, a JSON list of
	// RequestRecord with at most MaxHopRecords. An instance that is too old to
	// know it answers with an error, as for every name that it does not know.
	ControlExplain = "explain"
)

// A ControlAnswer is what a gateway instance answers on a control stream, as
// JSON.
type ControlAnswer struct {
	// Version is that of the published configuration now in force.
	Version uint64 `json:"version"`
	// Error says why a document was refused; empty when it was taken.
	Error string `json:"error,omitempty"`
}

// The names that the site CA writes into its certificates, as URI subject
// alternative names. A certificate opens only the door that its name says.

// ConnectionPointURI is the identity of a connection point. The connection ID
// must also be registered in the published configuration (cmg-behaviour G10).
func ConnectionPointURI(site SiteCode, connectionID string) string {
	return "opencmg://" + strings.ToLower(string(site)) + "/connection-point/" + url.PathEscape(connectionID)
}

// GatewayInstanceURI is the tunnel identity of one instance of a gateway.
func GatewayInstanceURI(site SiteCode, gateway string, instance int) string {
	return fmt.Sprintf("opencmg://%s/gateway/%s/instance/%d", strings.ToLower(string(site)), url.PathEscape(gateway), instance)
}

// RoleURI is the identity of a site role that answers connection points, such
// as a management point.
func RoleURI(site SiteCode, role RoleID) string {
	return "opencmg://" + strings.ToLower(string(site)) + "/role/" + string(role)
}

// SiteServerURI is the identity of the site server towards its site systems. No
// other certificate of the site CA passes for it.
func SiteServerURI(site SiteCode) string {
	return "opencmg://" + strings.ToLower(string(site)) + "/site-server"
}

// ConfigurationSigningURI is the identity of the key that signs published
// configurations.
func ConfigurationSigningURI(site SiteCode) string {
	return "opencmg://" + strings.ToLower(string(site)) + "/configuration-signing"
}

func alphanumeric(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}
