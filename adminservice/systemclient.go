package adminservice

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

// MaxDocumentsWait is the longest time for which a request for documents waits
// for a change.
const MaxDocumentsWait = 60 * time.Second

// Bounds of what a site answers, in bytes.
const (
	maxDocuments = 64 << 20
	maxReply     = 1 << 20
)

// SystemConfig says how a site system reaches its site. URL and Site must be
// set, and either SiteCA or SiteCAThumbprint.
type SystemConfig struct {
	URL  string // e.g. https://site.corp.example:8443
	Site opencmg.SiteCode
	// SiteCA is the certificate of the site CA. A host that has not joined
	// knows its SHA-256 only, in lower-case hexadecimal digits, from its join
	// token.
	SiteCA           *x509.Certificate
	SiteCAThumbprint string
	// Certificate returns the system's own certificate of the site CA; it is
	// asked for every new connection. nil before joining.
	Certificate func() *tls.Certificate
	// Proxy and DialContext are as in http.Transport; nil goes straight to the
	// site.
	Proxy       func(*http.Request) (*url.URL, error)
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// Timeout bounds each request beyond the time that it asks to wait;
	// default 15 s.
	Timeout time.Duration
}

// A SystemClient speaks to a site for one of its systems. It knows the site by
// its CA and the identity in the server's certificate; host names play no part.
// Its methods may be called from many goroutines. Errors have the kind that the
// site's status stands for; a site that can not be reached is Unavailable.
type SystemClient struct {
	base      *url.URL
	timeout   time.Duration
	transport *http.Transport
	http      *http.Client
}

// NewSystemClient makes a client. It connects to nothing.
func NewSystemClient(c SystemConfig) (*SystemClient, error) {
	base, err := siteURL(c.URL)
	if err != nil {
		return nil, err
	}
	if err := c.Site.Validate(); err != nil {
		return nil, err
	}
	if c.SiteCA == nil && !isThumbprint(c.SiteCAThumbprint) {
		return nil, opencmg.Errorf(opencmg.Invalid, "site client: the site CA or its thumbprint must be set")
	}
	if c.Timeout <= 0 {
		c.Timeout = 15 * time.Second
	}
	t := &tls.Config{
		MinVersion: tls.VersionTLS13,
		// The standard check asks for a host name and public roots.
		// VerifyConnection replaces it as a whole.
		InsecureSkipVerify: true,
		VerifyConnection:   c.verify,
	}
	if c.Certificate != nil {
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if cert := c.Certificate(); cert != nil {
				return cert, nil
			}
			return new(tls.Certificate), nil
		}
	}
	tr := &http.Transport{
		TLSClientConfig: t, Proxy: c.Proxy, DialContext: c.DialContext,
		MaxIdleConnsPerHost: 2, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 10 * time.Second,
	}
	return &SystemClient{base: base, timeout: c.Timeout, transport: tr, http: &http.Client{
		Transport: tr,
		// A site answers itself; following would carry a join token elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// verify accepts only the site server: a certificate that the site CA issued
// for it.
func (c *SystemConfig) verify(cs tls.ConnectionState) error {
	want := "site server of site " + string(c.Site)
	if len(cs.PeerCertificates) == 0 {
		return fmt.Errorf("peer must be the %s, but presented no certificate", want)
	}
	leaf, ca := cs.PeerCertificates[0], c.SiteCA
	above := x509.NewCertPool()
	for _, cert := range cs.PeerCertificates[1:] {
		above.AddCert(cert)
		if sum := sha256.Sum256(cert.Raw); ca == nil && hex.EncodeToString(sum[:]) == c.SiteCAThumbprint {
			ca = cert
		}
	}
	if ca == nil {
		return fmt.Errorf("peer must be the %s, but the chain of its certificate %q, issued by %q, does not hold the site CA that the join token names: the address is wrong, or a device on the way inspects TLS", want, leaf.Subject, leaf.Issuer)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: above, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		return fmt.Errorf("peer must be the %s, but its certificate %q, issued by %q, is not acceptable: %w", want, leaf.Subject, leaf.Issuer, err)
	}
	uri := opencmg.SiteServerURI(c.Site)
	if !slices.ContainsFunc(leaf.URIs, func(u *url.URL) bool { return u.String() == uri }) {
		return fmt.Errorf("peer must be the %s, but its certificate %q of the site CA is for something else", want, leaf.Subject)
	}
	return nil
}

// Close closes idle connections. A certificate that was renewed is then
// presented with the next request.
func (c *SystemClient) Close() { c.transport.CloseIdleConnections() }

// Join asks for a place in the site.
func (c *SystemClient) Join(ctx context.Context, r JoinRequest) (*JoinReply, error) {
	var reply JoinReply
	if err := c.post(ctx, JoinPath, "join the site", r, &reply); err != nil {
		return nil, err
	}
	return &reply, nil
}

// Renew asks for a certificate for a new key.
func (c *SystemClient) Renew(ctx context.Context, r RenewRequest) (*JoinReply, error) {
	var reply JoinReply
	if err := c.post(ctx, RenewPath, "renew the certificate", r, &reply); err != nil {
		return nil, err
	}
	return &reply, nil
}

// JoinGateway passes on the request of a host that wants to be an instance of a
// gateway.
func (c *SystemClient) JoinGateway(ctx context.Context, r GatewayJoinRequest) (*GatewayJoinReply, error) {
	var reply GatewayJoinReply
	if err := c.post(ctx, GatewayJoinPath, "pass on a gateway instance's request to join", r, &reply); err != nil {
		return nil, err
	}
	return &reply, nil
}

// Report tells the site about the system.
func (c *SystemClient) Report(ctx context.Context, r *SiteSystemReport) error {
	return c.post(ctx, ReportPath, "report to the site", r, nil)
}

// Answer answers a question that came with the documents.
func (c *SystemClient) Answer(ctx context.Context, a *SystemAnswer) error {
	return c.post(ctx, AnswersPath, "answer the site's question", a, nil)
}

// Documents asks for the documents. With the etag of the last answer it waits up
// to wait, at most [MaxDocumentsWait], for a change, and returns no documents
// when there was none.
func (c *SystemClient) Documents(ctx context.Context, etag string, wait time.Duration) (*Documents, string, error) {
	wait = min(max(wait, 0), MaxDocumentsWait)
	u := c.base.JoinPath(DocumentsPath)
	if etag != "" {
		u.RawQuery = url.Values{"wait": {strconv.Itoa(int(wait / time.Second))}}.Encode()
	} else {
		wait = 0
	}
	req, err := http.NewRequest(http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, "", err
	}
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	var d Documents
	res, err := c.do(ctx, req, "read the site's documents", wait, maxDocuments, &d)
	if err != nil {
		return nil, "", err
	}
	if res.StatusCode == http.StatusNotModified {
		return nil, etag, nil
	}
	return &d, res.Header.Get("ETag"), nil
}

func (c *SystemClient) post(ctx context.Context, path, what string, body, reply any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	req, err := http.NewRequest(http.MethodPost, c.base.JoinPath(path).String(), bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	_, err = c.do(ctx, req, what, 0, maxReply, reply)
	return err
}

// do sends a request and decodes the answer into reply unless that is nil. what
// says in errors what was tried.
func (c *SystemClient) do(ctx context.Context, req *http.Request, what string, wait time.Duration, max int64, reply any) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout+wait)
	defer cancel()
	req.Header.Set("Accept", "application/json, application/problem+json")
	res, err := c.http.Do(req.WithContext(ctx))
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // the URL is known, and its query is of no interest
		}
		return nil, opencmg.Errorf(opencmg.Unavailable, "%s at %s: %w", what, c.base, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, max+1))
	switch {
	case err != nil:
		return nil, opencmg.Errorf(opencmg.Unavailable, "%s at %s: read the answer: %w", what, c.base, err)
	case int64(len(b)) > max:
		return nil, opencmg.Errorf(opencmg.TooLarge, "%s at %s: the answer is larger than %d bytes", what, c.base, max)
	case res.StatusCode == http.StatusNotModified && req.Header.Get("If-None-Match") != "":
		return res, nil
	case res.StatusCode < 200 || res.StatusCode > 299:
		return nil, opencmg.Errorf(kindOf(res.StatusCode), "%s at %s: the site answered %s", what, c.base, problem(res, b))
	case reply == nil:
		return res, nil
	}
	if err := decodeOne(b, reply); err != nil {
		return nil, opencmg.Errorf(opencmg.Invalid, "%s at %s: the answer is not what a site sends: %w", what, c.base, err)
	}
	return res, nil
}

// problem describes an answer that is no success, in the words of its problem
// document if it has one.
func problem(res *http.Response, body []byte) string {
	s := strconv.Itoa(res.StatusCode) + " " + http.StatusText(res.StatusCode)
	var p struct {
		Detail        string `json:"detail"`
		CorrelationID string `json:"correlationId"`
	}
	if !strings.HasPrefix(res.Header.Get("Content-Type"), "application/problem+json") || json.Unmarshal(body, &p) != nil {
		return s
	}
	if p.Detail != "" {
		s += ": " + p.Detail
	}
	if p.CorrelationID != "" {
		s += " (correlation ID " + p.CorrelationID + ")"
	}
	return s
}

// kindOf is the kind that a status stands for, also of something between here
// and the site.
func kindOf(status int) opencmg.Kind {
	if kind, ok := statusKinds[status]; ok {
		return kind
	}
	switch {
	case status == http.StatusGone:
		return opencmg.NotFound
	case status >= 500 || status == http.StatusTooManyRequests:
		return opencmg.Unavailable
	}
	return opencmg.Invalid
}
