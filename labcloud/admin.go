package labcloud

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"time"
)

// The lab's own way in. All of it wants "Authorization: Bearer <AdminSecret>"
// and a caller on loopback.
//
//	POST   /lab/token    TokenOptions            {"access_token": "..."}
//	POST   /lab/rotate   empty                   {}
//	POST   /lab/device   Device                  {}
//	POST   /lab/approve  Approval                {}; completes a device code sign-in
//	POST   /lab/user     User                    {}
//	POST   /lab/group    Group                   {}
//	POST   /lab/expire   empty                   {}; delta links given so far are gone
//	GET    /lab/state                            State
//	POST   /lab/fault    Fault                   {"id": "..."}
//	GET    /lab/fault                            {"value": [Fault]}
//	DELETE /lab/fault?id=                        {}; without an ID all faults
//	POST   /lab/cut      empty                   {"cut": n}; resets relayed connections
//	POST   /lab/metric   Metric                  {}
func (s *Server) adminRoutes(mux *http.ServeMux) {
	mux.Handle("POST /lab/token", s.admin(s.adminToken))
	mux.Handle("POST /lab/rotate", s.admin(func(*http.Request) (any, error) { return struct{}{}, s.RotateKey() }))
	mux.Handle("POST /lab/device", s.admin(posted(s.AddDevice)))
	mux.Handle("POST /lab/approve", s.admin(posted(func(a Approval) error { return s.ApproveDeviceCode(a.UserCode, a.User, a.Deny) })))
	mux.Handle("POST /lab/user", s.admin(posted(s.PutUser)))
	mux.Handle("POST /lab/group", s.admin(posted(s.PutGroup)))
	mux.Handle("POST /lab/expire", s.admin(func(*http.Request) (any, error) { return struct{}{}, s.ExpireDeltaLinks() }))
	mux.Handle("GET /lab/state", s.admin(func(*http.Request) (any, error) { return s.State(), nil }))
	mux.Handle("POST /lab/fault", s.admin(s.adminFault))
	mux.Handle("GET /lab/fault", s.admin(func(*http.Request) (any, error) {
		s.world.Lock()
		defer s.world.Unlock()
		return map[string]any{"value": clone(s.st.Faults)}, nil
	}))
	mux.Handle("DELETE /lab/fault", s.admin(func(r *http.Request) (any, error) {
		return struct{}{}, s.ClearFault(r.URL.Query().Get("id"))
	}))
	mux.Handle("POST /lab/cut", s.admin(func(*http.Request) (any, error) { return map[string]int{"cut": s.Cut()}, nil }))
	mux.Handle("POST /lab/metric", s.admin(posted(func(m Metric) error { return s.AddMetric(m.Resource, m.Name, m.At, m.Value) })))
}

func (s *Server) admin(f func(r *http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		ip := net.ParseIP(host)
		if s.cfg.AdminSecret == "" || ip == nil || !ip.IsLoopback() {
			http.NotFound(w, r)
			return
		}
		given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || !same(given, s.cfg.AdminSecret) {
			http.Error(w, "the lab's admin secret is needed as bearer token", http.StatusUnauthorized)
			return
		}
		answer, err := f(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		json.NewEncoder(w).Encode(answer)
	})
}

// posted decodes a body for a call that answers nothing.
func posted[T any](f func(T) error) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		var v T
		if err := decode(r, &v); err != nil {
			return nil, err
		}
		return struct{}{}, f(v)
	}
}

func decode(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// A TokenAnswer is what POST /lab/token answers.
type TokenAnswer struct {
	AccessToken string `json:"access_token"`
}

// An Approval completes a sign-in by device code.
type Approval struct {
	UserCode string `json:"userCode"`
	User     string `json:"user"` // object ID or user principal name
	Deny     bool   `json:"deny,omitempty"`
}

// A Metric is an addition to a metric of a resource.
type Metric struct {
	Resource string    `json:"resource"` // ID
	Name     string    `json:"name"`
	At       time.Time `json:"at"`
	Value    float64   `json:"value"`
}

// State is what GET /lab/state answers.
type State struct {
	Machines  []MachineState  `json:"machines"`
	Frontends []FrontendState `json:"frontends"`
}

// A MachineState is a machine as it is now.
type MachineState struct {
	Name       string         `json:"name"`
	ScaleSet   string         `json:"scaleSet"` // resource ID, in lower case
	InstanceID string         `json:"instanceId"`
	VMID       string         `json:"vmId"`
	PID        int            `json:"pid"` // 0: no process
	Power      string         `json:"power"`
	Health     string         `json:"health,omitempty"`
	Generation int            `json:"generation"`
	Ports      map[int]string `json:"ports"` // VM port to loopback address
	Metadata   string         `json:"metadata"`
	// PublicPorts are the ports of the public IP that end at this machine.
	PublicPorts []int `json:"publicPorts"`
}

// A FrontendState is one public port and where it is on loopback.
type FrontendState struct {
	FQDN    string `json:"fqdn"`
	Port    int    `json:"port"`
	Address string `json:"address"`
	// Machine is the VM ID behind a NAT port; empty for a balanced one.
	Machine string `json:"machine,omitempty"`
}

// State returns the machines and the front ends.
func (s *Server) State() State {
	s.world.Lock()
	defer s.world.Unlock()
	out := State{Machines: []MachineState{}, Frontends: []FrontendState{}}
	for _, r := range s.ofType("Microsoft.Compute/virtualMachineScaleSets") {
		for _, m := range s.machinesOf(r) {
			e := MachineState{Name: m.Name, ScaleSet: m.ScaleSet, InstanceID: m.InstanceID, VMID: m.VMID, PID: m.PID, Power: m.Power, Health: s.health(m), Generation: m.Generation, Ports: map[int]string{}, Metadata: m.MetadataAddr, PublicPorts: []int{}}
			for p, a := range m.Ports {
				e.Ports[p] = a
			}
			for _, id := range sortedKeys(m.NATPorts) {
				e.PublicPorts = append(e.PublicPorts, m.NATPorts[id])
			}
			out.Machines = append(out.Machines, e)
		}
	}
	want := s.desired()
	for _, key := range sortedKeys(want) {
		if f := s.listeners[key]; f != nil {
			out.Frontends = append(out.Frontends, FrontendState{FQDN: want[key].FQDN, Port: want[key].Port, Address: f.addr, Machine: want[key].Machine})
		}
	}
	return out
}

// PutUser adds, changes or, with Removed, removes a user.
func (s *Server) PutUser(u User) error {
	s.world.Lock()
	defer s.world.Unlock()
	if err := s.putUser(u, u.Removed); err != nil {
		return err
	}
	return s.save()
}

// PutGroup adds, changes or, with Removed, removes a group.
func (s *Server) PutGroup(g Group) error {
	s.world.Lock()
	defer s.world.Unlock()
	if err := s.putGroup(g, g.Removed); err != nil {
		return err
	}
	return s.save()
}

// ExpireDeltaLinks makes the delta links given so far answer 410.
func (s *Server) ExpireDeltaLinks() error {
	s.world.Lock()
	defer s.world.Unlock()
	s.st.SeqFloor = s.nextSeq()
	return s.save()
}

func (s *Server) adminToken(r *http.Request) (any, error) {
	var o TokenOptions
	if err := decode(r, &o); err != nil {
		return nil, err
	}
	token, err := s.IssueToken(o)
	return TokenAnswer{AccessToken: token}, err
}

func (s *Server) adminFault(r *http.Request) (any, error) {
	var f Fault
	if err := decode(r, &f); err != nil {
		return nil, err
	}
	id, err := s.SetFault(f)
	return map[string]string{"id": id}, err
}
