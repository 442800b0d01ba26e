package ccm

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

// A TokenReply is the answer of CCM_STS, in the form of an OAuth 2.0 token
// response (RFC 6749 section 5.1).
type TokenReply struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"` // TokenScheme
	ExpiresIn   int    `json:"expires_in"` // seconds
	// ID is how the site lists and blocks the token.
	ID string `json:"token_id,omitempty"`
	// ClientID is the registered client that the token names, if it names one.
	ClientID opencmg.ClientID `json:"client_id,omitempty"`
}

// ParseTokenReply reads the answer of CCM_STS.
func ParseTokenReply(body []byte) (TokenReply, error) {
	var r TokenReply
	if err := json.Unmarshal(body, &r); err != nil || r.AccessToken == "" {
		return TokenReply{}, &opencmg.Error{Kind: opencmg.Invalid, Msg: "token service: the answer holds no token", Err: err}
	}
	if r.ClientID != "" {
		if err := r.ClientID.Validate(); err != nil {
			return TokenReply{}, fmt.Errorf("token service: %w", err)
		}
	}
	return r, nil
}

// A TokenManagerRequest is the text of a message to MP_TokenManager.
type TokenManagerRequest struct {
	RequestType string // TokenRequestIssue
	ClientID    opencmg.ClientID
}

// A TokenManagerReply hands out a client token.
type TokenManagerReply struct {
	ClientID opencmg.ClientID
	ID       string // how the site lists and blocks the token
	Token    string
	Expires  time.Time
	// Renew is when the client should ask again.
	Renew time.Time
}

type tokenRequestXML struct {
	XMLName     xml.Name `xml:"TokenRequest"`
	Schema      string   `xml:"SchemaVersion,attr"`
	RequestType string   `xml:"RequestType,attr"`
	ClientID    string
}

type tokenReplyXML struct {
	XMLName  xml.Name `xml:"TokenReply"`
	Schema   string   `xml:"SchemaVersion,attr"`
	ClientID string
	Token    struct {
		ID      string `xml:"ID,attr"`
		Expires string `xml:"Expires,attr"`
		Renew   string `xml:"Renew,attr"`
		Text    string `xml:",chardata"`
	}
}

// Encode writes the request.
func (r TokenManagerRequest) Encode() string {
	return formatXML(tokenRequestXML{Schema: "1.00", RequestType: orDefault(r.RequestType, TokenRequestIssue), ClientID: string(r.ClientID)})
}

// ParseTokenManagerRequest reads the request.
func ParseTokenManagerRequest(text string) (TokenManagerRequest, error) {
	var x tokenRequestXML
	if err := parseXML(text, &x); err != nil {
		return TokenManagerRequest{}, fmt.Errorf("token request: %w", err)
	}
	id, err := opencmg.ParseClientID(x.ClientID)
	if err != nil {
		return TokenManagerRequest{}, fmt.Errorf("token request: %w", err)
	}
	if x.RequestType != TokenRequestIssue {
		return TokenManagerRequest{}, opencmg.Errorf(opencmg.Invalid, "token request: RequestType must be %s", TokenRequestIssue)
	}
	return TokenManagerRequest{x.RequestType, id}, nil
}

// Encode writes the reply.
func (r TokenManagerReply) Encode() string {
	x := tokenReplyXML{Schema: "1.00", ClientID: string(r.ClientID)}
	x.Token.ID, x.Token.Text = r.ID, r.Token
	x.Token.Expires, x.Token.Renew = formatTime(r.Expires), formatTime(r.Renew)
	return formatXML(x)
}

// ParseTokenManagerReply reads the reply.
func ParseTokenManagerReply(text string) (TokenManagerReply, error) {
	var x tokenReplyXML
	if err := parseXML(text, &x); err != nil {
		return TokenManagerReply{}, fmt.Errorf("token reply: %w", err)
	}
	id, err := opencmg.ParseClientID(x.ClientID)
	if err != nil {
		return TokenManagerReply{}, fmt.Errorf("token reply: %w", err)
	}
	r := TokenManagerReply{ClientID: id, ID: x.Token.ID, Token: strings.TrimSpace(x.Token.Text), Expires: parseTime(x.Token.Expires), Renew: parseTime(x.Token.Renew)}
	if r.Token == "" || r.Expires.IsZero() {
		return TokenManagerReply{}, opencmg.Errorf(opencmg.Invalid, "token reply: holds no token")
	}
	return r, nil
}
