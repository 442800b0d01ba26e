package tunnel_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/opencmg/opencmg/tunnel"
)

var update = flag.Bool("update", false, "write testdata/frames.txt anew")

// TestGoldenFrames pins the bytes of each frame: testdata/frames.txt are the
// vectors for other implementations.
func TestGoldenFrames(t *testing.T) {
	hello := tunnel.Hello{Site: "LAB", Gateway: "GraniteFalls", Instance: 2, Instances: 3, ConnectionPoint: "cp.example", ConnectionID: "1f", Software: "opencmg/1", ConfigVersion: 42}
	request := &tunnel.Request{CorrelationID: "c0ffee", Role: "72057594037927941", Endpoint: "CCM_STS", Identity: "{}", Head: []byte("GET / HTTP/1.1\r\n\r\n"), BodyLength: -1}
	var b strings.Builder
	for _, f := range []struct {
		name string
		b    []byte
	}{
		{"HELLO", tunnel.HelloFrame(1, 1, 20000, 16384, hello)},
		{"HELLO with empty names", tunnel.HelloFrame(1, 7, 1, math.MaxInt32, tunnel.Hello{})},
		{"OPEN of unknown length, 1500 ms left", tunnel.OpenLeft(1, false, request, 1500)},
		{"OPEN with END, no fields", tunnel.OpenLeft(2, true, &tunnel.Request{}, 0)},
		{"HEAD", tunnel.Frame(tunnel.FrameHead, 0, 3, []byte("HTTP/1.1 200 OK\r\n\r\n"))},
		{"HEAD with INFO", tunnel.Frame(tunnel.FrameHead, tunnel.FlagInfo, 3, []byte("HTTP/1.1 103 Early Hints\r\n\r\n"))},
		{"DATA", tunnel.Frame(tunnel.FrameData, 0, tunnel.MaxStreamID, []byte("body"))},
		{"DATA with END and nothing else", tunnel.Frame(tunnel.FrameData, tunnel.FlagEnd, 3, nil)},
		{"TRAILERS", tunnel.Frame(tunnel.FrameTrailers, 0, 3, []byte("A: b\r\n"))},
		{"RESET not processed", tunnel.Reset(5, tunnel.CodeRoleUnreachable, true, "no route")},
		{"STOP", tunnel.Frame(tunnel.FrameStop, 0, 5, nil)},
		{"WINDOW", tunnel.Window(7, 32768)},
		{"PING", tunnel.Ping(0x0102030405060708)},
		{"PONG", tunnel.Pong(0x0102030405060708)},
		{"GOAWAY draining", tunnel.GoAway(tunnel.MaxStreamID, tunnel.CodeDraining, "")},
		{"GOAWAY with a reason", tunnel.GoAway(9, tunnel.CodeProtocol, "why")},
	} {
		fmt.Fprintf(&b, "# %s\n%s\n", f.name, hex.EncodeToString(f.b))
		n, again, err := tunnel.DecodeFrame(f.b)
		if err != nil || n != len(f.b) {
			t.Errorf("%s: decoded %d of %d bytes: %v", f.name, n, len(f.b), err)
		}
		if again != nil && !bytes.Equal(again, f.b) {
			t.Errorf("%s: encoded again as %x", f.name, again)
		}
	}
	if *update {
		if err := os.WriteFile("testdata/frames.txt", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/frames.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got := b.String(); got != string(want) {
		t.Errorf("frames changed:\n%s", got)
	}
}

func TestMalformedFrames(t *testing.T) {
	open := func(f func([]byte) []byte) []byte {
		return f(tunnel.Open(1, true, &tunnel.Request{CorrelationID: "c", Role: "r", Endpoint: "e", Identity: "i", Head: []byte("h")}))
	}
	for name, b := range map[string][]byte{
		"DATA without bytes or END":   tunnel.Frame(tunnel.FrameData, 0, 1, nil),
		"DATA too long":               tunnel.Frame(tunnel.FrameData, 0, 1, make([]byte, tunnel.MaxData+1)),
		"DATA on stream 0":            tunnel.Frame(tunnel.FrameData, 0, 0, []byte("x")),
		"HEAD without bytes":          tunnel.Frame(tunnel.FrameHead, 0, 1, nil),
		"HEAD too long":               tunnel.Frame(tunnel.FrameHead, 0, 1, make([]byte, tunnel.MaxHead+1)),
		"TRAILERS too long":           tunnel.Frame(tunnel.FrameTrailers, 0, 1, make([]byte, tunnel.MaxTrailers+1)),
		"RESET without code":          tunnel.Frame(tunnel.FrameReset, 0, 1, []byte("x")),
		"RESET with a long text":      tunnel.Frame(tunnel.FrameReset, 0, 1, make([]byte, 259)),
		"STOP with bytes":             tunnel.Frame(tunnel.FrameStop, 0, 1, []byte("x")),
		"WINDOW too short":            tunnel.Frame(tunnel.FrameWindow, 0, 1, []byte("xyz")),
		"PING too long":               tunnel.Frame(tunnel.FramePing, 0, 0, make([]byte, 9)),
		"PING on a stream":            tunnel.Frame(tunnel.FramePing, 0, 1, make([]byte, 8)),
		"GOAWAY too short":            tunnel.Frame(tunnel.FrameGoAway, 0, 0, make([]byte, 9)),
		"GOAWAY with a long text":     tunnel.Frame(tunnel.FrameGoAway, 0, 0, make([]byte, 1035)),
		"HELLO too long":              tunnel.Frame(tunnel.FrameHello, 0, 0, make([]byte, 4097)),
		"HELLO without magic":         tunnel.Frame(tunnel.FrameHello, 0, 0, make([]byte, 100)),
		"HELLO cut off":               tunnel.Frame(tunnel.FrameHello, 0, 0, []byte("OCMG\x00\x01\x00\x01....")),
		"HELLO with a name cut off":   tunnel.HelloFrame(1, 1, 1, 16384, tunnel.Hello{Software: "x"})[:tunnel.HeaderSize+28+5],
		"HELLO of another version":    tunnel.HelloFrame(2, 3, 1, 16384, tunnel.Hello{}),
		"HELLO with versions swapped": tunnel.HelloFrame(2, 1, 1, 16384, tunnel.Hello{}),
		"HELLO with a small window":   tunnel.HelloFrame(1, 1, 1, 16383, tunnel.Hello{}),
		"HELLO with a large window":   tunnel.HelloFrame(1, 1, 1, 1<<31, tunnel.Hello{}),
		"OPEN too short":              tunnel.Frame(tunnel.FrameOpen, 0, 1, make([]byte, 19)),
		"OPEN too long":               tunnel.Frame(tunnel.FrameOpen, 0, 1, make([]byte, 80_000)),
		"OPEN with a long head":       tunnel.Open(1, true, &tunnel.Request{Head: make([]byte, tunnel.MaxHead+1)}),
		"OPEN with a long field":      tunnel.Open(1, true, &tunnel.Request{Role: strings.Repeat("x", tunnel.MaxRole+1)}),
		"OPEN with a huge body":       open(func(b []byte) []byte { b[16] = 0x80; return b }),
		"OPEN with fields too long":   open(func(b []byte) []byte { b[tunnel.HeaderSize+19] = 100; return b }),
		"unknown and too long":        tunnel.Frame(99, 0, 1, make([]byte, 80<<10+1)),
	} {
		// A name that was cut off needs a length that fits.
		if name == "HELLO with a name cut off" {
			b[11] = byte(len(b) - tunnel.HeaderSize)
		}
		if n, _, err := tunnel.DecodeFrame(b); err == nil {
			t.Errorf("%s: decoded %d bytes", name, n)
		}
	}
}

func TestWindowArithmetic(t *testing.T) {
	w := tunnel.NewSendWindow(10)
	if w.Take(4) != 4 || w.Take(100) != 6 || w.Take(1) != 0 {
		t.Error("took the wrong amounts")
	}
	if !w.Add(math.MaxInt32) || w.Add(1) || w.Take(math.MaxInt) != math.MaxInt32 {
		t.Error("the sum of credit is not bounded")
	}
	if w.Add(math.MaxUint32) {
		t.Error("took an increment that overflows")
	}
	r := tunnel.NewRecvWindow()
	if !r.Receive(16<<10) || r.Receive(1) {
		t.Error("did not hold the peer to its window")
	}
	if r.Due(16<<10) != 0 || r.Due(8<<10+1) != 0 || r.Due(8<<10) != 8<<10 {
		t.Error("grants at the wrong time")
	}
	for total := 16 << 10; total < 1<<20; total *= 2 {
		if r.Growth() != total {
			t.Fatalf("grows by %d, want %d", r.Growth(), total)
		}
		r.Grow(total)
	}
	if r.Growth() != 0 {
		t.Error("grows for ever")
	}
}

func TestCodesHaveNames(t *testing.T) {
	for c := tunnel.CodeNone; c <= tunnel.CodeStopped; c++ {
		if s := c.String(); s == "" || strings.HasPrefix(s, "code ") {
			t.Errorf("code %d: %q", uint16(c), s)
		}
	}
	if s := tunnel.Code(999).String(); s != "code 999" {
		t.Errorf("%q", s)
	}
}

func FuzzFrameDecode(f *testing.F) {
	golden, err := os.ReadFile("testdata/frames.txt")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.SplitSeq(string(golden), "\n") {
		if b, err := hex.DecodeString(line); err == nil {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, again, err := tunnel.DecodeFrame(b)
		if err != nil || n == 0 || again == nil {
			return
		}
		// What was decoded encodes to something that decodes to the same.
		m, third, err := tunnel.DecodeFrame(again)
		if err != nil || m != len(again) || !bytes.Equal(again, third) {
			t.Errorf("%x encoded as %x and then as %x: %v", b[:n], again, third, err)
		}
	})
}
