package gateway_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/tunnel"
)

// explainBy asks for the records of a request over the point's tunnel.
func (p *testPoint) explainBy(body string) (opencmg.ControlAnswer, []opencmg.RequestRecord) {
	p.t.Helper()
	st, err := p.conn.Open(&tunnel.Request{Endpoint: opencmg.ControlExplain, BodyLength: int64(len(body))}, []byte(body), true)
	if err != nil {
		p.t.Fatal(err)
	}
	head, _, err := st.ReadHead()
	if err != nil {
		p.t.Fatal(err)
	}
	var a opencmg.ControlAnswer
	if err := json.Unmarshal(head, &a); err != nil {
		p.t.Fatal(err)
	}
	b, err := io.ReadAll(st)
	if err != nil {
		p.t.Fatal(err)
	}
	var found []opencmg.RequestRecord
	if a.Error == "" {
		if err := json.Unmarshal(b, &found); err != nil {
			p.t.Fatalf("records %q: %v", b, err)
		}
	}
	return a, found
}

// TestExplainOverTheTunnel: an instance tells its connection points why it
// refused, and after a restart it still knows.
func TestExplainOverTheTunnel(t *testing.T) {
	dir := t.TempDir()
	in := startInstance(t, instanceOptions{config: configuration(1), stateDir: dir})
	c := in.http1()
	res, err := c.Get("https://" + testName + "/nothing/here")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	c.CloseIdleConnections()
	id := res.Header.Get(opencmg.HeaderCorrelationID)
	question := `{"correlationId":"` + id + `"}`
	p := in.connect("id-1", func(*call) {})
	_, want := p.explainBy(question)
	if len(want) != 1 || want[0].Status != http.StatusNotFound || want[0].CorrelationID != id {
		t.Fatalf("records of %s: %+v", id, want)
	}
	for body, why := range map[string]string{"": "no correlation ID", "{": "no correlation ID", `{"correlationId":"../../x"}`: "no correlation ID"} {
		if a, _ := p.explainBy(body); !strings.Contains(a.Error, why) {
			t.Errorf("%q: %+v", body, a)
		}
	}
	if _, found := p.explainBy(`{"correlationId":"00000000"}`); len(found) != 0 {
		t.Errorf("a request that never was: %+v", found)
	}
	in.stop()
	again := startInstance(t, instanceOptions{config: configuration(1), stateDir: dir})
	if _, found := again.connect("id-1", func(*call) {}).explainBy(question); len(found) != 1 || found[0].Verdict != want[0].Verdict {
		t.Errorf("after a restart: %+v", found)
	}
}
