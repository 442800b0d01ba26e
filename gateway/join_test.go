package gateway_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/gateway"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/tunnel"
)

// A testHost waits to join.
type testHost struct {
	t            *testing.T
	addr, https  string
	logs         *logBuffer
	grants       chan opencmg.GatewayJoinGrant // that Accept saw
	accept       error
	done         chan error
	cancel       context.CancelFunc
	mu           sync.Mutex // guards accept
	tokenID, csr string
	secret       string
}

func startHost(t *testing.T) *testHost {
	noLeaks(t)
	h := &testHost{t: t, logs: &logBuffer{}, grants: make(chan opencmg.GatewayJoinGrant, 10), done: make(chan error, 1), tokenID: "token-1", csr: "a request", secret: "planted-secret"}
	var l gateway.Listeners
	for _, ln := range []*net.Listener{&l.HTTPS, &l.TunnelTCP} {
		var err error
		if *ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	h.addr, h.https = l.TunnelTCP.Addr().String(), l.HTTPS.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	h.cancel = cancel
	go func() {
		h.done <- gateway.Join(ctx, gateway.JoinConfig{
			Gateway: testGateway, Site: testSite, SiteCA: keys().siteCA.Certificate(), TokenID: h.tokenID, Secret: h.secret, Request: h.csr,
			Accept: func(g opencmg.GatewayJoinGrant) error {
				h.grants <- g
				h.mu.Lock()
				defer h.mu.Unlock()
				return h.accept
			},
			Log: slog.New(slog.NewTextHandler(h.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		}, l)
	}()
	t.Cleanup(func() {
		cancel()
		if t.Failed() {
			t.Logf("log:\n%s", h.logs.tail())
		}
	})
	return h
}

// dial connects as a connection point of an authority.
func (h *testHost) dial(ca *pki.Authority, uri, transport string) (*testPoint, []byte, error) {
	h.t.Helper()
	cert := issue(h.t, ca, pki.Template{CommonName: "cp", URIs: []string{uri}, Client: true})
	d := tunnel.Dialer{TLS: &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }}}
	if transport == tunnel.ALPNHTTPS {
		d.HTTPSAddr = h.https
	} else {
		d.TCPTLSAddr = h.addr
	}
	nc, _, err := d.Dial(h.t.Context())
	if err != nil {
		return nil, nil, err
	}
	cs := nc.(*tls.Conn).ConnectionState()
	exporter, err := cs.ExportKeyingMaterial(opencmg.GatewayJoinExporter, nil, 32)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(h.t.Context(), 10*time.Second)
	defer cancel()
	conn, err := tunnel.Client(ctx, nc, tunnel.Config{Hello: tunnel.Hello{Site: string(testSite), ConnectionID: "id-1"}})
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	h.t.Cleanup(func() { conn.Close() })
	return &testPoint{h.t, conn}, exporter, nil
}

func (h *testHost) point(transport string) (*testPoint, []byte) {
	h.t.Helper()
	p, exporter, err := h.dial(keys().siteCA, opencmg.ConnectionPointURI(testSite, "id-1"), transport)
	if err != nil {
		h.t.Fatal(err)
	}
	return p, exporter
}

func (p *testPoint) proof() opencmg.GatewayJoinProof {
	p.t.Helper()
	a, st := p.ask(opencmg.ControlJoin)
	if a.Error != "" {
		p.t.Fatal(a.Error)
	}
	b, err := io.ReadAll(st)
	if err != nil {
		p.t.Fatal(err)
	}
	var proof opencmg.GatewayJoinProof
	if err := json.Unmarshal(b, &proof); err != nil {
		p.t.Fatal(err)
	}
	return proof
}

func TestJoinAsInstance(t *testing.T) {
	for _, transport := range []string{tunnel.ALPNTCPTLS, tunnel.ALPNHTTPS} {
		h := startHost(t)
		p, exporter := h.point(transport)
		proof := p.proof()
		if proof.TokenID != h.tokenID || proof.Request != h.csr {
			t.Errorf("proof: %+v", proof)
		}
		key := opencmg.GatewayJoinKey(h.secret)
		other := make([]byte, 32)
		changed := proof
		changed.Request += "x"
		for name, tt := range map[string]struct{ got, want bool }{
			"right":            {opencmg.VerifyGatewayJoin(key, exporter, testGateway, proof), true},
			"other secret":     {opencmg.VerifyGatewayJoin(opencmg.GatewayJoinKey("x"), exporter, testGateway, proof), false},
			"other connection": {opencmg.VerifyGatewayJoin(key, other, testGateway, proof), false},
			"no connection":    {opencmg.VerifyGatewayJoin(key, nil, testGateway, proof), false},
			"other gateway":    {opencmg.VerifyGatewayJoin(key, exporter, "x", proof), false},
			"other request":    {opencmg.VerifyGatewayJoin(key, exporter, testGateway, changed), false},
			"no proof":         {opencmg.VerifyGatewayJoin(key, exporter, testGateway, opencmg.GatewayJoinProof{Proof: "!"}), false},
		} {
			if tt.got != tt.want {
				t.Errorf("%s: %v", name, tt.got)
			}
		}
		// A second connection has a proof of its own.
		q, _ := h.point(transport)
		if q.proof().Proof == proof.Proof {
			t.Error("the proof is good for two connections")
		}

		// Nothing but joining is to be had here.
		for _, name := range []string{opencmg.ControlConfiguration, opencmg.ControlInstanceStatus, opencmg.ControlLogs} {
			if a := p.control(name, nil); !strings.Contains(a.Error, "no gateway instance yet") {
				t.Errorf("%s: %+v", name, a)
			}
		}
		for grant, want := range map[string]string{`{`: "malformed", `{"refused":"the token has expired"}`: "refused by the site"} {
			if a := p.control(opencmg.ControlJoined, []byte(grant)); !strings.Contains(a.Error, want) {
				t.Errorf("%s: %+v", grant, a)
			}
		}
		p.control(opencmg.ControlJoined, []byte(`{"refused":"the token has expired"}`))
		if n := strings.Count(h.logs.String(), "the token has expired"); n != 1 {
			t.Errorf("the refusal was said %d times", n)
		}
		h.mu.Lock()
		h.accept = errors.New("for another key")
		h.mu.Unlock()
		if a := p.control(opencmg.ControlJoined, []byte(`{"instance":3,"certificate":"x"}`)); !strings.Contains(a.Error, "for another key") {
			t.Errorf("unusable: %+v", a)
		}
		h.mu.Lock()
		h.accept = nil
		h.mu.Unlock()
		if a := p.control(opencmg.ControlJoined, []byte(`{"instance":3,"certificate":"x"}`)); a.Error != "" {
			t.Errorf("good: %+v", a)
		}
		if err := <-h.done; err != nil {
			t.Error(err)
		}
		<-h.grants
		if g := <-h.grants; g.Instance != 3 {
			t.Errorf("grant: %+v", g)
		}
		if strings.Contains(h.logs.String(), h.secret) {
			t.Error("the secret is in the log")
		}
	}
}

func TestJoinForConnectionPointsOnly(t *testing.T) {
	h := startHost(t)
	stranger, err := pki.NewAuthority("Other", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		ca  *pki.Authority
		uri string
	}{
		"other CA":   {stranger, opencmg.ConnectionPointURI(testSite, "id-1")},
		"other role": {keys().siteCA, opencmg.GatewayInstanceURI(testSite, testGateway, 0)},
		"other site": {keys().siteCA, opencmg.ConnectionPointURI("OTH", "id-1")},
	} {
		if _, _, err := h.dial(c.ca, c.uri, tunnel.ALPNTCPTLS); err == nil {
			t.Errorf("%s: came in", name)
		}
	}
	// A client of the gateway finds nothing.
	if c, err := tls.Dial("tcp", h.https, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}); err == nil {
		c.Close()
		t.Error("a client came in")
	}
	h.cancel()
	if err := <-h.done; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
