package labcloud

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The load balancer. Each public port that a rule gives is a listener on
// loopback whose connections are relayed: those of a balancing rule to a
// healthy machine of the pool, those of a NAT rule's range to the one machine
// that has the port. Health comes from the rule's probe.

// A frontend is one public port.
type frontend struct {
	key  string // lower-case ID of the public IP, "|", port
	addr string
	ln   net.Listener

	mu    sync.Mutex
	conns map[net.Conn]bool
}

// A frontendInfo is what the state of a front end is told as.
type frontendInfo struct {
	FQDN    string `json:"fqdn"`
	Port    int    `json:"port"`
	Address string `json:"address"`
	// Machine is the VM ID behind a NAT port; empty for a balanced one.
	Machine string `json:"machine,omitempty"`
	ip      *resource
	rule    map[string]any // of balancing
	pool    string
}

// desired lists the public ports that should be open, by key.
func (s *Server) desired() map[string]*frontendInfo {
	out := map[string]*frontendInfo{}
	add := func(lb *resource, rule any, port int) *frontendInfo {
		_, part, found := s.find(text(rule, "properties", "frontendIPConfiguration", "id"))
		if !found || part == nil {
			return nil
		}
		ip := s.st.Resources[strings.ToLower(text(part, "properties", "publicIPAddress", "id"))]
		if ip == nil {
			return nil
		}
		f := &frontendInfo{FQDN: text(ip.Body, "properties", "dnsSettings", "fqdn"), Port: port, ip: ip, pool: strings.ToLower(text(rule, "properties", "backendAddressPool", "id"))}
		out[ip.key()+"|"+strconv.Itoa(port)] = f
		return f
	}
	for _, lb := range s.ofType("Microsoft.Network/loadBalancers") {
		for _, rule := range list(lb.Body, "properties", "loadBalancingRules") {
			f := add(lb, rule, integer(rule, "properties", "frontendPort"))
			if f != nil {
				f.rule = object(rule)
				if pools := list(rule, "properties", "backendAddressPools"); f.pool == "" && len(pools) > 0 {
					f.pool = strings.ToLower(text(pools[0], "id"))
				}
			}
		}
		for _, rule := range list(lb.Body, "properties", "inboundNatRules") {
			for _, m := range s.st.Machines {
				if port := m.NATPorts[strings.ToLower(text(rule, "id"))]; port != 0 {
					if f := add(lb, rule, port); f != nil {
						f.Machine = m.VMID
					}
				}
			}
		}
	}
	return out
}

// syncFrontends opens and closes listeners until they are those desired. An
// address is kept in the state, so that it is the same after a restart. The
// caller holds s.world.
func (s *Server) syncFrontends() {
	if s.ctx.Err() != nil {
		return
	}
	want := s.desired()
	for key, f := range s.listeners {
		if want[key] == nil {
			f.close()
			delete(s.listeners, key)
			delete(s.st.Frontends, key)
			s.dirty = true
		}
	}
	first := (*resource)(nil)
	for _, f := range want {
		if first == nil || f.ip.Order < first.Order {
			first = f.ip
		}
	}
	for _, key := range sortedKeys(want) {
		if s.listeners[key] != nil {
			continue
		}
		var ln net.Listener
		var err error
		if fixed := s.cfg.Frontends[want[key].Port]; fixed != "" && want[key].ip == first {
			ln, err = net.Listen("tcp", fixed)
		} else {
			ln, err = listenLoopback(s.st.Frontends[key])
		}
		if err != nil {
			s.cfg.Log.Error("front end not opened", "port", want[key].Port, "err", err)
			continue
		}
		f := &frontend{key: key, addr: ln.Addr().String(), ln: ln, conns: map[net.Conn]bool{}}
		s.listeners[key], s.st.Frontends[key] = f, f.addr
		s.dirty = true
		s.spawn(func() { s.relay(f) })
	}
}

func (s *Server) closeFrontends() {
	s.world.Lock()
	defer s.world.Unlock()
	for _, f := range s.listeners {
		f.close()
	}
}

func (f *frontend) close() {
	f.ln.Close()
	f.cut()
}

// cut resets all its connections and returns how many.
func (f *frontend) cut() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.conns)
	for c := range f.conns {
		if t, isTCP := c.(*net.TCPConn); isTCP {
			t.SetLinger(0)
		}
		c.Close()
	}
	f.conns = map[net.Conn]bool{}
	return n
}

// Cut resets all relayed connections, and returns how many ends there were.
func (s *Server) Cut() int {
	s.world.Lock()
	defer s.world.Unlock()
	n := 0
	for _, f := range s.listeners {
		n += f.cut()
	}
	return n
}

func (f *frontend) add(c net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns[c] = true
}

func (f *frontend) remove(c net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, c)
	c.Close()
}

func (s *Server) relay(f *frontend) {
	for {
		c, err := f.ln.Accept()
		if err != nil {
			return
		}
		f.add(c)
		s.spawn(func() { s.relayOne(f, c) })
	}
}

// relayOne connects one client to the first machine that answers.
func (s *Server) relayOne(f *frontend, client net.Conn) {
	defer f.remove(client)
	targets, set := s.targets(f.key)
	var backend net.Conn
	for _, addr := range targets {
		ctx, cancel := context.WithTimeout(s.ctx, 2*time.Second)
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		cancel()
		if err == nil {
			backend = c
			break
		}
	}
	if backend == nil {
		if t, isTCP := client.(*net.TCPConn); isTCP {
			t.SetLinger(0) // a reset, as from a balancer without backends
		}
		return
	}
	f.add(backend)
	defer f.remove(backend)
	stop := context.AfterFunc(s.ctx, func() { client.Close(); backend.Close() })
	defer stop()
	up := make(chan struct{})
	s.spawn(func() {
		defer close(up)
		io.Copy(backend, client)
		closeWrite(backend)
	})
	n, _ := io.Copy(client, backend)
	closeWrite(client)
	s.change(func() { s.count(set, "Network Out Total", float64(n)) })
	<-up
}

func closeWrite(c net.Conn) {
	if t, isTCP := c.(*net.TCPConn); isTCP {
		t.CloseWrite()
	}
}

// targets are the loopback addresses to try for a front end, in order, and
// the scale set that they belong to.
func (s *Server) targets(key string) ([]string, string) {
	s.world.Lock()
	defer s.world.Unlock()
	f := s.desired()[key]
	if f == nil {
		return nil, ""
	}
	if f.Machine != "" {
		m := s.st.Machines[f.Machine]
		return []string{m.Ports[s.natBackendPort(m, f.Port)]}, m.ScaleSet
	}
	port := integer(f.rule, "properties", "backendPort")
	if port == 0 {
		port = f.Port
	}
	probed := text(f.rule, "properties", "probe", "id") != ""
	var out []string
	set := ""
	for _, r := range s.ofType("Microsoft.Compute/virtualMachineScaleSets") {
		if !slices.Contains(poolsOf(r), f.pool) {
			continue
		}
		for _, m := range s.machinesOf(r) {
			if m.Power == "running" && m.PID != 0 && (!probed || s.health(m) == "healthy") {
				out, set = append(out, m.Ports[port]), r.key()
			}
		}
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out, set
}
