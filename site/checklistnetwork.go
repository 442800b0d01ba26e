package site

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/azure"
)

// Items of the checklist that somebody looked at from where he is: the site
// server, connection points, gateway instances, or an administrator on the host
// that is to be a connection point.

func itoa(n int) string { return strconv.Itoa(n) }

// lookAtNetwork looks from the site server.
func (c *checklist) lookAtNetwork() {
	if c.s.cfg.Probe == nil {
		return
	}
	var targets []opencmg.ProbeTarget
	if ends, err := azure.EndpointsOf(c.environment()); err == nil && !(c.selfHosted() && len(c.services) == 0) {
		targets = siteTargets(ends)
	}
	if n := c.serviceName(); n != "" {
		targets = append(targets, opencmg.ProbeTarget{Kind: opencmg.ProbeName, Host: n, Purpose: "service name"})
	}
	r := c.s.cfg.Probe(c.ctx, targets)
	c.own = &r
}

// A finding is what somebody found.
type finding struct {
	by string // for people
	opencmg.Probe
	proxy string
}

// findings are those of the site server, of the connection points of the
// gateway, and of the caller.
func (c *checklist) findings(own bool) (list []finding) {
	add := func(by string, r *opencmg.ProbeReport) {
		if r == nil {
			return
		}
		for _, p := range r.Probes {
			list = append(list, finding{by, p, r.Proxy})
		}
	}
	if own {
		add("the site server", c.own)
	}
	for _, p := range c.linkedPoints() {
		if r, at := c.s.live.system(p.ID); r != nil && c.now.Sub(at) <= stale {
			add("connection point "+p.Name, r.Probes)
		}
	}
	add("the host of the command", c.in.Probes)
	return list
}

// linkedPoints are the connection points of the gateway in question.
func (c *checklist) linkedPoints() (list []*record[pointRecord]) {
	for _, p := range c.points {
		if c.existing && p.Value.GatewayID == c.gatewayID {
			list = append(list, p)
		}
	}
	return list
}

// instances are the live reports of the gateway's instances.
func (c *checklist) instances() (list []*opencmg.InstanceStatus) {
	if !c.existing {
		return nil
	}
	for _, m := range c.g.Machines {
		if st, connected := c.s.live.instance(c.g.Prefix, m.Number, c.now); st != nil && connected {
			list = append(list, st)
		}
	}
	return list
}

func address(p *opencmg.Probe) string { return net.JoinHostPort(p.Host, itoa(p.Port)) }

const fromHereCommand = "opencmg checklist --from-here"

func (c *checklist) internetEndpoints() verdict {
	if c.selfHosted() && len(c.services) == 0 {
		return passed("a self-hosted gateway without a tenant needs no host of a cloud")
	}
	if c.pending {
		return comesSoon()
	}
	if c.own == nil {
		return todo("look by hand, from the site server", "opencmg firewall-sheet", "this site server does not look at the network")
	}
	return c.endpoints(c.own, "the site server", opencmg.CheckFail)
}

// endpoints is the verdict on the hosts of the internet in a report.
func (c *checklist) endpoints(r *opencmg.ProbeReport, by string, bad opencmg.CheckState) verdict {
	var good, lost []string
	for _, p := range r.Probes {
		switch {
		case p.Kind != opencmg.ProbeHost:
		case !p.OK:
			lost = append(lost, address(&p)+": "+p.Error)
		case p.Via == opencmg.ViaDNS:
			good = append(good, address(&p))
		default:
			good = append(good, address(&p)+" (by "+viaText(&p, r.Proxy)+")")
		}
	}
	if len(lost) > 0 {
		return verdict{state: bad, evidence: by + " does not reach " + strings.Join(lost, "; "), next: "let " + by + " reach the hosts of the firewall sheet", command: "opencmg firewall-sheet"}
	}
	if len(good) == 0 {
		return todo("ask again when the gateway runs", c.again(), "%s has looked at no host yet", by)
	}
	return passed("%s reaches %s", by, strings.Join(good, ", "))
}

// viaText says in what way a target was reached.
func viaText(p *opencmg.Probe, proxy string) string {
	switch p.Via {
	case opencmg.ViaConnectTo:
		return "a connect-to rule that leads to " + strings.Join(p.Addresses, ", ")
	case opencmg.ViaProxy:
		return "the proxy " + proxy
	}
	return "DNS"
}

func (c *checklist) inspection() verdict {
	var blocked, borne, proxies []string
	looked := 0
	for _, f := range c.findings(true) {
		if f.Kind != opencmg.ProbeName {
			looked++
		}
		if f.proxy != "" {
			proxies = append(proxies, f.by+" uses the proxy "+f.proxy)
		}
		if f.Inspector == "" {
			continue
		}
		text := fmt.Sprintf("on the way from %s to %s TLS is inspected by %s", f.by, address(&f.Probe), f.Inspector)
		if f.OK {
			borne = append(borne, text)
		} else {
			blocked = append(blocked, text)
		}
	}
	const next = "exempt these hosts from TLS inspection in the product that is named"
	slices.Sort(proxies)
	proxies = slices.Compact(proxies)
	switch {
	case len(blocked) > 0:
		return failed(next, "opencmg firewall-sheet", "%s", strings.Join(append(blocked, borne...), "; "))
	case len(borne) > 0:
		return warned(next+"; it is borne because the additional roots of the process trust it", "opencmg firewall-sheet", "%s", strings.Join(borne, "; "))
	case looked == 0:
		return todo("look from the host that is to be the connection point", fromHereCommand, "nobody has looked yet")
	case len(proxies) == 0:
		return passed("no proxy is set, and none of %d connections was inspected", looked)
	}
	return passed("%s; none of %d connections was inspected", strings.Join(proxies, ", "), looked)
}

// leads judges where a service name leads.
func (c *checklist) leads(f finding) verdict {
	g := c.g
	service, deployment := c.serviceName(), ""
	var addresses []string
	if g != nil && g.Model != adminservice.ModelSelfHosted {
		deployment, addresses = g.DeploymentName, g.Addresses
	}
	next := "make the record " + service + " for the gateway's addresses"
	if deployment != "" {
		next = "make the CNAME record " + service + " → " + deployment
	}
	where := strings.Join(f.Addresses, ", ")
	switch {
	case !f.OK && f.Via == "":
		return todo(next, c.again(), "seen from %s: %s", f.by, f.Error)
	case !f.OK:
		return failed(next, c.again(), "seen from %s: %s", f.by, f.Error)
	case f.Via == opencmg.ViaConnectTo:
		return passed("%s: a connect-to rule leads %s to %s; DNS was not asked", f.by, service, where)
	case deployment == "":
		return passed("%s: %s has the addresses %s", f.by, service, where)
	case strings.EqualFold(service, deployment):
		return passed("%s: the cloud's own name has the addresses %s", f.by, where)
	case strings.EqualFold(f.Canonical, deployment):
		return passed("%s: CNAME to %s", f.by, deployment)
	case slices.ContainsFunc(f.Addresses, func(a string) bool { return slices.Contains(addresses, a) }):
		return warned(next, c.again(), "seen from %s: %s leads to the gateway by its address %s and not by a CNAME, and will be wrong when the address changes", f.by, service, where)
	}
	return failed(next, c.again(), "seen from %s: %s leads to %s and not to %s", f.by, service, strings.TrimSpace(f.Canonical+" "+where), deployment)
}

func (c *checklist) dnsInside() verdict {
	if c.serviceName() == "" {
		return todo("get the server certificate, which decides the service name", preflightCommand, "there is no service name yet")
	}
	var by []finding
	for _, f := range c.findings(true) {
		if f.Kind == opencmg.ProbeName && strings.EqualFold(f.Host, c.serviceName()) {
			by = append(by, f)
		}
	}
	if len(by) == 0 {
		return todo("look from a host inside", fromHereCommand, "nobody inside has looked yet")
	}
	v := verdict{state: opencmg.CheckPass}
	var evidence []string
	for _, f := range by {
		o := c.leads(f)
		if worse(o.state, v.state) {
			v = o
		}
		evidence = append(evidence, o.evidence)
	}
	if v.state == opencmg.CheckPass {
		v.evidence = strings.Join(evidence, "; ")
	}
	if !c.existing && v.state != opencmg.CheckPass {
		// The name can be made after the gateway; it must be there before the
		// first client.
		v.state = opencmg.CheckWarn
	}
	return v
}

func (c *checklist) dnsOutside() verdict {
	if !c.existing {
		return todo("create the gateway, whose instances look from outside", createCommand, "there is no gateway yet")
	}
	var worst verdict
	var evidence []string
	silent := 0
	for _, st := range c.instances() {
		if st.Outside == nil {
			silent++
			continue
		}
		v := c.outside(st)
		if worst.state == "" || worse(v.state, worst.state) {
			worst = v
		}
		evidence = append(evidence, v.evidence)
	}
	switch {
	case worst.state == "" && silent > 0:
		return todo("wait a minute for the instances to look; if they never do, upgrade the gateway", c.again(), "%s said nothing about what is seen outside", plural(silent, "instance", "instances"))
	case worst.state == "":
		return todo("bring a connection point up, which brings the instances' reports", "opencmg connection-point join", "no instance reports")
	case worst.state == opencmg.CheckPass:
		worst.evidence = strings.Join(evidence, "; ")
	}
	return worst
}

// outside judges what one instance saw.
func (c *checklist) outside(st *opencmg.InstanceStatus) verdict {
	by := fmt.Sprintf("instance %d", st.Instance)
	v := todo("upgrade the gateway", c.again(), "%s did not look at the service name", by)
	for _, p := range st.Outside.Probes {
		if p.Kind == opencmg.ProbeName && strings.EqualFold(p.Host, c.g.ServiceName) {
			v = c.leads(finding{by, p, st.Outside.Proxy})
		}
	}
	if v.state == opencmg.CheckFail || v.state == opencmg.CheckTodo {
		return v
	}
	for _, p := range st.Outside.Probes {
		switch {
		case p.Kind != opencmg.ProbeService:
		case !p.OK:
			return warned("try it from a device on the internet: some clouds do not let an instance reach its own public address", c.again(), "%s; but %s does not answer there: %s", v.evidence, address(&p), p.Error)
		case st.Certificate != "" && !strings.EqualFold(p.Certificate, st.Certificate):
			return failed("find out what answers there in the gateway's place: a wrong record, or a device that inspects TLS", c.again(), "%s; but at %s another certificate is presented, with the thumbprint %s", v.evidence, address(&p), p.Certificate)
		default:
			v.evidence += ", and the gateway answers at " + address(&p)
		}
	}
	return v
}

// waysIn are, for each instance, the ways to its tunnels that were found to
// work, and why others do not.
func (c *checklist) waysIn() (good, bad map[int][]string) {
	good, bad = map[int][]string{}, map[int][]string{}
	for _, p := range c.linkedPoints() {
		r, at := c.s.live.system(p.ID)
		if r == nil || c.now.Sub(at) > stale || r.ConnectionPoint == nil {
			continue
		}
		for _, t := range r.ConnectionPoint.Tunnels {
			if t.Gateway != c.g.Prefix {
				continue
			}
			if t.Connected {
				good[t.Instance] = append(good[t.Instance], fmt.Sprintf("connection point %s has a tunnel by %s", p.Name, strings.ToUpper(cmp.Or(t.Transport, "one port"))))
			} else if t.LastError != "" {
				bad[t.Instance] = append(bad[t.Instance], "connection point "+p.Name+": "+t.LastError)
			}
		}
	}
	for _, f := range c.findings(false) {
		if f.Kind != opencmg.ProbeTunnel || f.Gateway != c.g.Prefix {
			continue
		}
		if f.OK {
			good[f.Instance] = append(good[f.Instance], f.by+" reaches "+address(&f.Probe))
		} else {
			bad[f.Instance] = append(bad[f.Instance], f.by+" does not reach "+address(&f.Probe)+": "+f.Error)
		}
	}
	return good, bad
}

func (c *checklist) outwardPorts() verdict {
	if !c.existing || len(c.g.Machines) == 0 {
		return todo("create the gateway; the firewall sheet says what will be needed", "opencmg firewall-sheet", "there is no instance to reach yet")
	}
	good, bad := c.waysIn()
	if len(good)+len(bad) == 0 {
		return todo("look from the host that is to be the connection point", fromHereCommand, "no connection point has looked yet")
	}
	var open, shut []string
	for _, m := range c.g.Machines {
		switch {
		case len(good[m.Number]) > 0:
			open = append(open, fmt.Sprintf("instance %d: %s", m.Number, strings.Join(good[m.Number], ", ")))
		case len(bad[m.Number]) > 0:
			shut = append(shut, fmt.Sprintf("instance %d: %s", m.Number, strings.Join(bad[m.Number], "; ")))
		default:
			shut = append(shut, fmt.Sprintf("instance %d: nobody looked", m.Number))
		}
	}
	if len(shut) > 0 {
		return failed("let the connection point's host out on one of the ports of each instance", "opencmg firewall-sheet --gateway "+c.name(), "%s", strings.Join(append(shut, open...), "; "))
	}
	return passed("one port of each instance is enough: %s", strings.Join(open, "; "))
}

func (c *checklist) pointEndpoints() verdict {
	if c.selfHosted() {
		return passed("a self-hosted gateway has none")
	}
	var worst verdict
	var evidence []string
	look := func(by string, r *opencmg.ProbeReport) {
		if r == nil {
			return
		}
		// Nothing that clients do goes that way, so it is no failure.
		v := c.endpoints(r, by, opencmg.CheckWarn)
		if worst.state == "" || worse(v.state, worst.state) {
			worst = v
		}
		evidence = append(evidence, v.evidence)
	}
	for _, p := range c.linkedPoints() {
		if r, at := c.s.live.system(p.ID); r != nil && c.now.Sub(at) <= stale {
			look("connection point "+p.Name, r.Probes)
		}
	}
	look("the host of the command", c.in.Probes)
	switch worst.state {
	case "":
		return todo("look from the host that is to be the connection point", fromHereCommand, "no connection point has looked yet")
	case opencmg.CheckPass:
		worst.evidence = strings.Join(evidence, "; ")
	case opencmg.CheckWarn:
		worst.next += "; tunnels do not need them"
	}
	return worst
}
