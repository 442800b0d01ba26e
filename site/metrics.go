package site

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/opencmg/opencmg/adminservice"
)

type metrics struct {
	expiry *prometheus.GaugeVec
	// Of the latest analysis of a gateway.
	analysisFailed, analysisEnded *prometheus.GaugeVec
}

func newMetrics(r *prometheus.Registry) (*metrics, error) {
	m := &metrics{expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "opencmg_site_expiry_seconds", Help: "When a credential in the path ends, as Unix time.",
	}, []string{"kind", "name"}), analysisFailed: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "opencmg_analysis_failed_rows", Help: "Checks of the connection analyzer that failed in the latest analysis of a gateway.",
	}, []string{"gateway"}), analysisEnded: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "opencmg_analysis_last_seconds", Help: "When the latest analysis of a gateway ended, as Unix time.",
	}, []string{"gateway"})}
	for _, c := range []prometheus.Collector{m.expiry, m.analysisFailed, m.analysisEnded} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

// analyzed shows the latest analysis of a gateway, if there was one.
func (m *metrics) analyzed(gateway string, v *scheduleRecord) {
	if !v.Ended.IsZero() {
		m.analysisFailed.WithLabelValues(gateway).Set(float64(v.Failed))
		m.analysisEnded.WithLabelValues(gateway).Set(float64(v.Ended.Unix()))
	}
}

func (m *metrics) forgetAnalyses() {
	m.analysisFailed.Reset()
	m.analysisEnded.Reset()
}

func (s *Server) listExpiry(w http.ResponseWriter, r *http.Request) error {
	list, err := s.expiries(r.Context())
	if err != nil {
		return err
	}
	if text := strings.ToLower(r.URL.Query().Get("search")); text != "" {
		list = slices.DeleteFunc(list, func(e adminservice.Expiry) bool {
			return !strings.Contains(strings.ToLower(e.Kind+"\n"+e.Name+"\n"+e.Subject), text)
		})
	}
	return answerList[adminservice.Expiry](w, r, list)
}

// Ready reports why the site can not serve now.
func (s *Server) Ready() error { return s.db.Ping(context.Background()) }
