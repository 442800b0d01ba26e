package web

import (
	"sync"
	"time"
)

// A Record is the verdict of one hop on one request: what "opencmg explain"
// puts together to a path.
type Record struct {
	CorrelationID string    `json:"correlationId"`
	Time          time.Time `json:"time"`
	// Hop is HopGateway, HopConnectionPoint or HopManagementPoint.
	Hop string `json:"hop"`
	// Where names the process: the instance, the connection point, the role.
	Where    string `json:"where"`
	Method   string `json:"method,omitempty"`
	Path     string `json:"path,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
	Role     string `json:"role,omitempty"` // role ID
	Client   string `json:"client,omitempty"`
	Status   int    `json:"status,omitempty"`
	Reason   string `json:"reason,omitempty"` // reason phrase sent
	// Verdict is one sentence for the administrator. It may say what no
	// caller is told.
	Verdict       string        `json:"verdict,omitempty"`
	Details       []string      `json:"details,omitempty"`
	Duration      time.Duration `json:"duration"` // nanoseconds
	RequestBytes  int64         `json:"requestBytes,omitempty"`
	ResponseBytes int64         `json:"responseBytes,omitempty"`
}

// The hops of a request.
const (
	HopGateway         = "gateway"
	HopConnectionPoint = "connection-point"
	HopManagementPoint = "management-point"
)

// recordShards spreads the lock of [Records] over the cores.
const recordShards = 8

// Records keeps the latest records in bounded memory. Its methods may be
// called at once from many goroutines.
type Records struct {
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
	s := rs.shard(r.CorrelationID)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ring) < s.size {
		s.ring = append(s.ring, r)
		return
	}
	s.ring[s.next] = r
	s.next = (s.next + 1) % s.size
}

// Find returns the records of one correlation ID, oldest first.
func (rs *Records) Find(id string) []Record {
	if rs == nil {
		return nil
	}
	s := rs.shard(id)
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
