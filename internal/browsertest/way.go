package browsertest

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// A way is the only way out of a page: an HTTP proxy on loopback that ends the
// browser's TLS and begins its own to the server. That lets tests with different
// sites share one browser, whose trust, names and client certificate can not be
// changed once it runs. The protocol is what the server agreed to, and what is
// inside TLS passes unchanged.
type way struct {
	ln     net.Listener
	key    *ecdsa.PrivateKey
	hosts  map[string]string // host:port to address
	roots  *x509.CertPool
	client *tls.Certificate // or nil
	report func(kind, text string)

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex // guards certs
	certs  map[string]*tls.Certificate
}

func newWay(key *ecdsa.PrivateKey, o *Options, report func(kind, text string)) (*way, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &way{ln: ln, key: key, hosts: o.Hosts, roots: o.Roots, client: o.ClientCertificate, report: report, certs: map[string]*tls.Certificate{}}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.wg.Go(w.accept)
	return w, nil
}

// close ends every connection and waits for it.
func (w *way) close() {
	w.cancel()
	w.ln.Close()
	w.wg.Wait()
}

func (w *way) accept() {
	for {
		c, err := w.ln.Accept()
		if err != nil {
			return
		}
		w.wg.Go(func() {
			defer c.Close()
			defer context.AfterFunc(w.ctx, func() { c.Close() })()
			w.serve(c)
		})
	}
}

func (w *way) serve(c net.Conn) {
	in := bufio.NewReader(c)
	req, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	host := hostPort(req.URL.Scheme, req.Host)
	if req.Method != http.MethodConnect || in.Buffered() > 0 {
		w.report(KindHost, host+" without TLS")
		io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		return
	}
	addr, ok := w.hosts[host]
	if !ok {
		w.report(KindHost, host)
		io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		return
	}
	if addr == "" {
		addr = host
	}
	if _, err := io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	// The server is asked once it is known which protocols the browser takes.
	var server *tls.Conn
	browser := tls.Server(c, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		var err error
		if server, err = w.dial(host, addr, hello.SupportedProtos); err != nil {
			if w.ctx.Err() == nil {
				w.report(KindTLS, fmt.Sprintf("%s at %s: %v", host, addr, err))
			}
			return nil, err
		}
		cert, err := w.certificate(host)
		if err != nil {
			return nil, err
		}
		c := &tls.Config{Certificates: []tls.Certificate{*cert}}
		if agreed := server.ConnectionState().NegotiatedProtocol; agreed != "" {
			c.NextProtos = []string{agreed}
		}
		return c, nil
	}})
	err = browser.HandshakeContext(w.ctx)
	if server != nil {
		defer server.Close()
		defer context.AfterFunc(w.ctx, func() { server.Close() })()
	}
	if err != nil {
		return // the server was not good, or the browser gave up
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(server, browser)
		server.CloseWrite()
	}()
	io.Copy(browser, server)
	browser.Close()
	<-done
}

// dial reaches the server and verifies it.
func (w *way) dial(host, addr string, protocols []string) (*tls.Conn, error) {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{ServerName: name, RootCAs: w.roots, NextProtos: protocols, MinVersion: tls.VersionTLS12}
	if w.client != nil {
		c.Certificates = []tls.Certificate{*w.client}
	}
	conn, err := (&tls.Dialer{Config: c}).DialContext(w.ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return conn.(*tls.Conn), nil
}

// certificate is what the browser sees of a host. The browser accepts its key
// and looks at nothing else.
func (w *way) certificate(host string) (*tls.Certificate, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.certs[host]; c != nil {
		return c, nil
	}
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	t := &x509.Certificate{SerialNumber: serial, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if ip := net.ParseIP(name); ip != nil {
		t.IPAddresses = []net.IP{ip}
	} else {
		t.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, w.key.Public(), w.key)
	if err != nil {
		return nil, err
	}
	c := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: w.key}
	w.certs[host] = c
	return c, nil
}

// hostPort adds the port that a scheme means.
func hostPort(scheme, host string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	port := "443"
	if scheme == "http" || scheme == "ws" {
		port = "80"
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}
