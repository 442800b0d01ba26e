package web

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

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
