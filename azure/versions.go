package azure

// The API versions that are sent, one per provider. They are older than the
// SDK's on purpose: clouds of governments get new versions late. The check
// "api-versions" compares them with what the subscription offers.
const (
	versionSubscriptions = "2022-12-01"
	versionResources     = "2021-04-01" // groups, providers, deployments, the list of a group
	versionAuthorization = "2022-04-01"
	versionCompute       = "2024-07-01"
	versionSKUs          = "2021-07-01"
	versionNetwork       = "2024-05-01"
	versionStorage       = "2024-01-01"
	versionVault         = "2023-07-01"
	versionIdentity      = "2023-01-31"
	versionMetrics       = "2023-10-01"
	versionSecrets       = "7.4" // the vault's own interface
	// versionScaleSetNICs is the only version that lists the network
	// interfaces of a uniform scale set.
	versionScaleSetNICs = "2018-10-01"
)

// Resource types, as the template and identifiers spell them.
const (
	typeIdentity   = "Microsoft.ManagedIdentity/userAssignedIdentities"
	typeNSG        = "Microsoft.Network/networkSecurityGroups"
	typeVNet       = "Microsoft.Network/virtualNetworks"
	typePublicIP   = "Microsoft.Network/publicIPAddresses"
	typeBalancer   = "Microsoft.Network/loadBalancers"
	typeStorage    = "Microsoft.Storage/storageAccounts"
	typeBlob       = "Microsoft.Storage/storageAccounts/blobServices"
	typeContainer  = "Microsoft.Storage/storageAccounts/blobServices/containers"
	typeVault      = "Microsoft.KeyVault/vaults"
	typeScaleSet   = "Microsoft.Compute/virtualMachineScaleSets"
	typeDeployment = "Microsoft.Resources/deployments"
)

// pinned lists what the check "api-versions" looks for.
var pinned = []struct{ typ, version string }{
	{typeScaleSet, versionCompute},
	{typeBalancer, versionNetwork}, {typePublicIP, versionNetwork}, {typeNSG, versionNetwork}, {typeVNet, versionNetwork},
	{typeStorage, versionStorage},
	{typeVault, versionVault},
	{typeIdentity, versionIdentity},
}
