package sitedb_test

import (
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/sitedb"
)

func TestBlockClient(t *testing.T) { onEachEngine(t, testBlockClient) }

func testBlockClient(t *testing.T, e engine) {
	db, clock := e.open(t)
	ctx := t.Context()
	c, _ := register(t, db, sitedb.Client{NetBIOSName: "PC1", Auth: opencmg.AuthEntra, TenantID: "t", DeviceID: "d", Approval: sitedb.ApprovedByEntra, Signing: certificate(t)})
	for _, id := range []string{"first", "second"} {
		if err := db.RecordToken(ctx, sitedb.Token{ID: id, Kind: opencmg.AuthClientToken, ClientID: c.ID, Issued: clock.Now(), Expires: clock.Now().AddDate(0, 3, 0)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.BlockToken(ctx, "second", true); err != nil {
		t.Fatal(err)
	}
	added, err := db.AddNotifications(ctx, []opencmg.ClientID{c.ID}, "{G}", 1, "")
	if err != nil || len(added) != 1 {
		t.Fatal(added, err)
	}
	block := func() (before sitedb.Client) {
		change(t, db, func(tx *sitedb.Tx) (err error) {
			before, err = tx.BlockClient(c.ID, `CORP\ada`, "stolen")
			return err
		})
		return before
	}
	if before := block(); before.Approval != sitedb.ApprovedByEntra {
		t.Errorf("before: %+v", before)
	}
	block() // twice is once
	got, err := db.Client(ctx, c.ID)
	if err != nil || got.Approval != sitedb.ApprovalRefused || got.BlockedBy != `CORP\ada` || got.BlockReason != "stolen" || !got.Blocked.Equal(clock.Now().UTC()) {
		t.Errorf("blocked: %+v, %v", got, err)
	}
	blocked := func(id string) bool {
		t.Helper()
		b, err := db.TokenBlocked(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if !blocked("first") || !blocked("second") {
		t.Error("a token of the blocked client counts")
	}
	if waiting, err := db.Waiting(ctx, c.ID); err != nil || len(waiting) != 0 {
		t.Errorf("a blocked client is to be notified: %+v, %v", waiting, err)
	}
	if ok, err := db.ClientTrusted(ctx, c.ID); err != nil || ok {
		t.Errorf("trusted: %v, %v", ok, err)
	}
	// A token that was on its way when the client was blocked.
	if err := db.RecordToken(ctx, sitedb.Token{ID: "late", Kind: opencmg.AuthCCMToken, ClientID: c.ID, Issued: clock.Now(), Expires: clock.Now().Add(time.Hour)}); err != nil || !blocked("late") {
		t.Errorf("the late token counts, %v", err)
	}
	// The same device with a new key, whatever ID it claims.
	for _, id := range []opencmg.ClientID{"", c.ID, "GUID:0BADC0DE-0000-4000-8000-000000000000"} {
		again, _ := register(t, db, sitedb.Client{ID: id, NetBIOSName: "PC1", Auth: opencmg.AuthEntra, TenantID: "t", DeviceID: "d", Approval: sitedb.ApprovedByEntra, Signing: certificate(t)})
		if again.ID != c.ID || again.Approval != sitedb.ApprovalRefused {
			t.Errorf("with a new key as %q it is %s, approval %d", id, again.ID, again.Approval)
		}
	}
	// Another device is nobody's business.
	if other, _ := register(t, db, sitedb.Client{Auth: opencmg.AuthEntra, TenantID: "t", DeviceID: "e", Approval: sitedb.ApprovedByEntra, Signing: certificate(t)}); !other.Approval.Trusted() {
		t.Errorf("another device: %+v", other)
	}

	readmit := func() {
		change(t, db, func(tx *sitedb.Tx) error { _, err := tx.ReadmitClient(c.ID); return err })
	}
	readmit()
	readmit()
	if got, err := db.Client(ctx, c.ID); err != nil || got.Approval != sitedb.ApprovedByEntra || !got.Blocked.IsZero() || got.BlockedBy != "" || got.BlockReason != "" {
		t.Errorf("readmitted: %+v, %v", got, err)
	}
	if blocked("first") || !blocked("second") {
		t.Errorf("after readmission: first blocked %v, second, which was blocked by itself, %v", blocked("first"), blocked("second"))
	}
	err = db.Change(ctx, "block", func(tx *sitedb.Tx) error { _, err := tx.BlockClient("GUID:NOBODY", "", ""); return err })
	wantKind(t, err, opencmg.NotFound)
	err = db.Change(ctx, "readmit", func(tx *sitedb.Tx) error { _, err := tx.ReadmitClient("GUID:NOBODY"); return err })
	wantKind(t, err, opencmg.NotFound)
}

// A client that waited when it was blocked is let in by being readmitted.
func TestReadmitPendingClient(t *testing.T) { onEachEngine(t, testReadmitPendingClient) }

func testReadmitPendingClient(t *testing.T, e engine) {
	db, _ := e.open(t)
	c, _ := register(t, db, sitedb.Client{Signing: certificate(t)})
	change(t, db, func(tx *sitedb.Tx) error { _, err := tx.BlockClient(c.ID, "", ""); return err })
	change(t, db, func(tx *sitedb.Tx) error { _, err := tx.ReadmitClient(c.ID); return err })
	if got, err := db.Client(t.Context(), c.ID); err != nil || got.Approval != sitedb.Approved {
		t.Errorf("%+v, %v", got, err)
	}
	if err := db.PolicyRequested(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	if got, err := db.Client(t.Context(), c.ID); err != nil || got.LastPolicy.IsZero() || !got.LastSeen.Equal(got.LastPolicy) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestClientOperations(t *testing.T) { onEachEngine(t, testClientOperations) }

func testClientOperations(t *testing.T, e engine) {
	db, clock := e.open(t)
	ctx := t.Context()
	var ids []opencmg.ClientID
	for range 3 {
		c, _ := register(t, db, sitedb.Client{Approval: sitedb.Approved, Signing: certificate(t)})
		ids = append(ids, c.ID)
	}
	pending, _ := register(t, db, sitedb.Client{Signing: certificate(t)})
	notify := func(to ...opencmg.ClientID) (op sitedb.ClientOperation, err error) {
		err = db.Change(ctx, "notify", func(tx *sitedb.Tx) (err error) {
			op, err = tx.NotifyClients(sitedb.ClientOperation{TaskType: 1001, Param: "p", Target: "all", Account: "ada"}, "{G}", to)
			return err
		})
		return op, err
	}
	op, err := notify(append(ids, pending.ID, "GUID:NOBODY", ids[0])...)
	if err != nil || op.Clients != 3 {
		t.Fatalf("%+v, %v", op, err)
	}
	if _, err := notify(pending.ID); err == nil {
		t.Error("a client that waits for its approval is notified")
	}
	if _, err := notify(); err == nil {
		t.Error("nobody is notified")
	}
	if waiting, err := db.WaitingClients(ctx, 10); err != nil || len(waiting) != 3 {
		t.Errorf("waiting: %v, %v", waiting, err)
	}
	list, err := db.OperationNotifications(ctx, op.ID, 0, 10)
	if err != nil || len(list) != 3 {
		t.Fatal(list, err)
	}
	for _, n := range list[:2] {
		if err := db.Delivered(ctx, n.PushID); err != nil {
			t.Fatal(err)
		}
	}
	for i, n := range list[:2] {
		if _, err := db.Answered(ctx, n.ClientID, n.PushID, i); err != nil {
			t.Fatal(err)
		}
	}
	if waiting, err := db.WaitingClients(ctx, 10); err != nil || len(waiting) != 1 || waiting[0] != list[2].ClientID {
		t.Errorf("waiting: %v, %v", waiting, err)
	}
	got, err := db.ClientOperation(ctx, op.ID)
	if err != nil || got.Delivered != 2 || got.Answered != 2 || got.Failed != 1 || got.Account != "ada" || got.Param != "p" || got.TaskType != 1001 {
		t.Errorf("%+v, %v", got, err)
	}
	second, err := notify(ids[0])
	if err != nil {
		t.Fatal(err)
	}
	if list, total, err := db.ClientOperations(ctx, "", 1, 10); err != nil || total != 2 || len(list) != 1 || list[0].ID != op.ID {
		t.Errorf("%+v, %d, %v", list, total, err)
	}
	change(t, db, func(tx *sitedb.Tx) error { return tx.CancelClientOperation(op.ID, "bob") })
	if got, err = db.ClientOperation(ctx, op.ID); err != nil || got.Cancelled.IsZero() || got.CancelledBy != "bob" {
		t.Errorf("%+v, %v", got, err)
	}
	if waiting, err := db.Waiting(ctx, list[2].ClientID); err != nil || len(waiting) > 1 || len(waiting) == 1 && waiting[0].Operation != second.ID {
		t.Errorf("cancelled, and still waiting: %+v, %v", waiting, err)
	}
	change(t, db, func(tx *sitedb.Tx) error { return tx.DeleteClientOperation(op.ID) })
	_, err = db.ClientOperation(ctx, op.ID)
	wantKind(t, err, opencmg.NotFound)
	if list, err := db.OperationNotifications(ctx, op.ID, 0, 10); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err := db.ClientNotifications(ctx, ids[0], 10); err != nil || len(list) != 1 || list[0].Operation != second.ID {
		t.Errorf("%+v, %v", list, err)
	}
	clock.advance(time.Hour)
	if n, err := db.TrimClientOperations(ctx, clock.Now()); err != nil || n != 1 {
		t.Errorf("trimmed %d, %v", n, err)
	}
	for _, do := range []func(*sitedb.Tx) error{
		func(tx *sitedb.Tx) error { return tx.CancelClientOperation(op.ID, "") },
		func(tx *sitedb.Tx) error { return tx.DeleteClientOperation(op.ID) },
		func(tx *sitedb.Tx) error { return tx.DeleteClientOperation(0) },
	} {
		wantKind(t, db.Change(ctx, "x", do), opencmg.NotFound)
	}
}

func TestSiteTokens(t *testing.T) { onEachEngine(t, testSiteTokens) }

func testSiteTokens(t *testing.T, e engine) {
	db, clock := e.open(t)
	ctx := t.Context()
	c, _ := register(t, db, sitedb.Client{NetBIOSName: "PC1", Signing: certificate(t)})
	now := clock.Now()
	for i, tok := range []sitedb.Token{
		{ID: "bulk", Kind: opencmg.AuthBulkToken},
		{ID: "a", Kind: opencmg.AuthClientToken, ClientID: c.ID},
		{ID: "b", Kind: opencmg.AuthCCMToken, ClientID: c.ID},
		{ID: "c", Kind: opencmg.AuthCCMToken, ClientID: "GUID:GONE"},
	} {
		tok.Issued, tok.Expires = now.Add(time.Duration(i)*time.Minute), now.Add(time.Hour)
		if err := db.RecordToken(ctx, tok); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.BlockToken(ctx, "B", true); err != nil {
		t.Fatal(err)
	}
	yes, no := true, false
	ids := func(f sitedb.TokenFilter, offset, limit int) (s string) {
		t.Helper()
		list, more, err := db.SiteTokens(ctx, f, offset, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, tok := range list {
			s += tok.ID
			if (tok.Name == "PC1") != (tok.ClientID == c.ID) {
				t.Errorf("token %s is of %q", tok.ID, tok.Name)
			}
		}
		if more {
			s += "+"
		}
		return s
	}
	for _, c := range []struct {
		f             sitedb.TokenFilter
		offset, limit int
		want          string
	}{
		{sitedb.TokenFilter{}, 0, 10, "cba"},
		{sitedb.TokenFilter{}, 1, 1, "b+"},
		{sitedb.TokenFilter{Text: "pc1"}, 0, 10, "ba"},
		{sitedb.TokenFilter{Text: "nobody"}, 0, 10, ""},
		{sitedb.TokenFilter{ClientID: c.ID, Kind: opencmg.AuthClientToken}, 0, 10, "a"},
		{sitedb.TokenFilter{ID: "C"}, 0, 10, "c"},
		{sitedb.TokenFilter{ID: "bulk"}, 0, 10, ""},
		{sitedb.TokenFilter{Blocked: &yes}, 0, 10, "b"},
		{sitedb.TokenFilter{Blocked: &no}, 0, 10, "ca"},
	} {
		if got := ids(c.f, c.offset, c.limit); got != c.want {
			t.Errorf("%+v: %q, want %q", c.f, got, c.want)
		}
	}
	clock.advance(2 * time.Hour)
	if got := ids(sitedb.TokenFilter{}, 0, 10); got != "" {
		t.Errorf("expired: %q", got)
	}
	if got := ids(sitedb.TokenFilter{Expired: true}, 0, 10); got != "cba" {
		t.Errorf("with the expired: %q", got)
	}
}
