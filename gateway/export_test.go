package gateway

import (
	"crypto/x509"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/opencmg/opencmg/internal/http1"
)

// Sweep does what the sweeper does, as if d had passed.
func (s *Server) Sweep(d time.Duration) {
	var sw sweep
	s.sweep(&sw, time.Since(s.began).Milliseconds()+d.Milliseconds(), true)
}

// Phases counts the connections and requests that wait for something.
func (s *Server) Phases() (waiting, head, readBody int) {
	s.watches.each(nil, func(w *watch) {
		switch w.phase() {
		case phaseWait:
			waiting++
		case phaseHead:
			head++
		case phaseReadBody:
			readBody++
		}
	})
	return waiting, head, readBody
}

// InFlight is the number of requests in flight.
func (s *Server) InFlight() int64 { return s.inFlight.Load() }

// Tunnels is the number of tunnels in use of a connection ID.
func (s *Server) Tunnels(id string) (n int) {
	for _, v := range *s.roster.view.Load() {
		for i := range v.points {
			if v.points[i].id == id {
				n += len(v.points[i].conns)
			}
		}
	}
	return n
}

// Connections is the number of client connections.
func (s *Server) Connections() int64 { return s.connections.Load() }

// noRegisterer takes metrics and forgets them.
type noRegisterer struct{ prometheus.Registerer }

func (noRegisterer) Register(prometheus.Collector) error { return nil }

// EdgeBenchmark returns a function that does with a head what the edge does up
// to the opening of the stream, and returns the length of the head for the
// tunnel; 0 when the request would be refused.
func EdgeBenchmark(s *Server, cert *x509.Certificate) func(head []byte) int {
	p := &peer{}
	p.init(&net.TCPAddr{}, []*x509.Certificate{cert})
	x := &exchange{}
	m := &message{}
	return func(head []byte) int {
		*x = exchange{s: s, snap: s.snap.Load(), peer: p}
		x.begin()
		defer x.release()
		sc := x.scratch
		if sc.req.Parse(head) != nil {
			return 0
		}
		path, query, _, err := http1.CanonicalTarget(sc.path[:0], sc.req.Target)
		if err != nil {
			return 0
		}
		sc.path = path[:0]
		x.path = string(path)
		ep, d := x.snap.match.match(path)
		if ep == nil {
			return 0
		}
		x.ep, x.method = ep, ep.method(sc.req.Method)
		if _, r := x.authenticate(ep, d); r != nil {
			return 0
		}
		m.b = x.appendHead(m.b[:0], path, query)
		return len(m.b)
	}
}

// Summarize writes the summary lines that are due every five minutes.
func (s *Server) Summarize() { s.traffic.summarize(s.log) }

// SendIdleAway does what an instance that drains does with idle connections,
// as if d had passed.
func (s *Server) SendIdleAway(d time.Duration) {
	s.sendIdleAway(time.Since(s.began).Milliseconds() + d.Milliseconds())
}

// StatusAwaited reports whether a question for the status is held.
func (s *Server) StatusAwaited() bool { return s.notable.awaited.Load() }
