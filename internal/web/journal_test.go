package web_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg/internal/web"
)

// A keeper is a process that keeps records: its ring holds next to nothing, so
// that what it finds comes from the journal.
type keeper struct {
	t    *testing.T
	rs   *web.Records
	j    *web.Journal
	stop func()
}

func startKeeper(t *testing.T, cfg web.JournalConfig, change ...func(*web.Journal)) *keeper {
	t.Helper()
	j, err := web.NewJournal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(j)
	}
	rs := web.NewRecords(1)
	rs.Journal = j
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { j.Run(ctx); close(done) }()
	synctest.Wait() // it runs
	return &keeper{t, rs, j, func() { cancel(); <-done }}
}

// record is one of a request that was answered with the status.
func record(n, status int) web.Record {
	return web.Record{
		CorrelationID: fmt.Sprintf("%032x", n), Time: time.Now().UTC().Round(0), Hop: web.HopGateway, Where: "gateway/0", Method: "GET",
		Path: "/CCM_Proxy_MutualAuth/72057594037927937/SMS_MP/.sms_aut?MPLIST", Endpoint: "SMS_MP", Role: "72057594037927937",
		Client: "CN=client-1.corp.example", Status: status, Reason: "OK", Verdict: "answered", Details: []string{"connection point: cp-1"},
		Duration: 1234567, ResponseBytes: 2048,
	}
}

func (k *keeper) add(list ...web.Record) {
	for _, r := range list {
		k.rs.Add(r)
	}
	// The ring forgets them.
	for range 16 {
		for n := range 8 {
			k.rs.Add(web.Record{CorrelationID: fmt.Sprintf("filler-%d", n)})
		}
	}
}

func (k *keeper) wants(list ...web.Record) {
	k.t.Helper()
	for _, want := range list {
		got := k.rs.Find(k.t.Context(), want.CorrelationID)
		if diff := cmp.Diff([]web.Record{want}, got); diff != "" {
			k.t.Errorf("record (-want +got):\n%s", diff)
		}
	}
}

func (k *keeper) lacks(list ...web.Record) {
	k.t.Helper()
	for _, r := range list {
		if got := k.rs.Find(k.t.Context(), r.CorrelationID); len(got) != 0 {
			k.t.Errorf("there is still %+v", got)
		}
	}
}

func segmentFiles(t *testing.T, dir string) (names []string, total int64) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.records"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		fi, err := os.Stat(n)
		if err != nil {
			t.Fatal(err)
		}
		total += fi.Size()
		if runtime.GOOS != "windows" && fi.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", n, fi.Mode().Perm())
		}
	}
	return names, total
}

func TestJournalOutlivesTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := web.JournalConfig{Dir: filepath.Join(t.TempDir(), "records")}
		k := startKeeper(t, cfg)
		first, refused := record(1, 200), record(2, 401)
		k.add(first, refused)
		k.wants(first, refused)
		k.stop()
		k = startKeeper(t, cfg)
		third := record(3, 200)
		k.add(third)
		k.wants(first, refused, third)
		k.stop()
		if names, _ := segmentFiles(t, cfg.Dir); len(names) != 1 {
			t.Errorf("a restart went on in another segment: %v", names)
		}
	})
}

func TestJournalIsWrittenWithoutBeingAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := web.JournalConfig{Dir: t.TempDir()}
		k := startKeeper(t, cfg)
		defer k.stop()
		r := record(1, 200)
		k.rs.Add(r)
		time.Sleep(time.Second)
		synctest.Wait()
		names, _ := segmentFiles(t, cfg.Dir)
		if len(names) != 1 {
			t.Fatalf("segments: %v", names)
		}
		b, err := os.ReadFile(names[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, got := web.ReadSegment(b); len(got) != 1 || got[0].CorrelationID != r.CorrelationID {
			t.Errorf("a second later the disk has %+v", got)
		}
	})
}

func TestJournalToleratesATornTail(t *testing.T) {
	whole := web.Segment(record(7, 502))
	for name, tail := range map[string][]byte{
		"half a frame":      whole[8 : len(whole)-5],
		"half a head":       whole[8:11],
		"zeros":             make([]byte, 4096),
		"a frame of others": append([]byte{4, 0, 0, 0, 1, 2, 3, 4}, "damage"...),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := web.JournalConfig{Dir: t.TempDir()}
				k := startKeeper(t, cfg)
				first := record(1, 200)
				k.add(first)
				k.stop()
				names, _ := segmentFiles(t, cfg.Dir)
				f, err := os.OpenFile(names[0], os.O_APPEND|os.O_WRONLY, 0)
				if err != nil {
					t.Fatal(err)
				}
				f.Write(tail)
				f.Close()
				k = startKeeper(t, cfg)
				defer k.stop()
				second := record(2, 200)
				k.add(second)
				k.wants(first, second)
			})
		})
	}
}

func TestJournalLeavesOtherSegmentsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := web.JournalConfig{Dir: t.TempDir()}
		foreign := filepath.Join(cfg.Dir, fmt.Sprintf("%016x.records", time.Now().UnixMilli()))
		if err := os.WriteFile(foreign, []byte("of a later version"), 0o600); err != nil {
			t.Fatal(err)
		}
		k := startKeeper(t, cfg)
		r := record(1, 200)
		k.add(r)
		k.wants(r)
		k.stop()
		if b, err := os.ReadFile(foreign); err != nil || string(b) != "of a later version" {
			t.Errorf("the segment of another version is now %q, %v", b, err)
		}
	})
}

func TestJournalIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := web.JournalConfig{Dir: t.TempDir(), MaxBytes: web.MinJournalBytes}
		k := startKeeper(t, cfg)
		defer k.stop()
		first := record(0, 200)
		k.rs.Add(first)
		var last web.Record
		for n := 1; n <= 20_000; n++ {
			last = record(n, 200)
			k.rs.Add(last)
			if n%500 == 0 {
				k.rs.Find(t.Context(), last.CorrelationID) // written
				if _, total := segmentFiles(t, cfg.Dir); total > cfg.MaxBytes {
					t.Fatalf("after %d records the segments have %d bytes, at most %d were allowed", n, total, cfg.MaxBytes)
				}
			}
		}
		k.lacks(first)
		k.add()
		k.wants(last)
		if served, failed := k.j.Dropped(); served+failed != 0 {
			t.Errorf("dropped %d and %d", served, failed)
		}
	})
}

func TestJournalForgetsAfterADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := web.JournalConfig{Dir: t.TempDir()}
		k := startKeeper(t, cfg)
		defer k.stop()
		old := record(1, 401)
		k.add(old)
		k.wants(old)
		// The system sets the files' times by its own clock.
		names, _ := segmentFiles(t, cfg.Dir)
		if err := os.Chtimes(names[0], time.Time{}, time.Now()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(23 * time.Hour)
		k.wants(old)
		young := record(2, 401)
		k.add(young)
		k.wants(young)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		k.lacks(old)
		k.wants(young)
		if left, _ := segmentFiles(t, cfg.Dir); len(left) != 1 || left[0] == names[0] {
			t.Errorf("the old segment is still there: %v", left)
		}
	})
}

// A full disk costs records of requests that were served, not the others, and
// nobody waits for it.
func TestJournalOnAFullDisk(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /dev/full")
	}
	synctest.Test(t, func(t *testing.T) {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		cfg := web.JournalConfig{Dir: t.TempDir()}
		k := startKeeper(t, cfg, func(j *web.Journal) { j.WriteTo(full) })
		defer k.stop()
		served, refused := record(1, 200), record(2, 401)
		k.rs.Add(served)
		k.rs.Add(refused)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		k.add()
		k.lacks(served)
		k.wants(refused)
		if a, b := k.j.Dropped(); a != 1 || b != 0 {
			t.Errorf("dropped %d served and %d failed, want 1 and 0", a, b)
		}
		later := record(3, 200)
		k.add(later)
		k.wants(later)
	})
}

func TestJournalBeginsWhenItsDirectoryCan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "records")
		if err := os.WriteFile(dir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		k := startKeeper(t, web.JournalConfig{Dir: dir})
		defer k.stop()
		refused := record(1, 503)
		k.add(refused)
		time.Sleep(5 * time.Second)
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		k.wants(refused)
	})
}

// Without a writer the buffer is all there is, and it is bounded; what was
// served makes room for what was refused.
func TestJournalBufferIsBounded(t *testing.T) {
	j, err := web.NewJournal(web.JournalConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	rs := web.NewRecords(1)
	rs.Journal = j
	n := 0
	for ; ; n++ {
		rs.Add(record(n, 200))
		if served, _ := j.Dropped(); served > 0 {
			break
		}
		if n > web.JournalBuffer {
			t.Fatal("nothing is ever dropped")
		}
	}
	rs.Add(record(n, 403))
	if _, failed := j.Dropped(); failed != 0 {
		t.Error("a refusal was dropped while there was room")
	}
	for range n {
		rs.Add(record(n, 403))
	}
	if _, failed := j.Dropped(); failed == 0 {
		t.Error("refusals are never dropped")
	}
}

func TestJournalCutsLongTexts(t *testing.T) {
	long := record(1, 400)
	long.Path, long.Verdict = strings.Repeat("é", 1<<20), strings.Repeat("v", 1<<20)
	for range 1000 {
		long.Details = append(long.Details, strings.Repeat("d", 1<<16))
	}
	b := web.Segment(long)
	if len(b) > 64<<10 {
		t.Errorf("one record takes %d bytes", len(b))
	}
	if size, list := web.ReadSegment(b); size != int64(len(b)) || len(list) != 1 || list[0].CorrelationID != long.CorrelationID || !strings.HasPrefix(long.Verdict, list[0].Verdict) {
		t.Error("it can not be read")
	}
}

func FuzzSegment(f *testing.F) {
	whole := web.Segment(record(1, 200), record(2, 401))
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add(append(whole[:20:20], 0xff, 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, b []byte) {
		size, list := web.ReadSegment(b)
		if size < 0 || size > int64(len(b)) {
			t.Fatalf("%d of %d bytes are valid", size, len(b))
		}
		// What was read can be written and read again.
		if _, again := web.ReadSegment(web.Segment(list...)); !cmp.Equal(list, again) {
			t.Errorf("written again it reads otherwise: %s", cmp.Diff(list, again))
		}
	})
}

func BenchmarkRecord(b *testing.B) {
	for _, journal := range []bool{false, true} {
		b.Run(fmt.Sprintf("journal=%v", journal), func(b *testing.B) {
			rs := web.NewRecords(16384)
			flush := func() {}
			if journal {
				j, err := web.NewJournal(web.JournalConfig{Dir: b.TempDir(), MaxBytes: 64 << 20})
				if err != nil {
					b.Fatal(err)
				}
				rs.Journal = j
				ctx, cancel := context.WithCancel(b.Context())
				done := make(chan struct{})
				go func() { j.Run(ctx); close(done) }()
				flush = func() {
					b.StopTimer() // no machine has so many requests in a second
					j.Flush(ctx)
					b.StartTimer()
				}
				defer func() {
					served, failed := j.Dropped()
					b.ReportMetric(float64(served+failed)/float64(b.N), "dropped/op")
					cancel()
					<-done
				}()
			}
			r := record(1, 200)
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if rs.Add(r); n%8192 == 0 {
					flush()
				}
			}
		})
	}
}

// BenchmarkFindInADay looks for a request among 1.2 million.
func BenchmarkFindInADay(b *testing.B) {
	const requests = 1_200_000
	dir := b.TempDir()
	j, err := web.NewJournal(web.JournalConfig{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	rs := web.NewRecords(16384)
	rs.Journal = j
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() { j.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	for n := range requests {
		rs.Add(record(n, 200))
		if n%5000 == 0 {
			j.Flush(ctx) // what comes in a day does not come in a second
		}
	}
	if served, failed := j.Dropped(); served+failed > 0 {
		b.Fatalf("dropped %d", served+failed)
	}
	id := record(1000, 200).CorrelationID
	for b.Loop() {
		if len(rs.Find(ctx, id)) != 1 {
			b.Fatal("not found")
		}
	}
}
