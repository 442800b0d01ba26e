// Package labcloud stands in for Microsoft Entra ID on loopback: discovery,
// signing keys and access tokens of several tenants, with the claims that
// Entra writes (wire.md 2.3). It is an environment for labs and tests. It
// shares no code with what it tests, and it must never face a network.
//
// The URLs below the base are Entra's own:
//
//	/<tenant>/v2.0/.well-known/openid-configuration   discovery, version 2
//	/<tenant>/.well-known/openid-configuration        discovery, version 1
//	/<tenant>/discovery/v2.0/keys  /discovery/keys    JSON web key set
//	/<tenant>/oauth2/v2.0/token    /oauth2/token      tokens, client_credentials only
//	/lab/token  /lab/rotate  /lab/device              for the lab; see admin.go
//
// The OpenID Connect side is github.com/zitadel/oidc's server (oidc.go). A
// device signs in with its device ID and a secret where a real one uses its
// workplace-join certificate: that exchange belongs to Windows and is not
// rebuilt here.
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

// Config describes a [Server].
type Config struct {
	// BaseURL is what discovery documents and version 2 issuers start with,
	// without a slash at the end. Empty means https:// and the address that
	// Serve listens on.
	BaseURL string
	// Certificate is the server's own for TLS. Serve needs it; Handler does
	// not.
	Certificate tls.Certificate
	Tenants     []Tenant
	Apps        []App
	Devices     []Device
	// AdminSecret opens the /lab/ paths. Empty closes them.
	AdminSecret string
	// Lifetime of issued tokens; 0 means one hour.
	Lifetime time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log gets one record for each token; nil discards.
	Log *slog.Logger
}

// A Tenant is one directory.
type Tenant struct {
	ID   string // GUID, in lower case
	Name string
	// V1Issuer is the iss of version 1 tokens; empty means
	// https://sts.windows.net/<ID>/, as in Entra.
	V1Issuer string
}

// An App is an app registration that tokens can be asked for.
type App struct {
	Tenant      string // tenant ID
	ID          string // application (client) ID
	ResourceURI string // what clients ask tokens for, and their aud
	// TokenVersion is 1 (default) or 2, the resource's choice in Entra.
	TokenVersion int
	// Secret lets the app itself sign in; empty forbids that.
	Secret string
}

// A Device is a device registered in a tenant.
type Device struct {
	Tenant   string `json:"tenant"`
	ID       string `json:"id"`       // device ID, a GUID
	ObjectID string `json:"objectId"` // oid; empty means ID
	Secret   string `json:"secret"`
}

// A Server is a running stand-in. Its methods may be called by many goroutines
// at once.
type Server struct {
	cfg  Config
	keys keySet

	// mu guards what can change after New.
	mu      sync.RWMutex
	base    string
	devices map[string]Device // by lower-case tenant + "/" + ID

	tenants map[string]Tenant
	handler http.Handler
}

// New checks the configuration and makes a first signing key.
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
	s := &Server{cfg: c, base: strings.TrimSuffix(c.BaseURL, "/"), devices: map[string]Device{}, tenants: map[string]Tenant{}}
	if len(c.Tenants) == 0 {
		return nil, errors.New("lab cloud: at least one tenant is needed")
	}
	for _, t := range c.Tenants {
		t.ID = strings.ToLower(t.ID)
		if t.ID == "" || strings.ContainsAny(t.ID, "/?#% ") || t.ID == "lab" {
			return nil, fmt.Errorf("lab cloud: tenant ID %q: must be a GUID", t.ID)
		}
		if t.V1Issuer == "" {
			t.V1Issuer = "https://sts.windows.net/" + t.ID + "/"
		}
		if _, dup := s.tenants[t.ID]; dup {
			return nil, fmt.Errorf("lab cloud: tenant %s is configured twice", t.ID)
		}
		s.tenants[t.ID] = t
	}
	for _, a := range c.Apps {
		if _, ok := s.tenants[strings.ToLower(a.Tenant)]; !ok {
			return nil, fmt.Errorf("lab cloud: app %s: tenant %q is not configured", a.ID, a.Tenant)
		}
	}
	for _, d := range c.Devices {
		if err := s.AddDevice(d); err != nil {
			return nil, err
		}
	}
	if err := s.keys.rotate(); err != nil {
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

// BaseURL returns what the stand-in's URLs start with. It is empty until Serve
// when the configuration names none.
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
func (s *Server) RotateKey() error { return s.keys.rotate() }

// Handler returns the stand-in for a server of the caller's own; Config.BaseURL
// must be set for it.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve answers TLS connections on ln until ctx ends, then waits up to two
// seconds for requests in flight.
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
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
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
	if errors.Is(err, http.ErrServerClosed) && ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("lab cloud: serve: %w", err)
}

// routes maps Entra's URLs to one OpenID Connect server for each tenant and
// version.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for id := range s.tenants {
		v1, v2 := s.provider(id, 1), s.provider(id, 2)
		prefix := "/" + id
		for _, p := range []string{"/discovery/v2.0/keys", "/oauth2/v2.0/token"} {
			mux.Handle(prefix+p, http.StripPrefix(prefix, v2))
		}
		mux.Handle(prefix+"/v2.0/", http.StripPrefix(prefix+"/v2.0", v2))
		mux.Handle(prefix+"/", http.StripPrefix(prefix, v1))
	}
	mux.Handle("POST /lab/token", s.admin(s.adminToken))
	mux.Handle("POST /lab/rotate", s.admin(s.adminRotate))
	mux.Handle("POST /lab/device", s.admin(s.adminDevice))
	return http.MaxBytesHandler(mux, 64<<10)
}
