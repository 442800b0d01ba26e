package pki

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"
)

// fetcher gets small documents by HTTP: bounded in size, time and redirects,
// and only from addresses that allow accepts.
type fetcher struct {
	client *http.Client
	allow  func(*url.URL) error
}

func newFetcher(client *http.Client, allow func(*url.URL) error) *fetcher {
	var c http.Client
	if client != nil {
		c = *client
	} else {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.Proxy = nil // nothing here reads the environment
		c.Transport = t
	}
	const maxRedirects = 3
	c.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fmt.Errorf("redirected more than %d times", maxRedirects)
		}
		return allow(r.URL)
	}
	return &fetcher{&c, allow}
}

var errNotModified = errors.New("not modified")

// get returns the body, or errNotModified when etag or modified (validators of
// an earlier answer, may be empty) still hold.
func (f *fetcher) get(ctx context.Context, address string, max int64, etag, modified string) ([]byte, http.Header, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, nil, err
	}
	if err := f.allow(u); err != nil {
		return nil, nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, err
	}
	if etag != "" {
		r.Header.Set("If-None-Match", etag)
	}
	if modified != "" {
		r.Header.Set("If-Modified-Since", modified)
	}
	resp, err := f.client.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified && (etag != "" || modified != "") {
		return nil, resp.Header, errNotModified
	}
	if resp.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("get %s: the server answered %q", address, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, max+1))
	if err != nil {
		return nil, nil, fmt.Errorf("get %s: %w", address, err)
	}
	if int64(len(body)) > max {
		return nil, nil, fmt.Errorf("get %s: the answer is longer than %d bytes", address, max)
	}
	return body, resp.Header, nil
}

// jitter shortens d by up to a tenth, so that many instances do not ask at
// once.
func jitter(d time.Duration) time.Duration {
	if d < 10 {
		return d
	}
	return d - rand.N(d/10)
}

// backoff is the pause after the n-th failure in a row (from 1).
func backoff(n int, longest time.Duration) time.Duration {
	d := time.Second << min(n-1, 16)
	return jitter(min(d, longest))
}
