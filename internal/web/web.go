// Package web is what every role's HTTP side shares: handlers that return
// errors, problem documents (RFC 9457), correlation IDs, the records behind
// "opencmg explain", and the private listener with metrics and health.
//
// It is the only place that turns an [opencmg.Kind] into a status code. It
// knows nothing about clients, tunnels or databases.
package web

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"

	"github.com/opencmg/opencmg"
)

// Handler adapts a handler that returns an error. An [opencmg.Error] becomes a
// problem document with its message; any other error becomes a bare 500 whose
// text only the log has. The handler must not have written anything when it
// returns an error.
func Handler(log *slog.Logger, f func(http.ResponseWriter, *http.Request) error) http.Handler {
	return handler(log, f, false)
}

// FieldHandler is [Handler] for callers who may know how the input is checked,
// such as administrators: its problem documents name the field that a refusal
// is about.
func FieldHandler(log *slog.Logger, f func(http.ResponseWriter, *http.Request) error) http.Handler {
	return handler(log, f, true)
}

func handler(log *slog.Logger, f func(http.ResponseWriter, *http.Request) error, fields bool) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := f(w, r)
		if err == nil {
			return
		}
		id := r.Header.Get(opencmg.HeaderCorrelationID)
		if id == "" {
			id = NewCorrelationID()
		}
		p := problemOf(err)
		p.CorrelationID = id
		if !fields {
			p.Field = ""
		}
		level := slog.LevelDebug
		if p.Status >= 500 {
			level = slog.LevelError
		}
		log.Log(r.Context(), level, "request failed", "method", r.Method, "path", r.URL.Path, "status", p.Status, "request_id", id, "err", err)
		w.Header().Set("Content-Type", "application/problem+json")
		w.Header().Set(opencmg.HeaderCorrelationID, id)
		w.WriteHeader(p.Status)
		json.NewEncoder(w).Encode(p)
	})
}

// A Problem is a problem document (RFC 9457).
type Problem struct {
	Title         string `json:"title"`
	Status        int    `json:"status"`
	Detail        string `json:"detail,omitempty"`
	CorrelationID string `json:"correlationId,omitempty"`
	// Field is what of the request it is about; only [FieldHandler] says it.
	Field string `json:"field,omitempty"`
	// CloudError is the error of a cloud that it is about, and Checks what was
	// examined, from a cause with the method Checks.
	CloudError *opencmg.CloudError `json:"cloudError,omitempty"`
	Checks     []opencmg.Check     `json:"checks,omitempty"`
}

func problemOf(err error) Problem {
	status := Status(err)
	p := Problem{Title: http.StatusText(status), Status: status}
	if e, ok := errors.AsType[*opencmg.Error](err); ok {
		p.Detail, p.Field = e.Msg, e.Field
		p.CloudError, _ = errors.AsType[*opencmg.CloudError](err)
		if c, ok := errors.AsType[interface {
			error
			Checks() []opencmg.Check
		}](err); ok {
			p.Checks = c.Checks()
		}
	}
	return p
}

// Status returns the HTTP status code for an error by its kind.
func Status(err error) int {
	for _, k := range []struct {
		kind   opencmg.Kind
		status int
	}{
		{opencmg.Invalid, http.StatusBadRequest},
		{opencmg.Unauthorized, http.StatusUnauthorized},
		{opencmg.Forbidden, http.StatusForbidden},
		{opencmg.NotFound, http.StatusNotFound},
		{opencmg.Conflict, http.StatusConflict},
		{opencmg.Stale, http.StatusPreconditionFailed},
		{opencmg.TooLarge, http.StatusRequestEntityTooLarge},
		{opencmg.Unavailable, http.StatusServiceUnavailable},
		{opencmg.Timeout, http.StatusGatewayTimeout},
	} {
		if errors.Is(err, k.kind) {
			return k.status
		}
	}
	return http.StatusInternalServerError
}

var (
	idPrefix = func() [8]byte {
		var b [8]byte
		rand.Read(b[:])
		return b
	}()
	idCounter atomic.Uint64
)

// NewCorrelationID returns an ID that no other request has: 32 hexadecimal
// digits, random per process and then counted, so that making one costs no
// system call. It is a name, not a secret.
func NewCorrelationID() string {
	var b [32]byte
	return string(AppendCorrelationID(b[:0]))
}

// AppendCorrelationID appends what [NewCorrelationID] returns to dst.
func AppendCorrelationID(dst []byte) []byte {
	n := idCounter.Add(1)
	var raw [16]byte
	copy(raw[:8], idPrefix[:])
	for i := range 8 {
		raw[15-i] = byte(n >> (8 * i))
	}
	return hex.AppendEncode(dst, raw[:])
}
