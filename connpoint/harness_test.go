package connpoint_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/connpoint"
	"github.com/opencmg/opencmg/internal/http1"
	"github.com/opencmg/opencmg/internal/web"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/tunnel"
)

// The tests run a whole connector against gateway instances that are the
// tunnel's server end over real TLS, and against roles that are raw sockets.

const (
	site    = opencmg.SiteCode("LAB")
	gateway = "GW"
)

// patience bounds what a test waits for; nothing takes that long.
const patience = 20 * time.Second

// A lab is a site with a connector and instances.
type lab struct {
	t         *testing.T
	ca        *pki.Authority
	cert      tls.Certificate
	instances []*instance
	cfg       connpoint.Config
	log       *logBuffer
	conn      *connpoint.Connector
	records   *web.Records
	stop      context.CancelFunc
	ended     chan struct{}
}

// newLab makes a site with n gateway instances that listen. adjust may change
// the connector's configuration before it is made.
func newLab(t *testing.T, n int, mappings []opencmg.URLMapping, adjust func(*lab)) *lab {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() { checkLeak(t, before) })
	ca, err := pki.NewAuthority("Test site CA", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, ca: ca, log: &logBuffer{t: t}, records: web.NewRecords(256), ended: make(chan struct{})}
	l.cert = l.issue(pki.Template{CommonName: "cp", URIs: []string{opencmg.ConnectionPointURI(site, "cp-1")}, Client: true})
	l.cfg = connpoint.Config{
		Name: "CP1", ConnectionID: "cp-1", Site: site, SiteCA: ca.Certificate(), Certificate: l.cert,
		Mappings: &opencmg.URLMappings{Mappings: mappings},
		RoleWait: 2 * time.Second, DrainTimeout: 5 * time.Second,
		Records: l.records,
		Log:     slog.New(slog.NewTextHandler(l.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	target := opencmg.GatewayTarget{Name: gateway, ServiceName: "gw.test"}
	for i := range n {
		in := newInstance(l, i, n)
		l.instances = append(l.instances, in)
		target.Instances = append(target.Instances, opencmg.InstanceAddress{Instance: i, TCPTLS: in.addr})
	}
	l.cfg.Gateways = []opencmg.GatewayTarget{target}
	if adjust != nil {
		adjust(l)
	}
	if l.conn, err = connpoint.New(l.cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	l.stop = cancel
	go func() {
		defer close(l.ended)
		if err := l.conn.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	t.Cleanup(func() { l.shutdown() })
	return l
}

// shutdown ends the connector and then the instances.
func (l *lab) shutdown() {
	l.stop()
	select {
	case <-l.ended:
	case <-time.After(patience):
		buf := make([]byte, 1<<20)
		l.t.Fatalf("Run did not return\n%s", buf[:runtime.Stack(buf, true)])
	}
	for _, in := range l.instances {
		in.close()
	}
}

func (l *lab) issue(t pki.Template) tls.Certificate {
	l.t.Helper()
	pair, err := l.ca.IssueKeyPair(t, time.Now())
	if err != nil {
		l.t.Fatal(err)
	}
	return pair
}

// An instance is the gateway's end: it accepts tunnels and records what
// control streams bring.
type instance struct {
	l       *lab
	gateway string
	number  int
	total   int
	addr    string
	https   bool // takes the HTTPS transport instead of TCP-TLS
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	conns   chan *tunnel.Conn // every tunnel that came up
	configs chan uint64       // versions delivered
	status  chan opencmg.ConnectionPointStatus
	peers   chan *x509.Certificate // of tunnels that came up
	lines   chan string            // what a log stream sends
	readers atomic.Int64           // log streams

	mu     sync.Mutex // guards what follows
	cert   tls.Certificate
	report string // body of the answer to instance-status; empty: unknown
	// asked answers instance-status instead, and may hold the question.
	asked    func(opencmg.InstanceStatusRequest) opencmg.InstanceStatus
	explains string // body of the answer to explain; empty: unknown
	ln       net.Listener
	live     []*tunnel.Conn
	version  uint64
	refuse   string
}

func newInstance(l *lab, number, total int) *instance {
	return newInstanceOf(l, gateway, number, total)
}

// newInstanceOf is newInstance for any gateway.
func newInstanceOf(l *lab, gateway string, number, total int) *instance {
	in := &instance{l: l, gateway: gateway, number: number, total: total, lines: make(chan string, 2000),
		peers: make(chan *x509.Certificate, 100), conns: make(chan *tunnel.Conn, 100), configs: make(chan uint64, 100), status: make(chan opencmg.ConnectionPointStatus, 1000)}
	in.cert = l.issue(pki.Template{CommonName: "instance", URIs: []string{opencmg.GatewayInstanceURI(site, gateway, number)}, Server: true, Client: true})
	in.ctx, in.cancel = context.WithCancel(context.WithoutCancel(l.t.Context()))
	in.listen("127.0.0.1:0")
	return in
}

func (in *instance) listen(addr string) {
	in.l.t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		in.l.t.Fatal(err)
	}
	in.mu.Lock()
	in.ln = ln
	in.mu.Unlock()
	in.addr = ln.Addr().String()
	in.wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			in.wg.Go(func() { in.accept(nc) })
		}
	})
}

func (in *instance) accept(nc net.Conn) {
	in.mu.Lock()
	cert := in.cert
	in.mu.Unlock()
	conf := pki.TunnelServerTLS(in.l.ca.Certificate(), cert, site)
	conf.NextProtos = []string{tunnel.ALPNTCPTLS}
	if in.https {
		conf.NextProtos = []string{tunnel.ALPNHTTPS}
	}
	tc := tls.Server(nc, conf)
	err := tc.HandshakeContext(in.ctx)
	if err == nil && in.https {
		err = tunnel.AcceptHTTPS(in.ctx, tc)
	}
	if err != nil {
		nc.Close()
		return
	}
	in.mu.Lock()
	version := in.version
	in.mu.Unlock()
	conn, err := tunnel.Server(in.ctx, tc, tunnel.Config{
		Hello:   tunnel.Hello{Gateway: in.gateway, Instance: in.number, Instances: in.total, ConfigVersion: version},
		Handler: in.control,
	})
	if err != nil {
		tc.Close()
		return
	}
	in.mu.Lock()
	in.live = append(in.live, conn)
	in.mu.Unlock()
	in.peers <- tc.ConnectionState().PeerCertificates[0]
	in.conns <- conn
	<-conn.Done()
}

func (in *instance) control(s *tunnel.Stream) {
	body, err := io.ReadAll(s)
	if err != nil {
		return
	}
	a := opencmg.ControlAnswer{}
	in.mu.Lock()
	switch s.Request().Endpoint {
	case opencmg.ControlInstanceStatus, opencmg.ControlExplain:
		report := in.report
		if asked := in.asked; asked != nil && s.Request().Endpoint == opencmg.ControlInstanceStatus {
			in.mu.Unlock()
			var q opencmg.InstanceStatusRequest
			json.Unmarshal(body, &q) // without a body it is the zero value
			answer, _ := json.Marshal(asked(q))
			s.WriteHeadBody([]byte(`{"version":0}`), answer, true)
			return
		}
		if s.Request().Endpoint == opencmg.ControlExplain {
			report = in.explains
		}
		in.mu.Unlock()
		if report == "" {
			s.WriteHead([]byte(`{"version":0,"error":"unknown control stream"}`), true)
		} else {
			s.WriteHeadBody([]byte(`{"version":0}`), []byte(report), true)
		}
		return
	case opencmg.ControlLogs:
		in.mu.Unlock()
		in.readers.Add(1)
		defer in.readers.Add(-1)
		ended := make(chan struct{})
		s.OnReset(func() { close(ended) })
		s.WriteHead([]byte(`{"version":0}`), false)
		for {
			select {
			case l := <-in.lines:
				s.Write([]byte(l + "\n"))
			case <-ended:
				return
			case <-in.ctx.Done():
				s.CloseWrite()
				return
			}
		}
	case opencmg.ControlConfiguration:
		c, err := pki.VerifyConfiguration(body, in.l.ca.Certificate(), site, time.Now())
		switch {
		case err != nil:
			a.Error = err.Error()
		case in.refuse != "":
			a.Error = in.refuse
		default:
			in.version = c.Version
			in.configs <- c.Version
		}
	case opencmg.ControlStatus:
		var st opencmg.ConnectionPointStatus
		if err := json.Unmarshal(body, &st); err != nil {
			a.Error = err.Error()
		} else {
			in.status <- st
		}
	}
	a.Version = in.version
	in.mu.Unlock()
	b, _ := json.Marshal(a)
	s.WriteHead(b, true)
}

// kill drops the listener and every tunnel, as a killed process does.
func (in *instance) kill() {
	in.mu.Lock()
	in.ln.Close()
	live := in.live
	in.live = nil
	in.mu.Unlock()
	for _, c := range live {
		c.Close()
	}
}

func (in *instance) close() {
	in.kill()
	in.cancel()
	in.wg.Wait()
}

// tunnel waits for a tunnel to come up.
func (in *instance) tunnel() *tunnel.Conn {
	in.l.t.Helper()
	return receive(in.l.t, in.conns, "a tunnel")
}

// eventually waits for something that has no signal of its own.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
	}
}

func receive[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// A reply is a whole response as the gateway got it.
type reply struct {
	status   int
	line     string
	head     string
	body     string
	trailers string
	err      error
	code     tunnel.Code // of err
	retry    bool        // err says that the role never saw the request
}

type ask struct {
	method, path string
	fields       []string
	body         string
	chunked      bool
	deadline     time.Duration // 0: held
	endpoint     string
	role         string
	identity     string
}

func (a ask) request() *tunnel.Request {
	if a.method == "" {
		a.method = "GET"
	}
	if a.role == "" {
		a.role = "8"
	}
	if a.endpoint == "" {
		a.endpoint = "SMS_MP"
	}
	head := a.method + " " + opencmg.MutualAuthPrefix + a.role + a.path + " HTTP/1.1\r\nHost: gw.test\r\n"
	for _, f := range a.fields {
		head += f + "\r\n"
	}
	r := &tunnel.Request{CorrelationID: "c1", Role: a.role, Endpoint: a.endpoint, Identity: a.identity, Head: []byte(head + "\r\n"), BodyLength: int64(len(a.body))}
	if a.chunked {
		r.BodyLength = -1
	}
	if a.deadline > 0 {
		r.Deadline = time.Now().Add(a.deadline)
	}
	return r
}

// do sends one request down the tunnel and reads the whole answer.
func do(t *testing.T, c *tunnel.Conn, a ask) reply {
	t.Helper()
	first := a.body[:min(len(a.body), tunnel.MaxOpenBody)]
	s, err := c.Open(a.request(), []byte(first), len(first) == len(a.body))
	if err != nil {
		t.Error(err)
		return reply{err: err}
	}
	if rest := a.body[len(first):]; rest != "" {
		if err := s.WriteLast([]byte(rest)); err != nil {
			t.Error(err)
		}
	}
	return finish(s, a.method)
}

// finish reads the answer of a stream.
func finish(s *tunnel.Stream, method string) (r reply) {
	defer func() {
		var se *tunnel.StreamError
		if errors.As(r.err, &se) {
			r.code, r.retry = se.Code, se.NotProcessed
		}
	}()
	b, _, err := s.ReadHead()
	if err != nil {
		r.err = err
		return r
	}
	r.head = string(b)
	var h http1.ResponseHead
	if err := h.Parse(b, []byte(method)); err != nil {
		return reply{err: fmt.Errorf("head %q: %w", b, err)}
	}
	r.status = h.Status
	r.line = fmt.Sprintf("%d %s", h.Status, h.Reason)
	body, err := io.ReadAll(s)
	r.body, r.err = string(body), err
	r.trailers = string(s.Trailers())
	return r
}

// A role is a raw TCP server: what it answers is up to the test.
type role struct {
	t    *testing.T
	addr string
	wg   sync.WaitGroup

	mu    sync.Mutex // guards what follows
	ln    net.Listener
	conns map[net.Conn]bool
	dials int
}

// A seen is a request as a role got it.
type seen struct {
	head string
	body string
}

// newRole serves connections with f until the test ends.
func newRole(t *testing.T, f func(nc net.Conn, r *bufio.Reader)) *role {
	t.Helper()
	r := &role{t: t, conns: map[net.Conn]bool{}}
	r.listen("127.0.0.1:0", f)
	t.Cleanup(r.close)
	return r
}

func (r *role) listen(addr string, f func(nc net.Conn, r *bufio.Reader)) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	r.ln, r.addr = ln, ln.Addr().String()
	r.mu.Unlock()
	r.wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.conns[nc] = true
			r.dials++
			r.mu.Unlock()
			r.wg.Go(func() {
				defer func() {
					nc.Close()
					r.mu.Lock()
					delete(r.conns, nc)
					r.mu.Unlock()
				}()
				f(nc, bufio.NewReader(nc))
			})
		}
	})
}

func (r *role) close() {
	r.mu.Lock()
	r.ln.Close()
	for nc := range r.conns {
		nc.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

func (r *role) mapping() []opencmg.URLMapping {
	return []opencmg.URLMapping{{Role: "8", Internal: []string{"http://" + r.addr}, SiteRole: true}}
}

// readRequest reads one whole request.
func readRequest(r *bufio.Reader) (seen, error) {
	var s seen
	length, chunked := 0, false
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return s, err
		}
		s.head += line
		if v, ok := strings.CutPrefix(line, "Content-Length: "); ok {
			fmt.Sscanf(v, "%d", &length)
		}
		if line == "Transfer-Encoding: chunked\r\n" {
			chunked = true
		}
		if line == "\r\n" {
			break
		}
	}
	if chunked {
		for {
			var n int
			line, err := r.ReadString('\n')
			if err != nil {
				return s, err
			}
			fmt.Sscanf(line, "%x", &n)
			if n == 0 {
				for {
					line, err := r.ReadString('\n')
					if err != nil || line == "\r\n" {
						return s, err
					}
					s.body += "[" + strings.TrimSpace(line) + "]"
				}
			}
			b := make([]byte, n+2)
			if _, err := io.ReadFull(r, b); err != nil {
				return s, err
			}
			s.body += string(b[:n])
		}
	}
	b := make([]byte, length)
	_, err := io.ReadFull(r, b)
	s.body = string(b)
	return s, err
}

// answering returns a role function that answers every request on a
// connection with raw bytes, and reports what it saw.
func answering(raw string, saw chan<- seen) func(net.Conn, *bufio.Reader) {
	return func(nc net.Conn, r *bufio.Reader) {
		for {
			s, err := readRequest(r)
			if err != nil {
				return
			}
			if saw != nil {
				saw <- s
			}
			if _, err := io.WriteString(nc, raw); err != nil {
				return
			}
		}
	}
}

const plainAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

// A logBuffer keeps the log and wakes those who wait for a text in it.
type logBuffer struct {
	t    *testing.T
	mu   sync.Mutex // guards what follows
	b    bytes.Buffer
	more chan struct{}
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.more != nil {
		close(l.more)
		l.more = nil
	}
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// wait blocks until the log contains the text.
func (l *logBuffer) wait(text string) {
	l.t.Helper()
	timeout := time.After(patience)
	for {
		l.mu.Lock()
		if strings.Contains(l.b.String(), text) {
			l.mu.Unlock()
			return
		}
		if l.more == nil {
			l.more = make(chan struct{})
		}
		more := l.more
		l.mu.Unlock()
		select {
		case <-more:
		case <-timeout:
			l.t.Fatalf("%q is not in the log:\n%s", text, l.String())
		}
	}
}

// checkLeak fails the test when goroutines are left over.
func checkLeak(t *testing.T, before int) {
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Errorf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
			return
		}
		runtime.Gosched()
	}
}

func writeFile(t *testing.T, path string, b []byte) {
	t.Helper()
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
}

func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}
