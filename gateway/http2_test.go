package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/tunnel"
)

func (in *testInstance) http2() *http.Client {
	cfg := clientTLS()
	tr := &http.Transport{
		TLSClientConfig: cfg, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", in.addr)
		},
	}
	in.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// TestHTTP2 asks over HTTP/2 what the other tests ask over HTTP/1.1.
func TestHTTP2(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1)})
	big := strings.Repeat("0123456789abcdef", 1<<16)
	heads := make(chan string, 16)
	in.connect("id-1", func(c *call) {
		switch string(c.head.Target) {
		case "/wiki/head":
			heads <- string(c.req.Head)
			c.answer("HTTP/1.1 200 OK\nContent-Length: 77\nConnection: X-Private\nX-Private: 1", "")
		case "/wiki/big":
			c.start("HTTP/1.1 200 OK")
			io.WriteString(c.Stream, big)
			c.WriteTrailers([]byte("X-T: v\r\n"))
		case "/wiki/short":
			c.start("HTTP/1.1 200 OK\nContent-Length: 10")
			io.WriteString(c.Stream, "hello")
			c.CloseWrite()
		case "/wiki/cut":
			c.start("HTTP/1.1 200 OK")
			io.WriteString(c.Stream, "hello")
			c.Reset(tunnel.CodeInternal)
		default:
			body := c.body()
			c.answer("HTTP/1.1 200 OK\nX-Trailers: "+strings.TrimSpace(string(c.Trailers())), fmt.Sprintf("%d %d", len(body), c.req.BodyLength))
		}
	})
	h := in.http2()
	do := func(method, path string, body io.Reader, field ...string) (*http.Response, string, error) {
		t.Helper()
		req, err := http.NewRequest(method, "https://"+testName+path, body)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(field); i += 2 {
			req.Header.Set(field[i], field[i+1])
		}
		res, err := h.Do(req)
		if err != nil {
			return nil, "", err
		}
		defer res.Body.Close()
		if res.ProtoMajor != 2 {
			t.Fatalf("spoke %s", res.Proto)
		}
		if guess := res.Header.Values("Content-Type"); strings.HasPrefix(path, "/wiki/") && len(guess) > 0 {
			t.Errorf("%s: content type %q, which the role did not send", path, guess)
		}
		if id := res.Header.Values(opencmg.HeaderCorrelationID); len(id) != 1 || len(id[0]) != 32 {
			t.Errorf("%s: correlation ID %q", path, id)
		}
		b, err := io.ReadAll(res.Body)
		return res, string(b), err
	}
	for _, tt := range []struct {
		method, path string
		body         io.Reader
		status       int
		want         string
	}{
		{"GET", "/wiki/x", nil, 200, "0 0"},
		{"POST", "/wiki/x", strings.NewReader("hello"), 200, "5 5"},
		{"POST", "/wiki/x", strings.NewReader(big), 200, fmt.Sprintf("%d %d", len(big), len(big))},
		{"POST", "/wiki/x", io.MultiReader(strings.NewReader(big)), 200, fmt.Sprintf("%d -1", len(big))},
		{"POST", "/wiki/small", strings.NewReader(big), 413, ""},
		{"POST", "/wiki/small", io.MultiReader(strings.NewReader(big)), 413, ""},
		{"GET", "/nowhere", nil, 404, ""},
		{"DELETE", "/wiki/x", nil, 405, ""},
		{"GET", "/wiki/a%2fb", nil, 400, ""},
		{"GET", "/wiki//x", nil, 400, ""},
		{"GET", mutual + "/SMS_MP/x", nil, 401, ""},
		{"GET", server + "/SMS_MP/x", nil, 401, ""},
		{"GET", "/CCM_Proxy_MutualAuth/ServiceMetadata", nil, 200, `{"ServiceName":"gw.example","ConfigurationVersion":1}`},
	} {
		res, got, err := do(tt.method, tt.path, tt.body)
		if err != nil || res.StatusCode != tt.status || got != tt.want {
			t.Errorf("%s %s: got %v %q %v, want %d %q", tt.method, tt.path, res, got, err, tt.status, tt.want)
		}
	}
	res, _, err := do("HEAD", "/wiki/head", nil, "OpenCMG-Identity", "forged", "X-Forwarded-For", "1.2.3.4", "Range", "bytes=0-1")
	if err != nil || res.ContentLength != 77 || res.Header.Get("X-Private") != "" {
		t.Errorf("HEAD: got %v, %v", res, err)
	}
	if head := <-heads; strings.Contains(head, "forged") || strings.Contains(head, "1.2.3.4") || !strings.Contains(head, "Range: bytes=0-1\r\n") || !strings.HasPrefix(head, "HEAD /wiki/head HTTP/1.1\r\nHost: "+testName+"\r\n") {
		t.Errorf("the connection point got %q", head)
	}
	if res, got, err := do("GET", "/wiki/big", nil); err != nil || got != big || res.Trailer.Get("X-T") != "v" {
		t.Errorf("big: %d bytes, %v, trailers %v", len(got), err, res.Trailer)
	}
	for _, path := range []string{"/wiki/short", "/wiki/cut"} {
		if res, got, err := do("GET", path, nil); err == nil && res.StatusCode == 200 {
			t.Errorf("%s: an incomplete answer looks complete: %q", path, got)
		}
	}
	if _, _, err := do("GET", "/wiki/x", nil, "X-Long", strings.Repeat("x", 40<<10)); err != nil {
		t.Errorf("long head: %v", err)
	} else if res, _, _ := do("GET", "/wiki/x", nil, "X-Long", strings.Repeat("x", 40<<10)); res.StatusCode != 431 {
		t.Errorf("long head: %s", res.Status)
	}
}

// TestHTTP2ClientGone: a cancelled request is cancelled for the role.
func TestHTTP2ClientGone(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1)})
	arrived, gone := make(chan struct{}), make(chan struct{})
	in.connect("id-1", func(c *call) {
		close(arrived)
		<-lostForever(c)
		close(gone)
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	req, _ := http.NewRequestWithContext(ctx, "GET", "https://"+testName+"/wiki/held", nil)
	if _, err := in.http2().Do(req); err == nil {
		t.Error("got an answer")
	}
	<-gone
	eventually(t, "nothing is in flight", func() bool { return in.s.InFlight() == 0 })
}

// TestHTTP2Smuggling sends what only a hand-made HTTP/2 client can: fields that
// would mean something else in HTTP/1.1. None reaches a role.
func TestHTTP2Smuggling(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1)})
	in.connect("id-1", func(c *call) {
		t.Errorf("a request got through: %q", c.req.Head)
		c.answer("HTTP/1.1 200 OK", "")
	})
	for name, fields := range map[string][][2]string{
		"line feed in value":  {{"x-a", "b\r\nContent-Length: 5"}},
		"line feed in name":   {{"x-a\r\nb", "c"}},
		"colon in name":       {{"x-a: b", "c"}},
		"transfer encoding":   {{"transfer-encoding", "chunked"}},
		"connection":          {{"connection", "close"}},
		"blank in the path":   {{":path", "/wiki/x HTTP/1.1\r\nX-A: b"}},
		"line feed in method": {{":method", "GET /wiki/x HTTP/1.1\r\nX-A: b\r\n\r\nGET"}},
		"line feed in host":   {{":authority", "a\r\nX-B: c"}},
		"two content lengths": {{"content-length", "0"}, {"content-length", "5"}},
		"capitals":            {{"X-Capital", "b"}},
		"absolute elsewhere":  {{":path", "https://other.example/wiki/x"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := clientTLS()
			cfg.NextProtos = []string{"h2"}
			c := in.dial(cfg)
			io.WriteString(c.Conn, http2.ClientPreface)
			fr := http2.NewFramer(c.Conn, c.Conn)
			fr.WriteSettings()
			var block bytes.Buffer
			enc := hpack.NewEncoder(&block)
			pseudo := [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", testName}, {":path", "/wiki/x"}}
			for _, p := range pseudo {
				for _, f := range fields {
					if f[0] == p[0] {
						p[1] = f[1]
					}
				}
				enc.WriteField(hpack.HeaderField{Name: p[0], Value: p[1]})
			}
			for _, f := range fields {
				if f[0][0] != ':' {
					enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
				}
			}
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
			for {
				f, err := fr.ReadFrame()
				if err != nil {
					return // the connection was refused
				}
				switch f := f.(type) {
				case *http2.RSTStreamFrame:
					return
				case *http2.HeadersFrame:
					fields, _ := hpack.NewDecoder(4096, nil).DecodeFull(f.HeaderBlockFragment())
					if len(fields) == 0 || fields[0].Value != "400" {
						t.Errorf("got %v, want 400 or a reset", fields)
					}
					return
				}
			}
		})
	}
}
