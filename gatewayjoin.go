package opencmg

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

// How a host on the internet becomes an instance of a self-hosted gateway. It can
// not reach the site, so it joins through a connection point that dials it: over
// a tunnel connection on which the connection point has proved who it is by TLS,
// and the host has proved nothing yet. The connection point opens two control
// streams. What passes between connection point and site stands in package
// adminservice.
const (
	// ControlJoin has no body. The answer's body is a GatewayJoinProof.
	ControlJoin = "join"
	// ControlJoined takes a GatewayJoinGrant. Once the answer, a ControlAnswer,
	// has no error, the host ends the connection and comes back on the same
	// address as the instance.
	ControlJoined = "joined"
)

// GatewayJoinExporter is the label by which both ends of the connection derive
// the 32 bytes that a proof is bound to (RFC 5705; no context).
const GatewayJoinExporter = "EXPORTER-opencmg-gateway-join"

// A GatewayJoinProof is a host's request for a place in a gateway, as JSON.
type GatewayJoinProof struct {
	TokenID string `json:"tokenId"`
	// Request is a PEM certificate request (PKCS #10) for a key that never
	// leaves the host. Its names are ignored.
	Request string `json:"request"`
	// Proof is base64url of GatewayJoinMAC.
	Proof string `json:"proof"`
}

// A GatewayJoinGrant is the site's answer to a host, as JSON.
type GatewayJoinGrant struct {
	// Refused says why the site wants no such instance; empty otherwise.
	Refused     string `json:"refused,omitempty"`
	Instance    int    `json:"instance"`
	Certificate string `json:"certificate,omitempty"` // PEM, for the request's key
}

// GatewayJoinKey is the key of a join token's proofs: the SHA-256 of the secret,
// which is what a site keeps of it.
func GatewayJoinKey(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// GatewayJoinMAC proves to know a join token's secret, for one connection and one
// request: HMAC-SHA-256 over the exported bytes and the fields, each with its
// length.
func GatewayJoinMAC(key, exporter []byte, gateway, tokenID, request string) []byte {
	m := hmac.New(sha256.New, key)
	for _, f := range [][]byte{[]byte("opencmg gateway join 1"), exporter, []byte(gateway), []byte(tokenID), []byte(request)} {
		m.Write(binary.BigEndian.AppendUint32(nil, uint32(len(f))))
		m.Write(f)
	}
	return m.Sum(nil)
}

// VerifyGatewayJoin reports whether the proof is right for the connection that
// the exported bytes are of.
func VerifyGatewayJoin(key, exporter []byte, gateway string, p GatewayJoinProof) bool {
	mac, err := base64.RawURLEncoding.DecodeString(p.Proof)
	return err == nil && len(exporter) == 32 && hmac.Equal(mac, GatewayJoinMAC(key, exporter, gateway, p.TokenID, p.Request))
}
