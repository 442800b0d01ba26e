package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"runtime"
	rtmetrics "runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/web"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/tunnel"
)

// What an instance tells about itself over the tunnel. A request pays nothing
// for it: the counts are those of the metrics, put together when somebody asks.

// maxLogStreams bounds the readers of the log.
const maxLogStreams = 8

// maxStatusWait bounds how long a question for the status is held.
const maxStatusWait = time.Minute

// maySee reports why a connection point gets neither status nor logs: only
// those registered in the configuration in force do.
func (s *Server) maySee(p *point) error {
	snap := s.snap.Load()
	if snap.cfg == nil {
		return opencmg.Errorf(opencmg.Forbidden, "no published configuration yet, so no connection point is registered")
	}
	if snap.points[p.id] == nil {
		return opencmg.Errorf(opencmg.Forbidden, "connection ID %q is not registered in published configuration %d", p.id, snap.cfg.Version)
	}
	return nil
}

// serveInstanceStatus answers with the status in the body, after the wait that
// the question in asked wants.
func (s *Server) serveInstanceStatus(st *tunnel.Stream, p *point, asked []byte) error {
	if err := s.maySee(p); err != nil {
		return st.WriteHead(s.refusedControl(p, opencmg.ControlInstanceStatus, err), true)
	}
	var q opencmg.InstanceStatusRequest
	if len(asked) > 0 {
		if err := json.Unmarshal(asked, &q); err != nil {
			return st.WriteHead(s.refusedControl(p, opencmg.ControlInstanceStatus, opencmg.Errorf(opencmg.Invalid, "the question can not be read: %v", err)), true)
		}
	}
	if q.WaitMilliseconds > 0 {
		ctx, cancel := context.WithTimeout(s.ctx, time.Duration(min(q.WaitMilliseconds, maxStatusWait.Milliseconds()))*time.Millisecond)
		defer cancel()
		st.OnReset(cancel)
		s.notable.await(ctx, s.closing, q.After)
	}
	status := s.Status()
	body, err := json.Marshal(status)
	if err != nil {
		panic(err) // a plain struct
	}
	return st.WriteHeadBody(controlHead(opencmg.ControlAnswer{Version: status.Configuration}), body, true)
}

// serveLogs sends the lines kept and those that come, until the connection
// point has enough or this instance stops. A reader that is too slow is told
// how many lines it lost.
func (s *Server) serveLogs(st *tunnel.Stream, p *point) error {
	err := s.maySee(p)
	if err == nil && s.logStreams.Add(1) > maxLogStreams {
		s.logStreams.Add(-1)
		err = opencmg.Errorf(opencmg.Unavailable, "%d connection points read the log already", maxLogStreams)
	}
	if err != nil {
		return st.WriteHead(s.refusedControl(p, opencmg.ControlLogs, err), true)
	}
	defer s.logStreams.Add(-1)
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	st.OnReset(cancel)
	// A tunnel that drains waits for its streams, and nobody waits for a log.
	s.wg.Go(func() {
		select {
		case <-s.closing:
			cancel()
		case <-ctx.Done():
		}
	})
	if err := st.WriteHead(controlHead(opencmg.ControlAnswer{Version: s.snap.Load().version()}), false); err != nil {
		return err
	}
	tail := s.cfg.Logs.Follow()
	var b []byte
	for {
		lines, lost, err := tail.Next(ctx)
		if err != nil {
			return st.CloseWrite()
		}
		b = b[:0]
		if lost > 0 {
			lines = slices.Insert(lines, 0, opencmg.LogLine{Time: time.Now().UTC(), Level: "WARN", Component: componentService, Source: s.where,
				Message: "log lines were lost: the reader is too slow", Attrs: map[string]string{"lost": strconv.FormatUint(lost, 10)}})
		}
		for i := range lines {
			j, err := json.Marshal(&lines[i])
			if err != nil {
				panic(err) // a plain struct
			}
			b = append(append(b, j...), '\n')
		}
		if _, err := st.Write(b); err != nil {
			return err
		}
	}
}

func (s *Server) refusedControl(p *point, name string, err error) []byte {
	s.log.Warn("control stream refused", "component", componentService, "connection_point", p.name, "stream", name, "err", err)
	return controlHead(opencmg.ControlAnswer{Version: s.snap.Load().version(), Error: err.Error()})
}

func controlHead(a opencmg.ControlAnswer) []byte {
	b, err := json.Marshal(a)
	if err != nil {
		panic(err) // a plain struct
	}
	return b
}

// Status reports the instance as it is now.
func (s *Server) Status() opencmg.InstanceStatus {
	st := opencmg.InstanceStatus{
		Gateway: s.cfg.Gateway, Instance: s.cfg.Instance, Version: s.cfg.Version,
		Started: s.began.UTC(), Time: time.Now().UTC(),
		Configuration: s.snap.Load().version(),
		Notable:       s.notable.number(),
		Draining:      s.parting(), Drained: s.drained(),
		Connections: s.connections.Load(), InFlight: s.inFlight.Load(),
		Goroutines: runtime.NumGoroutine(), MemoryBytes: memoryTaken(), CPUSeconds: processCPU().Seconds(),
	}
	if cert, err := s.cfg.GetCertificate(&tls.ClientHelloInfo{ServerName: s.cfg.ServiceName, SupportedVersions: []uint16{tls.VersionTLS13}}); err == nil && cert != nil {
		if leaf := leafOf(cert); leaf != nil {
			st.Certificate, st.CertificateEnds = pki.Thumbprint(leaf), leaf.NotAfter
		}
	}
	if leaf := leafOf(&s.cfg.TunnelCertificate); leaf != nil {
		st.TunnelCertEnds = leaf.NotAfter
	}
	if s.cfg.Outside != nil {
		st.Outside = s.cfg.Outside()
	}
	s.watches.each(nil, func(w *watch) {
		if w.phase() == phaseWait && w.held() {
			st.Held++
		}
	})
	failed := map[[2]string]int64{}
	st.Refused = map[string]int64{}
	s.metrics.read(func(role, endpoint string, code int, n int64) {
		if code >= 500 {
			failed[[2]string{role, endpoint}] += n
		}
	}, func(cause string, n int64) { st.Refused[cause] = n })
	st.Endpoints = s.traffic.totals(failed)
	for _, l := range s.crl.Status() {
		st.RevocationLists = append(st.RevocationLists, opencmg.RevocationListStatus{URL: l.URL, Issuer: l.Issuer, NextUpdate: l.NextUpdate, LastError: l.LastError})
	}
	return st
}

func leafOf(c *tls.Certificate) *x509.Certificate {
	if c.Leaf != nil || len(c.Certificate) == 0 {
		return c.Leaf
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return nil
	}
	return leaf
}

// memoryTaken is what the process took from the system and did not give back,
// in bytes.
func memoryTaken() uint64 {
	s := []rtmetrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	rtmetrics.Read(s)
	for _, m := range s {
		if m.Value.Kind() != rtmetrics.KindUint64 {
			return 0
		}
	}
	return s[0].Value.Uint64() - s[1].Value.Uint64()
}

// read calls back with the counts of answers and of refusals.
func (m *metrics) read(answered func(role, endpoint string, code int, n int64), refused func(cause string, n int64)) {
	families, err := m.counts.Gather()
	if err != nil {
		return // two counters that do not know each other always agree
	}
	for _, f := range families {
		for _, c := range f.GetMetric() {
			l := map[string]string{}
			for _, p := range c.GetLabel() {
				l[p.GetName()] = p.GetValue()
			}
			n := int64(c.GetCounter().GetValue())
			if strings.HasSuffix(f.GetName(), "_refusals_total") {
				refused(l["cause"], n)
			} else if code, err := strconv.Atoi(l["code"]); err == nil {
				answered(l["role"], l["endpoint"], code, n)
			}
		}
	}
}

// countsOf makes the registry that [metrics.read] reads.
func countsOf(cs ...prometheus.Collector) (*prometheus.Registry, error) {
	r := prometheus.NewRegistry()
	for _, c := range cs {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// keepLogs sees to it that there is a tail and that the log fills it.
func (c *Config) keepLogs() {
	if c.Logs == nil {
		c.Logs = web.NewLogTail(c.Gateway + "/" + strconv.Itoa(c.Instance))
		c.Log = slog.New(slog.NewMultiHandler(c.Log.Handler(), c.Logs.Handler()))
	}
}
