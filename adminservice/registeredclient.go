package adminservice

import (
	"time"

	"github.com/opencmg/opencmg"
)

// The clients of the site, as far as its database knows them: those of the
// management points that share it.

// Approvals of a [RegisteredClient].
const (
	ApprovalPending  = "pending"  // waits for an administrator
	ApprovalApproved = "approved" // by its certificate or token, or by an administrator
	ApprovalByEntra  = "approved-by-entra"
	ApprovalRefused  = "refused" // blocked
)

// Whether a client listens for notification.
const (
	OnlineYes     = "yes"
	OnlineNo      = "no"
	OnlineUnknown = "unknown" // a management point did not answer in time, or there is none
)

// A RegisteredClient is a client of the site (GET Clients).
type RegisteredClient struct {
	ID           opencmg.ClientID `json:"id"` // GUID:...
	Name         string           `json:"name"`
	FQDN         string           `json:"fqdn,omitempty"`
	AgentVersion string           `json:"agentVersion,omitempty"`
	Approval     string           `json:"approval"` // pending, approved, approved-by-entra or refused
	// Auth is how it registered: pki, entra, bulk-token, client-token,
	// ccm-token or none.
	Auth       opencmg.AuthMode `json:"auth"`
	Group      string           `json:"group,omitempty"` // of the bulk registration token
	Registered time.Time        `json:"registered"`
	LastSeen   time.Time        `json:"lastSeen"`
	// LastPolicy is its last request for policy, to the minute.
	LastPolicy  time.Time `json:"lastPolicy,omitzero"`
	Blocked     time.Time `json:"blocked,omitzero"`
	BlockedBy   string    `json:"blockedBy,omitempty"`
	BlockReason string    `json:"blockReason,omitempty"`
	// Online is yes when it listens for notification at a management point, no
	// or unknown.
	Online string `json:"online"`
	// Listening says where; more than one only while it moves.
	Listening []ClientListening `json:"listening,omitempty"`
}

// A ClientListening is a notification connection that a client holds.
type ClientListening struct {
	ManagementPoint string    `json:"managementPoint"` // name
	Transport       string    `json:"transport"`       // http or tcp
	Internet        bool      `json:"internet"`        // through a gateway; otherwise inside the network
	Since           time.Time `json:"since"`
}

// A ClientDetails is all that the site knows of a client (GET Clients/{id}).
type ClientDetails struct {
	RegisteredClient
	TenantID string `json:"tenantId,omitempty"` // what it proved in Entra when it registered
	DeviceID string `json:"deviceId,omitempty"`
	Subject  string `json:"subject,omitempty"` // of its PKI certificate
	// Thumbprint is the SHA-256 of the certificate that it proved in TLS when it
	// registered; SigningThumbprint of the one that proves its messages, which
	// ends at SigningEnds.
	Thumbprint        string    `json:"thumbprint,omitempty"`
	SigningThumbprint string    `json:"signingThumbprint"`
	SigningEnds       time.Time `json:"signingEnds"`
	// CertificateBlocked says that its certificate is refused everywhere, by
	// itself or with the client.
	CertificateBlocked bool                 `json:"certificateBlocked"`
	Inventory          []ClientReport       `json:"inventory"`     // latest reports
	States             []ClientState        `json:"states"`        // the latest 200 state messages
	Notifications      []ClientNotification `json:"notifications"` // the latest 100
	Tokens             []SiteToken          `json:"tokens"`        // the latest 100 that have not expired
}

// A ClientReport is an inventory or discovery report that the site keeps.
type ClientReport struct {
	Action   string    `json:"action"`           // GUID of the inventory action
	Name     string    `json:"name,omitempty"`   // hardware, software, discovery or files
	Full     bool      `json:"full"`             // false: changes since the full one
	Written  time.Time `json:"written,omitzero"` // by the client's clock
	Received time.Time `json:"received"`
}

// An Inventory is a report with what it says (GET
// Clients/{id}/inventory/{action}).
type Inventory struct {
	ClientReport
	Classes []InventoryClass `json:"classes"`
}

// An InventoryClass is a class of an inventory with its instances.
type InventoryClass struct {
	Namespace string              `json:"namespace,omitempty"`
	Class     string              `json:"class"`
	Instances []InventoryInstance `json:"instances"`
}

// An InventoryInstance holds the properties of one instance, in the order of the
// report.
type InventoryInstance struct {
	Properties []InventoryProperty `json:"properties"`
}

// An InventoryProperty is a property as the client sent it.
type InventoryProperty struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// A ClientState is the latest state message of one topic.
type ClientState struct {
	TopicType  int       `json:"topicType"`
	TopicID    string    `json:"topicId"`
	StateID    int       `json:"stateId"`
	Parameters []string  `json:"parameters,omitempty"`
	Written    time.Time `json:"written,omitzero"` // by the client's clock
	Received   time.Time `json:"received"`
}

// States of a [ClientNotification].
const (
	NotificationWaiting   = "waiting" // the client does not listen, or was not sent it yet
	NotificationDelivered = "delivered"
	NotificationAnswered  = "answered"
	NotificationFailed    = "failed" // answered with another return code than 0
	NotificationCancelled = "cancelled"
	NotificationExpired   = "expired" // not answered within a day, and sent no more
)

// A ClientNotification is a task that was sent to a client, or is to be.
type ClientNotification struct {
	ID          int64            `json:"id"` // push ID
	ClientID    opencmg.ClientID `json:"clientId"`
	ClientName  string           `json:"clientName,omitempty"` // empty when the client is gone
	OperationID int64            `json:"operationId,omitempty"`
	Task        string           `json:"task"` // its name, or the number of its type
	State       string           `json:"state"`
	Created     time.Time        `json:"created"`
	Delivered   time.Time        `json:"delivered,omitzero"`
	Answered    time.Time        `json:"answered,omitzero"`
	ReturnCode  int              `json:"returnCode"` // of the answer
}

// A BlockClient blocks a client (POST Clients/{id}/block).
type BlockClient struct {
	Reason string `json:"reason,omitempty"` // at most 1,000 characters
}

// A NotifyClient sends a task to one client (POST Clients/{id}/notify).
type NotifyClient struct {
	Task string `json:"task"` // machine-policy, hardware-inventory, discovery or test
}

// MaxOperationClients bounds the clients of one [ClientOperation].
const MaxOperationClients = 10_000

// A NotifyClients sends a task to clients (POST Notifications), which are named
// or chosen. More than [MaxOperationClients] are refused.
type NotifyClients struct {
	Task    string             `json:"task"` // as in NotifyClient
	Clients []opencmg.ClientID `json:"clients,omitempty"`
	Where   *ClientChoice      `json:"where,omitempty"` // instead of clients; empty: all
}

// A ClientChoice chooses clients as the query parameters of GET Clients do.
type ClientChoice struct {
	Search   string           `json:"search,omitempty"`
	Auth     opencmg.AuthMode `json:"auth,omitempty"`
	Approval string           `json:"approval,omitempty"`
	Group    string           `json:"group,omitempty"`
	Online   *bool            `json:"online,omitempty"`
}

// States of a [ClientOperation].
const (
	ClientOperationActive    = "active"
	ClientOperationCompleted = "completed" // everybody answered
	ClientOperationCancelled = "cancelled"
	ClientOperationExpired   = "expired" // a day is over, and not everybody answered
)

// A ClientOperation is a task that an administrator sent to clients (cmg-behaviour
// 11.1). It is kept for 30 days.
type ClientOperation struct {
	ID      int64     `json:"id"`
	Task    string    `json:"task"`
	Target  string    `json:"target"` // in words: which clients were asked
	State   string    `json:"state"`  // active, completed, cancelled or expired
	Account string    `json:"account"`
	Created time.Time `json:"created"`
	Clients int       `json:"clients"` // how many were asked
	// Delivered were sent the task, Answered answered it, and Failed did so with
	// another return code than 0.
	Delivered   int       `json:"delivered"`
	Answered    int       `json:"answered"`
	Failed      int       `json:"failed"`
	Cancelled   time.Time `json:"cancelled,omitzero"`
	CancelledBy string    `json:"cancelledBy,omitempty"`
}

// A SiteToken is what the site knows of a token that it issued to a client. The
// token itself is nowhere.
type SiteToken struct {
	ID         string           `json:"id"`
	Kind       opencmg.AuthMode `json:"kind"` // client-token (90 days) or ccm-token (8 hours)
	ClientID   opencmg.ClientID `json:"clientId,omitempty"`
	ClientName string           `json:"clientName,omitempty"`
	Thumbprint string           `json:"thumbprint,omitempty"` // of the certificate that it is bound to
	Issued     time.Time        `json:"issued"`
	Expires    time.Time        `json:"expires"`
	Blocked    bool             `json:"blocked"`
}
