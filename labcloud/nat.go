package labcloud

import (
	"net/http"
	"slices"
	"strings"
)

// Which pools, rules and ports belong to which scale set and machine.

// poolsOf are the lower-case IDs of the pools that a scale set is in.
func poolsOf(r *resource) []string {
	var out []string
	for _, n := range nics(r) {
		for _, c := range list(n, "properties", "ipConfigurations") {
			for _, p := range list(c, "properties", "loadBalancerBackendAddressPools") {
				out = append(out, strings.ToLower(text(p, "id")))
			}
		}
	}
	return out
}

// rulesOf are the rules of a kind that lead to a scale set.
func (s *Server) rulesOf(r *resource, kind string) []any {
	pools := poolsOf(r)
	var out []any
	for _, lb := range s.ofType("Microsoft.Network/loadBalancers") {
		for _, rule := range list(lb.Body, "properties", kind) {
			ids := append(list(rule, "properties", "backendAddressPools"), get(rule, "properties", "backendAddressPool"))
			if slices.ContainsFunc(ids, func(p any) bool { return slices.Contains(pools, strings.ToLower(text(p, "id"))) }) {
				out = append(out, rule)
			}
		}
	}
	return out
}

// backendPorts are the VM ports that rules and probes lead to.
func (s *Server) backendPorts(r *resource) []int {
	var out []int
	for _, rule := range s.rulesOf(r, "loadBalancingRules") {
		out = append(out, integer(rule, "properties", "backendPort"))
		if _, probe, found := s.find(text(rule, "properties", "probe", "id")); found && probe != nil {
			out = append(out, integer(probe, "properties", "port"))
		}
	}
	for _, rule := range s.rulesOf(r, "inboundNatRules") {
		out = append(out, integer(rule, "properties", "backendPort"))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// checkNATPorts refuses more machines than a rule's range has ports.
func (s *Server) checkNATPorts(r *resource, capacity int) *armError {
	for _, rule := range s.rulesOf(r, "inboundNatRules") {
		if n := integer(rule, "properties", "frontendPortRangeEnd") - integer(rule, "properties", "frontendPortRangeStart") + 1; n < capacity {
			return armErrorf(http.StatusConflict, "InboundNatRulePortsExhausted", "The frontend port range of inbound NAT rule '%s' has %d ports, which is less than the %d instances of scale set '%s'.", text(rule, "name"), n, capacity, r.Name)
		}
	}
	return nil
}

// assignNAT gives a machine the lowest free port of each NAT rule. It keeps
// them as long as it lives, so ports do not follow instance IDs.
func (s *Server) assignNAT(r *resource, m *machine) {
	for _, rule := range s.rulesOf(r, "inboundNatRules") {
		id := strings.ToLower(text(rule, "id"))
		used := map[int]bool{}
		for _, o := range s.st.Machines {
			used[o.NATPorts[id]] = true
		}
		for p := integer(rule, "properties", "frontendPortRangeStart"); p <= integer(rule, "properties", "frontendPortRangeEnd"); p++ {
			if !used[p] {
				m.NATPorts[id] = p
				break
			}
		}
	}
	s.syncFrontends()
}

func (s *Server) natBackendPort(m *machine, front int) int {
	for id, p := range m.NATPorts {
		if _, rule, found := s.find(id); p == front && found {
			return integer(rule, "properties", "backendPort")
		}
	}
	return 0
}

type portMappingBody struct {
	IPAddress       string    `json:"ipAddress"`
	IPConfiguration reference `json:"ipConfiguration"`
}

// portMapping answers which public ports lead to one machine.
func (s *Server) portMapping(c *armCall, d *definition) (*reply, *armError) {
	m, err := s.read(c, "microsoft.network/loadbalancers/backendaddresspools/queryinboundnatruleportmapping", portMappingBody{})
	if err != nil {
		return nil, err
	}
	ip, config := text(m, "ipAddress"), strings.ToLower(text(m, "ipConfiguration", "id"))
	if (ip == "") == (config == "") {
		return nil, armErrorf(http.StatusBadRequest, "InvalidRequestFormat", "Exactly one of ipAddress and ipConfiguration must be given.")
	}
	mappings := []any{}
	for _, r := range s.ofType("Microsoft.Compute/virtualMachineScaleSets") {
		if !slices.Contains(poolsOf(r), strings.ToLower(d.id)) {
			continue
		}
		for _, mc := range s.machinesOf(r) {
			if mc.PrivateIP != ip && (config == "" || !strings.HasPrefix(config, strings.ToLower(s.interfaceID(r, mc))+"/")) {
				continue
			}
			for _, id := range sortedKeys(mc.NATPorts) {
				if _, rule, found := s.find(id); found && rule != nil {
					mappings = append(mappings, map[string]any{"inboundNatRuleName": text(rule, "name"), "protocol": text(rule, "properties", "protocol"), "frontendPort": mc.NATPorts[id], "backendPort": integer(rule, "properties", "backendPort")})
				}
			}
		}
	}
	o := s.begin(c, "")
	o.Result = map[string]any{"inboundNatRulePortMappings": mappings}
	s.done(o, nil)
	lb, _, _ := s.find(d.id)
	return s.accepted(c, o, http.StatusAccepted, nil, asyncStyle{provider: "Microsoft.Network", location: lb.Location, result: true}), nil
}
