package connpoint

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/http1"
	"github.com/opencmg/opencmg/tunnel"
)

// The parts of an exchange that forward.go's story needs: buffers, the upload
// of a long request body, cancellation, and the ways to fail.

const bulkSize = 32 << 10

var (
	partsPool = sync.Pool{New: func() any { return &parts{out: make([]byte, 0, 4<<10)} }}
	bulkPool  = sync.Pool{New: func() any { return new([bulkSize]byte) }}
)

// parts are what one message needs while it is read or written, from a pool.
type parts struct {
	request  http1.RequestHead
	response http1.ResponseHead
	out      []byte // head that is being built
	buf      [16 << 10]byte
}

func newParts() *parts { return partsPool.Get().(*parts) }

func (p *parts) release() {
	if cap(p.out) > 64<<10 {
		p.out = make([]byte, 0, 4<<10)
	}
	partsPool.Put(p)
}

// A requestBody is a small request body that was gathered whole, or the start
// of a longer one.
type requestBody struct {
	p     *parts
	b     []byte
	whole bool
}

func (b *requestBody) release() {
	if b.p != nil {
		b.p.release()
		b.p, b.b = nil, nil
	}
}

// An upload sends the rest of a long request body while the response may
// already come in.
type upload struct {
	done  chan struct{} // closed when the goroutine ended
	whole bool          // all was sent; valid after done
	sent  atomic.Int64
	// before is how much of the body went with the head.
	before int64
	// short is set when the body ended before its length, or failed.
	short atomic.Bool
}

// ended reports whether the client's side cut the body off.
func (u *upload) ended() bool { return u != nil && u.short.Load() }

// upload starts to send the rest of the body. The goroutine ends when the body
// or the connection or the stream does; [exchange.settle] waits for it.
func (x *exchange) upload(conn *originConn, before int) {
	u := &upload{done: make(chan struct{}), before: int64(before)}
	timeout := time.Duration(0)
	if !x.req.Deadline.IsZero() {
		timeout = max(time.Until(x.req.Deadline), time.Second)
	}
	conn.deadline = true // whatever the goroutine does, the next request sets its own
	go func() {
		defer close(u.done)
		u.whole = x.copyBody(conn.nc, u)
		if u.short.Load() {
			conn.close() // or the role would wait for the rest
		}
		if u.whole && timeout > 0 {
			conn.nc.SetReadDeadline(time.Now().Add(timeout))
		}
	}()
	x.up = u
}

func (x *exchange) copyBody(w io.Writer, u *upload) (whole bool) {
	buf := bulkPool.Get().(*[bulkSize]byte)
	defer bulkPool.Put(buf)
	chunked := x.req.BodyLength < 0
	const room = 16 // for a chunk's frame
	left := x.req.BodyLength - u.before
	for {
		n, err := x.s.Read(buf[room : bulkSize-room])
		if n > 0 {
			out := buf[room : room+n]
			if chunked {
				out = frameChunk(buf[:], room, n)
			} else if left -= int64(n); left < 0 {
				// More than announced would be taken for another request.
				u.short.Store(true)
				return false
			}
			k, werr := w.Write(out)
			u.sent.Add(int64(k))
			if werr != nil {
				return false
			}
		}
		if err == io.EOF {
			if chunked {
				_, err = w.Write(appendLastChunk(nil, http1.FilterTrailers(x.s.Trailers(), forwardTrailer)))
				return err == nil
			}
			u.short.Store(left > 0)
			return left == 0
		}
		if err != nil {
			u.short.Store(true)
			return false
		}
	}
}

// frameChunk makes the n bytes at room in b a chunk, in place.
func frameChunk(b []byte, room, n int) []byte {
	i := room - 2
	copy(b[i:], "\r\n")
	for v := n; v > 0; v >>= 4 {
		i--
		b[i] = "0123456789abcdef"[v&15]
	}
	copy(b[room+n:], "\r\n")
	return b[i : room+n+2]
}

// appendLastChunk ends a chunked body with the trailer lines, if any.
func appendLastChunk(dst, trailers []byte) []byte {
	dst = append(dst, "0\r\n"...)
	dst = append(dst, trailers...)
	return append(dst, '\r', '\n')
}

// uploaded reports whether the whole request was sent, without waiting.
func (u *upload) uploaded() bool {
	if u == nil {
		return true
	}
	select {
	case <-u.done:
		return u.whole
	default:
		return false
	}
}

// settle waits for the upload. Its stream was reset, or has its whole response,
// so that the rest of the request is of no use.
func (x *exchange) settle() {
	if x.up == nil {
		return
	}
	if !x.up.uploaded() {
		x.s.StopReading()
	}
	<-x.up.done
}

// refuseWithoutCertificate answers 403 when the role demands a client
// certificate and none is left to show (cmg-behaviour C10).
func (x *exchange) refuseWithoutCertificate() bool {
	r := x.role
	if !r.mapping.CertificateRequired || r.certificates.current(r.pool.now()) != nil {
		return false
	}
	x.status, x.reason = 403, opencmg.ReasonConnectionPrefix+"Clientcertificaterequired"
	x.verdict = "the role demands a client certificate and this connection point has none that fits: see the counts in its log"
	x.finish()
	if err := x.s.WriteHead([]byte("HTTP/1.1 403 "+x.reason+"\r\nContent-Length: 0\r\n\r\n"), true); err != nil {
		x.failed = true
	}
	return true
}

// hold makes conn the connection that a cancellation closes. It reports false
// when the request was cancelled already.
func (x *exchange) hold(conn *originConn) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over {
		return false
	}
	x.conn = conn
	return true
}

// letGo gives the connection back to the pool, or closes it.
func (x *exchange) letGo(conn *originConn, reusable bool) {
	x.mu.Lock()
	x.conn = nil
	reusable = reusable && !x.over
	x.mu.Unlock()
	if reusable && conn.r.Buffered() == 0 {
		conn.put()
	} else {
		conn.discard()
	}
}

// cancel gives the request up. The tunnel calls it when the gateway resets the
// stream or the tunnel ends, from a goroutine that must not wait.
func (x *exchange) cancel() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over {
		return
	}
	x.over = true
	if x.conn != nil {
		x.conn.close()
	}
	if x.stop != nil {
		x.stop()
	}
	if x.doneCh != nil {
		close(x.doneCh)
	}
}

func (x *exchange) cancelled() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.over
}

// onCancel sets what else ends when the request is cancelled, nil for nothing.
// It reports false when the request was cancelled already.
func (x *exchange) onCancel(stop func()) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stop = stop
	return !x.over
}

// done returns a channel that closes when the request is cancelled. Only a
// request that has to wait makes one.
func (x *exchange) done() <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.doneCh == nil {
		x.doneCh = make(chan struct{})
		if x.over {
			close(x.doneCh)
		}
	}
	return x.doneCh
}

// pause waits, unless the request is cancelled.
func (x *exchange) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-x.done():
	}
}

// fail resets the stream. untouched says that the request provably never
// reached the role, so that the gateway may send it elsewhere.
func (x *exchange) fail(code tunnel.Code, untouched bool, verdict string) {
	x.failed, x.verdict = true, verdict
	x.finish()
	if untouched {
		x.s.Refuse(code, verdict)
		return
	}
	x.s.Fail(code, verdict)
}

// failConnect ends a request for which no connection was to be had. lost is
// the connection that an earlier attempt lost after the request was sent.
func (x *exchange) failConnect(err, lost error) {
	if x.cancelled() {
		x.fail(tunnel.CodeCancelled, lost == nil, "the client gave up while the request waited for the role")
		return
	}
	x.fail(tunnel.CodeRoleUnreachable, lost == nil, err.Error())
}

// failResponse ends a request whose response failed.
func (x *exchange) failResponse(err error) {
	var ne net.Error
	var malformed *http1.ParseError
	var stream *tunnel.StreamError
	switch {
	case errors.As(err, &stream):
		x.fail(tunnel.CodeCancelled, false, "the tunnel or the client gave up: "+err.Error())
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		x.fail(tunnel.CodeRoleTimeout, false, "the role did not answer in time")
	case errors.As(err, &malformed), errors.Is(err, errUpgrade), errors.Is(err, errInformational), errors.Is(err, http1.ErrHeadTooLarge):
		x.fail(tunnel.CodeRoleUnreachable, false, "the role's answer can not be passed on: "+err.Error())
	case x.status != 0:
		x.fail(tunnel.CodeRoleUnreachable, false, "the role's answer ended early: "+err.Error())
	default:
		x.fail(tunnel.CodeRoleUnreachable, false, "the role did not answer: "+err.Error())
	}
}

// requestLine returns the method and the path of a head for records.
func requestLine(head []byte) (method, path string) {
	m, rest, _ := bytes.Cut(head, []byte(" "))
	target, _, _ := bytes.Cut(rest, []byte(" "))
	if i := bytes.IndexByte(target, '?'); i >= 0 {
		target = target[:i]
	}
	for _, known := range []string{"GET", "HEAD", "POST", "CCM_POST", "BITS_POST", "PROPFIND"} {
		if string(m) == known {
			return known, string(target)
		}
	}
	return strings.Clone(string(m)), string(target)
}
