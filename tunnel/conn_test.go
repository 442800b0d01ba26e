package tunnel_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg/tunnel"
)

func TestRequestAndAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var got *tunnel.Request
		o, a := pair(t, tunnel.Config{Hello: tunnel.Hello{Site: "LAB", ConnectionPoint: "cp1", ConnectionID: "id", Software: "x"}},
			tunnel.Config{Hello: tunnel.Hello{Gateway: "GW", Instance: 3, Instances: 4, ConfigVersion: 9}, Handler: func(s *tunnel.Stream) {
				got = s.Request()
				echo(s)
			}})
		if d := cmp.Diff(tunnel.Hello{Gateway: "GW", Instance: 3, Instances: 4, ConfigVersion: 9}, o.Peer()); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff(tunnel.Hello{Site: "LAB", ConnectionPoint: "cp1", ConnectionID: "id", Software: "x"}, a.Peer()); d != "" {
			t.Error(d)
		}
		r := &tunnel.Request{
			CorrelationID: "c", Role: "72057594037927941", Endpoint: "CCM_STS", Identity: "who", Deadline: time.Now().Add(time.Minute),
			Head: []byte("GET / HTTP/1.1\r\n\r\n"), BodyLength: 5,
		}
		wantAnswer(t, open(t, o, r, []byte("hello"), true), "GET / HTTP/1.1\r\n\r\n", []byte("hello"))
		if d := cmp.Diff(r, got); d != "" {
			t.Error(d)
		}
		synctest.Wait()
		if o.Load() != 0 || a.Load() != 0 {
			t.Errorf("open streams after the answer: %d and %d", o.Load(), a.Load())
		}
		if o.RTT() == 0 {
			t.Error("no round trip measured")
		}
	})
}

func TestEitherSideOpens(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o, a := pair(t, tunnel.Config{Handler: echo}, tunnel.Config{Handler: echo})
		var all sync.WaitGroup
		for _, c := range []*tunnel.Conn{o, a} {
			for range 50 {
				all.Go(func() {
					s, err := c.Open(&tunnel.Request{Head: []byte("h"), BodyLength: -1}, nil, false)
					if err != nil {
						t.Error(err)
						return
					}
					all.Go(func() {
						s.Write(pattern(100_000))
						s.CloseWrite()
					})
					if _, _, err := s.ReadHead(); err != nil {
						t.Error(err)
					}
					if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, pattern(100_000)) {
						t.Errorf("%d bytes: %v", len(got), err)
					}
				})
			}
		}
		all.Wait()
	})
}

func TestBodiesOfAllSizes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o, _ := pair(t, tunnel.Config{}, tunnel.Config{Handler: echo})
		for _, n := range []int{0, 1, 4000, 16372, 16373, 16384, 16385, 40_000, 1 << 20, 3<<20 + 1} {
			body := pattern(n)
			s := open(t, o, &tunnel.Request{Head: []byte("h"), BodyLength: int64(n)}, body[:min(n, tunnel.MaxOpenBody)], n <= tunnel.MaxOpenBody)
			if n > tunnel.MaxOpenBody {
				go s.WriteLast(body[tunnel.MaxOpenBody:])
			}
			wantAnswer(t, s, "h", body)
		}
		synctest.Wait()
		if o.Load() != 0 {
			t.Errorf("%d streams are left", o.Load())
		}
	})
}

func TestHeadWithoutBody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o, _ := pair(t, tunnel.Config{}, tunnel.Config{Handler: func(s *tunnel.Stream) {
			if s.Request().Endpoint == "none" {
				s.WriteHead([]byte("h"), true)
			} else {
				s.WriteHeadBody([]byte("h"), []byte("body"), true)
			}
		}})
		s := open(t, o, &tunnel.Request{Endpoint: "none"}, nil, true)
		if h, end, err := s.ReadHead(); string(h) != "h" || !end || err != nil {
			t.Errorf("%q, %v, %v", h, end, err)
		}
		if !s.Buffered() {
			t.Error("Read would wait at the end of an answer")
		}
		if n, err := s.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("Read: %d, %v", n, err)
		}
		s = open(t, o, &tunnel.Request{}, nil, true)
		if h, end, err := s.ReadHead(); string(h) != "h" || end || err != nil {
			t.Errorf("%q, %v, %v", h, end, err)
		}
		// The last bytes bring the end with them.
		if n, err := s.Read(make([]byte, 10)); n != 4 || err != io.EOF {
			t.Errorf("Read: %d, %v", n, err)
		}
		if _, _, err := s.ReadHead(); err == nil {
			t.Error("a head after the final one")
		}
	})
}

func TestInformationalHeads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o, _ := pair(t, tunnel.Config{}, tunnel.Config{Handler: func(s *tunnel.Stream) {
			s.WriteInformational([]byte("100"))
			s.WriteInformational([]byte("103"))
			s.WriteHeadBody([]byte(strings.Repeat("x", tunnel.MaxHead)), []byte("body"), true)
		}})
		s := open(t, o, &tunnel.Request{}, nil, true)
		for _, want := range []string{"100", "103"} {
			if h, end, err := s.ReadHead(); string(h) != want || end || err != nil {
				t.Errorf("%q, %v, %v; want %s", h, end, err, want)
			}
		}
		wantAnswer(t, s, strings.Repeat("x", tunnel.MaxHead), []byte("body"))
	})
}

func TestTrailersBothWays(t *testing.T) {
	for _, n := range []int{10, 200_000} {
		bubble(t, func(t *testing.T) {
			o, _ := pair(t, tunnel.Config{}, tunnel.Config{Handler: echo})
			s := open(t, o, &tunnel.Request{Head: []byte("h"), BodyLength: -1}, nil, false)
			go func() {
				s.Write(pattern(n))
				s.WriteTrailers([]byte("A: b\r\n"))
			}()
			wantAnswer(t, s, "h", pattern(n))
			if string(s.Trailers()) != "A: b\r\n" {
				t.Errorf("trailers %q", s.Trailers())
			}
		})
	}
}

func TestHalfClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		// The answer is complete before the request is.
		o, a := pair(t, tunnel.Config{}, tunnel.Config{Handler: func(s *tunnel.Stream) {
			s.WriteHeadBody([]byte("h"), []byte("early"), true)
			io.Copy(io.Discard, s)
		}})
		s := open(t, o, &tunnel.Request{BodyLength: -1}, []byte("a"), false)
		wantAnswer(t, s, "h", []byte("early"))
		if _, err := s.Write(pattern(100_000)); err != nil {
			t.Errorf("writing after the answer ended: %v", err)
		}
		if o.Load() != 1 {
			t.Errorf("%d open streams", o.Load())
		}
		if err := s.CloseWrite(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if o.Load() != 0 || a.Load() != 0 {
			t.Errorf("%d and %d open streams", o.Load(), a.Load())
		}
	})
}

func TestStopReading(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o, a := pair(t, tunnel.Config{}, tunnel.Config{Handler: func(s *tunnel.Stream) {
			s.StopReading()
			if _, err := s.Read(make([]byte, 1)); err == nil {
				t.Error("read after StopReading")
			}
			s.WriteHeadBody([]byte("h"), []byte("answer"), true)
		}})
		s := open(t, o, &tunnel.Request{BodyLength: -1}, nil, false)
		var err error
		for err == nil {
			_, err = s.Write(pattern(1000))
		}
		wantStreamError(t, err, tunnel.CodeStopped, true, false)
		wantAnswer(t, s, "h", []byte("answer"))
		synctest.Wait()
		if o.Load() != 0 || a.Load() != 0 {
			t.Errorf("%d and %d open streams", o.Load(), a.Load())
		}
	})
}

func TestResetWakesBothSides(t *testing.T) {
	bubble(t, func(t *testing.T) {
		told := make(chan struct{})
		ended := make(chan error, 1)
		o, a := pair(t, tunnel.Config{}, tunnel.Config{Handler: func(s *tunnel.Stream) {
			s.OnReset(func() { close(told) })
			<-told
			_, err := s.Read(make([]byte, 1))
			ended <- err
			if _, err := s.Write([]byte("x")); err == nil {
				t.Error("wrote to a stream that was reset")
			}
		}})
		s := open(t, o, &tunnel.Request{BodyLength: -1}, nil, false)
		waiting := make(chan error)
		go func() {
			_, _, err := s.ReadHead()
			waiting <- err
		}()
		go func() {
			_, err := s.Write(pattern(1 << 20)) // more than the window
			waiting <- err
		}()
		synctest.Wait()
		s.Reset(tunnel.CodeCancelled)
		s.Reset(tunnel.CodeInternal) // changes nothing
		wantStreamError(t, <-waiting, tunnel.CodeCancelled, false, false)
		wantStreamError(t, <-waiting, tunnel.CodeCancelled, false, false)
		wantStreamError(t, <-ended, tunnel.CodeCancelled, true, false)
		synctest.Wait()
		if o.Load() != 0 || a.Load() != 0 {
			t.Errorf("%d and %d open streams", o.Load(), a.Load())
		}
	})
}

func TestAcceptorEndsTheRequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o, _ := pair(t, tunnel.Config{}, tunnel.Config{Handler: func(s *tunnel.Stream) {
			switch s.Request().Endpoint {
			case "refuse":
				s.Refuse(tunnel.CodeRoleUnreachable, "no connection")
			case "fail":
				s.Fail(tunnel.CodeBodyTooLarge, "too\nlarge")
			case "half":
				s.WriteHeadBody([]byte("h"), []byte("x"), false)
			}
		}})
		for _, c := range []struct {
			endpoint     string
			code         tunnel.Code
			notProcessed bool
			msg          string
		}{
			{"refuse", tunnel.CodeRoleUnreachable, true, "no connection"},
			{"fail", tunnel.CodeBodyTooLarge, false, "too?large"},
			{"nothing", tunnel.CodeInternal, false, "the handler did not finish the answer"},
		} {
			_, _, err := open(t, o, &tunnel.Request{Endpoint: c.endpoint}, nil, true).ReadHead()
			wantStreamError(t, err, c.code, true, c.notProcessed)
			if e := err.(*tunnel.StreamError); e.Msg != c.msg || tunnel.NotProcessed(err) != c.notProcessed {
				t.Errorf("%+v, want %q", e, c.msg)
			}
		}
		s := open(t, o, &tunnel.Request{Endpoint: "half"}, nil, true)
		s.ReadHead()
		_, err := io.ReadAll(s)
		wantStreamError(t, err, tunnel.CodeInternal, true, false)
	})
}

func TestWholeAnswerOutlivesTheConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o, a := pair(t, tunnel.Config{}, tunnel.Config{Handler: echo})
		s := open(t, o, &tunnel.Request{Head: []byte("h")}, []byte("body"), true)
		synctest.Wait()
		a.Close()
		<-o.Done()
		wantAnswer(t, s, "h", []byte("body"))
	})
}

func TestLostConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x, y := net.Pipe()
		told := make(chan struct{})
		o, a := join(t, x, y, tunnel.Config{}, tunnel.Config{Handler: func(s *tunnel.Stream) {
			s.OnReset(func() { close(told) })
			<-told
		}})
		s := open(t, o, &tunnel.Request{}, nil, true)
		synctest.Wait()
		x.Close()
		_, _, err := s.ReadHead()
		wantStreamError(t, err, tunnel.CodeTunnelLost, false, false)
		if !tunnel.Lost(err) {
			t.Error("not a lost tunnel")
		}
		<-told
		<-o.Done()
		<-a.Done()
		wantConnError(t, o.Err(), tunnel.CodeTunnelLost, false)
		wantConnError(t, a.Err(), tunnel.CodeTunnelLost, false)
		_, err = o.Open(&tunnel.Request{}, nil, true)
		wantStreamError(t, err, tunnel.CodeTunnelLost, false, true)
		if !o.Draining() {
			t.Error("takes streams after its end")
		}
	})
}

func TestCloseTellsThePeer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o, a := pair(t, tunnel.Config{}, tunnel.Config{Handler: func(s *tunnel.Stream) { s.Read(make([]byte, 1)) }})
		s := open(t, o, &tunnel.Request{BodyLength: -1}, nil, false)
		synctest.Wait()
		start := time.Now()
		a.Close()
		<-o.Done()
		if d := time.Since(start); d > time.Second {
			t.Errorf("closing took %v", d)
		}
		wantConnError(t, o.Err(), tunnel.CodeNone, true)
		wantConnError(t, a.Err(), tunnel.CodeNone, false)
		_, _, err := s.ReadHead()
		wantStreamError(t, err, tunnel.CodeTunnelLost, false, false)
	})
}

func TestSilentPeer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x, y := net.Pipe()
		held := &heldConn{Conn: x}
		o, a := join(t, held, y, tunnel.Config{}, tunnel.Config{Handler: echo})
		time.Sleep(time.Minute)
		if o.Err() != nil {
			t.Fatal(o.Err())
		}
		start := time.Now()
		held.hold.Store(true)
		<-a.Done()
		wantConnError(t, a.Err(), tunnel.CodeTunnelLost, false)
		if d := time.Since(start); d < 14*time.Second || d > 22*time.Second {
			t.Errorf("noticed after %v", d)
		}
		<-o.Done()
	})
}

func TestPeerThatDoesNotRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newScript(t)
		c := p.server(tunnel.Config{Handler: func(s *tunnel.Stream) { s.WriteHead([]byte("h"), true) }})
		p.stopReading()
		start := time.Now()
		p.send(tunnel.Open(1, true, &tunnel.Request{}))
		<-c.Done()
		wantConnError(t, c.Err(), tunnel.CodeTunnelLost, false)
		if d := time.Since(start); d > 22*time.Second {
			t.Errorf("noticed after %v", d)
		}
	})
}

func TestDeadline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o, _ := pair(t, tunnel.Config{}, tunnel.Config{Handler: func(s *tunnel.Stream) {
			if s.Request().Endpoint == "head" {
				s.WriteHead([]byte("h"), false)
				time.Sleep(time.Minute)
				s.CloseWrite()
				return
			}
			done := make(chan struct{})
			s.OnReset(func() { close(done) })
			<-done
		}})
		start := time.Now()
		early := open(t, o, &tunnel.Request{Deadline: start.Add(3 * time.Second)}, nil, true)
		late := open(t, o, &tunnel.Request{Deadline: start.Add(10 * time.Second)}, nil, true)
		never := open(t, o, &tunnel.Request{}, nil, true)
		answered := open(t, o, &tunnel.Request{Endpoint: "head", Deadline: start.Add(3 * time.Second)}, nil, true)
		_, _, err := early.ReadHead()
		wantStreamError(t, err, tunnel.CodeRoleTimeout, false, false)
		if d := time.Since(start); d < 4*time.Second || d > 5*time.Second {
			t.Errorf("ended after %v", d)
		}
		_, _, err = late.ReadHead()
		wantStreamError(t, err, tunnel.CodeRoleTimeout, false, false)
		if d := time.Since(start); d < 11*time.Second || d > 12*time.Second {
			t.Errorf("ended after %v", d)
		}
		wantAnswer(t, answered, "h", nil)
		never.Reset(tunnel.CodeCancelled)
	})
}

func TestOpenRefuses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		hold := make(chan struct{})
		o, a := pair(t, tunnel.Config{}, tunnel.Config{MaxStreams: 2, Handler: func(s *tunnel.Stream) {
			<-hold
			echo(s)
		}})
		long := func(n int) string { return strings.Repeat("x", n) }
		for _, r := range []*tunnel.Request{
			{CorrelationID: long(tunnel.MaxCorrelationID + 1)}, {Role: long(tunnel.MaxRole + 1)}, {Endpoint: long(tunnel.MaxEndpoint + 1)},
			{Identity: long(tunnel.MaxIdentity + 1)}, {Head: []byte(long(tunnel.MaxHead + 1))}, {BodyLength: -2},
		} {
			_, err := o.Open(r, nil, true)
			wantStreamError(t, err, tunnel.CodeInternal, false, true)
		}
		_, err := o.Open(&tunnel.Request{}, make([]byte, tunnel.MaxOpenBody+1), true)
		wantStreamError(t, err, tunnel.CodeInternal, false, true)
		s1 := open(t, o, &tunnel.Request{Head: []byte("1")}, nil, true)
		s2 := open(t, o, &tunnel.Request{Head: []byte("2")}, nil, true)
		_, err = o.Open(&tunnel.Request{}, nil, true)
		wantStreamError(t, err, tunnel.CodeRefused, false, true)
		// A side without a handler refuses.
		_, _, err = open(t, a, &tunnel.Request{}, nil, true).ReadHead()
		wantStreamError(t, err, tunnel.CodeRefused, true, true)
		close(hold)
		wantAnswer(t, s1, "1", nil)
		wantAnswer(t, s2, "2", nil)
		wantAnswer(t, open(t, o, &tunnel.Request{Head: []byte("3")}, nil, true), "3", nil)
		if st := o.Stats(); st.Refused != 1 || st.Opened != 3 {
			t.Errorf("%+v", st)
		}
	})
}

func TestHelloRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		refuse := func(tunnel.Hello) error { return errors.New("connection ID is not registered") }
		for _, c := range []struct {
			name           string
			client, server tunnel.Config
			serverRefuses  bool
		}{
			{"server", tunnel.Config{}, tunnel.Config{CheckPeer: refuse}, true},
			{"client", tunnel.Config{CheckPeer: refuse}, tunnel.Config{}, false},
		} {
			x, y := net.Pipe()
			var server *tunnel.Conn
			var serr error
			done := make(chan struct{})
			go func() {
				server, serr = tunnel.Server(t.Context(), y, c.server)
				close(done)
			}()
			_, err := tunnel.Client(t.Context(), x, c.client)
			<-done
			wantConnError(t, err, tunnel.CodeRefused, c.serverRefuses)
			if !strings.Contains(err.Error(), "connection ID is not registered") {
				t.Errorf("%s refuses: %v", c.name, err)
			}
			if c.serverRefuses {
				wantConnError(t, serr, tunnel.CodeRefused, false)
				continue
			}
			<-server.Done()
			wantConnError(t, server.Err(), tunnel.CodeRefused, true)
		}
	})
}

func TestHelloIsBoundedInTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x, y := net.Pipe()
		defer x.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := tunnel.Server(ctx, y, tunnel.Config{})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		wantConnError(t, err, tunnel.CodeTunnelLost, false)
		x, y = net.Pipe()
		defer x.Close()
		start := time.Now()
		if _, err := tunnel.Server(t.Context(), y, tunnel.Config{PeerTimeout: 3 * time.Second}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("waited %v for a hello", d)
		}
		ctx, cancel = context.WithCancel(t.Context())
		x, y = net.Pipe()
		defer x.Close()
		go func() {
			time.Sleep(time.Second)
			cancel()
		}()
		if _, err := tunnel.Client(ctx, y, tunnel.Config{}); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if _, err := tunnel.Client(t.Context(), y, tunnel.Config{Hello: tunnel.Hello{Instance: -1}}); err == nil {
			t.Error("impossible instance")
		}
		if _, err := tunnel.Client(t.Context(), y, tunnel.Config{Hello: tunnel.Hello{Site: strings.Repeat("x", 256)}}); err == nil {
			t.Error("impossible name")
		}
	})
}
