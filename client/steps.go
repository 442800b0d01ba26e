package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
)

// A StepResult is what one act did.
type StepResult struct {
	Step string `json:"step"`
	OK   bool   `json:"ok"`
	// Milliseconds is how long the act took as a whole, retries included.
	// For NotifyTest it is the round trip of the notification.
	Milliseconds float64 `json:"ms"`
	Detail       string  `json:"detail,omitempty"` // for people
	// CorrelationID is that of the last request, for opencmg explain.
	CorrelationID string `json:"correlationId,omitempty"`
	Error         string `json:"error,omitempty"`
}

// The names of the steps.
const (
	StepRegister     = "register"
	StepToken        = "token"
	StepPolicy       = "policy"
	StepLocation     = "location"
	StepHeartbeat    = "heartbeat"
	StepInventory    = "inventory"
	StepState        = "state"
	StepNotification = "notification"
)

// Install does what a device must have done before it counts as installed:
// registers, gets its token, and learns its location and policy. It stops at
// the first step that fails; doing it again continues.
func (c *Client) Install(ctx context.Context) ([]StepResult, error) {
	c.log.Info("installing", "component", "ccmsetup", "site", string(c.state().siteCode()), "auth", string(c.Auth()))
	c.Locate(ctx)
	c.search(ctx)
	var results []StepResult
	for _, act := range []func(context.Context) (StepResult, error){c.Register, c.Token, c.Location, c.Policy} {
		r, err := act(ctx)
		results = append(results, r)
		if err != nil {
			c.log.Error("installation stopped", "component", "ccmsetup", "step", r.Step, "err", err)
			return results, err
		}
	}
	c.log.Info("installation succeeded", "component", "ccmsetup", "client", string(c.state().ClientID))
	return results, nil
}

// step runs one act and fills in its result.
func (c *Client) step(name, component string, act func(r *StepResult) error) (StepResult, error) {
	r := StepResult{Step: name}
	began := time.Now()
	err := act(&r)
	if r.Milliseconds == 0 {
		r.Milliseconds = milliseconds(time.Since(began))
	}
	if err != nil {
		r.Error = err.Error()
		var h *HTTPError
		if errors.As(err, &h) {
			r.CorrelationID = h.CorrelationID
		}
		c.log.Error(name+" failed", "component", component, "err", err)
		return r, fmt.Errorf("%s: %w", name, err)
	}
	r.OK = true
	c.log.Info(name+" done", "component", component, "detail", r.Detail, "request_id", r.CorrelationID)
	return r, nil
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}

// A letter is a message about to be sent.
type letter struct {
	endpoint   string
	text       string
	need       tokenNeed
	signed     bool // with the hook clientauth; needs a client ID
	async      bool // an empty answer is fine, unless marked as a refusal
	once       bool
	inside     bool   // the management point inside is asked first, if it answers
	replyTo    string // local endpoint; default SccmMessaging
	properties []ccm.Property
	component  string
}

// emptyRetries is how often an empty answer ("not for you", or not ready yet,
// wire.md 3.3) is asked again, with a pause that grows.
const emptyRetries = 4

// post sends a letter and returns the text of the reply.
func (c *Client) post(ctx context.Context, l letter) (reply string, a *answer, err error) {
	if l.replyTo == "" {
		l.replyTo = "SccmMessaging"
	}
	if l.component == "" {
		l.component = "CcmMessaging"
	}
	id := ccm.NewGUID()
	for try := 0; ; try++ {
		routes, err := c.routes()
		if err != nil {
			return "", nil, err
		}
		if l.inside {
			slices.SortStableFunc(routes, func(a, b route) int { return btoi(a.internet) - btoi(b.internet) })
		}
		if a, _, err = c.sendBy(ctx, routes, l.need, func(r *route) (*call, error) { return c.letterCall(&l, r, id) }); err != nil {
			return "", nil, err
		}
		if len(a.body) == 0 && l.async && a.header.Get(ccm.HeaderRefused) == "" {
			return "", a, nil
		}
		m, err := ccm.ParseMessage(a.header.Get("Content-Type"), a.body, ccm.Limits{})
		if err == nil {
			return m.Text, a, nil
		}
		if len(a.body) > 0 || try == emptyRetries {
			if len(a.body) == 0 {
				err = opencmg.Errorf(opencmg.Unavailable, "the management point gave an empty answer: it does not know this client, did not accept its signature, or is not ready; look into its log for %s", l.endpoint)
			}
			return "", a, fmt.Errorf("answer of %s: %w", l.endpoint, err)
		}
		timer := time.NewTimer(500 * time.Millisecond << try)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return "", a, ctx.Err()
		}
	}
}

func (c *Client) letterCall(l *letter, r *route, id string) (*call, error) {
	st := c.state()
	m := &ccm.Message{
		ID: id, SourceHost: c.host.NetBIOSName,
		TargetAddress: "mp:[http]" + l.endpoint, TargetEndpoint: l.endpoint, TargetHost: r.base,
		ReplyTo: "direct:" + c.host.NetBIOSName + ":" + l.replyTo, ReplyMode: ccm.ReplySync,
		SentTime: c.cfg.Now(), Properties: l.properties, Text: l.text,
	}
	if l.async {
		m.ReplyMode = ccm.ReplyAsync
	}
	if l.need != anyToken || l.signed { // anything but a first registration
		m.SourceID = st.ClientID
	}
	key := c.key()
	if !l.signed {
		key = nil
	}
	contentType, body, err := m.Encode(key)
	if err != nil {
		return nil, err
	}
	path := ccm.PathRequest
	if r.byToken() && l.need != noToken {
		path = ccm.PathTokenRequest
	}
	return &call{method: ccm.MethodCCMPost, url: r.base + path, contentType: contentType, body: body, component: l.component, once: l.once}, nil
}

// registered returns the client ID, or what to do to get one.
func (c *Client) registered() (opencmg.ClientID, error) {
	st := c.state()
	switch {
	case st.ClientID == "":
		return "", opencmg.Errorf(opencmg.Conflict, "this client is not registered yet; run the registration first")
	case !st.Approval.Trusted():
		return "", opencmg.Errorf(opencmg.Forbidden, "the site has not approved this client yet (%s); ask an administrator to approve %s", approvalText(st.Approval), st.ClientID)
	}
	return st.ClientID, nil
}

func approvalText(a ccm.ApprovalStatus) string {
	switch a {
	case ccm.Approved:
		return "approved"
	case ccm.ApprovedByEntra:
		return "approved by Entra"
	case ccm.ApprovalPending:
		return "approval pending"
	case ccm.ApprovalNotApplicable:
		return "approval not applicable"
	}
	return "not registered"
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if strings.HasSuffix(noun, "y") && !strings.HasSuffix(noun, "ay") {
		return fmt.Sprintf("%d %sies", n, strings.TrimSuffix(noun, "y"))
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
