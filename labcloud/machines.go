package labcloud

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Machines are processes. For each machine that is to run, a minder starts the
// process, starts it again when it ends by itself, probes its health, and
// kills it when the machine is stopped.

// A MachineSpec is what a machine's process needs to know. The process plays
// the part of the machine from boot: it reads the custom data.
type MachineSpec struct {
	Name       string // computer name
	InstanceID string // within the scale set
	ScaleSet   string // name
	VMID       string // GUID, what instance metadata calls vmId
	CustomData []byte // decoded
	// Dir is the machine's disk: kept across restarts, emptied by a reimage.
	Dir string
	// MetadataAddr is the loopback address, host and port, of the machine's
	// own instance metadata service, in place of 169.254.169.254.
	MetadataAddr string
	// Ports are the loopback addresses that the process must listen on in
	// place of the ports that the load balancer sends to.
	Ports map[int]string
	// Generation counts reimages.
	Generation int
}

// A MachineProcess is a running machine. Done is closed when it has ended.
type MachineProcess interface {
	PID() int
	Kill() error
	Done() <-chan struct{}
}

// A machine is one instance of a scale set.
type machine struct {
	ScaleSet         string // key of the resource
	InstanceID, Name string
	VMID             string
	Model            int
	Size             string
	Boot             []byte // custom data of its disk
	Generation       int
	Power            string // starting, running, stopping, stopped, deallocating, deallocated
	Provisioning     string // succeeded, creating, failed
	Want             bool   // a process should run
	PID              int
	PrivateIP        string
	NATPorts         map[string]int // by lower-case ID of the rule
	Ports            map[int]string // VM port to loopback address
	MetadataAddr     string
	Created          time.Time
}

// A minder looks after the process of one machine.
type minder struct {
	ctx    context.Context
	stop   context.CancelFunc
	ended  chan struct{} // closed when the process is gone and the minder too
	first  chan error    // outcome of the first start
	health string        // healthy, unhealthy or empty; guarded by s.world
	failed int           // probes in a row
	moved  chan struct{} // closed and replaced when health changes
}

// newMachine adds a machine to a scale set, with the next instance ID, an
// address and its NAT ports.
func (s *Server) newMachine(r *resource) *machine {
	m := &machine{ScaleSet: r.key(), InstanceID: strconv.Itoa(r.NextID), VMID: newGUID(), Model: r.Model, Size: text(r.Body, "sku", "name"), Boot: customData(r.Body),
		Power: "starting", Provisioning: "creating", NATPorts: map[string]int{}, Ports: map[int]string{}, Created: s.cfg.Now().UTC()}
	m.Name = text(profile(r.Body, "osProfile"), "computerNamePrefix") + fmt.Sprintf("%06s", strings.ToUpper(strconv.FormatInt(int64(r.NextID), 36)))
	r.NextID++
	used := map[string]bool{}
	for _, o := range s.machinesOf(r) {
		used[o.PrivateIP] = true
	}
	for i := 4; m.PrivateIP == "" || used[m.PrivateIP]; i++ {
		m.PrivateIP = s.subnetAddress(r, i)
	}
	s.st.Machines[m.VMID] = m
	s.assignNAT(r, m)
	s.dirty = true
	return m
}

// subnetAddress is the n-th address of the scale set's subnet.
func (s *Server) subnetAddress(r *resource, n int) string {
	prefix := "10.0.0.0/24"
	for _, c := range list(nics(r)[0], "properties", "ipConfigurations") {
		if _, subnet, found := s.find(text(c, "properties", "subnet", "id")); found && subnet != nil {
			for _, p := range append([]any{get(subnet, "properties", "addressPrefix")}, list(subnet, "properties", "addressPrefixes")...) {
				if p, isText := p.(string); isText && !strings.Contains(p, ":") {
					prefix = p
				}
			}
		}
	}
	ip, _, err := net.ParseCIDR(prefix)
	if err != nil || ip.To4() == nil {
		ip = net.IPv4(10, 0, 0, 0)
	}
	v := ip.To4()
	return net.IPv4(v[0], v[1], v[2], v[3]+byte(n)).String()
}

// start lets a machine run. What it returns waits, without s.world held, for
// the first start of the process.
func (s *Server) start(m *machine) func() error { return s.startWith(m, nil) }

func (s *Server) startWith(m *machine, adopted MachineProcess) func() error {
	s.dirty = true
	m.Want = true
	if s.minders[m.VMID] != nil {
		return func() error { return nil }
	}
	ctx, cancel := context.WithCancel(s.ctx)
	md := &minder{ctx: ctx, stop: cancel, ended: make(chan struct{}), first: make(chan error, 1), moved: make(chan struct{})}
	m.Power = "starting"
	spec, closeMetadata, err := s.prepare(m, adopted)
	if err != nil {
		cancel()
		m.Provisioning = "failed"
		return func() error { return err }
	}
	s.minders[m.VMID] = md
	s.spawn(func() {
		defer close(md.ended)
		defer closeMetadata()
		defer cancel()
		s.mind(md, m, spec, adopted)
	})
	if s.cfg.StartMachine != nil {
		s.spawn(func() { s.probe(md, m) })
	}
	return func() error {
		select {
		case err := <-md.first:
			return err
		case <-md.ended:
			return nil
		}
	}
}

// prepare makes directory, addresses and metadata service.
func (s *Server) prepare(m *machine, adopted MachineProcess) (MachineSpec, func(), error) {
	r := s.st.Resources[m.ScaleSet]
	if _, err := s.dir("machines", m.VMID); err != nil {
		return MachineSpec{}, nil, err
	}
	var err error
	for _, port := range s.backendPorts(r) {
		// The address of a machine that does not run may be somebody else's by
		// now.
		if m.Ports[port] == "" || adopted == nil && !isFree(m.Ports[port]) {
			if m.Ports[port], err = s.freeAddress(); err != nil {
				return MachineSpec{}, nil, err
			}
		}
	}
	ln, err := listenLoopback(m.MetadataAddr)
	if err != nil {
		return MachineSpec{}, nil, err
	}
	m.MetadataAddr = ln.Addr().String()
	srv := &http.Server{Handler: s.metadata(m.VMID), ReadHeaderTimeout: 10 * time.Second}
	s.spawn(func() { srv.Serve(ln) })
	return s.spec(m), func() { srv.Close() }, nil
}

// listenLoopback takes the address it is given, or a free one when there is
// none or it is gone.
func listenLoopback(addr string) (net.Listener, error) {
	if addr != "" {
		if ln, err := net.Listen("tcp", addr); err == nil {
			return ln, nil
		}
	}
	return net.Listen("tcp", "127.0.0.1:0")
}

// freeAddress finds a loopback address that nobody uses, below the ports that
// systems hand out to clients, so that none of those takes it before the
// machine listens.
func (s *Server) freeAddress() (string, error) {
	taken := map[string]bool{}
	for _, m := range s.st.Machines {
		for _, a := range m.Ports {
			taken[a] = true
		}
	}
	for range 1000 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(15000+rand.IntN(5000)))
		if taken[addr] {
			continue
		}
		if isFree(addr) {
			return addr, nil
		}
	}
	return "", labErrorf("no free loopback port for a machine")
}

func isFree(addr string) bool {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	ln.Close()
	return true
}

// mind runs the process of a machine until the minder is stopped.
func (s *Server) mind(md *minder, m *machine, spec MachineSpec, proc MachineProcess) {
	log := s.cfg.Log.With("machine", spec.Name, "instance", spec.InstanceID)
	running := func(pid int) {
		s.change(func() {
			s.dirty = true
			m.PID = pid
			if m.Want {
				m.Power, m.Provisioning = "running", "succeeded"
			}
		})
	}
	if s.cfg.StartMachine == nil {
		running(0)
		md.first <- nil
		<-md.ctx.Done()
		return
	}
	const shortest, longest = 100 * time.Millisecond, 5 * time.Second
	pause, first := shortest, true
	for md.ctx.Err() == nil {
		if proc == nil {
			var err error
			proc, err = s.cfg.StartMachine(spec)
			if err != nil {
				log.Warn("machine does not start", "err", err)
				s.change(func() { m.Provisioning = "failed"; s.dirty = true })
			}
			if first && err != nil {
				md.first <- err
				first = false
			}
			if err != nil {
				proc = nil
			}
		}
		if proc != nil {
			running(proc.PID())
			log.Info("machine runs", "pid", proc.PID())
			if first {
				md.first <- nil
				first = false
			}
			began := time.Now()
			select {
			case <-proc.Done():
				log.Warn("machine ended by itself")
				s.change(func() { m.PID = 0; s.dirty = true })
				if time.Since(began) > 2*longest {
					pause = shortest
				}
			case <-md.ctx.Done():
				if s.ctx.Err() != nil && s.cfg.LeaveMachines {
					return
				}
				if err := proc.Kill(); err != nil {
					log.Warn("machine not killed", "err", err)
				}
				<-proc.Done()
				s.change(func() { m.PID = 0; s.dirty = true })
				return
			}
			proc = nil
		}
		select {
		case <-time.After(pause):
			pause = min(pause*2, longest)
		case <-md.ctx.Done():
		}
	}
}

// stop ends a machine's process; what it returns waits for that, without
// s.world held.
func (s *Server) stop(m *machine) func() {
	s.dirty = true
	m.Want = false
	md := s.minders[m.VMID]
	if md == nil {
		return func() {}
	}
	delete(s.minders, m.VMID)
	md.stop()
	return func() { <-md.ended }
}

// dropMachine removes a machine for good.
func (s *Server) dropMachine(m *machine) func() {
	wait := s.stop(m)
	delete(s.st.Machines, m.VMID)
	s.syncFrontends()
	return func() {
		wait()
		if dir, err := s.machineDir(m); err == nil {
			os.RemoveAll(dir)
		}
	}
}

func (s *Server) machineDir(m *machine) (string, error) {
	s.world.Lock()
	defer s.world.Unlock()
	return s.dir("machines", m.VMID)
}

// wipe empties a machine's disk. The caller holds s.world and has stopped it.
func (s *Server) wipe(m *machine) {
	if dir, err := s.dir("machines", m.VMID); err == nil {
		os.RemoveAll(dir)
	}
}

// resume brings back what an earlier server left: machines, front ends,
// deployments.
func (s *Server) resume() {
	adopted := s.adopt()
	s.change(func() {
		s.dirty = true
		for _, id := range sortedKeys(s.st.Machines) {
			m := s.st.Machines[id]
			if !m.Want {
				m.Power = strings.NewReplacer("deallocating", "deallocated", "stopping", "stopped").Replace(m.Power)
				continue
			}
			s.startWith(m, adopted[id])
		}
		s.syncFrontends()
		for _, k := range sortedKeys(s.st.Deployments) {
			if d := s.st.Deployments[k]; !d.Done {
				s.resumeDeployment(d)
			}
		}
		for _, id := range sortedKeys(s.st.Operations) {
			o := s.st.Operations[id]
			if !o.Done && s.deploymentOf(o) == nil {
				s.done(o, nil) // its work is done by what was resumed
			}
		}
		for k, g := range s.st.Groups {
			if g.Deleting {
				delete(s.st.Groups, k)
			}
		}
	})
}

// adopt asks about each process that the state knows, by VM ID.
func (s *Server) adopt() map[string]MachineProcess {
	out := map[string]MachineProcess{}
	if s.cfg.AdoptMachine == nil {
		return out
	}
	specs := map[string]MachineSpec{}
	pids := map[string]int{}
	s.change(func() {
		for id, m := range s.st.Machines {
			if m.Want && m.PID > 0 {
				specs[id], pids[id] = s.spec(m), m.PID
			}
		}
	})
	for id, spec := range specs {
		if p, alive := s.cfg.AdoptMachine(pids[id], spec); alive {
			out[id] = p
		}
	}
	return out
}

// spec tells a machine's process about itself.
func (s *Server) spec(m *machine) MachineSpec {
	dir, err := s.dir("machines", m.VMID)
	if abs, e := filepath.Abs(dir); err == nil && e == nil {
		dir = abs
	}
	return MachineSpec{Name: m.Name, InstanceID: m.InstanceID, ScaleSet: s.st.Resources[m.ScaleSet].Name, VMID: m.VMID, CustomData: slices.Clone(m.Boot), Dir: dir, MetadataAddr: m.MetadataAddr, Ports: maps.Clone(m.Ports), Generation: m.Generation}
}

func (s *Server) deploymentOf(o *operation) *deployment {
	for _, d := range s.st.Deployments {
		if d.Operation == o.ID {
			return d
		}
	}
	return nil
}
