package connpoint_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/connpoint"
	"github.com/opencmg/opencmg/internal/http1"
	"github.com/opencmg/opencmg/tunnel"
)

func lines(s ...string) string { return strings.Join(s, "\r\n") + "\r\n\r\n" }

func TestExternalURLBecomesInternalURL(t *testing.T) {
	for _, tt := range []struct {
		prefix, internal, target, want string
	}{
		{"", "http://mp", "/CCM_Proxy_MutualAuth/72057594037927941/CCM_STS", "/CCM_STS"},
		{"", "http://mp", "/ccm_proxy_serverauth/72057594037927941/SMS_MP/.sms_aut?MPLIST", "/SMS_MP/.sms_aut?MPLIST"},
		{"", "http://mp/base/", "/CCM_PROXY_MUTUALAUTH/72057594037927941/a%20b", "/base/a%20b"},
		{"", "http://mp", "/CCM_Proxy_MutualAuth/72057594037927941", "/"},
		{"", "http://mp", "/CCM_Proxy_MutualAuth/72057594037927941?x=/y", "/?x=/y"},
		{"/wiki/", "http://wiki:8080/w", "/Wiki/Page?q=1", "/w/Page?q=1"},
		{"/wiki/", "http://wiki", "/wiki", "/"},
		// Not below the role: refused, never forwarded somewhere else.
		{"", "http://mp", "/CCM_Proxy_MutualAuth/720575940379279411/CCM_STS", ""},
		{"", "http://mp", "/CCM_Proxy_MutualAuth/8/CCM_STS", ""},
		{"", "http://mp", "/CCM_STS", ""},
		{"/wiki/", "http://wiki", "/wikileaks/x", ""},
		{"/wiki/", "http://wiki", "/other", ""},
	} {
		m := opencmg.URLMapping{Role: "72057594037927941", Prefix: tt.prefix, Internal: []string{tt.internal}}
		got, err := connpoint.InternalRequest(m, &tunnel.Request{Head: []byte(lines("GET "+tt.target+" HTTP/1.1", "Host: gw"))})
		if tt.want == "" {
			if err == nil {
				t.Errorf("%s: got %q, want a refusal", tt.target, got)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.target, err)
			continue
		}
		if line, _, _ := strings.Cut(got, "\r\n"); line != "GET "+tt.want+" HTTP/1.1" {
			t.Errorf("%s: got %q, want %q", tt.target, line, tt.want)
		}
	}
}

func TestRequestFields(t *testing.T) {
	head := lines("CCM_POST /CCM_Proxy_MutualAuth/8/ccm_system/request HTTP/1.1",
		"Host: gw.example",
		"CCMClientID: GUID:1", "Range: bytes=0-9", "Authorization: Bearer x", "CCMClientTimestampsSignature: s",
		// Spoofed, or meant for the hop before.
		"OpenCMG-Identity: auth=pki&client=GUID:2", "opencmg-anything: 1", "OPENCMG_IDENTITY: auth=pki", "X_Forwarded_For: 10.0.0.1", "X-CORRELATION-ID: mine", "X-Forwarded-For: 10.0.0.1", "Forwarded: for=10.0.0.1",
		"Connection: keep-alive, X-Hop", "X-Hop: 1", "Keep-Alive: 5", "Proxy-Authorization: basic", "Expect: 100-continue", "Content-Length: 5")
	req := &tunnel.Request{Head: []byte(head), BodyLength: 5, Identity: "auth=pki&thumbprint=ab", CorrelationID: "c0ffee"}
	m := opencmg.URLMapping{Role: "8", Internal: []string{"http://mp.corp:8080"}, SiteRole: true}
	common := []string{"CCM_POST /ccm_system/request HTTP/1.1", "Host: mp.corp:8080",
		"CCMClientID: GUID:1", "Range: bytes=0-9", "Authorization: Bearer x", "CCMClientTimestampsSignature: s"}
	got, err := connpoint.InternalRequest(m, req)
	if err != nil {
		t.Fatal(err)
	}
	want := lines(append(common, "OpenCMG-Identity: auth=pki&thumbprint=ab", "X-Correlation-ID: c0ffee", "Content-Length: 5")...)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("role of our kind (-want +got):\n%s", d)
	}
	m = opencmg.URLMapping{Role: "8", Internal: []string{"http://mp.corp:8080"}, HostHeader: "inner.example"}
	if got, err = connpoint.InternalRequest(m, req); err != nil {
		t.Fatal(err)
	}
	want = lines(append(append([]string{common[0], "Host: inner.example"}, common[2:]...), "X-Correlation-ID: c0ffee", "Content-Length: 5")...)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("foreign role (-want +got):\n%s", d)
	}
	req.BodyLength = -1
	if got, _ = connpoint.InternalRequest(m, req); !strings.Contains(got, "\r\nTransfer-Encoding: chunked\r\n") || strings.Contains(got, "Content-Length") {
		t.Errorf("body of unknown length: %q", got)
	}
}

func TestResponseFieldsAndReasons(t *testing.T) {
	got, err := connpoint.PublicResponse(lines("HTTP/1.1 200 OK", "Content-Length: 3", "Connection: X-Inner, close", "X-Inner: 1", "Transfer-Encoding-X: y", "OpenCMG-Secret: 1", "X-Correlation-ID: theirs", "Keep-Alive: 1", "ETag: e"), "GET")
	if want := lines("HTTP/1.1 200 OK", "Content-Length: 3", "Transfer-Encoding-X: y", "ETag: e"); err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	for in, want := range map[string]string{
		"403 Client certificate required": "403 CMGConnector_Clientcertificaterequired",
		"401 Unauthorized":                "401 CMGConnector_Unauthorized",
		"500 Internal Server Error":       "500 CMGConnector_InternalServerError",
		"404 ":                            "404 CMGConnector_NotFound",
		"599 \xff\xfe":                    "599 CMGConnector_599",
		"302 Found":                       "302 Found",
		"503 " + strings.Repeat("a", 999): "503 CMGConnector_" + strings.Repeat("a", 100),
	} {
		got, err := connpoint.PublicResponse(lines("HTTP/1.1 "+in, "Content-Length: 0"), "GET")
		if line, _, _ := strings.Cut(got, "\r\n"); err != nil || line != "HTTP/1.1 "+want {
			t.Errorf("%s: got %q, %v", in, line, err)
		}
	}
}

func TestFrameChunk(t *testing.T) {
	for _, n := range []int{1, 9, 15, 16, 17, 255, 4096, 32 << 10} {
		body := strings.Repeat("x", n)
		if got, want := connpoint.FrameChunk(body), fmt.Sprintf("%x\r\n%s\r\n", n, body); got != want {
			t.Errorf("%d bytes: wrong frame", n)
		}
		if got, want := connpoint.FrameChunk(body), string(http1.AppendChunk(nil, []byte(body))); got != want {
			t.Errorf("%d bytes: differs from http1", n)
		}
	}
}

// Whatever a target looks like, the internal request is one well-formed head
// below the internal root, or there is none.
func FuzzInternalTarget(f *testing.F) {
	for _, s := range []string{"/CCM_Proxy_MutualAuth/8/CCM_STS", "/ccm_proxy_serverauth/8", "/CCM_Proxy_MutualAuth/8?x", "/CCM_Proxy_MutualAuth/8/../9", "*", "http://x/CCM_Proxy_MutualAuth/8/"} {
		f.Add(s)
	}
	m := opencmg.URLMapping{Role: "8", Internal: []string{"http://mp/base"}, SiteRole: true}
	f.Fuzz(func(t *testing.T, target string) {
		got, err := connpoint.InternalRequest(m, &tunnel.Request{Head: []byte(lines("GET "+target+" HTTP/1.1", "Host: gw")), Identity: "auth=pki"})
		if err != nil {
			return
		}
		var head http1.RequestHead
		if err := head.Parse([]byte(got)); err != nil {
			t.Fatalf("%q became %q: %v", target, got, err)
		}
		if !strings.HasPrefix(string(head.Target), "/base/") || string(head.Host) != "mp" || string(head.Get("OpenCMG-Identity")) != "auth=pki" {
			t.Fatalf("%q became %q", target, got)
		}
	})
}
