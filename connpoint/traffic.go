package connpoint

import (
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/opencmg/opencmg"
)

// maxEndpoints bounds the endpoint names that one role counts apart; the rest
// is counted together. The names come from the published configuration, so
// this only guards against a gateway gone wrong.
const maxEndpoints = 256

// traffic counts what one role was asked, per endpoint (cmg-behaviour C13).
type traffic struct {
	mu        sync.Mutex // held while the map is replaced
	endpoints atomic.Pointer[map[string]*endpointTraffic]
}

// An endpointTraffic counts one endpoint of one role.
type endpointTraffic struct {
	name          string
	requests      atomic.Int64
	withBearer    atomic.Int64
	concurrent    atomic.Int64
	maxConcurrent atomic.Int64
	requestBytes  atomic.Int64
	responseBytes atomic.Int64
	failed        atomic.Int64
}

// endpoint returns the counts of the name.
func (t *traffic) endpoint(name string) *endpointTraffic {
	if m := t.endpoints.Load(); m != nil {
		if e := (*m)[name]; e != nil {
			return e
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	grown := map[string]*endpointTraffic{}
	if m := t.endpoints.Load(); m != nil {
		if e := (*m)[name]; e != nil {
			return e
		}
		if len(*m) >= maxEndpoints {
			name = "other"
			if e := (*m)[name]; e != nil {
				return e
			}
		}
		for k, v := range *m {
			grown[k] = v
		}
	}
	e := &endpointTraffic{name: name}
	grown[name] = e
	t.endpoints.Store(&grown)
	return e
}

func (e *endpointTraffic) begin() {
	e.requests.Add(1)
	raise(&e.maxConcurrent, e.concurrent.Add(1))
}

func (e *endpointTraffic) end(requestBytes, responseBytes int64, failed bool) {
	e.concurrent.Add(-1)
	e.requestBytes.Add(requestBytes)
	e.responseBytes.Add(responseBytes)
	if failed {
		e.failed.Add(1)
	}
}

// raise sets m to n when n is greater.
func raise(m *atomic.Int64, n int64) {
	for {
		old := m.Load()
		if n <= old || m.CompareAndSwap(old, n) {
			return
		}
	}
}

// Status reports tunnels and traffic as they are now (cmg-behaviour C12, C13).
func (c *Connector) Status() opencmg.ConnectionPointStatus {
	s := opencmg.ConnectionPointStatus{
		Name: c.cfg.Name, ConnectionID: c.cfg.ConnectionID, Site: c.cfg.Site,
		Start: c.started, End: c.pool.now(),
		MaxConcurrentRequests: c.maxConcurrent.Load(),
		Tunnels:               c.tunnelStatus(),
	}
	proxy := ""
	if links := c.gateways(); len(links) > 0 {
		_, proxy = links[0].address(0)
	}
	for _, r := range *c.roles.Load() {
		if m := r.traffic.endpoints.Load(); m != nil {
			for _, e := range *m {
				s.Endpoints = append(s.Endpoints, opencmg.EndpointTraffic{
					Name: e.name, ProxyServer: proxy, TargetHost: r.hosts[0].authority,
					TotalRequests:                e.requests.Load(),
					TotalRequestsWithBearerToken: e.withBearer.Load(),
					MaxConcurrentRequests:        e.maxConcurrent.Load(),
					TotalRequestBytes:            e.requestBytes.Load(),
					TotalResponseBytes:           e.responseBytes.Load(),
					FailedRequests:               e.failed.Load(),
				})
			}
		}
	}
	return s
}

// Describe implements prometheus.Collector.
func (c *Connector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

var (
	endpointLabels = []string{"role", "endpoint"}
	descRequests   = prometheus.NewDesc("opencmg_connection_point_requests_total", "Requests forwarded to a role.", endpointLabels, nil)
	descBearer     = prometheus.NewDesc("opencmg_connection_point_requests_with_bearer_token_total", "Requests whose caller proved itself by a token.", endpointLabels, nil)
	descFailed     = prometheus.NewDesc("opencmg_connection_point_requests_failed_total", "Requests that got no answer or one of 500 and above.", endpointLabels, nil)
	descInFlight   = prometheus.NewDesc("opencmg_connection_point_requests_in_flight", "Requests in flight, held ones included.", endpointLabels, nil)
	descInBytes    = prometheus.NewDesc("opencmg_connection_point_request_bytes_total", "Bytes of request heads and bodies.", endpointLabels, nil)
	descOutBytes   = prometheus.NewDesc("opencmg_connection_point_response_bytes_total", "Bytes of response heads and bodies.", endpointLabels, nil)
	descDials      = prometheus.NewDesc("opencmg_connection_point_role_dials_total", "Connections made to roles.", nil, nil)
	descOpen       = prometheus.NewDesc("opencmg_connection_point_role_connections", "Connections to a host of a role.", []string{"role", "host"}, nil)
	descUp         = prometheus.NewDesc("opencmg_connection_point_role_up", "1 while the host of a role is in the rotation.", []string{"role", "host"}, nil)
	descTunnel     = prometheus.NewDesc("opencmg_connection_point_tunnels", "Tunnel connections to an instance.", []string{"gateway", "instance"}, nil)
)

// Collect implements prometheus.Collector.
func (c *Connector) Collect(ch chan<- prometheus.Metric) {
	for id, r := range *c.roles.Load() {
		role := string(id)
		if m := r.traffic.endpoints.Load(); m != nil {
			for _, e := range *m {
				counter := func(d *prometheus.Desc, n *atomic.Int64) {
					ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n.Load()), role, e.name)
				}
				counter(descRequests, &e.requests)
				counter(descBearer, &e.withBearer)
				counter(descFailed, &e.failed)
				counter(descInBytes, &e.requestBytes)
				counter(descOutBytes, &e.responseBytes)
				ch <- prometheus.MustNewConstMetric(descInFlight, prometheus.GaugeValue, float64(e.concurrent.Load()), role, e.name)
			}
		}
		for _, h := range r.hosts {
			h.mu.Lock()
			open, up := h.open, 1.0
			if h.down {
				up = 0
			}
			h.mu.Unlock()
			name := h.addr + h.base
			ch <- prometheus.MustNewConstMetric(descOpen, prometheus.GaugeValue, float64(open), role, name)
			ch <- prometheus.MustNewConstMetric(descUp, prometheus.GaugeValue, up, role, name)
		}
	}
	ch <- prometheus.MustNewConstMetric(descDials, prometheus.CounterValue, float64(c.pool.dials.Load()))
	counts := map[[2]string]int{}
	for _, t := range c.tunnelStatus() {
		counts[[2]string{t.Gateway, strconv.Itoa(t.Instance)}] = t.Connections
	}
	for k, n := range counts {
		ch <- prometheus.MustNewConstMetric(descTunnel, prometheus.GaugeValue, float64(n), k[0], k[1])
	}
}
