package site

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/azure"
	"github.com/opencmg/opencmg/internal/bootstrap"
	"github.com/opencmg/opencmg/internal/cloudinit"
	"github.com/opencmg/opencmg/internal/outbound"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

// The names of a gateway's secrets in its vault. The instances look for them
// (internal/cloudinit, cmd/opencmg).
const (
	vaultCertificate = "server-certificate"
	vaultInstance    = "instance-" // followed by the machine's ID

	contentPFX  = "application/x-pkcs12"
	contentJSON = "application/json"
	contentText = "text/plain"
)

// Values of opencmg.Machine.
const (
	powerRunning  = "running"
	healthHealthy = "healthy"
)

// A step is one part of an operation on a gateway. It may be done again from
// its start at any time.
type step struct {
	name    string
	percent int
	text    string
	do      func(*gatewayRun, context.Context) error
}

// The steps of each operation, in their order.
func plan(kind string) []step {
	check := step{"check", 2, "check names, region, providers, quota and rights", (*gatewayRun).check}
	group := step{"resource-group", 8, "make or find the resource group", (*gatewayRun).group}
	deploy := step{"deploy", 10, "deploy network, storage account, key vault and scale set", (*gatewayRun).deploy}
	certificate := step{"certificate", 60, "store the server certificate in the key vault", (*gatewayRun).certificate}
	// A machine waits for the program's address first, and then finds the rest.
	service := step{"service", 75, "upload the gateway program", (*gatewayRun).service}
	instances := step{"instances", 65, "give every machine its number and identity", (*gatewayRun).instances}
	renewed := step{"renewed", 80, "wait until every instance uses the new certificate", (*gatewayRun).renewed}
	wait := step{"wait", 85, "wait until every machine is healthy", (*gatewayRun).wait}
	switch kind {
	case opCreate:
		return []step{check, group, deploy, certificate, instances, service, wait}
	case opConvert:
		return []step{{"convert", 1, "turn the record into a scale set", (*gatewayRun).convert}, check, group, deploy, certificate, instances, service, wait}
	case opScale:
		return []step{{"scale", 10, "change the number of machines", (*gatewayRun).scale}, instances, wait}
	case opResize, opUpgrade:
		return []step{service, {"upgrade", 10, "bring the new model to every machine, one after the other", (*gatewayRun).upgrade}, instances, wait}
	case opStop:
		return []step{{"stop", 10, "deallocate the machines", (*gatewayRun).stop}}
	case opStart:
		return []step{{"start", 10, "start the machines", (*gatewayRun).start}, instances, wait}
	case opCertificate:
		return []step{certificate, renewed}
	case opObtain:
		return []step{
			{"account", 2, "make or find the site's account with the authority", (*gatewayRun).account},
			{"order", 10, "order a certificate from the authority", (*gatewayRun).order},
			certificate, renewed,
		}
	case opSynchronize:
		return []step{certificate, instances, {"published", 90, "wait until every instance has the published configuration", (*gatewayRun).published}}
	case opDelete:
		return []step{{"delete", 10, "delete what belongs to the gateway in the cloud", (*gatewayRun).remove}}
	}
	return nil
}

// A gatewayRun is an operation on a gateway.
type gatewayRun struct {
	*run
	rec   *record[gatewayRecord] // as of the beginning of the step
	cloud Cloud                  // nil for a self-hosted gateway
	d     *opencmg.Deployment
}

// performGateway does the steps of an operation, beginning with the recorded
// one.
func (s *Server) performGateway(ctx context.Context, r *run) error {
	steps := plan(r.op.Kind)
	first := max(0, slices.IndexFunc(steps, func(st step) bool { return st.name == r.op.Step }))
	for _, st := range steps[first:] {
		if err := r.step(ctx, st.name, st.percent, st.text); err != nil {
			return err
		}
		g := &gatewayRun{run: r}
		var err error
		if g.rec, err = read[gatewayRecord](ctx, s.db, kindGateway, r.op.SubjectID); err != nil {
			return err
		}
		if g.rec.Value.Model != adminservice.ModelSelfHosted {
			if g.cloud, err = s.cloudOf(ctx, &g.rec.Value); err != nil {
				return err
			}
			g.d = g.rec.Value.deployment()
		}
		if err := st.do(g, ctx); err != nil {
			return err
		}
	}
	return nil
}

// save changes the gateway's record.
func (g *gatewayRun) save(ctx context.Context, change func(*gatewayRecord)) error {
	rec, err := update(ctx, g.s.db, kindGateway, g.rec.ID, func(_ *sitedb.Tx, rec *record[gatewayRecord]) error {
		change(&rec.Value)
		return nil
	})
	if err == nil {
		g.rec = rec
	}
	return err
}

func (g *gatewayRun) check(ctx context.Context) error {
	if err := g.cloud.SignIn(ctx); err != nil {
		return err
	}
	checks, err := g.cloud.Check(ctx, g.d)
	if err != nil {
		return err
	}
	var failed []string
	for _, c := range checks {
		if c.State != opencmg.CheckPass {
			g.say("check", fmt.Sprintf("%s: %s: %s", c.Name, c.State, c.Evidence))
		}
		if c.State == opencmg.CheckFail {
			failed = append(failed, strings.TrimSuffix(fmt.Sprintf("%s: %s; %s", c.Name, c.Evidence, c.NextStep), "; "))
		}
	}
	if len(failed) > 0 {
		return opencmg.Errorf(opencmg.Conflict, "%s", strings.Join(failed, ". "))
	}
	return nil
}

func (g *gatewayRun) group(ctx context.Context) error {
	created, err := g.cloud.EnsureGroup(ctx, g.d)
	if err != nil {
		return err
	}
	return g.save(ctx, func(v *gatewayRecord) { v.GroupIsOurs = created })
}

func (g *gatewayRun) deploy(ctx context.Context) error {
	if err := g.describe(ctx); err != nil {
		return err
	}
	if _, err := g.cloud.Deploy(ctx, g.d, g.say); err != nil {
		return err
	}
	addresses, fqdn, err := g.cloud.Addresses(ctx, g.d)
	if err != nil {
		return err
	}
	return g.save(ctx, func(v *gatewayRecord) { v.Addresses, v.DeploymentName = addresses, fqdn })
}

// describe completes what is asked of the cloud: principal and custom data.
func (g *gatewayRun) describe(ctx context.Context) error {
	if g.rec.Value.Principal == "" {
		principal, err := g.cloud.PrincipalID(ctx)
		if err != nil {
			return err
		}
		if err := g.save(ctx, func(v *gatewayRecord) { v.Principal = principal }); err != nil {
			return err
		}
		g.d.ServerPrincipal = principal
	}
	var err error
	g.d.CustomData, err = g.s.customData(&g.rec.Value)
	return err
}

// customData is the cloud-init document of a gateway's machines.
func (s *Server) customData(v *gatewayRecord) ([]byte, error) {
	ends, err := azure.EndpointsOf(v.Environment)
	if err != nil {
		return nil, err
	}
	if s.cfg.Program == nil {
		return nil, opencmg.Errorf(opencmg.Conflict, "the site has no gateway program for machines in the cloud: name one as program in its configuration")
	}
	b := s.cfg.Bootstrap
	return cloudinit.Render(cloudinit.Machine{
		ProgramSHA256: s.cfg.Program.SHA256,
		Bootstrap: bootstrap.Gateway{
			Gateway: v.Prefix, ServiceName: v.ServiceName, Site: s.Code(),
			Cloud:    &bootstrap.Cloud{Vault: ends.VaultURL(v.Prefix), VaultAudience: ends.VaultAudience},
			Listen:   bootstrap.Listen{HTTPS: ":443", Tunnel: "off", TunnelHTTPS: fmt.Sprintf(":%d", tunnelPort)},
			Outbound: outbound.Config{Proxy: b.Proxy, CAPEM: b.CAPEM, ConnectTo: b.ConnectTo, ConnectOnly: b.ConnectOnly},
		},
	})
}

// tunnelPort is where machines in the cloud take tunnels; their public ports
// are 10124 to 10139 (cmg-behaviour G11).
const tunnelPort = 10124

func (g *gatewayRun) certificate(ctx context.Context) error {
	if g.cloud == nil {
		return nil // its hosts have it as a file of their own
	}
	pfx, err := g.s.db.Secret(ctx, gatewaySecret(g.rec.ID))
	if err != nil {
		return err
	}
	_, err = g.cloud.SetSecret(ctx, g.d, vaultCertificate, base64.StdEncoding.EncodeToString(pfx), contentPFX)
	return err
}

// instanceIdentity is what an instance finds in its vault under
// vaultInstance.
type instanceIdentity struct {
	Instance    int    `json:"instance"`
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
	SiteCA      string `json:"siteCA"`
}

// instances gives every machine that has none a number and, in the vault, a
// tunnel identity. Numbers of machines that are gone are free again.
func (g *gatewayRun) instances(ctx context.Context) error {
	if g.cloud == nil {
		return nil
	}
	machines, err := g.cloud.Machines(ctx, g.d)
	if err != nil {
		return err
	}
	before := g.rec.Value.Machines
	after := number(before, machines)
	for _, m := range before {
		if !slices.ContainsFunc(after, func(n machineRecord) bool { return n.ID == m.ID }) {
			if err := g.cloud.DeleteSecret(ctx, g.d, vaultInstance+m.ID); err != nil {
				return err
			}
		}
	}
	for _, m := range after {
		if m.Number < 0 {
			return opencmg.Errorf(opencmg.Conflict, "machine %s has no number: all %d are taken. Scale the gateway in, or remove the machines that the cloud does not use", m.ID, opencmg.MaxInstances)
		}
		known := slices.ContainsFunc(before, func(b machineRecord) bool { return b.ID == m.ID && b.Number == m.Number })
		if known && g.op.Kind != opSynchronize && g.op.Kind != opCreate {
			continue
		}
		identity, err := g.s.instanceIdentity(g.rec.Value.Prefix, m.Number)
		if err != nil {
			return err
		}
		if _, err := g.cloud.SetSecret(ctx, g.d, vaultInstance+m.ID, string(mustJSON(identity)), contentJSON); err != nil {
			return err
		}
		g.say("instances", fmt.Sprintf("machine %s is instance %d", m.ID, m.Number))
	}
	return g.save(ctx, func(v *gatewayRecord) { v.Machines = after })
}

// number matches machines with their records and numbers the new ones.
func number(before []machineRecord, machines []opencmg.Machine) []machineRecord {
	var after []machineRecord
	taken := map[int]bool{}
	for _, m := range machines {
		if m.Provisioning == "deleting" {
			continue
		}
		r := machineRecord{ID: m.ID, Number: -1, Port: m.TunnelPort, Power: m.Power, Health: m.Health}
		for _, b := range before {
			if b.ID == m.ID {
				r.Number, r.Stale = b.Number, b.Stale
				taken[r.Number] = true
			}
		}
		after = append(after, r)
	}
	for i := range after {
		for n := 0; after[i].Number < 0 && n < opencmg.MaxInstances; n++ {
			if !taken[n] {
				after[i].Number = n
				taken[n] = true
			}
		}
	}
	slices.SortFunc(after, func(a, b machineRecord) int { return a.Number - b.Number })
	return after
}

func (s *Server) instanceIdentity(gateway string, n int) (instanceIdentity, error) {
	now := s.cfg.Now()
	pair, err := s.keys.authority.IssueKeyPair(pki.Template{
		CommonName: fmt.Sprintf("%s instance %d", gateway, n), URIs: []string{opencmg.GatewayInstanceURI(s.Code(), gateway, n)},
		Client: true, Server: true, NotAfter: now.Add(identityTerm),
	}, now)
	if err != nil {
		return instanceIdentity{}, err
	}
	cert, key, err := pki.SplitKeyPair(pair)
	return instanceIdentity{Instance: n, Certificate: string(cert), Key: string(key), SiteCA: string(s.SiteCAPEM())}, err
}

// wait waits until every machine runs and is healthy. How long that may take
// is the cloud's affair; what it waits for is said when it changes.
func (g *gatewayRun) wait(ctx context.Context) error {
	said := ""
	for {
		machines, err := g.cloud.Machines(ctx, g.d)
		if err != nil {
			return err
		}
		var waiting []string
		healthy := 0
		for _, m := range machines {
			switch {
			case m.Provisioning == "failed":
				return &opencmg.CloudError{Code: "VMProvisioningFailed", Message: "the cloud could not provision machine " + m.Name, Target: m.Name, NextStep: "look at the machine in the portal, or retry: it is made anew"}
			case m.Power == powerRunning && m.Health == healthHealthy:
				healthy++
			default:
				waiting = append(waiting, strings.TrimSpace(m.ID+" "+m.Power+" "+m.Health))
			}
		}
		if err := g.save(ctx, func(v *gatewayRecord) { v.Machines = number(v.Machines, machines) }); err != nil {
			return err
		}
		if healthy >= g.d.Instances && len(waiting) == 0 {
			return nil
		}
		if text := fmt.Sprintf("%d of %d machines are healthy", healthy, g.d.Instances); text != said {
			said = text
			g.say("wait", text)
		}
		if err := pause(ctx, g.s.cfg.Poll); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// drainTime is how long an instance may take to become idle before it is taken
// down all the same.
const drainTime = 2 * time.Minute

func (g *gatewayRun) stop(ctx context.Context) error {
	if err := g.cloud.Stop(ctx, g.d, g.say); err != nil {
		return err
	}
	return g.look(ctx)
}

func (g *gatewayRun) start(ctx context.Context) error { return g.cloud.Start(ctx, g.d, g.say) }

// look records what the machines are now.
func (g *gatewayRun) look(ctx context.Context) error {
	machines, err := g.cloud.Machines(ctx, g.d)
	if err != nil {
		return err
	}
	return g.save(ctx, func(v *gatewayRecord) { v.Machines = number(v.Machines, machines) })
}

// renewed waits until the instances that somebody can see use the new
// certificate; they are told by the published configuration.
func (g *gatewayRun) renewed(ctx context.Context) error {
	return g.await(ctx, "renewed", func(st *opencmg.InstanceStatus) bool { return st.Certificate == g.rec.Value.Thumbprint })
}

// published waits until the instances have the newest published configuration.
func (g *gatewayRun) published(ctx context.Context) error {
	version := g.s.publisher.version(g.rec.ID)
	return g.await(ctx, "published", func(st *opencmg.InstanceStatus) bool { return st.Configuration >= version })
}

// awaitTime bounds the wait for instances that do not do what they were told.
const awaitTime = 5 * time.Minute

// convert makes a classic record one of a scale set; group and storage account
// stay (cmg-behaviour M10).
func (g *gatewayRun) convert(ctx context.Context) error {
	ends, err := azure.EndpointsOf(g.rec.Value.Environment)
	if err != nil {
		return err
	}
	return g.save(ctx, func(v *gatewayRecord) {
		v.Model, v.DeploymentName = adminservice.ModelScaleSet, ends.DeploymentName(v.Prefix, v.Region)
	})
}

func (g *gatewayRun) remove(ctx context.Context) error {
	if g.cloud == nil || g.rec.Value.Model == adminservice.ModelClassic {
		return nil // the site deployed nothing
	}
	return g.cloud.Delete(ctx, g.d, g.rec.Value.GroupIsOurs, g.say)
}

// term is how long a secret lasts.
func term(years int) azure.SecretTerm {
	if years == 2 {
		return azure.TwoYears
	}
	return azure.OneYear
}
