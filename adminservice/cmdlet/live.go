package cmdlet

import "strings"

// A Source says where a site has the values that a parameter may be.
type Source struct {
	Class    string // of the view; empty: nowhere
	Property string
	About    string // a property that describes the value
}

// LiveValues is where the values of a parameter come from, for completion.
func (c *Cmdlet) LiveValues(p *Parameter) Source {
	gateway := Source{classGateway, "ServiceCName", "Region"}
	point := Source{classSystem, "NetworkOSPath", "RoleName"}
	noun := c.Noun()
	switch p.Name {
	case "CloudManagementGatewayName":
		return gateway
	case "SiteSystemServerName", "AddSiteSystemServerName", "RemoveSiteSystemServerName":
		return point
	case "TenantId":
		return Source{classTenant, "TenantID", "Name"}
	case "TenantName":
		return Source{classTenant, "Name", "TenantID"}
	case "ServerApp", "ClientApp":
		return Source{classApplication, "Name", "ClientID"}
	case "ServerAppClientId":
		return Source{classApplication, "ClientID", "Name"}
	case "AppName":
		if c.Verb() == "Get" {
			return Source{classApplication, "Name", "ClientID"}
		}
	case "Name", "Id":
		// What is made has a new name.
		switch {
		case c.Verb() == "New":
		case noun == "CMCloudManagementGateway" && p.Name == "Name":
			return gateway
		case noun == "CMCloudManagementGateway":
			return Source{classGateway, "AzureServiceID", "ServiceCName"}
		case strings.HasSuffix(noun, "AzureService") && p.Name == "Name":
			return Source{classAzureService, "Name", "Description"}
		case strings.HasSuffix(noun, "AzureService"):
			return Source{classAzureService, "ID", "Name"}
		case noun == "CMAADTenant" && p.Name == "Name":
			return Source{classTenant, "Name", "TenantID"}
		case noun == "CMAADTenant":
			return Source{classTenant, "TenantID", "Name"}
		}
	}
	return Source{}
}

// Parameter finds the parameter that a word of a command line names, such as
// -Name or --name; nil when it names none.
func (c *Cmdlet) Parameter(word string) *Parameter {
	name, _, _, ok := splitName(word)
	if !ok {
		return nil
	}
	p, err := c.parameter(name)
	if err != nil {
		return nil
	}
	return p
}
