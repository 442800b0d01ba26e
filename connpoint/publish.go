package connpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
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
	statusEvery   = time.Minute
	trafficEvery  = 5 * time.Second
	controlWait   = 10 * time.Second
	maxControl    = 16 << 10 // bytes of a control answer
	maxDocument   = 32 << 20 // bytes of a published configuration
	statusSettles = 50 * time.Millisecond
)

// published is a verified published configuration as it is delivered.
type published struct {
	version uint64
	gateway string
	jws     []byte
}

// A fileWatch notices that a file changed.
type fileWatch struct {
	path string
	mod  time.Time
	size int64
}

func (w *fileWatch) changed() bool {
	fi, err := os.Stat(w.path)
	if err != nil || fi.ModTime().Equal(w.mod) && fi.Size() == w.size {
		return false
	}
	w.mod, w.size = fi.ModTime(), fi.Size()
	return true
}

// watchFiles takes over the published configuration and the mappings whenever
// their files change.
func (c *Connector) watchFiles(ctx context.Context) {
	config, maps := fileWatch{path: c.cfg.PublishedFile}, fileWatch{path: c.cfg.MappingsFile}
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		if config.path != "" && config.changed() && c.loadPublished() {
			for _, l := range c.links {
				for _, i := range l.all() {
					i.poke()
				}
			}
		}
		if maps.path != "" && maps.changed() {
			if err := c.loadMappings(); err != nil {
				c.log.Error("URL mappings are not taken over: the old ones stay in force", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
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
// refuse is not sent. It reports whether there is a newer one now.
func (c *Connector) loadPublished() bool {
	p, err := c.readPublished()
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			c.log.Error("published configuration is not delivered", "err", err)
		}
		return false
	}
	if old := c.published.Load(); old != nil && old.version >= p.version {
		return false
	}
	c.published.Store(p)
	return true
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
	return &published{version: doc.Version, gateway: doc.Gateway, jws: jws}, nil
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
		if p == nil || conn == nil || p.gateway != i.link.target.Name || inForce >= p.version {
			continue
		}
		log := c.log.With("gateway", i.link.target.Name, "instance", i.number, "version", p.version)
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
		}
	}
}

// control sends one document on a control stream and returns the answer.
func (c *Connector) control(ctx context.Context, conn *tunnel.Conn, endpoint string, body []byte) (*opencmg.ControlAnswer, error) {
	s, err := conn.Open(&tunnel.Request{Endpoint: endpoint, BodyLength: int64(len(body))}, body, true)
	if err != nil {
		return nil, fmt.Errorf("open control stream: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, controlWait)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { s.Reset(tunnel.CodeCancelled) })
	defer stop()
	head, _, err := s.ReadHead()
	if err != nil {
		return nil, fmt.Errorf("read control answer: %w", err)
	}
	defer s.Reset(tunnel.CodeCancelled) // nothing more is wanted of it
	if len(head) > maxControl {
		return nil, opencmg.Errorf(opencmg.TooLarge, "control answer is too large")
	}
	var a opencmg.ControlAnswer
	if err := json.Unmarshal(head, &a); err != nil {
		return nil, fmt.Errorf("read control answer: %w", err)
	}
	return &a, nil
}

// notify makes the status be reported soon.
func (c *Connector) notify() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
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
		for _, l := range c.links {
			for _, i := range l.all() {
				conn := i.conn()
				if conn == nil {
					continue
				}
				if a, err := c.control(ctx, conn, opencmg.ControlStatus, body); err != nil && ctx.Err() == nil {
					c.log.Debug("status was not reported", "gateway", l.target.Name, "instance", i.number, "err", err)
				} else if err == nil && a.Error != "" {
					c.log.Warn("the instance refused the status", "gateway", l.target.Name, "instance", i.number, "reason", a.Error)
				}
			}
		}
	}
}
