package gateway_test

import (
	"crypto/rand"
	"crypto/tls"
	"io"
	"net"
	"testing"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/tunnel"
)

func (in *testInstance) wantTunnelRefused(cert tls.Certificate) {
	in.t.Helper()
	c, err := tls.Dial("tcp", in.tunnel, &tls.Config{
		InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}, NextProtos: []string{tunnel.ALPNTCPTLS},
	})
	if err == nil { // with TLS 1.3 the refusal arrives with the first read
		_, err = c.Read(make([]byte, 1))
		c.Close()
	}
	if err == nil || err == io.EOF {
		in.t.Errorf("a foreign certificate opened a tunnel: %v", err)
	}
}

// TestTunnelOnTheClientPort: a tunnel over HTTPS shares the clients' port and
// is told from them by ALPN.
func TestTunnelOnTheClientPort(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1)})
	d := tunnel.Dialer{TLS: in.pointTLS("id-1"), ServerName: testName, HTTPSAddr: in.addr}
	nc, transport, err := d.Dial(t.Context())
	if err != nil || transport != tunnel.HTTPS {
		t.Fatalf("dial: %v, %v", transport, err)
	}
	if _, err := in.startPoint(nc, "id-1", echo); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the tunnel is used", func() bool { return in.s.Tunnels("id-1") == 1 })
	c := in.dial(clientTLS())
	if res := c.send("GET /wiki/x HTTP/1.1\r\n" + hostField + "\r\n").answer("GET"); res.StatusCode != 200 {
		t.Errorf("got %s", res.Status)
	}
	if n := in.s.Connections(); n != 1 {
		t.Errorf("%d client connections are counted, want 1", n)
	}
	// Without a certificate of the site the same door stays shut.
	bad := tunnel.Dialer{TLS: &tls.Config{InsecureSkipVerify: true}, ServerName: testName, HTTPSAddr: in.addr}
	if nc, _, err := bad.Dial(t.Context()); err == nil {
		if _, err := in.startPoint(nc, "id-1", echo); err == nil {
			t.Error("a tunnel without a certificate was accepted")
		}
	}
}

func TestServerCertificateIsSwapped(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1)})
	in.connect("id-1", echo)
	before := in.dial(clientTLS())
	next := serverCertificate(t, testName)
	in.cert(next)
	after := in.dial(clientTLS())
	if got := after.ConnectionState().PeerCertificates[0]; !got.Equal(next.Leaf) {
		t.Error("a new connection got the old certificate")
	}
	for _, c := range []*rawClient{before, after} {
		if res := c.send("GET /wiki/x HTTP/1.1\r\n" + hostField + "\r\n").answer("GET"); res.StatusCode != 200 {
			t.Errorf("got %s", res.Status)
		}
	}
}

func TestGarbageInsteadOfTLS(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1)})
	in.connect("id-1", echo)
	noise := make([]byte, 4096)
	rand.Read(noise)
	for name, b := range map[string]string{
		"plain HTTP": "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "noise": string(noise), "nothing": "",
		"half a hello": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	} {
		for _, addr := range []string{in.addr, in.tunnel} {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(c, b)
			c.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, c)
			c.Close()
			if res := in.dial(clientTLS()).send("GET /wiki/x HTTP/1.1\r\n" + hostField + "\r\n").answer("GET"); res.StatusCode != 200 {
				t.Errorf("after %s: %s", name, res.Status)
			}
		}
	}
}

// TestSlowHandshake: a client that never finishes its handshake is let go.
func TestSlowHandshake(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1)})
	c, err := net.Dial("tcp", in.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	eventually(t, "the connection is there", func() bool { return in.s.Connections() == 1 })
	in.s.Sweep(9e9)
	if in.s.Connections() != 1 {
		t.Error("too early")
	}
	eventually(t, "the connection is let go", func() bool { in.s.Sweep(11e9); return in.s.Connections() == 0 })
}

func TestConnectionLimit(t *testing.T) {
	noLeaks(t)
	conf := configuration(1)
	conf.Limits.MaxConnections, conf.Limits.MaxRequests = 2, 1
	in := startInstance(t, instanceOptions{config: conf})
	g := newGate()
	in.connect("id-1", func(c *call) { g.wait(); echo(c) })
	one, two := in.dial(clientTLS()), in.dial(clientTLS())
	if c, err := tls.Dial("tcp", in.addr, clientTLS()); err == nil {
		c.Close()
		t.Error("a connection above the limit was accepted")
	}
	one.send("GET /wiki/x HTTP/1.1\r\n" + hostField + "\r\n")
	eventually(t, "the request waits", func() bool { return in.s.InFlight() == 1 })
	if res := two.send("GET /wiki/x HTTP/1.1\r\n" + hostField + "\r\n").answer("GET"); res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
		t.Errorf("request above the limit: %s", res.Status)
	}
	g.open()
	if res := one.answer("GET"); res.StatusCode != 200 {
		t.Errorf("got %s", res.Status)
	}
}

func TestIPv6(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1), network: "tcp6"})
	in.connect("id-1", echo)
	if res := in.dial(clientTLS()).send("GET /wiki/x HTTP/1.1\r\n" + hostField + "\r\n").answer("GET"); res.StatusCode != 200 {
		t.Errorf("got %s", res.Status)
	}
}

// TestResumedSession: a resumed TLS session carries the certificate,
// and with it the verdict.
func TestResumedSession(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1)})
	p := in.connect("id-1", echo)
	pc := issue(t, keys().clientCA, pki.Template{CommonName: "pc1", Client: true})
	cfg := clientTLS(pc)
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	get := func() (int, bool) {
		c := in.dial(cfg)
		res := c.send("GET " + mutual + "/SMS_MP/x HTTP/1.1\r\n" + hostField + "\r\n").answer("GET")
		return res.StatusCode, c.ConnectionState().DidResume
	}
	if status, _ := get(); status != 200 {
		t.Fatalf("got %d", status)
	}
	if status, resumed := get(); status != 200 || !resumed {
		t.Errorf("got %d, resumed %v", status, resumed)
	}
	next := configuration(2)
	next.Certificates.Blocked = []string{pki.Thumbprint(leafOf(t, pc))}
	if a := p.control(opencmg.ControlConfiguration, signed(t, next)); a.Version != 2 {
		t.Fatalf("got %+v", a)
	}
	if status, _ := get(); status != 401 {
		t.Errorf("blocked: got %d", status)
	}
}
