package client_test

import (
	"context"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/client"
)

func TestNotifyTest(t *testing.T) {
	t.Run("gateway", func(t *testing.T) {
		r := newRig(t)
		addr, _ := r.serve(r.gateway(), gatewayName)
		c := create(t, r.config(t, to(t, gatewayName, addr)), tokenWords)
		ok(t)(c.Register(t.Context()))
		ok(t)(c.Token(t.Context()))
		if res := ok(t)(c.NotifyTest(t.Context())); res.Milliseconds <= 0 || !strings.Contains(res.Detail, "round trip") {
			t.Errorf("result %+v", res)
		}
	})
	t.Run("inside", func(t *testing.T) {
		r := newRig(t)
		addr, _ := r.serve(r.inside(), mpName)
		cfg := r.config(t, to(t, mpName, addr))
		cfg.FastChannelPort = r.fastChannel()
		cfg.ConnectTo = append([]opencmg.ConnectTo{{FromHost: mpName, FromPort: "", ToHost: "127.0.0.1"}}, cfg.ConnectTo...)
		cfg.ConnectTo[0].FromPort = itoa(cfg.FastChannelPort)
		c := create(t, cfg, "/mp:"+mpName)
		c.Locate(t.Context())
		ok(t)(c.Register(t.Context()))
		ok(t)(c.NotifyTest(t.Context()))
		if !slices.Contains(r.seen(), "fast channel") {
			t.Error("the fast channel was not used")
		}
		if len(r.signedIn) > 1 {
			t.Error("a second channel was opened after the test had succeeded")
		}
	})
	t.Run("inside without fast channel", func(t *testing.T) {
		r := newRig(t)
		addr, kill := r.serve(r.inside(), mpName)
		_ = kill
		cfg := r.config(t, to(t, mpName, addr), opencmg.ConnectTo{FromHost: mpName, FromPort: "10123", ToHost: "127.0.0.1", ToPort: "1"})
		c := create(t, cfg, "/mp:"+mpName)
		c.Locate(t.Context())
		ok(t)(c.Register(t.Context()))
		ok(t)(c.NotifyTest(t.Context()))
	})
}

// start runs the client and returns a function that ends it.
func start(t *testing.T, c *client.Client) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func eventually[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatalf("no %s", what)
		panic("unreachable")
	}
}

func (r *rig) count(prefix string) int {
	n := 0
	for _, s := range r.seen() {
		if strings.HasPrefix(s, prefix) {
			n++
		}
	}
	return n
}

func TestRun(t *testing.T) {
	r := newRig(t)
	addr, _ := r.serve(r.gateway(), gatewayName)
	gw2, kill := r.serve(r.gateway(), gatewayName)
	cfg := r.config(t, to(t, gatewayName, addr), to(t, gatewayName, gw2))
	cfg.Intervals.Retry = 10 * time.Millisecond
	c := create(t, cfg, tokenWords)
	start(t, c)
	id := eventually(t, "sign-in", r.signedIn)

	// A pushed task is answered, and done.
	inventories := make(chan struct{}, 1)
	before := r.count("MP_PolicyManager")
	for _, task := range []int{ccm.TaskTest, ccm.TaskMachinePolicy, 4711} {
		r.push(id, task)
		want := 0
		if task == 4711 {
			want = 1
		}
		if a := eventually(t, "answer", r.answers); a.ReturnCode != want || a.PushID != 7 {
			t.Errorf("task %d: answer %+v, want code %d", task, a, want)
		}
	}
	r.push(id, ccm.TaskHardwareInventory)
	eventually(t, "answer", r.answers)
	go func() {
		for r.count("MP_HinvEndpoint") < 2 || r.count("MP_PolicyManager") <= before {
			select {
			case <-t.Context().Done():
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
		inventories <- struct{}{}
	}()
	eventually(t, "second inventory and policy", inventories)

	// Several tasks at once are all answered.
	for range 3 {
		r.push(id, ccm.TaskTest)
	}
	for range 3 {
		eventually(t, "answer to each", r.answers)
	}

	// The channel comes back after the instance that held it went away.
	kill()
	r.push(id, ccm.TaskTest)
	eventually(t, "answer through the other instance", r.answers)
}

// TestRunMoves takes a running client from the intranet to the internet.
func TestRunMoves(t *testing.T) {
	r := newRig(t)
	mp, kill := r.serve(r.inside(), mpName)
	gw, _ := r.serve(r.gateway(), gatewayName)
	cfg := r.config(t, to(t, mpName, mp), to(t, gatewayName, gw), opencmg.ConnectTo{FromHost: mpName, FromPort: "10123", ToHost: "127.0.0.1", ToPort: "1"})
	cfg.Intervals.Retry = 10 * time.Millisecond
	c := create(t, cfg, tokenWords+" /mp:"+mpName)
	start(t, c)
	id := eventually(t, "sign-in inside", r.signedIn)
	if got := c.Status().Location; got != client.CurrentlyIntranet {
		t.Errorf("location %q", got)
	}
	kill()
	c.NetworkChanged()
	var again opencmg.ClientID
	for again != id || c.Status().Location != client.CurrentlyInternet {
		again = eventually(t, "sign-in outside", r.signedIn)
	}
}

// TestCMGFQDNs gives a client only the fallback of cmg-behaviour K5.
func TestCMGFQDNs(t *testing.T) {
	r := newRig(t)
	addr, _ := r.serve(r.gateway(), gatewayName)
	c := create(t, r.config(t, to(t, gatewayName, addr)), "CMGFQDNS=https://"+base+" /regtoken:"+bulkToken)
	if _, err := c.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := c.Status(); st.Site != site || st.Gateway != base {
		t.Errorf("status %+v", st)
	}
}

// TestRenewal has a token reach its renewal time.
func TestRenewal(t *testing.T) {
	r := newRig(t)
	addr, _ := r.serve(r.gateway(), gatewayName)
	cfg := r.config(t, to(t, gatewayName, addr))
	now := time.Now()
	cfg.Now = func() time.Time { return now }
	c := create(t, cfg, tokenWords)
	if _, err := c.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	ok(t)(c.Token(t.Context()))
	if n := r.count("MP_TokenManager"); n != 1 {
		t.Errorf("%d token requests before renewal is due", n)
	}
	now = now.Add(3 * time.Hour) // of 8; renewed after a third
	ok(t)(c.Token(t.Context()))
	if s := r.seen(); s[len(s)-1] != "MP_TokenManager client signed=true" {
		t.Errorf("last call %q, want a renewal by the client's own token", s[len(s)-1])
	}
}

// TestRenewedCertificate replaces the PKI certificate under a running client.
func TestRenewedCertificate(t *testing.T) {
	r := newRig(t)
	addr, _ := r.serve(r.gateway(), gatewayName)
	cfg := r.config(t, to(t, gatewayName, addr))
	cfg.CertFile, cfg.KeyFile = r.pkiFiles(t, time.Hour)
	shown := make(chan string, 256)
	r.refuse = func(req *http.Request) (int, string) {
		select {
		case shown <- peer(req):
		default:
		}
		return 0, ""
	}
	c := create(t, cfg, plainWords)
	start(t, c)
	id := eventually(t, "sign-in", r.signedIn)
	old := eventually(t, "request", shown)

	cert, key := r.pkiFiles(t, 2*time.Hour)
	for from, to := range map[string]string{key: cfg.KeyFile, cert: cfg.CertFile} {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	later := time.Now().Add(time.Minute)
	os.Chtimes(cfg.CertFile, later, later)
	r.push(id, ccm.TaskMachinePolicy)
	for eventually(t, "request with the new certificate", shown) == old {
	}
}
