package azure

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/opencmg/opencmg"
)

// IDs that are the same in every tenant.
const (
	graphAppID           = "00000003-0000-0000-c000-000000000000"
	roleDirectoryReadAll = "7ab1d382-f21e-4acd-a863-ba3e13f7da61" // application permission
	scopeUserRead        = "e1fe6dd8-ba31-4d61-89e7-88639da4683d" // delegated permission
	userImpersonation    = "user_impersonation"
)

// graphURL is the address of a Graph path with query parameters, as name and
// value in turn.
func (c *Client) graphURL(path string, query ...string) string {
	address := c.env.Graph + "/v1.0" + path
	q := url.Values{}
	for i := 0; i+1 < len(query); i += 2 {
		q.Set(query[i], query[i+1])
	}
	if len(q) > 0 {
		address += "?" + strings.ReplaceAll(q.Encode(), "+", "%20")
	}
	return address
}

// equals is an OData filter: a quote in the value is doubled.
func equals(property, value string) string {
	return property + " eq '" + strings.ReplaceAll(value, "'", "''") + "'"
}

func (c *Client) graphGet(ctx context.Context, address string, out any) error {
	_, err := call(ctx, c.graph, http.MethodGet, address, nil, out)
	return err
}

// graphPost creates something: it is not repeated unless Graph says that it
// did nothing.
func (c *Client) graphPost(ctx context.Context, path string, in, out any) error {
	_, err := call(once(ctx), c.graph, http.MethodPost, c.graphURL(path), in, out)
	return err
}

// graphList reads all pages of a list.
func graphList[T any](ctx context.Context, c *Client, address string) ([]T, error) {
	var all []T
	for address != "" {
		var page struct {
			Value    []T    `json:"value"`
			NextLink string `json:"@odata.nextLink"`
		}
		if err := c.graphLink(address); err != nil {
			return nil, err
		}
		if err := c.graphGet(ctx, address, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Value...)
		address = page.NextLink
	}
	return all, nil
}

// graphLink refuses a link that would carry our token to another host.
func (c *Client) graphLink(address string) error {
	if !sameHost(address, c.env.Graph) {
		return opencmg.Errorf(opencmg.Invalid, "the directory's answer goes on at another host than %s", c.env.Graph)
	}
	return nil
}

// TenantInfo describes a tenant.
type TenantInfo struct {
	ID, Name string
	// Domain is the default domain, or the initial one.
	Domain string
	// Domains are all verified domains.
	Domains []string
}

// Tenant reads name and domains of the tenant.
func (c *Client) Tenant(ctx context.Context) (TenantInfo, error) {
	type organization struct {
		ID              string `json:"id"`
		DisplayName     string `json:"displayName"`
		VerifiedDomains []struct {
			Name      string `json:"name"`
			IsDefault bool   `json:"isDefault"`
			IsInitial bool   `json:"isInitial"`
		} `json:"verifiedDomains"`
	}
	orgs, err := graphList[organization](ctx, c, c.graphURL("/organization", "$select", "id,displayName,verifiedDomains"))
	if err != nil {
		return TenantInfo{}, c.fail(ctx, "read the tenant", err)
	}
	for _, o := range orgs {
		if !strings.EqualFold(o.ID, c.tenant) {
			continue
		}
		t := TenantInfo{ID: o.ID, Name: o.DisplayName}
		initial := ""
		for _, d := range o.VerifiedDomains {
			t.Domains = append(t.Domains, d.Name)
			if d.IsDefault {
				t.Domain = d.Name
			}
			if d.IsInitial {
				initial = d.Name
			}
		}
		if t.Domain == "" {
			t.Domain = initial
		}
		return t, nil
	}
	return TenantInfo{}, c.fail(ctx, "read the tenant", &opencmg.CloudError{Code: "TenantNotFound", Message: fmt.Sprintf("the directory answers for %d tenants, and %s is not among them", len(orgs), c.tenant), NextStep: "check the tenant ID and the account that signed in"})
}

// ServicePrincipal finds the object ID of an app's service principal in the
// tenant. A missing one is an error with status 404.
func (c *Client) ServicePrincipal(ctx context.Context, appID string) (objectID string, err error) {
	doing := "find the service principal of app " + appID
	if !opencmg.IsGUID(appID) {
		return "", opencmg.Errorf(opencmg.Invalid, "app ID %q: must be a GUID", appID)
	}
	sp, err := c.principal(ctx, appID)
	if err == nil && sp == nil {
		err = &opencmg.CloudError{Code: "Request_ResourceNotFound", Message: "the tenant has no service principal of the app", Target: appID, Status: http.StatusNotFound}
	}
	if err != nil {
		return "", c.fail(ctx, doing, err)
	}
	return sp.ID, nil
}

type principal struct {
	ID    string `json:"id"`
	AppID string `json:"appId"`
}

// principal returns an app's service principal, or nil.
func (c *Client) principal(ctx context.Context, appID string) (*principal, error) {
	found, err := graphList[principal](ctx, c, c.graphURL("/servicePrincipals", "$filter", equals("appId", appID), "$select", "id,appId"))
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

// application is an app registration as it is read.
type application struct {
	ID                        string   `json:"id"`
	AppID                     string   `json:"appId"`
	DisplayName               string   `json:"displayName"`
	Notes                     string   `json:"notes"`
	IdentifierURIs            []string `json:"identifierUris"`
	SignInAudience            string   `json:"signInAudience"`
	IsFallbackPublicClient    *bool    `json:"isFallbackPublicClient"`
	IsDeviceOnlyAuthSupported *bool    `json:"isDeviceOnlyAuthSupported"`
	API                       struct {
		Scopes []permissionScope `json:"oauth2PermissionScopes"`
	} `json:"api"`
	PublicClient struct {
		RedirectURIs []string `json:"redirectUris"`
	} `json:"publicClient"`
	Web struct {
		RedirectURIs []string `json:"redirectUris"`
	} `json:"web"`
	PasswordCredentials    []passwordCredential     `json:"passwordCredentials"`
	RequiredResourceAccess []requiredResourceAccess `json:"requiredResourceAccess"`
}

type permissionScope struct {
	ID                      string `json:"id"`
	Value                   string `json:"value"`
	Type                    string `json:"type"`
	IsEnabled               bool   `json:"isEnabled"`
	AdminConsentDisplayName string `json:"adminConsentDisplayName"`
	AdminConsentDescription string `json:"adminConsentDescription"`
}

type requiredResourceAccess struct {
	ResourceAppID  string           `json:"resourceAppId"`
	ResourceAccess []resourceAccess `json:"resourceAccess"`
}

type resourceAccess struct {
	ID   string `json:"id"`
	Type string `json:"type"`
}

// appsWhere lists the applications that a filter finds.
func (c *Client) appsWhere(ctx context.Context, filter string) ([]application, error) {
	return graphList[application](ctx, c, c.graphURL("/applications", "$filter", filter))
}

// appByID finds an application by its client ID; nil when there is none.
func (c *Client) appByID(ctx context.Context, appID string) (*application, error) {
	found, err := c.appsWhere(ctx, equals("appId", appID))
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}
