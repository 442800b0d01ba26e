package http1_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/opencmg/opencmg/internal/http1"
)

func TestReaderKeepsMessagesApart(t *testing.T) {
	wire := "\r\nPOST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloPOST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" +
		"3;x=y\r\nabc\r\n0A\r\n0123456789\r\n0\r\nDigest: x\r\n\r\nGET /c HTTP/1.1\r\nHost: a\r\n\r\n"
	for name, src := range map[string]io.Reader{
		"at once":      strings.NewReader(wire),
		"byte by byte": iotest.OneByteReader(strings.NewReader(wire)),
		"data and EOF": iotest.DataErrReader(strings.NewReader(wire)),
	} {
		r := http1.NewReader(src)
		for _, want := range []struct{ target, body, trailers string }{
			{"/a", "hello", ""}, {"/b", "abc0123456789", "Digest: x\r\n"}, {"/c", "", ""},
		} {
			begun := 0
			head, err := r.ReadHead(1<<10, func() { begun++ })
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if begun != 1 {
				t.Errorf("%s: begun was called %d times", name, begun)
			}
			var h http1.RequestHead
			if err := h.Parse(head); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			target := string(h.Target)
			var b http1.Body
			b.Reset(r, max(h.ContentLength, 0), h.Chunked)
			body, err := io.ReadAll(&b)
			if err != nil || target != want.target || string(body) != want.body || string(b.Trailers()) != want.trailers || !b.Done() {
				t.Errorf("%s: got %q %q %q %v, want %+v", name, target, body, b.Trailers(), err, want)
			}
			r.Release()
		}
		if _, err := r.ReadHead(1<<10, nil); err != io.EOF {
			t.Errorf("%s: at the end: %v", name, err)
		}
	}
}

func TestReaderLimits(t *testing.T) {
	long := "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 40<<10) + "\r\n\r\n"
	if _, err := http1.NewReader(strings.NewReader(long)).ReadHead(32<<10, nil); !errors.Is(err, http1.ErrHeadTooLarge) {
		t.Errorf("head above the limit: %v", err)
	}
	head, err := http1.NewReader(strings.NewReader(long)).ReadHead(48<<10, nil)
	if err != nil || len(head) != len(long) {
		t.Errorf("head below the limit: %d bytes, %v", len(head), err)
	}
	endless := strings.Repeat("x", 200<<10)
	if _, err := http1.NewReader(strings.NewReader(endless)).ReadHead(1<<20, nil); !errors.Is(err, http1.ErrHeadTooLarge) {
		t.Errorf("endless head: %v", err)
	}
	if _, err := http1.NewReader(strings.NewReader("GET / HT")).ReadHead(1<<10, nil); err != io.ErrUnexpectedEOF {
		t.Errorf("cut-off head: %v", err)
	}
	if _, err := http1.NewReader(strings.NewReader("\r\n\r\n\r\n\r\n")).ReadHead(1<<10, nil); err == nil {
		t.Error("many empty lines were accepted")
	}
}

func TestBodyRefuses(t *testing.T) {
	for name, wire := range map[string]string{
		"no size":            "\r\nabc",
		"negative size":      "-1\r\n",
		"blank before size":  " 1\r\na\r\n0\r\n\r\n",
		"0x":                 "0x1\r\na\r\n0\r\n\r\n",
		"size too large":     "fffffffffffffffff\r\n",
		"bare LF":            "1\na\r\n0\r\n\r\n",
		"chunk too long":     "1\r\nab\r\n0\r\n\r\n",
		"chunk cut off":      "5\r\nab",
		"no last chunk":      "1\r\na\r\n",
		"no final line":      "0\r\n",
		"trailer no token":   "0\r\na b: c\r\n\r\n",
		"trailer framing":    "0\r\nContent-Length: 1\r\n\r\n",
		"trailer coding":     "0\r\nTransfer-Encoding: chunked\r\n\r\n",
		"trailer host":       "0\r\nHost: b\r\n\r\n",
		"trailers too large": "0\r\n" + strings.Repeat("a: "+strings.Repeat("x", 1000)+"\r\n", 10) + "\r\n",
		"long size line":     "1;" + strings.Repeat("x", 300) + "\r\na\r\n0\r\n\r\n",
		"control in ext":     "1;\x01\r\na\r\n0\r\n\r\n",
	} {
		var b http1.Body
		b.Reset(http1.NewReader(strings.NewReader(wire)), -1, true)
		if got, err := io.ReadAll(&b); err == nil {
			t.Errorf("%s was read as %q", name, got)
		} else if _, again := b.Read(make([]byte, 1)); again != err {
			t.Errorf("%s: the error does not stay: %v, then %v", name, err, again)
		}
	}
	var b http1.Body
	b.Reset(http1.NewReader(strings.NewReader("abc")), 5, false)
	if _, err := io.ReadAll(&b); err != io.ErrUnexpectedEOF {
		t.Errorf("short body: %v", err)
	}
	b.Reset(http1.NewReader(strings.NewReader("abc")), -1, false)
	if got, err := io.ReadAll(&b); string(got) != "abc" || err != nil {
		t.Errorf("body until EOF: %q %v", got, err)
	}
}

func TestAppendChunk(t *testing.T) {
	if got := string(http1.AppendChunk(http1.AppendChunk(nil, []byte("hello")), nil)); got != "5\r\nhello\r\n" {
		t.Errorf("got %q", got)
	}
}

func TestFilterTrailers(t *testing.T) {
	keep := func(name []byte) bool { return !strings.EqualFold(string(name), "x-mine") }
	for in, want := range map[string]string{
		"":                                   "",
		"X-T: v\r\n":                         "X-T: v\r\n",
		"X-T:v\r\nX-MINE: 1\r\nY: \r\n":      "X-T: v\r\nY: \r\n",
		"authorization: Bearer x\r\nX:1\r\n": "X: 1\r\n",
		"Host: a\r\n":                        "",
		"Connection: close\r\n":              "",
		"Set-Cookie: a=b\r\n":                "",
		"Content-Length: 5\r\n":              "",
		"X: 1\r\n\r\nGET / HTTP/1.1\r\n":     "",
		"X: 1\nY: 2\r\n":                     "",
		"X 1\r\n":                            "",
		"no line end":                        "",
	} {
		lines := append(make([]byte, 0, 200), in...)
		if got := string(http1.FilterTrailers(lines, keep)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
		if string(lines) != in {
			t.Errorf("%q: the lines were changed", in)
		}
	}
	many := []byte(strings.Repeat("a:\r\n", 100) + "b:" + strings.Repeat("x", 8<<10-420) + "\r\n")
	if got := http1.FilterTrailers(many, keep); got != nil {
		t.Errorf("%d bytes of trailers became %d", len(many), len(got))
	}
}

func FuzzBody(f *testing.F) {
	f.Add([]byte("3\r\nabc\r\n0\r\n\r\n"))
	f.Add([]byte("0\r\nA: b\r\n\r\n"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		var b http1.Body
		b.Reset(http1.NewReader(strings.NewReader(string(wire))), -1, true)
		got, err := io.ReadAll(&b)
		if err != nil {
			return
		}
		encoded := append(http1.AppendChunk(nil, got), http1.LastChunk...)
		b.Reset(http1.NewReader(strings.NewReader(string(encoded))), -1, true)
		if again, err := io.ReadAll(&b); err != nil || string(again) != string(got) {
			t.Fatalf("%q: %q, then %q %v", wire, got, again, err)
		}
	})
}

func BenchmarkRequestHead(b *testing.B) {
	head := []byte("GET /CCM_Proxy_MutualAuth/72057594037927937/SMS_MP/.sms_pol?x HTTP/1.1\r\nHost: gw.example.com\r\nUser-Agent: SMS CCM 5.0\r\nAccept: */*\r\nCCMClientID: GUID:11111111-2222-3333-4444-555555555555\r\n\r\n")
	var h http1.RequestHead
	var path [256]byte
	b.ReportAllocs()
	for b.Loop() {
		if err := h.Parse(head); err != nil {
			b.Fatal(err)
		}
		if _, _, _, err := http1.CanonicalTarget(path[:0], h.Target); err != nil {
			b.Fatal(err)
		}
	}
}
