package labcloud

// Bodies of the network types and of scale sets; see arm_types.go.

type publicIPBody struct {
	Location   string      `json:"location"`
	Tags       tags        `json:"tags"`
	Zones      []string    `json:"zones"`
	Sku        publicIPSku `json:"sku" need:"1"` // without it a Basic address, which is retired
	Properties struct {
		AllocationMethod string `json:"publicIPAllocationMethod" need:"1" one:"Static"`
		Version          string `json:"publicIPAddressVersion" one:"IPv4 IPv6"`
		IdleTimeout      int    `json:"idleTimeoutInMinutes" min:"4" max:"30"`
		DeleteOption     string `json:"deleteOption" one:"Delete Detach"`
		DNSSettings      struct {
			Label       string `json:"domainNameLabel" match:"^[a-z][a-z0-9-]{1,61}[a-z0-9]$"`
			FQDN        string `json:"fqdn"`
			ReverseFQDN string `json:"reverseFqdn"`
		} `json:"dnsSettings"`
		DdosSettings any `json:"ddosSettings"`
	} `json:"properties" need:"1"`
}

type publicIPSku struct {
	Name string `json:"name" need:"1" one:"Standard"`
	Tier string `json:"tier" one:"Regional Global"`
}

type securityGroupBody struct {
	Location   string `json:"location"`
	Tags       tags   `json:"tags"`
	Properties struct {
		SecurityRules   []part[securityRuleProperties] `json:"securityRules"`
		FlushConnection bool                           `json:"flushConnection"`
	} `json:"properties"`
}

type securityRuleProperties struct {
	Access                     string   `json:"access" need:"1" one:"Allow Deny"`
	Direction                  string   `json:"direction" need:"1" one:"Inbound Outbound"`
	Protocol                   string   `json:"protocol" need:"1" one:"Tcp Udp Icmp Esp Ah *"`
	Priority                   int      `json:"priority" need:"1" min:"100" max:"4096"`
	Description                string   `json:"description"`
	SourcePortRange            string   `json:"sourcePortRange" match:"^(\\*|\\d{1,5}(-\\d{1,5})?)$"`
	SourcePortRanges           []string `json:"sourcePortRanges" match:"^\\d{1,5}(-\\d{1,5})?$"`
	DestinationPortRange       string   `json:"destinationPortRange" match:"^(\\*|\\d{1,5}(-\\d{1,5})?)$"`
	DestinationPortRanges      []string `json:"destinationPortRanges" match:"^\\d{1,5}(-\\d{1,5})?$"`
	SourceAddressPrefix        string   `json:"sourceAddressPrefix"`
	SourceAddressPrefixes      []string `json:"sourceAddressPrefixes"`
	DestinationAddressPrefix   string   `json:"destinationAddressPrefix"`
	DestinationAddressPrefixes []string `json:"destinationAddressPrefixes"`
}

type networkBody struct {
	Location   string `json:"location"`
	Tags       tags   `json:"tags"`
	Properties struct {
		AddressSpace struct {
			Prefixes []string `json:"addressPrefixes" need:"1" match:"^[0-9a-fA-F.:]+/\\d{1,3}$"`
		} `json:"addressSpace" need:"1"`
		Subnets              []part[subnetProperties] `json:"subnets"`
		EnableDdosProtection bool                     `json:"enableDdosProtection"`
		DHCPOptions          struct {
			DNSServers []string `json:"dnsServers"`
		} `json:"dhcpOptions"`
	} `json:"properties" need:"1"`
}

type subnetProperties struct {
	AddressPrefix         string    `json:"addressPrefix" match:"^[0-9a-fA-F.:]+/\\d{1,3}$"`
	AddressPrefixes       []string  `json:"addressPrefixes" match:"^[0-9a-fA-F.:]+/\\d{1,3}$"`
	DefaultOutboundAccess bool      `json:"defaultOutboundAccess"`
	NetworkSecurityGroup  reference `json:"networkSecurityGroup"`
	NatGateway            reference `json:"natGateway"`
	ServiceEndpoints      []struct {
		Service   string   `json:"service"`
		Locations []string `json:"locations"`
	} `json:"serviceEndpoints"`
	PrivateEndpointNetworkPolicies    string `json:"privateEndpointNetworkPolicies"`
	PrivateLinkServiceNetworkPolicies string `json:"privateLinkServiceNetworkPolicies"`
}

type loadBalancerBody struct {
	Location string `json:"location"`
	Tags     tags   `json:"tags"`
	Sku      struct {
		Name string `json:"name" need:"1" one:"Standard"`
		Tier string `json:"tier" one:"Regional Global"`
	} `json:"sku" need:"1"`
	Properties struct {
		FrontendIPConfigurations []frontendPart                  `json:"frontendIPConfigurations" need:"1" min:"1"`
		BackendAddressPools      []part[backendPoolProperties]   `json:"backendAddressPools"`
		LoadBalancingRules       []part[balancingRuleProperties] `json:"loadBalancingRules"`
		Probes                   []part[probeProperties]         `json:"probes"`
		InboundNatRules          []part[natRuleProperties]       `json:"inboundNatRules"`
		OutboundRules            []part[outboundRuleProperties]  `json:"outboundRules"`
	} `json:"properties" need:"1"`
}

type frontendPart struct {
	Name       string   `json:"name" need:"1"`
	ID         string   `json:"id"`
	Zones      []string `json:"zones"`
	Properties struct {
		PublicIPAddress           reference `json:"publicIPAddress" need:"1"`
		PrivateIPAllocationMethod string    `json:"privateIPAllocationMethod" one:"Dynamic Static"`
	} `json:"properties" need:"1"`
}

type backendPoolProperties struct {
	DrainPeriodInSeconds int `json:"drainPeriodInSeconds"`
}

type balancingRuleProperties struct {
	FrontendIPConfiguration reference   `json:"frontendIPConfiguration" need:"1"`
	BackendAddressPool      reference   `json:"backendAddressPool"`
	BackendAddressPools     []reference `json:"backendAddressPools"`
	Probe                   reference   `json:"probe"`
	Protocol                string      `json:"protocol" need:"1" one:"Tcp Udp All"`
	FrontendPort            int         `json:"frontendPort" need:"1" min:"0" max:"65534"`
	BackendPort             int         `json:"backendPort" min:"0" max:"65535"`
	IdleTimeoutInMinutes    int         `json:"idleTimeoutInMinutes" min:"4" max:"100"`
	EnableTCPReset          bool        `json:"enableTcpReset"`
	EnableFloatingIP        bool        `json:"enableFloatingIP"`
	DisableOutboundSnat     bool        `json:"disableOutboundSnat"`
	LoadDistribution        string      `json:"loadDistribution" one:"Default SourceIP SourceIPProtocol"`
}

type probeProperties struct {
	Protocol                  string `json:"protocol" need:"1" one:"Http Https Tcp"`
	Port                      int    `json:"port" need:"1" min:"1" max:"65535"`
	RequestPath               string `json:"requestPath" match:"^/"`
	IntervalInSeconds         int    `json:"intervalInSeconds" min:"5"`
	NumberOfProbes            int    `json:"numberOfProbes" min:"1"`
	ProbeThreshold            int    `json:"probeThreshold" min:"1" max:"100"`
	NoHealthyBackendsBehavior string `json:"noHealthyBackendsBehavior" one:"AllProbedDown AllProbedUp"`
}

type natRuleProperties struct {
	FrontendIPConfiguration reference `json:"frontendIPConfiguration" need:"1"`
	BackendAddressPool      reference `json:"backendAddressPool" need:"1"`
	Protocol                string    `json:"protocol" need:"1" one:"Tcp Udp All"`
	BackendPort             int       `json:"backendPort" need:"1" min:"1" max:"65535"`
	FrontendPortRangeStart  int       `json:"frontendPortRangeStart" need:"1" min:"1" max:"65534"`
	FrontendPortRangeEnd    int       `json:"frontendPortRangeEnd" need:"1" min:"1" max:"65534"`
	IdleTimeoutInMinutes    int       `json:"idleTimeoutInMinutes" min:"4" max:"100"`
	EnableTCPReset          bool      `json:"enableTcpReset"`
	EnableFloatingIP        bool      `json:"enableFloatingIP"`
}

type outboundRuleProperties struct {
	FrontendIPConfigurations []reference `json:"frontendIPConfigurations" need:"1" min:"1"`
	BackendAddressPool       reference   `json:"backendAddressPool" need:"1"`
	Protocol                 string      `json:"protocol" need:"1" one:"Tcp Udp All"`
	AllocatedOutboundPorts   int         `json:"allocatedOutboundPorts" min:"0" max:"64000"`
	IdleTimeoutInMinutes     int         `json:"idleTimeoutInMinutes" min:"4" max:"120"`
	EnableTCPReset           bool        `json:"enableTcpReset"`
}

type scaleSetSku struct {
	Name     string `json:"name" one:"Standard_B2s Standard_A2_v2 Standard_A4_v2"`
	Tier     string `json:"tier" one:"Standard Basic"`
	Capacity int    `json:"capacity" min:"0" max:"16"`
}

type scaleSetBody struct {
	Location   string             `json:"location"`
	Tags       tags               `json:"tags"`
	Zones      []string           `json:"zones"`
	Sku        scaleSetSku        `json:"sku" need:"1"`
	Identity   scaleSetIdentity   `json:"identity"`
	Properties scaleSetProperties `json:"properties" need:"1"`
}

// scaleSetPatch is what a PATCH may hold.
type scaleSetPatch struct {
	Tags       tags               `json:"tags"`
	Sku        scaleSetSku        `json:"sku"`
	Identity   scaleSetIdentity   `json:"identity"`
	Properties scaleSetProperties `json:"properties"`
}

type scaleSetIdentity struct {
	Type                   string              `json:"type" need:"1" one:"SystemAssigned UserAssigned SystemAssigned,UserAssigned None"`
	UserAssignedIdentities map[string]struct{} `json:"userAssignedIdentities"`
}

type scaleSetProperties struct {
	OrchestrationMode    string        `json:"orchestrationMode" one:"Uniform"`
	Overprovision        bool          `json:"overprovision"`
	SinglePlacementGroup bool          `json:"singlePlacementGroup"`
	FaultDomains         int           `json:"platformFaultDomainCount" min:"1" max:"5"`
	UpgradePolicy        upgradePolicy `json:"upgradePolicy"`
	ZoneBalance          bool          `json:"zoneBalance"`
	AutomaticRepairs     struct {
		Enabled      bool   `json:"enabled"`
		GracePeriod  string `json:"gracePeriod" match:"^PT\\d+[MH]$"`
		RepairAction string `json:"repairAction" one:"Replace Restart Reimage"`
	} `json:"automaticRepairsPolicy"`
	ScaleInPolicy struct {
		Rules         []string `json:"rules" one:"Default OldestVM NewestVM"`
		ForceDeletion bool     `json:"forceDeletion"`
	} `json:"scaleInPolicy"`
	Profile machineProfile `json:"virtualMachineProfile"`
}

type upgradePolicy struct {
	Mode    string `json:"mode" one:"Manual Automatic Rolling"`
	Rolling struct {
		MaxBatch             int    `json:"maxBatchInstancePercent" min:"5" max:"100"`
		MaxUnhealthy         int    `json:"maxUnhealthyInstancePercent" min:"5" max:"100"`
		MaxUnhealthyUpgraded int    `json:"maxUnhealthyUpgradedInstancePercent" min:"0" max:"100"`
		Pause                string `json:"pauseTimeBetweenBatches" match:"^PT?\\d+[SMHD]"`
		PrioritizeUnhealthy  bool   `json:"prioritizeUnhealthyInstances"`
		RollbackFailed       bool   `json:"rollbackFailedInstancesOnPolicyBreach"`
		EnableCrossZone      bool   `json:"enableCrossZoneUpgrade"`
		MaxSurge             bool   `json:"maxSurge"`
	} `json:"rollingUpgradePolicy"`
	AutomaticOS struct {
		Enable          bool `json:"enableAutomaticOSUpgrade"`
		DisableRollback bool `json:"disableAutomaticRollback"`
		UseRolling      bool `json:"useRollingUpgradePolicy"`
	} `json:"automaticOSUpgradePolicy"`
}

type machineProfile struct {
	OSProfile struct {
		ComputerNamePrefix string `json:"computerNamePrefix" match:"^[a-zA-Z0-9][-a-zA-Z0-9]{0,57}$"`
		AdminUsername      string `json:"adminUsername" match:"^[a-z][-_a-z0-9]{0,31}$"`
		AdminPassword      string `json:"adminPassword"`
		CustomData         string `json:"customData" match:"^[A-Za-z0-9+/]*={0,2}$"`
		AllowExtensions    bool   `json:"allowExtensionOperations"`
		Linux              struct {
			DisablePassword  bool `json:"disablePasswordAuthentication"`
			ProvisionVMAgent bool `json:"provisionVMAgent"`
			SSH              struct {
				PublicKeys []struct {
					Path    string `json:"path" need:"1"`
					KeyData string `json:"keyData" need:"1" match:"^(ssh-|ecdsa-)"`
				} `json:"publicKeys"`
			} `json:"ssh"`
			PatchSettings struct {
				PatchMode      string `json:"patchMode" one:"ImageDefault AutomaticByPlatform"`
				AssessmentMode string `json:"assessmentMode" one:"ImageDefault AutomaticByPlatform"`
			} `json:"patchSettings"`
		} `json:"linuxConfiguration"`
		Secrets []any `json:"secrets"`
	} `json:"osProfile"`
	StorageProfile struct {
		ImageReference struct {
			Publisher string `json:"publisher"`
			Offer     string `json:"offer"`
			Sku       string `json:"sku"`
			Version   string `json:"version"`
			ID        string `json:"id"`
		} `json:"imageReference"`
		OSDisk struct {
			CreateOption string `json:"createOption" one:"FromImage"`
			Caching      string `json:"caching" one:"None ReadOnly ReadWrite"`
			DiskSizeGB   int    `json:"diskSizeGB" min:"30" max:"4095"`
			OSType       string `json:"osType" one:"Linux"`
			DeleteOption string `json:"deleteOption" one:"Delete Detach"`
			ManagedDisk  struct {
				StorageAccountType string `json:"storageAccountType" one:"Standard_LRS StandardSSD_LRS"`
			} `json:"managedDisk"`
		} `json:"osDisk"`
	} `json:"storageProfile"`
	NetworkProfile struct {
		HealthProbe reference `json:"healthProbe"`
		APIVersion  string    `json:"networkApiVersion"`
		Interfaces  []struct {
			Name       string `json:"name" need:"1"`
			ID         string `json:"id"`
			Properties struct {
				Primary               bool      `json:"primary"`
				AcceleratedNetworking bool      `json:"enableAcceleratedNetworking"`
				IPForwarding          bool      `json:"enableIPForwarding"`
				DeleteOption          string    `json:"deleteOption" one:"Delete Detach"`
				NetworkSecurityGroup  reference `json:"networkSecurityGroup"`
				DNSSettings           struct {
					Servers []string `json:"dnsServers"`
				} `json:"dnsSettings"`
				IPConfigurations []struct {
					Name       string `json:"name" need:"1"`
					ID         string `json:"id"`
					Properties struct {
						Primary bool        `json:"primary"`
						Version string      `json:"privateIPAddressVersion" one:"IPv4 IPv6"`
						Subnet  reference   `json:"subnet"`
						Pools   []reference `json:"loadBalancerBackendAddressPools"`
					} `json:"properties"`
				} `json:"ipConfigurations" need:"1" min:"1"`
			} `json:"properties" need:"1"`
		} `json:"networkInterfaceConfigurations"`
	} `json:"networkProfile"`
	SecurityProfile struct {
		EncryptionAtHost bool `json:"encryptionAtHost"`
	} `json:"securityProfile"`
	DiagnosticsProfile struct {
		Boot struct {
			Enabled    bool   `json:"enabled"`
			StorageURI string `json:"storageUri"`
		} `json:"bootDiagnostics"`
	} `json:"diagnosticsProfile"`
	ExtensionProfile struct {
		Extensions []any  `json:"extensions"`
		TimeBudget string `json:"extensionsTimeBudget"`
	} `json:"extensionProfile"`
	Priority        string `json:"priority" one:"Regular"`
	UserData        string `json:"userData"`
	ScheduledEvents any    `json:"scheduledEventsProfile"`
	LicenseType     string `json:"licenseType"`
}
