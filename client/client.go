// Package client is the agent on a device: it registers with a site, takes
// policy and locations, sends inventory and listens for notification, through
// a gateway on the internet or straight to a management point inside.
//
// A [Client] lives in a state directory. [Create] makes one from ccmsetup's
// words ([ParseInstall]); [Open] comes back to it. Each act is a method that
// takes a context and returns a [StepResult] with its duration: Register,
// Token, Location, Policy, Heartbeat, Inventory, StateMessage, NotifyTest.
// [Client.Run] does them all on schedule until its context ends.
//
// How a client proves itself follows one order (cmg-behaviour K23): a valid
// PKI certificate wins, then Microsoft Entra, then a site token. With either
// kind of token it presents its own self-signed certificate in the TLS
// handshake, because the tokens are bound to that key.
//
// Start reading at transport.go (one request), then auth.go (who am I),
// steps.go (the acts) and run.go (the schedule).
package client

import (
	"context"
	"log/slog"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
)

// Config is what a client needs besides its state. Only StateDir is required.
type Config struct {
	// StateDir holds keys and state, mode 0700. One process uses it at a time.
	StateDir string
	// CAFile holds PEM roots to trust besides the system's.
	CAFile string
	// CertFile and KeyFile are a PKI client certificate with its chain and
	// its key, PEM. Empty means none.
	CertFile, KeyFile string
	// Entra gets tokens for this device. Nil means that the device has no
	// Entra identity.
	Entra EntraTokenSource
	// ConnectTo redirects connections, see ParseConnectTo.
	ConnectTo []ConnectTo
	// Host describes this device; nil means to find out.
	Host *HostFacts
	// FastChannelPort is the TCP notification port of inside management
	// points; 0 means 10123.
	FastChannelPort int
	// Intervals of Run; zero fields mean the product's defaults.
	Intervals Intervals
	Now       func() time.Time // nil: time.Now
	Log       *slog.Logger     // nil discards
}

// Intervals are the times between the repeated acts of [Client.Run].
type Intervals struct {
	Policy        time.Duration // default 60 minutes (K8)
	Location      time.Duration // default 24 hours (K2)
	GatewaySearch time.Duration // CMGFQDNs, default 25 hours (K5)
	Heartbeat     time.Duration // default 7 days
	Inventory     time.Duration // default 7 days
	KeepAlive     time.Duration // of the notification channel, default 15 minutes
	Retry         time.Duration // first wait after a failed act, default 30 seconds, doubled up to 15 minutes
}

// An EntraTokenSource gets an access token of this device for a resource. The
// device token comes first, a user token may stand in for it (cmg-behaviour
// K21).
type EntraTokenSource interface {
	EntraToken(ctx context.Context, r EntraTokenRequest) (token string, err error)
}

// An EntraTokenRequest says which token is wanted.
type EntraTokenRequest struct {
	TenantID    string
	ClientAppID string
	ResourceURI string
}

// Auth is how a client proves itself, in the words of lab reports and status.
type Auth string

// The ways, in order of precedence (cmg-behaviour K23).
const (
	AuthPKI   Auth = "pki"
	AuthEntra Auth = "entra"
	AuthToken Auth = "token"
)

// A StepResult is what one act did.
type StepResult struct {
	Step string `json:"step"`
	OK   bool   `json:"ok"`
	// Milliseconds is how long the act took as a whole, retries included.
	// For NotifyTest it is the round trip of the notification.
	Milliseconds float64 `json:"ms"`
	Detail       string  `json:"detail,omitempty"` // for people
	// CorrelationID is that of the last request, for opencmg explain.
	CorrelationID string `json:"correlationId,omitempty"`
	Error         string `json:"error,omitempty"`
}

// The names of the steps.
const (
	StepRegister     = "register"
	StepToken        = "token"
	StepPolicy       = "policy"
	StepLocation     = "location"
	StepHeartbeat    = "heartbeat"
	StepInventory    = "inventory"
	StepState        = "state"
	StepNotification = "notification"
)

// A Client is one installed agent. Its methods may be called by many
// goroutines at once; acts on its state are taken one after the other.
type Client struct {
	cfg Config
}

// Create makes the state directory for a new installation, or takes up the
// one that is there with the new words: keys and client ID stay, so that a
// device that is installed again stays the same client. It asks nobody on the
// network.
func Create(c Config, in *Installation) (*Client, error) { panic("to come") }

// Open takes up the client in Config.StateDir. Without one the error is
// opencmg.NotFound; damaged state is opencmg.Invalid and never replaced.
func Open(c Config) (*Client, error) { panic("to come") }

// Close lets go of idle connections.
func (c *Client) Close() { panic("to come") }

// Install does what a device must have done before it counts as installed:
// registers, gets its token, and learns its location and policy. It stops at
// the first step that fails; doing it again continues.
func (c *Client) Install(ctx context.Context) ([]StepResult, error) { panic("to come") }

// Register makes the device known to the site, or confirms that it is.
func (c *Client) Register(ctx context.Context) (StepResult, error) { panic("to come") }

// Token gets or renews the token that later requests carry. With a PKI
// certificate none is needed, and one is exchanged at the token service all
// the same, to show that it works.
func (c *Client) Token(ctx context.Context) (StepResult, error) { panic("to come") }

// Policy asks for assignments and downloads the body of every policy that is
// new.
func (c *Client) Policy(ctx context.Context) (StepResult, error) { panic("to come") }

// Location asks for the site's information and its management points, and
// keeps the gateways found.
func (c *Client) Location(ctx context.Context) (StepResult, error) { panic("to come") }

// Heartbeat sends discovery data (DDR).
func (c *Client) Heartbeat(ctx context.Context) (StepResult, error) { panic("to come") }

// Inventory sends a full hardware inventory.
func (c *Client) Inventory(ctx context.Context) (StepResult, error) { panic("to come") }

// StateMessage sends state messages.
func (c *Client) StateMessage(ctx context.Context, states ...ccm.StateMessage) (StepResult, error) {
	panic("to come")
}

// NotifyTest opens a notification channel, asks the management point to notify
// this very client, and measures the round trip.
func (c *Client) NotifyTest(ctx context.Context) (StepResult, error) { panic("to come") }

// Run keeps the client at work until ctx ends: notification channel, policy,
// location, heartbeat, inventory and token renewal, jittered and repeated. It
// returns nil when ctx ended.
func (c *Client) Run(ctx context.Context) error { panic("to come") }

// NetworkChanged tells a running client that addresses or routes changed. It
// looks anew where it is (cmg-behaviour K5). It never blocks.
func (c *Client) NetworkChanged() {}

// Status tells what the client knows about itself, without asking anybody.
func (c *Client) Status() Status { panic("to come") }

// Status is the answer to "opencmg client status".
type Status struct {
	Location        string           `json:"location"` // "Currently intranet" or "Currently Internet"
	ClientID        opencmg.ClientID `json:"clientId,omitempty"`
	Auth            Auth             `json:"auth"`
	Approval        string           `json:"approval"`
	Site            opencmg.SiteCode `json:"site,omitempty"`
	Gateway         string           `json:"gateway,omitempty"`         // in use, e.g. gw.example.com/CCM_Proxy_MutualAuth/8
	Gateways        []string         `json:"gateways,omitempty"`        // all known
	ManagementPoint string           `json:"managementPoint,omitempty"` // inside, in use
	TokenExpires    time.Time        `json:"tokenExpires,omitzero"`
	LastPolicy      time.Time        `json:"lastPolicy,omitzero"`
	Policies        int              `json:"policies"`
	LastLocation    time.Time        `json:"lastLocation,omitzero"`
	LastHeartbeat   time.Time        `json:"lastHeartbeat,omitzero"`
	LastInventory   time.Time        `json:"lastInventory,omitzero"`
	StateDir        string           `json:"stateDir"`
}

// String is the status as lines for people.
func (s Status) String() string { panic("to come") }
