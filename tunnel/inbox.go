package tunnel

import (
	"encoding/binary"
	"sync"
)

// What has arrived for a stream and waits for its reader: heads first, then
// body bytes, in a chain of pooled chunks. A stream that waits has none. Heads
// are stored behind their length and always in one piece, so that they can be
// handed out without a copy; small bodies share the chunk of their head.

const (
	smallChunk = 4 << 10
	largeChunk = 16 << 10
	headPrefix = 4 // length of a head in its chunk; the top bit marks an informational one
	infoBit    = 1 << 31
	// maxInfoHeads is how many informational heads wait; more are dropped.
	maxInfoHeads = 4
)

type chunk struct {
	next *chunk
	r, w int
	buf  []byte
}

var (
	smallChunks = sync.Pool{New: func() any { return &chunk{buf: make([]byte, smallChunk)} }}
	largeChunks = sync.Pool{New: func() any { return &chunk{buf: make([]byte, largeChunk)} }}
)

func newChunk(n int) *chunk {
	switch {
	case n <= smallChunk:
		return smallChunks.Get().(*chunk)
	case n <= largeChunk:
		return largeChunks.Get().(*chunk)
	}
	return &chunk{buf: make([]byte, n)}
}

func (k *chunk) free() {
	k.next, k.r, k.w = nil, 0, 0
	switch len(k.buf) {
	case smallChunk:
		smallChunks.Put(k)
	case largeChunk:
		largeChunks.Put(k)
	}
}

// An inbox is guarded by the mutex of its stream.
type inbox struct {
	first, last *chunk
	unread      int // body bytes
	headBytes   int // in waiting heads
	heads       int
}

func (q *inbox) push(k *chunk) {
	if q.last == nil {
		q.first = k
	} else {
		q.last.next = k
	}
	q.last = k
}

func (q *inbox) putHead(p []byte, info bool) {
	n := headPrefix + len(p)
	if q.last == nil || len(q.last.buf)-q.last.w < n {
		q.push(newChunk(n))
	}
	prefix := uint32(len(p))
	if info {
		prefix |= infoBit
	}
	k := q.last
	binary.BigEndian.PutUint32(k.buf[k.w:], prefix)
	copy(k.buf[k.w+headPrefix:], p)
	k.w += n
	q.heads++
	q.headBytes += len(p)
}

func (q *inbox) putData(p []byte) {
	q.unread += len(p)
	for len(p) > 0 {
		if q.last == nil || q.last.w == len(q.last.buf) {
			// A second chunk means that the body is not a small one.
			n := len(p)
			if q.last != nil {
				n = largeChunk
			}
			q.push(newChunk(n))
		}
		k := q.last
		n := copy(k.buf[k.w:], p)
		k.w += n
		p = p[n:]
	}
}

// drop frees chunks that were read, and with them the bytes of the head handed
// out last.
func (q *inbox) drop() {
	for q.first != nil && q.first.r == q.first.w {
		k := q.first
		if q.first = k.next; q.first == nil {
			q.last = nil
		}
		k.free()
	}
}

// head takes the next head. Its bytes are valid until drop.
func (q *inbox) head() (p []byte, info bool) {
	q.drop()
	k := q.first
	prefix := binary.BigEndian.Uint32(k.buf[k.r:])
	n := int(prefix &^ infoBit)
	p = k.buf[k.r+headPrefix:][:n:n]
	k.r += headPrefix + n
	q.heads--
	q.headBytes -= n
	return p, prefix&infoBit != 0
}

// read takes body bytes. No head may be waiting.
func (q *inbox) read(p []byte) int {
	n := 0
	for n < len(p) && q.unread > 0 {
		q.drop()
		k := q.first
		m := copy(p[n:], k.buf[k.r:k.w])
		k.r += m
		n += m
		q.unread -= m
	}
	q.drop()
	return n
}

// clear drops everything. A head that was handed out stays valid, since its
// chunk is left to the garbage collector.
func (q *inbox) clear() { *q = inbox{} }
