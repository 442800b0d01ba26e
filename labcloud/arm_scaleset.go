package labcloud

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Scale sets: what creating and changing one means for its machines.
// arm_scaleset_calls.go has the requests; machines.go runs the machines.
//
// The model has a number that grows when size or machine profile change. A
// machine boots the custom data that the model had when the machine was
// created or reimaged: an upgrade alone does not change its disk (azure.md 4).
// With upgrade mode Rolling or Automatic a new size reaches the machines by
// itself; new custom data waits for a reimage, whatever the mode.

var sizes = map[string]struct {
	family string
	cores  int
}{
	"standard_b2s":   {"standardBSFamily", 2},
	"standard_a2_v2": {"standardAv2Family", 2},
	"standard_a4_v2": {"standardAv2Family", 4},
}

// rolling is the state of the latest rolling upgrade.
type rolling struct {
	State          string // RollingForward, Completed, Cancelled, Faulted; empty: there was none
	Started, Ended time.Time
	Done, Failed   int
	Cancel         bool
}

func profile(body map[string]any, path ...string) any {
	return get(body, append([]string{"properties", "virtualMachineProfile"}, path...)...)
}

func customData(body map[string]any) []byte {
	b, _ := base64.StdEncoding.DecodeString(text(profile(body, "osProfile"), "customData"))
	return b
}

func upgradeMode(body map[string]any) string {
	return strings.ToLower(text(body, "properties", "upgradePolicy", "mode"))
}

func (s *Server) crossCheckScaleSet(d *definition) *armError {
	bad := func(target, format string, args ...any) *armError {
		e := armErrorf(http.StatusBadRequest, "InvalidParameter", format, args...)
		e.Target = target
		return e
	}
	b := d.body
	os := profile(b, "osProfile")
	user := strings.ToLower(text(os, "adminUsername"))
	linux := get(os, "linuxConfiguration")
	image := profile(b, "storageProfile", "imageReference")
	size := strings.ToLower(text(b, "sku", "name"))
	raw, err := base64.StdEncoding.DecodeString(text(os, "customData"))
	switch {
	case size == "" || get(b, "sku", "capacity") == nil:
		return bad("sku", "Required parameter 'sku.name' or 'sku.capacity' is missing (null).")
	case upgradeMode(b) == "":
		return bad("upgradePolicy", "Required parameter 'upgradePolicy' is missing (null).")
	case os == nil || user == "" || text(os, "computerNamePrefix") == "":
		return bad("osProfile", "Required parameter 'osProfile' with adminUsername and computerNamePrefix is missing (null).")
	case slices.Contains([]string{"admin", "administrator", "root", "guest", "user", "test", "console"}, user):
		return bad("adminUsername", "The Admin Username specified is not allowed.")
	case text(os, "adminPassword") == "" && (!truth(linux, "disablePasswordAuthentication") || len(list(linux, "ssh", "publicKeys")) == 0):
		return bad("linuxConfiguration", "Authentication using either SSH or by user name and password must be enabled in Linux profile.")
	case err != nil || len(raw) > 64<<10:
		return bad("customData", "Custom data in OSProfile must be in Base64 encoding and with a maximum length of 87380 characters.")
	case text(image, "publisher") == "" || text(image, "offer") == "" || text(image, "sku") == "" || text(image, "version") == "":
		return bad("imageReference", "Required parameter 'imageReference' is missing (null).")
	case strings.HasPrefix(size, "standard_a") && strings.Contains(strings.ToLower(text(image, "sku")), "gen2"):
		return armErrorf(http.StatusBadRequest, "BadRequest", "The selected VM size '%s' cannot boot Hypervisor Generation '2'.", text(b, "sku", "name"))
	case len(list(profile(b, "networkProfile"), "networkInterfaceConfigurations")) == 0:
		return bad("networkProfile", "Required parameter 'networkProfile' is missing (null).")
	case (upgradeMode(b) == "rolling" || truth(b, "properties", "automaticRepairsPolicy", "enabled")) && text(profile(b, "networkProfile"), "healthProbe", "id") == "" && !hasHealthExtension(b):
		return bad("upgradePolicy", "Rolling Upgrade mode and automatic repairs need a health probe or a health extension for scale set %s.", d.name)
	}
	if id := get(b, "identity"); id != nil && strings.Contains(text(id, "type"), "UserAssigned") && len(object(id, "userAssignedIdentities")) == 0 {
		return bad("identity", "The identity ids must not be null or empty for 'UserAssigned' identity type.")
	}
	r := s.st.Resources[strings.ToLower(d.id)]
	return s.checkQuota(d.sub, r, size, integer(b, "sku", "capacity"))
}

func hasHealthExtension(b map[string]any) bool {
	return slices.ContainsFunc(list(profile(b, "extensionProfile"), "extensions"), func(e any) bool {
		return strings.HasPrefix(text(e, "properties", "type"), "ApplicationHealth")
	})
}

// usage counts cores of a family, or of all with "cores", without those of
// one scale set. Deallocated machines count, as in Azure.
func (s *Server) usage(sub *Subscription, family string, without *resource) int {
	n := 0
	for _, r := range s.ofType("Microsoft.Compute/virtualMachineScaleSets") {
		size := sizes[strings.ToLower(text(r.Body, "sku", "name"))]
		if r != without && r.Subscription == sub.ID && (family == "cores" || size.family == family) {
			n += size.cores * len(s.machinesOf(r))
		}
	}
	return n
}

func (s *Server) limit(sub *Subscription, name string) int {
	for _, f := range s.st.Faults {
		if f.Kind == "quota" && strings.EqualFold(f.Name, name) {
			return f.Limit
		}
	}
	if n, found := sub.Limits[name]; found {
		return n
	}
	return 100
}

func (s *Server) checkQuota(sub *Subscription, r *resource, size string, capacity int) *armError {
	f := sizes[size]
	for _, name := range []string{"cores", f.family} {
		used, limit := s.usage(sub, name, r), s.limit(sub, name)
		if used+f.cores*capacity > limit {
			return armErrorf(http.StatusConflict, "QuotaExceeded", "Operation could not be completed as it results in exceeding approved %s Cores quota. Additional details - Deployment Model: Resource Manager, Current Limit: %d, Current Usage: %d, Additional Required: %d, (Minimum) New Limit Required: %d.", name, limit, used, f.cores*capacity, used+f.cores*capacity)
		}
	}
	return nil
}

// realizeScaleSet makes, removes or replaces machines to fit the body.
func (s *Server) realizeScaleSet(d *definition, r *resource, body map[string]any, created bool, work *func() *armError) *armError {
	if probe := text(profile(body, "networkProfile"), "healthProbe", "id"); probe != "" && !s.probeInUse(probe) {
		return armErrorf(http.StatusBadRequest, "CannotUseInactiveHealthProbe", "VM scale set %s cannot use probe %s as a health probe because load balancing rules that send traffic to this scale set do not use this probe.", d.id, probe)
	}
	for id := range object(body, "identity", "userAssignedIdentities") {
		i := s.st.Resources[strings.ToLower(id)]
		if i == nil {
			return armErrorf(http.StatusBadRequest, "FailedIdentityOperation", "The identity '%s' was not found.", id)
		}
		object(body, "identity", "userAssignedIdentities")[id] = map[string]any{"principalId": i.Extra["principalId"], "clientId": i.Extra["clientId"]}
	}
	newSize := false
	if created {
		r.Model = 1
		r.Extra = map[string]any{"uniqueId": newGUID(), "timeCreated": s.cfg.Now().UTC().Format(time.RFC3339Nano)}
	} else {
		newSize = !strings.EqualFold(text(r.Body, "sku", "name"), text(body, "sku", "name"))
		if newSize || !sameJSON(profile(r.Body), profile(body)) {
			r.Model++
		}
	}
	// What follows looks at the scale set as it will be.
	r.Body, r.Location = body, text(d.body, "location")
	s.st.Resources[r.key()] = r
	if created {
		s.st.Created++
		r.Order = s.st.Created
	}
	machines := s.machinesOf(r)
	capacity := integer(body, "sku", "capacity")
	if err := s.checkNATPorts(r, capacity); err != nil {
		set(object(body, "sku"), "capacity", len(machines))
		return err
	}
	var waits []func()
	var starts []func() error
	for len(machines) > capacity {
		last := machines[len(machines)-1]
		machines = machines[:len(machines)-1]
		waits = append(waits, s.dropMachine(last))
	}
	for len(machines) < capacity {
		m := s.newMachine(r)
		machines = append(machines, m)
		starts = append(starts, s.start(m))
	}
	roll := newSize && upgradeMode(body) != "manual"
	r.State = "Succeeded"
	*work = func() *armError {
		for _, w := range waits {
			w()
		}
		for _, started := range starts {
			if err := started(); err != nil {
				return armErrorf(http.StatusConflict, "OSProvisioningTimedOut", "OS Provisioning for a VM of scale set '%s' did not finish: %v", r.Name, err)
			}
		}
		if roll {
			s.roll(r)
		}
		return nil
	}
	return nil
}

func (s *Server) probeInUse(probe string) bool {
	lb, _, found := s.find(probe)
	if !found {
		return false
	}
	return slices.ContainsFunc(list(lb.Body, "properties", "loadBalancingRules"), func(rule any) bool {
		return strings.EqualFold(text(rule, "properties", "probe", "id"), probe)
	})
}

// lockOf returns the lock under which works on one scale set's machines take
// turns. It is taken before s.world.
func (s *Server) lockOf(r *resource) *sync.Mutex {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.setLocks[r.key()] == nil {
		s.setLocks[r.key()] = &sync.Mutex{}
	}
	return s.setLocks[r.key()]
}

// recycle stops a machine and starts it again; between, with s.world held,
// may change it.
func (s *Server) recycle(r *resource, m *machine, between func()) *armError {
	l := s.lockOf(r)
	l.Lock()
	defer l.Unlock()
	var stopped func()
	s.change(func() { m.Power, stopped = "stopping", s.stop(m) })
	stopped()
	var started func() error
	s.change(func() {
		s.dirty = true
		if s.st.Machines[m.VMID] == nil {
			return
		}
		between()
		started = s.start(m)
	})
	if started == nil {
		return nil
	}
	if err := started(); err != nil {
		return armErrorf(http.StatusConflict, "OSProvisioningTimedOut", "OS Provisioning for VM '%s' did not finish: %v", m.Name, err)
	}
	return nil
}

// upgrade brings a machine to the latest model; only a new size restarts it.
func (s *Server) upgrade(r *resource, m *machine) *armError {
	size, restart := "", false
	s.change(func() {
		s.dirty = true
		size = text(r.Body, "sku", "name")
		restart = m.Size != size
		if !restart {
			m.Model = r.Model
		}
	})
	if !restart {
		return nil
	}
	return s.recycle(r, m, func() { m.Size, m.Model = size, r.Model })
}

func (s *Server) reimage(r *resource, m *machine) *armError {
	return s.recycle(r, m, func() {
		m.Model, m.Size, m.Boot = r.Model, text(r.Body, "sku", "name"), customData(r.Body)
		m.Generation++
		s.wipe(m)
	})
}

// roll is a rolling upgrade of all machines, in batches, each of which must
// become healthy if there is a probe.
func (s *Server) roll(r *resource) {
	var machines []*machine
	batch := 1
	s.change(func() {
		r.Rolling = rolling{State: "RollingForward", Started: s.cfg.Now().UTC()}
		machines = s.machinesOf(r)
		percent := integer(r.Body, "properties", "upgradePolicy", "rollingUpgradePolicy", "maxBatchInstancePercent")
		if percent == 0 {
			percent = 20
		}
		batch = max(1, len(machines)*percent/100)
		s.dirty = true
	})
	for chunk := range slices.Chunk(machines, batch) {
		for _, m := range chunk {
			err := s.upgrade(r, m)
			s.change(func() {
				s.dirty = true
				r.Rolling.Done++
				if err != nil {
					r.Rolling.Failed++
				}
			})
		}
		stop := false
		s.change(func() { stop = r.Rolling.Cancel })
		if stop || s.ctx.Err() != nil {
			break
		}
		for _, m := range chunk {
			s.awaitHealth(m, 30*time.Second)
		}
	}
	s.change(func() {
		s.dirty = true
		r.Rolling.State, r.Rolling.Ended = "Completed", s.cfg.Now().UTC()
		switch {
		case r.Rolling.Cancel:
			r.Rolling.State = "Cancelled"
		case r.Rolling.Failed > 0:
			r.Rolling.State = "Faulted"
		}
	})
}

func (s *Server) showRolling(r *resource) map[string]any {
	pending := 0
	for _, m := range s.machinesOf(r) {
		if m.Model != r.Model {
			pending++
		}
	}
	status := map[string]any{"code": r.Rolling.State, "startTime": r.Rolling.Started.Format(time.RFC3339Nano), "lastAction": "Start"}
	if r.Rolling.Cancel {
		status["lastAction"] = "Cancel"
	}
	return map[string]any{"id": r.ID + "/rollingUpgrades/latest", "name": "latest", "type": r.Type + "/rollingUpgrades", "location": r.Location, "properties": map[string]any{
		"policy": get(r.Body, "properties", "upgradePolicy", "rollingUpgradePolicy"), "runningStatus": status,
		"progress": map[string]any{"successfulInstanceCount": r.Rolling.Done - r.Rolling.Failed, "failedInstanceCount": r.Rolling.Failed, "inProgressInstanceCount": 0, "pendingInstanceCount": pending}}}
}

func byInstance(a, b *machine) int {
	x, _ := strconv.Atoi(a.InstanceID)
	y, _ := strconv.Atoi(b.InstanceID)
	return x - y
}

// machinesOf lists a scale set's machines by instance ID.
func (s *Server) machinesOf(r *resource) []*machine {
	var out []*machine
	for _, m := range s.st.Machines {
		if m.ScaleSet == r.key() {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, byInstance)
	return out
}
