package connpoint

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/web"
)

const (
	// explainWait is how long an instance may take; the site waits a little
	// longer.
	explainWait = 4 * time.Second
	maxExplain  = 2 << 20 // bytes of an instance's records of one request
)

// Explain returns the records of one request: the connection point's own and
// those of every gateway instance, which it asks over the tunnels. asked says
// which instances answered, and why the others did not. It takes some seconds at
// most.
func (c *Connector) Explain(ctx context.Context, correlationID string) (found []opencmg.RequestRecord, asked []adminservice.AskedHop) {
	if !opencmg.IsCorrelationID(correlationID) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, explainWait)
	defer cancel()
	var (
		mu sync.Mutex // guards the results
		wg sync.WaitGroup
	)
	wg.Go(func() {
		own := c.cfg.Records.Find(ctx, correlationID)
		mu.Lock()
		defer mu.Unlock()
		found = append(found, own...)
	})
	for _, l := range c.gateways() {
		for _, i := range l.all() {
			wg.Go(func() {
				records, err := i.explain(ctx, correlationID)
				hop := adminservice.AskedHop{Hop: web.HopGateway, Where: l.name + "/" + strconv.Itoa(i.number), Answered: err == nil}
				if err != nil {
					hop.Problem = err.Error()
				}
				mu.Lock()
				defer mu.Unlock()
				found, asked = append(found, records...), append(asked, hop)
			})
		}
	}
	wg.Wait()
	return found, asked
}

// explain asks the instance for its records.
func (i *instanceLink) explain(ctx context.Context, correlationID string) ([]opencmg.RequestRecord, error) {
	conn := i.conn()
	if conn == nil {
		i.mu.Lock()
		why := i.lastErr
		i.mu.Unlock()
		if why == "" {
			why = "it is being dialled"
		}
		return nil, opencmg.Errorf(opencmg.Unavailable, "connection point %s holds no tunnel to it: %s", i.link.c.cfg.Name, why)
	}
	body, err := json.Marshal(opencmg.ExplainRequest{CorrelationID: correlationID})
	if err != nil {
		return nil, err
	}
	s, err := i.link.c.ask(ctx, conn, opencmg.ControlExplain, body)
	if err != nil {
		if ctx.Err() != nil {
			err = errors.New("it did not answer in time")
		}
		return nil, err
	}
	defer s.close()
	if s.answer.Error != "" {
		return nil, opencmg.Errorf(opencmg.Unavailable, "the instance refused: %s", s.answer.Error)
	}
	b, err := io.ReadAll(io.LimitReader(s, maxExplain+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxExplain {
		return nil, opencmg.Errorf(opencmg.TooLarge, "its records are larger than %d bytes", maxExplain)
	}
	var found []opencmg.RequestRecord
	if err := json.Unmarshal(b, &found); err != nil {
		return nil, err
	}
	where := i.link.name + "/" + strconv.Itoa(i.number)
	for k := range found { // it speaks for itself only
		found[k].Hop, found[k].Where, found[k].CorrelationID = web.HopGateway, where, correlationID
	}
	return found[:min(len(found), opencmg.MaxHopRecords)], nil
}
