package client_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/client"
)

func words(t *testing.T, s string) *client.Installation {
	t.Helper()
	in, err := client.ParseInstall(strings.Fields(s))
	if err != nil {
		t.Fatal(err)
	}
	return in
}

const (
	tokenWords = "CCMHOSTNAME=" + base + " SMSSITECODE=LAB /regtoken:" + bulkToken
	plainWords = "CCMHOSTNAME=" + base + " SMSSITECODE=LAB"
)

func create(t *testing.T, cfg client.Config, s string) *client.Client {
	t.Helper()
	c, err := client.Create(cfg, words(t, s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func ok(t *testing.T) func(client.StepResult, error) client.StepResult {
	return func(r client.StepResult, err error) client.StepResult {
		t.Helper()
		if err != nil || !r.OK {
			t.Fatalf("step %s: %v (%+v)", r.Step, err, r)
		}
		return r
	}
}

func entraSource(context.Context, client.EntraTokenRequest) (string, error) { return "entra", nil }

// TestEveryAuth takes a client of each kind through every act.
func TestEveryAuth(t *testing.T) {
	tests := map[string]struct {
		auth     client.Auth
		words    string
		change   func(t *testing.T, r *rig, c *client.Config)
		approval ccm.ApprovalStatus
		want     []string // calls, policies left out
	}{
		"pki": {
			auth: client.AuthPKI, words: plainWords, approval: ccm.Approved,
			change: func(t *testing.T, r *rig, c *client.Config) {
				c.CertFile, c.KeyFile = r.pkiFiles(t, time.Hour)
				c.Entra = client.EntraTokenFunc(entraSource) // PKI wins
			},
			want: []string{"MP_ClientRegistration pki signed=false", "sts pki", "MP_LocationManager pki signed=true", "MP_LocationManager pki signed=true", "MP_PolicyManager pki signed=true", "MP_DdrEndpoint pki signed=true", "MP_HinvEndpoint pki signed=true", "MP_RelayEndpoint pki signed=true"},
		},
		"entra": {
			auth: client.AuthEntra, words: plainWords + " AADTENANTID=" + tenant, approval: ccm.ApprovedByEntra,
			change: func(t *testing.T, r *rig, c *client.Config) {
				c.Entra = client.EntraTokenFunc(func(_ context.Context, q client.EntraTokenRequest) (string, error) {
					if diff := cmp.Diff(client.EntraTokenRequest{TenantID: tenant, ClientAppID: "app", ResourceURI: resource}, q); diff != "" {
						t.Errorf("Entra was asked for (-want +got):\n%s", diff)
					}
					return "entra", nil
				})
			},
			want: []string{"sts entra", "MP_ClientRegistration ccm signed=false", "sts entra", "MP_LocationManager ccm signed=true", "MP_LocationManager ccm signed=true", "MP_PolicyManager ccm signed=true", "MP_DdrEndpoint ccm signed=true", "MP_HinvEndpoint ccm signed=true", "MP_RelayEndpoint ccm signed=true"},
		},
		"token": {
			auth: client.AuthToken, words: tokenWords, approval: ccm.Approved,
			change: func(t *testing.T, r *rig, c *client.Config) {
				c.CertFile, c.KeyFile = r.pkiFiles(t, -time.Minute) // ran out, so the token counts
			},
			want: []string{"MP_ClientRegistration bulk signed=false", "MP_TokenManager bulk signed=true", "MP_LocationManager client signed=true", "MP_LocationManager client signed=true", "MP_PolicyManager client signed=true", "MP_DdrEndpoint client signed=true", "MP_HinvEndpoint client signed=true", "MP_RelayEndpoint client signed=true"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.approval = tc.approval
			addr, _ := r.serve(r.gateway(), gatewayName)
			cfg := r.config(t, to(t, gatewayName, addr))
			tc.change(t, r, &cfg)
			c := create(t, cfg, tc.words)
			if got := c.Auth(); got != tc.auth {
				t.Fatalf("auth %s, want %s", got, tc.auth)
			}
			results, err := c.Install(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var steps []string
			for _, s := range results {
				steps = append(steps, s.Step)
				if !s.OK || s.CorrelationID == "" || s.Milliseconds <= 0 {
					t.Errorf("result %+v", s)
				}
			}
			if diff := cmp.Diff([]string{"register", "token", "location", "policy"}, steps); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			ok(t)(c.Heartbeat(t.Context()))
			ok(t)(c.Inventory(t.Context()))
			ok(t)(c.StateMessage(t.Context()))
			calls := slices.DeleteFunc(r.seen(), func(s string) bool { return strings.HasPrefix(s, "policy ") })
			if diff := cmp.Diff(tc.want, calls); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
			if n := len(r.seen()) - len(calls); n != 2 {
				t.Errorf("%d policy bodies downloaded, want 2", n)
			}
			// A second look downloads nothing again.
			if res := ok(t)(c.Policy(t.Context())); !strings.Contains(res.Detail, "2 policies, 0 new") {
				t.Errorf("second policy: %s", res.Detail)
			}
			if v, ok := c.Setting("ccm_clientagentconfig", "brandingtitle"); !ok || v != "IT" {
				t.Errorf("setting: %q, %t", v, ok)
			}

			st := c.Status()
			if st.Location != client.CurrentlyInternet || st.Site != site || st.Policies != 2 || st.Gateway != base || st.ClientID == "" {
				t.Errorf("status %+v", st)
			}
			if s := st.String(); !strings.Contains(s, "Currently Internet") || !strings.Contains(s, string(st.ClientID)) {
				t.Errorf("status text:\n%s", s)
			}
			// The next process finds it all again, without the words.
			again, err := client.Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if diff := cmp.Diff(st, again.Status()); diff != "" {
				t.Errorf("status after reopening (-before +after):\n%s", diff)
			}
			state, _ := os.ReadFile(filepath.Join(cfg.StateDir, "state.json"))
			if strings.Contains(string(state), bulkToken) {
				t.Error("the bulk token is still kept")
			}
		})
	}
}

func TestReportsArrive(t *testing.T) {
	r := newRig(t)
	addr, _ := r.serve(r.gateway(), gatewayName)
	cfg := r.config(t, to(t, gatewayName, addr))
	for range 2_000 {
		cfg.Host.Software = append(cfg.Host.Software, client.Software{Name: strings.Repeat("n", 2400), Version: "1", Publisher: "p"})
	}
	c := create(t, cfg, tokenWords)
	ok(t)(c.Register(t.Context()))
	ok(t)(c.Token(t.Context()))
	ok(t)(c.Heartbeat(t.Context()))
	ok(t)(c.Inventory(t.Context())) // too large for a message
	ok(t)(c.StateMessage(t.Context(), ccm.StateMessage{StateID: 3, TopicType: 800}, ccm.StateMessage{StateID: 4, TopicType: 800}))
	ok(t)(c.StateMessage(t.Context()))
	if len(r.reports) != 4 {
		t.Fatalf("%d reports", len(r.reports))
	}
	ddr, hinv := r.reports[0], r.reports[1]
	if ddr.ActionID != ccm.ActionDiscovery || ddr.NetBIOSName != "PC01" || len(ddr.Instances) != 9 {
		t.Errorf("heartbeat %+v", ddr)
	}
	if hinv.ActionID != ccm.ActionHardware || len(hinv.Instances) != 2_004 {
		t.Errorf("inventory with %d instances", len(hinv.Instances))
	}
	var serials []int
	for _, rep := range r.reports[2:] {
		for _, s := range rep.States {
			serials = append(serials, s.SerialNumber)
		}
	}
	if diff := cmp.Diff([]int{1, 2, 3}, serials); diff != "" {
		t.Errorf("serial numbers (-want +got):\n%s", diff)
	}
}

// TestEntraTenantFromToken sets up by Entra with no word but where and which
// site (cmg-behaviour K20).
func TestEntraTenantFromToken(t *testing.T) {
	claims := base64.RawURLEncoding.EncodeToString([]byte(`{"tid":"` + strings.ToUpper(tenant) + `"}`))
	for name, test := range map[string]struct{ token, want string }{
		"tenant":    {"e30." + claims + ".sig", ""},
		"no claims": {"opaque", "AADTENANTID="},
		"nonsense":  {"a.!.c", "AADTENANTID="},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.tokens[test.token] = tokenKind{kind: "entra"}
			r.approval = ccm.ApprovedByEntra
			addr, _ := r.serve(r.gateway(), gatewayName)
			cfg := r.config(t, to(t, gatewayName, addr))
			cfg.Entra = client.EntraTokenFunc(func(context.Context, client.EntraTokenRequest) (string, error) { return test.token, nil })
			c := create(t, cfg, plainWords)
			_, err := c.Install(t.Context())
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("install: %v, want %q", err, test.want)
			}
		})
	}
}

func TestPendingAndApproval(t *testing.T) {
	r := newRig(t)
	r.approval = ccm.ApprovalPending
	addr, _ := r.serve(r.gateway(), gatewayName)
	cfg := r.config(t, to(t, gatewayName, addr))
	cfg.Intervals.Confirm = time.Millisecond
	c := create(t, cfg, tokenWords)
	if res := ok(t)(c.Register(t.Context())); !strings.Contains(res.Detail, "approval pending") {
		t.Errorf("detail %q", res.Detail)
	}
	// Nobody decides while the client asks.
	r.pending = 100
	if res := ok(t)(c.Register(t.Context())); !strings.Contains(res.Detail, "approval pending") {
		t.Errorf("still pending: detail %q", res.Detail)
	}
	if asked := 100 - r.pending; asked < 2 || asked > 20 {
		t.Errorf("the client asked %d times", asked)
	}
	r.pending = 0
	if _, err := c.Policy(t.Context()); !errors.Is(err, opencmg.Forbidden) || !strings.Contains(err.Error(), "approve") {
		t.Errorf("policy before approval: %v", err)
	}
	r.approval = ccm.Approved
	ok(t)(c.Register(t.Context()))
	ok(t)(c.Token(t.Context()))
	ok(t)(c.Policy(t.Context()))
}

func TestNotRegistered(t *testing.T) {
	r := newRig(t)
	c := create(t, r.config(t), plainWords)
	for name, act := range map[string]func(context.Context) (client.StepResult, error){"policy": c.Policy, "token": c.Token, "heartbeat": c.Heartbeat, "notify": c.NotifyTest} {
		if res, err := act(t.Context()); !errors.Is(err, opencmg.Conflict) || res.OK || res.Error == "" {
			t.Errorf("%s: %v, %+v", name, err, res)
		}
	}
}

// TestAddresses kills one of two instances: no act may fail.
func TestAddresses(t *testing.T) {
	r := newRig(t)
	one, kill := r.serve(r.gateway(), gatewayName)
	two, _ := r.serve(r.gateway(), gatewayName)
	c := create(t, r.config(t, to(t, gatewayName, one), to(t, gatewayName, two)), tokenWords)
	if _, err := c.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	kill()
	for range 4 {
		ok(t)(c.Policy(t.Context()))
		ok(t)(c.Heartbeat(t.Context()))
	}
}

// TestInstanceWithoutTunnel has one instance answer 503 with a long
// Retry-After: the other one is asked at once.
func TestInstanceWithoutTunnel(t *testing.T) {
	r := newRig(t)
	one, _ := r.serve(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { refused(w, 503, "Service Unavailable") }), gatewayName)
	two, _ := r.serve(r.gateway(), gatewayName)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for range 4 {
		c := create(t, r.config(t, to(t, gatewayName, one), to(t, gatewayName, two)), tokenWords)
		if _, err := c.Install(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTwoProcesses lets two clients on the same directory change it in turn.
func TestTwoProcesses(t *testing.T) {
	r := newRig(t)
	addr, _ := r.serve(r.gateway(), gatewayName)
	cfg := r.config(t, to(t, gatewayName, addr))
	one := create(t, cfg, tokenWords)
	two, err := client.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer two.Close()
	if _, err := one.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	two.Locate(t.Context()) // writes, and so learns of the registration
	if got, want := two.Status().ClientID, one.Status().ClientID; got != want || got == "" {
		t.Errorf("the other process knows %q, want %q", got, want)
	}
	os.RemoveAll(cfg.StateDir)
	if _, err := one.Heartbeat(t.Context()); !errors.Is(err, opencmg.NotFound) {
		t.Errorf("the state directory is gone: %v", err)
	}
}

func TestRetries(t *testing.T) {
	r := newRig(t)
	left := 2
	r.refuse = func(*http.Request) (int, string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if left--; left >= 0 {
			return 502, "CMGConnector_BadGateway"
		}
		return 0, ""
	}
	addr, _ := r.serve(r.gateway(), gatewayName)
	c := create(t, r.config(t, to(t, gatewayName, addr)), tokenWords)
	ok(t)(c.Register(t.Context()))
}

// TestExpiredCCMToken has the gateway refuse a token that the client believes
// in: it gets another one by itself.
func TestExpiredCCMToken(t *testing.T) {
	r := newRig(t)
	r.approval = ccm.ApprovedByEntra
	addr, _ := r.serve(r.gateway(), gatewayName)
	cfg := r.config(t, to(t, gatewayName, addr))
	cfg.Entra = client.EntraTokenFunc(entraSource)
	c := create(t, cfg, plainWords+" AADTENANTID="+tenant)
	if _, err := c.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	for token, k := range r.tokens {
		if k.kind == "ccm" {
			delete(r.tokens, token)
		}
	}
	r.mu.Unlock()
	ok(t)(c.Policy(t.Context()))
}

func TestRefusals(t *testing.T) {
	tests := map[string]struct {
		status int
		reason string
		kind   opencmg.Kind
	}{
		"token":       {401, "CMGService_Invalid_Token", opencmg.Unauthorized},
		"certificate": {403, "CMGConnector_Clientcertificaterequired", opencmg.Forbidden},
		"not there":   {404, "Not Found", opencmg.NotFound},
		"too large":   {413, "Request Entity Too Large", opencmg.TooLarge},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.refuse = func(*http.Request) (int, string) { return tc.status, tc.reason }
			addr, _ := r.serve(r.gateway(), gatewayName)
			c := create(t, r.config(t, to(t, gatewayName, addr)), tokenWords)
			res, err := c.Register(t.Context())
			var h *client.HTTPError
			if !errors.As(err, &h) || h.StatusCode != tc.status || h.StatusText != tc.reason || h.CorrelationID != "corr-1" || !errors.Is(err, tc.kind) {
				t.Errorf("got %v (%+v)", err, h)
			}
			if res.OK || res.CorrelationID != "corr-1" || !strings.Contains(res.Error, tc.reason) {
				t.Errorf("result %+v", res)
			}
		})
	}
}

func TestTokenErrors(t *testing.T) {
	r := newRig(t)
	addr, _ := r.serve(r.gateway(), gatewayName)
	c := create(t, r.config(t, to(t, gatewayName, addr)), plainWords)
	if _, err := c.Register(t.Context()); !errors.Is(err, opencmg.Unauthorized) || !strings.Contains(err.Error(), "/regtoken:") {
		t.Errorf("a device without any proof: %v", err)
	}

	now := time.Now()
	cfg := r.config(t, to(t, gatewayName, addr))
	cfg.Now = func() time.Time { return now }
	c = create(t, cfg, tokenWords)
	if _, err := c.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	now = now.Add(9 * time.Hour)
	if _, err := c.Policy(t.Context()); !errors.Is(err, opencmg.Unauthorized) || !strings.Contains(err.Error(), "ran out") {
		t.Errorf("a token past its end: %v", err)
	}
}

func TestUntrustedGateway(t *testing.T) {
	r, other := newRig(t), newRig(t)
	addr, _ := other.serve(other.gateway(), gatewayName)
	c := create(t, r.config(t, to(t, gatewayName, addr)), tokenWords)
	if _, err := c.Register(t.Context()); !errors.Is(err, opencmg.Unauthorized) || !strings.Contains(err.Error(), "CA file") {
		t.Errorf("got %v", err)
	}
}

func TestWrongSite(t *testing.T) {
	r := newRig(t)
	addr, _ := r.serve(r.gateway(), gatewayName)
	c := create(t, r.config(t, to(t, gatewayName, addr)), strings.Replace(tokenWords, "=LAB", "=XYZ", 1))
	ok(t)(c.Register(t.Context()))
	ok(t)(c.Token(t.Context()))
	if _, err := c.Location(t.Context()); !errors.Is(err, opencmg.Conflict) {
		t.Errorf("got %v", err)
	}
}

func TestWhere(t *testing.T) {
	r := newRig(t)
	addr, kill := r.serve(r.inside(), mpName)
	gw, _ := r.serve(r.gateway(), gatewayName)
	cfg := r.config(t, to(t, mpName, addr), to(t, gatewayName, gw))
	c := create(t, cfg, tokenWords+" /mp:"+mpName)
	if got := c.Locate(t.Context()); got != client.CurrentlyIntranet {
		t.Errorf("inside: %s", got)
	}
	if _, err := c.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := c.Status().ManagementPoint; got != "https://"+mpName {
		t.Errorf("management point %q", got)
	}
	if s := r.seen(); !slices.Contains(s, "MP_PolicyManager inside signed=true") {
		t.Errorf("calls %v", s)
	}
	kill()
	if got := c.Locate(t.Context()); got != client.CurrentlyInternet {
		t.Errorf("outside: %s", got)
	}
	ok(t)(c.Token(t.Context())) // still the bulk token's turn
	ok(t)(c.Policy(t.Context()))

	cfg.StateDir = filepath.Join(t.TempDir(), "always")
	always := create(t, cfg, tokenWords+" CCMALWAYSINF=1 /mp:"+mpName)
	if got := always.Locate(t.Context()); got != client.CurrentlyInternet {
		t.Errorf("CCMALWAYSINF: %s", got)
	}
}
