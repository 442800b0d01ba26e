package main

import (
	"os"
	"strings"
	"testing"
	"time"
)

// The benchmark starts its own program again for each process, so the test
// binary has to be that program, too.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "-child" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// Every scenario runs with every system and leaves nothing behind.
func TestBenchRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a dozen processes")
	}
	t.Setenv("TMPDIR", t.TempDir())
	var out strings.Builder
	o := options{rounds: 1, duration: 100 * time.Millisecond, conns: 4, held: 10, bulk: 1 << 20, bulks: 1}
	if err := runBench(t.Context(), o, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{"Small requests", "Download", "Held requests", "opencmg", "yamux"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, out.String())
		}
	}
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestMedian(t *testing.T) {
	got := medianOf([]figure{{rate: 3, cpu: []float64{1, 9}}, {rate: 1, cpu: []float64{5, 7}}, {rate: 2, cpu: []float64{3, 8}}})
	if got.rate != 2 || got.cpu[0] != 3 || got.cpu[1] != 8 {
		t.Errorf("odd: %+v", got)
	}
	if got := medianOf([]figure{{rate: 1}, {rate: 4}}); got.rate != 2.5 {
		t.Errorf("even: %+v", got)
	}
}

func TestArguments(t *testing.T) {
	var out strings.Builder
	if code := run([]string{"-child", "nobody"}, &out, &out); code != 1 {
		t.Errorf("unknown child: exit %d", code)
	}
	if code := run([]string{"-nonsense"}, &out, &out); code != 2 {
		t.Errorf("unknown flag: exit %d", code)
	}
}
