package azure

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/opencmg/opencmg"
)

// CheckConsent looks whether an administrator of the tenant has consented: that
// all users may use the client app for the server app, and, with directory,
// that the server app may read the directory. It grants nothing. What this
// identity may not see is a check in state todo. The error is only about the
// sign-in and a context's end.
func (c *Client) CheckConsent(ctx context.Context, serverAppID, clientAppID string, directory bool) ([]opencmg.Check, error) {
	if err := c.SignInGraph(ctx); err != nil {
		return nil, err
	}
	checks := []opencmg.Check{c.usersConsented(ctx, serverAppID, clientAppID)}
	if directory {
		checks = append(checks, c.directoryConsented(ctx, serverAppID))
	}
	return checks, ctx.Err()
}

// notConsented is a consent that is missing, or that nobody could look for.
func (c *Client) notConsented(ctx context.Context, id, name, missing string, err error) opencmg.Check {
	check := opencmg.Check{ID: id, Name: name, State: opencmg.CheckFail, Evidence: missing, NextStep: "grant it in the portal: App registrations, the app, API permissions, Grant admin consent"}
	if err == nil {
		return check
	}
	check.State, check.Evidence = opencmg.CheckTodo, err.Error()
	if ce, ok := asCloud(c.fail(ctx, name, err)); ok {
		check.Evidence = ce.Code + ": " + ce.Message
		if ce.Status == http.StatusForbidden {
			check.Evidence = "the server app may not read the directory, so the program can not see it (" + check.Evidence + ")"
			check.NextStep = "look in the portal: App registrations, the app, API permissions, Status; or grant the server app Directory.Read.All"
		}
	}
	return check
}

func (c *Client) usersConsented(ctx context.Context, serverAppID, clientAppID string) opencmg.Check {
	const id, name = "consent-users", "Consent for all users"
	client, err := c.principal(ctx, clientAppID)
	if err != nil {
		return c.notConsented(ctx, id, name, "", err)
	}
	server, err := c.principal(ctx, serverAppID)
	if err != nil {
		return c.notConsented(ctx, id, name, "", err)
	}
	if client == nil || server == nil {
		return c.notConsented(ctx, id, name, "an app has no service principal in this tenant, so nobody can have consented", nil)
	}
	type grant struct {
		ConsentType string `json:"consentType"`
		ResourceID  string `json:"resourceId"`
		Scope       string `json:"scope"`
	}
	grants, err := graphList[grant](ctx, c, c.graphURL("/oauth2PermissionGrants", "$filter", equals("clientId", client.ID)))
	if err != nil {
		return c.notConsented(ctx, id, name, "", err)
	}
	for _, g := range grants {
		if g.ResourceID == server.ID && g.ConsentType == "AllPrincipals" && slices.Contains(strings.Fields(g.Scope), userImpersonation) {
			return opencmg.Check{ID: id, Name: name, State: opencmg.CheckPass, Evidence: userImpersonation + " is granted for all users"}
		}
	}
	return c.notConsented(ctx, id, name, userImpersonation+" is not granted for all users", nil)
}

func (c *Client) directoryConsented(ctx context.Context, serverAppID string) opencmg.Check {
	const id, name = "consent-directory", "Consent to read the directory"
	server, err := c.principal(ctx, serverAppID)
	if err != nil {
		return c.notConsented(ctx, id, name, "", err)
	}
	graph, err := c.principal(ctx, graphAppID)
	if err != nil {
		return c.notConsented(ctx, id, name, "", err)
	}
	if server == nil || graph == nil {
		return c.notConsented(ctx, id, name, "the server app or Microsoft Graph has no service principal in this tenant", nil)
	}
	type assignment struct {
		ResourceID string `json:"resourceId"`
		AppRoleID  string `json:"appRoleId"`
	}
	have, err := graphList[assignment](ctx, c, c.graphURL("/servicePrincipals/"+server.ID+"/appRoleAssignments"))
	if err != nil {
		return c.notConsented(ctx, id, name, "", err)
	}
	if slices.Contains(have, assignment{graph.ID, roleDirectoryReadAll}) {
		return opencmg.Check{ID: id, Name: name, State: opencmg.CheckPass, Evidence: "Directory.Read.All is granted"}
	}
	return c.notConsented(ctx, id, name, "Directory.Read.All is not granted to the server app", nil)
}
