package tunnel_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/opencmg/opencmg/tunnel"
)

// Each benchmark runs the tunnel and, with the same messages over the same kind
// of connection, yamux, and reports the ratio of their figures as x-yamux: how
// many times faster (or smaller) the tunnel is. x-yamux-cpu is the ratio of CPU
// times, which says more on a busy machine.

var (
	benchHead   = pattern(500)
	benchAnswer = pattern(300)
	benchBody   = pattern(2 << 10)
)

func yamuxPair(tb testing.TB, x, y net.Conn) (c, s *yamux.Session) {
	cfg := yamux.DefaultConfig()
	cfg.LogOutput = io.Discard
	cfg.AcceptBacklog = 20_000
	c, err := yamux.Client(x, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	s, err = yamux.Server(y, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		c.Close()
		s.Close()
	})
	return c, s
}

// serveYamux calls f in a goroutine for each stream.
func serveYamux(s *yamux.Session, f func(*yamux.Stream)) {
	go func() {
		for {
			st, err := s.AcceptStream()
			if err != nil {
				return
			}
			go f(st)
		}
	}()
}

func handshake(tb testing.TB, x, y net.Conn) {
	errs := make(chan error, 1)
	go func() { errs <- y.(*tls.Conn).Handshake() }()
	if err := errors.Join(x.(*tls.Conn).Handshake(), <-errs); err != nil {
		tb.Fatal(err)
	}
}

// A cost is what something took, by the clock and of the CPUs.
type cost struct{ clock, cpu float64 }

func measure(f func()) cost {
	start, used := time.Now(), cpuTime()
	f()
	return cost{time.Since(start).Seconds(), (cpuTime() - used).Seconds()}
}

// report compares the tunnel's cost with that of yamux.
func report(b *testing.B, mine, theirs cost) {
	b.ReportMetric(theirs.clock/mine.clock, "x-yamux")
	if mine.cpu > 0 {
		b.ReportMetric(theirs.cpu/mine.cpu, "x-yamux-cpu")
		b.ReportMetric(mine.cpu/float64(b.N)*1e6, "cpu-µs/op")
	}
}

// parallel runs n operations on k goroutines.
func parallel(tb testing.TB, n, k int, f func(buf []byte) error) cost {
	var all sync.WaitGroup
	work := make(chan struct{}, n)
	for range n {
		work <- struct{}{}
	}
	close(work)
	return measure(func() {
		for range min(k, n) {
			all.Go(func() {
				buf := make([]byte, 32<<10)
				for range work {
					if err := f(buf); err != nil {
						tb.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
	})
}

// BenchmarkSmallRequests makes requests with a body of 2 KiB that are answered
// with one, many at a time.
func BenchmarkSmallRequests(b *testing.B) {
	for _, k := range []int{1, 16, 128} {
		b.Run("parallel="+strconv.Itoa(k), func(b *testing.B) {
			b.ReportAllocs()
			x, y := tlsPipe(b)
			c, _ := join(b, x, y, tunnel.Config{}, tunnel.Config{Handler: func(s *tunnel.Stream) {
				var buf [4 << 10]byte
				for {
					_, err := s.Read(buf[:])
					if err == io.EOF {
						break
					}
					if err != nil {
						return
					}
				}
				s.WriteHeadBody(benchAnswer, benchBody, true)
			}})
			b.ResetTimer()
			mine := parallel(b, b.N, k, func(buf []byte) error {
				s, err := c.Open(&tunnel.Request{CorrelationID: "0123456789abcdef0123456789abcdef", Role: "72057594037927941", Endpoint: "CCM_STS",
					Head: benchHead, BodyLength: int64(len(benchBody))}, benchBody, true)
				if err != nil {
					return err
				}
				if _, _, err := s.ReadHead(); err != nil {
					return err
				}
				for {
					if _, err := s.Read(buf); err == io.EOF {
						return nil
					} else if err != nil {
						return err
					}
				}
			})
			b.StopTimer()
			b.ReportMetric(float64(b.N)/mine.clock, "req/s")
			report(b, mine, yamuxSmall(b, b.N, k))
			st := c.Stats()
			b.ReportMetric(float64(st.Opened)/float64(st.Writes), "req/write")
		})
	}
}

// yamuxSmall makes the same requests: each message behind its length, on a
// stream of its own.
func yamuxSmall(b *testing.B, n, k int) cost {
	x, y := tlsPipe(b)
	handshake(b, x, y)
	c, s := yamuxPair(b, x, y)
	message := func(parts ...[]byte) []byte {
		m := make([]byte, 4, 4<<10)
		for _, p := range parts {
			m = append(m, p...)
		}
		binary.BigEndian.PutUint32(m, uint32(len(m)-4))
		return m
	}
	request, answer := message(benchHead, benchBody), message(benchAnswer, benchBody)
	read := func(st *yamux.Stream, buf []byte) error {
		if _, err := io.ReadFull(st, buf[:4]); err != nil {
			return err
		}
		_, err := io.ReadFull(st, buf[:binary.BigEndian.Uint32(buf)])
		return err
	}
	serveYamux(s, func(st *yamux.Stream) {
		defer st.Close()
		var buf [4 << 10]byte
		if read(st, buf[:]) == nil {
			st.Write(answer)
		}
	})
	return parallel(b, n, k, func(buf []byte) error {
		st, err := c.OpenStream()
		if err != nil {
			return err
		}
		defer st.Close()
		if _, err := st.Write(request); err != nil {
			return err
		}
		return read(st, buf)
	})
}

// BenchmarkThroughput reads one long body, 1 MiB an operation.
func BenchmarkThroughput(b *testing.B) {
	const piece = 1 << 20
	b.SetBytes(piece)
	x, y := tlsPipe(b)
	c, _ := join(b, x, y, tunnel.Config{}, tunnel.Config{Handler: func(s *tunnel.Stream) {
		s.WriteHead(benchAnswer, false)
		buf := make([]byte, 32<<10)
		for {
			if _, err := s.Write(buf); err != nil {
				return
			}
		}
	}})
	s := open(b, c, &tunnel.Request{}, nil, true)
	if _, _, err := s.ReadHead(); err != nil {
		b.Fatal(err)
	}
	read := func(r io.Reader, n int) cost {
		buf := make([]byte, 32<<10)
		return measure(func() {
			for n > 0 {
				m, err := r.Read(buf[:min(len(buf), n)])
				if err != nil {
					b.Fatal(err)
				}
				n -= m
			}
		})
	}
	b.ReportAllocs()
	b.ResetTimer()
	mine := read(s, b.N*piece)
	b.StopTimer()
	s.Reset(tunnel.CodeCancelled)

	x, y = tlsPipe(b)
	handshake(b, x, y)
	yc, ys := yamuxPair(b, x, y)
	serveYamux(ys, func(st *yamux.Stream) {
		buf := make([]byte, 32<<10)
		for {
			if _, err := st.Write(buf); err != nil {
				return
			}
		}
	})
	st, err := yc.OpenStream()
	if err != nil {
		b.Fatal(err)
	}
	report(b, mine, read(st, b.N*piece))
	st.Close()
}

// BenchmarkHeldStreams opens streams whose answer is still to come and reports
// what each costs, for both sides together, without the stacks of handlers and
// callers.
func BenchmarkHeldStreams(b *testing.B) {
	const n = 10_000
	for range b.N {
		x, y := tlsPipe(b)
		var started sync.WaitGroup
		started.Add(n)
		release := make(chan struct{})
		c, s := join(b, x, y, tunnel.Config{}, tunnel.Config{Handler: func(s *tunnel.Stream) {
			s.Request().Head = nil // sent on
			started.Done()
			<-release
			s.WriteHead(benchAnswer, true)
		}})
		streams := make([]*tunnel.Stream, n)
		before := heap()
		for i := range streams {
			for streams[i] == nil {
				streams[i], _ = c.Open(&tunnel.Request{CorrelationID: "0123456789abcdef0123456789abcdef", Role: "72057594037927941",
					Endpoint: "BGB", Identity: "{\"subject\":\"GUID:00000000-0000-0000-0000-000000000000\"}", Head: benchHead}, nil, true)
				if streams[i] == nil {
					runtime.Gosched() // too much waits to be sent
				}
			}
		}
		started.Wait()
		mine := float64(heap()-before) / n
		close(release)
		for _, s := range streams {
			if _, _, err := s.ReadHead(); err != nil {
				b.Fatal(err)
			}
		}
		c.Close()
		s.Close()

		x, y = tlsPipe(b)
		handshake(b, x, y)
		yc, ys := yamuxPair(b, x, y)
		started.Add(n)
		release2 := make(chan struct{})
		serveYamux(ys, func(st *yamux.Stream) {
			buf := make([]byte, len(benchHead))
			io.ReadFull(st, buf)
			started.Done()
			<-release2
			st.Close()
		})
		held := make([]*yamux.Stream, n)
		before = heap()
		for i := range held {
			st, err := yc.OpenStream()
			if err != nil {
				b.Fatal(err)
			}
			st.Write(benchHead)
			held[i] = st
		}
		started.Wait()
		theirs := float64(heap()-before) / n
		close(release2)
		yc.Close()
		ys.Close()
		runtime.KeepAlive(held)
		b.ReportMetric(mine, "B/stream")
		b.ReportMetric(theirs/mine, "x-yamux")
	}
}

// heap is what is in use of the heap.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkBeside measures a small request while a long body is being read on
// the same connection.
func BenchmarkBeside(b *testing.B) {
	for _, busy := range []bool{false, true} {
		b.Run("bulk="+strconv.FormatBool(busy), func(b *testing.B) {
			x, y := tlsPipe(b)
			c, _ := join(b, x, y, tunnel.Config{}, tunnel.Config{Handler: func(s *tunnel.Stream) {
				if s.Request().Endpoint != "bulk" {
					s.WriteHeadBody(benchAnswer, benchBody, true)
					return
				}
				s.WriteHead(benchAnswer, false)
				buf := make([]byte, 32<<10)
				for {
					if _, err := s.Write(buf); err != nil {
						return
					}
				}
			}})
			ctx, cancel := context.WithCancel(context.Background())
			var reader sync.WaitGroup
			if busy {
				bulk := open(b, c, &tunnel.Request{Endpoint: "bulk"}, nil, true)
				context.AfterFunc(ctx, func() { bulk.Reset(tunnel.CodeCancelled) })
				reader.Go(func() {
					bulk.ReadHead()
					io.Copy(io.Discard, bulk)
				})
			}
			b.ResetTimer()
			parallel(b, b.N, 1, func(buf []byte) error {
				s, err := c.Open(&tunnel.Request{Head: benchHead}, nil, true)
				if err != nil {
					return err
				}
				if _, _, err := s.ReadHead(); err != nil {
					return err
				}
				_, err = io.ReadFull(s, buf[:len(benchBody)])
				return err
			})
			b.StopTimer()
			cancel()
			reader.Wait()
		})
	}
}
