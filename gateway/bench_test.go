package gateway_test

import (
	"bytes"
	"crypto/tls"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/opencmg/opencmg/gateway"
	"github.com/opencmg/opencmg/pki"
)

// BenchmarkEdge measures what a request costs between the read of its head and
// the opening of its stream: parsing, matching, authenticating by token, and
// writing the head for the tunnel.
func BenchmarkEdge(b *testing.B) {
	k := keys()
	in := startInstance(b, instanceOptions{config: configuration(1), quiet: true})
	fields := " HTTP/1.1\r\n" + hostField + "User-Agent: SMS CCM 5.0\r\nAccept: */*\r\nCCMClientID: " + string(clientID) + "\r\n"
	for _, bb := range []struct {
		name, head string
		cert       tls.Certificate
	}{
		{"token", "GET " + server + "/SMS_MP/.sms_pol?{x}" + fields + "Authorization: Bearer " + clientToken(b, k.device).Raw + "\r\n\r\n", k.device},
		{"certificate", "GET " + mutual + "/SMS_MP/.sms_pol?{x}" + fields + "\r\n", issue(b, k.clientCA, pki.Template{CommonName: "pc1", Client: true})},
	} {
		b.Run(bb.name, func(b *testing.B) {
			run, head := gateway.EdgeBenchmark(in.s, leafOf(b, bb.cert)), []byte(bb.head)
			b.ReportAllocs()
			for b.Loop() {
				if n := run(head); n == 0 {
					b.Fatal("refused")
				}
			}
		})
	}
}

// BenchmarkRequest measures a small request through instance and tunnel on
// loopback, the client's and the connection point's work included.
func BenchmarkRequest(b *testing.B) {
	in := startInstance(b, instanceOptions{config: configuration(1), quiet: true})
	body := bytes.Repeat([]byte("x"), 2048)
	head := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2048\r\n\r\n")
	in.connect("id-1", func(c *call) { c.WriteHeadBody(head, body, true) })
	request := []byte("GET /wiki/x HTTP/1.1\r\n" + hostField + "\r\n")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		c := in.dial(clientTLS())
		buf := make([]byte, 16<<10)
		for pb.Next() {
			c.Conn.Write(request)
			for n := 0; n < 2048+len(head); {
				m, err := c.Conn.Read(buf)
				if err != nil {
					b.Error(err)
					return
				}
				n += m
			}
		}
	})
}

// TestHeldClientMemory says what a client costs that holds a request, both
// sides of the tunnel and the test's client left out as far as they can be.
func TestHeldClientMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("opens 1,000 connections")
	}
	const clients = 1000
	in := startInstance(t, instanceOptions{config: configuration(1), quiet: true})
	var held sync.WaitGroup
	held.Add(clients)
	g := newGate()
	in.connect("id-1", func(c *call) { c.body(); held.Done(); g.wait(); c.answer("HTTP/1.1 200 OK", "") })
	t.Cleanup(g.open)
	conns := make([]*rawClient, clients)
	request := "POST /wiki/held HTTP/1.1\r\n" + hostField + "X-Fill: " + strings.Repeat("x", 500) + "\r\nContent-Length: 300\r\n\r\n" + strings.Repeat("y", 300)
	cfg := clientTLS()
	for i := range conns {
		conns[i] = in.dial(cfg)
	}
	measure := func() uint64 {
		runtime.GC()
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	idle := measure()
	for _, c := range conns {
		c.send(request)
	}
	held.Wait()
	eventually(t, "all wait", func() bool { waiting, _, _ := in.s.Phases(); return waiting == clients })
	waiting := measure()
	t.Logf("%d clients: holding a request adds %.1f KiB each to an idle connection, connection point's end included", clients, float64(waiting-idle)/clients/1024)
	g.open()
	for _, c := range conns {
		c.Close()
	}
	eventually(t, "nothing is in flight", func() bool { return in.s.InFlight() == 0 })
}
