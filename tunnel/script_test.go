package tunnel_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencmg/opencmg/tunnel"
)

// A script is a peer that a test plays frame by frame. Frames from the
// connection under test are collected all the time, so that it never waits to
// write unless the test says so.
type script struct {
	t      *testing.T
	nc     net.Conn
	under  net.Conn
	frames chan frame // closed at the end of the connection
	hold   atomic.Bool
	held   chan struct{}
}

type frame struct {
	typ, flags uint8
	id         uint64
	payload    []byte
}

func (f frame) String() string {
	return fmt.Sprintf("frame type %d flags %#x stream %d %q", f.typ, f.flags, f.id, f.payload)
}

func newScript(t *testing.T) *script {
	x, y := net.Pipe()
	p := &script{t: t, nc: x, under: y, frames: make(chan frame, 10_000), held: make(chan struct{})}
	t.Cleanup(func() {
		p.nc.Close()
		p.under.Close()
	})
	return p
}

// server has the connection under test accept the script's hello.
func (p *script) server(cfg tunnel.Config) *tunnel.Conn {
	p.t.Helper()
	got := make(chan *tunnel.Conn, 1)
	go func() {
		c, err := tunnel.Server(context.Background(), p.under, cfg)
		if err != nil {
			p.t.Error(err)
		}
		got <- c
	}()
	p.send(tunnel.HelloFrame(1, 1, 100, 16<<10, tunnel.Hello{}))
	go p.collect()
	c := <-got
	if c == nil {
		p.t.FailNow()
	}
	p.t.Cleanup(func() {
		p.nc.Close()
		c.Close()
	})
	p.want(tunnel.FrameHello)
	return c
}

// client has the connection under test dial the script.
func (p *script) client(cfg tunnel.Config, maxStreams, window uint32) *tunnel.Conn {
	p.t.Helper()
	go p.collect()
	go func() {
		p.want(tunnel.FrameHello)
		p.send(tunnel.HelloFrame(1, 1, maxStreams, window, tunnel.Hello{}))
	}()
	c, err := tunnel.Client(context.Background(), p.under, cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		p.nc.Close()
		c.Close()
	})
	return c
}

func (p *script) collect() {
	defer close(p.frames)
	for {
		if p.hold.Load() {
			<-p.held
		}
		var h [tunnel.HeaderSize]byte
		if _, err := io.ReadFull(p.nc, h[:]); err != nil {
			return
		}
		first := binary.BigEndian.Uint64(h[:])
		f := frame{uint8(first >> 56), uint8(first >> 48), first & tunnel.MaxStreamID, make([]byte, binary.BigEndian.Uint32(h[8:]))}
		if _, err := io.ReadFull(p.nc, f.payload); err != nil {
			return
		}
		p.frames <- f
	}
}

// stopReading leaves the connection under test with nobody who reads what it
// sends, after one more frame, until resume or the end of the test.
func (p *script) stopReading() (resume func()) {
	p.hold.Store(true)
	resume = sync.OnceFunc(func() {
		p.hold.Store(false)
		close(p.held)
	})
	p.t.Cleanup(resume)
	return resume
}

func (p *script) send(frames ...[]byte) {
	p.t.Helper()
	for _, f := range frames {
		if _, err := p.nc.Write(f); err != nil {
			p.t.Errorf("sending: %v", err)
		}
	}
}

// next returns the next frame that is not a PING.
func (p *script) next() (frame, bool) {
	for f := range p.frames {
		if f.typ == tunnel.FramePing {
			p.nc.Write(tunnel.Pong(binary.BigEndian.Uint64(f.payload)))
			continue
		}
		return f, true
	}
	return frame{}, false
}

// rest returns the frames that have come and that nobody took, without PINGs:
// one may come at any time.
func (p *script) rest() (frames []frame) {
	for {
		select {
		case f, ok := <-p.frames:
			if !ok {
				return frames
			}
			if f.typ == tunnel.FramePing {
				p.nc.Write(tunnel.Pong(binary.BigEndian.Uint64(f.payload)))
				continue
			}
			frames = append(frames, f)
		default:
			return frames
		}
	}
}

// want expects a frame of the type.
func (p *script) want(typ uint8) frame {
	p.t.Helper()
	f, ok := p.next()
	if !ok {
		p.t.Errorf("connection closed, want frame type %d", typ)
	} else if f.typ != typ {
		p.t.Errorf("%v, want type %d", f, typ)
	}
	return f
}

// wantGoAway expects the last word and the end.
func (p *script) wantGoAway(code tunnel.Code) string {
	p.t.Helper()
	for {
		f, ok := p.next()
		if !ok {
			p.t.Errorf("connection closed without a GOAWAY")
			return ""
		}
		if f.typ != tunnel.FrameGoAway {
			continue
		}
		_, e := tunnel.ParseGoAway(f.payload)
		if e.Code != code {
			p.t.Errorf("went away with %v, want %v", e, code)
		}
		return e.Msg
	}
}

// heldConn swallows what is written to it while hold is set.
type heldConn struct {
	net.Conn
	hold atomic.Bool
}

func (c *heldConn) Write(b []byte) (int, error) {
	if c.hold.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}
