package tunnel_test

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencmg/opencmg/tunnel"
)

// Flow control, and who goes first.

func TestWindowsGrowFromTheBudget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		endless := func(s *tunnel.Stream) {
			s.WriteHead([]byte("h"), false)
			for {
				if _, err := s.Write(pattern(16 << 10)); err != nil {
					return
				}
			}
		}
		const budget = 2 << 20
		o, _ := pair(t, tunnel.Config{WindowBudget: budget}, tunnel.Config{Handler: endless})
		read := func(s *tunnel.Stream, n int64) {
			t.Helper()
			if m, err := io.CopyN(io.Discard, s, n); m != n {
				t.Fatalf("read %d of %d: %v", m, n, err)
			}
		}
		var streams []*tunnel.Stream
		for range 4 {
			s := open(t, o, &tunnel.Request{}, nil, true)
			read(s, 8<<20)
			streams = append(streams, s)
		}
		if left := o.BudgetLeft(); left < 0 || left > 16<<10 {
			t.Errorf("budget left: %d", left)
		}
		if o.Stats().WindowsHeld == 0 {
			t.Error("no window was held")
		}
		// All four stand still now. Others still get on, by their private allowance.
		s := open(t, o, &tunnel.Request{}, nil, true)
		read(s, 1<<20)
		s.Reset(tunnel.CodeCancelled)
		read(streams[0], 4<<20)
		for _, s := range streams {
			s.Reset(tunnel.CodeCancelled)
		}
		if left := o.BudgetLeft(); left != budget {
			t.Errorf("budget left at the end: %d of %d", left, budget)
		}
	})
}

func TestStalledReaderHoldsOneWindow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newScript(t)
		c := p.client(tunnel.Config{}, 10, 16384)
		s := open(t, c, &tunnel.Request{BodyLength: -1}, nil, false)
		p.want(tunnel.FrameOpen)
		wrote := make(chan int, 1)
		go func() {
			n, _ := s.Write(pattern(100_000))
			wrote <- n
		}()
		got := 0
		for got < 16384 {
			got += len(p.want(tunnel.FrameData).payload)
		}
		synctest.Wait()
		if more := p.rest(); len(more) != 0 || got != 16384 {
			t.Fatalf("%d bytes, and %d frames more: %v", got, len(more), more)
		}
		p.send(tunnel.Window(1, 100))
		if f := p.want(tunnel.FrameData); len(f.payload) != 100 {
			t.Errorf("%d bytes for a grant of 100", len(f.payload))
		}
		p.send(tunnel.Frame(tunnel.FrameStop, 0, 1, nil))
		if n := <-wrote; n != 16484 {
			t.Errorf("wrote %d", n)
		}
	})
}

// TestSmallGoesAheadOfBulk fills the bulk queue of a connection whose peer does
// not read, and then looks at the order in which frames come.
func TestSmallGoesAheadOfBulk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newScript(t)
		gate := make(chan struct{})
		c := p.server(tunnel.Config{Handler: func(s *tunnel.Stream) {
			if s.Request().Endpoint == "small" {
				s.WriteHeadBody([]byte("small"), pattern(2048), true)
				return
			}
			s.WriteHead([]byte("bulk"), false)
			<-gate
			s.WriteLast(pattern(400_000))
		}})
		// Three long answers with all the credit they want.
		for _, id := range []uint64{1, 3, 5} {
			p.send(tunnel.Open(id, true, &tunnel.Request{Endpoint: "bulk"}), tunnel.Window(id, 1<<20))
			p.want(tunnel.FrameHead)
		}
		synctest.Wait()
		resume := p.stopReading()
		close(gate)
		synctest.Wait()
		if free, waiting := c.Bulk(); free != 0 || !waiting {
			t.Fatalf("%d slots free, waiting %v: the bulk queue is not full", free, waiting)
		}
		p.send(tunnel.Open(7, true, &tunnel.Request{Endpoint: "small"}))
		synctest.Wait()
		resume()
		before := make(map[uint64]int)
		for f := p.want(tunnel.FrameData); f.typ == tunnel.FrameData; f, _ = p.next() {
			before[f.id]++
			if n := len(p.frames); n > 10_000-100 {
				t.Fatal("the small answer does not come")
			}
		}
		// Before it came what was small of the others, one frame on its way to
		// the peer and one being written.
		if n := before[1] + before[3] + before[5]; n > 2+3 {
			t.Errorf("%d DATA frames before the small answer: %v", n, before)
		}
		// The others take turns.
		var last uint64
		turns := 0
		for range 40 {
			f := p.want(tunnel.FrameData)
			if f.id == 7 {
				continue
			}
			if f.id != last {
				turns++
			}
			last = f.id
		}
		if turns < 30 {
			t.Errorf("only %d turns in 40 frames", turns)
		}
		p.nc.Close()
	})
}

func TestBulkIsFair(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x, y := net.Pipe()
		slow := &slowConn{Conn: y, perWrite: time.Millisecond}
		o, _ := join(t, x, slow, tunnel.Config{}, tunnel.Config{Handler: func(s *tunnel.Stream) {
			if s.Request().Endpoint == "small" {
				s.WriteHeadBody([]byte("h"), pattern(2048), true)
				return
			}
			s.WriteHead([]byte("h"), false)
			s.WriteLast(pattern(4 << 20))
		}})
		ends := make(chan time.Duration, 4)
		start := time.Now()
		for range 4 {
			s := open(t, o, &tunnel.Request{}, nil, true)
			go func() {
				io.Copy(io.Discard, s)
				ends <- time.Since(start)
			}()
		}
		// Small requests beside four long answers take a few writes each.
		for range 20 {
			time.Sleep(20 * time.Millisecond)
			began := time.Now()
			wantAnswer(t, open(t, o, &tunnel.Request{Endpoint: "small"}, nil, true), "h", pattern(2048))
			if d := time.Since(began); d > 5*time.Millisecond {
				t.Errorf("a small request took %v beside bulk", d)
			}
		}
		first := <-ends
		<-ends
		<-ends
		// Windows do not grow at the same moment, so equal answers do not end
		// at the same moment either. One after the other, the first would end
		// after a quarter of the time.
		if last := <-ends; last-first > last/2 {
			t.Errorf("equal answers ended after %v and %v", first, last)
		}
	})
}

// slowConn takes a time for each write, whatever its size.
type slowConn struct {
	net.Conn
	perWrite time.Duration
}

func (c *slowConn) Write(b []byte) (int, error) {
	time.Sleep(c.perWrite)
	return c.Conn.Write(b)
}
