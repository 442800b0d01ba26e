package connpoint

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/http1"
	"github.com/opencmg/opencmg/tunnel"
)

// What crosses from one side to the other, field by field. Nothing here does
// I/O.

// maxResponseHead bounds the head of a role's response.
const maxResponseHead = 32 << 10

var errTarget = errors.New("the target is not below the role's external path")

// appendRequest appends the head of the internal request to dst. in is the
// request as the gateway sent it, which has no hop-by-hop fields left; those
// that this side must not trust are deleted again, since a connection point
// does not rely on the gateway for what a role believes.
func appendRequest(dst []byte, h *host, in *http1.RequestHead, req *tunnel.Request) ([]byte, error) {
	m := &h.role.mapping
	dst = append(dst, in.Method...)
	dst = append(dst, ' ')
	dst, err := appendInternalTarget(dst, h.base, m.Prefix, string(m.Role), in.Target)
	if err != nil {
		return dst, err
	}
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, h.authority...)
	dst = append(dst, '\r', '\n')
	for i := range in.Fields {
		f := &in.Fields[i]
		if http1.IsHopByHop(f.Name) || in.Nominated(f.Name) || replacedInRequest(f.Name) {
			continue
		}
		dst = appendField(dst, f.Name, f.Value)
	}
	if h.role.identity && req.Identity != "" {
		dst = append(dst, opencmg.HeaderIdentity+": "...)
		dst = append(dst, req.Identity...)
		dst = append(dst, '\r', '\n')
	}
	if req.CorrelationID != "" {
		dst = append(dst, opencmg.HeaderCorrelationID+": "...)
		dst = append(dst, req.CorrelationID...)
		dst = append(dst, '\r', '\n')
	}
	switch {
	case req.BodyLength < 0:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	case req.BodyLength > 0 || in.ContentLength == 0:
		dst = append(dst, "Content-Length: "...)
		dst = strconv.AppendInt(dst, req.BodyLength, 10)
		dst = append(dst, '\r', '\n')
	}
	return append(dst, '\r', '\n'), nil
}

// replacedInRequest reports whether the field is ours to set or describes a
// hop that ends here. X-Forwarded-* and Forwarded come from clients and would
// be believed by roles that know proxies.
func replacedInRequest(name []byte) bool {
	if bytes.IndexByte(name, '_') >= 0 {
		// Some servers take the underscore for a hyphen.
		name = bytes.ReplaceAll(name, []byte{'_'}, []byte{'-'})
	}
	return foldEqual(name, "host") || foldEqual(name, "expect") || foldEqual(name, "content-length") ||
		foldEqual(name, "forwarded") || hasPrefixFold(name, "x-forwarded-") ||
		foldEqual(name, opencmg.HeaderCorrelationID) || hasPrefixFold(name, opencmg.HeaderPrefix)
}

// forwardTrailer reports whether a trailer field of a request is passed on; a
// role may merge trailers into the fields that were checked.
func forwardTrailer(name []byte) bool { return !replacedInRequest(name) }

// appendInternalTarget replaces everything up to and including the role ID,
// or the prefix of a service, by the internal root (wire.md 1.1).
func appendInternalTarget(dst []byte, base, prefix, role string, target []byte) ([]byte, error) {
	path, query := target, []byte(nil)
	if i := bytes.IndexByte(target, '?'); i >= 0 {
		path, query = target[:i], target[i:]
	}
	var rest []byte
	if prefix != "" {
		if !hasPrefixFold(path, prefix[:len(prefix)-1]) {
			return dst, errTarget
		}
		rest = path[len(prefix)-1:]
	} else {
		switch {
		case hasPrefixFold(path, opencmg.MutualAuthPrefix):
			rest = path[len(opencmg.MutualAuthPrefix):]
		case hasPrefixFold(path, opencmg.ServerAuthPrefix):
			rest = path[len(opencmg.ServerAuthPrefix):]
		default:
			return dst, errTarget
		}
		if len(rest) < len(role) || string(rest[:len(role)]) != role {
			return dst, errTarget
		}
		rest = rest[len(role):]
	}
	if len(rest) > 0 && rest[0] != '/' {
		return dst, errTarget
	}
	dst = append(dst, base...)
	if len(rest) == 0 {
		dst = append(dst, '/')
	}
	dst = append(dst, rest...)
	return append(dst, query...), nil
}

// appendResponse appends the head that goes back to the gateway, without
// hop-by-hop fields; the gateway frames the body anew. A status of 400 or more
// gets the reason phrase that clients know (cmg-behaviour G26, wire.md 1.4).
func appendResponse(dst []byte, res *http1.ResponseHead) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(res.Status), 10)
	dst = append(dst, ' ')
	if res.Status >= 400 {
		dst = appendReason(dst, res.Status, res.Reason)
	} else {
		dst = append(dst, res.Reason...)
	}
	dst = append(dst, '\r', '\n')
	for i := range res.Fields {
		f := &res.Fields[i]
		if http1.IsHopByHop(f.Name) || res.Nominated(f.Name) || hasPrefixFold(f.Name, opencmg.HeaderPrefix) ||
			foldEqual(f.Name, opencmg.HeaderCorrelationID) || res.Status == 204 && foldEqual(f.Name, "content-length") {
			continue
		}
		dst = appendField(dst, f.Name, f.Value)
	}
	return append(dst, '\r', '\n')
}

// appendReason appends CMGConnector_ and the role's reason phrase without its
// spaces.
func appendReason(dst []byte, status int, reason []byte) []byte {
	dst = append(dst, opencmg.ReasonConnectionPrefix...)
	from := len(dst)
	for _, c := range reason {
		if c > ' ' && c < 0x7f && len(dst) < from+100 {
			dst = append(dst, c)
		}
	}
	if len(dst) == from {
		text := http.StatusText(status)
		if text == "" {
			text = strconv.Itoa(status)
		}
		dst = append(dst, strings.ReplaceAll(text, " ", "")...)
	}
	return dst
}

func appendField(dst, name, value []byte) []byte {
	dst = append(dst, name...)
	dst = append(dst, ':', ' ')
	dst = append(dst, value...)
	return append(dst, '\r', '\n')
}

// foldEqual compares without regard to ASCII case and does not allocate.
func foldEqual(b []byte, s string) bool { return len(b) == len(s) && hasPrefixFold(b, s) }

func hasPrefixFold(b []byte, s string) bool {
	if len(b) < len(s) {
		return false
	}
	for i := range len(s) {
		x, y := b[i], s[i]
		if x == y {
			continue
		}
		if x |= 0x20; x != y|0x20 || x < 'a' || x > 'z' {
			return false
		}
	}
	return true
}
