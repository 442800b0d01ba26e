package tunnel

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/url"
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

// A Dialer brings up the connection below a tunnel.
type Dialer struct {
	// TLS authenticates both sides. The Dialer sets NextProtos, and ServerName
	// where that is empty.
	TLS        *tls.Config
	ServerName string
	// TCPTLSAddr and HTTPSAddr are the addresses, host and port, of the two
	// transports; an empty one is not tried.
	TCPTLSAddr, HTTPSAddr string
	// Proxy is an HTTP forward proxy, http or https, or nil. With a proxy only
	// HTTPS is tried. Credentials come from the URL or from ProxyCredentials;
	// they appear in no log and no error.
	Proxy            *url.URL
	ProxyCredentials func(ctx context.Context) (user, password string, err error)
	// ProxyTLS verifies an https proxy; nil uses the system's roots.
	ProxyTLS *tls.Config
	// DialContext replaces the net package's.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// Timeout bounds each attempt, default 10 s.
	Timeout time.Duration
	// Log gets the reason of each fall-back, once for the same reason.
	Log *slog.Logger
}

// Dial tries the transports in order and returns the first connection that is
// ready for [Client]. The error says of each attempt what went wrong and what
// to do about it.
func (d *Dialer) Dial(ctx context.Context) (net.Conn, Transport, error) { panic("not yet") }

// AcceptHTTPS does the server's half of the HTTPS transport's upgrade on a TLS
// connection whose ALPN protocol is ALPNHTTPS, bounded by ctx. It answers a
// request that is not the upgrade with an error status and returns an error;
// the caller closes nc.
func AcceptHTTPS(ctx context.Context, nc net.Conn) error { panic("not yet") }
