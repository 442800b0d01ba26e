package gateway

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
)

// Paths that the gateway answers itself (cmg-behaviour G22). The bodies of
// these answers are unknown (wire.md 13.3), so both are stated here and only
// here.
const (
	pathAADAuthInfo     = opencmg.ServerAuthPrefix + "AADAuthInfo"
	pathMetadataByToken = opencmg.ServerAuthPrefix + "ServiceMetadata"
	pathMetadataByCert  = opencmg.MutualAuthPrefix + "ServiceMetadata"
)

// An AADAuthInfo tells a client how to get a token of its tenant.
type AADAuthInfo struct {
	TenantID    string `json:"TenantId"`
	ClientAppID string `json:"ClientAppId"`
	ResourceURI string `json:"ResourceUri"`
}

// A ServiceMetadata tells a client which gateway it reached.
type ServiceMetadata struct {
	ServiceName string `json:"ServiceName"`
	// ConfigurationVersion is that of the published configuration in force.
	ConfigurationVersion uint64 `json:"ConfigurationVersion"`
	// InstanceNumber is that of the instance that answers. Callers who proved
	// themselves learn it, so that the connection analyzer knows whom it met
	// behind an address that leads to all.
	InstanceNumber *int `json:"InstanceNumber,omitempty"`
}

// metadataEndpoint carries the authentication of ServiceMetadata.
var metadataEndpoint = &endpoint{
	tokens: true, label: "ServiceMetadata",
	modes: []opencmg.AuthMode{opencmg.AuthEntra, opencmg.AuthCCMToken, opencmg.AuthClientToken},
}

// own answers the request if its path is the gateway's own.
func (s *Server) own(x *exchange, path, query []byte) bool {
	var serve func(*exchange, []byte) (any, *refusal)
	switch {
	case equalFold(path, pathAADAuthInfo):
		serve = s.aadAuthInfo
	case equalFold(path, pathMetadataByCert):
		serve = s.metadata
	case equalFold(path, pathMetadataByToken):
		serve = s.metadataByToken
	default:
		return false
	}
	switch string(x.scratch.req.Method) {
	case http.MethodGet:
		x.method = http.MethodGet
	case http.MethodHead:
		x.method = http.MethodHead
	default:
		x.refuse(&refusal{status: http.StatusMethodNotAllowed, cause: "method", allow: "GET, HEAD", verdict: "the gateway's own paths take GET and HEAD"})
		return true
	}
	if x.bodyLength != 0 {
		x.refuse(x.tooLarge())
		return true
	}
	answer, r := serve(x, query)
	if r != nil {
		x.refuse(r)
		return true
	}
	body, err := json.Marshal(answer)
	if err != nil {
		panic(err) // both types are plain structs
	}
	x.returned = int64(len(body))
	x.finish(http.StatusOK, "OK", "answered by the gateway", nil)
	x.out.reply(x, http.StatusOK, "OK", []field{{"Content-Type", "application/json"}, {"Cache-Control", "no-store"}}, body, false)
	return true
}

// metadata answers callers without a certificate too.
func (s *Server) metadata(x *exchange, _ []byte) (any, *refusal) {
	m := ServiceMetadata{ServiceName: x.snap.cfg.ServiceName, ConfigurationVersion: x.snap.cfg.Version}
	if x.caller == nil && len(x.peer.chain) > 0 {
		if c, r := x.byCertificate(metadataEndpoint); r == nil {
			x.caller = c
		}
	}
	if x.caller != nil {
		m.InstanceNumber = &s.cfg.Instance
	}
	return m, nil
}

func (s *Server) metadataByToken(x *exchange, query []byte) (any, *refusal) {
	c, r := x.byToken(metadataEndpoint)
	if r != nil {
		return nil, r
	}
	x.caller = c
	return s.metadata(x, query)
}

// aadAuthInfo answers anybody, so it says nothing about tenants that are not
// onboarded and lets nobody try out many.
func (s *Server) aadAuthInfo(x *exchange, query []byte) (any, *refusal) {
	if !s.anonymous.allow(x.peer.remote, x.started) {
		return nil, &refusal{status: http.StatusTooManyRequests, cause: "rate-limit", retry: true, verdict: "too many anonymous requests from one address"}
	}
	unknown := &refusal{status: http.StatusNotFound, cause: "tenant", verdict: "the query names no tenant that is onboarded and enabled"}
	for len(query) > 0 {
		var pair []byte
		pair, query, _ = bytes.Cut(query, []byte{'&'})
		name, value, _ := bytes.Cut(pair, []byte{'='})
		if !equalFold(name, "TenantID") {
			continue
		}
		id, err := url.QueryUnescape(string(value))
		if err != nil || !opencmg.IsGUID(id) {
			return nil, unknown
		}
		t := x.snap.tenants[strings.ToLower(id)]
		if t == nil {
			return nil, unknown
		}
		return AADAuthInfo{TenantID: t.ID, ClientAppID: t.ClientAppID, ResourceURI: t.ResourceURI}, nil
	}
	return nil, unknown
}

// Anonymous requests: a burst, then a steady rate, per address (IPv4) or /64
// (IPv6). A whole office may share an address.
const (
	anonymousBurst  = 200
	anonymousPerSec = 20
	maxBuckets      = 4096
)

// A rateLimiter is a set of token buckets in bounded memory. Buckets that are
// full again make room for newcomers; when there is none, they are refused.
type rateLimiter struct {
	mu      sync.Mutex // guards buckets
	buckets map[netip.Prefix]bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

func (b bucket) level(now time.Time) float64 {
	return min(anonymousBurst, b.tokens+now.Sub(b.at).Seconds()*anonymousPerSec)
}

func (l *rateLimiter) allow(remote net.Addr, now time.Time) bool {
	key := rateKey(remote)
	l.mu.Lock()
	defer l.mu.Unlock()
	b, known := l.buckets[key]
	if !known {
		if len(l.buckets) >= maxBuckets && !l.makeRoom(now) {
			return false
		}
		b = bucket{anonymousBurst, now}
	}
	level := b.level(now)
	if level < 1 {
		return false
	}
	if l.buckets == nil {
		l.buckets = map[netip.Prefix]bucket{}
	}
	l.buckets[key] = bucket{level - 1, now}
	return true
}

// makeRoom forgets buckets that are full again. Looking at a few at a time
// keeps a flood of addresses cheap.
func (l *rateLimiter) makeRoom(now time.Time) bool {
	looked, removed := 0, 0
	for key, b := range l.buckets {
		if b.level(now) >= anonymousBurst {
			delete(l.buckets, key)
			removed++
		}
		if looked++; looked == 64 {
			break
		}
	}
	return removed > 0
}

func rateKey(remote net.Addr) netip.Prefix {
	ap, err := netip.ParseAddrPort(remote.String())
	if err != nil {
		return netip.Prefix{}
	}
	addr, bits := ap.Addr().Unmap().WithZone(""), 32
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits)
	return p
}
