package sitedb_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/sitedb"
)

func TestListClients(t *testing.T) { onEachEngine(t, testListClients) }

func testListClients(t *testing.T, e engine) {
	db, _ := e.open(t)
	ctx := t.Context()
	var ids []opencmg.ClientID
	for _, c := range []sitedb.Client{
		{NetBIOSName: "PC-B", FQDN: "b.example.com", Auth: opencmg.AuthEntra, Approval: sitedb.ApprovedByEntra},
		{NetBIOSName: "PC_A", FQDN: "a.example.com", Auth: opencmg.AuthPKI, Approval: sitedb.Approved},
		{NetBIOSName: "büro", FQDN: "c.example.org", Auth: opencmg.AuthPKI, Approval: sitedb.ApprovalPending},
	} {
		c.Signing = certificate(t)
		stored, _ := register(t, db, c)
		ids = append(ids, stored.ID)
	}
	// Lists of IDs, short and so long that clients are looked for in them.
	var long []opencmg.ClientID
	for n := range 2000 {
		long = append(long, opencmg.ClientID(fmt.Sprintf("GUID:%036d", n)))
	}
	two, longTwo := []opencmg.ClientID{ids[0], ids[2]}, append([]opencmg.ClientID{ids[0], ids[2]}, long...)
	pending, refused := sitedb.ApprovalPending, sitedb.ApprovalRefused
	for name, c := range map[string]struct {
		filter        sitedb.ClientFilter
		offset, limit int
		want          []string
		total         int
	}{
		"all":          {sitedb.ClientFilter{}, 0, 10, []string{"PC-B", "PC_A", "büro"}, 3},
		"page":         {sitedb.ClientFilter{}, 1, 1, []string{"PC_A"}, 3},
		"behind":       {sitedb.ClientFilter{}, 3, 10, nil, 3},
		"count only":   {sitedb.ClientFilter{}, 0, 0, nil, 3},
		"name":         {sitedb.ClientFilter{Text: "pc_"}, 0, 10, []string{"PC_A"}, 1},
		"umlaut":       {sitedb.ClientFilter{Text: "BÜRO"}, 0, 10, []string{"büro"}, 1},
		"DNS name":     {sitedb.ClientFilter{Text: "Example.COM"}, 0, 10, []string{"PC-B", "PC_A"}, 2},
		"ID":           {sitedb.ClientFilter{Text: string(ids[0])[5:20]}, 0, 10, []string{"PC-B"}, 1},
		"auth":         {sitedb.ClientFilter{Auth: opencmg.AuthPKI}, 0, 10, []string{"PC_A", "büro"}, 2},
		"approval":     {sitedb.ClientFilter{Approval: &pending}, 0, 10, []string{"büro"}, 1},
		"both":         {sitedb.ClientFilter{Auth: opencmg.AuthPKI, Approval: &pending, Text: "example"}, 0, 10, []string{"büro"}, 1},
		"among":        {sitedb.ClientFilter{Among: two}, 0, 10, []string{"PC-B", "büro"}, 2},
		"long among":   {sitedb.ClientFilter{Among: longTwo}, 0, 10, []string{"PC-B", "büro"}, 2},
		"its second":   {sitedb.ClientFilter{Among: longTwo, Text: "example"}, 1, 1, []string{"büro"}, 2},
		"its behind":   {sitedb.ClientFilter{Among: longTwo, Text: "example"}, 2, 1, nil, 2},
		"its first":    {sitedb.ClientFilter{Among: longTwo, Text: "example"}, 0, 1, []string{"PC-B"}, 2},
		"its none":     {sitedb.ClientFilter{Among: longTwo, Auth: opencmg.AuthBulkToken}, 0, 10, nil, 0},
		"among none":   {sitedb.ClientFilter{Among: long}, 0, 10, nil, 0},
		"except":       {sitedb.ClientFilter{Except: two}, 0, 10, []string{"PC_A"}, 1},
		"long except":  {sitedb.ClientFilter{Except: longTwo}, 0, 10, []string{"PC_A"}, 1},
		"except, text": {sitedb.ClientFilter{Except: longTwo, Text: "pc"}, 0, 10, []string{"PC_A"}, 1},
		"none":         {sitedb.ClientFilter{Approval: &refused}, 0, 10, nil, 0},
	} {
		list, more, err := db.ListClients(ctx, c.filter, sitedb.ClientPage{Offset: c.offset, Limit: c.limit})
		if want := c.offset+c.limit < c.total; more != want {
			t.Errorf("%s: more: %v, want %v", name, more, want)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		total, err := db.CountClients(ctx, c.filter, 1000)
		var names []string
		for _, c := range list {
			names = append(names, c.NetBIOSName)
		}
		if d := cmp.Diff(c.want, names); d != "" || total != c.total || err != nil {
			t.Errorf("%s: %s, %d in all, %v", name, d, total, err)
		}
		both, moreBoth, total, err := db.ListAndCount(ctx, c.filter, sitedb.ClientPage{Offset: c.offset, Limit: c.limit}, 1000)
		if d := cmp.Diff(list, both, cmpopts.EquateEmpty()); d != "" || moreBoth != more || total != c.total || err != nil {
			t.Errorf("%s: listed and counted: %s, more %v, %d in all, %v", name, d, moreBoth, total, err)
		}
	}
	// A name that is reported later is found too.
	if err := db.SaveDDR(ctx, sitedb.Report{ClientID: ids[2], Action: "{3}", Full: true}, "Renamed", ""); err != nil {
		t.Fatal(err)
	}
	if total, err := db.CountClients(ctx, sitedb.ClientFilter{Text: "renamed"}, 10); err != nil || total != 1 {
		t.Errorf("renamed: %d, %v", total, err)
	}
	if total, err := db.CountClients(ctx, sitedb.ClientFilter{Text: "büro"}, 10); err != nil || total != 0 {
		t.Errorf("old name: %d, %v", total, err)
	}
}

// BenchmarkListClients pages and searches among 100,000 clients.
func BenchmarkListClients(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) { benchmarkListClients(b, engine{}) })
	b.Run("postgres", func(b *testing.B) { benchmarkListClients(b, needPostgres(b)) })
}

func benchmarkListClients(b *testing.B, e engine) {
	const clients = 100_000
	c := e.config(b)
	db := openConfig(b, c)
	cert := certificate(b)
	register(b, db, sitedb.Client{NetBIOSName: "PC000000", FQDN: "pc000000.example.com", Auth: opencmg.AuthPKI, Approval: sitedb.Approved, Signing: cert})
	// Copies of one client, made by the database: registering so many takes
	// minutes.
	number, concat := "printf('%06d', n)", "WITH RECURSIVE k(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM k WHERE n < ?)"
	if e.postgres {
		number, concat = "to_char(n, 'FM000000')", "WITH k(n) AS (SELECT generate_series(1, $1::int))"
	}
	direct := raw(b, c)
	if _, err := direct.Exec(fmt.Sprintf(`INSERT INTO clients (id, netbios_name, fqdn, agent_version, approval, auth, tenant_id, device_id, subject, thumbprint, signing_key, signing_cert, encryption_cert, registered, changed, last_seen, search_text)
		%s SELECT 'GUID:' || %s, 'PC' || %s, 'pc' || %s || '.example.com', agent_version, CASE n %% 100 WHEN 0 THEN 0 ELSE 1 END, CASE n %% 3 WHEN 0 THEN 'entra' ELSE auth END, '', '', '', '', 'key' || n, signing_cert, signing_cert, 1, 1, 1,
		'PC' || %s || ' PC' || %s || '.EXAMPLE.COM GUID:' || %s FROM clients, k`, concat, number, number, number, number, number, number), clients); err != nil {
		b.Fatal(err)
	}
	if e.postgres {
		if _, err := direct.Exec("VACUUM ANALYZE clients"); err != nil {
			b.Fatal(err)
		}
	}
	var online []opencmg.ClientID
	for n := range 20_000 {
		online = append(online, opencmg.ClientID(fmt.Sprintf("GUID:%06d", n+1)))
	}
	pending := sitedb.ApprovalPending
	for _, bench := range []struct {
		name   string
		filter sitedb.ClientFilter
		offset int
		total  int
		order  sitedb.ClientOrder
	}{
		{"first page", sitedb.ClientFilter{}, 0, clients + 1, ""},
		{"last page", sitedb.ClientFilter{}, clients - 50, clients + 1, ""},
		{"search", sitedb.ClientFilter{Text: "pc0777"}, 0, 100, ""},
		{"search for nothing", sitedb.ClientFilter{Text: "nothing"}, 0, 0, ""},
		{"search by last seen", sitedb.ClientFilter{Text: "pc0777"}, 0, 100, sitedb.ByLastSeen},
		{"search by registered", sitedb.ClientFilter{Text: "pc0777", Auth: opencmg.AuthEntra}, 0, 34, sitedb.ByRegistered},
		{"among", sitedb.ClientFilter{Among: online, Text: "pc01"}, 50, 10_000, ""},
		{"among with auth", sitedb.ClientFilter{Among: online, Auth: opencmg.AuthEntra}, 0, len(online) / 3, ""},
		{"among all", sitedb.ClientFilter{Among: online}, 10_000, len(online), ""},
		{"among by last seen", sitedb.ClientFilter{Among: online}, 0, len(online), sitedb.ByLastSeen},
		{"among none", sitedb.ClientFilter{Among: online, Text: "nothing"}, 0, 0, ""},
		{"except with text", sitedb.ClientFilter{Except: online, Text: "pc0"}, 0, clients - len(online), ""},
		{"except, text of none", sitedb.ClientFilter{Except: online, Text: "nothing"}, 0, 0, ""},
		{"except deep", sitedb.ClientFilter{Except: online}, 40_000, clients + 1 - len(online), ""},
		{"except", sitedb.ClientFilter{Except: online}, 0, clients + 1 - len(online), ""},
		{"pending", sitedb.ClientFilter{Approval: &pending}, 500, clients / 100, ""},
		{"pending and search", sitedb.ClientFilter{Approval: &pending, Text: "7700.example"}, 0, 10, ""},
	} {
		b.Run(bench.name, func(b *testing.B) {
			for b.Loop() {
				list, more, total, err := db.ListAndCount(b.Context(), bench.filter, sitedb.ClientPage{Order: bench.order, Descending: bench.order != "", Offset: bench.offset, Limit: 50}, 1_000_000)
				if err != nil || more != (bench.offset+50 < bench.total) || len(list) != min(50, max(bench.total-bench.offset, 0)) || total != bench.total {
					b.Fatalf("%d of %d, more %v, %v", len(list), total, more, err)
				}
			}
		})
	}
}

// BenchmarkWriters is how many acts a second many clients get through.
func BenchmarkWriters(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) { benchmarkWriters(b, engine{}) })
	b.Run("postgres", func(b *testing.B) { benchmarkWriters(b, needPostgres(b)) })
}

func benchmarkWriters(b *testing.B, e engine) {
	db := openConfig(b, e.config(b))
	var mu sync.Mutex
	n := 0
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			mu.Lock()
			n++
			id := fmt.Sprint(n)
			mu.Unlock()
			if err := db.RecordToken(b.Context(), sitedb.Token{ID: id, Expires: start.AddDate(100, 0, 0)}); err != nil {
				b.Error(err)
			}
		}
	})
}
