package azure

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"

	"github.com/opencmg/opencmg"
)

// Ports and paths of a gateway's machines as the load balancer sees them.
const (
	// FirstTunnelPort is the public port of the first machine's tunnels; there
	// are as many ports as machines can be.
	FirstTunnelPort = 10124
	// TunnelPort is where every machine listens for tunnels.
	TunnelPort = 10124
	// HealthPort and HealthPath answer the load balancer's probe.
	HealthPort = 9445
	HealthPath = "/readyz"
	// MaxCustomData is Azure's limit of custom data before base64, in bytes:
	// what 87,380 characters hold.
	MaxCustomData = 87380 / 4 * 3
)

// Containers of the storage account that the template makes.
const (
	ServiceContainer = "service" // the gateway's binary
	LogContainer     = "logs"
)

// image is the operating system of the machines: generation 1, because A_v2
// sizes take no other.
var image = object{"publisher": "Debian", "offer": "debian-12", "sku": "12", "version": "latest"}

// modelParameter carries a checksum of the template, so that a later look at a
// running deployment tells whether it is of the same template.
const modelParameter = "model"

type object = map[string]any

// A Template is a deployment template and its parameters, as sent.
type Template struct {
	// JSON is the template: values are literals, keys are sorted, equal
	// deployments give equal bytes. It holds no secret.
	JSON json.RawMessage
	// Model is its checksum, the value of its one parameter.
	Model string
	// Resources lists what it makes, in its order.
	Resources []opencmg.DeployedResource
}

// NewTemplate generates the template of a deployment in an environment.
func NewTemplate(d *opencmg.Deployment) (*Template, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	switch {
	case !opencmg.IsGUID(d.GatewayID):
		return nil, opencmg.Errorf(opencmg.Invalid, "gateway ID %q: must be a GUID", d.GatewayID)
	case !opencmg.IsGUID(d.TenantID):
		return nil, opencmg.Errorf(opencmg.Invalid, "tenant %q: must be a GUID", d.TenantID)
	case !opencmg.IsGUID(d.ServerPrincipal):
		return nil, opencmg.Errorf(opencmg.Invalid, "service principal of the server app %q: must be a GUID; it is the object ID of the enterprise application, not the client ID", d.ServerPrincipal)
	case len(d.CustomData) > MaxCustomData:
		return nil, opencmg.Errorf(opencmg.TooLarge, "custom data: has %d bytes, Azure takes %d", len(d.CustomData), MaxCustomData)
	}
	w := writer{d: d, n: namesOf(d)}
	w.identity()
	w.network()
	w.balancer()
	w.storage()
	w.vault()
	w.scaleSet()
	doc, err := json.Marshal(object{
		"$schema":        "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
		"contentVersion": "1.0.0.0",
		"parameters":     object{modelParameter: object{"type": "string"}},
		"resources":      w.resources,
	})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(doc)
	return &Template{JSON: doc, Model: hex.EncodeToString(sum[:16]), Resources: w.made}, nil
}

type writer struct {
	d         *opencmg.Deployment
	n         names
	resources []object
	made      []opencmg.DeployedResource
}

// add appends a resource. Tracked resources get place and tag; children have
// neither.
func (w *writer) add(typ, version, name string, child bool, more object, after ...string) {
	r := object{"type": typ, "apiVersion": version, "name": name}
	if !child {
		r["location"] = w.d.Region
		r["tags"] = object{opencmg.GatewayTag: w.d.GatewayID}
	}
	if len(after) > 0 {
		r["dependsOn"] = after
	}
	for k, v := range more {
		r[k] = v
	}
	w.resources = append(w.resources, r)
	w.made = append(w.made, opencmg.DeployedResource{ID: resourceID(w.d, typ, name), Type: typ, Name: name})
}

func (w *writer) id(typ, name string) string  { return resourceID(w.d, typ, name) }
func (w *writer) ref(typ, name string) object { return object{"id": w.id(typ, name)} }
func (w *writer) lb(kind, name string) object {
	return w.ref(typeBalancer+"/"+kind, w.n.balancer+"/"+name)
}
func (w *writer) lbAll(kind, name string) []any { return []any{w.lb(kind, name)} }

// identity comes first: it is user-assigned, so its principal exists before
// the machines do and the vault can let it in within the same template.
func (w *writer) identity() { w.add(typeIdentity, versionIdentity, w.n.identity, false, nil) }

func (w *writer) network() {
	allow := func(name string, priority int, ports string) object {
		return object{"name": name, "properties": object{
			"priority": priority, "direction": "Inbound", "access": "Allow", "protocol": "Tcp",
			"sourceAddressPrefix": "Internet", "sourcePortRange": "*",
			"destinationAddressPrefix": "*", "destinationPortRange": ports,
		}}
	}
	// The built-in rules let the balancer's probe in and nothing else.
	w.add(typeNSG, versionNetwork, w.n.nsg, false, object{"properties": object{"securityRules": []any{
		allow("clients", 100, "443"),
		allow("tunnels", 110, "10124"),
	}}})

	// A /27 holds 27 usable addresses: 16 machines and their replacements.
	space, subnet := []any{"10.0.0.0/27"}, object{"addressPrefix": "10.0.0.0/27"}
	if w.d.IPv6 {
		space = append(space, "fd00:db8:deca::/48")
		subnet = object{"addressPrefixes": []any{"10.0.0.0/27", "fd00:db8:deca::/64"}}
	}
	// Said explicitly, because the default changes with the API version; the
	// balancer's outbound rule is the way out.
	subnet["defaultOutboundAccess"] = false
	subnet["networkSecurityGroup"] = w.ref(typeNSG, w.n.nsg)
	w.add(typeVNet, versionNetwork, w.n.vnet, false, object{"properties": object{
		"addressSpace": object{"addressPrefixes": space},
		"subnets":      []any{object{"name": "machines", "properties": subnet}},
	}}, w.id(typeNSG, w.n.nsg))
}

func (w *writer) publicIP(name, version, label string) {
	w.add(typePublicIP, versionNetwork, name, false, object{
		"sku": object{"name": "Standard", "tier": "Regional"},
		"properties": object{
			"publicIPAllocationMethod": "Static",
			"publicIPAddressVersion":   version,
			"dnsSettings":              object{"domainNameLabel": label},
		},
	})
}

// idleMinutes is how long the balancer remembers a silent connection; tunnels
// send keep-alives well below it.
const idleMinutes = 30

func (w *writer) balancer() {
	w.publicIP(w.n.ip, "IPv4", w.d.Name)
	after := []string{w.id(typePublicIP, w.n.ip)}
	front := func(name, ip string) object {
		return object{"name": name, "properties": object{"publicIPAddress": w.ref(typePublicIP, ip)}}
	}
	clients := func(name, front, pool string) object {
		return object{"name": name, "properties": object{
			"frontendIPConfiguration": w.lb("frontendIPConfigurations", front),
			"backendAddressPool":      w.lb("backendAddressPools", pool),
			"probe":                   w.lb("probes", "ready"),
			"protocol":                "Tcp", "frontendPort": 443, "backendPort": 443,
			"disableOutboundSnat": true, "enableTcpReset": true, "idleTimeoutInMinutes": idleMinutes,
		}}
	}
	fronts := []any{front("public", w.n.ip)}
	pools := []any{object{"name": "machines"}}
	rules := []any{clients("clients", "public", "machines")}
	if w.d.IPv6 {
		// Its label differs: a label belongs to one address.
		w.publicIP(w.n.ip6, "IPv6", IPv6Label(w.d.Name))
		after = append(after, w.id(typePublicIP, w.n.ip6))
		fronts = append(fronts, front("public6", w.n.ip6))
		pools = append(pools, object{"name": "machines6"})
		rules = append(rules, clients("clients6", "public6", "machines6"))
	}
	w.add(typeBalancer, versionNetwork, w.n.balancer, false, object{
		"sku": object{"name": "Standard", "tier": "Regional"},
		"properties": object{
			"frontendIPConfigurations": fronts,
			"backendAddressPools":      pools,
			"probes": []any{object{"name": "ready", "properties": object{
				// Plain HTTP on a port that the network security group keeps
				// closed to the internet: a probe has no client certificate.
				"protocol": "Http", "port": HealthPort, "requestPath": HealthPath,
				"intervalInSeconds": 5, "numberOfProbes": 1, "probeThreshold": 2,
			}}},
			"loadBalancingRules": rules,
			// Azure gives each machine one port of the range.
			"inboundNatRules": []any{object{"name": "tunnels", "properties": object{
				"frontendIPConfiguration": w.lb("frontendIPConfigurations", "public"),
				"backendAddressPool":      w.lb("backendAddressPools", "machines"),
				"protocol":                "Tcp",
				"frontendPortRangeStart":  FirstTunnelPort, "frontendPortRangeEnd": FirstTunnelPort + opencmg.MaxInstances - 1,
				"backendPort": TunnelPort, "enableTcpReset": true, "idleTimeoutInMinutes": idleMinutes,
			}}},
			"outboundRules": []any{object{"name": "out", "properties": object{
				"frontendIPConfigurations": w.lbAll("frontendIPConfigurations", "public"),
				"backendAddressPool":       w.lb("backendAddressPools", "machines"),
				"protocol":                 "All", "enableTcpReset": true, "idleTimeoutInMinutes": idleMinutes,
				"allocatedOutboundPorts": 3992, // 16 machines share 64,000, less what the rules take
			}}},
		},
	}, after...)
}

// IPv6Label is the DNS label of the second public address.
func IPv6Label(name string) string { return name + "-v6" }

func (w *writer) storage() {
	n, tls := w.n.storage, "TLS1_0"
	if w.d.EnforceTLS12 {
		tls = "TLS1_2"
	}
	w.add(typeStorage, versionStorage, n, false, object{
		"kind": "StorageV2", "sku": object{"name": "Standard_LRS"},
		"properties": object{
			"accessTier": "Hot", "minimumTlsVersion": tls, "supportsHttpsTrafficOnly": true,
			"allowBlobPublicAccess": false, "allowSharedKeyAccess": true, // signatures for downloads need the key
			"allowCrossTenantReplication": false,
		},
	})
	w.add(typeBlob, versionStorage, n+"/default", true, object{"properties": object{}}, w.id(typeStorage, n))
	for _, c := range []string{ServiceContainer, LogContainer} {
		w.add(typeContainer, versionStorage, n+"/default/"+c, true,
			object{"properties": object{"publicAccess": "None"}}, w.id(typeStorage, n), w.id(typeBlob, n+"/default"))
	}
}

func (w *writer) vault() {
	id := w.id(typeIdentity, w.n.identity)
	let := func(who string, secrets ...string) object {
		return object{"tenantId": w.d.TenantID, "objectId": who, "permissions": object{"secrets": secrets}}
	}
	w.add(typeVault, versionVault, w.n.vault, false, object{"properties": object{
		"tenantId": w.d.TenantID,
		"sku":      object{"family": "A", "name": "standard"},
		// Access policies, not roles: a Contributor of the group can keep them.
		"enableRbacAuthorization": false,
		"enableSoftDelete":        true, "softDeleteRetentionInDays": 7,
		"enabledForDeployment": false, "enabledForTemplateDeployment": false, "enabledForDiskEncryption": false,
		"accessPolicies": []any{
			let("[reference('"+id+"', '"+versionIdentity+"').principalId]", "get", "list"),
			// recover, because a deleted secret blocks its name for days.
			let(w.d.ServerPrincipal, "get", "list", "set", "delete", "recover"),
		},
	}}, id)
}

func (w *writer) scaleSet() {
	d, n := w.d, w.n
	ip := func(name, version, pool string, primary bool) object {
		return object{"name": name, "properties": object{
			"primary": primary, "privateIPAddressVersion": version,
			"subnet":                          w.ref(typeVNet+"/subnets", n.vnet+"/machines"),
			"loadBalancerBackendAddressPools": w.lbAll("backendAddressPools", pool),
		}}
	}
	ips := []any{ip("ip", "IPv4", "machines", true)}
	if d.IPv6 {
		ips = append(ips, ip("ip6", "IPv6", "machines6", false))
	}
	identity := w.id(typeIdentity, n.identity)
	w.add(typeScaleSet, versionCompute, n.scaleSet, false, object{
		"sku":      object{"name": d.Size.Facts().SKU, "tier": "Standard", "capacity": d.Instances},
		"identity": object{"type": "UserAssigned", "userAssignedIdentities": object{identity: object{}}},
		"properties": object{
			"orchestrationMode": "Uniform", "overprovision": false, "singlePlacementGroup": true,
			// Manual: with Rolling, Azure begins to replace machines as soon as
			// the model changes and waits for nobody. Here the site drains each
			// machine first (see Client.Upgrade).
			"upgradePolicy": object{"mode": "Manual"},
			"virtualMachineProfile": object{
				"osProfile": object{
					"computerNamePrefix": n.scaleSet, "adminUsername": "opencmg",
					"customData":               base64.StdEncoding.EncodeToString(d.CustomData),
					"allowExtensionOperations": false,
					"linuxConfiguration": object{
						"disablePasswordAuthentication": true, "provisionVMAgent": true,
						"ssh": object{"publicKeys": []any{object{
							"path": "/home/opencmg/.ssh/authorized_keys", "keyData": nobodysKey(d.GatewayID),
						}}},
					},
				},
				"storageProfile": object{
					"imageReference": image,
					"osDisk": object{"createOption": "FromImage", "caching": "ReadWrite", "osType": "Linux",
						"managedDisk": object{"storageAccountType": "Standard_LRS"}},
				},
				"networkProfile": object{
					"healthProbe": w.lb("probes", "ready"),
					"networkInterfaceConfigurations": []any{object{"name": "nic", "properties": object{
						"primary": true, "networkSecurityGroup": w.ref(typeNSG, n.nsg), "ipConfigurations": ips,
					}}},
				},
				"diagnosticsProfile": object{"bootDiagnostics": object{"enabled": true}},
			},
		},
	}, identity, w.id(typeNSG, n.nsg), w.id(typeVNet, n.vnet), w.id(typeBalancer, n.balancer), w.id(typeVault, n.vault),
		w.id(typeContainer, n.storage+"/default/"+ServiceContainer))
}

// nobodysKey is an SSH public key that nobody has the private half of, since
// Azure wants one and nobody shall sign in. It is a hash where a point of the
// curve should be: the same for a gateway each time, so that the model stays
// the same, and no private key can be computed for it.
func nobodysKey(gatewayID string) string {
	const kind = "ssh-ed25519"
	point := sha256.Sum256([]byte("opencmg: nobody signs in to a machine of gateway " + gatewayID))
	var b []byte
	for _, part := range []string{kind, string(point[:])} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	return kind + " " + base64.StdEncoding.EncodeToString(b) + " nobody"
}
