package site

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/sitedb"
)

const (
	// onlineWait is how long an answer waits for management points to say who
	// listens, unless Server.onlineWait is something else.
	onlineWait = 300 * time.Millisecond
	// wakeWait is how long a management point may take to fetch that it is to
	// wake clients.
	wakeWait = 5 * time.Second
	// maxOnline bounds what one management point says.
	maxOnline = 20_000
)

// managementPoints are our own ones that report, by ID with their names.
func (s *Server) managementPoints(ctx context.Context) (ids []string, names map[string]string, err error) {
	roles, err := readAll[roleRecord](ctx, s.db, kindRole)
	if err != nil {
		return nil, nil, err
	}
	names = map[string]string{}
	for _, r := range roles {
		if r.Value.Own && s.live.hears(r.ID, s.cfg.Now()) {
			ids, names[r.ID] = append(ids, r.ID), r.Name
		}
	}
	return ids, names, nil
}

// online asks the management points which of the clients listen there, and how.
// complete is whether all of them answered in time, and false when there is none.
func (s *Server) online(ctx context.Context, clients []opencmg.ClientID) (found map[opencmg.ClientID][]adminservice.ClientListening, complete bool, err error) {
	if len(clients) > adminservice.MaxQuestionClients {
		clients = nil
	}
	found = map[opencmg.ClientID][]adminservice.ClientListening{}
	a, names, complete, err := s.askOnline(ctx, adminservice.SystemQuestion{Kind: adminservice.QuestionOnline, Clients: clients})
	if a == nil || err != nil {
		return found, false, err
	}
	for system, list := range a.online {
		for _, c := range list {
			found[c.ID] = append(found[c.ID], adminservice.ClientListening{ManagementPoint: names[system], Transport: c.Transport, Internet: c.Internet, Since: c.Since})
		}
	}
	return found, complete, nil
}

// allOnline asks them for the IDs of all clients that listen anywhere.
func (s *Server) allOnline(ctx context.Context) (ids []opencmg.ClientID, complete bool, err error) {
	a, _, complete, err := s.askOnline(ctx, adminservice.SystemQuestion{Kind: adminservice.QuestionOnline, IDsOnly: true})
	if a == nil || err != nil {
		return nil, false, err
	}
	// A management point of an older version says more than it is asked.
	for _, list := range a.online {
		for _, c := range list {
			a.onlineIDs[c.ID] = true
		}
	}
	return slices.AppendSeq(make([]opencmg.ClientID, 0, len(a.onlineIDs)), maps.Keys(a.onlineIDs)), complete, nil
}

// askOnline asks the management points and waits for them, but not for long. It
// returns no question when nobody was asked.
func (s *Server) askOnline(ctx context.Context, what adminservice.SystemQuestion) (a *question, names map[string]string, complete bool, err error) {
	systems, names, err := s.managementPoints(ctx)
	if err != nil || len(systems) == 0 {
		return nil, nil, false, err
	}
	a, err = s.questions.ask(what, systems)
	if err != nil {
		return nil, nil, false, nil // it asks too much already, and this may stay unknown
	}
	patience := time.NewTimer(s.onlineWait)
	defer patience.Stop()
	select {
	case <-a.all:
	case <-patience.C:
	case <-ctx.Done():
	}
	silent := s.questions.settle(a)
	return a, names, len(silent) == 0, ctx.Err()
}

// fillOnline says of each client whether it listens, and where.
func (s *Server) fillOnline(ctx context.Context, list []adminservice.RegisteredClient) error {
	if len(list) == 0 {
		return nil
	}
	var ids []opencmg.ClientID
	for _, c := range list {
		ids = append(ids, c.ID)
	}
	found, complete, err := s.online(ctx, ids)
	if err != nil {
		return err
	}
	for i := range list {
		c := &list[i]
		c.Listening = found[c.ID]
		switch {
		case len(c.Listening) > 0:
			c.Online = adminservice.OnlineYes
		case complete:
			c.Online = adminservice.OnlineNo
		}
	}
	return nil
}

// chosen is the database's form of a choice of clients. Who is online is asked
// now.
func (s *Server) chosen(ctx context.Context, in *adminservice.ClientChoice) (sitedb.ClientFilter, error) {
	f, err := clientFilter(in)
	if err != nil || in.Online == nil {
		return f, err
	}
	ids, complete, err := s.allOnline(ctx)
	if err != nil {
		return f, err
	}
	if !complete {
		return f, opencmg.Errorf(opencmg.Unavailable, "who is online is not known: no management point that shares the site's database answered within %v; try again, or leave online out", s.onlineWait)
	}
	if *in.Online {
		f.Among = ids
	} else {
		f.Except = ids
	}
	return f, nil
}

// wake asks the management points to let clients look at once for what they are
// to be sent; without a list all that have something waiting. It waits for
// nobody: a client that is not woken looks when it listens again.
func (s *Server) wake(ctx context.Context, clients []opencmg.ClientID) {
	systems, _, err := s.managementPoints(ctx)
	if err == nil && len(systems) > 0 {
		if len(clients) > adminservice.MaxQuestionClients {
			clients = nil
		}
		var a *question
		if a, err = s.questions.ask(adminservice.SystemQuestion{Kind: adminservice.QuestionWake, Clients: clients}, systems); err == nil {
			time.AfterFunc(wakeWait, func() { s.questions.settle(a) })
		}
	}
	if err != nil {
		s.log.Warn("management points are not asked to wake clients, which look when they listen again", "component", componentProvider, "err", err)
	}
}
