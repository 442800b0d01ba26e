package gateway

import (
	"cmp"
	"crypto/tls"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/opencmg/opencmg"
)

// summaryInterval is how often the log gets a line per endpoint
// (cmg-behaviour G50, G52).
const summaryInterval = 5 * time.Minute

// metrics are the server's metrics. What a request touches is resolved when a
// configuration is applied, so that counting is one atomic addition.
type metrics struct {
	requests      *prometheus.CounterVec // role, endpoint, code
	bytes         *prometheus.CounterVec // role, endpoint, direction
	refusals      *prometheus.CounterVec // reason
	connections   prometheus.Gauge
	held          prometheus.Gauge
	handshakes    *prometheus.CounterVec // result
	tunnels       *prometheus.GaugeVec   // connection_point
	retries       prometheus.Counter
	configVersion prometheus.Gauge
	certExpiry    *prometheus.GaugeVec // certificate
	pointRequests *prometheus.GaugeVec // connection_point: highest number at once, as it reports
	pointTraffic  *prometheus.GaugeVec // connection_point, endpoint, field

	counts *prometheus.Registry // requests and refusals once more, see status.go
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "opencmg", Subsystem: "gateway", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "opencmg", Subsystem: "gateway", Name: name, Help: help}, labels)
	}
	requests := counter("requests_total", "Requests answered, by published endpoint and status code.", "role", "endpoint", "code")
	bytes := counter("body_bytes_total", "Body bytes by published endpoint; in comes from clients, out goes to them.", "role", "endpoint", "direction")
	refusals := counter("refusals_total", "Requests that did not reach a role, by cause.", "cause")
	handshakes := counter("tls_handshakes_total", "TLS handshakes of clients, by result.", "result")
	retries := counter("retries_total", "Requests sent again on another tunnel.")
	tunnels := gauge("tunnels", "Tunnel connections by connection point.", "connection_point")
	connections := gauge("client_connections", "Open client connections.")
	held := gauge("requests_in_flight", "Requests that wait for their answer or receive it, held ones included.")
	version := gauge("configuration_version", "Version of the published configuration in force; 0 without one.")
	expiry := gauge("certificate_not_after_seconds", "End of validity of a certificate in use, as Unix time.", "certificate")
	pointRequests := gauge("connection_point_max_concurrent_requests", "Highest number of requests at once, as the connection point reports it.", "connection_point")
	pointTraffic := gauge("connection_point_endpoint", "Traffic of an endpoint as the connection point reports it.", "connection_point", "endpoint", "target", "field")
	for _, c := range []prometheus.Collector{requests, bytes, refusals, handshakes, retries, tunnels, connections, held, version, expiry, pointRequests, pointTraffic} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	counts, err := countsOf(requests, refusals)
	if err != nil {
		return nil, err
	}
	return &metrics{
		counts: counts, requests: requests, bytes: bytes, refusals: refusals, handshakes: handshakes,
		connections: connections.WithLabelValues(), held: held.WithLabelValues(),
		tunnels: tunnels, retries: retries.WithLabelValues(), configVersion: version.WithLabelValues(),
		certExpiry: expiry, pointRequests: pointRequests, pointTraffic: pointTraffic,
	}, nil
}

func (m *metrics) certificate(name string, c *tls.Certificate) {
	if c != nil && c.Leaf != nil {
		m.certExpiry.WithLabelValues(name).Set(float64(c.Leaf.NotAfter.Unix()))
	}
}

// status keeps the fields of a connection point's report (cmg-behaviour C12,
// C13). Names come from a registered connection point, so they are bounded by
// what the site configures.
func (m *metrics) status(st *opencmg.ConnectionPointStatus) {
	m.pointTraffic.DeletePartialMatch(prometheus.Labels{"connection_point": st.Name})
	m.pointRequests.WithLabelValues(st.Name).Set(float64(st.MaxConcurrentRequests))
	for i, e := range st.Endpoints {
		if i == maxStatusEndpoints {
			break
		}
		for _, f := range []struct {
			name  string
			value int64
		}{
			{"total_requests", e.TotalRequests},
			{"total_requests_with_bearer_token", e.TotalRequestsWithBearerToken},
			{"max_concurrent_requests", e.MaxConcurrentRequests},
			{"total_request_bytes", e.TotalRequestBytes},
			{"total_response_bytes", e.TotalResponseBytes},
			{"failed_requests", e.FailedRequests},
		} {
			m.pointTraffic.WithLabelValues(st.Name, e.Name, e.TargetHost, f.name).Set(float64(f.value))
		}
	}
}

// maxStatusEndpoints bounds what one report can add to the metrics.
const maxStatusEndpoints = 200

// traffic counts one endpoint. It outlives configurations.
type traffic struct {
	role, endpoint string
	uri            string
	in, out        prometheus.Counter
	vec            *prometheus.CounterVec
	codes          [500]atomic.Pointer[prometheus.Counter] // by status - 100, resolved at first use

	// Since the last summary line.
	requests, responses, requestBytes, responseBytes, elapsed atomic.Int64

	// latency counts since the start, see [opencmg.LatencyBucket].
	latency [opencmg.LatencyBuckets]atomic.Int64

	// before is what was counted before the last summary line, guarded by
	// trafficTable.mu.
	before opencmg.InstanceTraffic
	spent  time.Duration
}

// settle moves the counts since the last call into the totals and returns how
// many requests and answers they were. trafficTable.mu is held.
func (t *traffic) settle() (since opencmg.InstanceTraffic, answered int64, elapsed time.Duration) {
	since = opencmg.InstanceTraffic{
		Requests: t.requests.Swap(0), RequestBytes: t.requestBytes.Swap(0), ResponseBytes: t.responseBytes.Swap(0),
	}
	answered, elapsed = t.responses.Swap(0), time.Duration(t.elapsed.Swap(0))
	t.before.Requests += since.Requests
	t.before.RequestBytes += since.RequestBytes
	t.before.ResponseBytes += since.ResponseBytes
	t.spent += elapsed
	return since, answered, elapsed
}

// totals lists what every endpoint with traffic counted since the start, in the
// order of role and endpoint. failed counts its failures by role and endpoint.
func (tt *trafficTable) totals(failed map[[2]string]int64) []opencmg.InstanceTraffic {
	tt.mu.Lock()
	defer tt.mu.Unlock()
	var list []opencmg.InstanceTraffic
	for _, t := range tt.all {
		total := t.before
		total.Role, total.Endpoint = opencmg.RoleID(t.role), t.endpoint
		total.Requests += t.requests.Load()
		total.RequestBytes += t.requestBytes.Load()
		total.ResponseBytes += t.responseBytes.Load()
		total.Milliseconds = (t.spent + time.Duration(t.elapsed.Load())).Milliseconds()
		total.Failed = failed[[2]string{t.role, t.endpoint}]
		for i := range t.latency {
			if n := t.latency[i].Load(); n > 0 {
				total.Latency = append(append(total.Latency, make([]int64, i-len(total.Latency))...), n)
			}
		}
		if total.Requests > 0 {
			list = append(list, total)
		}
	}
	slices.SortFunc(list, func(a, b opencmg.InstanceTraffic) int {
		return cmp.Or(cmp.Compare(a.Role, b.Role), cmp.Compare(a.Endpoint, b.Endpoint))
	})
	return list
}

// took counts how long a request took that had nothing to wait for by design.
func (t *traffic) took(elapsed time.Duration) { t.latency[opencmg.LatencyBucket(elapsed)].Add(1) }

// done counts one answered request.
func (t *traffic) done(status int, in, out int64, elapsed time.Duration) {
	if i := status - 100; i >= 0 && i < len(t.codes) {
		c := t.codes[i].Load()
		if c == nil {
			counter := t.vec.WithLabelValues(t.role, t.endpoint, strconv.Itoa(status))
			c = &counter
			t.codes[i].Store(c)
		}
		(*c).Inc()
	}
	t.responses.Add(1)
	t.elapsed.Add(int64(elapsed))
	if in > 0 {
		t.in.Add(float64(in))
		t.requestBytes.Add(in)
	}
	if out > 0 {
		t.out.Add(float64(out))
		t.responseBytes.Add(out)
	}
}

// trafficTable holds the traffic of every endpoint that was ever published.
type trafficTable struct {
	m  *metrics
	mu sync.Mutex // guards all, held while a configuration is applied
	// all is bounded by what the site publishes.
	all map[string]*traffic
}

func (tt *trafficTable) endpoint(r *role, e *endpoint) *traffic {
	tt.mu.Lock()
	defer tt.mu.Unlock()
	t := tt.all[e.name]
	if t == nil {
		uri := opencmg.MutualAuthPrefix + string(r.ID) + "/" + e.published
		if r.Kind == opencmg.KindService {
			uri = r.Prefix + e.published
		}
		t = &traffic{
			role: string(r.ID), endpoint: e.label, uri: uri, vec: tt.m.requests,
			in:  tt.m.bytes.WithLabelValues(string(r.ID), e.label, "in"),
			out: tt.m.bytes.WithLabelValues(string(r.ID), e.label, "out"),
		}
		tt.all[e.name] = t
	}
	return t
}

// summarize writes the CMGService line of every endpoint with traffic since
// the last call (cmg-behaviour G52; wire.md 11.4).
func (tt *trafficTable) summarize(log *slog.Logger) {
	tt.mu.Lock()
	defer tt.mu.Unlock()
	for _, t := range tt.all {
		since, answered, elapsed := t.settle()
		if since.Requests == 0 && answered == 0 {
			continue
		}
		log.Info("traffic",
			"component", componentService, "endpoint", t.endpoint, "role", t.role,
			"RequestUri", t.uri, "RequestCount", since.Requests, "RequestSize", since.RequestBytes,
			"ResponseCount", answered, "ResponseSize", since.ResponseBytes,
			"AverageElapsedTime", elapsed.Milliseconds()/max(answered, 1))
	}
}
