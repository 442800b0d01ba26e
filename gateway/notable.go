package gateway

import (
	"context"
	"sync"
	"sync/atomic"
)

// notable counts what an administrator who looks wants to see at once, and
// wakes the connection points that wait for more of it. Counting costs an
// atomic addition while nobody waits; how often who waits asks again is their
// business, so that a flood of refusals costs no more than a few.
type notable struct {
	count   atomic.Uint64
	awaited atomic.Bool // somebody waits for more

	mu   sync.Mutex    // guards more
	more chan struct{} // closed by the next; nil while nobody waits
}

// number begins at 1, since 0 says that an instance does not count.
func (n *notable) number() uint64 { return n.count.Load() + 1 }

func (n *notable) note() {
	n.count.Add(1)
	if !n.awaited.Load() {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.more != nil {
		close(n.more)
		n.more = nil
		n.awaited.Store(false)
	}
}

// await returns when the number is another than known, or ctx or closing ends.
func (n *notable) await(ctx context.Context, closing <-chan struct{}, known uint64) {
	n.mu.Lock()
	if n.more == nil {
		n.more = make(chan struct{})
		n.awaited.Store(true)
	}
	more := n.more
	n.mu.Unlock()
	// Looked at after awaited was set: whoever counts now sees that somebody
	// waits.
	if n.number() != known {
		return
	}
	select {
	case <-more:
	case <-ctx.Done():
	case <-closing:
	}
}
