package admincli

import (
	"context"
	"fmt"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// Feature lists the optional features of the site, or switches one.
func Feature(ctx context.Context, e *Env, args []string) error {
	var c asking
	fs := e.newFlags("feature [ID on|off] [flags]", "List the optional features of the site, or switch one on or off.")
	c.register(fs, outputTable, outputJSON)
	rest, err := c.parse(e, fs, args, 0, 2)
	if err != nil {
		return err
	}
	on := false
	if len(rest) > 0 {
		if len(rest) == 1 {
			return usagef("feature: say on or off after %s", rest[0])
		}
		if on = strings.EqualFold(rest[1], "on"); !on && !strings.EqualFold(rest[1], "off") {
			return usagef("feature: %q must be on or off", rest[1])
		}
	}
	client, err := c.client(e)
	if err != nil {
		return err
	}
	var list []adminservice.Feature
	if len(rest) == 0 {
		list, err = adminservice.List[adminservice.Feature](ctx, client, "Features", nil)
	} else {
		list = make([]adminservice.Feature, 1)
		err = client.Do(ctx, "PATCH", "Features/"+rest[0], adminservice.FeatureChange{On: &on}, &list[0])
	}
	if err != nil {
		return err
	}
	if c.way == outputJSON {
		return printJSON(e.Stdout, list...)
	}
	var rows [][]string
	for _, f := range list {
		rows = append(rows, []string{f.ID, f.Name, map[bool]string{true: "on", false: "off"}[f.On]})
	}
	return printTable(e.Stdout, []string{"ID", "Name", "State"}, rows)
}

// RegisterProviders registers the resource providers that a gateway needs in a
// subscription, as the site's server application.
func RegisterProviders(ctx context.Context, e *Env, args []string) error {
	var c connection
	fs := e.newFlags("providers register --subscription ID [flags]", "Register the resource providers that a gateway needs in a subscription.")
	subscription := fs.String("subscription", "", "`ID` of the subscription")
	app := fs.String("server-app", "", serverAppUsage)
	c.register(fs)
	if _, err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if !opencmg.IsGUID(*subscription) {
		return usagef("providers register: --subscription must be the ID of a subscription, a GUID")
	}
	client, err := c.client(e)
	if err != nil {
		return err
	}
	server, err := serverApp(ctx, client, "providers register", *app)
	if err != nil {
		return err
	}
	var op adminservice.Operation
	if err := client.Do(ctx, "POST", "Applications/"+server.ID+"/registerProviders", adminservice.RegisterProviders{SubscriptionID: *subscription}, &op); err != nil {
		return err
	}
	_, err = client.Wait(ctx, op.ID, func(_ adminservice.Operation, l adminservice.OperationLog) { fmt.Fprintln(e.Stderr, l.Text) })
	return err
}

const serverAppUsage = "`ID` of the server application to do it as; default is the only one"

// serverApp finds the server application of an ID, its own or that in Entra; an
// empty one means the only one. command is who asks.
func serverApp(ctx context.Context, client *adminservice.Client, command, id string) (*adminservice.Application, error) {
	apps, err := adminservice.List[adminservice.Application](ctx, client, "Applications", nil)
	if err != nil {
		return nil, err
	}
	var servers []adminservice.Application
	for _, a := range apps {
		if a.Kind == adminservice.ServerApplication && (id == "" || a.ID == id || strings.EqualFold(a.ClientID, id)) {
			servers = append(servers, a)
		}
	}
	switch len(servers) {
	case 0:
		return nil, opencmg.Errorf(opencmg.NotFound, "the site has no such server application: import or create one first")
	case 1:
		return &servers[0], nil
	}
	return nil, usagef("%s: the site has %d server applications: choose one with --server-app", command, len(servers))
}
