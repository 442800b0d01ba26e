package sitedb_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencmg/opencmg/sitedb"
)

// TestDirectory goes through full discoveries and deltas.
func TestDirectory(t *testing.T) {
	onEachEngine(t, func(t *testing.T, e engine) {
		db, err := sitedb.Open(t.Context(), e.config(t))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		save := func(kind string, pass int64, keep func(string) bool, changes ...sitedb.DirectoryChange) {
			t.Helper()
			for range 2 { // again changes nothing
				if err := db.SaveDirectory(t.Context(), sitedb.DirectoryBatch{TenantID: "t1", Kind: kind, Pass: pass, Changes: changes, Name: "displayName", Search: []string{"displayName", "mail"}, Keep: keep}); err != nil {
					t.Fatal(err)
				}
			}
		}
		list := func(f sitedb.DirectoryFilter) string {
			t.Helper()
			objects, total, err := db.Directory(t.Context(), f, false, 0, 100)
			if err != nil || total != len(objects) {
				t.Fatalf("%d of %d, %v", len(objects), total, err)
			}
			var b strings.Builder
			for _, o := range objects {
				fmt.Fprintf(&b, "%s %s %d %s;", o.ID, o.Name, o.Members, o.Body)
			}
			return b.String()
		}
		user := func(id, name string) sitedb.DirectoryChange {
			return sitedb.DirectoryChange{ID: id, Fields: map[string]any{"displayName": name}}
		}
		save("user", 1, nil, user("u1", "Ärmel"), user("u2", "bob_b"), user("u3", "Carol"))
		save("user", 1, nil, sitedb.DirectoryChange{ID: "u1", Fields: map[string]any{"mail": "a@x.example"}})
		save("user", 0, nil, sitedb.DirectoryChange{ID: "u3", Removed: true}, sitedb.DirectoryChange{ID: "u2", Fields: map[string]any{"mail": "b@x.example"}})
		users := sitedb.DirectoryFilter{Kind: "user"}
		if got, want := list(users), `u2 bob_b 0 {"displayName":"bob_b","mail":"b@x.example"};u1 Ärmel 0 {"displayName":"Ärmel","mail":"a@x.example"};`; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		for text, want := range map[string]string{"B_B": "u2", "ärm": "u1", "B@X": "u2", "%": "", "u1": "u1"} {
			f := users
			f.Text = text
			if got := list(f); strings.Split(got, " ")[0] != want {
				t.Errorf("search %q: %s", text, got)
			}
		}
		// A full discovery replaces what was known, and forgets what is gone.
		save("user", 2, nil, user("u2", "Bob"))
		if n, err := db.EndDirectoryPass(t.Context(), "t1", "user", 2); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if got, want := list(users), `u2 Bob 0 {"displayName":"Bob"};`; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		member := func(id string, removed bool) sitedb.DirectoryChange {
			return sitedb.DirectoryChange{ID: "g1", Members: []sitedb.DirectoryMember{{ID: id, Type: "user", Removed: removed}}}
		}
		keep := func(name string) bool { return name == "Sales" }
		save("group", 3, keep, user("g1", "Sales"), user("g2", "Other"))
		save("group", 3, keep, member("u2", false), member("u9", false))
		save("group", 0, keep, member("u9", true))
		if got, want := list(sitedb.DirectoryFilter{Kind: "group"}), `g1 Sales 1 {"displayName":"Sales"};`; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if got := list(sitedb.DirectoryFilter{Kind: "user", Group: "g1"}); !strings.HasPrefix(got, "u2 ") {
			t.Errorf("members: %s", got)
		}
		save("group", 0, keep, user("g1", "Renamed"))
		if got := list(sitedb.DirectoryFilter{Kind: "group"}); got != "" {
			t.Errorf("a group that is not wanted: %s", got)
		}
		if err := db.Change(t.Context(), "remove", func(tx *sitedb.Tx) error { return tx.RemoveDirectory("t1") }); err != nil {
			t.Fatal(err)
		}
		if got := list(users); got != "" {
			t.Errorf("left: %s", got)
		}
		if _, _, err := db.Directory(t.Context(), sitedb.DirectoryFilter{Kind: "x"}, false, 0, 1); err == nil {
			t.Error("a wrong kind was taken")
		}
	})
}
