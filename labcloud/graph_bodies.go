package labcloud

// What bodies of Graph may hold (see shape.go). A client that sends null or
// leaves a property out means the same.

type permissionScope struct {
	ID                      string `json:"id" need:"1" match:"GUID"`
	Value                   string `json:"value"`
	Type                    string `json:"type" one:"User Admin"`
	IsEnabled               bool   `json:"isEnabled"`
	AdminConsentDisplayName string `json:"adminConsentDisplayName" need:"1"`
	AdminConsentDescription string `json:"adminConsentDescription" need:"1"`
	UserConsentDisplayName  string `json:"userConsentDisplayName"`
	UserConsentDescription  string `json:"userConsentDescription"`
}

type apiApplication struct {
	AcceptMappedClaims          bool              `json:"acceptMappedClaims"`
	KnownClientApplications     []string          `json:"knownClientApplications" match:"GUID"`
	Oauth2PermissionScopes      []permissionScope `json:"oauth2PermissionScopes"`
	PreAuthorizedApplications   []preAuthorized   `json:"preAuthorizedApplications"`
	RequestedAccessTokenVersion int               `json:"requestedAccessTokenVersion" min:"1" max:"2"`
}

type preAuthorized struct {
	AppID                  string   `json:"appId" match:"GUID"`
	DelegatedPermissionIDs []string `json:"delegatedPermissionIds"`
}

type webApplication struct {
	HomePageURL           string        `json:"homePageUrl" match:"^https?://"`
	ImplicitGrantSettings implicitGrant `json:"implicitGrantSettings"`
	LogoutURL             string        `json:"logoutUrl"`
	RedirectURIs          []string      `json:"redirectUris" match:"^(https://|http://(localhost|127\\.0\\.0\\.1))"`
}

type implicitGrant struct {
	EnableAccessTokenIssuance bool `json:"enableAccessTokenIssuance"`
	EnableIDTokenIssuance     bool `json:"enableIdTokenIssuance"`
}

type redirects struct {
	RedirectURIs []string `json:"redirectUris" match:"^[a-z][a-z0-9+.-]*:"`
}

type requiredResource struct {
	ResourceAppID  string           `json:"resourceAppId" need:"1" match:"GUID"`
	ResourceAccess []resourceAccess `json:"resourceAccess" need:"1"`
}

type resourceAccess struct {
	ID   string `json:"id" need:"1" match:"GUID"`
	Type string `json:"type" need:"1" one:"Role Scope"`
}

type appRole struct {
	ID                 string   `json:"id" need:"1" match:"GUID"`
	AllowedMemberTypes []string `json:"allowedMemberTypes" one:"User Application"`
	DisplayName        string   `json:"displayName"`
	Description        string   `json:"description"`
	IsEnabled          bool     `json:"isEnabled"`
	Value              string   `json:"value"`
}

type applicationBody struct {
	DisplayName                string             `json:"displayName" match:"^.{1,256}$"`
	Description                string             `json:"description"`
	Notes                      string             `json:"notes"`
	Tags                       []string           `json:"tags"`
	SignInAudience             string             `json:"signInAudience" one:"AzureADMyOrg AzureADMultipleOrgs AzureADandPersonalMicrosoftAccount PersonalMicrosoftAccount"`
	IdentifierURIs             []string           `json:"identifierUris" match:"^[a-z][a-z0-9+.-]*://[^ ]+[^/ ]$"`
	API                        apiApplication     `json:"api"`
	Web                        webApplication     `json:"web"`
	SPA                        redirects          `json:"spa"`
	PublicClient               redirects          `json:"publicClient"`
	IsFallbackPublicClient     bool               `json:"isFallbackPublicClient"`
	IsDeviceOnlyAuthSupported  bool               `json:"isDeviceOnlyAuthSupported"`
	RequiredResourceAccess     []requiredResource `json:"requiredResourceAccess"`
	AppRoles                   []appRole          `json:"appRoles"`
	GroupMembershipClaims      string             `json:"groupMembershipClaims"`
	OptionalClaims             any                `json:"optionalClaims"`
	Info                       any                `json:"info"`
	ServiceManagementReference string             `json:"serviceManagementReference"`
}

type credentialBody struct {
	DisplayName   string `json:"displayName"`
	StartDateTime string `json:"startDateTime" match:"^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d+)?(Z|[+-]\\d\\d:\\d\\d)$"`
	EndDateTime   string `json:"endDateTime" match:"^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d+)?(Z|[+-]\\d\\d:\\d\\d)$"`
}

type addPasswordBody struct {
	PasswordCredential credentialBody `json:"passwordCredential" need:"1"`
}

type removePasswordBody struct {
	KeyID string `json:"keyId" need:"1" match:"GUID"`
}

type newPrincipalBody struct {
	AppID                     string   `json:"appId" need:"1" match:"GUID"`
	AccountEnabled            bool     `json:"accountEnabled"`
	AppRoleAssignmentRequired bool     `json:"appRoleAssignmentRequired"`
	Tags                      []string `json:"tags"`
	Notes                     string   `json:"notes"`
	DisplayName               string   `json:"displayName"`
}

type newGrantBody struct {
	ClientID    string `json:"clientId" need:"1" match:"GUID"`
	ConsentType string `json:"consentType" need:"1" one:"AllPrincipals Principal"`
	PrincipalID string `json:"principalId" match:"GUID"`
	ResourceID  string `json:"resourceId" need:"1" match:"GUID"`
	Scope       string `json:"scope" need:"1" match:"\\S"`
}

type newRoleGrantBody struct {
	PrincipalID string `json:"principalId" need:"1" match:"GUID"`
	ResourceID  string `json:"resourceId" need:"1" match:"GUID"`
	AppRoleID   string `json:"appRoleId" need:"1" match:"GUID"`
}
