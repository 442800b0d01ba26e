package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
)

const (
	// lookInterval is how often Run looks at clock and network addresses, so
	// that it notices a device that slept or moved.
	lookInterval = time.Minute
	// lookAgain is when to look where the device is without any sign that it
	// moved; while acts fail it is lookInterval.
	lookAgain = 15 * time.Minute
	maxRetry  = 15 * time.Minute
	// pendingInterval is how often a client that waits for approval asks.
	pendingInterval = 5 * time.Minute
	unknownTask     = 1 // return code for a task this client does not know
)

// A duty is something that Run does again and again.
type duty struct {
	name     string
	interval func(*settings) time.Duration // nil: last says when
	last     func(*state) time.Time        // the last success
	act      func(context.Context) (StepResult, error)
	// wanted says whether the duty applies now; nil means always.
	wanted func(*state) bool

	next    time.Time
	failure int // in a row
}

// Run keeps the client at work until ctx ends: registration, notification
// channel, policy, location, heartbeat, inventory and token renewal, jittered
// and repeated. Tasks that the site pushes are done at once. It returns nil
// when ctx ended.
func (c *Client) Run(ctx context.Context) error {
	c.log.Info("client starts", "component", "ClientIDManagerStartup", "auth", string(c.Auth()), "client", string(c.state().ClientID))
	pushed := make(chan int, 16)
	restart := make(chan struct{}, 1)
	var wg sync.WaitGroup
	wg.Go(func() { c.keepListening(ctx, pushed, restart) })
	defer wg.Wait()

	duties := c.duties()
	addresses := networkAddresses()
	where, looked := c.Locate(ctx), time.Now()
	for ctx.Err() == nil {
		c.reloadCertificate()
		c.search(ctx)
		for i := range duties {
			_, before := c.registered()
			if err := c.doDuty(ctx, &duties[i]); c.left(err) {
				c.NetworkChanged()
				break
			}
			if _, after := c.registered(); before != nil && after == nil {
				signal(restart)
			}
		}
		timer := time.NewTimer(c.untilNext(duties))
		look := false
		select {
		case <-ctx.Done():
		case task := <-pushed:
			c.doTask(duties, task)
		case <-c.changed:
			look = true
		case <-timer.C:
			if now := networkAddresses(); now != addresses {
				addresses, look = now, true
			}
			failing := slices.ContainsFunc(duties, func(d duty) bool { return d.failure > 0 })
			since := time.Since(looked)
			look = look || since >= lookAgain || failing && since >= lookInterval
		}
		timer.Stop()
		if look && ctx.Err() == nil {
			c.log.Info("looking where this device is", "component", "ClientLocation")
			looked = time.Now()
			if now := c.Locate(ctx); now != where {
				where = now
				c.Close() // idle connections of the place before
				signal(restart)
				for i := range duties {
					if duties[i].name == StepLocation {
						duties[i].next = time.Time{}
					}
				}
			}
		}
	}
	c.log.Info("client stops", "component", "ClientIDManagerStartup")
	return nil
}

// duties lists them in the order in which a new client needs them.
func (c *Client) duties() []duty {
	registered := func(s *state) bool { return s.ClientID != "" && s.Approval.Trusted() }
	byToken := func(s *state) bool { return registered(s) && len(s.gateways()) > 0 && c.Auth() == AuthToken }
	// The site knows a PKI client by its certificate; a renewed one is told.
	renewed := func(s *state) bool { return c.Auth() == AuthPKI && s.RegisteredCertificate != c.shown() }
	return []duty{
		{name: StepRegister, interval: func(*settings) time.Duration { return pendingInterval }, act: c.Register,
			wanted: func(s *state) bool { return !registered(s) || renewed(s) }},
		{name: StepToken, last: c.tokenDue, act: c.Token, wanted: byToken},
		// A start of the service asks anew (cmg-behaviour K2).
		{name: StepLocation, interval: func(s *settings) time.Duration { return s.Location }, act: c.Location, wanted: registered},
		{name: StepPolicy, interval: func(s *settings) time.Duration { return s.Policy }, last: func(s *state) time.Time { return s.LastPolicy }, act: c.Policy, wanted: registered},
		{name: StepHeartbeat, interval: func(s *settings) time.Duration { return s.Heartbeat }, last: func(s *state) time.Time { return s.LastHeartbeat }, act: c.Heartbeat, wanted: registered},
		{name: StepInventory, interval: func(s *settings) time.Duration { return s.Inventory }, last: func(s *state) time.Time { return s.LastInventory }, act: c.Inventory, wanted: registered},
	}
}

// tokenDue is when the client token must be renewed; the zero time when there
// is none.
func (c *Client) tokenDue(s *state) time.Time {
	if s.ClientToken == nil || s.ClientToken.ClientID != s.ClientID {
		return time.Time{}
	}
	return s.ClientToken.Renew
}

// signal sends without waiting; c holds one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// left reports whether a failure may mean that this device is no longer
// inside.
func (c *Client) left(err error) bool {
	return err != nil && c.state().Intranet && (errors.Is(err, opencmg.Unavailable) || errors.Is(err, opencmg.Timeout))
}

func (c *Client) doDuty(ctx context.Context, d *duty) error {
	st := c.state()
	if ctx.Err() != nil || d.wanted != nil && !d.wanted(st) {
		return nil
	}
	interval := time.Duration(0)
	if d.interval != nil {
		interval = d.interval(c.settings())
	}
	now := c.cfg.Now()
	if d.next.IsZero() && d.last != nil && !d.last(st).IsZero() {
		d.next = d.last(st).Add(jitter(interval))
	}
	// A clock that was set back must not put a duty off for years.
	if now.Before(d.next) && (interval == 0 || d.next.Sub(now) <= 2*interval) {
		return nil
	}
	_, err := d.act(ctx)
	now = c.cfg.Now()
	switch {
	case ctx.Err() != nil:
	case err != nil:
		d.failure++
		d.next = now.Add(jitter(min(c.settings().Retry<<min(d.failure-1, 10), maxRetry)))
	case interval == 0:
		d.failure, d.next = 0, d.last(c.state())
	default:
		d.failure, d.next = 0, now.Add(jitter(interval))
	}
	return err
}

// untilNext is how long nothing is due.
func (c *Client) untilNext(duties []duty) time.Duration {
	wait := lookInterval
	now, st := c.cfg.Now(), c.state()
	for _, d := range duties {
		if (d.wanted == nil || d.wanted(st)) && !d.next.IsZero() {
			wait = min(wait, d.next.Sub(now))
		}
	}
	return max(wait, 10*time.Millisecond)
}

// doTask brings forward the duty that a pushed task asks for.
func (c *Client) doTask(duties []duty, task int) {
	name := map[int]string{ccm.TaskMachinePolicy: StepPolicy, ccm.TaskHardwareInventory: StepInventory, ccm.TaskDiscovery: StepHeartbeat}[task]
	for i := range duties {
		if duties[i].name == name {
			duties[i].next = time.Unix(1, 0) // long due
		}
	}
}

// keepListening holds a notification channel open and makes a new one when it
// breaks or the client moved.
func (c *Client) keepListening(ctx context.Context, pushed chan<- int, restart <-chan struct{}) {
	failure := 0
	for ctx.Err() == nil {
		one, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() {
			select {
			case <-restart:
				cancel()
			case <-one.Done():
			}
		})
		err := c.listen(one, listener{ready: func() { failure = 0 }, task: func(t ccm.Task) int {
			switch t.Type {
			case ccm.TaskTest:
			case ccm.TaskMachinePolicy, ccm.TaskHardwareInventory, ccm.TaskDiscovery:
				select {
				case pushed <- t.Type:
				default: // as many wait already; one of them will do
				}
			default:
				return unknownTask
			}
			return 0
		}})
		moved := one.Err() != nil
		cancel()
		wg.Wait()
		if ctx.Err() != nil {
			return
		}
		wait := jitter(min(c.settings().Retry<<min(failure, 10), maxRetry))
		switch {
		case moved:
			wait = 0
		case errors.Is(err, opencmg.Conflict), errors.Is(err, opencmg.Forbidden):
			wait = jitter(c.settings().Retry) // not registered or approved yet
		default:
			if failure == 0 {
				wait = jitter(time.Second)
			}
			failure++
			if c.left(err) {
				c.NetworkChanged()
			}
			c.log.Warn("notification channel is lost; it is opened again", "component", notifyComponent, "wait", wait, "err", err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		case <-restart:
			timer.Stop()
		}
	}
}

// search looks for a gateway when none is known (cmg-behaviour K5).
func (c *Client) search(ctx context.Context) {
	st := c.state()
	if st.Intranet || len(st.gateways()) > 0 || len(st.Installation.GatewayURLs) == 0 || c.cfg.Now().Sub(st.LastSearch) < c.settings().GatewaySearch && !st.LastSearch.IsZero() {
		return
	}
	if err := c.searchGateways(ctx); err != nil && ctx.Err() == nil {
		c.log.Warn("no gateway was found", "component", "LocationServices", "err", err)
	}
}

// jitter spreads clients: 90 to 110 percent of d.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d*9/10 + rand.N(d/5+1)
}

// networkAddresses is a picture of the addresses of this device.
func networkAddresses() string {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return ""
	}
	var out []string
	for _, a := range list {
		out = append(out, a.String())
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}
