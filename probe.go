package opencmg

import "time"

// What a [ProbeTarget] is.
const (
	// ProbeName is a host name: does it resolve, and where does it lead?
	ProbeName = "name"
	// ProbeTunnel is where a gateway instance accepts tunnels: its certificate
	// must be one of the site CA.
	ProbeTunnel = "tunnel"
	// ProbeHost is a host of the internet with a certificate that the system
	// trusts, or, with Private, the process's own roots.
	ProbeHost = "host"
	// ProbeService is a gateway's public address: which certificate is
	// presented there?
	ProbeService = "service"
)

// MaxProbes bounds the targets that a process looks at and the findings of one
// report.
const MaxProbes = 64

// A ProbeTarget is something that a process is to look at from where it runs.
// Looking takes a name's resolution, a TCP connection and the beginning of a
// TLS handshake; nothing is sent.
type ProbeTarget struct {
	Kind string `json:"kind"` // name, tunnel, host or service
	Host string `json:"host"`
	Port int    `json:"port,omitempty"` // 0 for a name
	// Gateway and Instance say whose tunnel it is; Transport is tcp-tls or
	// https. TCP-TLS never goes through a proxy.
	Gateway   string `json:"gateway,omitempty"`
	Instance  int    `json:"instance,omitempty"`
	Transport string `json:"transport,omitempty"`
	Purpose   string `json:"purpose,omitempty"`
	// Private marks a host whose certificate comes from a private authority,
	// such as one in the lab's cloud.
	Private bool `json:"private,omitempty"`
}

// Ways by which a [Probe] got to its target.
const (
	ViaDNS       = "dns"        // by the system's resolver
	ViaConnectTo = "connect-to" // a rule of the process replaced DNS
	ViaProxy     = "proxy"      // the forward proxy resolved and connected
)

// A Probe is what was found at a target.
type Probe struct {
	ProbeTarget
	OK  bool   `json:"ok"`
	Via string `json:"via,omitempty"` // dns, connect-to or proxy
	// Addresses are those that the name has, or that a rule put in their
	// place, at most 16; Canonical is the name that a CNAME leads to.
	Addresses []string `json:"addresses,omitempty"`
	Canonical string   `json:"canonical,omitempty"`
	// Certificate is the SHA-256 thumbprint of the certificate that came.
	Certificate string `json:"certificate,omitempty"`
	// Inspector is the issuer of a certificate that belongs to neither the
	// site nor an authority that the system trusts: whoever inspects TLS on
	// the way. It may be set although OK is.
	Inspector string `json:"inspector,omitempty"`
	Error     string `json:"error,omitempty"` // at most 500 bytes
}

// A ProbeReport is what a process found from where it runs, at most
// [MaxProbes] probes.
type ProbeReport struct {
	Time   time.Time `json:"time"`
	Proxy  string    `json:"proxy,omitempty"` // host of the forward proxy in use
	Probes []Probe   `json:"probes,omitempty"`
}
