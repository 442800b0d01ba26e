package sitedb_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/sitedb"
)

// fill puts something into every table.
func fill(t testing.TB, db *sitedb.DB) {
	t.Helper()
	ctx := t.Context()
	c, _ := register(t, db, sitedb.Client{NetBIOSName: "PÇ\u2028<1>", FQDN: "pc1.example.com", Signing: certificate(t)})
	if err := db.RecordToken(ctx, sitedb.Token{ID: "1", Kind: opencmg.AuthBulkToken, Expires: start.Add(1000000 * time.Hour), TokenLimits: sitedb.TokenLimits{MaxUses: 7, Group: "Bür<o"}}); err != nil {
		t.Fatal(err)
	}
	if err := db.ApproveClient(ctx, c.ID, sitedb.Approved); err != nil {
		t.Fatal(err)
	}
	n, err := db.AddNotifications(ctx, []opencmg.ClientID{c.ID}, "{G}", 1, "p")
	if err != nil || len(n) != 1 {
		t.Fatal(n, err)
	}
	if _, _, err := db.RegisterClient(ctx, sitedb.Registration{Client: sitedb.Client{ID: c.ID, NetBIOSName: c.NetBIOSName, FQDN: c.FQDN, Signing: c.Signing}, TokenID: "1"}); err != nil {
		t.Fatal(err)
	}
	_, _, alertErr := db.RaiseAlert(ctx, sitedb.Alert{Kind: "k", Severity: sitedb.SeverityWarning})
	for _, err := range []error{
		db.SaveInventory(ctx, sitedb.Report{ClientID: c.ID, Action: "{1}", XML: "<x>\x00</x>"}),
		db.SaveStateMessages(ctx, c.ID, []sitedb.StateMessage{{TopicID: "a", Parameters: []string{"x"}, Written: start}}),
		db.SaveStatusMessage(ctx, c.ID, "info", map[string]string{"a": "b"}),
		db.AssignPolicy(ctx, "{A}", sitedb.Policy{ID: "{P}", Body: []byte{0, 1, 255}}, ""),
		db.AddCounts(ctx, sitedb.Counted{
			Traffic:   []sitedb.Traffic{{GatewayID: "g", Start: start, Counts: sitedb.Counts{Requests: 1 << 60}}},
			Refusals:  []sitedb.Refusals{{GatewayID: "g", Cause: "method", Start: start, Requests: 1}},
			Latencies: []sitedb.Latencies{{GatewayID: "g", Start: start, Counts: sitedb.LatencyCounts{1}}},
		}),
		db.SaveDirectory(ctx, sitedb.DirectoryBatch{TenantID: "t", Kind: sitedb.DirectoryGroup, Name: "n", Changes: []sitedb.DirectoryChange{{ID: "g", Fields: map[string]any{"n": "N\u00e4me"}, Members: []sitedb.DirectoryMember{{ID: "m", Type: "user"}}}}}),
		db.AddSamples(ctx, []sitedb.Sample{{"s", "", start, 1}, {"s", "", start.Add(1), 0.1}, {"s", "x", start, -1e300}}),
		alertErr,
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	change(t, db, func(tx *sitedb.Tx) error {
		_, put := tx.Put(sitedb.Object{Kind: "k", ID: "1", Name: "Name", Body: json.RawMessage(`{"a": "\u0000"}`)})
		_, number := tx.NextNumber("n")
		o, operation := tx.PutOperation(sitedb.Operation{ID: "o", State: sitedb.OperationCreated})
		_, notify := tx.NotifyClients(sitedb.ClientOperation{TaskType: 1}, "{G}", []opencmg.ClientID{c.ID})
		return errors.Join(put, number, operation, notify, tx.AppendOperation(o.ID, "s", "t", 1), tx.PutSecret("app", []byte(planted)),
			tx.AddStatusMessage(sitedb.StatusMessage{Severity: sitedb.SeverityInfo, Properties: map[string]string{"a": "b"}}))
	})
}

func backup(t testing.TB, db *sitedb.DB) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := db.Backup(t.Context(), &b, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// body is a backup without its first line, which has the time.
func body(b []byte) string { return string(b[bytes.IndexByte(b, '\n')+1:]) }

// A backup of one engine restores to the same on each.
func TestBackup(t *testing.T) { onEachEngine(t, testBackup) }

func testBackup(t *testing.T, e engine) {
	config := e.config(t)
	config.KeyFile = filepath.Join(t.TempDir(), "key")
	db := openConfig(t, config)
	fill(t, db)
	var text bytes.Buffer
	seen := map[string]int64{}
	if err := db.Backup(t.Context(), &text, func(table string, rows int64) { seen[table] = rows }); err != nil {
		t.Fatal(err)
	}
	for _, name := range sitedb.BackupTables() {
		if seen[name] == 0 {
			t.Errorf("table %s is not tested, it has no rows", name)
		}
	}
	if strings.Contains(text.String(), planted) {
		t.Error("the backup shows the secret")
	}
	onEachEngine(t, func(t *testing.T, other engine) {
		target := other.config(t)
		target.KeyFile = config.KeyFile
		if err := sitedb.Restore(t.Context(), target, bytes.NewReader(text.Bytes())); err != nil {
			t.Fatal(err)
		}
		again := openConfig(t, target)
		// Only the checksum differs, for it includes the time.
		want, got := strings.Split(body(text.Bytes()), "\n"), strings.Split(body(backup(t, again)), "\n")
		if d := cmp.Diff(want[:len(want)-2], got[:len(got)-2]); d != "" {
			t.Error(d)
		}
		wantSecret(t, again, "app", planted)
		// What the database numbers goes on behind the restored numbers.
		if err := again.AddStatusMessage(t.Context(), sitedb.StatusMessage{Severity: sitedb.SeverityInfo}); err != nil {
			t.Error(err)
		}
		change(t, again, func(tx *sitedb.Tx) error {
			if n, err := tx.NextNumber("n"); err != nil || n != 2 {
				t.Errorf("number %d, %v", n, err)
			}
			return nil
		})
		err := sitedb.Restore(t.Context(), target, bytes.NewReader(text.Bytes()))
		wantKind(t, err, opencmg.Conflict)
	})
}

// A database that was opened, and has nothing in it yet, takes a backup.
func TestRestoreIntoOpened(t *testing.T) { onEachEngine(t, testRestoreIntoOpened) }

func testRestoreIntoOpened(t *testing.T, e engine) {
	from := e.config(t)
	from.KeyFile = filepath.Join(t.TempDir(), "key")
	db := openConfig(t, from)
	fill(t, db)
	text := backup(t, db)

	target := e.config(t)
	target.KeyFile = filepath.Join(t.TempDir(), "key")
	if err := openConfig(t, target).Close(); err != nil {
		t.Fatal(err)
	}
	// Its new key is not the one of the backup.
	err := sitedb.Restore(t.Context(), target, bytes.NewReader(text))
	if !errors.Is(err, opencmg.Invalid) || !strings.Contains(err.Error(), "key") {
		t.Errorf("restored with another key: %v", err)
	}
	if db, err := sitedb.Open(t.Context(), target); err != nil {
		t.Errorf("the refused restore left something: %v", err)
	} else {
		db.Close()
	}
	target.KeyFile = from.KeyFile
	if err := sitedb.Restore(t.Context(), target, bytes.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	wantSecret(t, openConfig(t, target), "app", planted)
	target = e.config(t)
	target.KeyFile = filepath.Join(t.TempDir(), "none")
	wantKind(t, sitedb.Restore(t.Context(), target, bytes.NewReader(text)), opencmg.Invalid)
}

// While writers move amounts between two tables, every backup has the same sum
// of them.
func TestBackupUnderLoad(t *testing.T) { onEachEngine(t, testBackupUnderLoad) }

func testBackupUnderLoad(t *testing.T, e engine) {
	db, _ := e.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	started := make(chan struct{}, 4)
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				err := db.Change(ctx, "move", func(tx *sitedb.Tx) error {
					// An object with the number of messages, and the messages:
					// in the order of the backup, one before and one behind.
					id := fmt.Sprint(w)
					o, err := tx.Object("count", id)
					if errors.Is(err, opencmg.NotFound) {
						o, err = sitedb.Object{Kind: "count", ID: id}, nil
					}
					if err != nil {
						return err
					}
					o.Body = json.RawMessage(fmt.Sprint(o.Version + 1))
					if _, err := tx.Put(o); err != nil {
						return err
					}
					return tx.AddStatusMessage(sitedb.StatusMessage{Component: id, Severity: sitedb.SeverityInfo})
				})
				if err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
				if i == 20 {
					started <- struct{}{}
				}
			}
		})
	}
	for range 4 {
		<-started
	}
	var texts [][]byte
	for range 3 {
		texts = append(texts, backup(t, db))
	}
	cancel()
	wg.Wait()
	for _, text := range texts {
		target := e.config(t)
		if err := sitedb.Restore(t.Context(), target, bytes.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		restored := openConfig(t, target)
		counts, err := restored.Objects(t.Context(), "count")
		if err != nil || len(counts) != 4 {
			t.Fatal(counts, err)
		}
		for _, o := range counts {
			_, n, err := restored.SiteMessages(t.Context(), sitedb.MessageFilter{Component: o.ID}, 0, 1)
			if err != nil || string(o.Body) != fmt.Sprint(n) {
				t.Errorf("object says %s, there are %d messages, %v", o.Body, n, err)
			}
		}
	}
}

// signed makes a backup of these lines with a right trailer.
func signed(lines ...string) []byte {
	text := strings.Join(lines, "\n") + "\n"
	rows := map[string]int{}
	table := ""
	for _, line := range lines {
		var t struct{ Table string }
		if json.Unmarshal([]byte(line), &t) == nil && t.Table != "" {
			table = t.Table
			rows[table] = 0
		} else if strings.HasPrefix(line, "[") {
			rows[table]++
		}
	}
	counts, _ := json.Marshal(rows)
	return fmt.Appendf(nil, "%s{\"end\":true,\"rows\":%s,\"sha256\":\"%x\"}\n", text, counts, sha256.Sum256([]byte(text)))
}

func TestDamagedBackup(t *testing.T) { onEachEngine(t, testDamagedBackup) }

func testDamagedBackup(t *testing.T, e engine) {
	db, _ := e.open(t)
	change(t, db, func(tx *sitedb.Tx) error {
		_, err := tx.Put(sitedb.Object{Kind: "k", ID: "1", Body: json.RawMessage(`1`)})
		return err
	})
	whole := string(backup(t, db))
	lines := strings.Split(strings.TrimSuffix(whole, "\n"), "\n")
	lines = lines[:len(lines)-1]
	with := func(old, new string) string {
		t.Helper()
		var changed []string
		for _, line := range lines {
			changed = append(changed, strings.Replace(line, old, new, 1))
		}
		if slices.Equal(lines, changed) {
			t.Fatalf("%q is not in the backup", old)
		}
		return string(signed(changed...))
	}
	var head struct{ Schema int }
	if err := json.Unmarshal([]byte(lines[0]), &head); err != nil {
		t.Fatal(err)
	}
	schema := fmt.Sprintf(`"schema":%d`, head.Schema)
	bad := map[string]string{
		"empty":           "",
		"no backup":       "hello\n",
		"other JSON":      "{}\n",
		"newer":           with(schema, `"schema":99`),
		"newer format":    with(`"version":1`, `"version":2`),
		"no schema":       with(schema, `"schema":0`),
		"half":            whole[:len(whole)/2],
		"no trailer":      strings.Join(lines, "\n") + "\n",
		"cut trailer":     whole[:len(whole)-10],
		"changed":         strings.Replace(whole, `["k","1"`, `["k","2"`, 1),
		"something after": whole + "x",
		"empty line":      with(`{"table":"objects"`, "\n"+`{"table":"objects"`),
		"missing table":   with(`{"table":"objects"`, `{"table":"others"`),
		"SQL":             with(`"name_key"`, `"name_key) VALUES (1); --"`),
		"column twice":    with(`"name_key"`, `"name"`),
		"missing value":   with(`["k","1",`, `["k",`),
		"wrong type":      with(`["k","1",`, `["k",1,`),
		"no value":        with(`["k","1",`, `["k",true,`),
		"null":            with(`["k","1",`, `["k",null,`),
		"bad bytes":       with(`["k","1",`, `["k",{"b":"!"},`),
		"other object":    with(`["k","1",`, `["k",{"c":1},`),
		"row twice":       with(`["k","1"`, lines[slices.IndexFunc(lines, func(s string) bool { return strings.HasPrefix(s, `["k","1"`) })]+"\n"+`["k","1"`),
		"count":           strings.Replace(whole, `"objects":1`, `"objects":2`, 1),
	}
	target := e.config(t)
	for name, text := range bad {
		err := sitedb.Restore(t.Context(), target, strings.NewReader(text))
		if !errors.Is(err, opencmg.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
		if target.Path != "" {
			if left, _ := filepath.Glob(filepath.Join(filepath.Dir(target.Path), "*")); len(left) > 0 {
				t.Errorf("%s: %v is left", name, left)
			}
		}
	}
	if err := sitedb.Restore(t.Context(), target, io.MultiReader(strings.NewReader(whole[:100]), broken{})); !errors.Is(err, errBroken) {
		t.Errorf("a reader that fails: %v", err)
	}
	if err := db.Backup(t.Context(), broken{}, nil); !errors.Is(err, errBroken) {
		t.Errorf("a writer that fails: %v", err)
	}
	// After all this the whole one goes in.
	if err := sitedb.Restore(t.Context(), target, strings.NewReader(whole)); err != nil {
		t.Fatal(err)
	}
}

var errBroken = errors.New("broken")

type broken struct{}

func (broken) Read([]byte) (int, error)  { return 0, errBroken }
func (broken) Write([]byte) (int, error) { return 0, errBroken }

// Backups of the schema of the first release restore as well.
func TestRestoreOldBackup(t *testing.T) { onEachEngine(t, testRestoreOldBackup) }

func testRestoreOldBackup(t *testing.T, e engine) {
	text := signed(`{"format":"opencmg-backup","version":1,"schema":1,"time":"2026-01-31T09:30:00Z"}`,
		`{"table":"clients","columns":["id","netbios_name","fqdn","agent_version","approval","auth","tenant_id","device_id","subject","thumbprint","signing_key","signing_cert","encryption_cert","registered","changed","last_seen"]}`,
		`{"table":"reports","columns":["client_id","action","full_report","written","received","body"]}`,
		`{"table":"state_messages","columns":["client_id","topic_type","topic_id","state_id","criticality","serial","parameters","written","received"]}`,
		`{"table":"status_messages","columns":["id","client_id","type","properties","received"]}`,
		`{"table":"policies","columns":["id","version","type","category","flags","hash","body"]}`,
		`{"table":"policy_assignments","columns":["id","policy_id","client_id","removed","changed"]}`,
		`{"table":"tokens","columns":["id","kind","client_id","thumbprint","issued","expires","blocked"]}`,
		`["1","bulk","","",0,1,0]`,
		`{"table":"notifications","columns":["push_id","client_id","task_guid","task_type","param","created","delivered","answered","return_code"]}`)
	target := e.config(t)
	target.KeyFile = filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(target.KeyFile, []byte(strings.Repeat("ab", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := sitedb.Restore(t.Context(), target, bytes.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	if got, err := openConfig(t, target).Tokens(t.Context(), "bulk", 10); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	newer := e.config(t)
	openConfig(t, newer)
	wantKind(t, sitedb.Restore(t.Context(), newer, bytes.NewReader(text)), opencmg.Conflict)
}

// Every table of the schema is in the backup.
func TestBackupTables(t *testing.T) { onEachEngine(t, testBackupTables) }

func testBackupTables(t *testing.T, e engine) {
	c := e.config(t)
	openConfig(t, c)
	query := "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
	if e.postgres {
		query = "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()"
	}
	rows, err := raw(t, c).Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var have []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		have = append(have, name)
	}
	want := append(sitedb.BackupTables(), "schema_version")
	slices.Sort(have)
	slices.Sort(want)
	if d := cmp.Diff(want, have); d != "" {
		t.Error(d)
	}
}

func FuzzReadBackup(f *testing.F) {
	db, _ := engine{}.open(f)
	f.Add(backup(f, db))
	f.Add(signed(`{"format":"opencmg-backup","version":1,"schema":1,"time":"2026-01-31T09:30:00Z"}`, `{"table":"clients","columns":["id","a"]}`, `["x",{"b":"AA=="}]`, `[1,-1.5e3]`, `[null]`))
	f.Add([]byte(`{"format":"opencmg-backup","version":1,"schema":2}` + "\n[1]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		rows, err := sitedb.ReadBackup(bytes.NewReader(b))
		if err != nil {
			if !errors.Is(err, opencmg.Invalid) {
				t.Errorf("error without a kind: %v", err)
			}
			return
		}
		if n := int64(bytes.Count(b, []byte("\n"))); rows > n {
			t.Errorf("%d rows in %d lines", rows, n)
		}
	})
}
