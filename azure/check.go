package azure

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armdeployments"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/storage/armstorage/v2"
	"github.com/opencmg/opencmg"
)

// Check looks at everything that could make a deployment fail, before anything
// is made. It never stops at the first failure: what can not be looked at is a
// check in state todo with the reason. The error is only about the call
// itself: a deployment that is no deployment, a context's end, a failed
// sign-in.
func (c *Client) Check(ctx context.Context, d *opencmg.Deployment) ([]opencmg.Check, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	if err := c.SignIn(ctx); err != nil {
		return nil, err
	}
	k := &checker{c: c, d: d}
	group, err := c.group(ctx, d)
	k.subscription(ctx)
	k.providers(ctx)
	k.region(ctx)
	switch {
	case err != nil:
		k.failed(ctx, "group", "Resource group", err)
	case group == nil && d.CreateGroup:
		k.pass("group", "Resource group", d.ResourceGroup+" will be created")
	case group == nil:
		k.failed(ctx, "group", "Resource group", &opencmg.CloudError{Code: "ResourceGroupNotFound", Message: "the resource group does not exist", Status: http.StatusNotFound})
	case opencmg.RegionName(deref(group.Location)) != d.Region:
		k.failed(ctx, "group", "Resource group", wrongRegion(d, opencmg.RegionName(deref(group.Location))))
	default:
		k.groupExists = true
		k.pass("group", "Resource group", d.ResourceGroup+" exists in "+d.Region)
	}
	k.permission(ctx)
	k.names(ctx)
	k.size(ctx)
	k.quota(ctx)
	k.dryRun(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return k.checks, nil
}

type checker struct {
	c           *Client
	d           *opencmg.Deployment
	groupExists bool
	checks      []opencmg.Check
}

func (k *checker) pass(id, name, evidence string) {
	k.checks = append(k.checks, opencmg.Check{ID: id, Name: name, State: opencmg.CheckPass, Evidence: evidence})
}

func (k *checker) fail(id, name, evidence, next string) {
	k.checks = append(k.checks, opencmg.Check{ID: id, Name: name, State: opencmg.CheckFail, Evidence: evidence, NextStep: next})
}

// failed records the cloud's refusal: todo when nobody could look, else fail.
func (k *checker) failed(ctx context.Context, id, name string, err error) {
	state := opencmg.CheckFail
	check := opencmg.Check{ID: id, Name: name, Evidence: err.Error()}
	if ce, ok := asCloud(k.c.fail(ctx, name, err)); ok {
		if ce.Retryable || ce.Status == http.StatusForbidden {
			state = opencmg.CheckTodo
		}
		check.NextStep = ce.NextStep
		plain := *ce
		plain.NextStep = ""
		check.Evidence = plain.Error()
	}
	check.State = state
	k.checks = append(k.checks, check)
}

func (k *checker) subscription(ctx context.Context) {
	const id, name = "subscription", "Subscription"
	subs, err := k.c.Subscriptions(ctx)
	if err != nil {
		k.failed(ctx, id, name, err)
		return
	}
	for _, s := range subs {
		if strings.EqualFold(s.ID, k.d.SubscriptionID) {
			if s.State != "Enabled" && s.State != "Warned" {
				k.fail(id, name, s.Name+" is "+s.State, "enable the subscription, or choose another")
				return
			}
			k.pass(id, name, s.Name)
			return
		}
	}
	k.fail(id, name, k.d.SubscriptionID+" is not among the "+plural(len(subs), "subscription", "subscriptions")+" that this identity sees",
		"give the identity a role in the subscription, or check its ID")
}

func (k *checker) providers(ctx context.Context) {
	for _, ns := range ProviderNames {
		id, name := "provider-"+strings.ToLower(strings.TrimPrefix(ns, "Microsoft.")), "Resource provider "+ns
		p, err := k.c.provider(ctx, k.d.SubscriptionID, ns)
		if err != nil {
			k.failed(ctx, id, name, err)
			continue
		}
		if !strings.EqualFold(p.State, "Registered") {
			k.fail(id, name, p.State, "register the resource provider in the subscription (Owner or Contributor can)")
			continue
		}
		var old []string
		for _, want := range pinned {
			if versions, ok := p.versions[strings.ToLower(want.typ)]; ok && len(versions) > 0 && !slices.Contains(versions, want.version) {
				old = append(old, want.typ+" "+want.version)
			}
		}
		if len(old) > 0 {
			k.fail(id, name, "not offered: "+strings.Join(old, ", "), "this cloud is older than what OpenCMG needs; report it with the text above")
			continue
		}
		k.pass(id, name, p.State)
	}
}

func (k *checker) region(ctx context.Context) {
	const id, name = "region", "Region"
	regions, err := k.c.regions(ctx, k.d.SubscriptionID)
	if err != nil {
		k.failed(ctx, id, name, err)
		return
	}
	var offered []string
	for _, r := range regions {
		if r.Name == k.d.Region {
			k.pass(id, name, r.DisplayName)
			return
		}
		offered = append(offered, r.Name)
	}
	k.fail(id, name, k.d.Region+" is not offered to this subscription for scale sets", "choose one of "+strings.Join(offered, ", "))
}

// needed are the actions that a deployment takes.
var needed = []string{
	"Microsoft.Resources/deployments/write",
	"Microsoft.Network/loadBalancers/write",
	"Microsoft.Network/publicIPAddresses/write",
	"Microsoft.Network/virtualNetworks/write",
	"Microsoft.Network/networkSecurityGroups/write",
	"Microsoft.Storage/storageAccounts/write",
	"Microsoft.Storage/storageAccounts/listKeys/action",
	"Microsoft.KeyVault/vaults/write",
	"Microsoft.ManagedIdentity/userAssignedIdentities/write",
	"Microsoft.ManagedIdentity/userAssignedIdentities/assign/action",
	"Microsoft.Compute/virtualMachineScaleSets/write",
}

func (k *checker) permission(ctx context.Context) {
	const id, name = "permission", "Rights"
	scope, want := groupPath(k.d), needed
	if !k.groupExists {
		scope = "/subscriptions/" + k.d.SubscriptionID
		want = append([]string{"Microsoft.Resources/subscriptions/resourceGroups/write"}, needed...)
	}
	var rights struct {
		Value []permission `json:"value"`
	}
	if _, err := call(ctx, k.c.arm, http.MethodGet, k.c.armURL(scope+"/providers/Microsoft.Authorization/permissions", versionAuthorization), nil, &rights); err != nil {
		k.failed(ctx, id, name, err)
		return
	}
	var missing []string
	for _, action := range want {
		if !slices.ContainsFunc(rights.Value, func(p permission) bool { return p.allows(action) }) {
			missing = append(missing, action)
		}
	}
	if len(missing) > 0 {
		k.fail(id, name, "missing on "+scope+": "+strings.Join(missing, ", "), "grant the server app Contributor on the resource group, or Owner on the subscription for the first deployment")
		return
	}
	k.pass(id, name, "all actions of a deployment are allowed on "+scope)
}

// A permission is one role's: its actions less its not-actions.
type permission struct {
	Actions    []string `json:"actions"`
	NotActions []string `json:"notActions"`
}

func (p permission) allows(action string) bool {
	match := func(pattern string) bool { return matchAction(pattern, action) }
	return slices.ContainsFunc(p.Actions, match) && !slices.ContainsFunc(p.NotActions, match)
}

// matchAction compares without case; an asterisk stands for any text.
func matchAction(pattern, action string) bool {
	pattern, action = strings.ToLower(pattern), strings.ToLower(action)
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == action
	}
	if !strings.HasPrefix(action, parts[0]) {
		return false
	}
	action = action[len(parts[0]):]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(action, part)
		if i < 0 {
			return false
		}
		action = action[i+len(part):]
	}
	return strings.HasSuffix(action, parts[len(parts)-1])
}

// names checks the three names that are taken worldwide or per region. A name
// that this gateway's own resource holds is fine.
func (k *checker) names(ctx context.Context) {
	c, d, n := k.c, k.d, namesOf(k.d)

	labels := []struct{ id, name, label, ip string }{{"dns-label", "Deployment name", d.Name, n.ip}}
	if d.IPv6 {
		labels = append(labels, struct{ id, name, label, ip string }{"dns-label-ipv6", "Deployment name of the IPv6 address", IPv6Label(d.Name), n.ip6})
	}
	for _, l := range labels {
		var free struct {
			Available bool `json:"available"`
		}
		_, err := call(ctx, c.arm, http.MethodGet, c.armURL("/subscriptions/"+d.SubscriptionID+"/providers/Microsoft.Network/locations/"+d.Region+"/CheckDnsNameAvailability", versionNetwork, "domainNameLabel", l.label), nil, &free)
		k.nameResult(ctx, l.id, l.name, c.env.DeploymentName(l.label, d.Region), free.Available, "", err, "DnsRecordInUse", typePublicIP, l.ip, versionNetwork)
	}

	var available bool
	var message string
	accounts, err := typed(c, d.SubscriptionID, versionStorage, armstorage.NewAccountsClient)
	if err == nil {
		var r armstorage.AccountsClientCheckNameAvailabilityResponse
		r, err = accounts.CheckNameAvailability(ctx, armstorage.AccountCheckNameAvailabilityParameters{Name: &n.storage, Type: ptr(typeStorage)}, nil)
		available, message = deref(r.NameAvailable), deref(r.Message)
	}
	k.nameResult(ctx, "storage-name", "Storage account name", n.storage, available, message, err, "StorageAccountAlreadyTaken", typeStorage, n.storage, versionStorage)

	vaults, err := typed(c, d.SubscriptionID, versionVault, armkeyvault.NewVaultsClient)
	if err == nil {
		var r armkeyvault.VaultsClientCheckNameAvailabilityResponse
		r, err = vaults.CheckNameAvailability(ctx, armkeyvault.VaultCheckNameAvailabilityParameters{Name: &n.vault, Type: ptr(typeVault)}, nil)
		available, message = deref(r.NameAvailable), deref(r.Message)
		if err == nil && !available {
			gone, gerr := vaults.GetDeleted(ctx, n.vault, d.Region, nil)
			if gerr == nil && gone.Properties != nil {
				if ownVault(d, gone.Properties) {
					k.pass("vault-name", "Key vault name", n.vault+" is this deployment's deleted vault, which will be recovered")
					return
				}
				k.fail("vault-name", "Key vault name", n.vault+" is kept by the deleted vault "+deref(gone.Properties.VaultID), "purge that vault, or choose another deployment name")
				return
			}
		}
	}
	k.nameResult(ctx, "vault-name", "Key vault name", n.vault, available, message, err, "VaultAlreadyExists", typeVault, n.vault, versionVault)
}

func (k *checker) nameResult(ctx context.Context, id, name, value string, free bool, message string, err error, code, typ, resource, version string) {
	if err != nil {
		k.failed(ctx, id, name, err)
		return
	}
	if free {
		k.pass(id, name, value+" is free")
		return
	}
	if own, err := k.c.owns(ctx, k.d, typ, resource, version); err == nil && own {
		k.pass(id, name, value+" belongs to this gateway")
		return
	}
	if message == "" {
		message = value + " is taken"
	}
	k.failed(ctx, id, name, &opencmg.CloudError{Code: code, Message: message, Status: http.StatusConflict})
	k.checks[len(k.checks)-1].State = opencmg.CheckFail
}

// owns reports whether a resource exists and carries the gateway's tag.
func (c *Client) owns(ctx context.Context, d *opencmg.Deployment, typ, name, version string) (bool, error) {
	var r struct {
		Tags map[string]string `json:"tags"`
	}
	_, err := call(ctx, c.arm, http.MethodGet, c.armURL(resourceID(d, typ, name), version), nil, &r)
	if isNotFound(err) {
		return false, nil
	}
	return err == nil && r.Tags[opencmg.GatewayTag] == d.GatewayID, err
}

func (k *checker) size(ctx context.Context) {
	const id, name = "size", "VM size"
	sku := k.d.Size.Facts().SKU
	skus, err := typed(k.c, k.d.SubscriptionID, versionSKUs, armcompute.NewResourceSKUsClient)
	if err != nil {
		k.failed(ctx, id, name, err)
		return
	}
	for pager := skus.NewListPager(&armcompute.ResourceSKUsClientListOptions{Filter: ptr("location eq '" + k.d.Region + "'")}); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			k.failed(ctx, id, name, err)
			return
		}
		for _, s := range page.Value {
			if !strings.EqualFold(deref(s.Name), sku) || !strings.EqualFold(deref(s.ResourceType), "virtualMachines") {
				continue
			}
			for _, r := range s.Restrictions {
				if strings.EqualFold(string(deref(r.Type)), "Location") {
					k.failed(ctx, id, name, &opencmg.CloudError{Code: "SkuNotAvailable", Message: sku + " is restricted: " + string(deref(r.ReasonCode))})
					return
				}
			}
			k.pass(id, name, sku+" is offered in "+k.d.Region)
			return
		}
	}
	k.failed(ctx, id, name, &opencmg.CloudError{Code: "SkuNotAvailable", Message: sku + " is not offered in " + k.d.Region})
}

// dryRun lets Azure itself examine the template: policies and much more. It
// needs a group.
func (k *checker) dryRun(ctx context.Context) {
	const id, name = "validate", "Azure's own validation"
	if !k.groupExists {
		k.checks = append(k.checks, opencmg.Check{ID: id, Name: name, State: opencmg.CheckTodo, Evidence: "the resource group does not exist yet",
			NextStep: "nothing: the deployment itself validates first"})
		return
	}
	t, err := NewTemplate(k.d)
	if err != nil { // what is known only later is missing
		k.checks = append(k.checks, opencmg.Check{ID: id, Name: name, State: opencmg.CheckTodo, Evidence: err.Error(),
			NextStep: "nothing: the deployment itself validates first"})
		return
	}
	deployments, err := typed(k.c, k.d.SubscriptionID, versionResources, armdeployments.NewDeploymentsClient)
	if err == nil {
		var poller *runtime.Poller[armdeployments.DeploymentsClientValidateResponse]
		poller, err = deployments.BeginValidate(ctx, k.d.ResourceGroup, DeploymentRecord(k.d), t.request(), nil)
		if err == nil {
			var r armdeployments.DeploymentsClientValidateResponse
			r, err = wait(ctx, k.c, poller, nil)
			if err == nil && r.Error != nil {
				err = ptr(fromSDK(r.Error))
			}
		}
	}
	if err != nil {
		k.failed(ctx, id, name, err)
		return
	}
	k.pass(id, name, "the template is accepted")
}

func fromSDK(e *armdeployments.ErrorResponse) opencmg.CloudError {
	ce := opencmg.CloudError{Code: deref(e.Code), Message: deref(e.Message), Target: deref(e.Target)}
	for _, d := range e.Details {
		if d != nil {
			ce.Details = append(ce.Details, fromSDK(d))
		}
	}
	return ce
}
