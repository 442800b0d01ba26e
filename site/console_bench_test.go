package site_test

import (
	"cmp"
	"database/sql"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/sitedb"
)

// fillClients puts copies of one client into the database, straight: to
// register so many takes minutes.
func (r *rig) fillClients(n int) {
	r.t.Helper()
	r.registerClient(sitedb.Client{NetBIOSName: "PC000000", FQDN: "pc000000.example.com", Auth: opencmg.AuthPKI, Approval: sitedb.Approved})
	source := url.URL{Scheme: "file", Path: r.dbFile.Path, RawQuery: "_pragma=busy_timeout(30000)"}
	db := must(sql.Open("sqlite", source.String()))(r.t)
	defer db.Close()
	must(db.Exec(`INSERT INTO clients (id, netbios_name, fqdn, agent_version, approval, auth, tenant_id, device_id, subject, thumbprint, signing_key, signing_cert, encryption_cert, registered, changed, last_seen, search_text)
		WITH RECURSIVE k(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM k WHERE n < ?)
		SELECT 'GUID:00000000-0000-4000-8000-000000' || printf('%06d', n), 'PC' || printf('%06d', n), 'pc' || printf('%06d', n) || '.example.com', agent_version, CASE n % 100 WHEN 0 THEN 0 ELSE 1 END, CASE n % 3 WHEN 0 THEN 'entra' ELSE auth END, '', '', '', '', 'key' || n, signing_cert, signing_cert, registered, changed, last_seen + n,
		'PC' || printf('%06d', n) || ' PC' || printf('%06d', n) || '.EXAMPLE.COM GUID:00000000-0000-4000-8000-000000' || printf('%06d', n) FROM clients, k`, n))(r.t)
}

// clientQueries are what a page of clients is asked for: a page far behind, a
// search, and filters.
var clientQueries = []string{"skip=50000", "search=pc0777", "search=nothing", "auth=entra", "auth=pki&search=7700.example", "approval=pending", "order=lastSeen&search=pc07",
	"online=true", "online=false", "online=true&skip=10000", "online=true&order=lastSeen", "online=true&search=pc07", "online=true&auth=entra", "online=false&search=nothing"}

// listens lets a management point say that n of the clients that fillClients
// made listen there: every fifth.
func (r *rig) listens(n int) {
	r.t.Helper()
	mp := r.system(adminservice.SystemManagementPoint, "mp1", "")
	mp.reportsAsManagementPoint()
	since := r.now().UTC().Truncate(time.Second)
	var all []opencmg.ClientID
	listening := map[opencmg.ClientID]bool{}
	for i := range n {
		id := opencmg.ClientID(fmt.Sprintf("GUID:00000000-0000-4000-8000-000000%06d", 1+5*i))
		all, listening[id] = append(all, id), true
	}
	asked := mp.answers(func(q adminservice.SystemQuestion) *adminservice.SystemAnswer {
		a := &adminservice.SystemAnswer{}
		if q.IDsOnly {
			a.OnlineIDs = all
		}
		for _, id := range q.Clients {
			if listening[id] {
				a.Online = append(a.Online, adminservice.ListeningClient{ID: id, Transport: "tcp", Internet: true, Since: since})
			}
		}
		return a
	})
	go func() {
		for range asked {
		}
	}()
}

var nodePattern = regexp.MustCompile(`<li><a href="/console/([^"]*)"`)

// BenchmarkConsolePages says how long the console takes for each page of its
// navigation, on a site with 100,000 clients, of which 20,000 listen, and
// 90 days of traffic, TLS included. A page that this program has not is left out.
func BenchmarkConsolePages(b *testing.B) {
	began := time.Now()
	r, ids := busyRig(b)
	r.fillClients(100_000)
	r.listens(20_000)
	r.s.WaitForOnline(time.Minute)
	b.Logf("filled in %s", time.Since(began))
	v := r.console(r.c.Token)
	var pages []string
	for _, m := range nodePattern.FindAllStringSubmatch(v.see(""), -1) {
		pages = append(pages, m[1])
	}
	if !slices.Contains(pages, "dashboard") {
		b.Fatalf("the navigation has only %q", pages)
	}
	for _, minutes := range []string{"15", "360", "1440", "10080", "20160", "43200", "129600"} {
		pages = append(pages, "dashboard?minutes="+minutes)
	}
	pages = append(pages, "dashboard?minutes=129600&gateway="+ids[0])
	for _, query := range clientQueries {
		pages = append(pages, "clients?"+query)
	}
	took := map[string]time.Duration{}
	var missing []string
	for _, page := range pages {
		if status, text := v.get(page); status == http.StatusNotFound {
			missing = append(missing, cmp.Or(page, "/"))
			continue
		} else if status != http.StatusOK {
			b.Fatalf("%s: %d\n%s", page, status, text)
		}
		b.Run(strings.ReplaceAll(cmp.Or(page, "checklist"), "/", "_"), func(b *testing.B) {
			for b.Loop() {
				if status, text := v.get(page); status != http.StatusOK {
					b.Fatalf("%d\n%s", status, text)
				}
			}
			took[page] = b.Elapsed() / time.Duration(b.N)
			b.ReportMetric(float64(took[page].Microseconds())/1000, "ms/page")
		})
	}
	slowest := slices.SortedFunc(func(yield func(string) bool) {
		for page := range took {
			if !yield(page) {
				return
			}
		}
	}, func(x, y string) int { return cmp.Compare(took[y], took[x]) })
	var list strings.Builder
	for _, page := range slowest {
		fmt.Fprintf(&list, "%8.1f ms  /console/%s\n", float64(took[page].Microseconds())/1000, page)
	}
	if len(missing) > 0 {
		fmt.Fprintf(&list, "not there: %s\n", strings.Join(missing, ", "))
	}
	// To standard output, where a run of benchmarks is read: a log of the
	// outermost benchmark is only shown with -v.
	fmt.Printf("\nmilliseconds per page, the slowest first\n%s", list.String())
}
