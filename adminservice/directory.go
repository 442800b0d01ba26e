package adminservice

import "time"

// A User is a user that discovery found in a tenant.
type User struct {
	ID                       string    `json:"id"` // object ID
	TenantID                 string    `json:"tenantId"`
	DisplayName              string    `json:"displayName,omitempty"`
	GivenName                string    `json:"givenName,omitempty"`
	Surname                  string    `json:"surname,omitempty"`
	UserPrincipalName        string    `json:"userPrincipalName,omitempty"`
	Mail                     string    `json:"mail,omitempty"`
	AccountEnabled           *bool     `json:"accountEnabled,omitempty"`
	OnPremisesSyncEnabled    *bool     `json:"onPremisesSyncEnabled,omitempty"`
	OnPremisesSID            string    `json:"onPremisesSecurityIdentifier,omitempty"`
	OnPremisesSAMAccountName string    `json:"onPremisesSamAccountName,omitempty"`
	OnPremisesDomainName     string    `json:"onPremisesDomainName,omitempty"`
	Changed                  time.Time `json:"changed"` // as the site learned of it
}

// A Group is a group that discovery found in a tenant.
type Group struct {
	ID              string    `json:"id"` // object ID
	TenantID        string    `json:"tenantId"`
	DisplayName     string    `json:"displayName,omitempty"`
	Description     string    `json:"description,omitempty"`
	MailEnabled     *bool     `json:"mailEnabled,omitempty"`
	SecurityEnabled *bool     `json:"securityEnabled,omitempty"`
	OnPremisesSID   string    `json:"onPremisesSecurityIdentifier,omitempty"`
	Members         int       `json:"members"` // GET Users?group= lists those that are users
	Changed         time.Time `json:"changed"` // as the site learned of it
}
