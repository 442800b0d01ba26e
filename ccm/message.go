package ccm

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

// HTTP methods and paths of the message transport and its neighbours, relative
// to the management point's root (wire.md 1.2).
const (
	MethodCCMPost  = "CCM_POST"
	MethodBITSPost = "BITS_POST"

	PathRequest      = "/ccm_system/request"           // messages, client certificate or inside
	PathTokenRequest = "/ccm_system_tokenauth/request" // messages, token
	PathSTS          = "/CCM_STS"                      // token exchange
	PathIncoming     = "/ccm_incoming/"                // uploads
	PathLocation     = "/SMS_MP/.sms_aut"              // queries of location.go
	PathPolicy       = "/SMS_MP/.sms_pol"              // policy bodies
	PathDocument     = "/SMS_MP/.sms_dcm"              // configuration-item documents
	PathClient       = "/CCM_Client/"                  // client installation files
	PathNotification = "/BGB/handler.ashx"             // notification over HTTP

	// UserAgent is what OpenCMG's own client sends.
	UserAgent = "OpenCMG CCM 5.0"
)

// Target endpoints of messages (wire.md 3.4).
const (
	EndpointRegistration = "MP_ClientRegistration"
	EndpointLocation     = "MP_LocationManager"
	EndpointPolicy       = "MP_PolicyManager"
	EndpointToken        = "MP_TokenManager"
	EndpointClientID     = "MP_ClientIdManager"
	EndpointDDR          = "MP_DdrEndpoint"
	EndpointHardware     = "MP_HinvEndpoint"
	EndpointSoftware     = "MP_SinvEndpoint"
	EndpointRelay        = "MP_RelayEndpoint"
	EndpointStatus       = "StatusReceiver"
)

// Reply modes (wire.md 3.2).
const (
	ReplySync  = "Sync"
	ReplyAsync = "Async"
)

// A Message is one CCM_POST message or its reply: a header and a text. The
// zero values of the routing fields are filled in by [Message.Encode] where
// every receiver wants something.
type Message struct {
	// ID and CorrelationID are GUIDs in braces. Received ones may have any
	// form, or be empty: they only travel back to the sender.
	ID, CorrelationID string
	// SourceID is the sending client; empty before registration.
	SourceID   opencmg.ClientID
	SourceHost string // NetBIOS name

	TargetAddress  string // e.g. mp:[http]MP_PolicyManager
	TargetEndpoint string // routes the message
	TargetHost     string

	ReplyTo   string // direct:<host>:<local endpoint>
	ReplyMode string
	// RegistrationReset is the reply capability AllowRegistrationReset: where
	// the client takes the news that it must register anew.
	RegistrationReset string
	Priority, Timeout int
	// SentTime is the zero time when the sender's form was unreadable.
	SentTime time.Time
	// PlainReply says that the reply must not be compressed.
	PlainReply bool

	Properties  []Property
	Auth        *ClientAuth // hook clientauth; nil when absent
	Attachments []Attachment

	// Text is the uncompressed second part without its terminators. With
	// attachments it holds them too, one after the other; see [LastReport].
	Text string

	payload []byte // part 2 as received, which signatures cover
}

// A Property is a name with a value, as in headers and registrations.
type Property struct {
	Name  string `xml:"Name,attr"`
	Value string `xml:"Value,attr"`
}

// An Attachment describes data behind the body. Its offsets are not believed:
// working clients send ones that do not fit (wire.md 8.2).
type Attachment struct {
	Type   string `xml:"Type,attr,omitempty"`
	Name   string `xml:"Name,attr"`
	Length int    `xml:"Length,attr"`
	Offset int    `xml:"Offset,attr"`
}

// ClientAuth is the hook "clientauth": what a client says to prove who it is.
// Only PayloadSignature decides; the others vary between working clients and
// are for the log.
type ClientAuth struct {
	SenderMachine     string
	PublicKey         string // hexadecimal PUBLICKEYBLOB, see MarshalPublicKey
	ClientIDSignature string
	PayloadSignature  string
	Capabilities      string
	HashAlgorithm     string
	Token             string // lines ClientToken: and ClientTokenSignature:
}

// Limits bound what [ParseMessage] takes.
type Limits struct {
	// MaxText is the largest uncompressed second part in bytes; 0 means
	// DefaultMaxText.
	MaxText int64
}

// ErrEmpty is what [ParseMessage] returns for an empty body. In a reply that
// means "not for you": an unknown client, a bad signature, or nothing ready
// yet; clients wait some seconds and repeat (wire.md 3.3).
var ErrEmpty = &opencmg.Error{Kind: opencmg.Unavailable, Msg: "the message is empty"}

// ParseMessage reads a multipart message in every variant that working clients
// send: any boundary and element order, with or without braces, hooks,
// form-data fields, compression and final CRLF. The result keeps parts of
// body.
func ParseMessage(contentType string, body []byte, limits Limits) (*Message, error) {
	if len(body) == 0 {
		return nil, ErrEmpty
	}
	parts, err := splitParts(contentType, body)
	if err != nil {
		return nil, err
	}
	if len(parts) < 2 {
		return nil, opencmg.Errorf(opencmg.Invalid, "message has %d parts: must have a header and a body", len(parts))
	}
	if len(parts[0]) > maxHeaderBytes {
		return nil, opencmg.Errorf(opencmg.TooLarge, "message header is longer than %d bytes", maxHeaderBytes)
	}
	m := &Message{payload: parts[1]}
	headerText, err := decodeText(parts[0])
	if err != nil {
		return nil, fmt.Errorf("message header: %w", err)
	}
	if err := m.parseHeader(headerText); err != nil {
		return nil, err
	}
	data, err := inflate(parts[1], limits.MaxText)
	if err != nil {
		return nil, err
	}
	if m.Text, err = decodeText(data); err != nil {
		return nil, fmt.Errorf("message body: %w", err)
	}
	return m, nil
}

// VerifyPayload checks the hook's PayloadSignature over the second part as it
// was received.
func (m *Message) VerifyPayload(key *rsa.PublicKey) error {
	if m.Auth == nil || m.Auth.PayloadSignature == "" {
		return opencmg.Errorf(opencmg.Unauthorized, "message has no payload signature")
	}
	if err := Verify(key, m.payload, m.Auth.PayloadSignature); err != nil {
		return fmt.Errorf("payload signature: %w", err)
	}
	return nil
}

// Property returns the value of the header property, empty when absent.
func (m *Message) Property(name string) string {
	for _, p := range m.Properties {
		if strings.EqualFold(p.Name, name) {
			return p.Value
		}
	}
	return ""
}

// Encode writes the message compressed and, with a key, signed by the hook
// clientauth: compress, sign the compressed bytes, put the signature into the
// header. It returns the Content-Type and the body of the CCM_POST.
func (m *Message) Encode(key crypto.Signer) (contentType string, body []byte, err error) {
	text := EncodeUTF16Z(m.Text)
	payload := deflate(append(text, '\r', '\n'))
	h := m.header(len(text))
	if key != nil {
		pub, ok := key.Public().(*rsa.PublicKey)
		if !ok {
			return "", nil, opencmg.Errorf(opencmg.Invalid, "sign message: the key must be RSA")
		}
		auth := ClientAuth{SenderMachine: m.SourceHost, PublicKey: MarshalPublicKey(pub), Capabilities: "NonSSL", HashAlgorithm: HashSHA256}
		if auth.PayloadSignature, err = Sign(key, payload); err != nil {
			return "", nil, err
		}
		if auth.ClientIDSignature, err = Sign(key, EncodeUTF16Z(string(m.SourceID))); err != nil {
			return "", nil, err
		}
		h.Hooks.Hooks = append(h.Hooks.Hooks, auth.hook())
	}
	h.Hooks.Hooks = append(h.Hooks.Hooks, hook{XMLName: xml.Name{Local: "Hook3"}, Name: "zlib-compress"})
	return joinParts(formatXML(h), payload, true)
}

// Reply writes the answer to m from the given host: text compressed unless m
// asked for a plain reply, with exactly one character behind the document,
// because clients drop the last one unseen (wire.md 3.3).
func (m *Message) Reply(host, text string) (contentType string, body []byte, err error) {
	endpoint := m.ReplyTo
	if i := strings.LastIndexByte(endpoint, ':'); i >= 0 {
		endpoint = endpoint[i+1:]
	}
	r := Message{CorrelationID: m.ID, SourceHost: host, TargetAddress: m.ReplyTo, TargetEndpoint: endpoint, TargetHost: m.SourceHost, ReplyMode: "Reply"}
	data := EncodeUTF16Z(text)
	h := r.header(len(data))
	if m.PlainReply {
		return joinParts(formatXML(h), data, false)
	}
	h.Hooks.Hooks = []hook{{XMLName: xml.Name{Local: "Hook3"}, Name: "zlib-compress"}}
	return joinParts(formatXML(h), deflate(data), true)
}

// header is the document <Msg>. Receivers accept any element order.
type header struct {
	XMLName           xml.Name `xml:"Msg"`
	ReplyCompression  string   `xml:"ReplyCompression,attr,omitempty"`
	SchemaVersion     string   `xml:"SchemaVersion,attr"`
	ID                string
	SourceID          string `xml:",omitempty"`
	SourceHost        string
	TargetAddress     string
	TargetEndpoint    string
	TargetHost        string
	ReplyTo           string `xml:",omitempty"`
	ReplyMode         string
	ReplyCapabilities struct {
		AllowRegistrationReset string `xml:",omitempty"`
	}
	CorrelationID string
	Protocol      string
	Priority      string
	Timeout       string
	SentTime      string
	Property      []Property
	Body          struct {
		Type   string `xml:"Type,attr"`
		Offset string `xml:"Offset,attr"`
		Length string `xml:"Length,attr"`
	}
	Attachment []attachmentXML
	Hooks      struct {
		Hooks []hook `xml:",any"`
	}
	Payload struct {
		Type string `xml:"Type,attr"`
	}
}

// attachmentXML keeps the numbers as text, because no number in a header may
// make the message unreadable.
type attachmentXML struct {
	Type   string `xml:"Type,attr,omitempty"`
	Name   string `xml:"Name,attr"`
	Length string `xml:"Length,attr"`
	Offset string `xml:"Offset,attr"`
}

type hook struct {
	XMLName  xml.Name
	Name     string `xml:"Name,attr"`
	Property []hookProperty
}

type hookProperty struct {
	Name string `xml:"Name,attr"`
	Text string `xml:",chardata"`
}

func (m *Message) parseHeader(text string) error {
	var h header
	if err := parseXML(text, &h); err != nil {
		return fmt.Errorf("message header: %w", err)
	}
	if id := strings.TrimSpace(h.SourceID); id != "" {
		var err error
		if m.SourceID, err = opencmg.ParseClientID(id); err != nil {
			return fmt.Errorf("message header: SourceID: %w", err)
		}
	}
	m.ID, m.CorrelationID = h.ID, h.CorrelationID
	m.SourceHost, m.ReplyTo, m.ReplyMode = h.SourceHost, h.ReplyTo, h.ReplyMode
	m.TargetAddress, m.TargetEndpoint, m.TargetHost = h.TargetAddress, strings.TrimSpace(h.TargetEndpoint), h.TargetHost
	m.Priority, m.Timeout = number(h.Priority), number(h.Timeout)
	m.SentTime = parseTime(h.SentTime)
	m.PlainReply = strings.EqualFold(h.ReplyCompression, "none")
	m.Properties = h.Property
	m.RegistrationReset = h.ReplyCapabilities.AllowRegistrationReset
	for _, a := range h.Attachment {
		m.Attachments = append(m.Attachments, Attachment{a.Type, a.Name, number(a.Length), number(a.Offset)})
	}
	for _, k := range h.Hooks.Hooks {
		if !strings.EqualFold(k.Name, "clientauth") {
			continue
		}
		m.Auth = new(ClientAuth)
		for _, p := range k.Property {
			if f := m.Auth.field(p.Name); f != nil {
				*f = strings.TrimSpace(p.Text)
			}
		}
	}
	return nil
}

// header makes the document for a text of length bytes, filling in what the
// caller left out.
func (m *Message) header(length int) *header {
	h := &header{
		SchemaVersion: "1.1", ID: m.ID, SourceID: string(m.SourceID), SourceHost: m.SourceHost,
		TargetAddress: m.TargetAddress, TargetEndpoint: m.TargetEndpoint, TargetHost: m.TargetHost,
		ReplyTo: m.ReplyTo, ReplyMode: m.ReplyMode, CorrelationID: m.CorrelationID,
		Protocol: "http", Priority: strconv.Itoa(m.Priority), Timeout: strconv.Itoa(m.Timeout), Property: m.Properties,
	}
	if m.PlainReply {
		h.ReplyCompression = "none"
	}
	if h.ID == "" {
		h.ID = NewGUID()
	}
	if h.CorrelationID == "" {
		h.CorrelationID = "{00000000-0000-0000-0000-000000000000}"
	}
	if h.TargetAddress == "" {
		h.TargetAddress = "mp:" + m.TargetEndpoint
	}
	if h.ReplyMode == "" {
		h.ReplyMode = ReplySync
	}
	if m.Timeout == 0 {
		h.Timeout = "60000"
	}
	h.ReplyCapabilities.AllowRegistrationReset = m.RegistrationReset
	sent := m.SentTime
	if sent.IsZero() {
		sent = time.Now()
	}
	h.SentTime = formatTime(sent)
	h.Body.Type, h.Body.Offset, h.Body.Length = "ByteRange", "0", strconv.Itoa(length)
	for _, a := range m.Attachments {
		h.Attachment = append(h.Attachment, attachmentXML{a.Type, a.Name, strconv.Itoa(a.Length), strconv.Itoa(a.Offset)})
	}
	h.Payload.Type = "inline"
	return h
}

// field returns where the named hook property belongs; nil for unknown ones.
func (a *ClientAuth) field(name string) *string {
	switch strings.ToLower(name) {
	case "authsendermachine":
		return &a.SenderMachine
	case "publickey":
		return &a.PublicKey
	case "clientidsignature":
		return &a.ClientIDSignature
	case "payloadsignature":
		return &a.PayloadSignature
	case "clientcapabilities", "clientcapability":
		return &a.Capabilities
	case "hashalgorithm":
		return &a.HashAlgorithm
	case "token":
		return &a.Token
	}
	return nil
}

func (a *ClientAuth) hook() hook {
	h := hook{XMLName: xml.Name{Local: "Hook2"}, Name: "clientauth"}
	for _, name := range []string{"AuthSenderMachine", "PublicKey", "ClientIDSignature", "PayloadSignature", "ClientCapabilities", "HashAlgorithm"} {
		h.Property = append(h.Property, hookProperty{name, *a.field(name)})
	}
	return h
}

// NewGUID returns a random GUID in capitals and braces (RFC 9562 version 4).
func NewGUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("{%X-%X-%X-%X-%X}", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// NewClientID returns a random client ID.
func NewClientID() opencmg.ClientID {
	return opencmg.ClientID("GUID:" + strings.Trim(NewGUID(), "{}"))
}

func number(s string) int {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		return 0
	}
	return n
}
