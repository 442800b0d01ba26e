package sitedb_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/sitedb"
)

func TestListObjects(t *testing.T) { onEachEngine(t, testListObjects) }

func testListObjects(t *testing.T, e engine) {
	db, clock := e.open(t)
	for i, o := range []sitedb.Object{
		{Kind: "role", ID: "r1", Name: "Zürich", Body: json.RawMessage(`{"internal": ["https://MP1.corp.example"], "settings": {"description": "100%"}}`)},
		{Kind: "role", ID: "r2", Name: "bern", Body: json.RawMessage(`{"internal": ["https://mp2.corp.example"], "other": "mp1"}`)},
		{Kind: "role", ID: "r3", Name: "Aarau", Body: json.RawMessage(`{}`)},
		{Kind: "role", ID: "r4", Body: json.RawMessage(`7`)},
		{Kind: "gateway", ID: "g1", Name: "Aarau", Body: json.RawMessage(`{}`)},
	} {
		clock.advance(time.Duration(i) * time.Minute)
		change(t, db, func(tx *sitedb.Tx) error { _, err := tx.Put(o); return err })
	}
	members := []string{"internal", "settings.description"}
	for _, c := range []struct {
		f             sitedb.ObjectFilter
		offset, limit int
		want          string
		total         int
	}{
		{f: sitedb.ObjectFilter{}, limit: 9, want: "r4 r3 r2 r1", total: 4},
		{f: sitedb.ObjectFilter{}, offset: 1, limit: 2, want: "r3 r2", total: 4},
		{f: sitedb.ObjectFilter{}, offset: 9, limit: 2, total: 4},
		{f: sitedb.ObjectFilter{Newest: true}, limit: 3, want: "r4 r3 r2", total: 4},
		{f: sitedb.ObjectFilter{Text: "ZÜR"}, limit: 9, want: "r1", total: 1},
		{f: sitedb.ObjectFilter{Text: "R3"}, limit: 9, want: "r3", total: 1},
		{f: sitedb.ObjectFilter{Text: "mp1.CORP"}, limit: 9},
		{f: sitedb.ObjectFilter{Text: "mp1.CORP", Members: members}, limit: 9, want: "r1", total: 1},
		{f: sitedb.ObjectFilter{Text: "corp.example", Members: members}, offset: 1, limit: 1, want: "r1", total: 2},
		{f: sitedb.ObjectFilter{Text: "%", Members: members}, limit: 9, want: "r1", total: 1},
		{f: sitedb.ObjectFilter{Text: "description", Members: members}, limit: 9},
	} {
		c.f.Kind = "role"
		list, total, err := db.ListObjects(t.Context(), c.f, c.offset, c.limit)
		if err != nil {
			t.Errorf("%+v: %v", c.f, err)
		}
		var ids []string
		for _, o := range list {
			ids = append(ids, o.ID)
		}
		if got := strings.Join(ids, " "); got != c.want || total != c.total {
			t.Errorf("%+v, %d behind %d: %q of %d, want %q of %d", c.f, c.limit, c.offset, got, total, c.want, c.total)
		}
	}
}

func TestBulkTokens(t *testing.T) { onEachEngine(t, testBulkTokens) }

func testBulkTokens(t *testing.T, e engine) {
	db, clock := e.open(t)
	for i := range 60 {
		tok := sitedb.Token{ID: fmt.Sprintf("id-%02d", i), Kind: opencmg.AuthBulkToken, Issued: clock.Now().Add(time.Duration(i) * time.Second), Expires: clock.Now().Add(time.Hour), Description: fmt.Sprintf("for lot %d", i%7)}
		tok.Group = map[bool]string{true: "Branch_1", false: "BranchX1"}[i%2 == 0]
		if err := db.RecordToken(t.Context(), tok); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.RecordToken(t.Context(), sitedb.Token{ID: "of-a-client", Kind: opencmg.AuthClientToken, Issued: clock.Now(), Expires: clock.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text          string
		offset, limit int
		want          []string
		total         int
	}{
		{"", 0, 2, []string{"id-59", "id-58"}, 60},
		{"", 58, 50, []string{"id-01", "id-00"}, 60},
		{"LOT 3", 0, 1, []string{"id-59"}, 9},
		{"branch_1", 28, 50, []string{"id-02", "id-00"}, 30},
		{"ID-0", 9, 50, []string{"id-00"}, 10},
		{"of-a", 0, 50, nil, 0},
	} {
		list, total, err := db.BulkTokens(t.Context(), c.text, c.offset, c.limit)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, o := range list {
			ids = append(ids, o.ID)
		}
		if d := cmp.Diff(c.want, ids); d != "" || total != c.total {
			t.Errorf("%q: %d, want %d; %s", c.text, total, c.total, d)
		}
	}
}
