package web

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/opencmg/opencmg"
)

// A Record is the verdict of one hop on one request.
type Record = opencmg.RequestRecord

// The hops of a request.
const (
	HopGateway         = opencmg.HopGateway
	HopConnectionPoint = opencmg.HopConnectionPoint
	HopManagementPoint = opencmg.HopManagementPoint
)

// recordShards spreads the lock of [Records] over the cores.
const recordShards = 8

// Records keeps the latest records in bounded memory, and those of the last day
// in a journal. Its methods may be called at once from many goroutines.
type Records struct {
	// Journal keeps each record on disk; nil keeps them in memory only. It is
	// set before the first record, and whoever made it runs it.
	Journal *Journal

	shards [recordShards]recordShard
}

type recordShard struct {
	mu   sync.Mutex // guards what follows, held for a copy
	ring []Record
	next int
	size int
}

// NewRecords returns a Records that keeps about n records.
func NewRecords(n int) *Records {
	rs := &Records{}
	for i := range rs.shards {
		rs.shards[i].size = max(1, n/recordShards)
	}
	return rs
}

// Add keeps the record, in the place of the oldest one when full.
func (rs *Records) Add(r Record) {
	if rs == nil {
		return
	}
	rs.shard(r.CorrelationID).add(&r)
	if rs.Journal != nil {
		rs.Journal.add(&r)
	}
}

func (s *recordShard) add(r *Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ring) < s.size {
		s.ring = append(s.ring, *r)
		return
	}
	s.ring[s.next] = *r
	s.next = (s.next + 1) % s.size
}

// Find returns the records of one correlation ID, oldest first and at most
// [opencmg.MaxHopRecords]. It reads the journal, so it may take a second; ctx
// ends it early with what was found by then.
func (rs *Records) Find(ctx context.Context, id string) []Record {
	if rs == nil || id == "" {
		return nil
	}
	found := rs.shard(id).find(id)
	if rs.Journal != nil {
		found = append(found, rs.Journal.find(ctx, id)...)
	}
	slices.SortStableFunc(found, func(a, b Record) int { return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Duration, b.Duration)) })
	// The latest ones are in both.
	found = slices.CompactFunc(found, sameRecord)
	return found[:min(len(found), opencmg.MaxHopRecords)]
}

func sameRecord(a, b Record) bool {
	return a.Time.Equal(b.Time) && a.Duration == b.Duration && a.Status == b.Status && a.Hop == b.Hop && a.Where == b.Where
}

func (s *recordShard) find(id string) []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []Record
	for i := range s.ring {
		if r := &s.ring[(s.next+i)%len(s.ring)]; r.CorrelationID == id {
			found = append(found, *r)
		}
	}
	return found
}

func (rs *Records) shard(id string) *recordShard {
	if len(id) == 0 {
		return &rs.shards[0]
	}
	return &rs.shards[id[len(id)-1]%recordShards]
}
