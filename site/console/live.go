package console

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

// Fresh pages. A browser that shows a page with live parts opens a stream of
// server-sent events for that page. Whenever something changed at the site, the
// page is loaded and rendered again here, and the parts that came out different
// are sent.

const (
	// maxStreams bounds the pages that are kept fresh at the same time.
	maxStreams = 256
	// settle is how long changes are collected before a page is rendered:
	// several tend to come together. It is also the pause between two renderings,
	// in proportion to what one cost.
	settle = 150 * time.Millisecond
	// atLeast is how often a page is rendered without a change that was told:
	// what depends on the clock alone changes, too. Its comment line tells a
	// dead connection from a quiet one.
	atLeast = 15 * time.Second
	// soon is atLeast for a page that waits for clients.
	soon = time.Second
	// restFactor bounds what one page costs: for each rendering the stream rests
	// this many times as long.
	restFactor = 4
)

// A stream is one live stream.
type stream struct {
	session *Session
	blocks  []block // of the last rendering
	err     error   // why there are none
	soon    bool    // the page shows what changes without being told; see Visit.soon
}

type streamKey struct{}

func streamOf(ctx context.Context) *stream {
	s, _ := ctx.Value(streamKey{}).(*stream)
	return s
}

// soon says that the page shows what clients are about to do. The database does
// not tell of that, because they may be many: the page is rendered every second
// for as long as it says so.
func (v *Visit) soon() {
	if v.live != nil {
		v.live.soon = true
	}
}

// discard is where the rendering of a stream would write a page.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// serveLive keeps the page in the query parameter page fresh.
func (c *Console) serveLive(w http.ResponseWriter, v *Visit) error {
	page, err := url.Parse(v.Query("page"))
	if err != nil || page.IsAbs() || page.Host != "" || !strings.HasPrefix(page.Path, Path) {
		return opencmg.Errorf(opencmg.Invalid, "page: must be the address of a page of this console")
	}
	select {
	case c.streams <- struct{}{}:
		defer func() { <-c.streams }()
	default:
		return opencmg.Errorf(opencmg.Unavailable, "%d pages are kept fresh already: close some", maxStreams)
	}
	ctx, cancel := context.WithDeadline(v.Context(), v.Ends)
	defer cancel()
	rc := http.NewResponseController(w)
	// The server's limits are for requests that end.
	rc.SetReadDeadline(time.Time{})
	w.Header().Set("Content-Type", "text/event-stream")
	cookie := sessionCookieOf(v.Request)
	changes := c.cfg.Changes(ctx)
	known := map[string]string{}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		// The account may have gone, or got another role.
		session, err := c.cfg.Session(ctx, cookie)
		if err != nil {
			c.event(rc, w, "ended", nil)
			return nil
		}
		began := c.cfg.Now()
		s := &stream{session: session}
		r := (&http.Request{Method: http.MethodGet, URL: page, Header: v.Request.Header, TLS: v.Request.TLS, RemoteAddr: v.Request.RemoteAddr, Host: v.Request.Host}).
			WithContext(context.WithValue(ctx, streamKey{}, s))
		c.views.ServeHTTP(discard{http.Header{}}, r)
		switch {
		case ctx.Err() != nil:
			return nil
		case s.err != nil:
			err = c.event(rc, w, "problem", problemOf(s.err).Text)
		default:
			changed := map[string]string{}
			for _, b := range s.blocks {
				if was, ok := known[b.id]; !ok || was != b.html {
					changed[b.id] = b.html
				}
			}
			for id, html := range changed {
				known[id] = html
			}
			if len(changed) > 0 {
				err = c.event(rc, w, "parts", changed)
			} else {
				err = c.event(rc, w, "", nil)
			}
		}
		if err != nil {
			return nil // the browser went away
		}
		rest := max(settle, restFactor*c.cfg.Now().Sub(began))
		again := atLeast
		if s.soon {
			again = max(soon, rest)
		}
		timer.Reset(again)
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
			timer.Reset(rest)
			select {
			case <-ctx.Done():
				return nil
			case <-timer.C:
			}
			select { // what came meanwhile is in the next rendering
			case <-changes:
			default:
			}
		case <-timer.C:
		}
	}
}

// event writes one event of a stream; a comment when it has no name.
func (c *Console) event(rc *http.ResponseController, w http.ResponseWriter, name string, data any) error {
	var b bytes.Buffer
	if name == "" {
		b.WriteString(": nothing new\n\n")
	} else {
		b.WriteString("event: " + name + "\ndata: ")
		// Encode writes one line; its line break is the first of the two that end
		// an event.
		if err := json.NewEncoder(&b).Encode(data); err != nil {
			return err
		}
		b.WriteByte('\n')
	}
	rc.SetWriteDeadline(time.Now().Add(30 * time.Second))
	if _, err := w.Write(b.Bytes()); err != nil {
		return err
	}
	return rc.Flush()
}
