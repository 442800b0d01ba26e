package ccm

import (
	"bytes"
	"compress/zlib"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"
	"sync"

	"github.com/opencmg/opencmg"
)

// boundary is the one that the vendor's library and every tool derived from it
// send; receivers that compare it as text exist.
const boundary = "aAbBcCdDv1234567890VxXyYzZ"

// splitParts cuts a multipart body (RFC 2046 section 5.1) into the contents of
// its parts. The parts are slices of body; their fields are not needed,
// because the order says which part is which and the bytes say how they are
// coded. mime/multipart would copy, and gives up on variants that clients send.
func splitParts(contentType string, body []byte) ([][]byte, error) {
	mark, err := boundaryOf(contentType)
	if err != nil {
		return nil, err
	}
	delimiter := []byte("--" + mark)
	rest := body
	if i := bytes.Index(rest, delimiter); i >= 0 {
		rest = rest[i+len(delimiter):]
	} else {
		return nil, opencmg.Errorf(opencmg.Invalid, "multipart body does not contain its boundary")
	}
	var parts [][]byte
	for !bytes.HasPrefix(rest, []byte("--")) {
		if len(parts) == maxParts {
			return nil, opencmg.Errorf(opencmg.TooLarge, "multipart body has more than %d parts", maxParts)
		}
		if _, rest, err = cutLine(rest); err != nil {
			return nil, err
		}
		for {
			var line []byte
			if line, rest, err = cutLine(rest); err != nil {
				return nil, err
			}
			if len(line) == 0 {
				break
			}
		}
		// Before the next boundary stands a CRLF; only when there is none
		// anywhere does the bare boundary count.
		end, skip := bytes.Index(rest, append([]byte("\r\n"), delimiter...)), 2
		if end < 0 {
			end, skip = bytes.Index(rest, delimiter), 0
		}
		if end < 0 {
			return nil, opencmg.Errorf(opencmg.Invalid, "multipart body is cut short")
		}
		parts = append(parts, rest[:end])
		rest = rest[end+skip+len(delimiter):]
	}
	return parts, nil
}

func boundaryOf(contentType string) (string, error) {
	mediaType, params, err := mime.ParseMediaType(contentType)
	if err != nil || !strings.HasPrefix(mediaType, "multipart/") || params["boundary"] == "" || len(params["boundary"]) > 200 {
		return "", &opencmg.Error{Kind: opencmg.Invalid, Msg: "Content-Type must be multipart with a boundary", Err: err}
	}
	return params["boundary"], nil
}

// cutLine returns the text up to CRLF or LF. Field lines are short.
func cutLine(b []byte) (line, rest []byte, err error) {
	i := bytes.IndexByte(b[:min(len(b), 4096)], '\n')
	if i < 0 {
		return nil, nil, opencmg.Errorf(opencmg.Invalid, "multipart body is cut short")
	}
	return bytes.TrimSuffix(b[:i], []byte("\r")), b[i+1:], nil
}

// joinParts writes the two parts in the layout that every receiver accepts:
// CRLF lines, nothing before the first boundary, nothing behind the last.
func joinParts(header string, second []byte, compressed bool) (contentType string, body []byte, err error) {
	first := encodeUTF16Mark(header)
	mark := boundary
	for bytes.Contains(second, []byte(mark)) || bytes.Contains(first, []byte(mark)) {
		mark = rand.Text()
	}
	kind := "text/plain; charset=UTF-16"
	if compressed {
		kind = "application/octet-stream"
	}
	var b bytes.Buffer
	b.Grow(len(first) + len(second) + 256)
	fmt.Fprintf(&b, "--%s\r\ncontent-type: text/plain; charset=UTF-16\r\n\r\n", mark)
	b.Write(first)
	fmt.Fprintf(&b, "\r\n--%s\r\ncontent-type: %s\r\n\r\n", mark, kind)
	b.Write(second)
	fmt.Fprintf(&b, "\r\n--%s--", mark)
	return `multipart/mixed; boundary="` + mark + `"`, b.Bytes(), nil
}

// inflate undoes the zlib coding of a second part (RFC 1950), if it has one:
// no text in UTF-16 or UTF-8 begins like a zlib stream, so the bytes decide,
// whatever the part's fields say. limit bounds the result, 0 is DefaultMaxText.
func inflate(b []byte, limit int64) ([]byte, error) {
	if limit <= 0 {
		limit = DefaultMaxText
	}
	if len(b) < 2 || b[0]&0x0f != 8 || (int(b[0])<<8|int(b[1]))%31 != 0 {
		if int64(len(b)) > limit {
			return nil, opencmg.Errorf(opencmg.TooLarge, "message is longer than %d bytes", limit)
		}
		return b, nil
	}
	z, err := zlib.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, &opencmg.Error{Kind: opencmg.Invalid, Msg: "message body is no zlib stream", Err: err}
	}
	defer z.Close()
	var out bytes.Buffer
	n, err := io.Copy(&out, io.LimitReader(z, limit+1))
	if n > limit {
		return nil, opencmg.Errorf(opencmg.TooLarge, "message is longer than %d bytes uncompressed", limit)
	}
	if err != nil {
		return nil, &opencmg.Error{Kind: opencmg.Invalid, Msg: "message body is a broken zlib stream", Err: err}
	}
	return out.Bytes(), nil
}

var deflaters = sync.Pool{New: func() any { return zlib.NewWriter(nil) }}

func deflate(b []byte) []byte {
	var out bytes.Buffer
	w := deflaters.Get().(*zlib.Writer)
	defer deflaters.Put(w)
	w.Reset(&out)
	if _, err := w.Write(b); err != nil {
		panic("ccm: " + err.Error()) // a bytes.Buffer takes everything
	}
	if err := w.Close(); err != nil {
		panic("ccm: " + err.Error())
	}
	return out.Bytes()
}

var errEmptyText = errors.New("there is no text")

// decodeText reads the text of a part: UTF-16LE with or without mark, NULs and
// final CRLF. UTF-8 is taken as well, since nothing else begins with '<' and a
// byte other than NUL.
func decodeText(b []byte) (string, error) {
	// The CRLF is two bytes, not two UTF-16 characters (wire.md 3.1).
	for bytes.HasSuffix(b, []byte("\r\n")) {
		b = b[:len(b)-2]
	}
	if len(b) >= 2 && b[0] == '<' && b[1] != 0 {
		return strings.ToValidUTF8(strings.TrimRight(string(b), "\x00"), "\uFFFD"), nil
	}
	text, err := DecodeUTF16(b)
	if err != nil {
		return "", err
	}
	if text == "" {
		return "", &opencmg.Error{Kind: opencmg.Invalid, Msg: "message part is empty", Err: errEmptyText}
	}
	return text, nil
}
