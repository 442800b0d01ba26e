package gateway

import (
	"io"
	"net/http"
	"slices"
	"sync/atomic"

	"github.com/opencmg/opencmg/internal/http1"
	"github.com/opencmg/opencmg/tunnel"
)

// readInline reads a small body behind the head.
func (x *exchange) readInline(m *message) *refusal {
	for left := int(x.bodyLength); left > 0; {
		if !x.watch.enter(phaseReadBody) {
			return x.bodyFailure(errInterrupted)
		}
		m.b = slices.Grow(m.b, left)
		n, err := x.body.Read(m.b[len(m.b) : len(m.b)+left])
		m.b = m.b[:len(m.b)+n]
		left -= n
		x.received.Add(int64(n))
		if err != nil && left > 0 {
			return x.bodyFailure(err)
		}
	}
	if !x.watch.enter(phaseWork) {
		return x.bodyFailure(errInterrupted)
	}
	return nil
}

// bodyFailure says why the client's body could not be read.
func (x *exchange) bodyFailure(err error) *refusal {
	if x.watch.cause() == causeTimeout {
		return &refusal{status: http.StatusRequestTimeout, cause: "body-timeout", close: true, verdict: "the request body did not arrive: no progress within limits.bodyTimeout"}
	}
	if p, ok := err.(*http1.ParseError); ok {
		return malformed(p)
	}
	return &refusal{status: statusClientGone, cause: "client-gone", close: true, verdict: "the client went away while it sent the body"}
}

// statusClientGone is noted for a request that nobody waits for any more. It
// is never sent.
const statusClientGone = 499

// An upload is a request body that streams while the answer is waited for.
type upload struct {
	done    chan struct{} // closed when the goroutine has ended
	active  atomic.Bool   // while the client has body bytes to send
	failure *refusal      // set before done is closed
}

func (x *exchange) uploading() bool { return x.upload != nil && x.upload.active.Load() }

// startUpload sends the body down the stream in a goroutine of its own, so
// that the role may answer before it has read everything.
func (x *exchange) startUpload(st *tunnel.Stream) bool {
	if !x.watch.enter(phaseReadBody) {
		return false
	}
	u := &upload{done: make(chan struct{})}
	u.active.Store(true)
	x.upload = u
	go func() {
		defer close(u.done)
		if u.failure = x.sendBody(st); u.failure != nil {
			st.Reset(tunnel.CodeCancelled)
		}
		u.active.Store(false)
	}()
	return true
}

func (x *exchange) sendBody(st *tunnel.Stream) *refusal {
	buf := getBuffer()
	defer putBuffer(buf)
	for {
		if !x.watch.step(phaseReadBody) {
			return x.bodyFailure(errInterrupted)
		}
		n, err := x.body.Read(buf[:])
		if x.received.Add(int64(n)) > x.ep.max {
			r := x.tooLarge()
			r.close = true
			return r
		}
		last := err == io.EOF || x.received.Load() == x.bodyLength
		if last {
			x.upload.active.Store(false) // before the role can know
			err = nil
		}
		if n > 0 || last {
			if !x.watch.step(phaseSendBody) {
				return x.bodyFailure(errInterrupted)
			}
			if err := x.sendPiece(st, buf[:n], last); err != nil || last {
				x.watch.step(phaseWait)
				return nil // the answer says what was wrong
			}
		}
		if err != nil {
			return x.bodyFailure(err)
		}
	}
}

func (x *exchange) sendPiece(st *tunnel.Stream, p []byte, last bool) error {
	if !last {
		_, err := st.Write(p)
		return err
	}
	if t, ok := x.body.(interface{ Trailers() []byte }); ok && x.bodyLength < 0 {
		if trailers := http1.FilterTrailers(t.Trailers(), requestTrailer); trailers != nil {
			if _, err := st.Write(p); err != nil {
				return err
			}
			return st.WriteTrailers(trailers)
		}
	}
	return st.WriteLast(p)
}

// joinUpload waits until nobody reads the body any more. Where the client has
// not sent all of it, the connection can not be used again.
func (x *exchange) joinUpload() *refusal {
	if x.upload == nil {
		return nil
	}
	if x.upload.active.Load() {
		x.watch.conn.SetReadDeadline(aLongTimeAgo)
	}
	<-x.upload.done
	return x.upload.failure
}
