package adminservice

import (
	"log/slog"
	"time"

	"github.com/opencmg/opencmg"
)

// What a site and its systems say to each other. A site system is a connection
// point or a management point on a host of its own. It joins once with a join
// token, and from then on signs in with the certificate that it got.

// Paths of site systems. All but [JoinPath] want a certificate of the site CA.
const (
	// JoinPath takes a JoinRequest by POST and answers a JoinReply. The join
	// token in it authenticates.
	JoinPath = BasePath + "SiteSystem/Join"
	// DocumentsPath answers Documents to GET. With If-None-Match it waits up
	// to the seconds in the query parameter wait (at most 60) for a change,
	// and answers 304 when there was none.
	DocumentsPath = BasePath + "SiteSystem/Documents"
	// ReportPath takes a SiteSystemReport by POST and answers 204.
	ReportPath = BasePath + "SiteSystem/Report"
	// RenewPath takes a RenewRequest by POST and answers a JoinReply.
	RenewPath = BasePath + "SiteSystem/Renew"
	// GatewayJoinPath takes a GatewayJoinRequest of a connection point by POST
	// and answers a GatewayJoinReply.
	GatewayJoinPath = BasePath + "SiteSystem/GatewayJoin"
	// AnswersPath takes a SystemAnswer by POST and answers 204.
	AnswersPath = BasePath + "SiteSystem/Answers"
)

// Kinds of site systems.
const (
	SystemConnectionPoint = "connection-point"
	SystemManagementPoint = "management-point"
)

// A JoinToken is what an administrator carries to a host that joins: where the
// site is, how to know that it is the site, and a secret that opens the door a
// limited number of times for a limited time. As text it is base64url of its
// JSON, see [EncodeJoinToken].
type JoinToken struct {
	URL  string           `json:"url"`  // of the site, e.g. https://site.corp.example:8443
	Site opencmg.SiteCode `json:"site"` // its code
	// SiteCA is the lower-case hexadecimal SHA-256 of the site CA's
	// certificate, which the server's chain must end in. A host that joins has
	// nothing but this, so the server sends the site CA's certificate with its
	// chain.
	SiteCA string `json:"siteCa"`
	ID     string `json:"id"`     // by which the site lists and revokes it
	Secret string `json:"secret"` // never stored by the site
}

// A JoinRequest asks for a place in the site.
type JoinRequest struct {
	ID     string `json:"id"`     // of the join token
	Secret string `json:"secret"` // of the join token
	Kind   string `json:"kind"`   // SystemConnectionPoint or SystemManagementPoint
	Name   string `json:"name"`   // the host's name at the site
	// Request is a PEM certificate request (PKCS #10) for a key that never
	// leaves the host. Its names are ignored.
	Request string `json:"request"`
	// Addresses are the names and IP addresses by which others reach the
	// host; a management point's certificate covers them.
	Addresses []string `json:"addresses,omitempty"`
	// Internal is the URL by which connection points reach a management
	// point.
	Internal string `json:"internal,omitempty"`
}

// String hides the secret.
func (r JoinRequest) String() string {
	return "join request of " + r.Kind + " " + r.Name + " with token " + r.ID
}

// GoString hides the secret.
func (r JoinRequest) GoString() string { return r.String() }

// LogValue hides the secret.
func (r JoinRequest) LogValue() slog.Value { return slog.StringValue(r.String()) }

// A RenewRequest asks for a certificate for a new key.
type RenewRequest struct {
	Request string `json:"request"` // PEM certificate request
}

// A JoinReply is what a host needs to be a site system.
type JoinReply struct {
	Site         opencmg.SiteCode `json:"site"`
	Name         string           `json:"name"`
	ConnectionID string           `json:"connectionId,omitempty"` // of a connection point
	RoleID       opencmg.RoleID   `json:"roleId,omitempty"`       // of a management point
	SiteCA       string           `json:"siteCa"`                 // PEM
	Certificate  string           `json:"certificate"`            // PEM, for the request's key
}

// Documents are what the site wants a system to have. The signed ones are
// passed on and kept as they are.
type Documents struct {
	// Published is the signed published configuration of the gateway that a
	// connection point is linked to; for a management point, of any gateway of
	// the site, whose trust settings it follows. Empty when there is none yet.
	Published string `json:"published,omitempty"`
	// Mappings are a connection point's signed URL mappings and gateways.
	Mappings string `json:"mappings,omitempty"`
	// TokenSigning is the key that a management point signs tokens with.
	TokenSigning *TokenSigning `json:"tokenSigning,omitempty"`
	// Gateways are the service names, with a port unless 443, under which a
	// management point is published; it tells clients about them.
	Gateways []string `json:"gateways,omitempty"`
	// RenewBefore asks for a new certificate when the present one ends before
	// it.
	RenewBefore time.Time `json:"renewBefore,omitzero"`
	// InstanceLogs asks a connection point to send the log lines of the gateway
	// instances with its reports, as they are written. A site asks one
	// connection point of each gateway.
	InstanceLogs bool `json:"instanceLogs,omitempty"`
	// Probes is what a connection point is to look at from where it runs, at
	// most [opencmg.MaxProbes]; the findings come with its reports.
	Probes []opencmg.ProbeTarget `json:"probes,omitempty"`
	// ClientSettings and Locations are what a management point tells clients, in
	// place of what its configuration file says.
	ClientSettings *ClientSettings `json:"clientSettings,omitempty"`
	Locations      *Locations      `json:"locations,omitempty"`
	// Questions are what the site wants to know now, at most MaxQuestions. A
	// system answers each once; one that does not know the kind lets it be.
	Questions []SystemQuestion `json:"questions,omitempty"`
}

// MaxQuestions bounds the questions that a site asks at the same time.
const MaxQuestions = 32

// Kinds of questions.
const (
	// QuestionExplain asks for the records of one request. A connection point
	// asks the gateway instances too.
	QuestionExplain = "explain"
	// QuestionOnline asks a management point which of Clients listen for
	// notification there; without any, who does at all.
	QuestionOnline = "online"
	// QuestionWake asks a management point to let those of Clients that listen
	// there look for what they are to be sent; without any, those that have
	// something waiting.
	QuestionWake = "wake"
)

// MaxQuestionClients bounds the clients of a question.
const MaxQuestionClients = 200

// A SystemQuestion is what a site asks its systems. Somebody waits for the
// answer, for some seconds.
type SystemQuestion struct {
	ID            string `json:"id"`
	Kind          string `json:"kind"`
	CorrelationID string `json:"correlationId,omitempty"` // of the request to explain
	// Clients are at most [MaxQuestionClients].
	Clients []opencmg.ClientID `json:"clients,omitempty"`
	// IDsOnly asks who is online, and not how: they may be many.
	IDsOnly bool `json:"idsOnly,omitempty"`
}

// A SystemAnswer is what a system knows.
type SystemAnswer struct {
	Question string `json:"question"` // its ID
	// Records are the system's own and those that it got from others.
	Records []opencmg.RequestRecord `json:"records,omitempty"`
	// Asked are the others that it asked, such as gateway instances.
	Asked []AskedHop `json:"asked,omitempty"`
	// Online are the clients that listen at a management point.
	Online []ListeningClient `json:"online,omitempty"`
	// OnlineIDs are the same in answer to a question that is for IDs only.
	OnlineIDs []opencmg.ClientID `json:"onlineIds,omitempty"`
}

// A ListeningClient is a client that holds a notification connection to a
// management point.
type ListeningClient struct {
	ID        opencmg.ClientID `json:"id"`
	Transport string           `json:"transport"` // http or tcp
	Internet  bool             `json:"internet"`  // it comes through a gateway
	Since     time.Time        `json:"since"`
}

// TokenSigning is a token-signing key. It is a secret; String, GoString and
// LogValue hide the key. A site that changes it publishes the new certificate as a
// token issuer first, and gives the key to its management points after that.
type TokenSigning struct {
	Certificate string `json:"certificate"` // PEM
	Key         string `json:"key"`         // PEM, secret
	HierarchyID string `json:"hierarchyId"` // GUID
}

// String hides the key.
func (t TokenSigning) String() string { return "token-signing key of " + t.HierarchyID }

// GoString hides the key.
func (t TokenSigning) GoString() string { return t.String() }

// LogValue hides the key.
func (t TokenSigning) LogValue() slog.Value { return slog.StringValue(t.String()) }

// A SiteSystemReport is what a system tells the site: when something changes,
// and at least every 30 seconds.
type SiteSystemReport struct {
	Kind    string    `json:"kind"`
	Version string    `json:"version"` // of the program
	Started time.Time `json:"started"` // of the process
	// Published and Mappings are the versions of the documents that the system
	// took over last; 0 without one.
	Published uint64 `json:"published,omitempty"`
	Mappings  uint64 `json:"mappings,omitempty"`
	// Problem says why what the site gave was not taken over; empty when all
	// was.
	Problem string `json:"problem,omitempty"`
	// ConnectionPoint is a connection point's own status.
	ConnectionPoint *opencmg.ConnectionPointStatus `json:"connectionPoint,omitempty"`
	// Instances are what gateway instances said over the tunnel.
	Instances []opencmg.InstanceStatus `json:"instances,omitempty"`
	// Logs are lines of the instances' and the system's own logs since the
	// last report, at most 1,000.
	Logs []opencmg.LogLine `json:"logs,omitempty"`
	// CertificateEnds is when the system's own certificate ends.
	CertificateEnds time.Time `json:"certificateEnds,omitzero"`
	// Online counts the clients that listen at a management point, at most
	// [opencmg.MaxOnlineCounts] counts.
	Online []opencmg.OnlineClients `json:"online,omitempty"`
	// Probes is what the system found at the targets of its documents; nil
	// before the first look, and from a system that does not look.
	Probes *opencmg.ProbeReport `json:"probes,omitempty"`
}

// A GatewayJoinToken is what an administrator carries to a host that is to become
// an instance of a self-hosted gateway. The host can not reach the site; a
// connection point dials it. As text it is base64url of its JSON, see
// [EncodeGatewayJoinToken].
type GatewayJoinToken struct {
	Gateway     string           `json:"gateway"`
	ServiceName string           `json:"serviceName"`
	Site        opencmg.SiteCode `json:"site"`
	SiteCA      string           `json:"siteCa"` // PEM
	ID          string           `json:"id"`     // by which the site lists and revokes it
	// Secret proves that the host has the token. The site keeps its SHA-256.
	Secret string `json:"secret"`
	// HTTPSPort and TunnelPort are where connection points look for the host;
	// 0 means 443 and 10140.
	HTTPSPort  int `json:"httpsPort,omitempty"`
	TunnelPort int `json:"tunnelPort,omitempty"`
}

// String hides the secret.
func (t GatewayJoinToken) String() string {
	return "join token " + t.ID + " of gateway " + t.Gateway
}

// GoString hides the secret.
func (t GatewayJoinToken) GoString() string { return t.String() }

// LogValue hides the secret.
func (t GatewayJoinToken) LogValue() slog.Value { return slog.StringValue(t.String()) }

// A GatewayJoinRequest passes on what a host that wants to be an instance said
// to a connection point. The site checks the token's count, lifetime and source,
// and the proof with [opencmg.VerifyGatewayJoin].
type GatewayJoinRequest struct {
	Gateway string `json:"gateway"`
	opencmg.GatewayJoinProof
	// Exporter are the bytes that the proof is bound to, as the connection
	// point's own end of the connection gave them.
	Exporter []byte `json:"exporter"`
	// Address is the host's address and port as the connection point sees it;
	// behind a forward proxy the one that was asked for.
	Address string `json:"address"`
}

// A GatewayJoinReply is the site's decision. A host that asks again for the same
// key, because an answer was lost, gets the same instance number and costs the
// token nothing more.
type GatewayJoinReply struct {
	// Refused says, for the host's administrator, why the site wants no such
	// instance: the token is unknown, expired, used up or blocked, or does not
	// fit the address. Empty otherwise.
	Refused     string `json:"refused,omitempty"`
	Instance    int    `json:"instance"`
	Certificate string `json:"certificate,omitempty"` // PEM
}
