package http1

import (
	"bytes"
)

// MaxFields bounds the number of header fields of one message.
const MaxFields = 128

// A ParseError says why a message was refused. Status is the HTTP status that
// fits: 400, 501 for an unknown transfer coding, 505 for another version.
type ParseError struct {
	Status int
	Reason string
}

// Error implements the error interface.
func (e *ParseError) Error() string { return "malformed HTTP message: " + e.Reason }

func malformed(reason string) error { return &ParseError{Status: 400, Reason: reason} }

// A Field is one header field. Its slices point into the parsed buffer.
type Field struct{ Name, Value []byte }

// A RequestHead is the parsed head of a request. The zero value is ready to
// use, and one value may parse many heads.
type RequestHead struct {
	Method []byte
	Target []byte // as sent: origin-form, absolute-form, or "*"
	Minor  int    // of HTTP/1.x
	Fields []Field
	// Host is the value of the Host field, which HTTP/1.1 demands once.
	Host []byte
	// ContentLength is -1 when the field is absent.
	ContentLength int64
	Chunked       bool
	// Close is set when the connection ends after this message.
	Close     bool
	Expect100 bool
	// Upgrade is set when the Connection field nominates Upgrade.
	Upgrade bool
	// Nominates is set when a Connection field names anything but close and
	// keep-alive, see [RequestHead.Nominated].
	Nominates bool
}

// Parse reads a whole head, including its final empty line. The head must use
// CRLF line ends and frame its body in exactly one way.
func (h *RequestHead) Parse(b []byte) error {
	*h = RequestHead{Fields: h.Fields[:0], ContentLength: -1}
	line, rest, ok := cutLine(b)
	if !ok {
		return malformed("request line does not end in CRLF")
	}
	sp := bytes.IndexByte(line, ' ')
	if sp <= 0 {
		return malformed("request line has no method")
	}
	h.Method, line = line[:sp], line[sp+1:]
	if !isToken(h.Method) {
		return malformed("method is not a token")
	}
	sp = bytes.IndexByte(line, ' ')
	if sp <= 0 {
		return malformed("request line has no version")
	}
	h.Target, line = line[:sp], line[sp+1:]
	for _, c := range h.Target {
		if c <= ' ' || c >= 0x7f {
			return malformed("target has a control or non-ASCII byte")
		}
	}
	minor, err := parseVersion(line)
	if err != nil {
		return err
	}
	h.Minor = minor
	var f framing
	if h.Fields, err = parseFields(h.Fields, rest, &f); err != nil {
		return err
	}
	hosts := 0
	for i := range h.Fields {
		switch n := h.Fields[i].Name; {
		case len(n) == 4 && equalFold(n, "host"):
			hosts++
			h.Host = h.Fields[i].Value
		case len(n) == 6 && equalFold(n, "expect"):
			if !equalFold(h.Fields[i].Value, "100-continue") {
				return &ParseError{Status: 417, Reason: "unknown expectation"}
			}
			h.Expect100 = minor == 1
		}
	}
	if hosts > 1 || hosts == 0 && minor == 1 {
		return malformed("exactly one Host field is needed")
	}
	if !validHost(h.Host) {
		return malformed("Host field is not a host")
	}
	if f.chunked && minor == 0 {
		return malformed("chunked coding in HTTP/1.0")
	}
	h.ContentLength, h.Chunked = f.length, f.chunked
	h.Close = f.close || minor == 0 && !f.keepAlive
	h.Upgrade, h.Nominates = f.upgrade, f.nominates
	return nil
}

// Get returns the first field of the name, without regard to case, or nil.
func (h *RequestHead) Get(name string) []byte { return get(h.Fields, name) }

// Nominated reports whether the sender's Connection field names the field, so
// that it must not be forwarded (RFC 9110 7.6.1).
func (h *RequestHead) Nominated(name []byte) bool {
	return h.Nominates && nominated(h.Fields, name)
}

// A ResponseHead is the parsed head of a response.
type ResponseHead struct {
	Minor  int
	Status int
	Reason []byte
	Fields []Field
	// ContentLength is -1 when the field is absent.
	ContentLength int64
	Chunked       bool
	Close         bool
	// NoBody is set when the message ends with its head whatever its fields
	// say: answers to HEAD, and status 1xx, 204 and 304.
	NoBody    bool
	Nominates bool
}

// Parse reads a whole head, including its final empty line. method is that of
// the request, which decides whether a body follows.
func (h *ResponseHead) Parse(b []byte, method []byte) error {
	*h = ResponseHead{Fields: h.Fields[:0], ContentLength: -1}
	line, rest, ok := cutLine(b)
	if !ok {
		return malformed("status line does not end in CRLF")
	}
	if len(line) < 12 || line[8] != ' ' {
		return malformed("status line is too short")
	}
	minor, err := parseVersion(line[:8])
	if err != nil {
		return err
	}
	h.Minor = minor
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return malformed("status is not a number")
		}
		h.Status = h.Status*10 + int(c-'0')
	}
	if h.Status < 100 || h.Status > 599 {
		return malformed("status is out of range")
	}
	if len(line) > 12 {
		if line[12] != ' ' {
			return malformed("status is not followed by a blank")
		}
		h.Reason = line[13:]
		for _, c := range h.Reason {
			if c < ' ' && c != '\t' || c == 0x7f {
				return malformed("reason phrase has a control byte")
			}
		}
	}
	var f framing
	if h.Fields, err = parseFields(h.Fields, rest, &f); err != nil {
		return err
	}
	h.ContentLength, h.Chunked = f.length, f.chunked
	h.NoBody = h.Status < 200 || h.Status == 204 || h.Status == 304 || string(method) == "HEAD"
	h.Nominates = f.nominates
	h.Close = f.close || minor == 0 && !f.keepAlive ||
		!h.NoBody && !h.Chunked && h.ContentLength < 0 // the body ends with the connection
	return nil
}

// Get returns the first field of the name, without regard to case, or nil.
func (h *ResponseHead) Get(name string) []byte { return get(h.Fields, name) }

// Nominated reports whether the sender's Connection field names the field.
func (h *ResponseHead) Nominated(name []byte) bool {
	return h.Nominates && nominated(h.Fields, name)
}

// framing is what the fields say about the message's end and the connection.
type framing struct {
	length    int64
	chunked   bool
	close     bool
	keepAlive bool
	upgrade   bool
	nominates bool
}

func parseFields(fields []Field, b []byte, f *framing) ([]Field, error) {
	f.length = -1
	for {
		line, rest, ok := cutLine(b)
		if !ok {
			return fields, malformed("field line does not end in CRLF")
		}
		b = rest
		if len(line) == 0 {
			break
		}
		if len(fields) == MaxFields {
			return fields, &ParseError{Status: 431, Reason: "too many header fields"}
		}
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 || !isToken(line[:colon]) {
			// This also refuses folded lines and blanks before the colon.
			return fields, malformed("field name is not a token")
		}
		name, value := line[:colon], trimBlanks(line[colon+1:])
		for _, c := range value {
			if c < ' ' && c != '\t' || c == 0x7f {
				return fields, malformed("field value has a control byte")
			}
		}
		fields = append(fields, Field{name, value})
		switch len(name) {
		case 14:
			if equalFold(name, "content-length") {
				n, ok := parseLength(value)
				if !ok {
					return fields, malformed("Content-Length is not one decimal number")
				}
				if f.length >= 0 {
					return fields, malformed("Content-Length is repeated")
				}
				f.length = n
			}
		case 17:
			if equalFold(name, "transfer-encoding") {
				if f.chunked || !equalFold(value, "chunked") {
					return fields, &ParseError{Status: 501, Reason: "transfer coding other than chunked"}
				}
				f.chunked = true
			}
		case 10:
			if equalFold(name, "connection") {
				f.connection(value)
			}
		}
	}
	if len(b) != 0 {
		return fields, malformed("bytes after the head")
	}
	if f.chunked && f.length >= 0 {
		return fields, malformed("both Content-Length and Transfer-Encoding")
	}
	return fields, nil
}

func (f *framing) connection(value []byte) {
	for len(value) > 0 {
		var item []byte
		item, value = cutItem(value)
		switch {
		case equalFold(item, "close"):
			f.close = true
		case equalFold(item, "keep-alive"):
			f.keepAlive = true
		case equalFold(item, "upgrade"):
			f.upgrade = true
			f.nominates = true
		case len(item) > 0:
			f.nominates = true
		}
	}
}

func nominated(fields []Field, name []byte) bool {
	for i := range fields {
		if !equalFold(fields[i].Name, "connection") {
			continue
		}
		for value := fields[i].Value; len(value) > 0; {
			var item []byte
			if item, value = cutItem(value); bytes.EqualFold(item, name) {
				return true
			}
		}
	}
	return false
}

// IsHopByHop reports whether the field concerns one connection only and is
// never forwarded (RFC 9110 7.6.1 and 11.7).
func IsHopByHop(name []byte) bool {
	switch len(name) {
	case 2:
		return equalFold(name, "te")
	case 7:
		return equalFold(name, "trailer") || equalFold(name, "upgrade")
	case 10:
		return equalFold(name, "connection") || equalFold(name, "keep-alive")
	case 16:
		return equalFold(name, "proxy-connection")
	case 17:
		return equalFold(name, "transfer-encoding")
	case 18:
		return equalFold(name, "proxy-authenticate")
	case 19:
		return equalFold(name, "proxy-authorization")
	}
	return false
}

func get(fields []Field, name string) []byte {
	for i := range fields {
		if len(fields[i].Name) == len(name) && equalFold(fields[i].Name, name) {
			return fields[i].Value
		}
	}
	return nil
}

// cutLine splits b after its first CRLF. A CR or LF elsewhere is not a line
// end and makes the line invalid.
func cutLine(b []byte) (line, rest []byte, ok bool) {
	i := bytes.IndexByte(b, '\n')
	if i < 1 || b[i-1] != '\r' {
		return nil, b, false
	}
	return b[:i-1], b[i+1:], true
}

// cutItem splits a comma-separated list after its first item.
func cutItem(value []byte) (item, rest []byte) {
	if i := bytes.IndexByte(value, ','); i >= 0 {
		return trimBlanks(value[:i]), value[i+1:]
	}
	return trimBlanks(value), nil
}

func parseVersion(b []byte) (minor int, err error) {
	if len(b) != 8 || string(b[:5]) != "HTTP/" || b[6] != '.' {
		return 0, malformed("version is not HTTP/x.y")
	}
	if b[5] != '1' || b[7] != '0' && b[7] != '1' {
		return 0, &ParseError{Status: 505, Reason: "version is not HTTP/1.0 or HTTP/1.1"}
	}
	return int(b[7] - '0'), nil
}

// parseLength reads 1*DIGIT below 2^62; signs, lists and blanks are refused.
func parseLength(b []byte) (n int64, ok bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// validHost accepts reg-name, IPv4 and [IPv6], each with an optional port. An
// empty Host is allowed by RFC 9112 and refused by those who need one.
func validHost(b []byte) bool {
	for _, c := range b {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '.', c == '-', c == '_', c == ':', c == '[', c == ']':
		default:
			return false
		}
	}
	return true
}

func trimBlanks(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// equalFold compares b with lower, which must be lower-case ASCII.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i := range len(b) {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] && (lower[i] < 'A' || lower[i] > 'Z' || c != lower[i]+'a'-'A') {
			return false
		}
	}
	return true
}

// tokenTable marks the bytes of a token (RFC 9110 5.6.2).
var tokenTable = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()

func isToken(b []byte) bool {
	for _, c := range b {
		if !tokenTable[c] {
			return false
		}
	}
	return len(b) > 0
}
