package web

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/opencmg/opencmg"
)

// A Private serves a role's private listener: /metrics for Prometheus, /livez,
// /readyz, /explain/{id} and Go's profiles. It has no authentication, so it
// belongs on loopback or a management network.
type Private struct {
	Records  *Records
	Registry *prometheus.Registry
	// Ready reports why the role can not serve now; nil means it can.
	Ready func() error
	Log   *slog.Logger
	// Extra adds handlers by pattern, e.g. "POST /notify".
	Extra map[string]http.Handler
}

// Serve answers on ln until ctx ends, then closes ln and returns.
func (p *Private) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{Handler: p.routes(), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (p *Private) routes() http.Handler {
	mux := http.NewServeMux()
	if p.Registry != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(p.Registry, promhttp.HandlerOpts{}))
	}
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", p.readyz)
	mux.Handle("GET /explain/{id}", Handler(p.Log, p.explain))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	for pattern, h := range p.Extra {
		mux.Handle(pattern, h)
	}
	return mux
}

func (p *Private) readyz(w http.ResponseWriter, r *http.Request) {
	if p.Ready != nil {
		if err := p.Ready(); err != nil {
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	w.Write([]byte("ok\n"))
}

func (p *Private) explain(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	found := p.Records.Find(r.Context(), id)
	if len(found) == 0 {
		return opencmg.Errorf(opencmg.NotFound, "no record of request %s here: it did not come this way, or it is older than the records kept (a day)", id)
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(found)
}
