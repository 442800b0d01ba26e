package gateway

import (
	"context"
	"encoding/json"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/web"
	"github.com/opencmg/opencmg/tunnel"
)

const (
	// maxExplaining bounds the questions about requests that are answered at
	// the same time: each reads the journal.
	maxExplaining = 4
	explainTime   = 10 * time.Second
)

// serveExplain answers what this instance knows about one request.
func (s *Server) serveExplain(st *tunnel.Stream, p *point, body []byte) error {
	found, err := s.explain(p, body)
	if err != nil {
		return st.WriteHead(s.refusedControl(p, opencmg.ControlExplain, err), true)
	}
	answer, err := json.Marshal(found)
	if err != nil {
		panic(err) // a plain struct
	}
	return st.WriteHeadBody(controlHead(opencmg.ControlAnswer{Version: s.snap.Load().version()}), answer, true)
}

func (s *Server) explain(p *point, body []byte) ([]web.Record, error) {
	if err := s.maySee(p); err != nil {
		return nil, err
	}
	var q opencmg.ExplainRequest
	if err := json.Unmarshal(body, &q); err != nil || !opencmg.IsCorrelationID(q.CorrelationID) {
		return nil, opencmg.Errorf(opencmg.Invalid, "the question names no correlation ID")
	}
	defer s.explaining.Add(-1)
	if s.explaining.Add(1) > maxExplaining {
		return nil, opencmg.Errorf(opencmg.Unavailable, "%d questions about requests are being answered already: ask again", maxExplaining)
	}
	ctx, cancel := context.WithTimeout(s.ctx, explainTime)
	defer cancel()
	found := s.records.Find(ctx, q.CorrelationID)
	if found == nil {
		found = []web.Record{}
	}
	return found, nil
}
