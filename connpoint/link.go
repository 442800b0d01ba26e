package connpoint

import (
	"context"
	"net"
	"slices"
	"strconv"
	"sync"

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
	c      *Connector
	target GatewayTarget

	mu        sync.Mutex // guards what follows
	ctx       context.Context
	instances map[int]*instanceLink
	reported  int // instances, as the gateway last said
}

func newLink(c *Connector, t GatewayTarget) (*link, error) {
	if t.Name == "" {
		return nil, opencmg.Errorf(opencmg.Invalid, "gateway: name must be set")
	}
	if t.ServiceName == "" && len(t.Instances) == 0 {
		return nil, opencmg.Errorf(opencmg.Invalid, "gateway %s: set the service name or the addresses of its instances", t.Name)
	}
	if t.Count < 0 || t.Count > opencmg.MaxInstances {
		return nil, opencmg.Errorf(opencmg.Invalid, "gateway %s: count: must be 1 to %d", t.Name, opencmg.MaxInstances)
	}
	for _, a := range t.Instances {
		if a.Instance < -1 || a.Instance >= opencmg.MaxInstances {
			return nil, opencmg.Errorf(opencmg.Invalid, "gateway %s: instance %d: must be 0 to %d, or -1 for a balanced address", t.Name, a.Instance, opencmg.MaxInstances-1)
		}
		if a.TCPTLS == "" && a.HTTPS == "" {
			return nil, opencmg.Errorf(opencmg.Invalid, "gateway %s: instance %d: needs an address", t.Name, a.Instance)
		}
	}
	return &link{c: c, target: t, instances: map[int]*instanceLink{}}, nil
}

// run keeps the tunnels until ctx ends and all are drained.
func (l *link) run(ctx context.Context) {
	l.mu.Lock()
	l.ctx = ctx
	l.mu.Unlock()
	first := max(1, l.target.Count)
	for n := range first {
		if l.target.Count > 0 || len(l.target.Instances) == 0 || l.balanced() {
			l.ensure(n)
		}
	}
	for _, a := range l.target.Instances {
		if a.Instance >= 0 {
			l.ensure(a.Instance)
		}
	}
	<-ctx.Done()
}

// balanced reports whether one address leads to all instances.
func (l *link) balanced() bool {
	return slices.ContainsFunc(l.target.Instances, func(a InstanceAddress) bool { return a.Instance == -1 })
}

// ensure starts to keep tunnels to the instance unless that is done already.
func (l *link) ensure(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.instances[n] != nil || l.ctx.Err() != nil || n >= opencmg.MaxInstances {
		return
	}
	i := &instanceLink{link: l, number: n, wake: make(chan struct{}, 1)}
	l.instances[n] = i
	ctx := l.ctx
	for range l.c.cfg.Connections {
		s := &slot{instance: i, offered: make(chan *dialled)}
		i.slots = append(i.slots, s)
		l.c.wg.Go(func() { s.keep(ctx) })
	}
	l.c.wg.Go(func() { i.deliver(ctx) })
}

// learn takes over what an instance said about its gateway.
func (l *link) learn(instances int) {
	if instances < 1 || instances > opencmg.MaxInstances {
		return
	}
	l.mu.Lock()
	l.reported = instances
	l.mu.Unlock()
	for n := range instances {
		if l.target.ServiceName != "" || l.balanced() || l.listed(n) {
			l.ensure(n)
		}
	}
}

// listed reports whether the configuration has the instance's address.
func (l *link) listed(n int) bool {
	return slices.ContainsFunc(l.target.Instances, func(a InstanceAddress) bool { return a.Instance == n })
}

// wanted reports whether the instance still belongs to the gateway; an unknown
// number of instances wants all.
func (l *link) wanted(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reported == 0 || n < max(l.reported, l.target.Count) || l.listed(n)
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

// address returns where the instance accepts tunnels.
func (l *link) address(n int) InstanceAddress {
	shared := InstanceAddress{Instance: -2}
	for _, a := range l.target.Instances {
		switch a.Instance {
		case n:
			return a
		case -1:
			shared = a
		}
	}
	if shared.Instance == -1 {
		return shared
	}
	l.mu.Lock()
	total := max(l.reported, l.target.Count, len(l.instances))
	l.mu.Unlock()
	https := 443
	if total > 1 {
		https = portHTTPS + n
	}
	host := l.target.ServiceName
	return InstanceAddress{Instance: n,
		TCPTLS: net.JoinHostPort(host, strconv.Itoa(portTCPTLS+n)),
		HTTPS:  net.JoinHostPort(host, strconv.Itoa(https))}
}

// An instanceLink holds the tunnels to one instance.
type instanceLink struct {
	link   *link
	number int
	slots  []*slot
	wake   chan struct{} // capacity 1: there is something to deliver

	mu      sync.Mutex // guards what follows
	lastErr string     // of dialling; empty while connected
	inForce uint64     // version of the published configuration there
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
		i.link.c.log.Warn("no tunnel to the gateway instance", "gateway", i.link.target.Name, "instance", i.number, "err", err)
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
func (i *instanceLink) poke() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

// tunnelStatus reports every slot.
func (c *Connector) tunnelStatus() []opencmg.TunnelStatus {
	var list []opencmg.TunnelStatus
	for _, l := range c.links {
		for _, i := range l.all() {
			t := opencmg.TunnelStatus{Gateway: l.target.Name, Instance: i.number}
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
