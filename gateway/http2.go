package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/net/http2"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/http1"
)

// HTTP/2 is not the hot path: Configuration Manager clients speak HTTP/1.1. A
// request that the HTTP/2 server has read is written down as an HTTP/1.1 head
// and read again by the same strict parser, so that both protocols pass the
// same checks and nothing can hide between them.

const maxHTTP2Head = 64 << 10

// newHTTP2 returns the server of HTTP/2 connections, and the one whose
// Shutdown ends them.
func newHTTP2() (*http2.Server, *http.Server, error) {
	h2 := &http2.Server{
		MaxConcurrentStreams: 100,
		IdleTimeout:          120 * time.Second,
		ReadIdleTimeout:      60 * time.Second,
		PingTimeout:          15 * time.Second,
		WriteByteTimeout:     60 * time.Second,
	}
	base := &http.Server{MaxHeaderBytes: maxHTTP2Head}
	return h2, base, http2.ConfigureServer(base, h2)
}

// serveHTTP2 serves a connection until it ends.
func (s *Server) serveHTTP2(c *clientConn) {
	s.http2.ServeConn(c.tls, &http2.ServeConnOpts{
		Context: s.ctx, BaseConfig: s.http2Base,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serveHTTP2Request(c, w, r) }),
	})
}

func (s *Server) serveHTTP2Request(c *clientConn, w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	out := &http2Responder{w: w, control: control}
	wt := &watch{tick: &s.tick, conn: control, fd: -1}
	wt.enter(phaseWork)
	s.watches.add(wt)
	stop := context.AfterFunc(r.Context(), func() { wt.gone() })
	x := &exchange{s: s, snap: s.snap.Load(), peer: &c.peer, watch: wt, out: out, bodyLength: r.ContentLength}
	x.begin()
	defer func() {
		stop()
		x.release()
		s.watches.remove(wt)
		if out.aborted {
			panic(http.ErrAbortHandler) // resets the stream
		}
	}()
	head := appendHTTP2Head(nil, r)
	if len(head) > x.snap.limits.headerBytes {
		x.refuse(&refusal{status: http.StatusRequestHeaderFieldsTooLarge, cause: "head-too-large", verdict: "the request head is larger than limits.maxHeaderBytes"})
		return
	}
	err := x.scratch.req.Parse(head)
	if err == nil && len(r.Header["Content-Length"]) > 1 {
		err = &http1.ParseError{Status: http.StatusBadRequest, Reason: "Content-Length is repeated"}
	}
	if err != nil {
		x.refuse(malformed(err))
		return
	}
	if x.bodyLength != 0 {
		x.body = &http2Body{r: r}
	}
	s.handle(x)
}

// gone ends whatever the request waits for, since nobody waits for the answer.
func (w *watch) gone() {
	for {
		old := w.state.Load()
		if cause(old>>causeShift&0xf) != causeNone || w.interrupt(old, causeGone) {
			return
		}
	}
}

// appendHTTP2Head writes a request as the HTTP/1.1 head that means the same.
// The HTTP/2 server has refused connection-specific fields and checked the
// length of the body; the parser checks everything else.
func appendHTTP2Head(b []byte, r *http.Request) []byte {
	b = append(append(append(b, r.Method...), ' '), r.RequestURI...)
	b = append(append(append(b, " HTTP/1.1\r\nHost: "...), r.Host...), "\r\n"...)
	for name, values := range r.Header {
		if name == "Host" || name == "Content-Length" || name == "Transfer-Encoding" || name == "Connection" {
			continue
		}
		for _, v := range values {
			b = append(append(append(append(b, name...), ": "...), v...), "\r\n"...)
		}
	}
	if r.ContentLength > 0 {
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), r.ContentLength, 10), "\r\n"...)
	}
	return append(b, "\r\n"...)
}

// An http2Body reads a request's body and then its trailers.
type http2Body struct{ r *http.Request }

func (b *http2Body) Read(p []byte) (int, error) { return b.r.Body.Read(p) }

// Trailers returns the trailer lines, nil without any.
func (b *http2Body) Trailers() []byte {
	var lines []byte
	for name, values := range b.r.Trailer {
		for _, v := range values {
			lines = append(append(append(append(lines, name...), ": "...), v...), "\r\n"...)
		}
	}
	return checkedTrailers(lines)
}

// An http2Responder writes an answer to an HTTP/2 client. Reason phrases do
// not exist there.
type http2Responder struct {
	w       http.ResponseWriter
	control *http.ResponseController
	buf     *relayBuffer
	status  int
	length  int64
	noBody  bool
	sent    bool
	aborted bool
}

func (w *http2Responder) reply(x *exchange, status int, _ string, fields []field, body []byte, _ bool) error {
	if !x.watch.enter(phaseWriteAnswer) {
		return errInterrupted
	}
	h := w.w.Header()
	h.Set(opencmg.HeaderCorrelationID, x.id)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	for _, f := range fields {
		h.Set(f.name, f.value)
	}
	w.w.WriteHeader(status)
	if x.isHead {
		return nil
	}
	_, err := w.w.Write(body)
	return err
}

func (w *http2Responder) proceed() error { return nil } // done by the HTTP/2 server when the body is read

func (w *http2Responder) inform(h *http1.ResponseHead) error {
	if h.Status == 100 {
		return nil
	}
	w.fields(h)
	w.w.WriteHeader(h.Status)
	clear(w.w.Header())
	return nil
}

func (w *http2Responder) fields(h *http1.ResponseHead) {
	header := w.w.Header()
	for i := range h.Fields {
		if f := &h.Fields[i]; answerField(h, f.Name) {
			header.Add(string(f.Name), string(f.Value))
		}
	}
}

func (w *http2Responder) start(x *exchange, h *http1.ResponseHead, length int64) {
	w.fields(h)
	header := w.w.Header()
	header.Set(opencmg.HeaderCorrelationID, x.id)
	if h.NoBody && h.ContentLength >= 0 && h.Status != http.StatusNoContent {
		header.Set("Content-Length", strconv.FormatInt(h.ContentLength, 10))
	}
	w.status, w.length, w.noBody, w.buf = h.Status, length, h.NoBody, getBuffer()
}

func (w *http2Responder) space() []byte { return w.buf[:] }

func (w *http2Responder) send(n int, last bool, trailers []byte) error {
	if !w.sent {
		w.sent = true
		if w.length < 0 && last && trailers == nil {
			w.length = int64(n)
		}
		if !w.noBody && w.length >= 0 {
			w.w.Header().Set("Content-Length", strconv.FormatInt(w.length, 10))
		}
		w.w.WriteHeader(w.status)
	}
	if n > 0 {
		if _, err := w.w.Write(w.buf[:n]); err != nil {
			return err
		}
	}
	if !last {
		return w.control.Flush()
	}
	for line := range bytes.SplitSeq(trailers, []byte("\r\n")) {
		if name, value, ok := bytes.Cut(line, []byte{':'}); ok {
			w.w.Header().Add(http.TrailerPrefix+string(name), string(bytes.TrimSpace(value)))
		}
	}
	return nil
}

func (w *http2Responder) abort() { w.aborted = true }

func (w *http2Responder) done() {
	if w.buf != nil {
		putBuffer(w.buf)
		w.buf = nil
	}
}

var _ io.Reader = (*http2Body)(nil)

// closeHTTP2 tells HTTP/2 clients to take their next requests elsewhere and
// waits for the present ones until ctx ends.
func (s *Server) closeHTTP2(ctx context.Context) {
	if err := s.http2Base.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		s.log.Debug("HTTP/2 shutdown", "component", componentService, "err", err)
	}
}
