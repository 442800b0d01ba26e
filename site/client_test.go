package site_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// swap sends requests to whatever site runs now.
type swap struct{ r *rig }

func (s swap) RoundTrip(req *http.Request) (*http.Response, error) {
	s.r.mu.Lock()
	c := s.r.c
	s.r.mu.Unlock()
	req = req.Clone(req.Context())
	req.URL.Host = strings.TrimPrefix(c.URL, "https://")
	return c.HTTP.Transport.RoundTrip(req)
}

// TestWaitAcrossRestart: a caller that follows an operation does not notice that
// the site was started again.
func TestWaitAcrossRestart(t *testing.T) {
	r := newRig(t)
	app := r.connect()
	reached, first := make(chan bool, 1), true
	goOn := make(chan bool)
	r.onStep = func(op, step string) {
		if op == "renew-secret" && first {
			first = false
			reached <- true
			<-goOn
		}
	}
	op := do[adminservice.Operation](r, "POST", "Applications/"+app.ID+"/renewSecret", adminservice.RenewSecret{SignIn: &deployer})
	<-reached
	c := &adminservice.Client{URL: "https://site.invalid", Token: r.c.Token, HTTP: &http.Client{Transport: swap{r}}}
	var steps []string
	waits, done := make(chan bool, 100), make(chan error, 1)
	go func() {
		op, err := c.Wait(t.Context(), op.ID, func(_ adminservice.Operation, l adminservice.OperationLog) {
			steps = append(steps, l.Step)
			waits <- true
		})
		if err == nil && op.State != adminservice.OperationCompleted {
			err = fmt.Errorf("%+v", op)
		}
		done <- err
	}()
	<-waits // it has the first line, and waits for the next
	r.c.HTTP.CloseIdleConnections()
	r.stop()
	close(goOn)
	<-r.done
	r.db.Close()
	old := r.c
	r.mu.Lock()
	r.start()
	r.mu.Unlock()
	if err := <-done; err != nil {
		t.Fatalf("%v\n%s", err, r.describe(op.ID))
	}
	if old == r.c || len(steps) < 3 || steps[0] != "secret" || steps[len(steps)-1] != "end" {
		t.Errorf("steps: %q", steps)
	}
}

func TestClientErrors(t *testing.T) {
	r := newRig(t)
	// A failed operation is an error with the cloud's own inside, told once.
	op := do[adminservice.Operation](r, "POST", "Applications/create", adminservice.CreateApplications{
		Environment: opencmg.AzureLab, TenantID: tenantID, ServerName: "a", ClientName: "b", SignIn: adminservice.SignIn{ClientID: deployerID, Secret: "wrong"},
	})
	failed, err := r.c.Wait(t.Context(), op.ID, nil)
	ce, ok := errors.AsType[*opencmg.CloudError](err)
	if !ok || !errors.Is(err, opencmg.Conflict) || failed.State != adminservice.OperationFailed || strings.Count(err.Error(), ce.Message) > 1 {
		t.Errorf("%v", err)
	}
	// Somebody else's certificate is not waited out.
	strange := &adminservice.Client{URL: r.c.URL, HTTP: &http.Client{Transport: &http.Transport{}}}
	_, err = strange.Wait(t.Context(), op.ID, nil)
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok || !errors.Is(err, opencmg.Invalid) {
		t.Errorf("%v", err)
	}
	// A site that is away is waited for until the caller gives up.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	away := &adminservice.Client{URL: "https://127.0.0.1:1", HTTP: http.DefaultClient}
	if _, err := away.Wait(ctx, op.ID, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if err := away.Do(t.Context(), "GET", "Site", nil, nil); !errors.Is(err, opencmg.Unavailable) {
		t.Errorf("%v", err)
	}
	if _, err := r.c.Wait(t.Context(), "missing", nil); !errors.Is(err, opencmg.NotFound) {
		t.Errorf("%v", err)
	}
	list, err := adminservice.List[adminservice.Account](t.Context(), r.c, "Accounts", map[string][]string{"$filter": {"role eq 'Full Administrator'"}})
	if err != nil || len(list) != 1 {
		t.Errorf("%v %v", list, err)
	}
	if s := fmt.Sprintf("%v %#v %+v", r.c.Token, r.c.Token, r.c); strings.Contains(s, string(r.c.Token)) {
		t.Error("a client shows its token")
	}
}

func TestProblemKinds(t *testing.T) {
	got := map[int]error{}
	want := map[int]error{
		400: opencmg.Invalid, 401: opencmg.Unauthorized, 403: opencmg.Forbidden, 404: opencmg.NotFound, 409: opencmg.Conflict, 412: opencmg.Stale,
		413: opencmg.TooLarge, 503: opencmg.Unavailable, 504: opencmg.Timeout, 500: nil,
	}
	for status := range want {
		got[status] = (&adminservice.ProblemError{Status: status}).Unwrap()
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b error) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if s := (&adminservice.ProblemError{Status: 500, Title: "Internal Server Error", CorrelationID: "abc"}).Error(); !strings.Contains(s, "500") || !strings.Contains(s, "abc") {
		t.Errorf("%q", s)
	}
}
