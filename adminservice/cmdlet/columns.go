package cmdlet

import (
	"maps"
	"slices"
)

// columns are what a table shows of each class; all of an object is in its JSON.
var columns = map[string][]string{
	"SMS_AzureService":           {"Name", "ServiceCName", "State", "Region", "NumberOfInstances", "TrafficOutUsage", "Description"},
	"SMS_AAD_Application_Ex":     {"Name", "IsClientApp", "ClientID", "TenantName", "SecretKeyExpiry"},
	"SMS_AAD_Tenant_Ex":          {"Name", "TenantID"},
	"SMS_Azure_CloudService":     {"ID", "Name", "TenantID", "Description"},
	"SMS_SCI_SysResUse":          {"NetworkOSPath", "RoleName", "SiteCode", "Props"},
	"SMS_Certificate":            {"SMSID", "Type", "ValidUntil", "IsBlocked"},
	"SMS_TrustedRootCertificate": {"Subject", "Store", "ValidUntil", "Thumbprint"},
	"SMS_BoundaryGroup":          {"Name", "GroupID", "SiteSystems", "PreferCloudDPOverDP", "Description"},
}

// Columns are the properties that a table shows of a class; nil for a class that
// has no such list.
func Columns(class string) []string { return columns[class] }

// TableClasses lists the classes that have columns, sorted.
func TableClasses() []string { return slices.Sorted(maps.Keys(columns)) }

// stateWords are the states of a gateway, as the view has them.
var stateWords = map[string]string{"0": "Ready", "1": "Provisioning", "2": "Error", "4": "Starting", "5": "Stopping", "6": "Stopped", "99": "Deleting"}

// StateWord is a gateway's State for people; empty for one that is not known.
func StateWord(state string) string { return stateWords[state] }

// States lists the known states of a gateway, sorted as texts.
func States() []string { return slices.Sorted(maps.Keys(stateWords)) }
