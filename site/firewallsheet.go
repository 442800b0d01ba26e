package site

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/azure"
	"github.com/opencmg/opencmg/pki"
)

// The connections of this very deployment, for whoever looks after firewalls
// (cmg-behaviour 12, design 12.5). What this program does not do is not listed,
// although the original needs it, such as tables of the storage account.

// Roles in a firewall sheet.
const (
	sheetSite    = "site server"
	sheetPoint   = "connection point"
	sheetGateway = "gateway"
	sheetMP      = "management point"
	sheetClient  = "client"
	sheetAdmin   = "administrator"
	sheetAzure   = "Azure"
	sheetEntra   = "Microsoft Entra ID"
	sheetCA      = "certification authority"
)

// getFirewallSheet answers for a gateway that exists, or with placeholders.
func (s *Server) getFirewallSheet(w http.ResponseWriter, r *http.Request) error {
	c, err := s.newChecklist(r.Context(), &adminservice.ChecklistRequest{Gateway: r.URL.Query().Get("gateway")})
	if err != nil {
		return err
	}
	return answerList(w, r, c.firewallSheet())
}

type firewallSheet struct{ rules []adminservice.FirewallRule }

// add adds a rule; an address may be a URL or host:port.
func (f *firewallSheet) add(from, to, direction, address, protocol, purpose, note string) {
	r := adminservice.FirewallRule{From: from, To: to, Direction: direction, Protocol: protocol, Purpose: purpose, Note: note}
	if u, err := url.Parse(address); err == nil && u.Host != "" && u.Scheme != "" {
		if protocol == "" {
			r.Protocol = strings.ToUpper(u.Scheme)
		}
		r.Host, r.Port = u.Hostname(), map[string]int{"http": 80, "https": 443, "ldap": 389}[strings.ToLower(u.Scheme)]
		if p, err := strconv.Atoi(u.Port()); err == nil {
			r.Port = p
		}
	} else if host, port, err := net.SplitHostPort(address); err == nil {
		r.Host = host
		r.Port, _ = strconv.Atoi(port)
	} else {
		r.Host, r.Port = address, 443
	}
	same := func(o adminservice.FirewallRule) bool {
		return o.From == r.From && o.To == r.To && strings.EqualFold(o.Host, r.Host) && o.Port == r.Port && o.Protocol == r.Protocol && o.Purpose == r.Purpose
	}
	if !slices.ContainsFunc(f.rules, same) {
		f.rules = append(f.rules, r)
	}
}

func (c *checklist) firewallSheet() []adminservice.FirewallRule {
	f := &firewallSheet{}
	const https = "HTTPS"
	out, in, inside := adminservice.DirectionOutbound, adminservice.DirectionInbound, adminservice.DirectionInside
	cloud, net := adminservice.DirectionCloud, adminservice.DirectionInternet
	prefix, service := "<deployment name>", "<service name>"
	if c.g != nil {
		prefix, service = c.g.Prefix, c.g.ServiceName
	}
	entra := !c.selfHosted() || len(c.services) > 0
	ends, err := azure.EndpointsOf(c.environment())
	if err == nil && entra {
		f.add(sheetSite, sheetEntra, out, ends.Authority, https, "sign-in", "")
		f.add(sheetSite, sheetEntra, out, ends.Graph, https, "create applications, look for consent, discovery", "not needed with imported applications and without discovery")
	}
	if err == nil && !c.selfHosted() {
		f.add(sheetSite, sheetAzure, out, ends.ResourceManager, https, "deploy and watch the gateway", "")
		f.add(sheetSite, sheetAzure, out, prefix+"."+ends.VaultSuffix, https, "server certificate and identities of the instances", "")
		f.add(sheetSite, sheetAzure, out, prefix+"."+ends.BlobSuffix, https, "gateway program and content", "")
	}
	if c.g != nil && c.g.ACME != nil {
		f.add(sheetSite, sheetCA, out, c.g.ACME.Directory, "", "obtain the server certificate by ACME", "")
		if c.g.ACME.Challenge == opencmg.ChallengeHTTP {
			f.add(sheetCA, sheetGateway, in, hostPort(service, 80), "HTTP", "ACME's http-01 challenge", "")
		}
	}
	c.tunnelRules(f, service)
	if c.s.cfg.URL != "" {
		f.add(sheetPoint, sheetSite, inside, c.s.cfg.URL, https, "documents and reports", "")
		f.add(sheetMP, sheetSite, inside, c.s.cfg.URL, https, "documents and reports", "")
		f.add(sheetAdmin, sheetSite, inside, c.s.cfg.URL, https, "administration service and console", "")
	}
	for _, r := range c.roles {
		if r.Value.AllowGatewayTraffic {
			for _, u := range r.Value.Internal {
				f.add(sheetPoint, r.Value.Kind+" "+r.Name, inside, u, "", "clients' requests", "")
			}
		}
	}
	if len(c.managementPoints()) == 0 {
		f.add(sheetPoint, sheetMP, inside, "<management point>", https, "clients' requests", "")
	}
	f.add(sheetClient, sheetGateway, in, service, https, "all that clients do over the internet", "")
	if err == nil && !c.selfHosted() {
		if c.g == nil || *c.g.Settings.EnableContent {
			f.add(sheetClient, sheetAzure, net, prefix+"."+ends.BlobSuffix, https, "content", "not needed when the gateway serves no content")
		}
		f.add(sheetGateway, sheetAzure, cloud, prefix+"."+ends.VaultSuffix, https, "its certificate and identity", "")
		f.add(sheetGateway, sheetAzure, cloud, prefix+"."+ends.BlobSuffix, https, "its program", "")
	}
	if err == nil && entra {
		f.add(sheetClient, sheetEntra, net, ends.Authority, https, "sign-in of joined devices and users", "not needed for certificates and tokens")
		f.add(sheetGateway, sheetEntra, cloud, ends.Authority, https, "keys of Entra's tokens", "")
		f.add(sheetMP, sheetEntra, out, ends.Authority, https, "keys of Entra's tokens", "")
		for _, h := range []string{"aadcdn.msauth.net", "aadcdn.msftauth.net"} {
			f.add(sheetAdmin, sheetEntra, out, h, https, "sign-in pages", "only for a browser that signs in to Entra")
		}
		f.add(sheetAdmin, sheetEntra, out, ends.Authority, https, "sign-in", "only for accounts of Entra")
	}
	c.revocationRules(f)
	return f.rules
}

// tunnelRules are the ports of the tunnels as they are really configured; the
// documented ones before there is a gateway (cmg-behaviour G11, G12).
func (c *checklist) tunnelRules(f *firewallSheet, service string) {
	note := ""
	for _, p := range c.linkedPoints() {
		if r, _ := c.s.live.system(p.ID); r != nil && r.Probes != nil && r.Probes.Proxy != "" {
			note = "through the proxy " + r.Probes.Proxy
		}
	}
	join := func(notes ...string) string {
		return strings.Join(slices.DeleteFunc(notes, func(s string) bool { return s == "" }), "; ")
	}
	var list []opencmg.InstanceAddress
	if c.g != nil {
		list = tunnelAddresses(c.g)
	}
	if len(list) == 0 {
		note = join("as documented; one port of each instance is enough", note)
		n := 2
		if c.g != nil {
			n = max(1, c.g.Settings.Instances)
		}
		for i := range n {
			a := opencmg.InstanceAddress{Instance: i, HTTPS: hostPort(service, 443)}
			if n > 1 {
				a.HTTPS = hostPort(service, portTunnelHTTPS+i)
			}
			if c.selfHosted() {
				a.HTTPS, a.TCPTLS = hostPort(service, hostHTTPSPort), hostPort(service, hostTunnelPort)
			}
			list = append(list, a)
		}
	}
	for _, a := range list {
		both := ""
		if a.TCPTLS != "" && a.HTTPS != "" {
			both = "TCP-TLS or HTTPS: one of the two is enough"
		}
		purpose := fmt.Sprintf("tunnel to instance %d", a.Instance)
		if a.TCPTLS != "" {
			f.add(sheetPoint, sheetGateway, adminservice.DirectionOutbound, a.TCPTLS, "TCP-TLS", purpose, join(both, note))
		}
		if a.HTTPS != "" {
			f.add(sheetPoint, sheetGateway, adminservice.DirectionOutbound, a.HTTPS, "HTTPS", purpose, join(both, note))
		}
	}
}

// portTunnelHTTPS is the documented port of the first of several instances.
const portTunnelHTTPS = 10124

// revocationRules are the hosts of the revocation lists that the real
// certificates name.
func (c *checklist) revocationRules(f *firewallSheet) {
	if c.g != nil && c.g.CertificateLeaf != "" {
		if certs, err := pki.ParseCertificates([]byte(c.g.CertificateLeaf)); err == nil {
			for _, u := range certs[0].CRLDistributionPoints {
				f.add(sheetClient, sheetCA, adminservice.DirectionInternet, u, "", "revocation list of the server certificate", "")
			}
			for _, u := range certs[0].OCSPServer {
				f.add(sheetClient, sheetCA, adminservice.DirectionInternet, u, "", "revocation of the server certificate (OCSP)", "")
			}
		}
	}
	if c.g != nil && !*c.g.Settings.CheckRevocation {
		return
	}
	const purpose = "revocation list of client certificates"
	var lists []string
	for _, t := range c.trusted {
		lists = append(lists, t.Value.RevocationList)
		if certs, err := pki.ParseCertificates([]byte(t.Value.Certificate)); err == nil {
			lists = append(lists, certs[0].CRLDistributionPoints...)
		}
	}
	for _, st := range c.instances() {
		for _, l := range st.RevocationLists {
			lists = append(lists, l.URL)
		}
	}
	slices.Sort(lists)
	for _, u := range slices.Compact(lists) {
		if u != "" {
			f.add(sheetGateway, sheetCA, adminservice.DirectionCloud, u, "", purpose, "")
			f.add(sheetMP, sheetCA, adminservice.DirectionOutbound, u, "", purpose, "not needed when no client inside signs in by certificate")
		}
	}
}
