package tunnel

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// The keeper is the one goroutine with a timer: it pings, notices a peer that
// is gone, and sweeps over the deadlines of requests.

const (
	keepInterval  = 500 * time.Millisecond
	deadlineSlack = 1000 // milliseconds after which the opener enforces a deadline
	drainToken    = 1 << 63
)

// pings is what the keeper knows of pings.
type pings struct {
	count  atomic.Int64 // number of pings sent, and token of the last
	sentAt atomic.Int64 // nanoseconds since Conn.began, 0 when it was answered
}

func (c *Conn) keep(loops *sync.WaitGroup) {
	interval := min(keepInterval, c.cfg.PingInterval)
	t := time.NewTicker(interval)
	defer t.Stop()
	c.ping()
	nextPing := c.cfg.PingInterval
loop:
	for {
		select {
		case <-c.dying:
			break loop
		case <-t.C:
		}
		elapsed := time.Since(c.began)
		now := elapsed.Milliseconds()
		c.now.Store(now)
		limit := c.cfg.PeerTimeout.Milliseconds()
		if since := c.w.since.Load(); since != 0 && now-since > limit {
			c.fail(&ConnError{Code: CodeTunnelLost, Msg: fmt.Sprintf("the peer took nothing for %v", c.cfg.PeerTimeout)}, false)
		} else if now-c.heard.Load() > limit {
			c.fail(&ConnError{Code: CodeTunnelLost, Msg: fmt.Sprintf("nothing heard from the peer for %v", c.cfg.PeerTimeout)}, false)
		}
		if elapsed >= nextPing {
			nextPing = elapsed + c.cfg.PingInterval
			c.ping()
			c.workers.trim()
		}
		c.expire(now)
	}
	loops.Wait()
	c.nc.Close()
	c.workers.stop()
	close(c.done)
}

func (c *Conn) ping() {
	token := c.pings.count.Add(1)
	c.pings.sentAt.Store(int64(time.Since(c.began)) | 1)
	var frame [headerSize + 8]byte
	c.w.control(appendPing(frame[:0], framePing, uint64(token)))
}

// pong takes the answer to a ping. One that nobody asked for is ignored.
func (c *Conn) pong(token uint64) {
	if token == drainToken {
		c.mu.Lock()
		c.settled = c.leaving
		c.checkDrained()
		c.mu.Unlock()
		return
	}
	if token != uint64(c.pings.count.Load()) {
		return
	}
	sent := c.pings.sentAt.Swap(0)
	if sent == 0 {
		return
	}
	rtt := max(int64(time.Since(c.began))-sent, 1)
	if old := c.rtt.Load(); old != 0 {
		rtt = old + (rtt-old)/4
	}
	c.rtt.Store(rtt)
}

// expire ends the streams whose deadline has passed without a final head. Most
// of the time it only compares with the earliest.
func (c *Conn) expire(now int64) {
	c.mu.Lock()
	if c.expiry == 0 || now < c.expiry {
		c.mu.Unlock()
		return
	}
	var due []*Stream
	c.expiry = 0
	for _, s := range c.streams {
		switch {
		case s.deadline == 0:
		case s.deadline <= now:
			due = append(due, s)
		case c.expiry == 0 || s.deadline < c.expiry:
			c.expiry = s.deadline
		}
	}
	c.mu.Unlock()
	for _, s := range due {
		s.mu.Lock()
		waits := !s.gotHead && !s.gotEnd
		s.mu.Unlock()
		if waits {
			s.Fail(CodeRoleTimeout, "no answer before the deadline")
		}
	}
}
