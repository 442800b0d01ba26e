package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/opencmg/opencmg/pki"
)

const (
	serviceName  = "gw.bench.test"
	externalRoot = "/CCM_Proxy_MutualAuth/8"
)

// An environment holds the certificates and addresses that the systems share:
// the same keys and chains for all, so that all do the same TLS work.
type environment struct {
	dir    string
	origin string
	site   *pki.Authority

	mu      sync.Mutex // guards what follows
	ended   bool
	running []*process
}

// started notes a process for interrupt.
func (e *environment) started(p *process) (*process, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended {
		p.stop()
		return nil, context.Canceled
	}
	e.running = append(e.running, p)
	return p, nil
}

// interrupt stops every process, and those that are still to start.
func (e *environment) interrupt() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = true
	for _, p := range slices.Backward(e.running) {
		p.stop()
	}
}

// newEnvironment writes ECDSA P-256 certificates: an outside CA for the edge
// and the clients, and a site CA for what joins the two proxies.
func newEnvironment(dir string) (*environment, error) {
	now := time.Now()
	e := &environment{dir: dir}
	web, err := pki.NewAuthority("Bench outside CA", now)
	if err != nil {
		return nil, err
	}
	if e.site, err = pki.NewAuthority("Bench site CA", now); err != nil {
		return nil, err
	}
	for name, a := range map[string]*pki.Authority{"web-ca": web, "site-ca": e.site} {
		if err := pki.WriteFile(filepath.Join(dir, name+".pem"), a.CertificatePEM(), 0o644); err != nil {
			return nil, err
		}
	}
	if err := e.site.Save(dir, "site"); err != nil {
		return nil, err
	}
	for _, c := range []struct {
		file string
		ca   *pki.Authority
		t    pki.Template
	}{
		{"edge", web, pki.Template{CommonName: serviceName, DNSNames: []string{serviceName}, Server: true}},
		{"client", web, pki.Template{CommonName: "bench client", Client: true}},
		{"inner", e.site, pki.Template{CommonName: "inner", DNSNames: []string{"inner.bench.test"}, Server: true}},
		{"outer", e.site, pki.Template{CommonName: "outer", Client: true}},
	} {
		c.t.NotAfter = now.Add(24 * time.Hour)
		pair, err := c.ca.IssueKeyPair(c.t, now)
		if err != nil {
			return nil, err
		}
		if err := pki.SaveKeyPair(filepath.Join(dir, c.file+".pem"), filepath.Join(dir, c.file+".key"), pair); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// start runs a child with the environment.
func (e *environment) start(role string, extra any) (*process, error) {
	c := childConfig{Dir: e.dir, Origin: e.origin}
	switch v := extra.(type) {
	case loadConfig:
		c.Load = v
	case map[string]string:
		c.Peer = v
	}
	p, err := startProcess(role, c)
	if err != nil {
		return nil, err
	}
	return e.started(p)
}

func loadPool(dir, name string) (*x509.CertPool, error) {
	certs, err := pki.LoadCertificates(filepath.Join(dir, name+".pem"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool, nil
}

func loadPair(dir, name string) (tls.Certificate, error) {
	return tls.LoadX509KeyPair(filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key"))
}

// clientTLS is what every load client uses.
func clientTLS(dir string) (*tls.Config, error) {
	pool, err := loadPool(dir, "web-ca")
	if err != nil {
		return nil, err
	}
	pair, err := loadPair(dir, "client")
	if err != nil {
		return nil, err
	}
	return &tls.Config{RootCAs: pool, ServerName: serviceName, Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS13}, nil
}

// freePort returns a port for a program that can not say which one it took.
func freePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}
