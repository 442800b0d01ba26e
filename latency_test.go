package opencmg_test

import (
	"testing"
	"time"

	"github.com/opencmg/opencmg"
)

func TestLatencyBuckets(t *testing.T) {
	for bucket := range opencmg.LatencyBuckets - 1 {
		bound := opencmg.LatencyBound(bucket)
		if got := opencmg.LatencyBucket(bound); got != bucket {
			t.Errorf("%s is in bucket %d, want %d", bound, got, bucket)
		}
		if got := opencmg.LatencyBucket(bound + 1); got != bucket+1 {
			t.Errorf("%s and a nanosecond is in bucket %d, want %d", bound, got, bucket+1)
		}
	}
	for d, want := range map[time.Duration]int{-time.Second: 0, 0: 0, 100 * time.Hour: opencmg.LatencyBuckets - 1} {
		if got := opencmg.LatencyBucket(d); got != want {
			t.Errorf("%s is in bucket %d, want %d", d, got, want)
		}
	}
	if last := opencmg.LatencyBound(opencmg.LatencyBuckets - 2); last != 65536*time.Millisecond {
		t.Errorf("the last bound is %s", last)
	}
}

func TestLatencyPercentile(t *testing.T) {
	var counts [opencmg.LatencyBuckets]int64
	if got := opencmg.LatencyPercentile(counts[:], 0.5); got != 0 {
		t.Errorf("of nothing: %s", got)
	}
	// 90 between 4 and 8 ms, 9 between 64 and 128 ms, 1 above all bounds.
	counts[3], counts[7], counts[17] = 90, 9, 1
	for part, want := range map[float64]time.Duration{
		0.45: 6 * time.Millisecond, 0.9: 8 * time.Millisecond, 0.99: 128 * time.Millisecond, 1: 2 * 65536 * time.Millisecond,
	} {
		if got := opencmg.LatencyPercentile(counts[:], part); got != want {
			t.Errorf("%v: %s, want %s", part, got, want)
		}
	}
	if got := opencmg.LatencyPercentile(make([]int64, 99), 0.5); got != 0 {
		t.Errorf("of too many buckets: %s", got)
	}
}
