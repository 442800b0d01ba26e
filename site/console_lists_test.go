package site_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/sitedb"
)

// fill puts n objects of a kind into the database, straight: body of the i-th.
func (r *rig) fill(kind string, n int, name func(i int) string, body string) {
	r.t.Helper()
	err := r.db.Change(r.t.Context(), "fill "+kind, func(tx *sitedb.Tx) error {
		for i := range n {
			o := sitedb.Object{Kind: kind, ID: fmt.Sprintf("%s-%03d", kind, i), Name: name(i), Body: []byte(strings.ReplaceAll(body, "NNN", fmt.Sprintf("%03d", i)))}
			if _, err := tx.Put(o); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// TestConsoleLists has more than a page of everything that can be many, and
// looks at the pages and at the search of each list.
func TestConsoleLists(t *testing.T) {
	r := newRig(t)
	named := func(i int) string { return fmt.Sprintf("Item-%03d", i) }
	ends := `"ends": "2036-01-01T00:00:00Z", "expires": "2036-01-01T00:00:00Z"`
	ca := must(json.Marshal(string(r.s.SiteCAPEM())))(t)
	r.fill("account", 60, named, `{"role": "Read-only Analyst", "entraTenantId": "t", "entraObjectId": "special-NNN"}`)
	r.fill("gateway", 60, named, `{"prefix": "Item-NNN", "serviceName": "Item-NNN.example.com", "model": "SelfHosted", "state": "Ready", "settings": {"description": "special-NNN", "checkRevocation": false, "enforceTls12": true, "enableContent": true}}`)
	r.fill("connection-point", 60, named, `{"connectionId": "special-NNN", "gatewayId": "gateway-NNN"}`)
	r.fill("role", 60, named, `{"kind": "management-point", "roleId": "1", "internal": ["https://special-NNN.example.com"]}`)
	r.fill("boundary-group", 60, named, `{"boundaries": ["10.NNN.0.0/16"], "description": "special-NNN"}`)
	r.fill("trusted-certificate", 60, named, `{"store": "RootCA", "thumbprint": "special-NNN", "certificate": `+string(ca)+`, `+ends+`}`)
	r.fill("token-issuer", 60, named, `{"issuer": "special-NNN Item-NNN", "audience": "a", "certificate": `+string(ca)+`, `+ends+`}`)
	r.fill("join-token", 60, named, `{"kind": "gateway", "gatewayId": "gateway-NNN", "uses": 1, "hosts": ["special-NNN"], `+ends+`}`)
	r.fill("blocked-certificate", 60, named, `{"reason": "special-NNN Item-NNN"}`)
	for i := range 60 {
		err := r.db.RecordToken(t.Context(), sitedb.Token{ID: fmt.Sprintf("bulk-%03d", i), Kind: opencmg.AuthBulkToken, Issued: r.now().Add(time.Duration(i) * time.Second), Expires: r.now().Add(time.Hour), Description: fmt.Sprintf("special-%03d", i)})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := r.db.RaiseAlert(t.Context(), sitedb.Alert{Kind: "expiry", SubjectKind: "test", SubjectID: fmt.Sprintf("s%03d", i), Severity: sitedb.SeverityWarning, Text: fmt.Sprintf("special-%03d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	c := r.registerClient(sitedb.Client{NetBIOSName: "PC", Auth: opencmg.AuthPKI, Approval: sitedb.Approved})
	change := func(i int) error {
		return r.db.Change(t.Context(), "notify", func(tx *sitedb.Tx) error {
			_, err := tx.NotifyClients(sitedb.ClientOperation{TaskType: 1, Target: fmt.Sprintf("special-%03d", i), Account: "somebody"}, "guid", []opencmg.ClientID{c.ID})
			return err
		})
	}
	for i := range 60 {
		if err := change(i); err != nil {
			t.Fatal(err)
		}
	}

	v := r.console(r.c.Token)
	v.see("certificates", "<span>1 to 50 of 124", `?skip=50" rel="next">Next`)
	lacks(t, v.see("certificates?search=item-055", "<span>1 to 2 of 2</span>", ">Item-055<"), ">Item-054<")
	for _, l := range []struct {
		page, collection string
		more             int // objects that the site has by itself
		// Texts of the page that only the object with this number has, which is
		// on the first page, and one that is on the second.
		first, second string
		newest        bool
	}{
		{"accounts", "Accounts", 1, ">Item-004<", ">Item-055<", false},
		{"gateways", "Gateways", 0, ">Item-004.example.com<", ">Item-055.example.com<", false},
		{"connection-points", "ConnectionPoints", 0, ">Item-004</a>", ">Item-055</a>", false},
		{"roles", "SiteRoles", 0, ">Item-004</a>", ">Item-055</a>", false},
		{"boundary-groups", "BoundaryGroups", 1, ">Item-004</a>", ">Item-055</a>", false},
		{"certificates/trusted", "TrustedCertificates", 0, ">Item-004<", ">Item-055<", false},
		{"certificates/issuers", "TokenIssuers", 0, "special-004 Item-004", "special-055 Item-055", false},
		{"certificates/join-tokens", "JoinTokens", 0, "join-token-004", "join-token-055", true},
		{"certificates/blocked", "BlockedCertificates", 0, "special-004", "special-055", true},
		{"certificates/bulk-tokens", "BulkRegistrationTokens", 0, "special-055", "special-004", true},
		{"alerts", "Alerts", 0, "special-055", "special-004", true},
		{"client-operations", "ClientOperations", 0, "special-055", "special-004", true},
	} {
		t.Run(l.page, func(t *testing.T) {
			total := 60 + l.more
			newer, older := "Previous</a>", "Next</a>"
			if l.newest {
				newer, older = "Newer</a>", "Older</a>"
			}
			page := v.see(l.page, fmt.Sprintf("<span>1 to 50 of %d</span>", total), older, `?skip=50"`, l.first, `role="search"`, `name="search"`)
			lacks(t, page, newer, l.second)
			page = v.see(l.page+"?skip=50", fmt.Sprintf("<span>51 to %d of %d</span>", total, total), newer, l.second)
			lacks(t, page, older, l.first)
			v.see(l.page+"?skip=100", "nothing on this page of the list any more", `href="/console/`+l.page+`">To the first page`)
			// The search looks at what only one object has, on whatever page it
			// is.
			page = v.see(l.page+"?search=SPECIAL-055", "<span>1 to 1 of 1</span>", `value="SPECIAL-055"`, "Show all</a>")
			lacks(t, page, "special-004", strings.Replace(l.first, "special-055", "special-004", 1))
			v.see(l.page+"?search=no%25body", "Nothing in the list has “no%body”.", "Show all</a>")
			// A search that has more than a page stays on the way to the next.
			if l.newest || l.more == 0 {
				v.see(l.page+"?search=s", "1 to 50 of 60", `?search=s&amp;skip=50"`)
			}

			p := do[adminservice.Page[map[string]any]](r, "GET", l.collection+"?$top=7&$skip=2&$count=true&search=s", nil)
			if len(p.Value) != 7 || p.Count == nil || *p.Count < 60 || !strings.Contains(p.Next, "search=s") || !strings.Contains(p.Next, "skip=9") {
				t.Errorf("%d objects of %v, next %q", len(p.Value), p.Count, p.Next)
			}
			if l.collection == "ClientOperations" {
				return
			}
			all := do[adminservice.Page[map[string]any]](r, "GET", l.collection+"?$orderby=id+desc&$count=true&search=special-05", nil)
			if len(all.Value) != 10 || *all.Count != 10 || fmt.Sprint(all.Value[0]["id"]) < fmt.Sprint(all.Value[9]["id"]) {
				t.Errorf("ordered: %d of %d, %v", len(all.Value), *all.Count, all.Value)
			}
		})
	}
}

// TestConsoleListsComeBack acts on an object of the second page of a search, and
// comes back there.
func TestConsoleListsComeBack(t *testing.T) {
	r := newRig(t)
	r.fill("join-token", 120, func(i int) string { return fmt.Sprint(i) }, `{"kind": "gateway", "uses": 1, "expires": "2036-01-01T00:00:00Z"}`)
	v := r.console(r.c.Token)
	const page = "certificates/join-tokens"
	v.see(page+"?search=gateway&skip=50", "51 to 100 of 120")
	for _, c := range []struct{ id, from, want string }{
		{"join-token-000", page + "?search=gateway&skip=50", "51 to 100 of 119"},
		{"join-token-001", "accounts?skip=50", "1 to 50 of 118"},
	} {
		req := must(http.NewRequest("POST", v.url+"/console/"+page+"/"+c.id+"/delete", strings.NewReader(url.Values{"proof": {v.proof}}.Encode())))(t)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Referer", v.url+"/console/"+c.from)
		res, err := v.http.Do(req)
		if status, text := v.answer(res, err); status != http.StatusOK || !strings.Contains(text, "was deleted") || !strings.Contains(text, c.want) {
			t.Errorf("from %s: %d\n%s", c.from, status, text)
		}
	}
}
