package mp

import (
	"context"
	"time"

	"github.com/opencmg/opencmg"
)

// What the site asks about clients that listen for notification.

// A Listener is a client that holds a notification connection here.
type Listener struct {
	ClientID  opencmg.ClientID
	Transport string // http or tcp
	Internet  bool   // it comes through a gateway
	Since     time.Time
}

// MaxListeners bounds what [Server.Listeners] returns.
const MaxListeners = 20_000

// Listeners returns those of the clients that listen now; without a list any,
// at most [MaxListeners].
func (s *Server) Listeners(clients []opencmg.ClientID) []Listener {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	var found []Listener
	add := func(id opencmg.ClientID, w *waiter) {
		found = append(found, Listener{ClientID: id, Transport: w.transport, Internet: w.outside, Since: w.since})
	}
	for _, id := range clients {
		if w := h.waiters[id]; w != nil {
			add(id, w)
		}
	}
	if len(clients) > 0 {
		return found
	}
	for id, w := range h.waiters {
		if len(found) == MaxListeners {
			break
		}
		add(id, w)
	}
	return found
}

// Wake makes clients that listen here look for what they are to be sent;
// without a list those that have something waiting. A client that was blocked
// meanwhile loses its connection.
func (s *Server) Wake(ctx context.Context, clients []opencmg.ClientID) error {
	if len(clients) == 0 {
		var err error
		if clients, err = s.c.DB.WaitingClients(ctx, 100_000); err != nil {
			return err
		}
	}
	for _, id := range clients {
		s.hub.wake(id)
	}
	return nil
}
