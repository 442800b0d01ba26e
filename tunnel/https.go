package tunnel

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// The exchanges of HTTP/1.1 in front of the frames on the HTTPS transport: the
// upgrade (SPEC §10), and CONNECT to a forward proxy. Both are one head each
// way and nothing else, so they are read by hand, bounded and strict.

const maxHTTPHead = 8 << 10

// deadlined runs f with ctx bounding the I/O on nc.
func deadlined(ctx context.Context, nc net.Conn, f func() error) error {
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	err := f()
	if !stop() {
		err = context.Cause(ctx) // the deadline may be set after f was done
	}
	return err
}

// readHTTPHead reads a head up to and including its empty line. What follows it
// is lost, and reported by more: after a head that agrees to something nothing
// may follow, since the peer does not speak before it was spoken to.
func readHTTPHead(r io.Reader) (head []byte, more bool, err error) {
	buf := make([]byte, 0, 512)
	for {
		if len(buf) == cap(buf) {
			if len(buf) >= maxHTTPHead {
				return nil, false, fmt.Errorf("head of more than %d bytes", maxHTTPHead)
			}
			buf = append(make([]byte, 0, min(2*cap(buf), maxHTTPHead)), buf...)
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if i := bytes.Index(buf, []byte("\r\n\r\n")); i >= 0 {
			return buf[:i+4], i+4 < len(buf), nil
		}
		if err == io.EOF {
			return nil, false, io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, false, err
		}
	}
}

// An httpHead is a head with its lines taken apart.
type httpHead struct {
	first  string
	fields map[string][]string // lower-case names
}

func parseHTTPHead(b []byte) (*httpHead, error) {
	lines := strings.Split(strings.TrimSuffix(string(b), "\r\n\r\n"), "\r\n")
	h := &httpHead{first: lines[0], fields: make(map[string][]string)}
	for _, line := range lines {
		if strings.ContainsAny(line, "\r\n\x00") {
			return nil, errors.New("stray control characters in the head")
		}
	}
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			return nil, errors.New("malformed field line in the head")
		}
		name = strings.ToLower(name)
		h.fields[name] = append(h.fields[name], strings.Trim(value, " \t"))
	}
	return h, nil
}

// has reports whether the field's list of tokens has one of this name.
func (h *httpHead) has(field, token string) bool {
	for _, v := range h.fields[field] {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.Trim(t, " \t"), token) {
				return true
			}
		}
	}
	return false
}

// status parses the first line of a response.
func (h *httpHead) status() (code int, reason string, err error) {
	proto, rest, _ := strings.Cut(h.first, " ")
	number, reason, _ := strings.Cut(rest, " ")
	code, err = strconv.Atoi(number)
	if (proto != "HTTP/1.1" && proto != "HTTP/1.0") || err != nil || len(number) != 3 || code < 100 {
		return 0, "", errors.New("the answer is not HTTP/1.1")
	}
	return code, printable([]byte(reason), 100), nil
}

const (
	upgradePath  = "/tunnel"
	upgradeToken = "opencmg-tunnel"
)

// upgrade asks a gateway for a tunnel on an HTTPS connection.
func upgrade(ctx context.Context, nc net.Conn, host string) error {
	return deadlined(ctx, nc, func() error {
		if _, err := fmt.Fprintf(nc, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", upgradePath, host, upgradeToken); err != nil {
			return fmt.Errorf("asking for the tunnel: %w", err)
		}
		b, more, err := readHTTPHead(nc)
		if err != nil {
			return fmt.Errorf("asking for the tunnel: %w", err)
		}
		h, err := parseHTTPHead(b)
		if err != nil {
			return fmt.Errorf("asking for the tunnel: %w", err)
		}
		code, reason, err := h.status()
		switch {
		case err != nil:
			return fmt.Errorf("asking for the tunnel: %w", err)
		case code != 101:
			return fmt.Errorf("the gateway refused the tunnel: %d %s", code, reason)
		case more, !h.has("upgrade", upgradeToken), !h.has("connection", "upgrade"):
			return errors.New("asking for the tunnel: upgraded to something else")
		}
		return nil
	})
}

// AcceptHTTPS does the server's half of the HTTPS transport's upgrade on a TLS
// connection whose ALPN protocol is ALPNHTTPS, bounded by ctx. It answers a
// request that is not the upgrade with an error status and returns an error;
// the caller closes nc.
func AcceptHTTPS(ctx context.Context, nc net.Conn) error {
	return deadlined(ctx, nc, func() error {
		b, more, err := readHTTPHead(nc)
		if err != nil {
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				refuseHTTP(nc, "400 Bad Request", err.Error())
			}
			return fmt.Errorf("reading the upgrade: %w", err)
		}
		status, err := checkUpgrade(b)
		if more && err == nil {
			status, err = "400 Bad Request", errors.New("bytes behind the head")
		}
		if err != nil {
			refuseHTTP(nc, status, err.Error())
			return fmt.Errorf("reading the upgrade: %w", err)
		}
		_, err = io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+upgradeToken+"\r\n\r\n")
		return err
	})
}

func checkUpgrade(b []byte) (status string, err error) {
	h, err := parseHTTPHead(b)
	switch {
	case err != nil:
		return "400 Bad Request", err
	case h.first != "GET "+upgradePath+" HTTP/1.1":
		return "404 Not Found", errors.New("not a request for " + upgradePath)
	case len(h.fields["host"]) != 1:
		return "400 Bad Request", errors.New("no Host field, or several")
	case h.fields["content-length"] != nil || h.fields["transfer-encoding"] != nil:
		return "400 Bad Request", errors.New("a body has no place here")
	case !h.has("connection", "upgrade") || !h.has("upgrade", upgradeToken):
		return "426 Upgrade Required", errors.New("no upgrade to " + upgradeToken)
	}
	return "", nil
}

func refuseHTTP(nc net.Conn, status, text string) {
	fmt.Fprintf(nc, "HTTP/1.1 %s\r\nConnection: close\r\nUpgrade: %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s\n",
		status, upgradeToken, len(text)+1, text)
}

// dialThrough connects to addr, through the proxy if there is one.
func (d *Dialer) dialThrough(ctx context.Context, addr string) (net.Conn, error) {
	if d.Proxy == nil {
		return d.dial(ctx, addr)
	}
	shown := d.Proxy.Hostname() // the URL may have credentials
	proxyErr := func(err error) error { return &ProxyError{Proxy: shown, Err: err} }
	port := d.Proxy.Port()
	switch {
	case d.Proxy.Scheme != "http" && d.Proxy.Scheme != "https":
		return nil, proxyErr(errors.New("the proxy's URL must begin with http:// or https://"))
	case port == "" && d.Proxy.Scheme == "https":
		port = "443"
	case port == "":
		port = "80"
	}
	user, password, err := d.proxyCredentials(ctx)
	if err != nil {
		return nil, proxyErr(fmt.Errorf("reading the proxy's credentials: %w", err))
	}
	nc, err := d.dial(ctx, net.JoinHostPort(shown, port))
	if err != nil {
		return nil, proxyErr(err)
	}
	if d.Proxy.Scheme == "https" {
		cfg := d.ProxyTLS.Clone()
		if cfg == nil {
			cfg = new(tls.Config)
		}
		if cfg.ServerName == "" {
			cfg.ServerName = shown
		}
		tc := tls.Client(nc, cfg)
		if err := tc.HandshakeContext(ctx); err != nil {
			nc.Close()
			return nil, proxyErr(fmt.Errorf("TLS handshake with the proxy: %w", err))
		}
		nc = tc
	}
	if err := connect(ctx, nc, addr, user, password); err != nil {
		nc.Close()
		if pe, ok := err.(*ProxyError); ok {
			pe.Proxy = shown
			return nil, pe
		}
		return nil, proxyErr(err)
	}
	return nc, nil
}

func (d *Dialer) proxyCredentials(ctx context.Context) (user, password string, err error) {
	if d.ProxyCredentials != nil {
		return d.ProxyCredentials(ctx)
	}
	password, _ = d.Proxy.User.Password()
	return d.Proxy.User.Username(), password, nil
}

// connect asks a proxy for a connection to addr (RFC 9110 9.3.6).
func connect(ctx context.Context, nc net.Conn, addr, user, password string) error {
	return deadlined(ctx, nc, func() error {
		var auth string
		if user != "" || password != "" {
			auth = "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)) + "\r\n"
		}
		if _, err := fmt.Fprintf(nc, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", addr, addr, auth); err != nil {
			return err
		}
		b, more, err := readHTTPHead(nc)
		if err != nil {
			return fmt.Errorf("reading the proxy's answer: %w", err)
		}
		h, err := parseHTTPHead(b)
		if err != nil {
			return fmt.Errorf("reading the proxy's answer: %w", err)
		}
		code, reason, err := h.status()
		if err != nil {
			return err
		}
		if code/100 != 2 {
			return &ProxyError{Status: code, Reason: reason, Schemes: schemes(h.fields["proxy-authenticate"]), Credentials: auth != ""}
		}
		if more {
			return errors.New("the proxy sent bytes behind its answer")
		}
		return nil
	})
}

// schemes names the ways to sign in that a proxy offers.
func schemes(challenges []string) []string {
	var names []string
	for _, c := range challenges {
		name, _, _ := strings.Cut(c, " ")
		names = append(names, printable([]byte(name), 20))
	}
	return names
}

// A ProxyError is a forward proxy that could not be used.
type ProxyError struct {
	Proxy       string // host
	Status      int    // of its answer, 0 when there was none
	Reason      string
	Schemes     []string // of sign-in that a 407 offers
	Credentials bool     // some were presented
	Err         error
}

func (e *ProxyError) Error() string {
	switch {
	case e.Status == 407 && e.Credentials:
		return fmt.Sprintf("proxy %s did not accept the credentials: 407 %s", e.Proxy, e.Reason)
	case e.Status == 407:
		return fmt.Sprintf("proxy %s asks for credentials: 407 %s", e.Proxy, e.Reason)
	case e.Status != 0:
		return fmt.Sprintf("proxy %s refused the connection: %d %s", e.Proxy, e.Status, e.Reason)
	}
	return fmt.Sprintf("proxy %s: %v", e.Proxy, e.Err)
}

// Unwrap returns the error of the network below, if any.
func (e *ProxyError) Unwrap() error { return e.Err }

func (e *ProxyError) hint() string {
	basic := len(e.Schemes) == 0
	for _, s := range e.Schemes {
		basic = basic || strings.EqualFold(s, "Basic")
	}
	switch {
	case e.Status == 407 && !basic:
		return "the proxy offers only " + strings.Join(e.Schemes, ", ") + ": allow Basic for this host, or exempt the address"
	case e.Status == 407 && e.Credentials:
		return "correct the proxy's user name and password"
	case e.Status == 407:
		return "give the proxy's user name and password"
	case e.Status != 0:
		return "have the proxy allow CONNECT to this address and port"
	}
	return "check the proxy's address and that this host may reach it"
}
