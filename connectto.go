package opencmg

import (
	"net"
	"strconv"
	"strings"
)

// A ConnectTo sends connections for one host and port to another place, in
// the manner of curl's --connect-to. TLS still checks the original name.
type ConnectTo struct {
	FromHost, FromPort string // empty means any
	ToHost, ToPort     string // empty means unchanged
}

// ParseConnectTo reads HOST:PORT:HOST:PORT. Parts may be empty, IPv6 addresses
// stand in brackets.
func ParseConnectTo(s string) (ConnectTo, error) {
	var parts []string
	rest := s
	for len(parts) < 3 {
		i := strings.IndexByte(rest, ':')
		if strings.HasPrefix(rest, "[") {
			if j := strings.IndexByte(rest, ']'); j >= 0 {
				i = j + 1
			}
		}
		if i < 0 || i >= len(rest) || rest[i] != ':' {
			return ConnectTo{}, Errorf(Invalid, "%q: must be HOST:PORT:HOST:PORT, with IPv6 addresses in brackets", s)
		}
		parts, rest = append(parts, rest[:i]), rest[i+1:]
	}
	c := ConnectTo{FromHost: strings.ToLower(strings.Trim(parts[0], "[]")), FromPort: parts[1], ToHost: strings.Trim(parts[2], "[]"), ToPort: rest}
	for _, p := range []string{c.FromPort, c.ToPort} {
		if n, err := strconv.ParseUint(p, 10, 16); p != "" && (err != nil || n == 0) {
			return ConnectTo{}, Errorf(Invalid, "%q: port %q must be a number from 1 to 65535, in the form HOST:PORT:HOST:PORT", s, p)
		}
	}
	return c, nil
}

// ConnectAddresses returns where the rules send connections for a host and
// port, in their order, as DNS would answer with several addresses. It is
// empty when no rule fits.
func ConnectAddresses(rules []ConnectTo, host, port string) []string {
	var found []string
	for _, r := range rules {
		if r.FromHost != "" && !strings.EqualFold(r.FromHost, host) || r.FromPort != "" && r.FromPort != port {
			continue
		}
		toHost, toPort := r.ToHost, r.ToPort
		if toHost == "" {
			toHost = host
		}
		if toPort == "" {
			toPort = port
		}
		found = append(found, net.JoinHostPort(toHost, toPort))
	}
	return found
}
