package admincli

import (
	"context"
	"fmt"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// ClientProperties prints what client setup needs to know to come through a
// gateway (cmg-behaviour K6, K20): the properties of ccmsetup and of "opencmg
// client install".
func ClientProperties(ctx context.Context, e *Env, args []string) error {
	var c connection
	fs := e.newFlags("client-properties [GATEWAY] [flags]", "Print the properties with which client setup finds the site through a gateway.")
	c.register(fs)
	mp := fs.String("management-point", "", "`name` of the management point; default is the first that takes gateway traffic")
	rest, err := parse(fs, args, 0, 1)
	if err != nil {
		return err
	}
	client, err := c.client(e)
	if err != nil {
		return err
	}
	gateway := ""
	if len(rest) == 1 {
		gateway = rest[0]
	}
	g, err := oneGateway(ctx, client, gateway)
	if err != nil {
		return err
	}
	site, err := adminservice.Get[adminservice.Site](ctx, client, "Site")
	if err != nil {
		return err
	}
	roles, err := adminservice.List[adminservice.SiteRole](ctx, client, "SiteRoles", nil)
	if err != nil {
		return err
	}
	for _, r := range roles {
		if r.Kind == opencmg.KindManagementPoint && (*mp == "" && r.AllowGatewayTraffic || *mp != "" && strings.EqualFold(r.Name, *mp)) {
			if !r.AllowGatewayTraffic {
				fmt.Fprintf(e.Stderr, "note: %s takes no gateway traffic yet: opencmg management-point set --site-system-server-name %s --enable-cloud-gateway true\n", r.Name, r.Name)
			}
			_, err := fmt.Fprintf(e.Stdout, "CCMHOSTNAME=%s%s%s SMSSITECODE=%s\n", g.ServiceName, opencmg.MutualAuthPrefix, r.RoleID, site.Code)
			return err
		}
	}
	if *mp != "" {
		return opencmg.Errorf(opencmg.NotFound, "there is no management point %q: opencmg site-role list shows those of the site", *mp)
	}
	return opencmg.Errorf(opencmg.NotFound, "no management point takes gateway traffic: opencmg management-point set --site-system-server-name NAME --enable-cloud-gateway true")
}

// oneGateway finds a gateway by any of its names, or the only one.
func oneGateway(ctx context.Context, c *adminservice.Client, name string) (adminservice.Gateway, error) {
	if name != "" {
		return adminservice.Get[adminservice.Gateway](ctx, c, "Gateways/"+name)
	}
	all, err := adminservice.List[adminservice.Gateway](ctx, c, "Gateways", nil)
	switch {
	case err != nil:
		return adminservice.Gateway{}, err
	case len(all) == 1:
		return all[0], nil
	case len(all) == 0:
		return adminservice.Gateway{}, opencmg.Errorf(opencmg.NotFound, "the site has no gateway yet: opencmg gateway create")
	}
	var names []string
	for _, g := range all {
		names = append(names, g.Name)
	}
	return adminservice.Gateway{}, usagef("the site has %s: say which one", strings.Join(names, ", "))
}
