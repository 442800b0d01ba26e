package azure

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/opencmg/opencmg"
)

// Codes that are ours, for failures that carry none of the cloud's.
const (
	// CodeUnreachable: no answer came.
	CodeUnreachable = "Unreachable"
	// CodeSignIn: the identity library failed without an answer to quote.
	CodeSignIn = "AuthenticationFailed"
)

// fail turns any error of a call into an [opencmg.CloudError], with what was
// being done before it. Our own errors and a context's end pass unchanged.
// secrets are values that the call sent, and that must not come back in text.
func (c *Client) fail(ctx context.Context, doing string, err error, secrets ...string) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return fmt.Errorf("%s: %w", doing, ctx.Err())
	}
	var ce *opencmg.CloudError
	var ours *opencmg.Error
	if errors.As(err, &ours) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if !errors.As(err, &ce) {
		ce = cloudError(err, c.now())
	}
	scrub(ce, append(secrets, string(c.how.Secret)))
	advise(ce)
	return fmt.Errorf("%s: %w", doing, ce)
}

func cloudError(err error, now time.Time) *opencmg.CloudError {
	var sign *azidentity.AuthenticationFailedError
	if errors.As(err, &sign) {
		if sign.RawResponse != nil {
			if ce := signInError(sign.RawResponse); ce != nil {
				return ce
			}
		}
		// Without an answer the library's text is all there is.
		return &opencmg.CloudError{Code: CodeSignIn, Message: firstLine(withoutQueries(sign.Error()))}
	}
	var re *azcore.ResponseError
	if errors.As(err, &re) {
		if re.RawResponse != nil {
			ce := responseError(re.RawResponse, now)
			if ce.Code == "" || re.ErrorCode != "" && strings.HasPrefix(ce.Code, "HTTP") {
				ce.Code = re.ErrorCode
			}
			return ce
		}
		return &opencmg.CloudError{Code: re.ErrorCode, Status: re.StatusCode}
	}
	// The text of a transport's error has the whole address in it, and the
	// queries of operation addresses are signed.
	var ue *url.Error
	text := err.Error()
	if errors.As(err, &ue) {
		text = ue.Err.Error()
		if u, perr := url.Parse(ue.URL); perr == nil {
			text = u.Host + ": " + text
		}
	}
	return &opencmg.CloudError{Code: CodeUnreachable, Message: withoutQueries(text), Retryable: true}
}

var queryPattern = regexp.MustCompile(`(https?://[^\s"'?]*)\?[^\s"']*`)

func withoutQueries(s string) string { return queryPattern.ReplaceAllString(s, "$1") }

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s
}

// wireError is Azure's error in all its services: the parts are the same, and
// only the wrapping differs.
type wireError struct {
	Code       string      `json:"code"`
	Message    wireMessage `json:"message"`
	Target     string      `json:"target"`
	Details    []wireError `json:"details"`
	InnerError *struct {
		Code string `json:"code"`
	} `json:"innererror"`
}

// wireMessage is a string, or {"value": …} in the oldest services.
type wireMessage string

func (m *wireMessage) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*m = wireMessage(s)
		return nil
	}
	var v struct {
		Value string `json:"value"`
	}
	if json.Unmarshal(b, &v) == nil {
		*m = wireMessage(v.Value)
	}
	return nil
}

func (w wireError) cloud() opencmg.CloudError {
	ce := opencmg.CloudError{Code: w.Code, Message: strings.TrimSpace(string(w.Message)), Target: w.Target}
	for _, d := range w.Details {
		ce.Details = append(ce.Details, d.cloud())
	}
	// A deployment puts a resource's whole answer into the message, as text.
	if inner := parseError([]byte(ce.Message)); strings.HasPrefix(ce.Message, "{") && inner != nil {
		ce.Message = ""
		ce.Details = append(ce.Details, *inner)
	}
	// A vault says in the inner error what the outer one calls Forbidden.
	if w.InnerError != nil && w.InnerError.Code != "" && !strings.EqualFold(w.InnerError.Code, ce.Code) {
		ce.Details = append(ce.Details, opencmg.CloudError{Code: w.InnerError.Code})
	}
	return ce
}

// parseError reads the body of a failed call or operation; nil when it holds
// no error.
func parseError(body []byte) *opencmg.CloudError {
	var doc struct {
		wireError
		Error json.RawMessage `json:"error"`
		OData *wireError      `json:"odata.error"`
		// of a whole deployment
		Properties struct {
			Error *wireError `json:"error"`
		} `json:"properties"`
	}
	if json.Unmarshal(body, &doc) == nil {
		var inner wireError
		switch {
		case json.Unmarshal(doc.Error, &inner) == nil && (inner.Code != "" || inner.Message != ""):
		case doc.OData != nil:
			inner = *doc.OData
		case doc.Properties.Error != nil:
			inner = *doc.Properties.Error
		default:
			inner = doc.wireError
		}
		if inner.Code == "" && inner.Message == "" {
			return nil
		}
		ce := inner.cloud()
		return &ce
	}
	var x struct { // storage
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
	}
	if xml.Unmarshal(body, &x) == nil && x.Code != "" {
		return &opencmg.CloudError{Code: x.Code, Message: firstLine(x.Message)}
	}
	return nil
}

func responseError(resp *http.Response, now time.Time) *opencmg.CloudError {
	body, _ := runtime.Payload(resp) // cached by the pipeline; empty is fine
	ce := parseError(body)
	if ce == nil {
		ce = &opencmg.CloudError{}
	}
	if ce.Code == "" {
		ce.Code = resp.Header.Get("x-ms-error-code")
	}
	if ce.Code == "" {
		ce.Code = "HTTP" + strconv.Itoa(resp.StatusCode)
	}
	// A failed operation arrives in an answer that is itself fine.
	if resp.StatusCode >= 400 {
		ce.Status = resp.StatusCode
	}
	for _, h := range []string{"x-ms-correlation-request-id", "x-ms-request-id", "request-id"} {
		if id := resp.Header.Get(h); id != "" && ce.RequestID == "" {
			ce.RequestID = id
		}
	}
	ce.RetryAfter = retryAfter(resp.Header, now)
	switch ce.Status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout, http.StatusRequestTimeout, http.StatusInternalServerError:
		ce.Retryable = true
	}
	return ce
}

var aadstsPattern = regexp.MustCompile(`AADSTS[0-9]+`)

// signInError reads an answer of the token endpoint.
func signInError(resp *http.Response) *opencmg.CloudError {
	body, err := runtime.Payload(resp)
	if err != nil {
		return nil
	}
	var doc struct {
		Error         string `json:"error"`
		Description   string `json:"error_description"`
		CorrelationID string `json:"correlation_id"`
	}
	if json.Unmarshal(body, &doc) != nil || doc.Error == "" {
		return nil
	}
	ce := oauthError(doc.Error, doc.Description)
	ce.Status, ce.RequestID = resp.StatusCode, doc.CorrelationID
	ce.Retryable = resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500
	return ce
}

// oauthError reads an error and its description as Entra writes them.
func oauthError(code, description string) *opencmg.CloudError {
	ce := &opencmg.CloudError{Code: code, Message: firstLine(description)}
	if code := aadstsPattern.FindString(description); code != "" {
		ce.Code = code
		ce.Message = strings.TrimSpace(strings.TrimPrefix(ce.Message, code+":"))
	}
	// The line goes on with identifiers that are of no help here.
	ce.Message, _, _ = strings.Cut(ce.Message, " Trace ID:")
	return ce
}

// retryAfter reads when the cloud wants the next call; 0 when it does not say.
func retryAfter(h http.Header, now time.Time) time.Duration {
	for _, name := range []string{"retry-after-ms", "x-ms-retry-after-ms"} {
		if n, err := strconv.Atoi(h.Get(name)); err == nil && n > 0 {
			return time.Duration(n) * time.Millisecond
		}
	}
	v := h.Get("Retry-After")
	if n, err := strconv.Atoi(v); err == nil && n > 0 {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil && t.After(now) {
		return t.Sub(now)
	}
	return 0
}

// scrub removes values from all texts of an error.
func scrub(ce *opencmg.CloudError, secrets []string) {
	for _, s := range secrets {
		if len(s) < 4 {
			continue
		}
		ce.Message = strings.ReplaceAll(ce.Message, s, redacted)
		ce.Target = strings.ReplaceAll(ce.Target, s, redacted)
	}
	for i := range ce.Details {
		scrub(&ce.Details[i], secrets)
	}
}

// isCode reports whether err is the cloud's error with one of the codes,
// itself or in its details.
func isCode(err error, codes ...string) bool {
	ce, ok := asCloud(err)
	if !ok {
		re, ok := errors.AsType[*azcore.ResponseError](err)
		if !ok {
			return false
		}
		ce = &opencmg.CloudError{Code: re.ErrorCode}
		if re.RawResponse != nil {
			ce = responseError(re.RawResponse, time.Time{})
		}
	}
	for _, code := range codes {
		if ce.Has(code) {
			return true
		}
	}
	return false
}

// status is the HTTP status of a failed call; 0 when there is none.
func status(err error) int {
	if re, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return re.StatusCode
	}
	if ce, ok := errors.AsType[*opencmg.CloudError](err); ok {
		return ce.Status
	}
	return 0
}

func isNotFound(err error) bool { return status(err) == http.StatusNotFound }

func asCloud(err error) (*opencmg.CloudError, bool) { return errors.AsType[*opencmg.CloudError](err) }
