package pki

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// refresh gets the list of an entry, the first time from disk if it is there.
// The caller has set e.fetching.
func (c *CRLCache) refresh(ctx context.Context, e *crlEntry, timeout time.Duration) {
	c.mu.Lock()
	first, etag, modified := !e.tried, e.etag, e.modified
	c.mu.Unlock()
	if first {
		if list, kept := c.load(e); list != nil {
			// Good enough for now; the server is asked as soon as possible.
			c.finish(e, fetched{list: list, at: kept, due: c.c.Now()})
			return
		}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	body, header, err := c.fetch.get(ctx, e.key.url, c.c.MaxBytes, etag, modified)
	now := c.c.Now()
	if errors.Is(err, errNotModified) {
		c.finish(e, fetched{e.list, now, now.Add(c.pause(e.list, now)), etag, modified, nil})
		return
	}
	var list *crlList
	if err == nil {
		if list, err = parseCRL(body, e.issuer); err == nil {
			err = c.acceptable(e, list, now)
		}
	}
	if err != nil {
		c.finish(e, fetched{err: err})
		return
	}
	if c.c.Dir != "" {
		if err := WriteFile(c.path(e.key), body, 0o644); err != nil {
			c.c.Log.Warn("revocation list can not be kept on disk", "url", e.key.url, "err", err)
		}
	}
	c.finish(e, fetched{list, now, now.Add(c.pause(list, now)), header.Get("ETag"), header.Get("Last-Modified"), nil})
}

// acceptable reports why a verified list must not replace the one we have.
func (c *CRLCache) acceptable(e *crlEntry, list *crlList, now time.Time) error {
	const skew = 10 * time.Minute
	if list.thisUpdate.After(now.Add(skew)) {
		return fmt.Errorf("the list is valid from %s on, and it is %s here: one of the clocks is wrong",
			list.thisUpdate.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	// A fetch in progress owns e.list for writing, so reading it needs no lock.
	if old := e.list; old != nil && now.Before(old.nextUpdate) && list.olderThan(old) {
		return fmt.Errorf("the server gives out an older list (of %s) than the one we have (of %s)",
			list.thisUpdate.Format(time.RFC3339), old.thisUpdate.Format(time.RFC3339))
	}
	return nil
}

// pause is the time until a list is asked for again: MaxAge, or less when it
// ends before.
func (c *CRLCache) pause(list *crlList, now time.Time) time.Duration {
	lead := list.nextUpdate.Sub(list.thisUpdate) / 10
	d := min(c.c.MaxAge, list.nextUpdate.Sub(now)-lead)
	return jitter(max(d, min(c.c.MaxAge, time.Minute))) // an ended list is asked for again each minute
}

// fetched is the outcome of a fetch: a list, or an error.
type fetched struct {
	list           *crlList
	at, due        time.Time
	etag, modified string
	err            error
}

// finish ends a fetch. After an error the list stays as it was.
func (c *CRLCache) finish(e *crlEntry, f fetched) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(e.fetching)
	e.fetching, e.tried = nil, true
	before := e.err
	e.err = f.err
	if f.err != nil {
		e.failedAt = c.c.Now()
		e.failures++
		e.due = e.failedAt.Add(backoff(e.failures, min(c.c.MaxAge, 5*time.Minute)))
		if before == nil && !errors.Is(f.err, context.Canceled) {
			attrs := []any{"url", e.key.url, "issuer", e.issuer.Subject.String(), "err", f.err}
			if e.list != nil {
				attrs = append(attrs, "old_list_until", e.list.nextUpdate)
			}
			c.c.Log.Warn("revocation list can not be had", attrs...)
		}
	} else {
		if before != nil || e.list == nil {
			c.c.Log.Info("revocation list is there", "url", e.key.url, "issuer", e.issuer.Subject.String(), "next_update", f.list.nextUpdate, "revoked", len(f.list.revoked))
		}
		if e.list != f.list {
			c.generation.Add(1)
		}
		e.list, e.due, e.fetched, e.failures, e.etag, e.modified = f.list, f.due, f.at, 0, f.etag, f.modified
		if f.list.nextUpdate.Before(c.c.Now()) {
			e.etag, e.modified = "", "" // never be told that it did not change
		}
	}
	c.poke()
}

func (c *CRLCache) path(k crlKey) string {
	return filepath.Join(c.c.Dir, fmt.Sprintf("%x.crl", sha256.Sum256(append([]byte(k.url), k.issuer[:]...))))
}

// load reads a list kept by an earlier run, and when it was kept; nil if there
// is none that helps.
func (c *CRLCache) load(e *crlEntry) (*crlList, time.Time) {
	if c.c.Dir == "" {
		return nil, time.Time{}
	}
	info, err := os.Stat(c.path(e.key))
	if err != nil || info.Size() > c.c.MaxBytes {
		return nil, time.Time{}
	}
	data, err := os.ReadFile(c.path(e.key))
	if err != nil {
		return nil, time.Time{}
	}
	list, err := parseCRL(data, e.issuer)
	if err != nil {
		c.c.Log.Warn("revocation list on disk is ignored", "url", e.key.url, "err", err)
		return nil, time.Time{}
	}
	if list.nextUpdate.Before(c.c.Now()) {
		return nil, time.Time{} // ask the server; its answer is worth waiting for
	}
	return list, info.ModTime()
}
