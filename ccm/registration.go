package ccm

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

// Values of RequestType and ResponseType (wire.md 5.1).
const (
	Registration = "Registration"
	Confirmation = "Confirmation"
)

// A KeyType says where a registered certificate comes from.
type KeyType int

// The key types.
const (
	KeySelfSigned KeyType = 1
	KeyPKI        KeyType = 2
)

// A Certificate is one certificate of a registration.
type Certificate struct {
	KeyType     KeyType
	Certificate *x509.Certificate
}

// A RegistrationRequest is a client's wish to become known to the site, or to
// learn how an earlier wish went ([Confirmation]).
type RegistrationRequest struct {
	RequestType string // Registration or Confirmation
	// SMSID is the ID that the client already has; empty for a new client.
	SMSID     opencmg.ClientID
	TimeStamp time.Time
	Hint      string // RegistrationHint

	AgentIdentity, AgentVersion string
	AgentType                   int // 0 full client, 1 media, 2 device, 8 proxy client
	// Signing proves messages; Encryption receives secret policy. One
	// certificate may serve both. Absent in a Confirmation.
	Signing, Encryption Certificate
	Properties          []Property

	data      string // the element Data as received or written, which the signature covers
	signature string
}

// Property returns the value of a discovery property, such as "Netbios Name".
func (r *RegistrationRequest) Property(name string) string {
	for _, p := range r.Properties {
		if strings.EqualFold(p.Name, name) {
			return p.Value
		}
	}
	return ""
}

// NetBIOSName and FQDN return the usual discovery properties.
func (r *RegistrationRequest) NetBIOSName() string { return r.Property("Netbios Name") }
func (r *RegistrationRequest) FQDN() string        { return r.Property("FQ Name") }

type registrationXML struct {
	XMLName   xml.Name `xml:"ClientRegistrationRequest"`
	Signature struct {
		SignatureValue string
	}
}

type registrationData struct {
	XMLName          xml.Name `xml:"Data"`
	HashAlgorithm    string   `xml:"HashAlgorithm,attr"`
	SMSID            string   `xml:"SMSID,attr"`
	RequestType      string   `xml:"RequestType,attr"`
	TimeStamp        string   `xml:"TimeStamp,attr"`
	Hint             string   `xml:"RegistrationHint,attr,omitempty"`
	AgentInformation struct {
		AgentIdentity string `xml:"AgentIdentity,attr"`
		AgentVersion  string `xml:"AgentVersion,attr"`
		AgentType     string `xml:"AgentType,attr"`
	}
	Certificates *struct {
		Encryption *certificateXML
		Signing    *certificateXML
	} `xml:",omitempty"`
	DiscoveryProperties *struct {
		Property []Property
	} `xml:",omitempty"`
}

type certificateXML struct {
	Encoding string `xml:"Encoding,attr"`
	KeyType  string `xml:"KeyType,attr"`
	Hex      string `xml:",chardata"`
}

// ParseRegistration reads a request. It is not believed until
// [RegistrationRequest.Verify] said so.
func ParseRegistration(text string) (*RegistrationRequest, error) {
	data, rest, err := childText(text, "Data")
	if err != nil {
		return nil, fmt.Errorf("registration: %w", err)
	}
	var outer registrationXML
	if err := parseXML(rest, &outer); err != nil {
		return nil, fmt.Errorf("registration: %w", err)
	}
	var d registrationData
	if err := parseXML(data, &d); err != nil {
		return nil, fmt.Errorf("registration: %w", err)
	}
	if d.HashAlgorithm != "" && d.HashAlgorithm != HashSHA256 {
		return nil, opencmg.Errorf(opencmg.Invalid, "registration: HashAlgorithm must be %s (SHA-256 with RSA)", HashSHA256)
	}
	r := &RegistrationRequest{
		TimeStamp: parseTime(d.TimeStamp), Hint: d.Hint,
		AgentIdentity: d.AgentInformation.AgentIdentity, AgentVersion: d.AgentInformation.AgentVersion, AgentType: number(d.AgentInformation.AgentType),
		data: data, signature: outer.Signature.SignatureValue,
	}
	switch {
	case d.RequestType == "" || strings.EqualFold(d.RequestType, Registration):
		r.RequestType = Registration
	case strings.EqualFold(d.RequestType, Confirmation):
		r.RequestType = Confirmation
	default:
		return nil, opencmg.Errorf(opencmg.Invalid, "registration: RequestType must be Registration or Confirmation")
	}
	if id := strings.TrimSpace(d.SMSID); id != "" {
		if r.SMSID, err = opencmg.ParseClientID(id); err != nil {
			return nil, fmt.Errorf("registration: SMSID: %w", err)
		}
	}
	if d.DiscoveryProperties != nil {
		r.Properties = d.DiscoveryProperties.Property
	}
	if d.Certificates != nil {
		if r.Signing, err = d.Certificates.Signing.parse(); err != nil {
			return nil, fmt.Errorf("registration: signing certificate: %w", err)
		}
		if r.Encryption, err = d.Certificates.Encryption.parse(); err != nil {
			return nil, fmt.Errorf("registration: encryption certificate: %w", err)
		}
	}
	if r.RequestType == Registration && r.Signing.Certificate == nil {
		return nil, opencmg.Errorf(opencmg.Invalid, "registration: the signing certificate is missing")
	}
	if r.RequestType == Confirmation && r.SMSID == "" {
		return nil, opencmg.Errorf(opencmg.Invalid, "registration: a confirmation must name its SMSID")
	}
	return r, nil
}

// Verify checks the signature over the received text: with key, or, when key
// is nil, with the key of the signing certificate that the request brings,
// which proves possession of that key.
func (r *RegistrationRequest) Verify(key *rsa.PublicKey) error {
	if key == nil {
		if r.Signing.Certificate == nil {
			return opencmg.Errorf(opencmg.Unauthorized, "registration: there is no certificate to check the signature with")
		}
		key = r.Signing.Certificate.PublicKey.(*rsa.PublicKey) // parse accepts nothing else
	}
	if err := Verify(key, EncodeUTF16(r.data), r.signature); err != nil {
		return fmt.Errorf("registration: %w", err)
	}
	return nil
}

// Encode writes and signs the request.
func (r *RegistrationRequest) Encode(key crypto.Signer) (string, error) {
	stamp := r.TimeStamp
	if stamp.IsZero() {
		stamp = time.Now()
	}
	d := registrationData{HashAlgorithm: HashSHA256, SMSID: string(r.SMSID), RequestType: r.RequestType, TimeStamp: formatTime(stamp), Hint: r.Hint}
	d.AgentInformation.AgentIdentity, d.AgentInformation.AgentVersion = r.AgentIdentity, r.AgentVersion
	d.AgentInformation.AgentType = fmt.Sprint(r.AgentType)
	if r.RequestType == "" {
		d.RequestType = Registration
	}
	var sigID string
	if d.RequestType == Confirmation {
		sigID = string(r.SMSID)
	} else {
		d.Certificates = &struct{ Encryption, Signing *certificateXML }{r.Encryption.format(), r.Signing.format()}
		d.DiscoveryProperties = &struct{ Property []Property }{r.Properties}
	}
	data := formatXML(d)
	sig, err := Sign(key, EncodeUTF16(data))
	if err != nil {
		return "", fmt.Errorf("registration: %w", err)
	}
	attr := ""
	if sigID != "" {
		attr = ` SMSID="` + sigID + `"`
	}
	return "<ClientRegistrationRequest>" + data + "<Signature" + attr + "><SignatureValue>" + sig + "</SignatureValue></Signature></ClientRegistrationRequest>", nil
}

func (c *certificateXML) parse() (Certificate, error) {
	if c == nil {
		return Certificate{}, nil
	}
	text := strings.Map(func(r rune) rune {
		if r == ' ' || r == '\t' || r == '\r' || r == '\n' {
			return -1
		}
		return r
	}, c.Hex)
	if len(text) > 2*maxCertificate {
		return Certificate{}, opencmg.Errorf(opencmg.TooLarge, "is longer than %d bytes", maxCertificate)
	}
	cert, err := ParseCertificate(text)
	if err != nil {
		return Certificate{}, err
	}
	return Certificate{KeyType: KeyType(number(c.KeyType)), Certificate: cert}, nil
}

func (c Certificate) format() *certificateXML {
	if c.Certificate == nil {
		return nil
	}
	return &certificateXML{Encoding: "HexBinary", KeyType: fmt.Sprint(int(c.KeyType)), Hex: FormatCertificate(c.Certificate)}
}

// ParseCertificate reads a certificate in hexadecimal DER and refuses all but
// RSA keys of 2,048 to 8,192 bits.
func ParseCertificate(text string) (*x509.Certificate, error) {
	der, err := hex.DecodeString(text)
	if err != nil {
		return nil, opencmg.Errorf(opencmg.Invalid, "is not hexadecimal")
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, &opencmg.Error{Kind: opencmg.Invalid, Msg: "is not an X.509 certificate", Err: err}
	}
	key, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok || key.N.BitLen() < minKeyBits || key.N.BitLen() > maxKeyBits {
		return nil, opencmg.Errorf(opencmg.Invalid, "must have an RSA key of %d to %d bits", minKeyBits, maxKeyBits)
	}
	return cert, nil
}

// FormatCertificate writes a certificate as hexadecimal DER in capitals.
func FormatCertificate(cert *x509.Certificate) string {
	return strings.ToUpper(hex.EncodeToString(cert.Raw))
}

// A RegistrationStatus is how a registration went (wire.md 5.3).
type RegistrationStatus int

// The registration states.
const (
	Registered       RegistrationStatus = 0
	Pending          RegistrationStatus = 1
	Reset            RegistrationStatus = 2
	Failed           RegistrationStatus = 3
	CertificateReset RegistrationStatus = 4
)

// An ApprovalStatus says whether the site trusts a client.
type ApprovalStatus int

// The approval states.
const (
	ApprovalUnknown       ApprovalStatus = -1
	ApprovalPending       ApprovalStatus = 0
	Approved              ApprovalStatus = 1
	ApprovalNotApplicable ApprovalStatus = 2
	ApprovedByEntra       ApprovalStatus = 3
)

// Trusted reports whether a client in this state may do more than wait.
func (a ApprovalStatus) Trusted() bool { return a == Approved || a == ApprovedByEntra }

// A RegistrationResponse answers a registration or a confirmation.
type RegistrationResponse struct {
	ResponseType   string // Registration or Confirmation
	TimeStamp      time.Time
	Status         RegistrationStatus
	SMSID          opencmg.ClientID
	ApprovalStatus ApprovalStatus
}

type registrationResponseXML struct {
	XMLName        xml.Name `xml:"ClientRegistrationResponse"`
	ResponseType   string   `xml:"ResponseType,attr"`
	TimeStamp      string   `xml:"TimeStamp,attr"`
	Status         string   `xml:"Status,attr"`
	SMSID          string   `xml:"SMSID,attr"`
	ApprovalStatus string   `xml:"ApprovalStatus,attr"`
}

// Encode writes the response.
func (r RegistrationResponse) Encode() string {
	return formatXML(registrationResponseXML{
		ResponseType: r.ResponseType, TimeStamp: formatTime(r.TimeStamp), Status: fmt.Sprint(int(r.Status)),
		SMSID: string(r.SMSID), ApprovalStatus: fmt.Sprint(int(r.ApprovalStatus)),
	})
}

// ParseRegistrationResponse reads a response.
func ParseRegistrationResponse(text string) (RegistrationResponse, error) {
	var x registrationResponseXML
	if err := parseXML(text, &x); err != nil {
		return RegistrationResponse{}, fmt.Errorf("registration response: %w", err)
	}
	r := RegistrationResponse{ResponseType: x.ResponseType, TimeStamp: parseTime(x.TimeStamp), Status: RegistrationStatus(number(x.Status)), ApprovalStatus: ApprovalStatus(number(x.ApprovalStatus))}
	if x.SMSID != "" {
		var err error
		if r.SMSID, err = opencmg.ParseClientID(x.SMSID); err != nil {
			return RegistrationResponse{}, fmt.Errorf("registration response: %w", err)
		}
	}
	return r, nil
}
