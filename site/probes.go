package site

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/azure"
)

// What is looked at to tell whether the network lets this deployment work:
// by the site server, by connection points, and by an administrator on the host
// that is to be one.

// private reports whether a cloud's hosts have certificates of their own
// authority.
func private(e opencmg.Environment) bool { return e == opencmg.AzureLab }

// httpsTarget is the host of an https address.
func httpsTarget(address, purpose string, e opencmg.Environment) opencmg.ProbeTarget {
	u, err := url.Parse(address)
	if err != nil {
		return opencmg.ProbeTarget{Kind: opencmg.ProbeHost, Host: address, Purpose: purpose}
	}
	port, _ := strconv.Atoi(u.Port())
	return opencmg.ProbeTarget{Kind: opencmg.ProbeHost, Host: u.Hostname(), Port: cmp.Or(port, 443), Purpose: purpose, Private: private(e)}
}

// siteTargets are the hosts that the service connection point needs
// (cmg-behaviour 12).
func siteTargets(ends azure.Endpoints) []opencmg.ProbeTarget {
	return []opencmg.ProbeTarget{
		httpsTarget(ends.ResourceManager, "Azure Resource Manager", ends.Environment),
		httpsTarget(ends.Authority, "sign-in", ends.Environment),
		httpsTarget(ends.Graph, "Microsoft Graph", ends.Environment),
	}
}

// gatewayTargets are what a connection point of the gateway needs: its service
// name, each address for tunnels, and the hosts of cmg-behaviour 12.
func gatewayTargets(g *gatewayRecord) []opencmg.ProbeTarget {
	list := []opencmg.ProbeTarget{{Kind: opencmg.ProbeName, Host: g.ServiceName, Purpose: "service name"}}
	add := func(instance int, transport, address string) {
		host, port, err := net.SplitHostPort(address)
		n, perr := strconv.Atoi(port)
		if err == nil && perr == nil {
			list = append(list, opencmg.ProbeTarget{
				Kind: opencmg.ProbeTunnel, Host: host, Port: n, Gateway: g.Prefix, Instance: instance, Transport: transport, Purpose: "tunnel",
			})
		}
	}
	for _, i := range tunnelAddresses(g) {
		add(i.Instance, transportTCPTLS, i.TCPTLS)
		add(i.Instance, transportHTTPS, i.HTTPS)
	}
	if ends, err := azure.EndpointsOf(g.Environment); err == nil && g.Model == adminservice.ModelScaleSet {
		list = append(list,
			httpsTarget(ends.BlobURL(g.Prefix), "storage account", g.Environment),
			httpsTarget(ends.VaultURL(g.Prefix), "key vault", g.Environment))
	}
	return list[:min(len(list), opencmg.MaxProbes)]
}

// Transports of tunnels as reports name them.
const (
	transportTCPTLS = "tcp-tls"
	transportHTTPS  = "https"
)

// pointTargets are those of a connection point that is linked to the gateway.
func (s *Server) pointTargets(ctx context.Context, gatewayID string) ([]opencmg.ProbeTarget, error) {
	if gatewayID == "" {
		return nil, nil
	}
	g, err := read[gatewayRecord](ctx, s.db, kindGateway, gatewayID)
	switch {
	case errors.Is(err, opencmg.NotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case g.Value.Model != adminservice.ModelSelfHosted && len(g.Value.Machines) == 0:
		return nil, nil // it is being made
	}
	return gatewayTargets(&g.Value), nil
}

// listProbeTargets tells what to look at from a host that is to be a
// connection point.
func (s *Server) listProbeTargets(w http.ResponseWriter, r *http.Request) error {
	c, err := s.newChecklist(r.Context(), &adminservice.ChecklistRequest{Gateway: r.URL.Query().Get("gateway")})
	if err != nil {
		return err
	}
	var list []opencmg.ProbeTarget
	if c.existing {
		if list, err = s.pointTargets(r.Context(), c.gatewayID); err != nil {
			return err
		}
	}
	if ends, err := azure.EndpointsOf(c.environment()); err == nil && len(list) == 0 {
		list = siteTargets(ends)[:2] // of Graph it needs nothing
	}
	return answerList(w, r, list)
}

// bound keeps a report of what was found to its documented size; nil is fine.
func bound(r *opencmg.ProbeReport) {
	if r != nil {
		r.Probes = r.Probes[:min(len(r.Probes), opencmg.MaxProbes)]
	}
}
