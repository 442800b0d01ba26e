package pki

import (
	"context"
	"log/slog"
	"net/http"
	"time"
)

// CRLConfig configures a [CRLCache].
type CRLConfig struct {
	HTTP *http.Client // nil: a client without a proxy
	// Dir keeps lists over restarts; empty keeps them in memory only.
	Dir string
	// MaxAge is how old a list may get before it is asked for again, however
	// far its nextUpdate is; default 10 minutes.
	MaxAge time.Duration
	// FetchTimeout bounds a fetch in the background; default 30 seconds.
	FetchTimeout time.Duration
	// FirstTimeout bounds the fetch that a request waits for, the first time
	// a distribution point is seen; default 3 seconds.
	FirstTimeout time.Duration
	MaxBytes     int64            // of one list; default 16 MiB
	MaxURLs      int              // distribution points at once; default 512
	Now          func() time.Time // nil: time.Now
	Log          *slog.Logger
}

// A CRLCache fetches, verifies and keeps certificate revocation lists.
type CRLCache struct{}

// NewCRLCache makes a cache; it fetches in the background while
// [CRLCache.Run] runs.
func NewCRLCache(c CRLConfig) *CRLCache { return &CRLCache{} }

// Run refreshes lists until ctx ends.
func (c *CRLCache) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// A CRLStatus is the state of one distribution point.
type CRLStatus struct {
	URL        string    `json:"url"`
	Issuer     string    `json:"issuer"`
	Number     string    `json:"number,omitempty"`
	ThisUpdate time.Time `json:"thisUpdate,omitzero"`
	NextUpdate time.Time `json:"nextUpdate,omitzero"`
	Fetched    time.Time `json:"fetched,omitzero"`
	Revoked    int       `json:"revoked"`
	LastError  string    `json:"lastError,omitempty"`
	FailedAt   time.Time `json:"failedAt,omitzero"`
}

// Status lists the known distribution points, ordered by URL.
func (c *CRLCache) Status() []CRLStatus { return nil }
