package pki_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
)

// shake makes a handshake between two configurations and returns both sides'
// states and errors.
func shake(t *testing.T, client, server *tls.Config) (cs, ss tls.ConnectionState, cerr, serr error) {
	t.Helper()
	ln := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer ln.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := ln.Accept()
		if err != nil {
			serr = err
			return
		}
		defer conn.Close()
		s := tls.Server(conn, server)
		serr = s.Handshake()
		ss = s.ConnectionState()
		s.Write([]byte("x"))
	}()
	c := tls.Client(must(net.Dial("tcp", ln.Addr().String()))(t), client)
	defer c.Close()
	cerr = c.Handshake()
	if cerr == nil {
		// In TLS 1.3 the server's opinion comes after the client's handshake.
		_, cerr = c.Read(make([]byte, 1))
	}
	cs = c.ConnectionState()
	c.Close()
	<-done
	return cs, ss, cerr, serr
}

func TestTunnelTLS(t *testing.T) {
	now := time.Now()
	ca := must(pki.NewAuthority("Site CA", now))(t)
	foreign := must(pki.NewAuthority("Inspection Proxy CA", now))(t)
	const id = "cp 1/ä"
	issue := func(a *pki.Authority, uri string, client, server bool) tls.Certificate {
		return must(a.IssueKeyPair(pki.Template{CommonName: uri, URIs: []string{uri}, Client: client, Server: server}, now))(t)
	}
	cpURI, gwURI := opencmg.ConnectionPointURI(site, id), opencmg.GatewayInstanceURI(site, "gw", 1)
	cp, gw := issue(ca, cpURI, true, false), issue(ca, gwURI, false, true)

	client := pki.TunnelClientTLS(ca.Certificate(), cp, site, "gw", 1)
	client.ServerName = "gw.example.com" // no certificate has it
	cs, ss, cerr, serr := shake(t, client, pki.TunnelServerTLS(ca.Certificate(), gw, site))
	if cerr != nil || serr != nil {
		t.Fatalf("client %v, server %v", cerr, serr)
	}
	if cs.Version != tls.VersionTLS13 {
		t.Errorf("version %x", cs.Version)
	}
	if got, ok := pki.PeerConnectionID(ss, site); !ok || got != id {
		t.Errorf("connection ID %q, %v", got, ok)
	}
	if got, ok := pki.PeerConnectionID(ss, "ZZZ"); ok {
		t.Errorf("connection ID %q at another site", got)
	}
	if got := pki.PeerURI(cs); got != gwURI {
		t.Errorf("gateway is %q", got)
	}
	if got := pki.PeerURI(tls.ConnectionState{}); got != "" {
		t.Errorf("nobody is %q", got)
	}

	// The connection point refuses every server but that instance.
	for name, tt := range map[string]struct {
		server  tls.Certificate
		foreign bool
		words   []string
	}{
		"other instance":         {issue(ca, opencmg.GatewayInstanceURI(site, "gw", 2), false, true), false, []string{"instance/2", "instance 1 of gateway gw"}},
		"other gateway":          {issue(ca, opencmg.GatewayInstanceURI(site, "gw2", 1), false, true), false, []string{"gw2"}},
		"other site":             {issue(ca, opencmg.GatewayInstanceURI("ZZZ", "gw", 1), false, true), false, []string{"zzz"}},
		"connection point":       {issue(ca, cpURI, true, true), false, nil},
		"client certificate":     {issue(ca, gwURI, true, false), false, []string{"not acceptable"}},
		"inspecting proxy":       {issue(foreign, gwURI, false, true), true, []string{"Inspection Proxy CA", "inspects TLS"}},
		"host name but no other": {must(ca.IssueKeyPair(pki.Template{DNSNames: []string{"gw.example.com"}, Server: true}, now))(t), false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, cerr, _ := shake(t, client, &tls.Config{Certificates: []tls.Certificate{tt.server}})
			var p *pki.PeerError
			if !errors.As(cerr, &p) {
				t.Fatalf("got %v", cerr)
			}
			if p.Foreign != tt.foreign {
				t.Errorf("foreign %v: %v", p.Foreign, p)
			}
			for _, w := range tt.words {
				if !strings.Contains(p.Error(), w) {
					t.Errorf("%q does not mention %q", p, w)
				}
			}
		})
	}

	// The gateway refuses everybody but connection points.
	expired := must(ca.IssueKeyPair(pki.Template{URIs: []string{cpURI}, Client: true, NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour)}, now))(t)
	for name, tt := range map[string]struct {
		cert tls.Certificate
		want string
	}{
		"nobody":            {tls.Certificate{}, "certificate"},
		"gateway":           {issue(ca, gwURI, true, true), "names"},
		"other site":        {issue(ca, opencmg.ConnectionPointURI("ZZZ", id), true, false), "names"},
		"server usage":      {issue(ca, cpURI, false, true), "not acceptable"},
		"foreign":           {issue(foreign, cpURI, true, false), "Inspection Proxy CA"},
		"expired":           {expired, "expired"},
		"empty ID":          {issue(ca, opencmg.ConnectionPointURI(site, ""), true, false), "names"},
		"unescaped":         {issue(ca, opencmg.ConnectionPointURI(site, "")+"a/b", true, false), "names"},
		"self-signed":       {must(pki.NewSelfSigned("pc", now))(t), "not by the site CA"},
		"two connection ID": {must(ca.IssueKeyPair(pki.Template{URIs: []string{cpURI, opencmg.ConnectionPointURI(site, "b")}, Client: true}, now))(t), "names"},
	} {
		t.Run("client/"+name, func(t *testing.T) {
			c := client.Clone()
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tt.cert, nil }
			_, _, cerr, serr := shake(t, c, pki.TunnelServerTLS(ca.Certificate(), gw, site))
			if serr == nil || cerr == nil {
				t.Fatalf("accepted: client %v, server %v", cerr, serr)
			}
			if !strings.Contains(serr.Error(), tt.want) {
				t.Errorf("server says %q, want %q in it", serr, tt.want)
			}
		})
	}
}

func TestRoleTLS(t *testing.T) {
	now := time.Now()
	ca := must(pki.NewAuthority("Site CA", now))(t)
	corp := must(pki.NewAuthority("Corporate CA", now))(t)
	mp := must(ca.IssueKeyPair(pki.Template{URIs: []string{opencmg.RoleURI(site, "7")}, DNSNames: []string{"mp.example.com"}, Server: true}, now))(t)
	cp := must(ca.IssueKeyPair(pki.Template{URIs: []string{opencmg.ConnectionPointURI(site, "cp1")}, Client: true}, now))(t)
	serve := func(c tls.Certificate) *tls.Config {
		return pki.RoleServerTLS(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &c, nil })
	}
	peers := pki.NewPeerVerifier(ca.Certificate(), site)

	own := pki.RoleClientTLS(pki.RoleTLS{Certificate: cp, SiteCA: ca.Certificate(), Site: site, Role: "7"})
	_, ss, cerr, serr := shake(t, own, serve(mp))
	if cerr != nil || serr != nil {
		t.Fatal(cerr, serr)
	}
	for range 2 { // the second time from the cache
		if id, ok := peers.ConnectionPoint(&ss); !ok || id != "cp1" {
			t.Errorf("connection point %q, %v", id, ok)
		}
	}
	other := pki.RoleClientTLS(pki.RoleTLS{Certificate: cp, SiteCA: ca.Certificate(), Site: site, Role: "8"})
	var p *pki.PeerError
	if _, _, cerr, _ := shake(t, other, serve(mp)); !errors.As(cerr, &p) {
		t.Errorf("another role: %v", cerr)
	}

	// An inside client may come without a certificate, or with its own.
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate())
	selfSigned := must(pki.NewSelfSigned("pc", now))(t)
	impostor := must(corp.IssueKeyPair(pki.Template{URIs: []string{opencmg.ConnectionPointURI(site, "cp1")}, Client: true}, now))(t)
	for name, c := range map[string]tls.Certificate{"none": {}, "self-signed": selfSigned, "impostor": impostor, "the role itself": mp} {
		_, ss, cerr, serr := shake(t, &tls.Config{RootCAs: roots, ServerName: "mp.example.com", GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }}, serve(mp))
		if cerr != nil || serr != nil {
			t.Errorf("%s: %v %v", name, cerr, serr)
		}
		if id, ok := peers.ConnectionPoint(&ss); ok {
			t.Errorf("%s passes for connection point %q", name, id)
		}
	}
	if _, ok := peers.ConnectionPoint(nil); ok {
		t.Error("no TLS passes for a connection point")
	}

	// A role of somebody else is checked by its host name.
	foreign := must(corp.IssueKeyPair(pki.Template{DNSNames: []string{"sup.example.com"}, Server: true}, now))(t)
	corpRoots := x509.NewCertPool()
	corpRoots.AddCert(corp.Certificate())
	if _, _, cerr, serr := shake(t, pki.RoleClientTLS(pki.RoleTLS{Certificate: cp, Roots: corpRoots, ServerName: "sup.example.com"}), serve(foreign)); cerr != nil || serr != nil {
		t.Error(cerr, serr)
	}
	if _, _, cerr, _ := shake(t, pki.RoleClientTLS(pki.RoleTLS{Roots: corpRoots, ServerName: "other.example.com"}), serve(foreign)); cerr == nil {
		t.Error("wrong host name accepted")
	}
}
