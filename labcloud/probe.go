package labcloud

import (
	"net"
	"net/http"
	"time"
)

// Health: the load balancer's probe of each machine.

// health is the probe's word on a machine: healthy, unhealthy or nothing yet.
func (s *Server) health(m *machine) string {
	if md := s.minders[m.VMID]; md != nil {
		return md.health
	}
	return ""
}

// probe asks a machine for its health until the minder stops. Two failures in
// a row make it unhealthy, one success healthy.
func (s *Server) probe(md *minder, m *machine) {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	tick := time.NewTicker(s.cfg.ProbeInterval)
	defer tick.Stop()
	for {
		var addr, path string
		s.change(func() {
			r := s.st.Resources[m.ScaleSet]
			if r == nil || m.PID == 0 {
				return
			}
			for _, rule := range s.rulesOf(r, "loadBalancingRules") {
				if _, p, found := s.find(text(rule, "properties", "probe", "id")); found && p != nil {
					addr, path = m.Ports[integer(p, "properties", "port")], text(p, "properties", "requestPath")
				}
			}
		})
		good := false
		switch {
		case addr == "":
		case path == "":
			if c, err := (&net.Dialer{Timeout: time.Second}).DialContext(md.ctx, "tcp", addr); err == nil {
				c.Close()
				good = true
			}
		default:
			if req, err := http.NewRequestWithContext(md.ctx, http.MethodGet, "http://"+addr+path, nil); err == nil {
				if resp, err := client.Do(req); err == nil {
					resp.Body.Close()
					good = resp.StatusCode == http.StatusOK
				}
			}
		}
		s.change(func() {
			old := md.health
			switch {
			case good:
				md.health, md.failed = "healthy", 0
			case addr != "":
				if md.failed++; md.failed >= 2 {
					md.health = "unhealthy"
				}
			default:
				md.health, md.failed = "", 0
			}
			if md.health != old {
				close(md.moved)
				md.moved = make(chan struct{})
			}
		})
		select {
		case <-tick.C:
		case <-md.ctx.Done():
			return
		}
	}
}

// awaitHealth waits until a machine is healthy, or has no probe, or for at
// most d.
func (s *Server) awaitHealth(m *machine, d time.Duration) {
	limit := time.NewTimer(d)
	defer limit.Stop()
	for {
		var moved chan struct{}
		s.change(func() {
			if md := s.minders[m.VMID]; md != nil && md.health != "healthy" && s.cfg.StartMachine != nil {
				moved = md.moved
			}
		})
		if moved == nil {
			return
		}
		select {
		case <-moved:
		case <-limit.C:
			return
		case <-s.ctx.Done():
			return
		}
	}
}
