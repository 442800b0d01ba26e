package site_test

import (
	"context"
	"errors"
	"testing"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/site"
)

// A system that is killed while it waits at the site is missed at once, and not
// only when its reports have become old. One that comes back is not.
func TestSystemThatHungUp(t *testing.T) {
	r := newRig(t)
	r.selfHosted()
	cp := r.join("cp1", r.gateway().ID)
	cp.says(opencmg.InstanceStatus{Gateway: "granitefalls", Instance: 0, Started: r.now(), Time: r.now()})
	connected := func() bool {
		return do[adminservice.Page[adminservice.ConnectionPoint]](r, "GET", "ConnectionPoints", nil).Value[0].Connected
	}
	if !connected() {
		t.Fatal("the connection point does not count as connected")
	}
	wait := func() (hangUp func()) {
		t.Helper()
		_, tag, err := cp.client().Documents(t.Context(), "", 0)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		waited := make(chan error, 1)
		changes := site.Changes(r.s, ctx)
		go func() {
			for {
				_, next, err := cp.client().Documents(ctx, tag, adminservice.MaxDocumentsWait)
				if err != nil {
					waited <- err
					return
				}
				tag = next // something was published meanwhile
			}
		}()
		for !site.Waits(r.s, cp.id) {
			<-changes
		}
		return func() {
			cancel()
			if err := <-waited; !errors.Is(err, context.Canceled) {
				t.Errorf("the wait ended by itself: %v", err)
			}
		}
	}
	changes := site.Changes(r.s, t.Context())
	hangUp := wait()
	hangUp()
	for connected() {
		<-changes
	}
	// The same host is there again, before it has anything to report.
	hangUp = wait()
	for !connected() {
		<-changes
	}
	hangUp()
}
