package adminservice

import (
	"encoding/json"
	"time"

	"github.com/opencmg/opencmg"
)

// The resources of the administration service. Every one that can be changed
// has an ID and a version; the version is its ETag. Fields marked "read only"
// are ignored in requests.

// A Site is the site as a whole (GET Site).
type Site struct {
	Code        opencmg.SiteCode `json:"code"`
	HierarchyID string           `json:"hierarchyId"` // GUID in the site's tokens
	SiteCA      string           `json:"siteCa"`      // PEM
	Version     string           `json:"version"`     // of the program
	Database    string           `json:"database"`    // sqlite or postgresql
	Created     time.Time        `json:"created"`
	// Environments are the clouds that the site may use, the default first.
	Environments []opencmg.Environment `json:"environments"`
	// Account is who asks, and Role what it may do.
	Account string `json:"account"`
	Role    Role   `json:"role"`
}

// A Role is what an administrator may do (design 8).
type Role string

// The roles.
const (
	FullAdministrator           Role = "Full Administrator"
	InfrastructureAdministrator Role = "Infrastructure Administrator"
	OperationsAdministrator     Role = "Operations Administrator"
	ReadOnlyAnalyst             Role = "Read-only Analyst"
)

// Roles lists the roles, the most powerful first.
func Roles() []Role {
	return []Role{FullAdministrator, InfrastructureAdministrator, OperationsAdministrator, ReadOnlyAnalyst}
}

// An Account is an administrator.
type Account struct {
	ID      string    `json:"id"`
	Version int64     `json:"version"`
	Name    string    `json:"name"`
	Role    Role      `json:"role"`
	Created time.Time `json:"created,omitzero"`
	// Exactly one way to sign in: the SHA-256 thumbprint of a client
	// certificate, the object ID of an Entra user with its tenant, or a local
	// token, which the answer to the creation shows once.
	CertificateThumbprint string `json:"certificateThumbprint,omitempty"`
	EntraTenantID         string `json:"entraTenantId,omitempty"`
	EntraObjectID         string `json:"entraObjectId,omitempty"`
	LocalToken            bool   `json:"localToken,omitempty"`
	// Token is the local token; only in the answer to the creation.
	Token string `json:"token,omitempty"`
}

// A Tenant is a Microsoft Entra tenant that the site knows.
type Tenant struct {
	ID          string              `json:"id"` // GUID
	Version     int64               `json:"version"`
	Name        string              `json:"name"`
	Environment opencmg.Environment `json:"environment"`
	// DisableAuthentication stops clients of the tenant from signing in
	// (cmg-behaviour S7).
	DisableAuthentication bool `json:"disableAuthentication"`
}

// Kinds of applications.
const (
	ServerApplication = "ServerApplication"
	ClientApplication = "ClientApplication"
)

// An Application is an Entra app registration, created by the site or
// imported. It never shows its secret.
type Application struct {
	ID         string `json:"id"`
	Version    int64  `json:"version"`
	Kind       string `json:"kind"` // ServerApplication or ClientApplication
	Name       string `json:"name"`
	TenantID   string `json:"tenantId"`
	TenantName string `json:"tenantName"`
	ClientID   string `json:"clientId"` // application ID, a GUID
	ObjectID   string `json:"objectId,omitempty"`
	// IdentifierURI is the server app's App ID URI, the resource that clients
	// ask tokens for.
	IdentifierURI string    `json:"identifierUri,omitempty"`
	Credential    string    `json:"credential,omitempty"` // secret, certificate, federated or managed-identity
	SecretExpires time.Time `json:"secretExpires,omitzero"`
	Imported      bool      `json:"imported"`
	ServerAppID   string    `json:"serverAppId,omitempty"` // of a client app: ID of its server app
}

// An ImportApplication records an existing registration.
type ImportApplication struct {
	Kind          string              `json:"kind"`
	Name          string              `json:"name"`
	TenantID      string              `json:"tenantId"`
	TenantName    string              `json:"tenantName,omitempty"`
	Environment   opencmg.Environment `json:"environment,omitempty"`
	ClientID      string              `json:"clientId"`
	IdentifierURI string              `json:"identifierUri,omitempty"`
	// One of these for a server app.
	Secret         string    `json:"secret,omitempty"`
	SecretExpires  time.Time `json:"secretExpires,omitzero"`
	CertificatePEM string    `json:"certificatePem,omitempty"` // certificate and key
	FederatedFile  string    `json:"federatedTokenFile,omitempty"`
	// ServerAppID names a client app's server app.
	ServerAppID string `json:"serverAppId,omitempty"`
	// SkipVerify records it without asking Entra.
	SkipVerify bool `json:"skipVerify,omitempty"`
}

// A CreateApplications makes both registrations in a tenant.
type CreateApplications struct {
	Environment opencmg.Environment `json:"environment,omitempty"`
	TenantID    string              `json:"tenantId"`
	// ServerName and ClientName are of the registrations; without one of them
	// the other is made alone.
	ServerName string `json:"serverName,omitempty"`
	ClientName string `json:"clientName,omitempty"`
	// ServerAppID is the ID of the site's record of the server app that a client
	// app alone is for.
	ServerAppID string `json:"serverAppId,omitempty"`
	// IdentifierURI is the App ID URI; empty means api://<tenant>/<random>.
	IdentifierURI string `json:"identifierUri,omitempty"`
	// SecretYears is 1 (default) or 2.
	SecretYears int `json:"secretYears,omitempty"`
	// DirectoryRead asks for Directory.Read.All, which discovery needs.
	DirectoryRead bool `json:"directoryRead,omitempty"`
	// SignIn is who creates them.
	SignIn SignIn `json:"signIn"`
	// Service is an Azure service to be added with what was made, at the end. Of
	// its applications it names only those that are not made here.
	Service *AzureService `json:"service,omitempty"`
}

// CreatedApplications is the result of an operation that created them: the IDs
// of the site's records.
type CreatedApplications struct {
	ServerAppID string `json:"serverAppId"`
	ClientAppID string `json:"clientAppId,omitempty"`
	// AzureServiceID is of the service that was added with them, if one was
	// asked for.
	AzureServiceID string `json:"azureServiceId,omitempty"`
}

// A SignIn is how the site signs in for an administrator. Exactly one of
// Secret, DeviceCode and ManagedIdentity.
type SignIn struct {
	// ClientID is of the app that Secret belongs to, of a user-assigned identity,
	// or of the public client for a device code; empty means Microsoft Azure CLI
	// there, which every tenant has.
	ClientID        string `json:"clientId,omitempty"`
	Secret          string `json:"secret,omitempty"`
	DeviceCode      bool   `json:"deviceCode,omitempty"` // the operation's text shows code and address
	ManagedIdentity bool   `json:"managedIdentity,omitempty"`
}

// An AzureService connects the site to a tenant by two applications
// (SMS_Azure_CloudService).
type AzureService struct {
	ID          string              `json:"id"` // a number
	Version     int64               `json:"version"`
	Name        string              `json:"name"`
	Description string              `json:"description,omitempty"`
	Environment opencmg.Environment `json:"environment"`
	ServerAppID string              `json:"serverAppId"`
	ClientAppID string              `json:"clientAppId"`
	TenantID    string              `json:"tenantId"` // read only

	UserDiscovery         bool     `json:"userDiscovery"`
	UserDeltaMinutes      int      `json:"userDeltaMinutes,omitempty"` // default 5
	UserFullHours         int      `json:"userFullHours,omitempty"`    // between full discoveries; default 24, at most 720
	GroupDiscovery        bool     `json:"groupDiscovery"`
	GroupDeltaMinutes     int      `json:"groupDeltaMinutes,omitempty"`
	GroupFullHours        int      `json:"groupFullHours,omitempty"`
	DiscoveredGroups      []string `json:"discoveredGroups,omitempty"` // display names; empty: all
	LastUserDiscovery     string   `json:"lastUserDiscovery,omitempty"`
	LastGroupDiscovery    string   `json:"lastGroupDiscovery,omitempty"`
	DiscoveredUsers       int      `json:"discoveredUsers"`       // read only
	DiscoveredGroupsCount int      `json:"discoveredGroupsCount"` // read only
}

// States of a gateway.
const (
	StateProvisioning = "Provisioning"
	StateReady        = "Ready"
	StateStopping     = "Stopping"
	StateStopped      = "Stopped"
	StateStarting     = "Starting"
	StateUpgrading    = "Upgrading"
	StateConverting   = "Converting"
	StateDeleting     = "Deleting"
	StateError        = "Error"
)

// Deployment models.
const (
	ModelScaleSet   = "VirtualMachineScaleSet"
	ModelSelfHosted = "SelfHosted"
	ModelClassic    = "Classic" // a record from an older site; can be converted
)

// GatewaySettings are what an administrator chooses for a gateway and may
// change later.
type GatewaySettings struct {
	Description string         `json:"description,omitempty"`
	Size        opencmg.VMSize `json:"size,omitempty"`      // default Standard
	Instances   int            `json:"instances,omitempty"` // 1 to 16, default 1
	// Certificates are the IDs of the trusted certificates that clients'
	// certificates must chain to; empty means all of the site's.
	Certificates []string `json:"certificates,omitempty"`
	// CheckRevocation, EnforceTLS12 and EnableContent default to true.
	CheckRevocation *bool  `json:"checkRevocation,omitempty"`
	EnforceTLS12    *bool  `json:"enforceTls12,omitempty"`
	MinTLS          string `json:"minTls,omitempty"` // "1.2" (default) or "1.3"
	EnableContent   *bool  `json:"enableContent,omitempty"`
	IPv6            bool   `json:"ipv6,omitempty"`
	// Thresholds of cmg-behaviour A1 to A3; nil means the defaults.
	Traffic *Threshold `json:"traffic,omitempty"`
	Storage *Threshold `json:"storage,omitempty"`
}

// A Threshold is a quota with alerts.
type Threshold struct {
	Enabled     bool `json:"enabled"`
	GB          int  `json:"gb"`
	WarningPct  int  `json:"warningPct"`
	CriticalPct int  `json:"criticalPct"`
	// StopService stops the gateway at the critical threshold; outbound
	// traffic only.
	StopService bool `json:"stopService,omitempty"`
}

// A NewGateway asks for a gateway.
type NewGateway struct {
	GatewaySettings
	Model       string              `json:"model,omitempty"` // default VirtualMachineScaleSet
	Environment opencmg.Environment `json:"environment,omitempty"`
	// ServerAppID is the ID of the server application that deploys; default is
	// that of the only Azure service.
	ServerAppID    string `json:"serverAppId,omitempty"`
	SubscriptionID string `json:"subscriptionId,omitempty"`
	Region         string `json:"region,omitempty"`
	ResourceGroup  string `json:"resourceGroup,omitempty"`
	// ExistingGroup says that the group is there already.
	ExistingGroup bool `json:"existingGroup,omitempty"`
	// Certificate is the server authentication certificate.
	Certificate ServerCertificate `json:"certificate"`
	// DeploymentName is the prefix of the deployment name; default is the
	// first label of the service name.
	DeploymentName string `json:"deploymentName,omitempty"`
}

// A ServerCertificate is a server authentication certificate with its key, or
// the wish to get one by ACME.
type ServerCertificate struct {
	PFX      []byte `json:"pfx,omitempty"` // base64 in JSON
	Password string `json:"password,omitempty"`
	// ServiceName chooses one of several DNS names, or a name below a
	// wildcard.
	ServiceName string `json:"serviceName,omitempty"`
	// ACME obtains and renews the certificate instead.
	ACME *ACME `json:"acme,omitempty"`
}

// A CertificateReport is what the site found in a server certificate (POST
// ServerCertificates/check).
type CertificateReport struct {
	Subject        string          `json:"subject"`
	Names          []string        `json:"names"`
	ServiceName    string          `json:"serviceName"`
	DeploymentName string          `json:"deploymentName"`
	Thumbprint     string          `json:"thumbprint"` // SHA-256
	Ends           time.Time       `json:"ends"`
	Checks         []opencmg.Check `json:"checks"`
}

// ACME says where and how to obtain certificates (RFC 8555).
type ACME struct {
	Directory string   `json:"directory"` // URL
	Contact   []string `json:"contact,omitempty"`
	Challenge string   `json:"challenge,omitempty"` // http-01 or tls-alpn-01; default tls-alpn-01
	// AcceptTerms says that the administrator agrees to the authority's terms
	// of service.
	AcceptTerms bool `json:"acceptTerms,omitempty"`
	// BindingKeyID and BindingKey (base64url) bind the site's account to one
	// that exists with the authority. The key is never shown.
	BindingKeyID string `json:"bindingKeyId,omitempty"`
	BindingKey   string `json:"bindingKey,omitempty"`
}

// A Gateway is a cloud management gateway of the site.
type Gateway struct {
	GatewaySettings
	ID      string `json:"id"` // AzureServiceID, a number
	Version int64  `json:"version"`

	Name           string              `json:"name"` // the prefix of service and deployment name
	ServiceName    string              `json:"serviceName"`
	DeploymentName string              `json:"deploymentName"` // full DNS name
	Model          string              `json:"model"`
	Environment    opencmg.Environment `json:"environment,omitempty"`
	TenantID       string              `json:"tenantId,omitempty"`
	SubscriptionID string              `json:"subscriptionId,omitempty"`
	ServerAppID    string              `json:"serverAppId,omitempty"`
	Region         string              `json:"region,omitempty"`
	ResourceGroup  string              `json:"resourceGroup,omitempty"`
	Created        time.Time           `json:"created"`

	State string `json:"state"`
	// Error says why the state is Error, with our next step; CloudError is the
	// cloud's own.
	Error       string              `json:"error,omitempty"`
	CloudError  *opencmg.CloudError `json:"cloudError,omitempty"`
	OperationID string              `json:"operationId,omitempty"` // under way
	// Actions are what may be asked of it in its present state: start, stop,
	// synchronize, upgrade, convert, retry, scale, renew-certificate,
	// obtain-certificate and delete.
	Actions []string `json:"actions,omitempty"`

	CertificateSubject    string    `json:"certificateSubject"`
	CertificateThumbprint string    `json:"certificateThumbprint"` // SHA-256
	CertificateEnds       time.Time `json:"certificateEnds"`
	ACME                  *ACME     `json:"acme,omitempty"`
	// CertificateTemporary marks the certificate of the site CA that a gateway
	// has until the first one came by ACME. No client trusts it.
	CertificateTemporary bool `json:"certificateTemporary,omitempty"`
	// CertificateRenewal is when the next one is asked for, and ACMEProblem why
	// the last attempt failed.
	CertificateRenewal time.Time `json:"certificateRenewal,omitzero"`
	ACMEProblem        string    `json:"acmeProblem,omitempty"`

	Configuration uint64     `json:"configuration"` // published version
	Addresses     []string   `json:"addresses,omitempty"`
	Machines      []Instance `json:"machines,omitempty"`

	EgressGB14Days    float64 `json:"egressGb14Days"`    // outbound of the last 14 days
	StorageGB         float64 `json:"storageGb"`         // used now
	StorageEgressGB30 float64 `json:"storageEgressGb30"` // 30 days (cmg-behaviour A7)
	// StorageKeysRotated is when a key of the storage account was replaced last
	// (cmg-behaviour M5).
	StorageKeysRotated time.Time `json:"storageKeysRotated,omitzero"`
}

// An Instance is one instance of a gateway as the site knows it.
type Instance struct {
	Number    int                     `json:"number"`
	Machine   string                  `json:"machine,omitempty"` // the cloud's instance ID; self-hosted: of its key
	Address   string                  `json:"address,omitempty"` // of a self-hosted one
	Power     string                  `json:"power,omitempty"`
	Health    string                  `json:"health,omitempty"`
	Connected bool                    `json:"connected"` // some connection point holds a tunnel
	Status    *opencmg.InstanceStatus `json:"status,omitempty"`
	// What it did between its last two reports: the processor time it used, in
	// percent of one core, and the requests it answered a second. nil as long as
	// it reported once.
	CPUPercent        *float64 `json:"cpuPercent,omitempty"`
	RequestsPerSecond *float64 `json:"requestsPerSecond,omitempty"`
}

// A RemoveInstance names an instance of a self-hosted gateway that is to go
// (POST Gateways/{id}/removeInstance).
type RemoveInstance struct {
	Number int `json:"number"`
}

// A ConnectionPoint is a connection point of the site.
type ConnectionPoint struct {
	ID           string                         `json:"id"`
	Version      int64                          `json:"version"`
	Name         string                         `json:"name"`
	ConnectionID string                         `json:"connectionId"`
	GatewayID    string                         `json:"gatewayId,omitempty"` // it is linked to
	Joined       time.Time                      `json:"joined"`
	LastReport   time.Time                      `json:"lastReport,omitzero"`
	Connected    bool                           `json:"connected"` // reported lately and holds tunnels
	Status       *opencmg.ConnectionPointStatus `json:"status,omitempty"`
	CertEnds     time.Time                      `json:"certificateEnds,omitzero"`
	Program      string                         `json:"program,omitempty"` // version
	// Problem is why it can not use what the site told it.
	Problem string `json:"problem,omitempty"`
}

// A SiteRole is a management point, a software update point, the
// administration service or any other internal service, with the switch that
// publishes it.
type SiteRole struct {
	ID      string         `json:"id"`
	Version int64          `json:"version"`
	Kind    string         `json:"kind"` // management-point, software-update-point, admin-service or service
	Name    string         `json:"name"`
	RoleID  opencmg.RoleID `json:"roleId"` // in external URLs; read only
	// Internal are the URLs by which connection points reach it.
	Internal []string `json:"internal"`
	// AllowGatewayTraffic is "Allow Configuration Manager cloud management
	// gateway traffic" (cmg-behaviour R1).
	AllowGatewayTraffic bool `json:"allowGatewayTraffic"`
	// Prefix is the external path of a service.
	Prefix string `json:"prefix,omitempty"`
	// Endpoints replace those that the kind has by default.
	Endpoints []opencmg.Endpoint `json:"endpoints,omitempty"`
	// Own marks one of our own management points, which joined.
	Own bool `json:"own"` // read only

	CA                  string `json:"ca,omitempty"` // PEM roots that vouch for it
	ServerName          string `json:"serverName,omitempty"`
	HostHeader          string `json:"hostHeader,omitempty"`
	HealthPath          string `json:"healthPath,omitempty"`
	ClientCertificate   bool   `json:"clientCertificate,omitempty"`
	CertificateRequired bool   `json:"certificateRequired,omitempty"`
	Identity            bool   `json:"identity,omitempty"`

	LastReport time.Time `json:"lastReport,omitzero"` // of our own; read only
}

// KindAdminService is a [SiteRole] that publishes this administration service
// through the gateway.
const KindAdminService = "admin-service"

// A TrustedCertificate is a root or intermediate that clients' certificates
// may chain to.
type TrustedCertificate struct {
	ID          string    `json:"id"`
	Version     int64     `json:"version"`
	Store       string    `json:"store"`       // RootCA or IntermediateCA
	Certificate string    `json:"certificate"` // PEM
	Subject     string    `json:"subject"`     // read only
	Thumbprint  string    `json:"thumbprint"`  // SHA-256, read only
	Ends        time.Time `json:"ends"`        // read only
	// RevocationList is the URL of the list that it issues, to be fetched
	// before the first client comes.
	RevocationList string `json:"revocationList,omitempty"`
}

// Certificate stores of a [TrustedCertificate].
const (
	RootCA         = "RootCA"
	IntermediateCA = "IntermediateCA"
)

// A TokenIssuer is another site's token-signing certificate that is trusted.
type TokenIssuer struct {
	ID           string    `json:"id"`
	Version      int64     `json:"version"`
	Certificate  string    `json:"certificate"` // PEM
	Issuer       string    `json:"issuer"`
	Audience     string    `json:"audience"`
	AllowUnbound bool      `json:"allowUnbound,omitempty"`
	Ends         time.Time `json:"ends"` // read only
}

// A BulkRegistrationToken is known by its ID only; Token is shown once.
type BulkRegistrationToken struct {
	ID      string    `json:"id"`
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
	Blocked bool      `json:"blocked"`
	Uses    int       `json:"uses"` // how many clients may register with it; 0 is any number
	Used    int       `json:"used"` // how many did
	// LastUsed is when a client registered with it last, or did so again.
	LastUsed    time.Time `json:"lastUsed,omitzero"`
	Sources     []string  `json:"sources,omitempty"` // CIDR prefixes from which clients may register
	Group       string    `json:"group,omitempty"`   // a label that its clients carry
	Description string    `json:"description,omitempty"`
	Token       string    `json:"token,omitempty"`
}

// A BlockedCertificate is a client certificate that is refused everywhere.
type BlockedCertificate struct {
	ID      string    `json:"id"` // SHA-256 thumbprint
	Version int64     `json:"version"`
	Reason  string    `json:"reason,omitempty"`
	Blocked time.Time `json:"blocked,omitzero"`
	// ClientID is the client that it was blocked with, if any; read only.
	ClientID opencmg.ClientID `json:"clientId,omitempty"`
}

// A JoinTokenRecord is what the site remembers of a join token.
type JoinTokenRecord struct {
	ID        string    `json:"id"`
	Version   int64     `json:"version"`
	Kind      string    `json:"kind"`                // connection-point, management-point or gateway
	GatewayID string    `json:"gatewayId,omitempty"` // joins or links to it
	Uses      int       `json:"uses"`                // left
	Used      int       `json:"used"`
	Expires   time.Time `json:"expires"`
	// Sources limits the addresses that may use it, as CIDR prefixes.
	Sources []string `json:"sources,omitempty"`
	// Minutes is its lifetime in requests; default 60.
	Minutes int `json:"minutes,omitempty"`
	// Hosts are the names or addresses at which connection points look for
	// hosts that join a gateway; default is the gateway's service name.
	// HTTPSPort and TunnelPort are where they listen; default 443 and 10140.
	Hosts      []string `json:"hosts,omitempty"`
	HTTPSPort  int      `json:"httpsPort,omitempty"`
	TunnelPort int      `json:"tunnelPort,omitempty"`
	// Token is shown once, in the answer to the creation.
	Token string `json:"token,omitempty"`
}

// A GatewayTraffic is what a gateway's instances counted for one endpoint in
// the hours that were asked for (GET Gateways/{id}/traffic). What goes out to
// clients is egress.
type GatewayTraffic struct {
	Endpoint      string `json:"endpoint"`
	Requests      int64  `json:"requests"`
	Failed        int64  `json:"failed"`
	RequestBytes  int64  `json:"requestBytes"`
	ResponseBytes int64  `json:"responseBytes"`
}

// States of an operation (cmg-behaviour M3).
const (
	OperationCreated    = "created"
	OperationInProgress = "in-progress"
	OperationCompleted  = "completed"
	OperationFailed     = "failed"
)

// An Operation is something that takes time.
type Operation struct {
	ID      string `json:"id"`
	Kind    string `json:"kind"` // create, upgrade, delete, stop, start, scale ...
	Subject string `json:"subject,omitempty"`
	State   string `json:"state"`
	Step    string `json:"step,omitempty"`
	Percent int    `json:"percent"`
	Text    string `json:"text,omitempty"`
	// Problem says what failed, why, and what to do.
	Problem    string              `json:"problem,omitempty"`
	CloudError *opencmg.CloudError `json:"cloudError,omitempty"`
	Account    string              `json:"account,omitempty"`
	Created    time.Time           `json:"created"`
	Changed    time.Time           `json:"changed"`
	Log        []OperationLog      `json:"log,omitempty"` // of a single operation
	// Result is what a completed one made, if anything.
	Result json.RawMessage `json:"result,omitempty"`
}

// An OperationLog is one line of an operation's progress.
type OperationLog struct {
	At   time.Time `json:"at"`
	Step string    `json:"step"`
	Text string    `json:"text"`
}

// A StatusMessage is an audited change or an event.
type StatusMessage struct {
	ID        int64             `json:"id"`
	At        time.Time         `json:"at"`
	Component string            `json:"component"`
	Severity  string            `json:"severity"`
	MessageID int               `json:"messageId"`
	Account   string            `json:"account,omitempty"`
	Subject   string            `json:"subject,omitempty"`
	Text      string            `json:"text"`
	Details   map[string]string `json:"details,omitempty"`
}

// An Alert is open until what it is about has passed.
type Alert struct {
	ID           int64     `json:"id"`
	Kind         string    `json:"kind"`
	Subject      string    `json:"subject,omitempty"`
	Severity     string    `json:"severity"`
	Text         string    `json:"text"`
	NextStep     string    `json:"nextStep,omitempty"`
	Opened       time.Time `json:"opened"`
	Changed      time.Time `json:"changed"`
	Closed       time.Time `json:"closed,omitzero"`
	Acknowledged string    `json:"acknowledged,omitempty"`
}

// An Expiry is one credential in the path and its end (design 12.2).
type Expiry struct {
	ID       string    `json:"id"`
	Kind     string    `json:"kind"` // server-certificate, app-secret ...
	Name     string    `json:"name"`
	Subject  string    `json:"subject,omitempty"` // what it belongs to
	Ends     time.Time `json:"ends"`
	Days     int       `json:"days"`               // left; negative: over
	Renewal  string    `json:"renewal,omitempty"`  // who renews it
	Severity string    `json:"severity,omitempty"` // warning or critical when it is near
}
