package azure

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
)

// call sends one JSON request through a pipeline: the whole client that
// network, metrics and the directory need. in and out may be nil. Statuses
// from 400 are errors.
func call(ctx context.Context, pl runtime.Pipeline, method, address string, in, out any) (*http.Response, error) {
	r, err := runtime.NewRequest(ctx, method, address)
	if err != nil {
		return nil, err
	}
	r.Raw().Header.Set("Accept", "application/json")
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		if err := r.SetBody(streaming.NopCloser(bytes.NewReader(body)), "application/json"); err != nil {
			return nil, err
		}
	}
	resp, err := pl.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 400 {
		return resp, runtime.NewResponseError(resp)
	}
	if out != nil && resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusAccepted {
		return resp, runtime.UnmarshalAsJSON(resp, out)
	}
	if _, err := runtime.Payload(resp); err != nil { // reads it to the end, and keeps it for a poller
		return nil, err
	}
	return resp, nil
}

// once keeps the pipeline from repeating a call that is not safe to repeat:
// only refusals that say nothing was done are.
func once(ctx context.Context) context.Context {
	return policy.WithRetryOptions(ctx, policy.RetryOptions{
		MaxRetries: 3,
		ShouldRetry: func(resp *http.Response, err error) bool {
			return err == nil && (resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable)
		},
	})
}

// armURL is the address of a Resource Manager path with its API version and
// more query parameters, as name and value in turn.
func (c *Client) armURL(path, version string, query ...string) string {
	q := url.Values{"api-version": {version}}
	for i := 0; i+1 < len(query); i += 2 {
		q.Set(query[i], query[i+1])
	}
	// A blank must be %20 here; a plus is not understood in $filter.
	return c.env.ResourceManager + path + "?" + strings.ReplaceAll(q.Encode(), "+", "%20")
}

// follow runs a call that may be a long-running operation to its end.
func follow[T any](ctx context.Context, c *Client, method, address string, in any, tick func()) (T, error) {
	var zero T
	resp, err := call(ctx, c.arm, method, address, in, nil)
	if err != nil {
		return zero, err
	}
	p, err := runtime.NewPoller[T](resp, c.arm, nil)
	if err != nil {
		return zero, err
	}
	return wait(ctx, c, p, tick)
}
