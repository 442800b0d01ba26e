package adminservice

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

// A Client calls the administration service of one site. Its methods may be
// called by many goroutines.
type Client struct {
	// URL is the site's, such as https://site.corp.example:8443.
	URL string
	// HTTP makes the requests. Its transport trusts the site CA, and presents
	// the administrator's certificate when that is the way to sign in.
	HTTP *http.Client
	// Token is a local administrator token or an Entra access token; empty
	// when a client certificate signs in.
	Token Secret
}

// A Secret is a text that logs and formatting do not show.
type Secret string

// String hides the text.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "(secret)"
}

// GoString hides the text from %#v.
func (s Secret) GoString() string { return s.String() }

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 64 << 20

// A ProblemError is a problem document (RFC 9457) that the service answered.
type ProblemError struct {
	Status        int    `json:"status"`
	Title         string `json:"title"`
	Detail        string `json:"detail,omitempty"` // what failed, why, and what to do
	CorrelationID string `json:"correlationId"`    // under which the site's log has it
	// Field is what of the request was refused, when it was one thing: the JSON
	// name of a property of the body, with dots below another one and the number
	// in a list ("endpoints.0.path"), or the name of a parameter.
	Field string `json:"field,omitempty"`
	// CloudError is the cloud's own error, when one was the cause.
	CloudError *opencmg.CloudError `json:"cloudError,omitempty"`
	// Checks are what was examined, when a check failed.
	Checks []opencmg.Check `json:"checks,omitempty"`
}

// Error gives the detail, or the title when there is none.
func (p *ProblemError) Error() string {
	text := p.Detail
	if text == "" {
		text = fmt.Sprintf("the site answered %d %s", p.Status, p.Title)
	}
	if p.Status >= 500 && p.CorrelationID != "" {
		text += " (correlation ID " + p.CorrelationID + ")"
	}
	return text
}

// Unwrap gives the kind that belongs to the status.
func (p *ProblemError) Unwrap() error {
	if kind, ok := statusKinds[p.Status]; ok {
		return kind
	}
	return nil
}

// statusKinds are the kinds of failure that the site's statuses stand for.
var statusKinds = map[int]opencmg.Kind{
	http.StatusBadRequest:            opencmg.Invalid,
	http.StatusUnauthorized:          opencmg.Unauthorized,
	http.StatusForbidden:             opencmg.Forbidden,
	http.StatusNotFound:              opencmg.NotFound,
	http.StatusConflict:              opencmg.Conflict,
	http.StatusPreconditionFailed:    opencmg.Stale,
	http.StatusRequestEntityTooLarge: opencmg.TooLarge,
	http.StatusServiceUnavailable:    opencmg.Unavailable,
	http.StatusGatewayTimeout:        opencmg.Timeout,
}

// A Page is an answer with many objects.
type Page[T any] struct {
	Count *int `json:"@odata.count,omitempty"`
	// Next is the address of what follows, on the same server; empty at the end.
	Next  string `json:"@odata.nextLink,omitempty"`
	Value []T    `json:"value"`
}

// List returns the objects of a collection, such as "Gateways". options are
// OData query options or nil.
func List[T any](ctx context.Context, c *Client, collection string, options url.Values) ([]T, error) {
	var p Page[T]
	path := collection
	if len(options) > 0 {
		path += "?" + options.Encode()
	}
	err := c.Do(ctx, http.MethodGet, path, nil, &p)
	return p.Value, err
}

// Get returns one object, such as "Gateways/1".
func Get[T any](ctx context.Context, c *Client, path string) (T, error) {
	var v T
	err := c.Do(ctx, http.MethodGet, path, nil, &v)
	return v, err
}

// WMI returns the objects of a class of the view below [WMIPath], with the
// documented property names. options are OData query options or nil.
func WMI(ctx context.Context, c *Client, class string, options url.Values) ([]map[string]any, error) {
	path := WMIPath + class
	if len(options) > 0 {
		path += "?" + options.Encode()
	}
	var p Page[map[string]any]
	err := c.do(ctx, http.MethodGet, path, 0, nil, &p)
	return p.Value, err
}

// Do sends one request below [BasePath]. in is sent as JSON unless nil; out
// gets the answer unless nil. It changes an object whatever its version is; see
// [Client.Change]. Errors are [*ProblemError], of kind Unavailable when the site
// can not be reached, and of kind Invalid when its certificate is not trusted.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	return c.do(ctx, method, below(path), 0, in, out)
}

// Change is Do for an object of the version: the site refuses when somebody
// changed it meanwhile.
func (c *Client) Change(ctx context.Context, method, path string, version int64, in, out any) error {
	return c.do(ctx, method, below(path), version, in, out)
}

func below(path string) string { return BasePath + strings.TrimPrefix(path, "/") }

// Text gets a text, such as a log file, with the header of the answer.
func (c *Client) Text(ctx context.Context, path string) ([]byte, http.Header, error) {
	return c.send(ctx, http.MethodGet, below(path), 0, nil)
}

func (c *Client) do(ctx context.Context, method, path string, version int64, in, out any) error {
	b, _, err := c.send(ctx, method, path, version, in)
	if err != nil || out == nil || len(b) == 0 {
		return err
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("read the answer to %s %s: %w", method, path, err)
	}
	return nil
}

func (c *Client) send(ctx context.Context, method, path string, version int64, in any) ([]byte, http.Header, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.URL, "/")+path, body)
	if err != nil {
		return nil, nil, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+string(c.Token))
	}
	if version > 0 {
		req.Header.Set("If-Match", ETag(version))
	}
	res, err := c.HTTP.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
			return nil, nil, opencmg.Errorf(opencmg.Invalid, "the site at %s can not be trusted: %w", c.URL, err)
		}
		return nil, nil, opencmg.Errorf(opencmg.Unavailable, "the site at %s can not be reached: %w", c.URL, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return nil, nil, opencmg.Errorf(opencmg.Unavailable, "the answer of the site at %s was cut off: %w", c.URL, err)
	}
	if len(b) > maxAnswer {
		return nil, nil, opencmg.Errorf(opencmg.TooLarge, "the answer of the site is larger than %d bytes: ask for less with $top", maxAnswer)
	}
	if res.StatusCode >= 400 {
		p := &ProblemError{}
		if json.Unmarshal(b, p) != nil || p.Status == 0 {
			p.Status, p.Title = res.StatusCode, http.StatusText(res.StatusCode)
		}
		return nil, nil, p
	}
	return b, res.Header, nil
}

// Wait follows an operation until it ends, and tells progress about every new
// line of its log. It returns an error when the operation failed.
func (c *Client) Wait(ctx context.Context, id string, progress func(Operation, OperationLog)) (Operation, error) {
	seen := 0
	for {
		// The site answers when something changed, and after a while anyway.
		op, err := Get[Operation](ctx, c, fmt.Sprintf("Operations/%s?wait=20&after=%d", url.PathEscape(id), seen))
		if err != nil {
			// The site may be starting again; the operation goes on with it.
			if errors.Is(err, opencmg.Unavailable) && ctx.Err() == nil {
				select {
				case <-ctx.Done():
				case <-time.After(250 * time.Millisecond):
				}
				continue
			}
			return op, err
		}
		for _, l := range op.Log[min(seen, len(op.Log)):] {
			if progress != nil {
				progress(op, l)
			}
		}
		seen = len(op.Log)
		switch op.State {
		case OperationCompleted:
			return op, nil
		case OperationFailed:
			failed := &opencmg.Error{Kind: opencmg.Conflict, Msg: op.Problem}
			if op.CloudError != nil {
				failed.Err = op.CloudError
			}
			return op, failed
		}
	}
}

// ETag is the entity tag of a version.
func ETag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// ParseETag reads what [ETag] wrote; "*" is 0, any version.
func ParseETag(s string) (int64, error) {
	if s == "*" {
		return 0, nil
	}
	n, err := strconv.ParseInt(strings.Trim(s, `"`), 10, 64)
	if err != nil || n < 1 || ETag(n) != s {
		return 0, opencmg.Errorf(opencmg.Invalid, "If-Match %q: must be an ETag that this service gave, or *", s)
	}
	return n, nil
}
