package opencmg

import (
	"math/bits"
	"time"
)

// LatencyBuckets is the number of buckets that latencies are counted in: 17
// with an upper bound, each twice the one before, from 1 ms to 65.536 s, and
// one for what took longer.
const LatencyBuckets = 18

// LatencyBucket is the bucket of a latency, from 0 to LatencyBuckets - 1.
func LatencyBucket(d time.Duration) int {
	if d <= time.Millisecond {
		return 0
	}
	return min(bits.Len64(uint64((d-1)/time.Millisecond)), LatencyBuckets-1)
}

// LatencyBound is the upper bound of a bucket: what is in it took at most this
// long, and longer than the bound of the bucket before. The last bucket has no
// bound of its own; its stands for one that is twice the last.
func LatencyBound(bucket int) time.Duration { return time.Millisecond << bucket }

// LatencyPercentile estimates how long the fastest part of the counted answers
// took at most, for a part from 0 to 1: what is in a bucket is taken as spread
// evenly over it. It is 0 when nothing was counted.
func LatencyPercentile(counts []int64, part float64) time.Duration {
	var total int64
	for _, n := range counts {
		total += n
	}
	if total == 0 {
		return 0
	}
	rank := part * float64(total)
	var below float64
	for i, n := range counts[:min(len(counts), LatencyBuckets)] {
		if n == 0 || below+float64(n) < rank {
			below += float64(n)
			continue
		}
		low, high := time.Duration(0), LatencyBound(i)
		if i > 0 {
			low = LatencyBound(i - 1)
		}
		return low + time.Duration((rank-below)/float64(n)*float64(high-low))
	}
	return LatencyBound(LatencyBuckets - 1)
}
