package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

type tlsCertificate = tls.Certificate

// An OutboundConfig is the one way to the outside of a process: a forward
// proxy, additional roots, and addresses that replace what DNS would say.
type OutboundConfig struct {
	// Proxy is the URL of a forward proxy, e.g. http://proxy.example.com:8080.
	Proxy string `yaml:"proxy,omitempty"`
	// ProxyCredentialsFile holds user:password on its first line.
	ProxyCredentialsFile string `yaml:"proxyCredentialsFile,omitempty"`
	// CAFile holds PEM certificates that are trusted besides the system's.
	CAFile string `yaml:"caFile,omitempty"`
	// ConnectTo lists HOST:PORT:HOST:PORT: who wants the first pair is
	// connected to the second one (curl's grammar; an empty part matches
	// anything or changes nothing).
	ConnectTo []string `yaml:"connectTo,omitempty"`
}

// proxyURL returns the proxy with its credentials, or nil.
func (c OutboundConfig) proxyURL(base string) (*url.URL, error) {
	if c.Proxy == "" {
		return nil, nil
	}
	u, err := url.Parse(c.Proxy)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, opencmg.Errorf(opencmg.Invalid, "outbound.proxy: must be a URL such as http://proxy.example.com:8080")
	}
	if u.User != nil {
		return nil, opencmg.Errorf(opencmg.Invalid, "outbound.proxy: keep the credentials out of the URL; put user:password into a file and name it as proxyCredentialsFile")
	}
	if c.ProxyCredentialsFile != "" {
		b, err := os.ReadFile(relativeTo(base, c.ProxyCredentialsFile))
		if err != nil {
			return nil, fmt.Errorf("outbound.proxyCredentialsFile: %w", err)
		}
		line, _, _ := strings.Cut(string(b), "\n")
		user, password, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			return nil, opencmg.Errorf(opencmg.Invalid, "outbound.proxyCredentialsFile: the first line must be user:password")
		}
		u.User = url.UserPassword(user, password)
	}
	return u, nil
}

// client returns an HTTP client that goes this way.
func (c OutboundConfig) client(base string, timeout time.Duration) (*http.Client, error) {
	proxy, err := c.proxyURL(base)
	if err != nil {
		return nil, err
	}
	t := &http.Transport{
		Proxy:               http.ProxyURL(proxy),
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 4,
		IdleConnTimeout:     90 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second,
	}
	if c.CAFile != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		b, err := os.ReadFile(relativeTo(base, c.CAFile))
		if err != nil {
			return nil, fmt.Errorf("outbound.caFile: %w", err)
		}
		if !pool.AppendCertsFromPEM(b) {
			return nil, opencmg.Errorf(opencmg.Invalid, "outbound.caFile: %s holds no PEM certificate", c.CAFile)
		}
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	to, err := parseConnectTo(c.ConnectTo)
	if err != nil {
		return nil, fmt.Errorf("outbound.connectTo: %w", err)
	}
	t.DialContext = to.dial
	return &http.Client{Transport: t, Timeout: timeout}, nil
}

// connectTo replaces addresses before they are dialled.
type connectTo []opencmg.ConnectTo

func parseConnectTo(rules []string) (connectTo, error) {
	var to connectTo
	for _, s := range rules {
		r, err := opencmg.ParseConnectTo(s)
		if err != nil {
			return nil, err
		}
		to = append(to, r)
	}
	return to, nil
}

// dial tries the addresses in order, as a resolver with several answers would.
func (to connectTo) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	addresses := opencmg.ConnectAddresses(to, host, port)
	if len(addresses) == 0 {
		addresses = []string{addr}
	}
	d := net.Dialer{Timeout: 10 * time.Second}
	var errs []error
	for _, a := range addresses {
		conn, err := d.DialContext(ctx, network, a)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}
