package azure_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	computefake "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/storage/armstorage/v2"
	storagefake "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/storage/armstorage/v2/fake"
	"github.com/google/go-cmp/cmp"
	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/azure"
)

// fakes sends requests to the SDK's own fake servers, by what the path
// contains, and all others to the written-down replies.
func (c *cloud) fakes(servers map[string]policy.Transporter) *azure.Client {
	c.t.Helper()
	cfg := c.config()
	cfg.HTTP = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		if "https://"+r.URL.Host == c.env.ResourceManager {
			longest := ""
			for part := range servers {
				if strings.Contains(strings.ToLower(r.URL.Path), strings.ToLower(part)) && len(part) > len(longest) {
					longest = part
				}
			}
			if longest != "" {
				return servers[longest].Do(r)
			}
		}
		return c.http.Transport.RoundTrip(r)
	})}
	client, err := azure.New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	return client
}

// machines are a scale set in the memory of the SDK's fakes.
type machines struct {
	sku        string
	capacity   int64
	state      []string // provisioning states, one per look; then Succeeded
	power      map[string]string
	latest     map[string]bool
	calls      []string
	updateFail func(*azfake.PollerResponder[armcompute.VirtualMachineScaleSetsClientUpdateResponse])
	busy       int // so many operations are refused first
}

func newMachines(n int) *machines {
	s := &machines{sku: "Standard_A2_v2", capacity: int64(n), power: map[string]string{}, latest: map[string]bool{}}
	for i := range n {
		id := string(rune('0' + i))
		s.power[id], s.latest[id] = "running", true
	}
	return s
}

func (s *machines) ids() []string {
	var ids []string
	for id := range s.power {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	slices.Reverse(ids) // the order of the answer is not that of the IDs
	return ids
}

func (s *machines) client(c *cloud) *azure.Client {
	sets := computefake.VirtualMachineScaleSetsServer{
		Get: func(context.Context, string, string, *armcompute.VirtualMachineScaleSetsClientGetOptions) (resp azfake.Responder[armcompute.VirtualMachineScaleSetsClientGetResponse], e azfake.ErrorResponder) {
			state := "Succeeded"
			if len(s.state) > 0 {
				state, s.state = s.state[0], s.state[1:]
			}
			resp.SetResponse(http.StatusOK, armcompute.VirtualMachineScaleSetsClientGetResponse{VirtualMachineScaleSet: armcompute.VirtualMachineScaleSet{
				SKU:        &armcompute.SKU{Name: &s.sku, Tier: to.Ptr("Standard"), Capacity: &s.capacity},
				Properties: &armcompute.VirtualMachineScaleSetProperties{ProvisioningState: &state},
			}}, nil)
			return resp, e
		},
		BeginUpdate: func(_ context.Context, _, _ string, u armcompute.VirtualMachineScaleSetUpdate, _ *armcompute.VirtualMachineScaleSetsClientBeginUpdateOptions) (resp azfake.PollerResponder[armcompute.VirtualMachineScaleSetsClientUpdateResponse], e azfake.ErrorResponder) {
			s.calls = append(s.calls, "update")
			if s.busy > 0 {
				s.busy--
				e.SetResponseError(http.StatusConflict, "AnotherOperationInProgress")
				return resp, e
			}
			if s.updateFail != nil {
				s.updateFail(&resp)
				return resp, e
			}
			if *u.SKU.Name != s.sku {
				for id := range s.latest {
					s.latest[id] = false
				}
			}
			s.sku, s.capacity = *u.SKU.Name, *u.SKU.Capacity
			resp.AddNonTerminalResponse(http.StatusOK, nil)
			resp.AddNonTerminalResponse(http.StatusOK, nil)
			resp.SetTerminalResponse(http.StatusOK, armcompute.VirtualMachineScaleSetsClientUpdateResponse{}, nil)
			return resp, e
		},
		BeginDeallocate: func(context.Context, string, string, *armcompute.VirtualMachineScaleSetsClientBeginDeallocateOptions) (resp azfake.PollerResponder[armcompute.VirtualMachineScaleSetsClientDeallocateResponse], e azfake.ErrorResponder) {
			s.calls = append(s.calls, "deallocate")
			for id := range s.power {
				s.power[id] = "deallocated"
			}
			resp.AddNonTerminalResponse(http.StatusAccepted, nil)
			resp.SetTerminalResponse(http.StatusOK, armcompute.VirtualMachineScaleSetsClientDeallocateResponse{}, nil)
			return resp, e
		},
		BeginStart: func(context.Context, string, string, *armcompute.VirtualMachineScaleSetsClientBeginStartOptions) (resp azfake.PollerResponder[armcompute.VirtualMachineScaleSetsClientStartResponse], e azfake.ErrorResponder) {
			s.calls = append(s.calls, "start")
			for id := range s.power {
				s.power[id] = "running"
			}
			resp.AddNonTerminalResponse(http.StatusAccepted, nil)
			resp.SetTerminalResponse(http.StatusOK, armcompute.VirtualMachineScaleSetsClientStartResponse{}, nil)
			return resp, e
		},
		BeginUpdateInstances: func(_ context.Context, _, _ string, ids armcompute.VirtualMachineScaleSetVMInstanceRequiredIDs, _ *armcompute.VirtualMachineScaleSetsClientBeginUpdateInstancesOptions) (resp azfake.PollerResponder[armcompute.VirtualMachineScaleSetsClientUpdateInstancesResponse], e azfake.ErrorResponder) {
			for _, id := range ids.InstanceIDs {
				s.calls = append(s.calls, "model "+*id)
				s.latest[*id] = true
			}
			resp.AddNonTerminalResponse(http.StatusAccepted, nil)
			resp.SetTerminalResponse(http.StatusOK, armcompute.VirtualMachineScaleSetsClientUpdateInstancesResponse{}, nil)
			return resp, e
		},
		BeginReimage: func(_ context.Context, _, _ string, o *armcompute.VirtualMachineScaleSetsClientBeginReimageOptions) (resp azfake.PollerResponder[armcompute.VirtualMachineScaleSetsClientReimageResponse], e azfake.ErrorResponder) {
			for _, id := range o.VMScaleSetReimageInput.InstanceIDs {
				s.calls = append(s.calls, "reimage "+*id)
			}
			resp.SetTerminalResponse(http.StatusOK, armcompute.VirtualMachineScaleSetsClientReimageResponse{}, nil)
			return resp, e
		},
		BeginRestart: func(_ context.Context, _, _ string, o *armcompute.VirtualMachineScaleSetsClientBeginRestartOptions) (resp azfake.PollerResponder[armcompute.VirtualMachineScaleSetsClientRestartResponse], e azfake.ErrorResponder) {
			for _, id := range o.VMInstanceIDs.InstanceIDs {
				s.calls = append(s.calls, "restart "+*id)
			}
			resp.SetTerminalError(http.StatusConflict, "OperationNotAllowed")
			return resp, e
		},
	}
	vms := computefake.VirtualMachineScaleSetVMsServer{
		NewListPager: func(_, _ string, o *armcompute.VirtualMachineScaleSetVMsClientListOptions) (resp azfake.PagerResponder[armcompute.VirtualMachineScaleSetVMsClientListResponse]) {
			if o == nil || o.Expand == nil || *o.Expand != "instanceView" {
				c.t.Error("the instance view is not asked for")
			}
			// One machine a page.
			for _, id := range s.ids() {
				resp.AddPage(http.StatusOK, armcompute.VirtualMachineScaleSetVMsClientListResponse{VirtualMachineScaleSetVMListResult: armcompute.VirtualMachineScaleSetVMListResult{Value: []*armcompute.VirtualMachineScaleSetVM{{
					InstanceID: to.Ptr(id), Name: to.Ptr("granitefalls_" + id),
					Properties: &armcompute.VirtualMachineScaleSetVMProperties{
						ProvisioningState: to.Ptr("Succeeded"), LatestModelApplied: to.Ptr(s.latest[id]),
						InstanceView: &armcompute.VirtualMachineScaleSetVMInstanceView{
							Statuses: []*armcompute.InstanceViewStatus{{Code: to.Ptr("ProvisioningState/succeeded")}, {Code: to.Ptr("PowerState/" + s.power[id])}},
							VMHealth: &armcompute.VirtualMachineHealthStatus{Status: &armcompute.InstanceViewStatus{Code: to.Ptr("HealthState/healthy")}},
						},
					},
				}}}}, nil)
			}
			if len(s.power) == 0 {
				resp.AddPage(http.StatusOK, armcompute.VirtualMachineScaleSetVMsClientListResponse{}, nil)
			}
			return resp
		},
	}
	usage := computefake.UsageServer{
		NewListPager: func(string, *armcompute.UsageClientListOptions) (resp azfake.PagerResponder[armcompute.UsageClientListResponse]) {
			resp.AddPage(http.StatusOK, armcompute.UsageClientListResponse{ListUsagesResult: armcompute.ListUsagesResult{Value: []*armcompute.Usage{
				{Name: &armcompute.UsageName{Value: to.Ptr("cores")}, CurrentValue: to.Ptr(int32(4)), Limit: to.Ptr(int64(20))},
				{Name: &armcompute.UsageName{Value: to.Ptr("standardAv2Family")}, CurrentValue: to.Ptr(int32(4)), Limit: to.Ptr(int64(10))},
			}}}, nil)
			return resp
		},
	}
	c.arm("GET", group("/providers/Microsoft.Compute/virtualMachineScaleSets/granitefalls/networkInterfaces"), ok(m{"value": []any{
		nic("0", "10.0.0.4"), nic("1", "10.0.0.5"), nic("2", "10.0.0.6")}}))
	c.on("POST", c.env.ResourceManager+group("/providers/Microsoft.Network/loadBalancers/granitefalls-lb/backendAddressPools/machines/queryInboundNatRulePortMapping"), func(r request) reply {
		ports := map[any]int{"10.0.0.4": 10139, "10.0.0.5": 10124, "10.0.0.6": 10130}
		port, known := ports[r.json(c.t)["ipAddress"]]
		if !known {
			return azError(400, "InvalidRequest", "no such address")
		}
		return ok(m{"inboundNatRulePortMappings": []any{m{"inboundNatRuleName": "tunnels", "protocol": "Tcp", "frontendPort": port, "backendPort": 10124}}})
	})
	const scaleSets = "/providers/Microsoft.Compute/virtualMachineScaleSets/granitefalls"
	return c.fakes(map[string]policy.Transporter{
		scaleSets:                      computefake.NewVirtualMachineScaleSetsServerTransport(&sets),
		scaleSets + "/virtualMachines": computefake.NewVirtualMachineScaleSetVMsServerTransport(&vms),
		// An interface of the scale set is the network's, not the fake's.
		scaleSets + "/networkInterfaces": c.http,
		"/usages":                        computefake.NewUsageServerTransport(&usage),
	})
}

func nic(id, ip string) m {
	vm := group("/providers/Microsoft.Compute/virtualMachineScaleSets/granitefalls/virtualMachines/" + id)
	return m{"id": vm + "/networkInterfaces/nic", "properties": m{"virtualMachine": m{"id": vm}, "ipConfigurations": []any{
		m{"properties": m{"privateIPAddress": "fd00::4", "privateIPAddressVersion": "IPv6"}},
		m{"properties": m{"privateIPAddress": ip, "privateIPAddressVersion": "IPv4"}}}}}
}

func TestMachines(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	s := newMachines(3)
	s.power["1"] = "deallocated"
	s.latest["2"] = false
	got, err := s.client(c).Machines(t.Context(), deployment())
	if err != nil {
		t.Fatal(err)
	}
	want := []opencmg.Machine{
		{ID: "0", Name: "granitefalls_0", Power: "running", Provisioning: "succeeded", Health: "healthy", LatestModel: true, TunnelPort: 10139},
		{ID: "1", Name: "granitefalls_1", Power: "deallocated", Provisioning: "succeeded", Health: "healthy", LatestModel: true, TunnelPort: 10124},
		{ID: "2", Name: "granitefalls_2", Power: "running", Provisioning: "succeeded", Health: "healthy", TunnelPort: 10130},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	none, err := newMachines(0).client(c).Machines(t.Context(), deployment())
	if err != nil || len(none) != 0 {
		t.Errorf("%v, %v", none, err)
	}
}

// The ports are asked for by name when the interfaces can not be listed, and
// an answer may take a second look.
func TestMachinesByConfiguration(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	client := newMachines(1).client(c)
	c.arm("GET", group("/providers/Microsoft.Compute/virtualMachineScaleSets/granitefalls/networkInterfaces"), notFound())
	c.on("POST", c.env.ResourceManager+group("/providers/Microsoft.Network/loadBalancers/granitefalls-lb/backendAddressPools/machines/queryInboundNatRulePortMapping"), func(r request) reply {
		if id, _ := at(r.json(t), "ipConfiguration", "id").(string); !strings.HasSuffix(id, "/virtualMachines/0/networkInterfaces/nic/ipConfigurations/ip") {
			t.Errorf("asked for %s", r.Body)
		}
		return reply{status: 202, header: map[string]string{"Location": c.env.ResourceManager + opPath + "?api-version=2024-05-01"}}
	})
	c.arm("GET", opPath, reply{status: 202}, ok(m{"inboundNatRulePortMappings": []any{m{"inboundNatRuleName": "tunnels", "frontendPort": 10125, "backendPort": 10124}}}))
	got, err := client.Machines(t.Context(), deployment())
	if err != nil || len(got) != 1 || got[0].TunnelPort != 10125 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestScale(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	s := newMachines(2)
	s.state, s.busy = []string{"Updating", "Updating"}, 2
	client := s.client(c)
	d := deployment()
	d.Instances = 3
	var told []string
	if err := client.Scale(t.Context(), d, func(step, text string) { told = append(told, step+": "+text) }); err != nil {
		t.Fatal(err)
	}
	if s.capacity != 3 || s.sku != "Standard_A2_v2" || len(s.calls) != 3 {
		t.Errorf("%d of %s after %q", s.capacity, s.sku, s.calls)
	}
	if d := cmp.Diff([]string{"scale: from 2 machines to 3 machines"}, told); d != "" {
		t.Error(d)
	}
	// Again: nothing to do.
	if err := client.Scale(t.Context(), d, nil); err != nil || len(s.calls) != 3 {
		t.Errorf("%v, %q", err, s.calls)
	}
	// The family's quota of 10 cores has 6 left: 3 machines more, not 4.
	d.Instances = 7
	ce := cloudErr(t, client.Scale(t.Context(), d, nil))
	if ce.Code != "QuotaExceeded" || ce.Target != "standardAv2Family" || len(s.calls) != 3 {
		t.Errorf("%+v, %q", ce, s.calls)
	}
	d.Instances = 17
	if err := client.Scale(t.Context(), d, nil); err == nil {
		t.Error("17 machines")
	}
}

// A long-running operation that ends badly, and one that ends with an error in
// an answer that is fine.
func TestScaleFails(t *testing.T) {
	for code, next := range map[string]string{"AllocationFailed": "no room", "QuotaExceeded": "Usage + quotas"} {
		c := newCloud(t, opencmg.AzureLab)
		s := newMachines(2)
		s.updateFail = func(r *azfake.PollerResponder[armcompute.VirtualMachineScaleSetsClientUpdateResponse]) {
			r.AddNonTerminalResponse(http.StatusOK, nil)
			r.SetTerminalError(http.StatusConflict, code)
		}
		d := deployment()
		d.Instances = 3
		ce := cloudErr(t, s.client(c).Scale(t.Context(), d, nil))
		if ce.Code != code || !strings.Contains(ce.NextStep, next) {
			t.Errorf("%+v", ce)
		}
	}
}

func TestResize(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	s := newMachines(2)
	d := deployment()
	d.Size = opencmg.SizeLab
	if err := s.client(c).Resize(t.Context(), d, nil); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"update", "model 0", "model 1"}, s.calls); d != "" || s.sku != "Standard_B2s" || s.capacity != 2 {
		t.Error(d, s.sku, s.capacity)
	}
}

func TestStopStart(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	s := newMachines(2)
	client := s.client(c)
	for range 2 {
		if err := client.Stop(t.Context(), deployment(), nil); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := client.Start(t.Context(), deployment(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff([]string{"deallocate", "start"}, s.calls); d != "" {
		t.Error(d)
	}
}

func TestUpgradeDrainsEachMachine(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	deployable(c)
	s := newMachines(3)
	s.latest["0"], s.latest["2"] = false, false
	hook := func(what string) func(context.Context, opencmg.Machine) error {
		return func(_ context.Context, m opencmg.Machine) error {
			s.calls = append(s.calls, what+" "+m.ID)
			return nil
		}
	}
	client := s.client(c)
	if err := client.Upgrade(t.Context(), deployment(), azure.Hooks{Drain: hook("drain"), Ready: hook("ready")}, nil); err != nil {
		t.Fatal(err)
	}
	want := []string{"drain 0", "model 0", "reimage 0", "ready 0", "drain 2", "model 2", "reimage 2", "ready 2"}
	if d := cmp.Diff(want, s.calls); d != "" {
		t.Error(d)
	}
	// The caller died between model and disk: it asks the machines themselves.
	s.calls = nil
	needs := func(_ context.Context, m opencmg.Machine) (bool, error) { return m.ID == "1", nil }
	deployable(c)
	if err := client.Upgrade(t.Context(), deployment(), azure.Hooks{Needs: needs, Drain: hook("drain")}, nil); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"drain 1", "reimage 1"}, s.calls); d != "" {
		t.Error(d)
	}
}

func TestRestartMachineRefused(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	s := newMachines(1)
	ce := cloudErr(t, s.client(c).RestartMachine(t.Context(), deployment(), "0"))
	if ce.Code != "OperationNotAllowed" || !slices.Contains(s.calls, "restart 0") {
		t.Errorf("%+v, %q", ce, s.calls)
	}
}

func storageKeys(c *cloud, keys *[]*armstorage.AccountKey, regenerate func(name string)) *azure.Client {
	accounts := storagefake.AccountsServer{
		ListKeys: func(context.Context, string, string, *armstorage.AccountsClientListKeysOptions) (resp azfake.Responder[armstorage.AccountsClientListKeysResponse], e azfake.ErrorResponder) {
			resp.SetResponse(http.StatusOK, armstorage.AccountsClientListKeysResponse{AccountListKeysResult: armstorage.AccountListKeysResult{Keys: *keys}}, nil)
			return resp, e
		},
		RegenerateKey: func(_ context.Context, _, _ string, p armstorage.AccountRegenerateKeyParameters, _ *armstorage.AccountsClientRegenerateKeyOptions) (resp azfake.Responder[armstorage.AccountsClientRegenerateKeyResponse], e azfake.ErrorResponder) {
			regenerate(*p.KeyName)
			resp.SetResponse(http.StatusOK, armstorage.AccountsClientRegenerateKeyResponse{AccountListKeysResult: armstorage.AccountListKeysResult{Keys: *keys}}, nil)
			return resp, e
		},
	}
	return c.fakes(map[string]policy.Transporter{"/providers/Microsoft.Storage/": storagefake.NewAccountsServerTransport(&accounts)})
}
