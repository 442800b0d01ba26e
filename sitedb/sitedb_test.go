package sitedb_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/sitedb"
)

func TestRegisterClient(t *testing.T) { onEachEngine(t, testRegisterClient) }

func testRegisterClient(t *testing.T, e engine) {
	db, clock := e.open(t)
	ctx := t.Context()
	_, _, err := db.RegisterClient(ctx, sitedb.Registration{})
	wantKind(t, err, opencmg.Invalid)

	cert := certificate(t)
	first := sitedb.Client{NetBIOSName: "PC01", FQDN: "pc01.example.com", AgentVersion: "1", Approval: sitedb.Approved, Auth: opencmg.AuthBulkToken, Thumbprint: "aa", Signing: cert, Encryption: cert}
	c, outcome := register(t, db, first)
	if outcome != sitedb.OutcomeNew || c.ID.Validate() != nil {
		t.Fatalf("new client: %s, ID %q", outcome, c.ID)
	}
	stored, err := db.Client(ctx, c.ID)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(c, stored); d != "" {
		t.Error(d)
	}
	if byKey, err := db.ClientByKey(ctx, sitedb.KeyID(cert)); err != nil || byKey.ID != c.ID {
		t.Errorf("by key: %s, %v", byKey.ID, err)
	}
	if byCert, err := db.ClientByThumbprint(ctx, "aa"); err != nil || byCert.ID != c.ID {
		t.Errorf("by certificate: %s, %v", byCert.ID, err)
	}

	// The same key over a weaker way keeps ID, trust and what was proved.
	clock.advance(time.Hour)
	again, outcome := register(t, db, sitedb.Client{NetBIOSName: "RENAMED", Approval: sitedb.ApprovalPending, Auth: opencmg.AuthNone, Signing: cert})
	if outcome != sitedb.OutcomeKnown || again.ID != c.ID || again.Approval != sitedb.Approved || again.NetBIOSName != "RENAMED" || !again.Registered.Equal(start) || again.Auth != opencmg.AuthBulkToken || again.Thumbprint != "aa" {
		t.Errorf("same key again: %s %+v", outcome, again)
	}
	// So does one that comes with another certificate and proves nothing.
	if again, _ := register(t, db, sitedb.Client{Auth: opencmg.AuthNone, Thumbprint: "bb", Signing: cert}); again.Thumbprint != "aa" || again.Auth != opencmg.AuthBulkToken {
		t.Errorf("same key, nothing proved: %+v", again)
	}
	if _, outcome := register(t, db, sitedb.Client{Auth: opencmg.AuthEntra, TenantID: "T", DeviceID: "X", Thumbprint: "aa", Approval: sitedb.ApprovedByEntra, Signing: cert}); outcome != sitedb.OutcomeKnown {
		t.Errorf("same key by Entra: %s", outcome)
	}
	if again, _ := register(t, db, sitedb.Client{Auth: opencmg.AuthClientToken, Thumbprint: "aa", Approval: sitedb.Approved, Signing: cert}); again.DeviceID != "X" || again.TenantID != "T" {
		t.Errorf("the device was forgotten: %+v", again)
	}
	// A stranger with that ID gets another one.
	stranger, outcome := register(t, db, sitedb.Client{ID: c.ID, Signing: certificate(t), Approval: sitedb.Approved, Auth: opencmg.AuthBulkToken})
	if outcome != sitedb.OutcomeDuplicate || stranger.ID == c.ID {
		t.Errorf("taken ID: %s, %s", outcome, stranger.ID)
	}
	if stored, err := db.Client(ctx, c.ID); err != nil || !stored.Signing.Equal(cert) {
		t.Errorf("the holder of the ID changed: %v", err)
	}
	// An ID that nobody has is taken over.
	free := opencmg.ClientID("GUID:11111111-2222-3333-4444-555555555555")
	if got, outcome := register(t, db, sitedb.Client{ID: free, Signing: certificate(t)}); outcome != sitedb.OutcomeNew || got.ID != free {
		t.Errorf("free ID: %s, %s", outcome, got.ID)
	}

	for name, proof := range map[string]sitedb.Client{
		"Entra device": {Auth: opencmg.AuthEntra, TenantID: "T", DeviceID: "D", Approval: sitedb.ApprovedByEntra},
		"PKI subject":  {Auth: opencmg.AuthPKI, Subject: "CN=pc", Approval: sitedb.Approved},
	} {
		old := proof
		old.Signing = certificate(t)
		device, _ := register(t, db, old)
		renewed := proof
		renewed.ID, renewed.Signing = device.ID, certificate(t)
		got, outcome := register(t, db, renewed)
		if outcome != sitedb.OutcomeReset || got.ID != device.ID {
			t.Errorf("%s with a new key: %s, %s", name, outcome, got.ID)
		}
		if _, err := db.ClientByKey(ctx, sitedb.KeyID(old.Signing)); !errors.Is(err, opencmg.NotFound) {
			t.Errorf("%s: the old key still counts: %v", name, err)
		}
		if err := db.ApproveClient(ctx, device.ID, sitedb.ApprovalRefused); err != nil {
			t.Fatal(err)
		}
		renewed.Signing = certificate(t)
		if got, _ := register(t, db, renewed); got.Approval != sitedb.ApprovalRefused {
			t.Errorf("%s: a new key lifted the refusal: %d", name, got.Approval)
		}
		renewed.Signing = got.Signing
		if got, _ := register(t, db, renewed); got.Approval != sitedb.ApprovalRefused {
			t.Errorf("%s: registering again lifted the refusal: %d", name, got.Approval)
		}
	}
}

func TestApproveListRemove(t *testing.T) { onEachEngine(t, testApproveListRemove) }

func testApproveListRemove(t *testing.T, e engine) {
	db, _ := e.open(t)
	ctx := t.Context()
	c, _ := register(t, db, sitedb.Client{NetBIOSName: "PC_1", FQDN: "pc1.example.com", Signing: certificate(t)})
	other, _ := register(t, db, sitedb.Client{NetBIOSName: "SRV%2", Signing: certificate(t)})
	if err := db.ApproveClient(ctx, c.ID, sitedb.Approved); err != nil {
		t.Fatal(err)
	}
	if got, err := db.Client(ctx, c.ID); err != nil || got.Approval != sitedb.Approved || !got.Approval.Trusted() {
		t.Errorf("approved client: %+v, %v", got, err)
	}
	for search, want := range map[string]int{"": 2, "pc_1": 1, "PC_1": 1, "example": 1, "%": 1, "_1": 1, "pc%": 0, string(other.ID)[5:]: 1, "'": 0} {
		got, err := db.Clients(ctx, search, "", "", 10)
		if err != nil || len(got) != want {
			t.Errorf("search %q found %d, %v; want %d", search, len(got), err, want)
		}
	}
	page, err := db.Clients(ctx, "", "", "", 1)
	if err != nil || len(page) != 1 {
		t.Fatalf("page: %v, %v", page, err)
	}
	if next, err := db.Clients(ctx, "", "", page[0].ID, 10); err != nil || len(next) != 1 || next[0].ID == page[0].ID {
		t.Errorf("next page: %v, %v", next, err)
	}
	if err := db.RecordToken(ctx, sitedb.Token{ID: "T1", Kind: opencmg.AuthClientToken, ClientID: c.ID, Issued: start, Expires: start.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if err := db.RemoveClient(ctx, c.ID); err != nil {
		t.Fatal(err)
	}
	_, err = db.Client(ctx, c.ID)
	wantKind(t, err, opencmg.NotFound)
	if blocked, err := db.TokenBlocked(ctx, "t1"); err != nil || !blocked {
		t.Errorf("token of a removed client: blocked %v, %v", blocked, err)
	}
	wantKind(t, db.RemoveClient(ctx, c.ID), opencmg.NotFound)
	wantKind(t, db.ApproveClient(ctx, c.ID, sitedb.Approved), opencmg.NotFound)
	_, err = db.ClientByKey(ctx, "x")
	wantKind(t, err, opencmg.NotFound)
	_, err = db.ClientByThumbprint(ctx, "")
	wantKind(t, err, opencmg.NotFound)
}

func TestReports(t *testing.T) { onEachEngine(t, testReports) }

func testReports(t *testing.T, e engine) {
	db, clock := e.open(t)
	ctx := t.Context()
	c, _ := register(t, db, sitedb.Client{NetBIOSName: "PC01", Signing: certificate(t)})
	const action = "{00000000-0000-0000-0000-000000000001}"
	save := func(full bool, text string) {
		t.Helper()
		clock.advance(time.Second)
		if err := db.SaveInventory(ctx, sitedb.Report{ClientID: c.ID, Action: action, Full: full, Written: start, XML: text}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(texts ...string) {
		t.Helper()
		got, err := db.Reports(ctx, c.ID)
		if err != nil {
			t.Fatal(err)
		}
		var have []string
		for _, r := range got {
			have = append(have, r.XML)
		}
		if d := cmp.Diff(texts, have); d != "" {
			t.Error(d)
		}
	}
	save(true, "full 1")
	save(false, "delta 1")
	save(false, "delta 2")
	want("full 1", "delta 2")
	save(true, "full 2")
	want("full 2")
	if err := db.SaveDDR(ctx, sitedb.Report{ClientID: c.ID, Action: "{3}", Full: true, XML: "ddr"}, "PC99", ""); err != nil {
		t.Fatal(err)
	}
	want("full 2", "ddr")
	got, err := db.Client(ctx, c.ID)
	if err != nil || got.NetBIOSName != "PC99" || !got.LastSeen.Equal(start.Add(4*time.Second)) {
		t.Errorf("client after discovery: %+v, %v", got, err)
	}
	nobody := opencmg.ClientID("GUID:11111111-2222-3333-4444-555555555555")
	wantKind(t, db.SaveInventory(ctx, sitedb.Report{ClientID: nobody}), opencmg.NotFound)
	wantKind(t, db.SaveDDR(ctx, sitedb.Report{ClientID: nobody}, "", ""), opencmg.NotFound)
	wantKind(t, db.SaveStateMessages(ctx, nobody, nil), opencmg.NotFound)
	wantKind(t, db.SaveStatusMessage(ctx, nobody, "", nil), opencmg.NotFound)
}

func TestMessages(t *testing.T) { onEachEngine(t, testMessages) }

func testMessages(t *testing.T, e engine) {
	db, clock := e.open(t)
	ctx := t.Context()
	c, _ := register(t, db, sitedb.Client{Signing: certificate(t)})
	for _, batch := range [][]sitedb.StateMessage{
		{{TopicType: 701, TopicID: "a", StateID: 1, Serial: 5, Parameters: []string{"x"}, Written: start}, {TopicType: 701, TopicID: "b", StateID: 1, Serial: 6, Written: start}},
		{{TopicType: 701, TopicID: "a", StateID: 9, Serial: 4, Written: start.Add(-time.Minute)}}, // late
		{{TopicType: 701, TopicID: "b", StateID: 2, Serial: 7, Written: start.Add(time.Minute)}},
	} {
		clock.advance(time.Second)
		if err := db.SaveStateMessages(ctx, c.ID, batch); err != nil {
			t.Fatal(err)
		}
	}
	got, err := db.StateMessages(ctx, c.ID)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].StateID != 1 || got[0].Parameters[0] != "x" || got[1].StateID != 2 {
		t.Errorf("state messages: %+v", got)
	}
	for i := range 520 {
		if err := db.SaveStatusMessage(ctx, c.ID, "info", map[string]string{"n": fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := db.StatusMessages(ctx, c.ID); err != nil || n != 500 {
		t.Errorf("%d status messages are kept, %v", n, err)
	}
}

func TestPolicies(t *testing.T) { onEachEngine(t, testPolicies) }

func testPolicies(t *testing.T, e engine) {
	db, clock := e.open(t)
	ctx := t.Context()
	c, _ := register(t, db, sitedb.Client{Signing: certificate(t)})
	p := sitedb.Policy{ID: "{P}", Version: "1.00", Type: "Machine", Category: "ClientSettings", Flags: 16, Hash: "H1", Body: []byte("one")}
	mine := sitedb.Policy{ID: "{Q}", Version: "1.00", Type: "Machine", Hash: "Q1", Body: []byte("mine")}
	assign := func(id string, p sitedb.Policy, client opencmg.ClientID) {
		t.Helper()
		if err := db.AssignPolicy(ctx, id, p, client); err != nil {
			t.Fatal(err)
		}
	}
	list := func(client opencmg.ClientID, since time.Time) (ids []string, latest time.Time) {
		t.Helper()
		got, latest, err := db.Assignments(ctx, client, since)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range got {
			s := a.ID + " " + a.Policy.Hash
			if a.Removed {
				s += " removed"
			}
			ids = append(ids, s)
		}
		return ids, latest
	}
	assign("{A}", p, "")
	assign("{B}", mine, c.ID)
	all, cookie := list(c.ID, time.Time{})
	if d := cmp.Diff([]string{"{A} H1", "{B} Q1"}, all); d != "" {
		t.Error(d)
	}
	if others, _ := list("GUID:11111111-2222-3333-4444-555555555555", time.Time{}); len(others) != 1 {
		t.Errorf("another client gets %v", others)
	}
	if !cookie.Equal(cookie.Truncate(time.Millisecond)) {
		t.Errorf("cookie %s is finer than a millisecond", cookie)
	}
	assign("{A}", p, "") // nothing new
	if changes, latest := list(c.ID, cookie); len(changes) != 0 || !latest.Equal(cookie) {
		t.Errorf("unchanged: %v, %v", changes, latest)
	}
	clock.advance(-time.Hour) // changes count even when the clock goes back
	p.Hash, p.Body = "H2", []byte("two")
	assign("{A}", p, "")
	if changes, _ := list(c.ID, cookie); len(changes) != 1 || changes[0] != "{A} H2" {
		t.Errorf("changes: %v", changes)
	}
	if err := db.RemovePolicy(ctx, "{Q}", c.ID); err != nil {
		t.Fatal(err)
	}
	changes, _ := list(c.ID, cookie)
	if d := cmp.Diff([]string{"{A} H2", "{B} Q1 removed"}, changes); d != "" {
		t.Error(d)
	}
	if all, _ := list(c.ID, time.Time{}); len(all) != 1 {
		t.Errorf("all: %v", all)
	}
	wantKind(t, db.RemovePolicy(ctx, "{Q}", c.ID), opencmg.NotFound)
	_, err := db.PolicyFor(ctx, c.ID, "{Q}")
	wantKind(t, err, opencmg.NotFound)
	if got, err := db.PolicyFor(ctx, c.ID, "{P}"); err != nil || string(got.Body) != "two" {
		t.Errorf("body %q, %v", got.Body, err)
	}
	if got, err := db.Policy(ctx, "{Q}"); err != nil || string(got.Body) != "mine" {
		t.Errorf("body %q, %v", got.Body, err)
	}
	assign("{B}", mine, c.ID)
	if got, err := db.PolicyFor(ctx, c.ID, "{Q}"); err != nil || string(got.Body) != "mine" {
		t.Errorf("assigned again: %q, %v", got.Body, err)
	}
}

func TestTokens(t *testing.T) { onEachEngine(t, testTokens) }

func testTokens(t *testing.T, e engine) {
	db, clock := e.open(t)
	ctx := t.Context()
	want := sitedb.Token{ID: "aaaa-1", Kind: opencmg.AuthBulkToken, Issued: start, Expires: start.Add(time.Hour)}
	upper := want
	upper.ID = "AAAA-1"
	if err := db.RecordToken(ctx, upper); err != nil {
		t.Fatal(err)
	}
	wantKind(t, db.RecordToken(ctx, want), opencmg.Conflict)
	if got, err := db.Tokens(ctx, opencmg.AuthBulkToken, 10); err != nil || !cmp.Equal(got, []sitedb.Token{want}) {
		t.Errorf("tokens: %+v, %v", got, err)
	}
	wantKind(t, db.BlockToken(ctx, "other", true), opencmg.NotFound)
	if blocked, err := db.TokenBlocked(ctx, "AAAA-1"); blocked || err != nil {
		t.Errorf("blocked: %v, %v", blocked, err)
	}
	if err := db.BlockToken(ctx, "AAAA-1", true); err != nil {
		t.Fatal(err)
	}
	if ids, err := db.BlockedTokens(ctx); err != nil || !cmp.Equal(ids, []string{"aaaa-1"}) {
		t.Errorf("blocked: %v, %v", ids, err)
	}
	clock.advance(2 * time.Hour)
	if ids, err := db.BlockedTokens(ctx); err != nil || len(ids) != 0 {
		t.Errorf("blocked after expiry: %v, %v", ids, err)
	}
	clock.advance(60 * 24 * time.Hour)
	if err := db.RecordToken(ctx, sitedb.Token{ID: "2", Kind: opencmg.AuthCCMToken, Expires: clock.Now()}); err != nil {
		t.Fatal(err)
	}
	if got, err := db.Tokens(ctx, opencmg.AuthBulkToken, 10); err != nil || len(got) != 0 {
		t.Errorf("long expired token is still there: %+v, %v", got, err)
	}
}

func TestNotifications(t *testing.T) { onEachEngine(t, testNotifications) }

func testNotifications(t *testing.T, e engine) {
	db, clock := e.open(t)
	ctx := t.Context()
	c, _ := register(t, db, sitedb.Client{Signing: certificate(t)})
	nobody := opencmg.ClientID("GUID:11111111-2222-3333-4444-555555555555")
	added, err := db.AddNotifications(ctx, []opencmg.ClientID{c.ID, nobody}, "{G}", 1, "p")
	if err != nil || len(added) != 1 || added[0].PushID == 0 {
		t.Fatalf("added %+v, %v", added, err)
	}
	id := added[0].PushID
	clock.advance(time.Minute)
	if err := db.Delivered(ctx, id); err != nil {
		t.Fatal(err)
	}
	if w, err := db.Waiting(ctx, c.ID); err != nil || len(w) != 1 || !w[0].Delivered.Equal(start.Add(time.Minute)) {
		t.Errorf("waiting: %+v, %v", w, err)
	}
	_, err = db.Answered(ctx, nobody, id, 0)
	wantKind(t, err, opencmg.NotFound)
	if before, err := db.Answered(ctx, c.ID, id, 7); err != nil || before {
		t.Fatal(err)
	}
	if w, err := db.Waiting(ctx, c.ID); err != nil || len(w) != 0 {
		t.Errorf("waiting after the answer: %+v, %v", w, err)
	}
	if n, err := db.Notification(ctx, id); err != nil || n.ReturnCode != 7 || n.Answered.IsZero() || n.Param != "p" {
		t.Errorf("notification: %+v, %v", n, err)
	}
	_, err = db.Notification(ctx, 99)
	wantKind(t, err, opencmg.NotFound)
	if _, err := db.AddNotifications(ctx, []opencmg.ClientID{c.ID}, "{H}", 1, ""); err != nil {
		t.Fatal(err)
	}
	clock.advance(48 * time.Hour)
	if w, err := db.Waiting(ctx, c.ID); err != nil || len(w) != 0 {
		t.Errorf("old ones still wait: %+v, %v", w, err)
	}
}

// Acts that share a commit must not share a failure.
func TestConcurrentActsAreIndependent(t *testing.T) {
	onEachEngine(t, testConcurrentActsAreIndependent)
}

func testConcurrentActsAreIndependent(t *testing.T, e engine) {
	db, _ := e.open(t)
	ctx := t.Context()
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			err := db.RecordToken(ctx, sitedb.Token{ID: fmt.Sprint(i / 2), Kind: opencmg.AuthCCMToken, Expires: start.Add(time.Hour)})
			if err != nil && !errors.Is(err, opencmg.Conflict) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got, err := db.Tokens(ctx, opencmg.AuthCCMToken, 1000); err != nil || len(got) != 100 {
		t.Errorf("%d tokens, %v; want 100", len(got), err)
	}
}

func TestCanceledActDoesNothing(t *testing.T) { onEachEngine(t, testCanceledActDoesNothing) }

func testCanceledActDoesNothing(t *testing.T, e engine) {
	db, _ := e.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := db.RecordToken(ctx, sitedb.Token{ID: "1", Expires: start.Add(time.Hour)})
	wantKind(t, err, opencmg.Timeout)
	if blocked, err := db.Tokens(t.Context(), "", 10); err != nil || len(blocked) != 0 {
		t.Errorf("tokens: %v, %v", blocked, err)
	}
}

func TestOpenErrors(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	_, err := sitedb.Open(ctx, sitedb.Config{Path: filepath.Join(dir, "missing", "site.db")})
	wantKind(t, err, opencmg.Invalid)

	garbage := filepath.Join(dir, "garbage.db")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("this is no database", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = sitedb.Open(ctx, sitedb.Config{Path: garbage})
	wantKind(t, err, opencmg.Invalid)

	for name, c := range map[string]sitedb.Config{
		"neither":    {},
		"both":       {Path: filepath.Join(dir, "a.db"), DSN: "postgres://localhost/x"},
		"other URL":  {DSN: "mysql://localhost/x"},
		"unreadable": {DSN: "postgres://user:planted-password@[::1/x"},
		"bad option": {DSN: "postgres://user:planted-password@localhost/x?sslmode=planted-password"},
	} {
		_, err := sitedb.Open(ctx, c)
		if !errors.Is(err, opencmg.Invalid) || strings.Contains(fmt.Sprintf("%v %+v", err, errors.Unwrap(err)), "planted-password") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Nothing listens in an empty folder.
	_, err = sitedb.Open(ctx, sitedb.Config{DSN: "postgres://user:planted-password@/x?host=" + dir})
	wantKind(t, err, opencmg.Unavailable)
	if strings.Contains(fmt.Sprintf("%+v", err), "planted-password") {
		t.Error("the error shows the password")
	}
}

func TestNewerSchema(t *testing.T) { onEachEngine(t, testNewerSchema) }

func testNewerSchema(t *testing.T, e engine) {
	ctx := t.Context()
	c := e.config(t)
	db, err := sitedb.Open(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Ping(ctx); err != nil {
		t.Error(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	wantKind(t, db.RecordToken(ctx, sitedb.Token{ID: "1"}), opencmg.Unavailable)
	if _, err := raw(t, c).Exec("INSERT INTO schema_version (version) VALUES (999)"); err != nil {
		t.Fatal(err)
	}
	_, err = sitedb.Open(ctx, c)
	wantKind(t, err, opencmg.Conflict)
}

func TestFileIsPrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes mean little on Windows")
	}
	path := filepath.Join(t.TempDir(), "site.db")
	db, err := sitedb.Open(t.Context(), sitedb.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.RecordToken(t.Context(), sitedb.Token{ID: "1"}); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(path + "*")
	if err != nil || len(names) < 2 {
		t.Fatalf("files %v, %v", names, err)
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != fs.FileMode(0o600) {
			t.Errorf("%s has mode %s", filepath.Base(name), info.Mode())
		}
	}
}

// A process that is killed while it writes loses nothing that it acknowledged.
func TestKillLosesNothing(t *testing.T) {
	if os.Getenv("SITEDB_TEST_WRITE") != "" {
		writeUntilKilled(t, sitedb.Config{Path: os.Getenv("SITEDB_TEST_PATH"), DSN: os.Getenv("SITEDB_TEST_DSN")})
		return
	}
	onEachEngine(t, testKillLosesNothing)
}

func testKillLosesNothing(t *testing.T, e engine) {
	c := e.config(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestKillLosesNothing$")
	cmd.Env = append(os.Environ(), "SITEDB_TEST_WRITE=1", "SITEDB_TEST_PATH="+c.Path, "SITEDB_TEST_DSN="+c.DSN)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var acknowledged []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if id, ok := strings.CutPrefix(lines.Text(), "ok "); ok {
			acknowledged = append(acknowledged, id)
		}
		if len(acknowledged) == 100 {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd.Wait()
	if len(acknowledged) < 100 {
		t.Fatalf("only %d acts were acknowledged", len(acknowledged))
	}
	db := openConfig(t, c)
	got, err := db.Tokens(t.Context(), opencmg.AuthCCMToken, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, token := range got {
		have[token.ID] = true
	}
	for _, id := range acknowledged {
		if !have[id] {
			t.Errorf("acknowledged act %s is lost", id)
		}
	}
}

func writeUntilKilled(t *testing.T, c sitedb.Config) {
	db, err := sitedb.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex // guards standard output
	for w := range 4 {
		wg.Go(func() {
			for i := range 100000 {
				id := fmt.Sprintf("%d-%d", w, i)
				if err := db.RecordToken(t.Context(), sitedb.Token{ID: id, Kind: opencmg.AuthCCMToken, Expires: time.Now().Add(time.Hour)}); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				fmt.Println("ok " + id)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}
