package web

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
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

// segments are the files of a journal. All but list belongs to one goroutine.
type segments struct {
	dir      string
	maxBytes int64
	maxAge   time.Duration
	now      func() time.Time

	file   *os.File // that is appended to, nil when none is open
	size   int64
	began  time.Time
	spoilt bool // the last segment can not be gone on with
}

// segmentTime is how long a segment takes records, so that old ones can go by
// the file.
const segmentTime = time.Hour

func (s *segments) most() int64 { return min(s.maxBytes/16, 16<<20) }

// list returns the paths, the oldest first.
func (s *segments) list() []string {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries { // sorted by name, and names are numbers of one length
		if _, ok := segmentNumber(e.Name()); ok {
			names = append(names, filepath.Join(s.dir, e.Name()))
		}
	}
	return names
}

func segmentNumber(name string) (int64, bool) {
	digits, ok := strings.CutSuffix(filepath.Base(name), segmentExt)
	n, err := strconv.ParseInt(digits, 16, 64)
	return n, ok && err == nil && len(digits) == 16
}

// open goes on with the last segment, or begins one and makes room for it.
func (s *segments) open() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	list := s.list()
	now := s.now()
	if len(list) > 0 && !s.spoilt {
		if err := s.resume(list[len(list)-1], now); err == nil {
			return nil
		}
	}
	s.spoilt = false
	s.makeRoom(list)
	n := now.UnixMilli()
	if len(list) > 0 {
		last, _ := segmentNumber(list[len(list)-1])
		n = max(n, last+1)
	}
	f, err := os.OpenFile(filepath.Join(s.dir, fmt.Sprintf("%016x%s", n, segmentExt)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(segmentMagic); err != nil {
		f.Close()
		os.Remove(f.Name())
		return err
	}
	s.file, s.size, s.began = f, int64(len(segmentMagic)), now
	return nil
}

var errNotResumed = errors.New("the segment is full or old")

// resume opens a segment of a process before this one, and cuts off what was
// half written.
func (s *segments) resume(name string, now time.Time) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	size, err := scanFrames(f, intact)
	created, _ := segmentNumber(name)
	age := now.Sub(time.UnixMilli(created))
	if size == 0 || size >= s.most() || age < 0 || age >= segmentTime {
		f.Close()
		return errNotResumed
	}
	if !errors.Is(err, io.EOF) {
		err = f.Truncate(size)
	} else {
		err = nil
	}
	if err == nil {
		_, err = f.Seek(size, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return err
	}
	s.file, s.size, s.began = f, size, time.UnixMilli(created)
	return nil
}

// append writes whole frames, in as many segments as they need. After an error
// it returns those that were not written.
func (s *segments) append(frames []byte) (rest []byte, err error) {
	for len(frames) > 0 {
		if s.file != nil && (s.size >= s.most() || s.now().Sub(s.began) >= segmentTime) {
			if err := s.close(); err != nil {
				return frames, err
			}
		}
		if s.file == nil {
			if err := s.open(); err != nil {
				return frames, err
			}
		}
		piece := 0
		for piece < len(frames) {
			frame, _, err := nextFrame(frames[piece:])
			if err != nil {
				return nil, err // never: appendFrame made them
			}
			if piece > 0 && s.size+int64(piece+len(frame)) > s.most() {
				break
			}
			piece += len(frame)
		}
		if err := s.write(frames[:piece]); err != nil {
			return frames, err
		}
		frames = frames[piece:]
	}
	return nil, nil
}

// write appends to the open segment. After an error nothing of b counts.
func (s *segments) write(b []byte) error {
	n, err := s.file.Write(b)
	if err == nil {
		s.size += int64(n)
		return nil
	}
	if s.file.Truncate(s.size) != nil {
		// What is half written ends the segment, for every reader.
		s.file.Close()
		s.file, s.spoilt = nil, true
		return err
	}
	if _, serr := s.file.Seek(s.size, io.SeekStart); serr != nil {
		s.file.Close()
		s.file = nil
	}
	return err
}

func (s *segments) sync() error {
	if s.file == nil {
		return nil
	}
	return s.file.Sync()
}

// close writes through and closes the segment that is open.
func (s *segments) close() error {
	if s.file == nil {
		return nil
	}
	err := errors.Join(s.file.Sync(), s.file.Close())
	s.file = nil
	return err
}

// tidy removes what is too old.
func (s *segments) tidy() {
	now := s.now()
	if s.file != nil && now.Sub(s.began) >= segmentTime {
		s.close()
	}
	for _, name := range s.list() {
		if s.isOpen(name) {
			continue
		}
		if fi, err := os.Stat(name); err == nil && now.Sub(fi.ModTime()) > s.maxAge {
			os.Remove(name)
		}
	}
}

// makeRoom removes the oldest segments, so that one more can become full. One that
// can not be removed, because somebody reads it on Windows, goes the next time.
func (s *segments) makeRoom(list []string) {
	sizes := make([]int64, len(list))
	total := s.most()
	for i, name := range list {
		if fi, err := os.Stat(name); err == nil {
			sizes[i] = fi.Size()
			total += sizes[i]
		}
	}
	for i, name := range list {
		if total <= s.maxBytes {
			return
		}
		if os.Remove(name) == nil {
			total -= sizes[i]
		}
	}
}

func (s *segments) isOpen(name string) bool {
	return s.file != nil && filepath.Base(s.file.Name()) == filepath.Base(name)
}

// poke wakes whoever waits on a channel of capacity 1, now or later.
func poke(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
