package gateway

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/http1"
	"github.com/opencmg/opencmg/internal/web"
	"github.com/opencmg/opencmg/tunnel"
)

// smallAnswer is the largest declared body that is waited for, so that head
// and body leave in one write.
const smallAnswer = 16 << 10

// converse waits for the answer on a stream and relays it. A nil error means
// that the exchange is over, well or badly; otherwise nothing has reached the
// client, and the refusal says what to tell it unless another tunnel answers.
func (x *exchange) converse(st *tunnel.Stream, streams bool) (*refusal, error) {
	w := x.watch
	w.begin(st, x.caller, x.ep.timeout)
	defer w.end()
	if streams {
		if !x.startUpload(st) {
			st.Reset(tunnel.CodeCancelled)
			return x.interruptedBy(), errInterrupted
		}
	} else if !w.enter(phaseWait) {
		st.Reset(tunnel.CodeCancelled)
		return x.interruptedBy(), errInterrupted
	}
	for {
		head, end, err := st.ReadHead()
		if err != nil {
			if r := x.joinUpload(); r != nil {
				return r, errUpload
			}
			return streamFailure(err), err
		}
		if x.scratch == nil {
			x.scratch = scratchPool.Get().(*scratch)
		}
		h := &x.scratch.resp
		err = h.Parse(head, x.methodBytes())
		switch {
		case err != nil:
			return x.badAnswer(st, "the role's answer is malformed: "+err.Error())
		case h.Status == http.StatusSwitchingProtocols:
			return x.badAnswer(st, "the role switched protocols, which nobody asked for")
		case h.Chunked, end && !h.NoBody && h.ContentLength > 0:
			return x.badAnswer(st, "the role's answer is framed wrongly")
		case h.Status >= 200:
			x.relay(st, h, end)
			return nil, nil
		}
		if err := x.out.inform(h); err != nil || !w.enter(phaseWait) {
			st.Reset(tunnel.CodeCancelled)
			x.joinUpload()
			x.lost("the client went away while it waited")
			return nil, nil
		}
	}
}

var errUpload = errors.New("upload failed")

// methodBytes is what decides whether an answer has a body.
func (x *exchange) methodBytes() []byte {
	if x.isHead {
		return methodHead
	}
	return methodGet
}

var methodHead, methodGet = []byte(http.MethodHead), []byte(http.MethodGet)

func (x *exchange) badAnswer(st *tunnel.Stream, why string) (*refusal, error) {
	st.Reset(tunnel.CodeProtocol)
	x.joinUpload()
	return &refusal{status: http.StatusBadGateway, cause: "bad-answer", verdict: why}, errBadAnswer
}

var errBadAnswer = errors.New("bad answer")

// relay passes the role's final answer on.
func (x *exchange) relay(st *tunnel.Stream, h *http1.ResponseHead, end bool) {
	status, reason := h.Status, reasonOf(h)
	length := h.ContentLength
	switch {
	case h.NoBody, end:
		length = 0
	}
	x.out.start(x, h, length)
	defer x.out.done()
	x.releaseScratch()
	finish := func(verdict string) { x.finish(status, reason, verdict, nil) }
	err := x.relayBody(st, length, end, finish)
	if err != nil || x.uploading() {
		st.Reset(tunnel.CodeCancelled)
	}
	if err != nil {
		x.out.abort()
	}
	x.joinUpload()
}

// reasonOf avoids a copy of the phrases that everybody sends.
func reasonOf(h *http1.ResponseHead) string {
	if text := http.StatusText(h.Status); string(h.Reason) == text {
		return text
	}
	return string(h.Reason)
}

// relayBody returns an error when the answer is incomplete. It notes the end
// of the request before the client can know of it, so that an explanation is
// there when the client asks for one.
func (x *exchange) relayBody(st *tunnel.Stream, length int64, end bool, finish func(verdict string)) error {
	fail := func(verdict string, err error) error {
		finish(fmt.Sprintf("%s: %v", verdict, err))
		return err
	}
	for {
		space := x.out.space()
		n := 0
		for !end && n < len(space) {
			p, left := space[n:], length-x.returned-int64(n)
			if length >= 0 && left == 0 {
				break
			}
			if length >= 0 && int64(len(p)) > left {
				p = p[:left]
			}
			if !x.watch.enter(phaseReadAnswer) {
				return fail("the answer was cut off", x.interruptedBy())
			}
			m, err := st.Read(p)
			n += m
			switch {
			case err == io.EOF:
				end = true
			case err != nil && x.watch.cause() != causeNone:
				return fail("the answer was cut off", x.interruptedBy())
			case err != nil:
				return fail("the tunnel or the role ended the answer early", err)
			}
			if (length < 0 || length > smallAnswer) && !st.Buffered() {
				break
			}
		}
		x.returned += int64(n)
		complete := length >= 0 && x.returned == length
		if end && length >= 0 && !complete {
			return fail("the role's answer is shorter than its Content-Length", io.ErrUnexpectedEOF)
		}
		var trailers []byte
		if end && length < 0 {
			trailers = http1.FilterTrailers(st.Trailers(), answerTrailer)
		}
		last := end || complete
		if last {
			finish("answered by the role")
		}
		if err := x.out.send(n, last, trailers); err != nil {
			if !last {
				fail("the client went away while it was answered", err)
			}
			return err
		}
		if last {
			if !end {
				x.afterBody(st)
			}
			return nil
		}
	}
}

// afterBody expects the end of a body whose declared length was relayed.
// Anything more is not the client's concern.
func (x *exchange) afterBody(st *tunnel.Stream) {
	var more [1]byte
	if !x.watch.enter(phaseReadAnswer) {
		return
	}
	if n, err := st.Read(more[:]); n > 0 || err != io.EOF {
		st.Reset(tunnel.CodeProtocol)
	}
}

// fail answers a request whose role did not, or notes that nobody waits.
func (x *exchange) fail(r *refusal) {
	x.watch.end()
	if c := x.watch.cause(); c != causeNone {
		x.interrupted(c, r)
		return
	}
	if r.status == statusClientGone {
		x.lost(r.verdict)
		return
	}
	x.refuse(r)
}

// interrupted ends a request that the sweeper or a new configuration ended.
func (x *exchange) interrupted(c cause, r *refusal) {
	if c == causeGone {
		x.lost(x.interruptedBy().verdict)
		return
	}
	x.watch.recover()
	if r == nil || r.status != http.StatusRequestTimeout {
		r = x.interruptedByCause(c)
	}
	x.refuse(r)
}

func (x *exchange) interruptedBy() *refusal { return x.interruptedByCause(x.watch.cause()) }

func (x *exchange) interruptedByCause(c cause) *refusal {
	switch c {
	case causeTimeout:
		return &refusal{status: http.StatusGatewayTimeout, cause: "role-timeout", close: true,
			verdict: fmt.Sprintf("the role did not answer within %v", time.Duration(x.ep.timeout)*time.Millisecond)}
	case causeBlocked:
		r := &refusal{status: http.StatusUnauthorized, cause: "blocked", close: true, verdict: "the caller's token or certificate was blocked while the request waited for its answer"}
		if x.caller.identity.Auth.ByToken() {
			r.reason, r.challenge = opencmg.ReasonInvalidToken, true
		}
		return r
	case causeShutdown:
		return &refusal{status: http.StatusServiceUnavailable, cause: "shutdown", close: true, retry: true, verdict: "the instance stops; another one takes the request"}
	}
	return &refusal{status: statusClientGone, cause: "client-gone", close: true, verdict: "the client went away while it waited"}
}

// Error makes a refusal an error where one is wanted.
func (r *refusal) Error() string { return r.verdict }

// lost ends a request whose client gets no answer.
func (x *exchange) lost(verdict string) {
	x.out.abort()
	x.finish(statusClientGone, "", verdict, nil)
}

// streamFailure says what the caller is told when a stream failed before it
// brought an answer.
func streamFailure(err error) *refusal {
	r := &refusal{status: http.StatusBadGateway, cause: "tunnel-lost", verdict: "the tunnel was lost before the role answered: " + err.Error()}
	e, ok := errors.AsType[*tunnel.StreamError](err)
	if !ok {
		return r
	}
	switch {
	case e.Code == tunnel.CodeRoleTimeout:
		r.status, r.cause, r.verdict = http.StatusGatewayTimeout, "role-timeout", "the connection point gave up waiting for the role: "+err.Error()
	case e.Code == tunnel.CodeBodyTooLarge:
		r.status, r.cause, r.verdict = http.StatusRequestEntityTooLarge, "body-too-large", "the connection point refused the body as too large"
	case e.Code == tunnel.CodeRoleUnreachable:
		r.cause, r.verdict = "role-unreachable", "the connection point can not reach the role: "+err.Error()
	case e.NotProcessed:
		r.status, r.cause, r.retry = http.StatusServiceUnavailable, "not-processed", true
		r.verdict = "no connection point took the request: " + err.Error()
	case e.Remote:
		r.cause, r.verdict = "stream-reset", "the connection point ended the request: "+err.Error()
	}
	return r
}

// finish notes the end of a request in metrics and explanations.
func (x *exchange) finish(status int, reason, verdict string, details []string) {
	if details == nil {
		details = x.via
	}
	elapsed := time.Since(x.started)
	received := x.received.Load()
	if x.ep != nil {
		x.ep.traffic.done(status, received, x.returned, elapsed)
		// A notification is held until there is one, and a refusal is quick; what
		// is left says how fast the site answers.
		if x.via != nil && x.ep.timeout > 0 && status != statusClientGone {
			x.ep.traffic.took(elapsed)
		}
	}
	rec := web.Record{
		CorrelationID: x.id, Time: x.started, Hop: web.HopGateway, Where: x.s.where,
		Method: x.method, Path: x.path, Endpoint: x.endpointName(), Client: x.callerName(),
		Status: status, Reason: reason, Verdict: verdict, Details: details,
		Duration: elapsed, RequestBytes: received, ResponseBytes: x.returned,
	}
	if x.ep != nil {
		rec.Role = string(x.ep.role.ID)
	}
	x.s.records.Add(rec)
	if x.caller != nil && x.s.debug() {
		x.s.log.LogAttrs(x.s.ctx, slog.LevelDebug, "request", slog.String("component", componentHandler),
			slog.String("request_id", x.id), slog.String("client", rec.Client), slog.String("role", rec.Role),
			slog.String("endpoint", rec.Endpoint), slog.Int("status", status), slog.Duration("elapsed", elapsed), slog.String("verdict", verdict))
	}
}

func (x *exchange) endpointName() string {
	if x.ep == nil {
		return ""
	}
	return x.ep.label
}

func (x *exchange) callerName() string {
	if x.caller == nil {
		return ""
	}
	return x.caller.name
}
