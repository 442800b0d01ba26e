package gateway_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A rawHTTP2 is one HTTP/2 connection that sends what a test wants.
type rawHTTP2 struct {
	t testing.TB
	*http2.Framer
	conn *tls.Conn
	next uint32
}

func (in *testInstance) dialHTTP2() *rawHTTP2 {
	in.t.Helper()
	cfg := clientTLS()
	cfg.NextProtos = []string{"h2"}
	c := in.dial(cfg)
	c.send(http2.ClientPreface)
	f := &rawHTTP2{t: in.t, Framer: http2.NewFramer(c.Conn, c.Conn), conn: c.Conn, next: 1}
	if err := f.WriteSettings(); err != nil {
		in.t.Fatal(err)
	}
	return f
}

// open sends a request without a body; fields come in pairs and may replace
// the pseudo-header fields.
func (f *rawHTTP2) open(fields ...string) (stream uint32, err error) {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	stream, f.next = f.next, f.next+2
	return stream, f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: b.Bytes(), EndStream: true, EndHeaders: true})
}

// TestHTTP2ResetFlood resets streams while their requests are refused: a reset
// that comes when the handler has just ended must find nothing to act on.
func TestHTTP2ResetFlood(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1), quiet: true})
	for range 20 {
		f := in.dialHTTP2()
		go io.Copy(io.Discard, f.conn)
		for range 200 {
			id, err := f.open(":method", "GET", ":scheme", "https", ":authority", testName, ":path", "/nowhere")
			if err == nil {
				err = f.WriteRSTStream(id, http2.ErrCodeCancel)
			}
			if err != nil {
				break // the server may end a connection that behaves like this
			}
		}
		f.conn.Close()
	}
	if res := in.dial(clientTLS()).send("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n").answer("GET"); res.StatusCode != http.StatusNotFound {
		t.Errorf("after the flood: %s", res.Status)
	}
}

// TestHTTP2SameVerdicts asks over HTTP/2 what HTTP/1.1 refuses in ways of its
// own.
func TestHTTP2SameVerdicts(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1), quiet: true})
	f := in.dialHTTP2()
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	const path = "/CCM_Proxy_MutualAuth/ServiceMetadata"
	for _, tt := range []struct {
		name, status string
		fields       []string
	}{
		{"fine", "200", []string{":method", "GET", ":authority", testName, ":path", path}},
		{"same host", "200", []string{":method", "GET", ":authority", testName, ":path", path, "host", testName}},
		{"only host", "200", []string{":method", "GET", ":path", path, "host", testName}},
		{"another host", "400", []string{":method", "GET", ":authority", testName, ":path", path, "host", "evil.example"}},
		{"two hosts", "400", []string{":method", "GET", ":authority", testName, ":path", path, "host", testName, "host", "evil.example"}},
		{"options of everything", "400", []string{":method", "OPTIONS", ":authority", testName, ":path", "*"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id, err := f.open(append([]string{":scheme", "https"}, tt.fields...)...)
			if err != nil {
				t.Fatal(err)
			}
			for {
				fr, err := f.ReadFrame()
				if err != nil {
					t.Fatal(err)
				}
				h, ok := fr.(*http2.MetaHeadersFrame)
				if !ok || h.StreamID != id {
					continue
				}
				fields := map[string]string{}
				for _, hf := range h.Fields {
					fields[hf.Name] = hf.Value
				}
				if fields[":status"] != tt.status || len(fields["x-correlation-id"]) != 32 {
					t.Errorf("got %v, want status %s", fields, tt.status)
				}
				return
			}
		})
	}
}

// TestHTTP2Idle ends a connection without streams after the idle time, and not
// one with a held request.
func TestHTTP2Idle(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1), quiet: true})
	calls, release := make(chan struct{}), make(chan struct{})
	in.connect("id-1", func(c *call) {
		calls <- struct{}{}
		<-release
		c.answer("HTTP/1.1 200 OK", "hello")
	})
	idle, held := in.dialHTTP2(), in.dialHTTP2()
	go io.Copy(io.Discard, idle.conn)
	if _, err := held.open(":method", "GET", ":scheme", "https", ":authority", testName, ":path", "/wiki/held"); err != nil {
		t.Fatal(err)
	}
	<-calls
	sweepUntil := func(n int64) {
		eventually(t, "connections are closed", func() bool {
			in.s.Sweep(10 * time.Minute)
			return in.s.Connections() == n
		})
	}
	sweepUntil(1)
	in.s.Sweep(10 * time.Minute)
	close(release)
	for answered := false; !answered; {
		fr, err := held.ReadFrame()
		if err != nil {
			t.Fatalf("the held request got no answer: %v", err)
		}
		_, answered = fr.(*http2.DataFrame)
	}
	go io.Copy(io.Discard, held.conn)
	sweepUntil(0)
}
