package tunnel_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencmg/opencmg/tunnel"
)

// bubble runs f in a synctest bubble, whose end fails the test when a goroutine
// is left.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// pair connects two ends in memory. The first opens streams that the second's
// handler answers; both are closed at the end of the test.
func pair(t testing.TB, opener, acceptor tunnel.Config) (o, a *tunnel.Conn) {
	t.Helper()
	x, y := net.Pipe()
	return join(t, x, y, opener, acceptor)
}

func join(t testing.TB, x, y net.Conn, client, server tunnel.Config) (c, s *tunnel.Conn) {
	t.Helper()
	errs := make(chan error, 1)
	go func() {
		var err error
		s, err = tunnel.Server(context.Background(), y, server)
		errs <- err
	}()
	c, err := tunnel.Client(context.Background(), x, client)
	if err := errors.Join(err, <-errs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		s.Close()
	})
	return c, s
}

// echo answers with the request's head and body.
func echo(s *tunnel.Stream) {
	if err := s.WriteHead(s.Request().Head, false); err != nil {
		return
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := s.Read(buf)
		if _, werr := s.Write(buf[:n]); werr != nil {
			return
		}
		if err == io.EOF {
			if t := s.Trailers(); t != nil {
				s.WriteTrailers(t)
			} else {
				s.CloseWrite()
			}
			return
		}
		if err != nil {
			return
		}
	}
}

// open opens a stream or fails the test.
func open(t testing.TB, c *tunnel.Conn, r *tunnel.Request, body []byte, end bool) *tunnel.Stream {
	t.Helper()
	s, err := c.Open(r, body, end)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantAnswer reads the whole answer.
func wantAnswer(t testing.TB, s *tunnel.Stream, head string, body []byte) {
	t.Helper()
	h, end, err := s.ReadHead()
	if err != nil {
		t.Fatalf("ReadHead: %v", err)
	}
	if string(h) != head {
		t.Fatalf("head %q, want %q", h, head)
	}
	if end && len(body) > 0 {
		t.Fatalf("answer without a body, want %d bytes", len(body))
	}
	got, err := io.ReadAll(s)
	if err != nil {
		t.Fatalf("reading the body: %v", err)
	}
	if !bytes.Equal(got, body) {
		t.Fatalf("body of %d bytes, want %d", len(got), len(body))
	}
}

func wantStreamError(t testing.TB, err error, code tunnel.Code, remote, notProcessed bool) {
	t.Helper()
	var e *tunnel.StreamError
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want a stream error", err)
	}
	if e.Code != code || e.Remote != remote || e.NotProcessed != notProcessed {
		t.Fatalf("%+v, want code %v, remote %v, not processed %v", e, code, remote, notProcessed)
	}
}

func wantConnError(t testing.TB, err error, code tunnel.Code, remote bool) {
	t.Helper()
	var e *tunnel.ConnError
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want a connection error", err)
	}
	if e.Code != code || e.Remote != remote {
		t.Fatalf("%+v, want code %v, remote %v", e, code, remote)
	}
}

// pattern is n bytes that show when something is out of place.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// A testCA issues certificates for loopback.
type testCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newTestCA(t testing.TB, name string) *testCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &testCA{cert, key, pool}
}

func (ca *testCA) issue(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "gateway.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"gateway.example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// tlsPipe is a TLS connection over loopback TCP.
func tlsPipe(t testing.TB) (client, server net.Conn) {
	t.Helper()
	ca := newTestCA(t, "bench")
	cfg := &tls.Config{Certificates: []tls.Certificate{ca.issue(t)}, DynamicRecordSizingDisabled: true}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			close(accepted)
			return
		}
		accepted <- tls.Server(nc, cfg)
	}()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client = tls.Client(nc, &tls.Config{RootCAs: ca.pool, ServerName: "gateway.example", DynamicRecordSizingDisabled: true})
	server = <-accepted
	if server == nil {
		t.Fatal("nothing accepted")
	}
	return client, server
}
