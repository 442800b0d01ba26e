package admincli

import (
	"context"
	"fmt"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// SubscriptionList lists the subscriptions that the site's server application
// sees.
func SubscriptionList(ctx context.Context, e *Env, args []string) error {
	var c asking
	fs := e.newFlags("subscription list [flags]", "List the subscriptions that the server application sees.")
	app := fs.String("server-app", "", serverAppUsage)
	c.register(fs, outputTable, outputJSON)
	if _, err := c.parse(e, fs, args, 0, 0); err != nil {
		return err
	}
	client, err := c.client(e)
	if err != nil {
		return err
	}
	server, err := serverApp(ctx, client, "subscription list", *app)
	if err != nil {
		return err
	}
	list, err := adminservice.List[adminservice.Subscription](ctx, client, "Applications/"+server.ID+"/subscriptions", nil)
	if err != nil {
		return err
	}
	if c.way == outputJSON {
		return printJSON(e.Stdout, list...)
	}
	var rows [][]string
	for _, s := range list {
		rows = append(rows, []string{s.ID, s.Name, s.State})
	}
	return printTable(e.Stdout, []string{"ID", "Name", "State"}, rows)
}

// SubscriptionShow lists the regions of a subscription in which a gateway can be,
// and the resource groups that the site's server application may read.
func SubscriptionShow(ctx context.Context, e *Env, args []string) error {
	var c asking
	fs := e.newFlags("subscription show ID [flags]", "List the regions of a subscription in which a gateway can be, and its resource groups.")
	app := fs.String("server-app", "", serverAppUsage)
	c.register(fs, outputTable, outputJSON)
	rest, err := c.parse(e, fs, args, 1, 1)
	if err != nil {
		return err
	}
	if !opencmg.IsGUID(rest[0]) {
		return usagef("subscription show: %q must be the ID of a subscription, a GUID: opencmg subscription list has them", rest[0])
	}
	client, err := c.client(e)
	if err != nil {
		return err
	}
	server, err := serverApp(ctx, client, "subscription show", *app)
	if err != nil {
		return err
	}
	path := "Applications/" + server.ID + "/subscriptions/" + rest[0]
	var shown struct {
		Regions        []adminservice.Region        `json:"regions"`
		ResourceGroups []adminservice.ResourceGroup `json:"resourceGroups"`
	}
	if shown.Regions, err = adminservice.List[adminservice.Region](ctx, client, path+"/regions", nil); err != nil {
		return err
	}
	if shown.ResourceGroups, err = adminservice.List[adminservice.ResourceGroup](ctx, client, path+"/resourceGroups", nil); err != nil {
		return err
	}
	if c.way == outputJSON {
		// A list without entries is one, too.
		shown.Regions, shown.ResourceGroups = append([]adminservice.Region{}, shown.Regions...), append([]adminservice.ResourceGroup{}, shown.ResourceGroups...)
		return printJSON(e.Stdout, shown)
	}
	var regions, groups [][]string
	for _, r := range shown.Regions {
		regions = append(regions, []string{r.Name, r.DisplayName})
	}
	for _, g := range shown.ResourceGroups {
		groups = append(groups, []string{g.Name, g.Region})
	}
	if err := printTable(e.Stdout, []string{"Region", "Name"}, regions); err != nil {
		return err
	}
	fmt.Fprintln(e.Stdout)
	return printTable(e.Stdout, []string{"Resource group", "Region"}, groups)
}
