package azure

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/opencmg/opencmg"
)

// Machines lists the instances of a deployment's scale set, ordered by ID,
// with the public port at which each takes tunnels. A scale set that does not
// exist is an error with status 404.
func (c *Client) Machines(ctx context.Context, d *opencmg.Deployment) ([]opencmg.Machine, error) {
	doing := "list the machines of " + d.Name
	machines, err := c.instanceView(ctx, d)
	if err != nil {
		return nil, c.fail(ctx, doing, err)
	}
	ports, err := c.tunnelPorts(ctx, d, machines)
	if err != nil {
		return nil, c.fail(ctx, doing, err)
	}
	for i := range machines {
		machines[i].TunnelPort = ports[machines[i].ID]
	}
	return machines, nil
}

func (c *Client) instanceView(ctx context.Context, d *opencmg.Deployment) ([]opencmg.Machine, error) {
	vms, err := typed(c, d.SubscriptionID, versionCompute, armcompute.NewVirtualMachineScaleSetVMsClient)
	if err != nil {
		return nil, err
	}
	machines := []opencmg.Machine{}
	for pager := vms.NewListPager(d.ResourceGroup, d.Name, &armcompute.VirtualMachineScaleSetVMsClientListOptions{Expand: ptr("instanceView")}); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, vm := range page.Value {
			machines = append(machines, machine(vm))
		}
	}
	slices.SortFunc(machines, func(a, b opencmg.Machine) int {
		if d := len(a.ID) - len(b.ID); d != 0 {
			return d
		}
		return strings.Compare(a.ID, b.ID)
	})
	return machines, nil
}

func machine(vm *armcompute.VirtualMachineScaleSetVM) opencmg.Machine {
	m := opencmg.Machine{ID: deref(vm.InstanceID), Name: deref(vm.Name)}
	if vm.Properties == nil {
		return m
	}
	m.Provisioning = strings.ToLower(deref(vm.Properties.ProvisioningState))
	m.LatestModel = deref(vm.Properties.LatestModelApplied)
	view := vm.Properties.InstanceView
	if view == nil {
		return m
	}
	for _, s := range view.Statuses {
		// Such as PowerState/running.
		if kind, state, ok := strings.Cut(deref(s.Code), "/"); ok && strings.EqualFold(kind, "PowerState") {
			m.Power = strings.ToLower(state)
		}
	}
	if view.VMHealth != nil && view.VMHealth.Status != nil {
		_, state, _ := strings.Cut(deref(view.VMHealth.Status.Code), "/")
		m.Health = strings.ToLower(state)
	}
	return m
}

// tunnelPorts asks the load balancer which port each machine got. Azure
// promises no order, so nothing is derived from the IDs.
func (c *Client) tunnelPorts(ctx context.Context, d *opencmg.Deployment, machines []opencmg.Machine) (map[string]int, error) {
	ports := map[string]int{}
	if len(machines) == 0 {
		return ports, nil
	}
	addresses, err := c.privateAddresses(ctx, d)
	if err != nil && !isNotFound(err) && status(err) != http.StatusBadRequest {
		return nil, err
	}
	n := namesOf(d)
	ask := c.armURL(resourceID(d, typeBalancer+"/backendAddressPools", n.balancer+"/machines")+"/queryInboundNatRulePortMapping", versionNetwork)
	for _, m := range machines {
		var of any
		if ip := addresses[m.ID]; ip != "" {
			of = object{"ipAddress": ip}
		} else if err != nil {
			// The interfaces are not listed: name the machine's instead.
			of = object{"ipConfiguration": object{"id": resourceID(d, typeScaleSet+"/virtualMachines/networkInterfaces/ipConfigurations", n.scaleSet+"/"+m.ID+"/nic/ip")}}
		} else {
			continue // has no interface now
		}
		port, err := c.portMapping(ctx, ask, of)
		switch status(err) {
		case http.StatusNotFound, http.StatusBadRequest, http.StatusConflict:
			// It is on its way in or out of the pool.
			c.log.DebugContext(ctx, "no tunnel port", "gateway", d.Name, "instance", m.ID, "err", c.fail(ctx, "ask for the port", err))
			continue
		}
		if err != nil {
			return nil, err
		}
		ports[m.ID] = port
	}
	return ports, nil
}

func (c *Client) portMapping(ctx context.Context, address string, of any) (int, error) {
	type mapping struct {
		Rules []struct {
			Rule     string `json:"inboundNatRuleName"`
			Protocol string `json:"protocol"`
			Frontend int    `json:"frontendPort"`
			Backend  int    `json:"backendPort"`
		} `json:"inboundNatRulePortMappings"`
	}
	var m mapping
	resp, err := call(ctx, c.arm, http.MethodPost, address, of, &m)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode == http.StatusAccepted {
		p, err := runtime.NewPoller[mapping](resp, c.arm, nil)
		if err != nil {
			return 0, err
		}
		if m, err = wait(ctx, c, p, nil); err != nil {
			return 0, err
		}
	}
	for _, r := range m.Rules {
		if r.Backend == TunnelPort {
			return r.Frontend, nil
		}
	}
	return 0, nil
}

// privateAddresses maps the machines' IDs to their IPv4 addresses in the
// virtual network.
func (c *Client) privateAddresses(ctx context.Context, d *opencmg.Deployment) (map[string]string, error) {
	found := map[string]string{}
	next := c.armURL(resourceID(d, typeScaleSet, d.Name)+"/networkInterfaces", versionScaleSetNICs)
	for next != "" {
		var page struct {
			Value []struct {
				ID         string `json:"id"`
				Properties struct {
					VirtualMachine   struct{ ID string } `json:"virtualMachine"`
					IPConfigurations []struct {
						Properties struct {
							Address string `json:"privateIPAddress"`
							Version string `json:"privateIPAddressVersion"`
						} `json:"properties"`
					} `json:"ipConfigurations"`
				} `json:"properties"`
			} `json:"value"`
			NextLink string `json:"nextLink"`
		}
		if !sameHost(next, c.env.ResourceManager) {
			return nil, opencmg.Errorf(opencmg.Invalid, "the list of network interfaces goes on at another host")
		}
		if _, err := call(ctx, c.arm, http.MethodGet, next, nil, &page); err != nil {
			return nil, err
		}
		for _, nic := range page.Value {
			id := segmentAfter(nic.Properties.VirtualMachine.ID, "virtualMachines")
			if id == "" {
				id = segmentAfter(nic.ID, "virtualMachines")
			}
			for _, ip := range nic.Properties.IPConfigurations {
				if !strings.EqualFold(ip.Properties.Version, "IPv6") && ip.Properties.Address != "" {
					found[id] = ip.Properties.Address
				}
			}
		}
		next = page.NextLink
	}
	return found, nil
}

// segmentAfter returns the part of an identifier that follows a segment.
func segmentAfter(id, segment string) string {
	parts := strings.Split(id, "/")
	for i, p := range parts[:len(parts)-1] {
		if strings.EqualFold(p, segment) {
			return parts[i+1]
		}
	}
	return ""
}

// Addresses returns the public IP addresses, IPv4 first, and the deployment
// name, which is the DNS name of the first.
func (c *Client) Addresses(ctx context.Context, d *opencmg.Deployment) (ips []string, fqdn string, err error) {
	n := namesOf(d)
	wanted := []string{n.ip}
	if d.IPv6 {
		wanted = append(wanted, n.ip6)
	}
	for _, name := range wanted {
		var ip struct {
			Properties struct {
				Address     string `json:"ipAddress"`
				DNSSettings struct {
					FQDN string `json:"fqdn"`
				} `json:"dnsSettings"`
			} `json:"properties"`
		}
		if _, err := call(ctx, c.arm, http.MethodGet, c.armURL(resourceID(d, typePublicIP, name), versionNetwork), nil, &ip); err != nil {
			return nil, "", c.fail(ctx, "read public IP address "+name, err)
		}
		if ip.Properties.Address != "" {
			ips = append(ips, ip.Properties.Address)
		}
		if name == n.ip {
			fqdn = ip.Properties.DNSSettings.FQDN
		}
	}
	if fqdn == "" {
		fqdn = c.env.DeploymentName(d.Name, d.Region)
	}
	return ips, fqdn, nil
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
