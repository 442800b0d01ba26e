package connpoint

// One request, from the tunnel to the role and back: the fourth of the five
// files that follow a client's request. It came out of tunnel/stream.go as a
// checked head and a body. Here the external URL becomes the internal one
// (head.go), a pooled connection carries it to the role (role.go, pool.go), and
// the answer goes back as it comes. Next: mp/mp.go, the role that answers.

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/http1"
	"github.com/opencmg/opencmg/internal/web"
	"github.com/opencmg/opencmg/tunnel"
)

const (
	// smallBody is the largest request body that is gathered before the role
	// is called, so that head and body make one write and a slow client
	// occupies no connection of the role.
	smallBody = 12 << 10
	// bodyProgress bounds the time without a byte of a response body.
	bodyProgress = 60 * time.Second
	// logComponent names the CMTrace log of the connection point.
	logComponent = "SMS_Cloud_ProxyConnector"
)

// serve answers one stream. The tunnel calls it in a goroutine of the stream;
// what it holds while a request waits for its answer is that goroutine's stack
// and the exchange, and no buffer.
func (c *Connector) serve(s *tunnel.Stream) {
	req := s.Request()
	x := &exchange{c: c, s: s, req: req, begun: time.Now()}
	x.method, x.path = requestLine(req.Head)
	raise(&c.maxConcurrent, c.inFlight.Add(1))
	if x.role = (*c.roles.Load())[opencmg.RoleID(req.Role)]; x.role == nil {
		x.fail(tunnel.CodeRoleUnreachable, true, "this connection point has no URL mapping for role "+req.Role)
	} else if !plainText(req.Identity) || !plainText(req.CorrelationID) {
		x.fail(tunnel.CodeProtocol, true, "the gateway sent an identity or correlation ID that is no header value")
	} else {
		x.endpoint = x.role.traffic.endpoint(req.Endpoint)
		x.endpoint.begin()
		s.OnReset(x.cancel)
		x.forward()
		s.OnReset(nil)
	}
	c.inFlight.Add(-1)
	x.finish()
}

// An exchange is one request and its response. The stream's goroutine owns it;
// only cancel may come from another one.
type exchange struct {
	c        *Connector
	s        *tunnel.Stream
	req      *tunnel.Request
	role     *role
	endpoint *endpointTraffic
	begun    time.Time

	method, path string // external, for records
	status       int    // sent
	reason       string // sent
	verdict      string
	failed       bool  // the stream was reset instead of answered whole
	finished     bool  // counted, logged and recorded
	sent, got    int64 // bytes of request and response
	up           *upload
	reuse        bool // the response leaves the connection open

	mu     sync.Mutex // guards what follows
	over   bool       // the gateway gave the request up
	conn   *originConn
	stop   func()
	doneCh chan struct{}
}

// forward carries the request to the role and the response back. Every path
// through it ends the stream: by a whole response or by a reset, never by a
// response that is silently too short.
func (x *exchange) forward() {
	if x.refuseWithoutCertificate() {
		return
	}
	var body requestBody
	if err := x.gather(&body); err != nil {
		x.fail(tunnel.CodeCancelled, false, "the request body ended early: "+err.Error())
		return
	}
	defer body.release()
	var lost error
	for attempt := 0; ; attempt++ {
		conn, err := x.role.acquire(x, attempt > 0)
		if err != nil {
			x.failConnect(err, lost)
			return
		}
		if !x.hold(conn) {
			conn.discard()
			x.fail(tunnel.CodeCancelled, lost == nil, "the client gave up")
			return
		}
		sent, err := x.send(conn, &body)
		if err == nil {
			body.release()
			if !x.repeatable() {
				x.req.Head = nil // nothing is kept while a request is held
			}
			err = x.receive(conn)
		}
		x.letGo(conn, err == nil && x.reuse && x.up.uploaded())
		var ended *lostError
		switch {
		case err == nil:
		case x.cancelled():
			x.fail(tunnel.CodeCancelled, false, "the client gave up")
		case x.up.ended():
			x.fail(tunnel.CodeCancelled, false, "the request body ended early")
		case !errors.As(err, &ended):
			x.failResponse(err)
		case sent && !x.repeatable(), time.Since(x.begun) > x.role.wait:
			x.fail(tunnel.CodeRoleUnreachable, !sent && lost == nil, "the role closed the connection before it answered: "+err.Error())
		default:
			if sent {
				lost = err
			}
			if attempt > 0 { // the first loss is a stale connection, the second is not
				x.pause(jitter(min(20*time.Millisecond<<min(attempt, 6), time.Second)))
			}
			continue
		}
		x.settle()
		return
	}
}

// repeatable reports whether the request may be sent again after a connection
// was lost on which the role may have seen it (RFC 9110 9.2.2).
func (x *exchange) repeatable() bool {
	if x.req.BodyLength != 0 {
		return false
	}
	switch x.method {
	case "GET", "HEAD", "PROPFIND", "OPTIONS":
		return true
	}
	return false
}

// A lostError is a connection that ended before the first byte of a response.
type lostError struct{ err error }

func (e *lostError) Error() string { return e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

// gather reads a small request body whole, and the first piece of one of
// unknown length.
func (x *exchange) gather(body *requestBody) error {
	n := x.req.BodyLength
	if n == 0 || n > smallBody {
		body.whole = n == 0
		return nil
	}
	body.p = newParts()
	if n > 0 {
		body.b, body.whole = body.p.buf[:n], true
		_, err := io.ReadFull(x.s, body.b)
		return err
	}
	k, err := x.s.Read(body.p.buf[:smallBody])
	body.b = body.p.buf[:k]
	if err == io.EOF {
		body.whole, err = true, nil
	}
	return err
}

// send writes the request, head and small body at once; a larger body follows
// from a goroutine of its own, since a role may answer before it has all of
// it. sent is false when provably nothing reached the role.
func (x *exchange) send(conn *originConn, body *requestBody) (sent bool, err error) {
	p := newParts()
	defer p.release()
	if err := p.request.Parse(x.req.Head); err != nil {
		return false, err
	}
	if x.sent == 0 && p.request.Get("authorization") != nil {
		x.endpoint.withBearer.Add(1)
	}
	if p.out, err = appendRequest(p.out[:0], conn.host, &p.request, x.req); err != nil {
		return false, err
	}
	if x.req.BodyLength >= 0 {
		p.out = append(p.out, body.b...)
	} else {
		p.out = http1.AppendChunk(p.out, body.b)
		if body.whole {
			p.out = appendLastChunk(p.out, http1.FilterTrailers(x.s.Trailers(), forwardTrailer))
		}
	}
	if body.whole {
		conn.setReadDeadline(x.req.Deadline)
	} else {
		conn.setReadDeadline(time.Time{}) // the upload sets it when done
	}
	n, err := conn.nc.Write(p.out)
	x.sent += int64(n)
	if err != nil {
		return n > 0, &lostError{err}
	}
	if !body.whole {
		x.upload(conn, len(body.b))
	}
	return true, nil
}

// receive reads the response and passes it on.
func (x *exchange) receive(conn *originConn) error {
	for range 8 {
		b, err := conn.r.ReadHead(maxResponseHead, nil)
		if err != nil {
			var malformed *http1.ParseError
			if conn.r.Buffered() == 0 && !errors.As(err, &malformed) && !errors.Is(err, os.ErrDeadlineExceeded) && err != io.ErrUnexpectedEOF {
				return &lostError{err}
			}
			return err
		}
		p := newParts()
		err = p.response.Parse(b, []byte(x.method))
		switch {
		case err != nil:
			p.release()
			return err
		case p.response.Status == 101:
			p.release()
			return errUpgrade
		case p.response.Status < 200:
			err := x.inform(p)
			p.release()
			if err != nil {
				return err
			}
			continue
		}
		err = x.reply(conn, p)
		p.release()
		return err
	}
	return errInformational
}

var (
	errUpgrade       = errors.New("the role switched protocols without being asked")
	errInformational = errors.New("the role sent too many informational responses")
)

// inform passes an informational response on. A 100 ends here: the edge asked
// for the body by itself.
func (x *exchange) inform(p *parts) error {
	if p.response.Status == 100 {
		return nil
	}
	p.out = appendResponse(p.out[:0], &p.response)
	return x.s.WriteInformational(p.out)
}

// reply passes a response on. It returns nil when all of it was written and
// the connection is at the end of the message.
func (x *exchange) reply(conn *originConn, p *parts) error {
	res := &p.response
	p.out = appendResponse(p.out[:0], res)
	x.status = res.Status
	if res.Status >= 400 {
		x.reason = string(appendReason(nil, res.Status, res.Reason))
		x.verdict = "the role answered " + string(p.out[9:bytes.IndexByte(p.out, '\r')])
	}
	x.reuse = !res.Close
	head := len(p.out)
	x.got = int64(head)
	if res.NoBody || res.ContentLength == 0 {
		x.finish()
		return x.s.WriteHead(p.out, true)
	}
	var body http1.Body
	body.Reset(&conn.r, res.ContentLength, res.Chunked)
	// A body that is declared and small is waited for, so that the whole answer
	// is one frame; of any other go the bytes that are here.
	whole := res.ContentLength > 0 && res.ContentLength <= int64(len(p.buf))
	n := 0
	for (whole || conn.r.Buffered() > 0) && n < len(p.buf) && !body.Done() {
		k, err := body.Read(p.buf[n:])
		n += k
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	data := p.buf[:n]
	x.got += int64(len(data))
	end := body.Done() && body.Trailers() == nil
	if body.Done() {
		x.finish()
	}
	if err := x.s.WriteHeadBody(p.out, data, end); err != nil || end {
		return err
	}
	if body.Done() {
		return x.s.WriteTrailers(body.Trailers())
	}
	return x.stream(conn, &body)
}

// stream copies the rest of a response body in bounded memory.
func (x *exchange) stream(conn *originConn, body *http1.Body) error {
	buf := bulkPool.Get().(*[bulkSize]byte)
	defer bulkPool.Put(buf)
	hold := x.req.Deadline.IsZero()
	var extended time.Time
	for {
		if now := time.Now(); !hold && now.Sub(extended) > bodyProgress/6 {
			conn.setReadDeadline(now.Add(bodyProgress))
			extended = now
		}
		n, err := body.Read(buf[:])
		x.got += int64(n)
		switch {
		case err == nil && body.Done():
			x.finish()
			return x.s.WriteLast(buf[:n])
		case n > 0:
			if _, err := x.s.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			x.finish()
			if t := body.Trailers(); t != nil {
				return x.s.WriteTrailers(t)
			}
			return x.s.CloseWrite()
		}
		if err != nil {
			return err
		}
	}
}

// finish counts, logs and records the request, once, just before its end is
// sent: whoever sees the end can ask for an explanation.
func (x *exchange) finish() {
	if x.finished {
		return
	}
	x.finished = true
	c, elapsed, sent := x.c, time.Since(x.begun), x.sent
	if x.up != nil {
		sent += x.up.sent.Load()
	}
	if x.endpoint != nil {
		x.endpoint.end(sent, x.got, x.failed || x.status >= 500)
	}
	if c.log.Enabled(context.Background(), slog.LevelDebug) {
		c.log.Debug("forwarded proxy message", "MessageID", x.req.CorrelationID, "request_id", x.req.CorrelationID,
			"RequestURI", x.path, "EndpointName", x.req.Endpoint, "role", x.req.Role, "ResponseHeader", x.status, "ResponseBodySize", x.got, "ElapsedTime", elapsed.Milliseconds(), "verdict", x.verdict)
	}
	c.cfg.Records.Add(web.Record{
		CorrelationID: x.req.CorrelationID, Time: x.begun, Hop: web.HopConnectionPoint, Where: c.cfg.Name,
		Method: x.method, Path: x.path, Endpoint: x.req.Endpoint, Role: x.req.Role,
		Status: x.status, Reason: x.reason, Verdict: x.verdict,
		Duration: elapsed, RequestBytes: sent, ResponseBytes: x.got,
	})
}

func plainText(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
