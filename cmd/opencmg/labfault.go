package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/opencmg/opencmg/client"
)

// A labFaultReport says what broke and what clients noticed.
type labFaultReport struct {
	Fault string `json:"fault"`
	What  string `json:"what"` // e.g. the process that was killed
	// Steps and Failed count what clients did while it happened.
	Steps  int `json:"steps"`
	Failed int `json:"failed"`
	// Slowest is the slowest step, in milliseconds.
	Slowest float64 `json:"slowestMs"`
	// Recovered is how long it took until everything was whole again, in
	// milliseconds.
	Recovered float64             `json:"recoveredMs"`
	Failures  []client.StepResult `json:"failures,omitempty"`
	Error     string              `json:"error,omitempty"`
	OK        bool                `json:"ok"`
}

// showFault breaks something while every client works without a pause, and
// counts what they notice. It ends when the system is whole again and every
// client has gone through another round.
func (l *lab) showFault(ctx context.Context, clients []*labClient, ui *labUI) *labFaultReport {
	r := &labFaultReport{Fault: l.opts.fault}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	// A sample of the clients works, so that a lab with many is not about load.
	clients = clients[:min(len(clients), 30)]
	var (
		mu    sync.Mutex // guards r while clients work
		wg    sync.WaitGroup
		once  sync.Once
		begun = make(chan struct{}) // a client has begun its round
		whole = make(chan struct{}) // the fault has passed
	)
	for _, c := range clients {
		wg.Go(func() {
			for last := false; ; {
				once.Do(func() { close(begun) })
				for _, s := range c.work(ctx, laterSteps) {
					mu.Lock()
					r.Steps++
					r.Slowest = max(r.Slowest, s.Milliseconds)
					if !s.OK {
						r.Failed++
						if len(r.Failures) < 10 {
							r.Failures = append(r.Failures, s)
						}
					}
					mu.Unlock()
				}
				if last || ctx.Err() != nil {
					return
				}
				select {
				case <-whole:
					last = true
				default:
				}
			}
		})
	}
	<-begun
	start := time.Now()
	var err error
	for i := 0; i < 2 && err == nil; i++ {
		err = l.breakSomething(ctx, i, r, ui)
	}
	if err != nil {
		r.Error = err.Error()
	}
	r.Recovered = float64(time.Since(start)) / 1e6
	close(whole)
	wg.Wait()
	r.OK = err == nil && r.Failed == 0 && r.Steps > 0
	return r
}

// breakSomething does the fault once and waits until all is whole again. turn
// chooses which of the equal parts is hit.
func (l *lab) breakSomething(ctx context.Context, turn int, r *labFaultReport, ui *labUI) error {
	var victims []*labProcess
	switch l.opts.fault {
	case faultKillInstance:
		victims = []*labProcess{l.process(fmt.Sprintf("gateway-%d", turn%l.opts.instances))}
	case faultKillConnectionPoint:
		victims = []*labProcess{l.process(fmt.Sprintf("connection-point-cp%d", turn%l.opts.connectionPoints+1))}
	case faultDropTunnel:
		n, err := l.cutTunnels(ctx)
		if err != nil {
			return err
		}
		r.What += fmt.Sprintf("%d connections cut; ", n)
		ui.say("        %d connections cut", n)
	}
	for _, p := range victims {
		pid := p.pid()
		r.What += fmt.Sprintf("%s (process %d) killed; ", p.name, pid)
		ui.say("        %s (process %d) killed", p.name, pid)
		p.kill()
		if err := p.restarted(ctx, pid); err != nil {
			return err
		}
	}
	for _, p := range l.processes {
		if err := p.ready(ctx, l.processes); err != nil {
			return err
		}
	}
	return nil
}

// restarted waits until the process runs under another ID.
func (p *labProcess) restarted(ctx context.Context, old int) error {
	for p.pid() == old {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s was not started again: %w", p.name, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

func printFault(w io.Writer, r *labFaultReport) {
	fmt.Fprintf(w, "\nFault: %s\n\n  %s\n  clients did %d steps meanwhile, %d failed, the slowest took %.0f ms; whole again after %.0f ms  %s\n",
		r.Fault, r.What, r.Steps, r.Failed, r.Slowest, r.Recovered, okWord(r.OK))
	for _, f := range r.Failures {
		fmt.Fprintf(w, "  %s: %s\n", f.Step, f.Error)
	}
	if r.Error != "" {
		fmt.Fprintf(w, "  %s\n", r.Error)
	}
}

// cutTunnels has the lab cloud reset every connection that it relays, like a
// piece of network that fails, and returns how many ends there were.
func (l *lab) cutTunnels(ctx context.Context) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+l.addr.cloud+"/lab/cut", nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+l.adminSecret)
	c, err := l.httpClient()
	if err != nil {
		return 0, err
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	var cut struct {
		Cut int `json:"cut"`
	}
	return cut.Cut, json.NewDecoder(res.Body).Decode(&cut)
}

func medianAndMax(times []float64) (median, slowest float64) {
	if len(times) == 0 {
		return 0, 0
	}
	times = slices.Sorted(slices.Values(times))
	return times[len(times)/2], times[len(times)-1]
}
