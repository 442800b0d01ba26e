package connpoint

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/tunnel"
)

// What the connection point learns from gateway instances, and passes on to the
// site.

const (
	collectEvery = 5 * time.Second
	collectSoon  = time.Second // while the instance drains and somebody waits for it
	// collectApart is the pause between two questions to an instance that
	// answers when something happens. With sitelink's own it bounds what a flood
	// of refusals costs, and both together keep within a second.
	collectApart = 250 * time.Millisecond
	maxStatus    = 4 << 20  // bytes of an instance's status
	maxLogLine   = 64 << 10 // bytes of one line of its log
	// maxLogLines bounds the lines that wait for the next report.
	maxLogLines = 1000
)

// A Report is what a site wants to hear of a connection point.
type Report struct {
	Status opencmg.ConnectionPointStatus
	// Instances holds the latest status of every instance that has a tunnel;
	// only with Config.CollectInstances.
	Instances []opencmg.InstanceStatus
	// Logs are lines of the instances' logs since the last report, at most
	// 1,000; see [Connector.CollectLogs].
	Logs []opencmg.LogLine
	// Published and Mappings are the versions of the documents in use, 0
	// without one.
	Published, Mappings uint64
	// Problem says why a newer document is not in use.
	Problem string
}

// Report returns the present state. Log lines are handed over: the next report
// does not hold them again.
func (c *Connector) Report() Report {
	r := Report{Status: c.Status(), Logs: c.logs.take(), Problem: c.problems.String()}
	for _, l := range c.gateways() {
		for _, i := range l.all() {
			i.mu.Lock()
			if i.status != nil {
				r.Instances = append(r.Instances, *i.status)
			}
			i.mu.Unlock()
		}
	}
	if p := c.published.Load(); p != nil {
		r.Published = p.version
	}
	c.setting.Lock()
	r.Mappings = c.version
	c.setting.Unlock()
	return r
}

// Changes returns a channel that has something to receive after tunnels came or
// went, after instances took over another configuration or certificate, drain,
// or refused a request, and after log lines came.
func (c *Connector) Changes() <-chan struct{} { return c.news }

// CollectLogs says whether reports hold the lines of the instances' logs. It
// needs Config.CollectInstances.
func (c *Connector) CollectLogs(on bool) { c.logs.set(on) }

// collect keeps the instance's status fresh while there is a tunnel. The
// instance holds the question until something notable happens there; one that
// can not is asked every five seconds.
func (i *instanceLink) collect(ctx context.Context) {
	c := i.link.c
	var known uint64 // notable things
	every := collectEvery
	for {
		st, err := i.askStatus(ctx, known, every)
		if err != nil && ctx.Err() == nil {
			c.log.Debug("instance did not tell its status", "gateway", i.link.name, "instance", i.number, "err", err)
		}
		i.mu.Lock()
		old := i.status
		i.status = st
		i.mu.Unlock()
		if st != nil && (old == nil || old.Configuration != st.Configuration || old.Certificate != st.Certificate || old.Draining != st.Draining || old.Drained != st.Drained || old.Notable != st.Notable) {
			poke(c.news)
		}
		every = collectEvery
		if st != nil && st.Draining && !st.Drained {
			every = collectSoon
		}
		pause := every
		if known = 0; st != nil && st.Notable != 0 {
			known, pause = st.Notable, collectApart
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-i.look:
		case <-t.C:
		}
		t.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// askStatus returns nothing when there is no tunnel, or an instance that does
// not know the question. It waits as long, until there is something else than
// the notable things that are known, or until there is a reason to look.
func (i *instanceLink) askStatus(ctx context.Context, known uint64, wait time.Duration) (*opencmg.InstanceStatus, error) {
	conn := i.conn()
	if conn == nil {
		return nil, nil
	}
	if known == 0 {
		return i.readStatus(ctx, conn, nil)
	}
	q, err := json.Marshal(opencmg.InstanceStatusRequest{After: known, WaitMilliseconds: wait.Milliseconds()})
	if err != nil {
		panic(err) // a plain struct
	}
	held, cancel := context.WithCancel(ctx)
	defer cancel()
	looks := false // valid after watched
	watched := make(chan struct{})
	i.link.c.wg.Go(func() {
		defer close(watched)
		select {
		case <-i.look:
			looks = true
		case <-conn.GoingAway(): // which waits for its streams
			looks = true
		case <-held.Done():
		}
		cancel()
	})
	st, err := i.readStatus(held, conn, q)
	cancel()
	<-watched
	if err != nil && looks && ctx.Err() == nil {
		if conn = i.conn(); conn == nil {
			return nil, nil
		}
		return i.readStatus(ctx, conn, nil)
	}
	return st, err
}

// readStatus asks one tunnel.
func (i *instanceLink) readStatus(ctx context.Context, conn *tunnel.Conn, question []byte) (*opencmg.InstanceStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, collectEvery+controlWait)
	defer cancel()
	s, err := i.link.c.ask(ctx, conn, opencmg.ControlInstanceStatus, question)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if s.answer.Error != "" {
		return nil, opencmg.Errorf(opencmg.Unavailable, "the instance refused: %s", s.answer.Error)
	}
	body, err := io.ReadAll(io.LimitReader(s, maxStatus+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxStatus {
		return nil, opencmg.Errorf(opencmg.TooLarge, "the status is larger than %d bytes", maxStatus)
	}
	st := new(opencmg.InstanceStatus)
	if err := json.Unmarshal(body, st); err != nil {
		return nil, err
	}
	st.Gateway, st.Instance = i.link.name, i.number // it speaks for itself only
	return st, nil
}

// followLogs reads the instance's log while that is wanted and there is a
// tunnel.
func (i *instanceLink) followLogs(ctx context.Context) {
	c := i.link.c
	source := i.link.name + "/" + strconv.Itoa(i.number)
	for ctx.Err() == nil {
		on, changed := c.logs.wanted()
		var err error
		if conn := i.conn(); on && conn != nil {
			if err = i.readLogs(ctx, conn, changed, source); err != nil && ctx.Err() == nil {
				c.log.Debug("the instance's log was not read", "gateway", i.link.name, "instance", i.number, "err", err)
			}
		}
		var again <-chan time.Time
		var t *time.Timer
		if on {
			t = time.NewTimer(jitter(time.Second)) // the tunnel is away, or the instance does not want to
			again = t.C
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-again:
		}
		if t != nil {
			t.Stop()
		}
	}
}

// readLogs takes over lines until the tunnel goes away or they are no longer
// wanted.
func (i *instanceLink) readLogs(ctx context.Context, conn *tunnel.Conn, changed <-chan struct{}, source string) error {
	c := i.link.c
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := c.ask(ctx, conn, opencmg.ControlLogs, nil)
	if err != nil {
		return err
	}
	defer s.close()
	if s.answer.Error != "" {
		return opencmg.Errorf(opencmg.Unavailable, "the instance refused: %s", s.answer.Error)
	}
	// A tunnel that drains waits for its streams, and nobody waits for a log.
	ended := make(chan struct{})
	defer close(ended)
	c.wg.Go(func() {
		select {
		case <-changed:
		case <-conn.GoingAway():
		case <-ended:
		}
		cancel()
	})
	lines := bufio.NewScanner(s)
	lines.Buffer(nil, maxLogLine)
	for lines.Scan() {
		var l opencmg.LogLine
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return err
		}
		// Every stream begins with the lines that the instance kept; most were
		// here before the last tunnel went away.
		if !l.Time.After(i.logged) {
			continue
		}
		i.logged = l.Time
		l.Source = source
		c.logs.add(l)
		poke(c.news)
	}
	return lines.Err()
}

// A logCollector holds the lines that wait for the next report.
type logCollector struct {
	mu      sync.Mutex // guards what follows
	on      bool
	changed chan struct{} // closed and replaced when on changes
	lines   []opencmg.LogLine
	lost    int
}

func (lc *logCollector) init() { lc.changed = make(chan struct{}) }

func (lc *logCollector) wanted() (on bool, changed <-chan struct{}) {
	lc.mu.Lock()
	defer lc.mu.Unlock()
	return lc.on, lc.changed
}

func (lc *logCollector) set(on bool) {
	lc.mu.Lock()
	defer lc.mu.Unlock()
	if lc.on == on {
		return
	}
	lc.on = on
	close(lc.changed)
	lc.changed = make(chan struct{})
}

// add keeps a line, and forgets the oldest ones when there are too many.
func (lc *logCollector) add(l opencmg.LogLine) {
	lc.mu.Lock()
	defer lc.mu.Unlock()
	if len(lc.lines) >= maxLogLines-1 { // one place is for the line about the lost ones
		const many = maxLogLines / 10
		lc.lines = append(lc.lines[:0], lc.lines[many:]...)
		lc.lost += many
	}
	lc.lines = append(lc.lines, l)
}

func (lc *logCollector) take() []opencmg.LogLine {
	lc.mu.Lock()
	defer lc.mu.Unlock()
	lines := lc.lines
	if lc.lost > 0 {
		lines = append(lines, opencmg.LogLine{Time: time.Now().UTC(), Level: "WARN", Component: logComponent,
			Message: "log lines were lost: more came than a report holds", Attrs: map[string]string{"lost": strconv.Itoa(lc.lost)}})
	}
	lc.lines, lc.lost = nil, 0
	return lines
}
