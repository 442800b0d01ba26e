package mp

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/sitedb"
)

// Notification, wire.md 9. The database is the truth about what a client has
// to be told; the hub only knows who is listening, and wakes listeners up. A
// listener that wakes reads the database, so nothing is lost when a client
// listens nowhere, or at another server, or when this process is killed.

// redeliver is after how long an unanswered notification is sent again to a
// client that is still busy answering. One that has nothing to answer has lost
// what it was sent, for example with a gateway instance that went down, and
// gets it again at once: a task may arrive twice, and never not at all.
const redeliver = time.Minute

// maxHold bounds how long a request is held, whatever the client asks for.
const maxHold = 30 * time.Minute

type hub struct {
	s *Server

	mu      sync.Mutex
	waiters map[opencmg.ClientID]*waiter // the newest per client; guarded by mu
	answers map[int64]chan struct{}      // closed when a notification is answered; guarded by mu
	closed  bool                         // guarded by mu
	counts  onlineCounts                 // of waiters; guarded by mu
}

// A waiter is one listening client.
type waiter struct {
	wake      chan struct{} // buffered by one: "look into the database"
	replaced  chan struct{} // closed when a newer one took its place, or the hub closes
	transport string        // http or tcp
	since     time.Time
	outside   bool
	auth      opencmg.AuthMode // how it proved itself
}

func newHub(s *Server) *hub {
	return &hub{s: s, counts: onlineCounts{clients: map[onlineKey]int64{}}, waiters: map[opencmg.ClientID]*waiter{}, answers: map[int64]chan struct{}{}}
}

// join makes the caller the client's listener. An older one is told to go: its
// connection is dead, or the client will close it. leave must be called.
func (h *hub) join(id opencmg.ClientID, transport string, outside bool, auth opencmg.AuthMode) (w *waiter, leave func()) {
	w = &waiter{wake: make(chan struct{}, 1), replaced: make(chan struct{}), transport: transport, since: h.s.now(), outside: outside, auth: auth}
	w.wake <- struct{}{} // there may be something already
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(w.replaced)
		return w, func() {}
	}
	if old := h.waiters[id]; old != nil {
		close(old.replaced)
		h.countOnline(old, -1)
	}
	h.waiters[id] = w
	h.countOnline(w, 1)
	return w, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.waiters[id] == w {
			delete(h.waiters, id)
			h.countOnline(w, -1)
		}
	}
}

func (h *hub) wake(id opencmg.ClientID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.waiters[id]
	if w == nil {
		return false
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return true
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for id, w := range h.waiters {
		close(w.replaced)
		delete(h.waiters, id)
		h.countOnline(w, -1)
	}
}

func (h *hub) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.waiters)
}

func (h *hub) online() map[opencmg.ClientID]waiter {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := make(map[opencmg.ClientID]waiter, len(h.waiters))
	for id, w := range h.waiters {
		m[id] = *w
	}
	return m
}

// expect returns a channel that is closed when the notification is answered.
func (h *hub) expect(pushID int64) (answered <-chan struct{}, forget func()) {
	c := make(chan struct{})
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answers[pushID] = c
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.answers, pushID)
	}
}

func (h *hub) answered(pushID int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c := h.answers[pushID]; c != nil {
		close(c)
		delete(h.answers, pushID)
	}
}

// Notify sends a task to clients and returns the recorded notifications.
// Clients that listen get it at once, others when they listen again within a
// day.
func (s *Server) Notify(ctx context.Context, clients []opencmg.ClientID, taskType int, param string) ([]sitedb.Notification, error) {
	added, err := s.c.DB.AddNotifications(ctx, clients, ccm.NewGUID(), taskType, param)
	if err != nil {
		return nil, err
	}
	for _, n := range added {
		s.hub.wake(n.ClientID)
	}
	s.metrics.notifications.WithLabelValues("sent").Add(float64(len(added)))
	s.log.Info("notifications", "component", "BGBServer", "count", len(added), "tasktype", taskType)
	return added, nil
}

// due returns the frames of notifications that the client has to be sent now,
// and marks them as delivered. again includes those that were sent before and
// are not answered.
func (s *Server) due(ctx context.Context, id opencmg.ClientID, again bool) ([]ccm.Frame, error) {
	trusted, err := s.c.DB.ClientTrusted(ctx, id)
	if err != nil {
		return nil, err
	}
	if !trusted {
		// It was blocked or removed while it listened.
		return nil, opencmg.Errorf(opencmg.Forbidden, "the notification request is not accepted; register again if this goes on")
	}
	waiting, err := s.c.DB.Waiting(ctx, id)
	if err != nil {
		return nil, err
	}
	var frames []ccm.Frame
	for _, n := range waiting {
		if !again && !n.Delivered.IsZero() && s.now().Sub(n.Delivered) < redeliver {
			continue
		}
		if err := s.c.DB.Delivered(ctx, n.PushID); err != nil {
			return nil, err
		}
		s.metrics.notifications.WithLabelValues("delivered").Inc()
		frames = append(frames, ccm.Task{Time: n.Created, PushID: int(n.PushID), TaskID: int(n.PushID), TaskGUID: n.TaskGUID, Type: n.TaskType, Param: n.Param}.Frame())
	}
	return frames, nil
}

// answer records a client's answer to a task. repeated says that it had
// answered before: what it was sent then did not arrive.
func (s *Server) answer(ctx context.Context, id opencmg.ClientID, f ccm.Frame) (repeated bool, err error) {
	t, err := ccm.ParseTaskResponse(f)
	if err != nil {
		return false, err
	}
	before, err := s.c.DB.Answered(ctx, id, int64(t.PushID), t.ReturnCode)
	if err != nil {
		return false, err
	}
	s.hub.answered(int64(t.PushID))
	s.metrics.notifications.WithLabelValues("answered").Inc()
	s.log.Info("task answered", "component", "BGBServer", "client", string(id), "pushid", t.PushID, "return_code", t.ReturnCode)
	return before, nil
}

// notification answers /BGB/handler.ashx, the HTTP form (wire.md 9.3).
func (s *Server) notification(w http.ResponseWriter, r *http.Request) error {
	x := exchangeOf(r)
	if err := s.refuseBulk(x); err != nil {
		return err
	}
	body, release, err := s.readBody(w, r, ccm.MaxFrame+8<<10)
	if err != nil {
		x.refuse("refused: %v", err)
		return err
	}
	release()
	switch kind := r.URL.Query().Get("RequestType"); {
	case strings.EqualFold(kind, ccm.NotifyLogIn):
		// Nothing needs to be remembered between requests: each is signed.
		answer := ccm.EncodeLogIn(nil)
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
		_, err := w.Write(answer)
		return err
	case strings.EqualFold(kind, ccm.NotifyContinue):
		return s.hold(w, r, x, body)
	case strings.EqualFold(kind, ccm.NotifyTest):
		return s.notifyTest(w, r, x, body)
	default:
		x.refuse("refused: RequestType %.40q", kind)
		return opencmg.Errorf(opencmg.Invalid, "RequestType must be LogIn or Continue")
	}
}

// maxTestParam bounds what a client may have sent back to itself.
const maxTestParam = 256

// notifyTest sends a client the test task that it asks for, and nobody else.
func (s *Server) notifyTest(w http.ResponseWriter, r *http.Request, x *exchange, body []byte) error {
	c, err := ccm.ParseContinue(body)
	if err != nil {
		x.refuse("refused: %v", err)
		return err
	}
	client, err := s.listener(r.Context(), x, &c)
	if err != nil {
		return err
	}
	task, err := ccm.ParseTask(c.Frame)
	if err != nil || c.Frame.Type != ccm.FrameRequest || task.Type != ccm.TaskTest || len(task.Param) > maxTestParam {
		x.refuse("refused: the frame asks for no test task: type %d, %v", c.Frame.Type, err)
		return opencmg.Errorf(opencmg.Invalid, "a client may ask for a test task to itself only")
	}
	if _, err := s.Notify(r.Context(), []opencmg.ClientID{client.ID}, ccm.TaskTest, task.Param); err != nil {
		return err
	}
	w.Header().Set("Content-Length", "0")
	return nil
}

// hold keeps a Continue request until there is a task for the client or its
// keep-alive time is over.
func (s *Server) hold(w http.ResponseWriter, r *http.Request, x *exchange, body []byte) error {
	log := s.log.With("component", "BGBServer", "request_id", x.id)
	id, keepAlive, again, err := s.beginHold(r.Context(), x, body)
	if err != nil {
		log.Info("notification request refused", "reason", x.verdict)
		return err
	}
	frames, err := s.await(r.Context(), x, id, keepAlive, again)
	if err != nil {
		return err
	}
	var answer []byte
	for _, f := range frames {
		answer = f.Append(answer)
	}
	x.note("%d tasks", len(frames))
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(bodyTimeout))
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	_, err = w.Write(answer)
	if err == nil && len(frames) > 0 {
		log.Info("tasks sent", "client", string(id), "count", len(frames))
	}
	return err
}

// beginHold reads and checks a Continue request and takes the answer that it
// may carry; again says that tasks which were sent before have to be sent
// again. It is a function of its own so that what it needed, certificates above
// all, is gone while the request waits.
func (s *Server) beginHold(ctx context.Context, x *exchange, body []byte) (id opencmg.ClientID, keepAlive time.Duration, again bool, err error) {
	c, err := ccm.ParseContinue(body)
	if err != nil {
		x.refuse("refused: %v", err)
		return "", 0, false, err
	}
	client, err := s.listener(ctx, x, &c)
	if err != nil {
		return "", 0, false, err
	}
	again = true
	switch c.Frame.Type {
	case ccm.FrameRequest:
		x.refuse("refused: frame type %d", c.Frame.Type)
		return "", 0, false, opencmg.Errorf(opencmg.Invalid, "the frame type is not known")
	case ccm.FrameResponse:
		if again, err = s.answer(ctx, client.ID, c.Frame); err != nil {
			x.refuse("refused: %v", err)
			return "", 0, false, err
		}
	}
	return client.ID, min(c.KeepAlive, maxHold), again, nil
}

// await returns the client's next tasks, none when the time is over or a newer
// request takes this one's place.
func (s *Server) await(ctx context.Context, x *exchange, id opencmg.ClientID, keepAlive time.Duration, again bool) ([]ccm.Frame, error) {
	waiter, leave := s.hub.join(id, "http", x.outside(), x.auth)
	defer leave()
	timer := time.NewTimer(keepAlive)
	defer timer.Stop()
	for {
		select {
		case <-waiter.wake:
			if frames, err := s.due(ctx, id, again); err != nil || len(frames) > 0 {
				return frames, err
			}
			again = false
		case <-timer.C:
			return nil, nil
		case <-waiter.replaced:
			x.note("a newer request of the client took this one's place, or the server is stopping")
			return nil, nil
		case <-ctx.Done():
			x.refuse("the caller went away")
			return nil, nil
		}
	}
}

// listener is the client that signed a Continue request.
func (s *Server) listener(ctx context.Context, x *exchange, c *ccm.ContinueRequest) (sitedb.Client, error) {
	denied := opencmg.Errorf(opencmg.Forbidden, "the notification request is not accepted; register again if this goes on")
	client, err := s.c.DB.Client(ctx, c.SourceID)
	if err != nil {
		if !isNotFound(err) {
			return sitedb.Client{}, err
		}
		x.refuse("refused: client %s is not registered", c.SourceID)
		return sitedb.Client{}, denied
	}
	if err := ccm.VerifyNotification(publicKey(client.Signing), c.Frame.Payload, c.Signature); err != nil {
		x.refuse("refused: notification of %s: %v", client.ID, err)
		return sitedb.Client{}, denied
	}
	if why := contradicts(x.caller, client); why != "" || !client.Approval.Trusted() {
		x.refuse("refused: notification of %s: approval %d %s", client.ID, client.Approval, why)
		return sitedb.Client{}, denied
	}
	switch c.Frame.Type {
	case ccm.FrameSignIn, ccm.FrameKeepAlive:
		in, err := ccm.ParseSignIn(c.Frame)
		if err != nil || in.ClientID != client.ID {
			x.refuse("refused: the frame signed by %s is about somebody else: %v", client.ID, err)
			return sitedb.Client{}, denied
		}
		// A recorded frame must not open a channel for whoever recorded it.
		if d := s.now().Sub(in.Time).Abs(); d > ccm.ProofSkew {
			x.refuse("refused: the frame of %s is %s away from our clock", client.ID, d.Truncate(time.Second))
			return sitedb.Client{}, denied
		}
	case ccm.FrameRequest:
		// Only notifyTest takes these. A recorded one must not wake the client
		// again and again.
		if t, err := ccm.ParseTask(c.Frame); err != nil || s.now().Sub(t.Time).Abs() > ccm.ProofSkew {
			x.refuse("refused: the test request of %s is malformed or of another time: %v", client.ID, err)
			return sitedb.Client{}, denied
		}
	case ccm.FrameResponse:
	default:
		x.refuse("refused: frame type %d", c.Frame.Type)
		return sitedb.Client{}, opencmg.Errorf(opencmg.Invalid, "the frame type is not known")
	}
	x.client, x.auth = client.ID, x.caller.Auth
	if x.auth == opencmg.AuthNone {
		x.auth = client.Auth
	}
	return client, nil
}
