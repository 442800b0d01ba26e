package connpoint

import (
	"context"
	"net"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/tunnel"
)

// Documented ports (cmg-behaviour G11, G12), for instance n from 0. One
// instance takes tunnels over HTTPS on 443.
const (
	portTCPTLS = 10140
	portHTTPS  = 10124
)

// A link is the connection point's end of one gateway: an instanceLink for
// every instance that is configured or that the gateway reports.
type link struct {
	c    *Connector
	name string

	mu        sync.Mutex // guards what follows
	target    opencmg.GatewayTarget
	ctx       context.Context // nil before start
	cancel    context.CancelFunc
	instances map[int]*instanceLink
	reported  int // instances, as the gateway last said
	joins     map[opencmg.JoinAddress]context.CancelFunc
}

func newLink(c *Connector, t opencmg.GatewayTarget) *link {
	return &link{c: c, name: t.Name, target: t, instances: map[int]*instanceLink{}, joins: map[opencmg.JoinAddress]context.CancelFunc{}}
}

// start keeps the tunnels until ctx ends or the link is stopped.
func (l *link) start(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ctx, l.cancel = context.WithCancel(ctx)
	l.begin()
}

// begin begins with every instance that the target names. l.mu is held.
func (l *link) begin() {
	l.expectJoins()
	if t := &l.target; t.Count > 0 || len(t.Instances) == 0 && len(t.Joins) == 0 || balanced(t) {
		for n := range max(1, t.Count) {
			l.ensureLocked(n)
		}
	}
	for _, a := range l.target.Instances {
		if a.Instance >= 0 {
			l.ensureLocked(a.Instance)
		}
	}
}

// stop gives the gateway up: its tunnels drain in the background.
func (l *link) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cancel != nil {
		l.cancel()
	}
}

// replaceAfter bounds how long tunnels to a former address are kept while none
// by the new one is up.
const replaceAfter = 15 * time.Second

// update takes over what the site says now about the gateway. Tunnels to
// instances whose address did not change stay; those to instances that are gone
// drain, and those by a former address do once there is one by the new address.
func (l *link) update(t opencmg.GatewayTarget) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if reflect.DeepEqual(l.target, t) {
		return
	}
	old := l.target
	l.target = t
	named := func(n int) bool { _, ok := listed(&t, n); return ok }
	gone := func(n int) bool { return false }
	switch {
	case t.Count > 0:
		l.reported = t.Count // until the gateway says otherwise
		gone = func(n int) bool { return n >= t.Count && !(named(n) && !balanced(&t)) }
	case len(t.Instances) > 0 && !balanced(&t):
		gone = func(n int) bool { return !named(n) }
	}
	if l.ctx == nil {
		return
	}
	for n := range opencmg.MaxInstances {
		i := l.instances[n]
		if i == nil || !gone(n) && wayTo(&old, n) == wayTo(&t, n) {
			continue
		}
		delete(l.instances, n)
		if gone(n) {
			i.cancel()
			continue
		}
		l.ensureLocked(n)
		if i.next = l.instances[n]; i.next != nil {
			close(i.replaced)
			l.c.wg.Go(i.retire)
		}
	}
	l.begin()
}

// retire gives the instance's tunnels up once what replaces it has one.
func (i *instanceLink) retire() {
	t := time.NewTimer(replaceAfter)
	defer t.Stop()
	for next := i.next; ; {
		select {
		case <-next.replaced: // before it had any
			next = next.next
			continue
		case <-next.up:
		case <-t.C:
		case <-i.link.ctx.Done():
		}
		i.cancel()
		return
	}
}

// A way is all of a target that decides how an instance is reached.
type way struct {
	serviceName string
	address     opencmg.InstanceAddress
}

func wayTo(t *opencmg.GatewayTarget, n int) way {
	a, _ := listed(t, n)
	return way{t.ServiceName, a}
}

// listed returns the address that the target has for the instance.
func listed(t *opencmg.GatewayTarget, n int) (a opencmg.InstanceAddress, ok bool) {
	for _, a := range t.Instances {
		if a.Instance == n {
			return a, true
		}
	}
	for _, a := range t.Instances {
		if a.Instance == -1 {
			return a, true
		}
	}
	return a, false
}

// balanced reports whether one address leads to all instances.
func balanced(t *opencmg.GatewayTarget) bool {
	return slices.ContainsFunc(t.Instances, func(a opencmg.InstanceAddress) bool { return a.Instance == -1 })
}

// ensure starts to keep tunnels to the instance unless that is done already.
func (l *link) ensure(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ensureLocked(n)
}

func (l *link) ensureLocked(n int) {
	if l.instances[n] != nil || l.ctx == nil || l.ctx.Err() != nil || n >= opencmg.MaxInstances {
		return
	}
	i := &instanceLink{link: l, number: n, wake: make(chan struct{}, 1), look: make(chan struct{}, 1), up: make(chan struct{}), replaced: make(chan struct{})}
	l.instances[n] = i
	var ctx context.Context
	ctx, i.cancel = context.WithCancel(l.ctx)
	for range l.c.cfg.Connections {
		s := &slot{instance: i, offered: make(chan *dialled)}
		i.slots = append(i.slots, s)
		l.c.wg.Go(func() { s.keep(ctx) })
	}
	l.c.wg.Go(func() { i.deliver(ctx) })
	if l.c.cfg.CollectInstances {
		l.c.wg.Go(func() { i.collect(ctx) })
		l.c.wg.Go(func() { i.followLogs(ctx) })
	}
}

// learn takes over what an instance said about its gateway.
func (l *link) learn(instances int) {
	if instances < 1 || instances > opencmg.MaxInstances {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reported = instances
	for n := range instances {
		if _, listed := listed(&l.target, n); listed || l.target.ServiceName != "" {
			l.ensureLocked(n)
		}
	}
}

// wanted reports whether the instance still belongs to the gateway; an unknown
// number of instances wants all.
func (l *link) wanted(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wantedLocked(n)
}

func (l *link) wantedLocked(n int) bool {
	if l.reported == 0 || n < max(l.reported, l.target.Count) {
		return true
	}
	return slices.ContainsFunc(l.target.Instances, func(a opencmg.InstanceAddress) bool { return a.Instance == n })
}

// forget ends the keeping of an instance that was taken away. It reports
// whether the caller is to end.
func (l *link) forget(i *instanceLink) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.instances[i.number] == i {
		delete(l.instances, i.number)
	}
}

// all returns the instances in the order of their numbers.
func (l *link) all() []*instanceLink {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []*instanceLink
	for n := range opencmg.MaxInstances {
		if i := l.instances[n]; i != nil {
			list = append(list, i)
		}
	}
	return list
}

// count returns how many instances have a tunnel, and how many there are.
func (l *link) count() (have, want int) {
	for _, i := range l.all() {
		want++
		if i.conn() != nil {
			have++
		}
	}
	return have, want
}

func (l *link) lastError() string {
	for _, i := range l.all() {
		i.mu.Lock()
		err := i.lastErr
		i.mu.Unlock()
		if err != "" {
			return err
		}
	}
	return "still connecting"
}

// address returns where the instance accepts tunnels, and the gateway's service
// name.
func (l *link) address(n int) (a opencmg.InstanceAddress, serviceName string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	serviceName = l.target.ServiceName
	if a, ok := listed(&l.target, n); ok {
		return a, serviceName
	}
	https := 443
	if max(l.reported, l.target.Count, len(l.instances)) > 1 {
		https = portHTTPS + n
	}
	return opencmg.InstanceAddress{Instance: n,
		TCPTLS: net.JoinHostPort(serviceName, strconv.Itoa(portTCPTLS+n)),
		HTTPS:  net.JoinHostPort(serviceName, strconv.Itoa(https))}, serviceName
}

// An instanceLink holds the tunnels to one instance.
type instanceLink struct {
	link   *link
	number int
	cancel context.CancelFunc // drains the tunnels and ends all that belongs to it
	slots  []*slot
	wake   chan struct{} // capacity 1: there is something to deliver
	look   chan struct{} // capacity 1: the instance's status may have changed
	up     chan struct{} // closed once the first tunnel is up
	once   sync.Once     // closes up
	// next is the link by another address; set before replaced is closed.
	next     *instanceLink
	replaced chan struct{}
	logged   time.Time // of the latest line that came; followLogs's own

	mu      sync.Mutex // guards what follows
	lastErr string     // of dialling; empty while connected
	inForce uint64     // version of the published configuration there
	status  *opencmg.InstanceStatus
}

// conn returns a tunnel that takes new streams, nil when there is none.
func (i *instanceLink) conn() *tunnel.Conn {
	for _, s := range i.slots {
		if conn := s.conn(); conn != nil {
			return conn
		}
	}
	return nil
}

// failed notes why dialling failed, and logs each reason once.
func (i *instanceLink) failed(err error) {
	i.mu.Lock()
	again := i.lastErr == err.Error()
	i.lastErr = err.Error()
	i.mu.Unlock()
	if !again {
		i.link.c.log.Warn("no tunnel to the gateway instance", "gateway", i.link.name, "instance", i.number, "err", err)
		i.link.c.notify()
	}
}

// offer gives a tunnel to a slot of its instance that waits to dial again.
func (l *link) offer(d *dialled) bool {
	l.ensure(d.instance)
	l.mu.Lock()
	i := l.instances[d.instance]
	l.mu.Unlock()
	if i == nil {
		return false
	}
	for _, s := range i.slots {
		select {
		case s.offered <- d:
			return true
		default:
		}
	}
	return false
}

// poke makes the instance's delivery look again.
func (i *instanceLink) poke() { poke(i.wake) }

// poke wakes whoever waits on a channel of capacity 1, now or later.
func poke(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// tunnelStatus reports every slot.
func (c *Connector) tunnelStatus() []opencmg.TunnelStatus {
	var list []opencmg.TunnelStatus
	for _, l := range c.gateways() {
		for _, i := range l.all() {
			t := opencmg.TunnelStatus{Gateway: l.name, Instance: i.number}
			for _, s := range i.slots {
				conn := s.conn()
				if conn == nil {
					continue
				}
				s.mu.Lock()
				t.Connected, t.Transport = true, s.transport
				if t.Since.IsZero() || s.since.Before(t.Since) {
					t.Since = s.since
				}
				s.mu.Unlock()
				t.Connections++
				t.Streams += conn.Load()
				t.RTT = max(t.RTT, conn.RTT())
			}
			i.mu.Lock()
			t.LastError = i.lastErr
			i.mu.Unlock()
			list = append(list, t)
		}
	}
	return list
}
