package tunnel_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencmg/opencmg/tunnel"
)

func TestDrainFailsNothing(t *testing.T) {
	for _, acceptorLeaves := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			hold := make(chan struct{})
			o, a := pair(t, tunnel.Config{}, tunnel.Config{Handler: func(s *tunnel.Stream) {
				<-hold
				echo(s)
			}})
			leaver, other := a, o
			if !acceptorLeaves {
				leaver, other = o, a
			}
			var streams []*tunnel.Stream
			for range 100 {
				streams = append(streams, open(t, o, &tunnel.Request{Head: []byte("h")}, []byte("body"), true))
			}
			up := open(t, o, &tunnel.Request{Head: []byte("h"), BodyLength: -1}, nil, false)
			drained := make(chan error, 1)
			go func() { drained <- leaver.Drain(t.Context()) }()
			// Requests that cross the announcement are taken.
			for {
				s, err := o.Open(&tunnel.Request{Head: []byte("h")}, []byte("body"), true)
				if err != nil {
					wantStreamError(t, err, tunnel.CodeDraining, false, true)
					break
				}
				streams = append(streams, s)
				synctest.Wait()
			}
			<-other.GoingAway()
			if !leaver.Draining() || !other.Draining() {
				t.Error("not draining")
			}
			time.Sleep(time.Minute)
			select {
			case <-leaver.Done():
				t.Fatal("closed with streams in flight")
			default:
			}
			close(hold)
			for _, s := range streams {
				wantAnswer(t, s, "h", []byte("body"))
			}
			go up.WriteLast(pattern(100_000))
			wantAnswer(t, up, "h", pattern(100_000))
			if err := <-drained; err != nil {
				t.Error(err)
			}
			<-other.Done()
			wantConnError(t, leaver.Err(), tunnel.CodeNone, false)
			wantConnError(t, other.Err(), tunnel.CodeNone, true)
			if err := leaver.Drain(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDrainIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o, a := pair(t, tunnel.Config{}, tunnel.Config{Handler: func(s *tunnel.Stream) { s.Read(make([]byte, 1)) }})
		s := open(t, o, &tunnel.Request{BodyLength: -1}, nil, false)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := a.Drain(ctx); err != context.DeadlineExceeded {
			t.Errorf("error %v", err)
		}
		_, _, err := s.ReadHead()
		wantStreamError(t, err, tunnel.CodeTunnelLost, false, false)
	})
}
