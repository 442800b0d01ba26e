// Package outbound is the one way from a process to the outside: every call to
// Entra, Graph, Resource Manager, a key vault, blob storage, a certification
// authority or a revocation list goes through a client made here, with a
// forward proxy, additional roots, and addresses that replace what DNS would
// say. The real host names stay in the code and in TLS.
//
// A [Config] is the configuration key "outbound" of every role that calls out;
// [Flags] are the same settings on a command line. [Config.Client] makes the
// HTTP client.
package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
)

// A Config says how to get outside. Its zero value goes straight out, trusting
// the system's roots.
type Config struct {
	// Proxy is the URL of a forward proxy, e.g. http://proxy.example.com:8080.
	// Addresses that ConnectTo maps do not go through it.
	Proxy string `yaml:"proxy,omitempty"`
	// ProxyCredentialsFile holds user:password on its first line.
	ProxyCredentialsFile string `yaml:"proxyCredentialsFile,omitempty"`
	// CAFile holds PEM certificates that are trusted besides the system's.
	CAFile string `yaml:"caFile,omitempty"`
	// CAPEM holds more of them as text, for a document that must stand alone.
	CAPEM string `yaml:"caPEM,omitempty"`
	// ConnectTo lists HOST:PORT:HOST:PORT: who wants the first pair is
	// connected to the second one (curl's grammar; an empty part matches
	// anything or changes nothing). When several rules match, their addresses
	// are tried in order.
	ConnectTo []string `yaml:"connectTo,omitempty"`
	// ConnectOnly refuses every address that no rule of ConnectTo maps, and
	// logs it once.
	ConnectOnly bool `yaml:"connectOnly,omitempty"`

	moreCAFiles []string // of the command line
}

// Validate checks what can be checked without reading a file.
func (c Config) Validate() error {
	if _, err := c.parseProxy(); err != nil {
		return err
	}
	if c.CAPEM != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(c.CAPEM)) {
		return opencmg.Errorf(opencmg.Invalid, "outbound.caPEM: holds no PEM certificate")
	}
	if _, err := ParseRules(c.ConnectTo); err != nil {
		return fmt.Errorf("outbound.connectTo: %w", err)
	}
	if c.ConnectOnly && len(c.ConnectTo) == 0 {
		return opencmg.Errorf(opencmg.Invalid, "outbound.connectOnly: refuses everything unless outbound.connectTo maps the addresses that are needed")
	}
	return nil
}

// ParseRules reads connect-to rules.
func ParseRules(rules []string) ([]opencmg.ConnectTo, error) {
	var to []opencmg.ConnectTo
	for _, s := range rules {
		r, err := opencmg.ParseConnectTo(s)
		if err != nil {
			return nil, err
		}
		to = append(to, r)
	}
	return to, nil
}

func (c Config) parseProxy() (*url.URL, error) {
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
	return u, nil
}

// ProxyURL returns the proxy with its credentials, or nil. Relative paths are
// relative to base.
func (c Config) ProxyURL(base string) (*url.URL, error) {
	u, err := c.parseProxy()
	if u == nil || err != nil {
		return nil, err
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

// roots returns the system's certificates and the additional ones; nil when
// there are none to add.
func (c Config) roots(base string) (*x509.CertPool, error) {
	files := c.moreCAFiles
	if c.CAFile != "" {
		files = append(slices.Clone(files), relativeTo(base, c.CAFile))
	}
	if len(files) == 0 && c.CAPEM == "" {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("outbound.caFile: %w", err)
		}
		if !pool.AppendCertsFromPEM(b) {
			return nil, opencmg.Errorf(opencmg.Invalid, "outbound.caFile: %s holds no PEM certificate", f)
		}
	}
	if c.CAPEM != "" && !pool.AppendCertsFromPEM([]byte(c.CAPEM)) {
		return nil, opencmg.Errorf(opencmg.Invalid, "outbound.caPEM: holds no PEM certificate")
	}
	return pool, nil
}

// PEM returns the additional certificates as one text, for a document that must
// stand alone.
func (c Config) PEM(base string) (string, error) {
	files := c.moreCAFiles
	if c.CAFile != "" {
		files = append(slices.Clone(files), relativeTo(base, c.CAFile))
	}
	text := c.CAPEM
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return "", fmt.Errorf("outbound.caFile: %w", err)
		}
		text = strings.TrimRight(text, "\n") + "\n" + string(b)
	}
	return strings.TrimLeft(text, "\n"), nil
}

// Client returns an HTTP client that goes this way. timeout bounds each call
// with its body; zero does not. Relative paths are relative to base. log may be
// nil; it receives the addresses that ConnectOnly refuses.
func (c Config) Client(base string, timeout time.Duration, log *slog.Logger) (*http.Client, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	proxy, err := c.ProxyURL(base)
	if err != nil {
		return nil, err
	}
	roots, err := c.roots(base)
	if err != nil {
		return nil, err
	}
	rules, err := ParseRules(c.ConnectTo)
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &route{rules: rules, only: c.ConnectOnly, proxy: proxy, log: log}
	return &http.Client{Timeout: timeout, Transport: &http.Transport{
		Proxy:               r.proxyFor,
		DialContext:         r.dial,
		TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 4,
		IdleConnTimeout:     90 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second,
	}}, nil
}

// Dialer returns what connects straight, by the rules and without the proxy.
// log may be nil.
func (c Config) Dialer(log *slog.Logger) (func(ctx context.Context, network, addr string) (net.Conn, error), error) {
	rules, err := ParseRules(c.ConnectTo)
	if err != nil {
		return nil, fmt.Errorf("outbound.connectTo: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return (&route{rules: rules, only: c.ConnectOnly, log: log}).dial, nil
}

// Direct returns the same way without the proxy, for addresses such as a
// cloud's instance metadata that only this machine reaches.
func (c Config) Direct() Config {
	c.Proxy, c.ProxyCredentialsFile = "", ""
	return c
}

// A route chooses addresses.
type route struct {
	rules []opencmg.ConnectTo
	only  bool
	proxy *url.URL
	log   *slog.Logger

	mu      sync.Mutex // guards refused
	refused map[string]bool
}

// maxRefused bounds how many refused addresses are remembered: some come from
// certificates that strangers present.
const maxRefused = 1000

// addresses returns where to connect to for an address, in order; none means
// what DNS says. It is an error when that is not allowed.
func (r *route) addresses(host, port string) ([]string, error) {
	to := opencmg.ConnectAddresses(r.rules, host, port)
	if len(to) > 0 || !r.only {
		return to, nil
	}
	addr := net.JoinHostPort(host, port)
	r.mu.Lock()
	first := !r.refused[addr] && len(r.refused) < maxRefused
	if first {
		if r.refused == nil {
			r.refused = map[string]bool{}
		}
		r.refused[addr] = true
	}
	r.mu.Unlock()
	err := opencmg.Errorf(opencmg.Forbidden, "no connection to %s: connectOnly is set and no connect-to rule maps it; "+
		"add the rule %s:HOST:PORT with the address to use", addr, addr)
	if first {
		r.log.Warn("outward connection refused", "address", addr, "err", err)
	}
	return nil, err
}

// proxyFor sends a request through the proxy unless a rule says where its
// host is. What may not go out does not go out through a proxy either.
func (r *route) proxyFor(req *http.Request) (*url.URL, error) {
	if r.proxy == nil {
		return nil, nil
	}
	port := req.URL.Port()
	if port == "" {
		if port = "443"; req.URL.Scheme == "http" {
			port = "80"
		}
	}
	to, err := r.addresses(req.URL.Hostname(), port)
	if err != nil || len(to) > 0 {
		return nil, err
	}
	return r.proxy, nil
}

// dial tries the addresses in order, as with a name that has several.
func (r *route) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	addresses, err := r.addresses(host, port)
	if err != nil {
		return nil, err
	}
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

func relativeTo(base, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(base, path)
}
