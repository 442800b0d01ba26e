package connpoint_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/connpoint"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/tunnel"
)

// target says where instances are.
func target(name string, ins ...*instance) opencmg.GatewayTarget {
	t := opencmg.GatewayTarget{Name: name, ServiceName: strings.ToLower(name) + ".test", Count: len(ins)}
	for _, in := range ins {
		t.Instances = append(t.Instances, opencmg.InstanceAddress{Instance: in.number, TCPTLS: in.addr})
	}
	return t
}

// other starts an instance of another gateway, which ends with the lab.
func (l *lab) other(gateway string, number, total int) *instance {
	in := newInstanceOf(l, gateway, number, total)
	l.instances = append(l.instances, in)
	return in
}

func (l *lab) setGateways(targets ...opencmg.GatewayTarget) {
	l.t.Helper()
	if targets == nil {
		targets = []opencmg.GatewayTarget{}
	}
	if err := l.conn.SetMappings(&opencmg.URLMappings{Gateways: targets, Mappings: l.cfg.Mappings.Mappings}); err != nil {
		l.t.Fatal(err)
	}
}

// gone waits for a tunnel to end.
func gone(t *testing.T, c *tunnel.Conn) {
	t.Helper()
	receive(t, c.Done(), "the tunnel to end")
}

// alive fails when a tunnel drains or has ended.
func alive(t *testing.T, what string, conns ...*tunnel.Conn) {
	t.Helper()
	for _, c := range conns {
		if c.Draining() {
			t.Errorf("%s was disturbed: %v", what, c.Err())
		}
	}
}

func TestGatewaysComeWithTheMappings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mappings.json")
	l := newLab(t, 0, nil, func(l *lab) {
		l.cfg.Gateways = nil
		l.cfg.Connections = 1
		l.cfg.MappingsFile, l.cfg.AwaitMappings = file, true
	})
	if err := l.conn.Ready(); err == nil || !strings.Contains(err.Error(), "no gateway to serve yet") {
		t.Errorf("Ready without a gateway: %v", err)
	}
	a, b := l.other("GW", 0, 1), l.other("OTHER", 0, 1)
	write := func(targets ...opencmg.GatewayTarget) {
		t.Helper()
		doc, err := json.Marshal(&opencmg.URLMappings{Version: 1, Gateways: targets})
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, file, doc)
	}
	write(target("GW", a))
	first := a.tunnel()
	write(target("GW", a), target("OTHER", b))
	second := b.tunnel()
	alive(t, "the tunnel to the first gateway", first)
	eventually(t, func() bool { return l.conn.Ready() == nil })
	write(target("OTHER", b))
	gone(t, first)
	alive(t, "the tunnel to the second gateway", second)
	if st := l.conn.Status(); len(st.Tunnels) != 1 || st.Tunnels[0].Gateway != "OTHER" {
		t.Errorf("tunnels: %+v", st.Tunnels)
	}
	write() // neither the mappings nor the configuration name one
	gone(t, second)
}

func TestConfiguredGatewaysComeBack(t *testing.T) {
	l := newLab(t, 1, nil, func(l *lab) { l.cfg.Connections = 1 })
	first := l.instances[0].tunnel()
	l.setGateways() // an empty list: none
	gone(t, first)
	if err := l.conn.SetMappings(&opencmg.URLMappings{}); err != nil { // no list: those of the configuration
		t.Fatal(err)
	}
	l.instances[0].tunnel()
}

func TestInstancesComeGoAndMove(t *testing.T) {
	arrived, answer := make(chan bool, 1), make(chan bool)
	r := newRole(t, func(nc net.Conn, r *bufio.Reader) {
		if _, err := readRequest(r); err != nil {
			return
		}
		arrived <- true
		<-answer
		io.WriteString(nc, plainAnswer)
	})
	l := newLab(t, 2, r.mapping(), func(l *lab) { l.cfg.Connections = 1 })
	in := l.instances
	zero, one := in[0].tunnel(), in[1].tunnel()

	// One more; the others stay.
	two := l.other(gateway, 2, 3)
	l.setGateways(target(gateway, in[0], in[1], two))
	third := two.tunnel()
	alive(t, "an instance that stayed", zero, one)

	// Instance 1 stands elsewhere now. A request in flight by the old tunnel
	// finishes, and a new tunnel is there before the old one goes.
	result := make(chan reply, 1)
	go func() { result <- do(t, one, ask{path: "/x", deadline: patience}) }()
	receive(t, arrived, "the request")
	moved := l.other(gateway, 1, 3)
	l.setGateways(target(gateway, in[0], moved, two))
	fresh := moved.tunnel()
	receive(t, one.GoingAway(), "the old tunnel to drain")
	answer <- true
	if got := receive(t, result, "the answer"); got.status != 200 {
		t.Errorf("the request in flight: %+v", got)
	}
	gone(t, one)
	alive(t, "an instance that stayed", zero, third)

	// A new address that leads nowhere does not end the tunnel that works, at
	// once; the address that is right again is found.
	nowhere := target(gateway, in[0], moved, two)
	nowhere.Instances[0].TCPTLS = "127.0.0.1:1"
	l.setGateways(nowhere)
	l.log.wait("127.0.0.1:1")
	alive(t, "the tunnel by the former address", zero)
	l.setGateways(target(gateway, in[0], moved, two))
	in[0].tunnel()
	gone(t, zero)

	// Scaled in: instances 1 and 2 drain.
	l.setGateways(target(gateway, in[0]))
	gone(t, fresh)
	gone(t, third)
	for _, s := range l.conn.Status().Tunnels {
		if s.Instance != 0 {
			t.Errorf("still there: %+v", s)
		}
	}

	// A document that can not be right changes nothing.
	for _, bad := range []opencmg.GatewayTarget{{}, {Name: "x"}, {Name: "x", ServiceName: "y", Count: 17}} {
		if err := l.conn.SetMappings(&opencmg.URLMappings{Gateways: []opencmg.GatewayTarget{bad}}); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	if err := l.conn.Ready(); err != nil {
		t.Error(err)
	}
}

// TestLinkedToAnotherGateway gives the connection point the configuration of
// another gateway, whose version is lower.
func TestLinkedToAnotherGateway(t *testing.T) {
	file := filepath.Join(t.TempDir(), "published.jws")
	l := newLab(t, 1, nil, func(l *lab) {
		l.cfg.PublishedFile = file
		writeFile(t, file, l.publish(7))
	})
	if v := receive(t, l.instances[0].configs, "a configuration"); v != 7 {
		t.Errorf("version %d", v)
	}
	b := l.other("OTHER", 0, 1)
	l.setGateways(target("OTHER", b))
	b.tunnel()
	writeFile(t, file, l.publishFor("OTHER", 2, 1))
	if v := receive(t, b.configs, "a configuration"); v != 2 {
		t.Errorf("version %d", v)
	}
	if r := l.conn.Report(); r.Published != 2 || r.Problem != "" {
		t.Errorf("report: %+v", r)
	}
}

// TestUnusableFilesAreTriedAgain has the signature of a document fail until its
// signing certificate counts, without another change of the file.
func TestUnusableFilesAreTriedAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mappings.json")
	ready := make(chan bool)
	counts := make(chan bool, 1000)
	l := newLab(t, 0, nil, func(l *lab) {
		l.cfg.Gateways, l.cfg.MappingsFile, l.cfg.AwaitMappings = nil, file, true
		l.cfg.LoadMappings = func(b []byte) (*opencmg.URLMappings, error) {
			counts <- true
			select {
			case <-ready:
				return opencmg.ParseURLMappings(b)
			default:
				return nil, fmt.Errorf("not yet valid")
			}
		}
	})
	writeFile(t, file, []byte(`{"version":5}`))
	for range 3 {
		receive(t, counts, "another try")
	}
	if n := strings.Count(l.log.String(), "not yet valid"); n != 1 {
		t.Errorf("the reason was said %d times", n)
	}
	eventually(t, func() bool { return strings.Contains(l.conn.Report().Problem, "not yet valid") })
	close(ready)
	eventually(t, func() bool { r := l.conn.Report(); return r.Mappings == 5 && r.Problem == "" })
}

func TestRenewedCertificate(t *testing.T) {
	l := newLab(t, 1, nil, func(l *lab) { l.cfg.Connections = 1 })
	in := l.instances[0]
	c := in.tunnel()
	old := receive(t, in.peers, "a certificate")
	next := l.issue(pki.Template{CommonName: "cp renewed", URIs: []string{opencmg.ConnectionPointURI(site, "cp-1")}, Client: true})
	l.conn.SetCertificate(next)
	alive(t, "the open tunnel", c)
	c.Close()
	in.tunnel()
	if got := receive(t, in.peers, "a certificate"); got.Equal(old) || !got.Equal(next.Leaf) {
		t.Errorf("the new tunnel presents %s", got.Subject)
	}
}

func TestInstancesAreCollected(t *testing.T) {
	report := func(version uint64) string {
		b, err := json.Marshal(opencmg.InstanceStatus{Gateway: "liar", Instance: 9, Configuration: version, Connections: 3})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	l := newLab(t, 2, nil, func(l *lab) {
		l.cfg.CollectInstances = true
		l.instances[0].report = report(4)
		// instance 1 does not know the question
	})
	for _, in := range l.instances {
		in.tunnel()
	}
	want := []opencmg.InstanceStatus{{Gateway: gateway, Instance: 0, Configuration: 4, Connections: 3}}
	eventually(t, func() bool { return len(l.conn.Report().Instances) == 1 })
	if diff := cmp.Diff(want, l.conn.Report().Instances); diff != "" {
		t.Error(diff)
	}
	receive(t, l.conn.Changes(), "news of the instance")

	// Nothing is followed until it is wanted.
	line := func(n int) string {
		b, _ := json.Marshal(opencmg.LogLine{Time: time.Unix(int64(n), 0), Message: fmt.Sprint("line ", n), Source: "liar"})
		return string(b)
	}
	for n := range 1200 {
		l.instances[0].lines <- line(n + 1)
	}
	if len(l.conn.Report().Logs) != 0 {
		t.Error("log lines that nobody wanted")
	}
	l.conn.CollectLogs(true)
	eventually(t, func() bool { return len(l.instances[0].lines) == 0 })
	l.instances[0].lines <- line(2000)
	var lines []opencmg.LogLine
	eventually(t, func() bool {
		lines = append(lines, l.conn.Report().Logs...)
		return slices.ContainsFunc(lines, func(l opencmg.LogLine) bool { return l.Message == "line 2000" })
	})
	for _, l := range lines {
		if strings.HasPrefix(l.Message, "line") && l.Source != "GW/0" {
			t.Errorf("source %q", l.Source)
		}
	}
	// After the tunnel was away the instance sends its old lines again.
	l.conn.CollectLogs(false)
	eventually(t, func() bool { return l.instances[0].readers.Load() == 0 })
	l.conn.CollectLogs(true)
	l.instances[0].lines <- line(1999)
	l.instances[0].lines <- line(2001)
	eventually(t, func() bool {
		for _, line := range l.conn.Report().Logs {
			if line.Message == "line 1999" {
				t.Error("an old line came again")
			}
			if line.Message == "line 2001" {
				return true
			}
		}
		return false
	})
	l.instances[0].mu.Lock()
	l.instances[0].report = "{"
	l.instances[0].mu.Unlock()
	l.log.wait("instance did not tell its status")
}

// TestNotableIsNews: an instance that refuses is heard of as soon as it answers
// the question that it holds, and one that always refuses is asked at a bounded
// rate.
func TestNotableIsNews(t *testing.T) {
	happens := make(chan struct{})
	var mu sync.Mutex
	var notable uint64 = 5
	var flood bool
	times := make(chan time.Time, 100)
	held := make(chan opencmg.InstanceStatusRequest, 100)
	l := newLab(t, 1, nil, func(l *lab) {
		l.cfg.CollectInstances = true
		l.instances[0].asked = func(q opencmg.InstanceStatusRequest) opencmg.InstanceStatus {
			mu.Lock()
			defer mu.Unlock()
			if q.After == notable && !flood {
				held <- q
				mu.Unlock()
				select {
				case <-happens:
				case <-t.Context().Done():
				}
				mu.Lock()
				notable++
			} else if flood {
				notable++
				select {
				case times <- time.Now():
				default:
				}
			}
			return opencmg.InstanceStatus{Notable: notable, Refused: map[string]int64{"x": int64(notable)}}
		}
	})
	l.instances[0].tunnel()
	if q := receive(t, held, "the question that waits"); q.After != 5 || q.WaitMilliseconds < 1000 {
		t.Errorf("asked %+v", q)
	}
	eventually(t, func() bool { return len(l.conn.Report().Instances) == 1 })
	for len(l.conn.Changes()) > 0 {
		<-l.conn.Changes()
	}
	happens <- struct{}{}
	receive(t, l.conn.Changes(), "news of the refusal")
	if got := l.conn.Report().Instances; len(got) != 1 || got[0].Refused["x"] != 6 {
		t.Errorf("reported %+v", got)
	}
	if q := receive(t, held, "the next question"); q.After != 6 {
		t.Errorf("asked %+v", q)
	}
	mu.Lock()
	flood = true
	mu.Unlock()
	close(happens)
	last := receive(t, times, "a question")
	for range 3 {
		next := receive(t, times, "another question")
		if d := next.Sub(last); d < connpoint.CollectApart {
			t.Errorf("asked again after %s", d)
		}
		last = next
	}
}

// TestDrainingInstanceIsNews: whoever waits until an instance is drained hears
// of every step.
func TestDrainingInstanceIsNews(t *testing.T) {
	says := func(in *instance, st opencmg.InstanceStatus) {
		b, err := json.Marshal(st)
		if err != nil {
			t.Error(err)
		}
		in.mu.Lock()
		defer in.mu.Unlock()
		in.report = string(b)
	}
	l := newLab(t, 1, nil, func(l *lab) {
		l.cfg.CollectInstances = true
		says(l.instances[0], opencmg.InstanceStatus{Draining: true})
	})
	in := l.instances[0]
	in.tunnel()
	for _, want := range []opencmg.InstanceStatus{
		{Gateway: gateway, Draining: true}, {Gateway: gateway, Draining: true, Drained: true}, {Gateway: gateway},
	} {
		says(in, want)
		for {
			receive(t, l.conn.Changes(), "news of the instance")
			if got := l.conn.Report().Instances; len(got) == 1 && cmp.Equal(got[0], want) {
				break
			}
		}
	}
}
