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

// An InstanceStatus is the live report of a gateway instance, which a
// connection point asks for over the tunnel ([ControlInstanceStatus]). Counts
// grow from Started on.
type InstanceStatus struct {
	Gateway  string    `json:"gateway"`
	Instance int       `json:"instance"`
	Version  string    `json:"version"` // of the program
	Started  time.Time `json:"started"`
	Time     time.Time `json:"time"` // of this report
	// Configuration is the version of the published configuration in force.
	Configuration uint64 `json:"configuration"`
	// Certificate is the SHA-256 thumbprint of the server certificate in use,
	// and CertificateEnds its end.
	Certificate     string    `json:"certificate,omitempty"`
	CertificateEnds time.Time `json:"certificateEnds,omitzero"`
	TunnelCertEnds  time.Time `json:"tunnelCertificateEnds,omitzero"`
	// Draining says that the site asked the instance to send its clients away;
	// Drained, that the load balancer had the time to notice, none of them is
	// connected any more, and the instance can be taken away.
	Draining    bool    `json:"draining,omitempty"`
	Drained     bool    `json:"drained,omitempty"`
	Connections int64   `json:"connections"` // of clients, now
	Held        int64   `json:"held"`        // requests that wait for notification, now
	InFlight    int64   `json:"inFlight"`
	Goroutines  int     `json:"goroutines"`
	MemoryBytes uint64  `json:"memoryBytes"` // taken from the system
	CPUSeconds  float64 `json:"cpuSeconds"`  // used since Started
	// Endpoints counts requests and bytes; what goes out to clients is
	// egress.
	Endpoints []InstanceTraffic `json:"endpoints,omitempty"`
	// Refused counts refusals by cause, e.g. token-expired.
	Refused map[string]int64 `json:"refused,omitempty"`
	// Notable grows from 1 when something happens that an administrator who
	// looks wants to see at once: a refusal, a tunnel that comes or goes. 0 from
	// an instance that can not be waited for, see [InstanceStatusRequest].
	Notable uint64 `json:"notable,omitempty"`
	// RevocationLists are those the instance knows.
	RevocationLists []RevocationListStatus `json:"revocationLists,omitempty"`
	// Outside is what the instance found when it looked at its service name
	// from where it runs; nil from one that does not look.
	Outside *ProbeReport `json:"outside,omitempty"`
}

// An InstanceStatusRequest is the body of [ControlInstanceStatus]; without one
// the instance answers at once.
type InstanceStatusRequest struct {
	// After is the number of notable things that the caller knows of; the
	// instance answers as soon as its own is another.
	After uint64 `json:"after,omitempty"`
	// WaitMilliseconds is when it answers in any case; 0 is at once.
	WaitMilliseconds int64 `json:"waitMilliseconds,omitempty"`
}

// InstanceTraffic counts one endpoint's traffic at an instance.
type InstanceTraffic struct {
	Role          RoleID `json:"role"`
	Endpoint      string `json:"endpoint"`
	Requests      int64  `json:"requests"`
	Failed        int64  `json:"failed"` // answered with 5xx, or not at all
	RequestBytes  int64  `json:"requestBytes"`
	ResponseBytes int64  `json:"responseBytes"`
	Milliseconds  int64  `json:"milliseconds"` // of all requests together
	// Latency counts answers by how long they took, see [LatencyBound]. It
	// leaves out what the gateway refused itself and endpoints whose requests
	// wait by design. Empty from an instance that does not count so.
	Latency []int64 `json:"latency,omitempty"`
}

// A RevocationListStatus is the state of one revocation list.
type RevocationListStatus struct {
	URL        string    `json:"url"`
	Issuer     string    `json:"issuer"`
	NextUpdate time.Time `json:"nextUpdate,omitzero"`
	LastError  string    `json:"lastError,omitempty"`
}

// A LogLine is one record of a component's log.
type LogLine struct {
	Time      time.Time         `json:"time"`
	Level     string            `json:"level"`
	Component string            `json:"component"`
	Message   string            `json:"message"`
	Source    string            `json:"source,omitempty"` // e.g. "gw/0" for an instance
	Attrs     map[string]string `json:"attrs,omitempty"`
}
