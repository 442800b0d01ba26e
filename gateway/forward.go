package gateway

// Which endpoint, which tunnel. A request that edge.go has read is matched
// against the positive list of published endpoints, authenticated, written as
// one block of bytes and sent down a tunnel of the role's site. relay.go
// brings the answer back. On the other side of the tunnel the story goes on
// in tunnel/stream.go and connpoint/forward.go.

import (
	"bytes"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/http1"
	"github.com/opencmg/opencmg/internal/web"
	"github.com/opencmg/opencmg/tunnel"
)

// An exchange is one request and its answer. It is used by one goroutine,
// except that an upload counts in received.
type exchange struct {
	s     *Server
	snap  *snapshot // decides everything about this request
	peer  *peer
	watch *watch
	out   responder
	http1 *clientConn // nil on HTTP/2

	id      string // correlation ID
	started time.Time
	// scratch holds the request's head until it was sent, and the answer's
	// head while that is relayed; nil while the request waits.
	scratch *scratch
	method  string
	isHead  bool // the method is HEAD
	path    string
	ep      *endpoint
	caller  *caller
	via     []string // the connection point that had the request last

	body       io.Reader // of the request
	bodyLength int64     // -1 unknown
	received   atomic.Int64
	returned   int64
	upload     *upload // nil unless the body streams beside the answer

	request tunnel.Request
}

// scratch is memory that a request needs only while it is worked on.
type scratch struct {
	req  http1.RequestHead
	resp http1.ResponseHead
	path []byte
}

var scratchPool = sync.Pool{New: func() any { return new(scratch) }}

// A message is a request as it crosses the tunnel. It is kept until the role
// answers, in case another tunnel has to carry it.
type message struct {
	b    []byte
	head int // length of the head; the rest is the body
}

var messagePool = sync.Pool{New: func() any { return &message{b: make([]byte, 0, 2<<10)} }}

// maxInline is the largest body that is sent together with the head.
const maxInline = 8 << 10

// begin names the request.
func (x *exchange) begin() {
	x.id = web.NewCorrelationID()
	x.started = time.Now()
	x.scratch = scratchPool.Get().(*scratch)
}

// release gives back what only an active request needs. Nobody may be reading
// the body.
func (x *exchange) release() {
	x.releaseScratch()
	if x.http1 != nil {
		x.http1.r.Release()
	}
}

func (x *exchange) releaseScratch() {
	if x.scratch != nil {
		scratchPool.Put(x.scratch)
		x.scratch = nil
	}
}

// handle answers the request. The work before the wait for an answer is in
// functions of its own, whose frames are gone from the stack when it begins: a
// goroutine that waits then fits in 4 KiB.
func (s *Server) handle(x *exchange) {
	path, query, ok := s.admit(x)
	if !ok {
		return
	}
	s.metrics.held.Inc()
	if m := x.compose(path, query); m != nil {
		x.forward(m)
		m.release()
	}
	s.metrics.held.Dec()
	s.inFlight.Add(-1)
}

// admit answers the gateway's own paths at once and everything that is not
// published, or not from a caller that may, with a refusal. What it admits is
// counted as in flight. The order of the checks is path, method, length,
// caller (cmg-behaviour G20).
func (s *Server) admit(x *exchange) (path, query []byte, ok bool) {
	sc := x.scratch
	h := &sc.req
	x.isHead = string(h.Method) == http.MethodHead
	path, query, host, err := http1.CanonicalTarget(sc.path[:0], h.Target)
	if err != nil {
		x.path = string(h.Target[:min(len(h.Target), 256)])
		x.refuse(malformed(err))
		return nil, nil, false
	}
	sc.path = path[:0]
	if x.snap.cfg == nil {
		x.awaitConfiguration()
	}
	var r *refusal
	switch {
	case host != nil && !bytes.EqualFold(host, h.Host):
		r = &refusal{status: http.StatusBadRequest, cause: "malformed", close: true, verdict: "target and Host field name different hosts"}
	case x.snap.cfg == nil:
		r = &refusal{status: http.StatusServiceUnavailable, cause: "no-configuration", retry: true,
			verdict: "this instance has no published configuration yet: no connection point has delivered one"}
	default:
		x.path = string(path)
		if s.own(x, path, query) {
			return nil, nil, false
		}
		r = x.check(path)
	}
	if r == nil && s.inFlight.Add(1) > x.snap.limits.requests {
		s.inFlight.Add(-1)
		r = &refusal{status: http.StatusServiceUnavailable, cause: "too-many-requests", retry: true, verdict: "limits.maxRequests requests are in flight"}
	}
	if r != nil {
		x.refuse(r)
		return nil, nil, false
	}
	return path, query, true
}

// check finds the endpoint and the caller.
func (x *exchange) check(path []byte) (r *refusal) {
	ep, d := x.snap.match.match(path)
	if ep == nil {
		return &refusal{status: http.StatusNotFound, cause: "not-published", verdict: "no endpoint publishes this path"}
	}
	x.ep = ep
	ep.traffic.requests.Add(1)
	if x.method = ep.method(x.scratch.req.Method); x.method == "" {
		return &refusal{status: http.StatusMethodNotAllowed, cause: "method", allow: ep.allow,
			verdict: "the endpoint publishes other methods: " + ep.allow}
	}
	if x.bodyLength > ep.max {
		return x.tooLarge()
	}
	x.caller, r = x.authenticate(ep, d)
	return r
}

func (x *exchange) tooLarge() *refusal {
	return &refusal{status: http.StatusRequestEntityTooLarge, cause: "body-too-large",
		verdict: "the request body is larger than the endpoint's maximum content length"}
}

// compose writes the message that crosses the tunnel, with the body if that is
// small. It returns nil when the body did not come and that was answered.
func (x *exchange) compose(path, query []byte) *message {
	ep, m := x.ep, messagePool.Get().(*message)
	m.b = x.appendHead(m.b[:0], path, query)
	m.head = len(m.b)
	if x.bodyLength != 0 && x.out.proceed() != nil {
		x.lost("the client went away before it sent the body")
		m.release()
		return nil
	}
	if x.bodyLength > 0 && x.bodyLength <= maxInline {
		if r := x.readInline(m); r != nil {
			x.fail(r)
			m.release()
			return nil
		}
	}
	x.release() // nothing below refers to the request's buffer
	x.request = tunnel.Request{
		CorrelationID: x.id, Role: string(ep.role.ID), Endpoint: ep.label, Identity: x.caller.encoded,
		Head: m.b[:m.head], BodyLength: x.bodyLength,
	}
	if ep.timeout > 0 {
		x.request.Deadline = x.started.Add(time.Duration(ep.timeout) * time.Millisecond)
	}
	return m
}

func (m *message) release() {
	if cap(m.b) <= 2*maxInline {
		messagePool.Put(m)
	}
}

// forward sends the request down one tunnel after the other until one answers
// or it can not be known that none did.
func (x *exchange) forward(m *message) {
	streams := x.bodyLength < 0 || x.bodyLength > maxInline
	var last *refusal
	var tried tried
	for {
		t := x.s.roster.pick(x.ep.role.site, &tried)
		if t == nil {
			if x.s.roster.await(x, x.ep.role.site) {
				tried.n = 0
				continue
			}
			if last == nil {
				last = x.noTunnel()
			}
			x.fail(last)
			return
		}
		x.via = t.point.Load().via
		st, err := t.conn.Open(&x.request, m.b[m.head:], !streams)
		if err == nil {
			if last, err = x.converse(st, streams); err == nil && last == nil {
				return
			}
		} else {
			last = streamFailure(err)
		}
		// Here last says what happened on this tunnel.
		if c := x.watch.cause(); c != causeNone {
			x.interrupted(c, last)
			return
		}
		if x.upload != nil || !(tunnel.NotProcessed(err) || x.idempotent() && tunnel.Lost(err)) {
			x.fail(last)
			return
		}
		tried.add(t)
		x.s.metrics.retries.Inc()
	}
}

func (x *exchange) noTunnel() *refusal {
	return &refusal{status: http.StatusServiceUnavailable, cause: "no-tunnel", retry: true,
		verdict: "no connection point of site " + x.ep.role.site + " holds a tunnel to this instance"}
}

// idempotent reports whether a request that may have reached its role can be
// sent again.
func (x *exchange) idempotent() bool {
	return x.bodyLength == 0 && (x.method == http.MethodGet || x.isHead || x.method == "PROPFIND" || x.method == http.MethodOptions)
}

// appendHead appends the head as the connection point gets it: canonical
// target, without fields that concern this connection only, and without those
// by which a client could pretend to be a part of this system.
func (x *exchange) appendHead(b []byte, path, query []byte) []byte {
	h := &x.scratch.req
	b = append(append(append(b, x.method...), ' '), path...)
	if len(query) > 0 {
		b = append(append(b, '?'), query...)
	}
	b = append(b, " HTTP/1.1\r\n"...)
	if h.Host == nil {
		b = append(append(append(b, "Host: "...), x.s.cfg.ServiceName...), "\r\n"...)
	}
	for i := range h.Fields {
		f := &h.Fields[i]
		if !requestField(h, f.Name) {
			continue
		}
		b = append(append(append(append(b, f.Name...), ": "...), f.Value...), "\r\n"...)
	}
	return append(b, "\r\n"...)
}

// requestField reports whether a client's field is passed on.
func requestField(h *http1.RequestHead, name []byte) bool {
	switch toLower(name[0]) {
	case 'h':
		if equalFold(name, "Host") {
			return true
		}
	case 'e':
		if equalFold(name, "Expect") {
			return false
		}
	}
	return !http1.IsHopByHop(name) && !h.Nominated(name) && !spoofed(name)
}

// spoofed reports whether a client's field would make it look like a part of
// this system, or like another client or request, to a role: the fields by
// which well-known proxies hand on a verified certificate or user (RFC 9440 and
// older habits), and those that replace the path or the method that was
// checked.
func spoofed(name []byte) bool {
	switch toLower(name[0]) {
	case 'o':
		return hasPrefixFold(name, opencmg.HeaderPrefix)
	case 'x':
		for _, prefix := range spoofedX {
			if hasPrefixFold(name, prefix) {
				return true
			}
		}
	case 'f':
		return equalFold(name, "Forwarded")
	case 'c':
		return hasPrefixFold(name, "Client-Cert")
	case 'r':
		return hasPrefixFold(name, "Remote-User")
	case 's':
		return hasPrefixFold(name, "SSL-Client-")
	}
	return false
}

var spoofedX = []string{
	opencmg.HeaderCorrelationID, "X-Forwarded-", "X-Original-", "X-Rewrite-URL", "X-HTTP-Method", "X-Method-Override",
	"X-ARR-", "X-Client-Cert", "X-SSL-", "X-Remote-User", "X-MS-Client-Principal", "X-Real-IP",
}

// requestTrailer reports whether a trailer field of a client is passed on.
func requestTrailer(name []byte) bool { return !spoofed(name) }

// hasPrefixFold compares field names, taking the underscore for a hyphen as
// some servers do.
func hasPrefixFold(name []byte, prefix string) bool {
	if len(name) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		c := toLower(name[i])
		if c == '_' {
			c = '-'
		}
		if c != toLower(prefix[i]) {
			return false
		}
	}
	return true
}
