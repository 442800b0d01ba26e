// Package labcloud stands in on loopback for the parts of Azure and Microsoft
// Entra ID that a gateway's deployment needs: tokens, Graph, Resource Manager,
// Key Vault, blob storage, instance metadata, a load balancer, and scale sets
// whose machines are real processes. It is an environment for labs and tests.
// It shares no code with what it tests, and it must never face a network.
//
// All services answer on one TLS listener and are told apart by the Host
// header ([Hosts]); a host that is none of them, such as a loopback address,
// gets Entra and the lab's own paths. The files, by service:
//
//	entra*.go, token.go                    discovery, keys, sign-in, tokens
//	graph*.go                              applications, principals, consent, delta queries
//	arm*.go                                Resource Manager: groups, checks, deployments, resources
//	vault.go, blob*.go                     the data planes of Key Vault and blob storage
//	machines.go, metadata.go, balance.go   processes, what they read at boot, what reaches them
//	state.go, fault.go, admin.go           what survives, what can be broken, the lab's own way in
//
// It is strict where Azure is: unknown or misplaced properties, wrong types and
// names out of rule are refused in Azure's error shape, an api-version is
// needed and must be known, tokens are checked with their audience, and a long
// operation takes at least two polls. What it does not know it refuses.
package labcloud

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Config describes a [Server]. Tenants are needed; without Subscriptions there
// is no Resource Manager to speak of, only Entra and Graph.
type Config struct {
	// BaseURL is what discovery documents and version 2 issuers start with,
	// without a slash at the end. Empty means https:// and Hosts.Login, or, if
	// Hosts is empty too, the address that Serve listens on.
	BaseURL string
	// Hosts are the host names of the services. Empty means LabHosts, but with
	// Entra at BaseURL or the listener's address and with the public cloud's
	// version 1 issuer.
	Hosts Hosts
	// Certificate is the server's own for TLS, for all of Hosts. Serve needs
	// it; Handler does not.
	Certificate   tls.Certificate
	Tenants       []Tenant
	Subscriptions []Subscription
	Apps          []App
	Devices       []Device
	Users         []User
	Groups        []Group
	// Regions that the subscriptions offer; empty means a built-in list.
	Regions []Region
	// AdminSecret opens the /lab/ paths. Empty closes them.
	AdminSecret string
	// Lifetime of issued tokens; 0 means one hour.
	Lifetime time.Duration
	// RetryAfter is what long operations ask clients to wait between polls; 0
	// means 10 ms. Below a second it goes out as x-ms-retry-after-ms.
	RetryAfter time.Duration
	// MinPolls is the poll with which a long operation ends at the earliest; 2
	// if less.
	MinPolls int
	// PageSize is how many subscriptions or resource groups one answer holds; 0
	// means 1000.
	PageSize int
	// StateDir keeps state, blobs and the machines' directories across
	// restarts. Empty means a temporary directory that goes with the server.
	StateDir string
	// StartMachine starts the process that is a virtual machine; nil makes
	// machines of paper. It is called off the request path and may block.
	StartMachine func(MachineSpec) (MachineProcess, error)
	// AdoptMachine takes over a process that an earlier server with the same
	// StateDir started, or reports that it is not alive. nil takes none for
	// alive: then nothing ends processes that were left.
	AdoptMachine func(pid int, spec MachineSpec) (MachineProcess, bool)
	// LeaveMachines lets machines run on when the server ends, to be adopted
	// by the next one. Otherwise they are killed.
	LeaveMachines bool
	// Frontends fixes the loopback address at which a public port of the first
	// public IP address is reached, by port. Other ports get free addresses.
	Frontends map[int]string
	// ProbeInterval is the load balancer's; 0 means 250 ms.
	ProbeInterval time.Duration
	// Observe, if set, gets every body that Graph and Resource Manager receive,
	// as sent, before it is decoded. The kind is "template" for a template,
	// "graph." and a word such as createApplication, or "arm." and the resource
	// type or action in lower case. It may be called by several goroutines.
	Observe func(kind string, body []byte)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log gets one record for each request and each token; nil discards.
	Log *slog.Logger
}

// A Tenant is one directory.
type Tenant struct {
	ID   string // GUID, in lower case
	Name string
	// Domain is the initial domain; empty means lab.example.
	Domain string
	// V1Issuer is the iss of version 1 tokens; empty means Hosts.STS and the
	// ID.
	V1Issuer string
}

// A Subscription is one Azure subscription.
type Subscription struct {
	ID     string // GUID
	Tenant string // tenant ID
	Name   string
	// Owners are the object IDs or application IDs that own it; everyone else
	// needs a role assignment. Empty lets everybody do everything.
	Owners []string
	// Limits are quotas by usage name, such as cores or standardAv2Family;
	// those not named are 100.
	Limits map[string]int
	// Unregistered are resource providers not yet registered.
	Unregistered []string
}

// A Server is a running stand-in. Its methods may be called by many goroutines
// at once.
type Server struct {
	cfg   Config
	hosts Hosts
	keys  keySet

	// mu guards what can change after New and is not in the state. It may be
	// taken while world is held, never the other way round.
	mu      sync.RWMutex
	base    string
	devices map[string]Device // by lower-case tenant + "/" + ID
	// setLocks let works on one scale set's machines take turns; by its key.
	// They are taken before world and held while machines start and stop.
	setLocks map[string]*sync.Mutex
	closed   bool

	// world guards the state below and everything reached from it. No call
	// out of the process is made while it is held.
	world     sync.Mutex
	st        *state
	dirty     bool
	dirName   string
	minders   map[string]*minder   // by machine ID (VMID)
	listeners map[string]*frontend // by frontend key

	// ctx ends when the server closes; wg counts everything it started.
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	tenants map[string]Tenant
	handler http.Handler
}

// New checks the configuration and reads the state, or makes a first signing
// key. Machines of an earlier server are adopted by Serve.
func New(c Config) (*Server, error) {
	if c.Lifetime <= 0 {
		c.Lifetime = time.Hour
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.RetryAfter <= 0 {
		c.RetryAfter = 10 * time.Millisecond
	}
	if c.ProbeInterval <= 0 {
		c.ProbeInterval = 250 * time.Millisecond
	}
	c.MinPolls = max(c.MinPolls, 2)
	if len(c.Regions) == 0 {
		c.Regions = regions()
	}
	s := &Server{cfg: c, hosts: c.Hosts, base: strings.TrimSuffix(c.BaseURL, "/"), devices: map[string]Device{}, tenants: map[string]Tenant{},
		setLocks: map[string]*sync.Mutex{}, minders: map[string]*minder{}, listeners: map[string]*frontend{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	sts := "https://sts.windows.net"
	if s.hosts.Login == "" {
		s.hosts = LabHosts()
	} else {
		h := s.hosts
		if h.STS == "" || h.ARM == "" || h.Graph == "" || h.Vault == "" || h.Blob == "" || h.CloudApp == "" || len(h.ARMAudiences) == 0 || h.VaultAudience == "" {
			return nil, errors.New("lab cloud: hosts: all names must be set, or none")
		}
		sts = "https://" + s.hosts.STS
		if s.base == "" {
			s.base = "https://" + s.hosts.Login
		}
	}
	if len(c.Tenants) == 0 {
		return nil, errors.New("lab cloud: at least one tenant is needed")
	}
	for _, t := range c.Tenants {
		t.ID = strings.ToLower(t.ID)
		if t.ID == "" || strings.ContainsAny(t.ID, "/?#% ") || t.ID == "lab" {
			return nil, fmt.Errorf("lab cloud: tenant ID %q: must be a GUID", t.ID)
		}
		if t.V1Issuer == "" {
			t.V1Issuer = sts + "/" + t.ID + "/"
		}
		if t.Domain == "" {
			t.Domain = "lab.example"
		}
		if _, dup := s.tenants[t.ID]; dup {
			return nil, fmt.Errorf("lab cloud: tenant %s is configured twice", t.ID)
		}
		s.tenants[t.ID] = t
	}
	for _, sub := range c.Subscriptions {
		if _, ok := s.tenants[strings.ToLower(sub.Tenant)]; !ok || !isGUID(sub.ID) {
			return nil, fmt.Errorf("lab cloud: subscription %q: must be a GUID, and its tenant %q must be configured", sub.ID, sub.Tenant)
		}
	}
	for _, d := range c.Devices {
		if err := s.AddDevice(d); err != nil {
			return nil, err
		}
	}
	if err := s.load(); err != nil {
		return nil, err
	}
	if err := s.seed(); err != nil {
		return nil, err
	}
	s.handler = s.routes()
	return s, nil
}

// AddDevice registers a device, or replaces it.
func (s *Server) AddDevice(d Device) error {
	if _, ok := s.tenants[strings.ToLower(d.Tenant)]; !ok {
		return fmt.Errorf("lab cloud: device %s: tenant %q is not configured", d.ID, d.Tenant)
	}
	if d.ID == "" || d.Secret == "" {
		return fmt.Errorf("lab cloud: device %q: ID and secret must be set", d.ID)
	}
	if d.ObjectID == "" {
		d.ObjectID = d.ID
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.devices[strings.ToLower(d.Tenant+"/"+d.ID)] = d
	return nil
}

// BaseURL returns what Entra's URLs start with. It is empty until Serve when
// the configuration names neither it nor Hosts.
func (s *Server) BaseURL() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.base
}

// Authority returns the base of version 2 discovery for a tenant, which is
// also its version 2 issuer.
func (s *Server) Authority(tenant string) string {
	return s.BaseURL() + "/" + strings.ToLower(tenant) + "/v2.0"
}

// Issuers returns the iss values of a tenant's tokens, version 1 first.
func (s *Server) Issuers(tenant string) []string {
	return []string{s.issuer(tenant, 1), s.issuer(tenant, 2)}
}

// RotateKey signs with a new key from now on. The key before it stays
// published for the tokens it signed; older ones are dropped.
func (s *Server) RotateKey() error {
	if err := s.keys.rotate(); err != nil {
		return err
	}
	s.world.Lock()
	defer s.world.Unlock()
	return s.save()
}

// Handler returns the stand-in for a server of the caller's own, who must call
// Close at the end; Config.BaseURL or Hosts must be set for it. Machines of an
// earlier server are not adopted that way.
func (s *Server) Handler() http.Handler { return s.handler }

// Close stops machines (unless Config.LeaveMachines), front ends and work in
// progress and waits for them. Serve calls it.
func (s *Server) Close() error {
	s.cancel()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.closeFrontends()
	s.wg.Wait()
	return s.closeState()
}

// Serve adopts or restarts the machines of an earlier server, continues its
// deployments, and answers TLS connections on ln until ctx ends; then it waits
// up to two seconds for requests in flight and closes the server.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	s.mu.Lock()
	if s.base == "" {
		s.base = "https://" + ln.Addr().String()
	}
	s.mu.Unlock()
	srv := &http.Server{
		Handler:           s.handler,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{s.cfg.Certificate}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       5 * time.Minute,
		WriteTimeout:      5 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	s.resume()
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if srv.Shutdown(drain) != nil {
			srv.Close()
		}
	})
	err := srv.ServeTLS(ln, "", "")
	if !stop() {
		<-stopped
	}
	closeErr := s.Close()
	if errors.Is(err, http.ErrServerClosed) && ctx.Err() != nil {
		return closeErr
	}
	return fmt.Errorf("lab cloud: serve: %w", err)
}

// spawn runs f as work of the server, which waits for it when it closes. f must
// end soon after s.ctx does. What a last request starts while the server
// closes is not waited for.
func (s *Server) spawn(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		go f()
		return
	}
	s.wg.Go(f)
}
