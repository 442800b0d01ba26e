package tunnel_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencmg/opencmg/tunnel"
)

// A testGateway accepts tunnels by both transports and answers with echo.
type testGateway struct {
	ca            *testCA
	tcptls, https string // addresses
}

func newTestGateway(t *testing.T) *testGateway {
	g := &testGateway{ca: newTestCA(t, "site CA")}
	cert := g.ca.issue(t)
	g.tcptls = serveTLS(t, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{tunnel.ALPNTCPTLS}}, serveTunnel)
	g.https = serveTLS(t, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{tunnel.ALPNHTTPS, "http/1.1"}}, func(t *testing.T, nc net.Conn) {
		if nc.(*tls.Conn).ConnectionState().NegotiatedProtocol != tunnel.ALPNHTTPS {
			return
		}
		if err := tunnel.AcceptHTTPS(t.Context(), nc); err != nil {
			return
		}
		serveTunnel(t, nc)
	})
	return g
}

func (g *testGateway) dialer() *tunnel.Dialer {
	return &tunnel.Dialer{
		TLS: &tls.Config{RootCAs: g.ca.pool}, ServerName: "gateway.example",
		TCPTLSAddr: g.tcptls, HTTPSAddr: g.https, Timeout: 5 * time.Second,
	}
}

func serveTunnel(t *testing.T, nc net.Conn) {
	c, err := tunnel.Server(t.Context(), nc, tunnel.Config{Handler: echo})
	if err != nil {
		return
	}
	select {
	case <-c.Done():
	case <-t.Context().Done():
	}
	c.Close()
}

// serveTCP calls serve for each connection until the end of the test.
func serveTCP(t *testing.T, serve func(*testing.T, net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer nc.Close()
				stop := context.AfterFunc(t.Context(), func() { nc.SetDeadline(time.Unix(1, 0)) })
				defer stop()
				serve(t, nc)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		all.Wait()
	})
	return ln.Addr().String()
}

func serveTLS(t *testing.T, cfg *tls.Config, serve func(*testing.T, net.Conn)) string {
	return serveTCP(t, func(t *testing.T, nc net.Conn) {
		tc := tls.Server(nc, cfg)
		if tc.HandshakeContext(t.Context()) == nil {
			serve(t, tc)
		}
	})
}

// closedPort is an address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// wantTunnel dials and makes one request.
func wantTunnel(t *testing.T, d *tunnel.Dialer, want tunnel.Transport) {
	t.Helper()
	nc, by, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if by != want {
		t.Errorf("by %s, want %s", by, want)
	}
	c, err := tunnel.Client(t.Context(), nc, tunnel.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	wantAnswer(t, open(t, c, &tunnel.Request{Head: []byte("h")}, []byte("body"), true), "h", []byte("body"))
}

func TestTransportsInOrder(t *testing.T) {
	g := newTestGateway(t)
	wantTunnel(t, g.dialer(), tunnel.TCPTLS)

	var logs bytes.Buffer
	d := g.dialer()
	d.TCPTLSAddr = closedPort(t)
	d.Log = slog.New(slog.NewTextHandler(&logs, nil))
	wantTunnel(t, d, tunnel.HTTPS)
	wantTunnel(t, d, tunnel.HTTPS)
	if n := strings.Count(logs.String(), "falls back"); n != 1 {
		t.Errorf("%d records of the same fall-back:\n%s", n, &logs)
	}
	if !strings.Contains(logs.String(), "refused") && !strings.Contains(logs.String(), "firewall") {
		t.Errorf("no reason in the log:\n%s", &logs)
	}

	d = g.dialer()
	d.TCPTLSAddr = ""
	wantTunnel(t, d, tunnel.HTTPS)
}

func TestDialErrors(t *testing.T) {
	g := newTestGateway(t)
	other := newTestCA(t, "Inspector CA")
	inspector := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{other.issue(t)}, NextProtos: []string{tunnel.ALPNTCPTLS, tunnel.ALPNHTTPS}},
		func(*testing.T, net.Conn) {})
	web := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{g.ca.issue(t)}}, func(*testing.T, net.Conn) {})
	silent := serveTCP(t, func(_ *testing.T, nc net.Conn) { io.Copy(io.Discard, nc) })
	for _, c := range []struct {
		name   string
		change func(*tunnel.Dialer)
		want   []string
	}{
		{"nobody there", func(d *tunnel.Dialer) { d.TCPTLSAddr, d.HTTPSAddr = closedPort(t), closedPort(t) },
			[]string{"TCP-TLS to 127.0.0.1:", "HTTPS to 127.0.0.1:", "firewalls"}},
		{"inspection", func(d *tunnel.Dialer) { d.TCPTLSAddr, d.HTTPSAddr = inspector, inspector },
			[]string{"Inspector CA", "TLS inspection", "exempt"}},
		{"no gateway", func(d *tunnel.Dialer) { d.TCPTLSAddr, d.HTTPSAddr = web, "" },
			[]string{"does not speak the tunnel protocol", "exempt"}},
		{"silence", func(d *tunnel.Dialer) {
			d.TCPTLSAddr, d.HTTPSAddr, d.Timeout = silent, "", 50*time.Millisecond
		}, []string{"no answer within 50ms"}},
		{"own check", func(d *tunnel.Dialer) {
			d.HTTPSAddr = ""
			d.TLS.VerifyConnection = func(tls.ConnectionState) error { return errors.New("wrong instance") }
		}, []string{"wrong instance", "site CA"}},
		{"no address", func(d *tunnel.Dialer) { d.TCPTLSAddr, d.HTTPSAddr = "", "" }, []string{"no address"}},
		{"bad address", func(d *tunnel.Dialer) { d.TCPTLSAddr = "gateway" }, []string{"host:port"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := g.dialer()
			c.change(d)
			nc, _, err := d.Dial(t.Context())
			if err == nil {
				nc.Close()
				t.Fatal("dialled")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q not in: %v", w, err)
				}
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := g.dialer().Dial(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A testProxy is an HTTP forward proxy that knows CONNECT and Basic.
type testProxy struct {
	addr     string
	wantAuth string // "user:password", empty for none
	answer   string // instead of connecting
	used     atomic.Int64
}

func newTestProxy(t *testing.T, cert *tls.Certificate) *testProxy {
	p := new(testProxy)
	if cert != nil {
		p.addr = serveTLS(t, &tls.Config{Certificates: []tls.Certificate{*cert}}, p.serve)
	} else {
		p.addr = serveTCP(t, p.serve)
	}
	return p
}

func (p *testProxy) serve(t *testing.T, nc net.Conn) {
	br := bufio.NewReader(nc)
	r, err := http.ReadRequest(br)
	if err != nil {
		return
	}
	if r.Method != http.MethodConnect {
		fmt.Fprint(nc, "HTTP/1.1 405 Method Not Allowed\r\n\r\n")
		return
	}
	if p.answer != "" {
		io.WriteString(nc, p.answer)
		return
	}
	if want := "Basic " + base64.StdEncoding.EncodeToString([]byte(p.wantAuth)); p.wantAuth != "" && r.Header.Get("Proxy-Authorization") != want {
		fmt.Fprint(nc, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 5\r\n\r\nsorry")
		return
	}
	up, err := net.Dial("tcp", r.Host)
	if err != nil {
		fmt.Fprint(nc, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
		return
	}
	defer up.Close()
	p.used.Add(1)
	fmt.Fprint(nc, "HTTP/1.1 200 Connection established\r\n\r\n")
	var both sync.WaitGroup
	both.Go(func() {
		io.Copy(up, br)
		up.(*net.TCPConn).CloseWrite()
	})
	io.Copy(nc, up)
	nc.Close()
	both.Wait()
}

func TestProxy(t *testing.T) {
	g := newTestGateway(t)
	plain := newTestProxy(t, nil)
	d := g.dialer()
	d.Proxy = &url.URL{Scheme: "http", Host: plain.addr}
	wantTunnel(t, d, tunnel.HTTPS)
	if plain.used.Load() != 1 {
		t.Error("the proxy was not used")
	}

	plain.wantAuth = "me:secret word"
	d.Proxy.User = url.UserPassword("me", "secret word")
	wantTunnel(t, d, tunnel.HTTPS)
	d.Proxy.User = nil
	d.ProxyCredentials = func(context.Context) (string, string, error) { return "me", "secret word", nil }
	wantTunnel(t, d, tunnel.HTTPS)

	cert := g.ca.issue(t)
	secure := newTestProxy(t, &cert)
	d = g.dialer()
	d.Proxy = &url.URL{Scheme: "https", Host: secure.addr}
	d.ProxyTLS = &tls.Config{RootCAs: g.ca.pool}
	wantTunnel(t, d, tunnel.HTTPS)
}

func TestProxyErrors(t *testing.T) {
	g := newTestGateway(t)
	p := newTestProxy(t, nil)
	p.wantAuth = "me:right"
	other := newTestCA(t, "Inspector CA")
	inspector := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{other.issue(t)}, NextProtos: []string{tunnel.ALPNHTTPS}}, func(*testing.T, net.Conn) {})
	broken := func(answer string) string {
		q := newTestProxy(t, nil)
		q.answer = answer
		return q.addr
	}
	for _, c := range []struct {
		name   string
		change func(*tunnel.Dialer)
		want   []string
	}{
		{"no credentials", func(*tunnel.Dialer) {}, []string{"asks for credentials", "407", "give the proxy's user name"}},
		{"wrong credentials", func(d *tunnel.Dialer) { d.Proxy.User = url.UserPassword("me", "topsecret") }, []string{"did not accept", "407", "correct"}},
		{"other schemes", func(d *tunnel.Dialer) {
			d.Proxy.Host = broken("HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n")
		}, []string{"offers only Negotiate, NTLM"}},
		{"forbidden", func(d *tunnel.Dialer) { d.Proxy.Host = broken("HTTP/1.1 403 Not\x01you\r\n\r\nbody") }, []string{"403 Not?you", "allow CONNECT"}},
		{"no HTTP", func(d *tunnel.Dialer) { d.Proxy.Host = broken("SSH-2.0-x\r\n\r\n") }, []string{"not HTTP/1.1"}},
		{"too long", func(d *tunnel.Dialer) { d.Proxy.Host = broken("HTTP/1.1 200 " + strings.Repeat("x", 9000)) }, []string{"head of more than"}},
		{"malformed", func(d *tunnel.Dialer) { d.Proxy.Host = broken("HTTP/1.1 200 OK\r\nno field\r\n\r\n") }, []string{"malformed"}},
		{"chatty", func(d *tunnel.Dialer) { d.Proxy.Host = broken("HTTP/1.1 200 OK\r\n\r\nhello") }, []string{"bytes behind"}},
		{"closes", func(d *tunnel.Dialer) { d.Proxy.Host = broken("HTTP/1.1 2") }, []string{"unexpected EOF"}},
		{"nobody there", func(d *tunnel.Dialer) { d.Proxy.Host = closedPort(t) }, []string{"proxy 127.0.0.1", "check the proxy's address"}},
		{"scheme", func(d *tunnel.Dialer) { d.Proxy.Scheme = "socks5" }, []string{"http:// or https://"}},
		{"no store", func(d *tunnel.Dialer) {
			d.ProxyCredentials = func(context.Context) (string, string, error) { return "", "", errors.New("vault sealed") }
		}, []string{"vault sealed"}},
		{"inspection", func(d *tunnel.Dialer) {
			d.Proxy.User, d.HTTPSAddr = url.UserPassword("me", "right"), inspector
		}, []string{"TLS inspection", "Inspector CA"}},
		{"untrusted proxy", func(d *tunnel.Dialer) {
			cert := other.issue(t)
			d.Proxy.Scheme, d.Proxy.Host, d.ProxyTLS = "https", newTestProxy(t, &cert).addr, &tls.Config{RootCAs: x509.NewCertPool()}
		}, []string{"TLS handshake with the proxy"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := g.dialer()
			d.Proxy = &url.URL{Scheme: "http", Host: p.addr}
			c.change(d)
			nc, _, err := d.Dial(t.Context())
			if err == nil {
				nc.Close()
				t.Fatal("dialled")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q not in: %v", w, err)
				}
			}
			if strings.Contains(err.Error(), "topsecret") || strings.Contains(err.Error(), "TCP-TLS") {
				t.Errorf("too much in: %v", err)
			}
		})
	}
}

func TestUpgradeIsStrict(t *testing.T) {
	good := "GET /tunnel HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: opencmg-tunnel\r\n\r\n"
	for _, c := range []struct{ name, request, want string }{
		{"good", good, "101"},
		{"list and case", strings.Replace(strings.Replace(good, ": Upgrade", ": keep-alive , uPGRADE", 1), "Host", "hOST", 1), "101"},
		{"path", strings.Replace(good, "/tunnel", "/", 1), "404"},
		{"method", strings.Replace(good, "GET", "POST", 1), "404"},
		{"version", strings.Replace(good, "1.1", "1.0", 1), "404"},
		{"no upgrade", strings.Replace(good, "Upgrade: opencmg-tunnel\r\n", "", 1), "426"},
		{"other upgrade", strings.Replace(good, "opencmg-tunnel", "websocket", 1), "426"},
		{"no connection field", strings.Replace(good, "Connection: Upgrade\r\n", "", 1), "426"},
		{"no host", strings.Replace(good, "Host: x\r\n", "", 1), "400"},
		{"two hosts", strings.Replace(good, "Host: x\r\n", "Host: x\r\nHost: y\r\n", 1), "400"},
		{"body", strings.Replace(good, "Host: x\r\n", "Host: x\r\nContent-Length: 3\r\n", 1), "400"},
		{"bytes behind", good + "x", "400"},
		{"bare line feed", "GET /tunnel HTTP/1.1\nHost: x\r\n\r\n", "400"},
		{"folded", strings.Replace(good, "Host: x\r\n", "Host: x\r\n y\r\n", 1), "400"},
		{"long", "GET /" + strings.Repeat("x", 9000), "400"},
		{"cut off", "GET /tunnel HTTP/1.1\r\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, y := net.Pipe()
			errs := make(chan error, 1)
			go func() {
				errs <- tunnel.AcceptHTTPS(t.Context(), y)
				y.Close()
			}()
			go func() {
				io.WriteString(x, c.request)
				if c.want == "" {
					x.Close()
				}
			}()
			got, _ := io.ReadAll(x)
			err := <-errs
			x.Close()
			if (err == nil) != (c.want == "101") || !strings.HasPrefix(string(got), strings.TrimRight("HTTP/1.1 "+c.want, " ")) && c.want != "" {
				t.Errorf("%q, %v; want %s", got, err, c.want)
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	x, y := net.Pipe()
	defer x.Close()
	defer y.Close()
	if err := tunnel.AcceptHTTPS(ctx, y); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

func TestUpgradeRefusedByGateway(t *testing.T) {
	g := newTestGateway(t)
	for answer, want := range map[string]string{
		"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno":                   "refused the tunnel: 503 Service Unavailable",
		"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n":               "something else",
		"HTTP/1.1 101 x\r\nUpgrade: opencmg-tunnel\r\nConnection: upgrade\r\n\r\nsomething": "something else",
		"nonsense\r\n\r\n": "not HTTP/1.1",
		"HTTP/1.1 101":     "EOF",
	} {
		d := g.dialer()
		d.TCPTLSAddr = ""
		d.HTTPSAddr = serveTLS(t, &tls.Config{Certificates: []tls.Certificate{g.ca.issue(t)}, NextProtos: []string{tunnel.ALPNHTTPS}}, func(_ *testing.T, nc net.Conn) {
			nc.Read(make([]byte, 1000))
			io.WriteString(nc, answer)
		})
		nc, _, err := d.Dial(t.Context())
		if err == nil {
			nc.Close()
			t.Fatalf("%q accepted", answer)
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", answer, err)
		}
	}
}
