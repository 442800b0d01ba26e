package ccm

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

// HashSHA256 is the algorithm name of messages and registrations: SHA-256 with
// RSA, PKCS#1 v1.5 (RFC 8017 section 8.2).
const HashSHA256 = "1.2.840.113549.1.1.11"

// Header fields that prove a client's identity to the policy download
// (wire.md 6.2). Family A is ClientToken, family B the four CCMClient fields.
const (
	HeaderClientToken          = "ClientToken"
	HeaderClientTokenSignature = "ClientTokenSignature"
	HeaderClientID             = "CCMClientID"
	HeaderClientIDSignature    = "CCMClientIDSignature"
	HeaderTimestamp            = "CCMClientTimestamp"
	HeaderTimestampSignature   = "CCMClientTimestampSignature"
	// HeaderTimestampsSignature is the spelling of the vendor's proxy article.
	HeaderTimestampsSignature = "CCMClientTimestampsSignature"
)

// Sign signs message with an RSA key (PKCS#1 v1.5, SHA-256) and returns the
// signature in reversed byte order as hexadecimal capitals, the form of
// registrations and message hooks (wire.md 4).
func Sign(key crypto.Signer, message []byte) (string, error) {
	sig, err := signReversed(key, message)
	if err != nil {
		return "", err
	}
	return strings.ToUpper(hex.EncodeToString(sig)), nil
}

// SignNotification is Sign in base64, the form of notification messages.
func SignNotification(key crypto.Signer, message []byte) (string, error) {
	sig, err := signReversed(key, message)
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(sig), nil
}

func signReversed(key crypto.Signer, message []byte) ([]byte, error) {
	if _, ok := key.Public().(*rsa.PublicKey); !ok {
		return nil, opencmg.Errorf(opencmg.Invalid, "sign: the key must be RSA")
	}
	sum := sha256.Sum256(message)
	sig, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return nil, &opencmg.Error{Kind: opencmg.Invalid, Msg: "sign: the key refused", Err: err}
	}
	slices.Reverse(sig)
	return sig, nil
}

// Verify checks a signature in the form of [Sign]. Every failure is
// opencmg.Unauthorized.
func Verify(key *rsa.PublicKey, message []byte, signature string) error {
	sig, err := hex.DecodeString(strings.TrimSpace(signature))
	if err != nil {
		return opencmg.Errorf(opencmg.Unauthorized, "signature is not hexadecimal")
	}
	return verifyReversed(key, message, sig)
}

// VerifyNotification checks a signature in the form of [SignNotification].
func VerifyNotification(key *rsa.PublicKey, message []byte, signature string) error {
	sig, err := base64.StdEncoding.DecodeString(strings.TrimSpace(signature))
	if err != nil {
		return opencmg.Errorf(opencmg.Unauthorized, "signature is not base64")
	}
	return verifyReversed(key, message, sig)
}

func verifyReversed(key *rsa.PublicKey, message, sig []byte) error {
	slices.Reverse(sig)
	sum := sha256.Sum256(message)
	if rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sig) != nil {
		return opencmg.Errorf(opencmg.Unauthorized, "signature does not fit")
	}
	return nil
}

// verifyHeader checks a header signature over the value and a NUL in UTF-16LE.
// Working clients differ in padding (DigestInfo, or the bare hash), and the
// byte order of one family was never observed, so all four combinations count.
func verifyHeader(key *rsa.PublicKey, value, signature string) error {
	sig, err := hex.DecodeString(strings.TrimSpace(signature))
	if err != nil {
		return opencmg.Errorf(opencmg.Unauthorized, "header signature is not hexadecimal")
	}
	sum := sha256.Sum256(EncodeUTF16Z(value))
	for range 2 {
		slices.Reverse(sig)
		for _, hash := range []crypto.Hash{crypto.SHA256, 0} {
			if rsa.VerifyPKCS1v15(key, hash, sum[:], sig) == nil {
				return nil
			}
		}
	}
	return opencmg.Errorf(opencmg.Unauthorized, "header signature does not fit")
}

// A ClientProof is what the header fields of a policy request say about the
// caller. It proves nothing until [ClientProof.Verify] has checked it with the
// key that the named client registered.
type ClientProof struct {
	ClientID opencmg.ClientID
	Time     time.Time
	// Family is "A" for ClientToken, "B" for the CCMClient fields.
	Family string

	signed []signedValue
}

type signedValue struct{ value, signature string }

// ParseClientProof reads the proof from header fields, which get returns by
// name; it returns nil without an error when there are none.
func ParseClientProof(get func(name string) string) (*ClientProof, error) {
	if token := get(HeaderClientToken); token != "" {
		f := strings.Split(token, ";")
		if len(f) < 2 || len(f) > 3 {
			return nil, opencmg.Errorf(opencmg.Unauthorized, "%s: must be a client ID and a time with ';' between them", HeaderClientToken)
		}
		p := &ClientProof{Family: "A", signed: []signedValue{{token, get(HeaderClientTokenSignature)}}}
		return p, p.parse(f[0], f[1])
	}
	if id := get(HeaderClientID); id != "" {
		stamp, sig := get(HeaderTimestamp), get(HeaderTimestampSignature)
		if sig == "" {
			sig = get(HeaderTimestampsSignature)
		}
		p := &ClientProof{Family: "B", signed: []signedValue{{id, get(HeaderClientIDSignature)}, {stamp, sig}}}
		return p, p.parse(id, stamp)
	}
	return nil, nil
}

func (p *ClientProof) parse(id, stamp string) error {
	if strings.HasPrefix(id, "{") && strings.HasSuffix(id, "}") {
		id = "GUID:" + id[1:len(id)-1]
	}
	var err error
	if p.ClientID, err = opencmg.ParseClientID(id); err != nil {
		return err
	}
	if p.Time = parseTime(stamp); p.Time.IsZero() {
		return opencmg.Errorf(opencmg.Unauthorized, "proof of identity: the time is malformed")
	}
	return nil
}

// Verify checks all signatures of the proof with the client's registered key,
// and that its time lies within [ProofSkew] of now.
func (p *ClientProof) Verify(key *rsa.PublicKey, now time.Time) error {
	for _, s := range p.signed {
		if err := verifyHeader(key, s.value, s.signature); err != nil {
			return err
		}
	}
	if d := now.Sub(p.Time).Abs(); d > ProofSkew {
		return opencmg.Errorf(opencmg.Unauthorized, "proof of identity: its time is %s away from ours; check the clocks", d.Truncate(time.Second))
	}
	return nil
}

// ProofHeaders returns the header fields of family A for a request at the
// given time, as name and value pairs.
func ProofHeaders(key crypto.Signer, id opencmg.ClientID, now time.Time) (map[string]string, error) {
	token := string(id) + ";" + formatTime(now) + ";2"
	sig, err := Sign(key, EncodeUTF16Z(token))
	if err != nil {
		return nil, err
	}
	return map[string]string{HeaderClientToken: token, HeaderClientTokenSignature: sig}, nil
}

// publicKeyPrefix is the start of a Windows PUBLICKEYBLOB for an RSA key.
var publicKeyPrefix = []byte{0x06, 0x02, 0, 0, 0, 0xa4, 0, 0, 'R', 'S', 'A', '1'}

// MarshalPublicKey returns the key as hexadecimal PUBLICKEYBLOB: bit length and
// exponent as 32-bit and the modulus, all little-endian (wire.md 4).
func MarshalPublicKey(key *rsa.PublicKey) string {
	b := bytes.Clone(publicKeyPrefix)
	b = binary.LittleEndian.AppendUint32(b, uint32(key.N.BitLen()))
	b = binary.LittleEndian.AppendUint32(b, uint32(key.E))
	n := key.N.FillBytes(make([]byte, key.Size()))
	slices.Reverse(n)
	return strings.ToUpper(hex.EncodeToString(append(b, n...)))
}

// ParsePublicKey reads what [MarshalPublicKey] writes.
func ParsePublicKey(s string) (*rsa.PublicKey, error) {
	if len(s) > 4096 {
		return nil, opencmg.Errorf(opencmg.TooLarge, "public key is too long")
	}
	b, err := hex.DecodeString(strings.TrimSpace(s))
	if err != nil || !bytes.HasPrefix(b, publicKeyPrefix) || len(b) < len(publicKeyPrefix)+8 {
		return nil, opencmg.Errorf(opencmg.Invalid, "public key is no hexadecimal PUBLICKEYBLOB")
	}
	b = b[len(publicKeyPrefix):]
	bits, e, n := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), b[8:]
	slices.Reverse(n)
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(e)}
	if key.N.BitLen() != int(bits) || bits < minKeyBits || bits > maxKeyBits || e < 3 || e > 1<<31-1 {
		return nil, opencmg.Errorf(opencmg.Invalid, "public key has a wrong length or exponent")
	}
	return key, nil
}
