package site

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/pki"
)

// What the connection analyzer sends: as a client on the internet does, over
// connections of its own.

const (
	visitTimeout = 40 * time.Second // of one request; a connection point waits 10 s for a role
	maxVisitBody = 1 << 20          // bytes of an answer
	analyzerTerm = 10 * time.Minute // of the analyzer's own token
	endsSoon     = 14 * 24 * time.Hour
)

// An analysisSignIn is how the analyzer proves itself. It lives in memory only.
type analysisSignIn struct {
	way    string
	pair   tls.Certificate
	bearer string // empty with a client certificate
}

// prefix is that of the paths that take this way.
func (a *analysisSignIn) prefix() string {
	if a.way == adminservice.AnalyzeCertificate {
		return opencmg.MutualAuthPrefix
	}
	return opencmg.ServerAuthPrefix
}

// newAnalysisSignIn checks the credentials, or makes some.
func (s *Server) newAnalysisSignIn(in *adminservice.NewAnalysis) (*analysisSignIn, error) {
	a := &analysisSignIn{way: in.SignIn}
	now := s.cfg.Now()
	if in.SignIn != adminservice.AnalyzeCertificate && in.Certificate+in.Key != "" || in.SignIn != adminservice.AnalyzeEntraUser && in.EntraToken != "" {
		return nil, opencmg.Errorf(opencmg.Invalid, "a credential is given that sign-in by %s does not use: leave it out, or choose another signIn", in.SignIn).About("signIn")
	}
	var err error
	switch in.SignIn {
	case adminservice.AnalyzeCertificate:
		if in.Certificate == "" || in.Key == "" {
			field := "certificate"
			if in.Certificate != "" {
				field = "key"
			}
			return nil, opencmg.Errorf(opencmg.Invalid, "certificate and key: give a client certificate and its key, in PEM").About(field)
		}
		// What the parser says about a key is nobody's business.
		if a.pair, err = tls.X509KeyPair([]byte(in.Certificate), []byte(in.Key)); err != nil {
			return nil, opencmg.Errorf(opencmg.Invalid, "certificate and key do not make a pair in PEM: give the certificate with the key that it was issued for").About("key")
		}
		return a, nil
	case adminservice.AnalyzeToken, adminservice.AnalyzeEntraUser:
		if a.pair, err = pki.NewSelfSigned("connection analyzer of site "+string(s.Code()), now); err != nil {
			return nil, err
		}
	default:
		return nil, opencmg.Errorf(opencmg.Invalid, "signIn %.40q: must be %s, %s or %s", in.SignIn, adminservice.AnalyzeToken, adminservice.AnalyzeCertificate, adminservice.AnalyzeEntraUser).About("signIn")
	}
	if in.SignIn == adminservice.AnalyzeEntraUser {
		a.bearer = strings.TrimSpace(in.EntraToken)
		if a.bearer == "" || strings.ContainsAny(a.bearer, " \r\n\t") {
			return nil, opencmg.Errorf(opencmg.Invalid, "entraToken: give an access token of a user for the site's server application").About("entraToken")
		}
		return a, nil
	}
	leaf, err := x509.ParseCertificate(a.pair.Certificate[0])
	if err != nil {
		return nil, err
	}
	token, err := s.keys.signer.Analyzer(pki.Thumbprint(leaf), analyzerTerm, now)
	a.bearer = token.Raw
	return a, err
}

// A visit is one connection to one instance, which is kept: what is sent on it
// stays with that instance.
type visit struct {
	sign     *analysisSignIn
	base     string // https://service-name
	http     *http.Client
	dialled  bool
	cert     *x509.Certificate
	instance int // -1 until it told its number
	metadata reply
	version  uint64 // of the published configuration in force there
}

// A reply is what came back.
type reply struct {
	status int
	reason string
	id     string // correlation ID
	body   []byte
	ms     float64
	err    error // no answer came
}

func (r *reply) ok() bool { return r.err == nil && r.status == http.StatusOK }

// A certificateProblem is why a server certificate is not trusted. Nothing is
// sent to such a server.
type certificateProblem struct{ err error }

func (c *certificateProblem) Error() string { return c.err.Error() }

// newVisit prepares a connection to a service name, at an address of its own
// unless that is empty.
func (s *Server) newVisit(sign *analysisSignIn, serviceName, address string) *visit {
	base := s.cfg.GatewayTransport
	if base == nil {
		base = &http.Transport{}
	}
	t := base.Clone()
	dial := t.DialContext
	if dial == nil {
		dial = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	}
	v := &visit{sign: sign, base: "https://" + serviceName, instance: -1}
	if address != "" {
		t.Proxy = nil // this very host is meant
	}
	var roots *x509.CertPool
	if t.TLSClientConfig != nil {
		roots = t.TLSClientConfig.RootCAs
	}
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if v.dialled {
			return nil, errors.New("the instance closed the connection")
		}
		conn, err := dial(ctx, network, cmp.Or(address, addr))
		v.dialled = err == nil
		return conn, err
	}
	t.TLSClientConfig = &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: serviceName,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &sign.pair, nil },
		// VerifyConnection does the same as the standard check, and keeps what
		// was seen for the report.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			v.cert = cs.PeerCertificates[0]
			above := x509.NewCertPool()
			for _, c := range cs.PeerCertificates[1:] {
				above.AddCert(c)
			}
			if _, err := v.cert.Verify(x509.VerifyOptions{DNSName: serviceName, Roots: roots, Intermediates: above, CurrentTime: s.cfg.Now()}); err != nil {
				return &certificateProblem{err}
			}
			return nil
		},
	}
	// HTTP/2 has no reason phrase, and the gateway says in it why it refused.
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	t.ForceAttemptHTTP2, t.DisableCompression = false, true
	t.MaxConnsPerHost, t.MaxIdleConnsPerHost = 1, 1
	v.http = &http.Client{Transport: t, Timeout: visitTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return v
}

// better reports whether the visit tells more than another.
func (v *visit) better(o *visit) bool {
	rank := func(v *visit) int {
		switch {
		case v.metadata.ok():
			return 3
		case v.metadata.status != 0:
			return 2
		case v.cert != nil:
			return 1
		}
		return 0
	}
	return rank(v) > rank(o)
}

func (v *visit) close() { v.http.CloseIdleConnections() }

// do sends one request. bearer is empty for one by certificate.
func (v *visit) do(ctx context.Context, method, path, bearer string) (r reply) {
	began := time.Now()
	defer func() { r.ms = float64(time.Since(began)) / 1e6 }()
	req, err := http.NewRequestWithContext(ctx, method, v.base+path, nil)
	if err != nil {
		return reply{err: err}
	}
	req.Header.Set("User-Agent", ccm.UserAgent)
	if bearer != "" {
		req.Header.Set("Authorization", ccm.TokenScheme+" "+bearer)
	}
	res, err := v.http.Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer res.Body.Close()
	r = reply{status: res.StatusCode, id: res.Header.Get(opencmg.HeaderCorrelationID)}
	_, r.reason, _ = strings.Cut(res.Status, " ")
	if !opencmg.IsCorrelationID(r.id) {
		r.id = ""
	}
	if r.body, r.err = io.ReadAll(io.LimitReader(res.Body, maxVisitBody+1)); len(r.body) > maxVisitBody {
		r.err = fmt.Errorf("the answer is larger than %d bytes", maxVisitBody)
	}
	return r
}

// call begins the visit: it signs in, and learns which instance this is.
func (v *visit) call(ctx context.Context) {
	v.metadata = v.do(ctx, http.MethodGet, v.sign.prefix()+"ServiceMetadata", v.sign.bearer)
	if !v.metadata.ok() {
		return
	}
	var m struct {
		ConfigurationVersion uint64
		InstanceNumber       *int
	}
	if err := json.Unmarshal(v.metadata.body, &m); err != nil {
		v.metadata.err = fmt.Errorf("the answer is not that of a gateway: %w", err)
		return
	}
	v.version = m.ConfigurationVersion
	if n := m.InstanceNumber; n != nil && *n >= 0 && *n < opencmg.MaxInstances {
		v.instance = *n
	}
}

// unreachable says that no TCP connection came about, and why.
func (v *visit) unreachable() (why string, is bool) {
	if v.metadata.err == nil || v.dialled {
		return "", false
	}
	if dns, ok := errors.AsType[*net.DNSError](v.metadata.err); ok {
		return fmt.Sprintf("the name %s is not known (%s)", dns.Name, dns.Err), true
	}
	return cause(v.metadata.err), true
}

// untrusted says that TLS failed, and why.
func (v *visit) untrusted() (why string, is bool) {
	if v.metadata.err == nil || !v.dialled || v.metadata.status != 0 {
		return "", false
	}
	if p, ok := errors.AsType[*certificateProblem](v.metadata.err); ok {
		return p.Error(), true
	}
	return cause(v.metadata.err), v.cert == nil
}

// cause is an error of net/http without the URL.
func cause(err error) string {
	if u, ok := errors.AsType[interface {
		error
		Unwrap() error
		Timeout() bool
	}](err); ok && u.Unwrap() != nil {
		return u.Unwrap().Error()
	}
	return err.Error()
}
