package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/opencmg/opencmg"
)

// drain tells the instance by a configuration with the version to drain, or not
// to.
func (p *testPoint) drain(version uint64, instances ...int) {
	p.t.Helper()
	n := configuration(version)
	n.Drain = instances
	if a := p.control(opencmg.ControlConfiguration, signed(p.t, n)); a.Version != version {
		p.t.Fatalf("got %+v, want version %d", a, version)
	}
}

// once hides what a body is, so that no HTTP client sends it a second time.
type once struct{ io.Reader }

// TestDrainUnderLoad: while an instance drains it fails no request of clients
// that keep their connections, over HTTP/1.1 and HTTP/2, although no client may
// repeat its request.
func TestDrainUnderLoad(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1), quiet: true, drainSettle: time.Millisecond})
	g := newGate()
	p := in.connect("id-1", func(c *call) {
		switch {
		case c.req.Endpoint == "held":
			<-lostForever(c)
			return
		case string(c.head.Target) == "/wiki/later":
			g.wait()
		}
		echo(c)
	})
	const clients = 4
	var total atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for i := range 2 * clients {
		h := in.http2()
		if i < clients {
			h = in.http1()
		}
		load.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				body := fmt.Sprintf("%d-%d", i, n)
				req, err := http.NewRequest("POST", "https://"+testName+"/wiki/x", once{strings.NewReader(body)})
				if i >= clients {
					// A stream beyond the one that GOAWAY names was not
					// processed, and is repeated when it can be.
					req, err = http.NewRequest("POST", "https://"+testName+"/wiki/x", strings.NewReader(body))
				}
				if err != nil {
					t.Error(err)
					return
				}
				req.ContentLength = int64(len(body))
				res, err := h.Do(req)
				if err != nil {
					t.Errorf("client %d, request %d: %v", i, n, err)
					return
				}
				got := text(res)
				res.Body.Close()
				if want := fmt.Sprintf("POST /wiki/x|%s|%d", body, len(body)); res.StatusCode != 200 || got != want {
					t.Errorf("client %d, request %d: got %s %q, want %q", i, n, res.Status, got, want)
				}
				total.Add(1)
			}
		})
	}
	more := func(n int64) {
		t.Helper()
		n += total.Load()
		eventually(t, "requests flow", func() bool { return total.Load() >= n || t.Failed() })
	}
	held := in.dial(clientTLS()).send("POST /wiki/held HTTP/1.1\r\n" + hostField + "Content-Length: 4\r\n\r\nwait")
	later := in.dial(clientTLS()).send("GET /wiki/later HTTP/1.1\r\n" + hostField + "\r\n")
	more(100)
	for version := uint64(2); version < 8; version += 2 {
		p.drain(version, 0)
		if in.s.Healthy() == nil || in.s.Ready() == nil {
			t.Error("an instance that drains says that it is healthy")
		}
		more(100)
		if version == 2 {
			if res := held.answer("POST"); res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || !res.Close {
				t.Errorf("held request: got %s, close %v", res.Status, res.Close)
			}
			if _, st := p.status(); !st.Draining || st.Drained {
				t.Errorf("draining %v, drained %v while a request is in flight", st.Draining, st.Drained)
			}
		}
		p.drain(version + 1)
		if err := in.s.Healthy(); err != nil {
			t.Errorf("does not drain any more: %v", err)
		}
		more(100)
	}
	p.drain(8, 1, 0)
	more(100)
	stop()
	load.Wait()
	g.open()
	if res := later.answer("GET"); res.StatusCode != 200 || !res.Close || !later.closed() {
		t.Errorf("request in flight: got %s, close %v", res.Status, res.Close)
	}
	eventually(t, "drained", func() bool { _, st := p.status(); return st.Draining && st.Drained })
	if n := in.s.Connections(); n != 0 {
		t.Errorf("drained with %d connections", n)
	}
	if p.conn.Draining() || in.s.Tunnels("id-1") != 1 {
		t.Error("the tunnel goes too")
	}
	p.drain(9, 1)
	if _, st := p.status(); st.Draining || st.Drained {
		t.Errorf("draining %v, drained %v after that was taken back", st.Draining, st.Drained)
	}
}

// http1 returns a client that speaks HTTP/1.1 and keeps its connection.
func (in *testInstance) http1() *http.Client {
	tr := &http.Transport{
		TLSClientConfig: clientTLS(), Protocols: new(http.Protocols),
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", in.addr)
		},
	}
	tr.Protocols.SetHTTP1(true)
	in.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// TestDrainOneByOne: what each kind of connection meets, before and after the
// load balancer had the time to notice.
func TestDrainOneByOne(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1), drainSettle: time.Hour})
	p := in.connect("id-1", func(c *call) {
		if c.req.Endpoint == "held" {
			<-lostForever(c)
			return
		}
		echo(c)
	})
	const get = "GET /wiki/x HTTP/1.1\r\n" + hostField + "\r\n"
	idle, begun, kept := in.dial(clientTLS()), in.dial(clientTLS()), in.dial(clientTLS())
	for _, c := range []*rawClient{idle, begun, kept} {
		if res := c.send(get).answer("GET"); res.StatusCode != 200 || res.Close {
			t.Fatalf("before: %s, close %v", res.Status, res.Close)
		}
	}
	begun.send("GET /wiki/x HTTP/1.1\r\nHo")
	held := in.dial(clientTLS()).send("GET /wiki/held HTTP/1.1\r\n" + hostField + "\r\n")
	eventually(t, "one request waits, one has begun", func() bool { waiting, head, _ := in.s.Phases(); return waiting == 1 && head == 1 })
	idle2 := in.dialHTTP2()
	p.drain(2, 0)

	// A connection that is in use has one more request.
	if res := kept.send(get).answer("GET"); res.StatusCode != 200 || !res.Close || !kept.closed() {
		t.Errorf("next request: %s, close %v", res.Status, res.Close)
	}
	// New ones are served, until the load balancer sends no more.
	if res := in.dial(clientTLS()).send(get).answer("GET"); res.StatusCode != 200 || !res.Close {
		t.Errorf("new connection: %s, close %v", res.Status, res.Close)
	}
	if res := in.dial(clientTLS()).send("GET /nowhere HTTP/1.1\r\n" + hostField + "\r\n").answer("GET"); res.StatusCode != 404 || !res.Close {
		t.Errorf("refusal: %s, close %v", res.Status, res.Close)
	}
	wantGoAway(t, idle2, "idle")
	new2 := in.dialHTTP2()
	if _, err := new2.open(":method", "GET", ":scheme", "https", ":authority", testName, ":path", "/wiki/x"); err != nil {
		t.Fatal(err)
	}
	if answered := wantGoAway(t, new2, "new"); !answered {
		t.Error("a new HTTP/2 connection got no answer")
	}
	// An idle connection ends by itself, and cleanly.
	if _, err := idle.r.ReadByte(); err != io.EOF {
		t.Errorf("idle connection: %v, want its end", err)
	}
	// A request that has begun is not idle.
	if res := begun.send("st: " + testName + "\r\n\r\n").answer("GET"); res.StatusCode != 200 || !res.Close {
		t.Errorf("a request that had begun: %s, close %v", res.Status, res.Close)
	}
	// Held requests stay until others would take them.
	if waiting, _, _ := in.s.Phases(); waiting != 1 {
		t.Error("the held request was ended early")
	}
	if _, st := p.status(); !st.Draining || st.Drained {
		t.Errorf("draining %v, drained %v before the balancer could notice", st.Draining, st.Drained)
	}
	held.Close()
}

// wantGoAway reads until the server ended the connection, which it must
// announce. It reports whether a stream was answered before.
func wantGoAway(t *testing.T, f *rawHTTP2, what string) (answered bool) {
	t.Helper()
	for told := false; ; {
		fr, err := f.ReadFrame()
		switch fr := fr.(type) {
		case *http2.GoAwayFrame:
			told = true
			if fr.ErrCode != http2.ErrCodeNo {
				t.Errorf("%s: GOAWAY says %v", what, fr.ErrCode)
			}
		case *http2.DataFrame:
			answered = answered || fr.StreamEnded()
		}
		if err != nil {
			if !told {
				t.Errorf("%s: ended without GOAWAY: %v", what, err)
			}
			return answered
		}
	}
}

// TestIdleConnectionIsSentAwayWhileItBegins: a request meets the end of its
// idle connection. It is answered as a whole or not begun, and never after a
// reset that could hide which.
func TestIdleConnectionIsSentAwayWhileItBegins(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1), quiet: true})
	in.connect("id-1", echo)
	ctx, stop := context.WithCancel(t.Context())
	var ending sync.WaitGroup
	ending.Go(func() {
		for ctx.Err() == nil {
			in.s.SendIdleAway(time.Hour)
		}
	})
	answers, ends := 0, 0
	for n := 0; answers < 30 || ends < 30; n++ {
		c := in.dial(clientTLS())
		for ok := true; ok; {
			body := strings.Repeat("x", n%5000)
			_, err := fmt.Fprintf(c, "POST /wiki/x HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s", hostField, len(body), body)
			if err != nil {
				ends++
				break
			}
			res, err := http.ReadResponse(c.r, &http.Request{Method: "POST"})
			switch {
			case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
				ok = false
				ends++
				continue
			case err != nil:
				t.Fatalf("request %d: %v", n, err)
			}
			got, err := io.ReadAll(res.Body)
			if want := fmt.Sprintf("POST /wiki/x|%s|%d", body, len(body)); err != nil || res.StatusCode != 200 || string(got) != want {
				t.Fatalf("request %d: got %s %.40q %v", n, res.Status, got, err)
			}
			if answers++; answers%8 == 7 {
				ok = false
			}
		}
		c.Close()
	}
	stop()
	ending.Wait()
	t.Logf("%d answered, %d not begun", answers, ends)
}

// TestDrainSurvivesARestart: an instance whose kept configuration lists it is
// unhealthy from the start, until another one comes.
func TestDrainSurvivesARestart(t *testing.T) {
	noLeaks(t)
	n := configuration(1)
	n.Drain = []int{0}
	in := startInstance(t, instanceOptions{config: n, drainSettle: time.Millisecond})
	p := in.connect("id-1", echo)
	if in.s.Healthy() == nil {
		t.Error("healthy")
	}
	eventually(t, "drained", func() bool { return in.s.Status().Drained })
	// Whoever comes all the same is served.
	if res := in.dial(clientTLS()).send("GET /wiki/x HTTP/1.1\r\n" + hostField + "\r\n").answer("GET"); res.StatusCode != 200 || !res.Close {
		t.Errorf("%s, close %v", res.Status, res.Close)
	}
	p.drain(2)
	if err := in.s.Healthy(); err != nil {
		t.Error(err)
	}
	c := in.dial(clientTLS())
	for range 2 {
		if res := c.send("GET /wiki/x HTTP/1.1\r\n" + hostField + "\r\n").answer("GET"); res.StatusCode != 200 || res.Close {
			t.Errorf("%s, close %v", res.Status, res.Close)
		}
	}
	// A connection whose client says nothing at all does not count as soon as
	// it is in the handshake only.
	raw, err := net.Dial("tcp", in.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	p.drain(3, 0)
	if res := c.send("GET /wiki/x HTTP/1.1\r\n" + hostField + "\r\n").answer("GET"); !res.Close {
		t.Errorf("%s, close %v", res.Status, res.Close)
	}
	eventually(t, "drained again", func() bool { return in.s.Status().Drained })
}

// TestShutdownWhileDraining: the end comes while HTTP/2 clients are still there.
func TestShutdownWhileDraining(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1), drainSettle: time.Hour})
	g := newGate()
	p := in.connect("id-1", func(c *call) {
		g.wait()
		echo(c)
	})
	done := make(chan error, 2)
	ask := func() {
		res, err := in.http2().Get("https://" + testName + "/wiki/x")
		if err == nil && res.StatusCode != 200 {
			err = errors.New(res.Status)
		}
		if err == nil {
			res.Body.Close()
		}
		done <- err
	}
	go ask()
	eventually(t, "one waits", func() bool { return in.s.InFlight() == 1 })
	p.drain(2, 0)
	go ask()
	eventually(t, "both wait", func() bool { return in.s.InFlight() == 2 })
	stopped := make(chan struct{})
	go func() { in.stop(); close(stopped) }()
	<-p.conn.GoingAway()
	g.open()
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	<-stopped
}

// TestFirstConfigurationIsWaitedFor: an instance that has just been made fails
// no request while a connection point is about to deliver.
func TestFirstConfigurationIsWaitedFor(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{tunnelWait: time.Minute})
	proto := make(chan string, 2)
	for _, h := range []*http.Client{in.http1(), in.http2()} {
		go func() {
			res, err := h.Get("https://" + testName + "/wiki/x")
			if err != nil {
				proto <- err.Error()
				return
			}
			res.Body.Close()
			proto <- fmt.Sprint(res.ProtoMajor, " ", res.StatusCode)
		}()
	}
	eventually(t, "both are there", func() bool { return in.s.Connections() == 2 })
	p := in.connect("id-1", echo)
	p.drain(1)
	got := map[string]bool{<-proto: true, <-proto: true}
	if !got["1 200"] || !got["2 200"] {
		t.Errorf("got %v", got)
	}
}
