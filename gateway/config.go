package gateway

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/tunnel"
)

// configurationFile is the last published configuration in Config.StateDir, as
// it was signed.
const configurationFile = "published-configuration.jws"

// A snapshot is one published configuration, ready to use. It never changes; a
// request uses the one that was in force when its head was complete.
type snapshot struct {
	cfg          *opencmg.PublishedConfiguration // nil before the first one
	match        *matcher
	certificates *pki.ClientVerifier
	tokens       *pki.TokenVerifier
	tls          *tls.Config
	limits       limits
	points       map[string]*opencmg.RegisteredConnectionPoint // by connection ID
	tenants      map[string]*opencmg.Tenant                    // enabled ones, by ID in lower case
	blocked      map[string]bool                               // token IDs and certificate thumbprints
	challenges   challenges
}

// limits are opencmg.Limits with defaults; times are in milliseconds.
type limits struct {
	headerBytes                  int
	header, idle, body, response int64
	connections, requests        int64
}

func newLimits(l opencmg.Limits) limits {
	or := func(v, def int) int64 {
		if v <= 0 {
			v = def
		}
		return int64(v)
	}
	return limits{
		headerBytes: int(min(or(l.MaxHeaderBytes, 32<<10), tunnel.MaxHead-4<<10)),
		header:      or(l.HeaderTimeout, 15) * 1000,
		idle:        or(l.IdleTimeout, 120) * 1000,
		body:        or(l.BodyTimeout, 60) * 1000,
		response:    or(l.ResponseTimeout, 100) * 1000,
		connections: or(l.MaxConnections, 200_000),
		requests:    or(l.MaxRequests, 100_000),
	}
}

// emptySnapshot serves until a configuration arrives.
func (s *Server) emptySnapshot() *snapshot {
	return &snapshot{limits: newLimits(opencmg.Limits{}), tls: s.clientTLS(tls.VersionTLS12)}
}

func (s *Server) newSnapshot(cfg *opencmg.PublishedConfiguration) (*snapshot, error) {
	n := &snapshot{
		cfg: cfg, limits: newLimits(cfg.Limits),
		points:  map[string]*opencmg.RegisteredConnectionPoint{},
		tenants: map[string]*opencmg.Tenant{},
		blocked: map[string]bool{},
	}
	var err error
	if n.certificates, err = pki.NewClientVerifier(cfg.Certificates, s.crl, s.log); err != nil {
		return nil, fmt.Errorf("client certificate settings: %w", err)
	}
	if n.tokens, err = pki.NewTokenVerifier(cfg, s.jwks, s.log); err != nil {
		return nil, fmt.Errorf("token issuers: %w", err)
	}
	if n.challenges, err = newChallenges(cfg.Challenges, time.Now()); err != nil {
		return nil, fmt.Errorf("challenges: %w", err)
	}
	n.match = newMatcher(cfg, n.limits.response, &s.traffic)
	minVersion := uint16(tls.VersionTLS12)
	if cfg.TLS.MinVersion == "1.3" {
		minVersion = tls.VersionTLS13
	}
	n.tls = s.clientTLS(minVersion)
	for i := range cfg.ConnectionPoints {
		n.points[cfg.ConnectionPoints[i].ConnectionID] = &cfg.ConnectionPoints[i]
	}
	for i := range cfg.Tenants {
		if t := &cfg.Tenants[i]; !t.Disabled {
			n.tenants[strings.ToLower(t.ID)] = t
		}
	}
	for _, list := range [][]string{cfg.BlockedTokens, cfg.Certificates.Blocked} {
		for _, id := range list {
			n.blocked[id] = true
		}
	}
	return n, nil
}

// apply verifies a signed published configuration and puts it in force: for
// the next request on every connection, for tunnels, and for held requests of
// callers that it blocks. It returns the version then in force.
func (s *Server) apply(jws []byte) (uint64, error) {
	s.applying.Lock()
	defer s.applying.Unlock()
	old := s.snap.Load()
	version := old.version()
	n, err := s.check(jws)
	if err != nil {
		return version, err
	}
	switch {
	case n.Version == version:
		return version, nil // another connection point was faster
	case n.Version < version:
		return version, opencmg.Errorf(opencmg.Conflict, "published configuration %d is older than %d, which is in force", n.Version, version)
	}
	next, err := s.newSnapshot(n)
	if err != nil {
		return version, opencmg.Errorf(opencmg.Invalid, "published configuration %d can not be used: %w", n.Version, err)
	}
	if s.cfg.StateDir != "" {
		if err := pki.WriteFile(filepath.Join(s.cfg.StateDir, configurationFile), jws, 0o600); err != nil {
			// It serves all the same: being behind after a restart is better
			// than not blocking now.
			s.log.Error("published configuration is not kept", "component", componentService, "version", n.Version, "err", err)
		}
	}
	s.use(next)
	s.log.Info("published configuration in force", "component", componentService, "version", n.Version, "before", version,
		"roles", len(n.Roles), "connection_points", len(n.ConnectionPoints))
	return n.Version, nil
}

func (n *snapshot) version() uint64 {
	if n.cfg == nil {
		return 0
	}
	return n.cfg.Version
}

func (s *Server) check(jws []byte) (*opencmg.PublishedConfiguration, error) {
	n, err := pki.VerifyConfiguration(jws, s.cfg.SiteCA, s.cfg.Site, time.Now())
	if err != nil {
		return nil, err
	}
	if n.Gateway != s.cfg.Gateway {
		return nil, opencmg.Errorf(opencmg.Forbidden, "published configuration %d is for gateway %q, this one is %q", n.Version, n.Gateway, s.cfg.Gateway)
	}
	return n, nil
}

// use puts a snapshot in force.
func (s *Server) use(n *snapshot) {
	s.snap.Store(n)
	s.metrics.configVersion.Set(float64(n.version()))
	s.followDrain(n)
	s.roster.registered(n)
	if len(n.blocked) > 0 {
		s.interruptAll(causeBlocked, func(w *watch, p phase) bool {
			if p == phaseIdle || p == phaseHandshake {
				return false
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.caller != nil && n.blocks(w.caller)
		})
	}
	if s.cfg.OnConfiguration != nil {
		s.cfg.OnConfiguration(n.cfg)
	}
}

func (n *snapshot) blocks(c *caller) bool {
	return n.blocked[c.identity.TokenID] || n.blocked[c.identity.Thumbprint]
}

// load takes the configuration of the last run. A damaged or foreign file is
// reported and left alone; the next delivery replaces it.
func (s *Server) load() {
	if s.cfg.StateDir == "" {
		return
	}
	path := filepath.Join(s.cfg.StateDir, configurationFile)
	jws, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var next *snapshot
	if err == nil {
		var n *opencmg.PublishedConfiguration
		if n, err = s.check(jws); err == nil {
			next, err = s.newSnapshot(n)
		}
	}
	if err != nil {
		s.log.Error("the kept published configuration can not be used; starting without one until a connection point delivers it",
			"component", componentService, "file", path, "err", err)
		return
	}
	s.use(next)
	s.log.Info("published configuration of the last run in force", "component", componentService, "version", next.version())
}

// control answers a control stream of a connection point.
func (s *Server) control(name string, point *point, body []byte) []byte {
	answer := opencmg.ControlAnswer{Version: s.snap.Load().version()}
	switch name {
	case opencmg.ControlConfiguration:
		version, err := s.apply(body)
		if answer.Version = version; err != nil {
			answer.Error = err.Error()
			s.log.Warn("published configuration refused", "component", componentService, "connection_point", point.name, "err", err)
		}
	case opencmg.ControlStatus:
		var st opencmg.ConnectionPointStatus
		if err := json.Unmarshal(body, &st); err != nil {
			answer.Error = "status is malformed: " + err.Error()
			break
		}
		st.Name = point.name // whatever it says, it speaks for itself only
		s.metrics.status(&st)
	default:
		answer.Error = fmt.Sprintf("unknown control stream %q", name)
	}
	return controlHead(answer)
}
