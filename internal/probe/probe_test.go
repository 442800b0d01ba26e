package probe_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/outbound"
	"github.com/opencmg/opencmg/internal/probe"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/tunnel"
)

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func authority(t *testing.T, name string) *pki.Authority {
	return must(pki.NewAuthority(name, time.Now()))(t)
}

// serve accepts TLS with a certificate of ca for the names and counts the bytes
// that clients send after the handshake.
func serve(t *testing.T, ca *pki.Authority, template pki.Template) (addr string, sent *atomic.Int64) {
	t.Helper()
	template.Server = true
	pair := must(ca.IssueKeyPair(template, time.Now()))(t)
	ln := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	t.Cleanup(func() { ln.Close() })
	sent = new(atomic.Int64)
	go func() {
		for {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer raw.Close()
				c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1", tunnel.ALPNHTTPS, tunnel.ALPNTCPTLS}})
				n, _ := io.Copy(io.Discard, c)
				sent.Add(n)
			}()
		}
	}()
	return ln.Addr().String(), sent
}

// interceptor is a forward proxy that answers every CONNECT itself, with a
// certificate of its own authority for whatever is asked for.
func interceptor(t *testing.T, ca *pki.Authority, auth string) (url string) {
	t.Helper()
	ln := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer raw.Close()
				b := bufio.NewReader(raw)
				req, err := http.ReadRequest(b)
				if err != nil || req.Method != http.MethodConnect {
					return
				}
				if req.Header.Get("Proxy-Authorization") != auth {
					fmt.Fprint(raw, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
					return
				}
				fmt.Fprint(raw, "HTTP/1.1 200 OK\r\n\r\n")
				tls.Server(raw, &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
					pair, err := ca.IssueKeyPair(pki.Template{CommonName: h.ServerName, DNSNames: []string{h.ServerName}, Server: true}, time.Now())
					return &pair, err
				}}).Handshake()
			}()
		}
	}()
	return "http://" + ln.Addr().String()
}

func pool(cas ...*pki.Authority) *x509.CertPool {
	p := x509.NewCertPool()
	for _, ca := range cas {
		p.AddCert(ca.Certificate())
	}
	return p
}

func look(t *testing.T, c probe.Config, target opencmg.ProbeTarget) opencmg.Probe {
	t.Helper()
	r := must(probe.New(c))(t).Look(t.Context(), []opencmg.ProbeTarget{target})
	if len(r.Probes) != 1 || r.Time.IsZero() {
		t.Fatalf("report: %+v", r)
	}
	return r.Probes[0]
}

// TestLook looks at one host that is as it should be and at each thing that can
// be wrong with it.
func TestLook(t *testing.T) {
	public, site, inspector := authority(t, "Public Root"), authority(t, "Site CA"), authority(t, "Snoop Inspection CA")
	webAddr, webSent := serve(t, public, pki.Template{CommonName: "web", DNSNames: []string{"web.example.com"}})
	tunnelAddr, tunnelSent := serve(t, site, pki.Template{CommonName: "gw/0"})
	snoopAddr, _ := serve(t, inspector, pki.Template{CommonName: "web", DNSNames: []string{"web.example.com"}})
	// An inspector that knows HTTP only refuses the tunnel's protocol.
	web1 := must(inspector.IssueKeyPair(pki.Template{CommonName: "web", DNSNames: []string{"web.example.com"}, Server: true}, time.Now()))(t)
	httpOnly := must(tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{web1}, NextProtos: []string{"http/1.1"}}))(t)
	defer httpOnly.Close()
	go http.Serve(httpOnly, http.NotFoundHandler())
	ln := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	closed := ln.Addr().String()
	ln.Close()
	credentials := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(credentials, []byte("user:word\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	proxy := interceptor(t, inspector, "")
	locked := interceptor(t, inspector, "Basic dXNlcjp3b3Jk")
	to := func(addr string) []string {
		return []string{"web.example.com:443:" + addr, "gw.example.com:10140:" + addr}
	}
	web := opencmg.ProbeTarget{Kind: opencmg.ProbeHost, Host: "web.example.com", Port: 443}
	tun := opencmg.ProbeTarget{Kind: opencmg.ProbeTunnel, Host: "gw.example.com", Port: 10140, Transport: "tcp-tls", Gateway: "gw"}
	with := func(target opencmg.ProbeTarget, change func(*opencmg.ProbeTarget)) opencmg.ProbeTarget {
		change(&target)
		return target
	}
	trustsAll := string(public.CertificatePEM()) + string(inspector.CertificatePEM())
	for _, tt := range []struct {
		name      string
		out       outbound.Config
		target    opencmg.ProbeTarget
		ok        bool
		via       string
		inspector string // part of it
		problem   string // part of it
	}{
		{"a public host", outbound.Config{ConnectTo: to(webAddr), CAPEM: trustsAll}, web, true, opencmg.ViaConnectTo, "", ""},
		{"an inspector that is trusted", outbound.Config{ConnectTo: to(snoopAddr), CAPEM: trustsAll}, web, true, opencmg.ViaConnectTo, "Snoop Inspection CA", ""},
		{"an inspector that is not trusted", outbound.Config{ConnectTo: to(snoopAddr), CAPEM: string(public.CertificatePEM())}, web, false, opencmg.ViaConnectTo, "Snoop Inspection CA", "unknown authority"},
		{"a private host", outbound.Config{ConnectTo: to(snoopAddr), CAPEM: trustsAll}, with(web, func(p *opencmg.ProbeTarget) { p.Private = true }), true, opencmg.ViaConnectTo, "", ""},
		{"an inspecting proxy", outbound.Config{Proxy: proxy, CAPEM: trustsAll}, web, true, opencmg.ViaProxy, "Snoop Inspection CA", ""},
		{"a proxy that wants credentials", outbound.Config{Proxy: locked, CAPEM: trustsAll}, web, false, opencmg.ViaProxy, "", "Proxy Authentication Required"},
		{"a proxy with credentials", outbound.Config{Proxy: locked, ProxyCredentialsFile: credentials, CAPEM: trustsAll}, web, true, opencmg.ViaProxy, "Snoop Inspection CA", ""},
		{"another host's certificate", outbound.Config{ConnectTo: []string{"other.example.com:443:" + webAddr}, CAPEM: trustsAll}, with(web, func(p *opencmg.ProbeTarget) { p.Host = "other.example.com" }), false, opencmg.ViaConnectTo, "", "web.example.com"},
		{"a closed port", outbound.Config{ConnectTo: to(closed)}, web, false, opencmg.ViaConnectTo, "", "refused"},
		{"nothing is allowed", outbound.Config{ConnectTo: []string{"a:1:b:1"}, ConnectOnly: true}, web, false, opencmg.ViaDNS, "", "connectOnly"},
		{"a tunnel", outbound.Config{ConnectTo: to(tunnelAddr)}, tun, true, opencmg.ViaConnectTo, "", ""},
		{"a tunnel over HTTPS", outbound.Config{ConnectTo: to(tunnelAddr)}, with(tun, func(p *opencmg.ProbeTarget) { p.Transport = "https" }), true, opencmg.ViaConnectTo, "", ""},
		{"an inspected tunnel", outbound.Config{ConnectTo: to(snoopAddr), CAPEM: trustsAll}, tun, false, opencmg.ViaConnectTo, "Snoop Inspection CA", "unknown authority"},
		{"an inspector that knows no tunnels", outbound.Config{ConnectTo: to(httpOnly.Addr().String()), CAPEM: trustsAll}, tun, false, opencmg.ViaConnectTo, "Snoop Inspection CA", "unknown authority"},
		{"an inspected tunnel through a proxy", outbound.Config{Proxy: proxy, CAPEM: trustsAll}, with(tun, func(p *opencmg.ProbeTarget) { p.Transport = "https" }), false, opencmg.ViaProxy, "Snoop Inspection CA", "unknown authority"},
		{"a service, whoever answers", outbound.Config{ConnectTo: to(snoopAddr)}, with(web, func(p *opencmg.ProbeTarget) { p.Kind = opencmg.ProbeService }), true, opencmg.ViaConnectTo, "", ""},
		{"a name that a rule maps", outbound.Config{ConnectTo: to(webAddr)}, opencmg.ProbeTarget{Kind: opencmg.ProbeName, Host: "web.example.com"}, true, opencmg.ViaConnectTo, "", ""},
		{"a name that nothing maps", outbound.Config{ConnectTo: to(webAddr), ConnectOnly: true}, opencmg.ProbeTarget{Kind: opencmg.ProbeName, Host: "gone.example.com"}, false, "", "", "DNS was not asked"},
		{"no host", outbound.Config{}, with(web, func(p *opencmg.ProbeTarget) { p.Port = 0 }), false, "", "", "port 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := look(t, probe.Config{Outbound: tt.out, SiteCA: site.Certificate(), SystemRoots: pool(public)}, tt.target)
			if f.OK != tt.ok || f.Via != tt.via || !strings.Contains(f.Error, tt.problem) || (f.Error == "") != tt.ok {
				t.Errorf("%+v, want ok %v via %q and an error with %q", f, tt.ok, tt.via, tt.problem)
			}
			if (f.Inspector == "") != (tt.inspector == "") || !strings.Contains(f.Inspector, tt.inspector) {
				t.Errorf("inspector %q, want %q", f.Inspector, tt.inspector)
			}
			if f.OK && f.Kind != opencmg.ProbeName && len(f.Certificate) != 64 {
				t.Errorf("no thumbprint: %+v", f)
			}
		})
	}
	if webSent.Load()+tunnelSent.Load() != 0 {
		t.Errorf("%d bytes were sent after the handshake", webSent.Load()+tunnelSent.Load())
	}
}

// TestNames asks the system's resolver for the one name that every system has.
func TestNames(t *testing.T) {
	f := look(t, probe.Config{}, opencmg.ProbeTarget{Kind: opencmg.ProbeName, Host: "localhost"})
	if !f.OK || f.Via != opencmg.ViaDNS || len(f.Addresses) == 0 {
		t.Errorf("%+v", f)
	}
}

// TestBounds: a report has at most MaxProbes findings, and errors are short.
func TestBounds(t *testing.T) {
	var many []opencmg.ProbeTarget
	for i := range opencmg.MaxProbes + 1 {
		many = append(many, opencmg.ProbeTarget{Kind: opencmg.ProbeHost, Host: strings.Repeat("x", 1000) + strconv.Itoa(i) + "/", Port: 1})
	}
	r := must(probe.New(probe.Config{}))(t).Look(t.Context(), many)
	if len(r.Probes) != opencmg.MaxProbes || len(r.Probes[0].Error) > 500 {
		t.Errorf("%d probes, an error of %d bytes", len(r.Probes), len(r.Probes[0].Error))
	}
}

// TestWatch looks soon while something is wrong, and seldom when all is well.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		began, looks := time.Now(), []time.Duration{}
		w := probe.WatchWith(func(_ context.Context, list []opencmg.ProbeTarget) opencmg.ProbeReport {
			looks = append(looks, time.Since(began))
			return opencmg.ProbeReport{Time: time.Now(), Probes: []opencmg.Probe{{ProbeTarget: list[0], OK: list[0].Host == "b" || len(looks) >= 3}}}
		})
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		synctest.Wait()
		if w.Report() != nil || len(looks) != 0 {
			t.Errorf("looked without a target: %v", looks)
		}
		w.Use([]opencmg.ProbeTarget{{Kind: opencmg.ProbeName, Host: "a"}})
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		// At once, after 1 s and 2 s more, and then every five minutes.
		want := []time.Duration{0, time.Second, 3 * time.Second, 5*time.Minute + 3*time.Second, 10*time.Minute + 3*time.Second}
		if fmt.Sprint(looks) != fmt.Sprint(want) {
			t.Errorf("looked at %v, want %v", looks, want)
		}
		if r := w.Report(); r == nil || !r.Probes[0].OK {
			t.Errorf("the last report: %+v", r)
		}
		select {
		case <-w.Changes():
		default:
			t.Error("nobody was told")
		}
		w.Use([]opencmg.ProbeTarget{{Kind: opencmg.ProbeName, Host: "a"}}) // the same
		synctest.Wait()
		if len(looks) != len(want) {
			t.Error("looked again for the same targets")
		}
		w.Use([]opencmg.ProbeTarget{{Kind: opencmg.ProbeName, Host: "b"}})
		synctest.Wait()
		if r := w.Report(); r == nil || r.Probes[0].Host != "b" {
			t.Errorf("after other targets: %+v", r)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
