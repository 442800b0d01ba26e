package connpoint_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/tunnel"
)

// A joiningHost is a host with a join token, as a connection point meets it.
type joiningHost struct {
	addr   string
	grants chan opencmg.GatewayJoinGrant
	proof  func(exporter []byte) string // body of the answer to ControlJoin
	answer string                       // to ControlJoined
	// refused gets the error of a stream that the host opened itself.
	refused chan error
}

const joinSecret = "planted-secret"

// startJoining listens until the test ends. adjust may change the host before.
func startJoining(t *testing.T, l *lab, adjust func(*joiningHost)) *joiningHost {
	t.Helper()
	h := &joiningHost{grants: make(chan opencmg.GatewayJoinGrant, 100), answer: `{"version":0}`, refused: make(chan error, 100)}
	h.proof = func(exporter []byte) string {
		mac := opencmg.GatewayJoinMAC(opencmg.GatewayJoinKey(joinSecret), exporter, "GW", "token-1", "a request")
		b, _ := json.Marshal(opencmg.GatewayJoinProof{TokenID: "token-1", Request: "a request", Proof: base64.RawURLEncoding.EncodeToString(mac)})
		return string(b)
	}
	if adjust != nil {
		adjust(h)
	}
	own, err := pki.NewSelfSigned("joining", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	// Its goroutines end before the lab looks for leaks.
	in := &instance{l: l}
	in.ctx, in.cancel = context.WithCancel(context.WithoutCancel(t.Context()))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	in.ln, h.addr = ln, ln.Addr().String()
	conf := pki.TunnelServerTLS(l.ca.Certificate(), own, site)
	conf.NextProtos = []string{tunnel.ALPNTCPTLS}
	in.wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			in.wg.Go(func() { h.serve(in.ctx, tls.Server(nc, conf)) })
		}
	})
	l.instances = append(l.instances, in)
	return h
}

func (h *joiningHost) serve(ctx context.Context, c *tls.Conn) {
	defer c.Close()
	if c.HandshakeContext(ctx) != nil {
		return
	}
	cs := c.ConnectionState()
	exporter, err := cs.ExportKeyingMaterial(opencmg.GatewayJoinExporter, nil, 32)
	if err != nil {
		return
	}
	conn, err := tunnel.Server(ctx, c, tunnel.Config{Handler: func(s *tunnel.Stream) {
		body, _ := io.ReadAll(s)
		switch s.Request().Endpoint {
		case opencmg.ControlJoin:
			s.WriteHeadBody([]byte(`{"version":0}`), []byte(h.proof(exporter)), true)
		case opencmg.ControlJoined:
			var g opencmg.GatewayJoinGrant
			if json.Unmarshal(body, &g) == nil {
				h.grants <- g
			}
			s.WriteHead([]byte(h.answer), true)
		}
	}})
	if err != nil {
		return
	}
	// It tries to use the connection point as a gateway would.
	s, err := conn.Open(&tunnel.Request{Role: "8", Endpoint: "SMS_MP", Head: []byte("GET /CCM_Proxy_MutualAuth/8/x HTTP/1.1\r\nHost: gw\r\n\r\n")}, nil, true)
	if err == nil {
		_, _, err = s.ReadHead()
	}
	h.refused <- err
	select {
	case <-conn.Done():
	case <-ctx.Done():
		conn.Close()
	}
}

func joinTarget(hosts ...*joiningHost) opencmg.GatewayTarget {
	t := opencmg.GatewayTarget{Name: "GW", ServiceName: "gw.test"}
	for _, h := range hosts {
		t.Joins = append(t.Joins, opencmg.JoinAddress{TCPTLS: h.addr})
	}
	return t
}

func TestHostJoins(t *testing.T) {
	asked := make(chan adminservice.GatewayJoinRequest, 100)
	r := newRole(t, answering(plainAnswer, nil))
	l := newLab(t, 0, r.mapping(), func(l *lab) {
		l.cfg.Gateways = nil
		l.cfg.Join = func(_ context.Context, q adminservice.GatewayJoinRequest) (*adminservice.GatewayJoinReply, error) {
			asked <- q
			return &adminservice.GatewayJoinReply{Instance: 5, Certificate: "a certificate"}, nil
		}
	})
	h := startJoining(t, l, nil)
	l.setGateways(joinTarget(h))
	q := receive(t, asked, "the host's request")
	if q.Gateway != "GW" || q.TokenID != "token-1" || q.Request != "a request" || q.Address != h.addr ||
		!opencmg.VerifyGatewayJoin(opencmg.GatewayJoinKey(joinSecret), q.Exporter, "GW", q.GatewayJoinProof) {
		t.Errorf("request: %+v", q)
	}
	if g := receive(t, h.grants, "the grant"); g.Instance != 5 || g.Certificate != "a certificate" || g.Refused != "" {
		t.Errorf("grant: %+v", g)
	}
	l.log.wait("a host has joined the gateway")
	// A host that has proved nothing gets nothing out of the connection point.
	var se *tunnel.StreamError
	if err := receive(t, h.refused, "the host's own stream"); !errors.As(err, &se) {
		t.Errorf("the host's own stream: %v", err)
	}
	if st := l.conn.Status(); len(st.Tunnels) != 0 || len(st.Endpoints) != 0 {
		t.Errorf("status: %+v", st)
	}
	// The site wants it no longer.
	l.setGateways(opencmg.GatewayTarget{Name: "GW", ServiceName: "gw.test", Instances: []opencmg.InstanceAddress{{Instance: 5, TCPTLS: "127.0.0.1:1"}}})
}

func TestHostThatCanNotJoin(t *testing.T) {
	l := newLab(t, 1, nil, func(l *lab) {
		l.cfg.Join = func(_ context.Context, q adminservice.GatewayJoinRequest) (*adminservice.GatewayJoinReply, error) {
			switch q.TokenID {
			case "token-1":
				return &adminservice.GatewayJoinReply{Refused: "the token has expired"}, nil
			case "token-2":
				return &adminservice.GatewayJoinReply{Instance: 1}, nil
			}
			return nil, opencmg.Errorf(opencmg.Unavailable, "the site is away")
		}
	})
	named := func(id string) func([]byte) string {
		return func([]byte) string { return fmt.Sprintf(`{"tokenId":%q}`, id) }
	}
	refused := startJoining(t, l, nil)
	unwilling := startJoining(t, l, func(h *joiningHost) { h.proof, h.answer = named("token-2"), `{"error":"not like that"}` })
	away := startJoining(t, l, func(h *joiningHost) { h.proof = named("token-3") })
	broken := startJoining(t, l, func(h *joiningHost) { h.proof = func([]byte) string { return "{" } })
	large := startJoining(t, l, func(h *joiningHost) { h.proof = func([]byte) string { return strings.Repeat(" ", 100<<10) } })
	there := &joiningHost{addr: l.instances[0].addr} // an instance of the site already
	l.setGateways(joinTarget(refused, unwilling, away, broken, large, there))
	for _, text := range []string{"the site refused the host: the token has expired", "not like that", "the site is away", "read the host's request", "larger than"} {
		l.log.wait(text)
	}
	if g := receive(t, refused.grants, "the refusal"); g.Refused != "the token has expired" || g.Certificate != "" {
		t.Errorf("grant: %+v", g)
	}
	if len(away.grants)+len(broken.grants)+len(large.grants) != 0 {
		t.Error("a host heard of a site that is away")
	}
	if err := l.conn.SetMappings(&opencmg.URLMappings{Gateways: []opencmg.GatewayTarget{joinTarget(&joiningHost{})}}); err == nil {
		t.Error("a join address without an address was taken")
	}
}
