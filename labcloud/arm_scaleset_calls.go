package labcloud

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// The requests on scale sets and their machines.

type instanceList struct {
	InstanceIDs []string `json:"instanceIds"`
}

// scaleSetCall answers everything but GET, PUT and DELETE of the scale set
// itself. parts are the path from virtualMachineScaleSets on, in lower case.
func (s *Server) scaleSetCall(c *armCall, d *definition, parts []string) (*reply, *armError) {
	name, _, _ := strings.Cut(d.name, "/")
	id := resourceID("/subscriptions/"+c.sub.ID+"/resourceGroups/"+d.group.Name, "Microsoft.Compute/virtualMachineScaleSets", name)
	r := s.st.Resources[strings.ToLower(id)]
	if r == nil {
		return nil, armErrorf(http.StatusNotFound, "ResourceNotFound", "The Resource 'Microsoft.Compute/virtualMachineScaleSets/%s' under resource group '%s' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix", name, d.group.Name)
	}
	rest := parts[2:]
	switch {
	case len(rest) == 0: // PATCH
		return s.patchScaleSet(c, r)
	case len(rest) == 1 && rest[0] == "instanceview" && c.method == http.MethodGet:
		return ok(s.instanceView(r)), nil
	case len(rest) == 1 && c.method == http.MethodPost:
		return s.scaleSetAction(c, r, rest[0], nil)
	case len(rest) == 2 && rest[0] == "rollingupgrades" && rest[1] == "latest" && c.method == http.MethodGet:
		if r.Rolling.State == "" {
			return nil, armErrorf(http.StatusNotFound, "NotFound", "There is no rolling upgrade for scale set '%s'.", r.Name)
		}
		return ok(s.showRolling(r)), nil
	case len(rest) == 2 && rest[0] == "rollingupgrades" && rest[1] == "cancel" && c.method == http.MethodPost:
		if r.Rolling.State != "RollingForward" {
			return nil, armErrorf(http.StatusConflict, "OperationNotAllowed", "There is no rolling upgrade in progress for scale set '%s'.", r.Name)
		}
		r.Rolling.Cancel = true
		s.dirty = true
		return s.working(c, r, nil), nil
	case len(rest) >= 2 && rest[0] == "virtualmachines":
		return s.machineCall(c, r, rest)
	}
	return nil, armErrorf(http.StatusNotFound, "InvalidResourceType", "'%s' is not known on a scale set.", strings.Join(rest, "/"))
}

// working answers 202 for work on a scale set.
func (s *Server) working(c *armCall, r *resource, work func() *armError) *reply {
	o := s.begin(c, r.key())
	switch f := s.failFault(r.Type, c.method); {
	case f != nil:
		s.done(o, f)
	case work == nil:
		s.done(o, nil)
	default:
		s.background(o, work)
	}
	return s.accepted(c, o, http.StatusAccepted, nil, asyncStyle{provider: "Microsoft.Compute", location: r.Location, async: true, result: true})
}

func (s *Server) patchScaleSet(c *armCall, r *resource) (*reply, *armError) {
	m, err := s.read(c, "microsoft.compute/virtualmachinescalesets", scaleSetPatch{})
	if err != nil {
		return nil, err
	}
	body := clone(r.Body)
	if t := object(m, "tags"); t != nil {
		drop(body, "tags")
	}
	for id := range object(body, "identity", "userAssignedIdentities") {
		object(body, "identity", "userAssignedIdentities")[id] = map[string]any{}
	}
	merge(body, m)
	if get(m, "sku", "capacity") == nil {
		set(object(body, "sku"), "capacity", len(s.machinesOf(r)))
	}
	set(body, "location", r.Location)
	d := &definition{sub: c.sub, group: s.st.Groups[s.groupID(c.sub.ID, r.Group)], kind: strings.ToLower(r.Type), name: r.Name, id: r.ID, body: body}
	if err := s.check(d); err != nil {
		if err.Code == "QuotaExceeded" {
			err.Code = "OperationNotAllowed" // so the compute provider says by itself
		}
		return nil, err
	}
	_, created, work, err := s.apply(d)
	if err != nil {
		return nil, err
	}
	return s.finish(c, d, r, created, work), nil
}

// pick reads the body's instance IDs; none or "*" means all.
func (s *Server) pick(c *armCall, r *resource, action string) ([]*machine, *armError) {
	all := s.machinesOf(r)
	if len(c.body) == 0 {
		return all, nil
	}
	m, err := s.read(c, "microsoft.compute/virtualmachinescalesets/"+action, instanceList{})
	if err != nil {
		return nil, err
	}
	ids := list(m, "instanceIds")
	if len(ids) == 0 || slices.Contains(ids, any("*")) {
		return all, nil
	}
	var out []*machine
	for _, id := range ids {
		i := slices.IndexFunc(all, func(m *machine) bool { return m.InstanceID == id })
		if i < 0 {
			e := armErrorf(http.StatusBadRequest, "InvalidParameter", "The provided instanceId %v is not an active Virtual Machine Scale Set VM instanceId.", id)
			e.Target = "instanceIds"
			return nil, e
		}
		out = append(out, all[i])
	}
	return out, nil
}

// scaleSetAction does one of the POST actions, on one machine if given.
func (s *Server) scaleSetAction(c *armCall, r *resource, action string, one *machine) (*reply, *armError) {
	machines := []*machine{one}
	if one == nil {
		var err *armError
		if machines, err = s.pick(c, r, action); err != nil {
			return nil, err
		}
	}
	each := func(f func(m *machine) *armError) *reply {
		return s.working(c, r, func() *armError {
			var first *armError
			for _, m := range machines {
				if err := f(m); err != nil && first == nil {
					first = err
				}
			}
			return first
		})
	}
	switch action {
	case "deallocate", "poweroff":
		ends := map[string]string{"deallocate": "deallocated", "poweroff": "stopped"}[action]
		var waits []func()
		for _, m := range machines {
			m.Power = map[string]string{"deallocate": "deallocating", "poweroff": "stopping"}[action]
			waits = append(waits, s.stop(m))
		}
		return s.working(c, r, func() *armError {
			for _, w := range waits {
				w()
			}
			s.change(func() {
				for _, m := range machines {
					m.Power = ends
				}
				s.dirty = true
			})
			return nil
		}), nil
	case "start":
		var starts []func() error
		for _, m := range machines {
			starts = append(starts, s.start(m))
		}
		return s.working(c, r, func() *armError {
			for _, started := range starts {
				if err := started(); err != nil {
					return armErrorf(http.StatusConflict, "OSProvisioningTimedOut", "OS Provisioning did not finish: %v", err)
				}
			}
			return nil
		}), nil
	case "restart":
		return each(func(m *machine) *armError { return s.recycle(r, m, func() {}) }), nil
	case "reimage", "redeploy":
		if action == "redeploy" {
			return each(func(m *machine) *armError { return s.recycle(r, m, func() {}) }), nil
		}
		return each(func(m *machine) *armError { return s.reimage(r, m) }), nil
	case "manualupgrade":
		if len(c.body) == 0 {
			return nil, armErrorf(http.StatusBadRequest, "InvalidParameter", "Required parameter 'instanceIds' is missing (null).")
		}
		return each(func(m *machine) *armError { return s.upgrade(r, m) }), nil
	case "osrollingupgrade":
		return s.working(c, r, func() *armError { s.roll(r); return nil }), nil
	case "delete":
		var waits []func()
		for _, m := range machines {
			waits = append(waits, s.dropMachine(m))
		}
		set(object(r.Body, "sku"), "capacity", len(s.machinesOf(r)))
		s.syncFrontends()
		return s.working(c, r, func() *armError {
			for _, w := range waits {
				w()
			}
			return nil
		}), nil
	}
	return nil, armErrorf(http.StatusNotFound, "InvalidResourceType", "The action '%s' is not known on a scale set.", action)
}

func (s *Server) listOfScaleSet(c *armCall, kind, parent string) (*reply, *armError) {
	id := resourceID(s.groupID(c.sub.ID, c.seg[1]), "Microsoft.Compute/virtualMachineScaleSets", strings.Split(parent, "/")[0])
	r := s.st.Resources[strings.ToLower(id)]
	if r == nil {
		return nil, armErrorf(http.StatusNotFound, "ParentResourceNotFound", "The scale set '%s' was not found.", parent)
	}
	out := []any{}
	expand := strings.EqualFold(c.query.Get("$expand"), "instanceView")
	switch kind[strings.LastIndex(kind, "/")+1:] {
	case "virtualmachines":
		for _, m := range s.machinesOf(r) {
			out = append(out, s.showMachine(r, m, expand))
		}
	case "networkinterfaces":
		for _, m := range s.machinesOf(r) {
			out = append(out, s.showInterface(r, m))
		}
	}
	return ok(map[string]any{"value": out}), nil
}

// machineCall answers below .../virtualMachines/{id}.
func (s *Server) machineCall(c *armCall, r *resource, rest []string) (*reply, *armError) {
	all := s.machinesOf(r)
	i := slices.IndexFunc(all, func(m *machine) bool { return m.InstanceID == rest[1] })
	if i < 0 {
		if c.method == http.MethodDelete {
			return &reply{status: http.StatusNoContent}, nil
		}
		return nil, armErrorf(http.StatusNotFound, "InstanceIdNotFound", "The provided instanceId %s is not an active Virtual Machine Scale Set VM instanceId.", rest[1])
	}
	m := all[i]
	switch {
	case len(rest) == 2 && c.method == http.MethodGet:
		return ok(s.showMachine(r, m, strings.EqualFold(c.query.Get("$expand"), "instanceView"))), nil
	case len(rest) == 2 && c.method == http.MethodDelete:
		return s.scaleSetAction(c, r, "delete", m)
	case len(rest) == 3 && rest[2] == "instanceview" && c.method == http.MethodGet:
		return ok(s.machineView(r, m)), nil
	case len(rest) == 3 && rest[2] == "networkinterfaces" && c.method == http.MethodGet:
		return ok(map[string]any{"value": []any{s.showInterface(r, m)}}), nil
	case len(rest) == 3 && c.method == http.MethodPost:
		return s.scaleSetAction(c, r, rest[2], m)
	}
	return nil, methodNotAllowed(c)
}

func status(code string, at time.Time) map[string]any {
	_, word, _ := strings.Cut(code, "/")
	display := word
	if strings.HasPrefix(code, "PowerState/") {
		display = "VM " + word
	} else if word != "" {
		display = strings.ToUpper(word[:1]) + word[1:]
	}
	return map[string]any{"code": code, "level": "Info", "displayStatus": display, "time": at.UTC().Format(time.RFC3339Nano)}
}

func (s *Server) machineView(r *resource, m *machine) map[string]any {
	out := map[string]any{"computerName": m.Name, "osName": "debian", "osVersion": "12", "hyperVGeneration": "V1",
		"statuses": []any{status("ProvisioningState/"+m.Provisioning, m.Created), status("PowerState/"+m.Power, m.Created)}}
	if health := s.health(m); health != "" && text(profile(r.Body, "networkProfile"), "healthProbe", "id") != "" {
		out["vmHealth"] = map[string]any{"status": status("HealthState/"+health, s.cfg.Now())}
	}
	return out
}

func (s *Server) showMachine(r *resource, m *machine, view bool) map[string]any {
	p := map[string]any{"latestModelApplied": m.Model == r.Model, "vmId": m.VMID, "provisioningState": strings.ToUpper(m.Provisioning[:1]) + m.Provisioning[1:], "timeCreated": m.Created.Format(time.RFC3339Nano),
		"hardwareProfile": map[string]any{"vmSize": m.Size},
		"osProfile":       map[string]any{"computerName": m.Name, "adminUsername": text(profile(r.Body, "osProfile"), "adminUsername")},
		"networkProfile":  map[string]any{"networkInterfaces": []any{map[string]any{"id": s.interfaceID(r, m)}}}}
	if view {
		p["instanceView"] = s.machineView(r, m)
	}
	out := map[string]any{"id": r.ID + "/virtualMachines/" + m.InstanceID, "name": r.Name + "_" + m.InstanceID, "type": r.Type + "/virtualMachines", "location": r.Location, "instanceId": m.InstanceID,
		"sku": map[string]any{"name": m.Size, "tier": "Standard"}, "properties": p}
	if t := get(r.Body, "tags"); t != nil {
		out["tags"] = t
	}
	return out
}

func (s *Server) interfaceID(r *resource, m *machine) string {
	return r.ID + "/virtualMachines/" + m.InstanceID + "/networkInterfaces/" + text(nics(r)[0], "name")
}

func nics(r *resource) []any {
	return list(profile(r.Body, "networkProfile"), "networkInterfaceConfigurations")
}

func (s *Server) showInterface(r *resource, m *machine) map[string]any {
	id := s.interfaceID(r, m)
	ips := []any{}
	for _, c := range list(nics(r)[0], "properties", "ipConfigurations") {
		p := clone(object(c, "properties"))
		p["privateIPAddress"], p["privateIPAllocationMethod"], p["provisioningState"] = m.PrivateIP, "Dynamic", "Succeeded"
		if strings.EqualFold(text(p, "privateIPAddressVersion"), "IPv6") {
			p["privateIPAddress"] = "fd00::" + m.InstanceID
		}
		ips = append(ips, map[string]any{"name": text(c, "name"), "id": id + "/ipConfigurations/" + text(c, "name"), "properties": p})
	}
	return map[string]any{"name": text(nics(r)[0], "name"), "id": id, "properties": map[string]any{"provisioningState": "Succeeded", "primary": true, "virtualMachine": map[string]any{"id": r.ID + "/virtualMachines/" + m.InstanceID}, "ipConfigurations": ips}}
}

func (s *Server) instanceView(r *resource) map[string]any {
	counts := map[string]int{}
	for _, m := range s.machinesOf(r) {
		counts["ProvisioningState/"+m.Provisioning]++
		counts["PowerState/"+m.Power]++
		if h := s.health(m); h != "" {
			counts["HealthState/"+h]++
		}
	}
	summary := []any{}
	for _, code := range sortedKeys(counts) {
		summary = append(summary, map[string]any{"code": code, "count": counts[code]})
	}
	return map[string]any{"virtualMachine": map[string]any{"statusesSummary": summary}, "extensions": []any{}, "statuses": []any{status("ProvisioningState/succeeded", s.cfg.Now())}}
}
