package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// cloudState asks the lab cloud about its machines.
func (l *lab) cloudState(ctx context.Context) (state labCloudState, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+l.addr.cloud+"/lab/state", nil)
	if err != nil {
		return state, err
	}
	req.Header.Set("Authorization", "Bearer "+l.adminSecret)
	c, err := l.httpClient()
	if err != nil {
		return state, err
	}
	res, err := c.Do(req)
	if err != nil {
		return state, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return state, opencmg.Errorf(opencmg.Unavailable, "the lab cloud answered %s", res.Status)
	}
	return state, json.NewDecoder(res.Body).Decode(&state)
}

// labCloudState is the part of labcloud.State that the lab looks at.
type labCloudState struct {
	Machines []struct {
		InstanceID string         `json:"instanceId"`
		PID        int            `json:"pid"`
		Ports      map[int]string `json:"ports"`
	} `json:"machines"`
}

// findMachines lists the gateway's instances among the lab's processes, by
// instance number.
func (l *lab) findMachines(ctx context.Context, gateway string) error {
	g, err := adminservice.Get[adminservice.Gateway](ctx, l.admin, "Gateways/"+gateway)
	if err != nil {
		return err
	}
	state, err := l.cloudState(ctx)
	if err != nil {
		return err
	}
	numbers := 0 // those of machines that were removed leave gaps
	for _, i := range g.Machines {
		numbers = max(numbers, i.Number+1)
	}
	l.addr.gatewayHTTPS = make([]string, numbers)
	room := &machineRoom{private: l.addr.machines}
	for _, i := range g.Machines {
		for _, m := range state.Machines {
			if m.InstanceID != i.Machine {
				continue
			}
			l.addr.gatewayHTTPS[i.Number] = m.Ports[machineHTTPS]
			p := &labProcess{name: fmt.Sprintf("gateway-%d", i.Number), privateURL: "http://" + room.privateOf(m.InstanceID), dir: l.path("logs"), log: l.log, foreign: true, machine: m.InstanceID}
			p.foreignPID.Store(int64(m.PID))
			l.processes = append(l.processes, p)
		}
	}
	return nil
}

// watchMachines keeps the IDs of the machines' processes up to date: the lab
// cloud starts a machine again that ends.
func (l *lab) watchMachines(ctx context.Context) {
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		state, err := l.cloudState(ctx)
		if err != nil {
			continue // the lab cloud itself starts again
		}
		changed := false
		for _, m := range state.Machines {
			for _, p := range l.processes {
				if p.foreign && p.machine == m.InstanceID && p.foreignPID.Swap(int64(m.PID)) != int64(m.PID) {
					changed = true
				}
			}
		}
		if changed {
			l.saveInfo()
		}
	}
}

// stopMachines makes sure that no machine outlives the lab, whatever became of
// the lab cloud.
func (l *lab) stopMachines() {
	for _, p := range l.processes {
		if p.foreign && processAlive(p.pid()) {
			p.kill()
		}
	}
}
