package azure

import (
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/opencmg/opencmg"
)

// Endpoints are the addresses and audiences of one environment. Suffixes have
// no leading dot, addresses no trailing slash unless said.
type Endpoints struct {
	Environment opencmg.Environment
	// Authority signs people and apps in; it ends in a slash.
	Authority string
	// Issuer is where version 1.0 tokens say they come from; the tenant's ID
	// and a slash follow.
	Issuer string
	// ResourceManager is the control plane; Audience is what its tokens are
	// for (with the trailing slash that Azure's own libraries ask with).
	ResourceManager, Audience string
	// Graph is the directory's interface, and the audience of its tokens.
	Graph string
	// VaultSuffix follows a vault's name; VaultAudience is what its tokens are
	// for.
	VaultSuffix, VaultAudience string
	// BlobSuffix follows a storage account's name.
	BlobSuffix string
	// CloudAppSuffix follows label and region in a deployment name.
	CloudAppSuffix string
	// Portal is where an administrator looks.
	Portal string
}

// environments is the only place with host names of clouds. A new cloud is a
// new row.
var environments = []Endpoints{
	{
		Environment:     opencmg.AzurePublicCloud,
		Authority:       "https://login.microsoftonline.com/",
		Issuer:          "https://sts.windows.net/",
		ResourceManager: "https://management.azure.com",
		Audience:        "https://management.core.windows.net/",
		Graph:           "https://graph.microsoft.com",
		VaultSuffix:     "vault.azure.net",
		VaultAudience:   "https://vault.azure.net",
		BlobSuffix:      "blob.core.windows.net",
		CloudAppSuffix:  "cloudapp.azure.com",
		Portal:          "https://portal.azure.com",
	},
	{
		Environment:     opencmg.AzureUSGovernmentCloud,
		Authority:       "https://login.microsoftonline.us/",
		Issuer:          "https://sts.windows.net/",
		ResourceManager: "https://management.usgovcloudapi.net",
		Audience:        "https://management.core.usgovcloudapi.net/",
		Graph:           "https://graph.microsoft.us",
		VaultSuffix:     "vault.usgovcloudapi.net",
		VaultAudience:   "https://vault.usgovcloudapi.net",
		BlobSuffix:      "blob.core.usgovcloudapi.net",
		CloudAppSuffix:  "cloudapp.usgovcloudapi.net",
		Portal:          "https://portal.azure.us",
	},
	{
		Environment:     opencmg.AzureLab,
		Authority:       "https://login.lab.opencmg.example/",
		Issuer:          "https://sts.lab.opencmg.example/",
		ResourceManager: "https://management.lab.opencmg.example",
		Audience:        "https://management.core.lab.opencmg.example/",
		Graph:           "https://graph.lab.opencmg.example",
		VaultSuffix:     "vault.lab.opencmg.example",
		VaultAudience:   "https://vault.lab.opencmg.example",
		BlobSuffix:      "blob.lab.opencmg.example",
		CloudAppSuffix:  "cloudapp.lab.opencmg.example",
		Portal:          "https://portal.lab.opencmg.example",
	},
}

// EndpointsOf returns the row of an environment.
func EndpointsOf(e opencmg.Environment) (Endpoints, error) {
	for _, row := range environments {
		if row.Environment == e {
			return row, nil
		}
	}
	_, err := opencmg.ParseEnvironment(string(e))
	if err == nil {
		err = opencmg.Errorf(opencmg.Invalid, "environment %q: has no endpoints", e)
	}
	return Endpoints{}, err
}

// DeploymentName is the public DNS name of a deployment.
func (e Endpoints) DeploymentName(prefix, region string) string {
	return prefix + "." + region + "." + e.CloudAppSuffix
}

// VaultURL is the address of a vault.
func (e Endpoints) VaultURL(name string) string { return "https://" + name + "." + e.VaultSuffix }

// BlobURL is the address of a storage account's blobs, with a trailing slash.
func (e Endpoints) BlobURL(account string) string {
	return "https://" + account + "." + e.BlobSuffix + "/"
}

// Issuers are the exact issuers of a tenant's tokens: version 1.0 and 2.0.
func (e Endpoints) Issuers(tenantID string) []string {
	return []string{e.Issuer + tenantID + "/", e.Authority + tenantID + "/v2.0"}
}

func (e Endpoints) sdk() cloud.Configuration {
	return cloud.Configuration{
		ActiveDirectoryAuthorityHost: e.Authority,
		Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Endpoint: e.ResourceManager, Audience: e.Audience},
		},
	}
}

// armScope is what a token for Resource Manager is asked with. The audience
// keeps its slash, so the scope has two: Entra takes it literally.
func (e Endpoints) armScope() string { return e.Audience + "/.default" }

func (e Endpoints) graphScope() string { return e.Graph + "/.default" }

// sameHost reports whether address is an https address on the host of base,
// so that a link in an answer can not carry a token elsewhere.
func sameHost(address, base string) bool {
	a, err := url.Parse(address)
	if err != nil || a.User != nil {
		return false
	}
	b, err := url.Parse(base)
	return err == nil && a.Scheme == b.Scheme && strings.EqualFold(a.Host, b.Host)
}
