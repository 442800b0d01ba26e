package web_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/web"
)

func TestProbe(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var healthy atomic.Value // of a func
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- web.ServeProbe(ctx, ln, func() error { return healthy.Load().(func() error)() }) }()
	for _, tt := range []struct {
		method, path string
		healthy      error
		status       int
	}{
		{"GET", "/readyz", nil, 200},
		{"HEAD", "/readyz", nil, 200},
		{"GET", "/readyz", errors.New("secret"), 503},
		{"POST", "/readyz", nil, 405},
		{"GET", "/", nil, 404},
		{"GET", "/livez", nil, 404},
		{"GET", "/metrics", nil, 404},
	} {
		healthy.Store(func() error { return tt.healthy })
		req, err := http.NewRequest(tt.method, "http://"+ln.Addr().String()+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != tt.status || strings.Contains(string(b), "secret") {
			t.Errorf("%s %s: %s, %s", tt.method, tt.path, res.Status, b)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	ln.Close()
	if err := web.ServeProbe(t.Context(), ln, nil); err == nil {
		t.Error("served a closed listener")
	}
}

func TestHandlerTurnsKindsIntoProblems(t *testing.T) {
	secret := errors.New("password=hunter2")
	for _, tt := range []struct {
		err    error
		status int
		detail string
	}{
		{&opencmg.Error{Kind: opencmg.Invalid, Msg: "the name is empty: give one", Err: secret}, 400, "the name is empty: give one"},
		{fmt.Errorf("reading: %w", opencmg.Errorf(opencmg.NotFound, "no such client")), 404, "no such client"},
		{opencmg.Errorf(opencmg.Conflict, "taken"), 409, "taken"},
		{opencmg.Errorf(opencmg.TooLarge, "big"), 413, "big"},
		{opencmg.Errorf(opencmg.Forbidden, "no"), 403, "no"},
		{opencmg.Errorf(opencmg.Unauthorized, "who"), 401, "who"},
		{opencmg.Errorf(opencmg.Unavailable, "later"), 503, "later"},
		{opencmg.Errorf(opencmg.Timeout, "slow"), 504, "slow"},
		{secret, 500, ""},
	} {
		var log strings.Builder
		h := web.Handler(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
			func(http.ResponseWriter, *http.Request) error { return tt.err })
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/x", nil))
		body := w.Body.String()
		var p web.Problem
		if err := json.Unmarshal([]byte(body), &p); err != nil {
			t.Fatalf("%v: %v in %s", tt.err, err, body)
		}
		if w.Code != tt.status || p.Status != tt.status || p.Detail != tt.detail {
			t.Errorf("%v: got status %d and %+v, want %d and %q", tt.err, w.Code, p, tt.status, tt.detail)
		}
		if strings.Contains(body, "hunter2") {
			t.Errorf("%v: the cause left the server: %s", tt.err, body)
		}
		if p.CorrelationID == "" || w.Header().Get("X-Correlation-ID") != p.CorrelationID || !strings.Contains(log.String(), p.CorrelationID) {
			t.Errorf("%v: correlation ID is not the same in body, header and log", tt.err)
		}
	}
}

func TestRecordsKeepTheLatest(t *testing.T) {
	rs := web.NewRecords(64)
	var ids []string
	for i := range 1000 {
		id := web.NewCorrelationID()
		ids = append(ids, id)
		rs.Add(web.Record{CorrelationID: id, Status: i})
	}
	if got := rs.Find(t.Context(), ids[999]); len(got) != 1 || got[0].Status != 999 {
		t.Errorf("latest record: got %v", got)
	}
	if got := rs.Find(t.Context(), ids[0]); len(got) != 0 {
		t.Errorf("oldest record is still there: %v", got)
	}
	rs.Add(web.Record{CorrelationID: ids[999], Status: 1})
	if got := rs.Find(t.Context(), ids[999]); len(got) != 2 || got[1].Status != 1 {
		t.Errorf("two records of one request: got %v", got)
	}
}

func TestPrivate(t *testing.T) {
	rs := web.NewRecords(8)
	rs.Add(web.Record{CorrelationID: "abc", Verdict: "refused"})
	var notReady error
	p := &web.Private{Records: rs, Registry: prometheus.NewRegistry(), Ready: func() error { return notReady }}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Serve(ctx, ln) }()
	get := func(path string) (int, string) {
		t.Helper()
		res, err := http.Get("http://" + ln.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b)
	}
	if code, _ := get("/livez"); code != 200 {
		t.Errorf("/livez: %d", code)
	}
	if code, _ := get("/readyz"); code != 200 {
		t.Errorf("/readyz: %d", code)
	}
	notReady = errors.New("no configuration yet")
	if code, body := get("/readyz"); code != 503 || !strings.Contains(body, "no configuration yet") {
		t.Errorf("/readyz: %d %s", code, body)
	}
	if code, _ := get("/metrics"); code != 200 {
		t.Errorf("/metrics: %d", code)
	}
	if code, body := get("/explain/abc"); code != 200 || !strings.Contains(body, "refused") {
		t.Errorf("/explain/abc: %d %s", code, body)
	}
	if code, _ := get("/explain/none"); code != 404 {
		t.Errorf("/explain/none: %d", code)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// Callers whom nobody knows learn nothing about how the input is checked.
func TestOnlyFieldHandlerNamesTheField(t *testing.T) {
	refuse := func(http.ResponseWriter, *http.Request) error {
		return opencmg.Errorf(opencmg.Invalid, "path: no").About("path")
	}
	for want, h := range map[string]http.Handler{"": web.Handler(nil, refuse), "path": web.FieldHandler(nil, refuse)} {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest("GET", "/", nil))
		var p web.Problem
		if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || p.Field != want || strings.Contains(rec.Body.String(), "field") != (want != "") || p.Detail != "path: no" {
			t.Errorf("%s, want field %q", rec.Body, want)
		}
	}
}
