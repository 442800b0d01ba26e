package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/opencmg/opencmg"
)

// Defaults and bounds of a [Journal].
const (
	DefaultJournalBytes = 512 << 20 // a day of more than a million requests
	DefaultJournalAge   = 24 * time.Hour
	// MinJournalBytes is the smallest size limit that makes sense.
	MinJournalBytes = 1 << 20

	// journalBuffer bounds the bytes that wait for the writer. What was served
	// may use three quarters of it, so that refusals and failures are lost last.
	journalBuffer  = 4 << 20
	journalSettles = 200 * time.Millisecond // of records that are written together
	journalSync    = time.Second            // a pulled plug loses no more than this
	journalTidy    = time.Minute
	// A disk that does not take what is written is tried again after this.
	journalRetryLow, journalRetryHigh = time.Second, 30 * time.Second
)

// JournalConfig says what a [Journal] needs. Only Dir must be set.
type JournalConfig struct {
	// Dir holds the segments and nothing else. It is made when missing.
	Dir string
	// MaxBytes bounds all segments together; 0 means DefaultJournalBytes. The
	// oldest go first.
	MaxBytes int64
	// MaxAge is how long a record is kept; 0 means DefaultJournalAge.
	MaxAge   time.Duration
	Log      *slog.Logger         // nil discards
	Registry *prometheus.Registry // nil: no metrics
	Now      func() time.Time     // nil means time.Now
}

// A Journal keeps records on disk for a day, in segments that are only appended
// to (segment.go, segments.go). Adding one copies it into a bounded buffer and never waits for
// the disk: what the disk does not take is dropped and counted, refusals and
// failures last. A restart goes on where the last process ended.
type Journal struct {
	cfg   JournalConfig
	wake  chan struct{}      // capacity 1: there is something to write
	hurry chan struct{}      // capacity 1: the buffer is half full
	asked chan chan struct{} // write now, then close

	droppedServed, droppedFailed atomic.Uint64

	mu      sync.Mutex // guards what follows, held for a copy
	pending []byte     // frames that wait
	running bool

	looking sync.Mutex // one reads the segments at a time

	// Run's own.
	segments segments
	spare    []byte // takes pending's place while that is written
	kept     []byte // refusals and failures that the disk did not take
	synced   time.Time
	dirty    bool
	retry    time.Duration // 0 while the disk takes what is written
	notUntil time.Time
}

// NewJournal makes a journal. It touches no disk before [Journal.Run].
func NewJournal(cfg JournalConfig) (*Journal, error) {
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, DefaultJournalBytes)
	cfg.MaxAge = cmp.Or(cfg.MaxAge, DefaultJournalAge)
	if cfg.Dir == "" || cfg.MaxBytes < MinJournalBytes || cfg.MaxAge < 0 {
		return nil, opencmg.Errorf(opencmg.Invalid, "journal of records: it needs a directory and at least %d MiB", MinJournalBytes>>20)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	j := &Journal{cfg: cfg, wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1), asked: make(chan chan struct{})}
	j.segments = segments{dir: cfg.Dir, maxBytes: cfg.MaxBytes, maxAge: cfg.MaxAge, now: cfg.Now}
	if cfg.Registry != nil {
		for outcome, n := range map[string]*atomic.Uint64{"served": &j.droppedServed, "failed": &j.droppedFailed} {
			c := prometheus.NewCounterFunc(prometheus.CounterOpts{
				Name: "opencmg_explain_records_dropped_total", Help: "Records of requests that are not in the journal, because the disk was full or too slow.",
				ConstLabels: prometheus.Labels{"outcome": outcome},
			}, func() float64 { return float64(n.Load()) })
			if err := cfg.Registry.Register(c); err != nil {
				return nil, fmt.Errorf("journal of records: %w", err)
			}
		}
	}
	return j, nil
}

// Dropped returns how many records were not kept since the start: of requests
// that were served, and of those that were refused or failed.
func (j *Journal) Dropped() (served, failed uint64) {
	return j.droppedServed.Load(), j.droppedFailed.Load()
}

// add copies the record into the buffer, or drops it when there is no room.
func (j *Journal) add(r *Record) {
	room, dropped := journalBuffer*3/4, &j.droppedServed
	if failedRecord(r) {
		room, dropped = journalBuffer, &j.droppedFailed
	}
	j.mu.Lock()
	before := len(j.pending)
	if before >= room {
		j.mu.Unlock()
		dropped.Add(1)
		return
	}
	j.pending = appendFrame(j.pending, r)
	after := len(j.pending)
	j.mu.Unlock()
	if before == 0 {
		poke(j.wake)
	}
	if before < journalBuffer/2 && after >= journalBuffer/2 {
		poke(j.hurry)
	}
}

func failedRecord(r *Record) bool { return r.Status == 0 || r.Status >= 400 }

// Run writes what is added until ctx ends, and then what is left. It may be
// called once. A disk that can not be written is said once in the log.
func (j *Journal) Run(ctx context.Context) {
	j.setRunning(true)
	defer j.segments.close()
	tidy := time.NewTicker(journalTidy)
	defer tidy.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	waiting := false // records wait for company
	j.segments.tidy()
	for {
		if j.dirty || waiting || j.retry > 0 {
			timer.Reset(j.pause(waiting))
		} else {
			timer.Stop()
		}
		var asked chan struct{}
		select {
		case <-ctx.Done():
			j.setRunning(false)
			j.notUntil = time.Time{}
			j.write()
			return
		case <-tidy.C:
			j.segments.tidy()
			continue
		case <-j.wake:
			waiting = true
			continue
		case <-j.hurry:
		case <-timer.C:
		case asked = <-j.asked:
		}
		j.write()
		waiting = false
		if asked != nil {
			close(asked)
		}
	}
}

func (j *Journal) setRunning(on bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.running = on
}

// pause is the time until there is something to do.
func (j *Journal) pause(waiting bool) time.Duration {
	switch {
	case j.retry > 0:
		return max(time.Until(j.notUntil), 0)
	case waiting:
		return journalSettles
	}
	return max(journalSync-time.Since(j.synced), 0)
}

// write takes everything that waits and appends it to the segments.
func (j *Journal) write() {
	if j.retry > 0 && time.Now().Before(j.notUntil) {
		return
	}
	j.mu.Lock()
	chunk := j.pending
	j.pending = j.spare[:0]
	j.mu.Unlock()
	j.spare = nil
	rest, err := j.segments.append(j.kept)
	if err != nil {
		j.kept = append([]byte(nil), rest...)
		rest = chunk
	} else {
		j.kept = nil
		rest, err = j.segments.append(chunk)
	}
	j.dirty = j.dirty || len(rest) < len(chunk)
	if err == nil && j.dirty && time.Since(j.synced) >= journalSync {
		if err = j.segments.sync(); err == nil {
			j.synced, j.dirty = time.Now(), false
		}
	}
	if err != nil {
		j.failed(rest, err)
	} else if j.retry > 0 {
		j.cfg.Log.Info("the records of requests are kept on disk again", "dir", j.cfg.Dir)
		j.retry = 0
	}
	if cap(chunk) <= 1<<20 || len(chunk) > cap(chunk)/4 {
		j.spare = chunk[:0] // a buffer that was large once is given back
	}
}

// failed keeps of a chunk what matters most, for the next attempt.
func (j *Journal) failed(chunk []byte, err error) {
	if j.retry == 0 {
		j.cfg.Log.Error("records of requests can not be kept on disk, so opencmg explain knows the latest ones only: check the disk", "dir", j.cfg.Dir, "err", err)
	}
	j.retry = min(max(2*j.retry, journalRetryLow), journalRetryHigh)
	j.notUntil = time.Now().Add(j.retry)
	for len(chunk) > 0 {
		frame, payload, err := nextFrame(chunk)
		if err != nil {
			break // never: we wrote it ourselves
		}
		switch {
		case payload[0]&flagFailed == 0:
			j.droppedServed.Add(1)
		case len(j.kept)+len(frame) > journalBuffer:
			j.droppedFailed.Add(1)
		default:
			j.kept = append(j.kept, frame...)
		}
		chunk = chunk[len(frame):]
	}
}

// find returns the records of one correlation ID, in no order.
func (j *Journal) find(ctx context.Context, id string) []Record {
	j.flush(ctx)
	j.looking.Lock()
	defer j.looking.Unlock()
	var found []Record
	oldest := j.cfg.Now().Add(-j.cfg.MaxAge)
	for _, name := range j.segments.list() {
		err := readSegment(ctx, name, id, func(r *Record) bool {
			if !r.Time.Before(oldest) {
				found = append(found, *r)
			}
			return len(found) < opencmg.MaxHopRecords
		})
		if errors.Is(err, io.EOF) || ctx.Err() != nil {
			break // enough
		}
	}
	return found
}

// flush has everything written that was added, if there is a writer.
func (j *Journal) flush(ctx context.Context) {
	j.mu.Lock()
	on := j.running && len(j.pending) > 0
	j.mu.Unlock()
	if !on {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	done := make(chan struct{})
	select {
	case j.asked <- done:
	case <-ctx.Done():
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}
