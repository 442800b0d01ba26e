package mp

import (
	"cmp"
	"slices"
	"time"

	"github.com/opencmg/opencmg"
)

// Who is online, counted as clients come and go: a list of 100,000 waiters is
// too long to be gone through for a number.

// onlineApart is how long after news of who is online the next may come.
const onlineApart = time.Second

// onlineCounts belong to a hub, whose lock guards them.
type onlineCounts struct {
	clients map[onlineKey]int64
	told    time.Time
	telling bool // tell will be called
}

type onlineKey struct {
	outside bool
	auth    opencmg.AuthMode
}

// countOnline counts a waiter that comes or goes. h.mu is held.
func (h *hub) countOnline(w *waiter, n int64) {
	c := &h.counts
	k := onlineKey{w.outside, w.auth}
	if c.clients[k] += n; c.clients[k] == 0 {
		delete(c.clients, k)
	}
	if c.telling || h.s.c.OnlineChanged == nil {
		return
	}
	// A client whose request was answered comes back in a moment, and many may
	// come at once.
	c.telling = true
	time.AfterFunc(max(time.Until(c.told.Add(onlineApart)), onlineApart/4), h.tell)
}

func (h *hub) tell() {
	h.mu.Lock()
	h.counts.telling, h.counts.told = false, time.Now()
	h.mu.Unlock()
	h.s.c.OnlineChanged()
}

// Online counts the clients that listen now, by place and by how they proved
// themselves.
func (s *Server) Online() []opencmg.OnlineClients {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	var list []opencmg.OnlineClients
	for k, n := range s.hub.counts.clients {
		place := opencmg.PlaceIntranet
		if k.outside {
			place = opencmg.PlaceInternet
		}
		list = append(list, opencmg.OnlineClients{Place: place, Auth: k.auth, Clients: n})
	}
	slices.SortFunc(list, func(a, b opencmg.OnlineClients) int {
		return cmp.Or(cmp.Compare(a.Place, b.Place), cmp.Compare(a.Auth, b.Auth))
	})
	return list
}
