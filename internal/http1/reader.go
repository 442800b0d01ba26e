package http1

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// bufferSize is also the largest head that a [Reader] takes; a TLS record
// carries as much.
const bufferSize = 16 << 10

// largeBufferSize serves heads above bufferSize.
const largeBufferSize = 64 << 10

var (
	bufferPool      = sync.Pool{New: func() any { return new([bufferSize]byte) }}
	largeBufferPool = sync.Pool{New: func() any { return new([largeBufferSize]byte) }}
)

// ErrHeadTooLarge is returned by [Reader.ReadHead] when the head does not end
// within the limit.
var ErrHeadTooLarge = errors.New("http1: message head is too large")

// A Reader reads messages from a connection. It waits for a message with a few
// hundred bytes and takes a buffer from a pool once the message has begun, so
// that a connection which waits costs next to nothing. A Reader is used by one
// goroutine at a time.
type Reader struct {
	src   io.Reader
	lazy  LazyReader    // src, when it is one
	get   func() []byte // for lazy, made once
	drop  func()
	buf   []byte // nil while nothing is buffered
	small *[bufferSize]byte
	large *[largeBufferSize]byte
	r, w  int
	// first receives the first bytes of a message while there is no buffer.
	first [256]byte
}

// A LazyReader can wait for bytes without a buffer to put them into. A [Reader]
// of one reads whole messages at once where it would otherwise begin with a few
// hundred bytes.
type LazyReader interface {
	io.Reader
	// ReadLazy reads into what buffer returns. It may call it several times;
	// only the last result counts, and drop gives back each that was of no
	// use.
	ReadLazy(buffer func() []byte, drop func()) (int, error)
}

// NewReader returns a Reader of src.
func NewReader(src io.Reader) *Reader {
	r := new(Reader)
	r.Reset(src)
	return r
}

// Reset makes the reader read from src and forget what was buffered.
func (r *Reader) Reset(src io.Reader) {
	r.r, r.w = 0, 0
	r.Release()
	r.src = src
	if r.lazy, _ = src.(LazyReader); r.lazy != nil && r.get == nil {
		r.get = func() []byte {
			r.take()
			return r.buf
		}
		r.drop = r.Release
	}
}

// Buffered returns the number of bytes that were received and not yet read.
func (r *Reader) Buffered() int { return r.w - r.r }

// Peek returns the bytes that were received and not yet read. They are valid
// until the reader is used again.
func (r *Reader) Peek() []byte { return r.buf[r.r:r.w] }

// Discard skips n buffered bytes.
func (r *Reader) Discard(n int) { r.r += min(n, r.w-r.r) }

// Release gives the buffer back to the pool unless it holds unread bytes.
func (r *Reader) Release() {
	if r.r != r.w {
		return
	}
	r.r, r.w, r.buf = 0, 0, nil
	if r.small != nil {
		bufferPool.Put(r.small)
		r.small = nil
	}
	if r.large != nil {
		largeBufferPool.Put(r.large)
		r.large = nil
	}
}

// ReadHead waits for a message head of at most max bytes and returns it with
// its final empty line. begun, when not nil, is called once when the first
// byte of the message is there, for example to start a deadline. Empty lines
// before the message are skipped (RFC 9112 2.2). The result is valid until the
// reader is used again. The error is io.EOF when the connection ended between
// messages and io.ErrUnexpectedEOF when it ended inside one.
func (r *Reader) ReadHead(max int, begun func()) ([]byte, error) {
	if r.r == r.w {
		if err := r.wait(); err != nil {
			return nil, err
		}
	}
	if begun != nil {
		begun()
	}
	for skipped := 0; ; {
		for r.r < r.w && (r.buf[r.r] == '\r' || r.buf[r.r] == '\n') {
			r.r++
			if skipped++; skipped > 4 {
				return nil, malformed("empty lines before the message")
			}
		}
		if r.r < r.w {
			break
		}
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
	for from := 0; ; {
		b := r.buf[r.r:r.w]
		if end := headEnd(b, from); end > 0 {
			if end > max {
				return nil, ErrHeadTooLarge
			}
			r.r += end
			return b[:end:end], nil
		}
		if len(b) >= max {
			return nil, ErrHeadTooLarge
		}
		from = len(b)
		if err := r.fill(); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// headEnd returns the length of the head in b, or 0 when it does not end in b.
// Bytes before from were looked at before.
func headEnd(b []byte, from int) int {
	for i := max(from-3, 0); ; {
		n := bytes.IndexByte(b[i:], '\n')
		if n < 0 {
			return 0
		}
		i += n + 1
		// A line that ends in a bare LF ends the search too: the parser
		// refuses it, and nobody waits for more of it.
		switch {
		case len(b) > i && b[i] == '\n':
			return i + 1
		case len(b) > i+1 && b[i] == '\r' && b[i+1] == '\n':
			return i + 2
		}
	}
}

// wait blocks for the first bytes of a message without holding a buffer.
func (r *Reader) wait() error {
	if r.buf != nil {
		r.Release()
	}
	if r.lazy != nil {
		n, err := r.lazy.ReadLazy(r.get, r.drop)
		if r.w = n; n > 0 {
			return nil
		}
		r.Release()
		if err == nil {
			err = io.ErrNoProgress
		}
		return err
	}
	n, err := r.read(r.first[:])
	if n == 0 {
		return err
	}
	r.take()
	r.w = copy(r.buf, r.first[:n])
	return nil
}

func (r *Reader) take() {
	r.small = bufferPool.Get().(*[bufferSize]byte)
	r.buf = r.small[:]
	r.r, r.w = 0, 0
}

// fill receives more bytes behind those that are buffered, making room when
// needed.
func (r *Reader) fill() error {
	if r.buf == nil {
		return r.wait()
	}
	if r.w == len(r.buf) {
		if r.r > 0 {
			r.w = copy(r.buf, r.buf[r.r:r.w])
			r.r = 0
		} else if r.large == nil {
			r.large = largeBufferPool.Get().(*[largeBufferSize]byte)
			r.w = copy(r.large[:], r.buf)
			r.buf = r.large[:]
			bufferPool.Put(r.small)
			r.small = nil
		} else {
			return ErrHeadTooLarge
		}
	}
	n, err := r.read(r.buf[r.w:])
	r.w += n
	if n > 0 {
		return nil
	}
	return err
}

func (r *Reader) read(p []byte) (int, error) {
	for range 100 {
		n, err := r.src.Read(p)
		if n > 0 {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}

// Read returns buffered bytes first and then reads the connection directly.
func (r *Reader) Read(p []byte) (int, error) {
	if r.r < r.w {
		n := copy(p, r.buf[r.r:r.w])
		r.r += n
		return n, nil
	}
	return r.src.Read(p)
}

// line returns the next line without its CRLF, at most max bytes long.
func (r *Reader) line(max int) ([]byte, error) {
	for from := 0; ; {
		b := r.buf[r.r:r.w]
		if i := bytes.IndexByte(b[from:], '\n'); i >= 0 {
			i += from
			if i == 0 || b[i-1] != '\r' || i-1 > max {
				return nil, malformed("chunk line does not end in CRLF or is too long")
			}
			r.r += i + 1
			return b[:i-1], nil
		}
		if from = len(b); from > max+1 {
			return nil, malformed("chunk line is too long")
		}
		if err := r.fill(); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}
