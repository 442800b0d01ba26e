package sitedb_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/sitedb"
)

func TestOperations(t *testing.T) { onEachEngine(t, testOperations) }

func testOperations(t *testing.T, e engine) {
	db, clock := e.open(t)
	ctx := t.Context()
	put := func(o sitedb.Operation) (stored sitedb.Operation, err error) {
		err = db.Change(ctx, "put", func(tx *sitedb.Tx) error {
			stored, err = tx.PutOperation(o)
			return err
		})
		return stored, err
	}
	made, err := put(sitedb.Operation{Kind: "deploy", SubjectKind: "gateway", SubjectID: "1", State: sitedb.OperationCreated, Account: "admin"})
	if err != nil || made.ID == "" {
		t.Fatalf("%+v, %v", made, err)
	}
	if got, err := db.Operation(ctx, made.ID); err != nil || !cmp.Equal(got, made) {
		t.Errorf("%s, %v", cmp.Diff(made, got), err)
	}
	clock.advance(time.Second)
	if err := db.AppendOperation(ctx, made.ID, "network", "Make the network.", 10); err != nil {
		t.Fatal(err)
	}
	clock.advance(time.Second)
	if err := db.AppendOperation(ctx, made.ID, "instances", "Start the instances.", 50); err != nil {
		t.Fatal(err)
	}
	got, err := db.Operation(ctx, made.ID)
	want := made
	want.State, want.Step, want.Text, want.Percent, want.Changed = sitedb.OperationInProgress, "instances", "Start the instances.", 50, start.Add(2*time.Second)
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("%s, %v", cmp.Diff(want, got), err)
	}
	steps, err := db.OperationLog(ctx, made.ID)
	if d := cmp.Diff([]sitedb.OperationStep{{start.Add(time.Second), "network", 10, "Make the network."}, {start.Add(2 * time.Second), "instances", 50, "Start the instances."}}, steps); d != "" || err != nil {
		t.Error(d, err)
	}

	got.State, got.Error = sitedb.OperationFailed, json.RawMessage(`{"code":"SkuNotAvailable"}`)
	if got, err = put(got); err != nil || !got.State.Ended() || !got.Created.Equal(start) {
		t.Errorf("%+v, %v", got, err)
	}
	if again, err := db.Operation(ctx, made.ID); err != nil || !cmp.Equal(got, again) {
		t.Errorf("%s, %v", cmp.Diff(got, again), err)
	}
	wantKind(t, db.AppendOperation(ctx, made.ID, "x", "", 1), opencmg.Conflict)
	wantKind(t, db.AppendOperation(ctx, "none", "x", "", 1), opencmg.NotFound)
	_, err = db.Operation(ctx, "none")
	wantKind(t, err, opencmg.NotFound)
	for _, bad := range []sitedb.Operation{{State: "odd"}, {State: sitedb.OperationCreated, Percent: 101}, {State: sitedb.OperationCreated, Error: json.RawMessage("{")}} {
		_, err := put(bad)
		wantKind(t, err, opencmg.Invalid)
	}

	clock.advance(time.Hour)
	other, err := put(sitedb.Operation{ID: "mine", Kind: "stop", SubjectKind: "gateway", SubjectID: "2", State: sitedb.OperationInProgress})
	if err != nil || other.ID != "mine" {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		filter sitedb.OperationFilter
		limit  int
		want   []string
	}{
		"all":     {sitedb.OperationFilter{}, 10, []string{"mine", made.ID}},
		"limit":   {sitedb.OperationFilter{}, 1, []string{"mine"}},
		"kind":    {sitedb.OperationFilter{Kind: "deploy"}, 10, []string{made.ID}},
		"subject": {sitedb.OperationFilter{SubjectKind: "gateway", SubjectID: "2"}, 10, []string{"mine"}},
		"account": {sitedb.OperationFilter{Account: "admin"}, 10, []string{made.ID}},
		"state":   {sitedb.OperationFilter{States: []sitedb.OperationState{sitedb.OperationCreated, sitedb.OperationInProgress}}, 10, []string{"mine"}},
	} {
		list, err := db.Operations(ctx, c.filter, c.limit)
		var ids []string
		for _, o := range list {
			ids = append(ids, o.ID)
		}
		if d := cmp.Diff(c.want, ids); d != "" || err != nil {
			t.Errorf("%s: %s, %v", name, d, err)
		}
	}
	// The log keeps the latest thousand.
	change(t, db, func(tx *sitedb.Tx) error {
		for i := range 1005 {
			if err := tx.AppendOperation("mine", fmt.Sprint(i), "", 0); err != nil {
				return err
			}
		}
		return nil
	})
	if steps, err := db.OperationLog(ctx, "mine"); err != nil || len(steps) != 1000 || steps[999].Step != "1004" {
		t.Errorf("%d steps, %v", len(steps), err)
	}
	if n, err := db.TrimOperations(ctx, clock.Now().Add(time.Hour)); err != nil || n != 1 {
		t.Errorf("trimmed %d, %v", n, err)
	}
	if steps, err := db.OperationLog(ctx, made.ID); err != nil || len(steps) != 0 {
		t.Errorf("log of a removed operation: %v, %v", steps, err)
	}
}

func TestSiteMessages(t *testing.T) { onEachEngine(t, testSiteMessages) }

func testSiteMessages(t *testing.T, e engine) {
	db, clock := e.open(t)
	ctx := t.Context()
	first := sitedb.StatusMessage{Component: "CLOUD_SERVICES_MANAGER", Severity: sitedb.SeverityInfo, MessageID: 9400, Account: "admin", SubjectKind: "gateway", SubjectID: "1",
		Text: "made \x00 \xff", Properties: map[string]string{"name": "a", "region": "b"}}
	change(t, db, func(tx *sitedb.Tx) error { return tx.AddStatusMessage(first) })
	for i, severity := range []sitedb.Severity{sitedb.SeverityWarning, sitedb.SeverityError, sitedb.SeverityInfo} {
		clock.advance(time.Hour)
		if err := db.AddStatusMessage(ctx, sitedb.StatusMessage{Component: "OTHER", Severity: severity, MessageID: i}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.AddStatusMessage(ctx, sitedb.StatusMessage{At: start.Add(-time.Hour), Component: "OTHER", Severity: sitedb.SeverityInfo, MessageID: 77}); err != nil {
		t.Fatal(err)
	}
	wantKind(t, db.AddStatusMessage(ctx, sitedb.StatusMessage{Severity: sitedb.SeverityCritical}), opencmg.Invalid)

	all, total, err := db.SiteMessages(ctx, sitedb.MessageFilter{}, 0, 10)
	if err != nil || total != 5 || len(all) != 5 {
		t.Fatalf("%d of %d, %v", len(all), total, err)
	}
	want := first
	want.ID, want.At, want.Text = all[4].ID, start, "made \uFFFD \uFFFD"
	if d := cmp.Diff(want, all[4]); d != "" {
		t.Error(d)
	}
	for name, c := range map[string]struct {
		filter        sitedb.MessageFilter
		offset, limit int
		want          []int
		total         int
	}{
		"page":      {sitedb.MessageFilter{}, 1, 2, []int{2, 1}, 5},
		"next page": {sitedb.MessageFilter{Before: all[2].ID}, 0, 10, []int{0, 9400}, 2},
		"time":      {sitedb.MessageFilter{From: start, To: start.Add(2 * time.Hour)}, 0, 10, []int{0, 9400}, 2},
		"component": {sitedb.MessageFilter{Component: "OTHER"}, 0, 1, []int{77}, 4},
		"severity":  {sitedb.MessageFilter{Severities: []sitedb.Severity{sitedb.SeverityWarning, sitedb.SeverityError}}, 0, 10, []int{1, 0}, 2},
		"subject":   {sitedb.MessageFilter{SubjectKind: "gateway", SubjectID: "1"}, 0, 10, []int{9400}, 1},
		"message":   {sitedb.MessageFilter{MessageID: 9400, Account: "admin"}, 0, 10, []int{9400}, 1},
		"nothing":   {sitedb.MessageFilter{Component: "' OR 1=1"}, 0, 10, nil, 0},
	} {
		list, total, err := db.SiteMessages(ctx, c.filter, c.offset, c.limit)
		var ids []int
		for _, m := range list {
			ids = append(ids, m.MessageID)
		}
		if d := cmp.Diff(c.want, ids); d != "" || err != nil || total != c.total {
			t.Errorf("%s: %s, %d in all, %v", name, d, total, err)
		}
	}
	if n, err := db.TrimSiteMessages(ctx, start.Add(time.Hour)); err != nil || n != 2 {
		t.Errorf("trimmed %d, %v", n, err)
	}
}
