package http1

import "bytes"

// CanonicalTarget splits a request target into its path and query and appends
// the canonical path to dst. The path starts with a slash and keeps its case;
// percent-encoded unreserved characters are decoded and other escapes get
// capital digits, so that one resource has one spelling. The query is returned
// as sent, without its question mark, and points into target.
//
// A target with more than one reading is refused: encoded slashes,
// backslashes, percent signs and control bytes, overlong UTF-8, dot segments in
// every guise, empty segments, fragments. An absolute-form target is accepted, and host then holds its
// authority; it is nil otherwise.
func CanonicalTarget(dst, target []byte) (path, query, host []byte, err error) {
	if len(target) == 0 {
		return nil, nil, nil, malformed("target is empty")
	}
	if target[0] != '/' {
		if target, host, err = absoluteForm(target); err != nil {
			return nil, nil, nil, err
		}
	}
	if i := bytes.IndexByte(target, '?'); i >= 0 {
		target, query = target[:i], target[i+1:]
		if bytes.IndexByte(query, '#') >= 0 {
			return nil, nil, nil, malformed("target has a fragment")
		}
	}
	start := len(dst)
	segment := start // where the current segment's slash stands in dst
	for i := 0; i < len(target); i++ {
		c := target[i]
		switch {
		case c == '/':
			if i > 0 {
				if err := checkSegment(dst[segment+1:]); err != nil {
					return nil, nil, nil, err
				}
				if len(dst) == segment+1 {
					return nil, nil, nil, malformed("target has an empty segment")
				}
			}
			segment = len(dst)
			dst = append(dst, '/')
		case c == '%':
			if i+2 >= len(target) {
				return nil, nil, nil, malformed("target has a cut-off escape")
			}
			hi, lo := unhex(target[i+1]), unhex(target[i+2])
			if hi < 0 || lo < 0 {
				return nil, nil, nil, malformed("target has an invalid escape")
			}
			d := byte(hi<<4 | lo)
			var before byte
			if i >= 3 && target[i-3] == '%' {
				before = byte(unhex(target[i-2])<<4 | unhex(target[i-1]))
			}
			i += 2
			switch {
			case d >= 0x80 && overlong(before, d):
				return nil, nil, nil, malformed("target has an overlong UTF-8 sequence")
			case d < ' ' || d == 0x7f || d == '/' || d == '\\' || d == '%':
				return nil, nil, nil, malformed("target hides a separator or control byte in an escape")
			case unreserved(d):
				dst = append(dst, d)
			default:
				const digits = "0123456789ABCDEF"
				dst = append(dst, '%', digits[hi], digits[lo])
			}
		case c <= ' ' || c >= 0x7f || c == '\\' || c == '#' || c == '"' || c == '<' || c == '>' || c == '^' || c == '`' || c == '|':
			return nil, nil, nil, malformed("target has a byte that is not allowed in a path")
		default:
			// Braces are not URI characters, yet clients send them in policy
			// IDs (wire.md 6.1), so they pass unescaped.
			dst = append(dst, c)
		}
	}
	if err := checkSegment(dst[segment+1:]); err != nil {
		return nil, nil, nil, err
	}
	return dst[start:], query, host, nil
}

func absoluteForm(target []byte) (rest, host []byte, err error) {
	for _, scheme := range []string{"https://", "http://"} {
		if len(target) > len(scheme) && equalFold(target[:len(scheme)], scheme) {
			rest = target[len(scheme):]
			i := bytes.IndexAny(rest, "/?")
			if i < 0 {
				i = len(rest)
			}
			host, rest = rest[:i], rest[i:]
			if len(host) == 0 || !validHost(host) {
				return nil, nil, malformed("target names no host")
			}
			if len(rest) == 0 || rest[0] == '?' {
				rest = append([]byte{'/'}, rest...)
			}
			return rest, host, nil
		}
	}
	return nil, nil, malformed("target is neither a path nor an absolute URL")
}

// checkSegment refuses the segments "." and "..", and what servers are known to
// take for them: with a path parameter behind (..;x), with dots and blanks that
// Windows drops at the end of names, and with the full-width dot of Unicode.
func checkSegment(s []byte) error {
	for dot := false; ; {
		switch {
		case len(s) == 0, s[0] == ';', bytes.HasPrefix(s, escapedSemicolon):
			if dot {
				return malformed("target has a dot segment")
			}
			return nil
		case s[0] == '.':
			dot, s = true, s[1:]
		case bytes.HasPrefix(s, escapedBlank):
			s = s[len(escapedBlank):]
		case bytes.HasPrefix(s, escapedWideDot):
			dot, s = true, s[len(escapedWideDot):]
		default:
			return nil
		}
	}
}

var (
	escapedBlank     = []byte("%20")
	escapedSemicolon = []byte("%3B")
	escapedWideDot   = []byte("%EF%BC%8E")
)

// overlong reports whether the UTF-8 byte c behind prev begins or continues a
// spelling that is longer than needed, by which decoders that are not strict
// are made to see separators.
func overlong(prev, c byte) bool {
	return c == 0xc0 || c == 0xc1 || prev == 0xe0 && c < 0xa0 || prev == 0xf0 && c < 0x90
}

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
