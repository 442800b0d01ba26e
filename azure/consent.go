package azure

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/opencmg/opencmg"
)

// consent is the outcome of granting a permission; err is why it was not.
func (c *Client) consent(ctx context.Context, name string, err error, evidence string) opencmg.Check {
	check := opencmg.Check{ID: "consent", Name: name, State: opencmg.CheckPass, Evidence: evidence}
	if err == nil {
		return check
	}
	check.State = opencmg.CheckTodo
	check.NextStep = "have an administrator grant the consent in the portal: App registrations, the app, API permissions, Grant admin consent"
	check.Evidence = err.Error()
	if ce, ok := asCloud(c.fail(ctx, name, err)); ok {
		check.Evidence = ce.Code + ": " + ce.Message
	}
	return check
}

// consentUsers lets all users use the client app for the server app.
func (c *Client) consentUsers(ctx context.Context, clientPrincipal, serverAppID string, p opencmg.Progress) opencmg.Check {
	const name = "Consent for all users"
	server, err := c.principal(ctx, serverAppID)
	if err == nil && server == nil {
		err = &opencmg.CloudError{Code: "Request_ResourceNotFound", Message: "the server app has no service principal in this tenant", Status: http.StatusNotFound}
	}
	if err != nil {
		return c.consent(ctx, name, err, "")
	}
	type grant struct {
		ID          string `json:"id,omitempty"`
		ClientID    string `json:"clientId"`
		ConsentType string `json:"consentType"`
		ResourceID  string `json:"resourceId"`
		Scope       string `json:"scope"`
	}
	grants, err := graphList[grant](ctx, c, c.graphURL("/oauth2PermissionGrants", "$filter", equals("clientId", clientPrincipal)))
	if err != nil {
		return c.consent(ctx, name, err, "")
	}
	for _, g := range grants {
		if g.ResourceID == server.ID && g.ConsentType == "AllPrincipals" && slices.Contains(strings.Fields(g.Scope), userImpersonation) {
			return c.consent(ctx, name, nil, "was granted before")
		}
	}
	tell(p, "consent", userImpersonation+" for all users")
	err = c.replicate(ctx, func() error {
		err := c.graphPost(ctx, "/oauth2PermissionGrants", grant{ClientID: clientPrincipal, ConsentType: "AllPrincipals", ResourceID: server.ID, Scope: userImpersonation}, nil)
		if status(err) == http.StatusConflict {
			return nil
		}
		return err
	})
	return c.consent(ctx, name, err, userImpersonation+" is granted")
}

// consentDirectory grants Directory.Read.All to the server app.
func (c *Client) consentDirectory(ctx context.Context, serverPrincipal string, p opencmg.Progress) opencmg.Check {
	const name = "Consent to read the directory"
	graph, err := c.principal(ctx, graphAppID)
	if err == nil && graph == nil {
		err = &opencmg.CloudError{Code: "Request_ResourceNotFound", Message: "the tenant has no service principal of Microsoft Graph", Status: http.StatusNotFound}
	}
	if err != nil {
		return c.consent(ctx, name, err, "")
	}
	type assignment struct {
		PrincipalID string `json:"principalId"`
		ResourceID  string `json:"resourceId"`
		AppRoleID   string `json:"appRoleId"`
	}
	want := assignment{serverPrincipal, graph.ID, roleDirectoryReadAll}
	path := "/servicePrincipals/" + serverPrincipal + "/appRoleAssignments"
	var have []assignment
	err = c.replicate(ctx, func() (err error) {
		have, err = graphList[assignment](ctx, c, c.graphURL(path))
		return err
	})
	if err != nil {
		return c.consent(ctx, name, err, "")
	}
	if slices.Contains(have, want) {
		return c.consent(ctx, name, nil, "was granted before")
	}
	tell(p, "consent", "Directory.Read.All")
	err = c.replicate(ctx, func() error {
		err := c.graphPost(ctx, path, want, nil)
		if status(err) == http.StatusConflict || isCode(err, "InvalidUpdate") {
			return nil // it exists
		}
		return err
	})
	return c.consent(ctx, name, err, "Directory.Read.All is granted")
}
