package site

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// Items of the checklist that Azure answers.

const (
	preflightCommand = "opencmg preflight --service-cert FILE.pfx --subscription SUBSCRIPTION-ID --region REGION"
	createCommand    = "opencmg New-CMCloudManagementGateway -ServiceCertPath FILE.pfx -SubscriptionId SUBSCRIPTION-ID -Region REGION -VMInstanceCount 2"
	importCommand    = "opencmg Import-CMAADServerApplication -TenantName NAME -TenantId TENANT-ID -AppName NAME -ClientId CLIENT-ID -SecretKeyExpiry DATE"
)

// lookAtCloud makes the checks of the deployment that there is, that is planned,
// or that would be.
func (c *checklist) lookAtCloud() {
	if c.selfHosted() {
		c.cloudWhy = passed("a self-hosted gateway needs no subscription")
		return
	}
	d, names := c.deployment()
	if d == nil {
		return
	}
	v := gatewayRecord{SubscriptionID: d.SubscriptionID, ServerAppID: c.deployer().ID}
	cloud, err := c.s.cloudOf(c.ctx, &v)
	if err == nil {
		var checks []opencmg.Check
		if checks, err = cloud.Check(c.ctx, d); err == nil {
			c.cloud = map[string]opencmg.Check{}
			for _, o := range checks {
				if names || !slices.Contains(nameChecks, o.ID) {
					c.cloud[o.ID] = o
				}
			}
			return
		}
	}
	c.cloudWhy = todo("cure the sign-in first (part 2), and ask again", "opencmg checklist", "the cloud could not be asked: %s", problemText(err))
}

// problemText is an error without what it advises.
func problemText(err error) string {
	if ce, ok := errors.AsType[*opencmg.CloudError](err); ok {
		plain := *ce
		plain.NextStep = ""
		return plain.Error()
	}
	return err.Error()
}

// deployment is what to check, and whether its names count; nil with cloudWhy
// set.
func (c *checklist) deployment() (d *opencmg.Deployment, names bool) {
	app := c.deployer()
	switch {
	case app == nil:
		c.cloudWhy = todo("connect the site to a tenant first (part 2)", importCommand, "the site has no server application to ask Azure with")
		return nil, false
	case c.g != nil:
		o := *c.g
		if c.in.Instances > 0 {
			o.Settings.Instances = c.in.Instances
		}
		o.Settings.Size = cmp.Or(c.in.Size, o.Settings.Size)
		return o.deployment(), true
	case c.in.Planned != nil:
		c.cloudWhy = todo("change what is planned", preflightCommand, "what is planned is not complete: %s", c.planProblem)
		return nil, false
	case c.in.SubscriptionID == "" || c.in.Region == "":
		c.cloudWhy = todo("say which subscription and region the gateway is to be in", preflightCommand, "there is no gateway, and no subscription and region are named")
		return nil, false
	}
	label, _, _ := strings.Cut(strings.ToLower(c.in.ServiceName), ".")
	d = &opencmg.Deployment{
		GatewayID: newGUID(), Environment: c.environment(), TenantID: app.Value.TenantID, SubscriptionID: strings.ToLower(c.in.SubscriptionID),
		ResourceGroup: cmp.Or(label, "opencmg"), CreateGroup: true, Region: opencmg.RegionName(c.in.Region), Name: cmp.Or(label, "opencmg"), ServiceName: c.in.ServiceName,
		Size: cmp.Or(c.in.Size, opencmg.SizeStandard), Instances: c.wished(),
	}
	return d, label != ""
}

// deployer is the server app that deploys, nil when it is not certain which.
func (c *checklist) deployer() *record[applicationRecord] {
	var servers []*record[applicationRecord]
	for _, a := range c.apps {
		if a.Value.Kind != adminservice.ServerApplication {
			continue
		}
		if c.g != nil && c.g.ServerAppID == a.ID {
			return a
		}
		servers = append(servers, a)
	}
	if len(servers) == 0 {
		return nil
	}
	return servers[0]
}

// wished is the number of instances in question.
func (c *checklist) wished() int {
	switch {
	case c.in.Instances > 0:
		return c.in.Instances
	case c.g != nil:
		return c.g.Settings.Instances
	case c.in.Planned != nil:
		return max(1, c.in.Planned.Instances)
	}
	return 2
}

// nameChecks are the checks of names that are free or not.
var nameChecks = []string{"dns-label", "dns-label-ipv6", "storage-name", "vault-name"}

// cloudItem is a row whose look is the worst of some of Azure's checks.
func cloudItem(ids ...string) func(*checklist) verdict {
	return func(c *checklist) verdict { return c.fromCloud(ids...) }
}

func (c *checklist) fromCloud(ids ...string) verdict {
	if c.cloudWhy.state != "" {
		return c.cloudWhy
	}
	v := verdict{state: opencmg.CheckPass}
	var evidence, next []string
	for _, id := range ids {
		o, ok := c.cloud[id]
		if !ok {
			continue
		}
		if worse(o.State, v.state) {
			v.state = o.State
		}
		text := o.Evidence
		if len(ids) > 1 {
			text = o.Name + ": " + text
		}
		evidence = append(evidence, text)
		if o.State != opencmg.CheckPass && o.NextStep != "" && !slices.Contains(next, o.NextStep) {
			next = append(next, o.NextStep)
		}
	}
	if len(evidence) == 0 {
		return todo("name the service name, and ask again", preflightCommand, "Azure was not asked about it")
	}
	v.evidence, v.next = strings.Join(evidence, "; "), strings.Join(next, "; ")
	if v.state != opencmg.CheckPass {
		v.command = c.again()
	}
	return v
}

// worse orders states: a failure is worse than something to do.
func worse(a, b opencmg.CheckState) bool {
	order := []opencmg.CheckState{opencmg.CheckPass, opencmg.CheckWarn, opencmg.CheckTodo, opencmg.CheckFail}
	return slices.Index(order, a) > slices.Index(order, b)
}

// again is the command that looks once more.
func (c *checklist) again() string {
	if c.existing {
		return "opencmg checklist --gateway " + c.name()
	}
	return preflightCommand
}

func (c *checklist) resourceProviders() verdict {
	var ids []string
	for id := range c.cloud {
		if strings.HasPrefix(id, "provider-") {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	v := c.fromCloud(ids...)
	if v.state == opencmg.CheckFail {
		v.command = "opencmg providers register --subscription SUBSCRIPTION-ID"
		if c.g != nil {
			v.command = "opencmg providers register --subscription " + c.g.SubscriptionID
		} else if opencmg.IsGUID(c.in.SubscriptionID) {
			v.command = "opencmg providers register --subscription " + c.in.SubscriptionID
		}
	}
	return v
}

func (c *checklist) freeNames() verdict {
	v := c.fromCloud(nameChecks...)
	if v.state == opencmg.CheckFail {
		v.next = cmp.Or(v.next, "choose another deployment name; the service name may stay as it is")
		v.command = "opencmg preflight --service-cert FILE.pfx --deployment-name OTHER-NAME --subscription SUBSCRIPTION-ID --region REGION"
	}
	return v
}

func (c *checklist) cloudEnvironment() verdict {
	switch e := c.environment(); {
	case c.selfHosted():
		return passed("a self-hosted gateway needs no cloud")
	case !slices.Contains(c.s.cfg.Environments, e):
		return failed("choose one of the site's environments, or add it to environments in the site's configuration", "opencmg checklist", "%s is not an environment of this site", e)
	case len(c.tenants) == 0:
		return todo("decide for a cloud: the tenant that is connected in part 2 brings it", importCommand, "the site may use %s and is connected to no tenant yet", joinTexts(c.s.cfg.Environments))
	default:
		return passed("%s", e)
	}
}

func joinTexts[T ~string](list []T) string {
	var texts []string
	for _, s := range list {
		texts = append(texts, string(s))
	}
	return strings.Join(texts, " or ")
}

func (c *checklist) instanceCount() verdict {
	n := c.wished()
	command := createCommand
	if c.existing {
		command = "opencmg Set-CMCloudManagementGateway -Name " + c.name() + " -VMInstanceCount 2"
	}
	switch {
	case c.selfHosted():
		return passed("every host with a join token becomes an instance, at most %d", opencmg.MaxInstances)
	case c.in.Planned == nil && c.g == nil && c.in.Instances == 0:
		return todo("decide how many; two or more go on working while one is updated", createCommand, "nothing is decided yet: 1 to %d", opencmg.MaxInstances)
	case n > opencmg.MaxInstances:
		return failed("choose 1 to 16", command, "%d instances are too many", n)
	case n == 1:
		return warned("take two or more, so that clients are served while one is updated", command, "one instance")
	}
	return passed("%d of at most %d", n, opencmg.MaxInstances)
}
