package site

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/azure"
)

func (g *gatewayRun) scale(ctx context.Context) error {
	// Machines above the number asked for are drained before the cloud takes
	// them away; it takes the newest.
	machines := slices.Clone(g.rec.Value.Machines)
	slices.SortFunc(machines, func(a, b machineRecord) int { return compareIDs(a.ID, b.ID) })
	for _, m := range machines[min(g.d.Instances, len(machines)):] {
		if err := g.drain(ctx, m.Number); err != nil {
			return err
		}
	}
	err := g.cloud.Scale(ctx, g.d, g.say)
	return errors.Join(err, g.undrain(ctx))
}

// compareIDs orders the cloud's instance IDs, which are numbers.
func compareIDs(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

func (g *gatewayRun) upgrade(ctx context.Context) error {
	if err := g.describe(ctx); err != nil {
		return err
	}
	known := func(id string) machineRecord {
		for _, m := range g.rec.Value.Machines {
			if m.ID == id {
				return m
			}
		}
		return machineRecord{Number: -1}
	}
	stale := func(ctx context.Context, id string, stale bool) error {
		return g.save(ctx, func(v *gatewayRecord) {
			for i := range v.Machines {
				if v.Machines[i].ID == id {
					v.Machines[i].Stale = stale
				}
			}
		})
	}
	err := g.cloud.Upgrade(ctx, g.d, azure.Hooks{
		Needs: func(_ context.Context, m opencmg.Machine) (bool, error) {
			return !m.LatestModel || known(m.ID).Stale, nil
		},
		Drain: func(ctx context.Context, m opencmg.Machine) error {
			if err := stale(ctx, m.ID, true); err != nil {
				return err
			}
			if n := known(m.ID).Number; n >= 0 {
				return g.drain(ctx, n)
			}
			return nil
		},
		Ready: func(ctx context.Context, m opencmg.Machine) error {
			if err := g.undrain(ctx); err != nil {
				return err
			}
			if err := g.ready(ctx, m.ID, known(m.ID).Number); err != nil {
				return err
			}
			return stale(ctx, m.ID, false)
		},
	}, g.say)
	return errors.Join(err, g.undrain(ctx))
}

// ready waits until a machine is healthy again and, when connection points
// serve the gateway, has its tunnels.
func (g *gatewayRun) ready(ctx context.Context, id string, n int) error {
	for {
		machines, err := g.cloud.Machines(ctx, g.d)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(machines, func(m opencmg.Machine) bool { return m.ID == id })
		if i < 0 {
			return nil
		}
		healthy := machines[i].Power == powerRunning && machines[i].Health == healthHealthy
		_, connected := g.s.live.instance(g.rec.Value.Prefix, n, g.s.cfg.Now())
		if healthy && (connected || !g.s.live.served(g.rec.Value.Prefix, g.s.cfg.Now())) {
			return nil
		}
		if err := pause(ctx, g.s.cfg.Poll); err != nil {
			return err
		}
	}
}

// drain tells an instance to send its clients away, and waits until it has
// none in flight.
func (g *gatewayRun) drain(ctx context.Context, n int) error {
	if len(g.rec.Value.Machines) < 2 || !g.s.live.served(g.rec.Value.Prefix, g.s.cfg.Now()) {
		return nil // nobody could take its clients, or nobody could tell it
	}
	g.say("drain", fmt.Sprintf("instance %d sends its clients away", n))
	if err := g.s.publisher.drain(ctx, g.rec.ID, n); err != nil {
		return err
	}
	ends := g.s.cfg.Now().Add(drainTime)
	for g.s.cfg.Now().Before(ends) {
		status, connected := g.s.live.instance(g.rec.Value.Prefix, n, g.s.cfg.Now())
		if !connected || status != nil && status.Drained {
			return nil
		}
		if err := pause(ctx, min(g.s.cfg.Poll, time.Second)); err != nil {
			return err
		}
	}
	g.say("drain", fmt.Sprintf("instance %d still has requests in flight after %v and goes down all the same", n, drainTime))
	return nil
}

func (g *gatewayRun) undrain(ctx context.Context) error {
	return g.s.publisher.drain(ctx, g.rec.ID, -1)
}

func (g *gatewayRun) await(ctx context.Context, step string, done func(*opencmg.InstanceStatus) bool) error {
	ends := g.s.cfg.Now().Add(awaitTime)
	for {
		var waiting []string
		for _, m := range g.rec.Value.Machines {
			status, connected := g.s.live.instance(g.rec.Value.Prefix, m.Number, g.s.cfg.Now())
			if connected && (status == nil || !done(status)) {
				waiting = append(waiting, fmt.Sprint(m.Number))
			}
		}
		if len(waiting) == 0 {
			return nil
		}
		if g.s.cfg.Now().After(ends) {
			return opencmg.Errorf(opencmg.Timeout, "instances %s did not follow within %v: look at their CMGService.log", strings.Join(waiting, ", "), awaitTime)
		}
		if err := pause(ctx, min(g.s.cfg.Poll, time.Second)); err != nil {
			return err
		}
	}
}

// renewIdentities gives the machines of a gateway new tunnel identities before
// the present ones end. They take them from the vault while they run.
func (s *Server) renewIdentities(ctx context.Context) error {
	now := s.cfg.Now()
	return s.manager.beginDue(ctx, opSynchronize, "the tunnel identities of gateway %s are due", func(v *gatewayRecord) bool {
		return v.Model == adminservice.ModelScaleSet && slices.ContainsFunc(v.Machines, func(m machineRecord) bool {
			st, connected := s.live.instance(v.Prefix, m.Number, now)
			return connected && st != nil && !st.TunnelCertEnds.IsZero() && st.TunnelCertEnds.Sub(now) < identityRenew
		})
	})
}
