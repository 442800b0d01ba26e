package azure

import (
	"context"
	"fmt"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/opencmg/opencmg"
)

func (k *checker) quota(ctx context.Context) {
	const id, name = "quota", "Quota"
	var have *armcompute.VirtualMachineScaleSet
	if k.groupExists {
		sets, err := k.c.scaleSets(k.d)
		if err == nil {
			if r, gerr := sets.Get(ctx, k.d.ResourceGroup, k.d.Name, nil); gerr == nil {
				have = &r.VirtualMachineScaleSet
			}
		}
	}
	evidence, err := k.c.quotaLeft(ctx, k.d, have)
	if err != nil {
		k.failed(ctx, id, name, err)
		return
	}
	k.pass(id, name, evidence)
}

// quotaAllows is the refusal, if the quota does not fit what d asks for beyond
// what the scale set has.
func (c *Client) quotaAllows(ctx context.Context, d *opencmg.Deployment, have *armcompute.VirtualMachineScaleSet) error {
	if deref(have.SKU.Capacity) >= int64(d.Instances) && strings.EqualFold(deref(have.SKU.Name), d.Size.Facts().SKU) {
		return nil
	}
	_, err := c.quotaLeft(ctx, d, have)
	if isCode(err, "QuotaExceeded") {
		return err
	}
	return nil // nobody could look: Azure itself will say
}

// quotaLeft tells the use of the quotas that the deployment needs, or is the
// refusal. What the scale set has already, it need not get again.
func (c *Client) quotaLeft(ctx context.Context, d *opencmg.Deployment, have *armcompute.VirtualMachineScaleSet) (string, error) {
	usages, err := typed(c, d.SubscriptionID, versionCompute, armcompute.NewUsageClient)
	if err != nil {
		return "", err
	}
	facts := d.Size.Facts()
	cores, family, sets := facts.Cores*d.Instances, facts.Cores*d.Instances, 1
	if have != nil && have.SKU != nil {
		sets = 0
		for _, f := range opencmg.VMSizes() {
			if strings.EqualFold(f.SKU, deref(have.SKU.Name)) {
				held := f.Cores * int(deref(have.SKU.Capacity))
				cores -= held
				if f.Family == facts.Family {
					family -= held
				}
			}
		}
	}
	need := map[string]int{"cores": cores, strings.ToLower(facts.Family): family, "virtualmachinescalesets": sets}
	var evidence []string
	for pager := usages.NewListPager(d.Region, nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return "", err
		}
		for _, u := range page.Value {
			if u.Name == nil {
				continue
			}
			n, known := need[strings.ToLower(deref(u.Name.Value))]
			if !known {
				continue
			}
			left := int(deref(u.Limit)) - int(deref(u.CurrentValue))
			if n > left {
				return "", &opencmg.CloudError{Code: "QuotaExceeded", Target: deref(u.Name.Value),
					Message: fmt.Sprintf("%s: %d of %d are used in %s, %d more are needed", deref(u.Name.Value), deref(u.CurrentValue), deref(u.Limit), d.Region, n)}
			}
			evidence = append(evidence, fmt.Sprintf("%s %d of %d used", deref(u.Name.Value), deref(u.CurrentValue), deref(u.Limit)))
		}
	}
	return strings.Join(evidence, ", "), nil
}
