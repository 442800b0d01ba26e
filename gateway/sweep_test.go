package gateway

import "testing"

func TestTrimmer(t *testing.T) {
	var tr trimmer
	for i, step := range []struct {
		now, connections int64
		want             bool
	}{
		{1_000, 100, false},   // few
		{1_500, 5_000, false}, // still coming
		{2_000, 5_010, true},
		{2_500, 5_010, false}, // nothing new
		{5_000, 5_900, false},
		{5_500, 5_900, false}, // less than a quarter more
		{6_000, 7_000, false},
		{6_500, 7_000, true},
		{7_000, 100, false}, // gone
		{7_500, 1_000, false},
		{8_000, 1_000, false}, // too soon after the last time
		{9_000, 1_000, true},
	} {
		if got := tr.due(step.now, step.connections); got != step.want {
			t.Errorf("step %d: got %v, want %v", i, got, step.want)
		}
	}
}
