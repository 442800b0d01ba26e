package web

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"strings"
	"time"
)

// A segment is a file that begins with segmentMagic and goes on with frames:
//
//	length of payload  4 bytes, little endian
//	CRC-32C of payload 4 bytes, little endian
//	payload            flags (1 byte), then the fields in the order of
//	                   appendFrame; texts and lists are preceded by their
//	                   length, numbers are variable-length integers
//
// The first frame that is cut off or does not fit its sum ends a segment: nothing
// behind it was on disk for certain when the plug was pulled.
const (
	segmentMagic = "OCMGREC\x01"
	segmentExt   = ".records"
	frameHead    = 8
	maxPayload   = 48 << 10

	flagFailed = 1 << 0
)

// Bounds of what is kept of one record, in bytes.
const (
	maxName    = 1 << 10 // names, method, endpoint, client
	maxPath    = 4 << 10
	maxVerdict = 8 << 10
	maxDetail  = 1 << 10
	maxDetails = 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendFrame appends the record as a frame. Texts that are too long are cut.
func appendFrame(b []byte, r *Record) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	flags := byte(0)
	if failedRecord(r) {
		flags = flagFailed
	}
	b = append(b, flags)
	b = appendText(b, r.CorrelationID, maxName)
	b = binary.AppendVarint(b, r.Time.UnixNano())
	b = appendText(b, r.Hop, maxName)
	b = appendText(b, r.Where, maxName)
	b = appendText(b, r.Method, maxName)
	b = appendText(b, r.Path, maxPath)
	b = appendText(b, r.Endpoint, maxName)
	b = appendText(b, r.Role, maxName)
	b = appendText(b, r.Client, maxName)
	b = binary.AppendVarint(b, int64(r.Status))
	b = appendText(b, r.Reason, maxName)
	b = appendText(b, r.Verdict, maxVerdict)
	details := r.Details[:min(len(r.Details), maxDetails)]
	b = binary.AppendUvarint(b, uint64(len(details)))
	for _, d := range details {
		b = appendText(b, d, maxDetail)
	}
	b = binary.AppendVarint(b, int64(r.Duration))
	b = binary.AppendVarint(b, r.RequestBytes)
	b = binary.AppendVarint(b, r.ResponseBytes)
	payload := b[start+frameHead:]
	binary.LittleEndian.PutUint32(b[start:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(b[start+4:], crc32.Checksum(payload, castagnoli))
	return b
}

func appendText(b []byte, s string, most int) []byte {
	s = s[:min(len(s), most)]
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

var errFrame = errors.New("the frame is damaged")

// nextFrame splits the first frame off b. It trusts the length and not the sum.
func nextFrame(b []byte) (frame, payload []byte, err error) {
	if len(b) < frameHead {
		return nil, nil, errFrame
	}
	n := int64(binary.LittleEndian.Uint32(b))
	if n == 0 || n > maxPayload || int64(len(b)) < frameHead+n {
		return nil, nil, errFrame
	}
	return b[:frameHead+n], b[frameHead : frameHead+n], nil
}

func intact(frame, payload []byte) bool {
	return binary.LittleEndian.Uint32(frame[4:]) == crc32.Checksum(payload, castagnoli)
}

// A payloadReader reads fields until one does not fit.
type payloadReader struct {
	b   []byte
	bad bool
}

func (p *payloadReader) number() int64 {
	v, n := binary.Varint(p.b)
	if n <= 0 {
		p.bad, p.b = true, nil
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *payloadReader) length() int {
	v, n := binary.Uvarint(p.b)
	if n <= 0 || v > uint64(len(p.b)-n) {
		p.bad, p.b = true, nil
		return 0
	}
	p.b = p.b[n:]
	return int(v)
}

func (p *payloadReader) text() string {
	n := p.length()
	s := string(p.b[:n])
	p.b = p.b[n:]
	return strings.ToValidUTF8(s, "\uFFFD") // a text may have been cut
}

// parseRecord reads the payload of a frame.
func parseRecord(payload []byte) (*Record, error) {
	if len(payload) == 0 {
		return nil, errFrame
	}
	p := &payloadReader{b: payload[1:]}
	r := &Record{CorrelationID: p.text()}
	r.Time = time.Unix(0, p.number()).UTC()
	r.Hop, r.Where, r.Method, r.Path = p.text(), p.text(), p.text(), p.text()
	r.Endpoint, r.Role, r.Client = p.text(), p.text(), p.text()
	r.Status = int(p.number())
	r.Reason, r.Verdict = p.text(), p.text()
	n := p.length()
	if n > maxDetails {
		return nil, errFrame
	}
	for range n {
		r.Details = append(r.Details, p.text())
	}
	r.Duration = time.Duration(p.number())
	r.RequestBytes, r.ResponseBytes = p.number(), p.number()
	if p.bad {
		return nil, errFrame
	}
	return r, nil
}

// hasID reports whether the payload is of the correlation ID, which is its first
// field.
func hasID(payload []byte, id string) bool {
	p := payloadReader{b: payload[1:]}
	n := p.length()
	return n == len(id) && string(p.b[:n]) == id
}

// scanFrames calls f with every frame in turn, until one is damaged or f returns
// false. It returns the length of what came before that, the magic included.
func scanFrames(r io.Reader, f func(frame, payload []byte) bool) (int64, error) {
	br := bufio.NewReaderSize(r, 256<<10)
	magic, err := br.Peek(len(segmentMagic))
	if err != nil || string(magic) != segmentMagic {
		return 0, errFrame
	}
	br.Discard(len(segmentMagic))
	size := int64(len(segmentMagic))
	for {
		head, err := br.Peek(frameHead)
		if err != nil {
			if len(head) > 0 {
				err = errFrame
			}
			return size, err
		}
		n := int64(binary.LittleEndian.Uint32(head))
		if n == 0 || n > maxPayload {
			return size, errFrame
		}
		b, err := br.Peek(frameHead + int(n))
		if err != nil {
			return size, errFrame
		}
		if !f(b, b[frameHead:]) {
			return size, errFrame
		}
		br.Discard(len(b))
		size += int64(len(b))
	}
}

// readSegment calls found with the records of one correlation ID until it
// returns false; the error is then io.EOF. A segment that is damaged somewhere
// counts up to there.
func readSegment(ctx context.Context, name, id string, found func(*Record) bool) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	enough, n := false, 0
	scanFrames(f, func(frame, payload []byte) bool {
		if n++; n%4096 == 0 && ctx.Err() != nil {
			return false
		}
		if !hasID(payload, id) {
			return true
		}
		if !intact(frame, payload) {
			return false
		}
		r, err := parseRecord(payload)
		if err != nil {
			return false
		}
		enough = !found(r)
		return !enough
	})
	if enough {
		return io.EOF
	}
	return nil
}
