package labcloud_test

import (
	"encoding/base64"
	"maps"
)

// The template of a gateway's deployment, as azure.md 2 describes it, written
// here a second time so that the stand-in is tested without the code that it
// is to test.

type j = map[string]any
type l = []any

const (
	prefix = "granitefalls"
	region = "westeurope"
	group  = "cmg-group"
)

func id(kind, name string, rest ...string) string {
	s := "[resourceId('" + kind + "', '" + name + "')]"
	if len(rest) > 0 {
		s = "[concat(resourceId('" + kind + "', '" + name + "'), '" + rest[0] + "')]"
	}
	return s
}

const (
	identityType = "Microsoft.ManagedIdentity/userAssignedIdentities"
	nsgType      = "Microsoft.Network/networkSecurityGroups"
	vnetType     = "Microsoft.Network/virtualNetworks"
	pipType      = "Microsoft.Network/publicIPAddresses"
	lbType       = "Microsoft.Network/loadBalancers"
	storageType  = "Microsoft.Storage/storageAccounts"
	vaultType    = "Microsoft.KeyVault/vaults"
	setType      = "Microsoft.Compute/virtualMachineScaleSets"
)

type templateOptions struct {
	name      string
	instances int
	custom    string
	principal string // of the server app
	size      string
	mode      string
}

// template builds the whole; change may alter a resource, by type.
func template(o templateOptions, change func(kind string, r j)) j {
	if o.name == "" {
		o.name = prefix
	}
	if o.instances == 0 {
		o.instances = 2
	}
	if o.principal == "" {
		o.principal = alice
	}
	if o.size == "" {
		o.size = "Standard_A2_v2"
	}
	if o.mode == "" {
		o.mode = "Rolling"
	}
	n := o.name
	tags := j{"opencmg-gateway": "ffffffff-0000-0000-0000-000000000001"}
	res := func(kind, version, name string, more j) j {
		r := j{"type": kind, "apiVersion": version, "name": name, "location": region, "tags": tags}
		maps.Copy(r, more)
		return r
	}
	front := j{"id": id(lbType, n+"-lb", "/frontendIPConfigurations/public")}
	pool := j{"id": id(lbType, n+"-lb", "/backendAddressPools/machines")}
	probe := j{"id": id(lbType, n+"-lb", "/probes/ready")}
	allow := func(name string, priority int, ports string) j {
		return j{"name": name, "properties": j{"access": "Allow", "direction": "Inbound", "protocol": "Tcp", "priority": priority, "sourceAddressPrefix": "Internet", "sourcePortRange": "*", "destinationAddressPrefix": "*", "destinationPortRange": ports}}
	}
	resources := l{
		res(identityType, "2023-01-31", n+"-id", nil),
		res(nsgType, "2024-05-01", n+"-nsg", j{"properties": j{"securityRules": l{allow("clients", 100, "443"), allow("tunnels", 110, "10124")}}}),
		res(vnetType, "2024-05-01", n+"-vnet", j{"dependsOn": l{id(nsgType, n+"-nsg")}, "properties": j{"addressSpace": j{"addressPrefixes": l{"10.0.0.0/27"}},
			"subnets": l{j{"name": "machines", "properties": j{"addressPrefix": "10.0.0.0/27", "defaultOutboundAccess": false, "networkSecurityGroup": j{"id": id(nsgType, n+"-nsg")}}}}}}),
		res(pipType, "2024-05-01", n+"-pip", j{"sku": j{"name": "Standard"}, "properties": j{"publicIPAllocationMethod": "Static", "publicIPAddressVersion": "IPv4", "dnsSettings": j{"domainNameLabel": n}}}),
		res(lbType, "2024-05-01", n+"-lb", j{"sku": j{"name": "Standard"}, "dependsOn": l{id(pipType, n+"-pip")}, "properties": j{
			"frontendIPConfigurations": l{j{"name": "public", "properties": j{"publicIPAddress": j{"id": id(pipType, n+"-pip")}}}},
			"backendAddressPools":      l{j{"name": "machines"}},
			"probes":                   l{j{"name": "ready", "properties": j{"protocol": "Http", "port": 9445, "requestPath": "/readyz", "intervalInSeconds": 5, "numberOfProbes": 2}}},
			"loadBalancingRules": l{j{"name": "clients", "properties": j{"frontendIPConfiguration": front, "backendAddressPool": pool, "probe": probe, "protocol": "Tcp", "frontendPort": 443, "backendPort": 443,
				"idleTimeoutInMinutes": 30, "enableTcpReset": true, "disableOutboundSnat": true}}},
			"inboundNatRules": l{j{"name": "tunnels", "properties": j{"frontendIPConfiguration": front, "backendAddressPool": pool, "protocol": "Tcp", "frontendPortRangeStart": 10124, "frontendPortRangeEnd": 10139, "backendPort": 10124, "idleTimeoutInMinutes": 30, "enableTcpReset": true}}},
			"outboundRules":   l{j{"name": "out", "properties": j{"frontendIPConfigurations": l{front}, "backendAddressPool": pool, "protocol": "All"}}},
		}}),
		res(storageType, "2024-01-01", n, j{"kind": "StorageV2", "sku": j{"name": "Standard_LRS"}, "properties": j{"minimumTlsVersion": "TLS1_2", "supportsHttpsTrafficOnly": true, "allowBlobPublicAccess": false, "allowSharedKeyAccess": true}}),
		j{"type": storageType + "/blobServices/containers", "apiVersion": "2024-01-01", "name": n + "/default/service", "dependsOn": l{id(storageType, n)}, "properties": j{"publicAccess": "None"}},
		res(vaultType, "2023-07-01", n, j{"dependsOn": l{id(identityType, n+"-id")}, "properties": j{"tenantId": tenant, "sku": j{"family": "A", "name": "standard"}, "enableRbacAuthorization": false, "softDeleteRetentionInDays": 7,
			"accessPolicies": l{
				j{"tenantId": tenant, "objectId": "[reference(resourceId('" + identityType + "', '" + n + "-id'), '2023-01-31').principalId]", "permissions": j{"secrets": l{"get", "list"}}},
				j{"tenantId": tenant, "objectId": o.principal, "permissions": j{"secrets": l{"get", "list", "set", "delete"}}},
			}}}),
		res(setType, "2024-07-01", n, j{"sku": j{"name": o.size, "tier": "Standard", "capacity": o.instances},
			"identity":  j{"type": "UserAssigned", "userAssignedIdentities": j{id(identityType, n+"-id"): j{}}},
			"dependsOn": l{id(identityType, n+"-id"), id(vnetType, n+"-vnet"), id(lbType, n+"-lb"), id(vaultType, n)},
			"properties": j{"orchestrationMode": "Uniform", "overprovision": false, "singlePlacementGroup": true, "upgradePolicy": j{"mode": o.mode},
				"virtualMachineProfile": j{
					"osProfile": j{"computerNamePrefix": n, "adminUsername": "opencmg", "customData": base64.StdEncoding.EncodeToString([]byte("#cloud-config\n" + o.custom)),
						"linuxConfiguration": j{"disablePasswordAuthentication": true, "ssh": j{"publicKeys": l{j{"path": "/home/opencmg/.ssh/authorized_keys", "keyData": "ssh-ed25519 AAAA"}}}}},
					"storageProfile": j{"imageReference": j{"publisher": "Debian", "offer": "debian-12", "sku": "12", "version": "latest"}, "osDisk": j{"createOption": "FromImage", "caching": "ReadWrite", "managedDisk": j{"storageAccountType": "Standard_LRS"}}},
					"networkProfile": j{"healthProbe": probe, "networkInterfaceConfigurations": l{j{"name": "nic", "properties": j{"primary": true, "ipConfigurations": l{j{"name": "ip", "properties": j{"primary": true, "subnet": j{"id": id(vnetType, n+"-vnet", "/subnets/machines")}, "loadBalancerBackendAddressPools": l{pool}}}}}}}},
				}}}),
	}
	if change != nil {
		for _, r := range resources {
			change(r.(j)["type"].(string), r.(j))
		}
	}
	return j{"$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#", "contentVersion": "1.0.0.0", "resources": resources,
		"outputs": j{"identity": j{"type": "string", "value": "[reference(resourceId('" + identityType + "', '" + n + "-id'), '2023-01-31').clientId]"}, "fqdn": j{"type": "string", "value": "[reference(resourceId('" + pipType + "', '" + n + "-pip'), '2024-05-01').dnsSettings.fqdn]"}}}
}

const deploymentPath = "/resourcegroups/" + group + "/providers/Microsoft.Resources/deployments/opencmg-" + prefix

func (c *cloud) makeGroup() {
	c.t.Helper()
	c.arm("PUT", "/resourcegroups/"+group, "2021-04-01", j{"location": region}).want(c.t, 201, "")
}

// put starts a deployment.
func (c *cloud) put(t j) answer {
	c.t.Helper()
	return c.arm("PUT", deploymentPath, "2025-04-01", j{"properties": j{"mode": "Incremental", "template": t}})
}

// deploy makes the group and deploys the template, to the end.
func (c *cloud) deploy(o templateOptions) answer {
	c.t.Helper()
	c.makeGroup()
	c.finish(c.put(template(o, nil)).want(c.t, 201, "")).want(c.t, 200, "")
	return c.arm("GET", deploymentPath, "2025-04-01", nil).want(c.t, 200, "")
}

func resourcePath(kind, name string) string {
	return "/resourceGroups/" + group + "/providers/" + kind + "/" + name
}
