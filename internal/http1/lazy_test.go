package http1_test

import (
	"io"
	"testing"

	"github.com/opencmg/opencmg/internal/http1"
)

// lazy is a connection that has nothing the first time it looks.
type lazy struct {
	pieces []string
	asked  int
}

func (l *lazy) Read(p []byte) (int, error) {
	if len(l.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, l.pieces[0])
	if l.pieces[0] = l.pieces[0][n:]; l.pieces[0] == "" {
		l.pieces = l.pieces[1:]
	}
	return n, nil
}

func (l *lazy) ReadLazy(buffer func() []byte, drop func()) (int, error) {
	l.asked++
	buffer()
	drop() // nothing there yet
	return l.Read(buffer())
}

func TestLazyReader(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
	l := &lazy{pieces: []string{head + "hello", head[:10], head[10:] + "world"}}
	r := http1.NewReader(l)
	for i, want := range []string{"hello", "world"} {
		b, err := r.ReadHead(1<<10, nil)
		if err != nil || string(b) != head {
			t.Fatalf("message %d: head %q, %v", i, b, err)
		}
		var body http1.Body
		body.Reset(r, 5, false)
		got, err := io.ReadAll(&body)
		if err != nil || string(got) != want {
			t.Errorf("message %d: body %q, %v", i, got, err)
		}
		r.Release()
	}
	if _, err := r.ReadHead(1<<10, nil); err != io.EOF {
		t.Errorf("at the end: %v, want io.EOF", err)
	}
	if l.asked != 3 {
		t.Errorf("waited lazily %d times, want once per message", l.asked)
	}
}
