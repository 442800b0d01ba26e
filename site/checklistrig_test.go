package site_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/site"
	"github.com/opencmg/opencmg/sitedb"
)

// A network is what the site server finds outside: all is well but for what a
// test says.
type network struct {
	mu  sync.Mutex // guards bad
	bad map[string]func(*opencmg.Probe)
}

func (n *network) spoil(host string, how func(*opencmg.Probe)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.bad[host] = how
}

func (n *network) look(_ context.Context, targets []opencmg.ProbeTarget) opencmg.ProbeReport {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := opencmg.ProbeReport{Time: time.Now()}
	for _, t := range targets {
		p := opencmg.Probe{ProbeTarget: t, OK: true, Via: opencmg.ViaDNS}
		if t.Kind == opencmg.ProbeName {
			p.Addresses, p.Canonical = []string{"192.0.2.7"}, "granitefalls.westeurope.cloudapp.lab.opencmg.example"
		}
		if how := n.bad[t.Host]; how != nil {
			how(&p)
		}
		r.Probes = append(r.Probes, p)
	}
	return r
}

// unreachable is what a target is that nobody reaches.
func unreachable(p *opencmg.Probe) { p.OK, p.Error = false, "connection refused" }

// inspected is a target on whose way TLS is inspected.
func inspected(p *opencmg.Probe) {
	p.OK, p.Inspector, p.Error = false, "CN=Snoop CA", "unknown authority"
}

// A setUp is a site that is set up as a whole, with nothing real behind its
// site systems.
type setUp struct {
	*rig
	net  *network
	cp   *point
	mp   *point
	g    adminservice.Gateway
	mpID string // of its role
}

func newNetwork(r *rig) *network {
	n := &network{bad: map[string]func(*opencmg.Probe){}}
	r.config = func(c *site.Config) { c.Probe = n.look }
	return n
}

func newSetUp(t *testing.T) *setUp {
	s := &setUp{}
	s.rig = newRig(t, func(r *rig) { s.net = newNetwork(r) })
	s.connect()
	do[adminservice.TrustedCertificate](s.rig, "POST", "TrustedCertificates", adminservice.TrustedCertificate{Store: adminservice.RootCA, Certificate: string(s.ca.CertificatePEM())})
	s.finish(do[adminservice.Operation](s.rig, "POST", "Gateways", s.newGateway()))
	s.g = s.gateway()
	s.mp = s.system(adminservice.SystemManagementPoint, "mp1", "")
	for _, role := range do[adminservice.Page[adminservice.SiteRole]](s.rig, "GET", "SiteRoles", nil).Value {
		s.mpID = role.ID
		do[adminservice.SiteRole](s.rig, "PATCH", "SiteRoles/"+role.ID, map[string]any{"allowGatewayTraffic": true})
	}
	s.cp = s.join("cp1", s.g.ID)
	key := must(s.ca.IssueKeyPair(pki.Template{CommonName: "client", Client: true}, time.Now()))(t)
	if _, _, err := s.db.RegisterClient(t.Context(), sitedb.Registration{Client: sitedb.Client{NetBIOSName: "PC1", Signing: key.Leaf, Auth: opencmg.AuthPKI}}); err != nil {
		t.Fatal(err)
	}
	s.g = s.gateway()
	s.report(nil)
	return s
}

// report has the site systems report that all is well, but for a change.
func (s *setUp) report(change func(*adminservice.SiteSystemReport)) {
	s.t.Helper()
	r := &adminservice.SiteSystemReport{
		Kind: adminservice.SystemConnectionPoint, CertificateEnds: s.now().AddDate(2, 0, 0),
		ConnectionPoint: &opencmg.ConnectionPointStatus{Name: s.cp.name, ConnectionID: s.cp.id, Site: "LAB"},
	}
	docs, _, err := s.cp.client().Documents(s.t.Context(), "", 0)
	if err != nil {
		s.t.Fatal(err)
	}
	seen := s.net.look(s.t.Context(), docs.Probes)
	r.Probes = &seen
	for n := range 2 {
		r.ConnectionPoint.Tunnels = append(r.ConnectionPoint.Tunnels, opencmg.TunnelStatus{Gateway: "granitefalls", Instance: n, Connected: true, Transport: "https"})
		outside := s.net.look(s.t.Context(), []opencmg.ProbeTarget{{Kind: opencmg.ProbeName, Host: serviceName}, {Kind: opencmg.ProbeService, Host: serviceName, Port: 443}})
		outside.Probes[1].Certificate = s.g.CertificateThumbprint
		r.Instances = append(r.Instances, opencmg.InstanceStatus{
			Gateway: "granitefalls", Instance: n, Started: s.now(), Time: s.now().UTC(), Configuration: s.g.Configuration + 100, Certificate: s.g.CertificateThumbprint, Outside: &outside,
			RevocationLists: []opencmg.RevocationListStatus{{URL: "http://crl.example.com/root.crl", NextUpdate: s.now().Add(time.Hour)}},
		})
	}
	if change != nil {
		change(r)
	}
	if err := s.cp.client().Report(s.t.Context(), r); err != nil {
		s.t.Fatal(err)
	}
	if err := s.mp.client().Report(s.t.Context(), &adminservice.SiteSystemReport{Kind: adminservice.SystemManagementPoint}); err != nil {
		s.t.Fatal(err)
	}
}

// edit changes an object in the database behind the site's back, and returns
// what undoes it.
func (r *rig) edit(kind, id string, change func(map[string]any)) func() {
	r.t.Helper()
	put := func(body json.RawMessage) {
		r.t.Helper()
		err := r.db.Change(r.t.Context(), "test", func(tx *sitedb.Tx) error {
			o, err := tx.Object(kind, id)
			if err != nil {
				return err
			}
			o.Body = body
			_, err = tx.Put(o)
			return err
		})
		if err != nil {
			r.t.Fatal(err)
		}
	}
	before := must(r.db.Object(r.t.Context(), kind, id))(r.t).Body
	var m map[string]any
	if err := json.Unmarshal(before, &m); err != nil {
		r.t.Fatal(err)
	}
	change(m)
	put(must(json.Marshal(m))(r.t))
	return func() { put(before) }
}

// id is that of the only object of a kind for which ok.
func (r *rig) only(kind string, ok func(string) bool) string {
	r.t.Helper()
	for _, o := range must(r.db.Objects(r.t.Context(), kind))(r.t) {
		if ok == nil || ok(string(o.Body)) {
			return o.ID
		}
	}
	r.t.Fatalf("there is no such %s", kind)
	return ""
}

func (r *rig) fault(f labFault) func() {
	r.t.Helper()
	id := must(r.cloud.SetFault(f))(r.t)
	return func() { r.cloud.ClearFault(id) }
}
