package azure

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/opencmg/opencmg"
)

func (c *Client) scaleSets(d *opencmg.Deployment) (*armcompute.VirtualMachineScaleSetsClient, error) {
	return typed(c, d.SubscriptionID, versionCompute, armcompute.NewVirtualMachineScaleSetsClient)
}

// settled returns the scale set when no operation on it runs any more, so that
// a call after a crash waits for what its forerunner began.
func (c *Client) settled(ctx context.Context, d *opencmg.Deployment) (*armcompute.VirtualMachineScaleSet, error) {
	sets, err := c.scaleSets(d)
	if err != nil {
		return nil, err
	}
	for {
		r, err := sets.Get(ctx, d.ResourceGroup, d.Name, nil)
		if err != nil {
			return nil, err
		}
		if r.Properties == nil || r.SKU == nil {
			return nil, &opencmg.CloudError{Code: "InvalidResponse", Message: "the answer describes no scale set"}
		}
		switch strings.ToLower(deref(r.Properties.ProvisioningState)) {
		case "creating", "updating", "migrating", "deleting":
			if err := sleep(ctx, c.poll); err != nil {
				return nil, err
			}
		default:
			return &r.VirtualMachineScaleSet, nil
		}
	}
}

// operate begins a long-running operation and follows it. While another
// operation keeps the resource busy it is begun again.
func operate[T any](ctx context.Context, c *Client, begin func() (*runtime.Poller[T], error)) error {
	const tries = 60
	for try := 1; ; try++ {
		p, err := begin()
		if err == nil {
			_, err = wait(ctx, c, p, nil)
		}
		if err == nil || try == tries || !isCode(err, "AnotherOperationInProgress", "OperationPreempted") {
			return err
		}
		if err := sleep(ctx, c.poll); err != nil {
			return err
		}
	}
}

// Scale sets the number of machines to d.Instances. Before it adds some it
// looks at the subscription's quota.
func (c *Client) Scale(ctx context.Context, d *opencmg.Deployment, p opencmg.Progress) error {
	return c.patchSKU(ctx, d, p, "scale", false)
}

// Resize gives the machines the size d.Size, one machine after the other,
// without draining them; [Client.Upgrade] drains.
func (c *Client) Resize(ctx context.Context, d *opencmg.Deployment, p opencmg.Progress) error {
	if err := c.patchSKU(ctx, d, p, "resize", true); err != nil {
		return err
	}
	return c.eachMachine(ctx, d, Hooks{}, p, false)
}

func (c *Client) patchSKU(ctx context.Context, d *opencmg.Deployment, p opencmg.Progress, step string, size bool) error {
	doing := step + " " + d.Name
	if err := d.Validate(); err != nil {
		return err
	}
	set, err := c.settled(ctx, d)
	if err != nil {
		return c.fail(ctx, doing, err)
	}
	want := armcompute.SKU{Name: set.SKU.Name, Tier: set.SKU.Tier, Capacity: set.SKU.Capacity}
	if size {
		want.Name = ptr(d.Size.Facts().SKU)
	} else {
		want.Capacity = ptr(int64(d.Instances))
	}
	if strings.EqualFold(deref(want.Name), deref(set.SKU.Name)) && deref(want.Capacity) == deref(set.SKU.Capacity) &&
		strings.EqualFold(deref(set.Properties.ProvisioningState), "Succeeded") {
		return nil
	}
	if err := c.quotaAllows(ctx, d, set); err != nil {
		return c.fail(ctx, doing, err)
	}
	if size {
		tell(p, step, "new size "+deref(want.Name))
	} else {
		tell(p, step, "from "+plural(int(deref(set.SKU.Capacity)), "machine", "machines")+" to "+plural(d.Instances, "machine", "machines"))
	}
	sets, err := c.scaleSets(d)
	if err != nil {
		return err
	}
	err = operate(ctx, c, func() (*runtime.Poller[armcompute.VirtualMachineScaleSetsClientUpdateResponse], error) {
		return sets.BeginUpdate(ctx, d.ResourceGroup, d.Name, armcompute.VirtualMachineScaleSetUpdate{SKU: &want}, nil)
	})
	return c.fail(ctx, doing, err)
}

// Stop deallocates all machines: they cost nothing then. Addresses, disks,
// vault and storage go on costing.
func (c *Client) Stop(ctx context.Context, d *opencmg.Deployment, p opencmg.Progress) error {
	return c.power(ctx, d, p, "stop", "deallocated")
}

// Start starts all machines.
func (c *Client) Start(ctx context.Context, d *opencmg.Deployment, p opencmg.Progress) error {
	return c.power(ctx, d, p, "start", "running")
}

func (c *Client) power(ctx context.Context, d *opencmg.Deployment, p opencmg.Progress, step, to string) error {
	doing := step + " " + d.Name
	if _, err := c.settled(ctx, d); err != nil {
		return c.fail(ctx, doing, err)
	}
	machines, err := c.instanceView(ctx, d)
	if err != nil {
		return c.fail(ctx, doing, err)
	}
	if !slices.ContainsFunc(machines, func(m opencmg.Machine) bool { return m.Power != to }) {
		return nil
	}
	sets, err := c.scaleSets(d)
	if err != nil {
		return err
	}
	tell(p, step, plural(len(machines), "machine", "machines"))
	if to == "running" {
		err = operate(ctx, c, func() (*runtime.Poller[armcompute.VirtualMachineScaleSetsClientStartResponse], error) {
			return sets.BeginStart(ctx, d.ResourceGroup, d.Name, nil)
		})
	} else {
		err = operate(ctx, c, func() (*runtime.Poller[armcompute.VirtualMachineScaleSetsClientDeallocateResponse], error) {
			return sets.BeginDeallocate(ctx, d.ResourceGroup, d.Name, nil)
		})
	}
	return c.fail(ctx, doing, err)
}

// RestartMachine restarts one machine.
func (c *Client) RestartMachine(ctx context.Context, d *opencmg.Deployment, id string) error {
	sets, err := c.scaleSets(d)
	if err != nil {
		return err
	}
	err = operate(ctx, c, func() (*runtime.Poller[armcompute.VirtualMachineScaleSetsClientRestartResponse], error) {
		return sets.BeginRestart(ctx, d.ResourceGroup, d.Name, &armcompute.VirtualMachineScaleSetsClientBeginRestartOptions{
			VMInstanceIDs: &armcompute.VirtualMachineScaleSetVMInstanceIDs{InstanceIDs: []*string{&id}}})
	})
	return c.fail(ctx, "restart machine "+id+" of "+d.Name, err)
}

// ReimageMachine gives one machine a fresh disk; it boots anew from the custom
// data of its model.
func (c *Client) ReimageMachine(ctx context.Context, d *opencmg.Deployment, id string) error {
	sets, err := c.scaleSets(d)
	if err != nil {
		return err
	}
	err = operate(ctx, c, func() (*runtime.Poller[armcompute.VirtualMachineScaleSetsClientReimageResponse], error) {
		return sets.BeginReimage(ctx, d.ResourceGroup, d.Name, &armcompute.VirtualMachineScaleSetsClientBeginReimageOptions{
			VMScaleSetReimageInput: &armcompute.VirtualMachineScaleSetReimageParameters{InstanceIDs: []*string{&id}}})
	})
	return c.fail(ctx, "reimage machine "+id+" of "+d.Name, err)
}

// Hooks let the caller take part in an upgrade, machine by machine. Any may be
// nil. An error of a hook ends the upgrade.
type Hooks struct {
	// Needs reports whether a machine must be upgraded; nil means those that
	// do not have the newest model. A machine has the newest model before its
	// disk is fresh: a caller that may die in between should ask the machine
	// itself which configuration it booted from.
	Needs func(context.Context, opencmg.Machine) (bool, error)
	// Drain takes the machine out of use and returns when it may go down.
	Drain func(context.Context, opencmg.Machine) error
	// Ready returns when the new machine serves.
	Ready func(context.Context, opencmg.Machine) error
}

// Upgrade brings size and custom data of d to all machines: it deploys the
// template anew and then, one machine after the other, drains it, gives it the
// new model and a fresh disk, and waits until it is ready. With one instance
// that is an outage.
func (c *Client) Upgrade(ctx context.Context, d *opencmg.Deployment, h Hooks, p opencmg.Progress) error {
	if _, err := c.Deploy(ctx, d, p); err != nil {
		return err
	}
	return c.eachMachine(ctx, d, h, p, true)
}

func (c *Client) eachMachine(ctx context.Context, d *opencmg.Deployment, h Hooks, p opencmg.Progress, fresh bool) error {
	doing := "upgrade " + d.Name
	if _, err := c.settled(ctx, d); err != nil {
		return c.fail(ctx, doing, err)
	}
	machines, err := c.Machines(ctx, d)
	if err != nil {
		return err
	}
	sets, err := c.scaleSets(d)
	if err != nil {
		return err
	}
	for _, m := range machines {
		needs := !m.LatestModel
		if h.Needs != nil {
			if needs, err = h.Needs(ctx, m); err != nil {
				return err
			}
		}
		if !needs {
			continue
		}
		if h.Drain != nil {
			tell(p, "drain", m.Name)
			if err := h.Drain(ctx, m); err != nil {
				return err
			}
		}
		tell(p, "upgrade", m.Name)
		if !m.LatestModel {
			err = operate(ctx, c, func() (*runtime.Poller[armcompute.VirtualMachineScaleSetsClientUpdateInstancesResponse], error) {
				return sets.BeginUpdateInstances(ctx, d.ResourceGroup, d.Name, armcompute.VirtualMachineScaleSetVMInstanceRequiredIDs{InstanceIDs: []*string{&m.ID}}, nil)
			})
			if status(err) == http.StatusNotFound || isCode(err, "InvalidParameter") {
				continue // it was scaled away meanwhile
			}
			if err != nil {
				return c.fail(ctx, doing, err)
			}
		}
		if fresh {
			if err := c.ReimageMachine(ctx, d, m.ID); err != nil {
				return err
			}
		}
		if h.Ready != nil {
			tell(p, "wait", m.Name)
			if err := h.Ready(ctx, m); err != nil {
				return err
			}
		}
	}
	return nil
}
