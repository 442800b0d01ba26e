// Package declared is the state of a site as one file: [Export] writes it, [Make]
// compares it with the site and says what would change and what that costs, and
// [Plan.Apply] does exactly that.
//
// It is a client of the administration service and nothing else: what it can do,
// an administrator of the same role can do by hand. Objects go by name, or by
// what they are known by everywhere (tenant ID, client ID, thumbprint), never by
// numbers of one site, so that a file moves between sites. Secrets are not in
// it; what the site needs once to make an object is named by file.
//
// Read document.go for what a file holds, plan.go for how a change comes about,
// and apply.go for how it is made.
package declared

// APIVersion is the version of the file format that this package knows.
const APIVersion = "opencmg/v1"

// A Document is the declared state of a site. A section or key that is missing
// is left alone. In a section that is there, what the site has beyond it is left
// alone too, and shown, unless it is to be pruned.
type Document struct {
	// APIVersion is opencmg/v1.
	APIVersion string `yaml:"apiVersion"`
	// Tenants are Microsoft Entra tenants. One comes with its first application.
	Tenants []Tenant `yaml:"tenants"`
	// Applications are app registrations, created by a site or imported. An
	// existing one can not be changed.
	Applications []Application `yaml:"applications"`
	// AzureServices connect the site to tenants.
	AzureServices []AzureService `yaml:"azureServices"`
	// TrustedCertificates are those that clients' certificates may chain to.
	TrustedCertificates []TrustedCertificate `yaml:"trustedCertificates"`
	// TokenIssuers are other sites whose tokens are trusted.
	TokenIssuers []TokenIssuer `yaml:"tokenIssuers"`
	// SiteRoles are internal services with their URL mappings.
	SiteRoles []SiteRole `yaml:"siteRoles"`
	// Gateways are cloud management gateways.
	Gateways []Gateway `yaml:"gateways"`
	// ConnectionPoints are linked to gateways. They come by joining.
	ConnectionPoints []ConnectionPoint `yaml:"connectionPoints"`
	// DefaultBoundaryGroup is for clients that are in no other group.
	DefaultBoundaryGroup *DefaultBoundaryGroup `yaml:"defaultBoundaryGroup,omitempty"`
	// BoundaryGroups are all others.
	BoundaryGroups []BoundaryGroup `yaml:"boundaryGroups"`
	// ClientSettings are what every client is told to do.
	ClientSettings *ClientSettings `yaml:"clientSettings,omitempty"`
}

// A Tenant is a Microsoft Entra tenant.
type Tenant struct {
	ID                    string  `yaml:"id"` // GUID
	Name                  *string `yaml:"name,omitempty"`
	Environment           *string `yaml:"environment,omitempty" declared:"fixed"` // AzurePublicCloud or AzureUSGovernmentCloud
	DisableAuthentication *bool   `yaml:"disableAuthentication,omitempty"`        // clients of the tenant may not sign in
}

// An Application is an app registration.
type Application struct {
	ClientID      string  `yaml:"clientId"` // application ID, a GUID
	Kind          *string `yaml:"kind,omitempty" declared:"fixed"`
	Name          *string `yaml:"name,omitempty" declared:"fixed"`     // as in Entra
	TenantID      *string `yaml:"tenantId,omitempty" declared:"fixed"` // GUID
	IdentifierURI *string `yaml:"identifierUri,omitempty" declared:"fixed"`
	// ServerApp is the client ID of a client application's server application.
	ServerApp *string `yaml:"serverApp,omitempty" declared:"fixed"`
	// Credential is how a server application signs in. It is needed to import one
	// and not looked at later.
	Credential *Credential `yaml:"credential,omitempty" declared:"once"`
}

// A Credential is one of a secret, a certificate and a federated token. Files are
// relative to the declared file, but for the token, which is on the site server.
type Credential struct {
	SecretFile         *string `yaml:"secretFile,omitempty"`         // the secret in its first line
	SecretExpires      *string `yaml:"secretExpires,omitempty"`      // date (2027-01-31) or time (RFC 3339)
	CertificateFile    *string `yaml:"certificateFile,omitempty"`    // certificate and key in PEM
	FederatedTokenFile *string `yaml:"federatedTokenFile,omitempty"` // on the site server
	SkipVerify         *bool   `yaml:"skipVerify,omitempty"`         // import without asking Entra
}

// An AzureService connects the site to a tenant by two applications.
type AzureService struct {
	Name              string    `yaml:"name"`
	Description       *string   `yaml:"description,omitempty"`
	ServerApp         *string   `yaml:"serverApp,omitempty"` // client ID
	ClientApp         *string   `yaml:"clientApp,omitempty"` // client ID
	UserDiscovery     *bool     `yaml:"userDiscovery,omitempty"`
	UserDeltaMinutes  *int      `yaml:"userDeltaMinutes,omitempty"` // 5 to 1,440
	UserFullHours     *int      `yaml:"userFullHours,omitempty"`    // 1 to 720
	GroupDiscovery    *bool     `yaml:"groupDiscovery,omitempty"`
	GroupDeltaMinutes *int      `yaml:"groupDeltaMinutes,omitempty"` // 5 to 1,440
	GroupFullHours    *int      `yaml:"groupFullHours,omitempty"`    // 1 to 720
	DiscoveredGroups  *[]string `yaml:"discoveredGroups,omitempty"`  // display names; empty: all
}

// A TrustedCertificate is a root or intermediate, known by its thumbprint.
type TrustedCertificate struct {
	Store          *string `yaml:"store,omitempty" declared:"fixed"` // RootCA or IntermediateCA
	RevocationList *string `yaml:"revocationList,omitempty" declared:"fixed"`
	Certificate    string  `yaml:"certificate"` // PEM
}

// A TokenIssuer is another site's token-signing certificate, known by its
// thumbprint.
type TokenIssuer struct {
	Issuer       *string `yaml:"issuer,omitempty" declared:"fixed"`
	Audience     *string `yaml:"audience,omitempty" declared:"fixed"`
	AllowUnbound *bool   `yaml:"allowUnbound,omitempty" declared:"fixed"` // its tokens need not be bound to a key
	Certificate  string  `yaml:"certificate"`                             // PEM
}

// A SiteRole is a management point, a software update point, the administration
// service or any internal service, with the URL mapping that publishes it.
type SiteRole struct {
	Name string  `yaml:"name"`
	Kind *string `yaml:"kind,omitempty" declared:"fixed"` // management-point, software-update-point, admin-service or service
	// Own marks one of the site's own management points, which come by joining.
	Own                 *bool       `yaml:"own,omitempty" declared:"once"`
	Internal            *[]string   `yaml:"internal,omitempty"`            // URLs for connection points
	AllowGatewayTraffic *bool       `yaml:"allowGatewayTraffic,omitempty"` // publish it
	Prefix              *string     `yaml:"prefix,omitempty"`              // external path of a service
	Endpoints           *[]Endpoint `yaml:"endpoints,omitempty"`           // empty: those of the kind
	CA                  *string     `yaml:"ca,omitempty"`                  // PEM roots that vouch for it
	ServerName          *string     `yaml:"serverName,omitempty"`
	HostHeader          *string     `yaml:"hostHeader,omitempty"`
	HealthPath          *string     `yaml:"healthPath,omitempty"`
	ClientCertificate   *bool       `yaml:"clientCertificate,omitempty"`
	CertificateRequired *bool       `yaml:"certificateRequired,omitempty"`
	Identity            *bool       `yaml:"identity,omitempty"`
}

// An Endpoint is one published path of a role.
type Endpoint struct {
	Name             string   `yaml:"name" json:"name"`
	Path             string   `yaml:"path,omitempty" json:"path"` // relative to the role; empty: all of it
	Auth             []string `yaml:"auth" json:"auth"`           // accepted ways to authenticate
	Methods          []string `yaml:"methods" json:"methods"`     // in capitals
	MaxContentLength int64    `yaml:"maxContentLength,omitempty" json:"maxContentLength"`
	Hold             bool     `yaml:"hold,omitempty" json:"hold,omitempty"`                       // requests stay open
	ResponseTimeout  int      `yaml:"responseTimeout,omitempty" json:"responseTimeout,omitempty"` // seconds
}

// A Gateway is a cloud management gateway.
type Gateway struct {
	Name        string  `yaml:"name"`                                   // prefix of the deployment name
	ServiceName *string `yaml:"serviceName,omitempty" declared:"fixed"` // by which clients know it
	Model       *string `yaml:"model,omitempty" declared:"fixed"`       // VirtualMachineScaleSet, SelfHosted or Classic
	// ServerApp is the client ID of the application that deploys.
	ServerApp      *string `yaml:"serverApp,omitempty" declared:"fixed"`
	SubscriptionID *string `yaml:"subscriptionId,omitempty" declared:"fixed"`
	Region         *string `yaml:"region,omitempty" declared:"fixed"`
	ResourceGroup  *string `yaml:"resourceGroup,omitempty" declared:"fixed"`
	// ExistingGroup says, for the creation, that the group is there already.
	ExistingGroup *bool   `yaml:"existingGroup,omitempty" declared:"once"`
	IPv6          *bool   `yaml:"ipv6,omitempty" declared:"fixed"`
	Description   *string `yaml:"description,omitempty"`
	Size          *string `yaml:"size,omitempty"`      // Lab, Standard or Large
	Instances     *int    `yaml:"instances,omitempty"` // 1 to 16
	// Certificates are SHA-256 thumbprints of the trusted certificates that count
	// here; empty: all.
	Certificates    *[]string  `yaml:"certificates,omitempty"`
	CheckRevocation *bool      `yaml:"checkRevocation,omitempty"`
	EnforceTLS12    *bool      `yaml:"enforceTls12,omitempty"`
	MinTLS          *string    `yaml:"minTls,omitempty"` // 1.2 or 1.3
	EnableContent   *bool      `yaml:"enableContent,omitempty"`
	Traffic         *Threshold `yaml:"traffic,omitempty"` // of 14 days, with its alerts
	Storage         *Threshold `yaml:"storage,omitempty"` // with its alerts
	// Certificate is the server authentication certificate: a PFX, needed only to
	// create the gateway or to replace the certificate, or ACME.
	Certificate *ServerCertificate `yaml:"certificate,omitempty" declared:"once"`
}

// A Threshold is a quota with alerts.
type Threshold struct {
	Enabled     *bool `yaml:"enabled,omitempty" json:"enabled,omitempty"`
	GB          *int  `yaml:"gb,omitempty" json:"gb,omitempty"`
	WarningPct  *int  `yaml:"warningPct,omitempty" json:"warningPct,omitempty"`
	CriticalPct *int  `yaml:"criticalPct,omitempty" json:"criticalPct,omitempty"`
	StopService *bool `yaml:"stopService,omitempty" json:"stopService,omitempty"` // at the critical threshold; traffic only
}

// A ServerCertificate is a PFX or the wish to have certificates by ACME. Files
// are relative to the declared file.
type ServerCertificate struct {
	PFXFile      *string `yaml:"pfxFile,omitempty"`
	PasswordFile *string `yaml:"passwordFile,omitempty"` // of the PFX, in its first line
	ACME         *ACME   `yaml:"acme,omitempty"`
}

// ACME says where and how to obtain certificates (RFC 8555).
type ACME struct {
	Directory      string    `yaml:"directory"` // URL
	Contact        *[]string `yaml:"contact,omitempty"`
	Challenge      *string   `yaml:"challenge,omitempty"` // http-01 or tls-alpn-01
	AcceptTerms    *bool     `yaml:"acceptTerms,omitempty"`
	BindingKeyID   *string   `yaml:"bindingKeyId,omitempty"`
	BindingKeyFile *string   `yaml:"bindingKeyFile,omitempty" declared:"once"` // base64url in its first line
}

// A ConnectionPoint is one that joined.
type ConnectionPoint struct {
	Name    string  `yaml:"name"`
	Gateway *string `yaml:"gateway,omitempty"` // name of the gateway that it serves; empty: none
}

// A DefaultBoundaryGroup is for clients that are in no other group. Its name
// tells the site, so it has none here.
type DefaultBoundaryGroup struct {
	Description         *string   `yaml:"description,omitempty"`
	SiteSystems         *[]string `yaml:"siteSystems,omitempty"`         // names of gateways and site roles
	PreferCloud         *bool     `yaml:"preferCloud,omitempty"`         // gateways before management points
	IncludeCloudSources *bool     `yaml:"includeCloudSources,omitempty"` // all gateways, after the management points
}

// A BoundaryGroup joins network locations with gateways and other site systems.
type BoundaryGroup struct {
	Name        string    `yaml:"name"`
	Description *string   `yaml:"description,omitempty"`
	Boundaries  *[]string `yaml:"boundaries,omitempty"`  // CIDR prefixes
	SiteSystems *[]string `yaml:"siteSystems,omitempty"` // names of gateways and site roles
	PreferCloud *bool     `yaml:"preferCloud,omitempty"` // gateways before management points
}

// ClientSettings are what every client is told to do. Intervals are in minutes.
type ClientSettings struct {
	AllowCloudManagementGateway *bool `yaml:"allowCloudManagementGateway,omitempty"`
	AllowCloudDistributionPoint *bool `yaml:"allowCloudDistributionPoint,omitempty"`
	AutoAzureADJoin             *bool `yaml:"autoAzureADJoin,omitempty"`
	PolicyMinutes               *int  `yaml:"policyMinutes,omitempty"`
	LocationMinutes             *int  `yaml:"locationMinutes,omitempty"`
	InventoryMinutes            *int  `yaml:"inventoryMinutes,omitempty"`
	DiscoveryMinutes            *int  `yaml:"discoveryMinutes,omitempty"`
	StateMinutes                *int  `yaml:"stateMinutes,omitempty"`
	KeepAliveMinutes            *int  `yaml:"keepAliveMinutes,omitempty"`
}
