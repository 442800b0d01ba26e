package labcloud

import (
	"regexp"
	"strings"
)

// The resource types that a deployment may hold: their API versions, name
// rules, and what their bodies may hold (see shape.go). A property that Azure
// knows and that has no business in a gateway's deployment is left out, and so
// refused.

// A resourceType is what is known about a type.
type resourceType struct {
	name    string // as Azure writes it
	body    any    // shape of the whole body
	names   *regexp.Regexp
	located bool   // location is needed
	inside  string // the parent's property that lists children of this type
}

var resourceTypes = map[string]*resourceType{
	"microsoft.compute/virtualmachinescalesets":                   {name: "Microsoft.Compute/virtualMachineScaleSets", body: scaleSetBody{}, names: regexp.MustCompile(`^[a-zA-Z0-9]([-a-zA-Z0-9_.]{0,62}[a-zA-Z0-9_])?$`), located: true},
	"microsoft.network/publicipaddresses":                         {name: "Microsoft.Network/publicIPAddresses", body: publicIPBody{}, names: networkNames, located: true},
	"microsoft.network/loadbalancers":                             {name: "Microsoft.Network/loadBalancers", body: loadBalancerBody{}, names: networkNames, located: true},
	"microsoft.network/loadbalancers/backendaddresspools":         {name: "Microsoft.Network/loadBalancers/backendAddressPools", body: childBody[backendPoolProperties]{}, names: networkNames, inside: "backendAddressPools"},
	"microsoft.network/loadbalancers/inboundnatrules":             {name: "Microsoft.Network/loadBalancers/inboundNatRules", body: childBody[natRuleProperties]{}, names: networkNames, inside: "inboundNatRules"},
	"microsoft.network/networksecuritygroups":                     {name: "Microsoft.Network/networkSecurityGroups", body: securityGroupBody{}, names: networkNames, located: true},
	"microsoft.network/networksecuritygroups/securityrules":       {name: "Microsoft.Network/networkSecurityGroups/securityRules", body: childBody[securityRuleProperties]{}, names: networkNames, inside: "securityRules"},
	"microsoft.network/virtualnetworks":                           {name: "Microsoft.Network/virtualNetworks", body: networkBody{}, names: regexp.MustCompile(`^[a-zA-Z0-9][-\w.]{0,62}\w$`), located: true},
	"microsoft.network/virtualnetworks/subnets":                   {name: "Microsoft.Network/virtualNetworks/subnets", body: childBody[subnetProperties]{}, names: networkNames, inside: "subnets"},
	"microsoft.storage/storageaccounts":                           {name: "Microsoft.Storage/storageAccounts", body: storageBody{}, names: regexp.MustCompile(`^[a-z0-9]{3,24}$`), located: true},
	"microsoft.storage/storageaccounts/blobservices":              {name: "Microsoft.Storage/storageAccounts/blobServices", body: childBody[blobServiceProperties]{}, names: regexp.MustCompile(`^default$`)},
	"microsoft.storage/storageaccounts/blobservices/containers":   {name: "Microsoft.Storage/storageAccounts/blobServices/containers", body: childBody[containerProperties]{}, names: containerNames},
	"microsoft.storage/storageaccounts/managementpolicies":        {name: "Microsoft.Storage/storageAccounts/managementPolicies", body: childBody[managementPolicyProperties]{}, names: regexp.MustCompile(`^default$`)},
	"microsoft.keyvault/vaults":                                   {name: "Microsoft.KeyVault/vaults", body: vaultBody{}, names: regexp.MustCompile(`^[a-zA-Z](-?[a-zA-Z0-9]){2,23}$`), located: true},
	"microsoft.keyvault/vaults/accesspolicies":                    {name: "Microsoft.KeyVault/vaults/accessPolicies", body: childBody[accessPoliciesProperties]{}, names: regexp.MustCompile(`^(add|replace|remove)$`)},
	"microsoft.keyvault/vaults/secrets":                           {name: "Microsoft.KeyVault/vaults/secrets", body: childBody[secretProperties]{}, names: secretNames},
	"microsoft.managedidentity/userassignedidentities":            {name: "Microsoft.ManagedIdentity/userAssignedIdentities", body: identityBody{}, names: regexp.MustCompile(`^[a-zA-Z0-9][-\w]{2,127}$`), located: true},
	"microsoft.authorization/roleassignments":                     {name: "Microsoft.Authorization/roleAssignments", body: childBody[roleAssignmentProperties]{}, names: guidPattern},
	"microsoft.compute/virtualmachinescalesets/virtualmachines":   {name: "Microsoft.Compute/virtualMachineScaleSets/virtualMachines"},
	"microsoft.compute/virtualmachinescalesets/rollingupgrades":   {name: "Microsoft.Compute/virtualMachineScaleSets/rollingUpgrades"},
	"microsoft.compute/virtualmachinescalesets/networkinterfaces": {name: "Microsoft.Compute/virtualMachineScaleSets/networkInterfaces"},
	"microsoft.compute/virtualmachinescalesets/osupgradehistory":  {name: "Microsoft.Compute/virtualMachineScaleSets/osUpgradeHistory"},
}

var (
	networkNames   = regexp.MustCompile(`^[a-zA-Z0-9]([-\w.]{0,78}\w)?$`)
	containerNames = regexp.MustCompile(`^[a-z0-9](-?[a-z0-9]){2,62}$`)
	secretNames    = regexp.MustCompile(`^[-a-zA-Z0-9]{1,127}$`)
)

// API versions by lower-case type. The list is what the SDK's clients of today
// send and a few older ones, among them those pinned for templates.
var (
	computeVersions = []string{"2023-03-01", "2023-07-01", "2023-09-01", "2024-03-01", "2024-07-01", "2024-11-01", "2025-04-01", "2026-04-01"}
	networkVersions = []string{"2018-10-01", "2023-09-01", "2023-11-01", "2024-01-01", "2024-03-01", "2024-05-01", "2024-07-01", "2024-10-01", "2025-01-01", "2025-05-01"}
	storageVersions = []string{"2022-09-01", "2023-01-01", "2023-05-01", "2024-01-01", "2025-01-01"}
	vaultVersions   = []string{"2022-07-01", "2023-02-01", "2023-07-01", "2024-11-01"}
	deployVersions  = []string{"2020-10-01", "2021-04-01", "2022-09-01", "2024-03-01", "2024-11-01", "2025-04-01"}
	basicVersions   = []string{"2020-01-01", "2021-01-01", "2021-04-01", "2022-09-01", "2022-12-01", "2024-03-01", "2025-04-01"}
)

var apiVersions = map[string][]string{
	"subscriptions": {"2019-06-01", "2020-01-01", "2021-01-01", "2022-12-01"}, "locations": {"2019-06-01", "2020-01-01", "2021-01-01", "2022-12-01"},
	"providers": basicVersions, "resources": basicVersions, "resourcegroups": basicVersions,
	"microsoft.compute/locations":              computeVersions,
	"microsoft.compute/skus":                   {"2019-04-01", "2021-07-01"},
	"microsoft.network/locations":              networkVersions,
	"microsoft.storage/locations":              storageVersions,
	"microsoft.storage/checknameavailability":  storageVersions,
	"microsoft.storage/skus":                   storageVersions,
	"microsoft.keyvault/locations":             vaultVersions,
	"microsoft.keyvault/checknameavailability": vaultVersions,
	"microsoft.keyvault/deletedvaults":         vaultVersions,
	"microsoft.resources/deployments":          deployVersions,
	"microsoft.authorization/permissions":      {"2015-07-01", "2018-01-01-preview", "2022-04-01", "2022-05-01-preview"},
	"microsoft.authorization/roleassignments":  {"2020-04-01-preview", "2022-04-01"},
	"microsoft.insights/metrics":               {"2018-01-01", "2019-07-01", "2021-05-01", "2023-10-01"},
	"microsoft.resources/resourcegroups":       basicVersions,
}

// typeNames are the names within the provider, as Azure writes them, by
// lower-case type.
var typeNames = map[string]string{
	"microsoft.compute/locations": "locations", "microsoft.compute/skus": "skus", "microsoft.network/locations": "locations",
	"microsoft.storage/locations": "locations", "microsoft.storage/checknameavailability": "checkNameAvailability", "microsoft.storage/skus": "skus",
	"microsoft.keyvault/locations": "locations", "microsoft.keyvault/checknameavailability": "checkNameAvailability", "microsoft.keyvault/deletedvaults": "deletedVaults",
	"microsoft.resources/deployments": "deployments", "microsoft.resources/resourcegroups": "resourceGroups",
	"microsoft.authorization/permissions": "permissions", "microsoft.insights/metrics": "metrics",
}

func init() {
	for key, t := range resourceTypes {
		var versions []string
		switch key[:13] {
		case "microsoft.com":
			versions = computeVersions
		case "microsoft.net":
			versions = networkVersions
		case "microsoft.sto":
			versions = storageVersions
		case "microsoft.key":
			versions = vaultVersions
		case "microsoft.man":
			versions = []string{"2023-01-31", "2024-11-30"}
		}
		if strings.HasSuffix(key, "/networkinterfaces") {
			versions = networkVersions // the network provider answers there
		}
		if apiVersions[key] == nil {
			apiVersions[key] = versions
		}
		_, typeNames[key], _ = strings.Cut(t.name, "/")
	}
}

type tags map[string]string

type reference struct {
	ID string `json:"id" need:"1" match:"^/subscriptions/"`
}

// A childBody is the body of a resource that lives in another.
type childBody[P any] struct {
	Properties P      `json:"properties"`
	ID         string `json:"id"`
	Tags       tags   `json:"tags"`
	Location   string `json:"location"`
}

// A part is an element of a list such as probes.
type part[P any] struct {
	Name       string `json:"name" need:"1" match:"^[a-zA-Z0-9]([-\\w.]{0,78}\\w)?$"`
	ID         string `json:"id"`
	Properties P      `json:"properties"`
}

type identityBody struct {
	Location   string   `json:"location"`
	Tags       tags     `json:"tags"`
	Properties struct{} `json:"properties"`
}

type roleAssignmentProperties struct {
	RoleDefinitionID string `json:"roleDefinitionId" need:"1" match:"(?i)/providers/Microsoft.Authorization/roleDefinitions/"`
	PrincipalID      string `json:"principalId" need:"1" match:"GUID"`
	PrincipalType    string `json:"principalType" one:"User Group ServicePrincipal ForeignGroup Device"`
	Description      string `json:"description"`
	Condition        string `json:"condition"`
	ConditionVersion string `json:"conditionVersion"`
}

type vaultBody struct {
	Location   string          `json:"location"`
	Tags       tags            `json:"tags"`
	Properties vaultProperties `json:"properties" need:"1"`
}

type vaultProperties struct {
	TenantID                     string         `json:"tenantId" need:"1" match:"GUID"`
	Sku                          vaultSku       `json:"sku" need:"1"`
	AccessPolicies               []accessPolicy `json:"accessPolicies" max:"1024"`
	CreateMode                   string         `json:"createMode" one:"default recover"`
	EnableRbacAuthorization      bool           `json:"enableRbacAuthorization"`
	EnableSoftDelete             bool           `json:"enableSoftDelete"`
	EnablePurgeProtection        bool           `json:"enablePurgeProtection"`
	SoftDeleteRetentionInDays    int            `json:"softDeleteRetentionInDays" min:"7" max:"90"`
	EnabledForDeployment         bool           `json:"enabledForDeployment"`
	EnabledForDiskEncryption     bool           `json:"enabledForDiskEncryption"`
	EnabledForTemplateDeployment bool           `json:"enabledForTemplateDeployment"`
	PublicNetworkAccess          string         `json:"publicNetworkAccess" one:"enabled disabled"`
	NetworkACLs                  any            `json:"networkAcls"`
	VaultURI                     string         `json:"vaultUri"`
}

type vaultSku struct {
	Family string `json:"family" need:"1" one:"A"`
	Name   string `json:"name" need:"1" one:"standard premium"`
}

type accessPolicy struct {
	TenantID      string           `json:"tenantId" need:"1" match:"GUID"`
	ObjectID      string           `json:"objectId" need:"1" match:"GUID"`
	ApplicationID string           `json:"applicationId" match:"GUID"`
	Permissions   vaultPermissions `json:"permissions" need:"1"`
}

type vaultPermissions struct {
	Secrets      []string `json:"secrets" one:"all get list set delete backup restore recover purge"`
	Keys         []string `json:"keys" one:"all get list create delete import update encrypt decrypt wrapKey unwrapKey sign verify backup restore recover purge release rotate getrotationpolicy setrotationpolicy"`
	Certificates []string `json:"certificates" one:"all get list delete create import update managecontacts getissuers listissuers setissuers deleteissuers manageissuers recover purge backup restore"`
	Storage      []string `json:"storage" one:"all get list delete set update regeneratekey recover purge backup restore setsas listsas getsas deletesas"`
}

type accessPoliciesProperties struct {
	AccessPolicies []accessPolicy `json:"accessPolicies" need:"1"`
}

type secretProperties struct {
	Value       string `json:"value" need:"1"`
	ContentType string `json:"contentType"`
	Attributes  struct {
		Enabled bool `json:"enabled"`
		NBF     int  `json:"nbf"`
		Exp     int  `json:"exp"`
	} `json:"attributes"`
}

type storageBody struct {
	Location   string            `json:"location"`
	Tags       tags              `json:"tags"`
	Kind       string            `json:"kind" need:"1" one:"StorageV2 BlockBlobStorage"`
	Sku        storageSku        `json:"sku" need:"1"`
	Properties storageProperties `json:"properties"`
}

type storageSku struct {
	Name string `json:"name" need:"1" one:"Standard_LRS Standard_GRS Standard_RAGRS Standard_ZRS Premium_LRS Premium_ZRS Standard_GZRS Standard_RAGZRS"`
	Tier string `json:"tier"`
}

type storageProperties struct {
	AccessTier                   string `json:"accessTier" one:"Hot Cool Cold"`
	AllowBlobPublicAccess        bool   `json:"allowBlobPublicAccess"`
	AllowCrossTenantReplication  bool   `json:"allowCrossTenantReplication"`
	AllowSharedKeyAccess         bool   `json:"allowSharedKeyAccess"`
	DefaultToOAuthAuthentication bool   `json:"defaultToOAuthAuthentication"`
	MinimumTLSVersion            string `json:"minimumTlsVersion" one:"TLS1_0 TLS1_1 TLS1_2 TLS1_3"`
	SupportsHTTPSTrafficOnly     bool   `json:"supportsHttpsTrafficOnly"`
	PublicNetworkAccess          string `json:"publicNetworkAccess" one:"Enabled Disabled SecuredByPerimeter"`
	DNSEndpointType              string `json:"dnsEndpointType" one:"Standard AzureDnsZone"`
	IsHnsEnabled                 bool   `json:"isHnsEnabled"`
	IsSftpEnabled                bool   `json:"isSftpEnabled"`
	IsLocalUserEnabled           bool   `json:"isLocalUserEnabled"`
	LargeFileSharesState         string `json:"largeFileSharesState" one:"Enabled Disabled"`
	Encryption                   any    `json:"encryption"`
	NetworkACLs                  any    `json:"networkAcls"`
	KeyPolicy                    struct {
		Days int `json:"keyExpirationPeriodInDays" need:"1"`
	} `json:"keyPolicy"`
	SasPolicy struct {
		Action string `json:"expirationAction" need:"1" one:"Log Block"`
		Period string `json:"sasExpirationPeriod" need:"1"`
	} `json:"sasPolicy"`
}

type retention struct {
	Enabled              bool `json:"enabled"`
	Days                 int  `json:"days" min:"1" max:"365"`
	AllowPermanentDelete bool `json:"allowPermanentDelete"`
}

type blobServiceProperties struct {
	DeleteRetentionPolicy          retention `json:"deleteRetentionPolicy"`
	ContainerDeleteRetentionPolicy retention `json:"containerDeleteRetentionPolicy"`
	IsVersioningEnabled            bool      `json:"isVersioningEnabled"`
	DefaultServiceVersion          string    `json:"defaultServiceVersion"`
}

type containerProperties struct {
	PublicAccess string            `json:"publicAccess" one:"None Blob Container"`
	Metadata     map[string]string `json:"metadata"`
}

type managementPolicyProperties struct {
	Policy struct {
		Rules []struct {
			Name       string `json:"name" need:"1"`
			Type       string `json:"type" need:"1" one:"Lifecycle"`
			Enabled    bool   `json:"enabled"`
			Definition any    `json:"definition" need:"1"`
		} `json:"rules" need:"1"`
	} `json:"policy" need:"1"`
}
