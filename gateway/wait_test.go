package gateway_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
)

// eventually waits for what another goroutine is about to do.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not come about: %s", what)
		}
	}
}

func TestTimeouts(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1)})
	in.connect("id-1", func(c *call) {
		if strings.Contains(string(c.head.Target), "stall") {
			c.start("HTTP/1.1 200 OK")
			io.WriteString(c.Stream, "hello")
		}
		<-lostForever(c)
	})
	limited := func(seconds int) { in.s.Sweep(time.Duration(seconds) * time.Second) }

	t.Run("head", func(t *testing.T) {
		c := in.dial(clientTLS()).send("GET /wiki/x HT")
		eventually(t, "the head begins", func() bool { _, head, _ := in.s.Phases(); return head == 1 })
		limited(14)
		limited(16)
		res := c.answer("GET")
		if res.StatusCode != 408 || !res.Close || len(res.Header.Get(opencmg.HeaderCorrelationID)) != 32 {
			t.Errorf("got %s", res.Status)
		}
	})
	t.Run("idle", func(t *testing.T) {
		c := in.dial(clientTLS())
		c.send("GET /nowhere HTTP/1.1\r\n" + hostField + "\r\n").answer("GET")
		eventually(t, "the connection is closed", func() bool { limited(121); return in.s.Connections() == 0 })
		if !c.closed() {
			t.Error("an idle connection stays")
		}
	})
	t.Run("body", func(t *testing.T) {
		for _, framing := range []string{"Content-Length: 100", "Content-Length: 100000", "Transfer-Encoding: chunked"} {
			c := in.dial(clientTLS()).send("POST /wiki/x HTTP/1.1\r\n" + hostField + framing + "\r\n\r\n4\r\nabc")
			eventually(t, "the body is read", func() bool { _, _, body := in.s.Phases(); return body == 1 })
			limited(59)
			limited(61)
			if res := c.answer("POST"); res.StatusCode != 408 || !res.Close {
				t.Errorf("%s: got %s", framing, res.Status)
			}
		}
	})
	t.Run("answer", func(t *testing.T) {
		c := in.dial(clientTLS()).send("GET /wiki/slow HTTP/1.1\r\n" + hostField + "\r\n")
		eventually(t, "the request waits", func() bool { waiting, _, _ := in.s.Phases(); return waiting == 1 })
		limited(6)
		limited(8)
		res := c.answer("GET")
		if res.StatusCode != 504 || reason(res) != "Gateway Timeout" {
			t.Errorf("got %s", res.Status)
		}
		if rec := in.explain(res.Header.Get(opencmg.HeaderCorrelationID)); !strings.Contains(rec.Verdict, "within 7s") {
			t.Errorf("explanation: %+v", rec)
		}
	})
	t.Run("stalled answer", func(t *testing.T) {
		c := in.dial(clientTLS()).send("GET /wiki/slow/stall HTTP/1.1\r\n" + hostField + "\r\n")
		res, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 5)
		io.ReadFull(res.Body, b)
		eventually(t, "the connection is closed", func() bool { limited(8); return in.s.Connections() == 0 })
		if _, err := io.ReadAll(res.Body); err == nil || string(b) != "hello" {
			t.Errorf("an answer that stalled looks complete: %q", b)
		}
	})
	t.Run("held", func(t *testing.T) {
		c := in.dial(clientTLS()).send("GET /wiki/held HTTP/1.1\r\n" + hostField + "\r\n")
		eventually(t, "the request waits", func() bool { waiting, _, _ := in.s.Phases(); return waiting == 1 })
		limited(100_000)
		if waiting, _, _ := in.s.Phases(); waiting != 1 {
			t.Error("a held request was ended")
		}
		c.Close()
	})
}

// TestClientGoneWhileHeld: the role learns that nobody waits any more.
func TestClientGoneWhileHeld(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1)})
	gone := make(chan struct{})
	in.connect("id-1", func(c *call) {
		<-lostForever(c)
		close(gone)
	})
	c := in.dial(clientTLS()).send("POST /wiki/held HTTP/1.1\r\n" + hostField + "Content-Length: 4\r\n\r\nwait")
	eventually(t, "the request waits", func() bool { waiting, _, _ := in.s.Phases(); return waiting == 1 })
	in.s.Sweep(0)
	if waiting, _, _ := in.s.Phases(); waiting != 1 {
		t.Error("the sweeper ended a request whose client is there")
	}
	c.Close()
	for ended := false; !ended; in.s.Sweep(0) {
		select {
		case <-gone:
			ended = true
		default:
		}
	}
	eventually(t, "nothing is in flight", func() bool { return in.s.InFlight() == 0 })
}

func TestConfigurationRollsForward(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{})
	answer := func(c *call) { c.answer("HTTP/1.1 200 OK", "x") }
	p := in.connect("id-1", answer) // nobody is registered yet
	if err := in.s.Ready(); err == nil {
		t.Error("ready without a configuration")
	}
	foreign := configuration(9)
	foreign.Gateway = "other"
	otherSite := configuration(9)
	otherSite.Site = "ABC"
	for _, tt := range []struct {
		name    string
		jws     []byte
		version uint64
		err     string
	}{
		{"garbage", []byte("garbage"), 0, "JWS"},
		{"first", signed(t, configuration(3)), 3, ""},
		{"again", signed(t, configuration(3)), 3, ""},
		{"older", signed(t, configuration(2)), 3, "older"},
		{"foreign gateway", signed(t, foreign), 3, "for gateway"},
		{"next", signed(t, configuration(4)), 4, ""},
		{"changed on the way", append(signed(t, configuration(5)), 'x'), 4, "signature"},
	} {
		a := p.control(opencmg.ControlConfiguration, tt.jws)
		if a.Version != tt.version || (a.Error == "") != (tt.err == "") {
			t.Errorf("%s: got %+v, want version %d and error %q", tt.name, a, tt.version, tt.err)
		}
	}
	if a := p.control("nonsense", nil); a.Error == "" {
		t.Error("an unknown control stream was taken")
	}
	if err := in.s.Ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
	// The next start serves from what was kept.
	in.stop()
	again := startInstance(t, instanceOptions{stateDir: in.stateDir})
	again.connect("id-2", answer)
	if res := again.dial(clientTLS()).send("GET /wiki/x HTTP/1.1\r\n" + hostField + "\r\n").answer("GET"); res.StatusCode != 200 {
		t.Errorf("after a restart: %s", res.Status)
	}
}

func TestConnectionPointsMustBeRegistered(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1)})
	if _, err := in.tryConnect("id-unknown", echo); err == nil || !strings.Contains(err.Error(), "not registered") {
		t.Errorf("got %v, want the reason", err)
	}
	one, two := in.connect("id-1", echo), in.connect("id-2", echo)
	next := configuration(2)
	next.ConnectionPoints = next.ConnectionPoints[1:]
	if a := two.control(opencmg.ControlConfiguration, signed(t, next)); a.Version != 2 {
		t.Errorf("got %+v", a)
	}
	<-one.conn.Done()
	if res := in.dial(clientTLS()).send("GET /wiki/x HTTP/1.1\r\n" + hostField + "\r\n").answer("GET"); res.StatusCode != 200 {
		t.Errorf("got %s", res.Status)
	}
	// A certificate of somebody else does not even get that far.
	cert := issue(t, keys().clientCA, pki.Template{CommonName: "x", URIs: []string{opencmg.ConnectionPointURI(testSite, "id-1")}, Client: true})
	in.wantTunnelRefused(cert)
}

// TestBlockingTakesEffectOnOpenConnections covers tokens and certificates, the
// next request and the held one.
func TestBlockingTakesEffectOnOpenConnections(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1)})
	in.connect("id-2", func(c *call) {
		if c.req.Endpoint == "BGB" {
			<-lostForever(c)
			return
		}
		c.answer("HTTP/1.1 200 OK", "x")
	})
	k := keys()
	tok := clientToken(t, k.device)
	pc := issue(t, k.clientCA, pki.Template{CommonName: "pc1", Client: true})
	byToken := in.dial(clientTLS(k.device))
	byCert := in.dial(clientTLS(pc))
	heldToken, heldCert := in.dial(clientTLS(k.device)), in.dial(clientTLS(pc))
	tokenField := "Authorization: Bearer " + tok.Raw + "\r\n"
	getToken := func() *http.Response {
		return byToken.send("GET " + server + "/SMS_MP/x HTTP/1.1\r\n" + hostField + tokenField + "\r\n").answer("GET")
	}
	getCert := func() *http.Response {
		return byCert.send("GET " + mutual + "/SMS_MP/x HTTP/1.1\r\n" + hostField + "\r\n").answer("GET")
	}
	if a, b := getToken(), getCert(); a.StatusCode != 200 || b.StatusCode != 200 {
		t.Fatalf("before: %s, %s", a.Status, b.Status)
	}
	heldToken.send("CCM_POST " + server + "/BGB/handler.ashx HTTP/1.1\r\n" + hostField + tokenField + "Content-Length: 0\r\n\r\n")
	heldCert.send("CCM_POST " + mutual + "/BGB/handler.ashx HTTP/1.1\r\n" + hostField + "Content-Length: 0\r\n\r\n")
	eventually(t, "both requests are held", func() bool { waiting, _, _ := in.s.Phases(); return waiting == 2 })

	next := configuration(2)
	next.BlockedTokens = []string{tok.ID}
	next.Certificates.Blocked = []string{pki.Thumbprint(leafOf(t, pc))}
	p := in.connect("id-1", echo)
	if a := p.control(opencmg.ControlConfiguration, signed(t, next)); a.Version != 2 {
		t.Fatalf("got %+v", a)
	}
	if a, b := getToken(), getCert(); a.StatusCode != 401 || reason(a) != opencmg.ReasonInvalidToken || b.StatusCode != 401 || reason(b) != "Unauthorized" {
		t.Errorf("after: %s, %s", a.Status, b.Status)
	}
	if a, b := heldToken.answer("CCM_POST"), heldCert.answer("CCM_POST"); a.StatusCode != 401 || reason(a) != opencmg.ReasonInvalidToken || b.StatusCode != 401 || reason(b) != "Unauthorized" {
		t.Errorf("held requests: %s, %s", a.Status, b.Status)
	}
	if !heldToken.closed() || !heldCert.closed() {
		t.Error("the connection of a blocked caller stays open")
	}
}

// TestBlockedCertificateOfToken: a certificate that is blocked is of no use
// beside a token either, which may be one that the site can not block.
func TestBlockedCertificateOfToken(t *testing.T) {
	noLeaks(t)
	k := keys()
	tok := clientToken(t, k.device)
	in := startInstance(t, instanceOptions{config: configuration(1)})
	p := in.connect("id-1", echo)
	c := in.dial(clientTLS(k.device))
	get := func() *http.Response {
		return c.send("GET " + server + "/SMS_MP/x HTTP/1.1\r\n" + hostField + "Authorization: Bearer " + tok.Raw + "\r\n\r\n").answer("GET")
	}
	if res := get(); res.StatusCode != 200 {
		t.Fatalf("before: %s", res.Status)
	}
	next := configuration(2)
	next.Certificates.Blocked = []string{pki.Thumbprint(leafOf(t, k.device))}
	if a := p.control(opencmg.ControlConfiguration, signed(t, next)); a.Version != 2 {
		t.Fatalf("got %+v", a)
	}
	if res := get(); res.StatusCode != 401 || reason(res) != opencmg.ReasonInvalidToken {
		t.Errorf("after: %s", res.Status)
	}
}

// TestShutdown: a request in flight finishes, a held one is sent elsewhere, an
// idle connection ends, and the connection point hears of it first.
func TestShutdown(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1)})
	g := newGate()
	p := in.connect("id-1", func(c *call) {
		if c.req.Endpoint == "held" {
			<-lostForever(c)
			return
		}
		g.wait()
		c.answer("HTTP/1.1 200 OK", "done")
	})
	idle := in.dial(clientTLS())
	idle.send("GET /nowhere HTTP/1.1\r\n" + hostField + "\r\n").answer("GET")
	busy := in.dial(clientTLS()).send("GET /wiki/x HTTP/1.1\r\n" + hostField + "\r\n")
	held := in.dial(clientTLS()).send("GET /wiki/held HTTP/1.1\r\n" + hostField + "\r\n")
	eventually(t, "both requests wait", func() bool { waiting, _, _ := in.s.Phases(); return waiting == 2 })
	stopped := make(chan struct{})
	go func() { in.stop(); close(stopped) }()
	<-p.conn.GoingAway()
	if res := held.answer("GET"); res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || !res.Close {
		t.Errorf("held request: got %s", res.Status)
	}
	if !idle.closed() {
		t.Error("an idle connection stays")
	}
	if err := in.s.Ready(); err == nil {
		t.Error("ready while it stops")
	}
	g.open()
	if res := busy.answer("GET"); res.StatusCode != 200 || text(res) != "done" || !res.Close {
		t.Errorf("request in flight: got %s, close %v", res.Status, res.Close)
	}
	<-stopped
	<-p.conn.Done()
}

// TestShutdownHasADeadline: a request that never ends does not hold it up.
func TestShutdownHasADeadline(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1)})
	in.connect("id-1", func(c *call) { <-lostForever(c) })
	c := in.dial(clientTLS()).send("GET /wiki/x HTTP/1.1\r\n" + hostField + "\r\n")
	eventually(t, "the request waits", func() bool { waiting, _, _ := in.s.Phases(); return waiting == 1 })
	in.stop()
	if res := c.answer("GET"); res.StatusCode != 503 {
		t.Errorf("got %s", res.Status)
	}
}
