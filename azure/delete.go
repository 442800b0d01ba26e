package azure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"github.com/opencmg/opencmg"
)

// Delete removes what a deployment made, dependants first: only resources in
// the group that carry the gateway's tag. The group itself goes when
// groupCreatedByUs, it carries the tag, and nothing else is in it. A run that
// was cut off is continued by calling again. What could not be deleted is
// named in the error, one detail each; the rest is gone.
//
// Azure keeps a deleted vault, and with it its name, for days. It is purged if
// the identity may do that, which takes a right on the subscription; if not, p
// hears so, and a gateway of the same name in the same group gets it back.
func (c *Client) Delete(ctx context.Context, d *opencmg.Deployment, groupCreatedByUs bool, p opencmg.Progress) error {
	doing := "delete " + d.Name
	group, err := c.group(ctx, d)
	if err != nil {
		return c.fail(ctx, doing, err)
	}
	if group == nil {
		return c.fail(ctx, doing, c.purgeVault(ctx, d, false, p))
	}
	if err := c.cancelDeployment(ctx, d, p); err != nil {
		return c.fail(ctx, doing, err)
	}
	n := namesOf(d)
	var left []opencmg.CloudError
	gone := map[string]bool{}
	vaultGone := false
	for _, r := range []struct{ typ, name, version string }{
		{typeScaleSet, n.scaleSet, versionCompute},
		{typeBalancer, n.balancer, versionNetwork},
		{typePublicIP, n.ip, versionNetwork},
		{typePublicIP, n.ip6, versionNetwork},
		{typeVNet, n.vnet, versionNetwork},
		{typeNSG, n.nsg, versionNetwork},
		{typeVault, n.vault, versionVault},
		{typeIdentity, n.identity, versionIdentity},
		{typeStorage, n.storage, versionStorage},
	} {
		deleted, err := c.deleteOwn(ctx, d, r.typ, r.name, r.version, p)
		if err != nil {
			err = c.fail(ctx, doing, err)
			ce, ok := asCloud(err)
			if !ok || ce.Code == CodeUnreachable {
				return err
			}
			ce.Target = resourceID(d, r.typ, r.name)
			left = append(left, *ce)
			continue
		}
		gone[strings.ToLower(resourceID(d, r.typ, r.name))] = true
		vaultGone = vaultGone || deleted && r.typ == typeVault
	}
	if err := c.purgeVault(ctx, d, vaultGone, p); err != nil {
		return c.fail(ctx, doing, err)
	}
	others, err := c.rest(ctx, d, gone, &left)
	if err != nil {
		return c.fail(ctx, doing, err)
	}
	if len(left) > 0 {
		return c.fail(ctx, doing, remains(left))
	}
	if groupCreatedByUs && deref(group.Tags[opencmg.GatewayTag]) == d.GatewayID {
		if len(others) == 0 {
			tell(p, "delete", "resource group "+d.ResourceGroup)
			_, err := follow[struct{}](ctx, c, http.MethodDelete, c.armURL(groupPath(d), versionResources), nil, nil)
			if err != nil && !isNotFound(err) {
				return c.fail(ctx, "delete resource group "+d.ResourceGroup, err)
			}
			return nil
		}
		tell(p, "delete", "resource group "+d.ResourceGroup+" stays: it also holds "+strings.Join(others, ", "))
	}
	// The record of the deployment holds names, no secrets.
	if _, err := follow[struct{}](ctx, c, http.MethodDelete, c.armURL(resourceID(d, typeDeployment, DeploymentRecord(d)), versionResources), nil, nil); err != nil && !isNotFound(err) {
		c.log.WarnContext(ctx, "the record of the deployment stays", "gateway", d.Name, "err", c.fail(ctx, "delete the record", err))
	}
	return nil
}

// remains is one error about all that could not be deleted.
func remains(left []opencmg.CloudError) error {
	if len(left) == 1 {
		return &left[0]
	}
	ce := &opencmg.CloudError{Code: left[0].Code, Message: fmt.Sprintf("%d resources could not be deleted", len(left)), Details: left}
	for _, l := range left {
		ce.Retryable = ce.Retryable || l.Retryable
	}
	return ce
}

// deleteOwn deletes a resource if it exists and carries the gateway's tag.
func (c *Client) deleteOwn(ctx context.Context, d *opencmg.Deployment, typ, name, version string, p opencmg.Progress) (bool, error) {
	own, err := c.owns(ctx, d, typ, name, version)
	if err != nil || !own {
		return false, err
	}
	tell(p, "delete", typ+" "+name)
	_, err = follow[struct{}](ctx, c, http.MethodDelete, c.armURL(resourceID(d, typ, name), version), nil, nil)
	if err != nil && !isNotFound(err) {
		return false, err
	}
	return true, nil
}

// cancelDeployment stops a deployment that still runs, so that it makes
// nothing more while its resources are deleted.
func (c *Client) cancelDeployment(ctx context.Context, d *opencmg.Deployment, p opencmg.Progress) error {
	s, err := c.deployment(ctx, d)
	if isNotFound(err) {
		return nil
	}
	if err != nil || !s.running() {
		return err
	}
	tell(p, "cancel", "the deployment still runs: it is cancelled")
	_, err = call(ctx, c.arm, http.MethodPost, c.armURL(resourceID(d, typeDeployment, DeploymentRecord(d))+"/cancel", versionResources), nil, nil)
	// It may have ended in between.
	if err != nil && status(err) != http.StatusConflict && !isNotFound(err) {
		return err
	}
	_, _, err = c.joinDeployment(ctx, d, nil)
	if status(err) == 0 && ctx.Err() == nil && !isCode(err, CodeUnreachable) {
		var ce *opencmg.CloudError
		if errors.As(err, &ce) {
			return nil // cancelled, or failed by itself
		}
	}
	return err
}

// rest lists what else is in the group; what carries the gateway's tag is
// added to left.
func (c *Client) rest(ctx context.Context, d *opencmg.Deployment, gone map[string]bool, left *[]opencmg.CloudError) (others []string, err error) {
	next := c.armURL(groupPath(d)+"/resources", versionResources)
	for next != "" {
		var page struct {
			Value []struct {
				ID   string            `json:"id"`
				Tags map[string]string `json:"tags"`
			} `json:"value"`
			NextLink string `json:"nextLink"`
		}
		if !sameHost(next, c.env.ResourceManager) {
			return nil, opencmg.Errorf(opencmg.Invalid, "the list of resources goes on at another host")
		}
		if _, err := call(ctx, c.arm, http.MethodGet, next, nil, &page); err != nil {
			return nil, err
		}
		for _, r := range page.Value {
			// The list lags behind deletions.
			if gone[strings.ToLower(r.ID)] && r.Tags[opencmg.GatewayTag] == d.GatewayID {
				continue
			}
			typ, name := splitID(r.ID)
			others = append(others, typ+" "+name)
			known := false
			for _, l := range *left {
				known = known || strings.EqualFold(l.Target, r.ID)
			}
			if r.Tags[opencmg.GatewayTag] == d.GatewayID && !known {
				*left = append(*left, opencmg.CloudError{Code: "UnknownResource", Target: r.ID,
					Message: "carries the gateway's tag, but was not made by its deployment", NextStep: "delete it in the portal, or remove the tag " + opencmg.GatewayTag})
			}
		}
		next = page.NextLink
	}
	return others, nil
}

// purgeVault purges the deployment's deleted vault. just says that this call
// deleted it; otherwise its tag must be the gateway's.
func (c *Client) purgeVault(ctx context.Context, d *opencmg.Deployment, just bool, p opencmg.Progress) error {
	vaults, err := typed(c, d.SubscriptionID, versionVault, armkeyvault.NewVaultsClient)
	if err != nil {
		return err
	}
	keeps := func(err error) {
		text := "the name " + d.Name + " stays taken by the deleted key vault"
		if ce, ok := asCloud(c.fail(ctx, "purge", err)); ok {
			text += " (" + ce.Code + ": " + ce.Message + ")"
		}
		tell(p, "purge", text+"; who has the right on the subscription can purge it, otherwise it goes after 7 days")
	}
	gone, err := vaults.GetDeleted(ctx, d.Name, d.Region, nil)
	switch {
	case isNotFound(err):
		return nil
	case status(err) == http.StatusForbidden:
		if just {
			keeps(err)
		}
		return nil
	case err != nil:
		return err
	case gone.Properties == nil || !ownVault(d, gone.Properties):
		return nil
	case !just && deref(gone.Properties.Tags[opencmg.GatewayTag]) != d.GatewayID:
		return nil
	}
	tell(p, "purge", "key vault "+d.Name)
	poller, err := vaults.BeginPurgeDeleted(ctx, d.Name, d.Region, nil)
	if err == nil {
		_, err = wait(ctx, c, poller, nil)
	}
	switch {
	case err == nil || isNotFound(err):
		return nil
	case status(err) == http.StatusForbidden || status(err) == http.StatusConflict || status(err) == http.StatusBadRequest || isCode(err, "MethodNotAllowed"):
		keeps(err)
		return nil
	}
	return err
}
