package opencmg

import "time"

// A ConnectionPointStatus is the live report of a connection point: what
// cmg-behaviour C12 and C13 list, sent over every tunnel as it changes and at
// least once a minute.
type ConnectionPointStatus struct {
	Name         string    `json:"name"`
	ConnectionID string    `json:"connectionId"`
	Site         SiteCode  `json:"site"`
	Start        time.Time `json:"start"` // start of the counted time
	End          time.Time `json:"end"`
	// MaxConcurrentRequests is the highest number of requests in flight at
	// once since Start.
	MaxConcurrentRequests int64             `json:"maxConcurrentRequests"`
	Endpoints             []EndpointTraffic `json:"endpoints,omitempty"`
	Tunnels               []TunnelStatus    `json:"tunnels,omitempty"`
}

// EndpointTraffic counts the traffic of one endpoint of one role since the
// report's Start (cmg-behaviour C13).
type EndpointTraffic struct {
	Name                         string `json:"name"`        // e.g. BGB, CCM_STS, SMS_MP
	ProxyServer                  string `json:"proxyServer"` // the gateway's service name
	TargetHost                   string `json:"targetHost"`  // the role's host
	TotalRequests                int64  `json:"totalRequests"`
	TotalRequestsWithBearerToken int64  `json:"totalRequestsWithBearerToken"`
	MaxConcurrentRequests        int64  `json:"maxConcurrentRequests"`
	TotalRequestBytes            int64  `json:"totalRequestBytes"`
	TotalResponseBytes           int64  `json:"totalResponseBytes"`
	FailedRequests               int64  `json:"failedRequests"`
}

// A TunnelStatus is one tunnel as its connection point sees it.
type TunnelStatus struct {
	Gateway     string        `json:"gateway"`
	Instance    int           `json:"instance"`
	Transport   string        `json:"transport"` // tcp-tls or https
	Connected   bool          `json:"connected"`
	Since       time.Time     `json:"since"`
	Streams     int           `json:"streams"`
	RTT         time.Duration `json:"rtt"` // nanoseconds
	LastError   string        `json:"lastError,omitempty"`
	Connections int           `json:"connections"`
}
