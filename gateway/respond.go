package gateway

import (
	"bytes"
	"crypto/rand"
	"errors"
	"net/http"
	"strconv"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/http1"
)

// A refusal is the answer to a request that does not reach a role, or whose
// role does not answer. The caller is told status and reason; cause, verdict
// and details are for metrics, logs and explanations.
type refusal struct {
	status  int
	reason  string // phrase; empty means the standard one
	cause   string // a short constant or a pki code, for counting
	verdict string // one sentence for the administrator
	details []string
	// challenge adds WWW-Authenticate, allow adds Allow, retry adds a jittered
	// Retry-After, close ends the connection.
	challenge bool
	allow     string
	retry     bool
	close     bool
}

func (r *refusal) phrase() string {
	if r.reason != "" {
		return r.reason
	}
	return http.StatusText(r.status)
}

func (r *refusal) fields() (f []field) {
	if r.challenge {
		value := "Bearer"
		if r.reason == opencmg.ReasonInvalidToken {
			value = `Bearer error="invalid_token"`
		}
		f = append(f, field{"WWW-Authenticate", value})
	}
	if r.allow != "" {
		f = append(f, field{"Allow", r.allow})
	}
	if r.retry {
		var b [1]byte
		rand.Read(b[:])
		f = append(f, field{"Retry-After", strconv.Itoa(2 + int(b[0])%9)})
	}
	return f
}

// malformed refuses a message by what the parser says about it.
func malformed(err error) *refusal {
	r := &refusal{status: http.StatusBadRequest, cause: "malformed", verdict: err.Error(), close: true}
	if p, ok := errors.AsType[*http1.ParseError](err); ok {
		r.status, r.verdict = p.Status, "the request is refused as malformed: "+p.Reason
	}
	return r
}

// A field is a header field of an answer that the gateway makes itself.
type field struct{ name, value string }

// A responder writes one answer to the client. HTTP/1.1 and HTTP/2 each have
// one. An error means that the client can not be reached any more.
type responder interface {
	// reply writes a whole answer made by the gateway.
	reply(x *exchange, status int, reason string, fields []field, body []byte, end bool) error
	// proceed lets the client send a body that it announced with an
	// expectation.
	proceed() error
	// inform passes an interim answer on.
	inform(h *http1.ResponseHead) error
	// start prepares the role's answer with a body of length bytes, -1 for
	// unknown; nothing is sent before the first send.
	start(x *exchange, h *http1.ResponseHead, length int64)
	// space is where the next body bytes belong; send sends the first n of
	// them. last ends the answer, with trailer lines unless nil.
	space() []byte
	send(n int, last bool, trailers []byte) error
	// abort gives the client to understand that the answer is incomplete.
	abort()
	// done gives buffers back.
	done()
}

// An http1Responder writes HTTP/1.1. The head, the framing and the first body
// bytes leave in one write.
type http1Responder struct {
	c      *clientConn
	minor  int
	close  bool // the connection ends after this answer
	clean  bool // nothing is left of the request that the client may still send
	expect bool // the client waits for 100 (Continue)
	buf    *relayBuffer
	head   []byte // in buf unless it is very long
	sent   bool   // the head was sent
	length int64  // declared or found out; -1 unknown
	raw    bool   // the body has no chunks
	noBody bool
	at     int // where space begins in buf
}

const (
	framingSpace = 64 // Content-Length or Transfer-Encoding, Connection, blank line
	chunkSpace   = 6  // four hexadecimal digits and CRLF
	chunkEnd     = 2 + len(http1.LastChunk)
	maxHeadSpace = 20 << 10
)

func (w *http1Responder) reply(x *exchange, status int, reason string, fields []field, body []byte, end bool) error {
	w.settle(end)
	buf := getBuffer()
	defer putBuffer(buf)
	b := appendStatus(buf[:0], status, reason)
	b = append(b, opencmg.HeaderCorrelationID+": "...)
	b = append(append(b, x.id...), "\r\nDate: "...)
	b = append(x.started.UTC().AppendFormat(b, http.TimeFormat), "\r\n"...)
	for _, f := range fields {
		b = append(append(append(append(b, f.name...), ": "...), f.value...), "\r\n"...)
	}
	b = append(b, "Content-Length: "...)
	b = append(strconv.AppendInt(b, int64(len(body)), 10), "\r\n"...)
	if w.close {
		b = append(b, "Connection: close\r\n"...)
	}
	b = append(b, "\r\n"...)
	if !x.isHead {
		b = append(b, body...)
	}
	return w.write(b)
}

// settle decides whether the connection outlives the answer. An unread body
// is read away when that is little work.
func (w *http1Responder) settle(end bool) {
	c := w.c
	if end || c.s.parting() {
		w.close = true
	}
	if c.x.uploading() {
		w.clean, w.close = false, true
		return
	}
	w.clean = c.body.Done()
	if !w.clean && (w.expect || c.x.upload != nil || c.x.bodyLength < 0 || c.x.bodyLength-c.x.received.Load() > maxDrain) {
		w.close = true
	}
}

func (w *http1Responder) write(b []byte) error {
	if !w.c.watch.enter(phaseWriteAnswer) {
		w.close = true
		return errInterrupted
	}
	if _, err := w.c.tls.Write(b); err != nil {
		w.close = true
		return err
	}
	return nil
}

var errInterrupted = errors.New("interrupted")

func (w *http1Responder) proceed() error {
	if !w.expect {
		return nil
	}
	w.expect = false
	return w.write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
}

func (w *http1Responder) inform(h *http1.ResponseHead) error {
	if w.minor == 0 || h.Status == 100 || h.Status == 101 {
		return nil
	}
	buf := getBuffer()
	defer putBuffer(buf)
	return w.write(append(appendFields(appendStatus(buf[:0], h.Status, string(h.Reason)), h), "\r\n"...))
}

func (w *http1Responder) start(x *exchange, h *http1.ResponseHead, length int64) {
	w.settle(false)
	w.buf = getBuffer()
	w.length, w.noBody = length, h.NoBody
	b := appendStatus(w.buf[:0], h.Status, string(h.Reason))
	b = appendFields(b, h)
	b = append(b, opencmg.HeaderCorrelationID+": "...)
	b = append(append(b, x.id...), "\r\n"...)
	if h.NoBody && h.ContentLength >= 0 && h.Status != http.StatusNoContent {
		// What the body would be: answers to HEAD, and 304.
		b = append(b, "Content-Length: "...)
		b = append(strconv.AppendInt(b, h.ContentLength, 10), "\r\n"...)
	}
	w.head = b
	w.at = len(b) + framingSpace + chunkSpace
	if len(b) > maxHeadSpace {
		w.at = chunkSpace
		w.head = bytes.Clone(b)
	}
}

func (w *http1Responder) space() []byte { return w.buf[w.at : len(w.buf)-chunkEnd] }

func (w *http1Responder) send(n int, last bool, trailers []byte) error {
	body := w.buf[w.at : w.at+n]
	if !w.sent {
		w.frame(n, last, trailers != nil)
	}
	from := w.at
	if !w.raw && n > 0 {
		from -= chunkSpace
		copy(w.buf[from:], []byte{hexDigit(n >> 12), hexDigit(n >> 8), hexDigit(n >> 4), hexDigit(n), '\r', '\n'})
		body = append(w.buf[from:w.at+n], '\r', '\n')
	}
	if last && !w.raw {
		if trailers == nil {
			body = append(body, http1.LastChunk...)
		} else {
			body = append(append(append(body, "0\r\n"...), trailers...), "\r\n"...)
		}
	}
	if !w.sent {
		w.sent = true
		if cap(w.head)-len(w.head) >= len(body) && &w.head[0] == &w.buf[0] {
			// The body moves up behind the head.
			body = append(w.head, body...)
		} else if err := w.write(w.head); err != nil {
			return err
		}
		w.head, w.at = nil, chunkSpace
	}
	if len(body) == 0 {
		return nil
	}
	return w.write(body)
}

// frame ends the head, now that the first body bytes, or all, are known.
func (w *http1Responder) frame(n int, last, trailers bool) {
	b := w.head
	if w.length < 0 && last && !trailers {
		w.length = int64(n)
	}
	switch {
	case w.noBody:
		w.raw = true
	case w.length >= 0:
		w.raw = true
		b = append(b, "Content-Length: "...)
		b = append(strconv.AppendInt(b, w.length, 10), "\r\n"...)
	case w.minor == 0:
		w.raw, w.close = true, true // the end of the connection ends the body
	default:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	if w.close {
		b = append(b, "Connection: close\r\n"...)
	}
	w.head = append(b, "\r\n"...)
}

// abort closes without the TLS notice that nothing more comes, so that a body
// which ends with the connection does not look complete.
func (w *http1Responder) abort() {
	w.close, w.clean = true, true
	w.c.raw.Close()
}

func (w *http1Responder) done() {
	if w.buf != nil {
		putBuffer(w.buf)
		w.buf, w.head = nil, nil
	}
}

func appendStatus(b []byte, status int, reason string) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = append(strconv.AppendInt(b, int64(status), 10), ' ')
	return append(append(b, reason...), "\r\n"...)
}

// appendFields appends the fields of a role's answer that concern the client.
func appendFields(b []byte, h *http1.ResponseHead) []byte {
	for i := range h.Fields {
		f := &h.Fields[i]
		if !answerField(h, f.Name) {
			continue
		}
		b = append(append(append(append(b, f.Name...), ": "...), f.Value...), "\r\n"...)
	}
	return b
}

// answerField reports whether a field of a role's answer is passed on. Framing
// and the correlation ID are written by the responder.
func answerField(h *http1.ResponseHead, name []byte) bool {
	return !http1.IsHopByHop(name) && !h.Nominated(name) && !equalFold(name, "Content-Length") && answerTrailer(name)
}

// answerTrailer reports whether a trailer field of a role's answer is passed
// on.
func answerTrailer(name []byte) bool {
	return !equalFold(name, opencmg.HeaderCorrelationID) && !hasPrefixFold(name, opencmg.HeaderPrefix)
}

func hexDigit(n int) byte { return "0123456789abcdef"[n&0xf] }

// refuse answers with a refusal and notes it.
func (x *exchange) refuse(r *refusal) {
	x.s.metrics.refusals.WithLabelValues(r.cause).Inc()
	x.s.notable.note()
	// Noted first, so that an explanation is there when the client asks.
	x.finish(r.status, r.phrase(), r.verdict, r.details)
	x.out.reply(x, r.status, r.phrase(), r.fields(), nil, r.close)
	if x.s.debug() {
		x.s.log.Debug("request refused", "component", componentHandler, "request_id", x.id, "status", r.status, "cause", r.cause,
			"endpoint", x.endpointName(), "client", x.callerName(), "remote", x.peer.remote.String(), "verdict", r.verdict)
	}
}
