package client

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
)

// Client notification (wire.md 9): inside the network over a TCP connection,
// through a gateway over one held HTTP request after the other.

const (
	notifyComponent = "CcmNotificationAgent"
	holdMargin      = 45 * time.Second // beyond the keep-alive, for the answer to arrive
	signInTimeout   = 20 * time.Second
	letGoPause      = 2 * time.Second
	eagerPause      = 20 * time.Millisecond
)

// A listener is told what happens on a notification channel. Its functions are
// called one at a time, by the goroutine that listens.
type listener struct {
	// ready is called once the server knows of the channel; may be nil.
	ready func()
	// task takes a task and returns the code for the server, 0 for success. It
	// must not block for long.
	task func(ccm.Task) int
	// enough ends listening, with a nil error, once it returns true after a
	// task was answered; may be nil.
	enough func() bool
	// eager has the channel taken back at once when another one of this
	// client took its place.
	eager bool
}

func (l *listener) isEnough() bool { return l.enough != nil && l.enough() }

// listen keeps one notification channel open until it fails or ctx ends.
func (c *Client) listen(ctx context.Context, l listener) error {
	id, err := c.registered()
	if err != nil {
		return err
	}
	if st := c.state(); st.Intranet && st.MP != "" && c.settings().fastChannelPort != 0 {
		err := c.listenTCP(ctx, id, st.MP, l)
		if err == nil || ctx.Err() != nil {
			return err
		}
		c.log.Info("the fast channel can not be used; HTTP takes its place", "component", notifyComponent, "err", err)
	}
	return c.listenHTTP(ctx, id, l)
}

func (c *Client) signIn(id opencmg.ClientID) ccm.SignIn {
	return ccm.SignIn{Time: c.cfg.Now(), ClientID: id, ClientVersion: AgentVersion}
}

// listenTCP speaks the framing of wire.md 9.2 with the management point.
func (c *Client) listenTCP(ctx context.Context, id opencmg.ClientID, mp string, l listener) error {
	u, err := url.Parse(mp)
	if err != nil {
		return err
	}
	raw, err := c.byIdentity.dial.dial(ctx, "tcp", net.JoinHostPort(u.Hostname(), strconv.Itoa(c.settings().fastChannelPort)))
	if err != nil {
		return err
	}
	conn := tls.Client(raw, c.byIdentity.tlsFor(u.Hostname()))
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	conn.SetDeadline(time.Now().Add(signInTimeout))
	if _, err := conn.Write(c.signIn(id).Frame().Append(nil)); err != nil {
		return fmt.Errorf("fast channel: sign in: %w", err)
	}
	f, err := ccm.ReadFrame(conn)
	if err != nil {
		return fmt.Errorf("fast channel: sign in: %w", err)
	}
	if f.Type != ccm.FrameSignInConfirm {
		return opencmg.Errorf(opencmg.Invalid, "fast channel: the server answered the sign-in with frame type %d", f.Type)
	}
	c.log.Info("signed in to the fast channel", "component", notifyComponent, "management_point", u.Host)
	if l.ready != nil {
		l.ready()
	}

	// One goroutine writes keep-alives beside the answers of the reader.
	var mu sync.Mutex
	write := func(f ccm.Frame) error {
		mu.Lock()
		defer mu.Unlock()
		conn.SetWriteDeadline(time.Now().Add(signInTimeout))
		_, err := conn.Write(f.Append(nil))
		return err
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(done)
	wg.Go(func() {
		ticker := time.NewTicker(c.settings().KeepAlive)
		defer ticker.Stop()
		for {
			if err := write(c.signIn(id).KeepAlive()); err != nil {
				conn.Close()
				return
			}
			select {
			case <-ticker.C:
			case <-done:
				return
			}
		}
	})
	conn.SetReadDeadline(time.Time{})
	for {
		f, err := ccm.ReadFrame(conn)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("fast channel: %w", err)
		}
		if f.Type != ccm.FrameRequest {
			continue
		}
		answer, err := c.take(f, l)
		if err != nil {
			return err
		}
		if err := write(answer.Frame()); err != nil {
			return fmt.Errorf("fast channel: answer a task: %w", err)
		}
		if l.isEnough() {
			return nil
		}
	}
}

// listenHTTP speaks the form of wire.md 9.3: a LogIn, then held requests.
func (c *Client) listenHTTP(ctx context.Context, id opencmg.ClientID, l listener) error {
	a, r, err := c.send(ctx, clientProof, func(r *route) (*call, error) {
		return &call{method: ccm.MethodCCMPost, url: r.base + ccm.PathNotification + "?RequestType=" + ccm.NotifyLogIn, contentType: "application/x-www-form-urlencoded", component: notifyComponent}, nil
	})
	if err != nil {
		return fmt.Errorf("notification: log in: %w", err)
	}
	session, err := ccm.ParseLogIn(a.body)
	if err != nil {
		return err
	}
	c.log.Info("logged in to notification over HTTP", "component", notifyComponent, "url", r.base, "request_id", a.correlationID)
	if l.ready != nil {
		l.ready()
	}
	send := []ccm.Frame{c.signIn(id).Frame()}
	for {
		// One request carries one frame. While more wait to be sent, or when
		// this is the end, the server must not hold it.
		hold := c.settings().KeepAlive
		if len(send) > 1 || l.isEnough() {
			hold = 0
		}
		began := time.Now()
		a, err := c.sendOn(ctx, r, clientProof, func(r *route) (*call, error) {
			body, err := ccm.ContinueRequest{KeepAlive: hold, Session: session, Frame: send[0], SourceID: id}.Encode(c.key())
			return &call{
				method: ccm.MethodCCMPost, url: r.base + ccm.PathNotification + "?RequestType=" + ccm.NotifyContinue, contentType: "text/plain;charset=utf-8",
				body: body, component: notifyComponent, timeout: hold + holdMargin,
			}, err
		})
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("notification: %w", err)
		}
		send = send[1:]
		for rest := a.body; len(rest) > 0; {
			var f ccm.Frame
			if f, rest, err = ccm.ParseFrame(rest); err != nil {
				return fmt.Errorf("notification: %w", err)
			}
			if f.Type != ccm.FrameRequest {
				continue
			}
			answer, err := c.take(f, l)
			if err != nil {
				return err
			}
			send = append(send, answer.Frame())
		}
		if len(send) > 0 {
			continue
		}
		if l.isEnough() {
			return nil
		}
		send = append(send, c.signIn(id).KeepAlive())
		if held := time.Since(began); held < hold*9/10 && len(a.body) == 0 {
			// The server lets go early when it stops, or when another channel
			// of this client took the place of this one, such as that of a
			// NotifyTest in another process. Both want some time.
			wait := letGoPause + rand.N(letGoPause)
			if l.eager {
				wait = eagerPause
			}
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return ctx.Err()
			}
		}
	}
}

func (c *Client) take(f ccm.Frame, l listener) (ccm.TaskResponse, error) {
	t, err := ccm.ParseTask(f)
	if err != nil {
		return ccm.TaskResponse{}, err
	}
	c.log.Info("task received", "component", notifyComponent, "pushid", t.PushID, "taskid", t.TaskID, "taskguid", t.TaskGUID, "tasktype", t.Type, "taskParam", t.Param)
	return ccm.TaskResponse{Time: c.cfg.Now(), PushID: t.PushID, TaskID: t.TaskID, ReturnCode: l.task(t)}, nil
}

// notifyTestTime bounds a whole NotifyTest.
const notifyTestTime = 60 * time.Second

// askAgain is after how long NotifyTest asks for another notification: the
// first may have gone down the channel of a Run in another process, before that
// one gave way.
const askAgain = time.Second

// NotifyTest opens a notification channel, asks the management point to notify
// this very client, and measures the round trip: from sending the request to
// receiving the task. The channel of a Run in another process gives way for
// that time.
func (c *Client) NotifyTest(ctx context.Context) (StepResult, error) {
	return c.step(StepNotification, notifyComponent, func(r *StepResult) error {
		id, err := c.registered()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, notifyTestTime)
		defer cancel()
		var mu sync.Mutex
		asked := map[string]time.Time{} // guarded by mu; when each task was asked for
		var took atomic.Int64           // nanoseconds; 0 until a task arrived
		ready, closed := make(chan struct{}, 1), make(chan error, 1)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		wg.Go(func() {
			closed <- c.listen(ctx, listener{
				ready: func() { ready <- struct{}{} },
				task: func(t ccm.Task) int {
					mu.Lock()
					defer mu.Unlock()
					if began, ours := asked[t.Param]; ours {
						took.CompareAndSwap(0, int64(max(time.Since(began), 1)))
					}
					return 0
				},
				enough: func() bool { return took.Load() != 0 },
				eager:  true,
			})
		})
		select {
		case <-ready:
		case err := <-closed:
			return err
		}
		again := time.NewTicker(askAgain)
		defer again.Stop()
		for {
			param := base64.StdEncoding.EncodeToString([]byte(ccm.NewGUID()))
			mu.Lock()
			asked[param] = time.Now()
			mu.Unlock()
			a, err := c.askForPush(ctx, id, param)
			if err != nil && took.Load() == 0 {
				return err
			}
			if err == nil {
				r.CorrelationID = a.correlationID
			}
			select {
			case <-again.C:
				continue
			case err = <-closed:
			}
			if took.Load() == 0 {
				if err == nil || ctx.Err() != nil {
					err = opencmg.Errorf(opencmg.Timeout, "no notification arrived within %s; look for this client in the management point's log BGBServer", notifyTestTime)
				}
				return err
			}
			r.Milliseconds = milliseconds(time.Duration(took.Load()))
			r.Detail = fmt.Sprintf("round trip %.1f ms", r.Milliseconds)
			return nil
		}
	})
}

// askForPush asks for a test task to this client, in a frame signed like
// those of the channel.
func (c *Client) askForPush(ctx context.Context, id opencmg.ClientID, param string) (*answer, error) {
	a, _, err := c.send(ctx, clientProof, func(r *route) (*call, error) {
		task := ccm.Task{Time: c.cfg.Now(), TaskGUID: ccm.NewGUID(), Type: ccm.TaskTest, Param: param}
		body, err := ccm.ContinueRequest{SourceID: id, Frame: task.Frame()}.Encode(c.key())
		return &call{
			method: ccm.MethodCCMPost, url: r.base + ccm.PathNotification + "?RequestType=" + ccm.NotifyTest, contentType: "text/plain;charset=utf-8",
			body: body, component: notifyComponent,
		}, err
	})
	if err != nil {
		return nil, fmt.Errorf("ask for a notification: %w", err)
	}
	return a, nil
}
