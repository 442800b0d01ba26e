package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/tunnel"
)

// echo answers with what it was asked.
func echo(c *call) {
	body := c.body()
	c.answer("HTTP/1.1 200 OK\nContent-Type: text/plain", fmt.Sprintf("%s %s|%s|%d", c.head.Method, c.head.Target, body, c.req.BodyLength))
}

const hostField = "Host: " + testName + "\r\n"

func TestForwardIdentifiesTheCaller(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1)})
	k := keys()
	calls := make(chan *call, 1)
	in.connect("id-1", func(c *call) {
		req := *c.req
		req.Head = []byte(string(req.Head))
		calls <- &call{req: &req}
		c.answer("HTTP/1.1 200 OK\nX-Correlation-ID: forged\nOpenCMG-Identity: forged\nConnection: X-Private\nX-Private: 1\nKeep-Alive: 1\nX-Public: 2", "hello")
	})
	pc := issue(t, k.clientCA, pki.Template{CommonName: "pc1", Client: true})
	tok := clientToken(t, k.device)
	bulk, _ := k.signer.Bulk(0, time.Now())
	for _, tt := range []struct {
		name, head     string
		cert           int
		role, endpoint string
		want           opencmg.Identity
	}{
		{"certificate", "GET " + mutual + "/SMS_MP/.sms_pol?A%2Fb HTTP/1.1", 1, mpID, "SMS_MP",
			opencmg.Identity{Auth: opencmg.AuthPKI, Subject: "CN=pc1", Thumbprint: pki.Thumbprint(leafOf(t, pc)), Source: "127.0.0.1"}},
		{"client token", "GET " + server + "/sms_mp/.sms_pol?x HTTP/1.1\r\nAuthorization: Bearer " + tok.Raw, 2, mpID, "SMS_MP",
			opencmg.Identity{Auth: opencmg.AuthClientToken, ClientID: clientID, TokenID: tok.ID, Thumbprint: pki.Thumbprint(leafOf(t, k.device)), Source: "127.0.0.1"}},
		{"bulk token", "CCM_POST " + server + "/ccm_system_tokenauth/request HTTP/1.1\r\nContent-Length: 0\r\nAuthorization: Bearer " + bulk.Raw, 2, mpID, "ccm_system_tokenauth",
			opencmg.Identity{Auth: opencmg.AuthBulkToken, TokenID: bulk.ID, Thumbprint: pki.Thumbprint(leafOf(t, k.device)), Source: "127.0.0.1"}},
		{"nobody", "GET /WIKI/page HTTP/1.1", 0, "9", "wiki", opencmg.Identity{Auth: opencmg.AuthNone}},
		{"service by token", "GET /team/SHARED/docs/x HTTP/1.1\r\nAuthorization: Bearer " + tok.Raw, 2, "10", "docs",
			opencmg.Identity{Auth: opencmg.AuthClientToken, ClientID: clientID, TokenID: tok.ID, Thumbprint: pki.Thumbprint(leafOf(t, k.device)), Source: "127.0.0.1"}},
		{"service by certificate", "GET /team/SHARED/docs/x HTTP/1.1", 1, "10", "docs",
			opencmg.Identity{Auth: opencmg.AuthPKI, Subject: "CN=pc1", Thumbprint: pki.Thumbprint(leafOf(t, pc)), Source: "127.0.0.1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := clientTLS()
			switch tt.cert {
			case 1:
				cfg = clientTLS(pc)
			case 2:
				cfg = clientTLS(k.device)
			}
			c := in.dial(cfg)
			for range 2 { // the second one from the connection's memory
				c.send(tt.head + "\r\n" + hostField + "OpenCMG-Identity: auth=pki\r\nopencmg_identity: auth=pki\r\nX-Correlation-ID: mine\r\n" +
					"X-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nX-Original-URL: /admin\r\nX-HTTP-Method-Override: DELETE\r\nx_arr_clientcert: a\r\nClient-Cert: :a:\r\nSSL_CLIENT_CERT: a\r\nREMOTE_USER: root\r\nConnection: X-Mine, Host\r\nX-Mine: 1\r\nTE: trailers\r\nUpgrade: h2c\r\n" +
					"Range: bytes=0-5\r\nCCMClientID: a\r\nCCMClientTimestampsSignature: b\r\nClientToken: c\r\nX-Twice: 1\r\nX-Twice: 2\r\n\r\n")
				method, _, _ := strings.Cut(tt.head, " ")
				res := c.answer(method)
				got := <-calls
				if res.StatusCode != 200 || text(res) != "hello" {
					t.Fatalf("got %s", res.Status)
				}
				id := res.Header.Values("X-Correlation-ID")
				if len(id) != 1 || id[0] != got.req.CorrelationID || len(id[0]) != 32 {
					t.Errorf("correlation ID: client got %q, connection point %q", id, got.req.CorrelationID)
				}
				for _, name := range []string{"OpenCMG-Identity", "X-Private", "Keep-Alive"} {
					if v := res.Header.Get(name); v != "" {
						t.Errorf("the client got %s: %s", name, v)
					}
				}
				if res.Header.Get("X-Public") != "2" {
					t.Error("the client did not get X-Public")
				}
				if got.req.Role != tt.role || got.req.Endpoint != tt.endpoint {
					t.Errorf("role %s endpoint %s, want %s %s", got.req.Role, got.req.Endpoint, tt.role, tt.endpoint)
				}
				ident, err := opencmg.ParseIdentity(got.req.Identity)
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(tt.want, ident); d != "" {
					t.Errorf("identity (-want +got):\n%s", d)
				}
				requestLine, rest, _ := strings.Cut(string(got.req.Head), "\r\n")
				wantLine, auth, _ := strings.Cut(tt.head, "\r\n")
				if auth != "" {
					auth += "\r\n"
				}
				if requestLine != wantLine {
					t.Errorf("request line %q, want %q", requestLine, wantLine)
				}
				if want := auth + hostField + "Range: bytes=0-5\r\nCCMClientID: a\r\nCCMClientTimestampsSignature: b\r\nClientToken: c\r\nX-Twice: 1\r\nX-Twice: 2\r\n\r\n"; rest != want {
					t.Errorf("fields (-want +got):\n%s", cmp.Diff(want, rest))
				}
				if rec := in.explain(id[0]); rec.Status != 200 || rec.Endpoint != tt.endpoint || rec.Verdict != "answered by the role" {
					t.Errorf("explanation: got %+v", rec)
				}
			}
		})
	}
}

func TestRequestBodies(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1)})
	in.connect("id-1", func(c *call) {
		n, err := io.Copy(io.Discard, c.Stream)
		c.answer("HTTP/1.1 200 OK", fmt.Sprintf("%d %d %v %s", n, c.req.BodyLength, err, c.Trailers()))
	})
	big := strings.Repeat("x", 3<<20)
	for _, tt := range []struct {
		name, fields, body, want string
		status                   int
		close                    bool
	}{
		{"none", "", "", "0 0 <nil> ", 200, false},
		{"empty", "Content-Length: 0\r\n", "", "0 0 <nil> ", 200, false},
		{"inline", "Content-Length: 5\r\n", "hello", "5 5 <nil> ", 200, false},
		{"streamed", fmt.Sprintf("Content-Length: %d\r\n", len(big)), big, fmt.Sprintf("%d %d <nil> ", len(big), len(big)), 200, false},
		{"chunked", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n3;ext\r\nyou\r\n0\r\n\r\n", "8 -1 <nil> ", 200, false},
		{"chunked with trailers", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nX-T: v\r\n\r\n", "5 -1 <nil> X-T: v\r\n", 200, false},
		{"spoofed trailers", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nOpenCMG_Identity: auth=pki\r\nAuthorization: Bearer x\r\nX-T: v\r\nConnection: X-T\r\n\r\n", "5 -1 <nil> X-T: v\r\n", 200, false},
		{"malformed chunk", "Transfer-Encoding: chunked\r\n", "zz\r\nhello\r\n0\r\n\r\n", "", 400, true},
		{"malformed trailer", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nContent-Length: 1\r\n\r\n", "", 400, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := in.dial(clientTLS())
			c.send("POST /wiki/x HTTP/1.1\r\n" + hostField + tt.fields + "\r\n" + tt.body)
			res := c.answer("POST")
			if got := text(res); res.StatusCode != tt.status || got != tt.want || res.Close != tt.close {
				t.Errorf("got %s %q close %v, want %d %q", res.Status, got, res.Close, tt.status, tt.want)
			}
			if !tt.close {
				c.send("GET /wiki/x HTTP/1.1\r\n" + hostField + "\r\n")
				if res := c.answer("GET"); res.StatusCode != 200 {
					t.Errorf("next request: %s", res.Status)
				}
			}
		})
	}
	t.Run("chunked above the limit", func(t *testing.T) {
		c := in.dial(clientTLS())
		c.send("POST /wiki/small HTTP/1.1\r\n" + hostField + "Transfer-Encoding: chunked\r\n\r\n64\r\n" + strings.Repeat("x", 100) + "\r\n1\r\nx\r\n0\r\n\r\n")
		if res := c.answer("POST"); res.StatusCode != 413 || !res.Close {
			t.Errorf("got %s close %v, want 413 and the connection closed", res.Status, res.Close)
		}
	})
	t.Run("client goes away", func(t *testing.T) {
		c := in.dial(clientTLS())
		c.send("POST /wiki/x HTTP/1.1\r\n" + hostField + "Content-Length: 1000000\r\n\r\nonly this")
		c.Close()
		eventually(t, "nothing is in flight", func() bool { return in.s.InFlight() == 0 })
	})
	t.Run("expectation", func(t *testing.T) {
		c := in.dial(clientTLS())
		c.send("POST /wiki/x HTTP/1.1\r\n" + hostField + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
		if res := c.answer("POST"); res.StatusCode != 100 {
			t.Fatalf("got %s, want 100", res.Status)
		}
		c.send("hello")
		if res := c.answer("POST"); res.StatusCode != 200 || text(res) != "5 5 <nil> " {
			t.Errorf("got %s", res.Status)
		}
	})
}

func TestAnswers(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1)})
	big := strings.Repeat("0123456789abcdef", 1<<16)
	in.connect("id-1", func(c *call) {
		switch target := string(c.head.Target); target {
		case "/wiki/204":
			c.answer("HTTP/1.1 204 No Content", "")
		case "/wiki/304":
			c.answer("HTTP/1.1 304 Not Modified\nContent-Length: 77\nETag: x", "")
		case "/wiki/head":
			c.answer("HTTP/1.1 200 OK\nContent-Length: 77", "")
		case "/wiki/length":
			c.answer("HTTP/1.1 200 OK\nContent-Length: 5", "hello")
		case "/wiki/empty":
			c.answer("HTTP/1.1 200 OK", "")
		case "/wiki/reason":
			c.answer("HTTP/1.1 403 CMGConnector_Clientcertificaterequired", "")
		case "/wiki/early":
			c.WriteInformational([]byte("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"))
			c.answer("HTTP/1.1 200 OK", "late")
		case "/wiki/big", "/wiki/biglength":
			h := "HTTP/1.1 200 OK"
			if target == "/wiki/biglength" {
				h += fmt.Sprintf("\nContent-Length: %d", len(big))
			}
			c.start(h)
			io.WriteString(c.Stream, big)
			c.CloseWrite()
		case "/wiki/trailers":
			c.start("HTTP/1.1 200 OK")
			io.WriteString(c.Stream, "hello")
			c.WriteTrailers([]byte("X-T: v\r\n"))
		case "/wiki/badtrailers":
			c.start("HTTP/1.1 200 OK")
			io.WriteString(c.Stream, "hello")
			c.WriteTrailers([]byte("Content-Length: 7\r\n"))
		case "/wiki/longhead":
			c.answer("HTTP/1.1 200 OK\nX-Long: "+strings.Repeat("y", 40<<10), "hello")
		case "/wiki/garbage":
			c.answer("HELLO", "")
		case "/wiki/switch":
			c.answer("HTTP/1.1 101 Switching Protocols", "")
		case "/wiki/injected":
			c.WriteHeadBody([]byte("HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: b\r\n\r\n"), nil, true)
		case "/wiki/short":
			c.start("HTTP/1.1 200 OK\nContent-Length: 10")
			io.WriteString(c.Stream, "hello")
			c.CloseWrite()
		case "/wiki/long":
			c.start("HTTP/1.1 200 OK\nContent-Length: 5")
			io.WriteString(c.Stream, "hello, and more")
			c.CloseWrite()
		case "/wiki/reset":
			c.Reset(tunnel.CodeInternal)
		case "/wiki/unreachable":
			c.Fail(tunnel.CodeRoleUnreachable, "connection refused")
		case "/wiki/timeout":
			c.Fail(tunnel.CodeRoleTimeout, "slow")
		case "/wiki/cut":
			c.start("HTTP/1.1 200 OK")
			io.WriteString(c.Stream, "hello")
			c.Reset(tunnel.CodeInternal)
		}
	})
	for _, tt := range []struct {
		method, path string
		status       int
		reason       string
		body         string
		length       int64
	}{
		{"GET", "204", 204, "No Content", "", 0},
		{"GET", "304", 304, "Not Modified", "", 0}, // net/http does not tell
		{"HEAD", "head", 200, "OK", "", 77},
		{"GET", "length", 200, "OK", "hello", 5},
		{"GET", "empty", 200, "OK", "", 0},
		{"GET", "reason", 403, "CMGConnector_Clientcertificaterequired", "", 0},
		{"GET", "big", 200, "OK", big, -1},
		{"GET", "biglength", 200, "OK", big, int64(len(big))},
		{"GET", "badtrailers", 200, "OK", "hello", 5},
		{"GET", "longhead", 200, "OK", "hello", 5},
		{"GET", "garbage", 502, "Bad Gateway", "", 0},
		{"GET", "switch", 502, "Bad Gateway", "", 0},
		{"GET", "injected", 502, "Bad Gateway", "", 0},
		{"GET", "reset", 502, "Bad Gateway", "", 0},
		{"GET", "unreachable", 502, "Bad Gateway", "", 0},
		{"GET", "timeout", 504, "Gateway Timeout", "", 0},
		{"GET", "long", 200, "OK", "hello", 5},
	} {
		t.Run(tt.path, func(t *testing.T) {
			c := in.dial(clientTLS())
			for range 2 {
				c.send(tt.method + " /wiki/" + tt.path + " HTTP/1.1\r\n" + hostField + "\r\n")
				res := c.answer(tt.method)
				length := res.ContentLength
				if tt.path == "badtrailers" && length < 0 {
					length = tt.length // whether it is known in time depends on timing
				}
				if got := text(res); res.StatusCode != tt.status || reason(res) != tt.reason || got != tt.body || length != tt.length {
					t.Errorf("got %s, length %d, %d bytes; want %d %s, length %d, %d bytes", res.Status, res.ContentLength, len(got), tt.status, tt.reason, tt.length, len(tt.body))
				}
				if len(res.Header.Values(opencmg.HeaderCorrelationID)) != 1 {
					t.Errorf("correlation IDs: %q", res.Header.Values(opencmg.HeaderCorrelationID))
				}
			}
		})
	}
	t.Run("informational", func(t *testing.T) {
		c := in.dial(clientTLS()).send("GET /wiki/early HTTP/1.1\r\n" + hostField + "\r\n")
		if res := c.answer("GET"); res.StatusCode != 103 || res.Header.Get("Link") != "</a>" {
			t.Errorf("got %s", res.Status)
		}
		if res := c.answer("GET"); res.StatusCode != 200 || text(res) != "late" {
			t.Errorf("got %s", res.Status)
		}
	})
	t.Run("trailers", func(t *testing.T) {
		c := in.dial(clientTLS()).send("GET /wiki/trailers HTTP/1.1\r\n" + hostField + "\r\n")
		if res := c.answer("GET"); text(res) != "hello" || res.Trailer.Get("X-T") != "v" {
			t.Errorf("got trailers %v", res.Trailer)
		}
	})
	for _, path := range []string{"short", "cut"} {
		t.Run(path, func(t *testing.T) {
			c := in.dial(clientTLS()).send("GET /wiki/" + path + " HTTP/1.1\r\n" + hostField + "\r\n")
			res, err := http.ReadResponse(c.r, nil)
			if err == nil {
				_, err = io.ReadAll(res.Body)
			}
			if err == nil && res.StatusCode == 200 {
				t.Error("an incomplete answer looks complete")
			}
		})
	}
	t.Run("HTTP/1.0", func(t *testing.T) {
		c := in.dial(clientTLS()).send("GET /wiki/big HTTP/1.0\r\n\r\n")
		res, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); string(b) != big || err != nil || len(res.TransferEncoding) > 0 {
			t.Errorf("got %d bytes, %v, %v", len(b), err, res.TransferEncoding)
		}
	})
	t.Run("pipelined", func(t *testing.T) {
		one := "GET /wiki/length HTTP/1.1\r\n" + hostField + "\r\n"
		c := in.dial(clientTLS()).send(one + one + one)
		for range 3 {
			if res := c.answer("GET"); text(res) != "hello" {
				t.Errorf("got %s", res.Status)
			}
		}
	})
}

// TestAnswerDuringUpload: a role may answer before it has read the body.
func TestAnswerDuringUpload(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1)})
	in.connect("id-1", func(c *call) { c.answer("HTTP/1.1 403 Forbidden", "no") })
	c := in.dial(clientTLS())
	c.send("POST /wiki/x HTTP/1.1\r\n" + hostField + "Content-Length: 1000000\r\n\r\n" + strings.Repeat("x", 1000))
	if res := c.answer("POST"); res.StatusCode != 403 || text(res) != "no" || !res.Close {
		t.Errorf("got %s, close %v; want 403 and the connection closed", res.Status, res.Close)
	}
}

func TestRoundRobinAndRetry(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1)})
	var one, two atomic.Int64
	in.connect("id-1", func(c *call) { one.Add(1); c.answer("HTTP/1.1 200 OK", "1") })
	second := in.connect("id-2", func(c *call) {
		two.Add(1)
		switch {
		case strings.Contains(string(c.head.Target), "refuse"):
			c.Refuse(tunnel.CodeDraining, "going")
		case strings.Contains(string(c.head.Target), "fail"):
			c.Reset(tunnel.CodeInternal)
		default:
			c.answer("HTTP/1.1 200 OK", "2")
		}
	})
	c := in.dial(clientTLS())
	get := func(method, path string) *http.Response {
		c.send(method + " /wiki/" + path + " HTTP/1.1\r\n" + hostField + "Content-Length: 0\r\n\r\n")
		return c.answer(method)
	}
	for range 10 {
		get("GET", "x")
	}
	if one.Load() != 5 || two.Load() != 5 {
		t.Errorf("%d and %d requests, want 5 each", one.Load(), two.Load())
	}
	for range 4 {
		if res := get("POST", "refuse"); res.StatusCode != 200 || text(res) != "1" {
			t.Errorf("a request that was not processed: got %s, want the other one's answer", res.Status)
		}
	}
	var failed int
	for range 4 {
		if res := get("POST", "fail"); res.StatusCode == 502 {
			failed++
		}
	}
	if failed != 2 {
		t.Errorf("%d of 4 requests failed, want 2: what may have reached the role is not sent twice", failed)
	}
	second.conn.Close()
	eventually(t, "the tunnel is gone", func() bool { return in.s.Tunnels("id-2") == 0 })
	for range 4 {
		if res := get("GET", "x"); res.StatusCode != 200 || text(res) != "1" {
			t.Errorf("after a connection point left: got %s", res.Status)
		}
	}
}

// TestLostTunnel: only requests that may be repeated are sent again when a
// tunnel is lost under them.
func TestLostTunnel(t *testing.T) {
	noLeaks(t)
	for _, tt := range []struct {
		method string
		status int
	}{{"GET", 200}, {"POST", 502}} {
		t.Run(tt.method, func(t *testing.T) {
			in := startInstance(t, instanceOptions{config: configuration(1)})
			lost := make(chan struct{}, 8)
			handler := func(c *call) {
				lost <- struct{}{}
				<-lostForever(c)
			}
			p := in.connect("id-1", handler)
			c := in.dial(clientTLS())
			c.send(tt.method + " /wiki/x HTTP/1.1\r\n" + hostField + "Content-Length: 0\r\n\r\n")
			<-lost
			in.connect("id-2", func(c *call) { c.answer("HTTP/1.1 200 OK", "again") })
			p.conn.Close()
			if res := c.answer(tt.method); res.StatusCode != tt.status {
				t.Errorf("got %s, want %d", res.Status, tt.status)
			}
		})
	}
}

// lostForever is closed when the stream ends under the handler.
func lostForever(c *call) <-chan struct{} {
	ch := make(chan struct{})
	c.OnReset(func() { close(ch) })
	return ch
}

// TestRequestWaitsForATunnel: a request that comes while no tunnel is up is
// answered when one comes in time.
func TestRequestWaitsForATunnel(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1), tunnelWait: time.Minute})
	c := in.dial(clientTLS()).send("POST /wiki/x HTTP/1.1\r\n" + hostField + "Content-Length: 5\r\n\r\nhello")
	eventually(t, "the request is in flight", func() bool { return in.s.InFlight() == 1 })
	in.connect("id-1", echo)
	if res := c.answer("POST"); res.StatusCode != 200 || text(res) != "POST /wiki/x|hello|5" {
		t.Errorf("got %s", res.Status)
	}
}
