package gateway_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/http1"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/tunnel"
)

// A testPoint is the connection point's end of one tunnel: a script that
// answers requests.
type testPoint struct {
	t    testing.TB
	conn *tunnel.Conn
}

// A call is one request as it came out of the tunnel.
type call struct {
	*tunnel.Stream
	req  *tunnel.Request
	head http1.RequestHead
}

// body reads the whole request body.
func (c *call) body() string {
	b, err := io.ReadAll(c.Stream)
	if err != nil {
		return "error: " + err.Error()
	}
	return string(b)
}

// answer sends a whole answer.
func (c *call) answer(head, body string) {
	c.WriteHeadBody([]byte(strings.ReplaceAll(head, "\n", "\r\n")+"\r\n\r\n"), []byte(body), true)
}

// start sends the head of an answer.
func (c *call) start(head string) {
	c.WriteHead([]byte(strings.ReplaceAll(head, "\n", "\r\n")+"\r\n\r\n"), false)
}

func (in *testInstance) pointTLS(id string) *tls.Config {
	cert := issue(in.t, keys().siteCA, pki.Template{CommonName: "cp " + id, URIs: []string{opencmg.ConnectionPointURI(testSite, id)}, Client: true})
	return pki.TunnelClientTLS(keys().siteCA.Certificate(), cert, testSite, testGateway, 0)
}

func (in *testInstance) tryConnect(id string, handle func(*call)) (*testPoint, error) {
	in.t.Helper()
	cfg := in.pointTLS(id)
	cfg.NextProtos, cfg.ServerName = []string{tunnel.ALPNTCPTLS}, testName
	nc, err := tls.Dial("tcp", in.tunnel, cfg)
	if err != nil {
		return nil, err
	}
	return in.startPoint(nc, id, handle)
}

func (in *testInstance) startPoint(nc net.Conn, id string, handle func(*call)) (*testPoint, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := tunnel.Client(ctx, nc, tunnel.Config{
		Hello: tunnel.Hello{Site: string(testSite), ConnectionPoint: "cp", ConnectionID: id},
		Handler: func(st *tunnel.Stream) {
			c := &call{Stream: st, req: st.Request()}
			if err := c.head.Parse(c.req.Head); err != nil {
				in.t.Errorf("the gateway sent a malformed head: %v\n%s", err, c.req.Head)
			}
			handle(c)
		},
	})
	if err != nil {
		return nil, err
	}
	in.t.Cleanup(func() { conn.Close() })
	return &testPoint{in.t, conn}, nil
}

// connect brings a tunnel up and waits until the instance uses it.
func (in *testInstance) connect(id string, handle func(*call)) *testPoint {
	in.t.Helper()
	p, err := in.tryConnect(id, handle)
	if err != nil {
		in.t.Fatalf("connect %s: %v", id, err)
	}
	p.control(opencmg.ControlStatus, []byte("{}"))
	eventually(in.t, "the tunnel is used", func() bool { return in.s.Tunnels(id) > 0 })
	return p
}

// control opens a control stream and returns the answer.
func (p *testPoint) control(name string, body []byte) opencmg.ControlAnswer {
	p.t.Helper()
	st, err := p.conn.Open(&tunnel.Request{Endpoint: name, BodyLength: int64(len(body))}, nil, false)
	if err != nil {
		p.t.Fatalf("open %s: %v", name, err)
	}
	if err := st.WriteLast(body); err != nil {
		p.t.Fatalf("send %s: %v", name, err)
	}
	head, _, err := st.ReadHead()
	if err != nil {
		p.t.Fatalf("answer to %s: %v", name, err)
	}
	var a opencmg.ControlAnswer
	if err := json.Unmarshal(head, &a); err != nil {
		p.t.Fatalf("answer to %s: %v", name, err)
	}
	return a
}

// gate lets a handler wait until a test opens it.
type gate struct {
	ch   chan struct{}
	once sync.Once
}

func newGate() *gate  { return &gate{ch: make(chan struct{})} }
func (g *gate) open() { g.once.Do(func() { close(g.ch) }) }
func (g *gate) wait() { <-g.ch }
