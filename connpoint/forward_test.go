package connpoint_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/tunnel"
)

func TestForward(t *testing.T) {
	saw := make(chan seen, 10)
	r := newRole(t, answering(plainAnswer, saw))
	l := newLab(t, 1, r.mapping(), nil)
	c := l.instances[0].tunnel()
	got := do(t, c, ask{path: "/SMS_MP/.sms_aut?MPLIST", identity: "auth=pki&thumbprint=ab", fields: []string{"OpenCMG-Identity: auth=pki&client=evil", "Range: bytes=0-"}, deadline: patience})
	if got.err != nil || got.line != "200 OK" || got.body != "hello" {
		t.Errorf("got %+v", got)
	}
	want := "GET /SMS_MP/.sms_aut?MPLIST HTTP/1.1\r\nHost: " + r.addr + "\r\nRange: bytes=0-\r\nOpenCMG-Identity: auth=pki&thumbprint=ab\r\nX-Correlation-ID: c1\r\n\r\n"
	if s := receive(t, saw, "the request"); s.head != want {
		t.Errorf("the role got %q, want %q", s.head, want)
	}
	for _, n := range []int{1, 4000, 12 << 10, 12<<10 + 1, 3 << 20} {
		body := strings.Repeat("x", n)
		got := do(t, c, ask{method: "CCM_POST", path: "/ccm_system/request", body: body, deadline: patience})
		if s := receive(t, saw, "the request"); got.status != 200 || s.body != body {
			t.Errorf("%d bytes: answer %d %v, the role got %d bytes", n, got.status, got.err, len(s.body))
		}
	}
	for _, n := range []int{1, 5000, 1 << 20} {
		body := strings.Repeat("y", n)
		got := do(t, c, ask{method: "POST", path: "/ccm_incoming/x", body: body, chunked: true, deadline: patience})
		if s := receive(t, saw, "the request"); got.status != 200 || s.body != body {
			t.Errorf("%d bytes of unknown length: answer %d %v, the role got %d bytes", n, got.status, got.err, len(s.body))
		}
	}
	// A request ends for its client a moment before its connection is free.
	r.mu.Lock()
	if r.dials > 2 {
		t.Errorf("%d connections to the role, want one that is used again", r.dials)
	}
	r.mu.Unlock()
	st := l.conn.Status()
	if len(st.Endpoints) != 1 || st.Endpoints[0].TotalRequests != 9 || st.Endpoints[0].FailedRequests != 0 || st.Endpoints[0].TotalRequestBytes < 4<<20 || st.MaxConcurrentRequests > 2 || st.Endpoints[0].TargetHost != r.addr {
		t.Errorf("traffic: %+v", st)
	}
	found := false
	for _, rec := range l.records.Find(t.Context(), "c1") {
		found = found || rec.Path == "/CCM_Proxy_MutualAuth/8/SMS_MP/.sms_aut" && rec.Status == 200 && rec.Endpoint == "SMS_MP"
	}
	if !found {
		t.Errorf("records: %+v", l.records.Find(t.Context(), "c1"))
	}
}

// Every framing that a role may use arrives as it was meant, or as an error;
// never as a response that is silently too short.
func TestFramings(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 20<<10)
	for _, tt := range []struct {
		name, method, raw string
		close             bool // the role closes the connection after it
		want              reply
	}{
		{name: "length", raw: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\nabc", want: reply{line: "200 OK", body: "abc"}},
		{name: "large", raw: fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(big), big), want: reply{line: "200 OK", body: big}},
		{name: "empty", raw: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", want: reply{line: "200 OK"}},
		{name: "no content", raw: "HTTP/1.1 204 No Content\r\n\r\n", want: reply{line: "204 No Content"}},
		{name: "not modified", raw: "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", want: reply{line: "304 Not Modified"}},
		{name: "head", method: "HEAD", raw: "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", want: reply{line: "200 OK"}},
		{name: "chunked", raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", want: reply{line: "200 OK", body: "abcde"}},
		{name: "large chunked", raw: fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(big), big), want: reply{line: "200 OK", body: big}},
		{name: "trailers", raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n", want: reply{line: "200 OK", body: "abc", trailers: "X-Sum: 7\r\n"}},
		{name: "until close", raw: "HTTP/1.1 200 OK\r\n\r\nabc", close: true, want: reply{line: "200 OK", body: "abc"}},
		{name: "HTTP/1.0", raw: "HTTP/1.0 200 OK\r\n\r\n" + big, close: true, want: reply{line: "200 OK", body: big}},
		{name: "continue", raw: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", want: reply{line: "200 OK", body: "a"}},
		{name: "refusal", raw: "HTTP/1.1 403 Client certificate required\r\nContent-Length: 2\r\n\r\nno", want: reply{line: "403 CMGConnector_Clientcertificaterequired", body: "no"}},
		{name: "redirect", raw: "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", want: reply{line: "302 Found"}},

		{name: "cut off by length", raw: "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", close: true, want: reply{code: tunnel.CodeRoleUnreachable}},
		{name: "cut off large", raw: "HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + big, close: true, want: reply{code: tunnel.CodeRoleUnreachable}},
		{name: "cut off chunk", raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nabc", close: true, want: reply{code: tunnel.CodeRoleUnreachable}},
		{name: "no last chunk", raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", close: true, want: reply{code: tunnel.CodeRoleUnreachable}},
		{name: "two lengths", raw: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", want: reply{code: tunnel.CodeRoleUnreachable}},
		{name: "cut off head", raw: "HTTP/1.1 200 OK\r\nContent-", close: true, want: reply{code: tunnel.CodeRoleUnreachable}},
		{name: "no HTTP", raw: "220 mail.example ESMTP\r\n\r\n", want: reply{code: tunnel.CodeRoleUnreachable}},
		{name: "huge head", raw: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 40<<10), want: reply{code: tunnel.CodeRoleUnreachable}},
		{name: "upgrade", raw: "HTTP/1.1 101 Switching Protocols\r\n\r\n", want: reply{code: tunnel.CodeRoleUnreachable}},
		{name: "endless information", raw: strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 20), want: reply{code: tunnel.CodeRoleUnreachable}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRole(t, func(nc net.Conn, r *bufio.Reader) {
				for {
					if _, err := readRequest(r); err != nil {
						return
					}
					if _, err := io.WriteString(nc, tt.raw); err != nil || tt.close {
						return
					}
				}
			})
			l := newLab(t, 1, r.mapping(), nil)
			c := l.instances[0].tunnel()
			for range 2 { // the second finds a pooled connection, or must not
				s, err := c.Open(ask{method: tt.method, path: "/x", deadline: patience}.request(), nil, true)
				if err != nil {
					t.Fatal(err)
				}
				got := finalReply(s, tt.method)
				if tt.want.code != 0 {
					if got.code != tt.want.code || got.retry {
						t.Fatalf("got %q and error %v, want an error with %v", got.line, got.err, tt.want.code)
					}
					continue
				}
				if got.err != nil || got.line != tt.want.line || got.body != tt.want.body || got.trailers != tt.want.trailers {
					t.Fatalf("got %q, %d bytes, trailers %q, error %v; want %q, %d bytes, trailers %q", got.line, len(got.body), got.trailers, got.err, tt.want.line, len(tt.want.body), tt.want.trailers)
				}
				if strings.Contains(strings.ToLower(got.head), "x-hop") || strings.Contains(strings.ToLower(got.head), "transfer-encoding") {
					t.Errorf("hop-by-hop fields came through: %q", got.head)
				}
			}
		})
	}
}

// finalReply reads past informational heads.
func finalReply(s *tunnel.Stream, method string) reply {
	for {
		r := finish(s, method)
		if r.err == nil && r.status >= 100 && r.status < 200 {
			continue
		}
		return r
	}
}

func TestEarlyResponse(t *testing.T) {
	r := newRole(t, func(nc net.Conn, r *bufio.Reader) {
		for { // head only; the body is never read
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if line == "\r\n" {
				break
			}
		}
		io.WriteString(nc, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		io.Copy(io.Discard, r)
	})
	l := newLab(t, 1, r.mapping(), nil)
	c := l.instances[0].tunnel()
	a := ask{method: "POST", path: "/ccm_incoming/big", deadline: patience}
	req := a.request()
	req.BodyLength = 1 << 30
	s, err := c.Open(req, []byte("begin"), false)
	if err != nil {
		t.Fatal(err)
	}
	got := finish(s, "POST")
	if got.line != "413 CMGConnector_TooLarge" || got.err != nil {
		t.Errorf("got %q, %v", got.line, got.err)
	}
	s.Reset(tunnel.CodeCancelled)
	// The connection is not used again, and the next request works.
	s, err = c.Open(req, []byte("begin"), false)
	if err != nil {
		t.Fatal(err)
	}
	if got := finish(s, "POST"); got.status != 413 {
		t.Errorf("second: %+v", got)
	}
	s.Reset(tunnel.CodeCancelled)
}

func TestRoleDownAndUpAgain(t *testing.T) {
	r := newRole(t, answering(plainAnswer, nil))
	l := newLab(t, 1, r.mapping(), func(l *lab) { l.cfg.RoleWait = patience })
	c := l.instances[0].tunnel()
	if got := do(t, c, ask{path: "/x", deadline: patience}); got.status != 200 {
		t.Fatalf("first: %+v", got)
	}
	r.close()
	// A request without a body and one with: both wait for the role.
	results := make(chan reply, 2)
	for _, a := range []ask{{path: "/x", deadline: patience}, {method: "CCM_POST", path: "/x", body: "b", deadline: patience}} {
		go func() { results <- do(t, c, a) }()
	}
	l.log.wait("internal host does not answer")
	r.listen(r.addr, answering(plainAnswer, nil))
	for range 2 {
		if got := receive(t, results, "an answer"); got.status != 200 {
			t.Errorf("after the restart: %+v", got)
		}
	}
	l.log.wait("internal host answers again")
}

func TestRoleUnreachable(t *testing.T) {
	r := newRole(t, answering(plainAnswer, nil))
	l := newLab(t, 1, r.mapping(), func(l *lab) { l.cfg.RoleWait = time.Millisecond })
	c := l.instances[0].tunnel()
	r.close()
	got := do(t, c, ask{method: "CCM_POST", path: "/x", body: "b", deadline: patience})
	if got.code != tunnel.CodeRoleUnreachable || !got.retry {
		t.Errorf("got %+v, want role unreachable, and that it never reached the role", got)
	}
	if got := do(t, c, ask{path: "/x", role: "9"}); got.code != tunnel.CodeRoleUnreachable || !got.retry || !strings.Contains(got.err.Error(), "no URL mapping for role 9") {
		t.Errorf("unknown role: got %+v", got)
	}
	eventually(t, func() bool {
		st := l.conn.Status()
		return len(st.Endpoints) == 1 && st.Endpoints[0].FailedRequests == 1
	})
}

// A role that closes connections at any moment costs no request that may be
// sent again.
func TestConnectionsThatRolesClose(t *testing.T) {
	t.Run("after the answer", func(t *testing.T) {
		closed := make(chan struct{}, 100)
		r := newRole(t, func(nc net.Conn, r *bufio.Reader) {
			readRequest(r)
			io.WriteString(nc, plainAnswer)
			nc.Close()
			closed <- struct{}{}
		})
		l := newLab(t, 1, r.mapping(), nil)
		c := l.instances[0].tunnel()
		for i, a := range []ask{{path: "/x"}, {path: "/x"}, {method: "CCM_POST", path: "/x", body: "b"}, {method: "CCM_POST", path: "/x"}} {
			a.deadline = patience
			if got := do(t, c, a); got.status != 200 {
				t.Errorf("request %d: %+v", i, got)
			}
			receive(t, closed, "the role to close")
		}
	})
	t.Run("instead of the answer", func(t *testing.T) {
		requests := make(chan seen, 100)
		first := make(chan bool, 1)
		r := newRole(t, func(nc net.Conn, r *bufio.Reader) {
			for {
				s, err := readRequest(r)
				if err != nil {
					return
				}
				requests <- s
				select {
				case <-first:
					return
				default:
				}
				io.WriteString(nc, plainAnswer)
			}
		})
		l := newLab(t, 1, r.mapping(), nil)
		c := l.instances[0].tunnel()
		first <- true
		if got := do(t, c, ask{path: "/x", deadline: patience}); got.status != 200 || len(requests) != 2 {
			t.Errorf("GET: %+v after %d attempts, want the answer to the second", got, len(requests))
		}
		for len(requests) > 0 {
			<-requests
		}
		first <- true
		got := do(t, c, ask{method: "CCM_POST", path: "/x", body: "b", deadline: patience})
		if got.code != tunnel.CodeRoleUnreachable || got.retry || len(requests) != 1 {
			t.Errorf("CCM_POST: %+v after %d attempts, want one and an error", got, len(requests))
		}
	})
}

func TestResponseTimeout(t *testing.T) {
	gone := make(chan error, 10)
	r := newRole(t, func(nc net.Conn, r *bufio.Reader) {
		readRequest(r)
		_, err := r.ReadByte()
		gone <- err
	})
	l := newLab(t, 1, r.mapping(), nil)
	c := l.instances[0].tunnel()
	if got := do(t, c, ask{path: "/x", deadline: 30 * time.Millisecond}); got.code != tunnel.CodeRoleTimeout || got.retry {
		t.Errorf("got %+v, want a role timeout", got)
	}
	if err := receive(t, gone, "the connection to close"); err != io.EOF {
		t.Errorf("the role's connection ended with %v", err)
	}
}

func TestCancel(t *testing.T) {
	arrived, gone := make(chan bool, 10), make(chan error, 10)
	r := newRole(t, func(nc net.Conn, r *bufio.Reader) {
		readRequest(r)
		arrived <- true
		_, err := r.ReadByte()
		gone <- err
	})
	l := newLab(t, 1, r.mapping(), nil)
	c := l.instances[0].tunnel()
	s, err := c.Open(ask{method: "CCM_POST", path: "/BGB", body: "hold"}.request(), []byte("hold"), true)
	if err != nil {
		t.Fatal(err)
	}
	receive(t, arrived, "the request")
	s.Reset(tunnel.CodeCancelled)
	if err := receive(t, gone, "the connection to close"); err != io.EOF {
		t.Errorf("the role's connection ended with %v", err)
	}
	// While it waits for a role that is down.
	r.close()
	s, err = c.Open(ask{path: "/x"}.request(), nil, true)
	if err != nil {
		t.Fatal(err)
	}
	l.log.wait("internal host does not answer")
	s.Reset(tunnel.CodeCancelled)
	l.log.wait("gave up while the request waited")
}

func TestSlowUploadIsNotTimedOut(t *testing.T) {
	r := newRole(t, answering(plainAnswer, nil))
	l := newLab(t, 1, r.mapping(), nil)
	c := l.instances[0].tunnel()
	req := ask{method: "POST", path: "/x"}.request()
	req.BodyLength = 64 << 10
	s, err := c.Open(req, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if _, err := s.Write(make([]byte, 16<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := finish(s, "POST"); got.status != 200 {
		t.Errorf("got %+v", got)
	}
}

func TestRequestTrailersReachTheRole(t *testing.T) {
	saw := make(chan seen, 1)
	r := newRole(t, answering(plainAnswer, saw))
	l := newLab(t, 1, r.mapping(), nil)
	c := l.instances[0].tunnel()
	s, err := c.Open(ask{method: "POST", path: "/x", chunked: true}.request(), []byte("abc"), false)
	if err != nil {
		t.Fatal(err)
	}
	// A role may merge trailers into its fields, so they must not speak for us.
	spoofed := "opencmg_identity: auth=pki\r\nAuthorization: Bearer x\r\nX-Correlation-ID: mine\r\nTransfer-Encoding: chunked\r\n"
	if err := s.WriteTrailers([]byte(spoofed + "X-Sum: 7\r\n")); err != nil {
		t.Fatal(err)
	}
	if got := finish(s, "POST"); got.status != 200 {
		t.Errorf("got %+v", got)
	}
	if s := receive(t, saw, "the request"); s.body != "abc[X-Sum: 7]" {
		t.Errorf("the role got %q", s.body)
	}
}

func TestBodyThatEndsEarly(t *testing.T) {
	r := newRole(t, answering(plainAnswer, nil))
	l := newLab(t, 1, r.mapping(), nil)
	c := l.instances[0].tunnel()
	for _, length := range []int64{100, 1 << 20} {
		req := ask{method: "POST", path: "/x"}.request()
		req.BodyLength = length
		s, err := c.Open(req, []byte("too short"), true)
		if err != nil {
			t.Fatal(err)
		}
		if got := finish(s, "POST"); got.err == nil {
			t.Errorf("%d bytes announced: got %+v, want an error", length, got)
		}
	}
}

func TestSeveralHosts(t *testing.T) {
	a, b := make(chan seen, 100), make(chan seen, 100)
	r1 := newRole(t, answering(plainAnswer, a))
	r2 := newRole(t, answering(plainAnswer, b))
	m := opencmg.URLMapping{Role: "8", Internal: []string{"http://" + r1.addr, "http://" + r2.addr}}
	l := newLab(t, 1, []opencmg.URLMapping{m}, nil)
	c := l.instances[0].tunnel()
	for range 10 {
		if got := do(t, c, ask{path: "/x", deadline: patience}); got.status != 200 {
			t.Fatalf("got %+v", got)
		}
	}
	if len(a) != 5 || len(b) != 5 {
		t.Errorf("%d and %d requests, want 5 each", len(a), len(b))
	}
	r1.close()
	for range 10 {
		if got := do(t, c, ask{path: "/x", deadline: patience}); got.status != 200 {
			t.Fatalf("with one host down: %+v", got)
		}
	}
	if len(b) != 15 {
		t.Errorf("the other host answered %d of 10", len(b)-5)
	}
}

func TestBoundedConnections(t *testing.T) {
	arrived, answer := make(chan bool, 10), make(chan bool)
	r := newRole(t, func(nc net.Conn, r *bufio.Reader) {
		for {
			if _, err := readRequest(r); err != nil {
				return
			}
			arrived <- true
			<-answer
			io.WriteString(nc, plainAnswer)
		}
	})
	m := r.mapping()
	m[0].MaxConnections = 2
	l := newLab(t, 1, m, func(l *lab) { l.cfg.RoleWait = patience })
	c := l.instances[0].tunnel()
	results := make(chan reply, 5)
	for range 5 {
		go func() { results <- do(t, c, ask{path: "/x", deadline: patience}) }()
	}
	for range 5 {
		receive(t, arrived, "a request")
		answer <- true
		if got := receive(t, results, "an answer"); got.status != 200 {
			t.Errorf("got %+v", got)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dials > 2 {
		t.Errorf("%d connections, want at most 2", r.dials)
	}
}

func TestDrainFinishesRequests(t *testing.T) {
	arrived, answer := make(chan bool, 10), make(chan bool)
	r := newRole(t, func(nc net.Conn, r *bufio.Reader) {
		if _, err := readRequest(r); err != nil {
			return
		}
		arrived <- true
		<-answer
		io.WriteString(nc, plainAnswer)
	})
	l := newLab(t, 1, r.mapping(), nil)
	c := l.instances[0].tunnel()
	result := make(chan reply, 1)
	go func() { result <- do(t, c, ask{path: "/x", deadline: patience}) }()
	receive(t, arrived, "the request")
	l.stop()
	select {
	case <-c.GoingAway():
	case <-time.After(patience):
		t.Fatal("the connector did not announce that it leaves")
	}
	if _, err := c.Open(ask{path: "/y"}.request(), nil, true); !tunnel.NotProcessed(err) {
		t.Errorf("a new request while draining: %v, want one that can go elsewhere", err)
	}
	answer <- true
	if got := receive(t, result, "the answer"); got.status != 200 || got.err != nil {
		t.Errorf("the request in flight: %+v", got)
	}
	l.shutdown()
}

// A read deadline of one request must not end the next one on the connection.
func TestHeldRequestAfterUpload(t *testing.T) {
	hold := make(chan bool)
	r := newRole(t, func(nc net.Conn, r *bufio.Reader) {
		for {
			s, err := readRequest(r)
			if err != nil {
				return
			}
			if strings.Contains(s.head, "/BGB") {
				<-hold
			}
			io.WriteString(nc, plainAnswer)
		}
	})
	l := newLab(t, 1, r.mapping(), nil)
	c := l.instances[0].tunnel()
	if got := do(t, c, ask{method: "POST", path: "/x", body: strings.Repeat("x", 100<<10), deadline: 50 * time.Millisecond}); got.status != 200 {
		t.Skipf("the machine is too slow for this: %+v", got)
	}
	result := make(chan reply, 1)
	go func() { result <- do(t, c, ask{method: "CCM_POST", path: "/BGB"}) }()
	select {
	case got := <-result:
		t.Errorf("the held request ended: %+v", got)
	case <-time.After(1200 * time.Millisecond): // the least deadline of an upload is a second
	}
	close(hold)
	if got := receive(t, result, "the answer"); got.status != 200 {
		t.Errorf("got %+v", got)
	}
}

// A role that accepts connections and closes them is not hammered.
func TestRoleThatOnlyHangsUp(t *testing.T) {
	r := newRole(t, func(nc net.Conn, r *bufio.Reader) { readRequest(r) })
	l := newLab(t, 1, r.mapping(), func(l *lab) { l.cfg.RoleWait = 300 * time.Millisecond })
	c := l.instances[0].tunnel()
	if got := do(t, c, ask{path: "/x", deadline: patience}); got.code != tunnel.CodeRoleUnreachable || got.retry {
		t.Errorf("got %+v", got)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dials > 20 {
		t.Errorf("%d attempts in 300 ms", r.dials)
	}
}

func TestIdentityThatIsNoHeaderValue(t *testing.T) {
	r := newRole(t, answering(plainAnswer, nil))
	l := newLab(t, 1, r.mapping(), nil)
	c := l.instances[0].tunnel()
	if got := do(t, c, ask{path: "/x", identity: "auth=pki\r\nX-Evil: 1", deadline: patience}); got.code != tunnel.CodeProtocol {
		t.Errorf("got %+v", got)
	}
}
