package site

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// Items of the checklist about the site itself, about Microsoft Entra ID, and
// about how clients sign in.

func (c *checklist) siteRole() verdict {
	who := callerOf(c.ctx)
	if slices.Contains(infrastructure, who.role) {
		return passed("%s is %s", who.account, who.role)
	}
	return failed("sign in as an Infrastructure Administrator or a Full Administrator, or have one add the role", "opencmg connect --site URL --token-file FILE", "%s is %s, who can look and not set up", who.account, who.role)
}

func (c *checklist) optionalFeature() verdict {
	f, err := c.s.feature(c.ctx, adminservice.FeatureGateway)
	switch {
	case err != nil:
		return todo("ask again", "opencmg checklist", "%v", err)
	case !f.On:
		return failed("switch it on", "opencmg feature "+f.ID+" on", "it is off, so no gateway is created")
	}
	return passed("it is on")
}

// noEntra is the verdict on all of part 2 for a site that needs no tenant.
func (c *checklist) noEntra() (verdict, bool) {
	if c.selfHosted() && len(c.apps) == 0 && len(c.services) == 0 {
		return passed("a self-hosted gateway does without; clients sign in by certificate or token"), true
	}
	return verdict{}, false
}

// service is the Azure service that the server app belongs to, else the first.
func (c *checklist) service() *record[azureServiceRecord] {
	app := c.deployer()
	for _, svc := range c.services {
		if app != nil && svc.Value.ServerAppID == app.ID {
			return svc
		}
	}
	if len(c.services) > 0 {
		return c.services[0]
	}
	return nil
}

// clientApp is the client app that goes with the server app.
func (c *checklist) clientApp() *record[applicationRecord] {
	svc, server := c.service(), c.deployer()
	for _, a := range c.apps {
		if a.Value.Kind != adminservice.ClientApplication {
			continue
		}
		if svc != nil && svc.Value.ClientAppID == a.ID || svc == nil && (server == nil || a.Value.ServerAppID == server.ID || a.Value.TenantID == server.Value.TenantID) {
			return a
		}
	}
	return nil
}

func (c *checklist) azureService() verdict {
	if v, ok := c.noEntra(); ok {
		return v
	}
	svc := c.service()
	if svc == nil {
		return todo("connect the site to the tenant with the two applications", "opencmg New-CMCloudManagementAzureService -Name NAME -ServerApp SERVER-APP -ClientApp CLIENT-APP", "the site has no Azure service yet")
	}
	for _, t := range c.tenants {
		if t.ID == svc.Value.TenantID && t.Value.Disabled {
			return failed("switch authentication for the tenant on, unless its clients are to stay out", "", "%s connects to tenant %s, for which authentication is switched off", svc.Name, t.Name)
		}
	}
	return passed("%s connects to tenant %s in %s", svc.Name, svc.Value.TenantID, svc.Value.Environment)
}

// secretSoon is how long before its end an app's secret is worth a warning.
const secretSoon = 30 * 24 * time.Hour

func (c *checklist) serverApplication() verdict {
	if v, ok := c.noEntra(); ok {
		return v
	}
	a := c.deployer()
	switch {
	case a == nil:
		return todo("register it in the tenant and import it, or have the site create it", importCommand, "the site knows no server application")
	case a.Value.SecretExpires.IsZero():
		return passed("%s (%s), signs in by %s", a.Name, a.Value.ClientID, a.Value.Credential)
	case !c.now.Before(a.Value.SecretExpires):
		return failed("renew the secret in Entra and import it, or have the site renew it", importCommand, "the secret of %s ended on %s", a.Name, a.Value.SecretExpires.Format(time.DateOnly))
	case a.Value.SecretExpires.Sub(c.now) < secretSoon:
		return warned("renew the secret", importCommand, "the secret of %s ends on %s", a.Name, a.Value.SecretExpires.Format(time.DateOnly))
	}
	return passed("%s (%s), its secret ends on %s", a.Name, a.Value.ClientID, a.Value.SecretExpires.Format(time.DateOnly))
}

func (c *checklist) clientApplication() verdict {
	if v, ok := c.noEntra(); ok {
		return v
	}
	a := c.clientApp()
	if a == nil {
		return todo("register it in the tenant and import it, or have the site create it", "opencmg Import-CMAADClientApplication -TenantId TENANT-ID -AppName NAME -ClientId CLIENT-ID", "the site knows no client application")
	}
	return passed("%s (%s)", a.Name, a.Value.ClientID)
}

// lookAtDirectory signs in as the server app and looks for consent.
func (c *checklist) lookAtDirectory() {
	server, client := c.deployer(), c.clientApp()
	if server == nil {
		return
	}
	in, err := c.s.signInAs(c.ctx, server, "")
	if err == nil {
		var cloud Cloud
		if cloud, err = c.s.cfg.Cloud(in); err == nil {
			err = cloud.SignIn(c.ctx)
		}
	}
	if c.signIn = err; err != nil {
		c.consentWhy = "the server application can not sign in"
		return
	}
	if client == nil {
		c.consentWhy = "the site knows no client application"
		return
	}
	dir, err := c.s.cfg.Directory(in)
	if err == nil {
		var checks []opencmg.Check
		if checks, err = dir.CheckConsent(c.ctx, server.Value.ClientID, client.Value.ClientID, c.readsDirectory()); err == nil {
			c.consent = map[string]opencmg.Check{}
			for _, o := range checks {
				c.consent[o.ID] = o
			}
			return
		}
	}
	c.consentWhy = "the directory could not be asked: " + problemText(err)
}

// readsDirectory reports whether the server app needs to read the directory.
func (c *checklist) readsDirectory() bool {
	server := c.deployer()
	return server != nil && server.Value.Consent != nil || slices.ContainsFunc(c.services, func(r *record[azureServiceRecord]) bool {
		return r.Value.UserDiscovery || r.Value.GroupDiscovery
	})
}

func (c *checklist) serverSignIn() verdict {
	if v, ok := c.noEntra(); ok {
		return v
	}
	switch a := c.deployer(); {
	case a == nil:
		return todo("import or create the server application first", importCommand, "there is no server application to sign in as")
	case c.pending:
		return comesSoon()
	case c.signIn != nil:
		v := failed("check the secret and its end in the portal, and import it again", importCommand, "%s", problemText(c.signIn))
		return v
	default:
		return passed("%s signs in", a.Name)
	}
}

func consentItem(id string) func(*checklist) verdict {
	return func(c *checklist) verdict { return c.consented(id) }
}

func (c *checklist) consented(id string) verdict {
	if v, ok := c.noEntra(); ok {
		return v
	}
	made := c.clientApp()
	if id == "consent-directory" {
		if made = c.deployer(); made != nil && !c.readsDirectory() {
			return passed("no discovery is on, so the server application need not read the directory")
		}
	}
	o, seen := c.consent[id]
	if seen && o.State == opencmg.CheckPass {
		return passed("%s", o.Evidence)
	}
	if made != nil && made.Value.Consent != nil && (!seen || o.State == opencmg.CheckTodo) && c.signIn == nil {
		// Nobody can look now, and the site was there when it was granted.
		if made.Value.Consent.State == opencmg.CheckPass {
			return passed("it was granted when the site created %s on %s; whether it still holds can not be seen, since the server application may not read the directory", made.Name, made.Created.Format(time.DateOnly))
		}
		o, seen = *made.Value.Consent, true
	}
	if !seen {
		return todo("finish the two applications, then grant admin consent in the portal", "opencmg checklist", "%s", cmp.Or(c.consentWhy, "there are no applications to consent to"))
	}
	return verdict{state: o.State, evidence: o.Evidence, next: o.NextStep, command: "opencmg checklist"}
}

// globalAdministrator is told by what only such an account can have done.
func (c *checklist) globalAdministrator() verdict {
	if v, ok := c.noEntra(); ok {
		return v
	}
	users, directory := c.consented("consent-users"), c.consented("consent-directory")
	if users.state == opencmg.CheckPass && directory.state == opencmg.CheckPass {
		return passed("admin consent is given")
	}
	v := users
	if worse(directory.state, v.state) {
		v = directory
	}
	if v.state == opencmg.CheckFail {
		v.state = opencmg.CheckTodo
	}
	v.evidence = "admin consent is not seen to be given: " + v.evidence
	return v
}

func (c *checklist) clientAuthentication() verdict {
	var ways []string
	if n := c.countTrusted(adminservice.RootCA); n > 0 {
		ways = append(ways, plural(n, "trusted root for client certificates", "trusted roots for client certificates"))
	}
	for _, svc := range c.services {
		if !slices.ContainsFunc(c.tenants, func(t *record[tenantRecord]) bool { return t.ID == svc.Value.TenantID && t.Value.Disabled }) {
			ways = append(ways, "Entra tenant "+svc.Value.TenantID)
		}
	}
	if len(c.managementPoints()) > 0 {
		ways = append(ways, "site tokens")
	}
	if len(ways) == 0 {
		command := createCommand + " -CARootCert ROOT.cer=RootCA"
		if c.existing {
			command = "opencmg Set-CMCloudManagementGateway -Name " + c.name() + " -CARootCert ROOT.cer=RootCA"
		}
		return todo("upload the root of the clients' certificates, connect a tenant (part 2), or let a management point join for site tokens", command, "no client can sign in in any way yet")
	}
	return passed("%s", strings.Join(ways, ", "))
}

func (c *checklist) countTrusted(store string) (n int) {
	for _, t := range c.trusted {
		if t.Value.Store == store {
			n++
		}
	}
	return n
}

func (c *checklist) clientRevocation() verdict {
	switch {
	case len(c.trusted) == 0:
		if c.g == nil && len(c.services) == 0 {
			return todo("decide how clients sign in first", "opencmg checklist", "no CA of client certificates is uploaded")
		}
		return passed("no client certificates are used")
	case c.g == nil:
		return todo("create the gateway, whose instances fetch the lists", createCommand, "no instance has fetched a list yet")
	case !*c.g.Settings.CheckRevocation:
		return warned("switch it on, unless the lists can not be reached from the internet", "opencmg Set-CMCloudManagementGateway -Name "+c.name()+" -CheckClientCertRevocation '$true'", "revocation of client certificates is not checked")
	}
	var good, bad []string
	for _, st := range c.instances() {
		for _, l := range st.RevocationLists {
			switch {
			case l.LastError != "":
				bad = append(bad, l.URL+": "+l.LastError)
			case !l.NextUpdate.IsZero() && !c.now.Before(l.NextUpdate):
				bad = append(bad, l.URL+" ended at "+l.NextUpdate.UTC().Format(time.RFC3339))
			default:
				good = append(good, l.URL)
			}
		}
	}
	slices.Sort(good)
	slices.Sort(bad)
	good, bad = slices.Compact(good), slices.Compact(bad)
	switch {
	case len(bad) > 0:
		return failed("publish the list where the internet reaches it, and name its address with the CA", "opencmg checklist", "%s", strings.Join(bad, "; "))
	case len(good) > 0:
		return passed("the instances have %s", strings.Join(good, ", "))
	case slices.ContainsFunc(c.trusted, func(t *record[trustedRecord]) bool { return t.Value.RevocationList != "" }):
		return todo("wait for an instance to fetch the lists, and ask again", "opencmg checklist", "no instance has said yet that it has a list")
	}
	return passed("a list is fetched when the first client certificate names one")
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return itoa(n) + " " + many
}
