package tunnel_test

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencmg/opencmg/tunnel"
)

// Tests in which the peer is a script: what a well-behaved one would not do, and
// what exactly is sent to it.

func request(id uint64) []byte { return tunnel.Open(id, true, &tunnel.Request{Head: []byte("h")}) }

func upload(id uint64) []byte {
	return tunnel.Open(id, false, &tunnel.Request{Head: []byte("h"), BodyLength: -1})
}

func TestAnswerOnTheWire(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newScript(t)
		p.server(tunnel.Config{Handler: func(s *tunnel.Stream) {
			s.WriteInformational([]byte("100"))
			s.WriteHeadBody([]byte("200"), []byte("body"), true)
		}})
		p.send(request(1))
		for _, want := range []frame{
			{tunnel.FrameHead, tunnel.FlagInfo, 1, []byte("100")},
			{tunnel.FrameHead, 0, 1, []byte("200")},
			{tunnel.FrameData, tunnel.FlagEnd, 1, []byte("body")},
		} {
			if f, _ := p.next(); f.String() != want.String() {
				t.Errorf("%v, want %v", f, want)
			}
		}
	})
}

func TestMalformedFramesEndTheConnection(t *testing.T) {
	data := func(id uint64, flags uint8, s string) []byte {
		return tunnel.Frame(tunnel.FrameData, flags, id, []byte(s))
	}
	for _, c := range []struct {
		name   string
		frames [][]byte
		code   tunnel.Code
		msg    string
	}{
		{"too long", [][]byte{tunnel.Frame(tunnel.FrameStop, 0, 1, []byte("x"))}, tunnel.CodeProtocol, "STOP frame of 1 bytes"},
		{"second hello", [][]byte{tunnel.HelloFrame(1, 1, 1, 16384, tunnel.Hello{})}, tunnel.CodeProtocol, "second HELLO"},
		{"own ID", [][]byte{request(2)}, tunnel.CodeProtocol, "not the peer's to open"},
		{"ID again", [][]byte{request(3), request(3)}, tunnel.CodeProtocol, "not the peer's to open"},
		{"ID falls", [][]byte{request(3), request(1)}, tunnel.CodeProtocol, "not the peer's to open"},
		{"never opened", [][]byte{data(1, 0, "x")}, tunnel.CodeProtocol, "never opened"},
		{"never opened here", [][]byte{tunnel.Frame(tunnel.FrameHead, 0, 2, []byte("x"))}, tunnel.CodeProtocol, "never opened"},
		{"head from the opener", [][]byte{upload(1), tunnel.Frame(tunnel.FrameHead, 0, 1, []byte("x"))}, tunnel.CodeProtocol, "HEAD frame from the opener"},
		{"data after the end", [][]byte{request(1), data(1, 0, "x")}, tunnel.CodeProtocol, "after the end"},
		{"end twice", [][]byte{upload(1), data(1, tunnel.FlagEnd, ""), data(1, tunnel.FlagEnd, "")}, tunnel.CodeProtocol, "after the end"},
		{"trailers after the end", [][]byte{request(1), tunnel.Frame(tunnel.FrameTrailers, 0, 1, nil)}, tunnel.CodeProtocol, "TRAILERS frame out of place"},
		{"bad open", [][]byte{tunnel.Open(1, true, &tunnel.Request{Role: strings.Repeat("x", 65)})}, tunnel.CodeProtocol, "at most 64"},
		{"window overflow", [][]byte{upload(1), tunnel.Window(1, 1<<31-1)}, tunnel.CodeFlowControl, "window of stream 1"},
		{"more than granted", [][]byte{upload(1), data(1, 0, string(pattern(16372))), data(1, 0, string(pattern(13)))}, tunnel.CodeFlowControl, "stream 1 sent more"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := newScript(t)
				conn := p.server(tunnel.Config{Handler: func(s *tunnel.Stream) {
					done := make(chan struct{})
					s.OnReset(func() { close(done) })
					<-done
				}})
				for _, f := range c.frames {
					p.send(f)
				}
				if msg := p.wantGoAway(c.code); !strings.Contains(msg, c.msg) {
					t.Errorf("reason %q, want %q", msg, c.msg)
				}
				p.nc.Close()
				<-conn.Done()
				wantConnError(t, conn.Err(), c.code, false)
			})
		})
	}
}

func TestMalformedAnswers(t *testing.T) {
	for _, c := range []struct {
		name   string
		frames [][]byte
	}{
		{"data before the head", [][]byte{tunnel.Frame(tunnel.FrameData, 0, 1, []byte("x"))}},
		{"data after an informational head", [][]byte{tunnel.Frame(tunnel.FrameHead, tunnel.FlagInfo, 1, []byte("x")), tunnel.Frame(tunnel.FrameData, 0, 1, []byte("x"))}},
		{"two final heads", [][]byte{tunnel.Frame(tunnel.FrameHead, 0, 1, []byte("x")), tunnel.Frame(tunnel.FrameHead, 0, 1, []byte("x"))}},
		{"trailers before the head", [][]byte{tunnel.Frame(tunnel.FrameTrailers, 0, 1, []byte("x"))}},
	} {
		bubble(t, func(t *testing.T) {
			p := newScript(t)
			conn := p.client(tunnel.Config{}, 10, 16384)
			s := open(t, conn, &tunnel.Request{}, nil, true)
			p.want(tunnel.FrameOpen)
			p.send(c.frames...)
			p.wantGoAway(tunnel.CodeProtocol)
			p.nc.Close()
			<-conn.Done()
			if _, err := io.ReadAll(s); err == nil {
				t.Errorf("%s: no error", c.name)
			}
		})
	}
}

func TestFramesThatAreIgnored(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newScript(t)
		p.server(tunnel.Config{Handler: echo})
		p.send(tunnel.Frame(99, 0xff, 12345, pattern(80<<10)), tunnel.Frame(200, 0, 0, nil))
		p.send(tunnel.Pong(77))
		p.send(request(1))
		p.want(tunnel.FrameHead)
		p.want(tunnel.FrameData)
		// The stream has ended.
		p.send(tunnel.Window(1, 5), tunnel.Reset(1, tunnel.CodeCancelled, false, ""), tunnel.Frame(tunnel.FrameStop, 0, 1, nil))
		p.send(tunnel.Frame(tunnel.FrameData, 0, 1, []byte("late")))
		p.send(request(3))
		if f := p.want(tunnel.FrameHead); f.id != 3 {
			t.Errorf("%v", f)
		}
	})
}

func TestHelloFromStrangers(t *testing.T) {
	for _, c := range []struct {
		name, sent string
		code       tunnel.Code
		msg        string
	}{
		{"http", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", tunnel.CodeProtocol, "does not speak the tunnel protocol"},
		{"frame", string(request(1)) + "            ", tunnel.CodeProtocol, "does not speak the tunnel protocol"},
		{"long", string(tunnel.Frame(tunnel.FrameHello, 0, 0, make([]byte, 5000))), tunnel.CodeProtocol, "5000 bytes"},
		{"newer", string(tunnel.HelloFrame(2, 9, 1, 16384, tunnel.Hello{})), tunnel.CodeRefused, "versions 2 to 9 are spoken there and 1 to 1 here"},
		{"older", string(tunnel.HelloFrame(0, 0, 1, 16384, tunnel.Hello{})), tunnel.CodeRefused, "versions 0 to 0"},
	} {
		bubble(t, func(t *testing.T) {
			x, y := net.Pipe()
			go func() {
				x.Write([]byte(c.sent))
			}()
			answer := make(chan []byte, 1)
			go func() {
				b := make([]byte, 2000)
				n, _ := x.Read(b)
				answer <- b[:n]
				x.Close()
			}()
			_, err := tunnel.Server(t.Context(), y, tunnel.Config{})
			wantConnError(t, err, c.code, false)
			if !strings.Contains(err.Error(), c.msg) {
				t.Errorf("%s: %v", c.name, err)
			}
			if b := <-answer; len(b) < tunnel.HeaderSize || b[0] != tunnel.FrameGoAway || !strings.Contains(string(b), c.msg) {
				t.Errorf("%s: was told %q", c.name, b)
			}
		})
	}
	// A newer peer that still speaks ours is welcome, with fields we do not know.
	bubble(t, func(t *testing.T) {
		x, y := net.Pipe()
		defer x.Close()
		hello := append(tunnel.HelloFrame(1, 9, 1, 16384, tunnel.Hello{Site: "LAB"}), "more"...)
		hello[11] += 4
		go func() {
			x.Write(hello)
			io.Copy(io.Discard, x)
		}()
		c, err := tunnel.Server(t.Context(), y, tunnel.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if c.Peer().Site != "LAB" {
			t.Errorf("%+v", c.Peer())
		}
		x.Close()
		c.Close()
	})
}

func TestRefusalsOfAnAcceptor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newScript(t)
		hold := make(chan struct{})
		defer close(hold)
		c := p.server(tunnel.Config{MaxStreams: 2, Handler: func(s *tunnel.Stream) { <-hold }})
		p.send(request(1), request(3))
		// Resetting does not make room while the handlers run.
		p.send(tunnel.Reset(1, tunnel.CodeCancelled, false, ""), tunnel.Reset(3, tunnel.CodeCancelled, false, ""), request(5))
		f := p.want(tunnel.FrameReset)
		if e := tunnel.ParseReset(f.flags, f.payload); f.id != 5 || e.Code != tunnel.CodeRefused || !e.NotProcessed {
			t.Errorf("%v: %+v", f, e)
		}
		if st := c.Stats(); st.Refused != 1 || st.Accepted != 2 {
			t.Errorf("%+v", st)
		}
		p.nc.Close()
	})
}

func TestHeadBudget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newScript(t)
		hold := make(chan struct{})
		c := p.server(tunnel.Config{HeadBudget: 10_000, Handler: func(s *tunnel.Stream) {
			<-hold
			echo(s)
		}})
		p.send(tunnel.Open(1, true, &tunnel.Request{Head: pattern(9000)}), tunnel.Open(3, true, &tunnel.Request{Head: pattern(9000)}))
		if f := p.want(tunnel.FrameReset); f.id != 3 {
			t.Errorf("%v", f)
		}
		close(hold)
		p.want(tunnel.FrameHead)
		p.want(tunnel.FrameData)
		synctest.Wait()
		if n := c.HeadBytes(); n != 0 {
			t.Errorf("%d bytes of heads are counted at the end", n)
		}
	})
	bubble(t, func(t *testing.T) {
		p := newScript(t)
		c := p.client(tunnel.Config{HeadBudget: 10_000}, 10, 16384)
		s1, s2 := open(t, c, &tunnel.Request{}, nil, true), open(t, c, &tunnel.Request{}, nil, true)
		for _, id := range []uint64{1, 3} {
			p.send(tunnel.Frame(tunnel.FrameHead, tunnel.FlagEnd, id, pattern(9000)))
		}
		synctest.Wait()
		wantAnswer(t, s1, string(pattern(9000)), nil)
		_, _, err := s2.ReadHead()
		wantStreamError(t, err, tunnel.CodeRefused, false, false)
		if n := c.HeadBytes(); n != 0 {
			t.Errorf("%d bytes of heads are counted at the end", n)
		}
	})
}

func TestPingFlood(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newScript(t)
		p.server(tunnel.Config{})
		for range 300 {
			p.nc.Write(tunnel.Ping(1))
		}
		if msg := p.wantGoAway(tunnel.CodeProtocol); !strings.Contains(msg, "pings") {
			t.Error(msg)
		}
	})
	bubble(t, func(t *testing.T) {
		p := newScript(t)
		c := p.server(tunnel.Config{})
		for range 10 { // at a bearable rate
			for range 100 {
				p.send(tunnel.Ping(1))
			}
			for range 100 {
				p.want(tunnel.FramePong)
			}
			time.Sleep(6 * time.Second)
			p.send(tunnel.Ping(2))
			p.want(tunnel.FramePong)
		}
		if c.Err() != nil {
			t.Error(c.Err())
		}
	})
}

func TestResetFlood(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newScript(t)
		p.server(tunnel.Config{MaxStreams: 10, Handler: func(s *tunnel.Stream) {}})
		for id := uint64(1); id < 10_000; id += 2 {
			if _, err := p.nc.Write(request(id)); err != nil {
				break
			}
			if _, err := p.nc.Write(tunnel.Reset(id, tunnel.CodeCancelled, false, "")); err != nil {
				break
			}
		}
		// Handlers that are done before the reset comes make it late, not abuse.
		p.nc.Close()
	})
}

// TestPeerThatLetsHeadsPileUp has more to say than may wait, so that handlers
// queue with their heads, and then loses the peer.
func TestPeerThatLetsHeadsPileUp(t *testing.T) {
	for _, lost := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			p := newScript(t)
			var failed, answered atomic.Int64
			c := p.server(tunnel.Config{Handler: func(s *tunnel.Stream) {
				if err := s.WriteHeadBody(pattern(60_000), pattern(16_000), true); err != nil {
					failed.Add(1)
				} else {
					answered.Add(1)
				}
			}})
			resume := p.stopReading()
			for id := uint64(1); id < 200; id += 2 {
				p.send(request(id))
			}
			synctest.Wait()
			if n := answered.Load(); n == 0 || n == 100 {
				t.Errorf("%d answers were written while nobody reads", n)
			}
			// There is no room for requests either.
			if _, err := c.Open(&tunnel.Request{}, nil, true); lost {
				wantStreamError(t, err, tunnel.CodeRefused, false, true)
			}
			if lost {
				p.nc.Close()
				<-c.Done()
				c.Close()
				if failed.Load() == 0 || failed.Load()+answered.Load() != 100 {
					t.Errorf("%d failed and %d were written", failed.Load(), answered.Load())
				}
				return
			}
			resume()
			for heads := 0; heads < 100; {
				f, ok := p.next()
				if !ok {
					t.Fatalf("closed after %d heads", heads)
				}
				if f.typ == tunnel.FrameHead {
					heads++
				}
			}
			p.nc.Close()
		})
	}
}

func TestPeerThatFloodsAndDoesNotRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newScript(t)
		c := p.server(tunnel.Config{}) // refuses each request
		p.stopReading()
		p.nc.SetWriteDeadline(time.Now().Add(time.Minute))
		var flood []byte
		for id := uint64(1); id < 1_000_000; id += 2 {
			if flood = append(flood, request(id)...); len(flood) > 60_000 {
				if _, err := p.nc.Write(flood); err != nil {
					break
				}
				flood = flood[:0]
			}
		}
		<-c.Done()
		wantConnError(t, c.Err(), tunnel.CodeRefused, false)
	})
}

func TestNotProcessed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newScript(t)
		c := p.client(tunnel.Config{}, 10, 16384)
		s1, s2 := open(t, c, &tunnel.Request{}, nil, true), open(t, c, &tunnel.Request{}, nil, true)
		p.want(tunnel.FrameOpen)
		p.want(tunnel.FrameOpen)
		p.send(tunnel.GoAway(1, tunnel.CodeDraining, "bye"))
		_, _, err := s2.ReadHead()
		wantStreamError(t, err, tunnel.CodeDraining, true, true)
		_, err = c.Open(&tunnel.Request{}, nil, true)
		wantStreamError(t, err, tunnel.CodeDraining, false, true)
		<-c.GoingAway()
		p.send(tunnel.Frame(tunnel.FrameHead, tunnel.FlagEnd, 1, []byte("ok")))
		wantAnswer(t, s1, "ok", nil)
		p.send(tunnel.GoAway(1, tunnel.CodeNone, ""))
		<-c.Done()
		wantConnError(t, c.Err(), tunnel.CodeNone, true)
	})
}

func TestUnsentIsNotProcessed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newScript(t)
		c := p.client(tunnel.Config{}, 10, 16384)
		synctest.Wait()
		p.stopReading()
		sent := open(t, c, &tunnel.Request{Head: pattern(100)}, nil, true)
		synctest.Wait() // its write has begun, or was taken
		stuck := open(t, c, &tunnel.Request{Head: pattern(100)}, nil, true)
		synctest.Wait()
		unsent := open(t, c, &tunnel.Request{Head: pattern(100)}, nil, true)
		synctest.Wait()
		p.nc.Close()
		<-c.Done()
		_, _, err := sent.ReadHead()
		wantStreamError(t, err, tunnel.CodeTunnelLost, false, false)
		_, _, err = stuck.ReadHead()
		if err == nil {
			t.Error("no error")
		}
		_, _, err = unsent.ReadHead()
		wantStreamError(t, err, tunnel.CodeTunnelLost, false, true)
	})
}

func TestNotProcessedIsForOpeners(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newScript(t)
		got := make(chan error, 1)
		p.server(tunnel.Config{Handler: func(s *tunnel.Stream) {
			_, err := io.ReadAll(s)
			got <- err
		}})
		p.send(upload(1), tunnel.Reset(1, tunnel.CodeCancelled, true, "x\x00y"))
		err := <-got
		wantStreamError(t, err, tunnel.CodeCancelled, true, false)
		if !strings.Contains(err.Error(), "x?y") {
			t.Error(err)
		}
	})
}

func TestIdleWorkersEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		hold := make(chan struct{})
		o, a := pair(t, tunnel.Config{}, tunnel.Config{Handler: func(s *tunnel.Stream) {
			<-hold
			echo(s)
		}})
		var streams []*tunnel.Stream
		for range 50 {
			streams = append(streams, open(t, o, &tunnel.Request{Head: []byte("h")}, nil, true))
		}
		synctest.Wait()
		close(hold)
		for _, s := range streams {
			wantAnswer(t, s, "h", nil)
		}
		synctest.Wait()
		if n := a.IdleWorkers(); n != 50 {
			t.Errorf("%d idle workers, want 50", n)
		}
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if n := a.IdleWorkers(); n != 0 {
			t.Errorf("%d idle workers are left", n)
		}
		wantAnswer(t, open(t, o, &tunnel.Request{Head: []byte("h")}, nil, true), "h", nil)
	})
}

func TestAllocations(t *testing.T) {
	o, _ := pair(t, tunnel.Config{}, tunnel.Config{Handler: func(s *tunnel.Stream) {
		s.WriteHeadBody(s.Request().Head, nil, true)
	}})
	r := &tunnel.Request{CorrelationID: "c", Role: "r", Endpoint: "e", Head: pattern(500)}
	body, buf := pattern(2048), make([]byte, 100)
	n := testing.AllocsPerRun(200, func() {
		s := open(t, o, r, body, true)
		s.ReadHead()
		s.Read(buf)
	})
	// A stream on either side, and of the request a copy of head and names; the
	// pipe of the test and pools that were emptied add to it.
	if n > 8 {
		t.Errorf("%v allocations for a request and its answer", n)
	}
}

// FuzzConn feeds a connection with any bytes after the hello. It must end, or
// say why it goes away, and leave nothing behind.
func FuzzConn(f *testing.F) {
	f.Add(request(1))
	f.Add(bytes.Join([][]byte{upload(1), tunnel.Frame(tunnel.FrameData, 1, 1, []byte("x")), tunnel.Ping(1), tunnel.GoAway(0, 0, "bye")}, nil))
	f.Add(bytes.Join([][]byte{upload(1), tunnel.Window(1, 5), tunnel.Reset(1, 3, true, "x"), tunnel.Frame(tunnel.FrameStop, 0, 1, nil)}, nil))
	f.Add(bytes.Join([][]byte{tunnel.Frame(tunnel.FrameHead, 1, 2, []byte("h")), tunnel.Frame(tunnel.FrameData, 0, 2, []byte("x")), tunnel.Frame(tunnel.FrameTrailers, 0, 2, nil)}, nil))
	f.Add(tunnel.Frame(99, 0, 0, []byte("unknown")))
	f.Fuzz(func(t *testing.T, b []byte) {
		synctest.Test(t, func(t *testing.T) {
			x, y := net.Pipe()
			var peer sync.WaitGroup
			peer.Go(func() {
				x.Write(tunnel.HelloFrame(1, 1, 10, 16384, tunnel.Hello{}))
				x.Write(b)
				time.Sleep(time.Second)
				x.Close()
			})
			peer.Go(func() { io.Copy(io.Discard, x) })
			defer peer.Wait()
			c, err := tunnel.Server(t.Context(), y, tunnel.Config{Handler: echo, MaxStreams: 10})
			if err != nil {
				t.Fatal(err)
			}
			if s, err := c.Open(&tunnel.Request{Head: []byte("h"), BodyLength: -1}, []byte("x"), false); err == nil {
				s.ReadHead()
				io.Copy(io.Discard, s)
			}
			<-c.Done()
			c.Close()
			var ce *tunnel.ConnError
			if ce, _ = c.Err().(*tunnel.ConnError); ce == nil {
				t.Errorf("ended with %v", c.Err())
			}
			if c.Load() != 0 || c.HeadBytes() != 0 {
				t.Errorf("%d streams and %d bytes of heads are left", c.Load(), c.HeadBytes())
			}
		})
	})
}
