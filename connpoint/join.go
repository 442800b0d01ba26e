package connpoint

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/tunnel"
)

// How a host on the internet becomes an instance of a self-hosted gateway. It can
// not reach the site, so the connection point dials it, takes its request to the
// site, and brings the answer back. The host has proved nothing to the connection
// point meanwhile, which therefore answers no stream of it; the site decides by
// the proof, which is bound to this connection.

const (
	joinFirst = time.Second
	joinMost  = 30 * time.Second
	joinWait  = 45 * time.Second // of one attempt
	maxProof  = 64 << 10         // bytes
)

// expectJoins looks for hosts at the target's join addresses, and no longer at
// others. l.mu is held.
func (l *link) expectJoins() {
	if l.c.cfg.Join == nil || l.ctx == nil || l.ctx.Err() != nil {
		return
	}
	wanted := map[opencmg.JoinAddress]bool{}
	for _, a := range l.target.Joins {
		wanted[a] = true
		if l.joins[a] == nil {
			ctx, cancel := context.WithCancel(l.ctx)
			l.joins[a] = cancel
			l.c.wg.Go(func() { l.expect(ctx, a) })
		}
	}
	for a, cancel := range l.joins {
		if !wanted[a] {
			cancel()
			delete(l.joins, a)
		}
	}
}

// errJoined is an address at which an instance of the site stands already.
var errJoined = errors.New("the host has a certificate of the site already")

// expect dials the address until ctx ends.
func (l *link) expect(ctx context.Context, a opencmg.JoinAddress) {
	log := l.c.log.With("gateway", l.name, "address", a.TCPTLS+" "+a.HTTPS)
	said := ""
	for wait := joinFirst; ; wait = min(2*wait, joinMost) {
		err := l.join(ctx, a)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			log.Info("a host has joined the gateway")
			wait = joinMost // until the site says where it is
		case errors.Is(err, errJoined):
			wait = joinMost
		case err.Error() != said:
			said = err.Error()
			log.Warn("no host could join the gateway here", "err", err)
		}
		t := time.NewTimer(jitter(wait))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// join makes one attempt.
func (l *link) join(ctx context.Context, a opencmg.JoinAddress) error {
	c := l.c
	ctx, cancel := context.WithTimeout(ctx, joinWait)
	defer cancel()
	_, serviceName := l.address(0)
	cert := *c.pool.certificate.Load()
	d := tunnel.Dialer{
		TLS: &tls.Config{
			MinVersion: tls.VersionTLS13,
			// The host has no certificate of the site yet. What it says is
			// believed by nobody but the site, and by its proof.
			InsecureSkipVerify:   true,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
			VerifyConnection: func(cs tls.ConnectionState) error {
				if cs.PeerCertificates[0].CheckSignatureFrom(c.cfg.SiteCA) == nil {
					return errJoined
				}
				return nil
			},
		},
		ServerName: serviceName, TCPTLSAddr: a.TCPTLS, HTTPSAddr: a.HTTPS,
		Proxy: c.cfg.Proxy, DialContext: c.cfg.DialContext,
	}
	nc, transport, err := d.Dial(ctx)
	if err != nil {
		return err
	}
	defer nc.Close()
	q := adminservice.GatewayJoinRequest{Gateway: l.name, Address: nc.RemoteAddr().String()}
	if c.cfg.Proxy != nil {
		if q.Address = a.HTTPS; transport == tunnel.TCPTLS {
			q.Address = a.TCPTLS
		}
	}
	tc, ok := nc.(*tls.Conn)
	if !ok {
		return errors.New("the connection is not TLS")
	}
	cs := tc.ConnectionState()
	if q.Exporter, err = cs.ExportKeyingMaterial(opencmg.GatewayJoinExporter, nil, 32); err != nil {
		return err
	}
	conn, err := tunnel.Client(ctx, nc, tunnel.Config{
		Hello: tunnel.Hello{Site: string(c.cfg.Site), ConnectionPoint: c.cfg.Name, ConnectionID: c.cfg.ConnectionID},
		Log:   c.log, // no handler: streams of the host are refused
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := c.readProof(ctx, conn, &q.GatewayJoinProof); err != nil {
		return err
	}
	reply, err := c.cfg.Join(ctx, q)
	if err != nil {
		return err
	}
	grant, err := json.Marshal(opencmg.GatewayJoinGrant(*reply))
	if err != nil {
		return err
	}
	answer, err := c.control(ctx, conn, opencmg.ControlJoined, grant)
	switch {
	case reply.Refused != "":
		return opencmg.Errorf(opencmg.Forbidden, "the site refused the host: %s", reply.Refused)
	case err != nil:
		return err
	case answer.Error != "":
		return opencmg.Errorf(opencmg.Conflict, "the host did not take what the site granted: %s", answer.Error)
	}
	return nil
}

// readProof asks the host for its request.
func (c *Connector) readProof(ctx context.Context, conn *tunnel.Conn, p *opencmg.GatewayJoinProof) error {
	s, err := c.ask(ctx, conn, opencmg.ControlJoin, nil)
	if err != nil {
		return err
	}
	defer s.close()
	if s.answer.Error != "" {
		return fmt.Errorf("the host answered: %q", s.answer.Error)
	}
	body, err := io.ReadAll(io.LimitReader(s, maxProof+1))
	if err != nil {
		return err
	}
	if len(body) > maxProof {
		return opencmg.Errorf(opencmg.TooLarge, "the host's request is larger than %d bytes", maxProof)
	}
	if err := json.Unmarshal(body, p); err != nil {
		return fmt.Errorf("read the host's request: %w", err)
	}
	return nil
}
