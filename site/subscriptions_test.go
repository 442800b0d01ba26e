package site_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/azure"
	"github.com/opencmg/opencmg/labcloud"
	"github.com/opencmg/opencmg/site"
)

// secondID is a subscription beside that of the rig.
const secondID = "9a41c7d2-0b63-4f18-8e2d-57c3a1f0b6e5"

// twoSubscriptions answers lists in small pages.
func twoSubscriptions(r *rig) {
	r.lab = func(c *labcloud.Config) {
		c.PageSize = 1
		c.Subscriptions = append(c.Subscriptions, labcloud.Subscription{ID: secondID, Tenant: tenantID, Name: "Contoso <production>"})
	}
}

// makeGroups makes resource groups in the subscription of the rig, each in the
// region beside it.
func (r *rig) makeGroups(app adminservice.Application, groups map[string]string) {
	r.t.Helper()
	for name, region := range groups {
		d := &opencmg.Deployment{GatewayID: "3d0c9f1e-6a2b-4c8d-9e5f-7a1b2c3d4e5f", SubscriptionID: subscriptionID, ResourceGroup: name, CreateGroup: true, Region: region}
		must(r.azure(app).EnsureGroup(r.t.Context(), d))(r.t)
	}
}

func TestSubscriptions(t *testing.T) {
	r := newRig(t, twoSubscriptions)
	app := r.connect()
	r.makeGroups(app, map[string]string{"rg-one": "westeurope", "rg-two": "eastus"})
	path := "Applications/" + app.ID + "/subscriptions"
	subs := do[adminservice.Page[adminservice.Subscription]](r, "GET", path, nil).Value
	if d := cmp.Diff([]adminservice.Subscription{{ID: secondID, Name: "Contoso <production>", State: "Enabled"}, {ID: subscriptionID, Name: "Lab", State: "Enabled"}}, subs); d != "" {
		t.Error(d)
	}
	page := do[adminservice.Page[adminservice.Subscription]](r, "GET", path+"?$top=1&$count=true", nil)
	if len(page.Value) != 1 || page.Count == nil || *page.Count != 2 || page.Next == "" {
		t.Errorf("a page: %+v", page)
	}
	regions := do[adminservice.Page[adminservice.Region]](r, "GET", path+"/"+strings.ToUpper(subscriptionID)+"/regions", nil).Value
	if len(regions) != 7 || regions[6] != (adminservice.Region{Name: "westus2", DisplayName: "West US 2"}) {
		t.Errorf("regions that offer scale sets: %v", regions)
	}
	groups := do[adminservice.Page[adminservice.ResourceGroup]](r, "GET", path+"/"+subscriptionID+"/resourceGroups", nil).Value
	if d := cmp.Diff([]adminservice.ResourceGroup{{Name: "rg-one", Region: "westeurope"}, {Name: "rg-two", Region: "eastus"}}, groups); d != "" {
		t.Error(d)
	}
	if other := do[adminservice.Page[adminservice.ResourceGroup]](r, "GET", path+"/"+secondID+"/resourceGroups", nil).Value; len(other) != 0 {
		t.Errorf("groups of the other subscription: %v", other)
	}

	// Who may not create gateways does not look into subscriptions.
	for _, role := range []adminservice.Role{adminservice.ReadOnlyAnalyst, adminservice.OperationsAdministrator} {
		c := *r.c
		c.Token = adminservice.Secret(do[adminservice.Account](r, "POST", "Accounts", adminservice.Account{Name: string(role), Role: role, LocalToken: true}).Token)
		for _, p := range []string{path, path + "/" + subscriptionID + "/regions", path + "/" + subscriptionID + "/resourceGroups"} {
			if err := c.Do(t.Context(), "GET", p, nil, nil); !errors.Is(err, opencmg.Forbidden) {
				t.Errorf("%s asks for %s: %v", role, p, err)
			}
		}
	}
	refused := func(path string, kind opencmg.Kind, text string) {
		t.Helper()
		if err := r.c.Do(t.Context(), "GET", path, nil, nil); !errors.Is(err, kind) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v; want %q", path, err, text)
		}
	}
	refused("Applications/nobody/subscriptions", opencmg.NotFound, "nobody")
	refused(path+"/x/regions", opencmg.Invalid, "GUID")
	refused(path+"?wait=soon", opencmg.Invalid, "wait")
	for _, a := range do[adminservice.Page[adminservice.Application]](r, "GET", "Applications", nil).Value {
		if a.Kind == adminservice.ClientApplication {
			refused("Applications/"+a.ID+"/subscriptions", opencmg.Conflict, "client application")
		}
	}

	// What the cloud refuses is said, and does not stay when it is cured.
	r.wait(2 * time.Minute)
	must(r.cloud.SetFault(labFault{Kind: "forbidden", Path: "/locations$"}))(t)
	refused(path+"/"+subscriptionID+"/regions", opencmg.Conflict, "does not list the regions: AuthorizationFailed")
	must("", r.cloud.ClearFault(""))(t)
	refused(path+"/"+subscriptionID+"/regions", opencmg.Conflict, "AuthorizationFailed") // kept
	r.wait(time.Minute)
	do[adminservice.Page[adminservice.Region]](r, "GET", path+"/"+subscriptionID+"/regions", nil)
}

// A slowCloud lists no subscriptions before it is let.
type slowCloud struct {
	site.Cloud
	let <-chan struct{}
}

func (c slowCloud) Subscriptions(ctx context.Context) ([]azure.Subscription, error) {
	select {
	case <-c.let:
		return c.Cloud.Subscriptions(ctx)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// slowly makes the cloud of a rig slow until let is closed.
func slowly(let <-chan struct{}) func(*rig) {
	return func(r *rig) {
		r.config = func(c *site.Config) {
			quick := c.Cloud
			c.Cloud = func(in site.CloudSignIn) (site.Cloud, error) {
				cloud, err := quick(in)
				return slowCloud{cloud, let}, err
			}
		}
	}
}

func TestSubscriptionsOfASlowCloud(t *testing.T) {
	let := make(chan struct{})
	r := newRig(t, slowly(let))
	app := r.connect()
	path := "Applications/" + app.ID + "/subscriptions"
	if err := r.c.Do(t.Context(), "GET", path+"?wait=0", nil, nil); !errors.Is(err, opencmg.Unavailable) || !strings.Contains(err.Error(), "being asked") {
		t.Errorf("at once: %v", err)
	}
	close(let)
	if subs := do[adminservice.Page[adminservice.Subscription]](r, "GET", path, nil).Value; len(subs) != 1 {
		t.Errorf("later: %v", subs)
	}
	if subs := do[adminservice.Page[adminservice.Subscription]](r, "GET", path+"?wait=0", nil).Value; len(subs) != 1 {
		t.Errorf("kept: %v", subs)
	}
}
