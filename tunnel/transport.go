package tunnel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"
)

// ALPN protocol names of the two transports (SPEC §10). A server that shares
// its port with clients tells tunnels from clients by them.
const (
	ALPNTCPTLS = "opencmg-tunnel"
	ALPNHTTPS  = "opencmg-tunnel-https"
)

// A Transport is a way to reach a gateway instance.
type Transport string

// The transports, in the order in which they are tried (cmg-behaviour G5).
const (
	TCPTLS Transport = "TCP-TLS"
	HTTPS  Transport = "HTTPS"
)

// A Dialer brings up the connection below a tunnel. It may be used for many
// connections, one after the other or at once, and must not be copied then.
type Dialer struct {
	// TLS authenticates both sides. The Dialer sets NextProtos, and ServerName
	// where that is empty.
	TLS *tls.Config
	// ServerName is the name of the gateway; empty means the host of the
	// address.
	ServerName string
	// TCPTLSAddr and HTTPSAddr are the addresses, host and port, of the two
	// transports; an empty one is not tried.
	TCPTLSAddr, HTTPSAddr string
	// Proxy is an HTTP forward proxy, http or https, or nil. With a proxy only
	// HTTPS is tried. Credentials come from ProxyCredentials or, where that is
	// nil, from the URL; they appear in no log and no error.
	Proxy            *url.URL
	ProxyCredentials func(ctx context.Context) (user, password string, err error)
	// ProxyTLS verifies an https proxy; nil uses the system's roots.
	ProxyTLS *tls.Config
	// DialContext replaces the net package's.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// Timeout bounds each attempt, default 10 s.
	Timeout time.Duration
	// Log gets the reason of each fall-back, once for the same reason; nil
	// discards.
	Log *slog.Logger

	mu     sync.Mutex // guards reason
	reason string     // of the last fall-back
}

// Dial tries the transports in order and returns the first connection that is
// ready for [Client]. The error says of each attempt what went wrong and what
// to do about it; each is a [*DialError].
func (d *Dialer) Dial(ctx context.Context) (net.Conn, Transport, error) {
	attempts := []struct {
		transport Transport
		addr      string
		dial      func(context.Context, string) (net.Conn, error)
	}{{TCPTLS, d.TCPTLSAddr, d.dialTCPTLS}, {HTTPS, d.HTTPSAddr, d.dialHTTPS}}
	if d.Proxy != nil {
		attempts = attempts[1:]
	}
	var failed []error
	for _, a := range attempts {
		if a.addr == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(a.addr); err != nil || strings.ContainsAny(a.addr, " \r\n") {
			return nil, "", fmt.Errorf("address %q of the %s transport must be host:port", a.addr, a.transport)
		}
		if len(failed) > 0 {
			d.fellBack(a.transport, failed[len(failed)-1])
		}
		nc, err := d.attempt(ctx, a.addr, a.dial)
		if err == nil {
			if len(failed) == 0 {
				d.mu.Lock()
				d.reason = ""
				d.mu.Unlock()
			}
			return nc, a.transport, nil
		}
		failed = append(failed, &DialError{Transport: a.transport, Addr: a.addr, Hint: d.hint(err), Err: err})
		if ctx.Err() != nil {
			break
		}
	}
	if len(failed) == 0 {
		return nil, "", errors.New("no address to dial: give the address of the TCP-TLS or the HTTPS transport")
	}
	return nil, "", errors.Join(failed...)
}

// fellBack logs why the next transport is tried, unless it did so before.
func (d *Dialer) fellBack(next Transport, err error) {
	if d.Log == nil {
		return
	}
	d.mu.Lock()
	known := d.reason == err.Error()
	d.reason = err.Error()
	d.mu.Unlock()
	if !known {
		d.Log.Warn("tunnel falls back to another transport", "component", "SMS_Cloud_ProxyConnector", "transport", string(next), "err", err)
	}
}

// attempt bounds one way in time and sees to it that ctx ends it.
func (d *Dialer) attempt(ctx context.Context, addr string, dial func(context.Context, string) (net.Conn, error)) (net.Conn, error) {
	timeout := d.Timeout
	if timeout <= 0 {
		timeout = 10 * time.Second
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %v: %w", timeout, context.DeadlineExceeded))
	defer cancel()
	nc, err := dial(ctx, addr)
	if err != nil && ctx.Err() != nil {
		if cause := context.Cause(ctx); !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", cause, err)
		}
	}
	return nc, err
}

func (d *Dialer) dialTCPTLS(ctx context.Context, addr string) (net.Conn, error) {
	nc, err := d.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return d.handshake(ctx, nc, addr, ALPNTCPTLS)
}

func (d *Dialer) dialHTTPS(ctx context.Context, addr string) (net.Conn, error) {
	nc, err := d.dialThrough(ctx, addr)
	if err != nil {
		return nil, err
	}
	nc, err = d.handshake(ctx, nc, addr, ALPNHTTPS)
	if err != nil {
		return nil, err
	}
	name := d.ServerName
	if name == "" {
		name, _, _ = net.SplitHostPort(addr)
	}
	if err := upgrade(ctx, nc, name); err != nil {
		nc.Close()
		return nil, err
	}
	return nc, nil
}

func (d *Dialer) dial(ctx context.Context, addr string) (net.Conn, error) {
	if d.DialContext != nil {
		return d.DialContext(ctx, "tcp", addr)
	}
	var nd net.Dialer
	return nd.DialContext(ctx, "tcp", addr)
}

// handshake authenticates the peer on nc, which it closes on failure.
func (d *Dialer) handshake(ctx context.Context, nc net.Conn, addr, alpn string) (net.Conn, error) {
	cfg := d.TLS.Clone()
	if cfg == nil {
		cfg = new(tls.Config)
	}
	cfg.NextProtos = []string{alpn}
	// Records of full size from the first byte: the writer's batches are the
	// messages that the peer waits for.
	cfg.DynamicRecordSizingDisabled = true
	if cfg.ServerName == "" {
		cfg.ServerName = d.ServerName
	}
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(addr)
	}
	// Whatever the caller verifies, remember who answered.
	var issuer string
	verify := cfg.VerifyConnection
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		if verify == nil {
			return nil
		}
		err := verify(cs)
		if err != nil && len(cs.PeerCertificates) > 0 {
			issuer = cs.PeerCertificates[0].Issuer.String()
		}
		return err
	}
	tc := tls.Client(nc, cfg)
	err := tc.HandshakeContext(ctx)
	if err == nil && tc.ConnectionState().NegotiatedProtocol != alpn {
		err = errNotAGateway
	}
	if err == nil {
		return tc, nil
	}
	nc.Close()
	var cve *tls.CertificateVerificationError
	switch {
	case errors.As(err, &cve) && len(cve.UnverifiedCertificates) > 0 && foreign(cve.Err):
		return nil, &InspectionError{Issuer: cve.UnverifiedCertificates[0].Issuer.String(), Err: err}
	case issuer != "":
		return nil, fmt.Errorf("the certificate presented there, issued by %q, is not accepted: %w", issuer, err)
	}
	return nil, fmt.Errorf("TLS handshake: %w", err)
}

// foreign reports whether a certificate was refused for who issued it.
func foreign(err error) bool {
	var unknown x509.UnknownAuthorityError
	return errors.As(err, &unknown)
}

var errNotAGateway = errors.New("the server does not speak the tunnel protocol: it is no gateway, or something on the way ends TLS")

// An InspectionError says that the server's certificate was not issued by the
// site CA.
type InspectionError struct {
	Issuer string // of the certificate that was presented
	Err    error
}

func (e *InspectionError) Error() string {
	return fmt.Sprintf("the certificate presented there was issued by %q and not by the site CA, which looks like TLS inspection on the way: %v", e.Issuer, e.Err)
}

// Unwrap returns the error of the handshake.
func (e *InspectionError) Unwrap() error { return e.Err }

// A DialError is one attempt that failed.
type DialError struct {
	Transport Transport
	Addr      string
	Hint      string // what to do about it, may be empty
	Err       error
}

func (e *DialError) Error() string {
	s := fmt.Sprintf("%s to %s: %v", e.Transport, e.Addr, e.Err)
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Unwrap returns what went wrong.
func (e *DialError) Unwrap() error { return e.Err }

// hint says what to do about the error of an attempt.
func (d *Dialer) hint(err error) string {
	var (
		inspection *InspectionError
		proxy      *ProxyError
		dns        *net.DNSError
		op         *net.OpError
	)
	switch {
	case errors.As(err, &inspection):
		return "exempt this address from TLS inspection, or check that it is the gateway's"
	case errors.As(err, &proxy):
		return proxy.hint()
	case errors.As(err, &dns):
		return "check the name and this host's DNS servers"
	case errors.Is(err, errNotAGateway):
		return "check the address and port, and exempt them from TLS inspection"
	case errors.As(err, &op) && op.Op == "dial", errors.Is(err, context.DeadlineExceeded):
		return "check that the gateway instance runs and that firewalls let this host reach the address and port"
	}
	return ""
}
