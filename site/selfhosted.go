package site

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

// Instances of a self-hosted gateway. Their hosts can not reach the site: a
// connection point finds a host that has a join token, and brings its request
// here and the answer back.

// Ports of a host when its join token says nothing else.
const (
	hostHTTPSPort  = 443
	hostTunnelPort = 10140
)

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// checkJoinHosts checks where hosts are looked for.
func checkJoinHosts(in *adminservice.JoinTokenRecord) error {
	if in.Kind != joinGateway {
		if len(in.Hosts) > 0 || in.HTTPSPort != 0 || in.TunnelPort != 0 {
			return opencmg.Errorf(opencmg.Invalid, "hosts, httpsPort and tunnelPort are for join tokens of kind %s", joinGateway).About("kind")
		}
		return nil
	}
	in.HTTPSPort, in.TunnelPort = cmp.Or(in.HTTPSPort, hostHTTPSPort), cmp.Or(in.TunnelPort, hostTunnelPort)
	if min(in.HTTPSPort, in.TunnelPort) < 1 || max(in.HTTPSPort, in.TunnelPort) > 65535 {
		field := "httpsPort"
		if in.HTTPSPort >= 1 && in.HTTPSPort <= 65535 {
			field = "tunnelPort"
		}
		return opencmg.Errorf(opencmg.Invalid, "httpsPort and tunnelPort: must be 1 to 65535").About(field)
	}
	for _, h := range in.Hosts {
		if u, err := url.Parse("https://" + hostPort(h, 1)); h == "" || err != nil || u.Hostname() != h || strings.ContainsAny(h, "/ @") {
			return opencmg.Errorf(opencmg.Invalid, "hosts: %q must be a host name or an address without port", h).About("hosts")
		}
	}
	return nil
}

// expectedHosts are the places at which hosts with a join token may appear.
func expectedHosts(tx *sitedb.Tx, g *record[gatewayRecord], now time.Time) ([]opencmg.JoinAddress, error) {
	if g.Value.Model != adminservice.ModelSelfHosted {
		return nil, nil
	}
	tokens, err := all[joinTokenRecord](tx, kindJoinToken)
	var list []opencmg.JoinAddress
	for _, t := range tokens {
		v := t.Value
		if v.Kind != joinGateway || v.GatewayID != g.ID || v.Uses < 1 || now.After(v.Expires) {
			continue
		}
		hosts := v.Hosts
		if len(hosts) == 0 {
			hosts = []string{g.Value.ServiceName}
		}
		for _, h := range hosts {
			j := opencmg.JoinAddress{TCPTLS: hostPort(h, v.TunnelPort), HTTPS: hostPort(h, v.HTTPSPort)}
			if !slices.Contains(list, j) {
				list = append(list, j)
			}
		}
	}
	return list, err
}

// joinInstance decides about a host that wants to be an instance. A refusal is
// an answer, for the host's administrator; the site's own log has it too.
func (s *Server) joinInstance(w http.ResponseWriter, r *http.Request, sys *system) error {
	var in adminservice.GatewayJoinRequest
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	if sys.kind != adminservice.SystemConnectionPoint {
		return opencmg.Errorf(opencmg.Forbidden, "hosts join through connection points, and %s is a %s", sys.name, sys.kind)
	}
	host, _, err := net.SplitHostPort(in.Address)
	if err != nil {
		return opencmg.Errorf(opencmg.Invalid, "address %q: must be host:port", in.Address)
	}
	var reply adminservice.GatewayJoinReply
	err = s.db.Change(r.Context(), "join gateway", func(tx *sitedb.Tx) (err error) {
		reply, err = s.admit(tx, sys, &in, host)
		return err
	})
	if errors.Is(err, opencmg.Unauthorized) || errors.Is(err, opencmg.Forbidden) || errors.Is(err, opencmg.Conflict) || errors.Is(err, opencmg.Invalid) {
		s.log.Warn("a host may not join", "component", componentProvider, "gateway", in.Gateway, "address", in.Address, "connection_point", sys.name, "token", in.TokenID, "err", err)
		return answer(w, http.StatusOK, adminservice.GatewayJoinReply{Refused: err.Error()})
	}
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, reply)
}

var errUnknownJoin = opencmg.Errorf(opencmg.Unauthorized, "the join token is not known: it was revoked, or belongs to another gateway")

// admit makes an instance of the host, in the transaction that counts the
// token's use. The same key again is the same instance and costs nothing: an
// answer was lost. Another key at the same place takes the place over: the host
// was set up anew.
func (s *Server) admit(tx *sitedb.Tx, sys *system, in *adminservice.GatewayJoinRequest, host string) (reply adminservice.GatewayJoinReply, err error) {
	token, err := get[joinTokenRecord](tx, kindJoinToken, in.TokenID)
	if errors.Is(err, opencmg.NotFound) {
		return reply, errUnknownJoin
	}
	if err != nil {
		return reply, err
	}
	g, err := get[gatewayRecord](tx, kindGateway, token.Value.GatewayID)
	if errors.Is(err, opencmg.NotFound) {
		return reply, errUnknownJoin
	}
	if err != nil {
		return reply, err
	}
	v := &g.Value
	key, err := hex.DecodeString(token.Value.Hash) // the SHA-256 of the secret
	if err != nil {
		return reply, fmt.Errorf("join token %s: %w", token.ID, err)
	}
	if token.Value.Kind != joinGateway || v.Prefix != in.Gateway || v.Model != adminservice.ModelSelfHosted || sys.gatewayID != g.ID || !opencmg.VerifyGatewayJoin(key, in.Exporter, in.Gateway, in.GatewayJoinProof) {
		return reply, errUnknownJoin
	}
	id, err := keyID(in.Request)
	if err != nil {
		return reply, err
	}
	now := s.cfg.Now()
	known := slices.IndexFunc(v.Machines, func(m machineRecord) bool { return m.ID == id })
	usable := token.Value
	if known >= 0 {
		usable.Uses++
	}
	if err := usable.usable(joinGateway, host, now); err != nil {
		return reply, err
	}
	if v.busy() {
		return reply, opencmg.Errorf(opencmg.Conflict, "gateway %s is %s: try again later", g.Name, v.State)
	}
	m := machineRecord{ID: id, Address: host, TunnelPort: token.Value.TunnelPort, HTTPSPort: token.Value.HTTPSPort}
	at := known
	if at < 0 {
		at = slices.IndexFunc(v.Machines, func(o machineRecord) bool {
			return o.Address == m.Address && o.TunnelPort == m.TunnelPort && o.HTTPSPort == m.HTTPSPort
		})
		token.Value.Uses--
		token.Value.Used++
		if err := token.put(tx, kindJoinToken); err != nil {
			return reply, err
		}
	}
	if at >= 0 {
		m.Number = v.Machines[at].Number
		v.Machines[at] = m
	} else {
		if m.Number = freeNumber(v.Machines); m.Number < 0 {
			return reply, opencmg.Errorf(opencmg.Conflict, "gateway %s has %d instances already: remove one first", g.Name, opencmg.MaxInstances)
		}
		v.Machines = append(v.Machines, m)
		slices.SortFunc(v.Machines, func(a, b machineRecord) int { return a.Number - b.Number })
	}
	cert, err := s.keys.issueFor(in.Request, pki.Template{
		CommonName: fmt.Sprintf("%s instance %d", v.Prefix, m.Number), URIs: []string{opencmg.GatewayInstanceURI(s.Code(), v.Prefix, m.Number)},
	}, now)
	if err != nil {
		return reply, err
	}
	if err := g.put(tx, kindGateway); err != nil {
		return reply, err
	}
	reply = adminservice.GatewayJoinReply{Instance: m.Number, Certificate: string(pki.EncodeCertificates(cert))}
	return reply, tx.AddStatusMessage(sitedb.StatusMessage{
		Component: componentProvider, Severity: sitedb.SeverityInfo, MessageID: msgJoined, SubjectKind: kindGateway, SubjectID: g.ID,
		Text: fmt.Sprintf("host %s is instance %d of gateway %s, by join token %s through connection point %s", host, m.Number, v.ServiceName, token.ID, sys.name),
	})
}

// keyID is the ID of a host that joins: the SHA-256 of its public key.
func keyID(request string) (string, error) {
	if _, err := pki.ParseRequest([]byte(request)); err != nil {
		return "", err
	}
	block, _ := pem.Decode([]byte(request))
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return "", opencmg.Errorf(opencmg.Invalid, "certificate request: %w", err)
	}
	sum := sha256.Sum256(csr.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:16]), nil
}

// freeNumber is the lowest number that no machine has, or -1.
func freeNumber(machines []machineRecord) int {
	for n := range opencmg.MaxInstances {
		if !slices.ContainsFunc(machines, func(m machineRecord) bool { return m.Number == n }) {
			return n
		}
	}
	return -1
}

// removeInstance takes a host out of a self-hosted gateway: connection points
// no longer dial it.
func (s *Server) removeInstance(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.RemoveInstance
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	found, err := s.findGateway(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	_, err = update(r.Context(), s.db, kindGateway, found.ID, func(tx *sitedb.Tx, rec *record[gatewayRecord]) error {
		if rec.Value.Model != adminservice.ModelSelfHosted {
			return opencmg.Errorf(opencmg.Conflict, "gateway %s is a %s: change its number of instances instead", rec.Name, rec.Value.Model)
		}
		before := len(rec.Value.Machines)
		rec.Value.Machines = slices.DeleteFunc(rec.Value.Machines, func(m machineRecord) bool { return m.Number == in.Number })
		if len(rec.Value.Machines) == before {
			return opencmg.Errorf(opencmg.NotFound, "gateway %s has no instance %d: GET Gateways/{id} lists those that it has", rec.Name, in.Number)
		}
		return s.audit(r.Context(), tx, msgChanged, kindGateway, rec.ID, "removed instance %d from gateway %s", in.Number, rec.Value.ServiceName)
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
