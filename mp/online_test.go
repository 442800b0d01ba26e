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
		var told []time.Time
		s := &Server{now: time.Now, c: Config{OnlineChanged: func() { told = append(told, time.Now()) }}}
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
		if len(told) != 1 || told[0].Sub(began) > time.Second {
			t.Fatalf("told at %v", told)
		}
		_, leaveAgain := s.hub.join("a", "http", true, opencmg.AuthEntra) // it went out
		leave()
		want(opencmg.OnlineClients{Place: "internet", Auth: opencmg.AuthEntra, Clients: 1})
		var all []func()
		began = time.Now()
		told = nil
		for n := range 1000 { // ten seconds of them
			_, leave := s.hub.join(opencmg.ClientID(fmt.Sprint(n)), "tcp", false, opencmg.AuthPKI)
			all = append(all, leave)
			time.Sleep(10 * time.Millisecond)
		}
		if n := len(told); n < 9 || n > 11 {
			t.Errorf("told %d times in %s", n, time.Since(began))
		}
		want(opencmg.OnlineClients{Place: "internet", Auth: opencmg.AuthEntra, Clients: 1}, opencmg.OnlineClients{Place: "intranet", Auth: opencmg.AuthPKI, Clients: 1000})
		for _, leave := range all {
			leave()
		}
		last := time.Now()
		s.hub.join("b", "tcp", false, opencmg.AuthClientToken)
		s.hub.close()
		leaveAgain()
		want()
		time.Sleep(2 * time.Second)
		if len(told) == 0 || told[len(told)-1].Before(last) {
			t.Error("the last change was not told")
		}
	})
}
