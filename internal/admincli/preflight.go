package admincli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/goccy/go-yaml"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// Preflight makes the checks of the checklist for a planned gateway, before it
// is created. It ends with [ErrReported] when an item failed or is to be done.
func Preflight(ctx context.Context, e *Env, args []string) error {
	var c asking
	var cert serverCert
	var g adminservice.NewGateway
	var file, size, environment string
	var selfHosted bool
	fs := e.newFlags("preflight [flags]", "Check a planned gateway before it is created. Nothing is created.")
	fs.StringVar(&file, "f", "", "YAML or JSON `file` with what is planned, as the administration service takes it for a new gateway; flags go before it")
	cert.register(fs)
	region := fs.String("region", "", "`region` of the cloud")
	instances := fs.Int("instances", 0, "`number` of instances, 1 to 16")
	fs.StringVar(&size, "size", "", "VM `size`: Lab, Standard or Large")
	subscription := fs.String("subscription", "", "`ID` of the subscription")
	group := fs.String("resource-group", "", "`name` of the resource group; default is the deployment name")
	existing := fs.Bool("existing-group", false, "the resource group is there already")
	deployment := fs.String("deployment-name", "", "`prefix` of the deployment name; default is the first label of the service name")
	app := fs.String("server-app", "", "`ID` of the server application that deploys; default is the only one")
	fs.StringVar(&environment, "environment", "", "`AzurePublicCloud|AzureUSGovernmentCloud`; default is that of the tenant")
	fs.BoolVar(&selfHosted, "self-hosted", false, "the gateway runs on hosts of your own")
	c.register(fs, outputTable, outputJSON, outputMarkdown)
	if _, err := c.parse(e, fs, args, 0, 0); err != nil {
		return err
	}
	if file != "" {
		if err := loadPlan(file, &g); err != nil {
			return err
		}
	}
	for _, f := range []struct{ to, from *string }{
		{&g.Region, region}, {&g.SubscriptionID, subscription}, {&g.ResourceGroup, group}, {&g.DeploymentName, deployment}, {&g.ServerAppID, app},
		{&g.Certificate.ServiceName, &cert.serviceName}, {(*string)(&g.Size), &size}, {(*string)(&g.Environment), &environment},
	} {
		if *f.from != "" {
			*f.to = *f.from
		}
	}
	if *instances != 0 {
		g.Instances = *instances
	}
	g.ExistingGroup = g.ExistingGroup || *existing
	if selfHosted {
		g.Model = adminservice.ModelSelfHosted
	}
	if cert.file != "" {
		pfx, password, err := cert.read()
		if err != nil {
			return err
		}
		g.Certificate.PFX, g.Certificate.Password = pfx, string(password)
	}
	client, err := c.client(e)
	if err != nil {
		return err
	}
	items, err := askChecklist(ctx, client, &adminservice.ChecklistRequest{Planned: &g})
	if err != nil {
		return err
	}
	return report(e, c.way, items)
}

// loadPlan reads a new gateway as YAML, of which JSON is a part. Unknown keys
// are errors.
func loadPlan(file string, g *adminservice.NewGateway) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("-f: %w", err)
	}
	b, err = yaml.YAMLToJSON(b)
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		err = d.Decode(g)
	}
	if err != nil {
		return opencmg.Errorf(opencmg.Invalid, "-f %s: %v", file, err)
	}
	return nil
}
