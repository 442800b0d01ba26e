package connpoint_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/connpoint"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/tunnel"
)

// publish signs a published configuration of the version.
func (l *lab) publish(version uint64) []byte {
	l.t.Helper()
	return l.publishFor(gateway, version, len(l.instances))
}

func (l *lab) publishFor(gateway string, version uint64, instances int) []byte {
	l.t.Helper()
	signer := l.issue(pki.Template{CommonName: "configuration", URIs: []string{opencmg.ConfigurationSigningURI(site)}})
	jws, err := pki.SignConfiguration(&opencmg.PublishedConfiguration{
		Version: version, Issued: time.Now(), Gateway: gateway, Site: site, ServiceName: "gw.test", Instances: instances,
		ConnectionPoints: []opencmg.RegisteredConnectionPoint{{Name: "CP1", ConnectionID: "cp-1", Site: site}},
	}, signer)
	if err != nil {
		l.t.Fatal(err)
	}
	return jws
}

func TestTunnelsToEveryInstance(t *testing.T) {
	l := newLab(t, 3, nil, func(l *lab) {
		// The connector is told of one instance only and learns of the rest;
		// they stand at addresses that it knows.
		l.cfg.Registry = prometheus.NewRegistry()
	})
	for _, in := range l.instances {
		in.tunnel()
		in.tunnel() // two connections each
	}
	// Status comes by itself once the tunnels are up.
	for _, in := range l.instances {
		for {
			st := receive(t, in.status, "status")
			if st.Name != "CP1" || st.ConnectionID != "cp-1" || st.Site != site {
				t.Fatalf("status: %+v", st)
			}
			up := 0
			for _, tun := range st.Tunnels {
				if tun.Connected && tun.Connections == 2 && tun.Transport == "tcp-tls" {
					up++
				}
			}
			if up == 3 {
				break
			}
		}
	}
	if err := l.conn.Ready(); err != nil {
		t.Errorf("Ready: %v", err)
	}
	families, err := l.cfg.Registry.Gather()
	if err != nil || len(families) == 0 {
		t.Errorf("metrics: %d families, %v", len(families), err)
	}
}

func TestReconnect(t *testing.T) {
	r := newRole(t, answering(plainAnswer, nil))
	l := newLab(t, 2, r.mapping(), nil)
	for _, in := range l.instances {
		in.tunnel()
		in.tunnel()
	}
	in := l.instances[0]
	in.kill()
	l.log.wait("tunnel takes no more requests")
	l.log.wait("no tunnel to the gateway instance")
	in.listen(in.addr)
	c := in.tunnel()
	in.tunnel()
	if got := do(t, c, ask{path: "/x", deadline: patience}); got.status != 200 {
		t.Errorf("after the restart: %+v", got)
	}
	if n := strings.Count(l.log.String(), "no tunnel to the gateway instance"); n > 4 {
		t.Errorf("the same reason was logged %d times", n)
	}
}

func TestInstanceDrains(t *testing.T) {
	arrived, answer := make(chan bool, 10), make(chan bool)
	r := newRole(t, func(nc net.Conn, r *bufio.Reader) {
		if _, err := readRequest(r); err != nil {
			return
		}
		arrived <- true
		<-answer
		io.WriteString(nc, plainAnswer)
	})
	l := newLab(t, 1, r.mapping(), func(l *lab) { l.cfg.Connections = 1 })
	in := l.instances[0]
	c := in.tunnel()
	result := make(chan reply, 1)
	go func() { result <- do(t, c, ask{path: "/x", deadline: patience}) }()
	receive(t, arrived, "the request")
	drained := make(chan error, 1)
	go func() { drained <- c.Drain(t.Context()) }()
	in.tunnel() // the replacement comes while the old one still works
	answer <- true
	if got := receive(t, result, "the answer"); got.status != 200 || got.err != nil {
		t.Errorf("the request in flight: %+v", got)
	}
	if err := receive(t, drained, "the drain to end"); err != nil {
		t.Errorf("drain: %v", err)
	}
}

func TestBalancedAddress(t *testing.T) {
	var turn atomic.Int64
	l := newLab(t, 3, nil, func(l *lab) {
		l.cfg.Connections = 1
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		// A load balancer that deals connections out in turn.
		go func() {
			for {
				nc, err := ln.Accept()
				if err != nil {
					return
				}
				in := l.instances[int(turn.Add(1))%len(l.instances)]
				in.wg.Go(func() { in.accept(nc) })
			}
		}()
		l.cfg.Gateways[0].Instances = []opencmg.InstanceAddress{{Instance: -1, TCPTLS: ln.Addr().String()}}
	})
	for _, in := range l.instances {
		in.tunnel()
	}
	for { // until the connector sees it so as well
		up := 0
		for _, s := range l.conn.Status().Tunnels {
			if s.Connected {
				up++
			}
		}
		if up == 3 {
			break
		}
		receive(t, l.instances[0].status, "status")
	}
}

func TestPublishedConfigurationIsDelivered(t *testing.T) {
	var file string
	l := newLab(t, 2, nil, func(l *lab) {
		file = filepath.Join(t.TempDir(), "published.jws")
		writeFile(t, file, l.publish(7))
		l.cfg.PublishedFile = file
		l.instances[1].version = 7 // has it already
	})
	in := l.instances[0]
	if v := receive(t, in.configs, "the configuration"); v != 7 {
		t.Errorf("got version %d, want 7", v)
	}
	began := time.Now()
	writeFile(t, file, l.publish(8))
	for i, in := range l.instances {
		// Each of an instance's tunnels may have brought version 7.
		v := receive(t, in.configs, "the new configuration")
		for v == 7 {
			v = receive(t, in.configs, "the new configuration")
		}
		if v != 8 {
			t.Errorf("instance %d got version %d, want 8", i, v)
		}
	}
	t.Logf("delivered everywhere after %v", time.Since(began))
	// A damaged document is reported and not sent, and the next one is taken.
	writeFile(t, file, []byte("garbage"))
	l.log.wait("published configuration is not delivered")
	in.mu.Lock()
	in.refuse = "no, thanks"
	in.mu.Unlock()
	writeFile(t, file, l.publish(9))
	l.log.wait("no, thanks")
	if v := receive(t, l.instances[1].configs, "the new configuration"); v != 9 {
		t.Errorf("instance 1 got version %d, want 9", v)
	}
	// An instance that comes back without it gets it again.
	in.mu.Lock()
	in.refuse, in.version = "", 0
	in.mu.Unlock()
	in.kill()
	in.listen(in.addr)
	if v := receive(t, in.configs, "the configuration after a restart"); v != 9 {
		t.Errorf("got version %d, want 9", v)
	}
}

func TestMappingsFile(t *testing.T) {
	a := newRole(t, answering(plainAnswer, nil))
	b := newRole(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb", nil))
	file := filepath.Join(t.TempDir(), "mappings.json")
	doc := func(addr string) []byte {
		return []byte(`{"mappings":[{"role":"8","internal":["http://` + addr + `"]}]}`)
	}
	writeFile(t, file, doc(a.addr))
	l := newLab(t, 1, nil, func(l *lab) { l.cfg.MappingsFile = file })
	c := l.instances[0].tunnel()
	if got := do(t, c, ask{path: "/x", deadline: patience}); got.body != "hello" {
		t.Fatalf("got %+v", got)
	}
	writeFile(t, file, []byte(`{"mappings":[{"role":"8","internal":["mp"]}]}`))
	l.log.wait("URL mappings are not taken over")
	if got := do(t, c, ask{path: "/x", deadline: patience}); got.body != "hello" {
		t.Fatalf("after a wrong document: %+v", got)
	}
	if err := l.conn.SetMappings(&opencmg.URLMappings{Mappings: []opencmg.URLMapping{{Role: "8", Internal: []string{"http://" + b.addr}}}}); err != nil {
		t.Fatal(err)
	}
	if got := do(t, c, ask{path: "/x", deadline: patience}); got.body != "b" {
		t.Fatalf("after the change: %+v", got)
	}
	if n := l.conn.Status().Endpoints[0].TotalRequests; n != 3 {
		t.Errorf("%d requests counted, want 3: counts survive a change of mappings", n)
	}
}

func TestTunnelThroughProxy(t *testing.T) {
	connects := make(chan string, 100)
	l := newLab(t, 1, nil, func(l *lab) {
		proxy, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { proxy.Close() })
		l.cfg.Connections = 1
		l.cfg.Proxy = &url.URL{Scheme: "http", Host: proxy.Addr().String(), User: url.UserPassword("svc", "secret")}
		in := l.instances[0]
		l.cfg.Gateways[0].Instances = []opencmg.InstanceAddress{{Instance: 0, HTTPS: in.addr}}
		in.https = true
		go func() {
			for {
				nc, err := proxy.Accept()
				if err != nil {
					return
				}
				go func() {
					req, err := http.ReadRequest(bufio.NewReader(nc))
					if err != nil {
						nc.Close()
						return
					}
					if req.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte("svc:secret")) {
						io.WriteString(nc, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
						nc.Close()
						return
					}
					connects <- req.Method + " " + req.Host
					io.WriteString(nc, "HTTP/1.1 200 OK\r\n\r\n")
					in.wg.Go(func() { in.accept(nc) })
				}()
			}
		}()
	})
	l.instances[0].tunnel()
	if got := receive(t, connects, "CONNECT"); got != "CONNECT "+l.instances[0].addr {
		t.Errorf("the proxy got %q", got)
	}
	if strings.Contains(l.log.String(), "secret") {
		t.Error("the proxy's password is in the log")
	}
}

func TestHTTPSRoles(t *testing.T) {
	saw := make(chan string, 10)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := "nobody"
		if len(r.TLS.PeerCertificates) > 0 {
			who = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		saw <- who + " " + r.Header.Get(opencmg.HeaderIdentity)
		io.WriteString(w, "ok")
	})
	start := func(conf *tls.Config) *httptest.Server {
		srv := httptest.NewUnstartedServer(handler)
		srv.TLS = conf
		srv.Config.ErrorLog = log.New(io.Discard, "", 0)
		srv.StartTLS()
		t.Cleanup(srv.Close)
		return srv
	}
	outside, err := pki.NewAuthority("Outside CA", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair := func(template pki.Template) tls.Certificate {
		c, err := outside.IssueKeyPair(template, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	foreignCert := pair(pki.Template{CommonName: "127.0.0.1", IPs: []net.IP{net.IPv4(127, 0, 0, 1)}, Server: true})
	roots := x509.NewCertPool()
	roots.AddCert(outside.Certificate())
	foreign := start(&tls.Config{Certificates: []tls.Certificate{foreignCert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots})
	caFile := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(caFile, outside.CertificatePEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	l := newLab(t, 1, nil, func(l *lab) {
		ours := func(role opencmg.RoleID) *httptest.Server {
			cert := l.issue(pki.Template{CommonName: "mp", URIs: []string{opencmg.RoleURI(site, role)}, Server: true})
			conf := pki.RoleServerTLS(nil)
			conf.Certificates = []tls.Certificate{cert}
			return start(conf)
		}
		good := pair(pki.Template{CommonName: "cp client", Client: true})
		l.cfg.ClientCertificates = []tls.Certificate{
			pair(pki.Template{CommonName: "server only", Server: true}),
			l.cert, // chains elsewhere
			good,
		}
		l.cfg.ClientRoots = roots
		l.cfg.Mappings.Mappings = []opencmg.URLMapping{
			{Role: "8", Internal: []string{ours("8").URL}, SiteRole: true},
			{Role: "9", Internal: []string{ours("10").URL}, SiteRole: true}, // the wrong role answers
			{Role: "11", Internal: []string{foreign.URL}, CAFile: caFile, ClientCertificate: true, CertificateRequired: true},
			{Role: "12", Internal: []string{foreign.URL}}, // not trusted by the system
		}
	})
	c := l.instances[0].tunnel()
	for range 2 {
		if got := do(t, c, ask{path: "/x", identity: "auth=pki", deadline: patience}); got.status != 200 || <-saw != "cp auth=pki" {
			t.Errorf("role of our kind: %+v", got)
		}
	}
	if got := do(t, c, ask{path: "/x", role: "11", identity: "auth=pki", deadline: patience}); got.status != 200 || <-saw != "cp client " {
		t.Errorf("foreign role: %+v", got)
	}
	for _, role := range []string{"9", "12"} {
		began := time.Now()
		got := do(t, c, ask{path: "/x", role: role, deadline: patience})
		if got.code != tunnel.CodeRoleUnreachable || !got.retry {
			t.Errorf("role %s: %+v, want it unreachable", role, got)
		}
		t.Logf("role %s: %v after %v", role, got.err, time.Since(began))
	}
	for _, text := range []string{"digital signature", "allowed root", "private key", "client authentication"} {
		if !strings.Contains(l.log.String(), text) {
			t.Errorf("the filter count of %q is not in the log", text)
		}
	}
}

func TestClientCertificateRequired(t *testing.T) {
	l := newLab(t, 1, []opencmg.URLMapping{{Role: "8", Internal: []string{"https://127.0.0.1:1"}, ClientCertificate: true, CertificateRequired: true}}, nil)
	c := l.instances[0].tunnel()
	got := do(t, c, ask{path: "/x", deadline: patience})
	if got.line != "403 CMGConnector_Clientcertificaterequired" || got.err != nil {
		t.Errorf("got %q, %v", got.line, got.err)
	}
	eventually(t, func() bool { return len(l.records.Find(t.Context(), "c1")) == 1 })
	if rec := l.records.Find(t.Context(), "c1"); rec[0].Status != 403 || rec[0].Verdict == "" {
		t.Errorf("records: %+v", rec)
	}
}

func TestHealthPath(t *testing.T) {
	var sick atomic.Bool
	sick.Store(true)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/livez" && sick.Load() {
			w.WriteHeader(503)
		}
	}))
	t.Cleanup(srv.Close)
	l := newLab(t, 1, []opencmg.URLMapping{{Role: "8", Internal: []string{srv.URL}, HealthPath: "/livez"}}, func(l *lab) { l.cfg.RoleWait = patience })
	l.instances[0].tunnel()
	l.log.wait("health check answered 503")
	sick.Store(false)
	l.log.wait("internal host answers again")
}

func TestNewChecksItsConfiguration(t *testing.T) {
	ca, err := pki.NewAuthority("CA", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.IssueKeyPair(pki.Template{CommonName: "cp", Client: true}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	good := func() connpoint.Config {
		return connpoint.Config{Name: "CP1", ConnectionID: "cp-1", Site: site, SiteCA: ca.Certificate(), Certificate: cert,
			Gateways: []opencmg.GatewayTarget{{Name: gateway, ServiceName: "gw.test"}}}
	}
	if _, err := connpoint.New(good()); err != nil {
		t.Errorf("a good configuration: %v", err)
	}
	for want, spoil := range map[string]func(*connpoint.Config){
		"name and connection ID":    func(c *connpoint.Config) { c.ConnectionID = "" },
		"site CA":                   func(c *connpoint.Config) { c.SiteCA = nil },
		"site code":                 func(c *connpoint.Config) { c.Site = "X" },
		"gateway GW is there twice": func(c *connpoint.Config) { c.Gateways = append(c.Gateways, c.Gateways[0]) },
		"instance 0 is there twice": func(c *connpoint.Config) {
			c.Gateways[0].Instances = []opencmg.InstanceAddress{{HTTPS: "x:1"}, {HTTPS: "y:1"}}
		},
		"connections":          func(c *connpoint.Config) { c.Connections = 99 },
		"set the service name": func(c *connpoint.Config) { c.Gateways[0].ServiceName = "" },
		"count":                func(c *connpoint.Config) { c.Gateways[0].Count = 17 },
		"0 to 15": func(c *connpoint.Config) {
			c.Gateways[0].Instances = []opencmg.InstanceAddress{{Instance: 16, HTTPS: "x:1"}}
		},
		"needs an address":  func(c *connpoint.Config) { c.Gateways[0].Instances = []opencmg.InstanceAddress{{}} },
		"read URL mappings": func(c *connpoint.Config) { c.MappingsFile = filepath.Join(t.TempDir(), "none") },
		"role": func(c *connpoint.Config) {
			c.Mappings = &opencmg.URLMappings{Mappings: []opencmg.URLMapping{{Role: "x"}}}
		},
		"8: ca: ": func(c *connpoint.Config) {
			c.Mappings = &opencmg.URLMappings{Mappings: []opencmg.URLMapping{{Role: "8", Internal: []string{"https://mp"}, CA: "none"}}}
		},
		"exclude each other": func(c *connpoint.Config) {
			c.Mappings = &opencmg.URLMappings{Mappings: []opencmg.URLMapping{{Role: "8", Internal: []string{"https://mp"}, CA: "x", CAFile: "x"}}}
		},
		"caFile": func(c *connpoint.Config) {
			c.Mappings = &opencmg.URLMappings{Mappings: []opencmg.URLMapping{{Role: "8", Internal: []string{"https://mp"}, CAFile: "none"}}}
		},
	} {
		c := good()
		spoil(&c)
		if _, err := connpoint.New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}

// A gateway instance that is not the one expected gets no tunnel, and the log
// says so.
func TestWrongInstance(t *testing.T) {
	l := newLab(t, 1, nil, func(l *lab) {
		in := l.instances[0]
		in.mu.Lock()
		defer in.mu.Unlock()
		in.cert = l.issue(pki.Template{CommonName: "other", URIs: []string{opencmg.GatewayInstanceURI(site, "OTHER", 0)}, Server: true})
	})
	l.log.wait("no tunnel to the gateway instance")
	if err := l.conn.Ready(); err == nil || !strings.Contains(err.Error(), gateway) {
		t.Errorf("Ready: %v", err)
	}
}

func TestBulkKeepsMemoryFlat(t *testing.T) {
	if testing.Short() {
		t.Skip("sends 256 MiB")
	}
	const size = 256 << 20
	piece := bytes.Repeat([]byte("0123456789abcdef"), 4<<10)
	r := newRole(t, func(nc net.Conn, r *bufio.Reader) {
		if _, err := readRequest(r); err != nil {
			return
		}
		io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 268435456\r\n\r\n")
		for range size / len(piece) {
			if _, err := nc.Write(piece); err != nil {
				return
			}
		}
	})
	l := newLab(t, 1, r.mapping(), nil)
	c := l.instances[0].tunnel()
	s, err := c.Open(ask{path: "/x", deadline: patience}.request(), nil, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.ReadHead(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	var got int64
	var most uint64
	for {
		n, err := s.Read(buf)
		before := got >> 24
		got += int64(n)
		if got>>24 != before {
			most = max(most, heapInUse())
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if got != size {
		t.Errorf("got %d bytes, want %d", got, size)
	}
	if most > 96<<20 {
		t.Errorf("%d MiB in use while %d MiB passed", most>>20, size>>20)
	}
}
