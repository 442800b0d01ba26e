package mp

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
)

// TestOnlineCounts: the counts follow whoever comes, is replaced and goes, and
// are told soon and seldom.
func TestOnlineCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := make(chan time.Time, 100)
		told := func() (times []time.Time) {
			for {
				select {
				case at := <-calls:
					times = append(times, at)
				default:
					return times
				}
			}
		}
		s := &Server{now: time.Now, c: Config{OnlineChanged: func() { calls <- time.Now() }}}
		s.hub = newHub(s)
		want := func(list ...opencmg.OnlineClients) {
			t.Helper()
			if d := cmp.Diff(list, s.Online()); d != "" {
				t.Error(d)
			}
		}
		want()
		began := time.Now()
		_, leave := s.hub.join("a", "http", false, opencmg.AuthEntra)
		time.Sleep(time.Second)
		if got := told(); len(got) != 1 || got[0].Sub(began) > time.Second {
			t.Fatalf("told at %v", got)
		}
		_, leaveAgain := s.hub.join("a", "http", true, opencmg.AuthEntra) // it went out
		leave()
		want(opencmg.OnlineClients{Place: "internet", Auth: opencmg.AuthEntra, Clients: 1})
		var all []func()
		began = time.Now()
		told()
		for n := range 1000 { // ten seconds of them
			_, leave := s.hub.join(opencmg.ClientID(fmt.Sprint(n)), "tcp", false, opencmg.AuthPKI)
			all = append(all, leave)
			time.Sleep(10 * time.Millisecond)
		}
		if n := len(told()); n < 9 || n > 11 {
			t.Errorf("told %d times in %s", n, time.Since(began))
		}
		want(opencmg.OnlineClients{Place: "internet", Auth: opencmg.AuthEntra, Clients: 1}, opencmg.OnlineClients{Place: "intranet", Auth: opencmg.AuthPKI, Clients: 1000})
		for _, leave := range all {
			leave()
		}
		time.Sleep(2 * time.Second)
		told()
		s.hub.join("b", "tcp", false, opencmg.AuthClientToken)
		s.hub.close()
		leaveAgain()
		want()
		time.Sleep(2 * time.Second)
		if n := len(told()); n != 1 {
			t.Errorf("the last changes were told %d times", n)
		}
	})
}
