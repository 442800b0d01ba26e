package site_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/sitedb"
)

func TestSiteTokens(t *testing.T) {
	r := newRig(t)
	c := r.registerClient(sitedb.Client{NetBIOSName: "PC-A", Approval: sitedb.Approved})
	id := "0000000A-0000-4000-8000-00000000000A"
	if err := r.db.RecordToken(t.Context(), sitedb.Token{ID: id, Kind: opencmg.AuthCCMToken, ClientID: c.ID, Issued: r.now(), Expires: r.now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	bulk := do[adminservice.BulkRegistrationToken](r, "POST", "BulkRegistrationTokens", adminservice.NewBulkToken{})
	list := func(query string) []adminservice.SiteToken {
		t.Helper()
		return do[adminservice.Page[adminservice.SiteToken]](r, "GET", "SiteTokens"+query, nil).Value
	}
	for _, query := range []string{"", "?search=pc-a", "?client=" + string(c.ID), "?id={" + strings.ToLower(id) + "}", "?kind=ccm-token", "?blocked=false"} {
		if got := list(query); len(got) != 1 || got[0].ID != id || got[0].ClientName != "PC-A" {
			t.Errorf("%s: %+v", query, got)
		}
	}
	for _, query := range []string{"?search=pc-b", "?kind=client-token", "?blocked=true", "?id=" + bulk.ID} {
		if got := list(query); len(got) != 0 {
			t.Errorf("%s: %+v", query, got)
		}
	}
	for _, what := range []string{"block", "block", "unblock", "unblock"} {
		do[any](r, "POST", "SiteTokens/"+id+"/"+what, nil)
		if got := list("?blocked=true"); (len(got) == 1) != (what == "block") {
			t.Errorf("%s: %+v", what, got)
		}
	}
	if got := r.messages("blocked token"); len(got) != 2 {
		t.Errorf("audited: %q", got)
	}
	r.fails(opencmg.NotFound, "POST", "SiteTokens/"+bulk.ID+"/block", nil)
	for _, query := range []string{"kind=bulk-token", "client=x", "blocked=x", "expired=x", "$filter=id%20eq%20'x'", "$count=true"} {
		r.fails(opencmg.Invalid, "GET", "SiteTokens?"+query, nil)
	}
}

func TestClientOperations(t *testing.T) {
	r := newRig(t)
	mp1 := r.system(adminservice.SystemManagementPoint, "mp1", "")
	mp1.reportsAsManagementPoint()
	asked := mp1.answers(func(q adminservice.SystemQuestion) *adminservice.SystemAnswer { return &adminservice.SystemAnswer{} })
	var ids []opencmg.ClientID
	for n := range 3 {
		ids = append(ids, r.registerClient(sitedb.Client{NetBIOSName: fmt.Sprint("PC-", n), Group: "G", Approval: sitedb.Approved}).ID)
	}
	r.registerClient(sitedb.Client{NetBIOSName: "PC-W", Group: "G"}) // waits
	lower := opencmg.ClientID(strings.ToLower(string(ids[0])))
	op := do[adminservice.ClientOperation](r, "POST", "Notifications", adminservice.NotifyClients{Task: "test", Clients: []opencmg.ClientID{lower, ids[1]}})
	if op.Clients != 2 || op.State != "active" || op.Task != "test" || op.Account != "administrator" {
		t.Errorf("%+v", op)
	}
	if q := <-asked; q.Kind != adminservice.QuestionWake || !slices.Equal(q.Clients, ids[:2]) {
		t.Errorf("asked %+v", q)
	}
	byChoice := do[adminservice.ClientOperation](r, "POST", "Notifications", adminservice.NotifyClients{Task: "discovery", Where: &adminservice.ClientChoice{Group: "G"}})
	if byChoice.Clients != 3 || byChoice.Target != `clients with group "G"` {
		t.Errorf("%+v", byChoice)
	}
	path := fmt.Sprint("ClientOperations/", op.ID)
	for i, n := range must(r.db.OperationNotifications(t.Context(), op.ID, 0, 10))(t) {
		if err := r.db.Delivered(t.Context(), n.PushID); err != nil {
			t.Fatal(err)
		}
		if _, err := r.db.Answered(t.Context(), n.ClientID, n.PushID, i); err != nil {
			t.Fatal(err)
		}
	}
	if got := do[adminservice.ClientOperation](r, "GET", path, nil); got.State != "completed" || got.Delivered != 2 || got.Answered != 2 || got.Failed != 1 {
		t.Errorf("%+v", got)
	}
	p := do[adminservice.Page[adminservice.ClientNotification]](r, "GET", path+"/notifications?$top=1", nil)
	if len(p.Value) != 1 || p.Value[0].State != "answered" || p.Next == "" {
		t.Errorf("%+v", p)
	}
	rest, _ := strings.CutPrefix(p.Next, adminservice.BasePath)
	if p = do[adminservice.Page[adminservice.ClientNotification]](r, "GET", rest, nil); len(p.Value) != 1 || p.Value[0].State != "failed" || p.Value[0].ReturnCode != 1 || p.Next != "" {
		t.Errorf("%+v", p)
	}
	r.fails(opencmg.Conflict, "POST", path+"/cancel", nil)
	other := fmt.Sprint("ClientOperations/", byChoice.ID)
	r.fails(opencmg.Conflict, "DELETE", other, nil)
	do[any](r, "POST", other+"/cancel", nil)
	do[any](r, "POST", other+"/cancel", nil)
	if got := do[adminservice.ClientOperation](r, "GET", other, nil); got.State != "cancelled" || got.CancelledBy != "administrator" {
		t.Errorf("%+v", got)
	}
	if waiting := must(r.db.Waiting(t.Context(), ids[2]))(t); len(waiting) != 0 {
		t.Errorf("still waiting: %+v", waiting)
	}
	do[any](r, "DELETE", other, nil)
	if list := do[adminservice.Page[adminservice.ClientOperation]](r, "GET", "ClientOperations?$count=true", nil); *list.Count != 1 || list.Value[0].ID != op.ID {
		t.Errorf("%+v", list)
	}
	third := do[adminservice.ClientOperation](r, "POST", "Clients/"+string(ids[0])+"/notify", adminservice.NotifyClient{Task: "machine-policy"})
	r.wait(25 * time.Hour)
	if got := do[adminservice.ClientOperation](r, "GET", fmt.Sprint("ClientOperations/", third.ID), nil); got.State != "expired" {
		t.Errorf("%+v", got)
	}
	r.wait(31 * 24 * time.Hour)
	r.look("trim")
	if list := do[adminservice.Page[adminservice.ClientOperation]](r, "GET", "ClientOperations", nil); len(list.Value) != 0 {
		t.Errorf("%+v", list)
	}
	for _, in := range []adminservice.NotifyClients{
		{Task: "run-script", Clients: ids}, {Task: "test"}, {Task: "test", Clients: ids, Where: &adminservice.ClientChoice{}},
		{Task: "test", Clients: []opencmg.ClientID{"x"}}, {Task: "test", Where: &adminservice.ClientChoice{Auth: "x"}},
	} {
		r.fails(opencmg.Invalid, "POST", "Notifications", in)
	}
	r.fails(opencmg.NotFound, "POST", "Notifications", adminservice.NotifyClients{Task: "test", Where: &adminservice.ClientChoice{Search: "nobody"}})
	r.fails(opencmg.TooLarge, "POST", "Notifications", adminservice.NotifyClients{Task: "test", Clients: make([]opencmg.ClientID, 10_001)})
	for _, what := range [][2]string{{"GET", path}, {"GET", path + "/notifications"}, {"DELETE", path}, {"POST", path + "/cancel"}, {"GET", "ClientOperations/x"}} {
		r.fails(opencmg.NotFound, what[0], what[1], nil)
	}
}

// Alerts and status messages are cut and filtered by the database.
func TestFilteredRecords(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	for n := range 3 {
		if _, _, err := r.db.RaiseAlert(ctx, sitedb.Alert{Kind: "traffic", SubjectKind: "gateway", SubjectID: fmt.Sprint(n), Severity: sitedb.SeverityWarning, Text: "t"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := r.db.RaiseAlert(ctx, sitedb.Alert{Kind: "storage", SubjectKind: "gateway", SubjectID: "0", Severity: sitedb.SeverityCritical, Text: "s"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.db.CloseAlert(ctx, "traffic", "gateway", "1"); err != nil {
		t.Fatal(err)
	}
	alerts := func(query string) (s string) {
		t.Helper()
		p := do[adminservice.Page[adminservice.Alert]](r, "GET", "Alerts?"+query, nil)
		for _, a := range p.Value {
			s += a.Kind[:1] + a.Subject[len(a.Subject)-1:]
		}
		if p.Next != "" {
			s += "+"
		}
		return s
	}
	for query, want := range map[string]string{
		"kind=traffic": "t2t1t0", "kind=traffic&open=true": "t2t0", "kind=traffic&open=false": "t1", "severity=critical": "s0", "kind=traffic&$top=2": "t2t1+",
		"kind=traffic&$top=2&$skip=2": "t0", "subject=0": "s0t0", "kind=traffic&$orderby=id": "t0t1t2", "$filter=kind%20eq%20'storage'": "s0",
	} {
		if got := alerts(query); got != want {
			t.Errorf("Alerts?%s: %s, want %s", query, got, want)
		}
	}
	r.fails(opencmg.Invalid, "GET", "Alerts?open=x", nil)
	at := r.now().UTC().Add(time.Hour).Truncate(time.Second)
	for n, text := range []string{"Eins 100% über", "zwei", "DREI"} {
		if err := r.db.AddStatusMessage(ctx, sitedb.StatusMessage{At: at.Add(time.Duration(n) * time.Minute), Component: "c", Severity: sitedb.SeverityInfo, Account: fmt.Sprint("a", n), Text: text}); err != nil {
			t.Fatal(err)
		}
	}
	stamp := func(n int) string { return at.Add(time.Duration(n) * time.Minute).Format(time.RFC3339) }
	for query, want := range map[string]string{
		"":                                      "DREI zwei Eins 100% über",
		"&account=a1":                           "zwei",
		"&search=drei":                          "DREI",
		"&search=" + url.QueryEscape("0% Über"): "", // other letters keep their case
		"&search=" + url.QueryEscape("0% über"): "Eins 100% über",
		"&search=%25":                           "Eins 100% über",
		"&from=" + stamp(1):                     "DREI zwei",
		"&to=" + stamp(1):                       "Eins 100% über",
		"&$top=1":                               "DREI",
	} {
		var got []string
		for _, m := range do[adminservice.Page[adminservice.StatusMessage]](r, "GET", "StatusMessages?component=c"+query, nil).Value {
			got = append(got, m.Text)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("StatusMessages?component=c%s: %q, want %q", query, got, want)
		}
	}
	r.fails(opencmg.Invalid, "GET", "StatusMessages?from=yesterday", nil)
}
