package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/tunnel"
)

// A JoinConfig says what a host needs to become an instance of a self-hosted
// gateway. All fields but Log must be set.
type JoinConfig struct {
	Gateway string
	Site    opencmg.SiteCode
	SiteCA  *x509.Certificate
	// TokenID and Secret are of the join token.
	TokenID, Secret string
	// Request is a PEM certificate request.
	Request string
	// Accept checks and keeps what the site granted. After an error the host
	// waits on.
	Accept func(opencmg.GatewayJoinGrant) error
	Log    *slog.Logger // nil discards
}

const (
	maxGrant     = 256 << 10 // bytes of a grant
	joinDrain    = 2 * time.Second
	joinStranger = 64 // connections at a time
)

// Join waits on the listeners for a connection point, which dials the host, passes
// its request to the site, and brings the certificate back; then it closes the
// listeners. It returns nil once Accept has, and the error of ctx when that ends
// before. To a connection point the host proves the token by a message
// authentication code that is good for their connection only; the secret itself
// is never sent.
func Join(ctx context.Context, cfg JoinConfig, l Listeners) error {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	own, err := pki.NewSelfSigned("opencmg joining", time.Now())
	if err != nil {
		return err
	}
	j := &joiner{cfg: cfg, log: cfg.Log.With("gateway", cfg.Gateway, "component", "CMGSetup"), done: make(chan struct{}), room: make(chan struct{}, joinStranger)}
	j.tls = pki.TunnelServerTLS(cfg.SiteCA, own, cfg.Site)
	j.tls.NextProtos = []string{tunnel.ALPNTCPTLS, tunnel.ALPNHTTPS}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for _, ln := range []net.Listener{l.HTTPS, l.TunnelTCP, l.TunnelHTTPS} {
		if ln == nil {
			continue
		}
		stop := context.AfterFunc(ctx, func() { ln.Close() })
		defer stop()
		wg.Go(func() {
			for {
				nc, err := ln.Accept()
				if err != nil {
					if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
						return
					}
					time.Sleep(100 * time.Millisecond) // out of descriptors: it passes
					continue
				}
				select {
				case j.room <- struct{}{}:
					wg.Go(func() {
						defer func() { <-j.room }()
						j.serve(ctx, nc)
					})
				default:
					nc.Close()
				}
			}
		})
	}
	j.log.Info("waiting for a connection point of the site, to join", "token", cfg.TokenID)
	err = nil
	select {
	case <-j.done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	cancel()
	wg.Wait()
	return err
}

type joiner struct {
	cfg  JoinConfig
	log  *slog.Logger
	tls  *tls.Config
	done chan struct{}
	room chan struct{} // holds one of each connection

	mu     sync.Mutex // guards what follows
	joined bool
	said   string // refusal
}

func (j *joiner) serve(ctx context.Context, raw net.Conn) {
	defer raw.Close()
	c := tls.Server(raw, j.tls)
	c.SetDeadline(time.Now().Add(handshakeTimeout * time.Millisecond))
	err := c.HandshakeContext(ctx)
	if err == nil && c.ConnectionState().NegotiatedProtocol == tunnel.ALPNHTTPS {
		err = tunnel.AcceptHTTPS(ctx, c)
	}
	if err != nil {
		j.log.Debug("connection of a stranger", "remote", raw.RemoteAddr().String(), "err", err)
		return
	}
	c.SetDeadline(time.Time{})
	cs := c.ConnectionState()
	exporter, err := cs.ExportKeyingMaterial(opencmg.GatewayJoinExporter, nil, 32)
	if err != nil {
		j.log.Error("bytes to bind the proof to", "err", err)
		return
	}
	conn, err := tunnel.Server(ctx, c, tunnel.Config{
		Hello:   tunnel.Hello{Site: string(j.cfg.Site), Gateway: j.cfg.Gateway, Software: "opencmg joining"},
		Handler: func(st *tunnel.Stream) { j.control(st, exporter) },
		Log:     j.log,
	})
	if err != nil {
		return
	}
	select {
	case <-conn.Done():
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), joinDrain)
	defer cancel()
	conn.Drain(drain) // the last answer is on its way
	conn.Close()
}

// control answers the two control streams of joining.
func (j *joiner) control(st *tunnel.Stream, exporter []byte) {
	body, err := io.ReadAll(io.LimitReader(st, maxGrant+1))
	if err != nil || len(body) > maxGrant {
		st.Reset(tunnel.CodeBodyTooLarge)
		return
	}
	r := st.Request()
	switch {
	case r.Role == "" && r.Endpoint == opencmg.ControlJoin:
		mac := opencmg.GatewayJoinMAC(opencmg.GatewayJoinKey(j.cfg.Secret), exporter, j.cfg.Gateway, j.cfg.TokenID, j.cfg.Request)
		proof, err := json.Marshal(opencmg.GatewayJoinProof{TokenID: j.cfg.TokenID, Request: j.cfg.Request, Proof: base64.RawURLEncoding.EncodeToString(mac)})
		if err != nil {
			panic(err) // a plain struct
		}
		st.WriteHeadBody(controlHead(opencmg.ControlAnswer{}), proof, true)
	case r.Role == "" && r.Endpoint == opencmg.ControlJoined:
		var answer opencmg.ControlAnswer
		err := j.granted(body)
		if err != nil {
			answer.Error = err.Error()
		}
		st.WriteHead(controlHead(answer), true)
		if err == nil {
			close(j.done)
		}
	default:
		st.WriteHead(controlHead(opencmg.ControlAnswer{Error: "this host is no gateway instance yet"}), true)
	}
}

// granted takes over the site's decision. It returns nil once.
func (j *joiner) granted(body []byte) error {
	var g opencmg.GatewayJoinGrant
	if err := json.Unmarshal(body, &g); err != nil {
		return opencmg.Errorf(opencmg.Invalid, "the grant is malformed: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.joined {
		return opencmg.Errorf(opencmg.Conflict, "this host has joined already")
	}
	if g.Refused != "" {
		if g.Refused != j.said {
			j.log.Error("the site refused to let this host join", "reason", g.Refused)
			j.said = g.Refused
		}
		return opencmg.Errorf(opencmg.Forbidden, "refused by the site")
	}
	if err := j.cfg.Accept(g); err != nil {
		j.log.Error("what the site granted can not be used", "err", err)
		return err
	}
	j.joined = true
	j.log.Info("joined", "instance", g.Instance)
	return nil
}
