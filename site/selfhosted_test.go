package site_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
)

// A host wants to be an instance of a self-hosted gateway.
type host struct {
	request string
	address string
}

func newHost(t *testing.T, address string) host {
	return host{request(t, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)), address}
}

// bring takes a host's request to the site.
func (p *point) bring(h host, token adminservice.GatewayJoinToken, change func(*adminservice.GatewayJoinRequest)) adminservice.GatewayJoinReply {
	p.r.t.Helper()
	exporter := make([]byte, 32)
	rand.Read(exporter)
	mac := opencmg.GatewayJoinMAC(opencmg.GatewayJoinKey(token.Secret), exporter, token.Gateway, token.ID, h.request)
	q := adminservice.GatewayJoinRequest{Gateway: token.Gateway, Exporter: exporter, Address: h.address,
		GatewayJoinProof: opencmg.GatewayJoinProof{TokenID: token.ID, Request: h.request, Proof: base64.RawURLEncoding.EncodeToString(mac)}}
	if change != nil {
		change(&q)
	}
	return *must(p.client().JoinGateway(p.r.t.Context(), q))(p.r.t)
}

func (r *rig) gatewayToken(in adminservice.JoinTokenRecord) adminservice.GatewayJoinToken {
	r.t.Helper()
	in.Kind = "gateway"
	return must(adminservice.ParseGatewayJoinToken(do[adminservice.JoinTokenRecord](r, "POST", "JoinTokens", in).Token))(r.t)
}

// mappings is what a connection point is told about the gateway, once it says
// what the test waits for.
func (p *point) gateways(done func(string) bool) string {
	p.r.t.Helper()
	etag := ""
	for {
		d, tag, err := p.client().Documents(p.r.t.Context(), etag, 10*time.Second)
		if err != nil {
			p.r.t.Fatal(err)
		}
		if d == nil || d.Mappings == "" {
			continue
		}
		etag = tag
		body := must(pki.VerifyDocument(pki.KindURLMappings, []byte(d.Mappings), p.r.s.SiteCA(), opencmg.ConfigurationSigningURI("LAB"), p.r.now()))(p.r.t)
		var m struct{ Gateways json.RawMessage }
		if err := json.Unmarshal(body, &m); err != nil {
			p.r.t.Fatal(err)
		}
		if done(string(m.Gateways)) {
			return string(m.Gateways)
		}
	}
}

// TestSelfHosted takes hosts into a gateway that runs outside of a cloud.
func TestSelfHosted(t *testing.T) {
	r := newRig(t)
	g := do[adminservice.Gateway](r, "POST", "Gateways", adminservice.NewGateway{Model: adminservice.ModelSelfHosted, Certificate: adminservice.ServerCertificate{ServiceName: "Granitefalls.corp.example"}})
	if g.State != adminservice.StateReady || g.ServiceName != serviceName || g.Name != "granitefalls" {
		t.Fatalf("%+v", g)
	}
	p, stranger := r.join("cp1", g.ID), r.join("cp2", "")
	token := r.gatewayToken(adminservice.JoinTokenRecord{GatewayID: g.ID, Uses: 3, Hosts: []string{"192.0.2.1", "gw2.corp.example"}, TunnelPort: 10150, Sources: []string{"192.0.2.0/24"}})
	want := `"joins":[{"tcpTLS":"192.0.2.1:10150","https":"192.0.2.1:443"},{"tcpTLS":"gw2.corp.example:10150","https":"gw2.corp.example:443"}]`
	p.gateways(func(s string) bool { return strings.Contains(s, want) })

	one, two := newHost(t, "192.0.2.1:10150"), newHost(t, "192.0.2.2:443")
	for says, reply := range map[string]adminservice.GatewayJoinReply{
		"not known":            p.bring(one, token, func(q *adminservice.GatewayJoinRequest) { q.Exporter[0]++ }),
		"token is not known":   p.bring(one, token, func(q *adminservice.GatewayJoinRequest) { q.TokenID = "x" }),
		"is not known: it":     stranger.bring(one, token, nil),
		"may not be used from": p.bring(newHost(t, "198.51.100.1:443"), token, nil),
	} {
		if !strings.Contains(reply.Refused, says) || reply.Certificate != "" {
			t.Errorf("got %+v, want a refusal with %q", reply, says)
		}
	}
	for range 2 { // an answer is lost
		if reply := p.bring(one, token, nil); reply.Refused != "" || reply.Instance != 0 {
			t.Errorf("the first host: %+v", reply)
		}
	}
	reply := p.bring(two, token, nil)
	certs := must(pki.ParseCertificates([]byte(reply.Certificate)))(t)
	if reply.Instance != 1 || len(certs[0].URIs) != 1 || certs[0].URIs[0].String() != opencmg.GatewayInstanceURI("LAB", "granitefalls", 1) || certs[0].CheckSignatureFrom(r.s.SiteCA()) != nil {
		t.Errorf("the second host: %+v, %v", reply, certs[0].URIs)
	}
	// The first host was set up anew: it has another key, and stays instance 0.
	if reply := p.bring(newHost(t, one.address), token, nil); reply.Refused != "" || reply.Instance != 0 {
		t.Errorf("the first host again: %+v", reply)
	}
	if reply := p.bring(newHost(t, "192.0.2.3:443"), token, nil); !strings.Contains(reply.Refused, "used up") {
		t.Errorf("a fourth use: %+v", reply)
	}
	dial := p.gateways(func(s string) bool { return !strings.Contains(s, "joins") })
	const instances = `[{"name":"granitefalls","serviceName":"granitefalls.corp.example","instances":[{"instance":0,"tcpTLS":"192.0.2.1:10150","https":"192.0.2.1:443"},{"instance":1,"tcpTLS":"192.0.2.2:10150","https":"192.0.2.2:443"}]}]`
	if diff := cmp.Diff(instances, dial); diff != "" {
		t.Errorf("gateways to dial (-want +got):\n%s", diff)
	}
	if joined := r.messages("by join token " + token.ID); len(joined) != 4 {
		t.Errorf("status messages: %q", joined)
	}

	late := r.gatewayToken(adminservice.JoinTokenRecord{GatewayID: g.ID, Uses: 100, Minutes: 10})
	do[any](r, "POST", "Gateways/"+g.ID+"/removeInstance", adminservice.RemoveInstance{Number: 0})
	if err := r.c.Do(t.Context(), "POST", "Gateways/"+g.ID+"/removeInstance", adminservice.RemoveInstance{Number: 0}, nil); !errors.Is(err, opencmg.NotFound) {
		t.Errorf("removed twice: %v", err)
	}
	for n := range opencmg.MaxInstances - 1 {
		want := n
		if n > 0 {
			want++
		}
		if reply := p.bring(newHost(t, "203.0.113."+string(rune('a'+n))+":443"), late, nil); reply.Instance != want || reply.Refused != "" {
			t.Fatalf("host %d: %+v", n, reply)
		}
	}
	if reply := p.bring(newHost(t, "203.0.113.99:443"), late, nil); !strings.Contains(reply.Refused, "16 instances") {
		t.Errorf("the 17th: %+v", reply)
	}
	r.wait(11 * time.Minute)
	if reply := p.bring(newHost(t, "203.0.113.99:443"), late, nil); !strings.Contains(reply.Refused, "expired") {
		t.Errorf("after its time: %+v", reply)
	}

	// What hosts say of their own certificate is watched.
	ends := r.now().AddDate(0, 0, 20)
	p.says(opencmg.InstanceStatus{Gateway: "granitefalls", Instance: 1, Started: r.now(), Time: r.now(), CertificateEnds: ends})
	found := false
	for _, e := range do[adminservice.Page[adminservice.Expiry]](r, "GET", "Expiry", nil).Value {
		found = found || e.Kind == "server-certificate" && e.ID == "server-certificate/granitefalls/1" && e.Ends.Equal(ends)
	}
	if !found {
		t.Error("the certificate of a host is not watched")
	}
	for says, call := range map[string]func() error{
		"as a file": func() error {
			return r.c.Do(t.Context(), "PUT", "Gateways/"+g.ID+"/certificate", adminservice.ServerCertificate{PFX: r.pfx("x", serviceName), Password: "x"}, nil)
		},
		"hosts of your own": func() error { return r.c.Do(t.Context(), "POST", "Gateways/"+g.ID+"/stop", nil, nil) },
		"hosts: ": func() error {
			return r.c.Do(t.Context(), "POST", "JoinTokens", adminservice.JoinTokenRecord{Kind: "gateway", GatewayID: g.ID, Hosts: []string{"a/b"}}, nil)
		},
		"1 to 65535": func() error {
			return r.c.Do(t.Context(), "POST", "JoinTokens", adminservice.JoinTokenRecord{Kind: "gateway", GatewayID: g.ID, TunnelPort: 70000}, nil)
		},
		"of kind gateway": func() error {
			return r.c.Do(t.Context(), "POST", "JoinTokens", adminservice.JoinTokenRecord{Kind: "connection-point", TunnelPort: 1}, nil)
		},
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want %q", err, says)
		}
	}
	r.finish(do[adminservice.Operation](r, "DELETE", "Gateways/"+g.ID, nil))
}
