package site

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/opencmg/opencmg"
)

// What "opencmg diag" asks for beside the objects and the logs.

// getConfiguration answers the configuration of the process, without secrets.
func (s *Server) getConfiguration(w http.ResponseWriter, _ *http.Request) error {
	if len(s.cfg.Configuration) == 0 {
		return opencmg.Errorf(opencmg.NotFound, "this site server did not say how it is configured")
	}
	w.Header().Set("Content-Type", "application/yaml") // RFC 9512
	w.Write(s.cfg.Configuration)
	return nil
}

// getMetrics answers what the private listener has at /metrics.
func (s *Server) getMetrics(w http.ResponseWriter, r *http.Request) error {
	r = r.Clone(r.Context())
	r.Header.Del("Accept") // the old text format, whoever asks
	promhttp.HandlerFor(s.cfg.Registry, promhttp.HandlerOpts{DisableCompression: true}).ServeHTTP(plainText{w}, r)
	return nil
}

// plainText names the media type without the parameters of Prometheus.
type plainText struct{ http.ResponseWriter }

func (w plainText) Write(b []byte) (int, error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	return w.ResponseWriter.Write(b)
}
