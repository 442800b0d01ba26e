package site

import (
	"context"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/opencmg/opencmg/adminservice"
)

type metrics struct {
	expiry *prometheus.GaugeVec
}

func newMetrics(r *prometheus.Registry) (*metrics, error) {
	m := &metrics{expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "opencmg_site_expiry_seconds", Help: "When a credential in the path ends, as Unix time.",
	}, []string{"kind", "name"})}
	if err := r.Register(m.expiry); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return m, nil
}

func (s *Server) listExpiry(w http.ResponseWriter, r *http.Request) error {
	list, err := s.expiries(r.Context())
	if err != nil {
		return err
	}
	return answerList[adminservice.Expiry](w, r, list)
}

// Ready reports why the site can not serve now.
func (s *Server) Ready() error { return s.db.Ping(context.Background()) }
