package mp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/sitedb"
)

// A letter is a message with its request and, when the handler demands one,
// the client that signed it.
type letter struct {
	*ccm.Message
	x      *exchange
	client sitedb.Client
}

// errSilent makes the answer an empty 200: "not for you" (wire.md 3.3). The
// verdict in the exchange says why.
var errSilent = errors.New("answered with silence")

// A messageHandler returns the text of the reply; empty means an empty answer.
type messageHandler struct {
	// signed demands a signature by an approved client, checked before answer.
	signed bool
	// unregistered opens the endpoint to a bulk registration token.
	unregistered bool
	answer       func(context.Context, *letter) (string, error)
}

// messageHandlers is the table of target endpoints (wire.md 3.4), in lower
// case.
func (s *Server) messageHandlers(endpoint string) (messageHandler, bool) {
	switch strings.ToLower(endpoint) {
	case "mp_clientregistration":
		return messageHandler{unregistered: true, answer: s.register}, true
	case "mp_locationmanager":
		return messageHandler{unregistered: true, answer: s.locate}, true
	case "mp_tokenmanager":
		return messageHandler{signed: true, unregistered: true, answer: s.clientToken}, true
	case "mp_policymanager":
		return messageHandler{signed: true, answer: s.assignments}, true
	case "mp_clientidmanager":
		return messageHandler{signed: true, answer: s.clientID}, true
	case "mp_ddrendpoint":
		return messageHandler{signed: true, answer: s.discovery}, true
	case "mp_hinvendpoint", "mp_sinvendpoint":
		return messageHandler{signed: true, answer: s.inventory}, true
	case "mp_relayendpoint":
		return messageHandler{answer: s.relay}, true
	case "statusreceiver":
		return messageHandler{signed: true, answer: s.status}, true
	}
	return messageHandler{}, false
}

// request takes messages of PKI clients and of clients inside the network.
func (s *Server) request(w http.ResponseWriter, r *http.Request) error {
	x := exchangeOf(r)
	// A gateway publishes this path for certificates only; a connection point
	// that says otherwise has a wrong mapping.
	if x.outside() && x.caller.Auth != opencmg.AuthPKI {
		x.refuse("refused: through a gateway this path is for client certificates, the caller came with %q", x.caller.Auth)
		return opencmg.Errorf(opencmg.Forbidden, "this path is for client certificates; use %s with a token", ccm.PathTokenRequest)
	}
	return s.post(w, r, x)
}

// tokenRequest takes messages of callers with a valid token, and of nobody
// else.
func (s *Server) tokenRequest(w http.ResponseWriter, r *http.Request) error {
	x := exchangeOf(r)
	if !x.caller.Auth.ByToken() {
		x.refuse("refused: the caller has no valid token")
		return opencmg.Errorf(opencmg.Unauthorized, "a valid token is needed")
	}
	return s.post(w, r, x)
}

func (s *Server) post(w http.ResponseWriter, r *http.Request, x *exchange) error {
	body, release, err := s.readBody(w, r, maxMessage)
	if err != nil {
		x.refuse("refused: %v", err)
		return err
	}
	defer release()
	contentType, reply, err := s.deliver(r.Context(), x, r.Header.Get("Content-Type"), body)
	if err != nil {
		return err
	}
	writeReply(w, x, contentType, reply)
	return nil
}

func writeReply(w http.ResponseWriter, x *exchange, contentType string, reply []byte) {
	if len(reply) > 0 {
		w.Header().Set("Content-Type", contentType)
	}
	if x.silent {
		w.Header().Set(ccm.HeaderRefused, "1")
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(reply)))
	w.Write(reply)
}

// readBody reads a bounded body. The memory of all bodies at once is bounded
// too: callers wait for their turn. release must be called.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request, limit int64) (body []byte, release func(), err error) {
	if r.ContentLength > limit {
		return nil, nil, opencmg.Errorf(opencmg.TooLarge, "the message is longer than %d bytes", limit)
	}
	// What is made of a message, text and documents, is a few times as long.
	weight := 4 * limit
	if r.ContentLength >= 0 {
		weight = 4*r.ContentLength + 64<<10
	}
	weight = min(weight, messageMemory)
	if err := s.memory.Acquire(r.Context(), weight); err != nil {
		return nil, nil, &opencmg.Error{Kind: opencmg.Unavailable, Msg: "too many messages at once", Err: err}
	}
	release = func() { s.memory.Release(weight) }
	body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		release()
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, nil, opencmg.Errorf(opencmg.TooLarge, "the message is longer than %d bytes", limit)
		}
		return nil, nil, &opencmg.Error{Kind: opencmg.Invalid, Msg: "the message ended early", Err: err}
	}
	http.NewResponseController(w).SetReadDeadline(time.Time{})
	return body, release, nil
}

// deliver parses a message, checks its signature, runs its handler and encodes
// the reply; an empty reply without an error stands for silence.
func (s *Server) deliver(ctx context.Context, x *exchange, contentType string, body []byte) (replyType string, reply []byte, err error) {
	m, err := ccm.ParseMessage(contentType, body, ccm.Limits{})
	if err != nil {
		x.refuse("refused: message: %v", err)
		if errors.Is(err, ccm.ErrEmpty) {
			err = opencmg.Errorf(opencmg.Invalid, "the message is empty")
		}
		return "", nil, err
	}
	x.note("message for %s, %d characters, from %q", m.TargetEndpoint, len(m.Text), m.SourceID)
	h, ok := s.messageHandlers(m.TargetEndpoint)
	if !ok {
		x.refuse("refused: there is no target endpoint %.80q", m.TargetEndpoint)
		return "", nil, opencmg.Errorf(opencmg.NotFound, "this management point has no such target endpoint")
	}
	if !h.unregistered {
		if err := s.refuseBulk(x); err != nil {
			return "", nil, err
		}
	}
	l := &letter{Message: m, x: x}
	if h.signed {
		if err := s.verifySender(ctx, l); err != nil {
			return "", nil, x.silence(err)
		}
	}
	s.metrics.messages.WithLabelValues(strings.ToLower(m.TargetEndpoint)).Inc()
	text, err := h.answer(ctx, l)
	if err != nil || text == "" {
		return "", nil, x.silence(err)
	}
	replyType, reply, err = m.Reply(s.hostName(), text)
	return replyType, reply, err
}

// silence turns errSilent into an empty answer.
func (x *exchange) silence(err error) error {
	if errors.Is(err, errSilent) {
		x.silent = true
		return nil
	}
	return err
}

// verifySender demands that the message is signed with the key that the client
// of its SourceID registered, and that nothing proved contradicts it. The other
// signatures of the hook vary between working clients and decide nothing
// (wire.md 4).
func (s *Server) verifySender(ctx context.Context, l *letter) error {
	x := l.x
	log := s.log.With("component", "ClientAuth", "request_id", x.id, "client", string(l.SourceID), "endpoint", l.TargetEndpoint)
	refuse := func(format string, args ...any) error {
		x.refuse("silent: "+format, args...)
		log.Info("message refused", "reason", x.verdict)
		s.metrics.refused.Inc()
		return errSilent
	}
	if l.SourceID == "" {
		return refuse("the message has no SourceID")
	}
	c, err := s.c.DB.Client(ctx, l.SourceID)
	if errors.Is(err, opencmg.NotFound) {
		return refuse("client %s is not registered", l.SourceID)
	}
	if err != nil {
		return err
	}
	if err := l.VerifyPayload(publicKey(c.Signing)); err != nil {
		return refuse("%v, by the key that %s registered", err, c.ID)
	}
	if why := contradicts(x.caller, c); why != "" {
		return refuse("the message of %s is signed, but %s", c.ID, why)
	}
	if !c.Approval.Trusted() {
		return refuse("client %s is not approved", c.ID)
	}
	l.client, x.client = c, c.ID
	return nil
}

// hostName is the NetBIOS name of this server: the first label of its name, or
// all of an address.
func (s *Server) hostName() string {
	host, _, err := net.SplitHostPort(s.c.Host)
	if err != nil {
		host = s.c.Host
	}
	if net.ParseIP(host) != nil {
		return host
	}
	name, _, _ := strings.Cut(host, ".")
	return name
}
