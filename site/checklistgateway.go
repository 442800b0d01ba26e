package site

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/sitedb"
)

// Items of the checklist about the gateway, its connection points, the roles
// behind it, and clients.

// certificateSoon is how long before its end a server certificate is worth a
// warning.
const certificateSoon = 30 * 24 * time.Hour

func (c *checklist) certificate() verdict {
	const next = "request a server authentication certificate for the service name, as PFX with its key, and look at it before it is uploaded"
	if c.in.Planned != nil {
		// A PFX has items of its own.
		if c.in.Planned.Certificate.ACME != nil {
			return passed("a certification authority will issue it by ACME for %s", c.in.Planned.Certificate.ServiceName)
		}
		return todo(next, "opencmg checklist --service-cert FILE.pfx", "no certificate is planned")
	}
	if c.g == nil {
		return todo(next, "opencmg checklist --service-cert FILE.pfx", "the site has no server certificate yet")
	}
	v, renew := c.g, "opencmg Set-CMCloudManagementGateway -Name "+c.name()+" -ServiceCertPath FILE.pfx"
	switch ends := v.CertificateEnds; {
	case v.Renewal.Temporary:
		return todo("let the certification authority reach the gateway by the service name; the site asks again by itself", c.again(), "the first certificate has not come by ACME yet %s", v.Renewal.Problem)
	case v.CertificateLeaf == "" && c.selfHosted():
		return c.hostCertificates()
	case !c.now.Before(ends):
		return failed("replace it with one for the same name", renew, "%s ended on %s", v.CertificateSubject, ends.Format(time.DateOnly))
	case ends.Sub(c.now) < certificateSoon && v.ACME == nil:
		return warned("replace it with one for the same name", renew, "%s ends on %s", v.CertificateSubject, ends.Format(time.DateOnly))
	default:
		return passed("%s, until %s", v.CertificateSubject, ends.Format(time.DateOnly))
	}
}

// hostCertificates is the verdict on the certificates that the hosts of a
// self-hosted gateway have.
func (c *checklist) hostCertificates() verdict {
	reports := c.instances()
	if len(reports) == 0 {
		return todo("bring an instance and a connection point up", "opencmg connection-point join", "no instance has told its certificate yet")
	}
	for _, st := range reports {
		if !c.now.Before(st.CertificateEnds) {
			return failed("replace the certificate file on the host", c.again(), "the certificate of instance %d ended on %s", st.Instance, st.CertificateEnds.Format(time.DateOnly))
		}
	}
	return passed("%s told a certificate that is valid", plural(len(reports), "instance", "instances"))
}

func (c *checklist) gateway() verdict {
	if c.g == nil {
		return todo("create it", createCommand, "the site has no gateway yet")
	}
	switch c.g.State {
	case adminservice.StateReady:
		return passed("%s is ready (%s)", c.g.ServiceName, c.g.Model)
	case adminservice.StateStopped:
		return todo("start it", "opencmg Start-CMCloudManagementGateway -Name "+c.name(), "%s is stopped", c.g.ServiceName)
	case adminservice.StateError:
		return failed("cure what the text names, and let the site try again", "opencmg Sync-CMCloudManagementGateway -Name "+c.name(), "%s: %s", c.g.ServiceName, c.g.Error)
	}
	return todo("wait until it is ready", c.again(), "%s is %s", c.g.ServiceName, c.g.State)
}

func (c *checklist) gatewayInstances() verdict {
	if !c.existing || len(c.g.Machines) == 0 {
		return todo("create the gateway, or let its hosts join", createCommand, "there is no instance yet")
	}
	version := c.s.publisher.version(c.gatewayID)
	var good, bad []string
	for _, m := range c.g.Machines {
		st, connected := c.s.live.instance(c.g.Prefix, m.Number, c.now)
		switch name := "instance " + itoa(m.Number); {
		case !connected:
			bad = append(bad, name+" has no tunnel")
		case st == nil:
			bad = append(bad, name+" has said nothing yet")
		case st.Configuration < version:
			bad = append(bad, name+" still has an older configuration")
		default:
			good = append(good, name)
		}
	}
	if want := c.g.Settings.Instances; !c.selfHosted() && len(c.g.Machines) < want {
		bad = append(bad, plural(want-len(c.g.Machines), "instance is missing", "instances are missing"))
	}
	if len(bad) > 0 {
		return failed("bring a connection point up; an instance that stays away is made anew by a synchronization", "opencmg Sync-CMCloudManagementGateway -Name "+c.name(), "%s", strings.Join(bad, ", "))
	}
	return passed("%s connected, with the present configuration", strings.Join(good, ", "))
}

func (c *checklist) addPointCommand() string {
	return "opencmg Add-CMCloudManagementGatewayConnectionPoint -CloudManagementGatewayName " + c.name() + " -SiteSystemServerName HOST"
}

func (c *checklist) connectionPointHost() verdict {
	var up, down []string
	for _, p := range c.points {
		if _, at := c.s.live.system(p.ID); c.now.Sub(at) <= stale {
			up = append(up, p.Name)
		} else {
			down = append(down, p.Name)
		}
	}
	switch {
	case len(up) > 0:
		return passed("%s", strings.Join(up, ", "))
	case len(down) > 0:
		return failed("start the connection point on its host, and look at its log", "opencmg connection-point serve --config FILE", "no report comes from %s", strings.Join(down, ", "))
	}
	return todo("choose a server inside that reaches the internet, and look from there", fromHereCommand, "no connection point has joined the site")
}

// instancesPerPoint is how many instances one connection point is rated for
// (cmg-behaviour 12).
const instancesPerPoint = 4

func (c *checklist) connectionPoint() verdict {
	if !c.existing {
		return todo("create the gateway first", createCommand, "there is no gateway to connect to")
	}
	var up, down []string
	for _, p := range c.linkedPoints() {
		if c.s.point(p).Connected {
			up = append(up, p.Name)
		} else {
			down = append(down, p.Name)
		}
	}
	switch n := len(c.g.Machines); {
	case len(up)+len(down) == 0:
		return todo("add a connection point for the gateway", c.addPointCommand(), "no connection point serves %s", c.g.ServiceName)
	case len(down) > 0:
		return failed("start it on its host, and look at its log", "opencmg connection-point serve --config FILE", "not connected: %s", strings.Join(down, ", "))
	case len(up)*instancesPerPoint < n:
		return warned("add one for every 4 instances", c.addPointCommand(), "%s for %d instances", plural(len(up), "connection point", "connection points"), n)
	default:
		return passed("connected: %s", strings.Join(up, ", "))
	}
}

func (c *checklist) rolesOf(kind string) (list []*record[roleRecord]) {
	for _, r := range c.roles {
		if r.Value.Kind == kind {
			list = append(list, r)
		}
	}
	return list
}

func (c *checklist) managementPoints() []*record[roleRecord] {
	return c.rolesOf(opencmg.KindManagementPoint)
}

const addManagementPoint = "opencmg Add-CMManagementPoint -SiteSystemServerName HOST -EnableCloudGateway"

func (c *checklist) managementPointHTTPS() verdict {
	list := c.managementPoints()
	if len(list) == 0 {
		return todo("add a management point", addManagementPoint, "the site has no management point")
	}
	var plain, names []string
	for _, r := range list {
		names = append(names, r.Name)
		if slices.ContainsFunc(r.Value.Internal, func(u string) bool { return !strings.HasPrefix(strings.ToLower(u), "https://") }) {
			plain = append(plain, r.Name)
		}
	}
	if len(plain) > 0 {
		return failed("use HTTPS or Enhanced HTTP there", "opencmg Set-CMManagementPoint -SiteSystemServerName "+quoteArg(plain[0])+" -EnableSsl '$true'", "plain HTTP: %s", strings.Join(plain, ", "))
	}
	return passed("%s", strings.Join(names, ", "))
}

func (c *checklist) managementPoint() verdict {
	list := c.managementPoints()
	if len(list) == 0 {
		return todo("add a management point", addManagementPoint, "the site has no management point")
	}
	var on, off, silent []string
	for _, r := range list {
		_, at := c.s.live.system(r.ID)
		switch {
		case !r.Value.AllowGatewayTraffic:
			off = append(off, r.Name)
		case r.Value.Own && c.now.Sub(at) > stale:
			silent = append(silent, r.Name)
		default:
			on = append(on, r.Name)
		}
	}
	switch {
	case len(on) > 0:
		return passed("%s", strings.Join(on, ", "))
	case len(silent) > 0:
		return failed("start the management point on its host, and look at its log", "opencmg mp serve --config FILE", "no report comes from %s", strings.Join(silent, ", "))
	}
	return todo("switch gateway traffic on for one that serves clients on the internet", "opencmg Set-CMManagementPoint -SiteSystemServerName "+quoteArg(off[0])+" -EnableCloudGateway '$true'", "gateway traffic is off at %s", strings.Join(off, ", "))
}

func (c *checklist) softwareUpdatePoint() verdict {
	var on, off []string
	for _, r := range c.rolesOf(opencmg.KindSoftwareUpdatePoint) {
		if r.Value.AllowGatewayTraffic {
			on = append(on, r.Name)
		} else {
			off = append(off, r.Name)
		}
	}
	switch {
	case len(on) > 0:
		return passed("%s", strings.Join(on, ", "))
	case len(off) > 0:
		return todo("switch gateway traffic on for one that serves clients on the internet", "opencmg Set-CMSoftwareUpdatePoint -SiteSystemServerName "+quoteArg(off[0])+" -EnableCloudGateway '$true'", "gateway traffic is off at %s", strings.Join(off, ", "))
	case c.g == nil:
		return todo("decide whether clients on the internet scan for updates; a site without a software update point needs none", "opencmg checklist", "the site has no software update point")
	}
	return passed("the site has none, so nothing is to be published")
}

func (c *checklist) boundaryGroups() verdict {
	if c.g == nil {
		return todo("create the gateway first", createCommand, "there is no gateway to refer to")
	}
	groups, err := readAll[boundaryGroupRecord](c.ctx, c.s.db, kindBoundaryGroup)
	if err != nil {
		return todo("ask again", c.again(), "%v", err)
	}
	included := ""
	for _, g := range groups {
		if slices.Contains(g.Value.Gateways, c.gatewayID) {
			return passed("%s refers to the gateway", g.Name)
		}
		if g.Value.Default && g.Value.IncludeCloudSources {
			included = g.Name
		}
	}
	if included != "" {
		return passed("%s includes cloud sources; clients on the internet need no group", included)
	}
	return todo("let a boundary group refer to the gateway, if clients inside are to use it too", "opencmg Set-CMBoundaryGroup -Name "+quoteArg(groups[0].Name)+" -AddSiteSystemServerName "+c.name(), "none of %s refers to %s", plural(len(groups), "boundary group", "boundary groups"), c.g.ServiceName)
}

func (c *checklist) clientSettings() verdict {
	settings, err := read[clientSettingsRecord](c.ctx, c.s.db, kindClientSettings, defaultSettingsID)
	switch {
	case err != nil:
		return todo("ask again", c.again(), "%v", err)
	case settings.Value.AllowCloudManagementGateway:
		return passed("the %s allow it", settings.Name)
	}
	return failed("allow it", "opencmg Set-CMClientSettingCloudService -DefaultSetting -AllowCloudManagementGateway '$true'", "the %s do not allow clients to use a gateway", settings.Name)
}

func (c *checklist) clientsTold() verdict {
	offered, err := c.s.offeredGateways(c.ctx)
	switch {
	case err != nil:
		return todo("ask again", c.again(), "%v", err)
	case c.g == nil:
		return todo("create the gateway first", createCommand, "there is no gateway to tell of")
	case !slices.ContainsFunc(offered, func(g *record[gatewayRecord]) bool { return g.ID == c.gatewayID }):
		return todo("wait until the gateway is ready with its own certificate", c.again(), "clients are not told of %s yet", c.g.ServiceName)
	case c.managementPoint().state != opencmg.CheckPass:
		return todo("bring a management point up that takes gateway traffic", addManagementPoint, "no management point tells clients")
	}
	return passed("management points tell clients of %s at their next location request, within 24 h", c.g.ServiceName)
}

func (c *checklist) clients() verdict {
	n, err := c.s.db.CountClients(c.ctx, sitedb.ClientFilter{}, maxClientCount)
	install := "opencmg client install"
	if name := c.serviceName(); name != "" {
		install += " /mp:" + quoteArg("https://"+name)
	}
	switch {
	case errors.Is(err, opencmg.Unavailable):
		return todo("ask again", c.again(), "%v", err)
	case err != nil:
		return todo("ask again", c.again(), "the clients could not be counted: %v", err)
	case n == 0:
		return todo("install the first client on a device", install, "no client is registered in the site's database")
	}
	return passed("%s registered", plural(n, "client is", "clients are"))
}
