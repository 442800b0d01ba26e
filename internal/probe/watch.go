package probe

import (
	"context"
	"reflect"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
)

// How often a [Watch] looks: at first, and while something does not work, soon
// and then ever more seldom.
const (
	watchFirst = time.Second
	watchMost  = 5 * time.Minute
)

// A Watch looks at its targets again and again, and keeps what it found last.
// It is safe for concurrent use.
type Watch struct {
	look    func(context.Context, []opencmg.ProbeTarget) opencmg.ProbeReport
	changes chan struct{}
	again   chan struct{} // capacity 1: other targets

	mu      sync.Mutex // guards what follows
	targets []opencmg.ProbeTarget
	last    *opencmg.ProbeReport
}

// NewWatch makes a watch over the targets. Nothing is looked at before
// [Watch.Run].
func (p *Prober) NewWatch(targets []opencmg.ProbeTarget) *Watch {
	return &Watch{look: p.Look, targets: targets, changes: make(chan struct{}, 1), again: make(chan struct{}, 1)}
}

// Use replaces the targets and looks at them soon; the same ones change
// nothing.
func (w *Watch) Use(targets []opencmg.ProbeTarget) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(targets) == 0 && len(w.targets) == 0 || reflect.DeepEqual(targets, w.targets) {
		return
	}
	w.targets, w.last = targets, nil
	poke(w.again)
}

// Report returns what was found last, nil before the first look.
func (w *Watch) Report() *opencmg.ProbeReport {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// Changes returns a channel that has something to receive after a look.
func (w *Watch) Changes() <-chan struct{} { return w.changes }

// Run looks until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	for pause := watchFirst; ; {
		w.mu.Lock()
		targets := w.targets
		w.mu.Unlock()
		good := true
		if len(targets) > 0 {
			r := w.look(ctx, targets)
			if ctx.Err() != nil {
				return nil
			}
			good = worked(&r)
			w.mu.Lock()
			if reflect.DeepEqual(targets, w.targets) {
				w.last = &r
			}
			w.mu.Unlock()
			poke(w.changes)
		}
		if good {
			pause = watchMost
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-w.again:
			pause = watchFirst
		case <-t.C:
			if pause = min(2*pause, watchMost); good {
				pause = watchFirst
			}
		}
		t.Stop()
	}
}

func poke(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
