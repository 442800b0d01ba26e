package azure

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armdeployments"
	"github.com/opencmg/opencmg"
)

// DeploymentRecord is the name of the deployment in its resource group. It is
// always the same, so that a second run finds the first.
func DeploymentRecord(d *opencmg.Deployment) string { return "opencmg-" + d.Name }

// Deploy makes the resources of a deployment, or repairs and changes them to
// what the deployment says now. The group must exist. It returns when Azure
// is done: a run that is still going on is joined, and counts as this one if
// its template is the same. On failure the error has, as its details, what
// Azure says about each resource; calling again goes on from there.
func (c *Client) Deploy(ctx context.Context, d *opencmg.Deployment, p opencmg.Progress) ([]opencmg.DeployedResource, error) {
	t, err := NewTemplate(d)
	if err != nil {
		return nil, err
	}
	doing := "deploy " + d.Name
	if err := c.recoverVault(ctx, d, p); err != nil {
		return nil, c.fail(ctx, doing, err)
	}
	for {
		running, model, err := c.joinDeployment(ctx, d, p)
		if err != nil {
			// What an earlier template did wrong, the new one may do right.
			if model == t.Model || ctx.Err() != nil || status(err) != 0 {
				return nil, c.fail(ctx, doing, err)
			}
			c.log.WarnContext(ctx, "an earlier deployment failed", "gateway", d.Name, "err", c.fail(ctx, doing, err))
		} else if running && model == t.Model {
			return c.deployed(ctx, d, t, p)
		}
		err = c.putDeployment(ctx, d, t, p)
		if isCode(err, "DeploymentActive") {
			// Somebody else was quicker; wait for that one, then try again.
			if err := sleep(ctx, c.poll); err != nil {
				return nil, c.fail(ctx, doing, err)
			}
			continue
		}
		if err != nil {
			return nil, c.fail(ctx, doing, err)
		}
		return c.deployed(ctx, d, t, p)
	}
}

func (c *Client) putDeployment(ctx context.Context, d *opencmg.Deployment, t *Template, p opencmg.Progress) error {
	deployments, err := typed(c, d.SubscriptionID, versionResources, armdeployments.NewDeploymentsClient)
	if err != nil {
		return err
	}
	tell(p, "deploy", "Resource Manager gets the template")
	poller, err := deployments.BeginCreateOrUpdate(ctx, d.ResourceGroup, DeploymentRecord(d), t.request(), nil)
	if err != nil {
		return err
	}
	seen := map[string]string{}
	_, err = wait(ctx, c, poller, func() { c.reportDeployment(ctx, d, seen, p) })
	if err != nil && ctx.Err() == nil {
		return c.explain(ctx, d, err)
	}
	c.reportDeployment(ctx, d, seen, p)
	return err
}

func (t *Template) request() armdeployments.Deployment {
	return armdeployments.Deployment{Properties: &armdeployments.DeploymentProperties{
		Mode:       ptr(armdeployments.DeploymentModeIncremental),
		Template:   t.JSON,
		Parameters: map[string]*armdeployments.DeploymentParameter{modelParameter: {Value: t.Model}},
	}}
}

// deploymentState is what is read of a deployment.
type deploymentState struct {
	Properties struct {
		ProvisioningState string `json:"provisioningState"`
		Parameters        map[string]struct {
			Value any `json:"value"`
		} `json:"parameters"`
		OutputResources []struct {
			ID string `json:"id"`
		} `json:"outputResources"`
		Error json.RawMessage `json:"error"`
	} `json:"properties"`
}

func (s *deploymentState) running() bool {
	switch strings.ToLower(s.Properties.ProvisioningState) {
	case "succeeded", "failed", "canceled", "deleted":
		return false
	}
	return true
}

func (c *Client) deployment(ctx context.Context, d *opencmg.Deployment) (*deploymentState, error) {
	var s deploymentState
	_, err := call(ctx, c.arm, http.MethodGet, c.armURL(resourceID(d, typeDeployment, DeploymentRecord(d)), versionResources), nil, &s)
	if err != nil {
		return nil, err
	}
	return &s, nil
}

// joinDeployment waits for a run that is going on. running reports that there
// was one, model is its template's checksum; the error is its failure.
func (c *Client) joinDeployment(ctx context.Context, d *opencmg.Deployment, p opencmg.Progress) (running bool, model string, err error) {
	seen := map[string]string{}
	for {
		s, err := c.deployment(ctx, d)
		if isNotFound(err) {
			return false, "", nil
		}
		if err != nil {
			return false, "", err
		}
		if m, ok := s.Properties.Parameters[modelParameter].Value.(string); ok {
			model = m
		}
		if !s.running() {
			if running && !strings.EqualFold(s.Properties.ProvisioningState, "Succeeded") {
				return true, model, c.explain(ctx, d, &opencmg.CloudError{Code: "DeploymentFailed"})
			}
			return running, model, nil
		}
		if !running {
			tell(p, "deploy", "an earlier run is still going on: waiting for it")
		}
		running = true
		c.reportDeployment(ctx, d, seen, p)
		if err := sleep(ctx, c.poll); err != nil {
			return true, model, err
		}
	}
}

// deployed lists what the deployment made.
func (c *Client) deployed(ctx context.Context, d *opencmg.Deployment, t *Template, p opencmg.Progress) ([]opencmg.DeployedResource, error) {
	s, err := c.deployment(ctx, d)
	if err != nil {
		return nil, c.fail(ctx, "deploy "+d.Name, err)
	}
	tell(p, "deploy", "all resources are there")
	if len(s.Properties.OutputResources) == 0 {
		return t.Resources, nil
	}
	var made []opencmg.DeployedResource
	for _, r := range s.Properties.OutputResources {
		typ, name := splitID(r.ID)
		made = append(made, opencmg.DeployedResource{ID: r.ID, Type: typ, Name: name})
	}
	return made, nil
}

type deploymentOperation struct {
	ID         string `json:"operationId"`
	Properties struct {
		ProvisioningState string          `json:"provisioningState"`
		StatusMessage     json.RawMessage `json:"statusMessage"`
		TargetResource    *struct {
			ID   string `json:"id"`
			Type string `json:"resourceType"`
			Name string `json:"resourceName"`
		} `json:"targetResource"`
	} `json:"properties"`
}

func (c *Client) deploymentOperations(ctx context.Context, d *opencmg.Deployment) ([]deploymentOperation, error) {
	var all []deploymentOperation
	next := c.armURL(resourceID(d, typeDeployment, DeploymentRecord(d))+"/operations", versionResources)
	for next != "" {
		var page struct {
			Value    []deploymentOperation `json:"value"`
			NextLink string                `json:"nextLink"`
		}
		if !sameHost(next, c.env.ResourceManager) {
			return nil, opencmg.Errorf(opencmg.Invalid, "the list of operations goes on at another host")
		}
		if _, err := call(ctx, c.arm, http.MethodGet, next, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Value...)
		next = page.NextLink
	}
	return all, nil
}

// reportDeployment tells what became of each resource since the last look.
// Who may not list the operations just hears less.
func (c *Client) reportDeployment(ctx context.Context, d *opencmg.Deployment, seen map[string]string, p opencmg.Progress) {
	if p == nil {
		return
	}
	ops, err := c.deploymentOperations(ctx, d)
	if err != nil {
		return
	}
	for _, o := range ops {
		t := o.Properties.TargetResource
		if t == nil || seen[t.ID] == o.Properties.ProvisioningState {
			continue
		}
		seen[t.ID] = o.Properties.ProvisioningState
		p("deploy", fmt.Sprintf("%s %s: %s", t.Type, t.Name, strings.ToLower(o.Properties.ProvisioningState)))
	}
}

// explain replaces the summary of a failed deployment by what Azure says about
// each resource. If that can not be read, the summary stays.
func (c *Client) explain(ctx context.Context, d *opencmg.Deployment, err error) error {
	wrapped := c.fail(ctx, "", err)
	ce, ok := asCloud(wrapped)
	if !ok || ce.Status != 0 && ce.Status != http.StatusOK {
		return err // refused at once: there are no operations
	}
	ops, oerr := c.deploymentOperations(ctx, d)
	if oerr != nil {
		c.log.WarnContext(ctx, "the operations of a failed deployment can not be read", "gateway", d.Name, "err", c.fail(ctx, "list operations", oerr))
		return ce
	}
	var details []opencmg.CloudError
	for _, o := range ops {
		if !strings.EqualFold(o.Properties.ProvisioningState, "Failed") {
			continue
		}
		e := parseError(o.Properties.StatusMessage)
		var text string
		if e == nil && json.Unmarshal(o.Properties.StatusMessage, &text) == nil {
			if e = parseError([]byte(text)); e == nil && text != "" {
				e = &opencmg.CloudError{Code: "Failed", Message: text}
			}
		}
		if e == nil {
			e = &opencmg.CloudError{Code: "Failed"}
		}
		if t := o.Properties.TargetResource; t != nil {
			e.Target = t.ID
		}
		details = append(details, *e)
	}
	if len(details) > 0 {
		ce.Details = details
	}
	ce.NextStep = "" // found anew, from the details
	return ce
}

// recoverVault brings back the gateway's own vault if it was deleted and is
// still kept, because its name can not be taken anew. Vaults of others are
// left alone; Azure will then refuse the name. Who may not look, or finds
// nothing, goes on.
func (c *Client) recoverVault(ctx context.Context, d *opencmg.Deployment, p opencmg.Progress) error {
	vaults, err := typed(c, d.SubscriptionID, versionVault, armkeyvault.NewVaultsClient)
	if err != nil {
		return err
	}
	gone, err := vaults.GetDeleted(ctx, d.Name, d.Region, nil)
	if err != nil {
		if s := status(err); s == http.StatusNotFound || s == http.StatusForbidden {
			return nil
		}
		return err
	}
	if gone.Properties == nil || !ownVault(d, gone.Properties) {
		return nil
	}
	tell(p, "recover", "the gateway's deleted key vault is recovered")
	poller, err := vaults.BeginCreateOrUpdate(ctx, d.ResourceGroup, d.Name, armkeyvault.VaultCreateOrUpdateParameters{
		Location: &d.Region,
		Tags:     map[string]*string{opencmg.GatewayTag: &d.GatewayID},
		Properties: &armkeyvault.VaultProperties{
			CreateMode: ptr(armkeyvault.CreateModeRecover),
			TenantID:   &d.TenantID,
			SKU:        &armkeyvault.SKU{Family: ptr(armkeyvault.SKUFamilyA), Name: ptr(armkeyvault.SKUNameStandard)},
		},
	}, nil)
	if err != nil {
		return err
	}
	if _, err = wait(ctx, c, poller, nil); err != nil {
		return err
	}
	c.forgetMachines(ctx, d)
	return nil
}

// ownVault reports whether a deleted vault stood where the deployment's is to
// stand. The tag is not compared: a gateway that replaces another under the
// same name gets its vault; secrets of former machines are deleted, the others
// are written anew.
func ownVault(d *opencmg.Deployment, v *armkeyvault.DeletedVaultProperties) bool {
	return strings.EqualFold(deref(v.VaultID), resourceID(d, typeVault, d.Name))
}
