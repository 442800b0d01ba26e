package gateway

// Who is calling. A connection comes in here, proves its key in the TLS
// handshake, and its requests are read one after another; auth.go says whether
// to believe the caller. forward.go goes on from there: which endpoint, which
// tunnel.

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/opencmg/opencmg/internal/http1"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/tunnel"
)

const (
	protoHTTP1 = "http/1.1"
	protoHTTP2 = "h2"
)

// serverTLS is the configuration of the client port. Tunnels over HTTPS and a
// certification authority's checks come in on the same port and tell by ALPN;
// everything else is a client.
func (s *Server) serverTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			for _, p := range hello.SupportedProtos {
				switch p {
				case tunnel.ALPNHTTPS, tunnel.ALPNTCPTLS:
					return s.tunnelTLS, nil
				case pki.ALPNChallenge:
					return s.snap.Load().challenges.tls(hello.ServerName), nil
				}
			}
			return s.snap.Load().tls, nil
		},
	}
}

// clientTLS is what clients meet under one published configuration.
func (s *Server) clientTLS(minVersion uint16) *tls.Config {
	return &tls.Config{
		MinVersion: minVersion,
		// TLS 1.2 only with ECDHE and an AEAD (cmg-behaviour G31).
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305,
		},
		NextProtos: []string{protoHTTP2, protoHTTP1},
		// Asked for and not verified here: a self-signed certificate proves a
		// key to which a token is bound, and a refused PKI certificate gets an
		// answer that says so instead of an alert.
		ClientAuth:     tls.RequestClientCert,
		GetCertificate: s.certificateFor,
		// An answer of a few KiB is one record and one system call.
		DynamicRecordSizingDisabled: true,
	}
}

// certificateFor returns the server certificate, or nothing when it does not
// cover the name that the client asked for; crypto/tls then sends the alert
// unrecognized_name.
func (s *Server) certificateFor(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	cert, err := s.cfg.GetCertificate(hello)
	if err != nil || cert == nil {
		return cert, err
	}
	if hello.ServerName != "" && cert.Leaf != nil && cert.Leaf.VerifyHostname(hello.ServerName) != nil {
		return nil, nil
	}
	if s.lastCert.Swap(cert) != cert {
		s.metrics.certificate("server", cert)
	}
	return cert, nil
}

// accept hands connections to serve, each in a goroutine of its own, until the
// listener is closed.
func (s *Server) accept(ln net.Listener, wg *sync.WaitGroup, serve func(net.Conn)) error {
	delay := time.Duration(0)
	for {
		c, err := ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			// Out of descriptors, or a client gone before we came: it passes.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			s.log.Warn("accept connection", "component", componentService, "address", ln.Addr().String(), "err", err)
			select {
			case <-s.closing:
				return nil
			case <-time.After(delay):
			}
			continue
		}
		delay = 0
		wg.Go(func() { serve(c) })
	}
}

// A clientConn is one client connection. Its goroutine owns everything but
// the watch.
type clientConn struct {
	s     *Server
	raw   net.Conn
	tls   *tls.Conn
	r     http1.Reader
	begun func() // called when the first byte of a request is there
	watch watch
	peer  peer
	x     exchange
	body  http1.Body
	out   http1Responder
}

// serveHTTPS makes the handshake and leaves the connection to whoever speaks
// its protocol.
func (s *Server) serveHTTPS(raw net.Conn) {
	limits := &s.snap.Load().limits
	if n := s.connections.Add(1); n > limits.connections {
		s.connections.Add(-1)
		s.metrics.handshakes.WithLabelValues("too_many").Inc()
		raw.Close()
		return
	}
	s.metrics.connections.Inc()
	c := &clientConn{s: s, raw: raw}
	c.watch.tick, c.watch.conn, c.watch.fd = &s.tick, raw, fdOf(raw)
	c.watch.enter(phaseHandshake)
	s.watches.add(&c.watch)
	c.tls = tls.Server(raw, s.edgeTLS)
	c.r.Reset(c.tls)
	c.begun = func() { c.watch.enter(phaseHead) }
	proto, err := s.handshake(c)
	switch {
	case err != nil:
		c.close()
	case proto == tunnel.ALPNHTTPS || proto == tunnel.ALPNTCPTLS:
		// Tunnels are not counted as clients and have a watch of their own.
		c.forget()
		s.wg.Go(func() { s.serveTunnel(c.tls) })
	case proto == pki.ALPNChallenge:
		c.close() // the certificate was all that is asked for (RFC 8737 3)
	case proto == protoHTTP2:
		s.serveHTTP2(c)
	default:
		// The stack that the handshake needed is given back by going on in a
		// new goroutine.
		s.clients.Go(func() {
			defer c.close()
			for c.next() {
			}
		})
	}
}

func (s *Server) handshake(c *clientConn) (proto string, err error) {
	if err = c.tls.Handshake(); err == nil && !c.watch.enter(phaseWork) {
		err = errTooSlow
	}
	if err != nil {
		s.metrics.handshakes.WithLabelValues("failed").Inc()
		if peer, ok := errors.AsType[*pki.PeerError](err); ok {
			s.log.Warn("tunnel refused", "component", componentService, "remote", c.raw.RemoteAddr().String(), "err", peer)
		} else if s.debug() {
			s.log.Debug("TLS handshake failed", "component", componentHandler, "remote", c.raw.RemoteAddr().String(), "err", err)
		}
		return "", err
	}
	s.metrics.handshakes.WithLabelValues("ok").Inc()
	cs := c.tls.ConnectionState()
	c.peer.init(c.raw.RemoteAddr(), cs.PeerCertificates)
	return cs.NegotiatedProtocol, nil
}

var errTooSlow = errors.New("took too long")

// forget ends the server's care for the connection without closing it.
func (c *clientConn) forget() {
	c.s.watches.remove(&c.watch)
	c.s.connections.Add(-1)
	c.s.metrics.connections.Dec()
}

func (c *clientConn) close() {
	c.forget()
	c.tls.Close()
	c.r.Release()
}

// next waits for one request and answers it. It reports whether the
// connection can carry another.
func (c *clientConn) next() bool {
	if !c.receive() {
		return false
	}
	c.s.handle(&c.x)
	c.x.release()
	if c.out.close {
		c.linger()
		return false
	}
	return c.drain()
}

// receive waits for a request and reads its head into c.x. It reports false
// when there is none or it was refused, and the connection ends.
func (c *clientConn) receive() bool {
	s := c.s
	if s.draining.Load() || !c.watch.enter(phaseIdle) {
		return false
	}
	head, err := c.readHead()
	c.begin()
	x := &c.x
	if err != nil {
		return c.refuseHead(err)
	}
	if !c.watch.enter(phaseWork) {
		return false
	}
	x.begin()
	h := &x.scratch.req
	if err := h.Parse(head); err != nil {
		c.body.Reset(&c.r, 0, false)
		x.refuse(malformed(err))
		x.release()
		c.linger()
		return false
	}
	c.out.close, c.out.minor, c.out.expect = h.Close || h.Minor == 0, h.Minor, h.Expect100
	switch {
	case h.Chunked:
		x.bodyLength = -1
	case h.ContentLength > 0:
		x.bodyLength = h.ContentLength
	}
	c.body.Reset(&c.r, x.bodyLength, h.Chunked)
	x.body, x.http1 = &c.body, c
	return true
}

// begin forgets the last request. The configuration is that of this moment:
// whoever blocks a client now means this request too.
func (c *clientConn) begin() {
	c.x = exchange{s: c.s, snap: c.s.snap.Load(), peer: &c.peer, watch: &c.watch, out: &c.out}
	c.out = http1Responder{c: c, close: true}
}

// refuseHead answers what did not become a request, as far as anybody would
// read it.
func (c *clientConn) refuseHead(err error) bool {
	r := &refusal{close: true}
	var parse *http1.ParseError
	switch {
	case err == errDrains:
		c.body.Reset(&c.r, 0, false)
		c.linger()
		return false
	case errors.As(err, &parse):
		r = malformed(err)
	case errors.Is(err, http1.ErrHeadTooLarge):
		r.status, r.cause, r.verdict = http.StatusRequestHeaderFieldsTooLarge, "head-too-large", "the request head is larger than limits.maxHeaderBytes"
	case c.watch.phase() == phaseHead && c.watch.cause() == causeTimeout:
		r.status, r.cause, r.verdict = http.StatusRequestTimeout, "head-timeout", "the request head did not arrive within limits.headerTimeout"
	default:
		return false // closed, broken or idle too long
	}
	c.watch.recover()
	c.body.Reset(&c.r, 0, false)
	c.x.begin()
	defer c.x.release()
	c.x.refuse(r)
	c.linger()
	return false
}

// maxDrain is how much of an unread body is read away to keep a connection.
const maxDrain = 64 << 10

// drain reads what the answer left of the request's body.
func (c *clientConn) drain() bool {
	if c.body.Done() {
		return true
	}
	if !c.watch.enter(phaseReadBody) {
		return false
	}
	buf := getBuffer()
	defer putBuffer(buf)
	for left := maxDrain; left > 0; {
		n, err := c.body.Read(buf[:])
		left -= n
		if err == io.EOF || err == nil && c.body.Done() {
			return true
		}
		if err != nil {
			return false
		}
	}
	return false
}

// linger lets the client read the answer before the connection ends: closing
// with unread bytes would make its system throw the answer away.
func (c *clientConn) linger() {
	if !c.watch.enter(phaseClosing) || c.body.Done() && c.r.Buffered() == 0 && c.out.clean {
		return
	}
	if c.tls.CloseWrite() != nil {
		return
	}
	c.raw.SetReadDeadline(time.Now().Add(closeTimeout * time.Millisecond))
	buf := getBuffer()
	defer putBuffer(buf)
	for left := 4 * maxDrain; left > 0; {
		n, err := c.raw.Read(buf[:])
		if left -= n; err != nil {
			return
		}
	}
}

// A relayBuffer holds what is on its way to a client.
type relayBuffer [32 << 10]byte

var bufferPool = sync.Pool{New: func() any { return new(relayBuffer) }}

func getBuffer() *relayBuffer { return bufferPool.Get().(*relayBuffer) }

func putBuffer(b *relayBuffer) { bufferPool.Put(b) }
