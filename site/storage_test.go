package site_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/azure"
	"github.com/opencmg/opencmg/sitedb"
)

// TestStorageKeys: a key is replaced after 180 days, the other one when nothing
// it signed is left, and machines can fetch the program at any time.
func TestStorageKeys(t *testing.T) {
	r := newRig(t)
	app := r.connect()
	r.finish(do[adminservice.Operation](r, "POST", "Gateways", r.newGateway()))
	d := &opencmg.Deployment{Name: "granitefalls", Environment: opencmg.AzureLab, ResourceGroup: "granitefalls", SubscriptionID: subscriptionID}
	link := func() string {
		t.Helper()
		value, _, err := r.azure(app).GetSecret(t.Context(), d, "service-sas")
		if err != nil {
			t.Fatal(err)
		}
		return string(value)
	}
	fetch := func(url string) int {
		t.Helper()
		res, err := r.http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	first := link()
	r.look("storage")
	if g := r.gateway(); !g.StorageKeysRotated.IsZero() || link() != first {
		t.Errorf("a key was replaced at once: %v", g.StorageKeysRotated)
	}
	r.wait(azure.ServiceLinkLife/2 + time.Hour)
	r.look("storage")
	second := link()
	if second == first || fetch(second) != http.StatusOK || fetch(first) != http.StatusOK {
		t.Error("the address of the program was not renewed at half its life, with overlap")
	}
	r.wait(azure.KeyLife - 4*24*time.Hour)
	r.look("storage")
	one := r.gateway().StorageKeysRotated
	if !one.IsZero() && r.now().Sub(one) > time.Hour {
		t.Errorf("replaced at %v", one)
	}
	for range 3 { // whatever was not due yet
		r.wait(azure.ServiceLinkLife/2 + time.Hour)
		current := link()
		r.look("storage")
		if fetch(current) != http.StatusOK && fetch(link()) != http.StatusOK {
			t.Errorf("a machine can not fetch the program; the gateway is %s", r.gateway().State)
		}
	}
	if one = r.gateway().StorageKeysRotated; one.IsZero() {
		t.Fatalf("no key was replaced after 180 days: %+v", r.gateway())
	}
	replaced := r.messages("of the storage account")
	if len(replaced) != 2 || !strings.Contains(replaced[0]+replaced[1], "key1") || !strings.Contains(replaced[0]+replaced[1], "key2") {
		t.Errorf("status messages: %q", replaced)
	}
	if fetch(first) == http.StatusOK {
		t.Error("an address that ran out still works")
	}
	// A stopped gateway keeps its storage, a deleted one has none.
	r.finish(do[adminservice.Operation](r, "POST", "Gateways/granitefalls/stop", nil))
	r.wait(azure.ServiceLinkLife/2 + time.Hour)
	before := link()
	r.look("storage")
	if link() == before {
		t.Error("a stopped gateway could not fetch its program when it starts")
	}
	r.finish(do[adminservice.Operation](r, "DELETE", "Gateways/granitefalls", nil))
	r.look("storage")
}

// TestStorageKeyProblems: a refusal of the cloud is said, and tried again.
func TestStorageKeyProblems(t *testing.T) {
	r := newRig(t)
	r.connect()
	r.finish(do[adminservice.Operation](r, "POST", "Gateways", r.newGateway()))
	fault, err := r.cloud.SetFault(labFault{Kind: "forbidden", Path: "listkeys"})
	if err != nil {
		t.Fatal(err)
	}
	r.wait(azure.KeyLife + azure.ServiceLinkLife)
	if err := r.s.Look(t.Context(), "storage"); err == nil || !strings.Contains(err.Error(), "granitefalls") || !strings.Contains(err.Error(), "AuthorizationFailed") {
		t.Errorf("got %v", err)
	}
	if err := r.cloud.ClearFault(fault); err != nil {
		t.Fatal(err)
	}
	r.look("storage")
	if r.gateway().StorageKeysRotated.IsZero() {
		t.Error("no key was replaced when the cloud allowed it again")
	}
}

// TestTrim: what is old is forgotten, and nothing else.
func TestTrim(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	var op sitedb.Operation
	err := r.db.Change(ctx, "plant", func(tx *sitedb.Tx) (err error) {
		op, err = tx.PutOperation(sitedb.Operation{Kind: "create", SubjectKind: "gateway", SubjectID: "1", State: sitedb.OperationCompleted})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.db.AddSamples(ctx, []sitedb.Sample{{Name: "x", Subject: "y", At: r.now(), Value: 1}}); err != nil {
		t.Fatal(err)
	}
	if err := r.db.AddStatusMessage(ctx, sitedb.StatusMessage{Severity: sitedb.SeverityInfo, Text: "an old message"}); err != nil {
		t.Fatal(err)
	}
	closed, _, err := r.db.RaiseAlert(ctx, sitedb.Alert{Kind: "closed", SubjectID: "1", Severity: sitedb.SeverityWarning, Text: "t"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.db.CloseAlert(ctx, "closed", "", "1"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.db.RaiseAlert(ctx, sitedb.Alert{Kind: "open", SubjectID: "1", Severity: sitedb.SeverityWarning, Text: "t"}); err != nil {
		t.Fatal(err)
	}
	began := r.now()
	left := func() (ops, samples, messages, alerts int) {
		t.Helper()
		r.look("trim")
		if _, err := r.db.Operation(ctx, op.ID); err == nil {
			ops = 1
		}
		s := must(r.db.Samples(ctx, "x", "y", began.Add(-time.Hour), r.now()))(t)
		list, _, err := r.db.Alerts(ctx, sitedb.AlertFilter{}, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range list {
			if a.ID == closed.ID || a.Kind == "open" {
				alerts++
			}
		}
		return ops, len(s), len(r.messages("an old message")), alerts
	}
	for _, tt := range []struct {
		after                          time.Duration
		ops, samples, messages, alerts int
	}{
		{89 * 24 * time.Hour, 1, 1, 1, 2}, {2 * 24 * time.Hour, 0, 1, 1, 2}, {15 * 24 * time.Hour, 0, 0, 1, 2}, {258 * 24 * time.Hour, 0, 0, 1, 2}, {2 * 24 * time.Hour, 0, 0, 0, 1},
	} {
		r.wait(tt.after)
		if ops, samples, messages, alerts := left(); ops != tt.ops || samples != tt.samples || messages != tt.messages || alerts != tt.alerts {
			t.Errorf("%v after the start: %d %d %d %d, want %+v", r.now().Sub(began).Round(time.Hour), ops, samples, messages, alerts, tt)
		}
	}
}
