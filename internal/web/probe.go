package web

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// ServeProbe answers the health probe of a load balancer on ln until ctx ends:
// GET /readyz gives 200 while healthy returns nil and 503 otherwise, everything
// else 404. It says nothing more, since a probe's port may be open to strangers.
func ServeProbe(ctx context.Context, ln net.Listener, healthy func() error) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		if healthy() != nil {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		w.Write([]byte("ok\n"))
	})
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second,
		MaxHeaderBytes: 4 << 10,
	}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
