package gateway_test

import (
	"bufio"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/web"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/tunnel"
)

// status asks for the instance's status.
func (p *testPoint) status() (opencmg.ControlAnswer, *opencmg.InstanceStatus) {
	p.t.Helper()
	a, body := p.ask(opencmg.ControlInstanceStatus)
	if a.Error != "" {
		return a, nil
	}
	var st opencmg.InstanceStatus
	if err := json.NewDecoder(body).Decode(&st); err != nil {
		p.t.Fatalf("status: %v", err)
	}
	return a, &st
}

// ask opens a control stream without a body.
func (p *testPoint) ask(name string) (opencmg.ControlAnswer, *tunnel.Stream) {
	p.t.Helper()
	st, err := p.conn.Open(&tunnel.Request{Endpoint: name}, nil, true)
	if err != nil {
		p.t.Fatalf("open %s: %v", name, err)
	}
	head, _, err := st.ReadHead()
	if err != nil {
		p.t.Fatalf("answer to %s: %v", name, err)
	}
	var a opencmg.ControlAnswer
	if err := json.Unmarshal(head, &a); err != nil {
		p.t.Fatalf("answer to %s: %v", name, err)
	}
	return a, st
}

func TestInstanceStatus(t *testing.T) {
	in := startInstance(t, instanceOptions{config: configuration(7)})
	held, release := newGate(), newGate()
	p := in.connect("id-1", func(c *call) {
		c.body()
		switch {
		case strings.Contains(string(c.req.Head), "/held"):
			held.open()
			release.wait()
			c.answer("HTTP/1.1 200 OK\nContent-Length: 2", "ok")
		case strings.Contains(string(c.req.Head), "/broken"):
			c.answer("HTTP/1.1 503 Away\nContent-Length: 0", "")
		default:
			c.answer("HTTP/1.1 200 OK\nContent-Length: 5", "hello")
		}
	})
	c := in.dial(clientTLS())
	for _, path := range []string{"/wiki/a", "/wiki/b", "/wiki/broken"} {
		c.send("POST " + path + " HTTP/1.1\r\nHost: gw.example\r\nContent-Length: 3\r\n\r\nabc")
		c.answer("POST")
	}
	c.send("GET /nowhere HTTP/1.1\r\nHost: gw.example\r\n\r\n")
	c.answer("GET")
	in.dial(clientTLS()).send("GET /wiki/held/x HTTP/1.1\r\nHost: gw.example\r\n\r\n")
	held.wait()

	var st *opencmg.InstanceStatus
	eventually(t, "the held request waits", func() bool {
		_, st = p.status()
		return st != nil && st.Held == 1
	})
	if st.Gateway != testGateway || st.Instance != 0 || st.Configuration != 7 || st.Version != "test 1" || st.Draining ||
		st.Connections != 2 || st.InFlight != 1 || st.Goroutines == 0 || st.MemoryBytes == 0 || st.CPUSeconds <= 0 {
		t.Errorf("status: %+v", st)
	}
	if st.Started.IsZero() || st.Time.Before(st.Started) || st.TunnelCertEnds.IsZero() || st.CertificateEnds.Before(time.Now()) || len(st.Certificate) != 64 {
		t.Errorf("times and certificates: %+v", st)
	}
	for i := range st.Endpoints {
		st.Endpoints[i].Milliseconds = 0
	}
	want := []opencmg.InstanceTraffic{
		{Role: "9", Endpoint: "held", Requests: 1},
		{Role: "9", Endpoint: "wiki", Requests: 3, Failed: 1, RequestBytes: 9, ResponseBytes: 10},
	}
	if n := counted(st.Endpoints[1].Latency); n != 3 {
		t.Errorf("%d latencies were counted: %v", n, st.Endpoints[1].Latency)
	}
	st.Endpoints[1].Latency = nil
	if diff := cmp.Diff(want, st.Endpoints); diff != "" {
		t.Errorf("endpoints: %s", diff)
	}
	if st.Refused["not-published"] != 1 {
		t.Errorf("refused: %v", st.Refused)
	}

	// What it found outside goes along; without a look there is nothing.
	if st.Outside != nil {
		t.Errorf("outside: %+v", st.Outside)
	}
	in.outside.Store(&opencmg.ProbeReport{Proxy: "proxy.example:8080", Probes: []opencmg.Probe{{OK: true}}})
	if _, after := p.status(); after.Outside == nil || after.Outside.Proxy != "proxy.example:8080" || len(after.Outside.Probes) != 1 {
		t.Errorf("outside: %+v", after.Outside)
	}

	// A summary line in the log takes nothing away, and a new server
	// certificate shows.
	in.s.Summarize()
	other := serverCertificate(t, testName)
	in.cert(other)
	if _, after := p.status(); after.Endpoints[1].Requests != 3 || after.Endpoints[1].ResponseBytes != 10 || after.Certificate != pki.Thumbprint(other.Leaf) {
		t.Errorf("after the summary: %+v", after)
	}
	release.open()
	// What was held says nothing about how fast the site answers.
	eventually(t, "the held request is over", func() bool { return in.s.InFlight() == 0 })
	if _, st := p.status(); counted(st.Endpoints[0].Latency) != 0 {
		t.Errorf("held: %v", st.Endpoints[0].Latency)
	}
}

func counted(latency []int64) (n int64) {
	for _, c := range latency {
		n += c
	}
	return n
}

// TestStatusWaits: a question that knows all that is notable is held until
// something happens, and ends with the instance.
func TestStatusWaits(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1)})
	p := in.connect("id-1", func(*call) {})
	_, now := p.status()
	if now.Notable == 0 {
		t.Fatal("the instance can not be waited for")
	}
	answers := make(chan opencmg.InstanceStatus, 1)
	ask := func(after uint64) {
		q, err := json.Marshal(opencmg.InstanceStatusRequest{After: after, WaitMilliseconds: time.Hour.Milliseconds()})
		if err != nil {
			t.Fatal(err)
		}
		st, err := p.conn.Open(&tunnel.Request{Endpoint: opencmg.ControlInstanceStatus, BodyLength: int64(len(q))}, q, true)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer close(answers)
			if _, _, err := st.ReadHead(); err != nil {
				return
			}
			var s opencmg.InstanceStatus
			if err := json.NewDecoder(st).Decode(&s); err != nil {
				t.Error(err)
			}
			answers <- s
		}()
	}
	answered := func() (st opencmg.InstanceStatus) {
		t.Helper()
		eventually(t, "the answer", func() bool {
			select {
			case st = <-answers:
				return true
			default:
				return false
			}
		})
		return st
	}
	refused := func() {
		c := in.dial(clientTLS())
		c.send("GET /nowhere HTTP/1.1\r\nHost: gw.example\r\n\r\n")
		c.answer("GET")
		c.Close()
	}
	ask(now.Notable)
	eventually(t, "the question waits", in.s.StatusAwaited)
	select {
	case <-answers:
		t.Fatal("answered although nothing happened")
	default:
	}
	refused()
	got := answered()
	if got.Notable <= now.Notable || got.Refused["not-published"] != 1 {
		t.Errorf("%+v", got)
	}
	// What happened before the question counts too.
	refused()
	answers = make(chan opencmg.InstanceStatus, 1)
	ask(got.Notable)
	if again := answered(); again.Refused["not-published"] != 2 {
		t.Errorf("%+v", again)
	}
	// A tunnel that comes is notable.
	_, now = p.status()
	answers = make(chan opencmg.InstanceStatus, 1)
	ask(now.Notable)
	eventually(t, "the question waits", in.s.StatusAwaited)
	in.connect("id-2", func(*call) {})
	answered()
	// An instance that stops keeps nobody waiting.
	_, now = p.status()
	answers = make(chan opencmg.InstanceStatus, 1)
	ask(now.Notable)
	eventually(t, "the question waits", in.s.StatusAwaited)
	in.stop()
	answered()
}

func TestStatusForRegisteredOnly(t *testing.T) {
	in := startInstance(t, instanceOptions{})
	// Without a configuration every connection point of the site may come in
	// and deliver one; it does not see anything yet.
	p, err := in.tryConnect("id-1", func(*call) {})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{opencmg.ControlInstanceStatus, opencmg.ControlLogs, opencmg.ControlExplain} {
		if a, _ := p.ask(name); !strings.Contains(a.Error, "no published configuration yet") {
			t.Errorf("%s without a configuration: %+v", name, a)
		}
	}
	// Once registered it does; others lose their tunnel.
	stranger, err := in.tryConnect("id-3", func(*call) {})
	if err != nil {
		t.Fatal(err)
	}
	if a := p.control(opencmg.ControlConfiguration, signed(t, configuration(3))); a.Error != "" {
		t.Fatal(a.Error)
	}
	if a, st := p.status(); st == nil || st.Configuration != 3 || a.Version != 3 {
		t.Errorf("registered: %+v", a)
	}
	<-stranger.conn.Done()
}

func TestLogStream(t *testing.T) {
	noLeaks(t)
	in := startInstance(t, instanceOptions{config: configuration(1)})
	p := in.connect("id-1", func(*call) {})
	a, st := p.ask(opencmg.ControlLogs)
	if a.Error != "" || a.Version != 1 {
		t.Fatalf("answer: %+v", a)
	}
	lines := bufio.NewScanner(st)
	wait := func(message string) (l opencmg.LogLine) {
		t.Helper()
		for lines.Scan() {
			l = opencmg.LogLine{}
			if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
				t.Fatalf("%q: %v", lines.Text(), err)
			}
			if l.Message == message {
				return l
			}
		}
		t.Fatalf("the stream ended before %q: %v", message, lines.Err())
		return l
	}
	// What was there before, then what comes.
	if l := wait("instance started"); l.Source != "cmg/0" || l.Component != "CMGService" || l.Level != "INFO" || l.Attrs["configuration"] != "1" {
		t.Errorf("line: %+v", l)
	}
	wait("tunnel up")
	p.control(opencmg.ControlConfiguration, signed(t, configuration(2)))
	if l := wait("published configuration in force"); l.Attrs["version"] != "2" {
		t.Errorf("line: %+v", l)
	}

	// Only so many may read at a time; one that stops makes room.
	var open []*tunnel.Stream
	for range 7 {
		a, st := p.ask(opencmg.ControlLogs)
		if a.Error != "" {
			t.Fatal(a.Error)
		}
		open = append(open, st)
	}
	if a, _ := p.ask(opencmg.ControlLogs); !strings.Contains(a.Error, "read the log already") {
		t.Errorf("one too many: %+v", a)
	}
	open[0].Reset(tunnel.CodeCancelled)
	eventually(t, "room for another reader", func() bool {
		a, st := p.ask(opencmg.ControlLogs)
		st.Reset(tunnel.CodeCancelled)
		return a.Error == ""
	})

	// An instance that stops ends the streams and does not wait for them. With
	// nothing else to wait for, the tunnel may be gone first.
	in.stop()
	for lines.Scan() {
	}
	io.Copy(io.Discard, open[1])
}

// TestSlowLogReader does not read until the log has gone far ahead.
func TestSlowLogReader(t *testing.T) {
	logs := web.NewLogTail("slow/0")
	in := startInstance(t, instanceOptions{config: configuration(1), logs: logs})
	p := in.connect("id-1", func(*call) {})
	_, st := p.ask(opencmg.ControlLogs)
	log := slog.New(logs.Handler())
	first := bufio.NewReader(st)
	log.Info("first")
	for {
		line, err := first.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(line, `"first"`) {
			break
		}
	}
	const many = 200_000 // more than the windows of a tunnel take
	for range many {
		log.Info("flood")
	}
	log.Info("last")
	lost := false
	for {
		line, err := first.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		lost = lost || strings.Contains(line, "lines were lost")
		if strings.Contains(line, `"last"`) {
			break
		}
	}
	if !lost {
		t.Error("nobody said that lines were lost")
	}
}
