package adminservice

import (
	"time"

	"github.com/opencmg/opencmg"
)

// Bodies of requests that change an object or ask for something. In the
// changes, a key that is missing (nil) leaves what it names as it is.

// A TenantChange changes a [Tenant] (PATCH Tenants/{id}).
type TenantChange struct {
	Name                  *string `json:"name,omitempty"`
	DisableAuthentication *bool   `json:"disableAuthentication,omitempty"`
}

// An AzureServiceChange changes an [AzureService] (PATCH AzureServices/{id}).
type AzureServiceChange struct {
	Name              *string   `json:"name,omitempty"`
	Description       *string   `json:"description,omitempty"`
	ServerAppID       *string   `json:"serverAppId,omitempty"`
	ClientAppID       *string   `json:"clientAppId,omitempty"`
	UserDiscovery     *bool     `json:"userDiscovery,omitempty"`
	UserDeltaMinutes  *int      `json:"userDeltaMinutes,omitempty"`
	UserFullHours     *int      `json:"userFullHours,omitempty"`
	GroupDiscovery    *bool     `json:"groupDiscovery,omitempty"`
	GroupDeltaMinutes *int      `json:"groupDeltaMinutes,omitempty"`
	GroupFullHours    *int      `json:"groupFullHours,omitempty"`
	DiscoveredGroups  *[]string `json:"discoveredGroups,omitempty"`
}

// A GatewayChange changes the settings of a [Gateway] (PATCH Gateways/{id}).
// Another size or number of instances is an operation.
type GatewayChange struct {
	Description     *string         `json:"description,omitempty"`
	Size            *opencmg.VMSize `json:"size,omitempty"`
	Instances       *int            `json:"instances,omitempty"` // 1 to 16
	Certificates    *[]string       `json:"certificates,omitempty"`
	CheckRevocation *bool           `json:"checkRevocation,omitempty"`
	EnforceTLS12    *bool           `json:"enforceTls12,omitempty"`
	MinTLS          *string         `json:"minTls,omitempty"` // "1.2" or "1.3"
	EnableContent   *bool           `json:"enableContent,omitempty"`
	Traffic         *Threshold      `json:"traffic,omitempty"`
	Storage         *Threshold      `json:"storage,omitempty"`
}

// A ConnectionPointChange links a [ConnectionPoint] to a gateway, named by ID or
// name; an empty text unlinks it (PATCH ConnectionPoints/{id}).
type ConnectionPointChange struct {
	GatewayID *string `json:"gatewayId"`
}

// A SiteRoleChange changes a [SiteRole] (PATCH SiteRoles/{id}). Its kind stays.
type SiteRoleChange struct {
	Name                *string             `json:"name,omitempty"`
	Internal            *[]string           `json:"internal,omitempty"`
	AllowGatewayTraffic *bool               `json:"allowGatewayTraffic,omitempty"`
	Prefix              *string             `json:"prefix,omitempty"`
	Endpoints           *[]opencmg.Endpoint `json:"endpoints,omitempty"` // empty: those of the kind
	CA                  *string             `json:"ca,omitempty"`
	ServerName          *string             `json:"serverName,omitempty"`
	HostHeader          *string             `json:"hostHeader,omitempty"`
	HealthPath          *string             `json:"healthPath,omitempty"`
	ClientCertificate   *bool               `json:"clientCertificate,omitempty"`
	CertificateRequired *bool               `json:"certificateRequired,omitempty"`
	Identity            *bool               `json:"identity,omitempty"`
}

// A NewBulkToken asks for a bulk registration token (POST
// BulkRegistrationTokens).
type NewBulkToken struct {
	Minutes int `json:"minutes,omitempty"` // lifetime; default 4,320, at most 10,080
	// Uses is how many clients may register with it, at most 1,000,000; 0 is
	// any number. A client that registers again with the same key counts once.
	Uses int `json:"uses,omitempty"`
	// Sources limits the addresses from which clients may register, as at most
	// 64 CIDR prefixes: the address that the gateway sees, or inside the
	// network the management point.
	Sources     []string `json:"sources,omitempty"`
	Group       string   `json:"group,omitempty"` // a label of at most 100 characters that its clients carry
	Description string   `json:"description,omitempty"`
}

// A RenewSecret asks for a new secret of a server application (POST
// Applications/{id}/renewSecret). The new secret may be given instead of made.
type RenewSecret struct {
	SecretYears int `json:"secretYears,omitempty"` // 1 (default) or 2
	// SignIn is who makes it; without it the application itself, which Entra
	// allows only to an application that owns itself.
	SignIn        *SignIn   `json:"signIn,omitempty"`
	Secret        string    `json:"secret,omitempty"`
	SecretExpires time.Time `json:"secretExpires,omitzero"`
}

// An UpdateSettings asks to bring a server application's registration up to date
// (POST Applications/{id}/updateSettings).
type UpdateSettings struct {
	// SignIn is who changes it; without it the application itself, which Entra
	// allows only to an application that owns itself.
	SignIn *SignIn `json:"signIn,omitempty"`
}

// A RegisterProviders asks to register what a gateway needs in a subscription
// (POST Applications/{id}/registerProviders, cmg-behaviour M6).
type RegisterProviders struct {
	SubscriptionID string `json:"subscriptionId"`
}

// A Class is an entry of the list of classes (GET [WMIPath]): an OData service
// document, JSON format 4.01 section 5.
type Class struct {
	Name string `json:"name"`
	Kind string `json:"kind"` // EntitySet
	URL  string `json:"url"`  // relative to the list
}
