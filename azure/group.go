package azure

import (
	"context"
	"crypto/sha256"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v3"
	"github.com/opencmg/opencmg"
)

// EnsureGroup makes sure that the deployment's resource group exists in its
// region. It makes a missing one if the deployment says so, and marks it with
// the gateway's tag, by which [Client.Delete] knows it. created reports that
// the group is this gateway's own, made now or in an earlier call.
func (c *Client) EnsureGroup(ctx context.Context, d *opencmg.Deployment) (created bool, err error) {
	doing := "resource group " + d.ResourceGroup
	g, err := c.group(ctx, d)
	if err != nil {
		return false, c.fail(ctx, doing, err)
	}
	if g != nil {
		if deref(g.Properties).ProvisioningState != nil && *g.Properties.ProvisioningState == "Deleting" {
			return false, c.fail(ctx, doing, &opencmg.CloudError{Code: "ResourceGroupBeingDeleted", Message: "the resource group is being deleted", Status: http.StatusConflict})
		}
		if at := opencmg.RegionName(deref(g.Location)); at != d.Region {
			return false, c.fail(ctx, doing, wrongRegion(d, at))
		}
		return deref(g.Tags[opencmg.GatewayTag]) == d.GatewayID, nil
	}
	if !d.CreateGroup {
		return false, c.fail(ctx, doing, &opencmg.CloudError{Code: "ResourceGroupNotFound", Message: "the resource group does not exist", Status: http.StatusNotFound})
	}
	groups, err := typed(c, d.SubscriptionID, versionResources, armresources.NewResourceGroupsClient)
	if err != nil {
		return false, err
	}
	_, err = groups.CreateOrUpdate(ctx, d.ResourceGroup, armresources.ResourceGroup{
		Location: &d.Region,
		Tags:     map[string]*string{opencmg.GatewayTag: &d.GatewayID},
	}, nil)
	if err != nil {
		return false, c.fail(ctx, "create "+doing, err)
	}
	c.log.InfoContext(ctx, "resource group created", "group", d.ResourceGroup, "region", d.Region)
	return true, nil
}

func wrongRegion(d *opencmg.Deployment, at string) *opencmg.CloudError {
	return &opencmg.CloudError{
		Code:    "InvalidResourceGroupLocation",
		Message: "the resource group exists in " + at + ", the gateway is to be in " + d.Region,
		Target:  d.ResourceGroup, Status: http.StatusConflict,
	}
}

// group returns the resource group, or nil when there is none.
func (c *Client) group(ctx context.Context, d *opencmg.Deployment) (*armresources.ResourceGroup, error) {
	groups, err := typed(c, d.SubscriptionID, versionResources, armresources.NewResourceGroupsClient)
	if err != nil {
		return nil, err
	}
	r, err := groups.Get(ctx, d.ResourceGroup, nil)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &r.ResourceGroup, nil
}

// roleContributor is the built-in role of that name.
const roleContributor = "b24988ac-6180-42a0-ab88-20f7382dd24c"

// GrantContributor makes a service principal, normally the server app's,
// Contributor of the deployment's resource group. It takes an Owner's sign-in.
// Calling it again changes nothing.
func (c *Client) GrantContributor(ctx context.Context, d *opencmg.Deployment, principalID string) error {
	doing := "make " + principalID + " Contributor of resource group " + d.ResourceGroup
	if !opencmg.IsGUID(principalID) {
		return opencmg.Errorf(opencmg.Invalid, "service principal %q: must be a GUID", principalID)
	}
	// The name is computed, so that the same assignment is made only once.
	sum := sha256.Sum256([]byte(strings.ToLower(groupPath(d) + "|" + principalID + "|" + roleContributor)))
	name := guid([16]byte(sum[:16]))
	_, err := call(ctx, c.arm, http.MethodPut, c.armURL(groupPath(d)+"/providers/Microsoft.Authorization/roleAssignments/"+name, versionAuthorization), object{"properties": object{
		"roleDefinitionId": "/subscriptions/" + d.SubscriptionID + "/providers/Microsoft.Authorization/roleDefinitions/" + roleContributor,
		"principalId":      principalID,
		"principalType":    "ServicePrincipal", // else it fails while the directory spreads a new principal
	}}, nil)
	if status(err) == http.StatusConflict && isCode(err, "RoleAssignmentExists") {
		return nil
	}
	return c.fail(ctx, doing, err)
}
