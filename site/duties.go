package site

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/opencmg/opencmg/sitedb"
)

// A duty is something that the site does again and again.
type duty struct {
	name  string
	every time.Duration
	do    func(context.Context) error
	mu    sync.Mutex // one at a time
}

// Intervals of cmg-behaviour: thresholds every six minutes (A3), secrets every
// hour (A8). The others look often and act when something is due.
func (s *Server) allDuties() []*duty {
	return []*duty{
		{name: "thresholds", every: 6 * time.Minute, do: s.watchThresholds},
		{name: "expiry", every: time.Hour, do: s.watchExpiry},
		{name: "gauges", every: time.Minute, do: s.sample},
		{name: "trim", every: time.Hour, do: s.trim},
		{name: "certificates", every: s.cfg.Watch, do: s.renewCertificates},
		{name: "identities", every: 6 * time.Hour, do: s.renewIdentities},
		{name: "discovery", every: s.cfg.Watch, do: s.discoverDue},
		{name: "analyses", every: s.cfg.Watch, do: s.analyzeDue},
		{name: "storage", every: time.Hour, do: s.tendStorage},
	}
}

// watch does every duty, at once and then at its interval, until ctx ends. None
// of them waits for another: a cloud that does not answer must not keep the
// site from looking at its thresholds.
func (s *Server) watch(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	for _, d := range s.duties {
		all.Go(func() {
			t := time.NewTicker(d.every)
			defer t.Stop()
			for {
				s.report(ctx, d.run(ctx))
				s.shown.tell() // an alert may be over
				select {
				case <-ctx.Done():
					return
				case <-t.C:
				}
			}
		})
	}
	return nil
}

func (d *duty) run(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.do(ctx); err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	return nil
}

// How long the site remembers.
const (
	keepMessages   = 365 * 24 * time.Hour // also alerts that were closed
	keepOperations = 90 * 24 * time.Hour
)

// trim forgets what is old. How long counts and samples are kept is the
// database's own business.
func (s *Server) trim(ctx context.Context) error {
	now := s.cfg.Now()
	if err := s.db.TrimCounts(ctx, now); err != nil {
		return err
	}
	if err := s.db.TrimSamples(ctx, now); err != nil {
		return err
	}
	for _, t := range []struct {
		forget func(context.Context, time.Time) (int64, error)
		keep   time.Duration
	}{
		{s.db.TrimSiteMessages, keepMessages}, {s.db.TrimAlerts, keepMessages}, {s.db.TrimOperations, keepOperations}, {s.db.TrimClientOperations, sitedb.KeepNotifications},
	} {
		if _, err := t.forget(ctx, now.Add(-t.keep)); err != nil {
			return err
		}
	}
	return nil
}
