package http1

import (
	"io"
	"strconv"
)

const (
	maxChunkLine = 256     // size line with extensions, which are dropped
	maxTrailers  = 8 << 10 // all trailer fields of one message
)

// LastChunk ends a chunked body that has no trailers.
const LastChunk = "0\r\n\r\n"

// AppendChunk appends p as one chunk (RFC 9112 7.1). An empty p appends
// nothing, since an empty chunk would end the body.
func AppendChunk(dst, p []byte) []byte {
	if len(p) == 0 {
		return dst
	}
	dst = strconv.AppendInt(dst, int64(len(p)), 16)
	dst = append(dst, '\r', '\n')
	dst = append(dst, p...)
	return append(dst, '\r', '\n')
}

// A Body reads the body of one message. Reset prepares it for the next; the
// zero value is an empty body.
type Body struct {
	r        *Reader
	left     int64 // of the body, or of the current chunk
	mode     bodyMode
	inChunk  bool // the CRLF after the current chunk is still to be read
	trailers []byte
	err      error
}

type bodyMode uint8

const (
	bodyDone bodyMode = iota
	bodyLength
	bodyChunked
	bodyUntilEOF
)

// Reset makes b read from r: chunked, or length bytes, or until the connection
// ends when length is negative.
func (b *Body) Reset(r *Reader, length int64, chunked bool) {
	*b = Body{r: r, left: length}
	switch {
	case chunked:
		b.left, b.mode = 0, bodyChunked
	case length < 0:
		b.mode = bodyUntilEOF
	case length > 0:
		b.mode = bodyLength
	}
}

// Done reports whether the whole body was read.
func (b *Body) Done() bool { return b.mode == bodyDone }

// Trailers returns the trailer fields as received, each line with its CRLF, or
// nil. It is meaningful once Read returned io.EOF.
func (b *Body) Trailers() []byte { return b.trailers }

// Read reads body bytes. It returns io.EOF at the end of the body,
// io.ErrUnexpectedEOF when the connection ended before that, and a
// [*ParseError] for malformed chunks.
func (b *Body) Read(p []byte) (n int, err error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err = b.read(p)
	if err != nil {
		b.err = err
	}
	return n, err
}

func (b *Body) read(p []byte) (n int, err error) {
	switch b.mode {
	case bodyDone:
		return 0, io.EOF
	case bodyUntilEOF:
		if n, err = b.r.Read(p); err == io.EOF {
			b.mode = bodyDone
		}
		return n, err
	case bodyChunked:
		if b.left == 0 {
			if err := b.nextChunk(); err != nil {
				return 0, err
			}
		}
	}
	if len(p) == 0 {
		return 0, nil
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err = b.r.Read(p)
	b.left -= int64(n)
	switch {
	case b.left == 0 && b.mode == bodyLength:
		b.mode = bodyDone
		return n, nil
	case n > 0:
		return n, nil
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// FilterTrailers returns the trailer lines, each with its CRLF, that may be
// forwarded: those that keep allows and that neither frame nor route the
// message nor speak for its sender (RFC 9110 6.5.1), since recipients may merge
// trailers into the header fields that were checked before. It returns nil when
// a line is malformed, nothing is left, or more than 8 KiB are.
func FilterTrailers(lines []byte, keep func(name []byte) bool) []byte {
	if len(lines) == 0 {
		return nil
	}
	var f framing
	fields, err := parseFields(nil, append(lines[:len(lines):len(lines)], '\r', '\n'), &f)
	if err != nil {
		return nil
	}
	var out []byte
	for i := range fields {
		name, value := fields[i].Name, fields[i].Value
		if IsHopByHop(name) || notInTrailers(name) || !keep(name) {
			continue
		}
		out = append(append(append(append(out, name...), ": "...), value...), '\r', '\n')
	}
	if len(out) > maxTrailers {
		return nil
	}
	return out
}

func notInTrailers(name []byte) bool {
	for _, s := range []string{"host", "content-length", "content-type", "content-encoding", "content-range", "expect",
		"authorization", "cookie", "set-cookie", "www-authenticate", "location"} {
		if equalFold(name, s) {
			return true
		}
	}
	return false
}

func (b *Body) nextChunk() error {
	if b.inChunk {
		end, err := b.r.line(0)
		if err != nil {
			return err
		}
		if len(end) != 0 {
			return malformed("chunk is longer than its size")
		}
		b.inChunk = false
	}
	line, err := b.r.line(maxChunkLine)
	if err != nil {
		return err
	}
	if b.left, err = chunkSize(line); err != nil {
		return err
	}
	if b.left > 0 {
		b.inChunk = true
		return nil
	}
	for {
		line, err := b.r.line(maxTrailers)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			b.mode = bodyDone
			return io.EOF
		}
		if len(b.trailers)+len(line)+2 > maxTrailers {
			return &ParseError{Status: 431, Reason: "trailers are too large"}
		}
		b.trailers = append(append(b.trailers, line...), '\r', '\n')
		var f framing
		check := append(b.trailers[len(b.trailers)-len(line)-2:], '\r', '\n')
		var one [1]Field
		fields, err := parseFields(one[:0], check, &f)
		if err != nil {
			return err
		}
		if len(fields) != 1 || f.length >= 0 || f.chunked || equalFold(fields[0].Name, "host") {
			return malformed("trailer field frames or routes the message")
		}
	}
}

// chunkSize reads 1*HEXDIG; an extension after a semicolon is ignored.
func chunkSize(line []byte) (n int64, err error) {
	digits := 0
	for _, c := range line {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		case (c == ';' || c == ' ' || c == '\t') && digits > 0:
			for _, c := range line[digits:] {
				if c < ' ' && c != '\t' || c == 0x7f {
					return 0, malformed("chunk extension has a control byte")
				}
			}
			return n, nil
		default:
			return 0, malformed("chunk size is not hexadecimal")
		}
		if digits++; digits > 15 {
			return 0, malformed("chunk size is too large")
		}
		n = n<<4 | int64(c)
	}
	if digits == 0 {
		return 0, malformed("chunk has no size")
	}
	return n, nil
}
