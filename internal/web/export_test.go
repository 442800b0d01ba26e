package web

import (
	"bytes"
	"context"
	"os"
)

// JournalBuffer is the bound of what waits for the writer, in bytes.
const JournalBuffer = journalBuffer

// WriteTo makes the journal append to a file that is not its own, before Run.
func (j *Journal) WriteTo(f *os.File) { j.segments.file, j.segments.began = f, j.cfg.Now() }

// ReadSegment returns what a reader makes of the bytes of a segment.
func ReadSegment(b []byte) (size int64, list []Record) {
	size, _ = scanFrames(bytes.NewReader(b), func(frame, payload []byte) bool {
		if !intact(frame, payload) {
			return false
		}
		r, err := parseRecord(payload)
		if err == nil {
			list = append(list, *r)
		}
		return true
	})
	return size, list
}

// Segment is a segment that holds the records.
func Segment(list ...Record) []byte {
	b := []byte(segmentMagic)
	for i := range list {
		b = appendFrame(b, &list[i])
	}
	return b
}

// Flush has everything written that was added.
func (j *Journal) Flush(ctx context.Context) { j.flush(ctx) }
