package client

import (
	"context"
	"net"
	"os"
	"runtime"
	"strings"
)

// HostFacts are what inventory and registration say about a device.
type HostFacts struct {
	NetBIOSName  string // at most 15 characters, in capitals
	FQDN         string
	OS           string // e.g. linux, windows
	OSVersion    string
	Architecture string // e.g. amd64
	CPUs         int
	Memory       int64 // bytes; 0 when unknown
	Addresses    []NetworkAddress
	// Software are installed programs; only counted as inventory rows.
	Software []Software
}

// A NetworkAddress is one address of one interface.
type NetworkAddress struct {
	Interface string
	Address   string // without mask
	Subnet    string
	MAC       string
}

// Software is one installed program.
type Software struct {
	Name, Version, Publisher string
}

// DetectHost finds out about this machine without asking the network.
func DetectHost(context.Context) *HostFacts {
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "localhost"
	}
	h := &HostFacts{
		NetBIOSName:  NetBIOSName(name),
		FQDN:         strings.ToLower(name),
		OS:           runtime.GOOS,
		OSVersion:    osVersion(),
		Architecture: runtime.GOARCH,
		CPUs:         runtime.NumCPU(),
	}
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addresses, _ := i.Addrs()
		for _, a := range addresses {
			if n, ok := a.(*net.IPNet); ok && len(h.Addresses) < 64 {
				subnet := net.IPNet{IP: n.IP.Mask(n.Mask), Mask: n.Mask}
				h.Addresses = append(h.Addresses, NetworkAddress{Interface: i.Name, Address: n.IP.String(), Subnet: subnet.String(), MAC: i.HardwareAddr.String()})
			}
		}
	}
	return h
}

// NetBIOSName makes a computer name of a host name: its first label in
// capitals, at most 15 characters.
func NetBIOSName(host string) string {
	label, _, _ := strings.Cut(host, ".")
	label = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return -1
	}, label)
	label = strings.ToUpper(label)
	if label == "" {
		label = "CLIENT"
	}
	return label[:min(len(label), 15)]
}

// osVersion reads the name that the system gives itself, where it is a file.
func osVersion() string {
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(v, `"`)
		}
	}
	return ""
}
