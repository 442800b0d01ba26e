package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/pki"
)

// This file carries one request to a management point, behind a gateway or
// inside. The next file in a request's way is auth.go.
//
// Requests speak HTTP/1.1 only: HTTP/2 has no reason phrase, and the gateway
// says in it why it refused (wire.md 1.4).
//
// Which requests are repeated on another address after a failure:
//
//   - one that was never sent, always;
//   - one that may have been sent, when doing it twice does no harm: every GET,
//     registration (the site knows the key again), token, policy and location
//     requests, and reports, which replace or repeat what they say;
//   - state messages are repeated with the same message ID and serial number;
//     a management point that took both keeps one.

// HTTPError is an answer other than success.
type HTTPError struct {
	Method, URL string
	StatusCode  int
	// StatusText is the reason phrase, such as CMGService_Invalid_Token.
	StatusText    string
	CorrelationID string
	RetryAfter    time.Duration
}

// Error names the status, the reason and the correlation ID, with which the
// gateway's side can be asked for the cause.
func (e *HTTPError) Error() string {
	s := fmt.Sprintf("%s %s: %d %s", e.Method, e.URL, e.StatusCode, e.StatusText)
	if e.CorrelationID != "" {
		s += " (ask opencmg explain " + e.CorrelationID + ")"
	}
	return s
}

// Unwrap gives the kind of failure.
func (e *HTTPError) Unwrap() error {
	switch e.StatusCode {
	case http.StatusUnauthorized:
		return opencmg.Unauthorized
	case http.StatusForbidden:
		return opencmg.Forbidden
	case http.StatusNotFound:
		return opencmg.NotFound
	case http.StatusRequestEntityTooLarge:
		return opencmg.TooLarge
	case http.StatusGatewayTimeout:
		return opencmg.Timeout
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return opencmg.Unavailable
	}
	return opencmg.Invalid
}

const (
	requestTimeout  = 60 * time.Second // of one attempt
	maxAttempts     = 8
	maxRetryAfter   = 15 * time.Second
	maxReply        = 64 << 20 // bytes
	dialTimeout     = 10 * time.Second
	handshakeTime   = 15 * time.Second
	badAddressPause = 20 * time.Second
)

// A call is one request, as seen by its sender.
type call struct {
	method      string
	url         string
	contentType string
	body        []byte
	header      map[string]string
	bearer      Secret
	// component is the log file of the request: CcmMessaging, PolicyAgent, ...
	component string
	// timeout of one attempt; 0 means requestTimeout.
	timeout time.Duration
	// once forbids repeating what may have been sent.
	once bool
	// attempts is how often the call is sent at most; 0 means maxAttempts.
	attempts int
}

// options is the word of that name in log lines; its bits in the vendor's client
// are unknown. Ours has one: the request carries a token.
func (c *call) options() string { return fmt.Sprintf("0x%X", btoi(c.bearer != "")) }

// An answer is a successful response.
type answer struct {
	header        http.Header
	body          []byte
	correlationID string
	internet      bool // it came through a gateway
}

// transport sends calls. It is made once for each certificate that is shown.
type transport struct {
	http     *http.Client
	dial     *dialer
	log      *slog.Logger
	sessions *sessionCache
}

// A sessionCache keeps TLS sessions for resumption, until told to forget: a
// resumed session still speaks for the certificate that it began with.
type sessionCache struct {
	mu  sync.Mutex
	lru tls.ClientSessionCache
}

func newSessionCache() *sessionCache { return &sessionCache{lru: tls.NewLRUClientSessionCache(8)} }

// Get implements tls.ClientSessionCache.
func (s *sessionCache) Get(key string) (*tls.ClientSessionState, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lru.Get(key)
}

// Put implements tls.ClientSessionCache.
func (s *sessionCache) Put(key string, cs *tls.ClientSessionState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lru.Put(key, cs)
}

func (s *sessionCache) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lru = tls.NewLRUClientSessionCache(8)
}

func newTransport(certificate func() *tls.Certificate, roots *x509.CertPool, revocation *revocation, d *dialer, log *slog.Logger) *transport {
	sessions := newSessionCache()
	tlsConfig := &tls.Config{
		RootCAs:            roots,
		MinVersion:         tls.VersionTLS12,
		ClientSessionCache: sessions,
		// The certificate is shown whatever authorities the server names: a
		// self-signed one proves its key and nothing else.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate(), nil },
	}
	if revocation != nil {
		tlsConfig.VerifyConnection = revocation.check
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &transport{
		dial: d, log: log, sessions: sessions,
		http: &http.Client{
			Transport: &http.Transport{
				Protocols:           protocols,
				DialContext:         d.dial,
				TLSClientConfig:     tlsConfig,
				TLSHandshakeTimeout: handshakeTime,
				MaxIdleConnsPerHost: 2,
				IdleConnTimeout:     90 * time.Second,
				DisableCompression:  true,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// tlsFor is the configuration for a connection of its own to host, which is
// checked like the others.
func (t *transport) tlsFor(host string) *tls.Config {
	cfg := t.http.Transport.(*http.Transport).TLSClientConfig.Clone()
	cfg.ServerName = host
	return cfg
}

func (t *transport) close() { t.http.CloseIdleConnections() }

// do sends a call, again where that is allowed, until it succeeds, ctx ends or
// the attempts are used up. Statuses outside 200 to 299 are *HTTPError.
func (t *transport) do(ctx context.Context, c *call) (*answer, error) {
	attempts := c.attempts
	if attempts == 0 {
		attempts = maxAttempts
	}
	for attempt := 1; ; attempt++ {
		a, sent, err := t.attempt(ctx, c)
		if err == nil {
			return a, nil
		}
		if ctx.Err() != nil || attempt == attempts || !repeatable(c, sent, err) {
			t.logFailure(c, err)
			return nil, err
		}
		wait := pause(attempt, err, t.dial.hasOthers())
		t.log.Debug("request failed; it is sent again", "component", c.component, "url", withoutQuery(c.url), "attempt", attempt, "wait", wait, "err", err)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		}
	}
}

// repeatable reports whether the failed call may be sent once more.
func repeatable(c *call, sent bool, err error) bool {
	var h *HTTPError
	if errors.As(err, &h) {
		switch h.StatusCode {
		case http.StatusServiceUnavailable, http.StatusTooManyRequests:
			return true // provably not done (no tunnel, or over a limit)
		case http.StatusBadGateway, http.StatusGatewayTimeout:
			return !c.once
		}
		return false
	}
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var revoked *revocationError
	if errors.As(err, &unknown) || errors.As(err, &name) || errors.As(err, &invalid) || errors.As(err, &revoked) || errors.Is(err, errTooLong) {
		return false
	}
	return !sent || !c.once
}

// pause is how long to wait before the next attempt. The first one goes to
// another address at once: one instance may have lost its tunnel, or its life,
// while the others serve.
func pause(attempt int, err error, others bool) time.Duration {
	var h *HTTPError
	errors.As(err, &h)
	if attempt == 1 && (h == nil || others) {
		return 0
	}
	if h != nil && h.RetryAfter > 0 {
		return min(h.RetryAfter, maxRetryAfter)
	}
	d := min(100*time.Millisecond<<attempt, 4*time.Second)
	return d/2 + rand.N(d/2)
}

var errTooLong = errors.New("the answer is too long")

// attempt sends a call once. sent is false when no byte of it left.
func (t *transport) attempt(ctx context.Context, c *call) (a *answer, sent bool, err error) {
	timeout := c.timeout
	if timeout == 0 {
		timeout = requestTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var remote string
	trace := &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) {
			sent = true
			remote = i.Conn.RemoteAddr().String()
		},
	}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), c.method, c.url, bytes.NewReader(c.body))
	if err != nil {
		return nil, false, fmt.Errorf("request %s: %w", withoutQuery(c.url), err)
	}
	if len(c.body) == 0 && c.method != http.MethodGet && c.method != http.MethodHead {
		// net/http says the length of nothing for methods that it knows only;
		// servers may demand it for any (RFC 9110 section 8.6).
		req.TransferEncoding = []string{"identity"}
	}
	req.Header.Set("User-Agent", ccm.UserAgent)
	if c.contentType != "" {
		req.Header.Set("Content-Type", c.contentType)
	}
	if c.bearer != "" {
		req.Header.Set("Authorization", ccm.TokenScheme+" "+string(c.bearer))
	}
	for k, v := range c.header {
		req.Header[k] = []string{v} // as spelled: receivers compare with the spelling they know
	}
	began := time.Now()
	t.log.Info("request", "component", "CcmMessaging", "Host", req.URL.Hostname(), "Path", req.URL.Path, "Port", portOf(req.URL), "Protocol", req.URL.Scheme,
		"CcmTokenAuth", btoi(c.bearer != ""), "Flags", "0x0", "Options", c.options())
	resp, err := t.http.Do(req)
	if err != nil {
		if remote != "" && ctx.Err() == nil {
			t.dial.failed(remote)
			t.http.CloseIdleConnections()
		}
		return nil, sent, transportError(c, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err != nil {
		t.dial.failed(remote)
		return nil, sent, transportError(c, err)
	}
	if len(body) > maxReply {
		return nil, sent, fmt.Errorf("%s %s: %w", c.method, withoutQuery(c.url), errTooLong)
	}
	id := resp.Header.Get(opencmg.HeaderCorrelationID)
	if resp.StatusCode == http.StatusServiceUnavailable {
		t.dial.failed(remote)
		t.http.CloseIdleConnections()
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		_, text, _ := strings.Cut(resp.Status, " ")
		return nil, sent, &HTTPError{Method: c.method, URL: withoutQuery(c.url), StatusCode: resp.StatusCode, StatusText: text, CorrelationID: id, RetryAfter: retryAfter(resp.Header)}
	}
	t.log.Debug("answer", "component", c.component, "Path", req.URL.Path, "StatusCode", resp.StatusCode, "bytes", len(body), "elapsed", time.Since(began), "request_id", id)
	return &answer{header: resp.Header, body: body, correlationID: id}, sent, nil
}

// transportError keeps the cause for errors.As and drops the query of the URL.
func transportError(c *call, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &unknown):
		return opencmg.Errorf(opencmg.Unauthorized, "%s: nobody this device trusts issued the server's certificate: %w; install that root, or name it as CA file", withoutQuery(c.url), err)
	case errors.Is(err, context.DeadlineExceeded):
		return opencmg.Errorf(opencmg.Timeout, "%s: no answer in time: %w", withoutQuery(c.url), err)
	}
	return opencmg.Errorf(opencmg.Unavailable, "%s %s: %w", c.method, withoutQuery(c.url), err)
}

// logFailure writes the two lines that administrators search for (wire.md
// 11.4).
func (t *transport) logFailure(c *call, err error) {
	u, _ := url.Parse(c.url)
	t.log.Error("[CCMHTTP] ERROR:", "component", c.component, "URL", withoutQuery(c.url), "Port", portOf(u), "Options", c.options(), "Code", 0, "Text", err.Error())
	var h *HTTPError
	if errors.As(err, &h) {
		t.log.Error("[CCMHTTP] ERROR INFO:", "component", c.component, "StatusCode", h.StatusCode, "StatusText", h.StatusText, "request_id", h.CorrelationID)
	}
}

// retryAfter reads delta-seconds (RFC 9110 section 10.2.3); dates are not used
// by our gateway.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 0 || n > 3600 {
		return 0
	}
	return time.Duration(n) * time.Second
}

func withoutQuery(u string) string {
	before, _, _ := strings.Cut(u, "?")
	return before
}

func portOf(u *url.URL) string {
	if u == nil {
		return ""
	}
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "http" {
		return "80"
	}
	return "443"
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// roots returns the system's roots and those of the file.
func roots(file string) (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if file == "" {
		return pool, nil
	}
	certs, err := pki.LoadCertificates(file)
	if err != nil {
		return nil, fmt.Errorf("CA file: %w", err)
	}
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool, nil
}
