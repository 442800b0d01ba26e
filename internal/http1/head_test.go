package http1_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg/internal/http1"
)

const crlf = "\r\n"

func TestRequestHead(t *testing.T) {
	var h http1.RequestHead
	head := "CCM_POST /a?b HTTP/1.1\r\nHost: gw.example.com:443\r\nContent-Length: 42\r\nConnection: close, X-Mine\r\nExpect: 100-Continue\r\nCCMClientID:  GUID:1 \t\r\n\r\n"
	if err := h.Parse([]byte(head)); err != nil {
		t.Fatal(err)
	}
	if string(h.Method) != "CCM_POST" || string(h.Target) != "/a?b" || string(h.Host) != "gw.example.com:443" ||
		h.Minor != 1 || h.ContentLength != 42 || h.Chunked || !h.Close || !h.Expect100 || h.Upgrade {
		t.Errorf("got %+v", h)
	}
	if got := string(h.Get("ccmclientid")); got != "GUID:1" {
		t.Errorf("Get: got %q", got)
	}
	if h.Get("absent") != nil {
		t.Error("Get of an absent field is not nil")
	}
	if !h.Nominated([]byte("x-mine")) || h.Nominated([]byte("CCMClientID")) {
		t.Error("Nominated does not follow the Connection field")
	}
	if err := h.Parse([]byte("GET / HTTP/1.0\r\n\r\n")); err != nil || !h.Close || h.ContentLength != -1 || h.Host != nil {
		t.Errorf("HTTP/1.0: %v, %+v", err, h)
	}
}

func TestRequestHeadRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		head   string
		status int
	}{
		"bare LF":                   {"GET / HTTP/1.1\nHost: a\r\n\r\n", 400},
		"bare LF in fields":         {"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400},
		"bare CR in value":          {"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400},
		"NUL in value":              {"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", 400},
		"folded line":               {"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400},
		"blank before colon":        {"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400},
		"empty name":                {"GET / HTTP/1.1\r\n: a\r\n\r\n", 400},
		"no host":                   {"GET / HTTP/1.1\r\n\r\n", 400},
		"two hosts":                 {"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", 400},
		"odd host":                  {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
		"no method":                 {" / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		"method no token":           {"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		"no target":                 {"GET  HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		"two blanks":                {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		"tab":                       {"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		"non-ASCII target":          {"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		"HTTP/0.9":                  {"GET /\r\n\r\n", 400},
		"HTTP/2":                    {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505},
		"HTTP/1.2":                  {"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505},
		"lower-case http":           {"GET / http/1.1\r\nHost: a\r\n\r\n", 400},
		"length and chunked":        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		"two lengths":               {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400},
		"length list":               {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", 400},
		"signed length":             {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400},
		"negative length":           {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400},
		"hex length":                {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n", 400},
		"huge length":               {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999999\r\n\r\n", 400},
		"empty length":              {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400},
		"gzip, chunked":             {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
		"chunked twice":             {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 501},
		"identity":                  {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", 501},
		"xchunked":                  {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 501},
		"chunked in 1.0":            {"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		"other expectation":         {"GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417},
		"cut off":                   {"GET / HTTP/1.1\r\nHost: a\r\n", 400},
		"more after the head":       {"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", 400},
		"too many fields":           {"GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("a: b\r\n", http1.MaxFields) + crlf, 431},
		"value after CR without LF": {"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", 400},
	} {
		var h http1.RequestHead
		err := h.Parse([]byte(tt.head))
		if pe, ok := errors.AsType[*http1.ParseError](err); !ok || pe.Status != tt.status {
			t.Errorf("%s: got %v, want status %d", name, err, tt.status)
		}
	}
}

func TestResponseHead(t *testing.T) {
	for _, tt := range []struct {
		head, method string
		want         http1.ResponseHead
	}{
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "GET", http1.ResponseHead{Minor: 1, Status: 200, Reason: []byte("OK"), ContentLength: 3}},
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "HEAD", http1.ResponseHead{Minor: 1, Status: 200, Reason: []byte("OK"), ContentLength: 3, NoBody: true}},
		{"HTTP/1.1 204\r\n\r\n", "GET", http1.ResponseHead{Minor: 1, Status: 204, ContentLength: -1, NoBody: true}},
		{"HTTP/1.1 200 \r\n\r\n", "GET", http1.ResponseHead{Minor: 1, Status: 200, Reason: []byte{}, ContentLength: -1, Close: true}},
		{"HTTP/1.0 403 Client certificate required\r\nContent-Length: 0\r\n\r\n", "GET", http1.ResponseHead{Status: 403, Reason: []byte("Client certificate required"), Close: true}},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", http1.ResponseHead{Minor: 1, Status: 200, Reason: []byte("OK"), ContentLength: -1, Chunked: true}},
	} {
		var got http1.ResponseHead
		if err := got.Parse([]byte(tt.head), []byte(tt.method)); err != nil {
			t.Errorf("%q: %v", tt.head, err)
			continue
		}
		got.Fields = nil
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%q: (-want +got)\n%s", tt.head, d)
		}
	}
	for _, head := range []string{
		"HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 2x0 OK\r\n\r\n", "HTTP/1.1 099 OK\r\n\r\n", "HTTP/1.1 600 OK\r\n\r\n",
		"HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1 200 O\x01K\r\n\r\n", "HTP/1.1 200 OK\r\n\r\n", "\r\n\r\n", "",
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
	} {
		var h http1.ResponseHead
		if err := h.Parse([]byte(head), []byte("GET")); err == nil {
			t.Errorf("%q was accepted", head)
		}
	}
}

func TestIsHopByHop(t *testing.T) {
	for _, n := range []string{"Connection", "keep-alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Connection", "Proxy-Authorization", "Proxy-Authenticate"} {
		if !http1.IsHopByHop([]byte(n)) {
			t.Errorf("%s is hop-by-hop", n)
		}
	}
	for _, n := range []string{"Range", "CCMClientID", "Authorization", "Host", "Content-Length"} {
		if http1.IsHopByHop([]byte(n)) {
			t.Errorf("%s is end-to-end", n)
		}
	}
}

func TestCanonicalTarget(t *testing.T) {
	for _, tt := range []struct{ target, path, query, host string }{
		{"/", "/", "", ""},
		{"/a/B?q=%2f..", "/a/B", "q=%2f..", ""},
		{"/a/", "/a/", "", ""},
		{"/%41%62%7e", "/Ab~", "", ""},
		{"/a%20b%c3%A4", "/a%20b%C3%A4", "", ""},
		{"/SMS_MP/.sms_pol?{GUID}.SHA256:00", "/SMS_MP/.sms_pol", "{GUID}.SHA256:00", ""},
		{"/a..b/..a/.sms_aut", "/a..b/..a/.sms_aut", "", ""},
		{"/%20a/%3b/%ef%bc%8ea/%e0%a4%84", "/%20a/%3B/%EF%BC%8Ea/%E0%A4%84", "", ""},
		{"https://gw.example.com:443/x?y", "/x", "y", "gw.example.com:443"},
		{"http://gw.example.com", "/", "", "gw.example.com"},
	} {
		path, query, host, err := http1.CanonicalTarget(nil, []byte(tt.target))
		if err != nil || string(path) != tt.path || string(query) != tt.query || string(host) != tt.host {
			t.Errorf("%s: got %q %q %q %v", tt.target, path, query, host, err)
		}
	}
	for _, target := range []string{
		"", "*", "a", "gw:443", "/a//b", "//a", "/./a", "/a/..", "/a/../b", "/%2e%2e/b", "/a/%2E", "/a%2fb", "/a%5cb", `/a\b`,
		"/a%00", "/a%0d%0ab", "/a%25", "/a%", "/a%2", "/a%zz", "/a#b", "/a?b#c", "/a b", "/a\x7f", "ftp://a/b", "https:///a", "https://a@b/c",
		"/a/...", "/a/..;/b", "/a/.;x=y/b", "/a/%2e%2e%3bx/b", "/a/..%20/b", "/a/.%20./b", "/a/%ef%bc%8e%ef%bc%8e/b", "/a/.%EF%BC%8e",
		"/a/%c0%ae%c0%ae/b", "/a%c1%9cb", "/a/%e0%80%ae/b", "/a/%f0%80%80%ae/b",
	} {
		if path, _, _, err := http1.CanonicalTarget(nil, []byte(target)); err == nil {
			t.Errorf("%q was accepted as %q", target, path)
		}
	}
}

func FuzzCanonicalTarget(f *testing.F) {
	for _, s := range []string{"/", "/CCM_Proxy_MutualAuth/1/ccm_system/request", "/a%2fb", "/%2e%2e/", "https://a/b?c", "/{x}.SHA256:0?%7B"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, target []byte) {
		path, query, _, err := http1.CanonicalTarget(nil, target)
		if err != nil {
			return
		}
		if path[0] != '/' || bytes.Contains(path, []byte("//")) || bytes.ContainsAny(path, "\\?# \r\n\x00") {
			t.Fatalf("%q became %q", target, path)
		}
		for _, s := range bytes.Split(path, []byte("/")) {
			if string(s) == "." || string(s) == ".." {
				t.Fatalf("%q became %q", target, path)
			}
		}
		// Canonical means that doing it again changes nothing.
		again, _, _, err := http1.CanonicalTarget(nil, path)
		if err != nil || !bytes.Equal(again, path) {
			t.Fatalf("%q became %q, and then %q (%v)", target, path, again, err)
		}
		if bytes.ContainsAny(query, "#\r\n ") {
			return // the head parser refuses blanks and control bytes before this
		}
	})
}

func FuzzRequestHead(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Add([]byte("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: a, b\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var h http1.RequestHead
		if h.Parse(b) != nil {
			return
		}
		if h.Chunked && h.ContentLength >= 0 {
			t.Fatal("two framings")
		}
		// Written again from its parts, the head means the same.
		var w bytes.Buffer
		w.WriteString(string(h.Method) + " " + string(h.Target) + " HTTP/1." + string(rune('0'+h.Minor)) + crlf)
		for _, f := range h.Fields {
			w.WriteString(string(f.Name) + ": " + string(f.Value) + crlf)
		}
		w.WriteString(crlf)
		var again http1.RequestHead
		if err := again.Parse(w.Bytes()); err != nil {
			t.Fatalf("%q: %v", w.Bytes(), err)
		}
		if again.ContentLength != h.ContentLength || again.Chunked != h.Chunked || again.Close != h.Close {
			t.Fatalf("%q reads differently the second time", b)
		}
	})
}
