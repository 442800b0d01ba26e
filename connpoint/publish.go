package connpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/tunnel"
)

// What the connection point says to gateway instances: the signed published
// configuration, and its own status.

const (
	// lookEvery is how often files are looked at. With the delivery it bounds
	// the time until a blocked token or certificate is refused everywhere.
	lookEvery     = 200 * time.Millisecond
	retryEvery    = 2 * time.Second // a file that was not taken over
	statusEvery   = time.Minute
	trafficEvery  = 5 * time.Second
	controlWait   = 10 * time.Second
	maxControl    = 16 << 10 // bytes of a control answer
	maxDocument   = 32 << 20 // bytes of a published configuration
	statusSettles = 50 * time.Millisecond
)

// published is a verified published configuration as it is delivered.
type published struct {
	version   uint64
	gateway   string
	instances int
	jws       []byte
}

// A fileWatch notices that a file changed. A content that was not taken over is
// tried again, since the reason may pass (a clock that is behind, a disk that is
// full), and the reason is said once.
type fileWatch struct {
	path  string
	mod   time.Time
	size  int64
	tried time.Time
	said  string // why it was not taken over; empty when it was
}

// due reports whether the file is to be read.
func (w *fileWatch) due(now time.Time) bool {
	fi, err := os.Stat(w.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return false
	case err == nil && (!fi.ModTime().Equal(w.mod) || fi.Size() != w.size):
		w.mod, w.size = fi.ModTime(), fi.Size()
	case err == nil && w.said == "", now.Sub(w.tried) < retryEvery:
		return false
	}
	w.tried = now
	return true
}

// failed notes the outcome of reading and reports whether it is news.
func (w *fileWatch) failed(err error) bool {
	said := w.said
	w.said = ""
	if err != nil {
		w.said = err.Error()
	}
	return w.said != "" && w.said != said
}

// problems are why documents are not in force.
type problems struct {
	mu                  sync.Mutex // guards what follows
	published, mappings string
}

func (p *problems) note(published, mappings string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.published, p.mappings = published, mappings
}

func (p *problems) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.published != "" {
		return "published configuration: " + p.published
	}
	if p.mappings != "" {
		return "URL mappings: " + p.mappings
	}
	return ""
}

// watchFiles takes over the published configuration and the mappings whenever
// their files change.
func (c *Connector) watchFiles(ctx context.Context) {
	config, maps := fileWatch{path: c.cfg.PublishedFile}, fileWatch{path: c.cfg.MappingsFile}
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for now := time.Now(); ; {
		if config.path != "" && config.due(now) {
			newer, err := c.loadPublished()
			if config.failed(err) {
				c.log.Error("published configuration is not delivered", "err", err)
			}
			if newer {
				for _, l := range c.gateways() {
					for _, i := range l.all() {
						i.poke()
					}
				}
			}
		}
		if maps.path != "" && maps.due(now) {
			if err := c.loadMappings(); maps.failed(err) {
				c.log.Error("URL mappings are not taken over: the old ones stay in force", "err", err)
			}
		}
		c.problems.note(config.said, maps.said)
		select {
		case <-ctx.Done():
			return
		case now = <-t.C:
		}
	}
}

func (c *Connector) loadMappings() error {
	b, err := os.ReadFile(c.cfg.MappingsFile)
	if err != nil {
		return fmt.Errorf("read URL mappings: %w", err)
	}
	m, err := c.cfg.LoadMappings(b)
	if err != nil {
		return err
	}
	return c.SetMappings(m)
}

// loadPublished reads and verifies the file; a document that a gateway would
// refuse is not sent. It reports whether there is another one now.
func (c *Connector) loadPublished() (newer bool, err error) {
	p, err := c.readPublished()
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	// Versions of different gateways do not compare.
	if old := c.published.Load(); old != nil && old.gateway == p.gateway && old.version >= p.version {
		return false, nil
	}
	c.published.Store(p)
	return true, nil
}

func (c *Connector) readPublished() (*published, error) {
	f, err := os.Open(c.cfg.PublishedFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	jws, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	if err != nil {
		return nil, err
	}
	if len(jws) > maxDocument {
		return nil, opencmg.Errorf(opencmg.TooLarge, "published configuration: is larger than %d bytes", maxDocument)
	}
	doc, err := pki.VerifyConfiguration(jws, c.cfg.SiteCA, c.cfg.Site, time.Now())
	if err != nil {
		return nil, err
	}
	return &published{version: doc.Version, gateway: doc.Gateway, instances: doc.Instances, jws: jws}, nil
}

// deliver brings the instance to the newest published configuration, whenever
// one appears or a tunnel comes up.
func (i *instanceLink) deliver(ctx context.Context) {
	c := i.link.c
	for {
		select {
		case <-ctx.Done():
			return
		case <-i.wake:
		}
		p, conn := c.published.Load(), i.conn()
		i.mu.Lock()
		inForce := i.inForce
		i.mu.Unlock()
		if p == nil || conn == nil || p.gateway != i.link.name || inForce >= p.version {
			continue
		}
		log := c.log.With("gateway", i.link.name, "instance", i.number, "version", p.version)
		answer, err := c.control(ctx, conn, opencmg.ControlConfiguration, p.jws)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			log.Warn("published configuration was not delivered, trying again", "err", err)
			t := time.NewTimer(jitter(2 * lookEvery))
			select {
			case <-ctx.Done():
				t.Stop()
				return
			case <-t.C:
			}
			i.poke()
		case answer.Error != "" && answer.Version < p.version:
			log.Error("the instance refused the published configuration", "reason", answer.Error, "in_force", answer.Version)
		default:
			log.Info("published configuration is in force", "in_force", answer.Version)
			i.mu.Lock()
			i.inForce = max(i.inForce, answer.Version)
			i.mu.Unlock()
			if answer.Version == p.version {
				i.link.learn(p.instances)
			}
			poke(i.look)
		}
	}
}

// control sends one document on a control stream and returns the answer.
func (c *Connector) control(ctx context.Context, conn *tunnel.Conn, endpoint string, body []byte) (*opencmg.ControlAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, controlWait)
	defer cancel()
	s, err := c.ask(ctx, conn, endpoint, body)
	if err != nil {
		return nil, err
	}
	s.close() // nothing more is wanted of it
	return &s.answer, nil
}

// A controlStream is a control stream whose answer has come.
type controlStream struct {
	*tunnel.Stream
	answer opencmg.ControlAnswer
	stop   func() bool
}

func (s *controlStream) close() {
	s.stop()
	s.Reset(tunnel.CodeCancelled)
}

// ask opens a control stream and reads the answer. The body that may follow it
// is the caller's to read, who closes the stream; ctx ends every wait for it.
func (c *Connector) ask(ctx context.Context, conn *tunnel.Conn, endpoint string, body []byte) (*controlStream, error) {
	st, err := conn.Open(&tunnel.Request{Endpoint: endpoint, BodyLength: int64(len(body))}, body, true)
	if err != nil {
		return nil, fmt.Errorf("open control stream: %w", err)
	}
	s := &controlStream{Stream: st, stop: context.AfterFunc(ctx, func() { st.Reset(tunnel.CodeCancelled) })}
	head, _, err := s.ReadHead()
	switch {
	case err != nil:
		err = fmt.Errorf("read control answer: %w", err)
	case len(head) > maxControl:
		err = opencmg.Errorf(opencmg.TooLarge, "control answer is too large")
	default:
		if err = json.Unmarshal(head, &s.answer); err != nil {
			err = fmt.Errorf("read control answer: %w", err)
		}
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// notify makes the status be reported soon.
func (c *Connector) notify() {
	poke(c.changed)
	poke(c.news)
}

// reportStatus sends the status to every instance when tunnels change, within
// seconds of traffic, and every minute (cmg-behaviour C12, C14: over the
// tunnel, not by files).
func (c *Connector) reportStatus(ctx context.Context) {
	t := time.NewTicker(trafficEvery)
	defer t.Stop()
	var reported []opencmg.EndpointTraffic
	var sent time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			if traffic := c.Status().Endpoints; now.Sub(sent) < statusEvery && slices.Equal(traffic, reported) {
				continue
			}
			c.log.Debug("ReportTrafficData - state message to send")
		case <-c.changed:
			// Several tunnels tend to change together.
			settle := time.NewTimer(statusSettles)
			select {
			case <-ctx.Done():
				settle.Stop()
				return
			case <-settle.C:
			}
		}
		status := c.Status()
		reported, sent = status.Endpoints, time.Now()
		body, err := json.Marshal(status)
		if err != nil {
			c.log.Error("status can not be written", "err", err)
			continue
		}
		for _, l := range c.gateways() {
			for _, i := range l.all() {
				conn := i.conn()
				if conn == nil {
					continue
				}
				if a, err := c.control(ctx, conn, opencmg.ControlStatus, body); err != nil && ctx.Err() == nil {
					c.log.Debug("status was not reported", "gateway", l.name, "instance", i.number, "err", err)
				} else if err == nil && a.Error != "" {
					c.log.Warn("the instance refused the status", "gateway", l.name, "instance", i.number, "reason", a.Error)
				}
			}
		}
	}
}
