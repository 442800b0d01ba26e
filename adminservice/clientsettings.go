package adminservice

// DefaultClientSettingsName is the name of the client settings that hold for
// every client.
const DefaultClientSettingsName = "Default Client Agent Settings"

// ClientSettings are what the site's own management points tell clients to do
// (GET ClientSettings). A site has one, for all clients. Intervals are in
// minutes, 1 to 44,640 (31 days).
type ClientSettings struct {
	ID      string `json:"id"` // 0 for the default ones, as in Configuration Manager
	Version int64  `json:"version"`
	Name    string `json:"name"`
	// AllowCloudManagementGateway is "Enable clients to use a cloud management
	// gateway" (cmg-behaviour K1), true at first. A client that is outside when
	// it is switched off learns of a new value only inside.
	AllowCloudManagementGateway bool `json:"allowCloudManagementGateway"`
	// AllowCloudDistributionPoint is "Allow access to cloud distribution point",
	// false at first; clients need it for content of gateways.
	AllowCloudDistributionPoint bool `json:"allowCloudDistributionPoint"`
	// AutoAzureADJoin has Windows clients that are joined to a domain register
	// with Microsoft Entra ID by themselves; true at first.
	AutoAzureADJoin bool `json:"autoAzureADJoin"`

	PolicyMinutes    int `json:"policyMinutes"`    // between policy requests; 60 at first
	LocationMinutes  int `json:"locationMinutes"`  // between location requests; 1,440 at first
	InventoryMinutes int `json:"inventoryMinutes"` // between hardware inventories; 10,080 at first
	DiscoveryMinutes int `json:"discoveryMinutes"` // between heartbeats; 10,080 at first
	StateMinutes     int `json:"stateMinutes"`     // between state reports; 15 at first
	KeepAliveMinutes int `json:"keepAliveMinutes"` // of notification; 15 at first
}

// A ClientSettingsChange changes [ClientSettings] (PATCH ClientSettings/{id}). A
// key that is missing leaves what it names as it is.
type ClientSettingsChange struct {
	AllowCloudManagementGateway *bool `json:"allowCloudManagementGateway,omitempty"`
	AllowCloudDistributionPoint *bool `json:"allowCloudDistributionPoint,omitempty"`
	AutoAzureADJoin             *bool `json:"autoAzureADJoin,omitempty"`
	PolicyMinutes               *int  `json:"policyMinutes,omitempty"`
	LocationMinutes             *int  `json:"locationMinutes,omitempty"`
	InventoryMinutes            *int  `json:"inventoryMinutes,omitempty"`
	DiscoveryMinutes            *int  `json:"discoveryMinutes,omitempty"`
	StateMinutes                *int  `json:"stateMinutes,omitempty"`
	KeepAliveMinutes            *int  `json:"keepAliveMinutes,omitempty"`
}
