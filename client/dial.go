package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
)

// A dialer opens connections to any of a name's addresses. Addresses that
// failed lately come last, the others in an order that differs from client to
// client, so that many clients spread over a gateway's instances.
type dialer struct {
	connectTo []opencmg.ConnectTo
	now       func() time.Time

	// mu guards what follows.
	mu   sync.Mutex
	next int
	// several is whether the last name dialled had more than one address.
	several bool
	bad     map[string]time.Time // address -> when to trust it again
}

func newDialer(to []opencmg.ConnectTo, now func() time.Time) *dialer {
	return &dialer{connectTo: to, now: now, next: rand.IntN(1 << 16), bad: map[string]time.Time{}}
}

func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	targets, err := d.targets(ctx, host, port)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, target := range d.order(targets) {
		// A silent address must not use up the time for the others.
		one := net.Dialer{Timeout: dialTimeout}
		if len(targets) > 1 {
			one.Timeout = dialTimeout / 3
		}
		conn, err := one.DialContext(ctx, network, target)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
		d.failed(target)
	}
	return nil, fmt.Errorf("connect to %s: %w", addr, errors.Join(errs...))
}

// targets lists the addresses for a name: those of connect-to, else DNS.
func (d *dialer) targets(ctx context.Context, host, port string) ([]string, error) {
	out := opencmg.ConnectAddresses(d.connectTo, host, port)
	if len(out) > 0 {
		return out, nil
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return []string{net.JoinHostPort(host, port)}, nil
	}
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return nil, err
	}
	for _, a := range addresses {
		out = append(out, net.JoinHostPort(a, port))
	}
	return out, nil
}

// order rotates the targets and puts those that failed lately last.
func (d *dialer) order(targets []string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(targets)
	d.several = n > 1
	d.next++
	rotated := make([]string, 0, n)
	for i := range n {
		rotated = append(rotated, targets[(d.next+i)%n])
	}
	now := d.now()
	slices.SortStableFunc(rotated, func(a, b string) int { return btoi(now.Before(d.bad[a])) - btoi(now.Before(d.bad[b])) })
	return rotated
}

// hasOthers reports whether there is another address to try.
func (d *dialer) hasOthers() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.several
}

// failed marks an address.
func (d *dialer) failed(target string) {
	if target == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.bad) > 256 {
		clear(d.bad)
	}
	d.bad[target] = d.now().Add(badAddressPause)
}
