package connpoint_test

import (
	"cmp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
)

// TestExplainAsksEveryInstance: one instance knows the request, one is too old
// for the question, and one that lies speaks for itself only.
func TestExplainAsksEveryInstance(t *testing.T) {
	const id = "0123456789abcdef"
	l := newLab(t, 2, nil, func(l *lab) {
		l.instances[0].explains = `[{"correlationId":"somebody-else","hop":"management-point","where":"mp","time":"2026-01-02T03:04:05Z","status":401,"verdict":"the certificate is revoked","duration":1}]`
	})
	l.instances[0].tunnel()
	l.instances[1].tunnel()
	eventually(t, func() bool { // this end has them too
		n := 0
		for _, tunnel := range l.conn.Status().Tunnels {
			if tunnel.Connected {
				n++
			}
		}
		return n == 2
	})
	l.records.Add(opencmg.RequestRecord{CorrelationID: id, Time: time.Now(), Hop: opencmg.HopConnectionPoint, Where: "cp"})
	found, asked := l.conn.Explain(t.Context(), id)
	slices.SortFunc(found, func(a, b opencmg.RequestRecord) int { return cmp.Compare(a.Hop, b.Hop) })
	if len(found) != 2 || found[0].Hop != opencmg.HopConnectionPoint || found[1].Hop != opencmg.HopGateway || found[1].Where != gateway+"/0" || found[1].CorrelationID != id || found[1].Verdict != "the certificate is revoked" {
		t.Errorf("found %+v", found)
	}
	for _, h := range asked {
		switch h.Where {
		case gateway + "/0":
			if !h.Answered {
				t.Errorf("%+v", h)
			}
		case gateway + "/1":
			if h.Answered || !strings.Contains(h.Problem, "unknown control stream") {
				t.Errorf("an instance that does not know the question: %+v", h)
			}
		default:
			t.Errorf("asked %+v", h)
		}
	}
	if len(asked) != 2 {
		t.Errorf("asked %d instances", len(asked))
	}
	if found, asked := l.conn.Explain(t.Context(), "../x"); len(found)+len(asked) != 0 {
		t.Error("what is no correlation ID was asked for")
	}
}
