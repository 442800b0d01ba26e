package mp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/internal/web"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

// An exchange is one request with what is known about its caller and what will
// be recorded about it. One goroutine owns it.
type exchange struct {
	id     string // correlation ID
	caller opencmg.Identity
	// connectionPoint is the connection ID when the request came through a
	// gateway; empty inside the network.
	connectionPoint string
	addr            netip.Addr // of the connection

	client  opencmg.ClientID // for the record
	auth    opencmg.AuthMode // of a client that listens, see Server.Online
	verdict string
	details []string
	silent  bool // the answer is empty because the message is refused
}

// outside reports whether the caller is on the internet.
func (x *exchange) outside() bool { return x.connectionPoint != "" }

// refuse notes why the caller will be told nothing.
func (x *exchange) refuse(format string, args ...any) { x.verdict = fmt.Sprintf(format, args...) }

func (x *exchange) note(format string, args ...any) {
	x.details = append(x.details, fmt.Sprintf(format, args...))
}

// errTokenRefused is all that a caller learns about a token that is not
// accepted; the verdict in the exchange says why.
var errTokenRefused = opencmg.Errorf(opencmg.Unauthorized, "the token is not accepted")

type exchangeKey struct{}

func exchangeOf(r *http.Request) *exchange { return r.Context().Value(exchangeKey{}).(*exchange) }

// serve authenticates the caller, runs the handler and records the verdict.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, endpoint string, h http.Handler) {
	began := s.now()
	x := &exchange{addr: addressOf(r)}
	cw := &countingWriter{ResponseWriter: w}
	connectionPoint, trusted := s.peers.ConnectionPoint(r.TLS)
	if trusted {
		x.connectionPoint, x.id = connectionPoint, r.Header.Get(opencmg.HeaderCorrelationID)
	}
	if x.id == "" || len(x.id) > 128 {
		x.id = web.NewCorrelationID()
	}
	identity := r.Header.Values(opencmg.HeaderIdentity)
	for name := range r.Header {
		if strings.HasPrefix(name, http.CanonicalHeaderKey(opencmg.HeaderPrefix)) {
			r.Header.Del(name)
		}
	}
	r.Header.Set(opencmg.HeaderCorrelationID, x.id)
	w.Header().Set(opencmg.HeaderCorrelationID, x.id)
	if r.ContentLength != 0 {
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	}

	err := s.identify(r, x, trusted, identity)
	if err != nil {
		h = web.Handler(s.log, func(http.ResponseWriter, *http.Request) error { return err })
	}
	h.ServeHTTP(cw, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x)))

	if x.verdict == "" {
		x.verdict = "answered"
		if cw.status >= 400 {
			x.verdict = "refused: " + http.StatusText(cw.status)
		}
	}
	if x.client == "" {
		x.client = x.caller.ClientID
	}
	s.metrics.requests.WithLabelValues(endpoint, fmt.Sprint(cw.status)).Inc()
	s.records.Add(web.Record{
		CorrelationID: x.id, Time: began, Hop: web.HopManagementPoint, Where: s.c.Host, Method: r.Method, Path: r.URL.Path, Endpoint: endpoint,
		Role: string(s.c.RoleID), Client: string(x.client), Status: cw.status, Reason: http.StatusText(cw.status), Verdict: x.verdict, Details: x.details,
		Duration: s.now().Sub(began), RequestBytes: max(r.ContentLength, 0), ResponseBytes: cw.bytes,
	})
	s.log.Debug("request", "request_id", x.id, "endpoint", endpoint, "method", r.Method, "path", r.URL.Path, "status", cw.status, "client", string(x.client),
		"auth", string(x.caller.Auth), "connection_point", x.connectionPoint, "verdict", x.verdict)
}

// identify finds out who is calling. A connection point says it, because the
// gateway checked; anybody else proves it here.
func (s *Server) identify(r *http.Request, x *exchange, trusted bool, identity []string) error {
	x.caller = opencmg.Identity{Auth: opencmg.AuthNone}
	if trusted {
		switch len(identity) {
		case 0:
			x.note("the connection point named no identity")
			return nil
		case 1:
			var err error
			if x.caller, err = opencmg.ParseIdentity(identity[0]); err != nil {
				x.refuse("refused: the connection point's identity field is malformed: %v", err)
				return err
			}
		default:
			x.refuse("refused: the connection point sent %d identities", len(identity))
			return opencmg.Errorf(opencmg.Invalid, "request has more than one identity")
		}
		return s.checkBlocked(r.Context(), x)
	}
	presented := ""
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		presented = pki.Thumbprint(r.TLS.PeerCertificates[0])
	}
	inside := s.inside.Load()
	if token := bearer(r); token != "" {
		if inside.tokens == nil {
			x.refuse("refused: this management point takes no tokens directly")
			return errTokenRefused
		}
		id, err := inside.tokens.Verify(r.Context(), token, presented, s.now())
		if err != nil {
			if refusal, ok := errors.AsType[*pki.Refusal](err); ok {
				x.refuse("refused: token: %s: %s", refusal.Code, refusal.Detail)
			} else {
				x.refuse("refused: token: %v", err)
			}
			return errTokenRefused
		}
		id.Source = remoteAddress(r)
		x.caller = id
		return s.checkBlocked(r.Context(), x)
	}
	x.caller.Thumbprint = presented
	if presented == "" || inside.certificates == nil {
		return nil
	}
	subject, err := inside.certificates.Verify(r.TLS.PeerCertificates, s.now())
	if err != nil {
		x.note("the certificate proves its key only: %v", err)
		return nil
	}
	x.caller.Auth, x.caller.Subject = opencmg.AuthPKI, subject
	return nil
}

// checkBlocked refuses tokens that were blocked after the gateway's last
// configuration.
func (s *Server) checkBlocked(ctx context.Context, x *exchange) error {
	if x.caller.TokenID == "" {
		return nil
	}
	blocked, err := s.c.DB.TokenBlocked(ctx, x.caller.TokenID)
	if err != nil {
		return err
	}
	if blocked {
		x.refuse("refused: token %s is blocked", x.caller.TokenID)
		return errTokenRefused
	}
	return nil
}

// remoteAddress is the address of a caller inside the network, as an identity
// has it.
func remoteAddress(r *http.Request) string {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return a.Addr().Unmap().WithZone("").String()
}

func bearer(r *http.Request) string {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, ccm.TokenScheme) {
		return ""
	}
	return strings.TrimSpace(token)
}

// A bulk registration token proves nothing but that somebody may register.
func (s *Server) refuseBulk(x *exchange) error {
	if x.caller.Auth != opencmg.AuthBulkToken {
		return nil
	}
	x.refuse("refused: a bulk registration token opens registration only")
	return opencmg.Errorf(opencmg.Forbidden, "a bulk registration token opens registration only; register first, then use the client token")
}

// contradicts says why the proved identity can not be this client; empty when
// it can.
func contradicts(id opencmg.Identity, c sitedb.Client) string {
	switch {
	case id.ClientID != "" && id.ClientID != c.ID:
		return fmt.Sprintf("the token names %s", id.ClientID)
	case id.Auth == opencmg.AuthBulkToken && id.Thumbprint != "" && id.Thumbprint != pki.Thumbprint(c.Signing):
		return "the bulk registration token was presented with another key than the registered one"
	case id.DeviceID != "" && c.DeviceID != "" && !strings.EqualFold(id.DeviceID, c.DeviceID):
		return "the token names another device"
	}
	return ""
}

// proves reports whether the identity by itself shows that the caller is this
// client.
func proves(id opencmg.Identity, c sitedb.Client) bool {
	if contradicts(id, c) != "" {
		return false
	}
	switch id.Auth {
	case opencmg.AuthPKI:
		return id.Thumbprint != "" && id.Thumbprint == c.Thumbprint || id.Subject != "" && id.Subject == c.Subject
	case opencmg.AuthClientToken, opencmg.AuthCCMToken, opencmg.AuthEntra:
		return id.ClientID == c.ID || id.DeviceID != "" && strings.EqualFold(id.DeviceID, c.DeviceID) && strings.EqualFold(id.TenantID, c.TenantID)
	}
	return false
}

// registered returns the client that the identity alone names, if it is
// registered and trusted; opencmg.Forbidden otherwise.
func (s *Server) registered(ctx context.Context, x *exchange) (sitedb.Client, error) {
	var c sitedb.Client
	err := error(opencmg.Errorf(opencmg.NotFound, "nobody is named"))
	switch {
	case x.caller.ClientID != "":
		c, err = s.c.DB.Client(ctx, x.caller.ClientID)
	case x.caller.Thumbprint != "":
		c, err = s.c.DB.ClientByThumbprint(ctx, x.caller.Thumbprint)
	}
	if err != nil && !errors.Is(err, opencmg.NotFound) {
		return sitedb.Client{}, err
	}
	if err != nil || !c.Approval.Trusted() || !proves(x.caller, c) {
		x.refuse("refused: the identity (%s) belongs to no approved client", x.caller.Auth)
		return sitedb.Client{}, opencmg.Errorf(opencmg.Forbidden, "the caller is no approved client of this site; register first")
	}
	x.client = c.ID
	return c, nil
}

type countingWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *countingWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *countingWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap gives http.ResponseController the true writer.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
