package site

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/azure"
	"github.com/opencmg/opencmg/pki"
)

// The checklist of the set-up (cmg-behaviour 12): every item in its order, each
// checked by the program where a program can. To add an item, add a row to
// checklistItems; what the rows look at is collected once, by newChecklist and
// lookOutside.

// A verdict is what an item's look found.
type verdict struct {
	state    opencmg.CheckState
	evidence string
	next     string
	command  string
	who      string // replaces the item's
}

func passed(format string, args ...any) verdict {
	return verdict{state: opencmg.CheckPass, evidence: fmt.Sprintf(format, args...)}
}

func failed(next, command, format string, args ...any) verdict {
	return verdict{state: opencmg.CheckFail, evidence: fmt.Sprintf(format, args...), next: next, command: command}
}

func todo(next, command, format string, args ...any) verdict {
	return verdict{state: opencmg.CheckTodo, evidence: fmt.Sprintf(format, args...), next: next, command: command}
}

func warned(next, command, format string, args ...any) verdict {
	return verdict{state: opencmg.CheckWarn, evidence: fmt.Sprintf(format, args...), next: next, command: command}
}

// A checklistItem is a row of the checklist.
type checklistItem struct {
	id, name string
	part     int
	who      string
	before   bool // matters before a gateway is created
	look     func(*checklist) verdict
}

var checklistItems = []checklistItem{
	{"site-role", "Role of the signed-in account in the site", adminservice.PartPrerequisites, adminservice.WhoFullAdministrator, true, (*checklist).siteRole},
	{"optional-feature", "Optional feature Cloud Management Gateway", adminservice.PartPrerequisites, adminservice.WhoSiteAdministrator, true, (*checklist).optionalFeature},
	{"environment", "Cloud environment", adminservice.PartPrerequisites, adminservice.WhoSiteAdministrator, true, (*checklist).cloudEnvironment},
	{"global-administrator", "Global Administrator has acted", adminservice.PartPrerequisites, adminservice.WhoGlobalAdmin, true, (*checklist).globalAdministrator},
	{"subscription-owner", "Rights in the subscription", adminservice.PartPrerequisites, adminservice.WhoSubscriptionOwner, true, cloudItem("subscription", "permission", "group")},
	{"resource-providers", "Resource providers", adminservice.PartPrerequisites, adminservice.WhoSubscriptionOwner, true, (*checklist).resourceProviders},
	{"region", "Region", adminservice.PartPrerequisites, adminservice.WhoSiteAdministrator, true, cloudItem("region")},
	{"instances", "Number of instances", adminservice.PartPrerequisites, adminservice.WhoSiteAdministrator, true, (*checklist).instanceCount},
	{"quota", "Quota for the instances", adminservice.PartPrerequisites, adminservice.WhoSubscriptionOwner, true, cloudItem("quota")},
	{"size", "VM size", adminservice.PartPrerequisites, adminservice.WhoSubscriptionOwner, true, cloudItem("size")},
	{"internet-endpoints", "Internet endpoints of the site server", adminservice.PartPrerequisites, adminservice.WhoNetwork, true, (*checklist).internetEndpoints},
	{"tls-inspection", "Proxy and TLS inspection", adminservice.PartPrerequisites, adminservice.WhoNetwork, true, (*checklist).inspection},
	{"connection-point-host", "Server for the connection point", adminservice.PartPrerequisites, adminservice.WhoConnectionPoint, false, (*checklist).connectionPointHost},

	{"certificate", "Server authentication certificate", adminservice.PartCertificate, adminservice.WhoCertificates, true, (*checklist).certificate},
	{"free-names", "Deployment name, storage account and key vault names", adminservice.PartCertificate, adminservice.WhoSiteAdministrator, true, (*checklist).freeNames},

	{"azure-service", "Azure service for cloud management", adminservice.PartEntra, adminservice.WhoSiteAdministrator, true, (*checklist).azureService},
	{"server-app", "Server application", adminservice.PartEntra, adminservice.WhoGlobalAdmin, true, (*checklist).serverApplication},
	{"client-app", "Client application", adminservice.PartEntra, adminservice.WhoGlobalAdmin, true, (*checklist).clientApplication},
	{"sign-in", "Sign-in as the server application", adminservice.PartEntra, adminservice.WhoSiteAdministrator, true, (*checklist).serverSignIn},
	{"consent-users", "Consent for all users", adminservice.PartEntra, adminservice.WhoGlobalAdmin, true, consentItem("consent-users")},
	{"consent-directory", "Consent to read the directory", adminservice.PartEntra, adminservice.WhoGlobalAdmin, true, consentItem("consent-directory")},

	{"client-authentication", "A way for clients to sign in", adminservice.PartClientAuth, adminservice.WhoSiteAdministrator, false, (*checklist).clientAuthentication},
	{"client-revocation", "Revocation lists of client certificates", adminservice.PartClientAuth, adminservice.WhoCertificates, false, (*checklist).clientRevocation},
	{"management-point-https", "Management points use HTTPS", adminservice.PartClientAuth, adminservice.WhoSiteAdministrator, false, (*checklist).managementPointHTTPS},

	{"gateway", "Cloud management gateway", adminservice.PartGateway, adminservice.WhoSiteAdministrator, false, (*checklist).gateway},
	{"gateway-instances", "Instances of the gateway", adminservice.PartGateway, adminservice.WhoSiteAdministrator, false, (*checklist).gatewayInstances},
	{"dns-inside", "Service name inside", adminservice.PartGateway, adminservice.WhoDNS, true, (*checklist).dnsInside},
	{"dns-outside", "Service name outside", adminservice.PartGateway, adminservice.WhoDNS, false, (*checklist).dnsOutside},
	{"connection-point", "Connection point", adminservice.PartGateway, adminservice.WhoConnectionPoint, false, (*checklist).connectionPoint},
	{"outward-ports", "Ports outward from the connection point", adminservice.PartGateway, adminservice.WhoNetwork, false, (*checklist).outwardPorts},
	{"connection-point-endpoints", "Internet endpoints of the connection point", adminservice.PartGateway, adminservice.WhoNetwork, false, (*checklist).pointEndpoints},
	{"management-point", "Management point takes gateway traffic", adminservice.PartGateway, adminservice.WhoSiteAdministrator, false, (*checklist).managementPoint},
	{"software-update-point", "Software update point takes gateway traffic", adminservice.PartGateway, adminservice.WhoSiteAdministrator, false, (*checklist).softwareUpdatePoint},
	{"boundary-groups", "Boundary groups refer to the gateway", adminservice.PartGateway, adminservice.WhoSiteAdministrator, false, (*checklist).boundaryGroups},

	{"client-settings", "Clients may use a gateway", adminservice.PartClients, adminservice.WhoSiteAdministrator, false, (*checklist).clientSettings},
	{"clients-told", "Clients learn of the gateway", adminservice.PartClients, adminservice.WhoSiteAdministrator, false, (*checklist).clientsTold},
	{"clients", "Clients", adminservice.PartClients, adminservice.WhoDevice, false, (*checklist).clients},
}

// A checklist is what the items look at.
type checklist struct {
	s   *Server
	ctx context.Context
	in  *adminservice.ChecklistRequest
	now time.Time

	gateways []*record[gatewayRecord]
	// g is the gateway in question, nil when there is none: one that exists,
	// with its ID, or a planned one.
	g            *gatewayRecord
	gatewayID    string
	existing     bool
	planProblem  error           // why the planned one is none
	certificates []opencmg.Check // of the planned one's certificate

	apps     []*record[applicationRecord]
	services []*record[azureServiceRecord]
	tenants  []*record[tenantRecord]
	points   []*record[pointRecord]
	roles    []*record[roleRecord]
	trusted  []*record[trustedRecord]

	// What was found outside.
	outsideLook
}

// getChecklist answers for a gateway that exists, or for what a new one needs.
func (s *Server) getChecklist(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	in := adminservice.ChecklistRequest{
		Gateway: q.Get("gateway"), Size: opencmg.VMSize(q.Get("size")), SubscriptionID: q.Get("subscription"), Region: q.Get("region"), ServiceName: q.Get("serviceName"),
	}
	var err error
	if in.Instances, err = queryNumber(r, "instances", 1<<20); err != nil {
		return err
	}
	kept, err := queryNumber(r, "kept", int(time.Hour/time.Second))
	if err != nil {
		return err
	}
	return s.answerChecklist(w, r, &in, time.Duration(kept)*time.Second)
}

// askChecklist is the same with a planned gateway, or with findings of the
// caller's.
func (s *Server) askChecklist(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.ChecklistRequest
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	if in.Probes != nil && len(in.Probes.Probes) > opencmg.MaxProbes {
		return opencmg.Errorf(opencmg.Invalid, "probes: more than %d", opencmg.MaxProbes)
	}
	return s.answerChecklist(w, r, &in, 0)
}

// checklistTimeout bounds all that a checklist looks at outside.
const checklistTimeout = time.Minute

func (s *Server) answerChecklist(w http.ResponseWriter, r *http.Request, in *adminservice.ChecklistRequest, kept time.Duration) error {
	if in.Instances < 0 || in.Instances > opencmg.MaxInstances {
		return opencmg.Errorf(opencmg.Invalid, "instances: must be 1 to %d, is %d", opencmg.MaxInstances, in.Instances).About("instances")
	}
	size, err := opencmg.ParseVMSize(string(in.Size))
	if err != nil {
		return err
	}
	if in.Size != "" {
		in.Size = size
	}
	ctx, cancel := context.WithTimeout(r.Context(), checklistTimeout)
	defer cancel()
	c, err := s.newChecklist(ctx, in)
	if err != nil {
		return err
	}
	if kept > 0 {
		c.lookOutsideLately(kept)
	} else {
		c.lookOutside()
	}
	if r.Context().Err() != nil {
		return r.Context().Err()
	}
	return answerList(w, r, c.items())
}

// items looks at every row.
func (c *checklist) items() []adminservice.ChecklistItem {
	var list []adminservice.ChecklistItem
	for _, row := range checklistItems {
		if c.in.Planned != nil && !row.before {
			continue
		}
		v := row.look(c)
		item := adminservice.ChecklistItem{
			Check: opencmg.Check{ID: row.id, Name: row.name, State: v.state, Evidence: v.evidence, NextStep: v.next}, Part: row.part, Who: row.who, Command: v.command,
		}
		if v.who != "" {
			item.Who = v.who
		}
		list = append(list, item)
	}
	if c.in.Planned != nil {
		if len(c.certificates) > 0 {
			// Whether DNS leads there is an item of its own.
			certs := slices.DeleteFunc(slices.Clone(c.certificates), func(o opencmg.Check) bool { return o.ID == "dns" && o.State == opencmg.CheckTodo })
			list = adminservice.WithItems(list, "certificate", adminservice.CertificateItems(certs))
		}
		plan := opencmg.Check{ID: "plan", Name: "What is planned", State: opencmg.CheckPass, Evidence: "it is a gateway that this site can create"}
		if c.planProblem != nil {
			plan.State, plan.Evidence, plan.NextStep = opencmg.CheckFail, c.planProblem.Error(), "change what the text names, and check again"
		}
		list = append([]adminservice.ChecklistItem{{Check: plan, Part: adminservice.PartPrerequisites, Who: adminservice.WhoSiteAdministrator}}, list...)
	}
	return list
}

// newChecklist reads what the site knows.
func (s *Server) newChecklist(ctx context.Context, in *adminservice.ChecklistRequest) (*checklist, error) {
	c := &checklist{s: s, ctx: ctx, in: in, now: s.cfg.Now()}
	var errs [7]error
	c.gateways, errs[0] = readAll[gatewayRecord](ctx, s.db, kindGateway)
	c.apps, errs[1] = readAll[applicationRecord](ctx, s.db, kindApplication)
	c.services, errs[2] = readAll[azureServiceRecord](ctx, s.db, kindAzureService)
	c.tenants, errs[3] = readAll[tenantRecord](ctx, s.db, kindTenant)
	c.points, errs[4] = readAll[pointRecord](ctx, s.db, kindPoint)
	c.roles, errs[5] = readAll[roleRecord](ctx, s.db, kindRole)
	c.trusted, errs[6] = readAll[trustedRecord](ctx, s.db, kindTrusted)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	switch {
	case in.Planned != nil:
		c.plan(in.Planned)
	case in.Gateway != "":
		g, err := s.findGateway(ctx, in.Gateway)
		if err != nil {
			return nil, err
		}
		c.g, c.gatewayID, c.existing = &g.Value, g.ID, true
	case len(c.gateways) > 0:
		c.g, c.gatewayID, c.existing = &c.gateways[0].Value, c.gateways[0].ID, true
	}
	return c, nil
}

// plan takes a gateway that is not there yet.
func (c *checklist) plan(in *adminservice.NewGateway) {
	v, _, err := c.s.planGateway(c.ctx, in)
	if known, ok := errors.AsType[checksFailed](err); ok {
		c.certificates = known.Checks()
	}
	if c.planProblem = err; err == nil {
		c.g = &v
		for _, o := range c.gateways {
			if sameName(o.Value.ServiceName, v.ServiceName) {
				c.planProblem = opencmg.Errorf(opencmg.Conflict, "gateway %s has the service name %s already: choose another one, or change that gateway", o.Name, v.ServiceName)
			}
		}
	}
	if len(in.Certificate.PFX) == 0 {
		return
	}
	o := pki.ServerCertificateOptions{ServiceName: in.Certificate.ServiceName, DeploymentName: in.DeploymentName, Now: c.now}
	if ends, err := azure.EndpointsOf(c.environment()); err == nil && in.Model != adminservice.ModelSelfHosted && in.Region != "" {
		o.CloudDomain = opencmg.RegionName(in.Region) + "." + ends.CloudAppSuffix
	}
	// With the domain of the cloud it says more than the plan needed to know.
	_, c.certificates, _ = pki.InspectServerCertificate(in.Certificate.PFX, []byte(in.Certificate.Password), o)
}

// environment is the cloud in question.
func (c *checklist) environment() opencmg.Environment {
	if c.g != nil && c.g.Environment != "" {
		return c.g.Environment
	}
	if c.in.Planned != nil && c.in.Planned.Environment != "" {
		return c.in.Planned.Environment
	}
	if len(c.tenants) > 0 {
		return c.tenants[0].Value.Environment
	}
	return c.s.cfg.Environments[0]
}

// selfHosted reports whether no cloud is concerned.
func (c *checklist) selfHosted() bool {
	return c.g != nil && c.g.Model == adminservice.ModelSelfHosted || c.in.Planned != nil && c.in.Planned.Model == adminservice.ModelSelfHosted
}

// serviceName is the one that clients use; empty when it is not known yet.
func (c *checklist) serviceName() string {
	if c.g != nil {
		return c.g.ServiceName
	}
	return c.in.ServiceName
}

// name is the gateway's for a command line.
func (c *checklist) name() string {
	if n := c.serviceName(); n != "" {
		return quoteArg(n)
	}
	return "SERVICE-NAME"
}

// lookOutside asks the cloud, the directory and the network, all at once.
func (c *checklist) lookOutside() {
	var all sync.WaitGroup
	all.Go(c.lookAtCloud)
	all.Go(c.lookAtDirectory)
	all.Go(c.lookAtNetwork)
	all.Wait()
}

// quoteArg makes one word of a text for a command line, in the way of both a
// POSIX shell and PowerShell.
func quoteArg(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.:/@", r)
	}
	if s != "" && !strings.HasPrefix(s, "-") && !strings.HasPrefix(s, "@") && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	// A quote inside can not be written the same way in both: what is printed
	// then is for the shell.
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
