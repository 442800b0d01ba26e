package pki

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// CRLConfig configures a [CRLCache].
type CRLConfig struct {
	HTTP *http.Client // nil: a client without a proxy
	// Dir keeps lists over restarts; empty keeps them in memory only. It must
	// exist.
	Dir string
	// MaxAge is how old a list may get before it is asked for again, however
	// far its nextUpdate is; default 10 minutes. A revocation is seen within
	// this time. Servers are asked whether the list changed before it is sent.
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

// A CRLCache fetches, verifies and keeps certificate revocation lists. It is
// told about distribution points by [ClientVerifier], which names only those in
// certificates that chain to a configured root. It is safe for concurrent use
// and outlives the verifiers that use it.
type CRLCache struct {
	c     CRLConfig
	fetch *fetcher
	wake  chan struct{} // something new is due
	slots chan struct{} // bounds fetches in the background
	// generation changes with every list that comes, is replaced or goes.
	generation atomic.Uint64

	mu      sync.Mutex // protects what follows and the entries' fields, never held while fetching
	entries map[crlKey]*crlEntry
}

// A crlKey names a list by address and issuer: what one issuer's certificates
// say must not disturb the list of another.
type crlKey struct {
	url    string
	issuer [sha256.Size]byte // of name and key
}

type crlEntry struct {
	key      crlKey
	issuer   *x509.Certificate
	list     *crlList      // the newest that could be verified; nil: none yet
	fetching chan struct{} // closed when the fetch under way ends; nil when there is none
	tried    bool          // the first fetch is over: requests wait no more
	expected bool          // the configuration names it: it is kept, used or not
	used     time.Time
	due      time.Time // next fetch in the background
	fetched  time.Time // last time the server answered well
	failedAt time.Time
	failures int
	err      error // of the last fetch

	etag, modified string
}

// NewCRLCache makes a cache; it fetches in the background while
// [CRLCache.Run] runs. Without Run a list is fetched once and used until it
// ends.
func NewCRLCache(c CRLConfig) *CRLCache {
	c.MaxAge = cmp.Or(c.MaxAge, 10*time.Minute)
	c.FetchTimeout = cmp.Or(c.FetchTimeout, 30*time.Second)
	c.FirstTimeout = cmp.Or(c.FirstTimeout, 3*time.Second)
	c.MaxBytes = cmp.Or(c.MaxBytes, 16<<20)
	c.MaxURLs = cmp.Or(c.MaxURLs, 512)
	c.Log = logger(c.Log)
	if c.Now == nil {
		c.Now = time.Now
	}
	return &CRLCache{
		c:       c,
		fetch:   newFetcher(c.HTTP, allowCRL),
		wake:    make(chan struct{}, 1),
		slots:   make(chan struct{}, 4),
		entries: map[crlKey]*crlEntry{},
	}
}

// Run refreshes lists until ctx ends: when they are MaxAge old, before their
// nextUpdate, and with growing pauses while a server does not answer.
func (c *CRLCache) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		case <-timer.C:
		}
		now := c.c.Now()
		next := now.Add(c.c.MaxAge)
		c.mu.Lock()
		for _, e := range c.entries {
			if e.fetching != nil {
				continue // its end wakes this loop
			}
			if !e.expected && now.Sub(e.used) > forgetAfter {
				c.forget(e)
				continue
			}
			if e.due.After(now) {
				if e.due.Before(next) {
					next = e.due
				}
				continue
			}
			e.fetching = make(chan struct{})
			all.Go(func() {
				select {
				case c.slots <- struct{}{}:
					defer func() { <-c.slots }()
				case <-ctx.Done():
				}
				c.refresh(ctx, e, c.c.FetchTimeout)
			})
		}
		c.mu.Unlock()
		timer.Reset(next.Sub(now))
	}
}

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
func (c *CRLCache) Status() []CRLStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []CRLStatus
	for _, e := range c.entries {
		s := CRLStatus{URL: e.key.url, Issuer: e.issuer.Subject.String(), Fetched: e.fetched, FailedAt: e.failedAt}
		if e.list != nil {
			s.ThisUpdate, s.NextUpdate, s.Revoked = e.list.thisUpdate, e.list.nextUpdate, len(e.list.revoked)
			if e.list.number != nil {
				s.Number = e.list.number.String()
			}
		}
		if e.err != nil {
			s.LastError = e.err.Error()
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b CRLStatus) int { return cmp.Or(cmp.Compare(a.URL, b.URL), cmp.Compare(a.Issuer, b.Issuer)) })
	return all
}

// An expectedList is one that a configuration names.
type expectedList struct {
	url    string
	issuer *x509.Certificate
}

// expect makes the background fetch lists before anybody asks, and keep them
// until the next call names others.
func (c *CRLCache) expect(lists []expectedList) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.entries {
		e.expected = false
	}
	for _, l := range lists {
		if e := c.entry(l.url, l.issuer); e != nil {
			e.expected = true
		}
	}
}

// A crlAnswer is what the lists say about one certificate.
type crlAnswer struct {
	url   string
	list  *crlList // nil: none could be had
	entry *revocation
	// problems says for each address without a usable list why that is so.
	problems []string
}

// lookup finds the list that covers a certificate. Only the first call for an
// address waits for its server, until deadline at most. A list that ended is
// an answer too when there is no better; the caller decides what it is worth.
func (c *CRLCache) lookup(cert, issuer *x509.Certificate, now, deadline time.Time) (a crlAnswer) {
	urls := crlURLs(cert)
	if len(urls) == 0 {
		a.problems = []string{"it names no revocation list that can be fetched by HTTP (CRL distribution point)"}
		return a
	}
	for _, u := range urls {
		list, problem := c.list(u, issuer, deadline)
		if list != nil {
			if reason := list.excludes(cert, urls); reason != "" {
				list, problem = nil, reason
			}
		}
		if list == nil {
			a.problems = append(a.problems, u+": "+problem)
			continue
		}
		if a.list == nil || a.list.nextUpdate.Before(list.nextUpdate) {
			a.url, a.list = u, list
		}
		if !now.After(list.nextUpdate) {
			break
		}
		a.problems = append(a.problems, strings.TrimSuffix(fmt.Sprintf("%s: the list ended at %s: %s", u, list.nextUpdate.Format(time.RFC3339), problem), ": "))
	}
	if a.list != nil {
		if r, ok := a.list.revoked[string(cert.SerialNumber.Bytes())]; ok {
			a.entry = &r
		}
	}
	return a
}

// list returns the list at an address, and what is wrong with fetching it.
func (c *CRLCache) list(url string, issuer *x509.Certificate, deadline time.Time) (*crlList, string) {
	c.mu.Lock()
	e := c.entry(url, issuer)
	if e == nil {
		c.mu.Unlock()
		return nil, fmt.Sprintf("more than %d distribution points are in use", c.c.MaxURLs)
	}
	e.used = c.c.Now()
	if !e.tried {
		wait := e.fetching
		if wait == nil {
			e.fetching = make(chan struct{})
			c.mu.Unlock()
			c.refresh(context.Background(), e, time.Until(deadline))
		} else {
			c.mu.Unlock()
			timer := time.NewTimer(time.Until(deadline))
			defer timer.Stop()
			select {
			case <-wait:
			case <-timer.C:
			}
		}
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	switch {
	case e.err != nil:
		return e.list, e.err.Error()
	case e.list == nil:
		return nil, "still being fetched"
	}
	return e.list, ""
}

// entry returns the entry of an address, making it if there is room. The
// caller holds mu.
func (c *CRLCache) entry(url string, issuer *x509.Certificate) *crlEntry {
	h := sha256.New()
	h.Write(issuer.RawSubject)
	h.Write(issuer.RawSubjectPublicKeyInfo)
	k := crlKey{url: url}
	h.Sum(k.issuer[:0])
	if e := c.entries[k]; e != nil {
		return e
	}
	if len(c.entries) >= c.c.MaxURLs && !c.evict() {
		return nil
	}
	e := &crlEntry{key: k, issuer: issuer, used: c.c.Now()}
	c.entries[k] = e
	c.poke()
	return e
}

// evict forgets the entry that was not used for longest, unless all are in use:
// throwing out lists that are needed would put fetching on every request.
func (c *CRLCache) evict() bool {
	var oldest *crlEntry
	for _, e := range c.entries {
		if e.fetching == nil && !e.expected && (oldest == nil || e.used.Before(oldest.used)) {
			oldest = e
		}
	}
	if oldest == nil || c.c.Now().Sub(oldest.used) < c.c.MaxAge {
		return false
	}
	c.forget(oldest)
	return true
}

// forgetAfter is how long a list is refreshed that nobody asks for: its CA may
// have left the configuration.
const forgetAfter = 7 * 24 * time.Hour

// forget drops an entry that is not being fetched. The caller holds mu.
func (c *CRLCache) forget(e *crlEntry) {
	delete(c.entries, e.key)
	c.generation.Add(1) // what rested on this list is to be checked again
	if c.c.Dir != "" {
		os.Remove(c.path(e.key))
	}
}

func (c *CRLCache) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// maxCRLURLs is how many addresses of one certificate are tried.
const maxCRLURLs = 4

// crlURLs returns the addresses of a certificate's list that we can ask.
func crlURLs(cert *x509.Certificate) []string {
	var urls []string
	for _, s := range cert.CRLDistributionPoints {
		if u, err := url.Parse(s); err == nil && allowCRL(u) == nil && len(urls) < maxCRLURLs {
			urls = append(urls, s)
		}
	}
	return urls
}

func allowCRL(u *url.URL) error {
	if (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" {
		return nil
	}
	return fmt.Errorf("%s: only http and https addresses are asked for revocation lists", u.Redacted())
}
