package client_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/client"
	"github.com/opencmg/opencmg/mp"
)

// A roamer is a client of a real management point that can be inside or outside,
// and sees which of the two it asks.
type roamer struct {
	*client.Client
	s *realSite
	t *testing.T
}

// roam installs a client inside.
func (s *realSite) roam(t *testing.T) *roamer {
	t.Helper()
	cfg := s.config(t, to(t, gatewayName, s.addr), to(t, mpName, s.door()))
	c := create(t, cfg, "CCMHOSTNAME="+base+" SMSSITECODE=LAB /regtoken:"+s.bulk+" /mp:"+mpName)
	if got := c.Locate(t.Context()); got != client.CurrentlyIntranet {
		t.Fatalf("the client is %s", got)
	}
	if _, err := c.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.passed.Store(0)
	return &roamer{c, s, t}
}

// by tells which way a heartbeat goes: "gateway", "inside", or why not.
func (r *roamer) by() string {
	r.t.Helper()
	before := r.s.passed.Load()
	if _, err := r.Heartbeat(r.t.Context()); err != nil {
		if errors.Is(err, opencmg.Forbidden) {
			return "forbidden"
		}
		return err.Error()
	}
	if r.s.passed.Load() > before {
		return "gateway"
	}
	return "inside"
}

// TestGatewaySwitchedOff: the client setting takes effect where it is learned,
// and can be taken back inside only.
func TestGatewaySwitchedOff(t *testing.T) {
	s := newRealSite(t)
	r := s.roam(t)
	leave := func() {
		t.Helper()
		s.shut.Store(true)
		if got := r.Locate(t.Context()); got != client.CurrentlyInternet {
			t.Fatalf("outside, the client is %s", got)
		}
	}
	back := func() {
		t.Helper()
		s.shut.Store(false)
		if got := r.Locate(t.Context()); got != client.CurrentlyIntranet {
			t.Fatalf("inside, the client is %s", got)
		}
	}
	allow := func(yes bool) {
		t.Helper()
		if err := s.server.UseSettings(t.Context(), mp.Settings{DenyGateway: !yes, NotificationPort: s.fast}); err != nil {
			t.Fatal(err)
		}
	}
	leave()
	if got := r.by(); got != "gateway" {
		t.Fatalf("outside: by %s", got)
	}
	// Switched off: the client learns it through the gateway, and that was the
	// last time.
	allow(false)
	ok(t)(r.Policy(t.Context()))
	passed := s.passed.Load()
	if got := r.by(); got == "gateway" || got == "inside" {
		t.Errorf("outside without permission: by %s", got)
	}
	if _, err := r.Policy(t.Context()); err == nil {
		t.Error("policy came from outside without permission")
	}
	if _, err := r.Location(t.Context()); err == nil {
		t.Error("locations came from outside without permission")
	}
	if got := s.passed.Load(); got != passed {
		t.Errorf("%d requests went to the gateway without permission", got-passed)
	}
	// Switched on again, it learns that inside.
	allow(true)
	if got := r.by(); got == "gateway" {
		t.Error("a client that was told nothing uses the gateway")
	}
	back()
	ok(t)(r.Policy(t.Context()))
	leave()
	if got := r.by(); got != "gateway" {
		t.Errorf("outside with permission again: by %s", got)
	}
}

// TestSourcesInside: boundary groups decide what a client inside uses, and never
// keep it from roaming.
func TestSourcesInside(t *testing.T) {
	s := newRealSite(t)
	r := s.roam(t)
	inside := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	groups := func(l *mp.Locations) {
		t.Helper()
		s.server.UseLocations(l)
		ok(t)(r.Location(t.Context()))
	}
	if got := r.by(); got != "inside" {
		t.Errorf("without groups: by %s", got)
	}
	groups(&mp.Locations{Groups: []mp.LocationGroup{{Boundaries: inside, Gateways: []string{gatewayName}}}})
	if got := r.by(); got != "inside" {
		t.Errorf("with a gateway in the group: by %s", got)
	}
	ok(t)(r.Token(t.Context()))
	groups(&mp.Locations{Groups: []mp.LocationGroup{{Boundaries: inside, Gateways: []string{gatewayName}, PreferCloud: true}}})
	if got := r.by(); got != "gateway" {
		t.Errorf("with a group that prefers the cloud: by %s", got)
	}
	if got := r.Status().Location; got != client.CurrentlyIntranet {
		t.Errorf("a client that prefers the cloud is %s", got)
	}
	// It asks inside for locations, so it learns when that is over, and the
	// gateway's failure is no failure of its own.
	s.down.Store(true)
	if got := r.by(); got != "inside" {
		t.Errorf("with the gateway down: by %s", got)
	}
	s.down.Store(false)
	ok(t)(r.Location(t.Context()))
	if got := r.by(); got != "gateway" {
		t.Errorf("after another location request: by %s", got)
	}
	groups(&mp.Locations{}) // includeCloudSources off
	if got := r.by(); got != "inside" {
		t.Errorf("in no group with a gateway: by %s", got)
	}
	// Roaming works all the same.
	if got := r.Status().Gateways; !slices.ContainsFunc(got, func(g string) bool { return strings.Contains(g, gatewayName) }) {
		t.Errorf("gateways: %v", got)
	}
	s.shut.Store(true)
	if got := r.Locate(t.Context()); got != client.CurrentlyInternet {
		t.Errorf("outside: %s", got)
	}
	if got := r.by(); got != "gateway" {
		t.Errorf("outside: by %s", got)
	}
}
