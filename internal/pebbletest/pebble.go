// Package pebbletest runs Pebble, the ACME server that Let's Encrypt makes for
// tests: the real program, built from a pinned version, as a process of its
// own on loopback. Every name leads to 127.0.0.1.
package pebbletest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/opencmg/opencmg/pki"
)

// version is that of Pebble.
const version = "v2.10.3"

// Blocked is a name that the authority refuses.
const Blocked = "blocked.example"

// Options say where the authority looks for challenges, and for whom it works.
type Options struct {
	HTTPAddr string // of http-01, as host:port on 127.0.0.1
	TLSAddr  string // of tls-alpn-01
	// Bindings, if set, are the external accounts that it asks for: keys in
	// base64url by key ID.
	Bindings map[string]string
	// Validity of the certificates that it issues; 0 means five years.
	Validity time.Duration
}

// A Server is a running Pebble.
type Server struct {
	Directory string
	HTTP      *http.Client   // trusts its HTTPS certificate
	Roots     *x509.CertPool // of the certificates that it issues
}

// Start builds and starts Pebble and ends it with the test. The test is skipped
// when Pebble can not be had.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and runs Pebble")
	}
	program := build(t)
	dir := t.TempDir()
	ca, err := pki.NewAuthority("Pebble's own CA", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.IssueKeyPair(pki.Template{DNSNames: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}, Server: true}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := pki.SaveKeyPair(cert, key, pair); err != nil {
		t.Fatal(err)
	}
	listen, management := freeAddress(t), freeAddress(t)
	config := map[string]any{"pebble": map[string]any{
		"listenAddress": listen, "managementListenAddress": management, "certificate": cert, "privateKey": key,
		"httpPort": port(t, o.HTTPAddr), "tlsPort": port(t, o.TLSAddr), "keyAlgorithm": "ecdsa",
		"domainBlocklist": []string{Blocked}, "retryAfter": map[string]int{"authz": 1, "order": 1},
		"externalAccountBindingRequired": len(o.Bindings) > 0, "externalAccountMACKeys": o.Bindings,
	}}
	if o.Validity > 0 {
		config["pebble"].(map[string]any)["certificateValidityPeriod"] = int(o.Validity / time.Second)
	}
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pebble.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, program, "-config", file, "-dnsserver", dns(t), "-strict")

	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	s := &Server{Directory: "https://" + listen + "/dir", HTTP: &http.Client{Transport: transport, Timeout: time.Minute}, Roots: x509.NewCertPool()}
	s.await(t, s.Directory)
	if !s.Roots.AppendCertsFromPEM(s.await(t, "https://"+management+"/roots/0")) {
		t.Fatal("Pebble gave no root certificate")
	}
	return s
}

func build(t testing.TB) string {
	t.Helper()
	// The module and build caches make this quick from the second time on.
	dir := t.TempDir()
	cmd := exec.Command("go", "install", "github.com/letsencrypt/pebble/v2/cmd/pebble@"+version)
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=", "CGO_ENABLED=0", "GOOS=", "GOARCH=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("Pebble can not be built; it needs a Go toolchain and the module proxy: %v\n%s", err, bytes.TrimSpace(out))
	}
	program := filepath.Join(dir, "pebble")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	return program
}

func run(t testing.TB, program string, args ...string) {
	t.Helper()
	var output lockedBuffer
	cmd := exec.Command(program, args...)
	// No random pauses, no random refusals, and every order is checked anew.
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0", "PEBBLE_AUTHZREUSE=0")
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("Pebble said:\n%s", output.tail())
		}
	})
}

// await gets a URL as soon as somebody answers there.
func (s *Server) await(t testing.TB, url string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := s.HTTP.Do(req)
		if err == nil {
			defer res.Body.Close()
			b, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != http.StatusOK {
				t.Fatalf("%s: %s, %v", url, res.Status, err)
			}
			return b
		}
		select {
		case <-ctx.Done():
			t.Fatalf("Pebble does not answer: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// dns starts a name server that knows every name as 127.0.0.1. Pebble asks it
// by TCP.
func dns(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					var size uint16
					if binary.Read(r, binary.BigEndian, &size) != nil {
						return
					}
					query := make([]byte, size)
					if _, err := io.ReadFull(r, query); err != nil {
						return
					}
					answer, err := dnsAnswer(query)
					if err != nil {
						return
					}
					c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
				}
			}()
		}
	}()
	return ln.Addr().String()
}

func dnsAnswer(query []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	m.Response, m.RecursionAvailable, m.Answers, m.Additionals = true, true, nil, nil
	for _, q := range m.Questions {
		if q.Type == dnsmessage.TypeA {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
				Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
			})
		}
	}
	return m.Pack()
}

// freeAddress finds a port that nobody listens on. Pebble can not be given an
// open socket.
func freeAddress(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func port(t testing.TB, addr string) int {
	t.Helper()
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(p)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.b.String()
	return s[max(0, len(s)-8000):]
}
