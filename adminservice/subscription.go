package adminservice

// What a server application may use in Azure, to choose from. The cloud is asked,
// and its answer is kept for a minute.

// A Subscription is one that a server application sees
// (GET Applications/{id}/subscriptions).
type Subscription struct {
	ID    string `json:"id"` // GUID
	Name  string `json:"name"`
	State string `json:"state"` // Enabled, Warned, PastDue, Disabled or Deleted
}

// A Region is a place of a subscription in which a gateway can be
// (GET Applications/{id}/subscriptions/{subscription}/regions).
type Region struct {
	Name        string `json:"name"`        // such as westeurope
	DisplayName string `json:"displayName"` // such as West Europe
}

// A ResourceGroup is a resource group of a subscription that a server application
// may read (GET Applications/{id}/subscriptions/{subscription}/resourceGroups).
type ResourceGroup struct {
	Name   string `json:"name"`
	Region string `json:"region"` // such as westeurope
}
