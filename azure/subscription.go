package azure

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v3"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armsubscriptions/v2"
	"github.com/opencmg/opencmg"
)

// A Subscription is one that the identity sees.
type Subscription struct {
	ID, Name string
	State    string // Enabled, Warned, PastDue, Disabled or Deleted
	TenantID string
}

// A Region is a place that offers scale sets to the subscription.
type Region struct {
	Name        string // such as westeurope
	DisplayName string // such as West Europe
}

// A ResourceGroup is one that the identity may read.
type ResourceGroup struct {
	Name   string
	Region string // such as westeurope
}

// MaxListed bounds each list of subscriptions, regions and resource groups;
// what Azure has beyond is left out. A subscription holds at most 980 groups.
const MaxListed = 2000

// maxPages bounds the pages that are asked for, some of which may be empty.
const maxPages = 200

// collect reads the pages of a list up to the bounds.
func collect[P, T any](ctx context.Context, pager *runtime.Pager[P], entries func(P) []T) ([]T, error) {
	var all []T
	for n := 0; n < maxPages && len(all) < MaxListed && pager.More(); n++ {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, entries(page)...)
	}
	return all[:min(len(all), MaxListed)], nil
}

// A Provider is a resource provider with its state in the subscription.
type Provider struct {
	Namespace string
	State     string // NotRegistered, Registering, Registered or Unregistering

	versions  map[string][]string // by type in lower case
	locations map[string][]string // display names, by type in lower case
}

// ProviderNames are the resource providers that a gateway needs (cmg-behaviour
// M6, and the one for its machines' identity).
var ProviderNames = []string{"Microsoft.KeyVault", "Microsoft.Storage", "Microsoft.Network", "Microsoft.Compute", "Microsoft.ManagedIdentity"}

// Subscriptions lists what the identity sees, by name, at most [MaxListed].
func (c *Client) Subscriptions(ctx context.Context) ([]Subscription, error) {
	client, err := armsubscriptions.NewClient(c.cred, c.armOptions(versionSubscriptions))
	if err != nil {
		return nil, err
	}
	listed, err := collect(ctx, client.NewListPager(nil), func(p armsubscriptions.ClientListResponse) []*armsubscriptions.Subscription { return p.Value })
	if err != nil {
		return nil, c.fail(ctx, "list the subscriptions", err)
	}
	subs := []Subscription{}
	for _, s := range listed {
		subs = append(subs, Subscription{ID: deref(s.SubscriptionID), Name: deref(s.DisplayName), State: string(deref(s.State)), TenantID: deref(s.TenantID)})
	}
	slices.SortFunc(subs, func(a, b Subscription) int {
		return cmp.Or(strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)), strings.Compare(a.ID, b.ID))
	})
	return subs, nil
}

// Regions lists the regions that offer scale sets to the subscription, by
// display name.
func (c *Client) Regions(ctx context.Context) ([]Region, error) {
	r, err := c.regions(ctx, c.sub)
	return r, c.fail(ctx, "list the regions", err)
}

func (c *Client) regions(ctx context.Context, subscription string) ([]Region, error) {
	compute, err := c.provider(ctx, subscription, "Microsoft.Compute")
	if err != nil {
		return nil, err
	}
	offered := map[string]bool{}
	for _, display := range compute.locations[strings.ToLower(typeScaleSet)] {
		offered[opencmg.RegionName(display)] = true
	}
	client, err := armsubscriptions.NewClient(c.cred, c.armOptions(versionSubscriptions))
	if err != nil {
		return nil, err
	}
	listed, err := collect(ctx, client.NewListLocationsPager(subscription, nil), func(p armsubscriptions.ClientListLocationsResponse) []*armsubscriptions.Location { return p.Value })
	if err != nil {
		return nil, err
	}
	regions := []Region{}
	for _, l := range listed {
		physical := l.Metadata == nil || deref(l.Metadata.RegionType) == armsubscriptions.RegionTypePhysical
		if name := deref(l.Name); physical && (offered[opencmg.RegionName(name)] || offered[opencmg.RegionName(deref(l.DisplayName))]) {
			regions = append(regions, Region{Name: name, DisplayName: deref(l.DisplayName)})
		}
	}
	slices.SortFunc(regions, func(a, b Region) int { return strings.Compare(a.DisplayName, b.DisplayName) })
	return regions, nil
}

// ResourceGroups lists the groups of the subscription that the identity may
// read, by name, at most [MaxListed]. Those that are being deleted are left out.
func (c *Client) ResourceGroups(ctx context.Context) ([]ResourceGroup, error) {
	client, err := typed(c, "", versionResources, armresources.NewResourceGroupsClient)
	if err != nil {
		return nil, err
	}
	listed, err := collect(ctx, client.NewListPager(nil), func(p armresources.ResourceGroupsClientListResponse) []*armresources.ResourceGroup { return p.Value })
	if err != nil {
		return nil, c.fail(ctx, "list the resource groups", err)
	}
	groups := []ResourceGroup{}
	for _, g := range listed {
		if deref(deref(g.Properties).ProvisioningState) != "Deleting" {
			groups = append(groups, ResourceGroup{Name: deref(g.Name), Region: opencmg.RegionName(deref(g.Location))})
		}
	}
	slices.SortFunc(groups, func(a, b ResourceGroup) int {
		return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
	})
	return groups, nil
}

// Providers returns the state of the resource providers that a gateway needs.
func (c *Client) Providers(ctx context.Context) ([]Provider, error) {
	var all []Provider
	for _, ns := range ProviderNames {
		p, err := c.provider(ctx, c.sub, ns)
		if err != nil {
			return nil, c.fail(ctx, "resource provider "+ns, err)
		}
		all = append(all, *p)
	}
	return all, nil
}

func (c *Client) provider(ctx context.Context, subscription, ns string) (*Provider, error) {
	client, err := typed(c, subscription, versionResources, armresources.NewProvidersClient)
	if err != nil {
		return nil, err
	}
	r, err := client.Get(ctx, ns, nil)
	if err != nil {
		return nil, err
	}
	p := &Provider{Namespace: ns, State: deref(r.RegistrationState), versions: map[string][]string{}, locations: map[string][]string{}}
	for _, t := range r.ResourceTypes {
		name := strings.ToLower(ns + "/" + deref(t.ResourceType))
		for _, v := range t.APIVersions {
			p.versions[name] = append(p.versions[name], deref(v))
		}
		for _, l := range t.Locations {
			p.locations[name] = append(p.locations[name], deref(l))
		}
	}
	return p, nil
}

// RegisterProviders registers the providers that are not, and waits until they
// are: that takes minutes. ctx bounds it.
func (c *Client) RegisterProviders(ctx context.Context, p opencmg.Progress) error {
	client, err := typed(c, "", versionResources, armresources.NewProvidersClient)
	if err != nil {
		return err
	}
	var waiting []string
	for _, ns := range ProviderNames {
		doing := "register resource provider " + ns
		state, err := c.provider(ctx, c.sub, ns)
		if err != nil {
			return c.fail(ctx, doing, err)
		}
		if strings.EqualFold(state.State, "Registered") {
			continue
		}
		waiting = append(waiting, ns)
		if strings.EqualFold(state.State, "Registering") {
			continue
		}
		tell(p, "register", ns)
		if _, err := client.Register(ctx, ns, nil); err != nil {
			return c.fail(ctx, doing, err)
		}
	}
	for len(waiting) > 0 {
		state, err := c.provider(ctx, c.sub, waiting[0])
		if err != nil {
			return c.fail(ctx, "register resource provider "+waiting[0], err)
		}
		if strings.EqualFold(state.State, "Registered") {
			tell(p, "register", waiting[0]+" is registered")
			waiting = waiting[1:]
			continue
		}
		if err := sleep(ctx, min(c.poll, 5*time.Second)); err != nil {
			return c.fail(ctx, "register resource provider "+waiting[0], err)
		}
	}
	return nil
}
