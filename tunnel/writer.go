package tunnel

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
)

// The scheduler and writer of a connection (SPEC §5). Whoever has a frame to
// send appends it to a shared buffer under a mutex and wakes one goroutine.
// That goroutine lets others run once before it takes the buffer, so that what
// many streams have to say becomes one write, one TLS record and one wake-up of
// the peer: messages cost, bytes do not.

const (
	// urgentBody is how much of each body counts as small.
	urgentBody = 16 << 10
	// urgentLimit is above how many waiting bytes small pieces of bodies have to
	// queue like large ones; above openLimit heads have to, too, and requests
	// are refused. overflowLimit is reached only by control frames.
	urgentLimit   = 256 << 10
	openLimit     = 4 << 20
	overflowLimit = 8 << 20
	// bulkSlots is how many DATA frames wait in the bulk queue: 128 KiB.
	bulkSlots = 8
	// yieldBelow is the size of a batch for which waiting once more pays.
	yieldBelow = 16 << 10
	// crowd is how many open streams make waiting a gamble: when all of them
	// have something to say at once, the goroutine would come last.
	crowd = 512
	// keepBuffer is the largest buffer kept between writes.
	keepBuffer = 512 << 10
)

// A bulkFrame is a complete HEAD, DATA or TRAILERS frame that waits for its
// turn.
type bulkFrame struct {
	next *bulkFrame
	s    *Stream
	slot bool // returns a slot
	b    []byte
}

var bulkFrames = sync.Pool{New: func() any { return &bulkFrame{b: make([]byte, 0, headerSize+maxData)} }}

func (f *bulkFrame) free() {
	if cap(f.b) == headerSize+maxData {
		f.next, f.s, f.slot, f.b = nil, nil, false, f.b[:0]
		bulkFrames.Put(f)
	}
}

// A writer owns the sending half of a connection. Its mutex is the innermost
// but for that of a stream, which is never taken with it.
type writer struct {
	nc   net.Conn
	now  *atomic.Int64 // the connection's clock, in milliseconds
	load *atomic.Int64 // open streams

	mu       sync.Mutex // guards what follows
	wake     sync.Cond
	sleeping bool
	urgent   []byte
	spare    []byte
	batch    uint64 // number of the batch that urgent becomes
	first    *bulkFrame
	last     *bulkFrame
	slots    int
	waiting  *Stream // streams that wait for a slot, in order
	waitLast *Stream
	closing  bool
	flush    bool // send what waits before final
	final    []byte

	overflow atomic.Bool  // urgent exceeded overflowLimit
	since    atomic.Int64 // clock when the write in progress began, 0 none
	bytes    atomic.Uint64
	writes   atomic.Uint64
}

func (w *writer) init(nc net.Conn, now, load *atomic.Int64) {
	w.nc, w.now, w.load, w.slots = nc, now, load, bulkSlots
	w.wake.L = &w.mu
}

// appended wakes the goroutine and releases the mutex.
func (w *writer) appended() {
	if w.sleeping {
		w.sleeping = false
		w.wake.Signal()
	}
	w.mu.Unlock()
}

// control sends a small frame that nobody waits for.
func (w *writer) control(frame []byte) {
	w.mu.Lock()
	if w.closing || len(w.urgent) > overflowLimit {
		if !w.closing {
			w.overflow.Store(true)
		}
		w.mu.Unlock()
		return
	}
	w.urgent = append(w.urgent, frame...)
	w.appended()
}

// open appends the frames of a new stream, whose caller holds the mutex of the
// connection so that IDs reach the peer in order. It reports false when too
// much is waiting.
func (w *writer) open(s *Stream, r *Request, left uint32, body []byte, end bool) bool {
	w.mu.Lock()
	if w.closing || len(w.urgent) > openLimit {
		w.mu.Unlock()
		return false
	}
	s.batch = w.batch
	w.urgent = appendOpen(w.urgent, s.id, end && len(body) == 0, r, left)
	w.urgent = appendData(w.urgent, s.id, body, end)
	w.appended()
	return true
}

// appendData appends body as DATA frames, none for no bytes.
func appendData(b []byte, id uint64, body []byte, end bool) []byte {
	for len(body) > 0 {
		n := min(len(body), maxData)
		var flags uint8
		if end && n == len(body) {
			flags = flagEnd
		}
		b = appendFrame(b, frameData, flags, id, body[:n])
		body = body[n:]
	}
	return b
}

// small appends a head, nil for none, and a small piece of a body. It reports
// false when the caller has to queue.
func (w *writer) small(s *Stream, head []byte, headFlags uint8, body []byte, end bool) bool {
	limit := urgentLimit
	if head != nil {
		limit = openLimit
	}
	w.mu.Lock()
	if w.closing {
		w.mu.Unlock()
		return true
	}
	if len(w.urgent) > limit {
		w.mu.Unlock()
		return false
	}
	if head != nil {
		if end && len(body) == 0 {
			headFlags |= flagEnd
		}
		w.urgent = appendFrame(w.urgent, frameHead, headFlags, s.id, head)
	}
	w.urgent = appendData(w.urgent, s.id, body, end)
	w.appended()
	return true
}

// end ends the body of a stream, with trailers unless they are nil, behind
// whatever of it waits.
func (w *writer) end(s *Stream, trailers []byte) {
	w.mu.Lock()
	switch {
	case w.closing:
		w.mu.Unlock()
		return
	case s.bulk == nil && trailers == nil:
		w.urgent = appendHeader(w.urgent, frameData, flagEnd, s.id, 0)
	case s.bulk == nil:
		w.urgent = appendFrame(w.urgent, frameTrailers, 0, s.id, trailers)
	case trailers == nil:
		s.bulk.b[1] |= flagEnd
	default:
		w.pushLocked(&bulkFrame{s: s, b: appendFrame(nil, frameTrailers, 0, s.id, trailers)})
	}
	w.appended()
}

// acquire takes a slot in the bulk queue, or queues the stream for one and
// reports false: the stream's granted is set when its turn has come.
func (w *writer) acquire(s *Stream) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.slots > 0 && w.waiting == nil || w.closing {
		w.slots--
		return true
	}
	if w.waiting == nil {
		w.waiting = s
	} else {
		w.waitLast.nextWaiting = s
	}
	w.waitLast = s
	return false
}

// release gives a slot to the stream that has waited longest.
func (w *writer) release() {
	for {
		w.mu.Lock()
		s := w.waiting
		if s == nil {
			w.slots++
			w.mu.Unlock()
			return
		}
		w.waiting, s.nextWaiting = s.nextWaiting, nil
		w.mu.Unlock()
		s.mu.Lock()
		taken := s.werr == nil
		if taken {
			s.granted = true
			s.wcond.Signal()
		}
		s.mu.Unlock()
		if taken {
			return
		}
	}
}

// push queues a head or a piece of a body, at most maxData bytes. The caller
// has a slot.
func (w *writer) push(s *Stream, t frameType, flags uint8, p []byte, end bool) {
	if end {
		flags |= flagEnd
	}
	f := bulkFrames.Get().(*bulkFrame)
	f.s, f.slot = s, true
	f.b = appendFrame(f.b, t, flags, s.id, p)
	w.mu.Lock()
	if w.closing {
		w.mu.Unlock()
		return
	}
	w.pushLocked(f)
	w.appended()
}

func (w *writer) pushLocked(f *bulkFrame) {
	if w.last == nil {
		w.first = f
	} else {
		w.last.next = f
	}
	w.last = f
	f.s.bulk = f
}

// close lets the goroutine end, after it has sent final. Unless flush is set,
// frames that wait are dropped. The result is the first batch that the network
// never got.
func (w *writer) close(final []byte, flush bool) uint64 {
	w.mu.Lock()
	batch := w.batch
	w.closing, w.flush, w.final = true, flush, final
	w.appended()
	return batch
}

// run writes until close, or until an error, which it returns.
func (w *writer) run() error {
	for {
		w.mu.Lock()
		for len(w.urgent) == 0 && w.first == nil && !w.closing {
			w.sleeping = true
			w.wake.Wait()
		}
		if n := len(w.urgent); n > 0 && n < yieldBelow && !w.closing && w.load.Load() < crowd {
			w.mu.Unlock()
			runtime.Gosched()
			w.mu.Lock()
		}
		switch {
		case w.closing && !w.flush:
			w.mu.Unlock()
			return w.write(w.final)
		case len(w.urgent) > 0:
			b := w.urgent
			w.urgent, w.spare = w.spare[:0], nil
			w.batch++
			w.mu.Unlock()
			err := w.write(b)
			if cap(b) <= keepBuffer {
				w.mu.Lock()
				w.spare = b
				w.mu.Unlock()
			}
			if err != nil {
				return err
			}
		case w.first != nil:
			f := w.first
			if w.first = f.next; w.first == nil {
				w.last = nil
			}
			if f.s.bulk == f {
				f.s.bulk = nil
			}
			w.mu.Unlock()
			var err error
			if !f.s.aborted.Load() {
				err = w.write(f.b)
			}
			if f.slot {
				w.release()
			}
			f.free()
			if err != nil {
				return err
			}
		default: // closing, and everything is flushed
			w.mu.Unlock()
			return w.write(w.final)
		}
	}
}

func (w *writer) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	w.since.Store(max(w.now.Load(), 1))
	n, err := w.nc.Write(b)
	w.since.Store(0)
	w.bytes.Add(uint64(n))
	w.writes.Add(1)
	return err
}
