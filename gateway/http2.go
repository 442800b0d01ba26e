package gateway

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/http1"
)

// HTTP/2 is not the hot path: Configuration Manager clients speak HTTP/1.1. A
// request that the HTTP/2 server has read is written down as an HTTP/1.1 head
// and read again by the same strict parser, so that both protocols pass the
// same checks and nothing can hide between them.

const maxHTTP2Head = 64 << 10

// An http2Listener hands connections, whose handshake is done, to the standard
// library's HTTP/2 server.
type http2Listener struct {
	addr   net.Addr
	conns  chan *clientConn
	closed chan struct{}
	once   sync.Once

	mu sync.Mutex // guards of
	of map[net.Conn]*clientConn
}

// Accept returns the next connection.
func (l *http2Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c.tls, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (l *http2Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr is that of the client port.
func (l *http2Listener) Addr() net.Addr { return l.addr }

func (l *http2Listener) client(c net.Conn) *clientConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of[c]
}

func (l *http2Listener) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.of)
}

type clientConnKey struct{}

// newHTTP2 returns a server of HTTP/2 connections, which serveHTTP2 gives new
// ones from now on.
func (s *Server) newHTTP2(addr net.Addr) *http.Server {
	l := &http2Listener{addr: addr, conns: make(chan *clientConn), closed: make(chan struct{}), of: map[net.Conn]*clientConn{}}
	s.http2Conns.Store(l)
	srv := &http.Server{
		Protocols: new(http.Protocols),
		HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: 100, SendPingTimeout: 60 * time.Second, PingTimeout: 15 * time.Second, WriteByteTimeout: 60 * time.Second},
		// No IdleTimeout: the library arms that timer once more when it closes
		// a connection, and so keeps the memory of dead ones, megabytes each
		// after a flood of resets. The sweeper ends idle connections.
		MaxHeaderBytes: maxHTTP2Head,
		// "OPTIONS *" is refused like any other request.
		DisableGeneralOptionsHandler: true,
		BaseContext:                  func(net.Listener) context.Context { return s.ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, clientConnKey{}, l.client(c))
		},
		ConnState: func(c net.Conn, state http.ConnState) {
			client := l.client(c)
			if client == nil {
				return
			}
			switch state {
			case http.StateActive:
				client.watch.enter(phaseWork)
			case http.StateIdle:
				client.watch.enter(phaseIdleHTTP2)
			}
			if state != http.StateClosed {
				return
			}
			l.mu.Lock()
			delete(l.of, c)
			l.mu.Unlock()
			client.close()
			s.clients.Done()
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.serveHTTP2Request(r.Context().Value(clientConnKey{}).(*clientConn), w, r)
		}),
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	srv.Protocols.SetHTTP2(true)
	return srv
}

// serveHTTP2 gives a connection to the HTTP/2 server, which closes it.
func (s *Server) serveHTTP2(c *clientConn) {
	s.clients.Add(1)
	for {
		l := s.http2Conns.Load()
		l.mu.Lock()
		l.of[c.tls] = c
		l.mu.Unlock()
		select {
		case l.conns <- c:
			return
		case <-l.closed:
		}
		l.mu.Lock()
		delete(l.of, c.tls)
		l.mu.Unlock()
		if l == s.http2Conns.Load() { // nobody took its place: the instance stops
			c.close()
			s.clients.Done()
			return
		}
	}
}

func (s *Server) serveHTTP2Request(c *clientConn, w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	out := &http2Responder{w: w, control: control}
	deadlines := &http2Deadlines{control: control}
	wt := &watch{tick: &s.tick, conn: deadlines, fd: -1}
	wt.enter(phaseWork)
	s.watches.add(wt)
	stop := context.AfterFunc(r.Context(), func() { wt.gone() })
	x := &exchange{s: s, snap: s.snap.Load(), peer: &c.peer, watch: wt, out: out, bodyLength: r.ContentLength}
	x.begin()
	defer func() {
		stop()
		x.release()
		s.watches.remove(wt)
		deadlines.end()
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
	switch hosts := r.Header["Host"]; {
	case err != nil:
	case len(r.Header["Content-Length"]) > 1:
		err = &http1.ParseError{Status: http.StatusBadRequest, Reason: "Content-Length is repeated"}
	case len(hosts) > 1 || len(hosts) == 1 && !strings.EqualFold(hosts[0], r.Host):
		err = &http1.ParseError{Status: http.StatusBadRequest, Reason: "Host is not :authority"} // RFC 9113 8.3.1
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

// http2Deadlines sets the deadlines of a stream while its handler runs. The
// sweeper, and a reset of the stream, may come when the handler has just ended,
// and then the response writer has forgotten its stream and must not be used.
type http2Deadlines struct {
	mu      sync.Mutex // guards control, nil when the handler has ended
	control *http.ResponseController
}

func (d *http2Deadlines) SetReadDeadline(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.control == nil {
		return net.ErrClosed
	}
	return d.control.SetReadDeadline(t)
}

func (d *http2Deadlines) SetWriteDeadline(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.control == nil {
		return net.ErrClosed
	}
	return d.control.SetWriteDeadline(t)
}

func (d *http2Deadlines) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.control = nil
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

// Trailers returns the trailer lines as received, nil without any.
func (b *http2Body) Trailers() []byte {
	var lines []byte
	for name, values := range b.r.Trailer {
		for _, v := range values {
			lines = append(append(append(append(lines, name...), ": "...), v...), "\r\n"...)
		}
	}
	return lines
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
	w.part(x)
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

// part has the HTTP/2 server tell the client to open its next streams on
// another connection, when the instance goes: it takes this field so.
func (w *http2Responder) part(x *exchange) {
	if x.s.parting() {
		w.w.Header().Set("Connection", "close")
	}
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
	if header["Content-Type"] == nil {
		header["Content-Type"] = nil // not guessed: HTTP/1.1 clients get none either
	}
	w.part(x)
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
	s.http2mu.Lock()
	srv := s.http2
	s.http2mu.Unlock()
	s.shutdownHTTP2(ctx, srv)
}

func (s *Server) shutdownHTTP2(ctx context.Context, srv *http.Server) {
	if err := srv.Shutdown(ctx); err != nil && ctx.Err() == nil {
		s.log.Debug("HTTP/2 shutdown", "component", componentService, "err", err)
	}
}
