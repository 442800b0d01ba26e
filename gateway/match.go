package gateway

import (
	"bytes"
	"slices"
	"strings"

	"github.com/opencmg/opencmg"
)

// A matcher finds the published endpoint of a canonical path. It is built once
// per configuration, never changes, and looks up without allocating. What it
// does not find does not exist on the internet.
type matcher struct {
	roles    map[string]*role   // by role ID
	services map[string][]*role // by first path segment in lower case; longest prefix first
}

// A role is a published role with its endpoints, the longest path first.
type role struct {
	opencmg.PublishedRole
	site      string // of the connection points, as the roster knows it
	prefix    string // lower case, of a service
	endpoints []*endpoint
}

// An endpoint is one published endpoint, ready for the hot path.
type endpoint struct {
	role      *role
	path      string // lower case
	published string // the same as configured
	methods   []string
	allow     string // the same as a field value
	max       int64
	hold      bool
	timeout   int64 // wait for the role's answer in milliseconds
	// pki, none: the modes that need no token. tokens: at least one token
	// mode; modes are all of them.
	pki, none, tokens bool
	modes             []opencmg.AuthMode
	name              string // "<role ID>/<endpoint name>"
	label             string // the endpoint name alone
	traffic           *traffic
}

// A door is the way by which a request came to its endpoint. It decides which
// of the endpoint's authentication modes count.
type door uint8

const (
	mutualAuth door = iota // below opencmg.MutualAuthPrefix: client certificate
	serverAuth             // below opencmg.ServerAuthPrefix: token
	service                // a service's own prefix: any mode of the endpoint
)

func newMatcher(cfg *opencmg.PublishedConfiguration, responseTimeout int64, t *trafficTable) *matcher {
	m := &matcher{roles: map[string]*role{}, services: map[string][]*role{}}
	for i := range cfg.Roles {
		r := &role{PublishedRole: cfg.Roles[i], site: strings.ToLower(string(cfg.Roles[i].Site)), prefix: strings.ToLower(cfg.Roles[i].Prefix)}
		for j := range r.Endpoints {
			r.endpoints = append(r.endpoints, newEndpoint(r, &r.Endpoints[j], responseTimeout, t))
		}
		slices.SortStableFunc(r.endpoints, func(a, b *endpoint) int { return len(b.path) - len(a.path) })
		if r.Kind == opencmg.KindService {
			first, _, _ := strings.Cut(r.prefix[1:], "/")
			m.services[first] = append(m.services[first], r)
		} else {
			m.roles[string(r.ID)] = r
		}
	}
	for _, list := range m.services {
		slices.SortStableFunc(list, func(a, b *role) int { return len(b.prefix) - len(a.prefix) })
	}
	return m
}

func newEndpoint(r *role, e *opencmg.Endpoint, responseTimeout int64, t *trafficTable) *endpoint {
	ep := &endpoint{
		role: r, path: strings.Trim(strings.ToLower(e.Path), "/"), published: e.Path,
		methods: e.Methods, allow: strings.Join(e.Methods, ", "),
		max: e.MaxContentLength, hold: e.Hold, timeout: responseTimeout,
		modes: e.Auth, name: string(r.ID) + "/" + e.Name, label: e.Name,
	}
	if e.ResponseTimeout > 0 {
		ep.timeout = int64(e.ResponseTimeout) * 1000
	}
	if ep.hold {
		ep.timeout = 0
	}
	for _, mode := range e.Auth {
		switch {
		case mode == opencmg.AuthPKI:
			ep.pki = true
		case mode == opencmg.AuthNone:
			ep.none = true
		case mode.ByToken():
			ep.tokens = true
		}
	}
	ep.traffic = t.endpoint(r, ep)
	return ep
}

// match returns the endpoint that publishes a canonical path, and the door
// that the path leads through; nil when nothing publishes it.
func (m *matcher) match(path []byte) (*endpoint, door) {
	if rest, ok := cutPrefixFold(path, opencmg.MutualAuthPrefix); ok {
		return m.byID(rest, mutualAuth), mutualAuth
	}
	if rest, ok := cutPrefixFold(path, opencmg.ServerAuthPrefix); ok {
		return m.byID(rest, serverAuth), serverAuth
	}
	if len(path) < 2 || len(m.services) == 0 {
		return nil, service
	}
	first, _, _ := bytes.Cut(path[1:], slash)
	var lower [64]byte
	if len(first) > len(lower) {
		return nil, service
	}
	for i, c := range first {
		lower[i] = toLower(c)
	}
	for _, r := range m.services[string(lower[:len(first)])] {
		if rest, ok := cutPrefixFold(path, r.prefix); ok {
			return r.match(rest), service
		}
		if len(path) == len(r.prefix)-1 && equalFold(path, r.prefix[:len(path)]) {
			return r.match(nil), service
		}
	}
	return nil, service
}

func (m *matcher) byID(rest []byte, d door) *endpoint {
	id, rest, _ := bytes.Cut(rest, slash)
	r := m.roles[string(id)]
	if r == nil {
		return nil
	}
	ep := r.match(rest)
	if ep == nil || !ep.none && (d == mutualAuth && !ep.pki || d == serverAuth && !ep.tokens) {
		return nil
	}
	return ep
}

func (r *role) match(rest []byte) *endpoint {
	if neverPublished(rest) {
		return nil
	}
	for _, e := range r.endpoints {
		switch {
		case e.path == "", len(rest) == len(e.path) && equalFold(rest, e.path),
			len(rest) > len(e.path) && rest[len(e.path)] == '/' && equalFold(rest[:len(e.path)], e.path):
			return e
		}
	}
	return nil
}

// neverPublished reports whether the path leads to one of a management point's
// Windows-authenticated or alternate applications, which answer without a
// client certificate (wire.md 1.2). Configuration can not name them; this also
// keeps them away from a role that is published as a whole.
func neverPublished(rest []byte) bool {
	first, _, _ := bytes.Cut(rest, slash)
	return containsFold(first, "_windowsauth") || containsFold(first, "_altauth")
}

// method returns the endpoint's own spelling of the method, so that nothing
// refers to the request's buffer; empty when it is not published.
func (e *endpoint) method(m []byte) string {
	for _, s := range e.methods {
		if string(m) == s {
			return s
		}
	}
	return ""
}

var slash = []byte{'/'}

// cutPrefixFold removes prefix from b without regard to ASCII case.
func cutPrefixFold(b []byte, prefix string) (rest []byte, ok bool) {
	if len(b) < len(prefix) || !equalFold(b[:len(prefix)], prefix) {
		return b, false
	}
	return b[len(prefix):], true
}

// equalFold compares without regard to ASCII case.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range len(b) {
		if b[i] != s[i] && toLower(b[i]) != toLower(s[i]) {
			return false
		}
	}
	return true
}

func containsFold(b []byte, sub string) bool {
	for i := 0; i+len(sub) <= len(b); i++ {
		if equalFold(b[i:i+len(sub)], sub) {
			return true
		}
	}
	return false
}

func toLower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
